// SPDX-License-Identifier: MIT
/*
 * Messages on the APIC bus: which LAPICs a destination names, and handing the message to them.
 *
 * Knows nothing of the LAPICs' registers but id, LDR, DFR and the enable bits. Takes no lock: the
 * directory is an array of pointers that never move, and a LAPIC's memory lives as long as the
 * irqchip. Sources: SDM vol. 3, "Determining IPI Destination"; api.rst on KVM_CAP_X2APIC_API for
 * what differs there.
 */
#include "irq/irq_priv.h"

#define BROADCAST	 0xffu
#define BROADCAST_X2APIC 0xffffffffu

#define MSI_DEST_SHIFT 12
#define MSI_LOGICAL    BIT(2)
#define MSI_REDIRECT   BIT(3)
#define MSI_LEVEL      BIT(15)

struct irq_msg irq_msg_from_msi(const struct irqchip *ic, u32 lo, u32 hi, u32 data)
{
	u32 dest = lo >> MSI_DEST_SHIFT & 0xff;

	if (ic->ids_32bit)
		dest |= hi & 0xffffff00;
	return (struct irq_msg){
		.dest = dest,
		.vector = data,
		.mode = data >> 8 & 7,
		.logical = lo & MSI_LOGICAL,
		.redirect = lo & MSI_REDIRECT,
		.level_triggered = data & MSI_LEVEL,
		.assert = true,
	};
}

static bool matches_physical(const struct lapic *l, bool x2apic, u32 dest)
{
	if (dest == (x2apic ? BROADCAST_X2APIC : BROADCAST))
		return true;
	/* An id that the 8 bits of xAPIC cannot express still reaches a hot-plugged CPU that has
	 * not switched yet. */
	if (x2apic || dest > 0xff)
		return dest == l->id;
	/* Conversely its id cut to 8 bits belongs to another CPU. */
	if (l->id > 0xff)
		return false;
	return dest == lapic_get_reg(l, LAPIC_ID) >> 24;
}

static bool matches_logical(const struct lapic *l, bool x2apic, u32 dest)
{
	u32 ldr = lapic_get_reg(l, LAPIC_LDR);

	if (dest == (x2apic ? BROADCAST_X2APIC : BROADCAST))
		return true;
	if (x2apic)
		return ldr >> 16 == dest >> 16 && ldr & dest & 0xffff;
	ldr >>= 24;
	switch (lapic_get_reg(l, LAPIC_DFR) >> 28) {
	case 0xf:
		return ldr & dest;
	case 0x0:
		return ldr >> 4 == dest >> 4 && ldr & dest & 0xf;
	default:
		return false;
	}
}

/* The plain truth about destinations; everything faster below must agree with it. */
bool irq_matches(const struct lapic *l, const struct lapic *src, u8 shorthand, u32 dest,
		 bool logical)
{
	bool x2apic = lapic_x2apic(l);

	switch (shorthand) {
	case IRQ_SELF:
		return l == src;
	case IRQ_ALL:
		return true;
	case IRQ_OTHERS:
		return l != src;
	}
	/* Devices have 8 bits for the destination: without interrupt remapping their broadcast
	 * means x2APIC CPUs too. */
	if (!src && x2apic && dest == BROADCAST && !l->ic->no_broadcast_quirk)
		dest = BROADCAST_X2APIC;
	return logical ? matches_logical(l, x2apic, dest) : matches_physical(l, x2apic, dest);
}

static struct lapic *lookup(struct irqchip *ic, u32 id)
{
	struct lapic *l = id < IRQ_MAX_VCPUS ? LOAD_ACQUIRE(ic->lapics[id]) : NULL;

	return l && lapic_present(l) ? l : NULL;
}

static int hand(struct lapic *l, const struct irq_msg *m, u8 mode)
{
	return lapic_accept(l, mode, m->vector, m->level_triggered, m->assert);
}

static bool wants_one(const struct irq_msg *m)
{
	return m->mode == IRQ_LOWEST || m->redirect;
}

/*
 * A set of candidates for a message to one of them. The arbitration of old buses is gone from the
 * hardware too; a hash of the vector spreads the load and keeps an interrupt on its CPU.
 */
struct candidates {
	struct lapic *l[IRQ_MAX_VCPUS];
	u32 n;
};

static void add_candidate(struct candidates *c, struct lapic *l)
{
	if (lapic_sw_enabled(l))
		c->l[c->n++] = l;
}

static int hand_one(const struct candidates *c, const struct irq_msg *m)
{
	return c->n ? hand(c->l[m->vector % c->n], m, m->mode) : -1;
}

static int deliver_scan(struct irqchip *ic, struct lapic *src, const struct irq_msg *m)
{
	/* Lowest priority to everybody is not defined; it reaches everybody. */
	bool everybody = !m->shorthand && !m->logical && m->dest == BROADCAST && wants_one(m);
	bool one = wants_one(m) && !everybody;
	u8 mode = everybody ? IRQ_FIXED : m->mode;
	u32 n = LOAD_ACQUIRE(ic->nr_ids);
	struct candidates c;
	int ret = -1;

	c.n = 0;
	for (u32 id = 0; id < n; id++) {
		struct lapic *l = lookup(ic, id);

		if (!l || !irq_matches(l, src, m->shorthand, m->dest, m->logical))
			continue;
		if (one)
			add_candidate(&c, l);
		else
			ret = MAX(ret, 0) + hand(l, m, mode);
	}
	return one ? hand_one(&c, m) : ret;
}

/* Logical x2APIC ids are derived from the ids: sixteen neighbours in the directory. */
static int deliver_cluster(struct irqchip *ic, const struct irq_msg *m)
{
	u32 first = (m->dest >> 16) * 16;
	struct candidates c;
	int ret = 0;

	c.n = 0;
	if (m->dest >> 16 > IRQ_MAX_VCPUS / 16)
		return 0;
	for (u32 set = m->dest & 0xffff; set; set &= set - 1) {
		struct lapic *l = lookup(ic, first + __builtin_ctz(set));

		if (!l)
			continue;
		if (wants_one(m))
			add_candidate(&c, l);
		else
			ret += hand(l, m, m->mode);
	}
	return wants_one(m) ? MAX(hand_one(&c, m), 0) : ret;
}

int irq_deliver(struct irqchip *ic, struct lapic *src, const struct irq_msg *m)
{
	bool all_x2apic = !__atomic_load_n(&ic->nr_xapic, __ATOMIC_ACQUIRE);
	struct lapic *l;

	if (m->shorthand == IRQ_SELF)
		return hand(src, m, m->mode);
	if (m->shorthand || m->dest == BROADCAST || m->dest == BROADCAST_X2APIC)
		return deliver_scan(ic, src, m);
	if (m->logical)
		return all_x2apic ? deliver_cluster(ic, m) : deliver_scan(ic, src, m);
	if (__atomic_load_n(&ic->nr_odd_ids, __ATOMIC_ACQUIRE))
		return deliver_scan(ic, src, m);
	/* Every LAPIC answers to its vCPU id. */
	l = lookup(ic, m->dest);
	return l ? hand(l, m, m->mode) : 0;
}
