// SPDX-License-Identifier: MIT
/*
 * The system side of the x86 engine, modes and transfers: segments, event delivery, far transfers,
 * IRET, SYSCALL, virtual-8086 mode, by running guest code. Expectations are the manuals', not the
 * engine's.
 */
#include "sys_fixture.h"

/* ---- real mode ---- */

GUEST(real_int, 16,
      "mov $0x1234, %ax; stc; sti; int $0x40; hlt\n"
      ".org real_int + 0x100\n"
      "pushf; pop %bx; mov %sp, %bp; mov (%bp), %cx; mov 2(%bp), %dx; mov 4(%bp), %si; iret");

static void test_real_int(void **state)
{
	struct fx *f = *state;

	fx_real(f);
	fx_set(f, 0x40 * 4, (AT_CODE >> 4) << 16 | 0x100, 4);
	EXPECT_HLT(f, real_int);
	assert_int_equal(reg(f, X86_RCX) & 0xffff, 7);		  /* IP after INT */
	assert_int_equal(reg(f, X86_RDX) & 0xffff, AT_CODE >> 4); /* CS */
	assert_int_equal(reg(f, X86_RSI) & 0xffff, 0x203);	  /* IF and CF as they were */
	assert_int_equal(reg(f, X86_RBX) & 0x200, 0);		  /* IF off inside */
	assert_int_equal(x86_rflags(f->c), 0x203);
	assert_int_equal(reg(f, X86_RSP) & 0xffff, 0xfff0);
	assert_int_equal(f->c->rip, 8);
}

GUEST(real_far, 16,
      "lcall $0x3000, $0x10; mov %ax, %bx; ljmp $0x2000, $2f - real_far\n"
      "hlt\n2: mov %cs, %cx; push %ds; pop %es; hlt");
GUEST(real_far_target, 16, "mov %cs, %ax; lret");

static void test_real_far(void **state)
{
	struct fx *f = *state;

	fx_real(f);
	fx_put(f, 0x30010, real_far_target, (u64)(real_far_target_end - real_far_target));
	EXPECT_HLT(f, real_far);
	assert_int_equal(reg(f, X86_RBX) & 0xffff, 0x3000);
	assert_int_equal(reg(f, X86_RCX) & 0xffff, 0x2000);
	assert_int_equal(f->c->seg[X86_CS].base, 0x20000);
}

/* Unreal mode: a limit loaded in protected mode stays. */
GUEST(unreal, 16,
      "mov %ds, %cx; lgdtl %cs:(1f - unreal); mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov "
      "$0x10, %bx; mov %bx, %ds\n"
      "and $0xfe, %al; mov %eax, %cr0; mov %cx, %ds; mov $0x60000, %edi; movl $0x12345678, "
      "%ds:(%edi); hlt\n"
      "1: .word 0xbf; .long 0x1000");

static void test_unreal(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, false); /* only for its tables */
	fx_real(f);
	EXPECT_HLT(f, unreal);
	assert_int_equal(fx_get(f, AT_DATA, 4), 0x12345678);
	assert_int_equal(f->c->seg[X86_DS].limit, 0xffffffff);
	assert_int_equal(f->c->seg[X86_DS].base, 0);
}

GUEST(real_limit, 16, "mov $0xffff, %bx; mov (%bx), %ax; hlt");
GUEST(real_handler, 16, "mov $0x77, %cl; hlt");

/* A word at offset ffff is #GP without an error code; beyond the vector table is a triple fault. */
static void test_real_limit(void **state)
{
	struct fx *f = *state;

	fx_real(f);
	fx_set(f, 13 * 4, 0x3000u << 16, 4);
	fx_put(f, 0x30000, real_handler, (u64)(real_handler_end - real_handler));
	EXPECT_HLT(f, real_limit);
	assert_int_equal(reg(f, X86_RCX) & 0xff, 0x77);
	assert_int_equal(reg(f, X86_RSP) & 0xffff, 0xfff0 - 6);
	fx_real(f);
	f->c->idt.limit = 8;
	assert_int_equal(FX_RUN(f, real_limit), X86_EXIT_SHUTDOWN);
}

/* ---- from reset to long mode, as a boot loader does it ---- */

GUEST(boot, 16,
      "lgdtl %cs:(gdtr - boot); mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x08, $(0x20000 "
      "+ 1f - boot)\n"
      ".code32\n1: mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss; mov %eax, %es; mov $0x40000, "
      "%esp\n"
      "mov $0x38, %eax; ltr %ax\n"
      "mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4; mov $0x10000, %eax; mov %eax, %cr3\n"
      "mov $0xc0000080, %ecx; rdmsr; or $0x901, %eax; wrmsr\n"
      "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0; rdmsr; mov %eax, %esi\n"
      "ljmpl $0x18, $(0x20000 + 2f - boot)\n"
      ".code64\n2: mov $0x123456789abcdef0, %rax; push %rax; pop %rbx; mov %cs, %edx; lea "
      "3f(%rip), %rdi; hlt\n3:\n"
      "gdtr: .word 0xbf; .long 0x1000\n");

