// SPDX-License-Identifier: MIT
/*
 * Runs a freestanding guest (guest/) on the public API as a small VMM would: RAM at 0, KVM's
 *interrupt controllers and PIT, a thread per vCPU, the CPUID that KVM_GET_SUPPORTED_CPUID offers.
 *Judges by the guest's own lines and status.
 *
 *	runner [--smp N] [--real] [--timeout SECONDS] IMAGE
 */
#include "anyvisor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RAM_SIZE   (64u << 20)
#define MAX_VCPUS  16
#define MAX_CPUID  256
#define MAX_OUTPUT 65536

enum {
	PORT_CMOS = 0x70,
	PORT_CMOS_DATA = 0x71,
	PORT_CONSOLE = 0xe9,
	PORT_STATUS = 0xf4,
	PORT_LSR = 0x3fd
};
#define CMOS_CPUS 0x5f /* number of processors - 1, where PC firmware keeps it */

struct vcpu {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

static struct {
	int dev, vm;
	uint8_t *ram;
	int run_size;
	unsigned smp;
	struct vcpu vcpu[MAX_VCPUS];

	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool stop;
	int status; /* the guest's, -1: none yet */
	uint8_t cmos_index;
	char output[MAX_OUTPUT];
	size_t length;
	char trouble[512]; /* what went wrong outside of the guest's own judgement */
} m = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER, .status = -1};

static void __attribute__((format(printf, 1, 2))) stop(const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&m.lock);
	if (!m.stop && *fmt) {
		va_start(ap, fmt);
		vsnprintf(m.trouble, sizeof(m.trouble), fmt, ap);
		va_end(ap);
	}
	m.stop = true;
	pthread_cond_broadcast(&m.ended);
	pthread_mutex_unlock(&m.lock);
}

