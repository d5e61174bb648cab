// SPDX-License-Identifier: MIT
/*
 * KVM_RUN: from the VMM's call to the guest and back, with kvm_run as the letter between the two.
 *
 * Owns the order in which things are looked at and the translation of the engine's exits into
 * KVM's. Runs in the caller's thread, under vcpu->lock and no other; makes no system call in steady
 * state but futex(2), and rt_sigprocmask(2) where the VMM gave a signal mask.
 *
 * Leaving. Everything that must end or interrupt a run is a bit in v->todo, set before X86_REQ_OUT.
 * The loop clears X86_REQ_OUT first and reads todo afterwards, so a bit set in between brings the
 * request back and is found on the next turn.
 */
#include "kvm/binstats.h"
#include "kvm/steal.h"

#include "uapi/signals.h"

#include <errno.h>
#include <string.h>

#define SYNC_FIELDS (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* Turns of the loop: what a step says about the next one. Negative values are errnos. */
enum { TO_USER = 0, GO_ON = 1 };

/* ---- signals ---- */

static void after_signal(void *arg)
{
	struct kvm_vcpu *v = arg;

	__atomic_fetch_or(&v->todo, KVM_TODO_SIGNAL, __ATOMIC_SEQ_CST);
	kvm_vcpu_kick(v);
}

/* ---- what the guest's state means ---- */

static bool pic_in_library(const struct kvm_vcpu *v)
{
	return irqchip_has_chips(v->vm->ic);
}

/* May the VMM inject an interrupt now (KVM_INTERRUPT)? */
static bool ready_for_injection(struct kvm_vcpu *v)
{
	if (!kvm_takes_interrupts(v) || kvm_event_in_flight(v))
		return false;
	return !v->lapic || (!v->ev.extint && kvm_lapic_accepts_extint(v));
}

static bool window_asked(const struct kvm_vcpu *v)
{
	return READ_ONCE(v->run->request_interrupt_window) && !pic_in_library(v);
}

/* Split irqchip: the vector that the VMM's PIC answered goes in as soon as the LAPIC and the guest
 * take it. */
static bool extint_deliverable(struct kvm_vcpu *v)
{
	return v->ev.extint && kvm_takes_interrupts(v) && kvm_lapic_accepts_extint(v);
}

/* Reasons for a halted vCPU to run on. */
static bool has_event(struct kvm_vcpu *v)
{
	struct x86_cpu *c = v->cpu;

	if (c->inject.pending || v->ev.nmi || extint_deliverable(v))
		return true;
	if (v->ev.irq && kvm_takes_interrupts(v))
		return true;
	if (__atomic_load_n(&v->pv_unhalted, __ATOMIC_SEQ_CST))
		return true;
	if (LOAD_ACQUIRE(c->nmi_pending) && !c->nmi_masked)
		return true;
	if (LOAD_ACQUIRE(c->smi_pending) && !c->smm)
		return true;
	return kvm_takes_interrupts(v) && kvm_machine_ops.irq_ready(v);
}

/* ---- exits ---- */

static int exit_io(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = v->cpu->exit.io.write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = v->cpu->exit.io.size;
	run->io.port = v->cpu->exit.io.port;
	run->io.count = v->cpu->exit.io.count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
	v->need_completion = true;
	v->pending_exit = KVM_EXIT_IO;
	return TO_USER;
}

static int exit_mmio(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = v->cpu->exit.mmio.gpa;
	run->mmio.len = v->cpu->exit.mmio.size;
	run->mmio.is_write = v->cpu->exit.mmio.write;
	memcpy(run->mmio.data, v->cpu->exit.mmio.data, sizeof(run->mmio.data));
	v->need_completion = true;
	v->pending_exit = KVM_EXIT_MMIO;
	return TO_USER;
}

static int exit_hlt(struct kvm_vcpu *v)
{
	if (v->lapic) {
		v->mp_state = KVM_MP_STATE_HALTED;
		return GO_ON;
	}
	v->run->exit_reason = KVM_EXIT_HLT;
	return TO_USER;
}

static int exit_irq_window(struct kvm_vcpu *v)
{
	/* It may have opened for a vector that waits here. */
	if (!window_asked(v) || !ready_for_injection(v))
		return GO_ON;
	v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	return TO_USER;
}

