// SPDX-License-Identifier: MIT
/*
 * Tier 1: guest registers and guest memory as operands of host instructions: effective addresses, the inline look-up in the
 * TLB, the stack.
 *
 * Outer file. The check of an access of s bytes, hot path: tag and offset come out of one XOR, and one unsigned comparison
 * sees both a wrong tag and a crossing of the page's end.
 */
#include "cpu/x86/tb_priv.h"

void x86_tr_get(struct x86_tr *t, u8 host, u32 gpr)
{
	if (host == H_RAX)
		t->rax = -1;
	asm_op(&t->a, OP_MOV_LOAD | A_W, host, x86_tr_home(gpr));
}

void x86_tr_put(struct x86_tr *t, u32 gpr, u8 host)
{
	asm_op(&t->a, OP_MOV_STORE | A_W, host, x86_tr_home(gpr));
}

/* ---- addresses ---- */

static bool fits32(s64 v)
{
	return v == (s32)v;
}

/* A base or index register: where it lives, or loaded to scratch. */
static u8 address_register(struct x86_tr *t, u8 slot, u8 scratch)
{
	if (slot == X86_GPR_ZERO)
		return H_NONE;
	if (slot == X86_GPR_CODEPAGE) {
		asm_load(&t->a, scratch, asm_gs(X86_GS(gpr[X86_GPR_CODEPAGE])));
		return scratch;
	}
	if (x86_tr_resident(slot))
		return x86_tr_host(slot);
	x86_tr_get(t, scratch, slot);
	return scratch;
}

bool x86_tr_ea(struct x86_tr *t, const struct x86_insn *i, u8 to)
{
	u32 wide = i->asize == 8 ? A_W : 0;
	u8 base, index;

	if (i->asize < 4 || !fits32(i->disp))
		return false;
	index = address_register(t, i->index, H_RAX);
	base = address_register(t, i->base, H_RCX);
	if (base == H_NONE && index == H_NONE) {
		if (wide) {
			asm_op(&t->a, 0xc7 | A_W, 0, asm_reg(to));
			asm_u32(&t->a, (u32)i->disp);
		} else {
			asm_mov_imm32(&t->a, to, (u32)i->disp);
		}
	} else if (index == H_NONE && i->disp == 0) {
		if (!wide || base != to)
			asm_op(&t->a, OP_MOV_LOAD | wide, to, asm_reg(base));
	} else {
		asm_op(&t->a, OP_LEA | wide, to, asm_sib(base, index, i->scale, (s32)i->disp));
	}
	return true;
}

/* ---- the check ---- */

/* EAX = byte offset of the TLB entry for the address in host register la */
static void entry_offset(struct x86_tr *t, u8 la)
{
	struct x86_asm *a = &t->a;

	if (t->bmi2) { /* rorx eax, la, 8 */
		asm_bytes(a, (u8[]){0xc4, (u8)(0xc3 | (la < 8) << 5), 0x7b, 0xf0, (u8)(0xc0 | (la & 7)), 8}, 6);
	} else {
		asm_op(a, OP_MOV_LOAD, H_RAX, asm_reg(la));
		asm_bytes(a, "\xc1\xe8\x08", 3); /* shr eax, 8 */
	}
	asm_byte(a, 0x25); /* and eax, 0xfff0 */
	asm_u32(a, (X86_TLB_SIZE - 1) << 4);
}

/* The address is in la; RCX or a guest's register that stays as it is. Leaves the flags of the comparison. */
static void compare(struct x86_tr *t, u8 la, u32 size, bool write)
{
	struct x86_asm *a = &t->a;

	t->rax = -1;
	entry_offset(t, la);
	if (la == H_RCX) {
		asm_op(a, 0x33 | A_W, H_RCX, asm_gs_at(H_RAX, X86_GS_TAG(t->set, write)));
	} else {
		asm_load(a, H_RCX, asm_gs_at(H_RAX, X86_GS_TAG(t->set, write)));
		asm_op(a, 0x33 | A_W, H_RCX, asm_reg(la));
	}
	asm_alu_imm(a, A_W, 7, asm_reg(H_RCX), (s32)(PAGE_SIZE - size));
}

