/* SPDX-License-Identifier: MIT */
/*
 * The vCPU fd through the public API: every ioctl that reads or sets state, what it refuses, and
 * with which errno. Runs are in test_run.c.
 */
#include "api.h"
#include "cpuid.h"

#include <asm/kvm_para.h>
#include <signal.h>
#include <x86intrin.h>

static int dev, vm, vcpu;   /* without interrupt controllers */
static int vm_irq, bsp, ap; /* with them: the boot CPU and another */

static int setup(void **state)
{
	dev = dev_open();
	vm = ok(dev, KVM_CREATE_VM, 0);
	vcpu = ok(vm, KVM_CREATE_VCPU, 0);
	vm_irq = ok(dev, KVM_CREATE_VM, 0);
	ok(vm_irq, KVM_CREATE_IRQCHIP, 0);
	bsp = ok(vm_irq, KVM_CREATE_VCPU, 0);
	ap = ok(vm_irq, KVM_CREATE_VCPU, 1);
	return 0;
}

static int teardown(void **state)
{
	anyvisor_close(vcpu);
	anyvisor_close(bsp);
	anyvisor_close(ap);
	anyvisor_close(vm);
	anyvisor_close(vm_irq);
	return anyvisor_close(dev);
}

static void enable(int fd, u32 cap, u64 arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	ok(fd, KVM_ENABLE_CAP, &e);
}

/* ---- the fd ---- */

static void unknown_commands(void **state)
{
	static const unsigned long foreign[] = {
		_IO(KVMIO, 0xff),
		_IO('Z', 0x80),
		0,
		~0ul,
		KVM_CREATE_VCPU,
		KVM_CREATE_VM,
		KVM_CHECK_EXTENSION,
		KVM_SET_USER_MEMORY_REGION,
		KVM_GET_SUPPORTED_HV_CPUID,
		KVM_GET_NESTED_STATE,
		KVM_IRQ_LINE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		fails(ENOTTY, vcpu, foreign[i], 0);
}

static void wrong_fd(void **state)
{
	int memfd = memfd_create("other", 0), pipe_fd[2];
	struct kvm_regs regs;

	assert_true(memfd >= 0);
	fails(EBADF, memfd, KVM_GET_REGS, &regs);
	fails(EBADF, -1, KVM_GET_REGS, &regs);
	fails(EBADF, 99999, KVM_RUN, 0);
	assert_int_equal(pipe(pipe_fd), 0);
	fails(EBADF, pipe_fd[0], KVM_GET_REGS, &regs);
	fails(ENOTTY, vm, KVM_GET_REGS, &regs);
	fails(ENOTTY, dev, KVM_GET_REGS, &regs);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(memfd);
}

static void survives_its_vm_fd(void **state)
{
	int other = ok(dev, KVM_CREATE_VM, 0), c = ok(other, KVM_CREATE_VCPU, 0);
	struct kvm_regs regs;

	anyvisor_close(other);
	ok(c, KVM_GET_REGS, &regs);
	assert_int_equal(regs.rip, 0xfff0);
	anyvisor_close(c);
	fails(EBADF, c, KVM_GET_REGS, &regs);
}

/* ---- registers ---- */

static void reset_state(void **state)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	ok(vcpu, KVM_GET_REGS, &r);
	ok(vcpu, KVM_GET_SREGS, &s);
	assert_int_equal(r.rip, 0xfff0);
	assert_int_equal(r.rflags, 2);
	assert_int_equal(s.cs.selector, 0xf000);
	assert_int_equal(s.cs.base, 0xffff0000);
	assert_int_equal(s.cs.limit, 0xffff);
	assert_int_equal(s.cr0, 0x60000010);
	assert_int_equal(s.cr4, 0);
	assert_int_equal(s.efer, 0);
	assert_int_equal(s.apic_base, 0xfee00900);
	ok(ap, KVM_GET_SREGS, &s);
	assert_int_equal(s.apic_base, 0xfee00800);
}

static void regs(void **state)
{
	struct kvm_regs in, out;
	u64 *words = (u64 *)&in;

	for (size_t i = 0; i < sizeof(in) / sizeof(u64); i++)
		words[i] = 0x1111111111111111ull * (i + 1);
	in.rip = 0x1234;
	in.rflags = 0x246 & ~2;
	ok(vcpu, KVM_SET_REGS, &in);
	ok(vcpu, KVM_GET_REGS, &out);
	in.rflags |= 2; /* bit 1 is always set */
	assert_memory_equal(&in, &out, sizeof(in));
	bad_pointers(vcpu, KVM_SET_REGS, &in, sizeof(in), 0);
	bad_pointers(vcpu, KVM_GET_REGS, &in, sizeof(in), 1);
}

static void sregs(void **state)
{
	struct kvm_sregs in, out;

	ok(vcpu, KVM_GET_SREGS, &in);
	in.cr2 = 0xdeadbeefcafe;
	in.cr3 = 0x5000;
	in.cr8 = 7;
	in.gdt.base = 0xffff888000001000;
	in.gdt.limit = 0x7f;
	in.idt.base = 0xfffffe0000000000;
	in.idt.limit = 0xfff;
	in.ds = (struct kvm_segment){.base = 0x1000,
				     .limit = 0xffffffff,
				     .selector = 0x18,
				     .type = 3,
				     .present = 1,
				     .dpl = 3,
				     .db = 1,
				     .s = 1,
				     .g = 1,
				     .avl = 1};
	in.fs.present = 0;
	in.fs.unusable = 0;
	in.interrupt_bitmap[1] = 1ull << 5;
	ok(vcpu, KVM_SET_SREGS, &in);
	ok(vcpu, KVM_GET_SREGS, &out);
	/* A segment that is not present is unusable, whatever the VMM says. */
	assert_int_equal(out.fs.unusable, 1);
	out.fs.unusable = 0;
	assert_memory_equal(&in, &out, sizeof(in));
	bad_pointers(vcpu, KVM_SET_SREGS, &in, sizeof(in), 0);
	bad_pointers(vcpu, KVM_GET_SREGS, &in, sizeof(in), 1);
}

