// SPDX-License-Identifier: MIT
/*
 * Copies to and from the client's memory that fail with -EFAULT and never with a signal.
 *
 * Two ways. Where our fault handlers stand: base/guard.h, no system call. Elsewhere:
 * process_vm_readv/writev on ourselves; should a sandbox forbid those, the handlers are installed
 * after all.
 */
#include "base/guard.h"
#include "uapi/ioctl.h"
#include "uapi/signals.h"
#include "uapi/sys.h"

#include <errno.h>
#include <sys/uio.h>

/* Highest address a 64-bit process can have under five-level paging; the kernel refuses what is
 * beyond its own limit. */
#define USER_END BIT64(56)

static int copy(long nr, void *ours, u64 user, size_t len)
{
	struct iovec local = {ours, len}, remote = {(void *)user, len};
	void *to = nr == SYS_process_vm_readv ? ours : (void *)user;
	const void *from = nr == SYS_process_vm_readv ? (void *)user : ours;
	long n;

	if (!len)
		return 0;
	if (user >= USER_END || len > USER_END - user)
		return -EFAULT;
	if (!uapi_faults_caught()) {
		n = sys(nr, sys(SYS_getpid, 0), &local, 1, &remote, 1, 0);
		if (n >= 0)
			return (size_t)n == len ? 0 : -EFAULT;
		if ((n != -ENOSYS && n != -EPERM) || uapi_signals_init(NULL))
			return -EFAULT;
	}
	return av_guard_copy(to, from, len);
}

int uapi_copy_in(void *dst, u64 user, size_t len)
{
	return copy(SYS_process_vm_readv, dst, user, len);
}

int uapi_copy_out(u64 user, const void *src, size_t len)
{
	return copy(SYS_process_vm_writev, (void *)src, user, len);
}
