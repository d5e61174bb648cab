// SPDX-License-Identifier: MIT
/*
 * Tier 1 at run time: where the interpreter goes over into translated blocks, and what the blocks'
 * stubs ask C for.
 *
 * Engine file. Owns the jump caches. Knows blocks by their host address alone; making them is
 * tb_cache.c's, behind the door.
 */
#include "cpu/x86/tb_runtime.h"
#include "cpu/x86/debug.h"
#include "cpu/x86/simd.h"

/* ---- the jump caches ---- */

static struct x86_jc_entry *jump_cache(struct x86_cpu *c, u32 set)
{
	return (struct x86_jc_entry *)((u8 *)c + X86_GS_JC(set));
}

static u32 jc_index(u64 rip)
{
	return (rip ^ rip >> 12) & (X86_JC_SIZE - 1);
}

#define PAGE_BIT(la)   ((la) >> 12 & 1023)
#define REGION_BIT(la) ((la) >> 22 & 255)

static void jc_fill(struct x86_cpu *c, u64 rip, const void *host, bool global)
{
	u32 index = jc_index(rip), set = c->mmu->set;
	struct x86_jc_log *log = &c->tb->log[global][set];
	struct x86_jc_entry *e = &jump_cache(c, set)[index];

	e->rip = rip;
	e->host = (u64)host;
	c->tb->pages[global][PAGE_BIT(rip) / 64] |= BIT64(PAGE_BIT(rip) % 64);
	c->tb->regions[global][REGION_BIT(rip) / 64] |= BIT64(REGION_BIT(rip) % 64);
	if (likely(log->count < X86_JC_LOG))
		log->index[log->count++] = (u16)index;
	else
		log->count = X86_JC_LOG + 1;
}

static void jc_log_flush(struct x86_cpu *c, u32 set, bool global)
{
	struct x86_jc_log *log = &c->tb->log[global][set];
	struct x86_jc_entry *jc = jump_cache(c, set);

	if (log->count > X86_JC_LOG) {
		for (u32 k = 0; k < X86_JC_SIZE; k++)
			jc[k].rip = ~0ull;
		c->tb->log[0][set].count = c->tb->log[1][set].count = 0;
		return;
	}
	for (u32 k = 0; k < log->count; k++)
		jc[log->index[k]].rip = ~0ull;
	log->count = 0;
}

void x86_jc_flush_nonglobal(struct x86_cpu *c)
{
	if (!c->tb)
		return;
	for (u32 s = 0; s < X86_NR_SETS; s++)
		jc_log_flush(c, s, false);
	x86_fill(c->tb->pages[0], 0, sizeof(c->tb->pages[0]));
	x86_fill(c->tb->regions[0], 0, sizeof(c->tb->regions[0]));
}

void x86_jc_flush(struct x86_cpu *c)
{
	if (!c->tb)
		return;
	for (u32 s = 0; s < X86_NR_SETS; s++) {
		jc_log_flush(c, s, false);
		jc_log_flush(c, s, true);
	}
	x86_fill(c->tb->pages, 0, sizeof(c->tb->pages));
	x86_fill(c->tb->regions, 0, sizeof(c->tb->regions));
	c->stats[X86_STAT_TB_JC_DROPS]++;
}

/* Empties the logged entries whose address agrees with la above shift. Their places stay in the
 * log. */
static void jc_flush_near(struct x86_cpu *c, bool global, u64 la, u32 shift)
{
	for (u32 s = 0; s < X86_NR_SETS; s++) {
		const struct x86_jc_log *log = &c->tb->log[global][s];
		struct x86_jc_entry *jc = jump_cache(c, s);

		if (log->count > X86_JC_LOG) {
			x86_jc_flush(c);
			return;
		}
		for (u32 k = 0; k < log->count; k++)
			if (!((jc[log->index[k]].rip ^ la) >> shift))
				jc[log->index[k]].rip = ~0ull;
	}
}

