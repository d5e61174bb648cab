/* SPDX-License-Identifier: MIT */
/*
 * VM and vCPU objects: the wiring between CPUs, memory, interrupt controllers and the ioctl tables.
 *
 * Lock order (docs/locking.md): vcpu->lock, vm->lock, then the rooms' own locks. A vCPU thread inside x86_run() takes neither
 * of the two: an ioctl may hold vm->lock while it waits for all vCPUs to acknowledge.
 */
#ifndef AV_KVM_KVM_PRIV_H
#define AV_KVM_KVM_PRIV_H

#include "base/base.h"
#include "base/epoch.h"
#include "base/log.h"
#include "base/service.h"
#include "cpu/x86/x86.h"
#include "irq/irq.h"
#include "kvm/kvm.h"
#include "mem/mem.h"
#include "uapi/ioctl.h"
#include "uapi/object.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#define KVM_AV_MAX_VCPUS    288 /* KVM_CAP_MAX_VCPUS; ids go to KVM_AV_MAX_VCPU_IDS */
#define KVM_AV_MAX_VCPU_IDS 288
#define KVM_AV_NR_MEMSLOTS  32764
/* The vCPU fd's layout in pages: kvm_run, PIO data, coalesced ring (KVM_PIO_PAGE_OFFSET 1, KVM_COALESCED_MMIO_PAGE_OFFSET 2). */
#define KVM_AV_RUN_PAGES    3

struct kvm_vcpu;

struct kvm_vm {
	struct uapi_object obj; /* first */
	pthread_mutex_t lock;	/* everything below that does not say otherwise */
	struct av_epoch epoch;
	struct mem *mem;
	struct irqchip *ic;
	struct x86_code *code;
	/* Published with release stores, never shrinks while the VM lives: readers need no lock. */
	struct kvm_vcpu *vcpus[KVM_AV_MAX_VCPUS];
	u32 nr_vcpus; /* atomic */
	u32 pause_word; /* futex: 1 while the world is stopped (world.c) */
	pthread_mutex_t world_lock; /* one stop-the-world at a time; leaf but for waiting on vCPUs */
	u32 bsp_id; /* KVM_SET_BOOT_CPU_ID */
	u32 nr_memslots_pages;
	u32 dirty_manual; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2's flags */
	u64 tss_addr, identity_map_addr;
	bool exception_payload, x2apic_api_32bit, x2apic_disable_quirk, triple_fault_event, exit_on_emulation_error;
	u64 disabled_quirks;
	u32 policy; /* X86_POLICY_* of every CPU (policy.c) */
	struct kvm_msr_filter_table *msr_filter; /* policy.c: published as below */
	u32 disabled_exits; /* KVM_X86_DISABLE_EXITS_* */
	u32 tsc_khz; /* default for new vCPUs */
	/* vcpu_misc.c: the last TSC that user space set, so that vCPUs set alike within a second agree to the cycle */
	struct {
		u64 value, ns, offset;
		u32 khz;
	} tsc_sync;

	/* eventfd.c: immutable tables, swapped under lock, read by vCPU threads through the epoch */
	struct kvm_ioeventfds *ioeventfds;
	struct kvm_irqfds *irqfds;
	/* coalesced.c: zones as above; the ring page is vCPU 0's; ring_lock is a leaf */
	struct kvm_coalesced *coalesced;
	struct kvm_coalesced_mmio_ring *ring;
	pthread_mutex_t ring_lock;

	/* clock.c: kvmclock stood at clock_ns when the host's TSC stood at clock_tsc; clock_lock is a leaf */
	pthread_mutex_t clock_lock;
	u64 clock_tsc, clock_ns;
	bool clock_old_msr; /* the boot vCPU uses MSR_KVM_SYSTEM_TIME (0x12): its readers take no stable clock */
	u64 wall_clock_msr;
	u32 nr_mmu_pages; /* KVM_SET_NR_MMU_PAGES */
	u32 max_vcpu_ids; /* KVM_CAP_MAX_VCPU_ID; 0: not set */

	/* statistics: atomic counters (world.c), the file and what keeps it up to date (binstats.c) */
	u64 remote_tlb_flush, remote_tlb_flush_requests;
	struct kvm_binstats *binstats;
	struct av_timer binstats_timer;
	bool binstats_started;

	/* steal.c: looks after the vCPUs whose guest wants its steal time */
	struct av_timer steal_timer;
	bool steal_ticking;
};

/* stats.c: a CPU whose counters somebody may want begins and ends. */
void kvm_stats_add(struct x86_cpu *c);
void kvm_stats_end(struct x86_cpu *c);

/* Things a vCPU has to do in its own thread before it runs again. Atomic bits in kvm_vcpu.todo; set, then kvm_vcpu_kick(). */
enum kvm_todo {
	KVM_TODO_SIGNAL = BIT(0), /* a signal was handled: -EINTR */
	KVM_TODO_INIT = BIT(1),
	KVM_TODO_SIPI = BIT(2), /* vector in sipi_vector */
	KVM_TODO_CLOCK = BIT(3), /* update kvmclock page */
	KVM_TODO_KICK = BIT(4), /* anyvisor_kick(): -EINTR */
	KVM_TODO_IOAPIC_EOI = BIT(5), /* split irqchip: KVM_EXIT_IOAPIC_EOI with eoi_vector */
	KVM_TODO_STEAL = BIT(6),
};

