// SPDX-License-Identifier: MIT
/*
 * FXSAVE, FXRSTOR and the XSAVE family, on the spilled image cpu->xsave.
 *
 * Engine file. Source: SDM vol. 1 "Managing State Using the XSAVE Feature Set" and vol. 2's pages
 * of the instructions. A restore reads and checks all before it changes anything; a save probes all
 * before it writes anything.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/seg.h"

#define FXSAVE_SIZE	512
#define XCOMP_COMPACTED BIT64(63)
#define XSAVE_ALIGN	63

/* i->cond of these handlers. */
enum { REX_W = BIT(0) };

static bool rexw(const struct x86_insn *i)
{
	return i->cond & REX_W;
}

static u8 *scratch(struct x86_cpu *c)
{
	return c->host_xsave + X86_SCRATCH;
}

/* XMM, YMM and ZMM registers above 7 exist in 64-bit mode only, and saves and restores elsewhere
 * leave them alone. */
static u32 component_bytes(const struct x86_cpu *c, u32 n)
{
	const struct x86_xlayout *l = x86_xlayout();

	if (x86_long_mode(c))
		return l->len[n];
	switch (n) {
	case 1:
	case 2:
	case 6:
		return l->len[n] / 2;
	case 7:
		return 0;
	default:
		return l->len[n];
	}
}

/* ---- the legacy area's x87 part: bytes 0-23 and 32-159 ---- */

/* Without REX.W the pointers are 32 bits and a selector. */
static void x87_to_guest(const struct x86_cpu *c, const struct x86_insn *i, u8 *to)
{
	const u8 *x = c->xsave;

	x86_copy(to, x, X86_XS_MXCSR);
	to[5] = 0;
	if (!rexw(i)) {
		X86_FIELD(to, X86_XS_FIP, u32) = (u32)c->x87.ip;
		X86_FIELD(to, X86_XS_FIP + 4, u32) = c->x87.cs;
		X86_FIELD(to, X86_XS_FDP, u32) = (u32)c->x87.dp;
		X86_FIELD(to, X86_XS_FDP + 4, u32) = c->x87.ds;
	}
	x86_copy(to + X86_XS_ST, x + X86_XS_ST, X86_XS_XMM - X86_XS_ST);
}

static void x87_from_guest(struct x86_cpu *c, const struct x86_insn *i, const u8 *from)
{
	u8 *x = c->xsave;

	x86_copy(x, from, X86_XS_MXCSR);
	x86_copy(x + X86_XS_ST, from + X86_XS_ST, X86_XS_XMM - X86_XS_ST);
	X86_FIELD(x, X86_XS_FCW, u16) = X86_FCW_VALID(X86_FIELD(from, X86_XS_FCW, u16));
	X86_FIELD(x, X86_XS_FSW, u16) =
		x86_fsw_valid(X86_FIELD(x, X86_XS_FSW, u16), X86_FIELD(x, X86_XS_FCW, u16));
	c->x87.op = X86_FIELD(from, X86_XS_FOP, u16) & 0x7ff;
	if (rexw(i)) {
		c->x87.ip = X86_FIELD(from, X86_XS_FIP, u64);
		c->x87.dp = X86_FIELD(from, X86_XS_FDP, u64);
		c->x87.cs = c->x87.ds = 0;
	} else {
		c->x87.ip = X86_FIELD(from, X86_XS_FIP, u32);
		c->x87.cs = X86_FIELD(from, X86_XS_FIP + 4, u16);
		c->x87.dp = X86_FIELD(from, X86_XS_FDP, u32);
		c->x87.ds = X86_FIELD(from, X86_XS_FDP + 4, u16);
	}
	x86_simd_put_pointers(c);
}

static void check_mxcsr(struct x86_cpu *c, const u8 *area)
{
	X86_RULE(c, X86_FIELD(area, X86_XS_MXCSR, u32) & ~x86_xlayout()->mxcsr_mask, X86_GP, 0,
		 "reserved MXCSR bits are 0");
}

/* ---- FXSAVE, FXRSTOR ---- */

static u64 fx_address(struct x86_cpu *c, const struct x86_insn *i, bool write)
{
	u64 la;

	x86_simd_check(c, X86_KIND_X87);
	la = x86_mem(c, i, FXSAVE_SIZE, write);
	x86_block_align(c, la, 4);
	X86_RULE(c, la & 15, X86_GP, 0, "FXSAVE area is aligned to 16");
	return la;
}

