// SPDX-License-Identifier: MIT
/*
 * PUSH, POP, PUSHA, POPA, ENTER, LEAVE of general registers, immediates and memory. Segment
 * registers and flags are other files'.
 *
 * Every access is checked before the first is made, so that a fault in the middle leaves memory and
 * registers alone.
 *
 * Source: SDM vol. 2, each instruction's "Operation".
 */
#include "cpu/x86/op_int.h"

/* The operand size is in i->opsize: Zydis' operand width has the 64-bit default and the prefixes
 * worked in. */
static bool set_opsize(const struct x86_decoded *d, struct x86_insn *i)
{
	i->opsize = d->z.operand_width / 8;
	return i->opsize == 2 || i->opsize == 4 || i->opsize == 8;
}

static u64 load_mem(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = x86_int_mem(c, i, i->opsize, false);

	switch (i->opsize) {
	case 2:
		return x86_ld16(c, i->seg, la);
	case 4:
		return x86_ld32(c, i->seg, la);
	default:
		return x86_ld64(c, i->seg, la);
	}
}

static void store(struct x86_cpu *c, u8 seg, u64 la, u64 v, u8 size)
{
	switch (size) {
	case 2:
		x86_st16(c, seg, la, (u16)v);
		break;
	case 4:
		x86_st32(c, seg, la, (u32)v);
		break;
	default:
		x86_st64(c, seg, la, v);
		break;
	}
}

/* ---- PUSH ---- */

/* 64-bit mode, 8 bytes: what nearly all code is. */
static inline const struct x86_insn *push_64(struct x86_cpu *c, const struct x86_insn *i, u64 v)
{
	u64 sp = c->gpr[X86_RSP] - 8;

	x86_st64(c, X86_SS, sp, v);
	c->gpr[X86_RSP] = sp;
	return x86_next(i);
}

X86_OP(push_r_64)
{
	return push_64(c, i, X86_REG(c, i->reg[0], u64));
}

X86_OP(push_i_64)
{
	return push_64(c, i, i->imm);
}

X86_OP(push_m_64)
{
	return push_64(c, i, x86_ld64(c, i->seg, x86_int_mem(c, i, 8, false)));
}

X86_OP(push_r)
{
	x86_push(c, X86_REG(c, i->reg[0], u64), i->opsize);
	return x86_next(i);
}

X86_OP(push_i)
{
	x86_push(c, i->imm, i->opsize);
	return x86_next(i);
}

X86_OP(push_m)
{
	x86_push(c, load_mem(c, i), i->opsize);
	return x86_next(i);
}

bool x86_bind_push(const struct x86_decoded *d, struct x86_insn *i)
{
	bool fast;

	if (d->z.operand_count_visible != 1 || !set_opsize(d, i))
		return false;
	fast = d->bits == 8 && i->opsize == 8;
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		/* any width is sign-extended to the operand size */
		i->imm = d->op[0].imm.is_signed ? (u64)d->op[0].imm.value.s : d->op[0].imm.value.u;
		i->fn = fast ? push_i_64 : push_i;
		return true;
	}
	switch (x86_int_operands(d, i)) {
	case X86_F_R:
		i->fn = fast ? push_r_64 : push_r;
		return true;
	case X86_F_M:
		i->fn = fast ? push_m_64 : push_m;
		return true;
	default:
		return false;
	}
}

/* ---- POP ---- */

X86_OP(pop_r_64)
{
	u64 sp = c->gpr[X86_RSP], v = x86_ld64(c, X86_SS, sp);

	c->gpr[X86_RSP] = sp + 8;
	X86_REG(c, i->reg[0], u64) = v; /* last: POP RSP keeps what it popped */
	return x86_next(i);
}

X86_OP(pop_r)
{
	u64 v = x86_pop(c, i->opsize);

	x86_set_reg(c, i->reg[0], i->opsize, v);
	return x86_next(i);
}

