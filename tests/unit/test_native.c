// SPDX-License-Identifier: MIT
/*
 * Native stubs against the bare CPU: every encoding that the engine hands to the host is executed both ways on random
 * state, in place, through bounce buffers, and where it faults; registers, flags, vectors and memory must agree.
 *
 * The memory side is a stand-in: linear addresses are host addresses, the arena's middle pages are mapped, and the TLB
 * is filled or empty as the case wants. NATIVE_TRIALS=n sets the number of random states for each encoding.
 */
#include "native_oracle.h"

#include "base/log.h"
#include "cpu/x86/code.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- the rest of the engine, as far as these files need it ---- */

struct x86_code {
	u8 *x;
	u32 used;
	void *native;
};

static struct x86_cpu *cpu;
static jmp_buf caught;
static int vector; /* raised; -1: none; 0x100: left */
static u64 fault_la;

__thread struct x86_cpu *x86_current __attribute__((tls_model("initial-exec")));
__thread const char *x86_rule_text;
int av_log_limit = -1;

void av_log_write(enum av_log_level level, const char *fmt, ...)
{
}

const struct x86_op_row x86_ops_int[] = { { 0 } };
const struct x86_op_row x86_ops_flow[] = { { 0 } };
const struct x86_op_row x86_ops_string[] = { { 0 } };
const struct x86_op_row x86_ops_sys[] = { { 0 } };
const struct x86_op_row x86_ops_far[] = { { 0 } };

#define CODE_SIZE (64u << 20)

void *x86_code_emit(struct x86_code *code, const void *bytes, u32 len)
{
	u32 at = ALIGN_UP(code->used, 16u);

	if (at + len > CODE_SIZE)
		return NULL;
	memcpy(code->x + at, bytes, len);
	code->used = at + len;
	return code->x + at;
}

void **x86_code_native_slot(struct x86_code *code)
{
	return &code->native;
}

bool x86_code_owns_pc(const struct x86_code *code, u64 pc)
{
	return pc - (u64)code->x < CODE_SIZE;
}

static void __noreturn throw(struct x86_cpu *c, int v)
{
	x86_simd_spill(c);
	vector = v;
	longjmp(caught, 1);
}

void x86_raise(struct x86_cpu *c, u8 v)
{
	throw(c, v);
}

void x86_raise_err(struct x86_cpu *c, u8 v, u32 error)
{
	assert_int_equal(error, 0);
	throw(c, v);
}

void x86_leave(struct x86_cpu *c, enum x86_exit_reason why)
{
	throw(c, 0x100 + (int)why);
}

u64 x86_rip(const struct x86_cpu *c)
{
	return c->code_la + c->insn->off;
}

u64 x86_seg_check(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write)
{
	return (u32)(ea + c->seg[seg].base);
}

#define OP(name)                                                                                   \
	const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)                   \
	{                                                                                          \
		x86_raise(c, X86_UD);                                                              \
	}
OP(x86_op_ud)
OP(x86_op_unsupported)
OP(x86_op_too_long)

static bool mapped(u64 la)
{
	return la - (u64)arena - 4096 < (ARENA_PAGES - 2) * 4096ull;
}

void x86_probe(struct x86_cpu *c, u8 seg, u64 la, u32 size, bool write)
{
	x86_simd_spill(c); /* as if a device had been asked; and this file uses SIMD */
	for (u32 k = 0; k < size; k++) {
		if (mapped(la + k))
			continue;
		fault_la = la + k;
		throw(c, X86_PF);
	}
}

void x86_read_slow(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 size)
{
	assert_in_range(size, 1, 64);
	x86_probe(c, seg, la, size, false);
	memcpy(buf, (void *)la, size);
}

void x86_write_slow(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 size)
{
	assert_in_range(size, 1, 64);
	x86_probe(c, seg, la, size, true);
	memcpy((void *)la, buf, size);
}

void *x86_rmw_slow(struct x86_cpu *c, struct x86_rmw *w, bool locked)
{
	assert_in_range(w->size, 1, 16);
	x86_probe(c, w->seg, w->la, w->size, true);
	memcpy(w->buf, (void *)w->la, w->size);
	w->bounced = true;
	return w->buf;
}

