// SPDX-License-Identifier: MIT
/*
 * syscall(2), the libc function: numbers that touch devices, fds or signals go to the hooks of
 * their libc names.
 *
 * All others are made without using the stack, as libc's own does it: a clone may return on another
 * one.
 */
#include "shim_priv.h"
#include "uapi/signals.h"

#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

typedef long hook(const long *a);

static long on_open(const long *a)
{
	return open((char *)a[0], (int)a[1], (mode_t)a[2]);
}

static long on_openat(const long *a)
{
	return openat((int)a[0], (char *)a[1], (int)a[2], (mode_t)a[3]);
}

static long on_openat2(const long *a)
{
	const struct open_how *how = (void *)a[2];
	const struct av_device *dev = av_device_find_at((int)a[0], (char *)a[1]);
	long fd;

	if (dev && !(how->flags & O_PATH))
		return shim_ret(av_device_open(dev, (int)how->flags));
	fd = shim_ret(sys(SYS_openat2, a[0], a[1], a[2], a[3]));
	if (fd >= 0)
		uapi_fd_arrived((int)fd);
	return fd;
}

static long on_creat(const long *a)
{
	return creat((char *)a[0], (mode_t)a[1]);
}

static long on_close(const long *a)
{
	return close((int)a[0]);
}

static long on_close_range(const long *a)
{
	return close_range((unsigned int)a[0], (unsigned int)a[1], (int)a[2]);
}

static long on_ioctl(const long *a)
{
	return ioctl((int)a[0], (unsigned long)a[1], a[2]);
}

static long on_mmap(const long *a)
{
	return (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
}

static long on_dup(const long *a)
{
	return dup((int)a[0]);
}

static long on_dup2(const long *a)
{
	return dup2((int)a[0], (int)a[1]);
}

static long on_dup3(const long *a)
{
	return dup3((int)a[0], (int)a[1], (int)a[2]);
}

static long on_fcntl(const long *a)
{
	return fcntl((int)a[0], (int)a[1], a[2]);
}

static long on_recvmsg(const long *a)
{
	return recvmsg((int)a[0], (struct msghdr *)a[1], (int)a[2]);
}

static long on_recvmmsg(const long *a)
{
	return recvmmsg((int)a[0], (struct mmsghdr *)a[1], (unsigned int)a[2], (int)a[3],
			(struct timespec *)a[4]);
}

static long on_pidfd_getfd(const long *a)
{
	long fd = shim_ret(sys(SYS_pidfd_getfd, a[0], a[1], a[2]));

	if (fd >= 0)
		uapi_fd_arrived((int)fd);
	return fd;
}

static long on_stat(const long *a)
{
	return stat((char *)a[0], (struct stat *)a[1]);
}

static long on_lstat(const long *a)
{
	return lstat((char *)a[0], (struct stat *)a[1]);
}

static long on_newfstatat(const long *a)
{
	return fstatat((int)a[0], (char *)a[1], (struct stat *)a[2], (int)a[3]);
}

static long on_statx(const long *a)
{
	return statx((int)a[0], (char *)a[1], (int)a[2], (unsigned int)a[3], (struct statx *)a[4]);
}

static long on_access(const long *a)
{
	return access((char *)a[0], (int)a[1]);
}

static long on_faccessat(const long *a)
{
	return faccessat((int)a[0], (char *)a[1], (int)a[2], 0);
}

static long on_faccessat2(const long *a)
{
	return faccessat((int)a[0], (char *)a[1], (int)a[2], (int)a[3]);
}

/* The kernel's struct, as a client that bypasses sigaction(3) fills it in. */
struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	u64 mask;
};

static long on_rt_sigaction(const long *a)
{
	const struct kernel_action *kact = (void *)a[1];
	struct kernel_action *kold = (void *)a[2];
	struct sigaction act, old;
	long ret;

	if (a[3] != sizeof(u64))
		return shim_ret(-EINVAL);
	memset(&act, 0, sizeof(act));
	if (kact) {
		act.sa_handler = (void (*)(int))kact->handler;
		act.sa_flags = (int)kact->flags;
		memcpy(&act.sa_mask, &kact->mask, sizeof(kact->mask));
	}
	ret = shim_ret(uapi_sigaction((int)a[0], kact ? &act : NULL, kold ? &old : NULL));
	if (!ret && kold) {
		kold->handler = (void *)old.sa_handler;
		kold->flags = (u32)old.sa_flags;
		kold->restorer = (void *)old.sa_restorer;
		memcpy(&kold->mask, &old.sa_mask, sizeof(kold->mask));
	}
	return ret;
}

static long on_rt_sigprocmask(const long *a)
{
	sigset_t set, old;
	long ret;

	if (a[3] != sizeof(u64))
		return shim_ret(-EINVAL);
	sigemptyset(&set);
	if (a[1])
		memcpy(&set, (void *)a[1], sizeof(u64));
	ret = shim_ret(uapi_sigmask((int)a[0], a[1] ? &set : NULL, &old));
	if (!ret && a[2])
		memcpy((void *)a[2], &old, sizeof(u64));
	return ret;
}

#define SYS_HOOKS 512

/* Indexed by system call number; read by the assembly below. */
__attribute__((visibility("hidden"), used)) hook *const shim_sys_hooks[SYS_HOOKS] = {
	[SYS_open] = on_open,
	[SYS_openat] = on_openat,
	[SYS_openat2] = on_openat2,
	[SYS_creat] = on_creat,
	[SYS_close] = on_close,
	[SYS_close_range] = on_close_range,
	[SYS_ioctl] = on_ioctl,
	[SYS_mmap] = on_mmap,
	[SYS_dup] = on_dup,
	[SYS_dup2] = on_dup2,
	[SYS_dup3] = on_dup3,
	[SYS_fcntl] = on_fcntl,
	[SYS_recvmsg] = on_recvmsg,
	[SYS_recvmmsg] = on_recvmmsg,
	[SYS_pidfd_getfd] = on_pidfd_getfd,
	[SYS_stat] = on_stat,
	[SYS_lstat] = on_lstat,
	[SYS_newfstatat] = on_newfstatat,
	[SYS_statx] = on_statx,
	[SYS_access] = on_access,
	[SYS_faccessat] = on_faccessat,
	[SYS_faccessat2] = on_faccessat2,
	[SYS_rt_sigaction] = on_rt_sigaction,
	[SYS_rt_sigprocmask] = on_rt_sigprocmask,
};

__attribute__((visibility("hidden"), used)) long shim_syscall_hooked(long nr, long a, long b,
								     long c, long d, long e, long f)
{
	const long args[6] = {a, b, c, d, e, f};

	return shim_sys_hooks[nr](args);
}

__attribute__((visibility("hidden"), used)) long shim_syscall_failed(long ret)
{
	return shim_ret(ret);
}

/* 4096 bytes of table: SYS_HOOKS pointers. The seventh argument is found on the stack in both
 * conventions. */
_Static_assert(SYS_HOOKS == 512, "the comparison below");
__asm__(".text\n"
	".p2align 4\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	cmp $512, %rdi\n"
	"	jae 1f\n"
	"	lea shim_sys_hooks(%rip), %rax\n"
	"	cmpq $0, (%rax,%rdi,8)\n"
	"	jne shim_syscall_hooked\n"
	"1:	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 2f\n"
	"	ret\n"
	"2:	mov %rax, %rdi\n"
	"	jmp shim_syscall_failed\n"
	".size syscall, . - syscall\n"
	".previous\n");
