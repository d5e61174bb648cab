/* SPDX-License-Identifier: MIT */
/*
 * The run loop's inside: what other engine files need of it.
 */
#ifndef AV_CPU_X86_RUN_H
#define AV_CPU_X86_RUN_H

#include "cpu/x86/x86.h"

/* The CPU that this thread runs, or NULL. Read by the signal handler. */
extern __thread struct x86_cpu *x86_current __attribute__((tls_model("initial-exec")));

/* io.c: takes the next queued device write into cpu->exit. Returns false when there is none. */
bool x86_io_drain(struct x86_cpu *c, enum x86_exit_reason *why);

/* A read that the VMM answered belongs to the instruction at rip: nothing may come before it, or the answer is lost. */
bool x86_io_unfinished(const struct x86_cpu *c);

/* smm.c: enters SMM at the current instruction boundary. */
void x86_smi(struct x86_cpu *c);

#endif
