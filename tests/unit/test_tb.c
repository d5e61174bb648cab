// SPDX-License-Identifier: MIT
/*
 * Tier 1 against tier 0: the same guest programs on two CPUs, one with a translator, one without, and all registers, flags, SIMD
 * state and memory must agree when they halt.
 *
 * Programs are random, over all that the emitters know and a part of what they leave to tier 0, with loops that make
 * them hot, branches, calls, faults and accesses that span pages. AV_TB_SEED=n runs one of them and shows it;
 * AV_TB_COUNT=n runs that many.
 */
#include "sys_fixture.h"
#include "cpu/x86/simd.h"

#include <signal.h>
#include <stdio.h>

/* ---- two CPUs ---- */

#define AT_COUNTER (AT_DATA + 0x8000) /* loop counters */
#define DATA_SIZE  0x3000u
#define LOOPS	   40

static const struct x86_cpuid_entry cpuid_table[] = {
	{0x0, 0, 0, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69},
	{0x1, 0, 0, 0x000306a9, 0, 0xffffffff & ~BIT(31), 0x0783fbff},
	{0x7, 0, 1, 0, 0xffffffff, 0, 0},
	{0xd, 0, 1, 0xe7, 0, 2696, 0},
	{0xd, 2, 1, 256, 576, 0, 0},
	{0xd, 5, 1, 64, 832, 0, 0},
	{0xd, 6, 1, 512, 896, 0, 0},
	{0xd, 7, 1, 1024, 1408, 0, 0},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0},
	{0x80000001, 0, 0, 0, 0, 0xffff, 0xffffffff},
	{0x80000008, 0, 0, 0x3028, 0, 0, 0},
};

struct pair {
	struct fx f[2]; /* without, with tier 1 */
};

/* A program that runs for ever is no test: it is stopped on both, the blocks' polls willing. */
#define PATIENCE 2
static struct x86_cpu *running;

static void on_alarm(int sig)
{
	x86_request(running, X86_REQ_OUT);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};

static void on_signal(int sig, siginfo_t *info, void *context)
{
	if (!x86_signal(sig, info, context))
		signal(sig, SIG_DFL);
}

/* cmocka takes the signals for itself before each test, and gives them back. */
static void take_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};

	for (u32 k = 0; k < ARRAY_SIZE(signals); k++)
		sigaction(signals[k], &sa, NULL);
	signal(SIGALRM, on_alarm);
}

static void create(struct fx *f, bool translate)
{
	struct x86_cpuid_entry *table = malloc(sizeof(cpuid_table));

	memset(f, 0, sizeof(*f));
	assert_int_equal(toy_create(&f->toy, RAM_SIZE), 0);
	f->toy.answer = MACHINE_DONE;
	av_epoch_init(&f->epoch);
	assert_int_equal(x86_code_create(&f->epoch, &f->code), 0);
	if (translate)
		assert_int_equal(x86_code_translate(f->code, 0), 0);
	assert_int_equal(x86_create(&toy_ops, &f->toy, &f->epoch, f->code, &f->c), 0);
	memcpy(table, cpuid_table, sizeof(cpuid_table));
	assert_int_equal(x86_set_cpuid(f->c, table, ARRAY_SIZE(cpuid_table)), 0);
}

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	create(&p->f[0], false);
	create(&p->f[1], true);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	fx_destroy(&p->f[0]);
	fx_destroy(&p->f[1]);
	free(p);
	return 0;
}

/* ---- random ---- */

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static u32 below(u32 n)
{
	return (u32)(rnd() >> 20) % n;
}

static bool one_in(u32 n)
{
	return below(n) == 0;
}

/* ---- programs ---- */

struct prog {
	u8 code[0x2000];
	u32 n;
	u64 gpr[16];
	u8 role[16]; /* of a register */
	u64 seg[2];
	u8 cpl;
	bool simd;
	bool in_call; /* the return address must survive */
	u32 undef; /* flags that are undefined here: nothing may read them */
	u32 counters;
	const char *why;
};

enum { PLAIN, POINTER, INDEX };

/* Operand letters: see operand(). */
struct row {
	ZydisMnemonic m;
	const char *ops;
	u8 sizes; /* bit per log2 of bytes */
	bool lock;
};

#define BWLQ 15
#define WLQ  14
#define LQ   12
#define L    4
#define Q    8
#define M(x) ZYDIS_MNEMONIC_##x

#define ALU(x) {M(x), "EG", BWLQ, true}, {M(x), "GE", BWLQ}, {M(x), "EI", BWLQ, true}, {M(x), "AI", BWLQ}
#define SHIFTS(x) {M(x), "Ei", BWLQ}, {M(x), "EC", BWLQ}, {M(x), "E1", BWLQ}
#define CMOV(x) {M(x), "GE", WLQ}
#define SET(x) {M(x), "E", 1}

