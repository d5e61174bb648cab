// SPDX-License-Identifier: MIT
/*
 * The system side of the x86 engine, registers: control and debug registers, privilege, flags and
 * interrupt shadows, descriptors asked about, MSRs, CPUID, SMM, reset, by running guest code.
 * Expectations are the manuals', not the engine's.
 */
#include "sys_fixture.h"

#include <errno.h>

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
		{set_cr0, set_cr0_end, CR0_NOW, true},
		{set_cr0, set_cr0_end, CR0_NOW | X86_CR0_TS | BIT(20), true},
		{set_cr0, set_cr0_end, CR0_NOW | BIT64(32), false},
		{set_cr0, set_cr0_end, CR0_NOW | X86_CR0_NW, false},
		{set_cr0, set_cr0_end, CR0_NOW & ~(u64)X86_CR0_PE, false},
		{set_cr0, set_cr0_end, CR0_NOW & ~(u64)X86_CR0_PG,
		 false}, /* not from 64-bit code */
		{set_cr3, set_cr3_end, AT_PML4, true},
		{set_cr3, set_cr3_end, AT_PML4 | BIT64(40), false}, /* MAXPHYADDR is 40 */
		{set_cr3, set_cr3_end, AT_PML4 | BIT64(63), false},
		{set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR, true},
		{set_cr4, set_cr4_end, 0, false},
		{set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_PCIDE, true},
		{set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_LA57, false},
		{set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_VMXE, false},
		{set_cr4, set_cr4_end, X86_CR4_PAE | X86_CR4_OSXSAVE | X86_CR4_UMIP | X86_CR4_PKE,
		 true},
		{set_efer, set_efer_end, X86_EFER_LME | X86_EFER_SCE, true},
		{set_efer, set_efer_end, 0, false},
		{set_efer, set_efer_end, X86_EFER_LME | X86_EFER_SVME, false},
		{set_efer, set_efer_end, X86_EFER_LME | BIT64(1), false},
		{set_xcr0, set_xcr0_end, 1, true},
		{set_xcr0, set_xcr0_end, 3, true},
		{set_xcr0, set_xcr0_end, 7, true},
		{set_xcr0, set_xcr0_end, 0, false},
		{set_xcr0, set_xcr0_end, 2, false},
		{set_xcr0, set_xcr0_end, 5, false},
		{set_xcr0, set_xcr0_end, 0xe7, false}, /* not in leaf 0xd */
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

#define P(name, vector)                                                                            \
	{                                                                                          \
		name, name##_end, vector                                                           \
	}

