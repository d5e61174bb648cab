// SPDX-License-Identifier: MIT
/*
 * Unit tests of base/: log, futex, epochs, service threads. Uses nothing above base.
 */
#include "base/epoch.h"
#include "base/futex.h"
#include "base/log.h"
#include "base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ull

/* True once *word >= want, false after 5 s. */
static bool reached(u32 *word, u32 want)
{
	u64 end = av_now_ns() + 5000 * MS;

	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) < want) {
		if (av_now_ns() > end)
			return false;
		usleep(200);
	}
	return true;
}

/*
 * ---- log ----
 */

static void test_log(void **state)
{
	char path[] = "/tmp/av-log-XXXXXX", spec[64], text[4096] = "", long_text[3000];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	/* Off: nothing happens, whatever the level. */
	unsetenv("ANYVISOR_LOG");
	av_log_init();
	assert_int_equal(av_log_limit, -1);
	av_error("nobody hears this");

	snprintf(spec, sizeof(spec), "%s:warn", path);
	setenv("ANYVISOR_LOG", spec, 1);
	av_log_init();
	assert_int_equal(av_log_limit, AV_LOG_WARN);
	errno = 77;
	av_warn("warned %d", 42);
	assert_int_equal(errno, 77);
	av_info("too quiet");
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = 0;
	av_error("%s", long_text);

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "warned 42\n"));
	assert_null(strstr(text, "too quiet"));
	assert_null(strstr(text, "nobody"));
	/* The overlong message is cut, on one line. */
	assert_non_null(strstr(text, "xxxx"));
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_true(strlen(text) < 1024 + 200);
	close(fd);
	unlink(path);
}

/*
 * ---- futex ----
 */

static u32 futex_word;

static void nothing(int sig)
{
}

static void *bump_later(void *arg)
{
	usleep(20000);
	__atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
	av_futex_wake(&futex_word, 1);
	return NULL;
}