static void load_host(struct x86_tr *t, bool write)
{
	asm_load(&t->a, H_RAX, asm_gs_at(H_RAX, X86_GS_HOST(t->set, write)));
}

/* A base that needs no instruction to be an address. */
static bool is_plain(const struct x86_insn *i)
{
	return i->asize == 8 && i->seg < X86_FS && i->index == X86_GPR_ZERO && i->base < 16 && x86_tr_resident(i->base) &&
	       fits32(i->disp);
}

static bool check_alone(struct x86_tr *t, const struct x86_insn *i, u32 size, bool write, struct asm_rm *at)
{
	u8 la = H_RCX;

	x86_tr_clobber(t);
	if (is_plain(i) && i->disp == 0)
		la = x86_tr_host(i->base);
	else if (!x86_tr_ea(t, i, H_RCX))
		return false;
	if (i->seg >= X86_FS)
		asm_op(&t->a, 0x03 | A_W, H_RCX,
		       asm_gs(X86_GS(seg) + (s32)(i->seg * sizeof(struct x86_seg) + offsetof(struct x86_seg, base))));
	compare(t, la, size, write);
	x86_tr_slow_if(t, CC_A);
	load_host(t, write);
	*at = asm_sib(H_RAX, H_RCX, 0, 0);
	return true;
}

/* ---- the window on the stack ---- */

#define WINDOW(set, field)                                                                                              \
	asm_gs(X86_GS_MMU + (s32)(offsetof(struct x86_mmu, window) + (set) * sizeof(struct x86_window) +                    \
				  offsetof(struct x86_window, field)))

static bool on_stack(const struct x86_insn *i)
{
	return i->base == X86_RSP && is_plain(i);
}

static void stack_address(struct x86_tr *t, s32 disp)
{
	if (disp)
		asm_lea(&t->a, H_RCX, asm_mem(x86_tr_host(X86_RSP), disp));
	else
		asm_mov(&t->a, H_RCX, x86_tr_host(X86_RSP));
}

/*
 * RAX = host minus guest address for [RSP + disp]. Stack pages are nearly always writable, so the window stands for reads as
 * well. to_copy: where to go if there is nothing to be had in the write table, either.
 */
static void check_window(struct x86_tr *t, s32 disp, u32 size, bool to_copy)
{
	struct x86_tr_cold *c;

	stack_address(t, disp);
	asm_op(&t->a, 0x33 | A_W, H_RCX, WINDOW(t->set, tag));
	asm_alu_imm(&t->a, A_W, 7, asm_reg(H_RCX), (s32)(PAGE_SIZE - size));
	c = x86_tr_cold(t, X86_COLD_WINDOW, asm_jcc(&t->a, CC_A));
	asm_load(&t->a, H_RAX, WINDOW(t->set, diff));
	t->rax = -1;
	t->cur->copied |= to_copy;
	if (c) {
		c->off = disp;
		c->size = size;
		c->to_copy = to_copy;
		c->into = t->a.n;
	}
}

/* Moves the window. */
void x86_tr_cold_window(struct x86_tr *t, const struct x86_tr_cold *c)
{
	struct x86_tr_cold *slow;

	stack_address(t, c->off);
	compare(t, H_RCX, c->size, true);
	if (c->to_copy) {
		x86_tr_copy_if(t, CC_A);
	} else {
		slow = x86_tr_cold(t, X86_COLD_SLOW, asm_jcc(&t->a, CC_A));
		if (slow) {
			slow->back = c->back;
			slow->back_copy = c->back_copy;
			slow->reload = c->reload;
		}
	}
	load_host(t, true);
	stack_address(t, c->off);
	asm_alu_imm(&t->a, A_W, 4, asm_reg(H_RCX), -(s32)PAGE_SIZE);
	asm_store(&t->a, WINDOW(t->set, tag), H_RCX);
	asm_op(&t->a, 0x2b | A_W, H_RAX, asm_reg(H_RCX)); /* sub rax, rcx */
	asm_store(&t->a, WINDOW(t->set, diff), H_RAX);
	asm_fix(&t->a, asm_jmp(&t->a), c->into);
}

