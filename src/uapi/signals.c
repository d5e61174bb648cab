// SPDX-License-Identifier: MIT
/*
 * The process's signals, shared between the client and us.
 *
 * Owns the table of the client's dispositions, the trampolines, and which fault signals a thread
 * believes blocked. Knows nothing of guests: fault hooks and the per-thread `after` callback do.
 *
 * Before uapi_signals_init() calls go to the kernel as they are. From then on the table is the
 * truth: it is written under `lock` with all signals blocked, and read by trampolines through a
 * sequence counter, so a handler never waits for its own thread. The trampoline runs under the
 * flags and the mask the client asked for, except: SA_SIGINFO is always set, the fault
 * signals are left out of every mask (uapi_sigmask() says why), and SA_RESETHAND of a fault signal
 * is carried out here, since our handler has to stay.
 *
 * Run masks (KVM_SET_SIGNAL_MASK). In the kernel's KVM a signal that only the run mask lets through
 * ends the run and is still pending afterwards, as it is never delivered under that mask. Here it
 * is: the trampoline blocks it and queues it again, with all that it came with. Signals without a
 * handler get the trampoline, too, from the first run mask on that needs it; elsewhere it does what
 * the kernel would.
 */
#include "uapi/signals.h"
#include "base/guard.h"
#include "uapi/sys.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "uapi/cancel.h"

#define NR_SIGS 65
#define SIGBIT	UAPI_SIGBIT
/* Used by the C library for itself, never seen by its sigaction(). */
#define LIBC_SIGS   (SIGBIT(32) | SIGBIT(33))
#define FAULTS	    UAPI_FAULT_SIGNALS
#define UNBLOCKABLE (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))
/* Ignored by default. */
#define HARMLESS (SIGBIT(SIGCHLD) | SIGBIT(SIGCONT) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH))
#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif
#define MAX_HOOKS 4

struct kernel_action {
	void *handler;
	u64 flags;
	void *restorer;
	u64 mask;
};

struct disposition {
	u32 seq; /* odd while being written */
	struct kernel_action client;
};

