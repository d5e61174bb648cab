// SPDX-License-Identifier: MIT
/*
 * Tier 1's memory: the code region, the registry of blocks, and the CPUs' own mappings.
 *
 * Outer file. Everything but creation happens under code->lock. Knows when a block is made, chained
 * and forgotten; what is in it is the translator's.
 */
#include "cpu/x86/tb_runtime.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_ALIGN 16
#define BLOCK_SIZE_LEAST                                                                           \
	64 /* what the registry's length is reckoned from: smaller ones may fill it early */
#define HWCAP2_FSGSBASE BIT(1)

/* ---- CPUs ---- */

#define CPU_SIZE ((size_t)ALIGN_UP(X86_GS_TB + sizeof(struct x86_tb_cpu), PAGE_SIZE))

struct x86_cpu *x86_cpu_alloc(void)
{
	struct x86_cpu *c =
		mmap(NULL, CPU_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return c == MAP_FAILED ? NULL : c;
}

void x86_cpu_free(struct x86_cpu *c)
{
	munmap(c, CPU_SIZE);
}

void x86_tb_cpu_init(struct x86_cpu *c)
{
	const struct x86_tb_cache *tb = c->code->tb;

	c->self = c;
	if (!tb)
		return;
	c->fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
	c->tb = (struct x86_tb_cpu *)((u8 *)c + X86_GS_TB);
	c->tb_code = tb->x;
	c->tb_enter =
		(const struct x86_insn *(*)(struct x86_cpu *, const void *))(tb->x + tb->enter);
	/* Zeroed entries match nothing but at the index of address 0. */
	for (u32 s = 0; s <= X86_NR_SETS; s++)
		((struct x86_jc_entry *)((u8 *)c + X86_GS_JC(s)))->rip = ~0ull;
}

/* ---- making blocks ---- */

static struct x86_tb *registry_add(struct x86_tb_half *h, const struct x86_tb_out *out)
{
	u64 size = ALIGN_UP(sizeof(struct x86_tb) + out->nr_map * sizeof(out->map[0]), 8);
	struct x86_tb *b;

