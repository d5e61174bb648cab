// SPDX-License-Identifier: MIT
/*
 * The 8254 interval timer and port 0x61; channel 0 drives GSI 0.
 *
 * Knows nothing of where GSI 0 leads, but hears when it is acknowledged or unmasked. Source: Intel
 * 8254 data sheet; struct kvm_pit_state2. A channel's counter is never stepped: it is computed from
 * the time since its start, and channel 0's deadlines are computed from that start too, so that
 * rounding never adds up.
 */
#include "irq/irq_priv.h"

#include "base/futex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIT_HZ	     1193182ull
#define MODE_UNSET   0xff /* after reset, and while an HPET has the interrupt */
#define PORT_CONTROL 3
#define PORT_SPEAKER 0x61

/* Values of read_state, write_state, rw_mode and count_latched. */
enum rw { RW_LATCH, RW_LOW, RW_HIGH, RW_WORD_LOW, RW_WORD_HIGH };

struct channel {
	struct kvm_pit_channel_state s; /* count_load_time: host ns when the counter was started */
	bool null_count;		/* a control word was written, its count not yet */
	bool paused;			/* by the gate */
	u64 paused_ticks;
};

struct pit {
	struct irqchip *ic;
	bool speaker; /* port 0x61 is ours */
	pthread_mutex_t
		lock; /* the rest; above the irqchip's lock, and never held when a line is driven */
	struct channel ch[3];
	u32 flags; /* KVM_PIT_FLAGS_* */

	struct av_timer timer;
	bool periodic;
	u64 start, target;	    /* host ns; target 0: not running */
	u64 period_num, period_den; /* ns */
	u64 nr;			    /* the period that ends at target, from 1 */

	/* Re-injection: a tick is sent when the one before was acknowledged; the others wait. */
	bool reinject;
	bool acked;
	u32 pending;
};

static u64 mul_div(u64 a, u64 b, u64 c)
{
	return (unsigned __int128)a * b / c;
}

static bool gate_pauses(u8 mode)
{
	return mode != 1 && mode != 5;
}

static u64 ticks(const struct channel *c)
{
	if (c->paused)
		return c->paused_ticks;
	return mul_div(av_now_ns() - c->s.count_load_time, PIT_HZ, NSEC_PER_SEC);
}

static u32 bcd_to_bin(u32 v)
{
	return (v >> 12 & 15) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
}

static u32 bin_to_bcd(u32 v)
{
	return v / 1000 % 10 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10;
}

/* The initial count as a number of clock ticks; 0 stands for the largest. */
static u32 initial(const struct channel *c)
{
	u32 n = c->s.bcd ? bcd_to_bin(c->s.count & 0xffff) : c->s.count & 0xffff;

	return n ? n : c->s.bcd ? 10000 : 0x10000;
}

static u32 get_count(const struct channel *c)
{
	u32 n = initial(c), wrap = c->s.bcd ? 10000 : 0x10000, v, in_period;
	u64 t = ticks(c);

	switch (c->s.mode) {
	case 0:
	case 1:
	case 4:
	case 5:
		v = (n + wrap - t % wrap) % wrap;
		break;
	case 3:
		/* Counts by two, twice a period; an odd count is high for one tick longer. */
		in_period = t % n;
		if (in_period >= (n + 1) / 2)
			in_period -= (n + 1) / 2;
		v = (n & ~1u) - 2 * in_period;
		break;
	default:
		v = n - t % n;
		break;
	}
	return c->s.bcd ? bin_to_bcd(v) : v & 0xffff;
}

static bool get_out(const struct channel *c)
{
	u32 n = initial(c);
	u64 t = ticks(c);

	switch (c->s.mode) {
	case 0:
	case 1:
		return !c->null_count && t >= n;
	case 2:
		return !c->s.gate || t % n != n - 1;
	case 3:
		return !c->s.gate || t % n < (n + 1) / 2;
	case 4:
	case 5:
		return t != n;
	default:
		return false;
	}
}

static void set_gate(struct channel *c, bool up)
{
	bool was = c->s.gate;
	u64 now = av_now_ns();

	c->s.gate = up;
	if (was == up)
		return;
	if (!up) {
		if (gate_pauses(c->s.mode)) {
			c->paused_ticks = ticks(c);
			c->paused = true;
		}
	} else if (c->s.mode == 0 || c->s.mode == 4) {
		c->s.count_load_time = now - mul_div(c->paused_ticks, NSEC_PER_SEC, PIT_HZ);
		c->paused = false;
	} else {
		/* A rising edge triggers or restarts. */
		c->s.count_load_time = now;
		c->paused = false;
	}
}

/*
 * ---- The interrupt ----
 */

