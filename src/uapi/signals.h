/* SPDX-License-Identifier: MIT */
/*
 * The process's signals, shared between the client and us.
 *
 * The client's own dispositions are kept in a table here and behave as it set them. While the process has no VM nothing is
 * changed. From the first uapi_signals_init() on, handlers of the client are reached through a trampoline that afterwards tells a thread
 * that is inside a guest that a signal was handled (KVM_RUN then ends with EINTR), and SIGSEGV, SIGBUS, SIGFPE and SIGILL are
 * first offered to the fault hooks (guest memory without backing, native stubs, guarded copies) and else go to the client's own
 * handler or to the default action.
 *
 * All functions may be called from any thread; those marked so are async-signal-safe. Real system calls are made with syscall(2)
 * numbers, never through the interposed names.
 */
#ifndef AV_UAPI_SIGNALS_H
#define AV_UAPI_SIGNALS_H

#include "base/base.h"

#include <signal.h>

/* What a fault of the processor arrives as; sets of signals as the kernel has them, a bit each. */
#define UAPI_SIGBIT(sig) BIT64((sig)-1)
#define UAPI_FAULT_SIGNALS \
	(UAPI_SIGBIT(SIGSEGV) | UAPI_SIGBIT(SIGBUS) | UAPI_SIGBIT(SIGFPE) | UAPI_SIGBIT(SIGILL))

/* Returns true when the fault was ours and the handler may return. Async-signal-safe. */
typedef bool uapi_fault_fn(int sig, siginfo_t *si, void *ucontext);

/* Installs the trampolines and the hook (a second call with the same hook does nothing). 0 or -errno. */
int uapi_signals_init(uapi_fault_fn *hook);

/*
 * This thread enters/leaves a guest: after(arg) runs on it after each client handler in between, and on any thread that cancels this one
 * (uapi/cancel.h).
 */
void uapi_thread_enter(void (*after)(void *arg), void *arg);
void uapi_thread_leave(void);

/*
 * KVM_SET_SIGNAL_MASK, for a thread inside a guest: it has the mask `run` instead of its own in between. A signal that its own mask blocks
 * then reaches after(), not its handler, and is pending afterwards. false: such a signal is pending already, and nothing has changed.
 */
bool uapi_run_mask_enter(u64 run) __must_check;
void uapi_run_mask_leave(void);

/*
 * pthread_sigmask(3) as the client means it. Once trampolines are installed UAPI_FAULT_SIGNALS never stay blocked in
 * the kernel, where a fault that meets its signal blocked kills the process; the client reads back what it set. -errno.
 */
int uapi_sigmask(int how, const sigset_t *set, sigset_t *old);

/* The shim says so once: the client's sigaction family comes here, so our handlers stay where they were put. */
void uapi_signals_interposed(void);
/* Makes sure that this thread can take fault signals; false while no trampolines are installed. Async-signal-safe. */
bool uapi_faults_caught(void);

/* sigaction(2) as the client means it: reads and writes the table and, where needed, the kernel. 0 or -errno. */
int uapi_sigaction(int sig, const struct sigaction *act, struct sigaction *old);

#endif
