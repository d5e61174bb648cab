// SPDX-License-Identifier: MIT
/*
 * Tier 1: branches, calls, returns, and the ways out of a block.
 *
 * Outer file. Inside the page a block goes on through a jump that the runtime may patch; to other pages through the jump
 * cache. Every cycle has an edge to a lower address, an indirect one or a return, and these look at cpu->req.
 */
#include "cpu/x86/tb_priv.h"

/* ---- polls and exits ---- */

static void compare_req(struct x86_tr *t)
{
	asm_alu_imm(&t->a, 0, 7, asm_gs(X86_GS(req)), 0);
}

void x86_tr_poll(struct x86_tr *t, s32 off)
{
	struct x86_tr_cold *c;

	compare_req(t);
	c = x86_tr_cold(t, X86_COLD_POLL, asm_jcc(&t->a, CC_NE));
	if (c)
		c->off = off;
}

/*
 * Only the displacement of a jump is patched, in one store: it must not span two 8-byte words. It follows `opcode` bytes that are
 * to be emitted next.
 */
static void align_site(struct x86_tr *t, u32 opcode)
{
	u32 field = (t->out->at + t->a.n + opcode) & 7;

	if (field > 4)
		asm_bytes(&t->a, &"\x66\x66\x90"[field - 5], 8 - field);
}

/* What a jump does that is not patched yet; place is its displacement. The stub knows the byte before that. */
static void ask_for_block(struct x86_tr *t, s32 off, u32 place)
{
	asm_mov_imm32(&t->a, H_RAX, (u32)off);
	asm_mov_imm32(&t->a, H_RCX, t->out->at + place - 1);
	x86_tr_jmp(t, X86_STUB_PAGE);
}

void x86_tr_load_rip(struct x86_tr *t, u8 to, s32 off)
{
	asm_load(&t->a, to, asm_gs(X86_GS(gpr[X86_GPR_CODEPAGE])));
	if (off)
		asm_lea(&t->a, to, asm_mem(to, off));
}

/* What was executed may have changed the mode, so nothing is chained here. */
void x86_tr_leave_at(struct x86_tr *t, s32 off)
{
	if (off >= (s32)PAGE_SIZE) {
		x86_tr_load_rip(t, H_RAX, off);
		x86_tr_jmp(t, X86_STUB_MISS);
		return;
	}
	asm_mov_imm32(&t->a, H_RAX, (u32)off);
	asm_mov_imm32(&t->a, H_RCX, 0);
	x86_tr_jmp(t, X86_STUB_PAGE);
}

/*
 * Goes on at RAX through the jump cache. rsp is added to RSP once nothing can fail any more, undo when the target turns
 * out to be bad.
 */
static void look_up(struct x86_tr *t, bool poll, s32 rsp, s32 undo)
{
	struct x86_asm *a = &t->a;
	struct x86_tr_cold *c = NULL;
	s32 at = X86_GS_JC(t->set);

	if (poll) {
		compare_req(t);
		c = x86_tr_cold(t, X86_COLD_MISS, asm_jcc(a, CC_NE));
	}
	asm_op(a, OP_MOV_LOAD, H_RCX, asm_reg(H_RAX));
	asm_bytes(a, "\xc1\xe9\x0c", 3);		      /* shr ecx, 12 */
	asm_op(a, 0x33, H_RCX, asm_reg(H_RAX));	      /* xor ecx, eax */
	asm_alu_imm(a, 0, 4, asm_reg(H_RCX), X86_JC_SIZE - 1); /* and */
	asm_bytes(a, "\xc1\xe1\x04", 3);		      /* shl ecx, 4 */
	asm_op(a, 0x39 | A_W, H_RAX, asm_gs_at(H_RCX, at + (s32)offsetof(struct x86_jc_entry, rip)));
	if (c)
		c->fix[c->nfix++] = asm_jcc(a, CC_NE);
	else
		c = x86_tr_cold(t, X86_COLD_MISS, asm_jcc(a, CC_NE));
	if (c) {
		c->rsp = rsp;
		c->undo = undo;
	}
	if (rsp)
		asm_lea(a, x86_tr_host(X86_RSP), asm_mem(x86_tr_host(X86_RSP), rsp));
	asm_alu_imm(a, A_W, 4, asm_reg(H_RAX), -(s32)PAGE_SIZE);
	asm_store(a, asm_gs(X86_GS(gpr[X86_GPR_CODEPAGE])), H_RAX);
	asm_op(a, 0xff, 4, asm_gs_at(H_RCX, at + (s32)offsetof(struct x86_jc_entry, host)));
}