static const struct row integer[] = {
	{M(MOV), "EG", BWLQ}, {M(MOV), "GE", BWLQ}, {M(MOV), "EI", BWLQ}, {M(MOV), "GJ", Q}, {M(MOV), "GE", LQ},
	{M(MOV), "EG", LQ}, {M(MOVZX), "Ge", WLQ}, {M(MOVZX), "Gw", LQ}, {M(MOVSX), "Ge", WLQ}, {M(MOVSX), "Gw", LQ},
	{M(MOVSXD), "Gl", Q}, {M(MOVBE), "GM", WLQ}, {M(MOVBE), "MG", WLQ}, {M(MOVNTI), "MG", LQ},
	{M(LEA), "GN", WLQ}, {M(LEA), "GN", LQ}, {M(XCHG), "EG", BWLQ, true}, {M(XCHG), "AG", WLQ}, {M(BSWAP), "G", LQ},
	ALU(ADD), ALU(OR), ALU(ADC), ALU(SBB), ALU(AND), ALU(SUB), ALU(XOR),
	{M(CMP), "EG", BWLQ}, {M(CMP), "GE", BWLQ}, {M(CMP), "EI", BWLQ}, {M(TEST), "EG", BWLQ}, {M(TEST), "EI", BWLQ},
	{M(TEST), "AI", BWLQ}, {M(INC), "E", BWLQ, true}, {M(DEC), "E", BWLQ, true}, {M(NEG), "E", BWLQ, true},
	{M(NOT), "E", BWLQ, true}, {M(XADD), "EG", BWLQ, true}, {M(CMPXCHG), "EG", BWLQ, true},
	{M(CMPXCHG8B), "M", Q, true},
	SHIFTS(SHL), SHIFTS(SHR), SHIFTS(SAR), SHIFTS(ROL), SHIFTS(ROR), SHIFTS(RCL), SHIFTS(RCR),
	{M(SHLD), "EGi", WLQ}, {M(SHLD), "EGC", WLQ}, {M(SHRD), "EGi", WLQ}, {M(SHRD), "EGC", WLQ},
	{M(BT), "EG", WLQ}, {M(BT), "Ei", WLQ}, {M(BTS), "RG", WLQ}, {M(BTS), "Ei", WLQ, true}, {M(BTR), "RG", WLQ},
	{M(BTR), "Ei", WLQ, true}, {M(BTC), "RG", WLQ}, {M(BTC), "Ei", WLQ, true}, {M(BSF), "GE", WLQ}, {M(BSR), "GE", WLQ},
	{M(POPCNT), "GE", WLQ}, {M(LZCNT), "GE", WLQ}, {M(TZCNT), "GE", WLQ},
	{M(MUL), "E", BWLQ}, {M(IMUL), "E", BWLQ}, {M(IMUL), "GE", WLQ}, {M(IMUL), "GEI", WLQ},
	{M(CBW), "", 2}, {M(CWDE), "", L}, {M(CDQE), "", Q}, {M(CWD), "", 2}, {M(CDQ), "", L}, {M(CQO), "", Q},
	CMOV(CMOVO), CMOV(CMOVNB), CMOV(CMOVZ), CMOV(CMOVNBE), CMOV(CMOVS), CMOV(CMOVNP), CMOV(CMOVL), CMOV(CMOVNLE),
	SET(SETNO), SET(SETB), SET(SETNZ), SET(SETBE), SET(SETNS), SET(SETP), SET(SETNL), SET(SETLE),
	{M(LAHF), "", 1}, {M(SAHF), "", 1}, {M(CMC), "", 1}, {M(CLC), "", 1}, {M(STC), "", 1},
	{M(PUSH), "E", Q}, {M(PUSH), "R", Q}, {M(PUSH), "I", Q}, {M(POP), "R", Q}, {M(POP), "R", Q}, {M(POP), "M", Q},
	{M(NOP), "", 1}, {M(PUSHFQ), "", Q}, {M(CLD), "", 1},
	{M(ANDN), "GGE", LQ}, {M(BEXTR), "GEG", LQ}, {M(BLSI), "GE", LQ}, {M(BLSR), "GE", LQ}, {M(BLSMSK), "GE", LQ},
	{M(BZHI), "GEG", LQ}, {M(MULX), "GGE", LQ}, {M(PDEP), "GGE", LQ}, {M(PEXT), "GGE", LQ}, {M(RORX), "GEi", LQ},
	{M(SARX), "GEG", LQ}, {M(SHLX), "GEG", LQ}, {M(SHRX), "GEG", LQ}, {M(ADCX), "GE", LQ}, {M(ADOX), "GE", LQ},
	{M(CRC32), "Re", L}, {M(CRC32), "Rl", L}, {M(MOV), "RS", WLQ}, {M(RDFSBASE), "R", LQ}, {M(RDGSBASE), "R", LQ},
	{M(LFENCE), "", 1}, {M(MFENCE), "", 1},
};

