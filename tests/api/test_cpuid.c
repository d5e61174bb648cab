/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's CPUID through the public API: what is offered, what is taken, and what comes back.
 * ANYVISOR_CPU chooses the personality that the offer is checked for; all of this holds for each.
 */
#include "api.h"
#include "cpuid.h"

#include <stdbool.h>

static int dev, vm, vcpu;

static int setup(void **state)
{
	dev = dev_open();
	vm = ok(dev, KVM_CREATE_VM, 0);
	vcpu = ok(vm, KVM_CREATE_VCPU, 0);
	return 0;
}

static int teardown(void **state)
{
	anyvisor_close(vcpu);
	anyvisor_close(vm);
	return anyvisor_close(dev);
}

static void cpuid(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev),
			  *out = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	size_t size = sizeof(*c) + c->nent * sizeof(c->entries[0]);

	/* Nothing set: nothing there. */
	ok(vcpu, KVM_GET_CPUID2, out);
	ok(vcpu, KVM_SET_CPUID2, c);
	out->nent = c->nent - 1;
	fails(E2BIG, vcpu, KVM_GET_CPUID2, out);
	out->nent = c->nent;
	ok(vcpu, KVM_GET_CPUID2, out);
	assert_int_equal(out->entries[0].ebx, c->entries[0].ebx);
	/* XSAVE is not on yet, so its size is that of the legacy area and header. */
	assert_int_equal(leaf(out, 0xd, 0)->ebx, 576);
	bad_pointers(vcpu, KVM_GET_CPUID2, out, size, 1);
	bad_pointers(vcpu, KVM_SET_CPUID2, c, size, 0);

	c->nent = 257;
	fails(E2BIG, vcpu, KVM_SET_CPUID2, c);
	c->nent = ~0u;
	fails(E2BIG, vcpu, KVM_SET_CPUID2, c);
	c->nent = 0;
	ok(vcpu, KVM_SET_CPUID2, c);
	free(c);
	free(out);
}

static void cpuid_refused(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev);

	leaf(c, 0x80000008, 0)->eax = 52 | 50 << 8; /* 50 bits of linear address do not exist */
	fails(EINVAL, vcpu, KVM_SET_CPUID2, c);
	leaf(c, 0x80000008, 0)->eax = 52 | 48 << 8;
	leaf(c, 0xd, 0)->eax |= 1 << 18; /* AMX needs a permission */
	fails(EPERM, vcpu, KVM_SET_CPUID2, c);
	free(c);
}

static void cpuid_old(void **state)
{
	struct {
		struct kvm_cpuid head;
		struct kvm_cpuid_entry e[2];
	} in = {.head.nent = 2, .e = {{0, 1, 'a', 'b', 'c'}, {1, 0x600, 0, 1u << 27, 1 << 9}}};
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[2];
	} out = {.head.nent = 2};

	ok(vcpu, KVM_SET_CPUID, &in);
	ok(vcpu, KVM_GET_CPUID2, &out);
	assert_int_equal(out.e[0].ecx, 'b');
	assert_int_equal(out.e[0].edx, 'c');
	assert_int_equal(out.e[1].eax, 0x600);
	/* OSXSAVE follows CR4. */
	assert_int_equal(out.e[1].ecx, 0);
	in.head.nent = 257;
	fails(E2BIG, vcpu, KVM_SET_CPUID, &in);
	in.head.nent = 2;
	bad_pointers(vcpu, KVM_SET_CPUID, &in, sizeof(in), 0);
}

