/* SPDX-License-Identifier: MIT */
/*
 * Real mode: console and serial port, segment arithmetic and limits, the interrupt vector table, exceptions through it, string
 * instructions, 32-bit operand and address sizes, far calls, decimal arithmetic, unreal mode, and an interrupt from the PIT.
 *
 * Loaded at 0x8000, entered at its first byte in real mode with all segments 0 (the runner) or from real_boot.S.
 * A test leaves with CF clear (ok) or set.
 */
	.code16
	.section .text.start, "ax"
	.globl	start
start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7ff0, %sp
	movb	$0xff, %al	/* firmware may have left the PIT ticking */
	outb	%al, $0x21
	outb	%al, $0xa1
	movw	$tests, %si

next_test:
	movw	(%si), %bx
	testw	%bx, %bx
	jz	all_done
	pushw	%si
	movw	%sp, test_sp
	call	*%bx
back:
	cld
	movw	$0, %ax
	movw	%ax, %ds
	movw	%ax, %es
	popw	%si
	pushfw
	movw	2(%si), %di
	call	puts
	popfw
	movw	$text_ok, %di
	jnc	1f
	incw	failures
	movw	$text_fail, %di
1:	call	puts
	addw	$4, %si
	jmp	next_test

all_done:
	movw	$text_done, %di
	call	puts
	movb	failures, %al
	outb	%al, $0xf4
1:	cli
	hlt
	jmp	1b

/* di: string */
puts:
	movb	(%di), %al
	testb	%al, %al
	jz	1f
	outb	%al, $0xe9
	incw	%di
	jmp	puts
1:	ret

/* An exception that no test expects: fails the test that runs. */
unexpected:
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movw	test_sp, %sp
	subw	$2, %sp
	popw	%ax
	stc
	jmp	back

/* An expected one: notes that it came, resumes at [resume]. */
expected:
	pushw	%ax
	pushw	%bp
	movw	%sp, %bp
	xorw	%ax, %ax
	movw	%ax, %ds
	incw	hits
	movw	4(%bp), %ax
	movw	%ax, fault_ip
	movw	resume, %ax
	movw	%ax, 4(%bp)
	popw	%bp
	popw	%ax
	iretw

/* al: vector, bx: where to go on */
expect:
	movw	%bx, resume
	movw	$0, hits
	movzbw	%al, %di
	shlw	$2, %di
	movw	$expected, (%di)
	movw	$0, 2(%di)
	ret

/* ---- tests ---- */

t_vectors:
	movw	$0, %di
	movw	$256, %cx
1:	movw	$unexpected, (%di)
	movw	$0, 2(%di)
	addw	$4, %di
	loop	1b
	clc
	ret

t_serial:			/* the other console, if there is one: the line status must not say "full" for ever */
	movw	$0x3f8, %dx
	movb	$'r', %al
	outb	%al, %dx
	clc
	ret

t_segments:			/* 1234:0010 and 1235:0000 are one byte */
	movw	$0x1234, %ax
	movw	%ax, %es
	movb	$0x5a, %es:0x10
	movw	$0x1235, %ax
	movw	%ax, %fs
	cmpb	$0x5a, %fs:0
	jne	bad
	movw	$0xffff, %ax	/* ffff:0010 is 1 MiB: A20 is open */
	movw	%ax, %gs
	movb	$0x11, %gs:0x10
	movb	$0x22, %ss:0
	cmpb	$0x11, %gs:0x10
	jne	bad
	jmp	good

t_wrap:				/* offsets wrap at 64 KiB: base 0xfff8 + 0x10 is 8 */
	movw	$0x2000, %ax
	movw	%ax, %es
	movw	$0xa55a, %es:8
	movw	$0xfff8, %bx
	cmpw	$0xa55a, %es:0x10(%bx)
	jne	bad
	movw	$0xffff, %si	/* -1 + 9 */
	cmpw	$0xa55a, %es:9(%si)
	jne	bad
	jmp	good

t_limit:			/* a word at ffff does not fit: #GP, whose frame has no error code here */
	movl	$0x40000000, %eax
	cpuid
	cmpl	$0x54474354, %ebx
	movw	$text_tcg, %di
	je	puts_good
	movb	$13, %al
	movw	$1f, %bx
	call	expect
	movw	$0xffff, %bx
