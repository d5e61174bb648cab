// SPDX-License-Identifier: MIT
/*
 * The memory side of the CPU: walker, TLB and its flushes, accessors, device accesses, port
 * permissions.
 */
#include "mmu_fixture.h"
#include "cpu/x86/port.h"

#define DATA 0x800000ull /* guest-physical memory that no page table uses */

static u64 *ram64(struct fixture *f, u64 gpa)
{
	return (u64 *)(f->toy.ram + gpa);
}

/* ---- no paging, plain hits ---- */

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 v = 0;
	u32 pages;

	assert_true(RUN(f, x86_st64(c, X86_DS, DATA + 8, 0x1122334455667788)));
	assert_int_equal(*ram64(f, DATA + 8), 0x1122334455667788);
	pages = f->toy.pages;
	assert_true(RUN(f, v = x86_ld32(c, X86_DS, DATA + 10)));
	assert_int_equal(v, 0x33445566);
	assert_int_equal(f->toy.pages, pages); /* the write filled the read side as well */
	assert_int_equal(f->toy.dirty[DATA >> 12], 1);
	assert_true(*toy_attr(&f->toy, DATA) & MACHINE_ATTR_WFILLED);
	/* Index 0 of an untouched table must not look like page 0. */
	assert_true(RUN(f, v = x86_ld64(c, X86_DS, 0)));
	assert_int_equal(f->toy.pages, pages + 1);
}

static void test_empty_tags(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	static const u64 high[] = {0, 1ull << 24, 1ull << 47, 0xffff800000000000,
				   0xffffffffff000000};

	for (u32 i = 0; i < X86_TLB_SIZE; i++)
		for (u32 h = 0; h < ARRAY_SIZE(high); h++) {
			assert_null(x86_tlb_hit(c->rtlb, high[h] | (u64)i << 12, 1));
			assert_null(x86_tlb_hit(c->wtlb, high[h] | (u64)i << 12 | 0xfff, 1));
		}
}

/* ---- rights ---- */

enum { READ, WRITE, FETCH, SYS };

static void do_access(struct x86_cpu *c, u32 kind, u64 la)
{
	u8 *attr, v;

	switch (kind) {
	case READ:
		x86_ld8(c, X86_DS, la);
		break;
	case WRITE:
		x86_st8(c, X86_DS, la, 1);
		break;
	case FETCH:
		x86_fetch_page(c, la, &attr);
		break;
	default:
		x86_sys_read(c, la, &v, 1);
	}
}

static void test_rights(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum { SMAP = 1, SMEP = 2, AC = 4, NOWP = 8 };
	static const struct {
		u64 flags;
		u8 cpl;
		u8 mode;
		u8 kind;
		int error; /* -1: allowed */
	} rows[] = {
		{P | W, 0, 0, READ, -1},
		{P | W, 0, 0, WRITE, -1},
		{P | W, 3, 0, READ, 0x5},
		{P | W, 3, 0, WRITE, 0x7},
		{P | W, 3, 0, FETCH, 0x15},
		{P | W, 3, 0, SYS, -1},
		{P | W | U, 3, 0, WRITE, -1},
		{P | W | U, 2, 0, WRITE, -1},
		{P | U, 3, 0, READ, -1},
		{P | U, 3, 0, WRITE, 0x7},
		{P | U, 3, NOWP, WRITE, 0x7},
		{P | U, 0, 0, WRITE, 0x3},
		{P | U, 0, NOWP, WRITE, -1},
		{P, 0, NOWP, WRITE, -1},
		{W | U, 3, 0, READ, 0x4},
		{W | U, 0, 0, WRITE, 0x2},
		{W | U, 0, 0, FETCH, 0x10},
		{P | W | U | NX, 3, 0, FETCH, 0x15},
		{P | W | U | NX, 3, 0, READ, -1},
		{P | W | NX, 0, 0, FETCH, 0x11},
		{P | W | U, 0, 0, FETCH, -1},
		{P | W | U, 0, SMEP, FETCH, 0x11},
		{P | W | U, 3, SMEP, FETCH, -1},
		{P | W | U, 0, SMAP, READ, 0x1},
		{P | W | U, 0, SMAP, WRITE, 0x3},
		{P | W | U, 0, SMAP | AC, WRITE, -1},
		{P | W | U, 0, SMAP | AC, SYS, 0x1},
		{P | W | U, 3, SMAP, SYS, 0x1},
		{P | W | U, 3, SMAP, WRITE, -1},
		{P | W | U, 0, SMAP, FETCH, -1},
		{P | W, 0, SMAP, WRITE, -1},
	};
	u64 la = 0x7f0000000000, at;

	fixture_paging(f, 4, true);
	at = fixture_map(f, la, DATA, P, 1);
	for (u32 k = 0; k < ARRAY_SIZE(rows); k++) {
		*ram64(f, at) = DATA | rows[k].flags;
		c->cr4 &= ~(X86_CR4_SMAP | X86_CR4_SMEP);
		c->cr4 |= (rows[k].mode & SMAP ? X86_CR4_SMAP : 0) |
			  (rows[k].mode & SMEP ? X86_CR4_SMEP : 0);
		c->cr0 = (c->cr0 & ~X86_CR0_WP) | (rows[k].mode & NOWP ? 0 : X86_CR0_WP);
		c->rflags = rows[k].mode & AC ? X86_FLAG_AC : 0;
		fixture_set_cpl(f, rows[k].cpl);
		x86_tlb_flush_all(c);
		/* The second round meets a filled TLB where the access was allowed. */
		for (u32 round = 0; round < 2; round++) {
			bool ok = RUN(f, do_access(c, rows[k].kind, la));

			if (ok != (rows[k].error < 0) ||
			    (!ok && (int)caught.error != rows[k].error))
				fail_msg("row %u round %u: ok %d error %x, expected %x", k, round,
					 ok, caught.error, (u32)rows[k].error);
		}
	}
}