/* What CPL 0 alone may do. */
static const struct row privileged[] = {
	{M(CLI), "", 1}, {M(STI), "", 1}, {M(MOV), "Rc", Q}, {M(SWAPGS), "", 1}, {M(PUSHFQ), "", Q}, {M(STAC), "", 1}, {M(CLAC), "", 1},
};

/* What may fault by its operands' values. */
static const struct row dividing[] = {
	{M(DIV), "E", BWLQ},
	{M(IDIV), "E", BWLQ},
};

#define AVX3(x) {M(x), "xyW", Q}, {M(x), "XYV", Q}
static const struct row vector[] = {
	{M(MOVAPS), "xW", Q}, {M(MOVAPS), "Wx", Q}, {M(MOVDQA), "xW", Q}, {M(MOVDQU), "xU", Q}, {M(MOVDQU), "Ux", Q},
	{M(MOVUPS), "xU", Q}, {M(MOVUPD), "Ux", Q}, {M(MOVNTDQ), "Kx", Q}, {M(MOVD), "xl", L}, {M(MOVD), "lx", L},
	{M(MOVQ), "xq", Q}, {M(MOVQ), "qx", Q}, {M(MOVSS), "xs", L}, {M(MOVSD), "xd", Q}, {M(MOVSD), "dx", Q},
	{M(ADDPS), "xW", Q}, {M(ADDPD), "xW", Q}, {M(ADDSS), "xs", Q}, {M(ADDSD), "xd", Q}, {M(MULPS), "xW", Q}, {M(MULSD), "xd", Q},
	{M(DIVPD), "xW", Q}, {M(SQRTSD), "xd", Q}, {M(MAXPS), "xW", Q}, {M(PADDD), "xW", Q}, {M(PADDQ), "xW", Q},
	{M(PSUBB), "xW", Q}, {M(PXOR), "xW", Q}, {M(PAND), "xW", Q}, {M(POR), "xW", Q}, {M(PMULLW), "xW", Q},
	{M(PCMPEQB), "xW", Q}, {M(PSHUFD), "xWi", Q}, {M(PSHUFB), "xW", Q}, {M(PUNPCKLBW), "xW", Q}, {M(PSLLDQ), "xi", Q},
	{M(PMOVMSKB), "Rx", L}, {M(MOVMSKPS), "Rx", L}, {M(PEXTRW), "Rxi", L}, {M(PINSRW), "xRi", L}, {M(PEXTRD), "lxi", L},
	{M(PINSRD), "xli", L}, {M(PINSRQ), "xqi", Q}, {M(COMISS), "xs", L}, {M(UCOMISD), "xd", Q}, {M(CVTSI2SD), "xq", Q},
	{M(CVTSI2SS), "xl", L}, {M(CVTTSD2SI), "Rd", LQ}, {M(CVTSS2SI), "Rs", LQ}, {M(CVTPS2PD), "xd", Q}, {M(SHUFPS), "xWi", Q},
	{M(LDMXCSR), "F", L}, {M(STMXCSR), "f", L}, {M(PALIGNR), "xWi", Q}, {M(AESENC), "xW", Q}, {M(PCLMULQDQ), "xWi", Q},
	{M(VMOVUPS), "xU", Q}, {M(VMOVUPS), "XV", Q}, {M(VMOVUPS), "VX", Q}, {M(VMOVDQU), "VX", Q}, {M(VMOVAPS), "xW", Q},
	AVX3(VADDPS), AVX3(VMULPD), AVX3(VPADDD), AVX3(VPXOR), AVX3(VPSHUFB), AVX3(VPCMPEQD), AVX3(VANDPS),
	{M(VFMADD231PS), "XYV", Q}, {M(VFMADD213SD), "xyd", Q}, {M(VADDSD), "xyd", Q}, {M(VBROADCASTSS), "Xs", Q}, {M(VPBROADCASTD), "Xs", L},
	{M(VPERMQ), "XVi", Q}, {M(VEXTRACTI128), "UXi", Q}, {M(VINSERTI128), "XYUi", Q}, {M(VMOVD), "xl", L}, {M(VMOVQ), "qx", Q},
	{M(VCVTSI2SD), "xyq", Q}, {M(VCVTTSD2SI), "Rd", LQ}, {M(VPMOVMSKB), "RX", L}, {M(VZEROUPPER), "", Q}, {M(VUCOMISS), "xs", L},
	{M(VBLENDVPS), "XYVX", Q}, {M(VPSRLD), "XXi", Q}, {M(VPMASKMOVD), "XYm", Q}, {M(VPMASKMOVD), "mYX", Q},
	{M(VMOVDQU32), "ZO", Q}, {M(VMOVDQU32), "OZ", Q}, {M(VPADDQ), "ZZO", Q}, {M(VPTERNLOGD), "ZZOi", Q}, {M(VPTERNLOGQ), "XYVi", Q},
	{M(KMOVW), "kl", L}, {M(KMOVW), "Rk", L}, {M(VPCMPEQD), "kZZ", Q}, {M(VPBROADCASTD), "ZR", L},
	{M(FLD), "D", Q}, {M(FADDP), "", Q}, {M(FSTP), "D", Q}, {M(EMMS), "", Q},
	{M(PCMPISTRI), "xWi", Q}, {M(RDTSC), "", 0},
};