static struct disposition table[NR_SIGS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u32 installed; /* written once, under the lock */
static bool interposed;
/* Signals whose default action is not to do nothing, and which the kernel carries out itself;
 * atomic. */
static u64 plain_default;
static uapi_fault_fn *hooks[MAX_HOOKS];

/* Initial-exec: a handler must not make the dynamic linker allocate. */
#define THREAD __thread __attribute__((tls_model("initial-exec")))
static THREAD void (*guest_after)(void *arg);
static THREAD void *guest_arg;
static THREAD bool faults_unblocked;
/* Between uapi_run_mask_enter() and _leave(): the mask to go back to. */
static THREAD bool run_masked;
static THREAD u64 own_mask;
static THREAD u64
	hidden_blocked; /* fault signals that the client believes blocked on this thread */

__asm__(".text\n"
	".globl uapi_restore\n"
	".hidden uapi_restore\n"
	".type uapi_restore, @function\n"
	/* Debuggers know a signal frame by exactly these two instructions. */
	"	nop\n"
	"uapi_restore:\n"
	"	mov $15, %rax\n"
	"	syscall\n"
	".size uapi_restore, . - uapi_restore\n"
	".previous\n");
extern const char uapi_restore[];

static long kernel_sigaction(int sig, const struct kernel_action *act, struct kernel_action *old)
{
	return sys(SYS_rt_sigaction, sig, act, old, sizeof(u64));
}

static u64 table_lock(void)
{
	u64 all = ~0ull, old = 0;

	sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	pthread_mutex_lock(&lock);
	return old;
}

static void table_unlock(u64 old)
{
	pthread_mutex_unlock(&lock);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

/* Lock held. */
static void table_write(int sig, const struct kernel_action *act)
{
	struct disposition *d = &table[sig];

	__atomic_store_n(&d->seq, d->seq + 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->client.handler, act->handler, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->client.flags, act->flags, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->client.mask, act->mask, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->client.restorer, act->restorer, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->seq, d->seq + 1, __ATOMIC_SEQ_CST);
}

static struct kernel_action table_read(int sig)
{
	struct disposition *d = &table[sig];
	struct kernel_action act;
	u32 seq;

	do {
		seq = __atomic_load_n(&d->seq, __ATOMIC_SEQ_CST);
		act.handler = __atomic_load_n(&d->client.handler, __ATOMIC_SEQ_CST);
		act.flags = __atomic_load_n(&d->client.flags, __ATOMIC_SEQ_CST);
		act.mask = __atomic_load_n(&d->client.mask, __ATOMIC_SEQ_CST);
		act.restorer = __atomic_load_n(&d->client.restorer, __ATOMIC_SEQ_CST);
	} while (seq & 1 || seq != __atomic_load_n(&d->seq, __ATOMIC_SEQ_CST));
	return act;
}

static bool is_fault(int sig)
{
	return FAULTS & SIGBIT(sig);
}

static bool is_handler(const struct kernel_action *act)
{
	return act->handler != (void *)SIG_DFL && act->handler != (void *)SIG_IGN;
}

/* ---- trampolines ---- */

static void trampoline(int sig, siginfo_t *si, void *uc);
static void fault_trampoline(int sig, siginfo_t *si, void *uc);

static void note_plain(int sig, bool plain)
{
	if (plain && !(SIGBIT(sig) & HARMLESS))
		__atomic_fetch_or(&plain_default, SIGBIT(sig), __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&plain_default, ~SIGBIT(sig), __ATOMIC_SEQ_CST);
}

static void tell_guest(void)
{
	int saved = errno;

	if (guest_after)
		guest_after(guest_arg);
	errno = saved;
}

static void call_client(const struct kernel_action *act, int sig, siginfo_t *si, void *uc)
{
	if (act->flags & SA_SIGINFO)
		((void (*)(int, siginfo_t *, void *))act->handler)(sig, si, uc);
	else
		((void (*)(int))act->handler)(sig);
	tell_guest();
}

/* Sent to the process as a whole, so that any of its threads may take it? kill(2) and the kernel
 * do so; of the rest nobody can tell. */
static bool for_process(const siginfo_t *si)
{
	return si->si_code == SI_USER || si->si_code > 0;
}

/* Queues the signal again with all that it came with. It should be blocked. */
static void queue_again(int sig, siginfo_t *si, bool process)
{
	long pid = sys(SYS_getpid, 0), tid = sys(SYS_gettid, 0);

	if (process && !sys(SYS_rt_sigqueueinfo, pid, sig, si))
		return;
	if (sys(SYS_rt_tgsigqueueinfo, pid, tid, sig, si))
		sys(SYS_tgkill, pid, tid, sig);
}

/* A signal that only the run mask let through: pending again, and blocked for the rest of the run.
 */
static void defer(int sig, siginfo_t *si, ucontext_t *uc)
{
	u64 all = ~FAULTS, mask;

	/* With SA_NODEFER it is not blocked even here. */
	sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
	queue_again(sig, si, for_process(si));
	memcpy(&mask, &uc->uc_sigmask, sizeof(mask));
	mask |= own_mask;
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
	tell_guest();
}

/* The client's handler runs under the mask that it would have without the run mask. */
static void mask_as_own(int sig, const struct kernel_action *act)
{
	u64 mask = own_mask | act->mask | (act->flags & SA_NODEFER ? 0 : SIGBIT(sig));

	mask &= ~FAULTS;
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/*
 * What the kernel does where there is no handler. The signal is queued again under SIG_DFL with all
 * it came with; it is blocked until the trampoline returns to the place of the fault, so the core
 * shows that place. Should a sandbox forbid the queueing, a fault repeats itself.
 */
static void default_action(int sig, siginfo_t *si)
{
	struct kernel_action dfl = {.handler = (void *)SIG_DFL};

	kernel_sigaction(sig, &dfl, NULL);
	note_plain(sig, !is_fault(sig));
	queue_again(sig, si, false);
}

/* Returns false when another thread has used up the one call that SA_RESETHAND grants. */
static bool reset_hand(int sig, const struct kernel_action *seen)
{
	struct kernel_action dfl = {.handler = (void *)SIG_DFL, .restorer = (void *)uapi_restore};
	u64 mask = table_lock();
	bool first = table[sig].client.handler == seen->handler;

	if (first)
		table_write(sig, &dfl);
	table_unlock(mask);
	return first;
}

/* The kernel's disposition that leads to the trampoline under the client's terms. */
static int kernel_handler(int sig, struct kernel_action act)
{
	act.handler = is_fault(sig) ? (void *)fault_trampoline : (void *)trampoline;
	act.flags |= SA_SIGINFO | SA_RESTORER;
	act.restorer = (void *)uapi_restore;
	act.mask &= ~FAULTS;
	return (int)kernel_sigaction(sig, &act, NULL);
}

static void trampoline(int sig, siginfo_t *si, void *uc)
{
	struct kernel_action act = table_read(sig);

	if (act.handler == (void *)SIG_IGN)
		return;
	if (run_masked && own_mask & SIGBIT(sig)) {
		/* The kernel has used up the one call, which is still to come. */
		if (act.flags & SA_RESETHAND)
			kernel_handler(sig, act);
		defer(sig, si, uc);
		return;
	}
	/* Another thread changed the disposition while this signal was on its way. */
	if (act.handler == (void *)SIG_DFL ||
	    (act.flags & SA_RESETHAND && !reset_hand(sig, &act))) {
		default_action(sig, si);
		return;
	}
	if (run_masked)
		mask_as_own(sig, &act);
	call_client(&act, sig, si, uc);
}

static bool fault_is_ours(int sig, siginfo_t *si, ucontext_t *uc)
{
	int i;

	/* A signal that somebody sent is not a fault. */
	if (si->si_code <= 0)
		return false;
	if ((sig == SIGSEGV || sig == SIGBUS) && av_guard_fault(uc))
		return true;
	for (i = 0; i < MAX_HOOKS; i++) {
		uapi_fault_fn *hook = LOAD_ACQUIRE(hooks[i]);

		if (hook && hook(sig, si, uc))
			return true;
	}
	return false;
}

static void fault_trampoline(int sig, siginfo_t *si, void *uc)
{
	struct kernel_action act;
	int saved = errno;

	if (fault_is_ours(sig, si, uc)) {
		errno = saved;
		return;
	}
	errno = saved;
	act = table_read(sig);
	/* The kernel lets nobody ignore a fault, only a signal of that number that was sent. */
	if (act.handler == (void *)SIG_IGN && si->si_code <= 0)
		return;
	if (!is_handler(&act) || (act.flags & SA_RESETHAND && !reset_hand(sig, &act))) {
		default_action(sig, si);
		return;
	}
	call_client(&act, sig, si, uc);
}

/* ---- dispositions ---- */

/* Lock held. Tells the kernel what the table's row for sig comes to. */
static int install(int sig)
{
	struct kernel_action act = table[sig].client;

	if (is_fault(sig)) {
		act.flags = is_handler(&act) ? act.flags & ~(u64)SA_RESETHAND : SA_ONSTACK;
		return kernel_handler(sig, act);
	}
	note_plain(sig, act.handler == (void *)SIG_DFL);
	if (is_handler(&act))
		return kernel_handler(sig, act);
	return (int)kernel_sigaction(sig, &act, NULL);
}

static int add_hook(uapi_fault_fn *hook)
{
	int i;

	for (i = 0; hook && i < MAX_HOOKS; i++) {
		if (!hooks[i])
			STORE_RELEASE(hooks[i], hook);
		if (hooks[i] == hook)
			return 0;
	}
	return hook ? -ENOSPC : 0;
}

static int install_all(void)
{
	struct kernel_action act;
	int sig, err = 0;

	for (sig = 1; sig < NR_SIGS; sig++) {
		if (SIGBIT(sig) & (LIBC_SIGS | UNBLOCKABLE))
			continue;
		err = (int)kernel_sigaction(sig, NULL, &act);
		if (err)
			return err;
		table_write(sig, &act);
		note_plain(sig, !is_fault(sig) && act.handler == (void *)SIG_DFL);
	}
	for (sig = 1; sig < NR_SIGS && !err; sig++) {
		if (SIGBIT(sig) & (LIBC_SIGS | UNBLOCKABLE))
			continue;
		if (is_fault(sig) || is_handler(&table[sig].client))
			err = install(sig);
	}
	return err;
}

int uapi_signals_init(uapi_fault_fn *hook)
{
	u64 mask = table_lock();
	int err = add_hook(hook);

	if (!err && !installed) {
		err = install_all();
		if (!err)
			STORE_RELEASE(installed, 1);
	}
	table_unlock(mask);
	return err;
}

static void from_libc(const struct sigaction *sa, struct kernel_action *act)
{
	*act = (struct kernel_action){.handler = (void *)sa->sa_handler,
				      .flags = (u32)sa->sa_flags | SA_RESTORER,
				      .restorer = (void *)uapi_restore};
	memcpy(&act->mask, &sa->sa_mask, sizeof(act->mask));
	act->mask &= ~UNBLOCKABLE;
}

static void to_libc(const struct kernel_action *act, struct sigaction *sa)
{
	memset(sa, 0, sizeof(*sa));
	sa->sa_handler = (void (*)(int))act->handler;
	sa->sa_flags = (int)act->flags;
	sa->sa_restorer = (void (*)(void))act->restorer;
	memcpy(&sa->sa_mask, &act->mask, sizeof(act->mask));
}

int uapi_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct kernel_action new, before = {0};
	u64 mask;
	int err = 0;

	if (sig < 1 || sig >= NR_SIGS || SIGBIT(sig) & LIBC_SIGS)
		return -EINVAL;
	if (act && SIGBIT(sig) & UNBLOCKABLE)
		return -EINVAL;
	if (act)
		from_libc(act, &new);
	if (!LOAD_ACQUIRE(installed) || SIGBIT(sig) & UNBLOCKABLE) {
		err = (int)kernel_sigaction(sig, act ? &new : NULL, &before);
		if (!err && old)
			to_libc(&before, old);
		/* Trampolines that were installed meanwhile must not be lost. */
		if (err || !act || !LOAD_ACQUIRE(installed))
			return err;
		old = NULL;
	}
	mask = table_lock();
	before = table[sig].client;
	if (act) {
		table_write(sig, &new);
		err = install(sig);
		if (err)
			table_write(sig, &before);
	}
	table_unlock(mask);
	if (!err && old)
		to_libc(&before, old);
	return err;
}

/* ---- masks ---- */

void uapi_signals_interposed(void)
{
	interposed = true;
}

static void unblock_faults(void)
{
	u64 faults = FAULTS, old = 0;

	if (likely(faults_unblocked))
		return;
	sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &faults, &old, sizeof(old));
	hidden_blocked |= old & FAULTS;
	faults_unblocked = true;
}

bool uapi_faults_caught(void)
{
	/* Where the client's sigaction does not come here, nothing tells whether our handlers still
	 * stand. */
	if (!LOAD_ACQUIRE(installed) || !interposed)
		return false;
	unblock_faults();
	return true;
}

int uapi_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	u64 new = 0, before = 0, hidden = hidden_blocked;
	bool strip = LOAD_ACQUIRE(installed);
	long err;

	if (set) {
		memcpy(&new, set, sizeof(new));
		if (how != SIG_UNBLOCK)
			new &= ~LIBC_SIGS;
		if (strip && how == SIG_BLOCK)
			hidden |= new &FAULTS;
		else if (how == SIG_UNBLOCK)
			hidden &= ~new;
		else if (how == SIG_SETMASK)
			hidden = strip ? new &FAULTS : 0;
		if (strip && how != SIG_UNBLOCK)
			new &= ~FAULTS;
	}
	err = sys(SYS_rt_sigprocmask, how, set ? &new : NULL, &before, sizeof(new));
	if (err)
		return (int)err;
	before |= hidden_blocked;
	hidden_blocked = hidden;
	if (old) {
		memset(old, 0, sizeof(*old));
		memcpy(old, &before, sizeof(before));
	}
	return 0;
}

