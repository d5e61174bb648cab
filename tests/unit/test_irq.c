// SPDX-License-Identifier: MIT
/*
 * Unit tests of irq/: the chips, delivery, timers and saved state, on a machine that only counts
 * what it is told.
 */
#include "base/futex.h"
#include "irq/irq.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MS   1000000ull
#define CPUS 4

enum {
	ID = 0x20,
	VERSION = 0x30,
	TPR = 0x80,
	PPR = 0xa0,
	EOI = 0xb0,
	LDR = 0xd0,
	DFR = 0xe0,
	SPIV = 0xf0,
	ISR = 0x100,
	TMR = 0x180,
	IRR = 0x200,
	ESR = 0x280,
	ICR = 0x300,
	ICR2 = 0x310,
	LVTT = 0x320,
	LVTPC = 0x340,
	LVT0 = 0x350,
	LVT1 = 0x360,
	LVTERR = 0x370,
	TMICT = 0x380,
	TMCCT = 0x390,
	TDCR = 0x3e0,
};

#define ENABLE	 0x800ull
#define X2APIC	 0x400ull
#define MASKED	 0x10000u
#define PERIODIC 0x20000u
#define DEADLINE 0x40000u

struct machine {
	struct irqchip *ic;
	struct lapic *cpu[CPUS];
	/* test_directory makes one CPU with a large id. */
	u32 kicks[IRQ_MAX_VCPUS], nmis[CPUS], smis[CPUS], inits[IRQ_MAX_VCPUS], sipis[CPUS];
	u8 sipi_vector, eoi_vector;
	u32 eois, acks[IRQ_PINS];
	/* A resampling device: when this GSI is acknowledged, its line goes down. */
	int resample;
	s64 tsc_offset;
};

static void count(u32 *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_SEQ_CST);
}

static void op_kick(void *m, u32 cpu)
{
	count(&((struct machine *)m)->kicks[cpu]);
}
static void op_nmi(void *m, u32 cpu)
{
	count(&((struct machine *)m)->nmis[cpu]);
}
static void op_smi(void *m, u32 cpu)
{
	count(&((struct machine *)m)->smis[cpu]);
}
static void op_init(void *m, u32 cpu)
{
	count(&((struct machine *)m)->inits[cpu]);
}
static void op_sipi(void *m, u32 cpu, u8 vector)
{
	((struct machine *)m)->sipi_vector = vector;
	count(&((struct machine *)m)->sipis[cpu]);
}
static void op_ioapic_eoi(void *m, u32 cpu, u8 vector)
{
	((struct machine *)m)->eoi_vector = vector;
	count(&((struct machine *)m)->eois);
}
static void op_ack(void *p, u32 gsi)
{
	struct machine *m = p;

	if (gsi < IRQ_PINS)
		count(&m->acks[gsi]);
	if (m->resample >= 0 && gsi == m->resample)
		irqchip_set_gsi(m->ic, gsi, 0, 1);
}
/* A TSC of 1 GHz that follows the host's clock. */
static u64 op_tsc(void *m, u32 cpu)
{
	return av_now_ns() + ((struct machine *)m)->tsc_offset;
}
static u32 op_tsc_khz(void *m, u32 cpu)
{
	return 1000000;
}

static const struct irq_ops ops = {
	.kick = op_kick,
	.nmi = op_nmi,
	.smi = op_smi,
	.init = op_init,
	.sipi = op_sipi,
	.ioapic_eoi = op_ioapic_eoi,
	.ack = op_ack,
	.tsc = op_tsc,
	.tsc_khz = op_tsc_khz,
};

static u32 rd(struct lapic *l, u32 reg)
{
	u32 v = 0xdeadbeef;

	lapic_mmio(l, reg, &v, 4, false);
	return v;
}

static void wr(struct lapic *l, u32 reg, u32 v)
{
	lapic_mmio(l, reg, &v, 4, true);
}

static bool bit(struct lapic *l, u32 map, u8 vector)
{
	return rd(l, map + vector / 32 * 16) >> (vector % 32) & 1;
}

static void enable(struct lapic *l)
{
	wr(l, SPIV, 0x1ff);
}

static struct machine *new_machine(bool chips, bool split)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->resample = -1;
	assert_int_equal(irqchip_create(&ops, m, &m->ic), 0);
	if (chips)
		assert_int_equal(irqchip_add_chips(m->ic), 0);
	if (split)
		assert_int_equal(irqchip_set_split(m->ic, 24), 0);
	for (u32 i = 0; i < CPUS; i++) {
		assert_int_equal(lapic_create(m->ic, i, i == 0, &m->cpu[i]), 0);
		enable(m->cpu[i]);
	}
	memset(m->kicks, 0, sizeof(m->kicks));
	return m;
}

static void free_machine(struct machine *m)
{
	for (u32 i = 0; i < CPUS; i++)
		lapic_destroy(m->cpu[i]);
	irqchip_destroy(m->ic);
	free(m);
}

static int setup(void **state)
{
	*state = new_machine(true, false);
	return 0;
}

static int setup_split(void **state)
{
	*state = new_machine(false, true);
	return 0;
}

static int teardown(void **state)
{
	free_machine(*state);
	return 0;
}

static void x2apic(struct lapic *l)
{
	assert_int_equal(lapic_set_base(l, lapic_base(l) | X2APIC, 40, true, false), 0);
}

/* Takes and ends everything that is pending or in service. */
static void drain(struct lapic *l)
{
	while (lapic_ack(l) >= 0)
		;
	for (u32 i = 0; i < 300; i++) {
		if (lapic_x2apic(l))
			lapic_wrmsr(l, 0x80b, 0);
		else
			wr(l, EOI, 0);
		while (lapic_ack(l) >= 0)
			;
	}
}

/*
 * ---- PIC ----
 */

static void out(struct machine *m, u16 port, u8 v)
{
	assert_true(irqchip_pio(m->ic, port, &v, 1, true));
}

static u8 in(struct machine *m, u16 port)
{
	u8 v = 0xcc;

	assert_true(irqchip_pio(m->ic, port, &v, 1, false));
	return v;
}

static void pic_setup(struct machine *m, u8 icw4)
{
	out(m, 0x20, 0x11);
	out(m, 0x21, 0x30);
	out(m, 0x21, 0x04);
	out(m, 0x21, icw4);
	out(m, 0xa0, 0x11);
	out(m, 0xa1, 0x38);
	out(m, 0xa1, 0x02);
	out(m, 0xa1, icw4);
	out(m, 0x21, 0);
	out(m, 0xa1, 0);
}

static void pulse(struct machine *m, u32 gsi)
{
	irqchip_pulse_gsi(m->ic, gsi, 0);
}

static bool extint(struct machine *m)
{
	return irqchip_extint_pending(m->ic, m->cpu[0]);
}

static void test_pic_basic(void **state)
{
	struct machine *m = *state;

	pic_setup(m, 0x01);
	assert_false(extint(m));
	pulse(m, 4);
	assert_true(extint(m));
	/* Only the boot CPU's LVT0 is open after reset. */
	assert_false(irqchip_extint_pending(m->ic, m->cpu[1]));
	assert_int_equal(m->kicks[0], 1);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	assert_false(extint(m));
	/* A lower one waits, a higher one does not. */
	pulse(m, 5);
	assert_false(extint(m));
	pulse(m, 3);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x33);
	/* ISR by OCW3. */
	out(m, 0x20, 0x0b);
	assert_int_equal(in(m, 0x20), 0x18);
	out(m, 0x20, 0x0a);
	assert_int_equal(in(m, 0x20), 0x20);
	out(m, 0x20, 0x20);
	assert_int_equal(m->acks[3], 1);
	assert_false(extint(m));
	out(m, 0x20, 0x64); /* specific EOI of 4 */
	assert_int_equal(m->acks[4], 1);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x35);
	out(m, 0x20, 0x20);
	/* Nobody asks: spurious, not in service. */
	assert_int_equal(irqchip_extint_ack(m->ic), 0x37);
	out(m, 0x20, 0x0b);
	assert_int_equal(in(m, 0x20), 0);
}

static void test_pic_cascade(void **state)
{
	struct machine *m = *state;

	pic_setup(m, 0x01);
	pulse(m, 12);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x3c);
	/* A higher one of the slave is held by the cascade pin in service... */
	pulse(m, 9);
	assert_false(extint(m));
	/* ...a higher one of the master is not. */
	pulse(m, 1);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x31);
	out(m, 0x20, 0x20);
	out(m, 0xa0, 0x20);
	assert_int_equal(m->acks[12], 1);
	assert_false(extint(m));
	out(m, 0x20, 0x20);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x39);
	out(m, 0xa0, 0x20);
	out(m, 0x20, 0x20);

	/* Special fully nested mode: the slave's higher request gets through. */
	pic_setup(m, 0x11);
	pulse(m, 12);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x3c);
	pulse(m, 9);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x39);
}

