// SPDX-License-Identifier: MIT
/*
 * Makes cases: random encodings over all opcode maps, states to run them on, and operands that
 * reach nothing but the arena.
 *
 * Cases run natively in this very process, so whatever could reach its memory, its segments or the
 * kernel is refused here: an instruction goes only after Zydis has named every address and every
 * branch target that it may use.
 */
#include "insn.h"

#include <string.h>

static ZydisDecoder decoder[2];

static void decoders_init(void)
{
	static bool done;

	if (done)
		return;
	ZydisDecoderInit(&decoder[0], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoder[1], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (u32 k = 0; k < 2; k++)
		ZydisDecoderEnableMode(&decoder[k], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	done = true;
}

static bool vsib(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
}

static bool decode_at(const u8 *bytes, u32 avail, u8 bits, struct x86_decoded *d)
{
	decoders_init();
	d->bytes = bytes;
	d->bits = bits;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder[bits == 8], bytes, avail, &d->z, d->op)))
		return false;
	/* A SIB byte that names no base, which Zydis 4.0 takes for R13 with VSIB or a 67 prefix. */
	for (u32 k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && d->z.raw.sib.offset &&
		    d->z.raw.modrm.mod == 0 && (d->z.raw.sib.base & 7) == 5 &&
		    ZydisRegisterGetId(d->op[k].mem.base) % 8 == 5) {
			d->op[k].mem.base = ZYDIS_REGISTER_NONE;
			d->op[k].mem.disp.has_displacement = true;
			d->op[k].mem.disp.value = d->z.raw.disp.value;
		}
	return true;
}

bool gen_decode(const struct fuzz_case *f, u32 i, struct x86_decoded *d)
{
	return decode_at(f->code + f->start[i], f->len - f->start[i], f->bits, d);
}

void fill_random(struct rng *r, void *p, u32 n)
{
	u8 *b = p;

	for (; n >= 8; n -= 8, b += 8) {
		u64 v = rnd(r);

		memcpy(b, &v, 8);
	}
	if (n) {
		u64 v = rnd(r);

		memcpy(b, &v, n);
	}
}

/* Floating-point values that are not all NaNs and infinities, and some that are. */
static void fill_floats(struct rng *r, u8 *p, u32 n)
{
	bool single = chance(r, 2);

	for (u32 k = 0; k + 8 <= n; k += 8) {
		u64 v = rnd(r);

		if (chance(r, 8)) {
			static const u64 special[] = {0,
						      BIT64(63),
						      0x7ff0000000000000ull,
						      0xfff8000000000000ull,
						      0x7ff0000000000001ull,
						      0x3ff0000000000000ull,
						      1,
						      0x000fffffffffffffull,
						      0x7fefffffffffffffull,
						      0x7f8000007f800000ull,
						      0x0000000180000000ull,
						      0x7fc000013f800000ull,
						      0x43e0000000000000ull,
						      0xc1e0000000000000ull,
						      0x4f0000004b000000ull};

			v = special[below(r, ARRAY_SIZE(special))];
			memcpy(p + k, &v, 8);
		} else if (single) {
			float s[2] = {(float)(s32)v / 1024.f, (float)(s8)(v >> 40)};

			memcpy(p + k, s, 8);
		} else {
			double x = (double)(s64)v / (double)(1ull << (rnd(r) & 63));

			memcpy(p + k, &x, 8);
		}
	}
}

void fill_memory(u64 seed, u8 *page, enum arena_page which)
{
	struct rng r = {seed * 16 + which};

	if (chance(&r, 2))
		fill_floats(&r, page, PAGE_SIZE);
	else
		fill_random(&r, page, PAGE_SIZE);
}

/* ---- states ---- */

static u64 random_value(struct rng *r)
{
	static const u64 edge[] = {0,
				   1,
				   ~0ull,
				   0x7f,
				   0x80,
				   0xff,
				   0x7fff,
				   0x8000,
				   0xffff,
				   0x7fffffff,
				   0x80000000,
				   0xffffffff,
				   0x7fffffffffffffffull,
				   0x8000000000000000ull,
				   0x100000000ull};
	u64 v = rnd(r);

	switch (below(r, 4)) {
	case 0:
		return edge[below(r, ARRAY_SIZE(edge))];
	case 1:
		return v >> (rnd(r) & 63);
	case 2:
		return (u64)((s64)v >> (rnd(r) & 63));
	default:
		return v;
	}
}

