/* SPDX-License-Identifier: MIT */
/*
 * The VM fd through the public API: vCPU creation, interrupt controllers, clock, capabilities. Its
 * memory and I/O are in test_vm_io.c.
 */
#include "api.h"

#include <asm/kvm_para.h>
#include <limits.h>
#include <sys/wait.h>
#include <x86intrin.h>

static int dev, vm;

static int setup(void **state)
{
	dev = dev_open();
	vm = ok(dev, KVM_CREATE_VM, 0);
	return 0;
}

static int teardown(void **state)
{
	anyvisor_close(vm);
	return anyvisor_close(dev);
}

/* ---- the fd ---- */

static void unknown_commands(void **state)
{
	static const unsigned long foreign[] = {
		_IO(KVMIO, 0xff),
		_IO('Z', 3),
		0,
		~0ul,
		KVM_GET_API_VERSION,
		KVM_CREATE_VM,
		KVM_RUN,
		KVM_GET_SREGS,
		KVM_GET_MSR_INDEX_LIST,
		KVM_GET_SUPPORTED_CPUID,
		KVM_GET_VCPU_MMAP_SIZE,
		KVM_INTERRUPT,
		KVM_SET_DEVICE_ATTR,
		KVM_HAS_DEVICE_ATTR,
		KVM_XEN_HVM_CONFIG,
		KVM_MEMORY_ENCRYPT_OP,
		KVM_SET_PMU_EVENT_FILTER,
		KVM_RESET_DIRTY_RINGS,
		KVM_HYPERV_EVENTFD,
	};
	int vcpu = ok(vm, KVM_CREATE_VCPU, 0);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(foreign); i++)
		fails(ENOTTY, vm, foreign[i], 0);
	/* The VM's commands are not the vCPU's. */
	fails(ENOTTY, vcpu, KVM_CREATE_VCPU, 1);
	fails(ENOTTY, vcpu, KVM_CREATE_IRQCHIP, 0);
	fails(ENOTTY, vcpu, KVM_SET_USER_MEMORY_REGION, 0);
	anyvisor_close(vcpu);
}

static void bad_arguments(void **state)
{
	static const struct {
		unsigned long cmd;
		size_t size;
		int out;
	} commands[] = {
		{KVM_ENABLE_CAP, sizeof(struct kvm_enable_cap), 0},
		{KVM_CREATE_DEVICE, sizeof(struct kvm_create_device), 0},
		{KVM_SET_USER_MEMORY_REGION, sizeof(struct kvm_userspace_memory_region), 0},
		{KVM_GET_DIRTY_LOG, sizeof(struct kvm_dirty_log), 0},
		{KVM_CLEAR_DIRTY_LOG, sizeof(struct kvm_clear_dirty_log), 0},
		{KVM_SET_IDENTITY_MAP_ADDR, sizeof(u64), 0},
		{KVM_IRQ_LINE, sizeof(struct kvm_irq_level), 0},
		{KVM_IRQ_LINE_STATUS, sizeof(struct kvm_irq_level), 1},
		{KVM_GET_IRQCHIP, sizeof(struct kvm_irqchip), 1},
		{KVM_SET_IRQCHIP, sizeof(struct kvm_irqchip), 0},
		{KVM_CREATE_PIT2, sizeof(struct kvm_pit_config), 0},
		{KVM_GET_PIT, sizeof(struct kvm_pit_state), 1},
		{KVM_SET_PIT, sizeof(struct kvm_pit_state), 0},
		{KVM_GET_PIT2, sizeof(struct kvm_pit_state2), 1},
		{KVM_SET_PIT2, sizeof(struct kvm_pit_state2), 0},
		{KVM_SET_GSI_ROUTING, sizeof(struct kvm_irq_routing), 0},
		{KVM_SIGNAL_MSI, sizeof(struct kvm_msi), 0},
		{KVM_IRQFD, sizeof(struct kvm_irqfd), 0},
		{KVM_IOEVENTFD, sizeof(struct kvm_ioeventfd), 0},
		{KVM_REGISTER_COALESCED_MMIO, sizeof(struct kvm_coalesced_mmio_zone), 0},
		{KVM_UNREGISTER_COALESCED_MMIO, sizeof(struct kvm_coalesced_mmio_zone), 0},
		{KVM_GET_CLOCK, sizeof(struct kvm_clock_data), 1},
		{KVM_SET_CLOCK, sizeof(struct kvm_clock_data), 0},
		{KVM_REINJECT_CONTROL, sizeof(struct kvm_reinject_control), 0},
	};
	static const u8 zero[4096];
	size_t i;

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	ok(vm, KVM_CREATE_PIT, 0);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		bad_pointers(vm, commands[i].cmd, zero, commands[i].size, commands[i].out);
}

