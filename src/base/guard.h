/* SPDX-License-Identifier: MIT */
/*
 * Touching memory that may not be there: the client's, which it can unmap or protect at any time.
 *
 * A fault inside these functions makes them return -EFAULT, provided that the process's fault
 * handler asks av_guard_fault() first. They know nothing of who owns the memory.
 */
#ifndef AV_BASE_GUARD_H
#define AV_BASE_GUARD_H

#include "base/base.h"

/* 0 or -EFAULT; then the first bytes may have been copied. */
int av_guard_copy(void *to, const void *from, size_t n) __must_check;
/* 1: equal, 0: not, -EFAULT. n is a multiple of 16. */
int av_guard_equal(const void *a, const void *b, size_t n) __must_check;

/* For the handler of SIGSEGV and SIGBUS: was it one of the above? Then they return when the handler
 * does. Async-signal-safe. */
bool av_guard_fault(void *ucontext);

#endif
