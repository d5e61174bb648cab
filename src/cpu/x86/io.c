// SPDX-License-Identifier: MIT
/*
 * Device accesses: memory-mapped and port I/O, and how an instruction waits for the VMM's answer.
 *
 * Engine file. Knows nothing of address translation nor of what is behind an address.
 *
 * An instruction that reads from a device the VMM keeps is executed more than once: a read without
 * an answer leaves the run loop with the guest's state unchanged, the answer is recorded as a
 * fragment, and the instruction starts again, finding its earlier reads, also those answered inside
 * the library, in the record. Writes have no answer: they are done at once inside the library, or
 * queued and handed out one exit each after the instruction has completed (x86_io_drain).
 */
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"
#include "cpu/x86/simd.h"

#define PIO_PAGE 4096u
/* In io.pio_used: a string input went out to the VMM. */
#define STRING_ASKED (~0u)

static void __noreturn leave(struct x86_cpu *c, enum x86_exit_reason why)
{
	/* Executed again from the start, the instruction will use its recorded reads and queue its
	 * writes anew. */
	c->io.cursor = 0;
	c->io.nwrites = c->io.wcursor = 0;
	c->fault.leave = true;
	c->fault.leave_reason = (u8)why;
	__builtin_longjmp(c->jmp, 1);
}

void x86_leave(struct x86_cpu *c, enum x86_exit_reason why)
{
	/* The accesses so far will be made once more. */
	c->db.hits = 0;
	leave(c, why);
}

static void __noreturn io_leave(struct x86_cpu *c, enum x86_exit_reason why)
{
	c->io.rip = x86_rip(c);
	x86_leave(c, why);
}

static void __noreturn too_many(struct x86_cpu *c)
{
	c->exit.insn.len = 0;
	c->exit.insn.why = "more device accesses in one instruction than can be recorded";
	c->io.done = 0;
	x86_leave(c, X86_EXIT_INTERNAL_ERROR);
}

/* ---- reads ---- */

/* The record of this very access, if the instruction made it before. */
static const struct x86_frag *frag_find(struct x86_cpu *c, u64 addr, u32 size, bool pio)
{
	const struct x86_frag *f = &c->io.read[c->io.cursor];

	if (likely(c->io.cursor >= c->io.done))
		return NULL;
	if (c->io.rip == x86_rip(c) && f->addr == addr && f->size == size && f->pio == pio) {
		c->io.cursor++;
		return f;
	}
	/* The VMM moved the CPU elsewhere or changed an address: what follows was another
	 * instruction's. */
	c->io.done = c->io.cursor;
	return NULL;
}

static void frag_set(struct x86_frag *f, u64 addr, u32 size, bool pio, const void *data)
{
	f->addr = addr;
	f->size = (u8)size;
	f->pio = pio;
	x86_copy(f->data, data, size);
}

static void frag_record(struct x86_cpu *c, u64 addr, u32 size, bool pio, const void *data)
{
	frag_set(&c->io.read[c->io.done++], addr, size, pio, data);
	c->io.cursor = c->io.done;
	c->io.rip = x86_rip(c);
}

static void mmio_read_piece(struct x86_cpu *c, u64 gpa, void *buf, u32 size)
{
	const struct x86_frag *f = frag_find(c, gpa, size, false);
	u64 data = 0;

	/* The record is forgotten when the instruction is through. */
	x86_break(c);
	if (f) {
		x86_copy(buf, f->data, size);
		return;
	}
	if (c->io.done == X86_MAX_FRAGS)
		too_many(c);
	c->stats[X86_STAT_MMIO]++;
	x86_door(c);
	if (c->ops->mmio(c->m, gpa, &data, size, false) == MACHINE_USER) {
		c->exit.mmio.gpa = gpa;
		c->exit.mmio.size = (u8)size;
		c->exit.mmio.write = false;
		io_leave(c, X86_EXIT_MMIO);
	}
	frag_record(c, gpa, size, false, &data);
	x86_copy(buf, &data, size);
}

void x86_mmio_read(struct x86_cpu *c, u64 gpa, void *buf, u32 size)
{
	for (u32 at = 0; at < size; at += 8)
		mmio_read_piece(c, gpa + at, (u8 *)buf + at, MIN(size - at, 8u));
}

void x86_pio_read(struct x86_cpu *c, u16 port, void *buf, u32 size)
{
	const struct x86_frag *f = frag_find(c, port, size, true);
	u32 data = 0;

	x86_break(c);
	if (f) {
		x86_copy(buf, f->data, size);
		return;
	}
	if (c->io.done == X86_MAX_FRAGS)
		too_many(c);
	c->stats[X86_STAT_PIO]++;
	x86_door(c);
	if (c->ops->pio(c->m, port, &data, size, false) == MACHINE_USER) {
		c->exit.io.port = port;
		c->exit.io.size = (u8)size;
		c->exit.io.write = false;
		c->exit.io.count = 1;
		c->io.pio_used = c->io.pio_count = 0;
		io_leave(c, X86_EXIT_IO);
	}
	frag_record(c, port, size, true, &data);
	x86_copy(buf, &data, size);
}

