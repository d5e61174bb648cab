// SPDX-License-Identifier: MIT
/*
 * Unit tests of mem/: the rules of KVM_SET_USER_MEMORY_REGION, lookups, dirty logs, attributes, and
 * readers beside a writer.
 */
#include "mem/mem.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGES 200
#define SIZE  (PAGES * PAGE_SIZE)
#define GPA   0x100000ull

struct fixture {
	struct av_epoch epoch;
	struct mem *m;
	u8 *ram;
	u64 hva;
	bool changed;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	av_epoch_init(&f->epoch);
	assert_int_equal(mem_create(&f->epoch, &f->m), 0);
	f->ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->ram, MAP_FAILED);
	f->hva = (u64)f->ram;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mem_destroy(f->m);
	av_epoch_destroy(&f->epoch);
	munmap(f->ram, SIZE);
	free(f);
	return 0;
}

static int set(struct fixture *f, u16 id, u32 flags, u64 gpa, u64 size, u64 hva)
{
	return mem_set_region(f->m, 0, id, flags, gpa, size, hva, false, &f->changed);
}

static void test_rules(void **state)
{
	struct fixture *f = *state;
	u64 h = f->hva;

	/* Alignment, flags, ids, ranges. */
	assert_int_equal(set(f, 0, 0, GPA + 1, SIZE, h), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, SIZE + 1, h), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, SIZE, h + 1), -EINVAL);
	assert_int_equal(set(f, 0, 4, GPA, SIZE, h), -EINVAL);
	assert_int_equal(set(f, MEM_USER_SLOTS, 0, GPA, SIZE, h), -EINVAL);
	assert_int_equal(mem_set_region(f->m, 2, 0, 0, GPA, SIZE, h, false, &f->changed), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, SIZE, BIT64(47)), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, SIZE, ~0ull << 12), -EINVAL);
	assert_int_equal(set(f, 0, 0, ~0ull << 12, 2 * PAGE_SIZE, h), -EINVAL);
	assert_int_equal(set(f, 0, 0, BIT64(52), PAGE_SIZE, h), -EINVAL);
	assert_int_equal(set(f, 0, 0, 0, BIT64(43), h), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, 0, h), -EINVAL); /* nothing to delete */
	assert_false(f->changed);
	assert_null(mem_find(f->m, 0, GPA));

	assert_int_equal(set(f, 0, 0, GPA, SIZE, h), 0);
	assert_false(f->changed);
	/* Nothing to change. */
	assert_int_equal(set(f, 0, 0, GPA, SIZE, h), 0);
	assert_false(f->changed);
	/* What cannot change. */
	assert_int_equal(set(f, 0, 0, GPA, SIZE - PAGE_SIZE, h), -EINVAL);
	assert_int_equal(set(f, 0, 0, GPA, SIZE, h + PAGE_SIZE), -EINVAL);
	assert_int_equal(set(f, 0, MEM_READONLY, GPA, SIZE, h), -EINVAL);
	/* Overlap: by a page at either end, inside, around. */
	assert_int_equal(set(f, 1, 0, GPA - PAGE_SIZE, 2 * PAGE_SIZE, h), -EEXIST);
	assert_int_equal(set(f, 1, 0, GPA + SIZE - PAGE_SIZE, 2 * PAGE_SIZE, h), -EEXIST);
	assert_int_equal(set(f, 1, 0, GPA + PAGE_SIZE, PAGE_SIZE, h), -EEXIST);
	assert_int_equal(set(f, 1, 0, 0, 2 * GPA, h), -EEXIST);
	assert_int_equal(set(f, 1, 0, GPA - PAGE_SIZE, PAGE_SIZE, h), 0);
	assert_int_equal(set(f, 2, 0, GPA + SIZE, PAGE_SIZE, h), 0);
	/* The other address space is another world. */
	assert_int_equal(mem_set_region(f->m, 1, 0, 0, GPA, SIZE, h, false, &f->changed), 0);
	/* A move: onto itself by a page is stopped by the neighbour only. */
	assert_int_equal(set(f, 0, 0, GPA + PAGE_SIZE, SIZE, h), -EEXIST);
	assert_int_equal(set(f, 0, 0, GPA - PAGE_SIZE, SIZE, h), -EEXIST);
	assert_int_equal(set(f, 2, 0, 0, 0, 0), 0);
	assert_true(f->changed);
	assert_int_equal(set(f, 0, 0, GPA + PAGE_SIZE, SIZE, h), 0);
	assert_true(f->changed);
	assert_null(mem_find(f->m, 0, GPA));
	assert_non_null(mem_find(f->m, 0, GPA + SIZE));
	/* Flags: a new log needs a purge, its end does not. */
	assert_int_equal(set(f, 0, MEM_LOG_DIRTY, GPA + PAGE_SIZE, SIZE, h), 0);
	assert_true(f->changed);
	assert_int_equal(set(f, 0, 0, GPA + PAGE_SIZE, SIZE, h), 0);
	assert_false(f->changed);
	/* Delete, and delete again. */
	assert_int_equal(set(f, 0, 0, 0, 0, 0), 0);
	assert_int_equal(set(f, 0, 0, 0, 0, 0), -EINVAL);
	assert_null(mem_slot_by_id(f->m, 0, 0));
	assert_non_null(mem_slot_by_id(f->m, 1, 0));
	assert_null(mem_slot_by_id(f->m, 2, 0));
	assert_null(mem_slot_by_id(f->m, 0, MEM_USER_SLOTS));
	assert_null(mem_find(f->m, 2, GPA));
}

