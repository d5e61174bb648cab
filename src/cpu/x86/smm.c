// SPDX-License-Identifier: MIT
/*
 * System management mode: entry by SMI, the save-state area, return by RSM.
 *
 * Engine file. Two layouts of the area, as in KVM: AMD64's for CPUs with long mode, the 32-bit one
 * without. Knows nothing of what firmware does in SMM. Source: APM vol. 2 "System-Management Mode"
 * (tables of the save-state area).
 */
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/run.h"
#include "cpu/x86/seg.h"
#include "cpu/x86/simd.h"

#define AREA_BASE     0xfe00 /* from SMBASE */
#define AREA_SIZE     512
#define AREA_OFF      0x7e00 /* of the manuals' numbers, which count from SMBASE + 8000h */
#define REVISION_AT   0x7efc
#define REVISION_32   0x00020000u
#define REVISION_64   0x00020064u
#define SMBASE_AT_32  0x7ef8
#define SMBASE_AT_64  0x7f00
#define SMM_ENTRY_RIP 0x8000

struct area {
	u8 bytes[AREA_SIZE];
	bool load;
};

/* Moves a value of `size` bytes between the area and *v, in the direction that the area is used in.
 */
static void move(struct area *a, u32 at, u64 *v, u32 size)
{
	u8 *p = a->bytes + at - AREA_OFF;

	if (a->load) {
		*v = 0;
		x86_copy(v, p, size);
	} else {
		x86_copy(p, v, size);
	}
}

static void move16(struct area *a, u32 at, u16 *v)
{
	u64 wide = *v;

	move(a, at, &wide, 2);
	*v = (u16)wide;
}

static void move32(struct area *a, u32 at, u32 *v)
{
	u64 wide = *v;

	move(a, at, &wide, 4);
	*v = (u32)wide;
}

/* ---- segments: the area has no "unusable"; there it is a segment that is not present ---- */

static u64 attr_to_area(u32 attr)
{
	return attr & X86_SEG_UNUSABLE ? attr & 0xf0ff & ~X86_SEG_P : attr & 0xf0ff;
}

static u32 attr_from_area(u64 v)
{
	return (u32)(v & 0xf0ff) | (v & X86_SEG_P ? 0 : X86_SEG_UNUSABLE);
}

static void move_seg64(struct area *a, u32 at, struct x86_seg *s)
{
	u64 attr = attr_to_area(s->attr);

	move16(a, at, &s->sel);
	move(a, at + 2, &attr, 2);
	move32(a, at + 4, &s->limit);
	move(a, at + 8, &s->base, 8);
	if (a->load)
		s->attr = attr_from_area(attr);
}

static void move_seg32(struct area *a, u32 sel_at, u32 at, struct x86_seg *s)
{
	/* Rights as in a descriptor's upper half. */
	u64 attr = attr_to_area(s->attr) << 8;

	move16(a, sel_at, &s->sel);
	move(a, at, &attr, 4);
	move32(a, at + 4, &s->limit);
	move(a, at + 8, &s->base, 4);
	if (a->load)
		s->attr = attr_from_area(attr >> 8);
}

static void move_table64(struct area *a, u32 at, struct x86_dtable *t)
{
	move16(a, at + 4, &t->limit);
	move(a, at + 8, &t->base, 8);
}

static void move_table32(struct area *a, u32 limit_at, u32 base_at, struct x86_dtable *t)
{
	move16(a, limit_at, &t->limit);
	move(a, base_at, &t->base, 4);
}

/* ---- the two layouts ---- */

/* What of the CPU is in the area; loaded as a whole before anything is committed. */
struct saved {
	u64 gpr[16], rip, rflags, cr0, cr3, cr4, efer, dr6, dr7, smbase;
	struct x86_seg seg[X86_NR_SREGS];
	struct x86_dtable gdt, idt;
};

static void move64(struct area *a, struct saved *s)
{
	for (u32 n = 0; n < 16; n++)
		move(a, 0x7ff8 - n * 8, &s->gpr[n], 8);
	move(a, 0x7f78, &s->rip, 8);
	move(a, 0x7f70, &s->rflags, 8);
	move(a, 0x7f68, &s->dr6, 8);
	move(a, 0x7f60, &s->dr7, 8);
	move(a, 0x7f58, &s->cr0, 8);
	move(a, 0x7f50, &s->cr3, 8);
	move(a, 0x7f48, &s->cr4, 8);
	move(a, SMBASE_AT_64, &s->smbase, 4);
	move(a, 0x7ed0, &s->efer, 8);
	move_seg64(a, 0x7e90, &s->seg[X86_TR]);
	move_table64(a, 0x7e80, &s->idt);
	move_seg64(a, 0x7e70, &s->seg[X86_LDTR]);
	move_table64(a, 0x7e60, &s->gdt);
	for (u32 n = X86_ES; n <= X86_GS; n++)
		move_seg64(a, 0x7e00 + n * 16, &s->seg[n]);
}

static void move32map(struct area *a, struct saved *s)
{
	for (u32 n = 0; n < 8; n++)
		move(a, 0x7fd0 + n * 4, &s->gpr[n], 4);
	move(a, 0x7ffc, &s->cr0, 4);
	move(a, 0x7ff8, &s->cr3, 4);
	move(a, 0x7ff4, &s->rflags, 4);
	move(a, 0x7ff0, &s->rip, 4);
	move(a, 0x7fcc, &s->dr6, 4);
	move(a, 0x7fc8, &s->dr7, 4);
	move_seg32(a, 0x7fc4, 0x7f5c, &s->seg[X86_TR]);
	move_seg32(a, 0x7fc0, 0x7f78, &s->seg[X86_LDTR]);
	move_table32(a, 0x7f70, 0x7f74, &s->gdt);
	move_table32(a, 0x7f54, 0x7f58, &s->idt);
	for (u32 n = X86_ES; n <= X86_GS; n++)
		move_seg32(a, 0x7fa8 + n * 4,
			   n < X86_DS ? 0x7f84 + n * 12 : 0x7f2c + (n - X86_DS) * 12, &s->seg[n]);
	move(a, 0x7f14, &s->cr4, 4);
	move(a, SMBASE_AT_32, &s->smbase, 4);
}