void x86_rmw_finish(struct x86_cpu *c, struct x86_rmw *w)
{
	x86_simd_spill(c);
	memcpy((void *)w->la, w->buf, w->size);
}

/* ---- signals ---- */

static void handler(int sig, siginfo_t *si, void *uc)
{
	if (oracle_signal(sig, si, uc) || x86_signal(sig, si, uc))
		return;
	signal(sig, SIG_DFL);
}

/* cmocka puts handlers of its own around every test: each begins with this. */
static void catch_signals(void)
{
	static u8 stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
}

/* ---- state ---- */

static u64 seed = 88172645463325252ull;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static const struct x86_xlayout *xl;
static u8 memory[2 * 4096];
static u32 trials = 2;

static void random_bytes(u8 *p, u32 n)
{
	for (u32 k = 0; k < n; k += 8) {
		u64 v = rnd();

		memcpy(p + k, &v, MIN(8u, n - k));
	}
}

/* Floating-point values that are not all NaNs and infinities. */
static void random_floats(u8 *p, u32 n)
{
	bool single = rnd() & 1;

	random_bytes(p, n);
	for (u32 k = 0; k < n; k += 8) {
		if (single) {
			float f[2] = { (float)(s32)rnd() / 1024.f, (float)(s8)rnd() };

			memcpy(p + k, f, 8);
		} else {
			double d = (double)(s64)rnd() / (double)(1ull << (rnd() & 63));

			memcpy(p + k, &d, 8);
		}
	}
}

static void random_vectors(u8 *p, u32 n)
{
	if (rnd() & 1)
		random_floats(p, n);
	else
		random_bytes(p, n);
}

static void random_state(struct oracle_state *s)
{
	u8 *x = s->xs;
	u16 sw, cw = 0x37f;

	memset(s, 0, sizeof(*s));
	random_bytes((u8 *)s->gpr, sizeof(s->gpr));
	if (rnd() & 1)
		for (u32 r = 0; r < 16; r++)
			s->gpr[r] >>= rnd() & 63;
	s->flags = (rnd() & X86_FLAGS_ARITH) | 0x202;
	random_vectors(x + X86_XS_XMM, 256);
	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (xl->xcr0 & BIT(n))
			random_vectors(x + xl->off[n], xl->len[n]);
	for (u32 k = 0; k < 8; k++) {
		long double v = (long double)(s64)rnd() / (long double)(1ull << (rnd() & 63));

		if (rnd() % 8 == 0)
			random_bytes(x + X86_XS_ST + 16 * k, 10);
		else
			memcpy(x + X86_XS_ST + 16 * k, &v, 10);
	}
	sw = (u16)(rnd() & 0x7f00 & ~0x8080);
	cw = (u16)(0x40 | (rnd() & 0xf00) | (rnd() % 4 ? 0x3f : rnd() & 0x3f));
	if (rnd() % 8 == 0)
		sw |= (u16)(rnd() & 0x3f);
	if (sw & ~cw & 0x3f)
		sw |= 0x8080;
	X86_FIELD(x, X86_XS_FCW, u16) = cw;
	X86_FIELD(x, X86_XS_FSW, u16) = sw;
	X86_FIELD(x, X86_XS_FTW, u8) = (u8)(rnd() | rnd() | rnd());
	X86_FIELD(x, X86_XS_MXCSR, u32) = (u32)((rnd() & 0xe03f) | (rnd() % 4 ? 0x1f80 : rnd() & 0x1f80));
	X86_FIELD(x, X86_XS_BV, u64) = xl->xcr0;
}

static void set_tlb(bool full)
{
	for (u32 k = 0; k < X86_TLB_SIZE; k++)
		cpu->rtlb[k].tag = cpu->wtlb[k].tag = 1ull << 63;
	for (u32 p = 1; full && p < ARENA_PAGES - 1; p++) {
		u64 la = (u64)arena + p * 4096;
		u32 k = (la >> 12) & (X86_TLB_SIZE - 1);

		cpu->rtlb[k] = cpu->wtlb[k] = (struct x86_tlb_entry){ .tag = la, .host = la };
	}
}