static void check_extension(void **state)
{
	int cap;

	for (cap = 0; cap < 300; cap++)
		assert_int_equal(ok(vm, KVM_CHECK_EXTENSION, cap),
				 ok(dev, KVM_CHECK_EXTENSION, cap));
	assert_int_equal(ok(vm, KVM_CHECK_EXTENSION, KVM_CAP_CHECK_EXTENSION_VM), 1);
	assert_int_equal(ok(vm, KVM_CHECK_EXTENSION, ~0ul), 0);
}

static void enable_cap_errors(void **state)
{
	struct kvm_enable_cap c = {.cap = 9999};

	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.cap = KVM_CAP_IRQCHIP; /* there, but nothing to turn on */
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.cap = KVM_CAP_EXCEPTION_PAYLOAD;
	c.flags = 1;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.flags = 0;
	c.args[0] = 1;
	ok(vm, KVM_ENABLE_CAP, &c);
	c.cap = KVM_CAP_X86_DISABLE_EXITS;
	c.args[0] = 1ull << 40;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.args[0] = ok(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
	ok(vm, KVM_ENABLE_CAP, &c);
	c.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE;
	c.args[0] = 2;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
	c.args[0] = KVM_DIRTY_LOG_INITIALLY_SET; /* not without the other */
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.args[0] = 4;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.args[0] = 3;
	ok(vm, KVM_ENABLE_CAP, &c);
}

/* A LAPIC that is switched off leaves a hole of ones in its page; without the quirk the VMM sees
 * the access. */
static void quirks(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_DISABLE_QUIRKS2, .args = {1ull << 40}};
	struct guest g;
	u64 mask;
	int hole;

	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	for (hole = 1; hole >= 0; hole--) {
		guest_make(&g);
		mask = ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);
		assert_true(mask & KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
		c.args[0] = hole ? 0 : KVM_X86_QUIRK_LAPIC_MMIO_HOLE;
		ok(g.vm, KVM_ENABLE_CAP, &c);
		ok(g.vm, KVM_CREATE_IRQCHIP, 0);
		guest_start(&g);
		g_wrmsr(&g, 0x1b,
			0x20000 | 1 << 8); /* the page where real mode reaches it, and off */
		g_es(&g, 0x2000);
		g_load8(&g, 0x30);
		g_done(&g);
		if (hole) {
			assert_int_equal(guest_done(&g), 0xff);
		} else {
			assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
			assert_int_equal(g.run->mmio.phys_addr, 0x20030);
		}
		guest_end(&g);
	}
}

/* A guest that spins with PAUSE stays inside for as long as it likes. */
static void disable_exits(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_X86_DISABLE_EXITS};
	struct guest g;

	guest_make(&g);
	c.args[0] = ok(g.vm, KVM_CHECK_EXTENSION, c.cap);
	assert_int_equal(c.args[0], KVM_X86_DISABLE_EXITS_PAUSE);
	ok(g.vm, KVM_ENABLE_CAP, &c);
	c.args[0] |= KVM_X86_DISABLE_EXITS_MWAIT;
	fails(EINVAL, g.vm, KVM_ENABLE_CAP, &c);
	guest_start(&g);
	code(&g, 0xb9, LE16(0xffff), 0xf3, 0x90, 0xe2, (u8)-4); /* mov cx, 0xffff; pause; loop */
	g_done(&g);
	guest_done(&g);
	guest_end(&g);
}

static void create_device(void **state)
{
	struct kvm_create_device d = {.type = KVM_DEV_TYPE_VFIO};

	fails(ENODEV, vm, KVM_CREATE_DEVICE, &d);
	d.flags = KVM_CREATE_DEVICE_TEST;
	fails(ENODEV, vm, KVM_CREATE_DEVICE, &d);
	d.type = ~0u;
	fails(ENODEV, vm, KVM_CREATE_DEVICE, &d);
}