/* An entry made with user access allowed must not serve when it is not. */
static void test_sets(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;

	fixture_paging(f, 4, true);
	c->cr4 |= X86_CR4_SMAP;
	fixture_map(f, 0x1000, DATA, P | W | U, 1);
	c->rflags |= X86_FLAG_AC;
	x86_mmu_select(c);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
	c->rflags &= ~X86_FLAG_AC;
	x86_mmu_select(c);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x1);
	fixture_set_cpl(f, 3);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 2)));
}

static void test_protection_keys(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;

	fixture_paging(f, 4, true);
	c->cr4 |= X86_CR4_PKE;
	fixture_map(f, 0x1000, DATA, P | W | U | 5ull << 59, 1);
	fixture_map(f, 0x2000, DATA, P | W | 5ull << 59, 1);
	fixture_set_cpl(f, 3);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
	c->pkru = 2u << 10;
	x86_tlb_flush_user(c);
	assert_pf(f, x86_st8(c, X86_DS, 0x1000, 1), 0x1000, 0x27);
	assert_true(RUN(f, x86_ld8(c, X86_DS, 0x1000)));
	c->pkru = 1u << 10;
	x86_tlb_flush_user(c);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x25);
	fixture_set_cpl(f, 0);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x21);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x2000, 1))); /* supervisor pages have no key */
	c->pkru = 2u << 10;
	x86_tlb_flush_user(c);
	assert_pf(f, x86_st8(c, X86_DS, 0x1000, 1), 0x1000, 0x23);
	c->cr0 &= ~X86_CR0_WP;
	x86_tlb_flush_all(c);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
}

static void test_alignment_check(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_rmw w;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x1000, DATA, P | W | U, 1);
	fixture_set_cpl(f, 3);
	assert_true(RUN(f, x86_st64(c, X86_DS, 0x1001, 1)));
	c->cr0 |= X86_CR0_AM;
	c->rflags |= X86_FLAG_AC;
	x86_mmu_select(c);
	assert_fault(f, x86_st64(c, X86_DS, 0x1004, 1), X86_AC);
	assert_fault(f, x86_ld16(c, X86_DS, 0x1001), X86_AC);
	assert_fault(f, x86_rmw_begin(c, X86_DS, 0x1002, 4, false, &w), X86_AC);
	assert_true(RUN(f, x86_st32(c, X86_DS, 0x1004, 1)));
	fixture_set_cpl(f, 0);
	assert_true(RUN(f, x86_ld16(c, X86_DS, 0x1001)));
}

/* ---- the walker ---- */

static void test_accessed_dirty(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_walk w;
	u64 at, pml4;

	fixture_paging(f, 4, true);
	pml4 = c->cr3;
	at = fixture_map(f, 0x1000, DATA, P | W, 1);
	assert_true(x86_walk(c, 0x1000, X86_WALK_WRITE | X86_WALK_NOSET, &w));
	assert_false(w.dirty);
	assert_true(x86_walk(c, 0x1000, X86_WALK_WRITE, &w));
	assert_true(w.dirty);
	*ram64(f, at) = DATA | P | W;
	*ram64(f, pml4) &= ~(u64)A;
	assert_int_equal(fixture_entry(f, at), DATA | P | W);
	memset(f->toy.dirty, 0, RAM_SIZE >> 12);
	x86_tlb_purge_writes(c);
	assert_true(RUN(f, x86_ld8(c, X86_DS, 0x1000)));
	assert_int_equal(fixture_entry(f, at), DATA | P | W | A);
	assert_true(fixture_entry(f, pml4) & A);
	assert_true(f->toy.dirty[at >> 12] && f->toy.dirty[pml4 >> 12]);
	assert_false(f->toy.dirty[DATA >> 12]);
	/* The read entry must not serve the write, or D would never be set. */
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
	assert_int_equal(fixture_entry(f, at), DATA | P | W | A | D);
	assert_false(fixture_entry(f, pml4) & D);
	/* Nothing is set by a refused access. */
	*ram64(f, at) = DATA | P;
	x86_tlb_flush_page(c, 0x1000);
	assert_pf(f, x86_st8(c, X86_DS, 0x1000, 1), 0x1000, 0x3);
	assert_int_equal(fixture_entry(f, at), DATA | P);
	/* Tables in ROM are used but not written. */
	*ram64(f, at) = DATA | P | W;
	f->toy.rom = at & PAGE_MASK;
	f->toy.rom_size = PAGE_SIZE;
	x86_tlb_flush_all(c);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
	assert_int_equal(fixture_entry(f, at), DATA | P | W);
	/* A table page that holds decoded code: the decoder hears of the A bit. */
	f->toy.rom_size = 0;
	*toy_attr(&f->toy, at) |= MACHINE_ATTR_CODE;
	x86_tlb_flush_all(c);
	caught.code_written = 0;
	assert_true(RUN(f, x86_ld8(c, X86_DS, 0x1000)));
	assert_int_equal(caught.code_written, 1);
	assert_ptr_equal(caught.code_host, f->toy.ram + at);
}

