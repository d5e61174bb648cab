// SPDX-License-Identifier: MIT
/*
 * The integer handlers against the bare instruction: each operation, form and size is encoded by
 * Zydis with random operands, executed by this processor in a generated thunk, then by its handler,
 * and all registers, arithmetic flags and memory must agree.
 *
 * The MMU is a toy here (linear address == host address), so that faults and bounced accesses can
 * be asked for at any point.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

/* ---- the toy MMU ---- */

static struct x86_cpu cpu;
static struct x86_tlb_entry empty_tlb[X86_TLB_SIZE], full_tlb[X86_TLB_SIZE];
static u8 *scratch; /* SCRATCH bytes, addresses under test are in the middle */
#define SCRATCH 0x4000
static jmp_buf fault_jmp;
static int fault_at, accesses, raised;
/* addresses that were probed successfully: accesses there do not fault any more */
static u64 probed[64];
static u32 nr_probed;
__thread const char *x86_rule_text;

static void toy_access(u64 la, u32 size)
{
	u32 k;

	if (la < (u64)scratch || la + size > (u64)scratch + SCRATCH) {
		print_error("access to %lx, scratch is at %p\n", la, scratch);
		raised = -2;
		longjmp(fault_jmp, 1);
	}
	for (k = 0; k < nr_probed; k++)
		if (probed[k] == la)
			return;
	if (++accesses == fault_at) {
		raised = X86_PF;
		longjmp(fault_jmp, 1);
	}
}

void x86_read_slow(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 size)
{
	toy_access(la, size);
	memcpy(buf, (void *)la, size);
}

void x86_write_slow(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 size)
{
	toy_access(la, size);
	memcpy((void *)la, buf, size);
}

void *x86_rmw_slow(struct x86_cpu *c, struct x86_rmw *w, bool locked)
{
	toy_access(w->la, w->size);
	w->bounced = true;
	memcpy(w->buf, (void *)w->la, w->size);
	return w->buf;
}

void x86_rmw_finish(struct x86_cpu *c, struct x86_rmw *w)
{
	memcpy((void *)w->la, w->buf, w->size);
}

void x86_probe(struct x86_cpu *c, u8 seg, u64 la, u32 size, bool write)
{
	toy_access(la, size);
	assert_true(nr_probed < ARRAY_SIZE(probed));
	probed[nr_probed++] = la;
}

u64 x86_seg_check(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write)
{
	return ea + c->seg[seg].base;
}

void x86_push(struct x86_cpu *c, u64 v, u8 size)
{
	u64 sp = c->gpr[X86_RSP] - size;

	x86_write_slow(c, X86_SS, sp, &v, size);
	x86_set_sp(c, sp);
}

u64 x86_peek(struct x86_cpu *c, s32 disp, u8 size)
{
	u64 v = 0;

	x86_read_slow(c, X86_SS, c->gpr[X86_RSP] + disp, &v, size);
	return v;
}

u64 x86_pop(struct x86_cpu *c, u8 size)
{
	u64 v = x86_peek(c, 0, size);

	x86_set_sp(c, c->gpr[X86_RSP] + size);
	return v;
}

void __noreturn x86_raise(struct x86_cpu *c, u8 vector)
{
	raised = vector;
	longjmp(fault_jmp, 1);
}

void __noreturn x86_raise_err(struct x86_cpu *c, u8 vector, u32 error)
{
	x86_raise(c, vector);
}

/* ---- a decoder of just what these instructions need ---- */

static u8 slot_of(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE)
		return X86_GPR_ZERO;
	return (u8)ZydisRegisterGetId(r);
}

static bool toy_decode(const u8 *bytes, u8 bits, struct x86_insn *i)
{
	struct x86_decoded d = {.bytes = bytes, .bits = bits};
	const struct x86_op_row *row;
	ZydisDecoder dec;
	int k;

	if (bits == 8)
		ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else
		ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, bytes, 15, &d.z, d.op)));
	memset(i, 0, sizeof(*i));
	i->len = d.z.length;
	i->bits = bits;
	i->opsize = d.z.operand_width / 8;
	i->asize = d.z.address_width / 8;
	i->base = i->index = X86_GPR_ZERO;
	i->seg = X86_DS;
	if (d.z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		i->flags |= X86_I_LOCK;
	for (k = 0; k < d.z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d.op[k];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		i->flags |= X86_I_MEM | (bits == 8 ? X86_I_FLAT : 0);
		i->seg = o->mem.segment - ZYDIS_REGISTER_ES;
		i->base = slot_of(o->mem.base);
		i->index = slot_of(o->mem.index);
		i->scale = o->mem.scale > 1 ? __builtin_ctz(o->mem.scale) : 0;
		i->disp = o->mem.disp.value;
	}
	for (row = x86_ops_int; row->mnemonic; row++) {
		if (row->mnemonic != d.z.mnemonic)
			continue;
		i->fn = row->fn;
		return row->fn || (row->bind(&d, i) && i->fn);
	}
	return false;
}

