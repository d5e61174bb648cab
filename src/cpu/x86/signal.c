// SPDX-License-Identifier: MIT
/*
 * Faults of the host CPU while it works for the guest: exceptions in native stubs become the
 * guest's, missing guest memory becomes X86_EXIT_EFAULT.
 *
 * Engine file, async-signal-safe: the handler only edits the interrupted context, so that the
 * thread goes on in recover(), on the run loop's stack, with the guest's SIMD state as it was at
 * the fault. Nothing of the faulting instruction is committed: stubs write guest registers last,
 * and handlers access memory before they change anything. What cannot be so is in cpu->undo.
 *
 * Only faults in the engine, in stubs and in blocks are taken: they hold no lock. Whoever touches
 * guest memory elsewhere does it by base/guard.h.
 */
#include "cpu/x86/simd.h"
#include "cpu/x86/code.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/tb_runtime.h"

#include <signal.h>
#include <ucontext.h>

/* Bounds of the engine's code, made by the linker (engine.lds). */
extern const char __start_x86_engine[] __attribute__((visibility("hidden")));
extern const char __stop_x86_engine[] __attribute__((visibility("hidden")));

/* Trap numbers of the host (REG_TRAPNO) that are no exception the guest can have here. */
#define TRAP_PAGE_FAULT	   14
#define TRAP_MACHINE_CHECK 18

/* Where a bad pointer of our own would point; guest memory never lies there. */
#define LOWEST_GUEST_ADDRESS 0x10000

enum { CAUSE_EFAULT = 0x100 }; /* else a vector */

/* Without memory: what the instruction has begun is taken back. */
static void __noreturn no_memory(struct x86_cpu *c, u64 address)
{
	x86_door(c);
	if (!c->ops->gpa_of(c->m, address, c->smm, &c->exit.gpa))
		c->exit.gpa = ~0ull;
	if (c->undo.smm_trial) {
		c->undo.smm_trial = false;
		c->smm = c->undo.smm;
		x86_request(c, X86_REQ_EVENT);
	}
	if (c->undo.world_stopped) {
		c->undo.world_stopped = false;
		c->ops->world_resume(c->m);
	}
	x86_leave(c, X86_EXIT_EFAULT);
}

static void __noreturn __attribute__((used)) recover(struct x86_cpu *c, u64 cause, u64 address)
{
#ifdef AV_SIMD_EAGER
	x86_simd_spill(c);
#endif
	switch (cause) {
	case CAUSE_EFAULT:
		no_memory(c, address);
	case X86_XM:
		x86_raise(c, c->cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD);
	case X86_GP:
	case X86_SS_FAULT:
	case X86_AC:
		x86_raise_err(c, (u8)cause, 0);
	default:
		/* #MF whatever CR0.NE says: under KVM on VMX the bit is always set in hardware,
		 * too. */
		x86_raise(c, (u8)cause);
	}
}

/* A fault in a block: puts the guest's state where C finds it (tb.h). false: no guest instruction
 * faults there. */
static bool take_block_state(struct x86_cpu *c, const greg_t *r)
{
	static const struct {
		u8 guest, host;
	} homes[] = {
		{X86_RAX, REG_R9},  {X86_RCX, REG_R10}, {X86_RDX, REG_RDX}, {X86_RBX, REG_RBX},
		{X86_RSP, REG_R11}, {X86_RBP, REG_RBP}, {X86_RSI, REG_RSI}, {X86_RDI, REG_RDI},
		{X86_R8, REG_R8},   {X86_R12, REG_R12}, {X86_R13, REG_R13}, {X86_R14, REG_R14},
		{X86_R15, REG_R15},
	};
	const struct x86_tb_map *m = x86_tb_find(c->code, (u64)r[REG_RIP]);
	u64 flags = (u64)r[REG_EFL];

	if (!m)
		return false;
	for (u32 n = 0; n < ARRAY_SIZE(homes); n++)
		c->gpr[homes[n].guest] = (u64)r[homes[n].host];
	if (m->flags_host)
		c->aflags =
			(u16)((flags & (X86_FLAGS_ARITH & 0xff)) << 8 | !!(flags & X86_FLAG_OF));
	c->insn = x86_arena_at(c->code, m->insn);
	return true;
}

static bool own_code(u64 pc)
{
	return pc >= (u64)__start_x86_engine && pc < (u64)__stop_x86_engine;
}

/* What a fault at pc means for the guest. false: nothing, it is somebody else's. */
static bool find_cause(const struct x86_cpu *c, int sig, u64 pc, u64 trap, u64 address, u64 *cause)
{
	bool memory = (sig == SIGSEGV || sig == SIGBUS) &&
		      (trap == TRAP_PAGE_FAULT || trap == TRAP_MACHINE_CHECK);

	if (memory && address < LOWEST_GUEST_ADDRESS)
		return false;
	if (x86_code_owns_pc(c->code, pc) || x86_tb_owns_pc(c->code, pc)) {
		switch (trap) {
		case X86_DE:
		case X86_UD:
		case X86_SS_FAULT:
		case X86_GP:
		case X86_MF:
		case X86_AC:
		case X86_XM:
			*cause = trap;
			return true;
		default:
			*cause = CAUSE_EFAULT;
			return memory;
		}
	}
	*cause = CAUSE_EFAULT;
	return memory && own_code(pc);
}

bool x86_signal(int sig, void *siginfo, void *ucontext)
{
	struct x86_cpu *c = x86_current;
	const siginfo_t *si = siginfo;
	greg_t *r = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
	u64 cause;

	/* si_code <= 0: sent by somebody, not caused by an instruction. */
	if (!c || si->si_code <= 0)
		return false;
	if (!find_cause(c, sig, (u64)r[REG_RIP], (u64)r[REG_TRAPNO], (u64)si->si_addr, &cause))
		return false;
	if (x86_tb_owns_pc(c->code, (u64)r[REG_RIP]) && !take_block_state(c, r))
		return false;
	r[REG_RDI] = (greg_t)c;
	r[REG_RSI] = (greg_t)cause;
	r[REG_RDX] = (greg_t)si->si_addr;
	r[REG_RIP] = (greg_t)recover;
	/* Below what the interrupted code may use under its stack pointer, aligned as after a call.
	 */
	r[REG_RSP] = (greg_t)((((u64)r[REG_RSP] - 256) & ~15ull) - 8);
	r[REG_EFL] &= ~(greg_t)(X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_RF | X86_FLAG_AC);
	return true;
}
