// SPDX-License-Identifier: MIT
/*
 * x87 and SIMD instructions that need more than the host's execution of them: the table, MXCSR, and
 * block moves.
 *
 * Engine file. Saved states are in op_xsave.c and op_x87env.c, gathers in op_gather.c; all else of
 * these families runs in native stubs.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

/* ---- blocks of guest memory ---- */

/* Where accesses are checked for alignment, pieces are of a byte, which has none. */
static u32 piece(const struct x86_cpu *c, u64 la, u32 n, u32 max)
{
	u32 in_page = (u32)(PAGE_SIZE - (la & (PAGE_SIZE - 1)));

	return x86_aligned(c) ? 1 : MIN(MIN(n, in_page), max);
}

void x86_block_align(struct x86_cpu *c, u64 la, u32 align)
{
	if (x86_aligned(c) && (la & (align - 1)) && (!(c->efer & X86_EFER_LMA) || x86_canonical(c, la)))
		x86_raise_err(c, X86_AC, 0);
}

void x86_block_probe(struct x86_cpu *c, u8 seg, u64 la, u32 n, bool write)
{
	for (u32 k; n; la += k, n -= k) {
		k = piece(c, la, n, 64);
		if (!x86_tlb_hit(write ? c->wtlb : c->rtlb, la, k))
			x86_probe(c, seg, la, k, write);
	}
}

void x86_block_read(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 n)
{
	u8 *b = buf;

	for (u32 k; n; la += k, b += k, n -= k) {
		const void *p;

		k = piece(c, la, n, PAGE_SIZE);
		p = x86_tlb_hit(c->rtlb, la, k);
		if (!p)
			x86_read_slow(c, seg, la, b, k = MIN(k, 64u));
		else
			x86_copy(b, p, k);
	}
}

void x86_block_write(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 n)
{
	const u8 *b = buf;

	for (u32 k; n; la += k, b += k, n -= k) {
		void *p;

		k = piece(c, la, n, PAGE_SIZE);
		p = x86_tlb_hit(c->wtlb, la, k);
		if (!p)
			x86_write_slow(c, seg, la, b, k = MIN(k, 64u));
		else
			x86_copy(p, b, k);
	}
}

/* ---- MXCSR ---- */

static void ldmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	u32 v = x86_ld32(c, i->seg, x86_mem(c, i, 4, false));

	X86_RULE(c, v & ~x86_xlayout()->mxcsr_mask, X86_GP, 0, "reserved MXCSR bits are 0");
	if (c->simd_live)
		__asm__ volatile("ldmxcsr %0" : : "m"(v));
	else
		x86_simd_set_mxcsr(c, v);
}

static void stmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = x86_mem(c, i, 4, true);
	u32 v;

	if (c->simd_live)
		__asm__ volatile("stmxcsr %0" : "=m"(v));
	else
		v = X86_FIELD(c->xsave, X86_XS_MXCSR, u32);
	x86_st32(c, i->seg, la, v);
}

static const struct x86_insn *op_ldmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_simd_check(c, X86_KIND_SSE);
	ldmxcsr(c, i);
	return x86_next(i);
}

static const struct x86_insn *op_stmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_simd_check(c, X86_KIND_SSE);
	stmxcsr(c, i);
	return x86_next(i);
}

static const struct x86_insn *op_vldmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_simd_check(c, X86_KIND_AVX);
	ldmxcsr(c, i);
	return x86_next(i);
}

static const struct x86_insn *op_vstmxcsr(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_simd_check(c, X86_KIND_AVX);
	stmxcsr(c, i);
	return x86_next(i);
}

/* ---- cache lines ---- */

/* Caches are not modelled, but the address must be readable. */
static const struct x86_insn *op_clflush(struct x86_cpu *c, const struct x86_insn *i)
{
	x86_probe(c, i->seg, x86_mem(c, i, 1, false), 1, false);
	return x86_next(i);
}

/* ---- outside 64-bit mode they reach eight registers, so that the host's own would do too much
 * ---- */

static const struct x86_insn *zero_vectors(struct x86_cpu *c, const struct x86_insn *i, bool all)
{
	const struct x86_xlayout *l = x86_xlayout();
	u8 *x;

	x86_simd_check(c, X86_KIND_AVX);
	x = x86_simd_image(c, X86_XCOMP_SSE | X86_XCOMP_AVX | X86_XCOMP_AVX512);
	if (all)
		x86_fill(x + X86_XS_XMM, 0, 8 * 16);
	x86_fill(x + l->off[2], 0, 8 * 16);
	if (l->len[6])
		x86_fill(x + l->off[6], 0, 8 * 32);
	return x86_next(i);
}

static const struct x86_insn *op_vzeroall(struct x86_cpu *c, const struct x86_insn *i)
{
	return zero_vectors(c, i, true);
}

static const struct x86_insn *op_vzeroupper(struct x86_cpu *c, const struct x86_insn *i)
{
	return zero_vectors(c, i, false);
}

static bool bind_vzero(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = d->z.mnemonic == ZYDIS_MNEMONIC_VZEROALL ? op_vzeroall : op_vzeroupper;
	return d->bits != 8;
}

const struct x86_op_row x86_ops_simd[] = {
	{ZYDIS_MNEMONIC_VZEROALL, NULL, bind_vzero},
	{ZYDIS_MNEMONIC_VZEROUPPER, NULL, bind_vzero},
	{ZYDIS_MNEMONIC_LDMXCSR, op_ldmxcsr},
	{ZYDIS_MNEMONIC_STMXCSR, op_stmxcsr},
	{ZYDIS_MNEMONIC_VLDMXCSR, op_vldmxcsr},
	{ZYDIS_MNEMONIC_VSTMXCSR, op_vstmxcsr},
	{ZYDIS_MNEMONIC_CLFLUSH, op_clflush},
	{ZYDIS_MNEMONIC_CLFLUSHOPT, op_clflush},
	{ZYDIS_MNEMONIC_CLWB, op_clflush},

	{ZYDIS_MNEMONIC_FXSAVE, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_FXSAVE64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_FXRSTOR, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_FXRSTOR64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVE, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVE64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVEOPT, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVEOPT64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVEC, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVEC64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVES, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XSAVES64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XRSTOR, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XRSTOR64, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XRSTORS, NULL, x86_bind_xsave},
	{ZYDIS_MNEMONIC_XRSTORS64, NULL, x86_bind_xsave},

	{ZYDIS_MNEMONIC_FNSTENV, x86_op_fnstenv},
	{ZYDIS_MNEMONIC_FNSAVE, x86_op_fnsave},
	{ZYDIS_MNEMONIC_FLDENV, x86_op_fldenv},
	{ZYDIS_MNEMONIC_FRSTOR, x86_op_frstor},

	{ZYDIS_MNEMONIC_VGATHERDPS, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VGATHERDPD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VGATHERQPS, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VGATHERQPD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPGATHERDD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPGATHERDQ, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPGATHERQD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPGATHERQQ, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VSCATTERDPS, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VSCATTERDPD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VSCATTERQPS, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VSCATTERQPD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPSCATTERDD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPSCATTERDQ, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPSCATTERQD, NULL, x86_bind_gather},
	{ZYDIS_MNEMONIC_VPSCATTERQQ, NULL, x86_bind_gather},
	{0},
};