static void load_cpu(const struct oracle_state *s)
{
	u64 f = s->flags;

	cpu->simd_live = false;
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	memcpy(cpu->xsave, s->xs, cpu->xsave_size);
	cpu->aflags = (u16)((f & 0xd5) << 8 | 0x200 | (f >> 11 & 1));
}

/* Runs the decoded instruction on the engine's CPU. */
static void run_engine(const struct x86_insn *i)
{
	vector = -1;
	fault_la = 0;
	x86_current = cpu;
	cpu->insn = i;
	if (!setjmp(caught)) {
		const struct x86_insn *next = i->fn(cpu, i);

		assert_ptr_equal(next, i + 1);
	}
	x86_simd_spill(cpu);
	x86_current = NULL;
}

/* ---- comparison ---- */

static char what[256];

static bool differs(const char *name, u32 n, const void *bare, const void *ours, u32 len)
{
	u32 at = 0;

	if (!memcmp(bare, ours, len))
		return false;
	while (((const u8 *)bare)[at] == ((const u8 *)ours)[at])
		at++;
	print_error("%s: %s%u differs at byte %u: bare %02x, ours %02x\n", what, name, n, at, ((const u8 *)bare)[at],
		    ((const u8 *)ours)[at]);
	return true;
}

static u32 compare_vectors(const u8 *a, const u8 *b)
{
	u32 bad = 0;

	bad += differs("x87 control ", 0, a, b, 5);
	bad += differs("mxcsr", 0, a + X86_XS_MXCSR, b + X86_XS_MXCSR, 4);
	for (u32 k = 0; k < 8; k++)
		bad += differs("st", k, a + X86_XS_ST + 16 * k, b + X86_XS_ST + 16 * k, 10);
	for (u32 k = 0; k < 16; k++)
		bad += differs("xmm", k, a + X86_XS_XMM + 16 * k, b + X86_XS_XMM + 16 * k, 16);
	for (u32 n = 2; n < X86_XCOMPS; n++)
		if (xl->xcr0 & BIT(n))
			bad += differs("component ", n, a + xl->off[n], b + xl->off[n], xl->len[n]);
	return bad;
}

static int expected_vector(void)
{
	return oracle->trap;
}

static u32 compare(u32 bits, bool partial)
{
	u64 flags = (cpu->aflags >> 8 & 0xd5) | (u64)(cpu->aflags & 1) << 11;
	u64 bare = oracle->out.flags & X86_FLAGS_ARITH;
	u32 bad = 0;

	if (vector != expected_vector()) {
		print_error("%s: bare trap %d at %llx, ours %d at %llx\n", what, oracle->trap,
			    (unsigned long long)oracle->fault_address, vector, (unsigned long long)fault_la);
		return 1;
	}
	for (u32 r = 0; r < (bits == 8 ? 16 : 8); r++)
		bad += differs("gpr", r, &oracle->out.gpr[r], &cpu->gpr[r], bits);
	bad += differs("flags", 0, &bare, &flags, 8);
	return partial ? bad : bad + compare_vectors(oracle->out.xs, cpu->xsave);
}

/* ---- one instruction ---- */

enum placement { IN_PLACE, BOUNCED, ACROSS, AT_END, PAST_END, BEFORE_START, NR_PLACEMENTS };

static u64 place(enum placement p, u32 size)
{
	u64 base = (u64)arena + 4096;

	switch (p) {
	case IN_PLACE:
	case BOUNCED:
		return base + (rnd() & 0x7ff & (rnd() & 1 ? ~63ull : ~0ull));
	case ACROSS:
		return base + 4096 - rnd() % (size + 1);
	case AT_END:
		return base + 8192 - size;
	case PAST_END:
		return base + 8192 - (size > 1 ? 1 + rnd() % (size - 1) : 0);
	default:
		return base - (size > 1 ? 1 + rnd() % (size - 1) : 1);
	}
}

struct subject {
	u8 bytes[16];
	u32 len, bits;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	const ZydisDecodedOperand *mem;
	struct x86_insn insn[2];
};

static ZydisDecoder decoder[2];

