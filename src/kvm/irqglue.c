/* SPDX-License-Identifier: MIT */
/*
 * Between the interrupt controllers and the VM: what irq/ asks of vCPUs, and the ioctls that reach
 * the controllers.
 *
 * Registers, routing and delivery are irq/'s own. The irq_ops may be called from any thread with
 * the irqchip's lock held: they set bits and wake sleepers, and take no lock.
 */
#include "kvm/vm_ioctls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what irq/ asks ---- */

static void vcpu_todo(struct kvm_vcpu *v, u32 bit)
{
	__atomic_fetch_or(&v->todo, bit, __ATOMIC_SEQ_CST);
	kvm_vcpu_kick(v);
}

static void op_kick(void *owner, u32 vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (!v)
		return;
	x86_irq_hint(v->cpu);
	kvm_vcpu_kick(v);
}

static void op_nmi(void *owner, u32 vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (!v)
		return;
	x86_raise_nmi(v->cpu);
	kvm_vcpu_kick(v);
}

static void op_smi(void *owner, u32 vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (!v)
		return;
	x86_raise_smi(v->cpu);
	kvm_vcpu_kick(v);
}

static void op_init(void *owner, u32 vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (v)
		vcpu_todo(v, KVM_TODO_INIT);
}

static void op_sipi(void *owner, u32 vcpu, u8 vector)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (!v)
		return;
	WRITE_ONCE(v->sipi_vector, vector);
	vcpu_todo(v, KVM_TODO_SIPI);
}

static void op_ioapic_eoi(void *owner, u32 vcpu, u8 vector)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	if (!v)
		return;
	WRITE_ONCE(v->eoi_vector, vector);
	vcpu_todo(v, KVM_TODO_IOAPIC_EOI);
}

static void op_ack(void *owner, u32 gsi)
{
	kvm_irqfd_ack(owner, gsi);
}

static u64 op_tsc(void *owner, u32 vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_by_id(owner, vcpu);

	return v ? x86_tsc(v->cpu) : 0;
}

static u32 op_tsc_khz(void *owner, u32 vcpu)
{
	struct kvm_vm *vm = owner;
	struct kvm_vcpu *v = kvm_vcpu_by_id(vm, vcpu);
	u32 khz = v ? READ_ONCE(v->tsc_khz) : 0;

	return khz ? khz : READ_ONCE(vm->tsc_khz);
}

const struct irq_ops kvm_irq_ops = {
	.kick = op_kick,
	.nmi = op_nmi,
	.smi = op_smi,
	.init = op_init,
	.sipi = op_sipi,
	.ioapic_eoi = op_ioapic_eoi,
	.ack = op_ack,
	.tsc = op_tsc,
	.tsc_khz = op_tsc_khz,
};

/* ---- the controllers ---- */

KVM_VM_IOCTL(kvm_vm_create_irqchip)
{
	if (kvm_irqchip_in_kernel(vm))
		return -EEXIST;
	if (LOAD_ACQUIRE(vm->nr_vcpus))
		return -EINVAL;
	return irqchip_add_chips(vm->ic);
}

KVM_VM_IOCTL(kvm_vm_get_irqchip)
{
	return irqchip_has_chips(vm->ic) ? irqchip_get(vm->ic, arg->data) : -ENXIO;
}

KVM_VM_IOCTL(kvm_vm_set_irqchip)
{
	return irqchip_has_chips(vm->ic) ? irqchip_set(vm->ic, arg->data) : -ENXIO;
}

KVM_VM_IOCTL(kvm_vm_create_pit)
{
	return pit_create(vm->ic, KVM_PIT_SPEAKER_DUMMY);
}

KVM_VM_IOCTL(kvm_vm_create_pit2)
{
	return pit_create(vm->ic, ((const struct kvm_pit_config *)arg->data)->flags);
}

KVM_VM_IOCTL(kvm_vm_get_pit2)
{
	return pit_get(vm->ic, arg->data);
}

KVM_VM_IOCTL(kvm_vm_set_pit2)
{
	return pit_set(vm->ic, arg->data);
}

/* The older struct is the newer one without its flags. */
KVM_VM_IOCTL(kvm_vm_get_pit)
{
	struct kvm_pit_state *out = arg->data;
	struct kvm_pit_state2 state;
	int rc = pit_get(vm->ic, &state);

	if (!rc)
		memcpy(out->channels, state.channels, sizeof(out->channels));
	return rc;
}

KVM_VM_IOCTL(kvm_vm_set_pit)
{
	const struct kvm_pit_state *in = arg->data;
	struct kvm_pit_state2 state;
	int rc = pit_get(vm->ic, &state);

	if (rc)
		return rc;
	memcpy(state.channels, in->channels, sizeof(state.channels));
	return pit_set(vm->ic, &state);
}

/* The command's number carries no size, although its argument is a pointer. */
KVM_VM_IOCTL(kvm_vm_reinject_control)
{
	struct kvm_reinject_control control;
	int rc = uapi_copy_in(&control, arg->value, sizeof(control));

	return rc ? rc : pit_reinject(vm->ic, control.pit_reinject);
}

/* ---- lines, messages, routes ---- */

/*
 * Serves KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS, which differ only in what is copied back. Whoever
 * raises an interrupt has usually written guest memory before, past the CPUs' write tracking. No
 * vm->lock: the controllers have their own.
 */
KVM_HANDLER(kvm_vm_irq_line)
{
	struct kvm_vm *vm = to_vm(obj);
	struct kvm_irq_level *line = arg->data;
	int reached;

	if (!kvm_irqchip_in_kernel(vm))
		return -ENXIO;
	x86_code_io_epoch(vm->code);
	reached = irqchip_set_gsi(vm->ic, line->irq, !!line->level, IRQ_SOURCE_USER);
	line->status = reached < 0 ? -1 : reached;
	return 0;
}

KVM_HANDLER(kvm_vm_signal_msi)
{
	struct kvm_vm *vm = to_vm(obj);
	const struct kvm_msi *msi = arg->data;

	if (!kvm_irqchip_in_kernel(vm) || msi->flags & ~KVM_MSI_VALID_DEVID)
		return -EINVAL;
	x86_code_io_epoch(vm->code);
	return irqchip_msi(vm->ic, msi);
}

KVM_VM_IOCTL(kvm_vm_set_gsi_routing)
{
	const struct kvm_irq_routing *r = arg->data;

	if (!kvm_irqchip_in_kernel(vm) || r->flags)
		return -EINVAL;
	return irqchip_set_routing(vm->ic, r->entries, r->nr);
}
