// SPDX-License-Identifier: MIT
/*
 * System instructions: control and debug registers, MSRs, ports, flags that are more than
 * arithmetic, waiting.
 *
 * Engine file. Privilege checks and operands are here; what a control register or an MSR means is
 * cr.c's and msr.c's. Source: SDM vol. 2, the instructions' own pages.
 */
#include "cpu/x86/debug.h"
#include "base/futex.h"
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/op_sys.h"
#include "cpu/x86/port.h"
#include "cpu/x86/simd.h"

#define OP(name)  static const struct x86_insn *name(struct x86_cpu *c, const struct x86_insn *i)
#define KVM_EPERM 1 /* result of a hypercall from user mode, part of KVM's paravirtual ABI */

static void need_long(struct x86_cpu *c)
{
	X86_RULE(c, !x86_long_mode(c), X86_UD, 0, "the instruction is of 64-bit mode only");
}

/* After a change that later instructions were not predecoded or looked up for. */
static const struct x86_insn *resume(struct x86_cpu *c, u64 rip)
{
	c->rip = rip;
	return NULL;
}

static void set_edx_eax(struct x86_cpu *c, u64 v)
{
	c->gpr[X86_RAX] = (u32)v;
	c->gpr[X86_RDX] = v >> 32;
}

static u64 edx_eax(const struct x86_cpu *c)
{
	return (u32)c->gpr[X86_RAX] | c->gpr[X86_RDX] << 32;
}

/* ---- control and debug registers; the register's number is in i->cond ---- */

OP(op_mov_from_cr)
{
	u64 v;

	need_cpl0(c);
	switch (i->cond) {
	case 0:
		v = c->cr0;
		break;
	case 2:
		v = c->cr2;
		break;
	case 3:
		v = c->cr3;
		break;
	case 4:
		v = c->cr4;
		break;
	default:
		x86_door(c);
		v = c->ops->cr8(c->m);
		break;
	}
	x86_set_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4, v);
	return x86_next(i);
}

/* Lowering CR8 tells a VMM that keeps the local APIC: the instruction is done, then we leave. */
static const struct x86_insn *write_cr8(struct x86_cpu *c, const struct x86_insn *i, u64 v)
{
	u8 old;

	X86_RULE(c, v & ~0xfull, X86_GP, 0, "CR8 has four bits");
	x86_door(c);
	old = c->ops->cr8(c->m);
	c->ops->set_cr8(c->m, (u8)v);
	if (READ_ONCE(c->irq_hint) || c->want_irq_window)
		x86_request(c, X86_REQ_EVENT);
	if (c->user_lapic && v < old) {
		c->rip = x86_next_rip(c, i);
		c->insn = NULL;
		x86_leave(c, X86_EXIT_TPR);
	}
	return x86_next(i);
}

OP(op_mov_to_cr)
{
	u64 v = x86_get_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4), next = x86_next_rip(c, i);

	need_cpl0(c);
	switch (i->cond) {
	case 0:
		x86_set_cr0(c, v);
		break;
	case 2:
		c->cr2 = v;
		break;
	case 3:
		x86_set_cr3(c, v);
		break;
	case 4:
		x86_set_cr4(c, v);
		break;
	default:
		return write_cr8(c, i, v);
	}
	return resume(c, next);
}

static u8 check_dr(struct x86_cpu *c, const struct x86_insn *i)
{
	u8 n = i->cond;

	need_cpl0(c);
	if (n == 4 || n == 5) {
		X86_RULE(c, c->cr4 & X86_CR4_DE, X86_UD, 0, "DR4 and DR5 do not exist with CR4.DE");
		n += 2;
	}
	if (x86_dr7(c) & X86_DR7_GD)
		x86_raise_db(c, X86_DR6_BD);
	return n;
}

OP(op_mov_from_dr)
{
	u8 n = check_dr(c, i);

	x86_set_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4,
		    n == 7   ? c->dr7
		    : n == 6 ? c->dr6
			     : c->dr[n & 3]);
	return x86_next(i);
}

