// SPDX-License-Identifier: MIT
/*
 * The MSRs that kvm/ keeps rather than the CPU: the local APIC's, the TSC as the VMM sets it, and
 * KVM's paravirtual ones.
 *
 * One row per range. Reached from the VMM under vcpu->lock (host_initiated) and from the guest on
 * the vCPU's thread inside x86_run(): guest paths take no vm->lock.
 */
#include "kvm/steal.h"

#include <asm/kvm_para.h>
#include <errno.h>

#define MSR_TSC		 0x10
#define MSR_APIC_BASE	 0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST	 0x8ff

/* IA32_ARCH_CAPABILITIES: nothing here speculates past a check, so every known flaw is denied. */
static const u8 arch_cap_bits[] = {
	0,  /* RDCL_NO */
	1,  /* IBRS_ALL: a guest then needs no retpolines */
	3,  /* SKIP_L1DFL_VMENTRY */
	4,  /* SSB_NO */
	5,  /* MDS_NO */
	6,  /* PSCHANGE_MC_NO */
	8,  /* TAA_NO */
	13, /* SBDR_SSDP_NO */
	14, /* FBSDP_NO */
	15, /* PSDP_NO */
	20, /* BHI_NO */
	24, /* PBRSB_NO */
	26, /* GDS_NO */
	27, /* RFDS_NO */
	62, /* ITS_NO */
};

u64 kvm_arch_capabilities(void)
{
	u64 v = 0;

	for (u32 i = 0; i < ARRAY_SIZE(arch_cap_bits); i++)
		v |= BIT64(arch_cap_bits[i]);
	return v;
}

u64 kvm_ucode_rev(void)
{
	return kvm_personality_amd() ? 0x01000065 : 0x100000000ull;
}

#define MCG_CTL_P  BIT64(8)
#define MCG_CMCI_P BIT64(10)
#define MCG_SER_P  BIT64(24)

/* AMD has no interrupt for corrected machine checks in the LAPIC. */
u64 kvm_mce_cap(void)
{
	return MCG_CTL_P | MCG_SER_P | (kvm_personality_amd() ? 0 : MCG_CMCI_P);
}

/* ---- rows ---- */

struct kvm_msr_row {
	u32 first, last;
	int (*get)(struct kvm_vcpu *v, u32 msr, u64 *value, bool host);
	int (*set)(struct kvm_vcpu *v, u32 msr, u64 value, bool host);
	u8 pv_feature; /* 1 + the KVM_FEATURE_* bit that a guest needs once the VMM enforces CPUID
			*/
};

static int get_apic_base(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	*value = kvm_vcpu_apic_base(v);
	return 0;
}

static int set_apic_base(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	int ret = kvm_vcpu_set_apic_base(v, value, host);

	kvm_extint_recheck(v);
	return ret;
}

static int get_x2apic(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	return v->lapic ? lapic_rdmsr(v->lapic, msr, value) : -EINVAL;
}

static int set_x2apic(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	int ret = v->lapic ? lapic_wrmsr(v->lapic, msr, value) : -EINVAL;

	kvm_extint_recheck(v);
	return ret;
}

static int get_tsc_deadline(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	*value = v->lapic ? lapic_tsc_deadline(v->lapic) : 0;
	return 0;
}

static int set_tsc_deadline(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	if (v->lapic)
		lapic_set_tsc_deadline(v->lapic, value);
	return 0;
}

/* The guest's own RDMSR and WRMSR of the TSC are the CPU's business. */
static int get_tsc(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	return -ENOENT;
}

static int set_tsc(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	if (!host)
		return -ENOENT;
	kvm_vcpu_set_tsc(v, value);
	return 0;
}

static int get_clock(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	return kvm_clock_get_msr(v, msr, value);
}

static int set_clock(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	return kvm_clock_set_msr(v, msr, value);
}

static int get_poll_control(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	*value = v->poll_control_msr;
	return 0;
}

static int set_poll_control(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	if (value & ~1ull)
		return -EINVAL;
	v->poll_control_msr = value;
	return 0;
}

static int get_steal_time(struct kvm_vcpu *v, u32 msr, u64 *value, bool host)
{
	*value = v->steal_time_msr;
	return 0;
}

static int set_steal_time(struct kvm_vcpu *v, u32 msr, u64 value, bool host)
{
	return kvm_steal_set_msr(v, value);
}

static const struct kvm_msr_row rows[] = {
	{MSR_TSC, MSR_TSC, get_tsc, set_tsc},
	{MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME, get_clock, set_clock,
	 1 + KVM_FEATURE_CLOCKSOURCE},
	{MSR_APIC_BASE, MSR_APIC_BASE, get_apic_base, set_apic_base},
	{MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, get_tsc_deadline, set_tsc_deadline},
	{MSR_X2APIC_FIRST, MSR_X2APIC_LAST, get_x2apic, set_x2apic},
	{MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, get_clock, set_clock,
	 1 + KVM_FEATURE_CLOCKSOURCE2},
	{MSR_KVM_STEAL_TIME, MSR_KVM_STEAL_TIME, get_steal_time, set_steal_time,
	 1 + KVM_FEATURE_STEAL_TIME},
	{MSR_KVM_POLL_CONTROL, MSR_KVM_POLL_CONTROL, get_poll_control, set_poll_control,
	 1 + KVM_FEATURE_POLL_CONTROL},
};

/* The row, or NULL when there is none. */
static const struct kvm_msr_row *find_row(u32 msr)
{
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		if (msr >= rows[i].first && msr <= rows[i].last)
			return &rows[i];
	return NULL;
}

int kvm_get_msr(struct kvm_vcpu *v, u32 msr, u64 *value, bool host_initiated)
{
	const struct kvm_msr_row *row = find_row(msr);

	if (!row)
		return -ENOENT;
	return kvm_pv_has(v, row->pv_feature) ? row->get(v, msr, value, host_initiated) : -EINVAL;
}

int kvm_set_msr(struct kvm_vcpu *v, u32 msr, u64 value, bool host_initiated)
{
	const struct kvm_msr_row *row = find_row(msr);

	if (!row)
		return -ENOENT;
	return kvm_pv_has(v, row->pv_feature) ? row->set(v, msr, value, host_initiated) : -EINVAL;
}
