// SPDX-License-Identifier: MIT
/*
 * Owns the VM's predecoded code: making it, comparing it with memory, dropping it.
 *
 * Outer file: may use libc and SIMD. Must not know how instructions execute, nor any CPU's registers but what it is
 * handed; it never runs with the guest's SIMD state live.
 */
#include "cpu/x86/tb_runtime.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/mmu.h"
#include "base/guard.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUN_MAX 48 /* instructions decoded at once: code that never runs is not worth decoding */

/*
 * Taking the lock may block, so the CPU counts as quiet meanwhile: it holds no pointer into the arena here (lookups are between
 * instructions).
 */
static void code_lock(struct x86_cpu *c)
{
	struct x86_code *code = c->code;

	if (pthread_mutex_trylock(&code->lock) == 0)
		return;
	av_epoch_offline(&c->reader);
	pthread_mutex_lock(&code->lock);
	av_epoch_online(c->epoch, &c->reader);
}

/* ---- arena ---- */

static void half_free(struct av_epoch_item *item)
{
	struct x86_half *h = container_of(item, struct x86_half, item);

	__atomic_store_n(&h->busy, false, __ATOMIC_RELEASE);
}

/* i and, if it is a head, what belongs to it: the instruction behind it, and the one that a split copied. */
static void insn_stale(struct x86_insn *i)
{
	if (x86_is_head(i)) {
		if (i[2].fn == x86_op_link)
			WRITE_ONCE(((struct x86_insn *)i[2].target)[-1].fn, x86_op_stale);
		WRITE_ONCE(i[1].fn, x86_op_stale);
	}
	WRITE_ONCE(i->fn, x86_op_stale);
}

static void page_empty(struct x86_code *code, struct x86_code_page *p)
{
	for (u32 l = 0; l < X86_PAGE_LINES; l++) {
		struct x86_line *line;

		if (!p->line[l])
			continue;
		line = x86_arena_at(code, p->line[l]);
		for (u32 o = 0; o < X86_LINE_SIZE; o++) {
			if (line->insn[o])
				insn_stale(x86_arena_at(code, line->insn[o]));
		}
		STORE_RELEASE(p->line[l], 0);
	}
}

/* Blocks died: no CPU may find them in its jump cache, and those that are inside must come out. */
static void blocks_drop(struct x86_code *code)
{
	for (struct x86_cpu *c = code->cpus; c; c = c->code_next)
		x86_request(c, X86_REQ_CODE);
}

static void frame_empty(struct x86_code *code, struct x86_code_frame *f)
{
	for (u32 b = 0; b < ARRAY_SIZE(f->page); b++)
		if (f->page[b])
			page_empty(code, f->page[b]);
	f->lines = 0;
	f->purged = false;
	f->empties++;
	if (f->blocks)
		blocks_drop(code);
	f->blocks = 0;
	__atomic_fetch_and(f->attr, (u8)~MACHINE_ATTR_CODE, __ATOMIC_SEQ_CST);
}

/*
 * The active half of the arena, of the stubs or of the code region is full: empties all pages and goes to the other halves, if
 * their readers are gone. Returns false when they are not yet; the caller drops the lock and tries again.
 */
bool x86_code_turn(struct x86_code *code)
{
	struct x86_half *old = &code->half[code->active], *new = &code->half[!code->active];

	if (__atomic_load_n(&new->busy, __ATOMIC_ACQUIRE))
		return false;
	for (u32 h = 0; h < X86_CODE_HASH; h++)
		for (struct x86_code_frame *f = code->hash[h]; f; f = f->next)
			if (f->lines)
				frame_empty(code, f);
	if (code->tb)
		x86_tb_turn(code, !code->active);
	x86_native_forget(code);
	code->stub_used = 0;
	code->stubs_full = false;
	madvise(code->arena + new->start, X86_CODE_HALF, MADV_DONTNEED);
	new->used = 16; /* offset 0 means "nothing" */
	code->active = !code->active;
	old->busy = true;
	old->item.free = half_free;
	av_epoch_retire(code->epoch, &old->item);
	__atomic_fetch_add(&code->turns, 1, __ATOMIC_RELEASE);
	return true;
}

