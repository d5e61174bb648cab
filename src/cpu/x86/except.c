// SPDX-License-Identifier: MIT
/*
 * Exceptions and interrupts: raising by long jump, delivery through the IDT, merging of nested
 * faults.
 *
 * Engine file. Knows gates, the frames they build and where the stack comes from; must not know who
 * raises what. Source: SDM vol. 3 "Interrupt and Exception Handling"; vol. 2 INT n.
 */
#include "cpu/x86/except.h"
#include "cpu/x86/debug.h"
#include "base/log.h"
#include "cpu/x86/seg.h"
#include "cpu/x86/simd.h"

#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)

__thread const char *x86_rule_text __attribute__((tls_model("initial-exec")));

/* ---- raising ---- */

static void __noreturn jump(struct x86_cpu *c)
{
	c->fault.leave = false;
	c->db.hits = 0;
	if (unlikely(x86_rule_text)) {
		if (unlikely(AV_LOG_DEBUG <= av_log_limit)) {
			x86_door(c);
			av_debug("vcpu %u: rip %#llx: vector %u error %#x: %s", c->index,
				 (unsigned long long)x86_rip(c), c->fault.vector, c->fault.error,
				 x86_rule_text);
		}
		x86_rule_text = NULL;
	}
	__builtin_longjmp(c->jmp, 1);
}

void x86_raise(struct x86_cpu *c, u8 vector)
{
	c->fault.vector = vector;
	c->fault.has_error = false;
	c->fault.error = 0;
	jump(c);
}

void x86_raise_err(struct x86_cpu *c, u8 vector, u32 error)
{
	/* X86_RULE passes an error for every vector; these are the ones that have it. */
	static const u32 with_error = BIT(X86_DF) | BIT(X86_TS) | BIT(X86_NP) | BIT(X86_SS_FAULT) |
				      BIT(X86_GP) | BIT(X86_PF) | BIT(X86_AC) | BIT(X86_CP);

	c->fault.vector = vector;
	c->fault.has_error = with_error >> vector & 1;
	c->fault.error = error;
	jump(c);
}

void x86_raise_pf(struct x86_cpu *c, u64 la, u32 error)
{
	/* At once, not on delivery: a page fault that becomes a double fault has changed CR2 too.
	 */
	c->cr2 = la;
	x86_raise_err(c, X86_PF, error);
}

void x86_raise_db(struct x86_cpu *c, u64 dr6_bits)
{
	c->fault.db_bits = dr6_bits;
	x86_raise(c, X86_DB);
}

void x86_task_switch(struct x86_cpu *c)
{
	c->exit.insn.len = 0;
	c->exit.insn.why = "hardware task switch";
	x86_leave(c, X86_EXIT_INTERNAL_ERROR);
}

/* ---- merging ---- */

#define CONTRIBUTORY                                                                               \
	(BIT(X86_DE) | BIT(X86_TS) | BIT(X86_NP) | BIT(X86_SS_FAULT) | BIT(X86_GP) | BIT(X86_CP))
#define PAGE_FAULT   BIT(X86_PF)
#define SELECTOR_ERR (BIT(X86_TS) | BIT(X86_NP) | BIT(X86_SS_FAULT) | BIT(X86_GP))

bool x86_fault_merge(struct x86_cpu *c)
{
	u32 first, second = BIT(c->fault.vector);
	u8 type = c->fault.delivering_type;

	if (!c->fault.delivering)
		return true;
	/* Software interrupts and software exceptions are benign, and do not count as external to
	 * the program. */
	first = type == X86_EV_HWEXC ? BIT(c->fault.delivering - 1) : 0;
	c->fault.delivering = 0;
	if (type != X86_EV_SOFTINT && type != X86_EV_SOFTEXC && (second & SELECTOR_ERR))
		c->fault.error |= 1;
	if (first & BIT(X86_DF))
		return false;
	if (((first & CONTRIBUTORY) && (second & CONTRIBUTORY)) ||
	    ((first & PAGE_FAULT) && (second & (CONTRIBUTORY | PAGE_FAULT)))) {
		c->fault.vector = X86_DF;
		c->fault.has_error = true;
		c->fault.error = 0;
	}
	return true;
}

/* ---- delivery ---- */

struct event {
	enum x86_event_type type;
	u8 vector;
	bool has_error;
	u32 error;
	u64 rip, flags; /* as pushed */
};

/* Error code of a fault about the gate itself. EXT is added when faults are merged. */
#define IDT_ERROR(e) ((u32)(e)->vector << 3 | 2)

static bool software(const struct event *e)
{
	return e->type == X86_EV_SOFTINT || e->type == X86_EV_SOFTEXC;
}