static void *signal_later(void *arg)
{
	for (int i = 0; i < 50; i++) {
		usleep(10000);
		if (__atomic_load_n(&futex_word, __ATOMIC_SEQ_CST))
			break;
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

static void test_futex(void **state)
{
	struct sigaction sa = {.sa_handler = nothing, .sa_flags = SA_RESTART};
	pthread_t self = pthread_self(), t;
	u64 before;
	int ret;

	futex_word = 0;
	assert_int_equal(av_futex_wait(&futex_word, 1, AV_NO_DEADLINE), -EAGAIN);
	before = av_now_ns();
	assert_int_equal(av_futex_wait(&futex_word, 0, before + 20 * MS), -ETIMEDOUT);
	assert_true(av_now_ns() >= before + 20 * MS);
	assert_int_equal(av_futex_wait(&futex_word, 0, 0), -ETIMEDOUT);

	pthread_create(&t, NULL, bump_later, NULL);
	ret = av_futex_wait(&futex_word, 0, AV_NO_DEADLINE);
	assert_true(!ret || ret == -EAGAIN);
	pthread_join(t, NULL);

	/* A handler installed with SA_RESTART still ends the wait, with and without a deadline. */
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 2; i++) {
		futex_word = 0;
		pthread_create(&t, NULL, signal_later, &self);
		assert_int_equal(
			av_futex_wait(&futex_word, 0, i ? AV_NO_DEADLINE : av_now_ns() + 2000 * MS),
			-EINTR);
		__atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
		pthread_join(t, NULL);
	}
}

/*
 * ---- epochs ----
 */

struct thing {
	struct av_epoch_item item;
	u32 alive;
};

static u32 freed;

static void free_thing(struct av_epoch_item *item)
{
	struct thing *t = container_of(item, struct thing, item);

	t->alive = 0;
	__atomic_fetch_add(&freed, 1, __ATOMIC_SEQ_CST);
	free(t);
}

static struct thing *new_thing(void)
{
	struct thing *t = calloc(1, sizeof(*t));

	t->item.free = free_thing;
	t->alive = 0x600d;
	return t;
}

static void test_epoch(void **state)
{
	struct av_epoch_reader r1, r2;
	struct av_epoch e;

	av_epoch_init(&e);
	freed = 0;
	/* No readers: at once. */
	av_epoch_retire(&e, &new_thing()->item);
	assert_int_equal(freed, 1);
	assert_true(av_epoch_reclaim(&e));

	av_epoch_add(&e, &r1);
	av_epoch_add(&e, &r2);
	/* Offline readers hold nothing back. */
	av_epoch_retire(&e, &new_thing()->item);
	assert_int_equal(freed, 2);

	av_epoch_online(&e, &r1);
	av_epoch_online(&e, &r2);
	av_epoch_retire(&e, &new_thing()->item);
	assert_false(av_epoch_reclaim(&e));
	av_epoch_quiet(&e, &r1);
	assert_false(av_epoch_reclaim(&e));
	/* A second item after r1's quiet moment: r1 holds it, r2 holds both. */
	av_epoch_retire(&e, &new_thing()->item);
	av_epoch_offline(&r2);
	assert_false(av_epoch_reclaim(&e));
	assert_int_equal(freed, 3);
	av_epoch_quiet(&e, &r1);
	assert_true(av_epoch_reclaim(&e));
	assert_int_equal(freed, 4);

	/* A reader that comes online afterwards does not delay. */
	av_epoch_retire(&e, &new_thing()->item);
	av_epoch_online(&e, &r2);
	av_epoch_quiet(&e, &r1);
	assert_true(av_epoch_reclaim(&e));
	assert_int_equal(freed, 5);

	/* Leftovers go with the domain. */
	av_epoch_retire(&e, &new_thing()->item);
	assert_int_equal(freed, 5);
	av_epoch_remove(&e, &r1);
	av_epoch_remove(&e, &r2);
	av_epoch_destroy(&e);
	assert_int_equal(freed, 6);
}

static struct av_epoch race_epoch;
static struct thing *race_published;
static u32 race_stop, race_bad;

static void *race_reader(void *arg)
{
	struct av_epoch_reader r;

	av_epoch_add(&race_epoch, &r);
	while (!READ_ONCE(race_stop)) {
		av_epoch_online(&race_epoch, &r);
		for (int i = 0; i < 50; i++) {
			struct thing *t = __atomic_load_n(&race_published, __ATOMIC_ACQUIRE);

			for (int j = 0; j < 20; j++)
				if (READ_ONCE(t->alive) != 0x600d)
					__atomic_fetch_add(&race_bad, 1, __ATOMIC_SEQ_CST);
			av_epoch_quiet(&race_epoch, &r);
		}
		av_epoch_offline(&r);
	}
	av_epoch_remove(&race_epoch, &r);
	return NULL;
}

static void test_epoch_race(void **state)
{
	pthread_t t[3];

	av_epoch_init(&race_epoch);
	freed = race_stop = race_bad = 0;
	race_published = new_thing();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, race_reader, NULL);
	for (int i = 0; i < 20000; i++) {
		struct thing *old = race_published;

		__atomic_store_n(&race_published, new_thing(), __ATOMIC_RELEASE);
		av_epoch_retire(&race_epoch, &old->item);
	}
	WRITE_ONCE(race_stop, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(race_bad, 0);
	assert_true(av_epoch_reclaim(&race_epoch));
	assert_int_equal(freed, 20000);
	free(race_published);
	av_epoch_destroy(&race_epoch);
}

/*
 * ---- timers ----
 */

struct probe {
	struct av_timer timer;
	u32 fired, release, entered;
	u64 at;
	u32 order;
	bool rearm, blocked_signals;
};

static u32 next_order;

static void probe_fire(struct av_timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);
	sigset_t mask;

	p->at = av_now_ns();
	p->order = next_order++;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	p->blocked_signals = sigismember(&mask, SIGALRM) && sigismember(&mask, SIGUSR1) &&
			     sigismember(&mask, SIGRTMAX);
	if (p->rearm)
		av_timer_arm(t, av_now_ns());
	__atomic_fetch_add(&p->fired, 1, __ATOMIC_SEQ_CST);
}

static void slow_fire(struct av_timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	__atomic_store_n(&p->entered, 1, __ATOMIC_SEQ_CST);
	usleep(50000);
	av_timer_arm(t, av_now_ns() + 10 * MS);
	__atomic_fetch_add(&p->fired, 1, __ATOMIC_SEQ_CST);
}

static void test_timer(void **state)
{
	struct probe a = {0}, b = {0};
	u64 now = av_now_ns();

	av_timer_init(&a.timer, probe_fire);
	av_timer_init(&b.timer, probe_fire);
	next_order = 0;
	/* Idle: cancel says so. */
	assert_false(av_timer_cancel(&a.timer, true));

	/* A later timer first: arming the earlier one must wake the thread. */
	assert_int_equal(av_timer_arm(&b.timer, now + 60 * MS), 0);
	assert_int_equal(av_timer_arm(&a.timer, now + 20 * MS), 0);
	assert_true(reached(&a.fired, 1));
	assert_true(reached(&b.fired, 1));
	assert_true(a.at >= now + 20 * MS);
	assert_true(b.at >= now + 60 * MS);
	assert_int_equal(a.order, 0);
	assert_int_equal(b.order, 1);
	assert_true(a.blocked_signals);

	/* In the past: at once. */
	av_timer_arm(&a.timer, 0);
	assert_true(reached(&a.fired, 2));

	/* Cancelled and re-armed timers fire once at the new time only. */
	now = av_now_ns();
	av_timer_arm(&a.timer, now + 30 * MS);
	av_timer_arm(&a.timer, now + 80 * MS);
	av_timer_arm(&b.timer, now + 30 * MS);
	assert_true(av_timer_cancel(&b.timer, true));
	assert_false(av_timer_cancel(&b.timer, false));
	assert_true(reached(&a.fired, 3));
	av_timer_cancel(&a.timer, true);
	assert_true(a.at >= now + 80 * MS);
	assert_int_equal(b.fired, 1);
}

