// SPDX-License-Identifier: MIT
/*
 * Segment register loads, far transfers, software interrupts, IRET, and the fast system call
 * instructions.
 *
 * Engine file. Knows descriptors through seg.h and the IDT through x86_deliver(). Source: SDM vol.
 * 2, the instructions' own pages; APM vol. 3 where AMD differs.
 */
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/seg.h"

#define OP(name)	static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)
#define TYPE_CODE	BIT(3)
#define TYPE_CONFORMING BIT(2)
#define TYPE_WRITABLE	BIT(1)
#define DESC_ATTR(desc) ((u32)((desc) >> 40) & 0xf0ffu)

/* ---- segment registers as operands; the register's number is in i->cond ---- */

static void shadow_ss(struct x86_cpu *c, u64 next)
{
	c->shadow = X86_SHADOW_MOV_SS;
	c->shadow_rip = next;
	if (READ_ONCE(c->irq_hint) || c->want_irq_window || READ_ONCE(c->nmi_pending))
		x86_request(c, X86_REQ_EVENT);
}

/* After a segment load: the instruction stream goes on, but handlers that follow may look at new
 * flat bits. */
static const struct x86_insn *loaded(struct x86_cpu *c, const struct x86_insn *i, u8 seg)
{
	if (seg == X86_SS)
		shadow_ss(c, x86_next_rip(c, i));
	return x86_next(i);
}

OP(op_mov_sreg_r)
{
	x86_load_seg(c, i->cond, X86_REG(c, i->reg[0], u16));
	return loaded(c, i, i->cond);
}

OP(op_mov_sreg_m)
{
	x86_load_seg(c, i->cond, x86_ld16(c, i->seg, x86_mem(c, i, 2, false)));
	return loaded(c, i, i->cond);
}

OP(op_mov_r_sreg)
{
	x86_set_reg(c, i->reg[0], i->opsize, c->seg[i->cond].sel);
	return x86_next(i);
}

OP(op_mov_m_sreg)
{
	x86_st16(c, i->seg, x86_mem(c, i, 2, true), c->seg[i->cond].sel);
	return x86_next(i);
}

OP(op_push_sreg)
{
	x86_push(c, c->seg[i->cond].sel, i->opsize);
	return x86_next(i);
}

OP(op_pop_sreg)
{
	u16 sel = (u16)x86_peek(c, 0, i->opsize);
	u64 mask = x86_sp_mask(c), sp = c->gpr[X86_RSP] + i->opsize;

	/* The new SS may have another stack width; the pop is counted with the old one. */
	x86_load_seg(c, i->cond, sel);
	c->gpr[X86_RSP] = mask == 0xffff ? (c->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
	return loaded(c, i, i->cond);
}

/* LDS, LES, LFS, LGS, LSS */
OP(op_load_far)
{
	u64 la = x86_mem(c, i, i->opsize + 2u, false), off;
	u16 sel;

	off = i->opsize == 8   ? x86_ld64(c, i->seg, la)
	      : i->opsize == 4 ? x86_ld32(c, i->seg, la)
			       : x86_ld16(c, i->seg, la);
	sel = x86_ld16(c, i->seg, la + i->opsize);
	x86_load_seg(c, i->cond, sel);
	x86_set_reg(c, i->reg[0], i->opsize, off);
	return loaded(c, i, i->cond);
}

static bool sreg(const ZydisDecodedOperand *o, struct x86_insn *i)
{
	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || o->reg.value < ZYDIS_REGISTER_ES ||
	    o->reg.value > ZYDIS_REGISTER_GS)
		return false;
	i->cond = (u8)(o->reg.value - ZYDIS_REGISTER_ES);
	return true;
}

static bool bind_mov(const struct x86_decoded *d, struct x86_insn *i)
{
	bool mem = i->flags & X86_I_MEM;

	if (sreg(&d->op[0], i)) {
		i->fn = i->cond == X86_CS ? x86_op_ud : mem ? op_mov_sreg_m : op_mov_sreg_r;
		return true;
	}
	if (!sreg(&d->op[1], i))
		return false;
	i->fn = mem ? op_mov_m_sreg : op_mov_r_sreg;
	return true;
}

static bool bind_push(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_push_sreg;
	return sreg(&d->op[0], i);
}

