// SPDX-License-Identifier: MIT
/*
 * 32-bit protected mode: descriptors, exceptions with their error codes, ring 3, call gate, limits,
 * paging with 4 MiB and with PAE pages, x87 and SSE, single-stepping, self-modifying code, and an
 * interrupt from the PIT through the PIC.
 */
#include "guest.h"

struct trap_frame {
	u32 es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax;
	u32 vector, error, eip, cs, eflags, user_esp, user_ss;
};

extern u8 trap_stubs[], code16_base[], gate_target[], image_start[], bss_end[];
extern u32 user_exit_stack;
int run_user(void (*code)(void), void *stack, u32 eflags);
void leave_user(void) __attribute__((noreturn));
u32 run_code16(u32 x);
void user_gate(void), user_cli(void), user_in(void), user_out_allowed(void), user_exit(void),
	user_hlt(void), user_gate_bad(void), user_ac(void), user_kernel_read(void),
	user_kernel_write(void), user_ss_limit(void);

/* ---- tables ---- */

enum {
	SEL_CODE = 0x08,
	SEL_DATA = 0x10,
	SEL_UCODE = 0x1b,
	SEL_UDATA = 0x23,
	SEL_TSS = 0x28,
	SEL_CODE16 = 0x30,
	SEL_SMALL = 0x40,
	SEL_DOWN = 0x48,
	SEL_ABSENT = 0x50,
	SEL_GATE = 0x58,
	SEL_RO = 0x60,
	SEL_XO = 0x68,
	SEL_BASED = 0x70,
	SEL_USMALL = 0x7b,
};
static u64 gdt[16] __attribute__((aligned(8)));
static u64 idt[256] __attribute__((aligned(8)));
static struct {
	u32 link, esp0, ss0, rest[22];
	u16 trap, iomap;
	u8 bitmap[0x20 + 1];
} __packed tss;
/* entry.S sets the ring 0 stack */
__asm__(".globl tss_esp0\n.set tss_esp0, tss + 4");

static u8 user_stack[4096] __attribute__((aligned(16)));
static u8 small_area[16];
static volatile u32 user_report[2], user_reports, ticks, stepping;

static u64 descriptor(u32 base, u32 limit, u16 attr)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 |
	       (u64)((limit >> 16) & 15) << 48 | (u64)(attr >> 8) << 52 | (u64)(base >> 24) << 56;
}

static void set_gate(int vector, u8 type)
{
	u32 a = (u32)trap_stubs + 16 * vector;

	idt[vector] = (a & 0xffff) | SEL_CODE << 16 | (u64)type << 40 | (u64)(a >> 16) << 48;
}

static void setup_tables(void)
{
	struct {
		u16 limit;
		u32 base;
	} __packed d;
	int k;

	gdt[SEL_CODE / 8] = descriptor(0, 0xfffff, 0xc9a);
	gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, 0xc92);
	gdt[SEL_UCODE / 8] = descriptor(0, 0xfffff, 0xcfa);
	gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, 0xcf2);
	gdt[SEL_TSS / 8] = descriptor((u32)&tss, sizeof(tss) - 1, 0x089);
	gdt[SEL_CODE16 / 8] = descriptor((u32)code16_base, 0xffff, 0x09a);
	gdt[SEL_SMALL / 8] = descriptor((u32)small_area, sizeof(small_area) - 1, 0x492);
	gdt[SEL_DOWN / 8] = descriptor(0, 0, 0xc96); /* valid from 0x1000 up */
	gdt[SEL_ABSENT / 8] = descriptor(0, 0xfffff, 0xc12);
	gdt[SEL_GATE / 8] = ((u32)gate_target & 0xffff) | SEL_CODE << 16 | 2ull << 32 |
			    0xecull << 40 | (u64)((u32)gate_target >> 16) << 48;
	gdt[SEL_RO / 8] = descriptor(0, 0xfffff, 0xc90);
	gdt[SEL_XO / 8] = descriptor(0, 0xfffff, 0xc98);
	gdt[SEL_BASED / 8] = descriptor((u32)small_area + 4, 0xfff, 0x492);
	gdt[SEL_USMALL / 8] = descriptor((u32)small_area, sizeof(small_area) - 1, 0x4f2);
	d.limit = sizeof(gdt) - 1;
	d.base = (u32)gdt;
	__asm__ volatile("lgdt %0\n\tljmpl $8, $1f\n1:\n\tmovl %1, %%ds\n\tmovl %1, %%es\n\tmovl "
			 "%1, %%ss\n\t"
			 "movl %1, %%fs\n\tmovl %1, %%gs"
			 :
			 : "m"(d), "r"(SEL_DATA)
			 : "memory");
	for (k = 0; k < 256; k++)
		set_gate(k, 0x8e);
	set_gate(3, 0xee);
	set_gate(4, 0xee);
	set_gate(0x80, 0xee);
	d.limit = sizeof(idt) - 1;
	d.base = (u32)idt;
	__asm__ volatile("lidt %0" : : "m"(d));
	tss.ss0 = SEL_DATA;
	tss.iomap = 104;
	memset(tss.bitmap, 0xff, sizeof(tss.bitmap));
	tss.bitmap[PORT_CONSOLE / 8] &= (u8) ~(1 << PORT_CONSOLE % 8);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