/* ---- the bare instruction ---- */

struct context {
	u64 gpr[16], flags_in, host_rsp;
	u64 flags_out, flags_top; /* PUSHFQ writes below flags_top */
};
static u8 *thunk;
static struct context *ctx; /* in the thunk's page, so that it is addressed from RIP */
static sigjmp_buf host_jmp;

static void on_signal(int sig)
{
	siglongjmp(host_jmp, sig);
}

static u8 *emit_rip(u8 *p, u8 rex, u8 op, u8 reg, const void *target)
{
	s32 disp;

	*p++ = rex | (reg >= 8 ? 4 : 0);
	*p++ = op;
	*p++ = 5 | (reg & 7) << 3;
	disp = (s32)((const u8 *)target - (p + 4));
	memcpy(p, &disp, 4);
	return p + 4;
}

static void build_thunk(const u8 *insn, u32 len)
{
	static const u8 save[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
	static const u8 restore[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b};
	u8 *p = thunk;
	int k;

	memcpy(p, save, sizeof(save));
	p += sizeof(save);
	p = emit_rip(p, 0x48, 0x89, X86_RSP, &ctx->host_rsp);
	p = emit_rip(p, 0x48, 0x8d, X86_RSP, &ctx->flags_in);
	*p++ = 0x9d; /* popfq */
	for (k = 0; k < 16; k++)
		p = emit_rip(p, 0x48, 0x8b, k, &ctx->gpr[k]);
	memcpy(p, insn, len);
	p += len;
	for (k = 0; k < 16; k++)
		p = emit_rip(p, 0x48, 0x89, k, &ctx->gpr[k]);
	p = emit_rip(p, 0x48, 0x8d, X86_RSP, &ctx->flags_top);
	*p++ = 0x9c; /* pushfq */
	p = emit_rip(p, 0x48, 0x8b, X86_RSP, &ctx->host_rsp);
	*p++ = 0xfc; /* cld */
	memcpy(p, restore, sizeof(restore));
	p += sizeof(restore);
	*p = 0xc3;
}

/* To be called in each test that runs host code: cmocka has handlers of its own while a test runs.
 */
static void catch_signals(void)
{
	static u8 altstack[65536];
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

	sigaltstack(&ss, NULL);
	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

/* Returns 0 or the signal that the instruction died of. */
static int run_host(void)
{
	int sig = sigsetjmp(host_jmp, 1);

	if (!sig)
		((void (*)(void))(void *)thunk)();
	return sig;
}

/* ---- random states ---- */

static u64 rng = 0x9e3779b97f4a7c15ull;
static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

static u64 rnd_value(void)
{
	static const u64 edge[] = {0,
				   1,
				   2,
				   ~0ull,
				   0x7f,
				   0x80,
				   0xff,
				   0x7fff,
				   0x8000,
				   0xffff,
				   0x7fffffff,
				   0x80000000,
				   0xffffffff,
				   0x7fffffffffffffff,
				   0x8000000000000000,
				   0xffffffff80000000,
				   0xffffffffffff8000,
				   0xffffffffffffff80};

	switch (rnd() % 4) {
	case 0:
		return edge[rnd() % ARRAY_SIZE(edge)];
	case 1:
		return rnd() % 256;
	case 2:
		return rnd() & 0xffffffff;
	default:
		return rnd();
	}
}

static u16 to_aflags(u64 rflags)
{
	return (u16)((rflags & 0xd5) << 8 | ((rflags >> 11) & 1));
}

#define AFLAGS 0xd501

static void tables(bool hit)
{
	cpu.rtlb = cpu.wtlb = hit ? full_tlb : empty_tlb;
}

/* ---- one comparison ---- */

struct state {
	u64 gpr[16];
	u16 aflags;
	u32 rflags;
	u8 mem[SCRATCH];
};
static struct state before, want;

static void load_state(const struct state *s)
{
	memcpy(cpu.gpr, s->gpr, sizeof(s->gpr));
	cpu.gpr[X86_GPR_ZERO] = 0;
	cpu.aflags = s->aflags;
	cpu.rflags = s->rflags;
	memcpy(scratch, s->mem, SCRATCH);
}

static bool same_state(const struct state *s)
{
	return !memcmp(cpu.gpr, s->gpr, sizeof(s->gpr)) && !((cpu.aflags ^ s->aflags) & AFLAGS) &&
	       cpu.rflags == s->rflags && !memcmp(scratch, s->mem, SCRATCH);
}

static void complain(const char *what, const u8 *insn, u8 len, const struct state *s)
{
	char text[128];
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoder dec;
	ZydisFormatter fmt;
	int k;

	ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
	strcpy(text, "?");
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, insn, len, &z, op)))
		ZydisFormatterFormatInstruction(&fmt, &z, op, z.operand_count_visible, text,
						sizeof(text), 0, NULL);
	print_error("%s: %s\n", what, text);
	for (k = 0; k < 16; k++)
		if (cpu.gpr[k] != s->gpr[k])
			print_error("  r%d before %lx got %lx want %lx\n", k, before.gpr[k],
				    cpu.gpr[k], s->gpr[k]);
	print_error("  aflags before %x got %x want %x\n", before.aflags, cpu.aflags & AFLAGS,
		    s->aflags & AFLAGS);
	for (k = 0; k < SCRATCH; k++)
		if (scratch[k] != s->mem[k]) {
			print_error("  memory differs from +%x\n", k);
			break;
		}
	fail();
}

