// SPDX-License-Identifier: MIT
/*
 * The run loop: from one instruction to the next, and what is looked at between two of them.
 *
 * Engine file. Knows no instruction; knows the machine only through cpu->ops.
 *
 * The fast loop ends when cpu->req is non-zero or an instruction faults. Kicks are plain stores to req; nothing else
 * is polled. A request that must stay (an event that waits for its instruction, single-stepping) leaves its bit set, which
 * makes the loop execute one instruction at a time.
 */
#include "cpu/x86/run.h"
#include "base/futex.h"
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/tb_runtime.h"

__thread struct x86_cpu *x86_current __attribute__((tls_model("initial-exec")));

/* ---- instruction pointers ---- */

static u64 la_to_rip(const struct x86_cpu *c, u64 la)
{
	return c->code_size == 8 ? la : (u32)(la - c->seg[X86_CS].base);
}

u64 x86_rip(const struct x86_cpu *c)
{
	return c->insn ? la_to_rip(c, c->code_la + c->insn->off) : c->rip;
}

u64 x86_next_rip(const struct x86_cpu *c, const struct x86_insn *i)
{
	u64 rip = la_to_rip(c, c->code_la + i->off + i->len);

	/* IP wraps at 64 KiB only through a branch; falling off the end is a limit violation found by the next fetch. */
	return rip;
}

void x86_check_rip(struct x86_cpu *c, u64 rip)
{
	if (c->code_size == 8) {
		u32 unused = c->cr4 & X86_CR4_LA57 ? 64 - 57 : 64 - 48;

		X86_RULE(c, (u64)((s64)(rip << unused) >> unused) != rip, X86_GP, 0,
			 "the target of a near branch is canonical");
	} else {
		X86_RULE(c, rip > c->seg[X86_CS].limit, X86_GP, 0, "the target of a near branch is within the CS limit");
	}
}

const struct x86_insn *x86_goto(struct x86_cpu *c, u64 rip)
{
	c->rip = rip;
	c->insn = NULL;
	return x86_code_lookup(c, c->code_size == 8 ? rip : (u32)(rip + c->seg[X86_CS].base));
}

/* With tier 1, hot places get heads, which lookups see to: until then no branch may remember the place. */
static bool wants_head(const struct x86_cpu *c, const struct x86_insn *i)
{
	return c->tb && i->len && i->bits == 8;
}

const struct x86_insn *x86_branch_rel(struct x86_cpu *c, const struct x86_insn *i)
{
	s64 in_page = (s64)(i->off + i->len) + (s64)i->imm;
	const struct x86_insn *t;
	u64 rip;

	/* In 16-bit code the target depends on CS.base (wrap), so it cannot be kept with the page. */
	if (likely((u64)in_page < PAGE_SIZE && i->bits != 2 && !(i->flags & X86_I_CONT))) {
		t = LOAD_ACQUIRE(i->target);
		if (likely(t))
			return t;
	}
	rip = (x86_next_rip(c, i) + i->imm) & x86_asize_mask(i->opsize);
	x86_check_rip(c, rip);
	t = x86_goto(c, rip);
	if ((u64)in_page < PAGE_SIZE && i->bits != 2 && !(i->flags & X86_I_CONT) && i->opsize >= 4 &&
	    !wants_head(c, t))
		STORE_RELEASE(((struct x86_insn *)i)->target, t);
	return t;
}

/* ---- handlers that are not instructions ---- */

const struct x86_insn *x86_op_end(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 rip = la_to_rip(c, c->code_la + i->off);

	if (unlikely(c->code_size != 8))
		X86_RULE(c, rip > c->seg[X86_CS].limit, X86_GP, 0, "execution stays within the CS limit");
	return x86_goto(c, rip);
}

const struct x86_insn *x86_op_stale(struct x86_cpu *c, const struct x86_insn *i)
{
	return x86_goto(c, la_to_rip(c, c->code_la + i->off));
}

const struct x86_insn *x86_op_ud(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_raise(c, X86_UD);
}