static bool bind_pop(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_pop_sreg;
	return sreg(&d->op[0], i);
}

static bool bind_load_far(const struct x86_decoded *d, struct x86_insn *i)
{
	static const struct {
		u16 mnemonic;
		u8 seg;
	} regs[] = {
		{ZYDIS_MNEMONIC_LDS, X86_DS}, {ZYDIS_MNEMONIC_LES, X86_ES},
		{ZYDIS_MNEMONIC_LFS, X86_FS}, {ZYDIS_MNEMONIC_LGS, X86_GS},
		{ZYDIS_MNEMONIC_LSS, X86_SS},
	};

	for (u32 n = 0; n < ARRAY_SIZE(regs); n++)
		if (regs[n].mnemonic == d->z.mnemonic)
			i->cond = regs[n].seg;
	i->fn = op_load_far;
	return true;
}

/* ---- far jumps and calls ---- */

/* A code segment for a transfer to `rip`: the mode it selects decides how rip is checked. */
static void check_entry(struct x86_cpu *c, const struct x86_seg *cs, u64 rip)
{
	if ((c->efer & X86_EFER_LMA) && (cs->attr & X86_SEG_L))
		X86_RULE(c, !x86_canonical(c, rip), X86_GP, 0,
			 "a far transfer's target is canonical");
	else
		X86_RULE(c, rip > cs->limit, X86_GP, 0,
			 "a far transfer's target is within the segment");
}

static void check_code_size(struct x86_cpu *c, u32 attr, u32 err)
{
	if (c->efer & X86_EFER_LMA)
		X86_RULE(c, (attr & X86_SEG_L) && (attr & X86_SEG_DB), X86_GP, err,
			 "a code segment has L or D set, not both");
}

static void commit_cs(struct x86_cpu *c, const struct x86_seg *cs, u64 rip)
{
	c->seg[X86_CS] = *cs;
	c->rip = rip;
	x86_seg_changed(c);
}

static const struct x86_insn *far_real(struct x86_cpu *c, const struct x86_insn *i, u16 sel,
				       u64 off, bool call)
{
	struct x86_stack st;

	X86_RULE(c, off > c->seg[X86_CS].limit, X86_GP, 0,
		 "a far transfer's target is within the segment");
	if (call) {
		x86_stack_here(c, &st, false);
		x86_stack_push(c, &st, c->seg[X86_CS].sel, i->opsize);
		x86_stack_push(c, &st, x86_next_rip(c, i), i->opsize);
		x86_stack_commit(c, &st);
	}
	x86_load_seg_real(c, X86_CS, sel);
	c->rip = off;
	x86_seg_changed(c);
	return NULL;
}

static const struct x86_insn *far_code(struct x86_cpu *c, const struct x86_insn *i, u16 sel,
				       u64 off, u64 desc, bool call)
{
	u32 attr = DESC_ATTR(desc), err = sel & 0xfffcu;
	struct x86_stack st;
	struct x86_seg cs;

	if (attr & TYPE_CONFORMING)
		X86_RULE(c, X86_SEG_DPL(attr) > c->cpl, X86_GP, err,
			 "a far transfer never leads to less privilege");
	else
		X86_RULE(c, (sel & 3) > c->cpl || X86_SEG_DPL(attr) != c->cpl, X86_GP, err,
			 "a far transfer without a gate stays at its privilege level");
	check_code_size(c, attr, err);
	X86_RULE(c, !(attr & X86_SEG_P), X86_NP, err, "a far transfer's segment is present");
	x86_desc_to_seg(&cs, (u16)(err | c->cpl), desc);
	check_entry(c, &cs, off);
	if (call) {
		x86_stack_here(c, &st, false);
		x86_stack_push(c, &st, c->seg[X86_CS].sel, i->opsize);
		x86_stack_push(c, &st, x86_next_rip(c, i), i->opsize);
	}
	x86_desc_accessed(c, sel, &desc);
	x86_desc_to_seg(&cs, cs.sel, desc);
	if (call)
		x86_stack_commit(c, &st);
	commit_cs(c, &cs, off);
	return NULL;
}

enum { SYS_TSS16 = 1, SYS_GATE16 = 4, SYS_GATE_TASK = 5, SYS_TSS32 = 9, SYS_GATE32 = 12 };