/* Runs the handler; returns the vector it raised or -1. */
static int run_handler(const struct x86_insn *i)
{
	raised = -1;
	accesses = 0;
	nr_probed = 0;
	if (!setjmp(fault_jmp))
		assert_ptr_equal(i->fn(&cpu, i), i + 1);
	return raised;
}

/* `before` holds the start; true when the host executed the instruction (false: #DE, and so did the
 * handler). */
static bool compare(const u8 *insn, u8 len)
{
	struct x86_insn i;
	int sig, n;

	if (!toy_decode(insn, 8, &i)) {
		load_state(&before);
		complain("not bound", insn, len, &before);
	}
	build_thunk(insn, len);
	memcpy(ctx->gpr, before.gpr, sizeof(before.gpr));
	ctx->flags_in = 0x202 | ((before.aflags >> 8) & 0xd5) | (before.aflags & 1) << 11;
	memcpy(scratch, before.mem, SCRATCH);
	sig = run_host();
	if (sig == SIGFPE) {
		want = before;
	} else {
		memcpy(want.gpr, ctx->gpr, sizeof(want.gpr));
		want.aflags = to_aflags(ctx->flags_out);
		want.rflags = before.rflags;
		memcpy(want.mem, scratch, SCRATCH);
	}

	/* straight, then with every access through the slow path */
	for (n = 0; n < 2; n++) {
		int v;

		tables(!n);
		fault_at = 0;
		load_state(&before);
		v = run_handler(&i);
		if (v != (sig == SIGFPE ? X86_DE : -1) || (sig && sig != SIGFPE) ||
		    !same_state(&want))
			complain(n ? "slow path" : "result", insn, len, &want);
	}
	/* a fault at each access in turn leaves everything alone */
	for (n = 1;; n++) {
		fault_at = n;
		load_state(&before);
		if (run_handler(&i) != X86_PF)
			break;
		if (!same_state(&before))
			complain("fault", insn, len, &before);
	}
	return !sig;
}

/* ---- encodings ---- */

static const ZydisRegister first_reg[4] = {ZYDIS_REGISTER_AL, ZYDIS_REGISTER_AX, ZYDIS_REGISTER_EAX,
					   ZYDIS_REGISTER_RAX};

static ZydisEncoderOperand reg_operand(int size)
{
	ZydisEncoderOperand o = {.type = ZYDIS_OPERAND_TYPE_REGISTER};

	/* byte registers: AL..R15B with AH..BH among them */
	o.reg.value = first_reg[size] + rnd() % (size ? 16 : 20);
	return o;
}

static ZydisEncoderOperand mem_operand(u32 bytes)
{
	ZydisEncoderOperand o = {.type = ZYDIS_OPERAND_TYPE_MEMORY};
	u64 target = (u64)scratch + SCRATCH / 2 + rnd() % 64;
	int base = rnd() % 16, index = rnd() % 16;

	if (bytes == 16)
		target &= ~15ull;
	o.mem.size = bytes;
	o.mem.base = ZYDIS_REGISTER_RAX + base;
	o.mem.displacement = (s8)rnd();
	/* RSP alone stays near the scratch: it may be the stack at the same time */
	if (index != base && index != X86_RSP && base != X86_RSP && rnd() & 1) {
		o.mem.index = ZYDIS_REGISTER_RAX + index;
		o.mem.scale = 1 << rnd() % 4;
		target -= before.gpr[index] * o.mem.scale;
	}
	before.gpr[base] = target - (u64)o.mem.displacement;
	return o;
}

