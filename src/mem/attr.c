// SPDX-License-Identifier: MIT
/*
 * The attribute byte of each host page: a sparse tree of zeroed mappings, grown by
 * compare-exchange, never shrunk.
 *
 * Knows nothing of slots or of what the bits mean. Anonymous mappings rather than malloc(), so that
 * a leaf for 1 GiB costs nothing until it is touched; by raw system call, since mmap() of this
 * process may be our own shim's.
 */
#include "mem/mem_priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAF_SIZE BIT64(ATTR_LEAF_BITS)
#define MID_SIZE  (BIT64(ATTR_MID_BITS) * sizeof(u8 *))
#define ROOT_SIZE (BIT64(ATTR_ROOT_BITS) * sizeof(u8 **))

static void *map_zeroes(u64 size)
{
	int err = errno;
	long p = syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0l);

	errno = err;
	return p == -1 ? NULL : (void *)p;
}

static void unmap(void *p, u64 size)
{
	if (p)
		syscall(SYS_munmap, p, size);
}

/* What *slot points to; a new mapping if it is empty. NULL: out of memory. */
static void *get_or_map(void **slot, u64 size)
{
	void *p = LOAD_ACQUIRE(*slot), *mine;

	if (likely(p))
		return p;
	mine = map_zeroes(size);
	if (!mine)
		return NULL;
	if (__atomic_compare_exchange_n(slot, &p, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return mine;
	unmap(mine, size);
	return p;
}

int mem_attrs_init(struct mem_attrs *a)
{
	a->root = map_zeroes(ROOT_SIZE);
	return a->root ? 0 : -ENOMEM;
}

void mem_attrs_destroy(struct mem_attrs *a)
{
	if (!a->root)
		return;
	for (u64 i = 0; i < BIT64(ATTR_ROOT_BITS); i++) {
		if (!a->root[i])
			continue;
		for (u64 j = 0; j < BIT64(ATTR_MID_BITS); j++)
			unmap(a->root[i][j], LEAF_SIZE);
		unmap(a->root[i], MID_SIZE);
	}
	unmap(a->root, ROOT_SIZE);
	a->root = NULL;
}

u8 *mem_attrs_get(struct mem_attrs *a, u64 hva)
{
	u64 page = hva >> PAGE_SHIFT;
	u64 root = page >> (ATTR_LEAF_BITS + ATTR_MID_BITS);
	u8 **mid, *leaf;

	if (root >> ATTR_ROOT_BITS)
		return NULL;
	mid = get_or_map((void **)&a->root[root], MID_SIZE);
	if (!mid)
		return NULL;
	leaf = get_or_map((void **)&mid[page >> ATTR_LEAF_BITS & (BIT64(ATTR_MID_BITS) - 1)],
			  LEAF_SIZE);
	return leaf ? leaf + (page & (LEAF_SIZE - 1)) : NULL;
}

int mem_attrs_populate(struct mem_attrs *a, u64 hva, u64 size)
{
	const u64 step = LEAF_SIZE << PAGE_SHIFT;

	for (u64 at = ALIGN_DOWN(hva, step); at < hva + size; at += step)
		if (!mem_attrs_get(a, at))
			return -ENOMEM;
	return 0;
}