/* The parameters that a 16- or 32-bit call gate copies to the inner stack. */
static void copy_parameters(struct x86_cpu *c, struct x86_stack *st, u32 count, u8 size)
{
	while (count--)
		x86_stack_push(c, st, x86_peek(c, (s32)(count * size), size), size);
}

static const struct x86_insn *far_gate(struct x86_cpu *c, const struct x86_insn *i, u16 gate_sel,
				       u64 gate, bool call)
{
	bool lma = c->efer & X86_EFER_LMA;
	u32 gerr = gate_sel & 0xfffcu;
	u16 sel = (u16)(gate >> 16);
	u64 off = (gate & 0xffff), high, desc;
	u8 size = lma ? 8 : (gate >> 40 & 15) == SYS_GATE32 ? 4 : 2, cpl;
	struct x86_stack st;
	struct x86_seg cs;

	X86_RULE(c, (gate >> 45 & 3) < MAX(c->cpl, gate_sel & 3), X86_GP, gerr,
		 "a call gate has DPL at least CPL and RPL");
	X86_RULE(c, !(gate >> 47 & 1), X86_NP, gerr, "a call gate is present");
	if (size >= 4)
		off |= gate >> 32 & 0xffff0000;
	if (lma) {
		X86_RULE(c, !x86_read_desc(c, (u16)(gate_sel + 8), &high) || (high >> 40 & 0x1f),
			 X86_GP, gerr, "the upper half of a 64-bit call gate has type 0");
		off |= high << 32;
	}
	cpl = x86_gate_code(c, sel, &desc);
	if (!call)
		X86_RULE(c, cpl != c->cpl, X86_GP, sel & 0xfffcu,
			 "a jump through a call gate stays at its privilege level");
	x86_desc_to_seg(&cs, (u16)((sel & 0xfffcu) | cpl), desc);
	check_entry(c, &cs, off);
	if (cpl != c->cpl) {
		x86_stack_inner(c, &st, cpl);
		x86_stack_push(c, &st, c->seg[X86_SS].sel, size);
		x86_stack_push(c, &st, c->gpr[X86_RSP], size);
		if (!lma)
			copy_parameters(c, &st, gate >> 32 & 31, size);
	} else {
		x86_stack_here(c, &st, lma);
	}
	if (call) {
		x86_stack_push(c, &st, c->seg[X86_CS].sel, size);
		x86_stack_push(c, &st, x86_next_rip(c, i), size);
	}
	x86_desc_accessed(c, sel, &desc);
	x86_desc_to_seg(&cs, cs.sel, desc);
	if (call)
		x86_stack_commit(c, &st);
	commit_cs(c, &cs, off);
	return NULL;
}

static const struct x86_insn *far_to(struct x86_cpu *c, const struct x86_insn *i, u16 sel, u64 off,
				     bool call)
{
	u32 err = sel & 0xfffcu, type;
	u64 desc;

	if (!x86_protected(c))
		return far_real(c, i, sel, off, call);
	X86_RULE(c, !err, X86_GP, 0, "a far transfer's selector is not null");
	X86_RULE(c, !x86_read_desc(c, sel, &desc), X86_GP, err,
		 "a far transfer's selector is within its table");
	type = desc >> 40 & 0x1f;
	if ((type & 0x18) == 0x18)
		return far_code(c, i, sel, off, desc, call);
	if (c->efer & X86_EFER_LMA) {
		X86_RULE(c, type != SYS_GATE32, X86_GP, err,
			 "a far transfer in long mode leads to code or a 64-bit call gate");
		return far_gate(c, i, sel, desc, call);
	}
	switch (type) {
	case SYS_GATE16:
	case SYS_GATE32:
		return far_gate(c, i, sel, desc, call);
	case SYS_TSS16:
	case SYS_TSS32:
	case SYS_GATE_TASK:
		x86_task_switch(c);
	default:
		x86_gp(c, err);
	}
}

/* Far pointers in memory: the offset, then the selector. */
static u64 far_pointer(struct x86_cpu *c, const struct x86_insn *i, u16 *sel)
{
	u64 la, off;

	if (!(i->flags & X86_I_MEM)) {
		*sel = (u16)i->imm2;
		return i->opsize == 2 ? (u16)i->imm : (u32)i->imm;
	}
	la = x86_mem(c, i, i->opsize + 2u, false);
	off = i->opsize == 8   ? x86_ld64(c, i->seg, la)
	      : i->opsize == 4 ? x86_ld32(c, i->seg, la)
			       : x86_ld16(c, i->seg, la);
	*sel = x86_ld16(c, i->seg, la + i->opsize);
	return off;
}

