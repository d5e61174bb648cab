/* SPDX-License-Identifier: MIT */
/*
 * What a VMM lets its guests do beyond their CPUID (policy.c).
 */
#ifndef AV_KVM_POLICY_H
#define AV_KVM_POLICY_H

#include "kvm/vm_ioctls.h"

/* The quirks whose absence somebody here looks at. */
#define KVM_AV_QUIRKS                                                                              \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |                           \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN |                   \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

/* KVM_ENABLE_CAP on the VM, under vm->lock. */
int kvm_enable_disable_quirks(struct kvm_vm *vm, const __u64 *args);
int kvm_enable_platform_info(struct kvm_vm *vm, const __u64 *args);
int kvm_enable_user_space_msr(struct kvm_vm *vm, const __u64 *args);

KVM_HANDLER(kvm_vm_set_msr_filter);
/* There are no vCPUs any more. */
void kvm_msr_filter_destroy(struct kvm_vm *vm);
/* The machine_ops member msr_allowed. m: struct kvm_vcpu */
bool kvm_op_msr_allowed(void *m, u32 msr, bool write);

#endif
