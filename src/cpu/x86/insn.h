/* SPDX-License-Identifier: MIT */
/*
 * A predecoded instruction, and the tables that bind mnemonics to handlers.
 *
 * Predecoded instructions never carry a virtual address: a page of them is shared by all address spaces and CPUs. They are
 * immutable once published, except `target`, a cache.
 *
 * The contract of a handler (x86_op_fn):
 *  - it may fault at any point through x86_raise*() (a long jump); until then nothing the guest can see may have changed, so: all
 *    checks and loads first, registers, flags and the last store at the end;
 *  - it returns the next instruction: `i + 1` for fall-through (x86_next), x86_branch*() for jumps, or NULL after setting
 *    cpu->rip itself ("look it up");
 *  - handlers run with the guest's SIMD state possibly live in the host's registers: these files are built with
 *    -mgeneral-regs-only and call nothing outside cpu/x86 except through x86_door() (simd.h). No libc: memcpy and
 *    memset of variable size are x86_copy()/x86_fill().
 */
#ifndef AV_CPU_X86_INSN_H
#define AV_CPU_X86_INSN_H

#include "cpu/x86/x86.h"

#include <Zydis/Zydis.h>

typedef const struct x86_insn *x86_op_fn(struct x86_cpu *c, const struct x86_insn *i);

enum x86_insn_flags {
	X86_I_MEM = BIT(0),    /* has an explicit memory operand */
	X86_I_FLAT = BIT(1),   /* 64-bit mode and no FS/GS: linear address == effective address */
	X86_I_LOCK = BIT(2),
	X86_I_REP = BIT(3),    /* F3 */
	X86_I_REPNE = BIT(4),  /* F2 */
	X86_I_LONG = BIT(5),   /* decoded in 64-bit mode */
	X86_I_O16 = BIT(6),    /* operand size prefix present */
	X86_I_CONT = BIT(7),   /* page-crossing scratch instruction (code.c) */
};

struct x86_insn {
	x86_op_fn *fn;
	u16 off;	/* offset of the first byte in its page */
	u8 len;		/* bytes; 0 for the engine's own end-of-run markers */
	u8 flags;	/* enum x86_insn_flags */
	u8 opsize;	/* effective operand size in bytes: 1, 2, 4, 8 (of the destination; memory access size where it differs is the handler's business) */
	u8 asize;	/* address size in bytes: 2, 4, 8 */
	u8 seg;		/* enum x86_sreg of the memory operand (for string instructions: of the source) */
	u8 base, index; /* enum x86_gpr slots */
	u8 scale;	/* shift count 0-3 */
	/*
	 * Byte offsets from cpu->gpr of the explicit (then hidden, for one-operand forms decoded so by Zydis) general-register operands in operand order; AH is 1.
	 */
	u8 reg[3];
	u8 cond;	/* condition code 0-15 for jcc, setcc, cmovcc; else free for the handler's bind function */
	u8 bits;	/* code size it was decoded for: 2, 4, 8 */
	u8 spare;
	union {
		struct {
			s64 disp;	/* displacement; for RIP-relative operands with offset and length folded in (base is X86_GPR_CODEPAGE) */
			u64 imm;	/* first immediate, sign-extended to 64 bits; relative branches: the displacement; far pointers: the offset */
			union {
				const struct x86_insn *target; /* in-page branch target, filled at first use (atomic) */
				u64 imm2;  /* second immediate, or selector of a far pointer */
				void *stub; /* native stub (simd.h) */
			};
		};
		/* Of a head (x86_op_head, x86_op_block; len is 0): not an instruction but what stands before one where tier 1 may take over. Atomic. */
		struct {
			u32 block[3];	/* by TLB set: the block's offset in the code region, 0: none */
			u8 count[3];	/* by TLB set: visits, X86_TB_REFUSED: do not ask again */
			struct x86_code_page *page;
		} head;
	};
};
_Static_assert(sizeof(struct x86_insn) <= 48, "a predecoded instruction fits 48 bytes");

/* What a bind function sees. Lives only during decoding. */
struct x86_decoded {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	const u8 *bytes; /* z.length bytes */
	u8 bits;	 /* 2, 4, 8 */
	struct x86_code *code;
};

/*
 * A row of an opcode table: either fn directly, or bind() which chooses fn by operands (and may use cond, spare, imm2).
 * bind returns false to pass the instruction on (to the native stubs, then to #UD).
 */
struct x86_op_row {
	u16 mnemonic; /* ZydisMnemonic */
	x86_op_fn *fn;
	bool (*bind)(const struct x86_decoded *d, struct x86_insn *i);
};

/* The tables, one per op_*.c file, ended by mnemonic 0. First match wins in this order. */
extern const struct x86_op_row x86_ops_int[];	 /* op_int.c: data movement, arithmetic, logic, shifts, bits */
extern const struct x86_op_row x86_ops_flow[];	 /* op_flow.c: jumps, calls, returns, loops, set/cmov */
extern const struct x86_op_row x86_ops_string[]; /* op_string.c: movs, stos, lods, cmps, scas, ins, outs */
extern const struct x86_op_row x86_ops_sys[];	 /* op_sys.c: privileged and system instructions */
extern const struct x86_op_row x86_ops_far[];	 /* op_far.c: segment loads, far transfers, interrupts, IRET, SYSCALL family */
extern const struct x86_op_row x86_ops_simd[];	 /* op_simd.c: XSAVE family, FXSAVE, MXCSR, x87 environment, MASKMOV, gathers */