static int exit_shutdown(struct kvm_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return TO_USER;
}

static int exit_debug(struct kvm_vcpu *v)
{
	struct kvm_debug_exit_arch *arch = &v->run->debug.arch;

	v->run->exit_reason = KVM_EXIT_DEBUG;
	arch->exception = v->cpu->exit.debug.vector;
	arch->pc = v->cpu->exit.debug.pc;
	arch->dr6 = v->cpu->exit.debug.dr6;
	arch->dr7 = v->cpu->exit.debug.dr7;
	return TO_USER;
}

static int exit_efault(struct kvm_vcpu *v)
{
	av_warn("vCPU %u: guest memory at %#llx has no host memory behind it", v->id,
		(unsigned long long)v->cpu->exit.gpa);
	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	v->run->hw.hardware_exit_reason = 0;
	return -EFAULT;
}

static int exit_internal_error(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	u8 len = MIN(v->cpu->exit.insn.len, 15);

	av_warn("vCPU %u: cannot execute the instruction at %#llx: %s", v->id,
		(unsigned long long)x86_rip(v->cpu),
		v->cpu->exit.insn.why ? v->cpu->exit.insn.why : "unknown");
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	memset(&run->internal, 0, sizeof(run->internal));
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 1; /* the flags word */
	if (len) {
		run->emulation_failure.ndata = 3; /* and two words of size and bytes */
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = len;
		memset(run->emulation_failure.insn_bytes, 0x90,
		       sizeof(run->emulation_failure.insn_bytes));
		memcpy(run->emulation_failure.insn_bytes, v->cpu->exit.insn.bytes, len);
	}
	return TO_USER;
}

/* The instruction waits for complete_exit(), as a device's reader does. */
static int exit_msr(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->exit_reason = v->cpu->exit.msr.write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	memset(&run->msr, 0, sizeof(run->msr));
	run->msr.reason = v->cpu->exit.msr.why;
	run->msr.index = v->cpu->exit.msr.index;
	run->msr.data = v->cpu->exit.msr.value;
	v->need_completion = true;
	v->pending_exit = run->exit_reason;
	return TO_USER;
}

static int exit_tpr(struct kvm_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_SET_TPR;
	return TO_USER;
}

static int exit_request(struct kvm_vcpu *v)
{
	return GO_ON;
}

static int (*const exits[])(struct kvm_vcpu *v) = {
	[X86_EXIT_REQUEST] = exit_request,
	[X86_EXIT_IO] = exit_io,
	[X86_EXIT_MMIO] = exit_mmio,
	[X86_EXIT_HLT] = exit_hlt,
	[X86_EXIT_IRQ_WINDOW] = exit_irq_window,
	[X86_EXIT_SHUTDOWN] = exit_shutdown,
	[X86_EXIT_DEBUG] = exit_debug,
	[X86_EXIT_EFAULT] = exit_efault,
	[X86_EXIT_INTERNAL_ERROR] = exit_internal_error,
	[X86_EXIT_TPR] = exit_tpr,
	[X86_EXIT_MSR] = exit_msr,
};

/* ---- the loop ---- */

static int enter_guest(struct kvm_vcpu *v)
{
	struct x86_cpu *c = v->cpu;
	enum x86_exit_reason why;

	if (extint_deliverable(v) && !kvm_event_in_flight(v)) {
		v->ev.extint = false;
		v->ev.irq = true;
		v->ev.irq_nr = v->ev.extint_nr;
	}
	kvm_events_prepare(v);
	c->want_irq_window = window_asked(v) || v->ev.extint || v->ev.irq;
	if (c->want_irq_window && v->lapic && !kvm_lapic_accepts_extint(v))
		c->want_irq_window = v->ev.irq;
	/* Anything may have changed outside: the CPU looks at events before its first instruction.
	 */
	x86_irq_hint(c);
	v->ran_once = true;
	v->finish_insn = false;
	why = x86_run(c);
	v->exits[why]++;
	return exits[why](v);
}

/* A device access was answered but its instruction has not run since: it finishes first, so that
 * the VMM sees whole instructions. */
