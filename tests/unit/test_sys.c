// SPDX-License-Identifier: MIT
/*
 * The system side of the x86 engine: segments, delivery, far transfers, system instructions, MSRs, SMM, CPUID, by running
 * guest code. Expectations are the manuals', not the engine's.
 */
#include "sys_fixture.h"

#include <errno.h>

static int setup_intel(void **state)
{
	*state = malloc(sizeof(struct fx));
	fx_create(*state, FX_INTEL);
	return 0;
}

static int setup_amd(void **state)
{
	*state = malloc(sizeof(struct fx));
	fx_create(*state, FX_AMD);
	return 0;
}

static int teardown(void **state)
{
	fx_destroy(*state);
	free(*state);
	return 0;
}

static u64 reg(struct fx *f, u32 n)
{
	return f->c->gpr[n];
}

/* The n-th 8-byte word of the frame at RSP. */
static u64 frame(struct fx *f, u32 n)
{
	return fx_get(f, f->c->gpr[X86_RSP] + n * 8, 8);
}

static u32 frame32(struct fx *f, u32 n)
{
	return (u32)fx_get(f, f->c->gpr[X86_RSP] + n * 4, 4);
}

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
      "mov %ds, %cx; lgdtl %cs:(1f - unreal); mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %bx; mov %bx, %ds\n"
      "and $0xfe, %al; mov %eax, %cr0; mov %cx, %ds; mov $0x60000, %edi; movl $0x12345678, %ds:(%edi); hlt\n"
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
      "lgdtl %cs:(gdtr - boot); mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x08, $(0x20000 + 1f - boot)\n"
      ".code32\n1: mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss; mov %eax, %es; mov $0x40000, %esp\n"
      "mov $0x38, %eax; ltr %ax\n"
      "mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4; mov $0x10000, %eax; mov %eax, %cr3\n"
      "mov $0xc0000080, %ecx; rdmsr; or $0x901, %eax; wrmsr\n"
      "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0; rdmsr; mov %eax, %esi\n"
      "ljmpl $0x18, $(0x20000 + 2f - boot)\n"
      ".code64\n2: mov $0x123456789abcdef0, %rax; push %rax; pop %rbx; mov %cs, %edx; lea 3f(%rip), %rdi; hlt\n3:\n"
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
		{ X86_PF, X86_EV_HWEXC, X86_PF, X86_DF }, { X86_PF, X86_EV_HWEXC, X86_GP, X86_DF },
		{ X86_GP, X86_EV_HWEXC, X86_PF, X86_PF }, { X86_GP, X86_EV_HWEXC, X86_NP, X86_DF },
		{ X86_DE, X86_EV_HWEXC, X86_TS, X86_DF }, { X86_UD, X86_EV_HWEXC, X86_GP, X86_GP },
		{ X86_DF, X86_EV_HWEXC, X86_PF, 0xff },	  { X86_DF, X86_EV_HWEXC, X86_GP, 0xff },
		{ 0x20, X86_EV_EXTINT, X86_GP, X86_GP },  { X86_NMI, X86_EV_NMI, X86_PF, X86_PF },
		{ X86_GP, X86_EV_SOFTINT, X86_GP, X86_GP }, { X86_DB, X86_EV_HWEXC, X86_PF, X86_PF },
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
			assert_int_equal(f->c->fault.error, cases[n].type == X86_EV_SOFTINT ? 0x10 : 0x11);
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
		{ SEL_UDATA, 0x3f000, 2, 0, AT_CODE, X86_GP, 0 },
		{ SEL_UDATA, 0x3f000, 2, 0x1000, AT_CODE, X86_GP, 0x1000 },
		{ SEL_UDATA, 0x3f000, 2, SEL_DATA32, AT_CODE, X86_GP, SEL_DATA32 },
		{ SEL_UDATA, 0x3f000, 2, SEL_CODE64 | 3, AT_CODE, X86_GP, SEL_CODE64 },
		{ SEL_UDATA, 0x3f000, 2, SEL_UCODE64, 0x800000000000, X86_GP, 0 },
		{ SEL_DATA32, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, SEL_DATA32 },
		{ SEL_ABSENT | 3, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_SS_FAULT, SEL_ABSENT },
		{ SEL_RODATA | 3, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, SEL_RODATA },
		{ 0, 0x3f000, 2, SEL_UCODE64, AT_CODE, X86_GP, 0 },
		{ SEL_UDATA, 0x3f000, X86_FLAG_NT, SEL_UCODE64, AT_CODE, 256, 0 },
		{ 0, 0x3f000, 2, SEL_CODE64, AT_CODE, 256, 0 }, /* null SS at CPL 0 is fine */
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_long(f, 0);
		/* Where a return succeeds it must land on something that halts: #UD at CPL 3 would do as well. */
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
      "mov %rcx, %r8; mov %r11, %r9; mov %cs, %r12d; mov %ss, %r13d; pushf; pop %r10; lea 1f(%rip), %rcx; mov $0x203, %r11d; sysretq\n"
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

GUEST(sysenter_trip, 32, "sysenter; hlt\n.org sysenter_trip + 0x80\n"
			 "mov %cs, %eax; mov %ss, %ebx; mov %esp, %esi; mov $0x200a0, %edx; mov $0x3e000, %ecx; sysexit\n"
			 ".org sysenter_trip + 0xa0\nmov %cs, %edi; mov %esp, %ebp; int $0x80");

static void test_sysenter(void **state)
{
	struct fx *f = *state;

	/* Ring 0 code and data, ring 3 code and data, in a row: 08 10 (1b 23 are not there, but SYSEXIT does not look) */
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
      "push $0x22222222; push $0x11111111; lcall $0x6b, $0; mov %ds, %esi; mov %es, %edi; mov %esp, %ebp; int $0x80\n"
      ".org gate_call + 0x80\n"
      "mov %cs, %eax; mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov 16(%esp), %edx; push $0x10; pop %ds; lret $8");