const struct x86_insn *x86_op_too_long(struct x86_cpu *c, const struct x86_insn *i)
{
	X86_RULE(c, true, X86_GP, 0, "an instruction is at most 15 bytes long");
	return NULL;
}

const struct x86_insn *x86_op_unsupported(struct x86_cpu *c, const struct x86_insn *i)
{
	u8 *attr, *host = x86_fetch_page(c, c->code_la, &attr);
	u32 n = MIN(15u, (u32)PAGE_SIZE - i->off);

	c->exit.insn.len = 0;
	c->exit.insn.why = "an instruction that Anyvisor does not know";
	if (host) {
		c->exit.insn.len = (u8)n;
		x86_copy(c->exit.insn.bytes, host + i->off, n);
	}
	x86_leave(c, X86_EXIT_INTERNAL_ERROR);
}

/* ---- requests ---- */

void x86_serve_requests(void *cpu)
{
	struct x86_cpu *c = cpu;
	u32 req = READ_ONCE(c->req) &
		  (X86_REQ_FLUSH | X86_REQ_PURGE | X86_REQ_PAUSE | X86_REQ_CODE);

	if (!req)
		return;
	x86_door(c);
	x86_unrequest(c, req);
	if (req & X86_REQ_FLUSH)
		x86_tlb_flush_all(c);
	else if (req & X86_REQ_PURGE)
		x86_tlb_purge_writes(c);
	if (req & X86_REQ_CODE)
		x86_jc_flush(c);
	/* If this was in the middle of an instruction, the block that it belongs to may be dead. */
	x86_break(c);
	c->stats[X86_STAT_REQUESTS]++;
	av_epoch_quiet(c->epoch, &c->reader);
	__atomic_fetch_add(&c->flush_ack, 1, __ATOMIC_SEQ_CST);
	av_futex_wake(&c->flush_ack, INT32_MAX);
	if (req & X86_REQ_PAUSE)
		while (__atomic_load_n(c->pause_word, __ATOMIC_ACQUIRE))
			av_futex_wait(c->pause_word, 1, AV_NO_DEADLINE);
}

/* ---- events ---- */

/* An event is taken at cpu->rip. Faults of the delivery itself come back through the long jump. */
static void deliver(struct x86_cpu *c, enum x86_event_type type, u8 vector, bool has_error, u32 error)
{
	c->insn = NULL;
	x86_deliver(c, type, vector, has_error, error, c->rip);
}

bool x86_io_unfinished(const struct x86_cpu *c)
{
	return (c->io.done || c->io.pio_count || c->io.msr.answered) && c->io.rip == c->rip;
}

static bool shadowed(struct x86_cpu *c)
{
	if (!c->shadow)
		return false;
	if (c->shadow_rip == c->rip)
		return true;
	c->shadow = 0;
	return false;
}

/*
 * The VMM may have rewritten code: execution translations go, so that each page is compared before it is entered again. An
 * interrupt is often the word that something was written, so this is done before one is taken as well as at entry.
 */
static void follow_io_epoch(struct x86_cpu *c)
{
	u64 now = __atomic_load_n(&c->code->io_epoch, __ATOMIC_SEQ_CST);

	if (c->io_epoch == now)
		return;
	c->io_epoch = now;
	x86_etlb_recheck(c);
}

/*
 * NMI, SMI and interrupts, in the order of SDM vol. 3 "Priority Among Concurrent Events". Returns true if the loop must
 * leave with *why.
 */
