// SPDX-License-Identifier: MIT
/*
 * String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, with every prefix, operand and
 * address size.
 *
 * Engine file. With REP, what lies in one page on each side is one step, done by the host's own
 * instruction on host addresses: element order, overlaps and aliased pages then behave as on
 * hardware. Registers are brought up to date after each step, so that a fault in the next one, or a
 * request served in between, finds them as the architecture wants.
 */
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/port.h"
#include "cpu/x86/seg.h"

/* What a step came to. */
struct step {
	u64 done;  /* elements */
	bool stop; /* CMPS, SCAS: the condition of REPE or REPNE ended the loop */
};

typedef struct step step_fn(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n);

static bool repeats(const struct x86_insn *i)
{
	return i->flags & (X86_I_REP | X86_I_REPNE);
}

static bool backward(const struct x86_cpu *c)
{
	return c->rflags & X86_FLAG_DF;
}

/* ---- addresses ---- */

static u64 index_get(const struct x86_cpu *c, const struct x86_insn *i, u8 reg)
{
	return c->gpr[reg] & x86_asize_mask(i->asize);
}

static void index_advance(struct x86_cpu *c, const struct x86_insn *i, u8 reg, u32 size, u64 n)
{
	u64 by = n * size, v = c->gpr[reg];

	x86_set_reg(c, (u8)(reg * 8), i->asize, backward(c) ? v - by : v + by);
}

/* How many bytes from ea on can be walked through before the offset wraps or the segment ends; at
 * least 1. */
static u64 segment_left(const struct x86_cpu *c, const struct x86_insn *i, u8 seg, u64 ea)
{
	const struct x86_seg *s = &c->seg[seg];
	u64 wrap = i->asize == 8 ? ~0ull : x86_asize_mask(i->asize) - ea + 1, left;

	if (x86_long_mode(c) || (c->flat & BIT(seg)))
		return wrap;
	if ((s->attr & X86_SEG_S) && (s->attr & X86_SEG_TYPE & 0xc) == 4) /* expand-down data */
		left = (s->attr & X86_SEG_DB ? 0xffffffffull : 0xffffull) - ea + 1;
	else
		left = s->limit - ea + 1ull;
	return MIN(left, wrap);
}

/*
 * Host memory for up to *n elements at seg:reg, lowering *n to what fits; NULL: one element by the
 * accessors. Checks and faults as the first element's access would. code as in x86_span_store(),
 * NULL for reading.
 */
static u8 *elements(struct x86_cpu *c, const struct x86_insn *i, u8 seg, u8 reg, u32 size,
		    bool *code, u64 *n)
{
	u64 ea = index_get(c, i, reg), la = x86_linear(c, seg, ea, size, code), left;
	u32 bytes;
	u8 *host;

	host = code ? x86_span_store(c, seg, la, &bytes, code)
		    : x86_span(c, seg, la, false, &bytes);
	if (!host)
		return NULL;
	left = segment_left(c, i, seg, ea);
	left = MIN(left, bytes) / size;
	if (!left)
		return NULL;
	*n = MIN(*n, left);
	return host;
}

static u64 load(struct x86_cpu *c, u8 seg, u64 la, u32 size)
{
	switch (size) {
	case 1:
		return x86_ld8(c, seg, la);
	case 2:
		return x86_ld16(c, seg, la);
	case 4:
		return x86_ld32(c, seg, la);
	default:
		return x86_ld64(c, seg, la);
	}
}

static void store(struct x86_cpu *c, u8 seg, u64 la, u32 size, u64 v)
{
	switch (size) {
	case 1:
		x86_st8(c, seg, la, (u8)v);
		break;
	case 2:
		x86_st16(c, seg, la, (u16)v);
		break;
	case 4:
		x86_st32(c, seg, la, (u32)v);
		break;
	default:
		x86_st64(c, seg, la, v);
	}
}

static u64 source(struct x86_cpu *c, const struct x86_insn *i, u32 size)
{
	return load(c, i->seg, x86_linear(c, i->seg, index_get(c, i, X86_RSI), size, false), size);
}

static u64 destination(struct x86_cpu *c, const struct x86_insn *i, u32 size, bool write)
{
	return x86_linear(c, X86_ES, index_get(c, i, X86_RDI), size, write);
}

/* ---- the host's instructions ---- */

#define SIZES(size, b, w, d, q)                                                                    \
	switch (size) {                                                                            \
	case 1:                                                                                    \
		b;                                                                                 \
		break;                                                                             \
	case 2:                                                                                    \
		w;                                                                                 \
		break;                                                                             \
	case 4:                                                                                    \
		d;                                                                                 \
		break;                                                                             \
	default:                                                                                   \
		q;                                                                                 \
	}

