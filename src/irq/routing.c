// SPDX-License-Identifier: MIT
/*
 * GSI routing: the table that KVM_SET_GSI_ROUTING replaces as a whole, and driving a GSI through
 * it.
 *
 * Knows nothing of the chips' registers. A table is immutable; the irqchip's lock guards the
 * pointer to it.
 */
#include "irq/irq_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check_irqchip(const struct irqchip *ic, const struct kvm_irq_routing_entry *e,
			 struct irq_route *r)
{
	static const u8 pins[KVM_NR_IRQCHIPS] = {
		[KVM_IRQCHIP_PIC_MASTER] = 8,
		[KVM_IRQCHIP_PIC_SLAVE] = 8,
		[KVM_IRQCHIP_IOAPIC] = IRQ_PINS,
	};

	if (READ_ONCE(ic->split) || e->flags || e->u.irqchip.irqchip >= KVM_NR_IRQCHIPS ||
	    e->u.irqchip.pin >= pins[e->u.irqchip.irqchip])
		return -EINVAL;
	r->chip = e->u.irqchip.irqchip;
	r->pin = e->u.irqchip.pin;
	return 0;
}

static bool msi_invalid(const struct irqchip *ic, u32 address_hi)
{
	return ic->ids_32bit && address_hi & 0xff;
}

static int check_entry(const struct irqchip *ic, const struct kvm_irq_routing_entry *e,
		       struct irq_route *r)
{
	r->gsi = e->gsi;
	r->type = e->type;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		return check_irqchip(ic, e, r);
	case KVM_IRQ_ROUTING_MSI:
		if (e->flags & ~KVM_MSI_VALID_DEVID || msi_invalid(ic, e->u.msi.address_hi))
			return -EINVAL;
		r->address_lo = e->u.msi.address_lo;
		r->address_hi = e->u.msi.address_hi;
		r->data = e->u.msi.data;
		return 0;
	default:
		return -EINVAL;
	}
}

/* A GSI has either one MSI route or at most one pin on each chip. */
static bool conflicts(const struct irq_routes *t, const struct irq_route *r, u32 from, u32 to)
{
	for (u32 i = from; i < to; i++)
		if (t->e[i].type != KVM_IRQ_ROUTING_IRQCHIP || r->type != KVM_IRQ_ROUTING_IRQCHIP ||
		    t->e[i].chip == r->chip)
			return true;
	return false;
}

/* Sorts by GSI: counts, then places each entry into its GSI's range. */
static int fill(const struct irqchip *ic, struct irq_routes *t,
		const struct kvm_irq_routing_entry *e, u32 n, u16 *used)
{
	struct irq_route r;
	int ret;

	for (u32 i = 0; i < n; i++)
		t->first[e[i].gsi + 1]++;
	for (u32 g = 0; g < t->nr_gsis; g++)
		t->first[g + 1] += t->first[g];
	for (u32 i = 0; i < n; i++) {
		u32 from = t->first[e[i].gsi];

		memset(&r, 0, sizeof(r));
		ret = check_entry(ic, &e[i], &r);
		if (ret)
			return ret;
		if (conflicts(t, &r, from, from + used[r.gsi]))
			return -EINVAL;
		t->e[from + used[r.gsi]++] = r;
		if (r.type == KVM_IRQ_ROUTING_IRQCHIP)
			t->pin_gsi[r.chip][r.pin] = r.gsi;
	}
	return 0;
}

