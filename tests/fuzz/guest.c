// SPDX-License-Identifier: MIT
/*
 * The engine's side of the instruction fuzzer: a whole CPU on the toy machine, in long mode under
 * page tables that map what is mapped natively, entered at CPL 3 through x86_run() and left by the
 * exception's handler, a HLT.
 *
 * Segments and control registers are Linux's, as far as user code can tell.
 */
#include "insn.h"
#include "cpu/x86/code.h"
#include "cpu/x86/except.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/seg.h"
#include "toy_machine.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

/* Guest-physical memory; the first MiB is also at KERNEL, for the supervisor. */
#define GPA_GDT	     0x1000u
#define GPA_IDT	     0x2000u
#define GPA_TSS	     0x3000u
#define GPA_STACK    0x8000u /* top */
#define GPA_HANDLERS 0x8000u
#define GPA_TABLES   0x10000u
#define GPA_ARENA    0x40000u
#define RAM_SIZE     0x100000u
#define KERNEL	     0xffff800000000000ull
#define HANDLER_SIZE 16u

#define PTE_P  1ull
#define PTE_W  2ull
#define PTE_U  4ull
#define PTE_NX BIT64(63)

enum {
	SEL_KCODE = 0x10,
	SEL_KDATA = 0x18,
	SEL_CODE32 = 0x23,
	SEL_DATA = 0x2b,
	SEL_CODE64 = 0x33,
	SEL_TSS = 0x40
};
#define ATTR_CODE (X86_SEG_P | X86_SEG_S | X86_SEG_G | 3 << 5 | 0xb)
#define ATTR_DATA (X86_SEG_P | X86_SEG_S | X86_SEG_G | X86_SEG_DB | 3 << 5 | 3)

/* The region for blocks, and how many cases share a machine: the cases of one fill it several times
 * over. */
#define TRANSLATE_CACHE	  (8ull << 20)
#define CASES_PER_MACHINE 20000u

static struct {
	struct toy toy;
	struct av_epoch epoch;
	struct x86_code *code;
	struct x86_cpu *c;
	enum fuzz_engine engine;
	u32 cases;
	u64 stats[X86_NR_STATS];
} g;
static u8 pattern[NR_ARENA_PAGES][PAGE_SIZE];
static u64 pattern_seed = ~0ull;

static void put64(u64 gpa, u64 v)
{
	memcpy(g.toy.ram + gpa, &v, 8);
}

/* ---- the machine ---- */

static void page_tables(void)
{
	static const u64 rights[NR_ARENA_PAGES] = {
		[PAGE_RO] = PTE_P | PTE_U | PTE_NX,
		[PAGE_RW] = PTE_P | PTE_U | PTE_W | PTE_NX,
		[PAGE_RW2] = PTE_P | PTE_U | PTE_W | PTE_NX,
		[PAGE_CODE] = PTE_P | PTE_U,
		[PAGE_CODE2] = PTE_P | PTE_U,
		[PAGE_SMC] = PTE_P | PTE_U | PTE_W,
		[PAGE_SMC2] = PTE_P | PTE_U | PTE_W,
	};
	u64 pml4 = GPA_TABLES, pdpt = pml4 + PAGE_SIZE, pd = pdpt + PAGE_SIZE, pt = pd + PAGE_SIZE,
	    kpdpt = pt + PAGE_SIZE, kpd = kpdpt + PAGE_SIZE;
	u64 all = PTE_P | PTE_W | PTE_U;

	put64(pml4 + (DATA_BASE >> 39 & 511) * 8, pdpt | all);
	put64(pdpt + (DATA_BASE >> 30 & 511) * 8, pd | all);
	put64(pd + (DATA_BASE >> 21 & 511) * 8, pt | all);
	for (u32 p = 0; p < NR_ARENA_PAGES; p++)
		if (rights[p])
			put64(pt + (PAGE_AT(p) >> 12 & 511) * 8,
			      (GPA_ARENA + p * PAGE_SIZE) | rights[p]);
	put64(pml4 + (KERNEL >> 39 & 511) * 8, kpdpt | PTE_P | PTE_W);
	put64(kpdpt, kpd | PTE_P | PTE_W);
	put64(kpd, PTE_P | PTE_W | 0x80); /* one page of 2 MiB */
}