static void test_pic_modes(void **state)
{
	struct machine *m = *state;

	/* Masks. */
	pic_setup(m, 0x01);
	out(m, 0x21, 0x10);
	assert_int_equal(in(m, 0x21), 0x10);
	assert_int_equal(irqchip_set_gsi(m->ic, 4, 1, 0), -1);
	assert_false(extint(m));
	out(m, 0x21, 0);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	/* Special mask mode: masking what is in service lets lower ones through. */
	pulse(m, 6);
	assert_false(extint(m));
	out(m, 0x21, 0x10);
	assert_false(extint(m));
	out(m, 0x20, 0x68);
	assert_true(extint(m));
	assert_int_equal(irqchip_extint_ack(m->ic), 0x36);
	out(m, 0x20, 0x48);

	/* Automatic EOI, with rotation: the one served becomes the lowest. */
	pic_setup(m, 0x03);
	out(m, 0x20, 0x80);
	irqchip_set_gsi(m->ic, 4, 0, 0);
	pulse(m, 4);
	pulse(m, 5);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	assert_true(extint(m));
	pulse(m, 4);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x35);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	out(m, 0x20, 0x00);

	/* Set priority: 3 lowest, so 4 is above 1. */
	pic_setup(m, 0x01);
	out(m, 0x20, 0xc3);
	pulse(m, 1);
	pulse(m, 4);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	out(m, 0x20, 0xa0); /* rotate on EOI: 4 lowest */
	pulse(m, 4);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x31);
	out(m, 0x20, 0x20);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x34);
	out(m, 0x20, 0x20);

	/* Poll. A reset acknowledges the edges it forgets. */
	pulse(m, 3);
	u32 acks = m->acks[3];

	pic_setup(m, 0x01);
	assert_false(extint(m));
	assert_int_equal(m->acks[3], acks + 1);
	out(m, 0x20, 0x0c);
	assert_int_equal(in(m, 0x20), 0);
	pulse(m, 3);
	out(m, 0x20, 0x0c);
	assert_int_equal(in(m, 0x20), 0x83);
	out(m, 0x20, 0x0b);
	assert_int_equal(in(m, 0x20), 0x08);
	assert_false(extint(m));
}

static void test_pic_level(void **state)
{
	struct machine *m = *state;
	u16 word = 0xffff;

	pic_setup(m, 0x01);
	/* ELCR: some pins cannot be level. */
	out(m, 0x4d0, 0xff);
	out(m, 0x4d1, 0xff);
	assert_int_equal(in(m, 0x4d0), 0xf8);
	assert_int_equal(in(m, 0x4d1), 0xde);
	assert_int_equal(irqchip_set_gsi(m->ic, 5, 1, 0), 1);
	assert_int_equal(irqchip_set_gsi(m->ic, 5, 1, 7), 0);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x35);
	/* Still up, through the other source as well: asks again after EOI. */
	irqchip_set_gsi(m->ic, 5, 0, 0);
	out(m, 0x20, 0x20);
	assert_true(extint(m));
	irqchip_set_gsi(m->ic, 5, 0, 7);
	assert_false(extint(m));
	/* Wide accesses are swallowed. */
	assert_true(irqchip_pio(m->ic, 0x20, &word, 2, false));
	assert_int_equal(word, 0);
	assert_false(irqchip_pio(m->ic, 0x22, &word, 1, false));
	assert_false(irqchip_pio(m->ic, 0x40, &word, 1, false));
}

/*
 * ---- I/O APIC ----
 */

static void io_write(struct machine *m, u32 reg, u32 v)
{
	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE, &reg, 4, true));
	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE + 0x10, &v, 4, true));
}

static u32 io_read(struct machine *m, u32 reg)
{
	u32 v = 0;

	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE, &reg, 4, true));
	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE + 0x10, &v, 4, false));
	return v;
}

static void io_entry(struct machine *m, u32 pin, u32 low, u8 dest)
{
	io_write(m, 0x11 + pin * 2, dest << 24);
	io_write(m, 0x10 + pin * 2, low);
}

#define LEVEL	   0x8000u
#define REMOTE_IRR 0x4000u

static void test_ioapic_registers(void **state)
{
	struct machine *m = *state;
	u64 wide = 0;

	assert_int_equal(io_read(m, 1), 0x170011);
	assert_int_equal(io_read(m, 0x10), MASKED);
	io_write(m, 0, 0x0f000000);
	assert_int_equal(io_read(m, 0), 0x0f000000);
	assert_int_equal(io_read(m, 2), 0x0f000000);
	io_entry(m, 23, 0x1abcd, 0x42);
	/* Delivery status and remote IRR are read-only. */
	assert_int_equal(io_read(m, 0x3e), 0x1abcd & ~0x5000);
	assert_int_equal(io_read(m, 0x3f), 0x42000000);
	assert_int_equal(io_read(m, 0x40), 0xffffffff);
	io_write(m, 0x40, 0); /* no such pin: no effect */
	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE + 0x10, &wide, 8, false));
	assert_int_equal(wide, 0xffffffff);
	assert_true(irqchip_mmio(m->ic, IOAPIC_BASE + 0x20, &wide, 4, false));
	assert_false(irqchip_mmio(m->ic, IOAPIC_BASE + 0x100, &wide, 4, false));
	assert_false(irqchip_mmio(m->ic, IOAPIC_BASE - 4, &wide, 4, false));
}

static void test_ioapic_edge(void **state)
{
	struct machine *m = *state;

	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 0), -1); /* masked */
	irqchip_set_gsi(m->ic, 20, 0, 0);
	io_entry(m, 20, 0x51, 1);
	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 0), 1);
	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 0), 0);
	assert_int_equal(m->kicks[1], 1);
	assert_int_equal(lapic_pending(m->cpu[1]), 0x51);
	assert_int_equal(lapic_pending(m->cpu[0]), -1);
	assert_int_equal(lapic_ack(m->cpu[1]), 0x51);
	assert_false(bit(m->cpu[1], TMR, 0x51));
	wr(m->cpu[1], EOI, 0);
	assert_int_equal(m->acks[20], 1);
	/* Still high: no new edge. */
	assert_int_equal(lapic_pending(m->cpu[1]), -1);
	/* A second source that keeps the line up hides the edge of the first. */
	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 9), 0);
	irqchip_set_gsi(m->ic, 20, 0, 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 0), 0);
	irqchip_set_gsi(m->ic, 20, 0, 0);
	irqchip_set_gsi(m->ic, 20, 0, 9);
	assert_int_equal(irqchip_set_gsi(m->ic, 20, 1, 0), 1);
	drain(m->cpu[1]);
	/* A destination that nobody has. */
	io_entry(m, 21, 0x52, 77);
	assert_int_equal(irqchip_set_gsi(m->ic, 21, 1, 0), 0);
	/* NMI delivery. */
	io_entry(m, 22, 0x400, 2);
	assert_int_equal(irqchip_set_gsi(m->ic, 22, 1, 0), 1);
	assert_int_equal(m->nmis[2], 1);
}

static void test_ioapic_level(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[2];

	io_entry(m, 17, LEVEL | 0x61, 2);
	assert_int_equal(irqchip_set_gsi(m->ic, 17, 1, 0), 1);
	assert_int_equal(io_read(m, 0x10 + 34), LEVEL | REMOTE_IRR | 0x61);
	/* While it waits for its EOI, nothing more is sent. */
	assert_int_equal(irqchip_set_gsi(m->ic, 17, 1, 0), -1);
	assert_int_equal(lapic_ack(l), 0x61);
	assert_true(bit(l, TMR, 0x61));
	assert_int_equal(lapic_pending(l), -1);
	/* EOI with the line up: again. */
	wr(l, EOI, 0);
	assert_int_equal(m->acks[17], 1);
	assert_int_equal(lapic_pending(l), 0x61);
	assert_int_equal(lapic_ack(l), 0x61);
	irqchip_set_gsi(m->ic, 17, 0, 0);
	wr(l, EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	assert_int_equal(io_read(m, 0x10 + 34), LEVEL | 0x61);

	/* Masked while it waits; EOI clears remote IRR; unmasking delivers the line that is still
	 * up. */
	irqchip_set_gsi(m->ic, 17, 1, 0);
	assert_int_equal(lapic_ack(l), 0x61);
	io_write(m, 0x10 + 34, MASKED | LEVEL | 0x61);
	wr(l, EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	io_write(m, 0x10 + 34, LEVEL | 0x61);
	assert_int_equal(lapic_pending(l), 0x61);
	irqchip_set_gsi(m->ic, 17, 0, 0);
	drain(l);

	/* Switching to edge and back clears remote IRR. */
	irqchip_set_gsi(m->ic, 17, 1, 0);
	io_write(m, 0x10 + 34, MASKED | 0x61);
	io_write(m, 0x10 + 34, MASKED | LEVEL | 0x61);
	assert_int_equal(io_read(m, 0x10 + 34), MASKED | LEVEL | 0x61);
	irqchip_set_gsi(m->ic, 17, 0, 0);
	drain(l);
	/* The version register told the guest that broadcasts cannot be suppressed. */
	wr(l, SPIV, 0x11ff);
	assert_int_equal(rd(l, SPIV), 0x1ff);
}

/* A resample irqfd lowers its line from the acknowledgement: no interrupt too many, no deadlock. */
static void test_ioapic_resample(void **state)
{
	struct machine *m = *state;

	m->resample = 18;
	io_entry(m, 18, LEVEL | 0x62, 0);
	irqchip_set_gsi(m->ic, 18, 1, 1);
	assert_int_equal(lapic_ack(m->cpu[0]), 0x62);
	wr(m->cpu[0], EOI, 0);
	assert_int_equal(m->acks[18], 1);
	assert_int_equal(lapic_pending(m->cpu[0]), -1);
	/* The same through the PIC. */
	pic_setup(m, 0x01);
	out(m, 0x4d0, 0x20);
	m->resample = 5;
	irqchip_set_gsi(m->ic, 5, 1, 1);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x35);
	out(m, 0x20, 0x20);
	assert_int_equal(m->acks[5], 1);
	assert_false(extint(m));
}

/* A guest that never quiets its device is slowed down after many EOIs, but not forgotten. */
static void test_ioapic_storm(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];
	u32 n = 0;

	io_entry(m, 19, LEVEL | 0x63, 0);
	irqchip_set_gsi(m->ic, 19, 1, 0);
	for (; n < 100000 && lapic_ack(l) == 0x63; n++)
		wr(l, EOI, 0);
	assert_in_range(n, 9000, 11000);
	for (int i = 0; i < 500 && lapic_pending(l) < 0; i++)
		usleep(10000);
	assert_int_equal(lapic_pending(l), 0x63);
}

