// SPDX-License-Identifier: MIT
/*
 * Debug registers, single-stepping and the VMM's own breakpoints, by guest code.
 */
#include "cpu/x86/debug.h"
#include "sys_fixture.h"

#define WRITE1 (0x1ull << 16)
#define RW1    (0x3ull << 16)
#define IO1    (0x2ull << 16)
#define LEN2   (0x1ull << 18)
#define LEN8   (0x2ull << 18)
#define LEN4   (0x3ull << 18)
#define ON     0x401ull

static void arm(struct fx *f, u64 la, u64 dr7)
{
	f->c->dr[0] = la;
	f->c->dr7 = dr7;
	f->c->dr6 = 0xffff0ff0;
	x86_state_changed(f->c, false);
}

/* ---- data breakpoints of the guest ---- */

GUEST(store_1, 64, "mov $0x60002, %edi; movb $5, (%rdi); inc %ecx; hlt");
GUEST(load_1, 64, "mov $0x60002, %edi; movzbl (%rdi), %eax; inc %ecx; hlt");
GUEST(store_8, 64, "mov $0x5ffff, %edi; mov %rdi, (%rdi); inc %ecx; hlt");
GUEST(rmw_4, 64, "mov $0x60000, %edi; lock incl (%rdi); inc %ecx; hlt");
GUEST(push_8, 64, "push %rax; inc %ecx; hlt");
GUEST(sse_16, 64, "mov $0x5fff0, %edi; movups %xmm0, 2(%rdi); inc %ecx; hlt");

/* name: traps with RIP behind the access (at off), or runs to its end. */
#define HITS(f, name, la, dr7, off)                                                                \
	do {                                                                                       \
		fx_long(f, 0);                                                                     \
		f->c->cr4 |= X86_CR4_OSFXSR;                                                       \
		arm(f, la, dr7);                                                                   \
		f->c->gpr[X86_RCX] = 0;                                                            \
		EXPECT_VECTOR(f, name, X86_DB);                                                    \
		assert_int_equal(frame(f, 0), AT_CODE + (off));                                    \
		assert_int_equal(frame(f, 2) & X86_FLAG_RF, 0);                                    \
		assert_int_equal(f->c->dr6, 0xffff0ff1);                                           \
		assert_int_equal(reg(f, X86_RCX), 0);                                              \
	} while (0)
#define MISSES(f, name, la, dr7)                                                                   \
	do {                                                                                       \
		fx_long(f, 0);                                                                     \
		f->c->cr4 |= X86_CR4_OSFXSR;                                                       \
		arm(f, la, dr7);                                                                   \
		EXPECT_VECTOR(f, name, -1);                                                        \
		assert_int_equal(f->c->dr6, 0xffff0ff0);                                           \
	} while (0)

static void test_data(void **state)
{
	struct fx *f = *state;

	HITS(f, store_1, AT_DATA + 2, ON | WRITE1, 8);
	assert_int_equal(fx_get(f, AT_DATA + 2, 1), 5);	      /* a trap: the store was made */
	HITS(f, store_1, AT_DATA + 3, ON | WRITE1 | LEN2, 8); /* DR0 counts as aligned */
	HITS(f, store_1, AT_DATA, ON | RW1 | LEN4, 8);
	HITS(f, load_1, AT_DATA, ON | RW1 | LEN8, 8);
	MISSES(f, load_1, AT_DATA, ON | WRITE1 | LEN8);
	MISSES(f, store_1, AT_DATA + 1, ON | WRITE1);
	MISSES(f, store_1, AT_DATA + 4, ON | WRITE1 | LEN4);
	MISSES(f, store_1, AT_DATA + 2, 0x400 | WRITE1);
	HITS(f, store_8, AT_DATA + 6, ON | WRITE1, 8); /* over a page border */
	MISSES(f, store_8, AT_DATA + 7, ON | WRITE1);
	HITS(f, rmw_4, AT_DATA + 3, ON | WRITE1, 8);
	HITS(f, push_8, AT_STACK - 8, ON | WRITE1 | LEN8, 1);
	HITS(f, sse_16, AT_DATA, ON | WRITE1, 9);
}

/* Switched on by the guest, in the middle of code that ran before. */
GUEST(arm_by_code, 64,
      "mov $0x60000, %edi; mov %rdi, %db3; mov $0xd00000c0, %eax\n"
      "1: movl $1, (%rdi); mov %rax, %db7; movl $2, (%rdi); nop; hlt");

static void test_armed_by_guest(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	EXPECT_VECTOR(f, arm_by_code, X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 28);
	assert_int_equal(f->c->dr6, 0xffff0ff8);
	assert_int_equal(fx_get(f, AT_DATA, 4), 2);
}

