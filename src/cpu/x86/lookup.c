// SPDX-License-Identifier: MIT
/*
 * From a linear address to the predecoded instruction there: the per-CPU cache in front of the VM's code cache.
 *
 * Engine file. Knows nothing of decoding; misses go to code.c behind the door.
 */
#include "cpu/x86/code_priv.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"

void x86_etlb_flush(struct x86_cpu *c)
{
	c->etlb_gen += X86_ETLB_GEN_ONE;
	if (c->etlb_gen > X86_ETLB_GEN_MAX) {
		x86_fill(c->etlb, 0, X86_ETLB_SIZE * sizeof(*c->etlb));
		c->etlb_gen = X86_ETLB_GEN_ONE;
	}
}

void x86_etlb_flush_page(struct x86_cpu *c, u64 la)
{
	c->etlb[(la >> PAGE_SHIFT) % X86_ETLB_SIZE].tag = 0;
}

/* Walks, finds the code page and remembers it. Raises what a fetch raises. */
static __attribute__((noinline)) struct x86_code_page *etlb_fill(struct x86_cpu *c, u64 la,
								 struct x86_etlb_entry *e)
{
	u8 *attr, *host = x86_fetch_page(c, la, &attr);
	struct x86_code_page *page;

	if (!host) {
		c->exit.insn.len = 0;
		c->exit.insn.why = "instruction fetch from an address without memory";
		x86_leave(c, X86_EXIT_INTERNAL_ERROR);
	}
	x86_door(c);
	page = x86_code_page_get(c, host, attr, c->code_size);
	if (!page) {
		c->exit.insn.len = 0;
		c->exit.insn.why = "out of memory";
		x86_leave(c, X86_EXIT_INTERNAL_ERROR);
	}
	e->tag = x86_etlb_tag(c, la);
	e->page = page;
	return page;
}

const struct x86_insn *x86_code_lookup(struct x86_cpu *c, u64 la)
{
	struct x86_etlb_entry *e = &c->etlb[(la >> PAGE_SHIFT) % X86_ETLB_SIZE];
	struct x86_code_page *page = e->page;
	const struct x86_insn *i;
	u32 l, at;

	av_epoch_quiet(c->epoch, &c->reader);
	if (unlikely(e->tag != x86_etlb_tag(c, la)))
		page = etlb_fill(c, la, e);
	c->code_la = c->gpr[X86_GPR_CODEPAGE] = la & PAGE_MASK;
	l = LOAD_ACQUIRE(page->line[(la & ~PAGE_MASK) / X86_LINE_SIZE]);
	if (likely(l)) {
		const struct x86_line *line = x86_arena_at(c->code, l);

		at = LOAD_ACQUIRE(line->insn[la % X86_LINE_SIZE]);
		if (likely(at))
			return x86_arena_at(c->code, at);
	}
	x86_door(c);
	i = x86_code_decode(c, page, (u32)(la & ~PAGE_MASK));
	return i;
}

/*
 * An instruction over two pages. Both are fetched each time, so the second page's faults, remaps and rewrites need no
 * tracking of their own.
 */
const struct x86_insn *x86_op_cross(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = c->code_la + i->off;
	u32 first = (u32)(PAGE_SIZE - i->off), n = 15;
	struct x86_cross *x = &c->cross[(la ^ la >> 12) % X86_CROSS_SIZE];
	u8 bytes[15], *attr, *host;
	bool same;

	host = x86_fetch_page(c, la, &attr);
	if (!host)
		return x86_op_unsupported(c, i);
	x86_copy(bytes, host + i->off, first);
	host = x86_fetch_page(c, i->bits == 8 ? la + first : (u32)(la + first), &attr);
	if (!host)
		return x86_op_unsupported(c, i);
	x86_copy(bytes + first, host, n - first);

	same = x->len && x->bits == i->bits && x->off == i->off;
	for (u32 k = 0; same && k < x->len; k++)
		same = x->bytes[k] == bytes[k];
	if (!same) {
		int len;

		x86_door(c);
		x->len = 0;
		len = x86_decode_cross(c, i->bits, bytes, i->off, x->insn);
		if (len <= 0)
			return x86_op_ud(c, i);
		x86_copy(x->bytes, bytes, sizeof(x->bytes));
		x->insn[0].flags |= X86_I_CONT;
		x->insn[1].fn = x86_op_end;
		x->insn[1].off = (u16)(i->off + len);
		x->insn[1].bits = i->bits;
		x->bits = i->bits;
		x->off = i->off;
		x->len = (u8)len;
	}
	/* Executed right here rather than returned: the run loop would offer the scratch to interrupts in between. */
	c->insn = &x->insn[0];
	return x->insn[0].fn(c, &x->insn[0]);
}