static void descriptor_tables(void)
{
	static const u64 gdt[] = {
		[SEL_KCODE / 8] = 0x00af9b000000ffffull,
		[SEL_KDATA / 8] = 0x00cf93000000ffffull,
		[SEL_CODE32 / 8] = 0x00cffb000000ffffull,
		[SEL_DATA / 8] = 0x00cff3000000ffffull,
		[SEL_CODE64 / 8] = 0x00affb000000ffffull,
		[SEL_TSS / 8] = 0,
		[SEL_TSS / 8 + 1] = 0,
	};
	u64 tss = KERNEL + GPA_TSS;

	memcpy(g.toy.ram + GPA_GDT, gdt, sizeof(gdt));
	put64(GPA_TSS + 4, KERNEL + GPA_STACK);
	g.toy.ram[GPA_TSS + 102] = 104; /* no I/O bitmap */
	memset(g.toy.ram + GPA_HANDLERS, 0xf4, 256 * HANDLER_SIZE);
	for (u32 v = 0; v < 256; v++) {
		u64 at = KERNEL + GPA_HANDLERS + v * HANDLER_SIZE,
		    dpl = v == 3 || v == 4 || v == 0x80 ? 3 : 0;

		put64(GPA_IDT + v * 16, (at & 0xffff) | (u64)SEL_KCODE << 16 |
						(0x8e | dpl << 5) << 40 |
						(at >> 16 & 0xffff) << 48);
		put64(GPA_IDT + v * 16 + 8, at >> 32);
	}
	g.c->gdt = (struct x86_dtable){KERNEL + GPA_GDT, 0x7f};
	g.c->idt = (struct x86_dtable){KERNEL + GPA_IDT, 0xfff};
	g.c->seg[X86_TR] =
		(struct x86_seg){.sel = SEL_TSS, .base = tss, .limit = 103, .attr = X86_SEG_P | 11};
	g.c->seg[X86_LDTR] = (struct x86_seg){.attr = X86_SEG_UNUSABLE};
}

/* The host's own CPUID, so that both sides agree on what exists. */
static void set_cpuid(void)
{
	static const struct {
		u32 leaf, subs;
	} leaves[] = {{0, 0},	       {1, 0},		{7, 2},		{0xd, 16},
		      {0x80000000, 0}, {0x80000001, 0}, {0x80000008, 0}};
	struct x86_cpuid_entry *e = calloc(32, sizeof(*e));
	u32 n = 0;

	if (!e)
		abort();
	for (u32 k = 0; k < ARRAY_SIZE(leaves); k++)
		for (u32 s = 0; s < MAX(leaves[k].subs, 1u); s++, n++) {
			e[n].function = leaves[k].leaf;
			e[n].index = s;
			e[n].flags = leaves[k].subs != 0;
			__cpuid_count(leaves[k].leaf, s, e[n].eax, e[n].ebx, e[n].ecx, e[n].edx);
		}
	if (x86_set_cpuid(g.c, e, n) < 0)
		abort();
}

