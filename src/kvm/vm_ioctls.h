/* SPDX-License-Identifier: MIT */
/*
 * The VM fd's ioctl handlers, as the table in vm.c lists them.
 *
 * One defined with KVM_VM_IOCTL runs under vm->lock. Those that a device model calls all the time
 * (interrupts) do without and say so.
 */
#ifndef AV_KVM_VM_IOCTLS_H
#define AV_KVM_VM_IOCTLS_H

#include "kvm/kvm_priv.h"

/* vm.c */
long kvm_vm_locked(struct uapi_object *obj, struct uapi_arg *arg,
		   long (*body)(struct kvm_vm *vm, struct uapi_arg *arg));

#define KVM_VM_IOCTL(name)                                                                         \
	static long name##_body(struct kvm_vm *vm, struct uapi_arg *arg);                          \
	KVM_HANDLER(name)                                                                          \
	{                                                                                          \
		return kvm_vm_locked(obj, arg, name##_body);                                       \
	}                                                                                          \
	static long name##_body(struct kvm_vm *vm, struct uapi_arg *arg)

/* caps.c */
KVM_HANDLER(kvm_vm_check_extension);
KVM_HANDLER(kvm_vm_enable_cap);

/* memory.c */
KVM_HANDLER(kvm_vm_set_user_memory_region);
KVM_HANDLER(kvm_vm_get_dirty_log);
KVM_HANDLER(kvm_vm_clear_dirty_log);
KVM_HANDLER(kvm_vm_set_nr_mmu_pages);
KVM_HANDLER(kvm_vm_get_nr_mmu_pages);
KVM_HANDLER(kvm_vm_set_tss_addr);
KVM_HANDLER(kvm_vm_set_identity_map_addr);

/* irqglue.c */
KVM_HANDLER(kvm_vm_create_irqchip);
KVM_HANDLER(kvm_vm_irq_line);
KVM_HANDLER(kvm_vm_get_irqchip);
KVM_HANDLER(kvm_vm_set_irqchip);
KVM_HANDLER(kvm_vm_create_pit);
KVM_HANDLER(kvm_vm_create_pit2);
KVM_HANDLER(kvm_vm_get_pit);
KVM_HANDLER(kvm_vm_set_pit);
KVM_HANDLER(kvm_vm_get_pit2);
KVM_HANDLER(kvm_vm_set_pit2);
KVM_HANDLER(kvm_vm_reinject_control);
KVM_HANDLER(kvm_vm_set_gsi_routing);
KVM_HANDLER(kvm_vm_signal_msi);

/* eventfd.c */
KVM_HANDLER(kvm_vm_irqfd);
KVM_HANDLER(kvm_vm_ioeventfd);

/* coalesced.c */
KVM_HANDLER(kvm_vm_register_coalesced);
KVM_HANDLER(kvm_vm_unregister_coalesced);

/* clock.c */
KVM_HANDLER(kvm_vm_get_clock);
KVM_HANDLER(kvm_vm_set_clock);

#endif
