// SPDX-License-Identifier: MIT
/*
 * See native_harness.h. The memory side is a stand-in: linear addresses are host addresses, the
 * arena's middle pages are mapped, and the TLB is filled or empty as the case wants.
 */
#include "native_harness.h"

#include "base/log.h"
#include "cpu/x86/code.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"

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

struct x86_cpu *cpu;
static jmp_buf caught;
int vector; /* raised; -1: none; 0x100: left */
u64 fault_la;

__thread struct x86_cpu *x86_current __attribute__((tls_model("initial-exec")));
__thread const char *x86_rule_text;
int av_log_limit = -1;

void av_log_write(enum av_log_level level, const char *fmt, ...)
{
}

const struct x86_op_row x86_ops_int[] = {{0}};
const struct x86_op_row x86_ops_flow[] = {{0}};
const struct x86_op_row x86_ops_string[] = {{0}};
const struct x86_op_row x86_ops_sys[] = {{0}};
const struct x86_op_row x86_ops_far[] = {{0}};

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

void x86_code_stubs_full(struct x86_code *code)
{
	fail_msg("no room for stubs");
}

void **x86_code_native_slot(struct x86_code *code)
{
	return &code->native;
}

bool x86_code_owns_pc(const struct x86_code *code, u64 pc)
{
	return pc - (u64)code->x < CODE_SIZE;
}

/* There are no blocks. */
struct x86_tb_map;
bool x86_tb_owns_pc(const struct x86_code *code, u64 pc)
{
	return false;
}

const struct x86_tb_map *x86_tb_find(const struct x86_code *code, u64 pc)
{
	return NULL;
}

static void __noreturn throw(struct x86_cpu * c, int v)
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

void x86_tlb_flush_user(struct x86_cpu *c)
{
}

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
void catch_signals(void)
{
	static u8 stack[65536];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
}

/* ---- state ---- */

static u64 seed = 88172645463325252ull;

u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

const struct x86_xlayout *xl;
u32 trials = 2;

void random_bytes(u8 *p, u32 n)
{
	for (u32 k = 0; k < n; k += 8) {
		u64 v = rnd();

		memcpy(p + k, &v, MIN(8u, n - k));
	}
}

/* Floating-point values that are not all NaNs and infinities. */
void random_floats(u8 *p, u32 n)
{
	bool single = rnd() & 1;

	random_bytes(p, n);
	for (u32 k = 0; k < n; k += 8) {
		if (single) {
			float f[2] = {(float)(s32)rnd() / 1024.f, (float)(s8)rnd()};

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

void random_state(struct oracle_state *s)
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
	X86_FIELD(x, X86_XS_MXCSR, u32) =
		(u32)((rnd() & 0xe03f) | (rnd() % 4 ? 0x1f80 : rnd() & 0x1f80));
	X86_FIELD(x, X86_XS_BV, u64) = xl->xcr0;
}

void set_tlb(bool full)
{
	for (u32 k = 0; k < X86_TLB_SIZE; k++)
		cpu->rtlb[k].tag = cpu->wtlb[k].tag = 1ull << 63;
	for (u32 p = 1; full && p < ARENA_PAGES - 1; p++) {
		u64 la = (u64)arena + p * 4096;
		u32 k = (la >> 12) & (X86_TLB_SIZE - 1);

		cpu->rtlb[k] = cpu->wtlb[k] = (struct x86_tlb_entry){.tag = la, .host = la};
	}
}

void load_cpu(const struct oracle_state *s)
{
	u64 f = s->flags;

	cpu->simd_live = false;
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	memcpy(cpu->xsave, s->xs, cpu->xsave_size);
	cpu->aflags = (u16)((f & 0xd5) << 8 | 0x200 | (f >> 11 & 1));
}

/* Runs the decoded instruction on the engine's CPU. */
void run_engine(const struct x86_insn *i)
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

char what[256];

bool differs(const char *name, u32 n, const void *bare, const void *ours, u32 len)
{
	u32 at = 0;

	if (!memcmp(bare, ours, len))
		return false;
	while (((const u8 *)bare)[at] == ((const u8 *)ours)[at])
		at++;
	print_error("%s: %s%u differs at byte %u: bare %02x, ours %02x\n", what, name, n, at,
		    ((const u8 *)bare)[at], ((const u8 *)ours)[at]);
	return true;
}

u32 compare_vectors(const u8 *a, const u8 *b)
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

/* ---- set-up ---- */

#define ARENA_GPA 0x100000

static bool gpa_of(void *m, u64 host, bool smm, u64 *gpa)
{
	*gpa = host - (u64)arena + ARENA_GPA;
	return true;
}

static const struct machine_ops ops = {.gpa_of = gpa_of};

int native_setup(void **state)
{
	const char *n = getenv("NATIVE_TRIALS");

	if (n)
		trials = (u32)atoi(n);
	n = getenv("NATIVE_SEED");
	if (n)
		seed ^= strtoull(n, NULL, 0) * 0x9e3779b97f4a7c15ull;
	cpu = aligned_alloc(64, ALIGN_UP(sizeof(*cpu), 64));
	memset(cpu, 0, sizeof(*cpu));
	cpu->rtlb = calloc(X86_TLB_SIZE, sizeof(*cpu->rtlb));
	cpu->wtlb = calloc(X86_TLB_SIZE, sizeof(*cpu->wtlb));
	cpu->ops = &ops;
	cpu->code = calloc(1, sizeof(*cpu->code));
	cpu->code->x = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(x86_native_create(cpu->code), 0);
	assert_int_equal(x86_simd_create(cpu), 0);
	xl = x86_xlayout();
	cpu->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_MP;
	cpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	cpu->xcr0 = xl->xcr0;
	cpu->flat = 0xff;
	oracle_init(xl->xcr0);
	__asm__ volatile("stmxcsr %0" : "=m"(oracle->host_mxcsr));
	return 0;
}

int native_teardown(void **state)
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