static void test_privilege(void **state)
{
	static const struct {
		const u8 *start, *end;
		u8 vector;
	} cases[] = {
		P(p_hlt, X86_GP),      P(p_cli, X86_GP),     P(p_sti, X86_GP),
		P(p_in, X86_GP),       P(p_out, X86_GP),     P(p_cr0, X86_GP),
		P(p_dr7, X86_GP),      P(p_rdmsr, X86_GP),   P(p_wrmsr, X86_GP),
		P(p_lgdt, X86_GP),     P(p_ltr, X86_GP),     P(p_lldt, X86_GP),
		P(p_lmsw, X86_GP),     P(p_clts, X86_GP),    P(p_invlpg, X86_GP),
		P(p_wbinvd, X86_GP),   P(p_swapgs, X86_GP),  P(p_sysret, X86_GP),
		P(p_sgdt, X86_GP),     P(p_sldt, X86_GP),    P(p_smsw, X86_GP),
		P(p_str, X86_GP),      P(p_stac, X86_UD),    P(p_rsm, X86_UD),
		P(p_rdtsc, X86_GP),    P(p_rdpmc, X86_GP),   P(p_xsetbv, X86_GP),
		P(p_rdfsbase, X86_UD), P(p_monitor, X86_UD), P(p_rdpkru, X86_UD),
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
	f->c->gpr[X86_RAX] = X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_ID | X86_FLAG_AC | X86_FLAG_DF |
			     X86_FLAGS_ARITH;
	EXPECT_VECTOR(f, popf_flags, 0x80);
	assert_int_equal(reg(f, X86_RBX),
			 X86_FLAG_ID | X86_FLAG_AC | X86_FLAG_DF | X86_FLAGS_ARITH | 2);
	fx_long(f, 0);
	f->c->gpr[X86_RAX] = ~(u64)X86_FLAG_TF;
	EXPECT_VECTOR(f, popf_flags, 0x80);
	/* VM, VIF and VIP stay, RF is cleared */
	assert_int_equal(reg(f, X86_RBX), X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_ID | X86_FLAG_AC |
						  X86_FLAG_DF | X86_FLAG_NT | X86_FLAGS_ARITH | 2);
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

GUEST(ask, 64,
      "xor %ebx, %ebx; lar %eax, %ebx; setz %cl; lsl %eax, %edx; setz %ch; verr %ax; setz %sil; "
      "verw %ax; setz %dil; int $0x80");

static void test_lar_lsl(void **state)
{
	static const struct {
		u8 cpl;
		u16 sel;
		u32 lar, limit;
		bool lar_ok, lsl_ok, r, w;
	} cases[] = {
		{0, SEL_DATA32, 0xc09200, 0xffffffff, true, true, true, true},
		{0, SEL_CODE16, 0x009a00, 0xffff, true, true, true, false},
		{0, SEL_XONLY, 0xc0f800, 0xffffffff, true, true, false, false},
		{0, SEL_TSS, 0x008900, 0x1fff, true, true, false, false},
		{0, SEL_LDT, 0x008200, 0xfff, true, true, false, false},
		{0, 0, 0, 0, false, false, false, false},
		{0, GDT_SIZE, 0, 0, false, false, false, false},
		{3, SEL_DATA32, 0, 0, false, false, false, false},
		{3, SEL_CONFORMING, 0xc09e00, 0xffffffff, true, true, true, false},
		{3, SEL_RODATA, 0xc0f000, 0xffffffff, true, true, true, false},
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
      "sgdt (%rdi); sidt 16(%rdi); mov $0x48, %eax; lldt %ax; sldt %ebx; str %ecx; lidt 16(%rdi); "
      "smsw %rdx; xor %esi, %esi; lldt %si; hlt");

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
      "mov $0xc0000102, %ecx; mov $0x5000, %eax; xor %edx, %edx; wrmsr; wrgsbase %rdi; swapgs; "
      "rdgsbase %rbx; swapgs; rdgsbase %rsi\n"
      "mov %gs:8, %r8; wrfsbase %rdi; mov %fs:0, %r9d; xor %eax, %eax; mov %eax, %fs; rdfsbase "
      "%r10; hlt");

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
	/* The stack and the code page must be the supervisor's, or the fault could not be
	 * delivered. */
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
		{0xc0000082, 0xffffffff81000000, true},
		{0xc0000082, 0x8000000000000000, false},
		{0xc0000084, 0x47700, true},
		{0xc0000084, BIT64(32), false},
		{0x277, 0x0407050600070106, true},
		{0x277, 2, false},
		{0x277, 0x0800000000000000, false},
		{0x200, 0x80000006, true},
		{0x200, 0x80000002, false},
		{0x200, 0x106, false},
		{0x201, 0xff80000800, true},
		{0x201, 0x10000000800, false},
		{0x250, 0x0606060606060606, true},
		{0x26f, 0x0606060606060602, false},
		{0x2ff, 0xc06, true},
		{0x2ff, 0x1000, false},
		{0xc0000103, 5, true},
		{0xc0000103, BIT64(32), false},
		{0x48, 1, true},
		{0x48, BIT64(20), false},
		{0x49, 1, true},
		{0x49, 2, false},
		{0x8b, 0, true},
		{0xce, 0, false}, /* dropped; read-only */
		{0x10a, 0, false},
		{0xfe, 0, false},
		{0x17a, 0, true},
		{0x179, 0, false},
		{0x140, 1, true},
		{0x140, 2, false},
		{0x9e, 0x30000, false},
		{0x400, 0, true},
		{0x401, 1, false},
		{0x408, 0, false}, /* two banks */
		{0xc0000100, 0x7fff00000000, true},
		{0xc0000101, BIT64(50), false},
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

	assert_in_range(x86_tsc(f->c), 0,
			60ull * 10000000000ull); /* a CPU is born with TSC near 0 */
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
	/* Beyond the last leaf: Intel repeats the last basic one, AMD says nothing. Inside the
	 * range a gap is zeros. */
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

/* ---- PKRU as a component of XSAVE ---- */

#define XCR0_PKRU 0x200u
#define PKRU_AT	  2688u

GUEST(pk_xsave, 64, "xsave (%rbx); hlt");
GUEST(pk_xsaveopt, 64, "xsaveopt (%rbx); hlt");
GUEST(pk_xsavec, 64, "xsavec (%rbx); hlt");
GUEST(pk_xsaves, 64, "xsaves (%rbx); hlt");
GUEST(pk_xrstor, 64, "xrstor (%rbx); hlt");
GUEST(pk_xrstors, 64, "xrstors (%rbx); hlt");
GUEST(pk_xgetbv, 64, "mov $1, %ecx; xgetbv; hlt");
GUEST(pk_xsave32, 32, "xsave (%ebx); hlt");
/* A page with key 1 is read under rights that allow it, then under those that XRSTOR brings. */
GUEST(pk_rights, 64, "mov 0x61000, %ecx; xrstor (%rbx); mov 0x61000, %ecx; hlt");

/* A guest with protection keys. Its table does not say where PKRU stands, as of a VMM that asked
 * a host without it. */
static void pku_mode(struct fx *f)
{
	struct x86_cpuid_entry *t = malloc((f->c->nr_cpuid + 1) * sizeof(*t));
	u32 n = f->c->nr_cpuid;

	assert_non_null(t);
	memcpy(t, f->c->cpuid, n * sizeof(*t));
	for (u32 k = 0; k < n; k++) {
		if (t[k].function == 0xd && t[k].index == 0)
			t[k].eax |= XCR0_PKRU;
		if (t[k].function == 0xd && t[k].index == 1)
			t[k].eax |= 0xf;
	}
	t[n++] = (struct x86_cpuid_entry){0xd, 9, 1, 8, 0, 0, 0};
	assert_int_equal(x86_set_cpuid(f->c, t, n), 0);
	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_PKE | X86_CR4_OSXSAVE | X86_CR4_OSFXSR;
	f->c->xcr0 = 3 | XCR0_PKRU;
	x86_state_changed(f->c, false);
}

static void area_clear(struct fx *f, u8 byte)
{
	memset(f->toy.ram + AT_DATA, byte, PAGE_SIZE);
	memset(f->toy.ram + AT_DATA + 512, 0, 64);
}

static void pk_run(struct fx *f, const u8 *start, const u8 *end, u32 rfbm, u32 pkru)
{
	f->c->pkru = pkru;
	x86_tlb_flush_user(f->c);
	f->c->gpr[X86_RBX] = AT_DATA;
	f->c->gpr[X86_RAX] = rfbm;
	f->c->gpr[X86_RDX] = 0;
	assert_int_equal(fx_run_at(f, start, end), X86_EXIT_HLT);
}
#define PK_RUN(f, name, rfbm, pkru) pk_run(f, name, name##_end, rfbm, pkru)
#define XBV(f)			    fx_get(f, AT_DATA + 512, 8)
#define XCOMP(f)		    fx_get(f, AT_DATA + 520, 8)

static void test_pkru_saved(void **state)
{
	struct fx *f = *state;
	u32 out[4];

	pku_mode(f);
	x86_cpuid(f->c, 0xd, 0, out);
	assert_int_equal(out[1], PKRU_AT + 8);
	x86_cpuid(f->c, 0xd, 1, out);
	assert_int_equal(out[1], 576 + 8);
	x86_cpuid(f->c, 0xd, 9, out);
	assert_int_equal(out[0], 8);
	assert_int_equal(out[1], PKRU_AT);

	area_clear(f, 0xee);
	PK_RUN(f, pk_xsave, XCR0_PKRU, 0x12345678);
	assert_int_equal(fx_vector(f), -1);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 0x12345678);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT + 8, 8), 0xeeeeeeeeeeeeeeee);
	assert_int_equal(XBV(f), XCR0_PKRU);
	/* 0 is the initial value: XSAVE writes it, XSAVEOPT leaves the place alone. */
	PK_RUN(f, pk_xsaveopt, XCR0_PKRU, 0);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 0x12345678);
	assert_int_equal(XBV(f), 0);
	PK_RUN(f, pk_xsave, XCR0_PKRU, 0);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 0);
	assert_int_equal(XBV(f), 0);
	/* Not asked for, or not enabled: not written. */
	area_clear(f, 0xee);
	PK_RUN(f, pk_xsave, 3, 0x14);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 0xeeeeeeeeeeeeeeee);
	f->c->xcr0 = 3;
	PK_RUN(f, pk_xsave, XCR0_PKRU | 3, 0x14);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 0xeeeeeeeeeeeeeeee);
	f->c->xcr0 = 7 | XCR0_PKRU;

	area_clear(f, 0xee);
	PK_RUN(f, pk_xsavec, XCR0_PKRU, 0x18);
	assert_int_equal(fx_get(f, AT_DATA + 576, 8), 0x18);
	assert_int_equal(XBV(f), XCR0_PKRU);
	assert_int_equal(XCOMP(f), BIT64(63) | XCR0_PKRU);
	/* Behind AVX's upper halves, which are in their initial state. */
	area_clear(f, 0xee);
	PK_RUN(f, pk_xsaves, XCR0_PKRU | 4, 0x1c);
	assert_int_equal(fx_get(f, AT_DATA + 576, 8), 0xeeeeeeeeeeeeeeee);
	assert_int_equal(fx_get(f, AT_DATA + 576 + 256, 8), 0x1c);
	assert_int_equal(XCOMP(f), BIT64(63) | XCR0_PKRU | 4);

	PK_RUN(f, pk_xgetbv, 0, 0x1c);
	assert_int_equal(reg(f, X86_RAX) & XCR0_PKRU, XCR0_PKRU);
	PK_RUN(f, pk_xgetbv, 0, 0);
	assert_int_equal(reg(f, X86_RAX) & XCR0_PKRU, 0);

	/* Outside 64-bit mode it is as long. */
	fx_prot32(f, 0, false);
	f->c->cr4 |= X86_CR4_OSXSAVE;
	x86_state_changed(f->c, false);
	area_clear(f, 0xee);
	PK_RUN(f, pk_xsave32, XCR0_PKRU, 8);
	assert_int_equal(fx_get(f, AT_DATA + PKRU_AT, 8), 8);
}

