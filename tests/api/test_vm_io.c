/* SPDX-License-Identifier: MIT */
/*
 * The VM fd through the public API: memory regions and dirty logs, irqfds, ioeventfds, coalesced
 * I/O. A small guest does the accesses.
 */
#include "api.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

/* What lies behind segment 0x2000, where the guest's own RAM is not. */
#define MMIO 0x20000

static struct guest g;

static int setup(void **state)
{
	guest_make(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

/* ---- memory ---- */

static void region_fails(int err, u32 slot, u32 flags, u64 gpa, u64 size, u64 hva)
{
	struct kvm_userspace_memory_region r = {slot, flags, gpa, size, hva};

	fails(err, g.vm, KVM_SET_USER_MEMORY_REGION, &r);
}

/* The byte the guest reads at MMIO, or -1 if that is no memory. */
static int guest_reads(void)
{
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	g_load8(&g, 0x10);
	g_done(&g);
	if (guest_run(&g) == KVM_EXIT_MMIO) {
		assert_int_equal(g.run->mmio.phys_addr, MMIO + 0x10);
		assert_int_equal(g.run->mmio.is_write, 0);
		guest_done(&g);
		return -1;
	}
	assert_int_equal(g.run->exit_reason, KVM_EXIT_IO);
	return *(const u8 *)pio_data(&g);
}

static void guest_writes(u16 off, u8 value)
{
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	g_store8(&g, off, value);
	g_done(&g);
	guest_done(&g);
}

static void memory_region(void **state)
{
	u8 *a = map_pages(4);
	u64 hva = (uintptr_t)a;

	guest_start(&g);
	assert_int_equal(guest_reads(), -1);
	a[0x10] = 0x11;
	a[PAGE + 0x10] = 0x22;
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a);
	assert_int_equal(guest_reads(), 0x11);
	guest_writes(0x20, 0x77);
	assert_int_equal(a[0x20], 0x77);
	/* Move away and back, delete. */
	set_region_at(g.vm, 1, 0, MMIO + 0x4000, PAGE, a);
	assert_int_equal(guest_reads(), -1);
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a);
	assert_int_equal(guest_reads(), 0x11);
	set_region_at(g.vm, 1, 0, MMIO, 0, a);
	assert_int_equal(guest_reads(), -1);
	region_fails(EINVAL, 1, 0, MMIO, 0, hva); /* deleted already */
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a + PAGE);
	assert_int_equal(guest_reads(), 0x22);
	/* A slot's size, host address and read-only flag are fixed. */
	region_fails(EINVAL, 1, 0, MMIO, 2 * PAGE, hva + PAGE);
	region_fails(EINVAL, 1, 0, MMIO, PAGE, hva);
	region_fails(EINVAL, 1, KVM_MEM_READONLY, MMIO, PAGE, hva + PAGE);
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a + PAGE); /* no change is no error */
	/* Overlaps, by creation and by moving. */
	region_fails(EEXIST, 2, 0, MMIO, PAGE, hva);
	region_fails(EEXIST, 2, 0, MMIO - PAGE, 2 * PAGE, hva);
	set_region_at(g.vm, 2, 0, MMIO + PAGE, PAGE, a);
	region_fails(EEXIST, 2, 0, MMIO, PAGE, hva);
	munmap(a, 4 * PAGE);
}

static void memory_region_limits(void **state)
{
	void *p = map_pages(2);
	u64 hva = (uintptr_t)p;
	u32 slots = ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);

	region_fails(EINVAL, 1, 0, MMIO + 1, PAGE, hva);
	region_fails(EINVAL, 1, 0, MMIO, PAGE - 1, hva);
	region_fails(EINVAL, 1, 0, MMIO, PAGE, hva + 1);
	region_fails(EINVAL, 1, 4, MMIO, PAGE, hva);
	region_fails(EINVAL, 1, 0x80000000, MMIO, PAGE, hva);
	region_fails(EINVAL, 1, 0, ~0xfffull, 2 * PAGE, hva);
	region_fails(EINVAL, 1, 0, MMIO, ~0xfffull, hva);
	region_fails(EINVAL, 1, 0, MMIO, 1ull << 43, hva);
	region_fails(EINVAL, 1, 0, MMIO, PAGE, 0xffff800000000000ull);
	region_fails(EINVAL, 1, 0, MMIO, PAGE, 0x7ffffffff000ull);
	region_fails(EINVAL, 7, 0, 0, 0, 0);
	region_fails(EINVAL, slots, 0, MMIO, PAGE, hva);
	set_region_at(g.vm, slots - 1, 0, MMIO, PAGE, p);
	munmap(p, 2 * PAGE);
}

