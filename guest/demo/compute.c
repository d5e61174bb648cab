// SPDX-License-Identifier: MIT
/*
 * The demo's arithmetic: every result is a hash that any x86 machine must get, so that the guest
 * can be compared with the host. No libm: glibc chooses other code, and so other last bits, on
 * other CPUs.
 */
#include <immintrin.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t rng_state;
static uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state * 0x2545f4914f6cdd1dull;
}

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;

	while (n--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}
#define HASH0 0xcbf29ce484222325ull

static int put(const void *data, size_t n)
{
	return fwrite(data, 1, n, stdout) == n ? 0 : 1;
}

static int stream(unsigned mib, uint64_t seed)
{
	static uint64_t block[1 << 13];
	unsigned k, n;

	rng_state = seed * 0x9e3779b97f4a7c15ull;
	for (n = 0; n < mib * 16; n++) {
		for (k = 0; k < 1 << 13; k++)
			block[k] = rng();
		if (put(block, sizeof(block)))
			return 1;
	}
	return 0;
}

static int text(unsigned mib)
{
	static const char *const words[] = {"the ",	"virtual ",  "machine ", "runs ",
					    "without ", "hardware ", "and ",	 "nobody ",
					    "can ",	"tell ",     "which ",	 "is ",
					    "which.",	"\n",	     "page ",	 "fault "};
	size_t left = (size_t)mib << 20;

	rng_state = 42;
	while (left) {
		const char *w = words[rng() >> 60];
		size_t n = strlen(w) < left ? strlen(w) : left;

		if (put(w, n))
			return 1;
		left -= n;
	}
	return 0;
}

/* ---- integers ---- */

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int integers(void)
{
	enum { N = 300000 };
	uint32_t *v = malloc(N * sizeof(*v)), k, primes = 0;
	unsigned char *sieve = calloc(2000000, 1);
	unsigned __int128 acc = 1;
	uint64_t h = HASH0, q;

	if (!v || !sieve)
		return 1;
	rng_state = 7;
	for (k = 0; k < N; k++)
		v[k] = (uint32_t)rng();
	qsort(v, N, sizeof(*v), compare);
	printf("sort %016" PRIx64 "\n", hash(HASH0, v, N * sizeof(*v)));

	for (k = 2; k < 2000000; k++) {
		uint32_t j;

		if (sieve[k])
			continue;
		primes++;
		for (j = 2 * k; j < 2000000; j += k)
			sieve[j] = 1;
	}
	printf("primes %" PRIu32 "\n", primes);

	/* 128-bit multiplication and division, rotates, byte swaps, small types */
	for (k = 0; k < 400000; k++) {
		uint64_t a = rng(), b = rng() | 1;

		acc = acc * a + b;
		q = (uint64_t)(acc >> 64) / ((uint32_t)b | 1) + (uint64_t)acc % b;
		acc ^= (unsigned __int128)__builtin_bswap64(q) << (k % 64);
		h ^= (q << (k & 63)) | (q >> (-k & 63));
		h += (uint64_t)((int64_t)(a * b) / ((int32_t)a | 1)) +
		     (uint64_t)__builtin_ctzll(b << (k % 40));
		h += (uint64_t)(int8_t)a * (uint16_t)b;
	}
	h = hash(h, &acc, sizeof(acc));
	printf("integers %016" PRIx64 "\n", h);
	free(v);
	free(sieve);
	return 0;
}

/* ---- floating point: SSE2 and x87 ---- */

static double root(double x)
{
	__asm__("sqrtsd %1, %0" : "=x"(x) : "x"(x));
	return x;
}

static int floats(void)
{
	enum { N = 96 };
	static double a[N][N], b[N][N], c[N][N];
	static double pos[5][3], vel[5][3];
	long double series = 0, sign = 1;
	float single = 1;
	uint64_t h;
	int i, j, k, step;

	rng_state = 11;
	for (i = 0; i < N; i++)
		for (j = 0; j < N; j++) {
			a[i][j] = (double)(int32_t)rng() / 3.0;
			b[i][j] = (double)(int32_t)rng() / 7.0;
		}
	for (i = 0; i < N; i++)
		for (j = 0; j < N; j++)
			for (k = 0; k < N; k++)
				c[i][j] += a[i][k] * b[k][j];
	printf("matrix %016" PRIx64 "\n", hash(HASH0, c, sizeof(c)));

	for (i = 0; i < 5; i++)
		for (k = 0; k < 3; k++) {
			pos[i][k] = (double)(int32_t)rng() / (1 << 28);
			vel[i][k] = (double)(int32_t)rng() / (1 << 30);
		}
	for (step = 0; step < 20000; step++) {
		for (i = 0; i < 5; i++)
			for (j = 0; j < 5; j++) {
				double d[3], r2 = 0.01, f;

				if (i == j)
					continue;
				for (k = 0; k < 3; k++) {
					d[k] = pos[j][k] - pos[i][k];
					r2 += d[k] * d[k];
				}
				f = 1e-3 / (r2 * root(r2));
				for (k = 0; k < 3; k++)
					vel[i][k] += f * d[k];
			}
		for (i = 0; i < 5; i++)
			for (k = 0; k < 3; k++)
				pos[i][k] += 1e-3 * vel[i][k];
	}
	printf("bodies %016" PRIx64 "\n", hash(HASH0, pos, sizeof(pos)));

	/* pi on the x87, 80 bits wide */
	for (k = 0; k < 1000000; k++) {
		series += sign / (2 * k + 1);
		sign = -sign;
	}
	series *= 4;
	h = hash(HASH0, &series, 10);
	for (k = 1; k < 1000000; k++) {
		single = single * 1.0000001f + (float)k / 3.0f;
		if (single > 1e30f)
			single *= 1e-30f;
	}
	h = hash(h, &single, sizeof(single));
	printf("floats %016" PRIx64 "\n", h);
	return 0;
}