static void random_vectors(struct rng *r, u8 *p, u32 n)
{
	if (chance(r, 2))
		fill_floats(r, p, n);
	else
		fill_random(r, p, n);
}

static void random_x87(struct rng *r, u8 *x)
{
	u16 sw, cw;

	for (u32 k = 0; k < 8; k++) {
		long double v = (long double)(s64)rnd(r) / (long double)(1ull << (rnd(r) & 63));
		u8 *st = x + X86_XS_ST + 16 * k;

		if (chance(r, 8)) {
			fill_random(r, st, 10);
		} else if (chance(r, 12)) { /* zeros, infinities, denormals, unnormals, the
					       indefinite */
			static const u16 top[] = {0, 0x8000, 0x7fff, 0xffff, 0x3fff, 1};
			static const u64 low[] = {0, BIT64(63), 3ull << 62, BIT64(62), 1};

			X86_FIELD(st, 0, u64) = low[below(r, ARRAY_SIZE(low))];
			X86_FIELD(st, 8, u16) = top[below(r, ARRAY_SIZE(top))];
		} else {
			memcpy(st, &v, 10);
		}
	}
	sw = (u16)(rnd(r) & 0x7f00 & ~0x8080);
	cw = (u16)(0x40 | (rnd(r) & 0xf00) | (chance(r, 4) ? rnd(r) & 0x3f : 0x3f));
	if (chance(r, 8))
		sw |= (u16)(rnd(r) & 0x7f);
	X86_FIELD(x, X86_XS_FCW, u16) = cw;
	X86_FIELD(x, X86_XS_FSW, u16) = x86_fsw_valid(sw, cw);
	X86_FIELD(x, X86_XS_FTW, u8) = (u8)(rnd(r) | rnd(r) | rnd(r));
}

static void random_state(struct rng *r, struct fuzz_state *s, bool tame)
{
	u64 bv = xl->xcr0;
	u8 *x = s->xs;

	memset(s, 0, sizeof(*s));
	for (u32 n = 0; n < 16; n++)
		s->gpr[n] = random_value(r);
	s->flags = (rnd(r) & X86_FLAGS_ARITH) | X86_FLAG_IF | 2;
	if (chance(r, 8))
		s->flags |= X86_FLAG_DF;
	if (!tame && chance(r, 24))
		s->flags |= X86_FLAG_AC;
	random_x87(r, x);
	random_vectors(r, x + X86_XS_XMM, 256);
	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (xl->xcr0 & BIT(n))
			random_vectors(r, x + xl->off[n], xl->len[n]);
	X86_FIELD(x, X86_XS_MXCSR, u32) =
		(u32)((rnd(r) & 0xe03f & (chance(r, 2) ? ~0u : ~0x3fu)) |
		      (tame || !chance(r, 4) ? 0x1f80 : rnd(r) & 0x1f80)) |
		(chance(r, 4) ? BIT(6) : 0);
	if (chance(r, 8))
		bv &= rnd(r);
	X86_FIELD(x, X86_XS_BV, u64) = bv;
}

/* ---- encodings ---- */

enum gen_space { LEGACY1, LEGACY_0F, LEGACY_0F38, LEGACY_0F3A, X87, VEX, EVEX, XOP, NR_SPACES };

struct bytes {
	u8 b[32];
	u32 n;
};

static void put(struct bytes *o, u32 v)
{
	o->b[o->n++] = (u8)v;
}

static void put_tail(struct rng *r, struct bytes *o)
{
	u8 modrm = (u8)rnd(r);

	/* Forms with a register and with a memory operand, displacement or not, about as often. */
	if (chance(r, 3))
		modrm |= 0xc0;
	put(o, modrm);
	fill_random(r, o->b + o->n, 14);
	/* Short displacements reach the arena from an aimed register anyway; large ones wrap. */
	if (chance(r, 2))
		memset(o->b + o->n + 2 + below(r, 2), chance(r, 2) ? 0 : 0xff, 3);
	o->n += 14;
}

