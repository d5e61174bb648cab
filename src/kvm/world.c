// SPDX-License-Identifier: MIT
/*
 * How a VM's vCPUs are woken, interrupted, made to drop translations and stopped.
 *
 * Knows the request bits of cpu/x86 and the futex words; must not know why somebody wants a flush.
 *
 * Translations. A vCPU may use translations only while cpu->in_guest is 1. x86_run() stores
 * in_guest = 1 and then loads cpu->req; whoever changes the world sets a bit in cpu->req and then
 * loads in_guest. All four are sequentially consistent, so at least one side sees the other: either
 * the requester sees a vCPU inside and waits, or the vCPU sees the request before its first guest
 * instruction and serves it. A vCPU found outside therefore needs no waiting.
 *
 * The acknowledgement is the request bit itself: x86_serve_requests() clears the bits it takes in
 * one atomic step, between two guest instructions, and drops (or pauses) before it executes the
 * next one. "Bit clear" thus means that no guest access with an older translation is under way or
 * will be made. flush_ack is only the word to sleep on; x86_run() changes it after each service and
 * when it leaves the guest with an unserved request. A count would not do: the acknowledgement of
 * an earlier request may arrive after ours was made.
 *
 * Cycles. vCPUs may wait for each other (both purge), so a waiting vCPU serves requests to itself.
 * It does so after posting its own and each time it wakes, but nobody wakes it for a request to
 * itself; hence its sleeps are short. Without the limit three vCPUs could wait in a ring: A sleeps
 * on P, P is paused for S, S waits for A.
 */
#include "kvm/vcpu_priv.h"

#include "base/futex.h"

#include <errno.h>
#include <limits.h>

/* Polls of a vCPU that answers at its next instruction boundary, before sleeping. */
#define SPINS	       200
#define SHORT_SLEEP_NS 100000

static void cpu_relax(void)
{
	__builtin_ia32_pause();
}

static bool answered(struct x86_cpu *c, u32 bit)
{
	return !__atomic_load_n(&c->in_guest, __ATOMIC_SEQ_CST) ||
	       !(__atomic_load_n(&c->req, __ATOMIC_SEQ_CST) & bit);
}

/* Waits until c has taken bit or is outside. self: the CPU of the calling vCPU thread with its
 * server, or NULL elsewhere. */
static void wait_answer(struct x86_cpu *c, u32 bit, void (*serve)(void *cpu), void *self)
{
	for (u32 i = 0; !answered(c, bit); i++) {
		u32 ack = LOAD_ACQUIRE(c->flush_ack);

		if (self)
			serve(self);
		if (i < SPINS) {
			cpu_relax();
			continue;
		}
		/* flush_ack was read before this check, so an answer after it makes the wait return
		 * at once. */
		if (answered(c, bit))
			break;
		av_futex_wait(&c->flush_ack, ack,
			      self ? av_now_ns() + SHORT_SLEEP_NS : AV_NO_DEADLINE);
	}
}

/* To all vCPUs but self; requests are posted to all before the first is waited for. */
static void request_and_wait(struct kvm_vm *vm, struct kvm_vcpu *self, u32 bit,
			     void (*serve)(void *cpu), void *self_cpu)
{
	u32 n = LOAD_ACQUIRE(vm->nr_vcpus);
	bool inside = false;

	for (u32 i = 0; i < n; i++)
		if (vm->vcpus[i] != self)
			x86_request(vm->vcpus[i]->cpu, bit);
	for (u32 i = 0; i < n; i++)
		inside |= vm->vcpus[i] != self && !answered(vm->vcpus[i]->cpu, bit);
	__atomic_fetch_add(&vm->remote_tlb_flush_requests, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&vm->remote_tlb_flush, inside, __ATOMIC_RELAXED);
	for (u32 i = 0; i < n; i++)
		if (vm->vcpus[i] != self)
			wait_answer(vm->vcpus[i]->cpu, bit, serve, self_cpu);
}

void kvm_flush_vcpus(struct kvm_vm *vm)
{
	request_and_wait(vm, NULL, X86_REQ_FLUSH, NULL, NULL);
}

void kvm_purge_vcpus(struct kvm_vm *vm)
{
	request_and_wait(vm, NULL, X86_REQ_PURGE, NULL, NULL);
}