/* Points the instruction's memory operand at la by choice of register values. */
static void aim(const struct subject *s, u64 la)
{
	u64 *g = oracle->in.gpr;
	const ZydisDecodedOperand *m = s->mem;
	int base = ZydisRegisterGetId(m->mem.base), index = ZydisRegisterGetId(m->mem.index);
	u64 rest = m->mem.disp.has_displacement ? (u64)m->mem.disp.value : 0;

	if (m->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		for (u32 at = 0; at < 64; at += 4) {
			u8 *x = oracle->in.xs;
			u8 *p = index >= 16 ? x + xl->off[7] + 64 * (index - 16) + at :
				at < 16	    ? x + X86_XS_XMM + 16 * index + at :
				at < 32	    ? x + xl->off[2] + 16 * index + at - 16 :
					      x + xl->off[6] + 32 * index + at - 32;
			bool high = at & 4 && s->z.opcode & 1;

			X86_FIELD(p, 0, s32) = high ? 0 : (s32)(rnd() % (rnd() % 8 ? 700 : 4000));
		}
	} else if (m->mem.index != ZYDIS_REGISTER_NONE) {
		if (m->mem.index == m->mem.base) {
			g[base] = (la - rest) / (m->mem.scale + 1u);
			return;
		}
		rest += g[index] * m->mem.scale;
	}
	if (m->mem.base != ZYDIS_REGISTER_NONE)
		g[base] = la - rest;
}

static u64 effective(const struct subject *s)
{
	const ZydisDecodedOperand *m = s->mem;
	u64 ea = m->mem.disp.has_displacement ? (u64)m->mem.disp.value : 0;

	if (m->mem.base != ZYDIS_REGISTER_NONE)
		ea += oracle->in.gpr[ZydisRegisterGetId(m->mem.base)];
	if (m->mem.index != ZYDIS_REGISTER_NONE && m->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
		ea += oracle->in.gpr[ZydisRegisterGetId(m->mem.index)] * m->mem.scale;
	return s->z.address_width == 64 ? ea : (u32)ea;
}

/* Where hardware may do one or the other, and the host at hand does not what we do. */
static bool host_differs(const struct subject *s, enum placement p)
{
	bool w1 = s->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && s->z.raw.vex.W;

	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ: /* faults on bytes that are masked off */
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		return p == PAST_END || p == BEFORE_START;
	case ZYDIS_MNEMONIC_VPINSRD: /* VEX.W = 1 outside 64-bit mode: ignored or #UD */
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_KMOVD:
		return s->bits == 4 && w1;
	default:
		return false;
	}
}

static u32 run_both(struct subject *s, enum placement p)
{
	static u8 result[sizeof(memory)];
	u32 size = s->mem ? MAX(s->mem->size / 8u, 1u) : 0, bad;
	bool partial;

	if (host_differs(s, p))
		return 0;
	random_state(&oracle->in);
	random_bytes(memory, sizeof(memory));
	if (rnd() & 1)
		random_floats(memory, sizeof(memory));
	if (s->mem) {
		u64 la = place(p, size);

		aim(s, la);
		/* Bases and indices that cannot be aimed would touch anything. */
		if (s->mem->mem.type != ZYDIS_MEMOP_TYPE_VSIB && effective(s) != la)
			return 0;
	}
	oracle->in.flags = (oracle->in.flags & X86_FLAGS_ARITH) | 0x202;
	memcpy(arena + 4096, memory, sizeof(memory));
	oracle_run(s->bytes, s->len, s->bits);
	memcpy(result, arena + 4096, sizeof(memory));

	memcpy(arena + 4096, memory, sizeof(memory));
	load_cpu(&oracle->in);
	set_tlb(p != BOUNCED);
	cpu->code_size = (u8)s->bits;
	run_engine(&s->insn[0]);
	snprintf(what + strlen(what), sizeof(what) - strlen(what), " (placement %d)", p);
	/* How far a gather came before its fault is the implementation's. */
	partial = oracle->trap >= 0 && s->mem && s->mem->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	bad = compare(s->bits, partial);
	if (!partial)
		bad += differs("memory", 0, result, arena + 4096, sizeof(memory));
	*strrchr(what, '(') = 0;
	return bad;
}

static struct {
	u32 seen, bound, refused, undefined, bad;
} count;

