// SPDX-License-Identifier: MIT
/*
 * Gathers and scatters (AVX2 and AVX-512), one element after the other on the spilled image
 * cpu->xsave.
 *
 * Engine file. Source: SDM vol. 2, "VPGATHERDD" and its kin: elements are done from the lowest up,
 * each clears its mask bit, so that after a fault the instruction goes on where it stopped. The
 * work done before a fault stays.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

/* Where bytes at..at+7 of a vector register stand in the image; at is a multiple of 4 and nothing
 * straddles 16. */
static u8 *vector(u8 *x, u32 reg, u32 at)
{
	const struct x86_xlayout *l = x86_xlayout();

	if (reg >= 16)
		return x + l->off[7] + 64 * (reg - 16) + at;
	if (at < 16)
		return x + X86_XS_XMM + 16 * reg + at;
	if (at < 32)
		return x + l->off[2] + 16 * reg + at - 16;
	return x + l->off[6] + 32 * reg + at - 32;
}

static u32 vector_bytes(void)
{
	return x86_host_xcr0() & X86_XCOMP_AVX512 ? 64 : 32;
}

/* Zeroes a register from byte at upwards. */
static void clear_from(u8 *x, u32 reg, u32 at)
{
	for (u32 end = vector_bytes(); at < end; at += 4)
		X86_FIELD(vector(x, reg, at), 0, u32) = 0;
}

static bool enabled(u8 *x, const struct x86_vsib *v, u32 n)
{
	if (v->evex)
		return X86_FIELD(x, x86_xlayout()->off[5] + 8 * v->mask, u64) >> n & 1;
	return *(vector(x, v->mask, n * v->elem) + v->elem - 1) & 0x80;
}

/* AVX2: the mask register becomes all ones or zeros in each element, and zero above them. */
static void normalise_mask(u8 *x, const struct x86_vsib *v)
{
	for (u32 n = 0; n < v->count; n++)
		x86_fill(vector(x, v->mask, n * v->elem), enabled(x, v, n) ? 0xff : 0, v->elem);
	clear_from(x, v->mask, (u32)v->count * v->elem);
}

static void disable(u8 *x, const struct x86_vsib *v, u32 n)
{
	if (v->evex)
		X86_FIELD(x, x86_xlayout()->off[5] + 8 * v->mask, u64) &= ~BIT64(n);
	else
		x86_fill(vector(x, v->mask, n * v->elem), 0, v->elem);
}

static u64 element_address(struct x86_cpu *c, const struct x86_insn *i, const struct x86_vsib *v,
			   u8 *x, u32 n)
{
	u8 *p = vector(x, v->index, n * v->idx);
	s64 index = v->idx == 4 ? X86_FIELD(p, 0, s32) : X86_FIELD(p, 0, s64);
	u64 ea = c->gpr[i->base] + ((u64)index << i->scale) + (u64)i->disp;

	return x86_linear(c, i->seg, ea & x86_asize_mask(i->asize), v->elem, v->scatter);
}

static void move_element(struct x86_cpu *c, const struct x86_insn *i, const struct x86_vsib *v,
			 u8 *x, u32 n)
{
	u64 la = element_address(c, i, v, x, n);
	u8 *p = vector(x, v->data, n * v->elem);

	if (v->scatter && v->elem == 4)
		x86_st32(c, i->seg, la, X86_FIELD(p, 0, u32));
	else if (v->scatter)
		x86_st64(c, i->seg, la, X86_FIELD(p, 0, u64));
	else if (v->elem == 4)
		X86_FIELD(p, 0, u32) = x86_ld32(c, i->seg, la);
	else
		X86_FIELD(p, 0, u64) = x86_ld64(c, i->seg, la);
}

const struct x86_insn *x86_op_gather(struct x86_cpu *c, const struct x86_insn *i)
{
	struct x86_vsib v;
	u8 *x;

	x86_copy(&v, &i->imm, sizeof(v));
	x86_simd_check(c, v.evex ? X86_KIND_AVX512 : X86_KIND_AVX);
	x = x86_simd_image(c, X86_XCOMP_SSE | X86_XCOMP_AVX | X86_XCOMP_AVX512);
	for (u32 n = 0; n < v.count; n++) {
		if (!enabled(x, &v, n))
			continue;
		move_element(c, i, &v, x, n);
		/* With the first element the rest of the registers changes; before it a fault
		 * leaves everything as it was. */
		if (!v.evex)
			normalise_mask(x, &v);
		if (!v.scatter)
			clear_from(x, v.data, (u32)v.count * v.elem);
		disable(x, &v, n);
		/* The element is done for good: a device read that answered it will not be asked
		 * for again. */
		x86_io_done(c);
	}
	if (v.evex)
		X86_FIELD(x, x86_xlayout()->off[5] + 8 * v.mask, u64) = 0;
	else
		clear_from(x, v.mask, 0);
	if (!v.scatter)
		clear_from(x, v.data, (u32)v.count * v.elem);
	return x86_next(i);
}
