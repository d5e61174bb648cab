// SPDX-License-Identifier: MIT
/*
 * Steal time: how long a vCPU's thread was ready to run and did not, told to the guest
 * (MSR_KVM_STEAL_TIME).
 *
 * The figure is the host scheduler's run delay of the thread that calls KVM_RUN, from
 * /proc/.../schedstat. The thread reads it itself at each KVM_RUN. During a long run a timer of the
 * VM does, every TICK_NS, and sends the thread to update the record when it has grown.
 *
 * VMMs that put their vCPU threads behind a seccomp filter do not expect open() and pread() there.
 * So the timer thread opens the file, and looks whether the thread is filtered: if so the timer's
 * figure, a tick old at most, is all there is. For the same reason the thread's number is taken
 * from the mutex that it holds.
 *
 * ABI: Linux Documentation/virt/kvm/x86/msr.rst. `preempted` is never set, which the ABI allows.
 */
#include "kvm/steal.h"

#include "base/futex.h"
#include "uapi/sys.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS 50000000ull

_Static_assert(sizeof(struct kvm_steal_time) == 64, "the guest's record");

/* ---- the host's figure ---- */

/* Like snprintf'ed text, or empty. */
static void read_text(int fd, char *text, size_t size)
{
	long n = sys(SYS_pread64, fd, text, size - 1, 0);

	text[n > 0 ? n : 0] = 0;
}

