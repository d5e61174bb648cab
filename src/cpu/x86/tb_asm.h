/* SPDX-License-Identifier: MIT */
/*
 * A small x86-64 assembler over a buffer: prefixes, ModRM and SIB, rel32 fixups.
 *
 * Knows nothing of guests. Running out of room is remembered in `full` and checked once at the end.
 */
#ifndef AV_CPU_X86_TB_ASM_H
#define AV_CPU_X86_TB_ASM_H

#include "base/base.h"

#include <string.h>

struct x86_asm {
	u8 *code;
	u32 n, cap;
	bool full;
};

/* Host registers by encoding number. */
enum x86_host_reg {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI,
	H_R8,
	H_R9,
	H_R10,
	H_R11,
	H_R12,
	H_R13,
	H_R14,
	H_R15,
	H_NONE = 0xff,
};

static inline void asm_byte(struct x86_asm *a, u32 v)
{
	if (a->n >= a->cap) {
		a->full = true;
		return;
	}
	a->code[a->n++] = (u8)v;
}

static inline void asm_bytes(struct x86_asm *a, const void *p, u32 n)
{
	if (a->n + n > a->cap) {
		a->full = true;
		return;
	}
	memcpy(a->code + a->n, p, n);
	a->n += n;
}

static inline void asm_u32(struct x86_asm *a, u32 v)
{
	asm_bytes(a, &v, 4);
}

/* The r/m side of an instruction. */
struct asm_rm {
	bool mem, gs;
	u8 base;  /* or the register */
	u8 index; /* not RSP */
	u8 scale; /* shift count */
	s32 disp;
};

static inline struct asm_rm asm_reg(u8 r)
{
	return (struct asm_rm){.base = r};
}
static inline struct asm_rm asm_mem(u8 base, s32 disp)
{
	return (struct asm_rm){.mem = true, .base = base, .index = H_NONE, .disp = disp};
}
static inline struct asm_rm asm_sib(u8 base, u8 index, u8 scale, s32 disp)
{
	return (struct asm_rm){
		.mem = true, .base = base, .index = index, .scale = scale, .disp = disp};
}
/* gs:[disp32] */
static inline struct asm_rm asm_gs(s32 disp)
{
	return (struct asm_rm){
		.mem = true, .gs = true, .base = H_NONE, .index = H_NONE, .disp = disp};
}
/* gs:[base + disp32] */
static inline struct asm_rm asm_gs_at(u8 base, s32 disp)
{
	return (struct asm_rm){
		.mem = true, .gs = true, .base = base, .index = H_NONE, .disp = disp};
}

/* REX bits X and B that the operand needs. */
static inline u8 asm_rex_xb(struct asm_rm rm)
{
	u8 b = rm.base != H_NONE && rm.base >= 8, x = rm.mem && rm.index != H_NONE && rm.index >= 8;

	return (u8)(x << 1 | b);
}

static inline void asm_modrm(struct x86_asm *a, u8 reg, struct asm_rm rm)
{
	u8 mod, r = (u8)((reg & 7) << 3);

	if (!rm.mem) {
		asm_byte(a, 0xc0 | r | (rm.base & 7));
		return;
	}
	if (rm.base == H_NONE) { /* SIB without base: disp32 always */
		asm_byte(a, r | 4);
		asm_byte(a, rm.scale << 6 | (rm.index == H_NONE ? 4 : rm.index & 7) << 3 | 5);
		asm_u32(a, (u32)rm.disp);
		return;
	}
	mod = rm.disp == 0 && (rm.base & 7) != H_RBP		   ? 0
	      : rm.disp >= INT8_MIN && rm.disp <= INT8_MAX ? 0x40
							   : 0x80;
	if (rm.index != H_NONE || (rm.base & 7) == H_RSP) {
		asm_byte(a, mod | r | 4);
		asm_byte(a, rm.scale << 6 | (rm.index == H_NONE ? 4 : rm.index & 7) << 3 |
				    (rm.base & 7));
	} else {
		asm_byte(a, mod | r | (rm.base & 7));
	}
	if (mod == 0x40)
		asm_byte(a, (u8)rm.disp);
	else if (mod == 0x80)
		asm_u32(a, (u32)rm.disp);
}

/*
 * Opcodes: low byte, then flags. A_W: 64-bit operands; A_16: 66; A_0F: two-byte map; A_B: reg is a byte register
 * (SPL to DIL need a REX prefix).
 */
#define A_0F 0x100u
#define A_W  0x200u
#define A_16 0x400u
#define A_B  0x800u

static inline void asm_op(struct x86_asm *a, u32 op, u8 reg, struct asm_rm rm)
{
	u8 rex = (u8)((op & A_W ? 8 : 0) | (reg >= 8) << 2 | asm_rex_xb(rm));

	if (rm.mem && rm.gs)
		asm_byte(a, 0x65);
	if (op & A_16)
		asm_byte(a, 0x66);
	if (rex || ((op & A_B) && ((reg >= 4) || (!rm.mem && rm.base >= 4))))
		asm_byte(a, 0x40 | rex);
	if (op & A_0F)
		asm_byte(a, 0x0f);
	asm_byte(a, op & 0xff);
	asm_modrm(a, reg, rm);
}

#define OP_MOV_LOAD  0x8bu
#define OP_MOV_STORE 0x89u
#define OP_LEA	     0x8du

static inline void asm_mov(struct x86_asm *a, u8 to, u8 from)
{
	if (to != from)
		asm_op(a, OP_MOV_LOAD | A_W, to, asm_reg(from));
}
static inline void asm_load(struct x86_asm *a, u8 to, struct asm_rm from)
{
	asm_op(a, OP_MOV_LOAD | A_W, to, from);
}
static inline void asm_store(struct x86_asm *a, struct asm_rm to, u8 from)
{
	asm_op(a, OP_MOV_STORE | A_W, from, to);
}
static inline void asm_lea(struct x86_asm *a, u8 to, struct asm_rm ea)
{
	asm_op(a, OP_LEA | A_W, to, ea);
}
static inline void asm_mov_imm32(struct x86_asm *a, u8 to, u32 v)
{
	if (to >= 8)
		asm_byte(a, 0x41);
	asm_byte(a, 0xb8 | (to & 7));
	asm_u32(a, v);
}

/* The ALU group by number (0 add, 4 and, 5 sub, 6 xor, 7 cmp), 64-bit unless wide is 0, imm32 or imm8. */
static inline void asm_alu_imm(struct x86_asm *a, u32 wide, u8 n, struct asm_rm rm, s32 imm)
{
	if (imm >= INT8_MIN && imm <= INT8_MAX) {
		asm_op(a, 0x83 | wide, n, rm);
		asm_byte(a, (u8)imm);
	} else {
		asm_op(a, 0x81 | wide, n, rm);
		asm_u32(a, (u32)imm);
	}
}

/* Jumps return the place of their rel32, to be fixed up. */
static inline u32 asm_jcc(struct x86_asm *a, u8 cc)
{
	asm_byte(a, 0x0f);
	asm_byte(a, 0x80 | cc);
	asm_u32(a, 0);
	return a->n - 4;
}
static inline u32 asm_jmp(struct x86_asm *a)
{
	asm_byte(a, 0xe9);
	asm_u32(a, 0);
	return a->n - 4;
}
static inline void asm_fix(struct x86_asm *a, u32 place, u32 target)
{
	u32 rel = target - (place + 4);

	if (!a->full)
		memcpy(a->code + place, &rel, 4);
}

enum { CC_O = 0, CC_B = 2, CC_E = 4, CC_NE = 5, CC_BE = 6, CC_A = 7 };

#endif
