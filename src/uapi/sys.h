/* SPDX-License-Identifier: MIT */
/*
 * System calls made directly, past libc and past the names that the shim interposes (syscall(2) is
 * one of them).
 *
 * Nothing here touches errno: results are the kernel's own, negative errno on failure.
 * Async-signal-safe. The one place that knows the host's calling convention.
 */
#ifndef AV_UAPI_SYS_H
#define AV_UAPI_SYS_H

#include <sys/syscall.h>

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS_SIX(a, b, c, d, e, f, ...)                                                             \
	(long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
/* sys(SYS_close, fd): missing arguments are 0. */
#define sys(nr, ...) sys6((nr), SYS_SIX(__VA_ARGS__, 0, 0, 0, 0, 0, 0))

#endif
