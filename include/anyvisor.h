/* SPDX-License-Identifier: MIT */
/*
 * Anyvisor's public C API: software devices with the system calls' shapes and KVM's own structs.
 *
 * Link with -lanyvisor, or load it with dlopen(). A program that uses these calls needs no preloading; one that runs
 * under `anyvisor run` does not need them. All functions may be called from any thread; all return -1 and set errno
 * on failure exactly as the system call of the same name does (open(2), ioctl(2), mmap(2), close(2); for KVM's
 * commands Documentation/virt/kvm/api.rst of Linux 6.1). File descriptors are real ones: poll, dup and fork work on
 * them; use anyvisor_close() rather than close(2) unless the library is preloaded.
 *
 * Anyvisor is not an isolation boundary: a guest runs with the rights of the process.
 */
#ifndef ANYVISOR_H
#define ANYVISOR_H

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a device by its host path, e.g. "/dev/kvm". ENOENT: not a device that Anyvisor offers. */
int anyvisor_open(const char *path, int oflags);
/* An ioctl on an fd that came from this library. ENOTTY: unknown command. EBADF: not one of ours. */
int anyvisor_ioctl(int fd, unsigned long cmd, void *arg);
/* mmap(2) on such an fd (vCPU fd: struct kvm_run and what follows it). Unmap with munmap(2). */
void *anyvisor_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
/* Closes the fd. */
int anyvisor_close(int fd);
/* Makes KVM_RUN on this vCPU fd return with EINTR soon, as a signal would. Async-signal-safe. */
int anyvisor_kick(int vcpu_fd);
/* "0.1.0": the library's version. Static storage. */
const char *anyvisor_version(void);

#ifdef __cplusplus
}
#endif

#endif
