/* SPDX-License-Identifier: MIT */
/*
 * Permission to use I/O ports. Source: SDM vol. 1 "Input/Output", "Protected-Mode I/O"; vol. 3 for
 * virtual-8086 mode.
 */
#ifndef AV_CPU_X86_PORT_H
#define AV_CPU_X86_PORT_H

#include "cpu/x86/debug.h"

/* IN, OUT, INS, OUTS of size bytes at port: returns if allowed by CPL, IOPL and the TSS's bitmap,
 * else raises #GP(0). */
void x86_io_allowed(struct x86_cpu *c, u16 port, u32 size);
/* The access is about to be made: breakpoints on the port. */
static inline void x86_port_watch(struct x86_cpu *c, u16 port, u32 size)
{
	if (x86_watching(c))
		x86_watch_port(c, port, size);
}

#endif