/* A VM belongs to the process that made it; the system fd to everybody. */
static void forked_child(void **state)
{
	struct kvm_irq_level l = {0};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (anyvisor_ioctl(vm, KVM_CREATE_VCPU, 0) != -1 || errno != EIO)
			_exit(1);
		if (anyvisor_ioctl(vm, KVM_IRQ_LINE, &l) != -1 || errno != EIO)
			_exit(2);
		_exit(anyvisor_ioctl(dev, KVM_GET_API_VERSION, 0) == 12 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	anyvisor_close(ok(vm, KVM_CREATE_VCPU, 0));
}

/* ---- vCPUs ---- */

static void create_vcpu_limits(void **state)
{
	int max = ok(dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID), a, b;

	fails(EINVAL, vm, KVM_CREATE_VCPU, max);
	fails(EINVAL, vm, KVM_CREATE_VCPU, 0xffffffff);
	a = ok(vm, KVM_CREATE_VCPU, max - 1);
	b = ok(vm, KVM_CREATE_VCPU, 0);
	fails(EEXIST, vm, KVM_CREATE_VCPU, 0);
	/* A vCPU stays although its fd is closed. */
	anyvisor_close(b);
	fails(EEXIST, vm, KVM_CREATE_VCPU, 0);
	anyvisor_close(a);
}

/* A vCPU keeps its VM alive. */
static void vcpu_outlives_vm_fd(void **state)
{
	struct guest g;

	guest_make(&g);
	guest_start(&g);
	code(&g, 0xb0, 0x5a);
	g_done(&g);
	anyvisor_close(g.vm);
	assert_int_equal(guest_done(&g), 0x5a);
	g.vm = ok(g.dev, KVM_CREATE_VM, 0);
	guest_end(&g);
}

static void max_vcpu_id(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_MAX_VCPU_ID};

	c.args[0] = ok(vm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID) + 1;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.args[0] = 4;
	ok(vm, KVM_ENABLE_CAP, &c);
	ok(vm, KVM_ENABLE_CAP, &c);
	c.args[0] = 5;
	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	fails(EINVAL, vm, KVM_CREATE_VCPU, 4);
	anyvisor_close(ok(vm, KVM_CREATE_VCPU, 3));
}