static void move_all(struct x86_cpu *c, struct area *a, struct saved *s)
{
	if (c->feat->lm)
		move64(a, s);
	else
		move32map(a, s);
}

static void collect(const struct x86_cpu *c, struct saved *s)
{
	x86_copy(s->gpr, c->gpr, sizeof(s->gpr));
	x86_copy(s->seg, c->seg, sizeof(s->seg));
	s->rip = c->rip;
	s->rflags = x86_rflags(c);
	s->cr0 = c->cr0;
	s->cr3 = c->cr3;
	s->cr4 = c->cr4;
	s->efer = c->efer;
	s->dr6 = c->dr6;
	s->dr7 = c->dr7;
	s->smbase = c->msr.smbase;
	s->gdt = c->gdt;
	s->idt = c->idt;
}

static void restore(struct x86_cpu *c, const struct saved *s)
{
	x86_copy(c->gpr, s->gpr, sizeof(s->gpr));
	x86_copy(c->seg, s->seg, sizeof(s->seg));
	c->rip = s->rip;
	x86_set_rflags(c, s->rflags);
	c->cr0 = s->cr0;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	c->dr6 = (s->dr6 & 0xe00f) | 0xffff0ff0;
	c->dr7 = (s->dr7 & 0xffff23ff) | 0x400;
	c->msr.smbase = s->smbase;
	c->gdt = s->gdt;
	c->idt = s->idt;
}

/* ---- in and out ---- */

/* The other address space for an access that the host may refuse: nothing else has changed yet. */
static void smm_try(struct x86_cpu *c, bool smm)
{
	c->undo.smm = c->smm;
	c->undo.smm_trial = true;
	c->smm = smm;
}

void x86_smi(struct x86_cpu *c)
{
	struct area a = {.load = false};
	u64 revision = c->feat->lm ? REVISION_64 : REVISION_32;
	struct saved s;

	collect(c, &s);
	move_all(c, &a, &s);
	move(&a, REVISION_AT, &revision, 4);

	/* The area is in SMRAM, which only this address space may show. */
	smm_try(c, true);
	x86_phys_write(c, c->msr.smbase + AREA_BASE, a.bytes, AREA_SIZE);
	c->undo.smm_trial = false;
	__atomic_store_n(&c->smi_pending, 0, __ATOMIC_RELEASE);

	c->msr.smi_count++;
	c->smm_inside_nmi = c->nmi_masked;
	c->nmi_masked = true;
	c->halted = false;
	c->shadow = 0;
	x86_set_rflags(c, 0);
	c->rip = SMM_ENTRY_RIP;
	c->cr0 &= ~(u64)(X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG);
	c->cr4 = 0;
	c->efer = 0;
	c->dr7 = 0x400;
	c->idt = (struct x86_dtable){0};
	for (u32 n = X86_ES; n <= X86_GS; n++)
		c->seg[n] = (struct x86_seg){.limit = 0xffffffff,
					     .attr = X86_SEG_P | X86_SEG_S | X86_SEG_G | 3};
	c->seg[X86_CS].sel = (u16)(c->msr.smbase >> 4);
	c->seg[X86_CS].base = c->msr.smbase;
	x86_tlb_flush_all(c);
	x86_seg_changed(c);
	x86_simd_enable(c);
	x86_break(c);
}

const struct x86_insn *x86_op_rsm(struct x86_cpu *c, const struct x86_insn *i)
{
	struct area a = {.load = true};
	struct saved s;
	bool valid;

	X86_RULE(c, !c->smm, X86_UD, 0, "RSM is of system management mode");
	collect(c, &s);
	x86_phys_read(c, c->msr.smbase + AREA_BASE, a.bytes, AREA_SIZE);
	move_all(c, &a, &s);
	s.efer &= ~(u64)X86_EFER_LMA;
	if ((s.efer & X86_EFER_LME) && (s.cr0 & X86_CR0_PG))
		s.efer |= X86_EFER_LMA;
	if (!x86_sregs_valid(c, s.cr0, s.cr3, s.cr4, s.efer,
			     s.efer & X86_EFER_LMA ? 0 : s.seg[X86_CS].attr) ||
	    !x86_efer_valid(c, s.efer))
		x86_leave(c, X86_EXIT_SHUTDOWN);

	smm_try(c, false);
	valid = !(s.cr0 & X86_CR0_PG) || !(s.cr4 & X86_CR4_PAE) || (s.efer & X86_EFER_LMA) ||
		x86_load_pdptes(c, s.cr3);
	c->undo.smm_trial = false;
	restore(c, &s);
	c->nmi_masked = c->smm_inside_nmi;
	c->smm_inside_nmi = false;
	x86_tlb_flush_all(c);
	x86_seg_changed(c);
	x86_simd_enable(c);
	if (!valid)
		x86_leave(c, X86_EXIT_SHUTDOWN);
	/* NMIs, SMIs and interrupts that waited. */
	x86_request(c, X86_REQ_EVENT);
	return NULL;
}
