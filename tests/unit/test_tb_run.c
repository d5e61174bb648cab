// SPDX-License-Identifier: MIT
/*
 * Tier 1's runtime, with a translator of this test's own in place of the real one: it knows a
 * handful of instructions and has everything else executed through SLOW, so that what is tested is
 * entering, leaving, finding, chaining and dropping blocks.
 */
#include "sys_fixture.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/tb_runtime.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the translator ---- */

#define BLOCK_INSNS 8

static struct {
	u32 calls, refuse; /* how often it was asked; refuse that many of them */
	bool pad;	   /* make blocks as big as they may be */
	bool simd;	   /* use SLOW_SIMD */
} translator;

static void byte(struct x86_tb_out *o, u8 b)
{
	o->code[o->size++] = b;
}

static void word(struct x86_tb_out *o, u32 w)
{
	memcpy(o->code + o->size, &w, 4);
	o->size += 4;
}

static void bytes(struct x86_tb_out *o, const char *s, u32 n)
{
	memcpy(o->code + o->size, s, n);
	o->size += n;
}
#define BYTES(o, s) bytes(o, s, sizeof(s) - 1)

static void to_stub(struct x86_tb_out *o, u8 opcode, enum x86_tb_stub stub)
{
	byte(o, opcode);
	word(o, o->stub[stub] - (o->at + o->size + 4));
}

static void poll(struct x86_tb_out *o, u32 off)
{
	while (translator.pad && o->size < X86_TB_MAX_CODE - 256)
		byte(o, 0x90);
	BYTES(o, "\x65\x83\x3c\x25"); /* cmpl $0, gs:req */
	word(o, (u32)X86_GS(req));
	byte(o, 0);
	BYTES(o, "\x74\x0a"); /* je over */
	byte(o, 0xb8);
	word(o, off);
	to_stub(o, 0xe9, X86_STUB_POLL);
}

static void page_exit(struct x86_tb_out *o, u32 off)
{
	u32 site;

	while (((o->at + o->size + 1) & 7) > 4)
		byte(o, 0x90);
	site = o->at + o->size;
	byte(o, 0xe9);
	word(o, 0);
	byte(o, 0xb8);
	word(o, off);
	byte(o, 0xb9);
	word(o, site);
	to_stub(o, 0xe9, X86_STUB_PAGE);
}

/* jmp *%rax through the jump cache; guest RAX is R9. */
static void jump_rax(struct x86_tb_out *o, u8 set, u32 off)
{
	u32 jc = (u32)X86_GS_JC(set), fix;

	poll(o, off);
	BYTES(o, "\x4c\x89\xc8");		  /* mov %r9, %rax */
	BYTES(o, "\x48\x89\xc1\x48\xc1\xe9\x0c"); /* mov %rax, %rcx; shr $12, %rcx */
	BYTES(o, "\x31\xc1\x81\xe1");		  /* xor %eax, %ecx; and */
	word(o, X86_JC_SIZE - 1);
	BYTES(o, "\xc1\xe1\x04");     /* shl $4, %ecx */
	BYTES(o, "\x65\x48\x39\x81"); /* cmp %rax, gs:jc(%rcx) */
	word(o, jc);
	BYTES(o, "\x75"); /* jne miss */
	fix = o->size;
	byte(o, 0);
	BYTES(o, "\x48\x25\x00\xf0\xff\xff"); /* and $-4096, %rax */
	BYTES(o, "\x65\x48\x89\x04\x25");     /* mov %rax, gs:codepage */
	word(o, (u32)X86_GS(gpr[X86_GPR_CODEPAGE]));
	BYTES(o, "\x65\xff\xa1"); /* jmp *gs:jc+8(%rcx) */
	word(o, jc + 8);
	o->code[fix] = (u8)(o->size - fix - 1);
	to_stub(o, 0xe9, X86_STUB_MISS);
}