OP(op_mov_to_dr)
{
	u64 v = x86_get_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4), next = x86_next_rip(c, i);
	u8 n = check_dr(c, i);

	X86_RULE(c, n >= 6 && v >> 32, X86_GP, 0, "the upper halves of DR6 and DR7 are zero");
	if (n == 7)
		c->dr7 = (v & 0xffff23ff) | 0x400;
	else if (n == 6)
		c->dr6 = (v & 0xe00f) | 0xffff0ff0;
	else
		c->dr[n] = v;
	x86_mmu_select(c);
	x86_break(c);
	return resume(c, next);
}

static bool bind_mov(const struct x86_decoded *d, struct x86_insn *i)
{
	for (u32 n = 0; n < 2; n++) {
		ZydisRegister r = d->op[n].reg.value;

		if (d->op[n].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		if (r >= ZYDIS_REGISTER_CR0 && r <= ZYDIS_REGISTER_CR15) {
			i->fn = n ? op_mov_from_cr : op_mov_to_cr;
			i->cond = (u8)(r - ZYDIS_REGISTER_CR0);
			return true;
		}
		if (r >= ZYDIS_REGISTER_DR0 && r <= ZYDIS_REGISTER_DR15) {
			i->fn = n ? op_mov_from_dr : op_mov_to_dr;
			i->cond = (u8)(r - ZYDIS_REGISTER_DR0);
			return true;
		}
	}
	return false;
}

OP(op_clts)
{
	need_cpl0(c);
	c->cr0 &= ~(u64)X86_CR0_TS;
	x86_simd_enable(c);
	return x86_next(i);
}

OP(op_lmsw)
{
	u64 v, next = x86_next_rip(c, i);

	need_cpl0(c);
	v = load16(c, i, 0);
	/* PE can be set but not cleared. */
	x86_set_cr0(c, (c->cr0 & ~0xeull) | (v & 0xf));
	return resume(c, next);
}

OP(op_smsw)
{
	need_umip_off(c);
	return store16(c, i, c->cr0);
}

OP(op_xgetbv)
{
	u32 n = (u32)c->gpr[X86_RCX];

	X86_RULE(c, !(c->cr4 & X86_CR4_OSXSAVE), X86_UD, 0, "XGETBV needs CR4.OSXSAVE");
	X86_RULE(c, n > 1 || (n == 1 && !c->feat->xgetbv1), X86_GP, 0,
		 "XGETBV knows XCR0 and, if offered, XINUSE");
	set_edx_eax(c, n ? c->xcr0 & x86_simd_xinuse(c) : c->xcr0);
	return x86_next(i);
}

OP(op_xsetbv)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_OSXSAVE), X86_UD, 0, "XSETBV needs CR4.OSXSAVE");
	need_cpl0(c);
	X86_RULE(c, (u32)c->gpr[X86_RCX] || !x86_xcr0_valid(c, edx_eax(c)), X86_GP, 0,
		 "XSETBV sets XCR0 to a combination that CPUID offers");
	c->xcr0 = edx_eax(c);
	x86_simd_enable(c);
	return x86_next(i);
}

/* ---- translations and caches ---- */

OP(op_invlpg)
{
	u64 next = x86_next_rip(c, i), la = x86_ea(c, i);

	need_cpl0(c);
	if (!(i->flags & X86_I_FLAT))
		la += c->seg[i->seg].base;
	if (!x86_long_mode(c))
		la = (u32)la;
	x86_tlb_flush_page(c, la);
	return resume(c, next);
}

enum { INVPCID_ADDRESS, INVPCID_SINGLE, INVPCID_ALL_GLOBAL, INVPCID_ALL };

