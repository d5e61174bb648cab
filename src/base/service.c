// SPDX-License-Identifier: MIT
/*
 * The two service threads: timers (a binary heap and a futex) and watched fds (epoll).
 *
 * Knows nothing of what the callbacks do. This is the one place below the device registry with
 * process-wide state.
 *
 * Each half has one lock, never held in a callback; the two are never nested except around fork(),
 * timers first. Raw system calls are used wherever the libc name may be our own shim's.
 */
#include "base/service.h"

#include "base/futex.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* So many timers need no memory beyond this file's: arming them makes no system call that a seccomp
 * filter could forbid. */
#define STATIC_TIMERS 2048
#define STACK_SIZE    (512 * 1024)

/* A callback in flight, and how to wait for its end. Belongs to one half's lock. */
struct flight {
	void *current; /* timer or watch whose callback runs now */
	u32 seq;       /* futex: counts ended callbacks while somebody waits */
	u32 waiters;
};

/* av_timer.running */
enum {
	TIMER_RUNNING = BIT(0),
	TIMER_BARRED = BIT(
		1), /* somebody waits for the end of the callback: it may not arm the timer again */
};

static struct {
	pthread_mutex_t lock;
	bool started;
	pthread_t thread;
	struct av_timer **heap; /* heap[1..n] */
	u32 n, cap;
	u32 wake; /* futex: changes when the thread must look at the heap again */
	struct flight flight;
	struct av_timer *first[STATIC_TIMERS + 1];
} T = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.heap = T.first,
	.cap = STATIC_TIMERS,
};

struct av_watch {
	int fd; /* our own duplicate */
	u32 slot;
	bool registered; /* false: a watch of the parent process */
	void (*ready)(void *arg, u32 events);
	void *arg;
};

struct watch_slot {
	struct av_watch *w;
	u32 gen; /* tells a stale event from one for the slot's present user */
};

static struct {
	pthread_mutex_t lock;
	bool started;
	pthread_t thread;
	int epfd;
	struct watch_slot *slots;
	u32 cap;
	struct flight flight;
} W = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.epfd = -1,
};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/*
 * ---- Shared by both halves ----
 */

static void flight_end(struct flight *f)
{
	f->current = NULL;
	if (f->waiters) {
		__atomic_fetch_add(&f->seq, 1, __ATOMIC_SEQ_CST);
		av_futex_wake(&f->seq, INT_MAX);
	}
}

/* Waits for the end of the present callback of `of`. Called and returns with the lock held. */
static void flight_wait(struct flight *f, void *of, pthread_mutex_t *lock)
{
	u32 seq;

	while (f->current == of) {
		f->waiters++;
		seq = f->seq;
		pthread_mutex_unlock(lock);
		av_futex_wait(&f->seq, seq, AV_NO_DEADLINE);
		pthread_mutex_lock(lock);
		f->waiters--;
	}
}

static void before_fork(void)
{
	pthread_mutex_lock(&T.lock);
	pthread_mutex_lock(&W.lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&W.lock);
	pthread_mutex_unlock(&T.lock);
}

static void after_fork_child(void)
{
	for (u32 i = 1; i <= T.n; i++)
		T.heap[i]->heap_pos = 0;
	if (T.flight.current)
		((struct av_timer *)T.flight.current)->running = 0;
	T.n = 0;
	T.started = false;
	memset(&T.flight, 0, sizeof(T.flight));

	/* The epoll instance is shared with the parent: forget it, and never change its set from
	 * here. */
	for (u32 i = 0; i < W.cap; i++) {
		if (W.slots[i].w)
			W.slots[i].w->registered = false;
		W.slots[i].w = NULL;
		W.slots[i].gen++;
	}
	if (W.epfd >= 0)
		syscall(SYS_close, W.epfd);
	W.epfd = -1;
	W.started = false;
	memset(&W.flight, 0, sizeof(W.flight));

	pthread_mutex_unlock(&W.lock);
	pthread_mutex_unlock(&T.lock);
}