static void put_gate(struct fx *f, u16 sel, u32 off, u8 access, u8 params)
{
	fx_set(f, AT_GDT + (SEL_GATE & ~7u), (off & 0xffff) | (u64)sel << 16 | (u64)params << 32 | (u64)access << 40 | (u64)(off >> 16) << 48, 8);
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
	/* A gate of DPL 0 is not for the user, an absent one not for anybody, and none leads outwards */
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

GUEST(load_ds, 32, "mov %eax, %ds; mov %ds, %ebx; hlt");
GUEST(load_ss, 32, "mov %eax, %ss; hlt");
GUEST(far_jmp, 32, "mov %eax, 0x60004; movl $0x200a0, 0x60000; ljmpl *0x60000\n.org far_jmp + 0xa0\nhlt");

static void test_segment_loads(void **state)
{
	static const struct {
		u8 cpl;
		u16 sel;
		const u8 *start, *end;
		u32 vector, error; /* 256: none */
	} cases[] = {
		{ 0, SEL_UDATA, load_ds, load_ds_end, 256, 0 },
		{ 0, 3, load_ds, load_ds_end, 256, 0 },
		{ 0, SEL_XONLY, load_ds, load_ds_end, X86_GP, SEL_XONLY },
		{ 0, SEL_CODE32, load_ds, load_ds_end, 256, 0 },
		{ 0, SEL_TSS, load_ds, load_ds_end, X86_GP, SEL_TSS },
		{ 0, SEL_ABSENT, load_ds, load_ds_end, X86_NP, SEL_ABSENT },
		{ 0, GDT_SIZE, load_ds, load_ds_end, X86_GP, GDT_SIZE },
		{ 0, SEL_DATA32 | 4, load_ds, load_ds_end, X86_GP, SEL_DATA32 | 4 }, /* no LDT */
		{ 0, SEL_DATA32 | 3, load_ds, load_ds_end, X86_GP, SEL_DATA32 },	   /* RPL */
		{ 3, SEL_DATA32, load_ds, load_ds_end, X86_GP, SEL_DATA32 },
		{ 3, SEL_CONFORMING, load_ds, load_ds_end, X86_GP + 1000, 0 }, /* fine; HLT is #GP */
		{ 0, 0, load_ss, load_ss_end, X86_GP, 0 },
		{ 0, SEL_UDATA, load_ss, load_ss_end, X86_GP, SEL_UDATA & ~3u },
		{ 0, SEL_RODATA, load_ss, load_ss_end, X86_GP, SEL_RODATA },
		{ 0, SEL_DATA16, load_ss, load_ss_end, 256, 0 },
		{ 0, 0, far_jmp, far_jmp_end, X86_GP, 0 },
		{ 0, SEL_CODE32, far_jmp, far_jmp_end, 256, 0 },
		{ 0, SEL_CONFORMING, far_jmp, far_jmp_end, 256, 0 },
		{ 0, SEL_UCODE32, far_jmp, far_jmp_end, X86_GP, SEL_UCODE32 & ~3u },
		{ 0, SEL_DATA32, far_jmp, far_jmp_end, X86_GP, SEL_DATA32 },
		{ 0, SEL_CODE16, far_jmp, far_jmp_end, X86_GP, 0 }, /* beyond its limit */
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
GUEST(use_down, 32, "mov $0xa8, %eax; mov %eax, %es; movl $1, %es:0x60000; movl $1, %es:0x5fffc; hlt");

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
      "pushl $0; pushl $0; pushl $0x1111; pushl $0x2222; pushl $0x3000; pushl $0xf00; pushl %eax; pushl $0x2000; pushl $(1f - v86); iretl\n"
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

/* ---- control registers ---- */

GUEST(set_cr0, 64, "mov %rax, %cr0; hlt");
GUEST(set_cr3, 64, "mov %rax, %cr3; hlt");
GUEST(set_cr4, 64, "mov %rax, %cr4; hlt");
GUEST(set_xcr0, 64, "xor %ecx, %ecx; xor %edx, %edx; xsetbv; xgetbv; hlt");
GUEST(set_efer, 64, "mov $0xc0000080, %ecx; xor %edx, %edx; wrmsr; hlt");

#define CR0_NOW (X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_ET)

static void test_control_registers(void **state)
{
	static const struct {
		const u8 *start, *end;
		u64 v;
		bool fine;
	} cases[] = {
		{ set_cr0, set_cr0_end, CR0_NOW, true },
		{ set_cr0, set_cr0_end, CR0_NOW | X86_CR0_TS | BIT(20), true },
		{ set_cr0, set_cr0_end, CR0_NOW | BIT64(32), false },
		{ set_cr0, set_cr0_end, CR0_NOW | X86_CR0_NW, false },
		{ set_cr0, set_cr0_end, CR0_NOW & ~(u64)X86_CR0_PE, false },
		{ set_cr0, set_cr0_end, CR0_NOW & ~(u64)X86_CR0_PG, false }, /* not from 64-bit code */
		{ set_cr3, set_cr3_end, AT_PML4, true },
		{ set_cr3, set_cr3_end, AT_PML4 | BIT64(40), false }, /* MAXPHYADDR is 40 */
		{ set_cr3, set_cr3_end, AT_PML4 | BIT64(63), false },
		{ set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR, true },
		{ set_cr4, set_cr4_end, 0, false },
		{ set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_PCIDE, true },
		{ set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_LA57, false },
		{ set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_VMXE, false },
		{ set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_OSXSAVE | X86_CR4_UMIP | X86_CR4_PKE, true },
		{ set_efer, set_efer_end, X86_EFER_LME | X86_EFER_SCE, true },
		{ set_efer, set_efer_end, 0, false },
		{ set_efer, set_efer_end, X86_EFER_LME | X86_EFER_SVME, false },
		{ set_efer, set_efer_end, X86_EFER_LME | BIT64(1), false },
		{ set_xcr0, set_xcr0_end, 1, true },
		{ set_xcr0, set_xcr0_end, 3, true },
		{ set_xcr0, set_xcr0_end, 7, true },
		{ set_xcr0, set_xcr0_end, 0, false },
		{ set_xcr0, set_xcr0_end, 2, false },
		{ set_xcr0, set_xcr0_end, 5, false },
		{ set_xcr0, set_xcr0_end, 0xe7, false }, /* not in leaf 0xd */
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_long(f, 0);
		if (cases[n].start == set_xcr0)
			f->c->cr4 |= X86_CR4_OSXSAVE;
		f->c->gpr[X86_RAX] = cases[n].v;
		assert_int_equal(fx_run_at(f, cases[n].start, cases[n].end), X86_EXIT_HLT);
		assert_int_equal(fx_vector(f), cases[n].fine ? -1 : X86_GP);
		if (cases[n].fine && cases[n].start == set_xcr0)
			assert_int_equal(f->c->xcr0, cases[n].v);
	}
}

/* PCID: keeping translations must not keep those of another address space. */
GUEST(pcid, 64,
      "mov (%rbx), %ecx; mov %rax, %cr3; mov (%rbx), %edx; mov %rsi, %cr3; mov (%rbx), %edi; hlt");

static void test_pcid(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	/* A second tree, with AT_DATA mapped elsewhere. */
	memcpy(f->toy.ram + 0x14000, f->toy.ram + AT_PML4, 4 * PAGE_SIZE);
	for (u32 level = 0; level < 3; level++)
		fx_set(f, 0x14000 + level * PAGE_SIZE, (0x14000 + (level + 1) * PAGE_SIZE) | 7, 8);
	fx_set(f, 0x17000 + (AT_DATA >> 12) * 8, (AT_DATA + PAGE_SIZE) | 7, 8);
	fx_set(f, AT_DATA, 0x1111, 4);
	fx_set(f, AT_DATA + PAGE_SIZE, 0x2222, 4);
	f->c->cr4 |= X86_CR4_PCIDE;
	x86_state_changed(f->c, false);
	f->c->gpr[X86_RBX] = AT_DATA;
	f->c->gpr[X86_RAX] = BIT64(63) | 0x14000 | 1;
	f->c->gpr[X86_RSI] = BIT64(63) | AT_PML4;
	EXPECT_HLT(f, pcid);
	assert_int_equal(reg(f, X86_RCX), 0x1111);
	assert_int_equal(reg(f, X86_RDX), 0x2222);
	assert_int_equal(reg(f, X86_RDI), 0x1111);
	assert_int_equal(f->c->cr3, AT_PML4);
}

static void test_sregs_valid(void **state)
{
	struct fx *f = *state;
	u64 cr0 = X86_CR0_PE | X86_CR0_PG, lm = X86_EFER_LME | X86_EFER_LMA;

	assert_true(x86_sregs_valid(f->c, cr0, 0x1000, X86_CR4_PAE, lm, X86_SEG_L));
	assert_false(x86_sregs_valid(f->c, cr0, 0x1000, 0, lm, X86_SEG_L));
	assert_false(x86_sregs_valid(f->c, cr0, 0x1000, X86_CR4_PAE, X86_EFER_LME, 0));
	assert_false(x86_sregs_valid(f->c, cr0, 0x1000, X86_CR4_PAE, X86_EFER_LMA, 0));
	assert_false(x86_sregs_valid(f->c, X86_CR0_PE, 0x1000, 0, 0, X86_SEG_L));
	assert_false(x86_sregs_valid(f->c, X86_CR0_PG, 0x1000, 0, 0, 0));
	assert_false(x86_sregs_valid(f->c, cr0, BIT64(45), X86_CR4_PAE, lm, X86_SEG_L));
	assert_false(x86_sregs_valid(f->c, X86_CR0_PE, 0, X86_CR4_LA57, 0, 0));
	assert_true(x86_sregs_valid(f->c, X86_CR0_ET, 0, 0, X86_EFER_LME, 0));
}

/* ---- privilege ---- */

GUEST(p_hlt, 64, "hlt");
GUEST(p_cli, 64, "cli");
GUEST(p_sti, 64, "sti");
GUEST(p_in, 64, "in $0x80, %al");
GUEST(p_out, 64, "out %eax, %dx");
GUEST(p_cr0, 64, "mov %cr0, %rax");
GUEST(p_dr7, 64, "mov %dr7, %rax");
GUEST(p_rdmsr, 64, "rdmsr");
GUEST(p_wrmsr, 64, "wrmsr");
GUEST(p_lgdt, 64, "lgdt (%rsp)");
GUEST(p_ltr, 64, "ltr %ax");
GUEST(p_lldt, 64, "lldt %ax");
GUEST(p_lmsw, 64, "lmsw %ax");
GUEST(p_clts, 64, "clts");
GUEST(p_invlpg, 64, "invlpg (%rax)");
GUEST(p_wbinvd, 64, "wbinvd");
GUEST(p_swapgs, 64, "swapgs");
GUEST(p_sysret, 64, "sysretq");
GUEST(p_sgdt, 64, "sgdt -16(%rsp)");
GUEST(p_sldt, 64, "sldt %eax");
GUEST(p_smsw, 64, "smsw %eax");
GUEST(p_str, 64, "str %eax");
GUEST(p_stac, 64, "stac");
GUEST(p_rsm, 64, "rsm");
GUEST(p_rdtsc, 64, "rdtsc");
GUEST(p_rdpmc, 64, "rdpmc");
GUEST(p_xsetbv, 64, "xsetbv");
GUEST(p_rdfsbase, 64, "rdfsbase %rax");
GUEST(p_monitor, 64, "monitor");
GUEST(p_rdpkru, 64, "rdpkru");

#define P(name, vector) { name, name##_end, vector }

static void test_privilege(void **state)
{
	static const struct {
		const u8 *start, *end;
		u8 vector;
	} cases[] = {
		P(p_hlt, X86_GP), P(p_cli, X86_GP), P(p_sti, X86_GP), P(p_in, X86_GP), P(p_out, X86_GP), P(p_cr0, X86_GP),
		P(p_dr7, X86_GP), P(p_rdmsr, X86_GP), P(p_wrmsr, X86_GP), P(p_lgdt, X86_GP), P(p_ltr, X86_GP),
		P(p_lldt, X86_GP), P(p_lmsw, X86_GP), P(p_clts, X86_GP), P(p_invlpg, X86_GP), P(p_wbinvd, X86_GP),
		P(p_swapgs, X86_GP), P(p_sysret, X86_GP), P(p_sgdt, X86_GP), P(p_sldt, X86_GP), P(p_smsw, X86_GP),
		P(p_str, X86_GP), P(p_stac, X86_UD), P(p_rsm, X86_UD), P(p_rdtsc, X86_GP), P(p_rdpmc, X86_GP),
		P(p_xsetbv, X86_GP), P(p_rdfsbase, X86_UD), P(p_monitor, X86_UD), P(p_rdpkru, X86_UD),
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_long(f, 3);
		f->c->cr4 |= X86_CR4_UMIP | X86_CR4_TSD | X86_CR4_OSXSAVE;
		x86_state_changed(f->c, false);
		assert_int_equal(fx_run_at(f, cases[n].start, cases[n].end), X86_EXIT_HLT);
		assert_int_equal(fx_vector(f), cases[n].vector);
		assert_int_equal(frame(f, cases[n].vector == X86_GP), AT_CODE);
	}
}

/* ---- flags ---- */

GUEST(popf_flags, 64, "push %rax; popf; pushf; pop %rbx; int $0x80");

static void test_popf(void **state)
{
	struct fx *f = *state;

	/* User at IOPL 0: neither IF nor IOPL change, and nothing faults */
	fx_long(f, 3);
	fx_gate(f, 0x80, 3, 0);
	f->c->gpr[X86_RAX] = X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_ID | X86_FLAG_AC | X86_FLAG_DF | X86_FLAGS_ARITH;
	EXPECT_VECTOR(f, popf_flags, 0x80);
	assert_int_equal(reg(f, X86_RBX), X86_FLAG_ID | X86_FLAG_AC | X86_FLAG_DF | X86_FLAGS_ARITH | 2);
	fx_long(f, 0);
	f->c->gpr[X86_RAX] = ~(u64)X86_FLAG_TF;
	EXPECT_VECTOR(f, popf_flags, 0x80);
	/* VM, VIF and VIP stay, RF is cleared */
	assert_int_equal(reg(f, X86_RBX), X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_ID | X86_FLAG_AC | X86_FLAG_DF | X86_FLAG_NT |
						  X86_FLAGS_ARITH | 2);
}

GUEST(trap_flag, 64, "pushf; orl $0x100, (%rsp); popf; nop; nop; hlt");

static void test_single_step(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_VECTOR(f, trap_flag, X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 10); /* after the instruction after POPF */
	assert_int_equal(frame(f, 2) & (X86_FLAG_TF | X86_FLAG_RF), X86_FLAG_TF);
	assert_int_equal(f->c->dr6, 0xffff4ff0);
	assert_int_equal(f->c->rflags & X86_FLAG_TF, 0);
}

/* ---- interrupts and shadows ---- */

GUEST(sti_hlt, 64, "sti; inc %eax; inc %eax; hlt");
GUEST(mov_ss, 64, "mov $0x10, %ebx; sti; mov %ebx, %ss; inc %eax; inc %eax; hlt");

static void test_sti_shadow(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->toy.irq = 0x31;
	x86_irq_hint(f->c);
	EXPECT_VECTOR(f, sti_hlt, 0x31);
	assert_int_equal(reg(f, X86_RAX), 1); /* exactly the one after STI */
	assert_int_equal(frame(f, 0), AT_CODE + 3);
	fx_long(f, 0);
	f->toy.irq = 0x32;
	x86_irq_hint(f->c);
	EXPECT_VECTOR(f, mov_ss, 0x32);
	assert_int_equal(reg(f, X86_RAX), 1);
	/* The window that a VMM waits for opens at the same place. */
	fx_long(f, 0);
	f->c->want_irq_window = true;
	x86_request(f->c, X86_REQ_EVENT);
	assert_int_equal(FX_RUN(f, sti_hlt), X86_EXIT_IRQ_WINDOW);
	assert_int_equal(reg(f, X86_RAX), 1);
	f->c->want_irq_window = false;
}

GUEST(hlt_wait, 64, "sti; hlt; inc %eax; hlt");

static void test_hlt_and_nmi(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_HLT(f, hlt_wait);
	assert_int_equal(f->c->rip, AT_CODE + 2);
	x86_raise_nmi(f->c);
	x86_raise_nmi(f->c);
	x86_raise_nmi(f->c);
	assert_int_equal(f->c->nmi_pending, 2);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), X86_NMI);
	assert_true(f->c->nmi_masked);
	assert_int_equal(f->c->nmi_pending, 1);
	assert_int_equal(frame(f, 0), AT_CODE + 2);
}

GUEST(write_cr8, 64, "mov %rax, %cr8; mov %cr8, %rbx; hlt");

static void test_cr8(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->toy.cr8 = 9;
	f->c->gpr[X86_RAX] = 4;
	f->c->user_lapic = true;
	assert_int_equal(FX_RUN(f, write_cr8), X86_EXIT_TPR);
	assert_int_equal(f->c->rip, AT_CODE + 4);
	assert_int_equal(f->toy.cr8, 4);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(reg(f, X86_RBX), 4);
	f->c->gpr[X86_RAX] = 8; /* raising it concerns nobody */
	EXPECT_HLT(f, write_cr8);
	f->c->gpr[X86_RAX] = 16;
	EXPECT_VECTOR(f, write_cr8, X86_GP);
	f->c->user_lapic = false;
}

/* ---- debug registers ---- */

GUEST(dr_alias, 64, "mov %rax, %db4; mov %db6, %rbx; hlt");
GUEST(dr_write, 64, "mov %rax, %db7; mov %db7, %rbx; hlt");
GUEST(dr_guarded, 64, "mov %rax, %db7; mov %db0, %rbx; hlt");

static void test_debug_registers(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->gpr[X86_RAX] = 0xffff;
	EXPECT_HLT(f, dr_alias);
	assert_int_equal(reg(f, X86_RBX), 0xffffeff0 | 0xf);
	f->c->cr4 |= X86_CR4_DE;
	EXPECT_VECTOR(f, dr_alias, X86_UD);
	fx_long(f, 0);
	f->c->gpr[X86_RAX] = 0xffff0300;
	EXPECT_HLT(f, dr_write);
	assert_int_equal(reg(f, X86_RBX), 0xffff0700);
	fx_long(f, 0);
	f->c->gpr[X86_RAX] = BIT64(32);
	EXPECT_VECTOR(f, dr_write, X86_GP);
	fx_long(f, 0);
	f->c->gpr[X86_RAX] = 0x2000;
	EXPECT_VECTOR(f, dr_guarded, X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 3);
	assert_int_equal(f->c->dr6 & 0x2000, 0x2000);
	assert_int_equal(f->c->dr7 & 0x2000, 0);
}

/* ---- descriptors asked about ---- */

GUEST(ask, 64, "xor %ebx, %ebx; lar %eax, %ebx; setz %cl; lsl %eax, %edx; setz %ch; verr %ax; setz %sil; verw %ax; setz %dil; int $0x80");

static void test_lar_lsl(void **state)
{
	static const struct {
		u8 cpl;
		u16 sel;
		u32 lar, limit;
		bool lar_ok, lsl_ok, r, w;
	} cases[] = {
		{ 0, SEL_DATA32, 0xc09200, 0xffffffff, true, true, true, true },
		{ 0, SEL_CODE16, 0x009a00, 0xffff, true, true, true, false },
		{ 0, SEL_XONLY, 0xc0f800, 0xffffffff, true, true, false, false },
		{ 0, SEL_TSS, 0x008900, 0x1fff, true, true, false, false },
		{ 0, SEL_LDT, 0x008200, 0xfff, true, true, false, false },
		{ 0, 0, 0, 0, false, false, false, false },
		{ 0, GDT_SIZE, 0, 0, false, false, false, false },
		{ 3, SEL_DATA32, 0, 0, false, false, false, false },
		{ 3, SEL_CONFORMING, 0xc09e00, 0xffffffff, true, true, true, false },
		{ 3, SEL_RODATA, 0xc0f000, 0xffffffff, true, true, true, false },
	};
	struct fx *f = *state;

	for (u32 n = 0; n < ARRAY_SIZE(cases); n++) {
		fx_long(f, cases[n].cpl);
		fx_gate(f, 0x80, 3, 0);
		/* The accessed bit is part of the answer: other loads must not have set it. */
		f->c->gpr[X86_RAX] = cases[n].sel;
		EXPECT_VECTOR(f, ask, 0x80);
		assert_int_equal(reg(f, X86_RCX) & 0xff, cases[n].lar_ok);
		assert_int_equal(reg(f, X86_RCX) >> 8 & 0xff, cases[n].lsl_ok);
		assert_int_equal(reg(f, X86_RSI) & 0xff, cases[n].r);
		assert_int_equal(reg(f, X86_RDI) & 0xff, cases[n].w);
		if (cases[n].lar_ok)
			assert_int_equal(reg(f, X86_RBX), cases[n].lar);
		if (cases[n].lsl_ok)
			assert_int_equal(reg(f, X86_RDX), cases[n].limit);
	}
}

GUEST(arpl_16, 32, "arpl %cx, %ax; setz %bl; hlt");

static void test_arpl(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, false);
	f->c->gpr[X86_RAX] = 0x10;
	f->c->gpr[X86_RCX] = 3;
	EXPECT_HLT(f, arpl_16);
	assert_int_equal(reg(f, X86_RAX), 0x13);
	assert_int_equal(reg(f, X86_RBX), 1);
	EXPECT_HLT(f, arpl_16);
	assert_int_equal(reg(f, X86_RBX), 0);
}

