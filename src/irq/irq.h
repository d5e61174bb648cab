/* SPDX-License-Identifier: MIT */
/*
 * Interrupt controllers: local APIC, I/O APIC, the pair of 8259 PICs, the 8254 PIT, and GSI routing with MSI.
 *
 * This room knows KVM's structs (linux/kvm.h) and the devices' registers. It knows no VM, vCPU or CPU object: what
 * it needs of them it asks through struct irq_ops.
 *
 * Threads. irqchip_*(), pit_*() and irqchip_set_gsi()/irqchip_msi() may be called from any thread. lapic_*() marked
 * "owner" belong to the vCPU's thread, or to any thread while the vCPU is outside KVM_RUN under the vCPU's lock.
 * Delivery into a LAPIC (from another vCPU, a device or a timer) is by atomic operations on its IRR and needs no
 * lock. Locks: struct irqchip has one lock (PIC, I/O APIC, routing table swap), the PIT one above it
 * (docs/locking.md); irq_ops are called with the irqchip lock possibly held and must take no lock but leaf locks.
 *
 * Sources: SDM vol. 3 "Advanced Programmable Interrupt Controller (APIC)"; Intel 82093AA, 8259A and 8254 data
 * sheets; Linux Documentation/virt/kvm/api.rst for the state structs.
 */
#ifndef AV_IRQ_IRQ_H
#define AV_IRQ_IRQ_H

#include "base/base.h"

#include <linux/kvm.h>

#define IRQ_PINS	   24	/* KVM_IOAPIC_NUM_PINS */
#define IRQ_MAX_ROUTES	   4096 /* KVM_MAX_IRQ_ROUTES */
#define IRQ_MAX_VCPUS	   288
#define LAPIC_DEFAULT_BASE 0xfee00000ull
#define IOAPIC_BASE	   0xfec00000ull

/* Who drives a pin (irqchip_set_gsi). */
enum irq_source { IRQ_SOURCE_USER = 0, IRQ_SOURCE_RESAMPLE = 1 };

struct irqchip;
struct lapic;

/* What the controllers ask of the machine around them. Called from any thread; must not block. */
struct irq_ops {
	/* An interrupt may have become deliverable to this vCPU: wake it if it halts, make it look if it runs. */
	void (*kick)(void *owner, u32 vcpu);
	void (*nmi)(void *owner, u32 vcpu);
	void (*smi)(void *owner, u32 vcpu);
	void (*init)(void *owner, u32 vcpu);
	void (*sipi)(void *owner, u32 vcpu, u8 vector);
	/* The guest ended a level-triggered interrupt that a split irqchip's user space waits for. */
	void (*ioapic_eoi)(void *owner, u32 vcpu, u8 vector);
	/* GSI `gsi` was acknowledged/EOIed by the guest (resample irqfds). No lock is held: the listener may lower its line. */
	void (*ack)(void *owner, u32 gsi);
	/* The guest's TSC of that vCPU now, and its frequency in kHz (TSC-deadline timer). */
	u64 (*tsc)(void *owner, u32 vcpu);
	u32 (*tsc_khz)(void *owner, u32 vcpu);
};

/*
 * ---- The VM's part ----
 */

/* Makes the VM's routing table and LAPIC directory, without PIC/IOAPIC (see irqchip_add_chips). Caller owns *out. */
int irqchip_create(const struct irq_ops *ops, void *owner, struct irqchip **out);
/* All LAPICs must have been destroyed. */
void irqchip_destroy(struct irqchip *ic);
/* KVM_CREATE_IRQCHIP: adds PIC and I/O APIC and the default routes (GSI 0-15 to both, 16-23 to the I/O APIC). -EEXIST. */
int irqchip_add_chips(struct irqchip *ic);
bool irqchip_has_chips(const struct irqchip *ic);
/* KVM_CAP_SPLIT_IRQCHIP: only LAPICs here; GSIs below nr_routes are reserved for the VMM's I/O APIC. -EEXIST. */
int irqchip_set_split(struct irqchip *ic, u32 nr_reserved_routes);
bool irqchip_is_split(const struct irqchip *ic);
/*
 * KVM_CAP_X2APIC_API: 32-bit destination ids in MSIs and in the LAPIC state; and 0xff is an id like others for x2APIC
 * CPUs. Both off at first. Before vCPUs run.
 */
void irqchip_set_x2apic_api(struct irqchip *ic, bool ids_32bit, bool no_broadcast_quirk);
/* KVM_X86_QUIRK_LINT0_REENABLED: the boot CPU's LVT0 takes ExtINT after reset. On at first. */
void irqchip_set_lint0_quirk(struct irqchip *ic, bool enabled);

/* KVM_SET_GSI_ROUTING: replaces the table as a whole. -EINVAL for a bad entry (gsi, type, pin, flags); -ENOMEM. */
int irqchip_set_routing(struct irqchip *ic, const struct kvm_irq_routing_entry *e, u32 n);
/*
 * Drives GSI to level on behalf of `source` (0: user space, up to 62; levels of several sources are ORed on a pin).
 * Returns KVM_IRQ_LINE_STATUS's value: -1 ignored/masked, 0 coalesced, >0 number of CPUs reached; -EINVAL: no route.
 */
