// SPDX-License-Identifier: MIT
/*
 * The pair of 8259A interrupt controllers with the ELCR of a PIIX.
 *
 * Knows nothing of routing or of vCPUs but which one takes ExtINT. Source: Intel 8259A data sheet;
 * struct kvm_pic_state. Everything here runs under the irqchip's lock.
 */
#include "irq/irq_priv.h"

#include <string.h>

#define CASCADE_PIN 2
#define NO_IRQ	    8

enum pic_icw { ICW_DONE, ICW2, ICW3, ICW4 };

static const u8 elcr_masks[2] = {0xf8, 0xde};

void pic_init(struct pic *p)
{
	memset(p, 0, sizeof(*p));
	for (u32 i = 0; i < 2; i++)
		p->c[i].elcr_mask = elcr_masks[i];
}

/* Places of a pin in the present rotation: 0 is the highest priority, NO_IRQ for an empty set. */
static u32 top_priority(const struct kvm_pic_state *s, u8 set)
{
	u32 rotated = (set | set << 8) >> s->priority_add & 0xff;

	return rotated ? __builtin_ctz(rotated) : NO_IRQ;
}

static u32 pin_at(const struct kvm_pic_state *s, u32 priority)
{
	return (priority + s->priority_add) & 7;
}

/* The pin this chip requests service for, or -1. */
static int requested(const struct kvm_pic_state *s, bool master)
{
	u32 priority = top_priority(s, s->irr & ~s->imr);
	u8 in_service = s->isr;

	/* Special mask mode: what is masked does not hold back the lower ones. */
	if (s->special_mask)
		in_service &= ~s->imr;
	/* Fully nested over the cascade: the slave sorts its own requests out. */
	if (s->special_fully_nested_mode && master)
		in_service &= ~BIT(CASCADE_PIN);
	return priority < top_priority(s, in_service) ? (int)pin_at(s, priority) : -1;
}

static void kick_listener(struct irqchip *ic)
{
	u32 n = LOAD_ACQUIRE(ic->nr_ids);
	struct lapic *l;

	for (u32 i = 0; i < n; i++) {
		l = LOAD_ACQUIRE(ic->lapics[i]);
		if (l && lapic_accepts_extint(l)) {
			ic->ops->kick(ic->owner, l->id);
			return;
		}
	}
}

void pic_update(struct irqchip *ic)
{
	struct kvm_pic_state *m = &ic->pic.c[0];
	bool up;

	/* The slave's INT is a plain wire to the master. */
	if (requested(&ic->pic.c[1], false) >= 0)
		m->irr |= BIT(CASCADE_PIN);
	else
		m->irr &= ~BIT(CASCADE_PIN);
	up = requested(m, true) >= 0;
	if (up != READ_ONCE(ic->pic.output)) {
		__atomic_store_n(&ic->pic.output, up, __ATOMIC_SEQ_CST);
		if (up)
			kick_listener(ic);
	}
}

int pic_set_pin(struct irqchip *ic, u32 pin, u32 source, bool level)
{
	struct kvm_pic_state *s = &ic->pic.c[pin / 8];
	u8 bit = BIT(pin % 8);
	int ret = 1;

	level = irq_line(&ic->pic.lines[pin], source, level);
	if (level) {
		if (s->elcr & bit || !(s->last_irr & bit)) {
			ret = !(s->irr & bit);
			s->irr |= bit;
		}
		s->last_irr |= bit;
	} else {
		if (s->elcr & bit)
			s->irr &= ~bit;
		s->last_irr &= ~bit;
	}
	pic_update(ic);
	return s->imr & bit ? -1 : ret;
}

static void end_service(struct irqchip *ic, u32 chip, u32 pin)
{
	ic->pic.c[chip].isr &= ~BIT(pin);
	ic->pic_acked |= BIT(chip * 8 + pin);
}

/* One chip's share of an INTA cycle. */
static void begin_service(struct irqchip *ic, u32 chip, u32 pin)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];

	s->isr |= BIT(pin);
	if (!(s->elcr & BIT(pin)))
		s->irr &= ~BIT(pin);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (pin + 1) & 7;
		end_service(ic, chip, pin);
	}
}

