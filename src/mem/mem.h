/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical memory: slots in two address spaces, their dirty bitmaps, and what each host page is (attributes).
 *
 * Knows nothing of CPUs, devices or ioctls. Guest memory is the client's own mapping; it is never locked or copied.
 *
 * Threads. Slot tables are immutable and published behind an epoch: lookups take no lock and may run on any thread
 * that is an online epoch reader or holds mem->lock. Changes take mem->lock (one at a time); the caller must make all vCPUs
 * drop older translations (kvm/: stop_vcpus) after mem_set_region() returned and before it reports success.
 * Attributes are single bytes changed by atomic operations from any thread.
 */
#ifndef AV_MEM_MEM_H
#define AV_MEM_MEM_H

#include "base/base.h"
#include "base/epoch.h"

#define MEM_ADDRESS_SPACES 2 /* 1 is SMM's */
#define MEM_USER_SLOTS	   32764 /* KVM_USER_MEM_SLOTS on x86 */

enum mem_slot_flags {
	MEM_LOG_DIRTY = BIT(0), /* KVM_MEM_LOG_DIRTY_PAGES */
	MEM_READONLY = BIT(1),	/* KVM_MEM_READONLY */
};

/* What a host page is. Kept by host page, so that two slots over the same memory agree. */
enum mem_attr {
	MEM_ATTR_CODE = BIT(0),	   /* holds predecoded or translated code: stores must be seen by the code cache */
	MEM_ATTR_WFILLED = BIT(1), /* some vCPU may hold a write translation for it */
};

struct mem_slot {
	u64 gpa;
	u64 size;
	u64 hva;
	u32 flags; /* mem_slot_flags */
	u16 id;
	u16 as_id;
	/* One bit a page, little-endian longs as KVM reports them; NULL without MEM_LOG_DIRTY. Set atomically, shared by successive versions of the slot. */
	u64 *dirty;
	/* Pages whose writes need not be logged again until the next GET/CLEAR are those whose dirty bit is set. */
};

struct mem;

int mem_create(struct av_epoch *epoch, struct mem **out);
void mem_destroy(struct mem *m);

/*
 * KVM_SET_USER_MEMORY_REGION's semantics: create, move (gpa changes), change flags, delete (size 0).
 * dirty_initially_set: with KVM_DIRTY_LOG_INITIALLY_SET, a new log starts full. Returns
 * 0: done, *changed says whether translations must be dropped. -EINVAL (alignment, wrap, size or hva change, read-only toggle, bad id or
 * address space), -EEXIST (overlap), -ENOMEM.
 */
int mem_set_region(struct mem *m, u16 as_id, u16 id, u32 flags, u64 gpa, u64 size, u64 hva, bool dirty_initially_set, bool *changed);

/* The slot that holds gpa, or NULL. Epoch-protected; constant time for repeated hits, O(log n) otherwise. */
const struct mem_slot *mem_find(struct mem *m, u32 as_id, u64 gpa);
/* The slot by its id (for dirty-log ioctls); NULL if none. Caller holds the lock or an epoch. */
const struct mem_slot *mem_slot_by_id(struct mem *m, u32 as_id, u16 id);
/* The host address of gpa and in *left how many bytes are contiguous there; NULL: no RAM there. Epoch-protected. */
void *mem_host(struct mem *m, u32 as_id, u64 gpa, u64 *left);
/* The other way round, for reports: a guest-physical address that hva is shown at. false: none. Epoch-protected. */
bool mem_gpa(struct mem *m, u32 as_id, u64 hva, u64 *gpa);

/* Marks the page of gpa dirty in its slot's log, if it has one. Any thread. */
static inline void mem_mark_dirty(const struct mem_slot *s, u64 gpa)
{
	u64 page;

	if (!s->dirty)
		return;
	page = (gpa - s->gpa) >> PAGE_SHIFT;
	if (!(READ_ONCE(s->dirty[page / 64]) & BIT64(page % 64)))
		__atomic_fetch_or(&s->dirty[page / 64], BIT64(page % 64), __ATOMIC_SEQ_CST);
}

/*
 * KVM_GET_DIRTY_LOG: copies the log into bitmap (nlongs u64s), and clears it unless keep. *any says whether a bit was set.
 * KVM_CLEAR_DIRTY_LOG: clears the bits given. The caller purges write translations afterwards and before answering:
 * clear first, then purge, so that no write falls between. -ENOENT: no such slot or no log. -EINVAL: bad range.
 */
int mem_dirty_get(struct mem *m, u32 as_id, u16 id, u64 *bitmap, u64 nlongs, bool keep, bool *any);
int mem_dirty_clear(struct mem *m, u32 as_id, u16 id, u64 first_page, u32 num_pages, const u64 *bitmap, bool *any);
/* Pages in the slot's log; 0: no such slot or no log. */
u64 mem_dirty_pages(struct mem *m, u32 as_id, u16 id);

/* The attribute byte of a host page; made on first use (NULL only when out of memory). Lock-free when it exists. */
u8 *mem_attr(struct mem *m, u64 hva);

/* Copies between the library and guest RAM on behalf of devices or a vCPU; marks dirty. 0 or -EFAULT (no RAM, read-only for writes, or not accessible). Epoch-protected. */
int mem_read(struct mem *m, u32 as_id, u64 gpa, void *dst, u64 len);
int mem_write(struct mem *m, u32 as_id, u64 gpa, const void *src, u64 len);

#endif
