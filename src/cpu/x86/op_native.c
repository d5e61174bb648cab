// SPDX-License-Identifier: MIT
/*
 * Handlers of instructions that the host CPU executes on the guest's own state, through stubs made
 * by native.c.
 *
 * Engine file. Knows where a memory operand is and who may touch it, nothing about what the
 * instruction does.
 *
 * Fields of struct x86_insn as x86_native_bind() sets them: stub; opsize: bytes of the memory
 * operand; cond: enum x86_simd_kind; spare: enum x86_native_flags; imm: the FOP of an x87
 * instruction, or for masked operands lane bytes | lanes in memory << 8 | mask bits << 16 | enum
 * x86_native_mask << 24 | whole operand must be accessible << 32 | lanes need no alignment << 33.
 *
 * The host's memory operand has the guest's offset in its page (or, in a bounce buffer, in its
 * cache line), so that alignment checks come out as the guest's own: they arrive as a signal in the
 * stub (signal.c).
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

#define MXCSR_MM BIT(17)

typedef u64 stub_fn(struct x86_cpu *c, void *ptr);

/* Room for a 64-byte operand at any offset in a cache line. */
struct bounce {
	u8 b[128] __attribute__((aligned(64)));
};

static inline bool loads_simd(enum x86_simd_kind kind)
{
	return kind != X86_KIND_INT && kind != X86_KIND_VEX_INT;
}

#ifdef AV_SIMD_EAGER
/* Between load and spill only the stub may run: instrumented code uses vector registers. */
u64 x86_native_call(struct x86_cpu *c, const void *stub, void *ptr)
{
	stub_fn *fn = (stub_fn *)stub;
	u64 r;

	x86_simd_load(c);
	r = fn(c, ptr);
	x86_simd_spill(c);
	return r;
}
#else
u64 x86_native_call(struct x86_cpu *c, const void *stub, void *ptr)
{
	x86_simd_load(c);
	return ((stub_fn *)stub)(c, ptr);
}
#endif

static inline __attribute__((always_inline)) void run(struct x86_cpu *c, const struct x86_insn *i,
						      void *ptr)
{
#ifndef AV_SIMD_EAGER
	if (!loads_simd(i->cond)) {
		((stub_fn *)i->stub)(c, ptr);
		return;
	}
	x86_simd_load(c);
	((stub_fn *)i->stub)(c, ptr);
#else
	if (loads_simd(i->cond))
		x86_native_call(c, i->stub, ptr);
	else
		((stub_fn *)i->stub)(c, ptr);
#endif
}

/* The common families in line; the rest, and all that raises, in simd.c. */
static inline __attribute__((always_inline)) void check(struct x86_cpu *c, const struct x86_insn *i)
{
	enum x86_simd_kind kind = i->cond;

	if (kind == X86_KIND_INT)
		return;
	if (kind == X86_KIND_SSE &&
	    likely(!(c->cr0 & (X86_CR0_EM | X86_CR0_TS)) && (c->cr4 & X86_CR4_OSFXSR)))
		return;
	x86_simd_check(c, kind);
}

static void track_x87(struct x86_cpu *c, const struct x86_insn *i)
{
	if (i->spare & X86_N_INIT) {
		c->x87.ip = c->x87.dp = 0;
		c->x87.cs = c->x87.ds = c->x87.op = 0;
	} else {
		c->x87.ip = x86_rip(c);
		c->x87.cs = c->seg[X86_CS].sel;
		c->x87.op = (u16)i->imm;
		if (i->flags & X86_I_MEM) {
			c->x87.dp = x86_ea(c, i);
			c->x87.ds = c->seg[i->seg].sel;
		}
	}
	/* A slow store may have spilled since the stub ran. */
	if (!c->simd_live)
		x86_simd_put_pointers(c);
}

static inline __attribute__((always_inline)) const struct x86_insn *done(struct x86_cpu *c,
									 const struct x86_insn *i)
{
	if (unlikely(i->spare & (X86_N_X87 | X86_N_INIT)))
		track_x87(c, i);
	return x86_next(i);
}

const struct x86_insn *x86_op_native(struct x86_cpu *c, const struct x86_insn *i)
{
	check(c, i);
	run(c, i, NULL);
	return done(c, i);
}

