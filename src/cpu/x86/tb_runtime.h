/* SPDX-License-Identifier: MIT */
/*
 * Tier 1's runtime inside: shared by tb_run.c (engine), tb_cache.c and tb_stub.c (outer), lookup.c,
 * code.c and signal.c.
 *
 * The code region is one memfd mapped twice, writable and executable. It begins with the stubs; two
 * halves follow, each filled in ascending order and turned together with the arena's (code_priv.h),
 * since blocks name predecoded instructions by arena index.
 *
 * A block dies with its page (frame_empty): its heads become stale, and X86_REQ_CODE makes every
 * CPU empty its jump caches and leave chains of direct jumps, which never lead out of the page. Its
 * memory is used again only after its half was turned and every CPU has been quiet.
 */
#ifndef AV_CPU_X86_TB_RUNTIME_H
#define AV_CPU_X86_TB_RUNTIME_H

#include "cpu/x86/tb.h"

#define X86_TB_REGION	  (64ull << 20) /* default size, both halves */
#define X86_TB_REGION_MIN (1ull << 20)
#define X86_TB_REGION_MAX (1ull << 30) /* rel32 reaches everywhere in it */
#define X86_TB_STUBS	  4096u	       /* room for the stubs */
#define X86_COLD_SIZE	  256u
#define X86_COLD_VISITS	  4 /* of a place without a head until it gets one */

/* What was filled into a jump cache since it was last emptied. More than fits: count is X86_JC_LOG
 * + 1. */
#define X86_JC_LOG 4096u
struct x86_jc_log {
	u32 count;
	u16 index[X86_JC_LOG];
};

/* Per CPU, behind its jump caches. */
struct x86_tb_cpu {
	struct x86_jc_log log[2][X86_NR_SETS]; /* [global] */
	/* Which pages and which 4 MiB regions may have entries, a hash each: never too few bits.
	 * [global] */
	u64 pages[2][16], regions[2][4];
	u8 cold[X86_COLD_SIZE]; /* visits to places without a head, by address */
};
#define X86_GS_TB (X86_GS_JC(X86_NR_SETS + 1))

struct x86_tb_half {
	u32 start, end, used;  /* offsets in the region */
	struct x86_tb **index; /* ascending by address; count grows by release */
	u32 count, max;
	u8 *meta; /* the struct x86_tb */
	u64 meta_used, meta_size;
};

struct x86_tb_cache {
	u8 *w, *x; /* the two mappings */
	u64 size;
	u32 stub[X86_NR_STUBS];
	u32 enter;
	u32 turns; /* under code->lock */
	struct x86_tb_half half[2];
	struct x86_tb_out *out;
};

/* ---- tb_stub.c ---- */
/* Writes the stubs to tb->w and their places to tb->stub and tb->enter. arena: what arena indexes
 * count from. */
void x86_tb_stubs_write(struct x86_tb_cache *tb, const u8 *arena);

/* ---- tb_cache.c, behind the door ---- */
int x86_tb_cache_create(struct x86_code *code, u64 size);
void x86_tb_cache_destroy(struct x86_code *code);
/* Under the lock: the half of that number is used from its start again; the other is left as it is.
 */
void x86_tb_turn(struct x86_code *code, u32 half);
/* Translates at a head for the current set. true: the head has a block now. */
bool x86_tb_make(struct x86_cpu *c, struct x86_insn *head);
/* Makes the `jmp rel32` at offset site of the region go straight to head's block, if both ends live
 * and belong together. turns: of when site was known to be alive. */
void x86_tb_chain(struct x86_cpu *c, u32 site, u32 turns, const struct x86_insn *head);
/* The CPU, its TLB and its jump caches in one zeroed mapping (tb.h). NULL: no memory. */
struct x86_cpu *x86_cpu_alloc(void);
void x86_cpu_free(struct x86_cpu *c);
/* Gives a CPU what it needs to run blocks; nothing where there is no tier 1. */
void x86_tb_cpu_init(struct x86_cpu *c);

/* ---- tb_run.c ---- */
/* What a stub does next: enters host, or leaves with insn (NULL: cpu->rip says where). */
struct x86_tb_next {
	const void *host;
	const struct x86_insn *insn;
};
struct x86_tb_next x86_tb_page(struct x86_cpu *c, u32 off, u32 site);
struct x86_tb_next x86_tb_miss(struct x86_cpu *c, u64 rip);
/* An instruction under SLOW came to i (NULL: to cpu->rip) rather than behind itself. */
struct x86_tb_next x86_tb_resume(struct x86_cpu *c, const struct x86_insn *i);

/* Called by lookup.c wherever execution translations go. */
void x86_jc_flush(struct x86_cpu *c);
void x86_jc_flush_nonglobal(struct x86_cpu *c);
void x86_jc_flush_page(struct x86_cpu *c, u64 la);
void x86_jc_flush_region(struct x86_cpu *c, u64 la);

/* The base of GS while a CPU runs, for the stubs and blocks. */
u64 x86_gs_enter(struct x86_cpu *c);
void x86_gs_leave(struct x86_cpu *c, u64 old);

/* pc lies in the region's blocks: the block's map entry for the instruction there, NULL: none can
 * fault there. Async-signal-safe. */
bool x86_tb_owns_pc(const struct x86_code *code, u64 pc);
const struct x86_tb_map *x86_tb_find(const struct x86_code *code, u64 pc);

/* The block that holds an offset of the region, or NULL. */
static inline struct x86_tb *x86_tb_at(const struct x86_tb_cache *tb, u32 at)
{
	for (u32 h = 0; h < 2; h++) {
		const struct x86_tb_half *half = &tb->half[h];
		u32 lo = 0, hi = LOAD_ACQUIRE(half->count);

		if (at < half->start || at >= half->end)
			continue;
		while (lo < hi) {
			u32 mid = (lo + hi) / 2;

			if (half->index[mid]->at <= at)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo && at - half->index[lo - 1]->at < half->index[lo - 1]->size)
			return half->index[lo - 1];
	}
	return NULL;
}

#endif
