/* SPDX-License-Identifier: MIT */
/*
 * A CPU without a run loop on the toy machine: page tables are built by hand, faults and leaves are
 * caught and kept. The engine's other files (exceptions, segments, code cache) are stubs in
 * mmu_fixture.c.
 */
#ifndef AV_TESTS_MMU_FIXTURE_H
#define AV_TESTS_MMU_FIXTURE_H

#include "cpu/x86/mmu.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/tb.h"
#include "toy_machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* clang forgets that __builtin_setjmp() returns twice and reuses the stack slots of locals that are
 * needed after the second time. */
#ifdef __clang__
#pragma clang optimize off
#endif

#define RAM_SIZE (64ull << 20)
#define MMIO	 0x80000000ull /* a guest-physical address without RAM */

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX BIT64(63)

struct fixture {
	struct toy toy;
	struct x86_features feat;
	union {
		struct x86_cpu cpu;
		u8 with_tables[X86_GS_MMU + sizeof(struct x86_mmu)];
	};
	u8 pio_page[4096];
	u64 next_table; /* bump allocator for page tables, from 1 MiB on */
};

/* What the engine called its stubs with; cleared by fixture_setup(). */
struct caught {
	int vector; /* -1: nothing raised */
	u32 error;
	u64 la;
	int leave; /* enum x86_exit_reason or -1 */
	u32 etlb_flushes, etlb_pages, code_written;
	u8 *code_host;
	u32 code_len;
	bool code_dropped; /* what x86_code_written() answers */
};
extern struct caught caught;

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Paging modes: tables empty, CR3 set, CPL 0, everything flushed. levels 2 without pae is 32-bit
 * paging. */
void fixture_paging(struct fixture *f, u32 levels, bool pae);
/* Maps la to gpa by an entry with these flags at that level; upper levels are present, writable and
 * user. Returns the entry's gpa. */
u64 fixture_map(struct fixture *f, u64 la, u64 gpa, u64 flags, u32 level);
u64 fixture_entry(struct fixture *f, u64 at);
void fixture_set_cpl(struct fixture *f, u8 cpl);

/* What the run loop does after a long jump, as far as the memory side cares. */
void fixture_caught(struct fixture *f);

/* Runs a statement that may raise or leave; true if it came through. */
#define RUN(f, statement)                                                                          \
	({                                                                                         \
		volatile bool through_ = false;                                                    \
		caught.vector = caught.leave = -1;                                                 \
		if (!__builtin_setjmp((f)->cpu.jmp)) {                                             \
			statement;                                                                 \
			through_ = true;                                                           \
		} else {                                                                           \
			fixture_caught(f);                                                         \
		}                                                                                  \
		(bool)through_;                                                                    \
	})
#define assert_pf(f, statement, la_, error_)                                                       \
	do {                                                                                       \
		assert_false(RUN(f, statement));                                                   \
		assert_int_equal(caught.vector, X86_PF);                                           \
		assert_int_equal(caught.error, error_);                                            \
		assert_int_equal(caught.la, la_);                                                  \
	} while (0)
#define assert_fault(f, statement, vector_)                                                        \
	do {                                                                                       \
		assert_false(RUN(f, statement));                                                   \
		assert_int_equal(caught.vector, vector_);                                          \
	} while (0)
#define assert_leave(f, statement, why_)                                                           \
	do {                                                                                       \
		assert_false(RUN(f, statement));                                                   \
		assert_int_equal(caught.leave, why_);                                              \
	} while (0)

#endif
