// SPDX-License-Identifier: MIT
/*
 * Lays out a guest for tests of the system side. Knows formats of tables, not how the engine reads
 * them.
 */
#include "sys_fixture.h"

static const struct x86_cpuid_entry cpuid_intel[] = {
	{0x0, 0, 0, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69},
	{0x1, 0, 0, 0x000306a9, 0, BIT(17) | BIT(21) | BIT(26), 0x0783fbff},
	{0x7, 0, 1, 0, BIT(0) | BIT(1) | BIT(7) | BIT(10) | BIT(20), BIT(2) | BIT(3) | BIT(22),
	 BIT(26) | BIT(29)},
	{0xb, 0, 1, 1, 2, 0x100, 7},
	{0xd, 0, 1, 7, 0, 832, 0},
	{0xd, 1, 1, BIT(1) | BIT(2), 0, 0, 0},
	{0xd, 2, 1, 256, 576, 0, 0},
	{0x40000000, 0, 0, 0x40000001, 0, 0, 0},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0},
	{0x80000001, 0, 0, 0, 0, 1, BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29)},
	{0x80000008, 0, 0, 0x3028, 0, 0, 0},
};

void fx_put(struct fx *f, u64 gpa, const void *bytes, u64 len)
{
	assert_true(gpa + len <= RAM_SIZE);
	memcpy(f->toy.ram + gpa, bytes, len);
}

u64 fx_get(struct fx *f, u64 gpa, u32 size)
{
	u64 v = 0;

	memcpy(&v, f->toy.ram + gpa, size);
	return v;
}

void fx_set(struct fx *f, u64 gpa, u64 v, u32 size)
{
	fx_put(f, gpa, &v, size);
}

/* ---- tables ---- */

