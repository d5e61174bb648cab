// SPDX-License-Identifier: MIT
/*
 * Unit tests of uapi/: identity of fds, ioctl dispatch and its copies, shared signals.
 *
 * A small fake device stands in for a family. Tests that may die run in a child.
 */
#include "uapi/ioctl.h"
#include "uapi/object.h"
#include "uapi/signals.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the fake device ---- */

struct pair {
	u64 a, b;
};

struct list {
	u32 n, pad;
	u64 entry[];
};

#define FAKE_VALUE _IO(0xAF, 0x00)
#define FAKE_OUT   _IOR(0xAF, 0x01, struct pair)
#define FAKE_IN	   _IOW(0xAF, 0x02, struct pair)
#define FAKE_INOUT _IOWR(0xAF, 0x03, struct pair)
#define FAKE_SUM   _IOWR(0xAF, 0x04, struct list) /* adds 1 to each entry; E2BIG above 100 */
#define FAKE_LIST                                                                                  \
	_IOWR(0xAF, 0x05, struct list) /* wants room for 3 entries; any count is allowed */
#define FAKE_STRICT  _IOW(0xAF, 0x06, struct list) /* EINVAL above 4 */
#define FAKE_LARGE   _IOR(0xAF, 0x07, u8[4096])
#define FAKE_SAME_NR _IOW(0xAF, 0x01, u32) /* the number of FAKE_OUT, another size */

static u32 released;
static struct pair last_in;

static long on_value(struct uapi_object *obj, struct uapi_arg *arg)
{
	return arg->data ? -EBADMSG : (long)(arg->value & 0xff);
}

static long on_out(struct uapi_object *obj, struct uapi_arg *arg)
{
	((struct pair *)arg->data)->a = 7;
	return 0;
}

static long on_in(struct uapi_object *obj, struct uapi_arg *arg)
{
	last_in = *(struct pair *)arg->data;
	return last_in.a == 99 ? -EPERM : 5;
}

static long on_inout(struct uapi_object *obj, struct uapi_arg *arg)
{
	struct pair *p = arg->data;

	p->b = p->a + 1;
	return p->a == 99 ? -EPERM : 0;
}

static long on_sum(struct uapi_object *obj, struct uapi_arg *arg)
{
	struct list *l = arg->data;
	u32 i;

	if (arg->size != sizeof(*l) + l->n * 8 || l->n != arg->tail_count)
		return -EBADMSG;
	for (i = 0; i < l->n; i++)
		l->entry[i]++;
	return (long)l->n;
}

static long on_list(struct uapi_object *obj, struct uapi_arg *arg)
{
	struct list *l = arg->data;
	u32 i, room = arg->tail_count;

	l->n = 3;
	if (room < 3)
		return -E2BIG;
	for (i = 0; i < 3; i++)
		l->entry[i] = 10 + i;
	arg->tail_out = 3;
	return 0;
}

static long on_large(struct uapi_object *obj, struct uapi_arg *arg)
{
	memset(arg->data, 0x5a, 4095);
	return 0;
}

static long on_same_nr(struct uapi_object *obj, struct uapi_arg *arg)
{
	return *(u32 *)arg->data + 1;
}

static const struct uapi_ioctl rows[] = {
	UAPI_VALUE(FAKE_VALUE, on_value, 0),
	UAPI_STRUCT(FAKE_OUT, struct pair, UAPI_ARG_OUT, on_out, 0),
	UAPI_STRUCT(FAKE_IN, struct pair, UAPI_ARG_IN, on_in, 0),
	UAPI_STRUCT(FAKE_INOUT, struct pair, UAPI_ARG_IN | UAPI_ARG_OUT, on_inout, 0),
	UAPI_TAIL(FAKE_SUM, struct list, n, u64, 100, -E2BIG, UAPI_ARG_IN | UAPI_ARG_OUT, on_sum,
		  0),
	UAPI_TAIL(FAKE_LIST, struct list, n, u64, 8, 0, UAPI_ARG_OUT, on_list, UAPI_OUT_ON_E2BIG),
	UAPI_TAIL(FAKE_STRICT, struct list, n, u64, 4, -EINVAL, UAPI_ARG_IN, on_sum, 0),
	UAPI_STRUCT(FAKE_LARGE, u8[4096], UAPI_ARG_OUT, on_large, 0),
	UAPI_STRUCT(FAKE_SAME_NR, u32, UAPI_ARG_IN, on_same_nr, 0),
};

