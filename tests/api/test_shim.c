// SPDX-License-Identifier: MIT
/*
 * The interposed libc names, seen from a client that knows nothing of the library: run it with
 * LD_PRELOAD=libanyvisor.so.
 *
 * That a fd is ours and not the host's /dev/kvm is read from /proc/self/fd.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dlfcn.h>

#include <cmocka.h>

/* The old names are here to be tested. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static bool is_soft(int fd)
{
	char link[64], target[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	return !strncmp(target, "/memfd:kvm", 10);
}

static int version(int fd)
{
	return ioctl(fd, KVM_GET_API_VERSION, 0);
}

/* Ours, answers, and closes. */
static void check_device(int fd)
{
	assert_true(fd >= 0);
	assert_true(is_soft(fd));
	assert_int_equal(version(fd), KVM_API_VERSION);
	assert_int_equal(close(fd), 0);
	assert_int_equal(version(fd), -1);
	assert_int_equal(errno, EBADF);
}

static int new_vm(void)
{
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(dev, KVM_CREATE_VM, 0);

	assert_true(vm >= 0);
	close(dev);
	return vm;
}

static int vm_answers(int vm)
{
	return ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY);
}

static void *name(const char *symbol)
{
	void *p = dlsym(RTLD_DEFAULT, symbol);

	if (!p)
		print_error("%s is missing\n", symbol);
	assert_non_null(p);
	return p;
}

/* ---- opening ---- */

static void test_open(void **state)
{
	static const char *const open_names[] = {"open",     "open64",	 "__open",
						 "__open64", "__open_2", "__open64_2"};
	static const char *const openat_names[] = {"openat", "openat64", "__openat_2",
						   "__openat64_2"};
	static const char *const paths[] = {"/dev/kvm", "//dev//kvm", "/dev/./kvm", "/./dev/kvm"};
	struct open_how how = {.flags = O_RDWR};
	size_t i, j;
	int dev;

	for (i = 0; i < ARRAY_SIZE(open_names); i++) {
		int (*fn)(const char *, int, ...) =
			(int (*)(const char *, int, ...))name(open_names[i]);

		for (j = 0; j < ARRAY_SIZE(paths); j++)
			check_device(fn(paths[j], O_RDWR));
	}
	dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (i = 0; i < ARRAY_SIZE(openat_names); i++) {
		int (*fn)(int, const char *, int, ...) =
			(int (*)(int, const char *, int, ...))name(openat_names[i]);

		check_device(fn(AT_FDCWD, "/dev/kvm", O_RDWR));
		check_device(fn(dev, "kvm", O_RDWR));
		check_device(fn(dev, ".//kvm", O_RDWR));
	}
	check_device((int)syscall(SYS_open, "/dev/kvm", O_RDWR));
	check_device((int)syscall(SYS_openat, dev, "kvm", O_RDWR));
	check_device((int)syscall(SYS_openat2, dev, "kvm", &how, sizeof(how)));
	check_device(creat("/dev/kvm", 0600));
	close(dev);
}

static void test_open_relative(void **state)
{
	char *here = getcwd(NULL, 0);

	assert_int_equal(chdir("/dev"), 0);
	check_device(open("kvm", O_RDWR));
	assert_int_equal(chdir("/"), 0);
	check_device(open("dev/kvm", O_RDWR));
	assert_int_equal(chdir(here), 0);
	errno = 0;
	assert_int_equal(open("kvm-of-no-such-name", O_RDWR), -1);
	assert_int_equal(errno, ENOENT);
	free(here);
}

static void test_open_flags(void **state)
{
	int fd = open("/dev/kvm", O_RDWR);

	assert_int_equal(fcntl(fd, F_GETFD), 0);
	close(fd);
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(open("/dev/kvm", O_RDWR | O_DIRECTORY), -1);
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(open("/dev/kvm", O_RDWR | O_CREAT | O_EXCL, 0600), -1);
	assert_int_equal(errno, EEXIST);
}

/* Files that are not ours, with and without a mode. */
static void test_open_foreign(void **state)
{
	char path[] = "/tmp/anyvisor-shim-XXXXXX";
	int fd = mkstemp(path);
	struct stat st;

	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	fd = open(path, O_CREAT | O_RDWR, 0640);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640 & ~umask(umask(0)));
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(ioctl(fd, KVM_GET_API_VERSION, 0), -1);
	assert_int_equal(errno, ENOTTY);
	assert_ptr_not_equal(mmap(NULL, 3, PROT_READ, MAP_PRIVATE, fd, 0), MAP_FAILED);
	close(fd);
	unlink(path);
	assert_int_equal(open("/dev/kvm/", O_RDWR), -1);
}

