/* SPDX-License-Identifier: MIT */
/*
 * KVM_SET_SIGNAL_MASK as clients use it: threads that keep a signal blocked, let it in only while
 * the guest runs, and take it afterwards with sigwait or by unblocking it.
 */
#include "api.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#define RUNNING 0x6000 /* the guest says here that it runs */
#define RT	(SIGRTMIN + 3)

static struct guest g;
static sigset_t before;
static pthread_t self;

static volatile sig_atomic_t handled;
static siginfo_t info;
static sigset_t handler_mask;

static void handler(int sig, siginfo_t *si, void *uc)
{
	handled++;
	info = *si;
	pthread_sigmask(SIG_BLOCK, NULL, &handler_mask);
}

static void handle(int sig, int flags)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

	assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

static void set_default(int sig)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};

	assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

/* A guest that spins for ever. */
static int setup(void **state)
{
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	self = pthread_self();
	handled = 0;
	guest_make(&g);
	guest_start(&g);
	g_es(&g, 0);
	g_store8(&g, RUNNING, 1);
	code(&g, 0xeb, 0xfe);
	return 0;
}

static int teardown(void **state)
{
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	guest_end(&g);
	return 0;
}

static void block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	assert_int_equal(pthread_sigmask(how, &set, NULL), 0);
}

/* The run mask blocks just these (0: none). */
static void run_mask(int sig)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} m = {.head.len = 8, .set = sig ? 1ull << (sig - 1) : 0};

	ok(g.vcpu, KVM_SET_SIGNAL_MASK, &m);
}

static bool is_pending(int sig)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, sig);
}

/* ---- somebody who sends when the guest is under way ---- */

struct sender {
	int sig[2], value;
	bool process;
};

static void *send_signals(void *arg)
{
	const struct sender *s = arg;

	while (!*(volatile u8 *)(g.ram + RUNNING))
		sleep_ms(1);
	for (u32 k = 0; k < ARRAY_SIZE(s->sig); k++) {
		if (!s->sig[k])
			continue;
		if (s->process)
			kill(getpid(), s->sig[k]);
		else if (s->value)
			pthread_sigqueue(self, s->sig[k], (union sigval){.sival_int = s->value});
		else
			pthread_kill(self, s->sig[k]);
	}
	return NULL;
}

/* The run ends with EINTR by what is sent. */
static void run_and_send(struct sender s)
{
	pthread_t t;

	g.ram[RUNNING] = 0;
	guest_rewind(&g);
	assert_int_equal(pthread_create(&t, NULL, send_signals, &s), 0);
	g.run->exit_reason = 0;
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	assert_int_equal(g.run->exit_reason, KVM_EXIT_INTR);
	pthread_join(t, NULL);
}

/* ---- tests ---- */

/* The handler is called when the thread itself lets the signal in, and not before. */
static void stays_pending(void **state)
{
	handle(SIGUSR1, 0);
	block(SIG_BLOCK, SIGUSR1);
	run_mask(0);
	for (u32 round = 0; round < 3; round++) {
		handled = 0;
		run_and_send((struct sender){.sig = {SIGUSR1}});
		assert_int_equal(handled, 0);
		assert_true(is_pending(SIGUSR1));
		/* It ends every run until it is taken. */
		fails(EINTR, g.vcpu, KVM_RUN, 0);
		assert_int_equal(handled, 0);
		block(SIG_UNBLOCK, SIGUSR1);
		assert_int_equal(handled, 1);
		assert_int_equal(info.si_code, SI_TKILL);
		assert_int_equal(info.si_pid, getpid());
		assert_false(is_pending(SIGUSR1));
		block(SIG_BLOCK, SIGUSR1);
	}
	set_default(SIGUSR1);
}

/* With what it came with. */
static void queued_value(void **state)
{
	sigset_t set;
	siginfo_t si;

	handle(RT, 0);
	block(SIG_BLOCK, RT);
	run_mask(0);
	run_and_send((struct sender){.sig = {RT}, .value = 4711});
	assert_int_equal(handled, 0);
	sigemptyset(&set);
	sigaddset(&set, RT);
	assert_int_equal(sigwaitinfo(&set, &si), RT);
	assert_int_equal(si.si_code, SI_QUEUE);
	assert_int_equal(si.si_value.sival_int, 4711);
	assert_false(is_pending(RT));
	set_default(RT);
}

static void *wait_for(void *arg)
{
	sigset_t set;
	int sig = 0;

	sigemptyset(&set);
	sigaddset(&set, *(int *)arg);
	sigwait(&set, &sig);
	return (void *)(intptr_t)sig;
}

