// SPDX-License-Identifier: MIT
/*
 * A vCPU's CPUID as the VMM sets and reads it.
 *
 * Owns kvm_vcpu.cpuid and what kvm/ derives from it; the CPU gets its own copy and derives its
 * features itself. What may be offered at all is cpuid.c's business: as in KVM, a VMM may set bits
 * that are not.
 */
#include "kvm/vcpu_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF1_ECX_OSXSAVE BIT(27)
#define LEAF1_ECX_MWAIT	  BIT(3)
#define MISC_ENABLE_MWAIT BIT64(18)
#define LEAF1_EDX_APIC	  BIT(9)
#define LEAF7_ECX_PKU	  BIT(3)
#define LEAF7_ECX_OSPKE	  BIT(4)
#define LEAFD1_EAX_XSAVEC BIT(1)
#define LEAFD1_EAX_XSAVES BIT(3)
/* XCR0 components that need a permission KVM asks of the process: AMX tile data. */
#define XFEATURE_DYNAMIC BIT64(18)

const struct kvm_cpuid_entry2 *kvm_find_cpuid(const struct kvm_cpuid_entry2 *e, u32 n, u32 function,
					      u32 index)
{
	for (u32 i = 0; i < n; i++) {
		if (e[i].function != function)
			continue;
		if (!(e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e[i].index == index)
			return &e[i];
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid_entry2 *e, u32 n, u32 function, u32 index)
{
	return (struct kvm_cpuid_entry2 *)kvm_find_cpuid(e, n, function, index);
}

static void put_bit(u32 *reg, u32 bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

static bool apic_enabled(struct kvm_vcpu *v)
{
	return kvm_vcpu_apic_base(v) & BIT(11);
}

/* Size of the compacted format for these components, from their sizes in the same table. */
static u32 compacted_size(const struct kvm_cpuid_entry2 *e, u32 n, u64 xcr0)
{
	u32 size = 576;

	for (u32 i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *c;

		if (!(xcr0 & BIT64(i)))
			continue;
		c = kvm_find_cpuid(e, n, 0xd, i);
		if (!c)
			continue;
		size = (c->ecx & BIT(1) ? ALIGN_UP(size, 64) : size) + c->eax;
	}
	return size;
}

/* The bits that follow the CPU's state rather than the VMM's wish; the CPU does the same for the
 * guest. */
static void follow_state(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *e, u32 n)
{
	const struct x86_cpu *cpu = v->cpu;
	struct kvm_cpuid_entry2 *leaf = find(e, n, 1, 0);

	if (leaf) {
		put_bit(&leaf->ecx, LEAF1_ECX_OSXSAVE, cpu->cr4 & X86_CR4_OSXSAVE);
		put_bit(&leaf->edx, LEAF1_EDX_APIC, apic_enabled(v));
		if (READ_ONCE(cpu->policy) & X86_POLICY_MWAIT_MSR)
			put_bit(&leaf->ecx, LEAF1_ECX_MWAIT,
				cpu->msr.misc_enable & MISC_ENABLE_MWAIT);
	}
	leaf = find(e, n, 7, 0);
	if (leaf && leaf->ecx & LEAF7_ECX_PKU)
		put_bit(&leaf->ecx, LEAF7_ECX_OSPKE, cpu->cr4 & X86_CR4_PKE);
	leaf = find(e, n, 0xd, 0);
	if (leaf)
		leaf->ebx = x86_xsave_size(cpu->xcr0);
	leaf = find(e, n, 0xd, 1);
	if (leaf && leaf->eax & (LEAFD1_EAX_XSAVEC | LEAFD1_EAX_XSAVES))
		leaf->ebx = compacted_size(e, n, cpu->xcr0);
}

u64 kvm_guest_xcr0(const struct kvm_vcpu *v)
{
	const struct kvm_cpuid_entry2 *leaf = kvm_find_cpuid(v->cpuid, v->nr_cpuid, 0xd, 0);

	return leaf ? (leaf->eax | (u64)leaf->edx << 32) & x86_host_xcr0() : 0;
}

/* The features word of the leaf range that carries KVM's signature; 0 without one. */
static u32 pv_features(const struct kvm_cpuid_entry2 *e, u32 n)
{
	for (u32 base = 0x40000000; base < 0x40010000; base += 0x100) {
		const struct kvm_cpuid_entry2 *sig = kvm_find_cpuid(e, n, base, 0);
		const struct kvm_cpuid_entry2 *features;

		if (!sig || memcmp(&sig->ebx, "KVMK", 4) || memcmp(&sig->ecx, "VMKV", 4) ||
		    memcmp(&sig->edx, "M\0\0", 4))
			continue;
		features = kvm_find_cpuid(e, n, base | 1, 0);
		return features ? features->eax : 0;
	}
	return 0;
}

static int check(const struct kvm_cpuid_entry2 *e, u32 n)
{
	const struct kvm_cpuid_entry2 *leaf = kvm_find_cpuid(e, n, 0x80000008, 0);

	if (leaf) {
		u32 virt = leaf->eax >> 8 & 0xff;

		if (virt != 48 && virt != 57 && virt != 0)
			return -EINVAL;
	}
	leaf = kvm_find_cpuid(e, n, 0xd, 0);
	if (leaf && (leaf->eax | (u64)leaf->edx << 32) & XFEATURE_DYNAMIC)
		return -EPERM;
	return 0;
}

static bool same(const struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *e, u32 n)
{
	if (n != v->nr_cpuid)
		return false;
	for (u32 i = 0; i < n; i++)
		if (memcmp(&e[i], &v->cpuid[i], offsetof(struct kvm_cpuid_entry2, padding)))
			return false;
	return true;
}

/* Takes e over when it returns 0. */
static int set_cpuid(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *e, u32 n)
{
	struct x86_cpuid_entry *table;
	int ret;

	follow_state(v, e, n);
	/* The guest has seen its CPUID: only the very same one is taken, for VMMs that reuse vCPUs.
	 */
	if (v->ran_once) {
		follow_state(v, v->cpuid, v->nr_cpuid);
		if (!same(v, e, n))
			return -EINVAL;
		free(e);
		return 0;
	}
	ret = check(e, n);
	if (ret)
		return ret;

	table = calloc(n ? n : 1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (u32 i = 0; i < n; i++)
		table[i] = (struct x86_cpuid_entry){
			.function = e[i].function,
			.index = e[i].index,
			.flags = e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = e[i].eax,
			.ebx = e[i].ebx,
			.ecx = e[i].ecx,
			.edx = e[i].edx,
		};
	ret = x86_set_cpuid(v->cpu, table, n);
	if (ret) {
		free(table);
		return ret;
	}
	free(v->cpuid);
	v->cpuid = e;
	v->nr_cpuid = n;
	v->pv_features = pv_features(e, n);
	return 0;
}

KVM_VCPU_OP(kvm_op_set_cpuid2)
{
	const struct kvm_cpuid2 *in = arg->data;
	u32 n = arg->tail_count;
	struct kvm_cpuid_entry2 *e = calloc(n ? n : 1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	memcpy(e, in->entries, n * sizeof(*e));
	ret = set_cpuid(v, e, n);
	if (ret)
		free(e);
	return ret;
}

KVM_VCPU_OP(kvm_op_set_cpuid)
{
	const struct kvm_cpuid *in = arg->data;
	u32 n = arg->tail_count;
	struct kvm_cpuid_entry2 *e = calloc(n ? n : 1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	for (u32 i = 0; i < n; i++) {
		e[i].function = in->entries[i].function;
		e[i].eax = in->entries[i].eax;
		e[i].ebx = in->entries[i].ebx;
		e[i].ecx = in->entries[i].ecx;
		e[i].edx = in->entries[i].edx;
	}
	ret = set_cpuid(v, e, n);
	if (ret)
		free(e);
	return ret;
}

KVM_VCPU_OP(kvm_op_get_cpuid2)
{
	struct kvm_cpuid2 head;

	if (uapi_copy_in(&head, arg->value, sizeof(head)))
		return -EFAULT;
	/* 6.1 does not write the needed count back here, unlike the index lists. */
	if (head.nent < v->nr_cpuid)
		return -E2BIG;
	follow_state(v, v->cpuid, v->nr_cpuid);
	if (v->nr_cpuid &&
	    uapi_copy_out(arg->value + sizeof(head), v->cpuid, v->nr_cpuid * sizeof(*v->cpuid)))
		return -EFAULT;
	/* As KVM: nent stays what the caller said. */
	return uapi_copy_out(arg->value, &head, sizeof(head));
}
