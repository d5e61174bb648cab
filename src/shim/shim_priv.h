/* SPDX-License-Identifier: MIT */
/*
 * Inside the shim: the next library's functions, errno, and aliases. Included first, before any
 * libc header.
 *
 * Every hook works before the constructor has run and in a process whose libc is not ready: as long
 * as a `next` pointer is NULL the system call is made directly.
 */
#ifndef AV_SHIM_SHIM_PRIV_H
#define AV_SHIM_SHIM_PRIV_H

/* The plain names are defined here: headers must neither rename them to their 64-bit forms nor wrap
 * them inline. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "base/base.h"
#include "devices.h"
#include "uapi/object.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* name, result, parameters of each function that a hook hands on to */
#define SHIM_NEXT_LIST(X)                                                                          \
	X(open, int, (const char *, int, ...))                                                     \
	X(openat, int, (int, const char *, int, ...))                                              \
	X(close, int, (int))                                                                       \
	X(close_range, int, (unsigned int, unsigned int, int))                                     \
	X(closefrom, void, (int))                                                                  \
	X(fclose, int, (FILE *))                                                                   \
	X(dup, int, (int))                                                                         \
	X(dup2, int, (int, int))                                                                   \
	X(dup3, int, (int, int, int))                                                              \
	X(fcntl, int, (int, int, ...))                                                             \
	X(ioctl, int, (int, unsigned long, ...))                                                   \
	X(pthread_cancel, int, (pthread_t))                                                        \
	X(mmap, void *, (void *, size_t, int, int, int, off_t))                                    \
	X(recvmsg, ssize_t, (int, struct msghdr *, int))                                           \
	X(recvmmsg, int, (int, struct mmsghdr *, unsigned int, int, struct timespec *))            \
	X(stat, int, (const char *, struct stat *))                                                \
	X(lstat, int, (const char *, struct stat *))                                               \
	X(fstatat, int, (int, const char *, struct stat *, int))                                   \
	X(statx, int, (int, const char *, int, unsigned int, struct statx *))                      \
	X(access, int, (const char *, int))                                                        \
	X(faccessat, int, (int, const char *, int, int))                                           \
	X(euidaccess, int, (const char *, int))                                                    \
	X(realpath, char *, (const char *, char *))                                                \
	X(__realpath_chk, char *, (const char *, char *, size_t))

#define SHIM_NEXT_FIELD(name, ret, args) ret(*name) args;
struct shim_next {
	SHIM_NEXT_LIST(SHIM_NEXT_FIELD)
};
extern struct shim_next shim_next;

/* Looks up a function that no system call can stand in for, should the constructor not have run
 * yet. */
void shim_resolve(void);

/* A system call's result as libc gives it. */
static inline long shim_ret(long ret)
{
	if (ret < 0 && ret > -4096) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

/* A second exported name for a hook in the same file. */
#define SHIM_ALIAS(alias, target)                                                                  \
	__asm__(".globl " #alias "\n.type " #alias ", @function\n.set " #alias ", " #target "\n")

/* Names that no public header declares. */
int __open_2(const char *path, int oflags);
int __openat_2(int dirfd, const char *path, int oflags);
int __xstat(int ver, const char *path, struct stat *st);
int __lxstat(int ver, const char *path, struct stat *st);
int __fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags);
char *__realpath_chk(const char *path, char *buf, size_t len);

#endif
