/* SPDX-License-Identifier: MIT */
/*
 * The /dev/kvm device family's outside: one function.
 */
#ifndef AV_KVM_KVM_H
#define AV_KVM_KVM_H

#include "base/base.h"

/* open("/dev/kvm"): a new fd, or a negative errno. Any thread. */
int kvm_dev_open(int oflags);
/* Makes KVM_RUN on this vCPU fd return -EINTR soon. -EBADF, -EINVAL: not a vCPU. Async-signal-safe. */
int kvm_vcpu_kick_fd(int fd);

#endif
