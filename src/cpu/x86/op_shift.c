// SPDX-License-Identifier: MIT
/*
 * Shifts, rotates, double shifts, bit tests and bit scans.
 *
 * All restore the guest's flags first: a count of zero leaves them, rotates change two, and what is
 * undefined is whatever this host makes of it. Knows nothing of encodings (op_int.c's
 * x86_bind_family()).
 *
 * Source: SDM vol. 2, each instruction's "Operation" and "Flags Affected".
 */
#include "cpu/x86/op_int.h"

/* ---- shifts and rotates; the count is the second operand, an immediate or CL ---- */

#define COUNT_IMM(c, i) ((i)->imm)
#define COUNT_CL(c, i)	((c)->gpr[X86_RCX])

#define SHIFT_R(sz, op, form, count)                                                               \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 d = X86_GET_##sz(c, i->reg[0]), f = c->aflags;                                 \
		__asm__(X86_FLAGS_IN #op #sz " %%cl, %" X86_N_##sz "[d]" X86_FLAGS_OUT             \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: "c"(count(c, i))                                                         \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define SHIFT_M(sz, op, form, count)                                                               \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true), f = c->aflags;                   \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, false, &w);        \
		__asm__ volatile(X86_FLAGS_IN #op #sz " %%cl, %[m]" X86_FLAGS_OUT                  \
				 : [m] "+m"(*p), "+&a"(f)                                          \
				 : "c"(count(c, i))                                                \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_DONE(c, i, f);                                                                 \
	}
#define SHIFT(op)                                                                                  \
	X86_ALL_SIZES(SHIFT_R, op, ri, COUNT_IMM)                                                  \
	X86_ALL_SIZES(SHIFT_R, op, rr, COUNT_CL)                                                   \
	X86_ALL_SIZES(SHIFT_M, op, mi, COUNT_IMM)                                                  \
	X86_ALL_SIZES(SHIFT_M, op, mr, COUNT_CL)                                                   \
	X86_FAMILY(op, X86_ROW(RI, op##_ri), X86_ROW(RR, op##_rr), X86_ROW(MI, op##_mi),           \
		   X86_ROW(MR, op##_mr))

SHIFT(shl)
SHIFT(shr)
SHIFT(sar)
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)

/* ---- SHLD, SHRD ---- */

#define DSHIFT_R(sz, op, form, count)                                                              \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = X86_GET_##sz(c, i->reg[1]), d = X86_GET_##sz(c, i->reg[0]), f = c->aflags; \
		__asm__(X86_FLAGS_IN #op #sz " %%cl, %" X86_N_##sz "[s], %" X86_N_##sz             \
			"[d]" X86_FLAGS_OUT                                                        \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: [s] "r"(s), "c"(count(c, i))                                             \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define DSHIFT_M(sz, op, form, count)                                                              \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = x86_int_mem(c, i, X86_BYTES_##sz, true), f = c->aflags;                   \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, false, &w);        \
		__asm__ volatile(X86_FLAGS_IN #op #sz " %%cl, %" X86_N_##sz                        \
				 "[s], %[m]" X86_FLAGS_OUT                                         \
				 : [m] "+m"(*p), "+&a"(f)                                          \
				 : [s] "r"(X86_GET_##sz(c, i->reg[0])), "c"(count(c, i))           \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_DONE(c, i, f);                                                                 \
	}
#define DSHIFT(op)                                                                                 \
	X86_WIDE_SIZES(DSHIFT_R, op, rri, COUNT_IMM)                                               \
	X86_WIDE_SIZES(DSHIFT_R, op, rrr, COUNT_CL)                                                \
	X86_WIDE_SIZES(DSHIFT_M, op, mri, COUNT_IMM)                                               \
	X86_WIDE_SIZES(DSHIFT_M, op, mrr, COUNT_CL)                                                \
	X86_FAMILY(op, X86_WIDE_ROW(RRI, op##_rri), X86_WIDE_ROW(RRR, op##_rrr),                   \
		   X86_WIDE_ROW(MRI, op##_mri), X86_WIDE_ROW(MRR, op##_mrr))

DSHIFT(shld)
DSHIFT(shrd)

/* ---- BT, BTS, BTR, BTC ---- */

#define BIT_MASK(sz)  (X86_BYTES_##sz * 8 - 1)
#define INDEX_IMM(sz) (i->imm & BIT_MASK(sz))
#define INDEX_REG(sz) (X86_GET_##sz(c, i->reg[0]) & BIT_MASK(sz))

/* A register index reaches beyond the operand: it selects a whole unit of operand size first, then
 * a bit of it. */
#define BIT_UNIT_w(x)	  ((s64)(s16)(x) >> 4 << 1)
#define BIT_UNIT_l(x)	  ((s64)(s32)(x) >> 5 << 2)
#define BIT_UNIT_q(x)	  ((s64)(x) >> 6 << 3)
#define AT_IMM(sz, write) x86_int_mem(c, i, X86_BYTES_##sz, write)
#define AT_REG(sz, write)                                                                          \
	x86_linear(c, i->seg,                                                                      \
		   (x86_ea(c, i) + BIT_UNIT_##sz(X86_GET_##sz(c, i->reg[0]))) &                    \
			   x86_asize_mask(i->asize),                                               \
		   X86_BYTES_##sz, write)

#define BIT_R(sz, op, form, second)                                                                \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = second, d = X86_GET_##sz(c, i->reg[0]), f = c->aflags;                     \
		__asm__(X86_FLAGS_IN #op #sz " %" X86_N_##sz "[s], %" X86_N_##sz                   \
			"[d]" X86_FLAGS_OUT                                                        \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: [s] "r"(s)                                                               \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define BIT_RMW(sz, op, name, lock, locked, index, at)                                             \
	X86_OP(name##_##sz)                                                                        \
	{                                                                                          \
		struct x86_rmw w;                                                                  \
		u64 la = at(sz, true), s = index(sz), f = c->aflags;                               \
		X86_TYPE_##sz *p = x86_rmw_begin(c, i->seg, la, X86_BYTES_##sz, locked, &w);       \
		__asm__ volatile(X86_FLAGS_IN lock #op #sz " %" X86_N_##sz                         \
				 "[s], %[m]" X86_FLAGS_OUT                                         \
				 : [m] "+m"(*p), "+&a"(f)                                          \
				 : [s] "r"(s)                                                      \
				 : "cc");                                                          \
		x86_rmw_end(c, &w);                                                                \
		X86_DONE(c, i, f);                                                                 \
	}
/* BT does not write: neither the register (32-bit forms would extend it) nor memory. */
#define BT_R(sz, form, second)                                                                     \
	X86_OP(bt_##form##_##sz)                                                                   \
	{                                                                                          \
		u64 s = second, d = X86_GET_##sz(c, i->reg[0]), f = c->aflags;                     \
		__asm__(X86_FLAGS_IN "bt" #sz " %" X86_N_##sz "[s], %" X86_N_##sz                  \
			"[d]" X86_FLAGS_OUT                                                        \
			: "+&a"(f)                                                                 \
			: [d] "r"(d), [s] "r"(s)                                                   \
			: "cc");                                                                   \
		X86_DONE(c, i, f);                                                                 \
	}
#define BT_M(sz, form, index, at)                                                                  \
	X86_OP(bt_##form##_##sz)                                                                   \
	{                                                                                          \
		u64 d = X86_LD_##sz(c, i->seg, at(sz, false)), s = index(sz), f = c->aflags;       \
		__asm__(X86_FLAGS_IN "bt" #sz " %" X86_N_##sz "[s], %" X86_N_##sz                  \
			"[d]" X86_FLAGS_OUT                                                        \
			: "+&a"(f)                                                                 \
			: [d] "r"(d), [s] "r"(s)                                                   \
			: "cc");                                                                   \
		X86_DONE(c, i, f);                                                                 \
	}
X86_WIDE_SIZES(BT_R, rr, c->gpr[i->reg[1] / 8])
X86_WIDE_SIZES(BT_R, ri, i->imm)
X86_WIDE_SIZES(BT_M, mr, INDEX_REG, AT_REG)
X86_WIDE_SIZES(BT_M, mi, INDEX_IMM, AT_IMM)
X86_FAMILY(bt, X86_WIDE_ROW(RR, bt_rr), X86_WIDE_ROW(RI, bt_ri), X86_WIDE_ROW(MR, bt_mr),
	   X86_WIDE_ROW(MI, bt_mi))

#define BIT_TEST(op)                                                                               \
	X86_WIDE_SIZES(BIT_R, op, rr, c->gpr[i->reg[1] / 8])                                       \
	X86_WIDE_SIZES(BIT_R, op, ri, i->imm)                                                      \
	X86_WIDE_SIZES(BIT_RMW, op, op##_mr, "", false, INDEX_REG, AT_REG)                         \
	X86_WIDE_SIZES(BIT_RMW, op, op##_mi, "", false, INDEX_IMM, AT_IMM)                         \
	X86_WIDE_SIZES(BIT_RMW, op, op##_lmr, "lock ", true, INDEX_REG, AT_REG)                    \
	X86_WIDE_SIZES(BIT_RMW, op, op##_lmi, "lock ", true, INDEX_IMM, AT_IMM)                    \
	X86_FAMILY(op, X86_WIDE_ROW(RR, op##_rr), X86_WIDE_ROW(RI, op##_ri),                       \
		   X86_WIDE_ROW(MR, op##_mr), X86_WIDE_ROW(MI, op##_mi),                           \
		   X86_WIDE_ROW(LMR, op##_lmr), X86_WIDE_ROW(LMI, op##_lmi))

BIT_TEST(bts)
BIT_TEST(btr)
BIT_TEST(btc)

/* ---- scans and counts: the destination goes in too, since BSF and BSR of zero leave it ---- */

#define SCAN(sz, op, form, source)                                                                 \
	X86_OP(op##_##form##_##sz)                                                                 \
	{                                                                                          \
		u64 s = source(sz), d = X86_GET_##sz(c, i->reg[0]), f = c->aflags;                 \
		__asm__(X86_FLAGS_IN #op #sz " %" X86_N_##sz "[s], %" X86_N_##sz                   \
			"[d]" X86_FLAGS_OUT                                                        \
			: [d] "+r"(d), "+&a"(f)                                                    \
			: [s] "r"(s)                                                               \
			: "cc");                                                                   \
		X86_PUT_##sz(c, i->reg[0], d);                                                     \
		X86_DONE(c, i, f);                                                                 \
	}
#define SCAN_REG(sz) X86_GET_##sz(c, i->reg[1])
#define SCAN_MEM(sz) X86_LD_##sz(c, i->seg, x86_int_mem(c, i, X86_BYTES_##sz, false))
#define SCANS(op)                                                                                  \
	X86_WIDE_SIZES(SCAN, op, rr, SCAN_REG)                                                     \
	X86_WIDE_SIZES(SCAN, op, rm, SCAN_MEM)                                                     \
	X86_FAMILY(op, X86_WIDE_ROW(RR, op##_rr), X86_WIDE_ROW(RM, op##_rm))

SCANS(bsf)
SCANS(bsr)
SCANS(popcnt)
SCANS(lzcnt)
SCANS(tzcnt)

/* BSWAP of a 16-bit register is undefined, but has an encoding. */
X86_OP(bswap_r_w)
{
	u64 d = X86_GET_w(c, i->reg[0]);

	__asm__(".byte 0x66, 0x0f, 0xc8" : "+a"(d));
	X86_PUT_w(c, i->reg[0], d);
	return x86_next(i);
}
X86_OP(bswap_r_l)
{
	u64 d = X86_GET_l(c, i->reg[0]);

	__asm__("bswapl %k0" : "+r"(d));
	X86_PUT_l(c, i->reg[0], d);
	return x86_next(i);
}
X86_OP(bswap_r_q)
{
	X86_PUT_q(c, i->reg[0], __builtin_bswap64(X86_GET_q(c, i->reg[0])));
	return x86_next(i);
}
X86_FAMILY(bswap, X86_WIDE_ROW(R, bswap_r))