static bool take_events(struct x86_cpu *c, enum x86_exit_reason *why)
{
	bool shadow = shadowed(c);

	x86_unrequest(c, X86_REQ_EVENT);
	follow_io_epoch(c);
	if (c->inject.pending) {
		c->inject.pending = false;
		deliver(c, c->inject.type, c->inject.vector, c->inject.has_error, c->inject.error);
		x86_request(c, X86_REQ_EVENT);
		return false;
	}
	/* Whoever ends the blocking asks again (KVM_SET_GUEST_DEBUG goes through x86_state_changed). */
	if (c->guest_debug & X86_GUESTDBG_BLOCKIRQ)
		return false;
	if (__atomic_load_n(&c->smi_pending, __ATOMIC_ACQUIRE) && !c->smm) {
		x86_smi(c);
		return false;
	}
	if (__atomic_load_n(&c->nmi_pending, __ATOMIC_ACQUIRE) && !c->nmi_masked) {
		if (shadow) {
			x86_request(c, X86_REQ_EVENT);
			goto shadow_once;
		}
		__atomic_fetch_sub(&c->nmi_pending, 1, __ATOMIC_ACQ_REL);
		c->nmi_masked = true;
		c->halted = false;
		deliver(c, X86_EV_NMI, X86_NMI, false, 0);
		x86_request(c, X86_REQ_EVENT);
		return false;
	}
	if (!READ_ONCE(c->irq_hint) && !c->want_irq_window)
		return false;
	if (!(c->rflags & X86_FLAG_IF))
		return false; /* whoever sets IF asks again */
	if (shadow) {
		x86_request(c, X86_REQ_EVENT);
		goto shadow_once;
	}
	if (READ_ONCE(c->irq_hint)) {
		int vector;

		__atomic_store_n(&c->irq_hint, 0, __ATOMIC_SEQ_CST);
		x86_door(c);
		vector = c->ops->irq_ack(c->m);
		if (vector >= 0) {
			c->stats[X86_STAT_IRQS]++;
			c->halted = false;
			/* More may be waiting; the gate decides about IF, so the question is open until asked again. */
			if (c->ops->irq_ready(c->m))
				__atomic_store_n(&c->irq_hint, 1, __ATOMIC_SEQ_CST);
			deliver(c, X86_EV_EXTINT, (u8)vector, false, 0);
			if (c->rflags & X86_FLAG_IF)
				x86_request(c, X86_REQ_EVENT);
			return false;
		}
	}
	if (c->want_irq_window) {
		*why = X86_EXIT_IRQ_WINDOW;
		return true;
	}
	return false;
shadow_once:
	/* The shadow covers one instruction; a loop back to the same address must not renew it. */
	c->shadow_rip = ~c->rip;
	return false;
}

/* Everything between two instructions. Returns true if the loop must leave with *why. */
static bool between(struct x86_cpu *c, enum x86_exit_reason *why)
{
	x86_serve_requests(c);
	if (READ_ONCE(c->req) & X86_REQ_LOCAL)
		x86_unrequest(c, X86_REQ_LOCAL);
	if (x86_io_drain(c, why)) {
		x86_break(c);
		return true;
	}
	if (x86_io_unfinished(c)) {
		/* The request stays: the loop comes back after this instruction. */
		x86_break(c);
		return false;
	}
	x86_io_done(c);
	c->io.msr.answered = false;
	if (c->halted) {
		c->halted = false;
		*why = X86_EXIT_HLT;
		return true;
	}
	if (READ_ONCE(c->req) & X86_REQ_OUT) {
		*why = X86_EXIT_REQUEST;
		return true;
	}
	if (READ_ONCE(c->req) & X86_REQ_EVENT)
		return take_events(c, why);
	return false;
}

/* ---- the loop ---- */

/*
 * A fault or a leave arrived by long jump. Delivers until something sticks (each nested fault comes back here). Returns true to
 * leave the run loop.
 */
