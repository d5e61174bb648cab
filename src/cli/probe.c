// SPDX-License-Identifier: MIT
/*
 * Proof by doing: a guest of a few instructions on the real /dev/kvm and on our library.
 *
 * Each runs in a child under a time limit, since a device may answer every question and then never
 * return from KVM_RUN. The real device is reached by direct system calls: this program may itself
 * run under the library.
 */
#include "cli/cli.h"
#include "anyvisor.h"
#include "uapi/sys.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_TIMEOUT_MS 5000
#define GUEST_BYTES	 0x10000u
#define REAL_CODE	 0x1000u
#define PML4		 0x2000u
#define PDPT		 0x3000u
#define PAGEDIR		 0x4000u
#define LONG_CODE	 0x8000u
#define PORT		 0xe9

/* The same calls on the kernel's device and on ours; all return negative errno. */
struct calls {
	int (*open)(void);
	int (*ioctl)(int fd, unsigned long cmd, void *arg);
	long (*map)(size_t len, int fd);
};

/* What the child tells its parent; sent as it is. */
struct verdict {
	bool done;
	int err; /* errno of the step, 0 where the guest did the wrong thing */
	u32 exit_reason;
	char step[64];
};

static bool failed(struct verdict *v, const char *step, long ret)
{
	if (ret >= 0)
		return false;
	v->err = (int)-ret;
	snprintf(v->step, sizeof(v->step), "%s", step);
	return true;
}

/* ---- the guest ---- */

/* mov dx, PORT; mov al, 'O'; add al, 1; out dx, al; hlt */
static const u8 real_code[] = {0xba, PORT, 0x00, 0xb0, 'O', 0x04, 0x01, 0xee, 0xf4};
/* mov rax, 0x1122334455667788; shr rax, 32; mov dx, PORT; out dx, eax; hlt */
static const u8 long_code[] = {0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
			       0x48, 0xc1, 0xe8, 0x20, 0x66, 0xba, PORT, 0x00, 0xef, 0xf4};

struct guest {
	const struct calls *c;
	int vcpu;
	struct kvm_run *run;
	u8 *mem;
};

static void fill_memory(u8 *mem)
{
	u64 entry;

	memcpy(mem + REAL_CODE, real_code, sizeof(real_code));
	memcpy(mem + LONG_CODE, long_code, sizeof(long_code));
	entry = PDPT | 3;
	memcpy(mem + PML4, &entry, sizeof(entry));
	entry = PAGEDIR | 3;
	memcpy(mem + PDPT, &entry, sizeof(entry));
	entry = 0x83; /* 2 MiB at 0 */
	memcpy(mem + PAGEDIR, &entry, sizeof(entry));
}

static bool guest_make(struct guest *g, struct verdict *v)
{
	struct kvm_userspace_memory_region slot = {.memory_size = GUEST_BYTES};
	int dev = g->c->open(), vm;
	long size, map;

	if (failed(v, "open", dev) ||
	    failed(v, "KVM_GET_API_VERSION", g->c->ioctl(dev, KVM_GET_API_VERSION, NULL)))
		return false;
	vm = g->c->ioctl(dev, KVM_CREATE_VM, NULL);
	if (failed(v, "KVM_CREATE_VM", vm))
		return false;
	/* Only old Intel hardware needs it; where it is unknown it is not needed. */
	g->c->ioctl(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
	map = sys(SYS_mmap, 0, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0);
	if (failed(v, "mmap", map > 0 ? 0 : map))
		return false;
	g->mem = (u8 *)map;
	fill_memory(g->mem);
	slot.userspace_addr = (u64)map;
	if (failed(v, "KVM_SET_USER_MEMORY_REGION",
		   g->c->ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot)))
		return false;
	g->vcpu = g->c->ioctl(vm, KVM_CREATE_VCPU, NULL);
	if (failed(v, "KVM_CREATE_VCPU", g->vcpu))
		return false;
	size = g->c->ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (failed(v, "KVM_GET_VCPU_MMAP_SIZE", size))
		return false;
	map = g->c->map((size_t)size, g->vcpu);
	if (map < 0 && map > -4096) {
		failed(v, "mmap of the vCPU", map);
		return false;
	}
	g->run = (struct kvm_run *)map;
	return true;
}