static ZydisEncoderOperand imm_operand(u64 v)
{
	ZydisEncoderOperand o = {.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};

	o.imm.s = (s64)v;
	return o;
}

static void random_state(void)
{
	u32 k;

	for (k = 0; k < 16; k++)
		before.gpr[k] = rnd_value();
	/* RSP and RBP may be used as a stack */
	before.gpr[X86_RSP] = (u64)scratch + SCRATCH / 2 - 64 + (rnd() & 63);
	before.aflags = rnd() & AFLAGS;
	before.rflags = 0x202;
	for (k = 0; k < SCRATCH; k += 8) {
		u64 v = rnd_value();

		memcpy(before.mem + k, &v, 8);
	}
}

/*
 * Forms are written one letter an operand: r register, m memory, i immediate, c CL, 1 the constant
 * 1, R/M source of the width given by `src`.
 */
struct op_case {
	ZydisMnemonic m;
	const char *forms;
	u8 sizes; /* bit per log2 of the operand size */
	u8 lock;  /* LOCK is allowed with a memory destination */
	s8 src;	  /* log2 of the source size, -1: the same */
};
#define ALL  15
#define WIDE 14
#define M(x) ZYDIS_MNEMONIC_##x
static const struct op_case cases[] = {
	{M(MOV), "rr rm mr ri mi", ALL, 0, -1},
	{M(ADD), "rr rm mr ri mi", ALL, 1, -1},
	{M(OR), "rr rm mr ri mi", ALL, 1, -1},
	{M(ADC), "rr rm mr ri mi", ALL, 1, -1},
	{M(SBB), "rr rm mr ri mi", ALL, 1, -1},
	{M(AND), "rr rm mr ri mi", ALL, 1, -1},
	{M(SUB), "rr rm mr ri mi", ALL, 1, -1},
	{M(XOR), "rr rm mr ri mi", ALL, 1, -1},
	{M(CMP), "rr rm mr ri mi", ALL, 0, -1},
	{M(TEST), "rr mr ri mi", ALL, 0, -1},
	{M(INC), "r m", ALL, 1, -1},
	{M(DEC), "r m", ALL, 1, -1},
	{M(NEG), "r m", ALL, 1, -1},
	{M(NOT), "r m", ALL, 1, -1},
	{M(SHL), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(SHR), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(SAR), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(ROL), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(ROR), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(RCL), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(RCR), "r1 rj rc m1 mj mc", ALL, 0, -1},
	{M(SHLD), "rrj rrc mrj mrc", WIDE, 0, -1},
	{M(SHRD), "rrj rrc mrj mrc", WIDE, 0, -1},
	{M(MUL), "r m", ALL, 0, -1},
	{M(IMUL), "r m", ALL, 0, -1},
	{M(IMUL), "rr rm rri rmi", WIDE, 0, -1},
	{M(DIV), "r m", ALL, 0, -1},
	{M(IDIV), "r m", ALL, 0, -1},
	{M(CBW), "-", 2, 0, -1},
	{M(CWDE), "-", 4, 0, -1},
	{M(CDQE), "-", 8, 0, -1},
	{M(CWD), "-", 2, 0, -1},
	{M(CDQ), "-", 4, 0, -1},
	{M(CQO), "-", 8, 0, -1},
	{M(BT), "rr rj mj mb", WIDE, 0, -1},
	{M(BTS), "rr rj mj mb", WIDE, 1, -1},
	{M(BTR), "rr rj mj mb", WIDE, 1, -1},
	{M(BTC), "rr rj mj mb", WIDE, 1, -1},
	{M(BSF), "rr rm", WIDE, 0, -1},
	{M(BSR), "rr rm", WIDE, 0, -1},
	{M(POPCNT), "rr rm", WIDE, 0, -1},
	{M(LZCNT), "rr rm", WIDE, 0, -1},
	{M(TZCNT), "rr rm", WIDE, 0, -1},
	{M(BSWAP), "r", WIDE, 0, -1},
	{M(MOVBE), "rm mr", WIDE, 0, -1},
	{M(MOVNTI), "mr", 12, 0, -1},
	{M(MOVZX), "rR rM", WIDE, 0, 0},
	{M(MOVZX), "rR rM", 12, 0, 1},
	{M(MOVSX), "rR rM", WIDE, 0, 0},
	{M(MOVSX), "rR rM", 12, 0, 1},
	{M(MOVSXD), "rR rM", 8, 0, 2},
	{M(LEA), "rm", WIDE, 0, -1},
	{M(XCHG), "rr mr", ALL, 1, -1},
	{M(XADD), "rr mr", ALL, 1, -1},
	{M(CMPXCHG), "rr mr", ALL, 1, -1},
	{M(CMPXCHG8B), "8", 8, 1, -1},
	{M(CMPXCHG16B), "x", 8, 1, -1},
	{M(PUSH), "r m", 10, 0, -1},
	{M(PUSH), "i", 8, 0, -1},
	{M(POP), "r m", 10, 0, -1},
	{M(ENTER), "e", 8, 0, -1},
	{M(LEAVE), "l", 8, 0, -1},
	{M(LAHF), "-", 8, 0, -1},
	{M(SAHF), "-", 8, 0, -1},
	{M(CLC), "-", 8, 0, -1},
	{M(STC), "-", 8, 0, -1},
	{M(CMC), "-", 8, 0, -1},
	{M(XLAT), "t", 8, 0, -1},
	{M(NOP), "- m", 12, 0, -1},
	{M(PREFETCHT0), "8", 8, 0, -1},
};

