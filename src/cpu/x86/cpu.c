// SPDX-License-Identifier: MIT
/*
 * A CPU's life: creation, reset, start-up, and what others may do to it from outside the run loop.
 *
 * Outer file: uses libc, is never called by the engine. Source: SDM vol. 3 "Processor State After
 * Reset".
 */
#include "cpu/x86/code.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/seg.h"
#include "cpu/x86/simd.h"
#include "cpu/x86/tb_runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAT_RESET	    0x0007040600070406ull
#define SMBASE_RESET	    0x30000
#define SIGNATURE_RESET	    0x600  /* family 6, when there is no CPUID leaf 1 */
#define MISC_ENABLE_RESET   0x1801 /* fast strings; no BTS, no PEBS */
#define UCODE_RESET	    0x100000000ull
#define PLATFORM_INFO_RESET BIT64(31) /* CPUID faulting */
#define MAX_NMIS	    2	      /* one being handled, one latched */

static void reset_segments(struct x86_cpu *c)
{
	for (u32 n = X86_ES; n <= X86_GS; n++)
		c->seg[n] = (struct x86_seg){.limit = 0xffff, .attr = X86_SEG_P | X86_SEG_S | 3};
	c->seg[X86_CS].sel = 0xf000;
	c->seg[X86_CS].base = 0xffff0000;
	c->seg[X86_CS].attr = X86_SEG_P | X86_SEG_S | 0xb;
	c->seg[X86_LDTR] = (struct x86_seg){.limit = 0xffff, .attr = X86_SEG_P | 2};
	c->seg[X86_TR] = (struct x86_seg){.limit = 0xffff, .attr = X86_SEG_P | 11};
	c->gdt = c->idt = (struct x86_dtable){.limit = 0xffff};
}

/* What INIT leaves alone. */
static void reset_power_up(struct x86_cpu *c)
{
	u64 mcg_cap = c->msr.mcg_cap;

	memset(&c->msr, 0, sizeof(c->msr));
	c->msr.mcg_cap = mcg_cap;
	c->msr.pat = PAT_RESET;
	c->msr.smbase = SMBASE_RESET;
	c->msr.misc_enable = MISC_ENABLE_RESET;
	c->msr.ucode_rev = UCODE_RESET;
	c->msr.platform_info = PLATFORM_INFO_RESET;
	c->cr0 = X86_CR0_CD | X86_CR0_NW;
	c->xcr0 = 1;
	c->pkru = 0;
	c->tsc_offset -= x86_tsc(c);
	x86_simd_reset(c);
}

void x86_reset(struct x86_cpu *c, bool init)
{
	u32 sig[4];

	if (!init)
		reset_power_up(c);
	memset(c->gpr, 0, sizeof(c->gpr));
	x86_cpuid(c, 1, 0, sig);
	c->gpr[X86_RDX] = sig[0] ? sig[0] : SIGNATURE_RESET;
	c->rip = 0xfff0;
	x86_set_rflags(c, 0);
	reset_segments(c);
	c->cr0 = (c->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
	c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
	memset(c->pdpte, 0, sizeof(c->pdpte));
	memset(c->dr, 0, sizeof(c->dr));
	c->dr6 = 0xffff0ff0;
	c->dr7 = 0x400;
	c->shadow = 0;
	c->smm = c->halted = c->nmi_masked = c->smm_inside_nmi = false;
	memset(&c->inject, 0, sizeof(c->inject));
	memset(&c->fault, 0, sizeof(c->fault));
	memset(&c->io, 0, sizeof(c->io));
	__atomic_store_n(&c->nmi_pending, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&c->smi_pending, 0, __ATOMIC_SEQ_CST);
	x86_state_changed(c, false);
}

void x86_sipi(struct x86_cpu *c, u8 vector)
{
	c->seg[X86_CS].sel = (u16)(vector << 8);
	c->seg[X86_CS].base = (u64)vector << 12;
	c->rip = 0;
	c->halted = false;
	x86_state_changed(c, false);
}

void x86_state_changed(struct x86_cpu *c, bool reload_pdptrs)
{
	x86_tlb_flush_all(c);
	x86_seg_changed(c);
	x86_simd_enable(c);
	if (reload_pdptrs && (c->cr0 & X86_CR0_PG) && (c->cr4 & X86_CR4_PAE) &&
	    !(c->efer & X86_EFER_LMA))
		(void)x86_load_pdptes(c, c->cr3); /* reserved bits: as KVM, keeps the old ones */
	/* Flags, debug registers and events may all be other ones now. */
	x86_request(c, X86_REQ_LOCAL | X86_REQ_EVENT);
}

int x86_create(const struct machine_ops *ops, void *m, struct av_epoch *epoch,
	       struct x86_code *code, struct x86_cpu **out)
{
	struct x86_cpu *c = x86_cpu_alloc();
	int err = -ENOMEM;

	if (!c)
		return -ENOMEM;
	c->ops = ops;
	c->m = m;
	c->epoch = epoch;
	c->code = code;
	c->feat = calloc(1, sizeof(*c->feat));
	if (!c->feat)
		goto free_cpu;
	err = x86_set_cpuid(c, NULL, 0);
	if (err)
		goto free_feat;
	x86_mmu_create(c);
	err = x86_etlb_create(c);
	if (err)
		goto free_feat;
	x86_tb_cpu_init(c);
	err = x86_simd_create(c);
	if (err)
		goto free_etlb;
	av_epoch_add(epoch, &c->reader);
	x86_code_attach(code, c);
	x86_reset(c, false);
	*out = c;
	return 0;

free_etlb:
	x86_etlb_destroy(c);
free_feat:
	free(c->feat);
free_cpu:
	x86_cpu_free(c);
	return err;
}

void x86_destroy(struct x86_cpu *c)
{
	if (!c)
		return;
	x86_code_detach(c->code, c);
	av_epoch_remove(c->epoch, &c->reader);
	x86_simd_destroy(c);
	x86_etlb_destroy(c);
	free(c->cpuid);
	free(c->feat);
	x86_cpu_free(c);
}

void x86_stats_write(const struct x86_cpu *c, int fd)
{
	static const struct {
		const char *label, *text;
	} rows[X86_NR_STATS] = {
#define X86_STAT(name, label, text) [X86_STAT_##name] = {label, text},
#include "cpu/x86/stats.inc"
#undef X86_STAT
	};

	for (u32 n = 0; n < X86_NR_STATS; n++)
		dprintf(fd, "cpu %u %-18s %14llu  %s\n", c->index, rows[n].label,
			(unsigned long long)READ_ONCE(c->stats[n]), rows[n].text);
}

void x86_raise_nmi(struct x86_cpu *c)
{
	u32 n = __atomic_load_n(&c->nmi_pending, __ATOMIC_SEQ_CST);

	while (n < MAX_NMIS && !__atomic_compare_exchange_n(&c->nmi_pending, &n, n + 1, false,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	x86_request(c, X86_REQ_EVENT);
}

void x86_raise_smi(struct x86_cpu *c)
{
	__atomic_store_n(&c->smi_pending, 1, __ATOMIC_SEQ_CST);
	x86_request(c, X86_REQ_EVENT);
}