static void test_boot(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0); /* only for its tables */
	fx_real(f);
	EXPECT_HLT(f, boot);
	assert_int_equal(reg(f, X86_RBX), 0x123456789abcdef0);
	assert_int_equal(reg(f, X86_RDX), SEL_CODE64);
	assert_int_equal(reg(f, X86_RSI), 0xd01);
	assert_int_equal(reg(f, X86_RDI), f->c->rip);
	assert_int_equal(f->c->code_size, 8);
	assert_int_equal(f->c->efer, 0xd01);
	/* LTR marked the TSS busy, loads marked segments accessed. */
	assert_int_equal(fx_get(f, AT_GDT + SEL_TSS + 5, 1) & 0xf, 0xb);
	assert_int_equal(fx_get(f, AT_GDT + SEL_DATA32 + 5, 1) & 1, 1);
	assert_int_equal(fx_get(f, AT_GDT + SEL_CODE64 + 5, 1) & 1, 1);
}

/* ---- exceptions in long mode ---- */

GUEST(touch_absent, 64, "mov $0x90008, %ebx; stc; movl $1, (%rbx); hlt");
GUEST(touch_kernel, 64, "mov $0x80000, %ebx; mov (%rbx), %eax; hlt");

static void test_page_fault(void **state)
{
	struct fx *f = *state;

	fx_long(f, 3);
	EXPECT_VECTOR(f, touch_absent, X86_PF);
	assert_int_equal(f->c->cr2, 0x90008);
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(reg(f, X86_RSP), AT_STACK0 - 48);
	assert_int_equal(frame(f, 0), 6); /* write, user, not present */
	assert_int_equal(frame(f, 1), AT_CODE + 6);
	assert_int_equal(frame(f, 2), SEL_UCODE64);
	assert_int_equal(frame(f, 3), 0x10003); /* RF, CF */
	assert_int_equal(frame(f, 4), AT_STACK);
	assert_int_equal(frame(f, 5), SEL_UDATA);
	/* SS is null with the new level as RPL. */
	assert_int_equal(f->c->seg[X86_SS].sel, 0);
	assert_true(f->c->seg[X86_SS].attr & X86_SEG_UNUSABLE);
	fx_long(f, 3);
	EXPECT_VECTOR(f, touch_kernel, X86_PF);
	assert_int_equal(frame(f, 0), 5);
}

/* Same level: the stack is aligned down, SS and RSP are pushed anyway; IST switches even so. */
GUEST(misaligned_ud, 64, "sub $5, %rsp; ud2");

static void test_long_same_level(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_VECTOR(f, misaligned_ud, X86_UD);
	assert_int_equal(reg(f, X86_RSP), ((AT_STACK - 5) & ~15u) - 40);
	assert_int_equal(frame(f, 3), AT_STACK - 5);
	assert_int_equal(f->c->seg[X86_SS].sel, SEL_DATA32);
	fx_long(f, 0);
	fx_gate(f, X86_UD, 0, 1);
	EXPECT_VECTOR(f, misaligned_ud, X86_UD);
	assert_int_equal(reg(f, X86_RSP), AT_IST - 40);
}

static void gate_absent(struct fx *f, u8 vector)
{
	fx_set(f, AT_IDT + vector * (f->c->efer & X86_EFER_LMA ? 16u : 8u) + 5, 0x0e, 1);
}

static void test_fault_in_delivery(void **state)
{
	struct fx *f = *state;

	/* #UD is benign: #NP about its gate follows, with EXT */
	fx_long(f, 3);
	gate_absent(f, X86_UD);
	EXPECT_VECTOR(f, misaligned_ud, X86_NP);
	assert_int_equal(frame(f, 0), X86_UD * 8 + 3);
	/* #PF then #NP: double fault with error 0 */
	fx_long(f, 3);
	gate_absent(f, X86_PF);
	EXPECT_VECTOR(f, touch_absent, X86_DF);
	assert_int_equal(frame(f, 0), 0);
	assert_int_equal(f->c->cr2, 0x90008);
	/* and then #NP again: shutdown */
	fx_long(f, 3);
	gate_absent(f, X86_PF);
	gate_absent(f, X86_DF);
	assert_int_equal(FX_RUN(f, touch_absent), X86_EXIT_SHUTDOWN);
	/* A stack that is not there: #PF in the delivery of #PF */
	fx_long(f, 3);
	fx_set(f, AT_TSS + 4, AT_ABSENT + 0x800, 8);
	fx_gate(f, X86_DF, 0, 1);
	EXPECT_VECTOR(f, touch_absent, X86_DF);
	assert_int_equal(f->c->cr2 & ~0xfffull, AT_ABSENT);
	/* A stack that is not canonical: #SS, so #DF from #PF, plain #SS(0) with EXT from #UD */
	fx_long(f, 3);
	fx_set(f, AT_TSS + 4, 0x800000000000, 8);
	fx_gate(f, X86_SS_FAULT, 0, 1);
	EXPECT_VECTOR(f, misaligned_ud, X86_SS_FAULT);
	assert_int_equal(frame(f, 0), 1);
}