OP(op_invpcid)
{
	u64 type = x86_get_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4), next = x86_next_rip(c, i),
	    la, desc[2];
	u16 current = c->cr4 & X86_CR4_PCIDE ? c->cr3 & 0xfff : 0;

	X86_RULE(c, !c->feat->invpcid, X86_UD, 0, "INVPCID is offered by CPUID");
	need_cpl0(c);
	X86_RULE(c, type > INVPCID_ALL, X86_GP, 0, "INVPCID has types 0 to 3");
	la = x86_mem(c, i, 16, false);
	desc[0] = x86_ld64(c, i->seg, la);
	desc[1] = x86_ld64(c, i->seg, la + 8);
	X86_RULE(c, desc[0] >> 12, X86_GP, 0, "INVPCID's descriptor has zeros above the PCID");
	if (type <= INVPCID_SINGLE)
		X86_RULE(c, !(c->cr4 & X86_CR4_PCIDE) && desc[0], X86_GP, 0,
			 "without CR4.PCIDE the only PCID is 0");
	if (type == INVPCID_ADDRESS)
		X86_RULE(c, !x86_canonical(c, desc[1]), X86_GP, 0,
			 "INVPCID's address is canonical");
	/* Only the current PCID has translations here. */
	if (type == INVPCID_ADDRESS && desc[0] == current)
		x86_tlb_flush_page(c, desc[1]);
	else if (type == INVPCID_ALL_GLOBAL)
		x86_tlb_flush_all(c);
	else if (type == INVPCID_ALL || (type == INVPCID_SINGLE && desc[0] == current))
		x86_tlb_flush_nonglobal(c);
	return resume(c, next);
}

