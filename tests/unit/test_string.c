// SPDX-License-Identifier: MIT
/*
 * String instructions: against the host's own on random operands, and the cases that the host
 * cannot show: faults in the middle, requests, devices, ports, segments, address sizes.
 */
#include "mmu_fixture.h"
#include "cpu/x86/port.h"

#include <stdlib.h>
#include <sys/mman.h>

#define LA    0x10000ull
#define PAGES 4
#define AREA  (PAGES * PAGE_SIZE)
#define DATA  0x800000ull

/* Decodes bytes as the code cache would, as far as string instructions need it. False: not one of
 * ours. */
static bool decode(struct x86_insn *i, u8 bits, const char *bytes, u32 len)
{
	static const ZydisMachineMode modes[] = {[2] = ZYDIS_MACHINE_MODE_LEGACY_16,
						 [4] = ZYDIS_MACHINE_MODE_LEGACY_32,
						 [8] = ZYDIS_MACHINE_MODE_LONG_64};
	static const ZydisStackWidth widths[] = {
		[2] = ZYDIS_STACK_WIDTH_16, [4] = ZYDIS_STACK_WIDTH_32, [8] = ZYDIS_STACK_WIDTH_64};
	struct x86_decoded d = {.bytes = (const u8 *)bytes, .bits = bits};
	ZydisDecoder z;

	ZydisDecoderInit(&z, modes[bits], widths[bits]);
	assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&z, bytes, len, &d.z, d.op)));
	memset(i, 0, sizeof(*i));
	i->asize = d.z.address_width / 8;
	i->bits = bits;
	i->seg = X86_DS;
	if (d.z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		i->seg = X86_FS;
	for (const struct x86_op_row *row = x86_ops_string; row->mnemonic; row++)
		if (row->mnemonic == d.z.mnemonic && row->bind(&d, i))
			return true;
	return false;
}

#define DECODE(i, bits, bytes) assert_true(decode(i, bits, bytes, sizeof(bytes) - 1))

static const struct x86_insn *execute(struct x86_cpu *c, const struct x86_insn *i)
{
	c->insn = i;
	return i->fn(c, i);
}

/* Four pages at LA whose memory lies in reverse order. */
static u8 *area(struct fixture *f, u64 la)
{
	u64 o = la - LA;

	return f->toy.ram + DATA + (PAGES - 1 - o / PAGE_SIZE) * 3 * PAGE_SIZE + o % PAGE_SIZE;
}

static void area_map(struct fixture *f)
{
	for (u64 p = 0; p < PAGES; p++)
		fixture_map(f, LA + p * PAGE_SIZE, (u64)(area(f, LA + p * PAGE_SIZE) - f->toy.ram),
			    P | W, 1);
}

static void setup(struct fixture *f, u64 rsi, u64 rdi, u64 rcx)
{
	fixture_paging(f, 4, true);
	area_map(f);
	f->cpu.gpr[X86_RSI] = rsi;
	f->cpu.gpr[X86_RDI] = rdi;
	f->cpu.gpr[X86_RCX] = rcx;
}

/* ---- against the host ---- */

struct regs {
	u64 rax, rcx, rsi, rdi;
	u16 flags;
};

static void native(const void *code, bool df, struct regs *r)
{
	u64 flags, rax = r->rax;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n"
			 "test %[df], %[df]\n"
			 "jz 1f\n"
			 "std\n"
			 "1: call *%[code]\n"
			 "mov %%rax, %%r8\n"
			 "lahf\n"
			 "seto %%al\n"
			 "mov %%rax, %[flags]\n"
			 "mov %%r8, %%rax\n"
			 "cld\n"
			 "lea 128(%%rsp), %%rsp\n"
			 : "+a"(rax), "+c"(r->rcx), "+S"(r->rsi), "+D"(r->rdi), [flags] "=&r"(flags)
			 : [code] "r"(code), [df] "r"((u32)df)
			 : "r8", "memory", "cc");
	r->rax = rax;
	r->flags = (u16)flags;
}

static u64 random_state = 88172645463325252ull;