static void fake_release(struct uapi_object *obj)
{
	__atomic_fetch_add(&released, 1, __ATOMIC_SEQ_CST);
	memset(obj, 0xdd, sizeof(*obj));
	free(obj);
}

static const struct uapi_type fake_type = {
	.name = "fake", .ioctls = rows, .nr_ioctls = ARRAY_SIZE(rows), .release = fake_release};
static const struct uapi_type shared_type = {.name = "shared",
					     .ioctls = rows,
					     .nr_ioctls = ARRAY_SIZE(rows),
					     .release = fake_release,
					     .any_process = true};

static int fake_open(const struct uapi_type *type, u64 size)
{
	struct uapi_object *obj = malloc(sizeof(*obj));
	int fd = uapi_object_open(obj, type, size);

	assert_true(fd >= 0);
	uapi_put(obj);
	return fd;
}

/* What the shim does for the client. */
static void client_close(int fd)
{
	uapi_fd_closing(fd);
	assert_int_equal(sys(SYS_close, fd), 0);
}

static int client_dup(int fd)
{
	int new = (int)sys(SYS_dup, fd);

	uapi_fd_duped(fd, new);
	return new;
}

static long fake_ioctl(int fd, u64 cmd, void *arg)
{
	struct uapi_object *obj = uapi_get(fd);
	long ret;

	if (!obj)
		return -EBADF;
	ret = uapi_ioctl(obj, cmd, (u64)arg);
	uapi_put(obj);
	return ret;
}

static bool ours(int fd)
{
	struct uapi_object *obj = uapi_get(fd);

	uapi_put(obj);
	return obj;
}

/* ---- objects ---- */

