// SPDX-License-Identifier: MIT
/*
 * The vCPU object: how it is made and freed, its file descriptor and its table of ioctls.
 *
 * Must not know what an ioctl does: that is in vcpu_*.c and run.c. Every operation runs under
 * vcpu->lock, taken here and nowhere else, so none can forget it; KVM_RUN holds it for as long as
 * the guest runs, as KVM does.
 */
#include "kvm/binstats.h"

#include "uapi/signals.h"
#include "uapi/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define RUN_BYTES (KVM_AV_RUN_PAGES * PAGE_SIZE)
#define MAX_CPUID 256 /* KVM_MAX_CPUID_ENTRIES */
#define MAX_MSRS  255 /* KVM refuses 256 and more */

_Static_assert(sizeof(struct kvm_run) <= PAGE_SIZE, "kvm_run is one page");

static long under_lock(struct uapi_object *obj, struct uapi_arg *arg,
		       long (*op)(struct kvm_vcpu *v, struct uapi_arg *arg))
{
	struct kvm_vcpu *v = to_vcpu(obj);
	long ret;

	pthread_mutex_lock(&v->lock);
	ret = op(v, arg);
	pthread_mutex_unlock(&v->lock);
	return ret;
}

#define LOCKED(op)                                                                                 \
	static KVM_HANDLER(locked_##op)                                                            \
	{                                                                                          \
		return under_lock(obj, arg, kvm_op_##op);                                          \
	}

LOCKED(run)
LOCKED(get_regs)
LOCKED(set_regs)
LOCKED(get_sregs)
LOCKED(set_sregs)
LOCKED(get_sregs2)
LOCKED(set_sregs2)
LOCKED(get_debugregs)
LOCKED(set_debugregs)
LOCKED(translate)
LOCKED(get_fpu)
LOCKED(set_fpu)
LOCKED(get_xsave)
LOCKED(set_xsave)
LOCKED(get_xcrs)
LOCKED(set_xcrs)
LOCKED(get_events)
LOCKED(set_events)
LOCKED(interrupt)
LOCKED(nmi)
LOCKED(smi)
LOCKED(get_mp_state)
LOCKED(set_mp_state)
LOCKED(get_lapic)
LOCKED(set_lapic)
LOCKED(setup_mce)
LOCKED(set_mce)
LOCKED(tpr_access_reporting)
LOCKED(set_vapic_addr)
LOCKED(get_msrs)
LOCKED(set_msrs)
LOCKED(set_cpuid)
LOCKED(set_cpuid2)
LOCKED(get_cpuid2)
LOCKED(set_signal_mask)
LOCKED(set_tsc_khz)
LOCKED(get_tsc_khz)
LOCKED(kvmclock_ctrl)
LOCKED(set_guest_debug)
LOCKED(enable_cap)
LOCKED(has_device_attr)
LOCKED(get_device_attr)
LOCKED(set_device_attr)
LOCKED(get_stats_fd)

#define IN  UAPI_ARG_IN
#define OUT UAPI_ARG_OUT

static const struct uapi_ioctl vcpu_ioctls[] = {
	UAPI_VALUE(KVM_RUN, locked_run, 0),
	UAPI_STRUCT(KVM_GET_REGS, struct kvm_regs, OUT, locked_get_regs, 0),
	UAPI_STRUCT(KVM_SET_REGS, struct kvm_regs, IN, locked_set_regs, 0),
	UAPI_STRUCT(KVM_GET_SREGS, struct kvm_sregs, OUT, locked_get_sregs, 0),
	UAPI_STRUCT(KVM_SET_SREGS, struct kvm_sregs, IN, locked_set_sregs, 0),
	UAPI_STRUCT(KVM_GET_SREGS2, struct kvm_sregs2, OUT, locked_get_sregs2, 0),
	UAPI_STRUCT(KVM_SET_SREGS2, struct kvm_sregs2, IN, locked_set_sregs2, 0),
	UAPI_STRUCT(KVM_GET_DEBUGREGS, struct kvm_debugregs, OUT, locked_get_debugregs, 0),
	UAPI_STRUCT(KVM_SET_DEBUGREGS, struct kvm_debugregs, IN, locked_set_debugregs, 0),
	UAPI_STRUCT(KVM_TRANSLATE, struct kvm_translation, IN | OUT, locked_translate, 0),
	UAPI_STRUCT(KVM_GET_FPU, struct kvm_fpu, OUT, locked_get_fpu, 0),
	UAPI_STRUCT(KVM_SET_FPU, struct kvm_fpu, IN, locked_set_fpu, 0),
	UAPI_STRUCT(KVM_GET_XSAVE, struct kvm_xsave, OUT, locked_get_xsave, 0),
	UAPI_STRUCT(KVM_SET_XSAVE, struct kvm_xsave, IN, locked_set_xsave, 0),
	/* The image of every feature offered here fits the 4 KiB of the older call (KVM_CAP_XSAVE2
	   says 4096). */
	UAPI_STRUCT(KVM_GET_XSAVE2, struct kvm_xsave, OUT, locked_get_xsave, 0),
	UAPI_STRUCT(KVM_GET_XCRS, struct kvm_xcrs, OUT, locked_get_xcrs, 0),
	UAPI_STRUCT(KVM_SET_XCRS, struct kvm_xcrs, IN, locked_set_xcrs, 0),
	UAPI_STRUCT(KVM_GET_VCPU_EVENTS, struct kvm_vcpu_events, OUT, locked_get_events, 0),
	UAPI_STRUCT(KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events, IN, locked_set_events, 0),
	UAPI_STRUCT(KVM_INTERRUPT, struct kvm_interrupt, IN, locked_interrupt, 0),
	UAPI_VALUE(KVM_NMI, locked_nmi, 0),
	UAPI_VALUE(KVM_SMI, locked_smi, 0),
	UAPI_STRUCT(KVM_GET_MP_STATE, struct kvm_mp_state, OUT, locked_get_mp_state, 0),
	UAPI_STRUCT(KVM_SET_MP_STATE, struct kvm_mp_state, IN, locked_set_mp_state, 0),
	UAPI_STRUCT(KVM_GET_LAPIC, struct kvm_lapic_state, OUT, locked_get_lapic, 0),
	/* Without a local APIC the argument is not looked at. */
	UAPI_VALUE(KVM_SET_LAPIC, locked_set_lapic, 0),
	UAPI_STRUCT(KVM_X86_SETUP_MCE, u64, IN, locked_setup_mce, 0),
	UAPI_STRUCT(KVM_X86_SET_MCE, struct kvm_x86_mce, IN, locked_set_mce, 0),
	UAPI_STRUCT(KVM_TPR_ACCESS_REPORTING, struct kvm_tpr_access_ctl, IN | OUT,
		    locked_tpr_access_reporting, 0),
	UAPI_VALUE(KVM_SET_VAPIC_ADDR, locked_set_vapic_addr, 0),
	UAPI_TAIL(KVM_GET_MSRS, struct kvm_msrs, nmsrs, struct kvm_msr_entry, MAX_MSRS, -E2BIG,
		  IN | OUT, locked_get_msrs, 0),
	UAPI_TAIL(KVM_SET_MSRS, struct kvm_msrs, nmsrs, struct kvm_msr_entry, MAX_MSRS, -E2BIG, IN,
		  locked_set_msrs, 0),
	UAPI_TAIL(KVM_SET_CPUID, struct kvm_cpuid, nent, struct kvm_cpuid_entry, MAX_CPUID, -E2BIG,
		  IN, locked_set_cpuid, 0),
	UAPI_TAIL(KVM_SET_CPUID2, struct kvm_cpuid2, nent, struct kvm_cpuid_entry2, MAX_CPUID,
		  -E2BIG, IN, locked_set_cpuid2, 0),
	/* Room for any number of entries is welcome and none is read: the handler copies out
	   itself. */
	UAPI_VALUE(KVM_GET_CPUID2, locked_get_cpuid2, 0),
	/* A null pointer means "no mask". */
	UAPI_VALUE(KVM_SET_SIGNAL_MASK, locked_set_signal_mask, 0),
	UAPI_VALUE(KVM_SET_TSC_KHZ, locked_set_tsc_khz, 0),
	UAPI_VALUE(KVM_GET_TSC_KHZ, locked_get_tsc_khz, 0),
	UAPI_VALUE(KVM_KVMCLOCK_CTRL, locked_kvmclock_ctrl, 0),
	UAPI_STRUCT(KVM_SET_GUEST_DEBUG, struct kvm_guest_debug, IN, locked_set_guest_debug, 0),
	UAPI_STRUCT(KVM_ENABLE_CAP, struct kvm_enable_cap, IN, locked_enable_cap, 0),
	UAPI_STRUCT(KVM_HAS_DEVICE_ATTR, struct kvm_device_attr, IN, locked_has_device_attr, 0),
	UAPI_STRUCT(KVM_GET_DEVICE_ATTR, struct kvm_device_attr, IN, locked_get_device_attr, 0),
	UAPI_STRUCT(KVM_SET_DEVICE_ATTR, struct kvm_device_attr, IN, locked_set_device_attr, 0),
	UAPI_VALUE(KVM_GET_STATS_FD, locked_get_stats_fd, 0),
};

/* The last fd is gone; the vCPU itself stays with its VM, whose other vCPUs may look at it without
 * a lock. */
static void vcpu_release(struct uapi_object *obj)
{
	uapi_put(&to_vcpu(obj)->vm->obj);
}

const struct uapi_type kvm_vcpu_type = {
	.name = "kvm-vcpu",
	.ioctls = vcpu_ioctls,
	.nr_ioctls = ARRAY_SIZE(vcpu_ioctls),
	.release = vcpu_release,
};

struct kvm_vcpu *kvm_vcpu_by_id(struct kvm_vm *vm, u32 id)
{
	u32 n = LOAD_ACQUIRE(vm->nr_vcpus);

	/* Nearly every VMM numbers its vCPUs in the order of their making. */
	if (id < n && vm->vcpus[id]->id == id)
		return vm->vcpus[id];
	for (u32 i = 0; i < n; i++)
		if (vm->vcpus[i]->id == id)
			return vm->vcpus[i];
	return NULL;
}

void kvm_vcpu_destroy(struct kvm_vcpu *v)
{
	if (v->cpu) {
		kvm_stats_end(v->cpu);
		x86_destroy(v->cpu);
	}
	if (v->lapic)
		lapic_destroy(v->lapic);
	if (v->run)
		munmap(v->run, RUN_BYTES);
	free(v->cpuid);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* The engine touches guest memory and runs guest instructions on the host; what faults there is the
 * guest's or the VMM's. */
static bool engine_fault(int sig, siginfo_t *si, void *ucontext)
{
	return x86_signal(sig, si, ucontext);
}

/* Power-up state as KVM leaves it for a new vCPU. */
static int vcpu_init(struct kvm_vcpu *v, struct kvm_vm *vm, u32 id)
{
	bool bsp = id == vm->bsp_id;
	int ret;

	v->vm = vm;
	v->id = id;
	ret = x86_create(&kvm_machine_ops, v, &vm->epoch, vm->code, &v->cpu);
	if (ret)
		return ret;
	v->cpu->index = id;
	kvm_stats_add(v->cpu);
	v->cpu->policy = vm->policy;
	v->cpu->pause_word = &vm->pause_word;
	v->cpu->msr.arch_capabilities = kvm_arch_capabilities();
	v->cpu->msr.ucode_rev = kvm_ucode_rev();
	v->cpu->msr.mcg_cap = KVM_AV_MCE_BANKS;
	v->apic_base_noirqchip = LAPIC_DEFAULT_BASE | BIT(11) | (bsp ? BIT(8) : 0);
	v->poll_control_msr = 1;
	v->mp_state = KVM_MP_STATE_RUNNABLE;
	v->cpu->user_lapic = !kvm_irqchip_in_kernel(vm);
	/* Before there is a LAPIC: its timer would ask for the TSC of a vCPU that is not listed
	 * yet. */
	ret = kvm_vcpu_set_tsc_khz(v, vm->tsc_khz ? vm->tsc_khz : kvm_host_tsc_khz());
	if (ret)
		return ret;
	kvm_vcpu_set_tsc_locked(v, 0);
	if (v->cpu->user_lapic)
		return 0;
	if (!bsp)
		v->mp_state = KVM_MP_STATE_UNINITIALIZED;
	return lapic_create(vm->ic, id, bsp, &v->lapic);
}

int kvm_vcpu_create_fd(struct kvm_vm *vm, u32 id)
{
	struct kvm_vcpu *v;
	void *pages;
	int fd, ret;

	if (id >= KVM_AV_MAX_VCPU_IDS || vm->nr_vcpus >= KVM_AV_MAX_VCPUS)
		return -EINVAL;
	if (kvm_vcpu_by_id(vm, id))
		return -EEXIST;
	ret = uapi_signals_init(engine_fault);
	if (ret)
		return ret;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	pthread_mutex_init(&v->lock, NULL);
	ret = vcpu_init(v, vm, id);
	if (ret)
		goto fail;

	/* From here on the fd's end runs vcpu_release(), which drops this reference. */
	uapi_hold(&vm->obj);
	fd = uapi_object_open(&v->obj, &kvm_vcpu_type, RUN_BYTES);
	if (fd < 0) {
		uapi_put(&vm->obj);
		ret = fd;
		goto fail;
	}
	ret = uapi_object_map(fd, RUN_BYTES, &pages);
	if (ret) {
		/* The last reference's release() drops the VM; the vCPU was never listed there and
		 * is freed here. */
		uapi_fd_closing(fd);
		sys(SYS_close, fd);
		uapi_put(&v->obj);
		goto fail;
	}
	v->run = pages;
	v->cpu->pio_data = (u8 *)pages + PAGE_SIZE;
	if (!vm->ring)
		vm->ring = (void *)((u8 *)pages + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE);
	vm->vcpus[vm->nr_vcpus] = v;
	STORE_RELEASE(vm->nr_vcpus, vm->nr_vcpus + 1);
	uapi_put(&v->obj);
	return fd;
fail:
	kvm_vcpu_destroy(v);
	return ret;
}
