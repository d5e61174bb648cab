/* SPDX-License-Identifier: MIT */
/*
 * What a VMM lets its guests do, through the public API: MSRs that it answers or forbids, quirks,
 * hypercalls.
 */
#include "api.h"

#include <asm/kvm_para.h>
#include <linux/kvm_para.h>
#include <pthread.h>

#define MSR_MISC_ENABLE	  0x1a0
#define MSR_PAT		  0x277
#define MSR_PLATFORM_INFO 0xce
#define MSR_NONE	  0xdeadbeef
#define MSR_SYSCALL_MASK  0xc0000084
#define FAULT_PORT	  0x80

static struct guest g;

/* A real-mode guest whose #UD and #GP handlers write their vector to FAULT_PORT and stop. */
static void make(void)
{
	guest_make(&g);
	for (u8 v = 6; v <= 13; v += 7) {
		memcpy(g.ram + v * 4, (u16[]){0x2000 + v * 16, 0}, 4);
		g.at = g.ram + 0x2000 + v * 16;
		g_outb(&g, FAULT_PORT, v);
		code(&g, 0xf4);
	}
	g.at = g.ram + GUEST_CODE;
}

static int setup(void **state)
{
	make();
	guest_start(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

static void g_rdmsr(u32 msr)
{
	code(&g, 0x66, 0xb9, LE32(msr), 0x0f, 0x32);
}

/* The next exit is the guest's own note of a fault. */
#define faults_with(vector)                                                                        \
	do {                                                                                       \
		assert_int_equal(guest_run(&g), KVM_EXIT_IO);                                      \
		assert_int_equal(g.run->io.port, FAULT_PORT);                                      \
		assert_int_equal(*(const u8 *)pio_data(&g), vector);                               \
	} while (0)

static struct kvm_regs regs(void)
{
	struct kvm_regs r;

	ok(g.vcpu, KVM_GET_REGS, &r);
	return r;
}

static void enable(u32 cap, u64 arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	ok(g.vm, KVM_ENABLE_CAP, &e);
}

static void refused(u32 cap, u64 arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	fails(EINVAL, g.vm, KVM_ENABLE_CAP, &e);
}

/* What is supported, with another vendor if one is named. */
static void set_cpuid(const char *vendor)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	c->nent = 256;
	ok(g.dev, KVM_GET_SUPPORTED_CPUID, c);
	for (u32 i = 0; i < c->nent && vendor; i++) {
		if (c->entries[i].function)
			continue;
		memcpy(&c->entries[i].ebx, vendor, 4);
		memcpy(&c->entries[i].edx, vendor + 4, 4);
		memcpy(&c->entries[i].ecx, vendor + 8, 4);
	}
	ok(g.vcpu, KVM_SET_CPUID2, c);
	free(c);
}

/* ---- MSRs that user space answers ---- */

static void user_space_msr(void **state)
{
	refused(KVM_CAP_X86_USER_SPACE_MSR, 8);
	refused(KVM_CAP_X86_USER_SPACE_MSR, 1ull << 32 | 1);

	/* Off: the guest gets #GP. */
	g_rdmsr(MSR_NONE);
	faults_with(13);

	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	guest_rewind(&g);
	g_rdmsr(MSR_NONE);
	g_wrmsr(&g, MSR_NONE, 0x1122334455667788);
	g_wrmsr(&g, MSR_PAT, 2); /* an impossible value, which is another reason */
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	assert_int_equal(g.run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	assert_int_equal(g.run->msr.index, MSR_NONE);
	assert_int_equal(g.run->msr.error, 0);
	assert_int_equal(regs().rip, GUEST_CODE + 6); /* the instruction is not done */
	g.run->msr.data = 0xaabbccdd00112233;
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_WRMSR);
	assert_int_equal(g.run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	assert_true(g.run->msr.data == 0x1122334455667788);
	faults_with(13);

	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL);
	guest_rewind(&g);
	g_wrmsr(&g, MSR_PAT, 2);
	g_rdmsr(MSR_NONE);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_WRMSR);
	assert_int_equal(g.run->msr.reason, KVM_MSR_EXIT_REASON_INVAL);
	assert_int_equal(g.run->msr.index, MSR_PAT);
	assert_int_equal(g.run->msr.data, 2);
	faults_with(13);
}

