/* SPDX-License-Identifier: MIT */
/*
 * Shared by mmu.c (tables, accessors) and walk.c (page tables) only.
 */
#ifndef AV_CPU_X86_MMU_PRIV_H
#define AV_CPU_X86_MMU_PRIV_H

#include "cpu/x86/mmu.h"

/* Table numbers: set * 2 + (write ? 1 : 0). */
enum x86_tlb_set { X86_SET_USER, X86_SET_KERNEL, X86_SET_ACCESS, X86_NR_SETS };
#define X86_NR_TABLES (X86_NR_SETS * 2)

/* What was filled into one table since it was last flushed. More than fits: count is X86_LOG_SIZE
 * + 1. */
#define X86_LOG_SIZE 1024
struct x86_fill_log {
	u32 count;
	u16 index[X86_LOG_SIZE];
};

/* Which regions of the linear address space had an entry made from a large page, by hash: may say
 * yes too often, never no. */
struct x86_large_log {
	u64 small[16]; /* 2 MiB and 4 MiB pages, by 4 MiB region */
	u64 huge[4];   /* 1 GiB pages */
};

/*
 * Guest-physical pages resolved before, so that walks and most fills need not call the machine
 * (which costs a spill of the guest's SIMD state). Dropped with everything else by
 * x86_tlb_flush_all(); what was marked dirty counts as such until x86_tlb_purge_writes(), as for an
 * entry of a write table.
 */
#define X86_PHYS_SIZE 1024
struct x86_phys_page {
	u64 key; /* guest-physical page | generation << 1 | smm; 0: empty */
	u8 *host;
	u8 *attr;
	u32 dirtied; /* value of mmu->purges + 1 when it was marked dirty */
	bool writable;
};
#define X86_PHYS_GEN_MAX 2047u

/*
 * A short cut of translated code (tb_mem.c) for the stack: a page in a set's write table, and host minus guest address in it.
 * Emptied with anything of that table.
 */
struct x86_window {
	u64 tag; /* linear page address; X86_WINDOW_EMPTY: none */
	u64 diff;
};
#define X86_WINDOW_EMPTY BIT64(63)

struct x86_mmu {
	struct x86_tlb_entry table[X86_NR_TABLES][X86_TLB_SIZE];
	/* Never filled: current while every access has to be looked at. */
	struct x86_tlb_entry none[X86_TLB_SIZE];
	struct x86_window window[X86_NR_SETS];
	struct x86_fill_log log[2][X86_NR_TABLES]; /* [global] */
	struct x86_large_log large[2];		   /* [global] */
	struct x86_phys_page phys[X86_PHYS_SIZE];
	u32 phys_gen; /* 1 to X86_PHYS_GEN_MAX */
	u32 purges;
	u8 set;
	bool aligned; /* unaligned accesses raise #AC */
	bool watched; /* breakpoints on data or ports are armed */
	bool looked_at; /* either: every access takes the slow path */
	bool fetch_global; /* the page that x86_fetch_page() found last was global */
};

/*
 * The host page behind a guest-physical one, marked dirty if write and it is writable; NULL: no RAM. Good
 * until the next call.
 */
const struct x86_phys_page *x86_phys_page(struct x86_cpu *c, u64 gpa, bool write);

static inline bool x86_la_canonical(const struct x86_cpu *c, u64 la)
{
	u32 unused = c->cr4 & X86_CR4_LA57 ? 7 : 16;

	return !(c->efer & X86_EFER_LMA) || (u64)((s64)(la << unused) >> unused) == la;
}

/* A store went to a page with predecoded code. */
void x86_mmu_code_written(struct x86_cpu *c, u8 *host, u32 len);

#endif