static void sregs_refused(void **state)
{
	struct kvm_sregs good, bad, after;

	ok(vcpu, KVM_GET_SREGS, &good);
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		bad = good;                                                                        \
		change;                                                                            \
		fails(EINVAL, vcpu, KVM_SET_SREGS, &bad);                                          \
	} while (0)
	REFUSED(bad.cr0 = 0x80000010); /* paging without protection */
	REFUSED(bad.cr0 = 0x20000010); /* NW without CD */
	REFUSED(bad.cr0 |= 1ull << 32);
	REFUSED(bad.cr4 |= 1ull << 31);
	REFUSED(bad.efer |= 1 << 10);			     /* LMA without LME and paging */
	REFUSED((bad.cr0 |= 0x80000001, bad.efer |= 0x100)); /* long mode without PAE */
	REFUSED((bad.cr0 |= 0x80000001, bad.cr4 |= 0x20, bad.efer |= 0x100)); /* without LMA */
	REFUSED(bad.cs.l = 1);			       /* a 64-bit segment outside long mode */
	REFUSED(bad.apic_base |= 1);		       /* reserved */
	REFUSED(bad.apic_base = 0xfee00000 | 1 << 10); /* x2APIC while disabled */
	REFUSED(bad.apic_base |= 1ull << 60);
#undef REFUSED
	ok(vcpu, KVM_GET_SREGS, &after);
	assert_memory_equal(&good, &after, sizeof(good));
}

static void long_mode(void **state)
{
	struct kvm_sregs s, out;

	ok(vcpu, KVM_GET_SREGS, &s);
	s.cr0 = 0x80050033;
	s.cr3 = 0x1000;
	s.cr4 = 0x20;
	s.efer = 0x500;
	s.cs.l = 1;
	s.cs.db = 0;
	ok(vcpu, KVM_SET_SREGS, &s);
	ok(vcpu, KVM_GET_SREGS, &out);
	assert_memory_equal(&s, &out, sizeof(s));
}