static bool caught(struct x86_cpu *c, enum x86_exit_reason *why)
{
	c->rip = x86_rip(c);
	c->insn = NULL;
	c->io.cursor = 0;
	if (c->fault.leave) {
		c->fault.leave = false;
		*why = c->fault.leave_reason;
		if (c->fault.delivering) {
			/* An interrupt was acknowledged already: it must not be lost when its delivery met a device. */
			if (c->fault.delivering_type != X86_EV_HWEXC) {
				c->inject.pending = true;
				c->inject.type = c->fault.delivering_type;
				c->inject.vector = c->fault.delivering - 1;
				c->inject.has_error = false;
				x86_request(c, X86_REQ_EVENT);
			}
			c->fault.delivering = 0;
		}
		return true;
	}
	c->io.done = 0;
	c->stats[X86_STAT_EXCEPTIONS]++;
	if (c->fault.vector == X86_DB && !c->fault.delivering && x86_db_intercepted(c)) {
		x86_debug_exit(c, c->rip, c->fault.db_bits);
		c->fault.db_bits = 0;
		*why = X86_EXIT_DEBUG;
		return true;
	}
	if (!x86_fault_merge(c)) {
		c->fault.delivering = 0;
		*why = X86_EXIT_SHUTDOWN;
		return true;
	}
	deliver(c, X86_EV_HWEXC, c->fault.vector, c->fault.has_error, c->fault.error);
	return false;
}

static __attribute__((noinline)) enum x86_exit_reason loop(struct x86_cpu *c, bool jumped)
{
	const struct x86_insn *i;
	enum x86_exit_reason why;

	if (jumped && caught(c, &why))
		return why;
	for (;;) {
		if (unlikely(READ_ONCE(c->req)) && between(c, &why))
			return why;
		i = x86_goto(c, c->rip);
		if (unlikely(x86_careful(c))) {
			if (x86_step(c, i, &why))
				return why;
			continue;
		}
		do {
			c->insn = i;
			i = i->fn(c, i);
			if (unlikely(!i)) {
				c->insn = NULL;
				break;
			}
		} while (likely(!READ_ONCE(c->req)));
		if (i) {
			c->rip = la_to_rip(c, c->code_la + i->off);
			c->insn = NULL;
		}
	}
}

/*
 * Where long jumps land. Nothing lives in this frame across the jump: clang reuses the slots of variables that it believes
 * dead, as it does not know that __builtin_setjmp returns twice.
 */
static __attribute__((noinline)) enum x86_exit_reason run_loop(struct x86_cpu *c)
{
	bool jumped = __builtin_setjmp(c->jmp);
	enum x86_exit_reason why = loop(x86_current, jumped);

	/* Keeps clang from calling the loop last, without this frame, which long jumps come back to. */
	__asm__ volatile("" : "+r"(why));
	return why;
}

/* As run_loop(). */
static __attribute__((noinline)) bool attempt(struct x86_cpu *c, void (*fn)(struct x86_cpu *c, void *arg), void *arg)
{
	if (__builtin_setjmp(c->jmp))
		return false;
	fn(c, arg);
	return true;
}

bool x86_try(struct x86_cpu *c, void (*fn)(struct x86_cpu *c, void *arg), void *arg)
{
	bool done;

	x86_current = c;
	done = attempt(c, fn, arg);
	x86_current = NULL;
	c->fault.leave = false;
	return done;
}

enum x86_exit_reason x86_run(struct x86_cpu *c)
{
	enum x86_exit_reason why;
	u64 gs = 0;

	/*
	 * Pairs with those who request FLUSH and then look at in_guest: either they see us inside and wait, or we see
	 * the request in the loop's first poll. A request that came while we were outside is served there too.
	 */
	__atomic_store_n(&c->in_guest, 1, __ATOMIC_SEQ_CST);
	av_epoch_online(c->epoch, &c->reader);
	x86_current = c;
	follow_io_epoch(c);
	c->io.cursor = 0;
	c->insn = NULL;
	if (c->tb)
		gs = x86_gs_enter(c);
	why = run_loop(c);
	if (c->tb)
		x86_gs_leave(c, gs);
	x86_simd_spill(c);
	x86_current = NULL;
	av_epoch_offline(&c->reader);
	__atomic_store_n(&c->in_guest, 0, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->req, __ATOMIC_SEQ_CST) & (X86_REQ_FLUSH | X86_REQ_PURGE | X86_REQ_PAUSE)) {
		__atomic_fetch_add(&c->flush_ack, 1, __ATOMIC_SEQ_CST);
		av_futex_wake(&c->flush_ack, INT32_MAX);
	}
	return why;
}
