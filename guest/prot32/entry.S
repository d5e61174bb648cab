/* SPDX-License-Identifier: MIT */
/*
 * Exception and interrupt entry, the way to ring 3 and back, and 16-bit code, for prot32.c.
 */
	.code32
	.text

	.globl	entry32
entry32:
	call	prot32_main
1:	cli
	hlt
	jmp	1b

/* One stub per vector, 16 bytes apart: pushes an error code where the CPU does not, then the vector. */
	.balign	16
	.globl	trap_stubs
trap_stubs:
	vector = 0
	.rept	256
	.balign	16
	.if	!(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	pushl	$0
	.endif
	pushl	$vector
	jmp	trap_common
	vector = vector + 1
	.endr

trap_common:
	pushal
	pushl	%ds
	pushl	%es
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	cld
	pushl	%esp
	call	handle_trap
	addl	$4, %esp
	popl	%es
	popl	%ds
	popal
	addl	$8, %esp
	iretl

/* int run_user(void (*code)(void), void *stack, u32 eflags): until leave_user() */
	.globl	run_user
run_user:
	movl	4(%esp), %eax
	movl	8(%esp), %ecx
	movl	12(%esp), %edx
	pushl	%ebp
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	movl	%esp, user_exit_stack
	movl	%esp, tss_esp0
	subl	$64, tss_esp0
	pushl	$0x23
	pushl	%ecx
	pushl	%edx
	pushl	$0x1b
	pushl	%eax
	movl	$0x23, %eax
	movl	%eax, %ds
	movl	%eax, %es
	iretl

/* Called from handle_trap on the exception's stack: back to run_user's caller. */
	.globl	leave_user
leave_user:
	movl	user_exit_stack, %esp
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	popl	%edi
	popl	%esi
	popl	%ebx
	popl	%ebp
	ret

/* u32 run_code16(u32 x): x * 3 + 1 by a 16-bit code segment, with its own idea of operand sizes */
	.globl	run_code16
run_code16:
	movl	4(%esp), %ecx
	ljmpl	$0x30, $code16_start - code16_base
	.globl	code16_base
code16_base:
	.code16
code16_start:
	movw	%cx, %ax
	addw	%cx, %ax
	addw	%cx, %ax
	incw	%ax
	movzwl	%ax, %eax
	ljmpl	$0x08, $code16_done
	.code32
code16_done:
	ret

/* Target of the call gate: ring 0, two parameters copied from the caller's stack; returns their difference and CS. */
	.globl	gate_target
gate_target:
	movl	8(%esp), %eax
	subl	12(%esp), %eax
	movl	%cs, %ebx
	lretl	$8

/* User code. */
	.globl	user_gate
user_gate:
	pushl	$11
	pushl	$53
	lcall	$0x5b, $0
	movl	%eax, %esi
	movl	$1, %eax	/* report esi, ebx */
	int	$0x80
	xorl	%eax, %eax
	int	$0x80

	.globl	user_cli, user_in, user_out_allowed, user_exit, user_hlt, user_gate_bad, user_ac, user_kernel_read, user_kernel_write, user_ss_limit
user_cli:
	cli
	jmp	user_exit
user_in:
	inb	$0x60, %al
	jmp	user_exit
user_out_allowed:
	movb	$'.', %al
	outb	%al, $0xe9
	jmp	user_exit
user_hlt:
	hlt
user_gate_bad:
	int	$0x21
	jmp	user_exit
user_ac:
	movl	%esp, %ecx
	movl	1(%ecx), %eax
	jmp	user_exit
user_kernel_read:
	movl	0x40003000, %eax
	jmp	user_exit
user_kernel_write:
	movl	%eax, 0x40003000
	jmp	user_exit
user_ss_limit:
	movl	$0x7b, %eax
	movl	%eax, %ss
	movl	$12, %esp
	popl	%eax
	popl	%eax
	jmp	user_exit
user_exit:
	xorl	%eax, %eax
	int	$0x80

	.bss
	.globl	user_exit_stack
user_exit_stack:
	.long	0

	.section .note.GNU-stack, "", @progbits
