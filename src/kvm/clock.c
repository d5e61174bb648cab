/* SPDX-License-Identifier: MIT */
/*
 * kvmclock: the VM's nanoseconds, the pages that let guests compute them from their TSC, and the
 * wall clock.
 *
 * One pair (host TSC, kvmclock) per VM is the reference of all its vCPUs, so that equal TSCs give
 * equal times; it changes only by KVM_SET_CLOCK. Everything later is the pair plus TSC ticks at the
 * measured frequency. ABI: Linux Documentation/virt/kvm/x86/msr.rst. What the MSRs' bits mean to
 * CPUID is not known here.
 */
#include "kvm/vm_ioctls.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <time.h>
#include <x86intrin.h>

#define NSEC_PER_SEC	      1000000000ull
#define CALIBRATION_NS	      20000000ull
#define PVCLOCK_TSC_STABLE    BIT(0)
#define PVCLOCK_GUEST_STOPPED BIT(1)

struct pvclock_page {
	u32 version; /* odd while the rest changes */
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags;
	u8 pad[2];
};
_Static_assert(sizeof(struct pvclock_page) == 32, "the guest's layout");

struct wall_clock_page {
	u32 version;
	u32 sec;
	u32 nsec;
};

/* ---- the host's TSC ---- */

/* A TSC value and the raw clock at the same moment: of several readings the one least disturbed. */
static void tsc_and_ns(u64 *tsc, u64 *ns)
{
	u64 before, after, best = UINT64_MAX;
	struct timespec ts;
	int i;

	for (i = 0; i < 16; i++) {
		before = __rdtsc();
		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*tsc = before + best / 2;
		*ns = ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
	}
}

static u32 host_khz;

static void measure(void)
{
	u64 tsc0, tsc1, ns0, ns1;

	tsc_and_ns(&tsc0, &ns0);
	do {
		_mm_pause();
		tsc_and_ns(&tsc1, &ns1);
	} while (ns1 - ns0 < CALIBRATION_NS);
	host_khz = ((unsigned __int128)(tsc1 - tsc0) * 1000000 + (ns1 - ns0) / 2) / (ns1 - ns0);
}

u32 kvm_host_tsc_khz(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, measure);
	return host_khz;
}

/* ---- ticks to nanoseconds ---- */

struct scale {
	u32 mul; /* ns = (ticks << shift) * mul >> 32, with a right shift where shift is negative */
	s8 shift;
};

/* The pair whose multiplier has its top bit set: the most precise one that fits. */
static struct scale scale_of(u64 hz)
{
	struct scale s = {.shift = -16};
	unsigned __int128 mul;

	do {
		s.shift++;
		mul = (((unsigned __int128)NSEC_PER_SEC << (32 - s.shift)) + hz / 2) / hz;
	} while (mul > UINT32_MAX);
	s.mul = mul;
	return s;
}

static u64 scale_ticks(struct scale s, u64 ticks)
{
	ticks = s.shift < 0 ? ticks >> -s.shift : ticks << s.shift;
	return (unsigned __int128)ticks * s.mul >> 32;
}

/* ---- the VM's clock ---- */

static u64 realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static void set_reference(struct kvm_vm *vm, u64 tsc, u64 ns)
{
	pthread_mutex_lock(&vm->clock_lock);
	vm->clock_tsc = tsc;
	vm->clock_ns = ns;
	pthread_mutex_unlock(&vm->clock_lock);
}

static void get_reference(struct kvm_vm *vm, u64 *tsc, u64 *ns)
{
	pthread_mutex_lock(&vm->clock_lock);
	*tsc = vm->clock_tsc;
	*ns = vm->clock_ns;
	pthread_mutex_unlock(&vm->clock_lock);
}

/* A new VM's clock starts at 0. */
void kvm_clock_init(struct kvm_vm *vm)
{
	vm->tsc_khz = kvm_host_tsc_khz();
	set_reference(vm, __rdtsc(), 0);
}

