// SPDX-License-Identifier: MIT
/*
 * The software TLB: its tables, fills, flushes, and the slow paths of all accesses to linear
 * memory.
 *
 * Engine file. Knows page tables only as x86_walk()'s answer and devices only as io.c. What an
 * instruction does with the bytes is not known here.
 *
 * An empty entry is one whose tag differs from every address that selects it in bit 12 or above.
 * Zeroed memory is such an entry everywhere but at index 0, so tables come from the CPU's mapping untouched.
 */
#include "cpu/x86/mmu_priv.h"
#include "cpu/x86/code.h"
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/tb.h"

/* Whose access it is: chooses table, error code and SMAP's rule. */
struct access {
	u8 set;	    /* enum x86_tlb_set */
	u8 seg;	    /* for #GP or #SS */
	u32 walk;   /* X86_WALK_* */
	bool wraps; /* linear addresses have 32 bits */
};

struct trouble {
	u8 vector;
	u64 la;
	u32 error;
};

typedef u16 __attribute__((may_alias, aligned(1))) u16_any;
typedef u32 __attribute__((may_alias, aligned(1))) u32_any;
typedef u64 __attribute__((may_alias, aligned(1))) u64_any;

/* Guest memory to and from a buffer. Sizes that the guest may rely on to be atomic move in one
 * piece. */
static void ram_move(void *dst, const void *src, u32 size)
{
	switch (size) {
	case 1:
		*(volatile u8 *)dst = *(const volatile u8 *)src;
		break;
	case 2:
		*(volatile u16_any *)dst = *(const volatile u16_any *)src;
		break;
	case 4:
		*(volatile u32_any *)dst = *(const volatile u32_any *)src;
		break;
	case 8:
		*(volatile u64_any *)dst = *(const volatile u64_any *)src;
		break;
	default:
		x86_copy(dst, src, size);
	}
}

/* ---- tables ---- */

static void entry_clear(struct x86_tlb_entry *table, u32 index)
{
	table[index].tag = index ? 0 : PAGE_SIZE;
}

static void windows_clear(struct x86_mmu *mmu)
{
	for (u32 s = 0; s < X86_NR_SETS; s++)
		mmu->window[s] = (struct x86_window){.tag = X86_WINDOW_EMPTY};
}

static void table_clear(struct x86_mmu *mmu, u32 t)
{
	x86_fill(mmu->table[t], 0, sizeof(mmu->table[t]));
	entry_clear(mmu->table[t], 0);
	mmu->log[0][t].count = mmu->log[1][t].count = 0;
}

static void log_clear(struct x86_mmu *mmu, u32 t, bool global)
{
	struct x86_fill_log *log = &mmu->log[global][t];

	mmu->window[t / 2].tag = X86_WINDOW_EMPTY;
	if (log->count > X86_LOG_SIZE) {
		table_clear(mmu, t);
		return;
	}
	for (u32 k = 0; k < log->count; k++)
		entry_clear(mmu->table[t], log->index[k]);
	log->count = 0;
}

static void tlb_fill(struct x86_mmu *mmu, u32 t, u64 la, u8 *host, bool global)
{
	u32 index = (la >> PAGE_SHIFT) & (X86_TLB_SIZE - 1);
	struct x86_fill_log *log = &mmu->log[global][t];
	struct x86_tlb_entry *e = &mmu->table[t][index];

	e->tag = la & PAGE_MASK;
	e->host = (u64)host;
	if (likely(log->count < X86_LOG_SIZE))
		log->index[log->count++] = (u16)index;
	else
		log->count = X86_LOG_SIZE + 1;
}

#define LARGE_SHIFT 22
#define HUGE_SHIFT  30

static void bits_set(u64 *bits, u32 words, u64 n)
{
	bits[n / 64 % words] |= BIT64(n % 64);
}

static bool bits_test(const u64 *bits, u32 words, u64 n)
{
	return bits[n / 64 % words] & BIT64(n % 64);
}

static void large_note(struct x86_mmu *mmu, u64 la, const struct x86_walk *w)
{
	struct x86_large_log *l = &mmu->large[w->global];

	if (w->level == 2)
		bits_set(l->small, ARRAY_SIZE(l->small), la >> LARGE_SHIFT);
	else if (w->level == 3)
		bits_set(l->huge, ARRAY_SIZE(l->huge), la >> HUGE_SHIFT);
}