static void boot_cpu_id(void **state)
{
	struct kvm_sregs s;
	struct kvm_mp_state m;
	int v[2], i;

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	ok(vm, KVM_SET_BOOT_CPU_ID, 1);
	for (i = 0; i < 2; i++) {
		v[i] = ok(vm, KVM_CREATE_VCPU, i);
		ok(v[i], KVM_GET_SREGS, &s);
		assert_int_equal(!!(s.apic_base & 1 << 8), i == 1);
		ok(v[i], KVM_GET_MP_STATE, &m);
		assert_int_equal(m.mp_state,
				 i == 1 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
	}
	fails(EBUSY, vm, KVM_SET_BOOT_CPU_ID, 0);
	anyvisor_close(v[0]);
	anyvisor_close(v[1]);
}

static void tsc_khz(void **state)
{
	int host = ok(vm, KVM_GET_TSC_KHZ, 0), vcpu;

	/* More than 100 MHz, and what the host's own clocks say to within 0.1%. */
	assert_true(host > 100000);
	{
		struct timespec a, b;
		u64 t0, t1, ns;

		clock_gettime(CLOCK_MONOTONIC_RAW, &a);
		t0 = __rdtsc();
		sleep_ms(50);
		clock_gettime(CLOCK_MONOTONIC_RAW, &b);
		t1 = __rdtsc();
		ns = (b.tv_sec - a.tv_sec) * 1000000000ull + b.tv_nsec - a.tv_nsec;
		assert_in_range(host, (t1 - t0) * 999 * 1000 / ns, (t1 - t0) * 1001 * 1000 / ns);
	}
	fails(EINVAL, vm, KVM_SET_TSC_KHZ, INT_MAX);
	ok(vm, KVM_SET_TSC_KHZ, host / 2);
	assert_int_equal(ok(vm, KVM_GET_TSC_KHZ, 0), host / 2);
	vcpu = ok(vm, KVM_CREATE_VCPU, 0);
	assert_int_equal(ok(vcpu, KVM_GET_TSC_KHZ, 0), host / 2);
	anyvisor_close(vcpu);
	ok(vm, KVM_SET_TSC_KHZ, 0);
	assert_int_equal(ok(vm, KVM_GET_TSC_KHZ, 0), host);
}

/* ---- interrupt controllers ---- */

static void irqchip(void **state)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
	struct kvm_irq_level l = {.irq = 4, .level = 1};

	/* Nothing of it before it is there. */
	fails(ENXIO, vm, KVM_GET_IRQCHIP, &c);
	fails(ENXIO, vm, KVM_SET_IRQCHIP, &c);
	fails(ENXIO, vm, KVM_IRQ_LINE, &l);
	fails(ENXIO, vm, KVM_IRQ_LINE_STATUS, &l);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	fails(EEXIST, vm, KVM_CREATE_IRQCHIP, 0);

	/* State reads back as it was set. */
	ok(vm, KVM_GET_IRQCHIP, &c);
	c.chip.pic.imr = 0xa5;
	c.chip.pic.irq_base = 0x70;
	ok(vm, KVM_SET_IRQCHIP, &c);
	memset(&c.chip, 0, sizeof(c.chip));
	ok(vm, KVM_GET_IRQCHIP, &c);
	assert_int_equal(c.chip.pic.imr, 0xa5);
	assert_int_equal(c.chip.pic.irq_base, 0x70);
	c.chip_id = KVM_IRQCHIP_PIC_SLAVE;
	ok(vm, KVM_GET_IRQCHIP, &c);
	assert_int_equal(c.chip.pic.imr, 0);
	c.chip_id = KVM_IRQCHIP_IOAPIC;
	ok(vm, KVM_GET_IRQCHIP, &c);
	assert_int_equal(c.chip.ioapic.base_address, 0xfec00000);
	assert_int_equal(c.chip.ioapic.redirtbl[3].fields.mask, 1);
	c.chip.ioapic.redirtbl[3].fields.vector = 0x33;
	ok(vm, KVM_SET_IRQCHIP, &c);
	memset(&c.chip, 0, sizeof(c.chip));
	ok(vm, KVM_GET_IRQCHIP, &c);
	assert_int_equal(c.chip.ioapic.redirtbl[3].fields.vector, 0x33);
	c.chip_id = 3;
	fails(EINVAL, vm, KVM_GET_IRQCHIP, &c);
	fails(EINVAL, vm, KVM_SET_IRQCHIP, &c);
}

static void irqchip_after_vcpu(void **state)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	anyvisor_close(ok(vm, KVM_CREATE_VCPU, 0));
	fails(EINVAL, vm, KVM_CREATE_IRQCHIP, 0);
	fails(EEXIST, vm, KVM_ENABLE_CAP, &split);
}

static u8 pic_irr(int fd)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_PIC_MASTER};

	ok(fd, KVM_GET_IRQCHIP, &c);
	return c.chip.pic.irr;
}

static int line_status(int fd, u32 gsi, u32 level)
{
	struct kvm_irq_level l = {.irq = gsi, .level = level};

	ok(fd, KVM_IRQ_LINE_STATUS, &l);
	return l.status;
}

static void irq_line_status(void **state)
{
	struct kvm_irq_level l = {.irq = 4, .level = 1};

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	ok(vm, KVM_IRQ_LINE, &l);
	assert_int_equal(l.irq, 4); /* not written back */
	assert_int_equal(pic_irr(vm), 1 << 4);
	l.level = 0;
	ok(vm, KVM_IRQ_LINE, &l);
	assert_true(line_status(vm, 3, 1) > 0);
	line_status(vm, 3, 0);
	/* An edge that still waits swallows the next one. */
	assert_int_equal(line_status(vm, 3, 1), 0);
	/* No route. */
	assert_int_equal(line_status(vm, 200, 1), -1);
	assert_int_equal(line_status(vm, ~0u, 1), -1);
}

/* A vCPU whose LAPIC is switched on; vectors can then be seen waiting in its IRR. */
static int lapic_vcpu(int fd, u32 id)
{
	struct kvm_lapic_state s;
	int v = ok(fd, KVM_CREATE_VCPU, id);

	ok(v, KVM_GET_LAPIC, &s);
	s.regs[0xf1] |= 1;
	ok(v, KVM_SET_LAPIC, &s);
	return v;
}