/*
 * ---- Local APIC ----
 */

static void send(struct machine *m, u32 cpu, u8 vector)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000 | cpu << 12, .data = vector};

	assert_int_equal(irqchip_msi(m->ic, &msi), 1);
}

static void test_lapic_priority(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];

	assert_int_equal(lapic_ack(l), -1);
	send(m, 0, 0x45);
	send(m, 0, 0x33);
	send(m, 0, 0x91);
	send(m, 0, 0x91); /* merges */
	assert_int_equal(lapic_ack(l), 0x91);
	assert_true(bit(l, ISR, 0x91));
	assert_int_equal(rd(l, PPR), 0x90);
	assert_int_equal(lapic_pending(l), -1);
	/* The same class does not nest, a higher one does. */
	send(m, 0, 0x9f);
	assert_int_equal(lapic_pending(l), -1);
	send(m, 0, 0xa0);
	assert_int_equal(lapic_ack(l), 0xa0);
	wr(l, EOI, 0);
	assert_false(bit(l, ISR, 0xa0));
	assert_true(bit(l, ISR, 0x91));
	assert_int_equal(rd(l, PPR), 0x90);
	wr(l, EOI, 0);
	assert_int_equal(lapic_ack(l), 0x9f);
	wr(l, EOI, 0);
	/* TPR: of two equal classes its full value is PPR. */
	send(m, 0, 0x71);
	assert_int_equal(lapic_ack(l), 0x71);
	wr(l, TPR, 0x75);
	assert_int_equal(rd(l, PPR), 0x75);
	wr(l, TPR, 0);
	wr(l, EOI, 0);
	wr(l, TPR, 0x45);
	assert_int_equal(rd(l, PPR), 0x45);
	assert_int_equal(lapic_cr8(l), 4);
	assert_int_equal(lapic_pending(l), -1);
	u32 before = m->kicks[0];

	lapic_set_cr8(l, 3);
	assert_int_equal(rd(l, TPR), 0x30);
	assert_true(m->kicks[0] > before);
	assert_int_equal(lapic_ack(l), 0x45);
	assert_int_equal(rd(l, PPR), 0x40);
	wr(l, EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	lapic_set_cr8(l, 0);
	assert_int_equal(lapic_ack(l), 0x33);
	wr(l, EOI, 0);
	wr(l, EOI, 0); /* one too many */
	assert_int_equal(rd(l, PPR), 0);
}

static void test_lapic_off(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[1];
	struct kvm_msi msi = {.address_lo = 0xfee01000, .data = 0x40};

	/* Software off: masks the LVTs, takes no interrupt, keeps what was pending, takes INIT and
	 * NMI. */
	wr(l, LVT1, 0x400);
	send(m, 1, 0x40);
	wr(l, SPIV, 0xff);
	assert_int_equal(rd(l, LVT1), MASKED | 0x400);
	wr(l, LVT1, 0x400);
	assert_int_equal(rd(l, LVT1), MASKED | 0x400);
	assert_int_equal(lapic_pending(l), -1);
	msi.data = 0x41;
	assert_int_equal(irqchip_msi(m->ic, &msi), 0);
	msi.data = 0x400;
	assert_int_equal(irqchip_msi(m->ic, &msi), 1);
	assert_int_equal(m->nmis[1], 1);
	enable(l);
	assert_int_equal(lapic_ack(l), 0x40);
	/* Hardware off: nothing at all. */
	assert_int_equal(lapic_set_base(l, LAPIC_DEFAULT_BASE, 40, true, false), 0);
	msi.data = 0x40;
	assert_int_equal(irqchip_msi(m->ic, &msi), 0);
	msi.data = 0x400;
	assert_int_equal(irqchip_msi(m->ic, &msi), 0);
	assert_int_equal(m->nmis[1], 1);
	lapic_local_deliver(l, LVT1);
	assert_int_equal(m->nmis[1], 1);
}

static void test_lapic_registers(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[3];
	u8 byte = 0;
	u64 wide = ~0ull;
	u16 half;

	assert_int_equal(rd(l, ID), 3 << 24);
	assert_int_equal(lapic_id(l), 3);
	assert_int_equal(rd(l, VERSION), 0x50014);
	wr(l, VERSION, 0);
	assert_int_equal(rd(l, VERSION), 0x50014);
	lapic_mmio(l, VERSION + 2, &byte, 1, false);
	assert_int_equal(byte, 5);
	lapic_mmio(l, VERSION, &half, 2, false);
	assert_int_equal(half, 0x14);
	lapic_mmio(l, VERSION + 2, &wide, 8, false);
	assert_int_equal(wide, 0);
	wr(l, LDR, 0xffffffff);
	assert_int_equal(rd(l, LDR), 0xff000000);
	wr(l, DFR, 0);
	assert_int_equal(rd(l, DFR), 0x0fffffff);
	/* Narrow and unaligned writes do nothing. */
	byte = 0x70;
	lapic_mmio(l, TPR, &byte, 1, true);
	assert_int_equal(rd(l, TPR), 0);
	/* After reset only the boot CPU's LVT0 is open, and for ExtINT. */
	assert_int_equal(rd(m->cpu[0], LVT0), 0x700);
}

static void test_lapic_reset(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];

	wr(l, LVT0, MASKED);
	wr(l, ID, 9 << 24);
	wr(l, LDR, 1 << 24);
	wr(l, TPR, 0x50);
	send(m, 1, 0x40);
	lapic_reset(l, false);
	assert_int_equal(lapic_base(l), LAPIC_DEFAULT_BASE | ENABLE | 0x100);
	assert_int_equal(rd(l, LVT0), 0x700);
	assert_int_equal(rd(l, LVT1), MASKED);
	assert_int_equal(rd(l, ID), 0);
	assert_int_equal(rd(l, LDR), 0);
	assert_int_equal(rd(l, DFR), 0xffffffff);
	assert_int_equal(rd(l, SPIV), 0xff);
	assert_int_equal(rd(l, TPR), 0);

	/* INIT keeps id, base and mode. */
	l = m->cpu[1];
	x2apic(l);
	lapic_reset(l, true);
	assert_true(lapic_x2apic(l));
	assert_int_equal(lapic_id(l), 1);
	assert_int_equal(lapic_pending(l), -1);
	enable(l);
	lapic_reset(l, false);
	assert_false(lapic_x2apic(l));
	assert_int_equal(rd(l, LVT0), MASKED);

	/* Without the quirk LVT0 stays shut. */
	irqchip_set_lint0_quirk(m->ic, false);
	lapic_reset(m->cpu[0], false);
	assert_int_equal(rd(m->cpu[0], LVT0), MASKED);
}

static void test_lapic_errors(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];

	wr(l, LVTERR, 0xfe);
	assert_int_equal(rd(l, 0x10), 0); /* reserved */
	assert_int_equal(rd(l, ESR), 0);  /* not before the write */
	assert_int_equal(lapic_ack(l), 0xfe);
	wr(l, EOI, 0);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0x80);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0);
	/* An illegal vector, sent to oneself. */
	wr(l, ICR, 0x40000 | 5);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0x60);
	assert_int_equal(lapic_ack(l), 0xfe);
	wr(l, EOI, 0);
	assert_int_equal(lapic_ack(l), -1);
	/* An error entry that is itself in error ends there. */
	wr(l, LVTERR, 3);
	rd(l, 0x10);
	assert_int_equal(lapic_ack(l), -1);
}

static void test_local_deliver(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[2];

	lapic_local_deliver(l, LVT1);
	assert_int_equal(m->nmis[2], 0);
	wr(l, LVT1, 0x400);
	lapic_local_deliver(l, LVT1);
	assert_int_equal(m->nmis[2], 1);
	wr(l, LVT0, 0x48);
	lapic_local_deliver(l, LVT0);
	assert_int_equal(lapic_ack(l), 0x48);
	/* The performance counter's entry masks itself. */
	wr(l, LVTPC, 0x400);
	lapic_local_deliver(l, LVTPC);
	assert_int_equal(m->nmis[2], 2);
	assert_int_equal(rd(l, LVTPC), MASKED | 0x400);
	lapic_local_deliver(l, LVTPC);
	assert_int_equal(m->nmis[2], 2);
}

/*
 * ---- Destinations ----
 */

/* Which CPUs have this vector pending; clears it all. */
static u32 got(struct machine *m, u8 vector)
{
	u32 set = 0;

	for (u32 i = 0; i < CPUS; i++) {
		if (lapic_pending(m->cpu[i]) == vector)
			set |= BIT(i);
		drain(m->cpu[i]);
	}
	return set;
}

