// SPDX-License-Identifier: MIT
/*
 * 64-bit mode on one processor: exceptions, paging, SYSCALL, MSRs, the local APIC and its timer,
 * compatibility mode, AVX; then smp.c for the rest of the processors.
 */
#include "long.h"

extern u8 trap_stubs[], syscall_entry[], user_code[], user_code_end[], user_after_call[];
extern u64 gdt[], syscall_rcx, syscall_r11, syscall_flags, syscall_cs, syscall_ss, syscall_r15,
	syscalls;
void run_user(u64 rip, u64 rsp, u64 rflags);
void leave_user(void) __attribute__((noreturn));
u32 run_compat(u32 x);

volatile u8 pages[PAGES][4096] __attribute__((aligned(4096)));
irq_handler *volatile irq_handlers[256];
volatile u32 irq_counts[256];
volatile int x2apic;

static struct {
	u32 reserved;
	u64 rsp[3], reserved2, ist[7], reserved3;
	u16 reserved4, iomap;
} __packed tss;
__asm__(".globl tss_rsp0\n.set tss_rsp0, tss + 4");
static u64 idt[256][2] __attribute__((aligned(16)));
static u8 ist_stack[2][8192] __attribute__((aligned(16)));
static volatile u64 last_frame;

int has_feature(u32 leaf, int reg, int bit)
{
	u32 r[4];

	cpuid(leaf & 0x80000000, 0, r);
	if (r[0] < leaf)
		return 0;
	cpuid(leaf, 0, r);
	return r[reg] >> bit & 1;
}

/* ---- the local APIC ---- */

u32 apic_read(u32 reg)
{
	return x2apic ? (u32)rdmsr(0x800 + reg / 16) : *(volatile u32 *)(0xfee00000ull + reg);
}

void apic_write(u32 reg, u32 v)
{
	if (x2apic)
		wrmsr(0x800 + reg / 16, v);
	else
		*(volatile u32 *)(0xfee00000ull + reg) = v;
}

void apic_icr(u32 dest, u32 low)
{
	if (x2apic) {
		__asm__ volatile("mfence" : : : "memory");
		wrmsr(0x800 + APIC_ICR / 16, (u64)dest << 32 | low);
		return;
	}
	while (apic_read(APIC_ICR) & 1 << 12)
		pause();
	apic_write(APIC_ICR + 16, dest << 24);
	apic_write(APIC_ICR, low);
}

u32 apic_id(void)
{
	return x2apic ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24;
}

void apic_enable(void)
{
	apic_write(APIC_SVR, 0x1ff);
	apic_write(APIC_TPR, 0);
}

/* ---- traps ---- */

void load_idt(void)
{
	struct {
		u16 limit;
		u64 base;
	} __packed d = {sizeof(idt) - 1, (u64)idt};

	__asm__ volatile("lidt %0" : : "m"(d));
}

static void setup_tables(void)
{
	u32 k;

	for (k = 0; k < 256; k++) {
		u64 a = (u64)trap_stubs + 16 * k;

		idt[k][0] = (a & 0xffff) | 8 << 16 |
			    (u64)(k == 8   ? 1
				  : k == 2 ? 2
					   : 0)
				    << 32 |
			    0x8e00ull << 32 | (a >> 16 & 0xffff) << 48;
		idt[k][1] = a >> 32;
	}
	load_idt();
	tss.ist[0] = (u64)ist_stack[0] + sizeof(ist_stack[0]);
	tss.ist[1] = (u64)ist_stack[1] + sizeof(ist_stack[1]);
	tss.iomap = sizeof(tss);
	gdt[6] = (sizeof(tss) - 1) | ((u64)&tss & 0xffffff) << 16 | 0x89ull << 40 |
		 ((u64)&tss >> 24 & 0xff) << 56;
	gdt[7] = (u64)&tss >> 32;
	__asm__ volatile("ltr %w0" : : "r"(0x30));
}