/* The second of the three numbers. False: there is none. */
static bool run_delay(int fd, u64 *ns)
{
	char text[96], *end;

	read_text(fd, text, sizeof(text));
	(void)strtoull(text, &end, 10);
	if (*end != ' ')
		return false;
	*ns = strtoull(end, NULL, 10);
	return true;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool supported;

/* A kernel that keeps no such figures shows a file of zeros; a process that runs has been on a
 * processor. */
static void look(void)
{
	int fd =
		(int)sys(SYS_openat, AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	char text[96];

	if (fd < 0)
		return;
	read_text(fd, text, sizeof(text));
	supported = strtoull(text, NULL, 10) > 0;
	sys(SYS_close, fd);
}

bool kvm_steal_supported(void)
{
	pthread_once(&once, look);
	return supported;
}

/* ---- the thread that runs the vCPU ---- */

static s32 this_thread(struct kvm_vcpu *v)
{
#ifdef __GLIBC__
	s32 tid = v->lock.__data.__owner;

	if (likely(tid))
		return tid;
#endif
	return (s32)sys(SYS_gettid, 0);
}

/* In /proc/PID/status: is there a line "Seccomp:" with another number than 0? */
static bool filtered(s32 tid)
{
	char path[48], text[4096], *line;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	fd = (int)sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	read_text(fd, text, sizeof(text));
	sys(SYS_close, fd);
	line = strstr(text, "\nSeccomp:");
	return line && strtoul(line + strlen("\nSeccomp:"), NULL, 10);
}

static void close_file(struct kvm_vcpu *v)
{
	int fd = __atomic_exchange_n(&v->steal.fd, 0, __ATOMIC_SEQ_CST);

	if (fd)
		sys(SYS_close, fd - 1);
}

/* Timer thread, while the vCPU's thread waits in attach(). */
static void open_file(struct av_timer *t)
{
	struct kvm_vcpu *v = container_of(t, struct kvm_vcpu, steal.opener);
	char path[48];
	int fd;

	close_file(v);
	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", v->steal.tid);
	fd = (int)sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		v->steal.direct = !filtered(v->steal.tid);
		run_delay(fd, &v->steal.seen);
		STORE_RELEASE(v->steal.fd, fd + 1);
	}
	STORE_RELEASE(v->steal.opened, 1);
	av_futex_wake(&v->steal.opened, 1);
}

static void tick(struct av_timer *t);

/* This thread is not the one that the file is about, or there is none yet. */
static void attach(struct kvm_vcpu *v, s32 tid)
{
	bool first = !v->steal.tid;

	v->steal.tid = tid;
	v->steal.seen = 0;
	v->steal.opened = 0;
	av_timer_init(&v->steal.opener, open_file);
	if (av_timer_arm(&v->steal.opener, 0))
		return;
	while (!LOAD_ACQUIRE(v->steal.opened))
		av_futex_wait(&v->steal.opened, 0, AV_NO_DEADLINE);
	/* What another thread waited is no part of the difference to come. */
	v->steal.last = first ? 0 : v->steal.seen;
	if (__atomic_exchange_n(&v->vm->steal_ticking, true, __ATOMIC_SEQ_CST))
		return;
	av_timer_init(&v->vm->steal_timer, tick);
	av_timer_arm(&v->vm->steal_timer, av_now_ns() + TICK_NS);
}

/* ---- the timer ---- */

static void tick(struct av_timer *t)
{
	struct kvm_vm *vm = container_of(t, struct kvm_vm, steal_timer);
	u32 n = LOAD_ACQUIRE(vm->nr_vcpus);

	for (u32 i = 0; i < n; i++) {
		struct kvm_vcpu *v = vm->vcpus[i];
		int fd = LOAD_ACQUIRE(v->steal.fd);
		u64 now;

		/* One that is outside reads for itself when it comes back. */
		if (!fd || !READ_ONCE(v->cpu->in_guest) || !run_delay(fd - 1, &now) ||
		    now == READ_ONCE(v->steal.seen))
			continue;
		WRITE_ONCE(v->steal.seen, now);
		__atomic_fetch_or(&v->todo, KVM_TODO_STEAL, __ATOMIC_SEQ_CST);
		kvm_vcpu_kick(v);
	}
	av_timer_arm(t, av_now_ns() + TICK_NS);
}

/* ---- the guest's record ---- */

static void write_record(struct kvm_vcpu *v, u64 stolen)
{
	u64 user = kvm_guest_struct(v, v->steal_time_msr & KVM_STEAL_VALID_BITS,
				    sizeof(struct kvm_steal_time));
	struct kvm_steal_time st;

	if (!user || uapi_copy_in(&st, user, sizeof(st)))
		return;
	st.preempted = 0;
	st.version = (st.version + 1) | 1;
	if (uapi_copy_out(user + offsetof(struct kvm_steal_time, preempted), &st.preempted,
			  sizeof(st.preempted)) ||
	    uapi_copy_out(user + offsetof(struct kvm_steal_time, version), &st.version,
			  sizeof(st.version)))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	st.steal += stolen;
	if (uapi_copy_out(user, &st.steal, sizeof(st.steal)))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	st.version++;
	/* A page that vanished in between is the VMM's doing. */
	if (uapi_copy_out(user + offsetof(struct kvm_steal_time, version), &st.version,
			  sizeof(st.version)))
		return;
	v->steal.last += stolen;
}

void kvm_steal_update(struct kvm_vcpu *v)
{
	s32 tid = this_thread(v);
	u64 now;
	int fd;

	if (!(v->steal_time_msr & KVM_MSR_ENABLED))
		return;
	if (tid != v->steal.tid)
		attach(v, tid);
	fd = LOAD_ACQUIRE(v->steal.fd);
	if (!fd)
		return;
	now = READ_ONCE(v->steal.seen);
	if (v->steal.direct && run_delay(fd - 1, &now))
		WRITE_ONCE(v->steal.seen, now);
	write_record(v, now > v->steal.last ? now - v->steal.last : 0);
}

int kvm_steal_set_msr(struct kvm_vcpu *v, u64 value)
{
	if (!kvm_steal_supported() || value & KVM_STEAL_RESERVED_MASK)
		return -EINVAL;
	v->steal_time_msr = value;
	if (value & KVM_MSR_ENABLED) {
		__atomic_fetch_or(&v->todo, KVM_TODO_STEAL, __ATOMIC_SEQ_CST);
		kvm_vcpu_kick(v);
	}
	return 0;
}

void kvm_steal_reset(struct kvm_vcpu *v)
{
	v->steal_time_msr = 0;
}

void kvm_steal_destroy(struct kvm_vm *vm)
{
	if (vm->steal_ticking)
		av_timer_cancel(&vm->steal_timer, true);
	for (u32 i = 0; i < vm->nr_vcpus; i++)
		close_file(vm->vcpus[i]);
}
