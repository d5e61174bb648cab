/* SPDX-License-Identifier: MIT */
/*
 * The narrow door: all that a software CPU sees of the machine around it.
 *
 * Implemented by kvm/ (and by the unit tests' toy machine). The CPU calls these on its own thread while it runs, never
 * from two threads at once for one CPU; `m` is the pointer given at CPU creation. Implementations must not block on anything that
 * another vCPU's run loop may hold, and must not longjmp. They are ordinary C that may use SIMD registers: the CPU has
 * spilled the guest's before it calls (cpu/x86/simd.h).
 */
#ifndef AV_CPU_MACHINE_H
#define AV_CPU_MACHINE_H

#include "base/base.h"

enum machine_access { MACHINE_R, MACHINE_W, MACHINE_X };

/* Bits of the attribute byte that every host page of guest RAM has. Same values as enum mem_attr. */
#define MACHINE_ATTR_CODE    BIT(0)
#define MACHINE_ATTR_WFILLED BIT(1)

struct machine_page {
	u8 *host;      /* host address of the 4 KiB page; aligned unless the client's memory is not */
	u8 *attr;      /* its attribute byte; change with atomic operations */
	bool writable; /* false in a read-only slot: stores are MMIO */
};

/* What a device access came to. */
enum machine_io {
	MACHINE_DONE, /* handled inside; for reads data is filled in */
	MACHINE_USER, /* the VMM must do it: leave with an I/O exit and execute the instruction again */
	MACHINE_COALESCED, /* a write that was queued for the VMM; nothing more to do */
};

struct machine_ops {
	/*
	 * Resolves a guest-physical page. MACHINE_W marks the page dirty before it returns, as the CPU is going to write.
	 * Returns false where there is no RAM (MMIO). smm selects the address space.
	 */
	bool (*page)(void *m, u64 gpa, enum machine_access access, bool smm, struct machine_page *out);
	/* Marks [gpa, gpa+len) dirty for a write the CPU made through a page it resolved for MACHINE_R earlier. */
	void (*dirty)(void *m, u64 gpa, bool smm);

	/* The guest-physical address that a host address of guest RAM is shown at, for reports. false: none. */
	bool (*gpa_of)(void *m, u64 host, bool smm, u64 *gpa);

	/* size is 1..8, the access does not cross a page. data points to size bytes. */
	enum machine_io (*mmio)(void *m, u64 gpa, void *data, u32 size, bool write);
	/* size is 1, 2 or 4. */
	enum machine_io (*pio)(void *m, u16 port, void *data, u32 size, bool write);

	/* MSRs that the CPU itself does not keep. 0, -EINVAL: not so (#GP), -ENOENT: there is no such MSR (#GP as well). */
	int (*rdmsr)(void *m, u32 msr, u64 *value);
	int (*wrmsr)(void *m, u32 msr, u64 value);

	u8 (*cr8)(void *m);
	void (*set_cr8)(void *m, u8 value);

	/* Is an interrupt deliverable apart from RFLAGS.IF and shadows? Cheap. */
	bool (*irq_ready)(void *m);
	/* Acknowledges it and returns its vector, or -1 when it went away. */
	int (*irq_ack)(void *m);

	/* VMCALL/VMMCALL at CPL 0: arguments and result in the CPU's registers. 0; or -ENOSYS: raise #UD. */
	int (*hypercall)(void *m);

	/* The TSC changed under the LAPIC's deadline timer (WRMSR TSC, TSC_ADJUST). */
	void (*tsc_changed)(void *m);

	/*
	 * Makes every other CPU of the machine drop its write translations to that host page (a page's first predecode),
	 * and returns when none can still use one. Must serve this CPU's own X86_REQ_FLUSH/PURGE requests while waiting (two CPUs may wait
	 * for each other): the caller guarantees that it is between instructions and calls x86_serve_requests() through `serve`.
	 */
	void (*purge_writes)(void *m, u8 *host_page, void (*serve)(void *cpu), void *cpu);

	/* Stop-the-world for a locked access over two pages: between them no other CPU executes. */
	void (*world_stop)(void *m, void (*serve)(void *cpu), void *cpu);
	void (*world_resume)(void *m);

	/* May the guest reach that MSR at all? Asked only under X86_POLICY_MSR_FILTER. */
	bool (*msr_allowed)(void *m, u32 msr, bool write);
};

#endif
