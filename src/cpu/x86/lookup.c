// SPDX-License-Identifier: MIT
/*
 * From a linear address to the predecoded instruction there: the per-CPU cache in front of the VM's code cache.
 *
 * Engine file. Knows nothing of decoding; misses go to code.c behind the door.
 */
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/tb_runtime.h"

#include <errno.h>
#include <stdlib.h>

struct x86_etlb {
	struct x86_etlb_entry entry[X86_ETLB_SIZE];
	struct x86_fill_log log[2]; /* [global] */
};

static u32 etlb_index(u64 la)
{
	return (la >> PAGE_SHIFT) % X86_ETLB_SIZE;
}

static void entry_clear(struct x86_etlb *t, u32 index)
{
	t->entry[index].tag = 0;
	t->entry[index].page = NULL;
}

static void log_flush(struct x86_etlb *t, bool global)
{
	struct x86_fill_log *log = &t->log[global];

	if (log->count > X86_LOG_SIZE) {
		x86_fill(t->entry, 0, sizeof(t->entry));
		t->log[0].count = t->log[1].count = 0;
		return;
	}
	for (u32 k = 0; k < log->count; k++)
		entry_clear(t, log->index[k]);
	log->count = 0;
}

void x86_etlb_flush(struct x86_cpu *c)
{
	log_flush(c->etlb, false);
	log_flush(c->etlb, true);
	x86_jc_flush(c);
}

void x86_etlb_flush_nonglobal(struct x86_cpu *c)
{
	log_flush(c->etlb, false);
	x86_jc_flush_nonglobal(c);
}

void x86_etlb_flush_page(struct x86_cpu *c, u64 la)
{
	u32 index = etlb_index(la);

	if (!((c->etlb->entry[index].tag ^ la) >> PAGE_SHIFT))
		entry_clear(c->etlb, index);
	x86_jc_flush_page(c, la);
}

void x86_etlb_flush_region(struct x86_cpu *c, u64 la)
{
	for (u32 k = 0; k < X86_ETLB_SIZE; k++)
		if (!((c->etlb->entry[k].tag ^ la) >> 22))
			entry_clear(c->etlb, k);
	x86_jc_flush_region(c, la);
}

void x86_etlb_recheck(struct x86_cpu *c)
{
	c->etlb_gen += X86_ETLB_GEN_ONE;
	if (c->etlb_gen > X86_ETLB_GEN_MAX) {
		x86_etlb_flush(c);
		c->etlb_gen = X86_ETLB_GEN_ONE;
	}
	x86_jc_flush(c);
}

const struct x86_etlb_entry *x86_etlb_entry(const struct x86_cpu *c, u64 la)
{
	const struct x86_etlb_entry *e = &c->etlb->entry[etlb_index(la)];

	return e->page && e->tag == x86_etlb_tag(c, la) ? e : NULL;
}

/* The code page if it is known and was compared with memory in this io_epoch: without the door. */
static struct x86_code_page *page_known(struct x86_cpu *c, const u8 *host, const u8 *attr)
{
	struct x86_code_frame *f = x86_code_frame_find(c->code, host);
	struct x86_code_page *p = f ? LOAD_ACQUIRE(f->page[c->code_size >> 2]) : NULL;

	if (!p || READ_ONCE(f->attr) != attr)
		return NULL;
	return LOAD_ACQUIRE(p->checked) == __atomic_load_n(&c->code->io_epoch, __ATOMIC_SEQ_CST) ? p : NULL;
}

/* Walks, finds the code page and remembers it. Raises what a fetch raises. */
static __attribute__((noinline)) struct x86_code_page *etlb_fill(struct x86_cpu *c, u64 la,
								 struct x86_etlb_entry *e)
{
	u64 tag = x86_etlb_tag(c, la);
	struct x86_code_page *page;
	struct x86_fill_log *log;
	u8 *attr, *host;

	if (e->page && !((e->tag ^ tag) & ~X86_ETLB_GEN_MAX)) {
		x86_code_page_check(c, e->page);
		e->tag = tag;
		return e->page;
	}
	host = x86_fetch_page(c, la, &attr);
	if (!host) {
		c->exit.insn.len = 0;
		c->exit.insn.why = "instruction fetch from an address without memory";
		x86_leave(c, X86_EXIT_INTERNAL_ERROR);
	}
	page = page_known(c, host, attr);
	if (!page) {
		x86_door(c);
		page = x86_code_page_get(c, host, attr, c->code_size);
	}
	if (!page) {
		c->exit.insn.len = 0;
		c->exit.insn.why = "out of memory";
		x86_leave(c, X86_EXIT_INTERNAL_ERROR);
	}
	e->tag = tag;
	e->page = page;
	e->global = c->mmu->fetch_global;
	log = &c->etlb->log[e->global];
	if (likely(log->count < X86_LOG_SIZE))
		log->index[log->count++] = (u16)etlb_index(la);
	else
		log->count = X86_LOG_SIZE + 1;
	return page;
}