static const struct x86_insn *decoded(struct x86_code *code, struct x86_code_page *page, u32 off,
				      u32 *index)
{
	const struct x86_insn *i;

	if (off >= PAGE_SIZE || !page->line[off / X86_LINE_SIZE])
		return NULL;
	*index = ((struct x86_line *)x86_arena_at(code, page->line[off / X86_LINE_SIZE]))
			 ->insn[off % X86_LINE_SIZE];
	if (!*index)
		return NULL;
	i = x86_arena_at(code, *index);
	if (x86_is_head(i)) {
		*index += sizeof(*i) / 16;
		i++;
	}
	return i->len ? i : NULL;
}

int x86_tb_translate(struct x86_code *code, struct x86_code_page *page, u8 set, u32 off,
		     struct x86_tb_out *o)
{
	const struct x86_insn *i;
	u32 index;

	translator.calls++;
	if (translator.refuse) {
		translator.refuse--;
		return -ENOSPC;
	}
	for (; o->nr_insns < BLOCK_INSNS && (i = decoded(code, page, off, &index)); o->nr_insns++) {
		const u8 *b = page->frame->host + off;

		if (b[0] == 0xeb && (s8)b[1] < 0) { /* a loop */
			u32 target = off + 2 + (u32)(s8)b[1];

			poll(o, target);
			page_exit(o, target);
			return 0;
		}
		if (b[0] == 0xff && b[1] == 0xe0) { /* jmp *%rax */
			jump_rax(o, set, off);
			return 0;
		}
		if (b[0] == 0xf7 && b[1] == 0xf1) { /* div %ecx */
			BYTES(o, "\x4c\x89\xc8");   /* mov %r9, %rax */
			o->map[o->nr_map++] = (struct x86_tb_map){o->size, index, true};
			BYTES(o, "\x41\xf7\xf2\x49\x89\xc1"); /* div %r10d; mov %rax, %r9 */
		} else if (b[0] == 0x49 && b[1] == 0xff && b[2] == 0xc4) {
			BYTES(o, "\x49\xff\xc4"); /* inc %r12, which is at home; its flags are not
						     kept */
		} else {
			byte(o, 0xb8);
			word(o, index);
			to_stub(o, 0xe8, translator.simd ? X86_STUB_SLOW_SIMD : X86_STUB_SLOW);
		}
		off += i->len;
	}
	if (!o->nr_insns)
		return -ENOSPC;
	poll(o, off & (PAGE_SIZE - 1));
	page_exit(o, off & (PAGE_SIZE - 1));
	return 0;
}

/* ---- fixture ---- */

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};

static void on_signal(int sig, siginfo_t *info, void *context)
{
	if (!x86_signal(sig, info, context))
		signal(sig, SIG_DFL);
}

static void create(struct fx *f, u64 cache)
{
	memset(f, 0, sizeof(*f));
	memset(&translator, 0, sizeof(translator));
	assert_int_equal(toy_create(&f->toy, RAM_SIZE), 0);
	f->toy.answer = MACHINE_DONE;
	av_epoch_init(&f->epoch);
	assert_int_equal(x86_code_create(&f->epoch, &f->code), 0);
	assert_int_equal(x86_code_translate(f->code, cache), 0);
	assert_int_equal(x86_create(&toy_ops, &f->toy, &f->epoch, f->code, &f->c), 0);
}

static int setup(void **state)
{
	*state = malloc(sizeof(struct fx));
	create(*state, 0);
	return 0;
}

static int setup_small(void **state)
{
	*state = malloc(sizeof(struct fx));
	create(*state, X86_TB_REGION_MIN);
	return 0;
}

/* cmocka takes the signals for itself before each test. */
static void take_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};

	for (u32 k = 0; k < ARRAY_SIZE(signals); k++)
		sigaction(signals[k], &sa, NULL);
}

static u64 stat(const struct fx *f, enum x86_stat n)
{
	return f->c->stats[n];
}

/* ---- entering and leaving ---- */