static void test_fault_merge(void **state)
{
	static const struct {
		u8 first, type, second, result; /* 0xff: shutdown */
	} cases[] = {
		{X86_PF, X86_EV_HWEXC, X86_PF, X86_DF},	  {X86_PF, X86_EV_HWEXC, X86_GP, X86_DF},
		{X86_GP, X86_EV_HWEXC, X86_PF, X86_PF},	  {X86_GP, X86_EV_HWEXC, X86_NP, X86_DF},
		{X86_DE, X86_EV_HWEXC, X86_TS, X86_DF},	  {X86_UD, X86_EV_HWEXC, X86_GP, X86_GP},
		{X86_DF, X86_EV_HWEXC, X86_PF, 0xff},	  {X86_DF, X86_EV_HWEXC, X86_GP, 0xff},
		{0x20, X86_EV_EXTINT, X86_GP, X86_GP},	  {X86_NMI, X86_EV_NMI, X86_PF, X86_PF},
		{X86_GP, X86_EV_SOFTINT, X86_GP, X86_GP}, {X86_DB, X86_EV_HWEXC, X86_PF, X86_PF},
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		f->c->fault.delivering = cases[n].first + 1;
		f->c->fault.delivering_type = cases[n].type;
		f->c->fault.vector = cases[n].second;
		f->c->fault.error = 0x10;
		if (cases[n].result == 0xff) {
			assert_false(x86_fault_merge(f->c));
			continue;
		}
		assert_true(x86_fault_merge(f->c));
		assert_int_equal(f->c->fault.vector, cases[n].result);
		assert_int_equal(f->c->fault.delivering, 0);
		if (cases[n].result == X86_GP)
			assert_int_equal(f->c->fault.error,
					 cases[n].type == X86_EV_SOFTINT ? 0x10 : 0x11);
	}
}

GUEST(int_80, 64, "int $0x80; hlt");
GUEST(int_3, 64, "int3; hlt");
GUEST(icebp, 64, ".byte 0xf1; hlt");

static void test_software_interrupts(void **state)
{
	struct fx *f = *state;

	fx_long(f, 3);
	EXPECT_VECTOR(f, int_80, X86_GP); /* the gate has DPL 0 */
	assert_int_equal(frame(f, 0), 0x80 * 8 + 2);
	assert_int_equal(frame(f, 1), AT_CODE);
	fx_long(f, 3);
	fx_gate(f, 0x80, 3, 0);
	EXPECT_VECTOR(f, int_80, 0x80);
	assert_int_equal(frame(f, 0), AT_CODE + 2);
	assert_int_equal(frame(f, 2), 2); /* no RF */
	fx_long(f, 3);
	EXPECT_VECTOR(f, int_3, X86_GP);
	fx_long(f, 3);
	fx_gate(f, X86_BP, 3, 0);
	EXPECT_VECTOR(f, int_3, X86_BP);
	assert_int_equal(frame(f, 0), AT_CODE + 1);
	fx_long(f, 3);
	EXPECT_VECTOR(f, icebp, X86_DB); /* whatever the DPL */
	assert_int_equal(frame(f, 0), AT_CODE + 1);
	/* With software breakpoints by the VMM nothing is delivered. */
	fx_long(f, 3);
	f->c->guest_debug = BIT(0) | BIT(16);
	assert_int_equal(FX_RUN(f, int_3), X86_EXIT_DEBUG);
	assert_int_equal(f->c->exit.debug.vector, X86_BP);
	assert_int_equal(f->c->exit.debug.pc, AT_CODE);
	assert_int_equal(f->c->rip, AT_CODE);
	f->c->guest_debug = 0;
}

/* ---- IRET and SYSCALL in long mode ---- */

GUEST(iretq_user, 64,
      "push $0x2b; push $0x3f000; push $0x3202; push $0x33; lea 1f(%rip), %rax; push %rax; iretq\n"
      "1: mov %cs, %ecx; mov %rsp, %rdx; pushf; pop %rsi; int $0x80");

static void test_iretq(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	fx_gate(f, 0x80, 3, 0);
	f->c->nmi_masked = true;
	EXPECT_VECTOR(f, iretq_user, 0x80);
	assert_int_equal(reg(f, X86_RCX), SEL_UCODE64);
	assert_int_equal(reg(f, X86_RDX), 0x3f000);
	assert_int_equal(reg(f, X86_RSI), 0x3202);
	assert_false(f->c->nmi_masked);
	assert_int_equal(frame(f, 1), SEL_UCODE64);
	assert_int_equal(frame(f, 4), SEL_UDATA);
}