static void create(void)
{
	struct x86_cpu *c;

	if (toy_create(&g.toy, RAM_SIZE) < 0)
		abort();
	g.toy.answer = MACHINE_DONE;
	av_epoch_init(&g.epoch);
	if (x86_code_create(&g.epoch, &g.code) < 0)
		abort();
	if (g.engine == ENGINE_TRANSLATE && x86_code_translate(g.code, TRANSLATE_CACHE) < 0)
		abort();
	if (x86_create(&toy_ops, &g.toy, &g.epoch, g.code, &g.c) < 0)
		abort();
	c = g.c;
	set_cpuid();
	page_tables();
	descriptor_tables();
	memset(g.toy.ram + GPA_ARENA + PAGE_CODE * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memset(g.toy.ram + GPA_ARENA + PAGE_SMC * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	c->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
		 X86_CR0_PG;
	c->cr3 = GPA_TABLES;
	c->cr4 = (X86_CR4_PAE | X86_CR4_DE | X86_CR4_MCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
		  X86_CR4_OSXSAVE | X86_CR4_FSGSBASE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_UMIP) &
		 c->feat->cr4_mask;
	c->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	c->xcr0 = xl->xcr0;
	g.cases = 0;
}

static void destroy(void)
{
	for (u32 n = 0; n < X86_NR_STATS; n++)
		g.stats[n] += g.c->stats[n];
	x86_destroy(g.c);
	x86_code_destroy(g.code);
	av_epoch_destroy(&g.epoch);
	toy_destroy(&g.toy);
}

void guest_init(enum fuzz_engine engine)
{
	g.engine = engine;
	create();
}

void guest_fini(void)
{
	destroy();
}

void guest_stats(FILE *to)
{
	static const char *const label[] = {
#define X86_STAT(name, label, text) [X86_STAT_##name] = label,
#include "cpu/x86/stats.inc"
#undef X86_STAT
	};

	for (u32 n = 0; n < X86_NR_STATS; n++)
		if (g.stats[n] + g.c->stats[n])
			fprintf(to, "  %-20s %llu\n", label[n],
				(unsigned long long)(g.stats[n] + g.c->stats[n]));
}

/* ---- a case ---- */

static void load(const struct fuzz_case *f)
{
	u8 *arena = g.toy.ram + GPA_ARENA,
	   *code = arena + (f->smc ? PAGE_SMC : PAGE_CODE) * PAGE_SIZE;
	struct x86_cpu *c = g.c;

	if (f->mem_seed != pattern_seed) {
		pattern_seed = f->mem_seed;
		for (u32 p = PAGE_RO; p <= PAGE_RW2; p++)
			fill_memory(f->mem_seed, pattern[p], p);
	}
	memcpy(arena, pattern, (PAGE_RW2 + 1) * PAGE_SIZE);
	memset(arena + PAGE_CODE * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memset(arena + PAGE_SMC * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memcpy(code + f->at, f->code, f->len);
	x86_code_io_epoch(g.code);

	memcpy(c->gpr, f->in.gpr, sizeof(f->in.gpr));
	c->rip = f->in.rip;
	x86_set_rflags(c, f->in.flags);
	memcpy(c->xsave, f->in.xs, xl->size);
	/* The pointers of the x87 are kept apart from the image, and not compared. */
	memset(&c->x87, 0, sizeof(c->x87));
	c->cr2 = 0;
	c->seg[X86_CS] = (struct x86_seg){
		.sel = f->bits == 8 ? SEL_CODE64 : SEL_CODE32,
		.limit = 0xffffffff,
		.attr = ATTR_CODE | (f->bits == 8 ? X86_SEG_L : X86_SEG_DB),
	};
	c->seg[X86_SS] = c->seg[X86_DS] = c->seg[X86_ES] =
		(struct x86_seg){.sel = SEL_DATA, .limit = 0xffffffff, .attr = ATTR_DATA};
	x86_null_seg(&c->seg[X86_FS], 0, 0);
	x86_null_seg(&c->seg[X86_GS], 0, 0);
	c->seg[X86_FS].base = c->seg[X86_GS].base = 0;
	if (f->cold)
		x86_state_changed(c, false);
	else
		x86_seg_changed(c);
	x86_request(c, X86_REQ_LOCAL);
}

static bool has_error_code(u32 v)
{
	return v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21;
}

static void unload(struct fuzz_result *r, enum x86_exit_reason why)
{
	struct x86_cpu *c = g.c;
	u64 off = c->rip - 1 - (KERNEL + GPA_HANDLERS), frame[6];
	u8 *arena = g.toy.ram + GPA_ARENA;

	memcpy(r->out.gpr, c->gpr, sizeof(r->out.gpr));
	memcpy(r->out.xs, c->xsave, xl->size);
	memcpy(r->mem, arena + PAGE_RW * PAGE_SIZE, 2 * PAGE_SIZE);
	memcpy(r->mem[2], arena + PAGE_SMC * PAGE_SIZE, 2 * PAGE_SIZE);
	r->cr2 = c->cr2;
	r->error = 0;
	if (why != X86_EXIT_HLT || off >= 256 * HANDLER_SIZE) {
		r->vector = why == X86_EXIT_REQUEST ? -1 : 0x100 + (int)why;
		r->out.rip = c->rip;
		r->out.flags = x86_rflags(c);
		x86_unrequest(c, X86_REQ_OUT);
		return;
	}
	r->vector = (int)(off / HANDLER_SIZE);
	memcpy(frame, g.toy.ram + (c->gpr[X86_RSP] - KERNEL), sizeof(frame));
	if (c->gpr[X86_RSP] == KERNEL + GPA_STACK - 48) {
		r->error = (u32)frame[0];
		memmove(frame, frame + 1, 5 * sizeof(*frame));
	}
	/* An error code is there exactly when the vector has one; INT n pushes none. */
	if ((c->gpr[X86_RSP] == KERNEL + GPA_STACK - 48) != has_error_code((u32)r->vector))
		r->vector += 0x1000;
	r->out.rip = frame[0];
	r->out.flags = frame[2];
	r->out.gpr[X86_RSP] = frame[3];
}

void guest_run(const struct fuzz_case *f, struct fuzz_result *r)
{
	if (g.cases++ == CASES_PER_MACHINE) {
		destroy();
		create();
	}
	g.c->exit.insn.why = NULL;
	load(f);
	unload(r, x86_run(g.c));
}

void guest_hung(void)
{
	x86_request(g.c, X86_REQ_OUT);
}

const char *guest_why(void)
{
	return g.c->exit.insn.why ? g.c->exit.insn.why : "";
}
