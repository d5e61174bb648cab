// SPDX-License-Identifier: MIT
/*
 * Native stubs: makes them, keeps them by encoding, and binds predecoded instructions to them.
 *
 * Outer file, runs under code->lock. A stub is called as u64 stub(struct x86_cpu *c, void
 * *operand). It writes guest registers and flags only after the instruction: when that faults,
 * nothing of the guest has changed.
 */
#include "cpu/x86/native_priv.h"
#include "cpu/x86/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- emission ---- */

struct out {
	u8 b[256];
	u32 n;
};

static void byte(struct out *o, u32 v)
{
	o->b[o->n++] = (u8)v;
}

static void bytes(struct out *o, const void *p, u32 n)
{
	memcpy(o->b + o->n, p, n);
	o->n += n;
}

/* op reg, [base + disp32] with 64-bit operands: 0x8b loads, 0x89 stores. */
static void mov_cpu(struct out *o, u32 op, u32 reg, u32 base, u32 disp)
{
	byte(o, 0x48 | (reg >> 3) << 2 | base >> 3);
	byte(o, op);
	byte(o, (disp < 128 ? 0x40 : 0x80) | (reg & 7) << 3 | (base & 7));
	bytes(o, &disp, disp < 128 ? 1 : 4);
}

static void mov_reg(struct out *o, u32 to, u32 from)
{
	byte(o, 0x48 | (from >> 3) << 2 | to >> 3);
	byte(o, 0x89);
	byte(o, 0xc0 | (from & 7) << 3 | (to & 7));
}

static void push_pop(struct out *o, u32 op, u32 reg)
{
	if (reg >= 8)
		byte(o, 0x41);
	byte(o, op + (reg & 7));
}

#define CALLEE_SAVED (BIT(X86_RBX) | BIT(X86_RBP) | BIT(12) | BIT(13) | BIT(14) | BIT(15))

static u32 host_register(const struct x86_recoded *r, u32 guest)
{
	return guest == X86_RSP ? r->subst : guest;
}

static void emit_flags_in(struct out *o, u32 cpu)
{
	u32 disp = offsetof(struct x86_cpu, aflags);

	/* movzx eax, word [cpu + aflags]; add al, 0x7f: OF when AL was 1; sahf: the others from AH
	 */
	if (cpu >= 8)
		byte(o, 0x41);
	bytes(o, "\x0f\xb7", 2);
	byte(o, 0x80 | (cpu & 7));
	bytes(o, &disp, 4);
	bytes(o, "\x04\x7f\x9e", 3);
}

static void emit_flags_out(struct out *o, u32 cpu)
{
	u32 disp = offsetof(struct x86_cpu, aflags);

	/* lahf; seto al; mov [cpu + aflags], ax */
	bytes(o, "\x9f\x0f\x90\xc0\x66", 5);
	if (cpu >= 8)
		byte(o, 0x41);
	byte(o, 0x89);
	byte(o, 0x80 | (cpu & 7));
	bytes(o, &disp, 4);
}

static void emit_stub(struct out *o, const struct x86_recoded *r)
{
	u32 used = r->reads & ~BIT(X86_RSP);

	if (r->ptr != 0xff)
		used |= BIT(r->ptr);
	if (r->subst != 0xff)
		used |= BIT(r->subst);
	used |= BIT(r->cpu);
	for (u32 g = 0; g < 16; g++)
		if (used & CALLEE_SAVED & BIT(g))
			push_pop(o, 0x50, g);
	if (r->cpu != X86_RDI)
		mov_reg(o, r->cpu, X86_RDI);
	if (r->ptr != 0xff && r->ptr != X86_RSI)
		mov_reg(o, r->ptr, X86_RSI);
	if (r->flags_in)
		emit_flags_in(o, r->cpu);
	for (u32 g = 0; g < 16; g++)
		if (r->reads & BIT(g))
			mov_cpu(o, 0x8b, host_register(r, g), r->cpu, g * 8);
	bytes(o, r->bytes, r->len);
	for (u32 g = 0; g < 16; g++)
		if (r->writes & BIT(g))
			mov_cpu(o, 0x89, host_register(r, g), r->cpu, g * 8);
	if (r->flags_out)
		emit_flags_out(o, r->cpu);
	for (u32 g = 16; g-- > 0;)
		if (used & CALLEE_SAVED & BIT(g))
			push_pop(o, 0x58, g);
	byte(o, 0xc3);
}

/* ---- stubs by encoding ---- */

struct stub {
	void *code; /* NULL: free slot */
	u8 key[17]; /* re-encoded bytes, their number, the substitute of RSP: all that a stub
		       depends on */
};

struct native {
	struct stub *slot;
	u32 size, used; /* size: a power of two */
};

