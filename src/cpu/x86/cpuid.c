// SPDX-License-Identifier: MIT
/*
 * CPUID: the table that the owner sets, what it lets the guest do, and how the guest sees it.
 *
 * Outer file: the engine calls x86_cpuid() behind the door. Which leaves are worth offering is
 * kvm/'s business. Source: SDM vol. 2 CPUID; KVM's rules for leaves that are not in the table.
 */
#include "cpu/x86/msr.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_SIGNIFICANT BIT(0)
#define MSR_APIC_BASE	  0x1b
#define APIC_BASE_ENABLE  BIT64(11)
#define MAXPHYADDR_MIN	  36
#define PKRU		  9 /* the component of XSAVE */

enum { EAX, EBX, ECX, EDX };

/* ---- look-up ---- */

static const struct x86_cpuid_entry *find(const struct x86_cpu *c, u32 function, u32 index)
{
	for (u32 n = 0; n < c->nr_cpuid; n++) {
		const struct x86_cpuid_entry *e = &c->cpuid[n];

		if (e->function == function &&
		    (!(e->flags & INDEX_SIGNIFICANT) || e->index == index))
			return e;
	}
	return NULL;
}

static u32 leaf(const struct x86_cpu *c, u32 function, u32 index, u32 reg)
{
	const struct x86_cpuid_entry *e = find(c, function, index);

	return !e ? 0 : reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
}

static bool bit(const struct x86_cpu *c, u32 function, u32 index, u32 reg, u32 n)
{
	return leaf(c, function, index, reg) >> n & 1;
}

/*
 * Intel answers a leaf above the highest of its class with the highest basic leaf, AMD with zeros.
 * Classes are basic, hypervisor (each 100h), extended, Centaur.
 */
static const struct x86_cpuid_entry *out_of_range(const struct x86_cpu *c, u32 function, u32 index)
{
	const struct x86_cpuid_entry *basic = find(c, 0, 0), *class;

	if (!basic || c->feat->amd)
		return NULL;
	if (function >= 0x40000000 && function < 0x50000000)
		class = find(c, function & 0xffffff00, 0);
	else if (function >= 0xc0000000)
		class = find(c, 0xc0000000, 0);
	else
		class = find(c, function & 0x80000000, 0);
	if (class && function <= class->eax)
		return NULL;
	return find(c, basic->eax, index);
}

/* Size of the compacted XSAVE image for these components, from the guest's own leaf 0xd. */
static u32 compacted_size(const struct x86_cpu *c, u64 components)
{
	u32 size = 512 + 64;

	for (u32 n = 2; n < 63; n++) {
		const struct x86_cpuid_entry *e;

		if (!(components >> n & 1))
			continue;
		e = find(c, 0xd, n);
		if (!e)
			continue;
		if (e->ecx & BIT(1))
			size = ALIGN_UP(size, 64u);
		size += e->eax;
	}
	return size;
}

static void set_bit(u32 *v, u32 n, bool on)
{
	*v = on ? *v | BIT(n) : *v & ~BIT(n);
}

/* The bits that follow the CPU's state. */
static void dynamic(struct x86_cpu *c, u32 function, u32 index, u32 out[4])
{
	u64 apic_base;
	bool align64;

	switch (function) {
	case 1:
		set_bit(&out[ECX], 3, x86_has_mwait(c));
		set_bit(&out[ECX], 27, c->feat->xsave && (c->cr4 & X86_CR4_OSXSAVE));
		if (!c->ops->rdmsr(c->m, MSR_APIC_BASE, &apic_base))
			set_bit(&out[EDX], 9, apic_base & APIC_BASE_ENABLE);
		break;
	case 7:
		if (index == 0)
			set_bit(&out[ECX], 4, c->feat->pku && (c->cr4 & X86_CR4_PKE));
		break;
	case 0xd:
		if (index == 0)
			out[EBX] = x86_xsave_size(c->xcr0);
		else if (index == 1 && (c->feat->xsaves || c->feat->xsavec))
			out[EBX] = compacted_size(c, c->xcr0 | c->msr.xss);
		else if (index == PKRU && out[EAX])
			/* VMMs ask the host's processor where components stand, which need not have
			   this one. */
			x86_xsave_component(PKRU, &out[EBX], &out[EAX], &align64);
		break;
	default:
		break;
	}
}