/* ---- fds ---- */

static void test_dups(void **state)
{
	int vm = new_vm(), null = open("/dev/null", O_RDWR), fds[6];
	size_t i;

	fds[0] = dup(vm);
	fds[1] = dup2(vm, 200);
	fds[2] = dup3(vm, 201, O_CLOEXEC);
	fds[3] = fcntl(vm, F_DUPFD, 202);
	fds[4] = fcntl(vm, F_DUPFD_CLOEXEC, 202);
	fds[5] = (int)syscall(SYS_dup, vm);
	close(vm);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_true(fds[i] >= 0);
		assert_int_equal(vm_answers(fds[i]), 1);
	}
	assert_int_equal(dup2(null, 200), 200);
	assert_int_equal(vm_answers(200), -1);
	assert_int_equal(errno, ENOTTY);
	/* a failing dup2 closes nothing */
	assert_int_equal(dup2(9999, 201), -1);
	assert_int_equal(vm_answers(201), 1);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	assert_int_equal(vm_answers(fds[5]), -1);
	close(null);
}

static void test_closes(void **state)
{
	int vm = new_vm(), low = fcntl(vm, F_DUPFD, 300), high = fcntl(vm, F_DUPFD, 400);
	int (*range)(unsigned int, unsigned int, int) =
		(int (*)(unsigned int, unsigned int, int))name("close_range");
	FILE *f;

	assert_int_equal(range(350, 450, 0), 0);
	assert_int_equal(fcntl(high, F_GETFD), -1);
	assert_int_equal(vm_answers(low), 1);
	/* the number comes back as a foreign file */
	assert_int_equal(dup2(2, high), high);
	assert_int_equal(vm_answers(high), -1);
	close(high);
	f = fdopen(low, "r");
	fclose(f);
	assert_int_equal(dup2(0, low), low);
	assert_int_equal(vm_answers(low), -1);
	assert_int_equal(syscall(SYS_close, low), 0);
	assert_int_equal(vm_answers(vm), 1);
	close(vm);
}

