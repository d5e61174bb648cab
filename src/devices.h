/* SPDX-License-Identifier: MIT */
/*
 * The one list of what the host offers: path -> device family.
 *
 * Above it stand the shim and the public API; below it the families. Any thread may call.
 */
#ifndef AV_DEVICES_H
#define AV_DEVICES_H

#include "base/base.h"

struct av_device {
	const char *path;  /* "/dev/kvm" */
	u32 major, minor;  /* what stat shows: KVM is 10, 232 */
	int (*open)(int oflags); /* a new fd, or a negative errno */
};

/* The device at this absolute path, or NULL. Paths are compared after removing "//" and "/./". */
const struct av_device *av_device_find(const char *path);
/* Resolves path relative to dirfd as openat would, without system calls for absolute paths. */
const struct av_device *av_device_find_at(int dirfd, const char *path);
/* open(2) of that device: a new fd or a negative errno; what open's own flags ask for is seen to here. */
int av_device_open(const struct av_device *dev, int oflags);

#endif