/* ---- tables, bases ---- */

GUEST(tables_64, 64,
      "sgdt (%rdi); sidt 16(%rdi); mov $0x48, %eax; lldt %ax; sldt %ebx; str %ecx; lidt 16(%rdi); smsw %rdx; xor %esi, %esi; lldt %si; hlt");

static void test_tables(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->gpr[X86_RDI] = AT_DATA;
	EXPECT_HLT(f, tables_64);
	assert_int_equal(fx_get(f, AT_DATA, 2), GDT_SIZE - 1);
	assert_int_equal(fx_get(f, AT_DATA + 2, 8), AT_GDT);
	assert_int_equal(fx_get(f, AT_DATA + 16, 2), 0xfff);
	assert_int_equal(fx_get(f, AT_DATA + 18, 8), AT_IDT);
	assert_int_equal(reg(f, X86_RBX), SEL_LDT);
	assert_int_equal(reg(f, X86_RCX), SEL_TSS);
	assert_int_equal(reg(f, X86_RDX), f->c->cr0);
	assert_true(f->c->seg[X86_LDTR].attr & X86_SEG_UNUSABLE);
}

GUEST(bases, 64,
      "mov $0xc0000102, %ecx; mov $0x5000, %eax; xor %edx, %edx; wrmsr; wrgsbase %rdi; swapgs; rdgsbase %rbx; swapgs; rdgsbase %rsi\n"
      "mov %gs:8, %r8; wrfsbase %rdi; mov %fs:0, %r9d; xor %eax, %eax; mov %eax, %fs; rdfsbase %r10; hlt");

