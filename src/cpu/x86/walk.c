// SPDX-License-Identifier: MIT
/*
 * The page-table walker for every paging mode, and guest-physical access.
 *
 * Engine file. Knows nothing of TLBs beyond the cache of page-table pages; raises nothing: callers
 * turn errors into faults. Source: SDM vol. 3 "Paging"; APM vol. 2 "Page Translation and
 * Protection".
 */
#include "cpu/x86/mmu_priv.h"
#include "cpu/x86/code.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/simd.h"

#define PTE_P	     BIT64(0)
#define PTE_W	     BIT64(1)
#define PTE_U	     BIT64(2)
#define PTE_A	     BIT64(5)
#define PTE_D	     BIT64(6)
#define PTE_PS	     BIT64(7)
#define PTE_G	     BIT64(8)
#define PTE_NX	     BIT64(63)
#define PTE_PKEY(e)  (((e) >> 59) & 15)
#define PTE_ADDR     0x000ffffffffff000ull
#define PAE_UNUSED   0x7ff0000000000000ull /* bits 62:52, reserved outside long mode */
#define PSE36_SHIFT  13
#define PSE36_MASK   0x1fe000ull /* bits 20:13: physical address 39:32 */
#define PSE_RESERVED 0x200000ull

#define PF_P	BIT(0)
#define PF_W	BIT(1)
#define PF_U	BIT(2)
#define PF_RSVD BIT(3)
#define PF_I	BIT(4)
#define PF_PK	BIT(5)

#define MAX_LEVELS 5

/* An entry that the walk went through. */
struct step {
	u64 gpa;
	u64 value;
	u8 *host;
	u8 *attr;
	bool writable; /* false: in a read-only slot */
};

/* How the tables of the current mode look. */
struct format {
	u8 top;	  /* levels in memory */
	u8 bytes; /* of an entry */
	u8 index_bits;
	u64 root;
	u64 reserved; /* bits that must be 0 in every entry */
};

static struct x86_phys_page *phys_slot(struct x86_cpu *c, u64 gpa, u64 *key)
{
	*key = (gpa & PAGE_MASK) | c->mmu->phys_gen << 1 | c->smm;
	return &c->mmu->phys[(gpa >> PAGE_SHIFT) % X86_PHYS_SIZE];
}

const struct x86_phys_page *x86_phys_page(struct x86_cpu *c, u64 gpa, bool write)
{
	u32 dirtied = c->mmu->purges + 1;
	struct machine_page m;
	u64 key;
	struct x86_phys_page *p = phys_slot(c, gpa, &key);

	if (likely(p->key == key) && (!write || p->dirtied == dirtied || !p->writable))
		return p;
	x86_door(c);
	if (!c->ops->page(c->m, gpa & PAGE_MASK, write ? MACHINE_W : MACHINE_R, c->smm, &m))
		return NULL;
	p->key = key;
	p->host = m.host;
	p->attr = m.attr;
	p->writable = m.writable;
	p->dirtied = write && m.writable ? dirtied : 0;
	return p;
}

/* The entry at gpa was written through a page resolved for reading. */
static void phys_dirty(struct x86_cpu *c, u64 gpa)
{
	u64 key;
	struct x86_phys_page *p = phys_slot(c, gpa, &key);

	if (p->key == key) {
		if (p->dirtied == c->mmu->purges + 1)
			return;
		p->dirtied = c->mmu->purges + 1;
	}
	x86_door(c);
	c->ops->dirty(c->m, gpa, c->smm);
}

static u64 above_maxphyaddr(const struct x86_cpu *c)
{
	return c->maxphyaddr < 52 ? PTE_ADDR & ~(BIT64(c->maxphyaddr) - 1) : 0;
}

/* False: the walk ends above memory, at a PDPTE that is not present. */
static bool format_of(const struct x86_cpu *c, u64 la, struct format *f)
{
	f->bytes = 8;
	f->index_bits = 9;
	f->reserved = above_maxphyaddr(c) | (c->efer & X86_EFER_NXE ? 0 : PTE_NX);
	f->root = c->cr3 & PTE_ADDR;
	if (c->efer & X86_EFER_LMA) {
		f->top = c->cr4 & X86_CR4_LA57 ? 5 : 4;
		return true;
	}
	if (c->cr4 & X86_CR4_PAE) {
		u64 pdpte = c->pdpte[la >> 30 & 3];

		f->top = 2;
		f->root = pdpte & PTE_ADDR;
		f->reserved |= PAE_UNUSED;
		return pdpte & PTE_P;
	}
	f->top = 2;
	f->bytes = 4;
	f->index_bits = 10;
	f->root = c->cr3 & 0xfffff000;
	f->reserved = 0;
	return true;
}

static bool is_leaf(const struct x86_cpu *c, const struct format *f, u8 level, u64 e)
{
	if (level == 1)
		return true;
	if (!(e & PTE_PS) || level > 3)
		return false;
	return f->bytes == 8 || (c->cr4 & X86_CR4_PSE);
}