static void sregs2(void **state)
{
	static u64 ram[512] __attribute__((aligned(4096)));
	struct kvm_sregs2 s, out;

	ok(vcpu, KVM_GET_SREGS2, &s);
	assert_int_equal(s.flags, 0);
	/* PAE paging: the PDPTEs are state of their own. */
	ram[0] = 0x1001;
	ram[3] = 0x4001;
	set_region_at(vm, 0, 0, 0, sizeof(ram), ram);
	s.cr0 |= 0x80000001;
	s.cr4 |= 0x20;
	s.cr3 = 0;
	ok(vcpu, KVM_SET_SREGS2, &s);
	ok(vcpu, KVM_GET_SREGS2, &out);
	assert_int_equal(out.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	assert_int_equal(out.pdptrs[0], 0x1001);
	assert_int_equal(out.pdptrs[1], 0);
	assert_int_equal(out.pdptrs[3], 0x4001);
	out.pdptrs[1] = 0x2001;
	ok(vcpu, KVM_SET_SREGS2, &out);
	ok(vcpu, KVM_GET_SREGS2, &s);
	assert_memory_equal(&s, &out, sizeof(s));

	s.flags = 2;
	fails(EINVAL, vcpu, KVM_SET_SREGS2, &s);
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	s.cr4 &= ~0x20ull;
	fails(EINVAL, vcpu, KVM_SET_SREGS2, &s);
	bad_pointers(vcpu, KVM_SET_SREGS2, &out, sizeof(out), 0);
	bad_pointers(vcpu, KVM_GET_SREGS2, &out, sizeof(out), 1);
}

static void debugregs(void **state)
{
	struct kvm_debugregs in = {.db = {1, 2, 3, ~0ull}, .dr6 = 0xffff4ff1, .dr7 = 0x455}, out;

	ok(vcpu, KVM_SET_DEBUGREGS, &in);
	ok(vcpu, KVM_GET_DEBUGREGS, &out);
	assert_memory_equal(&in, &out, sizeof(in));
	in.flags = 1;
	fails(EINVAL, vcpu, KVM_SET_DEBUGREGS, &in);
	in.flags = 0;
	in.dr6 = 1ull << 32;
	fails(EINVAL, vcpu, KVM_SET_DEBUGREGS, &in);
	in.dr6 = 0;
	in.dr7 = 1ull << 32;
	fails(EINVAL, vcpu, KVM_SET_DEBUGREGS, &in);
	bad_pointers(vcpu, KVM_SET_DEBUGREGS, &out, sizeof(out), 0);
	bad_pointers(vcpu, KVM_GET_DEBUGREGS, &out, sizeof(out), 1);
}

static void translate(void **state)
{
	static u32 ram[3][1024] __attribute__((aligned(4096)));
	struct kvm_translation tr = {.linear_address = 0x12345678};
	struct kvm_sregs s;

	/* Without paging an address is its own translation. */
	ok(vcpu, KVM_TRANSLATE, &tr);
	assert_int_equal(tr.valid, 1);
	assert_int_equal(tr.physical_address, 0x12345678);

	set_region_at(vm, 0, 0, 0, sizeof(ram), ram);
	ram[0][1] = 0x1003; /* 4 MiB and up: the page table in page 1 */
	ram[1][5] = 0x2003;
	ok(vcpu, KVM_GET_SREGS, &s);
	s.cr0 |= 0x80000001;
	s.cr3 = 0;
	ok(vcpu, KVM_SET_SREGS, &s);
	tr.linear_address = 0x405123;
	ok(vcpu, KVM_TRANSLATE, &tr);
	assert_int_equal(tr.valid, 1);
	assert_int_equal(tr.physical_address, 0x2123);
	assert_int_equal(tr.writeable, 1);
	tr.linear_address = 0x406000;
	ok(vcpu, KVM_TRANSLATE, &tr);
	assert_int_equal(tr.valid, 0);
	bad_pointers(vcpu, KVM_TRANSLATE, &tr, sizeof(tr), 1);
}

/* ---- FPU ---- */

static void fpu(void **state)
{
	struct kvm_fpu in, out;

	ok(vcpu, KVM_GET_FPU, &out);
	assert_int_equal(out.fcw, 0x37f);
	assert_int_equal(out.mxcsr, 0x1f80);
	memset(&in, 0, sizeof(in));
	for (int i = 0; i < 8; i++)
		memset(in.fpr[i], 0x11 * i, 10);
	memset(in.xmm, 0x5a, sizeof(in.xmm));
	in.fcw = 0x27f;
	in.fsw = 0x3800;
	in.ftwx = 0x81;
	in.last_opcode = 0x123;
	in.last_ip = 0x1000;
	in.last_dp = 0x2000;
	in.mxcsr = 0xffffffff; /* not taken */
	ok(vcpu, KVM_SET_FPU, &in);
	ok(vcpu, KVM_GET_FPU, &out);
	in.mxcsr = 0x1f80;
	assert_memory_equal(&in, &out, sizeof(in));
	bad_pointers(vcpu, KVM_SET_FPU, &in, sizeof(in), 0);
	bad_pointers(vcpu, KVM_GET_FPU, &in, sizeof(in), 1);
}

#define BV(x)	 (((u64 *)(x).region)[64])
#define MXCSR(x) ((x).region[6])

static void xsave(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev);
	struct kvm_xsave in, out;
	u32 ymm = leaf(c, 0xd, 2) ? leaf(c, 0xd, 2)->ebx : 0;

	ok(vcpu, KVM_GET_XSAVE, &out);
	assert_int_equal(BV(out) & ~3ull, 0);
	assert_int_equal(out.region[0] & 0xffff, 0x37f);
	assert_int_equal(MXCSR(out), 0x1f80);

	ok(vcpu, KVM_SET_CPUID2, c);
	memset(&in, 0, sizeof(in));
	in.region[0] = 0x37f;
	MXCSR(in) = 0x1fc0;
	memset(&in.region[40], 0xa5, 256); /* XMM */
	BV(in) = 2;
	if (ymm) {
		memset((u8 *)in.region + ymm, 0x3c, 256);
		BV(in) |= 4;
	}
	ok(vcpu, KVM_SET_XSAVE, &in);
	ok(vcpu, KVM_GET_XSAVE, &out);
	assert_int_equal(BV(out) & 6, BV(in));
	assert_int_equal(MXCSR(out), 0x1fc0);
	assert_memory_equal(&in.region[40], &out.region[40], 256);
	if (ymm)
		assert_memory_equal((u8 *)in.region + ymm, (u8 *)out.region + ymm, 256);

	/* What a clear bit leaves out is in its initial state, not what lies there. */
	BV(in) = 0;
	ok(vcpu, KVM_SET_XSAVE, &in);
	ok(vcpu, KVM_GET_XSAVE, &out);
	assert_int_equal(out.region[40], 0);
	assert_int_equal(MXCSR(out), 0x1f80);

	BV(in) = 1ull << 40;
	fails(EINVAL, vcpu, KVM_SET_XSAVE, &in);
	BV(in) = 2;
	MXCSR(in) = 0xffff0000;
	fails(EINVAL, vcpu, KVM_SET_XSAVE, &in);
	MXCSR(in) = 0x1f80;
	((u64 *)in.region)[65] = 1ull << 63; /* compacted */
	fails(EINVAL, vcpu, KVM_SET_XSAVE, &in);
	((u64 *)in.region)[65] = 0;
	((u64 *)in.region)[66] = 1;
	fails(EINVAL, vcpu, KVM_SET_XSAVE, &in);
	bad_pointers(vcpu, KVM_SET_XSAVE, &out, sizeof(out), 0);
	bad_pointers(vcpu, KVM_GET_XSAVE, &out, sizeof(out), 1);
	free(c);
}

static void xsave2(void **state)
{
	struct kvm_xsave a, b;

	assert_int_equal(ok(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), sizeof(a));
	ok(vcpu, KVM_GET_XSAVE, &a);
	memset(&b, 0xee, sizeof(b));
	ok(vcpu, KVM_GET_XSAVE2, &b);
	assert_memory_equal(&a, &b, sizeof(a));
	bad_pointers(vcpu, KVM_GET_XSAVE2, &a, sizeof(a), 1);
}

static void xcrs(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev);
	struct kvm_xcrs x;

	ok(vcpu, KVM_GET_XCRS, &x);
	assert_int_equal(x.nr_xcrs, 1);
	assert_int_equal(x.xcrs[0].xcr, 0);
	assert_int_equal(x.xcrs[0].value, 1);
	x.xcrs[0].value = 3; /* the guest's CPUID has no XSAVE yet */
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);

	ok(vcpu, KVM_SET_CPUID2, c);
	ok(vcpu, KVM_SET_XCRS, &x);
	ok(vcpu, KVM_GET_XCRS, &x);
	assert_int_equal(x.xcrs[0].value, 3);
	x.xcrs[0].value = 2; /* x87 cannot be off */
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);
	x.xcrs[0].value = 5; /* AVX without SSE */
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);
	x.xcrs[0].value = 1ull << 62 | 1;
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);
	x.xcrs[0].value = 1;
	x.flags = 1;
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);
	x.flags = 0;
	x.nr_xcrs = KVM_MAX_XCRS + 1;
	fails(EINVAL, vcpu, KVM_SET_XCRS, &x);
	x.nr_xcrs = 0;
	ok(vcpu, KVM_SET_XCRS, &x);
	bad_pointers(vcpu, KVM_SET_XCRS, &x, sizeof(x), 0);
	bad_pointers(vcpu, KVM_GET_XCRS, &x, sizeof(x), 1);
	free(c);
}