static void test_reserved(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 at;

	fixture_paging(f, 4, true);
	at = fixture_map(f, 0x1000, DATA | 1ull << 46, P | W, 1);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x9);
	*ram64(f, at) = DATA | P | W | 1ull << 58; /* ignored bits */
	assert_true(RUN(f, x86_ld8(c, X86_DS, 0x1000)));
	*ram64(f, at) = DATA | P | W | NX;
	c->efer &= ~X86_EFER_NXE;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_st8(c, X86_DS, 0x1000, 1), 0x1000, 0xb);
	c->efer |= X86_EFER_NXE;
	/* Page size bits where there are no pages of that size. */
	*ram64(f, c->cr3) |= PS;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x9);
	*ram64(f, c->cr3) &= ~(u64)PS;
	at = fixture_map(f, 1ull << 30, 0, P | W | PS, 3);
	assert_true(RUN(f, x86_ld8(c, X86_DS, (1ull << 30) + DATA)));
	f->feat.gbpages = false;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_ld8(c, X86_DS, 1ull << 30), 1ull << 30, 0x9);
	f->feat.gbpages = true;
	*ram64(f, at) |= 1 << 13;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_ld8(c, X86_DS, 1ull << 30), 1ull << 30, 0x9);
	at = fixture_map(f, 2ull << 30, DATA, P | W | PS | 1 << 12, 2); /* PAT */
	assert_true(RUN(f, x86_ld8(c, X86_DS, 2ull << 30)));
	*ram64(f, at) |= 1 << 20;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_ld8(c, X86_DS, 2ull << 30), 2ull << 30, 0x9);
	/* A table that is not in memory: nothing is present there. */
	*ram64(f, c->cr3) = MMIO | P | W | U;
	x86_tlb_flush_all(c);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0x0);
}

static u64 where(struct fixture *f, u64 la)
{
	struct x86_walk w;

	assert_true(x86_walk(&f->cpu, la, 0, &w));
	return w.gpa;
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;

	fixture_paging(f, 4, true);
	fixture_map(f, 0xffff888000000000, 0, P | W | PS, 3);
	fixture_map(f, 0xffffffff81000000, 0x200000, P | W | PS, 2);
	fixture_map(f, 0xffffffffff000000, 0x3000, P | W, 1);
	assert_int_equal(where(f, 0xffff88803fffffff), 0x3fffffff);
	assert_int_equal(where(f, 0xffffffff811fedcb), 0x3fedcb);
	assert_int_equal(where(f, 0xffffffffff000abc), 0x3abc);
}

static void test_five_levels(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 la = 0x00ff123456789000;

	fixture_paging(f, 5, true);
	fixture_map(f, la, DATA, P | W, 1);
	assert_int_equal(where(f, la + 5), DATA + 5);
	assert_true(RUN(f, x86_st8(c, X86_DS, la, 1)));
	assert_fault(f, x86_ld8(c, X86_DS, 0x0100000000000000), X86_GP);
	assert_pf(f, x86_ld8(c, X86_DS, 0xff00000000000000), 0xff00000000000000, 0);
}

static void test_canonical(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u8 *attr;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x7ffffffff000, DATA, P | W, 1);
	assert_fault(f, x86_ld8(c, X86_DS, 0x800000000000), X86_GP);
	assert_fault(f, x86_ld8(c, X86_SS, 0x8000000000000000), X86_SS_FAULT);
	assert_fault(f, x86_st64(c, X86_DS, 0x7ffffffffffc, 1), X86_GP);
	assert_fault(f, x86_fetch_page(c, 0xffff7fffffffffff, &attr), X86_GP);
	assert_int_equal(*ram64(f, DATA + 0xff8), 0);
}

static void test_pae(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 at, *table = ram64(f, 0x10020);

	fixture_paging(f, 2, true);
	at = fixture_map(f, 0xc0001000, DATA, P | W | NX, 1);
	fixture_map(f, 0xc0200000, 0x400000, P | W | PS, 2);
	assert_int_equal(where(f, 0xc0001004), DATA + 4);
	assert_int_equal(where(f, 0xc03fffff), 0x5fffff);
	assert_pf(f, x86_ld8(c, X86_DS, 0x1000), 0x1000, 0);
	*ram64(f, at) |= 1ull << 58;
	assert_pf(f, x86_ld8(c, X86_DS, 0xc0001000), 0xc0001000, 0x9);

	for (u32 k = 0; k < 4; k++)
		table[k] = (u64)(k + 1) << 20 | P | 0xe18;
	assert_true(x86_load_pdptes(c, 0x10020 | 0x1f));
	assert_int_equal(c->pdpte[3], table[3]);
	table[1] |= W;
	table[3] = 0;
	assert_false(x86_load_pdptes(c, 0x10020));
	assert_int_equal(c->pdpte[3], 4 << 20 | P | 0xe18);
	table[1] = 2 << 20 | P | 1ull << 46;
	assert_false(x86_load_pdptes(c, 0x10020));
	table[1] = 1ull << 46 | W; /* not present: anything goes */
	assert_true(x86_load_pdptes(c, 0x10020));
}