static void put_legacy_prefixes(struct rng *r, struct bytes *o, u8 bits)
{
	static const u8 prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf2, 0xf3, 0xf3,
				      0x67, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x65};

	while (chance(r, 3) && o->n < 6)
		put(o, prefixes[below(r, ARRAY_SIZE(prefixes))]);
	if (bits == 8 && chance(r, 2))
		put(o, 0x40 | (rnd(r) & 15));
}

static void put_vex(struct rng *r, struct bytes *o, u8 bits)
{
	u8 vvvv = chance(r, 2) ? 15 : (u8)(rnd(r) & 15), low = (u8)(rnd(r) & 7),
	   map = (u8)(1 + below(r, 3));

	if (chance(r, 6))
		put(o, chance(r, 2) ? 0x67 : 0x65);
	if (map == 1 && chance(r, 3)) {
		put(o, 0xc5);
		put(o, (bits == 4 ? 0xc0 : rnd(r) & 0x80) | vvvv << 3 | low);
	} else {
		put(o, 0xc4);
		put(o, (bits == 4 ? 0xe0 : rnd(r) & 0xe0) | map);
		put(o, (rnd(r) & 0x80) | (bits == 4 ? vvvv | 8 : vvvv) << 3 | low);
	}
	put(o, (u32)rnd(r));
}

static void put_evex(struct rng *r, struct bytes *o, u8 bits)
{
	static const u8 maps[] = {1, 1, 2, 2, 2, 3, 5, 6};
	u8 vvvv = chance(r, 2) ? 15 : (u8)(rnd(r) & 15);

	if (chance(r, 8))
		put(o, chance(r, 2) ? 0x67 : 0x65);
	put(o, 0x62);
	put(o, (bits == 4 ? 0xf0 : rnd(r) & 0xf0) | maps[below(r, ARRAY_SIZE(maps))]);
	put(o, (rnd(r) & 0x83) | (bits == 4 ? vvvv | 8 : vvvv) << 3 | 4);
	put(o,
	    (rnd(r) & 0x70) | (chance(r, 2) ? 0 : rnd(r) & 0x87) | (chance(r, 2) ? 8 : rnd(r) & 8));
	put(o, (u32)rnd(r));
}

static void random_encoding(struct rng *r, struct bytes *o, u8 bits, s32 want)
{
	static const u8 weights[] = {LEGACY1,	LEGACY1,   LEGACY1,   LEGACY1,	   LEGACY_0F,
				     LEGACY_0F, LEGACY_0F, LEGACY_0F, LEGACY_0F38, LEGACY_0F3A,
				     X87,	X87,	   VEX,	      VEX,	   VEX,
				     EVEX,	EVEX,	   EVEX,      EVEX,	   XOP};
	enum gen_space space =
		want >= 0 ? (enum gen_space)want : weights[below(r, ARRAY_SIZE(weights))];

	o->n = 0;
	if (space == XOP && !chance(r, 4))
		space = LEGACY1;
	if (space <= X87)
		put_legacy_prefixes(r, o, bits);
	switch (space) {
	case LEGACY1:
		put(o, (u32)rnd(r));
		break;
	case LEGACY_0F:
	case LEGACY_0F38:
	case LEGACY_0F3A:
		put(o, 0x0f);
		if (space != LEGACY_0F)
			put(o, space == LEGACY_0F38 ? 0x38 : 0x3a);
		put(o, (u32)rnd(r));
		break;
	case X87:
		put(o, 0xd8 | (rnd(r) & 7));
		break;
	case VEX:
		put_vex(r, o, bits);
		break;
	case EVEX:
		put_evex(r, o, bits);
		break;
	default:
		put(o, 0x8f);
		put(o, (bits == 4 ? 0xe0 : rnd(r) & 0xe0) | (8 + below(r, 3)));
		put(o, (u32)rnd(r) | (bits == 4 ? 0x40 : 0));
		put(o, (u32)rnd(r));
	}
	put_tail(r, o);
}

