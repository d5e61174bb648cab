/* SPDX-License-Identifier: MIT */
/*
 * The inside of irq/: device states, and what the files here call of each other.
 *
 * Locks, outermost first: pit.lock, irqchip.lock, lapic.timer_lock. irqchip_lock()/irqchip_unlock()
 * bracket everything about PIC, I/O APIC and routes; unlocking hands on what happened meanwhile
 * (acknowledged pins) with no lock held, because the listeners drive lines themselves. Delivery
 * into a LAPIC takes no lock.
 */
#ifndef AV_IRQ_IRQ_PRIV_H
#define AV_IRQ_IRQ_PRIV_H

#include "base/base.h"
#include "base/service.h"
#include "irq/irq.h"

#include <linux/kvm.h>
#include <pthread.h>

#define NSEC_PER_SEC 1000000000ull
#define MIN_PERIOD_NS                                                                              \
	200000ull /* shortest period of a repeating timer, as KVM's min_timer_period_us */
#define IRQ_SOURCES    64
#define IRQ_SOURCE_PIT 63 /* the PIT's own source id; users have 0 to 62 */
#define PIC_PINS       16

/* Delivery modes as in ICR, I/O APIC entries, LVT entries and MSI data. */
enum irq_mode {
	IRQ_FIXED = 0,
	IRQ_LOWEST = 1,
	IRQ_SMI = 2,
	IRQ_NMI = 4,
	IRQ_INIT = 5,
	IRQ_SIPI = 6,
	IRQ_EXTINT = 7,
};

enum irq_shorthand { IRQ_DEST, IRQ_SELF, IRQ_ALL, IRQ_OTHERS };

/* A message on the APIC bus. */
struct irq_msg {
	u32 dest;
	u8 vector;
	u8 mode;      /* enum irq_mode */
	u8 shorthand; /* enum irq_shorthand */
	bool logical;
	bool level_triggered;
	bool assert;
	bool redirect; /* MSI redirection hint: to one of the destinations */
};

/*
 * ---- Local APIC ----
 */

enum lapic_reg {
	LAPIC_ID = 0x20,
	LAPIC_VERSION = 0x30,
	LAPIC_TPR = 0x80,
	LAPIC_APR = 0x90,
	LAPIC_PPR = 0xa0,
	LAPIC_EOI = 0xb0,
	LAPIC_LDR = 0xd0,
	LAPIC_DFR = 0xe0,
	LAPIC_SPIV = 0xf0,
	LAPIC_ISR = 0x100,
	LAPIC_TMR = 0x180,
	LAPIC_IRR = 0x200,
	LAPIC_ESR = 0x280,
	LAPIC_LVTCMCI = 0x2f0,
	LAPIC_ICR = 0x300,
	LAPIC_ICR2 = 0x310,
	LAPIC_LVTT = 0x320,
	LAPIC_LVTTHMR = 0x330,
	LAPIC_LVTPC = 0x340,
	LAPIC_LVT0 = 0x350,
	LAPIC_LVT1 = 0x360,
	LAPIC_LVTERR = 0x370,
	LAPIC_TMICT = 0x380,
	LAPIC_TMCCT = 0x390,
	LAPIC_TDCR = 0x3e0,
	LAPIC_SELF_IPI = 0x3f0,
};

#define LAPIC_NR_LVT	   6	   /* LVTT to LVTERR, 0x10 apart */
#define LAPIC_SW_ENABLE	   BIT(8)  /* in SPIV */
#define LAPIC_NO_BROADCAST BIT(12) /* in SPIV: EOI broadcast suppression */
#define LAPIC_MASKED	   BIT(16) /* in LVT entries */
#define LAPIC_BASE_BSP	   BIT64(8)
#define LAPIC_BASE_X2APIC  BIT64(10)
#define LAPIC_BASE_ENABLE  BIT64(11)
#define LAPIC_BASE_ADDRESS 0x000ffffffffff000ull

enum lapic_error {
	LAPIC_ERR_SEND_VECTOR = BIT(5),
	LAPIC_ERR_RECV_VECTOR = BIT(6),
	LAPIC_ERR_REGISTER = BIT(7),
};

enum lapic_timer_mode { LAPIC_ONESHOT, LAPIC_PERIODIC, LAPIC_TSC_DEADLINE };

