// SPDX-License-Identifier: MIT
/*
 * FNSTENV, FNSAVE, FLDENV and FRSTOR, on the spilled image cpu->xsave: the host's own would store
 * host addresses.
 *
 * Engine file. Source: SDM vol. 1 "Saving the x87 FPU's State with FSTENV/FNSTENV and
 * FSAVE/FNSAVE".
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

#define EXCEPTIONS 0x3f

struct env {
	u16 cw, sw, tw, cs, ds, op;
	u64 ip, dp;
};

static bool protected_mode(const struct x86_cpu *c)
{
	return (c->cr0 & X86_CR0_PE) && !(c->rflags & X86_FLAG_VM);
}

static u32 env_align(const struct x86_insn *i)
{
	return i->opsize == 2 ? 2 : 4;
}

static u32 env_size(const struct x86_insn *i)
{
	return i->opsize == 2 ? 14 : 28;
}

/* ---- tags: two bits per physical register in the environment, one in the image ---- */

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static u16 tag_of(const u8 *st)
{
	u64 m = X86_FIELD(st, 0, u64);
	u16 e = X86_FIELD(st, 8, u16) & 0x7fff;

	if (e == 0)
		return m ? TAG_SPECIAL : TAG_ZERO;
	return e == 0x7fff || !(m >> 63) ? TAG_SPECIAL : TAG_VALID;
}

static u16 full_tags(const u8 *x)
{
	u32 top = X86_FIELD(x, X86_XS_FSW, u16) >> 11 & 7, tw = 0;

	for (u32 r = 0; r < 8; r++) {
		u32 tag = TAG_EMPTY;

		if (X86_FIELD(x, X86_XS_FTW, u8) & BIT(r))
			tag = tag_of(x + X86_XS_ST + 16 * ((r - top) & 7));
		tw |= tag << 2 * r;
	}
	return (u16)tw;
}

static u8 short_tags(u16 tw)
{
	u8 r = 0;

	for (u32 k = 0; k < 8; k++)
		if ((tw >> 2 * k & 3) != TAG_EMPTY)
			r |= (u8)BIT(k);
	return r;
}

/* ---- the four layouts ---- */

/* In real and virtual-8086 mode pointers are linear and share words with the opcode. */
static u32 put_env(const struct x86_cpu *c, const struct x86_insn *i, const struct env *e, u8 *b)
{
	u32 ip = (u32)e->ip, dp = (u32)e->dp;
	bool prot = protected_mode(c);

	if (!prot) {
		ip += (u32)e->cs << 4;
		dp += (u32)e->ds << 4;
	}
	if (i->opsize == 2) {
		u16 w[7] = {e->cw, e->sw, e->tw, (u16)ip, e->cs, (u16)dp, e->ds};

		if (!prot) {
			w[4] = (u16)((ip >> 4 & 0xf000) | e->op);
			w[6] = (u16)(dp >> 4 & 0xf000);
		}
		x86_copy(b, w, sizeof(w));
		return sizeof(w);
	} else {
		/* Reserved halves read as ones. */
		u32 w[7] = {0xffff0000u | e->cw,      0xffff0000u | e->sw,
			    0xffff0000u | e->tw,      ip,
			    e->cs | (u32)e->op << 16, dp,
			    0xffff0000u | e->ds};

		if (!prot) {
			w[3] = 0xffff0000u | (u16)ip;
			w[4] = (ip >> 4 & 0x0ffff000) | e->op;
			w[5] = 0xffff0000u | (u16)dp;
			w[6] = dp >> 4 & 0x0ffff000;
		}
		x86_copy(b, w, sizeof(w));
		return sizeof(w);
	}
}

static void get_env(const struct x86_cpu *c, const struct x86_insn *i, const u8 *b, struct env *e)
{
	u32 step = i->opsize == 2 ? 2 : 4;
	bool prot = protected_mode(c);

	e->cw = X86_FIELD(b, 0, u16);
	e->sw = X86_FIELD(b, step, u16);
	e->tw = X86_FIELD(b, 2 * step, u16);
	e->cs = e->ds = e->op = 0;
	if (step == 2) {
		u16 hi = X86_FIELD(b, 8, u16), dhi = X86_FIELD(b, 12, u16);

		e->ip = X86_FIELD(b, 6, u16);
		e->dp = X86_FIELD(b, 10, u16);
		if (prot) {
			e->cs = hi;
			e->ds = dhi;
		} else {
			e->ip |= (u32)(hi & 0xf000) << 4;
			e->dp |= (u32)(dhi & 0xf000) << 4;
			e->op = hi & 0x7ff;
		}
		return;
	}
	e->op = prot ? X86_FIELD(b, 18, u16) & 0x7ff : X86_FIELD(b, 16, u16) & 0x7ff;
	if (prot) {
		e->ip = X86_FIELD(b, 12, u32);
		e->cs = X86_FIELD(b, 16, u16);
		e->dp = X86_FIELD(b, 20, u32);
		e->ds = X86_FIELD(b, 24, u16);
	} else {
		e->ip = X86_FIELD(b, 12, u16) | (u64)(X86_FIELD(b, 16, u32) & 0x0ffff000) << 4;
		e->dp = X86_FIELD(b, 20, u16) | (u64)(X86_FIELD(b, 24, u32) & 0x0ffff000) << 4;
	}
}