#define MOVS(suffix) __asm__ volatile("rep movs" suffix : "+D"(d), "+S"(s), "+c"(n) : : "memory")
static void host_movs(u8 *d, const u8 *s, u64 n, u32 size)
{
	SIZES(size, MOVS("b"), MOVS("w"), MOVS("l"), MOVS("q"))
}

#define STOS(suffix) __asm__ volatile("rep stos" suffix : "+D"(d), "+c"(n) : "a"(v) : "memory")
static void host_stos(u8 *d, u64 v, u64 n, u32 size)
{
	SIZES(size, STOS("b"), STOS("w"), STOS("l"), STOS("q"))
}

/* Both return the elements not reached; flags are those of the last comparison. n is not 0. */
#define CMPS(rep, suffix)                                                                          \
	__asm__ volatile(rep " cmps" suffix "; lahf; seto %%al"                                    \
			 : "+S"(a), "+D"(b), "+c"(n), "=a"(f)                                      \
			 :                                                                         \
			 : "memory", "cc")
static u64 host_cmps(const u8 *a, const u8 *b, u64 n, u32 size, bool while_equal, u16 *flags)
{
	u64 f;

	if (while_equal)
		SIZES(size, CMPS("repe", "b"), CMPS("repe", "w"), CMPS("repe", "l"),
		      CMPS("repe", "q"))
	else
		SIZES(size, CMPS("repne", "b"), CMPS("repne", "w"), CMPS("repne", "l"),
		      CMPS("repne", "q"))
	*flags = (u16)f;
	return n;
}

#define SCAS(rep, suffix)                                                                          \
	__asm__ volatile(rep " scas" suffix "; lahf; seto %%al"                                    \
			 : "+D"(b), "+c"(n), "+a"(v)                                               \
			 :                                                                         \
			 : "memory", "cc")
static u64 host_scas(u64 v, const u8 *b, u64 n, u32 size, bool while_equal, u16 *flags)
{
	if (while_equal)
		SIZES(size, SCAS("repe", "b"), SCAS("repe", "w"), SCAS("repe", "l"),
		      SCAS("repe", "q"))
	else
		SIZES(size, SCAS("repne", "b"), SCAS("repne", "w"), SCAS("repne", "l"),
		      SCAS("repne", "q"))
	*flags = (u16)v;
	return n;
}

/* ---- steps: at most n elements, registers but RCX brought up to date ---- */

static struct step movs_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	if (n > 1 && !backward(c)) {
		u8 *s = elements(c, i, i->seg, X86_RSI, size, NULL, &n), *d;
		bool code;

		d = s ? elements(c, i, X86_ES, X86_RDI, size, &code, &n) : NULL;
		if (d) {
			host_movs(d, s, n, size);
			if (code)
				x86_span_stored(c, d, (u32)n * size);
			goto moved;
		}
	}
	n = 1;
	{
		u64 v = source(c, i, size);

		store(c, X86_ES, destination(c, i, size, true), size, v);
	}
moved:
	index_advance(c, i, X86_RSI, size, n);
	index_advance(c, i, X86_RDI, size, n);
	return (struct step){.done = n};
}

static struct step stos_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	bool code;
	u8 *d = n > 1 && !backward(c) ? elements(c, i, X86_ES, X86_RDI, size, &code, &n) : NULL;

	if (d) {
		host_stos(d, c->gpr[X86_RAX], n, size);
		if (code)
			x86_span_stored(c, d, (u32)n * size);
	} else {
		n = 1;
		store(c, X86_ES, destination(c, i, size, true), size, c->gpr[X86_RAX]);
	}
	index_advance(c, i, X86_RDI, size, n);
	return (struct step){.done = n};
}

static struct step lods_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	x86_set_reg(c, X86_RAX * 8, (u8)size, source(c, i, size));
	index_advance(c, i, X86_RSI, size, 1);
	return (struct step){.done = 1};
}

static bool loop_ends(const struct x86_cpu *c, const struct x86_insn *i)
{
	bool zf = c->aflags & X86_AF_ZF;

	return zf == !!(i->flags & X86_I_REPNE);
}

static struct step cmps_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	bool equal = !(i->flags & X86_I_REPNE);
	const u8 *a = NULL, *b = NULL;
	u64 va, vb;

	if (n > 1 && !backward(c)) {
		a = elements(c, i, i->seg, X86_RSI, size, NULL, &n);
		b = a ? elements(c, i, X86_ES, X86_RDI, size, NULL, &n) : NULL;
	}
	if (!b) {
		n = 1;
		va = source(c, i, size);
		vb = load(c, X86_ES, destination(c, i, size, false), size);
		a = (const u8 *)&va;
		b = (const u8 *)&vb;
	}
	n -= host_cmps(a, b, n, size, equal, &c->aflags);
	index_advance(c, i, X86_RSI, size, n);
	index_advance(c, i, X86_RDI, size, n);
	return (struct step){.done = n, .stop = loop_ends(c, i)};
}