struct lapic {
	struct irqchip *ic;
	u32 id; /* vCPU id and x2APIC id; never changes */
	bool bsp, cmci; /* cmci: there is an LVT entry for corrected machine checks */
	u64 base; /* IA32_APIC_BASE; the owner writes, all read */
	/*
	 * One bit for each word of IRR that may be non-zero. Set after IRR by whoever delivers,
	 * cleared (and IRR looked at again) by the owner only.
	 */
	u32 irr_words;
	u32 errors;	   /* atomic: collected until ESR is written */
	u32 counted_xapic; /* this LAPIC is part of irqchip.nr_xapic / nr_odd_ids */
	u32 counted_odd;
	/* The register page as KVM_GET_LAPIC shows it. IRR and TMR by atomic operations, all else
	 * written by the owner. */
	u32 regs[KVM_APIC_REG_SIZE / 4];

	pthread_mutex_t timer_lock; /* the rest */
	struct av_timer timer;
	u8 timer_mode;
	u32 divide;
	u64 period;	  /* ns */
	u64 target;	  /* host ns of the next expiry; 0: not running */
	u64 tsc_deadline; /* 0: none */
	struct lapic *grave_next;
};

static inline u32 lapic_get_reg(const struct lapic *l, u32 reg)
{
	return READ_ONCE(l->regs[reg / 4]);
}
static inline void lapic_set_reg(struct lapic *l, u32 reg, u32 value)
{
	WRITE_ONCE(l->regs[reg / 4], value);
}
/* Bitmaps of 256 vectors: eight words, 16 bytes apart. */
static inline u32 *lapic_word(struct lapic *l, u32 map, u32 vector)
{
	return &l->regs[map / 4 + vector / 32 * 4];
}
static inline bool lapic_test(struct lapic *l, u32 map, u32 vector)
{
	return READ_ONCE(*lapic_word(l, map, vector)) & BIT(vector % 32);
}
/* IA32_APIC_BASE's global enable. */
static inline bool lapic_present(const struct lapic *l)
{
	return READ_ONCE(l->base) & LAPIC_BASE_ENABLE;
}
static inline bool lapic_sw_enabled(const struct lapic *l)
{
	return lapic_get_reg(l, LAPIC_SPIV) & LAPIC_SW_ENABLE;
}

/* lapic.c: takes a message that is meant for this LAPIC. 1: accepted, 0: dropped. Any thread. */
int lapic_accept(struct lapic *l, u8 mode, u8 vector, bool level_triggered, bool assert);
void lapic_error(struct lapic *l, u32 bits);
void lapic_update_ppr(struct lapic *l);
/* Makes the owner look again after its own register changed what is deliverable. owner */
void lapic_recheck(struct lapic *l);
/* Keeps the directory's counts in step with mode and id. owner */
void lapic_update_directory(struct lapic *l);
u32 lapic_x2apic_ldr(u32 id);
/* lapic_reg.c: ends the highest interrupt in service. owner */
void lapic_eoi(struct lapic *l);

/* lapic_timer.c. owner unless said otherwise */
void lapic_timer_init(struct lapic *l);
void lapic_timer_destroy(struct lapic *l);
void lapic_timer_reset(struct lapic *l);
void lapic_timer_write_lvtt(struct lapic *l); /* LVTT has changed */
void lapic_timer_write_tdcr(struct lapic *l); /* TDCR has changed */
void lapic_timer_write_tmict(struct lapic *l, u32 count);
u32 lapic_timer_count(struct lapic *l);
/* All timer registers were replaced; `left` is the current count to go on from. */
void lapic_timer_restore(struct lapic *l, u32 left);

/*
 * ---- Chips ----
 */

struct pic {
	struct kvm_pic_state c[2]; /* master, slave */
	u64 lines[PIC_PINS];	   /* one bit per source */
	u8 output;		   /* INTR; atomic for readers without the lock */
};

struct ioapic {
	struct kvm_ioapic_state s;
	u32 irr_delivered; /* edges in s.irr that have been sent on */
	u64 lines[IRQ_PINS];
	u32 eoi_storm[IRQ_PINS]; /* successive EOIs that found the line still up */
	struct av_timer storm_timer;
};

struct pit;

/* A routing entry. Entries of one GSI are adjacent. */
struct irq_route {
	u32 gsi;
	u32 type; /* KVM_IRQ_ROUTING_* */
	u8 chip, pin;
	u32 address_lo, address_hi, data;
};

