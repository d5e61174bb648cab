// SPDX-License-Identifier: MIT
/*
 * Tier 1's translator: picks the instructions of a block, has them emitted, and writes the cold code behind it.
 *
 * Outer file, pure but for its output. A trace goes up in addresses only: it falls through conditional branches and follows
 * forward jumps, so every cycle inside a block closes with a branch to a lower address.
 */
#include "cpu/x86/tb_priv.h"

#include <errno.h>
#include <pthread.h>

#define MAX_CALLS_OUT (X86_TB_MAX_EXITS - 2)
#define INSN_UNITS    (sizeof(struct x86_insn) / 16)

static ZydisDecoder decoder;
static bool host_bmi2;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	host_bmi2 = __builtin_cpu_supports("bmi2");
}

/* ---- the trace ---- */

const struct x86_insn *x86_tr_decoded(const struct x86_tr *t, s32 off, u32 *index)
{
	const struct x86_line *line;
	const struct x86_insn *i;
	u32 at;

	if (off < 0 || off >= (s32)PAGE_SIZE || !t->page->line[off / X86_LINE_SIZE])
		return NULL;
	line = x86_arena_at(t->code, t->page->line[off / X86_LINE_SIZE]);
	at = line->insn[off % X86_LINE_SIZE];
	if (!at)
		return NULL;
	i = x86_arena_at(t->code, at);
	if (i->len == 0 && (i->fn == x86_op_head || i->fn == x86_op_block)) {
		i++;
		at += INSN_UNITS;
	}
	/* What has no length is no instruction, or one that spans pages: tier 0's. */
	if (i->len == 0 || i->fn == x86_op_ud || i->fn == x86_op_unsupported)
		return NULL;
	*index = at;
	return i;
}

/* The bytes that tier 0 decoded, in one piece. */
static void gather_bytes(struct x86_tr *t)
{
	for (u32 l = 0; l < X86_PAGE_LINES; l++) {
		const struct x86_line *line;

		if (!t->page->line[l])
			continue;
		line = x86_arena_at(t->code, t->page->line[l]);
		memcpy(t->bytes + l * X86_LINE_SIZE, line->bytes, X86_LINE_SIZE);
	}
}

static bool take(struct x86_tr *t, s32 off)
{
	struct x86_tr_insn *ti = &t->in[t->n];

	ti->i = x86_tr_decoded(t, off, &ti->index);
	if (!ti->i)
		return false;
	ti->d.bytes = t->bytes + off;
	ti->d.bits = 8;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, ti->d.bytes, ti->i->len, &ti->d.z, ti->d.op)) ||
	    ti->d.z.length != ti->i->len)
		return false;
	x86_tr_flag_effects(&ti->d.z, &ti->use, &ti->kill);
	ti->next = off + ti->i->len;
	ti->branch = ti->inverted = ti->last = ti->label = ti->loop = ti->copied = false;
	ti->jump = -1;
	ti->simd_in = 0xff;
	ti->live_in = ti->live_out = 0;
	t->n++;
	return true;
}

static bool direct(struct x86_tr_insn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	s64 target;

	if (o->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !o->imm.is_relative)
		return false;
	target = ti->next + o->imm.value.s;
	if (target != (s32)target)
		return false;
	ti->target = (s32)target;
	return true;
}

static bool is_jcc(const struct x86_tr_insn *ti)
{
	return ti->d.z.mnemonic != ZYDIS_MNEMONIC_LOOP && ti->d.z.mnemonic != ZYDIS_MNEMONIC_LOOPE &&
	       ti->d.z.mnemonic != ZYDIS_MNEMONIC_LOOPNE && ti->d.z.mnemonic != ZYDIS_MNEMONIC_JCXZ &&
	       ti->d.z.mnemonic != ZYDIS_MNEMONIC_JECXZ && ti->d.z.mnemonic != ZYDIS_MNEMONIC_JRCXZ;
}