	if (h->count == h->max || h->meta_used + size > h->meta_size)
		return NULL;
	b = (struct x86_tb *)(h->meta + h->meta_used);
	h->meta_used += size;
	b->at = out->at;
	b->size = out->size;
	b->nr_map = out->nr_map;
	memcpy(b->map, out->map, out->nr_map * sizeof(out->map[0]));
	h->index[h->count] = b;
	return b;
}

static bool make(struct x86_cpu *c, struct x86_insn *head, u8 set)
{
	struct x86_code *code = c->code;
	struct x86_tb_cache *tb = code->tb;
	struct x86_tb_half *h = &tb->half[code->active];
	struct x86_tb_out *out = tb->out;
	struct x86_code_page *page = head->head.page;
	struct x86_tb *b;

	if (!x86_is_head(head))
		return false; /* emptied meanwhile */
	if (head->head.block[set])
		return true; /* another CPU was faster */
	out->at = ALIGN_UP(h->used, BLOCK_ALIGN);
	if (out->at + X86_TB_MAX_CODE > h->end)
		goto full;
	out->stub = tb->stub;
	out->size = out->nr_map = out->nr_insns = 0;
	if (x86_tb_translate(code, page, set, head->off, out)) {
		WRITE_ONCE(head->head.count[set], X86_TB_REFUSED);
		c->stats[X86_STAT_TB_REFUSED]++;
		return false;
	}
	b = registry_add(h, out);
	if (!b)
		goto full;
	b->page = page;
	b->empties = page->frame->empties;
	b->off = head->off;
	b->set = set;
	memcpy(tb->w + out->at, out->code, out->size);
	h->used = out->at + out->size;
	STORE_RELEASE(h->count, h->count + 1);
	page->frame->blocks++;
	c->stats[X86_STAT_TB_MADE]++;
	c->stats[X86_STAT_TB_BYTES] += out->size;
	c->stats[X86_STAT_TB_INSNS] += out->nr_insns;
	STORE_RELEASE(head->head.block[set], out->at);
	STORE_RELEASE(head->fn, x86_op_block);
	return true;
full:
	/* The half before may be free by now. */
	av_epoch_reclaim(code->epoch);
	if (x86_code_turn(code))
		c->stats[X86_STAT_TB_EVICTIONS]++;
	return false;
}

bool x86_tb_make(struct x86_cpu *c, struct x86_insn *head)
{
	bool made;

	/* Waiting would mean letting go of head; the next visit will do as well. */
	if (pthread_mutex_trylock(&c->code->lock))
		return false;
	made = make(c, head, c->mmu->set);
	pthread_mutex_unlock(&c->code->lock);
	return made;
}

/* ---- direct jumps ---- */

static bool alive(const struct x86_tb *b)
{
	return b->empties == b->page->frame->empties;
}

static void chain(struct x86_cpu *c, u32 site, const struct x86_insn *head)
{
	struct x86_tb_cache *tb = c->code->tb;
	const struct x86_tb *from = x86_tb_at(tb, site);
	u32 to, field = site + 1;

	if (!x86_is_head(head) || !from || !alive(from) || from->page != head->head.page)
		return;
	to = head->head.block[from->set];
	if (!to || from->set != c->mmu->set || field % 8 > 4)
		return;
	/* Other CPUs may be executing the jump: it changes in one aligned store. */
	__atomic_store_n((u32 *)(tb->w + field), to - (field + 4), __ATOMIC_RELEASE);
	c->stats[X86_STAT_TB_CHAINED]++;
}

void x86_tb_chain(struct x86_cpu *c, u32 site, u32 turns, const struct x86_insn *head)
{
	if (pthread_mutex_trylock(&c->code->lock))
		return;
	if (turns == c->code->tb->turns)
		chain(c, site, head);
	pthread_mutex_unlock(&c->code->lock);
}

/* ---- halves ---- */

void x86_tb_turn(struct x86_code *code, u32 half)
{
	struct x86_tb_cache *tb = code->tb;
	struct x86_tb_half *h = &tb->half[half];

	WRITE_ONCE(tb->turns, tb->turns + 1);
	STORE_RELEASE(h->count, 0);
	h->used = h->start;
	h->meta_used = 0;
}

static void *reserve(u64 size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int half_create(struct x86_tb_half *h, u32 start, u32 size)
{
	h->start = h->used = start;
	h->end = start + size;
	h->max = size / BLOCK_SIZE_LEAST;
	h->meta_size = size;
	h->index = reserve(h->max * sizeof(*h->index));
	h->meta = reserve(h->meta_size);
	return h->index && h->meta ? 0 : -ENOMEM;
}

static void half_destroy(struct x86_tb_half *h)
{
	if (h->index)
		munmap(h->index, h->max * sizeof(*h->index));
	if (h->meta)
		munmap(h->meta, h->meta_size);
}

/* ---- the region ---- */

static int region_create(struct x86_tb_cache *tb)
{
	int fd = memfd_create("anyvisor-code", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	/* Side by side, so that the distance between the two views is the region's size. */
	tb->w = mmap(NULL, 2 * tb->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		     0);
	if (tb->w == MAP_FAILED) {
		tb->w = NULL;
		close(fd);
		return -ENOMEM;
	}
	tb->x = tb->w + tb->size;
	err = 0;
	if (ftruncate(fd, (off_t)tb->size) < 0 ||
	    mmap(tb->w, tb->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED ||
	    mmap(tb->x, tb->size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED)
		err = -errno;
	close(fd);
	return err;
}

void x86_tb_cache_destroy(struct x86_code *code)
{
	struct x86_tb_cache *tb = code->tb;

	if (!tb)
		return;
	for (u32 h = 0; h < 2; h++)
		half_destroy(&tb->half[h]);
	if (tb->w)
		munmap(tb->w, 2 * tb->size);
	free(tb->out);
	free(tb);
	code->tb = NULL;
}

int x86_tb_cache_create(struct x86_code *code, u64 size)
{
	struct x86_tb_cache *tb = calloc(1, sizeof(*tb));
	u32 half;
	int err;

	if (!tb)
		return -ENOMEM;
	code->tb = tb;
	tb->size = ALIGN_UP(
		MIN(MAX(size ? size : X86_TB_REGION, X86_TB_REGION_MIN), X86_TB_REGION_MAX),
		PAGE_SIZE);
	half = ALIGN_DOWN((u32)(tb->size - X86_TB_STUBS) / 2, (u32)PAGE_SIZE);
	err = region_create(tb);
	for (u32 h = 0; h < 2 && !err; h++)
		err = half_create(&tb->half[h], X86_TB_STUBS + h * half, half);
	if (!err) {
		tb->out = malloc(sizeof(*tb->out));
		err = tb->out ? 0 : -ENOMEM;
	}
	if (err)
		x86_tb_cache_destroy(code);
	else
		x86_tb_stubs_write(tb, code->arena);
	return err;
}
