// SPDX-License-Identifier: MIT
/*
 * Rows that live in the kernel: system calls, faults, processes, pipes, files. A checksum says
 * that each call did what it should.
 */
#include "workloads.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <linux/magic.h>
#include <unistd.h>

static uint64_t syscalls(void)
{
	long parent = getppid();
	uint64_t same = 0;

	for (int i = 0; i < 40000; i++)
		same += syscall(SYS_getppid) == parent;
	return same;
}

#define FAULT_BYTES (12ul << 20)

static uint64_t pagefaults(void)
{
	volatile uint8_t *p =
		mmap(NULL, FAULT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t zeros = 0;

	if (p == MAP_FAILED)
		bench_fail("mmap");
	madvise((void *)p, FAULT_BYTES, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < FAULT_BYTES; i += 4096) {
		zeros += !p[i + 1];
		p[i] = 1;
	}
	munmap((void *)p, FAULT_BYTES);
	return zeros;
}

static uint64_t forks(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();
		int status;

		if (!pid)
			_exit(i & 127);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			bench_fail("fork");
		sum = mix(sum, status);
	}
	return sum;
}

/* A byte goes back and forth between this process and a child, each on the CPU it is given. */
static uint64_t ping_pong(int rounds, int my_cpu, int its_cpu)
{
	int there[2], back[2];
	cpu_set_t saved;
	uint64_t sum = 0;
	uint8_t byte = 1;
	pid_t pid;

	sched_getaffinity(0, sizeof(saved), &saved);
	if (pipe(there) || pipe(back))
		bench_fail("pipe");
	pid = fork();
	if (pid < 0)
		bench_fail("fork");
	if (!pid) {
		bench_pin(its_cpu);
		close(there[1]);
		while (read(there[0], &byte, 1) == 1) {
			byte = byte * 5 + 1;
			if (write(back[1], &byte, 1) != 1)
				break;
		}
		_exit(0);
	}
	bench_pin(my_cpu);
	for (int i = 0; i < rounds; i++) {
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			bench_fail("pipe");
		sum = mix(sum, byte);
	}
	close(there[1]);
	waitpid(pid, NULL, 0);
	close(there[0]);
	close(back[0]);
	close(back[1]);
	sched_setaffinity(0, sizeof(saved), &saved);
	return sum;
}

static uint64_t ctxswitch(void)
{
	return ping_pong(1000, 0, 0);
}

static uint64_t wakeups(void)
{
	return ping_pong(250, 0, 1);
}

static const char *no_tmpfs(void)
{
	struct statfs fs;

	return statfs(BENCH_SHM, &fs) || fs.f_type != TMPFS_MAGIC ? "no tmpfs at " BENCH_SHM : NULL;
}

#define CHUNK 65536
static uint8_t chunk[CHUNK];

static uint64_t fileio(void)
{
	uint64_t sum = 0;
	int fd = open(BENCH_SHM, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0)
		bench_fail(BENCH_SHM);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 16; i++) {
			for (int k = 0; k < CHUNK; k += 512)
				chunk[k] = round + i + k / 512;
			if (write(fd, chunk, CHUNK) != CHUNK)
				bench_fail("write");
		}
		lseek(fd, 0, SEEK_SET);
		for (int i = 0; i < 16; i++) {
			if (read(fd, chunk, CHUNK) != CHUNK)
				bench_fail("read");
			sum = mix(sum, chunk[round % 128 * 512] + chunk[CHUNK - 512]);
		}
		lseek(fd, 0, SEEK_SET);
		if (ftruncate(fd, 0))
			bench_fail("ftruncate");
	}
	close(fd);
	return sum;
}

const struct row os_rows[] = {
	{"syscalls", .run = syscalls},
	{"pagefaults", .run = pagefaults},
	{"forks", .run = forks},
	{"ctxswitch", .run = ctxswitch},
	{"wakeups", .run = wakeups, .missing = bench_one_cpu},
	{"fileio", .run = fileio, .missing = no_tmpfs},
	{NULL},
};