/* SP as x86_set_sp() would leave it */
static u64 sp_after(const struct x86_cpu *c, u64 sp)
{
	u64 mask = x86_sp_mask(c);

	return mask == 0xffff ? (c->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
}

/* The address is computed with SP already moved, but SP moves only after the store. */
X86_OP(pop_m)
{
	u64 v = x86_peek(c, 0, i->opsize), sp = c->gpr[X86_RSP] + i->opsize, ea;

	ea = x86_ea(c, i);
	if (i->base == X86_RSP)
		ea = (ea - c->gpr[X86_RSP] + sp_after(c, sp)) & x86_asize_mask(i->asize);
	store(c, i->seg, x86_linear(c, i->seg, ea, i->opsize, true), v, i->opsize);
	x86_set_sp(c, sp);
	return x86_next(i);
}

bool x86_bind_pop(const struct x86_decoded *d, struct x86_insn *i)
{
	if (d->z.operand_count_visible != 1 || !set_opsize(d, i))
		return false;
	switch (x86_int_operands(d, i)) {
	case X86_F_R:
		i->fn = d->bits == 8 && i->opsize == 8 ? pop_r_64 : pop_r;
		return true;
	case X86_F_M:
		i->fn = pop_m;
		return true;
	default:
		return false;
	}
}

/* ---- PUSHA, POPA: 16 and 32 bits ---- */

/* Linear address of the stack slot of size bytes at sp (any bits above the stack's width are
 * ignored). */
static u64 slot(struct x86_cpu *c, u64 sp, u8 size, bool write)
{
	u64 la = x86_linear(c, X86_SS, sp & x86_sp_mask(c), size, write);

	x86_probe(c, X86_SS, la, size, write);
	return la;
}

X86_OP(pusha)
{
	u64 sp = c->gpr[X86_RSP], la[8];
	int k;

	for (k = 0; k < 8; k++)
		la[k] = slot(c, sp - (k + 1) * i->opsize, i->opsize, true);
	for (k = 0; k < 8; k++)
		store(c, X86_SS, la[k], c->gpr[X86_RAX + k], i->opsize);
	x86_set_sp(c, sp - 8 * i->opsize);
	return x86_next(i);
}

X86_OP(popa)
{
	u64 v[8];
	int k;

	for (k = 8; k-- > 0;)
		v[k] = x86_peek(c, (7 - k) * i->opsize, i->opsize);
	x86_set_sp(c, c->gpr[X86_RSP] + 8 * i->opsize);
	for (k = 0; k < 8; k++)
		if (k != X86_RSP)
			x86_set_reg(c, k * 8, i->opsize, v[k]);
	return x86_next(i);
}

bool x86_bind_pusha(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = pusha;
	return set_opsize(d, i);
}

bool x86_bind_popa(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = popa;
	return set_opsize(d, i);
}

/* ---- ENTER, LEAVE ---- */

/*
 * imm: bytes of locals, spare: nesting level. The pointers of outer frames may be overlaid by the
 * frame being built, so they are read and written one after the other, as hardware does, once all
 * slots are known to be accessible.
 */
X86_OP(enter)
{
	u64 sp = c->gpr[X86_RSP], bp = c->gpr[X86_RBP], frame = sp - i->opsize;
	u64 to[32], from[32];
	u8 size = i->opsize;
	int k, pushes = 1 + i->spare;

	for (k = 0; k < pushes; k++) {
		to[k] = slot(c, sp - (u64)(k + 1) * size, size, true);
		if (k > 0 && k < i->spare)
			from[k] = slot(c, bp - (u64)k * size, size, false);
	}
	sp -= (u64)pushes * size + i->imm;
	/* the first push to the new frame must be possible */
	slot(c, sp, size, true);

	store(c, X86_SS, to[0], bp, size);
	for (k = 1; k < i->spare; k++) {
		u64 v = 0;

		switch (size) {
		case 2:
			v = x86_ld16(c, X86_SS, from[k]);
			break;
		case 4:
			v = x86_ld32(c, X86_SS, from[k]);
			break;
		default:
			v = x86_ld64(c, X86_SS, from[k]);
			break;
		}
		store(c, X86_SS, to[k], v, size);
	}
	if (i->spare)
		store(c, X86_SS, to[i->spare], frame, size);
	x86_set_reg(c, X86_RBP * 8, size, frame);
	x86_set_sp(c, sp);
	return x86_next(i);
}

bool x86_bind_enter(const struct x86_decoded *d, struct x86_insn *i)
{
	i->imm = d->op[0].imm.value.u & 0xffff;
	i->spare = d->op[1].imm.value.u & 31;
	i->fn = enter;
	return set_opsize(d, i);
}

X86_OP(leave_64)
{
	u64 bp = c->gpr[X86_RBP], v = x86_ld64(c, X86_SS, bp);

	c->gpr[X86_RSP] = bp + 8;
	c->gpr[X86_RBP] = v;
	return x86_next(i);
}

X86_OP(leave)
{
	u64 bp = c->gpr[X86_RBP];
	u64 v = x86_peek(c, (s32)(bp - c->gpr[X86_RSP]), i->opsize);

	x86_set_sp(c, bp + i->opsize);
	x86_set_reg(c, X86_RBP * 8, i->opsize, v);
	return x86_next(i);
}

bool x86_bind_leave(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = d->bits == 8 && d->z.operand_width == 64 ? leave_64 : leave;
	return set_opsize(d, i);
}
