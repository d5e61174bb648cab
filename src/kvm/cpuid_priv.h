/* SPDX-License-Identifier: MIT */
/*
 * Between the table of CPUID bits and the code that builds leaves from it.
 */
#ifndef AV_KVM_CPUID_PRIV_H
#define AV_KVM_CPUID_PRIV_H

#include "base/base.h"

enum kvm_cpuid_reg { KVM_CPUID_EAX, KVM_CPUID_EBX, KVM_CPUID_ECX, KVM_CPUID_EDX, KVM_CPUID_REGS };

/* When a bit is offered: all the conditions named must hold. */
enum kvm_cpuid_when {
	CPUID_SOFT = 0,	      /* the engine does it itself, on any host */
	CPUID_HOST = BIT(0),  /* the host's CPUID has the same bit: executed natively */
	CPUID_XSAVE = BIT(1), /* the host's XSAVE gives the image its layout */
	CPUID_AVX = BIT(2),   /* the host and the engine keep the state: x86_host_xcr0() */
	CPUID_AVX512 = BIT(3),
	CPUID_INTEL = BIT(4), /* only in that personality */
	CPUID_AMD = BIT(5),
	CPUID_RUN_DELAY = BIT(6), /* the host's scheduler keeps run delays */
};

struct kvm_cpuid_bit {
	u32 function;
	u8 index;
	u8 reg;
	u8 bit;
	u8 when;
	const char *name;
};

extern const struct kvm_cpuid_bit kvm_cpuid_bits[];
extern const u32 kvm_nr_cpuid_bits;

#endif
