/* SPDX-License-Identifier: MIT */
/*
 * What the integer handler files (op_int.c, op_alu.c, op_shift.c, op_bcd.c) share: families of
 * handlers indexed by operand form and size, and the pieces of inline assembly that carry guest
 * flags through a host instruction.
 *
 * A handler works on full 64-bit copies of the registers and lets the host instruction decide what
 * happens to their upper halves; so 32-bit zero extension, conditional writes and undefined results
 * are the host's by construction.
 */
#ifndef AV_CPU_X86_OP_INT_H
#define AV_CPU_X86_OP_INT_H

#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

/* Explicit operands in Intel order: register, memory, immediate. The LOCKed ones have memory first.
 */
enum x86_form {
	X86_F_R,
	X86_F_M,
	X86_F_RR,
	X86_F_RM,
	X86_F_RI,
	X86_F_MR,
	X86_F_MI,
	X86_F_RRR,
	X86_F_RRI,
	X86_F_RMI,
	X86_F_MRR,
	X86_F_MRI,
	X86_F_LM,
	X86_F_LMR,
	X86_F_LMI,
	X86_NR_FORMS,
};

/* The handlers of a mnemonic; the second index is log2 of the first operand's size in bytes. */
struct x86_family {
	x86_op_fn *fn[X86_NR_FORMS][4];
};

/* Fills reg[] and imm from the visible operands and returns the form, or -1 when an operand is
 * neither of the three kinds. */
int x86_int_operands(const struct x86_decoded *d, struct x86_insn *i);
/* Chooses the handler; false when the family has none for these operands. */
bool x86_bind_family(const struct x86_decoded *d, struct x86_insn *i, const struct x86_family *f);

