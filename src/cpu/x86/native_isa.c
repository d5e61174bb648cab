// SPDX-License-Identifier: MIT
/*
 * Which instructions the host may execute on a guest's behalf: instruction sets against the host's
 * CPUID.
 *
 * Outer file. Source of the feature bits: SDM vol. 2 "CPUID", APM vol. 3 appendix E.
 */
#include "cpu/x86/native_priv.h"

#include <cpuid.h>
#include <pthread.h>

enum word { W1_ECX, W1_EDX, W7_EBX, W7_ECX, W7_EDX, W71_EAX, WE1_ECX, WE1_EDX, NR_WORDS };

/* A feature: word << 5 | bit. */
#define F(word, bit) ((u16)((word) << 5 | (bit)))
enum {
	F_ALWAYS = 0xffff,
	F_NEVER = 0xfffe,
	F_SSE3 = F(W1_ECX, 0),
	F_PCLMUL = F(W1_ECX, 1),
	F_SSSE3 = F(W1_ECX, 9),
	F_FMA = F(W1_ECX, 12),
	F_CX16 = F(W1_ECX, 13),
	F_SSE41 = F(W1_ECX, 19),
	F_SSE42 = F(W1_ECX, 20),
	F_MOVBE = F(W1_ECX, 22),
	F_POPCNT = F(W1_ECX, 23),
	F_AES = F(W1_ECX, 25),
	F_AVX = F(W1_ECX, 28),
	F_F16C = F(W1_ECX, 29),
	F_RDRAND = F(W1_ECX, 30),
	F_BMI1 = F(W7_EBX, 3),
	F_AVX2 = F(W7_EBX, 5),
	F_BMI2 = F(W7_EBX, 8),
	F_512F = F(W7_EBX, 16),
	F_512DQ = F(W7_EBX, 17),
	F_RDSEED = F(W7_EBX, 18),
	F_ADX = F(W7_EBX, 19),
	F_IFMA = F(W7_EBX, 21),
	F_512CD = F(W7_EBX, 28),
	F_SHA = F(W7_EBX, 29),
	F_512BW = F(W7_EBX, 30),
	F_512VL = F(W7_EBX, 31),
	F_512ER = F(W7_EBX, 27),
	F_VBMI = F(W7_ECX, 1),
	F_VBMI2 = F(W7_ECX, 6),
	F_GFNI = F(W7_ECX, 8),
	F_VAES = F(W7_ECX, 9),
	F_VPCLMUL = F(W7_ECX, 10),
	F_VNNI = F(W7_ECX, 11),
	F_BITALG = F(W7_ECX, 12),
	F_VPOPCNT = F(W7_ECX, 14),
	F_MOVDIRI = F(W7_ECX, 27),
	F_4VNNIW = F(W7_EDX, 2),
	F_4FMAPS = F(W7_EDX, 3),
	F_VP2INTERSECT = F(W7_EDX, 8),
	F_SERIALIZE = F(W7_EDX, 14),
	F_FP16 = F(W7_EDX, 23),
	F_AVXVNNI = F(W71_EAX, 4),
	F_BF16 = F(W71_EAX, 5),
	F_LAHF = F(WE1_ECX, 0),
	F_LZCNT = F(WE1_ECX, 5),
	F_SSE4A = F(WE1_ECX, 6),
	F_XOP = F(WE1_ECX, 11),
	F_FMA4 = F(WE1_ECX, 16),
	F_TBM = F(WE1_ECX, 21),
	F_3DNOW = F(WE1_EDX, 31),
};

#define LEGACY                                                                                     \
	(X86_KIND_INT | BIT(7)) /* the older sets also hold jumps, string, port and system         \
				   instructions: filter by category */
#define INT  X86_KIND_INT
#define VINT X86_KIND_VEX_INT
#define SSE  X86_KIND_SSE
#define AVX  X86_KIND_AVX
#define E512 X86_KIND_AVX512

struct isa_row {
	u16 feature, feature2;
	u8 kind;
	u8 verdict; /* when the host has it */
};