/* A signal to the process stays one that any thread may take. */
static void for_the_process(void **state)
{
	int sig = SIGUSR1;
	pthread_t t;
	void *got;

	handle(sig, 0);
	block(SIG_BLOCK, sig);
	run_mask(0);
	run_and_send((struct sender){.sig = {sig}, .process = true});
	assert_int_equal(handled, 0);
	assert_int_equal(pthread_create(&t, NULL, wait_for, &sig), 0);
	pthread_join(t, &got);
	assert_int_equal((intptr_t)got, sig);
	assert_false(is_pending(sig));
	assert_int_equal(handled, 0);
	set_default(sig);
}

/* No handler at all, as with sigwait: the default action, which would end the process, does not
 * come. */
static void without_handler(void **state)
{
	sigset_t set;
	int sig, status;
	pid_t pid;

	set_default(SIGUSR2);
	block(SIG_BLOCK, SIGUSR2);
	run_mask(0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	for (u32 round = 0; round < 2; round++) {
		struct sigaction old;

		run_and_send((struct sender){.sig = {SIGUSR2}});
		assert_true(is_pending(SIGUSR2));
		assert_int_equal(sigwait(&set, &sig), 0);
		assert_int_equal(sig, SIGUSR2);
		sigaction(SIGUSR2, NULL, &old);
		assert_ptr_equal(old.sa_handler, SIG_DFL);
	}
	/* Whoever does not block it is still ended by it. */
	pid = fork();
	if (!pid) {
		block(SIG_UNBLOCK, SIGUSR2);
		raise(SIGUSR2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGUSR2);
}

/* One that the thread itself lets in is handled at once, under the thread's own mask. */
static void handled_at_once(void **state)
{
	handle(SIGUSR1, 0);
	block(SIG_BLOCK, SIGUSR2);
	run_mask(0);
	run_and_send((struct sender){.sig = {SIGUSR1}});
	assert_int_equal(handled, 1);
	assert_true(sigismember(&handler_mask, SIGUSR1));
	assert_true(sigismember(&handler_mask, SIGUSR2));
	assert_false(is_pending(SIGUSR1));
	set_default(SIGUSR1);
}

/* One that only the run mask keeps out waits for the end of the run. */
static void kept_out(void **state)
{
	handle(SIGUSR1, 0);
	block(SIG_BLOCK, RT);
	handle(RT, 0);
	run_mask(SIGUSR1);
	run_and_send((struct sender){.sig = {SIGUSR1, RT}});
	assert_int_equal(handled, 1);
	assert_int_equal(info.si_signo, SIGUSR1);
	assert_true(is_pending(RT));
	block(SIG_UNBLOCK, RT);
	assert_int_equal(handled, 2);
	assert_int_equal(info.si_signo, RT);
	set_default(SIGUSR1);
	set_default(RT);
}

/* Handlers that are called once, and those that do not block their signal. */
static void flags(void **state)
{
	static const int kinds[] = {(int)SA_RESETHAND, SA_NODEFER, SA_RESETHAND | SA_NODEFER};

	run_mask(0);
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sigaction old;

		handled = 0;
		handle(SIGUSR1, kinds[k]);
		block(SIG_BLOCK, SIGUSR1);
		run_and_send((struct sender){.sig = {SIGUSR1}});
		assert_int_equal(handled, 0);
		block(SIG_UNBLOCK, SIGUSR1);
		assert_int_equal(handled, 1);
		sigaction(SIGUSR1, NULL, &old);
		assert_ptr_equal(old.sa_handler,
				 kinds[k] & (int)SA_RESETHAND ? SIG_DFL : (void *)handler);
	}
	set_default(SIGUSR1);
}

/* While the vCPU sleeps in HLT. */
static void halted(void **state)
{
	struct guest other = g;

	guest_make(&g);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	guest_start(&g);
	g_es(&g, 0);
	g_store8(&g, RUNNING, 1);
	code(&g, 0xfb, 0xf4, 0xeb, 0xfd); /* sti; hlt */
	handle(SIGUSR1, 0);
	block(SIG_BLOCK, SIGUSR1);
	run_mask(0);
	run_and_send((struct sender){.sig = {SIGUSR1}});
	assert_int_equal(handled, 0);
	assert_true(is_pending(SIGUSR1));
	block(SIG_UNBLOCK, SIGUSR1);
	assert_int_equal(handled, 1);
	set_default(SIGUSR1);
	guest_end(&g);
	g = other;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(stays_pending),   T(queued_value), T(for_the_process), T(without_handler),
		T(handled_at_once), T(kept_out),     T(flags),		 T(halted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