/* ---- events ---- */

static void events(void **state)
{
	struct kvm_vcpu_events e, out;

	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.flags, KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
					  KVM_VCPUEVENT_VALID_SMM);
	assert_int_equal(
		e.exception.injected | e.interrupt.injected | e.nmi.injected | e.nmi.pending, 0);

	/* One of each kind, all at once: KVM's struct can say it, so it comes back. */
	e.exception.injected = 1;
	e.exception.nr = 14;
	e.exception.has_error_code = 1;
	e.exception.error_code = 2;
	e.interrupt.injected = 1;
	e.interrupt.nr = 0x33;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.nmi.injected = e.nmi.pending = e.nmi.masked = 1;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_memory_equal(&e, &out, sizeof(e));

	memset(&e, 0, sizeof(e));
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_int_equal(out.exception.injected | out.interrupt.injected | out.interrupt.shadow |
				 out.nmi.injected | out.nmi.pending | out.nmi.masked,
			 0);
	bad_pointers(vcpu, KVM_SET_VCPU_EVENTS, &e, sizeof(e), 0);
	bad_pointers(vcpu, KVM_GET_VCPU_EVENTS, &e, sizeof(e), 1);
}

static void events_refused(void **state)
{
	struct kvm_vcpu_events e = {.flags = 0x40};

	fails(EINVAL, vcpu, KVM_SET_VCPU_EVENTS, &e);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD; /* not enabled */
	fails(EINVAL, vcpu, KVM_SET_VCPU_EVENTS, &e);
	e.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	fails(EINVAL, vcpu, KVM_SET_VCPU_EVENTS, &e);
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 32;
	fails(EINVAL, vcpu, KVM_SET_VCPU_EVENTS, &e);
	e.exception.nr = 2;
	fails(EINVAL, vcpu, KVM_SET_VCPU_EVENTS, &e);
	e.exception.injected = 0;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
}

static void exception_payload(void **state)
{
	struct kvm_vcpu_events e, out;
	struct kvm_regs r;
	struct kvm_sregs s;

	enable(vm, KVM_CAP_EXCEPTION_PAYLOAD, 1);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_true(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	e.exception.pending = 1;
	e.exception.nr = 14;
	e.exception.has_error_code = 1;
	e.exception_has_payload = 1;
	e.exception_payload = 0x7777000;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_memory_equal(&e, &out, sizeof(e));
	/* Not delivered: CR2 is still the old one. */
	ok(vcpu, KVM_GET_SREGS, &s);
	assert_int_not_equal(s.cr2, 0x7777000);
	/* New registers drop a pending exception. */
	ok(vcpu, KVM_GET_REGS, &r);
	ok(vcpu, KVM_SET_REGS, &r);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_int_equal(out.exception.pending | out.exception.injected, 0);
	/* But not one that is half delivered. */
	e.exception.pending = 0;
	e.exception.injected = 1;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
	ok(vcpu, KVM_SET_REGS, &r);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_int_equal(out.exception.injected, 1);
	assert_int_equal(out.exception.pending, 0);
	assert_int_equal(out.exception_has_payload, 0);
}

static void triple_fault(void **state)
{
	struct kvm_vcpu_events e, out;

	enable(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_true(e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	assert_int_equal(e.triple_fault.pending, 0);
	e.triple_fault.pending = 1;
	ok(vcpu, KVM_SET_VCPU_EVENTS, &e);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &out);
	assert_memory_equal(&e, &out, sizeof(e));
}

static void interrupt(void **state)
{
	struct kvm_interrupt irq = {256};
	struct kvm_vcpu_events e;
	struct kvm_sregs s;

	fails(EINVAL, vcpu, KVM_INTERRUPT, &irq);
	irq.irq = 0x41;
	ok(vcpu, KVM_INTERRUPT, &irq);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.interrupt.injected, 1);
	assert_int_equal(e.interrupt.nr, 0x41);
	ok(vcpu, KVM_GET_SREGS, &s);
	assert_int_equal(s.interrupt_bitmap[1], 1ull << 1);
	/* With the PIC in the library it is none of the VMM's business. */
	fails(ENXIO, bsp, KVM_INTERRUPT, &irq);
	bad_pointers(vcpu, KVM_INTERRUPT, &irq, sizeof(irq), 0);
}

static void interrupt_split(void **state)
{
	int split = ok(dev, KVM_CREATE_VM, 0), c;
	struct kvm_interrupt irq = {0x20};

	enable(split, KVM_CAP_SPLIT_IRQCHIP, 24);
	c = ok(split, KVM_CREATE_VCPU, 0);
	ok(c, KVM_INTERRUPT, &irq);
	fails(EEXIST, c, KVM_INTERRUPT, &irq); /* the first has not been taken yet */
	anyvisor_close(c);
	anyvisor_close(split);
}

static void nmi_and_smi(void **state)
{
	struct kvm_vcpu_events e;

	ok(vcpu, KVM_NMI, 0);
	ok(vcpu, KVM_SMI, 0);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.nmi.pending, 1);
	assert_int_equal(e.smi.pending, 1);
}

/* ---- MP state and LAPIC ---- */

static void set_mp(int fd, u32 mp_state)
{
	struct kvm_mp_state mp = {mp_state};

	ok(fd, KVM_SET_MP_STATE, &mp);
}

static u32 get_mp(int fd)
{
	struct kvm_mp_state mp = {0xdead};

	ok(fd, KVM_GET_MP_STATE, &mp);
	return mp.mp_state;
}

