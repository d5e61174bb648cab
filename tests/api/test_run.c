/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN through the public API: guests of a few bytes, the exits they make, and what interrupts a
 * run.
 */
#include "api.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

static struct guest g;

static int setup(void **state)
{
	guest_make(&g);
	guest_start(&g);
	return 0;
}

static int setup_irqchip(void **state)
{
	guest_make(&g);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	guest_start(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

static struct kvm_regs regs(void)
{
	struct kvm_regs r;

	ok(g.vcpu, KVM_GET_REGS, &r);
	return r;
}

static void enable(int fd, u32 cap, u64 arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	ok(fd, KVM_ENABLE_CAP, &e);
}

/* A real-mode interrupt vector. */
static void vector(u8 nr, u16 off)
{
	memcpy(g.ram + nr * 4, (u16[]){off, 0}, 4);
}

/* What follows is put down at off. */
static u8 *at(u16 off)
{
	u8 *was = g.at;

	g.at = g.ram + off;
	return was;
}

/* ---- exits ---- */

static void pio(void **state)
{
	u32 v;

	g_outb(&g, 0x3f8, 'A');
	g_outw(&g, 0x1234, 0xbeef);
	g_outl(&g, 0x1238, 0xdeadbeef);
	g_inb(&g, 0x3f9);
	g_done(&g);

	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(g.run->io.port, 0x3f8);
	assert_int_equal(g.run->io.size, 1);
	assert_int_equal(g.run->io.count, 1);
	assert_int_equal(g.run->io.data_offset, PAGE);
	assert_int_equal(*(u8 *)pio_data(&g), 'A');
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.size, 2);
	assert_int_equal(*(u16 *)pio_data(&g), 0xbeef);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	memcpy(&v, pio_data(&g), 4);
	assert_int_equal(v, 0xdeadbeef);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);
	assert_int_equal(g.run->io.port, 0x3f9);
	*(u8 *)pio_data(&g) = 0x77;
	assert_int_equal(guest_done(&g), 0x77);
}

static void string_pio(void **state)
{
	/* cld; mov si, 0x3000; mov cx, 5; mov dx, 0x3f8; rep outsb */
	code(&g, 0xfc, 0xbe, LE16(0x3000), 0xb9, LE16(5), 0xba, LE16(0x3f8), 0xf3, 0x6e);
	/* mov di, 0x4000; mov cx, 4; rep insw */
	code(&g, 0xbf, LE16(0x4000), 0xb9, LE16(4), 0xf3, 0x6d);
	g_done(&g);
	memcpy(g.ram + 0x3000, "hello", 5);

	/* In as many exits as it likes; the bytes count. */
	for (u32 n = 0; n < 5; n += g.run->io.count) {
		assert_int_equal(guest_run(&g), KVM_EXIT_IO);
		assert_int_equal(g.run->io.direction, KVM_EXIT_IO_OUT);
		assert_int_equal(g.run->io.size, 1);
		assert_true(n + g.run->io.count <= 5);
		assert_memory_equal(pio_data(&g), &"hello"[n], g.run->io.count);
	}
	for (u32 n = 0; n < 4; n += g.run->io.count) {
		assert_int_equal(guest_run(&g), KVM_EXIT_IO);
		assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);
		assert_int_equal(g.run->io.size, 2);
		assert_true(n + g.run->io.count <= 4);
		for (u32 i = 0; i < g.run->io.count; i++)
			((u16 *)pio_data(&g))[i] = (n + i) * 0x101;
	}
	guest_done(&g);
	assert_memory_equal(g.ram + 0x4000, ((u16[]){0, 0x101, 0x202, 0x303}), 8);
}

static void mmio(void **state)
{
	g_es(&g, 0xd000); /* nothing at 0xd0000 */
	g_store8(&g, 0x10, 0x5a);
	g_store32(&g, 0x20, 0xcafebabe);
	g_load8(&g, 0x30);
	g_done(&g);

	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, 0xd0010);
	assert_int_equal(g.run->mmio.len, 1);
	assert_int_equal(g.run->mmio.is_write, 1);
	assert_int_equal(g.run->mmio.data[0], 0x5a);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.len, 4);
	assert_memory_equal(g.run->mmio.data, "\xbe\xba\xfe\xca", 4);
	assert_int_equal(guest_run(&g), KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, 0xd0030);
	assert_int_equal(g.run->mmio.is_write, 0);
	g.run->mmio.data[0] = 0x99;
	assert_int_equal(guest_done(&g), 0x99);
}