static void test_32bit(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 at;

	fixture_paging(f, 2, false);
	fixture_map(f, 0xfffff000, DATA, P | W, 1);
	fixture_map(f, 0, DATA + 0x1000, P | W, 1);
	assert_int_equal(where(f, 0xffffffff), DATA + 0xfff);
	/* Linear addresses wrap at 4 GiB. */
	assert_true(RUN(f, x86_st32(c, X86_DS, 0xfffffffe, 0x11223344)));
	assert_int_equal(*(u16 *)(f->toy.ram + DATA + 0xffe), 0x3344);
	assert_int_equal(*(u16 *)(f->toy.ram + DATA + 0x1000), 0x1122);
	fixture_map(f, 0, 0, 0, 1);
	x86_tlb_flush_page(c, 0);
	assert_pf(f, x86_st32(c, X86_DS, 0xfffffffe, 1), 0, 0x2);
	/* 4 MiB pages, with PSE-36. */
	at = fixture_map(f, 0x400000, 0xc00000 | 0x7f << 13, P | W | PS, 2);
	assert_int_equal(where(f, 0x7fffff), 0x7f00ffffffull);
	c->maxphyaddr = 36;
	assert_pf(f, x86_ld8(c, X86_DS, 0x400000), 0x400000, 0x9);
	*(u32 *)ram64(f, at) = 0xc00000 | 0xf << 13 | P | W | PS;
	assert_int_equal(where(f, 0x400000), 0xf00c00000ull);
	f->feat.pse36 = false;
	assert_pf(f, x86_ld8(c, X86_DS, 0x400000), 0x400000, 0x9);
	*(u32 *)ram64(f, at) = 0xc00000 | 1 << 21 | P | W | PS;
	assert_pf(f, x86_ld8(c, X86_DS, 0x400000), 0x400000, 0x9);
	/* Without CR4.PSE the bit means nothing. */
	c->cr4 &= ~X86_CR4_PSE;
	*(u32 *)ram64(f, at) = 0x900000 | P | W | PS;
	*(u32 *)ram64(f, 0x900000) = DATA | P;
	x86_tlb_flush_all(c);
	assert_int_equal(where(f, 0x400123), DATA + 0x123);
	assert_int_equal(*(u32 *)ram64(f, 0x900000), DATA | P | A);
}

static void test_translate(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	bool writable = true, user = false;
	u64 gpa = 0, at;

	fixture_paging(f, 4, true);
	c->cr4 |= X86_CR4_SMAP;
	at = fixture_map(f, 0x1000, DATA, P | U, 1);
	assert_true(x86_translate(c, 0x1234, &gpa, &writable, &user));
	assert_true(gpa == DATA + 0x234 && !writable && user);
	assert_int_equal(fixture_entry(f, at), DATA | P | U);
	assert_false(x86_translate(c, 0x2000, &gpa, &writable, &user));
	*ram64(f, at) |= 1ull << 47;
	assert_false(x86_translate(c, 0x1234, &gpa, &writable, &user));
}

static void test_phys(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 v = 0x0102030405060708, r = 0;

	assert_true(x86_phys_write(c, DATA + 0xffc, &v, 8));
	assert_true(x86_phys_read(c, DATA + 0xffc, &r, 8));
	assert_int_equal(r, v);
	assert_true(f->toy.dirty[DATA >> 12] && f->toy.dirty[(DATA >> 12) + 1]);
	assert_false(x86_phys_read(c, RAM_SIZE - 4, &r, 8));
	assert_false(x86_phys_write(c, MMIO, &v, 8));
	*toy_attr(&f->toy, DATA) = MACHINE_ATTR_CODE;
	assert_true(x86_phys_write(c, DATA, &v, 8));
	assert_int_equal(caught.code_written, 1);
}

/* ---- flushes ---- */

static bool cached(struct fixture *f, u64 la)
{
	return x86_tlb_hit(f->cpu.rtlb, la, 1);
}

static void test_flush(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x1000, DATA, P | W, 1);
	fixture_map(f, 0x2000, DATA, P | W | G, 1);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x2000, 1)));
	x86_tlb_purge_writes(c);
	assert_null(x86_tlb_hit(c->wtlb, 0x1000, 1));
	assert_null(x86_tlb_hit(c->wtlb, 0x2000, 1));
	assert_true(cached(f, 0x1000) && cached(f, 0x2000));
	caught.etlb_flushes = 0;
	x86_tlb_flush_nonglobal(c);
	assert_true(!cached(f, 0x1000) && cached(f, 0x2000));
	x86_tlb_flush_page(c, 0x2fff);
	assert_false(cached(f, 0x2000));
	assert_int_equal(caught.etlb_flushes, 1);
	assert_int_equal(caught.etlb_pages, 1);
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x2000, 1)));
	x86_tlb_flush_all(c);
	assert_false(cached(f, 0x2000));
	c->cr4 &= ~X86_CR4_PGE; /* then G means nothing */
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x2000, 1)));
	x86_tlb_flush_nonglobal(c);
	assert_false(cached(f, 0x2000));
}

/* After a purge every write must be reported again, by the TLB, the walker and physical accesses
 * alike. */
static void test_dirty_log(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 at, v = 1;

	fixture_paging(f, 4, true);
	at = fixture_map(f, 0x1000, DATA, P | W, 1);
	for (u32 round = 0; round < 3; round++) {
		memset(f->toy.dirty, 0, RAM_SIZE >> 12);
		x86_tlb_purge_writes(c);
		*ram64(f, at) &= ~(u64)(A | D);
		assert_true(RUN(f, x86_ld8(c, X86_DS, 0x1000)));
		assert_int_equal(f->toy.dirty[DATA >> 12], 0);
		assert_true(RUN(f, x86_st8(c, X86_DS, 0x1000, 1)));
		assert_int_equal(f->toy.dirty[DATA >> 12], 1);
		assert_int_equal(f->toy.dirty[at >> 12], 1);
		assert_true(x86_phys_write(c, DATA + PAGE_SIZE, &v, 8));
		assert_int_equal(f->toy.dirty[(DATA >> 12) + 1], 1);
	}
	/* RAM that came or went is noticed after a full flush, however often there was one. */
	for (u32 round = 0; round < 5000; round++) {
		f->toy.rom = DATA;
		f->toy.rom_size = round & 1 ? PAGE_SIZE : 0;
		x86_tlb_flush_all(c);
		assert_int_equal(x86_phys_write(c, DATA, &v, 8), !(round & 1));
	}
}

/* A page resolved long ago does not come back when the generations of the physical cache do. */
static void test_generations(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 v = 1;

	f->toy.rom = DATA;
	assert_true(x86_phys_write(c, DATA, &v, 8));
	f->toy.rom_size = PAGE_SIZE;
	for (u32 round = 0; round < 2047; round++) {
		x86_tlb_flush_all(c);
		if (round == 2046)
			assert_false(x86_phys_write(c, DATA, &v, 8));
	}
}