/* ---- AVX2, and the same thing one lane at a time ---- */

#define AVX_STEPS 300000
static uint32_t avx_table[256];
static const uint32_t avx_order[8] = {3, 6, 1, 4, 7, 2, 5, 0};

struct avx_state {
	uint32_t x[8], y[8];
	float f[8];
	double d[4];
};

static void avx_setup(struct avx_state *s)
{
	unsigned k;

	rng_state = 5;
	for (k = 0; k < 256; k++)
		avx_table[k] = (uint32_t)rng();
	for (k = 0; k < 8; k++) {
		s->x[k] = (uint32_t)rng();
		s->y[k] = (uint32_t)rng();
		s->f[k] = (float)(rng() >> 40);
	}
	for (k = 0; k < 4; k++)
		s->d[k] = (double)(rng() >> 12);
}

static void avx_scalar(struct avx_state *s)
{
	unsigned k, n;

	for (n = 0; n < AVX_STEPS; n++) {
		uint32_t t[8];

		for (k = 0; k < 8; k++) {
			s->x[k] = s->x[k] * 1664525u + 1013904223u;
			s->y[k] ^= s->y[k] << 13;
			s->y[k] ^= s->y[k] >> 17;
			s->y[k] += avx_table[s->x[k] >> 24];
			t[k] = s->x[k] ^ s->y[k];
			s->f[k] = s->f[k] * 0.75f + (float)(int32_t)(t[k] >> 8);
		}
		for (k = 0; k < 8; k++)
			s->x[k] = t[avx_order[k]];
		for (k = 0; k < 4; k++)
			s->d[k] = root(s->d[k] + (double)s->f[k]) * 1000.0;
	}
}

__attribute__((target("avx2"))) static void avx_vector(struct avx_state *s)
{
	__m256i x = _mm256_loadu_si256((__m256i *)s->x), y = _mm256_loadu_si256((__m256i *)s->y), t;
	const __m256i order = _mm256_loadu_si256((const __m256i *)avx_order);
	__m256 f = _mm256_loadu_ps(s->f);
	__m256d d = _mm256_loadu_pd(s->d);
	unsigned n;

	for (n = 0; n < AVX_STEPS; n++) {
		x = _mm256_add_epi32(_mm256_mullo_epi32(x, _mm256_set1_epi32(1664525)),
				     _mm256_set1_epi32(1013904223));
		y = _mm256_xor_si256(y, _mm256_slli_epi32(y, 13));
		y = _mm256_xor_si256(y, _mm256_srli_epi32(y, 17));
		y = _mm256_add_epi32(y, _mm256_i32gather_epi32((const int *)avx_table,
							       _mm256_srli_epi32(x, 24), 4));
		t = _mm256_xor_si256(x, y);
		f = _mm256_add_ps(_mm256_mul_ps(f, _mm256_set1_ps(0.75f)),
				  _mm256_cvtepi32_ps(_mm256_srli_epi32(t, 8)));
		x = _mm256_permutevar8x32_epi32(t, order);
		d = _mm256_mul_pd(_mm256_sqrt_pd(_mm256_add_pd(
					  d, _mm256_cvtps_pd(_mm256_castps256_ps128(f)))),
				  _mm256_set1_pd(1000.0));
	}
	_mm256_storeu_si256((__m256i *)s->x, x);
	_mm256_storeu_si256((__m256i *)s->y, y);
	_mm256_storeu_ps(s->f, f);
	_mm256_storeu_pd(s->d, d);
}

static int avx2(int scalar)
{
	struct avx_state s;

	if (!scalar && !__builtin_cpu_supports("avx2")) {
		puts("avx2 absent");
		return 0;
	}
	avx_setup(&s);
	if (scalar)
		avx_scalar(&s);
	else
		avx_vector(&s);
	printf("avx2 %016" PRIx64 "\n", hash(HASH0, &s, sizeof(s)));
	return 0;
}

/* ---- threads ---- */

#define ROUNDS 100000
static uint64_t counter, guarded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *worker(void *arg)
{
	unsigned k;

	for (k = 0; k < ROUNDS; k++) {
		__atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
		if (k % 16)
			continue;
		pthread_mutex_lock(&lock);
		guarded++;
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static int threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN), k;
	pthread_t t[64];

	n = n < 2 ? 2 : n > 64 ? 64 : n;
	for (k = 0; k < n; k++)
		if (pthread_create(&t[k], NULL, worker, NULL))
			return 1;
	for (k = 0; k < n; k++)
		pthread_join(t[k], NULL);
	/* the same line for any number of CPUs */
	printf("threads %" PRIu64 " %" PRIu64 "\n", counter / n + counter % n,
	       guarded / n + guarded % n);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "stream") && argc == 4)
		return stream(atoi(argv[2]), strtoull(argv[3], NULL, 0));
	if (!strcmp(what, "text") && argc == 3)
		return text(atoi(argv[2]));
	if (!strcmp(what, "integers"))
		return integers();
	if (!strcmp(what, "floats"))
		return floats();
	if (!strcmp(what, "avx2"))
		return avx2(0);
	if (!strcmp(what, "avx2-scalar"))
		return avx2(1);
	if (!strcmp(what, "threads"))
		return threads();
	fprintf(stderr, "usage: compute stream MIB SEED | text MIB | integers | floats | avx2 | "
			"avx2-scalar | threads\n");
	return 2;
}