static void hlt(void **state)
{
	code(&g, 0xf4);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_HLT);
	assert_int_equal(regs().rip, GUEST_CODE + 1);
	/* Run again, it goes on. */
	guest_done(&g);
}

static void shutdown_exit(void **state)
{
	struct kvm_sregs s;

	/* No IDT: the fault of the fault of the fault. */
	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.idt.limit = 0;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	code(&g, 0x0f, 0x0b);
	assert_int_equal(guest_run(&g), KVM_EXIT_SHUTDOWN);
}

static void triple_fault_event(void **state)
{
	struct kvm_vcpu_events e;

	g_done(&g);
	enable(g.vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	e.triple_fault.pending = 1;
	ok(g.vcpu, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(guest_run(&g), KVM_EXIT_SHUTDOWN);
	guest_done(&g);
}

/* cmocka puts its own handler for faults in front of each test; this is the library's. */
static struct sigaction library_segv;

/* A memory slot whose host memory is gone. */
static void no_backing(void **state)
{
	u8 *hole = map_pages(1);

	sigaction(SIGSEGV, &library_segv, NULL);
	set_region_at(g.vm, 1, 0, 0x20000, PAGE, hole);
	munmap(hole, PAGE);
	g_es(&g, 0x2000);
	g_load8(&g, 0);
	g_done(&g);
	fails(EFAULT, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rip, GUEST_CODE + 5); /* at the load */
	/* Once the memory is there, the guest goes on. */
	assert_ptr_equal(mmap(hole, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 hole);
	hole[0] = 0x42;
	assert_int_equal(guest_done(&g), 0x42);
	munmap(hole, PAGE);
}

static void bad_argument(void **state)
{
	g_done(&g);
	fails(EINVAL, g.vcpu, KVM_RUN, 1);
	g.run->cr8 = 16;
	fails(EINVAL, g.vcpu, KVM_RUN, 0);
	g.run->cr8 = 0;
	g.run->kvm_valid_regs = 1 << 3;
	fails(EINVAL, g.vcpu, KVM_RUN, 0);
	g.run->kvm_valid_regs = 0;
	guest_done(&g);
}

/* Instructions come from memory; a device cannot give them. */
static void code_from_device(void **state)
{
	code(&g, 0xea, LE16(0), LE16(0xd000)); /* jmp d000:0 */
	assert_int_equal(guest_run(&g), KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(g.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	assert_true(g.run->internal.ndata >= 1);
}

static void set_tpr(void **state)
{
	struct kvm_sregs s;

	/* CR8 exists in long mode only. */
	static u64 tables[3][512] __attribute__((aligned(4096)));

	memset(tables, 0, sizeof(tables));
	tables[0][0] = 0x21003;
	tables[1][0] = 0x22003;
	tables[2][0] = 0x83;
	set_region_at(g.vm, 1, 0, 0x20000, sizeof(tables), tables);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.cr0 = 0x80000033;
	s.cr3 = 0x20000;
	s.cr4 = 0x20;
	s.efer = 0x500;
	s.cs = (struct kvm_segment){
		.limit = ~0u, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1, .selector = 8};
	ok(g.vcpu, KVM_SET_SREGS, &s);
	/* mov eax, 5; mov cr8, rax; mov eax, 3; mov cr8, rax; */
	code(&g, 0xb8, LE32(5), 0x44, 0x0f, 0x22, 0xc0, 0xb8, LE32(3), 0x44, 0x0f, 0x22, 0xc0);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_SET_TPR);
	assert_int_equal(g.run->cr8, 3);
	guest_done(&g);
}

static void status_fields(void **state)
{
	code(&g, 0xfb, 0x90); /* sti; nop */
	g_outb(&g, 0x80, 0);
	code(&g, 0xfa); /* cli */
	g_done(&g);
	guest_run(&g);
	assert_int_equal(g.run->if_flag, 1);
	assert_int_equal(g.run->apic_base, 0xfee00900);
	assert_int_equal(g.run->flags, 0);
	guest_done(&g);
	assert_int_equal(g.run->if_flag, 0);
	assert_int_equal(g.run->ready_for_interrupt_injection, 0);
}

/* ---- events ---- */

static void interrupt(void **state)
{
	struct kvm_interrupt irq = {0x21};
	u8 *was = at(0x2000);

	code(&g, 0xb0, 0x5c); /* mov al, 0x5c */
	g_done(&g);
	g.at = was;
	vector(0x21, 0x2000);
	g_outb(&g, 0x80, 0);
	code(&g, 0xfb, 0x90, 0x90, 0xeb, 0xfd); /* sti; nop; nop; for ever */

	guest_run(&g);
	assert_int_equal(g.run->ready_for_interrupt_injection, 0);
	g.run->request_interrupt_window = 1;
	assert_int_equal(guest_run(&g), KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(g.run->ready_for_interrupt_injection, 1);
	assert_int_equal(g.run->if_flag, 1);
	g.run->request_interrupt_window = 0;
	ok(g.vcpu, KVM_INTERRUPT, &irq);
	assert_int_equal(guest_done(&g), 0x5c);
	assert_int_equal(regs().rflags & 0x200, 0);
}

static void nmi(void **state)
{
	u8 *was = at(0x2000);

	code(&g, 0xb0, 0x33);
	g_outb(&g, 0x80, 0x33);
	code(&g, 0xcf); /* iret */
	g.at = was;
	vector(2, 0x2000);
	code(&g, 0x90);
	g_done(&g);
	ok(g.vcpu, KVM_NMI, 0);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	/* A second one waits for the IRET of the first. */
	ok(g.vcpu, KVM_NMI, 0);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	guest_done(&g);
}

/* Split irqchip: the PIC is the VMM's, the LAPIC is not. */
static void split_interrupt(void **state)
{
	struct kvm_interrupt irq = {0x21};
	u8 *was;

	guest_make(&g);
	enable(g.vm, KVM_CAP_SPLIT_IRQCHIP, 24);
	guest_start(&g);
	was = at(0x2000);
	g_outb(&g, 0x80, 0x21);
	code(&g, 0xcf);
	g.at = was;
	vector(0x21, 0x2000);
	code(&g, 0xfb, 0x90, 0xf4); /* sti; nop; hlt */
	g_done(&g);

	g.run->request_interrupt_window = 1;
	assert_int_equal(guest_run(&g), KVM_EXIT_IRQ_WINDOW_OPEN);
	ok(g.vcpu, KVM_INTERRUPT, &irq);
	g.run->request_interrupt_window = 0;
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	/* It halts; asking for a window does not need it to run, and the interrupt wakes it. */
	g.run->request_interrupt_window = 1;
	assert_int_equal(guest_run(&g), KVM_EXIT_IRQ_WINDOW_OPEN);
	ok(g.vcpu, KVM_INTERRUPT, &irq);
	g.run->request_interrupt_window = 0;
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	guest_end(&g);
}

#define APIC_BASE  0xfee00000
#define APIC_SVR   0xf0
#define APIC_LVT0  0x350
#define LVT_MASKED 0x10000
#define LVT_EXTINT 0x700

/* The window opens by the guest's own doing while it runs: it unmasks the VMM's PIC. */
static void split_window_by_lvt0(void **state)
{
	struct kvm_interrupt irq = {0x21};
	struct kvm_lapic_state l;
	struct kvm_sregs s;
	u8 *was;

	guest_make(&g);
	enable(g.vm, KVM_CAP_SPLIT_IRQCHIP, 24);
	guest_start(&g);
	ok(g.vcpu, KVM_GET_LAPIC, &l);
	memcpy(l.regs + APIC_SVR, (u32[]){0x1ff}, 4);
	memcpy(l.regs + APIC_LVT0, (u32[]){LVT_MASKED | LVT_EXTINT}, 4);
	ok(g.vcpu, KVM_SET_LAPIC, &l);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.es.base = APIC_BASE;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	was = at(0x2000);
	g_outb(&g, 0x80, 0x21);
	code(&g, 0xcf);
	g.at = was;
	vector(0x21, 0x2000);
	code(&g, 0xfb, 0x90); /* sti; nop */
	g_store32(&g, APIC_LVT0, LVT_EXTINT);
	code(&g, 0x90, 0x90);
	g_store32(&g, APIC_LVT0, LVT_MASKED | LVT_EXTINT);
	g_outb(&g, 0x82, 0);
	g_store32(&g, APIC_LVT0, LVT_EXTINT);
	code(&g, 0x90, 0x90);
	g_done(&g);

	g.run->request_interrupt_window = 1;
	assert_int_equal(guest_run(&g), KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(g.run->ready_for_interrupt_injection, 1);
	g.run->request_interrupt_window = 0;
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x82);
	/* The same for a vector that waits. */
	assert_int_equal(g.run->ready_for_interrupt_injection, 0);
	ok(g.vcpu, KVM_INTERRUPT, &irq);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	guest_done(&g);
	guest_end(&g);
}

static void injected_exception(void **state)
{
	struct kvm_vcpu_events e;
	u8 *was = at(0x2000);

	code(&g, 0xb0, 0x06);
	g_done(&g);
	g.at = was;
	vector(6, 0x2000);
	code(&g, 0xb0, 0x00);
	g_done(&g);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	e.exception.injected = 1;
	e.exception.nr = 6;
	ok(g.vcpu, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(guest_done(&g), 6);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.injected, 0);
}

/* An exception and an interrupt at once: the exception first, the interrupt when it can be. */
static void two_events(void **state)
{
	struct kvm_vcpu_events e;
	u8 *was = at(0x2000);

	g_outb(&g, 0x80, 6);
	g_outb(&g, 0x81, 6);
	code(&g, 0xcf);
	at(0x2100);
	code(&g, 0xb0, 0x21);
	g_done(&g);
	g.at = was;
	vector(6, 0x2000);
	vector(0x21, 0x2100);
	code(&g, 0xfb, 0x90, 0x90, 0xeb, 0xfd);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	e.exception.injected = 1;
	e.exception.nr = 6;
	e.interrupt.injected = 1;
	e.interrupt.nr = 0x21;
	ok(g.vcpu, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	/* Not inside the handler, which interrupts cannot interrupt. */
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.injected, 0);
	assert_int_equal(e.interrupt.injected, 1);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x81);
	assert_int_equal(guest_done(&g), 0x21);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.interrupt.injected, 0);
}

static void payload_delivered(void **state)
{
	struct kvm_vcpu_events e;
	struct kvm_sregs s;
	u8 *was = at(0x2000);

	g_done(&g);
	g.at = was;
	vector(14, 0x2000);
	enable(g.vm, KVM_CAP_EXCEPTION_PAYLOAD, 1);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	e.exception.pending = 1;
	e.exception.nr = 14;
	e.exception_has_payload = 1;
	e.exception_payload = 0x123000;
	ok(g.vcpu, KVM_SET_VCPU_EVENTS, &e);
	guest_done(&g);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	assert_int_equal(s.cr2, 0x123000);
}

/* ---- debugging by the VMM ---- */

static void single_step(void **state)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};

	code(&g, 0x90, 0xb0, 0x11, 0x90);
	g_done(&g);
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	for (int i = 0; i < 3; i++) {
		static const u16 after[] = {1, 3, 4};

		assert_int_equal(guest_run(&g), KVM_EXIT_DEBUG);
		assert_int_equal(g.run->debug.arch.exception, 1);
		assert_int_equal(g.run->debug.arch.pc, GUEST_CODE + after[i]);
		assert_true(g.run->debug.arch.dr6 & 1 << 14);
		assert_int_equal(regs().rip, GUEST_CODE + after[i]);
	}
	d.control = 0;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(guest_done(&g), 0x11);
}

static void guest_debug(void **state)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};

	code(&g, 0x90, 0x90, 0x90, 0xcc);
	g_done(&g);
	d.arch.debugreg[1] = GUEST_CODE + 2;
	d.arch.debugreg[7] = 0x400 | 3 << 2;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(guest_run(&g), KVM_EXIT_DEBUG);
	assert_int_equal(g.run->debug.arch.pc, GUEST_CODE + 2);
	assert_true(g.run->debug.arch.dr6 & 2);
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(guest_run(&g), KVM_EXIT_DEBUG);
	assert_int_equal(g.run->debug.arch.exception, 3);
	assert_int_equal(g.run->debug.arch.pc, GUEST_CODE + 3);
	assert_int_equal(regs().rip, GUEST_CODE + 3);

	/* The guest's own breakpoint after all: given back, it is delivered, and returns behind
	 * itself. */
	u8 *was = at(0x2000);

	code(&g, 0xcf);
	g.at = was;
	vector(3, 0x2000);
	d.control = KVM_GUESTDBG_INJECT_BP;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	guest_done(&g);
}

