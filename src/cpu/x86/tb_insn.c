// SPDX-License-Identifier: MIT
/*
 * Tier 1: which emitter serves which instruction, and the emitters of integer instructions that are more than a
 * re-encoding: implicit RAX, RCX and RDX, flag registers, LEA.
 *
 * Outer file. What has no row here and no stub in tier 0 is executed by SLOW.
 */
#include "cpu/x86/tb_priv.h"
#include "cpu/x86/simd.h"

#define RAX x86_tr_host(X86_RAX)
#define RCX x86_tr_host(X86_RCX)

static bool is_memory(const struct x86_tr_insn *ti, u32 n)
{
	return ti->d.op[n].type == ZYDIS_OPERAND_TYPE_MEMORY;
}

/* Number of a plain general register operand (not AH to BH), or -1. */
static int plain_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegister r = o->reg.value;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return -1;
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
			return -1;
		return r >= ZYDIS_REGISTER_SPL ? r - ZYDIS_REGISTER_SPL + 4 : r - ZYDIS_REGISTER_AL;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return ZydisRegisterGetId(r);
	default:
		return -1;
	}
}

/* Opcode flags for an operand of that many bits: byte forms have the opcode one lower. */
static u32 sized(u32 op, u32 bits)
{
	switch (bits) {
	case 8: return (op & ~1u) | A_B;
	case 16: return op | A_16;
	case 64: return op | A_W;
	default: return op;
	}
}

static void lock(struct x86_tr *t, const struct x86_tr_insn *ti)
{
	if (ti->d.z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		asm_byte(&t->a, 0xf0);
}

static bool nop(struct x86_tr *t, struct x86_tr_insn *ti)
{
	return true;
}

/* ---- MOV, LEA ---- */

static bool mov(struct x86_tr *t, struct x86_tr_insn *ti)
{
	return x86_tr_generic(t, ti) || x86_tr_mov_system(t, ti);
}

static bool lea(struct x86_tr *t, struct x86_tr_insn *ti)
{
	int g = plain_gpr(&ti->d.op[0]);
	u32 bits = ti->d.op[0].size;
	struct x86_insn ea = *ti->i;

	if (g < 0)
		return false;
	/* An operand narrower than the address wants no more of it than 32 bits. */
	if (bits < 64 && ea.asize == 8)
		ea.asize = 4;
	if (bits >= 32 && x86_tr_resident((u32)g)) {
		t->keeps_rax = x86_tr_resident(ea.index);
		return x86_tr_ea(t, &ea, x86_tr_host((u32)g));
	}
	if (!x86_tr_ea(t, &ea, H_RCX))
		return false;
	if (bits >= 32)
		x86_tr_put(t, (u32)g, H_RCX);
	else
		asm_op(&t->a, sized(OP_MOV_STORE, bits), H_RCX, x86_tr_home((u32)g));
	return true;
}

/* ---- shifts by CL ---- */

/* D3 /n, SHLD, SHRD: op is the form for words. reg is ModRM.reg. */
static bool shift(struct x86_tr *t, struct x86_tr_insn *ti, u32 op, u8 reg)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	bool wants = x86_tr_wants_flags(t);
	struct asm_rm rm;
	int g = -1;

	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (!x86_tr_check(t, ti->i, o->size / 8, true, &rm))
			return false;
		asm_lea(&t->a, H_RCX, rm);
		if (wants)
			x86_tr_to_host(t);
		asm_mov(&t->a, H_RAX, H_RCX);
		rm = asm_mem(H_RAX, 0);
	} else {
		g = plain_gpr(o);
		if (g < 0)
			return false;
		if (wants)
			x86_tr_to_host(t);
		rm = x86_tr_home((u32)g);
		if (rm.mem) {
			x86_tr_get(t, H_RAX, (u32)g);
			rm = asm_reg(H_RAX);
		}
	}
	asm_op(&t->a, OP_MOV_LOAD, H_RCX, asm_reg(RCX));
	if (rm.mem)
		x86_tr_map(t);
	asm_op(&t->a, op & A_0F ? sized(op, o->size) | (op & 1) : sized(op, o->size), reg, rm);
	if (g >= 0 && !x86_tr_resident((u32)g))
		x86_tr_put(t, (u32)g, H_RAX);
	x86_tr_flags_done(t);
	return true;
}

