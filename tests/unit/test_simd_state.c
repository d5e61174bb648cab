// SPDX-License-Identifier: MIT
/*
 * Saved x87/SIMD states, the checks of each family, MXCSR, x87 pointers, gathers that fault, and
 * host faults in stubs. Where the host may be asked, the bare CPU says what is right.
 */
#include "native_harness.h"

#include "cpu/x86/code.h"
#include "cpu/x86/mmu.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define AREA ((u64)arena + 4096 + 1024)

static struct x86_insn insn[2];

static void decode(const char *bytes, u32 bits)
{
	u8 b[15] = {0};
	bool ends;

	memset(insn, 0, sizeof(insn));
	memcpy(b, bytes, strlen(bytes) ? strlen(bytes) : 1);
	snprintf(what, sizeof(what), "%02x%02x%02x%02x/%u", b[0], b[1], b[2], b[3], bits * 8);
	assert_true(x86_decode(cpu->code, (u8)bits, b, 15, 0x100, &insn[0], &ends) > 0);
	cpu->code_size = (u8)bits;
}

/* Executes at CPL 0 in 64-bit code, with the state as it is. */
static void step(const char *bytes)
{
	decode(bytes, 8);
	run_engine(&insn[0]);
}

/* ---- against the bare CPU ---- */

struct area {
	const char *bytes; /* operand [rbx] */
	u32 size;
	bool xsave;
};

static u32 against_host(const struct area *a, u32 bits, bool full_tlb, bool keep_memory)
{
	static u8 before[8192], bare[8192];
	u32 bad;

	oracle->in.gpr[X86_RBX] = AREA;
	if (!keep_memory)
		random_bytes(arena + 4096, 8192);
	memcpy(before, arena + 4096, 8192);
	oracle_run((const u8 *)a->bytes, (u32)strlen(a->bytes), bits);
	memcpy(bare, arena + 4096, 8192);
	memcpy(arena + 4096, before, 8192);
	decode(a->bytes, bits);
	load_cpu(&oracle->in);
	set_tlb(full_tlb);
	run_engine(&insn[0]);
	if (vector != oracle->trap) {
		print_error("%s: bare trap %d, ours %d\n", what, oracle->trap, vector);
		return 1;
	}
	bad = differs("memory", 0, bare, arena + 4096, 8192);
	bad += compare_vectors(oracle->out.xs, cpu->xsave);
	return bad;
}

/* A valid area in the arena, made by the bare CPU from another random state. */
static void make_area(const char *save, u32 bits)
{
	random_bytes(arena + 4096, 8192);
	memset((void *)AREA, 0, 4096);
	random_state(&oracle->in);
	oracle->in.gpr[X86_RBX] = AREA;
	oracle->in.gpr[X86_RAX] = rnd() | 3;
	oracle->in.gpr[X86_RDX] = 0;
	oracle_run((const u8 *)save, (u32)strlen(save), bits);
	assert_int_equal(oracle->trap, -1);
}

static void random_input(void)
{
	random_state(&oracle->in);
	oracle->in.gpr[X86_RAX] = rnd();
	oracle->in.gpr[X86_RDX] = rnd();
}

#define REXW "\x48"

static void test_saves(void **state)
{
	static const struct area saves[] = {
		{"\x0f\xae\x03", 512},	   {REXW "\x0f\xae\x03", 512},
		{"\x0f\xae\x23", 0, true}, {REXW "\x0f\xae\x23", 0, true},
		{"\x0f\xae\x33", 0, true}, {"\x0f\xc7\x23", 0, true},
		{"\xd9\x33", 28},	   {"\xdd\x33", 108},
		{"\x66\xd9\x33", 14},	   {"\x66\xdd\x33", 94},
	};
	u32 bad = 0;

	catch_signals();
	for (u32 k = 0; k < ARRAY_SIZE(saves); k++)
		for (u32 t = 0; t < 20 * trials; t++)
			for (u32 bits = 4; bits <= 8; bits += 4) {
				if (bits == 4 && saves[k].bytes[0] == 0x48)
					continue;
				random_input();
				bad += against_host(&saves[k], bits, t & 1, false);
			}
	assert_int_equal(bad, 0);
}