/* To 32-bit code of the user and back in by a 64-bit gate. */
GUEST(iretq_compat, 64,
      "push $0x2b; push $0x3f000; push $0x202; push $0x23; lea 1f(%rip), %rax; push %rax; iretq\n"
      ".code32\n1: mov %cs, %ecx; push $0x11223344; pop %edx; dec %eax; int $0x80");

static void test_iretq_compat(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	fx_gate(f, 0x80, 3, 0);
	EXPECT_VECTOR(f, iretq_compat, 0x80);
	assert_int_equal(reg(f, X86_RCX), SEL_UCODE32);
	assert_int_equal(reg(f, X86_RDX), 0x11223344);
	assert_int_equal(frame(f, 1), SEL_UCODE32);
	assert_int_equal(f->c->code_size, 8);
}

/* Each pushes SS, RSP, RFLAGS, CS, RIP from registers r8-r12. */
GUEST(iretq_regs, 64, "push %r8; push %r9; push %r10; push %r11; push %r12; iretq");

static void test_iretq_faults(void **state)
{
	static const struct {
		u64 ss, rsp, flags, cs, rip;
		u32 vector, error;
	} cases[] = {
		{SEL_UDATA, 0x3f000, 2, 0, AT_CODE, X86_GP, 0},
		{SEL_UDATA, 0x3f000, 2, 0x1000, AT_CODE, X86_GP, 0x1000},
		{SEL_UDATA, 0x3f000, 2, SEL_DATA32, AT_CODE, X86_GP, SEL_DATA32},
		{SEL_UDATA, 0x3f000, 2, SEL_CODE64 | 3, AT_CODE, X86_GP, SEL_CODE64},
		{SEL_UDATA, 0x3f000, 2, SEL_UCODE64, 0x800000000000, X86_GP, 0},
		{SEL_DATA32, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, SEL_DATA32},
		{SEL_ABSENT | 3, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_SS_FAULT, SEL_ABSENT},
		{SEL_RODATA | 3, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, SEL_RODATA},
		{0, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, 0},
		{SEL_UDATA, 0x3f000, X86_FLAG_NT, SEL_UCODE64, AT_CODE, 256, 0},
		{0, 0x3f000, 2, SEL_CODE64, AT_CODE, 256, 0}, /* null SS at CPL 0 is fine */
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_long(f, 0);
		/* Where a return succeeds it must land on something that halts: #UD at CPL 3 would
		 * do as well. */
		fx_set(f, 0x21000, 0xcccc, 2);
		f->c->gpr[X86_R8] = cases[n].ss;
		f->c->gpr[X86_R9] = cases[n].rsp;
		f->c->gpr[X86_R10] = cases[n].flags;
		f->c->gpr[X86_R11] = cases[n].cs;
		f->c->gpr[X86_R12] = cases[n].vector == 256 ? 0x21000 : cases[n].rip;
		fx_gate(f, X86_BP, 3, 0);
		EXPECT_HLT(f, iretq_regs);
		assert_int_equal(fx_vector(f), cases[n].vector == 256 ? X86_BP : cases[n].vector);
		if (cases[n].vector != 256) {
			assert_int_equal(frame(f, 0), cases[n].error);
			assert_int_equal(frame(f, 4), AT_STACK - 40); /* RSP as before IRET */
		}
	}
}

GUEST(syscall_trip, 64,
      "syscall; hlt\n"
      ".org syscall_trip + 0x80\n"
      "mov %rcx, %r8; mov %r11, %r9; mov %cs, %r12d; mov %ss, %r13d; pushf; pop %r10; lea "
      "1f(%rip), %rcx; mov $0x203, %r11d; sysretq\n"
      "1: mov %cs, %eax; mov %ss, %ebx; int $0x80");

static void syscall_msrs(struct fx *f)
{
	f->c->msr.star = (u64)SEL_CODE64 << 32 | (u64)(SEL_UDATA - 8) << 48;
	f->c->msr.lstar = AT_CODE + 0x80;
	f->c->msr.fmask = X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_TF;
}

static void test_syscall(void **state)
{
	struct fx *f = *state;

	fx_long(f, 3);
	syscall_msrs(f);
	fx_gate(f, 0x80, 3, 0);
	x86_set_rflags(f->c, X86_FLAG_IF | X86_FLAG_CF);
	f->c->msr.lstar = AT_CODE + 0x80;
	EXPECT_VECTOR(f, syscall_trip, 0x80);
	assert_int_equal(reg(f, X86_R8), AT_CODE + 2);
	assert_int_equal(reg(f, X86_R9), 0x203);
	assert_int_equal(reg(f, X86_R10) & 0x3ff, 3);
	assert_int_equal(reg(f, X86_R12), SEL_CODE64);
	assert_int_equal(reg(f, X86_R13), SEL_CODE64 + 8);
	assert_int_equal(reg(f, X86_RAX), (SEL_UDATA - 8 + 16) | 3);
	assert_int_equal(reg(f, X86_RBX), SEL_UDATA);
	assert_int_equal(frame(f, 2), 0x203);
}