static ZydisRegister gpr(u32 n, u32 size)
{
	switch (size) {
	case 1: return n < 4 ? ZYDIS_REGISTER_AL + n : ZYDIS_REGISTER_SPL + (n - 4);
	case 2: return ZYDIS_REGISTER_AX + n;
	case 4: return ZYDIS_REGISTER_EAX + n;
	default: return ZYDIS_REGISTER_RAX + n;
	}
}

/* A register that may change; RSP and those that addresses are made of may not. */
static u32 plain(const struct prog *p)
{
	u32 n;

	do
		n = below(16);
	while (p->role[n] != PLAIN);
	return n;
}

static ZydisRegister some_gpr(const struct prog *p, u32 size)
{
	if (size == 1 && one_in(6)) {
		u32 n = below(4);

		if (p->role[n] == PLAIN)
			return ZYDIS_REGISTER_AH + n;
	}
	return gpr(plain(p), size);
}

static u32 of_role(const struct prog *p, u8 role)
{
	u32 n;

	do
		n = below(16);
	while (p->role[n] != role);
	return n;
}

static void memory(struct prog *p, ZydisEncoderOperand *o, ZydisEncoderRequest *r, u32 size, u32 align)
{
	u64 at = AT_DATA + 64 + below(DATA_SIZE - 192), base = 0;
	u32 asize = one_in(12) ? 4 : 8, form = below(8);

	if (one_in(3)) /* near the end of a page */
		at = AT_DATA + (1 + below(2)) * PAGE_SIZE - 64 + below(72);
	at &= ~(u64)(align - 1);
	if (p->why && one_in(150))
		at = one_in(2) ? AT_ABSENT : AT_KERNEL;
	o->type = ZYDIS_OPERAND_TYPE_MEMORY;
	o->mem.size = (u16)size;
	if (one_in(8)) {
		u32 s = below(2);

		r->prefixes |= s ? ZYDIS_ATTRIB_HAS_SEGMENT_GS : ZYDIS_ATTRIB_HAS_SEGMENT_FS;
		at -= p->seg[s];
	}
	if (form == 0) {
		o->mem.base = ZYDIS_REGISTER_NONE; /* absolute */
	} else if (form == 1) {
		o->mem.base = ZYDIS_REGISTER_RIP; /* made relative once the length is known */
		base = AT_CODE + p->n;
	} else {
		u32 b = of_role(p, POINTER);

		o->mem.base = gpr(b, asize);
		base = p->gpr[b];
		if (form > 4) {
			u32 x = of_role(p, INDEX);

			o->mem.index = gpr(x, asize);
			o->mem.scale = (u8)(1 << below(4));
			base += p->gpr[x] * o->mem.scale;
		} else if (form == 4) {
			at = base; /* no displacement */
			if (at & (align - 1))
				at &= ~(u64)(align - 1);
		}
	}
	o->mem.displacement = (ZyanI64)(at - base);
}

static void xmm(ZydisEncoderOperand *o, ZydisRegister first, u32 n)
{
	o->type = ZYDIS_OPERAND_TYPE_REGISTER;
	o->reg.value = first + below(n);
}