/* Turns, or lets the readers that stand in the way get on. Under the lock, which is let go meanwhile; the CPU holds no pointer into the arena. */
static void turn_or_wait(struct x86_cpu *c)
{
	struct x86_code *code = c->code;

	if (x86_code_turn(code)) {
		c->stats[X86_STAT_CODE_FLUSHES]++;
		return;
	}
	pthread_mutex_unlock(&code->lock);
	av_epoch_offline(&c->reader);
	av_epoch_reclaim(code->epoch);
	sched_yield();
	av_epoch_online(c->epoch, &c->reader);
	x86_serve_requests(c);
	code_lock(c);
}

static void *arena_alloc(struct x86_code *code, u64 size, u32 *index)
{
	struct x86_half *h = &code->half[code->active];
	u64 at = ALIGN_UP(h->used, 16);

	if (at + size > X86_CODE_HALF)
		return NULL;
	h->used = at + size;
	*index = (u32)((h->start + at) / 16);
	return code->arena + h->start + at;
}

/* ---- pages ---- */

/* A line that cannot be read matches nothing. */
static bool page_matches(struct x86_code *code, const struct x86_code_page *p)
{
	for (u32 l = 0; l < X86_PAGE_LINES; l++) {
		const struct x86_line *line;

		if (!p->line[l])
			continue;
		line = x86_arena_at(code, p->line[l]);
		if (av_guard_equal(line->bytes, p->frame->host + l * X86_LINE_SIZE, X86_LINE_SIZE) <= 0)
			return false;
	}
	return true;
}

/* Under the lock. */
static void page_compare(struct x86_cpu *c, struct x86_code_page *p, u64 now)
{
	if (p->checked == now)
		return;
	if (!page_matches(c->code, p)) {
		c->stats[X86_STAT_TB_DROPPED] += p->frame->blocks;
		c->stats[X86_STAT_CODE_INVALIDATED]++;
		frame_empty(c->code, p->frame);
	}
	__atomic_store_n(&p->checked, now, __ATOMIC_RELEASE);
}

void x86_code_page_check(struct x86_cpu *c, struct x86_code_page *p)
{
	u64 now = __atomic_load_n(&c->code->io_epoch, __ATOMIC_SEQ_CST);

	if (LOAD_ACQUIRE(p->checked) == now)
		return;
	x86_door(c);
	code_lock(c);
	page_compare(c, p, now);
	pthread_mutex_unlock(&c->code->lock);
}

struct x86_code_page *x86_code_page_get(struct x86_cpu *c, u8 *host, u8 *attr, u8 bits)
{
	struct x86_code *code = c->code;
	u64 now = __atomic_load_n(&code->io_epoch, __ATOMIC_SEQ_CST);
	struct x86_code_frame *f;
	struct x86_code_page *p;

	code_lock(c);
	f = x86_code_frame_find(code, host);
	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f)
			goto fail;
		f->host = host;
		f->attr = attr;
		f->next = code->hash[x86_code_hash(host)];
		STORE_RELEASE(code->hash[x86_code_hash(host)], f);
	}
	/* The client may have unmapped and mapped memory: the same address can have got another attribute byte. */
	WRITE_ONCE(f->attr, attr);
	p = f->page[bits >> 2];
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			goto fail;
		p->frame = f;
		p->bits = bits;
		STORE_RELEASE(f->page[bits >> 2], p);
	}
	page_compare(c, p, now);
	pthread_mutex_unlock(&code->lock);
	return p;
fail:
	pthread_mutex_unlock(&code->lock);
	return NULL;
}

/* ---- decoding ---- */

/* Remembers the bytes of a line before anything in it is decoded. -ENOSPC, -EFAULT. */
static int line_prepare(struct x86_code *code, struct x86_code_page *p, u32 l)
{
	u8 bytes[X86_LINE_SIZE];
	struct x86_line *line;
	u32 index;

	if (p->line[l])
		return 0;
	if (av_guard_copy(bytes, p->frame->host + l * X86_LINE_SIZE, X86_LINE_SIZE))
		return -EFAULT;
	line = arena_alloc(code, sizeof(*line), &index);
	if (!line)
		return -ENOSPC;
	memcpy(line->bytes, bytes, X86_LINE_SIZE);
	memset(line->insn, 0, sizeof(line->insn));
	STORE_RELEASE(p->line[l], index);
	p->frame->lines |= BIT64(l);
	return 0;
}

