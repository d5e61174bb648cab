/* SPDX-License-Identifier: MIT */
/*
 * Tier 1: translation blocks. The contract between the translator (tb_translate.c, tb_insn*.c: guest instructions to host
 * code, pure) and the runtime (tb_run.c, tb_stub.c, tb_cache.c: entering, leaving, finding, dropping blocks).
 *
 * A block is translated from predecoded instructions of one code page (code_priv.h) for 64-bit code and one TLB set. Like them it holds
 * no virtual address: RIP-relative operands and return addresses are computed from cpu->gpr[X86_GPR_CODEPAGE]. It is entered at
 * its first instruction only and dies with its page (frame_empty), together with all that jumps into it directly: direct
 * jumps never leave the page.
 *
 * Registers while in a block:
 *   host RAX, RCX       scratch (after a check: RCX = offset in page, RAX = host page)
 *   host RSP            the C stack, 16-byte aligned at every `call` of a stub
 *   GS base             the struct x86_cpu (X86_GS)
 *   RDX RBX RBP RSI RDI R8 R12 R13 R14 R15   the guest registers of the same name
 *   R9, R10, R11        guest RAX, RCX, RSP
 *   guest R9, R10, R11  in memory, X86_GS(gpr[X86_R9]) ...
 *   host flags          the guest's arithmetic flags where the translator knows them to be (HOST), else scratch; DF is always 0
 *   SIMD registers, MXCSR, x87   the guest's, once a check of cpu->simd_native in this block has passed
 * The C-visible homes cpu->gpr[] of registers that live in host registers are stale inside a block.
 *
 * Flags at block boundaries, at stubs and at SLOW: in cpu->aflags (SLOT), unless nobody can read them before they are written
 * again (liveness: the translator looks at the target's instructions).
 *
 * Precision: a native instruction that may fault on the host (guest memory, DIV, SSE with unmasked exceptions, misalignment) has an entry in the
 * block's map; at that host address all guest registers must be as before the guest instruction.
 */
#ifndef AV_CPU_X86_TB_H
#define AV_CPU_X86_TB_H

#include "cpu/x86/code_priv.h"
#include "cpu/x86/mmu_priv.h"

/* Displacement from GS of a field of struct x86_cpu. */
#define X86_GS(field) ((s32)offsetof(struct x86_cpu, field))
/*
 * The CPU, its TLB tables and its jump caches are one mapping (tb_cache.c's x86_cpu_alloc), so that all are within a 32-bit displacement.
 * Index of a TLB entry: (la >> 8) & 0xfff0, then TAG and HOST as here.
 */
#define X86_GS_MMU	    ((s32)ALIGN_UP(sizeof(struct x86_cpu), PAGE_SIZE))
#define X86_GS_TAG(set, write)	(X86_GS_MMU + (s32)offsetof(struct x86_mmu, table) + (s32)(((set) * 2 + (write)) * sizeof(struct x86_tlb_entry) * X86_TLB_SIZE))
#define X86_GS_HOST(set, write) (X86_GS_TAG(set, write) + 8)

/*
 * Jump cache, one per TLB set: from a guest RIP to the block there, valid for the current address space. Index: ((rip ^ rip >> 12) & (X86_JC_SIZE - 1)).
 * An entry that does not match leads to the stub MISS. Dropped with the execution translations.
 */
struct x86_jc_entry {
	u64 rip; /* ~0: empty (never canonical) */
	u64 host;
};
#define X86_JC_SIZE 16384u
/* One more than there are sets: an empty one, for when no block may be entered (cpu->jc). */
#define X86_GS_JC(set) (X86_GS_MMU + (s32)ALIGN_UP(sizeof(struct x86_mmu), PAGE_SIZE) + (s32)((set) * sizeof(struct x86_jc_entry) * X86_JC_SIZE))

/*
 * Stubs: routines at fixed places in the code region, reached by rel32 from every block.
 */
enum x86_tb_stub {
	/*
	 * call; EAX = arena index of the struct x86_insn. Executes that instruction in tier 0 with registers written back. Returns behind the call with
	 * registers loaded again if it fell through to i + 1 and cpu->req is 0; else leaves the block. Clobbers RAX, RCX and flags; wants and leaves flags in SLOT.
	 */
	X86_STUB_SLOW,
	/* The same in a block whose SIMD check has passed: the guest's SIMD state is resident again when it returns. */
	X86_STUB_SLOW_SIMD,
	/* jmp; EAX = offset in the page to go on at (0..4095), ECX = offset in the code region of a 5-byte `jmp rel32` that may be patched to go straight
	 * to the block there once there is one (0: none). */
	X86_STUB_PAGE,
	/* jmp; RAX = RIP to go on at (already canonical; checked by the block). The jump cache missed. */
	X86_STUB_MISS,
	/* jmp; EAX = offset in the page to go on at: cpu->req is set. */
	X86_STUB_POLL,
	X86_NR_STUBS,
};

/* cpu->simd_native: which families may be executed in place (enabled by CR0, CR4, XCR0 and resident). Kept by simd.c. */
#define X86_NATIVE_SSE	  BIT(0)
#define X86_NATIVE_AVX	  BIT(1)
#define X86_NATIVE_AVX512 BIT(2)
#define X86_NATIVE_X87	  BIT(3)

/* From host code back to the guest, ordered by host offset. */
struct x86_tb_map {
	u32 host;	 /* offset from the block's start of the host instruction that may fault */
	u32 insn : 31;	 /* arena index of the guest instruction */
	u32 flags_host : 1; /* arithmetic flags are in host flags here, else in SLOT */
};

#define X86_TB_MAX_INSNS 64
#define X86_TB_MAX_CODE	 (16u << 10)
#define X86_TB_MAX_EXITS 32

/* What the translator makes: position-dependent on `at`, the offset in the code region where the block will stand. */
struct x86_tb_out {
	u32 at;			 /* in: offset of code[0] in the region */
	const u32 *stub;	 /* in: offsets of the stubs in the region, by enum x86_tb_stub */
	u8 code[X86_TB_MAX_CODE];
	u32 size;
	struct x86_tb_map map[X86_TB_MAX_INSNS * 4];
	u32 nr_map;
	u32 nr_insns;
};

/*
 * Translates from offset off of the page: follows instructions that tier 0 has decoded (insn slots of the page's lines), bytes from the
 * lines. Pure but for out. Under code->lock. 0; -ENOSPC: nothing worth translating here (stay in tier 0).
 */
int x86_tb_translate(struct x86_code *code, struct x86_code_page *page, u8 set, u32 off, struct x86_tb_out *out);

/* ---- runtime ---- */

struct x86_tb {
	struct x86_code_page *page;
	u32 empties;  /* of the page's frame when it was made: another value now means that this block is dead */
	u32 at, size; /* in the code region; blocks are made in ascending order within a half */
	u16 off;
	u8 set;
	u32 nr_map;
	struct x86_tb_map map[];
};

/*
 * Handlers in predecoded pages: a head, which counts, and one that has blocks (struct x86_insn's head). The instruction itself stands
 * behind its head; a slot of a line names the head.
 */
x86_op_fn x86_op_head, x86_op_block;
#define X86_TB_THRESHOLD 32
#define X86_TB_REFUSED	 0xff

static inline bool x86_is_head(const struct x86_insn *i)
{
	return i->len == 0 && (i->fn == x86_op_head || i->fn == x86_op_block);
}

#endif
