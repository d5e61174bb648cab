/* SPDX-License-Identifier: MIT */
/*
 * What op_sys.c and op_desc.c share: privilege checks and 16-bit operands.
 */
#ifndef AV_CPU_X86_OP_SYS_H
#define AV_CPU_X86_OP_SYS_H

#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

static inline void need_cpl0(struct x86_cpu *c)
{
	X86_RULE(c, c->cpl, X86_GP, 0, "a privileged instruction needs CPL 0");
}

static inline void need_protected(struct x86_cpu *c)
{
	X86_RULE(c, !x86_protected(c), X86_UD, 0, "the instruction is of protected mode only");
}

static inline void need_umip_off(struct x86_cpu *c)
{
	X86_RULE(c, (c->cr4 & X86_CR4_UMIP) && c->cpl, X86_GP, 0,
		 "CR4.UMIP hides system registers from user mode");
}

static inline void set_zf(struct x86_cpu *c, bool zf)
{
	c->aflags = (u16)((c->aflags & ~X86_AF_ZF) | (zf ? X86_AF_ZF : 0));
}

/* A 16-bit operand that is a register (the n-th) or memory. */
static inline u16 load16(struct x86_cpu *c, const struct x86_insn *i, u32 n)
{
	return i->flags & X86_I_MEM ? x86_ld16(c, i->seg, x86_mem(c, i, 2, false))
				    : X86_REG(c, i->reg[n], u16);
}

/* SLDT, STR, SMSW: 16 bits to memory, the operand size to a register. */
static inline const struct x86_insn *store16(struct x86_cpu *c, const struct x86_insn *i, u64 v)
{
	if (i->flags & X86_I_MEM)
		x86_st16(c, i->seg, x86_mem(c, i, 2, true), (u16)v);
	else
		x86_set_reg(c, i->reg[0], i->opsize, v);
	return x86_next(i);
}

/* op_desc.c */
x86_op_fn x86_op_lgdt, x86_op_lidt, x86_op_sgdt, x86_op_sidt, x86_op_lldt, x86_op_ltr, x86_op_sldt,
	x86_op_str, x86_op_lar, x86_op_lsl, x86_op_verr, x86_op_verw, x86_op_arpl;

#endif
