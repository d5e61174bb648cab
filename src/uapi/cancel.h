/* SPDX-License-Identifier: MIT */
/*
 * Thread cancellation, held off while a thread is inside one of our calls.
 *
 * A thread with asynchronous cancellation may be ended at any instruction. Inside an ioctl of the
 * kernel's that cannot happen: the call is interrupted, returns, and then the thread ends. Here it
 * is the same: in between the thread cannot be cancelled, and a cancellation that comes meanwhile
 * interrupts a guest as a signal does.
 */
#ifndef AV_UAPI_CANCEL_H
#define AV_UAPI_CANCEL_H

#include "base/base.h"

#include <pthread.h>

/* Lives in the caller's frame from hold to release. */
struct uapi_cancel {
	struct uapi_cancel *next;
	pthread_t thread;
	void (*interrupt)(void *arg); /* under the list's lock */
	void *arg;
	int state, type; /* the thread's own */
	bool cancelled;
};

/* Around a call; they nest. release() may not return: nothing may be held any more. */
void uapi_cancel_hold(struct uapi_cancel *c);
void uapi_cancel_release(struct uapi_cancel *c);
/* While the call waits or runs a guest, interrupt(arg) is called once its thread is cancelled, from
 * any thread, or at once if it has been. */
void uapi_cancel_watch(void (*interrupt)(void *arg), void *arg);
void uapi_cancel_unwatch(void);

/* pthread_cancel(3) by means of the C library's own; an errno. */
int uapi_thread_cancel(pthread_t thread, int (*cancel)(pthread_t thread));
/* In a forked child the other threads are gone. */
void uapi_cancel_after_fork_child(void);

#endif
