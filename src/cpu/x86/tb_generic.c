// SPDX-License-Identifier: MIT
/*
 * Tier 1: an instruction as it is, with the guest's general registers replaced by the host's and its memory operand by a
 * checked [RAX + RCX] or [RCX]. Serves everything whose operands are all named by ModRM, the opcode or VEX.vvvv.
 *
 * Outer file. Must not know what an instruction does beyond its operands and flags.
 */
#include "cpu/x86/tb_priv.h"
#include "cpu/x86/simd.h"

/* Where an operand is named. */
enum field { F_REG, F_RM, F_OPCODE, F_VVVV, NR_FIELDS };

struct operand {
	const ZydisDecodedOperand *o;
	u8 gpr;
	bool used, high, byte, written, loaded;
	bool slot; /* the guest's register in memory is the operand itself */
	u8 host;   /* number to encode */
};

struct form {
	const struct x86_decoded *d;
	struct operand op[NR_FIELDS];
	const ZydisDecodedOperand *mem;
	bool no_rex; /* AH to BH are named */
	u8 opcode, ext;
	bool ext_is_reg; /* ModRM.reg is `ext`, part of the opcode */
};

static bool is_gpr(ZydisRegisterClass k)
{
	return k >= ZYDIS_REGCLASS_GPR8 && k <= ZYDIS_REGCLASS_GPR64;
}

static bool is_vector(ZydisRegisterClass k)
{
	return (k >= ZYDIS_REGCLASS_XMM && k <= ZYDIS_REGCLASS_ZMM) || k == ZYDIS_REGCLASS_MASK;
}

static u8 gpr_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return (u8)(r - ZYDIS_REGISTER_AH);
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return (u8)(r - ZYDIS_REGISTER_SPL + 4);
	return (u8)ZydisRegisterGetId(r);
}

/* ---- reading the instruction ---- */

/* BSF and BSR of zero leave their destination; a narrow write merges. */
static bool keeps_old(const struct x86_decoded *d, const ZydisDecodedOperand *o)
{
	return o->actions != ZYDIS_OPERAND_ACTION_WRITE || o->size < 32 || d->z.mnemonic == ZYDIS_MNEMONIC_BSF ||
	       d->z.mnemonic == ZYDIS_MNEMONIC_BSR;
}

static void name(struct form *f, enum field n, const ZydisDecodedOperand *o)
{
	ZydisRegister r = o->reg.value;

	f->op[n] = (struct operand){
		.o = o,
		.gpr = gpr_number(r),
		.used = true,
		.high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH,
		.byte = o->size == 8,
		.written = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
		.loaded = keeps_old(f->d, o),
	};
	f->no_rex |= f->op[n].high;
}

/* Short forms with an accumulator that no field names become the long ones. */
static bool name_accumulator(struct form *f, const ZydisDecodedOperand *o)
{
	u8 op = f->d->z.opcode;

	if (f->d->z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	if (op < 0x40 && (op & 6) == 4) { /* ALU AL/eAX, imm */
		f->opcode = 0x80 | (op & 1);
		f->ext = op >> 3;
		f->ext_is_reg = true;
		name(f, F_RM, o);
		return true;
	}
	if (op == 0xa8 || op == 0xa9) { /* TEST AL/eAX, imm */
		f->opcode = 0xf6 | (op & 1);
		f->ext = 0;
		f->ext_is_reg = true;
		name(f, F_RM, o);
		return true;
	}
	if (op >= 0x90 && op <= 0x97) { /* XCHG eAX, r; its other operand moves to ModRM.rm */
		f->opcode = 0x87;
		name(f, F_REG, o);
		return true;
	}
	return false;
}

static bool name_register(struct form *f, const ZydisDecodedOperand *o)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
	u8 g;

	if (k == ZYDIS_REGCLASS_FLAGS || is_vector(k) || o->reg.value == ZYDIS_REGISTER_MXCSR)
		return true;
	if (!is_gpr(k))
		return false;
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		name(f, F_REG, o);
		return true;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		name(f, F_RM, o);
		return true;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		name(f, f->d->z.mnemonic == ZYDIS_MNEMONIC_XCHG ? F_RM : F_OPCODE, o);
		return true;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		name(f, F_VVVV, o);
		return true;
	case ZYDIS_OPERAND_ENCODING_NONE:
		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN && name_accumulator(f, o))
			return true;
		g = gpr_number(o->reg.value);
		/* MULX's RDX and its like: the same register here and there */
		return x86_tr_resident(g) && x86_tr_host(g) == g;
	default:
		return false;
	}
}

