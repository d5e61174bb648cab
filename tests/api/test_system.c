/* SPDX-License-Identifier: MIT */
/*
 * The /dev/kvm fd through the public API: every command of it, its errnos, and pointers that lead
 * nowhere.
 */
#include "api.h"

#include <asm/kvm_para.h>
#include <stdio.h>

#define MAX_CPUID 256
#define MAX_MSRS  512

struct cpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[MAX_CPUID];
};
struct msr_list {
	struct kvm_msr_list head;
	u32 index[MAX_MSRS];
};
struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

static int dev;

static int setup(void **state)
{
	dev = dev_open();
	return 0;
}

static int teardown(void **state)
{
	return anyvisor_close(dev);
}

static void open_flags(void **state)
{
	int fd = anyvisor_open("/dev/kvm", O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	anyvisor_close(fd);
	assert_int_equal(fcntl(dev, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void api_version(void **state)
{
	assert_int_equal(ok(dev, KVM_GET_API_VERSION, 0), 12);
	fails(EINVAL, dev, KVM_GET_API_VERSION, 1);
}

static void mmap_size(void **state)
{
	assert_int_equal(ok(dev, KVM_GET_VCPU_MMAP_SIZE, 0), 3 * PAGE);
	fails(EINVAL, dev, KVM_GET_VCPU_MMAP_SIZE, 1);
}

static void unknown_commands(void **state)
{
	static const unsigned long foreign[] = {
		_IO(KVMIO, 0xff),
		_IO('Z', 0),
		0,
		~0ul,
		KVM_CREATE_VCPU,
		KVM_RUN,
		KVM_GET_REGS,
		KVM_SET_USER_MEMORY_REGION,
		KVM_CREATE_IRQCHIP,
		KVM_ENABLE_CAP,
		KVM_IRQFD,
		KVM_GET_CLOCK,
		KVM_SET_MSRS,
		KVM_SET_CPUID2,
		KVM_GET_LAPIC,
		/* a known number with another size */
		_IOWR(KVMIO, 0x02, u64),
		_IOR(KVMIO, 0x9d, u32),
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(foreign); i++)
		fails(ENOTTY, dev, foreign[i], 0);
	/* Only the low 32 bits of a command count. */
	assert_int_equal(ok(dev, KVM_GET_API_VERSION | 1ul << 40, 0), 12);
}

static void foreign_fds(void **state)
{
	int p[2];

	fails(EBADF, -1, KVM_GET_API_VERSION, 0);
	assert_int_equal(pipe(p), 0);
	fails(EBADF, p[0], KVM_GET_API_VERSION, 0);
	close(p[0]);
	close(p[1]);
}

static void create_vm(void **state)
{
	int a = ok(dev, KVM_CREATE_VM, 0), b = ok(dev, KVM_CREATE_VM, 0);

	assert_int_not_equal(a, b);
	assert_int_equal(fcntl(a, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	/* Two VMs know nothing of each other. */
	ok(a, KVM_CREATE_IRQCHIP, 0);
	ok(b, KVM_CREATE_IRQCHIP, 0);
	anyvisor_close(a);
	fails(EEXIST, b, KVM_CREATE_IRQCHIP, 0);
	anyvisor_close(b);
	fails(EINVAL, dev, KVM_CREATE_VM, 1);
	fails(EINVAL, dev, KVM_CREATE_VM, ~0ul);
}

/* The VM keeps working when the system fd is gone. */
static void vm_outlives_dev(void **state)
{
	int d = dev_open(), vm = ok(d, KVM_CREATE_VM, 0);

	anyvisor_close(d);
	fails(EBADF, d, KVM_GET_API_VERSION, 0);
	ok(vm, KVM_CREATE_VCPU, 0);
	anyvisor_close(vm);
}

/* What QEMU 7.2's pc machine asks for. */
static void check_extension(void **state)
{
	static const struct {
		int cap, value; /* -1: any positive answer */
	} required[] = {
		{KVM_CAP_USER_MEMORY, 1},
		{KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
		{KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
		{KVM_CAP_SET_TSS_ADDR, 1},
		{KVM_CAP_EXT_CPUID, 1},
		{KVM_CAP_IRQCHIP, 1},
		{KVM_CAP_IRQFD, 1},
		{KVM_CAP_IRQFD_RESAMPLE, 1},
		{KVM_CAP_IOEVENTFD, 1},
		{KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
		{KVM_CAP_SIGNAL_MSI, 1},
		{KVM_CAP_IMMEDIATE_EXIT, 1},
		{KVM_CAP_IRQ_ROUTING, 4096},
		{KVM_CAP_IRQ_INJECT_STATUS, 1},
		{KVM_CAP_PIT2, 1},
		{KVM_CAP_PIT_STATE2, 1},
		{KVM_CAP_READONLY_MEM, 1},
		{KVM_CAP_MULTI_ADDRESS_SPACE, 2},
		{KVM_CAP_NR_MEMSLOTS, 32764},
		{KVM_CAP_XSAVE, 1},
		{KVM_CAP_XCRS, 1},
		{KVM_CAP_VCPU_EVENTS, 1},
		{KVM_CAP_DEBUGREGS, 1},
		{KVM_CAP_MCE, 32},
		{KVM_CAP_TSC_CONTROL, 1},
		{KVM_CAP_GET_TSC_KHZ, 1},
		{KVM_CAP_TSC_DEADLINE_TIMER, 1},
		{KVM_CAP_KVMCLOCK_CTRL, 1},
		{KVM_CAP_ADJUST_CLOCK,
		 KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC},
		{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3},
		{KVM_CAP_COALESCED_MMIO, 2},
		{KVM_CAP_COALESCED_PIO, 1},
		{KVM_CAP_SPLIT_IRQCHIP, 1},
		{KVM_CAP_MAX_VCPUS, -1},
		{KVM_CAP_XSAVE2, -1},
	};
	int vm = ok(dev, KVM_CREATE_VM, 0), r;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(required); i++) {
		r = ok(dev, KVM_CHECK_EXTENSION, required[i].cap);
		if (r != required[i].value && (required[i].value != -1 || r <= 0))
			fail_msg("capability %d: %d", required[i].cap, r);
		assert_int_equal(ok(vm, KVM_CHECK_EXTENSION, required[i].cap), r);
	}
	anyvisor_close(vm);
}

static void check_extension_unknown(void **state)
{
	static const u64 absent[] = {
		9999,
		~0ull,
		KVM_CAP_PV_MMU,
		KVM_CAP_S390_PSW,
		KVM_CAP_XEN_HVM,
		KVM_CAP_HYPERV,
		KVM_CAP_NESTED_STATE,
		KVM_CAP_DIRTY_LOG_RING,
		KVM_CAP_SGX_ATTRIBUTE,
		/* the number of a present one in the low half */
		1ull << 32 | KVM_CAP_IRQCHIP,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(absent); i++)
		assert_int_equal(ok(dev, KVM_CHECK_EXTENSION, absent[i]), 0);
}

static void vcpu_limits(void **state)
{
	int nr = ok(dev, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	int max = ok(dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	int ids = ok(dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);

	assert_int_equal(nr, sysconf(_SC_NPROCESSORS_ONLN));
	assert_true(max >= nr && ids >= max);
}

static const struct kvm_cpuid_entry2 *leaf(const struct cpuid_list *l, u32 function)
{
	u32 i;

	for (i = 0; i < l->head.nent; i++)
		if (l->entry[i].function == function)
			return &l->entry[i];
	return NULL;
}

static void supported_cpuid(void **state)
{
	static struct cpuid_list l;
	const struct kvm_cpuid_entry2 *e;
	u32 i, j, n;

	l.head.nent = MAX_CPUID;
	ok(dev, KVM_GET_SUPPORTED_CPUID, &l);
	n = l.head.nent;
	assert_in_range(n, 10, MAX_CPUID);

	e = leaf(&l, 0);
	assert_non_null(e);
	assert_true(e->ebx == 0x756e6547 || e->ebx == 0x68747541); /* Genu, Auth */
	assert_true(e->eax >= 0xd);
	e = leaf(&l, KVM_CPUID_SIGNATURE);
	assert_non_null(e);
	assert_memory_equal(&e->ebx, "KVMK", 4);
	assert_non_null(leaf(&l, KVM_CPUID_FEATURES));
	assert_non_null(leaf(&l, 0x80000001));
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			assert_false(l.entry[i].function == l.entry[j].function &&
				     l.entry[i].index == l.entry[j].index);

	/* Too small in every way; an absurd count is only too large a promise. */
	l.head.nent = 0;
	fails(E2BIG, dev, KVM_GET_SUPPORTED_CPUID, &l);
	l.head.nent = n - 1;
	fails(E2BIG, dev, KVM_GET_SUPPORTED_CPUID, &l);
	l.head.nent = ~0u;
	ok(dev, KVM_GET_SUPPORTED_CPUID, &l);
	assert_int_equal(l.head.nent, n);
	l.head.nent = n;
	ok(dev, KVM_GET_SUPPORTED_CPUID, &l);

	l.head.nent = n;
	bad_pointers(dev, KVM_GET_SUPPORTED_CPUID, &l, sizeof(l.head) + n * sizeof(l.entry[0]), 1);
}

static void emulated_cpuid(void **state)
{
	static struct cpuid_list l;
	u32 n;

	memset(&l, 0, sizeof(l));
	l.head.nent = MAX_CPUID;
	ok(dev, KVM_GET_EMULATED_CPUID, &l);
	n = l.head.nent;
	assert_in_range(n, 1, MAX_CPUID);

	l.head.nent = 0;
	fails(E2BIG, dev, KVM_GET_EMULATED_CPUID, &l);
	l.head.nent = MAX_CPUID;
	l.entry[7].padding[1] = 1;
	fails(EINVAL, dev, KVM_GET_EMULATED_CPUID, &l);
	fails(EFAULT, dev, KVM_GET_EMULATED_CPUID, NULL);
}

static u32 read_list(unsigned long cmd, struct msr_list *l)
{
	u32 n;

	l->head.nmsrs = 0;
	fails(E2BIG, dev, cmd, l);
	n = l->head.nmsrs;
	assert_in_range(n, 1, MAX_MSRS);
	l->head.nmsrs = n - 1;
	fails(E2BIG, dev, cmd, l);
	assert_int_equal(l->head.nmsrs, n);
	ok(dev, cmd, l);
	assert_int_equal(l->head.nmsrs, n);
	l->head.nmsrs = ~0u;
	ok(dev, cmd, l);
	assert_int_equal(l->head.nmsrs, n);
	bad_pointers(dev, cmd, l, sizeof(l->head) + n * sizeof(u32), 1);
	return n;
}

/* Everything that a VMM is told to save can be read from a new vCPU and written back. */
static void msr_index_list(void **state)
{
	static const u32 present[] = {0x10,	  0x174,      0x175, 0x176, 0xc0000081, 0xc0000082,
				      0xc0000084, 0xc0000102, 0x277, 0x6e0, 0x4b564d00, 0x4b564d01};
	static struct msr_list l;
	struct one_msr m = {.head.nmsrs = 1};
	u32 n = read_list(KVM_GET_MSR_INDEX_LIST, &l), i, j;
	int vm = ok(dev, KVM_CREATE_VM, 0), vcpu;

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	vcpu = ok(vm, KVM_CREATE_VCPU, 0);
	for (i = 0; i < ARRAY_SIZE(present); i++) {
		for (j = 0; j < n && l.index[j] != present[i]; j++)
			;
		if (j == n)
			fail_msg("MSR %#x is not listed", present[i]);
	}
	for (i = 0; i < n; i++) {
		for (j = 0; j < i; j++)
			assert_int_not_equal(l.index[i], l.index[j]);
		m.entry = (struct kvm_msr_entry){.index = l.index[i]};
		if (ok(vcpu, KVM_GET_MSRS, &m) != 1)
			fail_msg("MSR %#x cannot be read", l.index[i]);
		if (ok(vcpu, KVM_SET_MSRS, &m) != 1)
			fail_msg("MSR %#x cannot be written back", l.index[i]);
	}
	anyvisor_close(vcpu);
	anyvisor_close(vm);
}

/* What the system fd says of a feature MSR is what a new vCPU has in it. */
static void feature_msrs(void **state)
{
	static struct msr_list l;
	static struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[256];
	} many;
	struct one_msr a = {.head.nmsrs = 1}, b = {.head.nmsrs = 1};
	u32 n = read_list(KVM_GET_MSR_FEATURE_INDEX_LIST, &l), i;
	int vm = ok(dev, KVM_CREATE_VM, 0), vcpu = ok(vm, KVM_CREATE_VCPU, 0);

	for (i = 0; i < n; i++) {
		a.entry = b.entry = (struct kvm_msr_entry){.index = l.index[i]};
		assert_int_equal(ok(dev, KVM_GET_MSRS, &a), 1);
		assert_int_equal(ok(vcpu, KVM_GET_MSRS, &b), 1);
		assert_int_equal(a.entry.data, b.entry.data);
	}
	anyvisor_close(vcpu);
	anyvisor_close(vm);

	/* It stops at the first that is none: the number before is the result. */
	many.entry[0].index = l.index[0];
	many.entry[1].index = 0xc0000080;
	many.head.nmsrs = 2;
	assert_int_equal(ok(dev, KVM_GET_MSRS, &many), 1);
	many.head.nmsrs = 0;
	assert_int_equal(ok(dev, KVM_GET_MSRS, &many), 0);
	many.head.nmsrs = 256;
	fails(E2BIG, dev, KVM_GET_MSRS, &many);
	many.head.nmsrs = ~0u;
	fails(E2BIG, dev, KVM_GET_MSRS, &many);
	bad_pointers(dev, KVM_GET_MSRS, &a, sizeof(a), 1);
}

static void mce_cap(void **state)
{
	u64 cap = 0;

	ok(dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap);
	assert_true(cap & 1 << 8 && cap & 1 << 24);
	bad_pointers(dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap, sizeof(cap), 1);
}

static void xcomp_attr(void **state)
{
	u64 xcr0 = 0;
	struct kvm_device_attr a = {.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uintptr_t)&xcr0};

	ok(dev, KVM_HAS_DEVICE_ATTR, &a);
	ok(dev, KVM_GET_DEVICE_ATTR, &a);
	assert_int_equal(xcr0 & 3, 3);
	a.addr = 0;
	fails(EFAULT, dev, KVM_GET_DEVICE_ATTR, &a);
	a.attr = 77;
	fails(ENXIO, dev, KVM_HAS_DEVICE_ATTR, &a);
	fails(ENXIO, dev, KVM_GET_DEVICE_ATTR, &a);
	a.attr = KVM_X86_XCOMP_GUEST_SUPP;
	a.group = 1;
	fails(ENXIO, dev, KVM_HAS_DEVICE_ATTR, &a);
	fails(ENXIO, dev, KVM_GET_DEVICE_ATTR, &a);
	bad_pointers(dev, KVM_HAS_DEVICE_ATTR, &a, sizeof(a), 0);
	bad_pointers(dev, KVM_GET_DEVICE_ATTR, &a, sizeof(a), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_flags),
		cmocka_unit_test(api_version),
		cmocka_unit_test(mmap_size),
		cmocka_unit_test(unknown_commands),
		cmocka_unit_test(foreign_fds),
		cmocka_unit_test(create_vm),
		cmocka_unit_test(vm_outlives_dev),
		cmocka_unit_test(check_extension),
		cmocka_unit_test(check_extension_unknown),
		cmocka_unit_test(vcpu_limits),
		cmocka_unit_test(supported_cpuid),
		cmocka_unit_test(emulated_cpuid),
		cmocka_unit_test(msr_index_list),
		cmocka_unit_test(feature_msrs),
		cmocka_unit_test(mce_cap),
		cmocka_unit_test(xcomp_attr),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