/* ---- groups ---- */

/* RAX = host minus guest address, for the whole span; kept for the others. */
static bool lead(struct x86_tr *t, const struct x86_insn *i, const struct x86_tr_share *s)
{
	struct x86_insn first = *i;

	first.disp += s->lo;
	if (!fits32(first.disp))
		return false;
	x86_tr_clobber(t);
	if (on_stack(i)) {
		check_window(t, (s32)first.disp, s->span, true);
		goto keep;
	}
	x86_tr_ea(t, &first, H_RCX);
	compare(t, H_RCX, s->span, s->write);
	x86_tr_copy_if(t, CC_A);
	load_host(t, s->write);
	if (is_plain(i)) {
		asm_lea(&t->a, H_RAX, asm_sib(H_RAX, H_RCX, 0, -(s32)first.disp));
		asm_op(&t->a, 0x2b | A_W, H_RAX, asm_reg(x86_tr_host(i->base)));
	} else {
		asm_lea(&t->a, H_RAX, asm_sib(H_RAX, H_RCX, 0, 0));
		x86_tr_ea(t, &first, H_RCX);
		asm_op(&t->a, 0x2b | A_W, H_RAX, asm_reg(H_RCX));
	}
keep:
	asm_store(&t->a, X86_TR_GROUP_AT(s->group), H_RAX);
	t->rax = s->group;
	t->s.groups |= (u16)BIT(s->group);
	return true;
}

/* An access of its own to [RSP + disp]. */
static bool check_stack(struct x86_tr *t, const struct x86_insn *i, u32 size, struct asm_rm *at)
{
	if (t->copying || !on_stack(i))
		return false;
	x86_tr_clobber(t);
	check_window(t, (s32)i->disp, size, false);
	*at = asm_sib(H_RAX, x86_tr_host(X86_RSP), 0, (s32)i->disp);
	return true;
}

static bool check_shared(struct x86_tr *t, const struct x86_insn *i, u8 which, struct asm_rm *at)
{
	const struct x86_tr_share *s = &t->cur->share[which];

	if (t->copying || s->group < 0 || !fits32(i->disp))
		return false;
	if (!(t->s.groups & BIT(s->group))) {
		if (!s->leads || !lead(t, i, s))
			return false;
	}
	if (is_plain(i)) {
		*at = asm_sib(H_RAX, x86_tr_host(i->base), 0, (s32)i->disp);
	} else {
		x86_tr_ea(t, i, H_RCX); /* groups have no index that would need RAX */
		*at = asm_sib(H_RAX, H_RCX, 0, 0);
	}
	if (t->rax != s->group)
		asm_load(&t->a, H_RAX, X86_TR_GROUP_AT(s->group));
	t->rax = s->group;
	return true;
}

bool x86_tr_check(struct x86_tr *t, const struct x86_insn *i, u32 size, bool write, struct asm_rm *at)
{
	return check_shared(t, i, X86_TR_OPERAND, at) || check_stack(t, i, size, at) || check_alone(t, i, size, write, at);
}

struct asm_rm x86_tr_check_at(struct x86_tr *t, u32 gpr, s32 disp, u32 size, bool write)
{
	struct x86_insn i = {.base = (u8)gpr, .index = X86_GPR_ZERO, .disp = disp, .asize = 8, .seg = X86_SS};
	struct asm_rm at;

