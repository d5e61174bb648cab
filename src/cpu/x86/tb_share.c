// SPDX-License-Identifier: MIT
/*
 * Tier 1: one look-up in the TLB for several accesses near each other.
 *
 * Accesses of a block with the same unchanged base (and index), no label and no SLOW between them, form a group. The
 * first one checks the span of all, and keeps the difference of host and guest address in the red zone of the C stack, where the
 * others find it. Nothing can take a translation away meanwhile: that happens only at polls and in tier 0.
 *
 * Where the check of a span fails, or an instruction among the group went to tier 0, the block goes on in a second copy of
 * the instructions concerned, each with a check of its own, until the groups at hand are through.
 *
 * Outer file. Planning only looks at operands; whether a group is usable is known while emitting (struct x86_tr_state).
 */
#include "cpu/x86/tb_priv.h"

#define SPAN_MAX 256 /* the longer, the more often it spans two pages */

/* What an access is relative to; version numbers tell a register's values apart. */
struct key {
	u8 base, index, scale;
	u32 base_version, index_version, region;
};

struct access {
	struct key key;
	s64 disp; /* RSP: from its value at the start of the region */
	u16 insn;
	u8 which; /* operand, or stack */
	u8 size;
	bool write, grouped;
	u16 branches; /* in front of it */
};

#define MAX_ACCESSES (X86_TB_MAX_INSNS * 2)

struct plan {
	struct access a[MAX_ACCESSES];
	u32 n;
	u32 version[16];
	s64 rsp; /* how far it is from its value at the start of its version */
	u32 region;
	u16 branches;
};

/* ---- collecting ---- */

static bool usable(u8 slot)
{
	return slot == X86_GPR_CODEPAGE || slot < 16;
}

static u32 version(const struct plan *p, u8 slot)
{
	return slot < 16 ? p->version[slot] : 0;
}

static void add(struct plan *p, u16 insn, u8 which, u8 base, u8 index, u8 scale, s64 disp, u32 size, bool write)
{
	if (p->n == MAX_ACCESSES || size > 64)
		return;
	if (base == X86_RSP)
		disp += p->rsp;
	p->a[p->n++] = (struct access){
		.key = {base, index, scale, version(p, base), version(p, index), p->region},
		.disp = disp,
		.insn = insn,
		.which = which,
		.size = (u8)size,
		.write = write,
		.branches = p->branches,
	};
}

static void add_operand(struct plan *p, u16 insn, const struct x86_tr_insn *ti)
{
	const struct x86_insn *i = ti->i;

	if (!(i->flags & X86_I_MEM) || i->asize != 8 || i->seg >= X86_FS || !usable(i->base) ||
	    (i->index != X86_GPR_ZERO && !x86_tr_resident(i->index)))
		return;
	for (u32 k = 0; k < ti->d.z.operand_count; k++) {
		const ZydisDecodedOperand *o = &ti->d.op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
		    o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM && o->size) {
			add(p, insn, X86_TR_OPERAND, i->base, i->index, i->index == X86_GPR_ZERO ? 0 : i->scale, i->disp,
			    o->size / 8, o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
			return;
		}
	}
}

static void add_stack(struct plan *p, u16 insn, const struct x86_tr_insn *ti)
{
	if (ti->d.z.operand_width != 64 && ti->d.z.mnemonic != ZYDIS_MNEMONIC_CALL && ti->d.z.mnemonic != ZYDIS_MNEMONIC_RET)
		return;
	switch (ti->d.z.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_CALL:
		add(p, insn, X86_TR_STACK, X86_RSP, X86_GPR_ZERO, 0, -8, 8, true);
		break;
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_RET:
		add(p, insn, X86_TR_STACK, X86_RSP, X86_GPR_ZERO, 0, 0, 8, false);
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		add(p, insn, X86_TR_STACK, X86_RBP, X86_GPR_ZERO, 0, 0, 8, false);
		break;
	default:
		break;
	}
}