static void test_find(void **state)
{
	struct fixture *f = *state;
	const struct mem_slot *s;
	u64 left;

	/* Every other page of a stretch, entered in scrambled order. */
	for (u32 i = 0; i < 100; i++) {
		u32 k = i * 37 % 100;

		assert_int_equal(
			set(f, k, 0, GPA + k * 2 * PAGE_SIZE, PAGE_SIZE, f->hva + k * PAGE_SIZE),
			0);
	}
	for (u32 round = 0; round < 3; round++)
		for (u32 k = 0; k < 100; k++) {
			u64 gpa = GPA + k * 2 * PAGE_SIZE;

			s = mem_find(f->m, 0, gpa + 0xfff);
			assert_non_null(s);
			assert_int_equal(s->id, k);
			assert_ptr_equal(s, mem_slot_by_id(f->m, 0, k));
			assert_null(mem_find(f->m, 0, gpa + PAGE_SIZE));
			assert_ptr_equal(mem_host(f->m, 0, gpa + 16, &left),
					 f->ram + k * PAGE_SIZE + 16);
			assert_int_equal(left, PAGE_SIZE - 16);
		}
	assert_null(mem_find(f->m, 0, 0));
	assert_null(mem_find(f->m, 0, GPA - 1));
	assert_null(mem_find(f->m, 0, ~0ull));
	assert_null(mem_host(f->m, 0, 0, &left));
}

static void test_many(void **state)
{
	struct fixture *f = *state;

	for (u32 i = 0; i < MEM_USER_SLOTS; i++)
		assert_int_equal(set(f, i, 0, i * 2 * PAGE_SIZE, PAGE_SIZE, f->hva), 0);
	assert_int_equal(mem_find(f->m, 0, 12345 * 2 * PAGE_SIZE)->id, 12345);
	for (u32 i = 0; i < MEM_USER_SLOTS; i += 3)
		assert_int_equal(set(f, i, 0, 0, 0, 0), 0);
	assert_null(mem_find(f->m, 0, 12345 * 2 * PAGE_SIZE));
	assert_int_equal(mem_find(f->m, 0, 12346 * 2 * PAGE_SIZE)->id, 12346);
}

