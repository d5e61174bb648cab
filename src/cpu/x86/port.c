// SPDX-License-Identifier: MIT
/*
 * What comes before a port is accessed: IOPL and the TSS's I/O bitmap.
 *
 * Engine file. Knows nothing of what is behind the ports.
 */
#include "cpu/x86/port.h"
#include "cpu/x86/except.h"
#include "cpu/x86/mmu.h"

#define TSS32_MAP_BASE 102 /* same place in the 64-bit TSS */

static void check_bitmap(struct x86_cpu *c, u16 port, u32 size)
{
	const struct x86_seg *tr = &c->seg[X86_TR];
	u32 type = tr->attr & X86_SEG_TYPE, at, bits = BIT(size) - 1;
	u16 map;

	X86_RULE(c, (tr->attr & X86_SEG_UNUSABLE) || !(tr->attr & X86_SEG_P) || (type & ~2u) != 9,
		 X86_GP, 0, "a 16-bit or missing TSS has no I/O bitmap");
	X86_RULE(c, tr->limit < TSS32_MAP_BASE + 1, X86_GP, 0,
		 "the TSS ends before its I/O map base");
	x86_sys_read(c, tr->base + TSS32_MAP_BASE, &map, sizeof(map));
	/* Two bytes are always read, as a port's bits may span them: both must lie in the TSS. */
	at = map + port / 8;
	X86_RULE(c, at + 1 > tr->limit, X86_GP, 0, "the I/O bitmap does not cover the port");
	x86_sys_read(c, tr->base + at, &map, sizeof(map));
	X86_RULE(c, (map >> (port & 7)) & bits, X86_GP, 0, "the I/O bitmap forbids the port");
}

void x86_io_allowed(struct x86_cpu *c, u16 port, u32 size)
{
	bool v86 = c->rflags & X86_FLAG_VM;

	if ((c->cr0 & X86_CR0_PE) && (v86 || c->cpl > (c->rflags & X86_FLAG_IOPL) >> 12))
		check_bitmap(c, port, size);
}