/* Where the trace goes on behind its newest instruction; -1: nowhere. */
static s32 follow(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u32 index;

	switch (ti->d.z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		ti->branch = direct(ti) && ti->d.z.mnemonic != ZYDIS_MNEMONIC_LOOPE &&
			     ti->d.z.mnemonic != ZYDIS_MNEMONIC_LOOPNE;
		t->exits++;
		if (ti->branch && is_jcc(ti) && ti->target > ti->next && !x86_tr_decoded(t, ti->next, &index) &&
		    x86_tr_decoded(t, ti->target, &index)) {
			ti->inverted = true;
			return ti->target;
		}
		return ti->next;
	case ZYDIS_CATEGORY_UNCOND_BR:
		ti->branch = direct(ti);
		if (ti->branch && ti->target >= ti->next && x86_tr_decoded(t, ti->target, &index))
			return ti->target;
		return -1;
	case ZYDIS_CATEGORY_CALL:
		ti->branch = direct(ti);
		return -1;
	case ZYDIS_CATEGORY_RET:
		return -1;
	default:
		return ti->next;
	}
}

static s16 find(const struct x86_tr *t, s32 off)
{
	for (u32 k = 0; k < t->n; k++)
		if (t->in[k].i->off == off)
			return (s16)k;
	return -1;
}

/* Jumps that stay inside. Calls may, too: recursion. */
static void link_inside(struct x86_tr *t)
{
	for (u32 k = 0; k < t->n; k++) {
		struct x86_tr_insn *ti = &t->in[k];

		if (!ti->branch || ti->inverted || (ti->d.z.meta.category == ZYDIS_CATEGORY_UNCOND_BR && !ti->last))
			continue;
		ti->jump = find(t, ti->target);
		if (ti->jump < 0)
			continue;
		t->in[ti->jump].label = true;
		if (ti->jump <= (s16)k)
			t->in[ti->jump].loop = true;
	}
}

static void form(struct x86_tr *t, s32 off, u32 max)
{
	t->n = t->exits = 0;
	while (t->n < max && t->exits < MAX_CALLS_OUT && off >= 0 && take(t, off)) {
		struct x86_tr_insn *ti = &t->in[t->n - 1];

		off = follow(t, ti);
		if (off >= 0 && !ti->branch && !x86_tr_harmless(ti)) {
			ti->last = true;
			t->end = -1;
			link_inside(t);
			return;
		}
	}
	t->end = off;
	if (t->n) {
		t->in[t->n - 1].last = true;
		/* A jump that the trace would have followed further ends it by itself. */
		if (t->in[t->n - 1].d.z.meta.category == ZYDIS_CATEGORY_UNCOND_BR)
			t->end = -1;
	}
	link_inside(t);
}

/* ---- pieces of code ---- */

static u32 rel_to(const struct x86_tr *t, enum x86_tb_stub stub)
{
	return t->out->stub[stub] - t->out->at;
}

void x86_tr_call(struct x86_tr *t, enum x86_tb_stub stub)
{
	asm_byte(&t->a, 0xe8);
	asm_u32(&t->a, rel_to(t, stub) - (t->a.n + 4));
}

void x86_tr_jmp(struct x86_tr *t, enum x86_tb_stub stub)
{
	asm_byte(&t->a, 0xe9);
	asm_u32(&t->a, rel_to(t, stub) - (t->a.n + 4));
}

void x86_tr_map(struct x86_tr *t)
{
	struct x86_tb_out *out = t->out;

	if (out->nr_map == ARRAY_SIZE(out->map)) {
		t->s.broken = true;
		return;
	}
	out->map[out->nr_map++] =
		(struct x86_tb_map){.host = t->a.n, .insn = t->cur->index, .flags_host = t->s.host && !t->s.slot};
}

struct x86_tr_cold *x86_tr_cold(struct x86_tr *t, enum x86_tr_cold_kind kind, u32 place)
{
	struct x86_tr_cold *c;

	if (t->ncold == X86_TR_MAX_COLD) {
		t->s.broken = true;
		return NULL;
	}
	c = &t->cold[t->ncold++];
	*c = (struct x86_tr_cold){
		.kind = (u8)kind, .nfix = 1, .simd = t->s.simd, .insn = -1, .back_copy = -1};
	c->fix[0] = place;
	if (t->cur)
		c->insn = (s16)(t->cur - t->in);
	return c;
}

void x86_tr_slow_if(struct x86_tr *t, u8 cc)
{
	u32 place = asm_jcc(&t->a, cc);

	if (!t->slow)
		t->slow = x86_tr_cold(t, X86_COLD_SLOW, place);
	else if (t->slow->nfix < ARRAY_SIZE(t->slow->fix))
		t->slow->fix[t->slow->nfix++] = place;
	else
		t->s.broken = true;
}