static void test_copy(void **state)
{
	struct fixture *f = *state;
	u8 buf[3 * PAGE_SIZE];

	set(f, 0, MEM_LOG_DIRTY, GPA, 4 * PAGE_SIZE, f->hva);
	set(f, 1, MEM_LOG_DIRTY, GPA + 4 * PAGE_SIZE, 4 * PAGE_SIZE, f->hva + 100 * PAGE_SIZE);
	set(f, 2, MEM_READONLY, GPA + 8 * PAGE_SIZE, PAGE_SIZE, f->hva + 50 * PAGE_SIZE);
	memset(buf, 0x5a, sizeof(buf));
	/* Over the border of two slots. */
	assert_int_equal(mem_write(f->m, 0, GPA + 3 * PAGE_SIZE - 8, buf, 2 * PAGE_SIZE), 0);
	assert_int_equal(f->ram[3 * PAGE_SIZE - 8], 0x5a);
	assert_int_equal(f->ram[3 * PAGE_SIZE - 9], 0);
	assert_int_equal(f->ram[101 * PAGE_SIZE - 9], 0x5a);
	assert_int_equal(f->ram[101 * PAGE_SIZE - 8], 0);
	assert_int_equal(mem_slot_by_id(f->m, 0, 0)->dirty[0], 0xc);
	assert_int_equal(mem_slot_by_id(f->m, 0, 1)->dirty[0], 0x1);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(mem_read(f->m, 0, GPA + 3 * PAGE_SIZE - 8, buf, 2 * PAGE_SIZE), 0);
	assert_int_equal(buf[0], 0x5a);
	assert_int_equal(buf[2 * PAGE_SIZE - 1], 0x5a);
	/* Read-only: to be read. A write that would end there writes nothing. */
	assert_int_equal(mem_read(f->m, 0, GPA + 8 * PAGE_SIZE, buf, 8), 0);
	assert_int_equal(mem_write(f->m, 0, GPA + 8 * PAGE_SIZE, buf, 8), -EFAULT);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(mem_write(f->m, 0, GPA + 8 * PAGE_SIZE - 8, buf, 16), -EFAULT);
	assert_int_equal(f->ram[104 * PAGE_SIZE - 8], 0);
	/* No RAM. */
	assert_int_equal(mem_read(f->m, 0, GPA + 9 * PAGE_SIZE - 4, buf, 8), -EFAULT);
	assert_int_equal(mem_read(f->m, 1, GPA, buf, 8), -EFAULT);
	assert_int_equal(mem_read(f->m, 0, GPA, buf, 0), 0);
}

