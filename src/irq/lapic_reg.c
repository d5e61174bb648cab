// SPDX-License-Identifier: MIT
/*
 * The local APIC's registers as its CPU sees them: the xAPIC page and the x2APIC MSRs.
 *
 * Runs on the owner's thread. Source: SDM vol. 3, "Local APIC Register Address Map", "x2APIC
 * Register Address Space".
 */
#include "irq/irq_priv.h"

#include <errno.h>
#include <string.h>

#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST	 0x8ff

#define ICR_BUSY	    BIT(12)
#define ICR_LOGICAL	    BIT(11)
#define ICR_ASSERT	    BIT(14)
#define ICR_LEVEL	    BIT(15)
#define X2APIC_ICR_RESERVED 0xfff32000u

enum reg_flags {
	R = BIT(0),
	W = BIT(1),
	X2R = BIT(2), /* readable and writable as an MSR */
	X2W = BIT(3),
	RW = R | W,
	X2RW = X2R | X2W,
};

/* Rows by offset >> 4; what has no row is reserved. ICR's upper half is an MSR of its own nowhere.
 */
static const struct {
	u8 flags;
	u32 mask; /* bits that a write can change */
} regs[KVM_APIC_REG_SIZE / 16] = {
	[LAPIC_ID >> 4] = {RW | X2R, 0xff000000},
	[LAPIC_VERSION >> 4] = {R | X2R},
	[LAPIC_TPR >> 4] = {RW | X2RW, 0xff},
	[LAPIC_APR >> 4] = {R},
	[LAPIC_PPR >> 4] = {R | X2R},
	[LAPIC_EOI >> 4] = {W | X2W},
	[LAPIC_LDR >> 4] = {RW | X2R, 0xff000000},
	[LAPIC_DFR >> 4] = {RW, 0xf0000000},
	[LAPIC_SPIV >> 4] = {RW | X2RW, 0x3ff},
	[LAPIC_ISR >> 4 ...(LAPIC_ISR >> 4) + 23] = {R | X2R}, /* ISR, TMR, IRR */
	[LAPIC_ESR >> 4] = {RW | X2RW},
	[LAPIC_LVTCMCI >> 4] = {RW | X2RW, 0x107ff},
	[LAPIC_ICR >> 4] = {RW | X2RW, ~ICR_BUSY},
	[LAPIC_ICR2 >> 4] = {RW, 0xff000000},
	[LAPIC_LVTT >> 4] = {RW | X2RW, 0x700ff},
	[LAPIC_LVTTHMR >> 4] = {RW | X2RW, 0x107ff},
	[LAPIC_LVTPC >> 4] = {RW | X2RW, 0x107ff},
	[LAPIC_LVT0 >> 4] = {RW | X2RW, 0x1a7ff},
	[LAPIC_LVT1 >> 4] = {RW | X2RW, 0x1a7ff},
	[LAPIC_LVTERR >> 4] = {RW | X2RW, 0x100ff},
	[LAPIC_TMICT >> 4] = {RW | X2RW, ~0u},
	[LAPIC_TMCCT >> 4] = {R | X2R},
	[LAPIC_TDCR >> 4] = {RW | X2RW, 0xb},
	[LAPIC_SELF_IPI >> 4] = {X2W},
};

static u8 reg_flags(const struct lapic *l, u32 reg)
{
	if (reg >= KVM_APIC_REG_SIZE || (reg == LAPIC_LVTCMCI && !l->cmci))
		return 0;
	return regs[reg >> 4].flags;
}

static u32 reg_read(struct lapic *l, u32 reg)
{
	switch (reg) {
	case LAPIC_APR:
		return 0;
	case LAPIC_TMCCT:
		return lapic_timer_count(l);
	default:
		return lapic_get_reg(l, reg);
	}
}

static void send_ipi(struct lapic *l, u32 icr, u32 dest)
{
	struct irq_msg m = {
		.dest = dest,
		.vector = icr,
		.mode = icr >> 8 & 7,
		.shorthand = icr >> 18 & 3,
		.logical = icr & ICR_LOGICAL,
		.level_triggered = icr & ICR_LEVEL,
		.assert = icr & ICR_ASSERT,
	};

	if (m.mode <= IRQ_LOWEST) {
		if (m.vector < 16)
			lapic_error(l, LAPIC_ERR_SEND_VECTOR);
	}
	irq_deliver(l->ic, l, &m);
}

static void write_spiv(struct lapic *l, u32 value)
{
	/* Suppression exists only where the version register says so. */
	if (!irqchip_is_split(l->ic))
		value &= ~LAPIC_NO_BROADCAST;
	lapic_set_reg(l, LAPIC_SPIV, value);
	if (value & LAPIC_SW_ENABLE)
		return;
	for (u32 i = 0; i < LAPIC_NR_LVT; i++)
		lapic_set_reg(l, LAPIC_LVTT + i * 0x10,
			      lapic_get_reg(l, LAPIC_LVTT + i * 0x10) | LAPIC_MASKED);
	if (l->cmci)
		lapic_set_reg(l, LAPIC_LVTCMCI, lapic_get_reg(l, LAPIC_LVTCMCI) | LAPIC_MASKED);
}