#define RUN(set, kind, feature) [ZYDIS_ISA_SET_##set] = {feature, F_ALWAYS, kind, X86_ISA_RUN}
#define RUN2(set, kind, f1, f2) [ZYDIS_ISA_SET_##set] = {f1, f2, kind, X86_ISA_RUN}
#define NEVER(set)		[ZYDIS_ISA_SET_##set] = {F_NEVER, F_ALWAYS, INT, X86_ISA_ABSENT}
#define IGNORE(set)		[ZYDIS_ISA_SET_##set] = {F_ALWAYS, F_ALWAYS, INT, X86_ISA_NOP}
/* EVEX sets at the three vector lengths: the shorter two need AVX512VL. */
#define EVEX(set, feature)                                                                         \
	RUN2(set##_128, E512, feature, F_512VL), RUN2(set##_256, E512, feature, F_512VL),          \
		RUN2(set##_512, E512, feature, F_512F)

/* Sets without a row are refused: privileged ones, and those with handlers of their own. */
static const struct isa_row rows[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	RUN(I86, LEGACY, F_ALWAYS),
	RUN(I186, LEGACY, F_ALWAYS),
	RUN(I386, LEGACY, F_ALWAYS),
	RUN(I486, LEGACY, F_ALWAYS),
	RUN(I486REAL, LEGACY, F_ALWAYS),
	RUN(I286REAL, LEGACY, F_ALWAYS),
	RUN(PENTIUMREAL, LEGACY, F_ALWAYS),
	RUN(PPRO, LEGACY, F_ALWAYS),
	RUN(LONGMODE, LEGACY, F_ALWAYS),
	RUN(CMOV, LEGACY, F_ALWAYS),
	RUN(LAHF, LEGACY, F_LAHF),
	RUN(CMPXCHG16B, LEGACY, F_CX16),
	RUN(POPCNT, INT, F_POPCNT),
	RUN(LZCNT, INT, F_LZCNT),
	RUN(MOVBE, INT, F_MOVBE),
	RUN(ADOX_ADCX, INT, F_ADX),
	RUN(BMI1, VINT, F_BMI1),
	RUN(BMI2, VINT, F_BMI2),
	RUN(TBM, VINT, F_TBM),
	RUN(RDRAND, INT, F_RDRAND),
	RUN(RDSEED, INT, F_RDSEED),
	RUN(SERIALIZE, INT, F_SERIALIZE),
	RUN(PAUSE, INT, F_ALWAYS),
	RUN(MOVDIR, INT, F_MOVDIRI),

	RUN(X87, X86_KIND_X87, F_ALWAYS),
	RUN(FCMOV, X86_KIND_X87, F_ALWAYS),
	RUN(SSE3X87, X86_KIND_X87, F_SSE3),
	RUN(PENTIUMMMX, X86_KIND_MMX, F_ALWAYS),
	RUN(AMD3DNOW, X86_KIND_MMX, F_3DNOW),

	RUN(SSE, SSE, F_ALWAYS),
	RUN(SSE2, SSE, F_ALWAYS),
	RUN(SSE2MMX, SSE, F_ALWAYS),
	RUN(SSE3, SSE, F_SSE3),
	RUN(SSSE3, SSE, F_SSSE3),
	RUN(SSSE3MMX, SSE, F_SSSE3),
	RUN(SSE4, SSE, F_SSE41),
	RUN(SSE42, SSE, F_SSE42),
	RUN(SSE4A, SSE, F_SSE4A),
	RUN(AES, SSE, F_AES),
	RUN(PCLMULQDQ, SSE, F_PCLMUL),
	RUN(SHA, SSE, F_SHA),
	RUN(GFNI, SSE, F_GFNI),

	RUN(AVX, AVX, F_AVX),
	RUN(AVX2, AVX, F_AVX2),
	RUN(F16C, AVX, F_F16C),
	RUN(FMA, AVX, F_FMA),
	RUN(FMA4, AVX, F_FMA4),
	RUN(XOP, AVX, F_XOP),
	RUN(AVX_VNNI, AVX, F_AVXVNNI),
	RUN2(AVX_GFNI, AVX, F_GFNI, F_AVX),
	RUN2(AVXAES, AVX, F_AES, F_AVX),
	RUN2(VAES, AVX, F_VAES, F_AVX),
	RUN2(VPCLMULQDQ, AVX, F_VPCLMUL, F_AVX),

	EVEX(AVX512F, F_512F),
	RUN(AVX512F_128N, E512, F_512F),
	RUN(AVX512F_SCALAR, E512, F_512F),
	RUN(AVX512F_KOP, E512, F_512F),
	EVEX(AVX512BW, F_512BW),
	RUN(AVX512BW_128N, E512, F_512BW),
	RUN(AVX512BW_KOP, E512, F_512BW),
	EVEX(AVX512DQ, F_512DQ),
	RUN(AVX512DQ_128N, E512, F_512DQ),
	RUN(AVX512DQ_SCALAR, E512, F_512DQ),
	RUN(AVX512DQ_KOP, E512, F_512DQ),
	EVEX(AVX512CD, F_512CD),
	RUN(AVX512ER_512, E512, F_512ER),
	RUN(AVX512ER_SCALAR, E512, F_512ER),
	RUN(AVX512_4FMAPS_512, E512, F_4FMAPS),
	RUN(AVX512_4FMAPS_SCALAR, E512, F_4FMAPS),
	RUN(AVX512_4VNNIW_512, E512, F_4VNNIW),
	EVEX(AVX512_BF16, F_BF16),
	EVEX(AVX512_BITALG, F_BITALG),
	EVEX(AVX512_GFNI, F_GFNI),
	EVEX(AVX512_IFMA, F_IFMA),
	EVEX(AVX512_VAES, F_VAES),
	EVEX(AVX512_VBMI, F_VBMI),
	EVEX(AVX512_VBMI2, F_VBMI2),
	EVEX(AVX512_VNNI, F_VNNI),
	EVEX(AVX512_VP2INTERSECT, F_VP2INTERSECT),
	EVEX(AVX512_VPCLMULQDQ, F_VPCLMUL),
	EVEX(AVX512_VPOPCNTDQ, F_VPOPCNT),
	EVEX(AVX512_FP16, F_FP16),
	RUN(AVX512_FP16_128N, E512, F_FP16),
	RUN(AVX512_FP16_SCALAR, E512, F_FP16),

	/* Without MPX, CET and CLDEMOTE their encodings are NOPs (those that are not are told apart
	   below). */
	IGNORE(MPX),
	IGNORE(CLDEMOTE),
	IGNORE(FAT_NOP),
	IGNORE(PREFETCH_NOP),
	IGNORE(SSE_PREFETCH),
	IGNORE(PREFETCHWT1),
	IGNORE(CET),

	NEVER(RTM),
	NEVER(TSX_LDTRK),
	NEVER(KEYLOCKER),
	NEVER(KEYLOCKER_WIDE),
	NEVER(AMX_BF16),
	NEVER(AMX_INT8),
	NEVER(AMX_TILE),
	NEVER(ENQCMD),
	NEVER(UINTR),
	NEVER(PT),
	NEVER(HRESET),
	NEVER(LWP),
	NEVER(AVX512PF_512),
	NEVER(KNCE),
	NEVER(KNCJKBR),
	NEVER(KNCSTREAM),
	NEVER(KNCV),
	NEVER(KNC_MISC),
	NEVER(KNC_PF_HINT),
	NEVER(PADLOCK_ACE),
	NEVER(PADLOCK_PHE),
	NEVER(PADLOCK_PMM),
	NEVER(PADLOCK_RNG),
	NEVER(RDPRU),
	NEVER(MCOMMIT),
	NEVER(WAITPKG),
	NEVER(PCONFIG),
	NEVER(SNP),
	NEVER(AMD_INVLPGB),
};

static u32 words[NR_WORDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_features(void)
{
	u32 a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d)) {
		words[W1_ECX] = c;
		words[W1_EDX] = d;
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
		words[W7_EBX] = b;
		words[W7_ECX] = c;
		words[W7_EDX] = d;
		if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
			words[W71_EAX] = a;
	}
	if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
		words[WE1_ECX] = c;
		words[WE1_EDX] = d;
	}
}