/* A watchpoint traps behind the store; an NMI waits while the VMM steps with BLOCKIRQ. */
static void guest_watch(void **state)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
	struct kvm_vcpu_events e;
	u8 *was;

	code(&g, 0xb0, 0x42, 0xa2, 0x00, 0x30, 0x90);
	g_done(&g);
	was = at(0x2000);
	code(&g, 0xcf);
	g.at = was;
	vector(2, 0x2000);
	d.arch.debugreg[3] = 0x3000;
	d.arch.debugreg[7] = 0x400 | 1 << 7 | 1 << 28;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(guest_run(&g), KVM_EXIT_DEBUG);
	assert_int_equal(g.run->debug.arch.exception, 1);
	assert_int_equal(g.run->debug.arch.pc, GUEST_CODE + 5);
	assert_int_equal(g.run->debug.arch.dr6, 0xffff0ff8);
	assert_int_equal(g.run->debug.arch.dr7, d.arch.debugreg[7]);
	assert_int_equal(g.ram[0x3000], 0x42);

	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	ok(g.vcpu, KVM_NMI, 0);
	assert_int_equal(guest_run(&g), KVM_EXIT_DEBUG);
	assert_int_equal(g.run->debug.arch.pc, GUEST_CODE + 6);
	d.control = 0;
	ok(g.vcpu, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(guest_done(&g), 0x42);
	ok(g.vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.nmi.pending, 0);
	assert_int_equal(e.nmi.masked, 0);
}

