// SPDX-License-Identifier: MIT
/*
 * What the instruction fuzzer does not compare, and why. The only place for exceptions.
 */
#include "insn.h"

/* What may differ, and the reason. */
static const struct {
	u16 mnemonic;
	u8 what; /* enum tolerated */
	const char *why;
} rows[] = {
	/* Two runs of the same hardware differ. */
	{ZYDIS_MNEMONIC_RDTSC, T_ALL, "time"},
	{ZYDIS_MNEMONIC_RDTSCP, T_ALL, "time"},
	{ZYDIS_MNEMONIC_RDPRU, T_ALL, "time"},
	{ZYDIS_MNEMONIC_RDRAND, T_ALL, "random"},
	{ZYDIS_MNEMONIC_RDSEED, T_ALL, "random"},
	{ZYDIS_MNEMONIC_RDPID, T_ALL, "the CPU's number"},
	{ZYDIS_MNEMONIC_RDPMC, T_ALL, "counters"},
	{ZYDIS_MNEMONIC_XGETBV, T_ALL, "XINUSE moves with the host's context switches"},
	{ZYDIS_MNEMONIC_CPUID, T_ALL, "tests/unit/test_sysinsn.c, tests/api/test_cpuid.c"},

	/* The host's kernel or hypervisor is seen, not the CPU. */
	{ZYDIS_MNEMONIC_SGDT, T_ALL, "the kernel answers (UMIP)"},
	{ZYDIS_MNEMONIC_SIDT, T_ALL, "the kernel answers (UMIP)"},
	{ZYDIS_MNEMONIC_SMSW, T_ALL, "the kernel answers (UMIP)"},
	{ZYDIS_MNEMONIC_SLDT, T_ALL, "the kernel answers (UMIP)"},
	{ZYDIS_MNEMONIC_STR, T_ALL, "the kernel answers (UMIP)"},
	{ZYDIS_MNEMONIC_LAR, T_ALL, "the kernel's descriptor tables"},
	{ZYDIS_MNEMONIC_LSL, T_ALL, "the kernel's descriptor tables"},
	{ZYDIS_MNEMONIC_VERR, T_ALL, "the kernel's descriptor tables"},
	{ZYDIS_MNEMONIC_VERW, T_ALL, "the kernel's descriptor tables"},
	{ZYDIS_MNEMONIC_RDGSBASE, T_ALL, "the process's GS"},
	{ZYDIS_MNEMONIC_INT1, T_ALL,
	 "KVM on AMD injects the intercepted #DB again at the instruction, not behind it"},
	{ZYDIS_MNEMONIC_VMRUN, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_VMLOAD, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_VMSAVE, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_STGI, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_CLGI, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_SKINIT, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_INVLPGA, T_ALL, "#UD or #GP by EFER.SVME, which KVM sets for every guest"},
	{ZYDIS_MNEMONIC_PVALIDATE, T_ALL, "#UD or #GP by what the hypervisor hides of SEV"},
	{ZYDIS_MNEMONIC_RMPADJUST, T_ALL, "#UD or #GP by what the hypervisor hides of SEV"},
	{ZYDIS_MNEMONIC_RMPUPDATE, T_ALL, "#UD or #GP by what the hypervisor hides of SEV"},
	{ZYDIS_MNEMONIC_PSMASH, T_ALL, "#UD or #GP by what the hypervisor hides of SEV"},
	{ZYDIS_MNEMONIC_MOVDIRI, T_ALL,
	 "hypervisors hide the CPUID bit of what the CPU still executes"},
	{ZYDIS_MNEMONIC_MOVDIR64B, T_ALL,
	 "hypervisors hide the CPUID bit of what the CPU still executes"},

	/* Vendors differ; the engine does as the other one. */
	{ZYDIS_MNEMONIC_UD0, T_ALL,
	 "length: with ModRM on Intel, without on AMD (APM vol. 3, UD0)"},
	{ZYDIS_MNEMONIC_UD1, T_ALL,
	 "length: with ModRM on Intel, without on AMD (APM vol. 3, UD1)"},
	{ZYDIS_MNEMONIC_VMREAD, T_ALL,
	 "length: not an instruction on AMD, and decoded with an immediate"},
	{ZYDIS_MNEMONIC_VMWRITE, T_ALL,
	 "length: not an instruction on AMD, and decoded with an immediate"},

	/* Compared with hardware by tests/unit/test_simd_state.c, which knows what an image may
	   differ in. */
	{ZYDIS_MNEMONIC_XSAVE, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XSAVE64, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XSAVEC, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XSAVEC64, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XSAVEOPT, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XSAVEOPT64, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XRSTOR, T_ALL, "image"},
	{ZYDIS_MNEMONIC_XRSTOR64, T_ALL, "image"},
	{ZYDIS_MNEMONIC_FXSAVE, T_ALL, "image"},
	{ZYDIS_MNEMONIC_FXSAVE64, T_ALL, "image"},
	{ZYDIS_MNEMONIC_FNSTENV, T_ALL, "image"},
	{ZYDIS_MNEMONIC_FNSAVE, T_ALL, "image"},

	/* What a faulting instruction has done by then is the implementation's business. */
	{ZYDIS_MNEMONIC_ENTER, T_FAULT_MEMORY,
	 "pushes before the fault (SDM vol. 2, ENTER: no order is given)"},
	{ZYDIS_MNEMONIC_PUSHA, T_FAULT_MEMORY, "pushes before the fault"},
	{ZYDIS_MNEMONIC_PUSHAD, T_FAULT_MEMORY, "pushes before the fault"},
	{ZYDIS_MNEMONIC_POPA, T_PARTIAL,
	 "registers loaded before the fault: the stack pointer is as before, so it restarts"},
	{ZYDIS_MNEMONIC_POPAD, T_PARTIAL,
	 "registers loaded before the fault: the stack pointer is as before, so it restarts"},
	{ZYDIS_MNEMONIC_MASKMOVQ, T_FAULT,
	 "masked bytes may fault (SDM vol. 2, MASKMOVQ: implementation dependent)"},
	{ZYDIS_MNEMONIC_MASKMOVDQU, T_FAULT, "masked bytes may fault (SDM vol. 2, MASKMOVDQU)"},
	{ZYDIS_MNEMONIC_VMASKMOVDQU, T_FAULT, "masked bytes may fault (SDM vol. 2, MASKMOVDQU)"},
	{ZYDIS_MNEMONIC_FLDENV, T_CR2, "which field is read first"},
	{ZYDIS_MNEMONIC_FRSTOR, T_CR2, "which field is read first"},
	{ZYDIS_MNEMONIC_FXRSTOR, T_CR2, "which field is read first"},
	{ZYDIS_MNEMONIC_FXRSTOR64, T_CR2, "which field is read first"},
};

