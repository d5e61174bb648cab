// SPDX-License-Identifier: MIT
/*
 * Residency of the guest's x87 and SIMD state: loading it into the host's registers, writing it
 * back, and the checks that every instruction of these families makes first.
 *
 * Engine file. cpu->xsave is a standard-format XSAVE image of all components that host and engine
 * support, whatever the guest's XCR0 says: components outside it keep their values, as on hardware.
 * PKRU is never part of it: the engine keeps it, on hosts without it, too.
 *
 * The instruction and data pointers of the x87 unit would hold host addresses, as stubs run on the
 * host: handlers record the guest's in cpu->x87, and every spill overwrites the image's fields by
 * them.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/except.h"
#include "cpu/x86/tb.h"

/* ---- what the host has ---- */

/* On Intel's processors PKRU stands behind AVX-512's components, whether they exist or not. */
#define PKRU_OFFSET 2688u

static struct x86_xlayout layout;
static bool layout_known;

static void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

static u32 area_size(u64 xcr0)
{
	u32 size = X86_XS_EXTENDED;

	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (xcr0 & BIT(n))
			size = MAX(size, READ_ONCE(layout.off[n]) + READ_ONCE(layout.len[n]));
	return size;
}

/* Every thread that comes here early computes the same values, so that no lock is needed. */
static void read_layout(void)
{
	u8 fx[512] __attribute__((aligned(16)));
	u32 r[4], lo, hi, mask, size;
	u64 xcr0;

	cpuid(1, 0, r);
	if (!(r[2] & BIT(27))) {
		WRITE_ONCE(layout.xcr0, 0);
		return;
	}
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	xcr0 = lo & (X86_XCOMP_X87 | X86_XCOMP_SSE | X86_XCOMP_AVX | X86_XCOMP_AVX512);
	if (!(xcr0 & X86_XCOMP_AVX) || (xcr0 & X86_XCOMP_AVX512) != X86_XCOMP_AVX512)
		xcr0 &= ~(u64)X86_XCOMP_AVX512;
	WRITE_ONCE(layout.off[1], X86_XS_XMM);
	WRITE_ONCE(layout.len[1], 256);
	for (u32 n = 2; n < X86_XCOMPS; n++) {
		if (!(xcr0 & BIT(n)))
			continue;
		cpuid(0xd, n, r);
		WRITE_ONCE(layout.off[n], r[1]);
		WRITE_ONCE(layout.len[n], r[0]);
		WRITE_ONCE(layout.align64[n], r[2] & BIT(1));
	}
	x86_fill(fx, 0, sizeof(fx));
	__asm__ volatile("fxsave64 %0" : "=m"(fx) : : "memory");
	mask = X86_FIELD(fx, X86_XS_MXCSR_MASK, u32);
	WRITE_ONCE(layout.mxcsr_mask, mask ? mask : 0xffbf);
	WRITE_ONCE(layout.xcr0, xcr0);
	size = area_size(xcr0);
	WRITE_ONCE(layout.size, size);
	WRITE_ONCE(layout.off[9], MAX(ALIGN_UP(size, 64u), PKRU_OFFSET));
	WRITE_ONCE(layout.len[9], 8);
}

const struct x86_xlayout *x86_xlayout(void)
{
	if (unlikely(!LOAD_ACQUIRE(layout_known))) {
		read_layout();
		STORE_RELEASE(layout_known, true);
	}
	return &layout;
}

u64 x86_host_xcr0(void)
{
	u64 xcr0 = x86_xlayout()->xcr0;

	return xcr0 ? xcr0 | X86_XCOMP_PKRU : 0;
}

u32 x86_xsave_size(u64 xcr0)
{
	return x86_xlayout()->xcr0 ? area_size(xcr0) : X86_XS_EXTENDED;
}

bool x86_xsave_component(u32 n, u32 *offset, u32 *size, bool *align64)
{
	if (n < 2 || n >= X86_XCOMPS || !(x86_host_xcr0() & BIT(n)))
		return false;
	*offset = layout.off[n];
	*size = layout.len[n];
	*align64 = layout.align64[n];
	return true;
}

/* ---- load and spill ---- */

struct host_control {
	u32 mxcsr;
	u16 cw;
};

