/* SPDX-License-Identifier: MIT */
/*
 * A machine for the CPU's unit tests: RAM at 0, one read-only window in it, and devices everywhere
 * else that remember what was done to them and answer as the test says.
 */
#ifndef AV_TESTS_TOY_MACHINE_H
#define AV_TESTS_TOY_MACHINE_H

#include "cpu/machine.h"

#define TOY_MAX_ACCESSES 256

struct toy_access {
	u64 addr;
	u64 data; /* what was written; for reads what was answered */
	u32 size;
	bool write, pio;
};

struct toy {
	u8 *ram;
	u64 ram_size;
	u8 *attr;	   /* a byte per page of RAM */
	u8 *dirty;	   /* a byte per page of RAM: how often it was marked, saturating */
	u64 rom, rom_size; /* the read-only window */
	u32 pages;	   /* calls of page() */

	/* Devices. A read answers the low bytes of value, which then grows by step. */
	enum machine_io answer;
	u64 value, step;
	struct toy_access log[TOY_MAX_ACCESSES];
	u32 nlog;

	/* Events and odds. */
	int irq; /* vector; -1: none */
	u8 cr8;
	u32 purges, stops, resumes;
	bool stopped;
	void (*on_stop)(struct toy *t); /* called while the world is stopped, as if others had run
					   just before */
	u32 last_msr;
	u64 msr_value;
	int msr_error;
};

extern const struct machine_ops toy_ops;

/* 0 or -ENOMEM. */
int toy_create(struct toy *t, u64 ram_size);
void toy_destroy(struct toy *t);

static inline u8 *toy_attr(struct toy *t, u64 gpa)
{
	return &t->attr[gpa >> PAGE_SHIFT];
}

#endif