/* INVD, WBINVD (and WBNOINVD, which Zydis calls WBINVD): memory is coherent already. */
OP(op_wbinvd)
{
	need_cpl0(c);
	return x86_next(i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: as a load of one byte. */
OP(op_clflush)
{
	x86_probe(c, i->seg, x86_mem(c, i, 1, false), 1, false);
	return x86_next(i);
}

OP(op_clzero)
{
	static const u8 zero[64];
	u64 ea = c->gpr[X86_RAX] & x86_asize_mask(i->asize) & ~63ull;

	X86_RULE(c, !c->feat->clzero, X86_UD, 0, "CLZERO is offered by CPUID");
	x86_write_slow(c, i->seg, x86_linear(c, i->seg, ea, 64, true), zero, 64);
	return x86_next(i);
}

/* Its operand is hidden: Zydis minds neither the prefixes that make it another instruction nor the segment. */
static bool bind_clzero(const struct x86_decoded *d, struct x86_insn *i)
{
	i->fn = op_clzero;
	for (u32 k = 0; k < d->z.raw.prefix_count; k++) {
		u8 p = d->z.raw.prefixes[k].value;

		if (p == 0xf2 || p == 0xf3)
			i->fn = x86_op_ud;
		else if (p == 0x64 || p == 0x65)
			i->seg = X86_FS + (p & 1);
		else if ((p & 0xe7) == 0x26 && d->bits != 8)
			i->seg = p >> 3 & 3;
	}
	return true;
}

OP(op_lfence)
{
	__asm__ volatile("lfence" : : : "memory");
	return x86_next(i);
}

OP(op_mfence)
{
	__asm__ volatile("mfence" : : : "memory");
	return x86_next(i);
}

OP(op_sfence)
{
	__asm__ volatile("sfence" : : : "memory");
	return x86_next(i);
}

/*
 * A guest that spins waits for another CPU, which may be waiting for this one's host CPU: after so many pauses it is
 * worth letting go for a moment. A futex and not sched_yield(2), as VMMs' seccomp filters allow the former.
 */
#define PAUSES_BEFORE_REST 2048u
#define REST_NS		   20000

OP(op_pause)
{
	if (likely(++c->pauses % PAUSES_BEFORE_REST)) {
		__asm__ volatile("pause");
		return x86_next(i);
	}
	x86_door(c);
	av_futex_wait(&c->req, 0, av_now_ns() + REST_NS);
	return x86_next(i);
}

OP(op_xchg_r8)
{
	u64 a = x86_get_reg(c, X86_RAX * 8, i->opsize), b = x86_get_reg(c, X86_R8 * 8, i->opsize);

	x86_set_reg(c, X86_RAX * 8, i->opsize, b);
	x86_set_reg(c, X86_R8 * 8, i->opsize, a);
	return x86_next(i);
}

/* With REX.B the opcode, 90, is XCHG with R8; Zydis 4.0 does not see that behind an F3. */
static bool bind_pause(const struct x86_decoded *d, struct x86_insn *i)
{
	bool rex = d->z.attributes & ZYDIS_ATTRIB_HAS_REX;

	i->fn = rex && d->z.raw.rex.B ? op_xchg_r8 : op_pause;
	i->opsize = rex && d->z.raw.rex.W ? 8 : i->flags & X86_I_O16 ? 2 : 4;
	return true;
}

/* ---- flags ---- */

#define POPF_ALWAYS (X86_FLAGS_ARITH | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT)
#define POPF_WIDE   (X86_FLAG_AC | X86_FLAG_ID)

static u8 iopl(const struct x86_cpu *c)
{
	return (c->rflags & X86_FLAG_IOPL) >> 12;
}

static void need_v86_iopl(struct x86_cpu *c)
{
	if (c->rflags & X86_FLAG_VM)
		X86_RULE(c, iopl(c) != 3, X86_GP, 0,
			 "PUSHF and POPF in virtual-8086 mode need IOPL 3");
}

OP(op_pushf)
{
	need_v86_iopl(c);
	x86_push(c, x86_rflags(c) & ~(u64)(X86_FLAG_VM | X86_FLAG_RF), i->opsize);
	return x86_next(i);
}

OP(op_popf)
{
	u32 mask = POPF_ALWAYS, old = c->rflags;
	u64 v;

	need_v86_iopl(c);
	v = x86_pop(c, i->opsize);
	if (i->opsize > 2)
		mask |= POPF_WIDE;
	if (c->cpl <= iopl(c))
		mask |= X86_FLAG_IF;
	if (c->cpl == 0)
		mask |= X86_FLAG_IOPL;
	x86_set_rflags(c, (v & mask) | (x86_rflags(c) & ~(u64)(mask | X86_FLAG_RF)));
	x86_flags_changed(c, old);
	return x86_next(i);
}

OP(op_cli)
{
	X86_RULE(c, c->cpl > iopl(c), X86_GP, 0, "CLI needs CPL at most IOPL");
	c->rflags &= ~X86_FLAG_IF;
	return x86_next(i);
}

OP(op_sti)
{
	X86_RULE(c, c->cpl > iopl(c), X86_GP, 0, "STI needs CPL at most IOPL");
	if (c->rflags & X86_FLAG_IF)
		return x86_next(i);
	c->rflags |= X86_FLAG_IF;
	c->shadow = X86_SHADOW_STI;
	c->shadow_rip = x86_next_rip(c, i);
	if (READ_ONCE(c->irq_hint) || c->want_irq_window)
		x86_request(c, X86_REQ_EVENT);
	return x86_next(i);
}

static const struct x86_insn *set_ac(struct x86_cpu *c, const struct x86_insn *i, bool ac)
{
	X86_RULE(c, !c->feat->smap || c->cpl, X86_UD, 0, "CLAC and STAC need SMAP and CPL 0");
	c->rflags = (c->rflags & ~X86_FLAG_AC) | (ac ? X86_FLAG_AC : 0);
	x86_mmu_select(c);
	return x86_next(i);
}

OP(op_clac)
{
	return set_ac(c, i, false);
}

OP(op_stac)
{
	return set_ac(c, i, true);
}

/* ---- ports ---- */

static u16 port_of(const struct x86_cpu *c, const struct x86_insn *i)
{
	return i->cond ? X86_REG(c, X86_RDX * 8, const u16) : (u8)i->imm;
}

OP(op_in)
{
	u16 port = port_of(c, i);
	u32 v = 0;

	x86_io_allowed(c, port, i->opsize);
	x86_port_watch(c, port, i->opsize);
	x86_pio_read(c, port, &v, i->opsize);
	x86_set_reg(c, X86_RAX * 8, i->opsize, v);
	return x86_next(i);
}

OP(op_out)
{
	u32 v = (u32)c->gpr[X86_RAX];
	u16 port = port_of(c, i);

	x86_io_allowed(c, port, i->opsize);
	x86_port_watch(c, port, i->opsize);
	x86_pio_write(c, port, &v, i->opsize);
	return x86_next(i);
}

/* i->cond: the port is in DX. */
static bool bind_port(const struct x86_decoded *d, struct x86_insn *i)
{
	bool in = d->z.mnemonic == ZYDIS_MNEMONIC_IN;

	i->cond = d->op[in ? 1 : 0].type == ZYDIS_OPERAND_TYPE_REGISTER;
	i->fn = in ? op_in : op_out;
	return true;
}

/* ---- identification, time, MSRs ---- */

#define MISC_FEATURES_CPUID_FAULT BIT(0)

OP(op_cpuid)
{
	u32 out[4];

	X86_RULE(c, (c->msr.misc_features & MISC_FEATURES_CPUID_FAULT) && c->cpl && !c->smm, X86_GP,
		 0, "CPUID faulting is on");
	x86_door(c);
	x86_cpuid(c, (u32)c->gpr[X86_RAX], (u32)c->gpr[X86_RCX], out);
	c->gpr[X86_RAX] = out[0];
	c->gpr[X86_RBX] = out[1];
	c->gpr[X86_RCX] = out[2];
	c->gpr[X86_RDX] = out[3];
	return x86_next(i);
}

static void need_tsc(struct x86_cpu *c)
{
	X86_RULE(c, (c->cr4 & X86_CR4_TSD) && c->cpl, X86_GP, 0,
		 "CR4.TSD hides the TSC from user mode");
}

OP(op_rdtsc)
{
	need_tsc(c);
	set_edx_eax(c, x86_tsc(c));
	return x86_next(i);
}

OP(op_rdtscp)
{
	X86_RULE(c, !c->feat->rdtscp, X86_UD, 0, "RDTSCP is offered by CPUID");
	need_tsc(c);
	set_edx_eax(c, x86_tsc(c));
	c->gpr[X86_RCX] = (u32)c->msr.tsc_aux;
	return x86_next(i);
}

OP(op_rdpid)
{
	X86_RULE(c, !c->feat->rdpid, X86_UD, 0, "RDPID is offered by CPUID");
	x86_set_reg(c, i->reg[0], x86_long_mode(c) ? 8 : 4, c->msr.tsc_aux);
	return x86_next(i);
}

OP(op_rdpmc)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_PCE) && c->cpl, X86_GP, 0, "RDPMC needs CPL 0 or CR4.PCE");
	X86_RULE(c, true, X86_GP, 0, "RDPMC names a counter that exists: this CPU has none");
	return NULL;
}