static u32 *insn_slot(struct x86_code *code, struct x86_code_page *p, u32 off)
{
	struct x86_line *line = x86_arena_at(code, p->line[off / X86_LINE_SIZE]);

	return &line->insn[off % X86_LINE_SIZE];
}

static void head_init(struct x86_insn *i, struct x86_code_page *p, u32 off)
{
	memset(i, 0, sizeof(*i));
	i->fn = x86_op_head;
	i->off = (u16)off;
	i->bits = p->bits;
	i->head.page = p;
}

/*
 * Decodes from the page's remembered bytes, so that what is decoded and what is compared later are the same. Returns the number of
 * instructions, the end marker not counted; -ENOSPC: arena or stubs are full, -EFAULT: memory is not there.
 */
static int run_decode(struct x86_code *code, struct x86_code_page *p, u32 off, struct x86_insn *out)
{
	u8 bytes[PAGE_SIZE];
	u32 have = off, heads = 0;
	int n = 0, err;

	if (code->tb && p->bits == 8) {
		head_init(&out[n++], p, off);
		heads = 1;
	}
	while (n < (int)(RUN_MAX + heads) && off < PAGE_SIZE) {
		u32 need = MIN(off + 15, (u32)PAGE_SIZE);
		struct x86_insn *i = &out[n];
		bool ends;
		int len;

		if (n > (int)heads && p->line[off / X86_LINE_SIZE] && *insn_slot(code, p, off))
			break; /* already decoded: the end marker finds it */
		while (have < need) {
			u32 l = have / X86_LINE_SIZE, end = (l + 1) * X86_LINE_SIZE;
			const struct x86_line *line;

			err = line_prepare(code, p, l);
			if (err)
				return err;
			line = x86_arena_at(code, p->line[l]);
			memcpy(bytes + have, line->bytes + have % X86_LINE_SIZE, end - have);
			have = end;
		}
		memset(i, 0, sizeof(*i));
		len = x86_decode(code, p->bits, bytes + off, need - off, (u16)off, i, &ends);
		if (unlikely(code->stubs_full))
			return -ENOSPC;
		if (len < 0) {
			memset(i, 0, sizeof(*i));
			i->fn = x86_op_cross;
			i->off = (u16)off;
			i->bits = p->bits;
			n++;
			off = PAGE_SIZE;
			break;
		}
		n++;
		if (len == 0)
			break;
		off += (u32)len;
		if (ends)
			break;
	}
	memset(&out[n], 0, sizeof(out[n]));
	out[n].fn = x86_op_end;
	out[n].off = (u16)off;
	out[n].bits = p->bits;
	return n;
}

/* No CPU may store to the page unseen once it is decoded. Waits for the others, so the lock is not held. */
static void page_protect(struct x86_cpu *c, struct x86_code_frame *f)
{
	u8 before = __atomic_fetch_or(READ_ONCE(f->attr), MACHINE_ATTR_CODE, __ATOMIC_SEQ_CST);

	if (before & MACHINE_ATTR_WFILLED) {
		x86_tlb_purge_writes(c);
		c->ops->purge_writes(c->m, f->host, x86_serve_requests, c);
	}
}

