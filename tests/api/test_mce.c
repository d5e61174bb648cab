/* SPDX-License-Identifier: MIT */
/*
 * Machine checks that a VMM injects and that want no action: what is logged, and Intel's interrupt
 * for it (CMCI).
 *
 * Run under each personality: AMD's local APIC has no such interrupt.
 */
#include "api.h"

#define MCG_CTL_P     (1ull << 8)
#define MCG_CMCI_P    (1ull << 10)
#define MCI_VAL	      (1ull << 63)
#define MCI_UC	      (1ull << 61)
#define CTL2_CMCI_EN  (1ull << 30)
#define MSR_MC_CTL2   0x280
#define MSR_MC_STATUS 0x401
#define BANK	      7
#define LVT_CMCI      0x2f0
#define LVT_MASKED    0x10000
#define VECTOR	      0xa9

static struct guest g;
static u64 supported;

static int setup(void **state)
{
	guest_make(&g);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	ok(g.dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported);
	guest_start(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

static u64 get_msr(u32 msr)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = msr}};

	assert_int_equal(ok(g.vcpu, KVM_GET_MSRS, &m), 1);
	return m.e.data;
}

static int set_msr(u32 msr, u64 value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1, .e = {.index = msr, .data = value}};

	return ok(g.vcpu, KVM_SET_MSRS, &m);
}

static u32 lapic_reg(u32 reg)
{
	struct kvm_lapic_state s;
	u32 v;

	ok(g.vcpu, KVM_GET_LAPIC, &s);
	memcpy(&v, s.regs + reg, 4);
	return v;
}

static void set_lapic_reg(u32 reg, u32 v)
{
	struct kvm_lapic_state s;

	ok(g.vcpu, KVM_GET_LAPIC, &s);
	memcpy(s.regs + reg, &v, 4);
	ok(g.vcpu, KVM_SET_LAPIC, &s);
}

static void setup_mce(u64 cap)
{
	cap |= 10 | MCG_CTL_P;
	ok(g.vcpu, KVM_X86_SETUP_MCE, &cap);
}

static void inject(u32 bank)
{
	struct kvm_x86_mce m = {.status = MCI_VAL | MCI_UC | 0x90, .addr = 0xdead000, .bank = bank};

	ok(g.vcpu, KVM_X86_SET_MCE, &m);
	assert_true(get_msr(MSR_MC_STATUS + bank * 4) == m.status);
}

/* Without the capability there is neither the register nor the entry in the local vector table. */
static void no_cmci(void **state)
{
	u64 cap = 10 | MCG_CMCI_P;

	setup_mce(0);
	assert_int_equal(lapic_reg(0x30) >> 16 & 0xff, 5);
	assert_int_equal(lapic_reg(LVT_CMCI), 0);
	assert_int_equal(set_msr(MSR_MC_CTL2 + BANK, CTL2_CMCI_EN), 0);
	assert_int_equal(set_msr(MSR_MC_CTL2 + BANK, 0), 1);
	inject(BANK);
	memcpy(g.ram + 13 * 4, (u16[]){0x2000, 0}, 4);
	g.at = g.ram + 0x2000;
	g_outb(&g, 0x80, 13);
	g.at = g.ram + GUEST_CODE;
	g_wrmsr(&g, MSR_MC_CTL2 + BANK, CTL2_CMCI_EN);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);
	if (!(supported & MCG_CMCI_P))
		fails(EINVAL, g.vcpu, KVM_X86_SETUP_MCE, &cap);
}

static void cmci(void **state)
{
	if (!(supported & MCG_CMCI_P)) {
		/* AMD: no_cmci() has looked at it */
		return;
	}
	setup_mce(MCG_CMCI_P);
	assert_int_equal(lapic_reg(0x30) >> 16 & 0xff, 6);
	assert_int_equal(lapic_reg(LVT_CMCI), LVT_MASKED);
	assert_int_equal(set_msr(MSR_MC_CTL2 + BANK, 1 << 29), 0); /* reserved */
	assert_int_equal(set_msr(MSR_MC_CTL2 + 10, 0), 0);	   /* no such bank */
	assert_int_equal(set_msr(MSR_MC_CTL2 + BANK, CTL2_CMCI_EN | 0x7fff), 1);
	assert_true(get_msr(MSR_MC_CTL2 + BANK) == (CTL2_CMCI_EN | 0x7fff));

	set_lapic_reg(0xf0, 0x1ff);
	/* Masked in the LAPIC; then in the bank; then in neither. */
	inject(BANK);
	assert_int_equal(lapic_reg(0x200 + VECTOR / 32 * 16), 0);
	set_lapic_reg(LVT_CMCI, VECTOR);
	inject(BANK - 1);
	assert_int_equal(lapic_reg(0x200 + VECTOR / 32 * 16), 0);
	inject(BANK);
	assert_int_equal(lapic_reg(0x200 + VECTOR / 32 * 16), 1 << VECTOR % 32);

	/* The guest takes it. */
	memcpy(g.ram + VECTOR * 4, (u16[]){0x2000, 0}, 4);
	g.at = g.ram + 0x2000;
	g_outb(&g, 0x80, VECTOR);
	g.at = g.ram + GUEST_CODE;
	code(&g, 0xfb, 0x90, 0x90);
	g_done(&g);
	assert_int_equal(guest_run(&g), KVM_EXIT_IO);
	assert_int_equal(g.run->io.port, 0x80);

	/* Setting up anew clears the banks' controls; without CMCI the entry is gone. */
	setup_mce(MCG_CMCI_P);
	assert_int_equal(get_msr(MSR_MC_CTL2 + BANK), 0);
	setup_mce(0);
	assert_int_equal(lapic_reg(0x30) >> 16 & 0xff, 5);
	assert_int_equal(lapic_reg(LVT_CMCI), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {T(no_cmci), T(cmci)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