void x86_tr_if_not_canonical(struct x86_tr *t)
{
	asm_mov(&t->a, H_RCX, H_RAX);
	asm_bytes(&t->a, "\x48\xc1\xe1\x10\x48\xc1\xf9\x10", 8); /* shl rcx, 16; sar rcx, 16 */
	asm_op(&t->a, 0x39 | A_W, H_RAX, asm_reg(H_RCX));
}

/*
 * The stub wants a canonical address. What is not, or only with 57 bits, is tier 0's: it raises #GP as the instruction at
 * hand does. Falling off the page's end is no branch; there the fetch faults.
 */
void x86_tr_cold_miss(struct x86_tr *t, const struct x86_tr_cold *c)
{
	struct x86_asm *a = &t->a;
	u8 rsp = x86_tr_host(X86_RSP);
	u32 bad = 0;

	if (c->insn >= 0) {
		x86_tr_if_not_canonical(t);
		bad = asm_jcc(a, CC_NE);
	}
	if (c->rsp)
		asm_lea(a, rsp, asm_mem(rsp, c->rsp));
	x86_tr_jmp(t, X86_STUB_MISS);
	if (c->insn >= 0) {
		asm_fix(a, bad, a->n);
		if (c->undo)
			asm_lea(a, rsp, asm_mem(rsp, c->undo));
		asm_mov_imm32(a, H_RAX, t->in[c->insn].index);
		x86_tr_call(t, c->simd ? X86_STUB_SLOW_SIMD : X86_STUB_SLOW);
		x86_tr_leave_at(t, t->in[c->insn].next);
	}
}

void x86_tr_exit(struct x86_tr *t, s32 off, bool poll)
{
	u32 place;

	if (off < 0 || off >= (s32)PAGE_SIZE) {
		x86_tr_load_rip(t, H_RAX, off);
		look_up(t, poll, 0, 0);
		return;
	}
	if (poll)
		x86_tr_poll(t, off);
	align_site(t, 1);
	place = asm_jmp(&t->a);
	asm_fix(&t->a, place, t->a.n);
	ask_for_block(t, off, place);
}

void x86_tr_cold_exit(struct x86_tr *t, const struct x86_tr_cold *c)
{
	if (c->site) {
		ask_for_block(t, c->off, c->site);
		return;
	}
	if (c->save)
		x86_tr_save_flags(&t->a);
	x86_tr_exit(t, c->off, c->poll);
}

/* ---- direct branches ---- */

/* A jump inside the block, or to one of its exits; place is its rel32. Flags are as t says. */
static void connect(struct x86_tr *t, u32 place, s16 jump, s32 off, bool poll)
{
	struct x86_tr_cold *c;

	if (jump >= 0) {
		if (t->nfix == X86_TR_MAX_FIX) {
			t->s.broken = true;
			return;
		}
		t->fix[t->nfix].place = place;
		t->fix[t->nfix++].insn = jump;
		t->in[jump].simd_in &= t->s.simd;
		return;
	}
	c = x86_tr_cold(t, X86_COLD_EXIT, place);
	if (!c)
		return;
	c->off = off;
	c->poll = poll;
	c->save = t->s.host && !t->s.slot && x86_tr_live_at(t, off);
}

/* Labels inside the block want flags in SLOT. */
static void prepare(struct x86_tr *t, const struct x86_tr_insn *ti)
{
	if (ti->jump >= 0 && !ti->inverted && t->in[ti->jump].live_in)
		x86_tr_to_slot(t);
}

static bool backward(const struct x86_tr_insn *ti)
{
	return ti->target < ti->next;
}

/* Out of the block with nothing to be done on the way: the branch itself can be patched. */
static bool leaves_at_once(struct x86_tr *t, s32 off, bool poll)
{
	return off >= 0 && off < (s32)PAGE_SIZE && !poll && (t->s.slot || !x86_tr_live_at(t, off));
}

bool x86_tr_jcc(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u8 cc = (ti->d.z.opcode & 15) ^ ti->inverted;
	s32 off = ti->inverted ? ti->next : ti->target;
	s16 jump = ti->inverted ? -1 : ti->jump;
	bool poll = !ti->inverted && backward(ti);
	struct x86_tr_cold *c;
	u32 place;

	x86_tr_to_host(t);
	prepare(t, ti);
	if (jump >= 0 || !leaves_at_once(t, off, poll)) {
		connect(t, asm_jcc(&t->a, cc), jump, off, poll);
		return true;
	}
	align_site(t, 2);
	place = asm_jcc(&t->a, cc);
	c = x86_tr_cold(t, X86_COLD_EXIT, place);
	if (c) {
		c->off = off;
		c->site = place;
	}
	return true;
}