/* ---- flushes ---- */

void x86_tlb_flush_all(struct x86_cpu *c)
{
	struct x86_mmu *mmu = c->mmu;

	for (u32 t = 0; t < X86_NR_TABLES; t++) {
		log_clear(mmu, t, false);
		log_clear(mmu, t, true);
	}
	x86_fill(mmu->large, 0, sizeof(mmu->large));
	if (mmu->phys_gen++ == X86_PHYS_GEN_MAX) {
		x86_fill(mmu->phys, 0, sizeof(mmu->phys));
		mmu->phys_gen = 1;
	}
	x86_etlb_flush(c);
	c->stats[X86_STAT_TLB_FLUSHES]++;
}

void x86_tlb_flush_nonglobal(struct x86_cpu *c)
{
	struct x86_mmu *mmu = c->mmu;

	for (u32 t = 0; t < X86_NR_TABLES; t++)
		log_clear(mmu, t, false);
	x86_fill(&mmu->large[0], 0, sizeof(mmu->large[0]));
	x86_etlb_flush_nonglobal(c);
	c->stats[X86_STAT_TLB_FLUSHES]++;
}

/* Drops the entries of the 4 MiB around la, which hold all that one large page may have been cut
 * into. */
static void region_clear(struct x86_mmu *mmu, u64 la)
{
	u32 first = (la >> PAGE_SHIFT) & (X86_TLB_SIZE - 1) & ~1023u;

	for (u32 t = 0; t < X86_NR_TABLES; t++)
		for (u32 i = first; i < first + 1024; i++)
			if (!((mmu->table[t][i].tag ^ la) >> LARGE_SHIFT))
				entry_clear(mmu->table[t], i);
}

void x86_tlb_flush_page(struct x86_cpu *c, u64 la)
{
	struct x86_mmu *mmu = c->mmu;
	u32 index = (la >> PAGE_SHIFT) & (X86_TLB_SIZE - 1);
	bool large = false;

	windows_clear(mmu);
	for (u32 g = 0; g < 2; g++) {
		const struct x86_large_log *l = &mmu->large[g];

		if (bits_test(l->huge, ARRAY_SIZE(l->huge), la >> HUGE_SHIFT)) {
			x86_tlb_flush_all(c);
			return;
		}
		large |= bits_test(l->small, ARRAY_SIZE(l->small), la >> LARGE_SHIFT);
	}
	if (large) {
		region_clear(mmu, la);
		x86_etlb_flush_region(c, la);
		return;
	}
	for (u32 t = 0; t < X86_NR_TABLES; t++)
		if ((mmu->table[t][index].tag ^ la) < PAGE_SIZE)
			entry_clear(mmu->table[t], index);
	x86_etlb_flush_page(c, la);
}

void x86_tlb_purge_writes(struct x86_cpu *c)
{
	c->mmu->purges++;
	for (u32 t = 1; t < X86_NR_TABLES; t += 2) {
		log_clear(c->mmu, t, false);
		log_clear(c->mmu, t, true);
	}
}

void x86_tlb_flush_user(struct x86_cpu *c)
{
	static const u8 tables[] = {X86_SET_USER * 2, X86_SET_USER * 2 + 1, X86_SET_ACCESS * 2,
				    X86_SET_ACCESS * 2 + 1};

	for (u32 k = 0; k < ARRAY_SIZE(tables); k++) {
		log_clear(c->mmu, tables[k], false);
		log_clear(c->mmu, tables[k], true);
	}
}

static u8 supervisor_set(const struct x86_cpu *c)
{
	return c->cr4 & X86_CR4_SMAP ? X86_SET_KERNEL : X86_SET_ACCESS;
}

void x86_mmu_select(struct x86_cpu *c)
{
	struct x86_mmu *mmu = c->mmu;
	bool ac = c->rflags & X86_FLAG_AC;

	mmu->set = c->cpl == 3 ? X86_SET_USER : ac ? X86_SET_ACCESS : supervisor_set(c);
	mmu->aligned = x86_aligned(c);
	mmu->watched = x86_watching(c);
	mmu->looked_at = mmu->aligned || mmu->watched;
	c->rtlb = mmu->looked_at ? mmu->none : mmu->table[mmu->set * 2];
	c->wtlb = mmu->looked_at ? mmu->none : mmu->table[mmu->set * 2 + 1];
	c->jc = (struct x86_jc_entry *)((u8 *)c +
					X86_GS_JC(mmu->looked_at ? X86_NR_SETS : mmu->set));
}