struct kvm_vcpu {
	struct uapi_object obj; /* first */
	struct kvm_vm *vm;	/* a reference is held */
	u32 id;
	pthread_mutex_t lock;	/* one ioctl at a time, KVM_RUN included */
	struct x86_cpu *cpu;
	struct lapic *lapic;	/* NULL without in-kernel LAPICs */
	struct kvm_run *run;	/* our own shared mapping of the fd's pages */
	u32 mp_state;		/* KVM_MP_STATE_*; owner thread, or under lock */
	u32 todo;		/* atomic: enum kvm_todo */
	u32 halted;		/* atomic: 1 while blocked; futex word of the HLT wait */
	u32 pv_unhalted;	/* atomic: another vCPU's KVM_HC_KICK_CPU ends this or the next HLT */
	u8 sipi_vector, eoi_vector;
	bool sigmask_set;
	u64 sigmask;		/* kernel sigset */
	bool need_completion;	/* the last exit was IO or MMIO and waits for its answer */
	u32 pending_exit;	/* KVM_EXIT_* of it */
	u32 tsc_khz;
	u64 apic_base_noirqchip; /* IA32_APIC_BASE and CR8 live here without an in-kernel LAPIC */
	u8 cr8_noirqchip;

	/* pv: kvmclock MSRs (clock.c) */
	u64 system_time_msr, wall_clock_msr_old, steal_time_msr, async_pf_msr, async_pf_int_msr, async_pf_ack_msr, pv_eoi_msr, poll_control_msr, migration_msr;
	struct kvm_cpuid_entry2 *cpuid; /* as user space set it, for KVM_GET_CPUID2 */
	u32 nr_cpuid;
	u32 pv_features; /* eax of leaf 0x40000001 */
	bool ran_once;
	/* statistics; owner writes, anyone may read (binstats.c) */
	u64 halt_ns, signal_exits, hypercalls, exits[X86_NR_EXITS];
	struct kvm_binstats *binstats;
	bool finish_insn;	/* an answered device access waits for its instruction (run.c) */
	/* steal.c */
	struct {
		s32 tid;  /* whose run delay it is; 0: none yet */
		int fd;	  /* atomic: of that thread's schedstat, plus 1; 0: none */
		bool direct; /* the thread may read it itself */
		u64 seen, last; /* atomic: the run delay; how much of it the guest knows */
		struct av_timer opener;
		u32 opened; /* futex */
	} steal;
	/* vcpu_events.c: what KVM_SET_VCPU_EVENTS can say and cpu->inject cannot hold at the same time */
	struct {
		bool pending;	  /* cpu->inject is an exception that KVM would call pending: KVM_SET_REGS drops it */
		bool has_payload; /* CR2 or DR6 is written when it is delivered */
		u64 payload;
		bool irq, nmi;	  /* queued behind cpu->inject */
		u8 irq_nr;
		bool triple_fault; /* the next KVM_RUN ends with KVM_EXIT_SHUTDOWN */
		bool soft_rip;	   /* #BP, #OF: RIP stands behind the instruction already */
		bool extint;	   /* split irqchip: KVM_INTERRUPT's vector waits for the LAPIC to take it */
		u8 extint_nr;
	} ev;
	bool tpr_reporting, enforce_pv_cpuid;
	u64 vapic_addr;
	bool clock_stopped; /* KVM_KVMCLOCK_CTRL: tell the guest at the next update of its kvmclock page */
};

static inline struct kvm_vm *to_vm(struct uapi_object *o)
{
	return container_of(o, struct kvm_vm, obj);
}
static inline struct kvm_vcpu *to_vcpu(struct uapi_object *o)
{
	return container_of(o, struct kvm_vcpu, obj);
}

extern const struct uapi_type kvm_dev_type, kvm_vm_type, kvm_vcpu_type;

/* vm.c. -errno or fd. */
int kvm_vm_create_fd(u64 type);
/* vcpu.c: KVM_CREATE_VCPU. Called with vm->lock held. fd or -errno (EINVAL, EEXIST, ENOMEM). */
int kvm_vcpu_create_fd(struct kvm_vm *vm, u32 id);
/*
 * vcpu.c: frees a vCPU. vCPUs live as long as their VM: vm->vcpus[] keeps them after their fd is closed, when the type's release() does
 * nothing but drop the reference to the VM. The VM's release(), which therefore sees no vCPU fd any more, calls this for each.
 */
void kvm_vcpu_destroy(struct kvm_vcpu *v);
/* The vCPU with that id, or NULL. Lock-free. */
struct kvm_vcpu *kvm_vcpu_by_id(struct kvm_vm *vm, u32 id);

/* caps.c: KVM_CHECK_EXTENSION's answer, for the VM (NULL: on /dev/kvm). */
long kvm_check_extension(struct kvm_vm *vm, u64 cap);