/*
 * Decodes one instruction at bytes (avail of them, up to 15) for page offset off into *i, which is zeroed. Returns its length; 0:
 * not an instruction (fn is set to the #UD handler); -1: more bytes are needed. *ends says that control never falls
 * through, so decoding further is a gamble. Outer (decode.c), under the code cache's lock.
 */
int x86_decode(struct x86_code *code, u8 bits, const u8 *bytes, u32 avail, u16 off, struct x86_insn *i, bool *ends);

/* Handlers that raise #UD; raise #GP(0) (more than 15 bytes); leave with X86_EXIT_INTERNAL_ERROR. */
const struct x86_insn *x86_op_ud(struct x86_cpu *c, const struct x86_insn *i);
const struct x86_insn *x86_op_too_long(struct x86_cpu *c, const struct x86_insn *i);
const struct x86_insn *x86_op_unsupported(struct x86_cpu *c, const struct x86_insn *i);

static inline const struct x86_insn *x86_next(const struct x86_insn *i)
{
	return i + 1;
}

/* ---- operands ---- */

#define X86_REG(c, o, type) (*(type *)((u8 *)(c)->gpr + (o)))

static inline u64 x86_asize_mask(u8 asize)
{
	return asize == 8 ? ~0ull : asize == 4 ? 0xffffffffull : 0xffffull;
}

/* Effective address (offset in the segment). */
static inline u64 x86_ea(const struct x86_cpu *c, const struct x86_insn *i)
{
	u64 ea = c->gpr[i->base] + (c->gpr[i->index] << i->scale) + (u64)i->disp;

	return likely(i->asize == 8) ? ea : ea & x86_asize_mask(i->asize);
}

/* Writes a general register by byte offset with the merging rules: 32-bit writes zero-extend. */
static inline void x86_set_reg(struct x86_cpu *c, u8 o, u8 size, u64 v)
{
	switch (size) {
	case 1: X86_REG(c, o, u8) = (u8)v; break;
	case 2: X86_REG(c, o, u16) = (u16)v; break;
	case 4: X86_REG(c, o, u64) = (u32)v; break;
	default: X86_REG(c, o, u64) = v; break;
	}
}

static inline u64 x86_get_reg(const struct x86_cpu *c, u8 o, u8 size)
{
	switch (size) {
	case 1: return X86_REG(c, o, const u8);
	case 2: return X86_REG(c, o, const u16);
	case 4: return X86_REG(c, o, const u32);
	default: return X86_REG(c, o, const u64);
	}
}

/* RIP of the instruction after i. Only for the instruction being executed. */
u64 x86_next_rip(const struct x86_cpu *c, const struct x86_insn *i);

/* ---- flags ---- */

/* The LAHF/SETO form: bits of cpu->aflags. */
#define X86_AF_OF BIT(0)
#define X86_AF_CF BIT(8)
#define X86_AF_PF BIT(10)
#define X86_AF_AF BIT(12)
#define X86_AF_ZF BIT(14)
#define X86_AF_SF BIT(15)

static inline bool x86_cond(const struct x86_cpu *c, u8 cc)
{
	u32 f = c->aflags;
	bool r;

	switch (cc >> 1) {
	case 0: r = f & X86_AF_OF; break;
	case 1: r = f & X86_AF_CF; break;
	case 2: r = f & X86_AF_ZF; break;
	case 3: r = f & (X86_AF_CF | X86_AF_ZF); break;
	case 4: r = f & X86_AF_SF; break;
	case 5: r = f & X86_AF_PF; break;
	case 6: r = ((f >> 15) ^ f) & 1; break;
	default: r = (((f >> 15) ^ f) & 1) || (f & X86_AF_ZF); break;
	}
	return r ^ (cc & 1);
}

/* ---- branches (run.c) ---- */

/* Near branch to a new RIP (already masked to operand size): checks the CS limit or canonicality (#GP before anything changes: call it before committing RSP). */
void x86_check_rip(struct x86_cpu *c, u64 rip);
/* Continue at rip: looks the target up, or returns NULL with cpu->rip set. No checks. */
const struct x86_insn *x86_goto(struct x86_cpu *c, u64 rip);
/* Relative branch by i->imm from the end of i, masked to i->opsize, checked, with the in-page target cache. */
const struct x86_insn *x86_branch_rel(struct x86_cpu *c, const struct x86_insn *i);

/* Asks the run loop to come back before the next instruction (device write queued, event window opened, ...). */
static inline void x86_break(struct x86_cpu *c)
{
	x86_request(c, X86_REQ_LOCAL);
}

/* memcpy and memset without SIMD. */
static inline void x86_copy(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
static inline void x86_fill(void *dst, u8 v, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(v) : "memory");
}

#endif