static int finish_insn(struct kvm_vcpu *v)
{
	int ret;

	if (!v->finish_insn)
		return GO_ON;
	x86_request(v->cpu, X86_REQ_OUT);
	ret = enter_guest(v);
	x86_unrequest(v->cpu, X86_REQ_OUT);
	return ret;
}

static int interrupted(struct kvm_vcpu *v)
{
	int ret = finish_insn(v);

	if (ret != GO_ON)
		return ret;
	v->run->exit_reason = KVM_EXIT_INTR;
	v->signal_exits++;
	return -EINTR;
}

/* What the guest reads from its memory about its time. */
static void update_time(struct kvm_vcpu *v, u32 todo)
{
	if (!(todo & (KVM_TODO_CLOCK | KVM_TODO_STEAL)))
		return;
	av_epoch_online(&v->vm->epoch, &v->cpu->reader);
	if (todo & KVM_TODO_CLOCK)
		kvm_clock_update(v);
	if (todo & KVM_TODO_STEAL)
		kvm_steal_update(v);
	av_epoch_offline(&v->cpu->reader);
}

/* Takes everything from todo but INIT and SIPI, which wait until the CPU may take them. */
static int do_todo(struct kvm_vcpu *v)
{
	u32 todo = __atomic_fetch_and(&v->todo, KVM_TODO_INIT | KVM_TODO_SIPI, __ATOMIC_SEQ_CST);

	update_time(v, todo);
	if (todo & KVM_TODO_IOAPIC_EOI) {
		/* An interruption is not lost: the run ends here as well. A kick is owed one EINTR.
		 */
		__atomic_fetch_or(&v->todo, todo & KVM_TODO_KICK, __ATOMIC_SEQ_CST);
		v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		v->run->eoi.vector = v->eoi_vector;
		return TO_USER;
	}
	if (todo & (KVM_TODO_SIGNAL | KVM_TODO_KICK))
		return interrupted(v);
	return GO_ON;
}