static u64 rnd(u64 below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

static void test_against_host(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	static const u8 opcodes[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
	u8 *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	u8 *copy = mmap((void *)0x20000000, AREA, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(code != MAP_FAILED && copy != MAP_FAILED);
	setup(f, 0, 0, 0);
	for (u32 round = 0; round < 20000; round++) {
		u32 size = 1u << rnd(4), count = (u32)rnd(rnd(4) ? 40 : 1200), n = 0,
		    rep = (u32)rnd(3), letters = rnd(8) ? 2 : 256;
		u8 op = opcodes[rnd(ARRAY_SIZE(opcodes))];
		bool df = rnd(3) == 0, compares = op == 0xa6 || op == 0xae;
		const struct x86_insn *next;
		struct x86_insn i[2];
		struct regs r;
		u64 room;

		if (rep)
			code[n++] = rep == 1 ? 0xf3 : 0xf2;
		if (size == 2)
			code[n++] = 0x66;
		else if (size == 8)
			code[n++] = 0x48;
		code[n++] = op | (size > 1);
		code[n] = 0xc3;
		assert_true(decode(i, 8, (char *)code, n));

		for (u32 k = 0; k < AREA; k++)
			copy[k] = *area(f, LA + k) = (u8)rnd(letters);
		room = (u64)count * size + 16;
		r.rsi = rnd(AREA - room) + (df ? room - 8 : 0);
		r.rdi = rnd(4) ? rnd(AREA - room) + (df ? room - 8 : 0)
			       : MIN(r.rsi + rnd(9), AREA - room);
		if (df && r.rdi + 8 < room)
			r.rdi = room;
		c->gpr[X86_RAX] = r.rax = rnd(2) * 0x0101010101010101ull;
		c->gpr[X86_RCX] = r.rcx = count;
		c->gpr[X86_RSI] = LA + r.rsi;
		c->gpr[X86_RDI] = LA + r.rdi;
		c->rflags = 2 | (df ? X86_FLAG_DF : 0);
		c->aflags = 0x0200;
		r.rsi += (u64)copy;
		r.rdi += (u64)copy;
		native(code, df, &r);
		assert_true(RUN(f, next = execute(c, i)));
		assert_ptr_equal(next, i + 1);
		assert_int_equal(c->gpr[X86_RSI] - LA, r.rsi - (u64)copy);
		assert_int_equal(c->gpr[X86_RDI] - LA, r.rdi - (u64)copy);
		assert_int_equal(c->gpr[X86_RCX], r.rcx);
		assert_int_equal(c->gpr[X86_RAX], r.rax);
		if (compares && (!rep || count))
			assert_int_equal(c->aflags, r.flags);
		else
			assert_int_equal(c->aflags, 0x0200);
		for (u64 p = 0; p < PAGES; p++)
			assert_memory_equal(area(f, LA + p * PAGE_SIZE), copy + p * PAGE_SIZE,
					    PAGE_SIZE);
	}
	munmap(code, 4096);
	munmap(copy, AREA);
}

/* ---- what the host cannot show ---- */

static void test_binding(void **state)
{
	struct x86_insn i;

	assert_false(decode(&i, 8, "\xf2\x0f\x10\xc1", 4));	/* MOVSD xmm0, xmm1 */
	assert_false(decode(&i, 8, "\xf2\x0f\xc2\xc1\x00", 5)); /* CMPSD xmm0, xmm1, 0 */
	DECODE(&i, 8, "\xf2\xa4");
	assert_true(i.flags & X86_I_REPNE);
	DECODE(&i, 8, "\xf2\xf3\xae");
	assert_true((i.flags & X86_I_REP) && !(i.flags & X86_I_REPNE));
	DECODE(&i, 8, "\xa5");
	assert_false(i.flags & (X86_I_REP | X86_I_REPNE));
}

static void test_fault_midway(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];
	u64 at;

	/* The destination's third page is read-only; source and destination are not aligned to each
	 * other. */
	setup(f, LA + 3 * PAGE_SIZE, LA + PAGE_SIZE - 0x10, 0x2000 / 4);
	fixture_map(f, LA + 4 * PAGE_SIZE, DATA + 0x100000, P | W, 1);
	fixture_map(f, LA + 5 * PAGE_SIZE, DATA + 0x101000, P | W, 1);
	at = fixture_map(f, LA + 2 * PAGE_SIZE, DATA + 0x102000, P, 1);
	for (u32 k = 0; k < PAGE_SIZE; k++)
		*area(f, LA + 3 * PAGE_SIZE + k) = (u8)(k * 7);
	DECODE(i, 8, "\xf3\xa5");
	assert_pf(f, execute(c, i), LA + 2 * PAGE_SIZE, 0x3);
	assert_int_equal(c->gpr[X86_RCX], 0x2000 / 4 - PAGE_SIZE / 4 - 4);
	assert_int_equal(c->gpr[X86_RSI], LA + 4 * PAGE_SIZE + 0x10);
	assert_int_equal(c->gpr[X86_RDI], LA + 2 * PAGE_SIZE);
	*(u64 *)(f->toy.ram + at) |= W;
	c->gpr[X86_RCX] = 1;
	f->toy.ram[DATA + 0x100010] = 0x5a;
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(f->toy.ram[DATA + 0x102000], 0x5a);
	assert_int_equal(c->gpr[X86_RCX], 0);
	/* An element over the page's end faults as a whole. */
	c->gpr[X86_RAX] = ~0ull;
	c->gpr[X86_RDI] = LA + 6 * PAGE_SIZE - 6;
	c->gpr[X86_RCX] = 2;
	DECODE(i, 8, "\xf3\xab");
	assert_pf(f, execute(c, i), LA + 6 * PAGE_SIZE, 0x2);
	assert_int_equal(c->gpr[X86_RCX], 1);
	assert_int_equal(*(u16 *)(f->toy.ram + DATA + 0x101ffe), 0);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	const struct x86_insn *next = NULL;
	struct x86_insn i[2];
	u32 rounds = 0;

	setup(f, 0, LA + 0x80, 0x2000);
	DECODE(i, 8, "\xf3\xaa");
	c->gpr[X86_RAX] = 0x77;
	x86_request(c, X86_REQ_EVENT);
	do {
		assert_true(RUN(f, next = execute(c, i)));
		rounds++;
	} while (next == i);
	assert_ptr_equal(next, i + 1);
	assert_int_equal(rounds, 3);
	assert_int_equal(c->gpr[X86_RDI], LA + 0x2080);
	/* Single-stepping shows every element. */
	c->req = 0;
	c->rflags |= X86_FLAG_TF;
	c->gpr[X86_RCX] = 3;
	for (u32 k = 3; k > 0; k--) {
		assert_int_equal(c->gpr[X86_RCX], k);
		assert_true(RUN(f, next = execute(c, i)));
	}
	assert_ptr_equal(next, i + 1);
}

static void test_code_page(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];

	setup(f, 0, LA, 4096 / 8);
	*toy_attr(&f->toy, (u64)(area(f, LA) - f->toy.ram)) = MACHINE_ATTR_CODE;
	DECODE(i, 8, "\xf3\x48\xab");
	c->gpr[X86_RAX] = 0x1111111111111111;
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(caught.code_written, 1);
	assert_int_equal(caught.code_len, 4096);
	assert_ptr_equal(caught.code_host, area(f, LA));
	assert_int_equal(*area(f, LA + 4095), 0x11);
}

static void test_address_sizes(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];

	/* 16 bits: SI and DI wrap at 64 KiB and keep their upper halves; segments have bases and
	 * limits. */
	c->cr0 = X86_CR0_ET;
	c->code_size = 2;
	c->flat = 0;
	c->seg[X86_DS] = (struct x86_seg){
		.base = 0x900000, .limit = 0xffff, .attr = X86_SEG_S | X86_SEG_P | 3};
	c->seg[X86_ES] = (struct x86_seg){
		.base = 0xa00010, .limit = 0xffff, .attr = X86_SEG_S | X86_SEG_P | 3};
	c->seg[X86_FS] = (struct x86_seg){
		.base = 0xb00000, .limit = 0x0eff, .attr = X86_SEG_S | X86_SEG_P | 3};
	for (u32 k = 0; k < 0x10000; k++)
		f->toy.ram[0x900000 + k] = (u8)(k ^ k >> 8);
	c->gpr[X86_RSI] = 0xaaaa0000fff8;
	c->gpr[X86_RDI] = 0xbbbb0000fffc;
	c->gpr[X86_RCX] = 0xcccc00000010;
	DECODE(i, 2, "\xf3\xa4");
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(c->gpr[X86_RSI], 0xaaaa00000008);
	assert_int_equal(c->gpr[X86_RDI], 0xbbbb0000000c);
	assert_int_equal(c->gpr[X86_RCX], 0xcccc00000000);
	for (u32 k = 0; k < 16; k++)
		assert_int_equal(f->toy.ram[0xa00010 + ((0xfffc + k) & 0xffff)],
				 f->toy.ram[0x900000 + ((0xfff8 + k) & 0xffff)]);
	/* A limit ends the loop at the right element. */
	c->gpr[X86_RSI] = 0xef8;
	c->gpr[X86_RDI] = 0;
	c->gpr[X86_RCX] = 10;
	DECODE(i, 2, "\xf3\x64\xa5");
	assert_fault(f, execute(c, i), X86_GP);
	assert_int_equal(c->gpr[X86_RCX], 6);
	assert_int_equal(c->gpr[X86_RSI], 0xf00);
	/* Offsets wrap also where the segment goes on, and in the middle of a page. */
	c->seg[X86_ES].limit = 0xffffffff;
	c->gpr[X86_RDI] = 0xfffc;
	c->gpr[X86_RCX] = 8;
	c->gpr[X86_RAX] = 0xee;
	DECODE(i, 2, "\xf3\xaa");
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(f->toy.ram[0xa00010 + 0xffff], 0xee);
	assert_int_equal(f->toy.ram[0xa00010 + 3], 0xee);
	assert_int_equal(f->toy.ram[0xa00010 + 0x10000], 0);
	/* 32 bits in 64-bit mode: upper halves are cleared, also RCX's is not looked at. */
	setup(f, 0xdead00000000 | LA, 0xdead00000000 | (LA + 0x100), 0xdead00000003);
	DECODE(i, 8, "\x67\xf3\xa4");
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(c->gpr[X86_RSI], LA + 3);
	assert_int_equal(c->gpr[X86_RDI], LA + 0x103);
	assert_int_equal(c->gpr[X86_RCX], 0);
	/* FS counts for the source, never for the destination. */
	c->seg[X86_FS].base = 0x2000;
	c->seg[X86_ES].base = 0x5000;
	setup(f, LA, LA, 1);
	*area(f, LA + 0x2000) = 0x99;
	DECODE(i, 8, "\x64\xa4");
	assert_true(RUN(f, execute(c, i)));
	assert_int_equal(*area(f, LA), 0x99);
}