/* attr as in struct x86_seg. The accessed bit is left clear on purpose. */
static void desc(struct fx *f, u16 sel, u32 base, u32 limit, u32 attr)
{
	u64 v = (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 |
		(u64)(limit >> 16 & 0xf) << 48 | (u64)(attr >> 12 & 0xf) << 52 |
		(u64)(base >> 24) << 56;

	fx_set(f, AT_GDT + (sel & 0xfff8u), v, 8);
}

#define CODE   (X86_SEG_P | X86_SEG_S | 0xa)
#define DATA   (X86_SEG_P | X86_SEG_S | 0x2)
#define BIG    (X86_SEG_G | X86_SEG_DB)
#define DPL(n) ((n) << 5)

static void tables(struct fx *f)
{
	desc(f, SEL_CODE32, 0, 0xfffff, CODE | BIG);
	desc(f, SEL_DATA32, 0, 0xfffff, DATA | BIG);
	desc(f, SEL_CODE64, 0, 0xfffff, CODE | X86_SEG_G | X86_SEG_L);
	desc(f, SEL_UCODE32, 0, 0xfffff, CODE | BIG | DPL(3));
	desc(f, SEL_UDATA, 0, 0xfffff, DATA | BIG | DPL(3));
	desc(f, SEL_UCODE64, 0, 0xfffff, CODE | X86_SEG_G | X86_SEG_L | DPL(3));
	desc(f, SEL_TSS, AT_TSS, 0x1fff, X86_SEG_P | 9);
	desc(f, SEL_LDT, AT_LDT, 0xfff, X86_SEG_P | 2);
	desc(f, SEL_CODE16, 0, 0xffff, CODE);
	desc(f, SEL_DATA16, 0, 0xffff, DATA);
	desc(f, SEL_CONFORMING, 0, 0xfffff, CODE | BIG | 4);
	desc(f, SEL_CODE1, 0, 0xfffff, CODE | BIG | DPL(1));
	desc(f, SEL_DATA1, 0, 0xfffff, DATA | BIG | DPL(1));
	desc(f, SEL_ABSENT, 0, 0xfffff, (DATA | BIG | DPL(3)) & ~X86_SEG_P);
	desc(f, SEL_RODATA, 0, 0xfffff, X86_SEG_P | X86_SEG_S | BIG | DPL(3));
	desc(f, SEL_XONLY, 0, 0xfffff, X86_SEG_P | X86_SEG_S | 8 | BIG | DPL(3));
	desc(f, SEL_DOWN, 0, AT_DATA - 1, DATA | X86_SEG_DB | 4 | DPL(3));
	f->c->gdt = (struct x86_dtable){AT_GDT, GDT_SIZE - 1};
	memset(f->toy.ram + AT_HANDLERS, 0xf4, 256 * HANDLER_SIZE);
}

static void page(struct fx *f, u64 table, u32 index, u64 entry, u32 size)
{
	fx_set(f, table + index * size, entry, size);
}

/* All of RAM, 4 KiB pages, user and writable but for AT_KERNEL and AT_ABSENT. */
static void leaf_tables(struct fx *f, u64 table, u32 size)
{
	for (u64 la = 0; la < RAM_SIZE; la += PAGE_SIZE)
		page(f, table, (u32)(la >> PAGE_SHIFT),
		     la == AT_ABSENT ? 0 : la | (la == AT_KERNEL ? 3 : 7), size);
}

static void seg(struct fx *f, u32 n, u16 sel)
{
	u64 d = fx_get(f, AT_GDT + (sel & 0xfff8u), 8);

	x86_desc_to_seg(&f->c->seg[n], sel, d | BIT64(40));
}

static void data_segs(struct fx *f, u16 sel)
{
	for (u32 n = X86_ES; n <= X86_GS; n++)
		if (n != X86_CS)
			seg(f, n, sel);
}

static void start(struct fx *f)
{
	f->c->rip = AT_CODE;
	f->c->gpr[X86_RSP] = AT_STACK;
	x86_set_rflags(f->c, 0);
	x86_state_changed(f->c, true);
}

void fx_real(struct fx *f)
{
	x86_reset(f->c, true);
	f->c->seg[X86_CS] = (struct x86_seg){
		.sel = AT_CODE >> 4, .base = AT_CODE, .limit = 0xffff, .attr = CODE | 1};
	f->c->idt = (struct x86_dtable){0, 0x3ff};
	f->c->seg[X86_SS].sel = (AT_STACK - 0x10000) >> 4;
	f->c->seg[X86_SS].base = AT_STACK - 0x10000;
	start(f);
	f->c->rip = 0;
	f->c->gpr[X86_RSP] = 0xfff0;
}

void fx_prot32(struct fx *f, u8 cpl, bool paging)
{
	x86_reset(f->c, true);
	tables(f);
	f->c->cr0 |= X86_CR0_PE | X86_CR0_WP;
	if (paging) {
		leaf_tables(f, AT_PML4 + PAGE_SIZE, 4);
		page(f, AT_PML4, 0, (AT_PML4 + PAGE_SIZE) | 7, 4);
		f->c->cr3 = AT_PML4;
		f->c->cr0 |= X86_CR0_PG;
	}
	seg(f, X86_CS, cpl == 3 ? SEL_UCODE32 : SEL_CODE32);
	data_segs(f, cpl == 3 ? SEL_UDATA : SEL_DATA32);
	seg(f, X86_TR, SEL_TSS);
	f->c->seg[X86_TR].attr |= 2;
	memset(f->toy.ram + AT_TSS, 0, 104);
	fx_set(f, AT_TSS + 102, 0x2000, 2); /* no I/O bitmap */
	fx_set(f, AT_TSS + 4, AT_STACK0, 4);
	fx_set(f, AT_TSS + 8, SEL_DATA32, 2);
	fx_set(f, AT_TSS + 12, AT_STACK1, 4);
	fx_set(f, AT_TSS + 16, SEL_DATA1, 2);
	f->c->idt = (struct x86_dtable){AT_IDT, 0x7ff};
	start(f);
	for (u32 v = 0; v < 256; v++)
		fx_gate(f, (u8)v, 0, 0);
}

void fx_long(struct fx *f, u8 cpl)
{
	x86_reset(f->c, true);
	tables(f);
	leaf_tables(f, AT_PML4 + 3 * PAGE_SIZE, 8);
	for (u32 level = 0; level < 3; level++)
		page(f, AT_PML4 + level * PAGE_SIZE, 0, (AT_PML4 + (level + 1) * PAGE_SIZE) | 7, 8);
	f->c->cr0 |= X86_CR0_PE | X86_CR0_WP | X86_CR0_PG;
	f->c->cr3 = AT_PML4;
	f->c->cr4 = X86_CR4_PAE;
	f->c->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
	seg(f, X86_CS, cpl == 3 ? SEL_UCODE64 : SEL_CODE64);
	data_segs(f, cpl == 3 ? SEL_UDATA : SEL_DATA32);
	seg(f, X86_TR, SEL_TSS);
	f->c->seg[X86_TR].attr |= 2;
	memset(f->toy.ram + AT_TSS, 0, 104);
	fx_set(f, AT_TSS + 102, 0x2000, 2);
	fx_set(f, AT_TSS + 4, AT_STACK0, 8);
	fx_set(f, AT_TSS + 36, AT_IST, 8);
	f->c->idt = (struct x86_dtable){AT_IDT, 0xfff};
	start(f);
	for (u32 v = 0; v < 256; v++)
		fx_gate(f, (u8)v, 0, 0);
}

void fx_gate(struct fx *f, u8 vector, u8 dpl, u8 ist)
{
	bool lma = f->c->efer & X86_EFER_LMA;
	u64 at = AT_HANDLERS + vector * HANDLER_SIZE;
	u64 gate = (at & 0xffff) | (u64)(lma ? SEL_CODE64 : SEL_CODE32) << 16 | (u64)ist << 32 |
		   (u64)(0x8e | dpl << 5) << 40 | (at >> 16 & 0xffff) << 48;

	fx_set(f, AT_IDT + vector * (lma ? 16u : 8u), gate, 8);
	if (lma)
		fx_set(f, AT_IDT + vector * 16u + 8, 0, 8);
}

/* ---- running ---- */

enum x86_exit_reason fx_run(struct fx *f)
{
	return x86_run(f->c);
}

enum x86_exit_reason fx_run_at(struct fx *f, const u8 *start, const u8 *end)
{
	bool real = !(f->c->cr0 & X86_CR0_PE);

	fx_put(f, AT_CODE, start, (u64)(end - start));
	/* As after any return to user space: the code may have been written. */
	x86_code_io_epoch(f->code);
	f->c->rip = real ? 0 : AT_CODE;
	return x86_run(f->c);
}

int fx_vector(struct fx *f)
{
	u64 off = f->c->rip - 1 - AT_HANDLERS;

	return off % HANDLER_SIZE || off / HANDLER_SIZE > 255 ? -1 : (int)(off / HANDLER_SIZE);
}

void fx_create(struct fx *f, enum fx_vendor vendor)
{
	struct x86_cpuid_entry *table = malloc(sizeof(cpuid_intel));

	memset(f, 0, sizeof(*f));
	assert_int_equal(toy_create(&f->toy, RAM_SIZE), 0);
	f->toy.answer = MACHINE_DONE;
	av_epoch_init(&f->epoch);
	assert_int_equal(x86_code_create(&f->epoch, &f->code), 0);
	assert_int_equal(x86_create(&toy_ops, &f->toy, &f->epoch, f->code, &f->c), 0);
	memcpy(table, cpuid_intel, sizeof(cpuid_intel));
	if (vendor == FX_AMD) {
		table[0].ebx = 0x68747541;
		table[0].ecx = 0x444d4163;
		table[0].edx = 0x69746e65;
	}
	assert_int_equal(x86_set_cpuid(f->c, table, ARRAY_SIZE(cpuid_intel)), 0);
}

void fx_destroy(struct fx *f)
{
	x86_destroy(f->c);
	x86_code_destroy(f->code);
	av_epoch_destroy(&f->epoch);
	toy_destroy(&f->toy);
}

static int setup(void **state, enum fx_vendor vendor)
{
	*state = malloc(sizeof(struct fx));
	assert_non_null(*state);
	fx_create(*state, vendor);
	return 0;
}

int fx_setup_intel(void **state)
{
	return setup(state, FX_INTEL);
}

int fx_setup_amd(void **state)
{
	return setup(state, FX_AMD);
}

int fx_teardown(void **state)
{
	fx_destroy(*state);
	free(*state);
	return 0;
}