static void read_state(const struct x86_cpu *c, struct env *e)
{
	const u8 *x = c->xsave;

	*e = (struct env){.cw = X86_FIELD(x, X86_XS_FCW, u16),
			  .sw = X86_FIELD(x, X86_XS_FSW, u16),
			  .tw = full_tags(x),
			  .cs = c->x87.cs,
			  .ds = c->x87.ds,
			  .op = c->x87.op,
			  .ip = c->x87.ip,
			  .dp = c->x87.dp};
}

static void set_pointers(struct x86_cpu *c, const struct env *e)
{
	c->x87.ip = e->ip;
	c->x87.dp = e->dp;
	c->x87.cs = e->cs;
	c->x87.ds = e->ds;
	c->x87.op = e->op;
	x86_simd_put_pointers(c);
}

static void set_control(struct x86_cpu *c, u16 cw, u16 sw, u8 tags)
{
	cw = X86_FCW_VALID(cw);
	X86_FIELD(c->xsave, X86_XS_FCW, u16) = cw;
	X86_FIELD(c->xsave, X86_XS_FSW, u16) = x86_fsw_valid(sw, cw);
	X86_FIELD(c->xsave, X86_XS_FTW, u16) = tags;
}

/* ---- the instructions ---- */

const struct x86_insn *x86_op_fnstenv(struct x86_cpu *c, const struct x86_insn *i)
{
	struct env e;
	u8 b[28], *x;
	u64 la;

	x86_simd_check(c, X86_KIND_X87);
	la = x86_mem(c, i, env_size(i), true);
	x = x86_simd_image(c, X86_XCOMP_X87);
	read_state(c, &e);
	x86_block_align(c, la, env_align(i));
	x86_block_probe(c, i->seg, la, env_size(i), true);
	x86_block_write(c, i->seg, la, b, put_env(c, i, &e, b));
	set_control(c, e.cw | EXCEPTIONS, e.sw, X86_FIELD(x, X86_XS_FTW, u8));
	return x86_next(i);
}

const struct x86_insn *x86_op_fnsave(struct x86_cpu *c, const struct x86_insn *i)
{
	static const struct env none;
	u8 b[28 + 80], *x;
	struct env e;
	u64 la;
	u32 n;

	x86_simd_check(c, X86_KIND_X87);
	la = x86_mem(c, i, env_size(i) + 80, true);
	x = x86_simd_image(c, X86_XCOMP_X87);
	read_state(c, &e);
	n = put_env(c, i, &e, b);
	for (u32 r = 0; r < 8; r++, n += 10)
		x86_copy(b + n, x + X86_XS_ST + 16 * r, 10);
	x86_block_align(c, la, env_align(i));
	x86_block_probe(c, i->seg, la, n, true);
	x86_block_write(c, i->seg, la, b, n);
	/* FNINIT leaves the registers' contents, and TOP 0 renumbers them. */
	for (u32 r = 0, top = e.sw >> 11 & 7; r < 8; r++)
		x86_copy(x + X86_XS_ST + 16 * r, b + n - 80 + 10 * ((r - top) & 7), 10);
	set_pointers(c, &none);
	set_control(c, X86_FCW_INIT, 0, 0);
	return x86_next(i);
}

/* The waiting forms report an exception that is still pending. */
static void check_pending(struct x86_cpu *c)
{
	x86_simd_check(c, X86_KIND_X87);
	if (X86_FIELD(x86_simd_image(c, X86_XCOMP_X87), X86_XS_FSW, u16) & X86_FSW_ES)
		x86_raise(c, X86_MF);
}

static void load_env(struct x86_cpu *c, const struct x86_insn *i, const u8 *b)
{
	struct env e;

	get_env(c, i, b, &e);
	set_pointers(c, &e);
	set_control(c, e.cw, e.sw, short_tags(e.tw));
}

/* The environment names physical registers, the image stands in stack order: a new TOP reorders it.
 */
static void rotate_stack(u8 *x, u32 from_top, u32 to_top)
{
	u8 old[128];

	x86_copy(old, x + X86_XS_ST, sizeof(old));
	for (u32 r = 0; r < 8; r++)
		x86_copy(x + X86_XS_ST + 16 * ((r - to_top) & 7), old + 16 * ((r - from_top) & 7),
			 16);
}

const struct x86_insn *x86_op_fldenv(struct x86_cpu *c, const struct x86_insn *i)
{
	u32 from_top;
	u8 b[28], *x;
	u64 la;

	check_pending(c);
	la = x86_mem(c, i, env_size(i), false);
	x86_block_align(c, la, env_align(i));
	x86_block_read(c, i->seg, la, b, env_size(i));
	x = x86_simd_image(c, X86_XCOMP_X87);
	from_top = X86_FIELD(x, X86_XS_FSW, u16) >> 11 & 7;
	load_env(c, i, b);
	rotate_stack(x, from_top, X86_FIELD(x, X86_XS_FSW, u16) >> 11 & 7);
	return x86_next(i);
}

const struct x86_insn *x86_op_frstor(struct x86_cpu *c, const struct x86_insn *i)
{
	u32 n = env_size(i);
	u8 b[28 + 80], *x;
	u64 la;

	check_pending(c);
	la = x86_mem(c, i, n + 80, false);
	x86_block_align(c, la, env_align(i));
	x86_block_read(c, i->seg, la, b, n + 80);
	x = x86_simd_image(c, X86_XCOMP_X87);
	load_env(c, i, b);
	for (u32 r = 0; r < 8; r++)
		x86_copy(x + X86_XS_ST + 16 * r, b + n + 10 * r, 10);
	return x86_next(i);
}
