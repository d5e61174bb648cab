/* SPDX-License-Identifier: MIT */
/*
 * One x86 logical processor in software: its architectural state and how to run it.
 *
 * This is the room's outside. It knows the machine only through cpu/machine.h; inside headers are insn.h, mmu.h,
 * seg.h, except.h, simd.h, code.h and msr.h.
 *
 * Threads. A CPU belongs to the thread that runs it, or to any one thread while it is not running (kvm/ has a lock per
 * vCPU). What others may touch at any time is marked "atomic" and has functions of its own: x86_request(),
 * x86_raise_nmi(), x86_raise_smi(), x86_irq_hint().
 */
#ifndef AV_CPU_X86_X86_H
#define AV_CPU_X86_X86_H

#include "base/base.h"
#include "base/epoch.h"
#include "cpu/machine.h"

/* General registers in encoding order; two pseudo registers make address arithmetic uniform. */
enum x86_gpr {
	X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
	X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15,
	X86_GPR_ZERO,	  /* always 0: an absent base or index */
	X86_GPR_CODEPAGE, /* linear address of the page being executed: base of RIP-relative operands */
	X86_NR_GPR_SLOTS,
};

/* Segment registers in encoding order, then the system segments. */
enum x86_sreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_NR_SREGS };

/* Attribute word of a segment cache, in the layout of the VMCS access rights (SDM vol. 3 "Guest Register State"). */
#define X86_SEG_TYPE	 0x000fu
#define X86_SEG_S	 BIT(4)
#define X86_SEG_DPL(a)	 (((a) >> 5) & 3)
#define X86_SEG_P	 BIT(7)
#define X86_SEG_AVL	 BIT(12)
#define X86_SEG_L	 BIT(13)
#define X86_SEG_DB	 BIT(14)
#define X86_SEG_G	 BIT(15)
#define X86_SEG_UNUSABLE BIT(16)

struct x86_seg {
	u64 base;
	u32 limit; /* in bytes, granularity applied */
	u32 attr;
	u16 sel;
};

struct x86_dtable {
	u64 base;
	u16 limit;
};

#define X86_FLAG_CF   BIT(0)
#define X86_FLAG_PF   BIT(2)
#define X86_FLAG_AF   BIT(4)
#define X86_FLAG_ZF   BIT(6)
#define X86_FLAG_SF   BIT(7)
#define X86_FLAG_TF   BIT(8)
#define X86_FLAG_IF   BIT(9)
#define X86_FLAG_DF   BIT(10)
#define X86_FLAG_OF   BIT(11)
#define X86_FLAG_IOPL (3u << 12)
#define X86_FLAG_NT   BIT(14)
#define X86_FLAG_RF   BIT(16)
#define X86_FLAG_VM   BIT(17)
#define X86_FLAG_AC   BIT(18)
#define X86_FLAG_VIF  BIT(19)
#define X86_FLAG_VIP  BIT(20)
#define X86_FLAG_ID   BIT(21)
#define X86_FLAGS_ARITH (X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_ZF | X86_FLAG_SF | X86_FLAG_OF)

#define X86_CR0_PE BIT(0)
#define X86_CR0_MP BIT(1)
#define X86_CR0_EM BIT(2)
#define X86_CR0_TS BIT(3)
#define X86_CR0_ET BIT(4)
#define X86_CR0_NE BIT(5)
#define X86_CR0_WP BIT(16)
#define X86_CR0_AM BIT(18)
#define X86_CR0_NW BIT(29)
#define X86_CR0_CD BIT(30)
#define X86_CR0_PG BIT(31)

#define X86_CR4_VME	   BIT(0)
#define X86_CR4_PVI	   BIT(1)
#define X86_CR4_TSD	   BIT(2)
#define X86_CR4_DE	   BIT(3)
#define X86_CR4_PSE	   BIT(4)
#define X86_CR4_PAE	   BIT(5)
#define X86_CR4_MCE	   BIT(6)
#define X86_CR4_PGE	   BIT(7)
#define X86_CR4_PCE	   BIT(8)
#define X86_CR4_OSFXSR	   BIT(9)
#define X86_CR4_OSXMMEXCPT BIT(10)
#define X86_CR4_UMIP	   BIT(11)
#define X86_CR4_LA57	   BIT(12)
#define X86_CR4_VMXE	   BIT(13)
#define X86_CR4_SMXE	   BIT(14)
#define X86_CR4_FSGSBASE   BIT(16)
#define X86_CR4_PCIDE	   BIT(17)
#define X86_CR4_OSXSAVE	   BIT(18)
#define X86_CR4_SMEP	   BIT(20)
#define X86_CR4_SMAP	   BIT(21)
#define X86_CR4_PKE	   BIT(22)