void x86_tr_copy_if(struct x86_tr *t, u8 cc)
{
	u32 place = asm_jcc(&t->a, cc);

	if (t->ncopy_fix == ARRAY_SIZE(t->copy_fix)) {
		t->s.broken = true;
		return;
	}
	t->copy_fix[t->ncopy_fix].place = place;
	t->copy_fix[t->ncopy_fix++].insn = (s16)(t->cur - t->in);
	t->cur->copied = true;
}

static void call_slow(struct x86_tr *t, const struct x86_tr_insn *ti, u8 simd)
{
	asm_mov_imm32(&t->a, H_RAX, ti->index);
	x86_tr_call(t, simd ? X86_STUB_SLOW_SIMD : X86_STUB_SLOW);
}

void x86_tr_slow(struct x86_tr *t)
{
	struct x86_tr_insn *ti = t->cur;

	if (ti->live_in)
		x86_tr_to_slot(t);
	call_slow(t, ti, t->s.simd);
	t->s.host = false;
	t->s.slot = true;
	t->s.groups = 0;
}

/* ---- the block ---- */

/* Where branches of the block arrive, the flags are in SLOT. */
static void label(struct x86_tr *t, struct x86_tr_insn *ti)
{
	t->rax = -1;
	if (ti->live_in)
		x86_tr_to_slot(t);
	else
		t->s.slot = false;
	t->s.host = false;
	t->s.simd &= ti->simd_in;
}

static bool falls_through(const struct x86_tr *t, const struct x86_tr_insn *ti)
{
	return !ti->last || t->end >= 0;
}

/* One instruction, and what its cold code goes back to. */
static void insn(struct x86_tr *t, struct x86_tr_insn *ti)
{
	struct x86_tr_state before = t->s;
	struct x86_asm a = t->a;
	u32 first = t->ncold, nr_map = t->out->nr_map, fixes = t->ncopy_fix;

	t->cur = ti;
	t->slow = NULL;
	t->keeps_rax = false;
	if (!x86_tr_emit(t, ti)) {
		t->a = a;
		t->s = before;
		t->ncold = first;
		t->out->nr_map = nr_map;
		t->ncopy_fix = fixes;
		x86_tr_slow(t);
		t->keeps_rax = false;
		if (!falls_through(t, ti))
			x86_tr_leave_at(t, ti->next);
	}
	if (!t->keeps_rax)
		t->rax = -1;
	for (u32 w = 0; w < ARRAY_SIZE(ti->share); w++)
		if (ti->share[w].last)
			t->s.groups &= (u16)~BIT(ti->share[w].group);
	for (u32 k = first; k < t->ncold; k++) {
		t->cold[k].back = t->a.n;
		t->cold[k].reload = t->s.host && ti->live_out;
		if (t->s.groups && !t->copying) {
			t->cold[k].back_copy = (s16)(ti + 1 - t->in);
			ti[1].copied = true;
		}
	}
}

static void hot(struct x86_tr *t)
{
	t->s = (struct x86_tr_state){.slot = true};
	t->rax = -1;
	t->copying = false;
	for (u32 k = 0; k < t->n; k++) {
		struct x86_tr_insn *ti = &t->in[k];

		t->cur = ti;
		if (ti->label)
			label(t, ti);
		ti->at = t->a.n;
		ti->state = t->s;
		if (ti->loop)
			x86_tr_poll(t, ti->i->off);
		insn(t, ti);
	}
	t->cur = NULL;
}

static void fall_out(struct x86_tr *t)
{
	t->cur = NULL;
	if (t->end < 0)
		return;
	if (x86_tr_live_at(t, t->end))
		x86_tr_to_slot(t);
	x86_tr_exit(t, t->end, false);
}

/* From a copy back to the block, at ti. */
static void rejoin(struct x86_tr *t, const struct x86_tr_insn *ti)
{
	if (ti->live_in && ti->state.slot)
		x86_tr_to_slot(t);
	if (ti->live_in && ti->state.host)
		x86_tr_to_host(t);
	asm_fix(&t->a, asm_jmp(&t->a), ti->at);
}