static void ipi(struct lapic *l, u32 icr, u32 dest)
{
	if (lapic_x2apic(l)) {
		assert_int_equal(lapic_wrmsr(l, 0x830, (u64)dest << 32 | icr), 0);
	} else {
		wr(l, ICR2, dest << 24);
		wr(l, ICR, icr);
	}
}

#define ASSERT	0x4000u
#define LOGICAL 0x800u
#define LOWEST	0x100u
#define SELF	0x40000u
#define ALL	0x80000u
#define OTHERS	0xc0000u

static void shorthands(struct machine *m)
{
	struct lapic *l = m->cpu[1];

	ipi(l, ASSERT | SELF | 0x41, 0);
	assert_int_equal(got(m, 0x41), 2);
	ipi(l, ASSERT | ALL | 0x42, 0);
	assert_int_equal(got(m, 0x42), 15);
	ipi(l, ASSERT | OTHERS | 0x43, 0);
	assert_int_equal(got(m, 0x43), 13);
	ipi(l, ASSERT | 0x44, 3);
	assert_int_equal(got(m, 0x44), 8);
	ipi(l, ASSERT | 0x44, 99);
	assert_int_equal(got(m, 0x44), 0);
	ipi(l, ASSERT | 0x45, lapic_x2apic(l) ? 0xffffffff : 0xff);
	assert_int_equal(got(m, 0x45), 15);
	/* Delivery modes. */
	ipi(l, ASSERT | OTHERS | 0x400, 0);
	ipi(l, ASSERT | 0x200, 0);
	ipi(l, ASSERT | LEVEL | 0x500, 2);
	ipi(l, LEVEL | 0x500, 2); /* de-assert */
	ipi(l, ASSERT | 0x69a, 2);
	assert_int_equal(m->nmis[0] + m->nmis[2] + m->nmis[3], 3);
	assert_int_equal(m->nmis[1], 0);
	assert_int_equal(m->smis[0], 1);
	assert_int_equal(m->inits[2], 1);
	assert_int_equal(m->sipis[2], 1);
	assert_int_equal(m->sipi_vector, 0x9a);
	for (u32 i = 0; i < CPUS; i++)
		m->nmis[i] = m->smis[i] = m->inits[i] = m->sipis[i] = 0;
}

static void test_ipi_xapic(void **state)
{
	struct machine *m = *state;

	shorthands(m);
	/* ICR reads back, never busy. */
	ipi(m->cpu[0], 0x1000 | ASSERT | 0x50, 1);
	assert_int_equal(rd(m->cpu[0], ICR), ASSERT | 0x50);
	assert_int_equal(rd(m->cpu[0], ICR2), 1 << 24);
	got(m, 0);

	/* Logical flat. */
	for (u32 i = 0; i < CPUS; i++)
		wr(m->cpu[i], LDR, 1u << (24 + i));
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x51, 0x0a);
	assert_int_equal(got(m, 0x51), 0x0a);
	/* Lowest priority reaches one of them, and with enough vectors each. */
	u32 seen = 0;

	for (u8 v = 0x60; v < 0x70; v++) {
		ipi(m->cpu[0], ASSERT | LOGICAL | LOWEST | v, 0x0e);
		u32 who = got(m, v);

		assert_int_equal(__builtin_popcount(who), 1);
		seen |= who;
	}
	assert_int_equal(seen, 0x0e);
	/* A software-disabled CPU is no candidate. */
	wr(m->cpu[1], SPIV, 0xff);
	for (u8 v = 0x60; v < 0x64; v++) {
		ipi(m->cpu[0], ASSERT | LOGICAL | LOWEST | v, 0x06);
		assert_int_equal(got(m, v), 4);
	}
	enable(m->cpu[1]);
	/* Cluster: 0x1_ for CPU 0 and 1, 0x2_ for 2 and 3. */
	for (u32 i = 0; i < CPUS; i++) {
		wr(m->cpu[i], DFR, 0);
		wr(m->cpu[i], LDR, (u32)((i / 2 + 1) << 4 | 1 << i % 2) << 24);
	}
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x52, 0x13);
	assert_int_equal(got(m, 0x52), 3);
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x52, 0x22);
	assert_int_equal(got(m, 0x52), 8);
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x52, 0xff);
	assert_int_equal(got(m, 0x52), 15);
	/* The id of an xAPIC can be changed. */
	wr(m->cpu[1], ID, 0x77000000);
	ipi(m->cpu[0], ASSERT | 0x53, 0x77);
	assert_int_equal(got(m, 0x53), 2);
	ipi(m->cpu[0], ASSERT | 0x53, 1);
	assert_int_equal(got(m, 0x53), 0);
	wr(m->cpu[1], ID, 0x01000000);
	ipi(m->cpu[0], ASSERT | 0x53, 1);
	assert_int_equal(got(m, 0x53), 2);
}

static void test_x2apic(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[2];
	u64 base = LAPIC_DEFAULT_BASE | ENABLE, v;

	/* MSRs do not exist before. */
	assert_int_equal(lapic_rdmsr(l, 0x802, &v), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x808, 0), -EINVAL);
	/* Reserved bits, addresses, a mode that is not there. */
	assert_int_equal(lapic_set_base(l, base | 1, 40, true, false), -EINVAL);
	assert_int_equal(lapic_set_base(l, base | BIT64(40), 40, true, false), -EINVAL);
	assert_int_equal(lapic_set_base(l, base | X2APIC, 40, false, false), -EINVAL);
	assert_int_equal(lapic_set_base(l, LAPIC_DEFAULT_BASE | X2APIC, 40, true, true), -EINVAL);
	assert_int_equal(lapic_set_base(l, base | BIT64(39), 40, true, false), 0);
	assert_int_equal(lapic_set_base(l, base, 40, true, false), 0);
	/* Transitions: xAPIC -> x2APIC -> off -> xAPIC, no others for the guest. */
	x2apic(l);
	assert_true(lapic_x2apic(l));
	assert_int_equal(lapic_set_base(l, base, 40, true, false), -EINVAL);
	assert_int_equal(lapic_set_base(l, LAPIC_DEFAULT_BASE, 40, true, false), 0);
	assert_int_equal(lapic_set_base(l, base | X2APIC, 40, true, false), -EINVAL);
	assert_int_equal(lapic_set_base(l, base | X2APIC, 40, true, true), 0);
	assert_int_equal(lapic_set_base(l, base, 40, true, true), 0);
	assert_int_equal(rd(l, ID), 2 << 24);
	assert_int_equal(rd(l, LDR), 0);
	x2apic(l);

	assert_int_equal(lapic_rdmsr(l, 0x802, &v), 0);
	assert_int_equal(v, 2);
	assert_int_equal(lapic_rdmsr(l, 0x80d, &v), 0);
	assert_int_equal(v, 4);
	static const u32 no_read[] = {0x800, 0x80b, 0x80e, 0x831, 0x83f, 0x809, 0x8ff, 0x7ff},
			 no_write[] = {0x802, 0x803, 0x80a, 0x80d, 0x80e,
				       0x810, 0x820, 0x831, 0x839, 0x8ff};

	for (u32 i = 0; i < ARRAY_SIZE(no_read); i++)
		assert_int_equal(lapic_rdmsr(l, no_read[i], &v), -EINVAL);
	for (u32 i = 0; i < ARRAY_SIZE(no_write); i++)
		assert_int_equal(lapic_wrmsr(l, no_write[i], 0), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x808, 0x100), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x808, BIT64(32)), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x832, BIT64(32) | 0x40), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x80b, 1), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x828, 1), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x83f, 0x141), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x830, 0x2000), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x808, 0x20), 0);
	assert_int_equal(lapic_rdmsr(l, 0x808, &v), 0);
	assert_int_equal(v, 0x20);
	lapic_wrmsr(l, 0x808, 0);
	/* Self IPI. */
	assert_int_equal(lapic_wrmsr(l, 0x83f, 0x41), 0);
	assert_int_equal(got(m, 0x41), 4);
	/* A 64-bit ICR. */
	assert_int_equal(lapic_wrmsr(l, 0x830, 3ull << 32 | ASSERT | 0x42), 0);
	assert_int_equal(lapic_rdmsr(l, 0x830, &v), 0);
	assert_true(v == (3ull << 32 | ASSERT | 0x42));
	assert_int_equal(got(m, 0x42), 8);
}

static void test_ipi_x2apic(void **state)
{
	struct machine *m = *state;
	struct kvm_msi msi = {.address_lo = 0xfee00000 | 0xff << 12, .data = 0x60};

	/* Mixed modes first: logical ids of both kinds. */
	x2apic(m->cpu[1]);
	wr(m->cpu[0], LDR, 1u << 24);
	ipi(m->cpu[1], ASSERT | LOGICAL | 0x50, 0x3);
	assert_int_equal(got(m, 0x50), 3);
	for (u32 i = 0; i < CPUS; i++)
		if (i != 1)
			x2apic(m->cpu[i]);
	shorthands(m);
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x51, 0x0000000a);
	assert_int_equal(got(m, 0x51), 0x0a);
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x51, 0x0001000f);
	assert_int_equal(got(m, 0x51), 0);
	ipi(m->cpu[0], ASSERT | LOGICAL | 0x51, 0xffff000f);
	assert_int_equal(got(m, 0x51), 0);
	u32 seen = 0;

	for (u8 v = 0x60; v < 0x70; v++) {
		ipi(m->cpu[0], ASSERT | LOGICAL | LOWEST | v, 0x0e);
		u32 who = got(m, v);

		assert_int_equal(__builtin_popcount(who), 1);
		seen |= who;
	}
	assert_int_equal(seen, 0x0e);
	/* A device's 8-bit broadcast, unless that quirk is off. An IPI to 0xff is never one. */
	assert_int_equal(irqchip_msi(m->ic, &msi), 4);
	assert_int_equal(got(m, 0x60), 15);
	ipi(m->cpu[0], ASSERT | 0x61, 0xff);
	assert_int_equal(got(m, 0x61), 0);
	irqchip_set_x2apic_api(m->ic, true, true);
	assert_int_equal(irqchip_msi(m->ic, &msi), 0);
	msi.address_lo |= 4; /* logical 0xff: cluster 0, CPUs 0-7 */
	assert_int_equal(irqchip_msi(m->ic, &msi), 4);
	assert_int_equal(got(m, 0x60), 15);
	msi.address_lo = 0xfee02000;
	msi.address_hi = 0x100;
	assert_int_equal(irqchip_msi(m->ic, &msi), 0); /* CPU 0x102 */
	msi.address_hi = 1;
	assert_int_equal(irqchip_msi(m->ic, &msi), -EINVAL);
}