void x86_mmu_create(struct x86_cpu *c)
{
	struct x86_mmu *mmu = (struct x86_mmu *)((u8 *)c + X86_GS_MMU);

	for (u32 t = 0; t < X86_NR_TABLES; t++)
		entry_clear(mmu->table[t], 0);
	entry_clear(mmu->none, 0);
	windows_clear(mmu);
	mmu->phys_gen = 1;
	c->mmu = mmu;
	x86_mmu_select(c);
}

/* ---- translation ---- */

static void __noreturn trouble_raise(struct x86_cpu *c, const struct trouble *t)
{
	if (t->vector == X86_PF)
		x86_raise_pf(c, t->la, t->error);
	x86_raise_err(c, t->vector, 0);
}

/* Finds where [la, la+len), which lies in one page, is; enters it into the TLB if that is allowed.
 */
static bool part_find(struct x86_cpu *c, const struct access *a, u64 la, u32 len,
		      struct x86_part *p, struct trouble *t)
{
	bool write = a->walk & X86_WALK_WRITE;
	struct x86_mmu *mmu = c->mmu;
	u32 off = la & ~PAGE_MASK;
	const struct x86_phys_page *m;
	struct x86_walk w;

	p->len = len;
	p->mmio = p->code = false;
	p->host = x86_tlb_hit(mmu->table[a->set * 2 + write], la, 1);
	if (p->host)
		return true;
	if (unlikely(!x86_la_canonical(c, la))) {
		t->vector = a->seg == X86_SS ? X86_SS_FAULT : X86_GP;
		return false;
	}
	if (!x86_walk(c, la, a->walk, &w)) {
		t->vector = X86_PF;
		t->la = la;
		t->error = w.error;
		return false;
	}
	p->gpa = w.gpa;
	m = x86_phys_page(c, w.gpa, write);
	if (!m) {
		p->mmio = true;
		return true;
	}
	p->host = m->host + off;
	if (write && !m->writable) {
		p->mmio = true;
		return true;
	}
	/*
	 * Against a decoder on another CPU: it marks CODE and purges if it finds WFILLED. One of
	 * the two sees the other's mark, as both are set in the same byte by atomic operations that
	 * return the old value.
	 */
	if (write && (__atomic_fetch_or(m->attr, MACHINE_ATTR_WFILLED, __ATOMIC_SEQ_CST) &
		      MACHINE_ATTR_CODE)) {
		p->code = true;
		return true;
	}
	large_note(mmu, la, &w);
	tlb_fill(mmu, a->set * 2, la, m->host, w.global);
	/* Who may write may read. */
	if (write)
		tlb_fill(mmu, a->set * 2 + 1, la, m->host, w.global);
	c->stats[X86_STAT_TLB_FILLS]++;
	return true;
}

/* All parts are found before anything is moved. size is at most a page. Returns how many there are,
 * 0: trouble. */
static u32 parts_find(struct x86_cpu *c, const struct access *a, u64 la, u32 size,
		      struct x86_part *p, struct trouble *t)
{
	u32 first = MIN(size, (u32)(PAGE_SIZE - (la & ~PAGE_MASK)));
	u64 next = la + first;

	if (!part_find(c, a, la, first, p, t))
		return 0;
	if (first == size)
		return 1;
	if (a->wraps)
		next = (u32)next;
	return part_find(c, a, next, size - first, p + 1, t) ? 2 : 0;
}

static u32 parts_get(struct x86_cpu *c, const struct access *a, u64 la, u32 size,
		     struct x86_part *p)
{
	struct trouble t;
	u32 n = parts_find(c, a, la, size, p, &t);

	if (unlikely(!n))
		trouble_raise(c, &t);
	return n;
}

static void parts_read(struct x86_cpu *c, const struct x86_part *p, u32 n, void *buf)
{
	for (u32 k = 0; k < n; k++) {
		if (unlikely(!p[k].host))
			x86_mmio_read(c, p[k].gpa, buf, p[k].len);
		else
			ram_move(buf, p[k].host, p[k].len);
		buf = (u8 *)buf + p[k].len;
	}
}