static void test_lifetime(void **state)
{
	int fd, copy;

	released = 0;
	fd = fake_open(&fake_type, 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(ours(fd));
	copy = client_dup(fd);
	client_close(fd);
	assert_int_equal(released, 0);
	assert_true(ours(copy));
	assert_false(ours(fd));
	client_close(copy);
	assert_int_equal(released, 1);
}

static void test_reference_outlives_fd(void **state)
{
	int fd = fake_open(&fake_type, 0);
	struct uapi_object *obj = uapi_get_type(fd, &fake_type);

	assert_non_null(obj);
	assert_null(uapi_get_type(fd, &shared_type));
	released = 0;
	client_close(fd);
	assert_int_equal(released, 0);
	uapi_put(obj);
	assert_int_equal(released, 1);
}

static void test_recycled_number(void **state)
{
	int fd = fake_open(&fake_type, 0), foreign;
	int keep = fake_open(&fake_type, 0);

	client_close(fd);
	foreign = (int)sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	assert_int_equal(foreign, fd);
	assert_false(ours(foreign));
	/* and the other way round: a number known as foreign becomes ours */
	client_close(foreign);
	fd = fake_open(&fake_type, 0);
	assert_int_equal(fd, foreign);
	assert_true(ours(fd));
	client_close(fd);
	client_close(keep);
}

static void test_dup2(void **state)
{
	int a = fake_open(&fake_type, 0), b = fake_open(&fake_type, 0),
	    null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct uapi_object *obj = uapi_get(a);

	released = 0;
	sys(SYS_dup2, a, b);
	uapi_fd_duped(a, b);
	assert_int_equal(released, 1);
	assert_ptr_equal(uapi_get(b), obj);
	uapi_put(obj);
	uapi_put(obj);
	/* onto itself: nothing happens */
	sys(SYS_dup2, b, b);
	uapi_fd_duped(b, b);
	client_close(a);
	assert_int_equal(released, 1);
	/* a foreign file over the last one */
	sys(SYS_dup2, null, b);
	uapi_fd_duped(null, b);
	assert_int_equal(released, 2);
	assert_false(ours(b));
	close(b);
	close(null);
}

static void send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	assert_int_equal(sendmsg(sock, &msg, 0), 1);
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	int fd;

	assert_int_equal(recvmsg(sock, &msg, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	uapi_fd_arrived(fd);
	return fd;
}

static void test_through_a_socket(void **state)
{
	int fd = fake_open(&fake_type, 0), socks[2], got;

	released = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
	send_fd(socks[0], fd);
	got = receive_fd(socks[1]);
	assert_int_not_equal(got, fd);
	client_close(fd);
	assert_int_equal(released, 0);
	assert_int_equal(fake_ioctl(got, FAKE_VALUE, (void *)3), 3);
	client_close(got);
	assert_int_equal(released, 1);
	close(socks[0]);
	close(socks[1]);
}

static void test_range(void **state)
{
	int fds[3] = {fake_open(&fake_type, 0), fake_open(&fake_type, 0), fake_open(&fake_type, 0)},
	    i;

	released = 0;
	uapi_fds_closing((unsigned int)fds[1], ~0u);
	assert_int_equal(released, 2);
	assert_true(ours(fds[0]));
	client_close(fds[0]);
	assert_int_equal(released, 3);
	for (i = 1; i < 3; i++)
		close(fds[i]);
}

static void test_bad_fds(void **state)
{
	int keep = fake_open(&fake_type, 0);

	errno = 4242;
	assert_false(ours(-1));
	assert_false(ours(999));
	assert_false(ours(0x7fffffff));
	assert_false(ours(0));
	assert_int_equal(errno, 4242);
	client_close(keep);
}

static void test_sealed(void **state)
{
	int fd = fake_open(&fake_type, 8192);
	u64 *p;

	assert_int_equal(uapi_object_map(fd, 8192, (void **)&p), 0);
	p[512] = 5;
	assert_int_equal(p[512], 5);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	munmap(p, 8192);
	client_close(fd);
}

static int wait_status(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int child_checks(int fd, int shared)
{
	if (fake_ioctl(fd, FAKE_VALUE, (void *)3) != -EIO)
		return 1;
	/* KVM compares address spaces before it looks at the command. */
	if (fake_ioctl(fd, 0x1234, NULL) != -EIO)
		return 2;
	if (fake_ioctl(shared, FAKE_VALUE, (void *)3) != 3)
		return 3;
	released = 0;
	uapi_fd_closing(fd);
	sys(SYS_close, fd);
	if (released)
		return 4;
	fd = fake_open(&fake_type, 0);
	if (fake_ioctl(fd, FAKE_VALUE, (void *)3) != 3)
		return 5;
	uapi_fd_closing(fd);
	return released == 1 ? 0 : 6;
}

static void test_fork(void **state)
{
	int fd = fake_open(&fake_type, 0), shared = fake_open(&shared_type, 0);
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(child_checks(fd, shared));
	assert_int_equal(wait_status(pid), 0);
	/* past libc and its fork handlers */
	pid = (pid_t)sys(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(child_checks(fd, shared));
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(fake_ioctl(fd, FAKE_VALUE, (void *)3), 3);
	client_close(fd);
	client_close(shared);
}

static int vfork_child(void *arg)
{
	int fd = *(int *)arg;

	uapi_fd_closing(fd);
	sys(SYS_close, fd);
	sys(SYS_dup2, 0, fd);
	uapi_fd_duped(0, fd);
	uapi_fds_closing(3, ~0u);
	return 0;
}

/* clone() with a stack of its own is what posix_spawn and vfork come to. */
static void test_vfork(void **state)
{
	static char stack[65536] __attribute__((aligned(16)));
	int fd;
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	skip(); /* it takes the child for the thread whose memory it runs in */
#endif
	fd = fake_open(&fake_type, 0);
	released = 0;
	pid = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &fd);
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(released, 0);
	assert_int_equal(fake_ioctl(fd, FAKE_VALUE, (void *)3), 3);
	client_close(fd);
	assert_int_equal(released, 1);
}

struct race {
	int fd;
	u32 stop;
};

static void *race_reader(void *arg)
{
	struct race *r = arg;

	while (!LOAD_ACQUIRE(r->stop)) {
		long ret = fake_ioctl(LOAD_ACQUIRE(r->fd), FAKE_VALUE, (void *)3);

		/* Either it is there or it is not; anything else is freed memory. */
		if (ret != 3 && ret != -EBADF)
			abort();
	}
	return NULL;
}

static void test_race(void **state)
{
	struct race r = {.fd = fake_open(&fake_type, 0)};
	pthread_t threads[3];
	int i, fd = r.fd, copy;

	released = 0;
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race_reader, &r), 0);
	for (i = 0; i < 20000; i++) {
		copy = client_dup(fd);
		client_close(fd);
		if (i & 1) {
			client_close(copy);
			fd = fake_open(&fake_type, 0);
		} else {
			fd = copy;
		}
		STORE_RELEASE(r.fd, fd);
		if (i % 64 == 0)
			sched_yield();
	}
	STORE_RELEASE(r.stop, 1);
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	client_close(fd);
	assert_int_equal(released, 10001);
}

/* ---- ioctls ---- */

/* Two pages, the second without access: an object that ends at the border and one that crosses it.
 */
static u8 *border(int prot)
{
	u8 *p = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);

	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 1, PAGE_SIZE);
	assert_int_equal(mprotect(p, PAGE_SIZE, prot), 0);
	assert_int_equal(mprotect(p + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
	return p;
}

static void pointers(void)
{
	int fd = fake_open(&fake_type, 0);
	u8 *rw = border(PROT_READ | PROT_WRITE), *ro = border(PROT_READ);
	void *const bad[] = {
		NULL,	      (void *)8,	   rw + PAGE_SIZE,	    rw + PAGE_SIZE - 8,
		(void *)-8ul, (void *)(1ul << 63), (void *)0x800000000000ul};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(fake_ioctl(fd, FAKE_OUT, bad[i]), -EFAULT);
		assert_int_equal(fake_ioctl(fd, FAKE_IN, bad[i]), -EFAULT);
		assert_int_equal(fake_ioctl(fd, FAKE_INOUT, bad[i]), -EFAULT);
		assert_int_equal(fake_ioctl(fd, FAKE_LARGE, bad[i]), -EFAULT);
	}
	/* a counter that can be read before a tail that cannot */
	*(u32 *)(rw + PAGE_SIZE - 8) = 1;
	assert_int_equal(fake_ioctl(fd, FAKE_SUM, rw + PAGE_SIZE - 8), -EFAULT);
	*(u32 *)(rw + PAGE_SIZE - 8) = 0;
	assert_int_equal(fake_ioctl(fd, FAKE_SUM, rw + PAGE_SIZE - 8), 0);
	assert_int_equal(fake_ioctl(fd, FAKE_IN, ro), 5);
	assert_int_equal(fake_ioctl(fd, FAKE_OUT, ro), -EFAULT);
	assert_int_equal(fake_ioctl(fd, FAKE_INOUT, ro), -EFAULT);
	assert_int_equal(fake_ioctl(fd, FAKE_OUT, rw + PAGE_SIZE - 16), 0);
	assert_int_equal(((struct pair *)(rw + PAGE_SIZE - 16))->a, 7);
	munmap(rw, 2 * PAGE_SIZE);
	munmap(ro, 2 * PAGE_SIZE);
	client_close(fd);
}

