/* SPDX-License-Identifier: MIT */
/*
 * The inside of mem/: slot tables, slot versions and the attribute tree.
 *
 * What is published (tables, slot versions, their dirty logs) never changes but for the bits of a
 * dirty log; it is replaced as a whole and freed through the epoch.
 */
#ifndef AV_MEM_MEM_PRIV_H
#define AV_MEM_MEM_PRIV_H

#include "mem/mem.h"

#include <pthread.h>

/* A host page number is split 14 + 13 + 18: 45 bits, which with the page offset is a 57-bit
 * address. */
#define ATTR_LEAF_BITS 18
#define ATTR_MID_BITS  13
#define ATTR_ROOT_BITS 14

struct mem_attrs {
	u8 ***root; /* [root][mid] -> leaf; each level's pointers are set once by compare-exchange
		     */
};

/* A dirty log, shared by the versions of a slot. */
struct mem_dirty {
	u32 refs; /* atomic */
	u64 bits[];
};

struct mem_version {
	struct av_epoch_item item;
	struct mem_slot s;
	struct mem_dirty *dirty; /* s.dirty's owner; a reference is held */
};

/* Where a lookup in the 2 MiB region (modulo the number of hints) ended last time. */
#define MEM_HINTS      64
#define MEM_HINT_SHIFT 21

struct mem_table {
	struct av_epoch_item item;
	u32 n;
	u32 hint[MEM_HINTS];		  /* atomic; only ever a guess */
	const struct mem_version *slot[]; /* by gpa */
};

struct mem {
	struct av_epoch *epoch;
	pthread_mutex_t lock; /* changes */
	struct mem_table *table[MEM_ADDRESS_SPACES];
	struct mem_version *by_id[MEM_ADDRESS_SPACES][MEM_USER_SLOTS]; /* atomic */
	struct mem_attrs attrs;
};

/* attr.c */
int mem_attrs_init(struct mem_attrs *a);
void mem_attrs_destroy(struct mem_attrs *a);
/* Makes the bytes of [hva, hva+size) so that using them later needs no memory. -ENOMEM. */
int mem_attrs_populate(struct mem_attrs *a, u64 hva, u64 size);
u8 *mem_attrs_get(struct mem_attrs *a, u64 hva);

#endif
