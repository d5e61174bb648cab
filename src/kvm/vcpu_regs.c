// SPDX-License-Identifier: MIT
/*
 * A vCPU's registers as the VMM reads and writes them: general, system and debug registers, and
 * address translation.
 *
 * Owns the conversion between KVM's structs and struct x86_cpu; must not know how the guest uses
 * them.
 */
#include "kvm/vcpu_priv.h"

#include "uapi/signals.h"

#include <errno.h>
#include <string.h>

/* ---- general registers ---- */

static const struct {
	u16 field;
	u16 slot;
} gpr_map[] = {
	{offsetof(struct kvm_regs, rax), X86_RAX}, {offsetof(struct kvm_regs, rbx), X86_RBX},
	{offsetof(struct kvm_regs, rcx), X86_RCX}, {offsetof(struct kvm_regs, rdx), X86_RDX},
	{offsetof(struct kvm_regs, rsi), X86_RSI}, {offsetof(struct kvm_regs, rdi), X86_RDI},
	{offsetof(struct kvm_regs, rsp), X86_RSP}, {offsetof(struct kvm_regs, rbp), X86_RBP},
	{offsetof(struct kvm_regs, r8), X86_R8},   {offsetof(struct kvm_regs, r9), X86_R9},
	{offsetof(struct kvm_regs, r10), X86_R10}, {offsetof(struct kvm_regs, r11), X86_R11},
	{offsetof(struct kvm_regs, r12), X86_R12}, {offsetof(struct kvm_regs, r13), X86_R13},
	{offsetof(struct kvm_regs, r14), X86_R14}, {offsetof(struct kvm_regs, r15), X86_R15},
};

void kvm_regs_get(struct kvm_vcpu *v, struct kvm_regs *out)
{
	for (u32 i = 0; i < ARRAY_SIZE(gpr_map); i++)
		*(u64 *)((u8 *)out + gpr_map[i].field) = v->cpu->gpr[gpr_map[i].slot];
	out->rip = x86_rip(v->cpu);
	out->rflags = x86_rflags(v->cpu);
}

void kvm_regs_set(struct kvm_vcpu *v, const struct kvm_regs *in)
{
	struct x86_cpu *cpu = v->cpu;
	bool vm86_changed = (x86_rflags(cpu) ^ in->rflags) & X86_FLAG_VM;

	for (u32 i = 0; i < ARRAY_SIZE(gpr_map); i++)
		cpu->gpr[gpr_map[i].slot] = *(const u64 *)((const u8 *)in + gpr_map[i].field);
	cpu->rip = in->rip;
	x86_set_rflags(cpu, in->rflags | BIT(1));
	if (vm86_changed)
		x86_state_changed(cpu, false);

	/* A pending exception belonged to the state that was replaced; one half-delivered does not
	 * go away. */
	if (v->ev.pending) {
		if (kvm_exception_queued(v))
			cpu->inject.pending = false;
		v->ev.pending = false;
	}
	x86_irq_hint(cpu);
}

KVM_VCPU_OP(kvm_op_get_regs)
{
	kvm_regs_get(v, arg->data);
	return 0;
}

KVM_VCPU_OP(kvm_op_set_regs)
{
	kvm_regs_set(v, arg->data);
	return 0;
}

/* ---- the local APIC's share ---- */

u64 kvm_vcpu_cr8(struct kvm_vcpu *v)
{
	return v->lapic ? lapic_cr8(v->lapic) : v->cr8_noirqchip;
}

int kvm_vcpu_set_cr8(struct kvm_vcpu *v, u64 cr8)
{
	if (cr8 & ~15ull)
		return -EINVAL;
	if (v->lapic)
		lapic_set_cr8(v->lapic, cr8);
	else
		v->cr8_noirqchip = cr8;
	return 0;
}

u64 kvm_vcpu_apic_base(struct kvm_vcpu *v)
{
	return v->lapic ? lapic_base(v->lapic) : v->apic_base_noirqchip;
}

#define APIC_BASE_RESERVED 0x2ffull
#define APIC_BASE_X2APIC   BIT64(10)
#define APIC_BASE_ENABLE   BIT64(11)

int kvm_vcpu_set_apic_base(struct kvm_vcpu *v, u64 base, bool host_initiated)
{
	const struct kvm_cpuid_entry2 *leaf1 = kvm_find_cpuid(v->cpuid, v->nr_cpuid, 1, 0);
	bool x2apic = leaf1 && leaf1->ecx & BIT(21);
	u64 reserved = APIC_BASE_RESERVED | (x2apic ? 0 : APIC_BASE_X2APIC);

	if (v->lapic)
		return lapic_set_base(v->lapic, base, v->cpu->maxphyaddr, x2apic, host_initiated);
	reserved |= ~0ull << v->cpu->maxphyaddr;
	if (base & reserved || (base & (APIC_BASE_X2APIC | APIC_BASE_ENABLE)) == APIC_BASE_X2APIC)
		return -EINVAL;
	v->apic_base_noirqchip = base;
	return 0;
}