static bool run_until(struct guest *g, u32 exit_reason, struct verdict *v)
{
	long ret;

	do
		ret = g->c->ioctl(g->vcpu, KVM_RUN, NULL);
	while (ret == -EINTR || ret == -EAGAIN);
	if (failed(v, "KVM_RUN", ret))
		return false;
	if (g->run->exit_reason == exit_reason)
		return true;
	snprintf(v->step, sizeof(v->step), "KVM_RUN");
	v->exit_reason = g->run->exit_reason;
	return false;
}

/* Runs from rip: one OUT of `value`, then HLT. */
static bool run_guest(struct guest *g, const struct kvm_sregs *sregs, u64 rip, u32 size, u32 value,
		      struct verdict *v)
{
	struct kvm_regs regs = {.rip = rip, .rflags = 2, .rsp = 0x7000};
	u32 got = 0;

	if (failed(v, "KVM_SET_SREGS", g->c->ioctl(g->vcpu, KVM_SET_SREGS, (void *)sregs)) ||
	    failed(v, "KVM_SET_REGS", g->c->ioctl(g->vcpu, KVM_SET_REGS, &regs)) ||
	    !run_until(g, KVM_EXIT_IO, v))
		return false;
	memcpy(&got, (u8 *)g->run + g->run->io.data_offset, MIN(size, sizeof(got)));
	if (g->run->io.port != PORT || g->run->io.size != size ||
	    g->run->io.direction != KVM_EXIT_IO_OUT || got != value) {
		snprintf(v->step, sizeof(v->step), "the guest's arithmetic");
		return false;
	}
	return run_until(g, KVM_EXIT_HLT, v);
}

static void long_mode(struct kvm_sregs *s)
{
	struct kvm_segment data = {
		.limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};

	s->cr3 = PML4;
	s->cr4 = 1 << 5;     /* PAE */
	s->cr0 = 0x80000031; /* PG, NE, ET, PE */
	s->efer = 0x500;     /* LMA, LME */
	s->cs = data;
	s->cs.selector = 8;
	s->cs.type = 11;
	s->cs.db = 0;
	s->cs.l = 1;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
}

static void run_both(struct guest *g, struct verdict *v)
{
	struct kvm_sregs sregs;

	if (failed(v, "KVM_GET_SREGS", g->c->ioctl(g->vcpu, KVM_GET_SREGS, &sregs)))
		return;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (!run_guest(g, &sregs, REAL_CODE, 1, 'P', v))
		return;
	long_mode(&sregs);
	v->done = run_guest(g, &sregs, LONG_CODE, 4, 0x11223344, v);
}

/* ---- the two devices ---- */