void handle_trap(struct trap_frame *f)
{
	if (irq_handlers[f->vector]) {
		last_frame = (u64)f;
		__atomic_fetch_add(&irq_counts[f->vector], 1, __ATOMIC_SEQ_CST);
		irq_handlers[f->vector](f);
		return;
	}
	caught.vector = (int)f->vector;
	caught.error = f->error;
	caught.address = f->rip;
	caught.cr2 = read_cr2();
	last_frame = (u64)f;
	if (f->cs & 3)
		leave_user();
	if (!try_resume) {
		print("unexpected exception %d error %x at %x cr2 %x\n", L(f->vector), L(f->error),
		      L(f->rip), L(read_cr2()));
		report("no-surprises", 0, "exception");
		finish();
	}
	f->rip = (u64)try_resume;
	f->rflags &= ~0x100ull;
	/* the IST entries and a wild RSP: TRY's end reloads it */
	if (f->vector == 8 || f->vector == 12)
		f->rsp = (u64)ist_stack[1] + 4096;
}

static int peek(volatile void *p)
{
	return TRY("movq (%0), %%rax", "r"(p));
}

static int poke(volatile void *p)
{
	return TRY("movq %%rax, (%0)", "r"(p));
}

static int jump_to(volatile void *p)
{
	return TRY("call *%0", "r"(p));
}

static void test_exceptions(void)
{
	volatile u64 *wild = (u64 *)0x800000000000ull;

	CHECK("de",
	      TRY("xorl %%ecx, %%ecx\n\txorl %%edx, %%edx\n\tmovl $1, %%eax\n\tdivq %%rcx", ) == 0);
	CHECK("bp", TRY("int3", ) == 3);
	CHECK("ud", TRY("ud2", ) == 6);
	CHECK("ud-in-long-mode", TRY(".byte 0x37", ) == 6); /* aaa */
	CHECK("gp-noncanonical", peek(wild) == 13 && !caught.error);
	caught.vector = -1;
	__asm__ volatile("movq %%rbp, %%rdx\n\t" TRY_ARM
			 "movq %0, %%rbp\n\tmovq (%%rbp), %%rax" TRY_DISARM "\n\tmovq %%rdx, %%rbp"
			 :
			 : "r"(wild)
			 : "rax", "rdx", "memory", "cc");
	CHECK_NOT_TCG("ss-noncanonical", caught.vector == 12 && !caught.error);
	CHECK("df", TRY("movq %0, %%rsp\n\tud2", "r"(wild)) == 8 && !caught.error &&
			    last_frame > (u64)ist_stack[0] &&
			    last_frame < (u64)ist_stack[0] + sizeof(ist_stack[0]));
	CHECK("gp-jump-noncanonical", jump_to(wild) == 13 && !caught.error);
	CHECK("gp-selector",
	      TRY("movl $0x1000, %%eax\n\tmovl %%eax, %%ds", ) == 13 && caught.error == 0x1000);
	CHECK("null-ds", TRY("xorl %%eax, %%eax\n\tmovl %%eax, %%ds\n\tmovl pml4, %%eax\n\tmovl "
			     "$0x10, %%eax\n\tmovl %%eax, %%ds", ) == -1);
	CHECK("cmpxchg16b-unaligned", TRY("cmpxchg16b 8(%0)", "r"(pages[0])) == 13);
	__asm__ volatile("movl %0, %%ds" : : "r"(0x10));
}