u8 pic_intack(struct irqchip *ic)
{
	struct kvm_pic_state *m = &ic->pic.c[0], *s = &ic->pic.c[1];
	int pin = requested(m, true), slave_pin;
	u8 vector;

	if (pin < 0) {
		/* Nobody asks any more: the spurious vector, which is not in service. */
		vector = m->irq_base + 7;
	} else if (pin == CASCADE_PIN) {
		slave_pin = requested(s, false);
		begin_service(ic, 0, CASCADE_PIN);
		if (slave_pin >= 0)
			begin_service(ic, 1, slave_pin);
		vector = s->irq_base + (slave_pin < 0 ? 7 : slave_pin);
	} else {
		begin_service(ic, 0, pin);
		vector = m->irq_base + pin;
	}
	pic_update(ic);
	return vector;
}

static void write_icw1(struct irqchip *ic, u32 chip, u8 v)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];
	u8 edges = s->irr & ~s->elcr;

	s->init4 = v & 1;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->isr = 0;
	s->imr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = ICW2;
	/* Forgotten edges count as acknowledged, or a source that waits for that would wait for
	 * ever. */
	ic->pic_acked |= (u32)edges << chip * 8;
}

static void write_ocw2(struct irqchip *ic, u32 chip, u8 v)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];
	bool rotate = v & 0x80, specific = v & 0x40, eoi = v & 0x20;
	u32 pin = v & 7, priority;

	if (!eoi) {
		if (specific) {
			if (rotate)
				s->priority_add = (pin + 1) & 7;
		} else {
			s->rotate_on_auto_eoi = rotate;
		}
		return;
	}
	if (!specific) {
		/* In special mask mode a masked pin is not the one that a plain EOI means. */
		priority = top_priority(s, s->special_mask ? s->isr & ~s->imr : s->isr);
		if (priority == NO_IRQ)
			return;
		pin = pin_at(s, priority);
	}
	if (rotate)
		s->priority_add = (pin + 1) & 7;
	end_service(ic, chip, pin);
}

static void write_ocw3(struct kvm_pic_state *s, u8 v)
{
	if (v & 0x04)
		s->poll = 1;
	if (v & 0x02)
		s->read_reg_select = v & 1;
	if (v & 0x40)
		s->special_mask = v >> 5 & 1;
}

static void write_data(struct irqchip *ic, u32 chip, u8 v)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];
	u8 unmasked;

	switch (s->init_state) {
	case ICW_DONE:
		unmasked = s->imr & ~v;
		s->imr = v;
		for (u32 pin = 0; pin < 8; pin++)
			if (unmasked & BIT(pin) && !irq_routes_gsi(ic, chip, pin))
				ic->gsi0_unmasked = true;
		break;
	case ICW2:
		s->irq_base = v & 0xf8;
		s->init_state = ICW3;
		break;
	case ICW3:
		/* Which pin is the cascade is soldered on a PC. */
		s->init_state = s->init4 ? ICW4 : ICW_DONE;
		break;
	case ICW4:
		s->special_fully_nested_mode = v >> 4 & 1;
		s->auto_eoi = v >> 1 & 1;
		s->init_state = ICW_DONE;
		break;
	}
}

static void chip_write(struct irqchip *ic, u32 chip, bool data_port, u8 v)
{
	if (data_port)
		write_data(ic, chip, v);
	else if (v & 0x10)
		write_icw1(ic, chip, v);
	else if (v & 0x08)
		write_ocw3(&ic->pic.c[chip], v);
	else
		write_ocw2(ic, chip, v);
	pic_update(ic);
}

/* A poll is an INTA cycle for this chip alone; bit 7 tells whether there was a request. */
static u8 poll_read(struct irqchip *ic, u32 chip)
{
	int pin = requested(&ic->pic.c[chip], chip == 0);

	ic->pic.c[chip].poll = 0;
	if (pin < 0)
		return 0;
	begin_service(ic, chip, pin);
	pic_update(ic);
	return 0x80 | pin;
}

static u8 chip_read(struct irqchip *ic, u32 chip, bool data_port)
{
	struct kvm_pic_state *s = &ic->pic.c[chip];

	if (s->poll)
		return poll_read(ic, chip);
	if (data_port)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

bool pic_io(struct irqchip *ic, u16 port, u8 *data, bool write)
{
	struct kvm_pic_state *s;
	u32 chip;

	switch (port) {
	case 0x20:
	case 0x21:
	case 0xa0:
	case 0xa1:
		chip = port >> 7;
		if (write)
			chip_write(ic, chip, port & 1, *data);
		else
			*data = chip_read(ic, chip, port & 1);
		return true;
	case 0x4d0:
	case 0x4d1:
		s = &ic->pic.c[port & 1];
		if (write)
			s->elcr = *data & s->elcr_mask;
		else
			*data = s->elcr;
		return true;
	default:
		return false;
	}
}