static void test_pkru_restored(void **state)
{
	struct fx *f = *state;
	u64 leaf = AT_PML4 + 3 * PAGE_SIZE + (AT_DATA / PAGE_SIZE + 1) * 8;

	pku_mode(f);
	area_clear(f, 0);
	fx_set(f, AT_DATA + PKRU_AT, 0xffffffff00000030, 8);
	fx_set(f, AT_DATA + 512, XCR0_PKRU, 8);
	PK_RUN(f, pk_xrstor, 3, 0x14);
	assert_int_equal(f->c->pkru, 0x14);
	PK_RUN(f, pk_xrstor, XCR0_PKRU, 0x14);
	assert_int_equal(fx_vector(f), -1);
	assert_int_equal(f->c->pkru, 0x30);
	fx_set(f, AT_DATA + 512, 0, 8);
	PK_RUN(f, pk_xrstor, XCR0_PKRU, 0x14);
	assert_int_equal(f->c->pkru, 0);

	/* Compacted, behind an SSE component that takes no room there. */
	fx_set(f, AT_DATA + 512, XCR0_PKRU, 8);
	fx_set(f, AT_DATA + 520, BIT64(63) | XCR0_PKRU | 2, 8);
	fx_set(f, AT_DATA + 576, 0x50, 8);
	PK_RUN(f, pk_xrstors, XCR0_PKRU | 2, 0x14);
	assert_int_equal(fx_vector(f), -1);
	assert_int_equal(f->c->pkru, 0x50);

	/* Rights hold from the next access on, and back. */
	fx_set(f, leaf, (AT_DATA + PAGE_SIZE) | 7 | 1ull << 59, 8);
	area_clear(f, 0);
	fx_set(f, AT_DATA + PKRU_AT, 4, 8);
	fx_set(f, AT_DATA + 512, XCR0_PKRU, 8);
	PK_RUN(f, pk_rights, XCR0_PKRU, 0);
	assert_int_equal(fx_vector(f), X86_PF);
	assert_int_equal(frame(f, 0), 0x21);
	assert_int_equal(f->c->cr2, AT_DATA + PAGE_SIZE);
	fx_set(f, AT_DATA + 512, 0, 8);
	f->c->gpr[X86_RSP] = AT_STACK;
	PK_RUN(f, pk_xrstor, XCR0_PKRU, 4);
	assert_int_equal(fx_vector(f), -1);
	PK_RUN(f, pk_rights, XCR0_PKRU, 0);
	assert_int_equal(fx_vector(f), -1);

	/* A component that XCR0 leaves out is not to be named. */
	f->c->xcr0 = 3;
	fx_set(f, AT_DATA + 512, XCR0_PKRU, 8);
	PK_RUN(f, pk_xrstor, 3, 0x24);
	assert_int_equal(fx_vector(f), X86_GP);
	assert_int_equal(f->c->pkru, 0x24);
}