/* One random instance; false when Zydis cannot encode it (AH with REX, and the like). */
static bool encode(const struct op_case *t, const char *form, u32 flen, int size, bool lock,
		   u8 *out, ZyanUSize *len)
{
	ZydisEncoderRequest req = {.machine_mode = ZYDIS_MACHINE_MODE_LONG_64, .mnemonic = t->m};
	int index_reg = -1;
	bool has_mem = false;
	u32 k;

	random_state();
	for (k = 0; k < flen; k++) {
		ZydisEncoderOperand *o = &req.operands[req.operand_count];

		switch (form[k]) {
		case 'r':
			*o = reg_operand(size);
			break;
		case 'R':
			*o = reg_operand(t->src);
			break;
		case 'b': /* a bit index that reaches beyond the operand, but not out of the scratch
			   */
			*o = reg_operand(size);
			index_reg = o->reg.value - first_reg[size];
			break;
		case 'm':
			*o = mem_operand(t->m == M(LEA) ? 8 : 1 << size);
			has_mem = true;
			break;
		case 'M':
			*o = mem_operand(1 << t->src);
			has_mem = true;
			break;
		case '8':
			*o = mem_operand(t->m == M(PREFETCHT0) ? 1 : 8);
			has_mem = true;
			break;
		case 'x':
			*o = mem_operand(16);
			has_mem = true;
			break;
		case 'i':
			*o = imm_operand(size == 0   ? (u64)(s8)rnd()
					 : size == 1 ? (u64)(s16)rnd_value()
					 : t->m == M(MOV) && size == 3 && form[0] == 'r'
						 ? rnd()
						 : (u64)(s32)rnd_value());
			break;
		case 'j':
			*o = imm_operand(rnd() & (rnd() & 1 ? 0x7f : 0x0f));
			break;
		case '1':
			*o = imm_operand(1);
			break;
		case 'c':
			*o = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_REGISTER};
			o->reg.value = ZYDIS_REGISTER_CL;
			break;
		case 'e':
			*o = imm_operand(rnd() % 256);
			req.operands[1] = imm_operand(rnd() & 1 ? 0 : rnd() % 40);
			req.operand_count++;
			before.gpr[X86_RBP] = (u64)scratch + SCRATCH / 2 + 0x400;
			break;
		case 'l':
			before.gpr[X86_RBP] = (u64)scratch + SCRATCH / 2 + 0x400;
			continue;
		case 't':
			before.gpr[X86_RBX] = (u64)scratch + SCRATCH / 2;
			continue;
		default:
			continue;
		}
		req.operand_count++;
	}
	if (lock)
		req.prefixes = ZYDIS_ATTRIB_HAS_LOCK;
	if (index_reg >= 0 && has_mem) {
		const ZydisEncoderOperand *m = &req.operands[0];

		if (m->mem.base == ZYDIS_REGISTER_RAX + index_reg ||
		    m->mem.index == ZYDIS_REGISTER_RAX + index_reg)
			return false;
		before.gpr[index_reg] =
			(before.gpr[index_reg] & ~0xffffffffull & (size == 3 ? 0 : ~0ull)) | 0;
		before.gpr[index_reg] += (u64)((s64)(rnd() % 32000) - 16000);
	}
	/* CMPXCHG: equal in half of the cases */
	if (t->m == M(CMPXCHG) && has_mem && rnd() & 1) {
		u64 ea = before.gpr[req.operands[0].mem.base - ZYDIS_REGISTER_RAX] +
			 req.operands[0].mem.displacement;

		if (req.operands[0].mem.index == ZYDIS_REGISTER_NONE &&
		    req.operands[0].mem.base != ZYDIS_REGISTER_RAX)
			memcpy(before.mem + (ea - (u64)scratch), &before.gpr[X86_RAX], 8);
	}
	if ((t->m == M(CMPXCHG8B) || t->m == M(CMPXCHG16B)) && rnd() & 1 &&
	    req.operands[0].mem.index == ZYDIS_REGISTER_NONE &&
	    req.operands[0].mem.base != ZYDIS_REGISTER_RAX &&
	    req.operands[0].mem.base != ZYDIS_REGISTER_RDX) {
		u64 ea = before.gpr[req.operands[0].mem.base - ZYDIS_REGISTER_RAX] +
			 req.operands[0].mem.displacement;
		u32 half = t->m == M(CMPXCHG8B) ? 4 : 8;

		memcpy(before.mem + (ea - (u64)scratch), &before.gpr[X86_RAX], half);
		memcpy(before.mem + (ea - (u64)scratch) + half, &before.gpr[X86_RDX], half);
	}
	*len = 15;
	return ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&req, out, len));
}

