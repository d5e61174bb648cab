// SPDX-License-Identifier: MIT
/*
 * What the emulated processor is: the leaves of KVM_GET_SUPPORTED_CPUID for the personality host,
 * intel or amd.
 *
 * Owns all leaves but the feature bits, which are rows of cpuid_table.c. Built once in a process:
 * the host and ANYVISOR_CPU do not change. A personality is data: both run on any host, and what
 * differs is in struct identity.
 */
#include "kvm/cpuid_priv.h"
#include "kvm/steal.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 128
#define SIGNIFICANT KVM_CPUID_FLAG_SIGNIFCANT_INDEX

#define XFEATURE_AVX	BIT64(2)
#define XFEATURE_AVX512 (BIT64(5) | BIT64(6) | BIT64(7))

struct regs {
	u32 r[KVM_CPUID_REGS];
};

/* A processor to be when the host's is of the other vendor: no quirk of an older one applies to it.
 */
struct identity {
	const char *vendor; /* 12 characters in the order of EBX, EDX, ECX */
	u32 signature;	    /* CPUID.1:EAX */
	const char *brand;
	u32 max_basic, max_extended;
};

static const struct identity intel = {
	.vendor = "GenuineIntel",
	.signature = 0x000606a6, /* Ice Lake server */
	.brand = "Intel(R) Xeon(R) Processor (Anyvisor)",
	.max_basic = 0x1f,
	.max_extended = 0x80000008,
};

static const struct identity amd = {
	.vendor = "AuthenticAMD",
	.signature = 0x00b00f21, /* Zen 5 server */
	.brand = "AMD EPYC Processor (Anyvisor)",
	.max_basic = 0x10,
	.max_extended = 0x80000021,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct identity *who;
static bool host_amd, host_intel, native; /* native: the personality is of the host's vendor */
static u32 host_max_basic, host_max_extended;
static struct kvm_cpuid_entry2 supported[MAX_ENTRIES], emulated[3];
static u32 nr_supported;

/* ---- the host ---- */

static struct regs host_cpuid(u32 function, u32 index)
{
	u32 max = function >> 31 ? host_max_extended : host_max_basic;
	struct regs h = {{0}};

	if (function <= max)
		__cpuid_count(function, index, h.r[0], h.r[1], h.r[2], h.r[3]);
	return h;
}

static bool host_is(const char *vendor)
{
	struct regs h = host_cpuid(0, 0);

	return !memcmp(&h.r[KVM_CPUID_EBX], vendor, 4) &&
	       !memcmp(&h.r[KVM_CPUID_EDX], vendor + 4, 4) &&
	       !memcmp(&h.r[KVM_CPUID_ECX], vendor + 8, 4);
}

static void choose_personality(void)
{
	const char *wish = getenv("ANYVISOR_CPU");

	host_max_basic = __get_cpuid_max(0, NULL);
	host_max_extended = __get_cpuid_max(0x80000000, NULL);
	host_amd = host_is("AuthenticAMD") || host_is("HygonGenuine");
	host_intel = host_is("GenuineIntel");
	if (wish && !strcmp(wish, "intel"))
		who = &intel;
	else if (wish && !strcmp(wish, "amd"))
		who = &amd;
	else
		who = host_amd ? &amd : &intel;
	if (wish && *wish && strcmp(wish, "intel") && strcmp(wish, "amd") && strcmp(wish, "host"))
		av_warn("ANYVISOR_CPU=%s is none of host, intel, amd: host is taken", wish);
	native = who == &amd ? host_amd : host_intel;
}

/* ---- bits ---- */

static bool offered(const struct kvm_cpuid_bit *b)
{
	u64 xcr0 = x86_host_xcr0();

	if (b->when & CPUID_HOST && !(host_cpuid(b->function, b->index).r[b->reg] & BIT(b->bit)))
		return false;
	if (b->when & CPUID_XSAVE && !xcr0)
		return false;
	if (b->when & CPUID_AVX && !(xcr0 & XFEATURE_AVX))
		return false;
	if (b->when & CPUID_AVX512 && (xcr0 & XFEATURE_AVX512) != XFEATURE_AVX512)
		return false;
	if (b->when & CPUID_INTEL && who != &intel)
		return false;
	if (b->when & CPUID_RUN_DELAY && !kvm_steal_supported())
		return false;
	return !(b->when & CPUID_AMD) || who == &amd;
}

static struct regs feature_bits(u32 function, u32 index)
{
	struct regs f = {{0}};

	for (u32 i = 0; i < kvm_nr_cpuid_bits; i++) {
		const struct kvm_cpuid_bit *b = &kvm_cpuid_bits[i];

		if (b->function == function && b->index == index && offered(b))
			f.r[b->reg] |= BIT(b->bit);
	}
	return f;
}

/* ---- leaves ---- */

static struct kvm_cpuid_entry2 *add(u32 function, u32 index, u32 flags, struct regs v)
{
	struct kvm_cpuid_entry2 *e = &supported[nr_supported];

	/* The table is sized for the most sub-leaves that can come; a host with more loses the
	 * last. */
	if (nr_supported < MAX_ENTRIES - 1)
		nr_supported++;
	*e = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = flags,
		.eax = v.r[KVM_CPUID_EAX],
		.ebx = v.r[KVM_CPUID_EBX],
		.ecx = v.r[KVM_CPUID_ECX],
		.edx = v.r[KVM_CPUID_EDX],
	};
	return e;
}