/* What is offered is consistent in itself. */
static void cpuid_offer(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev);
	struct kvm_cpuid_entry2 *l1 = leaf(c, 1, 0), *l7 = leaf(c, 7, 0), *x = leaf(c, 0xd, 0);
	u64 xcr0 = x->eax | (u64)x->edx << 32;
	char sig[13] = {0};
	u32 end = 576;

	assert_true(leaf(c, 0, 0)->eax >= 0xd);
	assert_true(leaf(c, 0x80000000, 0)->eax >= 0x80000008);
	memcpy(sig, &leaf(c, 0x40000000, 0)->ebx, 12);
	assert_string_equal(sig, "KVMKVMKVM");
	/* clock, no I/O delay, new clock, unhalt, yield, stable clock; steal time by the host */
	assert_int_equal(leaf(c, 0x40000001, 0)->eax & ~(1u << 5),
			 1 << 0 | 1 << 1 | 1 << 3 | 1 << 7 | 1 << 13 | 1 << 24);
	assert_int_equal(leaf(c, 0x40000001, 0)->eax >> 5 & 1,
			 ok(dev, KVM_CHECK_EXTENSION, KVM_CAP_STEAL_TIME));
	/* not implemented: MONITOR, VMX, TSC-deadline by default; VME; SGX, HLE, MPX, RTM; PKU's OS
	 * bit; AMX, CET */
	assert_int_equal(l1->ecx & (1 << 3 | 1 << 5 | 1 << 24 | 1 << 27), 0);
	assert_int_equal(l1->edx & 1 << 1, 0);
	assert_int_equal(l7->ebx & (1 << 2 | 1 << 4 | 1 << 11 | 1 << 14), 0);
	assert_int_equal(l7->ecx & (1 << 4 | 1 << 7 | 1 << 5), 0);
	assert_int_equal(l7->edx & ((7 << 22 & ~(1 << 23)) | 1 << 20), 0);
	assert_int_equal(leaf(c, 0x80000001, 0)->ecx & (1 << 2 | 1 << 15), 0);
	assert_null(leaf(c, 0xd, 18));
	if (leaf(c, 0xa, 0))
		assert_int_equal(leaf(c, 0xa, 0)->eax | leaf(c, 0xa, 0)->edx, 0);
	/* AVX and its children only with the state that they need. */
	if (!(xcr0 & 4))
		assert_int_equal((l1->ecx & (1 << 28 | 1 << 12 | 1 << 29)) | (l7->ebx & 1 << 5), 0);
	if ((xcr0 & 0xe0) != 0xe0)
		assert_int_equal(l7->ebx & 1 << 16, 0);
	for (u32 i = 2; i < 63; i++) {
		if (!(xcr0 >> i & 1)) {
			assert_null(leaf(c, 0xd, i));
			continue;
		}
		assert_non_null(leaf(c, 0xd, i));
		if (leaf(c, 0xd, i)->ebx + leaf(c, 0xd, i)->eax > end)
			end = leaf(c, 0xd, i)->ebx + leaf(c, 0xd, i)->eax;
	}
	assert_int_equal(x->ebx, end);
	assert_int_equal(x->ecx, end);
	/* No leaf twice. */
	for (u32 i = 0; i < c->nent; i++)
		for (u32 j = 0; j < i; j++)
			assert_false(c->entries[i].function == c->entries[j].function &&
				     c->entries[i].index == c->entries[j].index);
	free(c);
}

/* The vendor's own leaves, and nothing of the other's. */
static void personality(void **state)
{
	const char *wish = getenv("ANYVISOR_CPU");
	struct kvm_cpuid2 *c = all_cpuid(dev);
	struct kvm_cpuid_entry2 *l0 = leaf(c, 0, 0), *e1 = leaf(c, 0x80000001, 0);
	u32 family = leaf(c, 1, 0)->eax >> 8 & 0xf;
	char vendor[13] = {0};

	memcpy(vendor, &l0->ebx, 4);
	memcpy(vendor + 4, &l0->edx, 4);
	memcpy(vendor + 8, &l0->ecx, 4);
	if (wish && !strcmp(wish, "intel"))
		assert_string_equal(vendor, "GenuineIntel");
	if (wish && !strcmp(wish, "amd"))
		assert_string_equal(vendor, "AuthenticAMD");
	if (!strcmp(vendor, "GenuineIntel")) {
		assert_int_equal(family, 6);
		assert_int_equal(leaf(c, 0x80000000, 0)->eax, 0x80000008);
		assert_null(leaf(c, 0x8000001d, 0));
		/* SSE4A, MISALIGNSSE, TOPOEXT; MMXEXT and the copies of leaf 1 */
		assert_int_equal(e1->ecx & (1 << 6 | 1 << 7 | 1 << 22), 0);
		assert_int_equal(e1->edx & (1 << 22 | 1 << 0 | 1 << 24), 0);
		assert_int_equal(leaf(c, 0x80000008, 0)->ebx, 0);
		assert_int_not_equal(leaf(c, 4, 0)->eax & 0x1f, 0);
	} else {
		assert_string_equal(vendor, "AuthenticAMD");
		assert_int_equal(family, 15);
		assert_int_equal(leaf(c, 4, 0)->eax, 0);
		assert_int_not_equal(leaf(c, 0x8000001d, 0)->eax & 0x1f, 0);
		assert_int_equal(e1->edx & 0x1, 1);
		assert_int_equal(leaf(c, 7, 0)->edx & 3u << 26, 0);
	}
	assert_true((leaf(c, 0x80000008, 0)->eax & 0xff) <= 52);
	free(c);
}

#define MSR_AMD64_DE_CFG     0xc0011029
#define MSR_KVM_POLL_CONTROL 0x4b564d05