/* ---- what ends a run ---- */

static void immediate_exit(void **state)
{
	g_outb(&g, 0x80, 1);
	g_inb(&g, 0x81);
	g_done(&g);
	g.run->immediate_exit = 1;
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rip, GUEST_CODE);
	g.run->immediate_exit = 0;
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.direction, KVM_EXIT_IO_IN);

	/* The answer of the last exit is taken, and its instruction ends, before the run does. */
	*(u8 *)pio_data(&g) = 0x3e;
	g.run->immediate_exit = 1;
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	assert_int_equal(regs().rax & 0xff, 0x3e);
	assert_int_equal(regs().rip, GUEST_CODE + 10);
	g.run->immediate_exit = 0;
	assert_int_equal(guest_done(&g), 0x3e);
}

static volatile int handled, ended;

static void on_signal(int sig)
{
	handled++;
}

static void *poke(void *arg)
{
	pthread_t *t = arg;

	/* Again and again: the first may come before the run on a busy host, where it interrupts
	 * nothing. */
	do {
		sleep_ms(30);
		pthread_kill(*t, SIGUSR1);
	} while (!__atomic_load_n(&ended, __ATOMIC_RELAXED));
	return NULL;
}

static void run_until_signal(void)
{
	pthread_t self = pthread_self(), t;

	handled = ended = 0;
	assert_int_equal(pthread_create(&t, NULL, poke, &self), 0);
	g.run->exit_reason = 0;
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	__atomic_store_n(&ended, 1, __ATOMIC_RELAXED);
	assert_int_equal(g.run->exit_reason, KVM_EXIT_INTR);
	assert_true(handled > 0);
	pthread_join(t, NULL);
}

