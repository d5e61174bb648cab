// SPDX-License-Identifier: MIT
/*
 * The open family: device paths go to devices.c, everything else to libc.
 */
#include "shim_priv.h"

/* O_TMPFILE contains O_DIRECTORY's bit, so compare all of it. */
static bool has_mode(int oflags)
{
	return oflags & O_CREAT || (oflags & O_TMPFILE) == O_TMPFILE;
}

static const struct av_device *device_to_open(int dirfd, const char *path, int oflags)
{
	/* An O_PATH descriptor is a place in the file system, not an open device. */
	return oflags & O_PATH ? NULL : av_device_find_at(dirfd, path);
}

/* /proc/self/fd/N and /dev/fd/N open one of our files anew. */
static int opened(const char *path, int fd)
{
	if (fd >= 0)
		uapi_fd_arrived(fd);
	return fd;
}

static int open_common(int dirfd, const char *path, int oflags, mode_t mode)
{
	const struct av_device *dev = device_to_open(dirfd, path, oflags);

	if (unlikely(dev))
		return (int)shim_ret(av_device_open(dev, oflags));
	if (dirfd == AT_FDCWD && shim_next.open)
		return opened(path, shim_next.open(path, oflags, mode));
	if (shim_next.openat)
		return opened(path, shim_next.openat(dirfd, path, oflags, mode));
	return opened(path, (int)shim_ret(sys(SYS_openat, dirfd, path, oflags, mode)));
}

AV_EXPORT int open(const char *path, int oflags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (has_mode(oflags)) {
		va_start(ap, oflags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return open_common(AT_FDCWD, path, oflags, mode);
}
SHIM_ALIAS(open64, open);
SHIM_ALIAS(__open, open);
SHIM_ALIAS(__open64, open);

AV_EXPORT int openat(int dirfd, const char *path, int oflags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (has_mode(oflags)) {
		va_start(ap, oflags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return open_common(dirfd, path, oflags, mode);
}
SHIM_ALIAS(openat64, openat);

/* The fortified forms are for calls without a mode. */
AV_EXPORT int __open_2(const char *path, int oflags)
{
	return open_common(AT_FDCWD, path, oflags, 0);
}
SHIM_ALIAS(__open64_2, __open_2);

AV_EXPORT int __openat_2(int dirfd, const char *path, int oflags)
{
	return open_common(dirfd, path, oflags, 0);
}
SHIM_ALIAS(__openat64_2, __openat_2);

AV_EXPORT int creat(const char *path, mode_t mode)
{
	return open_common(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
SHIM_ALIAS(creat64, creat);
