/* SPDX-License-Identifier: MIT */
/*
 * The process's service threads: one sleeps on a futex for the nearest timer, one in epoll for watched fds
 * (irqfd). Both start with the first user, block all signals, and are started anew in a forked child on its
 * first use (a fork copies no thread; timers and watches of the parent are dropped in the child).
 *
 * Callbacks run on a service thread, one at a time per thread, with no lock of this file held. They must not
 * block for long and must not destroy their own timer or watch. All functions may be called from any thread;
 * arming or cancelling a timer makes no system call but futex(2).
 */
#ifndef AV_BASE_SERVICE_H
#define AV_BASE_SERVICE_H

#include "base/base.h"

struct av_timer {
	void (*fire)(struct av_timer *t);
	u64 deadline_ns; /* owned by service.c */
	u32 heap_pos;	 /* owned by service.c: 1-based place in the heap, 0 when idle */
	u32 running;	 /* owned by service.c */
};

/* Prepares a timer; it is idle. */
void av_timer_init(struct av_timer *t, void (*fire)(struct av_timer *t));
/*
 * (Re)arms t for the absolute CLOCK_MONOTONIC time; a time in the past fires at once (on the service thread).
 * Returns 0 or -ENOMEM / -EAGAIN (no thread could be made).
 */
int av_timer_arm(struct av_timer *t, u64 deadline_ns);
/* Disarms t. With sync, also waits for a callback of t that is running elsewhere; returns true if t was armed. */
bool av_timer_cancel(struct av_timer *t, bool sync);

struct av_watch;
/*
 * Calls ready(arg, events) on the fd thread whenever the fd shows one of the epoll events (level-triggered unless
 * EPOLLET is given). The fd stays the caller's. *out is the caller's until av_watch_destroy().
 * Returns 0, -ENOMEM, -EBADF, -EPERM (fd cannot be polled), -EEXIST never (fd is dup'ed inside).
 */
int av_watch_create(int fd, u32 events, void (*ready)(void *arg, u32 events), void *arg,
		    struct av_watch **out);
/* Stops watching and waits until no callback of w runs. NULL is allowed. Not from inside its own callback. */
void av_watch_destroy(struct av_watch *w);

#endif