static bool is_listed(unsigned long cmd, u32 msr)
{
	struct {
		struct kvm_msr_list head;
		u32 index[512];
	} l = {.head.nmsrs = 512};

	ok(dev, cmd, &l);
	for (u32 i = 0; i < l.head.nmsrs; i++)
		if (l.index[i] == msr)
			return true;
	return false;
}

/* LFENCE's MSR describes an AMD processor only; what a VMM has to save of KVM's own is the same
 * everywhere. */
static void listed_msrs(void **state)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {{.nmsrs = 1}, {.index = MSR_AMD64_DE_CFG}};
	struct kvm_cpuid2 *c = all_cpuid(dev);
	bool amd = leaf(c, 0, 0)->ebx == 0x68747541;

	assert_true(is_listed(KVM_GET_MSR_INDEX_LIST, MSR_KVM_POLL_CONTROL));
	assert_false(is_listed(KVM_GET_MSR_INDEX_LIST, MSR_AMD64_DE_CFG));
	assert_int_equal(is_listed(KVM_GET_MSR_FEATURE_INDEX_LIST, MSR_AMD64_DE_CFG), amd);
	assert_int_equal(ok(dev, KVM_GET_MSRS, &m), amd);
	if (amd)
		assert_int_equal(m.e.data, 2);
	free(c);
}

#define XCR0_PKRU (1u << 9)
#define CR4_PKE	  (1u << 22)

/* Protection keys are offered on any host, with PKRU's place in XSAVE's area; the VMM and the
 * guest see one and the same register. */
static void protection_keys(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev);
	struct kvm_cpuid_entry2 *x = leaf(c, 0xd, 9);
	struct kvm_xsave area = {0}, back;
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = 3 | XCR0_PKRU};
	struct kvm_sregs s;
	struct guest g;
	u32 *slot;

	assert_true(leaf(c, 7, 0)->ecx & 1 << 3);
	assert_true(leaf(c, 0xd, 0)->eax & XCR0_PKRU);
	assert_non_null(x);
	assert_int_equal(x->eax, 8);
	assert_true(x->ebx >= 576 && x->ebx % 64 == 0);
	assert_int_equal(x->ecx | x->edx, 0);

	guest_make(&g);
	guest_start(&g);
	/* Without CPUID there is no such state, though CR4 takes every bit that the engine knows.
	 */
	fails(EINVAL, g.vcpu, KVM_SET_XCRS, &xcrs);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.cr4 |= CR4_PKE | 1 << 18;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	ok(g.vcpu, KVM_SET_CPUID2, c);
	ok(g.vcpu, KVM_SET_XCRS, &xcrs);
	ok(g.vcpu, KVM_SET_SREGS, &s);

	slot = (u32 *)((u8 *)area.region + x->ebx);
	area.region[0] = 0x37f;
	area.region[6] = 0x1f80;
	((u64 *)area.region)[64] = XCR0_PKRU;
	slot[0] = 0xa5000018;
	ok(g.vcpu, KVM_SET_XSAVE, &area);
	ok(g.vcpu, KVM_GET_XSAVE, &back);
	assert_true(((u64 *)back.region)[64] & XCR0_PKRU);
	assert_memory_equal((u8 *)back.region + x->ebx, slot, 8);

	code(&g, 0x66, 0x31, 0xc9, 0x0f, 0x01, 0xee); /* xor ecx, ecx; rdpkru */
	code(&g, 0x66, 0xe7, DONE_PORT);	      /* out DONE_PORT, eax */
	code(&g, 0x66, 0x31, 0xd2, 0x66, 0xb8, LE32(0x40), 0x0f, 0x01, 0xef); /* wrpkru */
	code(&g, 0x66, 0xb8, LE32(7), 0x0f, 0xa2, 0x66, 0x89, 0xc8); /* CPUID.7:ECX, OSPKE */
	code(&g, 0x66, 0xe7, DONE_PORT);
	guest_done(&g);
	assert_int_equal(*(const u32 *)pio_data(&g), 0xa5000018);
	guest_done(&g);
	assert_int_equal(*(const u32 *)pio_data(&g) >> 3 & 3, 3);
	ok(g.vcpu, KVM_GET_XSAVE2, &back);
	assert_int_equal(*(u32 *)((u8 *)back.region + x->ebx), 0x40);

	((u64 *)area.region)[64] = 0;
	ok(g.vcpu, KVM_SET_XSAVE, &area);
	ok(g.vcpu, KVM_GET_XSAVE, &back);
	assert_int_equal(((u64 *)back.region)[64] & XCR0_PKRU, 0);
	assert_int_equal(*(u32 *)((u8 *)back.region + x->ebx), 0);
	guest_end(&g);
	free(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(cpuid),	T(cpuid_refused),   T(cpuid_old),   T(cpuid_offer),
		T(personality), T(protection_keys), T(listed_msrs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
