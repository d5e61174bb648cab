/* SPDX-License-Identifier: MIT */
/*
 * The guest's x87, MMX, SSE and AVX state, and native execution of instructions the host has.
 *
 * Residency: while cpu->simd_live, the guest's state is in the host's registers, and only code
 * built with -mgeneral-regs-only may run. x86_door() spills before foreign code. In sanitizer
 * builds (AV_SIMD_EAGER) state is loaded and spilled around every stub, as instrumentation uses
 * SIMD registers.
 *
 * Native stubs: for an instruction without a C handler, a few host instructions that load the
 * general registers it reads and the flags, execute it with its memory operand replaced by
 * [pointer], and store what it wrote. Stubs are shared by encoding and live as long as the
 * predecoded instructions that point to them.
 */
#ifndef AV_CPU_X86_SIMD_H
#define AV_CPU_X86_SIMD_H

#include "cpu/x86/insn.h"

/*
 * The CPU whose run loop is active on this thread, NULL outside x86_run(): the run loop sets it,
 * the signal handler (signal.c) reads it.
 */
extern __thread struct x86_cpu *x86_current __attribute__((tls_model("initial-exec")));

/* Makes the guest's state resident. Idempotent. (x86_simd_spill, which writes it back: x86.h) */
void x86_simd_load_slow(struct x86_cpu *c);
static inline void x86_simd_load(struct x86_cpu *c)
{
	if (unlikely(!c->simd_live))
		x86_simd_load_slow(c);
}

/* CR0, CR4 or XCR0 changed: which families the guest may use now (cpu->simd_enabled, tb.h). */
void x86_simd_enable(struct x86_cpu *c);

/*
 * Spills, and returns cpu->xsave with the components named in comps valid in memory and marked
 * present, so that handlers may read and write them there. The next stub loads the image again.
 */
u8 *x86_simd_image(struct x86_cpu *c, u64 comps);

/* On a spilled image: writes cpu->x87 to its fields. */
void x86_simd_put_pointers(struct x86_cpu *c);

/* On a spilled image: puts components into their initial state. */
void x86_simd_init(struct x86_cpu *c, u64 comps);

/* MXCSR of a spilled image; other values than the initial one make the SSE component present. */
void x86_simd_set_mxcsr(struct x86_cpu *c, u32 v);

/* XINUSE as XGETBV with ECX = 1 reports it, PKRU included, not yet masked by XCR0. */
u64 x86_simd_xinuse(struct x86_cpu *c);

/*
 * What the host's CPUID and XCR0 say about extended state; constant once read. PKRU has its place
 * in the guest's areas and none in the image: it is cpu->pkru, and the host's own is never touched.
 */
#define X86_XCOMPS 10
struct x86_xlayout {
	u64 xcr0; /* the image's components: host and engine have them; 0: the host has no XSAVE and
		     nothing of this file works */
	u32 size; /* of the image */
	u32 mxcsr_mask;
	u32 off[X86_XCOMPS], len[X86_XCOMPS];
	bool align64[X86_XCOMPS]; /* in the compacted format */
};
const struct x86_xlayout *x86_xlayout(void);

#define X86_XCOMP_X87	 BIT(0)
#define X86_XCOMP_SSE	 BIT(1)
#define X86_XCOMP_AVX	 BIT(2)
#define X86_XCOMP_AVX512 (BIT(5) | BIT(6) | BIT(7))
#define X86_XCOMP_PKRU	 BIT(9)

/* Fields of the image. */
#define X86_XS_FCW	  0
#define X86_XS_FSW	  2
#define X86_XS_FTW	  4
#define X86_XS_FOP	  6
#define X86_XS_FIP	  8
#define X86_XS_FDP	  16
#define X86_XS_MXCSR	  24
#define X86_XS_MXCSR_MASK 28
#define X86_XS_ST	  32
#define X86_XS_XMM	  160
#define X86_XS_BV	  512
#define X86_XS_COMP_BV	  520
#define X86_XS_EXTENDED	  576
/* host_xsave: the host's control words, then room for a whole image. */
#define X86_SCRATCH	       64
#define X86_FCW_INIT	       0x37f
#define X86_FCW_VALID(v)       ((u16)(((v)&0x1f3f) | 0x40)) /* what the register makes of a value */
#define X86_MXCSR_INIT	       0x1f80
#define X86_FSW_ES	       BIT(7)
#define X86_FSW_B	       BIT(15)
#define X86_FIELD(p, at, type) (*(type *)((u8 *)(p) + (at)))

