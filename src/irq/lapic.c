// SPDX-License-Identifier: MIT
/*
 * The local APIC as others see it: creation, mode, taking messages, the pending interrupt, saved
 * state.
 *
 * Register reads and writes are in lapic_reg.c, the timer in lapic_timer.c. Knows nothing of vCPUs
 * but their number. Source: SDM vol. 3, chapter on the APIC; struct kvm_lapic_state.
 *
 * Memory order. A sender sets TMR, IRR, the word's bit in irr_words, then kicks. The owner clears
 * an IRR bit, then if the word became empty the bit in irr_words, and then looks at the word again:
 * a sender in between is not lost.
 */
#include "irq/irq_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_VECTOR	 16 /* lower ones are illegal for interrupts */
#define VERSION		 0x14
#define VERSION_SUPPRESS BIT(24)
#define X2APIC_LDR(id)	 ((id) >> 4 << 16 | BIT((id)&0xf))

u32 lapic_x2apic_ldr(u32 id)
{
	return X2APIC_LDR(id);
}

u64 lapic_base(const struct lapic *l)
{
	return READ_ONCE(l->base);
}

bool lapic_x2apic(const struct lapic *l)
{
	u64 both = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;

	return (READ_ONCE(l->base) & both) == both;
}

u32 lapic_id(const struct lapic *l)
{
	return lapic_x2apic(l) ? l->id : lapic_get_reg(l, LAPIC_ID) >> 24;
}

void lapic_update_directory(struct lapic *l)
{
	bool xapic = lapic_present(l) && !lapic_x2apic(l);
	bool odd = xapic && lapic_get_reg(l, LAPIC_ID) >> 24 != (u8)l->id;

	__atomic_fetch_add(&l->ic->nr_xapic, xapic - l->counted_xapic, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&l->ic->nr_odd_ids, odd - l->counted_odd, __ATOMIC_SEQ_CST);
	l->counted_xapic = xapic;
	l->counted_odd = odd;
}

int lapic_set_base(struct lapic *l, u64 value, u32 maxphyaddr, bool x2apic_allowed,
		   bool host_initiated)
{
	const u64 mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
	u64 valid = LAPIC_BASE_BSP | LAPIC_BASE_ENABLE | (x2apic_allowed ? LAPIC_BASE_X2APIC : 0);
	u64 old = l->base;

	if (maxphyaddr < 52)
		valid |= LAPIC_BASE_ADDRESS & (BIT64(maxphyaddr) - 1);
	else
		valid |= LAPIC_BASE_ADDRESS;
	if (value & ~valid || (value & mode) == LAPIC_BASE_X2APIC)
		return -EINVAL;
	/* The guest leaves x2APIC mode only by disabling the APIC, and enters it only from xAPIC
	 * mode. */
	if (!host_initiated && (((old & mode) == mode && (value & mode) == LAPIC_BASE_ENABLE) ||
				(!(old & LAPIC_BASE_ENABLE) && (value & mode) == mode)))
		return -EINVAL;

	WRITE_ONCE(l->base, value);
	if ((value & mode) == (old & mode))
		return 0;
	if (value & LAPIC_BASE_X2APIC) {
		lapic_set_reg(l, LAPIC_ID, l->id);
		lapic_set_reg(l, LAPIC_LDR, X2APIC_LDR(l->id));
	} else if (value & LAPIC_BASE_ENABLE) {
		lapic_set_reg(l, LAPIC_ID, l->id << 24);
		if (old & LAPIC_BASE_X2APIC)
			lapic_set_reg(l, LAPIC_LDR, 0);
	}
	lapic_update_directory(l);
	lapic_recheck(l);
	return 0;
}

/*
 * ---- Taking messages ----
 */

void lapic_error(struct lapic *l, u32 bits)
{
	u32 old = __atomic_fetch_or(&l->errors, bits, __ATOMIC_SEQ_CST);
	u32 lvt = lapic_get_reg(l, LAPIC_LVTERR);

	/* An illegal vector in the entry itself would come back here for ever. */
	if (~old & bits && !(lvt & LAPIC_MASKED) && (lvt & 0xff) >= FIRST_VECTOR)
		lapic_accept(l, IRQ_FIXED, lvt, false, true);
}