void handle_trap(struct trap_frame *f)
{
	if (f->vector == 0x80 && f->eax == 1) {
		user_report[0] = f->esi;
		user_report[1] = f->ebx;
		user_reports++;
		return;
	}
	if (f->vector == 0x20) {
		ticks++;
		outb(0x20, 0x20);
		return;
	}
	if (f->vector == 1 && stepping) {
		u32 dr6;

		__asm__ volatile("movl %%dr6, %0" : "=r"(dr6));
		user_report[0] += (dr6 >> 14) & 1;
		__asm__ volatile("movl %0, %%dr6" : : "r"(0));
		return;
	}
	caught.vector = (int)f->vector;
	caught.error = f->error;
	caught.address = f->eip;
	caught.cr2 = read_cr2();
	if (f->cs & 3)
		leave_user();
	if (!try_resume) {
		print("unexpected exception %d error %x at %x cr2 %x\n", L(f->vector), L(f->error),
		      L(f->eip), L(read_cr2()));
		report("no-surprises", 0, "exception");
		finish();
	}
	f->eip = (u32)try_resume;
	f->eflags &= ~0x100u;
}

/* ---- exceptions ---- */

static int caught_is(int vector, u32 error)
{
	return caught.vector == vector && caught.error == error;
}

static void test_exceptions(void)
{
	u32 bounds[2] = {1, 5};

	CHECK("de",
	      TRY("xorl %%ecx, %%ecx\n\txorl %%edx, %%edx\n\tmovl $1, %%eax\n\tdivl %%ecx", ) == 0);
	CHECK("de-overflow", TRY("movl $-2147483648, %%eax\n\tcltd\n\tidivl %0", "r"(-1)) == 0);
	CHECK("bp", TRY("int3", ) == 3);
	CHECK("of", TRY("movb $127, %%al\n\taddb $1, %%al\n\tinto", ) == 4);
	CHECK("br", TRY("movl $6, %%eax\n\tboundl %%eax, %0", "m"(bounds)) == 5);
	CHECK("bound-inside", TRY("movl $5, %%eax\n\tboundl %%eax, %0", "m"(bounds)) == -1);
	CHECK("ud", TRY("ud2", ) == 6);
	CHECK_NOT_TCG("gp-null",
		      TRY("xorl %%eax, %%eax\n\tmovl %%eax, %%fs\n\tmovl %%fs:0, %%eax", ) == 13 &&
			      !caught.error);
	CHECK("gp-selector",
	      TRY("movl $0x100, %%eax\n\tmovl %%eax, %%fs", ) == 13 && caught.error == 0x100);
	CHECK_NOT_TCG("gp-write-ro",
		      TRY("movl %0, %%fs\n\tmovl %%eax, %%fs:small_area", "r"(SEL_RO)) == 13 &&
			      !caught.error);
	CHECK("gp-read-xo", TRY("movl %0, %%fs", "r"(SEL_XO)) == 13 && caught.error == SEL_XO);
	CHECK("gp-code-as-ss",
	      TRY("movl %0, %%ss", "r"(SEL_CODE)) == 13 && caught.error == SEL_CODE);
	CHECK("np", TRY("movl %0, %%fs", "r"(SEL_ABSENT)) == 11 && caught.error == SEL_ABSENT);
	CHECK("ss-absent",
	      TRY("movl %0, %%ss", "r"(SEL_ABSENT)) == 12 && caught.error == SEL_ABSENT);
	CHECK("gp-int-gate", TRY("lcall $0x28, $0", ) == 13 && caught.error == SEL_TSS);
	CHECK_NOT_TCG("gp-msr", TRY("movl $0x4b564dff, %%ecx\n\trdmsr", ) == 13 && !caught.error);
	CHECK_NOT_TCG("gp-cr4", TRY("movl %0, %%cr4", "r"(0x80000000u)) == 13 && !caught.error);
	CHECK_NOT_TCG("gp-cr0",
		      TRY("movl %0, %%cr0", "r"((read_cr0() & ~1u) | 0x80000000u)) == 13 &&
			      !caught.error);
	write_cr0(read_cr0() | 8);
	CHECK("nm", TRY("fnop", ) == 7);
	__asm__ volatile("clts");
	CHECK("clts", TRY("fnop", ) == -1);
	__asm__ volatile("movl %0, %%fs\n\tmovl %0, %%gs" : : "r"(SEL_DATA));
}