/* TF that FMASK clears makes no trap on the kernel's first instruction. */
GUEST(syscall_tf, 64, "syscall; hlt\n.org syscall_tf + 0x80\nhlt");

static void test_syscall_tf(void **state)
{
	struct fx *f = *state;

	fx_long(f, 3);
	syscall_msrs(f);
	x86_set_rflags(f->c, X86_FLAG_TF);
	x86_state_changed(f->c, false);
	EXPECT_HLT(f, syscall_tf);
	assert_int_equal(f->c->rip, AT_CODE + 0x81);
}

GUEST(sysret_far, 64, "mov $0x8000000000, %rcx; shl $9, %rcx; sysretq; hlt");
GUEST(syscall_32, 32, "syscall; hlt");

static void test_syscall_vendor(void **state)
{
	struct fx *f = *state;
	bool amd = f->c->feat->amd;

	/* SYSRET to an address that is not canonical: Intel faults at CPL 0, AMD at CPL 3 */
	fx_long(f, 0);
	syscall_msrs(f);
	EXPECT_VECTOR(f, sysret_far, X86_GP);
	assert_int_equal(frame(f, 2), amd ? SEL_UDATA + 8 : SEL_CODE64);
	assert_int_equal(frame(f, 1), amd ? 0x1000000000000 : AT_CODE + 14);
	/* In compatibility mode SYSCALL is AMD's, through CSTAR */
	fx_long(f, 0);
	syscall_msrs(f);
	f->c->msr.cstar = AT_HANDLERS + 0x99 * HANDLER_SIZE;
	f->c->seg[X86_CS].attr = (f->c->seg[X86_CS].attr & ~X86_SEG_L) | X86_SEG_DB;
	x86_state_changed(f->c, false);
	EXPECT_VECTOR(f, syscall_32, amd ? 0x99 : X86_UD);
	fx_long(f, 0);
	f->c->efer &= ~(u64)X86_EFER_SCE;
	x86_state_changed(f->c, false);
	EXPECT_VECTOR(f, syscall_trip, X86_UD);
}

GUEST(sysenter_trip, 32,
      "sysenter; hlt\n.org sysenter_trip + 0x80\n"
      "mov %cs, %eax; mov %ss, %ebx; mov %esp, %esi; mov $0x200a0, %edx; mov $0x3e000, %ecx; "
      "sysexit\n"
      ".org sysenter_trip + 0xa0\nmov %cs, %edi; mov %esp, %ebp; int $0x80");

static void test_sysenter(void **state)
{
	struct fx *f = *state;

	/* Ring 0 code and data, ring 3 code and data, in a row: 08 10 (1b 23 are not there, but
	 * SYSEXIT does not look) */
	fx_prot32(f, 3, true);
	fx_gate(f, 0x80, 3, 0);
	f->c->msr.sysenter_cs = SEL_CODE32;
	f->c->msr.sysenter_esp = 0x3d000;
	f->c->msr.sysenter_eip = AT_CODE + 0x80;
	EXPECT_VECTOR(f, sysenter_trip, 0x80);
	assert_int_equal(reg(f, X86_RAX), SEL_CODE32);
	assert_int_equal(reg(f, X86_RBX), SEL_DATA32);
	assert_int_equal(reg(f, X86_RSI), 0x3d000);
	assert_int_equal(reg(f, X86_RDI), (SEL_CODE32 + 16) | 3);
	assert_int_equal(reg(f, X86_RBP), 0x3e000);
	fx_prot32(f, 3, true);
	f->c->msr.sysenter_cs = 0;
	EXPECT_VECTOR(f, sysenter_trip, X86_GP);
}

/* ---- 32-bit protected mode ---- */

GUEST(ud_32, 32, "ud2");

static void test_prot32_delivery(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 3, true);
	EXPECT_VECTOR(f, ud_32, X86_UD);
	assert_int_equal(reg(f, X86_RSP), AT_STACK0 - 20);
	assert_int_equal(frame32(f, 0), AT_CODE);
	assert_int_equal(frame32(f, 1), SEL_UCODE32);
	assert_int_equal(frame32(f, 2), 0x10002);
	assert_int_equal(frame32(f, 3), AT_STACK);
	assert_int_equal(frame32(f, 4), SEL_UDATA);
	assert_int_equal(f->c->seg[X86_SS].sel, SEL_DATA32);
	fx_prot32(f, 0, true);
	EXPECT_VECTOR(f, ud_32, X86_UD);
	assert_int_equal(reg(f, X86_RSP), AT_STACK - 12);
	/* The TSS names an SS that is no stack: #TS with its selector and EXT */
	fx_prot32(f, 3, true);
	fx_set(f, AT_TSS + 8, SEL_UDATA, 2);
	gate_absent(f, X86_DF);
	assert_int_equal(FX_RUN(f, ud_32), X86_EXIT_SHUTDOWN); /* #TS needs that stack too */
}

