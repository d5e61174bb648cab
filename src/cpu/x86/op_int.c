// SPDX-License-Identifier: MIT
/*
 * Data movement, and the table of integer mnemonics with the choice of a handler by operand form
 * and size.
 *
 * Arithmetic is in op_alu.c and op_shift.c, the stack in op_stack.c, decimal and flag instructions
 * in op_bcd.c. Segment, control and debug registers as operands belong to op_far.c and op_sys.c:
 * binding refuses them.
 */
#include "cpu/x86/op_int.h"

/* ---- binding ---- */

/* Byte offset from cpu->gpr, or -1 for other registers. Zydis counts AL..BL, AH..BH, SPL..R15B. */
static int gpr_offset(ZydisRegister r)
{
	int id;

	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) {
		id = r - ZYDIS_REGISTER_AL;
		return id < 4 ? id * 8 : id < 8 ? (id - 4) * 8 + 1 : (id - 4) * 8;
	}
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return (r - ZYDIS_REGISTER_AX) * 8;
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return (r - ZYDIS_REGISTER_EAX) * 8;
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return (r - ZYDIS_REGISTER_RAX) * 8;
	return -1;
}

enum { KIND_R = 1, KIND_M, KIND_I };
#define KINDS(a, b, c) ((a) | (b) << 2 | (c) << 4)

static const struct {
	u8 kinds;
	s8 form, locked;
} forms[] = {
	{KINDS(KIND_R, 0, 0), X86_F_R, -1},
	{KINDS(KIND_M, 0, 0), X86_F_M, X86_F_LM},
	{KINDS(KIND_R, KIND_R, 0), X86_F_RR, -1},
	{KINDS(KIND_R, KIND_M, 0), X86_F_RM, -1},
	{KINDS(KIND_R, KIND_I, 0), X86_F_RI, -1},
	{KINDS(KIND_M, KIND_R, 0), X86_F_MR, X86_F_LMR},
	{KINDS(KIND_M, KIND_I, 0), X86_F_MI, X86_F_LMI},
	{KINDS(KIND_R, KIND_R, KIND_R), X86_F_RRR, -1},
	{KINDS(KIND_R, KIND_R, KIND_I), X86_F_RRI, -1},
	{KINDS(KIND_R, KIND_M, KIND_I), X86_F_RMI, -1},
	{KINDS(KIND_M, KIND_R, KIND_R), X86_F_MRR, -1},
	{KINDS(KIND_M, KIND_R, KIND_I), X86_F_MRI, -1},
};

int x86_int_operands(const struct x86_decoded *d, struct x86_insn *i)
{
	u32 kinds = 0, nreg = 0, k, n = d->z.operand_count_visible;

	if (n > 3)
		return -1;
	for (k = 0; k < n; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		int off;

		switch (o->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			off = gpr_offset(o->reg.value);
			if (off < 0)
				return -1;
			i->reg[nreg++] = (u8)off;
			kinds |= KIND_R << 2 * k;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			kinds |= KIND_M << 2 * k;
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			i->imm = o->imm.is_signed ? (u64)o->imm.value.s : o->imm.value.u;
			kinds |= KIND_I << 2 * k;
			break;
		default:
			return -1;
		}
	}
	for (k = 0; k < ARRAY_SIZE(forms); k++)
		if (forms[k].kinds == kinds)
			return d->z.attributes & ZYDIS_ATTRIB_HAS_LOCK ? forms[k].locked
								       : forms[k].form;
	return -1;
}

/* log2 of a size in bits of 8 to 64, else -1 */
static int size_index(u32 bits)
{
	return bits >= 8 && bits <= 64 && !(bits & (bits - 1)) ? __builtin_ctz(bits) - 3 : -1;
}

bool x86_bind_family(const struct x86_decoded *d, struct x86_insn *i, const struct x86_family *f)
{
	int form = x86_int_operands(d, i), size = size_index(d->op[0].size);

	if (form < 0 || size < 0 || !f->fn[form][size])
		return false;
	i->fn = f->fn[form][size];
	return true;
}

/* ---- MOV, MOVNTI, MOVBE, XCHG ---- */