/* ---- segments ---- */

static void test_segments(void)
{
	u32 v = 0, sel;

	memset(small_area, 0, sizeof(small_area));
	small_area[15] = 0x5a;
	__asm__ volatile("movl %1, %%fs\n\tmovzbl %%fs:15, %0" : "=r"(v) : "r"(SEL_SMALL));
	report("limit-inside", v == 0x5a, "%x", L(v));
	CHECK_NOT_TCG("limit-byte", TRY("movb %%fs:16, %%al", ) == 13 && !caught.error);
	CHECK_NOT_TCG("limit-dword", TRY("movl %%fs:13, %%eax", ) == 13 && !caught.error);
	CHECK_NOT_TCG("limit-wrap", TRY("movl %%fs:-2, %%eax", ) == 13 && !caught.error);
	__asm__ volatile("movl %0, %%fs" : : "r"(SEL_DOWN));
	CHECK_NOT_TCG("expand-down-below", TRY("movb %%fs:0xfff, %%al", ) == 13 && !caught.error);
	CHECK("expand-down-inside", TRY("movb %%fs:0x1000, %%al", ) == -1);
	__asm__ volatile("movl %0, %%gs\n\tmovl $0x11223344, %%gs:4" : : "r"(SEL_BASED) : "memory");
	CHECK("segment-base", small_area[8] == 0x44 && small_area[11] == 0x11);
	__asm__ volatile("lsll %1, %0" : "=r"(v) : "r"(SEL_SMALL));
	report("lsl", v == 15, "%x", L(v));
	__asm__ volatile("larl %1, %0" : "=r"(v) : "r"(SEL_RO));
	report("lar", (v & 0xf0ff00) == 0xc09000 || (v & 0xf0ff00) == 0xc09100, "%x", L(v));
	__asm__ volatile("verw %w1\n\tsetz %b0" : "=q"(v) : "r"(SEL_RO));
	report("verw", !(v & 1), "%x", L(v));
	__asm__ volatile("verr %w1\n\tsetz %b0" : "=q"(v) : "r"(SEL_RO));
	report("verr", v & 1, "%x", L(v));
	sel = SEL_UDATA & ~3u;
	__asm__ volatile("arpl %w1, %w0" : "+r"(sel) : "r"(3));
	report("arpl", sel == SEL_UDATA, "%x", L(sel));
	v = run_code16(1000);
	report("code16", v == 3001, "%d", L(v));
	v = run_code16(30000);
	report("code16-wraps", v == (u16)(90001), "%d", L(v));
	__asm__ volatile("movl %0, %%fs\n\tmovl %0, %%gs" : : "r"(SEL_DATA));
}

/* ---- paging ---- */

static volatile u32 page_dir[1024] __attribute__((aligned(4096)));
static volatile u32 window_table[1024] __attribute__((aligned(4096)));
static volatile u64 pae_pdpt[4] __attribute__((aligned(32)));
static volatile u64 pae_dir[4][512] __attribute__((aligned(4096)));
static volatile u64 pae_table[512] __attribute__((aligned(4096)));
static volatile u8 pages[8][4096] __attribute__((aligned(4096)));