/* By how much the instruction moves RSP, if that is known. */
static bool moves_rsp(const struct x86_tr_insn *ti, s64 *by)
{
	const ZydisDecodedOperand *o = ti->d.op;
	bool rsp = o[0].type == ZYDIS_OPERAND_TYPE_REGISTER && o[0].reg.value == ZYDIS_REGISTER_RSP;

	switch (ti->d.z.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFQ:
		*by = -8;
		return ti->d.z.operand_width == 64;
	case ZYDIS_MNEMONIC_POP:
		*by = 8;
		return ti->d.z.operand_width == 64 && !rsp;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (!rsp || o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
		*by = ti->d.z.mnemonic == ZYDIS_MNEMONIC_ADD ? o[1].imm.value.s : -o[1].imm.value.s;
		return true;
	case ZYDIS_MNEMONIC_LEA:
		*by = ti->i->disp;
		return rsp && ti->i->base == X86_RSP && ti->i->index == X86_GPR_ZERO && ti->i->asize == 8;
	default:
		return false;
	}
}

static void note_writes(struct plan *p, const struct x86_tr_insn *ti)
{
	for (u32 k = 0; k < ti->d.z.operand_count; k++) {
		const ZydisDecodedOperand *o = &ti->d.op[k];
		ZydisRegister full;
		s64 by;
		u8 g;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
		if (ZydisRegisterGetClass(full) != ZYDIS_REGCLASS_GPR64)
			continue;
		g = (u8)ZydisRegisterGetId(full);
		if (g != X86_RSP) {
			p->version[g]++;
		} else if (moves_rsp(ti, &by)) {
			p->rsp += by;
			return; /* PUSH and POP name it once more as a hidden operand */
		} else {
			p->version[g]++;
			p->rsp = 0;
		}
	}
}

static void collect(const struct x86_tr *t, struct plan *p)
{
	p->n = 0;
	p->region = 0;
	p->rsp = 0;
	p->branches = 0;
	memset(p->version, 0, sizeof(p->version));
	for (u32 k = 0; k < t->n; k++) {
		const struct x86_tr_insn *ti = &t->in[k];

		if (ti->label)
			p->region++;
		if (!x86_tr_has_emitter(ti)) {
			p->region++;
		} else {
			add_operand(p, (u16)k, ti);
			add_stack(p, (u16)k, ti);
		}
		note_writes(p, ti);
		p->branches += ti->branch;
	}
}

/* ---- grouping ---- */

static bool same_key(const struct key *a, const struct key *b)
{
	return a->base == b->base && a->index == b->index && a->scale == b->scale && a->base_version == b->base_version &&
	       a->index_version == b->index_version && a->region == b->region;
}

struct span {
	s64 lo, hi;
	bool write;
};

/*
 * May b join the group that a leads? A store does not join behind a load if a branch may keep it from being reached: pages that are
 * read but not written would fail the check for nothing.
 */
static bool joins(const struct access *a, const struct access *b, struct span *s)
{
	s64 lo = MIN(s->lo, b->disp), hi = MAX(s->hi, b->disp + b->size);

	if (b->grouped || !same_key(&a->key, &b->key) || hi - lo > SPAN_MAX)
		return false;
	if (b->write && !s->write) {
		if (a->branches != b->branches)
			return false;
		s->write = true;
	}
	s->lo = lo;
	s->hi = hi;
	return true;
}

static struct x86_tr_share *share_of(struct x86_tr *t, const struct access *a)
{
	return &t->in[a->insn].share[a->which];
}

/* Makes a group of a and what can join it. */
static bool group(struct x86_tr *t, struct plan *p, u32 first, s8 number)
{
	struct access *a = &p->a[first];
	struct span s = {a->disp, a->disp + a->size, a->write};
	struct x86_tr_share *last = NULL;

	for (u32 k = first + 1; k < p->n && p->a[k].key.region == a->key.region; k++) {
		if (!joins(a, &p->a[k], &s))
			continue;
		p->a[k].grouped = true;
		last = share_of(t, &p->a[k]);
		last->group = number;
	}
	if (!last)
		return false;
	last->last = true;
	*share_of(t, a) = (struct x86_tr_share){.group = number,
						.leads = true,
						.write = s.write,
						.lo = (s32)(s.lo - a->disp),
						.span = (u32)(s.hi - s.lo)};
	return true;
}

void x86_tr_share(struct x86_tr *t)
{
	struct plan p;
	u32 region = 0;
	s8 groups = 0;

	for (u32 k = 0; k < t->n; k++)
		for (u32 w = 0; w < ARRAY_SIZE(t->in[k].share); w++)
			t->in[k].share[w] = (struct x86_tr_share){.group = -1};
	collect(t, &p);
	for (u32 k = 0; k < p.n; k++) {
		if (p.a[k].key.region != region) {
			region = p.a[k].key.region;
			groups = 0;
		}
		if (!p.a[k].grouped && groups < X86_TR_MAX_GROUPS && group(t, &p, k, groups))
			groups++;
	}
}