/* cpuid.c: the supported table for the personality (KVM_GET_SUPPORTED_CPUID). Static storage, computed once. */
const struct kvm_cpuid_entry2 *kvm_supported_cpuid(u32 *n);
const struct kvm_cpuid_entry2 *kvm_emulated_cpuid(u32 *n);
/* ANYVISOR_CPU=host|intel|amd: does the personality present itself as AMD? */
bool kvm_personality_amd(void);

/* world.c: translations. Each returns when no vCPU can use an older translation any more. Caller holds vm->lock (or vm->mem's changes are otherwise serialised);
 * must not be called from inside x86_run(). */
void kvm_flush_vcpus(struct kvm_vm *vm);  /* all translations */
void kvm_purge_vcpus(struct kvm_vm *vm);  /* write translations */
/* Wakes or interrupts a vCPU so that it looks at cpu->req and todo. Any thread, async-signal-safe. */
void kvm_vcpu_kick(struct kvm_vcpu *v);
/* The machine_ops members purge_writes, world_stop, world_resume. m: struct kvm_vcpu */
void kvm_op_purge_writes(void *m, u8 *host_page, void (*serve)(void *cpu), void *cpu);
void kvm_op_world_stop(void *m, void (*serve)(void *cpu), void *cpu);
void kvm_op_world_resume(void *m);

/* door.c: what the CPU sees. m is the struct kvm_vcpu. */
extern const struct machine_ops kvm_machine_ops;
/* hypercall.c: the machine_ops member. m: struct kvm_vcpu */
int kvm_op_hypercall(void *m);
/* irqglue.c: what the interrupt controllers ask. owner is the struct kvm_vm. */
extern const struct irq_ops kvm_irq_ops;

/* eventfd.c */
int kvm_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *args);
int kvm_ioeventfd_set(struct kvm_vm *vm, const struct kvm_ioeventfd *args);
/* Does a registered ioeventfd take this write? Signals it and returns true. vCPU thread, epoch online. */
bool kvm_ioeventfd_write(struct kvm_vm *vm, u64 addr, const void *data, u32 size, bool pio);
void kvm_eventfd_destroy(struct kvm_vm *vm);
/* A resample irqfd's GSI was EOIed. */
void kvm_irqfd_ack(struct kvm_vm *vm, u32 gsi);

/* Does the VM have in-library interrupt controllers: all of them (KVM_CREATE_IRQCHIP), or only LAPICs (split)? */
static inline bool kvm_irqchip_in_kernel(const struct kvm_vm *vm)
{
	return irqchip_has_chips(vm->ic) || irqchip_is_split(vm->ic);
}

/* coalesced.c: true if the write was queued in the ring. */
bool kvm_coalesced_write(struct kvm_vm *vm, u64 addr, const void *data, u32 size, bool pio);
void kvm_coalesced_destroy(struct kvm_vm *vm);

/* clock.c: kvmclock. */
/* The frequency of this host's TSC; measured once. */
u32 kvm_host_tsc_khz(void);
void kvm_clock_init(struct kvm_vm *vm);
/* KVM_KVMCLOCK_CTRL: -EINVAL without a kvmclock page. owner */
int kvm_clock_guest_paused(struct kvm_vcpu *v);
/* Every vCPU updates its kvmclock page before it runs on. Any thread. */
void kvm_clock_request_all(struct kvm_vm *vm);
u64 kvm_clock_ns(struct kvm_vm *vm);
void kvm_clock_update(struct kvm_vcpu *v); /* writes the pvclock page; owner thread, epoch online */
int kvm_clock_set_msr(struct kvm_vcpu *v, u32 msr, u64 value);
int kvm_clock_get_msr(struct kvm_vcpu *v, u32 msr, u64 *value);

/* msr.c: MSRs kept by kvm/ rather than the CPU (APIC base, x2APIC, TSC deadline, kvmclock, ...). -ENOENT: none of ours. */
int kvm_get_msr(struct kvm_vcpu *v, u32 msr, u64 *value, bool host_initiated);
int kvm_set_msr(struct kvm_vcpu *v, u32 msr, u64 value, bool host_initiated);
/* KVM_X86_GET_MCE_CAP_SUPPORTED for the personality */
u64 kvm_mce_cap(void);
#define KVM_AV_MCE_BANKS 32

/* May the guest use a paravirtual feature (1 + KVM_FEATURE_*, 0: always)? Unless the VMM enforces CPUID, it may use all. */
static inline bool kvm_pv_has(const struct kvm_vcpu *v, u8 feature)
{
	return !feature || !v->enforce_pv_cpuid || v->pv_features & BIT(feature - 1);
}

/* run.c */
long kvm_vcpu_run(struct kvm_vcpu *v);

/* vcpu_regs.c, vcpu_fpu.c, vcpu_events.c, vcpu_misc.c: ioctl handlers, declared with KVM_HANDLER beside the table that lists them. */
#define KVM_HANDLER(name) long name(struct uapi_object *obj, struct uapi_arg *arg)

#endif
