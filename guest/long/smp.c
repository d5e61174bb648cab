// SPDX-License-Identifier: MIT
/*
 * Several processors: start by INIT and SIPI, interrupts between them, locked operations that must
 * not lose a count, TLB shootdown, cross-modified code, memory order. The number of processors is
 * read where PC firmware keeps it (CMOS 0x5f).
 */
#include "long.h"

extern u8 trampoline[], trampoline_end[];
extern volatile u32 ap_arrivals;

enum { VEC_COUNT = 0x60, VEC_WAKE, VEC_FLUSH, VEC_SYNC };

static u32 ncpu;
static volatile u32 online, job_number, job_done;
static void (*volatile job)(u32 cpu);
static u8 ids[256]; /* APIC ids by order of arrival */

static void eoi(struct trap_frame *f)
{
	apic_write(APIC_EOI, 0);
}

void ap_main(u32 cpu)
{
	u32 seen = 0;

	load_idt();
	apic_enable();
	ids[cpu] = (u8)apic_id();
	__atomic_fetch_add(&online, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		/* asleep without work: there may be fewer host processors than guest ones */
		__asm__ volatile("cli");
		while (job_number == seen)
			__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
		__asm__ volatile("sti");
		seen++;
		job(cpu);
		__atomic_fetch_add(&job_done, 1, __ATOMIC_SEQ_CST);
	}
}

static void start_job(void (*f)(u32))
{
	job = f;
	job_done = 0;
	barrier();
	__atomic_fetch_add(&job_number, 1, __ATOMIC_SEQ_CST);
	apic_icr(0, ICR_OTHERS | ICR_ASSERT | VEC_WAKE);
}

static int jobs_done(void)
{
	return WAIT_FOR(job_done == ncpu - 1);
}

/* Runs f on all processors, this one as number 0. */
static int on_all(void (*f)(u32))
{
	start_job(f);
	__asm__ volatile("sti");
	f(0);
	return jobs_done();
}

/* ---- start ---- */

static int start_others(void)
{
	u64 t;

	memcpy((void *)0x8000, trampoline, trampoline_end - trampoline);
	apic_icr(0, ICR_OTHERS | ICR_INIT | ICR_ASSERT);
	for (t = rdtsc(); rdtsc() - t < 20000000;)
		pause();
	apic_icr(0, ICR_OTHERS | ICR_SIPI | ICR_ASSERT | 8);
	for (t = rdtsc(); rdtsc() - t < 2000000;)
		pause();
	if (online < ncpu - 1)
		apic_icr(0, ICR_OTHERS | ICR_SIPI | ICR_ASSERT | 8);
	return WAIT_FOR(online == ncpu - 1);
}

/* ---- locked operations ---- */

#define ROUNDS 20000
static volatile u32 counter, xadded, swapped, plain, spinlock, bit_rounds;
static volatile u64 wide[2] __attribute__((aligned(16)));
static volatile u32 bit_word;

static void counting(u32 cpu)
{
	u32 k;

	for (k = 0; k < ROUNDS; k++) {
		u32 old, got;
		u8 taken;

		__asm__ volatile("lock incl %0" : "+m"(counter) : : "cc");
		old = 1;
		__asm__ volatile("lock xaddl %1, %0" : "+m"(xadded), "+r"(old) : : "cc");
		do {
			old = swapped;
			got = old;
			__asm__ volatile("lock cmpxchgl %2, %0"
					 : "+m"(swapped), "+a"(got)
					 : "r"(old + 1)
					 : "cc");
		} while (got != old);
		/* a spinlock by XCHG around a plain increment */
		do {
			got = 1;
			__asm__ volatile("xchgl %1, %0" : "+m"(spinlock), "+r"(got) : : "memory");
			if (got)
				pause();
		} while (got);
		plain++;
		barrier();
		spinlock = 0;
		/* a lock in a bit */
		do {
			__asm__ volatile("lock btsl $7, %0\n\tsetc %1"
					 : "+m"(bit_word), "=q"(taken)
					 :
					 : "cc", "memory");
			if (taken)
				pause();
		} while (taken);
		bit_rounds++;
		__asm__ volatile("lock btrl $7, %0" : "+m"(bit_word) : : "cc", "memory");
		if (k % 16)
			continue;
		/* 128 bits: the high half counts down */
		for (;;) {
			u64 lo = wide[0], hi = wide[1];

			__asm__ volatile("lock cmpxchg16b %1\n\tsetz %0"
					 : "=q"(taken), "+m"(wide), "+a"(lo), "+d"(hi)
					 : "b"(lo + 1), "c"(hi - 1)
					 : "cc");
			if (taken)
				break;
		}
	}
}

/* an unaligned word over a page boundary: two pages that are neighbours only by their mapping */
#define SPLIT ((volatile u32 *)((u64)WIN(14) - 2))
static void counting_split(u32 cpu)
{
	u32 k;

	for (k = 0; k < 500; k++)
		__asm__ volatile("lock addl $3, %0" : "+m"(*SPLIT) : : "cc");
}

