// SPDX-License-Identifier: MIT
/*
 * The public C API: the system calls' shapes over devices.c and uapi/.
 *
 * Translates negative errnos into -1 and errno, and nothing else.
 */
#include "anyvisor.h"
#include "devices.h"
#include "kvm/kvm.h"
#include "uapi/cancel.h"
#include "uapi/ioctl.h"
#include "uapi/object.h"
#include "uapi/sys.h"

#include <errno.h>
#include <sys/mman.h>

static int result(long ret)
{
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}

AV_EXPORT int anyvisor_open(const char *path, int oflags)
{
	const struct av_device *dev = av_device_find(path);

	return result(dev ? av_device_open(dev, oflags) : -ENOENT);
}

AV_EXPORT int anyvisor_ioctl(int fd, unsigned long cmd, void *arg)
{
	struct uapi_cancel cancel;
	struct uapi_object *obj;
	long ret = -EBADF;

	uapi_cancel_hold(&cancel);
	obj = uapi_get(fd);
	if (obj) {
		ret = uapi_ioctl(obj, cmd, (u64)arg);
		uapi_put(obj);
	}
	uapi_cancel_release(&cancel);
	return result(ret);
}

AV_EXPORT void *anyvisor_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	struct uapi_object *obj = uapi_get(fd);
	void *out = MAP_FAILED;
	int err;

	if (!obj) {
		errno = EBADF;
		return MAP_FAILED;
	}
	err = uapi_mmap(obj, fd, addr, len, prot, flags, off, &out);
	uapi_put(obj);
	if (err) {
		errno = -err;
		return MAP_FAILED;
	}
	return out;
}

AV_EXPORT int anyvisor_close(int fd)
{
	struct uapi_object *obj = uapi_get(fd);

	if (!obj)
		return result(-EBADF);
	uapi_put(obj);
	uapi_fd_closing(fd);
	return result(sys(SYS_close, fd));
}

AV_EXPORT int anyvisor_kick(int vcpu_fd)
{
	int saved = errno, ret = kvm_vcpu_kick_fd(vcpu_fd);

	if (!ret)
		errno = saved;
	return result(ret);
}

AV_EXPORT const char *anyvisor_version(void)
{
	return ANYVISOR_VERSION;
}