static u32 hash(const u8 *key)
{
	u32 h = 2166136261u;

	for (u32 k = 0; k < sizeof(((struct stub *)0)->key); k++)
		h = (h ^ key[k]) * 16777619u;
	return h ^ h >> 15;
}

static struct stub *find(const struct native *n, const u8 *key)
{
	for (u32 at = hash(key);; at++) {
		struct stub *s = &n->slot[at & (n->size - 1)];

		if (!s->code || !memcmp(s->key, key, sizeof(s->key)))
			return s;
	}
}

static int grow(struct native *n)
{
	struct native bigger = {.size = n->size * 2, .used = n->used};

	bigger.slot = calloc(bigger.size, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (u32 k = 0; k < n->size; k++)
		if (n->slot[k].code)
			*find(&bigger, n->slot[k].key) = n->slot[k];
	free(n->slot);
	*n = bigger;
	return 0;
}

int x86_native_create(struct x86_code *code)
{
	struct native *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->size = 256;
	n->slot = calloc(n->size, sizeof(*n->slot));
	if (!n->slot) {
		free(n);
		return -ENOMEM;
	}
	*x86_code_native_slot(code) = n;
	return 0;
}

void x86_native_destroy(struct x86_code *code)
{
	struct native *n = *x86_code_native_slot(code);

	if (!n)
		return;
	free(n->slot);
	free(n);
	*x86_code_native_slot(code) = NULL;
}

void x86_native_forget(struct x86_code *code)
{
	struct native *n = *x86_code_native_slot(code);

	memset(n->slot, 0, n->size * sizeof(*n->slot));
	n->used = 0;
}

/* prologue: X86_NATIVE_MASK_STUB bytes to stand before the stub, or NULL. Equal recodings make
 * equal stubs. */
static void *stub_for(struct x86_code *code, const struct x86_recoded *r, const u8 *prologue)
{
	struct native *n = *x86_code_native_slot(code);
	u8 key[sizeof(((struct stub *)0)->key)] = {0};
	struct out o = {.n = 0};
	struct stub *s;
	u8 *at;

	memcpy(key, r->bytes, r->len);
	key[15] = r->len;
	key[16] = r->subst;
	s = find(n, key);
	if (s->code)
		return s->code;
	if (n->used * 4 >= n->size * 3) {
		if (grow(n) < 0) {
			x86_code_stubs_full(code);
			return NULL;
		}
		s = find(n, key);
	}
	if (prologue)
		bytes(&o, prologue, X86_NATIVE_MASK_STUB);
	emit_stub(&o, r);
	at = x86_code_emit(code, o.b, o.n);
	if (!at)
		return NULL;
	s->code = at + (prologue ? X86_NATIVE_MASK_STUB : 0);
	memcpy(s->key, key, sizeof(key));
	n->used++;
	return s->code;
}

/* ---- masked operands ---- */

struct mask {
	u8 stub[X86_NATIVE_MASK_STUB]; /* returns the mask in RAX; int3 behind */
	u32 lane, count, bits;
	enum x86_native_mask mode;
	bool whole; /* the operand must be accessible as a whole, though only enabled lanes are
		       written */
	bool loose; /* lanes need not be aligned even where alignment is checked */
};

static void mask_stub(struct mask *m, const u8 *code, u32 len)
{
	memset(m->stub, 0xcc, sizeof(m->stub));
	memcpy(m->stub, code, len);
	m->stub[len] = 0xc3;
}

/* Lanes that one mask bit guards: a memory element may be wider or narrower than the result's
 * (conversions, dot products). */
static u32 lane_count(const struct x86_decoded *d, u32 n)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		ZydisRegisterClass rc;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		rc = ZydisRegisterGetClass(o->reg.value);
		if (rc >= ZYDIS_REGCLASS_XMM && rc <= ZYDIS_REGCLASS_ZMM)
			n = MIN(n, o->element_count);
	}
	return n;
}

/* SDM vol. 2 "Exceptions Types of EVEX-Encoded Instructions": the NF types access their whole
 * operand whatever the mask. */
static bool suppresses_faults(const struct x86_decoded *d)
{
	switch (d->z.mnemonic) { /* Zydis 4.0 has them as E4 */
	case ZYDIS_MNEMONIC_VDBPSADBW:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
	case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
		return false;
	default:
		break;
	}
	switch (d->z.meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E1NF:
	case ZYDIS_EXCEPTION_CLASS_E2NF:
	case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF:
	case ZYDIS_EXCEPTION_CLASS_E6NF:
	case ZYDIS_EXCEPTION_CLASS_E9NF:
	case ZYDIS_EXCEPTION_CLASS_E10NF:
	case ZYDIS_EXCEPTION_CLASS_E11NF:
		return false;
	default:
		return true;
	}
}