OP(op_rdmsr)
{
	need_cpl0(c);
	set_edx_eax(c, x86_rdmsr(c, (u32)c->gpr[X86_RCX]));
	return x86_next(i);
}

OP(op_wrmsr)
{
	u64 next = x86_next_rip(c, i), efer = c->efer;

	need_cpl0(c);
	x86_wrmsr(c, (u32)c->gpr[X86_RCX], edx_eax(c));
	return efer == c->efer ? x86_next(i) : resume(c, next);
}

/* ---- FS and GS bases, protection keys ---- */

OP(op_swapgs)
{
	u64 base = c->seg[X86_GS].base;

	need_long(c);
	need_cpl0(c);
	c->seg[X86_GS].base = c->msr.kernel_gs_base;
	c->msr.kernel_gs_base = base;
	return x86_next(i);
}

static void need_fsgsbase(struct x86_cpu *c)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_FSGSBASE) || !x86_long_mode(c), X86_UD, 0,
		 "RDFSBASE and its kin need CR4.FSGSBASE and 64-bit mode");
}

static const struct x86_insn *read_base(struct x86_cpu *c, const struct x86_insn *i, u8 seg)
{
	need_fsgsbase(c);
	x86_set_reg(c, i->reg[0], i->opsize, c->seg[seg].base);
	return x86_next(i);
}

