// SPDX-License-Identifier: MIT
/*
 * The MSRs that belong to the CPU itself: one table of rows, sorted by number, and the time-stamp
 * counter.
 *
 * Engine file. MSRs without a row (APIC, paravirtual clocks, ...) are the machine's. What the VMM
 * reads and writes (host_initiated) is not bound by the guest's CPUID, so that the order in which
 * it restores state does not matter. Source: SDM vol. 4; APM vol. 2 appendix A.
 */
#include "cpu/x86/msr.h"
#include "base/log.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"
#include "cpu/x86/simd.h"

#include <errno.h>

enum {
	G_R = BIT(0),	   /* the guest reads it */
	G_W = BIT(1),	   /* the guest writes it */
	G_IGNORE = BIT(2), /* the guest's writes are dropped */
	H_W = BIT(3),	   /* the VMM writes it (it reads all) */
	SAVE = BIT(4),	   /* in KVM_GET_MSR_INDEX_LIST */
	RW = G_R | G_W | H_W,
};

struct row {
	u32 msr, count;
	const char *name;
	u16 field;   /* offset in struct x86_cpu of the first one's u64; 0: get() or a constant */
	u16 feature; /* offset + 1 in struct x86_features of what must be offered to the guest; 0:
			nothing */
	u16 flags;
	u64 constant;
	bool (*exists)(const struct x86_cpu *c, u32 msr, bool host);
	bool (*valid)(const struct x86_cpu *c, u32 msr, u64 v, bool host);
	u64 (*get)(const struct x86_cpu *c, u32 msr);
	void (*set)(struct x86_cpu *c, u32 msr, u64 v, bool host);
};

/* ---- values ---- */

static bool canonical(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return x86_canonical(c, v);
}

static bool canonical_on_intel(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return c->feat->amd || x86_canonical(c, v);
}

static bool low32(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v >> 32);
}

static bool bit0(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return v <= 1;
}

static bool zero(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !v;
}

/* Memory types by bytes: UC WC WT WP WB, and for the PAT UC-. */
static bool types(u64 v, u32 allowed)
{
	for (u32 n = 0; n < 64; n += 8)
		if ((v >> n & 0xff) > 7 || !(allowed >> (v >> n & 7) & 1))
			return false;
	return true;
}

#define MTRR_TYPES 0x73u
#define PAT_TYPES  0xf3u

static bool pat_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return types(v, PAT_TYPES);
}

static bool mtrr_fix_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return types(v, MTRR_TYPES);
}

static bool mtrr_def_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~0xcffull) && types(v & 0xff, MTRR_TYPES);
}

static bool mtrr_var_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	u64 reserved = ~0ull << c->maxphyaddr;

	if (msr & 1)
		return !(v & (reserved | 0x7ff));
	return !(v & (reserved | 0xf00)) && types(v & 0xff, MTRR_TYPES);
}

#define SPEC_CTRL_BITS 0x487ull /* IBRS STIBP SSBD PSFD BHI_DIS_S */

static bool spec_ctrl_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~SPEC_CTRL_BITS);
}

static bool virt_spec_ctrl_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~4ull);
}

#define FEAT_CTL_LOCKED BIT64(0)
#define FEAT_CTL_VMX	(BIT64(1) | BIT64(2))
#define FEAT_CTL_LMCE	BIT64(20)
#define MCG_LMCE_P	BIT64(27)

static bool not_amd(const struct x86_cpu *c, u32 msr, bool host)
{
	return host || !c->feat->amd;
}

static bool feat_ctl_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	u64 bits = FEAT_CTL_LOCKED | (c->feat->vmx ? FEAT_CTL_VMX : 0) |
		   (c->msr.mcg_cap & MCG_LMCE_P ? FEAT_CTL_LMCE : 0);

	if (!host && (c->msr.feature_control & FEAT_CTL_LOCKED))
		return false;
	return !(v & ~bits);
}

#define PLATFORM_INFO_CPUID_FAULT BIT64(31)

static bool misc_features_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return v <= (c->msr.platform_info & PLATFORM_INFO_CPUID_FAULT ? 1 : 0);
}