2:	movw	(%bx), %ax
	jmp	bad
1:	cmpw	$1, hits
	jne	bad
	cmpw	$2b, fault_ip
	jne	bad
	movb	$12, %al	/* by BP: #SS */
	movw	$1f, %bx
	call	expect
	movw	$0xffff, %bp
	movw	(%bp), %ax
	jmp	bad
1:	cmpw	$1, hits
	je	good
	jmp	bad

t_int:				/* INT pushes flags, CS, IP and clears IF; IRET brings them back */
	movw	$handler40, 0x40 * 4
	movw	$0, 0x40 * 4 + 2
	sti
	stc
	movw	%sp, %bp
	movw	$0x1111, %ax
	int	$0x40
after_int:
	pushfw
	popw	%cx
	cli
	cmpw	%sp, %bp
	jne	bad
	cmpw	$0x2222, %ax
	jne	bad
	testw	$0x200, %cx
	jz	bad
	testw	$1, %cx
	jz	bad
	testw	$0x200, %dx	/* in the handler IF was clear */
	jnz	bad
	cmpw	$after_int, %bx
	je	good
	jmp	bad
handler40:
	pushfw
	popw	%dx
	pushw	%bp
	movw	%sp, %bp
	movw	2(%bp), %bx
	popw	%bp
	movw	$0x2222, %ax
	iretw

t_exceptions:
	movb	$0, %al
	movw	$1f, %bx
	call	expect
	xorw	%dx, %dx
	xorw	%cx, %cx
2:	divw	%cx
	jmp	bad
1:	cmpw	$2b, fault_ip
	jne	bad
	movb	$6, %al
	movw	$1f, %bx
	call	expect
	ud2
	jmp	bad
1:	cmpw	$1, hits
	jne	bad
	movb	$5, %al
	movw	$1f, %bx
	call	expect
	movw	$9, %ax
	boundw	%ax, bounds
	jmp	bad
1:	cmpw	$1, hits
	jne	bad
	movb	$4, %al
	movw	$1f, %bx
	call	expect
	movb	$0x7f, %al
	incb	%al
	into
	jmp	bad
1:	cmpw	$1, hits
	jne	bad
	movb	$3, %al
	movw	$1f, %bx
	call	expect
	int3
	jmp	bad
1:	cmpw	$1, hits
	jne	bad
	movw	$8, %ax		/* in bounds */
	boundw	%ax, bounds
	jmp	good

t_strings:
	movw	$0x3000, %ax
	movw	%ax, %es
	xorw	%di, %di
	movw	$0x4142, %ax
	movw	$256, %cx
	rep stosw
	cmpw	$512, %di
	jne	bad
	testw	%cx, %cx
	jnz	bad
	movw	$0x5a5a, %es:300
	xorw	%di, %di
	movb	$0x5a, %al
	movw	$512, %cx
	repne scasb
	jne	bad
	cmpw	$301, %di
	jne	bad
	movw	%es, %ax
	movw	%ax, %ds
	xorw	%si, %si
	movw	$1024, %di
	movw	$128, %cx
	rep movsl
	movw	$0, %si
	movw	$1024, %di
	movw	$512, %cx
	repe cmpsb
	jne	bad
	movb	$1, %es:1100
	movw	$0, %si
	movw	$1024, %di
	movw	$512, %cx
	repe cmpsb
	je	bad
	cmpw	$77, %si	/* byte 76 differed */
	jne	bad
	std			/* backwards, overlapping */
	movw	$511, %si
	movw	$513, %di
	movw	$512, %cx
	rep movsb
	cld
	cmpw	$0x4142, %es:2
	jne	bad
	cmpw	$0xffff, %si
	jne	bad
	movw	$0xfffe, %di	/* wraps to 0 */
	movw	$0x7777, %ax
	stosw
	testw	%di, %di
	jnz	bad
	xorw	%si, %si
	lodsb
	cmpb	$0x42, %al
	jne	bad
	movw	$0, %cx		/* no round at all: flags and pointers stay */
	cmpw	%cx, %cx
	repe cmpsb
	jne	bad
	jmp	good