static void test_dirty(void **state)
{
	struct fixture *f = *state;
	const struct mem_slot *s;
	u64 bm[4] = {1, 1, 1, 1}, clear[4] = {0};
	bool any = true;

	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 4, false, &any), -ENOENT);
	assert_int_equal(mem_dirty_get(f->m, 2, 0, bm, 4, false, &any), -EINVAL);
	assert_int_equal(mem_dirty_get(f->m, 0, MEM_USER_SLOTS, bm, 4, false, &any), -EINVAL);
	set(f, 0, 0, GPA, SIZE, f->hva);
	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 4, false, &any), -ENOENT);
	assert_int_equal(mem_dirty_pages(f->m, 0, 0), 0);
	mem_mark_dirty(mem_slot_by_id(f->m, 0, 0), GPA); /* no log: nothing */

	set(f, 0, MEM_LOG_DIRTY, GPA, SIZE, f->hva);
	assert_int_equal(mem_dirty_pages(f->m, 0, 0), PAGES);
	s = mem_slot_by_id(f->m, 0, 0);
	mem_mark_dirty(s, GPA);
	mem_mark_dirty(s, GPA + 64 * PAGE_SIZE + 5);
	mem_mark_dirty(s, GPA + SIZE - 1);
	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 3, false, &any), -EINVAL);
	/* Kept, then taken, then gone. */
	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 4, true, &any), 0);
	assert_true(any);
	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 4, false, &any), 0);
	assert_true(any);
	assert_int_equal(bm[0], 1);
	assert_int_equal(bm[1], 1);
	assert_int_equal(bm[2], 0);
	assert_int_equal(bm[3], BIT(199 % 64));
	assert_int_equal(mem_dirty_get(f->m, 0, 0, bm, 4, false, &any), 0);
	assert_false(any);
	assert_int_equal(bm[0] | bm[1] | bm[2] | bm[3], 0);

	/* Moving the slot keeps the log; so does a second version of it. */
	mem_mark_dirty(s, GPA + 7 * PAGE_SIZE);
	set(f, 0, MEM_LOG_DIRTY, 4 * GPA, SIZE, f->hva);
	mem_mark_dirty(mem_slot_by_id(f->m, 0, 0), 4 * GPA + 9 * PAGE_SIZE);
	mem_dirty_get(f->m, 0, 0, bm, 4, true, &any);
	assert_int_equal(bm[0], BIT(7) | BIT(9));

	/* Clearing: ranges are checked, only bits given go. */
	clear[0] = BIT(7) | BIT(8);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 1, 64, clear, &any), -EINVAL);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 0, 63, clear, &any), -EINVAL);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 256, 0, clear, &any), -EINVAL);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 192, 9, clear, &any), -EINVAL);
	assert_int_equal(mem_dirty_clear(f->m, 0, 1, 0, 64, clear, &any), -ENOENT);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 0, 64, clear, &any), 0);
	assert_true(any);
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 0, 64, clear, &any), 0);
	assert_false(any);
	mem_mark_dirty(mem_slot_by_id(f->m, 0, 0), 4 * GPA + 199 * PAGE_SIZE);
	clear[0] = ~0ull;
	assert_int_equal(mem_dirty_clear(f->m, 0, 0, 192, 8, clear, &any), 0);
	assert_true(any);
	mem_dirty_get(f->m, 0, 0, bm, 4, true, &any);
	assert_int_equal(bm[0], BIT(9));
	assert_int_equal(bm[3], 0);

	/* Off and on: a fresh log; or a full one, up to the last page only. */
	set(f, 0, 0, 4 * GPA, SIZE, f->hva);
	set(f, 0, MEM_LOG_DIRTY, 4 * GPA, SIZE, f->hva);
	mem_dirty_get(f->m, 0, 0, bm, 4, true, &any);
	assert_false(any);
	set(f, 0, 0, 4 * GPA, SIZE, f->hva);
	mem_set_region(f->m, 0, 0, MEM_LOG_DIRTY, 4 * GPA, SIZE, f->hva, true, &f->changed);
	mem_dirty_get(f->m, 0, 0, bm, 4, true, &any);
	assert_true(bm[0] == ~0ull && bm[2] == ~0ull);
	assert_int_equal(bm[3], 0xff);
}

static void test_attr(void **state)
{
	struct fixture *f = *state;
	u8 *a, *b;

	a = mem_attr(f->m, f->hva);
	assert_non_null(a);
	assert_int_equal(*a, 0);
	*a = MEM_ATTR_CODE;
	assert_ptr_equal(mem_attr(f->m, f->hva + 0xfff), a);
	assert_ptr_not_equal(mem_attr(f->m, f->hva + PAGE_SIZE), a);
	/* The ends of the address space, far apart; and past it. */
	b = mem_attr(f->m, 0);
	assert_non_null(b);
	*b = 2;
	assert_int_equal(*mem_attr(f->m, BIT64(57) - 1), 0);
	assert_int_equal(*mem_attr(f->m, BIT64(47) - PAGE_SIZE), 0);
	assert_null(mem_attr(f->m, BIT64(57)));
	assert_int_equal(*mem_attr(f->m, f->hva), MEM_ATTR_CODE);
	/* Two slots over the same memory agree. */
	set(f, 0, 0, GPA, SIZE, f->hva);
	set(f, 1, 0, 2 * GPA, SIZE, f->hva);
	assert_ptr_equal(mem_attr(f->m, (u64)mem_host(f->m, 0, GPA, NULL)),
			 mem_attr(f->m, (u64)mem_host(f->m, 0, 2 * GPA, NULL)));
}

#define LEAVES 2000

static u8 *attr_seen[4][LEAVES];
static pthread_barrier_t attr_barrier;

static void *attr_thread(void *arg)
{
	void **a = arg;
	struct fixture *f = a[0];

	pthread_barrier_wait(&attr_barrier);
	for (u64 i = 0; i < LEAVES; i++)
		((u8 **)a[1])[i] = mem_attr(f->m, i << 30);
	return NULL;
}