static u64 clock_at(struct kvm_vm *vm, u64 tsc)
{
	u64 tsc0, ns0;

	get_reference(vm, &tsc0, &ns0);
	/* Host CPUs may differ by some ticks: never before the reference. */
	if ((s64)(tsc - tsc0) < 0)
		return ns0;
	return ns0 + scale_ticks(scale_of(kvm_host_tsc_khz() * 1000ull), tsc - tsc0);
}

u64 kvm_clock_ns(struct kvm_vm *vm)
{
	return clock_at(vm, __rdtsc());
}

/*
 * May a guest use one vCPU's page on all vCPUs? Only while their TSCs agree, as KVM has it; and
 * there must be a vCPU. The fields are the vCPUs' own: a change is followed by
 * kvm_clock_request_all().
 */
static bool clock_is_stable(struct kvm_vm *vm)
{
	u32 i, n = LOAD_ACQUIRE(vm->nr_vcpus);
	const struct x86_cpu *first, *c;

	if (!n || READ_ONCE(vm->clock_old_msr))
		return false;
	first = vm->vcpus[0]->cpu;
	for (i = 1; i < n; i++) {
		c = vm->vcpus[i]->cpu;
		if (READ_ONCE(c->tsc_offset) != READ_ONCE(first->tsc_offset) ||
		    READ_ONCE(c->tsc_ratio) != READ_ONCE(first->tsc_ratio))
			return false;
	}
	return true;
}

void kvm_clock_request_all(struct kvm_vm *vm)
{
	u32 i, n = LOAD_ACQUIRE(vm->nr_vcpus);

	for (i = 0; i < n; i++) {
		__atomic_fetch_or(&vm->vcpus[i]->todo, KVM_TODO_CLOCK, __ATOMIC_SEQ_CST);
		kvm_vcpu_kick(vm->vcpus[i]);
	}
}

KVM_VM_IOCTL(kvm_vm_get_clock)
{
	struct kvm_clock_data *out = arg->data;

	*out = (struct kvm_clock_data){0};
	out->host_tsc = __rdtsc();
	out->realtime = realtime_ns();
	out->clock = clock_at(vm, out->host_tsc);
	out->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	if (clock_is_stable(vm))
		out->flags |= KVM_CLOCK_TSC_STABLE;
	return 0;
}

/* With KVM_CLOCK_REALTIME the time since the value was taken is added, but the clock never goes
 * back for it. */
