/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking on a 32-bit word (futex(2), private to the process), and the monotonic clock.
 *
 * These are the only blocking calls a vCPU thread makes in steady state.
 */
#ifndef AV_BASE_FUTEX_H
#define AV_BASE_FUTEX_H

#include "base/base.h"

#define AV_NO_DEADLINE UINT64_MAX

/*
 * Sleeps while *word == expected, until woken, a signal arrives, or the absolute CLOCK_MONOTONIC deadline
 * (in ns; AV_NO_DEADLINE: none) has passed.
 * Returns 0 (woken), -EAGAIN (*word differed), -EINTR, or -ETIMEDOUT.
 */
int av_futex_wait(u32 *word, u32 expected, u64 deadline_ns);
/* Wakes at most n sleepers of word. Async-signal-safe. */
void av_futex_wake(u32 *word, int n);

/* CLOCK_MONOTONIC in nanoseconds. */
u64 av_now_ns(void);

#endif