static void test_paging(void)
{
	u64 r, k;
	u32 leaf[4];

	for (k = 0; k < PAGES; k++)
		window_pt[k] = (u64)pages[k] | W | P;
	pages[0][0] = 0xc3;
	CHECK("window", *(volatile u8 *)WIN(0) == 0xc3 && jump_to(WIN(0)) == -1);
	window_pt[0] |= NX;
	invlpg(WIN(0));
	CHECK("nx", jump_to(WIN(0)) == 14 && caught.error == 0x11 && caught.cr2 == (u64)WIN(0));
	CHECK("pf-absent", peek(WIN(20)) == 14 && caught.error == 0 && caught.cr2 == (u64)WIN(20));
	CHECK("pf-absent-write", poke(WIN(20)) == 14 && caught.error == 2);
	CHECK("pf-absent-fetch", jump_to(WIN(20)) == 14 && caught.error == 0x10);
	window_pt[1] = (u64)pages[1] | P;
	invlpg(WIN(1));
	CHECK("pf-readonly", poke(WIN(1)) == 14 && caught.error == 3);
	cpuid(0x80000008, 0, leaf);
	if ((leaf[0] & 0xff) < 52) {
		window_pt[2] = (u64)pages[2] | 1ull << (leaf[0] & 0xff) | W | P;
		invlpg(WIN(2));
		CHECK_NOT_TCG("pf-reserved", peek(WIN(2)) == 14 && caught.error == 9);
	}
	window_pt[2] = (u64)pages[2] | W | P;
	CHECK("accessed", peek(WIN(2)) == -1 && (window_pt[2] & (A | D)) == A);
	CHECK("dirty", poke(WIN(2)) == -1 && window_pt[2] & D);
	/* over two pages, of which the second is absent */
	window_pt[4] = 0;
	invlpg(WIN(4));
	memset((u8 *)pages[3] + 4088, 0x11, 8);
	CHECK("pf-second-page",
	      poke((u8 *)WIN(4) - 3) == 14 && caught.cr2 == (u64)WIN(4) && pages[3][4095] == 0x11);
	window_pt[4] = (u64)pages[4] | W | P;
	*(volatile u64 *)((u64)WIN(4) - 3) = 0x1122334455667788ull;
	CHECK("cross-page", pages[3][4093] == 0x88 && pages[4][4] == 0x11);
	/* global pages outlive CR3 but not CR4.PGE */
	write_cr4(read_cr4() | 0x80);
	window_pt[5] = (u64)pages[5] | G | W | P;
	*WIN(5) = 5;
	*(volatile u64 *)pages[6] = 6;
	window_pt[5] = (u64)pages[6] | G | W | P;
	write_cr4(read_cr4() & ~0x80ull);
	CHECK("pge-flush", *WIN(5) == 6);
	window_pt[5] = (u64)pages[5] | W | P;
	write_cr3(read_cr3());
	CHECK("cr3-flush", *WIN(5) == 5);
	if (has_feature(0x80000001, 3, 26)) {
		pdpt[1] = 0x83; /* a 1 GiB page over the first GiB */
		CHECK("gigabyte-page", *(volatile u64 *)(0x40000000ull + (u64)pages[6]) == 6);
		pdpt[1] = 0;
		invlpg((void *)0x40000000ull);
		CHECK("gigabyte-gone",
		      peek((void *)(0x40000000ull + (u64)pages[6])) == 14 && caught.error == 0);
	}
	if (has_feature(1, 2, 17)) {
		/* two PCIDs with the same tables: the second must see what changed before it was
		 * first used */
		write_cr4(read_cr4() | 0x20000);
		write_cr3((u64)pml4 | 1);
		window_pt[5] = (u64)pages[6] | W | P;
		write_cr3((u64)pml4 | 2);
		CHECK("pcid", *WIN(5) == 6);
		write_cr3((u64)pml4);
		write_cr4(read_cr4() & ~0x20000ull);
	}
	/* user pages in supervisor mode */
	window_pt[7] = (u64)pages[7] | U | W | P;
	pages[7][0] = 0xc3;
	CHECK("user-page", peek(WIN(7)) == -1 && jump_to(WIN(7)) == -1);
	if (has_feature(7, 1, 7)) {
		write_cr4(read_cr4() | 1 << 20);
		CHECK("smep", jump_to(WIN(7)) == 14 && caught.error == 0x11);
		CHECK("smep-read", peek(WIN(7)) == -1);
		write_cr4(read_cr4() & ~(1ull << 20));
	}
	if (has_feature(7, 1, 20)) {
		write_cr4(read_cr4() | 1 << 21);
		CHECK("smap", peek(WIN(7)) == 14 && caught.error == 1);
		CHECK("smap-stac", TRY("stac\n\tmovq (%0), %%rax\n\tclac", "r"(WIN(7))) == -1);
		CHECK("smap-clac", poke(WIN(7)) == 14 && caught.error == 3);
		write_cr4(read_cr4() & ~(1ull << 21));
	}
	r = read_cr0();
	CHECK_NOT_TCG("gp-paging-off", TRY("movq %0, %%cr0", "r"(r & ~0x80000000ull)) == 13);
	write_cr0(r);
}

