// SPDX-License-Identifier: MIT
/*
 * Instructions about descriptors: the table registers, LDTR and TR, and those that ask what a
 * selector names.
 *
 * Engine file. Loading segment registers is seg.c's. Source: SDM vol. 2, the instructions' own
 * pages.
 */
#include "cpu/x86/op_sys.h"

#define OP(name)	const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)
#define DESC_ATTR(desc) ((u32)((desc) >> 40) & 0xf0ffu)
#define TYPE_CODE	BIT(3)
#define TYPE_CONFORMING BIT(2)
#define TYPE_WRITABLE	BIT(1)

/* ---- table registers ---- */

static struct x86_dtable load_table(struct x86_cpu *c, const struct x86_insn *i)
{
	bool wide = x86_long_mode(c);
	struct x86_dtable t;
	u64 la;

	need_cpl0(c);
	la = x86_mem(c, i, wide ? 10 : 6, false);
	t.limit = x86_ld16(c, i->seg, la);
	t.base = wide ? x86_ld64(c, i->seg, la + 2) : x86_ld32(c, i->seg, la + 2);
	if (wide)
		X86_RULE(c, !x86_canonical(c, t.base), X86_GP, 0,
			 "a descriptor table's base is canonical");
	else if (i->opsize == 2)
		t.base &= 0xffffff;
	return t;
}

static const struct x86_insn *store_table(struct x86_cpu *c, const struct x86_insn *i,
					  const struct x86_dtable *t)
{
	u32 size = x86_long_mode(c) ? 10 : 6;
	u8 image[10];

	need_umip_off(c);
	x86_copy(image, &t->limit, 2);
	x86_copy(image + 2, &t->base, 8);
	x86_write_slow(c, i->seg, x86_mem(c, i, size, true), image, size);
	return x86_next(i);
}

OP(x86_op_lgdt)
{
	c->gdt = load_table(c, i);
	return x86_next(i);
}

OP(x86_op_lidt)
{
	c->idt = load_table(c, i);
	return x86_next(i);
}

OP(x86_op_sgdt)
{
	return store_table(c, i, &c->gdt);
}

OP(x86_op_sidt)
{
	return store_table(c, i, &c->idt);
}

/* LDT and TSS descriptors: 16 bytes in long mode. Checks all but the type and presence. */
static u64 system_desc(struct x86_cpu *c, u16 sel, struct x86_seg *s)
{
	u32 err = sel & 0xfffcu;
	u64 desc, high;

	X86_RULE(c, sel & 4, X86_GP, err, "LDT and TSS descriptors are in the GDT");
	X86_RULE(c, !x86_read_desc(c, sel, &desc), X86_GP, err,
		 "an LDT or TSS selector is within the GDT");
	x86_desc_to_seg(s, sel, desc);
	if (c->efer & X86_EFER_LMA) {
		X86_RULE(c, !x86_read_desc(c, (u16)(sel + 8), &high) || (high >> 40 & 0x1f), X86_GP,
			 err, "the upper half of a system descriptor has type 0");
		s->base |= high << 32;
		X86_RULE(c, !x86_canonical(c, s->base), X86_GP, err,
			 "an LDT's or TSS's base is canonical");
	}
	return desc;
}

OP(x86_op_lldt)
{
	struct x86_seg s;
	u16 sel;

	need_protected(c);
	need_cpl0(c);
	sel = load16(c, i, 0);
	if (!(sel & 0xfffcu)) {
		x86_null_seg(&c->seg[X86_LDTR], sel, 0);
		return x86_next(i);
	}
	system_desc(c, sel, &s);
	X86_RULE(c, (s.attr & (X86_SEG_S | X86_SEG_TYPE)) != 2, X86_GP, sel & 0xfffcu,
		 "LLDT loads an LDT");
	X86_RULE(c, !(s.attr & X86_SEG_P), X86_NP, sel & 0xfffcu, "an LDT is present");
	c->seg[X86_LDTR] = s;
	return x86_next(i);
}