/* Not RUNNABLE: waits for what its MP state waits for. */
static int block(struct kvm_vcpu *v)
{
	bool halted =
		v->mp_state == KVM_MP_STATE_HALTED || v->mp_state == KVM_MP_STATE_AP_RESET_HOLD;

	if (window_asked(v) && ready_for_injection(v)) {
		v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
		return TO_USER;
	}
	/* Only INIT and SIPI, which are bits in todo, end the wait for a SIPI. */
	kvm_vcpu_sleep(v, ~0u, halted ? has_event : NULL);
	if (halted && has_event(v)) {
		__atomic_store_n(&v->pv_unhalted, 0, __ATOMIC_SEQ_CST);
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	return GO_ON;
}

static int loop(struct kvm_vcpu *v)
{
	int ret;

	do {
		x86_unrequest(v->cpu, X86_REQ_OUT);
		ret = do_todo(v);
		if (ret != GO_ON)
			break;
		kvm_accept_init_sipi(v);
		if (v->mp_state != KVM_MP_STATE_RUNNABLE) {
			ret = block(v);
		} else if (v->ev.triple_fault) {
			v->ev.triple_fault = false;
			ret = exit_shutdown(v);
		} else {
			ret = enter_guest(v);
		}
	} while (ret == GO_ON);
	return ret;
}

/* An AP that waits for its first INIT: the VMM is told to come again after it. */
static int run_uninitialized(struct kvm_vcpu *v)
{
	const u32 leave = KVM_TODO_SIGNAL | KVM_TODO_KICK;

	/* Other work waits until it runs. A wake-up for that is none here. */
	while (!(__atomic_load_n(&v->todo, __ATOMIC_SEQ_CST) &
		 (KVM_TODO_INIT | KVM_TODO_SIPI | leave)))
		kvm_vcpu_sleep(v, KVM_TODO_INIT | KVM_TODO_SIPI | leave, NULL);
	kvm_accept_init_sipi(v);
	if (__atomic_fetch_and(&v->todo, ~leave, __ATOMIC_SEQ_CST) & leave) {
		v->run->exit_reason = KVM_EXIT_INTR;
		return -EINTR;
	}
	return -EAGAIN;
}

/* KVM_CAP_SYNC_REGS. The copies keep a VMM's other threads from changing what was checked. */
static int sync_regs(struct kvm_vcpu *v)
{
	struct kvm_sync_regs *s = &v->run->s.regs;

	if (v->run->kvm_dirty_regs & KVM_SYNC_X86_REGS) {
		struct kvm_regs regs = s->regs;

		kvm_regs_set(v, &regs);
		v->run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_REGS;
	}
	if (v->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) {
		struct kvm_sregs sregs = s->sregs;

		if (kvm_sregs_set(v, &sregs))
			return -EINVAL;
		v->run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
	if (v->run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) {
		struct kvm_vcpu_events events = s->events;

		if (kvm_events_set(v, &events))
			return -EINVAL;
		v->run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

static void store_regs(struct kvm_vcpu *v)
{
	struct kvm_sync_regs *s = &v->run->s.regs;
	u64 valid = v->run->kvm_valid_regs;

	if (valid & KVM_SYNC_X86_REGS)
		kvm_regs_get(v, &s->regs);
	if (valid & KVM_SYNC_X86_SREGS)
		kvm_sregs_get(v, &s->sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		kvm_events_get(v, &s->events);
}

static void save_status(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->if_flag = !!(x86_rflags(v->cpu) & X86_FLAG_IF);
	run->cr8 = kvm_vcpu_cr8(v);
	run->apic_base = kvm_vcpu_apic_base(v);
	run->ready_for_interrupt_injection = pic_in_library(v) || ready_for_injection(v);
	if (v->cpu->smm)
		run->flags |= KVM_RUN_X86_SMM;
}

static void complete_exit(struct kvm_vcpu *v)
{
	u8 data[8];

	if (!v->need_completion)
		return;
	v->need_completion = false;
	v->finish_insn = true;
	if (v->pending_exit == KVM_EXIT_IO) {
		x86_complete_io(v->cpu);
		return;
	}
	if (v->pending_exit == KVM_EXIT_MMIO) {
		memcpy(data, v->run->mmio.data, sizeof(data));
		x86_complete_mmio(v->cpu, data);
		return;
	}
	x86_complete_msr(v->cpu, v->run->msr.error, v->run->msr.data);
}

static int run_checked(struct kvm_vcpu *v)
{
	/* Read after uapi_thread_enter(): a handler that ran before it has set it by now, a later
	 * one sets KVM_TODO_SIGNAL. */
	bool immediate = READ_ONCE(v->run->immediate_exit);
	int ret;

	v->run->flags = 0;
	if (v->mp_state == KVM_MP_STATE_UNINITIALIZED)
		return immediate ? -EINTR : run_uninitialized(v);

	if ((v->run->kvm_valid_regs | v->run->kvm_dirty_regs) & ~(u64)SYNC_FIELDS)
		return -EINVAL;
	ret = sync_regs(v);
	if (ret)
		return ret;
	if (!v->lapic && kvm_vcpu_set_cr8(v, v->run->cr8))
		return -EINVAL;
	complete_exit(v);
	if (immediate) {
		ret = finish_insn(v);
		return ret == GO_ON ? -EINTR : ret;
	}
	return loop(v);
}

long kvm_vcpu_run(struct kvm_vcpu *v)
{
	bool masked = false;
	int ret;

	/* What was handled before this call interrupts nothing. */
	__atomic_fetch_and(&v->todo, ~(u32)KVM_TODO_SIGNAL, __ATOMIC_SEQ_CST);
	if (v->steal_time_msr)
		__atomic_fetch_or(&v->todo, KVM_TODO_STEAL, __ATOMIC_SEQ_CST);
	uapi_thread_enter(after_signal, v);
	if (v->sigmask_set) {
		masked = uapi_run_mask_enter(v->sigmask);
		/* A signal that waits already ends the run before it begins. */
		if (!masked)
			after_signal(v);
	}
	/* The VMM ran since: what it wrote to guest memory may be code that was decoded before. */
	x86_code_io_epoch(v->vm->code);
	ret = run_checked(v);
	if (v->run->kvm_valid_regs)
		store_regs(v);
	save_status(v);
	kvm_binstats_update(v);
	if (masked)
		uapi_run_mask_leave();
	uapi_thread_leave();
	return ret;
}

KVM_VCPU_OP(kvm_op_run)
{
	return arg->value ? -EINVAL : kvm_vcpu_run(v);
}