static struct step scas_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	bool equal = !(i->flags & X86_I_REPNE);
	const u8 *b =
		n > 1 && !backward(c) ? elements(c, i, X86_ES, X86_RDI, size, NULL, &n) : NULL;
	u64 v;

	if (!b) {
		n = 1;
		v = load(c, X86_ES, destination(c, i, size, false), size);
		b = (const u8 *)&v;
	}
	n -= host_scas(c->gpr[X86_RAX], b, n, size, equal, &c->aflags);
	index_advance(c, i, X86_RDI, size, n);
	return (struct step){.done = n, .stop = loop_ends(c, i)};
}

/* The most elements that one port exit may carry: they must not leave the page that the first one
 * lies in. */
static u32 port_batch(struct x86_cpu *c, const struct x86_insn *i, u8 seg, u8 reg, u32 size, u64 la,
		      u64 n)
{
	u64 left = segment_left(c, i, seg, index_get(c, i, reg));

	left = MIN(left, PAGE_SIZE - (la & ~PAGE_MASK)) / size;
	return backward(c) || !left || x86_watching(c) ? 1 : (u32)MIN(n, left);
}

static struct step ins_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	u16 port = (u16)c->gpr[X86_RDX];
	u64 la = destination(c, i, size, true), v = 0;

	/* A port's side effect cannot be taken back, so the store must be known to succeed. */
	x86_probe(c, X86_ES, la, size, true);
	x86_pio_string_in(c, port, &v, size, port_batch(c, i, X86_ES, X86_RDI, size, la, n));
	store(c, X86_ES, la, size, v);
	index_advance(c, i, X86_RDI, size, 1);
	return (struct step){.done = 1};
}

static struct step outs_step(struct x86_cpu *c, const struct x86_insn *i, u32 size, u64 n)
{
	u16 port = (u16)c->gpr[X86_RDX];
	u64 la = x86_linear(c, i->seg, index_get(c, i, X86_RSI), size, false),
	    v = load(c, i->seg, la, size), k = 1;

	if (!repeats(i)) {
		x86_pio_write(c, port, &v, size);
		index_advance(c, i, X86_RSI, size, 1);
		return (struct step){.done = 1};
	}
	if (!x86_pio_string_out_now(c, port, &v, size)) {
		u32 bytes, batch = port_batch(c, i, i->seg, X86_RSI, size, la, n);
		const u8 *host = batch > 1 ? x86_span(c, i->seg, la, false, &bytes) : NULL;

		x86_copy(c->pio_data, &v, size);
		if (host) {
			k = batch;
			x86_copy(c->pio_data + size, host + size, (k - 1) * size);
		}
		index_advance(c, i, X86_RSI, size, k);
		x86_set_reg(c, X86_RCX * 8, i->asize, c->gpr[X86_RCX] - k);
		x86_pio_string_out_leave(c, port, size, (u32)k);
	}
	index_advance(c, i, X86_RSI, size, 1);
	return (struct step){.done = 1};
}

/* ---- repetition ---- */

static inline __attribute__((always_inline)) const struct x86_insn *
string_op(struct x86_cpu *c, const struct x86_insn *i, step_fn *step, u32 size)
{
	bool single = (c->rflags & X86_FLAG_TF) || (c->guest_debug & X86_GUESTDBG_STEP);
	u64 n;

	if (!repeats(i)) {
		step(c, i, size, 1);
		return x86_next(i);
	}
	while ((n = index_get(c, i, X86_RCX))) {
		struct step s = step(c, i, size, single ? 1 : n);

		x86_set_reg(c, X86_RCX * 8, i->asize, n - s.done);
		if (s.stop || n == s.done)
			break;
		/* An element is an instruction of its own to the devices, but an answer of several
		 * is used up first. */
		if (c->io.pio_count)
			continue;
		if (single || READ_ONCE(c->req))
			return i;
		x86_io_done(c);
	}
	/* The VMM may have lowered RCX while it answered: what is left of its answer is nobody's. */
	c->io.pio_count = 0;
	return x86_next(i);
}

#define OP(name, step, size)                                                                       \
	static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)            \
	{                                                                                          \
		return string_op(c, i, step, size);                                                \
	}