/* Reserved bits that only entries of this level and kind have. */
static u64 reserved_at(const struct x86_cpu *c, const struct format *f, u8 level, u64 e, bool leaf)
{
	if (level >= 4 || (level == 3 && !c->feat->gbpages))
		return e & PTE_PS;
	if (!leaf || level == 1)
		return 0;
	if (f->bytes == 4) {
		u64 none = PSE36_MASK;

		if (c->feat->pse36)
			none = c->maxphyaddr < 40
				       ? PSE36_MASK & ~((BIT64(MAX(c->maxphyaddr, 32)) - 1) >> 19)
				       : 0;
		return e & (none | PSE_RESERVED);
	}
	/* Address bits below the page's size, but for PAT in bit 12. */
	return e & (BIT64(PAGE_SHIFT + 9 * (level - 1)) - 1) & ~0x1fffull;
}

static u64 leaf_gpa(const struct format *f, u8 level, u64 e, u64 la)
{
	u64 offset = BIT64(PAGE_SHIFT + f->index_bits * (level - 1)) - 1;
	u64 base = e & PTE_ADDR & ~offset;

	if (f->bytes == 4 && level == 2)
		base |= (e & PSE36_MASK) >> PSE36_SHIFT << 32;
	return base | (la & offset);
}

static bool read_entry(struct x86_cpu *c, const struct format *f, struct step *s)
{
	const struct x86_phys_page *p = x86_phys_page(c, s->gpa, false);

	if (unlikely(!p))
		return false;
	s->host = p->host + (s->gpa & ~PAGE_MASK);
	s->attr = p->attr;
	s->writable = p->writable;
	s->value = f->bytes == 8 ? __atomic_load_n((u64 *)s->host, __ATOMIC_RELAXED)
				 : __atomic_load_n((u32 *)s->host, __ATOMIC_RELAXED);
	return true;
}