static bool platform_info_exists(const struct x86_cpu *c, u32 msr, bool host)
{
	return host || !(READ_ONCE(c->policy) & X86_POLICY_NO_PLATFORM_INFO);
}

static bool platform_info_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return (v & PLATFORM_INFO_CPUID_FAULT) || !(c->msr.misc_features & 1);
}

/* Where CPUID's MWAIT bit follows this register, a CPU without SSE3 has no such bit. */
static bool misc_enable_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	if (!(READ_ONCE(c->policy) & X86_POLICY_MWAIT_MSR) ||
	    !((v ^ c->msr.misc_enable) & X86_MISC_ENABLE_MWAIT))
		return true;
	return c->feat->sse3;
}

#define DEBUGCTL_BITS 3ull /* LBR, BTF */

static bool debugctl_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~DEBUGCTL_BITS);
}

static bool xss_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~c->feat->xss_mask);
}

static bool tsc_aux_exists(const struct x86_cpu *c, u32 msr, bool host)
{
	return host || c->feat->rdtscp || c->feat->rdpid;
}

static bool host_only(const struct x86_cpu *c, u32 msr, bool host)
{
	return host;
}

/* ---- machine check ---- */

#define MCG_CTL_P	  BIT64(8)
#define MSR_MC0_CTL	  0x400
#define MSR_MC0_CTL2	  0x280
#define HWCR_MCSTATUSWREN BIT64(18)

static bool mcg_ctl_exists(const struct x86_cpu *c, u32 msr, bool host)
{
	return host || (c->msr.mcg_cap & MCG_CTL_P);
}

static bool mcg_ctl_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !v || (v == ~0ull && (c->msr.mcg_cap & MCG_CTL_P));
}

static bool bank_exists(const struct x86_cpu *c, u32 msr, bool host)
{
	return (msr - MSR_MC0_CTL) / 4 < (c->msr.mcg_cap & 0xff);
}

/*
 * CTL is all or nothing, but old kernels leave out bit 10 or bit 0 on purpose. STATUS is only
 * cleared by guests, unless AMD's HWCR says that they test their handlers.
 */
static bool bank_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	switch (msr & 3) {
	case 0:
		return !v || (v | BIT64(10) | BIT64(0)) == ~0ull;
	case 1:
		return !v || host || (c->feat->amd && (c->msr.hwcr & HWCR_MCSTATUSWREN));
	default:
		return true;
	}
}

#define MCG_CMCI_P	  BIT64(10)
#define MCI_CTL2_CMCI_EN  BIT64(30)
#define MCI_CTL2_COUNT	  0x7fffull /* corrected errors before the interrupt */

static bool ctl2_exists(const struct x86_cpu *c, u32 msr, bool host)
{
	if (msr - MSR_MC0_CTL2 >= (c->msr.mcg_cap & 0xff))
		return false;
	return host || (c->msr.mcg_cap & MCG_CMCI_P);
}

static bool ctl2_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	if (!(c->msr.mcg_cap & MCG_CMCI_P))
		return !v;
	return !(v & ~(MCI_CTL2_CMCI_EN | MCI_CTL2_COUNT));
}

/* ---- time ---- */

u64 x86_tsc(const struct x86_cpu *c)
{
	u64 host = __builtin_ia32_rdtsc();

	if (c->tsc_ratio)
		host = (u64)((unsigned __int128)host * c->tsc_ratio >> 48);
	return host + c->tsc_offset;
}

static u64 tsc_get(const struct x86_cpu *c, u32 msr)
{
	return x86_tsc(c);
}

static void tsc_moved(struct x86_cpu *c, u64 by)
{
	c->tsc_offset += by;
	x86_door(c);
	c->ops->tsc_changed(c->m);
}

/* A guest's write shows in TSC_ADJUST too; the VMM's sets the clock and nothing else. */
static void tsc_set(struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	u64 by = v - x86_tsc(c);

	if (!host)
		c->msr.tsc_adjust += by;
	tsc_moved(c, by);
}

