// SPDX-License-Identifier: MIT
/*
 * What is about to happen to a vCPU: exceptions, interrupts, NMIs, SMIs, machine checks, INIT and
 * SIPI, and its MP state.
 *
 * Owns kvm_vcpu.ev and the MP state's changes. The engine holds one event at a time (cpu->inject);
 * KVM's structs can name an exception, an NMI and an interrupt at once, so the later ones queue in
 * kvm_vcpu.ev in KVM's order of priority.
 */
#include "kvm/steal.h"

#include <errno.h>
#include <string.h>

#define NR_INTERRUPTS 256

#define MCG_STATUS_MCIP BIT64(2)
#define MCG_CTL_P	BIT64(8)
#define MCG_CMCI_P	BIT64(10)
#define MCI_CTL2_CMCI_EN BIT64(30)
#define MCI_STATUS_AR	BIT64(55)
#define MCI_STATUS_S	BIT64(56)
#define MCI_STATUS_PCC	BIT64(57)
#define MCI_STATUS_UC	BIT64(61)
#define MCI_STATUS_OVER BIT64(62)
#define MCI_STATUS_VAL	BIT64(63)
/* A bank's four MSRs. */
enum { MCI_CTL, MCI_STATUS, MCI_ADDR, MCI_MISC, MCI_REGS };

/* ---- the queue ---- */

static bool is_exception(u8 type)
{
	return type == X86_EV_HWEXC || type == X86_EV_SOFTEXC || type == X86_EV_PRIVSW;
}

bool kvm_exception_queued(const struct kvm_vcpu *v)
{
	return v->cpu->inject.pending && is_exception(v->cpu->inject.type);
}

bool kvm_event_in_flight(const struct kvm_vcpu *v)
{
	return v->cpu->inject.pending || v->ev.irq || v->ev.nmi;
}

u32 kvm_interrupt_shadow(const struct kvm_vcpu *v)
{
	return x86_rip(v->cpu) == v->cpu->shadow_rip ? v->cpu->shadow : 0;
}

bool kvm_takes_interrupts(const struct kvm_vcpu *v)
{
	return x86_rflags(v->cpu) & X86_FLAG_IF && !kvm_interrupt_shadow(v);
}

static void inject(struct kvm_vcpu *v, enum x86_event_type type, u8 vector, bool has_error,
		   u32 error)
{
	v->cpu->inject.type = type;
	v->cpu->inject.vector = vector;
	v->cpu->inject.has_error = has_error;
	v->cpu->inject.error = error;
	v->cpu->inject.pending = true;
}

/* Whatever waits in cpu->inject goes back into the queue, so that an exception can take its place.
 */
static void requeue(struct kvm_vcpu *v)
{
	if (!v->cpu->inject.pending)
		return;
	if (v->cpu->inject.type == X86_EV_EXTINT) {
		v->ev.irq = true;
		v->ev.irq_nr = v->cpu->inject.vector;
	} else if (v->cpu->inject.type == X86_EV_NMI) {
		v->ev.nmi = true;
	}
	v->cpu->inject.pending = false;
}

static enum x86_event_type exception_type(u8 vector)
{
	return vector == X86_BP || vector == X86_OF ? X86_EV_SOFTEXC : X86_EV_HWEXC;
}

void kvm_queue_exception(struct kvm_vcpu *v, u8 vector, bool has_error, u32 error)
{
	requeue(v);
	inject(v, exception_type(vector), vector, has_error, error);
	v->ev.pending = true;
	v->ev.has_payload = v->ev.soft_rip = false;
}

static void deliver_payload(struct kvm_vcpu *v)
{
	struct x86_cpu *cpu = v->cpu;

	if (!v->ev.has_payload)
		return;
	v->ev.has_payload = false;
	if (cpu->inject.vector == X86_PF)
		cpu->cr2 = v->ev.payload;
	else if (cpu->inject.vector == X86_DB)
		cpu->dr6 = (cpu->dr6 & ~15ull) | v->ev.payload;
}