/* ---- what may run ---- */

static bool writes_segment(const struct x86_decoded *d)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	return false;
}

/* Talks to the kernel, changes what the process lives on, or answers differently each time. */
static bool dangerous(const struct x86_decoded *d)
{
	if (d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || writes_segment(d))
		return true;
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_WRPKRU:
	case ZYDIS_MNEMONIC_XBEGIN:
	case ZYDIS_MNEMONIC_MONITORX:
	case ZYDIS_MNEMONIC_MWAITX:
	case ZYDIS_MNEMONIC_UMWAIT:
	case ZYDIS_MNEMONIC_TPAUSE:
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_ENCLU:
	case ZYDIS_MNEMONIC_SENDUIPI:
		return true;
	case ZYDIS_MNEMONIC_INT:
		return d->op[0].imm.value.u == 0x80;
	default:
		return tolerated(d) & T_ALL;
	}
}

static u64 reg_value(const struct fuzz_case *f, const struct x86_decoded *d, ZydisRegister r)
{
	u64 v;
	u32 width;

	if (r == ZYDIS_REGISTER_NONE)
		return 0;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return code_base(f) + f->at + (u64)(d->bytes - f->code) + d->z.length;
	v = f->in.gpr[ZydisRegisterGetId(r) & 15];
	width = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, r);
	return width < 64 ? v & (BIT64(width) - 1) : v;
}

static u64 address_mask(const struct x86_decoded *d)
{
	return d->z.address_width >= 64 ? ~0ull : BIT64(d->z.address_width) - 1;
}

static bool in_arena(u64 la, u64 size)
{
	return la - ARENA_BASE < ARENA_SIZE && size <= ARENA_SIZE - (la - ARENA_BASE);
}