static void test_pointers(void **state)
{
	pointers();
}

static void test_dispatch(void **state)
{
	int fd = fake_open(&fake_type, 0);
	struct pair p = {99, 0};
	u32 word = 41;
	u8 large[4096];

	assert_int_equal(fake_ioctl(fd, FAKE_VALUE, (void *)0x1234), 0x34);
	assert_int_equal(fake_ioctl(fd, FAKE_VALUE | 0xdeadbeef00000000ull, (void *)5), 5);
	assert_int_equal(fake_ioctl(fd, _IO(0xAF, 0x77), NULL), -ENOTTY);
	/* the right number with the wrong size, direction or type is another command */
	assert_int_equal(fake_ioctl(fd, _IOR(0xAF, 0x01, u64), &p), -ENOTTY);
	assert_int_equal(fake_ioctl(fd, _IOW(0xAF, 0x01, struct pair), &p), -ENOTTY);
	assert_int_equal(fake_ioctl(fd, _IOR(0xAE, 0x01, struct pair), &p), -ENOTTY);
	assert_int_equal(fake_ioctl(fd, FAKE_SAME_NR, &word), 42);
	assert_int_equal(word, 41);
	/* a handler that fails leaves the client's struct alone */
	assert_int_equal(fake_ioctl(fd, FAKE_INOUT, &p), -EPERM);
	assert_int_equal(p.b, 0);
	p.a = 1;
	assert_int_equal(fake_ioctl(fd, FAKE_INOUT, &p), 0);
	assert_int_equal(p.b, 2);
	assert_int_equal(fake_ioctl(fd, FAKE_IN, &p), 5);
	assert_int_equal(last_in.b, 2);
	/* what a handler does not fill in is zero */
	p = (struct pair){1, 1};
	assert_int_equal(fake_ioctl(fd, FAKE_OUT, &p), 0);
	assert_int_equal(p.a, 7);
	assert_int_equal(p.b, 0);
	memset(large, 1, sizeof(large));
	assert_int_equal(fake_ioctl(fd, FAKE_LARGE, large), 0);
	assert_int_equal(large[4094], 0x5a);
	assert_int_equal(large[4095], 0);
	client_close(fd);
}

