// SPDX-License-Identifier: MIT
/*
 * The one list of what the host offers, and how a path is matched against it.
 *
 * Knows each device family by one function. Runs inside the client's open and stat, so a path that
 * is none of ours must be told apart within a few comparisons and without system calls.
 */
#include "devices.h"
#include "kvm/kvm.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const struct av_device devices[] = {
	{"/dev/kvm", 10, 232, kvm_dev_open},
};

/* Compares an absolute path with a clean one, passing over repeated slashes and "." components. */
static bool same_path(const char *path, const char *clean)
{
	while (*path) {
		if (*path == '/') {
			while (*path == '/' || (*path == '.' && (path[1] == '/' || !path[1])))
				path++;
			/* A trailing slash asks for a directory, which a device is not. */
			if (*clean++ != '/' || !*path)
				return false;
			continue;
		}
		if (*path++ != *clean++)
			return false;
	}
	return !*clean;
}

const struct av_device *av_device_find(const char *path)
{
	size_t i;

	if (!path || path[0] != '/')
		return NULL;
	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		if (same_path(path, devices[i].path))
			return &devices[i];
	}
	return NULL;
}

static bool last_name_known(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		if (!strcmp(name, strrchr(devices[i].path, '/') + 1))
			return true;
	}
	return false;
}

const struct av_device *av_device_find_at(int dirfd, const char *path)
{
	char full[PATH_MAX], link[32];
	size_t len = 0;
	long n;

	if (!path || !path[0])
		return NULL;
	if (path[0] == '/')
		return av_device_find(path);
	if (!last_name_known(path))
		return NULL;
	if (dirfd == AT_FDCWD) {
		strcpy(link, "/proc/self/cwd");
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	}
	n = sys(SYS_readlinkat, AT_FDCWD, link, full, sizeof(full));
	if (n <= 0 || n >= (long)sizeof(full))
		return NULL;
	len = (size_t)n;
	if (len + 1 + strlen(path) >= sizeof(full))
		return NULL;
	full[len++] = '/';
	strcpy(full + len, path);
	return av_device_find(full);
}

int av_device_open(const struct av_device *dev, int oflags)
{
	int fd;

	if (oflags & O_DIRECTORY)
		return -ENOTDIR;
	if ((oflags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	fd = dev->open(oflags);
	/* Objects are made close-on-exec; a path is opened without unless the client asks. */
	if (fd >= 0 && !(oflags & O_CLOEXEC))
		sys(SYS_fcntl, fd, F_SETFD, 0);
	return fd;
}