/* Nothing is there on either side: the first pages, and what is not canonical. */
static bool nowhere(const struct x86_decoded *d, u64 la, u64 size)
{
	if (d->bits == 8 && (u64)((s64)(la << 16) >> 16) != la)
		return (u64)((s64)((la + size) << 16) >> 16) != la + size;
	return la < 0x8000 && la + size < 0x8000;
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

static bool repeated(const struct x86_decoded *d)
{
	return d->z.meta.category == ZYDIS_CATEGORY_STRINGOP ||
	       d->z.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

static bool uses_frame(const struct x86_decoded *d)
{
	return d->z.mnemonic == ZYDIS_MNEMONIC_ENTER || d->z.mnemonic == ZYDIS_MNEMONIC_LEAVE;
}

static u64 displacement(const ZydisDecodedOperand *o)
{
	return o->mem.disp.has_displacement ? (u64)o->mem.disp.value : 0;
}

static u64 effective(const struct fuzz_case *f, const struct x86_decoded *d,
		     const ZydisDecodedOperand *o)
{
	u64 ea = displacement(o) + reg_value(f, d, o->mem.base);

	if (!vsib(o))
		ea += reg_value(f, d, o->mem.index) * o->mem.scale;
	return ea & address_mask(d);
}

/* Every address that the operand can lead to is the arena's, or nobody's. */
static bool operand_safe(const struct fuzz_case *f, const struct x86_decoded *d,
			 const ZydisDecodedOperand *o)
{
	u64 ea = effective(f, d, o), size = MAX(o->size / 8u, 8u), slack = 0x2000;

	if (o->mem.segment == ZYDIS_REGISTER_FS ||
	    (o->mem.segment == ZYDIS_REGISTER_GS && d->bits == 4))
		return false;
	if (bit_string(d)) {
		s64 bit = (s64)(f->in.gpr[ZydisRegisterGetId(d->op[1].reg.value) & 15]
				<< (64 - d->op[1].size)) >>
			  (64 - d->op[1].size);

		ea = (ea + (u64)(bit >> 3)) & address_mask(d);
	}
	if (vsib(o)) /* indices were chosen small */
		slack = 0x40000;
	if (repeated(d)) /* they stop at a hole next to the pages */
		slack = 0x40000;
	if (d->z.mnemonic == ZYDIS_MNEMONIC_ENTER)
		slack = 0x20000;
	if (in_arena(ea - slack, size + 2 * slack))
		return true;
	return !vsib(o) && !repeated(d) && d->z.mnemonic != ZYDIS_MNEMONIC_ENTER &&
	       nowhere(d, ea, size + 64);
}

static bool target_safe(const struct fuzz_case *f, const struct x86_decoded *d, u64 rip)
{
	u64 begin = code_base(f) + f->at;

	if (d->z.operand_width == 16)
		rip &= 0xffff;
	if (d->bits == 4)
		rip = (u32)rip;
	/* Into the case's own bytes only where a block wants it (branches.c); else into INT3s,
	 * data, or nothing. */
	if (rip - begin < f->len) {
		for (u32 k = 0; f->n > 1 && k < f->n; k++)
			if (rip == begin + f->start[k] && f->code + f->start[k] > d->bytes)
				return true;
		return false;
	}
	return in_arena(rip, 64) || nowhere(d, rip, 64);
}

/* What a case reads at la: 0 where it cannot, since it faults then. */
static u64 peek(const struct fuzz_case *f, u64 la)
{
	static u8 page[3 * PAGE_SIZE];
	static u64 seed = ~0ull;
	u64 v = 0;

	if (seed != f->mem_seed)
		for (u32 p = PAGE_RO; p <= PAGE_RW2; p++)
			fill_memory(f->mem_seed, page + p * PAGE_SIZE, p);
	seed = f->mem_seed;
	if (la - DATA_BASE <= sizeof(page) - 8)
		memcpy(&v, page + (la - DATA_BASE), 8);
	return v;
}

static bool branch_safe(const struct fuzz_case *f, const struct x86_decoded *d)
{
	const ZydisDecodedOperand *o = &d->op[0];
	u64 next = code_base(f) + f->at + (u64)(d->bytes - f->code) + d->z.length, t;

	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		break;
	default:
		return true;
	}
	/* Where two vendors differ in the size of the operand, one of them could land anywhere. */
	if (d->bits == 8 && (d->z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE))
		return false;
	if (d->z.meta.category == ZYDIS_CATEGORY_RET)
		t = peek(f, f->in.gpr[X86_RSP]);
	else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		t = next + (u64)o->imm.value.s;
	else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
		t = reg_value(f, d, o->reg.value);
	else
		t = peek(f, effective(f, d, o));
	if (d->z.meta.category == ZYDIS_CATEGORY_RET && d->bits == 4)
		t = (u32)t;
	return target_safe(f, d, t);
}

static bool insn_safe(const struct fuzz_case *f, const struct x86_decoded *d)
{
	if (dangerous(d))
		return false;
	/* Operands that Zydis does not name. */
	if (uses_frame(d) && !in_arena(f->in.gpr[X86_RBP] - 0x1000, 0x2000))
		return false;
	if (d->z.mnemonic == ZYDIS_MNEMONIC_CLZERO && !in_arena(f->in.gpr[X86_RAX], 64))
		return false;
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
		    !operand_safe(f, d, o))
			return false;
	}
	return branch_safe(f, d);
}

/* ---- aiming ---- */

static u64 random_place(struct rng *r, u32 size)
{
	switch (below(r, 8)) {
	case 0: /* from the last page into the hole */
		return PAGE_AT(PAGE_HOLE) - below(r, size + 2);
	case 1: /* from the hole into the read-only page */
		return PAGE_AT(PAGE_RO) - below(r, size + 2);
	case 2: /* from the read-only into a writable page, or all of it read-only */
		return PAGE_AT(PAGE_RW) - (chance(r, 4) ? below(r, PAGE_SIZE) : below(r, size + 2));
	case 3: /* over a page border */
		return PAGE_AT(PAGE_RW2) - below(r, size + 2);
	case 4: /* code, which cannot be written */
		if (chance(r, 8))
			return PAGE_AT(PAGE_CODE) + below(r, PAGE_SIZE);
		/* fall through */
	case 5:
		return (PAGE_AT(PAGE_RW) + below(r, 2 * PAGE_SIZE - 128)) & ~63ull;
	default:
		return PAGE_AT(PAGE_RW) + below(r, 2 * PAGE_SIZE - 128);
	}
}