/* The copy from instruction k on, until no group is alive. Whoever comes to a copy has the flags in SLOT. Returns where it ended. */
static u32 copy(struct x86_tr *t, u32 k)
{
	t->copying = true;
	t->rax = -1;
	t->s = (struct x86_tr_state){.slot = true, .simd = t->in[k].state.simd, .broken = t->s.broken};
	for (;; k++) {
		struct x86_tr_insn *ti = &t->in[k];

		t->cur = ti;
		if (ti->copied) {
			if (ti->live_in)
				x86_tr_to_slot(t);
			t->s.host = false;
			ti->copy_at = t->a.n;
		}
		insn(t, ti);
		if (k + 1 == t->n) {
			fall_out(t);
			return k;
		}
		if (!t->in[k + 1].state.groups) {
			rejoin(t, &t->in[k + 1]);
			return k;
		}
	}
}

static void cold(struct x86_tr *t, const struct x86_tr_cold *c)
{
	struct x86_tr_insn *ti = c->insn >= 0 ? &t->in[c->insn] : NULL;
	u32 leave = 0;

	t->cur = ti;
	t->s.simd = c->simd;
	for (u32 k = 0; k < c->nfix; k++)
		asm_fix(&t->a, c->fix[k], t->a.n);
	switch ((enum x86_tr_cold_kind)c->kind) {
	case X86_COLD_SLOW:
	case X86_COLD_SIMD:
		call_slow(t, ti, c->simd);
		if (!falls_through(t, ti)) {
			x86_tr_leave_at(t, ti->next);
			return;
		}
		if (c->kind == X86_COLD_SIMD) {
			asm_op(&t->a, 0xf6, 0, asm_gs(X86_GS(simd_native)));
			asm_byte(&t->a, c->bit);
			leave = asm_jcc(&t->a, CC_E);
		}
		if (c->reload && c->back_copy < 0)
			x86_tr_load_flags(&t->a);
		asm_fix(&t->a, asm_jmp(&t->a), c->back_copy < 0 ? c->back : t->in[c->back_copy].copy_at);
		if (leave) {
			asm_fix(&t->a, leave, t->a.n);
			x86_tr_leave_at(t, ti->next);
		}
		return;
	case X86_COLD_EXIT:
		x86_tr_cold_exit(t, c);
		return;
	case X86_COLD_POLL:
		asm_mov_imm32(&t->a, H_RAX, (u32)c->off);
		x86_tr_jmp(t, X86_STUB_POLL);
		return;
	case X86_COLD_MISS:
		x86_tr_cold_miss(t, c);
		return;
	case X86_COLD_WINDOW:
		x86_tr_cold_window(t, c);
		return;
	}
}

static bool emit(struct x86_tr *t)
{
	struct x86_tb_out *out = t->out;

	t->a = (struct x86_asm){.code = out->code, .cap = sizeof(out->code)};
	t->ncold = t->nfix = t->ncopy_fix = out->nr_map = 0;
	hot(t);
	fall_out(t);
	for (u32 k = 0; k < t->n; k++)
		if (t->in[k].copied)
			k = copy(t, k);
	for (u32 k = 0; k < t->ncold; k++)
		cold(t, &t->cold[k]);
	for (u32 k = 0; k < t->nfix; k++)
		asm_fix(&t->a, t->fix[k].place, t->in[t->fix[k].insn].at);
	for (u32 k = 0; k < t->ncopy_fix; k++)
		asm_fix(&t->a, t->copy_fix[k].place, t->in[t->copy_fix[k].insn].copy_at);
	out->size = t->a.n;
	out->nr_insns = t->n;
	return !t->s.broken && !t->a.full;
}

int x86_tb_translate(struct x86_code *code, struct x86_code_page *page, u8 set, u32 off, struct x86_tb_out *out)
{
	struct x86_tr t;

	pthread_once(&once, init);
	t.code = code;
	t.page = page;
	t.set = set;
	t.out = out;
	t.bmi2 = host_bmi2;
	gather_bytes(&t);
	for (u32 max = X86_TB_MAX_INSNS; max; max /= 2) {
		form(&t, (s32)off, max);
		if (!t.n)
			return -ENOSPC;
		x86_tr_liveness(&t);
		x86_tr_share(&t);
		if (emit(&t))
			return 0;
	}
	return -ENOSPC;
}
