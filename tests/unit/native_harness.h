/* SPDX-License-Identifier: MIT */
/*
 * A CPU with only the native half of the engine, its random states, and the comparison with the
 * bare host (native_oracle.h).
 */
#ifndef TESTS_NATIVE_HARNESS_H
#define TESTS_NATIVE_HARNESS_H

#include "native_oracle.h"

#include "cpu/x86/simd.h"

extern struct x86_cpu *cpu;
extern int vector; /* that the last run raised; -1: none; 0x100 + reason: it left */
extern u64 fault_la;
extern const struct x86_xlayout *xl;
extern u32 trials;     /* NATIVE_TRIALS */
extern char what[256]; /* names the case in messages */

/* For cmocka_run_group_tests(). */
int native_setup(void **state);
int native_teardown(void **state);
/* cmocka puts handlers of its own around every test: each begins with this. */
void catch_signals(void);

u64 rnd(void);
void random_bytes(u8 *p, u32 n);
void random_floats(u8 *p, u32 n);
void random_state(struct oracle_state *s);

/* Fills the TLB with the arena's pages, or empties it: then every access takes the slow path. */
void set_tlb(bool full);
void load_cpu(const struct oracle_state *s);
/* Runs a decoded instruction on the engine's CPU; its SIMD state is in cpu->xsave afterwards. */
void run_engine(const struct x86_insn *i);

/* Both print what differs. */
bool differs(const char *name, u32 n, const void *bare, const void *ours, u32 len);
u32 compare_vectors(const u8 *bare, const u8 *ours);

#endif