static void msr_answers(void **state)
{
	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	g_rdmsr(MSR_NONE);
	g_done(&g);
	/* EDX:EAX from the answer. */
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	g.run->msr.data = 0xaabbccdd00112233;
	guest_done(&g);
	assert_int_equal((u32)regs().rax, 0x00112233);
	assert_int_equal((u32)regs().rdx, 0xaabbccdd);

	/* The VMM says no. */
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	g.run->msr.error = 1;
	faults_with(13);

	/* The instruction alone is finished by a run that must not start. */
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	assert_int_equal(g.run->msr.error, 0);
	g.run->msr.data = 0x77;
	g.run->immediate_exit = 1;
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	g.run->immediate_exit = 0;
	assert_int_equal(regs().rip, GUEST_CODE + 8);
	assert_int_equal((u32)regs().rax, 0x77);

	/* An answer is for the instruction that asked: not for another, nor for the same one later.
	 */
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	g.run->msr.data = 0x55;
	guest_rewind(&g);
	code(&g, 0x90, 0x90, 0x90);
	g_rdmsr(MSR_NONE);
	code(&g, 0xeb, (u8)-10); /* back to it, past the MOV of ECX */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
		assert_int_equal(regs().rip, GUEST_CODE + 9);
		assert_int_equal(g.run->msr.data, 0);
		g.run->msr.data = 0x56 + i;
	}
}

/* ---- the filter ---- */

static struct kvm_msr_filter one_range(u32 flags, u32 base, u32 n, void *bitmap)
{
	return (struct kvm_msr_filter){.ranges = {{flags, n, base, bitmap}}};
}

static void msr_filter_errors(void **state)
{
	u8 bits[KVM_MSR_FILTER_MAX_BITMAP_SIZE] = {0};
	struct kvm_msr_filter f = one_range(KVM_MSR_FILTER_READ, 0, 1, bits);

	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f.flags = 2;
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = (struct kvm_msr_filter){.flags = KVM_MSR_FILTER_DEFAULT_DENY};
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f); /* denies everything */
	f = one_range(0, 0, 1, bits);
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = one_range(4, 0, 1, bits);
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = one_range(KVM_MSR_FILTER_READ, 0, sizeof(bits) * 8, bits);
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = one_range(KVM_MSR_FILTER_READ, 0, sizeof(bits) * 8 + 1, bits);
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = one_range(KVM_MSR_FILTER_READ, 0, ~0u, bits);
	fails(EINVAL, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = one_range(KVM_MSR_FILTER_READ, 0, 8, NULL);
	fails(EFAULT, g.vm, KVM_X86_SET_MSR_FILTER, &f);
	f = (struct kvm_msr_filter){0};
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	bad_pointers(g.vm, KVM_X86_SET_MSR_FILTER, &f, sizeof(f), 0);
	fails(ENOTTY, g.vcpu, KVM_X86_SET_MSR_FILTER, &f);
}

static void msr_filter(void **state)
{
	u64 none = 0, second = 2;
	struct kvm_msr_filter f = one_range(KVM_MSR_FILTER_READ, MSR_SYSCALL_MASK, 1, &none);
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = MSR_SYSCALL_MASK, .data = 0x200}};

	set_cpuid(NULL);
	/* Reads are denied, writes are not, and the VMM may do both. */
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	assert_int_equal(ok(g.vcpu, KVM_SET_MSRS, &m), 1);
	assert_int_equal(ok(g.vcpu, KVM_GET_MSRS, &m), 1);
	g_wrmsr(&g, MSR_SYSCALL_MASK, 0x300);
	g_rdmsr(MSR_SYSCALL_MASK);
	g_done(&g);
	faults_with(13);
	ok(g.vcpu, KVM_GET_MSRS, &m);
	assert_int_equal(m.e.data, 0x300);

	/* To user space only if it asked for that reason. */
	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL);
	guest_rewind(&g);
	faults_with(13);
	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	assert_int_equal(g.run->msr.reason, KVM_MSR_EXIT_REASON_FILTER);

	/* A new one replaces the old: the first range that speaks of an MSR decides, then the
	 * default. */
	f = one_range(KVM_MSR_FILTER_WRITE, MSR_SYSCALL_MASK - 1, 2, &second);
	f.ranges[1] = (struct kvm_msr_filter_range){KVM_MSR_FILTER_WRITE, 1, MSR_SYSCALL_MASK,
						    (u8 *)&none};
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_RDMSR);
	f.ranges[0].base++;
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	guest_rewind(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_X86_WRMSR);
	assert_int_equal(g.run->msr.data, 0x300);

	/* None again. */
	f = (struct kvm_msr_filter){0};
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	guest_rewind(&g);
	guest_done(&g);
}