#define WINDOW 0x40000000u
#define WIN(n) ((volatile u32 *)(WINDOW + 4096 * (n)))
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };

static int peek(volatile u32 *p)
{
	return TRY("movl (%0), %%eax", "r"(p));
}

static int poke(volatile u32 *p)
{
	return TRY("movl %%eax, (%0)", "r"(p));
}

static int jump_to(volatile u32 *p)
{
	return TRY("call *%0", "r"(p));
}

static void test_paging(void)
{
	u32 k;

	for (k = 0; k < 16; k++)
		page_dir[k] = k << 22 | PS | U | W | P;
	page_dir[WINDOW >> 22] = (u32)window_table | U | W | P;
	window_table[0] = (u32)pages[0] | W | P;
	window_table[1] = (u32)pages[1] | P;
	window_table[3] = (u32)pages[3] | W | P;
	pages[0][0] = 0x77;
	write_cr4(read_cr4() | 0x10);
	write_cr3((u32)page_dir);
	write_cr0(read_cr0() | 0x80010000u);
	CHECK("pse-identity", *WIN(0) == 0x77);
	CHECK("pf-absent-read",
	      peek(WIN(2)) == 14 && caught.error == 0 && caught.cr2 == (u32)WIN(2));
	CHECK("pf-absent-write", poke(WIN(2)) == 14 && caught.error == 2);
	CHECK("pf-readonly", poke(WIN(1)) == 14 && caught.error == 3);
	write_cr0(read_cr0() & ~0x10000u);
	CHECK("wp-clear", poke(WIN(1)) == -1);
	write_cr0(read_cr0() | 0x10000u);
	CHECK("wp-set", poke(WIN(1)) == 14);
	window_table[2] = (u32)pages[2] | W | P;
	CHECK("absent-not-cached", peek(WIN(2)) == -1);
	CHECK("accessed", (window_table[2] & (A | D)) == A);
	CHECK("dirty", poke(WIN(2)) == -1 && window_table[2] & D);
	*WIN(0) = 1;
	pages[4][0] = 0x99;
	window_table[0] = (u32)pages[4] | W | P;
	invlpg(WIN(0));
	CHECK("invlpg", *WIN(0) == 0x99);
	window_table[0] = (u32)pages[0] | W | P;
	write_cr3(read_cr3());
	CHECK("cr3-reload", *WIN(0) == 1);
	/* an access over two pages faults on the second, and changes nothing */
	window_table[4] = (u32)pages[4] | W | P;
	memset((u8 *)pages[4] + 4092, 0x11, 4);
	CHECK("pf-second-page", poke((u32 *)((u32)WIN(5) - 2)) == 14 && caught.cr2 == (u32)WIN(5) &&
					caught.error == 2);
	CHECK("pf-no-partial-write", pages[4][4094] == 0x11 && pages[4][4095] == 0x11);
	window_table[5] = (u32)pages[5] | W | P;
	*(volatile u32 *)((u32)WIN(5) - 2) = 0xaabbccdd;
	CHECK("cross-page-write", pages[4][4094] == 0xdd && pages[5][1] == 0xaa);
	/* rep movs stops at the fault with the registers where it stood */
	{
		u32 count = 64, from = (u32)pages[6], to = (u32)WIN(6) - 16;

		window_table[6] = 0;
		caught.vector = -1;
		__asm__ volatile("movl $1f, try_resume\n\tmovl %%esp, try_stack\n\trep "
				 "movsb\n1:\n\tmovl $0, try_resume"
				 : "+c"(count), "+S"(from), "+D"(to)
				 :
				 : "memory");
		report("rep-partial", caught_is(14, 2) && count == 48 && to == (u32)WIN(6), "%d %x",
		       L(count), L(to));
	}
	/* a 4 MiB page over the window */
	page_dir[WINDOW >> 22] = 0 | PS | W | P;
	write_cr3(read_cr3());
	CHECK("pse-window", *(volatile u32 *)(WINDOW + (u32)pages[0]) == *(volatile u32 *)pages[0]);
	page_dir[WINDOW >> 22] = 0x00200000 | PS | W | P;
	write_cr3(read_cr3());
	CHECK_NOT_TCG("pf-pse-reserved", peek(WIN(0)) == 14 && caught.error == 9);
	page_dir[WINDOW >> 22] = (u32)window_table | U | W | P;
	write_cr3(read_cr3());
}

