/* SPDX-License-Identifier: MIT */
/*
 * The code cache's insides, shared by lookup.c (the CPU's fast path) and code.c (decoding and invalidation).
 *
 * A frame stands for a host page that holds code; it has a page per code size (16, 32, 64 bits); a page has 64 lines of
 * 64 bytes; a line remembers the bytes it was decoded from and where each instruction in it stands. Frames and pages live as
 * long as the VM. Lines and instructions come from an arena of two halves: when one is full all pages are emptied and
 * the other half is used; the old one is free again when every CPU has been quiet. The area of the native stubs, which
 * instructions point to, is halved and turned together with the arena, whichever of the two is full first.
 *
 * Readers: page->line[] and line->insn[] are loaded with acquire and hold arena offsets / 16 (0: nothing). An
 * emptied page's instructions get a handler that looks itself up again, so that a CPU inside leaves at its next instruction.
 */
#ifndef AV_CPU_X86_CODE_PRIV_H
#define AV_CPU_X86_CODE_PRIV_H

#include "cpu/x86/code.h"

#include <pthread.h>

#define X86_LINE_SIZE  64
#define X86_PAGE_LINES 64
#define X86_CODE_HALF  (48ull << 20)
#define X86_STUB_AREA  (4ull << 20)
#define X86_CODE_HASH  4096

struct x86_line {
	u8 bytes[X86_LINE_SIZE];
	u32 insn[X86_LINE_SIZE];
};

struct x86_code_frame;

struct x86_code_page {
	struct x86_code_frame *frame;
	u64 checked; /* atomic: io_epoch in which the lines were last known to match memory */
	u8 bits;
	u32 line[X86_PAGE_LINES];
};

struct x86_code_frame {
	u8 *host;
	u8 *attr; /* atomic */
	bool purged; /* no CPU has a write translation to it; under lock */
	u32 empties; /* how often it was emptied; under lock */
	u64 lines;   /* decoded lines of all pages; under lock */
	u32 blocks;  /* translated from its pages since it was last emptied; under lock */
	struct x86_code_frame *next;
	struct x86_code_page *page[3]; /* by code size >> 2 */
};

struct x86_half {
	struct av_epoch_item item; /* while it waits for readers */
	u64 start, used;	   /* offsets in the arena */
	bool busy;		   /* atomic: may still be read */
};

struct x86_code {
	pthread_mutex_t lock; /* all but atomics; a leaf lock */
	struct av_epoch *epoch;
	u8 *arena;
	struct x86_half half[2];
	u32 active;
	u64 io_epoch; /* atomic */
	u64 turns;    /* atomic: how often the halves were turned */
	struct x86_code_frame *hash[X86_CODE_HASH];
	struct x86_cpu *cpus; /* that execute this code, by code_next */
	struct x86_tb_cache *tb; /* tier 1; NULL: there is none */
	u8 *stub_w, *stub_x; /* the two mappings of the stub area */
	u64 stub_used;	     /* of the active half */
	u64 stub_limit;	     /* how much of a half is used; a run's worth at least */
	bool stubs_full;     /* a stub found no room while something was being decoded */
	void *native;
};

static inline void *x86_arena_at(const struct x86_code *code, u32 index)
{
	return code->arena + (u64)index * 16;
}

static inline u32 x86_code_hash(const u8 *host)
{
	u64 h = (u64)host >> PAGE_SHIFT;

	return (h ^ h >> 12) & (X86_CODE_HASH - 1);
}

/* Frames are published complete and stay, so no lock is needed to find one. */
static inline struct x86_code_frame *x86_code_frame_find(const struct x86_code *code, const u8 *host)
{
	struct x86_code_frame *f = LOAD_ACQUIRE(code->hash[x86_code_hash(host)]);

	while (f && f->host != host)
		f = f->next;
	return f;
}

/* code.c, reached from lookup.c behind the door. */

/* The page of (host, bits) for execution, validated against memory. NULL: out of memory. */
struct x86_code_page *x86_code_page_get(struct x86_cpu *c, u8 *host, u8 *attr, u8 bits);
/* Compares the page with memory if io_epoch moved since that was last done. Takes the lock only then. */
void x86_code_page_check(struct x86_cpu *c, struct x86_code_page *page);
/* Decodes a run at offset off of page and returns its first instruction. NULL: the page cannot be read. */
const struct x86_insn *x86_code_decode(struct x86_cpu *c, struct x86_code_page *page, u32 off);
/* Gives the instruction i, which stands in the middle of a run, a head. Returns what to execute there now: i if nothing came of it. */
const struct x86_insn *x86_code_split(struct x86_cpu *c, struct x86_code_page *page, const struct x86_insn *i);
/* Under the lock: empties all pages and goes to the other halves of the arena and of the code region. false: its readers are not gone yet. */
bool x86_code_turn(struct x86_code *code);

/* Decodes the 15 bytes of a page-crossing instruction to x->insn[0]; as x86_decode(). The CPU may be quiet meanwhile: it holds no pointer into the arena. */
int x86_decode_cross(struct x86_cpu *c, u8 bits, const u8 *bytes, u16 off, struct x86_cross *x);

/* run.c: handlers that stand in predecoded pages. */
x86_op_fn x86_op_end;	/* the instruction after a run: go on at its offset */
x86_op_fn x86_op_stale; /* this page was emptied: look up again */
x86_op_fn x86_op_cross; /* an instruction that spans two pages */
x86_op_fn x86_op_link;	/* behind the copy that a split made: go on at i->target */

#endif