/* Byte offset of vector register n in the image, at byte `at` of it. */
static u8 *vector_byte(u8 *x, u32 n, u32 at)
{
	if (n >= 16)
		return x + xl->off[7] + 64 * (n - 16) + at;
	if (at < 16)
		return x + X86_XS_XMM + 16 * n + at;
	return at < 32 ? x + xl->off[2] + 16 * n + at - 16 : x + xl->off[6] + 32 * n + at - 32;
}

static void small_indices(struct rng *r, struct fuzz_case *f, const struct x86_decoded *d,
			  ZydisRegister index)
{
	bool wide = d->z.opcode & 1; /* 64-bit indices */
	u32 limit = xl->xcr0 & X86_XCOMP_AVX512 ? 64 : 32, n = (u32)ZydisRegisterGetId(index);

	if (n >= 16 && !(xl->xcr0 & X86_XCOMP_AVX512))
		return;
	for (u32 at = 0; at < limit; at += wide ? 8 : 4) {
		s64 v = (s64)below(r, chance(r, 8) ? 4000 : 500) - (chance(r, 8) ? 300 : 0);

		memcpy(vector_byte(f->in.xs, n, at), &v, 4);
		if (wide)
			memcpy(vector_byte(f->in.xs, n, at + 4), (u8 *)&v + 4, 4);
	}
	X86_FIELD(f->in.xs, X86_XS_BV, u64) = xl->xcr0;
}

/* Points the operand at la by the values of its registers, or by its displacement if that is all it
 * has. */
static void aim(struct rng *r, struct fuzz_case *f, const struct x86_decoded *d,
		const ZydisDecodedOperand *o, u64 la)
{
	u64 rest = displacement(o), *base;
	u8 *code = (u8 *)d->bytes;

	if (vsib(o))
		small_indices(r, f, d, o->mem.index);
	else
		rest += reg_value(f, d, o->mem.index) * o->mem.scale;
	if (o->mem.base == ZYDIS_REGISTER_NONE || o->mem.base == ZYDIS_REGISTER_RIP ||
	    o->mem.base == ZYDIS_REGISTER_EIP) {
		u32 size = d->z.raw.disp.size / 8;
		u64 disp = la - reg_value(f, d, o->mem.base) - (rest - displacement(o));

		if (size >= 4)
			memcpy(code + d->z.raw.disp.offset, &disp, size);
		return;
	}
	base = &f->in.gpr[ZydisRegisterGetId(o->mem.base) & 15];
	if (o->mem.index == o->mem.base && !vsib(o))
		*base = (la - displacement(o)) / (o->mem.scale + 1u);
	else
		*base = la - rest;
	if (d->z.address_width == 32 && chance(r, 2)) /* the upper half does not count */
		*base = (u32)*base | (d->bits == 8 ? rnd(r) << 32 : 0);
}

static void aim_all(struct rng *r, struct fuzz_case *f, struct x86_decoded *d)
{
	if (bit_string(d)) {
		u64 *bit = &f->in.gpr[ZydisRegisterGetId(d->op[1].reg.value) & 15];

		*bit = (u64)((s64)*bit >> 44);
	}
	if (d->z.mnemonic == ZYDIS_MNEMONIC_CLZERO)
		f->in.gpr[X86_RAX] = random_place(r, 64);
	if (uses_frame(d))
		f->in.gpr[X86_RBP] = random_place(r, 64);
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			aim(r, f, d, o, random_place(r, o->size / 8u));
	}
	/* A displacement in the code may have been aimed as well. */
	decode_at(d->bytes, (u32)(f->code + f->len - d->bytes), f->bits, d);
}

/* A branch's target: its register, or where its memory operand or the stack lies, cannot hold an
 * address by chance. */