void kvm_events_prepare(struct kvm_vcpu *v)
{
	struct x86_cpu *cpu = v->cpu;

	if (!cpu->inject.pending) {
		v->ev.pending = v->ev.soft_rip = false;
		if (v->ev.nmi) {
			v->ev.nmi = false;
			inject(v, X86_EV_NMI, X86_NMI, false, 0);
		} else if (v->ev.irq && kvm_takes_interrupts(v)) {
			v->ev.irq = false;
			inject(v, X86_EV_EXTINT, v->ev.irq_nr, false, 0);
		}
		return;
	}
	if (v->ev.pending)
		deliver_payload(v);
	/* INT3 and INTO return behind themselves, and KVM's structs give no instruction length. */
	if (cpu->inject.type == X86_EV_SOFTEXC && !v->ev.soft_rip) {
		cpu->rip++;
		v->ev.soft_rip = true;
	}
	/* Behind an exception an NMI can only pend; an interrupt waits until the guest takes it
	 * (run.c asks for a window). */
	if (v->ev.nmi) {
		v->ev.nmi = false;
		x86_raise_nmi(cpu);
	}
}

/* ---- KVM_GET/SET_VCPU_EVENTS ---- */

void kvm_events_get(struct kvm_vcpu *v, struct kvm_vcpu_events *out)
{
	struct x86_cpu *cpu = v->cpu;
	bool queued = kvm_exception_queued(v);

	memset(out, 0, sizeof(*out));
	if (!queued)
		v->ev.has_payload = false;
	/* Without the payload capability the VMM could not give it back: then CR2 or DR6 has to be
	 * right already. */
	if (queued && !v->vm->exception_payload)
		deliver_payload(v);
	/* The instruction that made a software exception will make it again: KVM does not report
	 * those. */
	if (queued && cpu->inject.type == X86_EV_HWEXC) {
		out->exception.pending = v->ev.pending;
		out->exception.injected = !v->ev.pending || !v->vm->exception_payload;
	}
	if (queued) {
		out->exception.nr = cpu->inject.vector;
		out->exception.has_error_code = cpu->inject.has_error;
		out->exception.error_code = cpu->inject.error;
		out->exception_has_payload = v->ev.has_payload;
		out->exception_payload = v->ev.has_payload ? v->ev.payload : 0;
	}
	if (cpu->inject.pending && cpu->inject.type == X86_EV_EXTINT) {
		out->interrupt.injected = 1;
		out->interrupt.nr = cpu->inject.vector;
	} else if (v->ev.irq) {
		out->interrupt.injected = 1;
		out->interrupt.nr = v->ev.irq_nr;
	}
	out->interrupt.shadow = kvm_interrupt_shadow(v);
	out->nmi.injected = v->ev.nmi || (cpu->inject.pending && cpu->inject.type == X86_EV_NMI);
	out->nmi.pending = LOAD_ACQUIRE(cpu->nmi_pending) != 0;
	out->nmi.masked = cpu->nmi_masked;
	out->smi.smm = cpu->smm;
	out->smi.pending = LOAD_ACQUIRE(cpu->smi_pending) != 0;
	out->smi.latched_init = !!(LOAD_ACQUIRE(v->todo) & KVM_TODO_INIT);
	out->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		     KVM_VCPUEVENT_VALID_SMM;
	if (v->vm->exception_payload)
		out->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (v->vm->triple_fault_event) {
		out->triple_fault.pending = v->ev.triple_fault;
		out->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
}

#define KNOWN_EVENT_FLAGS                                                                          \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                       \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |      \
	 KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static int check_events(const struct kvm_vcpu *v, struct kvm_vcpu_events *in)
{
	if (in->flags & ~(u32)KNOWN_EVENT_FLAGS)
		return -EINVAL;
	if (in->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		if (!v->vm->exception_payload)
			return -EINVAL;
		if (in->exception.pending)
			in->exception.injected = 0;
		else
			in->exception_has_payload = 0;
	} else {
		in->exception.pending = 0;
		in->exception_has_payload = 0;
	}
	if ((in->exception.injected || in->exception.pending) &&
	    (in->exception.nr > 31 || in->exception.nr == X86_NMI))
		return -EINVAL;
	/* INIT waits while the CPU is in SMM, so it cannot have been taken there. */
	if (in->flags & KVM_VCPUEVENT_VALID_SMM && (in->smi.smm || in->smi.pending) &&
	    v->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return -EINVAL;
	if (in->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && !v->vm->triple_fault_event)
		return -EINVAL;
	return 0;
}

int kvm_events_set(struct kvm_vcpu *v, struct kvm_vcpu_events *in)
{
	struct x86_cpu *cpu = v->cpu;
	int ret = check_events(v, in);

	if (ret)
		return ret;

	cpu->inject.pending = false;
	v->ev.pending = v->ev.has_payload = v->ev.soft_rip = false;
	v->ev.nmi = in->nmi.injected;
	v->ev.irq = in->interrupt.injected;
	v->ev.irq_nr = in->interrupt.nr;
	if (in->exception.injected || in->exception.pending) {
		inject(v, exception_type(in->exception.nr), in->exception.nr,
		       in->exception.has_error_code, in->exception.error_code);
		v->ev.pending = in->exception.pending;
		v->ev.has_payload = in->exception_has_payload;
		v->ev.payload = in->exception_payload;
	}

	if (in->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		cpu->shadow = in->interrupt.shadow & (X86_SHADOW_MOV_SS | X86_SHADOW_STI);
		cpu->shadow_rip = x86_rip(cpu);
	}
	if (in->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		__atomic_store_n(&cpu->nmi_pending, !!in->nmi.pending, __ATOMIC_SEQ_CST);
	cpu->nmi_masked = in->nmi.masked;
	if (in->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && v->lapic)
		WRITE_ONCE(v->sipi_vector, in->sipi_vector);
	if (in->flags & KVM_VCPUEVENT_VALID_SMM) {
		if (cpu->smm != !!in->smi.smm) {
			cpu->smm = in->smi.smm;
			x86_state_changed(cpu, false);
		}
		__atomic_store_n(&cpu->smi_pending, !!in->smi.pending, __ATOMIC_SEQ_CST);
		if (v->lapic && in->smi.latched_init)
			__atomic_fetch_or(&v->todo, KVM_TODO_INIT, __ATOMIC_SEQ_CST);
		else if (v->lapic)
			__atomic_fetch_and(&v->todo, ~(u32)KVM_TODO_INIT, __ATOMIC_SEQ_CST);
	}
	if (in->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		v->ev.triple_fault = in->triple_fault.pending;
	x86_irq_hint(cpu);
	return 0;
}

KVM_VCPU_OP(kvm_op_get_events)
{
	kvm_events_get(v, arg->data);
	return 0;
}

KVM_VCPU_OP(kvm_op_set_events)
{
	return kvm_events_set(v, arg->data);
}

/* ---- single events ---- */

bool kvm_lapic_accepts_extint(struct kvm_vcpu *v)
{
	/* A VMM's PIC is wired to every vCPU, not only to the boot CPU. */
	return !(lapic_base(v->lapic) & BIT(11)) || lapic_accepts_extint(v->lapic);
}

void kvm_extint_recheck(struct kvm_vcpu *v)
{
	if (irqchip_is_split(v->vm->ic) &&
	    (v->ev.extint || READ_ONCE(v->run->request_interrupt_window)))
		x86_request(v->cpu, X86_REQ_OUT);
}

KVM_VCPU_OP(kvm_op_interrupt)
{
	const struct kvm_interrupt *in = arg->data;

	if (in->irq >= NR_INTERRUPTS)
		return -EINVAL;
	if (!kvm_irqchip_in_kernel(v->vm)) {
		if (v->cpu->inject.pending && v->cpu->inject.type == X86_EV_EXTINT) {
			v->cpu->inject.vector = in->irq;
		} else {
			v->ev.irq = true;
			v->ev.irq_nr = in->irq;
		}
		return 0;
	}
	/* With LAPICs here, this is the INTA answer of a PIC in the VMM; with the PIC here too it
	 * has no meaning. */
	if (irqchip_has_chips(v->vm->ic))
		return -ENXIO;
	if (v->ev.extint)
		return -EEXIST;
	v->ev.extint = true;
	v->ev.extint_nr = in->irq;
	return 0;
}

KVM_VCPU_OP(kvm_op_nmi)
{
	x86_raise_nmi(v->cpu);
	return 0;
}

KVM_VCPU_OP(kvm_op_smi)
{
	x86_raise_smi(v->cpu);
	return 0;
}

/* ---- MP state ---- */

/* SDM vol. 3 "MP Initialization": INIT is held while in SMM; a SIPI counts only while the CPU waits
 * for one. */
void kvm_accept_init_sipi(struct kvm_vcpu *v)
{
	u32 todo;

	if (!(LOAD_ACQUIRE(v->todo) & (KVM_TODO_INIT | KVM_TODO_SIPI)))
		return;
	if (v->cpu->smm) {
		__atomic_fetch_and(&v->todo, ~(u32)KVM_TODO_SIPI, __ATOMIC_SEQ_CST);
		return;
	}
	todo = __atomic_fetch_and(&v->todo, ~(u32)(KVM_TODO_INIT | KVM_TODO_SIPI),
				  __ATOMIC_SEQ_CST);
	if (todo & KVM_TODO_INIT) {
		x86_reset(v->cpu, true);
		kvm_steal_reset(v);
		if (v->lapic)
			lapic_reset(v->lapic, true);
		memset(&v->ev, 0, sizeof(v->ev));
		v->need_completion = v->finish_insn = false;
		v->mp_state =
			v->id == v->vm->bsp_id ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if (todo & KVM_TODO_SIPI && v->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		x86_sipi(v->cpu, READ_ONCE(v->sipi_vector));
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

KVM_VCPU_OP(kvm_op_get_mp_state)
{
	struct kvm_mp_state *out = arg->data;

	kvm_accept_init_sipi(v);
	out->mp_state = v->mp_state;
	return 0;
}

KVM_VCPU_OP(kvm_op_set_mp_state)
{
	const struct kvm_mp_state *in = arg->data;
	bool init_or_sipi = in->mp_state == KVM_MP_STATE_INIT_RECEIVED ||
			    in->mp_state == KVM_MP_STATE_SIPI_RECEIVED;

	switch (in->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_AP_RESET_HOLD:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (!v->lapic)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (init_or_sipi && (v->cpu->smm || LOAD_ACQUIRE(v->cpu->smi_pending)))
		return -EINVAL;
	if (in->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		__atomic_fetch_or(&v->todo, KVM_TODO_SIPI, __ATOMIC_SEQ_CST);
	} else {
		v->mp_state = in->mp_state;
	}
	x86_irq_hint(v->cpu);
	return 0;
}

/* ---- the local APIC's image ---- */

KVM_VCPU_OP(kvm_op_get_lapic)
{
	if (!v->lapic)
		return -EINVAL;
	lapic_get(v->lapic, arg->data);
	return 0;
}

KVM_VCPU_OP(kvm_op_set_lapic)
{
	struct kvm_lapic_state state;
	int ret;

	if (!v->lapic)
		return -EINVAL;
	if (uapi_copy_in(&state, arg->value, sizeof(state)))
		return -EFAULT;
	ret = lapic_set(v->lapic, &state);
	if (!ret)
		x86_irq_hint(v->cpu);
	return ret;
}

KVM_VCPU_OP(kvm_op_tpr_access_reporting)
{
	const struct kvm_tpr_access_ctl *in = arg->data;

	if (in->flags)
		return -EINVAL;
	/* Hardware without TPR traps reports none either: the flag is kept, no access ever needs
	 * reporting. */
	v->tpr_reporting = in->enabled;
	return 0;
}

KVM_VCPU_OP(kvm_op_set_vapic_addr)
{
	struct kvm_vapic_addr in;
	u64 left;
	int ret = 0;

	if (!v->lapic)
		return -EINVAL;
	if (uapi_copy_in(&in, arg->value, sizeof(in)))
		return -EFAULT;
	av_epoch_online(&v->vm->epoch, &v->cpu->reader);
	if (in.vapic_addr && (!mem_host(v->vm->mem, 0, in.vapic_addr, &left) || left < 4))
		ret = -EINVAL;
	av_epoch_offline(&v->cpu->reader);
	if (!ret)
		v->vapic_addr = in.vapic_addr;
	return ret;
}

/* ---- machine checks ---- */

KVM_VCPU_OP(kvm_op_setup_mce)
{
	u64 cap = *(const u64 *)arg->data;
	u32 banks = cap & 0xff;

	/* Bits 16-23 are the count of extended registers, which user space may claim freely. */
	if (!banks || banks > KVM_AV_MCE_BANKS || cap & ~(kvm_mce_cap() | 0xff | 0xff0000))
		return -EINVAL;
	v->cpu->msr.mcg_cap = cap;
	if (cap & MCG_CTL_P)
		v->cpu->msr.mcg_ctl = ~0ull;
	for (u32 i = 0; i < banks; i++)
		v->cpu->msr.mc_banks[i * MCI_REGS + MCI_CTL] = ~0ull;
	memset(v->cpu->msr.mci_ctl2, 0, sizeof(v->cpu->msr.mci_ctl2));
	if (v->lapic)
		lapic_set_cmci(v->lapic, cap & MCG_CMCI_P);
	return 0;
}

/* Uncorrected, no action required: logged, and signalled as corrected errors are, if the bank says so. */
static bool is_ucna(const struct kvm_x86_mce *mce)
{
	return !mce->mcg_status &&
	       !(mce->status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR)) &&
	       mce->status & MCI_STATUS_UC;
}

static void log_mce(u64 *bank, const struct kvm_x86_mce *mce)
{
	u64 over = bank[MCI_STATUS] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0;

	bank[MCI_ADDR] = mce->addr;
	bank[MCI_MISC] = mce->misc;
	bank[MCI_STATUS] = mce->status | over;
}

KVM_VCPU_OP(kvm_op_set_mce)
{
	const struct kvm_x86_mce *mce = arg->data;
	struct x86_cpu *cpu = v->cpu;
	bool uncorrected = mce->status & MCI_STATUS_UC;
	u64 *bank;

	if (mce->bank >= (cpu->msr.mcg_cap & 0xff) || !(mce->status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = cpu->msr.mc_banks + mce->bank * MCI_REGS;
	if (is_ucna(mce)) {
		bank[MCI_ADDR] = mce->addr;
		bank[MCI_MISC] = mce->misc;
		bank[MCI_STATUS] = mce->status;
		cpu->msr.mcg_status = 0;
		if (v->lapic && cpu->msr.mcg_cap & MCG_CMCI_P &&
		    cpu->msr.mci_ctl2[mce->bank] & MCI_CTL2_CMCI_EN)
			lapic_local_deliver(v->lapic, LAPIC_LVT_CMCI);
		return 0;
	}
	if (!uncorrected) {
		/* A corrected error never overwrites an uncorrected one. */
		if (bank[MCI_STATUS] & MCI_STATUS_VAL && bank[MCI_STATUS] & MCI_STATUS_UC)
			bank[MCI_STATUS] |= MCI_STATUS_OVER;
		else
			log_mce(bank, mce);
		return 0;
	}
	/* The guest switched reporting off for all banks or for this one. */
	if ((cpu->msr.mcg_cap & MCG_CTL_P && cpu->msr.mcg_ctl != ~0ull) || bank[MCI_CTL] != ~0ull)
		return 0;
	if (cpu->msr.mcg_status & MCG_STATUS_MCIP || !(cpu->cr4 & X86_CR4_MCE)) {
		v->ev.triple_fault = true;
		return 0;
	}
	log_mce(bank, mce);
	cpu->msr.mcg_status = mce->mcg_status;
	kvm_queue_exception(v, X86_MC, false, 0);
	return 0;
}