static bool skipped(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_RDRAND: /* not repeatable */
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_FNSTENV: /* bare, they show host addresses: test_environment */
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
	case ZYDIS_MNEMONIC_CLZERO:
		return true;
	default:
		return z->meta.category == ZYDIS_CATEGORY_XSAVE || z->meta.category == ZYDIS_CATEGORY_XSAVEOPT ||
		       (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT);
	}
}

static void try_encoding(const u8 *bytes, u32 bits)
{
	struct subject s = { .bits = bits };
	bool ends;
	int n;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder[bits == 8], bytes, 15, &s.z, s.op)) || skipped(&s.z))
		return;
	memcpy(s.bytes, bytes, s.z.length);
	s.len = s.z.length;
	count.seen++;
	n = x86_decode(cpu->code, (u8)bits, bytes, 15, 0x100, &s.insn[0], &ends);
	assert_int_equal(n, s.z.length);
	if (s.insn[0].fn == x86_op_unsupported) {
		count.refused++;
		return;
	}
	if (s.insn[0].fn == x86_op_ud || s.insn[0].fn == x86_op_nop) {
		count.undefined++;
		return;
	}
	count.bound++;
	for (u32 k = 0; k < s.z.operand_count; k++)
		if (s.op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && s.op[k].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			s.mem = &s.op[k];
	if (s.mem && s.mem->mem.base == ZYDIS_REGISTER_RIP)
		return;
	what[0] = 0;
	for (u32 k = 0; k < s.len; k++)
		snprintf(what + 2 * k, 3, "%02x", bytes[k]);
	snprintf(what + strlen(what), 80, " %s/%u", ZydisMnemonicGetString(s.z.mnemonic), bits * 8);
	for (u32 t = 0; t < trials; t++)
		for (enum placement p = 0; p < (s.mem ? NR_PLACEMENTS : 1); p++)
			if (run_both(&s, p)) {
				count.bad++;
				return;
			}
}

static void report(const char *name)
{
	print_message("%s: %u encodings, %u run, %u refused, %u undefined or ignored, %u bad\n", name, count.seen,
		      count.bound, count.refused, count.undefined, count.bad);
	assert_int_equal(count.bad, 0);
	assert_true(count.bound > 100);
}

/* ModRM, then SIB and displacement where they are due, then bytes enough for any immediate. */
static void random_tail(u8 *b, u32 reg, bool mem)
{
	random_bytes(b, 12);
	if (!mem) {
		b[0] = (u8)(0xc0 | (b[0] & 7) | reg << 3);
		return;
	}
	b[0] = (u8)((rnd() & 1 ? 0x80 : 0x40) | (b[0] & 7) | reg << 3);
}