static void vendor_leaf(u32 function, u32 index)
{
	struct regs v = {{0}};

	v.r[KVM_CPUID_EAX] = function ? who->max_extended : who->max_basic;
	if (!function || who == &amd) {
		memcpy(&v.r[KVM_CPUID_EBX], who->vendor, 4);
		memcpy(&v.r[KVM_CPUID_EDX], who->vendor + 4, 4);
		memcpy(&v.r[KVM_CPUID_ECX], who->vendor + 8, 4);
	}
	add(function, 0, 0, v);
}

static void signature_leaf(u32 function, u32 index)
{
	struct regs v = feature_bits(function, 0);

	v.r[KVM_CPUID_EAX] = native ? host_cpuid(1, 0).r[KVM_CPUID_EAX] : who->signature;
	v.r[KVM_CPUID_EBX] =
		8 << 8; /* CLFLUSH works on 8 quadwords; ids and counts are the VMM's to fill in */
	add(function, 0, 0, v);
}

static void extended_signature_leaf(u32 function, u32 index)
{
	struct regs v = feature_bits(function, 0);

	if (who == &amd)
		v.r[KVM_CPUID_EAX] = native ? host_cpuid(1, 0).r[KVM_CPUID_EAX] : who->signature;
	add(function, 0, 0, v);
}

static void features_leaf(u32 function, u32 index)
{
	add(function, index, 0, feature_bits(function, index));
}

static void structured_features_leaf(u32 function, u32 index)
{
	struct regs v = feature_bits(7, 0);

	v.r[KVM_CPUID_EAX] = 1; /* the highest sub-leaf */
	add(7, 0, SIGNIFICANT, v);
	add(7, 1, SIGNIFICANT, feature_bits(7, 1));
}

/* Intel's leaf 2 says "see leaf 4 and 0x18"; AMD has none. */
static void descriptors_leaf(u32 function, u32 index)
{
	struct regs v = {{0}};

	if (who == &intel) {
		v.r[KVM_CPUID_EAX] = 0x00feff01;
		v.r[KVM_CPUID_EBX] = 0xf0;
	}
	add(function, 0, 0, v);
}

/*
 * Caches: Intel's leaf 4 and AMD's 0x8000001d have one format, but for the core count in EAX[31:26]
 * of the former. The host's caches are shown in whichever the personality has.
 */
static void cache_leaf(u32 function, u32 index)
{
	u32 source = host_amd ? 0x8000001d : 4;
	u32 mask = host_amd || function != 4 ? 0x03ffffff : ~0u;

	if ((function == 4) != (who == &intel)) {
		add(function, 0, SIGNIFICANT, (struct regs){{0}});
		return;
	}
	for (u32 i = 0;; i++) {
		struct regs v = host_cpuid(source, i);

		v.r[KVM_CPUID_EAX] &= mask;
		/* The list ends with the entry of type 0; eight levels are more than any host has.
		 */
		if (!(v.r[KVM_CPUID_EAX] & 0x1f) || i == 8) {
			add(function, i, SIGNIFICANT, (struct regs){{0}});
			return;
		}
		add(function, i, SIGNIFICANT, v);
	}
}

static void empty_leaf(u32 function, u32 index)
{
	add(function, 0, 0, (struct regs){{0}});
}

/* No topology: the VMM's to tell. */
static void topology_leaf(u32 function, u32 index)
{
	add(function, 0, SIGNIFICANT, (struct regs){{0}});
}

static void xsave_leaf(u32 function, u32 index)
{
	u64 xcr0 = x86_host_xcr0();
	struct regs v = {{0}};
	u32 compacted = 576, offset, size;
	bool align64;

	if (!xcr0) {
		add(function, 0, SIGNIFICANT, v);
		return;
	}
	v.r[KVM_CPUID_EAX] = (u32)xcr0;
	v.r[KVM_CPUID_EBX] = v.r[KVM_CPUID_ECX] = x86_xsave_size(xcr0);
	v.r[KVM_CPUID_EDX] = xcr0 >> 32;
	add(function, 0, SIGNIFICANT, v);

	for (u32 i = 2; i < 63; i++) {
		if (!x86_xsave_component(i, &offset, &size, &align64))
			continue;
		compacted = (align64 ? ALIGN_UP(compacted, 64) : compacted) + size;
	}
	v = feature_bits(function, 1);
	v.r[KVM_CPUID_EBX] = compacted;
	add(function, 1, SIGNIFICANT, v);

	/* Supervisor states and XFD are not offered. */
	for (u32 i = 2; i < 63; i++)
		if (x86_xsave_component(i, &offset, &size, &align64))
			add(function, i, SIGNIFICANT,
			    (struct regs){{size, offset, align64 ? BIT(1) : 0, 0}});
}