/* ---- ring 3 ---- */

static int user(int entry, u64 flags)
{
	caught.vector = -1;
	run_user((u64)WIN(8) + 64 * entry, (u64)WIN(10) - 8, flags);
	return caught.vector;
}

static void test_ring3(void)
{
	u64 base = (u64)WIN(8);

	memcpy((u8 *)pages[8], user_code, user_code_end - user_code);
	window_pt[8] = (u64)pages[8] | U | P;
	window_pt[9] = (u64)pages[9] | U | W | P | NX;
	invlpg(WIN(8));
	invlpg(WIN(9));
	wrmsr(MSR_STAR, 0x001b000800000000ull);
	wrmsr(MSR_LSTAR, (u64)syscall_entry);
	wrmsr(MSR_FMASK, 0x47700);
	CHECK("user-exit",
	      user(0, 0x202) == -1 && syscalls == 1 && syscall_r15 == 0x0123456789abcdefull);
	CHECK("syscall", user(1, 0x246) == -1 && syscalls == 3);
	/* DF was set and is masked, as is IF */
	report("syscall-registers",
	       syscall_cs == 8 && syscall_ss == 0x10 && !(syscall_flags & 0x700) &&
		       syscall_r11 == 0x646,
	       "cs %x ss %x flags %x r11 %x", L(syscall_cs), L(syscall_ss), L(syscall_flags),
	       L(syscall_r11));
	report("syscall-rcx", syscall_rcx == base + (u64)user_after_call, "%x", L(syscall_rcx));
	report("sysret-registers", syscall_r15 == 0x23002b, "%x", L(syscall_r15));
	CHECK("user-cli", user(2, 0x202) == 13 && !caught.error);
	CHECK("user-cli-iopl3", user(2, 0x3202) == -1);
	CHECK("user-read-kernel",
	      user(3, 0x202) == 14 && caught.error == 5 && caught.cr2 == 0x100000);
	CHECK("user-write-kernel", user(4, 0x202) == 14 && caught.error == 7);
	CHECK("user-nx", user(5, 0x202) == 14 && caught.error == 0x15);
	CHECK("user-rdmsr", user(6, 0x202) == 13 && !caught.error);
	*(volatile u64 *)(pages[9] + 8) = 1000;
	*(volatile u64 *)(pages[9] + 16) = 234;
	wrmsr(MSR_FS_BASE, (u64)WIN(9));
	wrmsr(MSR_GS_BASE, (u64)WIN(9) + 8);
	CHECK("user-fs-gs", user(7, 0x202) == -1 && syscall_r15 == 1234);
	CHECK_NOT_TCG("user-int-dpl", user(8, 0x202) == 13 && caught.error == 0x21 * 8 + 2);
	CHECK("user-noncanonical", user(9, 0x202) == 13 && !caught.error);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~1ull);
	CHECK("syscall-disabled", user(0, 0x202) == 6);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
}

/* ---- MSRs ---- */

static int try_wrmsr(u32 msr, u64 v)
{
	return TRY("movl %0, %%ecx\n\tmovl %1, %%eax\n\tmovl %2, %%edx\n\twrmsr", "r"(msr),
		   "r"((u32)v), "r"((u32)(v >> 32)));
}

