// SPDX-License-Identifier: MIT
/*
 * Memory slots: KVM_SET_USER_MEMORY_REGION's rules, the published tables, lookups, copies.
 *
 * Knows nothing of translations; says only whether there may be old ones. Source:
 * Documentation/virt/kvm/api.rst.
 */
#include "mem/mem_priv.h"
#include "base/guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PAGES (BIT64(31) - 1)
#define MAX_GPA	  BIT64(52)
/* The end of user space with 4-level paging, as access_ok() has it. */
#define USER_END    (BIT64(47) - PAGE_SIZE)
#define VALID_FLAGS (MEM_LOG_DIRTY | MEM_READONLY)

static void free_table(struct av_epoch_item *item)
{
	free(container_of(item, struct mem_table, item));
}

int mem_create(struct av_epoch *epoch, struct mem **out)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->epoch = epoch;
	pthread_mutex_init(&m->lock, NULL);
	for (u32 as = 0; as < MEM_ADDRESS_SPACES; as++) {
		m->table[as] = calloc(1, sizeof(*m->table[as]));
		if (!m->table[as])
			goto fail;
		m->table[as]->item.free = free_table;
	}
	if (mem_attrs_init(&m->attrs))
		goto fail;
	*out = m;
	return 0;

fail:
	mem_destroy(m);
	return -ENOMEM;
}

static void put_dirty(struct mem_dirty *d)
{
	if (d && !__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL))
		free(d);
}

static void free_version(struct av_epoch_item *item)
{
	struct mem_version *v = container_of(item, struct mem_version, item);

	put_dirty(v->dirty);
	free(v);
}

