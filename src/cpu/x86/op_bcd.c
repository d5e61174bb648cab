// SPDX-License-Identifier: MIT
/*
 * Decimal adjustment, flag bits, and the small legacy instructions (XLAT, SALC, BOUND).
 *
 * 64-bit mode has no decimal instructions, so these alone are computed in C rather than executed;
 * flags that the SDM leaves undefined come out as AMD's processors leave them
 * (tests/unit/test_int.c compares in a 32-bit segment).
 *
 * Source: SDM vol. 2, each instruction's "Operation" and "Flags Affected".
 */
#include "cpu/x86/op_int.h"

#define AL(c) X86_REG(c, 0, u8)
#define AH(c) X86_REG(c, 1, u8)
#define AX(c) X86_REG(c, 0, u16)

#define F_RESULT (X86_AF_SF | X86_AF_ZF | X86_AF_PF)

/* dst op= src on a local variable; returns the flags. */
#define HOST_OP(op, mod, dst, src)                                                                 \
	({                                                                                         \
		u64 f_ = 0, d_ = (dst), s_ = (src);                                                \
		__asm__(op " %" mod "[s], %" mod "[d]" X86_FLAGS_OUT                               \
			: [d] "+r"(d_), "+&a"(f_)                                                  \
			: [s] "r"(s_)                                                              \
			: "cc");                                                                   \
		(dst) = d_;                                                                        \
		(u16) f_;                                                                          \
	})

static inline u16 set_if(u16 f, u16 bits, bool on)
{
	return on ? f | bits : f & (u16)~bits;
}

/* ---- AAA, AAS, DAA, DAS: an addition or subtraction of the correction, with CF and AF by the
 * rules ---- */

static inline bool low_digit_wrong(const struct x86_cpu *c)
{
	return (X86_REG(c, 0, const u8) & 15) > 9 || c->aflags & X86_AF_AF;
}

const struct x86_insn *x86_op_aaa(struct x86_cpu *c, const struct x86_insn *i)
{
	bool fix = low_digit_wrong(c);
	u16 f = HOST_OP("addw", "w", AX(c), fix ? 0x106 : 0);

	AL(c) &= 15;
	X86_DONE(c, i, set_if(f, X86_AF_AF | X86_AF_CF, fix));
}

const struct x86_insn *x86_op_aas(struct x86_cpu *c, const struct x86_insn *i)
{
	bool fix = low_digit_wrong(c);
	u16 f = HOST_OP("subw", "w", AX(c), fix ? 0x106 : 0);

	AL(c) &= 15;
	X86_DONE(c, i, set_if(f, X86_AF_AF | X86_AF_CF, fix));
}

const struct x86_insn *x86_op_daa(struct x86_cpu *c, const struct x86_insn *i)
{
	bool low = low_digit_wrong(c), high = AL(c) > 0x99 || c->aflags & X86_AF_CF;
	u16 f = HOST_OP("addb", "b", AL(c), (low ? 6 : 0) + (high ? 0x60 : 0));

	X86_DONE(c, i, set_if(set_if(f, X86_AF_AF, low), X86_AF_CF, high));
}

const struct x86_insn *x86_op_das(struct x86_cpu *c, const struct x86_insn *i)
{
	bool low = low_digit_wrong(c), high = AL(c) > 0x99 || c->aflags & X86_AF_CF;
	bool borrow = low && AL(c) < 6;
	u16 f = HOST_OP("subb", "b", AL(c), (low ? 6 : 0) + (high ? 0x60 : 0));

	X86_DONE(c, i, set_if(set_if(f, X86_AF_AF, low), X86_AF_CF, high || borrow));
}

/* ---- AAM, AAD ---- */

const struct x86_insn *x86_op_aam(struct x86_cpu *c, const struct x86_insn *i)
{
	u8 base = (u8)i->imm, al = AL(c);

	if (!base)
		x86_raise(c, X86_DE);
	AH(c) = al / base;
	AL(c) = al % base;
	X86_DONE(c, i, HOST_OP("orb", "b", AL(c), 0));
}