static void test_bases(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_FSGSBASE;
	f->c->gpr[X86_RDI] = AT_DATA;
	fx_set(f, AT_DATA, 0x1122334455667788, 8);
	fx_set(f, AT_DATA + 8, 0x99, 8);
	EXPECT_HLT(f, bases);
	assert_int_equal(reg(f, X86_RBX), 0x5000);
	assert_int_equal(reg(f, X86_RSI), AT_DATA);
	assert_int_equal(reg(f, X86_R8), 0x99);
	assert_int_equal(reg(f, X86_R9), 0x55667788);
	assert_int_equal(reg(f, X86_R10), 0);
	assert_int_equal(f->c->msr.kernel_gs_base, 0x5000);
}

/* ---- SMAP and protection keys ---- */

GUEST(smap, 64, "stac; mov 0x60000, %eax; clac; mov 0x60000, %ebx; hlt");

static void test_smap(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_SMAP;
	/* The stack and the code page must be the supervisor's, or the fault could not be delivered. */
	for (u32 la = 0; la < AT_DATA; la += PAGE_SIZE)
		fx_set(f, AT_PML4 + 3 * PAGE_SIZE + (la >> 12) * 8, la | 3, 8);
	x86_state_changed(f->c, false);
	fx_set(f, AT_DATA, 0x42, 4);
	EXPECT_VECTOR(f, smap, X86_PF);
	assert_int_equal(reg(f, X86_RAX), 0x42);
	assert_int_equal(f->c->cr2, AT_DATA);
	assert_int_equal(frame(f, 0), 1);
}

