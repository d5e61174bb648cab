// SPDX-License-Identifier: MIT
/*
 * The instruction fuzzer: the same random code on the host CPU and in the engine, and all state
 * must agree.
 *
 *   insn [--cases N | --seconds N | --forever] [--seed N] [--engine interp|translate] [--bits
 * 32|64] [--blocks]
 *        [--space N] [--case SEED] [--keep-going] [--quiet]
 *
 * Each case has a seed of its own; a failing one is shrunk and printed with it, and --case SEED
 * runs it alone.
 */
#include "insn.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

const struct x86_xlayout *xl;

static struct {
	u64 cases, seconds, seed, one;
	bool has_one, keep_going, quiet;
	enum fuzz_engine engine;
	struct gen_options gen;
} opt = {.cases = 100000, .gen.encoding = -1};

static struct {
	u64 tried, run, failed, by_vector[32];
	u8 seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
} count;

/* ---- signals ---- */

static volatile u64 case_number;
static u64 alarm_case;
static u32 alarm_ticks;

#define TICKS_UNTIL_HUNG 20 /* of 100 ms */

static void on_alarm(int sig, siginfo_t *si, void *uc)
{
	if (case_number != alarm_case) {
		alarm_case = case_number;
		alarm_ticks = 0;
	} else if (++alarm_ticks >= TICKS_UNTIL_HUNG) {
		alarm_ticks = 0;
		if (!silicon_hung(uc))
			guest_hung();
	}
}

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	if (silicon_signal(sig, si, uc) || x86_signal(sig, si, uc))
		return;
	fprintf(stderr, "fuzz: signal %d at %p outside any case\n", sig,
		(void *)((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP]);
	signal(sig, SIG_DFL);
}

static void catch_signals(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct itimerval tick = {.it_interval.tv_usec = 100000, .it_value.tv_usec = 100000};
	stack_t ss = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17};

	sigaltstack(&ss, NULL);
	sigaddset(&sa.sa_mask, SIGALRM);
	for (u32 k = 0; k < ARRAY_SIZE(sigs); k++)
		sigaction(sigs[k], &sa, NULL);
	sa.sa_sigaction = on_alarm;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
}

/* ---- comparison ---- */

/* Flags of user code; the kernel's and the handler's own bits are left out. */
#define FLAGS_SEEN                                                                                 \
	(X86_FLAGS_ARITH | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_AC)

static FILE *report; /* NULL: only whether */
static u32 ndiffs;
static char first_diff[64];

static void __attribute__((format(printf, 1, 2))) diff(const char *fmt, ...)
{
	va_list ap;
	char text[200];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!ndiffs++) {
		size_t n = MIN(strcspn(text, ":"), sizeof(first_diff) - 1);

		/* The kind of a difference: what differs, not how. */
		memcpy(first_diff, text, n);
		first_diff[n] = 0;
	}
	if (report)
		fprintf(report, "    %s\n", text);
}

static void diff_bytes(const char *what, u32 n, const u8 *host, const u8 *ours, u32 len)
{
	char a[140] = "", b[140] = "";

	if (!memcmp(host, ours, len))
		return;
	for (u32 k = MIN(len, 64u), at = 0; k-- > 0; at += 2) {
		snprintf(a + at, 3, "%02x", host[k]);
		snprintf(b + at, 3, "%02x", ours[k]);
	}
	diff("%s%u: host %s", what, n, a);
	if (report)
		fprintf(report, "    %*s  ours %s\n", (int)strlen(what) + (n > 9 ? 2 : 1), "", b);
}

/* What is not in use has its initial value; last-instruction pointers are not compared (they are
 * not saved alike by all hosts, and stand in test_simd_state.c). */
static void normalize(u8 *x)
{
	u64 bv = X86_FIELD(x, X86_XS_BV, u64);

	if (!(bv & X86_XCOMP_X87)) {
		memset(x, 0, X86_XS_MXCSR);
		memset(x + X86_XS_ST, 0, 128);
		X86_FIELD(x, X86_XS_FCW, u16) = X86_FCW_INIT;
	}
	memset(x + X86_XS_FOP, 0, X86_XS_MXCSR - X86_XS_FOP);
	for (u32 k = 0; k < 8; k++)
		memset(x + X86_XS_ST + 16 * k + 10, 0, 6);
	if (!(bv & X86_XCOMP_SSE))
		memset(x + X86_XS_XMM, 0, 256);
	for (u32 n = 2; n < X86_XCOMPS; n++)
		if ((xl->xcr0 & BIT(n)) && !(bv & BIT(n)))
			memset(x + xl->off[n], 0, xl->len[n]);
}