t_wide:				/* 32-bit operands and addresses */
	movl	$0x12345678, %eax
	movl	%eax, %ebx
	imull	$3, %ebx, %ebx
	cmpl	$0x369d0368, %ebx
	jne	bad
	movl	$table, %esi
	movl	$2, %ecx
	movl	(%esi,%ecx,4), %edx
	cmpl	$0x33333333, %edx
	jne	bad
	leal	-4(%esi,%ecx,8), %edi
	subl	$table, %edi
	cmpl	$12, %edi
	jne	bad
	movw	%sp, %bp
	pushl	%eax
	pushw	$0x7788
	popw	%cx
	popl	%edx
	cmpw	%sp, %bp
	jne	bad
	cmpl	%eax, %edx
	jne	bad
	movl	$0xffff8000, %ecx
	movswl	%cx, %edx
	cmpl	%ecx, %edx
	jne	bad
	shldl	$8, %eax, %edx
	cmpl	$0xff800012, %edx
	jne	bad
	bsfl	%ecx, %eax
	cmpl	$15, %eax
	jne	bad
	btl	$15, %ecx
	jnc	bad
	pushal
	popal
	movl	$0x10001, %ecx	/* LOOP counts CX, ADDR32 LOOP counts ECX */
	loop	1f
	cmpl	$0x10000, %ecx
	jne	bad
	jmp	good
1:	jmp	bad

t_calls:
	movw	%sp, %bp
	lcall	$0, $far_routine
	cmpw	$0x1357, %ax
	jne	bad
	pushw	$11
	pushw	$31
	call	sum
	cmpw	%sp, %bp
	jne	bad
	cmpw	$42, %ax
	jne	bad
	lcall	*far_pointer
	cmpw	$0x1357, %ax
	jne	bad
	pushfw
	lcall	$0, $int_routine
	cmpw	$0x2468, %ax
	jne	bad
	enterw	$8, $0
	movw	%bp, %ax
	subw	%sp, %ax
	cmpw	$8, %ax
	leavew
	jne	bad
	jmp	good
far_routine:
	movw	$0x1357, %ax
	lretw
int_routine:
	movw	$0x2468, %ax
	iretw
sum:	pushw	%bp
	movw	%sp, %bp
	movw	4(%bp), %ax
	addw	6(%bp), %ax
	popw	%bp
	retw	$4

t_decimal:
	movb	$0x79, %al
	addb	$0x35, %al
	daa
	jnc	bad
	cmpb	$0x14, %al
	jne	bad
	movb	$0x21, %al
	subb	$0x35, %al
	das
	jnc	bad
	cmpb	$0x86, %al
	jne	bad
	movb	$73, %al
	aam
	cmpw	$0x0703, %ax
	jne	bad
	aad
	cmpw	$73, %ax
	jne	bad
	movw	$0x0008, %ax
	addb	$5, %al
	aaa
	cmpw	$0x0103, %ax
	jne	bad
	subb	$5, %al
	aas
	cmpw	$0x0008, %ax
	jne	bad
	movw	$xlat_table, %bx
	movb	$2, %al
	xlatb
	cmpb	$0x99, %al
	jne	bad
	stc
	.byte	0xd6		/* salc */
	cmpb	$0xff, %al
	jne	bad
	jmp	good

t_flags:
	pushw	$0
	popfw
	pushfw
	popw	%ax
	testw	$0x08d5, %ax
	jnz	bad
	testw	$2, %ax
	jz	bad
	pushw	$0x7fd5		/* all that a 286 would have, IF and TF apart */
	popw	%ax
	andw	$0xfcff, %ax
	pushw	%ax
	popfw
	pushfw
	popw	%bx
	pushw	$2
	popfw
	cmpw	$0x7cd7, %bx
	jne	bad
	movb	$0xd7, %ah
	sahf
	lahf
	cmpb	$0xd7, %ah
	jne	bad
	jmp	good

t_unreal:			/* a 4 GiB limit from protected mode stays in the descriptor cache */
	lgdt	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	jmp	1f