static void test_directory(void **state)
{
	struct machine *m = *state;
	struct lapic *l;

	assert_int_equal(lapic_create(m->ic, 2, false, &l), -EEXIST);
	assert_int_equal(lapic_create(m->ic, IRQ_MAX_VCPUS, false, &l), -EINVAL);
	lapic_destroy(NULL);
	/* An id that xAPIC cannot express is reached by its full id only. */
	assert_int_equal(lapic_create(m->ic, 0x101, false, &l), 0);
	x2apic(m->cpu[0]);
	m->inits[1] = 0;
	ipi(m->cpu[0], ASSERT | 0x500, 1);
	assert_int_equal(m->inits[1], 1);
	/* Nor does an odd id elsewhere, which makes for another way of searching, change that. */
	wr(m->cpu[3], ID, 9 << 24);
	ipi(m->cpu[0], ASSERT | 0x500, 1);
	assert_int_equal(m->inits[1], 2);
	assert_int_equal(m->inits[0x101], 0);
	ipi(m->cpu[0], ASSERT | 0x500, 0x101);
	assert_int_equal(m->inits[0x101], 1);
	wr(m->cpu[3], ID, 3 << 24);
	ipi(m->cpu[0], ASSERT | 0x500, 0x101);
	assert_int_equal(m->inits[0x101], 2);
	lapic_destroy(l);
	ipi(m->cpu[0], ASSERT | 0x40, 0x101);
	ipi(m->cpu[0], ASSERT | ALL | 0x40, 0);
	assert_int_equal(got(m, 0x40), 15);
	/* The place is free again. */
	assert_int_equal(lapic_create(m->ic, 0x101, false, &l), 0);
	lapic_destroy(l);
}

/*
 * ---- Routing ----
 */

static void test_routing(void **state)
{
	struct machine *m = *state;
	struct kvm_irq_routing_entry e[3], *many;
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x40, .flags = 2};

	assert_int_equal(irqchip_add_chips(m->ic), -EEXIST);
	assert_int_equal(irqchip_set_split(m->ic, 24), -EEXIST);
	assert_int_equal(irqchip_set_gsi(m->ic, 24, 1, 0), -EINVAL);
	assert_int_equal(irqchip_set_gsi(m->ic, 4, 1, 64), -EINVAL);
	assert_int_equal(irqchip_msi(m->ic, &msi), -EINVAL);
	msi.flags = KVM_MSI_VALID_DEVID;
	assert_int_equal(irqchip_msi(m->ic, &msi), 1);
	drain(m->cpu[0]);
	/* GSI 1 drives both chips by default. */
	pic_setup(m, 0x01);
	io_entry(m, 1, 0x71, 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 1, 1, 0), 2);
	assert_true(extint(m));
	assert_int_equal(lapic_ack(m->cpu[0]), 0x71);
	irqchip_set_gsi(m->ic, 1, 0, 0);

	memset(e, 0, sizeof(e));
	e[0].gsi = 30;
	e[0].type = KVM_IRQ_ROUTING_MSI;
	e[0].u.msi.address_lo = 0xfee01000;
	e[0].u.msi.data = 0x55;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 30, 1, 0), 1);
	assert_int_equal(irqchip_set_gsi(m->ic, 30, 0, 0), -1);
	assert_int_equal(lapic_ack(m->cpu[1]), 0x55);
	assert_int_equal(irqchip_set_gsi(m->ic, 1, 1, 0), -EINVAL);

	/* Errors leave the old table in force. */
	struct kvm_irq_routing_entry good = e[0];

	e[0].gsi = IRQ_MAX_ROUTES;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0] = good;
	e[0].flags = 2;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0] = good;
	e[0].type = 77;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0] = good;
	e[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	memset(&e[0].u, 0, sizeof(e[0].u));
	e[0].u.irqchip.irqchip = 3;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	e[0].u.irqchip.pin = 24;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0].u.irqchip.irqchip = KVM_IRQCHIP_PIC_SLAVE;
	e[0].u.irqchip.pin = 8;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0].u.irqchip.pin = 7;
	e[0].flags = KVM_MSI_VALID_DEVID;
	assert_int_equal(irqchip_set_routing(m->ic, e, 1), -EINVAL);
	e[0].flags = 0;
	e[1] = e[0];
	e[1].u.irqchip.pin = 6;
	assert_int_equal(irqchip_set_routing(m->ic, e, 2), -EINVAL); /* same chip twice */
	e[1] = good;
	assert_int_equal(irqchip_set_routing(m->ic, e, 2), -EINVAL); /* a pin and an MSI */
	e[0] = good;
	assert_int_equal(irqchip_set_routing(m->ic, e, 2), -EINVAL); /* two MSIs */
	assert_int_equal(irqchip_set_gsi(m->ic, 30, 1, 0), 1);
	drain(m->cpu[1]);

	/* A full table, in falling order; one more is refused. */
	many = calloc(IRQ_MAX_ROUTES + 1, sizeof(*many));
	for (u32 i = 0; i < IRQ_MAX_ROUTES; i++) {
		many[i] = good;
		many[i].gsi = IRQ_MAX_ROUTES - 1 - i;
		many[i].u.msi.data = 0x20 + i % 0xd0;
	}
	assert_int_equal(irqchip_set_routing(m->ic, many, IRQ_MAX_ROUTES), 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 4095, 1, 0), 1);
	assert_int_equal(lapic_ack(m->cpu[1]), 0x20);
	assert_int_equal(irqchip_set_gsi(m->ic, 4090, 1, 0), 1);
	assert_int_equal(lapic_ack(m->cpu[1]), -1);
	assert_int_equal(irqchip_set_routing(m->ic, many, IRQ_MAX_ROUTES + 1), -EINVAL);
	free(many);
	/* An empty one. */
	assert_int_equal(irqchip_set_routing(m->ic, NULL, 0), 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 30, 1, 0), -EINVAL);
}

static void test_split(void **state)
{
	struct machine *m = *state;
	struct kvm_irq_routing_entry e = {.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP};
	struct kvm_irqchip chip = {.chip_id = 0};
	struct kvm_pit_state2 pit;
	u32 v = 0;

	assert_true(irqchip_is_split(m->ic));
	assert_false(irqchip_has_chips(m->ic));
	assert_int_equal(irqchip_add_chips(m->ic), -EEXIST);
	assert_int_equal(irqchip_get(m->ic, &chip), -ENXIO);
	assert_int_equal(irqchip_set(m->ic, &chip), -ENXIO);
	assert_int_equal(pit_create(m->ic, 0), -ENOENT);
	assert_int_equal(pit_get(m->ic, &pit), -ENXIO);
	assert_int_equal(pit_set(m->ic, &pit), -ENXIO);
	assert_int_equal(pit_reinject(m->ic, true), -ENXIO);
	assert_false(irqchip_pio(m->ic, 0x20, &v, 1, false));
	assert_false(irqchip_mmio(m->ic, IOAPIC_BASE, &v, 4, false));
	assert_int_equal(irqchip_set_routing(m->ic, &e, 1), -EINVAL);
	/* A level route of the VMM's I/O APIC: its EOI goes out; an edge one's does not. */
	e.type = KVM_IRQ_ROUTING_MSI;
	e.u.msi.address_lo = 0xfee00000;
	e.u.msi.data = LEVEL | 0x44;
	assert_int_equal(irqchip_set_routing(m->ic, &e, 1), 0);
	assert_int_equal(irqchip_set_gsi(m->ic, 5, 1, 0), 1);
	assert_int_equal(lapic_ack(m->cpu[0]), 0x44);
	wr(m->cpu[0], EOI, 0);
	assert_int_equal(m->eois, 1);
	assert_int_equal(m->eoi_vector, 0x44);
	send(m, 0, 0x45);
	lapic_ack(m->cpu[0]);
	wr(m->cpu[0], EOI, 0);
	assert_int_equal(m->eois, 1);
	/* The guest may suppress it, and is told so. */
	assert_int_equal(rd(m->cpu[1], VERSION), 0x1050014);
	wr(m->cpu[0], SPIV, 0x11ff);
	assert_int_equal(rd(m->cpu[0], SPIV), 0x11ff);
	irqchip_set_gsi(m->ic, 5, 1, 0);
	lapic_ack(m->cpu[0]);
	wr(m->cpu[0], EOI, 0);
	assert_int_equal(m->eois, 1);
}