/* With EFER.FFXSR, 64-bit code at CPL 0 leaves the XMM registers out (APM vol. 2 "Extended Feature
 * Enable Register"). */
static bool fx_moves_xmm(const struct x86_cpu *c)
{
	return (c->cr4 & X86_CR4_OSFXSR) &&
	       !((c->efer & X86_EFER_FFXSR) && x86_long_mode(c) && c->cpl == 0);
}

static const struct x86_insn *op_fxsave(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = fx_address(c, i, true);
	u8 *x = x86_simd_image(c, X86_XCOMP_X87 | X86_XCOMP_SSE), *t = scratch(c);
	u32 n = X86_XS_XMM;

	x87_to_guest(c, i, t);
	X86_FIELD(t, X86_XS_MXCSR, u32) = X86_FIELD(x, X86_XS_MXCSR, u32);
	X86_FIELD(t, X86_XS_MXCSR_MASK, u32) = x86_xlayout()->mxcsr_mask;
	if (fx_moves_xmm(c)) {
		n += component_bytes(c, 1);
		x86_copy(t + X86_XS_XMM, x + X86_XS_XMM, n - X86_XS_XMM);
	}
	x86_block_probe(c, i->seg, la, FXSAVE_SIZE, true);
	x86_block_write(c, i->seg, la, t, n);
	return x86_next(i);
}

static const struct x86_insn *op_fxrstor(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = fx_address(c, i, false);
	u8 *t = scratch(c), *x;

	x86_block_read(c, i->seg, la, t, FXSAVE_SIZE);
	if (c->cr4 & X86_CR4_OSFXSR)
		check_mxcsr(c, t);
	x = x86_simd_image(c, X86_XCOMP_X87 | X86_XCOMP_SSE);
	x87_from_guest(c, i, t);
	if (c->cr4 & X86_CR4_OSFXSR)
		X86_FIELD(x, X86_XS_MXCSR, u32) = X86_FIELD(t, X86_XS_MXCSR, u32);
	if (fx_moves_xmm(c))
		x86_copy(x + X86_XS_XMM, t + X86_XS_XMM, component_bytes(c, 1));
	return x86_next(i);
}

/* ---- XSAVE and its variants ---- */

enum { OPT = BIT(0), COMPACT = BIT(1), SUPERVISOR = BIT(2) };

static void check_xsave(struct x86_cpu *c, u32 kind)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_OSXSAVE), X86_UD, 0, "CR4.OSXSAVE is set");
	if (c->cr0 & X86_CR0_TS)
		x86_raise(c, X86_NM);
	X86_RULE(c, (kind & SUPERVISOR) && c->cpl, X86_GP, 0, "XSAVES and XRSTORS run at CPL 0");
}

static u64 requested(const struct x86_cpu *c)
{
	u64 mask = c->gpr[X86_RDX] << 32 | (u32)c->gpr[X86_RAX];

	return mask & c->xcr0 & x86_host_xcr0();
}

/* Where component n stands in an area: fixed, or one behind the other as XCOMP_BV lists them. */
static u32 component_offset(u32 n, u64 xcomp_bv)
{
	const struct x86_xlayout *l = x86_xlayout();
	u32 off = X86_XS_EXTENDED;

	if (n < 2 || !(xcomp_bv & XCOMP_COMPACTED))
		return l->off[n];
	for (u32 k = 2; k < n; k++) {
		if (!(xcomp_bv & BIT64(k)))
			continue;
		off = (l->align64[k] ? ALIGN_UP(off, 64) : off) + l->len[k];
	}
	return l->align64[n] ? ALIGN_UP(off, 64) : off;
}

static u32 area_size(u64 comps, u64 xcomp_bv)
{
	u32 size = X86_XS_EXTENDED;

	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (comps & BIT64(n))
			size = MAX(size, component_offset(n, xcomp_bv) + x86_xlayout()->len[n]);
	return size;
}

static u64 xsave_address(struct x86_cpu *c, const struct x86_insn *i, u32 size, bool write)
{
	u64 la = x86_mem(c, i, size, write);

	X86_RULE(c, la & XSAVE_ALIGN, X86_GP, 0, "XSAVE area is aligned to 64");
	return la;
}