static void test_flush_large(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u64 la = 0xffffffff81000000, huge = 0xffff888000000000;

	fixture_paging(f, 4, true);
	fixture_map(f, la, 0x200000, P | W | PS | G, 2);
	fixture_map(f, 0x400000, 0x1000, P | W, 1);
	fixture_map(f, huge, 0, P | W | PS, 3);
	for (u64 o = 0; o < 0x200000; o += 0x10000)
		assert_true(RUN(f, x86_st8(c, X86_DS, la + o, 1)));
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x400000, 1)));
	x86_tlb_flush_nonglobal(c); /* must not forget that global large pages exist */
	assert_true(RUN(f, x86_st8(c, X86_DS, 0x400000, 1)));
	x86_tlb_flush_page(c, la + 0x5000);
	for (u64 o = 0; o < 0x200000; o += 0x10000)
		assert_false(cached(f, la + o));
	assert_true(cached(f, 0x400000));
	assert_true(RUN(f, x86_ld8(c, X86_DS, huge + 0x1000)));
	assert_true(RUN(f, x86_ld8(c, X86_DS, huge + 0x3000000)));
	x86_tlb_flush_page(c, huge);
	assert_false(cached(f, huge + 0x3000000));
	/* Fetched only: the execution cache is ours to warn. */
	caught.etlb_flushes = 0;
	x86_tlb_flush_all(c);
	{
		u8 *attr;

		assert_true(RUN(f, x86_fetch_page(c, la, &attr)));
	}
	caught.etlb_flushes = 0;
	x86_tlb_flush_page(c, la + 0x1ff000);
	assert_int_equal(caught.etlb_flushes, 1);
}

static void test_flush_overflow(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u32 n = 0;

	fixture_paging(f, 4, true);
	for (u32 k = 0; k < 3000; k++)
		fixture_map(f, 0x40000000 + k * 0x1000ull, DATA + k * 0x1000ull,
			    P | W | (k & 1 ? G : 0), 1);
	for (u32 k = 0; k < 3000; k++)
		assert_true(RUN(f, x86_st8(c, X86_DS, 0x40000000 + k * 0x1000ull, 1)));
	for (u32 k = 0; k < 3000; k++)
		n += cached(f, 0x40000000 + k * 0x1000ull);
	assert_int_equal(n, 3000);
	x86_tlb_flush_nonglobal(c);
	for (u32 k = 0; k < 3000; k += 2)
		assert_false(cached(f, 0x40000000 + k * 0x1000ull));
	test_empty_tags(state);
	for (u32 k = 0; k < 3000; k++)
		assert_true(RUN(f, x86_st8(c, X86_DS, 0x40000000 + k * 0x1000ull, 1)));
	x86_tlb_flush_all(c);
	test_empty_tags(state);
}

/* ---- crossing, code, read-modify-write ---- */

static void test_crossing(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u8 bytes[64], back[64];
	u64 at;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x1000, DATA + 0x5000, P | W, 1);
	at = fixture_map(f, 0x2000, DATA, P, 1);
	for (u32 k = 0; k < 64; k++)
		bytes[k] = (u8)(k + 1);
	assert_pf(f, x86_write_slow(c, X86_DS, 0x1fe0, bytes, 64), 0x2000, 0x3);
	assert_int_equal(f->toy.ram[DATA + 0x5fe0], 0);
	assert_pf(f, x86_st64(c, X86_DS, 0x1ffd, 1), 0x2000, 0x3);
	assert_int_equal(f->toy.ram[DATA + 0x5ffd], 0);
	assert_pf(f, x86_probe(c, X86_DS, 0x1fff, 2, true), 0x2000, 0x3);
	*ram64(f, at) |= W;
	assert_true(RUN(f, x86_write_slow(c, X86_DS, 0x1fe0, bytes, 64)));
	assert_memory_equal(f->toy.ram + DATA + 0x5fe0, bytes, 32);
	assert_memory_equal(f->toy.ram + DATA, bytes + 32, 32);
	assert_true(RUN(f, x86_read_slow(c, X86_DS, 0x1fe0, back, 64)));
	assert_memory_equal(back, bytes, 64);
	assert_true(RUN(f, x86_sys_write(c, 0x1ff8, bytes, 16)));
	assert_memory_equal(f->toy.ram + DATA, bytes + 8, 8);
	assert_true(RUN(f, x86_sys_read(c, 0x1ff8, back, 16)));
	assert_memory_equal(back, bytes, 16);
	/* Half RAM, half device. */
	*ram64(f, at) = MMIO | P | W;
	x86_tlb_flush_page(c, 0x2000);
	f->toy.answer = MACHINE_USER;
	assert_true(RUN(f, x86_st32(c, X86_DS, 0x1ffd, 0xa1b2c3d4)));
	assert_int_equal(f->toy.ram[DATA + 0x5ffd], 0xd4);
	assert_int_equal(f->toy.log[0].addr, MMIO);
	assert_int_equal(f->toy.log[0].size, 1);
	assert_int_equal(f->toy.log[0].data, 0xa1);
}

