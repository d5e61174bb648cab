/* SPDX-License-Identifier: MIT */
/*
 * Guest memory that the VMM's process itself may not touch: KVM_RUN says EFAULT, whatever the guest
 * was doing there, with the state of before that instruction; and once the memory can be reached
 * the guest goes on as if nothing had been.
 */
#include "api.h"

#include <signal.h>

#define HOLE	 0x20000u /* guest-physical, in real mode ES = 0x2000 */
#define HOLE_SEG 0x2000
#define PAGES	 2 /* the second one is always there */

static struct guest g;
static u8 *hole;

/* cmocka puts its own handlers for faults in front of each test; these are the library's. */
static struct sigaction library_segv, library_bus;

static void access_to(int prot)
{
	assert_int_equal(mprotect(hole, PAGE, prot), 0);
}

static int setup(void **state)
{
	guest_make(&g);
	guest_start(&g);
	sigaction(SIGSEGV, &library_segv, NULL);
	sigaction(SIGBUS, &library_bus, NULL);
	hole = map_pages(PAGES);
	set_region_at(g.vm, 1, 0, HOLE, PAGES * PAGE, hole);
	access_to(PROT_NONE);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	munmap(hole, PAGES * PAGE);
	return 0;
}

static struct kvm_regs regs(void)
{
	struct kvm_regs r;

	ok(g.vcpu, KVM_GET_REGS, &r);
	return r;
}

/* KVM_RUN meets the hole and leaves everything as it was before the instruction at rip; then the
 * hole is mended. */
#define meets_hole(rip) meets_hole_at(rip, __FILE__, __LINE__)
static void meets_hole_at(u64 rip, const char *file, int line)
{
	struct kvm_regs a, b;

	fails_at(EFAULT, g.vcpu, KVM_RUN, 0, "KVM_RUN", file, line);
	a = regs();
	_assert_int_equal(a.rip, rip, file, line);
	/* However often it is tried. */
	fails_at(EFAULT, g.vcpu, KVM_RUN, 0, "KVM_RUN", file, line);
	b = regs();
	_assert_int_equal(memcmp(&a, &b, sizeof(a)), 0, file, line);
	access_to(PROT_READ | PROT_WRITE);
}

/* lock add dword [es:0xffe], 0x10001: in both pages */
#define g_lock_add(g) code(g, 0x66, 0x26, 0xf0, 0x81, 0x06, LE16(0xffe), LE32(0x10001))

static u64 here(void)
{
	return g.at - g.ram;
}

static void load(void **state)
{
	u64 rip;

	g_es(&g, HOLE_SEG);
	rip = here();
	g_load8(&g, 0x10);
	g_done(&g);
	meets_hole(rip);
	hole[0x10] = 0x42;
	assert_int_equal(guest_done(&g), 0x42);
}

static void store(void **state)
{
	u64 rip;

	g_es(&g, HOLE_SEG);
	rip = here();
	g_store8(&g, 0x10, 0x24);
	g_done(&g);
	meets_hole(rip);
	guest_done(&g);
	assert_int_equal(hole[0x10], 0x24);
}

/* The VMM may read, but not write. */
static void store_to_read_only(void **state)
{
	u64 rip;

	access_to(PROT_READ);
	g_es(&g, HOLE_SEG);
	g_load8(&g, 0x10);
	rip = here();
	g_store8(&g, 0x10, 0x24);
	g_done(&g);
	meets_hole(rip);
	guest_done(&g);
	assert_int_equal(hole[0x10], 0x24);
}