/* A call gate to ring 0 with two parameters, and RETF 8 back; DS of ring 0 does not come along. */
GUEST(gate_call, 32,
      "push $0x22222222; push $0x11111111; lcall $0x6b, $0; mov %ds, %esi; mov %es, %edi; mov "
      "%esp, %ebp; int $0x80\n"
      ".org gate_call + 0x80\n"
      "mov %cs, %eax; mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov 16(%esp), %edx; push $0x10; pop "
      "%ds; lret $8");

static void put_gate(struct fx *f, u16 sel, u32 off, u8 access, u8 params)
{
	fx_set(f, AT_GDT + (SEL_GATE & ~7u),
	       (off & 0xffff) | (u64)sel << 16 | (u64)params << 32 | (u64)access << 40 |
		       (u64)(off >> 16) << 48,
	       8);
}

static void test_call_gate(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 3, true);
	fx_gate(f, 0x80, 3, 0);
	put_gate(f, SEL_CODE32, AT_CODE + 0x80, 0xec, 2);
	EXPECT_VECTOR(f, gate_call, 0x80);
	assert_int_equal(reg(f, X86_RAX), SEL_CODE32);
	assert_int_equal(reg(f, X86_RBX), 0x11111111);
	assert_int_equal(reg(f, X86_RCX), 0x22222222);
	assert_int_equal(reg(f, X86_RDX), AT_STACK - 8);
	assert_int_equal(reg(f, X86_RSI), 0);
	assert_int_equal(reg(f, X86_RDI), SEL_UDATA);
	assert_int_equal(reg(f, X86_RBP), AT_STACK);
	/* A gate of DPL 0 is not for the user, an absent one not for anybody, and none leads
	 * outwards */
	fx_prot32(f, 3, true);
	put_gate(f, SEL_CODE32, AT_CODE + 0x80, 0x8c, 2);
	EXPECT_VECTOR(f, gate_call, X86_GP);
	assert_int_equal(frame32(f, 0), SEL_GATE & ~3u);
	fx_prot32(f, 3, true);
	put_gate(f, SEL_CODE32, AT_CODE + 0x80, 0x6c, 2);
	EXPECT_VECTOR(f, gate_call, X86_NP);
	fx_prot32(f, 0, true);
	put_gate(f, SEL_UCODE32, AT_CODE + 0x80, 0xec, 2);
	EXPECT_VECTOR(f, gate_call, X86_GP);
	assert_int_equal(frame32(f, 0), SEL_UCODE32 & ~3u);
}

/* A 16-bit gate and a 16-bit TSS: frames of words, SS:SP from the old layout. */
static void test_16_bit_gate(void **state)
{
	struct fx *f = *state;
	u64 at = AT_HANDLERS + X86_UD * HANDLER_SIZE;

	fx_prot32(f, 3, true);
	fx_set(f, AT_IDT + X86_UD * 8, at | (u64)SEL_CODE32 << 16 | 0x86ull << 40, 8);
	f->c->seg[X86_TR].attr = X86_SEG_P | 3;
	fx_set(f, AT_TSS + 2, 0x8000, 2);
	fx_set(f, AT_TSS + 4, SEL_DATA16, 2);
	EXPECT_VECTOR(f, ud_32, X86_UD);
	assert_int_equal(f->c->seg[X86_SS].sel, SEL_DATA16);
	assert_int_equal(reg(f, X86_RSP), 0x8000 - 10);
	assert_int_equal(fx_get(f, 0x8000 - 10, 2), AT_CODE & 0xffff);
	assert_int_equal(fx_get(f, 0x8000 - 8, 2), SEL_UCODE32);
	assert_int_equal(fx_get(f, 0x8000 - 4, 2), AT_STACK & 0xffff);
	assert_int_equal(fx_get(f, 0x8000 - 2, 2), SEL_UDATA);
}

/* A 64-bit call gate to ring 0, and back by RETFQ to ring 3. */
GUEST(gate_call_64, 64,
      "movl $0, 0x60000; movw $0x6b, 0x60004; lcall *0x60000; mov %cs, %esi; mov %ss, %edi; int "
      "$0x80\n"
      ".org gate_call_64 + 0x80\n"
      "mov %cs, %eax; mov %ss, %ebx; mov (%rsp), %rcx; mov 16(%rsp), %rdx; mov 24(%rsp), %r8; "
      "lretq");

