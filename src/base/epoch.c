// SPDX-License-Identifier: MIT
/*
 * Epochs: the slow half (retire, reclaim, readers' list). Knows nothing of what is freed.
 *
 * The retired list is ordered by epoch, youngest first, since an item gets its epoch and its place
 * under one lock; so what may be freed is always a tail of the list.
 */
#include "base/epoch.h"

void av_epoch_init(struct av_epoch *e)
{
	e->now = 1;
	e->readers = NULL;
	e->retired = NULL;
	pthread_mutex_init(&e->lock, NULL);
}

static void free_list(struct av_epoch_item *item)
{
	struct av_epoch_item *next;

	for (; item; item = next) {
		next = item->next;
		item->free(item);
	}
}

void av_epoch_destroy(struct av_epoch *e)
{
	struct av_epoch_item *all = e->retired;

	e->retired = NULL;
	free_list(all);
	pthread_mutex_destroy(&e->lock);
}

void av_epoch_add(struct av_epoch *e, struct av_epoch_reader *r)
{
	__atomic_store_n(&r->seen, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&e->lock);
	r->next = e->readers;
	e->readers = r;
	pthread_mutex_unlock(&e->lock);
}

void av_epoch_remove(struct av_epoch *e, struct av_epoch_reader *r)
{
	struct av_epoch_reader **p;

	pthread_mutex_lock(&e->lock);
	for (p = &e->readers; *p; p = &(*p)->next) {
		if (*p == r) {
			*p = r->next;
			break;
		}
	}
	pthread_mutex_unlock(&e->lock);
}

/* Cuts off what no reader can hold. Called with the lock held; the caller frees it without. */
static struct av_epoch_item *cut_free(struct av_epoch *e)
{
	struct av_epoch_reader *r;
	struct av_epoch_item **p, *tail;
	u64 oldest = UINT64_MAX, seen;

	for (r = e->readers; r; r = r->next) {
		seen = __atomic_load_n(&r->seen, __ATOMIC_SEQ_CST);
		if (seen && seen < oldest)
			oldest = seen;
	}
	for (p = &e->retired; *p && (*p)->epoch > oldest; p = &(*p)->next)
		;
	tail = *p;
	*p = NULL;
	return tail;
}

void av_epoch_retire(struct av_epoch *e, struct av_epoch_item *item)
{
	struct av_epoch_item *tail;

	pthread_mutex_lock(&e->lock);
	/* The increment orders the caller's unpublishing before the look at the readers. */
	item->epoch = __atomic_add_fetch(&e->now, 1, __ATOMIC_SEQ_CST);
	item->next = e->retired;
	e->retired = item;
	tail = cut_free(e);
	pthread_mutex_unlock(&e->lock);
	free_list(tail);
}

bool av_epoch_reclaim(struct av_epoch *e)
{
	struct av_epoch_item *tail;
	bool none;

	pthread_mutex_lock(&e->lock);
	tail = cut_free(e);
	none = !e->retired;
	pthread_mutex_unlock(&e->lock);
	free_list(tail);
	return none;
}