static int lapic_waits(int vcpu, u8 vector)
{
	struct kvm_lapic_state s;

	ok(vcpu, KVM_GET_LAPIC, &s);
	return (u8)s.regs[0x200 + vector / 32 * 16 + vector % 32 / 8] >> vector % 8 & 1;
}

static void signal_msi(void **state)
{
	struct kvm_msi m = {.address_lo = 0xfee00000 | 1 << 12, .data = 0x41};
	int v[2];

	fails(EINVAL, vm, KVM_SIGNAL_MSI, &m);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	v[0] = lapic_vcpu(vm, 0);
	v[1] = lapic_vcpu(vm, 1);
	assert_int_equal(ok(vm, KVM_SIGNAL_MSI, &m), 1);
	assert_false(lapic_waits(v[0], 0x41));
	assert_true(lapic_waits(v[1], 0x41));
	/* Nobody there. */
	m.address_lo = 0xfee00000 | 9 << 12;
	assert_int_not_equal(anyvisor_ioctl(vm, KVM_SIGNAL_MSI, &m), 1);
	m.flags = 2;
	fails(EINVAL, vm, KVM_SIGNAL_MSI, &m);
	anyvisor_close(v[0]);
	anyvisor_close(v[1]);
}

/* An I/O APIC entry's polarity bit does not turn the line round: 1 is active. */
static void ioapic_polarity(void **state)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};
	int v;

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	v = lapic_vcpu(vm, 0);
	ok(vm, KVM_GET_IRQCHIP, &c);
	c.chip.ioapic.redirtbl[20].bits = 0x61 | 1 << 13; /* unmasked, edge, active low */
	ok(vm, KVM_SET_IRQCHIP, &c);
	assert_false(lapic_waits(v, 0x61));
	line_status(vm, 20, 1);
	assert_true(lapic_waits(v, 0x61));
	anyvisor_close(v);
}

struct routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[4];
};

static const struct kvm_irq_routing_entry msi_route = {
	.gsi = 40,
	.type = KVM_IRQ_ROUTING_MSI,
	.u.msi = {.address_lo = 0xfee00000, .data = 0x52},
};

static void gsi_routing(void **state)
{
	struct routes r = {.head.nr = 2};
	int v;

	r.e[0] = msi_route;
	r.e[1] = (struct kvm_irq_routing_entry){.gsi = 41,
						.type = KVM_IRQ_ROUTING_IRQCHIP,
						.u.irqchip = {KVM_IRQCHIP_PIC_MASTER, 6}};
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	v = lapic_vcpu(vm, 0);
	ok(vm, KVM_SET_GSI_ROUTING, &r);
	assert_int_equal(line_status(vm, 40, 1), 1);
	assert_true(lapic_waits(v, 0x52));
	line_status(vm, 41, 1);
	assert_int_equal(pic_irr(vm), 1 << 6);
	/* The table was replaced as a whole: the default routes are gone. */
	assert_int_equal(line_status(vm, 4, 1), -1);

	r.head.flags = 1;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.head.flags = 0;
	r.head.nr = 4097;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.head.nr = ~0u;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.head.nr = 2;
	r.e[1].gsi = 4096;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.e[1].gsi = 41;
	r.e[1].type = 77;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.e[1].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.e[1].u.irqchip.irqchip = 3;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	r.e[1].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.e[1].u.irqchip.pin = 24;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	/* A refused table changes nothing; an empty one is a table. */
	assert_int_not_equal(line_status(vm, 41, 0), -1);
	r.head.nr = 0;
	ok(vm, KVM_SET_GSI_ROUTING, &r);
	assert_int_equal(line_status(vm, 40, 1), -1);
	anyvisor_close(v);
}

static void split_irqchip(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {4097}};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct routes r = {.head.nr = 1};
	int v;

	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	c.args[0] = 24;
	ok(vm, KVM_ENABLE_CAP, &c);
	fails(EEXIST, vm, KVM_ENABLE_CAP, &c);
	fails(EEXIST, vm, KVM_CREATE_IRQCHIP, 0);
	/* LAPICs are here, the other chips are the VMM's. */
	fails(ENXIO, vm, KVM_GET_IRQCHIP, &chip);
	v = lapic_vcpu(vm, 0);
	r.e[0] = msi_route;
	ok(vm, KVM_SET_GSI_ROUTING, &r);
	assert_int_equal(line_status(vm, 40, 1), 1);
	assert_true(lapic_waits(v, 0x52));
	r.e[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	fails(EINVAL, vm, KVM_SET_GSI_ROUTING, &r);
	anyvisor_close(v);
}