OP(op_jmp_far)
{
	u16 sel;
	u64 off = far_pointer(c, i, &sel);

	return far_to(c, i, sel, off, false);
}

OP(op_call_far)
{
	u16 sel;
	u64 off = far_pointer(c, i, &sel);

	return far_to(c, i, sel, off, true);
}

/* ---- far returns ---- */

/* Where a far return or IRET leads, as read from the stack and checked. */
struct landing {
	struct x86_seg cs, ss;
	u64 rip, sp, desc, ss_desc;
	u8 cpl;
	bool code64, pop_ss;
};

static void check_return_code(struct x86_cpu *c, struct landing *l, u16 sel)
{
	u32 attr, err = sel & 0xfffcu;

	l->cpl = sel & 3;
	X86_RULE(c, !err, X86_GP, 0, "the CS returned to is not null");
	X86_RULE(c, !x86_read_desc(c, sel, &l->desc), X86_GP, err,
		 "the CS returned to is within its table");
	attr = DESC_ATTR(l->desc);
	X86_RULE(c, (attr & (X86_SEG_S | TYPE_CODE)) != (X86_SEG_S | TYPE_CODE), X86_GP, err,
		 "the CS returned to is a code segment");
	X86_RULE(c, l->cpl < c->cpl, X86_GP, err, "a return never leads to more privilege");
	X86_RULE(c,
		 attr & TYPE_CONFORMING ? X86_SEG_DPL(attr) > l->cpl : X86_SEG_DPL(attr) != l->cpl,
		 X86_GP, err, "the DPL of the CS returned to fits its RPL");
	check_code_size(c, attr, err);
	X86_RULE(c, !(attr & X86_SEG_P), X86_NP, err, "the CS returned to is present");
	x86_desc_to_seg(&l->cs, sel, l->desc);
	l->code64 = (c->efer & X86_EFER_LMA) && (attr & X86_SEG_L);
	check_entry(c, &l->cs, l->rip);
}

static void check_return_stack(struct x86_cpu *c, struct landing *l, u16 sel)
{
	u32 attr, err = sel & 0xfffcu;

	if (!err) {
		X86_RULE(c, !l->code64 || l->cpl == 3, X86_GP, 0,
			 "the SS returned to is null only for 64-bit code below CPL 3");
		x86_null_seg(&l->ss, sel, l->cpl);
		l->ss_desc = ~0ull;
		return;
	}
	X86_RULE(c, !x86_read_desc(c, sel, &l->ss_desc), X86_GP, err,
		 "the SS returned to is within its table");
	attr = DESC_ATTR(l->ss_desc);
	X86_RULE(c, (sel & 3) != l->cpl || X86_SEG_DPL(attr) != l->cpl, X86_GP, err,
		 "the SS returned to has RPL and DPL of the new level");
	X86_RULE(c, (attr & (X86_SEG_S | TYPE_CODE | TYPE_WRITABLE)) != (X86_SEG_S | TYPE_WRITABLE),
		 X86_GP, err, "the SS returned to is writable data");
	X86_RULE(c, !(attr & X86_SEG_P), X86_SS_FAULT, err, "the SS returned to is present");
	x86_desc_to_seg(&l->ss, sel, l->ss_desc);
}

/* Accessed bits are the last thing that can fault; then everything changes at once. */
static void land(struct x86_cpu *c, struct landing *l)
{
	bool outer = l->cpl != c->cpl;

	x86_desc_accessed(c, l->cs.sel, &l->desc);
	x86_desc_to_seg(&l->cs, l->cs.sel, l->desc);
	if (l->pop_ss && l->ss_desc != ~0ull) {
		x86_desc_accessed(c, l->ss.sel, &l->ss_desc);
		x86_desc_to_seg(&l->ss, l->ss.sel, l->ss_desc);
	}
	c->seg[X86_CS] = l->cs;
	if (l->pop_ss)
		c->seg[X86_SS] = l->ss;
	/* Segments that the outer level could not have loaded do not leak to it. */
	if (outer)
		for (u8 n = X86_ES; n <= X86_GS; n++) {
			u32 a = c->seg[n].attr;

			if (n == X86_CS || n == X86_SS || (a & X86_SEG_UNUSABLE))
				continue;
			if ((a & (TYPE_CODE | TYPE_CONFORMING)) != (TYPE_CODE | TYPE_CONFORMING) &&
			    X86_SEG_DPL(a) < l->cpl)
				x86_null_seg(&c->seg[n], 0, 0);
		}
	c->rip = l->rip;
	x86_seg_changed(c);
	x86_set_sp(c, l->sp);
}

