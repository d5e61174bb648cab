// SPDX-License-Identifier: MIT
/*
 * What the file system shows of our devices: a character device that everybody may open, whatever
 * the host has there.
 */
#include "shim_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define DEVICE_MODE (S_IFCHR | 0666)

static int next_stat(const char *path, struct stat *st)
{
	return shim_next.stat ? shim_next.stat(path, st)
			      : (int)shim_ret(sys(SYS_newfstatat, AT_FDCWD, path, st, 0));
}

/* Starts from what the host has at that place, else from the directory it would be in. */
static int device_stat(const struct av_device *dev, struct stat *st)
{
	if (sys(SYS_newfstatat, AT_FDCWD, dev->path, st, 0)) {
		if (sys(SYS_newfstatat, AT_FDCWD, "/dev", st, 0))
			memset(st, 0, sizeof(*st));
		/* No file of that directory: a number that the file systems of /dev do not give
		 * out. */
		st->st_ino = ~0ull - makedev(dev->major, dev->minor);
	}
	st->st_mode = DEVICE_MODE;
	st->st_nlink = 1;
	st->st_rdev = makedev(dev->major, dev->minor);
	st->st_size = 0;
	st->st_blocks = 0;
	return 0;
}

static int device_statx(const struct av_device *dev, struct statx *stx)
{
	struct stat st;

	device_stat(dev, &st);
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = STATX_BASIC_STATS;
	stx->stx_blksize = (u32)st.st_blksize;
	stx->stx_nlink = 1;
	stx->stx_uid = st.st_uid;
	stx->stx_gid = st.st_gid;
	stx->stx_mode = DEVICE_MODE;
	stx->stx_ino = st.st_ino;
	stx->stx_atime.tv_sec = st.st_atim.tv_sec;
	stx->stx_atime.tv_nsec = (u32)st.st_atim.tv_nsec;
	stx->stx_mtime.tv_sec = st.st_mtim.tv_sec;
	stx->stx_mtime.tv_nsec = (u32)st.st_mtim.tv_nsec;
	stx->stx_ctime.tv_sec = st.st_ctim.tv_sec;
	stx->stx_ctime.tv_nsec = (u32)st.st_ctim.tv_nsec;
	stx->stx_rdev_major = dev->major;
	stx->stx_rdev_minor = dev->minor;
	stx->stx_dev_major = major(st.st_dev);
	stx->stx_dev_minor = minor(st.st_dev);
	return 0;
}

AV_EXPORT int stat(const char *path, struct stat *st)
{
	const struct av_device *dev = av_device_find_at(AT_FDCWD, path);

	return unlikely(dev) ? device_stat(dev, st) : next_stat(path, st);
}
SHIM_ALIAS(stat64, stat);

AV_EXPORT int lstat(const char *path, struct stat *st)
{
	const struct av_device *dev = av_device_find_at(AT_FDCWD, path);

	if (unlikely(dev))
		return device_stat(dev, st);
	if (shim_next.lstat)
		return shim_next.lstat(path, st);
	return (int)shim_ret(sys(SYS_newfstatat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW));
}
SHIM_ALIAS(lstat64, lstat);

AV_EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	const struct av_device *dev = av_device_find_at(dirfd, path);

	if (unlikely(dev))
		return device_stat(dev, st);
	if (shim_next.fstatat)
		return shim_next.fstatat(dirfd, path, st, flags);
	return (int)shim_ret(sys(SYS_newfstatat, dirfd, path, st, flags));
}
SHIM_ALIAS(fstatat64, fstatat);

/* What programs linked before glibc 2.33 call; 0 and 1 are the versions that x86-64 ever had. */
AV_EXPORT int __xstat(int ver, const char *path, struct stat *st)
{
	return ver == 0 || ver == 1 ? stat(path, st) : (int)shim_ret(-EINVAL);
}
SHIM_ALIAS(__xstat64, __xstat);

AV_EXPORT int __lxstat(int ver, const char *path, struct stat *st)
{
	return ver == 0 || ver == 1 ? lstat(path, st) : (int)shim_ret(-EINVAL);
}
SHIM_ALIAS(__lxstat64, __lxstat);

AV_EXPORT int __fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags)
{
	return ver == 0 || ver == 1 ? fstatat(dirfd, path, st, flags) : (int)shim_ret(-EINVAL);
}
SHIM_ALIAS(__fxstatat64, __fxstatat);

AV_EXPORT int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *stx)
{
	const struct av_device *dev = av_device_find_at(dirfd, path);

	if (unlikely(dev))
		return device_statx(dev, stx);
	if (shim_next.statx)
		return shim_next.statx(dirfd, path, flags, mask, stx);
	return (int)shim_ret(sys(SYS_statx, dirfd, path, flags, mask, stx));
}

/* ---- access ---- */

static int device_access(int mode)
{
	if (mode & ~(R_OK | W_OK | X_OK))
		return (int)shim_ret(-EINVAL);
	return mode & X_OK ? (int)shim_ret(-EACCES) : 0;
}

AV_EXPORT int access(const char *path, int mode)
{
	if (unlikely(av_device_find_at(AT_FDCWD, path)))
		return device_access(mode);
	return shim_next.access ? shim_next.access(path, mode)
				: (int)shim_ret(sys(SYS_access, path, mode));
}

AV_EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	if (unlikely(av_device_find_at(dirfd, path)))
		return device_access(mode);
	if (shim_next.faccessat)
		return shim_next.faccessat(dirfd, path, mode, flags);
	return (int)shim_ret(sys(SYS_faccessat2, dirfd, path, mode, flags));
}

AV_EXPORT int euidaccess(const char *path, int mode)
{
	if (unlikely(av_device_find_at(AT_FDCWD, path)))
		return device_access(mode);
	if (shim_next.euidaccess)
		return shim_next.euidaccess(path, mode);
	return (int)shim_ret(sys(SYS_faccessat2, AT_FDCWD, path, mode, AT_EACCESS));
}
SHIM_ALIAS(eaccess, euidaccess);

/* ---- canonical names ---- */

static char *device_realpath(const struct av_device *dev, char *buf)
{
	return buf ? strcpy(buf, dev->path) : strdup(dev->path);
}

static char *next_realpath(const char *path, char *buf)
{
	if (!shim_next.realpath)
		shim_resolve();
	return shim_next.realpath(path, buf);
}

AV_EXPORT char *realpath(const char *path, char *buf)
{
	const struct av_device *dev = av_device_find_at(AT_FDCWD, path);

	return unlikely(dev) ? device_realpath(dev, buf) : next_realpath(path, buf);
}

AV_EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}

/* The fortified form; it is libc's to judge whether the buffer is large enough, unless the path is
 * ours. */
AV_EXPORT char *__realpath_chk(const char *path, char *buf, size_t len)
{
	const struct av_device *dev = av_device_find_at(AT_FDCWD, path);

	if (unlikely(dev) && len > strlen(dev->path))
		return device_realpath(dev, buf);
	if (!shim_next.__realpath_chk)
		shim_resolve();
	return shim_next.__realpath_chk(path, buf, len);
}
