/* SPDX-License-Identifier: MIT */
/*
 * Steal time through the public API: the MSR's rules, and the guest's record beside the host's own
 * figure.
 */
#include "api.h"

#include <asm/kvm_para.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define RECORD 0x6000u
#define STOP   0x600

static struct guest g;

static volatile struct kvm_steal_time *record(void)
{
	return (volatile struct kvm_steal_time *)(g.ram + RECORD);
}

static int setup(void **state)
{
	guest_make(&g);
	guest_start(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

static int set_msr(u64 value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = MSR_KVM_STEAL_TIME, .data = value}};

	return ok(g.vcpu, KVM_SET_MSRS, &m);
}

static u64 get_msr(void)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = MSR_KVM_STEAL_TIME}};

	assert_int_equal(ok(g.vcpu, KVM_GET_MSRS, &m), 1);
	return m.e.data;
}

/* This thread's run delay, as the scheduler has it. */
static u64 run_delay(void)
{
	unsigned long long on, delay = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu", &on, &delay), 2);
	fclose(f);
	return delay;
}

static int kept_here(void)
{
	return ok(g.dev, KVM_CHECK_EXTENSION, KVM_CAP_STEAL_TIME);
}

static void msr_rules(void **state)
{
	if (!kept_here()) {
		assert_int_equal(set_msr(RECORD | 1), 0);
		return;
	}
	assert_int_equal(get_msr(), 0);
	for (u32 bit = 1; bit < 6; bit++)
		assert_int_equal(set_msr(RECORD | 1 << bit | 1), 0);
	assert_int_equal(get_msr(), 0);
	assert_int_equal(set_msr(RECORD), 1); /* off, with an address */
	assert_int_equal(get_msr(), RECORD);
	g_done(&g);
	guest_done(&g);
	assert_int_equal(record()->version, 0);

	/* Where there is no memory, nothing is written and nothing fails. */
	assert_int_equal(set_msr(0x7000000 | 1), 1);
	guest_rewind(&g);
	guest_done(&g);
	assert_int_equal(set_msr(1ull << 60 | 1), 1);
	guest_rewind(&g);
	guest_done(&g);

	/* The guest's own write, good and bad. */
	assert_int_equal(set_msr(0), 1);
	memcpy(g.ram + 13 * 4, (u16[]){0x2000, 0}, 4);
	g.at = g.ram + 0x2000;
	g_outb(&g, 0x80, 13);
	guest_rewind(&g);
	g_wrmsr(&g, MSR_KVM_STEAL_TIME, RECORD | 1);
	g_outb(&g, 0x81, 0);
	g_wrmsr(&g, MSR_KVM_STEAL_TIME, RECORD | 3);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x81);
	assert_int_equal(record()->version, 2);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	assert_int_equal(get_msr(), RECORD | 1);
}

static void enforced(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};

	ok(g.vcpu, KVM_ENABLE_CAP, &cap);
	assert_int_equal(set_msr(RECORD | 1), 0);
}

static void spin_out(void)
{
	code(&g, 0xe6, 0x80, 0xeb, (u8)-4); /* out 0x80, al, for ever */
	assert_int_equal(set_msr(RECORD | 1), 1);
}

/* A guest that stays inside until STOP is set. */
static void spin_inside(void)
{
	code(&g, 0x80, 0x3e, LE16(STOP), 0, 0x74, (u8)-7); /* cmp byte [STOP], 0; je */
	g_done(&g);
	assert_int_equal(set_msr(RECORD | 1), 1);
}

/* Versions are even outside an update, whatever was there before. */
static void versions(void **state)
{
	if (!kept_here())
		return;
	spin_out();
	for (u32 n = 1; n < 4; n++) {
		guest_run(&g);
		assert_int_equal(record()->version, 2 * n);
	}
	record()->version = 7;
	record()->preempted = 1;
	guest_run(&g);
	assert_int_equal(record()->version, 10);
	assert_int_equal(record()->preempted, 0);
	assert_int_equal(record()->flags, 0);
}