int irqchip_set_routing(struct irqchip *ic, const struct kvm_irq_routing_entry *e, u32 n)
{
	struct irq_routes *t, *old;
	u32 nr_gsis = 0;
	u16 *used;
	int ret;

	if (n > IRQ_MAX_ROUTES)
		return -EINVAL;
	for (u32 i = 0; i < n; i++) {
		if (e[i].gsi >= IRQ_MAX_ROUTES)
			return -EINVAL;
		nr_gsis = MAX(nr_gsis, e[i].gsi + 1);
	}
	t = calloc(1, sizeof(*t) + n * sizeof(t->e[0]) + (nr_gsis + 1) * sizeof(u16));
	used = calloc(nr_gsis + 1, sizeof(*used));
	if (!t || !used) {
		ret = -ENOMEM;
		goto out;
	}
	t->first = (u16 *)&t->e[n];
	t->nr_gsis = nr_gsis;
	t->n = n;
	memset(t->pin_gsi, 0xff, sizeof(t->pin_gsi));
	ret = fill(ic, t, e, n, used);
	if (ret)
		goto out;

	irqchip_lock(ic);
	old = ic->routes;
	ic->routes = t;
	irqchip_update_eoi_vectors(ic);
	irqchip_unlock(ic);
	t = old;
out:
	free(used);
	free(t);
	return ret;
}

int irq_routes_gsi(const struct irqchip *ic, u8 chip, u32 pin)
{
	return ic->routes ? ic->routes->pin_gsi[chip][pin] : -1;
}

void irq_routes_split_vectors(struct irqchip *ic, u32 vectors[8])
{
	struct irq_msg m;

	for (u32 i = 0; ic->routes && i < ic->routes->n; i++) {
		const struct irq_route *r = &ic->routes->e[i];

		if (r->gsi >= ic->nr_reserved || r->type != KVM_IRQ_ROUTING_MSI)
			continue;
		m = irq_msg_from_msi(ic, r->address_lo, r->address_hi, r->data);
		if (m.level_triggered)
			vectors[m.vector / 32] |= BIT(m.vector % 32);
	}
}

/* Lock held. */
static int drive(struct irqchip *ic, const struct irq_route *r, bool level, u32 source)
{
	struct irq_msg m;

	if (r->type == KVM_IRQ_ROUTING_MSI) {
		if (!level)
			return -1;
		m = irq_msg_from_msi(ic, r->address_lo, r->address_hi, r->data);
		return irq_deliver(ic, NULL, &m);
	}
	/* Routes may name chips before they exist. */
	if (!ic->has_chips)
		return -1;
	if (r->chip == KVM_IRQCHIP_IOAPIC)
		return ioapic_set_pin(ic, r->pin, source, level);
	return pic_set_pin(ic, r->pin + (r->chip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0), source, level);
}

/* Lock held. */
static int drive_gsi(struct irqchip *ic, u32 gsi, bool level, u32 source)
{
	const struct irq_routes *t = ic->routes;
	int ret = -1, one;

	if (source >= IRQ_SOURCES || !t || gsi >= t->nr_gsis || t->first[gsi] == t->first[gsi + 1])
		return -EINVAL;
	for (u32 i = t->first[gsi]; i < t->first[gsi + 1]; i++) {
		one = drive(ic, &t->e[i], level, source);
		if (one >= 0)
			ret = one + MAX(ret, 0);
	}
	return ret;
}

int irqchip_set_gsi(struct irqchip *ic, u32 gsi, int level, u32 source)
{
	int ret;

	irqchip_lock(ic);
	ret = drive_gsi(ic, gsi, level, source);
	irqchip_unlock(ic);
	return ret;
}

void irqchip_pulse_gsi(struct irqchip *ic, u32 gsi, u32 source)
{
	irqchip_lock(ic);
	drive_gsi(ic, gsi, true, source);
	drive_gsi(ic, gsi, false, source);
	irqchip_unlock(ic);
}

int irqchip_msi(struct irqchip *ic, const struct kvm_msi *msi)
{
	struct irq_msg m;
	int ret;

	if (msi->flags & ~KVM_MSI_VALID_DEVID || msi_invalid(ic, msi->address_hi) ||
	    (!irqchip_has_chips(ic) && !irqchip_is_split(ic)))
		return -EINVAL;
	m = irq_msg_from_msi(ic, msi->address_lo, msi->address_hi, msi->data);
	ret = irq_deliver(ic, NULL, &m);
	return MAX(ret, 0);
}
