/* SPDX-License-Identifier: MIT */
/*
 * The translator's insides, shared by tb_translate.c (traces, blocks), tb_flags.c, tb_mem.c, tb_flow.c and tb_insn.c.
 *
 * Must not know of the runtime more than tb.h says.
 */
#ifndef AV_CPU_X86_TB_PRIV_H
#define AV_CPU_X86_TB_PRIV_H

#include "cpu/x86/tb.h"
#include "cpu/x86/tb_asm.h"

#define X86_TR_FLAGS ((u16)X86_FLAGS_ARITH)

/* What is known at a place in the code. */
struct x86_tr_state {
	bool host, slot; /* where the guest's flags are; neither: nobody reads them */
	bool broken;	 /* an invariant does not hold: give the block up */
	u8 simd;	 /* families whose check has passed */
	u16 groups;	 /* whose check has passed */
};

/* An access's part in a group that shares one check (tb_share.c). */
struct x86_tr_share {
	s8 group; /* -1: none */
	bool leads, last;
	bool write; /* leads: what the check is for */
	s32 lo;	    /* leads: start of the span, from the access's own address */
	u32 span;
};
enum { X86_TR_OPERAND, X86_TR_STACK };
#define X86_TR_MAX_GROUPS 14
/* In the red zone of the C stack: host minus guest address of a group. -8 is for emitters. */
#define X86_TR_GROUP_AT(g) asm_mem(H_RSP, -16 - 8 * (g))

/* A guest instruction of the trace. */
struct x86_tr_insn {
	const struct x86_insn *i;
	u32 index; /* in the arena */
	struct x86_decoded d;
	u16 use, kill;	       /* arithmetic flags read; written whatever happens */
	u16 live_in, live_out; /* flags that somebody may read, before and after it */
	bool branch;	       /* has a direct target */
	bool inverted;	       /* conditional: the trace goes on at the target */
	bool last;	       /* the trace ends behind it */
	bool label;	       /* jumped to from inside the block */
	bool loop;	       /* jumped to from below: polls */
	s32 target;	       /* of a direct branch, from the start of the page */
	s32 next;	       /* where fall-through goes, from the start of the page */
	s16 jump;	       /* trace index of the target; -1: outside */
	u8 simd_in;	       /* families checked on all ways that jump here */
	struct x86_tr_share share[2];
	u32 at;			   /* position of its code */
	struct x86_tr_state state; /* there */
	bool copied;		   /* something goes to its copy (tb_share.c) */
	u32 copy_at;
};

/* Code that stands behind the block: what is rarely executed. */
enum x86_tr_cold_kind {
	X86_COLD_SLOW, /* the instruction in tier 0, then back */
	X86_COLD_SIMD, /* the same for a failed SIMD check, which is made again */
	X86_COLD_EXIT, /* a taken branch out of the block */
	X86_COLD_POLL, /* to the stub POLL */
	X86_COLD_MISS, /* the jump cache missed */
	X86_COLD_WINDOW, /* the stack left the window */
};

struct x86_tr_cold {
	u8 kind; /* enum x86_tr_cold_kind */
	u8 nfix;
	u8 simd;     /* families checked at the place */
	u8 bit;	     /* SIMD: the family in question */
	bool reload; /* SLOW, SIMD: the code gone back to wants flags in HOST */
	bool save;   /* EXIT: flags are in HOST only and somebody may read them */
	bool poll;   /* EXIT: goes backwards */
	u32 site;    /* EXIT: displacement of the branch, which may be patched itself; 0: it may not */
	s16 insn;    /* trace index; -1: none */
	bool to_copy; /* WINDOW: if there is nothing in the write table: to the instruction's copy, else to tier 0 */
	u32 size, into; /* WINDOW: of the access at RSP + off; where to go back to with RAX = diff */
	s32 off;     /* EXIT, POLL: where to go on */
	s32 rsp;     /* MISS: to add to RSP before going on; if the target is bad, `undo` instead */
	s32 undo;
	u32 fix[5]; /* jumps to here */
	u32 back;
	s16 back_copy; /* if not -1: back to the copy of this instruction instead */
};