/* Goes on as run loop and VMM do, answering each device read with the next number, until the
 * instruction is through. */
static u32 drive(struct fixture *f, const struct x86_insn *i, u32 first)
{
	struct x86_cpu *c = &f->cpu;
	enum x86_exit_reason why;
	u32 exits = 0;

	for (u32 guard = 0; guard < 100000; guard++) {
		const struct x86_insn *next = NULL;
		bool ok;

		x86_unrequest(c, X86_REQ_LOCAL);
		if (x86_io_drain(c, &why)) {
			exits++;
			continue;
		}
		ok = RUN(f, next = execute(c, i));
		if (ok && next == i)
			continue;
		if (ok) {
			x86_unrequest(c, X86_REQ_LOCAL);
			while (x86_io_drain(c, &why))
				exits++;
			return exits;
		}
		assert_int_equal(caught.vector, -1);
		exits++;
		if (caught.leave == X86_EXIT_MMIO) {
			u8 answer[8] = {(u8)first++};

			x86_complete_mmio(c, answer);
		} else {
			if (!c->exit.io.write)
				for (u32 k = 0; k < c->exit.io.count; k++)
					memset(f->pio_page + k * c->exit.io.size, (u8)first++,
					       c->exit.io.size);
			else
				for (u32 k = 0; k < c->exit.io.count * c->exit.io.size; k++)
					f->toy.ram[0x600000 + f->toy.value++] = f->pio_page[k];
			x86_complete_io(c);
		}
	}
	fail_msg("no end");
	return 0;
}

