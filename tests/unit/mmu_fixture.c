// SPDX-License-Identifier: MIT
/*
 * Stubs for the engine around the memory side, and page tables made by hand.
 */
#include "mmu_fixture.h"
#include "cpu/x86/code.h"
#include "cpu/x86/debug.h"
#include "cpu/x86/except.h"
#include "cpu/x86/seg.h"

#include <stdlib.h>

struct caught caught;
__thread const char *x86_rule_text;

static void __noreturn jump(struct x86_cpu *c)
{
	__builtin_longjmp(c->jmp, 1);
}

void x86_raise(struct x86_cpu *c, u8 vector)
{
	caught.vector = vector;
	jump(c);
}

void x86_raise_err(struct x86_cpu *c, u8 vector, u32 error)
{
	caught.vector = vector;
	caught.error = error;
	jump(c);
}

void x86_raise_pf(struct x86_cpu *c, u64 la, u32 error)
{
	caught.la = la;
	x86_raise_err(c, X86_PF, error);
}

u64 x86_rip(const struct x86_cpu *c)
{
	return c->rip;
}

bool x86_watch_armed(const struct x86_cpu *c)
{
	return false;
}

void x86_watch(struct x86_cpu *c, u64 la, u32 size, bool write)
{
}

void x86_watch_port(struct x86_cpu *c, u16 port, u32 size)
{
}

void x86_etlb_flush(struct x86_cpu *c)
{
	caught.etlb_flushes++;
}

void x86_etlb_flush_nonglobal(struct x86_cpu *c)
{
	caught.etlb_flushes++;
}

void x86_etlb_flush_region(struct x86_cpu *c, u64 la)
{
	caught.etlb_flushes++;
}

void x86_etlb_flush_page(struct x86_cpu *c, u64 la)
{
	caught.etlb_pages++;
}

bool x86_code_written(struct x86_cpu *c, u8 *host, u32 len)
{
	caught.code_written++;
	caught.code_host = host;
	caught.code_len = len;
	return caught.code_dropped;
}

void x86_simd_spill(struct x86_cpu *c)
{
	c->simd_live = false;
}

void x86_serve_requests(void *cpu)
{
	struct x86_cpu *c = cpu;

	if (c->req & X86_REQ_FLUSH) {
		x86_unrequest(c, X86_REQ_FLUSH);
		x86_tlb_flush_all(c);
	}
}

/* Real-mode style: base and limit, nothing else. */
u64 x86_seg_check(struct x86_cpu *c, u8 seg, u64 ea, u32 size, bool write)
{
	const struct x86_seg *s = &c->seg[seg];

	if (ea + size - 1 > s->limit)
		x86_raise_err(c, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
	return (u32)(s->base + ea);
}

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct x86_cpu *c = &f->cpu;

	assert_non_null(f);
	assert_int_equal(toy_create(&f->toy, RAM_SIZE), 0);
	memset(&caught, 0, sizeof(caught));
	f->next_table = 1 << 20;
	f->feat = (struct x86_features){.gbpages = true, .pse36 = true};
	c->ops = &toy_ops;
	c->m = &f->toy;
	c->feat = &f->feat;
	c->pio_data = f->pio_page;
	c->maxphyaddr = 46;
	c->code_size = 8;
	c->flat = ~0u;
	c->rflags = 2;
	c->rip = 0x1000;
	c->cr0 = X86_CR0_PE | X86_CR0_WP;
	x86_mmu_create(c);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	toy_destroy(&f->toy);
	free(f);
	return 0;
}

void fixture_paging(struct fixture *f, u32 levels, bool pae)
{
	struct x86_cpu *c = &f->cpu;

	c->cr3 = f->next_table;
	f->next_table += PAGE_SIZE;
	c->cr0 |= X86_CR0_PG;
	c->cr4 = (pae ? X86_CR4_PAE : 0) | (levels == 5 ? X86_CR4_LA57 : 0) | X86_CR4_PSE |
		 X86_CR4_PGE;
	c->efer = pae ? X86_EFER_NXE : 0;
	if (levels >= 4)
		c->efer |= X86_EFER_LME | X86_EFER_LMA;
	c->code_size = levels >= 4 ? 8 : 4;
	fixture_set_cpl(f, 0);
	x86_tlb_flush_all(c);
}

void fixture_set_cpl(struct fixture *f, u8 cpl)
{
	f->cpu.cpl = cpl;
	x86_mmu_select(&f->cpu);
}

static u32 entry_size(const struct fixture *f)
{
	return f->cpu.cr4 & X86_CR4_PAE ? 8 : 4;
}

u64 fixture_entry(struct fixture *f, u64 at)
{
	u64 e = 0;

	memcpy(&e, f->toy.ram + at, entry_size(f));
	return e;
}

u64 fixture_map(struct fixture *f, u64 la, u64 gpa, u64 flags, u32 level)
{
	struct x86_cpu *c = &f->cpu;
	u32 size = entry_size(f), bits = size == 8 ? 9 : 10;
	u32 top = c->efer & X86_EFER_LMA ? (c->cr4 & X86_CR4_LA57 ? 5 : 4) : 2;
	u64 table = c->cr3, e;

	if (!(c->efer & X86_EFER_LMA) && size == 8) {
		u64 *pdpte = &c->pdpte[la >> 30 & 3];

		if (!*pdpte) {
			*pdpte = f->next_table | P;
			f->next_table += PAGE_SIZE;
		}
		table = *pdpte & PAGE_MASK;
	}
	for (u32 l = top;; l--) {
		u64 at = table + (la >> (12 + bits * (l - 1)) & ((1u << bits) - 1)) * size;

		if (l == level) {
			e = gpa | flags;
			memcpy(f->toy.ram + at, &e, size);
			return at;
		}
		e = fixture_entry(f, at);
		if (!e) {
			e = f->next_table | P | W | U;
			f->next_table += PAGE_SIZE;
			memcpy(f->toy.ram + at, &e, size);
		}
		table = e & 0xffffffffff000;
	}
}

void fixture_caught(struct fixture *f)
{
	struct x86_cpu *c = &f->cpu;

	c->io.cursor = 0;
	if (c->fault.leave)
		caught.leave = c->fault.leave_reason;
	else
		c->io.done = 0;
	c->fault.leave = false;
}