static void test_msrs(void)
{
	u64 v;
	u32 aux = 0;

	wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000001000ull);
	wrmsr(MSR_GS_BASE, 0x1234);
	__asm__ volatile("swapgs" : : : "memory");
	CHECK("swapgs",
	      rdmsr(MSR_GS_BASE) == 0xffff800000001000ull && rdmsr(MSR_KERNEL_GS_BASE) == 0x1234);
	CHECK_NOT_TCG("gp-lstar", try_wrmsr(MSR_LSTAR, 0x800000000000ull) == 13);
	CHECK_NOT_TCG("gp-fs-base", try_wrmsr(MSR_FS_BASE, 0x800000000000ull) == 13);
	CHECK_NOT_TCG("gp-pat", try_wrmsr(MSR_PAT, 0x0202020202020202ull) == 13);
	CHECK_NOT_TCG("gp-lme", try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~0x100ull) == 13);
	CHECK("lma", rdmsr(MSR_EFER) & 0x400);
	v = rdmsr(MSR_PAT);
	wrmsr(MSR_PAT, 0x0007040600070406ull);
	CHECK("pat", rdmsr(MSR_PAT) == 0x0007040600070406ull);
	wrmsr(MSR_PAT, v);
	if (has_feature(0x80000001, 3, 27)) {
		wrmsr(MSR_TSC_AUX, 0x4711);
		__asm__ volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
		report("rdtscp", aux == 0x4711, "%x", L(aux));
	}
	if (has_feature(7, 1, 0)) {
		write_cr4(read_cr4() | 1 << 16);
		__asm__ volatile("wrfsbase %1\n\trdfsbase %0" : "=r"(v) : "r"(0x123456789000ull));
		report("fsgsbase", v == 0x123456789000ull && rdmsr(MSR_FS_BASE) == v, "%x", L(v));
	}
	v = rdtsc();
	CHECK("tsc-runs", rdtsc() > v);
	wrmsr(MSR_TSC, 1000);
	v = rdtsc();
	report("tsc-write", v >= 1000 && v < SOON, "%x", L(v));
	write_cr4(read_cr4() | 4);
	CHECK("rdtsc-tsd", TRY("rdtsc", ) == -1);
	write_cr4(read_cr4() & ~4ull);
}

/* ---- interrupts ---- */

static void eoi(struct trap_frame *f)
{
	apic_write(APIC_EOI, 0);
}

static void nmi(struct trap_frame *f)
{
}

/* One HLT with interrupts on at a time, until the vector has come n times; gives up after a while
 * of wake-ups. */
static int halt_until(int vector, u32 n)
{
	int k;

	for (k = 0; k < 1000 && irq_counts[vector] < n; k++)
		__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
	return irq_counts[vector] >= n;
}