/* ---- system registers ---- */

static const struct {
	u16 field;
	u16 sreg;
} seg_map[] = {
	{offsetof(struct kvm_sregs, cs), X86_CS}, {offsetof(struct kvm_sregs, ds), X86_DS},
	{offsetof(struct kvm_sregs, es), X86_ES}, {offsetof(struct kvm_sregs, fs), X86_FS},
	{offsetof(struct kvm_sregs, gs), X86_GS}, {offsetof(struct kvm_sregs, ss), X86_SS},
	{offsetof(struct kvm_sregs, tr), X86_TR}, {offsetof(struct kvm_sregs, ldt), X86_LDTR},
};

/* kvm_sregs2 begins as kvm_sregs does, so that both share one conversion. */
_Static_assert(offsetof(struct kvm_sregs2, apic_base) == offsetof(struct kvm_sregs, apic_base),
	       "common head of sregs and sregs2");

static void seg_get(const struct x86_seg *s, struct kvm_segment *out)
{
	*out = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->attr & X86_SEG_TYPE,
		.s = !!(s->attr & X86_SEG_S),
		.dpl = X86_SEG_DPL(s->attr),
		.avl = !!(s->attr & X86_SEG_AVL),
		.l = !!(s->attr & X86_SEG_L),
		.db = !!(s->attr & X86_SEG_DB),
		.g = !!(s->attr & X86_SEG_G),
		.unusable = !!(s->attr & X86_SEG_UNUSABLE),
	};
	/* Usable segments are present; some VMMs drop `unusable`, so `present` carries it too. */
	out->present = !out->unusable;
}

static u32 seg_attr(const struct kvm_segment *in)
{
	u32 attr = (in->type & 15) | (in->dpl & 3) << 5;

	attr |= in->s ? X86_SEG_S : 0;
	attr |= in->present ? X86_SEG_P : 0;
	attr |= in->avl & 1 ? X86_SEG_AVL : 0;
	attr |= in->l & 1 ? X86_SEG_L : 0;
	attr |= in->db & 1 ? X86_SEG_DB : 0;
	attr |= in->g & 1 ? X86_SEG_G : 0;
	attr |= in->unusable || !in->present ? X86_SEG_UNUSABLE : 0;
	return attr;
}

static void sregs_get_common(struct kvm_vcpu *v, struct kvm_sregs *out)
{
	struct x86_cpu *cpu = v->cpu;

	for (u32 i = 0; i < ARRAY_SIZE(seg_map); i++)
		seg_get(&cpu->seg[seg_map[i].sreg],
			(struct kvm_segment *)((u8 *)out + seg_map[i].field));
	out->gdt = (struct kvm_dtable){.base = cpu->gdt.base, .limit = cpu->gdt.limit};
	out->idt = (struct kvm_dtable){.base = cpu->idt.base, .limit = cpu->idt.limit};
	out->cr0 = cpu->cr0;
	out->cr2 = cpu->cr2;
	out->cr3 = cpu->cr3;
	out->cr4 = cpu->cr4;
	out->cr8 = kvm_vcpu_cr8(v);
	out->efer = cpu->efer;
	out->apic_base = kvm_vcpu_apic_base(v);
}

static bool at_reset_vector(const struct x86_cpu *cpu)
{
	return x86_rip(cpu) == 0xfff0 && cpu->seg[X86_CS].sel == 0xf000 &&
	       cpu->seg[X86_CS].base == 0xffff0000 && !(cpu->cr0 & X86_CR0_PE);
}

/* Outside KVM_RUN: false when the client's memory was not there. */
static bool touch_guest(struct kvm_vcpu *v, void (*fn)(struct x86_cpu *c, void *arg), void *arg)
{
	bool done;

	(void)uapi_faults_caught(); /* this thread may have had them blocked */
	av_epoch_online(&v->vm->epoch, &v->cpu->reader);
	done = x86_try(v->cpu, fn, arg);
	av_epoch_offline(&v->cpu->reader);
	return done;
}

static void reload_pdptrs(struct x86_cpu *c, void *arg)
{
	x86_state_changed(c, true);
}

