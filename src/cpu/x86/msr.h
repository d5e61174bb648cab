/* SPDX-License-Identifier: MIT */
/*
 * MSRs that are the CPU's own (rows of one table), and the features that CPUID grants.
 */
#ifndef AV_CPU_X86_MSR_H
#define AV_CPU_X86_MSR_H

#include "cpu/x86/x86.h"

/* Recomputed by x86_set_cpuid(). Every field is a plain yes or no from the guest's CPUID. */
struct x86_features {
	bool amd; /* vendor AuthenticAMD or HygonGenuine: SYSCALL in compatibility mode, SYSENTER
		     limits, ... */
	bool lm, nx, pse, pae, pge, pse36, pat, pcid, invpcid, smep, smap, umip, pku, la57, gbpages,
		fsgsbase, xsave, xsaves;
	bool rdtscp, rdpid, syscall, sep, mce, vme, de, tsc, tsc_deadline, x2apic, mtrr, ffxsr,
		osxsave_ok, mwait, ibrs, ssbd, arch_caps, tsc_adjust, vmx, svm, smx;
	bool sse3, ibpb, flush_l1d, xgetbv1, xsavec, clzero, osvw, virt_ssbd;
	u64 cr4_mask;  /* CR4 bits the guest may set */
	u64 efer_mask; /* EFER bits the guest may set */
	u64 xcr0_mask; /* XCR0 bits the guest may set */
	u64 xss_mask;
};

#define X86_MISC_ENABLE_MWAIT BIT64(18)
/* CPUID's MWAIT bit as it is now. */
static inline bool x86_has_mwait(const struct x86_cpu *c)
{
	if (READ_ONCE(c->policy) & X86_POLICY_MWAIT_MSR)
		return c->msr.misc_enable & X86_MISC_ENABLE_MWAIT;
	return c->feat->mwait;
}

/* RDMSR/WRMSR as the instructions do: own rows first, then the machine. Raises #GP(0). */
u64 x86_rdmsr(struct x86_cpu *c, u32 msr);
void x86_wrmsr(struct x86_cpu *c, u32 msr, u64 value);

/* cr.c: may the guest have this XCR0? (XSETBV, KVM_SET_XCRS) */
bool x86_xcr0_valid(const struct x86_cpu *c, u64 v);
/* cr.c: may the guest's EFER be written so? LMA apart, which follows from CR0.PG and LME. */
bool x86_efer_valid(const struct x86_cpu *c, u64 v);

/* MOV to CRn with all checks and side effects (also LMSW, CLTS). Raises. Host-initiated changes go
 * through x86_state_changed(). */
void x86_set_cr0(struct x86_cpu *c, u64 v);
void x86_set_cr3(struct x86_cpu *c, u64 v);
void x86_set_cr4(struct x86_cpu *c, u64 v);

#endif