void x86_jc_flush_page(struct x86_cpu *c, u64 la)
{
	for (u32 g = 0; g < 2 && c->tb; g++)
		if (c->tb->pages[g][PAGE_BIT(la) / 64] & BIT64(PAGE_BIT(la) % 64))
			jc_flush_near(c, g, la, PAGE_SHIFT);
}

void x86_jc_flush_region(struct x86_cpu *c, u64 la)
{
	for (u32 g = 0; g < 2 && c->tb; g++)
		if (c->tb->regions[g][REGION_BIT(la) / 64] & BIT64(REGION_BIT(la) % 64))
			jc_flush_near(c, g, la, 22);
}

/* ---- heads ---- */

static const struct x86_insn *past_head(struct x86_cpu *c, const struct x86_insn *i)
{
	/* Executed right here: to the run loop, head and instruction are one. */
	c->insn = ++i;
	return i->fn(c, i);
}

static bool at_ease(const struct x86_cpu *c)
{
	return likely(!READ_ONCE(c->req) && !c->mmu->looked_at);
}

static const struct x86_insn *enter(struct x86_cpu *c, u32 block)
{
	c->stats[X86_STAT_TB_ENTERED]++;
	return c->tb_enter(c, c->tb_code + block);
}

const struct x86_insn *x86_op_head(struct x86_cpu *c, const struct x86_insn *i)
{
	struct x86_insn *head = (struct x86_insn *)i;
	u8 *count = &head->head.count[c->mmu->set], n = READ_ONCE(*count);

	if (n < X86_TB_THRESHOLD) {
		WRITE_ONCE(*count, n + 1);
	} else if (n != X86_TB_REFUSED && at_ease(c)) {
		x86_door(c);
		if (x86_tb_make(c, head))
			return enter(c, head->head.block[c->mmu->set]);
	}
	return past_head(c, i);
}

const struct x86_insn *x86_op_block(struct x86_cpu *c, const struct x86_insn *i)
{
	u32 block = LOAD_ACQUIRE(i->head.block[c->mmu->set]);

	if (unlikely(!block))
		return x86_op_head(c, i);
	if (unlikely(!at_ease(c)))
		return past_head(c, i);
	return enter(c, block);
}

const struct x86_insn *x86_op_link(struct x86_cpu *c, const struct x86_insn *i)
{
	c->insn = i = i->target;
	return i->fn(c, i);
}

/* ---- what stubs ask ---- */

static struct x86_tb_next leave(const struct x86_insn *i)
{
	return (struct x86_tb_next){.insn = i};
}

/* Leaves at rip, for the run loop to look around first. */
static struct x86_tb_next leave_at(struct x86_cpu *c, u64 rip)
{
	c->rip = rip;
	c->insn = NULL;
	return leave(NULL);
}

/* The block at i for the current set, or NULL. */
static const void *block_at(struct x86_cpu *c, const struct x86_insn *i)
{
	u32 set = c->mmu->set;

	if (!x86_is_head(i) || unlikely(!at_ease(c)))
		return NULL;
	if (i->fn == x86_op_block) {
		u32 block = LOAD_ACQUIRE(i->head.block[set]);

		if (block)
			return c->tb_code + block;
	}
	return NULL;
}

static struct x86_tb_next enter_at(const void *host)
{
	return (struct x86_tb_next){.host = host};
}

/* host is what was found at rip. */
static struct x86_tb_next remember(struct x86_cpu *c, u64 rip, const void *host)
{
	const struct x86_etlb_entry *e = x86_etlb_entry(c, rip);

	if (likely(e))
		jc_fill(c, rip, host, e->global);
	return enter_at(host);
}

/* What the current set's jump cache has for rip; NULL: nothing. */
static const void *jump_cache_hit(struct x86_cpu *c, u64 rip)
{
	const struct x86_jc_entry *e = &c->jc[jc_index(rip)];

	return e->rip == rip && c->code_size == 8 ? (const void *)e->host : NULL;
}

/* Control came to rip by a way that looks at nothing but requests. */
static struct x86_tb_next go_to(struct x86_cpu *c, u64 rip)
{
	const struct x86_insn *i;
	const void *host = jump_cache_hit(c, rip);