/* Each element of a repeated string instruction is looked at; the frame's RF says that it goes on.
 */
GUEST(rep_stos, 64, "mov $0x5fffc, %edi; mov $8, %ecx; rep stosb; hlt");

static void test_rep(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	arm(f, AT_DATA + 1, ON | WRITE1);
	EXPECT_VECTOR(f, rep_stos, X86_DB);
	assert_int_equal(reg(f, X86_RCX), 2);
	assert_int_equal(reg(f, X86_RDI), AT_DATA + 2);
	assert_int_equal(frame(f, 0), AT_CODE + 10);
	assert_int_equal(frame(f, 2) & X86_FLAG_RF, X86_FLAG_RF);
	/* The last element: behind the instruction, without RF. */
	fx_long(f, 0);
	arm(f, AT_DATA + 3, ON | WRITE1);
	EXPECT_VECTOR(f, rep_stos, X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 12);
	assert_int_equal(frame(f, 2) & X86_FLAG_RF, 0);
}

/* A fault is not a hit, and what an instruction touched before its fault is forgotten. */
GUEST(hit_then_fault, 64, "mov $0x60000, %esi; mov $0x90000, %edi; movsb; hlt");

static void test_fault(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	arm(f, AT_DATA, ON | RW1);
	EXPECT_VECTOR(f, hit_then_fault, X86_PF);
	assert_int_equal(f->c->dr6, 0xffff0ff0);
}

/* Behind a load of SS a breakpoint waits for one more instruction. */
GUEST(ss_load, 64, "mov $0x60000, %edi; mov (%rdi), %ss; inc %ecx; inc %ecx; hlt");

static void test_ss(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	fx_set(f, AT_DATA, SEL_DATA32, 2);
	arm(f, AT_DATA, ON | RW1);
	f->c->gpr[X86_RCX] = 0;
	EXPECT_VECTOR(f, ss_load, X86_DB);
	assert_int_equal(reg(f, X86_RCX), 1);
	assert_int_equal(f->c->dr6, 0xffff0ff1);
	/* The same for an instruction breakpoint on the next one, which is lost, and for the trap
	 * flag. */
	fx_long(f, 0);
	fx_set(f, AT_DATA, SEL_DATA32, 2);
	arm(f, AT_CODE + 7, ON);
	EXPECT_VECTOR(f, ss_load, -1);
	fx_long(f, 0);
	fx_set(f, AT_DATA, SEL_DATA32, 2);
	f->c->gpr[X86_RCX] = 0;
	f->c->rip = AT_CODE + 5;
	fx_put(f, AT_CODE, ss_load, 14);
	x86_set_rflags(f->c, X86_FLAG_TF);
	x86_state_changed(f->c, false);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 9);
}

/* ---- ports ---- */

GUEST(port_in, 64, "mov $0x71, %edx; in %dx, %al; inc %ecx; hlt");
GUEST(port_outw, 64, "mov $0x70, %edx; out %ax, %dx; inc %ecx; hlt");

static void test_ports(void **state)
{
	struct fx *f = *state;

	for (u32 de = 0; de < 2; de++) {
		fx_long(f, 0);
		f->toy.answer = MACHINE_DONE;
		f->c->cr4 |= de ? X86_CR4_DE : 0;
		f->c->gpr[X86_RCX] = 0;
		arm(f, 0x71, ON | IO1);
		EXPECT_VECTOR(f, port_in, de ? X86_DB : -1);
		assert_int_equal(reg(f, X86_RCX), !de);
		if (de)
			assert_int_equal(frame(f, 0), AT_CODE + 6);
	}
	EXPECT_VECTOR(f, port_outw, X86_DB);
	f->c->dr[0] = 0x72;
	f->c->dr6 = 0xffff0ff0;
	EXPECT_VECTOR(f, port_outw, -1);
	/* A port that the VMM keeps: the instruction is executed twice, and traps once, after the
	 * second time. */
	fx_long(f, 0);
	f->c->cr4 |= X86_CR4_DE;
	f->toy.answer = MACHINE_USER;
	f->c->pio_data = f->toy.ram + AT_DATA;
	arm(f, 0x71, ON | IO1);
	assert_int_equal(FX_RUN(f, port_in), X86_EXIT_IO);
	assert_int_equal(f->c->rip, AT_CODE + 5);
	x86_complete_io(f->c);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE + 6);
}

/* ---- single step ---- */

GUEST(step_int, 64, "int $0x80");
GUEST(step_loop, 64, "1: dec %ecx; jnz 1b; hlt");