static void register_fork(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* Starts a detached thread that takes no signals. 0 or -EAGAIN. */
static int start_thread(void *(*fn)(void *), pthread_t *out)
{
	u64 all = ~0ull, old;
	pthread_attr_t attr;
	int ret;

	/* libc's own signals below SIGRTMIN must get through: setuid() waits for every thread to
	 * answer one. */
	for (int sig = 32; sig < SIGRTMIN; sig++)
		all &= ~BIT64(sig - 1);
	if (pthread_attr_init(&attr))
		return -EAGAIN;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	ret = pthread_create(out, &attr, fn, NULL);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	pthread_attr_destroy(&attr);
	if (ret)
		av_error("service: no thread: %s", strerror(ret));
	return ret ? -EAGAIN : 0;
}

/*
 * ---- Timers ----
 */

static void heap_place(struct av_timer *t, u32 pos)
{
	T.heap[pos] = t;
	t->heap_pos = pos;
}

static void heap_up(struct av_timer *t, u32 pos)
{
	for (; pos > 1 && T.heap[pos / 2]->deadline_ns > t->deadline_ns; pos /= 2)
		heap_place(T.heap[pos / 2], pos);
	heap_place(t, pos);
}

static void heap_down(struct av_timer *t, u32 pos)
{
	u32 child;

	while ((child = pos * 2) <= T.n) {
		if (child < T.n && T.heap[child + 1]->deadline_ns < T.heap[child]->deadline_ns)
			child++;
		if (T.heap[child]->deadline_ns >= t->deadline_ns)
			break;
		heap_place(T.heap[child], pos);
		pos = child;
	}
	heap_place(t, pos);
}

static bool heap_remove(struct av_timer *t)
{
	u32 pos = t->heap_pos;
	struct av_timer *last;

	if (!pos)
		return false;
	t->heap_pos = 0;
	last = T.heap[T.n--];
	if (last == t)
		return true;
	if (pos > 1 && T.heap[pos / 2]->deadline_ns > last->deadline_ns)
		heap_up(last, pos);
	else
		heap_down(last, pos);
	return true;
}

static int heap_insert(struct av_timer *t)
{
	if (T.n == T.cap) {
		bool fixed = T.heap == T.first;
		struct av_timer **bigger;

		bigger = realloc(fixed ? NULL : T.heap, (T.cap * 2 + 1) * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		if (fixed)
			memcpy(bigger, T.first, sizeof(T.first));
		T.heap = bigger;
		T.cap *= 2;
	}
	heap_up(t, ++T.n);
	return 0;
}

static void *timer_thread(void *unused)
{
	struct av_timer *t;
	u64 deadline;
	u32 wake;

	prctl(PR_SET_NAME, "av-timer");
	/* The default slack of 50 us would be a guest's timer jitter. */
	prctl(PR_SET_TIMERSLACK, 1ul);
	pthread_mutex_lock(&T.lock);
	for (;;) {
		t = T.n ? T.heap[1] : NULL;
		if (t && t->deadline_ns <= av_now_ns()) {
			heap_remove(t);
			t->running = TIMER_RUNNING;
			T.flight.current = t;
			pthread_mutex_unlock(&T.lock);
			t->fire(t);
			pthread_mutex_lock(&T.lock);
			t->running = 0;
			flight_end(&T.flight);
			continue;
		}
		deadline = t ? t->deadline_ns : AV_NO_DEADLINE;
		wake = T.wake;
		pthread_mutex_unlock(&T.lock);
		av_futex_wait(&T.wake, wake, deadline);
		pthread_mutex_lock(&T.lock);
	}
	return NULL;
}

static int timers_start(void)
{
	int ret = 0;

	if (!T.started) {
		ret = start_thread(timer_thread, &T.thread);
		T.started = !ret;
	}
	return ret;
}

void av_timer_init(struct av_timer *t, void (*fire)(struct av_timer *t))
{
	memset(t, 0, sizeof(*t));
	t->fire = fire;
	pthread_once(&fork_once, register_fork);
	/* Early, so that arming needs no system call but futex; if there is no thread now, arming
	 * tries again. */
	pthread_mutex_lock(&T.lock);
	timers_start();
	pthread_mutex_unlock(&T.lock);
}

int av_timer_arm(struct av_timer *t, u64 deadline_ns)
{
	bool wake = false;
	int ret;

	pthread_mutex_lock(&T.lock);
	ret = timers_start();
	if (!ret && t->running & TIMER_BARRED) {
		pthread_mutex_unlock(&T.lock);
		return 0;
	}
	if (!ret) {
		heap_remove(t);
		t->deadline_ns = deadline_ns;
		ret = heap_insert(t);
	}
	if (!ret && T.heap[1] == t) {
		__atomic_fetch_add(&T.wake, 1, __ATOMIC_SEQ_CST);
		wake = !pthread_equal(T.thread, pthread_self());
	}
	pthread_mutex_unlock(&T.lock);
	if (wake)
		av_futex_wake(&T.wake, 1);
	return ret;
}

bool av_timer_cancel(struct av_timer *t, bool sync)
{
	bool armed;

	pthread_mutex_lock(&T.lock);
	armed = heap_remove(t);
	if (sync && t->running && !(T.started && pthread_equal(T.thread, pthread_self()))) {
		t->running |= TIMER_BARRED;
		flight_wait(&T.flight, t, &T.lock);
	}
	pthread_mutex_unlock(&T.lock);
	return armed;
}

/*
 * ---- Watches ----
 */

static u64 slot_key(u32 slot)
{
	return (u64)W.slots[slot].gen << 32 | slot;
}

static void *watch_thread(void *unused)
{
	struct epoll_event ev;
	struct av_watch *w;
	u32 slot;
	int n;

	prctl(PR_SET_NAME, "av-fd");
	for (;;) {
		n = syscall(SYS_epoll_wait, W.epfd, &ev, 1, -1);
		if (n != 1)
			continue;
		pthread_mutex_lock(&W.lock);
		slot = (u32)ev.data.u64;
		w = slot_key(slot) == ev.data.u64 ? W.slots[slot].w : NULL;
		W.flight.current = w;
		pthread_mutex_unlock(&W.lock);
		if (!w)
			continue;
		w->ready(w->arg, ev.events);
		pthread_mutex_lock(&W.lock);
		flight_end(&W.flight);
		pthread_mutex_unlock(&W.lock);
	}
	return NULL;
}

static int watches_start(void)
{
	int ret;

	if (W.epfd < 0) {
		W.epfd = syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
		if (W.epfd < 0)
			return -errno;
	}
	if (!W.started) {
		ret = start_thread(watch_thread, &W.thread);
		if (ret)
			return ret;
		W.started = true;
	}
	return 0;
}

static int slot_alloc(u32 *out)
{
	struct watch_slot *bigger;
	u32 i, cap;

	for (i = 0; i < W.cap; i++)
		if (!W.slots[i].w)
			break;
	if (i == W.cap) {
		cap = W.cap ? W.cap * 2 : 64;
		bigger = realloc(W.slots, cap * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		memset(bigger + W.cap, 0, (cap - W.cap) * sizeof(*bigger));
		W.slots = bigger;
		W.cap = cap;
	}
	*out = i;
	return 0;
}

static int watch_register(struct av_watch *w, u32 events)
{
	struct epoll_event ev = {.events = events};
	int ret;

	ret = watches_start();
	if (!ret)
		ret = slot_alloc(&w->slot);
	if (ret)
		return ret;
	ev.data.u64 = slot_key(w->slot);
	W.slots[w->slot].w = w;
	w->registered = true;
	if (syscall(SYS_epoll_ctl, W.epfd, EPOLL_CTL_ADD, w->fd, &ev) < 0) {
		ret = -errno;
		W.slots[w->slot].w = NULL;
	}
	return ret;
}

int av_watch_create(int fd, u32 events, void (*ready)(void *arg, u32 events), void *arg,
		    struct av_watch **out)
{
	int err = errno, ret;
	struct av_watch *w;

	pthread_once(&fork_once, register_fork);
	w = calloc(1, sizeof(*w));
	if (!w) {
		errno = err;
		return -ENOMEM;
	}
	w->ready = ready;
	w->arg = arg;
	w->fd = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (w->fd < 0) {
		ret = -errno;
		goto fail_free;
	}
	pthread_mutex_lock(&W.lock);
	ret = watch_register(w, events);
	pthread_mutex_unlock(&W.lock);
	if (ret)
		goto fail_close;
	*out = w;
	errno = err;
	return 0;

fail_close:
	syscall(SYS_close, w->fd);
fail_free:
	free(w);
	errno = err;
	return ret;
}

void av_watch_destroy(struct av_watch *w)
{
	int err = errno;

	if (!w)
		return;
	pthread_mutex_lock(&W.lock);
	if (w->registered) {
		syscall(SYS_epoll_ctl, W.epfd, EPOLL_CTL_DEL, w->fd, NULL);
		W.slots[w->slot].w = NULL;
		W.slots[w->slot].gen++;
		flight_wait(&W.flight, w, &W.lock);
	}
	pthread_mutex_unlock(&W.lock);
	syscall(SYS_close, w->fd);
	free(w);
	errno = err;
}
