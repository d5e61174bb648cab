// SPDX-License-Identifier: MIT
/*
 * The signal family: every libc way to set a disposition or a mask ends in uapi/signals.h.
 *
 * The semantics of the older names are those of signal(3), sysv_signal(3), sigset(3) and
 * siginterrupt(3).
 */
#include "shim_priv.h"
#include "uapi/cancel.h"
#include "uapi/signals.h"

#include <signal.h>
#include <string.h>

typedef void handler(int);

/* Names that the headers declare only for other feature sets, or as macros. */
handler *bsd_signal(int sig, handler *h);
handler *ssignal(int sig, handler *h);
handler *__sysv_signal(int sig, handler *h);
#undef sigmask

/* Signals for which siginterrupt(sig, 1) is in force. */
static u64 interrupting;

static u64 bit(int sig)
{
	return BIT64(sig - 1);
}

static int result(int err)
{
	return (int)shim_ret(err);
}

static bool valid(int sig)
{
	return sig >= 1 && sig <= 64;
}

AV_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return result(uapi_sigaction(sig, act, old));
}
SHIM_ALIAS(__sigaction, sigaction);

static handler *set_handler(int sig, const struct sigaction *act)
{
	struct sigaction old;

	if (act->sa_handler == SIG_ERR)
		return shim_ret(-EINVAL) ? SIG_ERR : NULL;
	return result(uapi_sigaction(sig, act, &old)) ? SIG_ERR : old.sa_handler;
}

AV_EXPORT handler *signal(int sig, handler *h)
{
	struct sigaction act = {.sa_handler = h};

	if (!valid(sig))
		return set_handler(0, &act);
	sigaddset(&act.sa_mask, sig);
	if (!(READ_ONCE(interrupting) & bit(sig)))
		act.sa_flags = SA_RESTART;
	return set_handler(sig, &act);
}
SHIM_ALIAS(bsd_signal, signal);
SHIM_ALIAS(ssignal, signal);

AV_EXPORT handler *__sysv_signal(int sig, handler *h)
{
	struct sigaction act = {.sa_handler = h, .sa_flags = SA_RESETHAND | SA_NODEFER};

	return set_handler(sig, &act);
}
SHIM_ALIAS(sysv_signal, __sysv_signal);

AV_EXPORT int siginterrupt(int sig, int on)
{
	struct sigaction act;
	int err = uapi_sigaction(sig, NULL, &act);

	if (err)
		return result(err);
	if (on) {
		__atomic_fetch_or(&interrupting, bit(sig), __ATOMIC_SEQ_CST);
		act.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~bit(sig), __ATOMIC_SEQ_CST);
		act.sa_flags |= SA_RESTART;
	}
	return result(uapi_sigaction(sig, &act, NULL));
}

AV_EXPORT int sigignore(int sig)
{
	struct sigaction act = {.sa_handler = SIG_IGN};

	return result(uapi_sigaction(sig, &act, NULL));
}

static int mask_one(int how, int sig, sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	if (!valid(sig))
		return -EINVAL;
	sigaddset(&set, sig);
	return uapi_sigmask(how, &set, old);
}

AV_EXPORT handler *sigset(int sig, handler *h)
{
	struct sigaction act = {.sa_handler = h}, before;
	bool hold = h == SIG_HOLD;
	sigset_t old;
	int err;

	if (h == SIG_ERR)
		return shim_ret(-EINVAL) ? SIG_ERR : NULL;
	err = mask_one(hold ? SIG_BLOCK : SIG_UNBLOCK, sig, &old);
	if (!err)
		err = uapi_sigaction(sig, hold ? NULL : &act, &before);
	if (err)
		return result(err) ? SIG_ERR : NULL;
	return sigismember(&old, sig) ? SIG_HOLD : before.sa_handler;
}

AV_EXPORT int sighold(int sig)
{
	return result(mask_one(SIG_BLOCK, sig, NULL));
}

AV_EXPORT int sigrelse(int sig)
{
	return result(mask_one(SIG_UNBLOCK, sig, NULL));
}

AV_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return result(uapi_sigmask(how, set, old));
}

AV_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return -uapi_sigmask(how, set, old);
}

/* Without a `next` there is nothing to cancel with: libpthread is not there yet, nor are threads. */
AV_EXPORT int pthread_cancel(pthread_t thread)
{
	return shim_next.pthread_cancel ? uapi_thread_cancel(thread, shim_next.pthread_cancel) :
					  ESRCH;
}

/* The BSD masks: an int with a bit for each of the first 32 signals. */
static int bsd_mask(int how, int mask)
{
	sigset_t set, old;
	u32 first;
	int err;

	sigemptyset(&set);
	memcpy(&set, &mask, sizeof(mask));
	err = uapi_sigmask(how, &set, &old);
	memcpy(&first, &old, sizeof(first));
	return err ? result(err) : (int)first;
}

AV_EXPORT int sigblock(int mask)
{
	return bsd_mask(SIG_BLOCK, mask);
}

AV_EXPORT int sigsetmask(int mask)
{
	return bsd_mask(SIG_SETMASK, mask);
}

AV_EXPORT int siggetmask(void)
{
	return bsd_mask(SIG_BLOCK, 0);
}