static bool read_form(struct form *f, const struct x86_decoded *d)
{
	*f = (struct form){.d = d, .opcode = d->z.opcode, .ext = d->z.raw.modrm.reg};
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		switch (o->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			if (!name_register(f, o))
				return false;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (f->mem || o->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
			    o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || o->size == 0 || o->size > 512)
				return false;
			f->mem = o;
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* ---- choosing registers ---- */

/*
 * With a slot register on the side that cannot be memory, the other direction of the same operation makes it the side
 * that can.
 */
static void turn(struct form *f)
{
	struct operand *reg = &f->op[F_REG], *rm = &f->op[F_RM], swap;
	bool both = f->d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && ((f->opcode < 0x40 && (f->opcode & 7) < 4) ||
								       (f->opcode >= 0x88 && f->opcode <= 0x8b));
	bool test = f->d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (f->opcode & 0xfe) == 0x84;

	if (f->d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || f->mem || !reg->used || !rm->used ||
	    x86_tr_resident(reg->gpr) || !x86_tr_resident(rm->gpr) || !(both || test))
		return;
	swap = *reg;
	*reg = *rm;
	*rm = swap;
	if (both)
		f->opcode ^= 2;
}

/* May [slot] stand for the register? Not where a memory operand means something else, nor for a 32-bit write. */
static bool slot_can_be_operand(const struct form *f)
{
	const struct operand *rm = &f->op[F_RM];

	if (f->mem || !rm->used || rm->high || x86_tr_resident(rm->gpr) ||
	    f->d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || (rm->written && rm->o->size == 32))
		return false;
	switch (f->d->z.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_XADD: /* writes both, and they may be one */
		return false;
	default:
		return true;
	}
}

struct pool {
	u8 free[2];
	u32 n;
	struct {
		u8 gpr, host;
		bool load, store;
	} bound[2];
	u32 nbound;
};

/* A scratch register that stands for gpr; one for all its uses. */
static bool bind_scratch(struct pool *p, struct operand *op)
{
	u32 k;

	for (k = 0; k < p->nbound; k++)
		if (p->bound[k].gpr == op->gpr)
			break;
	if (k == p->nbound) {
		if (!p->n)
			return false;
		p->bound[k].gpr = op->gpr;
		p->bound[k].host = p->free[--p->n];
		p->nbound++;
	}
	p->bound[k].load |= op->loaded;
	p->bound[k].store |= op->written;
	op->host = p->bound[k].host;
	return true;
}

static bool bind_registers(struct form *f, struct pool *p)
{
	bool slot_operand;

	turn(f);
	slot_operand = slot_can_be_operand(f);
	for (u32 n = 0; n < NR_FIELDS; n++) {
		struct operand *op = &f->op[n];

		if (!op->used)
			continue;
		if (n == F_RM && slot_operand) {
			op->slot = true;
			continue;
		}
		op->host = x86_tr_host(op->gpr);
		if (op->host == H_NONE || (f->no_rex && op->host >= 8) || (op->high && op->host >= 4)) {
			if (!bind_scratch(p, op))
				return false;
		}
		if (op->high)
			op->host += 4;
	}
	return true;
}

/* ---- encoding ---- */

static void legacy_prefixes(struct x86_asm *a, const struct x86_decoded *d)
{
	for (u32 k = 0; k < d->z.raw.prefix_count; k++) {
		u8 v = d->z.raw.prefixes[k].value;
		ZydisPrefixType type = d->z.raw.prefixes[k].type;

		if ((v == 0x66 && type != ZYDIS_PREFIX_TYPE_IGNORED) ||
		    ((v == 0xf2 || v == 0xf3) && type == ZYDIS_PREFIX_TYPE_MANDATORY))
			asm_byte(a, v);
	}
	if (d->z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		asm_byte(a, 0xf0);
}

static void immediates(struct x86_asm *a, const struct x86_decoded *d)
{
	u32 from = d->z.raw.imm[0].offset;

	if (d->z.raw.imm[0].size)
		asm_bytes(a, d->bytes + from, d->z.length - from);
}

static bool encode_legacy(struct x86_asm *a, const struct form *f, u8 reg, struct asm_rm rm)
{
	const struct x86_decoded *d = f->d;
	bool low_byte = false;
	u8 rex = d->z.attributes & ZYDIS_ATTRIB_HAS_REX ? (u8)(d->z.raw.rex.W << 3) : 0;
	u8 op = f->opcode;

	for (u32 n = 0; n < NR_FIELDS; n++)
		low_byte |= f->op[n].used && f->op[n].byte && !f->op[n].high && !f->op[n].slot && f->op[n].host >= 4;
	if (f->op[F_OPCODE].used) {
		rex |= f->op[F_OPCODE].host >> 3;
		op = (u8)((op & ~7) | (f->op[F_OPCODE].host & 7));
	} else {
		rex |= (u8)((reg >> 3) << 2 | asm_rex_xb(rm));
	}
	if (rm.mem && rm.gs)
		asm_byte(a, 0x65);
	legacy_prefixes(a, d);
	if (rex || low_byte)
		asm_byte(a, 0x40 | rex);
	switch (d->z.opcode_map) {
	case ZYDIS_OPCODE_MAP_DEFAULT:
		break;
	case ZYDIS_OPCODE_MAP_0F:
		asm_byte(a, 0x0f);
		break;
	case ZYDIS_OPCODE_MAP_0F38:
		asm_bytes(a, "\x0f\x38", 2);
		break;
	case ZYDIS_OPCODE_MAP_0F3A:
		asm_bytes(a, "\x0f\x3a", 2);
		break;
	default:
		return false;
	}
	asm_byte(a, op);
	if ((d->z.attributes & ZYDIS_ATTRIB_HAS_MODRM) || f->opcode != d->z.opcode)
		asm_modrm(a, reg, rm);
	immediates(a, d);
	return true;
}

/* VEX, XOP and EVEX: register extension bits are inverted. EVEX would scale a short displacement: it must have none. */
static bool encode_vector(struct x86_asm *a, const struct form *f, u8 reg, struct asm_rm rm)
{
	const struct x86_decoded *d = f->d;
	const u8 *p = d->bytes;
	u32 at, n;
	u8 b[4];

	switch (d->z.encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		at = d->z.raw.vex.offset;
		if (p[at] == 0xc5) {
			b[0] = 0xc4;
			b[1] = (p[at + 1] & 0x80) | 0x61;
			b[2] = p[at + 1] & 0x7f;
		} else {
			memcpy(b, p + at, 3);
		}
		n = 3;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		memcpy(b, p + d->z.raw.xop.offset, 3);
		n = 3;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		memcpy(b, p + d->z.raw.evex.offset, 4);
		n = 4;
		break;
	default:
		return false;
	}
	if (f->op[F_REG].used) {
		b[1] = (u8)((b[1] & 0x7f) | (reg < 8) << 7);
		if (n == 4)
			b[1] |= 0x10;
	}
	if (rm.mem)
		b[1] = (u8)((b[1] & ~0x60) | (~asm_rex_xb(rm) & 3) << 5);
	else if (f->op[F_RM].used)
		b[1] = (u8)((b[1] & ~0x60) | 0x40 | (rm.base < 8) << 5);
	if (f->op[F_VVVV].used) {
		if (n == 4)
			return false;
		b[2] = (u8)((b[2] & ~0x78) | (~f->op[F_VVVV].host & 15) << 3);
	}
	asm_bytes(a, b, n);
	asm_byte(a, d->z.opcode);
	if (d->z.attributes & ZYDIS_ATTRIB_HAS_MODRM)
		asm_modrm(a, reg, rm);
	immediates(a, d);
	return true;
}

static bool encode(struct x86_asm *a, const struct form *f, struct asm_rm mem)
{
	const ZydisDecodedInstruction *z = &f->d->z;
	bool legacy = z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	struct asm_rm rm = mem;
	u8 reg;

	if (f->op[F_REG].used)
		reg = f->op[F_REG].host;
	else if (legacy && !f->ext_is_reg && (z->attributes & ZYDIS_ATTRIB_HAS_REX))
		reg = (u8)(f->ext | z->raw.rex.R << 3);
	else
		reg = f->ext;
	if (!f->mem) {
		if (f->op[F_RM].slot)
			rm = x86_tr_home(f->op[F_RM].gpr);
		else if (f->op[F_RM].used)
			rm = asm_reg(f->op[F_RM].host);
		else
			rm = asm_reg((u8)(z->raw.modrm.rm |
					  (legacy && (z->attributes & ZYDIS_ATTRIB_HAS_REX) ? z->raw.rex.B << 3 : 0)));
	}
	return legacy ? encode_legacy(a, f, reg, rm) : encode_vector(a, f, reg, rm);
}

/* ---- the whole ---- */

static bool generic(struct x86_tr *t, struct x86_tr_insn *ti, bool faults)
{
	bool wants = x86_tr_wants_flags(t);
	struct asm_rm at = asm_reg(0);
	struct pool p = {.free = {H_RCX, H_RAX}, .n = 2};
	struct form f;

	if (!read_form(&f, &ti->d))
		return false;
	if (f.mem) {
		p.free[0] = H_RAX;
		p.n = 1;
	}
	if (!bind_registers(&f, &p))
		return false;
	if (f.mem) {
		if (!x86_tr_check(t, ti->i, f.mem->size / 8, f.mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
				  &at))
			return false;
		if (wants || p.nbound || f.no_rex || ti->d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
			asm_lea(&t->a, H_RCX, at);
			at = asm_mem(H_RCX, 0);
		}
	}
	if (wants)
		x86_tr_to_host(t);
	if (p.nbound)
		t->rax = -1;
	t->keeps_rax = true;
	for (u32 k = 0; k < p.nbound; k++)
		if (p.bound[k].load)
			x86_tr_get(t, p.bound[k].host, p.bound[k].gpr);
	if (f.mem || faults)
		x86_tr_map(t);
	if (!encode(&t->a, &f, at))
		return false;
	for (u32 k = 0; k < p.nbound; k++)
		if (p.bound[k].store)
			x86_tr_put(t, p.bound[k].gpr, p.bound[k].host);
	x86_tr_flags_done(t);
	return true;
}

bool x86_tr_generic(struct x86_tr *t, struct x86_tr_insn *ti)
{
	return generic(t, ti, false);
}

/* ---- instructions that tier 0 runs by stubs ---- */

static void check_simd(struct x86_tr *t, u8 bit)
{
	struct x86_tr_cold *c;
	u8 before = t->s.simd;

	if (t->s.simd & bit)
		return;
	x86_tr_clobber(t);
	asm_op(&t->a, 0xf6, 0, asm_gs(X86_GS(simd_native)));
	asm_byte(&t->a, bit);
	c = x86_tr_cold(t, X86_COLD_SIMD, asm_jcc(&t->a, CC_E));
	if (!c)
		return;
	c->simd = before;
	c->bit = bit;
	t->s.simd |= bit;
}

bool x86_tr_native(struct x86_tr *t, struct x86_tr_insn *ti)
{
	const struct x86_insn *i = ti->i;

	if (i->fn == x86_op_nop)
		return true;
	if (i->fn != x86_op_native && i->fn != x86_op_native_load && i->fn != x86_op_native_store &&
	    i->fn != x86_op_native_rmw)
		return false;
	switch ((enum x86_simd_kind)i->cond) {
	case X86_KIND_INT:
	case X86_KIND_VEX_INT:
		return generic(t, ti, false);
	case X86_KIND_SSE:
		check_simd(t, X86_NATIVE_SSE);
		break;
	case X86_KIND_AVX:
		check_simd(t, X86_NATIVE_AVX);
		break;
	case X86_KIND_AVX512:
		check_simd(t, X86_NATIVE_AVX512);
		break;
	default:
		return false;
	}
	return generic(t, ti, true);
}
