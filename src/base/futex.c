// SPDX-License-Identifier: MIT
/*
 * futex(2) and the clock. Knows nothing else.
 */
#include "base/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ull

int av_futex_wait(u32 *word, u32 expected, u64 deadline_ns)
{
	struct timespec ts = {
		.tv_sec = deadline_ns / NSEC_PER_SEC,
		.tv_nsec = deadline_ns % NSEC_PER_SEC,
	};
	int err = errno, ret;

	/*
	 * There is always a timeout, if only one in 584 years: without it the kernel restarts the
	 * wait by itself after an SA_RESTART handler, and the caller would never hear of the
	 * signal.
	 */
	ret = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, &ts, NULL,
		      FUTEX_BITSET_MATCH_ANY) < 0
		      ? -errno
		      : 0;
	errno = err;
	return ret;
}

void av_futex_wake(u32 *word, int n)
{
	int err = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
	errno = err;
}

u64 av_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}