/* Half of an access is missing: the first, then the second. */
static void two_pages(void **state)
{
	u64 rip;

	g_es(&g, HOLE_SEG);
	rip = here();
	g_lock_add(&g);
	g_done(&g);
	*(u16 *)(hole + PAGE) = 5;
	meets_hole(rip);
	assert_int_equal(*(u16 *)(hole + PAGE), 5);
	*(u16 *)(hole + 0xffe) = 7;
	guest_done(&g);
	assert_int_equal(*(u16 *)(hole + 0xffe), 8);
	assert_int_equal(*(u16 *)(hole + PAGE), 6);

	guest_rewind(&g);
	access_to(PROT_READ | PROT_WRITE);
	assert_int_equal(mprotect(hole + PAGE, PAGE, PROT_NONE), 0);
	fails(EFAULT, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rip, rip);
	assert_int_equal(*(u16 *)(hole + 0xffe), 8);
	assert_int_equal(mprotect(hole + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	guest_done(&g);
	assert_int_equal(*(u16 *)(hole + 0xffe), 9);
	assert_int_equal(*(u16 *)(hole + PAGE), 7);
}

/* A locked access over two pages stops all other vCPUs: they must run again after it has failed. */
static void others_run_on(void **state)
{
	struct guest h = g;
	struct kvm_regs r = {.rip = 0x3000, .rflags = 2};
	struct kvm_mp_state mp = {KVM_MP_STATE_RUNNABLE};
	struct kvm_sregs s;

	h.vcpu = ok(g.vm, KVM_CREATE_VCPU, 1);
	h.run = map_run(g.dev, h.vcpu);
	ok(h.vcpu, KVM_GET_SREGS, &s);
	s.cs.base = s.cs.selector = 0;
	ok(h.vcpu, KVM_SET_SREGS, &s);
	ok(h.vcpu, KVM_SET_REGS, &r);
	ok(h.vcpu, KVM_SET_MP_STATE, &mp);
	h.at = g.ram + 0x3000;
	code(&h, 0xb0, 0x77);
	g_done(&h);

	g_es(&g, HOLE_SEG);
	g_lock_add(&g);
	g_done(&g);
	fails(EFAULT, g.vcpu, KVM_RUN, 0);
	assert_int_equal(guest_done(&h), 0x77);
	munmap(h.run, ok(g.dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	anyvisor_close(h.vcpu);
}

static void fetch(void **state)
{
	static const u8 there[] = {0xb0, 0x55, 0xe6, DONE_PORT, 0xb0, 0x56, 0xe6, DONE_PORT};

	code(&g, 0xea, LE16(0), LE16(HOLE_SEG)); /* jmp HOLE_SEG:0 */
	meets_hole(0);
	memcpy(hole, there, sizeof(there));
	assert_int_equal(guest_done(&g), 0x55);
	/* Decoded already: the bytes must be compared, and cannot. */
	access_to(PROT_NONE);
	meets_hole(4);
	assert_int_equal(guest_done(&g), 0x56);
}

/* Over the end of a page that is there. */
static void fetch_two_pages(void **state)
{
	u8 *last = hole + PAGE;

	access_to(PROT_READ | PROT_WRITE);
	memcpy(last - 1, (u8[]){0xb0, 0x66, 0xe6, DONE_PORT}, 4);
	assert_int_equal(mprotect(last, PAGE, PROT_NONE), 0);
	code(&g, 0xea, LE16(0xfff), LE16(HOLE_SEG));
	fails(EFAULT, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rip, 0xfff);
	assert_int_equal(mprotect(last, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(guest_done(&g), 0x66);
}

/* From 0x5000 to the last 64 bytes below the hole and the first 64 in it. */
static void rep_movs(void **state)
{
	u8 *below = map_pages(1);
	u64 rip;

	set_region_at(g.vm, 2, 0, HOLE - PAGE, PAGE, below);
	g_es(&g, HOLE_SEG - 4);
	code(&g, 0xbe, LE16(0x5000), 0xbf, LE16(0), 0xb9, LE16(128), 0xfc); /* si, di, cx, cld */
	rip = here();
	code(&g, 0xf3, 0xa4);
	g_done(&g);
	for (u32 k = 0; k < 128; k++)
		g.ram[0x5000 + k] = (u8)(k ^ 0x5a);
	fails(EFAULT, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rip, rip);
	/* What was copied is counted. */
	assert_int_equal(regs().rcx, 64);
	assert_int_equal(regs().rsi, 0x5000 + 64);
	assert_int_equal(regs().rdi, 64);
	access_to(PROT_READ | PROT_WRITE);
	guest_done(&g);
	assert_int_equal(regs().rcx, 0);
	assert_memory_equal(below + PAGE - 64, g.ram + 0x5000, 64);
	assert_memory_equal(hole, g.ram + 0x5000 + 64, 64);
	munmap(below, PAGE);
}

static void sse(void **state)
{
	struct kvm_sregs s;
	struct kvm_fpu f;
	u64 rip;

	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.cr4 |= 1 << 9;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	g_es(&g, HOLE_SEG);
	code(&g, 0x66, 0x0f, 0x76, 0xc0); /* pcmpeqd xmm0, xmm0 */
	rip = here();
	code(&g, 0x26, 0x0f, 0x10, 0x06, LE16(0x20)); /* movups xmm0, [es:0x20] */
	code(&g, 0x26, 0x0f, 0x11, 0x06, LE16(0x40)); /* movups [es:0x40], xmm0 */
	g_done(&g);
	meets_hole(rip);
	ok(g.vcpu, KVM_GET_FPU, &f);
	for (u32 k = 0; k < 16; k++)
		assert_int_equal(f.xmm[0][k], 0xff);
	memset(hole + 0x20, 0x3c, 16);
	guest_done(&g);
	assert_memory_equal(hole + 0x20, hole + 0x40, 16);
}

static struct kvm_segment flat(u16 selector, u8 type)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1};
}

/* Protected mode, flat; paging by tables at cr3 with the extensions of cr4. */
static struct kvm_sregs paging(u64 cr3, u64 cr4)
{
	struct kvm_sregs s;

	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.cs = flat(8, 11);
	s.ss = s.ds = s.es = s.fs = s.gs = flat(16, 3);
	s.cr0 |= 1 | 1u << 31;
	s.cr3 = cr3;
	s.cr4 |= cr4;
	return s;
}

#define CR4_PSE 0x10
#define CR4_PAE 0x20

static void page_walk(void **state)
{
	struct kvm_sregs s = paging(HOLE, CR4_PSE);
	struct kvm_translation tr = {.linear_address = GUEST_CODE};

	ok(g.vcpu, KVM_SET_SREGS, &s);
	ok(g.vcpu, KVM_TRANSLATE, &tr);
	assert_int_equal(tr.valid, 0);
	code(&g, 0xb0, 0x11, 0xe6, DONE_PORT);
	meets_hole(GUEST_CODE);
	((u32 *)hole)[0] = 0x83; /* 4 MiB at 0 */
	assert_int_equal(guest_done(&g), 0x11);
	assert_int_equal(((u32 *)hole)[0] & 0x20, 0x20); /* accessed */
	ok(g.vcpu, KVM_TRANSLATE, &tr);
	assert_int_equal(tr.valid, 1);
	assert_int_equal(tr.physical_address, GUEST_CODE);
}

/* KVM_SET_SREGS reads PDPTEs. */
static void pdptes(void **state)
{
	struct kvm_sregs s = paging(HOLE, CR4_PAE);

	ok(g.vcpu, KVM_SET_SREGS, &s);
	access_to(PROT_READ | PROT_WRITE);
	((u64 *)hole)[0] = (HOLE + PAGE) | 1;
	((u64 *)(hole + PAGE))[0] = 0x83; /* 2 MiB at 0 */
	ok(g.vcpu, KVM_SET_SREGS, &s);
	code(&g, 0xb0, 0x12, 0xe6, DONE_PORT);
	assert_int_equal(guest_done(&g), 0x12);
}

/* Interrupt delivery meets the hole: the interrupt is not lost. */
static void delivery(void **state)
{
	struct kvm_interrupt irq = {0x21};
	struct kvm_regs r = regs();
	struct kvm_sregs s;

	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.ss.base = HOLE;
	s.ss.selector = HOLE_SEG;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	r.rsp = 0x800;
	r.rflags |= 1 << 9;
	ok(g.vcpu, KVM_SET_REGS, &r);
	memcpy(g.ram + 0x21 * 4, (u16[]){0x3000, 0}, 4);
	memcpy(g.ram + 0x3000, (u8[]){0xb0, 0x21, 0xe6, DONE_PORT}, 4);
	code(&g, 0xeb, 0xfe);
	ok(g.vcpu, KVM_INTERRUPT, &irq);
	meets_hole(GUEST_CODE);
	assert_int_equal(guest_done(&g), 0x21);
	assert_int_equal(((u16 *)(hole + 0x800))[-3], GUEST_CODE);
}

#define SMM_SPACE (1 << 16)

/* System management mode is entered through memory. */
static void smm(void **state)
{
	u8 *entry = map_pages(1);

	/* SMBASE is 0x30000: the handler is at 0x38000, the state goes to the end of 0x3f000, which
	 * is missing. */
	set_region_at(g.vm, SMM_SPACE | 1, 0, 0x38000, PAGE, entry);
	set_region_at(g.vm, SMM_SPACE | 2, 0, 0x3f000, PAGE, hole);
	memcpy(entry, (u8[]){0xb0, 0x31, 0xe6, DONE_PORT}, 4);
	code(&g, 0xb0, 0x32, 0xe6, DONE_PORT);
	ok(g.vcpu, KVM_SMI, 0);
	meets_hole(GUEST_CODE);
	assert_int_equal(g.run->flags & KVM_RUN_X86_SMM, 0);
	assert_int_equal(guest_done(&g), 0x31);
	assert_int_equal(g.run->flags & KVM_RUN_X86_SMM, KVM_RUN_X86_SMM);
	munmap(entry, PAGE);
}

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define MSR_KVM_WALL_CLOCK_NEW	0x4b564d00

static void set_msr(u32 index, u64 data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {{.nmsrs = 1}, {.index = index, .data = data}};

	assert_int_equal(ok(g.vcpu, KVM_SET_MSRS, &m), 1);
}

/* Clock pages that cannot be written are not written. */
static void clock_page(void **state)
{
	set_msr(MSR_KVM_SYSTEM_TIME_NEW, HOLE | 1);
	set_msr(MSR_KVM_WALL_CLOCK_NEW, HOLE + 0x100);
	code(&g, 0xb0, 0x51, 0xe6, DONE_PORT);
	g_wrmsr(&g, MSR_KVM_SYSTEM_TIME_NEW, HOLE | 1);
	code(&g, 0xb0, 0x52, 0xe6, DONE_PORT);
	assert_int_equal(guest_done(&g), 0x51);
	assert_int_equal(guest_done(&g), 0x52);
	access_to(PROT_READ | PROT_WRITE);
	assert_int_equal(*(u32 *)hole, 0);
	guest_rewind(&g);
	assert_int_equal(guest_done(&g), 0x51);
	assert_int_equal(guest_done(&g), 0x52);
	assert_int_not_equal(*(u32 *)hole, 0); /* the version */
	assert_int_equal(*(u32 *)hole & 1, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(load),
		T(store),
		T(store_to_read_only),
		T(two_pages),
		T(others_run_on),
		T(fetch),
		T(fetch_two_pages),
		T(rep_movs),
		T(sse),
		T(page_walk),
		T(pdptes),
		T(delivery),
		T(smm),
		T(clock_page),
	};

	/* The library's handlers stand from the first VM on. */
	guest_make(&g);
	sigaction(SIGSEGV, NULL, &library_segv);
	sigaction(SIGBUS, NULL, &library_bus);
	guest_end(&g);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