static void legacy(u32 bits)
{
	static const u8 maps[][2] = { { 0, 0 }, { 0x0f, 0 }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
	static const u8 prefixes[] = { 0, 0x66, 0xf2, 0xf3 };

	for (u32 m = 0; m < 4; m++)
		for (u32 p = 0; p < 4; p++)
			for (u32 op = 0; op < 256; op++)
				for (u32 v = 0; v < 32; v++) {
					u8 b[24];
					u32 n = 0;

					if (prefixes[p])
						b[n++] = prefixes[p];
					if (bits == 8 && (v & 16))
						b[n++] = (u8)(0x40 | (rnd() & 15));
					if (m)
						b[n++] = maps[m][0];
					if (m > 1)
						b[n++] = maps[m][1];
					b[n++] = (u8)op;
					random_tail(b + n, v & 7, v & 8);
					try_encoding(b, bits);
				}
}

static void vex(u32 bits)
{
	for (u32 map = 1; map < 4; map++)
		for (u32 op = 0; op < 256; op++)
			for (u32 v = 0; v < 32; v++) {
				u8 b[24], w = (u8)(v >> 3 & 1), l = (u8)(v >> 2 & 1), pp = v & 3;
				/* vvvv is often unused and must then be all ones */
				u8 vvvv = (u8)(rnd() & 1 ? 15 : rnd() & 15);

				for (u32 again = 0; again < 3; again++) {
					b[0] = 0xc4;
					b[1] = (u8)((rnd() & 0xe0) | map);
					if (bits == 4)
						b[1] |= 0xc0;
					b[2] = (u8)(w << 7 | (again ? 15 : vvvv) << 3 | l << 2 | pp);
					b[3] = (u8)op;
					random_tail(b + 4, rnd() & 7, v & 16);
					try_encoding(b, bits);
				}
				if (map == 1 && !w) {
					b[0] = 0xc5;
					b[1] = (u8)((bits == 4 ? 0x80 : rnd() & 0x80) | (bits == 4 ? vvvv | 8 : vvvv) << 3 | l << 2 | pp);
					b[2] = (u8)op;
					random_tail(b + 3, rnd() & 7, v & 16);
					try_encoding(b, bits);
				}
			}
}

static void evex(u32 bits)
{
	static const u8 maps[] = { 1, 2, 3, 5, 6 };

	for (u32 m = 0; m < ARRAY_SIZE(maps); m++)
		for (u32 op = 0; op < 256; op++)
			for (u32 v = 0; v < 128; v++)
				for (u32 again = 0; again < 4; again++) {
					u8 b[24], w = (u8)(v >> 4 & 1), ll = v >> 2 & 3, pp = v & 3;
					u8 vvvv = (u8)(again & 1 ? 15 : rnd() & 15);

					b[0] = 0x62;
					b[1] = (u8)((rnd() & 0xf0) | maps[m]);
					if (bits == 4)
						b[1] |= 0xc0;
					b[2] = (u8)(w << 7 | vvvv << 3 | 4 | pp);
					b[3] = (u8)((rnd() & 1 ? rnd() & 0x80 : 0) | ll << 5 | (v >> 6 & 1) << 4 | (again & 1 ? 8 : rnd() & 8) |
						    (again & 2 ? rnd() & 7 : 0));
					b[4] = (u8)op;
					random_tail(b + 5, rnd() & 7, v >> 5 & 1);
					try_encoding(b, bits);
				}
}

#define CASES(kind)                                                                                \
	static void test_##kind##64(void **state)                                                  \
	{                                                                                          \
		memset(&count, 0, sizeof(count));                                                  \
		catch_signals();                                                                   \
		kind(8);                                                                           \
		report(#kind " 64-bit");                                                           \
	}                                                                                          \
	static void test_##kind##32(void **state)                                                  \
	{                                                                                          \
		memset(&count, 0, sizeof(count));                                                  \
		catch_signals();                                                                   \
		kind(4);                                                                           \
		report(#kind " 32-bit");                                                           \
	}
CASES(legacy)
CASES(vex)
CASES(evex)

/* ---- set-up ---- */

static int setup(void **state)
{
	const char *n = getenv("NATIVE_TRIALS");

	if (n)
		trials = (u32)atoi(n);
	cpu = aligned_alloc(64, ALIGN_UP(sizeof(*cpu), 64));
	memset(cpu, 0, sizeof(*cpu));
	cpu->rtlb = calloc(X86_TLB_SIZE, sizeof(*cpu->rtlb));
	cpu->wtlb = calloc(X86_TLB_SIZE, sizeof(*cpu->wtlb));
	cpu->code = calloc(1, sizeof(*cpu->code));
	cpu->code->x = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(x86_native_create(cpu->code), 0);
	assert_int_equal(x86_simd_create(cpu), 0);
	xl = x86_xlayout();
	cpu->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_MP;
	cpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	cpu->xcr0 = xl->xcr0;
	cpu->flat = 0xff;
	oracle_init(xl->xcr0);
	__asm__ volatile("stmxcsr %0" : "=m"(oracle->host_mxcsr));
	ZydisDecoderInit(&decoder[0], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoder[1], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (u32 k = 0; k < 2; k++)
		ZydisDecoderEnableMode(&decoder[k], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	return 0;
}

static int teardown(void **state)
{
	x86_simd_destroy(cpu);
	x86_native_destroy(cpu->code);
	munmap(cpu->code->x, CODE_SIZE);
	free(cpu->code);
	free(cpu->rtlb);
	free(cpu->wtlb);
	free(cpu);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy64), cmocka_unit_test(test_vex64), cmocka_unit_test(test_evex64),
		cmocka_unit_test(test_legacy32), cmocka_unit_test(test_vex32), cmocka_unit_test(test_evex32),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
