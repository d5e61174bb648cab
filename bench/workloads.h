/* SPDX-License-Identifier: MIT */
/*
 * The bench's rows: what each file of them offers to workloads.c, which times them. A row does a
 * fixed amount of work, the same natively and in every guest, and returns a checksum of it.
 */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_SHM "/dev/shm"

struct row {
	const char *name;
	/* Not timed, called once before the first repetition; may be NULL. */
	void (*prepare)(void);
	/* Timed; must return the same checksum each time. */
	uint64_t (*run)(void);
	/* Why this machine cannot run the row, or NULL; may be NULL itself. */
	const char *(*missing)(void);
	/* Runs only when named. */
	bool extra;
};

extern const struct row cpu_rows[], os_rows[], smp_rows[];

/* Prints an event that says so and ends the program (or the machine). */
void bench_fail(const char *what) __attribute__((noreturn));

int bench_cpus(void);

/* For `missing` of rows that need two CPUs. */
const char *bench_one_cpu(void);

/* On one CPU of those that this process may use, counted from 0. */
void bench_pin(int nth);

static inline uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15;
	return h ^ h >> 29;
}

static inline uint32_t xorshift(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	return *s ^= *s << 5;
}

#endif