static void test_timer_sync_cancel(void **state)
{
	struct probe p = {0}, hot = {.rearm = true};

	av_timer_init(&p.timer, slow_fire);
	av_timer_arm(&p.timer, 0);
	assert_true(reached(&p.entered, 1));
	av_timer_cancel(&p.timer, true);
	/* Its callback has ended, and its attempt to arm itself again came to nothing. */
	assert_int_equal(p.fired, 1);
	usleep(30000);
	assert_int_equal(p.fired, 1);
	/* It is usable afterwards. */
	p.timer.fire = probe_fire;
	av_timer_arm(&p.timer, 0);
	assert_true(reached(&p.fired, 2));
	av_timer_cancel(&p.timer, true);

	/* A timer that arms itself for the past can be stopped. */
	av_timer_init(&hot.timer, probe_fire);
	av_timer_arm(&hot.timer, 0);
	assert_true(reached(&hot.fired, 100));
	av_timer_cancel(&hot.timer, true);
	u32 n = hot.fired;

	usleep(10000);
	assert_int_equal(hot.fired, n);
}

#define MANY 5000

static void test_timer_many(void **state)
{
	struct probe *p = calloc(MANY, sizeof(*p));
	u64 now = av_now_ns();

	/* More than the static heap holds, in scrambled order; every third is cancelled. */
	for (u32 i = 0; i < MANY; i++) {
		av_timer_init(&p[i].timer, probe_fire);
		assert_int_equal(
			av_timer_arm(&p[i].timer, now + 1000 * MS + (i * 7919ull % MANY) * 10000),
			0);
	}
	for (u32 i = 0; i < MANY; i += 3)
		av_timer_cancel(&p[i].timer, true);
	for (u32 i = 0; i < MANY; i++) {
		if (i % 3)
			assert_true(reached(&p[i].fired, 1));
		assert_true(!p[i].fired ||
			    p[i].at >= now + 1000 * MS + (i * 7919ull % MANY) * 10000);
	}
	/* Nothing was cancelled late: the deadlines lie 1 s ahead, so only a stalled host lets one
	 * through. */
	for (u32 i = 0; i < MANY; i++) {
		av_timer_cancel(&p[i].timer, true);
		assert_int_equal(p[i].fired, i % 3 ? 1 : 0);
	}
	free(p);
}

static void *churn(void *arg)
{
	struct probe p = {0};

	av_timer_init(&p.timer, probe_fire);
	for (u32 i = 0; i < 3000; i++) {
		av_timer_arm(&p.timer, av_now_ns() + (i % 5) * 20000);
		if (i % 3 == 0)
			av_timer_cancel(&p.timer, i % 2);
	}
	av_timer_cancel(&p.timer, true);
	return NULL;
}

static void test_timer_threads(void **state)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, churn, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/*
 * ---- watches ----
 */

struct eye {
	int fd;
	u32 seen, entered, slow;
};

static void eye_ready(void *arg, u32 events)
{
	struct eye *e = arg;
	u64 v;

	__atomic_store_n(&e->entered, 1, __ATOMIC_SEQ_CST);
	if (READ_ONCE(e->slow))
		usleep(50000);
	if (events & EPOLLIN && read(e->fd, &v, 8) == 8)
		__atomic_fetch_add(&e->seen, v, __ATOMIC_SEQ_CST);
}