#define TRIALS 400

static void test_against_host(void **state)
{
	u64 total = 0;
	u32 k;

	catch_signals();
	for (k = 0; k < ARRAY_SIZE(cases); k++) {
		const struct op_case *t = &cases[k];
		const char *form;
		int size;

		for (form = t->forms; *form;) {
			u32 flen = strcspn(form, " ");

			for (size = 0; size < 4; size++) {
				int lock, n, done, tries;

				if (!(t->sizes & BIT(size)))
					continue;
				for (lock = 0; lock <= (t->lock && strchr("m8x", *form)); lock++) {
					for (n = done = tries = 0;
					     done < TRIALS && tries < 20 * TRIALS; tries++) {
						u8 insn[16];
						ZyanUSize len;

						if (!encode(t, form, flen, size, lock, insn, &len))
							continue;
						n += compare(insn, (u8)len);
						done++;
					}
					if (done < TRIALS || n < TRIALS / 10) {
						print_error("%s %.*s size %d: %d encoded, %d "
							    "executed\n",
							    ZydisMnemonicGetString(t->m), (int)flen,
							    form, size, done, n);
						fail();
					}
					total += done;
				}
			}
			form += flen;
			form += *form == ' ';
		}
	}
	print_message("%lu instructions compared\n", total);
}

/* ---- what 64-bit mode cannot execute, in a 32-bit code segment ---- */

#define CS32 0x23
#define CS64 0x33

/* mov rsp,[ctx]; the instruction runs with EAX and flags given; returns false when the kernel has
 * no 32-bit segment */