static void mp_state(void **state)
{
	struct kvm_mp_state mp = {KVM_MP_STATE_HALTED};
	struct kvm_vcpu_events e;
	struct kvm_sregs s;

	assert_int_equal(get_mp(vcpu), KVM_MP_STATE_RUNNABLE);
	assert_int_equal(get_mp(bsp), KVM_MP_STATE_RUNNABLE);
	assert_int_equal(get_mp(ap), KVM_MP_STATE_UNINITIALIZED);

	/* Without a LAPIC there is nothing to wait for. */
	for (mp.mp_state = KVM_MP_STATE_UNINITIALIZED; mp.mp_state <= KVM_MP_STATE_SIPI_RECEIVED;
	     mp.mp_state++)
		fails(EINVAL, vcpu, KVM_SET_MP_STATE, &mp);
	set_mp(vcpu, KVM_MP_STATE_RUNNABLE);
	mp.mp_state = 77;
	fails(EINVAL, bsp, KVM_SET_MP_STATE, &mp);
	mp.mp_state = KVM_MP_STATE_STOPPED; /* another architecture's */
	fails(EINVAL, bsp, KVM_SET_MP_STATE, &mp);

	set_mp(bsp, KVM_MP_STATE_HALTED);
	assert_int_equal(get_mp(bsp), KVM_MP_STATE_HALTED);
	set_mp(ap, KVM_MP_STATE_INIT_RECEIVED);
	assert_int_equal(get_mp(ap), KVM_MP_STATE_INIT_RECEIVED);

	/* A SIPI that was received is acted upon: its vector gives the start address. */
	ok(ap, KVM_GET_VCPU_EVENTS, &e);
	e.flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	e.sipi_vector = 0x9a;
	ok(ap, KVM_SET_VCPU_EVENTS, &e);
	set_mp(ap, KVM_MP_STATE_SIPI_RECEIVED);
	assert_int_equal(get_mp(ap), KVM_MP_STATE_RUNNABLE);
	ok(ap, KVM_GET_SREGS, &s);
	assert_int_equal(s.cs.base, 0x9a000);

	/* INIT and SIPI wait behind an SMI. */
	ok(ap, KVM_SMI, 0);
	mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
	fails(EINVAL, ap, KVM_SET_MP_STATE, &mp);
	bad_pointers(bsp, KVM_SET_MP_STATE, &mp, sizeof(mp), 0);
	bad_pointers(bsp, KVM_GET_MP_STATE, &mp, sizeof(mp), 1);
}

static void latched_init(void **state)
{
	struct kvm_vcpu_events e;
	struct kvm_regs r = {.rip = 0x1000, .rflags = 2};

	ok(ap, KVM_SET_REGS, &r);
	set_mp(ap, KVM_MP_STATE_RUNNABLE);
	ok(ap, KVM_GET_VCPU_EVENTS, &e);
	e.smi.latched_init = 1;
	ok(ap, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(get_mp(ap), KVM_MP_STATE_INIT_RECEIVED);
	ok(ap, KVM_GET_REGS, &r);
	assert_int_equal(r.rip, 0xfff0);
}

static void reset_wakes_boot_cpu(void **state)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	ok(bsp, KVM_GET_SREGS, &s);
	ok(bsp, KVM_GET_REGS, &r);
	set_mp(bsp, KVM_MP_STATE_HALTED);
	ok(bsp, KVM_SET_REGS, &r);
	ok(bsp, KVM_SET_SREGS, &s);
	assert_int_equal(get_mp(bsp), KVM_MP_STATE_RUNNABLE);
}

static void lapic(void **state)
{
	struct kvm_lapic_state l, out;

	fails(EINVAL, vcpu, KVM_GET_LAPIC, &l);
	fails(EINVAL, vcpu, KVM_SET_LAPIC, &l);
	/* Whether there is a LAPIC is asked first. */
	fails(EINVAL, vcpu, KVM_SET_LAPIC, NULL);
	fails(EINVAL, vcpu, KVM_SET_VAPIC_ADDR, NULL);
	ok(ap, KVM_GET_LAPIC, &l);
	assert_int_equal((u8)l.regs[0x23], 1); /* APIC id */
	l.regs[0x80] = 0x50;		       /* TPR */
	l.regs[0xf0] = (char)0xff;
	l.regs[0xf1] = 1; /* enabled */
	ok(ap, KVM_SET_LAPIC, &l);
	ok(ap, KVM_GET_LAPIC, &out);
	assert_int_equal(out.regs[0x80], 0x50);
	assert_int_equal(out.regs[0xf1], 1);
	bad_pointers(ap, KVM_SET_LAPIC, &l, sizeof(l), 0);
	bad_pointers(ap, KVM_GET_LAPIC, &l, sizeof(l), 1);
}

static void cr8_is_the_tpr(void **state)
{
	struct kvm_lapic_state l;
	struct kvm_sregs s;

	ok(bsp, KVM_GET_SREGS, &s);
	s.cr8 = 9;
	ok(bsp, KVM_SET_SREGS, &s);
	ok(bsp, KVM_GET_LAPIC, &l);
	assert_int_equal((u8)l.regs[0x80], 0x90);
}

static void vapic(void **state)
{
	static u8 ram[4096] __attribute__((aligned(4096)));
	struct kvm_tpr_access_ctl tac = {.enabled = 1};
	struct kvm_vapic_addr va = {0};

	ok(bsp, KVM_TPR_ACCESS_REPORTING, &tac);
	tac.flags = 1;
	fails(EINVAL, bsp, KVM_TPR_ACCESS_REPORTING, &tac);
	bad_pointers(bsp, KVM_TPR_ACCESS_REPORTING, &tac, sizeof(tac), 0);

	fails(EINVAL, vcpu, KVM_SET_VAPIC_ADDR, &va);
	ok(bsp, KVM_SET_VAPIC_ADDR, &va);
	va.vapic_addr = 0x100;
	fails(EINVAL, bsp, KVM_SET_VAPIC_ADDR, &va); /* no memory there */
	set_region_at(vm_irq, 0, 0, 0, sizeof(ram), ram);
	ok(bsp, KVM_SET_VAPIC_ADDR, &va);
	bad_pointers(bsp, KVM_SET_VAPIC_ADDR, &va, sizeof(va), 0);
}

