/* SPDX-License-Identifier: MIT */
/*
 * Segmentation: from (segment, offset) to a linear address, and loading segment registers.
 *
 * Source: SDM vol. 3 "Protected-Mode Memory Management" and "Protection"; APM vol. 2 "Segmented
 * Virtual Memory".
 */
#ifndef AV_CPU_X86_SEG_H
#define AV_CPU_X86_SEG_H

#include "cpu/x86/mmu.h"

/* Limit, type and null checks; raises #GP(0) or #SS(0). Not for 64-bit mode. */
u64 x86_seg_check(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write);

static inline bool x86_long_mode(const struct x86_cpu *c)
{
	return c->code_size == 8;
}

/* Protected mode proper: descriptors and privilege levels count. */
static inline bool x86_protected(const struct x86_cpu *c)
{
	return (c->cr0 & X86_CR0_PE) && !(c->rflags & X86_FLAG_VM);
}

static inline bool x86_canonical(const struct x86_cpu *c, u64 la)
{
	u32 unused = c->cr4 & X86_CR4_LA57 ? 64 - 57 : 64 - 48;

	return (u64)((s64)(la << unused) >> unused) == la;
}

/* cpu->flat has a second set of bits, shifted by this, for writes: CS may be read without checks
 * but never written. */
#define X86_FLAT_WRITE 8

/*
 * Linear address of an access of size bytes at seg:ea. In 64-bit mode only FS and GS have bases and
 * nothing is checked here: the TLB miss path finds non-canonical addresses.
 */
static inline u64 x86_linear(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write)
{
	if (likely(x86_long_mode(c)))
		return seg >= X86_FS ? ea + c->seg[seg].base : ea;
	if (likely((c->flat & BIT(seg + (write ? X86_FLAT_WRITE : 0))) &&
		   ea + size <= 0x100000000ull))
		return ea;
	return x86_seg_check(c, seg, ea, size, write);
}

/* Linear address of i's memory operand. */
static inline u64 x86_mem(struct x86_cpu *c, const struct x86_insn *i, u32 size, bool write)
{
	u64 ea = x86_ea(c, i);

	return likely(i->flags & X86_I_FLAT) ? ea : x86_linear(c, i->seg, ea, size, write);
}

/* ---- the stack ---- */
/* Width of the stack pointer in bytes: 8 in 64-bit mode, else by SS.B. */
static inline u8 x86_stack_size(const struct x86_cpu *c)
{
	return x86_long_mode(c) ? 8 : c->seg[X86_SS].attr & X86_SEG_DB ? 4 : 2;
}
static inline u64 x86_sp_mask(const struct x86_cpu *c)
{
	return x86_asize_mask(x86_stack_size(c));
}
static inline void x86_set_sp(struct x86_cpu *c, u64 sp)
{
	u64 mask = x86_sp_mask(c);

	/* 32-bit stack pointers zero-extend in no mode that can tell; 16-bit ones merge. */
	c->gpr[X86_RSP] = mask == 0xffff ? (c->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
}
/* Push and pop of 2, 4 or 8 bytes; SP changes only after the access succeeded. */
void x86_push(struct x86_cpu *c, u64 v, u8 size);
u64 x86_pop(struct x86_cpu *c, u8 size);
/* Reads the stack at SP + disp without changing SP. */
u64 x86_peek(struct x86_cpu *c, s32 disp, u8 size);

/* ---- loading ---- */
/* MOV/POP/LxS to ES, SS, DS, FS, GS (all modes). Raises. */
void x86_load_seg(struct x86_cpu *c, u8 seg, u16 sel);
/* Real-mode or V86 load without checks. */
void x86_load_seg_real(struct x86_cpu *c, u8 seg, u16 sel);
/* Reads a descriptor (8 bytes) of GDT/LDT; false: outside the table. x86_desc_to_seg unpacks it. */
bool x86_read_desc(struct x86_cpu *c, u16 sel, u64 *desc);
void x86_desc_to_seg(struct x86_seg *s, u16 sel, u64 desc);
/* An unusable segment, as after loading a null selector; dpl is kept for SS, which carries the CPL.
 */
void x86_null_seg(struct x86_seg *s, u16 sel, u8 dpl);
/* Sets the accessed bit of a code or data descriptor in its table. */
void x86_desc_accessed(struct x86_cpu *c, u16 sel, u64 *desc);
/*
 * The checks on a gate's target that interrupts and call gates share: a present code segment of our
 * or more privilege, 64-bit in long mode. Returns the CPL it runs at. Raises.
 */
u8 x86_gate_code(struct x86_cpu *c, u16 sel, u64 *desc);
/* Reads from the current TSS; #TS(TR) beyond its limit. */
void x86_tss_read(struct x86_cpu *c, u32 off, void *buf, u32 size);

/* ---- a stack in preparation: nothing is committed before x86_stack_commit() ---- */
struct x86_stack {
	struct x86_seg ss;
	u64 sp, mask;
	u8 cpl;	   /* whose rights the pushes have */
	bool flat; /* 64-bit: no base, no limit */
	u16 error; /* selector of a #SS */
};
/* The current stack; flat for deliveries in long mode, which ignore SS even in compatibility mode.
 */
void x86_stack_here(struct x86_cpu *c, struct x86_stack *s, bool flat);
/* The TSS's stack for a more privileged level, with all checks of its SS (SDM "Stack Switching").
 */
void x86_stack_inner(struct x86_cpu *c, struct x86_stack *s, u8 cpl);
void x86_stack_push(struct x86_cpu *c, struct x86_stack *s, u64 v, u8 size);
void x86_stack_commit(struct x86_cpu *c, const struct x86_stack *s);

/* System bits of RFLAGS changed from `old`: interrupts may have become possible, single-stepping or
 * SMAP's override begun. */
void x86_flags_changed(struct x86_cpu *c, u32 old);
/* Recomputes cpl (from SS/CS), code_size and flat after segment registers, CR0.PE, RFLAGS.VM or
 * EFER.LMA changed; selects the TLB set. */
void x86_seg_changed(struct x86_cpu *c);

#endif
