/* SPDX-License-Identifier: MIT */
/*
 * What the vCPU's own files share: the operations behind its ioctls, and the state transfers that
 * KVM_CAP_SYNC_REGS does too.
 *
 * Every function here runs with vcpu->lock held, so it owns the CPU, unless it says otherwise.
 */
#ifndef AV_KVM_VCPU_PRIV_H
#define AV_KVM_VCPU_PRIV_H

#include "kvm/kvm_priv.h"

/* An ioctl's operation: vcpu.c takes the lock around it and lists it in the table. */
#define KVM_VCPU_OP(name) long name(struct kvm_vcpu *v, struct uapi_arg *arg)

/* vcpu_regs.c */
KVM_VCPU_OP(kvm_op_get_regs);
KVM_VCPU_OP(kvm_op_set_regs);
KVM_VCPU_OP(kvm_op_get_sregs);
KVM_VCPU_OP(kvm_op_set_sregs);
KVM_VCPU_OP(kvm_op_get_sregs2);
KVM_VCPU_OP(kvm_op_set_sregs2);
KVM_VCPU_OP(kvm_op_get_debugregs);
KVM_VCPU_OP(kvm_op_set_debugregs);
KVM_VCPU_OP(kvm_op_translate);
void kvm_regs_get(struct kvm_vcpu *v, struct kvm_regs *out);
void kvm_regs_set(struct kvm_vcpu *v, const struct kvm_regs *in);
void kvm_sregs_get(struct kvm_vcpu *v, struct kvm_sregs *out);
int kvm_sregs_set(struct kvm_vcpu *v, const struct kvm_sregs *in);
/* CR8 and IA32_APIC_BASE, wherever the local APIC lives. set: -EINVAL. */
u64 kvm_vcpu_cr8(struct kvm_vcpu *v);
int kvm_vcpu_set_cr8(struct kvm_vcpu *v, u64 cr8);
u64 kvm_vcpu_apic_base(struct kvm_vcpu *v);
int kvm_vcpu_set_apic_base(struct kvm_vcpu *v, u64 base, bool host_initiated);

/* vcpu_fpu.c */
KVM_VCPU_OP(kvm_op_get_fpu);
KVM_VCPU_OP(kvm_op_set_fpu);
KVM_VCPU_OP(kvm_op_get_xsave);
KVM_VCPU_OP(kvm_op_set_xsave);
KVM_VCPU_OP(kvm_op_get_xcrs);
KVM_VCPU_OP(kvm_op_set_xcrs);

/* vcpu_events.c */
KVM_VCPU_OP(kvm_op_get_events);
KVM_VCPU_OP(kvm_op_set_events);
KVM_VCPU_OP(kvm_op_interrupt);
KVM_VCPU_OP(kvm_op_nmi);
KVM_VCPU_OP(kvm_op_smi);
KVM_VCPU_OP(kvm_op_get_mp_state);
KVM_VCPU_OP(kvm_op_set_mp_state);
KVM_VCPU_OP(kvm_op_get_lapic);
KVM_VCPU_OP(kvm_op_set_lapic);
KVM_VCPU_OP(kvm_op_setup_mce);
KVM_VCPU_OP(kvm_op_set_mce);
KVM_VCPU_OP(kvm_op_tpr_access_reporting);
KVM_VCPU_OP(kvm_op_set_vapic_addr);
void kvm_events_get(struct kvm_vcpu *v, struct kvm_vcpu_events *out);
int kvm_events_set(struct kvm_vcpu *v, struct kvm_vcpu_events *in);
/* Puts an exception into cpu->inject, as one that KVM would call pending. */
void kvm_queue_exception(struct kvm_vcpu *v, u8 vector, bool has_error, u32 error);
/* Is an exception waiting to be delivered? */
bool kvm_exception_queued(const struct kvm_vcpu *v);
/* Is an external interrupt, an NMI or an exception half-delivered, so that user space must not
 * inject another? */
bool kvm_event_in_flight(const struct kvm_vcpu *v);
/* Before the guest is entered: puts the next event in line into cpu->inject. */
void kvm_events_prepare(struct kvm_vcpu *v);
/* Does the interrupt shadow of STI or MOV SS hold at the present RIP? X86_SHADOW_* */
u32 kvm_interrupt_shadow(const struct kvm_vcpu *v);
/* Takes INIT and SIPI from todo; changes mp_state. */
void kvm_accept_init_sipi(struct kvm_vcpu *v);
/* Does the LAPIC pass interrupts of an external PIC (LVT0 unmasked in ExtINT mode, or no LAPIC
 * enabled)? */
bool kvm_lapic_accepts_extint(struct kvm_vcpu *v);
/* The guest changed its LAPIC: with a VMM's PIC, a window may have opened that run.c did not ask
 * the CPU for. */
void kvm_extint_recheck(struct kvm_vcpu *v);
/* RFLAGS.IF and no interrupt shadow. */
bool kvm_takes_interrupts(const struct kvm_vcpu *v);

/* vcpu_msr.c */
KVM_VCPU_OP(kvm_op_get_msrs);
KVM_VCPU_OP(kvm_op_set_msrs);

/* vcpu_cpuid.c */
KVM_VCPU_OP(kvm_op_set_cpuid);
KVM_VCPU_OP(kvm_op_set_cpuid2);
KVM_VCPU_OP(kvm_op_get_cpuid2);
/* The guest's entry, or NULL. index counts only where the entry says so. */
const struct kvm_cpuid_entry2 *kvm_find_cpuid(const struct kvm_cpuid_entry2 *e, u32 n, u32 function,
					      u32 index);
/* The XCR0 bits that the guest's CPUID and the host allow. */
u64 kvm_guest_xcr0(const struct kvm_vcpu *v);

/* vcpu_misc.c */
KVM_VCPU_OP(kvm_op_set_signal_mask);
KVM_VCPU_OP(kvm_op_set_tsc_khz);
KVM_VCPU_OP(kvm_op_get_tsc_khz);
KVM_VCPU_OP(kvm_op_kvmclock_ctrl);
KVM_VCPU_OP(kvm_op_set_guest_debug);
KVM_VCPU_OP(kvm_op_enable_cap);
KVM_VCPU_OP(kvm_op_has_device_attr);
KVM_VCPU_OP(kvm_op_get_device_attr);
KVM_VCPU_OP(kvm_op_set_device_attr);
/* -EINVAL: no such frequency. */
int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *v, u32 khz);
/* The VMM sets the guest's TSC: vCPUs set alike are given the very same offset. Takes vm->lock. */
void kvm_vcpu_set_tsc(struct kvm_vcpu *v, u64 tsc);
/* The same with vm->lock held. */
void kvm_vcpu_set_tsc_locked(struct kvm_vcpu *v, u64 tsc);

/*
 * clock.c: guest RAM for a small structure of a vCPU's, marked dirty, as a host address; 0: none. owner, epoch online. MSR writes also
 * arrive from ioctls, when the vCPU is outside its epoch.
 */
u64 kvm_guest_struct(struct kvm_vcpu *v, u64 gpa, u64 size);

/* run.c */
KVM_VCPU_OP(kvm_op_run);

/* world.c */
/* Sleeps until kvm_vcpu_kick(), unless one of those bits is to do or ready(v) (may be NULL) holds
 * already: no wake-up is lost. owner */
void kvm_vcpu_sleep(struct kvm_vcpu *v, u32 todo, bool (*ready)(struct kvm_vcpu *v));

/* msr.c */
u64 kvm_arch_capabilities(void);
u64 kvm_ucode_rev(void);

#endif
