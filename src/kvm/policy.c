// SPDX-License-Identifier: MIT
/*
 * What a VMM lets its guests do beyond their CPUID: quirks, MSRs that it answers itself, and the
 * MSR filter.
 *
 * Owns kvm_vm.policy, of which each CPU has a copy, and the filter. The filter is an immutable
 * table, replaced under vm->lock and read by vCPU threads inside their epoch.
 */
#include "kvm/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST	 0x8ff

_Static_assert(X86_MSR_INVALID == KVM_MSR_EXIT_REASON_INVAL &&
		       X86_MSR_UNKNOWN == KVM_MSR_EXIT_REASON_UNKNOWN &&
		       X86_MSR_FILTERED == KVM_MSR_EXIT_REASON_FILTER,
	       "the CPU's reasons are KVM's");

/* ---- policy bits ---- */

static void set_policy(struct kvm_vm *vm, u32 mask, u32 bits)
{
	u32 n = vm->nr_vcpus;

	vm->policy = (vm->policy & ~mask) | bits;
	for (u32 i = 0; i < n; i++)
		__atomic_store_n(&vm->vcpus[i]->cpu->policy, vm->policy, __ATOMIC_SEQ_CST);
}

/* Quirks that are the CPU's business: the policy that holds once the quirk is off. */
static const struct {
	u64 quirk;
	u32 policy;
} cpu_quirks[] = {
	{KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, X86_POLICY_MWAIT_MSR},
	{KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, X86_POLICY_MWAIT_UD},
	{KVM_X86_QUIRK_FIX_HYPERCALL_INSN, X86_POLICY_HYPERCALL_UD},
};

/* KVM takes any bits of the older command. Here both refuse a quirk that cannot be turned off. */
int kvm_enable_disable_quirks(struct kvm_vm *vm, const __u64 *args)
{
	u32 mask = 0, bits = 0;

	if (args[0] & ~(u64)KVM_AV_QUIRKS)
		return -EINVAL;
	WRITE_ONCE(vm->disabled_quirks, args[0]);
	irqchip_set_lint0_quirk(vm->ic, !(args[0] & KVM_X86_QUIRK_LINT0_REENABLED));
	for (u32 i = 0; i < ARRAY_SIZE(cpu_quirks); i++) {
		mask |= cpu_quirks[i].policy;
		if (args[0] & cpu_quirks[i].quirk)
			bits |= cpu_quirks[i].policy;
	}
	set_policy(vm, mask, bits);
	return 0;
}

int kvm_enable_platform_info(struct kvm_vm *vm, const __u64 *args)
{
	set_policy(vm, X86_POLICY_NO_PLATFORM_INFO, args[0] ? 0 : X86_POLICY_NO_PLATFORM_INFO);
	return 0;
}

int kvm_enable_user_space_msr(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] & ~(u64)X86_POLICY_MSR_EXITS)
		return -EINVAL;
	set_policy(vm, X86_POLICY_MSR_EXITS, args[0]);
	return 0;
}

/* ---- the MSR filter ---- */

struct range {
	u32 flags, base, count;
	u64 *bitmap; /* a set bit allows */
};

struct kvm_msr_filter_table {
	struct av_epoch_item retired;
	bool allow; /* what no range says anything about */
	u32 nr;
	struct range range[KVM_MSR_FILTER_MAX_RANGES];
};

static void filter_free(struct av_epoch_item *item)
{
	struct kvm_msr_filter_table *t = container_of(item, struct kvm_msr_filter_table, retired);

	for (u32 i = 0; i < t->nr; i++)
		free(t->range[i].bitmap);
	free(t);
}

void kvm_msr_filter_destroy(struct kvm_vm *vm)
{
	if (vm->msr_filter)
		filter_free(&vm->msr_filter->retired);
}

bool kvm_op_msr_allowed(void *m, u32 msr, bool write)
{
	struct kvm_vcpu *v = m;
	const struct kvm_msr_filter_table *t = LOAD_ACQUIRE(v->vm->msr_filter);
	u32 access = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

	if (!t || (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST))
		return true;
	for (u32 i = 0; i < t->nr; i++) {
		const struct range *r = &t->range[i];
		u32 n = msr - r->base;

		/* A range that runs over the end of the numbers begins nowhere, as in KVM. */
		if (r->flags & access && msr >= r->base && msr < r->base + r->count)
			return r->bitmap[n / 64] >> n % 64 & 1;
	}
	return t->allow;
}

/* -EINVAL, -ENOMEM, -EFAULT. A range without MSRs says nothing. */
static int add_range(struct kvm_msr_filter_table *t, const struct kvm_msr_filter_range *in)
{
	size_t size = (in->nmsrs + 63ull) / 64 * 8;
	u64 *bitmap;

	if (!in->nmsrs)
		return 0;
	if (in->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) || !in->flags)
		return -EINVAL;
	if (size > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	bitmap = malloc(size);
	if (!bitmap)
		return -ENOMEM;
	if (uapi_copy_in(bitmap, (uintptr_t)in->bitmap, size)) {
		free(bitmap);
		return -EFAULT;
	}
	t->range[t->nr++] = (struct range){in->flags, in->base, in->nmsrs, bitmap};
	return 0;
}

static int make_filter(const struct kvm_msr_filter *in, struct kvm_msr_filter_table **out)
{
	struct kvm_msr_filter_table *t;
	bool empty = true;
	int rc = 0;

	for (u32 i = 0; i < ARRAY_SIZE(in->ranges); i++)
		empty &= !in->ranges[i].nmsrs;
	/* One that denies everything is taken for a mistake. */
	if (in->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY || (empty && in->flags))
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->retired.free = filter_free;
	t->allow = !(in->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (u32 i = 0; i < ARRAY_SIZE(in->ranges) && !rc; i++)
		rc = add_range(t, &in->ranges[i]);
	if (rc)
		filter_free(&t->retired);
	else
		*out = t;
	return rc;
}

KVM_VM_IOCTL(kvm_vm_set_msr_filter)
{
	struct kvm_msr_filter_table *old = vm->msr_filter, *new;
	int rc = make_filter(arg->data, &new);

	if (rc)
		return rc;
	STORE_RELEASE(vm->msr_filter, new);
	set_policy(vm, X86_POLICY_MSR_FILTER, X86_POLICY_MSR_FILTER);
	/* Every vCPU passes between two instructions: none is still judged by the old one when this
	 * returns. */
	kvm_flush_vcpus(vm);
	if (old)
		av_epoch_retire(&vm->epoch, &old->retired);
	return 0;
}