/* Two neighbours become one: not refused as an overlap with what was deleted. */
static void memory_region_join(void **state)
{
	u8 *a = map_pages(2);

	a[0x10] = 0x33;
	guest_start(&g);
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a);
	set_region_at(g.vm, 2, 0, MMIO + PAGE, PAGE, a + PAGE);
	assert_int_equal(guest_reads(), 0x33);
	set_region_at(g.vm, 1, 0, MMIO, 0, a);
	set_region_at(g.vm, 2, 0, MMIO + PAGE, 0, a + PAGE);
	set_region_at(g.vm, 1, 0, MMIO, 2 * PAGE, a);
	assert_int_equal(guest_reads(), 0x33);
	munmap(a, 2 * PAGE);
}

static void memory_readonly(void **state)
{
	u8 *a = map_pages(1);

	a[0x10] = 0x44;
	guest_start(&g);
	set_region_at(g.vm, 1, KVM_MEM_READONLY, MMIO, PAGE, a);
	assert_int_equal(guest_reads(), 0x44);
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	g_store8(&g, 0x10, 0x99);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, MMIO + 0x10);
	assert_int_equal(g.run->mmio.is_write, 1);
	assert_int_equal(g.run->mmio.len, 1);
	assert_int_equal(g.run->mmio.data[0], 0x99);
	guest_done(&g);
	assert_int_equal(a[0x10], 0x44);
	munmap(a, PAGE);
}

/* The second address space is SMM's: its slots overlap nobody's, and normal code does not see them.
 */
static void memory_address_spaces(void **state)
{
	u8 *a = map_pages(2);

	a[0x10] = 0x55;
	a[PAGE + 0x10] = 0x66;
	guest_start(&g);
	set_region_at(g.vm, 1 | 1 << 16, 0, MMIO, PAGE, a + PAGE);
	assert_int_equal(guest_reads(), -1);
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a);
	assert_int_equal(guest_reads(), 0x55);
	region_fails(EEXIST, 2 | 1 << 16, 0, MMIO, PAGE, (uintptr_t)a);
	region_fails(EINVAL, 1 | 2 << 16, 0, MMIO, PAGE, (uintptr_t)a);
	region_fails(EINVAL, 1 | 0xffffu << 16, 0, MMIO, PAGE, (uintptr_t)a);
	munmap(a, 2 * PAGE);
}

/* System management mode runs in the second address space, which only it can see, and returns to
 * where it came from. */
static void memory_smm(void **state)
{
	u8 *smram = map_pages(16);

	guest_start(&g);
	set_region_at(g.vm, 1 | 1 << 16, 0, 0x30000, 16 * PAGE, smram);
	g.at = smram + 0x8000;		       /* where SMIs go after reset */
	code(&g, 0xb0, 0x5c, 0xe6, DONE_PORT); /* mov al, 0x5c; out DONE_PORT, al */
	code(&g, 0x0f, 0xaa);		       /* rsm */

	g.at = g.ram + GUEST_CODE;
	code(&g, 0xb0, 0x11, 0xe6, DONE_PORT, 0xe6, DONE_PORT);
	assert_int_equal(guest_done(&g), 0x11);
	assert_false(g.run->flags & KVM_RUN_X86_SMM);
	ok(g.vcpu, KVM_SMI, 0);
	assert_int_equal(guest_done(&g), 0x5c);
	assert_true(g.run->flags & KVM_RUN_X86_SMM);
	assert_int_equal(guest_done(&g), 0x11);
	assert_false(g.run->flags & KVM_RUN_X86_SMM);
	munmap(smram, 16 * PAGE);
}

/* The guest's memory is what the client has mapped there now, not what it had when the slot was
 * made. */