static void test_apic(void)
{
	u32 before, r[4];

	apic_enable();
	cpuid(1, 0, r);
	report("apic-id", apic_id() == r[1] >> 24, "%x %x", L(apic_id()), L(r[1] >> 24));
	report("apic-version", (apic_read(APIC_VERSION) & 0xf0) == 0x10, "%x",
	       L(apic_read(APIC_VERSION)));
	irq_handlers[0x40] = irq_handlers[0x50] = irq_handlers[0x51] = eoi;
	irq_handlers[2] = nmi;

	apic_icr(0, ICR_SELF | 0x40);
	CHECK("if-holds", irq_counts[0x40] == 0 && apic_read(APIC_IRR + 0x20) & 1);
	__asm__ volatile("sti\n\tcli" : : : "memory");
	CHECK("sti-shadow", irq_counts[0x40] == 0);
	__asm__ volatile("sti\n\tnop\n\tcli" : : : "memory");
	report("self-ipi", irq_counts[0x40] == 1, "%d", L(irq_counts[0x40]));
	__asm__ volatile("movq %0, %%cr8\n\tsti" : : "r"(4ull));
	apic_icr(0, ICR_SELF | 0x40);
	__asm__ volatile("nop\n\tnop\n\tcli" : : : "memory");
	report("tpr-holds", irq_counts[0x40] == 1 && apic_read(APIC_TPR) == 0x40, "%d %x",
	       L(irq_counts[0x40]), L(apic_read(APIC_TPR)));
	__asm__ volatile("sti\n\tmovq %0, %%cr8\n\tnop\n\tcli" : : "r"(0ull) : "memory");
	report("tpr-lowered", irq_counts[0x40] == 2, "%d", L(irq_counts[0x40]));
	last_frame = 0;
	apic_icr(0, ICR_NMI | ICR_SELF);
	(void)WAIT_FOR(irq_counts[2] == 1);
	report("nmi-ist",
	       irq_counts[2] == 1 && last_frame > (u64)ist_stack[1] &&
		       last_frame < (u64)ist_stack[1] + sizeof(ist_stack[1]),
	       "%d %x", L(irq_counts[2]), L(last_frame));

	/* only this processor has a TSS, and so an IST: from here on NMIs use the current stack */
	idt[2][0] &= ~(7ull << 32);

	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, 0x50 | 1 << 16);
	apic_write(APIC_TMICT, ~0u);
	before = apic_read(APIC_TMCCT);
	report("timer-counts", before && WAIT_FOR(apic_read(APIC_TMCCT) < before), "%x", L(before));
	apic_write(APIC_LVTT, 0x50);
	apic_write(APIC_TMICT, 200000);
	report("timer-one-shot", halt_until(0x50, 1) && apic_read(APIC_TMCCT) == 0, "%d",
	       L(apic_read(APIC_TMCCT)));
	apic_write(APIC_LVTT, 0x50 | 1 << 17);
	apic_write(APIC_TMICT, 100000);
	report("timer-periodic", halt_until(0x50, 6), "%d", L(irq_counts[0x50]));
	apic_write(APIC_LVTT, 0x50 | 1 << 16);
	apic_write(APIC_TMICT, 0);
	if (has_feature(1, 2, 24)) {
		before = irq_counts[0x50];
		apic_write(APIC_LVTT, 0x50 | 2 << 17);
		__asm__ volatile("mfence" : : : "memory");
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000000);
		report("timer-deadline",
		       halt_until(0x50, before + 1) && rdmsr(MSR_TSC_DEADLINE) == 0, "%d",
		       L(irq_counts[0x50]));
		apic_write(APIC_LVTT, 0x50 | 1 << 16);
	}
}

static volatile u32 *const ioapic = (volatile u32 *)0xfec00000;

static void ioapic_write(u32 reg, u32 v)
{
	ioapic[0] = reg;
	ioapic[4] = v;
}

/* PIT channel 0 through the I/O APIC: pin 2 as boards wire it, pin 0 as KVM's default routing does.
 */
static void test_ioapic(void)
{
	int pin;

	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	for (pin = 0; pin <= 2; pin += 2) {
		ioapic_write(0x11 + 2 * pin, apic_id() << 24);
		ioapic_write(0x10 + 2 * pin, 0x51);
	}
	outb(0x43, 0x34);
	outb(0x40, 2400 & 0xff);
	outb(0x40, 2400 >> 8);
	report("pit-through-ioapic", halt_until(0x51, 3), "%d", L(irq_counts[0x51]));
	for (pin = 0; pin <= 2; pin += 2)
		ioapic_write(0x10 + 2 * pin, 1 << 16);
	outb(0x43, 0x30);
	outb(0x40, 1);
	outb(0x40, 0);
}

/* ---- odds ---- */

static void test_self_modifying(void)
{
	volatile u8 *code = pages[11];
	u64 (*f)(void) = (u64(*)(void))(u64)WIN(11);
	u64 k, sum = 0;

	window_pt[11] = (u64)pages[11] | W | P;
	invlpg(WIN(11));
	code[0] = 0xb8; /* mov eax, imm32; ret */
	code[5] = 0xc3;
	for (k = 0; k < 1000; k++) {
		/* through the other mapping of the page */
		*(volatile u32 *)(code + 1) = (u32)k;
		sum += f();
	}
	report("self-modifying", sum == 499500, "%d", L(sum));
	/* other code under the same address */
	pages[12][0] = 0xb8;
	*(volatile u32 *)(pages[12] + 1) = 77777;
	pages[12][5] = 0xc3;
	window_pt[11] = (u64)pages[12] | W | P;
	invlpg(WIN(11));
	report("code-remapped", f() == 77777, "%d", L(f()));
}

