/* SPDX-License-Identifier: MIT */
/*
 * The machine as a vCPU's CPU sees it: struct machine_ops over the VM's memory, controllers,
 * eventfds and rings.
 *
 * Runs on the vCPU's thread, inside its epoch, and takes neither vcpu->lock nor vm->lock: an ioctl
 * may hold the latter while it waits for this very thread. It knows nothing of exits: MACHINE_USER
 * is all it says of the VMM.
 */
#include "kvm/policy.h"
#include "kvm/vcpu_priv.h"

#include <string.h>

#define APIC_BASE_X2APIC BIT64(10)
#define APIC_BASE_ENABLE BIT64(11)
#define APIC_BASE_ADDR	 (~0xfffull)

/* ---- memory ---- */

static bool op_page(void *m, u64 gpa, enum machine_access access, bool smm,
		    struct machine_page *out)
{
	struct kvm_vcpu *v = m;
	const struct mem_slot *s = mem_find(v->vm->mem, smm, gpa);
	u64 hva;

	if (unlikely(!s))
		return false;
	hva = s->hva + ((gpa & PAGE_MASK) - s->gpa);
	out->attr = mem_attr(v->vm->mem, hva);
	if (unlikely(!out->attr)) {
		av_error("vCPU %u: no memory for the attributes of page %#llx", v->id,
			 (unsigned long long)gpa);
		return false;
	}
	out->host = (u8 *)(uintptr_t)hva;
	out->writable = !(s->flags & MEM_READONLY);
	if (access == MACHINE_W && out->writable)
		mem_mark_dirty(s, gpa);
	return true;
}

static void op_dirty(void *m, u64 gpa, bool smm)
{
	struct kvm_vcpu *v = m;
	const struct mem_slot *s = mem_find(v->vm->mem, smm, gpa);

	if (s)
		mem_mark_dirty(s, gpa);
}

static bool op_gpa_of(void *m, u64 host, bool smm, u64 *gpa)
{
	struct kvm_vcpu *v = m;

	return mem_gpa(v->vm->mem, smm, host, gpa);
}

/* ---- devices ---- */

/* The vCPU's own LAPIC page. A LAPIC that is off or in x2APIC mode leaves a hole there, as
 * KVM_X86_QUIRK_LAPIC_MMIO_HOLE says. */
static bool lapic_page(struct kvm_vcpu *v, u64 gpa, void *data, u32 size, bool write)
{
	u64 base = lapic_base(v->lapic);

	if ((gpa ^ base) & APIC_BASE_ADDR)
		return false;
	if ((base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) == APIC_BASE_ENABLE) {
		lapic_mmio(v->lapic, gpa & ~PAGE_MASK, data, size, write);
		if (write)
			kvm_extint_recheck(v);
		return true;
	}
	if (READ_ONCE(v->vm->disabled_quirks) & KVM_X86_QUIRK_LAPIC_MMIO_HOLE)
		return false;
	if (!write)
		memset(data, 0xff, size);
	return true;
}

static enum machine_io write_elsewhere(struct kvm_vm *vm, u64 addr, const void *data, u32 size,
				       bool pio)
{
	if (kvm_ioeventfd_write(vm, addr, data, size, pio))
		return MACHINE_DONE;
	return kvm_coalesced_write(vm, addr, data, size, pio) ? MACHINE_COALESCED : MACHINE_USER;
}

static enum machine_io op_mmio(void *m, u64 gpa, void *data, u32 size, bool write)
{
	struct kvm_vcpu *v = m;

	if (v->lapic && lapic_page(v, gpa, data, size, write))
		return MACHINE_DONE;
	if (irqchip_mmio(v->vm->ic, gpa, data, size, write))
		return MACHINE_DONE;
	return write ? write_elsewhere(v->vm, gpa, data, size, false) : MACHINE_USER;
}

static enum machine_io op_pio(void *m, u16 port, void *data, u32 size, bool write)
{
	struct kvm_vcpu *v = m;

	if (irqchip_pio(v->vm->ic, port, data, size, write))
		return MACHINE_DONE;
	return write ? write_elsewhere(v->vm, port, data, size, true) : MACHINE_USER;
}

/* ---- MSRs, CR8, time ---- */

static int op_rdmsr(void *m, u32 msr, u64 *value)
{
	return kvm_get_msr(m, msr, value, false);
}

static int op_wrmsr(void *m, u32 msr, u64 value)
{
	return kvm_set_msr(m, msr, value, false);
}

static u8 op_cr8(void *m)
{
	const struct kvm_vcpu *v = m;

	return v->lapic ? lapic_cr8(v->lapic) : v->cr8_noirqchip;
}

static void op_set_cr8(void *m, u8 value)
{
	struct kvm_vcpu *v = m;

	if (v->lapic)
		lapic_set_cr8(v->lapic, value);
	else
		v->cr8_noirqchip = value;
}

/* Also reached from ioctls that set the TSC: all pages of kvmclock depend on whether the TSCs
 * agree. */
static void op_tsc_changed(void *m)
{
	struct kvm_vcpu *v = m;

	if (v->lapic)
		lapic_tsc_changed(v->lapic);
	kvm_clock_request_all(v->vm);
}

/* ---- interrupts ---- */

static bool op_irq_ready(void *m)
{
	struct kvm_vcpu *v = m;

	return v->lapic &&
	       (irqchip_extint_pending(v->vm->ic, v->lapic) || lapic_pending(v->lapic) >= 0);
}

/* The PIC goes first, as its INTR reaches the CPU past the LAPIC's priorities. */
static int op_irq_ack(void *m)
{
	struct kvm_vcpu *v = m;

	if (!v->lapic)
		return -1;
	if (irqchip_extint_pending(v->vm->ic, v->lapic))
		return irqchip_extint_ack(v->vm->ic);
	return lapic_ack(v->lapic);
}

const struct machine_ops kvm_machine_ops = {
	.page = op_page,
	.dirty = op_dirty,
	.gpa_of = op_gpa_of,
	.mmio = op_mmio,
	.pio = op_pio,
	.rdmsr = op_rdmsr,
	.wrmsr = op_wrmsr,
	.cr8 = op_cr8,
	.set_cr8 = op_set_cr8,
	.irq_ready = op_irq_ready,
	.irq_ack = op_irq_ack,
	.hypercall = kvm_op_hypercall,
	.tsc_changed = op_tsc_changed,
	.purge_writes = kvm_op_purge_writes,
	.world_stop = kvm_op_world_stop,
	.world_resume = kvm_op_world_resume,
	.msr_allowed = kvm_op_msr_allowed,
};
