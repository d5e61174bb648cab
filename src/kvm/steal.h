/* SPDX-License-Identifier: MIT */
/*
 * Steal time: how long a vCPU's thread was ready to run and did not (steal.c).
 */
#ifndef AV_KVM_STEAL_H
#define AV_KVM_STEAL_H

#include "kvm/vcpu_priv.h"

/* Does this host keep run delays? Looked up once. */
bool kvm_steal_supported(void);
int kvm_steal_set_msr(struct kvm_vcpu *v, u64 value);
/* Before the guest runs on: brings the guest's record up to date. owner, epoch online */
void kvm_steal_update(struct kvm_vcpu *v);
/* INIT: the guest's record is forgotten. owner */
void kvm_steal_reset(struct kvm_vcpu *v);
/* Before the vCPUs go. */
void kvm_steal_destroy(struct kvm_vm *vm);

#endif
