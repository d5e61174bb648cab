/* SPDX-License-Identifier: MIT */
/*
 * The VM's predecoded code: pages keyed by (host page, code size), filled run by run on demand, dropped when written.
 *
 * Lookups take no lock (pages and runs are published by release stores and freed through the epoch); decoding and invalidation
 * take code->lock, which is a leaf: nothing that waits for another CPU happens under it.
 */
#ifndef AV_CPU_X86_CODE_H
#define AV_CPU_X86_CODE_H

#include "cpu/x86/insn.h"

/*
 * Per-CPU cache of execution translations: linear page -> code page. The generation moves with io_epoch: an entry of an older one
 * is still a translation, but its page must be compared with memory before it is entered.
 */
struct x86_etlb_entry {
	u64 tag; /* linear page | generation << 3 | code size << 1 | user */
	struct x86_code_page *page; /* NULL: empty */
	bool global;
};
#define X86_ETLB_SIZE 1024
#define X86_ETLB_GEN_ONE BIT(3)
#define X86_ETLB_GEN_MAX (PAGE_SIZE - X86_ETLB_GEN_ONE)

static inline u64 x86_etlb_tag(const struct x86_cpu *c, u64 la)
{
	return (la & PAGE_MASK) | c->etlb_gen | (c->code_size >> 2) << 1 | (c->cpl == 3);
}

/*
 * An instruction that spans two pages is not kept with either: its bytes are fetched anew each time, and only the decoding is
 * remembered, per CPU and by content.
 */
struct x86_cross {
	u8 bytes[15];
	u8 len; /* of the instruction; 0: empty */
	u8 bits;
	u16 off;
	u64 turn; /* code->turns when it was decoded: a later one has other stubs */
	struct x86_insn insn[2]; /* the instruction and an end marker */
};
#define X86_CROSS_SIZE 128

int x86_etlb_create(struct x86_cpu *c);
void x86_etlb_destroy(struct x86_cpu *c);
/* All; those of pages not global; those of one page; those of the 4 MiB around la. Jump caches follow. */
void x86_etlb_flush(struct x86_cpu *c);
void x86_etlb_flush_nonglobal(struct x86_cpu *c);
void x86_etlb_flush_page(struct x86_cpu *c, u64 la);
void x86_etlb_flush_region(struct x86_cpu *c, u64 la);
/* io_epoch moved: translations stay, pages are compared before they are entered again. */
void x86_etlb_recheck(struct x86_cpu *c);
/* The entry of la's page, or NULL if there is no current one. */
const struct x86_etlb_entry *x86_etlb_entry(const struct x86_cpu *c, u64 la);

/*
 * The instruction at linear address la, decoded if it was not yet. Raises fetch faults. Sets cpu->code_la. Never NULL: an undecodable
 * instruction is one whose handler raises #UD.
 */
const struct x86_insn *x86_code_lookup(struct x86_cpu *c, u64 la);

/* A store by a CPU reached a page with MACHINE_ATTR_CODE: drops what was decoded from [host, host+len). Returns true if something was. Bytes are already written. */
bool x86_code_written(struct x86_cpu *c, u8 *host, u32 len);

/*
 * Executable memory for native stubs: dual mapping, never writable and executable at once. Writes len bytes and returns the executable
 * address. NULL: full, and as after x86_code_stubs_full() what is being decoded will be decoded once more, among new stubs. Under code->lock.
 */
void *x86_code_emit(struct x86_code *code, const void *bytes, u32 len);
void x86_code_stubs_full(struct x86_code *code);
/* A place for the native stubs' state, owned by native.c; changed under code->lock. */
void **x86_code_native_slot(struct x86_code *code);
/* A CPU begins and ceases to execute this VM's code. */
void x86_code_attach(struct x86_code *code, struct x86_cpu *c);
void x86_code_detach(struct x86_code *code, struct x86_cpu *c);
/* True if pc lies in this VM's stubs. Async-signal-safe. */
bool x86_code_owns_pc(const struct x86_code *code, u64 pc);

#endif