static void test_no_chips(void **state)
{
	struct machine *m = new_machine(false, false);
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x40};

	assert_int_equal(irqchip_msi(m->ic, &msi), -EINVAL);
	assert_int_equal(irqchip_set_gsi(m->ic, 0, 1, 0), -EINVAL);
	assert_false(irqchip_extint_pending(m->ic, m->cpu[0]));
	free_machine(m);
}

/*
 * ---- Timers ----
 */

/* Waits until the vector is pending, at most 5 s; returns the time it was seen, or 0. */
static u64 await(struct lapic *l, u8 vector)
{
	u64 end = av_now_ns() + 5000 * MS;

	while (lapic_pending(l) != vector) {
		if (av_now_ns() > end)
			return 0;
		usleep(100);
	}
	return av_now_ns();
}

static void test_timer_oneshot(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];
	u64 start;
	u32 c;

	wr(l, TDCR, 0xb); /* by 1 */
	wr(l, LVTT, 0x40);
	start = av_now_ns();
	wr(l, TMICT, 50 * MS);
	c = rd(l, TMCCT);
	assert_true(c > 0 && c <= 50 * MS);
	usleep(5000);
	assert_true(rd(l, TMCCT) < c);
	assert_true(await(l, 0x40) >= start + 50 * MS);
	assert_int_equal(rd(l, TMCCT), 0);
	drain(l);
	usleep(60000);
	assert_int_equal(lapic_pending(l), -1);
	/* By 16; stopped by 0; masked. */
	wr(l, TDCR, 3);
	start = av_now_ns();
	wr(l, TMICT, 2 * MS);
	assert_true(await(l, 0x40) >= start + 32 * MS);
	drain(l);
	wr(l, TMICT, 5 * MS);
	wr(l, TMICT, 0);
	usleep(100000);
	assert_int_equal(lapic_pending(l), -1);
	wr(l, LVTT, MASKED | 0x40);
	wr(l, TMICT, MS);
	usleep(40000);
	assert_int_equal(lapic_pending(l), -1);
	wr(l, LVTT, 0x40);
	/* A faster clock in mid-flight: 640 ms become about 40. */
	start = av_now_ns();
	wr(l, TMICT, 40 * MS);
	wr(l, TDCR, 0xb);
	assert_true(rd(l, TMCCT) > 30 * MS);
	u64 at = await(l, 0x40);

	assert_true(at >= start + 39 * MS);
	assert_true(at < start + 500 * MS);
}

static void test_timer_periodic(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[1];
	u64 start, end;
	u32 n = 0;

	wr(l, TDCR, 0xb);
	wr(l, LVTT, PERIODIC | 0x41);
	start = av_now_ns();
	wr(l, TMICT, 5 * MS);
	while (n < 60) {
		assert_true(await(l, 0x41));
		lapic_ack(l);
		wr(l, EOI, 0);
		n++;
	}
	end = av_now_ns();
	/* No drift: never early, and the phase is kept however late single ticks were. */
	assert_true(end - start >= 60 * 5 * MS);
	assert_true(rd(l, TMCCT) <= 5 * MS);
	u64 best = MS;

	/* Clock and count are not read at once: the best of some tries. */
	for (int i = 0; i < 50; i++) {
		u64 phase, expect = (av_now_ns() - start) % (5 * MS), diff;

		phase = (5 * MS - rd(l, TMCCT)) % (5 * MS);
		diff = phase > expect ? phase - expect : expect - phase;
		best = MIN(best, MIN(diff, 5 * MS - diff));
	}
	assert_true(best < 100000);
	wr(l, TMICT, 0);
	drain(l);
	usleep(20000);
	assert_int_equal(lapic_pending(l), -1);
	/* A period of nothing is stretched, not a burst. */
	m->kicks[1] = 0;
	wr(l, TMICT, 10);
	start = av_now_ns();
	while (av_now_ns() < start + 50 * MS)
		drain(l);
	wr(l, TMICT, 0);
	assert_true(m->kicks[1] <= (av_now_ns() - start) / 200000 + 2);
	assert_true(m->kicks[1] > 3);
}

static void test_timer_tsc(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];
	u64 now;

	/* Ignored outside the mode. */
	lapic_set_tsc_deadline(l, 1);
	assert_int_equal(lapic_tsc_deadline(l), 0);
	assert_int_equal(lapic_pending(l), -1);
	wr(l, LVTT, DEADLINE | 0x42);
	wr(l, TMICT, 1000);
	assert_int_equal(rd(l, TMICT), 0);
	assert_int_equal(rd(l, TMCCT), 0);
	now = op_tsc(m, 0);
	lapic_set_tsc_deadline(l, now + 30 * MS);
	assert_true(lapic_tsc_deadline(l) == now + 30 * MS);
	assert_true(await(l, 0x42));
	assert_true(op_tsc(m, 0) >= now + 30 * MS);
	assert_int_equal(lapic_tsc_deadline(l), 0);
	drain(l);
	/* The past: at once. Zero: disarms. The far future: nothing breaks. */
	lapic_set_tsc_deadline(l, 5);
	assert_int_equal(lapic_pending(l), 0x42);
	drain(l);
	lapic_set_tsc_deadline(l, op_tsc(m, 0) + 20 * MS);
	lapic_set_tsc_deadline(l, 0);
	usleep(50000);
	assert_int_equal(lapic_pending(l), -1);
	lapic_set_tsc_deadline(l, ~0ull);
	assert_int_equal(lapic_pending(l), -1);
	/* The TSC jumps over the deadline. */
	lapic_set_tsc_deadline(l, op_tsc(m, 0) + 3600000 * MS);
	m->tsc_offset = 7200000 * MS;
	lapic_tsc_changed(l);
	assert_int_equal(lapic_pending(l), 0x42);
	drain(l);
	/* Back to counting: disarmed. */
	lapic_set_tsc_deadline(l, op_tsc(m, 0) + 20 * MS);
	wr(l, LVTT, 0x42);
	assert_int_equal(lapic_tsc_deadline(l), 0);
	usleep(40000);
	assert_int_equal(lapic_pending(l), -1);
}

/*
 * ---- PIT ----
 */

static u16 in_word(struct machine *m, u16 port)
{
	u8 low = in(m, port);

	return low | in(m, port) << 8;
}

static void out_word(struct machine *m, u16 port, u16 v)
{
	out(m, port, v);
	out(m, port, v >> 8);
}

/* Bytes of a moving counter do not belong together: latch it first. */
static u16 latched(struct machine *m, u32 channel)
{
	out(m, 0x43, channel << 6);
	return in_word(m, 0x40 + channel);
}

static void test_pit_registers(void **state)
{
	struct machine *m = *state;
	u16 a, b;
	u8 v;

	assert_int_equal(pit_create(m->ic, 8), -EINVAL);
	assert_int_equal(pit_create(m->ic, KVM_PIT_SPEAKER_DUMMY), 0);
	assert_true(pit_exists(m->ic));
	assert_int_equal(pit_create(m->ic, 0), -EEXIST);

	/* Mode 2 on channel 1, word access: within 1..N, and it moves. */
	out(m, 0x43, 0x74);
	out_word(m, 0x41, 50000);
	for (int i = 0; i < 20; i++) {
		a = latched(m, 1);
		assert_in_range(a, 1, 50000);
		usleep(100);
		b = latched(m, 1);
		assert_int_not_equal(a, b);
	}
	/* Latch: the value stays until it is read. */
	out(m, 0x43, 0x40);
	usleep(1000);
	a = in_word(m, 0x41);
	b = in_word(m, 0x41);
	assert_int_not_equal(a, b);
	/* Mode 3 counts by two. */
	out(m, 0x43, 0x76);
	out_word(m, 0x41, 1001);
	for (int i = 0; i < 50; i++) {
		a = latched(m, 1);
		assert_int_equal(a % 2, 0);
		assert_true(a <= 1000);
	}
	/* Low byte only, high byte only. */
	out(m, 0x43, 0x54);
	out(m, 0x41, 200);
	assert_true(in(m, 0x41) <= 200);
	out(m, 0x43, 0x64);
	out(m, 0x41, 0x80);
	assert_true(in(m, 0x41) <= 0x80);
	/* BCD. */
	out(m, 0x43, 0x75);
	out_word(m, 0x41, 0x0100);
	for (int i = 0; i < 50; i++) {
		a = latched(m, 1);
		assert_true((a & 15) <= 9 && (a >> 4 & 15) <= 9 && a <= 0x100 && a > 0);
	}
	/* Read-back of status before and after loading: null count, mode, access. */
	out(m, 0x43, 0x70);
	out(m, 0x43, 0xe4);
	assert_int_equal(in(m, 0x41) & 0x7f, 0x70);
	out_word(m, 0x41, 0xffff);
	out(m, 0x43, 0xe4);
	v = in(m, 0x41);
	assert_int_equal(v, 0x30); /* mode 0: OUT low until terminal count */
	usleep(60000);
	out(m, 0x43, 0xc4); /* both */
	assert_int_equal(in(m, 0x41), 0xb0);
	in_word(m, 0x41);
	/* The control port does not read. */
	assert_int_equal(in(m, 0x43), 0);
}