static void test_tails(void **state)
{
	struct list *l = calloc(1, sizeof(*l) + 200 * sizeof(u64));
	int fd = fake_open(&fake_type, 0);
	u32 i;

	for (i = 0; i < 200; i++)
		l->entry[i] = i;
	l->n = 100;
	assert_int_equal(fake_ioctl(fd, FAKE_SUM, l), 100);
	assert_int_equal(l->entry[99], 100);
	assert_int_equal(l->entry[100], 100);
	l->n = 101;
	assert_int_equal(fake_ioctl(fd, FAKE_SUM, l), -E2BIG);
	l->n = 0xffffffff;
	assert_int_equal(fake_ioctl(fd, FAKE_SUM, l), -E2BIG);
	l->n = 5;
	assert_int_equal(fake_ioctl(fd, FAKE_STRICT, l), -EINVAL);
	l->n = 4;
	assert_int_equal(fake_ioctl(fd, FAKE_STRICT, l), 4);
	assert_int_equal(l->entry[0], 1); /* IN only */
	l->n = 2;
	l->entry[0] = 77;
	assert_int_equal(fake_ioctl(fd, FAKE_LIST, l), -E2BIG);
	assert_int_equal(l->n, 3);
	assert_int_equal(l->entry[0], 77);
	l->n = 0xffffffff;
	l->entry[3] = 77;
	assert_int_equal(fake_ioctl(fd, FAKE_LIST, l), 0);
	assert_int_equal(l->n, 3);
	assert_int_equal(l->entry[2], 12);
	assert_int_equal(l->entry[3], 77); /* only tail_out entries are written */
	client_close(fd);
	free(l);
}

/* As in a preloaded process: cmocka sets its handlers for faults with signal(), before and after
 * each test. */
AV_EXPORT void (*signal(int sig, void (*handler)(int)))(int)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

	return uapi_sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

/* ---- signals: from here on the trampolines stand ---- */

static volatile u32 got_signal, after_calls, after_order;
static siginfo_t got_info;
static sigjmp_buf back;

static void plain_handler(int sig)
{
	got_signal = (u32)sig;
	after_order = after_calls;
}

static void info_handler(int sig, siginfo_t *si, void *uc)
{
	got_signal = (u32)sig;
	got_info = *si;
}

static void jump_handler(int sig, siginfo_t *si, void *uc)
{
	got_info = *si;
	siglongjmp(back, 1);
}

static void count_after(void *arg)
{
	after_calls++;
	*(int *)arg = 1;
}

static u8 *mended;

static bool skips;

static void illegal(void)
{
	__asm__ volatile("ud2");
}