/* While the state is not resident the image is the truth, and anybody may have changed it. */
static void take_pointers(struct x86_cpu *c)
{
	const u8 *x = c->xsave;

	if (X86_FIELD(x, X86_XS_FIP, u64) != c->x87.ip) {
		c->x87.ip = X86_FIELD(x, X86_XS_FIP, u64);
		c->x87.cs = 0;
	}
	if (X86_FIELD(x, X86_XS_FDP, u64) != c->x87.dp) {
		c->x87.dp = X86_FIELD(x, X86_XS_FDP, u64);
		c->x87.ds = 0;
	}
	c->x87.op = X86_FIELD(x, X86_XS_FOP, u16);
	/* A component absent from the header is initialised, and with it the pointers. */
	if (!(X86_FIELD(x, X86_XS_BV, u64) & X86_XCOMP_X87)) {
		c->x87.ip = c->x87.dp = 0;
		c->x87.cs = c->x87.ds = c->x87.op = 0;
	}
}

void x86_simd_load_slow(struct x86_cpu *c)
{
	struct host_control *h = (struct host_control *)c->host_xsave;
	u8 *x = c->xsave;

	__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(h->mxcsr), "=m"(h->cw));
	/* The image may come from the VMM: whatever it holds, XRSTOR must not fault here. */
	X86_FIELD(x, X86_XS_MXCSR, u32) &= layout.mxcsr_mask;
	X86_FIELD(x, X86_XS_BV, u64) &= layout.xcr0;
	for (u32 n = X86_XS_COMP_BV; n < X86_XS_EXTENDED; n += 8)
		X86_FIELD(x, n, u64) = 0;
	take_pointers(c);
	__asm__ volatile("xrstor64 %0"
			 :
			 : "m"(*(u8(*)[4096])x), "a"((u32)layout.xcr0), "d"(0)
			 : "memory");
	c->simd_live = true;
	c->simd_native = c->simd_enabled;
}

void x86_simd_put_pointers(struct x86_cpu *c)
{
	X86_FIELD(c->xsave, X86_XS_FIP, u64) = c->x87.ip;
	X86_FIELD(c->xsave, X86_XS_FDP, u64) = c->x87.dp;
	X86_FIELD(c->xsave, X86_XS_FOP, u16) = c->x87.op;
}

void x86_simd_spill(struct x86_cpu *c)
{
	struct host_control *h = (struct host_control *)c->host_xsave;

	if (!c->simd_live)
		return;
	__asm__ volatile("xsave64 %0"
			 : "+m"(*(u8(*)[4096])c->xsave)
			 : "a"((u32)layout.xcr0), "d"(0)
			 : "memory");
	c->simd_live = false;
	c->simd_native = 0;
	/* C code expects an empty x87 stack, its own rounding modes, and no dirty upper halves. */
	__asm__ volatile("fninit\n\tfldcw %1\n\tldmxcsr %0" : : "m"(h->mxcsr), "m"(h->cw));
	if (layout.xcr0 & X86_XCOMP_AVX)
		__asm__ volatile("vzeroupper");
	x86_simd_put_pointers(c);
	/* Readers of the image take MXCSR for initial when the SSE component is absent. */
	if (X86_FIELD(c->xsave, X86_XS_MXCSR, u32) != X86_MXCSR_INIT)
		X86_FIELD(c->xsave, X86_XS_BV, u64) |= X86_XCOMP_SSE;
	c->stats[X86_STAT_SIMD_SPILLS]++;
}

static void init_component(u8 *x, u32 n)
{
	if (n == 0) {
		x86_fill(x, 0, X86_XS_MXCSR);
		x86_fill(x + X86_XS_ST, 0, X86_XS_XMM - X86_XS_ST);
		X86_FIELD(x, X86_XS_FCW, u16) = X86_FCW_INIT;
	} else {
		x86_fill(x + layout.off[n], 0, layout.len[n]);
	}
}

u8 *x86_simd_image(struct x86_cpu *c, u64 comps)
{
	u8 *x = c->xsave;
	u64 missing;

	if (c->simd_live)
		x86_simd_spill(c);
	else
		take_pointers(c);
	comps &= layout.xcr0;
	missing = comps & ~X86_FIELD(x, X86_XS_BV, u64);
	for (u32 n = 0; missing; n++, missing >>= 1) {
		if (missing & 1)
			init_component(x, n);
	}
	X86_FIELD(x, X86_XS_BV, u64) |= comps;
	return x;
}

void x86_simd_init(struct x86_cpu *c, u64 comps)
{
	u64 *bv = &X86_FIELD(c->xsave, X86_XS_BV, u64), present;

	/* What is absent already holds initial values, or nobody reads it before it is present
	 * again. */
	present = comps & *bv;
	for (u32 n = 0; present; n++, present >>= 1) {
		if (present & 1)
			init_component(c->xsave, n);
	}
	*bv &= ~comps;
}

