// SPDX-License-Identifier: MIT
/*
 * The VM's interrupt controllers as a whole: creation, the lock, port and memory accesses, saved
 * chip state.
 *
 * Knows which device has which address; the devices themselves are in pic.c, ioapic.c, pit.c,
 * lapic.c.
 */
#include "irq/irq_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IOAPIC_WINDOW 0x100

void irqchip_lock(struct irqchip *ic)
{
	pthread_mutex_lock(&ic->lock);
}

void irqchip_unlock(struct irqchip *ic)
{
	u32 acked = ic->pic_acked;
	bool unmasked = ic->gsi0_unmasked;
	int gsi[PIC_PINS];

	for (u32 pin = 0; acked && pin < PIC_PINS; pin++)
		gsi[pin] = irq_routes_gsi(ic, pin / 8, pin % 8);
	ic->pic_acked = 0;
	ic->gsi0_unmasked = false;
	pthread_mutex_unlock(&ic->lock);

	if (unmasked)
		pit_unmasked(ic);
	for (; acked; acked &= acked - 1) {
		int g = gsi[__builtin_ctz(acked)];

		if (!g)
			pit_ack(ic);
		if (g >= 0)
			ic->ops->ack(ic->owner, g);
	}
}

int irqchip_create(const struct irq_ops *ops, void *owner, struct irqchip **out)
{
	struct irqchip *ic = calloc(1, sizeof(*ic));

	if (!ic)
		return -ENOMEM;
	ic->ops = ops;
	ic->owner = owner;
	pthread_mutex_init(&ic->lock, NULL);
	*out = ic;
	return 0;
}

void irqchip_destroy(struct irqchip *ic)
{
	struct lapic *l, *next;

	if (!ic)
		return;
	pit_destroy(ic);
	if (ic->has_chips)
		ioapic_destroy(ic);
	for (l = ic->graves; l; l = next) {
		next = l->grave_next;
		pthread_mutex_destroy(&l->timer_lock);
		free(l);
	}
	free(ic->routes);
	pthread_mutex_destroy(&ic->lock);
	free(ic);
}

bool irqchip_has_chips(const struct irqchip *ic)
{
	return LOAD_ACQUIRE(ic->has_chips);
}

bool irqchip_is_split(const struct irqchip *ic)
{
	return LOAD_ACQUIRE(ic->split);
}

void irqchip_set_x2apic_api(struct irqchip *ic, bool ids_32bit, bool no_broadcast_quirk)
{
	WRITE_ONCE(ic->ids_32bit, ids_32bit);
	WRITE_ONCE(ic->no_broadcast_quirk, no_broadcast_quirk);
}

void irqchip_set_lint0_quirk(struct irqchip *ic, bool enabled)
{
	WRITE_ONCE(ic->no_lint0_quirk, !enabled);
}

static int set_default_routes(struct irqchip *ic)
{
	struct kvm_irq_routing_entry e[IRQ_PINS + PIC_PINS];
	u32 n = 0;

	memset(e, 0, sizeof(e));
	for (u32 gsi = 0; gsi < IRQ_PINS; gsi++) {
		e[n].gsi = gsi;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e[n++].u.irqchip.pin = gsi;
		if (gsi >= PIC_PINS)
			continue;
		e[n].gsi = gsi;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		e[n++].u.irqchip.pin = gsi % 8;
	}
	return irqchip_set_routing(ic, e, n);
}

int irqchip_add_chips(struct irqchip *ic)
{
	int ret;

	if (irqchip_has_chips(ic) || irqchip_is_split(ic))
		return -EEXIST;
	ret = set_default_routes(ic);
	if (ret)
		return ret;
	pic_init(&ic->pic);
	ioapic_init(ic);
	STORE_RELEASE(ic->has_chips, true);
	return 0;
}

int irqchip_set_split(struct irqchip *ic, u32 nr_reserved_routes)
{
	int ret;

	if (irqchip_has_chips(ic) || irqchip_is_split(ic))
		return -EEXIST;
	if (nr_reserved_routes > IRQ_MAX_ROUTES)
		return -EINVAL;
	ret = irqchip_set_routing(ic, NULL, 0);
	if (ret)
		return ret;
	ic->nr_reserved = nr_reserved_routes;
	STORE_RELEASE(ic->split, true);
	return 0;
}