GUEST(count, 64,
      "xor %ebx, %ebx; mov $0x1234567890abcdef, %r9; mov $3, %r10; mov $5, %r11; mov $0x77, %ebp\n"
      "mov $1000, %ecx\n"
      "1: add $3, %rbx; inc %r12; lea 1(%r9), %r9; add %rcx, %r15; add %rdi, %rsi; dec %ecx; jnz "
      "1b; hlt");

/* All registers come through blocks, stubs and the interpreter. */
static void test_registers(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	for (u32 n = 0; n < 16; n++)
		if (n != X86_RSP)
			f->c->gpr[n] = 0x1111 * n;
	EXPECT_HLT(f, count);
	assert_int_equal(reg(f, X86_RBX), 3000);
	assert_int_equal(reg(f, X86_R12), 0x1111 * 12 + 1000);
	assert_int_equal(reg(f, X86_R9), 0x1234567890abcdef + 1000);
	assert_int_equal(reg(f, X86_R10), 3);
	assert_int_equal(reg(f, X86_R11), 5);
	assert_int_equal(reg(f, X86_RBP), 0x77);
	assert_int_equal(reg(f, X86_R15), 0x1111 * 15 + 1000 * 1001 / 2);
	assert_int_equal(reg(f, X86_RSI), 0x1111 * 6 + 1000 * 0x1111 * 7);
	assert_int_equal(reg(f, X86_RDX), 0x1111 * 2);
	assert_int_equal(reg(f, X86_R8), 0x1111 * 8);
	assert_int_equal(reg(f, X86_R13), 0x1111 * 13);
	assert_int_equal(reg(f, X86_R14), 0x1111 * 14);
	assert_int_equal(reg(f, X86_RSP), AT_STACK);
	assert_true(stat(f, X86_STAT_TB_MADE) > 0);
	assert_true(stat(f, X86_STAT_TB_SLOW) > 3000);
	assert_true(stat(f, X86_STAT_TB_SPLITS) > 0);
}

GUEST(jumps, 64, "mov $1000, %ecx; 1: dec %ecx; jz 2f; inc %r12; jmp 1b; 2: hlt");

/* A loop's blocks are chained: after that nobody asks the runtime. */
static void test_chain(void **state)
{
	struct fx *f = *state;
	u64 asked;

	fx_long(f, 0);
	EXPECT_HLT(f, jumps);
	assert_true(stat(f, X86_STAT_TB_CHAINED) > 0);
	assert_true(stat(f, X86_STAT_TB_ENTERED) < 10);
	assert_int_equal(reg(f, X86_R12), 999);
	asked = stat(f, X86_STAT_TB_PAGE);
	f->c->gpr[X86_RCX] = 0;
	EXPECT_HLT(f, jumps);
	assert_true(stat(f, X86_STAT_TB_PAGE) - asked < 5);
	assert_int_equal(reg(f, X86_R12), 2 * 999);
}

/* What the translator refused is not asked for again. */
static void test_refused(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	translator.refuse = ~0u;
	EXPECT_HLT(f, jumps);
	assert_int_equal(reg(f, X86_R12), 999);
	assert_int_equal(stat(f, X86_STAT_TB_MADE), 0);
	assert_true(translator.calls > 0);
	assert_true(translator.calls < 5);
}

/* ---- the jump cache ---- */

GUEST(hop, 64,
      "lea 2f(%rip), %rbx; lea 0x1000(%rbx), %rdx; mov $1000, %ecx\n"
      "1: mov %rbx, %rax; jmp *%rax\n"
      "2: inc %r12; mov %rdx, %rax; jmp *%rax\n"
      ".skip 0x1000 - (. - 2b)\n"
      "inc %r13; dec %ecx; jz 3f; lea 1b(%rip), %rax; jmp *%rax; 3: hlt");