const struct x86_insn *x86_op_aad(struct x86_cpu *c, const struct x86_insn *i)
{
	u16 f = HOST_OP("addb", "b", AL(c), AH(c) * (u8)i->imm);

	AH(c) = 0;
	X86_DONE(c, i, f);
}

bool x86_bind_aam_aad(const struct x86_decoded *d, struct x86_insn *i)
{
	i->imm = d->op[0].imm.value.u;
	i->fn = d->z.mnemonic == ZYDIS_MNEMONIC_AAM ? x86_op_aam : x86_op_aad;
	return true;
}

/* ---- flags ---- */

#define F_LAHF (F_RESULT | X86_AF_AF | X86_AF_CF)

const struct x86_insn *x86_op_lahf(struct x86_cpu *c, const struct x86_insn *i)
{
	AH(c) = (u8)((c->aflags & F_LAHF) >> 8) | 2;
	return x86_next(i);
}

const struct x86_insn *x86_op_sahf(struct x86_cpu *c, const struct x86_insn *i)
{
	c->aflags = (c->aflags & X86_AF_OF) | ((AH(c) << 8) & F_LAHF);
	return x86_next(i);
}

const struct x86_insn *x86_op_clc(struct x86_cpu *c, const struct x86_insn *i)
{
	c->aflags &= (u16)~X86_AF_CF;
	return x86_next(i);
}

const struct x86_insn *x86_op_stc(struct x86_cpu *c, const struct x86_insn *i)
{
	c->aflags |= X86_AF_CF;
	return x86_next(i);
}

const struct x86_insn *x86_op_cmc(struct x86_cpu *c, const struct x86_insn *i)
{
	c->aflags ^= X86_AF_CF;
	return x86_next(i);
}

const struct x86_insn *x86_op_cld(struct x86_cpu *c, const struct x86_insn *i)
{
	c->rflags &= ~X86_FLAG_DF;
	return x86_next(i);
}

const struct x86_insn *x86_op_std(struct x86_cpu *c, const struct x86_insn *i)
{
	c->rflags |= X86_FLAG_DF;
	return x86_next(i);
}

/* ---- XLAT, SALC, BOUND ---- */

X86_OP(xlat)
{
	u64 ea = (c->gpr[X86_RBX] + AL(c)) & x86_asize_mask(i->asize);

	AL(c) = x86_ld8(c, i->seg, x86_linear(c, i->seg, ea, 1, false));
	return x86_next(i);
}

/* Its memory operand is hidden: the segment is all that matters. */
bool x86_bind_xlat(const struct x86_decoded *d, struct x86_insn *i)
{
	i->seg = d->op[0].mem.segment - ZYDIS_REGISTER_ES;
	i->asize = d->z.address_width / 8;
	i->fn = xlat;
	return d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
}

const struct x86_insn *x86_op_salc(struct x86_cpu *c, const struct x86_insn *i)
{
	AL(c) = c->aflags & X86_AF_CF ? 0xff : 0;
	return x86_next(i);
}

X86_OP(bound_w)
{
	u64 la = x86_int_mem(c, i, 4, false);
	s16 low = (s16)x86_ld16(c, i->seg, la), high = (s16)x86_ld16(c, i->seg, (u32)(la + 2));
	s16 x = X86_REG(c, i->reg[0], s16);

	if (x < low || x > high)
		x86_raise(c, X86_BR);
	return x86_next(i);
}

X86_OP(bound_l)
{
	u64 la = x86_int_mem(c, i, 8, false);
	s32 low = (s32)x86_ld32(c, i->seg, la), high = (s32)x86_ld32(c, i->seg, (u32)(la + 4));
	s32 x = X86_REG(c, i->reg[0], s32);

	if (x < low || x > high)
		x86_raise(c, X86_BR);
	return x86_next(i);
}

bool x86_bind_bound(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = d->op[0].size == 16 ? bound_w : bound_l;
	return x86_int_operands(d, i) == X86_F_RM;
}