/* ---- MSRs ---- */

GUEST(rdmsr_ecx, 64, "rdmsr; hlt");
GUEST(wrmsr_ecx, 64, "wrmsr; hlt");

static int guest_rdmsr(struct fx *f, u32 msr, u64 *v)
{
	fx_long(f, 0);
	f->c->gpr[X86_RCX] = msr;
	EXPECT_HLT(f, rdmsr_ecx);
	*v = (u32)reg(f, X86_RAX) | reg(f, X86_RDX) << 32;
	return fx_vector(f);
}

static int guest_wrmsr(struct fx *f, u32 msr, u64 v)
{
	fx_long(f, 0);
	f->c->gpr[X86_RCX] = msr;
	f->c->gpr[X86_RAX] = (u32)v;
	f->c->gpr[X86_RDX] = v >> 32;
	EXPECT_HLT(f, wrmsr_ecx);
	return fx_vector(f);
}

static void test_msr_values(void **state)
{
	static const struct {
		u32 msr;
		u64 v;
		bool fine;
	} cases[] = {
		{ 0xc0000082, 0xffffffff81000000, true }, { 0xc0000082, 0x8000000000000000, false },
		{ 0xc0000084, 0x47700, true },		  { 0xc0000084, BIT64(32), false },
		{ 0x277, 0x0407050600070106, true },	  { 0x277, 2, false }, { 0x277, 0x0800000000000000, false },
		{ 0x200, 0x80000006, true },		  { 0x200, 0x80000002, false }, { 0x200, 0x106, false },
		{ 0x201, 0xff80000800, true },		  { 0x201, 0x10000000800, false },
		{ 0x250, 0x0606060606060606, true },	  { 0x26f, 0x0606060606060602, false },
		{ 0x2ff, 0xc06, true },			  { 0x2ff, 0x1000, false },
		{ 0xc0000103, 5, true },		  { 0xc0000103, BIT64(32), false },
		{ 0x48, 1, true },			  { 0x48, BIT64(20), false },
		{ 0x49, 1, true },			  { 0x49, 2, false },
		{ 0x8b, 0, true },			  { 0xce, 0, false }, /* dropped; read-only */
		{ 0x10a, 0, false },			  { 0xfe, 0, false },
		{ 0x17a, 0, true },			  { 0x179, 0, false },
		{ 0x140, 1, true },			  { 0x140, 2, false },
		{ 0x9e, 0x30000, false },		  { 0x400, 0, true },
		{ 0x401, 1, false },			  { 0x408, 0, false }, /* two banks */
		{ 0xc0000100, 0x7fff00000000, true },	  { 0xc0000101, BIT64(50), false },
	};
	struct fx *f = *state;
	u64 v;

	f->c->msr.mcg_cap = 2;
	for (u32 n = 0; n < ARRAY_SIZE(cases); n++)
		if (guest_wrmsr(f, cases[n].msr, cases[n].v) != (cases[n].fine ? -1 : X86_GP))
			fail_msg("wrmsr %#x %#llx", cases[n].msr, (unsigned long long)cases[n].v);
	assert_int_equal(guest_rdmsr(f, 0xc0000082, &v), -1);
	assert_int_equal(v, 0xffffffff81000000);
	assert_int_equal(guest_rdmsr(f, 0x8b, &v), -1);
	assert_int_equal(v, 0x100000000);
	assert_int_equal(guest_rdmsr(f, 0xfe, &v), -1);
	assert_int_equal(v, 0x508);
	assert_int_equal(guest_rdmsr(f, 0x9e, &v), X86_GP);
	f->c->msr.misc_features = 0;
	/* Not the CPU's: the machine is asked, and its refusal is #GP. */
	f->toy.msr_value = 0x1234567890;
	assert_int_equal(guest_rdmsr(f, 0x6e0, &v), -1);
	assert_int_equal(v, 0x1234567890);
	assert_int_equal(f->toy.last_msr, 0x6e0);
	assert_int_equal(guest_wrmsr(f, 0x6e0, 77), -1);
	assert_int_equal(f->toy.msr_value, 77);
	f->toy.msr_error = -EINVAL;
	assert_int_equal(guest_rdmsr(f, 0x6e0, &v), X86_GP);
	assert_int_equal(guest_wrmsr(f, 0x6e0, 77), X86_GP);
	f->toy.msr_error = 0;
}