static void tsc_adjust_set(struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	u64 by = v - c->msr.tsc_adjust;

	c->msr.tsc_adjust = v;
	if (!host)
		tsc_moved(c, by);
}

/* ---- others with a life of their own ---- */

static bool efer_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	if (!host && !x86_efer_valid(c, v))
		return false;
	return !(c->cr0 & X86_CR0_PG) || !((v ^ c->efer) & X86_EFER_LME);
}

static void efer_set(struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	u64 old = c->efer;

	c->efer = (v & ~(u64)X86_EFER_LMA) | (old & X86_EFER_LMA);
	if ((c->efer ^ old) & X86_EFER_NXE)
		x86_tlb_flush_all(c);
}

#define HWCR_IGNORED 0x148ull /* TLBCACHEDIS, FFDIS, IGNNE emulation */

static bool hwcr_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return !(v & ~(HWCR_IGNORED | HWCR_MCSTATUSWREN));
}

static void hwcr_set(struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	c->msr.hwcr = v & ~HWCR_IGNORED;
}

#define DE_CFG_LFENCE_SERIALIZE 2ull

static bool de_cfg_valid(const struct x86_cpu *c, u32 msr, u64 v, bool host)
{
	return v == DE_CFG_LFENCE_SERIALIZE;
}

/* ---- the table ---- */

#define FIELD(f)   .field = offsetof(struct x86_cpu, f)
#define M(f)	   FIELD(msr.f)
#define OFFERED(f) .feature = offsetof(struct x86_features, f) + 1
#define READS_ZERO(m, n)                                                                           \
	{                                                                                          \
		m, 1, n, .flags = G_R                                                              \
	}
#define IGNORED(m, n)                                                                              \
	{                                                                                          \
		m, 1, n, .flags = G_R | G_IGNORE                                                   \
	}