static void *run_until_exit(void *arg)
{
	return (void *)(uintptr_t)guest_run(&g);
}

/* A filter that comes while the guest runs holds from the ioctl's return on. */
static void msr_filter_while_running(void **state)
{
	u64 none = 0;
	struct kvm_msr_filter f = one_range(KVM_MSR_FILTER_READ, MSR_SYSCALL_MASK, 1, &none);
	pthread_t t;
	void *reason;

	set_cpuid(NULL);
	enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	g_rdmsr(MSR_SYSCALL_MASK);
	code(&g, 0xeb, (u8)-4); /* jmp to the rdmsr */
	assert_int_equal(pthread_create(&t, NULL, run_until_exit, NULL), 0);
	sleep_ms(20);
	for (int i = 0; i < 50; i++) {
		f.ranges[0].base ^= 1; /* two filters that do not concern the guest's MSR */
		if (f.ranges[0].base == MSR_SYSCALL_MASK)
			f.ranges[0].base += 2;
		ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	}
	f.ranges[0].base = MSR_SYSCALL_MASK;
	ok(g.vm, KVM_X86_SET_MSR_FILTER, &f);
	assert_int_equal(pthread_join(t, &reason), 0);
	assert_int_equal((uintptr_t)reason, KVM_EXIT_X86_RDMSR);
}

/* ---- platform info ---- */

static void platform_info(void **state)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = MSR_PLATFORM_INFO}};

	ok(g.vcpu, KVM_GET_MSRS, &m);
	m.e.data |= 0xff00;
	assert_int_equal(ok(g.vcpu, KVM_SET_MSRS, &m), 1);
	g_rdmsr(MSR_PLATFORM_INFO);
	g_done(&g);
	guest_done(&g);
	assert_int_equal((u32)regs().rax & 0xff00, 0xff00);

	enable(KVM_CAP_MSR_PLATFORM_INFO, 0);
	guest_rewind(&g);
	faults_with(13);
	assert_int_equal(ok(g.vcpu, KVM_GET_MSRS, &m), 1);

	enable(KVM_CAP_MSR_PLATFORM_INFO, 1);
	guest_rewind(&g);
	guest_done(&g);
}

/* ---- quirks ---- */

static void g_mwait(void)
{
	/* xor eax, eax; xor ecx, ecx; xor edx, edx; monitor; mwait */
	code(&g, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xc9, 0x66, 0x31, 0xd2, 0x0f, 0x01, 0xc8, 0x0f, 0x01,
	     0xc9);
	g_done(&g);
}

static void quirks(void **state)
{
	u64 mask = ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = MSR_MISC_ENABLE}};

	refused(KVM_CAP_DISABLE_QUIRKS2, ~mask);
	assert_true(mask & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS);
	assert_true(mask & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);

	set_cpuid(NULL);
	ok(g.vcpu, KVM_GET_MSRS, &m);
	/* MWAIT is not offered and works all the same, unless the VMM has it otherwise. */
	g_mwait();
	guest_done(&g);
	enable(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS);
	guest_rewind(&g);
	faults_with(6);

	/* CPUID follows the MSR, and so does the instruction. */
	enable(KVM_CAP_DISABLE_QUIRKS2,
	       KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
	guest_rewind(&g);
	faults_with(6);
	m.e.data |= 1 << 18;
	assert_int_equal(ok(g.vcpu, KVM_SET_MSRS, &m), 1);
	guest_rewind(&g);
	guest_done(&g);
	guest_rewind(&g);
	code(&g, 0x66, 0xb8, LE32(1), 0x0f, 0xa2); /* mov eax, 1; cpuid */
	g_done(&g);
	guest_done(&g);
	assert_true(regs().rcx & 8);
	m.e.data &= ~(1ull << 18);
	assert_int_equal(ok(g.vcpu, KVM_SET_MSRS, &m), 1);
	guest_rewind(&g);
	guest_done(&g);
	assert_false(regs().rcx & 8);
}

/* ---- hypercalls ---- */

static const u8 vmcall[] = {0x0f, 0x01, 0xc1}, vmmcall[] = {0x0f, 0x01, 0xd9};

static void g_hypercall(const u8 *insn, u32 nr)
{
	code(&g, 0x66, 0xb8, LE32(nr));
	put(&g, insn, 3);
	g_done(&g);
}

