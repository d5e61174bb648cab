/* SPDX-License-Identifier: MIT */
/*
 * Exceptions: raising them from anywhere in an instruction, and delivering events through the IDT.
 *
 * Raising is a long jump to the run loop with RIP at cpu->insn. Source: SDM vol. 3 "Interrupt and
 * Exception Handling".
 */
#ifndef AV_CPU_X86_EXCEPT_H
#define AV_CPU_X86_EXCEPT_H

#include "cpu/x86/x86.h"

struct x86_insn;

void __noreturn x86_raise(struct x86_cpu *c, u8 vector);
void __noreturn x86_raise_err(struct x86_cpu *c, u8 vector, u32 error);
/* Sets CR2 on delivery. */
void __noreturn x86_raise_pf(struct x86_cpu *c, u64 la, u32 error);
/* #DB with DR6 bits. Traps are raised by the run loop after the instruction, faults by the fetch.
 */
void __noreturn x86_raise_db(struct x86_cpu *c, u64 dr6_bits);
#define x86_gp(c, e) x86_raise_err(c, X86_GP, (e))

/*
 * Architectural rule: when cond holds, raise. The text of the rule is kept and logged at debug
 * level, so that a fault explains itself (ANYVISOR_LOG=...:debug).
 */
#define X86_RULE(c, cond, vector, error, text)                                                     \
	do {                                                                                       \
		if (unlikely(cond)) {                                                              \
			x86_rule_text = text;                                                      \
			x86_raise_err(c, vector, error);                                           \
		}                                                                                  \
	} while (0)
/* initial-exec: the general model would call into ld.so, which may use SIMD registers. */
extern __thread const char *x86_rule_text __attribute__((tls_model("initial-exec")));

/*
 * Delivers an event at cpu->rip. For software interrupts and exceptions next_rip is what is pushed;
 * else the current RIP. May itself raise; the run loop turns that into #DF or shutdown
 * (x86_fault_merge). On success cpu->rip is the handler.
 */
void x86_deliver(struct x86_cpu *c, enum x86_event_type type, u8 vector, bool has_error, u32 error,
		 u64 next_rip);
/*
 * The run loop caught c->fault: decides between it, #DF and shutdown by what was being delivered
 * (SDM table "Conditions for Generating a Double Fault"). Returns false: triple fault.
 */
bool x86_fault_merge(struct x86_cpu *c);

/* A hardware task switch was asked for: leaves with X86_EXIT_INTERNAL_ERROR, as this engine has
 * none. */
void __noreturn x86_task_switch(struct x86_cpu *c);

/* op_far.c: IRET, IRETD and IRETQ by i->opsize. */
const struct x86_insn *x86_iret(struct x86_cpu *c, const struct x86_insn *i);
/* smm.c */
const struct x86_insn *x86_op_rsm(struct x86_cpu *c, const struct x86_insn *i);
/*
 * op_far.c: SYSCALL, whose single-step trap depends on TF after the instruction rather than before
 * it: FMASK usually clears it, and a #DB on the kernel's first instruction, still on the user's
 * stack, must not happen.
 */
const struct x86_insn *x86_op_syscall(struct x86_cpu *c, const struct x86_insn *i);

#endif