static void test_attr_threads(void **state)
{
	struct fixture *f = *state;
	void *args[4][2];
	pthread_t t[4];

	pthread_barrier_init(&attr_barrier, NULL, 4);
	for (int i = 0; i < 4; i++) {
		args[i][0] = f;
		args[i][1] = attr_seen[i];
		pthread_create(&t[i], NULL, attr_thread, args[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 1; i < 4; i++)
		assert_memory_equal(attr_seen[0], attr_seen[i], sizeof(attr_seen[0]));
}

/*
 * ---- Readers beside a writer ----
 */

static u32 stop, bad, logged, harvested;

/* Slot 0 lies at GPA or at 16*GPA; slot 1 never moves. */
static void *reader(void *arg)
{
	struct fixture *f = arg;
	struct av_epoch_reader r;
	u32 fails = 0;
	u64 left;

	av_epoch_add(&f->epoch, &r);
	while (!READ_ONCE(stop)) {
		av_epoch_online(&f->epoch, &r);
		for (u32 i = 0; i < 100; i++) {
			const struct mem_slot *s = mem_find(f->m, 0, GPA);
			u8 *h = mem_host(f->m, 0, 8 * GPA + PAGE_SIZE, &left);

			if (s && (s->gpa != GPA || s->hva != f->hva || s->id))
				fails++;
			if (h != f->ram + 101 * PAGE_SIZE)
				fails++;
			s = mem_find(f->m, 0, 16 * GPA + PAGE_SIZE);
			if (s && s->gpa != 16 * GPA)
				fails++;
			if (s)
				mem_mark_dirty(s, 16 * GPA + PAGE_SIZE);
			av_epoch_quiet(&f->epoch, &r);
		}
		av_epoch_offline(&r);
	}
	av_epoch_remove(&f->epoch, &r);
	__atomic_fetch_add(&bad, fails, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_readers(void **state)
{
	struct fixture *f = *state;
	pthread_t t[3];

	stop = bad = 0;
	set(f, 0, MEM_LOG_DIRTY, GPA, 4 * PAGE_SIZE, f->hva);
	set(f, 1, 0, 8 * GPA, 4 * PAGE_SIZE, f->hva + 100 * PAGE_SIZE);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, reader, f);
	for (u32 i = 0; i < 5000; i++) {
		assert_int_equal(
			set(f, 0, MEM_LOG_DIRTY, i % 2 ? GPA : 16 * GPA, 4 * PAGE_SIZE, f->hva), 0);
		if (i % 10 == 0) {
			assert_int_equal(set(f, 0, 0, 0, 0, 0), 0);
			assert_int_equal(set(f, 0, MEM_LOG_DIRTY, i % 2 ? GPA : 16 * GPA,
					     4 * PAGE_SIZE, f->hva),
					 0);
		}
	}
	WRITE_ONCE(stop, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(bad, 0);
}

/* Writers count the bits they turned from 0 to 1; the collector counts what it took. None is lost
 * or seen twice. */
static void *dirtier(void *arg)
{
	struct fixture *f = arg;
	const struct mem_slot *s = mem_slot_by_id(f->m, 0, 0);

	for (u32 i = 0; i < 20000; i++) {
		u64 page = i * 13 % PAGES, old;

		old = __atomic_fetch_or(&s->dirty[page / 64], BIT64(page % 64), __ATOMIC_SEQ_CST);
		if (!(old & BIT64(page % 64)))
			__atomic_fetch_add(&logged, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_fetch_add(&stop, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_dirty_threads(void **state)
{
	struct fixture *f = *state;
	u64 bm[4];
	pthread_t t[2];
	bool any, last = false;

	stop = logged = harvested = 0;
	set(f, 0, MEM_LOG_DIRTY, GPA, SIZE, f->hva);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, dirtier, f);
	while (!last) {
		last = __atomic_load_n(&stop, __ATOMIC_SEQ_CST) == 2;
		mem_dirty_get(f->m, 0, 0, bm, 4, false, &any);
		for (int i = 0; i < 4; i++)
			harvested += __builtin_popcountll(bm[i]);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(harvested, logged);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rules),	 TEST(test_find),    TEST(test_many),
		TEST(test_copy),	 TEST(test_dirty),   TEST(test_attr),
		TEST(test_attr_threads), TEST(test_readers), TEST(test_dirty_threads),
	};

	return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