void kvm_op_purge_writes(void *m, u8 *host_page, void (*serve)(void *cpu), void *cpu)
{
	struct kvm_vcpu *v = m;

	request_and_wait(v->vm, v, X86_REQ_PURGE, serve, cpu);
}

/*
 * Two rounds. x86_serve_requests() waits in a loop for pause_word to become 0, and a vCPU stopped
 * just before may not have looked yet: were the word 1 again, it would stay in that loop, with the
 * new request unserved for ever. The first round, made while the word is 0, is answered only from
 * behind the loop. Nor can a bit left over from an earlier stop bring a vCPU there: resuming clears
 * them all.
 */
void kvm_op_world_stop(void *m, void (*serve)(void *cpu), void *cpu)
{
	struct kvm_vcpu *v = m;
	struct kvm_vm *vm = v->vm;

	/* Another stopper waits for this vCPU too: serving lets it finish. */
	for (u32 i = 0; pthread_mutex_trylock(&vm->world_lock); i++) {
		serve(cpu);
		if (i < SPINS)
			cpu_relax();
		else
			av_futex_wait(&vm->pause_word, 1, av_now_ns() + SHORT_SLEEP_NS);
	}
	request_and_wait(vm, v, X86_REQ_PURGE, serve, cpu);
	__atomic_store_n(&vm->pause_word, 1, __ATOMIC_SEQ_CST);
	request_and_wait(vm, v, X86_REQ_PAUSE, serve, cpu);
}

void kvm_op_world_resume(void *m)
{
	struct kvm_vcpu *v = m;
	struct kvm_vm *vm = v->vm;
	u32 n = LOAD_ACQUIRE(vm->nr_vcpus);

	__atomic_store_n(&vm->pause_word, 0, __ATOMIC_SEQ_CST);
	av_futex_wake(&vm->pause_word, INT_MAX);
	/* Those that were outside have not taken theirs. */
	for (u32 i = 0; i < n; i++)
		x86_unrequest(vm->vcpus[i]->cpu, X86_REQ_PAUSE);
	pthread_mutex_unlock(&vm->world_lock);
}

/* ---- sleeping and waking ---- */

/*
 * v->halted is stored before the reasons to stay awake are looked at; a waker changes a reason and
 * then looks at v->halted (again Dekker's pair). Either the sleeper sees the reason, or the waker
 * sees the sleeper and clears the word, on which the futex then does not sleep or is woken. A
 * signal's handler runs on this very thread and does what any waker does.
 */
void kvm_vcpu_sleep(struct kvm_vcpu *v, u32 todo, bool (*ready)(struct kvm_vcpu *v))
{
	u64 start = av_now_ns();

	for (;;) {
		__atomic_store_n(&v->halted, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&v->todo, __ATOMIC_SEQ_CST) & todo || (ready && ready(v)))
			break;
		av_futex_wait(&v->halted, 1, AV_NO_DEADLINE);
		/* Woken for good, or the handler of a signal cleared it; still 1 after a spurious
		 * return. */
		if (!__atomic_load_n(&v->halted, __ATOMIC_SEQ_CST))
			break;
	}
	__atomic_store_n(&v->halted, 0, __ATOMIC_SEQ_CST);
	v->halt_ns += av_now_ns() - start;
}

void kvm_vcpu_kick(struct kvm_vcpu *v)
{
	/* Only work that needs the run loop makes a running vCPU leave; an interrupt is seen by
	 * X86_REQ_EVENT alone. */
	if (__atomic_load_n(&v->todo, __ATOMIC_SEQ_CST))
		x86_request(v->cpu, X86_REQ_OUT);
	if (__atomic_load_n(&v->halted, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&v->halted, 0, __ATOMIC_SEQ_CST))
		av_futex_wake(&v->halted, 1);
}

int kvm_vcpu_kick_fd(int fd)
{
	struct uapi_object *obj = uapi_get(fd);
	struct kvm_vcpu *v;

	if (!obj)
		return -EBADF;
	if (obj->type != &kvm_vcpu_type) {
		uapi_put(obj);
		return -EINVAL;
	}
	v = to_vcpu(obj);
	__atomic_fetch_or(&v->todo, KVM_TODO_KICK, __ATOMIC_SEQ_CST);
	kvm_vcpu_kick(v);
	uapi_put(obj);
	return 0;
}
