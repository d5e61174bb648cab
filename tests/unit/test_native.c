// SPDX-License-Identifier: MIT
/*
 * Native stubs against the bare CPU: every encoding that the engine hands to the host is executed
 * both ways on random state, in place, through bounce buffers, and where it faults; registers,
 * flags, vectors and memory must agree. NATIVE_TRIALS=n sets the number of random states for each
 * encoding.
 */
#include "native_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static u8 memory[2 * 4096];

static u32 compare(u32 bits, bool partial)
{
	u64 flags = (cpu->aflags >> 8 & 0xd5) | (u64)(cpu->aflags & 1) << 11;
	u64 bare = oracle->out.flags & X86_FLAGS_ARITH;
	u32 bad = 0;

	if (vector != oracle->trap) {
		print_error("%s: bare trap %d at %llx, ours %d at %llx\n", what, oracle->trap,
			    (unsigned long long)oracle->fault_address, vector,
			    (unsigned long long)fault_la);
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
			u8 *p = index >= 16 ? x + xl->off[7] + 64 * (index - 16) + at
				: at < 16   ? x + X86_XS_XMM + 16 * index + at
				: at < 32   ? x + xl->off[2] + 16 * index + at - 16
					    : x + xl->off[6] + 32 * index + at - 32;
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
		return z->meta.category == ZYDIS_CATEGORY_XSAVE ||
		       z->meta.category == ZYDIS_CATEGORY_XSAVEOPT ||
		       (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT);
	}
}

/* Every x87 and SIMD instruction must have found a way to run. */
static bool simd(const struct subject *s)
{
	for (u32 k = 0; k < s->z.operand_count; k++) {
		ZydisRegisterClass rc = s->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER
						? ZydisRegisterGetClass(s->op[k].reg.value)
						: ZYDIS_REGCLASS_INVALID;

		if ((rc >= ZYDIS_REGCLASS_X87 && rc <= ZYDIS_REGCLASS_ZMM) ||
		    rc == ZYDIS_REGCLASS_MASK)
			return true;
	}
	return s->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	       s->z.meta.category == ZYDIS_CATEGORY_X87_ALU;
}

static void try_encoding(const u8 *bytes, u32 bits)
{
	struct subject s = {.bits = bits};
	bool ends;
	int n;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder[bits == 8], bytes, 15, &s.z, s.op)) ||
	    skipped(&s.z))
		return;
	memcpy(s.bytes, bytes, s.z.length);
	s.len = s.z.length;
	count.seen++;
	n = x86_decode(cpu->code, (u8)bits, bytes, 15, 0x100, &s.insn[0], &ends);
	assert_int_equal(n, s.z.length);
	if (s.insn[0].fn == x86_op_unsupported) {
		count.refused++;
		/* Zydis 4.0 gives VPCMPESTRI with W = 1 64-bit registers in 32-bit code. */
		if (simd(&s) && s.z.mnemonic != ZYDIS_MNEMONIC_LOADIWKEY &&
		    s.z.mnemonic != ZYDIS_MNEMONIC_VPCMPESTRI) {
			print_error("%s/%u refused\n", ZydisMnemonicGetString(s.z.mnemonic),
				    bits * 8);
			count.bad++;
		}
		return;
	}
	if (s.insn[0].fn == x86_op_ud || s.insn[0].fn == x86_op_nop) {
		count.undefined++;
		return;
	}
	count.bound++;
	for (u32 k = 0; k < s.z.operand_count; k++)
		if (s.op[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    s.op[k].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
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
	print_message("%s: %u encodings, %u run, %u refused, %u undefined or ignored, %u bad\n",
		      name, count.seen, count.bound, count.refused, count.undefined, count.bad);
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
	static const u8 maps[][2] = {{0, 0}, {0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}};
	static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3};

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
					b[2] = (u8)(w << 7 | (again ? 15 : vvvv) << 3 | l << 2 |
						    pp);
					b[3] = (u8)op;
					random_tail(b + 4, rnd() & 7, v & 16);
					try_encoding(b, bits);
				}
				if (map == 1 && !w) {
					b[0] = 0xc5;
					b[1] = (u8)((bits == 4 ? 0x80 : rnd() & 0x80) |
						    (bits == 4 ? vvvv | 8 : vvvv) << 3 | l << 2 |
						    pp);
					b[2] = (u8)op;
					random_tail(b + 3, rnd() & 7, v & 16);
					try_encoding(b, bits);
				}
			}
}

static void evex(u32 bits)
{
	static const u8 maps[] = {1, 2, 3, 5, 6};

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
					b[3] = (u8)((rnd() & 1 ? rnd() & 0x80 : 0) | ll << 5 |
						    (v >> 6 & 1) << 4 |
						    (again & 1 ? 8 : rnd() & 8) |
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

static int setup(void **state)
{
	ZydisDecoderInit(&decoder[0], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoder[1], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (u32 k = 0; k < 2; k++)
		ZydisDecoderEnableMode(&decoder[k], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	return native_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy64), cmocka_unit_test(test_vex64),
		cmocka_unit_test(test_evex64),	 cmocka_unit_test(test_legacy32),
		cmocka_unit_test(test_vex32),	 cmocka_unit_test(test_evex32),
	};

	return cmocka_run_group_tests(tests, setup, native_teardown);
}