static int accept_fixed(struct lapic *l, u8 vector, bool level_triggered)
{
	u32 bit = BIT(vector % 32), *tmr, *irr;

	if (!lapic_present(l) || !lapic_sw_enabled(l))
		return 0;
	if (vector < FIRST_VECTOR) {
		lapic_error(l, LAPIC_ERR_RECV_VECTOR);
		return 0;
	}
	tmr = lapic_word(l, LAPIC_TMR, vector);
	irr = lapic_word(l, LAPIC_IRR, vector);
	if (lapic_test(l, LAPIC_TMR, vector) != level_triggered) {
		if (level_triggered)
			__atomic_fetch_or(tmr, bit, __ATOMIC_SEQ_CST);
		else
			__atomic_fetch_and(tmr, ~bit, __ATOMIC_SEQ_CST);
	}
	/* Whoever set the bit first kicks, too. */
	if (!(__atomic_fetch_or(irr, bit, __ATOMIC_SEQ_CST) & bit)) {
		__atomic_fetch_or(&l->irr_words, BIT(vector / 32), __ATOMIC_SEQ_CST);
		l->ic->ops->kick(l->ic->owner, l->id);
	}
	return 1;
}

int lapic_accept(struct lapic *l, u8 mode, u8 vector, bool level_triggered, bool assert)
{
	const struct irq_ops *ops = l->ic->ops;
	void *owner = l->ic->owner;

	switch (mode) {
	case IRQ_FIXED:
	case IRQ_LOWEST:
		if (level_triggered && !assert)
			return 0;
		return accept_fixed(l, vector, level_triggered);
	case IRQ_SMI:
		ops->smi(owner, l->id);
		return 1;
	case IRQ_NMI:
		ops->nmi(owner, l->id);
		return 1;
	case IRQ_INIT:
		/* INIT level de-assert only synchronised arbitration ids, long ago. */
		if (level_triggered && !assert)
			return 0;
		ops->init(owner, l->id);
		return 1;
	case IRQ_SIPI:
		ops->sipi(owner, l->id, vector);
		return 1;
	default:
		/* ExtINT has no vector of its own: the PIC's INTR line does that
		 * (irqchip_extint_pending). */
		return 0;
	}
}

void lapic_local_deliver(struct lapic *l, u32 lvt_offset)
{
	u32 lvt = lapic_get_reg(l, lvt_offset);

	if (!lapic_present(l) || lvt & LAPIC_MASKED)
		return;
	if (lapic_accept(l, lvt >> 8 & 7, lvt, lvt & BIT(15), true) && lvt_offset == LAPIC_LVTPC)
		__atomic_fetch_or(&l->regs[LAPIC_LVTPC / 4], LAPIC_MASKED, __ATOMIC_SEQ_CST);
}

/*
 * ---- The owner's side ----
 */

static int highest(struct lapic *l, u32 map)
{
	u32 word;

	for (int i = 7; i >= 0; i--) {
		word = READ_ONCE(l->regs[map / 4 + i * 4]);
		if (word)
			return i * 32 + 31 - __builtin_clz(word);
	}
	return -1;
}

void lapic_update_ppr(struct lapic *l)
{
	int isr = highest(l, LAPIC_ISR);
	u32 tpr = lapic_get_reg(l, LAPIC_TPR) & 0xff, class = isr < 0 ? 0 : isr & 0xf0;

	lapic_set_reg(l, LAPIC_PPR, (tpr & 0xf0) >= class ? tpr : class);
}

bool lapic_accepts_extint(const struct lapic *l)
{
	u32 lvt0 = lapic_get_reg(l, LAPIC_LVT0);

	if (!lapic_present(l))
		return l->bsp;
	return !(lvt0 & LAPIC_MASKED) && (lvt0 >> 8 & 7) == IRQ_EXTINT;
}

void lapic_recheck(struct lapic *l)
{
	if (lapic_pending(l) >= 0 || (READ_ONCE(l->ic->pic.output) && lapic_accepts_extint(l)))
		l->ic->ops->kick(l->ic->owner, l->id);
}