static void test_restores(void **state)
{
	static const struct {
		const char *save;
		struct area restore;
	} pairs[] = {
		{"\x0f\xae\x03", {"\x0f\xae\x0b", 512}}, /* FXSAVE, FXRSTOR */
		{"\x0f\xae\x23", {"\x0f\xae\x2b"}},	 /* XSAVE, XRSTOR */
		{"\x0f\xc7\x23", {"\x0f\xae\x2b"}},	 /* XSAVEC, XRSTOR */
		{"\xd9\x33", {"\xd9\x23"}},		 /* FNSTENV, FLDENV */
		{"\xdd\x33", {"\xdd\x23"}},		 /* FNSAVE, FRSTOR */
		{"\x66\xdd\x33", {"\x66\xdd\x23"}},
		{"\x66\xd9\x33", {"\x66\xd9\x23"}},
	};
	u32 bad = 0;

	catch_signals();
	for (u32 k = 0; k < ARRAY_SIZE(pairs); k++)
		for (u32 t = 0; t < 40 * trials; t++)
			for (u32 bits = 4; bits <= 8; bits += 4) {
				make_area(pairs[k].save, bits);
				/* Sometimes spoil what must be checked: header, MXCSR, control
				 * word. */
				if (t % 4 == 1)
					*(u8 *)(AREA + 512 + rnd() % 64) ^= (u8)BIT(rnd() & 7);
				if (t % 4 == 2)
					*(u32 *)(AREA + 24) ^= BIT(rnd() & 31);
				if (t % 4 == 3)
					*(u16 *)AREA = (u16)rnd();
				random_input();
				bad += against_host(&pairs[k].restore, bits, t & 1, true);
			}
	assert_int_equal(bad, 0);
}

/* ---- x87 pointers ---- */

static void fresh(void)
{
	static struct oracle_state s;

	memset(&s, 0, sizeof(s));
	X86_FIELD(s.xs, X86_XS_FCW, u16) = X86_FCW_INIT;
	X86_FIELD(s.xs, X86_XS_MXCSR, u32) = X86_MXCSR_INIT;
	X86_FIELD(s.xs, X86_XS_BV, u64) = xl->xcr0;
	s.gpr[X86_RBX] = AREA;
	load_cpu(&s);
	set_tlb(true);
	cpu->code_la = 0x123456789000;
	cpu->seg[X86_CS].sel = 0x33;
	cpu->seg[X86_DS].sel = 0x2b;
}

static void test_pointers(void **state)
{
	u32 *env = (u32 *)AREA;

	catch_signals();
	fresh();
	step("\xd9\xe8");     /* fld1 */
	step("\xd8\x43\x40"); /* fadd dword [rbx + 0x40] */
	assert_int_equal(vector, -1);
	step("\xd9\x33"); /* fnstenv [rbx] */
	assert_int_equal(vector, -1);
	assert_int_equal(env[3], 0x56789100);
	assert_int_equal(env[4] & 0xffff, 0x33);
	assert_int_equal(env[4] >> 16, 0x043);
	assert_int_equal(env[5], (u32)AREA + 0x40);
	assert_int_equal(env[6] & 0xffff, 0x2b);

	step(REXW "\x0f\xae\x03"); /* fxsave64 */
	assert_int_equal(*(u64 *)(AREA + X86_XS_FIP), 0x123456789100);
	assert_int_equal(*(u64 *)(AREA + X86_XS_FDP), AREA + 0x40);

	/* What the VMM reads, and what it writes. */
	assert_int_equal(X86_FIELD(cpu->xsave, X86_XS_FIP, u64), 0x123456789100);
	X86_FIELD(cpu->xsave, X86_XS_FIP, u64) = 0xabcdef;
	step("\xd9\x33");
	assert_int_equal(env[3], 0xabcdef);
	step("\xdb\xe3"); /* fninit */
	step("\xd9\x33");
	assert_int_equal(env[3] | env[4] | env[5], 0);
}