static const struct x86_insn *save(struct x86_cpu *c, const struct x86_insn *i, u32 kind)
{
	u64 rfbm, xinuse, write, bv, xcomp = 0, header[2], la, pkru = c->pkru;
	u8 *x, *t = scratch(c);
	u32 size, legacy;

	check_xsave(c, kind);
	rfbm = requested(c);
	if (kind & COMPACT)
		xcomp = XCOMP_COMPACTED | rfbm;
	size = area_size(rfbm, xcomp);
	la = xsave_address(c, i, size, true);
	x86_block_probe(c, i->seg, la, size, true);

	xinuse = x86_simd_xinuse(c);
	/* XSAVE writes components in their initial state, too. */
	write = kind & (OPT | COMPACT) ? rfbm & xinuse : rfbm;
	bv = X86_FIELD(c->xsave, X86_XS_BV, u64);
	x86_simd_image(c, write);
	X86_FIELD(c->xsave, X86_XS_BV, u64) = bv;
	x = c->xsave;
	if (write & X86_XCOMP_X87) {
		x87_to_guest(c, i, t);
		x86_block_write(c, i->seg, la, t, X86_XS_MXCSR);
		x86_block_write(c, i->seg, la + X86_XS_ST, t + X86_XS_ST, X86_XS_XMM - X86_XS_ST);
	}
	legacy = kind & COMPACT ? write & X86_XCOMP_SSE : rfbm & (X86_XCOMP_SSE | X86_XCOMP_AVX);
	if (legacy) {
		u32 mxcsr[2] = {X86_FIELD(x, X86_XS_MXCSR, u32), x86_xlayout()->mxcsr_mask};

		x86_block_write(c, i->seg, la + X86_XS_MXCSR, mxcsr, sizeof(mxcsr));
	}
	for (u32 n = 1; n < X86_XCOMPS; n++)
		if (write & BIT64(n))
			x86_block_write(c, i->seg, la + component_offset(n, xcomp),
					n == 9 ? (u8 *)&pkru : x + x86_xlayout()->off[n],
					component_bytes(c, n));
	if (kind & COMPACT) {
		header[0] = rfbm & xinuse;
		header[1] = xcomp;
		x86_block_write(c, i->seg, la + X86_XS_BV, header, sizeof(header));
	} else {
		x86_block_read(c, i->seg, la + X86_XS_BV, header, 8);
		header[0] = (header[0] & ~rfbm) | (rfbm & xinuse);
		x86_block_write(c, i->seg, la + X86_XS_BV, header, 8);
	}
	return x86_next(i);
}

static void check_header(struct x86_cpu *c, const u64 *h, u32 kind)
{
	u64 supported = c->xcr0 & x86_host_xcr0(), rest = 0;
	bool compact = h[1] & XCOMP_COMPACTED;

	for (u32 n = 2; n < 8; n++)
		rest |= h[n];
	X86_RULE(c, (kind & SUPERVISOR) && !compact, X86_GP, 0,
		 "XRSTORS wants the compacted format");
	if (compact) {
		X86_RULE(c, h[1] & ~XCOMP_COMPACTED & ~supported, X86_GP, 0,
			 "XCOMP_BV names enabled components");
		X86_RULE(c, h[0] & ~(h[1] & ~XCOMP_COMPACTED), X86_GP, 0,
			 "XSTATE_BV is within XCOMP_BV");
		X86_RULE(c, rest, X86_GP, 0, "bytes 63:16 of the XSAVE header are 0");
	} else {
		X86_RULE(c, h[0] & ~supported, X86_GP, 0, "XSTATE_BV names enabled components");
		X86_RULE(c, h[1] | h[2], X86_GP, 0, "bytes 23:8 of the XSAVE header are 0");
	}
}

static void restore_component(struct x86_cpu *c, const struct x86_insn *i, const u8 *t, u32 n)
{
	if (n == 0)
		x87_from_guest(c, i, t);
	else if (n != 9)
		x86_copy(c->xsave + x86_xlayout()->off[n], t + x86_xlayout()->off[n],
			 component_bytes(c, n));
}

/* Rights changed: translations of user pages were made under the old ones. */
static void set_pkru(struct x86_cpu *c, u32 v)
{
	if (c->pkru == v)
		return;
	c->pkru = v;
	x86_tlb_flush_user(c);
}

