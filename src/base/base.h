/* SPDX-License-Identifier: MIT */
/*
 * The vocabulary of the tree: integer names, bit helpers, and the one place for compiler differences.
 *
 * Knows nothing but libc and the compiler.
 */
#ifndef AV_BASE_BASE_H
#define AV_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define likely(x)	     __builtin_expect(!!(x), 1)
#define unlikely(x)	     __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)	     (sizeof(a) / sizeof((a)[0]))
#define BIT(n)		     (1u << (n))
#define BIT64(n)	     (1ull << (n))
#define MIN(a, b)	     ((a) < (b) ? (a) : (b))
#define MAX(a, b)	     ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)     ((x) & ~((typeof(x))(a) - 1))
#define ALIGN_UP(x, a)	     ALIGN_DOWN((x) + (typeof(x))(a) - 1, a)
#define container_of(p, t, m) ((t *)((char *)(p) - offsetof(t, m)))

#define __must_check  __attribute__((warn_unused_result))
#define __noreturn    __attribute__((noreturn))
#define __cold	      __attribute__((cold, noinline))
#define __printf(f, a) __attribute__((format(printf, f, a)))
/* What the preloaded object shows to the outside; all else is hidden by the version script. */
#define AV_EXPORT __attribute__((visibility("default")))

/* Single-copy loads and stores of data that another thread may change: no order is implied. */
#define READ_ONCE(x)	 __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(x)	 __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE_RELEASE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ull
#define PAGE_MASK  (~(PAGE_SIZE - 1))

#endif