static bool evex_mask(const struct x86_decoded *d, const ZydisDecodedOperand *mem, struct mask *m)
{
	u32 k = (u32)ZydisRegisterGetId(d->z.avx.mask.reg);
	/* kmovq rax, k; without AVX512BW there are at most 16 lanes: kmovw eax, k */
	u8 wide[] = {0xc4, 0xe1, 0xfb, 0x93, (u8)(0xc0 | k)},
	   narrow[] = {0xc5, 0xf8, 0x93, (u8)(0xc0 | k)};
	u32 size = mem->size / 8, elements = mem->element_count;

	m->whole = !suppresses_faults(d);
	m->loose = false;
	if (elements == 0 || (m->whole && !(mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)))
		return false;
	m->count = lane_count(d, elements);
	m->mode = X86_MASK_LANES;
	if (d->z.meta.category == ZYDIS_CATEGORY_COMPRESS ||
	    d->z.meta.category == ZYDIS_CATEGORY_EXPAND) {
		m->count = elements;
		m->mode = X86_MASK_PACK;
	} else if (d->z.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID) {
		m->count = elements;
		m->mode = X86_MASK_FOLD;
	}
	m->lane = size / m->count;
	m->bits = m->mode == X86_MASK_FOLD ? lane_count(d, d->z.avx.vector_length / 8u / m->lane)
					   : m->count;
	if (m->bits > 16)
		mask_stub(m, wide, sizeof(wide));
	else
		mask_stub(m, narrow, sizeof(narrow));
	return true;
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q: the sign bits of a vector register. */
static bool vector_mask(const struct x86_decoded *d, const ZydisDecodedOperand *mem, struct mask *m)
{
	/* The mask is the operand in the middle, in the loads and in the stores. */
	const ZydisDecodedOperand *o = &d->op[1];
	u32 r, l = mem->size == 256;
	bool wide;

	m->whole = false;
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		wide = false;
		break;
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		wide = true;
		break;
	default:
		return false;
	}
	r = (u32)ZydisRegisterGetId(o->reg.value);
	/* vmovmskps/pd eax, xmm/ymm */
	mask_stub(m,
		  (u8[]){0xc4, r >= 8 ? 0xc1 : 0xe1, (u8)(0x78 | l << 2 | wide), 0x50,
			 (u8)(0xc0 | (r & 7))},
		  5);
	m->loose = true;
	m->lane = wide ? 8 : 4;
	m->bits = m->count = mem->size / 8 / m->lane;
	m->mode = X86_MASK_LANES;
	return true;
}

static bool byte_mask(const struct x86_decoded *d, const ZydisDecodedOperand *mem, struct mask *m)
{
	u32 r = 0;

	m->whole = m->loose = false;
	for (u32 k = 0, seen = 0; k < d->z.operand_count; k++) {
		ZydisRegisterClass rc = d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER
						? ZydisRegisterGetClass(d->op[k].reg.value)
						: ZYDIS_REGCLASS_INVALID;

		/* The first vector operand is the data, the second the mask. */
		if ((rc == ZYDIS_REGCLASS_XMM || rc == ZYDIS_REGCLASS_MMX) && seen++ == 1)
			r = (u32)ZydisRegisterGetId(d->op[k].reg.value);
	}
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ: /* pmovmskb eax, mm */
		mask_stub(m, (u8[]){0x0f, 0xd7, (u8)(0xc0 | (r & 7))}, 3);
		break;
	case ZYDIS_MNEMONIC_MASKMOVDQU: /* pmovmskb eax, xmm */
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		mask_stub(m, (u8[]){0x66, r >= 8 ? 0x41 : 0x40, 0x0f, 0xd7, (u8)(0xc0 | (r & 7))},
			  5);
		break;
	default:
		return false;
	}
	m->lane = 1;
	m->bits = m->count = mem->size / 8;
	m->mode = X86_MASK_LANES;
	return true;
}

static bool find_mask(const struct x86_decoded *d, const ZydisDecodedOperand *mem, struct mask *m)
{
	if (vector_mask(d, mem, m) || byte_mask(d, mem, m))
		return true;
	return d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
	       d->z.avx.mask.reg != ZYDIS_REGISTER_NONE && d->z.avx.mask.reg != ZYDIS_REGISTER_K0 &&
	       evex_mask(d, mem, m);
}

/* ---- binding ---- */

/* x87 control instructions leave the recorded pointers alone; FNINIT clears them. */
static void bind_x87(const struct x86_decoded *d, struct x86_insn *i)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
		i->spare |= X86_N_INIT;
		break;
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
		break;
	case ZYDIS_MNEMONIC_FLDCW:
		i->spare |= X86_N_WAITS;
		break;
	default:
		i->spare |= X86_N_X87 | X86_N_WAITS;
		i->imm = (u64)(d->z.opcode & 7) << 8 | d->bytes[d->z.raw.modrm.offset];
		break;
	}
}

