// SPDX-License-Identifier: MIT
/*
 * Tier 1: instructions of the system that are frequent and simple enough to stand in the block. Each looks at what tier 0's
 * handler would look at, and goes to it for everything but the common case.
 *
 * Outer file. None of them changes the TLB set, the mode or the privilege level.
 */
#include "cpu/x86/tb_priv.h"
#include "cpu/x86/msr.h"

#define RAX x86_tr_host(X86_RAX)
#define RCX x86_tr_host(X86_RCX)
#define RDX x86_tr_host(X86_RDX)

#define SEG(n, field) asm_gs(X86_GS(seg) + (s32)((n) * sizeof(struct x86_seg) + offsetof(struct x86_seg, field)))

/* op [field], imm32 of the group 80-83 */
static void field_imm(struct x86_tr *t, u8 op, s32 field, u32 imm)
{
	asm_op(&t->a, 0x81, op, asm_gs(field));
	asm_u32(&t->a, imm);
}

static void field_store(struct x86_tr *t, s32 field, u32 imm)
{
	asm_op(&t->a, 0xc7, 0, asm_gs(field));
	asm_u32(&t->a, imm);
}

/* Slow if any (any) or none of the bits are set in a 32-bit field. */
static void test_field(struct x86_tr *t, s32 field, u32 bits, bool any)
{
	asm_op(&t->a, 0xf7, 0, asm_gs(field));
	asm_u32(&t->a, bits);
	x86_tr_slow_if(t, any ? CC_NE : CC_E);
}

static void byte_is_zero(struct x86_tr *t, s32 field)
{
	asm_op(&t->a, 0x80, 7, asm_gs(field));
	asm_byte(&t->a, 0);
	x86_tr_slow_if(t, CC_NE);
}

/* Code of the user's set is not privileged; that of the others may be of level 1 or 2, so it is asked. */
static bool supervisor(struct x86_tr *t)
{
	if (t->set == X86_SET_USER)
		return false;
	x86_tr_clobber(t);
	byte_is_zero(t, X86_GS(cpl));
	return true;
}

/* EDX:EAX = RAX */
static void split(struct x86_tr *t)
{
	asm_mov(&t->a, RDX, H_RAX);
	asm_op(&t->a, 0xc1 | A_W, 5, asm_reg(RDX)); /* shr rdx, 32 */
	asm_byte(&t->a, 32);
	asm_op(&t->a, OP_MOV_LOAD, RAX, asm_reg(H_RAX));
}

/* ---- interrupts ---- */

bool x86_tr_cli(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (!supervisor(t))
		return false;
	field_imm(t, 4, X86_GS(rflags), ~X86_FLAG_IF);
	return true;
}

/* Whoever raises an interrupt later finds IF set and asks for attention; one that is known already is tier 0's business. */
bool x86_tr_sti(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u32 done;

	if (!supervisor(t))
		return false;
	asm_op(&t->a, 0xf7, 0, asm_gs(X86_GS(rflags)));
	asm_u32(&t->a, X86_FLAG_IF);
	done = asm_jcc(&t->a, CC_NE);
	asm_alu_imm(&t->a, 0, 7, asm_gs(X86_GS(irq_hint)), 0);
	x86_tr_slow_if(t, CC_NE);
	byte_is_zero(t, X86_GS(want_irq_window));
	field_imm(t, 1, X86_GS(rflags), X86_FLAG_IF);
	field_store(t, X86_GS(shadow), X86_SHADOW_STI);
	x86_tr_load_rip(t, H_RAX, ti->next);
	asm_store(&t->a, asm_gs(X86_GS(shadow_rip)), H_RAX);
	asm_fix(&t->a, done, t->a.n);
	return true;
}

/* The image is made in the red zone of the C stack (see tb_mem.c) before the check of the stack takes both scratch registers. */
bool x86_tr_pushf(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u8 rsp = x86_tr_host(X86_RSP);
	struct asm_rm at;

	if (ti->d.z.operand_width != 64)
		return false;
	x86_tr_clobber(t);
	x86_tr_to_slot(t);
	asm_op(&t->a, 0xb6 | A_0F, H_RAX, asm_gs(X86_GS(aflags)));     /* movzx eax, byte: OF */
	asm_op(&t->a, 0xb6 | A_0F, H_RCX, asm_gs(X86_GS(aflags) + 1)); /* and the others */
	asm_bytes(&t->a, "\xc1\xe0\x0b", 3);				  /* shl eax, 11 */
	asm_alu_imm(&t->a, 0, 4, asm_reg(H_RCX), X86_TR_FLAGS & 0xff);
	asm_op(&t->a, 0x0b, H_RAX, asm_reg(H_RCX)); /* or eax, ecx */
	asm_op(&t->a, 0x0b, H_RAX, asm_gs(X86_GS(rflags)));
	asm_alu_imm(&t->a, 0, 4, asm_reg(H_RAX), (s32)~(X86_FLAG_VM | X86_FLAG_RF));
	asm_store(&t->a, asm_mem(H_RSP, -8), H_RAX);
	t->rax = -1;
	at = x86_tr_check_at(t, X86_RSP, -8, 8, true);
	asm_lea(&t->a, H_RAX, at);
	asm_load(&t->a, H_RCX, asm_mem(H_RSP, -8));
	x86_tr_map(t);
	asm_store(&t->a, asm_mem(H_RAX, 0), H_RCX);
	asm_lea(&t->a, rsp, asm_mem(rsp, -8));
	return true;
}