/* ---- checks ---- */

struct check {
	const char *bytes;
	u64 cr0, cr4, xcr0_clear; /* cr4, xcr0: bits to clear */
	int vector;
};

static void test_checks(void **state)
{
	static const struct check checks[] = {
		{"\xd9\xe8", X86_CR0_TS, 0, 0, X86_NM}, /* fld1 */
		{"\xd9\xe8", X86_CR0_EM, 0, 0, X86_NM},
		{"\xd9\xe8", X86_CR0_MP, 0, 0, -1},
		{"\x9b", X86_CR0_TS, 0, 0, X86_NM}, /* fwait, MP is set */
		{"\x9b", X86_CR0_EM, 0, 0, -1},
		{"\x0f\xef\xc1", X86_CR0_TS, 0, 0, X86_NM}, /* pxor mm0, mm1 */
		{"\x0f\xef\xc1", X86_CR0_EM, 0, 0, X86_UD},
		{"\x0f\xef\xc1", 0, X86_CR4_OSFXSR, 0, -1},
		{"\x0f\x57\xc1", X86_CR0_TS, 0, 0, X86_NM}, /* xorps */
		{"\x0f\x57\xc1", X86_CR0_EM | X86_CR0_TS, 0, 0, X86_UD},
		{"\x0f\x57\xc1", 0, X86_CR4_OSFXSR, 0, X86_UD},
		{"\x0f\x57\xc1", 0, X86_CR4_OSXSAVE, ~0ull, -1},
		{"\x0f\xae\x13", 0, X86_CR4_OSFXSR, 0, X86_UD}, /* ldmxcsr */
		{"\xf2\x0f\x38\xf1\xc1", X86_CR0_EM | X86_CR0_TS, X86_CR4_OSFXSR, 0,
		 -1},								  /* crc32 */
		{"\x0f\xc3\x03", X86_CR0_EM | X86_CR0_TS, X86_CR4_OSFXSR, 0, -1}, /* movnti */
		{"\xc5\xf0\x57\xc1", X86_CR0_EM, X86_CR4_OSFXSR, 0, -1},	  /* vxorps */
		{"\xc5\xf0\x57\xc1", X86_CR0_TS, 0, 0, X86_NM},
		{"\xc5\xf0\x57\xc1", 0, X86_CR4_OSXSAVE, 0, X86_UD},
		{"\xc5\xf0\x57\xc1", 0, 0, X86_XCOMP_AVX, X86_UD},
		{"\xc5\xf0\x57\xc1", 0, 0, X86_XCOMP_AVX512, -1},
		{"\x62\xf1\x74\x48\x57\xc1", 0, 0, X86_XCOMP_AVX512, X86_UD}, /* vxorps zmm */
		{"\x62\xf1\x74\x48\x57\xc1", 0, 0, BIT(6), X86_UD},
		{"\xc5\xf8\x92\xc0", 0, 0, BIT(5), X86_UD}, /* kmovw k0, eax */
		{"\xc4\xe2\x70\xf2\xc1", X86_CR0_TS | X86_CR0_EM, X86_CR4_OSXSAVE, ~0ull,
		 -1},						 /* andn */
		{"\x0f\xae\x23", 0, X86_CR4_OSXSAVE, 0, X86_UD}, /* xsave */
		{"\x0f\xae\x23", X86_CR0_TS, 0, 0, X86_NM},
		{"\x0f\xae\x03", X86_CR0_EM, 0, 0, X86_NM}, /* fxsave */
	};
	u64 cr0 = cpu->cr0, cr4 = cpu->cr4;

	catch_signals();
	for (u32 k = 0; k < ARRAY_SIZE(checks); k++) {
		const struct check *t = &checks[k];
		bool wide =
			t->bytes[0] == 0x62 || (u8)t->bytes[0] == 0xc4 || (u8)t->bytes[0] == 0xc5;

		if (wide && (xl->xcr0 & 0xe6) != 0xe6)
			continue;
		fresh();
		memset((void *)AREA, 0, 2048);
		*(u32 *)AREA = X86_MXCSR_INIT;
		cpu->cr0 = cr0 | t->cr0;
		cpu->cr4 = cr4 & ~t->cr4;
		cpu->xcr0 = xl->xcr0 & ~t->xcr0_clear;
		step(t->bytes);
		cpu->cr0 = cr0;
		cpu->cr4 = cr4;
		cpu->xcr0 = xl->xcr0;
		if (vector != t->vector)
			fail_msg("%s (check %u): vector %d, not %d", what, k, vector, t->vector);
	}
	/* Neither VEX nor EVEX in real mode. */
	fresh();
	cpu->cr0 &= ~(u64)X86_CR0_PE;
	step("\xc4\xe2\x70\xf2\xc1");
	cpu->cr0 = cr0;
	assert_int_equal(vector, X86_UD);
}