/* Log2 of the alignment that the operand must have. Where the host checks it, too, this decides
 * which fault comes first. */
static u32 alignment(const struct x86_decoded *d, const ZydisDecodedOperand *mem)
{
	switch (d->z.meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE1:
	case ZYDIS_EXCEPTION_CLASS_AVX1:
	case ZYDIS_EXCEPTION_CLASS_E1:
	case ZYDIS_EXCEPTION_CLASS_E1NF:
		return (u32)__builtin_ctz(mem->size / 8u);
	default:
		break;
	}
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
		return 0;
	default: /* CMPXCHG16B is one of these */
		if (d->z.meta.isa_set ==
		    ZYDIS_ISA_SET_SHA) /* differs by vendor: the host decides */
			return 0;
		return d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && mem->size == 128 ? 4
											      : 0;
	}
}

static bool uses_mmx(const struct x86_decoded *d)
{
	for (u32 k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(d->op[k].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

/* A byte-masked store's operand is hidden, so that the decoder did not lay it out. */
static void lay_implicit(const struct x86_decoded *d, const ZydisDecodedOperand *mem,
			 struct x86_insn *i)
{
	i->flags |= X86_I_MEM;
	i->base = X86_RDI;
	i->index = X86_GPR_ZERO;
	i->scale = 0;
	i->disp = 0;
	if (d->bits == 8 && i->seg < X86_FS)
		i->flags |= X86_I_FLAT;
}

static void bind_memory(const struct x86_decoded *d, const struct x86_recoded *r, bool masked,
			struct x86_insn *i)
{
	bool reads = r->mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ,
	     writes = r->mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if (r->implicit)
		lay_implicit(d, r->mem, i);
	i->opsize = (u8)((r->mem->size + 7) / 8);
	i->spare |= (u8)(alignment(d, r->mem) << X86_N_ALIGN_SHIFT);
	if (uses_mmx(d))
		i->spare |= X86_N_WAITS;
	if (writes && (masked || !reads))
		i->spare |= X86_N_WRITE;
	if (masked)
		i->fn = x86_op_native_masked;
	else if (!writes)
		i->fn = x86_op_native_load;
	else
		i->fn = reads ? x86_op_native_rmw : x86_op_native_store;
}

bool x86_native_bind(const struct x86_decoded *d, struct x86_insn *i)
{
	enum x86_simd_kind kind = X86_KIND_INT;
	struct x86_recoded r;
	struct mask m;
	bool masked;

	switch (x86_native_isa(d, &kind)) {
	case X86_ISA_REFUSED:
		return false;
	case X86_ISA_ABSENT:
		i->fn = x86_op_ud;
		return true;
	case X86_ISA_NOP:
		i->fn = x86_op_nop;
		return true;
	case X86_ISA_RUN:
		break;
	}
	if (!x86_recode(d, &r))
		return false;
	if (r.mem && (r.mem->size == 0 || r.mem->size > 512))
		return false;
	i->cond = kind;
	i->spare = 0;
	masked = r.mem && find_mask(d, r.mem, &m);
	if (r.implicit && !masked)
		return false;
	i->stub = stub_for(d->code, &r, masked ? m.stub : NULL);
	if (!i->stub)
		return false;
	if (kind == X86_KIND_X87)
		bind_x87(d, i);
	if (masked)
		i->imm = m.lane | m.count << 8 | m.bits << 16 | (u32)m.mode << 24 |
			 (u64)m.whole << 32 | (u64)m.loose << 33;
	if (r.mem)
		bind_memory(d, &r, masked, i);
	else
		i->fn = x86_op_native;
	return true;
}

/* ---- the CPU's buffers ---- */

int x86_simd_create(struct x86_cpu *c)
{
	const struct x86_xlayout *l = x86_xlayout();

	if (!l->xcr0)
		return -EOPNOTSUPP;
	c->xsave_size = l->size;
	c->xsave = aligned_alloc(64, ALIGN_UP(l->size, 64));
	c->host_xsave =
		aligned_alloc(64, ALIGN_UP(x86_xsave_size(x86_host_xcr0()), 64) + X86_SCRATCH);
	if (!c->xsave || !c->host_xsave) {
		x86_simd_destroy(c);
		return -ENOMEM;
	}
	c->simd_live = false;
	x86_simd_reset(c);
	return 0;
}

void x86_simd_destroy(struct x86_cpu *c)
{
	free(c->xsave);
	free(c->host_xsave);
	c->xsave = c->host_xsave = NULL;
}