#define X86_TR_MAX_COLD (X86_TB_MAX_INSNS * 6)
#define X86_TR_MAX_FIX	(X86_TB_MAX_INSNS * 2)

struct x86_tr {
	struct x86_asm a;
	struct x86_tb_out *out;
	const struct x86_code *code;
	const struct x86_code_page *page;
	u8 set;
	bool bmi2;
	u32 n;	     /* instructions */
	s32 end;     /* where to go on behind the last one, from the start of the page; -1: it does not fall through */
	u32 exits;

	/* while emitting */
	struct x86_tr_insn *cur;
	struct x86_tr_cold *slow; /* of cur; NULL: none needed yet */
	s8 rax;	       /* the group whose value RAX holds, -1: none. Whoever changes RAX in front of a check says so */
	bool keeps_rax; /* cur's emitter has seen to that */
	struct x86_tr_state s;

	struct x86_tr_cold cold[X86_TR_MAX_COLD];
	u32 ncold;
	struct {
		u32 place;
		s16 insn;
	} fix[X86_TR_MAX_FIX]; /* jumps to instructions of the block */
	u32 nfix;
	struct {
		u32 place;
		s16 insn;
	} copy_fix[X86_TR_MAX_FIX]; /* jumps to copies */
	u32 ncopy_fix;
	bool copying; /* no groups in copies */
	struct x86_tr_insn in[X86_TB_MAX_INSNS];
	u8 bytes[PAGE_SIZE + 16]; /* of the page, as far as tier 0 has looked at them */
};

/* ---- tb_translate.c ---- */
/* The instruction that tier 0 has decoded at off; NULL: none that can be translated. */
const struct x86_insn *x86_tr_decoded(const struct x86_tr *t, s32 off, u32 *index);
/* A new piece of cold code, to be jumped to from place. NULL (and t->s.broken): too many. */
struct x86_tr_cold *x86_tr_cold(struct x86_tr *t, enum x86_tr_cold_kind kind, u32 place);
/* To the cold code that executes the instruction at hand in tier 0, if cc holds. */
void x86_tr_slow_if(struct x86_tr *t, u8 cc);
/* To the copy of the instruction at hand, if cc holds. */
void x86_tr_copy_if(struct x86_tr *t, u8 cc);
void x86_tr_call(struct x86_tr *t, enum x86_tb_stub stub);
void x86_tr_jmp(struct x86_tr *t, enum x86_tb_stub stub);
/* The next host instruction may fault on behalf of the guest instruction at hand. */
void x86_tr_map(struct x86_tr *t);
/* The instruction at hand in tier 0, in line. */
void x86_tr_slow(struct x86_tr *t);

/* ---- tb_flags.c ---- */
/* Which arithmetic flags an instruction reads, and which it writes in any case. */
void x86_tr_flag_effects(const ZydisDecodedInstruction *z, u16 *use, u16 *kill);
/* Flags that may be read at off before they are written. */
u16 x86_tr_live_at(const struct x86_tr *t, s32 off);
void x86_tr_liveness(struct x86_tr *t);
/* Before host flags are clobbered by code that is not the guest's: saves them if anybody needs them. */
void x86_tr_clobber(struct x86_tr *t);
/* Flags to SLOT, to HOST. Both clobber RAX. */
void x86_tr_to_slot(struct x86_tr *t);
void x86_tr_to_host(struct x86_tr *t);
void x86_tr_load_flags(struct x86_asm *a);
void x86_tr_save_flags(struct x86_asm *a);
/* Must the flags be in HOST before the instruction at hand? Because it reads or keeps some. */
bool x86_tr_wants_flags(const struct x86_tr *t);
/* The guest's instruction was just executed: the flags it writes are in HOST. */
void x86_tr_flags_done(struct x86_tr *t);