/* ---- run masks ---- */

/* The trampoline for signals that have no handler. What happens elsewhere stays the default action.
 */
static void catch_defaults(u64 sigs)
{
	u64 mask = table_lock();
	int sig;

	sigs &= plain_default;
	for (sig = 1; sig < NR_SIGS; sig++) {
		struct kernel_action act = {.flags = SA_RESTART};

		if (sigs & SIGBIT(sig) && !kernel_handler(sig, act))
			note_plain(sig, false);
	}
	table_unlock(mask);
}

bool uapi_run_mask_enter(u64 run)
{
	u64 own = 0, pending = 0, bare;

	run &= ~FAULTS;
	sys(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &own, sizeof(own));
	bare = own & ~run & __atomic_load_n(&plain_default, __ATOMIC_SEQ_CST);
	if (unlikely(bare) && interposed)
		catch_defaults(bare);
	sys(SYS_rt_sigpending, &pending, sizeof(pending));
	if (pending & ~run)
		return false;
	own_mask = own;
	run_masked = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &run, NULL, sizeof(run));
	return true;
}

void uapi_run_mask_leave(void)
{
	/* Whatever this lets through is not blocked by the thread's own mask, so the trampoline's
	 * choice is right on either side of it. */
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &own_mask, NULL, sizeof(own_mask));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	run_masked = false;
}

/* ---- guests ---- */

void uapi_thread_enter(void (*after)(void *arg), void *arg)
{
	if (LOAD_ACQUIRE(installed))
		unblock_faults();
	guest_arg = arg;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guest_after = after;
	uapi_cancel_watch(after, arg);
}

void uapi_thread_leave(void)
{
	uapi_cancel_unwatch();
	guest_after = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}
