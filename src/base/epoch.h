/* SPDX-License-Identifier: MIT */
/*
 * Deferred free: readers announce quiet moments instead of taking locks.
 *
 * A domain belongs to one VM. Each vCPU is a reader: online while it may hold pointers to published data,
 * offline otherwise. Retired memory is released when every reader that was online at that time has since been
 * quiet or gone offline. A reader's functions belong to its own thread; retire() and reclaim() may be
 * called by any thread.
 */
#ifndef AV_BASE_EPOCH_H
#define AV_BASE_EPOCH_H

#include "base/base.h"

#include <pthread.h>

struct av_epoch_reader {
	u64 seen; /* last global epoch observed; 0 while offline. Written by the owner, read by all. */
	struct av_epoch_reader *next;
};

struct av_epoch_item {
	struct av_epoch_item *next;
	u64 epoch;
	void (*free)(struct av_epoch_item *item);
};

struct av_epoch {
	u64 now; /* starts at 1 */
	pthread_mutex_t lock; /* readers' list and retired list; a leaf lock */
	struct av_epoch_reader *readers;
	struct av_epoch_item *retired;
};

void av_epoch_init(struct av_epoch *e);
/* Frees everything still retired; there must be no readers. */
void av_epoch_destroy(struct av_epoch *e);
void av_epoch_add(struct av_epoch *e, struct av_epoch_reader *r);
void av_epoch_remove(struct av_epoch *e, struct av_epoch_reader *r);

/* The reader begins to hold pointers. Sequentially consistent against retire(). */
static inline void av_epoch_online(struct av_epoch *e, struct av_epoch_reader *r)
{
	__atomic_store_n(&r->seen, __atomic_load_n(&e->now, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
}

/* The reader holds nothing right now but stays online. Cheap: a load, a compare, rarely a store. */
static inline void av_epoch_quiet(struct av_epoch *e, struct av_epoch_reader *r)
{
	u64 now = __atomic_load_n(&e->now, __ATOMIC_ACQUIRE);

	if (unlikely(r->seen != now))
		__atomic_store_n(&r->seen, now, __ATOMIC_SEQ_CST);
}

static inline void av_epoch_offline(struct av_epoch_reader *r)
{
	__atomic_store_n(&r->seen, 0, __ATOMIC_RELEASE);
}

/* Frees item by item->free when no reader can hold it any more; may free older items at once. */
void av_epoch_retire(struct av_epoch *e, struct av_epoch_item *item);
/* Frees what has become free. Returns true when nothing retired is left. */
bool av_epoch_reclaim(struct av_epoch *e);

#endif