OP(op_ret_far)
{
	struct landing l = {.rip = x86_peek(c, 0, i->opsize)};
	u16 sel = (u16)x86_peek(c, i->opsize, i->opsize);
	u32 more = 2u * i->opsize + (u16)i->imm;

	if (!x86_protected(c)) {
		X86_RULE(c, l.rip > c->seg[X86_CS].limit, X86_GP, 0,
			 "a far return's target is within the segment");
		x86_set_sp(c, c->gpr[X86_RSP] + more);
		x86_load_seg_real(c, X86_CS, sel);
		c->rip = l.rip;
		x86_seg_changed(c);
		return NULL;
	}
	check_return_code(c, &l, sel);
	l.pop_ss = l.cpl != c->cpl;
	if (l.pop_ss) {
		l.sp = x86_peek(c, (s32)more, i->opsize) + (u16)i->imm;
		check_return_stack(c, &l, (u16)x86_peek(c, (s32)(more + i->opsize), i->opsize));
	} else {
		l.sp = c->gpr[X86_RSP] + more;
	}
	land(c, &l);
	return NULL;
}

/* ---- IRET ---- */

/* RF is kept only where somebody could see it: it costs the next instruction the slow loop. */
static u32 rf_matters(const struct x86_cpu *c)
{
	return (c->dr7 & X86_DR7_ON) || c->guest_debug ? X86_FLAG_RF : 0;
}

#define FLAGS_ALWAYS (X86_FLAGS_ARITH | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT)
#define FLAGS_WIDE   (X86_FLAG_AC | X86_FLAG_ID)

static void iret_flags(struct x86_cpu *c, u64 v, u32 mask)
{
	u32 old = c->rflags;

	x86_set_rflags(c, (v & mask) | (x86_rflags(c) & ~(u64)mask));
	c->nmi_masked = false;
	if (READ_ONCE(c->nmi_pending))
		x86_request(c, X86_REQ_EVENT);
	x86_flags_changed(c, old);
}

/* What CPL and IOPL before the instruction allow an IRET to change. */
static u32 iret_mask(const struct x86_cpu *c, u8 opsize)
{
	u32 mask = FLAGS_ALWAYS;

	if (opsize > 2)
		mask |= FLAGS_WIDE | rf_matters(c);
	if (c->cpl <= (c->rflags & X86_FLAG_IOPL) >> 12)
		mask |= X86_FLAG_IF;
	if (c->cpl == 0) {
		mask |= X86_FLAG_IOPL;
		if (opsize > 2)
			mask |= X86_FLAG_VIF | X86_FLAG_VIP;
	}
	return mask;
}

static const struct x86_insn *iret_real(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 rip = x86_peek(c, 0, i->opsize), flags = x86_peek(c, 2 * i->opsize, i->opsize);
	u16 sel = (u16)x86_peek(c, i->opsize, i->opsize);
	bool v86 = c->rflags & X86_FLAG_VM;
	u32 mask;

	if (v86)
		X86_RULE(c, (c->rflags & X86_FLAG_IOPL) != X86_FLAG_IOPL, X86_GP, 0,
			 "IRET in virtual-8086 mode needs IOPL 3");
	X86_RULE(c, rip > c->seg[X86_CS].limit, X86_GP, 0, "IRET's target is within the segment");
	x86_set_sp(c, c->gpr[X86_RSP] + 3u * i->opsize);
	x86_load_seg_real(c, X86_CS, sel);
	c->rip = rip;
	mask = FLAGS_ALWAYS | X86_FLAG_IF;
	if (!v86)
		mask |= X86_FLAG_IOPL;
	if (i->opsize > 2)
		mask |= FLAGS_WIDE | rf_matters(c);
	iret_flags(c, flags, mask);
	x86_seg_changed(c);
	return NULL;
}