/* Before calling anything outside the engine: libc, Zydis, the machine. */
static inline void x86_door(struct x86_cpu *c)
{
	if (unlikely(c->simd_live))
		x86_simd_spill(c);
}

/* The status word as the unit shows it under a control word: ES and B follow the unmasked
 * exceptions. */
static inline u16 x86_fsw_valid(u16 sw, u16 cw)
{
	sw &= (u16) ~(X86_FSW_ES | X86_FSW_B);
	return sw & ~cw & 0x3f ? sw | X86_FSW_ES | X86_FSW_B : sw;
}

/*
 * Chooses a stub for d and sets i->fn, i->stub and the access size and kind in
 * i->opsize/cond/spare. false: not a user-mode instruction we can run natively. Called by
 * x86_decode() under the code cache's lock.
 */
bool x86_native_bind(const struct x86_decoded *d, struct x86_insn *i);

int x86_native_create(struct x86_code *code);
void x86_native_destroy(struct x86_code *code);
/* The memory that stubs were emitted to is about to be used again: all are made anew. Under the
 * lock. */
void x86_native_forget(struct x86_code *code);

/* #UD/#NM checks for an instruction of that family under the current CR0, CR4, XCR0. */
enum x86_simd_kind {
	X86_KIND_INT,
	X86_KIND_X87,
	X86_KIND_MMX,
	X86_KIND_SSE,
	X86_KIND_AVX,
	X86_KIND_AVX512,
	X86_KIND_FWAIT,
	X86_KIND_VEX_INT, /* BMI and the like: VEX-encoded, so not in real and virtual-8086 mode */
};
void x86_simd_check(struct x86_cpu *c, enum x86_simd_kind kind);

/* Handlers that run a stub (op_native.c); x86_native_bind() chooses. Use of struct x86_insn's
 * fields: see there. */
enum x86_native_flags {
	X86_N_WRITE = BIT(0),  /* i->spare: the memory operand is written only */
	X86_N_X87 = BIT(1),    /* i->imm is the FOP to record: x87, and not a control instruction */
	X86_N_INIT = BIT(2),   /* FNINIT: clears the recorded pointers */
	X86_N_WAITS = BIT(3),  /* reports a pending x87 exception, before it touches memory */
	X86_N_ALIGN_SHIFT = 4, /* bits 4-6: log2 of the alignment wanted of the memory operand */
};
enum x86_native_mask {
	X86_MASK_LANES, /* mask bit n guards lane n */
	X86_MASK_FOLD,	/* broadcast: mask bit n guards lane n modulo the lanes in memory */
	X86_MASK_PACK,	/* compress, expand: as many lanes as the mask has bits */
};
#define X86_NATIVE_MASK_STUB                                                                       \
	16 /* a stub that returns the mask stands that many bytes before the stub proper */
x86_op_fn x86_op_native, x86_op_native_load, x86_op_native_store, x86_op_native_rmw,
	x86_op_native_masked;
x86_op_fn x86_op_nop;

/* Executes a stub on the resident state. */
u64 x86_native_call(struct x86_cpu *c, const void *stub, void *ptr);

/* Rows of x86_ops_simd that live in op_xsave.c, op_x87env.c and op_gather.c. */
x86_op_fn x86_op_fnstenv, x86_op_fnsave, x86_op_fldenv, x86_op_frstor;
bool x86_bind_xsave(const struct x86_decoded *d, struct x86_insn *i);
x86_op_fn x86_op_gather;
/* Operands of a gather or scatter, packed into i->imm. */
struct x86_vsib {
	u8 data, index, mask; /* register numbers */
	u8 count;	      /* elements */
	u8 elem, idx;	      /* bytes of an element, of an index */
	bool evex, scatter;
};
_Static_assert(sizeof(struct x86_vsib) == 8, "fits struct x86_insn's imm");
bool x86_bind_gather(const struct x86_decoded *d, struct x86_insn *i);

/* Moves n bytes between the guest's memory and buf: pages that hit the TLB at once, the rest in
 * pieces. Faults; writes only after probing all. */
void x86_block_read(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 n);
void x86_block_write(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 n);
void x86_block_probe(struct x86_cpu *c, u8 seg, u64 la, u32 n, bool write);
/* They do not check alignment (#AC); this does, and comes before them. */
void x86_block_align(struct x86_cpu *c, u64 la, u32 align);

/* FNINIT/XRSTOR-init state into c->xsave, for reset. */
void x86_simd_reset(struct x86_cpu *c);
int x86_simd_create(struct x86_cpu *c);
void x86_simd_destroy(struct x86_cpu *c);

#endif