/* RCX = the counter, as wide as the address size; then JRCXZ over a jump, or to one. */
static void counter(struct x86_tr *t, const struct x86_tr_insn *ti, u8 skip)
{
	asm_op(&t->a, OP_MOV_LOAD | (ti->i->asize == 8 ? A_W : 0), H_RCX, asm_reg(x86_tr_host(X86_RCX)));
	asm_byte(&t->a, 0xe3);
	asm_byte(&t->a, skip);
}

bool x86_tr_jcxz(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (ti->i->asize < 4)
		return false;
	prepare(t, ti);
	counter(t, ti, 2);
	asm_bytes(&t->a, "\xeb\x05", 2); /* over the jump */
	connect(t, asm_jmp(&t->a), ti->jump, ti->target, backward(ti));
	return true;
}

bool x86_tr_loop(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u8 rcx = x86_tr_host(X86_RCX);

	if (ti->i->asize < 4)
		return false;
	prepare(t, ti);
	asm_op(&t->a, OP_LEA | (ti->i->asize == 8 ? A_W : 0), rcx, asm_mem(rcx, -1));
	counter(t, ti, 5);
	connect(t, asm_jmp(&t->a), ti->jump, ti->target, backward(ti));
	return true;
}

static void go(struct x86_tr *t, const struct x86_tr_insn *ti)
{
	if (ti->jump >= 0) {
		if (t->in[ti->jump].live_in)
			x86_tr_to_slot(t);
		connect(t, asm_jmp(&t->a), ti->jump, 0, false);
		return;
	}
	if (ti->live_out)
		x86_tr_to_slot(t);
	x86_tr_exit(t, ti->target, backward(ti));
}

static bool load_target(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u32 g = ti->i->reg[0] / 8;
	struct asm_rm at;

	x86_tr_clobber(t);
	if (ti->d.op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		x86_tr_get(t, H_RAX, g);
		return true;
	}
	if (!x86_tr_check(t, ti->i, 8, false, &at))
		return false;
	x86_tr_map(t);
	asm_load(&t->a, H_RAX, at);
	t->rax = -1;
	return true;
}

bool x86_tr_jmp_insn(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (ti->branch) {
		if (!ti->last) /* the trace follows it */
			return true;
		go(t, ti);
		return true;
	}
	if (ti->d.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE || ti->d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	if (!load_target(t, ti))
		return false;
	look_up(t, true, 0, 0);
	return true;
}

/* ---- calls and returns ---- */

static void push_return(struct x86_tr *t, const struct x86_tr_insn *ti)
{
	struct asm_rm at = x86_tr_check_at(t, X86_RSP, -8, 8, true);
	u8 rsp = x86_tr_host(X86_RSP);

	asm_lea(&t->a, H_RAX, at);
	x86_tr_load_rip(t, H_RCX, ti->next);
	x86_tr_map(t);
	asm_store(&t->a, asm_mem(H_RAX, 0), H_RCX);
	asm_lea(&t->a, rsp, asm_mem(rsp, -8));
}

/*
 * The target of an indirect call waits in the red zone of the C stack (see tb_mem.c) for the push. A bad one is found only
 * after it; then RSP is as before, and what was written lies below it.
 */
bool x86_tr_call_insn(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (ti->branch) {
		x86_tr_clobber(t);
		push_return(t, ti);
		if (ti->jump < 0 && (ti->target < 0 || ti->target >= (s32)PAGE_SIZE)) {
			x86_tr_load_rip(t, H_RAX, ti->target);
			look_up(t, backward(ti), 0, 8);
		} else {
			go(t, ti);
		}
		return true;
	}
	if (ti->d.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE || ti->d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	if (!load_target(t, ti))
		return false;
	asm_store(&t->a, asm_mem(H_RSP, -8), H_RAX);
	push_return(t, ti);
	asm_load(&t->a, H_RAX, asm_mem(H_RSP, -8));
	look_up(t, true, 0, 8);
	return true;
}

bool x86_tr_ret(struct x86_tr *t, struct x86_tr_insn *ti)
{
	struct asm_rm at;

	if (ti->d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	x86_tr_clobber(t);
	at = x86_tr_check_at(t, X86_RSP, 0, 8, false);
	x86_tr_map(t);
	asm_load(&t->a, H_RAX, at);
	look_up(t, true, 8 + (u16)ti->i->imm, 0);
	return true;
}