const struct x86_insn *x86_code_decode(struct x86_cpu *c, struct x86_code_page *p, u32 off)
{
	struct x86_code *code = c->code;
	struct x86_code_frame *f = p->frame;
	struct x86_insn run[1 + RUN_MAX + 1], *out;
	u32 index, empties;
	int n;

	code_lock(c);
	for (;;) {
		if (!f->purged || !(__atomic_load_n(f->attr, __ATOMIC_SEQ_CST) & MACHINE_ATTR_CODE)) {
			empties = f->empties;
			pthread_mutex_unlock(&code->lock);
			page_protect(c, f);
			code_lock(c);
			/* A store between may have emptied the page, and with that ended its protection: then once more. */
			f->purged = f->empties == empties;
			continue;
		}
		if (p->line[off / X86_LINE_SIZE]) {
			u32 have = *insn_slot(code, p, off);

			if (have) { /* another CPU was faster */
				pthread_mutex_unlock(&code->lock);
				return x86_arena_at(code, have);
			}
		}
		n = run_decode(code, p, off, run);
		if (n == -EFAULT) {
			pthread_mutex_unlock(&code->lock);
			return NULL;
		}
		out = n < 0 ? NULL : arena_alloc(code, (n + 1) * sizeof(*out), &index);
		if (out)
			break;
		turn_or_wait(c);
	}
	memcpy(out, run, (n + 1) * sizeof(*out));
	/* A head stands at its instruction's offset, and the slot names the head. */
	for (int k = n; k-- > 0;)
		STORE_RELEASE(*insn_slot(code, p, run[k].off), index + k * (u32)(sizeof(*out) / 16));
	c->stats[X86_STAT_INSNS_DECODED] += n - x86_is_head(run);
	c->stats[X86_STAT_BLOCKS]++;
	pthread_mutex_unlock(&code->lock);
	return out;
}

const struct x86_insn *x86_code_split(struct x86_cpu *c, struct x86_code_page *p, const struct x86_insn *i)
{
	struct x86_code *code = c->code;
	struct x86_insn *out;
	u32 *slot, index;

	/* Without waiting: i must not go away. */
	if (pthread_mutex_trylock(&code->lock))
		return i;
	if (!p->line[i->off / X86_LINE_SIZE])
		goto out;
	slot = insn_slot(code, p, i->off);
	if (!*slot || x86_arena_at(code, *slot) != i)
		goto out;
	out = arena_alloc(code, 3 * sizeof(*out), &index);
	if (!out)
		goto out;
	head_init(&out[0], p, i->off);
	out[1] = *i;
	memset(&out[2], 0, sizeof(out[2]));
	out[2].fn = x86_op_link;
	out[2].off = i->off + i->len;
	out[2].bits = i->bits;
	out[2].target = i + 1;
	STORE_RELEASE(*slot, index);
	c->stats[X86_STAT_TB_SPLITS]++;
	i = out;
out:
	pthread_mutex_unlock(&code->lock);
	return i;
}

int x86_decode_cross(struct x86_cpu *c, u8 bits, const u8 *bytes, u16 off, struct x86_cross *x)
{
	struct x86_code *code = c->code;
	struct x86_insn i;
	bool ends;
	int len;

	code_lock(c);
	for (;;) {
		memset(&i, 0, sizeof(i));
		len = x86_decode(code, bits, bytes, 15, off, &i, &ends);
		if (likely(!code->stubs_full))
			break;
		turn_or_wait(c);
	}
	x->insn[0] = i;
	x->turn = code->turns;
	pthread_mutex_unlock(&code->lock);
	return len;
}

bool x86_code_written(struct x86_cpu *c, u8 *host, u32 len)
{
	struct x86_code *code = c->code;
	u8 *page = (u8 *)((u64)host & PAGE_MASK);
	u32 first = (u32)((u64)host & ~PAGE_MASK) / X86_LINE_SIZE;
	u32 last = (u32)(((u64)host & ~PAGE_MASK) + len - 1) / X86_LINE_SIZE;
	u64 mask = (~0ull >> (63 - MIN(last, 63u))) & (~0ull << first);
	struct x86_code_frame *f;
	bool hit = false;

	x86_door(c);
	pthread_mutex_lock(&code->lock);
	f = x86_code_frame_find(code, page);
	if (f && (f->lines & mask)) {
		c->stats[X86_STAT_TB_DROPPED] += f->blocks;
		frame_empty(code, f);
		c->stats[X86_STAT_CODE_INVALIDATED]++;
		hit = true;
	} else if (f && !f->lines) {
		frame_empty(code, f); /* protected but never decoded, or emptied meanwhile: let stores be fast again */
	}
	pthread_mutex_unlock(&code->lock);
	return hit;
}

void x86_code_io_epoch(struct x86_code *code)
{
	__atomic_fetch_add(&code->io_epoch, 1, __ATOMIC_SEQ_CST);
}

/* ---- native stubs' memory ---- */

