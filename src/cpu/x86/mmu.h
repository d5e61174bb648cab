/* SPDX-License-Identifier: MIT */
/*
 * Linear memory as the guest's instructions see it: software TLB, accessors, walker, flushes.
 *
 * Tables: sets U (CPL 3), K (CPL < 3, user pages refused when SMAP is in force), A (CPL < 3 with user pages allowed), each with a
 * read and a write table, 4096 entries, direct-mapped by linear page. An entry is present only if the access needs no further
 * thought: permission granted, A (and for writes D) bits set, plain RAM, and for writes no predecoded code in the page. All else is the slow path.
 * Fills are logged so that a flush costs what was filled.
 *
 * All functions belong to the CPU's own thread. Faults are raised by long jump; nothing is committed before.
 */
#ifndef AV_CPU_X86_MMU_H
#define AV_CPU_X86_MMU_H

#include "cpu/x86/insn.h"

/* The tables stand behind *c, in the mapping that x86_cpu_alloc() made (tb.h). */
void x86_mmu_create(struct x86_cpu *c);
/* CPL, RFLAGS.AC or CR4.SMAP changed: choose the set. Cheap. */
void x86_mmu_select(struct x86_cpu *c);

/* Do unaligned accesses raise #AC? Then every access takes the slow path. */
static inline bool x86_aligned(const struct x86_cpu *c)
{
	return unlikely(c->rflags & X86_FLAG_AC) && c->cpl == 3 && (c->cr0 & X86_CR0_AM);
}

/* ---- flushes ---- */
void x86_tlb_flush_all(struct x86_cpu *c);	 /* everything, global pages too, exec entries too */
void x86_tlb_flush_nonglobal(struct x86_cpu *c); /* MOV CR3 */
void x86_tlb_flush_page(struct x86_cpu *c, u64 la); /* INVLPG; all PCIDs */
void x86_tlb_purge_writes(struct x86_cpu *c);	 /* all write entries (dirty log, code attribute) */
void x86_tlb_flush_user(struct x86_cpu *c);	 /* WRPKRU, XRSTOR of PKRU: every entry that may lead to a user page */

/* ---- accessors ---- */

/* seg is for the choice between #GP and #SS on a non-canonical address. size 1..64; may cross pages. */
void x86_read_slow(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 size);
void x86_write_slow(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 size);

/* Host pointer for [la, la+size), or NULL: not a hit, or crosses the page. */
static inline void *x86_tlb_hit(const struct x86_tlb_entry *table, u64 la, u32 size)
{
	const struct x86_tlb_entry *e = &table[(la >> PAGE_SHIFT) & (X86_TLB_SIZE - 1)];
	u64 x = la ^ e->tag;

	return likely(x <= PAGE_SIZE - size) ? (void *)(e->host + x) : NULL;
}

#define X86_ACCESSOR(bits)                                                                         \
	static inline __attribute__((always_inline)) u##bits x86_ld##bits(struct x86_cpu *c, u8 seg, u64 la)                      \
	{                                                                                          \
		u##bits *p = x86_tlb_hit(c->rtlb, la, bits / 8), v;                                \
		if (likely(p))                                                                     \
			return __atomic_load_n(p, __ATOMIC_RELAXED);                               \
		x86_read_slow(c, seg, la, &v, bits / 8);                                           \
		return v;                                                                          \
	}                                                                                          \
	static inline __attribute__((always_inline)) void x86_st##bits(struct x86_cpu *c, u8 seg, u64 la, u##bits v)              \
	{                                                                                          \
		u##bits *p = x86_tlb_hit(c->wtlb, la, bits / 8);                                   \
		if (likely(p))                                                                     \
			__atomic_store_n(p, v, __ATOMIC_RELAXED);                                  \
		else                                                                               \
			x86_write_slow(c, seg, la, &v, bits / 8);                                  \
	}
X86_ACCESSOR(8)
X86_ACCESSOR(16)
X86_ACCESSOR(32)
X86_ACCESSOR(64)

/*
 * A read-modify-write of size bytes (1..16). begin returns a pointer that is the guest's own memory (so LOCKed host instructions
 * on it are truly atomic) or a private copy; end stores a private copy back (as one write; under stop-the-world when the
 * access is locked and spans two pages). Write permission is checked first, as hardware does.
 */
struct x86_part { /* the piece of an access that lies in one page; mmu.c's own */
	u64 gpa;
	u8 *host; /* NULL: no RAM */
	u32 len;
	bool mmio; /* goes to the device side; with host set: a store to a read-only slot */
	bool code; /* the page holds predecoded code: x86_code_written() after the store */
};
struct x86_rmw {
	u64 la;
	u32 size;
	u8 seg;
	bool bounced, world_stopped;
	u8 nparts;
	struct x86_part part[2];
	u8 buf[16] __attribute__((aligned(16)));
};
void *x86_rmw_slow(struct x86_cpu *c, struct x86_rmw *w, bool locked);
void x86_rmw_finish(struct x86_cpu *c, struct x86_rmw *w);