static void operand(struct prog *p, char letter, u32 size, ZydisEncoderOperand *o, ZydisEncoderRequest *r)
{
	static const u8 widths[] = {1, 2, 4, 8};
	u32 k;

	o->type = ZYDIS_OPERAND_TYPE_REGISTER;
	switch (letter) {
	case 'A':
		o->reg.value = gpr(0, size);
		break;
	case 'G':
	case 'R':
		o->reg.value = some_gpr(p, size);
		break;
	case 'E':
		if (one_in(2))
			memory(p, o, r, size, 1);
		else
			o->reg.value = some_gpr(p, size);
		break;
	case 'e':
	case 'w':
	case 'l':
	case 'q':
		k = widths[letter == 'e' ? 0 : letter == 'w' ? 1 : letter == 'l' ? 2 : 3];
		if (one_in(2))
			memory(p, o, r, k, 1);
		else
			o->reg.value = some_gpr(p, k);
		break;
	case 'M':
	case 'm':
		memory(p, o, r, letter == 'm' ? 32 : size, 1);
		break;
	case 'N':
		memory(p, o, r, size, 1);
		r->prefixes = 0;
		break;
	case 'D': /* an x87 operand */
		memory(p, o, r, 8, 1);
		break;
	case 'F': /* a valid MXCSR */
	case 'f':
		memory(p, o, r, 4, 1);
		r->prefixes = 0;
		o->mem.base = o->mem.index = ZYDIS_REGISTER_NONE;
		o->mem.scale = 0;
		o->mem.displacement = AT_COUNTER + 0x800;
		break;
	case 'S':
		o->reg.value = ZYDIS_REGISTER_ES + below(6);
		break;
	case 'c':
		o->reg.value = one_in(2) ? ZYDIS_REGISTER_CR3 : ZYDIS_REGISTER_CR0;
		break;
	case 'C':
		o->reg.value = ZYDIS_REGISTER_CL;
		break;
	case '1':
	case 'i':
		o->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		o->imm.u = letter == '1' ? 1 : below(256);
		break;
	case 'I':
		o->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		o->imm.s = size == 1 || one_in(2) ? (s8)rnd() : size == 2 ? (s16)rnd() : (s32)rnd();
		break;
	case 'J':
		o->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		o->imm.u = rnd();
		break;
	case 'x':
	case 'y':
		xmm(o, ZYDIS_REGISTER_XMM0, 16);
		break;
	case 'X':
	case 'Y':
		xmm(o, ZYDIS_REGISTER_YMM0, 16);
		break;
	case 'Z':
		xmm(o, ZYDIS_REGISTER_ZMM0, 32);
		break;
	case 'k':
		xmm(o, ZYDIS_REGISTER_K1, 7);
		break;
	case 'W': /* aligned when legacy */
	case 'U':
	case 'K':
		if (letter == 'K' || one_in(2))
			memory(p, o, r, 16, letter != 'U' ? 16 : 1);
		else
			xmm(o, ZYDIS_REGISTER_XMM0, 16);
		break;
	case 'V':
		if (one_in(2))
			memory(p, o, r, 32, 1);
		else
			xmm(o, ZYDIS_REGISTER_YMM0, 16);
		break;
	case 'O':
		if (one_in(2))
			memory(p, o, r, 64, 1);
		else
			xmm(o, ZYDIS_REGISTER_ZMM0, 32);
		break;
	case 's':
	case 'd':
		if (one_in(2))
			memory(p, o, r, letter == 's' ? 4 : 8, 1);
		else
			xmm(o, ZYDIS_REGISTER_XMM0, 16);
		break;
	default:
		fail();
	}
}

/* ---- emission ---- */

static ZydisDecoder decoder;

static void put(struct prog *p, const void *bytes, u32 n)
{
	assert_true(p->n + n < sizeof(p->code) - 64);
	memcpy(p->code + p->n, bytes, n);
	p->n += n;
}

#define PUT(p, ...) put(p, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void track_flags(struct prog *p, const ZydisDecodedInstruction *z)
{
	const ZydisAccessedFlags *f = z->cpu_flags;
	u32 written;

	if (!f)
		return;
	written = f->modified | f->set_0 | f->set_1;
	/* a count that may be zero leaves them */
	if (z->meta.category == ZYDIS_CATEGORY_SHIFT || z->meta.category == ZYDIS_CATEGORY_ROTATE)
		written = 0;
	p->undef = (p->undef & ~written) | f->undefined;
}

static bool reads_undefined(const struct prog *p, const ZydisDecodedInstruction *z)
{
	return z->cpu_flags && (z->cpu_flags->tested & p->undef);
}

/* cmp with whatever */
static void define_flags(struct prog *p)
{
	u32 a = below(8);

	PUT(p, 0x48, 0x39, (u8)(0xc0 | a << 3 | below(8)));
	p->undef = 0;
}

static bool encode(struct prog *p, const struct row *row)
{
	ZydisEncoderRequest r;
	ZydisDecodedInstruction z;
	u8 bytes[16];
	ZyanUSize len = sizeof(bytes);
	u32 size, k;

	if (row->m == ZYDIS_MNEMONIC_POP && p->in_call)
		return false;
	memset(&r, 0, sizeof(r));
	r.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	r.mnemonic = row->m;
	do
		size = below(4);
	while (row->sizes && !(row->sizes & BIT(size)));
	for (k = 0; row->ops[k]; k++)
		operand(p, row->ops[k], 1 << size, &r.operands[k], &r);
	r.operand_count = (u8)k;
	if (row->m == ZYDIS_MNEMONIC_BT && r.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    r.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	if (row->lock && r.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY && one_in(3))
		r.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
	if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&r, bytes, &len)))
		return false;
	for (k = 0; k < r.operand_count; k++)
		if (r.operands[k].type == ZYDIS_OPERAND_TYPE_MEMORY && r.operands[k].mem.base == ZYDIS_REGISTER_RIP) {
			r.operands[k].mem.displacement -= (ZyanI64)len;
			if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&r, bytes, &len)))
				return false;
		}
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, len, &z)))
		return false;
	if (reads_undefined(p, &z))
		return false;
	put(p, bytes, (u32)len);
	track_flags(p, &z);
	return true;
}