static void memory_remapped(void **state)
{
	u8 *a = map_pages(1), *b;

	a[0x10] = 1;
	guest_start(&g);
	set_region_at(g.vm, 1, 0, MMIO, PAGE, a);
	assert_int_equal(guest_reads(), 1);
	b = mmap(a, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(a, b);
	assert_int_equal(guest_reads(), 0);
	munmap(a, PAGE);
}

/* Code has to be in memory: a guest that runs into nothing is the VMM's to judge, however often it
 * looks. */
static void fetch_from_mmio(void **state)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
	struct kvm_regs r;
	int i;

	ok(g.vm, KVM_ENABLE_CAP, &c);
	guest_start(&g);
	code(&g, 0xea, LE16(0x10), LE16(MMIO >> 4)); /* jmp far */
	for (i = 0; i < 2; i++) {
		assert_int_equal(guest_run(&g), KVM_EXIT_INTERNAL_ERROR);
		assert_int_equal(g.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
		assert_true(g.run->internal.ndata >= 1);
		assert_false(g.run->emulation_failure.flags &
			     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
		ok(g.vcpu, KVM_GET_REGS, &r);
		assert_int_equal(r.rip, 0x10);
	}
}

#define LOGGED 70 /* pages: more than one word of the log */

static void get_log(u64 log[2])
{
	struct kvm_dirty_log l = {.slot = 1, .dirty_bitmap = log};

	log[0] = log[1] = 0x5555;
	ok(g.vm, KVM_GET_DIRTY_LOG, &l);
}

static void log_fails(int err, u32 slot, void *bitmap)
{
	struct kvm_dirty_log l = {.slot = slot, .dirty_bitmap = bitmap};

	fails(err, g.vm, KVM_GET_DIRTY_LOG, &l);
}

/* A program that writes the same page again and again, with an exit after each time: nothing but
 * the log makes it fill the TLB anew. */
static void guest_writer(u32 times)
{
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	while (times--) {
		g_store8(&g, 0x3000, 1);
		code(&g, 0xe6, DONE_PORT);
	}
}

static void dirty_log(void **state)
{
	u8 *a = map_pages(LOGGED);
	u64 log[2];
	int i;

	guest_start(&g);
	log_fails(ENOENT, 1, log);
	set_region_at(g.vm, 1, 0, MMIO, LOGGED * PAGE, a);
	log_fails(ENOENT, 1, log);
	guest_writes(0x3000, 1); /* before the log is there */
	set_region_at(g.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MMIO, LOGGED * PAGE, a);
	get_log(log);
	assert_int_equal(log[0], 0);
	assert_int_equal(log[1], 0);
	/* The same page again: the earlier translation must not hide the write. */
	guest_writes(0x3000, 2);
	guest_writes(0x5fff, 2);
	guest_reads();
	get_log(log);
	assert_int_equal(log[0], 1 << 3 | 1 << 5);
	assert_int_equal(log[1], 0);
	get_log(log);
	assert_int_equal(log[0], 0);
	guest_writer(4);
	for (i = 0; i < 4; i++) {
		guest_done(&g);
		get_log(log);
		assert_int_equal(log[0], 1 << 3);
		get_log(log);
		assert_int_equal(log[0], 0);
	}

	/* A bitmap nobody can write costs the log, as in KVM, but nothing more. */
	log_fails(EFAULT, 1, NULL);
	log_fails(EINVAL, 32764, log);
	log_fails(EINVAL, 1 | 2 << 16, log);
	log_fails(ENOENT, 1 | 1 << 16, log);
	log_fails(ENOENT, 3, log);
	/* Turned off, it is gone. */
	set_region_at(g.vm, 1, 0, MMIO, LOGGED * PAGE, a);
	log_fails(ENOENT, 1, log);
	munmap(a, LOGGED * PAGE);
}

static void clear_log(int err, u64 first, u32 pages, void *bitmap)
{
	struct kvm_clear_dirty_log c = {
		.slot = 1, .first_page = first, .num_pages = pages, .dirty_bitmap = bitmap};

	if (err)
		fails(err, g.vm, KVM_CLEAR_DIRTY_LOG, &c);
	else
		ok(g.vm, KVM_CLEAR_DIRTY_LOG, &c);
}

static void dirty_log_manual(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {3}};
	u8 *a = map_pages(LOGGED);
	u64 log[2], bits[2] = {0, 0};
	int i;

	ok(g.vm, KVM_ENABLE_CAP, &cap);
	guest_start(&g);
	clear_log(ENOENT, 0, 64, bits);
	set_region_at(g.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MMIO, LOGGED * PAGE, a);
	/* All pages are dirty at first, and the tail of the last word is not. */
	get_log(log);
	assert_int_equal(log[0], ~0ull);
	assert_int_equal(log[1], (1 << (LOGGED - 64)) - 1);
	get_log(log); /* reading does not clear */
	assert_int_equal(log[0], ~0ull);

	bits[0] = ~0ull;
	bits[1] = ~0ull; /* bits beyond the slot are ignored */
	clear_log(0, 0, LOGGED, bits);
	get_log(log);
	assert_int_equal(log[0], 0);
	assert_int_equal(log[1], 0);
	guest_writes(0x3000, 1);
	guest_writes(0x4000, 1);
	bits[0] = 1 << 3;
	clear_log(0, 0, 64, bits);
	get_log(log);
	assert_int_equal(log[0], 1 << 4);
	guest_writes(0x3000, 2); /* cleared, so it is logged anew */
	get_log(log);
	assert_int_equal(log[0], 1 << 3 | 1 << 4);
	bits[0] = 1 << 3;
	guest_writer(4);
	for (i = 0; i < 4; i++) {
		guest_done(&g);
		get_log(log);
		assert_int_equal(log[0], 1 << 3 | 1 << 4);
		clear_log(0, 0, 64, bits);
	}

	clear_log(EINVAL, 1, 64, bits);
	clear_log(EINVAL, 0, 63, bits); /* not whole words and not up to the end */
	clear_log(0, 64, LOGGED - 64, bits);
	clear_log(EINVAL, 64, 64, bits);
	clear_log(EINVAL, 128, 64, bits);
	clear_log(EINVAL, 1ull << 63, 64, bits);
	clear_log(EFAULT, 0, 64, NULL);
	munmap(a, LOGGED * PAGE);
}

/* ---- irqfd ---- */

static int irqfd(int fd, u32 gsi, u32 flags, int resamplefd)
{
	struct kvm_irqfd a = {.fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resamplefd};

	return anyvisor_ioctl(g.vm, KVM_IRQFD, &a) ? -errno : 0;
}

static u8 pic_irr(void)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_PIC_MASTER};

	ok(g.vm, KVM_GET_IRQCHIP, &c);
	return c.chip.pic.irr;
}