static void test_call_gate_64(void **state)
{
	struct fx *f = *state;

	fx_long(f, 3);
	fx_gate(f, 0x80, 3, 0);
	put_gate(f, SEL_CODE64, AT_CODE + 0x80, 0xec, 0);
	fx_set(f, AT_GDT + (SEL_GATE & ~7u) + 8, 0, 8);
	EXPECT_VECTOR(f, gate_call_64, 0x80);
	assert_int_equal(reg(f, X86_RAX), SEL_CODE64);
	assert_int_equal(reg(f, X86_RBX), 0);
	assert_int_equal(reg(f, X86_RDX), AT_STACK);
	assert_int_equal(reg(f, X86_R8), SEL_UDATA);
	assert_int_equal(reg(f, X86_RSI), SEL_UCODE64);
	assert_int_equal(reg(f, X86_RDI), SEL_UDATA);
	assert_int_equal(frame(f, 3), AT_STACK);
	/* To 32-bit code there is no gate in long mode. */
	fx_long(f, 3);
	put_gate(f, SEL_CODE32, AT_CODE + 0x80, 0xec, 0);
	fx_set(f, AT_GDT + (SEL_GATE & ~7u) + 8, 0, 8);
	EXPECT_VECTOR(f, gate_call_64, X86_GP);
	assert_int_equal(frame(f, 0), SEL_CODE32);
}

/* A data segment of the LDT with a base. */
GUEST(use_ldt, 32,
      "mov $0x48, %eax; lldt %ax; mov $0x0c, %eax; mov %eax, %es; mov %es:0x10, %ebx; lsl %eax, "
      "%ecx; "
      "mov %es:0xffe, %edx; hlt");

static void test_ldt(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, false);
	fx_set(f, AT_LDT + 8, 0xfff | (u64)AT_DATA << 16 | 0x92ull << 40 | (u64)BIT(22) << 32, 8);
	fx_set(f, AT_DATA + 0x10, 0x5a5a, 4);
	EXPECT_VECTOR(f, use_ldt, X86_GP); /* four bytes at ffe are one too many */
	assert_int_equal(reg(f, X86_RBX), 0x5a5a);
	assert_int_equal(reg(f, X86_RCX), 0xfff);
	assert_int_equal(fx_get(f, AT_LDT + 13, 1), 0x93);
}

GUEST(load_ds, 32, "mov %eax, %ds; mov %ds, %ebx; hlt");
GUEST(load_ss, 32, "mov %eax, %ss; hlt");
GUEST(far_jmp, 32,
      "mov %eax, 0x60004; movl $0x200a0, 0x60000; ljmpl *0x60000\n.org far_jmp + 0xa0\nhlt");

static void test_segment_loads(void **state)
{
	static const struct {
		u8 cpl;
		u16 sel;
		const u8 *start, *end;
		u32 vector, error; /* 256: none */
	} cases[] = {
		{0, SEL_UDATA, load_ds, load_ds_end, 256, 0},
		{0, 3, load_ds, load_ds_end, 256, 0},
		{0, SEL_XONLY, load_ds, load_ds_end, X86_GP, SEL_XONLY},
		{0, SEL_CODE32, load_ds, load_ds_end, 256, 0},
		{0, SEL_TSS, load_ds, load_ds_end, X86_GP, SEL_TSS},
		{0, SEL_ABSENT, load_ds, load_ds_end, X86_NP, SEL_ABSENT},
		{0, GDT_SIZE, load_ds, load_ds_end, X86_GP, GDT_SIZE},
		{0, SEL_DATA32 | 4, load_ds, load_ds_end, X86_GP, SEL_DATA32 | 4}, /* no LDT */
		{0, SEL_DATA32 | 3, load_ds, load_ds_end, X86_GP, SEL_DATA32},	   /* RPL */
		{3, SEL_DATA32, load_ds, load_ds_end, X86_GP, SEL_DATA32},
		{3, SEL_CONFORMING, load_ds, load_ds_end, X86_GP + 1000, 0}, /* fine; HLT is #GP */
		{0, 0, load_ss, load_ss_end, X86_GP, 0},
		{0, SEL_UDATA, load_ss, load_ss_end, X86_GP, SEL_UDATA & ~3u},
		{0, SEL_RODATA, load_ss, load_ss_end, X86_GP, SEL_RODATA},
		{0, SEL_DATA16, load_ss, load_ss_end, 256, 0},
		{0, 0, far_jmp, far_jmp_end, X86_GP, 0},
		{0, SEL_CODE32, far_jmp, far_jmp_end, 256, 0},
		{0, SEL_CONFORMING, far_jmp, far_jmp_end, 256, 0},
		{0, SEL_UCODE32, far_jmp, far_jmp_end, X86_GP, SEL_UCODE32 & ~3u},
		{0, SEL_DATA32, far_jmp, far_jmp_end, X86_GP, SEL_DATA32},
		{0, SEL_CODE16, far_jmp, far_jmp_end, X86_GP, 0}, /* beyond its limit */
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_prot32(f, cases[n].cpl, false);
		f->c->seg[X86_LDTR].attr |= X86_SEG_UNUSABLE;
		f->c->gpr[X86_RAX] = cases[n].sel;
		assert_int_equal(fx_run_at(f, cases[n].start, cases[n].end), X86_EXIT_HLT);
		if (cases[n].vector == 256) {
			assert_int_equal(fx_vector(f), -1);
			continue;
		}
		assert_int_equal(fx_vector(f), cases[n].vector % 1000);
		assert_int_equal(frame32(f, 0), cases[n].error);
	}
}