u8 lapic_cr8(const struct lapic *l)
{
	return lapic_get_reg(l, LAPIC_TPR) >> 4 & 0xf;
}

void lapic_set_cr8(struct lapic *l, u8 cr8)
{
	lapic_set_reg(l, LAPIC_TPR, (cr8 & 0xf) << 4);
	lapic_update_ppr(l);
	lapic_recheck(l);
}

int lapic_pending(struct lapic *l)
{
	u32 words = LOAD_ACQUIRE(l->irr_words), i, word, vector;

	if (likely(!words) || !lapic_present(l) || !lapic_sw_enabled(l))
		return -1;
	for (; words; words &= ~BIT(i)) {
		i = 31 - __builtin_clz(words);
		word = READ_ONCE(l->regs[LAPIC_IRR / 4 + i * 4]);
		if (!word)
			continue;
		vector = i * 32 + 31 - __builtin_clz(word);
		return vector >> 4 > lapic_get_reg(l, LAPIC_PPR) >> 4 ? (int)vector : -1;
	}
	return -1;
}

int lapic_ack(struct lapic *l)
{
	int vector = lapic_pending(l);
	u32 bit, *irr, *isr;

	if (vector < 0)
		return -1;
	bit = BIT(vector % 32);
	irr = lapic_word(l, LAPIC_IRR, vector);
	isr = lapic_word(l, LAPIC_ISR, vector);
	if (!(__atomic_and_fetch(irr, ~bit, __ATOMIC_SEQ_CST))) {
		__atomic_fetch_and(&l->irr_words, ~BIT(vector / 32), __ATOMIC_SEQ_CST);
		if (__atomic_load_n(irr, __ATOMIC_SEQ_CST))
			__atomic_fetch_or(&l->irr_words, BIT(vector / 32), __ATOMIC_SEQ_CST);
	}
	WRITE_ONCE(*isr, *isr | bit);
	/* It was above PPR and is now the highest in service. */
	lapic_set_reg(l, LAPIC_PPR, vector & 0xf0);
	return vector;
}

void lapic_eoi(struct lapic *l)
{
	int vector = highest(l, LAPIC_ISR);
	u32 *isr;

	if (vector < 0)
		return;
	isr = lapic_word(l, LAPIC_ISR, vector);
	WRITE_ONCE(*isr, *isr & ~BIT(vector % 32));
	lapic_update_ppr(l);
	irqchip_eoi(l->ic, l, vector, lapic_test(l, LAPIC_TMR, vector));
	lapic_recheck(l);
}

/*
 * ---- Life ----
 */

static void set_version(struct lapic *l)
{
	u32 v = VERSION | (LAPIC_NR_LVT - 1 + l->cmci) << 16;

	/* Our own I/O APIC has no EOI register, so a guest that suppressed broadcasts could not
	 * reach it. */
	if (irqchip_is_split(l->ic))
		v |= VERSION_SUPPRESS;
	lapic_set_reg(l, LAPIC_VERSION, v);
}

void lapic_set_cmci(struct lapic *l, bool has)
{
	if (l->cmci == has)
		return;
	l->cmci = has;
	lapic_set_reg(l, LAPIC_LVTCMCI, has ? LAPIC_MASKED : 0);
	set_version(l);
}

void lapic_reset(struct lapic *l, bool init)
{
	lapic_timer_reset(l);
	if (!init) {
		WRITE_ONCE(l->base,
			   LAPIC_DEFAULT_BASE | LAPIC_BASE_ENABLE | (l->bsp ? LAPIC_BASE_BSP : 0));
		lapic_set_reg(l, LAPIC_ID, l->id << 24);
	}
	lapic_set_reg(l, LAPIC_SPIV, 0xff);
	for (u32 reg = LAPIC_TPR; reg < KVM_APIC_REG_SIZE; reg += 0x10)
		if (reg != LAPIC_SPIV && !(reg == LAPIC_LDR && lapic_x2apic(l)))
			lapic_set_reg(l, reg, 0);
	__atomic_store_n(&l->irr_words, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&l->errors, 0, __ATOMIC_SEQ_CST);
	lapic_set_reg(l, LAPIC_DFR, ~0u);
	for (u32 i = 0; i < LAPIC_NR_LVT; i++)
		lapic_set_reg(l, LAPIC_LVTT + i * 0x10, LAPIC_MASKED);
	if (l->cmci)
		lapic_set_reg(l, LAPIC_LVTCMCI, LAPIC_MASKED);
	/* Virtual wire: without firmware's help the boot CPU hears the PIC
	 * (KVM_X86_QUIRK_LINT0_REENABLED). */
	if (l->bsp && !l->ic->no_lint0_quirk)
		lapic_set_reg(l, LAPIC_LVT0, IRQ_EXTINT << 8);
	set_version(l);
	lapic_update_directory(l);
}