static void kvm_signature_leaf(u32 function, u32 index)
{
	struct regs v = {{0x40000001}};

	memcpy(&v.r[KVM_CPUID_EBX], "KVMKVMKVM\0\0\0", 12);
	add(function, 0, 0, v);
}

static void brand_leaf(u32 function, u32 index)
{
	char brand[48] = {0};
	struct regs v;

	strncpy(brand, who->brand, sizeof(brand) - 1);
	memcpy(&v, brand + (function - 0x80000002) * 16, sizeof(v));
	add(function, 0, 0, native ? host_cpuid(function, 0) : v);
}

/* Cache and TLB descriptions in the vendor's own formats, which only a host of that vendor can fill
 * in. */
static void vendor_cache_leaf(u32 function, u32 index)
{
	struct regs v = {{0}};

	if (native)
		v = host_cpuid(function, 0);
	else if (function == 0x80000006)
		/* L2 in ECX is common to both vendors; the associativity code also nearly so. */
		v.r[KVM_CPUID_ECX] = host_cpuid(function, 0).r[KVM_CPUID_ECX];
	if (function == 0x80000006)
		v.r[KVM_CPUID_EDX] &= ~(BIT(16) | BIT(17));
	add(function, 0, 0, v);
}

static void address_size_leaf(u32 function, u32 index)
{
	struct regs v = feature_bits(function, 0);
	u32 phys = host_cpuid(function, 0).r[KVM_CPUID_EAX] & 0xff;
	bool la57 = feature_bits(7, 0).r[KVM_CPUID_ECX] & BIT(16);

	if (phys < 36)
		phys = 36;
	v.r[KVM_CPUID_EAX] = MIN(phys, 52) | (la57 ? 57 : 48) << 8;
	add(function, 0, 0, v);
}

/* Optimisation hints: widths of the host's vector units. */
static void hints_leaf(u32 function, u32 index)
{
	struct regs v = {{0}};

	if (native)
		v.r[KVM_CPUID_EAX] = host_cpuid(function, 0).r[KVM_CPUID_EAX] & 7;
	add(function, 0, 0, v);
}

/* Leaves that are not listed, up to the highest of their range, are zero. */
static const struct {
	u32 function;
	void (*make)(u32 function, u32 index);
} leaves[] = {
	{0x0, vendor_leaf},
	{0x1, signature_leaf},
	{0x2, descriptors_leaf},
	{0x4, cache_leaf},
	{0x6, features_leaf},
	{0x7, structured_features_leaf},
	{0xb, topology_leaf},
	{0xd, xsave_leaf},
	{0x1f, topology_leaf},
	{0x40000000, kvm_signature_leaf},
	{0x40000001, features_leaf},
	{0x80000000, vendor_leaf},
	{0x80000001, extended_signature_leaf},
	{0x80000002, brand_leaf},
	{0x80000003, brand_leaf},
	{0x80000004, brand_leaf},
	{0x80000005, vendor_cache_leaf},
	{0x80000006, vendor_cache_leaf},
	{0x80000007, features_leaf},
	{0x80000008, address_size_leaf},
	{0x80000019, vendor_cache_leaf},
	{0x8000001a, hints_leaf},
	{0x8000001d, cache_leaf},
	{0x80000021, features_leaf},
};

static void make_range(u32 first, u32 last)
{
	for (u32 function = first; function <= last; function++) {
		void (*make)(u32 function, u32 index) = empty_leaf;

		for (u32 i = 0; i < ARRAY_SIZE(leaves); i++)
			if (leaves[i].function == function)
				make = leaves[i].make;
		make(function, 0);
	}
}

/* What works although the supported list may lack it, as KVM lists it: MOVBE and RDPID. */
static void make_emulated(void)
{
	emulated[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 7};
	emulated[1] = (struct kvm_cpuid_entry2){.function = 1, .ecx = BIT(22)};
	emulated[2] =
		(struct kvm_cpuid_entry2){.function = 7, .flags = SIGNIFICANT, .ecx = BIT(22)};
}

static void build(void)
{
	choose_personality();
	make_range(0, who->max_basic);
	make_range(0x40000000, 0x40000001);
	make_range(0x80000000, who->max_extended);
	make_emulated();
}

const struct kvm_cpuid_entry2 *kvm_supported_cpuid(u32 *n)
{
	pthread_once(&once, build);
	*n = nr_supported;
	return supported;
}

const struct kvm_cpuid_entry2 *kvm_emulated_cpuid(u32 *n)
{
	pthread_once(&once, build);
	*n = ARRAY_SIZE(emulated);
	return emulated;
}

bool kvm_personality_amd(void)
{
	pthread_once(&once, build);
	return who == &amd;
}
