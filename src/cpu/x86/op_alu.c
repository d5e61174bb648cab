// SPDX-License-Identifier: MIT
/*
 * Arithmetic and logic: two-operand, one-operand, XADD, CMPXCHG, multiplication and division.
 *
 * Each handler executes the host's own instruction on the guest's operands (op_int.h). Knows
 * nothing of how operands are encoded: op_int.c's x86_bind_family() chooses the handler.
 *
 * Source: SDM vol. 2, each instruction's "Operation" and "Flags Affected".
 */
#include "cpu/x86/op_int.h"

/* ---- destination op source ---- */

#define ALU_REG(sz, op, fin, form, source, LOAD)                                                   \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = source(sz), d = X86_GET_##sz(c, i->reg[0]), f = X86_FLAGS_##fin(c);        \
		__asm__(X86_FIN_##fin #op #sz " %" X86_N_##sz "[s], %" X86_N_##sz                  \
			"[d]" X86_FLAGS_OUT                                                        \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: [s] "r"(s)                                                               \
			: "cc");                                                                   \
		LOAD(sz, d);                                                                       \
		X86_DONE(c, i, f);                                                                 \
	}
#define SRC_REG(sz)  X86_GET_##sz(c, i->reg[1])
#define SRC_REG0(sz) X86_GET_##sz(c, i->reg[0])
#define SRC_IMM(sz)  i->imm
#define SRC_MEM(sz)  X86_LD_##sz(c, i->seg, x86_int_mem(c, i, X86_BYTES_##sz, false))
#define KEEP(sz, d)  X86_PUT_##sz(c, i->reg[0], d)
#define DROP(sz, d)  (void)(d)

#define ALU_RMW(sz, op, fin, name, lock, locked, source)                                           \
	X86_OP(name##_##sz)                                                                        \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, locked, &w);       \
		u64 s = source(sz), f = X86_FLAGS_##fin(c);                                        \
		__asm__ volatile(X86_FIN_##fin lock #op #sz " %" X86_N_##sz                        \
				 "[s], %[m]" X86_FLAGS_OUT                                         \
				 : [m] "+m"(*p), "+&a"(f)                                          \
				 : [s] "r"(s)                                                      \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_DONE(c, i, f);                                                                 \
	}

/* CMP and TEST with memory first: a load. */
#define ALU_MEM(sz, op, form, source)                                                              \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 d = SRC_MEM(sz), s = source(sz), f = 0;                                        \
		__asm__(#op #sz " %" X86_N_##sz "[s], %" X86_N_##sz "[d]" X86_FLAGS_OUT            \
			: "+&a"(f)                                                                 \
			: [d] "r"(d), [s] "r"(s)                                                   \
			: "cc");                                                                   \
		X86_DONE(c, i, f);                                                                 \
	}

