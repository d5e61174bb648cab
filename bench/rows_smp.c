// SPDX-License-Identifier: MIT
/*
 * Rows with two threads, and those of the scaling measurement: the same work by one process and
 * by two at once.
 */
#include "workloads.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t two_threads(void *(*fn)(void *), uint64_t out[2])
{
	pthread_t t[2];

	for (int i = 0; i < 2; i++) {
		if (pthread_create(&t[i], NULL, fn, &out[i]))
			bench_fail("pthread_create");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return mix(out[0], out[1]);
}

static void *compute_thread(void *arg)
{
	uint64_t *out = arg, a = *out, b = ~a;

	for (uint64_t i = 0; i < 4000000; i++) {
		a = a * 0x5851f42d4c957f2d + i;
		b = (b << 9 | b >> 55) ^ a;
	}
	*out = a + b;
	return NULL;
}

static uint64_t smp2(void)
{
	uint64_t out[2] = {11, 22};

	return two_threads(compute_thread, out);
}

static uint64_t contended;

static void *add_thread(void *arg)
{
	for (int i = 0; i < 400000; i++) {
		uint64_t one = 1;

		asm volatile("lock xaddq %0, %1" : "+r"(one), "+m"(contended) : : "memory");
	}
	return NULL;
}

static uint64_t atomics2(void)
{
	uint64_t out[2] = {0, 0};

	contended = 0;
	two_threads(add_thread, out);
	return contended;
}

static uint64_t busy_compute(void)
{
	static uint32_t buffer[16384];
	uint32_t h = 1;

	for (uint32_t i = 0; i < 1500000; i++) {
		h = h * 0x01000193 ^ buffer[(h ^ i) & 16383];
		buffer[i & 16383] += h;
	}
	return h;
}

static uint64_t busy_kernel(void)
{
	long parent = getppid();
	uint64_t good = 0;

	for (int round = 0; round < 10; round++) {
		volatile uint8_t *p = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			bench_fail("mmap");
		for (int i = 0; i < 64; i++)
			p[i * 4096] = 1;
		munmap((void *)p, 64 * 4096);
		for (int i = 0; i < 2000; i++)
			good += syscall(SYS_getppid) == parent;
	}
	return good;
}

/* Processes, not threads: these share no lock of an address space. */
static uint64_t in_children(int n, uint64_t (*fn)(void))
{
	uint64_t *out = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t sum;

	if (out == MAP_FAILED)
		bench_fail("mmap");
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			bench_fail("fork");
		if (!pid) {
			bench_pin(i);
			out[i] = fn();
			_exit(0);
		}
	}
	for (int i = 0; i < n; i++)
		wait(NULL);
	sum = out[0];
	for (int i = 1; i < n; i++) {
		if (out[i] != out[0])
			sum = 0;
	}
	munmap(out, 4096);
	return sum;
}

static uint64_t compute1(void)
{
	return in_children(1, busy_compute);
}

static uint64_t compute2(void)
{
	return in_children(2, busy_compute);
}

static uint64_t kernel1(void)
{
	return in_children(1, busy_kernel);
}

static uint64_t kernel2(void)
{
	return in_children(2, busy_kernel);
}

const struct row smp_rows[] = {
	{"smp2", .run = smp2},
	{"atomics2", .run = atomics2},
	{"compute1", .run = compute1, .extra = true},
	{"compute2", .run = compute2, .missing = bench_one_cpu, .extra = true},
	{"kernel1", .run = kernel1, .extra = true},
	{"kernel2", .run = kernel2, .missing = bench_one_cpu, .extra = true},
	{NULL},
};