#define X86_EFER_SCE   BIT(0)
#define X86_EFER_LME   BIT(8)
#define X86_EFER_LMA   BIT(10)
#define X86_EFER_NXE   BIT(11)
#define X86_EFER_SVME  BIT(12)
#define X86_EFER_FFXSR BIT(14)

enum x86_vector {
	X86_DE = 0, X86_DB = 1, X86_NMI = 2, X86_BP = 3, X86_OF = 4, X86_BR = 5, X86_UD = 6, X86_NM = 7, X86_DF = 8,
	X86_TS = 10, X86_NP = 11, X86_SS_FAULT = 12, X86_GP = 13, X86_PF = 14, X86_MF = 16, X86_AC = 17, X86_MC = 18,
	X86_XM = 19, X86_CP = 21,
};

/* How an event reaches the IDT (VMCS interruption types). */
enum x86_event_type { X86_EV_EXTINT = 0, X86_EV_NMI = 2, X86_EV_HWEXC = 3, X86_EV_SOFTINT = 4, X86_EV_PRIVSW = 5, X86_EV_SOFTEXC = 6 };

/* Why x86_run() returned. Details stand in cpu->exit. */
enum x86_exit_reason {
	X86_EXIT_REQUEST, /* somebody set X86_REQ_OUT */
	X86_EXIT_IO,	  /* exit.io */
	X86_EXIT_MMIO,	  /* exit.mmio */
	X86_EXIT_HLT,
	X86_EXIT_IRQ_WINDOW, /* want_irq_window and the guest takes interrupts now */
	X86_EXIT_SHUTDOWN, /* triple fault */
	X86_EXIT_DEBUG,	  /* guest debugging: exit.debug */
	X86_EXIT_EFAULT,  /* guest memory without host backing: exit.gpa, ~0 if it is not known */
	X86_EXIT_INTERNAL_ERROR, /* we cannot execute this: exit.insn */
	X86_EXIT_TPR,	  /* the guest lowered CR8 and the VMM keeps the LAPIC (KVM_EXIT_SET_TPR) */
	X86_EXIT_MSR,	  /* the owner asked to be told of such an MSR access: exit.msr, answered by x86_complete_msr() */
	X86_NR_EXITS,
};

/* Why a guest's RDMSR or WRMSR fails; the values are KVM_MSR_EXIT_REASON_*. */
enum x86_msr_fault { X86_MSR_INVALID = BIT(0), X86_MSR_UNKNOWN = BIT(1), X86_MSR_FILTERED = BIT(2) };

/* What the owner lets the guest do beyond its CPUID (cpu->policy). The low bits are a mask of enum x86_msr_fault: leave with X86_EXIT_MSR. */
#define X86_POLICY_MSR_EXITS	    7u
#define X86_POLICY_MSR_FILTER	    BIT(3) /* ask ops->msr_allowed() first */
#define X86_POLICY_NO_PLATFORM_INFO BIT(4) /* the guest may not read MSR_PLATFORM_INFO */
#define X86_POLICY_MWAIT_UD	    BIT(5) /* MONITOR and MWAIT raise #UD unless CPUID offers them; else they do nothing */
#define X86_POLICY_MWAIT_MSR	    BIT(6) /* CPUID's MWAIT bit follows MISC_ENABLE */
#define X86_POLICY_HYPERCALL_UD	    BIT(7) /* the other vendor's hypercall instruction raises #UD; else it is rewritten */