static void test_code_pages(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_rmw w;
	u32 bytes, *p = NULL;
	bool code;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x1000, DATA, P | W, 1);
	*toy_attr(&f->toy, DATA) = MACHINE_ATTR_CODE;
	assert_true(RUN(f, x86_st32(c, X86_DS, 0x1010, 7)));
	assert_int_equal(*ram64(f, DATA + 0x10), 7);
	assert_int_equal(caught.code_written, 1);
	assert_ptr_equal(caught.code_host, f->toy.ram + DATA + 0x10);
	assert_int_equal(caught.code_len, 4);
	assert_false(c->req & X86_REQ_LOCAL);
	assert_null(x86_tlb_hit(c->wtlb, 0x1010, 4));
	caught.code_dropped = true;
	/* Locked operations must still be atomic: in place. */
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x1020, 4, true, &w)));
	assert_ptr_equal(p, f->toy.ram + DATA + 0x20);
	assert_int_equal(caught.code_written, 1);
	__atomic_fetch_add(p, 3, __ATOMIC_SEQ_CST);
	assert_true(RUN(f, x86_rmw_end(c, &w)));
	assert_int_equal(*ram64(f, DATA + 0x20), 3);
	assert_int_equal(caught.code_written, 2);
	assert_true(c->req & X86_REQ_LOCAL);
	assert_true(RUN(f, assert_null(x86_span(c, X86_DS, 0x1000, true, &bytes))));
	assert_true(RUN(f, assert_non_null(x86_span_store(c, X86_DS, 0x1800, &bytes, &code))));
	assert_true(code);
	assert_int_equal(bytes, 0x800);
	/* When the code is gone the page is plain memory again. */
	*toy_attr(&f->toy, DATA) = 0;
	assert_true(RUN(f, x86_st32(c, X86_DS, 0x1010, 8)));
	assert_non_null(x86_tlb_hit(c->wtlb, 0x1010, 4));
}

static void stop_unmaps(struct toy *t)
{
	*(u64 *)(t->ram + t->value) = 0;
}

static void test_rmw(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_rmw w;
	u64 *p = NULL, at;

	fixture_paging(f, 4, true);
	fixture_map(f, 0x1000, DATA, P | W, 1);
	at = fixture_map(f, 0x2000, DATA + 0x5000, P | W, 1);
	fixture_map(f, 0x3000, DATA, P, 1);
	fixture_map(f, 0x4000, MMIO, P | W, 1);
	/* In place. */
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x1008, 8, true, &w)));
	assert_ptr_equal(p, f->toy.ram + DATA + 8);
	x86_rmw_end(c, &w);
	/* Write permission comes first. */
	assert_pf(f, x86_rmw_begin(c, X86_DS, 0x3000, 8, false, &w), 0x3000, 0x3);
	/* Over two pages. */
	for (u32 locked = 0; locked < 2; locked++) {
		memset(f->toy.ram + DATA + 0xffc, 0x11, 4);
		memset(f->toy.ram + DATA + 0x5000, 0x22, 4);
		assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x1ffc, 8, locked, &w)));
		assert_int_equal(*p, 0x2222222211111111);
		assert_int_equal(f->toy.stopped, locked);
		*p = 0x8877665544332211;
		assert_true(RUN(f, x86_rmw_end(c, &w)));
		assert_false(f->toy.stopped);
		assert_int_equal(*(u32 *)(f->toy.ram + DATA + 0xffc), 0x44332211);
		assert_int_equal(*(u32 *)(f->toy.ram + DATA + 0x5000), 0x88776655);
	}
	assert_int_equal(f->toy.stops, 1);
	/* Over two pages that are neighbours: in place, nobody is stopped; a page with code hears of it. */
	fixture_map(f, 0x5000, DATA + 0x6000, P | W, 1);
	fixture_map(f, 0x6000, DATA + 0x7000, P | W, 1);
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x5ffc, 8, true, &w)));
	assert_ptr_equal(p, f->toy.ram + DATA + 0x6ffc);
	x86_rmw_end(c, &w);
	assert_int_equal(f->toy.stops, 1);
	*toy_attr(&f->toy, DATA + 0x7000) = MACHINE_ATTR_CODE;
	x86_tlb_flush_all(c);
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x5ffc, 8, false, &w)));
	assert_ptr_not_equal(p, f->toy.ram + DATA + 0x6ffc);
	assert_true(RUN(f, x86_rmw_end(c, &w)));
	*toy_attr(&f->toy, DATA + 0x7000) = 0;
	/* A fault does not leave the world stopped, neither before nor after others ran. */
	*ram64(f, at) &= ~(u64)W;
	x86_tlb_flush_page(c, 0x2000);
	assert_pf(f, x86_rmw_begin(c, X86_DS, 0x1ffc, 8, true, &w), 0x2000, 0x3);
	assert_int_equal(f->toy.stops, 1);
	*ram64(f, at) |= W;
	f->toy.value = at;
	f->toy.on_stop = stop_unmaps;
	x86_request(c, X86_REQ_FLUSH);
	x86_tlb_flush_page(c, 0x2000);
	assert_pf(f, x86_rmw_begin(c, X86_DS, 0x1ffc, 8, true, &w), 0x2000, 0x2);
	assert_int_equal(f->toy.stops, 2);
	assert_int_equal(f->toy.resumes, 2);
	f->toy.on_stop = NULL;
	/* On a device: one read, one write. */
	f->toy.answer = MACHINE_DONE;
	f->toy.value = 40;
	f->toy.nlog = 0;
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, 0x4010, 8, false, &w)));
	*p += 2;
	assert_true(RUN(f, x86_rmw_end(c, &w)));
	assert_int_equal(f->toy.nlog, 2);
	assert_true(f->toy.log[1].write);
	assert_int_equal(f->toy.log[1].data, 42);
	assert_int_equal(f->toy.log[1].addr, MMIO + 0x10);
}

