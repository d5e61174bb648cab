/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the public API share: calls that assert, bad pointers, and a guest of a few
 * bytes.
 *
 * Knows only anyvisor.h and KVM's own headers, so that the same tests could run on a real /dev/kvm.
 */
#ifndef AV_TESTS_API_H
#define AV_TESTS_API_H

#include "anyvisor.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* KVM's counted structs have their entries behind them. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE	      4096

static inline int dev_open(void)
{
	int fd = anyvisor_open("/dev/kvm", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The call succeeds; its value is returned. */
#define ok(fd, cmd, arg) ok_at(fd, cmd, (void *)(uintptr_t)(arg), #cmd, __FILE__, __LINE__)
static inline int ok_at(int fd, unsigned long cmd, void *arg, const char *name, const char *file,
			int line)
{
	int r = anyvisor_ioctl(fd, cmd, arg);

	if (r < 0)
		print_error("%s: %s\n", name, strerror(errno));
	_assert_true(r >= 0, name, file, line);
	return r;
}

/* The call fails with just this errno. */
#define fails(err, fd, cmd, arg)                                                                   \
	fails_at(err, fd, cmd, (void *)(uintptr_t)(arg), #cmd, __FILE__, __LINE__)
static inline void fails_at(int err, int fd, unsigned long cmd, void *arg, const char *name,
			    const char *file, int line)
{
	int r;

	errno = 0;
	r = anyvisor_ioctl(fd, cmd, arg);
	if (r != -1 || errno != err)
		print_error("%s: returned %d, %s instead of %s\n", name, r, strerror(errno),
			    strerror(err));
	_assert_int_equal(r, -1, file, line);
	_assert_int_equal(errno, err, file, line);
}

static inline void *map_pages(size_t n)
{
	void *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/*
 * A struct of `size` bytes that no copy can reach as a whole: null, unmapped, kernel space, and one
 * that runs from a good page into none. For commands that write (out), also read-only memory with
 * the given contents.
 */
#define bad_pointers(fd, cmd, good, size, out)                                                     \
	bad_pointers_at(fd, cmd, good, size, out, #cmd, __FILE__, __LINE__)
static inline void bad_pointers_at(int fd, unsigned long cmd, const void *good, size_t size,
				   int out, const char *name, const char *file, int line)
{
	size_t pages = size / PAGE + 2;
	u8 *area = map_pages(pages + 1), *end = area + pages * PAGE;

	assert_int_equal(munmap(end, PAGE), 0);
	fails_at(EFAULT, fd, cmd, NULL, name, file, line);
	fails_at(EFAULT, fd, cmd, end, name, file, line);
	fails_at(EFAULT, fd, cmd, (void *)0xffff800000000000ull, name, file, line);
	memcpy(end - size + 1, good, size - 1);
	fails_at(EFAULT, fd, cmd, end - size + 1, name, file, line);
	if (out) {
		memcpy(area, good, size);
		assert_int_equal(mprotect(area, pages * PAGE, PROT_READ), 0);
		fails_at(EFAULT, fd, cmd, area, name, file, line);
	}
	munmap(area, pages * PAGE);
}

static inline void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* ---- a guest in real mode: 64 KiB of RAM at 0, code at 0x1000; it ends by writing to port 0xf4
 * ---- */

#define GUEST_RAM  0x10000
#define GUEST_CODE 0x1000
#define DONE_PORT  0xf4

struct guest {
	int dev, vm, vcpu;
	struct kvm_run *run;
	u8 *ram;
	u8 *at; /* where the next instruction goes */
};

static inline void set_region_at(int vm, u32 slot, u32 flags, u64 gpa, u64 size, void *hva)
{
	struct kvm_userspace_memory_region r = {slot, flags, gpa, size, (uintptr_t)hva};

	ok(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static inline struct kvm_run *map_run(int dev, int vcpu)
{
	size_t size = ok(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *p = anyvisor_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* A VM with RAM. Interrupt controllers, if wanted, go between this and guest_start(). */
static inline void guest_make(struct guest *g)
{
	g->dev = dev_open();
	g->vm = ok(g->dev, KVM_CREATE_VM, 0);
	g->vcpu = -1;
	g->ram = map_pages(GUEST_RAM / PAGE);
	g->at = g->ram + GUEST_CODE;
	set_region_at(g->vm, 0, 0, 0, GUEST_RAM, g->ram);
}

/* The vCPU, about to execute what is put down at g->at. */
static inline void guest_start(struct guest *g)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = GUEST_CODE, .rsp = 0x8000, .rflags = 2};

	g->vcpu = ok(g->vm, KVM_CREATE_VCPU, 0);
	g->run = map_run(g->dev, g->vcpu);
	ok(g->vcpu, KVM_GET_SREGS, &s);
	s.cs.base = 0;
	s.cs.selector = 0;
	ok(g->vcpu, KVM_SET_SREGS, &s);
	ok(g->vcpu, KVM_SET_REGS, &r);
}

/* Starts over at the beginning of the code. */
static inline void guest_rewind(struct guest *g)
{
	struct kvm_regs r = {.rip = GUEST_CODE, .rsp = 0x8000, .rflags = 2};

	ok(g->vcpu, KVM_SET_REGS, &r);
	g->at = g->ram + GUEST_CODE;
}

static inline void guest_end(struct guest *g)
{
	if (g->vcpu >= 0) {
		munmap(g->run, ok(g->dev, KVM_GET_VCPU_MMAP_SIZE, 0));
		anyvisor_close(g->vcpu);
	}
	anyvisor_close(g->vm);
	anyvisor_close(g->dev);
	munmap(g->ram, GUEST_RAM);
}

static inline u32 guest_run(struct guest *g)
{
	g->run->exit_reason = 0xdead;
	ok(g->vcpu, KVM_RUN, 0);
	return g->run->exit_reason;
}

static inline const void *pio_data(const struct guest *g)
{
	return (const u8 *)g->run + g->run->io.data_offset;
}

/* The next exit is the write that ends the program; AL is returned. */
#define guest_done(g) guest_done_at(g, __FILE__, __LINE__)
static inline u8 guest_done_at(struct guest *g, const char *file, int line)
{
	_assert_int_equal(guest_run(g), KVM_EXIT_IO, file, line);
	_assert_int_equal(g->run->io.direction, KVM_EXIT_IO_OUT, file, line);
	_assert_int_equal(g->run->io.port, DONE_PORT, file, line);
	return *(const u8 *)pio_data(g);
}

static inline void put(struct guest *g, const void *bytes, size_t n)
{
	memcpy(g->at, bytes, n);
	g->at += n;
}
#define code(g, ...) put(g, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
#define LE16(v)	     (u8)(v), (u8)((v) >> 8)
#define LE32(v)	     LE16(v), LE16((v) >> 16)

#define g_outb(g, port, v)   code(g, 0xba, LE16(port), 0xb0, (u8)(v), 0xee)
#define g_outw(g, port, v)   code(g, 0xba, LE16(port), 0xb8, LE16(v), 0xef)
#define g_outl(g, port, v)   code(g, 0xba, LE16(port), 0x66, 0xb8, LE32(v), 0x66, 0xef)
#define g_inb(g, port)	     code(g, 0xba, LE16(port), 0xec)
#define g_es(g, seg)	     code(g, 0xb8, LE16(seg), 0x8e, 0xc0)
#define g_store8(g, off, v)  code(g, 0x26, 0xc6, 0x06, LE16(off), (u8)(v))
#define g_store16(g, off, v) code(g, 0x26, 0xc7, 0x06, LE16(off), LE16(v))
#define g_store32(g, off, v) code(g, 0x66, 0x26, 0xc7, 0x06, LE16(off), LE32(v))
#define g_load8(g, off)	     code(g, 0x26, 0xa0, LE16(off)) /* into AL */
#define g_wrmsr(g, msr, v)                                                                         \
	code(g, 0x66, 0xb9, LE32(msr), 0x66, 0xb8, LE32((u32)(v)), 0x66, 0xba,                     \
	     LE32((u32)((u64)(v) >> 32)), 0x0f, 0x30)
/* out DONE_PORT, al; then for ever */
#define g_done(g) code(g, 0xe6, DONE_PORT, 0xeb, 0xfe)

#endif