/* ---- machine checks ---- */

static u64 get_msr(int fd, u32 index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e.index = index, .e.data = 0xdeadbeef};

	assert_int_equal(ok(fd, KVM_GET_MSRS, &m), 1);
	return m.e.data;
}

/* Returns how many were set: 0 when refused. */
static int set_msr(int fd, u32 index, u64 value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e.index = index, .e.data = value};

	return ok(fd, KVM_SET_MSRS, &m);
}

#define MCI_VAL	 (1ull << 63)
#define MCI_OVER (1ull << 62)
#define MCI_UC	 (1ull << 61)
#define MCI_S	 (1ull << 56)

static void mce(void **state)
{
	struct kvm_x86_mce m = {.status = MCI_VAL | 0x99, .addr = 0x1234, .misc = 5, .bank = 3};
	struct kvm_vcpu_events e;
	struct kvm_sregs s;
	u64 cap = 0, supported = 0;

	ok(dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported);
	fails(EINVAL, vcpu, KVM_X86_SETUP_MCE, &cap); /* no banks */
	cap = 33;
	fails(EINVAL, vcpu, KVM_X86_SETUP_MCE, &cap);
	cap = 10 | 1ull << 40;
	fails(EINVAL, vcpu, KVM_X86_SETUP_MCE, &cap);
	cap = 10 | supported;
	ok(vcpu, KVM_X86_SETUP_MCE, &cap);
	assert_int_equal(get_msr(vcpu, 0x179), cap);
	assert_int_equal(get_msr(vcpu, 0x17b), ~0ull);
	assert_int_equal(get_msr(vcpu, 0x400 + 4 * 9), ~0ull);

	/* A corrected error is logged. */
	ok(vcpu, KVM_X86_SET_MCE, &m);
	assert_int_equal(get_msr(vcpu, 0x401 + 12), MCI_VAL | 0x99);
	assert_int_equal(get_msr(vcpu, 0x402 + 12), 0x1234);
	assert_int_equal(get_msr(vcpu, 0x403 + 12), 5);
	ok(vcpu, KVM_X86_SET_MCE, &m);
	assert_int_equal(get_msr(vcpu, 0x401 + 12), MCI_VAL | MCI_OVER | 0x99);

	/* An uncorrected one is #MC, if the guest takes those. */
	ok(vcpu, KVM_GET_SREGS, &s);
	s.cr4 |= 0x40;
	ok(vcpu, KVM_SET_SREGS, &s);
	m.status = MCI_VAL | MCI_UC | MCI_S;
	m.mcg_status = 4; /* MCIP */
	ok(vcpu, KVM_X86_SET_MCE, &m);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.injected, 1);
	assert_int_equal(e.exception.nr, 18);
	assert_int_equal(get_msr(vcpu, 0x17a), 4);

	m.bank = 10;
	fails(EINVAL, vcpu, KVM_X86_SET_MCE, &m);
	m.bank = 0;
	m.status = 0;
	fails(EINVAL, vcpu, KVM_X86_SET_MCE, &m);
	bad_pointers(vcpu, KVM_X86_SET_MCE, &m, sizeof(m), 0);
	bad_pointers(vcpu, KVM_X86_SETUP_MCE, &cap, sizeof(cap), 0);
}

/* ---- MSRs ---- */

static void msrs(void **state)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[4];
	} m = {.head.nmsrs = 4,
	       .e = {{.index = 0xc0000081, .data = 0x1111},		/* STAR */
		     {.index = 0xc0000082, .data = 0xffff800000000000}, /* LSTAR */
		     {.index = 0x12345678},				/* nothing */
		     {.index = 0xc0000081, .data = 0x2222}}};
	struct kvm_msrs *big;

	/* The first that fails ends the list; what was done stays done. */
	assert_int_equal(ok(vcpu, KVM_SET_MSRS, &m), 2);
	m.e[0].data = m.e[1].data = 0;
	assert_int_equal(ok(vcpu, KVM_GET_MSRS, &m), 2);
	assert_int_equal(m.e[0].data, 0x1111);
	assert_int_equal(m.e[1].data, 0xffff800000000000);
	assert_int_equal(m.e[3].data, 0x2222);
	/* A value that the MSR cannot have. */
	assert_int_equal(set_msr(vcpu, 0xc0000082, 0x8000000000000000ull), 0);

	m.head.nmsrs = 0;
	assert_int_equal(ok(vcpu, KVM_GET_MSRS, &m), 0);
	m.head.nmsrs = 256;
	fails(E2BIG, vcpu, KVM_GET_MSRS, &m);
	fails(E2BIG, vcpu, KVM_SET_MSRS, &m);
	m.head.nmsrs = ~0u;
	fails(E2BIG, vcpu, KVM_GET_MSRS, &m);

	big = calloc(1, sizeof(*big) + 255 * sizeof(big->entries[0]));
	big->nmsrs = 255;
	for (int i = 0; i < 255; i++)
		big->entries[i].index = 0xc0000081;
	assert_int_equal(ok(vcpu, KVM_GET_MSRS, big), 255);
	assert_int_equal(big->entries[254].data, 0x1111);
	bad_pointers(vcpu, KVM_SET_MSRS, big, sizeof(*big) + 255 * sizeof(big->entries[0]), 0);
	bad_pointers(vcpu, KVM_GET_MSRS, big, sizeof(*big) + 255 * sizeof(big->entries[0]), 1);
	free(big);
}

