// SPDX-License-Identifier: MIT
/*
 * Tier 1: where the guest's arithmetic flags are, and who may still read them.
 *
 * Outer file. Flags that an instruction leaves undefined count as written: no program can rely on them. Nothing is
 * assumed of calling conventions: beyond calls, returns and whatever is unknown all flags are read.
 */
#include "cpu/x86/tb_priv.h"

#include <pthread.h>

#define LOOKAHEAD 8

static ZydisDecoder decoder;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_decoder(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
}

/* ---- effects ---- */

/* Does a shift or rotate write its flags for sure? Not when its count can be zero. */
static bool count_is_nonzero(const ZydisDecodedInstruction *z)
{
	u64 count;

	if (z->raw.imm[0].size == 0)
		return (z->opcode & 0xfe) == 0xd0; /* by 1; the others by CL */
	count = z->raw.imm[0].value.u & (z->operand_width == 64 ? 63 : 31);
	if (z->mnemonic == ZYDIS_MNEMONIC_RCL || z->mnemonic == ZYDIS_MNEMONIC_RCR)
		return count && count < 8; /* modulo 9 or 17 for the narrow ones */
	return count;
}

void x86_tr_flag_effects(const ZydisDecodedInstruction *z, u16 *use, u16 *kill)
{
	const ZydisAccessedFlags *f = z->cpu_flags;
	u32 written, other;

	*use = *kill = 0;
	if (!f || z->mnemonic == ZYDIS_MNEMONIC_CLI || z->mnemonic == ZYDIS_MNEMONIC_STI)
		return;
	written = f->modified | f->set_0 | f->set_1 | f->undefined;
	other = (f->tested | written) & ~(u32)(X86_TR_FLAGS | X86_FLAG_DF);
	if (other) { /* PUSHF and everything of the system */
		*use = X86_TR_FLAGS;
		return;
	}
	*use = (u16)(f->tested & X86_TR_FLAGS);
	*kill = (u16)(written & X86_TR_FLAGS);
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_ROTATE:
		if (!count_is_nonzero(z))
			*kill = 0;
		break;
	case ZYDIS_CATEGORY_STRINGOP: /* REP with a count of zero */
		*kill = 0;
		break;
	default:
		break;
	}
}

/* ---- liveness ---- */

static bool bytes_known(const struct x86_tr *t, u32 first, u32 end)
{
	for (u32 l = first / X86_LINE_SIZE; l <= (end - 1) / X86_LINE_SIZE; l++)
		if (!t->page->line[l])
			return false;
	return true;
}

u16 x86_tr_live_at(const struct x86_tr *t, s32 off)
{
	u16 live = 0, killed = 0;

	pthread_once(&once, init_decoder);
	for (u32 k = 0; k < LOOKAHEAD; k++) {
		ZydisDecodedInstruction z;
		u32 end = MIN((u32)off + 15, (u32)PAGE_SIZE);
		u16 use, kill;

		if (off < 0 || off >= (s32)PAGE_SIZE || !bytes_known(t, (u32)off, end))
			break;
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, t->bytes + off,
								end - (u32)off, &z)))
			break;
		x86_tr_flag_effects(&z, &use, &kill);
		live |= use & ~killed;
		killed |= kill;
		if ((live | killed) == X86_TR_FLAGS)
			return live;
		switch (z.meta.category) {
		case ZYDIS_CATEGORY_COND_BR:
		case ZYDIS_CATEGORY_UNCOND_BR:
		case ZYDIS_CATEGORY_CALL:
		case ZYDIS_CATEGORY_RET:
		case ZYDIS_CATEGORY_INTERRUPT:
		case ZYDIS_CATEGORY_SYSCALL:
		case ZYDIS_CATEGORY_SYSRET:
		case ZYDIS_CATEGORY_SYSTEM:
			return live | (X86_TR_FLAGS & ~killed);
		default:
			break;
		}
		off += z.length;
	}
	return live | (X86_TR_FLAGS & ~killed);
}

static u16 live_behind(const struct x86_tr *t, u32 k)
{
	const struct x86_tr_insn *ti = &t->in[k];
	u16 live = 0;

	if (ti->branch)
		live |= ti->jump >= 0 ? t->in[ti->jump].live_in : x86_tr_live_at(t, ti->target);
	if (ti->branch && ti->inverted)
		live |= x86_tr_live_at(t, ti->next);
	if (k + 1 < t->n)
		live |= t->in[k + 1].live_in;
	else if (t->end >= 0)
		live |= x86_tr_live_at(t, t->end);
	else if (!ti->branch)
		live = X86_TR_FLAGS;
	return live;
}

/* A branch back into the block is reached before what it goes to has its final answer: hence rounds. */
void x86_tr_liveness(struct x86_tr *t)
{
	bool again;

	do {
		again = false;
		for (u32 k = t->n; k-- > 0;) {
			struct x86_tr_insn *ti = &t->in[k];
			u16 live;

			ti->live_out = live_behind(t, k);
			live = (u16)((ti->live_out & ~ti->kill) | ti->use);
			again |= ti->loop && live != ti->live_in;
			ti->live_in = live;
		}
	} while (again);
}

/* ---- moving them ---- */

void x86_tr_save_flags(struct x86_asm *a)
{
	asm_bytes(a, "\x9f\x0f\x90\xc0", 4); /* lahf; seto al */
	asm_op(a, OP_MOV_STORE | A_16, H_RAX, asm_gs(X86_GS(aflags)));
}

void x86_tr_load_flags(struct x86_asm *a)
{
	asm_op(a, 0xb7 | A_0F, H_RAX, asm_gs(X86_GS(aflags))); /* movzx eax, word */
	asm_bytes(a, "\x04\x7f\x9e", 3); /* add al, 0x7f: OF if it was 1; sahf: the others */
}

void x86_tr_to_slot(struct x86_tr *t)
{
	if (t->s.slot)
		return;
	if (!t->s.host)
		t->s.broken = true;
	x86_tr_save_flags(&t->a);
	t->rax = -1;
	t->s.slot = true;
}

void x86_tr_to_host(struct x86_tr *t)
{
	if (t->s.host)
		return;
	if (!t->s.slot)
		t->s.broken = true;
	x86_tr_load_flags(&t->a);
	t->rax = -1;
	t->s.host = true;
}

void x86_tr_clobber(struct x86_tr *t)
{
	if (t->cur->live_in)
		x86_tr_to_slot(t);
	t->s.host = false;
}

bool x86_tr_wants_flags(const struct x86_tr *t)
{
	const struct x86_tr_insn *ti = t->cur;
	const ZydisAccessedFlags *f = ti->d.z.cpu_flags;

	if (ti->use)
		return true;
	return f && (f->modified | f->set_0 | f->set_1 | f->undefined) && (ti->live_out & ~ti->kill);
}

void x86_tr_flags_done(struct x86_tr *t)
{
	const ZydisAccessedFlags *f = t->cur->d.z.cpu_flags;

	if (!f || !((f->modified | f->set_0 | f->set_1 | f->undefined) & X86_TR_FLAGS))
		return;
	t->s.host = true;
	t->s.slot = false;
}
