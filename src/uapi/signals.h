/* SPDX-License-Identifier: MIT */
/*
 * The process's signals, shared between the client and us.
 *
 * The client's own dispositions are kept in a table here and behave as it set them. While the process has no VM nothing is
 * changed. From the first uapi_signals_init() on, handlers of the client are reached through a trampoline that afterwards tells a thread
 * that is inside a guest that a signal was handled (KVM_RUN then ends with EINTR), and SIGSEGV, SIGBUS and SIGFPE are
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

/* Returns true when the fault was ours and the handler may return. Async-signal-safe. */
typedef bool uapi_fault_fn(int sig, siginfo_t *si, void *ucontext);

/* Installs the trampolines and the hook (a second call with the same hook does nothing). 0 or -errno. */
int uapi_signals_init(uapi_fault_fn *hook);

/* This thread enters/leaves a guest: after(arg) runs on it after each client handler in between. Async-signal-safe. */
void uapi_thread_enter(void (*after)(void *arg), void *arg);
void uapi_thread_leave(void);

/* sigaction(2) as the client means it: reads and writes the table and, where needed, the kernel. 0 or -errno. */
int uapi_sigaction(int sig, const struct sigaction *act, struct sigaction *old);

#endif
