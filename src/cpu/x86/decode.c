// SPDX-License-Identifier: MIT
/*
 * From bytes to a predecoded instruction: Zydis decodes, this file lays the operands out and finds the handler.
 *
 * Outer file. Knows the opcode tables only as lists of rows; must not know what any instruction does.
 */
#include "cpu/x86/code.h"
#include "cpu/x86/simd.h"

#include <pthread.h>

static const struct x86_op_row *const tables[] = {
	x86_ops_int, x86_ops_flow, x86_ops_string, x86_ops_sys, x86_ops_far, x86_ops_simd,
};

/* First row of a mnemonic in each table, as offset + 1; filled once. */
static u16 first_row[ARRAY_SIZE(tables)][ZYDIS_MNEMONIC_MAX_VALUE + 1];
static ZydisDecoder decoders[3]; /* by code size >> 2 */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void decode_init(void)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} modes[] = {
		{ ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		{ ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		{ ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};

	for (u32 m = 0; m < ARRAY_SIZE(modes); m++) {
		ZydisDecoderInit(&decoders[m], modes[m].mode, modes[m].stack);
		/* Their encodings are NOPs on a CPU without MPX, and that is what we are. */
		ZydisDecoderEnableMode(&decoders[m], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	}
	for (u32 t = 0; t < ARRAY_SIZE(tables); t++)
		for (u32 r = 0; tables[t][r].mnemonic; r++)
			if (!first_row[t][tables[t][r].mnemonic])
				first_row[t][tables[t][r].mnemonic] = (u16)(r + 1);
}

/* Byte offset of a general register in cpu->gpr, or -1. */
static int gpr_offset(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
			return (r - ZYDIS_REGISTER_AH) * 8 + 1;
		if (r >= ZYDIS_REGISTER_SPL)
			return (r - ZYDIS_REGISTER_SPL + 4) * 8;
		return (r - ZYDIS_REGISTER_AL) * 8;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return ZydisRegisterGetId(r) * 8;
	default:
		return -1;
	}
}

static u8 gpr_slot(ZydisRegister r)
{
	int o;

	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return X86_GPR_CODEPAGE;
	o = gpr_offset(r);
	return o < 0 ? X86_GPR_ZERO : (u8)(o / 8);
}

static u8 seg_index(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES: return X86_ES;
	case ZYDIS_REGISTER_CS: return X86_CS;
	case ZYDIS_REGISTER_SS: return X86_SS;
	case ZYDIS_REGISTER_FS: return X86_FS;
	case ZYDIS_REGISTER_GS: return X86_GS;
	default: return X86_DS;
	}
}

/* The segment override for instructions without a visible memory operand (strings, XLAT). */
static u8 seg_override(const ZydisDecodedInstruction *z, u8 bits)
{
	static const struct {
		u64 attribute;
		u8 seg;
		bool long_mode; /* counts in 64-bit mode */
	} overrides[] = {
		{ ZYDIS_ATTRIB_HAS_SEGMENT_FS, X86_FS, true }, { ZYDIS_ATTRIB_HAS_SEGMENT_GS, X86_GS, true },
		{ ZYDIS_ATTRIB_HAS_SEGMENT_CS, X86_CS, false }, { ZYDIS_ATTRIB_HAS_SEGMENT_SS, X86_SS, false },
		{ ZYDIS_ATTRIB_HAS_SEGMENT_ES, X86_ES, false },
	};

	for (u32 k = 0; k < ARRAY_SIZE(overrides); k++)
		if ((z->attributes & overrides[k].attribute) && (overrides[k].long_mode || bits != 8))
			return overrides[k].seg;
	return X86_DS;
}

/* A SIB byte that names no base, which Zydis 4.0 takes for R13 with VSIB or a 67 prefix. */
static bool base_is_none(const ZydisDecodedInstruction *z)
{
	return z->raw.sib.offset && z->raw.modrm.mod == 0 && (z->raw.sib.base & 7) == 5;
}

static void lay_memory(const struct x86_decoded *d, const ZydisDecodedOperand *o, u16 off, struct x86_insn *i)
{
	i->flags |= X86_I_MEM;
	i->seg = seg_index(o->mem.segment);
	i->base = gpr_slot(o->mem.base);
	i->index = o->mem.type == ZYDIS_MEMOP_TYPE_VSIB ? X86_GPR_ZERO : gpr_slot(o->mem.index);
	i->scale = o->mem.scale > 1 ? (u8)__builtin_ctz(o->mem.scale) : 0;
	i->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
	if (base_is_none(&d->z)) {
		i->base = X86_GPR_ZERO;
		i->disp = d->z.raw.disp.value;
	}
	if (i->base == X86_GPR_CODEPAGE)
		i->disp += off + d->z.length;
	if (d->bits == 8 && i->seg < X86_FS)
		i->flags |= X86_I_FLAT;
}

static void lay_operands(const struct x86_decoded *d, u16 off, struct x86_insn *i)
{
	u32 regs = 0, imms = 0;

	i->base = i->index = X86_GPR_ZERO;
	i->seg = seg_override(&d->z, d->bits);
	for (u32 k = 0; k < d->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		int reg;

		switch (o->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			reg = gpr_offset(o->reg.value);
			if (reg >= 0 && regs < ARRAY_SIZE(i->reg))
				i->reg[regs++] = (u8)reg;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (!(i->flags & X86_I_MEM))
				lay_memory(d, o, off, i);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (imms++ == 0)
				i->imm = o->imm.value.u;
			else
				i->imm2 = o->imm.value.u;
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			i->imm = o->ptr.offset;
			i->imm2 = o->ptr.segment;
			break;
		default:
			break;
		}
	}
}

static void lay_prefixes(const struct x86_decoded *d, struct x86_insn *i)
{
	u64 a = d->z.attributes;

	if (a & ZYDIS_ATTRIB_HAS_LOCK)
		i->flags |= X86_I_LOCK;
	if (a & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		i->flags |= X86_I_REP;
	if (a & ZYDIS_ATTRIB_HAS_REPNE)
		i->flags |= X86_I_REPNE;
	if (a & ZYDIS_ATTRIB_HAS_OPERANDSIZE)
		i->flags |= X86_I_O16;
	if (d->bits == 8)
		i->flags |= X86_I_LONG;
}

static bool ends_run(const struct x86_decoded *d, const struct x86_insn *i)
{
	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
		return true;
	default:
		return i->fn == x86_op_ud;
	}
}

/* Instruction sets that no CPUID of ours offers. */
static bool never_offered(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_VTX:
	case ZYDIS_ISA_SET_VMFUNC:
	case ZYDIS_ISA_SET_SVM:
	case ZYDIS_ISA_SET_SMX:
	case ZYDIS_ISA_SET_SGX:
	case ZYDIS_ISA_SET_SGX_ENCLV:
	case ZYDIS_ISA_SET_TDX:
	case ZYDIS_ISA_SET_MPX:
		return true;
	default:
		return false;
	}
}

