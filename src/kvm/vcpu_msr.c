// SPDX-License-Identifier: MIT
/*
 * KVM_GET_MSRS and KVM_SET_MSRS: lists of MSRs in, a count of those done out.
 *
 * Must not know any MSR: kvm/'s own are in msr.c, the CPU's in cpu/x86.
 */
#include "kvm/vcpu_priv.h"

#include <errno.h>

static int get(struct kvm_vcpu *v, u32 msr, u64 *value)
{
	int ret = kvm_get_msr(v, msr, value, true);

	return ret == -ENOENT ? x86_get_msr(v->cpu, msr, value, true) : ret;
}

static int set(struct kvm_vcpu *v, u32 msr, u64 value)
{
	int ret = kvm_set_msr(v, msr, value, true);

	return ret == -ENOENT ? x86_set_msr(v->cpu, msr, value, true) : ret;
}

/* The first MSR that fails ends the list; what was done before it stays done and is counted. */
KVM_VCPU_OP(kvm_op_get_msrs)
{
	struct kvm_msrs *msrs = arg->data;
	u32 i;

	for (i = 0; i < arg->tail_count; i++) {
		u64 value;

		if (get(v, msrs->entries[i].index, &value))
			break;
		msrs->entries[i].data = value;
	}
	return i;
}

KVM_VCPU_OP(kvm_op_set_msrs)
{
	const struct kvm_msrs *msrs = arg->data;
	u32 i;

	for (i = 0; i < arg->tail_count; i++)
		if (set(v, msrs->entries[i].index, msrs->entries[i].data))
			break;
	return i;
}