static inline void *x86_rmw_begin(struct x86_cpu *c, u8 seg, u64 la, u32 size, bool locked, struct x86_rmw *w)
{
	void *p = x86_tlb_hit(c->wtlb, la, size);

	w->bounced = false;
	if (likely(p))
		return p;
	w->la = la;
	w->size = size;
	w->seg = seg;
	return x86_rmw_slow(c, w, locked);
}
static inline void x86_rmw_end(struct x86_cpu *c, struct x86_rmw *w)
{
	if (unlikely(w->bounced))
		x86_rmw_finish(c, w);
}

/*
 * A whole-page view for string instructions and wide copies: host pointer and the bytes usable there up to the page's end;
 * NULL when the page needs the slow path element by element (MMIO, code, crossing). Fills the TLB and faults as an access of one byte at la would.
 */
void *x86_span(struct x86_cpu *c, u8 seg, u64 la, bool write, u32 *bytes);
/*
 * As x86_span() for writing, but pages with predecoded code are allowed: *code says so, and x86_span_stored() must then follow the
 * store at once.
 */
void *x86_span_store(struct x86_cpu *c, u8 seg, u64 la, u32 *bytes, bool *code);
void x86_span_stored(struct x86_cpu *c, u8 *host, u32 bytes);

/* Faults as an access would, without making it. */
void x86_probe(struct x86_cpu *c, u8 seg, u64 la, u32 size, bool write);

/* Implicit supervisor accesses (descriptor tables, TSS): CPL does not matter, user pages are refused under SMAP. */
void x86_sys_read(struct x86_cpu *c, u64 la, void *buf, u32 size);
void x86_sys_write(struct x86_cpu *c, u64 la, const void *buf, u32 size);

/* Instruction fetch: host page of la for execution at the current CPL. Raises #PF/#GP. NULL: no RAM there (fetch from MMIO). attr as in machine_page. */
u8 *x86_fetch_page(struct x86_cpu *c, u64 la, u8 **attr);

/* The walker proper (walk.c). */
enum { X86_WALK_WRITE = BIT(0), X86_WALK_USER = BIT(1), X86_WALK_EXEC = BIT(2), X86_WALK_IMPLICIT = BIT(3), X86_WALK_NOSET = BIT(4) /* leave A/D bits alone */ };
struct x86_walk {
	u64 gpa;	/* of the byte asked for */
	bool writable, user, nx, global, dirty; /* effective rights after all levels; dirty: the leaf's D bit is set */
	u8 level;	/* of the leaf: 1 = 4K, 2 = 2M/4M, 3 = 1G */
	u8 pkey;
	u32 error;	/* #PF error code when it failed */
};
/* Returns true when mapped and allowed; false with w->error. Sets A and (for writes) D bits by locked compare-exchange. */
bool x86_walk(struct x86_cpu *c, u64 la, u32 flags, struct x86_walk *w);
/* Loads the PAE PDPTEs from CR3. false: reserved bits set (#GP); cpu->pdpte is then unchanged. */
bool x86_load_pdptes(struct x86_cpu *c, u64 cr3);

/* Guest-physical access through the door: for page tables, SMM save areas. false: no RAM. */
bool x86_phys_read(struct x86_cpu *c, u64 gpa, void *buf, u32 size);
bool x86_phys_write(struct x86_cpu *c, u64 gpa, const void *buf, u32 size);

/* ---- device accesses with recorded fragments (io.c) ---- */
/* One MMIO access inside a page; size 1..64, in pieces of 8 from its start and a rest, as KVM does. Leaves by long jump when the VMM must answer. */
void x86_mmio_read(struct x86_cpu *c, u64 gpa, void *buf, u32 size);
void x86_mmio_write(struct x86_cpu *c, u64 gpa, const void *buf, u32 size);
/* One port access; checks against IOPL and the TSS bitmap are the caller's. */
void x86_pio_read(struct x86_cpu *c, u16 port, void *buf, u32 size);
void x86_pio_write(struct x86_cpu *c, u16 port, const void *buf, u32 size);
/* After an instruction completed: forget its recorded reads. */
static inline void x86_io_done(struct x86_cpu *c)
{
	c->io.done = c->io.cursor = 0;
}
/*
 * One element of INS and OUTS; memory and permissions are checked, so that nothing is lost once the port was accessed. in: leaves
 * to ask the VMM for up to count elements, later calls take them from the answer. out_now: false if the VMM must do it; then
 * out_leave hands over count elements that the caller has put into *pio_data, with the registers already advanced.
 */
void x86_pio_string_in(struct x86_cpu *c, u16 port, void *buf, u32 size, u32 count);
bool x86_pio_string_out_now(struct x86_cpu *c, u16 port, const void *buf, u32 size);
void __noreturn x86_pio_string_out_leave(struct x86_cpu *c, u16 port, u32 size, u32 count);
/*
 * For the run loop, between two instructions whenever X86_REQ_LOCAL is set, which it clears first: forgets the
 * recorded reads of an instruction that completed (an instruction about to be executed again keeps its own), and
 * hands out the next queued write: true, cpu->exit filled, *why says how to leave. The request is set again while there are more.
 */
bool x86_io_drain(struct x86_cpu *c, enum x86_exit_reason *why);
/* Leaves the run loop with this reason at the instruction boundary before cpu->insn (state unchanged). */
void __noreturn x86_leave(struct x86_cpu *c, enum x86_exit_reason why);

#endif
