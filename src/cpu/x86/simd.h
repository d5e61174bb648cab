/* SPDX-License-Identifier: MIT */
/*
 * The guest's x87, MMX, SSE and AVX state, and native execution of instructions the host has.
 *
 * Residency: while cpu->simd_live, the guest's state is in the host's registers, and only code built with
 * -mgeneral-regs-only may run. x86_door() spills before foreign code. In sanitizer builds (AV_SIMD_EAGER) state is loaded
 * and spilled around every stub, as instrumentation uses SIMD registers.
 *
 * Native stubs: for an instruction without a C handler, a few host instructions that load the general registers it reads and the flags, execute it
 * with its memory operand replaced by [pointer], and store what it wrote. Stubs are shared by encoding and live as long as the VM.
 */
#ifndef AV_CPU_X86_SIMD_H
#define AV_CPU_X86_SIMD_H

#include "cpu/x86/insn.h"

/* Makes the guest's state resident / writes it back. Idempotent. */
void x86_simd_load(struct x86_cpu *c);
/* (x86_simd_spill: x86.h) */

/* Before calling anything outside the engine: libc, Zydis, the machine. */
static inline void x86_door(struct x86_cpu *c)
{
	if (unlikely(c->simd_live))
		x86_simd_spill(c);
}

/*
 * Chooses a stub for d and sets i->fn, i->stub and the access size and kind in i->opsize/cond/spare. false: not a user-mode instruction we can run
 * natively. Called by x86_decode() under the code cache's lock.
 */
bool x86_native_bind(const struct x86_decoded *d, struct x86_insn *i);

int x86_native_create(struct x86_code *code);
void x86_native_destroy(struct x86_code *code);

/* #UD/#NM checks for an instruction of that family under the current CR0, CR4, XCR0. */
enum x86_simd_kind { X86_KIND_INT, X86_KIND_X87, X86_KIND_MMX, X86_KIND_SSE, X86_KIND_AVX, X86_KIND_AVX512, X86_KIND_FWAIT };
void x86_simd_check(struct x86_cpu *c, enum x86_simd_kind kind);

/* FNINIT/XRSTOR-init state into c->xsave, for reset. */
void x86_simd_reset(struct x86_cpu *c);
int x86_simd_create(struct x86_cpu *c);
void x86_simd_destroy(struct x86_cpu *c);

#endif
