// SPDX-License-Identifier: MIT
/*
 * The I/O APIC: 24 pins, the redirection table, remote IRR and what an EOI does to it.
 *
 * Knows nothing of routing but which GSI a pin has, and of LAPICs only as destinations. Source:
 * Intel 82093AA data sheet; struct kvm_ioapic_state. Everything runs under the irqchip's lock but
 * ioapic_eoi(), which takes it itself, and ioapic_destroy().
 */
#include "irq/irq_priv.h"

#include "base/futex.h"

#include <string.h>

#define REG_ID	    0
#define REG_VERSION 1
#define REG_ARB	    2
#define REG_TABLE   0x10

#define WINDOW_SELECT 0x00
#define WINDOW_DATA   0x10

#define VERSION	       0x11
#define READ_ONLY      0x5000u /* delivery status, remote IRR */
#define STORM_EOIS     10000
#define STORM_PAUSE_NS 10000000ull

typedef typeof(((struct kvm_ioapic_state *)0)->redirtbl[0]) entry;

static int service(struct irqchip *ic, u32 pin)
{
	entry *e = &ic->ioapic.s.redirtbl[pin];
	struct irq_msg m = {
		.dest = e->fields.dest_id,
		.vector = e->fields.vector,
		.mode = e->fields.delivery_mode,
		.logical = e->fields.dest_mode,
		.level_triggered = e->fields.trig_mode,
		.assert = true,
	};
	int ret;

	if (e->fields.mask || (e->fields.trig_mode && e->fields.remote_irr))
		return -1;
	if (!e->fields.trig_mode)
		ic->ioapic.irr_delivered |= BIT(pin);
	ret = irq_deliver(ic, NULL, &m);
	/* Only what a LAPIC took as an interrupt will be ended by an EOI; NMI and the like are
	 * edges whatever the entry says. */
	if (ret > 0 && e->fields.trig_mode && m.mode <= IRQ_LOWEST)
		e->fields.remote_irr = 1;
	return ret;
}

static int set_level(struct irqchip *ic, u32 pin, bool level)
{
	struct ioapic *io = &ic->ioapic;
	bool edge = !io->s.redirtbl[pin].fields.trig_mode;
	bool was = io->s.irr & BIT(pin);

	if (!level) {
		io->s.irr &= ~BIT(pin);
		return 1;
	}
	io->s.irr |= BIT(pin);
	if (edge) {
		/* Still up from before: no edge. */
		if (was)
			return 0;
		io->irr_delivered &= ~BIT(pin);
	}
	return service(ic, pin);
}

int ioapic_set_pin(struct irqchip *ic, u32 pin, u32 source, bool level)
{
	return set_level(ic, pin, irq_line(&ic->ioapic.lines[pin], source, level));
}

/* A guest that ends a level interrupt without quieting its source would otherwise do nothing else
 * any more. */
static void storm_over(struct av_timer *t)
{
	struct irqchip *ic = container_of(t, struct irqchip, ioapic.storm_timer);

	irqchip_lock(ic);
	for (u32 pin = 0; pin < IRQ_PINS; pin++)
		if (ic->ioapic.s.redirtbl[pin].fields.trig_mode && ic->ioapic.s.irr & BIT(pin))
			service(ic, pin);
	irqchip_unlock(ic);
}

void ioapic_init(struct irqchip *ic)
{
	struct ioapic *io = &ic->ioapic;

	memset(io, 0, sizeof(*io));
	io->s.base_address = IOAPIC_BASE;
	for (u32 pin = 0; pin < IRQ_PINS; pin++)
		io->s.redirtbl[pin].fields.mask = 1;
	av_timer_init(&io->storm_timer, storm_over);
}

void ioapic_destroy(struct irqchip *ic)
{
	av_timer_cancel(&ic->ioapic.storm_timer, true);
}

static void end_pin(struct irqchip *ic, u32 pin)
{
	struct ioapic *io = &ic->ioapic;
	entry *e = &io->s.redirtbl[pin];

	e->fields.remote_irr = 0;
	if (e->fields.mask || !(io->s.irr & BIT(pin))) {
		io->eoi_storm[pin] = 0;
	} else if (++io->eoi_storm[pin] >= STORM_EOIS) {
		io->eoi_storm[pin] = 0;
		av_timer_arm(&io->storm_timer, av_now_ns() + STORM_PAUSE_NS);
	} else {
		service(ic, pin);
	}
}