static void pic_forget(void)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_PIC_MASTER};

	ok(g.vm, KVM_GET_IRQCHIP, &c);
	c.chip.pic.irr = 0;
	ok(g.vm, KVM_SET_IRQCHIP, &c);
}

static int waits_for(u8 irr)
{
	int ms;

	for (ms = 0; ms < 2000 && pic_irr() != irr; ms++)
		sleep_ms(1);
	return pic_irr() == irr;
}

static void irqfd_edge(void **state)
{
	int e = eventfd(0, EFD_NONBLOCK), other = eventfd(0, 0), p[2], copy;
	u64 count;

	assert_int_equal(irqfd(e, 5, 0, 0), -EINVAL); /* no controllers */
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	assert_int_equal(irqfd(e, 5, 4, 0), -EINVAL);
	assert_int_equal(irqfd(-1, 5, 0, 0), -EBADF);
	assert_int_equal(irqfd(999, 5, 0, 0), -EBADF);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(irqfd(p[0], 5, 0, 0), -EINVAL);
	assert_int_equal(irqfd(g.vm, 5, 0, 0), -EINVAL);

	assert_int_equal(irqfd(e, 5, 0, 0), 0);
	assert_int_equal(irqfd(e, 6, 0, 0), -EBUSY);
	copy = dup(e);
	assert_int_equal(irqfd(copy, 6, 0, 0), -EBUSY); /* another number, the same eventfd */
	assert_int_equal(eventfd_write(e, 1), 0);
	assert_true(waits_for(1 << 5));
	assert_int_equal(eventfd_read(e, &count), -1); /* the count was taken */
	pic_forget();
	/* It works on through any number for it, and when the first is closed. */
	close(e);
	eventfd_write(copy, 3);
	assert_true(waits_for(1 << 5));
	pic_forget();

	/* What was signalled before the registration is not lost. */
	eventfd_write(other, 1);
	assert_int_equal(irqfd(other, 6, 0, 0), 0);
	assert_true(waits_for(1 << 6));
	pic_forget();

	/* Only a deassign with the right GSI ends it, and then at once. */
	assert_int_equal(irqfd(copy, 7, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	eventfd_write(copy, 1);
	assert_true(waits_for(1 << 5));
	assert_int_equal(irqfd(copy, 5, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	pic_forget();
	eventfd_write(copy, 1);
	sleep_ms(30);
	assert_int_equal(pic_irr(), 0);
	assert_int_equal(eventfd_read(copy, &count), 0);
	assert_int_equal(irqfd(-1, 5, KVM_IRQFD_FLAG_DEASSIGN, 0), -EBADF);
	close(p[0]);
	close(p[1]);
	close(copy);
	close(other);
}

static int readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

/*
 * A level-triggered line from an eventfd: the guest's EOI lowers it and asks the device, which may
 * raise it again. The guest is a PIC handler; it counts in [0x600].
 */
static void irqfd_resample(void **state)
{
	int e = eventfd(0, EFD_NONBLOCK), r = eventfd(0, EFD_NONBLOCK);
	u64 count;

	assert_int_equal(irqfd(e, 5, KVM_IRQFD_FLAG_RESAMPLE, r), -EINVAL);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	assert_int_equal(irqfd(e, 5, KVM_IRQFD_FLAG_RESAMPLE, -1), -EBADF);
	assert_int_equal(irqfd(e, 5, KVM_IRQFD_FLAG_RESAMPLE, r), 0);
	guest_start(&g);

	g.at = g.ram + 0x2000;		   /* the handler */
	code(&g, 0xfe, 0x06, LE16(0x600)); /* inc byte [0x600] */
	g_outb(&g, 0x20, 0x20);
	code(&g, 0xcf); /* iret */
	memcpy(g.ram + 0x25 * 4, (u8[]){LE16(0x2000), LE16(0)}, 4);

	g.at = g.ram + GUEST_CODE;
	g_outb(&g, 0x20, 0x11);
	g_outb(&g, 0x21, 0x20); /* vectors from 0x20 */
	g_outb(&g, 0x21, 0x04);
	g_outb(&g, 0x21, 0x01);
	g_outb(&g, 0x21, 0xdf);	   /* IRQ 5 alone */
	g_outb(&g, 0x4d0, 1 << 5); /* level-triggered */
	g_done(&g);
	guest_done(&g);

	eventfd_write(e, 1);
	assert_true(waits_for(1 << 5));
	assert_false(readable(r, 20)); /* not before the guest has answered */
	guest_rewind(&g);
	code(&g, 0xfb, 0x90, 0x90, 0xfa); /* sti, nop, nop, cli */
	code(&g, 0xa0, LE16(0x600));	  /* mov al, [0x600] */
	g_done(&g);
	assert_int_equal(guest_done(&g), 1);
	assert_true(readable(r, 2000));
	assert_int_equal(eventfd_read(r, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(pic_irr(), 0); /* the line is down */

	/* Deassigning lowers a line that is still up. */
	eventfd_write(e, 1);
	assert_true(waits_for(1 << 5));
	assert_int_equal(irqfd(e, 5, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(pic_irr(), 0);
	close(e);
	close(r);
}

/* ---- ioeventfd ---- */

static int ioeventfd(int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd a = {
		.fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match};

	return anyvisor_ioctl(g.vm, KVM_IOEVENTFD, &a) ? -errno : 0;
}

#define PIO   KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define OFF   KVM_IOEVENTFD_FLAG_DEASSIGN

static u64 taken(int fd)
{
	u64 n = 0;

	return eventfd_read(fd, &n) ? 0 : n;
}

static void ioeventfd_pio_mmio(void **state)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(ioeventfd(a, 0x510, 2, PIO | MATCH, 7), 0);
	assert_int_equal(ioeventfd(b, MMIO + 0x40, 4, 0, 0), 0);
	guest_start(&g);
	g_es(&g, MMIO >> 4);
	g_outw(&g, 0x510, 7);
	g_outw(&g, 0x510, 7);
	g_store32(&g, 0x40, 0x12345678);
	g_outw(&g, 0x510, 8); /* another value */
	g_outb(&g, 0x510, 7); /* another length */
	g_store16(&g, 0x40, 1);
	g_store32(&g, 0x44, 1); /* another address */
	g_done(&g);

	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x510);
	assert_int_equal(*(const u16 *)pio_data(&g), 8);
	assert_int_equal(taken(a), 2);
	assert_int_equal(taken(b), 1);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.size, 1);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.len, 2);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, MMIO + 0x44);
	guest_done(&g);

	/* Reads are none of its business. */
	guest_rewind(&g);
	g_inb(&g, 0x510);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);
	guest_done(&g);

	/* Deassigned, the write is the VMM's again; the fd's other registration stays. */
	assert_int_equal(ioeventfd(b, MMIO + 0x40, 4, OFF, 0), 0);
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	g_store32(&g, 0x40, 1);
	g_outw(&g, 0x510, 7);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	guest_done(&g);
	assert_int_equal(taken(a), 1);
	assert_int_equal(taken(b), 0);
	close(a);
	close(b);
}

static void ioeventfd_any_length(void **state)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK), copy;

	assert_int_equal(ioeventfd(a, MMIO, 0, 0, 0), 0);
	assert_int_equal(ioeventfd(b, 0x510, 0, PIO, 0), 0);
	/* The client may close the number: the registration holds the eventfd. */
	copy = dup(b);
	close(b);
	guest_start(&g);
	g_es(&g, MMIO >> 4);
	g_store8(&g, 0, 1);
	g_store16(&g, 0, 1);
	g_store32(&g, 0, 1);
	g_outb(&g, 0x510, 1);
	g_outl(&g, 0x510, 1);
	g_done(&g);
	guest_done(&g);
	assert_int_equal(taken(a), 3);
	assert_int_equal(taken(copy), 2);
	close(a);
	close(copy);
}

