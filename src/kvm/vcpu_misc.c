// SPDX-License-Identifier: MIT
/*
 * A vCPU's remaining controls: signal mask, TSC, debugging by the VMM, per-vCPU capabilities and
 * attributes.
 */
#include "kvm/vcpu_priv.h"

#include "base/futex.h"

#include <errno.h>
#include <string.h>

/* ---- signal mask ---- */

KVM_VCPU_OP(kvm_op_set_signal_mask)
{
	struct kvm_signal_mask head;
	u64 mask;

	if (!arg->value) {
		v->sigmask_set = false;
		return 0;
	}
	if (uapi_copy_in(&head, arg->value, sizeof(head)))
		return -EFAULT;
	if (head.len != sizeof(mask))
		return -EINVAL;
	if (uapi_copy_in(&mask, arg->value + offsetof(struct kvm_signal_mask, sigset),
			 sizeof(mask)))
		return -EFAULT;
	v->sigmask = mask & ~(BIT64(SIGKILL - 1) | BIT64(SIGSTOP - 1));
	v->sigmask_set = true;
	return 0;
}

/* ---- time stamp counter ---- */

/* Closer than this to the host's frequency, the guest's TSC is not scaled. */
#define TSC_TOLERANCE_PPM 250
#define TSC_MAX_KHZ	  0x7fffffff

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *v, u32 khz)
{
	u64 host = kvm_host_tsc_khz();
	u64 tolerance = host * TSC_TOLERANCE_PPM / 1000000;

	if (!khz || khz >= TSC_MAX_KHZ)
		return -EINVAL;
	v->tsc_khz = khz;
	if (khz >= host - tolerance && khz <= host + tolerance)
		v->cpu->tsc_ratio = 0;
	else
		v->cpu->tsc_ratio = (u64)(((unsigned __int128)khz << 48) / host);
	if (v->lapic)
		lapic_tsc_changed(v->lapic);
	__atomic_fetch_or(&v->todo, KVM_TODO_CLOCK, __ATOMIC_SEQ_CST);
	return 0;
}

static void set_tsc_offset(struct kvm_vcpu *v, u64 offset)
{
	v->cpu->tsc_offset = offset;
	if (v->lapic)
		lapic_tsc_changed(v->lapic);
	__atomic_fetch_or(&v->todo, KVM_TODO_CLOCK, __ATOMIC_SEQ_CST);
}

/*
 * Each vCPU's TSC is set by an ioctl of its own, some microseconds apart. Values that lie within a
 * second of where the VM's last set TSC would stand now are meant to be the same instant (and 0
 * means a new vCPU): they get the same offset.
 */
static bool meant_to_be_in_step(const struct kvm_vcpu *v, u64 tsc, u64 now)
{
	const struct kvm_vm *vm = v->vm;
	u64 hz = v->tsc_khz * 1000ull;
	u64 expected;

	if (!v->tsc_khz || vm->tsc_sync.khz != v->tsc_khz)
		return false;
	if (!tsc)
		return true;
	expected = vm->tsc_sync.value +
		   (u64)((unsigned __int128)(now - vm->tsc_sync.ns) * v->tsc_khz / 1000000);
	return tsc < expected + hz && tsc + hz > expected;
}

void kvm_vcpu_set_tsc_locked(struct kvm_vcpu *v, u64 tsc)
{
	struct kvm_vm *vm = v->vm;
	u64 now = av_now_ns();

	if (!meant_to_be_in_step(v, tsc, now)) {
		vm->tsc_sync.offset = v->cpu->tsc_offset + (tsc - x86_tsc(v->cpu));
		vm->tsc_sync.value = tsc;
		vm->tsc_sync.ns = now;
		vm->tsc_sync.khz = v->tsc_khz;
	}
	set_tsc_offset(v, vm->tsc_sync.offset);
}

void kvm_vcpu_set_tsc(struct kvm_vcpu *v, u64 tsc)
{
	pthread_mutex_lock(&v->vm->lock);
	kvm_vcpu_set_tsc_locked(v, tsc);
	pthread_mutex_unlock(&v->vm->lock);
}

KVM_VCPU_OP(kvm_op_set_tsc_khz)
{
	u32 khz = (u32)arg->value;

	return kvm_vcpu_set_tsc_khz(v, khz ? khz : kvm_host_tsc_khz());
}

KVM_VCPU_OP(kvm_op_get_tsc_khz)
{
	return v->tsc_khz;
}

KVM_VCPU_OP(kvm_op_kvmclock_ctrl)
{
	return kvm_clock_guest_paused(v);
}

/* ---- attributes ---- */

static int attr_known(const struct kvm_device_attr *attr)
{
	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

KVM_VCPU_OP(kvm_op_has_device_attr)
{
	return attr_known(arg->data);
}

KVM_VCPU_OP(kvm_op_get_device_attr)
{
	const struct kvm_device_attr *attr = arg->data;
	int ret = attr_known(attr);

	return ret ? ret
		   : uapi_copy_out(attr->addr, &v->cpu->tsc_offset, sizeof(v->cpu->tsc_offset));
}

KVM_VCPU_OP(kvm_op_set_device_attr)
{
	const struct kvm_device_attr *attr = arg->data;
	int ret = attr_known(attr);
	struct kvm_vm *vm = v->vm;
	u64 offset;

	if (!ret)
		ret = uapi_copy_in(&offset, attr->addr, sizeof(offset));
	if (ret)
		return ret;
	set_tsc_offset(v, offset);
	pthread_mutex_lock(&vm->lock);
	vm->tsc_sync.offset = offset;
	vm->tsc_sync.value = x86_tsc(v->cpu);
	vm->tsc_sync.ns = av_now_ns();
	vm->tsc_sync.khz = v->tsc_khz;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

/* ---- debugging by the VMM ---- */

KVM_VCPU_OP(kvm_op_set_guest_debug)
{
	const struct kvm_guest_debug *in = arg->data;
	struct x86_cpu *cpu = v->cpu;

	if (in->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (kvm_exception_queued(v))
			return -EBUSY;
		kvm_queue_exception(v, in->control & KVM_GUESTDBG_INJECT_DB ? X86_DB : X86_BP,
				    false, 0);
	}
	cpu->guest_debug = in->control & KVM_GUESTDBG_ENABLE ? in->control : 0;
	if (cpu->guest_debug & KVM_GUESTDBG_USE_HW_BP) {
		memcpy(cpu->guest_dr, in->arch.debugreg, sizeof(cpu->guest_dr));
		cpu->guest_dr7 = in->arch.debugreg[7];
	} else {
		cpu->guest_dr7 = 0;
	}
	x86_state_changed(cpu, false);
	return 0;
}

/* ---- capabilities ---- */

KVM_VCPU_OP(kvm_op_enable_cap)
{
	const struct kvm_enable_cap *in = arg->data;

	if (in->flags)
		return -EINVAL;
	if (in->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	v->enforce_pv_cpuid = in->args[0];
	return 0;
}