static void test_rom(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_rmw w;
	u64 *p = NULL;
	u32 bytes;

	*ram64(f, DATA) = 5;
	f->toy.rom = DATA;
	f->toy.rom_size = PAGE_SIZE;
	f->toy.answer = MACHINE_DONE;
	assert_true(RUN(f, x86_st64(c, X86_DS, DATA, 9)));
	assert_int_equal(*ram64(f, DATA), 5);
	assert_int_equal(f->toy.log[0].data, 9);
	assert_int_equal(f->toy.dirty[DATA >> 12], 0);
	assert_true(RUN(f, assert_int_equal(x86_ld64(c, X86_DS, DATA), 5)));
	assert_null(x86_tlb_hit(c->wtlb, DATA, 1));
	assert_true(RUN(f, assert_null(x86_span(c, X86_DS, DATA, true, &bytes))));
	assert_true(RUN(f, assert_non_null(x86_span(c, X86_DS, DATA, false, &bytes))));
	assert_true(RUN(f, p = x86_rmw_begin(c, X86_DS, DATA, 8, false, &w)));
	assert_int_equal(*p, 5);
	*p = 6;
	x86_rmw_end(c, &w);
	assert_int_equal(*ram64(f, DATA), 5);
	assert_int_equal(f->toy.nlog, 2);
	assert_int_equal(f->toy.log[1].data, 6);
}

/* ---- devices ---- */

static void test_mmio_answered_inside(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u64 v = 0;

	f->toy.answer = MACHINE_DONE;
	f->toy.value = 0x1000;
	f->toy.step = 1;
	/* A loop that polls one register reads it each time. */
	for (u32 k = 0; k < 3; k++) {
		assert_true(RUN(f, v = x86_ld32(c, X86_DS, MMIO)));
		assert_int_equal(v, 0x1000 + k);
		assert_true(c->req & X86_REQ_LOCAL);
		x86_unrequest(c, X86_REQ_LOCAL);
		assert_false(x86_io_drain(c, &why));
	}
	f->toy.answer = MACHINE_COALESCED;
	assert_true(RUN(f, x86_st32(c, X86_DS, MMIO, 1)));
	assert_false(x86_io_drain(c, &why));
}

/* An instruction with two device reads of which the first is answered inside, the second by the
 * VMM. */
static void mixed_reads(struct x86_cpu *c, struct toy *t, u64 *a, u64 *b)
{
	t->answer = MACHINE_DONE;
	*a = x86_ld64(c, X86_DS, MMIO);
	t->answer = MACHINE_USER;
	*b = x86_ld32(c, X86_DS, MMIO + 0x100);
}

static void test_mmio_reexecuted(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u64 a = 0, b = 0;
	u8 answer[8] = {0x78, 0x56, 0x34, 0x12};

	f->toy.value = 7;
	f->toy.step = 1;
	assert_leave(f, mixed_reads(c, &f->toy, &a, &b), X86_EXIT_MMIO);
	assert_int_equal(c->exit.mmio.gpa, MMIO + 0x100);
	assert_int_equal(c->exit.mmio.size, 4);
	assert_false(c->exit.mmio.write);
	assert_int_equal(f->toy.nlog, 2);
	x86_complete_mmio(c, answer);
	assert_false(x86_io_drain(c, &why)); /* entering again: the answers must survive */
	assert_true(RUN(f, mixed_reads(c, &f->toy, &a, &b)));
	assert_int_equal(a, 7);
	assert_int_equal(b, 0x12345678);
	assert_int_equal(f->toy.nlog, 2); /* no device saw anything twice */
	assert_false(x86_io_drain(c, &why));
	/* The same instruction once more is a new one. */
	assert_leave(f, mixed_reads(c, &f->toy, &a, &b), X86_EXIT_MMIO);
	assert_int_equal(f->toy.nlog, 4);
	/* The VMM moves the CPU elsewhere: the answer is nobody's. */
	x86_complete_mmio(c, answer);
	c->rip = 0x2000;
	assert_leave(f, mixed_reads(c, &f->toy, &a, &b), X86_EXIT_MMIO);
	assert_int_equal(f->toy.nlog, 6);
	x86_complete_mmio(c, answer);
	a = 0;
	assert_true(RUN(f, mixed_reads(c, &f->toy, &a, &b)));
	assert_int_equal(a, 9);
	assert_int_equal(f->toy.nlog, 6);
}

static void test_mmio_wide(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u8 answer[8], buf[20];

	f->toy.answer = MACHINE_USER;
	for (u32 k = 0; k < 3; k++) {
		assert_leave(f, x86_read_slow(c, X86_DS, MMIO + 4, buf, 20), X86_EXIT_MMIO);
		assert_int_equal(c->exit.mmio.gpa, MMIO + 4 + k * 8);
		assert_int_equal(c->exit.mmio.size, k < 2 ? 8 : 4);
		memset(answer, (int)(k + 1), 8);
		x86_complete_mmio(c, answer);
	}
	assert_true(RUN(f, x86_read_slow(c, X86_DS, MMIO + 4, buf, 20)));
	assert_true(buf[0] == 1 && buf[7] == 1 && buf[8] == 2 && buf[16] == 3 && buf[19] == 3);
	assert_false(x86_io_drain(c, &why));

	for (u32 k = 0; k < 20; k++)
		buf[k] = (u8)k;
	assert_true(RUN(f, x86_write_slow(c, X86_DS, MMIO + 4, buf, 20)));
	for (u32 k = 0; k < 3; k++) {
		assert_true(c->req & X86_REQ_LOCAL);
		x86_unrequest(c, X86_REQ_LOCAL);
		assert_true(x86_io_drain(c, &why));
		assert_int_equal(why, X86_EXIT_MMIO);
		assert_true(c->exit.mmio.write);
		assert_int_equal(c->exit.mmio.gpa, MMIO + 4 + k * 8);
		assert_memory_equal(c->exit.mmio.data, buf + k * 8, c->exit.mmio.size);
		x86_complete_mmio(c, NULL);
	}
	assert_false(c->req & X86_REQ_LOCAL);
	assert_false(x86_io_drain(c, &why));
	assert_int_equal(c->io.done, 0);
}

