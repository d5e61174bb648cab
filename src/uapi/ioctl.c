// SPDX-License-Identifier: MIT
/*
 * The dispatcher of ioctls: finds a row, brings its argument in, calls, takes the argument out.
 *
 * Owns the only path between the client's pointers and the handlers. Knows no device and no
 * command.
 */
#include "uapi/ioctl.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Rows by _IOC_NR: a row's number plus one, 0 ends the chain. */
struct uapi_index {
	const struct uapi_type *type;
	struct uapi_index *next;
	u16 head[256];
	u16 chain[];
};

static struct uapi_index *indexes;
static pthread_mutex_t indexes_lock = PTHREAD_MUTEX_INITIALIZER;

static struct uapi_index *index_build(const struct uapi_type *type)
{
	struct uapi_index *ix = calloc(1, sizeof(*ix) + type->nr_ioctls * sizeof(ix->chain[0]));
	u32 i;

	if (!ix)
		return NULL;
	ix->type = type;
	for (i = 0; i < type->nr_ioctls; i++) {
		u16 *head = &ix->head[_IOC_NR(type->ioctls[i].cmd)];

		ix->chain[i] = *head;
		*head = (u16)(i + 1);
	}
	return ix;
}

/* An index lives as long as the process, like the type it belongs to. */
const struct uapi_index *uapi_index_get(const struct uapi_type *type)
{
	struct uapi_index *ix;

	pthread_mutex_lock(&indexes_lock);
	for (ix = indexes; ix && ix->type != type; ix = ix->next)
		;
	if (!ix) {
		ix = index_build(type);
		if (ix) {
			ix->next = indexes;
			indexes = ix;
		}
	}
	pthread_mutex_unlock(&indexes_lock);
	return ix;
}

static const struct uapi_ioctl *find_row(const struct uapi_object *obj, u32 cmd)
{
	const struct uapi_ioctl *rows = obj->type->ioctls;
	u16 i = obj->index->head[_IOC_NR(cmd)];

	while (i && rows[i - 1].cmd != cmd)
		i = obj->index->chain[i - 1];
	return i ? &rows[i - 1] : NULL;
}

/* Small arguments stay on the stack; they are the frequent ones. */
#define SMALL_ARG 512

static long count_tail(const struct uapi_ioctl *row, u64 user, struct uapi_arg *arg)
{
	u32 count;

	if (uapi_copy_in(&count, user + row->count_offset, sizeof(count)))
		return -EFAULT;
	if (count > row->tail_max) {
		if (row->tail_errno)
			return row->tail_errno < 0 ? row->tail_errno : -row->tail_errno;
		count = row->tail_max;
	}
	arg->tail_count = count;
	return 0;
}

static long copy_arg_in(const struct uapi_ioctl *row, u64 user, struct uapi_arg *arg)
{
	size_t in = row->flags & UAPI_ARG_IN ? arg->size : row->tail_size ? row->size : 0;

	if (in && uapi_copy_in(arg->data, user, in))
		return -EFAULT;
	/* The client may have changed the counter since it was read; the handler must see the one
	 * that sized the copy. */
	if (row->tail_size)
		memcpy((char *)arg->data + row->count_offset, &arg->tail_count, sizeof(u32));
	return 0;
}

static long copy_arg_out(const struct uapi_ioctl *row, u64 user, const struct uapi_arg *arg,
			 long ret)
{
	size_t out = row->size;

	if (ret == -E2BIG && row->flags & UAPI_OUT_ON_E2BIG)
		return uapi_copy_out(user, arg->data, out) ? -EFAULT : ret;
	if (ret < 0 || !(row->flags & UAPI_ARG_OUT))
		return ret;
	if (row->tail_size)
		out += (size_t)MIN(arg->tail_out, arg->tail_count) * row->tail_size;
	return uapi_copy_out(user, arg->data, out) ? -EFAULT : ret;
}

static long run_row(struct uapi_object *obj, const struct uapi_ioctl *row, struct uapi_arg *arg)
{
	long ret = copy_arg_in(row, arg->value, arg);

	if (!ret) {
		ret = row->handler(obj, arg);
		ret = copy_arg_out(row, arg->value, arg, ret);
	}
	return ret;
}

static long run_with_struct(struct uapi_object *obj, const struct uapi_ioctl *row,
			    struct uapi_arg *arg)
{
	u8 small[SMALL_ARG] __attribute__((aligned(16)));
	long ret;

	if (row->tail_size) {
		ret = count_tail(row, arg->value, arg);
		if (ret)
			return ret;
	}
	arg->tail_out = arg->tail_count;
	arg->size = row->size + arg->tail_count * row->tail_size;
	if (arg->size <= sizeof(small)) {
		memset(small, 0, arg->size);
		arg->data = small;
		return run_row(obj, row, arg);
	}
	/* Zeroed, so that what a handler does not fill in is never the library's memory. */
	arg->data = calloc(1, arg->size);
	if (!arg->data)
		return -ENOMEM;
	ret = run_row(obj, row, arg);
	free(arg->data);
	return ret;
}

long uapi_ioctl(struct uapi_object *obj, u64 cmd, u64 user)
{
	struct uapi_arg arg = {.value = user};
	const struct uapi_ioctl *row;

	if (unlikely(!obj->type->any_process && uapi_foreign_process(obj)))
		return -EIO;
	row = find_row(obj, (u32)cmd);
	if (unlikely(!row))
		return -ENOTTY;
	if (row->flags & UAPI_ARG_VALUE)
		return row->handler(obj, &arg);
	return run_with_struct(obj, row, &arg);
}