static void test_jump_cache(void **state)
{
	struct fx *f = *state;
	u64 missed;

	fx_long(f, 0);
	EXPECT_HLT(f, hop);
	assert_int_equal(reg(f, X86_R12), 1000);
	assert_int_equal(reg(f, X86_R13), 1000);
	missed = stat(f, X86_STAT_TB_JC_MISSES);
	assert_true(missed > 0);
	assert_true(missed < 200);
	/* io_epoch moved: each page is found again once, and then hits. */
	EXPECT_HLT(f, hop);
	assert_true(stat(f, X86_STAT_TB_JC_MISSES) - missed < 20);
	assert_int_equal(reg(f, X86_R12), 2000);
}

static u32 jump_entries(struct fx *f, u32 set)
{
	const struct x86_jc_entry *jc = (struct x86_jc_entry *)((u8 *)f->c + X86_GS_JC(set));
	u32 n = 0;

	for (u32 k = 0; k < X86_JC_SIZE; k++)
		n += jc[k].host && jc[k].rip != ~0ull;
	return n;
}

/* What each flush takes along. There is no SMAP here, so that supervisor code runs in the set A. */
static void test_jump_flushes(void **state)
{
	struct fx *f = *state;
	u32 n;

	fx_long(f, 0);
	EXPECT_HLT(f, hop);
	n = jump_entries(f, X86_SET_ACCESS);
	assert_true(n >= 2);
	assert_int_equal(jump_entries(f, X86_SET_USER), 0);
	x86_tlb_flush_page(f->c, AT_DATA);
	assert_int_equal(jump_entries(f, X86_SET_ACCESS), n);
	x86_tlb_flush_page(f->c, AT_CODE + 0x1000);
	assert_int_equal(jump_entries(f, X86_SET_ACCESS), n - 1);
	x86_tlb_flush_nonglobal(f->c);
	assert_int_equal(jump_entries(f, X86_SET_ACCESS), 0);

	EXPECT_HLT(f, hop);
	assert_true(jump_entries(f, X86_SET_ACCESS) >= 2);
	x86_tlb_flush_all(f->c);
	assert_int_equal(jump_entries(f, X86_SET_ACCESS), 0);

	/* Global pages stay over MOV CR3. */
	f->c->cr4 |= X86_CR4_PGE;
	for (u64 la = AT_CODE; la < AT_CODE + 0x2000; la += PAGE_SIZE)
		f->toy.ram[AT_PML4 + 3 * PAGE_SIZE + (la >> 12) * 8 + 1] |= 1;
	x86_state_changed(f->c, false);
	EXPECT_HLT(f, hop);
	n = jump_entries(f, X86_SET_ACCESS);
	assert_true(n >= 2);
	x86_tlb_flush_nonglobal(f->c);
	assert_int_equal(jump_entries(f, X86_SET_ACCESS), n);
	assert_non_null(x86_etlb_entry(f->c, AT_CODE));
	x86_tlb_flush_page(f->c, AT_CODE);
	assert_null(x86_etlb_entry(f->c, AT_CODE));
	assert_true(jump_entries(f, X86_SET_ACCESS) < n);
}

/* ---- code that changes ---- */

GUEST(patch, 64,
      "xor %r13d, %r13d; lea 3f+3(%rip), %rbx\n"
      "4: mov $500, %ecx; 1: dec %ecx; jz 2f; 3: add $1, %r13d; jmp 1b\n"
      "2: cmpb $9, (%rbx); je 5f; movb $9, (%rbx); jmp 4b; 5: hlt");
GUEST(patch_next, 64,
      "xor %r13d, %r13d; lea 3f+3(%rip), %rbx; mov $500, %ecx; xor %eax, %eax\n"
      "1: mov %al, (%rbx); 3: add $1, %r13d; inc %eax; and $1, %eax; dec %ecx; jz 2f; jmp 1b; 2: "
      "hlt");