static void test_mxcsr(void **state)
{
	u32 *m = (u32 *)AREA;

	catch_signals();
	fresh();
	*m = 0x1fa0;
	step("\x0f\xae\x13"); /* ldmxcsr */
	assert_int_equal(vector, -1);
	step("\x0f\xae\x5b\x10"); /* stmxcsr [rbx + 16] */
	assert_int_equal(m[4], 0x1fa0);
	step("\x0f\x57\xc0");
	step("\x0f\xae\x5b\x10");
	assert_int_equal(m[4], 0x1fa0);
	*m = 1u << 31;
	step("\x0f\xae\x13");
	assert_int_equal(vector, X86_GP);
	assert_int_equal(X86_FIELD(cpu->xsave, X86_XS_MXCSR, u32), 0x1fa0);

	/* #XM, or #UD where the operating system did not announce a handler. */
	*m = 0x1f80 & ~BIT(9); /* divide by zero */
	step("\x0f\xae\x13");
	m[8] = 0x3f800000;
	m[9] = 0;
	step("\xf3\x0f\x10\x43\x20"); /* movss xmm0, [rbx + 32] */
	step("\xf3\x0f\x5e\x43\x24"); /* divss xmm0, [rbx + 36] */
	assert_int_equal(vector, X86_XM);
	cpu->cr4 &= ~(u64)X86_CR4_OSXMMEXCPT;
	step("\xf3\x0f\x5e\x43\x24");
	cpu->cr4 |= X86_CR4_OSXMMEXCPT;
	assert_int_equal(vector, X86_UD);
}

/* The host's own control words are its own again after a spill. */
static void test_host_control(void **state)
{
	u32 before, after;
	u16 cw;
	long double one = 1.0L;

	catch_signals();
	__asm__ volatile("stmxcsr %0" : "=m"(before));
	fresh();
	X86_FIELD(cpu->xsave, X86_XS_FCW, u16) = 0x27f;
	X86_FIELD(cpu->xsave, X86_XS_MXCSR, u32) = 0x7f80;
	for (u32 k = 0; k < 9; k++)
		step("\xd9\xe8"); /* the guest's stack overflows, ours stays empty */
	assert_int_equal(X86_FIELD(cpu->xsave, X86_XS_FCW, u16), 0x27f);
	assert_int_equal(X86_FIELD(cpu->xsave, X86_XS_FTW, u8), 0xff);
	assert_true(X86_FIELD(cpu->xsave, X86_XS_FSW, u16) & BIT(0));
	__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(after), "=m"(cw));
	assert_int_equal(after, before);
	assert_int_equal(cw, 0x37f);
	one += (long double)trials;
	assert_true(one == 1.0L + (long double)trials);
}

/* ---- gathers ---- */

