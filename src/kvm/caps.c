/* SPDX-License-Identifier: MIT */
/*
 * Capabilities: one table of what KVM_CHECK_EXTENSION answers and what KVM_ENABLE_CAP turns on.
 *
 * A row that reports something names the test that uses the feature, not merely asks for it. What
 * is not in the table is not there: 0, and -EINVAL to whoever enables it.
 */
#include "kvm/policy.h"
#include "kvm/steal.h"

#include <errno.h>
#include <unistd.h>

#define DIRTY_LOG_MANUAL_CAPS (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)
#define CLOCK_FLAGS	      (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)
/* PAUSE never leaves the guest; HLT without an in-kernel LAPIC always does. */
#define GUESTDBG                                                                                   \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |                  \
	 KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |                \
	 KVM_GUESTDBG_BLOCKIRQ)
#define EXITS	     KVM_X86_DISABLE_EXITS_PAUSE
#define X2APIC_FLAGS (KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)

/* On which fds KVM_CHECK_EXTENSION knows it. */
enum { ON_SYSTEM = BIT(0), ON_VM = BIT(1), ANYWHERE = ON_SYSTEM | ON_VM };

struct capability {
	u16 cap;
	u8 where;
	long value;
	long (*answer)(void); /* instead of value */
	int (*enable)(struct kvm_vm *vm,
		      const __u64 *args); /* KVM_ENABLE_CAP on the VM, under vm->lock */
	const char *test;
};

/* ---- answers that depend on the host ---- */

static long nr_vcpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return MAX(1, MIN(n, KVM_AV_MAX_VCPUS));
}

static long has_xcr0(void)
{
	return x86_host_xcr0() != 0;
}

static long xsave2_size(void)
{
	return MAX(x86_xsave_size(x86_host_xcr0()), sizeof(struct kvm_xsave));
}

static long has_steal_time(void)
{
	return kvm_steal_supported();
}

/* ---- what enabling does ---- */

static int enable_dirty_manual(struct kvm_vm *vm, const __u64 *args)
{
	u64 allowed = args[0] & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
			      ? DIRTY_LOG_MANUAL_CAPS
			      : KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (args[0] & ~allowed)
		return -EINVAL;
	vm->dirty_manual = args[0];
	return 0;
}

/* Both stay on once they are. */
static int enable_x2apic_api(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] & ~(u64)X2APIC_FLAGS)
		return -EINVAL;
	vm->x2apic_api_32bit |= !!(args[0] & KVM_X2APIC_API_USE_32BIT_IDS);
	vm->x2apic_disable_quirk |= !!(args[0] & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	irqchip_set_x2apic_api(vm->ic, vm->x2apic_api_32bit, vm->x2apic_disable_quirk);
	return 0;
}

static int enable_split_irqchip(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] > IRQ_MAX_ROUTES)
		return -EINVAL;
	if (kvm_irqchip_in_kernel(vm) || LOAD_ACQUIRE(vm->nr_vcpus))
		return -EEXIST;
	return irqchip_set_split(vm->ic, args[0]);
}

/* Exits can only be turned off, and stay so. */
static int enable_disable_exits(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] & ~(u64)EXITS)
		return -EINVAL;
	WRITE_ONCE(vm->disabled_exits, vm->disabled_exits | (u32)args[0]);
	return 0;
}

static int enable_exception_payload(struct kvm_vm *vm, const __u64 *args)
{
	vm->exception_payload = args[0];
	return 0;
}

static int enable_triple_fault_event(struct kvm_vm *vm, const __u64 *args)
{
	vm->triple_fault_event = args[0];
	return 0;
}

static int enable_exit_on_emulation_failure(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] & ~1ull)
		return -EINVAL;
	vm->exit_on_emulation_error = args[0];
	return 0;
}

/* Can be set once. */
static int enable_max_vcpu_id(struct kvm_vm *vm, const __u64 *args)
{
	if (args[0] > KVM_AV_MAX_VCPU_IDS)
		return -EINVAL;
	if (vm->max_vcpu_ids && vm->max_vcpu_ids != args[0])
		return -EINVAL;
	vm->max_vcpu_ids = args[0];
	return 0;
}

/* ---- the table ---- */

#define CAP(cap_, value_, test_)                                                                   \
	{                                                                                          \
		.cap = KVM_CAP_##cap_, .where = ANYWHERE, .value = (value_), .test = (test_)       \
	}
#define CAP_FN(cap_, answer_, test_)                                                               \
	{                                                                                          \
		.cap = KVM_CAP_##cap_, .where = ANYWHERE, .answer = (answer_), .test = (test_)     \
	}