static void test_pae(void)
{
	u32 r[4], k;
	int nx;

	cpuid(0x80000001, 0, r);
	nx = r[3] >> 20 & 1;
	write_cr0(read_cr0() & 0x7fffffff);
	for (k = 0; k < 512; k++)
		pae_dir[0][k] = (u64)k << 21 | PS | U | W | P;
	pae_dir[1][0] = (u32)pae_table | U | W | P;
	pae_table[0] = (u32)pages[0] | W | P;
	pages[0][0] = 0xc3;
	for (k = 0; k < 4; k++)
		pae_pdpt[k] = (u32)pae_dir[k] | P;
	write_cr4(read_cr4() | 0x20);
	write_cr3((u32)pae_pdpt);
	if (nx)
		wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
	write_cr0(read_cr0() | 0x80000000u);
	CHECK("pae-read", *(volatile u8 *)WIN(0) == 0xc3);
	CHECK("pae-execute", jump_to(WIN(0)) == -1);
	CHECK("pae-absent", peek(WIN(1)) == 14 && caught.error == 0);
	if (nx) {
		pae_table[0] |= 1ull << 63;
		invlpg(WIN(0));
		CHECK("nx",
		      jump_to(WIN(0)) == 14 && caught.error == 0x11 && caught.cr2 == (u32)WIN(0));
		CHECK("nx-read", peek(WIN(0)) == -1);
	}
	pae_table[1] = 1ull << 62 | (u32)pages[1] | P;
	CHECK_NOT_TCG("pae-reserved", peek(WIN(1)) == 14 && caught.error == 9);
	pae_pdpt[3] = 2 | P; /* a reserved bit: loading it is refused */
	CHECK_NOT_TCG("pdpte-reserved",
		      TRY("movl %0, %%cr3", "r"(pae_pdpt)) == 13 && !caught.error);
	pae_pdpt[3] = 0;
	write_cr3((u32)pae_pdpt);
	CHECK("pdpte-absent", peek((u32 *)0xc0000000) == 14 && caught.error == 0);
	write_cr0(read_cr0() & 0x7fffffff);
	write_cr4(read_cr4() & ~0x20u);
	write_cr3((u32)page_dir);
	write_cr0(read_cr0() | 0x80000000u);
	CHECK("back-from-pae", *WIN(3) == *(volatile u32 *)pages[3]);
}

/* ---- ring 3 ---- */

static int user(void (*code)(void), u32 eflags)
{
	caught.vector = -1;
	run_user(code, user_stack + sizeof(user_stack) - 16, eflags);
	return caught.vector;
}

static void test_ring3(void)
{
	CHECK("user-exit", user(user_exit, 0x202) == 0x80);
	CHECK("user-call-gate", user(user_gate, 0x202) == 0x80 && user_reports == 1 &&
					user_report[0] == 42 && user_report[1] == SEL_CODE);
	CHECK("user-cli", user(user_cli, 0x202) == 13 && !caught.error);
	CHECK("user-cli-iopl3", user(user_cli, 0x3002) == 0x80);
	CHECK("user-hlt", user(user_hlt, 0x202) == 13 && !caught.error);
	CHECK("user-in", user(user_in, 0x202) == 13 && !caught.error);
	CHECK("user-in-iopl3", user(user_in, 0x3202) == 0x80);
	CHECK("user-out-bitmap", user(user_out_allowed, 0x202) == 0x80);
	print("\n");
	CHECK("user-int-dpl", user(user_gate_bad, 0x202) == 13 && caught.error == 0x21 * 8 + 2);
	window_table[3] = (u32)pages[3] | W | P;
	invlpg(WIN(3));
	CHECK("user-read-kernel", user(user_kernel_read, 0x202) == 14 && caught.error == 5);
	CHECK("user-write-kernel", user(user_kernel_write, 0x202) == 14 && caught.error == 7);
	window_table[3] |= U;
	invlpg(WIN(3));
	CHECK("user-read-user", user(user_kernel_read, 0x202) == 0x80);
	window_table[3] = (u32)pages[3] | U | P;
	invlpg(WIN(3));
	CHECK("user-write-readonly", user(user_kernel_write, 0x202) == 14 && caught.error == 7);
	CHECK_NOT_TCG("ss-limit", user(user_ss_limit, 0x202) == 12 && !caught.error);
	write_cr0(read_cr0() | 0x40000);
	CHECK_NOT_TCG("ac", user(user_ac, 0x40202) == 17 && !caught.error);
	CHECK("ac-flag-clear", user(user_ac, 0x202) == 0x80);
}

