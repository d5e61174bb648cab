// SPDX-License-Identifier: MIT
/*
 * Thread cancellation, held off while a thread is inside one of our calls.
 *
 * Knows pthreads and nothing of what the calls do. Only threads with asynchronous cancellation are
 * listed, so for nearly all threads a call costs two changes of a word of their own. Both the state
 * and the type are changed: the C library's signal handler looks at the type alone.
 *
 * A cancellation that comes after the change is seen in the list. One that comes between the change
 * and the listing is seen by `cancels`, which is read before the one and after the other: then the
 * call is interrupted, perhaps for another thread's sake, which EINTR allows.
 */
#include "uapi/cancel.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct uapi_cancel *held;
static u32 cancels;
static __thread struct uapi_cancel *mine __attribute__((tls_model("initial-exec")));

void uapi_cancel_hold(struct uapi_cancel *c)
{
	u32 before = __atomic_load_n(&cancels, __ATOMIC_SEQ_CST);

	*c = (struct uapi_cancel){0};
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c->state);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &c->type);
	if (likely(c->type != PTHREAD_CANCEL_ASYNCHRONOUS || c->state != PTHREAD_CANCEL_ENABLE))
		return;
	c->thread = pthread_self();
	pthread_mutex_lock(&lock);
	c->next = held;
	held = c;
	c->cancelled = __atomic_load_n(&cancels, __ATOMIC_SEQ_CST) != before;
	pthread_mutex_unlock(&lock);
	mine = c;
}

static void unlist(struct uapi_cancel *c)
{
	struct uapi_cancel **p = &held;

	pthread_mutex_lock(&lock);
	while (*p && *p != c)
		p = &(*p)->next;
	if (*p)
		*p = c->next;
	pthread_mutex_unlock(&lock);
}

void uapi_cancel_release(struct uapi_cancel *c)
{
	if (mine == c) {
		mine = NULL;
		unlist(c);
	}
	pthread_setcancelstate(c->state, NULL);
	/* Here the thread ends, if it has been cancelled. The other order would too, but glibc's
	 * first call forgets the thread's result. */
	pthread_setcanceltype(c->type, NULL);
}

void uapi_cancel_watch(void (*interrupt)(void *arg), void *arg)
{
	bool cancelled;

	if (likely(!mine))
		return;
	pthread_mutex_lock(&lock);
	mine->interrupt = interrupt;
	mine->arg = arg;
	cancelled = mine->cancelled;
	pthread_mutex_unlock(&lock);
	if (cancelled)
		interrupt(arg);
}

void uapi_cancel_unwatch(void)
{
	if (likely(!mine))
		return;
	pthread_mutex_lock(&lock);
	mine->interrupt = NULL;
	pthread_mutex_unlock(&lock);
}

int uapi_thread_cancel(pthread_t thread, int (*cancel)(pthread_t thread))
{
	struct uapi_cancel *c;
	int err;

	__atomic_fetch_add(&cancels, 1, __ATOMIC_SEQ_CST);
	err = cancel(thread);
	__atomic_fetch_add(&cancels, 1, __ATOMIC_SEQ_CST);
	if (err)
		return err;
	pthread_mutex_lock(&lock);
	for (c = held; c; c = c->next) {
		if (!pthread_equal(c->thread, thread))
			continue;
		c->cancelled = true;
		if (c->interrupt)
			c->interrupt(c->arg);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

void uapi_cancel_after_fork_child(void)
{
	pthread_mutex_init(&lock, NULL);
	held = NULL;
}
