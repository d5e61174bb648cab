/* SPDX-License-Identifier: MIT */
/*
 * The bare host CPU as an oracle: executes one instruction on a given state, outside any engine
 * code.
 *
 * Everything lies below 2 GiB, so that the same memory serves 64-bit code and, through a
 * compatibility-mode segment, 32-bit code.
 */
#ifndef TESTS_NATIVE_ORACLE_H
#define TESTS_NATIVE_ORACLE_H

#include "base/base.h"

#define ORACLE_XSAVE_MAX 4096
#define ARENA_PAGES	 4 /* the first and the last are inaccessible */

struct oracle_state {
	u8 xs[ORACLE_XSAVE_MAX] __attribute__((aligned(64)));
	u64 gpr[16];
	u64 flags;
};

struct oracle {
	struct oracle_state in, out;
	u64 save_rsp;
	u32 host_mxcsr;
	struct {
		u32 off;
		u16 cs;
	} __attribute__((packed)) far;
	int trap; /* -1: none; else the host's trap number */
	u64 fault_address;
};

extern struct oracle *oracle;
extern u8 *arena; /* ARENA_PAGES pages */

void oracle_init(u64 xcr0);
/* Runs the instruction with oracle->in, in code of 4 or 8 bytes; results in oracle->out, trap and
 * fault_address. */
void oracle_run(const u8 *insn, u32 len, u32 bits);
/* For the signal handler: was the fault the oracle's? */
bool oracle_signal(int sig, void *siginfo, void *ucontext);

#endif