static void compare_simd(u8 *a, u8 *b)
{
	normalize(a);
	normalize(b);
	if (X86_FIELD(a, 0, u32) != X86_FIELD(b, 0, u32) || a[4] != b[4])
		diff("x87 control: host cw %04x sw %04x tags %02x, ours cw %04x sw %04x tags %02x",
		     X86_FIELD(a, 0, u16), X86_FIELD(a, 2, u16), a[4], X86_FIELD(b, 0, u16),
		     X86_FIELD(b, 2, u16), b[4]);
	if (X86_FIELD(a, X86_XS_MXCSR, u32) != X86_FIELD(b, X86_XS_MXCSR, u32))
		diff("mxcsr: host %04x, ours %04x", X86_FIELD(a, X86_XS_MXCSR, u32),
		     X86_FIELD(b, X86_XS_MXCSR, u32));
	for (u32 k = 0; k < 8; k++)
		diff_bytes("st", k, a + X86_XS_ST + 16 * k, b + X86_XS_ST + 16 * k, 10);
	for (u32 k = 0; k < 16; k++)
		diff_bytes("xmm", k, a + X86_XS_XMM + 16 * k, b + X86_XS_XMM + 16 * k, 16);
	for (u32 k = 0; (xl->xcr0 & X86_XCOMP_AVX) && k < 16; k++)
		diff_bytes("ymm high ", k, a + xl->off[2] + 16 * k, b + xl->off[2] + 16 * k, 16);
	if (!(xl->xcr0 & X86_XCOMP_AVX512))
		return;
	for (u32 k = 0; k < 8; k++)
		diff_bytes("k", k, a + xl->off[5] + 8 * k, b + xl->off[5] + 8 * k, 8);
	for (u32 k = 0; k < 16; k++)
		diff_bytes("zmm high ", k, a + xl->off[6] + 32 * k, b + xl->off[6] + 32 * k, 32);
	for (u32 k = 0; k < 16; k++)
		diff_bytes("zmm", 16 + k, a + xl->off[7] + 64 * k, b + xl->off[7] + 64 * k, 64);
}

static u32 flags_compared(const struct fuzz_case *f)
{
	u32 mask = FLAGS_SEEN;

	for (u32 k = 0; k < f->n; k++) {
		struct x86_decoded d;

		if (gen_decode(f, k, &d))
			mask &= ~undefined_flags(&d);
	}
	return mask;
}