/* ---- SMM ---- */

/* SMI handler: real mode with big segments. Changes RAX in the save area, moves SMBASE, and
 * returns. */
GUEST(smm_code, 16,
      "mov %cs, %bx; mov %cr0, %esi; movl $0xafff8, %edi; movl $0x1234, %ds:(%edi); movl $0xafefc, "
      "%edi; movl %ds:(%edi), %edx\n"
      "movl %edx, %ds:0x5000; mov %bx, %ds:0x5004; movl %esi, %ds:0x5008; movl $0xaff00, %edi; "
      "movl $0x30000, %ds:(%edi); rsm");
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
	assert_int_equal(reg(f, X86_RAX),
			 0xffffffff00001234); /* the handler changed the lower half */
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

GUEST(ports, 64,
      "mov $0x3f8, %edx; mov $0x41, %al; out %al, %dx; in $0x60, %al; in %dx, %eax; hlt");

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_control_registers),
		T(test_pcid),
		T(test_sregs_valid),
		T(test_privilege),
		T(test_popf),
		T(test_single_step),
		T(test_sti_shadow),
		T(test_hlt_and_nmi),
		T(test_cr8),
		T(test_debug_registers),
		T(test_lar_lsl),
		T(test_arpl),
		T(test_tables),
		T(test_bases),
		T(test_smap),
		T(test_msr_values),
		T(test_msr_list),
		T(test_tsc),
		T(test_cpuid),
		T_AMD(test_cpuid),
		T(test_pkru_saved),
		T(test_pkru_restored),
		T(test_smm),
		T(test_smm_bad),
		T(test_smm_32),
		T(test_ports),
		T(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