static void test_mmio(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];

	f->toy.answer = MACHINE_USER;
	setup(f, 0x40000, LA + 0xffe, 5);
	fixture_map(f, 0x40000, MMIO, P | W, 1);
	fixture_map(f, 0x41000, MMIO + 0x10000, P | W, 1);
	/* Device to memory: one exit an element, each read once. */
	DECODE(i, 8, "\xf3\xa4");
	assert_int_equal(drive(f, i, 1), 5);
	assert_int_equal(f->toy.nlog, 5);
	assert_int_equal(f->toy.log[4].addr, MMIO + 4);
	for (u32 k = 0; k < 5; k++)
		assert_int_equal(*area(f, LA + 0xffe + k), k + 1);
	/* Memory to device. */
	f->toy.nlog = 0;
	c->gpr[X86_RSI] = LA + 0xffe;
	c->gpr[X86_RDI] = 0x41000;
	c->gpr[X86_RCX] = 4;
	assert_int_equal(drive(f, i, 1), 4);
	assert_int_equal(f->toy.nlog, 4);
	assert_true(f->toy.log[3].write && f->toy.log[3].data == 4 &&
		    f->toy.log[3].addr == MMIO + 0x10003);
	/* Device to device. */
	f->toy.nlog = 0;
	c->gpr[X86_RSI] = 0x40000;
	c->gpr[X86_RDI] = 0x41000;
	c->gpr[X86_RCX] = 3;
	assert_int_equal(drive(f, i, 20), 6);
	assert_int_equal(f->toy.nlog, 6);
	assert_true(f->toy.log[5].write && f->toy.log[5].data == 22);
	/* Comparing a device with memory. */
	c->gpr[X86_RSI] = 0x40000;
	c->gpr[X86_RDI] = LA + 0xffe;
	c->gpr[X86_RCX] = 9;
	*area(f, LA + 0x1000) = 77;
	DECODE(i, 8, "\xf3\xa6");
	assert_int_equal(drive(f, i, 1), 3);
	assert_int_equal(c->gpr[X86_RCX], 6);
	assert_false(c->aflags & X86_AF_ZF);
	assert_true(c->aflags & X86_AF_CF); /* 3 - 77 */
}