static void test_watch(void **state)
{
	struct eye e = {.fd = eventfd(0, EFD_NONBLOCK)};
	int file = open("/proc/self/exe", O_RDONLY), kept = e.fd;
	struct av_watch *w = NULL, *w2;
	u64 one = 1;

	assert_int_equal(av_watch_create(-1, EPOLLIN, eye_ready, &e, &w), -EBADF);
	assert_int_equal(av_watch_create(file, EPOLLIN, eye_ready, &e, &w), -EPERM);
	close(file);
	av_watch_destroy(NULL);

	assert_int_equal(av_watch_create(e.fd, EPOLLIN, eye_ready, &e, &w), 0);
	for (u32 i = 1; i <= 100; i++) {
		assert_int_equal(write(kept, &one, 8), 8);
		assert_true(reached(&e.seen, i));
	}
	/* Two watches on one fd are allowed. */
	assert_int_equal(av_watch_create(e.fd, EPOLLIN, eye_ready, &e, &w2), 0);
	av_watch_destroy(w2);

	/* destroy waits for the callback. */
	WRITE_ONCE(e.slow, 1);
	WRITE_ONCE(e.entered, 0);
	assert_int_equal(write(kept, &one, 8), 8);
	assert_true(reached(&e.entered, 1));
	av_watch_destroy(w);
	assert_int_equal(e.seen, 101);
	/* And nothing is watched afterwards. */
	assert_int_equal(write(kept, &one, 8), 8);
	usleep(20000);
	assert_int_equal(e.seen, 101);
	close(kept);
}

static void test_watch_many(void **state)
{
	struct eye e[200] = {0};
	struct av_watch *w[200];
	u64 one = 1;

	for (int i = 0; i < 200; i++) {
		e[i].fd = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(av_watch_create(e[i].fd, EPOLLIN, eye_ready, &e[i], &w[i]), 0);
	}
	for (int i = 0; i < 200; i += 2)
		av_watch_destroy(w[i]);
	for (int i = 0; i < 200; i++)
		assert_int_equal(write(e[i].fd, &one, 8), 8);
	for (int i = 1; i < 200; i += 2)
		assert_true(reached(&e[i].seen, 1));
	for (int i = 0; i < 200; i++) {
		if (i % 2)
			av_watch_destroy(w[i]);
		else
			assert_int_equal(e[i].seen, 0);
		close(e[i].fd);
	}
}

/* The child has no threads of the parent's, and starts its own when it needs them. */
static int child_side(struct probe *inherited, struct av_watch *w, struct eye *e)
{
	struct av_watch *mine;
	struct probe p = {0};
	struct eye own = {.fd = eventfd(0, EFD_NONBLOCK)};
	u64 one = 1;

	av_timer_init(&p.timer, probe_fire);
	if (av_timer_arm(&p.timer, av_now_ns() + 10 * MS) || !reached(&p.fired, 1))
		return 1;
	/* The parent's timer is not armed here, but may be used. */
	if (av_timer_cancel(&inherited->timer, true))
		return 2;
	if (inherited->fired)
		return 3;
	if (av_timer_arm(&inherited->timer, 0) || !reached(&inherited->fired, 1))
		return 4;
	av_watch_destroy(w);
	if (av_watch_create(own.fd, EPOLLIN, eye_ready, &own, &mine))
		return 5;
	if (write(own.fd, &one, 8) != 8 || !reached(&own.seen, 1))
		return 6;
	av_watch_destroy(mine);
	av_timer_cancel(&p.timer, true);
	return e->seen ? 7 : 0;
}

static void test_fork(void **state)
{
	struct eye e = {.fd = eventfd(0, EFD_NONBLOCK)};
	struct probe p = {0};
	struct av_watch *w;
	u64 one = 1;
	int status;
	pid_t pid;

	av_timer_init(&p.timer, probe_fire);
	av_timer_arm(&p.timer, av_now_ns() + 600 * MS);
	assert_int_equal(av_watch_create(e.fd, EPOLLIN, eye_ready, &e, &w), 0);
	pid = fork();
	if (!pid)
		_exit(child_side(&p, w, &e));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* The child's destroy did not take the parent's watch away. */
	assert_int_equal(write(e.fd, &one, 8), 8);
	assert_true(reached(&e.seen, 1));
	assert_true(reached(&p.fired, 1));
	av_timer_cancel(&p.timer, true);
	av_watch_destroy(w);
	close(e.fd);
}

/* setuid() signals every thread and waits for the answers: it would hang if ours blocked libc's
 * signals. */
static void test_setuid(void **state)
{
	assert_int_equal(setuid(getuid()), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log),	   cmocka_unit_test(test_futex),
		cmocka_unit_test(test_epoch),	   cmocka_unit_test(test_epoch_race),
		cmocka_unit_test(test_timer),	   cmocka_unit_test(test_timer_sync_cancel),
		cmocka_unit_test(test_timer_many), cmocka_unit_test(test_timer_threads),
		cmocka_unit_test(test_watch),	   cmocka_unit_test(test_watch_many),
		cmocka_unit_test(test_fork),	   cmocka_unit_test(test_setuid),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