struct irq_routes {
	u32 nr_gsis;
	u32 n;
	s16 pin_gsi[KVM_NR_IRQCHIPS][IRQ_PINS]; /* -1: none */
	u16 *first;				/* nr_gsis + 1 indices into e */
	struct irq_route e[];
};

struct irqchip {
	const struct irq_ops *ops;
	void *owner;
	bool has_chips, split;				    /* atomic; set once */
	u32 nr_reserved;				    /* split: GSIs of the VMM's I/O APIC */
	bool ids_32bit, no_broadcast_quirk, no_lint0_quirk; /* set before vCPUs run */

	pthread_mutex_t lock; /* routes, pic, ioapic, acks */
	struct irq_routes *routes;
	struct pic pic;
	struct ioapic ioapic;
	/* Collected under the lock and handed out by irqchip_unlock(). */
	u32 pic_acked;
	bool gsi0_unmasked;
	/* Vectors whose EOI somebody waits for (I/O APIC entries, or split routes); written under
	 * the lock, read without. */
	u32 eoi_vectors[8];

	struct pit *pit; /* atomic; set once */

	/* The directory: by vCPU id, published with release stores, read without lock. */
	struct lapic *lapics[IRQ_MAX_VCPUS];
	u32 nr_ids;	/* highest id + 1 */
	u32 nr_xapic;	/* LAPICs enabled in xAPIC mode */
	u32 nr_odd_ids; /* of these, such whose APIC id is not their vCPU id */
	/* Destroyed LAPICs that a delivery may still be looking at; freed with the irqchip. */
	struct lapic *graves;
};

/* irqchip.c */
void irqchip_lock(struct irqchip *ic);
void irqchip_unlock(struct irqchip *ic);
/* The LAPIC ended `vector`: tell I/O APIC or the VMM. No lock held. */
void irqchip_eoi(struct irqchip *ic, struct lapic *l, u8 vector, bool level_triggered);
/* Recomputes eoi_vectors. Lock held. */
void irqchip_update_eoi_vectors(struct irqchip *ic);
/* Changes one source's level of a line; true if any source holds it up. */
static inline bool irq_line(u64 *line, u32 source, bool level)
{
	*line = level ? *line | BIT64(source) : *line & ~BIT64(source);
	return *line;
}

/* deliver.c. Sends a message to all LAPICs it names; src is NULL for devices. -1: nobody, else the
 * number reached. Any thread. */
int irq_deliver(struct irqchip *ic, struct lapic *src, const struct irq_msg *m);
bool irq_matches(const struct lapic *l, const struct lapic *src, u8 shorthand, u32 dest,
		 bool logical);
struct irq_msg irq_msg_from_msi(const struct irqchip *ic, u32 lo, u32 hi, u32 data);

/* routing.c. Both with the lock held. */
void irq_routes_split_vectors(struct irqchip *ic, u32 vectors[8]);
int irq_routes_gsi(const struct irqchip *ic, u8 chip, u32 pin);

/* pic.c. Lock held. */
void pic_init(struct pic *p);
int pic_set_pin(struct irqchip *ic, u32 pin, u32 source, bool level);
u8 pic_intack(struct irqchip *ic);
void pic_update(struct irqchip *ic);
bool pic_io(struct irqchip *ic, u16 port, u8 *data, bool write);

/* ioapic.c. Lock held unless said otherwise. */
void ioapic_init(struct irqchip *ic);
void ioapic_destroy(struct irqchip *ic); /* no lock held */
int ioapic_set_pin(struct irqchip *ic, u32 pin, u32 source, bool level);
void ioapic_io(struct irqchip *ic, u32 offset, u32 *data, bool write);
void ioapic_eoi(struct irqchip *ic, struct lapic *l, u8 vector,
		bool level_triggered); /* no lock held */
void ioapic_get(struct irqchip *ic, struct kvm_ioapic_state *out);
void ioapic_set(struct irqchip *ic, const struct kvm_ioapic_state *in);

/* pit.c. No lock held. */
void pit_destroy(struct irqchip *ic);
bool pit_io(struct irqchip *ic, u16 port, u8 *data, bool write);
void pit_ack(struct irqchip *ic);      /* GSI 0 was acknowledged */
void pit_unmasked(struct irqchip *ic); /* GSI 0 was unmasked */

#endif