void x86_cpuid(struct x86_cpu *c, u32 function, u32 index, u32 out[4])
{
	const struct x86_cpuid_entry *e = find(c, function, index);
	bool exact = e;

	memset(out, 0, 4 * sizeof(*out));
	if (!e)
		e = out_of_range(c, function, index);
	if (e) {
		out[EAX] = e->eax;
		out[EBX] = e->ebx;
		out[ECX] = e->ecx;
		out[EDX] = e->edx;
		dynamic(c, e->function, index, out);
	}
	/* Topology leaves answer sub-leaves beyond the last with the sub-leaf and the x2APIC id. */
	if (!exact && (function == 0xb || function == 0x1f) && find(c, function, 0)) {
		out[ECX] = index & 0xff;
		out[EDX] = leaf(c, function, 0, EDX);
	}
}

/* ---- what the table lets the guest do ---- */

static bool vendor_is(const struct x86_cpu *c, const char *name)
{
	const struct x86_cpuid_entry *e = find(c, 0, 0);
	u32 v[3];

	if (!e)
		return false;
	v[0] = e->ebx;
	v[1] = e->edx;
	v[2] = e->ecx;
	return !memcmp(v, name, sizeof(v));
}

/* One row per feature that is a single bit. */
static const struct {
	u16 field; /* in struct x86_features */
	u8 index, reg, bit;
	u32 function;
} feature_bits[] = {
#define F(f, function, index, reg, bit)                                                            \
	{                                                                                          \
		offsetof(struct x86_features, f), index, reg, bit, function                        \
	}
	F(sse3, 1, 0, ECX, 0),
	F(pcid, 1, 0, ECX, 17),
	F(x2apic, 1, 0, ECX, 21),
	F(tsc_deadline, 1, 0, ECX, 24),
	F(xsave, 1, 0, ECX, 26),
	F(mwait, 1, 0, ECX, 3),
	F(vmx, 1, 0, ECX, 5),
	F(smx, 1, 0, ECX, 6),
	F(vme, 1, 0, EDX, 1),
	F(de, 1, 0, EDX, 2),
	F(pse, 1, 0, EDX, 3),
	F(tsc, 1, 0, EDX, 4),
	F(pae, 1, 0, EDX, 6),
	F(mce, 1, 0, EDX, 7),
	F(sep, 1, 0, EDX, 11),
	F(mtrr, 1, 0, EDX, 12),
	F(pge, 1, 0, EDX, 13),
	F(pat, 1, 0, EDX, 16),
	F(pse36, 1, 0, EDX, 17),
	F(fsgsbase, 7, 0, EBX, 0),
	F(tsc_adjust, 7, 0, EBX, 1),
	F(smep, 7, 0, EBX, 7),
	F(invpcid, 7, 0, EBX, 10),
	F(smap, 7, 0, EBX, 20),
	F(umip, 7, 0, ECX, 2),
	F(pku, 7, 0, ECX, 3),
	F(la57, 7, 0, ECX, 16),
	F(rdpid, 7, 0, ECX, 22),
	F(flush_l1d, 7, 0, EDX, 28),
	F(arch_caps, 7, 0, EDX, 29),
	F(xsavec, 0xd, 1, EAX, 1),
	F(xgetbv1, 0xd, 1, EAX, 2),
	F(xsaves, 0xd, 1, EAX, 3),
	F(svm, 0x80000001, 0, ECX, 2),
	F(osvw, 0x80000001, 0, ECX, 9),
	F(syscall, 0x80000001, 0, EDX, 11),
	F(nx, 0x80000001, 0, EDX, 20),
	F(ffxsr, 0x80000001, 0, EDX, 25),
	F(gbpages, 0x80000001, 0, EDX, 26),
	F(rdtscp, 0x80000001, 0, EDX, 27),
	F(lm, 0x80000001, 0, EDX, 29),
	F(clzero, 0x80000008, 0, EBX, 0),
	F(virt_ssbd, 0x80000008, 0, EBX, 25),
#undef F
};