static int real_open(void)
{
	return (int)sys(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
}

static int real_ioctl(int fd, unsigned long cmd, void *arg)
{
	return (int)sys(SYS_ioctl, fd, cmd, arg);
}

static long real_map(size_t len, int fd)
{
	return sys(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static const struct calls real_calls = {real_open, real_ioctl, real_map};

static struct {
	typeof(anyvisor_open) *open;
	typeof(anyvisor_ioctl) *ioctl;
	typeof(anyvisor_mmap) *mmap;
} library;

static int soft_open(void)
{
	int fd = library.open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int soft_ioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = library.ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static long soft_map(size_t len, int fd)
{
	void *p = library.mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? -errno : (long)p;
}

static const struct calls soft_calls = {soft_open, soft_ioctl, soft_map};

static bool load_library(const char *path, struct verdict *v)
{
	void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (dl) {
		library.open = (typeof(library.open))dlsym(dl, "anyvisor_open");
		library.ioctl = (typeof(library.ioctl))dlsym(dl, "anyvisor_ioctl");
		library.mmap = (typeof(library.mmap))dlsym(dl, "anyvisor_mmap");
	}
	if (dl && library.open && library.ioctl && library.mmap)
		return true;
	snprintf(v->step, sizeof(v->step), "loading of libanyvisor.so");
	v->err = ELIBACC;
	return false;
}

/* ---- the child ---- */

static void __noreturn child(const struct calls *c, const char *lib, int out)
{
	struct verdict v = {0};
	struct guest g = {.c = c};

	if ((!lib || load_library(lib, &v)) && guest_make(&g, &v))
		run_both(&g, &v);
	_exit(write(out, &v, sizeof(v)) == sizeof(v) ? 0 : 1);
}

/* What became of the guest, as the end of a sentence; "" when all went well. */
static void try_guest(const struct calls *c, const char *lib, char what[256], struct verdict *v)
{
	struct pollfd p = {.events = POLLIN};
	int fds[2], status = 0, ready;
	pid_t pid;

	memset(v, 0, sizeof(*v));
	what[0] = 0;
	if (pipe2(fds, O_CLOEXEC)) {
		snprintf(what, 256, "no pipe could be made: %s", strerror(errno));
		return;
	}
	fflush(NULL);
	pid = fork();
	if (!pid)
		child(c, lib, fds[1]);
	close(fds[1]);
	p.fd = fds[0];
	ready = pid < 0 ? -1 : poll(&p, 1, PROBE_TIMEOUT_MS);
	if (ready == 1 && read(fds[0], v, sizeof(*v)) != sizeof(*v))
		memset(v, 0, sizeof(*v));
	if (pid > 0) {
		if (ready != 1)
			kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	close(fds[0]);
	if (pid < 0)
		snprintf(what, 256, "no process could be made");
	else if (ready != 1)
		snprintf(what, 256, "a guest of nine instructions did not end within %d seconds",
			 PROBE_TIMEOUT_MS / 1000);
	else if (v->done)
		return;
	else if (WIFSIGNALED(status))
		snprintf(what, 256, "the process that ran the guest died of %s",
			 strsignal(WTERMSIG(status)));
	else if (v->err)
		snprintf(what, 256, "%s failed: %s", v->step, strerror(v->err));
	else if (v->exit_reason)
		snprintf(what, 256, "%s ended with the unexpected exit reason %u", v->step,
			 v->exit_reason);
	else
		snprintf(what, 256, "%s came out wrong", v->step[0] ? v->step : "the guest");
}

/* ---- findings ---- */

void cli_probe_cpu(struct cli_finding *f)
{
	u32 a, b, c = 0, d;
	bool vmx = __get_cpuid(1, &a, &b, &c, &d) && c & BIT(5);
	bool svm = __get_cpuid(0x80000001, &a, &b, &c, &d) && c & BIT(2);

	if (vmx || svm)
		cli_find_that(f, CLI_OK, "The CPU offers hardware virtualization (%s).",
			      vmx ? "VMX" : "SVM");
	else
		cli_find_that(
			f, CLI_NO_CPU_BIT,
			"The CPU shows neither VMX nor SVM: no hardware virtualization here.");
}

void cli_probe_kvm(struct cli_finding *f)
{
	struct verdict v;
	char what[256];
	int fd = real_open();

	if (fd >= 0) {
		sys(SYS_close, fd);
		try_guest(&real_calls, NULL, what, &v);
		if (v.done)
			cli_find_that(
				f, CLI_OK,
				"/dev/kvm runs guests (real mode and 64-bit mode were tried).");
		else
			cli_find_that(f, CLI_KVM_NOT_WORKING,
				      "/dev/kvm opens but does not run guests: %s.", what);
		return;
	}
	if (fd == -ENOENT)
		cli_find_that(f, CLI_DEVICE_MISSING, "/dev/kvm is missing.");
	else if (fd == -EACCES || fd == -EPERM)
		cli_find_that(f, CLI_PERMISSION, "/dev/kvm may not be opened by this user: %s.",
			      strerror(-fd));
	else
		cli_find_that(f, CLI_DEVICE_ERROR, "/dev/kvm cannot be opened: %s.", strerror(-fd));
}

void cli_probe_software(struct cli_finding *f)
{
	char lib[PATH_MAX], what[256];
	struct verdict v;

	if (!cli_library(lib, f))
		return;
	try_guest(&soft_calls, lib, what, &v);
	if (v.done)
		cli_find_that(
			f, CLI_OK,
			"The software CPU runs guests (real mode and 64-bit mode were tried).");
	else
		cli_find_that(f, CLI_SOFTWARE_NOT_WORKING,
			      "The software CPU does not run guests: %s.", what);
}