static int sregs_set_common(struct kvm_vcpu *v, const struct kvm_sregs *in, const __u64 *pdptrs)
{
	struct x86_cpu *cpu = v->cpu;

	if (!x86_sregs_valid(cpu, in->cr0, in->cr3, in->cr4, in->efer, seg_attr(&in->cs)))
		return -EINVAL;
	if (kvm_vcpu_set_apic_base(v, in->apic_base, true))
		return -EINVAL;

	cpu->idt = (struct x86_dtable){.base = in->idt.base, .limit = in->idt.limit};
	cpu->gdt = (struct x86_dtable){.base = in->gdt.base, .limit = in->gdt.limit};
	cpu->cr2 = in->cr2;
	cpu->cr3 = in->cr3;
	/* KVM ignores an impossible CR8 here as well. */
	(void)kvm_vcpu_set_cr8(v, in->cr8);
	cpu->efer = in->efer;
	cpu->cr0 = in->cr0 | X86_CR0_ET;
	cpu->cr4 = in->cr4;
	for (u32 i = 0; i < ARRAY_SIZE(seg_map); i++) {
		const struct kvm_segment *from =
			(const struct kvm_segment *)((const u8 *)in + seg_map[i].field);
		struct x86_seg *to = &cpu->seg[seg_map[i].sreg];

		*to = (struct x86_seg){
			.base = from->base,
			.limit = from->limit,
			.attr = seg_attr(from),
			.sel = from->selector,
		};
	}
	if (pdptrs)
		memcpy(cpu->pdpte, pdptrs, sizeof(cpu->pdpte));

	/* Where PDPTEs cannot be read from guest memory the old ones stay. */
	x86_state_changed(cpu, false);
	if (!pdptrs)
		touch_guest(v, reload_pdptrs, NULL);

	/* Older VMMs do not set the MP state when they reset a halted boot CPU. */
	if (v->id == v->vm->bsp_id && at_reset_vector(cpu))
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	x86_irq_hint(cpu);
	return 0;
}

void kvm_sregs_get(struct kvm_vcpu *v, struct kvm_sregs *out)
{
	const struct x86_cpu *cpu = v->cpu;

	memset(out, 0, sizeof(*out));
	sregs_get_common(v, out);
	if (cpu->inject.pending && cpu->inject.type == X86_EV_EXTINT)
		out->interrupt_bitmap[cpu->inject.vector / 64] |= BIT64(cpu->inject.vector % 64);
	else if (v->ev.irq)
		out->interrupt_bitmap[v->ev.irq_nr / 64] |= BIT64(v->ev.irq_nr % 64);
}

int kvm_sregs_set(struct kvm_vcpu *v, const struct kvm_sregs *in)
{
	int ret = sregs_set_common(v, in, NULL);

	if (ret)
		return ret;
	for (u32 i = 0; i < ARRAY_SIZE(in->interrupt_bitmap); i++) {
		if (!in->interrupt_bitmap[i])
			continue;
		v->ev.irq = true;
		v->ev.irq_nr = i * 64 + __builtin_ctzll(in->interrupt_bitmap[i]);
		break;
	}
	return 0;
}

KVM_VCPU_OP(kvm_op_get_sregs)
{
	kvm_sregs_get(v, arg->data);
	return 0;
}

KVM_VCPU_OP(kvm_op_set_sregs)
{
	return kvm_sregs_set(v, arg->data);
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LMA);
}

KVM_VCPU_OP(kvm_op_get_sregs2)
{
	struct kvm_sregs2 *out = arg->data;
	const struct x86_cpu *cpu = v->cpu;

	memset(out, 0, sizeof(*out));
	sregs_get_common(v, (struct kvm_sregs *)out);
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer)) {
		memcpy(out->pdptrs, cpu->pdpte, sizeof(out->pdptrs));
		out->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

KVM_VCPU_OP(kvm_op_set_sregs2)
{
	const struct kvm_sregs2 *in = arg->data;
	bool pdptrs = in->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;

	if (in->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (pdptrs && !pae_paging(in->cr0, in->cr4, in->efer))
		return -EINVAL;
	return sregs_set_common(v, (const struct kvm_sregs *)in, pdptrs ? in->pdptrs : NULL);
}

/* ---- debug registers ---- */

KVM_VCPU_OP(kvm_op_get_debugregs)
{
	struct kvm_debugregs *out = arg->data;

	memset(out, 0, sizeof(*out));
	memcpy(out->db, v->cpu->dr, sizeof(out->db));
	out->dr6 = v->cpu->dr6;
	out->dr7 = v->cpu->dr7;
	return 0;
}

KVM_VCPU_OP(kvm_op_set_debugregs)
{
	const struct kvm_debugregs *in = arg->data;

	if (in->flags || in->dr6 >> 32 || in->dr7 >> 32)
		return -EINVAL;
	memcpy(v->cpu->dr, in->db, sizeof(in->db));
	v->cpu->dr6 = in->dr6;
	v->cpu->dr7 = in->dr7;
	x86_state_changed(v->cpu, false);
	return 0;
}

/* ---- translation ---- */

struct translation {
	u64 la, gpa;
	bool valid;
};

static void translate(struct x86_cpu *c, void *arg)
{
	struct translation *t = arg;
	bool writable, user;

	t->valid = x86_translate(c, t->la, &t->gpa, &writable, &user);
}

KVM_VCPU_OP(kvm_op_translate)
{
	struct kvm_translation *tr = arg->data;
	struct translation t = {.la = tr->linear_address};

	tr->valid = touch_guest(v, translate, &t) && t.valid;
	tr->physical_address = tr->valid ? t.gpa : ~0ull;
	/* KVM reports these two as constants, whatever the page tables say. */
	tr->writeable = 1;
	tr->usermode = 0;
	return 0;
}