/* A store into a block that was executed 500 times: the new bytes run at once. */
static void test_self_modifying(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_HLT(f, patch);
	assert_int_equal(reg(f, X86_R13), 499 + 9 * 499);
	assert_true(stat(f, X86_STAT_TB_DROPPED) > 0);
	/* The instruction right behind the store, again and again. */
	EXPECT_HLT(f, patch_next);
	assert_int_equal(reg(f, X86_R13), 250);
}

GUEST(before, 64,
      "mov $1000, %ecx; xor %ebx, %ebx; 1: dec %ecx; jz 2f; add $1, %ebx; jmp 1b; 2: hlt");
GUEST(after, 64,
      "mov $1000, %ecx; xor %ebx, %ebx; 1: dec %ecx; jz 2f; add $2, %ebx; jmp 1b; 2: hlt");

/* The VMM rewrites code between two runs. */
static void test_written_outside(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_HLT(f, before);
	assert_int_equal(reg(f, X86_RBX), 999);
	EXPECT_HLT(f, after);
	assert_int_equal(reg(f, X86_RBX), 2 * 999);
	EXPECT_HLT(f, before);
	assert_int_equal(reg(f, X86_RBX), 999);
	assert_true(stat(f, X86_STAT_TB_DROPPED) > 0);
}

/* A region that holds few blocks is turned over and over, and everything still comes out right. */
static void test_eviction(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	translator.pad = true;
	for (u32 n = 0; n < 60; n++) {
		EXPECT_HLT(f, hop);
		assert_int_equal(reg(f, X86_R12), 1000 * (n + 1));
		EXPECT_HLT(f, count);
		EXPECT_HLT(f, jumps);
		f->c->gpr[X86_R12] = 1000 * (n + 1);
	}
	assert_true(stat(f, X86_STAT_TB_EVICTIONS) > 2);
}

/* ---- faults ---- */

GUEST(divide, 64,
      "mov $100, %r14d; mov $0x1122334455667788, %rdi; 1: mov $7, %eax; xor %edx, %edx; stc; mov "
      "%r14d, %ecx\n"
      "div %ecx; dec %r14d; jmp 1b");

/* #DE in translated code, with the guest's state as it was at the instruction. */
static void test_host_fault(void **state)
{
	struct fx *f = *state;
	u64 sp;

	take_signals();
	fx_long(f, 0);
	EXPECT_VECTOR(f, divide, X86_DE);
	assert_true(stat(f, X86_STAT_TB_MADE) > 0);
	assert_int_equal(reg(f, X86_RAX), 7);
	assert_int_equal(reg(f, X86_RCX), 0);
	assert_int_equal(reg(f, X86_RDX), 0);
	assert_int_equal(reg(f, X86_R14), 0);
	assert_int_equal(reg(f, X86_RDI), 0x1122334455667788);
	sp = reg(f, X86_RSP);
	assert_int_equal(sp, AT_STACK - 40);
	/* RIP of the division */
	assert_memory_equal(f->toy.ram + frame(f, 0), "\xf7\xf1", 2);
}

GUEST(page_fault, 64,
      "mov $0x60000, %ebx; mov $100, %ecx; 1: mov %rcx, (%rbx); dec %ecx; jz 2f; jmp 1b\n"
      "2: mov $0x90000, %ebx; mov $0x99, %ecx; jmp 1b");

/* A fault inside an instruction that a block has executed by tier 0 leaves by long jump. */
static void test_slow_fault(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->toy.ram[AT_PML4 + 3 * PAGE_SIZE + (AT_ABSENT >> 12) * 8] = 0;
	EXPECT_VECTOR(f, page_fault, X86_PF);
	assert_int_equal(f->c->cr2, AT_ABSENT);
	assert_int_equal(reg(f, X86_RCX), 0x99);
	assert_int_equal(reg(f, X86_RBX), AT_ABSENT);
	assert_memory_equal(f->toy.ram + frame(f, 1), "\x48\x89\x0b", 3);
}

/* ---- SIMD ---- */