/* What the VMM saves it can read and write back, whatever the guest's CPUID says. */
static void test_msr_list(void **state)
{
	struct fx *f = *state;
	u32 list[256], n = x86_msr_list(list, ARRAY_SIZE(list));
	u64 v;

	assert_in_range(n, 20, ARRAY_SIZE(list));
	assert_int_equal(x86_msr_list(NULL, 0), n);
	memset(f->c->feat, 0, sizeof(*f->c->feat));
	for (u32 k = 0; k < n; k++) {
		if (x86_get_msr(f->c, list[k], &v, true) || x86_set_msr(f->c, list[k], v, true))
			fail_msg("msr %#x", list[k]);
		assert_true(!k || list[k] > list[k - 1]);
	}
	assert_int_equal(x86_get_msr(f->c, 0x1b, &v, true), -ENOENT);
	assert_int_equal(x86_set_msr(f->c, 0x12345, 0, true), -ENOENT);
	/* The guest is bound by CPUID. */
	assert_int_equal(x86_get_msr(f->c, 0x48, &v, false), -EINVAL);
	assert_int_equal(x86_set_msr(f->c, 0xc0000103, 0, false), -EINVAL);
}

static void test_tsc(void **state)
{
	struct fx *f = *state;
	u64 v, before;

	assert_in_range(x86_tsc(f->c), 0, 60ull * 10000000000ull); /* a CPU is born with TSC near 0 */
	assert_int_equal(guest_wrmsr(f, 0x10, BIT64(60)), -1);
	assert_in_range(x86_tsc(f->c), BIT64(60), BIT64(60) + BIT64(40));
	assert_int_equal(guest_rdmsr(f, 0x3b, &v), -1);
	assert_in_range(v, BIT64(60) - BIT64(42), BIT64(60));
	before = x86_tsc(f->c);
	assert_int_equal(guest_wrmsr(f, 0x3b, v - BIT64(59)), -1);
	assert_in_range(x86_tsc(f->c), before - BIT64(59), before - BIT64(59) + BIT64(40));
	/* The VMM sets one without the other. */
	assert_int_equal(x86_set_msr(f->c, 0x10, BIT64(50), true), 0);
	assert_int_equal(x86_get_msr(f->c, 0x3b, &v, true), 0);
	assert_in_range(v, BIT64(59) - BIT64(42), BIT64(59));
	before = x86_tsc(f->c);
	assert_int_equal(x86_set_msr(f->c, 0x3b, 0, true), 0);
	assert_in_range(x86_tsc(f->c), before, before + BIT64(40));
	f->c->tsc_offset = 0;
	f->c->tsc_ratio = BIT64(47); /* half speed */
	assert_in_range(x86_tsc(f->c), 0, __builtin_ia32_rdtsc() / 2 + BIT64(40));
	assert_true(x86_tsc(f->c) > __builtin_ia32_rdtsc() / 2 - BIT64(40));
}