static void test_counters(void)
{
	u32 want = ncpu * ROUNDS;

	CHECK("smp-counting", on_all(counting));
	report("smp-lock-inc", counter == want, "%d of %d", L(counter), L(want));
	report("smp-lock-xadd", xadded == want, "%d of %d", L(xadded), L(want));
	report("smp-lock-cmpxchg", swapped == want, "%d of %d", L(swapped), L(want));
	report("smp-xchg-spinlock", plain == want, "%d of %d", L(plain), L(want));
	report("smp-lock-bts", bit_rounds == want && !bit_word, "%d of %d", L(bit_rounds), L(want));
	report("smp-cmpxchg16b", wide[0] == want / 16 && wide[1] == -(u64)(want / 16), "%d",
	       L(wide[0]));
	window_pt[13] = (u64)pages[13] | W | P;
	window_pt[14] = (u64)pages[15] | W | P;
	invlpg(WIN(13));
	invlpg(WIN(14));
	*SPLIT = 0;
	CHECK("smp-split-done", on_all(counting_split));
	report("smp-split-lock", *SPLIT == ncpu * 1500, "%d of %d", L(*SPLIT), L(ncpu * 1500));
}

/* ---- interrupts ---- */

static volatile u32 awake, go;

static void sleeping(u32 cpu)
{
	while (!go)
		__asm__ volatile("cli\n\tcmpl $0, %0\n\tjne 1f\n\tsti\n\thlt\n1:\n\tsti"
				 :
				 : "m"(go)
				 : "cc", "memory");
	__atomic_fetch_add(&awake, 1, __ATOMIC_SEQ_CST);
}

static void nmi(struct trap_frame *f)
{
}

static void test_ipis(const char *what)
{
	u32 k, n, others = ncpu - 1, before = irq_counts[VEC_COUNT], nmis = irq_counts[2];
	int ok = 1;

	print("%s\n", what);
	for (k = 1; k < ncpu && ok; k++)
		for (n = 0; n < 20 && ok; n++) {
			u32 want = irq_counts[VEC_COUNT] + 1;

			apic_icr(ids[k], ICR_ASSERT | VEC_COUNT);
			ok = WAIT_FOR(irq_counts[VEC_COUNT] == want);
		}
	report("smp-ipi", ok && irq_counts[VEC_COUNT] == before + 20 * others, "%d",
	       L(irq_counts[VEC_COUNT] - before));
	for (n = 0; n < 20; n++) {
		u32 want = irq_counts[VEC_COUNT] + others;

		apic_icr(0, ICR_OTHERS | ICR_ASSERT | VEC_COUNT);
		if (!WAIT_FOR(irq_counts[VEC_COUNT] == want))
			break;
	}
	report("smp-ipi-broadcast", n == 20, "round %d", L(n));
	if (!x2apic) {
		/* logical destination, flat: only this processor has a bit */
		before = irq_counts[VEC_COUNT];
		apic_write(APIC_DFR, ~0u);
		apic_write(APIC_LDR, 4 << 24);
		apic_icr(4, ICR_LOGICAL | ICR_ASSERT | VEC_COUNT);
		apic_icr(2, ICR_LOGICAL | ICR_ASSERT | VEC_COUNT);
		report("smp-ipi-logical",
		       WAIT_FOR(irq_counts[VEC_COUNT] != before) &&
			       irq_counts[VEC_COUNT] == before + 1,
		       "%d", L(irq_counts[VEC_COUNT] - before));
	}
	apic_icr(0, ICR_OTHERS | ICR_NMI | ICR_ASSERT);
	(void)WAIT_FOR(irq_counts[2] == nmis + others);
	report("smp-nmi", irq_counts[2] == nmis + others, "%d of %d", L(irq_counts[2] - nmis),
	       L(others));
	awake = go = 0;
	start_job(sleeping);
	for (k = 0; k < 200000; k++)
		pause();
	go = 1;
	apic_icr(0, ICR_OTHERS | ICR_ASSERT | VEC_WAKE);
	report("smp-halt-wake", jobs_done() && awake == others, "%d of %d", L(awake), L(others));
}

/* ---- TLB shootdown: page contents count the rounds, so a stale translation reads a number that is
 * too low ---- */

static volatile u64 shot_round, stale, shots_over;
static volatile u32 flush_acks;

static void flush_handler(struct trap_frame *f)
{
	invlpg(WIN(16));
	__atomic_fetch_add(&flush_acks, 1, __ATOMIC_SEQ_CST);
	apic_write(APIC_EOI, 0);
}

static void shot_reader(u32 cpu)
{
	while (!shots_over) {
		u64 least = shot_round, seen = *WIN(16);

		if (seen < least)
			__atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
	}
}