GUEST(simd, 64,
      "mov $200, %ecx; xorps %xmm0, %xmm0; mov $1, %eax; movd %eax, %xmm1\n"
      "1: paddd %xmm1, %xmm0; outb %al, $0x80; dec %ecx; jz 2f; jmp 1b; 2: movd %xmm0, %ebx; hlt");

/* A port access spills; behind SLOW_SIMD the state is back. */
static void test_simd(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_OSFXSR;
	x86_state_changed(f->c, false);
	translator.simd = true;
	EXPECT_HLT(f, simd);
	assert_int_equal(reg(f, X86_RBX), 200);
	assert_int_equal(f->c->simd_native, 0);
#ifndef __SANITIZE_ADDRESS__ /* there blocks never use it in place */
	assert_true(f->c->simd_enabled & X86_NATIVE_SSE);
#endif
	f->c->cr0 |= X86_CR0_TS;
	x86_state_changed(f->c, false);
	assert_int_equal(f->c->simd_enabled, 0);
}

/* ---- requests ---- */

GUEST(forever, 64, "1: inc %r12; jmp 1b");
GUEST(forever_hop, 64, "lea 1f(%rip), %rax; 1: inc %r12; jmp *%rax");

struct kicker {
	struct fx *f;
	u32 bit;
	volatile bool stop;
};

static void *kick(void *arg)
{
	struct kicker *k = arg;

	usleep(30000);
	x86_request(k->f->c, X86_REQ_OUT);
	return NULL;
}

static void run_kicked(struct fx *f, const u8 *start, const u8 *end)
{
	struct kicker k = {.f = f};
	pthread_t t;

	fx_long(f, 0);
	f->c->gpr[X86_R12] = 0;
	assert_int_equal(pthread_create(&t, NULL, kick, &k), 0);
	assert_int_equal(fx_run_at(f, start, end), X86_EXIT_REQUEST);
	pthread_join(t, NULL);
	x86_unrequest(f->c, X86_REQ_OUT);
	assert_true(reg(f, X86_R12) > 1000);
	assert_in_range(f->c->rip, AT_CODE, AT_CODE + 16);
	assert_true(stat(f, X86_STAT_TB_POLLS) > 0);
}

static void test_kick(void **state)
{
	struct fx *f = *state;

	run_kicked(f, forever, forever_end);
	run_kicked(f, forever_hop, forever_hop_end);
}

/* ---- two CPUs ---- */

/* What the real machine does: every other CPU drops its write translations, or is outside. */
static void purge_writes(void *m, u8 *host_page, void (*serve)(void *cpu), void *cpu)
{
	struct x86_cpu *self = cpu;

	for (struct x86_cpu *c = self->code->cpus; c; c = c->code_next) {
		if (c == self)
			continue;
		x86_request(c, X86_REQ_PURGE);
		while (LOAD_ACQUIRE(c->in_guest) && (LOAD_ACQUIRE(c->req) & X86_REQ_PURGE))
			serve(self);
	}
}

struct other {
	struct fx *f;
	struct x86_cpu *c;
};

static void *run_other(void *arg)
{
	struct other *o = arg;

	/* A request ends the run; the loop itself never does. */
	while (x86_run(o->c) == X86_EXIT_REQUEST && !READ_ONCE(o->f->toy.cr8))
		x86_unrequest(o->c, X86_REQ_OUT);
	return NULL;
}

GUEST(writer, 64,
      "mov $0x30000, %ebx; mov $20000, %ecx; 1: mov $0x9090, %ax; mov %ax, 0x800(%rbx); mov %rcx, "
      "%rdx; 2: dec %edx; test $0x3f, %edx; jnz 2b\n"
      "dec %ecx; jnz 1b; hlt");
GUEST(looper, 64, "1: inc %r12; call 2f; jmp 1b; .skip 0x800 - (. - 1b); 2: nop; nop; ret");