static const struct x86_insn *write_base(struct x86_cpu *c, const struct x86_insn *i, u8 seg)
{
	u64 v = x86_get_reg(c, i->reg[0], i->opsize);

	need_fsgsbase(c);
	X86_RULE(c, !x86_canonical(c, v), X86_GP, 0, "a segment base is canonical");
	c->seg[seg].base = v;
	return x86_next(i);
}

OP(op_rdfsbase)
{
	return read_base(c, i, X86_FS);
}

OP(op_rdgsbase)
{
	return read_base(c, i, X86_GS);
}

OP(op_wrfsbase)
{
	return write_base(c, i, X86_FS);
}

OP(op_wrgsbase)
{
	return write_base(c, i, X86_GS);
}

OP(op_rdpkru)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_PKE), X86_UD, 0, "RDPKRU needs CR4.PKE");
	X86_RULE(c, (u32)c->gpr[X86_RCX], X86_GP, 0, "RDPKRU needs ECX 0");
	set_edx_eax(c, c->pkru);
	return x86_next(i);
}

OP(op_wrpkru)
{
	X86_RULE(c, !(c->cr4 & X86_CR4_PKE), X86_UD, 0, "WRPKRU needs CR4.PKE");
	X86_RULE(c, (u32)c->gpr[X86_RCX] || (u32)c->gpr[X86_RDX], X86_GP, 0,
		 "WRPKRU needs ECX and EDX 0");
	c->pkru = (u32)c->gpr[X86_RAX];
	x86_tlb_flush_user(c);
	return x86_next(i);
}

/* ---- waiting, and talking to the hypervisor ---- */

OP(op_hlt)
{
	need_cpl0(c);
	c->rip = x86_next_rip(c, i);
	c->halted = true;
	x86_break(c);
	return NULL;
}

static void need_mwait(struct x86_cpu *c)
{
	X86_RULE(c, c->cpl, X86_UD, 0, "MONITOR and MWAIT are for CPL 0");
	X86_RULE(c, (READ_ONCE(c->policy) & X86_POLICY_MWAIT_UD) && !x86_has_mwait(c), X86_UD, 0,
		 "MONITOR and MWAIT are offered by CPUID");
}

OP(op_monitor)
{
	u64 ea = c->gpr[X86_RAX] & x86_asize_mask(i->asize);

	need_mwait(c);
	X86_RULE(c, (u32)c->gpr[X86_RCX], X86_GP, 0, "MONITOR has no extensions");
	x86_probe(c, i->seg, x86_linear(c, i->seg, ea, 1, false), 1, false);
	return x86_next(i);
}

/* Waking up at once is always allowed. */
OP(op_mwait)
{
	need_mwait(c);
	X86_RULE(c, (u32)c->gpr[X86_RCX] > 1, X86_GP, 0, "MWAIT has one extension");
	return x86_next(i);
}

/* The last opcode byte of VMCALL and VMMCALL, 0f 01 xx. */
#define VMCALL	0xc1
#define VMMCALL 0xd9

/* The other vendor's instruction becomes this one's, in guest memory, and is executed again. */
static const struct x86_insn *fix_hypercall(struct x86_cpu *c, const struct x86_insn *i, u8 opcode)
{
	u64 rip = x86_rip(c), last = x86_next_rip(c, i) - 1;

	X86_RULE(c, READ_ONCE(c->policy) & X86_POLICY_HYPERCALL_UD, X86_UD, 0,
		 "VMCALL is Intel's and VMMCALL is AMD's");
	x86_write_slow(c, X86_CS, x86_linear(c, X86_CS, last, 1, false), &opcode, 1);
	return resume(c, rip);
}