static const struct row rows[] = {
	{0x00000010, 1, "TSC", .flags = RW | SAVE, .get = tsc_get, .set = tsc_set},
	READS_ZERO(0x00000017, "PLATFORM_ID"),
	READS_ZERO(0x0000002a, "EBL_CR_POWERON"),
	/* bus ratio 1, so that nobody divides by zero */
	{0x0000002c, 1, "EBC_FREQUENCY_ID", .flags = G_R, .constant = BIT64(24)},
	{0x00000034, 1, "SMI_COUNT", M(smi_count), .flags = G_R | H_W | SAVE},
	{0x0000003a, 1, "FEATURE_CONTROL", M(feature_control), .flags = RW | SAVE,
	 .exists = not_amd, .valid = feat_ctl_valid},
	{0x0000003b, 1, "TSC_ADJUST", M(tsc_adjust), OFFERED(tsc_adjust), .flags = RW | SAVE,
	 .set = tsc_adjust_set},
	{0x00000048, 1, "SPEC_CTRL", M(spec_ctrl), OFFERED(ibrs), .flags = RW | SAVE,
	 .valid = spec_ctrl_valid},
	{0x00000049, 1, "PRED_CMD", OFFERED(ibpb), .flags = G_IGNORE | H_W, .valid = bit0},
	{0x00000079, 1, "BIOS_UPDT_TRIG", .flags = G_IGNORE},
	{0x0000008b, 1, "BIOS_SIGN_ID", M(ucode_rev), .flags = G_R | G_IGNORE | H_W | SAVE},
	{0x0000009e, 1, "SMBASE", M(smbase), .flags = H_W | SAVE, .exists = host_only},
	{0x000000c1, 2, "PERFCTR", .flags = G_R | G_IGNORE},
	{0x000000cd, 1, "FSB_FREQ", .flags = G_R, .constant = 3},
	{0x000000ce, 1, "PLATFORM_INFO", M(platform_info), .flags = G_R | H_W | SAVE,
	 .exists = platform_info_exists, .valid = platform_info_valid},
	/* write-combining, fixed ranges, 8 variable ranges */
	{0x000000fe, 1, "MTRRCAP", .flags = G_R, .constant = 0x508},
	{0x0000010a, 1, "ARCH_CAPABILITIES", M(arch_capabilities), OFFERED(arch_caps),
	 .flags = G_R | H_W | SAVE},
	{0x0000010b, 1, "FLUSH_CMD", OFFERED(flush_l1d), .flags = G_IGNORE, .valid = bit0},
	{0x00000140, 1, "MISC_FEATURES_ENABLES", M(misc_features), .flags = RW | SAVE,
	 .valid = misc_features_valid},
	{0x00000174, 1, "SYSENTER_CS", M(sysenter_cs), .flags = RW | SAVE},
	{0x00000175, 1, "SYSENTER_ESP", M(sysenter_esp), .flags = RW | SAVE,
	 .valid = canonical_on_intel},
	{0x00000176, 1, "SYSENTER_EIP", M(sysenter_eip), .flags = RW | SAVE,
	 .valid = canonical_on_intel},
	{0x00000179, 1, "MCG_CAP", M(mcg_cap), .flags = G_R},
	{0x0000017a, 1, "MCG_STATUS", M(mcg_status), .flags = RW | SAVE},
	{0x0000017b, 1, "MCG_CTL", M(mcg_ctl), .flags = RW | SAVE, .exists = mcg_ctl_exists,
	 .valid = mcg_ctl_valid},
	{0x00000186, 2, "EVNTSEL", .flags = G_R | G_IGNORE},
	READS_ZERO(0x00000199, "PERF_CTL"),
	{0x000001a0, 1, "MISC_ENABLE", M(misc_enable), .flags = RW | SAVE,
	 .valid = misc_enable_valid},
	{0x000001d9, 1, "DEBUGCTL", M(debugctl), .flags = RW, .valid = debugctl_valid},
	{0x000001db, 4, "LASTBRANCH", .flags = G_R},
	{0x000001fc, 1, "POWER_CTL", M(power_ctl), .flags = RW | SAVE},
	{0x00000200, 16, "MTRR_VAR", M(mtrr_var), .flags = RW, .valid = mtrr_var_valid},
	{0x00000250, 1, "MTRR_FIX64K_00000", M(mtrr_fix[0]), .flags = RW, .valid = mtrr_fix_valid},
	{0x00000258, 2, "MTRR_FIX16K", M(mtrr_fix[1]), .flags = RW, .valid = mtrr_fix_valid},
	{0x00000268, 8, "MTRR_FIX4K", M(mtrr_fix[3]), .flags = RW, .valid = mtrr_fix_valid},
	{0x00000277, 1, "PAT", M(pat), .flags = RW | SAVE, .valid = pat_valid},
	{MSR_MC0_CTL2, 32, "MC_CTL2", M(mci_ctl2), .flags = RW, .exists = ctl2_exists,
	 .valid = ctl2_valid},
	{0x000002ff, 1, "MTRR_DEF_TYPE", M(mtrr_def_type), .flags = RW, .valid = mtrr_def_valid},
	{MSR_MC0_CTL, 32 * 4, "MC", M(mc_banks), .flags = RW, .exists = bank_exists,
	 .valid = bank_valid},
	READS_ZERO(0x00000606, "RAPL_POWER_UNIT"),
	READS_ZERO(0x00000611, "PKG_ENERGY_STATUS"),
	READS_ZERO(0x00000619, "DRAM_ENERGY_STATUS"),
	READS_ZERO(0x00000639, "PP0_ENERGY_STATUS"),
	READS_ZERO(0x00000641, "PP1_ENERGY_STATUS"),
	{0x00000da0, 1, "XSS", M(xss), OFFERED(xsaves), .flags = RW, .valid = xss_valid},
	{0xc0000080, 1, "EFER", FIELD(efer), .flags = RW, .valid = efer_valid, .set = efer_set},
	{0xc0000081, 1, "STAR", M(star), .flags = RW | SAVE},
	{0xc0000082, 1, "LSTAR", M(lstar), .flags = RW | SAVE, .valid = canonical},
	{0xc0000083, 1, "CSTAR", M(cstar), .flags = RW | SAVE, .valid = canonical},
	{0xc0000084, 1, "FMASK", M(fmask), .flags = RW | SAVE, .valid = low32},
	{0xc0000100, 1, "FS_BASE", FIELD(seg[X86_FS].base), .flags = RW, .valid = canonical},
	{0xc0000101, 1, "GS_BASE", FIELD(seg[X86_GS].base), .flags = RW, .valid = canonical},
	{0xc0000102, 1, "KERNEL_GS_BASE", M(kernel_gs_base), .flags = RW | SAVE,
	 .valid = canonical},
	{0xc0000103, 1, "TSC_AUX", M(tsc_aux), .flags = RW | SAVE, .exists = tsc_aux_exists,
	 .valid = low32},
	{0xc0010000, 8, "K7_PERF", .flags = G_R | G_IGNORE},
	{0xc0010010, 1, "SYSCFG", M(syscfg), .flags = G_R | G_IGNORE | H_W},
	{0xc0010015, 1, "HWCR", M(hwcr), .flags = RW, .valid = hwcr_valid, .set = hwcr_set},
	IGNORED(0xc001001f, "NB_CFG"),
	IGNORED(0xc0010020, "PATCH_LOADER"),
	{0xc0010055, 1, "INT_PENDING_MSG", M(int_pending), .flags = G_R | H_W},
	{0xc0010058, 1, "MMIO_CONF_BASE", .flags = G_R | G_IGNORE, .valid = zero},
	READS_ZERO(0xc0010112, "TSEG_ADDR"),
	READS_ZERO(0xc0010113, "TSEG_MASK"),
	{0xc0010117, 1, "VM_HSAVE_PA", M(vm_hsave), .flags = RW | SAVE},
	{0xc001011f, 1, "VIRT_SPEC_CTRL", M(virt_spec_ctrl), OFFERED(virt_ssbd), .flags = RW | SAVE,
	 .valid = virt_spec_ctrl_valid},
	{0xc0010140, 1, "OSVW_ID_LENGTH", M(osvw_len), OFFERED(osvw), .flags = G_R | H_W},
	{0xc0010141, 1, "OSVW_STATUS", M(osvw_status), OFFERED(osvw), .flags = G_R | H_W},
	IGNORED(0xc0011022, "DC_CFG"),
	IGNORED(0xc0011023, "TW_CFG"),
	{0xc0011029, 1, "DE_CFG", OFFERED(amd), .flags = G_R | G_IGNORE | H_W,
	 .constant = DE_CFG_LFENCE_SERIALIZE, .valid = de_cfg_valid},
	IGNORED(0xc001102a, "BU_CFG2"),
	IGNORED(0xc001102c, "EX_CFG"),
};