/* The host may refuse the second page: it is asked before the first one is changed. */
static void parts_touch(const struct x86_part *p, u32 n)
{
	for (u32 k = 0; k < n; k++)
		if (!p[k].mmio)
			__atomic_fetch_or(p[k].host, 0, __ATOMIC_RELAXED);
}

static void parts_write(struct x86_cpu *c, const struct x86_part *p, u32 n, const void *buf)
{
	if (n > 1)
		parts_touch(p, n);
	for (u32 k = 0; k < n; k++) {
		if (unlikely(p[k].mmio)) {
			x86_mmio_write(c, p[k].gpa, buf, p[k].len);
		} else {
			ram_move(p[k].host, buf, p[k].len);
			if (unlikely(p[k].code))
				x86_mmu_code_written(c, p[k].host, p[k].len);
		}
		buf = (const u8 *)buf + p[k].len;
	}
}

void x86_mmu_code_written(struct x86_cpu *c, u8 *host, u32 len)
{
	x86_door(c);
	if (x86_code_written(c, host, len))
		x86_break(c);
}

/* ---- accessors ---- */

static struct access own_access(const struct x86_cpu *c, u8 seg, bool write)
{
	return (struct access){
		.set = c->mmu->set,
		.seg = seg,
		.walk = (c->cpl == 3 ? X86_WALK_USER : 0) | (write ? X86_WALK_WRITE : 0),
		.wraps = c->code_size != 8,
	};
}

static struct access system_access(const struct x86_cpu *c, bool write)
{
	return (struct access){
		.set = supervisor_set(c),
		.seg = X86_DS,
		.walk = X86_WALK_IMPLICIT | (write ? X86_WALK_WRITE : 0),
		.wraps = !(c->efer & X86_EFER_LMA),
	};
}

/*
 * Comes before page faults, but after what is no address at all. Operands have the alignment of
 * their size, up to 16 bytes; x87 registers of 10 bytes that of 8.
 */
static void check_alignment(struct x86_cpu *c, u64 la, u32 size)
{
	u32 align = size == 10 ? 8 : size & (size - 1) ? 1 : MIN(size, 16u);

	if (unlikely(c->mmu->aligned) && (la & (align - 1)) && x86_la_canonical(c, la))
		x86_raise_err(c, X86_AC, 0);
}

static void watch(struct x86_cpu *c, u64 la, u32 size, bool write)
{
	if (unlikely(c->mmu->watched))
		x86_watch(c, la, size, write);
}

void x86_read_slow(struct x86_cpu *c, u8 seg, u64 la, void *buf, u32 size)
{
	struct access a = own_access(c, seg, false);
	struct x86_part p[2];
	u32 n;

	c->stats[X86_STAT_SLOW_ACCESSES]++;
	check_alignment(c, la, size);
	n = parts_get(c, &a, la, size, p);
	watch(c, la, size, false);
	parts_read(c, p, n, buf);
}

void x86_write_slow(struct x86_cpu *c, u8 seg, u64 la, const void *buf, u32 size)
{
	struct access a = own_access(c, seg, true);
	struct x86_part p[2];
	u32 n;

	c->stats[X86_STAT_SLOW_ACCESSES]++;
	check_alignment(c, la, size);
	n = parts_get(c, &a, la, size, p);
	watch(c, la, size, true);
	parts_write(c, p, n, buf);
}

void x86_probe(struct x86_cpu *c, u8 seg, u64 la, u32 size, bool write)
{
	struct access a = own_access(c, seg, write);
	struct x86_part p[2];

	check_alignment(c, la, size);
	parts_get(c, &a, la, size, p);
}

void x86_sys_read(struct x86_cpu *c, u64 la, void *buf, u32 size)
{
	struct access a = system_access(c, false);
	struct x86_part p[2];
	u32 n = parts_get(c, &a, la, size, p);

	watch(c, la, size, false);
	parts_read(c, p, n, buf);
}

void x86_sys_write(struct x86_cpu *c, u64 la, const void *buf, u32 size)
{
	struct access a = system_access(c, true);
	struct x86_part p[2];
	u32 n = parts_get(c, &a, la, size, p);

	watch(c, la, size, true);
	parts_write(c, p, n, buf);
}

/* ---- read-modify-write ---- */