/* How far a gather or scatter came before a fault is the implementation's business. */
static u32 case_tolerated(const struct fuzz_case *f)
{
	u32 what = 0;

	for (u32 k = 0; k < f->n; k++) {
		struct x86_decoded d;

		if (!gen_decode(f, k, &d))
			continue;
		what |= tolerated(&d);
		for (u32 n = 0; n < d.z.operand_count; n++)
			if (d.op[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    d.op[n].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
				/* Nor do hosts agree whether elements are checked for alignment
				 * (SDM: type 12; AMD's are not). */
				what |= f->in.flags & X86_FLAG_AC ? T_FAULT : T_PARTIAL;
	}
	return what;
}

static bool ended(const struct fuzz_result *r)
{
	return r->vector == X86_BP;
}

/* Number of differences. */
static u32 compare(const struct fuzz_case *f, struct fuzz_result *host, struct fuzz_result *ours)
{
	static const char *const regs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					   "r8",  "r9",	 "r10", "r11", "r12", "r13", "r14", "r15"};
	bool fault = !ended(host) || !ended(ours);
	u32 may = fault ? case_tolerated(f) : 0;
	u64 mask;

	ndiffs = 0;
	if (may & T_FAULT)
		return 0;
	if (host->vector != ours->vector) {
		diff("vector %d/%d: host %d error %x rip %llx cr2 %llx, ours %d error %x rip %llx "
		     "cr2 %llx %s",
		     host->vector, ours->vector, host->vector, host->error,
		     (unsigned long long)host->out.rip, (unsigned long long)host->cr2, ours->vector,
		     ours->error, (unsigned long long)ours->out.rip, (unsigned long long)ours->cr2,
		     ours->vector > 255 ? guest_why() : "");
		return ndiffs;
	}
	if (host->vector < 0) /* both run for ever */
		return 0;
	if (host->out.rip != ours->out.rip)
		diff("rip: host %llx, ours %llx", (unsigned long long)host->out.rip,
		     (unsigned long long)ours->out.rip);
	if (host->error != ours->error)
		diff("error code of vector %d: host %x, ours %x", host->vector, host->error,
		     ours->error);
	if (may & T_PARTIAL)
		return ndiffs;
	if (host->vector == X86_PF && host->cr2 != ours->cr2 && !(may & T_CR2))
		diff("cr2: host %llx, ours %llx", (unsigned long long)host->cr2,
		     (unsigned long long)ours->cr2);
	for (u32 k = 0; k < (f->bits == 8 ? 16u : 8u); k++)
		if (host->out.gpr[k] != ours->out.gpr[k])
			diff("%s: host %llx, ours %llx", regs[k],
			     (unsigned long long)host->out.gpr[k],
			     (unsigned long long)ours->out.gpr[k]);
	mask = flags_compared(f);
	if ((host->out.flags ^ ours->out.flags) & mask)
		diff("flags %llx: host %llx, ours %llx",
		     (unsigned long long)((host->out.flags ^ ours->out.flags) & mask),
		     (unsigned long long)(host->out.flags & mask),
		     (unsigned long long)(ours->out.flags & mask));
	compare_simd(host->out.xs, ours->out.xs);
	for (u32 p = 0; !(may & T_FAULT_MEMORY) && p < ARRAY_SIZE(host->mem); p++) {
		static const u32 page[] = {PAGE_RW, PAGE_RW2, PAGE_SMC, PAGE_SMC2};
		u32 at = 0;

		if (!memcmp(host->mem[p], ours->mem[p], PAGE_SIZE))
			continue;
		while (host->mem[p][at] == ours->mem[p][at])
			at++;
		diff("memory: at %llx host %02x, ours %02x",
		     (unsigned long long)(PAGE_AT(page[p]) + at), host->mem[p][at],
		     ours->mem[p][at]);
	}
	return ndiffs;
}

static struct fuzz_result host_result, our_result;

static u32 run_both(const struct fuzz_case *f)
{
	case_number++;
	silicon_run(f, &host_result);
	case_number++;
	guest_run(f, &our_result);
	return compare(f, &host_result, &our_result);
}

/* ---- showing ---- */

static void show_code(FILE *to, const struct fuzz_case *f)
{
	ZydisFormatter fmt;

	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_ATT);
	for (u32 k = 0; k < f->n; k++) {
		u64 rip = f->in.rip + f->start[k];
		struct x86_decoded d;
		char text[128] = "(cut off)", bytes[48] = "";

		for (u32 b = f->start[k], at = 0; b < f->start[k + 1] && at < 40; b++, at += 2)
			snprintf(bytes + at, 3, "%02x", f->code[b]);
		d.bytes = f->code + f->start[k];
		if (gen_decode(f, k, &d))
			ZydisFormatterFormatInstruction(&fmt, &d.z, d.op, d.z.operand_count_visible,
							text, sizeof(text), rip, NULL);
		fprintf(to, "    %llx: %-30s %s\n", (unsigned long long)rip, bytes, text);
	}
}

static void show_vector(FILE *to, const char *name, u32 n, const u8 *p, u32 len)
{
	u32 any = 0;

	for (u32 k = 0; k < len; k++)
		any |= p[k];
	if (!any)
		return;
	fprintf(to, "    %s%u=", name, n);
	for (u32 k = len; k-- > 0;)
		fprintf(to, "%02x", p[k]);
	fprintf(to, "\n");
}

