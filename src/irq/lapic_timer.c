// SPDX-License-Identifier: MIT
/*
 * The local APIC's timer: one-shot, periodic and TSC-deadline, on absolute host time.
 *
 * The bus runs at 1 GHz as KVM's, so counts are nanoseconds times the divisor. timer_lock guards
 * the timer's fields against the service thread; a callback that comes too late or too early finds
 * out by comparing `target` with the clock.
 */
#include "irq/irq_priv.h"

#include "base/futex.h"

#define FAR_FUTURE_NS (1ull << 62)

static bool counting_mode(const struct lapic *l)
{
	return l->timer_mode == LAPIC_ONESHOT || l->timer_mode == LAPIC_PERIODIC;
}

static void start(struct lapic *l, u64 target)
{
	l->target = target;
	av_timer_arm(&l->timer, target);
}

static void stop(struct lapic *l)
{
	l->target = 0;
	av_timer_cancel(&l->timer, false);
}

/* Arms for tsc_deadline, or delivers at once when it has passed. */
static void start_tsc(struct lapic *l)
{
	const struct irq_ops *ops = l->ic->ops;
	u64 now = av_now_ns(), tsc = ops->tsc(l->ic->owner, l->id), left;
	u32 khz = ops->tsc_khz(l->ic->owner, l->id);
	unsigned __int128 ns;

	if (!l->tsc_deadline || !khz) {
		stop(l);
		return;
	}
	if (tsc >= l->tsc_deadline) {
		stop(l);
		l->tsc_deadline = 0;
		lapic_local_deliver(l, LAPIC_LVTT);
		return;
	}
	left = l->tsc_deadline - tsc;
	/* Rounded up: never before the guest's own clock says so. */
	ns = ((unsigned __int128)left * 1000000 + khz - 1) / khz;
	start(l, now + (ns < FAR_FUTURE_NS ? (u64)ns : FAR_FUTURE_NS));
}

static void fire(struct av_timer *t)
{
	struct lapic *l = container_of(t, struct lapic, timer);
	u64 now;

	pthread_mutex_lock(&l->timer_lock);
	now = av_now_ns();
	if (!l->target || now < l->target) {
		/* Stopped or moved while this call was on its way; if moved, the new time is armed.
		 */
	} else if (l->timer_mode == LAPIC_TSC_DEADLINE) {
		/* The guest's TSC and the host's clock need not agree to the last ns. */
		start_tsc(l);
	} else if (l->timer_mode == LAPIC_PERIODIC && l->period) {
		/* From deadline to deadline, so no drift; whole periods that were missed are gone,
		 * as the IRR could not hold them. */
		start(l, l->target + ((now - l->target) / l->period + 1) * l->period);
		lapic_local_deliver(l, LAPIC_LVTT);
	} else {
		l->target = 0;
		lapic_local_deliver(l, LAPIC_LVTT);
	}
	pthread_mutex_unlock(&l->timer_lock);
}

void lapic_timer_init(struct lapic *l)
{
	pthread_mutex_init(&l->timer_lock, NULL);
	av_timer_init(&l->timer, fire);
}

void lapic_timer_destroy(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	l->target = 0;
	l->timer_mode = LAPIC_ONESHOT;
	pthread_mutex_unlock(&l->timer_lock);
	av_timer_cancel(&l->timer, true);
}

static u32 divisor(const struct lapic *l)
{
	u32 tdcr = lapic_get_reg(l, LAPIC_TDCR);

	return 1 << ((((tdcr & 3) | (tdcr & 8) >> 1) + 1) & 7);
}

static u64 count_to_ns(const struct lapic *l, u32 count)
{
	return (u64)count * l->divide;
}

static void set_period(struct lapic *l)
{
	l->period = count_to_ns(l, lapic_get_reg(l, LAPIC_TMICT));
	if (l->timer_mode == LAPIC_PERIODIC && l->period && l->period < MIN_PERIOD_NS)
		l->period = MIN_PERIOD_NS;
}