void ioapic_eoi(struct irqchip *ic, struct lapic *l, u8 vector, bool level_triggered)
{
	bool broadcast = level_triggered && !(lapic_get_reg(l, LAPIC_SPIV) & LAPIC_NO_BROADCAST);
	u32 pins = 0;
	int gsi[IRQ_PINS];

	irqchip_lock(ic);
	for (u32 pin = 0; pin < IRQ_PINS; pin++) {
		entry *e = &ic->ioapic.s.redirtbl[pin];

		if (e->fields.vector != vector)
			continue;
		/* A level EOI reaches every entry of that vector; an edge one is of interest only
		 * to its own listener. */
		if (!(level_triggered && e->fields.trig_mode) &&
		    !irq_matches(l, NULL, IRQ_DEST, e->fields.dest_id, e->fields.dest_mode))
			continue;
		pins |= BIT(pin);
		gsi[pin] = irq_routes_gsi(ic, KVM_IRQCHIP_IOAPIC, pin);
	}
	irqchip_unlock(ic);

	/* Listeners first: a resampled line goes down here and is then not sent again for nothing.
	 */
	for (u32 pin = 0; pin < IRQ_PINS; pin++) {
		if (!(pins & BIT(pin)) || gsi[pin] < 0)
			continue;
		if (!gsi[pin])
			pit_ack(ic);
		ic->ops->ack(ic->owner, gsi[pin]);
	}
	if (!pins || !broadcast)
		return;
	irqchip_lock(ic);
	for (u32 pin = 0; pin < IRQ_PINS; pin++)
		if (pins & BIT(pin) && ic->ioapic.s.redirtbl[pin].fields.trig_mode &&
		    ic->ioapic.s.redirtbl[pin].fields.vector == vector)
			end_pin(ic, pin);
	irqchip_unlock(ic);
}

static u32 read_register(const struct kvm_ioapic_state *s)
{
	u32 i = (s->ioregsel - REG_TABLE) / 2;

	switch (s->ioregsel) {
	case REG_ID:
	case REG_ARB:
		return (s->id & 0xf) << 24;
	case REG_VERSION:
		return (IRQ_PINS - 1) << 16 | VERSION;
	default:
		if (s->ioregsel < REG_TABLE || i >= IRQ_PINS)
			return ~0u;
		return s->redirtbl[i].bits >> (s->ioregsel & 1 ? 32 : 0);
	}
}

static void write_entry(struct irqchip *ic, u32 pin, bool high, u32 v)
{
	struct kvm_ioapic_state *s = &ic->ioapic.s;
	entry *e = &s->redirtbl[pin];
	bool was_masked = e->fields.mask;

	if (high)
		e->bits = (u32)e->bits | (u64)v << 32;
	else
		e->bits = (e->bits & (~0ull << 32 | READ_ONLY)) | (v & ~READ_ONLY);
	/* Guests switch an entry to edge and back in order to clear remote IRR where there is no
	 * EOI register. */
	if (!e->fields.trig_mode)
		e->fields.remote_irr = 0;
	if (was_masked && !e->fields.mask && !irq_routes_gsi(ic, KVM_IRQCHIP_IOAPIC, pin))
		ic->gsi0_unmasked = true;
	irqchip_update_eoi_vectors(ic);
	if (e->fields.trig_mode && s->irr & BIT(pin))
		service(ic, pin);
}

void ioapic_io(struct irqchip *ic, u32 offset, u32 *data, bool write)
{
	struct kvm_ioapic_state *s = &ic->ioapic.s;
	u32 i = (s->ioregsel - REG_TABLE) / 2;

	switch (offset) {
	case WINDOW_SELECT:
		if (write)
			s->ioregsel = *data & 0xff;
		else
			*data = s->ioregsel;
		break;
	case WINDOW_DATA:
		if (!write)
			*data = read_register(s);
		else if (s->ioregsel == REG_ID)
			s->id = *data >> 24 & 0xf;
		else if (s->ioregsel >= REG_TABLE && i < IRQ_PINS)
			write_entry(ic, i, s->ioregsel & 1, *data);
		break;
	default:
		if (!write)
			*data = 0;
	}
}

void ioapic_get(struct irqchip *ic, struct kvm_ioapic_state *out)
{
	*out = ic->ioapic.s;
	/* An edge that was sent on is not pending for whoever restores this. */
	out->irr &= ~ic->ioapic.irr_delivered;
}

void ioapic_set(struct irqchip *ic, const struct kvm_ioapic_state *in)
{
	struct ioapic *io = &ic->ioapic;

	io->s = *in;
	io->s.ioregsel &= 0xff;
	io->s.irr = 0;
	io->irr_delivered = 0;
	irqchip_update_eoi_vectors(ic);
	for (u32 pin = 0; pin < IRQ_PINS; pin++)
		if (in->irr & BIT(pin))
			set_level(ic, pin, true);
}