#define CAP_ENABLE(cap_, value_, enable_, test_)                                                   \
	{                                                                                          \
		.cap = KVM_CAP_##cap_, .where = ANYWHERE, .value = (value_), .enable = (enable_),  \
		.test = (test_)                                                                    \
	}

static const struct capability capabilities[] = {
	/* the system fd */
	CAP(EXT_CPUID, 1, "test_system: supported_cpuid"),
	CAP(EXT_EMUL_CPUID, 1, "test_system: emulated_cpuid"),
	CAP(GET_MSR_FEATURES, 1, "test_system: feature_msrs"),
	CAP(SYS_ATTRIBUTES, 1, "test_system: xcomp_attr"),
	CAP(MCE, KVM_AV_MCE_BANKS, "test_vcpu: mce"),

	/* capabilities themselves */
	CAP(CHECK_EXTENSION_VM, 1, "test_vm: check_extension"),
	CAP(ENABLE_CAP_VM, 1, "test_vm: enable_cap_errors"),
	CAP(ENABLE_CAP, 1, "test_vcpu: enforce_pv_cpuid"),
	CAP(ENFORCE_PV_FEATURE_CPUID, 1, "test_vcpu: enforce_pv_cpuid"),

	/* vCPUs */
	CAP_FN(NR_VCPUS, nr_vcpus, "test_system: vcpu_limits"),
	CAP(MAX_VCPUS, KVM_AV_MAX_VCPUS, "test_vm: create_vcpu_limits"),
	CAP_ENABLE(MAX_VCPU_ID, KVM_AV_MAX_VCPU_IDS, enable_max_vcpu_id, "test_vm: max_vcpu_id"),
	CAP(SET_BOOT_CPU_ID, 1, "test_vm: boot_cpu_id"),

	/* memory */
	CAP(USER_MEMORY, 1, "test_vm_io: memory_region"),
	CAP(DESTROY_MEMORY_REGION_WORKS, 1, "test_vm_io: memory_region"),
	CAP(JOIN_MEMORY_REGIONS_WORKS, 1, "test_vm_io: memory_region_join"),
	CAP(READONLY_MEM, 1, "test_vm_io: memory_readonly"),
	CAP(NR_MEMSLOTS, KVM_AV_NR_MEMSLOTS, "test_vm_io: memory_region_limits"),
	CAP(MULTI_ADDRESS_SPACE, MEM_ADDRESS_SPACES, "test_vm_io: memory_address_spaces"),
	CAP(X86_SMM, 1, "test_vm_io: memory_smm"),
	CAP(SYNC_MMU, 1, "test_vm_io: memory_remapped"),
	CAP_ENABLE(MANUAL_DIRTY_LOG_PROTECT2, DIRTY_LOG_MANUAL_CAPS, enable_dirty_manual,
		   "test_vm_io: dirty_log_manual"),
	CAP(SET_TSS_ADDR, 1, "test_vm: tss_addr"),
	CAP(SET_IDENTITY_MAP_ADDR, 1, "test_vm: identity_map_addr"),

	/* interrupt controllers */
	CAP(IRQCHIP, 1, "test_vm: irqchip"),
	CAP_ENABLE(SPLIT_IRQCHIP, 1, enable_split_irqchip, "test_vm: split_irqchip"),
	CAP_ENABLE(X2APIC_API, X2APIC_FLAGS, enable_x2apic_api, "test_vm: x2apic_api"),
	CAP(IRQ_ROUTING, IRQ_MAX_ROUTES, "test_vm: gsi_routing"),
	CAP(IRQ_INJECT_STATUS, 1, "test_vm: irq_line_status"),
	CAP(SIGNAL_MSI, 1, "test_vm: signal_msi"),
	CAP(PIT, 1, "test_vm: pit"),
	CAP(PIT2, 1, "test_vm: pit2"),
	CAP(PIT_STATE2, 1, "test_vm: pit2"),
	CAP(REINJECT_CONTROL, 1, "test_vm: reinject_control"),
	CAP(IOAPIC_POLARITY_IGNORED, 1, "test_vm: ioapic_polarity"),
	CAP(IRQFD, 1, "test_vm_io: irqfd_edge"),
	CAP(IRQFD_RESAMPLE, 1, "test_vm_io: irqfd_resample"),
	CAP(IOEVENTFD, 1, "test_vm_io: ioeventfd_pio_mmio"),
	CAP(IOEVENTFD_NO_LENGTH, 1, "test_vm_io: ioeventfd_any_length"),
	CAP(IOEVENTFD_ANY_LENGTH, 1, "test_vm_io: ioeventfd_any_length"),
	CAP(COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET, "test_vm_io: coalesced_mmio"),
	CAP(COALESCED_PIO, 1, "test_vm_io: coalesced_pio"),

	/* time */
	CAP(CLOCKSOURCE, 1, "test_vm: kvmclock_page"),
	CAP(ADJUST_CLOCK, CLOCK_FLAGS, "test_vm: clock_ioctls"),
	CAP(KVMCLOCK_CTRL, 1, "test_vm: kvmclock_ctrl"),
	CAP(GET_TSC_KHZ, 1, "test_vm: tsc_khz"),
	CAP(TSC_CONTROL, 1, "test_vcpu: tsc_khz"),
	CAP(VM_TSC_CONTROL, 1, "test_vm: tsc_khz"),
	CAP_FN(STEAL_TIME, has_steal_time, "test_steal: record_follows"),
	CAP(TSC_DEADLINE_TIMER, 1, "test_vcpu: tsc_deadline"),
	CAP(VCPU_ATTRIBUTES, 1, "test_vcpu: tsc_offset_attr"),

	/* a vCPU's state and its runs */
	CAP(HLT, 1, "test_run: hlt"),
	CAP(NOP_IO_DELAY, 1, "test_run: pio"),
	CAP(MP_STATE, 1, "test_vcpu: mp_state"),
	CAP(USER_NMI, 1, "test_run: nmi"),
	CAP(VCPU_EVENTS, 1, "test_vcpu: events"),
	CAP(DEBUGREGS, 1, "test_vcpu: debugregs"),
	CAP(SREGS2, 1, "test_vcpu: sregs2"),
	CAP(XSAVE, 1, "test_vcpu: xsave"),
	CAP_FN(XSAVE2, xsave2_size, "test_vcpu: xsave2"),
	CAP_FN(XCRS, has_xcr0, "test_vcpu: xcrs"),
	CAP(SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS, "test_run: sync_regs"),
	CAP(SET_GUEST_DEBUG, 1, "test_run: guest_debug"),
	CAP(SET_GUEST_DEBUG2, GUESTDBG, "test_run: guest_watch"),
	CAP(X86_ROBUST_SINGLESTEP, 1, "test_run: single_step"),
	CAP(IMMEDIATE_EXIT, 1, "test_run: immediate_exit"),
	CAP(INTERNAL_ERROR_DATA, 1, "test_vm_io: fetch_from_mmio"),
	CAP_ENABLE(EXCEPTION_PAYLOAD, 1, enable_exception_payload, "test_vcpu: exception_payload"),
	CAP_ENABLE(X86_TRIPLE_FAULT_EVENT, 1, enable_triple_fault_event, "test_vcpu: triple_fault"),
	CAP_ENABLE(EXIT_ON_EMULATION_FAILURE, 1, enable_exit_on_emulation_failure,
		   "test_vm_io: fetch_from_mmio"),
	CAP_ENABLE(X86_DISABLE_EXITS, EXITS, enable_disable_exits, "test_vm: disable_exits"),
	CAP_ENABLE(DISABLE_QUIRKS, 1, kvm_enable_disable_quirks, "test_vm: quirks"),
	CAP_ENABLE(DISABLE_QUIRKS2, KVM_AV_QUIRKS, kvm_enable_disable_quirks,
		   "test_policy: quirks"),
	CAP_ENABLE(MSR_PLATFORM_INFO, 1, kvm_enable_platform_info, "test_policy: platform_info"),
	CAP_ENABLE(X86_USER_SPACE_MSR, 1, kvm_enable_user_space_msr,
		   "test_policy: user_space_msr"),
	CAP(X86_MSR_FILTER, 1, "test_policy: msr_filter"),
	CAP(BINARY_STATS_FD, 1, "test_binstats: vcpu_file"),
};

static const struct capability *find(u64 cap)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(capabilities); i++)
		if (capabilities[i].cap == cap)
			return &capabilities[i];
	return NULL;
}

long kvm_check_extension(struct kvm_vm *vm, u64 cap)
{
	const struct capability *c = find(cap);

	if (!c || !(c->where & (vm ? ON_VM : ON_SYSTEM)))
		return 0;
	return c->answer ? c->answer() : c->value;
}

KVM_HANDLER(kvm_vm_check_extension)
{
	return kvm_check_extension(to_vm(obj), arg->value);
}

KVM_VM_IOCTL(kvm_vm_enable_cap)
{
	const struct kvm_enable_cap *in = arg->data;
	const struct capability *c = find(in->cap);

	if (in->flags || !c || !c->enable)
		return -EINVAL;
	return c->enable(vm, in->args);
}