static const struct row *find(u32 msr)
{
	u32 low = 0, high = ARRAY_SIZE(rows);

	while (low < high) {
		u32 mid = (low + high) / 2;

		if (msr < rows[mid].msr)
			high = mid;
		else if (msr - rows[mid].msr < rows[mid].count)
			return &rows[mid];
		else
			low = mid + 1;
	}
	return NULL;
}

static bool offered(const struct x86_cpu *c, const struct row *r, u32 msr, bool host)
{
	if (!host && r->feature && !*((const bool *)c->feat + r->feature - 1))
		return false;
	return !r->exists || r->exists(c, msr, host);
}

static u64 *field(struct x86_cpu *c, const struct row *r, u32 msr)
{
	return (u64 *)((u8 *)c + r->field) + (msr - r->msr);
}

int x86_get_msr(struct x86_cpu *c, u32 msr, u64 *value, bool host_initiated)
{
	const struct row *r = find(msr);

	if (!r)
		return -ENOENT;
	if (!offered(c, r, msr, host_initiated) || (!host_initiated && !(r->flags & G_R)))
		return -EINVAL;
	*value = r->get ? r->get(c, msr) : r->field ? *field(c, r, msr) : r->constant;
	return 0;
}

int x86_set_msr(struct x86_cpu *c, u32 msr, u64 value, bool host_initiated)
{
	const struct row *r = find(msr);
	u32 may = host_initiated ? H_W | G_IGNORE : G_W | G_IGNORE;

	if (!r)
		return -ENOENT;
	if (!(r->flags & may) || !offered(c, r, msr, host_initiated))
		return -EINVAL;
	if (r->valid && !r->valid(c, msr, value, host_initiated))
		return -EINVAL;
	if (!(r->flags & may & ~(u32)G_IGNORE))
		return 0;
	if (r->set)
		r->set(c, msr, value, host_initiated);
	else if (r->field)
		*field(c, r, msr) = value;
	return 0;
}

