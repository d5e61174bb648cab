// SPDX-License-Identifier: MIT
/*
 * Re-encodes an instruction for a stub: 64-bit code, its memory operand a plain [register], no use
 * of RSP.
 *
 * Outer file. The result is decoded again and compared operand by operand with the original, so
 * that an encoding with another meaning in 64-bit mode can never slip through.
 */
#include "cpu/x86/native_priv.h"

#include <pthread.h>
#include <string.h>

static ZydisDecoder decoder;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_decoder(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

/* ---- operands ---- */

static bool is_gpr(ZydisRegisterClass k)
{
	return k >= ZYDIS_REGCLASS_GPR8 && k <= ZYDIS_REGCLASS_GPR64;
}

/* Number of the full register that r is part of. */
static u8 gpr_number(ZydisRegister r)
{
	return (u8)ZydisRegisterGetId(
		ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static bool class_allowed(ZydisRegisterClass k)
{
	switch (k) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
	case ZYDIS_REGCLASS_MASK:
	case ZYDIS_REGCLASS_FLAGS:
		return true;
	default:
		return false;
	}
}

static bool register_allowed(const ZydisDecodedOperand *o)
{
	switch (o->reg.value) {
	case ZYDIS_REGISTER_X87CONTROL:
	case ZYDIS_REGISTER_X87STATUS:
	case ZYDIS_REGISTER_X87TAG:
	case ZYDIS_REGISTER_MXCSR:
		return o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
	default:
		return class_allowed(ZydisRegisterGetClass(o->reg.value));
	}
}

#define ARITH                                                                                      \
	(ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF |               \
	 ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF)

static bool collect_flags(const struct x86_decoded *d, struct x86_recoded *r)
{
	const ZydisAccessedFlags *f = d->z.cpu_flags;
	u32 written;

	if (!f)
		return true;
	written = f->modified | f->set_0 | f->set_1 | f->undefined;
	if ((written | f->tested) & ~(u32)ARITH)
		return false;
	/* Hardware may leave an undefined flag as it was: give it the guest's to keep. */
	r->flags_in = f->tested || written;
	r->flags_out = written;
	return true;
}

static bool bit_string(const struct x86_decoded *d)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	default:
		return false;
	}
}

static bool byte_mask_store(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_MASKMOVQ || m == ZYDIS_MNEMONIC_MASKMOVDQU ||
	       m == ZYDIS_MNEMONIC_VMASKMOVDQU;
}

static bool collect_operands(const struct x86_decoded *d, struct x86_recoded *r)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		u8 g;

		switch (o->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			if (!register_allowed(o))
				return false;
			if (!is_gpr(ZydisRegisterGetClass(o->reg.value)))
				break;
			/* The address register of a byte-masked store is no operand of the stub. */
			if (r->implicit)
				break;
			g = gpr_number(o->reg.value);
			if (g == X86_RSP && o->encoding == ZYDIS_OPERAND_ENCODING_NONE)
				return false;
			r->reads |= (u16)BIT(g);
			if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
				r->writes |= (u16)BIT(g);
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (r->mem || o->mem.type != ZYDIS_MEMOP_TYPE_MEM)
				return false;
			if (o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM && !r->implicit)
				return false;
			r->mem = o;
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (o->imm.is_relative)
				return false;
			break;
		default:
			return false;
		}
	}
	return !(r->mem && bit_string(d));
}

/* First register of the list that is not in use; 0xff: none. */
static u8 pick(const u8 *list, u32 n, u16 used)
{
	for (u32 k = 0; k < n; k++)
		if (!(used & BIT(list[k])))
			return list[k];
	return 0xff;
}

/*
 * RAX carries the flags on their way in and out, so nothing that lives across them may be there.
 * The address must be encodable as mod = 0 without SIB or REX.
 */
static bool assign_registers(struct x86_recoded *r)
{
	static const u8 pointers[] = {X86_RSI, X86_RDX, X86_RCX, X86_RDI, X86_RBX};
	static const u8 cpus[] = {X86_RDI, 8, 9, 10, 11, X86_RBX, X86_RBP};
	static const u8 substitutes[] = {X86_RDX, X86_RCX, X86_RBX, X86_RBP, X86_RSI, X86_RDI};
	u16 used = (u16)((r->reads & ~BIT(X86_RSP)) | BIT(X86_RAX));

	r->ptr = r->subst = 0xff;
	if (r->implicit)
		r->ptr = X86_RDI;
	else if (r->mem)
		r->ptr = pick(pointers, ARRAY_SIZE(pointers), used);
	if (r->mem && r->ptr == 0xff)
		return false;
	if (r->mem)
		used |= (u16)BIT(r->ptr);
	r->cpu = pick(cpus, ARRAY_SIZE(cpus), used);
	used |= (u16)BIT(r->cpu);
	if (r->reads & BIT(X86_RSP)) {
		r->subst = pick(substitutes, ARRAY_SIZE(substitutes), used);
		if (r->subst == 0xff)
			return false;
	}
	return r->cpu != 0xff;
}

