// SPDX-License-Identifier: MIT
/*
 * KVM's own hypercalls.
 *
 * Runs on the vCPU's thread inside its epoch, without vm->lock. Linux
 * Documentation/virt/kvm/x86/hypercalls.rst: number in RAX, arguments in RBX, RCX, RDX, RSI; result
 * in RAX.
 */
#include "kvm/vcpu_priv.h"

#include "base/futex.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm_para.h>

/* How long a vCPU that yields stays away: long enough for another thread to get the processor. */
#define YIELD_NS 20000

struct call {
	struct kvm_vcpu *v;
	u64 arg[4];
};

/* The whole point is to leave and enter the guest. */
static s64 hc_poll_irq(const struct call *c)
{
	return 0;
}

/* To a vCPU that could run: one that sleeps has nothing to do with the time. */
static void yield_to(struct kvm_vcpu *v, u64 apic_id)
{
	struct kvm_vcpu *target = apic_id <= UINT32_MAX ? kvm_vcpu_by_id(v->vm, apic_id) : NULL;
	u32 never = 0;

	if (target && target != v && !__atomic_load_n(&target->halted, __ATOMIC_SEQ_CST))
		av_futex_wait(&never, 0, av_now_ns() + YIELD_NS);
}

static s64 hc_kick_cpu(const struct call *c)
{
	u64 apic_id = c->arg[1];
	struct kvm_vcpu *target = apic_id <= UINT32_MAX ? kvm_vcpu_by_id(c->v->vm, apic_id) : NULL;

	if (target) {
		__atomic_store_n(&target->pv_unhalted, 1, __ATOMIC_SEQ_CST);
		kvm_vcpu_kick(target);
		yield_to(c->v, apic_id);
	}
	return 0;
}

static s64 hc_sched_yield(const struct call *c)
{
	yield_to(c->v, c->arg[0]);
	return 0;
}

static const struct {
	u64 nr;
	s64 (*call)(const struct call *c);
	u8 pv_feature; /* 1 + the KVM_FEATURE_* bit that a guest needs once the VMM enforces CPUID
			*/
} calls[] = {
	{KVM_HC_VAPIC_POLL_IRQ, hc_poll_irq, 0},
	{KVM_HC_KICK_CPU, hc_kick_cpu, 1 + KVM_FEATURE_PV_UNHALT},
	{KVM_HC_SCHED_YIELD, hc_sched_yield, 1 + KVM_FEATURE_PV_SCHED_YIELD},
};

static s64 dispatch(const struct call *c, u64 nr)
{
	for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].nr != nr)
			continue;
		return kvm_pv_has(c->v, calls[i].pv_feature) ? calls[i].call(c) : -KVM_ENOSYS;
	}
	return -KVM_ENOSYS;
}

int kvm_op_hypercall(void *m)
{
	static const u8 args[] = {X86_RBX, X86_RCX, X86_RDX, X86_RSI};
	struct kvm_vcpu *v = m;
	struct x86_cpu *cpu = v->cpu;
	bool wide = cpu->code_size == 8;
	struct call c = {.v = v};
	s64 ret;

	for (u32 i = 0; i < ARRAY_SIZE(args); i++)
		c.arg[i] = wide ? cpu->gpr[args[i]] : (u32)cpu->gpr[args[i]];
	v->hypercalls++;
	ret = dispatch(&c, wide ? cpu->gpr[X86_RAX] : (u32)cpu->gpr[X86_RAX]);
	cpu->gpr[X86_RAX] = wide ? (u64)ret : (u32)ret;
	return 0;
}
