/* SPDX-License-Identifier: MIT */
/*
 * The VM object: its making and end, and the table of its ioctls.
 *
 * Wires memory, interrupt controllers, code and clock together. What each ioctl does is in the file
 * of its subject.
 */
#include "kvm/binstats.h"
#include "kvm/policy.h"
#include "kvm/steal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

long kvm_vm_locked(struct uapi_object *obj, struct uapi_arg *arg,
		   long (*body)(struct kvm_vm *vm, struct uapi_arg *arg))
{
	struct kvm_vm *vm = to_vm(obj);
	long rc;

	pthread_mutex_lock(&vm->lock);
	rc = body(vm, arg);
	pthread_mutex_unlock(&vm->lock);
	return rc;
}

/* ---- vCPUs ---- */

KVM_VM_IOCTL(create_vcpu)
{
	u32 id = arg->value;

	if (id >= (vm->max_vcpu_ids ? vm->max_vcpu_ids : KVM_AV_MAX_VCPU_IDS))
		return -EINVAL;
	return kvm_vcpu_create_fd(vm, id);
}

KVM_VM_IOCTL(set_boot_cpu_id)
{
	if (LOAD_ACQUIRE(vm->nr_vcpus))
		return -EBUSY;
	vm->bsp_id = arg->value;
	return 0;
}

/* The default of vCPUs that are made afterwards. */
KVM_VM_IOCTL(set_tsc_khz)
{
	u32 khz = arg->value;

	if (khz >= INT32_MAX)
		return -EINVAL;
	WRITE_ONCE(vm->tsc_khz, khz ? khz : kvm_host_tsc_khz());
	return 0;
}

KVM_VM_IOCTL(get_tsc_khz)
{
	return vm->tsc_khz;
}

/* There is no device that is made this way: VFIO's and the other architectures' are not here. */
KVM_VM_IOCTL(create_device)
{
	return -ENODEV;
}

/* ---- the object ---- */

#define IN     UAPI_ARG_IN
#define OUT    UAPI_ARG_OUT
#define IN_OUT (UAPI_ARG_IN | UAPI_ARG_OUT)

static const struct uapi_ioctl vm_ioctls[] = {
	UAPI_VALUE(KVM_CHECK_EXTENSION, kvm_vm_check_extension, 0),
	UAPI_STRUCT(KVM_ENABLE_CAP, struct kvm_enable_cap, IN, kvm_vm_enable_cap, 0),
	UAPI_VALUE(KVM_CREATE_VCPU, create_vcpu, 0),
	UAPI_VALUE(KVM_SET_BOOT_CPU_ID, set_boot_cpu_id, 0),
	UAPI_VALUE(KVM_SET_TSC_KHZ, set_tsc_khz, 0),
	UAPI_VALUE(KVM_GET_TSC_KHZ, get_tsc_khz, 0),
	UAPI_STRUCT(KVM_CREATE_DEVICE, struct kvm_create_device, IN_OUT, create_device, 0),

	UAPI_STRUCT(KVM_SET_USER_MEMORY_REGION, struct kvm_userspace_memory_region, IN,
		    kvm_vm_set_user_memory_region, 0),
	UAPI_STRUCT(KVM_GET_DIRTY_LOG, struct kvm_dirty_log, IN, kvm_vm_get_dirty_log, 0),
	UAPI_STRUCT(KVM_CLEAR_DIRTY_LOG, struct kvm_clear_dirty_log, IN, kvm_vm_clear_dirty_log, 0),
	UAPI_VALUE(KVM_SET_NR_MMU_PAGES, kvm_vm_set_nr_mmu_pages, 0),
	UAPI_VALUE(KVM_GET_NR_MMU_PAGES, kvm_vm_get_nr_mmu_pages, 0),
	UAPI_VALUE(KVM_SET_TSS_ADDR, kvm_vm_set_tss_addr, 0),
	UAPI_STRUCT(KVM_SET_IDENTITY_MAP_ADDR, u64, IN, kvm_vm_set_identity_map_addr, 0),

	UAPI_VALUE(KVM_CREATE_IRQCHIP, kvm_vm_create_irqchip, 0),
	UAPI_STRUCT(KVM_IRQ_LINE, struct kvm_irq_level, IN, kvm_vm_irq_line, 0),
	UAPI_STRUCT(KVM_IRQ_LINE_STATUS, struct kvm_irq_level, IN_OUT, kvm_vm_irq_line, 0),
	UAPI_STRUCT(KVM_GET_IRQCHIP, struct kvm_irqchip, IN_OUT, kvm_vm_get_irqchip, 0),
	UAPI_STRUCT(KVM_SET_IRQCHIP, struct kvm_irqchip, IN, kvm_vm_set_irqchip, 0),
	UAPI_VALUE(KVM_CREATE_PIT, kvm_vm_create_pit, 0),
	UAPI_STRUCT(KVM_CREATE_PIT2, struct kvm_pit_config, IN, kvm_vm_create_pit2, 0),
	UAPI_STRUCT(KVM_GET_PIT, struct kvm_pit_state, IN_OUT, kvm_vm_get_pit, 0),
	UAPI_STRUCT(KVM_SET_PIT, struct kvm_pit_state, IN, kvm_vm_set_pit, 0),
	UAPI_STRUCT(KVM_GET_PIT2, struct kvm_pit_state2, OUT, kvm_vm_get_pit2, 0),
	UAPI_STRUCT(KVM_SET_PIT2, struct kvm_pit_state2, IN, kvm_vm_set_pit2, 0),
	UAPI_VALUE(KVM_REINJECT_CONTROL, kvm_vm_reinject_control, 0),
	UAPI_TAIL(KVM_SET_GSI_ROUTING, struct kvm_irq_routing, nr, struct kvm_irq_routing_entry,
		  IRQ_MAX_ROUTES, -EINVAL, IN, kvm_vm_set_gsi_routing, 0),
	UAPI_STRUCT(KVM_SIGNAL_MSI, struct kvm_msi, IN, kvm_vm_signal_msi, 0),

	UAPI_STRUCT(KVM_IRQFD, struct kvm_irqfd, IN, kvm_vm_irqfd, 0),
	UAPI_STRUCT(KVM_IOEVENTFD, struct kvm_ioeventfd, IN, kvm_vm_ioeventfd, 0),
	UAPI_STRUCT(KVM_REGISTER_COALESCED_MMIO, struct kvm_coalesced_mmio_zone, IN,
		    kvm_vm_register_coalesced, 0),
	UAPI_STRUCT(KVM_UNREGISTER_COALESCED_MMIO, struct kvm_coalesced_mmio_zone, IN,
		    kvm_vm_unregister_coalesced, 0),

	UAPI_STRUCT(KVM_GET_CLOCK, struct kvm_clock_data, OUT, kvm_vm_get_clock, 0),
	UAPI_STRUCT(KVM_SET_CLOCK, struct kvm_clock_data, IN, kvm_vm_set_clock, 0),

	UAPI_VALUE(KVM_GET_STATS_FD, kvm_vm_get_stats_fd, 0),
	UAPI_STRUCT(KVM_X86_SET_MSR_FILTER, struct kvm_msr_filter, IN, kvm_vm_set_msr_filter, 0),
};