	if (!check_shared(t, &i, X86_TR_STACK, &at) && !check_stack(t, &i, size, &at))
		check_alone(t, &i, size, write, &at);
	return at;
}

/* ---- the stack ---- */

#define RSP x86_tr_host(X86_RSP)

static void add_rsp(struct x86_tr *t, s32 n)
{
	asm_lea(&t->a, RSP, asm_mem(RSP, n));
}

/*
 * PUSH [mem] has two operands to check, with the first one's value between them in the red zone of the C stack: signal
 * handlers keep off it, and on the cold path it is not needed any more.
 */
#define RED_ZONE asm_mem(H_RSP, -8)

static bool push_memory(struct x86_tr *t, struct x86_tr_insn *ti)
{
	struct asm_rm at;

	if (!x86_tr_check(t, ti->i, 8, false, &at))
		return false;
	x86_tr_map(t);
	asm_load(&t->a, H_RAX, at);
	t->rax = -1;
	asm_store(&t->a, RED_ZONE, H_RAX);
	at = x86_tr_check_at(t, X86_RSP, -8, 8, true);
	asm_lea(&t->a, H_RAX, at);
	asm_load(&t->a, H_RCX, RED_ZONE);
	x86_tr_map(t);
	asm_store(&t->a, asm_mem(H_RAX, 0), H_RCX);
	add_rsp(t, -8);
	return true;
}

static bool push_register(struct x86_tr *t, struct x86_tr_insn *ti)
{
	struct asm_rm at = x86_tr_check_at(t, X86_RSP, -8, 8, true);
	u32 g = ti->i->reg[0] / 8;

	if (x86_tr_resident(g)) {
		x86_tr_map(t);
		asm_store(&t->a, at, x86_tr_host(g));
		t->keeps_rax = true;
	} else {
		asm_lea(&t->a, H_RAX, at);
		x86_tr_get(t, H_RCX, g);
		x86_tr_map(t);
		asm_store(&t->a, asm_mem(H_RAX, 0), H_RCX);
	}
	add_rsp(t, -8);
	return true;
}

bool x86_tr_push(struct x86_tr *t, struct x86_tr_insn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	struct asm_rm at;

	if (ti->d.z.operand_width != 64)
		return false;
	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		at = x86_tr_check_at(t, X86_RSP, -8, 8, true);
		x86_tr_map(t);
		asm_op(&t->a, 0xc7 | A_W, 0, at);
		asm_u32(&t->a, (u32)ti->i->imm);
		add_rsp(t, -8);
		return true;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return push_memory(t, ti);
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_GPR64)
			return false;
		return push_register(t, ti);
	default:
		return false;
	}
}

bool x86_tr_pop(struct x86_tr *t, struct x86_tr_insn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	u32 g = ti->i->reg[0] / 8;
	struct asm_rm at;

	if (ti->d.z.operand_width != 64 || o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_GPR64)
		return false;
	at = x86_tr_check_at(t, X86_RSP, 0, 8, false);
	x86_tr_map(t);
	if (x86_tr_resident(g)) {
		asm_load(&t->a, x86_tr_host(g), at);
		t->keeps_rax = true;
	} else {
		asm_load(&t->a, H_RAX, at);
		x86_tr_put(t, g, H_RAX);
	}
	if (g != X86_RSP)
		add_rsp(t, 8);
	return true;
}

bool x86_tr_leave(struct x86_tr *t, struct x86_tr_insn *ti)
{
	struct asm_rm at;

	if (ti->d.z.operand_width != 64)
		return false;
	at = x86_tr_check_at(t, X86_RBP, 0, 8, false);
	x86_tr_map(t);
	asm_load(&t->a, H_RAX, at);
	asm_lea(&t->a, RSP, asm_mem(x86_tr_host(X86_RBP), 8));
	asm_mov(&t->a, x86_tr_host(X86_RBP), H_RAX);
	return true;
}
