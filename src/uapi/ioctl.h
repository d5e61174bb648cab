/* SPDX-License-Identifier: MIT */
/*
 * Ioctl tables: a row per command, and the one place where arguments are copied in and out of the client.
 *
 * A handler sees a kernel-side copy of its argument, never the client's pointer; a bad pointer is -EFAULT and never a
 * signal. Counted tails (kvm_msrs, kvm_cpuid2, kvm_irq_routing, ...) are declared in the row and copied with the
 * struct. Unknown commands are -ENOTTY.
 */
#ifndef AV_UAPI_IOCTL_H
#define AV_UAPI_IOCTL_H

#include "base/base.h"
#include "uapi/object.h"

#include <sys/ioctl.h>

enum uapi_ioctl_flags {
	UAPI_ARG_VALUE = BIT(0), /* the argument is a number (arg->value), not a pointer */
	UAPI_ARG_IN = BIT(1),	 /* copy the struct in before the handler */
	UAPI_ARG_OUT = BIT(2),	 /* copy the struct out after success */
	/* Copy the fixed part out even when the handler failed with -E2BIG (KVM_GET_MSR_INDEX_LIST, ...). */
	UAPI_OUT_ON_E2BIG = BIT(3),
};

struct uapi_arg {
	u64 value;	/* the raw third argument of ioctl(2) */
	void *data;	/* the copied struct followed by its tail; NULL for UAPI_ARG_VALUE */
	u32 size;	/* bytes at data */
	u32 tail_count; /* entries in the tail as the client gave it */
	/* Set by a handler that returns fewer (or more, with -E2BIG) entries; the fixed part's counter is the handler's. */
	u32 tail_out;
};

/* Returns >= 0 (the ioctl's value) or a negative errno. */
typedef long uapi_handler(struct uapi_object *obj, struct uapi_arg *arg);

struct uapi_ioctl {
	u32 cmd;
	u32 flags;
	uapi_handler *handler;
	u32 size;	  /* of the fixed struct; checked when compiling against _IOC_SIZE(cmd) by UAPI_ROW */
	u32 tail_size;	  /* bytes per tail entry, 0: no tail */
	u32 count_offset; /* of the u32 entry counter inside the fixed struct */
	u32 tail_max;	  /* more entries than this: tail_errno */
	s32 tail_errno;	  /* usually -E2BIG; 0: the handler sees tail_count == tail_max (KVM_GET_SUPPORTED_CPUID) */
	const char *name;
};

#define UAPI_SIZE_OK(cmd, type) (sizeof(struct { _Static_assert(_IOC_SIZE(cmd) == sizeof(type), #cmd); int x; }) * 0)

/* A command whose argument is a plain number or is unused. */
#define UAPI_VALUE(cmd_, handler_, flags_)                                                         \
	{ .cmd = (u32)(cmd_), .flags = UAPI_ARG_VALUE | (flags_), .handler = (handler_), .name = #cmd_ }
/* A command with a struct of fixed size; dir: UAPI_ARG_IN, UAPI_ARG_OUT or both. */
#define UAPI_STRUCT(cmd_, type_, dir_, handler_, flags_)                                           \
	{ .cmd = (u32)(cmd_), .flags = (dir_) | (flags_), .handler = (handler_),                   \
	  .size = sizeof(type_) + UAPI_SIZE_OK(cmd_, type_), .name = #cmd_ }
/* A command with a counted tail: counter and entry array are named members of type_. */
#define UAPI_TAIL(cmd_, type_, counter_, entry_, max_, errno_, dir_, handler_, flags_)             \
	{ .cmd = (u32)(cmd_), .flags = (dir_) | (flags_), .handler = (handler_),                   \
	  .size = sizeof(type_) + UAPI_SIZE_OK(cmd_, type_), .tail_size = sizeof(entry_),          \
	  .count_offset = offsetof(type_, counter_), .tail_max = (max_), .tail_errno = (errno_),   \
	  .name = #cmd_ }

/* The lookup index of a type's rows, built once per type. NULL: out of memory. */
const struct uapi_index *uapi_index_get(const struct uapi_type *type);

/*
 * Runs one ioctl on obj: finds the row (only the low 32 bits of cmd count), copies in, calls, copies out.
 * Returns what ioctl(2) would, as a negative errno on failure.
 */
long uapi_ioctl(struct uapi_object *obj, u64 cmd, u64 arg);

/*
 * Copies to and from client memory; return 0 or -EFAULT, never a signal. For handlers whose structs point further
 * (kvm_signal_mask, kvm_dirty_log, ...). Implementation: process_vm_readv/writev on ourselves, or a fault-guarded copy where
 * a seccomp filter forbids that; callable on any thread.
 */
int uapi_copy_in(void *dst, u64 user, size_t len) __must_check;
int uapi_copy_out(u64 user, const void *src, size_t len) __must_check;

#endif
