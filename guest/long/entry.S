/* SPDX-License-Identifier: MIT */
/*
 * From flat 32-bit mode to long mode, the application processors' way there from real mode, exception entry, SYSCALL, ring 3 and
 * compatibility mode, for long.c and smp.c.
 */
#define MSR_EFER 0xc0000080

/* ---- the boot processor ---- */
	.code32
	.text
	.globl	entry32
entry32:
	call	build_tables
	call	enter_long
	ljmpl	$0x08, $1f
	.code64
1:	movq	$boot_stack_top, %rsp
	call	long_main
2:	cli
	hlt
	jmp	2b

/* identity: the first GiB and the last one below 4 GiB (local APIC, I/O APIC), supervisor, 2 MiB pages */
	.code32
build_tables:
	movl	$pml4, %edi
	movl	$pdpt, %eax
	orl	$7, %eax
	movl	%eax, (%edi)
	movl	$window_pdpt, %eax
	orl	$7, %eax
	movl	%eax, 8(%edi)
	movl	$pdpt, %edi
	movl	$pd_low, %eax
	orl	$3, %eax
	movl	%eax, (%edi)
	movl	$pd_high, %eax
	orl	$3, %eax
	movl	%eax, 24(%edi)
	movl	$window_pdpt, %edi
	movl	$window_pd, %eax
	orl	$7, %eax
	movl	%eax, (%edi)
	movl	$window_pd, %edi
	movl	$window_pt, %eax
	orl	$7, %eax
	movl	%eax, (%edi)
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$21, %eax
	movl	%eax, %edx
	orl	$0x83, %eax
	movl	%eax, pd_low(,%ecx,8)
	orl	$0xc0000093, %edx	/* PCD */
	movl	%edx, pd_high(,%ecx,8)
	incl	%ecx
	cmpl	$512, %ecx
	jb	1b
	ret

/* Paging, LME, and the 64-bit GDT; the caller jumps. */
enter_long:
	movl	%cr4, %eax
	orl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl	%cr0, %eax
	andl	$~0x6000000c, %eax	/* no EM, TS, CD, NW */
	orl	$0x80010023, %eax	/* PG, WP, NE, MP, PE */
	movl	%eax, %cr0
	lgdt	gdt_pointer
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	ret

/* ---- the others: copied to 0x8000, where SIPI starts them in real mode ---- */
	.code16
	.globl	trampoline, trampoline_end
trampoline:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	0x8000 + (trampoline_gdt_pointer - trampoline)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $0x8000 + (trampoline32 - trampoline)
	.code32
trampoline32:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$ap32, %eax
	jmp	*%eax
	.balign	8
trampoline_gdt:
	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
trampoline_gdt_pointer:
	.word	23
	.long	0x8000 + (trampoline_gdt - trampoline)
trampoline_end:

ap32:
	/* a stack each, by order of arrival */
	movl	$1, %esi
	lock xaddl %esi, ap_arrivals
	incl	%esi
	movl	%esi, %eax
	shll	$14, %eax
	leal	ap_stacks(%eax), %esp
	pushl	%esi
	call	enter_long
	popl	%esi
	ljmpl	$0x08, $1f
	.code64
1:	movl	%esi, %edi
	shll	$14, %esi
	leaq	ap_stacks(%rsi), %rsp
	call	ap_main
2:	cli
	hlt
	jmp	2b

/* ---- exceptions ---- */
	.balign	16
	.globl	trap_stubs