KVM_VM_IOCTL(kvm_vm_set_clock)
{
	const struct kvm_clock_data *in = arg->data;
	u64 tsc = __rdtsc(), now = realtime_ns(), ns = in->clock;

	if (in->flags & ~(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	if (in->flags & KVM_CLOCK_REALTIME && now > in->realtime)
		ns += now - in->realtime;
	set_reference(vm, tsc, ns);
	kvm_clock_request_all(vm);
	return 0;
}

/* ---- what guests see ---- */

u64 kvm_guest_struct(struct kvm_vcpu *v, u64 gpa, u64 size)
{
	const struct mem_slot *s;

	if ((gpa & ~PAGE_MASK) + size > PAGE_SIZE)
		return 0;
	s = mem_find(v->vm->mem, 0, gpa);
	if (!s || s->flags & MEM_READONLY)
		return 0;
	mem_mark_dirty(s, gpa);
	return s->hva + (gpa - s->gpa);
}

static bool epoch_enter(struct kvm_vcpu *v)
{
	if (v->cpu->reader.seen)
		return false;
	av_epoch_online(&v->vm->epoch, &v->cpu->reader);
	return true;
}

static void epoch_leave(struct kvm_vcpu *v, bool entered)
{
	if (entered)
		av_epoch_offline(&v->cpu->reader);
}

void kvm_clock_update(struct kvm_vcpu *v)
{
	const struct x86_cpu *c = v->cpu;
	struct pvclock_page page = {0}, old;
	u64 hz = kvm_host_tsc_khz() * 1000ull, tsc, user;
	struct scale scale;

	if (!(v->system_time_msr & 1))
		return;
	user = kvm_guest_struct(v, v->system_time_msr & ~1ull, sizeof(page));
	if (!user)
		return;
	if (uapi_copy_in(&old, user, sizeof(old)))
		goto gone;
	get_reference(v->vm, &tsc, &page.system_time);
	if (c->tsc_ratio) {
		hz = (unsigned __int128)hz * c->tsc_ratio >> 48;
		tsc = (unsigned __int128)tsc * c->tsc_ratio >> 48;
	}
	if (!hz)
		return;
	scale = scale_of(hz);
	page.tsc_timestamp = tsc + c->tsc_offset;
	page.tsc_to_system_mul = scale.mul;
	page.tsc_shift = scale.shift;
	page.flags = old.flags & PVCLOCK_GUEST_STOPPED;
	if (clock_is_stable(v->vm))
		page.flags |= PVCLOCK_TSC_STABLE;
	if (v->clock_stopped)
		page.flags |= PVCLOCK_GUEST_STOPPED;

	/* Other vCPUs may be reading: odd version, contents, even version. */
	page.version = (old.version + 1) | 1;
	if (uapi_copy_out(user, &page.version, sizeof(page.version)))
		goto gone;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (uapi_copy_out(user, &page, sizeof(page)))
		goto gone;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	page.version++;
	if (uapi_copy_out(user, &page.version, sizeof(page.version)))
		goto gone;
	v->clock_stopped = false;
	return;
gone:
	av_debug("vCPU %u: kvmclock's page at %#llx cannot be reached", v->id,
		 (unsigned long long)v->system_time_msr & ~1ull);
}

int kvm_clock_guest_paused(struct kvm_vcpu *v)
{
	if (!(v->system_time_msr & 1))
		return -EINVAL;
	v->clock_stopped = true;
	__atomic_fetch_or(&v->todo, KVM_TODO_CLOCK, __ATOMIC_SEQ_CST);
	return 0;
}

/* The time of day at which kvmclock was 0. */
static void write_wall_clock(struct kvm_vcpu *v, u64 gpa)
{
	struct wall_clock_page page;
	u64 ns, user = kvm_guest_struct(v, gpa, sizeof(page));

	if (!user || uapi_copy_in(&page, user, sizeof(page)))
		return;
	page.version = (page.version + 1) | 1;
	if (uapi_copy_out(user, &page.version, sizeof(page.version)))
		return;
	ns = realtime_ns() - kvm_clock_ns(v->vm);
	page.sec = ns / NSEC_PER_SEC;
	page.nsec = ns % NSEC_PER_SEC;
	if (uapi_copy_out(user, &page, sizeof(page)))
		return;
	page.version++;
	/* A page that vanished in between is the VMM's doing; the guest then reads no clock at all.
	 */
	if (uapi_copy_out(user, &page.version, sizeof(page.version)))
		av_warn("kvmclock: wall clock page at %#llx went away", (unsigned long long)gpa);
}

int kvm_clock_set_msr(struct kvm_vcpu *v, u32 msr, u64 value)
{
	bool entered;

	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		WRITE_ONCE(v->vm->wall_clock_msr, value);
		if (!value)
			return 0;
		entered = epoch_enter(v);
		write_wall_clock(v, value);
		epoch_leave(v, entered);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		v->system_time_msr = value;
		entered = epoch_enter(v);
		/* Which of the two it uses is the guest's word, not that of a VMM that restores
		 * state. */
		if (!entered && v->id == v->vm->bsp_id)
			WRITE_ONCE(v->vm->clock_old_msr, msr == MSR_KVM_SYSTEM_TIME);
		kvm_clock_update(v);
		epoch_leave(v, entered);
		kvm_clock_request_all(v->vm);
		return 0;
	default:
		return -ENOENT;
	}
}

int kvm_clock_get_msr(struct kvm_vcpu *v, u32 msr, u64 *value)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*value = READ_ONCE(v->vm->wall_clock_msr);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*value = v->system_time_msr;
		return 0;
	default:
		return -ENOENT;
	}
}