/*
 * A CPU without a table is not one without features: hardware does not ask CPUID, and small VMMs
 * start guests in long mode without ever setting it. XCR0 alone stays empty, as in KVM.
 */
static void features_untold(struct x86_features *f)
{
	u64 xcr0 = x86_host_xcr0();

	f->lm = f->nx = f->pse = f->pae = f->pge = f->pse36 = f->pat = f->gbpages = f->syscall =
		f->sep = true;
	f->mce = f->vme = f->de = f->tsc = f->mtrr = f->rdtscp = f->rdpid = true;
	f->pcid = f->invpcid = f->smep = f->smap = f->umip = f->la57 = f->fsgsbase = true;
	f->xsave = xcr0;
	f->pku = xcr0 >> PKRU & 1;
}

/* CR4 bits that exist since long before the features one asks for. */
#define CR4_ALWAYS                                                                                 \
	(X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |        \
	 X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

static void feature_masks(const struct x86_cpu *c, struct x86_features *f)
{
	f->cr4_mask = CR4_ALWAYS;
	f->cr4_mask |= f->umip ? X86_CR4_UMIP : 0u;
	f->cr4_mask |= f->la57 ? X86_CR4_LA57 : 0u;
	f->cr4_mask |= f->fsgsbase ? X86_CR4_FSGSBASE : 0u;
	f->cr4_mask |= f->pcid ? X86_CR4_PCIDE : 0u;
	f->cr4_mask |= f->xsave ? X86_CR4_OSXSAVE : 0u;
	f->cr4_mask |= f->smep ? X86_CR4_SMEP : 0u;
	f->cr4_mask |= f->smap ? X86_CR4_SMAP : 0u;
	f->cr4_mask |= f->pku ? X86_CR4_PKE : 0u;
	f->efer_mask = X86_EFER_SCE;
	f->efer_mask |= f->lm ? X86_EFER_LME | X86_EFER_LMA : 0u;
	f->efer_mask |= f->nx ? X86_EFER_NXE : 0u;
	f->efer_mask |= f->ffxsr ? X86_EFER_FFXSR : 0u;
	f->xcr0_mask = leaf(c, 0xd, 0, EAX) | (u64)leaf(c, 0xd, 0, EDX) << 32;
	f->xcr0_mask &= x86_host_xcr0();
	/* No supervisor state component is implemented. */
	f->xss_mask = 0;
}

static void features_from_table(const struct x86_cpu *c, struct x86_features *f)
{
	memset(f, 0, sizeof(*f));
	f->amd = vendor_is(c, "AuthenticAMD") || vendor_is(c, "HygonGenuine");
	for (u32 n = 0; n < ARRAY_SIZE(feature_bits); n++)
		*((bool *)f + feature_bits[n].field) =
			bit(c, feature_bits[n].function, feature_bits[n].index, feature_bits[n].reg,
			    feature_bits[n].bit);
	f->ssbd = bit(c, 7, 0, EDX, 31) || bit(c, 0x80000008, 0, EBX, 24);
	f->ibpb = bit(c, 7, 0, EDX, 26) || bit(c, 0x80000008, 0, EBX, 12);
	/* SPEC_CTRL exists for any of IBRS, STIBP and SSBD. */
	f->ibrs = bit(c, 7, 0, EDX, 26) || bit(c, 7, 0, EDX, 27) ||
		  bit(c, 0x80000008, 0, EBX, 14) || bit(c, 0x80000008, 0, EBX, 15) || f->ssbd;
	f->osxsave_ok = f->xsave;
	if (!c->nr_cpuid)
		features_untold(f);
	feature_masks(c, f);
}

int x86_set_cpuid(struct x86_cpu *c, struct x86_cpuid_entry *e, u32 n)
{
	u32 bits;

	free(c->cpuid);
	c->cpuid = e;
	c->nr_cpuid = n;
	features_from_table(c, c->feat);
	bits = leaf(c, 0x80000008, 0, EAX) & 0xff;
	if (leaf(c, 0x80000000, 0, EAX) < 0x80000008 || !bits)
		bits = MAXPHYADDR_MIN;
	c->maxphyaddr = (u8)MIN(bits, 52u);
	return 0;
}