/* Every MSR that is listed can be read, and what was read can be written back. */
static void listed_msrs(void **state)
{
	u32 raw[512] = {511};
	struct kvm_msr_list *list = (struct kvm_msr_list *)raw;

	ok(dev, KVM_GET_MSR_INDEX_LIST, list);
	assert_true(list->nmsrs > 20);
	for (u32 i = 0; i < list->nmsrs; i++) {
		u64 v = get_msr(bsp, list->indices[i]);

		if (!set_msr(bsp, list->indices[i], v))
			fail_msg("MSR %#x does not take back its own value %#llx", list->indices[i],
				 (unsigned long long)v);
	}
}

static void apic_base_msr(void **state)
{
	struct kvm_cpuid2 *c = all_cpuid(dev),
			  *out = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	struct kvm_sregs s;

	ok(bsp, KVM_SET_CPUID2, c);
	assert_int_equal(get_msr(bsp, 0x1b), 0xfee00900);
	assert_int_equal(set_msr(bsp, 0x1b, 0xfee00901), 0);
	assert_int_equal(set_msr(bsp, 0x1b, 0xfee00d00), 1); /* x2APIC */
	ok(bsp, KVM_GET_SREGS, &s);
	assert_int_equal(s.apic_base, 0xfee00d00);
	/* In that mode the registers are MSRs. */
	assert_int_equal(set_msr(bsp, 0x808, 0x30), 1);
	assert_int_equal(get_msr(bsp, 0x808), 0x30);
	assert_int_equal(set_msr(vcpu, 0x808, 0x30), 0); /* no LAPIC here */

	/* CPUID's APIC bit follows the enable bit. */
	assert_int_equal(set_msr(bsp, 0x1b, 0xfee00100), 1);
	out->nent = 256;
	ok(bsp, KVM_GET_CPUID2, out);
	assert_false(leaf(out, 1, 0)->edx & 1 << 9);
	assert_int_equal(set_msr(bsp, 0x1b, 0xfee00900), 1);
	ok(bsp, KVM_GET_CPUID2, out);
	assert_true(leaf(out, 1, 0)->edx & 1 << 9);
	free(c);
	free(out);
}

static void tsc_deadline(void **state)
{
	struct kvm_lapic_state l;

	/* Not in that mode: reads as zero, takes nothing. */
	assert_int_equal(get_msr(bsp, 0x6e0), 0);
	assert_int_equal(set_msr(bsp, 0x6e0, 1ull << 60), 1);
	assert_int_equal(get_msr(bsp, 0x6e0), 0);
	assert_int_equal(get_msr(vcpu, 0x6e0), 0);

	ok(bsp, KVM_GET_LAPIC, &l);
	l.regs[0xf1] = 1;
	l.regs[0x322] = 4; /* LVT timer in TSC-deadline mode */
	l.regs[0x320] = 0x40;
	l.regs[0x321] = 0;
	ok(bsp, KVM_SET_LAPIC, &l);
	assert_int_equal(set_msr(bsp, 0x6e0, 1ull << 60), 1);
	assert_int_equal(get_msr(bsp, 0x6e0), 1ull << 60);
}

static void poll_control(void **state)
{
	assert_int_equal(get_msr(vcpu, MSR_KVM_POLL_CONTROL), 1);
	assert_int_equal(set_msr(vcpu, MSR_KVM_POLL_CONTROL, 0), 1);
	assert_int_equal(get_msr(vcpu, MSR_KVM_POLL_CONTROL), 0);
	assert_int_equal(set_msr(vcpu, MSR_KVM_POLL_CONTROL, 2), 0);
}

static void enforce_pv_cpuid(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};
	struct kvm_cpuid2 *c = all_cpuid(dev);

	ok(vcpu, KVM_SET_CPUID2, c);
	ok(vcpu, KVM_ENABLE_CAP, &cap);
	assert_int_equal(set_msr(vcpu, MSR_KVM_POLL_CONTROL, 0), 0); /* not among what is offered */
	assert_int_equal(set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0), 1);
	leaf(c, 0x40000001, 0)->eax = 0;
	ok(vcpu, KVM_SET_CPUID2, c);
	assert_int_equal(set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0), 0);
	cap.args[0] = 0;
	ok(vcpu, KVM_ENABLE_CAP, &cap);
	assert_int_equal(set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0), 1);

	cap.flags = 1;
	fails(EINVAL, vcpu, KVM_ENABLE_CAP, &cap);
	cap.flags = 0;
	cap.cap = KVM_CAP_HYPERV_SYNIC;
	fails(EINVAL, vcpu, KVM_ENABLE_CAP, &cap);
	bad_pointers(vcpu, KVM_ENABLE_CAP, &cap, sizeof(cap), 0);
	free(c);
}

/* ---- TSC ---- */

static void tsc_khz(void **state)
{
	int host = ok(vcpu, KVM_GET_TSC_KHZ, 0);
	u64 a, b, ta, tb;

	assert_true(host > 100000);
	ok(vcpu, KVM_SET_TSC_KHZ, host / 2);
	assert_int_equal(ok(vcpu, KVM_GET_TSC_KHZ, 0), host / 2);
	a = get_msr(vcpu, 0x10);
	ta = __rdtsc();
	sleep_ms(20);
	b = get_msr(vcpu, 0x10);
	tb = __rdtsc();
	/* Half the speed, within a tenth. */
	assert_true((b - a) * 20 > (tb - ta) * 9 && (b - a) * 20 < (tb - ta) * 11);
	ok(vcpu, KVM_SET_TSC_KHZ, 0); /* the host's */
	assert_int_equal(ok(vcpu, KVM_GET_TSC_KHZ, 0), host);
	fails(EINVAL, vcpu, KVM_SET_TSC_KHZ, 0x7fffffff);
	fails(EINVAL, vcpu, KVM_SET_TSC_KHZ, 0xffffffff);
}

