// SPDX-License-Identifier: MIT
/*
 * File descriptors: ioctl and mmap of our objects, and every way a number comes to be or goes away.
 */
#include "shim_priv.h"
#include "uapi/cancel.h"
#include "uapi/ioctl.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

AV_EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	struct uapi_cancel cancel;
	struct uapi_object *obj;
	va_list ap;
	void *arg;
	long ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	uapi_cancel_hold(&cancel);
	obj = uapi_get(fd);
	if (!obj) {
		uapi_cancel_release(&cancel);
		if (shim_next.ioctl)
			return shim_next.ioctl(fd, cmd, arg);
		return (int)shim_ret(sys(SYS_ioctl, fd, cmd, arg));
	}
	ret = uapi_ioctl(obj, cmd, (u64)arg);
	uapi_put(obj);
	uapi_cancel_release(&cancel);
	return (int)shim_ret(ret);
}

AV_EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	struct uapi_object *obj = fd < 0 || flags & MAP_ANONYMOUS ? NULL : uapi_get(fd);
	void *out = MAP_FAILED;
	long err;

	if (!obj) {
		if (shim_next.mmap)
			return shim_next.mmap(addr, len, prot, flags, fd, off);
		return (void *)shim_ret(sys(SYS_mmap, addr, len, prot, flags, fd, off));
	}
	err = uapi_mmap(obj, fd, addr, len, prot, flags, off, &out);
	uapi_put(obj);
	return err ? (void *)shim_ret(err) : out;
}
SHIM_ALIAS(mmap64, mmap);

AV_EXPORT int close(int fd)
{
	uapi_fd_closing(fd);
	return shim_next.close ? shim_next.close(fd) : (int)shim_ret(sys(SYS_close, fd));
}
SHIM_ALIAS(__close, close);

AV_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	/* With CLOEXEC nothing closes now; with UNSHARE it closes for this thread alone, and
	 * objects belong to the process. */
	if (!flags && first <= last)
		uapi_fds_closing(first, last);
	if (shim_next.close_range)
		return shim_next.close_range(first, last, flags);
	return (int)shim_ret(sys(SYS_close_range, first, last, flags));
}

AV_EXPORT void closefrom(int first)
{
	unsigned int from = first < 0 ? 0 : (unsigned int)first;

	uapi_fds_closing(from, ~0u);
	if (shim_next.closefrom)
		shim_next.closefrom(first);
	else
		sys(SYS_close_range, from, ~0u, 0);
}

AV_EXPORT int fclose(FILE *f)
{
	int saved = errno;

	if (!shim_next.fclose)
		shim_resolve();
	uapi_fd_closing(fileno(f));
	errno = saved;
	return shim_next.fclose(f);
}
SHIM_ALIAS(_IO_fclose, fclose);

static int duped(int oldfd, int newfd)
{
	if (newfd >= 0)
		uapi_fd_duped(oldfd, newfd);
	return newfd;
}

AV_EXPORT int dup(int fd)
{
	return duped(fd, shim_next.dup ? shim_next.dup(fd) : (int)shim_ret(sys(SYS_dup, fd)));
}

AV_EXPORT int dup2(int oldfd, int newfd)
{
	if (shim_next.dup2)
		return duped(oldfd, shim_next.dup2(oldfd, newfd));
	return duped(oldfd, (int)shim_ret(sys(SYS_dup2, oldfd, newfd)));
}
SHIM_ALIAS(__dup2, dup2);

AV_EXPORT int dup3(int oldfd, int newfd, int flags)
{
	if (shim_next.dup3)
		return duped(oldfd, shim_next.dup3(oldfd, newfd, flags));
	return duped(oldfd, (int)shim_ret(sys(SYS_dup3, oldfd, newfd, flags)));
}

AV_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = shim_next.fcntl ? shim_next.fcntl(fd, cmd, arg)
			      : (int)shim_ret(sys(SYS_fcntl, fd, cmd, arg));
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? duped(fd, ret) : ret;
}
SHIM_ALIAS(fcntl64, fcntl);
SHIM_ALIAS(__fcntl, fcntl);

static void received(const struct msghdr *msg)
{
	struct cmsghdr *c;

	if (!msg->msg_controllen)
		return;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		size_t i, n = c->cmsg_len < CMSG_LEN(0) ? 0
							: (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		const int *fds = (const int *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (i = 0; i < n; i++)
			uapi_fd_arrived(fds[i]);
	}
}

AV_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n;

	n = shim_next.recvmsg ? shim_next.recvmsg(fd, msg, flags)
			      : shim_ret(sys(SYS_recvmsg, fd, msg, flags));
	if (n >= 0)
		received(msg);
	return n;
}

AV_EXPORT int recvmmsg(int fd, struct mmsghdr *vec, unsigned int len, int flags,
		       struct timespec *timeout)
{
	int i, n;

	if (shim_next.recvmmsg)
		n = shim_next.recvmmsg(fd, vec, len, flags, timeout);
	else
		n = (int)shim_ret(sys(SYS_recvmmsg, fd, vec, len, flags, timeout));
	for (i = 0; i < n; i++)
		received(&vec[i].msg_hdr);
	return n;
}

AV_EXPORT int pidfd_getfd(int pidfd, int target, unsigned int flags)
{
	int fd = (int)shim_ret(sys(SYS_pidfd_getfd, pidfd, target, flags));

	if (fd >= 0)
		uapi_fd_arrived(fd);
	return fd;
}