static bool knights_corner(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_KNCE:
	case ZYDIS_ISA_SET_KNCJKBR:
	case ZYDIS_ISA_SET_KNCSTREAM:
	case ZYDIS_ISA_SET_KNCV:
	case ZYDIS_ISA_SET_KNC_MISC:
	case ZYDIS_ISA_SET_KNC_PF_HINT:
		return true;
	default:
		return false;
	}
}

static void bind_handler(const struct x86_decoded *d, struct x86_insn *i)
{
	/* VEX forms of plain instructions, which Zydis knows from Knights Corner. */
	if (knights_corner(&d->z)) {
		i->fn = x86_op_ud;
		return;
	}
	for (u32 t = 0; t < ARRAY_SIZE(tables); t++) {
		u32 r = first_row[t][d->z.mnemonic];

		if (!r)
			continue;
		for (r--; tables[t][r].mnemonic; r++) {
			const struct x86_op_row *row = &tables[t][r];

			if (row->mnemonic != d->z.mnemonic)
				continue;
			if (row->bind ? row->bind(d, i) : (i->fn = row->fn) != NULL)
				return;
		}
	}
	if (x86_native_bind(d, i))
		return;
	i->fn = never_offered(&d->z) ? x86_op_ud : x86_op_unsupported;
}

/*
 * VPCMPESTRI and VPCMPESTRM with VEX.W outside 64-bit mode, where it is ignored: Zydis 4.0 gives them
 * 64-bit registers. Decodes them once more without it, from copy.
 */
static ZyanStatus ignore_w(ZydisDecoder *decoder, struct x86_decoded *d, u8 *copy)
{
	bool strings = d->z.mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || d->z.mnemonic == ZYDIS_MNEMONIC_VPCMPESTRM;

	if (likely(!strings) || d->bits == 8 || !d->z.raw.vex.W)
		return ZYAN_STATUS_SUCCESS;
	for (u32 k = 0; k < d->z.length; k++)
		copy[k] = d->bytes[k];
	copy[d->z.raw.vex.offset + 2] &= 0x7f;
	d->bytes = copy;
	return ZydisDecoderDecodeFull(decoder, copy, d->z.length, &d->z, d->op);
}

int x86_decode(struct x86_code *code, u8 bits, const u8 *bytes, u32 avail, u16 off, struct x86_insn *i, bool *ends)
{
	struct x86_decoded d = { .bytes = bytes, .bits = bits, .code = code };
	ZyanStatus status;
	u8 copy[15];

	pthread_once(&once, decode_init);
	i->off = off;
	i->bits = bits;
	*ends = true;
	status = ZydisDecoderDecodeFull(&decoders[bits >> 2], bytes, MIN(avail, 15u), &d.z, d.op);
	if (ZYAN_SUCCESS(status))
		status = ignore_w(&decoders[bits >> 2], &d, copy);
	if (!ZYAN_SUCCESS(status)) {
		if (status == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
			return -1;
		i->fn = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA ?
				x86_op_too_long :
				x86_op_ud;
		i->base = i->index = X86_GPR_ZERO;
		return 0;
	}
	i->len = d.z.length;
	i->opsize = (u8)(d.z.operand_width / 8);
	i->asize = (u8)(d.z.address_width / 8);
	lay_operands(&d, off, i);
	lay_prefixes(&d, i);
	bind_handler(&d, i);
	*ends = ends_run(&d, i);
	return d.z.length;
}