static void signal_running(void **state)
{
	code(&g, 0xeb, 0xfe);
	run_until_signal();
}

static void signal_halted(void **state)
{
	code(&g, 0xfb, 0xf4);
	run_until_signal();
	run_until_signal();
}

static void kick_while_running(void **state)
{
	code(&g, 0xeb, 0xfe);
	assert_int_equal(anyvisor_kick(g.vcpu), 0);
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	assert_int_equal(g.run->exit_reason, KVM_EXIT_INTR);
	assert_int_equal(anyvisor_kick(g.vm), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(anyvisor_kick(-1), -1);
	assert_int_equal(errno, EBADF);
}

static void *kicker(void *arg)
{
	sleep_ms(30);
	anyvisor_kick(*(int *)arg);
	return NULL;
}

static void run_until_kick(void)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, kicker, &g.vcpu), 0);
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	pthread_join(t, NULL);
}

static void kick_from_outside(void **state)
{
	code(&g, 0xeb, 0xfe);
	run_until_kick();
}

static void kick_halted(void **state)
{
	struct kvm_mp_state mp;

	code(&g, 0xfb, 0xf4, 0xb0, 0x01); /* sti; hlt; mov al, 1 */
	g_done(&g);
	run_until_kick();
	ok(g.vcpu, KVM_GET_MP_STATE, &mp);
	assert_int_equal(mp.mp_state, KVM_MP_STATE_HALTED);
	/* Still halted: nothing has happened that would wake it. */
	run_until_kick();
	ok(g.vcpu, KVM_NMI, 0);
	u8 *was = at(0x2000);

	code(&g, 0xcf);
	g.at = was;
	vector(2, 0x2000);
	assert_int_equal(guest_done(&g), 1);
}