u32 x86_msr_list(u32 *out, u32 max)
{
	u32 n = 0;

	for (u32 k = 0; k < ARRAY_SIZE(rows); k++) {
		if (!(rows[k].flags & SAVE))
			continue;
		if (n < max)
			out[n] = rows[k].msr;
		n++;
	}
	return n;
}

static void __noreturn refuse(struct x86_cpu *c, const char *what, u32 msr, u64 value)
{
	const struct row *r = find(msr);

	if (unlikely(AV_LOG_DEBUG <= av_log_limit)) {
		x86_door(c);
		av_debug("vcpu %u: %s %#x (%s) value %#llx refused", c->index, what, msr,
			 r ? r->name : "unknown", (unsigned long long)value);
	}
	x86_gp(c, 0);
}

/* The owner's answer to this very access, from the time before it was left for. */
static bool answered(struct x86_cpu *c, u32 msr, bool write, u64 *value)
{
	if (likely(!c->io.msr.answered))
		return false;
	c->io.msr.answered = false;
	if (c->io.rip != x86_rip(c) || c->io.msr.index != msr || c->io.msr.write != write)
		return false;
	if (c->io.msr.error)
		x86_gp(c, 0);
	*value = c->io.msr.value;
	return true;
}

static bool filtered(struct x86_cpu *c, u32 msr, bool write)
{
	if (likely(!(READ_ONCE(c->policy) & X86_POLICY_MSR_FILTER)))
		return false;
	x86_door(c);
	return !c->ops->msr_allowed(c->m, msr, write);
}

static void __noreturn fail(struct x86_cpu *c, enum x86_msr_fault why, u32 msr, bool write,
			    u64 value)
{
	if (!(READ_ONCE(c->policy) & X86_POLICY_MSR_EXITS & why))
		refuse(c, write ? "wrmsr" : "rdmsr", msr, value);
	c->exit.msr.index = msr;
	c->exit.msr.write = write;
	c->exit.msr.why = why;
	c->exit.msr.value = value;
	c->io.rip = x86_rip(c);
	x86_leave(c, X86_EXIT_MSR);
}

void x86_complete_msr(struct x86_cpu *c, bool error, u64 value)
{
	c->io.msr.answered = true;
	c->io.msr.error = error;
	c->io.msr.write = c->exit.msr.write;
	c->io.msr.index = c->exit.msr.index;
	c->io.msr.value = value;
}

u64 x86_rdmsr(struct x86_cpu *c, u32 msr)
{
	u64 value = 0;
	int err;

	if (answered(c, msr, false, &value))
		return value;
	if (filtered(c, msr, false))
		fail(c, X86_MSR_FILTERED, msr, false, 0);
	err = x86_get_msr(c, msr, &value, false);
	if (err == -ENOENT) {
		x86_door(c);
		err = c->ops->rdmsr(c->m, msr, &value);
	}
	if (err)
		fail(c, err == -ENOENT ? X86_MSR_UNKNOWN : X86_MSR_INVALID, msr, false, 0);
	return value;
}

void x86_wrmsr(struct x86_cpu *c, u32 msr, u64 value)
{
	u64 done;
	int err;

	if (answered(c, msr, true, &done))
		return;
	if (filtered(c, msr, true))
		fail(c, X86_MSR_FILTERED, msr, true, value);
	err = x86_set_msr(c, msr, value, false);
	if (err == -ENOENT) {
		x86_door(c);
		err = c->ops->wrmsr(c->m, msr, value);
	}
	if (err)
		fail(c, err == -ENOENT ? X86_MSR_UNKNOWN : X86_MSR_INVALID, msr, true, value);
}