/* A hook that gives a page its access back, and goes on behind a UD2. */
static bool mend(int sig, siginfo_t *si, void *uc)
{
	u8 *at = si->si_addr;

	if (sig == SIGILL && skips) {
		((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 2;
		return true;
	}
	if (!mended || at < mended || at >= mended + PAGE_SIZE)
		return false;
	errno = EXDEV;
	return !mprotect(mended, PAGE_SIZE, PROT_READ | PROT_WRITE);
}

static void test_signals_before(void **state)
{
	struct sigaction act = {.sa_handler = plain_handler}, old;

	assert_int_equal(uapi_sigaction(SIGUSR1, &act, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	assert_int_equal(uapi_sigaction(0, &act, NULL), -EINVAL);
	assert_int_equal(uapi_sigaction(65, &act, NULL), -EINVAL);
	assert_int_equal(uapi_sigaction(SIGKILL, &act, NULL), -EINVAL);
	assert_int_equal(uapi_sigaction(33, NULL, &old), -EINVAL);
	raise(SIGUSR1);
	assert_int_equal(got_signal, SIGUSR1);
}

static void test_install(void **state)
{
	struct sigaction old;

	uapi_signals_interposed();
	assert_int_equal(uapi_signals_init(mend), 0);
	assert_int_equal(uapi_signals_init(mend), 0);
	assert_int_equal(uapi_sigaction(SIGUSR1, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, plain_handler);
	assert_int_equal(old.sa_flags & SA_SIGINFO, 0);
	got_signal = 0;
	raise(SIGUSR1);
	assert_int_equal(got_signal, SIGUSR1);
}

static void test_after(void **state)
{
	int seen = 0;

	after_calls = 0;
	raise(SIGUSR1);
	assert_int_equal(after_calls, 0);
	uapi_thread_enter(count_after, &seen);
	errno = 77;
	raise(SIGUSR1);
	assert_int_equal(errno, 77);
	assert_int_equal(seen, 1);
	assert_int_equal(after_order, 0); /* the handler came first */
	raise(SIGUSR1);
	uapi_thread_leave();
	raise(SIGUSR1);
	assert_int_equal(after_calls, 2);
}

static void test_old_values(void **state)
{
	struct sigaction act = {.sa_sigaction = info_handler,
				.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER},
			 old;

	sigaddset(&act.sa_mask, SIGSEGV);
	sigaddset(&act.sa_mask, SIGUSR2);
	sigaddset(&act.sa_mask, SIGKILL);
	assert_int_equal(uapi_sigaction(SIGBUS, &act, NULL), 0);
	assert_int_equal(uapi_sigaction(SIGBUS, NULL, &old), 0);
	assert_ptr_equal(old.sa_sigaction, info_handler);
	assert_int_equal(old.sa_flags & ~0x04000000, act.sa_flags);
	assert_true(sigismember(&old.sa_mask, SIGSEGV));
	assert_true(sigismember(&old.sa_mask, SIGUSR2));
	assert_false(sigismember(&old.sa_mask, SIGKILL));
	sigqueue(getpid(), SIGBUS, (union sigval){.sival_int = 17});
	assert_int_equal(got_signal, SIGBUS);
	assert_int_equal(got_info.si_value.sival_int, 17);
	act.sa_handler = SIG_DFL;
	act.sa_flags = 0;
	assert_int_equal(uapi_sigaction(SIGBUS, &act, NULL), 0);
}

static void mask_probe(int sig)
{
	sigset_t now;

	sigprocmask(SIG_BLOCK, NULL, &now);
	got_signal = (u32)(sigismember(&now, SIGUSR2) | sigismember(&now, SIGUSR1) << 1 |
			   sigismember(&now, SIGSEGV) << 2);
}

static void test_handler_mask(void **state)
{
	struct sigaction act = {.sa_handler = mask_probe};

	sigfillset(&act.sa_mask);
	assert_int_equal(uapi_sigaction(SIGUSR1, &act, NULL), 0);
	raise(SIGUSR1);
	/* SIGSEGV is left out: a guarded copy in a handler must not kill */
	assert_int_equal(got_signal, 3);
	sigemptyset(&act.sa_mask);
	act.sa_flags = SA_NODEFER;
	assert_int_equal(uapi_sigaction(SIGUSR1, &act, NULL), 0);
	raise(SIGUSR1);
	assert_int_equal(got_signal, 0);
	act.sa_handler = plain_handler;
	assert_int_equal(uapi_sigaction(SIGUSR1, &act, NULL), 0);
}

static void test_reset_hand(void **state)
{
	struct sigaction act = {.sa_handler = plain_handler, .sa_flags = (int)SA_RESETHAND}, old;
	static const int sigs[] = {SIGUSR2, SIGFPE};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sigs); i++) {
		assert_int_equal(uapi_sigaction(sigs[i], &act, NULL), 0);
		got_signal = 0;
		raise(sigs[i]);
		assert_int_equal(got_signal, sigs[i]);
		assert_int_equal(uapi_sigaction(sigs[i], NULL, &old), 0);
		assert_ptr_equal(old.sa_handler, SIG_DFL);
	}
}

static void test_guarded_pointers(void **state)
{
	assert_true(uapi_faults_caught());
	pointers();
}

/* A thread that has every signal blocked, as QEMU's have, must survive a bad pointer. */
static void *blocked_thread(void *arg)
{
	sigset_t all, old;

	sigfillset(&all);
	/* behind our back */
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	pointers();
	illegal();
	assert_int_equal(uapi_sigmask(SIG_BLOCK, NULL, &old), 0);
	assert_true(sigismember(&old, SIGSEGV));
	assert_true(sigismember(&old, SIGUSR1));
	/* through us */
	assert_int_equal(uapi_sigmask(SIG_SETMASK, &all, &old), 0);
	pointers();
	illegal();
	sigemptyset(&all);
	assert_int_equal(uapi_sigmask(SIG_SETMASK, &all, &old), 0);
	assert_true(sigismember(&old, SIGBUS));
	assert_int_equal(uapi_sigmask(SIG_BLOCK, NULL, &old), 0);
	assert_false(sigismember(&old, SIGBUS));
	assert_false(sigismember(&old, SIGUSR1));
	return NULL;
}

static void test_blocked_thread(void **state)
{
	pthread_t t;

	skips = true;
	assert_int_equal(pthread_create(&t, NULL, blocked_thread, NULL), 0);
	pthread_join(t, NULL);
	skips = false;
}

static void test_hook_and_client(void **state)
{
	struct sigaction act = {.sa_sigaction = jump_handler, .sa_flags = SA_SIGINFO};
	u8 *p = mmap(NULL, 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_int_equal(uapi_sigaction(SIGSEGV, &act, NULL), 0);
	mended = p;
	errno = 55;
	*(volatile u8 *)p = 3; /* the hook's */
	assert_int_equal(errno, 55);
	assert_int_equal(*p, 3);
	if (!sigsetjmp(back, 1)) {
		*(volatile u8 *)(p + PAGE_SIZE) = 3; /* the client's */
		fail();
	}
	assert_ptr_equal(got_info.si_addr, p + PAGE_SIZE);
	/* and again: the mask came back with the jump */
	if (!sigsetjmp(back, 1)) {
		*(volatile u8 *)(p + PAGE_SIZE) = 3;
		fail();
	}
	act.sa_handler = SIG_DFL;
	assert_int_equal(uapi_sigaction(SIGSEGV, &act, NULL), 0);
	munmap(p, 2 * PAGE_SIZE);
}

static void die_by_fault(void)
{
	volatile int *volatile nowhere = (volatile int *)8;

	*nowhere = 1;
}

static void die_by_ignored_fault(void)
{
	struct sigaction act = {.sa_handler = SIG_IGN};

	uapi_sigaction(SIGSEGV, &act, NULL);
	raise(SIGSEGV); /* sent: ignored */
	die_by_fault();
}

static void die_by_division(void)
{
	__asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; cdq; div %%ecx" ::
				 : "eax", "ecx", "edx", "cc");
}

static void die_by_kill(void)
{
	kill(getpid(), SIGBUS);
}

static void die_by_second_fault(void)
{
	struct sigaction act = {.sa_sigaction = info_handler,
				.sa_flags = (int)SA_RESETHAND | SA_SIGINFO};

	uapi_sigaction(SIGSEGV, &act, NULL);
	die_by_fault(); /* the handler returns, the fault repeats, and now the default action ends
			   it */
}

static void test_default_actions(void **state)
{
	static const struct {
		void (*die)(void);
		int sig;
	} deaths[] = {{die_by_fault, SIGSEGV},	 {die_by_ignored_fault, SIGSEGV},
		      {die_by_division, SIGFPE}, {illegal, SIGILL},
		      {die_by_kill, SIGBUS},	 {die_by_second_fault, SIGSEGV}};
	struct rlimit none = {0, 0};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(deaths); i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			struct sigaction dfl = {.sa_handler = SIG_DFL};

			/* cmocka has handlers of its own for these */
			uapi_sigaction(SIGSEGV, &dfl, NULL);
			uapi_sigaction(SIGFPE, &dfl, NULL);
			uapi_sigaction(SIGBUS, &dfl, NULL);
			uapi_sigaction(SIGILL, &dfl, NULL);
			setrlimit(RLIMIT_CORE, &none);
			alarm(10);
			deaths[i].die();
			_exit(0);
		}
		status = wait_status(pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), deaths[i].sig);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lifetime),
		cmocka_unit_test(test_reference_outlives_fd),
		cmocka_unit_test(test_recycled_number),
		cmocka_unit_test(test_dup2),
		cmocka_unit_test(test_through_a_socket),
		cmocka_unit_test(test_range),
		cmocka_unit_test(test_bad_fds),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_vfork),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_tails),
		cmocka_unit_test(test_signals_before),
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_after),
		cmocka_unit_test(test_old_values),
		cmocka_unit_test(test_handler_mask),
		cmocka_unit_test(test_reset_hand),
		cmocka_unit_test(test_guarded_pointers),
		cmocka_unit_test(test_blocked_thread),
		cmocka_unit_test(test_hook_and_client),
		cmocka_unit_test(test_default_actions),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