/* Requests to a CPU from anywhere (x86_request). The run loop leaves its fast path at the next instruction. */
#define X86_REQ_OUT   BIT(0) /* return X86_EXIT_REQUEST; cleared by who asked for it, not by the CPU */
#define X86_REQ_EVENT BIT(1) /* look at NMI, SMI and interrupts */
#define X86_REQ_FLUSH BIT(2) /* drop all translations, then acknowledge (flush_ack) */
#define X86_REQ_PURGE BIT(3) /* drop all write translations, then acknowledge */
#define X86_REQ_PAUSE BIT(4) /* stop-the-world: acknowledge, then wait until pause_word is 0 */
#define X86_REQ_LOCAL BIT(5) /* set by the CPU's own handlers: something to do between two instructions */
#define X86_REQ_CODE  BIT(6) /* blocks were dropped: empty the jump caches. Not acknowledged */

/* Interrupt shadow (KVM_X86_SHADOW_INT_*). */
#define X86_SHADOW_MOV_SS BIT(0)
#define X86_SHADOW_STI	  BIT(1)

struct x86_tlb_entry {
	u64 tag;  /* linear page address; an impossible one when empty (mmu.c) */
	u64 host; /* host address of the page */
};
#define X86_TLB_BITS 12
#define X86_TLB_SIZE (1u << X86_TLB_BITS)

/* One device access of the instruction being executed; see io.c. */
struct x86_frag {
	u64 addr;
	u8 size;
	bool pio;
	u8 data[8];
};
#define X86_MAX_FRAGS 32

/* A CPUID leaf as set by the owner (KVM_SET_CPUID2). */
struct x86_cpuid_entry {
	u32 function, index;
	u32 flags; /* bit 0: index is significant */
	u32 eax, ebx, ecx, edx;
};

struct x86_insn;
struct x86_mmu;	 /* TLB tables and their logs, mmu.c */
struct x86_code; /* the VM's predecoded code, code.c */
struct x86_code_page;
struct x86_etlb;
struct x86_jc_entry;
struct x86_tb_cpu; /* tier 1: jump caches' logs and the like, tb_runtime.h */

enum x86_stat {
#define X86_STAT(name, label, text) X86_STAT_##name,
#include "cpu/x86/stats.inc"
#undef X86_STAT
	X86_NR_STATS,
};

struct x86_cpu {
	/* ---- hot: touched by every instruction ---- */
	union {
		u64 gpr[X86_NR_GPR_SLOTS];
		struct {
			u64 gpr_[X86_GPR_CODEPAGE];
			u64 code_la; /* gpr[X86_GPR_CODEPAGE]: the code page that insn lies in */
		};
	};
	u32 req;	/* atomic: X86_REQ_* */
	u16 aflags;	/* arithmetic flags as LAHF and SETO leave AX: AH = SF ZF 0 AF 0 PF 1 CF, AL = OF (0 or 1) */
	u8 cpl;
	u8 code_size;	/* of the current code segment: 2, 4 or 8 (bytes) */
	const struct x86_insn *insn; /* being executed: the fault address comes from here */
	struct x86_tlb_entry *rtlb, *wtlb; /* tables of the current set {user, kernel, kernel with user access} */
	u64 rip;	/* valid between instructions, stale inside the fast loop: use x86_rip() */
	u32 rflags;	/* all but the arithmetic flags, bit 1 set: use x86_rflags() */
	u32 flat;	/* bit per segment register: base 0, limit 4 GiB, readable and writable: checks can be skipped */
	struct x86_seg seg[X86_NR_SREGS];

	/* ---- control state ---- */
	u64 cr0, cr2, cr3, cr4, efer, xcr0;
	u64 pdpte[4];	/* PAE */
	u64 dr[4], dr6, dr7;
	struct x86_dtable gdt, idt;
	u32 pkru;
	struct { u64 ip, dp; u16 cs, ds, op; } x87; /* last x87 instruction, operand and opcode: FIP, FDP, FOP (simd.h) */
	u32 shadow;	/* X86_SHADOW_*, in force only while rip == shadow_rip */
	u64 shadow_rip;
	bool smm, halted;
	u8 maxphyaddr;
	bool simd_live;	/* the guest's x87/SIMD state is in the host's registers, not in *xsave (simd.h) */
	u8 simd_enabled; /* families that CR0, CR4 and XCR0 let the guest use: X86_NATIVE_* (tb.h) */
	u8 simd_native;	/* simd_enabled while simd_live, else 0 */
	bool nmi_masked; /* until IRET */
	bool smm_inside_nmi; /* SMM was entered with NMIs masked: RSM leaves them so */
	/* What a fault of the host in the middle has to take back (signal.c). */
	struct {
		bool smm_trial, smm; /* cpu->smm is another one only for an access to memory; this is the one to go back to */
		bool world_stopped;  /* by a locked access over two pages */
	} undo;