static void ioeventfd_errors(void **state)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK), p[2];

	assert_int_equal(ioeventfd(a, MMIO, 3, 0, 0), -EINVAL);
	assert_int_equal(ioeventfd(a, MMIO, 16, 0, 0), -EINVAL);
	assert_int_equal(ioeventfd(a, MMIO, ~0u, 0, 0), -EINVAL);
	assert_int_equal(ioeventfd(a, ~0ull - 2, 4, 0, 0), -EINVAL);
	assert_int_equal(ioeventfd(a, MMIO, 0, MATCH, 1), -EINVAL);
	assert_int_equal(ioeventfd(a, MMIO, 4, 1 << 8, 0), -EINVAL);
	assert_int_equal(ioeventfd(-1, MMIO, 4, 0, 0), -EBADF);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(ioeventfd(p[1], MMIO, 4, 0, 0), -EINVAL);

	/* One write must not mean two eventfds. */
	assert_int_equal(ioeventfd(a, MMIO, 4, MATCH, 1), 0);
	assert_int_equal(ioeventfd(b, MMIO, 4, MATCH, 1), -EEXIST);
	assert_int_equal(ioeventfd(b, MMIO, 4, 0, 0), -EEXIST);
	assert_int_equal(ioeventfd(b, MMIO, 0, 0, 0), -EEXIST);
	assert_int_equal(ioeventfd(b, MMIO, 4, MATCH, 2), 0);
	assert_int_equal(ioeventfd(b, MMIO, 2, 0, 0), 0);
	assert_int_equal(ioeventfd(b, MMIO, 4, PIO | MATCH, 1), 0);

	/* A deassign names all of it. */
	assert_int_equal(ioeventfd(b, MMIO, 4, OFF | MATCH, 1), -ENOENT);
	assert_int_equal(ioeventfd(a, MMIO, 4, OFF, 1), -ENOENT);
	assert_int_equal(ioeventfd(a, MMIO, 2, OFF | MATCH, 1), -ENOENT);
	assert_int_equal(ioeventfd(a, MMIO + 4, 4, OFF | MATCH, 1), -ENOENT);
	assert_int_equal(ioeventfd(-1, MMIO, 4, OFF | MATCH, 1), -EBADF);
	assert_int_equal(ioeventfd(a, MMIO, 4, OFF | MATCH, 1), 0);
	assert_int_equal(ioeventfd(a, MMIO, 4, OFF | MATCH, 1), -ENOENT);
	close(p[0]);
	close(p[1]);
	close(a);
	close(b);
}