	if (unlikely(READ_ONCE(c->req)))
		return leave_at(c, rip);
	if (host) {
		c->code_la = rip & PAGE_MASK;
		return enter_at(host);
	}
	i = x86_goto(c, rip);
	host = block_at(c, i);
	if (host)
		return remember(c, rip, host);
	/* One that spans two pages has no block, but what follows it does. */
	if (i->fn != x86_op_cross || unlikely(!at_ease(c)))
		return leave(i);
	c->insn = i;
	i = i->fn(c, i);
	return i && i->fn == x86_op_end ? go_to(c, c->code_la + i->off) : x86_tb_resume(c, i);
}

struct x86_tb_next x86_tb_resume(struct x86_cpu *c, const struct x86_insn *i)
{
	const void *host;

	if (!i) {
		/* Far transfers and changes of mode: the run loop looks at more than requests then.
		 */
		if (x86_careful(c))
			return leave(NULL);
		c->stats[X86_STAT_TB_RESUMED]++;
		return go_to(c, c->rip);
	}
	host = block_at(c, i);
	if (!host)
		return leave(i);
	c->stats[X86_STAT_TB_RESUMED]++;
	return enter_at(host);
}

struct x86_tb_next x86_tb_page(struct x86_cpu *c, u32 off, u32 site)
{
	u32 turns = READ_ONCE(c->code->tb->turns);
	u64 rip = c->code_la + off;
	const struct x86_insn *i;
	const void *host;

	c->stats[X86_STAT_TB_PAGE]++;
	if (!site)
		return go_to(c, rip);
	if (unlikely(READ_ONCE(c->req)))
		return leave_at(c, rip);
	i = x86_goto(c, rip);
	host = block_at(c, i);
	if (!host)
		return go_to(c, rip);
	x86_door(c);
	x86_tb_chain(c, site, turns, i);
	return enter_at(host);
}

struct x86_tb_next x86_tb_miss(struct x86_cpu *c, u64 rip)
{
	c->stats[X86_STAT_TB_JC_MISSES]++;
	return go_to(c, rip);
}

/* ---- GS ---- */

#define SYS_ARCH_PRCTL 158
#define ARCH_SET_GS    0x1001
#define ARCH_GET_GS    0x1004

static void arch_prctl(u64 op, u64 arg)
{
	u64 rax = SYS_ARCH_PRCTL;

	__asm__ volatile("syscall" : "+a"(rax) : "D"(op), "S"(arg) : "rcx", "r11", "memory");
}

u64 x86_gs_enter(struct x86_cpu *c)
{
	u64 old;

	if (likely(c->fsgsbase)) {
		__asm__ volatile("rdgsbase %0" : "=r"(old));
		__asm__ volatile("wrgsbase %0" : : "r"(c) : "memory");
		return old;
	}
	arch_prctl(ARCH_GET_GS, (u64)&old);
	arch_prctl(ARCH_SET_GS, (u64)c);
	return old;
}

void x86_gs_leave(struct x86_cpu *c, u64 old)
{
	if (likely(c->fsgsbase))
		__asm__ volatile("wrgsbase %0" : : "r"(old) : "memory");
	else
		arch_prctl(ARCH_SET_GS, old);
}

/* ---- faults in blocks ---- */

bool x86_tb_owns_pc(const struct x86_code *code, u64 pc)
{
	const struct x86_tb_cache *tb = code->tb;

	return tb && pc - (u64)tb->x < tb->size;
}

const struct x86_tb_map *x86_tb_find(const struct x86_code *code, u64 pc)
{
	const struct x86_tb_cache *tb = code->tb;
	u32 at = (u32)(pc - (u64)tb->x), lo = 0, hi;
	const struct x86_tb *b = x86_tb_at(tb, at);

	if (!b)
		return NULL;
	for (hi = b->nr_map; lo < hi;) {
		u32 mid = (lo + hi) / 2;

		if (b->map[mid].host < at - b->at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < b->nr_map && b->map[lo].host == at - b->at ? &b->map[lo] : NULL;
}