OP(op_hypercall)
{
	u8 own = c->feat->amd ? VMMCALL : VMCALL;

	/* Without CPUID there is no vendor to be of. */
	if (c->nr_cpuid && i->cond != own)
		return fix_hypercall(c, i, own);
	if (c->cpl) {
		c->gpr[X86_RAX] = x86_long_mode(c) ? (u64)-KVM_EPERM : (u32)-KVM_EPERM;
		return x86_next(i);
	}
	x86_door(c);
	X86_RULE(c, c->ops->hypercall(c->m) < 0, X86_UD, 0, "the machine has hypercalls");
	return x86_next(i);
}

/* i->cond: the last opcode byte. */
static bool bind_hypercall(const struct x86_decoded *d, struct x86_insn *i)
{
	i->cond = d->z.mnemonic == ZYDIS_MNEMONIC_VMCALL ? VMCALL : VMMCALL;
	i->fn = op_hypercall;
	return true;
}

/* ---- the table ---- */

#define ROW(m, f)                                                                                  \
	{                                                                                          \
		.mnemonic = ZYDIS_MNEMONIC_##m, .fn = (f)                                          \
	}
#define BIND(m, b)                                                                                 \
	{                                                                                          \
		.mnemonic = ZYDIS_MNEMONIC_##m, .bind = (b)                                        \
	}
/* Exists in the decoder, but no CPUID of ours offers it. */
#define NOT_OFFERED(m) ROW(m, x86_op_ud)