/* ---- tb_mem.c ---- */
static inline bool x86_tr_resident(u32 gpr)
{
	return gpr < X86_R9 || gpr > X86_R11;
}
static inline u8 x86_tr_host(u32 gpr)
{
	static const u8 map[16] = {H_R9,  H_R10,  H_RDX,  H_RBX,  H_R11, H_RBP, H_RSI, H_RDI,
				   H_R8, H_NONE, H_NONE, H_NONE, H_R12, H_R13, H_R14, H_R15};

	return map[gpr];
}
static inline struct asm_rm x86_tr_home(u32 gpr)
{
	return x86_tr_resident(gpr) ? asm_reg(x86_tr_host(gpr))
				    : asm_gs(X86_GS(gpr) + (s32)gpr * 8);
}
/* A guest register to and from a host register, 64 bits. */
void x86_tr_get(struct x86_tr *t, u8 host, u32 gpr);
void x86_tr_put(struct x86_tr *t, u32 gpr, u8 host);

/* The effective address of i's memory operand to RCX (not FS/GS bases), without touching flags. Clobbers RAX. false: cannot. */
bool x86_tr_ea(struct x86_tr *t, const struct x86_insn *i, u8 to);
/*
 * Checks an access to i's memory operand, or to [base + disp] for stack accesses: on success the host's operand is *at, made
 * of RAX and another register; else control goes to the cold code of the instruction at hand. Host flags are clobbered as t says.
 */
void x86_tr_cold_window(struct x86_tr *t, const struct x86_tr_cold *c);
bool x86_tr_check(struct x86_tr *t, const struct x86_insn *i, u32 size, bool write, struct asm_rm *at);
struct asm_rm x86_tr_check_at(struct x86_tr *t, u32 gpr, s32 disp, u32 size, bool write);

/* Emitters. false: nothing is emitted for this form, take SLOW. */
typedef bool x86_tr_fn(struct x86_tr *t, struct x86_tr_insn *ti);
x86_tr_fn x86_tr_push, x86_tr_pop, x86_tr_leave;

/* ---- tb_share.c ---- */
/* Finds the groups. */
void x86_tr_share(struct x86_tr *t);

/* ---- tb_flow.c ---- */
x86_tr_fn x86_tr_jcc, x86_tr_jcxz, x86_tr_loop, x86_tr_jmp_insn, x86_tr_call_insn, x86_tr_ret;
/* Goes on at off from the start of the page, for good. Flags are in SLOT or dead. */
void x86_tr_exit(struct x86_tr *t, s32 off, bool poll);
/* The same, never chained: the state may be another than the block's. */
void x86_tr_leave_at(struct x86_tr *t, s32 off);
void x86_tr_cold_exit(struct x86_tr *t, const struct x86_tr_cold *c);
void x86_tr_cold_miss(struct x86_tr *t, const struct x86_tr_cold *c);
/* if (cpu->req) goto POLL at off */
void x86_tr_poll(struct x86_tr *t, s32 off);

/* to = linear address of off, counted from the start of the page. Leaves flags alone. */
void x86_tr_load_rip(struct x86_tr *t, u8 to, s32 off);
/* NE if RAX is not canonical with 48 bits. Clobbers RCX. */
void x86_tr_if_not_canonical(struct x86_tr *t);

/* ---- tb_sys.c ---- */
x86_tr_fn x86_tr_cli, x86_tr_sti, x86_tr_pushf, x86_tr_swapgs, x86_tr_segment_base, x86_tr_mov_system, x86_tr_rdtsc,
	x86_tr_rdpkru, x86_tr_as_it_is;

/* ---- tb_insn.c ---- */
/* One instruction. false: nothing usable was emitted. */
bool x86_tr_emit(struct x86_tr *t, struct x86_tr_insn *ti);
/* Is there code for it, as far as can be told from outside? */
bool x86_tr_has_emitter(const struct x86_tr_insn *ti);
/* May the block go on behind this instruction after it was executed by SLOW? */
bool x86_tr_harmless(const struct x86_tr_insn *ti);
/* Re-encodes an instruction for mapped registers (tb_generic.c). */
bool x86_tr_generic(struct x86_tr *t, struct x86_tr_insn *ti);
/* The same with a SIMD check before it where needed, for instructions that tier 0 executes by native stubs. */
bool x86_tr_native(struct x86_tr *t, struct x86_tr_insn *ti);

#endif
