// SPDX-License-Identifier: MIT
/*
 * Near control flow: jumps, calls, returns, loops, and the instructions that ask a condition (SETcc, CMOVcc).
 *
 * Engine file. Far transfers are op_far.c's. Source: SDM vol. 2, the instructions' own pages.
 */
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

#define OP(name) static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)

/* ---- conditions ---- */

/* One handler per condition: the condition is a constant in each, so that it compiles to a test and a branch. */
#define PER_CONDITION(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

#define JCC(cc)                                                                                    \
	OP(op_jcc_##cc)                                                                            \
	{                                                                                          \
		return x86_cond(c, cc) ? x86_branch_rel(c, i) : x86_next(i);                       \
	}
PER_CONDITION(JCC)

#define SETCC_R(cc)                                                                                \
	OP(op_setcc_r_##cc)                                                                        \
	{                                                                                          \
		X86_REG(c, i->reg[0], u8) = x86_cond(c, cc);                                       \
		return x86_next(i);                                                                \
	}
PER_CONDITION(SETCC_R)

#define NAME_JCC(cc)	 op_jcc_##cc,
#define NAME_SETCC_R(cc) op_setcc_r_##cc,
static x86_op_fn *const jcc[16] = { PER_CONDITION(NAME_JCC) };
static x86_op_fn *const setcc_r[16] = { PER_CONDITION(NAME_SETCC_R) };

OP(op_setcc_m)
{
	x86_st8(c, i->seg, x86_mem(c, i, 1, true), x86_cond(c, i->cond));
	return x86_next(i);
}

/* A 32-bit CMOV clears the upper half even when it does not move. */
OP(op_cmov_r)
{
	u64 v = x86_get_reg(c, i->reg[x86_cond(c, i->cond)], i->opsize);

	x86_set_reg(c, i->reg[0], i->opsize, v);
	return x86_next(i);
}

/* The source is read, and may fault, whatever the condition. */
OP(op_cmov_m)
{
	u64 la = x86_mem(c, i, i->opsize, false), v;

	v = i->opsize == 8 ? x86_ld64(c, i->seg, la) :
	    i->opsize == 4 ? x86_ld32(c, i->seg, la) :
			     x86_ld16(c, i->seg, la);
	if (!x86_cond(c, i->cond))
		v = x86_get_reg(c, i->reg[0], i->opsize);
	x86_set_reg(c, i->reg[0], i->opsize, v);
	return x86_next(i);
}

static bool is_memory(const struct x86_insn *i)
{
	return i->flags & X86_I_MEM;
}

/* In 64-bit mode near branches have 64-bit operands whatever the prefixes say (SDM; AMD would honour 66). */
static void near_size(const struct x86_decoded *d, struct x86_insn *i)
{
	if (d->bits == 8)
		i->opsize = 8;
}

/* Condition codes are the low opcode nibble in every encoding. */
static bool bind_jcc(const struct x86_decoded *d, struct x86_insn *i)
{
	near_size(d, i);
	i->cond = d->z.opcode & 15;
	i->fn = jcc[i->cond];
	return true;
}

static bool bind_setcc(const struct x86_decoded *d, struct x86_insn *i)
{
	i->cond = d->z.opcode & 15;
	i->fn = is_memory(i) ? op_setcc_m : setcc_r[i->cond];
	return true;
}

static bool bind_cmov(const struct x86_decoded *d, struct x86_insn *i)
{
	i->cond = d->z.opcode & 15;
	i->fn = is_memory(i) ? op_cmov_m : op_cmov_r;
	return true;
}

/* ---- jumps ---- */

static u64 load_target(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la;

	if (!is_memory(i))
		return x86_get_reg(c, i->reg[0], i->opsize);
	la = x86_mem(c, i, i->opsize, false);
	return i->opsize == 8 ? x86_ld64(c, i->seg, la) :
	       i->opsize == 4 ? x86_ld32(c, i->seg, la) :
				x86_ld16(c, i->seg, la);
}

OP(op_jmp_rel)
{
	return x86_branch_rel(c, i);
}

OP(op_jmp_ind)
{
	u64 rip = load_target(c, i);

	x86_check_rip(c, rip);
	return x86_goto(c, rip);
}

/* ---- calls and returns ---- */

/*
 * The target is checked before the push, so that a bad one leaves RSP alone; but a stack that cannot be written is found
 * first.
 */
static void check_call(struct x86_cpu *c, const struct x86_insn *i, u64 rip)
{
	u64 sp = (c->gpr[X86_RSP] - i->opsize) & x86_sp_mask(c);

	if (unlikely(x86_long_mode(c) ? !x86_canonical(c, rip) : rip > c->seg[X86_CS].limit))
		x86_probe(c, X86_SS, x86_linear(c, X86_SS, sp, i->opsize, true), i->opsize, true);
	x86_check_rip(c, rip);
}

OP(op_call_rel)
{
	u64 next = x86_next_rip(c, i), rip = (next + i->imm) & x86_asize_mask(i->opsize);

	check_call(c, i, rip);
	x86_push(c, next, i->opsize);
	return x86_branch_rel(c, i);
}

OP(op_call_rel64)
{
	u64 next = c->code_la + i->off + i->len, sp = c->gpr[X86_RSP] - 8;

	check_call(c, i, next + i->imm);
	x86_st64(c, X86_SS, sp, next);
	c->gpr[X86_RSP] = sp;
	return x86_branch_rel(c, i);
}

OP(op_call_ind)
{
	u64 rip = load_target(c, i);

	check_call(c, i, rip);
	x86_push(c, x86_next_rip(c, i), i->opsize);
	return x86_goto(c, rip);
}

OP(op_ret64)
{
	u64 sp = c->gpr[X86_RSP], rip = x86_ld64(c, X86_SS, sp);

	x86_check_rip(c, rip);
	c->gpr[X86_RSP] = sp + 8 + (u16)i->imm;
	return x86_goto(c, rip);
}

OP(op_ret)
{
	u64 rip = x86_peek(c, 0, i->opsize);

	x86_check_rip(c, rip);
	x86_set_sp(c, c->gpr[X86_RSP] + i->opsize + (u16)i->imm);
	return x86_goto(c, rip);
}

static bool is_far(const struct x86_decoded *d)
{
	return d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

static bool bind_jmp(const struct x86_decoded *d, struct x86_insn *i)
{
	if (is_far(d))
		return false;
	near_size(d, i);
	i->fn = d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? op_jmp_rel : op_jmp_ind;
	return true;
}

static bool bind_call(const struct x86_decoded *d, struct x86_insn *i)
{
	if (is_far(d))
		return false;
	near_size(d, i);
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		i->fn = d->bits == 8 ? op_call_rel64 : op_call_rel;
	else
		i->fn = op_call_ind;
	return true;
}

static bool bind_ret(const struct x86_decoded *d, struct x86_insn *i)
{
	if (is_far(d))
		return false;
	near_size(d, i);
	i->fn = d->bits == 8 ? op_ret64 : op_ret;
	return true;
}

/* ---- loops: the counter is CX, ECX or RCX by address size ---- */

static const struct x86_insn *loop(struct x86_cpu *c, const struct x86_insn *i, bool also)
{
	u64 n = (x86_get_reg(c, X86_RCX * 8, i->asize) - 1) & x86_asize_mask(i->asize);

	if (n && also)
		x86_check_rip(c, (x86_next_rip(c, i) + i->imm) & x86_asize_mask(i->opsize));
	x86_set_reg(c, X86_RCX * 8, i->asize, n);
	return n && also ? x86_branch_rel(c, i) : x86_next(i);
}

OP(op_loop)
{
	return loop(c, i, true);
}

OP(op_loope)
{
	return loop(c, i, c->aflags & X86_AF_ZF);
}

OP(op_loopne)
{
	return loop(c, i, !(c->aflags & X86_AF_ZF));
}

OP(op_jcxz)
{
	return x86_get_reg(c, X86_RCX * 8, i->asize) ? x86_next(i) : x86_branch_rel(c, i);
}

#define BIND_LOOP(name)                                                                            \
	static bool bind_##name(const struct x86_decoded *d, struct x86_insn *i)                   \
	{                                                                                          \
		near_size(d, i);                                                                   \
		i->fn = op_##name;                                                                 \
		return true;                                                                       \
	}
BIND_LOOP(loop)
BIND_LOOP(loope)
BIND_LOOP(loopne)

/* JCXZ, JECXZ and JRCXZ are one encoding; Zydis names them by address size. */
static bool bind_jcxz(const struct x86_decoded *d, struct x86_insn *i)
{
	near_size(d, i);
	i->asize = d->z.mnemonic == ZYDIS_MNEMONIC_JCXZ ? 2 : d->z.mnemonic == ZYDIS_MNEMONIC_JECXZ ? 4 : 8;
	i->fn = op_jcxz;
	return true;
}

#define ROW(m, b) { .mnemonic = ZYDIS_MNEMONIC_##m, .bind = (b) }

const struct x86_op_row x86_ops_flow[] = {
	/* Jcc: 70-7f, 0f 80-8f */
	ROW(JO, bind_jcc), ROW(JNO, bind_jcc), ROW(JB, bind_jcc), ROW(JNB, bind_jcc), ROW(JZ, bind_jcc), ROW(JNZ, bind_jcc),
	ROW(JBE, bind_jcc), ROW(JNBE, bind_jcc), ROW(JS, bind_jcc), ROW(JNS, bind_jcc), ROW(JP, bind_jcc), ROW(JNP, bind_jcc),
	ROW(JL, bind_jcc), ROW(JNL, bind_jcc), ROW(JLE, bind_jcc), ROW(JNLE, bind_jcc),
	/* SETcc: 0f 90-9f */
	ROW(SETO, bind_setcc), ROW(SETNO, bind_setcc), ROW(SETB, bind_setcc), ROW(SETNB, bind_setcc), ROW(SETZ, bind_setcc),
	ROW(SETNZ, bind_setcc), ROW(SETBE, bind_setcc), ROW(SETNBE, bind_setcc), ROW(SETS, bind_setcc), ROW(SETNS, bind_setcc),
	ROW(SETP, bind_setcc), ROW(SETNP, bind_setcc), ROW(SETL, bind_setcc), ROW(SETNL, bind_setcc), ROW(SETLE, bind_setcc),
	ROW(SETNLE, bind_setcc),
	/* CMOVcc: 0f 40-4f */
	ROW(CMOVO, bind_cmov), ROW(CMOVNO, bind_cmov), ROW(CMOVB, bind_cmov), ROW(CMOVNB, bind_cmov), ROW(CMOVZ, bind_cmov),
	ROW(CMOVNZ, bind_cmov), ROW(CMOVBE, bind_cmov), ROW(CMOVNBE, bind_cmov), ROW(CMOVS, bind_cmov), ROW(CMOVNS, bind_cmov),
	ROW(CMOVP, bind_cmov), ROW(CMOVNP, bind_cmov), ROW(CMOVL, bind_cmov), ROW(CMOVNL, bind_cmov), ROW(CMOVLE, bind_cmov),
	ROW(CMOVNLE, bind_cmov),
	ROW(JMP, bind_jmp),	/* e9 eb ff/4 */
	ROW(CALL, bind_call),	/* e8 ff/2 */
	ROW(RET, bind_ret),	/* c2 c3 */
	ROW(LOOP, bind_loop),	/* e2 */
	ROW(LOOPE, bind_loope), /* e1 */
	ROW(LOOPNE, bind_loopne), /* e0 */
	ROW(JCXZ, bind_jcxz), ROW(JECXZ, bind_jcxz), ROW(JRCXZ, bind_jcxz), /* e3 */
	{ 0 },
};