/* Frees what is there, in the order of who uses whom; serves a half-made VM too. */
static void vm_free(struct kvm_vm *vm)
{
	u32 i;

	/* Nothing may raise interrupts once the controllers go. */
	kvm_eventfd_destroy(vm);
	kvm_binstats_destroy(vm);
	kvm_steal_destroy(vm);
	for (i = 0; i < vm->nr_vcpus; i++)
		kvm_vcpu_destroy(vm->vcpus[i]);
	if (vm->ic)
		irqchip_destroy(vm->ic);
	kvm_coalesced_destroy(vm);
	kvm_msr_filter_destroy(vm);
	if (vm->code)
		x86_code_destroy(vm->code);
	if (vm->mem)
		mem_destroy(vm->mem);
	av_epoch_destroy(&vm->epoch);
	pthread_mutex_destroy(&vm->clock_lock);
	pthread_mutex_destroy(&vm->ring_lock);
	pthread_mutex_destroy(&vm->world_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static void vm_release(struct uapi_object *obj)
{
	vm_free(to_vm(obj));
}

const struct uapi_type kvm_vm_type = {
	.name = "kvm-vm",
	.ioctls = vm_ioctls,
	.nr_ioctls = ARRAY_SIZE(vm_ioctls),
	.release = vm_release,
};

/* ANYVISOR_ENGINE and ANYVISOR_CODE_CACHE (in MiB). Without executable memory the interpreter does it alone. */
static void choose_engine(struct kvm_vm *vm)
{
	const char *wish = getenv("ANYVISOR_ENGINE"), *cache = getenv("ANYVISOR_CODE_CACHE");
	int rc;

	if (!wish || !strcmp(wish, "interp"))
		return;
	if (strcmp(wish, "translate")) {
		av_warn("ANYVISOR_ENGINE=%s is none of interp, translate: interp is taken", wish);
		return;
	}
	rc = x86_code_translate(vm->code, (cache ? strtoul(cache, NULL, 10) : 0) << 20);
	if (rc)
		av_warn("no memory for translated code (%s): the interpreter runs alone", strerror(-rc));
}

static int vm_make(struct kvm_vm *vm)
{
	int rc;

	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->world_lock, NULL);
	pthread_mutex_init(&vm->ring_lock, NULL);
	pthread_mutex_init(&vm->clock_lock, NULL);
	av_epoch_init(&vm->epoch);
	kvm_clock_init(vm);
	rc = mem_create(&vm->epoch, &vm->mem);
	if (!rc)
		rc = irqchip_create(&kvm_irq_ops, vm, &vm->ic);
	if (!rc)
		rc = x86_code_create(&vm->epoch, &vm->code);
	if (!rc)
		choose_engine(vm);
	return rc;
}

int kvm_vm_create_fd(u64 type)
{
	struct kvm_vm *vm;
	int rc;

	if (type)
		return -EINVAL;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	rc = vm_make(vm);
	if (!rc)
		rc = uapi_object_open(&vm->obj, &kvm_vm_type, 0);
	if (rc < 0) {
		vm_free(vm);
		return rc;
	}
	uapi_put(&vm->obj);
	return rc;
}
