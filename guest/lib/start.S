/* SPDX-License-Identifier: MIT */
/*
 * First bytes of the protected-mode guests: a jump over a multiboot header (so that QEMU's -kernel takes them), a stack, and off to
 * entry32. Entered in flat 32-bit protected mode with paging off.
 */
	.section .text.start, "ax"
	.code32
	.globl start
start:
	jmp	1f
	.balign	4
multiboot:
	.long	0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
	.long	multiboot, image_start, image_end, bss_end, start
1:	cli
	cld
	movl	$boot_stack_top, %esp
	/* no loader is trusted to clear .bss */
	movl	$image_end, %edi
	movl	$bss_end, %ecx
	subl	%edi, %ecx
	xorl	%eax, %eax
	rep stosb
	jmp	entry32

	.bss
	.balign	16
	.skip	16384
	.globl	boot_stack_top
boot_stack_top:

	.section .note.GNU-stack, "", @progbits
