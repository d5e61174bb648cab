// SPDX-License-Identifier: MIT
/*
 * Rows that stay in user mode: arithmetic, memory, branches, SIMD. Nothing here calls libc inside
 * what is timed: its functions are chosen by the CPU's features, which differ between columns.
 */
#include "workloads.h"

#include <immintrin.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline))

/* Small pages everywhere: whether a huge one is at hand is the kernel's luck. */
static void *pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		bench_fail("mmap");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static uint64_t int_alu(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (uint64_t i = 0; i < 5000000; i++) {
		a = a * 0x5851f42d4c957f2d + i;
		b ^= a >> 7;
		c = (c << 13 | c >> 51) + b;
		d = (d ^ c) - (a & b);
	}
	return mix(mix(a, b), mix(c, d));
}

#define SIEVE_N 1000000
static uint8_t *composite;

static void prepare_sieve(void)
{
	composite = pages(SIEVE_N);
}

static uint64_t sieve(void)
{
	uint64_t sum = 0;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < SIEVE_N; i++)
			composite[i] = 0;
		for (int i = 2; i < SIEVE_N; i++) {
			if (composite[i])
				continue;
			sum += i;
			for (int k = 2 * i; k < SIEVE_N; k += i)
				composite[k] = 1;
		}
	}
	return sum;
}

/* One cycle through all lines of 8 MiB (Sattolo's shuffle). */
#define LINES (8 * 1024 * 1024 / 64)
static struct line {
	struct line *next;
	uint64_t pad[7];
} * lines;

static void prepare_chase(void)
{
	uint32_t *order = pages(LINES * sizeof(*order)), seed = 12345;

	lines = pages(LINES * sizeof(*lines));
	for (uint32_t i = 0; i < LINES; i++)
		order[i] = i;
	for (uint32_t i = LINES - 1; i; i--) {
		uint32_t k = xorshift(&seed) % i, t = order[i];

		order[i] = order[k];
		order[k] = t;
	}
	for (uint32_t i = 0; i < LINES; i++)
		lines[order[i]].next = &lines[order[(i + 1) % LINES]];
	munmap(order, LINES * sizeof(*order));
}

static uint64_t chase(void)
{
	struct line *p = lines;

	for (int i = 0; i < 400000; i++)
		p = p->next;
	return p - lines;
}

static uint64_t fp_scalar(void)
{
	double x = 0.5, y = 1.25, z = 0, s = 0;
	union {
		double d;
		uint64_t u;
	} bits;

	for (int i = 1; i <= 500000; i++) {
		x = 3.7 * x * (1 - x);
		y = y + x / (1.0 + y * y);
		z = z * 0.999 + __builtin_sqrt(x + y);
		s += z - (double)i * 1e-6;
	}
	bits.d = s;
	return bits.u;
}

#define MATRIX 128
static float *ma, *mb, *mc;

static const char *no_avx2(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
		       ? NULL
		       : "the CPU has no AVX2 with FMA";
}

static void prepare_matmul(void)
{
	uint32_t seed = 99;

	ma = pages(MATRIX * MATRIX * sizeof(float));
	mb = pages(MATRIX * MATRIX * sizeof(float));
	mc = pages(MATRIX * MATRIX * sizeof(float));
	for (int i = 0; i < MATRIX * MATRIX; i++) {
		ma[i] = (float)(xorshift(&seed) & 0xff) / 16;
		mb[i] = (float)(xorshift(&seed) & 0xff) / 32;
	}
}

static void __attribute__((target("avx2,fma"))) matmul(void)
{
	for (int i = 0; i < MATRIX; i++) {
		for (int j = 0; j < MATRIX; j += 16) {
			__m256 s0 = _mm256_setzero_ps(), s1 = s0;

			for (int k = 0; k < MATRIX; k++) {
				__m256 a = _mm256_broadcast_ss(&ma[i * MATRIX + k]);
				const float *b = &mb[k * MATRIX + j];

				s0 = _mm256_fmadd_ps(a, _mm256_loadu_ps(b), s0);
				s1 = _mm256_fmadd_ps(a, _mm256_loadu_ps(b + 8), s1);
			}
			_mm256_storeu_ps(&mc[i * MATRIX + j], s0);
			_mm256_storeu_ps(&mc[i * MATRIX + j + 8], s1);
		}
	}
}

