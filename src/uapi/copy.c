// SPDX-License-Identifier: MIT
/*
 * Copies to and from the client's memory that fail with -EFAULT and never with a signal.
 *
 * Two ways. Where our fault handlers stand: one instruction whose fault signals.c redirects, no
 * system call. Elsewhere: process_vm_readv/writev on ourselves; should a sandbox forbid those, the
 * handlers are installed after all.
 */
#include "uapi/ioctl.h"
#include "uapi/signals.h"
#include "uapi/sys.h"
#include "uapi/uapi_priv.h"

#include <errno.h>
#include <sys/uio.h>

/* Highest address a 64-bit process can have under five-level paging; the kernel refuses what is
 * beyond its own limit. */
#define USER_END BIT64(56)

/* rdi: to, rsi: from, rdx: length. 0, or 1 after a fault. */
int uapi_copy_guarded(void *to, const void *from, size_t len);

__asm__(".text\n"
	".p2align 4\n"
	".globl uapi_copy_guarded, uapi_copy_insn, uapi_copy_fault\n"
	".hidden uapi_copy_guarded, uapi_copy_insn, uapi_copy_fault\n"
	".type uapi_copy_guarded, @function\n"
	"uapi_copy_guarded:\n"
	"	mov %rdx, %rcx\n"
	"uapi_copy_insn:\n"
	"	rep movsb\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	"uapi_copy_fault:\n"
	"	mov $1, %eax\n"
	"	ret\n"
	".size uapi_copy_guarded, . - uapi_copy_guarded\n"
	".previous\n");

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
	return uapi_copy_guarded(to, from, len) ? -EFAULT : 0;
}

int uapi_copy_in(void *dst, u64 user, size_t len)
{
	return copy(SYS_process_vm_readv, dst, user, len);
}

int uapi_copy_out(u64 user, const void *src, size_t len)
{
	return copy(SYS_process_vm_writev, (void *)src, user, len);
}