static int stub_area_create(struct x86_code *code)
{
	int fd = memfd_create("anyvisor-stubs", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, X86_STUB_AREA) < 0)
		goto fail;
	code->stub_w = mmap(NULL, X86_STUB_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (code->stub_w == MAP_FAILED)
		goto fail;
	code->stub_x = mmap(NULL, X86_STUB_AREA, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (code->stub_x == MAP_FAILED) {
		munmap(code->stub_w, X86_STUB_AREA);
		goto fail;
	}
	close(fd);
	return 0;
fail:
	close(fd);
	return -ENOMEM;
}

void *x86_code_emit(struct x86_code *code, const void *bytes, u32 len)
{
	u64 at = ALIGN_UP(code->stub_used, 16), half = code->active * (X86_STUB_AREA / 2);

	if (at + len > code->stub_limit) {
		x86_code_stubs_full(code);
		return NULL;
	}
	memcpy(code->stub_w + half + at, bytes, len);
	code->stub_used = at + len;
	return code->stub_x + half + at;
}

void x86_code_stubs_full(struct x86_code *code)
{
	code->stubs_full = true;
}

bool x86_code_owns_pc(const struct x86_code *code, u64 pc)
{
	return pc - (u64)code->stub_x < X86_STUB_AREA;
}

void **x86_code_native_slot(struct x86_code *code)
{
	return &code->native;
}

/* ---- life ---- */

void x86_code_attach(struct x86_code *code, struct x86_cpu *c)
{
	pthread_mutex_lock(&code->lock);
	c->code_next = code->cpus;
	code->cpus = c;
	pthread_mutex_unlock(&code->lock);
}

void x86_code_detach(struct x86_code *code, struct x86_cpu *c)
{
	struct x86_cpu **p;

	pthread_mutex_lock(&code->lock);
	for (p = &code->cpus; *p; p = &(*p)->code_next) {
		if (*p == c) {
			*p = c->code_next;
			break;
		}
	}
	pthread_mutex_unlock(&code->lock);
}

int x86_code_translate(struct x86_code *code, u64 cache)
{
	return x86_tb_cache_create(code, cache);
}

int x86_code_create(struct av_epoch *epoch, struct x86_code **out)
{
	struct x86_code *code = calloc(1, sizeof(*code));
	int err = -ENOMEM;

	if (!code)
		return -ENOMEM;
	pthread_mutex_init(&code->lock, NULL);
	code->epoch = epoch;
	code->io_epoch = 1;
	code->stub_limit = X86_STUB_AREA / 2;
	code->half[1].start = X86_CODE_HALF;
	code->half[0].used = code->half[1].used = 16;
	code->arena = mmap(NULL, 2 * X86_CODE_HALF, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (code->arena == MAP_FAILED)
		goto fail_arena;
	err = stub_area_create(code);
	if (err)
		goto fail_stubs;
	err = x86_native_create(code);
	if (err)
		goto fail_native;
	*out = code;
	return 0;
fail_native:
	munmap(code->stub_w, X86_STUB_AREA);
	munmap(code->stub_x, X86_STUB_AREA);
fail_stubs:
	munmap(code->arena, 2 * X86_CODE_HALF);
fail_arena:
	pthread_mutex_destroy(&code->lock);
	free(code);
	return err;
}

void x86_code_destroy(struct x86_code *code)
{
	if (!code)
		return;
	/* A half may still wait for its readers; they are all gone now, but the item must leave the list. */
	while (!av_epoch_reclaim(code->epoch))
		sched_yield();
	x86_native_destroy(code);
	for (u32 h = 0; h < X86_CODE_HASH; h++) {
		struct x86_code_frame *f = code->hash[h], *next;

		for (; f; f = next) {
			next = f->next;
			for (u32 b = 0; b < ARRAY_SIZE(f->page); b++)
				free(f->page[b]);
			free(f);
		}
	}
	munmap(code->stub_w, X86_STUB_AREA);
	munmap(code->stub_x, X86_STUB_AREA);
	munmap(code->arena, 2 * X86_CODE_HALF);
	x86_tb_cache_destroy(code);
	pthread_mutex_destroy(&code->lock);
	free(code);
}