void mem_destroy(struct mem *m)
{
	if (!m)
		return;
	for (u32 as = 0; as < MEM_ADDRESS_SPACES; as++) {
		struct mem_table *t = m->table[as];

		for (u32 i = 0; t && i < t->n; i++)
			free_version((struct av_epoch_item *)&t->slot[i]->item);
		free(t);
	}
	mem_attrs_destroy(&m->attrs);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

u8 *mem_attr(struct mem *m, u64 hva)
{
	return mem_attrs_get(&m->attrs, hva);
}

/*
 * ---- Lookups ----
 */

static bool holds(const struct mem_slot *s, u64 gpa)
{
	return gpa - s->gpa < s->size;
}

/* The number of slots that begin at or below gpa. */
static u32 upper_bound(const struct mem_table *t, u64 gpa)
{
	u32 low = 0, high = t->n, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (t->slot[mid]->s.gpa <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct mem_slot *mem_find(struct mem *m, u32 as_id, u64 gpa)
{
	struct mem_table *t;
	u32 *hint, i;

	if (as_id >= MEM_ADDRESS_SPACES)
		return NULL;
	t = LOAD_ACQUIRE(m->table[as_id]);
	hint = &t->hint[gpa >> MEM_HINT_SHIFT & (MEM_HINTS - 1)];
	i = READ_ONCE(*hint);
	if (likely(i < t->n) && likely(holds(&t->slot[i]->s, gpa)))
		return &t->slot[i]->s;
	i = upper_bound(t, gpa);
	if (!i || !holds(&t->slot[i - 1]->s, gpa))
		return NULL;
	WRITE_ONCE(*hint, i - 1);
	return &t->slot[i - 1]->s;
}

static struct mem_version *version_by_id(struct mem *m, u32 as_id, u16 id)
{
	if (as_id >= MEM_ADDRESS_SPACES || id >= MEM_USER_SLOTS)
		return NULL;
	return LOAD_ACQUIRE(m->by_id[as_id][id]);
}

const struct mem_slot *mem_slot_by_id(struct mem *m, u32 as_id, u16 id)
{
	const struct mem_version *v = version_by_id(m, as_id, id);

	return v ? &v->s : NULL;
}

void *mem_host(struct mem *m, u32 as_id, u64 gpa, u64 *left)
{
	const struct mem_slot *s = mem_find(m, as_id, gpa);

	if (!s)
		return NULL;
	if (left)
		*left = s->size - (gpa - s->gpa);
	return (void *)(s->hva + (gpa - s->gpa));
}

bool mem_gpa(struct mem *m, u32 as_id, u64 hva, u64 *gpa)
{
	const struct mem_table *t;

	if (as_id >= MEM_ADDRESS_SPACES)
		return false;
	t = LOAD_ACQUIRE(m->table[as_id]);
	for (u32 i = 0; i < t->n; i++) {
		const struct mem_slot *s = &t->slot[i]->s;

		if (hva - s->hva < s->size) {
			*gpa = s->gpa + (hva - s->hva);
			return true;
		}
	}
	return false;
}

/*
 * ---- Copies ----
 */

/* Is all of [gpa, gpa+len) RAM, and writable if it must be? */
static bool covered(struct mem *m, u32 as_id, u64 gpa, u64 len, bool write)
{
	const struct mem_slot *s;
	u64 part;

	for (; len; len -= part, gpa += part) {
		s = mem_find(m, as_id, gpa);
		if (!s || (write && s->flags & MEM_READONLY))
			return false;
		part = MIN(len, s->size - (gpa - s->gpa));
	}
	return true;
}

int mem_read(struct mem *m, u32 as_id, u64 gpa, void *dst, u64 len)
{
	u64 part, left;
	void *host;

	for (; len; len -= part, gpa += part, dst = (u8 *)dst + part) {
		host = mem_host(m, as_id, gpa, &left);
		if (!host)
			return -EFAULT;
		part = MIN(len, left);
		if (av_guard_copy(dst, host, part))
			return -EFAULT;
	}
	return 0;
}

int mem_write(struct mem *m, u32 as_id, u64 gpa, const void *src, u64 len)
{
	const struct mem_slot *s;
	u64 part;

	/* Nothing is written unless everything can be. */
	if (!covered(m, as_id, gpa, len, true))
		return -EFAULT;
	for (; len; len -= part, gpa += part, src = (const u8 *)src + part) {
		s = mem_find(m, as_id, gpa);
		if (!s)
			return -EFAULT;
		part = MIN(len, PAGE_SIZE - (gpa & ~PAGE_MASK));
		if (av_guard_copy((void *)(s->hva + (gpa - s->gpa)), src, part))
			return -EFAULT;
		/* After the bytes: whoever takes the bit away sees them. */
		mem_mark_dirty(s, gpa);
	}
	return 0;
}

/*
 * ---- Changes ----
 */

static bool valid(u16 as_id, u16 id, u32 flags, u64 gpa, u64 size, u64 hva)
{
	return !(flags & ~VALID_FLAGS) && !((size | gpa | hva) & ~PAGE_MASK) && size <= USER_END &&
	       hva <= USER_END - size && as_id < MEM_ADDRESS_SPACES && id < MEM_USER_SLOTS &&
	       gpa + size >= gpa && size >> PAGE_SHIFT <= MAX_PAGES;
}

/* Does another slot than `except` overlap [gpa, gpa+size)? */
static bool overlaps(const struct mem_table *t, const struct mem_version *except, u64 gpa, u64 size)
{
	u32 i = upper_bound(t, gpa + size - 1);

	/* Slots are disjoint, so only the last two that begin before our end can reach into us. */
	for (u32 n = 0; i-- && n < 2; n++) {
		const struct mem_version *v = t->slot[i];

		if (v != except)
			return v->s.gpa + v->s.size > gpa;
	}
	return false;
}

static struct mem_dirty *new_dirty(u64 pages, bool full)
{
	u64 words = (pages + 63) / 64;
	struct mem_dirty *d = calloc(1, sizeof(*d) + words * sizeof(u64));

	if (!d)
		return NULL;
	d->refs = 1;
	if (full) {
		memset(d->bits, 0xff, words * sizeof(u64));
		if (pages % 64)
			d->bits[words - 1] = BIT64(pages % 64) - 1;
	}
	return d;
}

static struct mem_version *new_version(const struct mem_version *old, const struct mem_slot *s,
				       bool full)
{
	struct mem_version *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->item.free = free_version;
	v->s = *s;
	if (s->flags & MEM_LOG_DIRTY) {
		if (old && old->dirty) {
			v->dirty = old->dirty;
			__atomic_fetch_add(&v->dirty->refs, 1, __ATOMIC_RELAXED);
		} else {
			v->dirty = new_dirty(s->size >> PAGE_SHIFT, full);
			if (!v->dirty) {
				free(v);
				return NULL;
			}
		}
		v->s.dirty = v->dirty->bits;
	}
	return v;
}

/* A copy of t without `out` and with `in` at its place; either may be NULL. */
static struct mem_table *new_table(const struct mem_table *t, const struct mem_version *out,
				   const struct mem_version *in)
{
	u32 n = t->n - !!out + !!in, from = 0, to = 0;
	struct mem_table *copy = malloc(sizeof(*copy) + n * sizeof(copy->slot[0]));

	if (!copy)
		return NULL;
	memset(copy, 0, sizeof(*copy));
	copy->item.free = free_table;
	copy->n = n;
	while (to < n) {
		if (from < t->n && t->slot[from] == out)
			from++;
		else if (in && (from == t->n || t->slot[from]->s.gpa > in->s.gpa)) {
			copy->slot[to++] = in;
			in = NULL;
		} else {
			copy->slot[to++] = t->slot[from++];
		}
	}
	return copy;
}

/* Publishes `in` in place of `out`. 0 or -ENOMEM. */
static int swap(struct mem *m, u16 as_id, u16 id, struct mem_version *out, struct mem_version *in)
{
	struct mem_table *old = m->table[as_id], *t = new_table(old, out, in);

	if (!t)
		return -ENOMEM;
	STORE_RELEASE(m->table[as_id], t);
	STORE_RELEASE(m->by_id[as_id][id], in);
	av_epoch_retire(m->epoch, &old->item);
	if (out)
		av_epoch_retire(m->epoch, &out->item);
	return 0;
}

static int set_region(struct mem *m, u16 as_id, u16 id, const struct mem_slot *s, bool full,
		      bool *changed)
{
	struct mem_version *old = version_by_id(m, as_id, id), *v;
	bool move = old && s->gpa != old->s.gpa;
	int ret;

	if (!s->size) {
		if (!old)
			return -EINVAL;
		*changed = true;
		return swap(m, as_id, id, old, NULL);
	}
	if (old && (s->hva != old->s.hva || s->size != old->s.size ||
		    (s->flags ^ old->s.flags) & MEM_READONLY))
		return -EINVAL;
	if (old && !move && s->flags == old->s.flags)
		return 0;
	if (!old || move) {
		if (overlaps(m->table[as_id], old, s->gpa, s->size))
			return -EEXIST;
		if (s->gpa + s->size > MAX_GPA)
			return -EINVAL;
		ret = mem_attrs_populate(&m->attrs, s->hva, s->size);
		if (ret)
			return ret;
	}
	v = new_version(old, s, full);
	if (!v)
		return -ENOMEM;
	ret = swap(m, as_id, id, old, v);
	if (ret) {
		free_version(&v->item);
		return ret;
	}
	/* Nothing can be translated by a slot that was not there, nor is wrong because it is no
	 * longer logged. */
	*changed = move || (old && s->flags & MEM_LOG_DIRTY);
	return 0;
}

int mem_set_region(struct mem *m, u16 as_id, u16 id, u32 flags, u64 gpa, u64 size, u64 hva,
		   bool dirty_initially_set, bool *changed)
{
	struct mem_slot s = {
		.gpa = gpa,
		.size = size,
		.hva = hva,
		.flags = flags,
		.id = id,
		.as_id = as_id,
	};
	int ret;

	*changed = false;
	if (!valid(as_id, id, flags, gpa, size, hva))
		return -EINVAL;
	pthread_mutex_lock(&m->lock);
	ret = set_region(m, as_id, id, &s, dirty_initially_set, changed);
	pthread_mutex_unlock(&m->lock);
	if (ret)
		*changed = false;
	return ret;
}
