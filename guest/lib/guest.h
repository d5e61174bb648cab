/* SPDX-License-Identifier: MIT */
/*
 * What the freestanding guests share: ports, MSRs, printing, and the way they report.
 *
 * A guest writes "name: ok" or "name: FAIL detail" lines to port 0xe9, its verdict to port 0xf4,
 * and halts. It needs no firmware; the same program runs under Anyvisor's runner (tests/guest) and,
 * as a check of the program, under QEMU.
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned long uptr;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define __packed      __attribute__((packed))

enum { PORT_CONSOLE = 0xe9, PORT_STATUS = 0xf4 };

/* ---- report (guest.c) ---- */

void print(const char *fmt, ...); /* %s, %d and %x with L(), %c */
#define L(x) ((unsigned long)(x))
/* Counts and prints a result; the format tells what was seen and is printed only when it failed. */
void report(const char *name, int ok, const char *fmt, ...);
#define CHECK(name, cond) report(name, (cond), "%s", #cond)
/* QEMU's TCG, where the programs themselves are checked, leaves out some of the architecture
 * (limits, reserved bits). */
int on_tcg(void);
#define CHECK_NOT_TCG(name, cond)                                                                  \
	do {                                                                                       \
		if (on_tcg())                                                                      \
			print("%s: not checked, TCG\n", name);                                     \
		else                                                                               \
			CHECK(name, cond);                                                         \
	} while (0)
/* Writes the status (0: all passed) and halts for ever. */
void finish(void) __attribute__((noreturn));
void *memset(void *p, int c, unsigned long n);
void *memcpy(void *d, const void *s, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);

/* ---- instructions ---- */

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
/* Firmware may have left the PIT ticking. */
static inline void mask_pics(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}
static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (u64)hi << 32 | lo;
}
static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}
static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}
static inline void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}
#define barrier() __asm__ volatile("" : : : "memory")

#define CONTROL_REGISTER(n)                                                                        \
	static inline uptr read_cr##n(void)                                                        \
	{                                                                                          \
		uptr v;                                                                            \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory");                     \
		return v;                                                                          \
	}                                                                                          \
	static inline void write_cr##n(uptr v)                                                     \
	{                                                                                          \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");                         \
	}
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)

static inline void invlpg(const volatile void *p)
{
	__asm__ volatile("invlpg (%0)" : : "r"(p) : "memory");
}

/* ---- exceptions: entry.S calls handle_trap, which looks for a waiting TRY ---- */

struct trap_frame; /* per guest */

/* What the last caught exception was. */
extern volatile struct caught {
	int vector; /* -1: none */
	uptr error, address, cr2;
} caught;
extern void *volatile try_resume; /* where a caught exception continues; 0: exceptions are fatal */

/*
 * Executes the instructions with exceptions caught; evaluates to the vector, or -1. Inputs as in
 * inline assembly; EAX, ECX and EDX are free. An exception loses whatever the instructions had on
 * the stack.
 */
#if defined(__x86_64__)
#define TRY_ARM                                                                                    \
	"leaq 9f(%%rip), %%rax\n\tmovq %%rax, try_resume(%%rip)\n\tmovq %%rsp, "                   \
	"try_stack(%%rip)\n\t"
#define TRY_DISARM "\n9:\n\tmovq $0, try_resume(%%rip)\n\tmovq try_stack(%%rip), %%rsp"
#else
#define TRY_ARM	   "movl $9f, try_resume\n\tmovl %%esp, try_stack\n\t"
#define TRY_DISARM "\n9:\n\tmovl $0, try_resume\n\tmovl try_stack, %%esp"
#endif
#define TRY(insns, ...)                                                                            \
	({                                                                                         \
		caught.vector = -1;                                                                \
		caught.error = 0;                                                                  \
		__asm__ volatile(TRY_ARM insns TRY_DISARM                                          \
				 :                                                                 \
				 : __VA_ARGS__                                                     \
				 : "eax", "ecx", "edx", "memory", "cc");                           \
		caught.vector;                                                                     \
	})

#endif