/* ---- with somebody else on the processor ---- */

static u32 stop_load;

static void *load(void *arg)
{
	while (!__atomic_load_n(&stop_load, __ATOMIC_SEQ_CST))
		;
	return NULL;
}

/* This thread and a busy one share one processor from here on. */
static pthread_t compete(void)
{
	cpu_set_t one, all;
	pthread_t t;
	int cpu;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	for (cpu = 0; !CPU_ISSET(cpu, &all); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	__atomic_store_n(&stop_load, 0, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&t, NULL, load, NULL), 0);
	return t;
}

static void end_competition(pthread_t t)
{
	__atomic_store_n(&stop_load, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_join(t, NULL), 0);
}

static void *record_thread(void *arg)
{
	u64 before, after;
	pthread_t t;

	spin_out();
	t = compete();
	for (int n = 0; n < 20; n++) {
		for (before = run_delay(); run_delay() < before + 100000;)
			sched_yield();
		before = run_delay();
		guest_run(&g);
		after = run_delay();
		assert_in_range(record()->steal, before, after);
	}
	end_competition(t);
	return NULL;
}

static void *run_once(void *arg)
{
	u64 before = record()->steal;

	/* Its own delay is another thread's account: nothing of it is added, nor is anything taken
	 * away. */
	guest_run(&g);
	assert_in_range(record()->steal, before, before + run_delay());
	return NULL;
}

static void run_in_thread(void *(*fn)(void *))
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, fn, NULL), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
}

/* The record follows the scheduler's figure to the nanosecond at each KVM_RUN; other threads may
 * come and go. */
static void record_follows(void **state)
{
	if (!kept_here())
		return;
	run_in_thread(record_thread);
	for (int i = 0; i < 5; i++)
		run_in_thread(run_once);
}

static void *busy_guest(void *arg)
{
	pthread_t t = compete();

	guest_done(&g);
	end_competition(t);
	return NULL;
}

/* One that never leaves sees it grow all the same. */
static void long_run(void **state)
{
	u64 first;
	pthread_t t;

	if (!kept_here())
		return;
	spin_inside();
	assert_int_equal(pthread_create(&t, NULL, busy_guest, NULL), 0);
	while (!record()->version)
		sleep_ms(1);
	first = record()->steal;
	for (int n = 0; record()->steal < first + 10000000; n++) {
		assert_true(n < 20000);
		sleep_ms(1);
	}
	g.ram[STOP] = 1;
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(record()->version % 2, 0);
}

/* A vCPU thread that may do next to nothing: a system call of another kind ends the process. */
static void *jailed_guest(void *arg)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = {ARRAY_SIZE(rules), rules};
	pthread_t t = compete();

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
	guest_done(&g);
	guest_rewind(&g);
	guest_done(&g);
	end_competition(t);
	return NULL;
}

static void behind_a_filter(void **state)
{
	pthread_t t;

	if (!kept_here())
		return;
	spin_inside();
	assert_int_equal(pthread_create(&t, NULL, jailed_guest, NULL), 0);
	for (int n = 0; record()->steal < 10000000; n++) {
		assert_true(n < 20000);
		sleep_ms(1);
	}
	g.ram[STOP] = 1;
	assert_int_equal(pthread_join(t, NULL), 0);
}

/* INIT turns it off, as it does in KVM. */
static void init_resets(void **state)
{
	struct kvm_mp_state mp = {KVM_MP_STATE_INIT_RECEIVED};
	struct kvm_msi init = {.address_lo = 0xfee00000, .data = 0x4500};

	if (!kept_here())
		return;
	guest_end(&g);
	guest_make(&g);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	guest_start(&g);
	assert_int_equal(set_msr(RECORD | 1), 1);
	ok(g.vm, KVM_SIGNAL_MSI, &init);
	ok(g.vcpu, KVM_GET_MP_STATE, &mp);
	assert_int_equal(get_msr(), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(msr_rules), T(enforced),	  T(versions),	  T(record_follows),
		T(long_run),  T(behind_a_filter), T(init_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