void irqchip_update_eoi_vectors(struct irqchip *ic)
{
	u32 vectors[8] = {0};

	if (ic->split) {
		irq_routes_split_vectors(ic, vectors);
	} else if (ic->has_chips) {
		for (u32 pin = 0; pin < IRQ_PINS; pin++) {
			u8 v = ic->ioapic.s.redirtbl[pin].fields.vector;

			vectors[v / 32] |= BIT(v % 32);
		}
	}
	for (u32 i = 0; i < 8; i++)
		WRITE_ONCE(ic->eoi_vectors[i], vectors[i]);
}

void irqchip_eoi(struct irqchip *ic, struct lapic *l, u8 vector, bool level_triggered)
{
	if (!(READ_ONCE(ic->eoi_vectors[vector / 32]) & BIT(vector % 32)))
		return;
	if (!irqchip_is_split(ic))
		ioapic_eoi(ic, l, vector, level_triggered);
	else if (level_triggered && !(lapic_get_reg(l, LAPIC_SPIV) & LAPIC_NO_BROADCAST))
		ic->ops->ioapic_eoi(ic->owner, l->id, vector);
}

/*
 * ---- Accesses ----
 */

bool irqchip_pio(struct irqchip *ic, u16 port, void *data, u32 size, bool write)
{
	u8 byte = write ? *(u8 *)data : 0;
	bool mine;

	/* The PIT and its port 0x61 take any size for a byte; the PIC ignores what is not one. */
	mine = pit_io(ic, port, &byte, write);
	if (!mine && irqchip_has_chips(ic)) {
		bool pic = port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 ||
			   port == 0x4d0 || port == 0x4d1;

		if (pic && size != 1) {
			mine = true;
		} else if (pic) {
			irqchip_lock(ic);
			mine = pic_io(ic, port, &byte, write);
			irqchip_unlock(ic);
		}
	}
	if (mine && !write) {
		memset(data, 0, size);
		*(u8 *)data = byte;
	}
	return mine;
}

bool irqchip_mmio(struct irqchip *ic, u64 gpa, void *data, u32 size, bool write)
{
	u32 value = 0;
	u64 base;

	if (!irqchip_has_chips(ic))
		return false;
	base = READ_ONCE(ic->ioapic.s.base_address);
	if (gpa < base || gpa - base >= IOAPIC_WINDOW)
		return false;
	if (write)
		memcpy(&value, data, MIN(size, sizeof(value)));
	irqchip_lock(ic);
	ioapic_io(ic, gpa - base, &value, write);
	irqchip_unlock(ic);
	if (!write) {
		memset(data, 0, size);
		memcpy(data, &value, MIN(size, sizeof(value)));
	}
	return true;
}

bool irqchip_extint_pending(struct irqchip *ic, struct lapic *l)
{
	return READ_ONCE(ic->pic.output) && lapic_accepts_extint(l);
}

u8 irqchip_extint_ack(struct irqchip *ic)
{
	u8 vector;

	irqchip_lock(ic);
	vector = pic_intack(ic);
	irqchip_unlock(ic);
	return vector;
}

/*
 * ---- Saved state ----
 */

int irqchip_get(struct irqchip *ic, struct kvm_irqchip *out)
{
	int ret = 0;

	if (!irqchip_has_chips(ic))
		return -ENXIO;
	irqchip_lock(ic);
	switch (out->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		out->chip.pic = ic->pic.c[out->chip_id];
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_get(ic, &out->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
	}
	irqchip_unlock(ic);
	return ret;
}

static void set_pic(struct irqchip *ic, u32 chip, const struct kvm_pic_state *in)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];
	u8 elcr_mask = s->elcr_mask;

	*s = *in;
	s->elcr_mask = elcr_mask;
	s->elcr &= elcr_mask;
	s->priority_add &= 7;
	s->init_state &= 3;
	pic_update(ic);
}

int irqchip_set(struct irqchip *ic, const struct kvm_irqchip *in)
{
	int ret = 0;

	if (!irqchip_has_chips(ic))
		return -ENXIO;
	irqchip_lock(ic);
	switch (in->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		set_pic(ic, in->chip_id, &in->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_set(ic, &in->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
	}
	irqchip_unlock(ic);
	return ret;
}
