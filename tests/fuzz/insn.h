/* SPDX-License-Identifier: MIT */
/*
 * The instruction fuzzer's shared words: a case, where it runs, and what came of it.
 *
 * A case is a few instructions and the state they start from. It runs natively (silicon.c) and in
 * the engine (guest.c), at the same linear addresses, and ends at the first exception: an INT3
 * behind the code, if nothing comes before.
 */
#ifndef AV_TESTS_FUZZ_INSN_H
#define AV_TESTS_FUZZ_INSN_H

#include "cpu/x86/simd.h"

#include <stdio.h>

/*
 * Linear memory of a case, the same on both sides: a reservation in which nothing is mapped but a
 * few pages, all else in reach of the operands faults.
 */
#define ARENA_BASE 0x30000000ull
#define ARENA_SIZE 0x01000000ull
#define DATA_BASE  (ARENA_BASE + ARENA_SIZE / 2)
enum arena_page {
	PAGE_RO, /* read-only; before it nothing */
	PAGE_RW, /* two of them; behind them nothing */
	PAGE_RW2,
	PAGE_HOLE,
	PAGE_CODE, /* two, not writable */
	PAGE_CODE2,
	PAGE_HOLE2,
	PAGE_SMC, /* two, writable and executable */
	PAGE_SMC2,
	NR_ARENA_PAGES,
};
#define PAGE_AT(p) (DATA_BASE + (u64)(p)*PAGE_SIZE)

#define XS_SIZE	  4096
#define CODE_SIZE 512u
#define MAX_INSNS 24u

struct fuzz_state {
	u8 xs[XS_SIZE] __attribute__((aligned(64))); /* XSAVE's standard format */
	u64 gpr[16];
	u64 rip, flags;
};

struct fuzz_case {
	u8 bits;   /* 4, 8: bytes of the code size */
	bool smc;  /* in the writable code pages */
	bool cold; /* the engine starts with an empty TLB */
	u32 at;	   /* offset of the first instruction in the code pages */
	u32 len, n;
	u16 start[MAX_INSNS + 1]; /* of the n instructions, from `at`; then len */
	u8 code[CODE_SIZE];
	u64 mem_seed;
	struct fuzz_state in;
};

struct fuzz_result {
	int vector; /* -1: stopped by the watchdog; 0x100 + exit reason: the engine gave up */
	u32 error;
	u64 cr2;
	struct fuzz_state out;
	u8 mem[4][PAGE_SIZE]; /* PAGE_RW, PAGE_RW2, PAGE_SMC, PAGE_SMC2 */
};

extern const struct x86_xlayout *xl;

static inline u64 code_base(const struct fuzz_case *f)
{
	return PAGE_AT(f->smc ? PAGE_SMC : PAGE_CODE);
}

/* ---- random numbers: one stream per case, so that a case is known by its seed ---- */
struct rng {
	u64 s;
};
static inline u64 rnd(struct rng *r)
{
	u64 z = r->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}
static inline u32 below(struct rng *r, u32 n)
{
	return (u32)((rnd(r) >> 32) * n >> 32);
}
static inline bool chance(struct rng *r, u32 n)
{
	return below(r, n) == 0;
}
void fill_random(struct rng *r, void *p, u32 n);
/* What the data pages hold before a case. */
void fill_memory(u64 seed, u8 *page, enum arena_page which);

/* ---- silicon.c ---- */
void silicon_init(void);
void silicon_run(const struct fuzz_case *f, struct fuzz_result *r);
/* For the signal handler: was it the case? */
bool silicon_signal(int sig, void *siginfo, void *ucontext);
/* From a timer: the case has run for too long. */
bool silicon_hung(void *ucontext);

/* ---- guest.c ---- */
enum fuzz_engine { ENGINE_INTERP, ENGINE_TRANSLATE };
void guest_init(enum fuzz_engine engine);
void guest_fini(void);
void guest_run(const struct fuzz_case *f, struct fuzz_result *r);
void guest_hung(void);
/* The rule that the engine's last exception broke, or why it gave up. */
const char *guest_why(void);
void guest_stats(FILE *to);

/* ---- gen.c ---- */
struct gen_options {
	u8 bits;      /* 4, 8; 0: any */
	bool blocks;  /* several instructions */
	s32 encoding; /* enum gen_space; -1: any */
};
/* Makes the case of that seed. false: nothing that may run came out. */
bool gen_case(struct fuzz_case *f, u64 seed, const struct gen_options *o);
/* May this run on the host as it stands? For cases that did not come from gen_case() or were
 * changed. */
bool gen_safe(const struct fuzz_case *f);
/* Of the i-th instruction; NULL: not an instruction. */
bool gen_decode(const struct fuzz_case *f, u32 i, struct x86_decoded *d);

/* ---- masks.c ---- */
/* Arithmetic flags that are undefined behind this instruction and may differ; 0 wherever the engine
 * runs the host's own. */
u32 undefined_flags(const struct x86_decoded *d);
enum tolerated {
	T_ALL = BIT(0),		 /* not compared: not run */
	T_FAULT = BIT(1),	 /* whether and where it faults */
	T_FAULT_MEMORY = BIT(2), /* memory, when it faults */
	T_CR2 = BIT(3),		 /* which address of its operand a fault names */
	T_PARTIAL = BIT(4),	 /* all state, when it faults */
};
u32 tolerated(const struct x86_decoded *d);

#endif