static bool has_prefix(const struct x86_decoded *d, u8 value)
{
	for (u32 k = 0; k < d->z.raw.prefix_count; k++)
		if (d->z.raw.prefixes[k].value == value)
			return true;
	return false;
}

u32 tolerated(const struct x86_decoded *d)
{
	u32 what = 0;

	for (u32 k = 0; k < ARRAY_SIZE(rows); k++)
		if (rows[k].mnemonic == d->z.mnemonic)
			what |= rows[k].what;
	/* Reserved (SDM vol. 2, 2.1.1): on AMD hosts a repeat prefix chooses the condition in the
	 * opcode's place. */
	if ((d->z.mnemonic == ZYDIS_MNEMONIC_LOOPE || d->z.mnemonic == ZYDIS_MNEMONIC_LOOPNE) &&
	    (has_prefix(d, 0xf2) || has_prefix(d, 0xf3)))
		what |= T_ALL;
	/* 0f 0d with a register: #UD on AMD (APM vol. 3, PREFETCHW), NOP on Intel. */
	if (d->z.mnemonic == ZYDIS_MNEMONIC_NOP && d->z.opcode_map == ZYDIS_OPCODE_MAP_0F &&
	    d->z.opcode == 0x0d)
		what |= T_ALL;
	/* 0f a6, 0f a7: no instructions but VIA's, so nobody else reads more than the opcode. */
	if (d->z.opcode_map == ZYDIS_OPCODE_MAP_0F && (d->z.opcode & 0xfe) == 0xa6)
		what |= T_ALL;
	/* XOP, gone with Zen: how much of one is fetched before #UD. */
	if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_XOP)
		what |= T_FAULT;
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_VPINSRD: /* VEX.W = 1 outside 64-bit mode: ignored (SDM) or #UD (APM) */
	case ZYDIS_MNEMONIC_VPINSRQ:
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VPEXTRQ:
	case ZYDIS_MNEMONIC_KMOVD:
		if (d->bits == 4 && d->z.raw.vex.W)
			what |= T_ALL;
		break;
	default:
		break;
	}
	return what;
}

u32 undefined_flags(const struct x86_decoded *d)
{
	return 0;
}
