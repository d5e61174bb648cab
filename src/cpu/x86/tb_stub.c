// SPDX-License-Identifier: MIT
/*
 * The stubs of the code region: how C enters translated code, and how translated code reaches C.
 *
 * Outer file, though its assembly runs among blocks: the routines below are never executed where
 * they stand but copied into the region, as blocks reach them by rel32. So they are
 * position-independent and reach C through the table at their end. They know the register contract
 * of tb.h and nothing of what the C side does.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/tb_runtime.h"

#include <string.h>

#define G(r) [r] "i"(X86_GS(gpr[X86_##r]))
#define GPRS                                                                                       \
	G(RAX), G(RCX), G(RDX), G(RBX), G(RSP), G(RBP), G(RSI), G(RDI), G(R8), G(R12), G(R13),     \
		G(R14), G(R15)

/* Guest registers from the host's to their homes, and back. */
#define SAVE                                                                                       \
	"mov %%r9, %%gs:%c[RAX]\n\tmov %%r10, %%gs:%c[RCX]\n\tmov %%rdx, %%gs:%c[RDX]\n\t"         \
	"mov %%rbx, %%gs:%c[RBX]\n\tmov %%r11, %%gs:%c[RSP]\n\tmov %%rbp, %%gs:%c[RBP]\n\t"        \
	"mov %%rsi, %%gs:%c[RSI]\n\tmov %%rdi, %%gs:%c[RDI]\n\tmov %%r8, %%gs:%c[R8]\n\t"          \
	"mov %%r12, %%gs:%c[R12]\n\tmov %%r13, %%gs:%c[R13]\n\tmov %%r14, %%gs:%c[R14]\n\t"        \
	"mov %%r15, %%gs:%c[R15]\n\t"
#define LOAD                                                                                       \
	"mov %%gs:%c[RAX], %%r9\n\tmov %%gs:%c[RCX], %%r10\n\tmov %%gs:%c[RDX], %%rdx\n\t"         \
	"mov %%gs:%c[RBX], %%rbx\n\tmov %%gs:%c[RSP], %%r11\n\tmov %%gs:%c[RBP], %%rbp\n\t"        \
	"mov %%gs:%c[RSI], %%rsi\n\tmov %%gs:%c[RDI], %%rdi\n\tmov %%gs:%c[R8], %%r8\n\t"          \
	"mov %%gs:%c[R12], %%r12\n\tmov %%gs:%c[R13], %%r13\n\tmov %%gs:%c[R14], %%r14\n\t"        \
	"mov %%gs:%c[R15], %%r15\n\t"

/* Leaves with RAX, the stack as blocks have it. */
#define LEAVE                                                                                      \
	"add $8, %%rsp\n\tpop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbx\n\t"       \
	"pop %%rbp\n\tret\n\t"

/*
 * Executes instruction EAX. The stack pointer is 8 below the block's. Among the registers that C
 * preserves, RBX keeps the instruction and R12 what the guest may use of SIMD: if that changed,
 * what the block assumes no longer holds.
 */
#define SLOW(more)                                                                                 \
	SAVE "shl $4, %%rax\n\t"                                                                   \
	     "add x86_tb_tpl_arena(%%rip), %%rax\n\t"                                              \
	     "mov %%gs:%c[self], %%rdi\n\t"                                                        \
	     "mov %%rax, %%gs:%c[insn]\n\t"                                                        \
	     "mov %%rax, %%rsi\n\t"                                                                \
	     "lea %c[next](%%rax), %%rbx\n\t"                                                      \
	     "incq %%gs:%c[slow]\n\t"                                                              \
	     "movzbl %%gs:%c[enabled], %%r12d\n\t"                                                 \
	     "sub $8, %%rsp\n\t"                                                                   \
	     "call *(%%rax)\n\t"                                                                   \
	     "cmp %%rbx, %%rax\n\t"                                                                \
	     "jne 8f\n\t"                                                                          \
	     "cmpl $0, %%gs:%c[req]\n\t"                                                           \
	     "jne 8f\n\t"                                                                          \
	     "cmp %%r12b, %%gs:%c[enabled]\n\t"                                                    \
	     "jne 8f\n\t" more LOAD "add $8, %%rsp\n\t"                                            \
	     "ret\n"                                                                               \
	     "8:\tmov %%rax, %%rsi\n\t"                                                            \
	     "mov %%gs:%c[self], %%rdi\n\t"                                                        \
	     "call *x86_tb_tpl_resume(%%rip)\n\t"                                                  \
	     "add $16, %%rsp\n\t"                                                                  \
	     "test %%rax, %%rax\n\t"                                                               \
	     "je 9f\n\t" LOAD "jmp *%%rax\n"                                                       \
	     "9:\tmov %%rdx, %%rax\n\t" LEAVE

#define SIMD                                                                                       \
	"cmpb $0, %%gs:%c[live]\n\t"                                                               \
	"jne 7f\n\t"                                                                               \
	"mov %%gs:%c[self], %%rdi\n\t"                                                             \
	"call *x86_tb_tpl_load(%%rip)\n"                                                           \
	"7:\t"

/* After SAVE and with the arguments in place: asks C where to go on. */
#define ASK(table)                                                                                 \
	"mov %%gs:%c[self], %%rdi\n\t"                                                             \
	"call *" table "(%%rip)\n\t"                                                               \
	"test %%rax, %%rax\n\t"                                                                    \
	"je 9f\n\t" LOAD "jmp *%%rax\n"                                                            \
	"9:\tmov %%rdx, %%rax\n\t" LEAVE