static const struct x86_insn *iret_to_v86(struct x86_cpu *c, u64 rip, u16 cs, u64 flags)
{
	static const u8 order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
	u64 sp = x86_peek(c, 12, 4);
	u16 sel[X86_NR_SREGS];

	for (u32 n = 0; n < ARRAY_SIZE(order); n++)
		sel[order[n]] = (u16)x86_peek(c, 16 + 4 * (s32)n, 4);
	sel[X86_CS] = cs;
	X86_RULE(c, rip > 0xffff, X86_GP, 0, "IRET's target in virtual-8086 mode is within 64 KiB");
	for (u8 n = X86_ES; n <= X86_GS; n++)
		c->seg[n] = (struct x86_seg){
			.sel = sel[n],
			.base = (u64)sel[n] << 4,
			.limit = 0xffff,
			.attr = X86_SEG_P | X86_SEG_S | 3u << 5 | 3,
		};
	c->rip = rip;
	c->gpr[X86_RSP] = sp;
	iret_flags(c, flags, ~0u);
	x86_seg_changed(c);
	return NULL;
}

const struct x86_insn *x86_iret(struct x86_cpu *c, const struct x86_insn *i)
{
	struct landing l = {0};
	bool lma = c->efer & X86_EFER_LMA;
	u64 frame[5], flags;
	const u64 *p;
	u32 mask;

	if (!x86_protected(c))
		return iret_real(c, i);
	if (c->rflags & X86_FLAG_NT) {
		X86_RULE(c, lma, X86_GP, 0, "there is no task return in long mode");
		x86_task_switch(c);
	}
	p = i->opsize == 8 ? x86_tlb_hit(c->rtlb, c->gpr[X86_RSP], sizeof(frame)) : NULL;
	if (p) {
		x86_copy(frame, p, sizeof(frame));
	} else {
		bool five = x86_long_mode(c);

		for (s32 n = 0; n < 3; n++)
			frame[n] = x86_peek(c, n * i->opsize, i->opsize);
		if (!five && !(frame[2] & X86_FLAG_VM))
			five = (frame[1] & 3) > c->cpl;
		for (s32 n = 3; five && n < 5; n++)
			frame[n] = x86_peek(c, n * i->opsize, i->opsize);
	}
	l.rip = frame[0];
	flags = frame[2];
	if ((flags & X86_FLAG_VM) && c->cpl == 0 && i->opsize == 4 && !lma)
		return iret_to_v86(c, l.rip, (u16)frame[1], flags);
	check_return_code(c, &l, (u16)frame[1]);
	l.pop_ss = x86_long_mode(c) || l.cpl != c->cpl;
	if (l.pop_ss) {
		l.sp = frame[3];
		check_return_stack(c, &l, (u16)frame[4]);
	} else {
		l.sp = c->gpr[X86_RSP] + 3u * i->opsize;
	}
	mask = iret_mask(c, i->opsize);
	land(c, &l);
	iret_flags(c, flags, mask);
	return NULL;
}

/* ---- software interrupts ---- */

OP(op_int)
{
	if (c->rflags & X86_FLAG_VM)
		X86_RULE(c, (c->rflags & X86_FLAG_IOPL) != X86_FLAG_IOPL, X86_GP, 0,
			 "INT n in virtual-8086 mode needs IOPL 3");
	x86_deliver(c, X86_EV_SOFTINT, (u8)i->imm, false, 0, x86_next_rip(c, i));
	return NULL;
}

OP(op_int3)
{
	if (unlikely(c->guest_debug & X86_GUESTDBG_SW_BP)) {
		c->exit.debug.vector = X86_BP;
		c->exit.debug.pc = c->code_la + i->off;
		c->exit.debug.dr6 = c->dr6;
		c->exit.debug.dr7 = c->dr7;
		x86_leave(c, X86_EXIT_DEBUG);
	}
	x86_deliver(c, X86_EV_SOFTEXC, X86_BP, false, 0, x86_next_rip(c, i));
	return NULL;
}

OP(op_into)
{
	if (!(c->aflags & X86_AF_OF))
		return x86_next(i);
	x86_deliver(c, X86_EV_SOFTEXC, X86_OF, false, 0, x86_next_rip(c, i));
	return NULL;
}