static bool shift_insn(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if ((ti->d.z.opcode & 0xfe) != 0xd2)
		return x86_tr_generic(t, ti);
	return shift(t, ti, 0xd3, ti->d.z.raw.modrm.reg);
}

static bool double_shift(struct x86_tr *t, struct x86_tr_insn *ti)
{
	int g = plain_gpr(&ti->d.op[1]);

	if (ti->d.z.raw.imm[0].size)
		return x86_tr_generic(t, ti);
	if (g < 0 || !x86_tr_resident((u32)g))
		return false;
	return shift(t, ti, ti->d.z.opcode | A_0F, x86_tr_host((u32)g));
}

/* ---- multiplication, division, sign extension ---- */

static bool multiply(struct x86_tr *t, struct x86_tr_insn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	bool wants = x86_tr_wants_flags(t), divides;
	struct asm_rm rm;
	int g;

	if ((ti->d.z.opcode & 0xfe) != 0xf6) /* IMUL with more operands */
		return x86_tr_generic(t, ti);
	divides = ti->d.z.raw.modrm.reg >= 6;
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (!x86_tr_check(t, ti->i, o->size / 8, false, &rm))
			return false;
		asm_lea(&t->a, H_RCX, rm);
		rm = asm_mem(H_RCX, 0);
	} else {
		g = plain_gpr(o);
		if (g < 0)
			return false;
		rm = x86_tr_home((u32)g);
	}
	if (wants)
		x86_tr_to_host(t);
	asm_mov(&t->a, H_RAX, RAX);
	if (rm.mem || divides)
		x86_tr_map(t);
	asm_op(&t->a, sized(0xf7, o->size), ti->d.z.raw.modrm.reg, rm);
	asm_mov(&t->a, RAX, H_RAX);
	x86_tr_flags_done(t);
	return true;
}

/* CBW, CWDE, CDQE: MOVSX and MOVSXD of the accumulator */
static bool extend(struct x86_tr *t, struct x86_tr_insn *ti)
{
	switch (ti->d.z.mnemonic) {
	case ZYDIS_MNEMONIC_CBW:
		asm_op(&t->a, 0xbe | A_0F | A_16, RAX, asm_reg(RAX));
		return true;
	case ZYDIS_MNEMONIC_CWDE:
		asm_op(&t->a, 0xbf | A_0F, RAX, asm_reg(RAX));
		return true;
	default:
		asm_op(&t->a, 0x63 | A_W, RAX, asm_reg(RAX));
		return true;
	}
}

/* CWD, CDQ, CQO: to RDX, which is where it is */
static bool extend_double(struct x86_tr *t, struct x86_tr_insn *ti)
{
	asm_mov(&t->a, H_RAX, RAX);
	if (ti->d.z.mnemonic == ZYDIS_MNEMONIC_CWD)
		asm_byte(&t->a, 0x66);
	else if (ti->d.z.mnemonic == ZYDIS_MNEMONIC_CQO)
		asm_byte(&t->a, 0x48);
	asm_byte(&t->a, 0x99);
	return true;
}

/* ---- the rest of the integer set ---- */

static bool compare_exchange(struct x86_tr *t, struct x86_tr_insn *ti)
{
	int source = plain_gpr(&ti->d.op[1]), g;
	u32 op = sized(0xb1, ti->d.op[0].size) | A_0F;
	struct asm_rm rm;

	if (source < 0 || !x86_tr_resident((u32)source))
		return false;
	if (is_memory(ti, 0)) {
		if (!x86_tr_check(t, ti->i, ti->d.op[0].size / 8, true, &rm))
			return false;
		asm_lea(&t->a, H_RCX, rm);
		rm = asm_mem(H_RCX, 0);
	} else {
		/* With the accumulator as its destination two writes meet. */
		g = plain_gpr(&ti->d.op[0]);
		if (g < 0 || g == X86_RAX || !x86_tr_resident((u32)g))
			return false;
		rm = asm_reg(x86_tr_host((u32)g));
	}
	asm_mov(&t->a, H_RAX, RAX);
	if (rm.mem)
		x86_tr_map(t);
	lock(t, ti);
	asm_op(&t->a, op, x86_tr_host((u32)source), rm);
	asm_mov(&t->a, RAX, H_RAX);
	x86_tr_flags_done(t);
	return true;
}