/* With 32-bit ids the bits above 7 of an MSI's destination count. */
static void x2apic_api(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_X2APIC_API, .args = {4}};
	struct kvm_msi m = {.address_lo = 0xfee00000 | 1 << 12, .address_hi = 1 << 8, .data = 0x41};
	int v;

	fails(EINVAL, vm, KVM_ENABLE_CAP, &c);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	v = lapic_vcpu(vm, 1);
	assert_int_equal(ok(vm, KVM_SIGNAL_MSI, &m), 1); /* they are ignored without */
	assert_true(lapic_waits(v, 0x41));
	anyvisor_close(v);
	c.args[0] = KVM_X2APIC_API_USE_32BIT_IDS;
	ok(vm, KVM_ENABLE_CAP, &c);
	v = lapic_vcpu(vm, 2);
	m.address_lo = 0xfee00000 | 2 << 12;
	assert_int_not_equal(anyvisor_ioctl(vm, KVM_SIGNAL_MSI, &m), 1);
	assert_false(lapic_waits(v, 0x41));
	m.address_hi = 0;
	assert_int_equal(ok(vm, KVM_SIGNAL_MSI, &m), 1);
	m.address_hi = 1; /* reserved then */
	fails(EINVAL, vm, KVM_SIGNAL_MSI, &m);
	anyvisor_close(v);
}

/* ---- PIT ---- */

static void pit(void **state)
{
	struct kvm_pit_state s = {0};

	ok(vm, KVM_CREATE_IRQCHIP, 0);
	fails(ENXIO, vm, KVM_GET_PIT, &s);
	fails(ENXIO, vm, KVM_SET_PIT, &s);
	ok(vm, KVM_CREATE_PIT, 0);
	fails(EEXIST, vm, KVM_CREATE_PIT, 0);
	ok(vm, KVM_GET_PIT, &s);
	s.channels[0].count = 0x1234;
	s.channels[0].mode = 2;
	ok(vm, KVM_SET_PIT, &s);
	memset(&s, 0, sizeof(s));
	ok(vm, KVM_GET_PIT, &s);
	assert_int_equal(s.channels[0].count, 0x1234);
	assert_int_equal(s.channels[0].mode, 2);
}

static void pit2(void **state)
{
	struct kvm_pit_config c = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_pit_state2 s = {0};

	fails(ENOENT, vm, KVM_CREATE_PIT2, &c);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	fails(ENXIO, vm, KVM_GET_PIT2, &s);
	fails(ENXIO, vm, KVM_SET_PIT2, &s);
	ok(vm, KVM_CREATE_PIT2, &c);
	fails(EEXIST, vm, KVM_CREATE_PIT2, &c);
	ok(vm, KVM_GET_PIT2, &s);
	s.channels[2].count = 0x4321;
	s.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	ok(vm, KVM_SET_PIT2, &s);
	memset(&s, 0, sizeof(s));
	ok(vm, KVM_GET_PIT2, &s);
	assert_int_equal(s.channels[2].count, 0x4321);
	assert_true(s.flags & KVM_PIT_FLAGS_HPET_LEGACY);
}

static void reinject_control(void **state)
{
	struct kvm_reinject_control c = {.pit_reinject = 0};

	fails(ENXIO, vm, KVM_REINJECT_CONTROL, &c);
	ok(vm, KVM_CREATE_IRQCHIP, 0);
	fails(ENXIO, vm, KVM_REINJECT_CONTROL, &c);
	ok(vm, KVM_CREATE_PIT, 0);
	ok(vm, KVM_REINJECT_CONTROL, &c);
}

/* ---- kvmclock ---- */

static u64 clock_now(int fd)
{
	struct kvm_clock_data d;

	ok(fd, KVM_GET_CLOCK, &d);
	return d.clock;
}