static void test_gather_resumes(void **state)
{
	u8 *x = cpu->xsave;
	u32 *ymm_hi;

	catch_signals();
	if (!(xl->xcr0 & X86_XCOMP_AVX))
		skip();
	fresh();
	cpu->gpr[X86_RBX] = (u64)arena + 4096;
	random_bytes(arena + 4096, 8192);
	for (u32 k = 0; k < 4; k++) {
		X86_FIELD(x, X86_XS_XMM + 16 + 4 * k, u32) =
			k == 2 ? 2048 : 8 * k; /* xmm1: indices; the third is outside */
		X86_FIELD(x, X86_XS_XMM + 32 + 4 * k, u32) = 0x80000000; /* xmm2: mask */
	}
	step("\xc4\xe2\x69\x90\x04\x8b"); /* vpgatherdd xmm0, [rbx + xmm1*4], xmm2 */
	assert_int_equal(vector, X86_PF);
	assert_int_equal(fault_la, (u64)arena + 4096 + 8192);
	for (u32 k = 0; k < 4; k++) {
		assert_int_equal(X86_FIELD(x, X86_XS_XMM + 32 + 4 * k, u32) >> 31, k >= 2);
		if (k < 2)
			assert_int_equal(X86_FIELD(x, X86_XS_XMM + 4 * k, u32),
					 *(u32 *)(arena + 4096 + 32 * k));
	}
	/* The kernel mends the page; done elements are not read again. */
	X86_FIELD(x, X86_XS_XMM + 16 + 8, u32) = 16;
	*(u32 *)(arena + 4096) ^= ~0u;
	step("\xc4\xe2\x69\x90\x04\x8b");
	assert_int_equal(vector, -1);
	assert_int_equal(X86_FIELD(x, X86_XS_XMM, u32), ~*(u32 *)(arena + 4096));
	assert_int_equal(X86_FIELD(x, X86_XS_XMM + 8, u32), *(u32 *)(arena + 4096 + 64));
	assert_int_equal(X86_FIELD(x, X86_XS_XMM + 12, u32), *(u32 *)(arena + 4096 + 96));
	ymm_hi = (u32 *)(x + xl->off[2]);
	assert_int_equal(ymm_hi[0] | ymm_hi[8], 0);
}

/* ---- host faults ---- */

static void test_efault(void **state)
{
	u8 xmm0[16];

	catch_signals();
	fresh();
	random_bytes(xmm0, 16);
	memcpy(cpu->xsave + X86_XS_XMM, xmm0, 16);
	mprotect(arena + 4096, 4096, PROT_NONE);
	step("\x0f\x10\x03"); /* movups xmm0, [rbx] */
	assert_int_equal(vector, 0x100 + X86_EXIT_EFAULT);
	assert_int_equal(cpu->exit.gpa & ~15ull, (0x100000 + AREA - (u64)arena) & ~15ull);
	mprotect(arena + 4096, 4096, PROT_READ | PROT_WRITE);
	assert_memory_equal(cpu->xsave + X86_XS_XMM, xmm0, 16);
	random_bytes((u8 *)AREA, 16);
	step("\x0f\x10\x03");
	assert_int_equal(vector, -1);
	assert_memory_equal(cpu->xsave + X86_XS_XMM, (void *)AREA, 16);
	/* In the engine's own code, too. */
	mprotect(arena + 4096, 4096, PROT_NONE);
	step("\x0f\xae\x13"); /* ldmxcsr [rbx] */
	mprotect(arena + 4096, 4096, PROT_READ | PROT_WRITE);
	assert_int_equal(vector, 0x100 + X86_EXIT_EFAULT);
}

/* An encoding that the host turns out not to have is the guest's #UD. */
static void test_illegal(void **state)
{
	static const u8 pxor[] = {0x66, 0x0f, 0xef, 0xc1}, ud2[] = {0x0f, 0x0b};
	u8 *at, xmm0[16];

	catch_signals();
	fresh();
	decode("\x66\x0f\xef\xc1", 8);
	at = memmem(insn[0].stub, 64, pxor, sizeof(pxor));
	assert_non_null(at);
	random_bytes(xmm0, 16);
	memcpy(cpu->xsave + X86_XS_XMM, xmm0, 16);
	memcpy(at, ud2, sizeof(ud2));
	run_engine(&insn[0]);
	memcpy(at, pxor, sizeof(pxor));
	assert_int_equal(vector, X86_UD);
	assert_memory_equal(cpu->xsave + X86_XS_XMM, xmm0, 16);
	run_engine(&insn[0]);
	assert_int_equal(vector, -1);
}