int lapic_create(struct irqchip *ic, u32 id, bool bsp, struct lapic **out)
{
	struct lapic *l, *none = NULL;
	u32 n;

	if (id >= IRQ_MAX_VCPUS)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->ic = ic;
	l->id = id;
	l->bsp = bsp;
	lapic_timer_init(l);
	lapic_reset(l, false);
	if (!__atomic_compare_exchange_n(&ic->lapics[id], &none, l, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST)) {
		WRITE_ONCE(l->base, 0);
		lapic_update_directory(l);
		lapic_timer_destroy(l);
		free(l);
		return -EEXIST;
	}
	n = READ_ONCE(ic->nr_ids);
	while (n <= id && !__atomic_compare_exchange_n(&ic->nr_ids, &n, id + 1, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	*out = l;
	return 0;
}

void lapic_destroy(struct lapic *l)
{
	struct irqchip *ic;

	if (!l)
		return;
	ic = l->ic;
	__atomic_store_n(&ic->lapics[l->id], NULL, __ATOMIC_SEQ_CST);
	WRITE_ONCE(l->base, 0);
	lapic_update_directory(l);
	lapic_timer_destroy(l);
	/* A delivery on another thread may still be reading it: its memory goes with the irqchip.
	 */
	irqchip_lock(ic);
	l->grave_next = ic->graves;
	ic->graves = l;
	irqchip_unlock(ic);
}

/*
 * ---- Saved state ----
 */

void lapic_get(struct lapic *l, struct kvm_lapic_state *out)
{
	u32 words[KVM_APIC_REG_SIZE / 4];

	for (u32 i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = READ_ONCE(l->regs[i]);
	words[LAPIC_TMCCT / 4] = lapic_timer_count(l);
	/* Without KVM_CAP_X2APIC_API the id sits where xAPIC has it, in either mode. */
	if (lapic_x2apic(l) && !l->ic->ids_32bit)
		words[LAPIC_ID / 4] <<= 24;
	memcpy(out->regs, words, sizeof(words));
}

int lapic_set(struct lapic *l, const struct kvm_lapic_state *in)
{
	u32 words[KVM_APIC_REG_SIZE / 4];

	memcpy(words, in->regs, sizeof(words));
	if (lapic_x2apic(l)) {
		if (l->ic->ids_32bit && words[LAPIC_ID / 4] != l->id)
			return -EINVAL;
		words[LAPIC_ID / 4] = l->id;
		words[LAPIC_LDR / 4] = X2APIC_LDR(l->id);
	}
	for (u32 i = 0; i < ARRAY_SIZE(words); i++)
		WRITE_ONCE(l->regs[i], words[i]);
	/* In this order no delivery in between is lost. */
	__atomic_store_n(&l->irr_words, 0, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < 8; i++)
		if (__atomic_load_n(&l->regs[LAPIC_IRR / 4 + i * 4], __ATOMIC_SEQ_CST))
			__atomic_fetch_or(&l->irr_words, BIT(i), __ATOMIC_SEQ_CST);
	__atomic_store_n(&l->errors, 0, __ATOMIC_SEQ_CST);
	lapic_set_reg(l, LAPIC_TMCCT, 0);
	set_version(l);
	lapic_update_ppr(l);
	lapic_update_directory(l);
	lapic_timer_restore(l, words[LAPIC_TMCCT / 4]);
	lapic_recheck(l);
	return 0;
}