static uint64_t simd_matmul(void)
{
	uint64_t sum = 0;

	for (int round = 0; round < 15; round++) {
		ma[round] += 0.125f;
		matmul();
	}
	for (int round = 0; round < 15; round++)
		ma[round] -= 0.125f;
	for (int i = 0; i < MATRIX * MATRIX; i++)
		sum = mix(sum, (uint64_t)(int64_t)(mc[i] * 512));
	return sum;
}

#define OP(n, body)                                                                                \
	static uint64_t NOINLINE op##n(uint64_t v)                                                 \
	{                                                                                          \
		return body;                                                                       \
	}
OP(0, v + 0x1234567)
OP(1, v ^ v >> 11)
OP(2, v * 5)
OP(3, ~v)
OP(4, v << 3 | v >> 61)
OP(5, v - 99)
OP(6, v ^ 0x5555555555)
OP(7, v + (v << 2))

static uint64_t (*volatile ops[8])(uint64_t) = {op0, op1, op2, op3, op4, op5, op6, op7};

static uint64_t indirect(void)
{
	uint64_t v = 7;

	for (uint32_t i = 0; i < 2000000; i++)
		v = ops[(i ^ i >> 3) & 7](v);
	return v;
}

static uint64_t NOINLINE fib(uint64_t n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t calls(void)
{
	return fib(30);
}

#define SORT_N 50000
static uint32_t *to_sort;

static void prepare_sort(void)
{
	to_sort = pages(SORT_N * sizeof(*to_sort));
}

static int NOINLINE less(const void *a, const void *b)
{
	return *(const uint32_t *)a < *(const uint32_t *)b;
}

static void quicksort(uint32_t *v, long lo, long hi, int (*cmp)(const void *, const void *))
{
	while (lo < hi) {
		uint32_t pivot = v[(lo + hi) / 2], t;
		long i = lo, k = hi;

		while (i <= k) {
			while (cmp(&v[i], &pivot))
				i++;
			while (cmp(&pivot, &v[k]))
				k--;
			if (i > k)
				break;
			t = v[i];
			v[i++] = v[k];
			v[k--] = t;
		}
		quicksort(v, lo, k, cmp);
		lo = i;
	}
}

static uint64_t sort(void)
{
	int (*volatile cmp)(const void *, const void *) = less;
	uint32_t seed = 4711;
	uint64_t sum = 0;

	for (int i = 0; i < SORT_N; i++)
		to_sort[i] = xorshift(&seed);
	quicksort(to_sort, 0, SORT_N - 1, cmp);
	for (int i = 0; i < SORT_N; i++)
		sum = mix(sum, to_sort[i]);
	return sum;
}

#define REP_MAX 65536
static uint8_t *rep_from, *rep_to;

static void prepare_repmovs(void)
{
	rep_from = pages(REP_MAX);
	rep_to = pages(REP_MAX);
	for (int i = 0; i < REP_MAX; i++) {
		rep_from[i] = i * 7 ^ i >> 8;
		rep_to[i] = 0;
	}
}

static uint64_t repmovs(void)
{
	uint64_t sum = 0;

	/* Each size moves the same 8 MiB: emulators pay by the byte, CPUs by the instruction. */
	for (size_t size = 64; size <= REP_MAX; size *= 4) {
		for (size_t moved = 0; moved < 8 << 20; moved += size) {
			void *to = rep_to, *from = rep_from;
			size_t n = size;

			asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
		}
		sum = mix(sum, rep_to[size - 1]);
	}
	return sum;
}

const struct row cpu_rows[] = {
	{"int_alu", .run = int_alu},
	{"sieve", prepare_sieve, sieve},
	{"chase", prepare_chase, chase},
	{"fp_scalar", .run = fp_scalar},
	{"simd_matmul", prepare_matmul, simd_matmul, no_avx2},
	{"indirect", .run = indirect},
	{"calls", .run = calls},
	{"sort", prepare_sort, sort},
	{"repmovs", prepare_repmovs, repmovs},
	{NULL},
};