#define FIELDS                                                                                     \
	GPRS, [self] "i"(X86_GS(self)), [insn] "i"(X86_GS(insn)), [req] "i"(X86_GS(req)),          \
		[enabled] "i"(X86_GS(simd_enabled)), [live] "i"(X86_GS(simd_live)),                \
		[rip] "i"(X86_GS(rip)), [page] "i"(X86_GS(gpr[X86_GPR_CODEPAGE])),                 \
		[slow] "i"(X86_GS(stats[X86_STAT_TB_SLOW])),                                       \
		[polls] "i"(X86_GS(stats[X86_STAT_TB_POLLS])), [next] "i"(sizeof(struct x86_insn))

#define LABEL(name)                                                                                \
	".balign 16\n\t.globl x86_tb_tpl_" #name "\n\t.hidden x86_tb_tpl_" #name                   \
	"\n\tx86_tb_tpl_" #name ":\n\t"

extern const u8 x86_tb_tpl_enter[], x86_tb_tpl_slow[], x86_tb_tpl_slow_simd[], x86_tb_tpl_page[],
	x86_tb_tpl_miss[], x86_tb_tpl_poll[], x86_tb_tpl_arena[], x86_tb_tpl_end[];

/* const struct x86_insn *enter(struct x86_cpu *c, const void *host) comes first. */
__attribute__((used, naked)) static void templates(void)
{
	__asm__ volatile(LABEL(enter) "push %%rbp\n\tpush %%rbx\n\tpush %%r12\n\tpush "
				      "%%r13\n\tpush %%r14\n\t"
				      "push %%r15\n\tsub $8, %%rsp\n\t"
				      "mov %%rsi, %%rax\n\t" LOAD "jmp *%%rax\n\t"
			 :
			 : FIELDS);
	__asm__ volatile(LABEL(slow) SLOW("") : : FIELDS);
	__asm__ volatile(LABEL(slow_simd) SLOW(SIMD) : : FIELDS);
	/* Not to be chained: through the current set's jump cache, which need not be the block's
	 * own. */
	__asm__ volatile(LABEL(page) "jrcxz 1f\n\tjmp x86_tb_tpl_page_c\n"
				     "1:\tadd %%gs:%c[page], %%rax\n\t"
				     "cmpl $0, %%gs:%c[req]\n\t"
				     "jne 2f\n\t"
				     "mov %%rax, %%rcx\n\tshr $12, %%rcx\n\txor %%eax, %%ecx\n\t"
				     "and %[mask], %%ecx\n\tshl $4, %%ecx\n\t"
				     "add %%gs:%c[jc], %%rcx\n\t"
				     "cmp %%rax, (%%rcx)\n\t"
				     "jne 2f\n\t"
				     "jmp *8(%%rcx)\n"
				     "2:\tsub %%gs:%c[page], %%rax\n\t"
				     "xor %%ecx, %%ecx\n\t"
				     "jmp x86_tb_tpl_page_c\n\t"
			 :
			 : FIELDS, [jc] "i"(X86_GS(jc)), [mask] "i"(X86_JC_SIZE - 1));
	__asm__ volatile(LABEL(page_c) SAVE "mov %%eax, %%esi\n\t"
					    "mov %%ecx, %%edx\n\t" ASK("x86_tb_tpl_do_page")
			 :
			 : FIELDS);
	__asm__ volatile(LABEL(miss) SAVE "mov %%rax, %%rsi\n\t" ASK("x86_tb_tpl_do_miss")
			 :
			 : FIELDS);
	__asm__ volatile(LABEL(poll) SAVE "mov %%eax, %%eax\n\t"
					  "add %%gs:%c[page], %%rax\n\t"
					  "mov %%rax, %%gs:%c[rip]\n\t"
					  "incq %%gs:%c[polls]\n\t"
					  "xor %%eax, %%eax\n\t" LEAVE
			 :
			 : FIELDS);
	/* Filled in the copy: struct table. */
	__asm__ volatile(LABEL(arena) ".quad 0\n"
				      "x86_tb_tpl_load: .quad 0\n"
				      "x86_tb_tpl_do_page: .quad 0\n"
				      "x86_tb_tpl_do_miss: .quad 0\n"
				      "x86_tb_tpl_resume: .quad 0\n" LABEL(end)
			 :
			 :);
}

struct table {
	const u8 *arena;
	void (*load)(struct x86_cpu *c);
	struct x86_tb_next (*page)(struct x86_cpu *c, u32 off, u32 site);
	struct x86_tb_next (*miss)(struct x86_cpu *c, u64 rip);
	struct x86_tb_next (*resume)(struct x86_cpu *c, const struct x86_insn *i);
};

void x86_tb_stubs_write(struct x86_tb_cache *tb, const u8 *arena)
{
	static const u8 *const stubs[X86_NR_STUBS] = {
		[X86_STUB_SLOW] = x86_tb_tpl_slow, [X86_STUB_SLOW_SIMD] = x86_tb_tpl_slow_simd,
		[X86_STUB_PAGE] = x86_tb_tpl_page, [X86_STUB_MISS] = x86_tb_tpl_miss,
		[X86_STUB_POLL] = x86_tb_tpl_poll,
	};
	const struct table t = {arena, x86_simd_load_slow, x86_tb_page, x86_tb_miss, x86_tb_resume};

	/* Offset 0 stands for "no block". */
	tb->enter = 16;
	memcpy(tb->w + tb->enter, x86_tb_tpl_enter, (size_t)(x86_tb_tpl_end - x86_tb_tpl_enter));
	memcpy(tb->w + tb->enter + (x86_tb_tpl_arena - x86_tb_tpl_enter), &t, sizeof(t));
	for (u32 n = 0; n < X86_NR_STUBS; n++)
		tb->stub[n] = tb->enter + (u32)(stubs[n] - x86_tb_tpl_enter);
}
