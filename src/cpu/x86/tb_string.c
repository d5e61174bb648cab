// SPDX-License-Identifier: MIT
/*
 * Tier 1: REP MOVS and REP STOS of few bytes, which is how kernels and C libraries copy and clear small objects.
 *
 * Outer file. Everything long, backward, segment-relative or over a page's end is tier 0's, whose handlers are better at it. Registers
 * move as the copy proceeds, as the architecture has it: so each access may fault.
 */
#include "cpu/x86/tb_priv.h"

#define RAX x86_tr_host(X86_RAX)
#define RCX x86_tr_host(X86_RCX)
#define RSI x86_tr_host(X86_RSI)
#define RDI x86_tr_host(X86_RDI)

#define MOVS_MAX 128u /* bytes */
#define STOS_MAX 256u

/* In the red zone of the C stack (see tb_mem.c): host minus guest address of either side, and what to store. */
#define FROM  asm_mem(H_RSP, -8)
#define VALUE asm_mem(H_RSP, -8)
#define TO    asm_mem(H_RSP, -16)

static u32 size_of(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_STOSB:
		return 1;
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_STOSW:
		return 2;
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_STOSD:
		return 4;
	default:
		return 8;
	}
}

static u8 log2_of(u32 size)
{
	return (u8)__builtin_ctz(size);
}

/* Forward, and 1 to max elements; else slow. Returns the jump for none at all. */
static u32 prologue(struct x86_tr *t, u32 max)
{
	asm_op(&t->a, 0xf7, 0, asm_gs(X86_GS(rflags)));
	asm_u32(&t->a, X86_FLAG_DF);
	x86_tr_slow_if(t, CC_NE);
	asm_alu_imm(&t->a, A_W, 7, asm_reg(RCX), (s32)max);
	x86_tr_slow_if(t, CC_A);
	asm_op(&t->a, 0x85, RCX, asm_reg(RCX)); /* test ecx, ecx */
	return asm_jcc(&t->a, CC_E);
}

/* diff = host minus guest address at pointer, for all elements */
static void check(struct x86_tr *t, u8 pointer, u32 size, bool write, struct asm_rm diff)
{
	x86_tr_compare(t, pointer, 1, write);
	x86_tr_slow_if(t, CC_A);
	x86_tr_load_host(t, write);
	asm_op(&t->a, 0x03 | A_W, H_RAX, asm_reg(H_RCX));
	asm_op(&t->a, 0x2b | A_W, H_RAX, asm_reg(pointer));
	asm_store(&t->a, diff, H_RAX);
	asm_lea(&t->a, H_RCX, asm_sib(H_RCX, RCX, log2_of(size), 0));
	asm_alu_imm(&t->a, A_W, 7, asm_reg(H_RCX), PAGE_SIZE);
	x86_tr_slow_if(t, CC_A);
}

static u32 sized(u32 op, u32 size)
{
	switch (size) {
	case 1: return (op & ~1u) | A_B;
	case 2: return op | A_16;
	case 8: return op | A_W;
	default: return op;
	}
}

static void advance(struct x86_tr *t, u8 reg, u32 n)
{
	asm_lea(&t->a, reg, asm_mem(reg, (s32)n));
}

/* One piece of `size` bytes; STOS has its value in VALUE. */
static void piece(struct x86_tr *t, bool movs, u32 size)
{
	asm_load(&t->a, H_RCX, TO);
	if (movs) {
		asm_load(&t->a, H_RAX, FROM);
		x86_tr_map(t);
		asm_op(&t->a, sized(OP_MOV_LOAD, size), H_RAX, asm_sib(H_RAX, RSI, 0, 0));
	} else {
		asm_load(&t->a, H_RAX, VALUE);
	}
	x86_tr_map(t);
	asm_op(&t->a, sized(OP_MOV_STORE, size), H_RAX, asm_sib(H_RCX, RDI, 0, 0));
	if (movs)
		advance(t, RSI, size);
	advance(t, RDI, size);
}

/* Pieces of `size` bytes, `elements` each, while the counter has as many. */
static void pieces(struct x86_tr *t, bool movs, u32 size, u32 elements)
{
	struct x86_asm *a = &t->a;
	u32 top = a->n, out;

	asm_alu_imm(a, 0, 7, asm_reg(RCX), (s32)elements);
	out = asm_jcc(a, CC_B);
	piece(t, movs, size);
	asm_alu_imm(a, A_W, 5, asm_reg(RCX), (s32)elements);
	asm_fix(a, asm_jmp(a), top);
	asm_fix(a, out, a->n);
}

/* CL-wide value in RAX spread over eight bytes. */
static void spread(struct x86_tr *t, u32 size)
{
	static const u64 factor[] = {0x0101010101010101, 0x0001000100010001, 0x0000000100000001};
	struct x86_asm *a = &t->a;

	if (size < 4)
		asm_op(a, (size == 1 ? 0xb6 : 0xb7) | A_0F | (size == 1 ? A_B : 0), H_RAX, asm_reg(RAX)); /* movzx */
	else
		asm_op(a, OP_MOV_LOAD | (size == 8 ? A_W : 0), H_RAX, asm_reg(RAX));
	if (size < 8) {
		asm_bytes(a, "\x48\xb9", 2); /* mov rcx, imm64 */
		asm_bytes(a, &factor[log2_of(size)], 8);
		asm_op(a, 0xaf | A_0F | A_W, H_RAX, asm_reg(H_RCX)); /* imul rax, rcx */
	}
	asm_store(a, VALUE, H_RAX);
}

/* Where the destination is less than a piece behind the source, bytes just written are read again: element by element. */
static u32 overlap(struct x86_tr *t)
{
	asm_load(&t->a, H_RAX, TO);
	asm_op(&t->a, 0x03 | A_W, H_RAX, asm_reg(RDI));
	asm_op(&t->a, 0x2b | A_W, H_RAX, FROM);
	asm_op(&t->a, 0x2b | A_W, H_RAX, asm_reg(RSI));
	asm_alu_imm(&t->a, A_W, 7, asm_reg(H_RAX), 8);
	return asm_jcc(&t->a, CC_B);
}

bool x86_tr_string(struct x86_tr *t, struct x86_tr_insn *ti)
{
	u32 size = size_of(ti->d.z.mnemonic), none, overlaps = 0;
	bool movs;

	switch (ti->d.z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		movs = true;
		break;
	default:
		movs = false;
		break;
	}
	/* MOVSD is also the name of an SSE instruction. */
	if (ti->d.z.meta.category != ZYDIS_CATEGORY_STRINGOP)
		return x86_tr_native(t, ti);
	if (!(ti->d.z.attributes & ZYDIS_ATTRIB_HAS_REP) || ti->i->asize != 8 || (movs && ti->i->seg >= X86_FS))
		return false;
	x86_tr_clobber(t);
	t->rax = -1;
	none = prologue(t, (movs ? MOVS_MAX : STOS_MAX) / size);
	if (movs)
		check(t, RSI, size, false, FROM);
	check(t, RDI, size, true, TO);
	if (!movs)
		spread(t, size);
	else if (size < 8)
		overlaps = overlap(t);
	pieces(t, movs, 8, 8 / size);
	if (overlaps)
		asm_fix(&t->a, overlaps, t->a.n);
	if (size < 8)
		pieces(t, movs, size, 1);
	asm_fix(&t->a, none, t->a.n);
	return true;
}