static bool host_has(u16 f)
{
	if (f == F_ALWAYS || f == F_NEVER)
		return f == F_ALWAYS;
	return words[f >> 5] & BIT(f & 31);
}

static bool host_enables(enum x86_simd_kind kind)
{
	u64 xcr0 = x86_host_xcr0(), need = 0;

	if (kind == X86_KIND_AVX)
		need = X86_XCOMP_SSE | X86_XCOMP_AVX;
	else if (kind == X86_KIND_AVX512)
		need = X86_XCOMP_SSE | X86_XCOMP_AVX | X86_XCOMP_AVX512;
	return (xcr0 & need) == need;
}

static bool plain_category(ZydisInstructionCategory k)
{
	switch (k) {
	case ZYDIS_CATEGORY_BINARY:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_BITBYTE:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_CONVERT:
	case ZYDIS_CATEGORY_FLAGOP:
	case ZYDIS_CATEGORY_SEMAPHORE:
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
		return true;
	default:
		return false;
	}
}

static bool has_class(const struct x86_decoded *d, ZydisRegisterClass first,
		      ZydisRegisterClass last)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		ZydisRegisterClass rc;

		if (d->op[k].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		rc = ZydisRegisterGetClass(d->op[k].reg.value);
		if (rc >= first && rc <= last)
			return true;
	}
	return false;
}