#define MOV_RR(sz, ...)                                                                            \
	X86_OP(mov_rr_##sz)                                                                        \
	{                                                                                          \
		X86_PUT_##sz(c, i->reg[0], (X86_TYPE_##sz)X86_GET_##sz(c, i->reg[1]));             \
		return x86_next(i);                                                                \
	}
#define MOV_RI(sz, ...)                                                                            \
	X86_OP(mov_ri_##sz)                                                                        \
	{                                                                                          \
		X86_PUT_##sz(c, i->reg[0], (X86_TYPE_##sz)i->imm);                                 \
		return x86_next(i);                                                                \
	}
#define MOV_RM(sz, name, swap)                                                                     \
	X86_OP(name##_rm_##sz)                                                                     \
	{                                                                                          \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, false);                                 \
		X86_PUT_##sz(c, i->reg[0], swap(sz, X86_LD_##sz(c, i->seg, la)));                  \
		return x86_next(i);                                                                \
	}
#define MOV_MR(sz, name, swap)                                                                     \
	X86_OP(name##_mr_##sz)                                                                     \
	{                                                                                          \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_ST_##sz(c, i->seg, la, swap(sz, (X86_TYPE_##sz)X86_GET_##sz(c, i->reg[0])));   \
		return x86_next(i);                                                                \
	}
#define MOV_MI(sz, ...)                                                                            \
	X86_OP(mov_mi_##sz)                                                                        \
	{                                                                                          \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_ST_##sz(c, i->seg, la, (X86_TYPE_##sz)i->imm);                                 \
		return x86_next(i);                                                                \
	}
#define AS_IS(sz, v)   (v)
#define SWAP_w(v)      __builtin_bswap16(v)
#define SWAP_l(v)      __builtin_bswap32(v)
#define SWAP_q(v)      __builtin_bswap64(v)
#define SWAPPED(sz, v) SWAP_##sz(v)

X86_ALL_SIZES(MOV_RR)
X86_ALL_SIZES(MOV_RI)
X86_ALL_SIZES(MOV_RM, mov, AS_IS)
X86_ALL_SIZES(MOV_MR, mov, AS_IS)
X86_ALL_SIZES(MOV_MI)
X86_WIDE_SIZES(MOV_RM, movbe, SWAPPED)
X86_WIDE_SIZES(MOV_MR, movbe, SWAPPED)

#define XCHG_RR(sz, ...)                                                                           \
	X86_OP(xchg_rr_##sz)                                                                       \
	{                                                                                          \
		u64 a = X86_GET_##sz(c, i->reg[0]), b = X86_GET_##sz(c, i->reg[1]);                \
		X86_PUT_##sz(c, i->reg[0], (X86_TYPE_##sz)b);                                      \
		X86_PUT_##sz(c, i->reg[1], (X86_TYPE_##sz)a);                                      \
		return x86_next(i);                                                                \
	}
/* locked whether or not it says so */
#define XCHG_MR(sz, ...)                                                                           \
	X86_OP(xchg_mr_##sz)                                                                       \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true);                                  \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, true, &w);         \
		X86_TYPE_##sz v = (X86_TYPE_##sz)X86_GET_##sz(c, i->reg[0]);                       \
		__asm__ volatile("xchg" #sz " %[v], %[m]" : [m] "+m"(*p), [v] "+r"(v));            \
		x86_rmw_end(c, &w);                                                                \
		X86_PUT_##sz(c, i->reg[0], v);                                                     \
		return x86_next(i);                                                                \
	}
X86_ALL_SIZES(XCHG_RR)
X86_ALL_SIZES(XCHG_MR)

static const struct x86_family mov_family = {
	.fn = {X86_ROW(RR, mov_rr), X86_ROW(RI, mov_ri), X86_ROW(RM, mov_rm), X86_ROW(MR, mov_mr),
	       X86_ROW(MI, mov_mi)},
};
static const struct x86_family movnti_family = {
	.fn = {[X86_F_MR] = {NULL, NULL, mov_mr_l, mov_mr_q}},
};
static const struct x86_family movbe_family = {
	.fn = {X86_WIDE_ROW(RM, movbe_rm), X86_WIDE_ROW(MR, movbe_mr)},
};
static const struct x86_family xchg_family = {
	.fn = {X86_ROW(RR, xchg_rr), X86_ROW(MR, xchg_mr), X86_ROW(LMR, xchg_mr)},
};

static bool bind_mov(const struct x86_decoded *d, struct x86_insn *i)
{
	return x86_bind_family(d, i, &mov_family);
}

static bool bind_movnti(const struct x86_decoded *d, struct x86_insn *i)
{
	return x86_bind_family(d, i, &movnti_family);
}

static bool bind_movbe(const struct x86_decoded *d, struct x86_insn *i)
{
	return x86_bind_family(d, i, &movbe_family);
}

static bool bind_xchg(const struct x86_decoded *d, struct x86_insn *i)
{
	return x86_bind_family(d, i, &xchg_family);
}

/* ---- MOVZX, MOVSX, MOVSXD: destination width, then source width ---- */

#define EXTEND(name, type, dst, src)                                                               \
	X86_OP(name##_rr_##dst##src)                                                               \
	{                                                                                          \
		u64 v = (u64)(type)X86_GET_##src(c, i->reg[1]);                                    \
		X86_PUT_##dst(c, i->reg[0], (X86_TYPE_##dst)v);                                    \
		return x86_next(i);                                                                \
	}                                                                                          \
	X86_OP(name##_rm_##dst##src)                                                               \
	{                                                                                          \
		u64 la = x86_int_mem(c, i, X86_BYTES_##src, false);                                \
		u64 v = (u64)(type)X86_LD_##src(c, i->seg, la);                                    \
		X86_PUT_##dst(c, i->reg[0], (X86_TYPE_##dst)v);                                    \
		return x86_next(i);                                                                \
	}
#define EXTENDS(name, src, type)                                                                   \
	EXTEND(name, type, w, src)                                                                 \
	EXTEND(name, type, l, src)                                                                 \
	EXTEND(name, type, q, src)
EXTENDS(movzx, b, u8)
EXTENDS(movzx, w, u16)
EXTENDS(movsx, b, s8)
EXTENDS(movsx, w, s16)
EXTENDS(movsx, l, s32)

#define EXTEND_ROW(name, form, src)                                                                \
	{                                                                                          \
		NULL, name##_##form##_w##src, name##_##form##_l##src, name##_##form##_q##src       \
	}

/* [log2 source bytes][from memory][log2 destination bytes] */
static x86_op_fn *const movzx_fn[3][2][4] = {
	{EXTEND_ROW(movzx, rr, b), EXTEND_ROW(movzx, rm, b)},
	{EXTEND_ROW(movzx, rr, w), EXTEND_ROW(movzx, rm, w)},
};
static x86_op_fn *const movsx_fn[3][2][4] = {
	{EXTEND_ROW(movsx, rr, b), EXTEND_ROW(movsx, rm, b)},
	{EXTEND_ROW(movsx, rr, w), EXTEND_ROW(movsx, rm, w)},
	{EXTEND_ROW(movsx, rr, l), EXTEND_ROW(movsx, rm, l)},
};

static bool bind_extend(const struct x86_decoded *d, struct x86_insn *i,
			x86_op_fn *const fn[3][2][4])
{
	int form = x86_int_operands(d, i), dst = size_index(d->op[0].size),
	    src = size_index(d->op[1].size);

	if ((form != X86_F_RR && form != X86_F_RM) || dst < 0 || src < 0 || src > 2)
		return false;
	i->fn = fn[src][form == X86_F_RM][dst];
	return i->fn;
}

static bool bind_movzx(const struct x86_decoded *d, struct x86_insn *i)
{
	return bind_extend(d, i, movzx_fn);
}

static bool bind_movsx(const struct x86_decoded *d, struct x86_insn *i)
{
	return bind_extend(d, i, movsx_fn);
}

/* ---- LEA ---- */

X86_OP(lea_w)
{
	X86_PUT_w(c, i->reg[0], x86_ea(c, i));
	return x86_next(i);
}
X86_OP(lea_l)
{
	X86_PUT_l(c, i->reg[0], (u32)x86_ea(c, i));
	return x86_next(i);
}
X86_OP(lea_q)
{
	X86_PUT_q(c, i->reg[0], x86_ea(c, i));
	return x86_next(i);
}

static bool bind_lea(const struct x86_decoded *d, struct x86_insn *i)
{
	static x86_op_fn *const fn[4] = {NULL, lea_w, lea_l, lea_q};
	int form = x86_int_operands(d, i), size = size_index(d->op[0].size);

	if (form != X86_F_RM || size < 1)
		return false;
	i->fn = fn[size];
	return true;
}

/* ---- sign extension of the accumulator ---- */

X86_OP(cbw)
{
	X86_PUT_w(c, X86_RAX * 8, (u16)(s8)c->gpr[X86_RAX]);
	return x86_next(i);
}
X86_OP(cwde)
{
	c->gpr[X86_RAX] = (u32)(s16)c->gpr[X86_RAX];
	return x86_next(i);
}
X86_OP(cdqe)
{
	c->gpr[X86_RAX] = (u64)(s32)c->gpr[X86_RAX];
	return x86_next(i);
}
X86_OP(cwd)
{
	X86_PUT_w(c, X86_RDX * 8, (s16)c->gpr[X86_RAX] < 0 ? ~0 : 0);
	return x86_next(i);
}
X86_OP(cdq)
{
	c->gpr[X86_RDX] = (u32)((s32)c->gpr[X86_RAX] >> 31);
	return x86_next(i);
}
X86_OP(cqo)
{
	c->gpr[X86_RDX] = (u64)((s64)c->gpr[X86_RAX] >> 63);
	return x86_next(i);
}

X86_OP(nop)
{
	return x86_next(i);
}

#define FAMILY_ROW(m, name) {ZYDIS_MNEMONIC_##m, .bind = x86_bind_##name},

/* Ordered by how often code uses them; the decoder takes the first row of a mnemonic. */
const struct x86_op_row x86_ops_int[] = {
	{ZYDIS_MNEMONIC_MOV, .bind = bind_mov},
	{ZYDIS_MNEMONIC_LEA, .bind = bind_lea},
	{ZYDIS_MNEMONIC_PUSH, .bind = x86_bind_push},
	{ZYDIS_MNEMONIC_POP, .bind = x86_bind_pop},
	/* clang-format off */
	X86_ALU_FAMILIES(FAMILY_ROW)
	X86_SHIFT_FAMILIES(FAMILY_ROW)
	/* clang-format on */
	{ZYDIS_MNEMONIC_MOVZX, .bind = bind_movzx},
	{ZYDIS_MNEMONIC_MOVSX, .bind = bind_movsx},
	{ZYDIS_MNEMONIC_MOVSXD, .bind = bind_movsx},
	{ZYDIS_MNEMONIC_XCHG, .bind = bind_xchg},
	{ZYDIS_MNEMONIC_MOVNTI, .bind = bind_movnti},
	{ZYDIS_MNEMONIC_MOVBE, .bind = bind_movbe},
	{ZYDIS_MNEMONIC_CBW, cbw},
	{ZYDIS_MNEMONIC_CWDE, cwde},
	{ZYDIS_MNEMONIC_CDQE, cdqe},
	{ZYDIS_MNEMONIC_CWD, cwd},
	{ZYDIS_MNEMONIC_CDQ, cdq},
	{ZYDIS_MNEMONIC_CQO, cqo},
	{ZYDIS_MNEMONIC_CMPXCHG8B, x86_op_cmpxchg8b},
	{ZYDIS_MNEMONIC_CMPXCHG16B, x86_op_cmpxchg16b},
	{ZYDIS_MNEMONIC_LEAVE, .bind = x86_bind_leave},
	{ZYDIS_MNEMONIC_ENTER, .bind = x86_bind_enter},
	{ZYDIS_MNEMONIC_PUSHA, .bind = x86_bind_pusha},
	{ZYDIS_MNEMONIC_PUSHAD, .bind = x86_bind_pusha},
	{ZYDIS_MNEMONIC_POPA, .bind = x86_bind_popa},
	{ZYDIS_MNEMONIC_POPAD, .bind = x86_bind_popa},
	{ZYDIS_MNEMONIC_LAHF, x86_op_lahf},
	{ZYDIS_MNEMONIC_SAHF, x86_op_sahf},
	{ZYDIS_MNEMONIC_CLC, x86_op_clc},
	{ZYDIS_MNEMONIC_STC, x86_op_stc},
	{ZYDIS_MNEMONIC_CMC, x86_op_cmc},
	{ZYDIS_MNEMONIC_CLD, x86_op_cld},
	{ZYDIS_MNEMONIC_STD, x86_op_std},
	{ZYDIS_MNEMONIC_XLAT, .bind = x86_bind_xlat},
	{ZYDIS_MNEMONIC_SALC, x86_op_salc},
	{ZYDIS_MNEMONIC_AAA, x86_op_aaa},
	{ZYDIS_MNEMONIC_AAS, x86_op_aas},
	{ZYDIS_MNEMONIC_AAM, .bind = x86_bind_aam_aad},
	{ZYDIS_MNEMONIC_AAD, .bind = x86_bind_aam_aad},
	{ZYDIS_MNEMONIC_DAA, x86_op_daa},
	{ZYDIS_MNEMONIC_DAS, x86_op_das},
	{ZYDIS_MNEMONIC_BOUND, .bind = x86_bind_bound},
	{ZYDIS_MNEMONIC_NOP, nop},
	/* hints: their memory operands are not accessed and cannot fault; no shadow stacks or
	   branch tracking are offered */
	{ZYDIS_MNEMONIC_ENDBR32, nop},
	{ZYDIS_MNEMONIC_ENDBR64, nop},
	{ZYDIS_MNEMONIC_RDSSPD, nop},
	{ZYDIS_MNEMONIC_RDSSPQ, nop},
	{ZYDIS_MNEMONIC_CLDEMOTE, nop},
	{ZYDIS_MNEMONIC_PREFETCH, nop},
	{ZYDIS_MNEMONIC_PREFETCHNTA, nop},
	{ZYDIS_MNEMONIC_PREFETCHT0, nop},
	{ZYDIS_MNEMONIC_PREFETCHT1, nop},
	{ZYDIS_MNEMONIC_PREFETCHT2, nop},
	{ZYDIS_MNEMONIC_PREFETCHW, nop},
	{ZYDIS_MNEMONIC_PREFETCHWT1, nop},
	{0},
};