static void tf(struct fx *f, const u8 *code, u64 len)
{
	fx_put(f, AT_CODE, code, len);
	x86_code_io_epoch(f->code);
	x86_set_rflags(f->c, X86_FLAG_TF);
	x86_state_changed(f->c, false);
}

static void test_step(void **state)
{
	struct fx *f = *state;

	/* A software interrupt clears TF, so nothing is left to trap. */
	fx_long(f, 0);
	fx_gate(f, 0x80, 0, 0);
	tf(f, step_int, 2);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), 0x80);
	/* Branches only, with BTF; a trap clears it. */
	fx_long(f, 0);
	f->c->msr.debugctl = BIT(1);
	f->c->gpr[X86_RCX] = 5;
	tf(f, step_loop, 5);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), X86_DB);
	assert_int_equal(frame(f, 0), AT_CODE);
	assert_int_equal(f->c->dr6, 0xffff4ff0);
	assert_int_equal(reg(f, X86_RCX), 4);
	assert_int_equal(f->c->msr.debugctl & BIT(1), 0);
	/* REP: one element each. */
	fx_long(f, 0);
	f->c->gpr[X86_RCX] = 5;
	f->c->gpr[X86_RDI] = AT_DATA;
	tf(f, (const u8 *)"\xf3\xaa\xf4", 3);
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), X86_DB);
	assert_int_equal(reg(f, X86_RCX), 4);
	assert_int_equal(frame(f, 0), AT_CODE);
}

/* ---- the VMM's breakpoints ---- */

GUEST(several, 64, "mov $0x60000, %edi; mov %edi, (%rdi); nop; int1; mov %db0, %rax; hlt");

static void test_vmm(void **state)
{
	struct fx *f = *state;

	fx_long(f, 0);
	f->c->guest_debug = BIT(0) | X86_GUESTDBG_HW_BP;
	f->c->guest_dr[2] = AT_DATA;
	f->c->guest_dr7 = 0x400 | BIT(4) | 0x0d000000;
	f->c->dr[0] = AT_CODE + 7; /* the guest's own are out of force */
	f->c->dr7 = ON;
	x86_state_changed(f->c, false);
	assert_int_equal(FX_RUN(f, several), X86_EXIT_DEBUG);
	assert_int_equal(f->c->exit.debug.vector, X86_DB);
	assert_int_equal(f->c->exit.debug.pc, AT_CODE + 7);
	assert_int_equal(f->c->exit.debug.dr6, 0xffff0ff4);
	assert_int_equal(f->c->rip, AT_CODE + 7);
	assert_int_equal(f->c->dr6, 0xffff0ff0); /* the guest does not see it */
	/* ICEBP is a #DB and goes to the VMM as well. */
	assert_int_equal(fx_run(f), X86_EXIT_DEBUG);
	assert_int_equal(f->c->exit.debug.pc, AT_CODE + 8);
	assert_int_equal(f->c->exit.debug.dr6, 0xffff0ff0);
	f->c->rip++;
	f->c->guest_dr7 = 0x400 | X86_DR7_GD;
	x86_state_changed(f->c, false);
	assert_int_equal(fx_run(f), X86_EXIT_DEBUG);
	assert_int_equal(f->c->exit.debug.pc, AT_CODE + 9);
	assert_int_equal(f->c->exit.debug.dr6, 0xffff2ff0);
	assert_int_equal(f->c->exit.debug.dr7, 0x400 | X86_DR7_GD);
	/* Stepping blocks no interrupt, unless the VMM wants it. */
	f->c->guest_debug = BIT(0) | X86_GUESTDBG_STEP | X86_GUESTDBG_BLOCKIRQ;
	f->c->guest_dr7 = 0;
	f->c->dr7 = 0x400;
	f->toy.irq = 0x31;
	f->c->rflags |= X86_FLAG_IF;
	x86_irq_hint(f->c);
	x86_state_changed(f->c, false);
	f->c->rip = AT_CODE + 7;
	assert_int_equal(fx_run(f), X86_EXIT_DEBUG);
	assert_int_equal(f->c->exit.debug.pc, AT_CODE + 8);
	assert_int_equal(f->c->exit.debug.dr6, 0xffff4ff0);
	assert_int_equal(f->toy.irq, 0x31);
	f->c->guest_debug = 0;
	x86_state_changed(f->c, false);
	f->c->rip = AT_CODE + 7;
	assert_int_equal(fx_run(f), X86_EXIT_HLT);
	assert_int_equal(fx_vector(f), 0x31);
	f->c->guest_debug = f->c->guest_dr7 = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_data), T(test_armed_by_guest), T(test_rep),  T(test_fault),
		T(test_ss),   T(test_ports),	      T(test_step), T(test_vmm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