/* ---- bytes ---- */

struct choice {
	bool toggle66; /* 16-bit code: its default operand size is the prefixed one of 64-bit code
			*/
	bool clear_w;  /* VEX.W of general-register forms is ignored outside 64-bit mode */
};

static void put_prefixes(const struct x86_decoded *d, struct choice ch, struct x86_recoded *r)
{
	u64 a = d->z.attributes;
	bool have66 = false;

	for (u32 k = 0; k < d->z.raw.prefix_count; k++) {
		u8 v = d->z.raw.prefixes[k].value;

		switch (v) {
		case 0x66:
			have66 = true;
			break;
		case 0xf2:
		case 0xf3:
			/* Elision would open a transaction that the engine then runs in. */
			if (a & (ZYDIS_ATTRIB_HAS_XACQUIRE | ZYDIS_ATTRIB_HAS_XRELEASE))
				break;
			r->bytes[r->len++] = v;
			break;
		case 0xf0:
			r->bytes[r->len++] = v;
			break;
		default: /* segments, address size; REX is made anew */
			break;
		}
	}
	if (have66 != ch.toggle66)
		r->bytes[r->len++] = 0x66;
	if ((a & ZYDIS_ATTRIB_HAS_REX) && d->bits == 8) {
		u8 rex = (u8)(0x40 | d->z.raw.rex.W << 3 | d->z.raw.rex.R << 2);

		if (!r->mem || r->implicit)
			rex |= (u8)(d->z.raw.rex.X << 1 | d->z.raw.rex.B);
		r->bytes[r->len++] = rex;
	}
}

/* Bits of vector prefixes that count only in 64-bit mode, and those that extended the address
 * registers. */
static void fix_vector_prefix(const struct x86_decoded *d, struct choice ch, struct x86_recoded *r,
			      u8 *p)
{
	bool narrow = d->bits != 8;

	switch (d->z.encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		if (p[0] == 0xc5) {
			if (narrow)
				p[1] |= 0xc0;
			break;
		}
		/* fall through */
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		if (narrow) {
			p[1] |= 0xe0;
			p[2] |= 0x40;
		} else if (r->mem && !r->implicit) {
			p[1] |= 0x60;
		}
		if (ch.clear_w)
			p[2] &= 0x7f;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		if (narrow) {
			p[1] |= 0xf0;
			p[2] |= 0x40;
			p[3] |= 0x08;
		} else if (r->mem && !r->implicit) {
			p[1] |= 0x60;
		}
		if (ch.clear_w)
			p[2] &= 0x7f;
		break;
	default:
		break;
	}
}

/* Puts the substitute where an explicit operand names RSP. */
static bool replace_rsp(const struct x86_decoded *d, struct x86_recoded *r, u8 *vector, u8 *modrm,
			u8 *opcode)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !is_gpr(ZydisRegisterGetClass(o->reg.value)) ||
		    gpr_number(o->reg.value) != X86_RSP)
			continue;
		switch (o->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG:
			*modrm = (u8)((*modrm & ~0x38) | r->subst << 3);
			break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM:
			*modrm = (u8)((*modrm & ~7) | r->subst);
			break;
		case ZYDIS_OPERAND_ENCODING_OPCODE:
			*opcode = (u8)((*opcode & ~7) | r->subst);
			break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD:
			if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
				return false;
			vector = vector[0] == 0xc5 ? vector + 1 : vector + 2;
			*vector = (u8)((*vector & ~0x78) | (~r->subst & 15) << 3);
			break;
		default:
			return false;
		}
	}
	return true;
}

