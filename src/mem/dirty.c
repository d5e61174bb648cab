// SPDX-License-Identifier: MIT
/*
 * Reading and clearing dirty logs.
 *
 * Knows nothing of translations: the caller purges them after a bit was cleared and before it
 * answers the client. The lock keeps the slot in place meanwhile; bits are set by vCPUs at any
 * time.
 */
#include "mem/mem_priv.h"

#include <errno.h>
#include <string.h>

/* The slot with a log. -EINVAL: no such address space or id; -ENOENT: no slot or no log. */
static int find_log(struct mem *m, u32 as_id, u16 id, const struct mem_slot **out)
{
	if (as_id >= MEM_ADDRESS_SPACES || id >= MEM_USER_SLOTS)
		return -EINVAL;
	*out = mem_slot_by_id(m, as_id, id);
	return *out && (*out)->dirty ? 0 : -ENOENT;
}

u64 mem_dirty_pages(struct mem *m, u32 as_id, u16 id)
{
	const struct mem_slot *s;
	u64 pages = 0;

	pthread_mutex_lock(&m->lock);
	if (!find_log(m, as_id, id, &s))
		pages = s->size >> PAGE_SHIFT;
	pthread_mutex_unlock(&m->lock);
	return pages;
}

static void get_words(const struct mem_slot *s, u64 *bitmap, bool keep, bool *any)
{
	u64 n = ((s->size >> PAGE_SHIFT) + 63) / 64, word;

	for (u64 i = 0; i < n; i++) {
		word = READ_ONCE(s->dirty[i]);
		if (word && !keep)
			word = __atomic_exchange_n(&s->dirty[i], 0, __ATOMIC_SEQ_CST);
		bitmap[i] = word;
		*any |= word;
	}
}

int mem_dirty_get(struct mem *m, u32 as_id, u16 id, u64 *bitmap, u64 nlongs, bool keep, bool *any)
{
	const struct mem_slot *s;
	int ret;

	*any = false;
	pthread_mutex_lock(&m->lock);
	ret = find_log(m, as_id, id, &s);
	if (!ret && nlongs < ((s->size >> PAGE_SHIFT) + 63) / 64)
		ret = -EINVAL;
	if (!ret)
		get_words(s, bitmap, keep, any);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static int clear_words(const struct mem_slot *s, u64 first, u64 num, const u64 *bitmap, bool *any)
{
	u64 pages = s->size >> PAGE_SHIFT, *word = &s->dirty[first / 64];

	/* Whole words, but at the slot's end. */
	if (first > pages || num > pages - first || (num < pages - first && num & 63))
		return -EINVAL;
	for (u64 i = 0; i < (num + 63) / 64; i++)
		if (bitmap[i] &&
		    __atomic_fetch_and(&word[i], ~bitmap[i], __ATOMIC_SEQ_CST) & bitmap[i])
			*any = true;
	return 0;
}

int mem_dirty_clear(struct mem *m, u32 as_id, u16 id, u64 first_page, u32 num_pages,
		    const u64 *bitmap, bool *any)
{
	const struct mem_slot *s;
	int ret;

	*any = false;
	if (first_page & 63)
		return -EINVAL;
	pthread_mutex_lock(&m->lock);
	ret = find_log(m, as_id, id, &s);
	if (!ret)
		ret = clear_words(s, first_page, num_pages, bitmap, any);
	pthread_mutex_unlock(&m->lock);
	return ret;
}
