/* SPDX-License-Identifier: MIT */
/*
 * Software devices behind real file descriptors.
 *
 * Each object owns a kernel fd of its own making (a memfd, so that mmap, poll, dup, close, fork and SCM_RIGHTS
 * behave) and is found again from any fd number by the file's identity (st_dev, st_ino), so a recycled number, a
 * dup or an fd passed through a socket inside the process is never mistaken. A small lock-free table caches
 * fd -> object; object.c says when fstat confirms it.
 *
 * Threads: everything here may be called from any thread. An object lives while a reference is held: one belongs to
 * the set of fds that refer to it (dropped when the last fd is closed), others to uapi_get() callers and to child
 * objects. release() runs in whichever thread drops the last one.
 */
#ifndef AV_UAPI_OBJECT_H
#define AV_UAPI_OBJECT_H

#include "base/base.h"

#include <sys/types.h>

struct uapi_object;

struct uapi_type {
	const char *name; /* "kvm", "kvm-vm", "kvm-vcpu": also the memfd's name (/proc/PID/fd shows it) */
	const struct uapi_ioctl *ioctls; /* rows, see uapi/ioctl.h */
	u32 nr_ioctls;
	/* Frees the whole object; the fd is already gone. */
	void (*release)(struct uapi_object *obj);
	/*
	 * mmap on the object's fd. NULL: the memfd is mapped as it is (bounds are the file's size). Otherwise returns 0
	 * after storing the address in *out, or a negative errno.
	 */
	int (*mmap)(struct uapi_object *obj, void *addr, size_t len, int prot, int flags, off_t off, void **out);
	/*
	 * The object also serves processes that inherited its fd by fork (/dev/kvm itself does). Without it their ioctls
	 * are -EIO, as KVM answers when the address space is not the VM's.
	 */
	bool any_process;
};

struct uapi_index;

/* Embedded first in each device object. Fields belong to object.c. */
struct uapi_object {
	const struct uapi_type *type;
	u32 refs;
	u64 dev, ino; /* the identity of the backing file */
	struct uapi_object *hash_next;
	u32 nr_fds;
	u32 process; /* generation of the process that made it */
	const struct uapi_index *index; /* of its type's ioctl rows */
};

/*
 * Enters obj into the table behind a new memfd of `size` bytes (0: an empty one), close-on-exec as KVM's fds are.
 * On success the fd (>= 0) is returned, the caller keeps one reference of its own (uapi_put it when done) and the fd
 * holds another. -EMFILE, -ENOMEM, ... leave obj untouched.
 */
int uapi_object_open(struct uapi_object *obj, const struct uapi_type *type, u64 size);
/* Maps the first `size` bytes of the object's memfd shared into this process; -errno. */
int uapi_object_map(int fd, u64 size, void **out);

/* The object behind fd with a reference taken, or NULL if fd is none of ours. Fast for foreign fds. errno is kept. */
struct uapi_object *uapi_get(int fd);
/* As uapi_get, but only if it is of that type. */
struct uapi_object *uapi_get_type(int fd, const struct uapi_type *type);
void uapi_hold(struct uapi_object *obj);
void uapi_put(struct uapi_object *obj);

/*
 * What the shim reports of the client's fd traffic. All keep errno; cheap when fd is not ours.
 * closing: before close(fd); duped: after newfd became a copy of oldfd, whatever it was before; arrived: after fd came
 * into the process by open, SCM_RIGHTS or pidfd_getfd (it may be one of ours, sent to itself).
 */
void uapi_fd_closing(int fd);
void uapi_fds_closing(unsigned int first, unsigned int last);
void uapi_fd_duped(int oldfd, int newfd);
void uapi_fd_arrived(int fd);
/* mmap(2) on an object's fd, by its type's rules. -errno. */
int uapi_mmap(struct uapi_object *obj, int fd, void *addr, size_t len, int prot, int flags, off_t off, void **out);
/*
 * In a forked child: objects stay reachable, but those that belong to the parent's threads answer -EIO like KVM's
 * mm check. Runs by itself after fork(2) (pthread_atfork) and at the latest on the child's first use of an object.
 */
void uapi_after_fork_child(void);
/* True if the calling process is not the one that made obj. */
bool uapi_foreign_process(const struct uapi_object *obj);

#endif