const struct x86_op_row x86_ops_sys[] = {
	BIND(MOV, bind_mov),  /* 0f 20-23 */
	BIND(IN, bind_port),  /* e4 e5 ec ed */
	BIND(OUT, bind_port), /* e6 e7 ee ef */
	ROW(CLI, op_cli),     /* fa */
	ROW(STI, op_sti),     /* fb */
	ROW(PUSHF, op_pushf),
	ROW(PUSHFD, op_pushf),
	ROW(PUSHFQ, op_pushf), /* 9c */
	ROW(POPF, op_popf),
	ROW(POPFD, op_popf),
	ROW(POPFQ, op_popf), /* 9d */
	ROW(HLT, op_hlt),    /* f4 */
	ROW(STAC, op_stac),
	ROW(CLAC, op_clac),	/* 0f 01 ca-cb */
	ROW(SWAPGS, op_swapgs), /* 0f 01 f8 */
	ROW(RDTSC, op_rdtsc),	/* 0f 31 */
	ROW(RDTSCP, op_rdtscp), /* 0f 01 f9 */
	ROW(RDPID, op_rdpid),	/* f3 0f c7 /7 */
	ROW(RDPMC, op_rdpmc),	/* 0f 33 */
	ROW(RDMSR, op_rdmsr),
	ROW(WRMSR, op_wrmsr), /* 0f 30, 32 */
	ROW(CPUID, op_cpuid), /* 0f a2 */
	BIND(PAUSE, bind_pause), /* f3 90 */
	ROW(LFENCE, op_lfence),
	ROW(MFENCE, op_mfence),
	ROW(SFENCE, op_sfence), /* 0f ae /5-7 */
	ROW(CLFLUSH, op_clflush),
	ROW(CLFLUSHOPT, op_clflush),
	ROW(CLWB, op_clflush),
	BIND(CLZERO, bind_clzero),  /* 0f 01 fc */
	ROW(INVLPG, op_invlpg),	  /* 0f 01 /7 */
	ROW(INVPCID, op_invpcid), /* 66 0f 38 82 */
	ROW(INVD, op_wbinvd),
	ROW(WBINVD, op_wbinvd), /* 0f 08-09 */
	ROW(RDFSBASE, op_rdfsbase),
	ROW(RDGSBASE, op_rdgsbase), /* f3 0f ae /0-1 */
	ROW(WRFSBASE, op_wrfsbase),
	ROW(WRGSBASE, op_wrgsbase), /* f3 0f ae /2-3 */
	ROW(RDPKRU, op_rdpkru),
	ROW(WRPKRU, op_wrpkru), /* 0f 01 ee-ef */
	ROW(XGETBV, op_xgetbv),
	ROW(XSETBV, op_xsetbv), /* 0f 01 d0-d1 */
	ROW(CLTS, op_clts),	/* 0f 06 */
	ROW(LMSW, op_lmsw),
	ROW(SMSW, op_smsw), /* 0f 01 /6, /4 */
	ROW(LGDT, x86_op_lgdt),
	ROW(LIDT, x86_op_lidt),
	ROW(SGDT, x86_op_sgdt),
	ROW(SIDT, x86_op_sidt), /* 0f 01 /0-3 */
	ROW(LLDT, x86_op_lldt),
	ROW(LTR, x86_op_ltr),
	ROW(SLDT, x86_op_sldt),
	ROW(STR, x86_op_str), /* 0f 00 /0-3 */
	ROW(VERR, x86_op_verr),
	ROW(VERW, x86_op_verw), /* 0f 00 /4-5 */
	ROW(LAR, x86_op_lar),
	ROW(LSL, x86_op_lsl),	/* 0f 02-03 */
	ROW(ARPL, x86_op_arpl), /* 63 outside 64-bit mode */
	ROW(MONITOR, op_monitor),
	ROW(MWAIT, op_mwait), /* 0f 01 c8-c9 */
	BIND(VMCALL, bind_hypercall),
	BIND(VMMCALL, bind_hypercall), /* 0f 01 c1, d9 */
	ROW(RSM, x86_op_rsm),	       /* 0f aa */
	NOT_OFFERED(UD0),
	NOT_OFFERED(UD1),
	NOT_OFFERED(UD2), /* 0f ff, 0f b9, 0f 0b: by definition */
	NOT_OFFERED(MONITORX),
	NOT_OFFERED(MWAITX),
	NOT_OFFERED(RDPRU),
	NOT_OFFERED(MCOMMIT),
	NOT_OFFERED(INVLPGB),
	NOT_OFFERED(TLBSYNC),
	NOT_OFFERED(PSMASH),
	NOT_OFFERED(PVALIDATE),
	NOT_OFFERED(RMPADJUST),
	NOT_OFFERED(RMPUPDATE),
	NOT_OFFERED(UMONITOR),
	NOT_OFFERED(UMWAIT),
	NOT_OFFERED(TPAUSE),
	NOT_OFFERED(PCONFIG),
	NOT_OFFERED(PTWRITE),
	NOT_OFFERED(HRESET),
	NOT_OFFERED(ENQCMD),
	NOT_OFFERED(ENQCMDS),
	NOT_OFFERED(LOADIWKEY),
	NOT_OFFERED(CLUI),
	NOT_OFFERED(STUI),
	NOT_OFFERED(TESTUI),
	NOT_OFFERED(UIRET),
	NOT_OFFERED(SENDUIPI),
	NOT_OFFERED(INCSSPD),
	NOT_OFFERED(INCSSPQ),
	NOT_OFFERED(SAVEPREVSSP),
	NOT_OFFERED(RSTORSSP),
	NOT_OFFERED(SETSSBSY),
	NOT_OFFERED(CLRSSBSY),
	NOT_OFFERED(WRSSD),
	NOT_OFFERED(WRSSQ),
	NOT_OFFERED(WRUSSD),
	NOT_OFFERED(WRUSSQ),
	NOT_OFFERED(XBEGIN),
	NOT_OFFERED(XEND),
	NOT_OFFERED(XABORT),
	NOT_OFFERED(XTEST),
	NOT_OFFERED(XSUSLDTRK),
	NOT_OFFERED(XRESLDTRK),
	{0},
};