/* One CPU rewrites what the other executes, while blocks are made, chained, dropped and evicted. */
static void test_two_cpus(void **state)
{
	struct fx *f = *state;
	struct other o = {.f = f};
	struct x86_cpu *first = f->c;
	struct machine_ops ops = toy_ops;
	pthread_t t;

	ops.purge_writes = purge_writes;
	first->ops = &ops;
	translator.pad = true;
	fx_long(f, 0);
	assert_int_equal(x86_create(&ops, &f->toy, &f->epoch, f->code, &o.c), 0);
	f->c = o.c;
	fx_long(f, 0);
	o.c->rip = 0x30000;
	o.c->gpr[X86_RSP] = AT_IST;
	f->c = first;
	fx_put(f, 0x30000, looper, (u64)(looper_end - looper));
	assert_int_equal(pthread_create(&t, NULL, run_other, &o), 0);
	while (!LOAD_ACQUIRE(o.c->stats[X86_STAT_TB_ENTERED]))
		usleep(1000);
	/* On a busy machine the two may run one after the other for a while. */
	for (u32 n = 0; n < 1000 && stat(f, X86_STAT_CODE_INVALIDATED) <= 10; n++)
		EXPECT_HLT(f, writer);
	f->toy.cr8 = 1;
	x86_request(o.c, X86_REQ_OUT);
	pthread_join(t, NULL);
	assert_true(o.c->gpr[X86_R12] > 100);
	assert_true(stat(f, X86_STAT_CODE_INVALIDATED) > 10);
	x86_destroy(o.c);
}

/* ---- GS ---- */

static u64 gs_base(void)
{
	u64 base;

	syscall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &base);
	return base;
}

/* The host's own GS base is back after every run, whichever way it is changed. */
static void test_gs(void **state)
{
	struct fx *f = *state;
	bool native = f->c->fsgsbase;

	syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, 0x12345000ul);
	for (u32 n = 0; n <= native; n++) {
		f->c->fsgsbase = n;
		fx_long(f, 0);
		EXPECT_HLT(f, jumps);
		assert_int_equal(gs_base(), 0x12345000);
		fx_long(f, 0);
		f->c->idt.limit = 0; /* a fault is the end */
		f->toy.ram[AT_PML4 + 3 * PAGE_SIZE + (AT_ABSENT >> 12) * 8] = 0;
		assert_int_equal(FX_RUN(f, page_fault), X86_EXIT_SHUTDOWN);
		assert_int_equal(gs_base(), 0x12345000);
	}
	syscall(SYS_arch_prctl, 0x1001, 0ul);
	assert_true(stat(f, X86_STAT_TB_ENTERED) > 0);
}

/* ---- single-stepping ---- */

GUEST(stepped, 64, "mov $100, %ecx; 1: inc %r12; dec %ecx; jz 2f; jmp 1b; 2: nop; jmp 1b");

/* Guest debugging sees every instruction, blocks or not. */
static void test_step(void **state)
{
	struct fx *f = *state;
	u32 steps = 0;

	fx_long(f, 0);
	f->c->guest_debug = 3;
	assert_int_equal(FX_RUN(f, stepped), X86_EXIT_DEBUG);
	for (; f->c->gpr[X86_RCX] > 1; steps++)
		assert_int_equal(fx_run(f), X86_EXIT_DEBUG);
	assert_in_range(steps, 99 * 4 - 3, 99 * 4 + 3);
	assert_int_equal(stat(f, X86_STAT_TB_ENTERED), 0);
}

int main(void)
{
#define TEST(name)	 cmocka_unit_test_setup_teardown(name, setup, fx_teardown)
#define TEST_SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small, fx_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_registers),	    TEST(test_chain),	       TEST(test_refused),
		TEST(test_jump_cache),	    TEST(test_jump_flushes),   TEST(test_self_modifying),
		TEST(test_written_outside), TEST_SMALL(test_eviction), TEST(test_host_fault),
		TEST(test_slow_fault),	    TEST(test_simd),	       TEST(test_kick),
		TEST_SMALL(test_two_cpus),  TEST(test_step), TEST(test_gs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