	/* ---- MSRs that are plain storage; rows in msr.c say who may read and write them ---- */
	struct {
		u64 star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
		u64 sysenter_cs, sysenter_esp, sysenter_eip;
		u64 pat, xss, misc_enable, debugctl, tsc_adjust, spec_ctrl, mtrr_def_type;
		u64 mtrr_fix[11], mtrr_var[16];
		u64 mcg_status, mcg_ctl, mcg_cap, mc_banks[32 * 4], mci_ctl2[32];
		u64 ucode_rev, arch_capabilities, feature_control, smbase;
		u64 hwcr, lwp, virt_spec_ctrl, vm_hsave, int_pending, syscfg, osvw_len, osvw_status, power_ctl, xfd, platform_info, misc_features;
		u64 smi_count;
	} msr;

	/* ---- time: guest TSC = host TSC * tsc_ratio / 2^48 + tsc_offset ---- */
	u64 tsc_offset;
	u64 tsc_ratio; /* 0: 1:1 */

	/* ---- events ---- */
	struct {
		bool pending;	/* deliver at the next entry (KVM_SET_VCPU_EVENTS, KVM_INTERRUPT) */
		u8 type;	/* enum x86_event_type */
		u8 vector;
		bool has_error;
		u32 error;
	} inject;
	u32 nmi_pending;   /* atomic: 0..2 */
	u32 smi_pending;   /* atomic */
	u32 irq_hint;	   /* atomic: an interrupt may be deliverable once the guest lets it */
	bool want_irq_window;
	bool user_lapic;   /* CR8 writes exit (no in-kernel LAPIC) */
	u32 policy;	   /* atomic: X86_POLICY_* */

	/* ---- faults in flight (except.c) ---- */
	struct {
		u8 vector;
		bool has_error;
		u32 error;
		u8 delivering; /* vector + 1 of the event being delivered, 0: none */
		u8 delivering_type;
		u64 db_bits;   /* DR6 bits of a #DB */
		bool leave;    /* not a fault: x86_leave() with leave_reason */
		u8 leave_reason;
	} fault;
	void *jmp[5];	   /* __builtin_setjmp buffer of the run loop */

	/* ---- guest debugging (KVM_SET_GUEST_DEBUG) ---- */
	u32 guest_debug;   /* KVM_GUESTDBG_* (debug.h); 0 unless enabled */
	u64 guest_dr[4], guest_dr7;

	/* ---- breakpoints at work (debug.c) ---- */
	struct {
		u32 hits;     /* DR6 bits of data and I/O breakpoints that wait for the instruction's end */
		bool quiet;   /* the instruction at rip follows a load of SS: nothing is trapped before it */
		bool no_step; /* the instruction delivered an event: no single-step trap after it */
	} db;

	/* ---- device accesses (io.c) ---- */
	struct {
		u32 done;	/* reads already answered for the instruction at hand */
		u32 cursor;	/* how many of them this execution has used */
		u32 nwrites;	/* writes queued for the VMM */
		u32 wcursor;
		struct x86_frag read[X86_MAX_FRAGS], write[X86_MAX_FRAGS];
		u64 rip;	/* the instruction that `done` belongs to */
		u32 pio_count;	/* string input answered in *pio_data: elements left */
		u32 pio_used;
		struct { bool answered, error, write; u32 index; u64 value; } msr; /* the owner's answer to X86_EXIT_MSR */
	} io;
	u8 *pio_data;	   /* the VMM's page for KVM_EXIT_IO, 4096 bytes */

	/* ---- what x86_run() returned about ---- */
	struct {
		struct { u16 port; u8 size; bool write; u32 count; } io; /* data in pio_data */
		struct { u64 gpa; u8 size; bool write; u8 data[8]; } mmio;
		struct { u32 vector; u64 pc, dr6, dr7; } debug;
		struct { u8 len; u8 bytes[15]; const char *why; } insn;
		struct { u32 index; bool write; u32 why; u64 value; } msr;
		u64 gpa;
	} exit;