/* ---- CPUID ---- */

GUEST(cpuid_eax, 64, "cpuid; hlt");

static void test_cpuid(void **state)
{
	struct fx *f = *state;
	bool amd = f->c->feat->amd;
	u32 out[4];

	fx_long(f, 0);
	f->c->gpr[X86_RAX] = ~0ull << 32 | 1;
	f->toy.msr_value = 0xfee00900;
	EXPECT_HLT(f, cpuid_eax);
	assert_int_equal(reg(f, X86_RAX), 0x306a9);
	assert_int_equal(reg(f, X86_RCX) >> 27 & 1, 0);
	assert_int_equal(reg(f, X86_RDX) >> 9 & 1, 1);
	f->c->cr4 |= X86_CR4_OSXSAVE | X86_CR4_PKE;
	f->toy.msr_value = 0xfee00000;
	x86_cpuid(f->c, 1, 0, out);
	assert_int_equal(out[2] >> 27 & 1, 1);
	assert_int_equal(out[3] >> 9 & 1, 0);
	x86_cpuid(f->c, 7, 0, out);
	assert_int_equal(out[2] >> 4 & 1, 1);
	/* XSAVE sizes follow XCR0 */
	f->c->xcr0 = 3;
	x86_cpuid(f->c, 0xd, 0, out);
	assert_int_equal(out[1], 576);
	f->c->xcr0 = 7;
	x86_cpuid(f->c, 0xd, 0, out);
	assert_int_equal(out[1], 832);
	x86_cpuid(f->c, 0xd, 1, out);
	assert_int_equal(out[1], 832);
	/* Beyond the last leaf: Intel repeats the last basic one, AMD says nothing. Inside the range a gap is zeros. */
	x86_cpuid(f->c, 0x20, 0, out);
	assert_int_equal(out[0], amd ? 0 : 7);
	x86_cpuid(f->c, 0x80000020, 2, out);
	assert_int_equal(out[0], amd ? 0 : 256);
	x86_cpuid(f->c, 5, 0, out);
	assert_int_equal(out[0] | out[1] | out[2] | out[3], 0);
	x86_cpuid(f->c, 0x40000001, 0, out);
	assert_int_equal(out[0], 0);
	x86_cpuid(f->c, 0xb, 5, out);
	assert_int_equal(out[2], 5);
	assert_int_equal(out[3], 7);
	/* Faulting, for the user only */
	fx_long(f, 3);
	f->c->msr.misc_features = 1;
	EXPECT_VECTOR(f, cpuid_eax, X86_GP);
	fx_long(f, 0);
	f->c->msr.misc_features = 1;
	EXPECT_HLT(f, cpuid_eax);
	assert_int_equal(fx_vector(f), -1);
	f->c->msr.misc_features = 0;
}

/* ---- SMM ---- */

/* SMI handler: real mode with big segments. Changes RAX in the save area, moves SMBASE, and returns. */
GUEST(smm_code, 16,
      "mov %cs, %bx; mov %cr0, %esi; movl $0xafff8, %edi; movl $0x1234, %ds:(%edi); movl $0xafefc, %edi; movl %ds:(%edi), %edx\n"
      "movl %edx, %ds:0x5000; mov %bx, %ds:0x5004; movl %esi, %ds:0x5008; movl $0xaff00, %edi; movl $0x30000, %ds:(%edi); rsm");
GUEST(smm_guest, 64, "sti; nop; mov $0x5555, %ecx; hlt");

static void test_smm(void **state)
{
	struct fx *f = *state;
	struct x86_seg before[X86_NR_SREGS];

	fx_long(f, 3);
	f->c->msr.smbase = AT_SMBASE;
	f->c->gpr[X86_RAX] = ~0ull;
	f->c->gpr[X86_R15] = 0xabcdef0123456789;
	f->c->dr7 = 0x400;
	memcpy(before, f->c->seg, sizeof(before));
	fx_put(f, AT_SMBASE + 0x8000, smm_code, (u64)(smm_code_end - smm_code));
	x86_raise_smi(f->c);
	f->c->nmi_masked = false;
	EXPECT_HLT(f, smm_guest);
	/* STI at CPL 3: that the guest runs at all and faults there shows that it is back */
	assert_int_equal(fx_vector(f), X86_GP);
	assert_int_equal(frame(f, 1), AT_CODE);
	assert_int_equal(frame(f, 2), SEL_UCODE64);
	assert_int_equal(reg(f, X86_RAX), 0xffffffff00001234); /* the handler changed the lower half */
	assert_int_equal(reg(f, X86_R15), 0xabcdef0123456789);
	assert_int_equal(f->c->msr.smbase, 0x30000);
	assert_int_equal(f->c->msr.smi_count, 1);
	assert_false(f->c->smm);
	assert_false(f->c->nmi_masked);
	assert_int_equal(fx_get(f, 0x5000, 4), 0x20064);
	assert_int_equal(fx_get(f, 0x5004, 2), (AT_SMBASE >> 4) & 0xffff);
	assert_int_equal(fx_get(f, 0x5008, 4) & (X86_CR0_PE | X86_CR0_PG), 0);
	assert_int_equal(f->c->efer, X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE);
	for (u32 n = X86_ES; n <= X86_GS; n++) {
		if (n == X86_CS || n == X86_SS)
			continue;
		assert_int_equal(f->c->seg[n].sel, before[n].sel);
		assert_int_equal(f->c->seg[n].base, before[n].base);
		assert_int_equal(f->c->seg[n].limit, before[n].limit);
		assert_int_equal(f->c->seg[n].attr, before[n].attr);
	}
	assert_int_equal(f->c->seg[X86_TR].base, AT_TSS);
	assert_int_equal(f->c->idt.base, AT_IDT);
}