static void aim_branch(struct rng *r, struct fuzz_case *f, const struct x86_decoded *d)
{
	u64 to = chance(r, 8) ? PAGE_AT(PAGE_RW) + below(r, 64)
			      : PAGE_AT(PAGE_CODE) + below(r, 2 * PAGE_SIZE);

	if (d->z.meta.category != ZYDIS_CATEGORY_UNCOND_BR &&
	    d->z.meta.category != ZYDIS_CATEGORY_CALL)
		return;
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		f->in.gpr[ZydisRegisterGetId(d->op[0].reg.value) & 15] = chance(r, 8) ? rnd(r) : to;
	else if (d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && d->z.raw.imm[0].size == 32 &&
		 !chance(r, 8)) {
		u64 next = code_base(f) + f->at + (u64)(d->bytes - f->code) + d->z.length;
		u32 rel = (u32)(to - next);

		memcpy((u8 *)d->bytes + d->z.raw.imm[0].offset, &rel, 4);
	}
}

/* ---- cases of one instruction ---- */

static void new_state(struct rng *r, struct fuzz_case *f, bool tame)
{
	random_state(r, &f->in, tame);
	f->in.gpr[X86_RSP] = PAGE_AT(PAGE_RW) + 0x800 + below(r, 0x1000);
	if (chance(r, 2))
		f->in.gpr[X86_RSP] &= ~7ull;
	if (f->bits == 4)
		for (u32 n = 0; n < 16; n++)
			f->in.gpr[n] = n < 8 ? (u32)f->in.gpr[n] : 0;
	if (chance(r, 3))
		f->in.gpr[X86_RCX] = below(r, 40);
}

static void place_code(struct rng *r, struct fuzz_case *f)
{
	u32 end = 2 * PAGE_SIZE;

	switch (below(r, 16)) {
	case 0: /* over the border between two pages of code */
		f->at = PAGE_SIZE - 1 - below(r, MIN(f->len, 15u));
		break;
	case 1: /* up to the end of code, or past it: what does not fit is not there */
		f->at = end - f->len + (chance(r, 2) ? below(r, MIN(f->len, 15u)) : 0);
		break;
	default:
		f->at = 64 + below(r, PAGE_SIZE - CODE_SIZE - 128);
	}
}

static bool single(struct rng *r, struct fuzz_case *f, const struct gen_options *o)
{
	struct x86_decoded d;
	struct bytes b;
	u32 len;

	random_encoding(r, &b, f->bits, o->encoding);
	if (!decode_at(b.b, MIN(b.n, 15u), f->bits, &d))
		return false;
	len = d.z.length;
	memset(f->code, 0xcc, sizeof(f->code));
	memcpy(f->code, b.b, len);
	f->len = len;
	f->n = 1;
	f->start[0] = 0;
	place_code(r, f);
	f->start[1] = (u16)len;
	new_state(r, f, false);
	f->in.rip = code_base(f) + f->at;
	f->len = len; /* aim at all of it, cut it afterwards */
	d.bytes = f->code;
	aim_all(r, f, &d);
	aim_branch(r, f, &d);
	if (!decode_at(f->code, len, f->bits, &d) || !insn_safe(f, &d))
		return false;
	if (f->bits == 4)
		for (u32 n = 0; n < 16; n++)
			f->in.gpr[n] = (u32)f->in.gpr[n];
	f->len = MIN(len, 2 * PAGE_SIZE - f->at);
	return true;
}

bool gen_safe(const struct fuzz_case *f)
{
	struct x86_decoded d;

	for (u32 k = 0; k < f->n; k++)
		if (!decode_at(f->code + f->start[k], (u32)(f->start[k + 1] - f->start[k]), f->bits,
			       &d) ||
		    !insn_safe(f, &d))
			return false;
	return true;
}

bool gen_case(struct fuzz_case *f, u64 seed, const struct gen_options *o)
{
	struct rng r = {seed};

	f->bits = o->bits ? o->bits : chance(&r, 3) ? 4 : 8;
	f->smc = false;
	f->cold = chance(&r, 8);
	f->mem_seed = seed >> 8;
	return single(&r, f, o);
}