static int call(int fd, unsigned long cmd, uintptr_t arg, const char *name)
{
	int r = anyvisor_ioctl(fd, cmd, (void *)arg);

	if (r < 0) {
		fprintf(stderr, "runner: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	return r;
}
#define CALL(fd, cmd, arg) call(fd, cmd, (uintptr_t)(arg), #cmd)

/* ---- the machine ---- */

static void make_vm(void)
{
	struct kvm_userspace_memory_region ram = {.memory_size = RAM_SIZE};
	struct kvm_pit_config pit = {0};

	m.dev = anyvisor_open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m.dev < 0) {
		perror("runner: /dev/kvm");
		exit(1);
	}
	m.vm = CALL(m.dev, KVM_CREATE_VM, 0);
	m.run_size = CALL(m.dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	m.ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m.ram == MAP_FAILED) {
		perror("runner: RAM");
		exit(1);
	}
	ram.userspace_addr = (uintptr_t)m.ram;
	CALL(m.vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	CALL(m.vm, KVM_CREATE_IRQCHIP, 0);
	CALL(m.vm, KVM_CREATE_PIT2, &pit);
	CALL(m.vm, KVM_SET_USER_MEMORY_REGION, &ram);
}

static void set_cpuid(struct vcpu *v, unsigned id)
{
	static uint64_t
		room[(sizeof(struct kvm_cpuid2) + MAX_CPUID * sizeof(struct kvm_cpuid_entry2)) / 8 +
		     1];
	struct kvm_cpuid2 *c = (struct kvm_cpuid2 *)room;
	unsigned k;

	c->nent = MAX_CPUID;
	CALL(m.dev, KVM_GET_SUPPORTED_CPUID, c);
	for (k = 0; k < c->nent; k++) {
		struct kvm_cpuid_entry2 *e = &c->entries[k];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0xff00) | id << 24 | m.smp << 16;
			if (CALL(m.dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
				e->ecx |= 1 << 24;
		} else if (e->function == 0xb) {
			e->edx = id;
		}
	}
	CALL(v->fd, KVM_SET_CPUID2, c);
}

/* Real mode with all bases 0, or flat 32-bit protected mode as multiboot leaves it. */
static void set_start(struct vcpu *v, bool real, uint32_t rip)
{
	struct kvm_segment code = {.limit = 0xffffffff,
				   .selector = 8,
				   .type = 0xb,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_regs regs = {.rip = rip, .rflags = 2};
	struct kvm_sregs s;

	data.selector = 0x10;
	data.type = 3;
	CALL(v->fd, KVM_GET_SREGS, &s);
	if (real) {
		s.cs.base = 0;
		s.cs.selector = 0;
	} else {
		s.cr0 |= 1;
		s.cs = code;
		s.ds = s.es = s.fs = s.gs = s.ss = data;
	}
	CALL(v->fd, KVM_SET_SREGS, &s);
	CALL(v->fd, KVM_SET_REGS, &regs);
}

static void make_vcpu(unsigned id)
{
	struct vcpu *v = &m.vcpu[id];

	v->fd = CALL(m.vm, KVM_CREATE_VCPU, id);
	v->run = anyvisor_mmap(NULL, m.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		perror("runner: kvm_run");
		exit(1);
	}
	set_cpuid(v, id);
}

static void load(const char *path, uint32_t where)
{
	FILE *f = fopen(path, "rb");
	size_t n = f ? fread(m.ram + where, 1, RAM_SIZE - where, f) : 0;

	if (!n) {
		fprintf(stderr, "runner: %s: %s\n", path, f ? "empty" : strerror(errno));
		exit(1);
	}
	fclose(f);
}

/* ---- exits ---- */

static uint32_t port_in(uint16_t port)
{
	switch (port) {
	case PORT_CMOS_DATA:
		return m.cmos_index == CMOS_CPUS ? m.smp - 1 : 0;
	case PORT_LSR:
		return 0x60; /* transmitter empty */
	default:
		return ~0u;
	}
}

static void port_out(uint16_t port, uint8_t v)
{
	if (port == PORT_CONSOLE && m.length < MAX_OUTPUT - 1)
		m.output[m.length++] = (char)v;
	else if (port == PORT_CMOS)
		m.cmos_index = v & 0x7f;
	else if (port == PORT_STATUS)
		m.status = v;
}

static void do_io(struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool ended = false;
	uint32_t k, v;

	pthread_mutex_lock(&m.lock);
	for (k = 0; k < run->io.count; k++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			port_out(run->io.port, *data);
			ended = ended || run->io.port == PORT_STATUS;
		} else {
			v = port_in(run->io.port);
			memcpy(data, &v, run->io.size);
		}
	}
	pthread_mutex_unlock(&m.lock);
	if (ended)
		stop("%s", "");
}

static void describe(unsigned id, const char *what)
{
	struct vcpu *v = &m.vcpu[id];
	struct kvm_regs r = {0};
	struct kvm_sregs s = {0};

	anyvisor_ioctl(v->fd, KVM_GET_REGS, &r);
	anyvisor_ioctl(v->fd, KVM_GET_SREGS, &s);
	stop("vCPU %u: %s at %x:%llx, cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx rsp %llx "
	     "rflags %llx",
	     id, what, s.cs.selector, r.rip, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, r.rsp, r.rflags);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	unsigned id = (unsigned)(v - m.vcpu);
	char text[80];

	while (!__atomic_load_n(&m.stop, __ATOMIC_SEQ_CST)) {
		if (anyvisor_ioctl(v->fd, KVM_RUN, NULL) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			snprintf(text, sizeof(text), "KVM_RUN: %s", strerror(errno));
			describe(id, text);
			break;
		}
		switch (v->run->exit_reason) {
		case KVM_EXIT_IO:
			do_io(v->run);
			continue;
		case KVM_EXIT_MMIO:
			snprintf(text, sizeof(text), "MMIO at %llx", v->run->mmio.phys_addr);
			break;
		case KVM_EXIT_SHUTDOWN:
			snprintf(text, sizeof(text), "shutdown");
			break;
		default:
			snprintf(text, sizeof(text), "exit reason %u", v->run->exit_reason);
			break;
		}
		describe(id, text);
	}
	return NULL;
}

/* ---- judging ---- */

static void wait_for_end(unsigned seconds)
{
	struct timespec t;
	bool timed_out = false;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += seconds;
	pthread_mutex_lock(&m.lock);
	while (!m.stop && !timed_out)
		timed_out = pthread_cond_timedwait(&m.ended, &m.lock, &t) == ETIMEDOUT;
	pthread_mutex_unlock(&m.lock);
	if (timed_out)
		stop("no end after %u seconds", seconds);
}

/* A kick is remembered only by a vCPU that is in KVM_RUN or on its way, so it is repeated until the
 * thread has ended. */
static void join_all(void)
{
	unsigned k;

	for (k = 0; k < m.smp; k++) {
		struct timespec t;

		do {
			anyvisor_kick(m.vcpu[k].fd);
			clock_gettime(CLOCK_REALTIME, &t);
			t.tv_nsec += 20000000;
			t.tv_sec += t.tv_nsec / 1000000000;
			t.tv_nsec %= 1000000000;
		} while (pthread_timedjoin_np(m.vcpu[k].thread, NULL, &t) == ETIMEDOUT);
	}
}

static int judge(void)
{
	unsigned passed = 0, failed = 0;
	bool done = false;
	char *line, *save;

	fputs(m.output, stdout);
	for (line = strtok_r(m.output, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = strlen(line);

		passed += n > 4 && !strcmp(line + n - 4, ": ok");
		failed += !!strstr(line, ": FAIL");
		done = done || !strcmp(line, "done");
	}
	if (*m.trouble) {
		printf("runner: FAIL %s\n", m.trouble);
		failed++;
	} else if (!done || m.status < 0 || !m.status != !failed) {
		printf("runner: FAIL done %d, status %d, %u failures\n", done, m.status, failed);
		failed++;
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed || !passed;
}

int main(int argc, char **argv)
{
	unsigned k, seconds = 120;
	bool real = false;

	m.smp = 1;
	for (argv++; argc > 1 && *argv && !strncmp(*argv, "--", 2); argv++) {
		if (!strcmp(*argv, "--real"))
			real = true;
		else if (!strcmp(*argv, "--smp") && argv[1])
			m.smp = (unsigned)atoi(*++argv);
		else if (!strcmp(*argv, "--timeout") && argv[1])
			seconds = (unsigned)atoi(*++argv);
		else
			break;
	}
	if (!*argv || argv[1] || m.smp < 1 || m.smp > MAX_VCPUS) {
		fprintf(stderr, "usage: runner [--smp N] [--real] [--timeout SECONDS] IMAGE\n");
		return 2;
	}
	make_vm();
	load(*argv, real ? 0x8000 : 0x100000);
	for (k = 0; k < m.smp; k++)
		make_vcpu(k);
	set_start(&m.vcpu[0], real, real ? 0x8000 : 0x100000);
	for (k = 0; k < m.smp; k++) {
		if (pthread_create(&m.vcpu[k].thread, NULL, run_vcpu, &m.vcpu[k])) {
			perror("runner: thread");
			return 1;
		}
	}
	wait_for_end(seconds);
	join_all();
	return judge();
}