static void test_pit_speaker(void **state)
{
	struct machine *m = *state;
	u8 before, v;
	u16 a, b;

	assert_false(irqchip_pio(m->ic, 0x61, &v, 1, false));
	pit_create(m->ic, KVM_PIT_SPEAKER_DUMMY);
	/* As guests measure the TSC: gate up, mode 0, wait for OUT in port 0x61. */
	before = in(m, 0x61);
	assert_int_equal(before & 1, 0);
	out(m, 0x61, 1);
	out(m, 0x43, 0xb0);
	u64 start = av_now_ns();

	out_word(m, 0x42, 11932); /* 10 ms */
	assert_int_equal(in(m, 0x61) & 0x23, 1);
	while (!(in(m, 0x61) & 0x20))
		assert_true(av_now_ns() < start + 5000 * MS);
	assert_true(av_now_ns() - start >= 10 * MS);
	/* The gate stops the counter and lets it go on. */
	out_word(m, 0x42, 0xffff);
	usleep(5000);
	out(m, 0x61, 2);
	assert_int_equal(in(m, 0x61) & 3, 2);
	a = in_word(m, 0x42);
	assert_true(a < 0xffff - 5000);
	usleep(5000);
	assert_int_equal(in_word(m, 0x42), a);
	out(m, 0x61, 1);
	usleep(1000);
	b = latched(m, 2);
	assert_true(b < a);
}

static void test_pit_speaker_off(void **state)
{
	struct machine *m = *state;
	u8 v;

	pit_create(m->ic, 0);
	assert_false(irqchip_pio(m->ic, 0x61, &v, 1, false));
	assert_true(irqchip_pio(m->ic, 0x40, &v, 1, false));
}

/* Counts ticks through the I/O APIC for a while, acknowledging each. */
static u32 ticks_for(struct machine *m, u64 ns)
{
	struct lapic *l = m->cpu[0];
	u64 end = av_now_ns() + ns;
	u32 n = 0;

	while (av_now_ns() < end) {
		if (lapic_ack(l) == 0x50) {
			wr(l, EOI, 0);
			n++;
		}
		usleep(200);
	}
	return n;
}

static void test_pit_ticks(void **state)
{
	struct machine *m = *state;
	struct kvm_pit_state2 s;
	u32 n;

	pit_create(m->ic, 0);
	io_entry(m, 0, 0x50, 0);
	/* 1 kHz, with re-injection: all ticks arrive although nobody listened for a while. */
	out(m, 0x43, 0x34);
	out_word(m, 0x40, 1193);
	u64 start = av_now_ns(), total = 0;

	n = ticks_for(m, 100 * MS);
	assert_in_range(n, 20, 105);
	/* Taken but not ended: the next one waits. */
	while (lapic_ack(m->cpu[0]) < 0)
		;
	usleep(300000);
	assert_false(bit(m->cpu[0], IRR, 0x50));
	wr(m->cpu[0], EOI, 0);
	n++;
	while (n < total * 97 / 100 || !total) {
		n += ticks_for(m, 20 * MS);
		total = (av_now_ns() - start) / MS;
		assert_true(total < 3000);
	}
	assert_true(n <= total + 2);
	/* Without: the missed ones are gone. */
	assert_int_equal(pit_reinject(m->ic, false), 0);
	drain(m->cpu[0]);
	usleep(100000);
	n = ticks_for(m, 50 * MS);
	assert_in_range(n, 5, 70);
	/* One shot. */
	out(m, 0x43, 0x30);
	drain(m->cpu[0]);
	out_word(m, 0x40, 11932);
	n = ticks_for(m, 100 * MS);
	assert_int_equal(n, 1);
	/* A legacy HPET takes the interrupt over. */
	out(m, 0x43, 0x34);
	out_word(m, 0x40, 1193);
	pit_get(m->ic, &s);
	s.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
	assert_int_equal(pit_set(m->ic, &s), 0);
	drain(m->cpu[0]);
	assert_int_equal(ticks_for(m, 30 * MS), 0);
	pit_get(m->ic, &s);
	assert_int_equal(s.flags, KVM_PIT_FLAGS_HPET_LEGACY);
	s.flags = 0;
	pit_set(m->ic, &s);
	assert_true(ticks_for(m, 100 * MS) > 5);
}

/* Ticks sent while everything is masked are forgotten when the pin is unmasked, and do not block
 * the timer for ever. */
static void test_pit_unmask(void **state)
{
	struct machine *m = *state;

	pit_create(m->ic, 0);
	out(m, 0x21, 0xff);
	out(m, 0x43, 0x34);
	out_word(m, 0x40, 1193);
	usleep(100000);
	io_entry(m, 0, 0x50, 0);
	assert_in_range(ticks_for(m, 50 * MS), 5, 60);
}

/* A watchdog of the old kind: LVT0 in NMI mode hears the timer. */
static void test_pit_nmi(void **state)
{
	struct machine *m = *state;

	pit_create(m->ic, 0);
	pit_reinject(m->ic, false);
	wr(m->cpu[3], LVT0, 0x400);
	out(m, 0x43, 0x34);
	out_word(m, 0x40, 1193);
	usleep(100000);
	assert_true(__atomic_load_n(&m->nmis[3], __ATOMIC_SEQ_CST) > 5);
	assert_int_equal(m->nmis[2], 0);
}

/*
 * ---- Saved state ----
 */

static void test_state_lapic(void **state)
{
	struct machine *m = *state;
	struct kvm_lapic_state a, b;
	u32 *regs = (u32 *)a.regs;
	struct lapic *l = m->cpu[1];

	wr(l, TPR, 0x20);
	wr(l, LDR, 0x04000000);
	wr(l, LVTERR, 0xfe);
	send(m, 1, 0x45);
	send(m, 1, 0x75);
	lapic_ack(l);
	wr(l, TDCR, 0xb);
	wr(l, LVTT, 0xd0);
	wr(l, TMICT, 60 * MS);
	u64 start = av_now_ns();

	lapic_get(l, &a);
	assert_int_equal(regs[ID / 4], 1 << 24);
	assert_int_equal(regs[VERSION / 4], 0x50014);
	assert_int_equal(regs[(ISR + 0x30) / 4], BIT(0x75 % 32));
	assert_int_equal(regs[(IRR + 0x20) / 4], BIT(0x45 % 32));
	assert_true(regs[TMCCT / 4] > 0 && regs[TMCCT / 4] <= 60 * MS);
	/* Into another life of the same LAPIC. */
	lapic_reset(l, false);
	assert_int_equal(lapic_set(l, &a), 0);
	assert_int_equal(rd(l, TPR), 0x20);
	assert_int_equal(rd(l, PPR), 0x70);
	assert_int_equal(lapic_pending(l), -1);
	wr(l, EOI, 0);
	assert_int_equal(lapic_ack(l), 0x45);
	wr(l, EOI, 0);
	/* The timer goes on from its count. */
	assert_true(await(l, 0xd0) >= start + 59 * MS);
	drain(l);

	/* x2APIC: both forms of the id. */
	x2apic(l);
	lapic_get(l, &a);
	assert_int_equal(regs[ID / 4], 1 << 24);
	assert_int_equal(lapic_set(l, &a), 0);
	assert_int_equal(lapic_id(l), 1);
	irqchip_set_x2apic_api(m->ic, true, false);
	lapic_get(l, &b);
	assert_int_equal(((u32 *)b.regs)[ID / 4], 1);
	((u32 *)b.regs)[LDR / 4] = 0;
	assert_int_equal(lapic_set(l, &b), 0);
	u64 v;

	lapic_rdmsr(l, 0x80d, &v);
	assert_int_equal(v, 2);
	assert_int_equal(lapic_set(l, &a), -EINVAL);
	/* Garbage does not break anything. */
	memset(&a, 0xff, sizeof(a));
	irqchip_set_x2apic_api(m->ic, false, false);
	assert_int_equal(lapic_set(l, &a), 0);
	drain(l);
	lapic_reset(l, false);
}

static void test_state_chips(void **state)
{
	struct machine *m = *state, *n = new_machine(true, false);
	struct kvm_irqchip pic0 = {.chip_id = 0}, pic1 = {.chip_id = 1}, io = {.chip_id = 2},
			   bad = {.chip_id = 3};

	assert_int_equal(irqchip_get(m->ic, &bad), -EINVAL);
	assert_int_equal(irqchip_set(m->ic, &bad), -EINVAL);
	pic_setup(m, 0x01);
	out(m, 0x4d0, 0x20);
	pulse(m, 12);
	assert_int_equal(irqchip_extint_ack(m->ic), 0x3c);
	pulse(m, 3);
	io_entry(m, 16, LEVEL | 0x61, 2);
	io_entry(m, 17, LEVEL | 0x62, 2);
	io_entry(m, 18, 0x63, 2);
	irqchip_set_gsi(m->ic, 16, 1, 0);
	irqchip_set_gsi(m->ic, 18, 1, 0);
	io_write(m, 0x10 + 34, MASKED | LEVEL | 0x62);
	irqchip_set_gsi(m->ic, 17, 1, 0);
	/* Pin 19: an edge was sent, the line fell, a second edge came while masked. */
	io_entry(m, 19, 0x64, 2);
	irqchip_set_gsi(m->ic, 19, 1, 0);
	irqchip_set_gsi(m->ic, 19, 0, 0);
	io_entry(m, 19, MASKED | 0x64, 2);
	irqchip_set_gsi(m->ic, 19, 1, 0);
	assert_int_equal(irqchip_get(m->ic, &pic0), 0);
	assert_int_equal(irqchip_get(m->ic, &pic1), 0);
	assert_int_equal(irqchip_get(m->ic, &io), 0);
	assert_int_equal(pic0.chip.pic.irq_base, 0x30);
	assert_int_equal(pic0.chip.pic.elcr, 0x20);
	assert_int_equal(pic1.chip.pic.isr, 0x10);
	/* The edge that was sent on is not pending, the levels are. */
	assert_int_equal(io.chip.ioapic.irr, BIT(16) | BIT(17) | BIT(19));

	assert_int_equal(irqchip_set(n->ic, &pic0), 0);
	assert_int_equal(irqchip_set(n->ic, &pic1), 0);
	assert_int_equal(irqchip_set(n->ic, &io), 0);
	out(n, 0xa0, 0x20);
	out(n, 0x20, 0x20);
	assert_int_equal(n->acks[12], 1);
	assert_int_equal(irqchip_extint_ack(n->ic), 0x33);
	/* Pin 16 waits for the EOI that the restored LAPIC will send. */
	assert_int_equal(io_read(n, 0x10 + 32), LEVEL | REMOTE_IRR | 0x61);
	assert_int_equal(lapic_pending(n->cpu[2]), -1);
	io_write(n, 0x10 + 34, LEVEL | 0x62);
	assert_int_equal(lapic_pending(n->cpu[2]), 0x62);
	/* Garbage. */
	memset(&pic0.chip, 0xff, sizeof(pic0.chip));
	memset(&io.chip, 0xff, sizeof(io.chip));
	assert_int_equal(irqchip_set(n->ic, &pic0), 0);
	assert_int_equal(irqchip_set(n->ic, &io), 0);
	pulse(n, 1);
	irqchip_extint_ack(n->ic);
	free_machine(n);
}