static void test_ins(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];

	f->toy.answer = MACHINE_USER;
	setup(f, 0, LA + 0xf00, 0x200);
	c->gpr[X86_RDX] = 0x1f0;
	DECODE(i, 8, "\xf3\x66\x6d");
	/* 128 words up to the page's end, then the other 384. */
	assert_int_equal(drive(f, i, 0), 2);
	assert_int_equal(c->gpr[X86_RCX], 0);
	assert_int_equal(c->gpr[X86_RDI], LA + 0x1300);
	for (u32 k = 0; k < 0x400; k++)
		assert_int_equal(*area(f, LA + 0xf00 + k), (k / 2) & 0xff);
	assert_int_equal(f->toy.nlog, 2);
	/* What the VMM answered is used up before anything else happens. */
	x86_request(c, X86_REQ_EVENT);
	c->gpr[X86_RCX] = 5;
	c->gpr[X86_RDI] = LA;
	assert_leave(f, execute(c, i), X86_EXIT_IO);
	assert_int_equal(c->exit.io.count, 5);
	x86_complete_io(c);
	assert_true(RUN(f, assert_ptr_equal(execute(c, i), i + 1)));
	assert_int_equal(c->gpr[X86_RCX], 0);
	c->req = 0;
	/* A single one, over the page's end. */
	c->gpr[X86_RDI] = LA + 0xfff;
	DECODE(i, 8, "\x6d");
	assert_int_equal(drive(f, i, 0x41), 1);
	assert_int_equal(*area(f, LA + 0xfff), 0x41);
	assert_int_equal(*area(f, LA + 0x1002), 0x41);
	/* Downwards: one at a time. */
	c->gpr[X86_RDI] = LA + 3;
	c->gpr[X86_RCX] = 4;
	c->rflags |= X86_FLAG_DF;
	DECODE(i, 8, "\xf3\x6c");
	assert_int_equal(drive(f, i, 1), 4);
	assert_int_equal(*area(f, LA), 4);
	assert_int_equal(*area(f, LA + 3), 1);
	c->rflags &= ~X86_FLAG_DF;
	/* The port is not touched when the store would fault. */
	f->toy.nlog = 0;
	c->gpr[X86_RDI] = LA + AREA;
	c->gpr[X86_RCX] = 4;
	assert_pf(f, execute(c, i), LA + AREA, 0x2);
	assert_int_equal(f->toy.nlog, 0);
	/* In-library devices see each element once. */
	f->toy.answer = MACHINE_DONE;
	f->toy.value = 5;
	f->toy.step = 1;
	c->gpr[X86_RDI] = LA;
	assert_int_equal(drive(f, i, 0), 0);
	assert_int_equal(f->toy.nlog, 4);
	assert_int_equal(*area(f, LA + 3), 8);
	/* Into a device: its write goes out. */
	fixture_map(f, 0x40000, MMIO, P | W, 1);
	f->toy.answer = MACHINE_USER;
	f->toy.nlog = 0;
	c->gpr[X86_RDI] = 0x40000;
	c->gpr[X86_RCX] = 3;
	assert_int_equal(drive(f, i, 9), 4);
	assert_int_equal(f->toy.nlog, 4);
	assert_int_equal(f->toy.log[3].data, 11);
}