/* A signal that is pending when the run begins, under a mask that lets it in: EINTR, and it stays
 * for sigwait. */
static void signal_mask_pending(void **state)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} m = {.head.len = 8};
	sigset_t block, old;
	int sig;

	code(&g, 0xeb, 0xfe);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	ok(g.vcpu, KVM_SET_SIGNAL_MASK, &m);
	pthread_kill(pthread_self(), SIGUSR2);
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	assert_int_equal(g.run->exit_reason, KVM_EXIT_INTR);
	assert_int_equal(sigwait(&block, &sig), 0);
	assert_int_equal(sig, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void sync_regs(void **state)
{
	struct kvm_sync_regs *s = &g.run->s.regs;

	assert_int_equal(ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS),
			 KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);
	code(&g, 0x40); /* inc ax */
	g_done(&g);
	g.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	s->regs = regs();
	s->regs.rax = 0x41;
	g.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	assert_int_equal(guest_done(&g), 0x42);
	assert_int_equal(g.run->kvm_dirty_regs, 0);
	assert_int_equal(s->regs.rax, 0x42);
	assert_int_equal(s->sregs.cs.selector, 0);
	assert_true(s->events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING);
	s->sregs.cr4 |= 1ull << 31;
	g.run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	fails(EINVAL, g.vcpu, KVM_RUN, 0);
	s->sregs.cr4 &= ~(1ull << 31);
	g.run->kvm_dirty_regs = 1 << 5;
	fails(EINVAL, g.vcpu, KVM_RUN, 0);
}

/* ---- order of things ---- */

static void cpuid_after_run(void **state)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	c->nent = 256;
	ok(g.dev, KVM_GET_SUPPORTED_CPUID, c);
	ok(g.vcpu, KVM_SET_CPUID2, c);
	g_done(&g);
	guest_done(&g);
	/* The very same again is taken, another is not. */
	ok(g.vcpu, KVM_SET_CPUID2, c);
	c->entries[1].eax ^= 1;
	fails(EINVAL, g.vcpu, KVM_SET_CPUID2, c);
	c->entries[1].eax ^= 1;
	c->nent--;
	fails(EINVAL, g.vcpu, KVM_SET_CPUID2, c);
	free(c);
}

static void guest_sees_cpuid(void **state)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	struct kvm_regs r;

	c->nent = 256;
	ok(g.dev, KVM_GET_SUPPORTED_CPUID, c);
	ok(g.vcpu, KVM_SET_CPUID2, c);
	code(&g, 0x66, 0x31, 0xc0, 0x0f, 0xa2); /* xor eax, eax; cpuid */
	g_outb(&g, 0x80, 0);
	g_done(&g);
	guest_run(&g);
	r = regs();
	assert_int_equal((u32)r.rbx, c->entries[0].ebx);
	assert_int_equal((u32)r.rcx, c->entries[0].ecx);
	free(c);
}