static void test_foreign_signals(void **state)
{
	siginfo_t si = {.si_signo = SIGSEGV, .si_code = SI_USER};
	static char uc[4096];

	assert_false(x86_signal(SIGSEGV, &si, uc));
	x86_current = cpu;
	assert_false(x86_signal(SIGSEGV, &si, uc));
	/* A null pointer of ours is no guest memory. */
	si.si_code = SEGV_MAPERR;
	assert_false(x86_signal(SIGSEGV, &si, uc));
	x86_current = NULL;
}

/* ---- 16-bit code ---- */

static void test_code16(void **state)
{
	static const struct {
		const char *bytes;
		u32 reg;
		u64 in, out;
	} t[] = {
		{"\x66\x0f\xc8", X86_RAX, 0x11223344, 0x44332211},     /* bswap eax */
		{"\xf3\x0f\xb8\xc1", X86_RAX, 0xaaaa0000, 0xaaaa0010}, /* popcnt ax, cx */
		{"\x66\xf3\x0f\xb8\xc1", X86_RAX, 0xaaaa0000, 0x20},   /* popcnt eax, ecx */
		{"\x0f\xbe\xc1", X86_RAX, 0x5555aaaa, 0x5555ffff},     /* movsx ax, cl */
		{"\x66\x0f\xbe\xc1", X86_RAX, 0x5555aaaa, 0xffffffff}, /* movsx eax, cl */
		{"\x0f\xbe\xe1", X86_RSP, 0x5555aaaa, 0x5555ffff},     /* movsx sp, cl */
		{"\x66\x0f\xbe\xe1", X86_RSP, 0x5555aaaa, 0xffffffff}, /* movsx esp, cl */
	};

	catch_signals();
	for (u32 k = 0; k < ARRAY_SIZE(t); k++) {
		fresh();
		cpu->gpr[X86_RCX] = 0xffffffff;
		cpu->gpr[t[k].reg] = t[k].in;
		decode(t[k].bytes, 2);
		run_engine(&insn[0]);
		assert_int_equal(vector, -1);
		assert_int_equal(cpu->gpr[t[k].reg], t[k].out);
	}
	/* The operand-size prefix must not turn an MMX move into an SSE one, nor the other way
	 * round. */
	fresh();
	cpu->gpr[X86_RBX] = AREA & 0xffff;
	cpu->seg[X86_DS].base = AREA - cpu->gpr[X86_RBX];
	cpu->flat = 0;
	random_bytes((u8 *)AREA, 16);
	decode("\x0f\x6f\x07", 2); /* movq mm0, [bx] */
	run_engine(&insn[0]);
	assert_int_equal(vector, -1);
	assert_memory_equal(cpu->xsave + X86_XS_ST, (void *)AREA, 8);
	assert_int_equal(X86_FIELD(cpu->xsave, X86_XS_XMM, u64), 0);
	decode("\x66\x0f\x6f\x07", 2); /* movdqa xmm0, [bx] */
	run_engine(&insn[0]);
	cpu->flat = 0xff;
	assert_int_equal(vector, -1);
	assert_memory_equal(cpu->xsave + X86_XS_XMM, (void *)AREA, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saves),	       cmocka_unit_test(test_restores),
		cmocka_unit_test(test_pointers),       cmocka_unit_test(test_checks),
		cmocka_unit_test(test_mxcsr),	       cmocka_unit_test(test_host_control),
		cmocka_unit_test(test_gather_resumes), cmocka_unit_test(test_efault),
		cmocka_unit_test(test_illegal),	       cmocka_unit_test(test_foreign_signals),
		cmocka_unit_test(test_code16),
	};

	return cmocka_run_group_tests(tests, native_setup, native_teardown);
}