static void set_mode(struct lapic *l)
{
	u8 mode = lapic_get_reg(l, LAPIC_LVTT) >> 17 & 3;

	if (mode == l->timer_mode)
		return;
	/* Counting and deadline share nothing: crossing over disarms. */
	if ((mode == LAPIC_TSC_DEADLINE) != (l->timer_mode == LAPIC_TSC_DEADLINE)) {
		stop(l);
		lapic_set_reg(l, LAPIC_TMICT, 0);
		l->period = 0;
		l->tsc_deadline = 0;
	}
	l->timer_mode = mode;
	if (l->period)
		set_period(l);
}

void lapic_timer_reset(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	stop(l);
	l->timer_mode = LAPIC_ONESHOT;
	l->divide = 2;
	l->period = 0;
	l->tsc_deadline = 0;
	pthread_mutex_unlock(&l->timer_lock);
}

void lapic_timer_write_lvtt(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	set_mode(l);
	pthread_mutex_unlock(&l->timer_lock);
}

void lapic_timer_write_tmict(struct lapic *l, u32 count)
{
	pthread_mutex_lock(&l->timer_lock);
	if (counting_mode(l)) {
		lapic_set_reg(l, LAPIC_TMICT, count);
		set_period(l);
		if (l->period)
			start(l, av_now_ns() + l->period);
		else
			stop(l);
	}
	pthread_mutex_unlock(&l->timer_lock);
}

void lapic_timer_write_tdcr(struct lapic *l)
{
	u32 old = l->divide;
	u64 now, left;

	pthread_mutex_lock(&l->timer_lock);
	l->divide = divisor(l);
	if (counting_mode(l) && l->period && l->divide != old) {
		now = av_now_ns();
		set_period(l);
		/* The count goes on from where it is, at the new pace. */
		if (l->target) {
			left = l->target > now ? l->target - now : 0;
			start(l, now + left / old * l->divide);
		}
	}
	pthread_mutex_unlock(&l->timer_lock);
}

u32 lapic_timer_count(struct lapic *l)
{
	u64 now, left = 0;

	pthread_mutex_lock(&l->timer_lock);
	if (counting_mode(l) && l->period && l->target) {
		now = av_now_ns();
		if (l->target > now)
			left = l->target - now;
		else if (l->timer_mode == LAPIC_PERIODIC)
			left = l->period - (now - l->target) % l->period;
		left /= l->divide;
	}
	pthread_mutex_unlock(&l->timer_lock);
	return MIN(left, lapic_get_reg(l, LAPIC_TMICT));
}

void lapic_timer_restore(struct lapic *l, u32 left)
{
	u64 ns;

	pthread_mutex_lock(&l->timer_lock);
	set_mode(l);
	l->divide = divisor(l);
	set_period(l);
	ns = MIN(count_to_ns(l, left), l->period);
	if (l->timer_mode == LAPIC_TSC_DEADLINE)
		start_tsc(l);
	else if (!counting_mode(l) || !l->period)
		stop(l);
	else if (ns)
		start(l, av_now_ns() + ns);
	else if (l->timer_mode == LAPIC_PERIODIC)
		start(l, av_now_ns() + l->period);
	else
		/* Run down when it was saved; whether its interrupt got into that state nobody
		 * knows. Rather twice than never. */
		start(l, av_now_ns());
	pthread_mutex_unlock(&l->timer_lock);
}

u64 lapic_tsc_deadline(const struct lapic *l)
{
	struct lapic *m = (struct lapic *)l;
	u64 value;

	pthread_mutex_lock(&m->timer_lock);
	value = l->timer_mode == LAPIC_TSC_DEADLINE && lapic_present(l) ? l->tsc_deadline : 0;
	pthread_mutex_unlock(&m->timer_lock);
	return value;
}

void lapic_set_tsc_deadline(struct lapic *l, u64 value)
{
	pthread_mutex_lock(&l->timer_lock);
	if (l->timer_mode == LAPIC_TSC_DEADLINE && lapic_present(l)) {
		l->tsc_deadline = value;
		start_tsc(l);
	}
	pthread_mutex_unlock(&l->timer_lock);
}

void lapic_tsc_changed(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	if (l->timer_mode == LAPIC_TSC_DEADLINE && l->tsc_deadline)
		start_tsc(l);
	pthread_mutex_unlock(&l->timer_lock);
}