#define X86_FAMILY(name, ...)                                                                      \
	static const struct x86_family name##_family = {.fn = {__VA_ARGS__}};                      \
	bool x86_bind_##name(const struct x86_decoded *d, struct x86_insn *i)                      \
	{                                                                                          \
		return x86_bind_family(d, i, &name##_family);                                      \
	}

/* Mnemonics bound by a family, with the C name of each. */
#define X86_ALU_FAMILIES(X)                                                                        \
	X(ADD, add)                                                                                \
	X(OR, or) X(ADC, adc) X(SBB, sbb) X(AND, and) X(SUB, sub) X(XOR, xor) X(CMP, cmp)          \
		X(TEST, test) X(INC, inc) X(DEC, dec) X(NEG, neg) X(NOT, not ) X(XADD, xadd)       \
			X(CMPXCHG, cmpxchg) X(MUL, mul) X(DIV, div) X(IDIV, idiv) X(IMUL, imul)
#define X86_SHIFT_FAMILIES(X)                                                                      \
	X(SHL, shl)                                                                                \
	X(SHR, shr) X(SAR, sar) X(ROL, rol) X(ROR, ror) X(RCL, rcl) X(RCR, rcr) X(SHLD, shld)      \
		X(SHRD, shrd) X(BT, bt) X(BTS, bts) X(BTR, btr) X(BTC, btc) X(BSF, bsf)            \
			X(BSR, bsr) X(POPCNT, popcnt) X(LZCNT, lzcnt) X(TZCNT, tzcnt)              \
				X(BSWAP, bswap)

#define X86_DECLARE_BIND(m, name)                                                                  \
	bool x86_bind_##name(const struct x86_decoded *d, struct x86_insn *i);
X86_ALU_FAMILIES(X86_DECLARE_BIND)
X86_SHIFT_FAMILIES(X86_DECLARE_BIND)

x86_op_fn x86_op_cmpxchg8b, x86_op_cmpxchg16b;

/* op_bcd.c */
x86_op_fn x86_op_aaa, x86_op_aas, x86_op_aam, x86_op_aad, x86_op_daa, x86_op_das, x86_op_salc;
x86_op_fn x86_op_lahf, x86_op_sahf, x86_op_clc, x86_op_stc, x86_op_cmc, x86_op_cld, x86_op_std;
bool x86_bind_bound(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_xlat(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_aam_aad(const struct x86_decoded *d, struct x86_insn *i);

/* op_stack.c */
bool x86_bind_push(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_pop(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_pusha(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_popa(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_enter(const struct x86_decoded *d, struct x86_insn *i);
bool x86_bind_leave(const struct x86_decoded *d, struct x86_insn *i);

/* ---- per size: instruction suffix b, w, l, q ---- */
#define X86_BYTES_b 1
#define X86_BYTES_w 2
#define X86_BYTES_l 4
#define X86_BYTES_q 8
#define X86_TYPE_b  u8
#define X86_TYPE_w  u16
#define X86_TYPE_l  u32
#define X86_TYPE_q  u64
/* operand modifiers of inline assembly: the register's name at that width */
#define X86_N_b	 "b"
#define X86_N_w	 "w"
#define X86_N_l	 "k"
#define X86_N_q	 "q"
#define X86_LD_b x86_ld8
#define X86_LD_w x86_ld16
#define X86_LD_l x86_ld32
#define X86_LD_q x86_ld64
#define X86_ST_b x86_st8
#define X86_ST_w x86_st16
#define X86_ST_l x86_st32
#define X86_ST_q x86_st64

/* A register operand as a 64-bit value and back. 32-bit ones travel whole: the host instruction
 * extends them. */
#define X86_GET_b(c, o)	   ((u64)X86_REG(c, o, u8))
#define X86_GET_w(c, o)	   ((u64)X86_REG(c, o, u16))
#define X86_GET_l(c, o)	   X86_REG(c, o, u64)
#define X86_GET_q(c, o)	   X86_REG(c, o, u64)
#define X86_PUT_b(c, o, v) (X86_REG(c, o, u8) = (u8)(v))
#define X86_PUT_w(c, o, v) (X86_REG(c, o, u16) = (u16)(v))
#define X86_PUT_l(c, o, v) (X86_REG(c, o, u64) = (v))
#define X86_PUT_q(c, o, v) (X86_REG(c, o, u64) = (v))

/* x86_mem() with its common case in line in every handler. */
static inline __attribute__((always_inline)) u64
x86_int_mem(struct x86_cpu *c, const struct x86_insn *i, u32 size, bool write)
{
	u64 ea = x86_ea(c, i);

	return likely(i->flags & X86_I_FLAT) ? ea : x86_linear(c, i->seg, ea, size, write);
}

/* ---- flags through a host instruction: AX holds the LAHF/SETO form ---- */
#define X86_FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"
#define X86_FLAGS_OUT "\n\tlahf\n\tseto %%al"
/* Does the instruction depend on flags, or leave some of them alone or undefined? Y: restore them
 * first. */
#define X86_FIN_Y      X86_FLAGS_IN
#define X86_FIN_N      ""
#define X86_FLAGS_Y(c) ((c)->aflags)
#define X86_FLAGS_N(c) 0

#define X86_OP(name) static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)
#define X86_DONE(c, i, f)                                                                          \
	do {                                                                                       \
		(c)->aflags = (u16)(f);                                                            \
		return x86_next(i);                                                                \
	} while (0)

#define X86_ALL_SIZES(X, ...)                                                                      \
	X(b, __VA_ARGS__) X(w, __VA_ARGS__) X(l, __VA_ARGS__) X(q, __VA_ARGS__)
#define X86_WIDE_SIZES(X, ...) X(w, __VA_ARGS__) X(l, __VA_ARGS__) X(q, __VA_ARGS__)
/* Rows of a family. */
#define X86_ROW(form, name)	 [X86_F_##form] = {name##_b, name##_w, name##_l, name##_q}
#define X86_WIDE_ROW(form, name) [X86_F_##form] = {NULL, name##_w, name##_l, name##_q}

#endif