/* Many of them, in an order that is not theirs. */
static void ioeventfd_many(void **state)
{
	int fd[50];
	u32 i, k;

	for (i = 0; i < 50; i++) {
		k = i * 17 % 50;
		fd[k] = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(ioeventfd(fd[k], MMIO + k * 4, 4, k & 1 ? MATCH : 0, k), 0);
	}
	guest_start(&g);
	g_es(&g, MMIO >> 4);
	for (i = 0; i < 50; i++)
		g_store32(&g, i * 4, i);
	g_done(&g);
	guest_done(&g);
	for (i = 0; i < 50; i++) {
		assert_int_equal(taken(fd[i]), 1);
		close(fd[i]);
	}
}

/* ---- coalesced I/O ---- */

static void zone(int err, unsigned long cmd, u64 addr, u32 size, u32 pio)
{
	struct kvm_coalesced_mmio_zone z = {.addr = addr, .size = size, .pio = pio};

	if (err)
		fails(err, g.vm, cmd, &z);
	else
		ok(g.vm, cmd, &z);
}

static struct kvm_coalesced_mmio_ring *ring(void)
{
	return (void *)((u8 *)g.run + ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) * PAGE);
}

static void coalesced_mmio(void **state)
{
	struct kvm_coalesced_mmio_ring *r;

	zone(EINVAL, KVM_REGISTER_COALESCED_MMIO, MMIO, 0x100, 2);
	zone(EINVAL, KVM_UNREGISTER_COALESCED_MMIO, MMIO, 0x100, 2);
	zone(0, KVM_REGISTER_COALESCED_MMIO, MMIO, 0x100, 0);
	guest_start(&g);
	r = ring();
	assert_int_equal(r->first, 0);
	assert_int_equal(r->last, 0);
	g_es(&g, MMIO >> 4);
	g_store8(&g, 0x10, 0xaa);
	g_store32(&g, 0xfc, 0x12345678);
	g_store32(&g, 0xfd, 1); /* not as a whole in the zone */
	g_load8(&g, 0x10);	/* reads are never collected */
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, MMIO + 0xfd);
	assert_int_equal(r->first, 0);
	assert_int_equal(r->last, 2);
	assert_int_equal(r->coalesced_mmio[0].phys_addr, MMIO + 0x10);
	assert_int_equal(r->coalesced_mmio[0].len, 1);
	assert_int_equal(r->coalesced_mmio[0].pio, 0);
	assert_int_equal(r->coalesced_mmio[0].data[0], 0xaa);
	assert_int_equal(r->coalesced_mmio[1].phys_addr, MMIO + 0xfc);
	assert_int_equal(r->coalesced_mmio[1].len, 4);
	assert_memory_equal(r->coalesced_mmio[1].data, "\x78\x56\x34\x12", 4);
	while (guest_run(&g) == KVM_EXIT_MMIO && g.run->mmio.is_write)
		; /* the rest of the crossing store, if it was split */
	assert_int_equal(g.run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, MMIO + 0x10);
	guest_done(&g);

	/* A larger range does not end it; any part of it does. */
	r->first = r->last;
	zone(0, KVM_UNREGISTER_COALESCED_MMIO, MMIO, 0x200, 0);
	guest_writes(0x10, 1);
	assert_int_equal(r->last, 3);
	zone(0, KVM_UNREGISTER_COALESCED_MMIO, MMIO + 0x20, 4, 0);
	guest_rewind(&g);
	g_es(&g, MMIO >> 4);
	g_store8(&g, 0x10, 2);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	guest_done(&g);
	assert_int_equal(r->last, 3);
	zone(0, KVM_UNREGISTER_COALESCED_MMIO, MMIO, 0x100, 0); /* not there: no error */
}