#define ALU_WRITES(op, fin)                                                                        \
	X86_ALL_SIZES(ALU_REG, op, fin, rr, SRC_REG, KEEP)                                         \
	X86_ALL_SIZES(ALU_REG, op, fin, ri, SRC_IMM, KEEP)                                         \
	X86_ALL_SIZES(ALU_REG, op, fin, rm, SRC_MEM, KEEP)                                         \
	X86_ALL_SIZES(ALU_RMW, op, fin, op##_mr, "", false, SRC_REG0)                              \
	X86_ALL_SIZES(ALU_RMW, op, fin, op##_mi, "", false, SRC_IMM)                               \
	X86_ALL_SIZES(ALU_RMW, op, fin, op##_lmr, "lock ", true, SRC_REG0)                         \
	X86_ALL_SIZES(ALU_RMW, op, fin, op##_lmi, "lock ", true, SRC_IMM)                          \
	X86_FAMILY(op, X86_ROW(RR, op##_rr), X86_ROW(RI, op##_ri), X86_ROW(RM, op##_rm),           \
		   X86_ROW(MR, op##_mr), X86_ROW(MI, op##_mi), X86_ROW(LMR, op##_lmr),             \
		   X86_ROW(LMI, op##_lmi))

#define ALU_COMPARES(op)                                                                           \
	X86_ALL_SIZES(ALU_REG, op, N, rr, SRC_REG, DROP)                                           \
	X86_ALL_SIZES(ALU_REG, op, N, ri, SRC_IMM, DROP)                                           \
	X86_ALL_SIZES(ALU_REG, op, N, rm, SRC_MEM, DROP)                                           \
	X86_ALL_SIZES(ALU_MEM, op, mr, SRC_REG0)                                                   \
	X86_ALL_SIZES(ALU_MEM, op, mi, SRC_IMM)                                                    \
	X86_FAMILY(op, X86_ROW(RR, op##_rr), X86_ROW(RI, op##_ri), X86_ROW(RM, op##_rm),           \
		   X86_ROW(MR, op##_mr), X86_ROW(MI, op##_mi))

ALU_WRITES(add, N)
ALU_WRITES(or, N)
ALU_WRITES(adc, Y)
ALU_WRITES(sbb, Y)
ALU_WRITES(and, N)
ALU_WRITES(sub, N)
ALU_WRITES(xor, N)
ALU_COMPARES(cmp)
ALU_COMPARES(test)

/* ---- one operand: INC and DEC leave CF, NOT leaves all flags ---- */

#define UNARY_R(sz, op, fin)                                                                       \
	X86_OP(op##_r_##sz)                                                                        \
	{                                                                                          \
		u64 d = X86_GET_##sz(c, i->reg[0]), f = X86_FLAGS_##fin(c);                        \
		__asm__(X86_FIN_##fin #op #sz " %" X86_N_##sz "[d]" X86_FLAGS_OUT                  \
			: [d] "+r"(d), "+&a"(f)                                                    \
			:                                                                          \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define UNARY_M(sz, op, fin, name, lock, locked)                                                   \
	X86_OP(name##_##sz)                                                                        \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true), f = X86_FLAGS_##fin(c);          \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, locked, &w);       \
		__asm__ volatile(X86_FIN_##fin lock #op #sz " %[m]" X86_FLAGS_OUT                  \
				 : [m] "+m"(*p), "+&a"(f)                                          \
				 :                                                                 \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_DONE(c, i, f);                                                                 \
	}
#define UNARY(op, fin)                                                                             \
	X86_ALL_SIZES(UNARY_R, op, fin)                                                            \
	X86_ALL_SIZES(UNARY_M, op, fin, op##_m, "", false)                                         \
	X86_ALL_SIZES(UNARY_M, op, fin, op##_lm, "lock ", true)                                    \
	X86_FAMILY(op, X86_ROW(R, op##_r), X86_ROW(M, op##_m), X86_ROW(LM, op##_lm))

UNARY(inc, Y)
UNARY(dec, Y)
UNARY(neg, N)
UNARY(not, Y)

/* ---- XADD, CMPXCHG ---- */

#define XADD_RR(sz, ...)                                                                           \
	X86_OP(xadd_rr_##sz)                                                                       \
	{                                                                                          \
		u64 s = X86_GET_##sz(c, i->reg[1]), d = X86_GET_##sz(c, i->reg[0]), f = 0;         \
		__asm__("xadd" #sz " %" X86_N_##sz "[s], %" X86_N_##sz "[d]" X86_FLAGS_OUT         \
			: [d] "+r"(d), [s] "+r"(s), "+&a"(f)                                       \
			:                                                                          \
			: "cc");                                                                   \
		/* the sum wins when both are the same register */                                 \
		X86_PUT_##sz(c, i->reg[1], s);                                                     \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define XADD_M(sz, name, lock, locked)                                                             \
	X86_OP(name##_##sz)                                                                        \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, locked, &w);       \
		u64 s = X86_GET_##sz(c, i->reg[0]), f = 0;                                         \
		__asm__ volatile(lock "xadd" #sz " %" X86_N_##sz "[s], %[m]" X86_FLAGS_OUT         \
				 : [m] "+m"(*p), [s] "+r"(s), "+&a"(f)                             \
				 :                                                                 \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_PUT_##sz(c, i->reg[0], s);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
X86_ALL_SIZES(XADD_RR)
X86_ALL_SIZES(XADD_M, xadd_mr, "", false)
X86_ALL_SIZES(XADD_M, xadd_lmr, "lock ", true)
X86_FAMILY(xadd, X86_ROW(RR, xadd_rr), X86_ROW(MR, xadd_mr), X86_ROW(LMR, xadd_lmr))

/* The accumulator is the guest's whole RAX, so what a 32-bit form does to its upper half is the
 * host's choice. */
#define CMPXCHG_RR(sz, ...)                                                                        \
	X86_OP(cmpxchg_rr_##sz)                                                                    \
	{                                                                                          \
		u64 s = X86_GET_##sz(c, i->reg[1]), d = X86_GET_##sz(c, i->reg[0]), f;             \
		u64 acc = c->gpr[X86_RAX];                                                         \
		__asm__("cmpxchg" #sz " %" X86_N_##sz "[s], %" X86_N_##sz                          \
			"[d]\n\tmovq %%rax, %[acc]" X86_FLAGS_OUT                                  \
			: [d] "+&r"(d), "=&a"(f), [acc] "=&r"(acc)                                 \
			: [s] "r"(s), "1"(acc)                                                     \
			: "cc");                                                                   \
		c->gpr[X86_RAX] = acc;                                                             \
		/* after RAX: with RAX as its destination it stores the source */                  \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define CMPXCHG_M(sz, name, lock, locked)                                                          \
	X86_OP(name##_##sz)                                                                        \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, locked, &w);       \
		u64 s = X86_GET_##sz(c, i->reg[0]), acc = c->gpr[X86_RAX], f;                      \
		__asm__ volatile(lock "cmpxchg" #sz " %" X86_N_##sz                                \
				 "[s], %[m]\n\tmovq %%rax, %[acc]" X86_FLAGS_OUT                   \
				 : [m] "+m"(*p), "=&a"(f), [acc] "=&r"(acc)                        \
				 : [s] "r"(s), "1"(acc)                                            \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		c->gpr[X86_RAX] = acc;                                                             \
		X86_DONE(c, i, f);                                                                 \
	}

X86_ALL_SIZES(CMPXCHG_RR)
X86_ALL_SIZES(CMPXCHG_M, cmpxchg_mr, "", false)
X86_ALL_SIZES(CMPXCHG_M, cmpxchg_lmr, "lock ", true)
X86_FAMILY(cmpxchg, X86_ROW(RR, cmpxchg_rr), X86_ROW(MR, cmpxchg_mr), X86_ROW(LMR, cmpxchg_lmr))

/* CMPXCHG8B and CMPXCHG16B change ZF alone. */
#define CMPXCHG_PAIR(name, lock, insn, size, type, locked)                                         \
	X86_OP(name)                                                                               \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, size, true);                                            \
		type *p;                                                                           \
		u64 acc = c->gpr[X86_RAX], hi = c->gpr[X86_RDX], f = c->aflags;                    \
                                                                                                   \
		X86_RULE(c, (size) == 16 && (la & 15), X86_GP, 0,                                  \
			 "CMPXCHG16B's operand must be aligned");                                  \
		p = x86_rmw_begin(c, i->seg, la, size, locked, &w);                                \
		__asm__ volatile(X86_FLAGS_IN "movq %[acc], %%rax\n\t" lock insn                   \
					      " %[m]\n\tmovq %%rax, %[acc]" X86_FLAGS_OUT          \
				 : [m] "+m"(*p), "+&a"(f), [acc] "+&r"(acc), "+&d"(hi)             \
				 : "b"(c->gpr[X86_RBX]), "c"(c->gpr[X86_RCX])                      \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		c->gpr[X86_RAX] = acc;                                                             \
		c->gpr[X86_RDX] = hi;                                                              \
		X86_DONE(c, i, f);                                                                 \
	}
CMPXCHG_PAIR(cmpxchg8b, "", "cmpxchg8b", 8, u64, false)
CMPXCHG_PAIR(cmpxchg8b_lock, "lock ", "cmpxchg8b", 8, u64, true)
CMPXCHG_PAIR(cmpxchg16b, "", "cmpxchg16b", 16, unsigned __int128, false)
CMPXCHG_PAIR(cmpxchg16b_lock, "lock ", "cmpxchg16b", 16, unsigned __int128, true)

const struct x86_insn *x86_op_cmpxchg8b(struct x86_cpu *c, const struct x86_insn *i)
{
	return i->flags & X86_I_LOCK ? cmpxchg8b_lock(c, i) : cmpxchg8b(c, i);
}

const struct x86_insn *x86_op_cmpxchg16b(struct x86_cpu *c, const struct x86_insn *i)
{
	return i->flags & X86_I_LOCK ? cmpxchg16b_lock(c, i) : cmpxchg16b(c, i);
}

/* ---- multiplication: flags but CF and OF are undefined, so they start as the guest's ---- */

/* RDX:RAX op= source, on the whole registers. */
#define WIDE_OP(op, sz, s, f, acc, hi)                                                             \
	__asm__(X86_FLAGS_IN "movq %[acc], %%rax\n\t" #op #sz " %" X86_N_##sz                      \
		"[s]\n\tmovq %%rax, %[acc]" X86_FLAGS_OUT                                          \
		: "+&a"(f), [acc] "+&r"(acc), "+&d"(hi)                                            \
		: [s] "r"(s)                                                                       \
		: "cc")

#define MUL_1(sz, op, form, source)                                                                \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = source(sz), f = c->aflags, acc = c->gpr[X86_RAX], hi = c->gpr[X86_RDX];    \
		WIDE_OP(op, sz, s, f, acc, hi);                                                    \
		c->gpr[X86_RAX] = acc;                                                             \
		c->gpr[X86_RDX] = hi;                                                              \
		X86_DONE(c, i, f);                                                                 \
	}
X86_ALL_SIZES(MUL_1, mul, r, SRC_REG0)
X86_ALL_SIZES(MUL_1, mul, m, SRC_MEM)
X86_ALL_SIZES(MUL_1, imul, r, SRC_REG0)
X86_ALL_SIZES(MUL_1, imul, m, SRC_MEM)
X86_FAMILY(mul, X86_ROW(R, mul_r), X86_ROW(M, mul_m))

#define IMUL_N(sz, form, first, second)                                                            \
	X86_OP(imul_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = second(sz), d = first(sz), f = c->aflags;                                  \
		__asm__(X86_FLAGS_IN "imul" #sz " %" X86_N_##sz "[s], %" X86_N_##sz                \
			"[d]" X86_FLAGS_OUT                                                        \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: [s] "r"(s)                                                               \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
X86_WIDE_SIZES(IMUL_N, rr, SRC_REG0, SRC_REG)
X86_WIDE_SIZES(IMUL_N, rm, SRC_REG0, SRC_MEM)
X86_WIDE_SIZES(IMUL_N, rri, SRC_IMM, SRC_REG)
X86_WIDE_SIZES(IMUL_N, rmi, SRC_IMM, SRC_MEM)
X86_FAMILY(imul, X86_ROW(R, imul_r), X86_ROW(M, imul_m), X86_WIDE_ROW(RR, imul_rr),
	   X86_WIDE_ROW(RM, imul_rm), X86_WIDE_ROW(RRI, imul_rri), X86_WIDE_ROW(RMI, imul_rmi))

/* ---- division: what would fault on the host raises #DE first ---- */

/* Does the quotient of the unsigned hi:lo by d need more bits than d has? Also for d == 0. */
static inline bool udiv_overflows(u64 hi, u64 lo, u64 d, u32 bits)
{
	return hi >= d;
}

/* The signed form: |hi:lo| / |d| must be below 2^(bits-1), or not above it when the result is
 * negative. */
static inline bool sdiv_overflows(u64 hi, u64 lo, u64 d, u32 bits)
{
	u64 sign = 1ull << (bits - 1), low_mask = sign | (sign - 1);
	unsigned __int128 n = (unsigned __int128)hi << bits | lo, bound;
	bool n_neg = hi & sign, d_neg = d & sign;

	if (n_neg) {
		n = -n;
		if (bits < 64)
			n &= ((unsigned __int128)1 << (2 * bits)) - 1;
	}
	if (d_neg)
		d = -d & low_mask;
	bound = (unsigned __int128)d << (bits - 1);
	if (n_neg != d_neg)
		bound += d;
	return !d || n >= bound;
}

#define DIV_HI_b(c) ((u64)X86_REG(c, 1, u8))
#define DIV_HI_w(c) ((u64)(u16)(c)->gpr[X86_RDX])
#define DIV_HI_l(c) ((u64)(u32)(c)->gpr[X86_RDX])
#define DIV_HI_q(c) ((c)->gpr[X86_RDX])

#define DIV_1(sz, op, form, source, overflows)                                                     \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = source(sz), f = c->aflags, acc = c->gpr[X86_RAX], hi = c->gpr[X86_RDX];    \
		if (unlikely(overflows(DIV_HI_##sz(c), (X86_TYPE_##sz)acc, (X86_TYPE_##sz)s,       \
				       X86_BYTES_##sz * 8)))                                       \
			x86_raise(c, X86_DE);                                                      \
		WIDE_OP(op, sz, s, f, acc, hi);                                                    \
		c->gpr[X86_RAX] = acc;                                                             \
		c->gpr[X86_RDX] = hi;                                                              \
		X86_DONE(c, i, f);                                                                 \
	}
X86_ALL_SIZES(DIV_1, div, r, SRC_REG0, udiv_overflows)
X86_ALL_SIZES(DIV_1, div, m, SRC_MEM, udiv_overflows)
X86_ALL_SIZES(DIV_1, idiv, r, SRC_REG0, sdiv_overflows)
X86_ALL_SIZES(DIV_1, idiv, m, SRC_MEM, sdiv_overflows)
X86_FAMILY(div, X86_ROW(R, div_r), X86_ROW(M, div_m))
X86_FAMILY(idiv, X86_ROW(R, idiv_r), X86_ROW(M, idiv_m))
