/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_STATS_FD: statistics of a VM or a vCPU as a file (binstats.c).
 */
#ifndef AV_KVM_BINSTATS_H
#define AV_KVM_BINSTATS_H

#include "kvm/vcpu_priv.h"
#include "kvm/vm_ioctls.h"

KVM_HANDLER(kvm_vm_get_stats_fd);
KVM_VCPU_OP(kvm_op_get_stats_fd);
/* Brings the vCPU's file, if it has one, up to date. owner */
void kvm_binstats_update(struct kvm_vcpu *v);
/* Before the vCPUs go. */
void kvm_binstats_destroy(struct kvm_vm *vm);

#endif