/* A pending x87 exception comes before what segments have against the operand. */
static __cold void check_pending(struct x86_cpu *c)
{
	u16 sw = X86_FIELD(c->xsave, X86_XS_FSW, u16);

	if (c->simd_live)
		__asm__ volatile("fnstsw %0" : "=m"(sw));
	else if (!(X86_FIELD(c->xsave, X86_XS_BV, u64) & X86_XCOMP_X87))
		sw = 0;
	if (sw & X86_FSW_ES)
		x86_raise(c, X86_MF);
}

static inline u64 operand(struct x86_cpu *c, const struct x86_insn *i, bool write)
{
	if (unlikely((i->spare & X86_N_WAITS) && !x86_long_mode(c) &&
		     !(c->flat & BIT(i->seg + (write ? X86_FLAT_WRITE : 0)))))
		check_pending(c);
	return x86_mem(c, i, i->opsize, write);
}

/*
 * Off the fast path the engine may find a page fault before the host sees the instruction: what
 * comes first on hardware must be looked for here.
 */
static void check_before_memory(struct x86_cpu *c, const struct x86_insn *i, u64 la)
{
	u16 sw = X86_FIELD(c->xsave, X86_XS_FSW, u16);
	u32 mxcsr = X86_FIELD(c->xsave, X86_XS_MXCSR, u32);

	if (c->simd_live)
		__asm__ volatile("fnstsw %0\n\tstmxcsr %1" : "=m"(sw), "=m"(mxcsr));
	else if (!(X86_FIELD(c->xsave, X86_XS_BV, u64) & X86_XCOMP_X87))
		sw = 0;
	if ((i->spare & X86_N_WAITS) && (sw & X86_FSW_ES))
		x86_raise(c, X86_MF);
	/* With AMD's MXCSR.MM the host alone knows what it lets pass. */
	if ((la & (BIT(i->spare >> X86_N_ALIGN_SHIFT) - 1)) && !(mxcsr & MXCSR_MM))
		x86_gp(c, 0);
}

static __cold const struct x86_insn *load_slow(struct x86_cpu *c, const struct x86_insn *i, u64 la)
{
	struct bounce b;
	u8 *p = b.b + (la & 63);

	check_before_memory(c, i, la);
	x86_read_slow(c, i->seg, la, p, i->opsize);
	run(c, i, p);
	return done(c, i);
}

const struct x86_insn *x86_op_native_load(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la;
	void *p;

	check(c, i);
	la = operand(c, i, false);
	p = x86_tlb_hit(c->rtlb, la, i->opsize);
	if (unlikely(!p))
		return load_slow(c, i, la);
	run(c, i, p);
	return done(c, i);
}

/* An x87 store with an unmasked exception other than precision does not happen; the exception stays
 * pending. */
static bool x87_stored(const struct x86_cpu *c, const struct x86_insn *i)
{
	u16 sw = X86_FIELD(c->xsave, X86_XS_FSW, u16), cw = X86_FIELD(c->xsave, X86_XS_FCW, u16);

	if (!(i->spare & X86_N_X87))
		return true;
	if (c->simd_live)
		__asm__ volatile("fnstsw %0\n\tfnstcw %1" : "=m"(sw), "=m"(cw));
	return !(sw & ~cw & 0x1f);
}

static __cold const struct x86_insn *store_slow(struct x86_cpu *c, const struct x86_insn *i, u64 la)
{
	struct bounce b;
	u8 *p = b.b + (la & 63);

	check_before_memory(c, i, la);
	x86_probe(c, i->seg, la, i->opsize, true);
	run(c, i, p);
	if (x87_stored(c, i))
		x86_write_slow(c, i->seg, la, p, i->opsize);
	return done(c, i);
}

const struct x86_insn *x86_op_native_store(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la;
	void *p;

	check(c, i);
	la = operand(c, i, true);
	p = x86_tlb_hit(c->wtlb, la, i->opsize);
	if (unlikely(!p))
		return store_slow(c, i, la);
	run(c, i, p);
	return done(c, i);
}