	/* ---- the rest of the house ---- */
	const struct machine_ops *ops;
	void *m;
	struct x86_mmu *mmu;
	struct x86_etlb *etlb;
	u64 etlb_gen;	   /* generation bits of live entries' tags, in place (code.h) */
	struct x86_cross *cross; /* decoded page-crossing instructions, code.h */
	struct x86_code *code;
	struct av_epoch *epoch;
	struct av_epoch_reader reader;
	u64 io_epoch;	   /* last value of code->io_epoch seen: pages entered since are known to match memory */
	struct x86_cpuid_entry *cpuid;
	u32 nr_cpuid;
	struct x86_features *feat; /* what the CPUID entries allow; see msr.h */
	u8 *xsave;	   /* 64-byte aligned XSAVE image (standard format) of the guest's x87/SIMD state */
	u8 *host_xsave;	   /* scratch for the host's own control words */
	u32 xsave_size;	   /* of that image, which has no PKRU */
	u32 flush_ack;	   /* atomic: counts acknowledged FLUSH/PURGE/PAUSE requests; futex word */
	u32 *pause_word;   /* futex word of the VM for X86_REQ_PAUSE */
	u32 in_guest;	   /* atomic: 1 while x86_run() may hold translations; requests to a CPU outside are served on entry */
	u32 pauses;	   /* PAUSEs executed, for op_pause */
	u32 index;	   /* vCPU id, for logs and CPUID's APIC id fields is not used */

	/* ---- tier 1 (tb.h) ---- */
	struct x86_cpu *self; /* found through GS */
	struct x86_tb_cpu *tb; /* NULL: tier 0 only */
	const struct x86_insn *(*tb_enter)(struct x86_cpu *c, const void *host);
	struct x86_jc_entry *jc; /* the current set's jump cache */
	u8 *tb_code;	   /* the code region as it is executed */
	bool fsgsbase;	   /* the host lets us write GS's base */
	struct x86_cpu *code_next; /* of the VM's CPUs that execute code, under code->lock */

	u64 stats[X86_NR_STATS]; /* owner writes, anyone may read */
};

/*
 * Makes a CPU in its power-up state. epoch and code belong to the VM and outlive it. 0, -ENOMEM.
 */
int x86_create(const struct machine_ops *ops, void *m, struct av_epoch *epoch, struct x86_code *code, struct x86_cpu **out);
void x86_destroy(struct x86_cpu *c);
/* SDM vol. 3 "Processor State After Reset": power-up, or INIT (which leaves caches, x87/SIMD and most MSRs). owner */
void x86_reset(struct x86_cpu *c, bool init);
/* Start at vector*0x1000 after SIPI. owner */
void x86_sipi(struct x86_cpu *c, u8 vector);

/*
 * Calls fn(c, arg), which may access guest memory. false: memory was not there for the host, and fn has ended where it met that. owner,
 * outside x86_run(), in the CPU's epoch.
 */
bool x86_try(struct x86_cpu *c, void (*fn)(struct x86_cpu *c, void *arg), void *arg);

/* Runs the guest on the calling thread until something named in enum x86_exit_reason happens. owner */
enum x86_exit_reason x86_run(struct x86_cpu *c);
/*
 * Before x86_run() after X86_EXIT_MMIO/IO: the VMM's answer. For reads the data is recorded as a fragment (MMIO: data;
 * IO: already in pio_data); writes are simply done. owner
 */
void x86_complete_mmio(struct x86_cpu *c, const u8 *data);
void x86_complete_io(struct x86_cpu *c);
/* Before x86_run() after X86_EXIT_MSR: the instruction raises #GP(0) (error), or is done with this value read. owner */
void x86_complete_msr(struct x86_cpu *c, bool error, u64 value);

/* Sets request bits. Any thread, async-signal-safe; two stores' worth of work and no system call. */
static inline void x86_request(struct x86_cpu *c, u32 bits)
{
	__atomic_fetch_or(&c->req, bits, __ATOMIC_SEQ_CST);
}
static inline void x86_unrequest(struct x86_cpu *c, u32 bits)
{
	__atomic_fetch_and(&c->req, ~bits, __ATOMIC_SEQ_CST);
}
/* An interrupt may be deliverable. Any thread. */
static inline void x86_irq_hint(struct x86_cpu *c)
{
	__atomic_store_n(&c->irq_hint, 1, __ATOMIC_SEQ_CST);
	x86_request(c, X86_REQ_EVENT);
}
void x86_raise_nmi(struct x86_cpu *c); /* any thread */
void x86_raise_smi(struct x86_cpu *c); /* any thread */
/* Serves FLUSH, PURGE and PAUSE for a CPU that is between instructions. owner */
void x86_serve_requests(void *cpu);