static void test_state_pit(void **state)
{
	struct machine *m = *state, *n = new_machine(true, false);
	struct kvm_pit_state2 a, b;

	pit_create(m->ic, KVM_PIT_SPEAKER_DUMMY);
	pit_create(n->ic, KVM_PIT_SPEAKER_DUMMY);
	out(m, 0x43, 0x34);
	out_word(m, 0x40, 1193);
	out(m, 0x43, 0xb6);
	out_word(m, 0x42, 2000);
	out(m, 0x42, 7); /* half a word */
	out(m, 0x61, 3);
	assert_int_equal(pit_get(m->ic, &a), 0);
	assert_int_equal(a.channels[0].count, 1193);
	assert_int_equal(a.channels[0].mode, 2);
	assert_int_equal(a.channels[2].gate, 1);
	assert_int_equal(a.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	assert_int_equal(pit_set(n->ic, &a), 0);
	pit_get(n->ic, &b);
	for (u32 i = 0; i < 3; i++)
		a.channels[i].count_load_time = b.channels[i].count_load_time;
	assert_memory_equal(&a, &b, sizeof(a));
	/* It ticks there, and the half word is completed. */
	io_entry(n, 0, 0x50, 0);
	assert_true(ticks_for(n, 100 * MS) > 10);
	out(n, 0x42, 1);
	pit_get(n->ic, &b);
	assert_int_equal(b.channels[2].count, 0x107);
	memset(&a, 0xff, sizeof(a));
	assert_int_equal(pit_set(n->ic, &a), 0);
	out(n, 0x43, 0xfe);
	for (u32 i = 0; i < 12; i++)
		in(n, 0x40 + i % 3);
	free_machine(n);
}

/*
 * ---- Threads ----
 */

#define ROUNDS 20000

static u32 sent, senders_done;

static void *sender(void *arg)
{
	struct machine *m = arg;

	for (u32 i = 0; i < ROUNDS; i++) {
		/* Two vectors in one word and one in another, to CPU 0. */
		send(m, 0, i % 3 == 0 ? 0x41 : i % 3 == 1 ? 0x42 : 0x91);
		count(&sent);
	}
	count(&senders_done);
	return NULL;
}

static void *toggler(void *arg)
{
	struct machine *m = arg;

	for (u32 i = 0; i < ROUNDS / 4; i++) {
		irqchip_set_gsi(m->ic, 17, i & 1, 3);
		if (i % 100 == 0)
			irqchip_set_gsi(m->ic, 4, i & 1, 3);
	}
	irqchip_set_gsi(m->ic, 17, 0, 3);
	count(&senders_done);
	return NULL;
}

/* However senders and receiver interleave: after the last send, everything is delivered, and
 * nothing stays behind. */
static void test_concurrent(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];
	pthread_t t[4];
	u32 taken = 0;

	sent = senders_done = 0;
	io_entry(m, 17, LEVEL | 0x61, 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, sender, m);
	pthread_create(&t[3], NULL, toggler, m);
	for (;;) {
		bool done = __atomic_load_n(&senders_done, __ATOMIC_SEQ_CST) == 4;

		if (lapic_ack(l) >= 0) {
			taken++;
			wr(l, EOI, 0);
		} else if (done) {
			break;
		}
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(sent, 3 * ROUNDS);
	assert_true(taken > 3);
	assert_int_equal(lapic_pending(l), -1);
	for (u32 i = 0; i < 8; i++) {
		assert_int_equal(rd(l, IRR + i * 16), 0);
		assert_int_equal(rd(l, ISR + i * 16), 0);
	}
	assert_int_equal(io_read(m, 0x10 + 34) & REMOTE_IRR, 0);
	/* Still alive: one of each. */
	send(m, 0, 0x42);
	assert_int_equal(lapic_ack(l), 0x42);
}

static u32 took, pairs_sent, pairs_over;

static void *pair_sender(void *arg)
{
	u64 end = av_now_ns() + 1000 * MS, patience;

	while (av_now_ns() < end) {
		send(arg, 0, 0x41);
		/* Sweeps over the receiver's few instructions. */
		for (u32 i = 0; i < pairs_sent % 128; i++)
			__builtin_ia32_pause();
		send(arg, 0, 0x42);
		pairs_sent++;
		/* However slow the host: a vector that was forgotten is never taken. */
		patience = av_now_ns() + 20000 * MS;
		for (u32 spin = 1; __atomic_load_n(&took, __ATOMIC_SEQ_CST) < 2 * pairs_sent;
		     spin++) {
			if (spin % 1000)
				continue;
			sched_yield();
			if (av_now_ns() > patience)
				goto out;
		}
	}
out:
	count(&pairs_over);
	return NULL;
}

/* Two vectors of one word, the second sent just when the first is taken: neither may be forgotten.
 */
static void test_concurrent_word(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0];
	pthread_t t;

	took = pairs_sent = pairs_over = 0;
	pthread_create(&t, NULL, pair_sender, m);
	for (u32 spin = 1; !__atomic_load_n(&pairs_over, __ATOMIC_SEQ_CST); spin++) {
		if (lapic_ack(l) >= 0) {
			wr(l, EOI, 0);
			count(&took);
		} else if (spin % 1000 == 0) {
			sched_yield();
		}
	}
	pthread_join(t, NULL);
	assert_int_equal(took, 2 * pairs_sent);
}

static void *timer_abuser(void *arg)
{
	struct lapic *l = arg;

	for (u32 i = 0; i < 3000; i++) {
		wr(l, LVTT, (i % 3 == 0 ? PERIODIC : i % 3 == 1 ? DEADLINE : 0) | 0x40);
		wr(l, TMICT, i % 7 * 50000);
		lapic_set_tsc_deadline(l, av_now_ns() + i % 5 * 10000);
		rd(l, TMCCT);
		lapic_ack(l);
		wr(l, EOI, 0);
	}
	return NULL;
}

static void test_concurrent_timers(void **state)
{
	struct machine *m = *state;
	pthread_t t[CPUS];

	for (u32 i = 0; i < CPUS; i++)
		pthread_create(&t[i], NULL, timer_abuser, m->cpu[i]);
	for (u32 i = 0; i < CPUS; i++)
		pthread_join(t[i], NULL);
	/* Destroyed while they run. */
	for (u32 i = 0; i < CPUS; i++) {
		wr(m->cpu[i], LVTT, PERIODIC | 0x40);
		wr(m->cpu[i], TMICT, 200000);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pic_basic),
		TEST(test_pic_cascade),
		TEST(test_pic_modes),
		TEST(test_pic_level),
		TEST(test_ioapic_registers),
		TEST(test_ioapic_edge),
		TEST(test_ioapic_level),
		TEST(test_ioapic_resample),
		TEST(test_ioapic_storm),
		TEST(test_lapic_priority),
		TEST(test_lapic_off),
		TEST(test_lapic_registers),
		TEST(test_lapic_reset),
		TEST(test_lapic_errors),
		TEST(test_local_deliver),
		TEST(test_ipi_xapic),
		TEST(test_x2apic),
		TEST(test_ipi_x2apic),
		TEST(test_directory),
		TEST(test_routing),
		cmocka_unit_test_setup_teardown(test_split, setup_split, teardown),
		cmocka_unit_test(test_no_chips),
		TEST(test_timer_oneshot),
		TEST(test_timer_periodic),
		TEST(test_timer_tsc),
		TEST(test_pit_registers),
		TEST(test_pit_speaker),
		TEST(test_pit_speaker_off),
		TEST(test_pit_ticks),
		TEST(test_pit_unmask),
		TEST(test_pit_nmi),
		TEST(test_state_lapic),
		TEST(test_state_chips),
		TEST(test_state_pit),
		TEST(test_concurrent),
		TEST(test_concurrent_word),
		TEST(test_concurrent_timers),
	};

	return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