static void insn(struct prog *p)
{
	for (;;) {
		u32 k = below(100);

		if (p->why && k < 1 && encode(p, &dividing[below(ARRAY_SIZE(dividing))]))
			return;
		if (p->cpl == 0 && k < 5 && encode(p, &privileged[below(ARRAY_SIZE(privileged))]))
			return;
		if (p->simd && k < 50 && encode(p, &vector[below(ARRAY_SIZE(vector) - 1)]))
			return;
		if (encode(p, &integer[below(ARRAY_SIZE(integer))]))
			return;
		if (p->undef && one_in(3)) {
			define_flags(p);
			return;
		}
	}
}

static void patch8(struct prog *p, u32 at)
{
	p->code[at] = (u8)(p->n - at - 1);
}

static void body(struct prog *p, u32 n, u32 depth);

/* jcc over a few instructions; undefined flags are defined first. */
static void skip_some(struct prog *p, u32 depth)
{
	u32 at, undef;

	if (p->undef)
		define_flags(p);
	PUT(p, 0x0f, (u8)(0x80 | below(16)), 0, 0, 0, 0);
	at = p->n - 4;
	undef = p->undef;
	body(p, 1 + below(4), depth + 1);
	p->undef |= undef;
	memcpy(p->code + at, &(u32){p->n - at - 4}, 4);
}

/* mov dword [counter], n; body; dec dword [counter]; jnz */
static void loop(struct prog *p, u32 n, u32 times, u32 depth)
{
	u32 counter = AT_COUNTER + p->counters++ * 4, top, undef;
	s32 back;

	PUT(p, 0xc7, 0x04, 0x25);
	put(p, &counter, 4);
	put(p, &times, 4);
	top = p->n;
	/* whatever the body leaves undefined is so at its start, too */
	undef = X86_FLAGS_ARITH;
	p->undef |= undef;
	body(p, n, depth + 1);
	PUT(p, 0xff, 0x0c, 0x25);
	put(p, &counter, 4);
	PUT(p, 0x0f, 0x85);
	back = (s32)(top - (p->n + 4));
	put(p, &back, 4);
	p->undef &= X86_FLAG_CF;
}

/* call over a jump around the body of a function, which is right here */
static void call(struct prog *p, u32 depth)
{
	u32 over, place, undef;

	if (one_in(2)) { /* indirect: lea r, [rip + 2...]; the function follows */
		u32 r = plain(p);

		PUT(p, (u8)(0x48 | (r >> 3) << 2), 0x8d, (u8)(0x05 | (r & 7) << 3), 0, 0, 0, 0);
		place = p->n - 4;
		PUT(p, 0x41, 0xff, (u8)(0xd0 | (r & 7)));
		p->code[p->n - 3] = (u8)(0x40 | r >> 3);
		PUT(p, 0xeb, 0);
		over = p->n - 1;
		memcpy(p->code + place, &(u32){p->n - place - 4}, 4);
	} else {
		PUT(p, 0xe8, 2, 0, 0, 0, 0xeb, 0);
		over = p->n - 1;
	}
	undef = p->undef;
	p->in_call = true;
	PUT(p, 0x55); /* push rbp, balanced by leave-like lea */
	body(p, 1 + below(3), depth + 2);
	PUT(p, 0x48, 0x8d, 0x24, 0x25); /* lea rsp, [fixed] */
	put(p, &(u32){AT_STACK - 8}, 4);
	PUT(p, 0xc3);
	p->in_call = false;
	p->undef |= undef;
	patch8(p, over);
}

static void body(struct prog *p, u32 n, u32 depth)
{
	for (u32 k = 0; k < n; k++) {
		u32 what = below(20);

		if (what == 0 && depth < 3)
			loop(p, 1 + below(5), 1 + below(6), depth);
		else if (what < 3 && depth < 3)
			skip_some(p, depth);
		else
			insn(p);
	}
}

static void fix_stack(struct prog *p)
{
	PUT(p, 0x48, 0xc7, 0xc4); /* mov rsp, imm32 */
	put(p, &(u32){AT_STACK}, 4);
}