static void test_shootdown(void)
{
	u64 k;
	int ok = 1;

	irq_handlers[VEC_FLUSH] = flush_handler;
	window_pt[16] = (u64)pages[0] | W | P;
	*(volatile u64 *)pages[0] = 0;
	shot_round = stale = shots_over = 0;
	start_job(shot_reader);
	for (k = 1; k <= 200 && ok; k++) {
		volatile u8 *page = pages[k & 1];

		*(volatile u64 *)page = k;
		window_pt[16] = (u64)page | W | P;
		invlpg(WIN(16));
		flush_acks = 0;
		barrier();
		apic_icr(0, ICR_OTHERS | ICR_ASSERT | VEC_FLUSH);
		ok = WAIT_FOR(flush_acks == ncpu - 1);
		shot_round = k;
	}
	shots_over = 1;
	report("smp-shootdown", jobs_done() && ok && !stale, "%d stale, round %d", L(stale), L(k));
}

/* ---- code changed by one processor, run by the others after an interrupt ---- */

static volatile u32 wrong_code, sync_acks;
static volatile u64 code_value;

static void sync_handler(struct trap_frame *f)
{
	__atomic_fetch_add(&sync_acks, 1, __ATOMIC_SEQ_CST);
	apic_write(APIC_EOI, 0);
}

static void run_changed(u32 cpu)
{
	u64 (*f)(void) = (u64(*)(void))(u64)pages[2];
	u32 k;

	for (k = 0; k < 50; k++)
		if (f() != code_value)
			__atomic_fetch_add(&wrong_code, 1, __ATOMIC_SEQ_CST);
}

static void test_cross_modifying(void)
{
	u32 k;
	int ok = 1;

	irq_handlers[VEC_SYNC] = sync_handler;
	pages[2][0] = 0xb8;
	pages[2][5] = 0xc3;
	for (k = 1; k <= 100 && ok; k++) {
		*(volatile u32 *)(pages[2] + 1) = k;
		code_value = k;
		sync_acks = 0;
		barrier();
		apic_icr(0, ICR_OTHERS | ICR_ASSERT | VEC_SYNC);
		ok = WAIT_FOR(sync_acks == ncpu - 1) && on_all(run_changed);
	}
	report("smp-cross-modifying", ok && !wrong_code, "%d wrong, round %d", L(wrong_code), L(k));
}

/* ---- memory order, processors 0 and 1 ---- */

#define LITMUS 3000
static struct {
	volatile u64 v __attribute__((aligned(64)));
} lx, ly, lr[2], ldata, lflag;
static volatile u32 arrived, both_zero, out_of_order;

static void meet(u32 n)
{
	__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
	while (arrived < n)
		;
}

static void store_buffering(u32 cpu)
{
	u32 k;

	if (cpu > 1)
		return;
	for (k = 0; k < LITMUS; k++) {
		if (!cpu)
			lx.v = ly.v = 0;
		meet(6 * k + 2);
		if (cpu) {
			lx.v = 1;
			__asm__ volatile("mfence" : : : "memory");
			lr[1].v = ly.v;
		} else {
			ly.v = 1;
			__asm__ volatile("mfence" : : : "memory");
			lr[0].v = lx.v;
		}
		meet(6 * k + 4);
		if (!cpu && !lr[0].v && !lr[1].v)
			both_zero++;
		meet(6 * k + 6);
	}
}

/* stores are seen in order */
static void message_passing(u32 cpu)
{
	u64 k;

	if (!cpu) {
		for (k = 1; k <= 10 * LITMUS; k++) {
			ldata.v = k;
			lflag.v = k;
		}
		return;
	}
	while (cpu == 1 && (k = lflag.v) < 10 * LITMUS) {
		if (ldata.v < k)
			out_of_order++;
	}
}

static void test_order(void)
{
	CHECK("smp-order-done", on_all(store_buffering) && on_all(message_passing));
	report("smp-store-buffering", !both_zero, "%d", L(both_zero));
	report("smp-message-passing", !out_of_order, "%d", L(out_of_order));
}

static void to_x2apic(u32 cpu)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
}

void test_smp(void)
{
	outb(0x70, 0x5f);
	ncpu = inb(0x71) + 1u;
	print("%d processors\n", L(ncpu));
	if (ncpu == 1)
		return;
	irq_handlers[VEC_WAKE] = irq_handlers[VEC_COUNT] = eoi;
	irq_handlers[2] = nmi;
	__asm__ volatile("sti");
	CHECK("smp-start", start_others());
	if (online != ncpu - 1)
		return;
	test_ipis("xapic");
	test_counters();
	test_shootdown();
	test_cross_modifying();
	test_order();
	if (has_feature(1, 2, 21)) {
		/* the helper functions change over when all have */
		start_job(to_x2apic);
		if (jobs_done()) {
			to_x2apic(0);
			x2apic = 1;
			test_ipis("x2apic");
			test_shootdown();
		} else {
			report("smp-x2apic", 0, "no answer");
		}
	}
}
