// SPDX-License-Identifier: MIT
/*
 * See guard.h. The functions keep nothing on the stack, so that from any of their instructions the
 * way out is the same.
 */
#include "base/guard.h"

#include <ucontext.h>

__asm__(".text\n"
	".p2align 4\n"
	".globl av_guard_copy, av_guard_equal\n"
	".hidden av_guard_copy, av_guard_equal, av_guard_begin, av_guard_end, av_guard_out\n"
	".type av_guard_copy, @function\n"
	".type av_guard_equal, @function\n"
	".globl av_guard_begin, av_guard_end, av_guard_out\n"
	"av_guard_begin:\n"
	"av_guard_copy:\n"
	"	mov %rdx, %rcx\n"
	"	rep movsb\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	".size av_guard_copy, . - av_guard_copy\n"
	"	.p2align 4\n"
	"av_guard_equal:\n"
	"	xor %ecx, %ecx\n"
	"	jmp 2f\n"
	"1:	movdqu (%rdi,%rcx), %xmm0\n"
	"	movdqu (%rsi,%rcx), %xmm1\n"
	"	pcmpeqb %xmm1, %xmm0\n"
	"	pmovmskb %xmm0, %eax\n"
	"	cmp $0xffff, %eax\n"
	"	jne 3f\n"
	"	add $16, %rcx\n"
	"2:	cmp %rdx, %rcx\n"
	"	jb 1b\n"
	"	mov $1, %eax\n"
	"	ret\n"
	"3:	xor %eax, %eax\n"
	"	ret\n"
	".size av_guard_equal, . - av_guard_equal\n"
	"av_guard_end:\n"
	"av_guard_out:\n"
	"	mov $-14, %eax\n" /* EFAULT */
	"	ret\n"
	".previous\n");

extern const char av_guard_begin[], av_guard_end[], av_guard_out[];

bool av_guard_fault(void *ucontext)
{
	greg_t *rip = &((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RIP];

	if (*rip < (greg_t)av_guard_begin || *rip >= (greg_t)av_guard_end)
		return false;
	*rip = (greg_t)av_guard_out;
	return true;
}