/* Called without the lock. */
static void tick(struct pit *p)
{
	struct irqchip *ic = p->ic;
	u32 n = LOAD_ACQUIRE(ic->nr_ids), lvt0;
	struct lapic *l;

	irqchip_pulse_gsi(ic, 0, IRQ_SOURCE_PIT);
	/* NMI watchdogs of old guests: the timer is also wired to every LINT0, of use where that is
	 * in NMI mode. */
	for (u32 i = 0; i < n; i++) {
		l = LOAD_ACQUIRE(ic->lapics[i]);
		lvt0 = l ? lapic_get_reg(l, LAPIC_LVT0) : LAPIC_MASKED;
		if (!(lvt0 & LAPIC_MASKED) && (lvt0 >> 8 & 7) == IRQ_NMI)
			lapic_local_deliver(l, LAPIC_LVT0);
	}
}

static void stop(struct pit *p)
{
	p->target = 0;
	av_timer_cancel(&p->timer, false);
}

static void arm(struct pit *p)
{
	unsigned __int128 ns = (unsigned __int128)p->nr * p->period_num + p->period_den - 1;

	p->target = p->start + (u64)(ns / p->period_den);
	av_timer_arm(&p->timer, p->target);
}

static void fire(struct av_timer *t)
{
	struct pit *p = container_of(t, struct pit, timer);
	bool send = true;
	u64 now, ended = 1;

	pthread_mutex_lock(&p->lock);
	now = av_now_ns();
	if (!p->target || now < p->target) {
		/* Stopped or moved while this call was on its way. */
		pthread_mutex_unlock(&p->lock);
		return;
	}
	if (p->periodic) {
		ended = MAX(mul_div(now - p->start, p->period_den, p->period_num), p->nr);
		ended = ended - p->nr + 1;
		p->nr += ended;
		arm(p);
	} else {
		p->target = 0;
	}
	if (p->reinject) {
		p->pending += ended;
		send = p->acked;
		p->acked = false;
	}
	pthread_mutex_unlock(&p->lock);
	if (send)
		tick(p);
}

void pit_ack(struct irqchip *ic)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);
	bool send = false;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	if (p->reinject) {
		if (p->pending)
			p->pending--;
		send = p->pending;
		p->acked = !send;
	}
	pthread_mutex_unlock(&p->lock);
	if (send)
		tick(p);
}

static void forget_ticks(struct pit *p)
{
	p->pending = 0;
	p->acked = true;
}

void pit_unmasked(struct irqchip *ic)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);

	if (!p)
		return;
	/* Ticks that nobody could hear are not owed; nor will what was sent meanwhile ever be
	 * acknowledged. */
	pthread_mutex_lock(&p->lock);
	forget_ticks(p);
	pthread_mutex_unlock(&p->lock);
}

/* Channel 0 was loaded. */
static void start_timer(struct pit *p)
{
	struct channel *c = &p->ch[0];
	u8 mode = c->s.mode;

	stop(p);
	/* A legacy HPET has taken the interrupt over. */
	if (p->flags & KVM_PIT_FLAGS_HPET_LEGACY || mode > 4)
		return;
	p->periodic = mode == 2 || mode == 3;
	p->period_num = initial(c) * NSEC_PER_SEC;
	p->period_den = PIT_HZ;
	if (p->periodic && p->period_num / p->period_den < MIN_PERIOD_NS) {
		p->period_num = MIN_PERIOD_NS;
		p->period_den = 1;
	}
	p->start = c->s.count_load_time;
	p->nr = 1;
	forget_ticks(p);
	arm(p);
}

static void load_count(struct pit *p, u32 i, u32 value)
{
	struct channel *c = &p->ch[i];

	c->s.count = value ? value : 0x10000;
	c->s.count_load_time = av_now_ns();
	c->null_count = false;
	c->paused = !c->s.gate && gate_pauses(c->s.mode);
	c->paused_ticks = 0;
	if (i == 0)
		start_timer(p);
}

/*
 * ---- Ports ----
 */

static void latch_count(struct channel *c)
{
	if (c->s.count_latched)
		return;
	c->s.latched_count = get_count(c);
	c->s.count_latched = c->s.rw_mode;
}

static void latch_status(struct channel *c)
{
	if (c->s.status_latched)
		return;
	c->s.status = get_out(c) << 7 | c->null_count << 6 | (c->s.rw_mode & 3) << 4 |
		      (c->s.mode & 7) << 1 | (c->s.bcd & 1);
	c->s.status_latched = 1;
}

static void write_control(struct pit *p, u8 v)
{
	struct channel *c;
	u8 rw = v >> 4 & 3;

	if (v >> 6 == 3) {
		for (u32 i = 0; i < 3; i++) {
			if (!(v & 2 << i))
				continue;
			if (!(v & 0x20))
				latch_count(&p->ch[i]);
			if (!(v & 0x10))
				latch_status(&p->ch[i]);
		}
		return;
	}
	c = &p->ch[v >> 6];
	if (rw == RW_LATCH) {
		latch_count(c);
		return;
	}
	c->s.rw_mode = rw;
	c->s.read_state = rw;
	c->s.write_state = rw;
	c->s.mode = v >> 1 & 7;
	if (c->s.mode > 5)
		c->s.mode -= 4;
	c->s.bcd = v & 1;
	c->s.count_latched = 0;
	c->null_count = true;
}