/* A read that must wait takes back the writes queued before it: they will be queued again. */
static void write_then_read(struct x86_cpu *c)
{
	x86_st32(c, X86_DS, MMIO, 1);
	x86_ld32(c, X86_DS, MMIO + 4);
}

static void test_mmio_write_then_read(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u8 answer[8] = {0};

	f->toy.answer = MACHINE_USER;
	assert_leave(f, write_then_read(c), X86_EXIT_MMIO);
	assert_false(c->exit.mmio.write);
	x86_complete_mmio(c, answer);
	assert_false(x86_io_drain(c, &why));
	assert_true(RUN(f, write_then_read(c)));
	assert_true(x86_io_drain(c, &why));
	assert_false(x86_io_drain(c, &why));
}

static void test_too_many(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	u8 buf[64];

	f->toy.answer = MACHINE_DONE;
	for (u32 k = 0; k < X86_MAX_FRAGS / 8; k++)
		assert_true(RUN(f, x86_read_slow(c, X86_DS, MMIO, buf, 64)));
	assert_leave(f, x86_read_slow(c, X86_DS, MMIO, buf, 64), X86_EXIT_INTERNAL_ERROR);
	assert_int_equal(c->io.done, 0);
}

static void test_ports(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u32 v = 0;

	f->toy.answer = MACHINE_DONE;
	f->toy.value = 0xabcd;
	assert_true(RUN(f, x86_pio_read(c, 0x64, &v, 1)));
	assert_int_equal(v, 0xcd);
	assert_false(x86_io_drain(c, &why));
	f->toy.answer = MACHINE_USER;
	assert_leave(f, x86_pio_read(c, 0x1f0, &v, 2), X86_EXIT_IO);
	assert_true(c->exit.io.port == 0x1f0 && c->exit.io.size == 2 && c->exit.io.count == 1 &&
		    !c->exit.io.write);
	memcpy(f->pio_page, "\x34\x12", 2);
	x86_complete_io(c);
	assert_true(RUN(f, x86_pio_read(c, 0x1f0, &v, 2)));
	assert_int_equal(v, 0x1234);
	v = 0x99887766;
	assert_true(RUN(f, x86_pio_write(c, 0xcf8, &v, 4)));
	assert_true(x86_io_drain(c, &why));
	assert_int_equal(why, X86_EXIT_IO);
	assert_true(c->exit.io.port == 0xcf8 && c->exit.io.size == 4 && c->exit.io.count == 1 &&
		    c->exit.io.write);
	assert_memory_equal(f->pio_page, &v, 4);
	x86_complete_io(c);
	assert_int_equal(c->io.done, 0);
}

/* ---- port permissions ---- */

static void test_port_permission(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_seg *tr = &c->seg[X86_TR];
	u8 *tss = f->toy.ram + DATA;

	tr->base = DATA;
	tr->limit = 0x67;
	tr->attr = X86_SEG_P | 11;
	*(u16 *)(tss + 102) = 0x68;
	c->cr0 &= ~X86_CR0_PE;
	c->cpl = 3;
	assert_true(RUN(f, x86_io_allowed(c, 0x80, 1)));
	c->cr0 |= X86_CR0_PE;
	assert_fault(f, x86_io_allowed(c, 0x80, 1), X86_GP);
	c->rflags |= X86_FLAG_IOPL;
	assert_true(RUN(f, x86_io_allowed(c, 0x80, 1)));
	c->rflags |= X86_FLAG_VM;
	assert_fault(f, x86_io_allowed(c, 0x80, 1), X86_GP);
	tr->limit = 0x68 + 0x12;
	memset(tss + 0x68, 0xff, 0x40);
	tss[0x68 + 0x10] = 0x0f; /* 0x84 to 0x87 */
	tss[0x68 + 0x11] = 0xfe; /* 0x88 */
	assert_true(RUN(f, x86_io_allowed(c, 0x84, 4)));
	assert_true(RUN(f, x86_io_allowed(c, 0x86, 2)));
	assert_true(RUN(f, x86_io_allowed(c, 0x88, 1)));
	assert_true(RUN(f, x86_io_allowed(c, 0x85, 4)));
	assert_fault(f, x86_io_allowed(c, 0x86, 4), X86_GP);
	assert_fault(f, x86_io_allowed(c, 0x88, 2), X86_GP);
	/* The second of the two bytes is outside. */
	tss[0x68 + 0x12] = 0;
	assert_fault(f, x86_io_allowed(c, 0x90, 1), X86_GP);
	tr->attr = X86_SEG_P | 3;
	assert_fault(f, x86_io_allowed(c, 0x84, 4), X86_GP);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_empty_tags),
		T(test_rights),
		T(test_sets),
		T(test_protection_keys),
		T(test_alignment_check),
		T(test_accessed_dirty),
		T(test_reserved),
		T(test_sizes),
		T(test_five_levels),
		T(test_canonical),
		T(test_pae),
		T(test_32bit),
		T(test_translate),
		T(test_phys),
		T(test_flush),
		T(test_dirty_log),
		T(test_generations),
		T(test_flush_large),
		T(test_flush_overflow),
		T(test_crossing),
		T(test_code_pages),
		T(test_rmw),
		T(test_rom),
		T(test_mmio_answered_inside),
		T(test_mmio_reexecuted),
		T(test_mmio_wide),
		T(test_mmio_write_then_read),
		T(test_too_many),
		T(test_ports),
		T(test_port_permission),
	};

	return cmocka_run_group_tests_name("mmu", tests, NULL, NULL);
}