/* ---- segment bases and selectors, control registers ---- */

bool x86_tr_swapgs(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (!supervisor(t))
		return false;
	asm_load(&t->a, H_RAX, SEG(X86_GS, base));
	asm_load(&t->a, H_RCX, asm_gs(X86_GS(msr.kernel_gs_base)));
	asm_store(&t->a, SEG(X86_GS, base), H_RCX);
	asm_store(&t->a, asm_gs(X86_GS(msr.kernel_gs_base)), H_RAX);
	return true;
}

bool x86_tr_segment_base(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u8 seg = ti->d.z.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || ti->d.z.mnemonic == ZYDIS_MNEMONIC_WRFSBASE ? X86_FS :
													     X86_GS;
	bool reads = ti->d.z.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || ti->d.z.mnemonic == ZYDIS_MNEMONIC_RDGSBASE;
	u32 wide = ti->d.op[0].size == 64 ? A_W : 0, g = ti->i->reg[0] / 8;

	x86_tr_clobber(t);
	test_field(t, X86_GS(cr4), X86_CR4_FSGSBASE, false);
	if (reads) {
		asm_op(&t->a, OP_MOV_LOAD | wide, H_RAX, SEG(seg, base));
		x86_tr_put(t, g, H_RAX);
		return true;
	}
	x86_tr_get(t, H_RAX, g);
	if (!wide)
		asm_op(&t->a, OP_MOV_LOAD, H_RAX, asm_reg(H_RAX));
	x86_tr_if_not_canonical(t);
	x86_tr_slow_if(t, CC_NE);
	asm_store(&t->a, SEG(seg, base), H_RAX);
	return true;
}

/* MOV from a segment register to a general one, or from CR0, CR2, CR3, CR4 */
bool x86_tr_mov_system(struct x86_tr *t, struct x86_tr_insn *ti)
{
	static const s32 control[] = {X86_GS(cr0), 0, X86_GS(cr2), X86_GS(cr3), X86_GS(cr4)};
	u32 g = ti->i->reg[0] / 8, n = ti->i->cond;

	if (ti->d.op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || ti->d.op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (ZydisRegisterGetClass(ti->d.op[1].reg.value)) {
	case ZYDIS_REGCLASS_SEGMENT:
		if (ti->d.op[0].size < 32)
			return false;
		asm_op(&t->a, 0xb7 | A_0F, H_RAX, SEG(n, sel)); /* movzx eax, word */
		break;
	case ZYDIS_REGCLASS_CONTROL:
		if (n >= ARRAY_SIZE(control) || !control[n] || !supervisor(t))
			return false;
		asm_load(&t->a, H_RAX, asm_gs(control[n]));
		break;
	default:
		return false;
	}
	x86_tr_put(t, g, H_RAX);
	return true;
}

/* ---- counters and keys ---- */

bool x86_tr_rdtsc(struct x86_tr *t, struct x86_tr_insn *ti)
{
	bool p = ti->d.z.mnemonic == ZYDIS_MNEMONIC_RDTSCP;

	x86_tr_clobber(t);
	test_field(t, X86_GS(cr4), X86_CR4_TSD, true);
	asm_alu_imm(&t->a, A_W, 7, asm_gs(X86_GS(tsc_ratio)), 0);
	x86_tr_slow_if(t, CC_NE);
	if (p) {
		asm_load(&t->a, H_RAX, asm_gs(X86_GS(feat)));
		asm_op(&t->a, 0x80, 7, asm_mem(H_RAX, (s32)offsetof(struct x86_features, rdtscp)));
		asm_byte(&t->a, 0);
		x86_tr_slow_if(t, CC_E);
	}
	asm_bytes(&t->a, "\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0", 9); /* rdtsc; shl rdx, 32; or rax, rdx */
	asm_op(&t->a, 0x03 | A_W, H_RAX, asm_gs(X86_GS(tsc_offset)));
	split(t);
	if (p)
		asm_op(&t->a, OP_MOV_LOAD, RCX, asm_gs(X86_GS(msr.tsc_aux)));
	return true;
}

bool x86_tr_rdpkru(struct x86_tr *t, struct x86_tr_insn *ti)
{
	x86_tr_clobber(t);
	test_field(t, X86_GS(cr4), X86_CR4_PKE, false);
	asm_op(&t->a, 0x85, RCX, asm_reg(RCX)); /* test ecx, ecx */
	x86_tr_slow_if(t, CC_NE);
	asm_op(&t->a, OP_MOV_LOAD, RAX, asm_gs(X86_GS(pkru)));
	asm_op(&t->a, 0x33, RDX, asm_reg(RDX)); /* xor edx, edx */
	return true;
}

/* LFENCE and its like order the host just as well. */
bool x86_tr_as_it_is(struct x86_tr *t, struct x86_tr_insn *ti)
{
	asm_bytes(&t->a, ti->d.bytes, ti->d.z.length);
	return true;
}