/* ---- x87, SSE ---- */

static void test_floating(void)
{
	static const u32 four[4] = {0x3f800000, 0x40000000, 0x40400000, 0x40800000}; /* 1 2 3 4 */
	u32 sum[4], mxcsr, k;
	u64 bits;
	u16 status, control = 0x37f;
	static u8 image[512] __attribute__((aligned(16)));

	write_cr0((read_cr0() & ~4u) | 0x22);
	__asm__ volatile("fninit\n\tfld1\n\tfld1\n\tfaddp\n\tfsqrt\n\tfstpl %0" : "=m"(bits));
	report("x87-sqrt2", bits == 0x3ff6a09e667f3bcdull, "%x", L(bits));
	__asm__ volatile(
		"fldpi\n\tfldl2e\n\tfmulp\n\tfld1\n\tfxch\n\tfprem\n\tfstp %%st(1)\n\tfstpl %0"
		: "=m"(bits));
	report("x87-prem", bits == 0x3fe1091822daef5dull, "%x %x", L(bits >> 32), L(bits));
	__asm__ volatile("fninit\n\tfldz\n\tfld1\n\tfdivp\n\tfnstsw %0\n\tfninit" : "=m"(status));
	report("x87-status", !(status & 0x80) && status & 0x3c, "%x", L(status));
	/* unmasked: the next waiting instruction raises #MF */
	control = 0x37b;
	CHECK("mf",
	      TRY("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp\n\tfwait", "m"(control)) == 16);
	__asm__ volatile("fninit");

	write_cr4(read_cr4() | 0x600);
	__asm__ volatile("movups %1, %%xmm0\n\taddps %%xmm0, %%xmm0\n\tmulps %%xmm0, "
			 "%%xmm0\n\tmovups %%xmm0, %0"
			 : "=m"(sum)
			 : "m"(four));
	report("sse", sum[0] == 0x40800000 && sum[3] == 0x42800000, "%x %x", L(sum[0]), L(sum[3]));
	__asm__ volatile("movl $2, %%eax\n\tcvtsi2sdl %%eax, %%xmm1\n\tsqrtsd %%xmm1, "
			 "%%xmm1\n\tmovsd %%xmm1, %0"
			 : "=m"(bits)
			 :
			 : "eax");
	report("sse2-sqrt2", bits == 0x3ff6a09e667f3bcdull, "%x", L(bits));
	/* FXSAVE and back */
	memset(image, 0xee, sizeof(image));
	__asm__ volatile("fxsave %0\n\txorps %%xmm0, %%xmm0\n\tfxrstor %0\n\tmovups %%xmm0, %1"
			 : "+m"(image), "=m"(sum));
	report("fxsave", sum[0] == 0x40800000 && image[160] == 0 && image[163] == 0x40, "%x",
	       L(sum[0]));
	mxcsr = 0x1f80 & ~0x200u; /* division by zero unmasked */
	CHECK_NOT_TCG("xm", TRY("ldmxcsr %0\n\txorps %%xmm2, %%xmm2\n\tdivps %%xmm2, %%xmm0",
				"m"(mxcsr)) == 19);
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	mxcsr = 0xffff0000;
	CHECK_NOT_TCG("mxcsr-reserved", TRY("ldmxcsr %0", "m"(mxcsr)) == 13);
	CHECK("movaps-unaligned", TRY("movaps %0, %%xmm0", "m"(*(u8(*)[16])(image + 1))) == 13);
	write_cr4(read_cr4() & ~0x200u);
	CHECK("sse-without-osfxsr", TRY("addps %%xmm0, %%xmm0", ) == 6);
	write_cr4(read_cr4() | 0x200);
	write_cr0(read_cr0() | 8);
	CHECK("sse-nm", TRY("addps %%xmm0, %%xmm0", ) == 7);
	__asm__ volatile("clts");
	for (k = 0; k < 4; k++)
		sum[k] = 0;
}

/* ---- odds ---- */

static volatile u8 patch_code[64] __attribute__((aligned(64)));