static const struct x86_insn *restore(struct x86_cpu *c, const struct x86_insn *i, u32 kind)
{
	u64 rfbm, load, init, la, h[8];
	u8 *t = scratch(c);
	bool compact;

	check_xsave(c, kind);
	rfbm = requested(c);
	la = xsave_address(c, i, X86_XS_EXTENDED, false);
	x86_block_read(c, i->seg, la + X86_XS_BV, h, sizeof(h));
	check_header(c, h, kind);
	compact = h[1] & XCOMP_COMPACTED;
	load = rfbm & h[0];
	init = rfbm & ~h[0];

	/* The scratch area is laid out as the image, whatever the format. */
	x86_block_read(c, i->seg, la, t,
		       load & (X86_XCOMP_X87 | X86_XCOMP_SSE) ? X86_XS_BV : X86_XS_ST);
	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (load & BIT64(n))
			x86_block_read(c, i->seg, la + component_offset(n, h[1]),
				       t + x86_xlayout()->off[n], component_bytes(c, n));
	if (compact ? load & X86_XCOMP_SSE : rfbm & (X86_XCOMP_SSE | X86_XCOMP_AVX))
		check_mxcsr(c, t);

	/* Outside 64-bit mode half of a component stays: it must be valid in memory before the
	 * other half is replaced. */
	x86_simd_image(c, x86_long_mode(c) ? 0 : rfbm);
	for (u32 n = 0; n < X86_XCOMPS; n++) {
		if (load & BIT64(n))
			restore_component(c, i, t, n);
		else if ((init & BIT64(n)) && !x86_long_mode(c))
			x86_fill(c->xsave + x86_xlayout()->off[n], 0,
				 n && n != 9 ? component_bytes(c, n) : 0);
	}
	X86_FIELD(c->xsave, X86_XS_BV, u64) |= load & x86_xlayout()->xcr0;
	x86_simd_init(c, x86_long_mode(c) ? init : init & X86_XCOMP_X87);
	if (compact ? load & X86_XCOMP_SSE : rfbm & (X86_XCOMP_SSE | X86_XCOMP_AVX))
		x86_simd_set_mxcsr(c, X86_FIELD(t, X86_XS_MXCSR, u32));
	else if (compact && (init & X86_XCOMP_SSE))
		x86_simd_set_mxcsr(c, X86_MXCSR_INIT);
	if (rfbm & X86_XCOMP_PKRU)
		set_pkru(c, load & X86_XCOMP_PKRU ? X86_FIELD(t, x86_xlayout()->off[9], u32) : 0);
	return x86_next(i);
}

static const struct x86_insn *op_xsave(struct x86_cpu *c, const struct x86_insn *i)
{
	return save(c, i, 0);
}

static const struct x86_insn *op_xsaveopt(struct x86_cpu *c, const struct x86_insn *i)
{
	return save(c, i, OPT);
}

static const struct x86_insn *op_xsavec(struct x86_cpu *c, const struct x86_insn *i)
{
	return save(c, i, COMPACT);
}

static const struct x86_insn *op_xsaves(struct x86_cpu *c, const struct x86_insn *i)
{
	return save(c, i, COMPACT | SUPERVISOR);
}

static const struct x86_insn *op_xrstor(struct x86_cpu *c, const struct x86_insn *i)
{
	return restore(c, i, 0);
}

static const struct x86_insn *op_xrstors(struct x86_cpu *c, const struct x86_insn *i)
{
	return restore(c, i, SUPERVISOR);
}

bool x86_bind_xsave(const struct x86_decoded *d, struct x86_insn *i)
{
	static const struct {
		u16 mnemonic[2];
		x86_op_fn *fn;
	} ops[] = {
		{{ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64}, op_fxsave},
		{{ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64}, op_fxrstor},
		{{ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64}, op_xsave},
		{{ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64}, op_xsaveopt},
		{{ZYDIS_MNEMONIC_XSAVEC, ZYDIS_MNEMONIC_XSAVEC64}, op_xsavec},
		{{ZYDIS_MNEMONIC_XSAVES, ZYDIS_MNEMONIC_XSAVES64}, op_xsaves},
		{{ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64}, op_xrstor},
		{{ZYDIS_MNEMONIC_XRSTORS, ZYDIS_MNEMONIC_XRSTORS64}, op_xrstors},
	};

	for (u32 k = 0; k < ARRAY_SIZE(ops); k++) {
		if (d->z.mnemonic != ops[k].mnemonic[0] && d->z.mnemonic != ops[k].mnemonic[1])
			continue;
		i->fn = ops[k].fn;
		i->cond = d->z.mnemonic == ops[k].mnemonic[1] ? REX_W : 0;
		return true;
	}
	return false;
}