1:	movw	$8, %bx
	movw	%bx, %fs
	andb	$0xfe, %al
	movl	%eax, %cr0
	ljmp	$0, $1f
1:	movl	$0x200000, %esi
	movl	$0xcafef00d, %fs:(%esi)
	movl	%fs:(%esi), %eax
	cmpl	$0xcafef00d, %eax
	jne	bad
	movw	$0x100, %ax	/* a real-mode load changes the base and keeps the limit */
	movw	%ax, %fs
	movl	%fs:-0x1000(%esi), %eax
	cmpl	$0xcafef00d, %eax
	jne	bad
	jmp	good

t_smsw:
	smsw	%ax
	testb	$1, %al
	jnz	bad
	jmp	good

t_self_modifying:
	movb	$0x41, 1f	/* inc cx over a nop */
	xorw	%cx, %cx
	jmp	1f
1:	nop
	movb	$0x90, 1b
	cmpw	$1, %cx
	je	good
	jmp	bad

t_pit:				/* IRQ 0 at vector 0x20, HLT until it came three times */
	movw	$tick, 0x20 * 4
	movw	$0, 0x20 * 4 + 2
	movb	$0x11, %al
	outb	%al, $0x20
	outb	%al, $0xa0
	movb	$0x20, %al
	outb	%al, $0x21
	movb	$0x28, %al
	outb	%al, $0xa1
	movb	$4, %al
	outb	%al, $0x21
	movb	$2, %al
	outb	%al, $0xa1
	movb	$1, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movb	$0xff, %al
	outb	%al, $0xa1
	movb	$0xfe, %al
	outb	%al, $0x21
	movb	$0x34, %al
	outb	%al, $0x43
	movb	$0, %al
	outb	%al, $0x40
	movb	$8, %al
	outb	%al, $0x40
	movw	$20, %cx
1:	sti
	hlt
	cli
	cmpw	$3, ticks
	jae	good
	loop	1b
	jmp	bad
tick:
	pushw	%ax
	incw	ticks
	movb	$0x20, %al
	outb	%al, $0x20
	popw	%ax
	iretw

puts_good:
	call	puts
good:	clc
	ret
bad:	stc
	ret

	.section .data, "aw"
tests:
	.word	t_vectors, n_vectors, t_serial, n_serial, t_segments, n_segments, t_wrap, n_wrap, t_limit, n_limit
	.word	t_int, n_int, t_exceptions, n_exceptions, t_strings, n_strings, t_wide, n_wide, t_calls, n_calls
	.word	t_decimal, n_decimal, t_flags, n_flags, t_unreal, n_unreal, t_smsw, n_smsw
	.word	t_self_modifying, n_self_modifying, t_pit, n_pit, 0
n_vectors: .asciz "vectors"
n_serial: .asciz "serial"
n_segments: .asciz "segments"
n_wrap:	.asciz "wrap"
n_limit: .asciz "limit"
n_int:	.asciz "int"
n_exceptions: .asciz "exceptions"
n_strings: .asciz "strings"
n_wide:	.asciz "wide"
n_calls: .asciz "calls"
n_decimal: .asciz "decimal"
n_flags: .asciz "flags"
n_unreal: .asciz "unreal"
n_smsw:	.asciz "smsw"
n_self_modifying: .asciz "self-modifying"
n_pit:	.asciz "pit"
text_ok: .asciz ": ok\n"
text_fail: .asciz ": FAIL\n"
text_tcg: .asciz "(not checked, TCG) "
text_done: .asciz "done\n"
	.balign	4
table:	.long	0x11111111, 0x22222222, 0x33333333, 0x44444444
bounds:	.word	2, 8
far_pointer: .word far_routine, 0
xlat_table: .byte 0x97, 0x98, 0x99
	.balign	8
gdt:	.quad	0, 0x008f92000000ffff
gdt_pointer:
	.word	15
	.long	gdt
failures: .word 0
test_sp: .word 0
hits:	.word 0
resume:	.word 0
fault_ip: .word 0
ticks:	.word 0

	.section .note.GNU-stack, "", @progbits
