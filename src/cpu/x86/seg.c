// SPDX-License-Identifier: MIT
/*
 * Segmentation: checks, the stack, descriptors, and everything derived from the segment registers.
 *
 * Engine file. Knows descriptor tables and the TSS only as linear memory; must not know
 * instructions or gates beyond their target segment. Source: SDM vol. 3 "Protected-Mode Memory
 * Management", "Protection".
 */
#include "cpu/x86/seg.h"
#include "cpu/x86/except.h"

#define TYPE_CODE	BIT(3)
#define TYPE_EXPAND	BIT(2) /* data: expand-down; code: conforming */
#define TYPE_WRITABLE	BIT(1) /* data: writable; code: readable */
#define DESC_ACCESSED	BIT64(40)
#define DESC_ATTR(desc) ((u32)((desc) >> 40) & 0xf0ffu)

/* ---- checks ---- */

static bool within(const struct x86_seg *s, u64 ea, u32 size)
{
	u64 last = ea + size - 1;

	if ((s->attr & (X86_SEG_S | TYPE_CODE | TYPE_EXPAND)) == (X86_SEG_S | TYPE_EXPAND))
		return ea > s->limit && last <= (s->attr & X86_SEG_DB ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

u64 x86_seg_check(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write)
{
	const struct x86_seg *s = &c->seg[seg];
	u8 vector = seg == X86_SS ? X86_SS_FAULT : X86_GP;

	if (x86_protected(c)) {
		X86_RULE(c, s->attr & X86_SEG_UNUSABLE, vector, 0,
			 "memory is not accessed through a null selector");
		if (write)
			X86_RULE(c, (s->attr & (TYPE_CODE | TYPE_WRITABLE)) != TYPE_WRITABLE,
				 X86_GP, 0, "a segment that is written is writable data");
		else
			X86_RULE(c, (s->attr & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_CODE, X86_GP, 0,
				 "a code segment that is read is readable");
	}
	X86_RULE(c, !within(s, ea, size), vector, 0, "an access lies within its segment's limit");
	return (u32)(s->base + ea);
}

/* ---- the stack ---- */

static u64 load(struct x86_cpu *c, u64 la, u8 size)
{
	return size == 8   ? x86_ld64(c, X86_SS, la)
	       : size == 4 ? x86_ld32(c, X86_SS, la)
			   : x86_ld16(c, X86_SS, la);
}

static void store(struct x86_cpu *c, u64 la, u64 v, u8 size)
{
	if (size == 8)
		x86_st64(c, X86_SS, la, v);
	else if (size == 4)
		x86_st32(c, X86_SS, la, (u32)v);
	else
		x86_st16(c, X86_SS, la, (u16)v);
}

void x86_push(struct x86_cpu *c, u64 v, u8 size)
{
	u64 sp = (c->gpr[X86_RSP] - size) & x86_sp_mask(c);

	store(c, x86_linear(c, X86_SS, sp, size, true), v, size);
	x86_set_sp(c, sp);
}

u64 x86_peek(struct x86_cpu *c, s32 disp, u8 size)
{
	u64 sp = (c->gpr[X86_RSP] + (s64)disp) & x86_sp_mask(c);

	return load(c, x86_linear(c, X86_SS, sp, size, false), size);
}

u64 x86_pop(struct x86_cpu *c, u8 size)
{
	u64 v = x86_peek(c, 0, size);

	x86_set_sp(c, c->gpr[X86_RSP] + size);
	return v;
}

void x86_stack_here(struct x86_cpu *c, struct x86_stack *s, bool flat)
{
	s->ss = c->seg[X86_SS];
	s->sp = c->gpr[X86_RSP];
	s->cpl = c->cpl;
	s->flat = flat || x86_long_mode(c);
	s->mask = s->flat ? ~0ull : x86_sp_mask(c);
	s->error = 0;
}

void x86_tss_read(struct x86_cpu *c, u32 off, void *buf, u32 size)
{
	const struct x86_seg *tr = &c->seg[X86_TR];

	X86_RULE(c, off + size - 1 > tr->limit, X86_TS, tr->sel & 0xfffcu,
		 "the TSS holds the stack that is asked for");
	x86_sys_read(c, tr->base + off, buf, size);
}

void x86_stack_inner(struct x86_cpu *c, struct x86_stack *s, u8 cpl)
{
	u16 sel = 0;
	u32 err;
	u64 desc;

	s->cpl = cpl;
	s->error = 0;
	if (c->efer & X86_EFER_LMA) {
		x86_tss_read(c, 4 + cpl * 8u, &s->sp, 8);
		X86_RULE(c, !x86_canonical(c, s->sp), X86_SS_FAULT, 0,
			 "RSPn of the TSS is canonical");
		x86_null_seg(&s->ss, cpl, cpl);
		s->flat = true;
		s->mask = ~0ull;
		return;
	}
	s->sp = 0;
	if (c->seg[X86_TR].attr & BIT(3)) { /* 32-bit TSS */
		x86_tss_read(c, 4 + cpl * 8u, &s->sp, 4);
		x86_tss_read(c, 8 + cpl * 8u, &sel, 2);
	} else {
		x86_tss_read(c, 2 + cpl * 4u, &s->sp, 2);
		x86_tss_read(c, 4 + cpl * 4u, &sel, 2);
	}
	err = sel & 0xfffcu;
	X86_RULE(c, !err, X86_TS, 0, "SSn of the TSS is not null");
	X86_RULE(c, !x86_read_desc(c, sel, &desc), X86_TS, err,
		 "SSn of the TSS is within its table");
	x86_desc_to_seg(&s->ss, sel, desc);
	X86_RULE(c, (sel & 3) != cpl || X86_SEG_DPL(s->ss.attr) != cpl, X86_TS, err,
		 "SSn of the TSS has RPL and DPL of the new level");
	X86_RULE(c,
		 (s->ss.attr & (X86_SEG_S | TYPE_CODE | TYPE_WRITABLE)) !=
			 (X86_SEG_S | TYPE_WRITABLE),
		 X86_TS, err, "SSn of the TSS is writable data");
	X86_RULE(c, !(s->ss.attr & X86_SEG_P), X86_SS_FAULT, err, "SSn of the TSS is present");
	x86_desc_accessed(c, sel, &desc);
	x86_desc_to_seg(&s->ss, sel, desc);
	s->flat = false;
	s->mask = s->ss.attr & X86_SEG_DB ? 0xffffffffull : 0xffffull;
	s->error = (u16)err;
}

/*
 * Pushes to a stack of another level have that level's rights, which are always the supervisor's:
 * stacks only switch inwards here.
 */
void x86_stack_push(struct x86_cpu *c, struct x86_stack *s, u64 v, u8 size)
{
	u64 sp = s->mask == 0xffff ? (s->sp & ~0xffffull) | ((s->sp - size) & 0xffff)
				   : (s->sp - size) & s->mask;
	u64 la = sp;

	if (!s->flat) {
		X86_RULE(c, !within(&s->ss, sp & s->mask, size), X86_SS_FAULT, s->error,
			 "the stack has room for what a transfer pushes");
		la = (u32)(s->ss.base + (sp & s->mask));
	}
	if (s->cpl == c->cpl)
		store(c, la, v, size);
	else
		x86_sys_write(c, la, &v, size);
	s->sp = sp;
}

void x86_stack_commit(struct x86_cpu *c, const struct x86_stack *s)
{
	c->seg[X86_SS] = s->ss;
	c->gpr[X86_RSP] = s->sp;
}

/* ---- descriptors ---- */

static bool desc_address(struct x86_cpu *c, u16 sel, u64 *la)
{
	const struct x86_seg *ldt = &c->seg[X86_LDTR];
	u32 off = sel & 0xfff8u;

	if (sel & 4) {
		if ((ldt->attr & X86_SEG_UNUSABLE) || off + 7 > ldt->limit)
			return false;
		*la = ldt->base + off;
	} else {
		if (off + 7 > c->gdt.limit)
			return false;
		*la = c->gdt.base + off;
	}
	if (!(c->efer & X86_EFER_LMA))
		*la = (u32)*la;
	return true;
}

bool x86_read_desc(struct x86_cpu *c, u16 sel, u64 *desc)
{
	u64 la;

	if (!desc_address(c, sel, &la))
		return false;
	x86_sys_read(c, la, desc, 8);
	return true;
}

void x86_desc_accessed(struct x86_cpu *c, u16 sel, u64 *desc)
{
	u64 la;
	u8 byte;

	if ((*desc & DESC_ACCESSED) || !desc_address(c, sel, &la))
		return;
	*desc |= DESC_ACCESSED;
	byte = (u8)(*desc >> 40);
	x86_sys_write(c, la + 5, &byte, 1);
}

void x86_desc_to_seg(struct x86_seg *s, u16 sel, u64 desc)
{
	s->sel = sel;
	s->base = (desc >> 16 & 0xffffff) | (desc >> 56 & 0xff) << 24;
	s->limit = (u32)((desc & 0xffff) | (desc >> 32 & 0xf0000));
	s->attr = DESC_ATTR(desc);
	if (s->attr & X86_SEG_G)
		s->limit = s->limit << 12 | 0xfff;
}

void x86_null_seg(struct x86_seg *s, u16 sel, u8 dpl)
{
	*s = (struct x86_seg){
		.sel = sel, .limit = 0xffffffff, .attr = X86_SEG_UNUSABLE | (u32)dpl << 5};
}

u8 x86_gate_code(struct x86_cpu *c, u16 sel, u64 *desc)
{
	u32 attr, err = sel & 0xfffcu;

	X86_RULE(c, !err, X86_GP, 0, "a gate's code selector is not null");
	X86_RULE(c, !x86_read_desc(c, sel, desc), X86_GP, err,
		 "a gate's code selector is within its table");
	attr = DESC_ATTR(*desc);
	X86_RULE(c, (attr & (X86_SEG_S | TYPE_CODE)) != (X86_SEG_S | TYPE_CODE), X86_GP, err,
		 "a gate leads to a code segment");
	X86_RULE(c, X86_SEG_DPL(attr) > c->cpl, X86_GP, err,
		 "a gate never leads to less privilege");
	if (c->efer & X86_EFER_LMA)
		X86_RULE(c, (attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L, X86_GP, err,
			 "a gate in long mode leads to 64-bit code");
	X86_RULE(c, !(attr & X86_SEG_P), X86_NP, err, "a gate's code segment is present");
	return attr & TYPE_EXPAND ? c->cpl : X86_SEG_DPL(attr);
}

/* ---- loading ---- */

void x86_load_seg_real(struct x86_cpu *c, u8 seg, u16 sel)
{
	struct x86_seg *s = &c->seg[seg];

	s->sel = sel;
	s->base = (u64)sel << 4;
	/* A null selector left over from protected mode has no limit and rights that could be kept.
	 */
	if (s->attr & X86_SEG_UNUSABLE) {
		s->limit = 0xffff;
		s->attr = X86_SEG_P | X86_SEG_S | 3;
	}
}

static void load_ss(struct x86_cpu *c, u16 sel)
{
	u32 attr, err = sel & 0xfffcu;
	u64 desc;

	if (!err) {
		X86_RULE(c, !x86_long_mode(c) || c->cpl == 3 || (sel & 3) != c->cpl, X86_GP, 0,
			 "SS is null only in 64-bit mode below CPL 3, with RPL equal to CPL");
		x86_null_seg(&c->seg[X86_SS], sel, c->cpl);
		return;
	}
	X86_RULE(c, !x86_read_desc(c, sel, &desc), X86_GP, err, "SS is within its table");
	attr = DESC_ATTR(desc);
	X86_RULE(c, (sel & 3) != c->cpl || X86_SEG_DPL(attr) != c->cpl, X86_GP, err,
		 "SS has RPL and DPL equal to CPL");
	X86_RULE(c, (attr & (X86_SEG_S | TYPE_CODE | TYPE_WRITABLE)) != (X86_SEG_S | TYPE_WRITABLE),
		 X86_GP, err, "SS is writable data");
	X86_RULE(c, !(attr & X86_SEG_P), X86_SS_FAULT, err, "SS is present");
	x86_desc_accessed(c, sel, &desc);
	x86_desc_to_seg(&c->seg[X86_SS], sel, desc);
}

void x86_load_seg(struct x86_cpu *c, u8 seg, u16 sel)
{
	u32 attr, err = sel & 0xfffcu;
	u64 desc;

	if (!x86_protected(c)) {
		x86_load_seg_real(c, seg, sel);
	} else if (seg == X86_SS) {
		load_ss(c, sel);
	} else if (!err) {
		x86_null_seg(&c->seg[seg], sel, 0);
	} else {
		X86_RULE(c, !x86_read_desc(c, sel, &desc), X86_GP, err,
			 "a data selector is within its table");
		attr = DESC_ATTR(desc);
		X86_RULE(c,
			 !(attr & X86_SEG_S) || (attr & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_CODE,
			 X86_GP, err, "a data selector names data or readable code");
		X86_RULE(c,
			 (attr & (TYPE_CODE | TYPE_EXPAND)) != (TYPE_CODE | TYPE_EXPAND) &&
				 X86_SEG_DPL(attr) < MAX(c->cpl, sel & 3),
			 X86_GP, err, "a data segment is no more privileged than CPL and RPL");
		X86_RULE(c, !(attr & X86_SEG_P), X86_NP, err, "a data segment is present");
		x86_desc_accessed(c, sel, &desc);
		x86_desc_to_seg(&c->seg[seg], sel, desc);
	}
	/* In 64-bit mode nothing is derived from a data segment; SS keeps its DPL. */
	if (!x86_long_mode(c))
		x86_seg_changed(c);
}

/* ---- derived state ---- */

static u32 flat_bits(const struct x86_cpu *c)
{
	bool rights = x86_protected(c);
	u32 flat = 0;

	for (u32 n = X86_ES; n <= X86_GS; n++) {
		const struct x86_seg *s = &c->seg[n];

		if (s->base || s->limit != 0xffffffff)
			continue;
		if (rights && (s->attr & (X86_SEG_UNUSABLE | X86_SEG_P)) != X86_SEG_P)
			continue;
		if (!rights ||
		    (s->attr & (TYPE_CODE | TYPE_EXPAND | TYPE_WRITABLE)) == TYPE_WRITABLE)
			flat |= BIT(n) | BIT(n + X86_FLAT_WRITE);
		else if (n == X86_CS &&
			 (s->attr & (TYPE_CODE | TYPE_WRITABLE)) == (TYPE_CODE | TYPE_WRITABLE))
			flat |= BIT(n);
	}
	return flat;
}

void x86_seg_changed(struct x86_cpu *c)
{
	const struct x86_seg *cs = &c->seg[X86_CS];

	if (c->rflags & X86_FLAG_VM)
		c->cpl = 3;
	else
		c->cpl = c->cr0 & X86_CR0_PE ? X86_SEG_DPL(c->seg[X86_SS].attr) : 0;
	if ((c->efer & X86_EFER_LMA) && (cs->attr & X86_SEG_L)) {
		c->code_size = 8;
		c->flat = BIT(X86_FS) - 1;
		c->flat |= c->flat << X86_FLAT_WRITE;
	} else {
		c->code_size = cs->attr & X86_SEG_DB ? 4 : 2;
		c->flat = flat_bits(c);
	}
	x86_mmu_select(c);
}

/* ---- RFLAGS ---- */

#define FLAGS_DEFINED 0x3f7fd7u

u64 x86_rflags(const struct x86_cpu *c)
{
	return c->rflags | (c->aflags >> 8 & 0xd5u) | (c->aflags & X86_AF_OF ? X86_FLAG_OF : 0u);
}

/* Only the value: who changes system bits while the guest runs calls x86_flags_changed() as well.
 */
void x86_set_rflags(struct x86_cpu *c, u64 v)
{
	c->aflags = (u16)((v & 0xd5) << 8 | 0x200 | (v & X86_FLAG_OF ? X86_AF_OF : 0u));
	c->rflags = ((u32)v & FLAGS_DEFINED & ~X86_FLAGS_ARITH) | 2;
}

void x86_flags_changed(struct x86_cpu *c, u32 old)
{
	if ((c->rflags & X86_FLAG_IF) && (READ_ONCE(c->irq_hint) || c->want_irq_window))
		x86_request(c, X86_REQ_EVENT);
	if (c->rflags & (X86_FLAG_TF | X86_FLAG_RF))
		x86_break(c);
	if ((c->rflags ^ old) & X86_FLAG_AC)
		x86_mmu_select(c);
}