__attribute__((target("avx"))) static void test_avx(void)
{
	static float in[64] __attribute__((aligned(32))), out[8] __attribute__((aligned(32)));
	static u8 image[4096] __attribute__((aligned(64)));
	static const u32 values[8] = {0x43fc0000, 0x44020000, 0x44060000, 0x440a0000,
				      0x440e0000, 0x44120000, 0x44160000, 0x441a0000};
	u32 k;

	if (!has_feature(1, 2, 26) || !has_feature(1, 2, 28)) {
		print("avx: not in this CPU\n");
		return;
	}
	CHECK("xgetbv-ud", TRY("xorl %%ecx, %%ecx\n\txgetbv", ) == 6);
	write_cr4(read_cr4() | 1 << 18);
	CHECK("xsetbv-gp",
	      TRY("xorl %%ecx, %%ecx\n\tmovl $4, %%eax\n\txorl %%edx, %%edx\n\txsetbv", ) == 13);
	CHECK("avx-disabled",
	      TRY("xorl %%ecx, %%ecx\n\tmovl $3, %%eax\n\txorl %%edx, %%edx\n\txsetbv\n\t"
		  "vaddps %%ymm0, %%ymm0, %%ymm0", ) == 6);
	CHECK("xsetbv",
	      TRY("xorl %%ecx, %%ecx\n\tmovl $7, %%eax\n\txorl %%edx, %%edx\n\txsetbv", ) == -1);
	/* in[k] = k, by the integer unit */
	for (k = 0; k < 64; k++) {
		u32 bits = k ? (127 + 31 - __builtin_clz(k)) << 23 |
					   (k << (23 - (31 - __builtin_clz(k))) & 0x7fffff)
			     : 0;

		memcpy(&in[k], &bits, 4);
	}
	/* sums by column: 8 * (0+8+...+56) and so on, doubled */
	__asm__ volatile(
		"vxorps %%ymm0, %%ymm0, %%ymm0\n\t"
		"movl $8, %%ecx\n\tmovq %0, %%rax\n1:\n\tvaddps (%%rax), %%ymm0, %%ymm0\n\taddq "
		"$32, %%rax\n\tloop 1b\n\t"
		"vaddps %%ymm0, %%ymm0, %%ymm0\n\tvaddps %2, %%ymm0, %%ymm0\n\tvmovaps %%ymm0, %1"
		:
		: "r"(in), "m"(out), "m"(*(const u8(*)[32])(image + 1024))
		: "rax", "ecx", "memory");
	/* 2 * (28 * 8 + 8 * k) = 448 + 16 k */
	for (k = 0; k < 8; k++) {
		u32 want = values[k], n = 448 + 16 * k, got;

		want = (127 + 31 - __builtin_clz(n)) << 23 |
		       (n << (23 - (31 - __builtin_clz(n))) & 0x7fffff);
		memcpy(&got, &out[k], 4);
		if (got != want)
			break;
	}
	report("avx-sum", k == 8, "column %d", L(k));
	__asm__ volatile("movl $7, %%eax\n\txorl %%edx, %%edx\n\txsave %0\n\tvzeroall\n\tmovl $7, "
			 "%%eax\n\txorl %%edx, %%edx\n\txrstor %0\n\t"
			 "vmovaps %%ymm0, %1"
			 : "+m"(image), "+m"(in)
			 :
			 : "eax", "edx");
	CHECK("xsave", !memcmp(in, out, 32) && (image[512] & 6) == 6);
	CHECK("xrstor-gp",
	      TRY("movb $0xff, 513(%0)\n\tmovl $7, %%eax\n\txorl %%edx, %%edx\n\txrstor (%0)",
		  "r"(image)) == 13);
	CHECK("vmovaps-unaligned", TRY("vmovaps 1(%0), %%ymm1", "r"(in)) == 13);
}

void long_main(void)
{
	mask_pics();
	setup_tables();
	report("start", 1, "");
	test_exceptions();
	test_paging();
	test_ring3();
	test_msrs();
	report("compat", run_compat(40) == 42, "%d", L(run_compat(40)));
	test_self_modifying();
	test_avx();
	test_apic();
	test_ioapic();
	test_smp();
	finish();
}