#define OPS(name)                                                                                  \
	OP(name##b, name##_step, 1)                                                                \
	OP(name##w, name##_step, 2)                                                                \
	OP(name##d, name##_step, 4)                                                                \
	OP(name##q, name##_step, 8)
OPS(movs)
OPS(stos)
OPS(lods)
OPS(cmps)
OPS(scas)

#define PORT_OP(name, step, size)                                                                  \
	static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)            \
	{                                                                                          \
		u16 port = (u16)c->gpr[X86_RDX];                                                   \
                                                                                                   \
		/* The permission is asked for even if there is nothing to move. */                \
		x86_io_allowed(c, port, size);                                                     \
		if (!repeats(i) || index_get(c, i, X86_RCX))                                       \
			x86_port_watch(c, port, size);                                             \
		return string_op(c, i, step, size);                                                \
	}
#define PORT_OPS(name)                                                                             \
	PORT_OP(name##b, name##_step, 1)                                                           \
	PORT_OP(name##w, name##_step, 2)                                                           \
	PORT_OP(name##d, name##_step, 4)
PORT_OPS(ins)
PORT_OPS(outs)

/* ---- binding ---- */

static const struct {
	u16 mnemonic;
	x86_op_fn *fn;
} handlers[] = {
	{ZYDIS_MNEMONIC_MOVSB, movsb}, {ZYDIS_MNEMONIC_MOVSW, movsw}, {ZYDIS_MNEMONIC_MOVSD, movsd},
	{ZYDIS_MNEMONIC_MOVSQ, movsq}, {ZYDIS_MNEMONIC_STOSB, stosb}, {ZYDIS_MNEMONIC_STOSW, stosw},
	{ZYDIS_MNEMONIC_STOSD, stosd}, {ZYDIS_MNEMONIC_STOSQ, stosq}, {ZYDIS_MNEMONIC_LODSB, lodsb},
	{ZYDIS_MNEMONIC_LODSW, lodsw}, {ZYDIS_MNEMONIC_LODSD, lodsd}, {ZYDIS_MNEMONIC_LODSQ, lodsq},
	{ZYDIS_MNEMONIC_CMPSB, cmpsb}, {ZYDIS_MNEMONIC_CMPSW, cmpsw}, {ZYDIS_MNEMONIC_CMPSD, cmpsd},
	{ZYDIS_MNEMONIC_CMPSQ, cmpsq}, {ZYDIS_MNEMONIC_SCASB, scasb}, {ZYDIS_MNEMONIC_SCASW, scasw},
	{ZYDIS_MNEMONIC_SCASD, scasd}, {ZYDIS_MNEMONIC_SCASQ, scasq}, {ZYDIS_MNEMONIC_INSB, insb},
	{ZYDIS_MNEMONIC_INSW, insw},   {ZYDIS_MNEMONIC_INSD, insd},   {ZYDIS_MNEMONIC_OUTSB, outsb},
	{ZYDIS_MNEMONIC_OUTSW, outsw}, {ZYDIS_MNEMONIC_OUTSD, outsd},
};

/*
 * MOVSD and CMPSD are also names of SSE instructions, which have two-byte opcodes. Prefixes are
 * read from the bytes: F2 repeats MOVS, STOS, LODS, INS and OUTS as F3 does, though manuals give
 * them only REP; of two the last counts.
 */
static bool bind_string(const struct x86_decoded *d, struct x86_insn *i)
{
	if (d->z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	i->flags &= (u8) ~(X86_I_REP | X86_I_REPNE);
	for (u32 k = 0; k < d->z.raw.prefix_count; k++) {
		if (d->z.raw.prefixes[k].value == 0xf3)
			i->flags = (u8)((i->flags & ~X86_I_REPNE) | X86_I_REP);
		else if (d->z.raw.prefixes[k].value == 0xf2)
			i->flags = (u8)((i->flags & ~X86_I_REP) | X86_I_REPNE);
	}
	for (u32 k = 0; k < ARRAY_SIZE(handlers); k++)
		if (handlers[k].mnemonic == d->z.mnemonic) {
			i->fn = handlers[k].fn;
			return true;
		}
	return false;
}

#define ROWS(name)                                                                                 \
	{ZYDIS_MNEMONIC_##name##B, NULL, bind_string},                                             \
		{ZYDIS_MNEMONIC_##name##W, NULL, bind_string},                                     \
	{                                                                                          \
		ZYDIS_MNEMONIC_##name##D, NULL, bind_string                                        \
	}
#define ROWS_Q(name)                                                                               \
	ROWS(name),                                                                                \
	{                                                                                          \
		ZYDIS_MNEMONIC_##name##Q, NULL, bind_string                                        \
	}

const struct x86_op_row x86_ops_string[] = {
	ROWS_Q(MOVS), /* A4, A5 */
	ROWS_Q(CMPS), /* A6, A7 */
	ROWS_Q(STOS), /* AA, AB */
	ROWS_Q(LODS), /* AC, AD */
	ROWS_Q(SCAS), /* AE, AF */
	ROWS(INS),    /* 6C, 6D */
	ROWS(OUTS),   /* 6E, 6F */
	{0},
};