static void generate(struct prog *p, u64 seed, bool simd, bool faults)
{
	u32 k, n;

	memset(p, 0, sizeof(*p));
	rng = seed * 0x9e3779b97f4a7c15ull + 1;
	for (k = 0; k < 10; k++)
		rnd();
	p->simd = simd;
	p->why = faults ? "faults" : NULL;
	p->cpl = one_in(2) ? 3 : 0;
	p->seg[0] = below(0x1000);
	p->seg[1] = (u64)-(s64)below(0x1000);
	p->role[X86_RSP] = 0xff;
	for (k = 0; k < 6;) {
		n = below(16);
		if (p->role[n] != PLAIN || n == X86_RAX || n == X86_RDX)
			continue;
		p->role[n] = k < 4 ? POINTER : INDEX;
		k++;
	}
	for (k = 0; k < 16; k++) {
		p->gpr[k] = one_in(2) ? rnd() : rnd() >> below(64);
		if (p->role[k] == POINTER)
			p->gpr[k] = (AT_DATA + 64 + below(DATA_SIZE - 192)) & ~(one_in(2) ? 63ull : 0);
		else if (p->role[k] == INDEX)
			p->gpr[k] = below(200);
	}
	p->gpr[X86_RSP] = AT_STACK;
	/* outermost loop, inlined: it must set the stack right */
	PUT(p, 0xc7, 0x04, 0x25);
	put(p, &(u32){AT_COUNTER}, 4);
	put(p, &(u32){LOOPS}, 4);
	p->counters = 1;
	n = p->n;
	fix_stack(p);
	p->undef = X86_FLAGS_ARITH;
	for (k = 1 + below(4); k; k--) {
		body(p, 1 + below(12), 0);
		if (one_in(3)) {
			fix_stack(p);
			call(p, 0);
		}
	}
	PUT(p, 0xff, 0x0c, 0x25);
	put(p, &(u32){AT_COUNTER}, 4);
	PUT(p, 0x0f, 0x85);
	put(p, &(s32){(s32)(n - (p->n + 4))}, 4);
	p->undef &= X86_FLAG_CF;
	PUT(p, 0xf4);
}

/* ---- comparing ---- */

static void show(const struct prog *p)
{
	ZydisDisassembledInstruction d;
	u32 at = 0;

	for (u32 n = 0; n < 16; n++)
		print_error("%s%016lx", n % 4 ? " " : "\n  ", p->gpr[n]);
	print_error("\n  fs %lx gs %lx cpl %u undefined flags %x\n", p->seg[0], p->seg[1], p->cpl, p->undef);
	while (at < p->n && ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, AT_CODE + at, p->code + at,
								 p->n - at, &d))) {
		print_error("  %5x  %s\n", AT_CODE + at, d.text);
		at += d.info.length;
	}
}

static void prepare(struct fx *f, const struct prog *p)
{
	struct x86_cpu *c = f->c;
	u64 save = rng;

	fx_long(f, p->cpl);
	for (u32 v = 0; v < 256; v++)
		fx_gate(f, (u8)v, 0, 0);
	fx_put(f, AT_CODE, p->code, p->n);
	rng = 12345;
	for (u32 at = 0; at < DATA_SIZE; at += 8)
		fx_set(f, AT_DATA + at, rnd() >> (at & 63), 8);
	memset(f->toy.ram + AT_STACK - 0x2000, 0, 0x4000);
	memset(f->toy.ram + AT_STACK0 - 0x1000, 0, 0x1000);
	memset(f->toy.ram + AT_COUNTER, 0, PAGE_SIZE);
	fx_set(f, AT_COUNTER + 0x800, 0x1f80 | (rng & 0x6000), 4);
	memcpy(c->gpr, p->gpr, sizeof(p->gpr));
	c->seg[X86_FS].base = p->seg[0];
	c->seg[X86_GS].base = p->seg[1];
	c->msr.kernel_gs_base = p->seg[1]; /* so that SWAPGS may be anywhere */
	c->cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;
	c->xcr0 = x86_host_xcr0();
	x86_state_changed(c, true);
	x86_simd_reset(c);
	c->aflags = 0;
	c->cr2 = 0;
	x86_code_io_epoch(f->code);
	c->rip = AT_CODE;
	rng = save;
}

/* The flags in an exception's frame may be dead ones. */
static void mask_frame(struct fx *f)
{
	u64 sp = f->c->gpr[X86_RSP];

	if (fx_vector(f) < 0 || sp < AT_STACK - 0x2000 || sp > AT_STACK0)
		return;
	for (u32 k = 2; k < 4; k++)
		fx_set(f, sp + k * 8, fx_get(f, sp + k * 8, 8) & ~(u64)X86_FLAGS_ARITH, 8);
}