int irqchip_set_gsi(struct irqchip *ic, u32 gsi, int level, u32 source);
/* KVM_SIGNAL_MSI. Returns the number of vCPUs reached (>0), 0 if blocked by the guest, -EINVAL for bad flags. */
int irqchip_msi(struct irqchip *ic, const struct kvm_msi *msi);
/* A pulse on an edge irqfd: MSI routes are sent, pins are driven 1 then 0. */
void irqchip_pulse_gsi(struct irqchip *ic, u32 gsi, u32 source);

/* KVM_GET/SET_IRQCHIP: chip_id 0 PIC master, 1 PIC slave, 2 I/O APIC. -EINVAL unknown id; -ENXIO no chips. */
int irqchip_get(struct irqchip *ic, struct kvm_irqchip *out);
int irqchip_set(struct irqchip *ic, const struct kvm_irqchip *in);

/*
 * Port and memory accesses of the in-library devices. Return true if the address belongs to PIC (0x20/21, 0xa0/a1,
 * 0x4d0/4d1), PIT (0x40-43, 0x61 once created) or the I/O APIC window and was handled; false: somebody else's.
 */
bool irqchip_pio(struct irqchip *ic, u16 port, void *data, u32 size, bool write);
bool irqchip_mmio(struct irqchip *ic, u64 gpa, void *data, u32 size, bool write);

/* KVM_CREATE_PIT2. flags: KVM_PIT_SPEAKER_DUMMY. -EEXIST, -EINVAL, -ENOENT (no irqchip). Drives GSI 0. */
int pit_create(struct irqchip *ic, u32 flags);
bool pit_exists(const struct irqchip *ic);
int pit_get(struct irqchip *ic, struct kvm_pit_state2 *out); /* -ENXIO without a PIT */
int pit_set(struct irqchip *ic, const struct kvm_pit_state2 *in);
int pit_reinject(struct irqchip *ic, bool reinject); /* KVM_REINJECT_CONTROL; -ENXIO */

/*
 * The PIC's INTR line as a vCPU sees it. irqchip_extint_pending: PIC has a request and this vCPU's LAPIC accepts ExtINT
 * (LVT0 in ExtINT mode and unmasked, or LAPIC globally disabled and vCPU is the boot CPU). irqchip_extint_ack runs the
 * INTA cycle and returns the vector (spurious included).
 */
bool irqchip_extint_pending(struct irqchip *ic, struct lapic *l);
u8 irqchip_extint_ack(struct irqchip *ic);

/*
 * ---- One vCPU's part ----
 */

/* Makes a LAPIC with APIC id `id` in its power-up state and enters it into the directory. -EEXIST, -ENOMEM. */
int lapic_create(struct irqchip *ic, u32 id, bool bsp, struct lapic **out);
void lapic_destroy(struct lapic *l);
/* INIT keeps IA32_APIC_BASE and the id; power-up (init = false) resets all. owner */
void lapic_reset(struct lapic *l, bool init);

/* IA32_APIC_BASE. set: -EINVAL (inject #GP) for reserved bits, addresses above maxphyaddr, illegal mode transitions. owner */
u64 lapic_base(const struct lapic *l);
int lapic_set_base(struct lapic *l, u64 value, u32 maxphyaddr, bool x2apic_allowed, bool host_initiated);
bool lapic_x2apic(const struct lapic *l);
u32 lapic_id(const struct lapic *l);

/* xAPIC page access at offset 0-0xfff (gpa already matched against lapic_base by the caller when enabled, not x2APIC). owner */
void lapic_mmio(struct lapic *l, u32 offset, void *data, u32 size, bool write);
/* x2APIC MSRs 0x800-0x8ff. -EINVAL: inject #GP. owner (host_initiated reads are allowed in any mode) */
int lapic_rdmsr(struct lapic *l, u32 msr, u64 *value);
int lapic_wrmsr(struct lapic *l, u32 msr, u64 value);
/* IA32_TSC_DEADLINE. owner. Reads as 0 when not in TSC-deadline mode. */
u64 lapic_tsc_deadline(const struct lapic *l);
void lapic_set_tsc_deadline(struct lapic *l, u64 value);
/* Is there an LVT entry for corrected machine checks (MCG_CMCI_P)? None at first. owner */
void lapic_set_cmci(struct lapic *l, bool has);
/* Its offset, for lapic_local_deliver(). */
#define LAPIC_LVT_CMCI 0x2f0
/* The guest's TSC jumped (write to TSC or offset): recompute the timer. owner */
void lapic_tsc_changed(struct lapic *l);

/* CR8 view of the TPR (bits 7:4). owner */
u8 lapic_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, u8 cr8);

/*
 * The highest deliverable fixed interrupt (IRR above PPR, LAPIC software-enabled), or -1. Any thread may ask; the
 * answer binds only the owner.
 */
int lapic_pending(struct lapic *l);
/* Takes that interrupt: IRR -> ISR. Returns its vector or -1. owner */
int lapic_ack(struct lapic *l);

/* KVM_GET/SET_LAPIC (struct kvm_lapic_state's 1 KiB image). set: -EINVAL for an impossible id. owner */
void lapic_get(struct lapic *l, struct kvm_lapic_state *out);
int lapic_set(struct lapic *l, const struct kvm_lapic_state *in);

/* Does it pass a PIC's interrupts on: LVT0 unmasked and in ExtINT mode, or it is disabled and the boot CPU's? Any thread. */
bool lapic_accepts_extint(const struct lapic *l);

/* Pulses LINT1 (or LINT0): NMI from KVM_NMI with an in-kernel LAPIC goes here. Any thread. */
void lapic_local_deliver(struct lapic *l, u32 lvt_offset);

#endif
