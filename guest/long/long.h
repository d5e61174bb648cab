/* SPDX-License-Identifier: MIT */
/* What long.c (one processor) and smp.c (several) share. */
#ifndef LONG_H
#define LONG_H

#include "guest.h"

enum {
	MSR_TSC = 0x10,
	MSR_APIC_BASE = 0x1b,
	MSR_PAT = 0x277,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_EFER = 0xc0000080,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_FMASK = 0xc0000084,
	MSR_FS_BASE = 0xc0000100,
	MSR_GS_BASE = 0xc0000101,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	MSR_TSC_AUX = 0xc0000103,
};

/* A window of 512 pages that are remapped at will. */
#define WINDOW 0x8000000000ull
#define WIN(n) ((volatile u64 *)(WINDOW + 4096ull * (n)))
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, G = 0x100 };
#define NX (1ull << 63)
extern volatile u64 window_pt[512], pml4[512], pdpt[512];
#define PAGES 16
extern volatile u8 pages[PAGES][4096];

struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* Interrupt handlers of the tests; 0: an exception that a TRY may wait for. */
typedef void irq_handler(struct trap_frame *f);
extern irq_handler *volatile irq_handlers[256];
extern volatile u32 irq_counts[256];

/* ---- the local APIC, either way it is reached ---- */

enum {
	APIC_ID = 0x20,
	APIC_VERSION = 0x30,
	APIC_TPR = 0x80,
	APIC_EOI = 0xb0,
	APIC_LDR = 0xd0,
	APIC_DFR = 0xe0,
	APIC_SVR = 0xf0,
	APIC_ISR = 0x100,
	APIC_IRR = 0x200,
	APIC_ESR = 0x280,
	APIC_ICR = 0x300,
	APIC_LVTT = 0x320,
	APIC_LVT0 = 0x350,
	APIC_TMICT = 0x380,
	APIC_TMCCT = 0x390,
	APIC_TDCR = 0x3e0,
};
enum {
	ICR_NMI = 4 << 8,
	ICR_INIT = 5 << 8,
	ICR_SIPI = 6 << 8,
	ICR_LOGICAL = 1 << 11,
	ICR_ASSERT = 1 << 14,
	ICR_SELF = 1 << 18,
	ICR_OTHERS = 3 << 18
};
extern volatile int x2apic;
u32 apic_read(u32 reg);
void apic_write(u32 reg, u32 v);
void apic_icr(u32 dest, u32 low);
u32 apic_id(void);
void apic_enable(void);
int has_feature(u32 leaf, int reg, int bit);

/* Waits for a condition for some seconds of TSC; says whether it came true. */
#define SOON (40000000000ull)
#define WAIT_FOR(cond)                                                                             \
	({                                                                                         \
		u64 end_ = rdtsc() + SOON;                                                         \
		while (!(cond) && rdtsc() < end_)                                                  \
			pause();                                                                   \
		(cond);                                                                            \
	})

void load_idt(void);
void test_smp(void);

#endif