static int pass_through_socket(int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int socks[2], got = -1;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	assert_int_equal(sendmsg(socks[0], &msg, 0), 1);
	msg.msg_controllen = sizeof(control);
	assert_int_equal(recvmsg(socks[1], &msg, 0), 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
	close(socks[0]);
	close(socks[1]);
	return got;
}

static void test_arrivals(void **state)
{
	int vm = new_vm(), by_socket = pass_through_socket(vm), by_proc;
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", vm);
	by_proc = open(link, O_RDWR | O_CLOEXEC);
	close(vm);
	assert_int_equal(vm_answers(by_socket), 1);
	close(by_socket);
	assert_int_equal(vm_answers(by_proc), 1);
	close(by_proc);
}

static void test_vcpu_mmap(void **state)
{
	int dev = open("/dev/kvm", O_RDWR), vm = ioctl(dev, KVM_CREATE_VM, 0),
	    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size_t size = (size_t)ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run, *other;

	assert_true(vcpu >= 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	assert_ptr_not_equal(run, MAP_FAILED);
	other = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	run->request_interrupt_window = 1;
	assert_int_equal(other->request_interrupt_window, 1);
	munmap(run, size);
	munmap(other, size);
	close(vcpu);
	close(vm);
	close(dev);
}

static void test_ioctl_syscall(void **state)
{
	int vm = new_vm();

	assert_int_equal(syscall(SYS_ioctl, vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	/* only the low 32 bits of a command count */
	assert_int_equal(ioctl(vm, KVM_CHECK_EXTENSION | 0xdead00000000ul, KVM_CAP_USER_MEMORY), 1);
	assert_int_equal(syscall(SYS_ioctl, vm, 0x1234, 0), -1);
	assert_int_equal(errno, ENOTTY);
	close(vm);
	/* and numbers that have nothing to do with us */
	assert_int_equal(syscall(SYS_getpid), getpid());
	assert_int_equal(syscall(100000), -1);
	assert_int_equal(errno, ENOSYS);
}

/* ---- what the file system shows ---- */

static void check_stat(const struct stat *st)
{
	assert_int_equal(st->st_mode, S_IFCHR | 0666);
	assert_int_equal(st->st_rdev, makedev(10, 232));
}

static void test_stat(void **state)
{
	static const char *const names[] = {"stat", "stat64", "lstat", "lstat64"};
	static const char *const versioned[] = {"__xstat", "__xstat64", "__lxstat", "__lxstat64"};
	struct statx stx;
	struct stat st;
	size_t i;
	int dev = open("/dev", O_PATH | O_DIRECTORY);

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		memset(&st, 0xff, sizeof(st));
		assert_int_equal(
			((int (*)(const char *, struct stat *))name(names[i]))("/dev/kvm", &st), 0);
		check_stat(&st);
		memset(&st, 0xff, sizeof(st));
		assert_int_equal(((int (*)(int, const char *, struct stat *))name(versioned[i]))(
					 1, "/dev/kvm", &st),
				 0);
		check_stat(&st);
		assert_int_equal(((int (*)(int, const char *, struct stat *))name(versioned[i]))(
					 9, "/dev/kvm", &st),
				 -1);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(fstatat(dev, "kvm", &st, 0), 0);
	check_stat(&st);
	assert_int_equal(statx(dev, "kvm", 0, STATX_ALL, &stx), 0);
	assert_int_equal(stx.stx_mode, S_IFCHR | 0666);
	assert_int_equal(stx.stx_rdev_major, 10);
	assert_int_equal(stx.stx_rdev_minor, 232);
	assert_int_equal(syscall(SYS_stat, "/dev/kvm", &st), 0);
	check_stat(&st);
	/* and others as ever */
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_int_equal(st.st_rdev, makedev(1, 3));
	assert_int_equal(fstatat(dev, "", &st, AT_EMPTY_PATH), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(stat("/dev/kvm2", &st), -1);
	close(dev);
}

static void test_access(void **state)
{
	int dev = open("/dev", O_PATH | O_DIRECTORY);
	char *real;

	assert_int_equal(access("/dev/kvm", R_OK | W_OK), 0);
	assert_int_equal(access("/dev/kvm", F_OK), 0);
	assert_int_equal(access("/dev/kvm", X_OK), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(access("/dev/kvm", 64), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(eaccess("/dev/kvm", R_OK | W_OK), 0);
	assert_int_equal(euidaccess("/dev/kvm", R_OK | W_OK), 0);
	assert_int_equal(faccessat(dev, "kvm", R_OK | W_OK, AT_EACCESS), 0);
	assert_int_equal(syscall(SYS_faccessat2, dev, "kvm", R_OK | W_OK, 0), 0);
	assert_int_equal(access("/dev/no-such-device", F_OK), -1);
	assert_int_equal(errno, ENOENT);
	real = realpath("/dev//kvm", NULL);
	assert_string_equal(real, "/dev/kvm");
	free(real);
	real = canonicalize_file_name("/dev/./null");
	assert_string_equal(real, "/dev/null");
	free(real);
	close(dev);
}

/* ---- processes ---- */

static int wait_status(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_fork(void **state)
{
	int dev = open("/dev/kvm", O_RDWR), vm = ioctl(dev, KVM_CREATE_VM, 0), own;
	pid_t pid = fork();

	if (!pid) {
		if (vm_answers(vm) != -1 || errno != EIO)
			_exit(1);
		if (version(dev) != KVM_API_VERSION)
			_exit(2);
		close(vm);
		own = ioctl(dev, KVM_CREATE_VM, 0);
		_exit(own >= 0 && vm_answers(own) == 1 ? 0 : 3);
	}
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(vm_answers(vm), 1);
	close(vm);
	close(dev);
}

/* posix_spawn and vfork share our memory but not our fds. */
static void test_spawn(void **state)
{
	static char *const args[] = {"true", NULL}, *const env[] = {NULL};
	posix_spawn_file_actions_t actions;
	int vm = new_vm();
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, vm);
	assert_int_equal(posix_spawn(&pid, "/bin/true", &actions, NULL, args, env), 0);
	posix_spawn_file_actions_destroy(&actions);
	assert_int_equal(wait_status(pid), 0);
	pid = vfork();
	if (!pid) {
		close(vm);
		dup2(0, vm);
		_exit(0);
	}
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(vm_answers(vm), 1);
	close(vm);
}

/* ---- signals, with a VM alive so that the trampolines stand ---- */

static volatile sig_atomic_t got;
static sigjmp_buf back;

static void note(int sig)
{
	got = sig;
}

static void jump(int sig)
{
	got = sig;
	siglongjmp(back, 1);
}

static void test_dispositions(void **state)
{
	int dev = open("/dev/kvm", O_RDWR), vm = ioctl(dev, KVM_CREATE_VM, 0),
	    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct sigaction act;
	size_t i;
	static const struct {
		const char *name;
		int flags; /* the libc's own */
		bool resets;
	} setters[] = {{"signal", SA_RESTART},
		       {"bsd_signal", SA_RESTART},
		       {"ssignal", SA_RESTART},
		       {"sysv_signal", (int)SA_RESETHAND | SA_NODEFER, true},
		       {"__sysv_signal", (int)SA_RESETHAND | SA_NODEFER, true},
		       {"sigset", 0}};
	const int shown = SA_RESTART | SA_NODEFER | (int)SA_RESETHAND | SA_SIGINFO;

	assert_true(vcpu >= 0);
	for (i = 0; i < ARRAY_SIZE(setters); i++) {
		void (*(*set)(int, void (*)(int)))(int) =
			(void (*(*)(int, void (*)(int)))(int))name(setters[i].name);

		assert_ptr_equal(set(SIGUSR2, note), SIG_DFL);
		assert_int_equal(sigaction(SIGUSR2, NULL, &act), 0);
		assert_ptr_equal(act.sa_handler, note);
		assert_int_equal(act.sa_flags & shown, setters[i].flags);
		got = 0;
		raise(SIGUSR2);
		assert_int_equal(got, SIGUSR2);
		assert_int_equal(sigaction(SIGUSR2, NULL, &act), 0);
		assert_ptr_equal(act.sa_handler, setters[i].resets ? SIG_DFL : note);
		signal(SIGUSR2, SIG_DFL);
		assert_ptr_equal(set(999, note), SIG_ERR);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(siginterrupt(SIGUSR2, 1), 0);
	signal(SIGUSR2, note);
	sigaction(SIGUSR2, NULL, &act);
	assert_int_equal(act.sa_flags & shown, 0);
	assert_int_equal(siginterrupt(SIGUSR2, 0), 0);
	sigaction(SIGUSR2, NULL, &act);
	assert_int_equal(act.sa_flags & shown, SA_RESTART);
	assert_int_equal(sigignore(SIGUSR2), 0);
	raise(SIGUSR2);
	signal(SIGUSR2, SIG_DFL);
	close(vcpu);
	close(vm);
	close(dev);
}

static void test_masks(void **state)
{
	sigset_t all, old;

	sigfillset(&all);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &old), 0);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, &all), 0);
	assert_true(sigismember(&all, SIGSEGV));
	assert_true(sigismember(&all, SIGTERM));
	assert_int_equal(pthread_sigmask(77, &all, NULL), EINVAL);
	assert_int_equal(sighold(SIGUSR1), 0);
	signal(SIGUSR1, note);
	got = 0;
	raise(SIGUSR1);
	assert_int_equal(got, 0);
	assert_int_equal(sigrelse(SIGUSR1), 0);
	assert_int_equal(got, SIGUSR1);
	signal(SIGUSR1, SIG_DFL);
}

/* The client's own faults still reach the client, and bad pointers in ioctls do not. */
static void test_faults(void **state)
{
	volatile int *volatile nowhere = (volatile int *)8;
	int dev = open("/dev/kvm", O_RDWR), vm = ioctl(dev, KVM_CREATE_VM, 0),
	    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	void (*before)(int) = signal(SIGSEGV, jump);
	sigset_t all, old;
	int i;

	for (i = 0; i < 2; i++) {
		got = 0;
		if (!sigsetjmp(back, 1))
			*nowhere = 1;
		assert_int_equal(got, SIGSEGV);
	}
	got = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	assert_int_equal(ioctl(vcpu, KVM_GET_REGS, 8), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ioctl(vcpu, KVM_SET_REGS, 8), -1);
	assert_int_equal(errno, EFAULT);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	assert_int_equal(got, 0);
	signal(SIGSEGV, before);
	close(vcpu);
	close(vm);
	close(dev);
}

/* ---- threads that are cancelled inside KVM_RUN ---- */

static int run_fd, cancel_type;

static void *run_guest(void *arg)
{
	pthread_setcanceltype(cancel_type, NULL);
	ioctl(run_fd, KVM_RUN, 0);
	pthread_testcancel();
	return NULL;
}

/* A guest that counts at 0x500, or halts for ever. */
static void cancelled(bool halts, int type)
{
	static const unsigned char counts[] = {0xff, 0x06, 0x00, 0x05, 0xeb, 0xfa},
				   waits[] = {0xff, 0x06, 0x00, 0x05, 0xf4};
	unsigned char *ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile unsigned short *counter = (volatile unsigned short *)(ram + 0x500);
	struct kvm_userspace_memory_region r = {
		.memory_size = 4096,
		.userspace_addr = (unsigned long)ram,
	};
	int dev = open("/dev/kvm", O_RDWR), vm = ioctl(dev, KVM_CREATE_VM, 0);
	unsigned short seen;
	struct kvm_sregs s;
	struct kvm_regs regs = {.rflags = 2};
	pthread_t t;
	void *ret;

	memcpy(ram, halts ? waits : counts, halts ? sizeof(waits) : sizeof(counts));
	assert_int_equal(ioctl(vm, KVM_CREATE_IRQCHIP, 0), 0);
	assert_int_equal(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r), 0);
	run_fd = ioctl(vm, KVM_CREATE_VCPU, 0);
	assert_int_equal(ioctl(run_fd, KVM_GET_SREGS, &s), 0);
	s.cs.base = s.cs.selector = 0;
	assert_int_equal(ioctl(run_fd, KVM_SET_SREGS, &s), 0);
	assert_int_equal(ioctl(run_fd, KVM_SET_REGS, &regs), 0);

	cancel_type = type;
	assert_int_equal(pthread_create(&t, NULL, run_guest, NULL), 0);
	while (!*counter)
		usleep(1000);
	if (halts)
		usleep(5000); /* it has most likely fallen asleep by then */
	assert_int_equal(pthread_cancel(t), 0);
	if (type == PTHREAD_CANCEL_DEFERRED) {
		/* An ioctl is no cancellation point: only a signal ends it. */
		usleep(5000);
		seen = *counter;
		while (*counter == seen)
			usleep(1000);
		signal(SIGUSR1, note);
		pthread_kill(t, SIGUSR1);
	}
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_ptr_equal(ret, PTHREAD_CANCELED);
	/* Nothing is held any more: the vCPU is there for others, and memory can go. */
	assert_int_equal(ioctl(run_fd, KVM_GET_REGS, &regs), 0);
	r.memory_size = 0;
	assert_int_equal(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r), 0);
	munmap(ram, 4096);
	close(run_fd);
	close(vm);
	close(dev);
}

static void test_cancel(void **state)
{
	for (int i = 0; i < 20; i++)
		cancelled(false, PTHREAD_CANCEL_ASYNCHRONOUS);
	cancelled(true, PTHREAD_CANCEL_ASYNCHRONOUS);
	cancelled(false, PTHREAD_CANCEL_DEFERRED);
}

static void *cancel_at_once(void *arg)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	while (ioctl(run_fd, KVM_CHECK_EXTENSION, KVM_CAP_HLT) > 0)
		;
	return NULL;
}

/* At whatever point of a call it comes, nothing stays locked. */
static void test_cancel_anywhere(void **state)
{
	pthread_t t;
	void *ret;

	run_fd = open("/dev/kvm", O_RDWR);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(pthread_create(&t, NULL, cancel_at_once, NULL), 0);
		usleep(i);
		assert_int_equal(pthread_cancel(t), 0);
		assert_int_equal(pthread_join(t, &ret), 0);
		assert_ptr_equal(ret, PTHREAD_CANCELED);
		assert_true(ioctl(run_fd, KVM_CHECK_EXTENSION, KVM_CAP_HLT) > 0);
	}
	close(run_fd);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),	      cmocka_unit_test(test_open_relative),
		cmocka_unit_test(test_open_flags),    cmocka_unit_test(test_open_foreign),
		cmocka_unit_test(test_dups),	      cmocka_unit_test(test_closes),
		cmocka_unit_test(test_arrivals),      cmocka_unit_test(test_vcpu_mmap),
		cmocka_unit_test(test_ioctl_syscall), cmocka_unit_test(test_stat),
		cmocka_unit_test(test_access),	      cmocka_unit_test(test_fork),
		cmocka_unit_test(test_spawn),	      cmocka_unit_test(test_dispositions),
		cmocka_unit_test(test_masks),	      cmocka_unit_test(test_faults),
		cmocka_unit_test(test_cancel),	      cmocka_unit_test(test_cancel_anywhere),
	};

	if (!dlsym(RTLD_DEFAULT, "anyvisor_version")) {
		fprintf(stderr, "test_shim: run it with LD_PRELOAD=libanyvisor.so\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