/* Two pages of plain memory that are neighbours on the host too: one host instruction reaches both, and a LOCK holds over them. */
static bool neighbours(const struct x86_rmw *w)
{
	const struct x86_part *p = w->part;

	return w->nparts == 2 && !p[0].mmio && !p[1].mmio && !p[0].code && !p[1].code && p[0].host + p[0].len == p[1].host;
}

static void world_resume(struct x86_cpu *c)
{
	x86_door(c);
	c->undo.world_stopped = false;
	c->ops->world_resume(c->m);
}

/*
 * Two pages and LOCK: nobody else may execute between the read and the write. While this CPU waits
 * for the others it may serve a flush of its own, so the parts are looked up again. False: not
 * plain memory after all, the world runs.
 */
static bool lock_parts(struct x86_cpu *c, const struct access *a, struct x86_rmw *w)
{
	struct trouble t;
	u32 n;

	x86_door(c);
	c->ops->world_stop(c->m, x86_serve_requests, c);
	c->undo.world_stopped = true;
	n = parts_find(c, a, w->la, w->size, w->part, &t);
	if (n && !w->part[0].mmio && !w->part[1].mmio)
		return true;
	world_resume(c);
	if (!n)
		trouble_raise(c, &t);
	return false;
}

void *x86_rmw_slow(struct x86_cpu *c, struct x86_rmw *w, bool locked)
{
	struct access a = own_access(c, w->seg, true);

	c->stats[X86_STAT_SLOW_ACCESSES]++;
	w->world_stopped = false;
	check_alignment(c, w->la, w->size);
	w->nparts = (u8)parts_get(c, &a, w->la, w->size, w->part);
	watch(c, w->la, w->size, true);
	if (w->nparts == 1 && !w->part[0].mmio) {
		/* In a page with code it is done in place as well, but somebody must hear of it. */
		w->bounced = w->part[0].code;
		return w->part[0].host;
	}
	if (neighbours(w)) {
		w->bounced = false;
		return w->part[0].host;
	}
	if (locked && w->nparts == 2 && !w->part[0].mmio && !w->part[1].mmio)
		w->world_stopped = lock_parts(c, &a, w);
	w->bounced = true;
	parts_read(c, w->part, w->nparts, w->buf);
	return w->buf;
}

void x86_rmw_finish(struct x86_cpu *c, struct x86_rmw *w)
{
	if (w->nparts == 1 && w->part[0].code) {
		x86_mmu_code_written(c, w->part[0].host, w->size);
		return;
	}
	parts_write(c, w->part, w->nparts, w->buf);
	if (w->world_stopped)
		world_resume(c);
}

/* ---- spans ---- */

static void *span(struct x86_cpu *c, u8 seg, u64 la, bool write, u32 *bytes, bool *code)
{
	struct access a = own_access(c, seg, write);
	struct x86_part p;
	struct trouble t;

	*code = false;
	/* Each access is to be looked at: the accessors do. */
	if (unlikely(c->mmu->looked_at))
		return NULL;
	if (unlikely(!part_find(c, &a, la, 1, &p, &t)))
		trouble_raise(c, &t);
	*bytes = (u32)(PAGE_SIZE - (la & ~PAGE_MASK));
	*code = p.code;
	return p.mmio ? NULL : p.host;
}

void *x86_span(struct x86_cpu *c, u8 seg, u64 la, bool write, u32 *bytes)
{
	bool code;
	void *host = span(c, seg, la, write, bytes, &code);

	return code ? NULL : host;
}

void *x86_span_store(struct x86_cpu *c, u8 seg, u64 la, u32 *bytes, bool *code)
{
	return span(c, seg, la, true, bytes, code);
}

void x86_span_stored(struct x86_cpu *c, u8 *host, u32 bytes)
{
	x86_mmu_code_written(c, host, bytes);
}

/* ---- instruction fetch ---- */

u8 *x86_fetch_page(struct x86_cpu *c, u64 la, u8 **attr)
{
	const struct x86_phys_page *p;
	struct x86_walk w;

	if (unlikely(!x86_la_canonical(c, la)))
		x86_gp(c, 0);
	if (!x86_walk(c, la, X86_WALK_EXEC | (c->cpl == 3 ? X86_WALK_USER : 0), &w))
		x86_raise_pf(c, la, w.error);
	large_note(c->mmu, la, &w);
	c->mmu->fetch_global = w.global;
	p = x86_phys_page(c, w.gpa, false);
	if (!p)
		return NULL;
	*attr = p->attr;
	return p->host;
}