static u64 tsc_offset(int fd)
{
	u64 offset = 0;
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&offset};

	ok(fd, KVM_GET_DEVICE_ATTR, &attr);
	return offset;
}

static void tsc_in_step(void **state)
{
	int khz = ok(bsp, KVM_GET_TSC_KHZ, 0);
	u64 tsc;

	/* A VM's TSCs start together, near zero. */
	assert_int_equal(tsc_offset(bsp), tsc_offset(ap));
	assert_true(get_msr(bsp, 0x10) < khz * 10000ull);
	/* Set to the same value one after the other, they are equal again. */
	assert_int_equal(set_msr(bsp, 0x10, 1ull << 50), 1);
	sleep_ms(5);
	assert_int_equal(set_msr(ap, 0x10, 1ull << 50), 1);
	assert_int_equal(tsc_offset(bsp), tsc_offset(ap));
	tsc = get_msr(ap, 0x10);
	assert_true(tsc >= 1ull << 50 && tsc < (1ull << 50) + khz * 10000ull);
	/* Set far apart, they are not. */
	assert_int_equal(set_msr(ap, 0x10, 1ull << 51), 1);
	assert_int_not_equal(tsc_offset(bsp), tsc_offset(ap));
}

static void tsc_offset_attr(void **state)
{
	u64 offset = 0x123456789000ull;
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&offset};
	u64 host = __rdtsc(), tsc;

	ok(vcpu, KVM_HAS_DEVICE_ATTR, &attr);
	ok(vcpu, KVM_SET_DEVICE_ATTR, &attr);
	assert_int_equal(tsc_offset(vcpu), offset);
	tsc = get_msr(vcpu, 0x10);
	assert_true(tsc >= host + offset && tsc <= __rdtsc() + offset);

	attr.addr = 8;
	fails(EFAULT, vcpu, KVM_GET_DEVICE_ATTR, &attr);
	fails(EFAULT, vcpu, KVM_SET_DEVICE_ATTR, &attr);
	attr.attr = 1;
	fails(ENXIO, vcpu, KVM_HAS_DEVICE_ATTR, &attr);
	fails(ENXIO, vcpu, KVM_GET_DEVICE_ATTR, &attr);
	fails(ENXIO, vcpu, KVM_SET_DEVICE_ATTR, &attr);
	attr.attr = 0;
	attr.group = 1;
	fails(ENXIO, vcpu, KVM_HAS_DEVICE_ATTR, &attr);
	bad_pointers(vcpu, KVM_HAS_DEVICE_ATTR, &attr, sizeof(attr), 0);
	bad_pointers(vcpu, KVM_GET_DEVICE_ATTR, &attr, sizeof(attr), 0);
	bad_pointers(vcpu, KVM_SET_DEVICE_ATTR, &attr, sizeof(attr), 0);
}

static void kvmclock_ctrl(void **state)
{
	fails(EINVAL, vcpu, KVM_KVMCLOCK_CTRL, 0); /* the guest has no kvmclock */
}

/* ---- others ---- */

static void signal_mask(void **state)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} m = {.head.len = 8};

	_Static_assert(sizeof(m) == 12, "a mask of 8 bytes follows its length");
	ok(vcpu, KVM_SET_SIGNAL_MASK, &m);
	m.head.len = 4;
	fails(EINVAL, vcpu, KVM_SET_SIGNAL_MASK, &m);
	m.head.len = 128;
	fails(EINVAL, vcpu, KVM_SET_SIGNAL_MASK, &m);
	fails(EFAULT, vcpu, KVM_SET_SIGNAL_MASK, 8);
	ok(vcpu, KVM_SET_SIGNAL_MASK, NULL);
}

static void guest_debug(void **state)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB};
	struct kvm_vcpu_events e;

	ok(vcpu, KVM_SET_GUEST_DEBUG, &d);
	ok(vcpu, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.injected, 1);
	assert_int_equal(e.exception.nr, 1);
	fails(EBUSY, vcpu, KVM_SET_GUEST_DEBUG, &d); /* one is waiting already */
	d.control = 0;
	ok(vcpu, KVM_SET_GUEST_DEBUG, &d);
	bad_pointers(vcpu, KVM_SET_GUEST_DEBUG, &d, sizeof(d), 0);
}

static void run_page(void **state)
{
	int size = ok(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *a, *b;

	assert_int_equal(size, 3 * PAGE);
	a = map_run(dev, vcpu);
	b = map_run(dev, vcpu);
	/* One page, mapped twice. */
	a->immediate_exit = 1;
	assert_int_equal(b->immediate_exit, 1);
	munmap(a, size);
	munmap(b, size);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(unknown_commands),
		T(wrong_fd),
		T(survives_its_vm_fd),
		T(reset_state),
		T(regs),
		T(sregs),
		T(sregs_refused),
		T(long_mode),
		T(sregs2),
		T(debugregs),
		T(translate),
		T(fpu),
		T(xsave),
		T(xsave2),
		T(xcrs),
		T(events),
		T(events_refused),
		T(exception_payload),
		T(triple_fault),
		T(interrupt),
		T(interrupt_split),
		T(nmi_and_smi),
		T(mp_state),
		T(latched_init),
		T(reset_wakes_boot_cpu),
		T(lapic),
		T(cr8_is_the_tpr),
		T(vapic),
		T(mce),
		T(msrs),
		T(listed_msrs),
		T(apic_base_msr),
		T(tsc_deadline),
		T(poll_control),
		T(enforce_pv_cpuid),
		T(tsc_khz),
		T(tsc_in_step),
		T(tsc_offset_attr),
		T(kvmclock_ctrl),
		T(signal_mask),
		T(guest_debug),
		T(run_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
