/* SPDX-License-Identifier: MIT */
/*
 * For QEMU's -kernel, which starts in protected mode: puts the real-mode guest (real.bin) at 0x8000, goes back to real mode by a
 * 16-bit code segment, and jumps there.
 */
	.section .text.start, "ax"
	.code32
	.globl	start
start:
	jmp	1f
	.balign	4
multiboot:
	.long	0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
	.long	multiboot, image_start, image_end, bss_end, start
1:	cli
	cld
	movl	$payload, %esi
	movl	$0x8000, %edi
	movl	$payload_end - payload, %ecx
	rep movsb
	movl	$switch, %esi
	movl	$0x7000, %edi
	movl	$switch_end - switch, %ecx
	rep movsb
	lgdt	gdt_pointer
	lidt	idt_pointer
	ljmpl	$8, $0x7000
	.code16
switch:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	movl	%cr0, %eax
	andb	$0xfe, %al
	movl	%eax, %cr0
	ljmpw	$0, $0x8000
switch_end:
	.balign	8
gdt:	.quad	0, 0x00009a000000ffff, 0x000092000000ffff
gdt_pointer:
	.word	23
	.long	gdt
idt_pointer:
	.word	0x3ff
	.long	0
payload:
	.incbin	"real.bin"
payload_end:

	.section .note.GNU-stack, "", @progbits