static void test_self_modifying(void)
{
	u32 (*f)(void) = (u32(*)(void))(u32)patch_code;
	u32 k, sum = 0;

	/* mov eax, imm32; ret */
	patch_code[0] = 0xb8;
	patch_code[5] = 0xc3;
	for (k = 0; k < 1000; k++) {
		*(volatile u32 *)(patch_code + 1) = k;
		barrier();
		sum += f();
	}
	report("self-modifying", sum == 499500, "%d", L(sum));
	/* an instruction that changes the next one */
	__asm__ volatile("movl $0, %%eax\n\tmovb $0x40, 1f\n\tjmp 1f\n1:\n\tnop\n\tmovb $0x90, "
			 "1b\n\tmovl %%eax, %0"
			 : "=r"(sum)
			 :
			 : "eax", "memory");
	report("self-modifying-next", sum == 1, "%d", L(sum));
}

static void test_single_step(void)
{
	user_report[0] = 0;
	stepping = 1;
	__asm__ volatile(
		"pushfl\n\torl $0x100, (%%esp)\n\tpopfl\n\tnop\n\tnop\n\tnop\n\tpushfl\n\tandl "
		"$~0x100, (%%esp)\n\tpopfl"
		:
		:
		: "memory", "cc");
	stepping = 0;
	/* three NOPs, PUSHF, AND, and POPF itself: it cleared TF, but the trap is for the TF it
	 * began with */
	report("single-step", user_report[0] == 6, "%d", L(user_report[0]));
}

static u32 crc(u32 seed, const u8 *p, u32 n)
{
	u32 k;

	while (n--) {
		seed ^= *p++;
		for (k = 0; k < 8; k++)
			seed = seed >> 1 ^ (seed & 1 ? 0xedb88320 : 0);
	}
	return seed;
}

static void test_compute(void)
{
	u32 a = 0x12345678, b, k;
	u8 bcd = 0x45;

	__asm__ volatile("addb $0x38, %0\n\tdaa" : "+a"(bcd));
	report("daa", bcd == 0x83, "%x", L(bcd));
	__asm__ volatile("pushal\n\tmovl 28(%%esp), %%ecx\n\tpopal\n\tbswapl %0" : "+a"(a));
	report("bswap-pusha", a == 0x78563412, "%x", L(a));
	__asm__ volatile("enterl $16, $0\n\tmovl %%ebp, %0\n\tsubl %%esp, %0\n\tleavel" : "=r"(b));
	report("enter", b == 16, "%d", L(b));
	for (k = 0; k < 64; k++)
		pages[7][k] = (u8)(k * 7);
	b = ~crc(~0u, (u8 *)pages[7], 64);
	report("crc32", b == 0xd324a7d4, "%x", L(b));
	__asm__ volatile("movl $0x80000001, %%eax\n\tmovl $2, %%edx\n\tmovl $5, %%ecx\n\tdivl "
			 "%%ecx\n\tmovl %%eax, %0"
			 : "=m"(b)
			 :
			 : "eax", "edx", "ecx");
	report("div64", b == 0x80000000u, "%x", L(b)); /* 0x280000001 / 5 */
}

static void test_interrupt(void)
{
	u32 spins = 0;

	/* PIC: vectors 0x20 and 0x28, only IRQ 0 open; PIT: channel 0, one shot, about 2 ms */
	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	outb(0x21, 0x20);
	outb(0xa1, 0x28);
	outb(0x21, 4);
	outb(0xa1, 2);
	outb(0x21, 1);
	outb(0xa1, 1);
	outb(0x21, 0xfe);
	outb(0xa1, 0xff);
	outb(0x43, 0x34);
	outb(0x40, 2400 & 0xff);
	outb(0x40, 2400 >> 8);
	while (ticks < 5 && spins++ < 10)
		__asm__ volatile("sti; hlt; cli");
	report("pit-through-pic", ticks >= 5, "%d ticks", L(ticks));
	outb(0x21, 0xff);
}

void prot32_main(void)
{
	mask_pics();
	setup_tables();
	report("start", 1, "");
	test_exceptions();
	test_segments();
	test_paging();
	test_pae();
	test_ring3();
	test_floating();
	test_self_modifying();
	test_single_step();
	test_compute();
	test_interrupt();
	finish();
}