/* The VMM rewrites code that the guest has run. */
static void code_rewritten(void **state)
{
	g_outb(&g, 0x80, 1);
	g_done(&g);
	guest_run(&g);
	assert_int_equal(*(u8 *)pio_data(&g), 1);
	guest_rewind(&g);
	g_outb(&g, 0x80, 2);
	guest_run(&g);
	assert_int_equal(*(u8 *)pio_data(&g), 2);
}

/* ---- several vCPUs ---- */

static void *run_thread(void *arg)
{
	int fd = *(int *)arg;

	return (void *)(intptr_t)(anyvisor_ioctl(fd, KVM_RUN, NULL) ? errno : 0);
}

/* INIT and SIPI by the boot CPU's LAPIC start the other one. */
static void application_processor(void **state)
{
	int ap = ok(g.vm, KVM_CREATE_VCPU, 1);
	struct kvm_run *run = map_run(g.dev, ap);
	struct kvm_sregs s;
	pthread_t t;
	void *ret;
	u8 *was;

	assert_int_equal(pthread_create(&t, NULL, run_thread, &ap), 0);
	sleep_ms(20);
	/* The AP's code at vector 3: out 0x99, al */
	was = at(0x3000);
	code(&g, 0xb0, 0x77, 0xe6, 0x99, 0xf4);
	g.at = was;
	/* The LAPIC is out of real mode's reach, but not of a base given by KVM_SET_SREGS. */
	ok(g.vcpu, KVM_GET_SREGS, &s);
	s.es.base = 0xfee00000;
	ok(g.vcpu, KVM_SET_SREGS, &s);
	g_store32(&g, 0xf0, 0x1ff);
	g_store32(&g, 0x310, 1u << 24);
	g_store32(&g, 0x300, 0x4500); /* INIT */
	g_outb(&g, 0x80, 0);
	g_store32(&g, 0x310, 1u << 24);
	g_store32(&g, 0x300, 0x4603); /* SIPI */
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	/* The first run ends with "come again" once INIT is there. */
	pthread_join(t, &ret);
	assert_int_equal((intptr_t)ret, EAGAIN);
	assert_int_equal(pthread_create(&t, NULL, run_thread, &ap), 0);
	guest_done(&g);
	pthread_join(t, &ret);
	assert_int_equal((intptr_t)ret, 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.port, 0x99);
	assert_int_equal(((u8 *)run)[run->io.data_offset], 0x77);
	munmap(run, 3 * PAGE);
	anyvisor_close(ap);
}

/* A running vCPU does not keep an ioctl that drops translations waiting, nor one that halts. */
static void flush_while_running(void **state)
{
	u8 *page = map_pages(1);
	pthread_t t;
	void *ret;

	code(&g, 0xeb, 0xfe);
	assert_int_equal(pthread_create(&t, NULL, run_thread, &g.vcpu), 0);
	for (int i = 0; i < 200; i++) {
		set_region_at(g.vm, 1, 0, 0x40000, PAGE, page);
		set_region_at(g.vm, 1, 0, 0x40000, 0, page);
	}
	anyvisor_kick(g.vcpu);
	pthread_join(t, &ret);
	assert_int_equal((intptr_t)ret, EINTR);
	munmap(page, PAGE);
}

static volatile int busy;

static void *run_to_done(void *arg)
{
	struct kvm_run *run = ((struct guest *)arg)->run;
	int fd = ((struct guest *)arg)->vcpu;
	long ret;

	do
		ret = anyvisor_ioctl(fd, KVM_RUN, NULL) ? errno : 0;
	while (!ret && run->exit_reason == KVM_EXIT_IO && run->io.port != DONE_PORT);
	__atomic_fetch_sub(&busy, 1, __ATOMIC_SEQ_CST);
	return (void *)ret;
}

/*
 * Two vCPUs write into each other's code and increment a word across two pages under LOCK, while a
 * third thread changes memory slots: each waits for the others in all ways there are, and no
 * increment is lost.
 */