/* Sets bits in an entry unless it changed since it was read (false). */
static bool update_entry(struct x86_cpu *c, const struct format *f, const struct step *s, u64 bits)
{
	u64 old = s->value;
	u32 old32 = (u32)old;
	bool done;

	/* Tables in ROM: hardware would try and the write would go nowhere. */
	if ((old & bits) == bits || !s->writable)
		return true;
	if (f->bytes == 8)
		done = __atomic_compare_exchange_n((u64 *)s->host, &old, old | bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	else
		done = __atomic_compare_exchange_n((u32 *)s->host, &old32, old32 | (u32)bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	if (!done)
		return false;
	phys_dirty(c, s->gpa);
	/* The exchange was a full barrier: either the decoder saw the new entry or we see its mark.
	 */
	if (unlikely(__atomic_load_n(s->attr, __ATOMIC_SEQ_CST) & MACHINE_ATTR_CODE))
		x86_mmu_code_written(c, s->host, f->bytes);
	return true;
}

static u32 access_error(const struct x86_cpu *c, u32 flags)
{
	u32 error = (flags & X86_WALK_WRITE ? PF_W : 0) | (flags & X86_WALK_USER ? PF_U : 0);

	if ((flags & X86_WALK_EXEC) &&
	    ((c->cr4 & X86_CR4_SMEP) || ((c->cr4 & X86_CR4_PAE) && (c->efer & X86_EFER_NXE))))
		error |= PF_I;
	return error;
}

/* Error bits for a violation of the rights that all levels together give; 0: allowed. */
static u32 rights_error(const struct x86_cpu *c, u32 flags, const struct x86_walk *w)
{
	bool user = flags & X86_WALK_USER, wp = user || (c->cr0 & X86_CR0_WP);

	if (user && !w->user)
		return PF_P;
	if ((flags & X86_WALK_EXEC) && w->nx)
		return PF_P;
	if (!user && w->user) {
		if ((flags & X86_WALK_EXEC) && (c->cr4 & X86_CR4_SMEP))
			return PF_P;
		if (!(flags & X86_WALK_EXEC) && (c->cr4 & X86_CR4_SMAP) &&
		    ((flags & X86_WALK_IMPLICIT) || !(c->rflags & X86_FLAG_AC)))
			return PF_P;
	}
	if ((flags & X86_WALK_WRITE) && !w->writable && wp)
		return PF_P;
	if (w->user && !(flags & X86_WALK_EXEC) && (c->cr4 & X86_CR4_PKE) &&
	    (c->efer & X86_EFER_LMA)) {
		u32 key = c->pkru >> (w->pkey * 2);

		if ((key & 1) || ((key & 2) && (flags & X86_WALK_WRITE) && wp))
			return PF_P | PF_PK;
	}
	return 0;
}

enum outcome { WALK_OK, WALK_FAULT, WALK_AGAIN };

static enum outcome walk_once(struct x86_cpu *c, u64 la, u32 flags, const struct format *f,
			      struct x86_walk *w)
{
	struct step step[MAX_LEVELS];
	u64 table = f->root, rights = PTE_W | PTE_U, nx = 0, e;
	u32 n = 0, error;
	u8 level = f->top;
	bool leaf;

	for (;; level--) {
		struct step *s = &step[n++];

		s->gpa = table + (la >> (PAGE_SHIFT + f->index_bits * (level - 1)) &
				  (BIT64(f->index_bits) - 1)) *
					 f->bytes;
		if (!read_entry(c, f, s))
			return WALK_FAULT;
		e = s->value;
		if (!(e & PTE_P))
			return WALK_FAULT;
		leaf = is_leaf(c, f, level, e);
		if (unlikely((e & f->reserved) || reserved_at(c, f, level, e, leaf))) {
			w->error |= PF_P | PF_RSVD;
			return WALK_FAULT;
		}
		rights &= e;
		nx |= e;
		if (leaf)
			break;
		table = e & PTE_ADDR;
	}
	w->gpa = leaf_gpa(f, level, e, la);
	w->writable = rights & PTE_W;
	w->user = rights & PTE_U;
	w->nx = f->bytes == 8 && (nx & PTE_NX);
	w->global = (e & PTE_G) && (c->cr4 & X86_CR4_PGE);
	w->level = level;
	w->pkey = PTE_PKEY(e);
	w->dirty = e & PTE_D;
	error = rights_error(c, flags, w);
	if (error) {
		w->error |= error;
		return WALK_FAULT;
	}
	if (flags & X86_WALK_NOSET)
		return WALK_OK;
	for (u32 k = 0; k < n; k++) {
		bool dirties = k == n - 1 && (flags & X86_WALK_WRITE);

		if (unlikely(!update_entry(c, f, &step[k], dirties ? PTE_A | PTE_D : PTE_A)))
			return WALK_AGAIN;
		w->dirty |= dirties;
	}
	return WALK_OK;
}

bool x86_walk(struct x86_cpu *c, u64 la, u32 flags, struct x86_walk *w)
{
	struct format f;
	enum outcome o;

	if (!(c->cr0 & X86_CR0_PG)) {
		w->gpa = la & 0xffffffff;
		w->writable = w->user = w->dirty = true;
		w->nx = w->global = false;
		w->level = 1;
		w->pkey = 0;
		w->error = 0;
		return true;
	}
	c->stats[X86_STAT_WALKS]++;
	if (!x86_la_canonical(c, la) || !format_of(c, la, &f)) {
		w->error = access_error(c, flags);
		return false;
	}
	do {
		w->error = access_error(c, flags);
		o = walk_once(c, la, flags, &f, w);
	} while (o == WALK_AGAIN);
	return o == WALK_OK;
}

bool x86_translate(struct x86_cpu *c, u64 la, u64 *gpa, bool *writable, bool *user)
{
	struct x86_walk w;

	/* A refusal for lack of rights (SMAP, protection keys) still says where the page is. */
	if (!x86_walk(c, la, X86_WALK_NOSET, &w) && (w.error & (PF_P | PF_RSVD)) != PF_P)
		return false;
	*gpa = w.gpa;
	*writable = w.writable;
	*user = w.user;
	return true;
}

bool x86_load_pdptes(struct x86_cpu *c, u64 cr3)
{
	/* Below the address only P, PWT and PCD may be set; bits 11:9 are ignored. */
	u64 reserved = 0xfff0000000000000ull | above_maxphyaddr(c) | 0x1e6, pdpte[4];

	if (!x86_phys_read(c, cr3 & 0xffffffe0, pdpte, sizeof(pdpte)))
		return false;
	for (u32 k = 0; k < ARRAY_SIZE(pdpte); k++)
		if ((pdpte[k] & PTE_P) && (pdpte[k] & reserved))
			return false;
	for (u32 k = 0; k < ARRAY_SIZE(pdpte); k++)
		c->pdpte[k] = pdpte[k];
	return true;
}

bool x86_phys_read(struct x86_cpu *c, u64 gpa, void *buf, u32 size)
{
	while (size) {
		u32 off = gpa & ~PAGE_MASK, n = MIN(size, (u32)PAGE_SIZE - off);
		const struct x86_phys_page *p = x86_phys_page(c, gpa, false);

		if (!p)
			return false;
		x86_copy(buf, p->host + off, n);
		buf = (u8 *)buf + n;
		gpa += n;
		size -= n;
	}
	return true;
}

bool x86_phys_write(struct x86_cpu *c, u64 gpa, const void *buf, u32 size)
{
	while (size) {
		u32 off = gpa & ~PAGE_MASK, n = MIN(size, (u32)PAGE_SIZE - off);
		const struct x86_phys_page *p = x86_phys_page(c, gpa, true);

		if (!p || !p->writable)
			return false;
		x86_copy(p->host + off, buf, n);
		/* Not entered into a write table, so the mark is looked at after the store. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(p->attr, __ATOMIC_RELAXED) & MACHINE_ATTR_CODE)
			x86_mmu_code_written(c, p->host + off, n);
		buf = (const u8 *)buf + n;
		gpa += n;
		size -= n;
	}
	return true;
}
