/* SPDX-License-Identifier: MIT */
/*
 * Coalesced MMIO and PIO: writes that user space lets us collect in a ring instead of leaving
 * KVM_RUN for each.
 *
 * The table of zones is immutable and replaced as a whole under vm->lock; vCPU threads read it
 * inside their epoch. The ring is a page that user space maps (vCPU fds, page
 * KVM_COALESCED_MMIO_PAGE_OFFSET): its indices are never trusted. ring_lock orders the vCPUs that
 * append to it and is a leaf.
 */
#include "kvm/vm_ioctls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ZONES_PER_BUS 1000 /* KVM's own limit on one bus */
#define RING_ENTRIES  KVM_COALESCED_MMIO_MAX

struct kvm_coalesced {
	struct av_epoch_item retired;
	u32 nr;
	struct kvm_coalesced_mmio_zone zone[];
};

static void table_free(struct av_epoch_item *item)
{
	free(container_of(item, struct kvm_coalesced, retired));
}

static void table_publish(struct kvm_vm *vm, struct kvm_coalesced *new)
{
	struct kvm_coalesced *old = vm->coalesced;

	STORE_RELEASE(vm->coalesced, new);
	if (old)
		av_epoch_retire(&vm->epoch, &old->retired);
}

static bool zone_holds(const struct kvm_coalesced_mmio_zone *z, u64 addr, u64 size)
{
	return addr + size >= addr && addr >= z->addr && addr + size <= z->addr + z->size;
}

KVM_VM_IOCTL(kvm_vm_register_coalesced)
{
	const struct kvm_coalesced_mmio_zone *z = arg->data;
	const struct kvm_coalesced *old = vm->coalesced;
	u32 i, nr = old ? old->nr : 0, same_bus = 0;
	struct kvm_coalesced *new;

	if (z->pio > 1)
		return -EINVAL;
	for (i = 0; i < nr; i++)
		same_bus += old->zone[i].pio == z->pio;
	if (same_bus >= ZONES_PER_BUS)
		return -ENOSPC;
	new = malloc(sizeof(*new) + (nr + 1) * sizeof(new->zone[0]));
	if (!new)
		return -ENOMEM;
	if (nr)
		memcpy(new->zone, old->zone, nr * sizeof(new->zone[0]));
	new->retired.free = table_free;
	new->zone[nr] = *z;
	new->nr = nr + 1;
	table_publish(vm, new);
	return 0;
}

/* Drops every zone that holds the given range as a whole. That there is none is no error. */
KVM_VM_IOCTL(kvm_vm_unregister_coalesced)
{
	const struct kvm_coalesced_mmio_zone *z = arg->data;
	const struct kvm_coalesced *old = vm->coalesced;
	struct kvm_coalesced *new;
	u32 i;

	if (z->pio > 1)
		return -EINVAL;
	if (!old)
		return 0;
	new = malloc(sizeof(*new) + old->nr * sizeof(new->zone[0]));
	if (!new)
		return -ENOMEM;
	new->retired.free = table_free;
	new->nr = 0;
	for (i = 0; i < old->nr; i++)
		if (old->zone[i].pio != z->pio || !zone_holds(&old->zone[i], z->addr, z->size))
			new->zone[new->nr++] = old->zone[i];
	if (!new->nr) {
		free(new);
		new = NULL;
	}
	table_publish(vm, new);
	return 0;
}

static bool ring_append(struct kvm_vm *vm, const struct kvm_coalesced_mmio_zone *z, u64 addr,
			const void *data, u32 size)
{
	struct kvm_coalesced_mmio_ring *ring = LOAD_ACQUIRE(vm->ring);
	struct kvm_coalesced_mmio *e;
	bool queued = false;
	u32 last;

	if (!ring)
		return false;
	pthread_mutex_lock(&vm->ring_lock);
	last = READ_ONCE(ring->last);
	/* One entry stays free, so that a full ring differs from an empty one. */
	if (last < RING_ENTRIES && (last + 1) % RING_ENTRIES != LOAD_ACQUIRE(ring->first)) {
		e = &ring->coalesced_mmio[last];
		e->phys_addr = addr;
		e->len = size;
		e->pio = z->pio;
		memcpy(e->data, data, size);
		STORE_RELEASE(ring->last, (u32)((last + 1) % RING_ENTRIES));
		queued = true;
	}
	pthread_mutex_unlock(&vm->ring_lock);
	return queued;
}

bool kvm_coalesced_write(struct kvm_vm *vm, u64 addr, const void *data, u32 size, bool pio)
{
	const struct kvm_coalesced *t = LOAD_ACQUIRE(vm->coalesced);
	u32 i;

	if (likely(!t))
		return false;
	for (i = 0; i < t->nr; i++)
		if (t->zone[i].pio == pio && zone_holds(&t->zone[i], addr, size))
			return ring_append(vm, &t->zone[i], addr, data, size);
	return false;
}

void kvm_coalesced_destroy(struct kvm_vm *vm)
{
	free(vm->coalesced);
	vm->coalesced = NULL;
}