const struct x86_insn *x86_op_native_rmw(struct x86_cpu *c, const struct x86_insn *i)
{
	struct x86_rmw w;
	u64 la;
	void *p;

	check(c, i);
	la = x86_mem(c, i, i->opsize, true);
	/* CMPXCHG16B: a private copy would be aligned. */
	if (unlikely(la & (BIT(i->spare >> X86_N_ALIGN_SHIFT) - 1)))
		x86_gp(c, 0);
	p = x86_rmw_begin(c, i->seg, la, i->opsize, i->flags & X86_I_LOCK, &w);
	run(c, i, p);
	x86_rmw_end(c, &w);
	return x86_next(i);
}

/* ---- masked operands: only enabled lanes are accessed, and only they fault ---- */

struct lanes {
	u64 enabled; /* bit per lane in memory */
	u32 bytes;   /* of a lane */
};

static struct lanes memory_lanes(const struct x86_insn *i, u64 mask)
{
	u32 count = (u8)(i->imm >> 8), bits = (u8)(i->imm >> 16), packed;
	struct lanes l = {.bytes = (u8)i->imm};

	if (bits < 64)
		mask &= BIT64(bits) - 1;
	switch ((enum x86_native_mask)(u8)(i->imm >> 24)) {
	case X86_MASK_LANES:
		l.enabled = mask;
		break;
	case X86_MASK_FOLD:
		for (; mask; mask >>= count)
			l.enabled |= mask & (BIT64(count) - 1);
		break;
	case X86_MASK_PACK:
		for (packed = 0; mask; mask &= mask - 1)
			packed++;
		l.enabled = packed == 64 ? ~0ull : BIT64(packed) - 1;
		break;
	}
	return l;
}

/* Takes the lowest run of enabled lanes; returns false when there is none left. */
static bool next_run(struct lanes *l, u32 *at, u32 *len)
{
	u32 first, n;

	if (!l->enabled)
		return false;
	first = (u32)__builtin_ctzll(l->enabled);
	n = ~(l->enabled >> first) ? (u32)__builtin_ctzll(~(l->enabled >> first)) : 64;
	l->enabled = first + n >= 64 ? 0 : l->enabled >> (first + n) << (first + n);
	*at = first * l->bytes;
	*len = n * l->bytes;
	return true;
}

static const struct x86_insn *masked_slow(struct x86_cpu *c, const struct x86_insn *i, u64 la,
					  struct lanes l)
{
	bool write = i->spare & X86_N_WRITE;
	struct lanes left;
	struct bounce b;
	u8 *p = b.b + (la & 63);
	u32 at, len;

	/* An access of no lane is none, and needs no alignment. */
	if (l.enabled) {
		check_before_memory(c, i, la);
		x86_block_align(c, la, i->imm >> 33 & 1 ? 1 : l.bytes);
	}
	if (i->imm >> 32 & 1)
		x86_block_probe(c, i->seg, la, i->opsize, write);
	x86_fill(p, 0, i->opsize);
	for (left = l; next_run(&left, &at, &len);) {
		if (write)
			x86_block_probe(c, i->seg, la + at, len, true);
		else
			x86_block_read(c, i->seg, la + at, p + at, len);
	}
	run(c, i, p);
	if (!write)
		return x86_next(i);
	for (left = l; next_run(&left, &at, &len);)
		x86_block_write(c, i->seg, la + at, p + at, len);
	return x86_next(i);
}

const struct x86_insn *x86_op_native_masked(struct x86_cpu *c, const struct x86_insn *i)
{
	bool write = i->spare & X86_N_WRITE;
	struct lanes l;
	u64 la;
	u32 end;
	void *p;

	check(c, i);
	l = memory_lanes(i, x86_native_call(c, (u8 *)i->stub - X86_NATIVE_MASK_STUB, NULL));
	if (l.enabled) {
		end = (64 - (u32)__builtin_clzll(l.enabled)) * l.bytes;
		la = x86_mem(c, i, end, write);
	} else {
		la = x86_ea(c, i) + c->seg[i->seg].base;
	}
	p = x86_tlb_hit(write ? c->wtlb : c->rtlb, la, i->opsize);
	if (unlikely(!p))
		return masked_slow(c, i, la, l);
	run(c, i, p);
	return x86_next(i);
}

const struct x86_insn *x86_op_nop(struct x86_cpu *c, const struct x86_insn *i)
{
	return x86_next(i);
}