static void clock_ioctls(void **state)
{
	struct kvm_clock_data d = {0};
	struct timespec ts;
	u64 a, b, real;
	int v;

	a = clock_now(vm);
	sleep_ms(20);
	b = clock_now(vm);
	assert_in_range(b - a, 19000000, 500000000);
	assert_true(a < 10000000000ull); /* a new VM's clock is young */

	d.clock = 5000000000000ull;
	ok(vm, KVM_SET_CLOCK, &d);
	assert_in_range(clock_now(vm), 5000000000000ull, 5000500000000ull);
	d.flags = 1;
	fails(EINVAL, vm, KVM_SET_CLOCK, &d);
	d.flags = 0x80000000;
	fails(EINVAL, vm, KVM_SET_CLOCK, &d);

	/* With a vCPU the clock follows a stable TSC. What was got can be set. */
	v = ok(vm, KVM_CREATE_VCPU, 0);
	ok(vm, KVM_GET_CLOCK, &d);
	assert_int_equal(d.flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
	clock_gettime(CLOCK_REALTIME, &ts);
	real = ts.tv_sec * 1000000000ull + ts.tv_nsec;
	assert_in_range(d.realtime, real - 500000000, real);
	assert_in_range(d.host_tsc, 1, __rdtsc());
	/* The time that went by since then is added: ten seconds, it says. */
	d.realtime -= 10000000000ull;
	a = d.clock + 10000000000ull;
	ok(vm, KVM_SET_CLOCK, &d);
	assert_in_range(clock_now(vm), a, a + 500000000);
	/* But time in the future does not turn the clock back. */
	d.realtime += 3600ull * 1000000000;
	ok(vm, KVM_SET_CLOCK, &d);
	assert_in_range(clock_now(vm), d.clock, d.clock + 500000000);
	anyvisor_close(v);
}

struct pvclock {
	u32 version, pad;
	u64 tsc_timestamp, system_time;
	u32 mul;
	int8_t shift;
	u8 flags, pad2[2];
};

static u64 pvclock_ns(const struct pvclock *p, u64 tsc)
{
	u64 delta = tsc - p->tsc_timestamp;

	delta = p->shift < 0 ? delta >> -p->shift : delta << p->shift;
	return p->system_time + (u64)((unsigned __int128)delta * p->mul >> 32);
}

static u64 guest_tsc(int vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e.index = 0x10};

	assert_int_equal(ok(vcpu, KVM_GET_MSRS, &m), 1);
	return m.e.data;
}

static void check_page(struct guest *g, const struct pvclock *p)
{
	u64 before, guest, after;

	assert_int_equal(p->version & 1, 0);
	before = clock_now(g->vm);
	guest = pvclock_ns(p, guest_tsc(g->vcpu));
	after = clock_now(g->vm);
	/* 2 us for what the rounding of frequencies does in a test's time. */
	assert_in_range(guest, before - 2000, after + 2000);
}

static void kvmclock_page(void **state)
{
	struct pvclock *p;
	struct kvm_clock_data d = {.clock = 77000000000ull};
	struct guest g;
	u32 version;

	guest_make(&g);
	guest_start(&g);
	p = (void *)(g.ram + 0x3000);
	p->version = 7; /* junk in the guest's memory does not confuse it */
	g_wrmsr(&g, MSR_KVM_SYSTEM_TIME_NEW, 0x3001);
	g_done(&g);
	guest_done(&g);
	check_page(&g, p);
	assert_true(p->flags & 1);
	/* A new clock reaches the page before the guest runs on. */
	version = p->version;
	ok(g.vm, KVM_SET_CLOCK, &d);
	guest_rewind(&g);
	g_done(&g);
	guest_done(&g);
	assert_int_not_equal(p->version, version);
	assert_in_range(pvclock_ns(p, guest_tsc(g.vcpu)), d.clock, d.clock + 1000000000);
	check_page(&g, p);

	/* At another frequency too; the MSR reads back. */
	ok(g.vcpu, KVM_SET_TSC_KHZ, 1000000);
	guest_rewind(&g);
	g_wrmsr(&g, MSR_KVM_SYSTEM_TIME_NEW, 0x3001);
	g_done(&g);
	guest_done(&g);
	check_page(&g, p);

	/* Off: the page is the guest's again. */
	guest_rewind(&g);
	g_wrmsr(&g, MSR_KVM_SYSTEM_TIME_NEW, 0);
	g_done(&g);
	guest_done(&g);
	memset(p, 0x55, sizeof(*p));
	ok(g.vm, KVM_SET_CLOCK, &d);
	guest_rewind(&g);
	g_done(&g);
	guest_done(&g);
	assert_int_equal(p->version, 0x55555555);
	guest_end(&g);
}