/* Not bound by the gate's DPL, and DR6 says nothing. */
OP(op_int1)
{
	if (x86_db_intercepted(c)) {
		x86_debug_exit(c, x86_rip(c), 0);
		x86_leave(c, X86_EXIT_DEBUG);
	}
	x86_deliver(c, X86_EV_PRIVSW, X86_DB, false, 0, x86_next_rip(c, i));
	return NULL;
}

/* ---- system calls ---- */

#define ATTR_CODE (X86_SEG_P | X86_SEG_S | X86_SEG_G | 0xb)
#define ATTR_DATA (X86_SEG_P | X86_SEG_S | X86_SEG_G | X86_SEG_DB | 3)

/* The flat segments that these instructions load without looking at a table. */
static void flat_segments(struct x86_cpu *c, u16 cs, u16 ss, u8 cpl, bool code64)
{
	u32 dpl = (u32)cpl << 5;

	c->seg[X86_CS] = (struct x86_seg){
		.sel = (u16)((cs & 0xfffcu) | cpl),
		.limit = 0xffffffff,
		.attr = ATTR_CODE | dpl | (code64 ? X86_SEG_L : X86_SEG_DB),
	};
	c->seg[X86_SS] = (struct x86_seg){
		.sel = (u16)((ss & 0xfffcu) | cpl),
		.limit = 0xffffffff,
		.attr = ATTR_DATA | dpl,
	};
	x86_seg_changed(c);
}

const struct x86_insn *x86_op_syscall(struct x86_cpu *c, const struct x86_insn *i)
{
	bool lma = c->efer & X86_EFER_LMA;
	u32 old = c->rflags;
	u64 flags;

	X86_RULE(c, !(c->efer & X86_EFER_SCE) || !x86_protected(c), X86_UD, 0,
		 "SYSCALL is enabled, in protected mode");
	X86_RULE(c, !x86_long_mode(c) && !c->feat->amd, X86_UD, 0,
		 "SYSCALL is of 64-bit mode only on Intel");
	if (lma) {
		flags = x86_rflags(c) & ~(u64)X86_FLAG_RF;
		c->gpr[X86_RCX] = x86_next_rip(c, i);
		c->gpr[X86_R11] = flags;
		c->rip = x86_long_mode(c) ? c->msr.lstar : c->msr.cstar;
		x86_set_rflags(c, flags & ~c->msr.fmask);
	} else {
		c->gpr[X86_RCX] = (u32)x86_next_rip(c, i);
		c->rip = (u32)c->msr.star;
		c->rflags &= ~(X86_FLAG_VM | X86_FLAG_IF | X86_FLAG_RF);
	}
	flat_segments(c, (u16)(c->msr.star >> 32), (u16)((c->msr.star >> 32) + 8), 0, lma);
	x86_flags_changed(c, old);
	return NULL;
}

OP(op_sysret)
{
	u16 sel = (u16)(c->msr.star >> 48);
	bool code64 = i->opsize == 8;
	u32 old = c->rflags;
	u64 rip = code64 ? c->gpr[X86_RCX] : (u32)c->gpr[X86_RCX];

	X86_RULE(c, !(c->efer & X86_EFER_SCE) || !x86_protected(c), X86_UD, 0,
		 "SYSRET is enabled, in protected mode");
	X86_RULE(c, !x86_long_mode(c) && !c->feat->amd, X86_UD, 0,
		 "SYSRET is of 64-bit mode only on Intel");
	X86_RULE(c, c->cpl, X86_GP, 0, "SYSRET needs CPL 0");
	/* AMD finds out at the first fetch, at CPL 3. */
	X86_RULE(c, code64 && !c->feat->amd && !x86_canonical(c, rip), X86_GP, 0,
		 "SYSRET's target is canonical");
	if (x86_long_mode(c))
		x86_set_rflags(c, (c->gpr[X86_R11] & ~(u64)(X86_FLAG_VM | X86_FLAG_RF)));
	else
		c->rflags |= X86_FLAG_IF;
	c->rip = rip;
	flat_segments(c, code64 ? sel + 16 : sel, sel + 8, 3, code64);
	x86_flags_changed(c, old);
	return NULL;
}