/* With a memory operand these show no SIMD register. */
static bool converts_from_memory(const struct x86_decoded *d)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_CVTSS2SI:
	case ZYDIS_MNEMONIC_CVTSD2SI:
	case ZYDIS_MNEMONIC_CVTTSS2SI:
	case ZYDIS_MNEMONIC_CVTTSD2SI:
		return true;
	default:
		return false;
	}
}

/* Families are told by instruction set; some members of a set belong to another family. */
static enum x86_simd_kind refine(const struct x86_decoded *d, enum x86_simd_kind kind)
{
	bool legacy = d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;

	switch (kind) {
	case X86_KIND_X87:
		return d->z.mnemonic == ZYDIS_MNEMONIC_FWAIT ? X86_KIND_FWAIT : kind;
	case X86_KIND_VEX_INT: /* TZCNT */
		return legacy ? X86_KIND_INT : kind;
	case X86_KIND_SSE: /* on MMX registers only: EM and TS count, OSFXSR does not; on neither
			      (CRC32, MOVNTI, fences): nothing */
		if (has_class(d, ZYDIS_REGCLASS_X87, ZYDIS_REGCLASS_X87)) /* FISTTP */
			return X86_KIND_X87;
		if (has_class(d, ZYDIS_REGCLASS_XMM, ZYDIS_REGCLASS_XMM) || converts_from_memory(d))
			return kind;
		return has_class(d, ZYDIS_REGCLASS_MMX, ZYDIS_REGCLASS_MMX) ? X86_KIND_MMX
									    : X86_KIND_INT;
	default:
		return kind;
	}
}

/* Members of otherwise harmless sets that are not. */
static enum x86_isa_verdict exceptional(const struct x86_decoded *d)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_INCSSPD:
	case ZYDIS_MNEMONIC_INCSSPQ:
	case ZYDIS_MNEMONIC_SAVEPREVSSP:
	case ZYDIS_MNEMONIC_RSTORSSP:
	case ZYDIS_MNEMONIC_WRSSD:
	case ZYDIS_MNEMONIC_WRSSQ:
	case ZYDIS_MNEMONIC_WRUSSD:
	case ZYDIS_MNEMONIC_WRUSSQ:
	case ZYDIS_MNEMONIC_SETSSBSY:
	case ZYDIS_MNEMONIC_CLRSSBSY:
		return X86_ISA_ABSENT;
	case ZYDIS_MNEMONIC_MOVDIR64B: /* two memory operands */
		return X86_ISA_ABSENT;
	case ZYDIS_MNEMONIC_VZEROALL: /* in 64-bit code they reach twice as many registers */
	case ZYDIS_MNEMONIC_VZEROUPPER:
		return d->bits == 8 ? X86_ISA_RUN : X86_ISA_REFUSED;
	case ZYDIS_MNEMONIC_PAUSE: /* with REX.B it is XCHG, which Zydis 4.0 does not see */
		return (d->z.attributes & ZYDIS_ATTRIB_HAS_REX) && d->z.raw.rex.B ? X86_ISA_REFUSED
										  : X86_ISA_NOP;
	default:
		return X86_ISA_RUN;
	}
}

enum x86_isa_verdict x86_native_isa(const struct x86_decoded *d, enum x86_simd_kind *kind)
{
	const struct isa_row *row = &rows[d->z.meta.isa_set];

	pthread_once(&once, read_features);
	if (exceptional(d) != X86_ISA_RUN)
		return exceptional(d);
	if (row->verdict == X86_ISA_REFUSED || (d->z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED))
		return X86_ISA_REFUSED;
	if (row->verdict != X86_ISA_RUN)
		return row->verdict;
	if (!host_has(row->feature) || !host_has(row->feature2) || !host_enables(row->kind))
		return X86_ISA_ABSENT;
	if (d->z.meta.category == ZYDIS_CATEGORY_X87_ALU) { /* FCOMI came with the Pentium Pro */
		*kind = refine(d, X86_KIND_X87);
		return X86_ISA_RUN;
	}
	if (row->kind == LEGACY && !plain_category(d->z.meta.category))
		return X86_ISA_REFUSED;
	if (d->z.meta.category == ZYDIS_CATEGORY_NOP ||
	    d->z.meta.category == ZYDIS_CATEGORY_WIDENOP)
		return X86_ISA_NOP;
	*kind = refine(d, row->kind & ~BIT(7));
	return X86_ISA_RUN;
}