/* What entering through a gate does to RFLAGS. */
static void enter_flags(struct x86_cpu *c, bool interrupt_gate)
{
	u32 old = c->rflags;

	c->rflags &= ~(X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_VM);
	if (interrupt_gate)
		c->rflags &= ~X86_FLAG_IF;
	x86_flags_changed(c, old);
}

static void deliver_real(struct x86_cpu *c, const struct event *e)
{
	struct x86_stack st;
	u32 entry, old = c->rflags;

	X86_RULE(c, e->vector * 4u + 3 > c->idt.limit, X86_GP, 0,
		 "a vector is within the interrupt vector table");
	x86_sys_read(c, c->idt.base + e->vector * 4u, &entry, 4);
	X86_RULE(c, (u16)entry > c->seg[X86_CS].limit, X86_GP, 0,
		 "an interrupt handler is within the CS limit");
	x86_stack_here(c, &st, false);
	x86_stack_push(c, &st, e->flags, 2);
	x86_stack_push(c, &st, c->seg[X86_CS].sel, 2);
	x86_stack_push(c, &st, e->rip, 2);

	x86_stack_commit(c, &st);
	x86_load_seg_real(c, X86_CS, (u16)(entry >> 16));
	c->rip = (u16)entry;
	c->rflags &= ~(X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF);
	x86_flags_changed(c, old);
	x86_seg_changed(c);
}

/* Types of IDT gates; bit 3 is the width, bit 0 says trap. */
enum { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT32 = 14, GATE_TRAP32 = 15 };

static void check_gate(struct x86_cpu *c, const struct event *e, u64 gate)
{
	X86_RULE(c, software(e) && (gate >> 45 & 3) < c->cpl, X86_GP, IDT_ERROR(e),
		 "a software interrupt's gate has DPL at least CPL");
	X86_RULE(c, !(gate >> 47 & 1), X86_NP, IDT_ERROR(e), "an interrupt's gate is present");
}

static void deliver_protected(struct x86_cpu *c, const struct event *e)
{
	static const u8 v86_order[] = {X86_GS, X86_FS, X86_DS, X86_ES};
	bool v86 = c->rflags & X86_FLAG_VM, inner;
	struct x86_stack st;
	struct x86_seg cs;
	u8 type, size, cpl;
	u64 gate, desc, rip;
	u16 sel;

	X86_RULE(c, e->vector * 8u + 7 > c->idt.limit, X86_GP, IDT_ERROR(e),
		 "a vector is within the IDT");
	x86_sys_read(c, (u32)(c->idt.base + e->vector * 8u), &gate, 8);
	type = gate >> 40 & 0x1f;
	X86_RULE(c, type != GATE_TASK && (type & ~(u8)9) != GATE_INT16, X86_GP, IDT_ERROR(e),
		 "an IDT entry is an interrupt, trap or task gate");
	check_gate(c, e, gate);
	if (type == GATE_TASK)
		x86_task_switch(c);
	size = type & 8 ? 4 : 2;
	sel = (u16)(gate >> 16);
	rip = (gate & 0xffff) | (size == 4 ? gate >> 32 & 0xffff0000 : 0);
	cpl = x86_gate_code(c, sel, &desc);
	X86_RULE(c, v86 && cpl != 0, X86_GP, sel & 0xfffcu,
		 "an interrupt in virtual-8086 mode leads to CPL 0");
	inner = cpl != c->cpl;
	if (inner)
		x86_stack_inner(c, &st, cpl);
	else
		x86_stack_here(c, &st, false);
	if (v86)
		for (u32 n = 0; n < ARRAY_SIZE(v86_order); n++)
			x86_stack_push(c, &st, c->seg[v86_order[n]].sel, size);
	if (inner) {
		x86_stack_push(c, &st, c->seg[X86_SS].sel, size);
		x86_stack_push(c, &st, c->gpr[X86_RSP], size);
	}
	x86_stack_push(c, &st, e->flags, size);
	x86_stack_push(c, &st, c->seg[X86_CS].sel, size);
	x86_stack_push(c, &st, e->rip, size);
	if (e->has_error)
		x86_stack_push(c, &st, e->error, size);
	x86_desc_accessed(c, sel, &desc);
	x86_desc_to_seg(&cs, (u16)((sel & 0xfffcu) | cpl), desc);
	X86_RULE(c, rip > cs.limit, X86_GP, 0, "an interrupt handler is within its segment");

	x86_stack_commit(c, &st);
	c->seg[X86_CS] = cs;
	if (v86)
		for (u32 n = 0; n < ARRAY_SIZE(v86_order); n++)
			x86_null_seg(&c->seg[v86_order[n]], 0, 0);
	c->rip = rip;
	enter_flags(c, !(type & 1));
	x86_seg_changed(c);
}