static bool build(const struct x86_decoded *d, struct choice ch, struct x86_recoded *r)
{
	bool has_modrm = d->z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
	u32 at = d->z.raw.prefix_count, tail;
	u8 *head, *modrm, *opcode;

	r->len = 0;
	put_prefixes(d, ch, r);
	head = r->bytes + r->len;
	if (!has_modrm) {
		u32 end = d->z.raw.imm[0].size ? d->z.raw.imm[0].offset : d->z.length;

		memcpy(head, d->bytes + at, d->z.length - at);
		r->len += (u8)(d->z.length - at);
		opcode = head + end - at - 1;
		return r->subst == 0xff || replace_rsp(d, r, head, opcode, opcode);
	}
	memcpy(head, d->bytes + at, d->z.raw.modrm.offset - at);
	r->len += (u8)(d->z.raw.modrm.offset - at);
	fix_vector_prefix(d, ch, r, head);
	modrm = &r->bytes[r->len++];
	*modrm = d->bytes[d->z.raw.modrm.offset];
	if (r->mem && !r->implicit)
		*modrm = (u8)((*modrm & 0x38) | r->ptr);
	if (r->subst != 0xff && !replace_rsp(d, r, head, modrm, modrm - 1))
		return false;
	tail = d->z.raw.modrm.offset + 1u + !!(d->z.attributes & ZYDIS_ATTRIB_HAS_SIB) +
	       d->z.raw.disp.size / 8;
	if (r->len + d->z.length - tail > sizeof(r->bytes))
		return false;
	memcpy(r->bytes + r->len, d->bytes + tail, d->z.length - tail);
	r->len += (u8)(d->z.length - tail);
	/* A register in the immediate has three bits outside 64-bit mode. */
	for (u32 k = 0; d->bits != 8 && k < d->z.operand_count; k++)
		if (d->op[k].encoding == ZYDIS_OPERAND_ENCODING_IS4)
			r->bytes[r->len - 1] &= 0x7f;
	return true;
}

static bool same_register(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b,
			  const struct x86_recoded *r)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(a->reg.value);

	if (k == ZYDIS_REGCLASS_FLAGS)
		return ZydisRegisterGetClass(b->reg.value) == k;
	if (!is_gpr(k))
		return a->reg.value == b->reg.value;
	if (ZydisRegisterGetClass(b->reg.value) != k)
		return false;
	if (r->subst != 0xff && gpr_number(a->reg.value) == X86_RSP)
		return gpr_number(b->reg.value) == r->subst &&
		       !(b->reg.value >= ZYDIS_REGISTER_AH && b->reg.value <= ZYDIS_REGISTER_BH);
	return a->reg.value == b->reg.value;
}

static bool same_operand(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b,
			 const struct x86_recoded *r)
{
	if (a->type != b->type || a->actions != b->actions)
		return false;
	/* The flags register has the width of the mode. */
	if (a->size != b->size && !(a->type == ZYDIS_OPERAND_TYPE_REGISTER &&
				    ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_FLAGS))
		return false;
	switch (a->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return same_register(a, b, r);
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return b->mem.type == ZYDIS_MEMOP_TYPE_MEM && gpr_number(b->mem.base) == r->ptr &&
		       b->mem.index == ZYDIS_REGISTER_NONE && b->mem.disp.value == 0 &&
		       b->mem.segment != ZYDIS_REGISTER_FS && b->mem.segment != ZYDIS_REGISTER_GS;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		return a->imm.value.u == b->imm.value.u;
	default:
		return false;
	}
}

/* The byte-masked stores name their address register as a hidden operand, whose width is the
 * address size. */
static bool address_operand(const struct x86_recoded *r, const ZydisDecodedOperand *o)
{
	return r->implicit && o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       is_gpr(ZydisRegisterGetClass(o->reg.value));
}

static bool same_meaning(const struct x86_decoded *d, const struct x86_recoded *r)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, r->bytes, r->len, &z, op)))
		return false;
	if (z.length != r->len || z.mnemonic != d->z.mnemonic ||
	    z.operand_count != d->z.operand_count || z.encoding != d->z.encoding ||
	    z.avx.mask.reg != d->z.avx.mask.reg || z.avx.mask.mode != d->z.avx.mask.mode ||
	    z.avx.vector_length != d->z.avx.vector_length ||
	    z.avx.broadcast.mode != d->z.avx.broadcast.mode ||
	    z.avx.rounding.mode != d->z.avx.rounding.mode || z.avx.has_sae != d->z.avx.has_sae)
		return false;
	for (u32 k = 0; k < z.operand_count; k++)
		if (!address_operand(r, &op[k]) && !same_operand(&d->op[k], &op[k], r))
			return false;
	return true;
}

bool x86_recode(const struct x86_decoded *d, struct x86_recoded *r)
{
	pthread_once(&once, init_decoder);
	*r = (struct x86_recoded){.implicit = byte_mask_store(d->z.mnemonic)};
	if (!collect_flags(d, r) || !collect_operands(d, r) || !assign_registers(r))
		return false;
	for (u32 n = 0; n < 4; n++) {
		struct choice ch = {.toggle66 = n & 1, .clear_w = n & 2};

		if (build(d, ch, r) && same_meaning(d, r))
			return true;
	}
	return false;
}