/* Tier 1: a place that is reached by lookup again and again gets a head. */
static __attribute__((noinline)) const struct x86_insn *headless(struct x86_cpu *c, struct x86_code_page *page, u64 la,
								 const struct x86_insn *i)
{
	u8 *visits = &c->tb->cold[(la ^ la >> 12) % X86_COLD_SIZE];

	if (++*visits < X86_COLD_VISITS)
		return i;
	*visits = 0;
	x86_door(c);
	return x86_code_split(c, page, i);
}

const struct x86_insn *x86_code_lookup(struct x86_cpu *c, u64 la)
{
	struct x86_etlb_entry *e = &c->etlb->entry[etlb_index(la)];
	struct x86_code_page *page = e->page;
	const struct x86_insn *i;
	u32 l, at;

	av_epoch_quiet(c->epoch, &c->reader);
	if (unlikely(e->tag != x86_etlb_tag(c, la) || !page))
		page = etlb_fill(c, la, e);
	c->code_la = c->gpr[X86_GPR_CODEPAGE] = la & PAGE_MASK;
	l = LOAD_ACQUIRE(page->line[(la & ~PAGE_MASK) / X86_LINE_SIZE]);
	if (likely(l)) {
		const struct x86_line *line = x86_arena_at(c->code, l);

		at = LOAD_ACQUIRE(line->insn[la % X86_LINE_SIZE]);
		if (likely(at)) {
			i = x86_arena_at(c->code, at);
			if (likely(!c->tb || !i->len || i->bits != 8))
				return i;
			return headless(c, page, la, i);
		}
	}
	for (;;) {
		x86_door(c);
		i = x86_code_decode(c, page, (u32)(la & ~PAGE_MASK));
		if (likely(i))
			return i;
		/* Here the fault is the CPU's (signal.c). Without one the memory has come back. */
		(void)*(volatile u8 *)(page->frame->host + (la & ~PAGE_MASK));
	}
}

/*
 * An instruction over two pages. Both are fetched each time, so the second page's faults, remaps and rewrites need no
 * tracking of their own.
 */
/* The host page of code at la, without a walk where it was found lately. NULL: no memory. */
static const u8 *code_bytes(struct x86_cpu *c, u64 la)
{
	const struct x86_etlb_entry *e = x86_etlb_entry(c, la);
	u8 *attr;

	return likely(e) ? e->page->frame->host : x86_fetch_page(c, la, &attr);
}

const struct x86_insn *x86_op_cross(struct x86_cpu *c, const struct x86_insn *i)
{
	u64 la = c->code_la + i->off;
	u32 first = (u32)(PAGE_SIZE - i->off), n = 15;
	struct x86_cross *x = &c->cross[(la ^ la >> 12) % X86_CROSS_SIZE];
	const u8 *host;
	u8 bytes[15];
	bool same;

	host = code_bytes(c, la);
	if (!host)
		return x86_op_unsupported(c, i);
	x86_copy(bytes, host + i->off, first);
	host = code_bytes(c, i->bits == 8 ? la + first : (u32)(la + first));
	if (!host)
		return x86_op_unsupported(c, i);
	x86_copy(bytes + first, host, n - first);

	same = x->len && x->bits == i->bits && x->off == i->off && x->turn == LOAD_ACQUIRE(c->code->turns);
	for (u32 k = 0; same && k < x->len; k++)
		same = x->bytes[k] == bytes[k];
	if (!same) {
		int len;

		x86_door(c);
		x->len = 0;
		x->bits = i->bits;
		x->off = i->off;
		/* i may be gone when this returns. */
		len = x86_decode_cross(c, x->bits, bytes, x->off, x);
		c->insn = &x->insn[0];
		if (len <= 0)
			return x86_op_ud(c, c->insn);
		x86_copy(x->bytes, bytes, sizeof(x->bytes));
		x->insn[0].flags |= X86_I_CONT;
		x->insn[1].fn = x86_op_end;
		x->insn[1].off = (u16)(x->off + len);
		x->insn[1].bits = x->bits;
		x->len = (u8)len;
	}
	/* Executed right here rather than returned: the run loop would offer the scratch to interrupts in between. */
	c->insn = &x->insn[0];
	return x->insn[0].fn(c, &x->insn[0]);
}

/* ---- life ---- */

int x86_etlb_create(struct x86_cpu *c)
{
	c->etlb = calloc(1, sizeof(*c->etlb));
	c->cross = calloc(X86_CROSS_SIZE, sizeof(*c->cross));
	c->etlb_gen = X86_ETLB_GEN_ONE;
	if (c->etlb && c->cross)
		return 0;
	x86_etlb_destroy(c);
	return -ENOMEM;
}

void x86_etlb_destroy(struct x86_cpu *c)
{
	free(c->etlb);
	free(c->cross);
	c->etlb = NULL;
	c->cross = NULL;
}
