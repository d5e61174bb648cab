/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files that bind native stubs: what may run, how it is re-encoded, what the stub
 * looks like.
 */
#ifndef AV_CPU_X86_NATIVE_PRIV_H
#define AV_CPU_X86_NATIVE_PRIV_H

#include "cpu/x86/simd.h"

enum x86_isa_verdict {
	X86_ISA_REFUSED, /* not for stubs: privileged, touches more than registers and one operand,
			    unknown */
	X86_ISA_ABSENT,	 /* the host does not have it, or no guest of ours is told of it: #UD */
	X86_ISA_NOP,	 /* a hint that may be ignored */
	X86_ISA_RUN,
};
/* May the host execute it for the guest, and under which checks? */
enum x86_isa_verdict x86_native_isa(const struct x86_decoded *d, enum x86_simd_kind *kind);

/* An instruction made ready for a stub. */
struct x86_recoded {
	u8 bytes[15];
	u8 len;
	u8 subst; /* host register that stands for guest RSP; 0xff: none */
	u8 ptr;	  /* host register that holds the operand's address; 0xff: no memory operand */
	u8 cpu;	  /* host register that holds the CPU */
	bool flags_in, flags_out;
	u16 reads, writes; /* guest general registers, a bit each; reads includes writes, which may
			      be partial */
	const ZydisDecodedOperand *mem;
	bool implicit; /* MASKMOVQ and its like: the operand is [rDI] without being encoded */
};
/* Registers, re-encoding and its proof by decoding again. false: cannot be done. */
bool x86_recode(const struct x86_decoded *d, struct x86_recoded *r);

#endif