GUEST(write_cs, 32, "movl $1, %cs:0x60000; hlt");
GUEST(write_ro, 32, "mov $0x98, %eax; mov %eax, %ds; mov 0x60000, %ebx; movl $1, 0x60000; hlt");
GUEST(use_null, 32, "xor %eax, %eax; mov %eax, %es; movl $1, %es:0x60000; hlt");
GUEST(use_down, 32,
      "mov $0xa8, %eax; mov %eax, %es; movl $1, %es:0x60000; movl $1, %es:0x5fffc; hlt");

static void test_segment_rights(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, false);
	EXPECT_VECTOR(f, write_cs, X86_GP);
	fx_prot32(f, 0, false);
	EXPECT_VECTOR(f, write_ro, X86_GP);
	assert_int_equal(frame32(f, 1), AT_CODE + 13);
	fx_prot32(f, 0, false);
	EXPECT_VECTOR(f, use_null, X86_GP);
	fx_prot32(f, 0, false);
	fx_set(f, AT_DATA, 0, 4);
	EXPECT_VECTOR(f, use_down, X86_GP); /* above the limit is inside, below is not */
	assert_int_equal(fx_get(f, AT_DATA, 4), 1);
}

/* ---- virtual-8086 mode ---- */

GUEST(v86, 32,
      "pushl $0; pushl $0; pushl $0x1111; pushl $0x2222; pushl $0x3000; pushl $0xf00; pushl %eax; "
      "pushl $0x2000; pushl $(1f - v86); iretl\n"
      ".code16\n1: mov %ds, %bx; mov %es, %cx; mov %ss, %dx; int $0x80");

static void test_v86(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, true);
	fx_gate(f, 0x80, 3, 0);
	f->c->gpr[X86_RAX] = X86_FLAG_VM | X86_FLAG_IOPL | X86_FLAG_IF | 2;
	EXPECT_VECTOR(f, v86, 0x80);
	assert_int_equal(reg(f, X86_RBX) & 0xffff, 0x1111);
	assert_int_equal(reg(f, X86_RCX) & 0xffff, 0x2222);
	assert_int_equal(reg(f, X86_RDX) & 0xffff, 0x3000);
	assert_int_equal(reg(f, X86_RSP), AT_STACK0 - 36);
	assert_int_equal(frame32(f, 1), 0x2000);
	assert_int_equal(frame32(f, 2), X86_FLAG_VM | X86_FLAG_IOPL | X86_FLAG_IF | 2);
	assert_int_equal(frame32(f, 3), 0xf00);
	assert_int_equal(frame32(f, 4), 0x3000);
	assert_int_equal(frame32(f, 5), 0x2222);
	assert_int_equal(frame32(f, 6), 0x1111);
	assert_true(f->c->seg[X86_DS].attr & X86_SEG_UNUSABLE);
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(f->c->code_size, 4);
	/* IOPL below 3: INT n is #GP(0) */
	fx_prot32(f, 0, true);
	fx_gate(f, 0x80, 3, 0);
	f->c->gpr[X86_RAX] = X86_FLAG_VM | X86_FLAG_IF | 2;
	EXPECT_VECTOR(f, v86, X86_GP);
	assert_int_equal(frame32(f, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_real_int),
		T(test_real_far),
		T(test_unreal),
		T(test_real_limit),
		T(test_boot),
		T_AMD(test_boot),
		T(test_page_fault),
		T(test_long_same_level),
		T(test_fault_in_delivery),
		T(test_fault_merge),
		T(test_software_interrupts),
		T(test_iretq),
		T(test_iretq_compat),
		T(test_iretq_faults),
		T(test_syscall),
		T_AMD(test_syscall),
		T(test_syscall_tf),
		T(test_syscall_vendor),
		T_AMD(test_syscall_vendor),
		T(test_sysenter),
		T(test_prot32_delivery),
		T(test_call_gate),
		T(test_16_bit_gate),
		T(test_call_gate_64),
		T(test_ldt),
		T(test_segment_loads),
		T(test_segment_rights),
		T(test_v86),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