void x86_simd_set_mxcsr(struct x86_cpu *c, u32 v)
{
	if (v != X86_MXCSR_INIT)
		x86_simd_image(c, X86_XCOMP_SSE);
	X86_FIELD(c->xsave, X86_XS_MXCSR, u32) = v;
}

u64 x86_simd_xinuse(struct x86_cpu *c)
{
	u64 bv;

	x86_simd_spill(c);
	bv = X86_FIELD(c->xsave, X86_XS_BV, u64) & layout.xcr0;
	/* MXCSR counts as SSE state (SDM vol. 1 "Processor Tracking of XSAVE-Managed State"). */
	if (X86_FIELD(c->xsave, X86_XS_MXCSR, u32) != X86_MXCSR_INIT)
		bv |= X86_XCOMP_SSE;
	return c->pkru ? bv | X86_XCOMP_PKRU : bv;
}

void x86_simd_reset(struct x86_cpu *c)
{
	x86_simd_spill(c);
	x86_fill(c->xsave, 0, c->xsave_size);
	X86_FIELD(c->xsave, X86_XS_FCW, u16) = X86_FCW_INIT;
	X86_FIELD(c->xsave, X86_XS_MXCSR, u32) = X86_MXCSR_INIT;
	X86_FIELD(c->xsave, X86_XS_MXCSR_MASK, u32) = layout.mxcsr_mask;
	c->x87.ip = c->x87.dp = 0;
	c->x87.cs = c->x87.ds = c->x87.op = 0;
}

/* ---- checks ---- */

#define XCR0_AVX    (X86_XCOMP_SSE | X86_XCOMP_AVX)
#define XCR0_AVX512 (XCR0_AVX | X86_XCOMP_AVX512)

static void check_vex(struct x86_cpu *c)
{
	if (!(c->cr0 & X86_CR0_PE) || (c->rflags & X86_FLAG_VM))
		x86_raise(c, X86_UD);
}

/* The same rules as below, for code that is executed in place. Sanitizer builds never leave state in the registers between instructions. */
void x86_simd_enable(struct x86_cpu *c)
{
	u8 can = 0;

#ifndef AV_SIMD_EAGER
	if (!(c->cr0 & X86_CR0_TS)) {
		if (!(c->cr0 & X86_CR0_EM)) {
			can |= X86_NATIVE_X87;
			if (c->cr4 & X86_CR4_OSFXSR)
				can |= X86_NATIVE_SSE;
		}
		if (c->cr4 & X86_CR4_OSXSAVE) {
			if ((c->xcr0 & XCR0_AVX) == XCR0_AVX)
				can |= X86_NATIVE_AVX;
			if ((c->xcr0 & XCR0_AVX512) == XCR0_AVX512)
				can |= X86_NATIVE_AVX512;
		}
	}
#endif
	c->simd_enabled = can;
	c->simd_native = c->simd_live ? can : 0;
}

/* SDM vol. 2 "Exception Conditions" of each family; #UD before #NM. */
void x86_simd_check(struct x86_cpu *c, enum x86_simd_kind kind)
{
	u64 need = XCR0_AVX;

	switch (kind) {
	case X86_KIND_INT:
		return;
	case X86_KIND_VEX_INT:
		check_vex(c);
		return;
	case X86_KIND_X87:
		if (c->cr0 & (X86_CR0_EM | X86_CR0_TS))
			x86_raise(c, X86_NM);
		return;
	case X86_KIND_FWAIT:
		if ((c->cr0 & (X86_CR0_MP | X86_CR0_TS)) == (X86_CR0_MP | X86_CR0_TS))
			x86_raise(c, X86_NM);
		return;
	case X86_KIND_SSE:
		if (!(c->cr4 & X86_CR4_OSFXSR))
			x86_raise(c, X86_UD);
		/* fall through */
	case X86_KIND_MMX:
		if (c->cr0 & X86_CR0_EM)
			x86_raise(c, X86_UD);
		break;
	case X86_KIND_AVX512:
		need = XCR0_AVX512;
		/* fall through */
	case X86_KIND_AVX:
		check_vex(c);
		if (!(c->cr4 & X86_CR4_OSXSAVE) || (c->xcr0 & need) != need)
			x86_raise(c, X86_UD);
		break;
	}
	if (c->cr0 & X86_CR0_TS)
		x86_raise(c, X86_NM);
}
