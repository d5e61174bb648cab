// SPDX-License-Identifier: MIT
/*
 * Every CPUID feature bit that may be offered to a guest, one row each, with the condition for it.
 *
 * Data only: cpuid.c builds the leaves. A bit without a row is 0: that is how VMX, SVM, SGX,
 * MONITOR, VME, CET, AMX, MPX, TSX, LAM, 3DNow!, LWP and performance counters are not offered.
 * Sources: SDM vol. 2 "CPUID", APM vol. 3 appendix E.
 */
#include "kvm/cpuid_priv.h"

#define ROW(leaf, index, reg, bit, name, when)                                                     \
	{                                                                                          \
		leaf, index, KVM_CPUID_##reg, bit, when, name                                      \
	}

#define HOST  CPUID_HOST
#define SOFT  CPUID_SOFT
#define XSAVE CPUID_XSAVE
#define AVX   CPUID_AVX
#define E512  CPUID_AVX512
#define INTEL CPUID_INTEL
#define AMD   CPUID_AMD
#define DELAY CPUID_RUN_DELAY

const struct kvm_cpuid_bit kvm_cpuid_bits[] = {
	/* 1: EDX */
	ROW(1, 0, EDX, 0, "fpu", SOFT),
	ROW(1, 0, EDX, 2, "de", SOFT),
	ROW(1, 0, EDX, 3, "pse", SOFT),
	ROW(1, 0, EDX, 4, "tsc", SOFT),
	ROW(1, 0, EDX, 5, "msr", SOFT),
	ROW(1, 0, EDX, 6, "pae", SOFT),
	ROW(1, 0, EDX, 7, "mce", SOFT),
	ROW(1, 0, EDX, 8, "cx8", SOFT),
	ROW(1, 0, EDX, 9, "apic", SOFT),
	ROW(1, 0, EDX, 11, "sep", SOFT),
	ROW(1, 0, EDX, 12, "mtrr", SOFT),
	ROW(1, 0, EDX, 13, "pge", SOFT),
	ROW(1, 0, EDX, 14, "mca", SOFT),
	ROW(1, 0, EDX, 15, "cmov", SOFT),
	ROW(1, 0, EDX, 16, "pat", SOFT),
	ROW(1, 0, EDX, 17, "pse36", SOFT),
	ROW(1, 0, EDX, 19, "clflush", SOFT),
	ROW(1, 0, EDX, 23, "mmx", SOFT),
	ROW(1, 0, EDX, 24, "fxsr", SOFT),
	ROW(1, 0, EDX, 25, "sse", SOFT),
	ROW(1, 0, EDX, 26, "sse2", SOFT),
	ROW(1, 0, EDX, 27, "ss", HOST),

	/* 1: ECX. TSC-deadline is offered by KVM_CAP_TSC_DEADLINE_TIMER, as KVM does, for it needs
	   a local APIC here. */
	ROW(1, 0, ECX, 0, "sse3", HOST),
	ROW(1, 0, ECX, 1, "pclmulqdq", HOST),
	ROW(1, 0, ECX, 9, "ssse3", HOST),
	ROW(1, 0, ECX, 12, "fma", HOST | AVX),
	ROW(1, 0, ECX, 13, "cx16", HOST),
	ROW(1, 0, ECX, 17, "pcid", SOFT),
	ROW(1, 0, ECX, 19, "sse4_1", HOST),
	ROW(1, 0, ECX, 20, "sse4_2", HOST),
	ROW(1, 0, ECX, 21, "x2apic", SOFT),
	ROW(1, 0, ECX, 22, "movbe", SOFT),
	ROW(1, 0, ECX, 23, "popcnt", HOST),
	ROW(1, 0, ECX, 25, "aes", HOST),
	ROW(1, 0, ECX, 26, "xsave", XSAVE),
	ROW(1, 0, ECX, 28, "avx", HOST | AVX),
	ROW(1, 0, ECX, 29, "f16c", HOST | AVX),
	ROW(1, 0, ECX, 30, "rdrand", HOST),
	ROW(1, 0, ECX, 31, "hypervisor", SOFT),

	/* 6 */
	ROW(6, 0, EAX, 2, "arat", SOFT),

	/* 7.0: EBX */
	ROW(7, 0, EBX, 0, "fsgsbase", SOFT),
	ROW(7, 0, EBX, 1, "tsc_adjust", SOFT),
	ROW(7, 0, EBX, 3, "bmi1", HOST),
	ROW(7, 0, EBX, 5, "avx2", HOST | AVX),
	ROW(7, 0, EBX, 6, "fdp_excptn_only", HOST),
	ROW(7, 0, EBX, 7, "smep", SOFT),
	ROW(7, 0, EBX, 8, "bmi2", HOST),
	ROW(7, 0, EBX, 9, "erms", SOFT),
	ROW(7, 0, EBX, 10, "invpcid", SOFT),
	ROW(7, 0, EBX, 13, "zero_fcs_fds", HOST),
	ROW(7, 0, EBX, 16, "avx512f", HOST | E512),
	ROW(7, 0, EBX, 17, "avx512dq", HOST | E512),
	ROW(7, 0, EBX, 18, "rdseed", HOST),
	ROW(7, 0, EBX, 19, "adx", HOST),
	ROW(7, 0, EBX, 20, "smap", SOFT),
	ROW(7, 0, EBX, 21, "avx512ifma", HOST | E512),
	ROW(7, 0, EBX, 23, "clflushopt", HOST),
	ROW(7, 0, EBX, 24, "clwb", HOST),
	ROW(7, 0, EBX, 27, "avx512er", HOST | E512),
	ROW(7, 0, EBX, 28, "avx512cd", HOST | E512),
	ROW(7, 0, EBX, 29, "sha_ni", HOST),
	ROW(7, 0, EBX, 30, "avx512bw", HOST | E512),
	ROW(7, 0, EBX, 31, "avx512vl", HOST | E512),

	/* 7.0: ECX */
	ROW(7, 0, ECX, 1, "avx512vbmi", HOST | E512),
	ROW(7, 0, ECX, 2, "umip", SOFT),
	ROW(7, 0, ECX, 3, "pku", XSAVE),
	ROW(7, 0, ECX, 6, "avx512_vbmi2", HOST | E512),
	ROW(7, 0, ECX, 8, "gfni", HOST),
	ROW(7, 0, ECX, 9, "vaes", HOST | AVX),
	ROW(7, 0, ECX, 10, "vpclmulqdq", HOST | AVX),
	ROW(7, 0, ECX, 11, "avx512_vnni", HOST | E512),
	ROW(7, 0, ECX, 12, "avx512_bitalg", HOST | E512),
	ROW(7, 0, ECX, 14, "avx512_vpopcntdq", HOST | E512),
	ROW(7, 0, ECX, 16, "la57", SOFT),
	ROW(7, 0, ECX, 22, "rdpid", SOFT),
	ROW(7, 0, ECX, 27, "movdiri", HOST),

	/* 7.0: EDX. With IBRS_ALL in ARCH_CAPABILITIES a guest chooses IBRS and no retpolines; on
	   AMD it reads both too. */
	ROW(7, 0, EDX, 2, "avx512_4vnniw", HOST | E512),
	ROW(7, 0, EDX, 3, "avx512_4fmaps", HOST | E512),
	ROW(7, 0, EDX, 4, "fsrm", SOFT),
	ROW(7, 0, EDX, 8, "avx512_vp2intersect", HOST | E512),
	ROW(7, 0, EDX, 14, "serialize", HOST),
	ROW(7, 0, EDX, 23, "avx512_fp16", HOST | E512),
	ROW(7, 0, EDX, 26, "ibrs", SOFT | INTEL),
	ROW(7, 0, EDX, 27, "stibp", SOFT | INTEL),
	ROW(7, 0, EDX, 29, "arch_capabilities", SOFT),

	/* 7.1: EAX */
	ROW(7, 1, EAX, 4, "avx_vnni", HOST | AVX),
	ROW(7, 1, EAX, 5, "avx512_bf16", HOST | E512),

	/* 0xd.1: EAX */
	ROW(0xd, 1, EAX, 0, "xsaveopt", XSAVE),
	ROW(0xd, 1, EAX, 1, "xsavec", XSAVE),
	ROW(0xd, 1, EAX, 2, "xgetbv1", XSAVE),
	ROW(0xd, 1, EAX, 3, "xsaves", XSAVE),

	/* 0x80000001: EDX. AMD repeats what leaf 1 says. */
	ROW(0x80000001, 0, EDX, 0, "fpu", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 2, "de", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 3, "pse", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 4, "tsc", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 5, "msr", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 6, "pae", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 7, "mce", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 8, "cx8", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 9, "apic", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 11, "syscall", SOFT),
	ROW(0x80000001, 0, EDX, 12, "mtrr", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 13, "pge", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 14, "mca", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 15, "cmov", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 16, "pat", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 17, "pse36", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 20, "nx", SOFT),
	ROW(0x80000001, 0, EDX, 22, "mmxext", HOST | AMD),
	ROW(0x80000001, 0, EDX, 23, "mmx", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 24, "fxsr", SOFT | AMD),
	ROW(0x80000001, 0, EDX, 26, "pdpe1gb", SOFT),
	ROW(0x80000001, 0, EDX, 27, "rdtscp", SOFT),
	ROW(0x80000001, 0, EDX, 29, "lm", SOFT),

	/* 0x80000001: ECX */
	ROW(0x80000001, 0, ECX, 0, "lahf_lm", HOST),
	ROW(0x80000001, 0, ECX, 5, "abm", HOST),
	ROW(0x80000001, 0, ECX, 6, "sse4a", HOST | AMD),
	ROW(0x80000001, 0, ECX, 7, "misalignsse", HOST | AMD),
	ROW(0x80000001, 0, ECX, 8, "3dnowprefetch", SOFT),
	ROW(0x80000001, 0, ECX, 11, "xop", HOST | AVX | AMD),
	ROW(0x80000001, 0, ECX, 16, "fma4", HOST | AVX | AMD),
	ROW(0x80000001, 0, ECX, 21, "tbm", HOST | AMD),
	ROW(0x80000001, 0, ECX, 22, "topoext", SOFT | AMD),

	/* 0x80000007: EDX */
	ROW(0x80000007, 0, EDX, 8, "invtsc", HOST),

	/* 0x80000008: EBX */
	ROW(0x80000008, 0, EBX, 0, "clzero", SOFT | AMD),
	ROW(0x80000008, 0, EBX, 2, "xsaveerptr", HOST | AMD),
	ROW(0x80000008, 0, EBX, 12, "ibpb", SOFT | AMD),
	ROW(0x80000008, 0, EBX, 14, "ibrs", SOFT | AMD),
	ROW(0x80000008, 0, EBX, 15, "stibp", SOFT | AMD),
	ROW(0x80000008, 0, EBX, 26, "amd_ssb_no", SOFT | AMD),
	ROW(0x80000008, 0, EBX, 29, "btc_no", SOFT | AMD),

	/* 0x80000021 */
	ROW(0x80000021, 0, EAX, 0, "no_nested_data_bp", SOFT | AMD),
	ROW(0x80000021, 0, EAX, 2, "lfence_rdtsc", SOFT | AMD),
	ROW(0x80000021, 0, EAX, 6, "null_sel_clr_base", SOFT | AMD),
	ROW(0x80000021, 0, EAX, 9, "no_smm_ctl_msr", SOFT | AMD),
	ROW(0x80000021, 0, EAX, 29, "srso_no", SOFT | AMD),
	ROW(0x80000021, 0, ECX, 1, "tsa_sq_no", SOFT | AMD),
	ROW(0x80000021, 0, ECX, 2, "tsa_l1_no", SOFT | AMD),

	/* KVM's own: KVM_FEATURE_*, only what clock.c, hypercall.c and the I/O path really do */
	ROW(0x40000001, 0, EAX, 0, "kvm-clocksource", SOFT),
	ROW(0x40000001, 0, EAX, 1, "kvm-nop-io-delay", SOFT),
	ROW(0x40000001, 0, EAX, 3, "kvm-clocksource2", SOFT),
	ROW(0x40000001, 0, EAX, 5, "kvm-steal-time", DELAY),
	ROW(0x40000001, 0, EAX, 7, "kvm-pv-unhalt", SOFT),
	ROW(0x40000001, 0, EAX, 13, "kvm-pv-sched-yield", SOFT),
	ROW(0x40000001, 0, EAX, 24, "kvm-clocksource-stable", SOFT),
};

const u32 kvm_nr_cpuid_bits = ARRAY_SIZE(kvm_cpuid_bits);