static const char *compare(struct pair *p, const struct prog *g)
{
	struct x86_cpu *a = p->f[0].c, *b = p->f[1].c;
	u8 *ra = p->f[0].toy.ram, *rb = p->f[1].toy.ram;
	u32 keep = ~g->undef & X86_FLAGS_ARITH;

	static char text[200];

	if (a->rip != b->rip) {
		snprintf(text, sizeof(text), "rip %lx %lx", a->rip, b->rip);
		return text;
	}
	for (u32 n = 0; n < 16; n++)
		if (a->gpr[n] != b->gpr[n]) {
			snprintf(text, sizeof(text), "register %u: %lx %lx (rip %lx)", n, a->gpr[n], b->gpr[n], a->rip);
			return text;
		}
	if (a->cr2 != b->cr2)
		return "cr2";
	mask_frame(&p->f[0]);
	mask_frame(&p->f[1]);
	if (fx_vector(&p->f[0]) < 0 && ((x86_rflags(a) ^ x86_rflags(b)) & (keep | ~(u64)X86_FLAGS_ARITH))) {
		snprintf(text, sizeof(text), "flags %lx %lx", x86_rflags(a), x86_rflags(b));
		return text;
	}
	for (u32 at = AT_DATA; at < AT_DATA + 0x9000; at += 8)
		if (memcmp(ra + at, rb + at, 8)) {
			snprintf(text, sizeof(text), "memory at %x: %lx %lx", at, *(u64 *)(ra + at), *(u64 *)(rb + at));
			return text;
		}
	for (u32 at = AT_STACK - 0x2000; at < AT_STACK0 + 0x1000; at += 8)
		if (memcmp(ra + at, rb + at, 8)) {
			snprintf(text, sizeof(text), "stack at %x: %lx %lx", at, *(u64 *)(ra + at), *(u64 *)(rb + at));
			return text;
		}
	if (g->simd) {
		u8 *xa = x86_simd_image(a, ~0ull), *xb = x86_simd_image(b, ~0ull);

		for (u32 at = 0; at < a->xsave_size; at++)
			if (xa[at] != xb[at] && (at < X86_XS_BV || at >= X86_XS_EXTENDED)) {
				snprintf(text, sizeof(text), "SIMD image at %u: %02x %02x", at, xa[at], xb[at]);
				return text;
			}
	}
	return NULL;
}

static bool run_one(struct pair *p, u64 seed, bool simd, bool faults, bool verbose)
{
	static struct prog g;
	enum x86_exit_reason why[2];
	const char *what;

	generate(&g, seed, simd, faults);
	if (verbose)
		show(&g);
	for (u32 n = 0; n < 2; n++) {
		prepare(&p->f[n], &g);
		running = p->f[n].c;
		alarm(PATIENCE);
		why[n] = fx_run(&p->f[n]);
		alarm(0);
		x86_unrequest(running, X86_REQ_OUT);
	}
	if (why[0] == why[1] && why[0] != X86_EXIT_HLT) /* for ever, or a triple fault */
		return true;
	if (why[0] != why[1]) {
		print_error("seed %lu: left with %u and %u\n", seed, why[0], why[1]);
		show(&g);
		return false;
	}
	what = compare(p, &g);
	if (!what)
		return true;
	print_error("seed %lu: %s\n", seed, what);
	show(&g);
	return false;
}

static void run_many(void **state, u64 first, bool simd, bool faults)
{
	const char *seed = getenv("AV_TB_SEED"), *count = getenv("AV_TB_COUNT");
	u64 n = count ? strtoull(count, NULL, 0) : 1500;
	struct pair *p = *state;
	u64 made;

	take_signals();
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (seed) {
		assert_true(run_one(p, strtoull(seed, NULL, 0), simd, faults, true));
		return;
	}
	for (u64 k = 0; k < n; k++)
		assert_true(run_one(p, first + k, simd, faults, false));
	made = p->f[1].c->stats[X86_STAT_TB_MADE];
	print_message("%lu programs, %lu blocks, %lu instructions, %lu by SLOW\n", n, made,
		      p->f[1].c->stats[X86_STAT_TB_INSNS], p->f[1].c->stats[X86_STAT_TB_SLOW]);
	assert_true(made > n / 2);
}

static void random_integer(void **state)
{
	run_many(state, 1, false, false);
}

static void random_faulting(void **state)
{
	run_many(state, 1000000, false, true);
}

static void random_vector(void **state)
{
	run_many(state, 2000000, true, false);
}

static void random_vector_faulting(void **state)
{
	run_many(state, 3000000, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_integer, setup, teardown),
		cmocka_unit_test_setup_teardown(random_faulting, setup, teardown),
		cmocka_unit_test_setup_teardown(random_vector, setup, teardown),
		cmocka_unit_test_setup_teardown(random_vector_faulting, setup, teardown),
	};

	if (getenv("AV_TB_TEST"))
		cmocka_set_test_filter(getenv("AV_TB_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