GUEST(smm_halt, 16, "hlt; rsm");

/* A save area that makes no sense is a shutdown; NMIs wait in SMM. */
static void test_smm_bad(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->msr.smbase = AT_SMBASE;
	fx_put(f, AT_SMBASE + 0x8000, smm_halt, (u64)(smm_halt_end - smm_halt));
	x86_raise_smi(f->c);
	EXPECT_HLT(f, smm_guest);
	assert_true(f->c->smm);
	x86_raise_nmi(f->c);
	fx_set(f, AT_SMBASE + 0xff58, X86_CR0_PG, 8);
	assert_int_equal(fx_run(f), X86_EXIT_SHUTDOWN);
	assert_int_equal(f->c->nmi_pending, 1);
}

/* Without long mode the area has the 32-bit layout. */
GUEST(smm_guest_32, 32, "mov %eax, %ecx; hlt");

static void test_smm_32(void **state)
{
	struct fx *f = *state;

	fx_prot32(f, 0, true);
	f->c->feat->lm = false;
	f->c->msr.smbase = AT_SMBASE;
	f->c->gpr[X86_RAX] = 0x77;
	fx_put(f, AT_SMBASE + 0x8000, smm_halt, (u64)(smm_halt_end - smm_halt));
	x86_raise_smi(f->c);
	EXPECT_HLT(f, smm_guest_32);
	assert_true(f->c->smm);
	assert_int_equal(fx_get(f, AT_SMBASE + 0xfefc, 4), 0x20000);
	assert_int_equal(fx_get(f, AT_SMBASE + 0xfef8, 4), AT_SMBASE);
	assert_int_equal(fx_get(f, AT_SMBASE + 0xffd0, 4), 0x77);
	assert_int_equal(fx_get(f, AT_SMBASE + 0xfff0, 4), AT_CODE);
	assert_int_equal(fx_get(f, AT_SMBASE + 0xffac, 4), SEL_CODE32);
	fx_set(f, AT_SMBASE + 0xffd0, 0x78, 4);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), -1);
	assert_int_equal(reg(f, X86_RCX), 0x78);
	assert_int_equal(f->c->seg[X86_CS].sel, SEL_CODE32);
	assert_true(f->c->cr0 & X86_CR0_PG);
}

/* ---- ports, reset ---- */

GUEST(ports, 64, "mov $0x3f8, %edx; mov $0x41, %al; out %al, %dx; in $0x60, %al; in %dx, %eax; hlt");

static void test_ports(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->gpr[X86_RAX] = ~0ull;
	f->toy.value = 0x11223344;
	f->toy.nlog = 0;
	EXPECT_HLT(f, ports);
	assert_int_equal(f->toy.nlog, 3);
	assert_int_equal(f->toy.log[0].addr, 0x3f8);
	assert_int_equal(f->toy.log[0].data, 0x41);
	assert_int_equal(f->toy.log[1].addr, 0x60);
	assert_int_equal(f->toy.log[1].size, 1);
	assert_int_equal(reg(f, X86_RAX), 0x11223344); /* 32-bit input clears the upper half */
}

static void test_reset(void **state)
{
	struct fx *f = *state;
	struct x86_cpu *c = f->c;

	fx_long(f, 3);
	c->msr.lstar = 5;
	c->xcr0 = 7;
	c->cr0 &= ~(u64)(X86_CR0_CD | X86_CR0_NW);
	x86_reset(c, true);
	assert_int_equal(c->cr0, X86_CR0_ET);
	assert_int_equal(c->xcr0, 7);
	assert_int_equal(c->msr.lstar, 5);
	assert_int_equal(c->efer, 0);
	assert_int_equal(c->rip, 0xfff0);
	assert_int_equal(c->seg[X86_CS].base, 0xffff0000);
	assert_int_equal(c->gpr[X86_RDX], 0x306a9);
	assert_int_equal(x86_rflags(c), 2);
	x86_reset(c, false);
	assert_int_equal(c->cr0, 0x60000010);
	assert_int_equal(c->xcr0, 1);
	assert_int_equal(c->msr.lstar, 0);
	assert_int_equal(c->msr.pat, 0x0007040600070406);
	x86_sipi(c, 0x9a);
	assert_int_equal(c->seg[X86_CS].sel, 0x9a00);
	assert_int_equal(c->seg[X86_CS].base, 0x9a000);
	assert_int_equal(c->rip, 0);
}

#define T(name)	    cmocka_unit_test_setup_teardown(name, setup_intel, teardown)
#define T_AMD(name) { #name " (AMD)", name, setup_amd, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_real_int), T(test_real_far), T(test_unreal), T(test_real_limit), T(test_boot), T_AMD(test_boot),
		T(test_page_fault), T(test_long_same_level), T(test_fault_in_delivery), T(test_fault_merge),
		T(test_software_interrupts), T(test_iretq), T(test_iretq_compat), T(test_iretq_faults), T(test_syscall),
		T_AMD(test_syscall), T(test_syscall_tf), T(test_syscall_vendor), T_AMD(test_syscall_vendor), T(test_sysenter),
		T(test_prot32_delivery), T(test_call_gate), T(test_segment_loads), T(test_segment_rights), T(test_v86),
		T(test_control_registers), T(test_pcid), T(test_sregs_valid), T(test_privilege), T(test_popf), T(test_single_step),
		T(test_sti_shadow), T(test_hlt_and_nmi), T(test_cr8), T(test_debug_registers), T(test_lar_lsl), T(test_arpl),
		T(test_tables), T(test_bases), T(test_smap), T(test_msr_values), T(test_msr_list), T(test_tsc), T(test_cpuid),
		T_AMD(test_cpuid), T(test_smm), T(test_smm_bad), T(test_smm_32), T(test_ports), T(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
