// SPDX-License-Identifier: MIT
/*
 * The bench's one program: runs the rows named on its command line (all without names), times
 * each by its own clock and prints one line of JSON per event. As PID 1 of a guest it first makes
 * a system around itself and powers the machine off at the end.
 *
 * It knows nothing of who compares what; table.py does.
 */
#include "workloads.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/*
 * A row is repeated until it has used this much, or this often, and the best counts. Many short
 * repetitions: on a machine that others use too, one of them is likely to be left alone.
 */
#define BUDGET_NS   800000000ull
#define REPETITIONS 50

/* How long a guest stays up after its last row, for the host to look at its memory. */
#define LINGER_NS 500000000

static bool guest;

static void __attribute__((format(printf, 1, 2))) event(const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0 || n >= (int)sizeof(line) - 1)
		n = snprintf(line, sizeof(line), "{\"event\": \"fail\", \"why\": \"long line\"}");
	line[n++] = '\n';
	/* One write a line: the kernel's own messages then stay between lines. */
	if (write(1, line, n) != n)
		_exit(1);
}

static void __attribute__((noreturn)) leave(int status)
{
	struct timespec linger = {.tv_nsec = LINGER_NS};

	if (!guest)
		_exit(status);
	nanosleep(&linger, NULL);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

void bench_fail(const char *what)
{
	event("{\"event\": \"fail\", \"why\": \"%s: %s\"}", what, strerror(errno));
	leave(1);
}

int bench_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		bench_fail("sched_getaffinity");
	return CPU_COUNT(&set);
}

const char *bench_one_cpu(void)
{
	return bench_cpus() < 2 ? "one CPU" : NULL;
}

void bench_pin(int nth)
{
	cpu_set_t set, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(set), &set))
		bench_fail("sched_getaffinity");
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &set) && !nth--)
			break;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		bench_fail("sched_setaffinity");
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void run_row(const struct row *r)
{
	const char *why = r->missing ? r->missing() : NULL;
	uint64_t begin, start, took, total = 0, best = UINT64_MAX, sum = 0;
	int n;

	if (why) {
		event("{\"event\": \"skip\", \"row\": \"%s\", \"why\": \"%s\"}", r->name, why);
		return;
	}
	event("{\"event\": \"begin\", \"row\": \"%s\"}", r->name);
	begin = now();
	if (r->prepare)
		r->prepare();
	for (n = 0; n < REPETITIONS && total < BUDGET_NS; n++) {
		uint64_t s;

		start = now();
		s = r->run();
		took = now() - start;
		if (n && s != sum) {
			event("{\"event\": \"fail\", \"row\": \"%s\", \"why\": \"repetitions "
			      "differ: %016llx and %016llx\"}",
			      r->name, (unsigned long long)sum, (unsigned long long)s);
			return;
		}
		sum = s;
		total += took;
		if (took < best)
			best = took;
	}
	event("{\"event\": \"row\", \"row\": \"%s\", \"ns\": %llu, \"reps\": %d, \"wall\": %llu, "
	      "\"sum\": \"%016llx\"}",
	      r->name, (unsigned long long)best, n, (unsigned long long)(now() - begin),
	      (unsigned long long)sum);
}

static bool wanted(const struct row *r, char **names)
{
	if (!*names)
		return !r->extra;
	while (*names && strcmp(*names, r->name))
		names++;
	return *names;
}

static void make_system(void)
{
	static const struct {
		const char *type, *where;
	} mounts[] = {{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", BENCH_SHM}};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, NULL))
			bench_fail(mounts[i].where);
	}
}

int main(int argc, char **argv)
{
	static const struct row *const tables[] = {cpu_rows, os_rows, smp_rows};

	guest = getpid() == 1;
	event("{\"event\": \"up\", \"cpus\": %d}", bench_cpus());
	if (guest)
		make_system();
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct row *r = tables[i]; r->name; r++) {
			if (wanted(r, argv + 1))
				run_row(r);
		}
	}
	event("{\"event\": \"end\"}");
	leave(0);
}