trap_stubs:
	vector = 0
	.rept	256
	.balign	16
	.if	!(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	pushq	$0
	.endif
	pushq	$vector
	jmp	trap_common
	vector = vector + 1
	.endr

trap_common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rbx
	pushq	%rbp
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	cld
	movq	%rsp, %rdi
	movq	%rsp, %rbp
	andq	$-16, %rsp
	call	handle_trap
	movq	%rbp, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

/* ---- ring 3 ---- */

/* run_user(rip, rsp, rflags) until leave_user */
	.globl	run_user
run_user:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, user_exit_stack(%rip)
	leaq	-256(%rsp), %rax
	movq	%rax, tss_rsp0(%rip)
	pushq	$0x23
	pushq	%rsi
	pushq	%rdx
	pushq	$0x2b
	pushq	%rdi
	movq	$0x0123456789abcdef, %r15	/* user code finds it there */
	iretq

	.globl	leave_user
leave_user:
	movq	user_exit_stack(%rip), %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/* RAX 0: leave; else what the CPU did to the registers is noted, and SYSRET. */
	.globl	syscall_entry
syscall_entry:
	movq	%rsp, user_rsp(%rip)
	movq	user_exit_stack(%rip), %rsp
	subq	$512, %rsp
	movq	%r15, syscall_r15(%rip)
	incq	syscalls(%rip)
	testq	%rax, %rax
	jz	leave_user
	pushfq
	popq	syscall_flags(%rip)
	movq	%rcx, syscall_rcx(%rip)
	movq	%r11, syscall_r11(%rip)
	movq	%cs, %rbx
	movq	%rbx, syscall_cs(%rip)
	movq	%ss, %rbx
	movq	%rbx, syscall_ss(%rip)
	movq	user_rsp(%rip), %rsp
	sysretq

/* User code, copied to a user page: position-independent, a table of entries. */
	.balign	64
	.globl	user_code, user_code_end
user_code:
user_exit:
	xorl	%eax, %eax
	syscall
	.balign	64
user_two_calls:				/* 1: SYSCALL, SYSRET, and what they leave */
	std
	movl	$1, %eax
	syscall
after_call:
	cld
	movq	%cs, %r15
	movq	%ss, %rax
	shlq	$16, %rax
	orq	%rax, %r15
	xorl	%eax, %eax
	syscall
	.balign	64
	cli				/* 2 */
	jmp	user_exit
	.balign	64
	movq	0x100000, %rax		/* 3: the kernel's memory */
	jmp	user_exit
	.balign	64
	movq	%rax, 0x100000		/* 4 */
	jmp	user_exit
	.balign	64
	pushq	$0x00c3c3c3		/* 5: the stack page is not executable */
	jmp	*%rsp
	.balign	64
	rdmsr				/* 6 */
	jmp	user_exit
	.balign	64
	movq	%fs:8, %r15		/* 7 */
	addq	%gs:8, %r15
	xorl	%eax, %eax
	syscall
	.balign	64
	int	$0x21			/* 8 */
	jmp	user_exit
	.balign	64
	movq	$0x800000000000, %rax	/* 9: not canonical */
	movq	(%rax), %rax
	jmp	user_exit
user_code_end:
	.globl	user_after_call
	.set	user_after_call, after_call - user_code

/* ---- compatibility mode ---- */

/* u32 run_compat(u32 x): (x + 2) by code that only 32-bit mode reads so: 0x40 is INC there, a prefix in 64-bit mode */
	.globl	run_compat
run_compat:
	movl	$0x10, %eax	/* an exception from ring 3 left a null SS, which only 64-bit mode can use */
	movl	%eax, %ss
	movl	%edi, %eax
	pushq	%rbx
	movq	%rsp, %rbx
	pushq	$0x40
	leaq	compat_code(%rip), %rcx
	pushq	%rcx
	lretq
	.code32
compat_code:
	.byte	0x40, 0x40		/* inc eax; inc eax */
	pushl	%eax
	popl	%ecx
	ljmpl	$0x08, $compat_done
	.code64
compat_done:
	movq	%rbx, %rsp
	movl	%ecx, %eax
	popq	%rbx
	ret

	.data
	.balign	16
	.globl	gdt
gdt:
	.quad	0
	.quad	0x00af9a000000ffff	/* 08 code64 */
	.quad	0x00cf92000000ffff	/* 10 data */
	.quad	0x00cffa000000ffff	/* 18 user code32 */
	.quad	0x00cff2000000ffff	/* 20 user data */
	.quad	0x00affa000000ffff	/* 28 user code64 */
	.quad	0, 0			/* 30 TSS */
	.quad	0x00cf9a000000ffff	/* 40 code32 */
gdt_end:
	.globl	gdt_pointer
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.bss
	.balign	4096
	.globl	pml4, pdpt, window_pdpt, window_pd, window_pt, ap_arrivals
pml4:	.skip	4096
pdpt:	.skip	4096
pd_low:	.skip	4096
pd_high: .skip	4096
window_pdpt: .skip 4096
window_pd: .skip 4096
window_pt: .skip 4096
ap_stacks: .skip 16384 * 17
ap_arrivals: .long 0
	.balign	8
	.globl	user_exit_stack, syscall_rcx, syscall_r11, syscall_flags, syscall_cs, syscall_ss, syscall_r15, syscalls
user_exit_stack: .quad 0
user_rsp: .quad 0
syscall_rcx: .quad 0
syscall_r11: .quad 0
syscall_flags: .quad 0
syscall_cs: .quad 0
syscall_ss: .quad 0
syscall_r15: .quad 0
syscalls: .quad 0

	.section .note.GNU-stack, "", @progbits
