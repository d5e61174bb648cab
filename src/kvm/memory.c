/* SPDX-License-Identifier: MIT */
/*
 * The VM's memory ioctls: regions, dirty logs, and the address ranges that Intel's KVM asked user
 * space to reserve.
 *
 * What a slot is, how a log is kept and which pages hold code is mem/'s affair. This file only
 * checks what the ABI promises, and makes vCPUs forget translations that a change has made wrong:
 * always after the change, and before the caller learns of its success.
 */
#include "kvm/vm_ioctls.h"

#include <errno.h>
#include <stdlib.h>

#define KVM_MEM_MAX_NR_PAGES	 (BIT64(31) - 1)
#define KVM_MIN_NR_MMU_PAGES	 64
#define KVM_USER_ADDRESS_END	 0x7ffffffff000ull
#define KVM_IDENTITY_MAP_DEFAULT 0xfffbc000ull

KVM_VM_IOCTL(kvm_vm_set_user_memory_region)
{
	const struct kvm_userspace_memory_region *r = arg->data;
	bool changed = false;
	int rc;

	if (r->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if (r->userspace_addr > KVM_USER_ADDRESS_END ||
	    r->memory_size > KVM_USER_ADDRESS_END - r->userspace_addr ||
	    r->memory_size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;
	rc = mem_set_region(vm->mem, r->slot >> 16, (u16)r->slot, r->flags, r->guest_phys_addr,
			    r->memory_size, r->userspace_addr,
			    vm->dirty_manual & KVM_DIRTY_LOG_INITIALLY_SET, &changed);
	if (rc || !changed)
		return rc;
	/* Host pages may have got other contents (or owners) since their code was decoded. */
	x86_code_io_epoch(vm->code);
	kvm_flush_vcpus(vm);
	av_epoch_reclaim(&vm->epoch);
	return 0;
}

/* The slot's pages when it is one that can be asked for its log, or -errno. */
static s64 dirty_log_pages(struct kvm_vm *vm, u32 slot)
{
	u64 pages;

	if (slot >> 16 >= MEM_ADDRESS_SPACES || (u16)slot >= MEM_USER_SLOTS)
		return -EINVAL;
	pages = mem_dirty_pages(vm->mem, slot >> 16, (u16)slot);
	return pages ? (s64)pages : -ENOENT;
}

KVM_VM_IOCTL(kvm_vm_get_dirty_log)
{
	const struct kvm_dirty_log *log = arg->data;
	bool keep = vm->dirty_manual & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	s64 pages = dirty_log_pages(vm, log->slot);
	bool any = false;
	u64 *bitmap, n;
	int rc;

	if (pages < 0)
		return pages;
	n = (pages + 63) / 64;
	bitmap = calloc(n, sizeof(*bitmap));
	if (!bitmap)
		return -ENOMEM;
	rc = mem_dirty_get(vm->mem, log->slot >> 16, (u16)log->slot, bitmap, n, keep, &any);
	if (!rc) {
		/* From here on a write must set its bit again; what was written before is in
		 * `bitmap`. */
		if (any && !keep)
			kvm_purge_vcpus(vm);
		rc = uapi_copy_out((u64)(uintptr_t)log->dirty_bitmap, bitmap, n * sizeof(*bitmap));
	}
	free(bitmap);
	return rc;
}

KVM_VM_IOCTL(kvm_vm_clear_dirty_log)
{
	const struct kvm_clear_dirty_log *log = arg->data;
	u64 left, n, *bitmap;
	bool any = false;
	s64 pages;
	int rc;

	if (log->slot >> 16 >= MEM_ADDRESS_SPACES || (u16)log->slot >= MEM_USER_SLOTS ||
	    log->first_page & 63)
		return -EINVAL;
	pages = dirty_log_pages(vm, log->slot);
	if (pages < 0)
		return pages;
	if (log->first_page > (u64)pages)
		return -EINVAL;
	left = pages - log->first_page;
	if (log->num_pages > left || (log->num_pages < left && log->num_pages & 63))
		return -EINVAL;
	if (!log->num_pages)
		return 0;
	n = (log->num_pages + 63ull) / 64;
	bitmap = calloc(n, sizeof(*bitmap));
	if (!bitmap)
		return -ENOMEM;
	rc = uapi_copy_in(bitmap, (u64)(uintptr_t)log->dirty_bitmap, n * sizeof(*bitmap));
	if (!rc)
		rc = mem_dirty_clear(vm->mem, log->slot >> 16, (u16)log->slot, log->first_page,
				     log->num_pages, bitmap, &any);
	if (!rc && any)
		kvm_purge_vcpus(vm);
	free(bitmap);
	return rc;
}

/* There are no shadow pages to limit: the number is kept so that it reads back, and nothing
 * promises more. */
KVM_VM_IOCTL(kvm_vm_set_nr_mmu_pages)
{
	if (arg->value < KVM_MIN_NR_MMU_PAGES)
		return -EINVAL;
	vm->nr_mmu_pages = MIN(arg->value, (u64)INT32_MAX);
	return 0;
}

KVM_VM_IOCTL(kvm_vm_get_nr_mmu_pages)
{
	return vm->nr_mmu_pages;
}

/* Real mode runs as it is, so the three pages stay the guest's own; only the bounds are the ABI's.
 */
KVM_VM_IOCTL(kvm_vm_set_tss_addr)
{
	if (arg->value > (u32)(-3 * (s32)PAGE_SIZE))
		return -EINVAL;
	vm->tss_addr = arg->value;
	return 0;
}

KVM_VM_IOCTL(kvm_vm_set_identity_map_addr)
{
	u64 addr = *(const u64 *)arg->data;

	if (LOAD_ACQUIRE(vm->nr_vcpus))
		return -EINVAL;
	vm->identity_map_addr = addr ? addr : KVM_IDENTITY_MAP_DEFAULT;
	return 0;
}