/* RIP and RFLAGS with all their parts. owner; inside the run loop x86_rip() is the address of cpu->insn. */
u64 x86_rip(const struct x86_cpu *c);
u64 x86_rflags(const struct x86_cpu *c);
void x86_set_rflags(struct x86_cpu *c, u64 v);

/* Brings derived state (cpl, code_size, flat, TLB set, PDPTEs if pdptrs) in line after the owner changed registers directly. Drops all translations. owner; with reload_pdptrs reads guest memory: x86_try() */
void x86_state_changed(struct x86_cpu *c, bool reload_pdptrs);
/* Is this combination of sregs possible? (KVM_SET_SREGS checks: CR0/CR4/EFER consistency, reserved bits.) */
bool x86_sregs_valid(const struct x86_cpu *c, u64 cr0, u64 cr3, u64 cr4, u64 efer, u32 cs_attr);

/* Translates as the guest at CPL 0 would (KVM_TRANSLATE). Returns false when not mapped. owner; reads guest memory: x86_try() */
bool x86_translate(struct x86_cpu *c, u64 la, u64 *gpa, bool *writable, bool *user);

/* CPUID as the guest sees it now (OSXSAVE, OSPKE, XSAVE sizes follow the state). owner */
void x86_cpuid(struct x86_cpu *c, u32 function, u32 index, u32 out[4]);
/* Takes ownership of a malloc'ed table; recomputes c->feat and maxphyaddr. 0, -ENOMEM (table untouched). owner */
int x86_set_cpuid(struct x86_cpu *c, struct x86_cpuid_entry *e, u32 n);

/* MSRs kept by the CPU. host_initiated: the VMM may write what the guest may not. 0, -EINVAL, -ENOENT: not the CPU's. owner */
int x86_get_msr(struct x86_cpu *c, u32 msr, u64 *value, bool host_initiated);
int x86_set_msr(struct x86_cpu *c, u32 msr, u64 value, bool host_initiated);
/* The MSRs worth saving, for KVM_GET_MSR_INDEX_LIST: writes at most max, returns how many there are. */
u32 x86_msr_list(u32 *out, u32 max);

/* Guest TSC now. */
u64 x86_tsc(const struct x86_cpu *c);

/* Writes the live SIMD state back to c->xsave so that it may be read or changed. owner */
void x86_simd_spill(struct x86_cpu *c);
/* The XCR0 bits that this host and engine support, and the size of a standard-format area for them. */
u64 x86_host_xcr0(void);
u32 x86_xsave_size(u64 xcr0);
/* Where a standard-format area has component n >= 2, and how it is aligned in the compacted one. false: there is none. */
bool x86_xsave_component(u32 n, u32 *offset, u32 *size, bool *align64);

/*
 * The VM's predecoded code. Any CPU of the VM may use it at once; code.c has the locking.
 */
int x86_code_create(struct av_epoch *epoch, struct x86_code **out);
void x86_code_destroy(struct x86_code *code);
/*
 * Before the first CPU is made: execute with tier 1 as well (tb.h). cache: bytes of translated code to keep, 0: the default.
 * 0, -ENOMEM, -EPERM: the host does not let us map code; the interpreter alone stays in charge.
 */
int x86_code_translate(struct x86_code *code, u64 cache);
/* Writes a CPU's counters as text. owner, or after the CPU's last run */
void x86_stats_write(const struct x86_cpu *c, int fd);
/* The VMM may have written guest memory (any return from user space, any irqfd or MSI): pages are compared before they are entered again. Any thread. */
void x86_code_io_epoch(struct x86_code *code);

/*
 * Faults in our own use of guest memory and in native stubs arrive as signals on the vCPU's thread. The shim's (or the C API's)
 * handler passes SIGSEGV, SIGBUS, SIGFPE and SIGILL here first; true: dealt with, return from the handler. Async-signal-safe.
 */
bool x86_signal(int sig, void *siginfo, void *ucontext);

#endif
