/* SPDX-License-Identifier: MIT */
/*
 * A whole CPU on the toy machine, with descriptor tables, page tables and handlers laid out, for
 * tests of the system side that run guest code through x86_run().
 */
#ifndef AV_TESTS_SYS_FIXTURE_H
#define AV_TESTS_SYS_FIXTURE_H

#include "cpu/x86/code.h"
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/seg.h"
#include "toy_machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Guest memory. Identity-mapped for all, but USER_OFF (supervisor only) where paging is on. */
#define AT_GDT	     0x1000u
#define AT_IDT	     0x2000u
#define AT_TSS	     0x3000u
#define AT_LDT	     0x4000u
#define AT_HANDLERS  0x8000u /* HANDLER_SIZE bytes of HLT each */
#define AT_PML4	     0x10000u
#define AT_CODE	     0x20000u
#define AT_STACK     0x40000u /* top of the stack that code starts with */
#define AT_STACK0    0x48000u /* top of the TSS's ring 0 stack */
#define AT_STACK1    0x4c000u
#define AT_IST	     0x50000u
#define AT_DATA	     0x60000u
#define AT_KERNEL    0x80000u /* supervisor page */
#define AT_ABSENT    0x90000u
#define AT_SMBASE    0xa0000u
#define RAM_SIZE     0x200000u
#define HANDLER_SIZE 16u

enum {
	SEL_CODE32 = 0x08,
	SEL_DATA32 = 0x10,
	SEL_CODE64 = 0x18,
	SEL_UCODE32 = 0x23,
	SEL_UDATA = 0x2b,
	SEL_UCODE64 = 0x33,
	SEL_TSS = 0x38,
	SEL_LDT = 0x48,
	SEL_CODE16 = 0x58,
	SEL_DATA16 = 0x60,
	SEL_GATE = 0x6b,
	SEL_CONFORMING = 0x78,
	SEL_CODE1 = 0x81,
	SEL_DATA1 = 0x89,
	SEL_ABSENT = 0x90,
	SEL_RODATA = 0x98,
	SEL_XONLY = 0xa0,
	SEL_DOWN = 0xa8,
	GDT_SIZE = 0xc0,
};

struct fx {
	struct toy toy;
	struct av_epoch epoch;
	struct x86_code *code;
	struct x86_cpu *c;
};

enum fx_vendor { FX_INTEL, FX_AMD };

void fx_create(struct fx *f, enum fx_vendor vendor);
void fx_destroy(struct fx *f);

/* Modes, as a VMM would set them with KVM_SET_SREGS. CS and RSP point to AT_CODE and AT_STACK. */
void fx_real(struct fx *f);
void fx_prot32(struct fx *f, u8 cpl, bool paging);
void fx_long(struct fx *f, u8 cpl);

void fx_put(struct fx *f, u64 gpa, const void *bytes, u64 len);
u64 fx_get(struct fx *f, u64 gpa, u32 size);
void fx_set(struct fx *f, u64 gpa, u64 v, u32 size);

/* Points IDT vector n at its HLT (in the mode's format), with this DPL and IST. */
void fx_gate(struct fx *f, u8 vector, u8 dpl, u8 ist);

enum x86_exit_reason fx_run_at(struct fx *f, const u8 *start, const u8 *end);
enum x86_exit_reason fx_run(struct fx *f);

/* After a HLT: the vector of the handler that halted, or -1. */
int fx_vector(struct fx *f);

/* cmocka's setup and teardown: *state is the struct fx. */
int fx_setup_intel(void **state);
int fx_setup_amd(void **state);
int fx_teardown(void **state);
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup_intel, fx_teardown)
#define T_AMD(name)                                                                                \
	{                                                                                          \
#name " (AMD)", name, fx_setup_amd, fx_teardown, NULL                              \
	}

static inline u64 reg(struct fx *f, u32 n)
{
	return f->c->gpr[n];
}

/* The n-th 8- or 4-byte word of the frame at RSP. */
static inline u64 frame(struct fx *f, u32 n)
{
	return fx_get(f, f->c->gpr[X86_RSP] + n * 8, 8);
}

static inline u32 frame32(struct fx *f, u32 n)
{
	return (u32)fx_get(f, f->c->gpr[X86_RSP] + n * 4, 4);
}

/* Guest code by the assembler: GUEST(name, 16|32|64, "..."); FX_RUN(f, name). Inside, name is its
 * start. */
#define GUEST(name, bits, body)                                                                    \
	__asm__(".pushsection .rodata\n.code" #bits "\n.globl " #name "\n.hidden " #name "\n"      \
		".globl " #name "_end\n.hidden " #name "_end\n" #name ":\n" body "\n" #name        \
		"_end:\n.byte 0\n.code64\n.popsection");                                           \
	extern const u8 name[] __attribute__((visibility("hidden")));                              \
	extern const u8 name##_end[] __attribute__((visibility("hidden")))

#define FX_RUN(f, name)	    fx_run_at(f, name, name##_end)
#define EXPECT_HLT(f, name) assert_int_equal(FX_RUN(f, name), X86_EXIT_HLT)

/* Runs and expects the handler of that vector. */
#define EXPECT_VECTOR(f, name, vector)                                                             \
	do {                                                                                       \
		EXPECT_HLT(f, name);                                                               \
		assert_int_equal(fx_vector(f), vector);                                            \
	} while (0)

#endif