/* The frame as it lies in memory. */
struct long_frame {
	u64 error, rip, cs, flags, rsp, ss;
};

static void deliver_long(struct x86_cpu *c, const struct event *e)
{
	struct x86_stack st;
	struct long_frame f;
	u64 gate[2], desc, rip, sp;
	u32 size = sizeof(f);
	u8 type, cpl, ist;
	void *src = &f, *p;
	u16 sel;

	X86_RULE(c, e->vector * 16u + 15 > c->idt.limit, X86_GP, IDT_ERROR(e),
		 "a vector is within the IDT");
	x86_sys_read(c, c->idt.base + e->vector * 16u, gate, 16);
	type = gate[0] >> 40 & 0x1f;
	X86_RULE(c, (type & ~(u8)1) != GATE_INT32, X86_GP, IDT_ERROR(e),
		 "an IDT entry in long mode is a 64-bit interrupt or trap gate");
	check_gate(c, e, gate[0]);
	sel = (u16)(gate[0] >> 16);
	ist = gate[0] >> 32 & 7;
	rip = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
	cpl = x86_gate_code(c, sel, &desc);
	if (cpl != c->cpl && !ist)
		x86_stack_inner(c, &st, cpl);
	else
		x86_stack_here(c, &st, true);
	if (ist) {
		x86_tss_read(c, 36 + (ist - 1) * 8u, &st.sp, 8);
		X86_RULE(c, !x86_canonical(c, st.sp), X86_SS_FAULT, 0,
			 "an IST entry of the TSS is canonical");
		if (cpl != c->cpl) {
			x86_null_seg(&st.ss, cpl, cpl);
			st.cpl = cpl;
		}
	}
	X86_RULE(c, !x86_canonical(c, rip), X86_GP, 0,
		 "an interrupt handler's address is canonical");
	f = (struct long_frame){
		.error = e->error,
		.rip = e->rip,
		.cs = c->seg[X86_CS].sel,
		.flags = e->flags,
		.rsp = c->gpr[X86_RSP],
		.ss = c->seg[X86_SS].sel,
	};
	if (!e->has_error) {
		src = &f.rip;
		size -= 8;
	}
	sp = (st.sp & ~0xfull) - size;
	if (st.cpl != c->cpl)
		x86_sys_write(c, sp, src, size);
	else if (likely((p = x86_tlb_hit(c->wtlb, sp, size)) != NULL))
		x86_copy(p, src, size);
	else
		x86_write_slow(c, X86_SS, sp, src, size);
	x86_desc_accessed(c, sel, &desc);

	st.sp = sp;
	x86_stack_commit(c, &st);
	x86_desc_to_seg(&c->seg[X86_CS], (u16)((sel & 0xfffcu) | cpl), desc);
	c->rip = rip;
	enter_flags(c, !(type & 1));
	x86_seg_changed(c);
}

/* Faults that restart their instruction are pushed with RF set, so that its breakpoint does not hit
 * twice. */
static bool fault_class(const struct event *e)
{
	return e->type == X86_EV_HWEXC && e->vector != X86_DB && e->vector != X86_DF &&
	       e->vector != X86_MC;
}

void x86_deliver(struct x86_cpu *c, enum x86_event_type type, u8 vector, bool has_error, u32 error,
		 u64 next_rip)
{
	struct event e = {
		.type = type,
		.vector = vector,
		.has_error = has_error,
		.error = error,
		.rip = next_rip,
		.flags = x86_rflags(c),
	};

	c->db.no_step = true;
	c->fault.delivering = vector + 1;
	c->fault.delivering_type = (u8)type;
	if (vector == X86_DB && type == X86_EV_HWEXC) {
		if (c->fault.db_bits)
			c->dr6 = (c->dr6 & ~0xfull) | c->fault.db_bits;
		c->fault.db_bits = 0;
		c->dr7 &= ~(u64)X86_DR7_GD;
		c->msr.debugctl &= ~(u64)(DEBUGCTL_LBR | DEBUGCTL_BTF);
	}
	if (fault_class(&e))
		e.flags |= X86_FLAG_RF;
	if (!(c->cr0 & X86_CR0_PE))
		deliver_real(c, &e);
	else if (c->efer & X86_EFER_LMA)
		deliver_long(c, &e);
	else
		deliver_protected(c, &e);
	c->fault.delivering = 0;
	c->halted = false;
}