static void show_state(FILE *to, const struct fuzz_case *f)
{
	const u8 *x = f->in.xs;

	fprintf(to, "    flags=%llx mxcsr=%x cw=%x sw=%x tags=%x bv=%llx memory seed %llx%s\n",
		(unsigned long long)f->in.flags, X86_FIELD(x, X86_XS_MXCSR, u32),
		X86_FIELD(x, 0, u16), X86_FIELD(x, 2, u16), x[4],
		(unsigned long long)X86_FIELD(x, X86_XS_BV, u64), (unsigned long long)f->mem_seed,
		f->cold ? ", cold TLB" : "");
	fprintf(to, "   ");
	for (u32 k = 0; k < 16; k++)
		if (f->in.gpr[k])
			fprintf(to, " r%u=%llx", k, (unsigned long long)f->in.gpr[k]);
	fprintf(to, "\n");
	for (u32 k = 0; k < 8; k++)
		show_vector(to, "st", k, x + X86_XS_ST + 16 * k, 10);
	for (u32 k = 0; k < 16; k++) {
		show_vector(to, "xmm", k, x + X86_XS_XMM + 16 * k, 16);
		show_vector(to, "ymm high ", k, x + xl->off[2] + 16 * k, xl->len[2] ? 16 : 0);
	}
	for (u32 k = 0; k < 8 && xl->len[5]; k++)
		show_vector(to, "k", k, x + xl->off[5] + 8 * k, 8);
	for (u32 k = 0; k < 16 && xl->len[6]; k++)
		show_vector(to, "zmm high ", k, x + xl->off[6] + 32 * k, 32);
	for (u32 k = 0; k < 16 && xl->len[7]; k++)
		show_vector(to, "zmm", 16 + k, x + xl->off[7] + 64 * k, 64);
}

/* ---- shrinking ---- */

static struct fuzz_case best;
static char wanted[sizeof(first_diff)];

static void try(const struct fuzz_case *f)
{
	if (gen_safe(f) && run_both(f) && !strcmp(first_diff, wanted))
		best = *f;
}

#define TRY(change)                                                                                \
	do {                                                                                       \
		struct fuzz_case t = best;                                                         \
		change;                                                                            \
		try(&t);                                                                           \
	} while (0)

static void drop_insn(struct fuzz_case *t, u32 k)
{
	u32 from = t->start[k + 1], by = from - t->start[k];

	memmove(t->code + t->start[k], t->code + from, t->len - from);
	memset(t->code + t->len - by, 0xcc, by);
	for (u32 j = k + 1; j < t->n; j++)
		t->start[j] = (u16)(t->start[j + 1] - by);
	t->n--;
	t->len -= by;
	t->start[t->n] = (u16)t->len;
}

static void shrink(const struct fuzz_case *f)
{
	best = *f;
	strcpy(wanted, first_diff);
	report = NULL;
	for (u32 again = 0; again < 2; again++) {
		for (u32 k = best.n; best.n > 1 && k-- > 0;)
			TRY(drop_insn(&t, k));
		TRY(t.cold = false);
		TRY(t.in.flags = 0x202);
		TRY(t.in.flags &= ~(u64)(X86_FLAG_AC | X86_FLAG_DF));
		TRY(t.in.flags &= ~(u64)X86_FLAGS_ARITH);
		for (u32 k = 0; k < 16; k++) {
			TRY(t.in.gpr[k] = 0);
			TRY(t.in.gpr[k] &= 0xff);
			TRY(t.in.gpr[k] = (u32)t.in.gpr[k]);
		}
		TRY(X86_FIELD(t.in.xs, X86_XS_MXCSR, u32) = X86_MXCSR_INIT);
		TRY(X86_FIELD(t.in.xs, X86_XS_FSW, u16) = 0);
		TRY(X86_FIELD(t.in.xs, X86_XS_FCW, u16) = X86_FCW_INIT);
		TRY(X86_FIELD(t.in.xs, X86_XS_FTW, u8) = 0);
		TRY(X86_FIELD(t.in.xs, X86_XS_BV, u64) = xl->xcr0);
		for (u32 at = X86_XS_ST; at < xl->size; at += 16)
			if (at < 416 || at >= X86_XS_EXTENDED)
				TRY(memset(t.in.xs + at, 0, 16));
	}
}