/* With a register index a bit string in memory may be anywhere. */
static bool bit_test(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (is_memory(ti, 0) && ti->d.op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	return x86_tr_generic(t, ti);
}

static bool lahf(struct x86_tr *t, struct x86_tr_insn *ti)
{
	x86_tr_to_host(t);
	asm_mov(&t->a, H_RAX, RAX);
	asm_byte(&t->a, 0x9f);
	asm_mov(&t->a, RAX, H_RAX);
	return true;
}

static bool sahf(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (x86_tr_wants_flags(t))
		x86_tr_to_host(t);
	asm_mov(&t->a, H_RAX, RAX);
	asm_byte(&t->a, 0x9e);
	x86_tr_flags_done(t);
	return true;
}

static bool carry(struct x86_tr *t, struct x86_tr_insn *ti)
{
	if (x86_tr_wants_flags(t))
		x86_tr_to_host(t);
	asm_byte(&t->a, ti->d.z.opcode); /* CMC, CLC, STC */
	x86_tr_flags_done(t);
	return true;
}

/* ---- the table ---- */

#define ROW(m, f)  [ZYDIS_MNEMONIC_##m] = (f)
#define ROWS_CC(X, p, f)                                                                                               \
	X(p##O, f), X(p##NO, f), X(p##B, f), X(p##NB, f), X(p##Z, f), X(p##NZ, f), X(p##BE, f), X(p##NBE, f), X(p##S, f), \
		X(p##NS, f), X(p##P, f), X(p##NP, f), X(p##L, f), X(p##NL, f), X(p##LE, f), X(p##NLE, f)

static x86_tr_fn *const rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	ROW(MOV, mov), ROW(MOVZX, x86_tr_generic), ROW(MOVSX, x86_tr_generic), ROW(MOVSXD, x86_tr_generic),
	ROW(MOVBE, x86_tr_generic), ROW(MOVNTI, x86_tr_generic), ROW(XCHG, x86_tr_generic), ROW(BSWAP, x86_tr_generic),
	ROW(LEA, lea),
	ROW(ADD, x86_tr_generic), ROW(OR, x86_tr_generic), ROW(ADC, x86_tr_generic), ROW(SBB, x86_tr_generic),
	ROW(AND, x86_tr_generic), ROW(SUB, x86_tr_generic), ROW(XOR, x86_tr_generic), ROW(CMP, x86_tr_generic),
	ROW(TEST, x86_tr_generic), ROW(INC, x86_tr_generic), ROW(DEC, x86_tr_generic), ROW(NEG, x86_tr_generic),
	ROW(NOT, x86_tr_generic), ROW(XADD, x86_tr_generic), ROW(CMPXCHG, compare_exchange),
	ROW(SHL, shift_insn), ROW(SHR, shift_insn), ROW(SAR, shift_insn), ROW(ROL, shift_insn), ROW(ROR, shift_insn),
	ROW(RCL, shift_insn), ROW(RCR, shift_insn), ROW(SHLD, double_shift), ROW(SHRD, double_shift),
	ROW(BT, bit_test), ROW(BTS, bit_test), ROW(BTR, bit_test), ROW(BTC, bit_test),
	ROW(BSF, x86_tr_generic), ROW(BSR, x86_tr_generic), ROW(POPCNT, x86_tr_generic), ROW(LZCNT, x86_tr_generic),
	ROW(TZCNT, x86_tr_generic),
	ROW(MUL, multiply), ROW(IMUL, multiply), ROW(DIV, multiply), ROW(IDIV, multiply),
	ROW(CBW, extend), ROW(CWDE, extend), ROW(CDQE, extend), ROW(CWD, extend_double), ROW(CDQ, extend_double),
	ROW(CQO, extend_double),
	ROWS_CC(ROW, SET, x86_tr_generic), ROWS_CC(ROW, CMOV, x86_tr_generic),
	ROW(LAHF, lahf), ROW(SAHF, sahf), ROW(CMC, carry), ROW(CLC, carry), ROW(STC, carry),
	ROW(PUSH, x86_tr_push), ROW(POP, x86_tr_pop), ROW(LEAVE, x86_tr_leave),
	ROW(NOP, nop), ROW(ENDBR32, nop), ROW(ENDBR64, nop), ROW(CLDEMOTE, nop), ROW(PREFETCH, nop), ROW(PREFETCHNTA, nop),
	ROW(PREFETCHT0, nop), ROW(PREFETCHT1, nop), ROW(PREFETCHT2, nop), ROW(PREFETCHW, nop), ROW(PREFETCHWT1, nop),
	ROWS_CC(ROW, J, x86_tr_jcc),
	ROW(JRCXZ, x86_tr_jcxz), ROW(JECXZ, x86_tr_jcxz), ROW(LOOP, x86_tr_loop),
	ROW(CLI, x86_tr_cli), ROW(STI, x86_tr_sti), ROW(PUSHFQ, x86_tr_pushf), ROW(SWAPGS, x86_tr_swapgs),
	ROW(RDFSBASE, x86_tr_segment_base), ROW(RDGSBASE, x86_tr_segment_base), ROW(WRFSBASE, x86_tr_segment_base),
	ROW(WRGSBASE, x86_tr_segment_base), ROW(RDTSC, x86_tr_rdtsc), ROW(RDTSCP, x86_tr_rdtsc), ROW(RDPKRU, x86_tr_rdpkru),
	ROW(LFENCE, x86_tr_as_it_is), ROW(MFENCE, x86_tr_as_it_is), ROW(SFENCE, x86_tr_as_it_is),
	ROW(JMP, x86_tr_jmp_insn), ROW(CALL, x86_tr_call_insn), ROW(RET, x86_tr_ret),
};

bool x86_tr_emit(struct x86_tr *t, struct x86_tr_insn *ti)
{
	x86_tr_fn *fn = rows[ti->d.z.mnemonic];

	return fn ? fn(t, ti) : x86_tr_native(t, ti);
}

static bool is_native(const struct x86_tr_insn *ti)
{
	x86_op_fn *fn = ti->i->fn;

	return fn == x86_op_native || fn == x86_op_native_load || fn == x86_op_native_store || fn == x86_op_native_rmw ||
	       fn == x86_op_nop;
}

bool x86_tr_has_emitter(const struct x86_tr_insn *ti)
{
	return rows[ti->d.z.mnemonic] || is_native(ti);
}

/* ---- instructions that SLOW may execute in the middle of a block ---- */

static bool names_system_register(const struct x86_decoded *d)
{
	for (u32 k = 0; k < d->z.operand_count; k++) {
		if (d->op[k].type != ZYDIS_OPERAND_TYPE_REGISTER || !(d->op[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		switch (ZydisRegisterGetClass(d->op[k].reg.value)) {
		case ZYDIS_REGCLASS_SEGMENT:
		case ZYDIS_REGCLASS_CONTROL:
		case ZYDIS_REGCLASS_DEBUG:
			return true;
		default:
			break;
		}
	}
	return false;
}

bool x86_tr_harmless(const struct x86_tr_insn *ti)
{
	if (is_native(ti) || ti->i->fn == x86_op_native_masked)
		return true;
	switch (ti->d.z.mnemonic) {
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
	case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_STMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
	case ZYDIS_MNEMONIC_VSTMXCSR:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_VERW:
		return true;
	default:
		break;
	}
	if (rows[ti->d.z.mnemonic])
		return !names_system_register(&ti->d) && ti->d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
	return ti->d.z.meta.category == ZYDIS_CATEGORY_STRINGOP || ti->d.z.meta.category == ZYDIS_CATEGORY_GATHER;
}