/* ---- writes ---- */

static void write_queue(struct x86_cpu *c, u64 addr, u32 size, bool pio, const void *data)
{
	if (c->io.nwrites == X86_MAX_FRAGS)
		too_many(c);
	frag_set(&c->io.write[c->io.nwrites++], addr, size, pio, data);
	x86_break(c);
}

void x86_mmio_write(struct x86_cpu *c, u64 gpa, const void *buf, u32 size)
{
	for (u32 at = 0; at < size; at += 8) {
		u32 n = MIN(size - at, 8u);
		u64 data = 0;

		c->stats[X86_STAT_MMIO]++;
		x86_copy(&data, (const u8 *)buf + at, n);
		x86_door(c);
		if (c->ops->mmio(c->m, gpa + at, &data, n, true) == MACHINE_USER)
			write_queue(c, gpa + at, n, false, &data);
	}
}

void x86_pio_write(struct x86_cpu *c, u16 port, const void *buf, u32 size)
{
	if (!x86_pio_string_out_now(c, port, buf, size))
		write_queue(c, port, size, true, buf);
}

bool x86_io_drain(struct x86_cpu *c, enum x86_exit_reason *why)
{
	const struct x86_frag *f = &c->io.write[c->io.wcursor];

	if (c->io.cursor)
		x86_io_done(c);
	if (c->io.wcursor == c->io.nwrites)
		return false;
	if (f->pio) {
		c->exit.io.port = (u16)f->addr;
		c->exit.io.size = f->size;
		c->exit.io.write = true;
		c->exit.io.count = 1;
		x86_copy(c->pio_data, f->data, f->size);
		*why = X86_EXIT_IO;
	} else {
		c->exit.mmio.gpa = f->addr;
		c->exit.mmio.size = f->size;
		c->exit.mmio.write = true;
		x86_copy(c->exit.mmio.data, f->data, f->size);
		*why = X86_EXIT_MMIO;
	}
	if (++c->io.wcursor == c->io.nwrites)
		c->io.wcursor = c->io.nwrites = 0;
	else
		x86_break(c);
	return true;
}

/* ---- string instructions ---- */

static bool string_answered(struct x86_cpu *c, u16 port, u32 size)
{
	if (!c->io.pio_count)
		return false;
	if (c->io.rip == x86_rip(c) && c->exit.io.port == port && c->exit.io.size == size)
		return true;
	c->io.pio_count = 0;
	return false;
}

void x86_pio_string_in(struct x86_cpu *c, u16 port, void *buf, u32 size, u32 count)
{
	u32 data = 0;

	if (string_answered(c, port, size)) {
		x86_copy(buf, c->pio_data + c->io.pio_used * size, size);
		c->io.pio_used++;
		c->io.pio_count--;
		return;
	}
	c->stats[X86_STAT_PIO]++;
	x86_door(c);
	if (c->ops->pio(c->m, port, &data, size, false) == MACHINE_USER) {
		c->exit.io.port = port;
		c->exit.io.size = (u8)size;
		c->exit.io.write = false;
		c->exit.io.count = MIN(count, PIO_PAGE / size);
		c->io.pio_used = STRING_ASKED;
		c->io.pio_count = 0;
		io_leave(c, X86_EXIT_IO);
	}
	x86_copy(buf, &data, size);
}

bool x86_pio_string_out_now(struct x86_cpu *c, u16 port, const void *buf, u32 size)
{
	u32 data = 0;

	c->stats[X86_STAT_PIO]++;
	x86_copy(&data, buf, size);
	x86_door(c);
	return c->ops->pio(c->m, port, &data, size, true) != MACHINE_USER;
}

void x86_pio_string_out_leave(struct x86_cpu *c, u16 port, u32 size, u32 count)
{
	c->exit.io.port = port;
	c->exit.io.size = (u8)size;
	c->exit.io.write = true;
	c->exit.io.count = count;
	/* Its elements are done: started again, the instruction goes on with the next. */
	x86_io_done(c);
	leave(c, X86_EXIT_IO);
}

/* ---- the VMM's answers ---- */

void x86_complete_mmio(struct x86_cpu *c, const u8 *data)
{
	if (c->exit.mmio.write || c->io.done == X86_MAX_FRAGS)
		return;
	frag_set(&c->io.read[c->io.done++], c->exit.mmio.gpa, c->exit.mmio.size, false, data);
}

void x86_complete_io(struct x86_cpu *c)
{
	if (c->exit.io.write)
		return;
	if (c->io.pio_used == STRING_ASKED) {
		c->io.pio_used = 0;
		c->io.pio_count = c->exit.io.count;
	} else if (c->io.done < X86_MAX_FRAGS) {
		frag_set(&c->io.read[c->io.done++], c->exit.io.port, c->exit.io.size, true,
			 c->pio_data);
	}
}
