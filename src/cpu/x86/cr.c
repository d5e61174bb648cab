// SPDX-License-Identifier: MIT
/*
 * Control registers: what combinations exist, and what changing them entails.
 *
 * Engine file. Knows which bits the translations depend on; must not know instructions. Source: SDM
 * vol. 3 "Control Registers", "Initializing IA-32e Mode"; vol. 2 MOV to control registers, XSETBV.
 */
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/seg.h"
#include "cpu/x86/simd.h"

#define CR0_DEFINED                                                                                \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE |             \
	 X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
/* What translations, or the rights that they grant, depend on. */
#define CR0_TRANSLATES (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE)
#define CR4_TRANSLATES                                                                             \
	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP |   \
	 X86_CR4_PKE | X86_CR4_LA57)
#define CR3_NOFLUSH BIT64(63)

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LMA);
}

static bool cr0_valid(u64 v)
{
	if (v >> 32)
		return false;
	if ((v & X86_CR0_NW) && !(v & X86_CR0_CD))
		return false;
	return !(v & X86_CR0_PG) || (v & X86_CR0_PE);
}

static u64 physical_reserved(const struct x86_cpu *c)
{
	return ~0ull << c->maxphyaddr;
}

void x86_set_cr0(struct x86_cpu *c, u64 v)
{
	u64 old = c->cr0, efer = c->efer;
	bool on = (v & X86_CR0_PG) && !(old & X86_CR0_PG),
	     off = !(v & X86_CR0_PG) && (old & X86_CR0_PG);

	X86_RULE(c, !cr0_valid(v), X86_GP, 0,
		 "CR0: PG needs PE, NW needs CD, the upper half is zero");
	v = (v & CR0_DEFINED) | X86_CR0_ET;
	if (on && (efer & X86_EFER_LME)) {
		X86_RULE(c, !(c->cr4 & X86_CR4_PAE), X86_GP, 0,
			 "long mode is entered with CR4.PAE set");
		X86_RULE(c, c->seg[X86_CS].attr & X86_SEG_L, X86_GP, 0,
			 "long mode is entered with CS.L clear");
		X86_RULE(c,
			 !(c->seg[X86_TR].attr & BIT(3)) &&
				 !(c->seg[X86_TR].attr & X86_SEG_UNUSABLE) &&
				 (c->seg[X86_TR].sel & 0xfffcu),
			 X86_GP, 0, "long mode is not entered with a 16-bit TSS loaded");
		efer |= X86_EFER_LMA;
	}
	if (off) {
		X86_RULE(c, x86_long_mode(c), X86_GP, 0, "paging is not turned off in 64-bit mode");
		X86_RULE(c, c->cr4 & X86_CR4_PCIDE, X86_GP, 0,
			 "paging is not turned off with CR4.PCIDE set");
		efer &= ~(u64)X86_EFER_LMA;
	}
	if (pae_paging(v, c->cr4, efer) && ((v ^ old) & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)))
		X86_RULE(c, !x86_load_pdptes(c, c->cr3), X86_GP, 0,
			 "PDPTEs have no reserved bits set");
	c->cr0 = v;
	c->efer = efer;
	x86_simd_enable(c);
	if ((v ^ old) & CR0_TRANSLATES)
		x86_tlb_flush_all(c);
	if ((v ^ old) & (X86_CR0_PE | X86_CR0_PG | X86_CR0_AM))
		x86_seg_changed(c);
}

void x86_set_cr3(struct x86_cpu *c, u64 v)
{
	bool keep = false;

	if (c->cr4 & X86_CR4_PCIDE) {
		keep = v & CR3_NOFLUSH;
		v &= ~CR3_NOFLUSH;
	}
	if (c->efer & X86_EFER_LMA)
		X86_RULE(c, v & physical_reserved(c), X86_GP, 0,
			 "CR3 has no bits above MAXPHYADDR");
	else
		v = (u32)v;
	if (pae_paging(c->cr0, c->cr4, c->efer))
		X86_RULE(c, !x86_load_pdptes(c, v), X86_GP, 0, "PDPTEs have no reserved bits set");
	/*
	 * Translations carry no PCID here: those of another one must go even if the guest would
	 * keep them, so only writing the same value again can leave them alone.
	 */
	keep = keep && v == c->cr3;
	c->cr3 = v;
	if (!keep)
		x86_tlb_flush_nonglobal(c);
}

static bool cr4_valid(const struct x86_cpu *c, u64 v)
{
	return !(v & ~c->feat->cr4_mask);
}

void x86_set_cr4(struct x86_cpu *c, u64 v)
{
	u64 changed = v ^ c->cr4;

	X86_RULE(c, !cr4_valid(c, v), X86_GP, 0, "CR4 has only bits that CPUID offers");
	if (c->efer & X86_EFER_LMA)
		X86_RULE(c, !(v & X86_CR4_PAE) || (changed & X86_CR4_LA57), X86_GP, 0,
			 "CR4.PAE stays set and CR4.LA57 as it is in long mode");
	if (changed & v & X86_CR4_PCIDE)
		X86_RULE(c, !(c->efer & X86_EFER_LMA) || (c->cr3 & 0xfff), X86_GP, 0,
			 "CR4.PCIDE is set in long mode, with PCID 0");
	if (pae_paging(c->cr0, v, c->efer) &&
	    (changed & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_SMEP)))
		X86_RULE(c, !x86_load_pdptes(c, c->cr3), X86_GP, 0,
			 "PDPTEs have no reserved bits set");
	c->cr4 = v;
	x86_simd_enable(c);
	if (changed & CR4_TRANSLATES)
		x86_tlb_flush_all(c);
	if (changed & X86_CR4_SMAP)
		x86_mmu_select(c);
}

bool x86_efer_valid(const struct x86_cpu *c, u64 v)
{
	return !(v & ~(c->feat->efer_mask | X86_EFER_LMA));
}

bool x86_sregs_valid(const struct x86_cpu *c, u64 cr0, u64 cr3, u64 cr4, u64 efer, u32 cs_attr)
{
	if (!cr0_valid(cr0) || !cr4_valid(c, cr4))
		return false;
	if ((efer & X86_EFER_LME) && (cr0 & X86_CR0_PG))
		return (cr4 & X86_CR4_PAE) && (efer & X86_EFER_LMA) &&
		       !(cr3 & physical_reserved(c));
	return !(efer & X86_EFER_LMA) && !(cs_attr & X86_SEG_L);
}

/* ---- XCR0 ---- */

#define XCR0_X87    BIT64(0)
#define XCR0_SSE    BIT64(1)
#define XCR0_AVX    BIT64(2)
#define XCR0_MPX    (BIT64(3) | BIT64(4))
#define XCR0_AVX512 (BIT64(5) | BIT64(6) | BIT64(7))
#define XCR0_AMX    (BIT64(17) | BIT64(18))

static bool all_or_none(u64 v, u64 bits)
{
	return !(v & bits) || (v & bits) == bits;
}

bool x86_xcr0_valid(const struct x86_cpu *c, u64 v)
{
	if (!(v & XCR0_X87) || (v & ~c->feat->xcr0_mask))
		return false;
	if ((v & XCR0_AVX) && !(v & XCR0_SSE))
		return false;
	if ((v & XCR0_AVX512) && !(v & XCR0_AVX))
		return false;
	return all_or_none(v, XCR0_MPX) && all_or_none(v, XCR0_AVX512) && all_or_none(v, XCR0_AMX);
}