static void failed(const struct fuzz_case *f, u64 seed)
{
	count.failed++;
	printf("case %#llx (%u bits, %s):\n", (unsigned long long)seed, f->bits * 8,
	       opt.engine == ENGINE_TRANSLATE ? "translate" : "interp");
	shrink(f);
	show_code(stdout, &best);
	show_state(stdout, &best);
	report = stdout;
	if (!run_both(&best))
		printf("    does not happen again\n");
	report = NULL;
	fflush(stdout);
}

/* ---- running ---- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool one_case(u64 seed)
{
	static struct fuzz_case f;

	count.tried++;
	if (!gen_case(&f, seed, &opt.gen))
		return true;
	count.run++;
	for (u32 k = 0; k < f.n; k++) {
		struct x86_decoded d;

		if (gen_decode(&f, k, &d))
			count.seen[d.z.mnemonic] = 1;
	}
	if (opt.has_one) {
		show_code(stdout, &f);
		show_state(stdout, &f);
		fflush(stdout);
	}
	if (run_both(&f)) {
		failed(&f, seed);
		return false;
	}
	if (host_result.vector >= 0)
		count.by_vector[host_result.vector & 31]++;
	return true;
}

static void summary(double took)
{
	u32 mnemonics = 0;

	for (u32 k = 0; k <= ZYDIS_MNEMONIC_MAX_VALUE; k++)
		mnemonics += count.seen[k];
	printf("%s: %llu cases, %llu differences, %u mnemonics, %.0f cases/s, seed %#llx\n",
	       opt.engine == ENGINE_TRANSLATE ? "translate" : "interp",
	       (unsigned long long)count.run, (unsigned long long)count.failed, mnemonics,
	       (double)count.run / took, (unsigned long long)opt.seed);
	if (opt.quiet)
		return;
	printf("  ended by");
	for (u32 v = 0; v < 32; v++)
		if (count.by_vector[v])
			printf(" %u:%llu", v, (unsigned long long)count.by_vector[v]);
	printf("\n");
	guest_stats(stdout);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"cases", 1, NULL, 'n'},      {"seconds", 1, NULL, 't'}, {"forever", 0, NULL, 'f'},
		{"seed", 1, NULL, 's'},	      {"engine", 1, NULL, 'e'},	 {"bits", 1, NULL, 'b'},
		{"blocks", 0, NULL, 'B'},     {"space", 1, NULL, 'S'},	 {"case", 1, NULL, 'c'},
		{"keep-going", 0, NULL, 'k'}, {"quiet", 0, NULL, 'q'},	 {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			opt.cases = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			opt.cases = ~0ull;
			break;
		case 'f':
			opt.cases = ~0ull;
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 0);
			break;
		case 'e':
			opt.engine = strcmp(optarg, "translate") ? ENGINE_INTERP : ENGINE_TRANSLATE;
			break;
		case 'b':
			opt.gen.bits = (u8)(atoi(optarg) / 8);
			break;
		case 'B':
			opt.gen.blocks = true;
			break;
		case 'S':
			opt.gen.encoding = atoi(optarg);
			break;
		case 'c':
			opt.one = strtoull(optarg, NULL, 0);
			opt.has_one = true;
			break;
		case 'k':
			opt.keep_going = true;
			break;
		case 'q':
			opt.quiet = true;
			break;
		default:
			exit(2);
		}
	}
}

#define MAX_FAILURES 20
#define SKIP	     77 /* meson's word for a skipped test */

int main(int argc, char **argv)
{
	double begin = seconds();

	parse(argc, argv);
	xl = x86_xlayout();
	if (!xl->xcr0) {
		printf("the host has no XSAVE: nothing to compare with\n");
		return SKIP;
	}
	catch_signals();
	silicon_init();
	guest_init(opt.engine);
	if (opt.has_one)
		one_case(opt.one);
	for (u64 k = 0; !opt.has_one && count.run < opt.cases; k++) {
		if (opt.seconds && !(k & 255) && seconds() - begin > (double)opt.seconds)
			break;
		if (!one_case((opt.seed << 40) + k) &&
		    (!opt.keep_going && count.failed >= MAX_FAILURES))
			break;
	}
	summary(seconds() - begin);
	guest_fini();
	return count.failed != 0;
}