static void write_count(struct pit *p, u32 i, u8 v)
{
	struct channel *c = &p->ch[i];

	switch (c->s.write_state) {
	case RW_HIGH:
		load_count(p, i, v << 8);
		break;
	case RW_WORD_LOW:
		c->s.write_latch = v;
		c->s.write_state = RW_WORD_HIGH;
		break;
	case RW_WORD_HIGH:
		c->s.write_state = RW_WORD_LOW;
		load_count(p, i, c->s.write_latch | v << 8);
		break;
	default:
		load_count(p, i, v);
	}
}

static u8 read_count(struct channel *c)
{
	u32 v;

	if (c->s.status_latched) {
		c->s.status_latched = 0;
		return c->s.status;
	}
	if (c->s.count_latched) {
		v = c->s.latched_count;
		switch (c->s.count_latched) {
		case RW_WORD_LOW:
			c->s.count_latched = RW_HIGH;
			return v;
		case RW_HIGH:
			c->s.count_latched = 0;
			return v >> 8;
		default:
			c->s.count_latched = 0;
			return v;
		}
	}
	v = get_count(c);
	switch (c->s.read_state) {
	case RW_HIGH:
		return v >> 8;
	case RW_WORD_LOW:
		c->s.read_state = RW_WORD_HIGH;
		return v;
	case RW_WORD_HIGH:
		c->s.read_state = RW_WORD_LOW;
		return v >> 8;
	default:
		return v;
	}
}

static u8 read_speaker(const struct pit *p)
{
	const struct channel *c = &p->ch[2];
	bool data = p->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	/* The DRAM refresh toggle: about 15 us a phase. */
	u8 refresh = av_now_ns() >> 14 & 1;

	return get_out(c) << 5 | refresh << 4 | data << 1 | (c->s.gate & 1);
}

static void write_speaker(struct pit *p, u8 v)
{
	if (v & 2)
		p->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	else
		p->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	set_gate(&p->ch[2], v & 1);
}

bool pit_io(struct irqchip *ic, u16 port, u8 *data, bool write)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);
	bool speaker = port == PORT_SPEAKER;

	if (!p || (speaker ? !p->speaker : port < 0x40 || port > 0x43))
		return false;
	pthread_mutex_lock(&p->lock);
	if (speaker && write)
		write_speaker(p, *data);
	else if (speaker)
		*data = read_speaker(p);
	else if ((port & 3) == PORT_CONTROL && write)
		write_control(p, *data);
	else if ((port & 3) == PORT_CONTROL)
		*data = 0;
	else if (write)
		write_count(p, port & 3, *data);
	else
		*data = read_count(&p->ch[port & 3]);
	pthread_mutex_unlock(&p->lock);
	return true;
}

/*
 * ---- Life and saved state ----
 */

int pit_create(struct irqchip *ic, u32 flags)
{
	struct pit *p, *none = NULL;

	if (pit_exists(ic))
		return -EEXIST;
	if (flags & ~KVM_PIT_SPEAKER_DUMMY)
		return -EINVAL;
	if (!irqchip_has_chips(ic))
		return -ENOENT;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ic = ic;
	p->speaker = flags & KVM_PIT_SPEAKER_DUMMY;
	p->reinject = true;
	pthread_mutex_init(&p->lock, NULL);
	av_timer_init(&p->timer, fire);
	for (u32 i = 0; i < 3; i++) {
		p->ch[i].s.mode = MODE_UNSET;
		p->ch[i].s.gate = i != 2;
		load_count(p, i, 0);
	}
	forget_ticks(p);
	if (!__atomic_compare_exchange_n(&ic->pit, &none, p, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST)) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return -EEXIST;
	}
	return 0;
}

void pit_destroy(struct irqchip *ic)
{
	struct pit *p = ic->pit;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->target = 0;
	pthread_mutex_unlock(&p->lock);
	av_timer_cancel(&p->timer, true);
	ic->pit = NULL;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

bool pit_exists(const struct irqchip *ic)
{
	return LOAD_ACQUIRE(ic->pit);
}

int pit_get(struct irqchip *ic, struct kvm_pit_state2 *out)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);

	if (!p)
		return -ENXIO;
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&p->lock);
	for (u32 i = 0; i < 3; i++)
		out->channels[i] = p->ch[i].s;
	out->flags = p->flags;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int pit_set(struct irqchip *ic, const struct kvm_pit_state2 *in)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	p->flags = in->flags & (KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	for (u32 i = 0; i < 3; i++) {
		p->ch[i].s = in->channels[i];
		/* Time went on somewhere else meanwhile: the channel starts a full count now. */
		load_count(p, i, in->channels[i].count);
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int pit_reinject(struct irqchip *ic, bool reinject)
{
	struct pit *p = LOAD_ACQUIRE(ic->pit);

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	if (p->reinject != reinject)
		forget_ticks(p);
	p->reinject = reinject;
	pthread_mutex_unlock(&p->lock);
	return 0;
}