static void test_outs(void **state)
{
	struct fixture *f = *state;
	struct x86_cpu *c = &f->cpu;
	struct x86_insn i[2];

	f->toy.answer = MACHINE_USER;
	setup(f, LA + 0xffa, 0, 20);
	c->gpr[X86_RDX] = 0x3f8;
	for (u32 k = 0; k < 0x100; k++)
		*area(f, LA + 0xffa + k) = (u8)(k + 1);
	DECODE(i, 8, "\xf3\x6f");
	/* One before the page's end, one over it, the rest. */
	assert_int_equal(drive(f, i, 0), 3);
	assert_int_equal(f->toy.value, 80);
	for (u32 k = 0; k < 80; k++)
		assert_int_equal(f->toy.ram[0x600000 + k], k + 1);
	assert_int_equal(c->gpr[X86_RSI], LA + 0xffa + 80);
	assert_int_equal(c->gpr[X86_RCX], 0);
	/* Without REP it completes, then its write goes out. */
	f->toy.nlog = 0;
	c->gpr[X86_RSI] = LA + 0xffa;
	DECODE(i, 8, "\x6e");
	assert_int_equal(drive(f, i, 0), 1);
	assert_int_equal(c->exit.io.count, 1);
	assert_int_equal(f->pio_page[0], 1);
	/* Inside the library. */
	f->toy.answer = MACHINE_DONE;
	f->toy.nlog = 0;
	c->gpr[X86_RCX] = 5;
	DECODE(i, 8, "\xf3\x6e");
	assert_int_equal(drive(f, i, 0), 0);
	assert_int_equal(f->toy.nlog, 5);
	assert_int_equal(f->toy.log[4].data, 6);
	/* Not for everybody. */
	c->seg[X86_TR].attr = X86_SEG_P | 11;
	c->gpr[X86_RCX] = 1;
	fixture_set_cpl(f, 3);
	assert_fault(f, execute(c, i), X86_GP);
	/* Nor if there is nothing to move, as silicon has it. */
	c->gpr[X86_RCX] = 0;
	assert_fault(f, execute(c, i), X86_GP);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_against_host), T(test_binding),	 T(test_fault_midway),
		T(test_requests),     T(test_code_page), T(test_address_sizes),
		T(test_mmio),	      T(test_ins),	 T(test_outs),
	};

	return cmocka_run_group_tests_name("string", tests, NULL, NULL);
}