static void wall_clock(void **state)
{
	const u32 *p;
	struct guest g;
	u64 now, wall;

	guest_make(&g);
	guest_start(&g);
	p = (void *)(g.ram + 0x3000);
	g_wrmsr(&g, MSR_KVM_WALL_CLOCK_NEW, 0x3000);
	g_done(&g);
	guest_done(&g);
	assert_true(p[0] && !(p[0] & 1));
	now = time(NULL) * 1000000000ull;
	wall = p[1] * 1000000000ull + p[2];
	assert_in_range(wall + clock_now(g.vm), now - 2000000000, now + 2000000000);
	guest_end(&g);
}

static void kvmclock_ctrl(void **state)
{
	struct kvm_clock_data d = {.clock = 1000000000};
	struct pvclock *p;
	struct guest g;

	guest_make(&g);
	guest_start(&g);
	p = (void *)(g.ram + 0x3000);
	fails(EINVAL, g.vcpu, KVM_KVMCLOCK_CTRL, 0);
	g_wrmsr(&g, MSR_KVM_SYSTEM_TIME_NEW, 0x3001);
	g_done(&g);
	guest_done(&g);
	assert_false(p->flags & 2);
	ok(g.vcpu, KVM_KVMCLOCK_CTRL, 0);
	guest_rewind(&g);
	g_done(&g);
	guest_done(&g);
	assert_true(p->flags & 2);
	/* It stays until the guest has seen it and taken it away; an update does not. */
	ok(g.vm, KVM_SET_CLOCK, &d);
	guest_rewind(&g);
	g_done(&g);
	guest_done(&g);
	assert_true(p->flags & 2);
	p->flags &= ~2;
	ok(g.vm, KVM_SET_CLOCK, &d);
	guest_rewind(&g);
	g_done(&g);
	guest_done(&g);
	assert_false(p->flags & 2);
	guest_end(&g);
}

/* ---- old requests of Intel's KVM ---- */

static void tss_addr(void **state)
{
	ok(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	ok(vm, KVM_SET_TSS_ADDR, 0xffffd000);
	fails(EINVAL, vm, KVM_SET_TSS_ADDR, 0xffffe000);
	fails(EINVAL, vm, KVM_SET_TSS_ADDR, 1ull << 40);
}

static void identity_map_addr(void **state)
{
	u64 addr = 0xfffbc000, zero = 0;

	ok(vm, KVM_SET_IDENTITY_MAP_ADDR, &addr);
	ok(vm, KVM_SET_IDENTITY_MAP_ADDR, &zero);
	anyvisor_close(ok(vm, KVM_CREATE_VCPU, 0));
	fails(EINVAL, vm, KVM_SET_IDENTITY_MAP_ADDR, &addr);
}

static void nr_mmu_pages(void **state)
{
	fails(EINVAL, vm, KVM_SET_NR_MMU_PAGES, 63);
	ok(vm, KVM_SET_NR_MMU_PAGES, 64);
	assert_int_equal(ok(vm, KVM_GET_NR_MMU_PAGES, 0), 64);
	ok(vm, KVM_SET_NR_MMU_PAGES, 100000);
	assert_int_equal(ok(vm, KVM_GET_NR_MMU_PAGES, 0), 100000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(unknown_commands),
		TEST(bad_arguments),
		TEST(check_extension),
		TEST(enable_cap_errors),
		TEST(quirks),
		TEST(disable_exits),
		TEST(ioapic_polarity),
		TEST(create_device),
		TEST(forked_child),
		TEST(create_vcpu_limits),
		TEST(vcpu_outlives_vm_fd),
		TEST(max_vcpu_id),
		TEST(boot_cpu_id),
		TEST(tsc_khz),
		TEST(irqchip),
		TEST(irqchip_after_vcpu),
		TEST(irq_line_status),
		TEST(signal_msi),
		TEST(gsi_routing),
		TEST(split_irqchip),
		TEST(x2apic_api),
		TEST(pit),
		TEST(pit2),
		TEST(reinject_control),
		TEST(clock_ioctls),
		TEST(kvmclock_page),
		TEST(wall_clock),
		TEST(kvmclock_ctrl),
		TEST(tss_addr),
		TEST(identity_map_addr),
		TEST(nr_mmu_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
