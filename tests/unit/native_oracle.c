// SPDX-License-Identifier: MIT
/*
 * See native_oracle.h. Knows nothing of the engine.
 */
#include "native_oracle.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct oracle *oracle;
u8 *arena;

static u8 *code;
static u32 at, xcr0_low;
static volatile bool running;
static u64 resume;

static void b(u32 v)
{
	code[at++] = (u8)v;
}

static void put(const char *p, u32 n)
{
	memcpy(code + at, p, n);
	at += n;
}

/* opcode bytes, then [disp32] with register field reg. */
static void absolute(const char *op, u32 n, u32 reg, const void *p)
{
	u32 disp = (u32)(u64)p;

	put(op, n);
	b(0x04 | (reg & 7) << 3);
	b(0x25);
	memcpy(code + at, &disp, 4);
	at += 4;
}

static void mov_abs(bool store, u32 reg, const void *p)
{
	char op[2] = {(char)(0x48 | (reg >> 3) << 2), store ? (char)0x89 : (char)0x8b};

	absolute(op, 2, reg, p);
}

static void mask_regs(void)
{
	b(0xb8); /* mov eax, xcr0 */
	memcpy(code + at, &xcr0_low, 4);
	at += 4;
	put("\x31\xd2", 2); /* xor edx, edx */
}

static void *low(size_t n, int prot)
{
	void *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

void oracle_init(u64 xcr0)
{
	if (oracle)
		return;
	oracle = low(ALIGN_UP(sizeof(*oracle), 4096), PROT_READ | PROT_WRITE);
	code = low(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	arena = low(ARENA_PAGES * 4096, PROT_READ | PROT_WRITE);
	mprotect(arena, 4096, PROT_NONE);
	mprotect(arena + (ARENA_PAGES - 1) * 4096, 4096, PROT_NONE);
	xcr0_low = (u32)xcr0;
}

void oracle_run(const u8 *insn, u32 len, u32 bits)
{
	struct oracle *o = oracle;

	at = 0;
	put("\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10);
	mov_abs(true, 4, &o->save_rsp);
	put("\xb8\x2b\x00\x00\x00\x8e\xd8\x8e\xc0",
	    9); /* mov eax, 0x2b; mov ds, eax; mov es, eax */
	absolute("\x0f\xae", 2, 3, &o->host_mxcsr);
	mask_regs();
	absolute("\x48\x0f\xae", 3, 5, o->in.xs);
	absolute("\xff", 1, 6, &o->in.flags);
	b(0x9d);
	for (u32 r = 0; r < 16; r++)
		mov_abs(false, r, &o->in.gpr[r]);
	if (bits == 4) {
		absolute("\xff", 1, 5, &o->far);
		o->far.off = (u32)(u64)(code + at);
		o->far.cs = 0x23;
	}
	memcpy(code + at, insn, len);
	at += len;
	if (bits == 4) {
		u32 back = (u32)(u64)(code + at + 7);

		b(0xea);
		memcpy(code + at, &back, 4);
		at += 4;
		put("\x33\x00", 2);
	}
	resume = (u64)(code + at);
	for (u32 r = 0; r < 16; r++)
		mov_abs(true, r, &o->out.gpr[r]);
	mov_abs(false, 4, &o->save_rsp);
	b(0x9c);
	absolute("\x8f", 1, 0, &o->out.flags);
	mask_regs();
	absolute("\x48\x0f\xae", 3, 4, o->out.xs);
	put("\xdb\xe3", 2);
	absolute("\x0f\xae", 2, 2, &o->host_mxcsr);
	put("\xc5\xf8\x77", 3);
	put("\x6a\x02\x9d", 3);
	put("\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 11);

	o->trap = -1;
	memset(o->out.xs, 0, sizeof(o->out.xs));
	running = true;
	((void (*)(void))code)();
	running = false;
}

bool oracle_signal(int sig, void *siginfo, void *ucontext)
{
	greg_t *r = ((ucontext_t *)ucontext)->uc_mcontext.gregs;

	if (!running)
		return false;
	running = false;
	oracle->trap = (int)r[REG_TRAPNO];
	oracle->fault_address = (u64)((siginfo_t *)siginfo)->si_addr;
	r[REG_RIP] = (greg_t)resume;
	r[REG_CSGSFS] = (r[REG_CSGSFS] & ~0xffffll) | 0x33;
	return true;
}