static bool run_host32(const u8 *insn, u32 len, u32 *eax, u64 *flags)
{
	u8 *p = thunk, *patch, *there;
	static const u8 save[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
	static const u8 restore[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b};
	u32 a;

	memcpy(p, save, sizeof(save));
	p += sizeof(save);
	p = emit_rip(p, 0x48, 0x89, X86_RSP, &ctx->host_rsp);
	p = emit_rip(p, 0x48, 0x8b, X86_RAX, &ctx->gpr[X86_RAX]);
	/* push CS32; push target; push flags; popfq; lretq */
	*p++ = 0x6a, *p++ = CS32;
	*p++ = 0x68;
	patch = p;
	p += 4;
	*p++ = 0xff, *p++ = 0x35; /* push [rip+flags_in] */
	a = (u32)((u8 *)&ctx->flags_in - (p + 4));
	memcpy(p, &a, 4);
	p += 4;
	*p++ = 0x9d;
	*p++ = 0x48, *p++ = 0xcb;
	a = (u32)(u64)p;
	memcpy(patch, &a, 4);
	memcpy(p, insn, len);
	p += len;
	*p++ = 0xea; /* ljmp CS64:there */
	there = p + 6;
	a = (u32)(u64)there;
	memcpy(p, &a, 4);
	p[4] = CS64, p[5] = 0;
	p = there;
	p = emit_rip(p, 0x48, 0x89, X86_RAX, &ctx->gpr[X86_RAX]);
	p = emit_rip(p, 0x48, 0x8d, X86_RSP, &ctx->flags_top);
	*p++ = 0x9c;
	p = emit_rip(p, 0x48, 0x8b, X86_RSP, &ctx->host_rsp);
	memcpy(p, restore, sizeof(restore));
	p += sizeof(restore);
	*p = 0xc3;

	ctx->gpr[X86_RAX] = *eax;
	ctx->flags_in = *flags;
	if (run_host())
		return false;
	*eax = (u32)ctx->gpr[X86_RAX];
	*flags = ctx->flags_out;
	return true;
}

/* All of AL (and AH where it matters) with CF and AF in every combination. */
static void test_decimal(void **state)
{
	static const struct {
		const char *name;
		u8 bytes[16], len;
		u16 defined;
	} ops[] = {
		{"daa", {0x27}, 1, AFLAGS & ~X86_AF_OF},
		{"das", {0x2f}, 1, AFLAGS & ~X86_AF_OF},
		{"aaa", {0x37}, 1, X86_AF_AF | X86_AF_CF},
		{"aas", {0x3f}, 1, X86_AF_AF | X86_AF_CF},
		{"aam", {0xd4, 10}, 2, X86_AF_SF | X86_AF_ZF | X86_AF_PF},
		{"aad", {0xd5, 10}, 2, X86_AF_SF | X86_AF_ZF | X86_AF_PF},
		{"aam7", {0xd4, 7}, 2, X86_AF_SF | X86_AF_ZF | X86_AF_PF},
		{"aad16", {0xd5, 16}, 2, X86_AF_SF | X86_AF_ZF | X86_AF_PF},
		{"salc", {0xd6}, 1, AFLAGS},
		{"aam0", {0xd4, 0}, 2, AFLAGS},
	};
	u16 undefined = __builtin_cpu_is("amd") ? AFLAGS : 0; /* as AMD leaves them */
	u32 k, n;

	catch_signals();
	cpu.code_size = 4;
	for (k = 0; k < ARRAY_SIZE(ops); k++) {
		struct x86_insn i;

		assert_true(toy_decode(ops[k].bytes, 4, &i));
		for (n = 0; n < 65536 * 4; n += ops[k].len == 2 ? 3 : 1) {
			u32 eax = 0xabcd0000 | (n & 0xffff), host = eax;
			u64 start = 0x202 | (n >> 16 & 1) | (n >> 17 & 1) << 4 | (rnd() & 0x8c4),
			    flags = start;
			int v;

			cpu.gpr[X86_RAX] = eax;
			cpu.aflags = to_aflags(start);
			v = run_handler(&i);
			if (ops[k].bytes[0] == 0xd4 && !ops[k].bytes[1]) {
				assert_int_equal(v, X86_DE);
				assert_int_equal(cpu.gpr[X86_RAX], eax);
				assert_int_equal(cpu.aflags, to_aflags(start));
				continue;
			}
			assert_int_equal(v, -1);
			if (!run_host32(ops[k].bytes, ops[k].len, &host, &flags)) {
				print_message("this kernel has no 32-bit code segment\n");
				cpu.code_size = 8;
				skip();
			}
			if (cpu.gpr[X86_RAX] != host ||
			    ((cpu.aflags ^ to_aflags(flags)) & (ops[k].defined | undefined))) {
				print_error("%s eax %x flags %lx: got %lx %x, host %x %x\n",
					    ops[k].name, eax, start, cpu.gpr[X86_RAX], cpu.aflags,
					    host, to_aflags(flags));
				fail();
			}
		}
	}
	cpu.code_size = 8;
}

/* ---- the rest by hand ---- */

static void test_bound(void **state)
{
	static const u8 bound32[] = {0x62, 0x03}, bound16[] = {0x66, 0x62, 0x03};
	s32 range32[2] = {-5, 7};
	s16 range16[2] = {-300, -2};
	struct x86_insn i;
	s32 x;

	cpu.code_size = 4;
	cpu.flat = 0;
	tables(true);
	for (x = -400; x < 400; x++) {
		assert_true(toy_decode(bound32, 4, &i));
		memcpy(scratch, range32, sizeof(range32));
		cpu.gpr[X86_RAX] = (u32)x;
		cpu.gpr[X86_RBX] = 0;
		cpu.seg[X86_DS].base = (u64)scratch;
		assert_int_equal(run_handler(&i), x < -5 || x > 7 ? X86_BR : -1);
		assert_true(toy_decode(bound16, 4, &i));
		memcpy(scratch, range16, sizeof(range16));
		assert_int_equal(run_handler(&i), x < -300 || x > -2 ? X86_BR : -1);
	}
	cpu.seg[X86_DS].base = 0;
	cpu.code_size = 8;
}

static void test_direction(void **state)
{
	static const u8 cld[] = {0xfc}, std[] = {0xfd};
	struct x86_insn i;

	cpu.rflags = 0x202;
	assert_true(toy_decode(std, 8, &i));
	assert_int_equal(run_handler(&i), -1);
	assert_int_equal(cpu.rflags, 0x602);
	assert_true(toy_decode(cld, 8, &i));
	assert_int_equal(run_handler(&i), -1);
	assert_int_equal(cpu.rflags, 0x202);
}

static void test_cmpxchg16b_alignment(void **state)
{
	static const u8 insn[] = {0x48, 0x0f, 0xc7, 0x0b}; /* cmpxchg16b [rbx] */
	struct x86_insn i;

	assert_true(toy_decode(insn, 8, &i));
	random_state();
	before.gpr[X86_RBX] = (u64)scratch + 8;
	load_state(&before);
	tables(true);
	assert_int_equal(run_handler(&i), X86_GP);
	assert_true(same_state(&before));
}

/* Segment, control and debug registers are other tables' business. */
static void test_refusals(void **state)
{
	static const u8 insns[][16] = {
		{0x8e, 0xd8},	    /* mov ds, eax */
		{0x0f, 0x20, 0xc0}, /* mov rax, cr0 */
		{0x0f, 0x21, 0xc0}, /* mov rax, dr0 */
		{0x0f, 0xa1},	    /* pop fs */
	};
	struct x86_insn i;
	u32 k;

	for (k = 0; k < ARRAY_SIZE(insns); k++)
		assert_false(toy_decode(insns[k], 8, &i));
}

/* PUSHA and POPA: no 64-bit form, so by their definition. */
static void test_pusha(void **state)
{
	static const u8 push[] = {0x60}, pop[] = {0x61};
	struct x86_insn i;
	u32 k, n;

	cpu.code_size = 4;
	cpu.flat = 0;
	cpu.seg[X86_SS] = (struct x86_seg){.base = 0, .limit = ~0u, .attr = X86_SEG_DB};
	for (n = 1; n <= 9; n++) {
		random_state();
		for (k = 0; k < 16; k++)
			before.gpr[k] = (u32)before.gpr[k];
		before.gpr[X86_RSP] = (u32)(u64)scratch + 0x800;
		load_state(&before);
		tables(false);
		fault_at = n;
		assert_true(toy_decode(push, 4, &i));
		if (n < 9) {
			assert_int_equal(run_handler(&i), X86_PF);
			assert_true(same_state(&before));
		}
	}
	fault_at = 0;
	assert_int_equal(run_handler(&i), -1);
	assert_int_equal(cpu.gpr[X86_RSP], before.gpr[X86_RSP] - 32);
	for (k = 0; k < 8; k++) {
		u32 v;

		memcpy(&v, scratch + 0x800 - 4 * (k + 1), 4);
		assert_int_equal(v, before.gpr[k]);
		if (k != X86_RSP)
			cpu.gpr[k] = 0;
	}
	assert_true(toy_decode(pop, 4, &i));
	for (n = 1; n <= 8; n++) {
		fault_at = n;
		memcpy(want.gpr, cpu.gpr, sizeof(want.gpr));
		assert_int_equal(run_handler(&i), X86_PF);
		assert_memory_equal(want.gpr, cpu.gpr, sizeof(want.gpr));
	}
	fault_at = 0;
	assert_int_equal(run_handler(&i), -1);
	assert_memory_equal(cpu.gpr, before.gpr, 8 * 8);
	cpu.code_size = 8;
}

static int setup(void **state)
{
	u32 k;

	/* in the low 2 GiB: a 32-bit code segment and 32-bit stack pointers must reach them */
	scratch = mmap(NULL, SCRATCH, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	thunk = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (scratch == MAP_FAILED || thunk == MAP_FAILED)
		return -1;
	ctx = (struct context *)(thunk + 2048);
	for (k = 0; k < X86_TLB_SIZE; k++)
		empty_tlb[k].tag = full_tlb[k].tag = 1ull << 63;
	for (k = 0; k < SCRATCH; k += PAGE_SIZE) {
		u64 page = (u64)scratch + k;

		full_tlb[(page >> PAGE_SHIFT) % X86_TLB_SIZE] = (struct x86_tlb_entry){page, page};
	}
	cpu.code_size = 8;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_host),
		cmocka_unit_test(test_decimal),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_direction),
		cmocka_unit_test(test_cmpxchg16b_alignment),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_pusha),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