static void vcpus_wait_for_each_other(void **state)
{
	enum { ROUNDS = 2000 };
	struct guest other = g;
	struct kvm_sregs s;
	struct kvm_regs r = regs();
	u8 *page = map_pages(1);
	u32 sum = 0;
	pthread_t t[2];
	void *ret;

	other.vcpu = ok(g.vm, KVM_CREATE_VCPU, 1);
	other.run = map_run(g.dev, other.vcpu);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	ok(other.vcpu, KVM_SET_SREGS, &s);
	r.rsp = 0x7000;
	ok(other.vcpu, KVM_SET_REGS, &r);

	code(&g, 0xb9, LE16(ROUNDS)); /* mov cx, ROUNDS */
	u16 loop = g.at - g.ram;
	code(&g, 0xc6, 0x06, LE16(0x5000), 0xc3);	   /* mov byte [0x5000], ret */
	code(&g, 0xe8, LE16(0x5000 - (g.at - g.ram + 3))); /* call 0x5000 */
	code(&g, 0xc6, 0x06, LE16(0x6000), 0xc3);
	code(&g, 0xe8, LE16(0x6000 - (g.at - g.ram + 3)));
	code(&g, 0x66, 0xf0, 0xff, 0x06, LE16(0x9ffe));		     /* lock inc dword [0x9ffe] */
	code(&g, 0x49, 0x0f, 0x85, LE16(loop - (g.at - g.ram + 5))); /* dec cx; jnz loop */
	g_done(&g);
	g.ram[0x5000] = g.ram[0x6000] = 0xc3;

	busy = 2;
	assert_int_equal(pthread_create(&t[0], NULL, run_to_done, &g), 0);
	assert_int_equal(pthread_create(&t[1], NULL, run_to_done, &other), 0);
	while (__atomic_load_n(&busy, __ATOMIC_SEQ_CST)) {
		set_region_at(g.vm, 1, 0, 0x40000, PAGE, page);
		set_region_at(g.vm, 1, 0, 0x40000, 0, page);
		sleep_ms(1);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &ret);
		assert_int_equal((intptr_t)ret, 0);
	}
	memcpy(&sum, g.ram + 0x9ffe, 4);
	assert_int_equal(sum, 2 * ROUNDS);
	munmap(other.run, 3 * PAGE);
	anyvisor_close(other.vcpu);
	munmap(page, PAGE);
}

/* A second thread's ioctl on a running vCPU waits until the run ends. */
static void ioctls_wait(void **state)
{
	struct kvm_regs r;
	pthread_t t, k;

	code(&g, 0xb8, LE16(0x1234), 0xa3, LE16(0x5000), 0xeb,
	     0xfe); /* mov ax, 0x1234; mov [0x5000], ax */
	assert_int_equal(pthread_create(&t, NULL, run_thread, &g.vcpu), 0);
	while (!*(volatile u8 *)(g.ram + 0x5000))
		sleep_ms(1);
	assert_int_equal(pthread_create(&k, NULL, kicker, &g.vcpu), 0);
	ok(g.vcpu, KVM_GET_REGS, &r);
	assert_int_equal(r.rax, 0x1234);
	pthread_join(t, NULL);
	pthread_join(k, NULL);
}

#define T(name)	   cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TIRQ(name) cmocka_unit_test_setup_teardown(name, setup_irqchip, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pio),
		T(string_pio),
		T(mmio),
		T(hlt),
		T(shutdown_exit),
		T(triple_fault_event),
		T(no_backing),
		T(bad_argument),
		T(code_from_device),
		T(set_tpr),
		T(status_fields),
		T(interrupt),
		cmocka_unit_test(split_interrupt),
		cmocka_unit_test(split_window_by_lvt0),
		T(nmi),
		T(injected_exception),
		T(two_events),
		T(payload_delivered),
		T(single_step),
		T(guest_debug),
		T(guest_watch),
		T(immediate_exit),
		T(kick_while_running),
		T(kick_from_outside),
		TIRQ(kick_halted),
		T(signal_mask_pending),
		T(signal_running),
		TIRQ(signal_halted),
		T(sync_regs),
		T(cpuid_after_run),
		T(guest_sees_cpuid),
		T(code_rewritten),
		TIRQ(application_processor),
		T(flush_while_running),
		T(vcpus_wait_for_each_other),
		T(ioctls_wait),
	};

	struct sigaction sa = {.sa_handler = on_signal};

	/*
	 * Handlers that stand when the first vCPU is made are reached through the library, as all
	 * are in a preloaded client.
	 */
	sigaction(SIGUSR1, &sa, NULL);
	setup(NULL);
	sigaction(SIGSEGV, NULL, &library_segv);
	teardown(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