OP(op_sysenter)
{
	bool lma = c->efer & X86_EFER_LMA;
	u16 sel = (u16)c->msr.sysenter_cs;
	u32 old = c->rflags;

	X86_RULE(c, lma && c->feat->amd, X86_UD, 0, "SYSENTER is not of long mode on AMD");
	X86_RULE(c, !(c->cr0 & X86_CR0_PE) || !(sel & 0xfffcu), X86_GP, 0,
		 "SYSENTER needs protected mode and a CS");
	c->rflags &= ~(X86_FLAG_VM | X86_FLAG_IF | X86_FLAG_RF);
	c->gpr[X86_RSP] = lma ? c->msr.sysenter_esp : (u32)c->msr.sysenter_esp;
	c->rip = lma ? c->msr.sysenter_eip : (u32)c->msr.sysenter_eip;
	flat_segments(c, sel, sel + 8, 0, lma);
	x86_flags_changed(c, old);
	return NULL;
}

OP(op_sysexit)
{
	bool code64 = i->opsize == 8;
	u16 sel = (u16)c->msr.sysenter_cs;
	u64 rip = code64 ? c->gpr[X86_RDX] : (u32)c->gpr[X86_RDX];
	u64 rsp = code64 ? c->gpr[X86_RCX] : (u32)c->gpr[X86_RCX];

	X86_RULE(c, !(c->cr0 & X86_CR0_PE) || c->cpl, X86_GP, 0, "SYSEXIT needs protected mode and CPL 0");
	X86_RULE(c, (c->efer & X86_EFER_LMA) && c->feat->amd, X86_UD, 0,
		 "SYSEXIT is not of long mode on AMD");
	X86_RULE(c, !(sel & 0xfffcu), X86_GP, 0, "SYSEXIT needs a CS");
	X86_RULE(c, code64 && (!x86_canonical(c, rip) || !x86_canonical(c, rsp)), X86_GP, 0,
		 "SYSEXIT's target and stack are canonical");
	c->rip = rip;
	c->gpr[X86_RSP] = rsp;
	flat_segments(c, sel + (code64 ? 32 : 16), sel + (code64 ? 40 : 24), 3, code64);
	return NULL;
}

/* ---- the table ---- */

static bool is_far(const struct x86_decoded *d)
{
	return d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

static bool bind_jmp(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_jmp_far;
	return is_far(d);
}

static bool bind_call(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_call_far;
	return is_far(d);
}

static bool bind_ret(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_ret_far;
	return is_far(d);
}

#define ROW(m, f)                                                                                  \
	{                                                                                          \
		.mnemonic = ZYDIS_MNEMONIC_##m, .fn = (f)                                          \
	}
#define BIND(m, b)                                                                                 \
	{                                                                                          \
		.mnemonic = ZYDIS_MNEMONIC_##m, .bind = (b)                                        \
	}

const struct x86_op_row x86_ops_far[] = {
	BIND(MOV, bind_mov),	  /* 8c 8e */
	BIND(PUSH, bind_push),	  /* 06 0e 16 1e, 0f a0 a8 */
	BIND(POP, bind_pop),	  /* 07 17 1f, 0f a1 a9 */
	BIND(LDS, bind_load_far), /* c5 */
	BIND(LES, bind_load_far), /* c4 */
	BIND(LSS, bind_load_far), /* 0f b2 */
	BIND(LFS, bind_load_far), /* 0f b4 */
	BIND(LGS, bind_load_far), /* 0f b5 */
	BIND(JMP, bind_jmp),	  /* ea ff/5 */
	BIND(CALL, bind_call),	  /* 9a ff/3 */
	BIND(RET, bind_ret),	  /* ca cb */
	ROW(IRET, x86_iret),	  /* cf */
	ROW(IRETD, x86_iret),
	ROW(IRETQ, x86_iret),
	ROW(INT, op_int),	      /* cd */
	ROW(INT3, op_int3),	      /* cc */
	ROW(INTO, op_into),	      /* ce */
	ROW(INT1, op_int1),	      /* f1 */
	ROW(SYSCALL, x86_op_syscall), /* 0f 05 */
	ROW(SYSRET, op_sysret),	      /* 0f 07 */
	ROW(SYSENTER, op_sysenter),   /* 0f 34 */
	ROW(SYSEXIT, op_sysexit),     /* 0f 35 */
	{0},
};