/* Each vendor has an instruction of its own; the other's is rewritten, or refused. */
static void hypercall_insn(void **state)
{
	for (int amd = 0; amd < 2; amd++) {
		const u8 *own = amd ? vmmcall : vmcall, *other = amd ? vmcall : vmmcall;
		u8 *insn = g.ram + GUEST_CODE + 6;

		set_cpuid(amd ? "AuthenticAMD" : "GenuineIntel");
		g_hypercall(own, KVM_HC_VAPIC_POLL_IRQ);
		guest_done(&g);
		assert_int_equal((u32)regs().rax, 0);
		guest_rewind(&g);
		g_hypercall(other, 999);
		guest_done(&g);
		assert_int_equal((u32)regs().rax, (u32)-KVM_ENOSYS);
		assert_memory_equal(insn, own, 3);

		enable(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_FIX_HYPERCALL_INSN);
		guest_rewind(&g);
		guest_done(&g);
		guest_rewind(&g);
		g_hypercall(other, 999);
		faults_with(6);
		assert_memory_equal(insn, other, 3);

		guest_end(&g);
		make();
		guest_start(&g);
	}
}

/* KVM_HC_KICK_CPU ends another vCPU's HLT although no interrupt is there. */
static void kick_cpu(void **state)
{
	struct kvm_mp_state mp = {KVM_MP_STATE_RUNNABLE};
	struct guest waker;
	struct kvm_sregs s;
	pthread_t t;
	void *reason;

	make();
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	guest_start(&g);
	code(&g, 0xf4); /* hlt, without interrupts */
	g_done(&g);

	waker = g;
	waker.vcpu = ok(g.vm, KVM_CREATE_VCPU, 1);
	waker.run = map_run(g.dev, waker.vcpu);
	ok(g.vcpu, KVM_GET_SREGS, &s);
	ok(waker.vcpu, KVM_SET_SREGS, &s);
	ok(waker.vcpu, KVM_SET_MP_STATE, &mp);
	waker.at = g.ram + 0x3000;
	code(&waker, 0x66, 0xb8, LE32(KVM_HC_KICK_CPU), 0x66, 0xb9, LE32(0), 0x0f, 0x01, 0xc1);
	/* nobody, which is not an error: mov ecx, 77 */
	code(&waker, 0x66, 0xb8, LE32(KVM_HC_KICK_CPU), 0x66, 0xb9, LE32(77), 0x0f, 0x01, 0xc1);
	code(&waker, 0x66, 0xb8, LE32(KVM_HC_SCHED_YIELD), 0x66, 0xbb, LE32(0), 0x0f, 0x01, 0xc1);
	g_done(&waker);

	/* Before the HLT, and after it has begun. */
	for (int late = 0; late < 2; late++) {
		struct kvm_regs r = {.rip = GUEST_CODE, .rsp = 0x8000, .rflags = 2};

		ok(g.vcpu, KVM_SET_REGS, &r);
		r.rip = 0x3000;
		ok(waker.vcpu, KVM_SET_REGS, &r);
		if (late) {
			assert_int_equal(pthread_create(&t, NULL, run_until_exit, NULL), 0);
			sleep_ms(20); /* it has most likely halted; else this is the first case
					 again */
		}
		assert_int_equal(guest_done(&waker), 0);
		if (!late)
			assert_int_equal(pthread_create(&t, NULL, run_until_exit, NULL), 0);
		assert_int_equal(pthread_join(t, &reason), 0);
		assert_int_equal((uintptr_t)reason, KVM_EXIT_IO);
		assert_int_equal(g.run->io.port, DONE_PORT);
	}
	munmap(waker.run, ok(g.dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	anyvisor_close(waker.vcpu);
}

/* A paravirtual hypercall that CPUID does not offer exists only as long as the VMM does not mind.
 */
static void hypercall_enforced(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};

	g_hypercall(vmcall, KVM_HC_KICK_CPU);
	guest_done(&g);
	assert_int_equal((u32)regs().rax, 0);
	ok(g.vcpu, KVM_ENABLE_CAP, &cap);
	guest_rewind(&g);
	guest_done(&g);
	assert_int_equal((u32)regs().rax, (u32)-KVM_ENOSYS);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(user_space_msr),
		T(msr_answers),
		T(msr_filter_errors),
		T(msr_filter),
		T(msr_filter_while_running),
		T(platform_info),
		T(quirks),
		T(hypercall_insn),
		cmocka_unit_test_teardown(kick_cpu, teardown),
		T(hypercall_enforced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