static void write_lvt(struct lapic *l, u32 reg, u32 value)
{
	if (!lapic_sw_enabled(l))
		value |= LAPIC_MASKED;
	lapic_set_reg(l, reg, value);
	if (reg == LAPIC_LVTT)
		lapic_timer_write_lvtt(l);
}

/* value has only bits that the register has. */
static void reg_write(struct lapic *l, u32 reg, u32 value)
{
	switch (reg) {
	case LAPIC_ID:
		lapic_set_reg(l, LAPIC_ID, value);
		lapic_update_directory(l);
		break;
	case LAPIC_TPR:
		lapic_set_reg(l, LAPIC_TPR, value);
		lapic_update_ppr(l);
		lapic_recheck(l);
		break;
	case LAPIC_EOI:
		lapic_eoi(l);
		break;
	case LAPIC_DFR:
		lapic_set_reg(l, LAPIC_DFR, value | 0x0fffffff);
		break;
	case LAPIC_SPIV:
		write_spiv(l, value);
		lapic_recheck(l);
		break;
	case LAPIC_ESR:
		/* The write is what makes the errors since the last one visible. */
		lapic_set_reg(l, LAPIC_ESR, __atomic_exchange_n(&l->errors, 0, __ATOMIC_SEQ_CST));
		break;
	case LAPIC_ICR:
		lapic_set_reg(l, LAPIC_ICR, value);
		send_ipi(l, value, lapic_get_reg(l, LAPIC_ICR2) >> 24);
		break;
	case LAPIC_LVTCMCI:
	case LAPIC_LVTT:
	case LAPIC_LVTTHMR:
	case LAPIC_LVTPC:
	case LAPIC_LVT0:
	case LAPIC_LVT1:
	case LAPIC_LVTERR:
		write_lvt(l, reg, value);
		lapic_recheck(l);
		break;
	case LAPIC_TMICT:
		lapic_timer_write_tmict(l, value);
		break;
	case LAPIC_TDCR:
		lapic_set_reg(l, LAPIC_TDCR, value);
		lapic_timer_write_tdcr(l);
		break;
	default:
		lapic_set_reg(l, reg, value);
	}
}

static u32 write_mask(const struct lapic *l, u32 reg)
{
	u32 mask = regs[reg >> 4].mask;

	return reg == LAPIC_SPIV && irqchip_is_split(l->ic) ? mask | LAPIC_NO_BROADCAST : mask;
}

void lapic_mmio(struct lapic *l, u32 offset, void *data, u32 size, bool write)
{
	u32 reg = offset & 0xff0, in = offset & 0xf, value;
	u8 flags = reg_flags(l, reg);

	if (!(flags & (write ? W : R))) {
		lapic_error(l, LAPIC_ERR_REGISTER);
		if (!write)
			memset(data, 0, size);
		return;
	}
	if (write) {
		/* Anything but an aligned 32-bit write is undefined; it has no effect. */
		if (size != 4 || in)
			return;
		memcpy(&value, data, 4);
		reg_write(l, reg, value & write_mask(l, reg));
		return;
	}
	memset(data, 0, size);
	if (in + size > 4)
		return;
	value = reg_read(l, reg);
	memcpy(data, (u8 *)&value + in, size);
}

int lapic_rdmsr(struct lapic *l, u32 msr, u64 *value)
{
	u32 reg = (msr - MSR_X2APIC_FIRST) << 4;

	if (msr < MSR_X2APIC_FIRST || !lapic_x2apic(l) || !(reg_flags(l, reg) & X2R))
		return -EINVAL;
	*value = reg_read(l, reg);
	if (reg == LAPIC_ICR)
		*value |= (u64)lapic_get_reg(l, LAPIC_ICR2) << 32;
	return 0;
}

static int write_x2apic_icr(struct lapic *l, u64 value)
{
	if (value & X2APIC_ICR_RESERVED)
		return -EINVAL;
	value &= ~(u64)ICR_BUSY;
	lapic_set_reg(l, LAPIC_ICR, value);
	lapic_set_reg(l, LAPIC_ICR2, value >> 32);
	send_ipi(l, value, value >> 32);
	return 0;
}

int lapic_wrmsr(struct lapic *l, u32 msr, u64 value)
{
	u32 reg = (msr - MSR_X2APIC_FIRST) << 4;

	if (msr < MSR_X2APIC_FIRST || !lapic_x2apic(l) || !(reg_flags(l, reg) & X2W))
		return -EINVAL;
	if (reg == LAPIC_ICR)
		return write_x2apic_icr(l, value);
	if (value >> 32)
		return -EINVAL;
	switch (reg) {
	case LAPIC_EOI:
	case LAPIC_ESR:
		if (value)
			return -EINVAL;
		break;
	case LAPIC_TPR:
		if (value > 0xff)
			return -EINVAL;
		break;
	case LAPIC_SELF_IPI:
		if (value > 0xff)
			return -EINVAL;
		send_ipi(l, value | IRQ_SELF << 18, 0);
		return 0;
	}
	reg_write(l, reg, value & write_mask(l, reg));
	return 0;
}