OP(x86_op_ltr)
{
	struct x86_seg s;
	u32 type;
	u16 sel;
	u8 busy;
	u64 desc;

	need_protected(c);
	need_cpl0(c);
	sel = load16(c, i, 0);
	X86_RULE(c, !(sel & 0xfffcu), X86_GP, 0, "TR is not null");
	desc = system_desc(c, sel, &s);
	type = s.attr & (X86_SEG_S | X86_SEG_TYPE);
	X86_RULE(c, type != 9 && (type != 1 || (c->efer & X86_EFER_LMA)), X86_GP, sel & 0xfffcu,
		 "LTR loads an available TSS");
	X86_RULE(c, !(s.attr & X86_SEG_P), X86_NP, sel & 0xfffcu, "a TSS is present");
	busy = (u8)(desc >> 40) | 2;
	x86_sys_write(c, c->gdt.base + (sel & 0xfff8u) + 5, &busy, 1);
	s.attr |= 2;
	c->seg[X86_TR] = s;
	return x86_next(i);
}

OP(x86_op_sldt)
{
	need_protected(c);
	need_umip_off(c);
	return store16(c, i, c->seg[X86_LDTR].sel);
}

OP(x86_op_str)
{
	need_protected(c);
	need_umip_off(c);
	return store16(c, i, c->seg[X86_TR].sel);
}

/* ---- questions about descriptors ---- */

/* System types that LAR and LSL answer for. */
#define LAR_LEGACY (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(11) | BIT(12))
#define LAR_LONG   (BIT(2) | BIT(9) | BIT(11) | BIT(12))
#define LSL_LEGACY (BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(11))
#define LSL_LONG   (BIT(2) | BIT(9) | BIT(11))

/* Is the descriptor visible at CPL and RPL? system: which system types count. */
static bool desc_visible(struct x86_cpu *c, u16 sel, u32 system, u64 *desc)
{
	u32 attr;

	if (!(sel & 0xfffcu) || !x86_read_desc(c, sel, desc))
		return false;
	attr = DESC_ATTR(*desc);
	if (!(attr & X86_SEG_S) && !(system >> (attr & X86_SEG_TYPE) & 1))
		return false;
	if ((attr & X86_SEG_S) && (attr & TYPE_CODE) && (attr & TYPE_CONFORMING))
		return true;
	return X86_SEG_DPL(attr) >= MAX(c->cpl, sel & 3);
}

OP(x86_op_lar)
{
	u64 desc;
	bool ok;

	need_protected(c);
	ok = desc_visible(c, load16(c, i, 1), c->efer & X86_EFER_LMA ? LAR_LONG : LAR_LEGACY,
			  &desc);
	set_zf(c, ok);
	if (ok)
		x86_set_reg(c, i->reg[0], i->opsize, desc >> 32 & 0xf0ff00);
	return x86_next(i);
}

OP(x86_op_lsl)
{
	struct x86_seg s;
	u64 desc;
	bool ok;

	need_protected(c);
	ok = desc_visible(c, load16(c, i, 1), c->efer & X86_EFER_LMA ? LSL_LONG : LSL_LEGACY,
			  &desc);
	set_zf(c, ok);
	if (ok) {
		x86_desc_to_seg(&s, 0, desc);
		x86_set_reg(c, i->reg[0], i->opsize, s.limit);
	}
	return x86_next(i);
}

OP(x86_op_verr)
{
	u64 desc;

	need_protected(c);
	set_zf(c, desc_visible(c, load16(c, i, 0), 0, &desc) &&
			  (DESC_ATTR(desc) & (TYPE_CODE | TYPE_WRITABLE)) != TYPE_CODE);
	return x86_next(i);
}

OP(x86_op_verw)
{
	u64 desc;

	need_protected(c);
	set_zf(c, desc_visible(c, load16(c, i, 0), 0, &desc) &&
			  (DESC_ATTR(desc) & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_WRITABLE);
	return x86_next(i);
}

OP(x86_op_arpl)
{
	bool mem = i->flags & X86_I_MEM;
	u16 dst, rpl;

	need_protected(c);
	/* Memory is written only if it changes. */
	if (mem)
		dst = x86_ld16(c, i->seg, x86_mem(c, i, 2, false));
	else
		dst = X86_REG(c, i->reg[0], u16);
	rpl = X86_REG(c, i->reg[mem ? 0 : 1], u16) & 3;
	if ((dst & 3) < rpl) {
		dst = (u16)((dst & ~3u) | rpl);
		if (mem)
			x86_st16(c, i->seg, x86_mem(c, i, 2, true), dst);
		else
			X86_REG(c, i->reg[0], u16) = dst;
		set_zf(c, true);
	} else {
		set_zf(c, false);
	}
	return x86_next(i);
}