static void coalesced_pio(void **state)
{
	struct kvm_coalesced_mmio_ring *r;

	zone(0, KVM_REGISTER_COALESCED_MMIO, 0x70, 1, 1);
	guest_start(&g);
	r = ring();
	g_outb(&g, 0x70, 0x0a);
	g_inb(&g, 0x71);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x71);
	assert_int_equal(r->last, 1);
	assert_int_equal(r->coalesced_mmio[0].pio, 1);
	assert_int_equal(r->coalesced_mmio[0].phys_addr, 0x70);
	assert_int_equal(r->coalesced_mmio[0].len, 1);
	assert_int_equal(r->coalesced_mmio[0].data[0], 0x0a);
	guest_done(&g);
}

/* A full ring ends the collecting, and indices that the client has spoilt do no harm. */
static void coalesced_ring_full(void **state)
{
	static const u32 wild[] = {0x7fffffff, 0xffffffff, 200};
	struct kvm_coalesced_mmio_ring *r;
	u32 max = (PAGE - sizeof(*r)) / sizeof(r->coalesced_mmio[0]), i;

	zone(0, KVM_REGISTER_COALESCED_MMIO, MMIO, 0x100, 0);
	guest_start(&g);
	r = ring();
	g_es(&g, MMIO >> 4);
	code(&g, 0xb9, LE16(max)); /* mov cx, max */
	g_store8(&g, 0x10, 1);
	code(&g, 0xe2, (u8)-8); /* loop to the store */
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(r->last, max - 1);
	guest_done(&g);
	assert_int_equal(r->last, max - 1);

	r->first = 1; /* room for one, at the turn */
	guest_writes(0x10, 2);
	assert_int_equal(r->last, 0);
	for (i = 0; i < ARRAY_SIZE(wild); i++) {
		r->last = wild[i];
		guest_rewind(&g);
		g_es(&g, MMIO >> 4);
		g_store8(&g, 0x10, 1);
		g_done(&g);
		assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
		assert_int_equal(r->last, wild[i]);
		guest_done(&g);
	}
}

static void coalesced_limit(void **state)
{
	struct kvm_coalesced_mmio_zone z = {.addr = MMIO, .size = 1};
	int i;

	for (i = 0; i < 100000 && !anyvisor_ioctl(g.vm, KVM_REGISTER_COALESCED_MMIO, &z); i++)
		z.addr += 16;
	assert_in_range(i, 500, 1000);
	assert_int_equal(errno, ENOSPC);
	zone(0, KVM_REGISTER_COALESCED_MMIO, 0x70, 1, 1); /* the other bus has room */
}

/* ---- all of it under a running guest ---- */

static void *run_to_the_end(void *arg)
{
	int *reason = arg;

	*reason = ok(g.vcpu, KVM_RUN, 0) ? -1 : (int)g.run->exit_reason;
	return NULL;
}

/*
 * Regions, logs, eventfds and zones come and go while a vCPU does nothing but signal an eventfd,
 * write logged memory and look at [0x600]: it never leaves the guest, and no call waits for ever.
 */
