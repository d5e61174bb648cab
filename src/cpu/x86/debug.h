/* SPDX-License-Identifier: MIT */
/*
 * Debug registers at work: the guest's own, or those of a VMM that debugs the guest in their place.
 *
 * Source: SDM vol. 3 "Debug Registers", "Debug Exceptions"; KVM's API for what a VMM is told.
 */
#ifndef AV_CPU_X86_DEBUG_H
#define AV_CPU_X86_DEBUG_H

#include "cpu/x86/x86.h"

struct x86_insn;

/* cpu->guest_debug: KVM_GUESTDBG_*. */
#define X86_GUESTDBG_STEP     BIT(1)
#define X86_GUESTDBG_SW_BP    BIT(16)
#define X86_GUESTDBG_HW_BP    BIT(17)
#define X86_GUESTDBG_BLOCKIRQ BIT(20)

#define X86_DR6_BD BIT(13) /* a debug register was touched under DR7.GD */
#define X86_DR6_BS BIT(14) /* single step */
#define X86_DR6_BT BIT(15) /* the T bit of a TSS */
#define X86_DR7_GD BIT(13)
#define X86_DR7_ON 0xffu /* any breakpoint enabled, locally or globally */

/* DR7 as it is in force: the VMM's breakpoints replace the guest's. */
static inline u64 x86_dr7(const struct x86_cpu *c)
{
	return unlikely(c->guest_debug & X86_GUESTDBG_HW_BP) ? c->guest_dr7 : c->dr7;
}

/* Are there data or I/O breakpoints, so that every access must be looked at? */
bool x86_watch_armed(const struct x86_cpu *c);
static inline bool x86_watching(const struct x86_cpu *c)
{
	return unlikely(x86_dr7(c) & X86_DR7_ON) && x86_watch_armed(c);
}
/* An access was made: remembers the breakpoints it hit until the instruction is through. */
void x86_watch(struct x86_cpu *c, u64 la, u32 size, bool write);
void x86_watch_port(struct x86_cpu *c, u16 port, u32 size);

/* Would the VMM rather have a #DB than the guest? */
static inline bool x86_db_intercepted(const struct x86_cpu *c)
{
	return unlikely(c->guest_debug & (X86_GUESTDBG_STEP | X86_GUESTDBG_HW_BP));
}
/* Fills cpu->exit for a #DB at rip with these DR6 bits. */
void x86_debug_exit(struct x86_cpu *c, u64 rip, u64 dr6_bits);

/* Must instructions be executed by x86_step()? */
static inline bool x86_careful(const struct x86_cpu *c)
{
	return (c->rflags & (X86_FLAG_TF | X86_FLAG_RF)) || (c->dr7 & X86_DR7_ON) ||
	       c->guest_debug || c->db.hits;
}
/* Executes i, at cpu->rip, with everything that the fast loop leaves out. Returns true to leave
 * with *why. */
bool x86_step(struct x86_cpu *c, const struct x86_insn *i, enum x86_exit_reason *why);

#endif
