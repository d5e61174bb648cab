// SPDX-License-Identifier: MIT
/*
 * The area of the native stubs fills up again and again: what was decoded is decoded anew, and
 * every instruction goes on doing what it says, those that span pages and those of other CPUs
 * included.
 */
#include "sys_fixture.h"
#include "cpu/x86/code_priv.h"
#include "cpu/x86/simd.h"

#include <pthread.h>

/* Room for a run of instructions, but not for all the encodings that the tests use. */
#define SMALL_AREA (8u << 10)
#define ENCODINGS  1792u /* of PSHUFD xmm1-7, xmm0, imm8 */

static const u32 lanes[4] = {0x11111111, 0x22222222, 0x33333333, 0x44444444};

/* The program: a PSHUFD that nobody has seen yet, one that spans two pages and never changes, and
 * their results to EAX and ECX. */
static void run_one(struct fx *f, u64 page, u32 n)
{
	u8 dst = 1 + n / 256 % 7, imm = (u8)n;
	const u8 code[] = {
		0x66, 0x0f, 0x70, (u8)(0xc0 | dst << 3),
		imm, /* pshufd xmmN, xmm0, imm */
		0x66, 0x44, 0x0f, 0x70,
		0xc8, 0x1b,				 /* pshufd xmm9, xmm0, 0x1b */
		0x66, 0x0f, 0x7e, (u8)(0xc0 | dst << 3), /* movd eax, xmmN */
		0x66, 0x44, 0x0f, 0x7e,
		0xc9, 0xf4, /* movd ecx, xmm9; hlt */
	};
	u64 start = page + PAGE_SIZE - 5 - 3;
	struct x86_cpu *c = f->c;
	u8 *xmm = x86_simd_image(c, X86_XCOMP_SSE) + X86_XS_XMM;

	memset(xmm, 0, 256);
	memcpy(xmm, lanes, sizeof(lanes));
	fx_put(f, start, code, sizeof(code));
	x86_code_io_epoch(f->code);
	c->rip = start;
	assert_int_equal(x86_run(c), X86_EXIT_HLT);
	assert_int_equal(c->rip, start + sizeof(code));
	assert_int_equal(c->gpr[X86_RAX], lanes[imm & 3]);
	assert_int_equal(c->gpr[X86_RCX], lanes[3]);
}

static void start(struct fx *f)
{
	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_OSFXSR;
	x86_state_changed(f->c, false);
}

static void test_fills(void **state)
{
	struct fx *f = *state;

	f->code->stub_limit = SMALL_AREA;
	start(f);
	for (u32 n = 0; n < 2 * ENCODINGS; n++)
		run_one(f, AT_CODE, n);
	assert_true(f->code->turns >= 4);
	assert_int_equal(f->c->stats[X86_STAT_CODE_FLUSHES], f->code->turns);
	/* Room for all: nothing is dropped any more. */
	f->code->stub_limit = X86_STUB_AREA / 2;
	run_one(f, AT_CODE, 0);
	f->code->turns = 0;
	for (u32 n = 0; n < ENCODINGS; n++)
		run_one(f, AT_CODE, n);
	assert_int_equal(f->code->turns, 0);
}

#define CPUS 2

static void *run_all(void *arg)
{
	struct fx *f = arg;
	u32 which = f->c->index;

	for (u32 n = 0; n < ENCODINGS; n++)
		run_one(f, AT_CODE + which * 4 * PAGE_SIZE, n * 5 + which * 1000);
	return NULL;
}

static void test_fills_beside_others(void **state)
{
	struct fx *f = *state, cpu[CPUS];
	pthread_t thread[CPUS];

	f->code->stub_limit = SMALL_AREA;
	for (u32 k = 0; k < CPUS; k++) {
		cpu[k] = *f;
		if (k)
			assert_int_equal(
				x86_create(&toy_ops, &cpu[k].toy, &f->epoch, f->code, &cpu[k].c),
				0);
		cpu[k].c->ops = &toy_ops;
		cpu[k].c->m = &cpu[k].toy;
		cpu[k].c->index = k;
		start(&cpu[k]);
	}
	for (u32 k = 0; k < CPUS; k++)
		assert_int_equal(pthread_create(&thread[k], NULL, run_all, &cpu[k]), 0);
	for (u32 k = 0; k < CPUS; k++)
		pthread_join(thread[k], NULL);
	assert_true(f->code->turns >= 4);
	for (u32 k = 1; k < CPUS; k++)
		x86_destroy(cpu[k].c);
	f->c->m = &f->toy;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_fills),
		T(test_fills_beside_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