static void changes_under_guest(void **state)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK), reason = -1, i;
	u8 *logged = map_pages(4), *other = map_pages(4);
	u64 log, dirty = 0, signals = 0;
	pthread_t thread;

	assert_int_equal(ioeventfd(a, MMIO + 0x40, 1, 0, 0), 0);
	set_region_at(g.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MMIO + 0x1000, 4 * PAGE, logged);
	guest_start(&g);
	g_es(&g, MMIO >> 4);
	g_store8(&g, 0x40, 1);
	g_store8(&g, 0x2000, 1);
	code(&g, 0x80, 0x3e, LE16(0x600), 0); /* cmp byte [0x600], 0 */
	code(&g, 0x74, (u8)-19);	      /* je to the first store */
	g_done(&g);
	assert_int_equal(pthread_create(&thread, NULL, run_to_the_end, &reason), 0);
	for (i = 0; i < 300; i++) {
		struct kvm_dirty_log l = {.slot = 1, .dirty_bitmap = &log};

		assert_int_equal(ioeventfd(b, MMIO + 0x80 + i, 4, 0, 0), 0);
		zone(0, KVM_REGISTER_COALESCED_MMIO, MMIO + 0x800, 16, 0);
		set_region_at(g.vm, 2, 0, MMIO + 0x8000, 4 * PAGE, other);
		ok(g.vm, KVM_GET_DIRTY_LOG, &l);
		assert_int_equal(log & ~2ull, 0);
		dirty += log >> 1 & 1;
		set_region_at(g.vm, 2, 0, MMIO + 0x8000, 0, other);
		zone(0, KVM_UNREGISTER_COALESCED_MMIO, MMIO + 0x800, 16, 0);
		assert_int_equal(ioeventfd(b, MMIO + 0x80 + i, 4, OFF, 0), 0);
		signals += taken(a);
	}
	__atomic_store_n(&g.ram[0x600], 1, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reason, KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, DONE_PORT);
	assert_true(dirty > 1);
	assert_true(signals + taken(a) > 300);
	munmap(logged, 4 * PAGE);
	munmap(other, 4 * PAGE);
	close(a);
	close(b);
}

/*
 * The VMM changes the count of a string input while it answers: what it put down beyond the new count is gone, and what is missing is
 * asked for.
 */
static void string_count_changed(void **state)
{
	struct kvm_regs r;
	u32 got = 0;

	guest_start(&g);
	/* mov di, 0x4000; mov cx, 3; mov dx, 0x80; rep insb, twice */
	for (int i = 0; i < 2; i++)
		code(&g, 0xbf, LE16(0x4000), 0xb9, LE16(3), 0xba, LE16(0x80), 0xf3, 0x6c);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	memset((void *)pio_data(&g), 0xaa, 8);
	ok(g.vcpu, KVM_GET_REGS, &r);
	r.rcx = 1;
	ok(g.vcpu, KVM_SET_REGS, &r);

	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);
	assert_int_equal(g.ram[0x4000], 0xaa);
	assert_int_equal(g.ram[0x4001], 0);
	memset((void *)pio_data(&g), 0xbb, g.run->io.count);
	got = g.run->io.count;
	ok(g.vcpu, KVM_GET_REGS, &r);
	r.rcx = 5;
	ok(g.vcpu, KVM_SET_REGS, &r);
	while (got < 5) {
		assert_int_equal(guest_run(&g), KVM_EXIT_IO);
		assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);
		memset((void *)pio_data(&g), 0xcc, g.run->io.count);
		got += g.run->io.count;
	}
	assert_int_equal(got, 5);
	guest_done(&g);
	assert_int_equal(g.ram[0x4000], 0xbb);
	assert_int_equal(g.ram[0x4004], 0xcc);
	assert_int_equal(g.ram[0x4005], 0);

	/* None at all. */
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	ok(g.vcpu, KVM_GET_REGS, &r);
	r.rcx = 0;
	ok(g.vcpu, KVM_SET_REGS, &r);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	ok(g.vcpu, KVM_GET_REGS, &r);
	assert_int_equal(r.rip, GUEST_CODE + 20);
	assert_int_equal(g.run->io.count, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(memory_region),
		TEST(memory_region_limits),
		TEST(memory_region_join),
		TEST(memory_readonly),
		TEST(memory_address_spaces),
		TEST(memory_smm),
		TEST(memory_remapped),
		TEST(fetch_from_mmio),
		TEST(string_count_changed),
		TEST(dirty_log),
		TEST(dirty_log_manual),
		TEST(irqfd_edge),
		TEST(irqfd_resample),
		TEST(ioeventfd_pio_mmio),
		TEST(ioeventfd_any_length),
		TEST(ioeventfd_errors),
		TEST(ioeventfd_many),
		TEST(coalesced_mmio),
		TEST(coalesced_pio),
		TEST(coalesced_ring_full),
		TEST(coalesced_limit),
		TEST(changes_under_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
