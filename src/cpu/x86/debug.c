// SPDX-License-Identifier: MIT
/*
 * Breakpoints, watchpoints and single-stepping, for the guest and for a VMM that debugs it.
 *
 * Engine file. While data or I/O breakpoints are armed, mmu.c sends every access through the slow
 * path and reports it here; what was hit becomes one trap when the instruction is through.
 */
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/run.h"
#include "cpu/x86/tb_runtime.h"

#define DR6_ACTIVE_LOW 0xffff0ff0u
#define DEBUGCTL_BTF   BIT(1)

enum { BP_EXEC, BP_WRITE, BP_IO, BP_ACCESS };

/* ---- matching ---- */

static const u64 *addresses(const struct x86_cpu *c)
{
	return c->guest_debug & X86_GUESTDBG_HW_BP ? c->guest_dr : c->dr;
}

/* R/W field of breakpoint n, or -1 when it is off. */
static int kind(u64 dr7, u32 n)
{
	return dr7 >> (n * 2) & 3 ? (int)(dr7 >> (16 + n * 4) & 3) : -1;
}

/* kinds: bit per enum. The address is aligned to the length, as hardware takes it. */
static u32 matches(const struct x86_cpu *c, u64 la, u32 size, u32 kinds)
{
	static const u8 length[] = {1, 2, 8, 4};
	const u64 *dr = addresses(c);
	u64 dr7 = x86_dr7(c);
	u32 hit = 0;

	for (u32 n = 0; n < 4; n++) {
		int k = kind(dr7, n);
		u64 len = k > BP_EXEC ? length[dr7 >> (18 + n * 4) & 3] : 1,
		    at = dr[n] & ~(len - 1);

		if (k >= 0 && (kinds & BIT(k)) && at - la + len - 1 < size + len - 1)
			hit |= BIT(n);
	}
	return hit;
}

bool x86_watch_armed(const struct x86_cpu *c)
{
	u64 dr7 = x86_dr7(c);

	for (u32 n = 0; n < 4; n++)
		if (kind(dr7, n) > BP_EXEC)
			return true;
	return false;
}

static void hit(struct x86_cpu *c, u32 bits)
{
	if (!bits)
		return;
	c->db.hits |= bits;
	/* A repeated string instruction stops after this element. */
	x86_break(c);
}

void x86_watch(struct x86_cpu *c, u64 la, u32 size, bool write)
{
	hit(c, matches(c, la, size, BIT(BP_ACCESS) | (write ? BIT(BP_WRITE) : 0)));
}

void x86_watch_port(struct x86_cpu *c, u16 port, u32 size)
{
	if (c->cr4 & X86_CR4_DE)
		hit(c, matches(c, port, size, BIT(BP_IO)));
}

/* ---- telling ---- */

void x86_debug_exit(struct x86_cpu *c, u64 rip, u64 dr6_bits)
{
	c->exit.debug.vector = X86_DB;
	c->exit.debug.pc = c->code_size == 8 ? rip : (u32)(rip + c->seg[X86_CS].base);
	c->exit.debug.dr6 = DR6_ACTIVE_LOW | dr6_bits;
	c->exit.debug.dr7 = x86_dr7(c);
}

/* A trap at cpu->rip. Returns true to leave with *why. */
static bool trap(struct x86_cpu *c, u64 bits, enum x86_exit_reason *why)
{
	c->db.hits = 0;
	if (x86_db_intercepted(c)) {
		x86_debug_exit(c, c->rip, bits);
		*why = X86_EXIT_DEBUG;
		return true;
	}
	/* Breakpoints that were not hit are cleared, the other bits stay until the guest clears
	 * them. */
	c->fault.db_bits = bits;
	x86_deliver(c, X86_EV_HWEXC, X86_DB, false, 0, c->rip);
	return false;
}

/* ---- stepping ---- */

/* Between two elements of a repeated string instruction: the frame has RF set, so that breakpoints
 * on it are not hit again. */
static bool unfinished(const struct x86_insn *i, const struct x86_insn *next)
{
	return next == i && (i->flags & (X86_I_REP | X86_I_REPNE));
}

bool x86_step(struct x86_cpu *c, const struct x86_insn *i, enum x86_exit_reason *why)
{
	bool tf = c->rflags & X86_FLAG_TF, quiet = c->db.quiet,
	     user_step = c->guest_debug & X86_GUESTDBG_STEP;
	const struct x86_insn *next;
	u64 from = c->rip, bits;
	x86_op_fn *fn;

	c->db.quiet = false;
	if (!quiet) {
		/* What the delivery of an event has hit, or an element handed to the VMM. */
		if (unlikely(c->db.hits))
			return trap(c, c->db.hits, why);
		bits = c->rflags & X86_FLAG_RF ? 0
					       : matches(c, c->code_la + i->off, 1, BIT(BP_EXEC));
		if (bits)
			x86_raise_db(c, bits);
	}
	c->rflags &= ~X86_FLAG_RF;
	c->db.no_step = false;
	if (x86_is_head(i))
		i++;
	c->insn = i;
	fn = i->fn;
	next = fn(c, i);
	if (next) {
		c->insn = next;
		c->rip = x86_rip(c);
	}
	c->insn = NULL;
	/* After MOV SS, POP SS and LSS nothing traps before the next instruction is through; only
	 * data breakpoints are remembered. */
	if ((c->shadow & X86_SHADOW_MOV_SS) && c->shadow_rip == c->rip) {
		c->db.quiet = true;
		return false;
	}
	/* SYSCALL traps by the TF that it leaves, or the kernel would be entered twice on the
	 * user's stack (SDM, SYSCALL). */
	if (fn == x86_op_syscall)
		tf = c->rflags & X86_FLAG_TF;
	/* With BTF only branches trap; software interrupts clear TF and do not trap at all. */
	if (tf && (c->db.no_step || ((c->msr.debugctl & DEBUGCTL_BTF) && c->rip == from + i->len)))
		tf = false;
	bits = c->db.hits;
	if (tf || (user_step && !x86_io_unfinished(c)))
		bits |= X86_DR6_BS;
	if (!bits)
		return false;
	if (unfinished(i, next))
		c->rflags |= X86_FLAG_RF;
	return trap(c, bits, why);
}
