// SPDX-License-Identifier: MIT
/*
 * The host CPU as the oracle: a case is entered and left by signals, whose frames carry the whole
 * of the state.
 *
 * An INT3 in the driver raises the first signal; its handler puts the case's state into the frame
 * and returns, into the case. The exception that ends the case raises the second; its handler takes
 * the state out and returns to the driver. Knows nothing of the engine.
 */
#include "insn.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define USER_CS32 0x23
#define USER_CS64 0x33
#define USER_SS	  0x2b
#define TRAP_INT3 3
/* Behind the 512 bytes of FXSAVE: what the kernel put into the frame, in its reserved words. */
#define SW_BYTES 464

static enum { IDLE, ENTER, RUNNING } volatile phase;
static const struct fuzz_case *now;
static struct fuzz_result *result;
static struct {
	gregset_t gregs;
	u8 fp[XS_SIZE];
} driver;
static u8 *alias; /* the arena's pages, writable */
static u8 pattern[NR_ARENA_PAGES][PAGE_SIZE];
static u64 pattern_seed = ~0ull;

static void die(const char *what)
{
	fprintf(stderr, "fuzz: %s: %s\n", what, strerror(errno));
	exit(2);
}

void silicon_init(void)
{
	static const int prot[NR_ARENA_PAGES] = {
		[PAGE_RO] = PROT_READ,
		[PAGE_RW] = PROT_READ | PROT_WRITE,
		[PAGE_RW2] = PROT_READ | PROT_WRITE,
		[PAGE_CODE] = PROT_READ | PROT_EXEC,
		[PAGE_CODE2] = PROT_READ | PROT_EXEC,
		[PAGE_SMC] = PROT_READ | PROT_WRITE | PROT_EXEC,
		[PAGE_SMC2] = PROT_READ | PROT_WRITE | PROT_EXEC,
	};
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	u8 *arena = mmap((void *)ARENA_BASE, ARENA_SIZE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);

	if (fd < 0 || arena != (u8 *)ARENA_BASE || ftruncate(fd, NR_ARENA_PAGES * PAGE_SIZE) < 0)
		die("no room for the arena");
	alias = mmap(NULL, NR_ARENA_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, fd, 0);
	if (alias == MAP_FAILED)
		die("mmap");
	for (u32 p = 0; p < NR_ARENA_PAGES; p++)
		if (prot[p] && mmap((void *)PAGE_AT(p), PAGE_SIZE, prot[p],
				    MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
				    (off_t)p * PAGE_SIZE) == MAP_FAILED)
			die("mmap");
	close(fd);
	memset(alias + PAGE_CODE * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memset(alias + PAGE_SMC * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	/* 64-bit code does without them, 32-bit code in a compatibility segment does not. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_SS));
}

static void prepare(const struct fuzz_case *f)
{
	u8 *code = alias + (f->smc ? PAGE_SMC : PAGE_CODE) * PAGE_SIZE;

	if (f->mem_seed != pattern_seed) {
		pattern_seed = f->mem_seed;
		for (u32 p = PAGE_RO; p <= PAGE_RW2; p++)
			fill_memory(f->mem_seed, pattern[p], p);
	}
	memcpy(alias, pattern, (PAGE_RW2 + 1) * PAGE_SIZE);
	/* Both pairs: code, and whatever the last case may have stored into the writable one. */
	memset(alias + PAGE_CODE * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memset(alias + PAGE_SMC * PAGE_SIZE, 0xcc, 2 * PAGE_SIZE);
	memcpy(code + f->at, f->code, f->len);
}

void silicon_run(const struct fuzz_case *f, struct fuzz_result *r)
{
	prepare(f);
	now = f;
	result = r;
	phase = ENTER;
	__asm__ volatile("int3" : : : "memory");
	phase = IDLE;
	memcpy(r->mem, alias + PAGE_RW * PAGE_SIZE, 2 * PAGE_SIZE);
	memcpy(r->mem[2], alias + PAGE_SMC * PAGE_SIZE, 2 * PAGE_SIZE);
}

/* ---- frames ---- */

static const u8 order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
			     REG_RSI, REG_RDI, REG_R8,	REG_R9,	 REG_R10, REG_R11,
			     REG_R12, REG_R13, REG_R14, REG_R15};

static void enter(ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
	const struct fuzz_state *s = &now->in;

	memcpy(driver.gregs, g, sizeof(driver.gregs));
	memcpy(driver.fp, fp, xl->size);
	for (u32 n = 0; n < 16; n++)
		g[order[n]] = (greg_t)s->gpr[n];
	g[REG_RIP] = (greg_t)s->rip;
	g[REG_EFL] = (greg_t)s->flags;
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | (now->bits == 8 ? USER_CS64 : USER_CS32);
	memcpy(fp, s->xs, SW_BYTES);
	memcpy(fp + X86_XS_EXTENDED, s->xs + X86_XS_EXTENDED, xl->size - X86_XS_EXTENDED);
	X86_FIELD(fp, X86_XS_BV, u64) =
		(X86_FIELD(fp, X86_XS_BV, u64) & ~xl->xcr0) | X86_FIELD(s->xs, X86_XS_BV, u64);
	phase = RUNNING;
}

static void leave(ucontext_t *uc, int vector)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
	struct fuzz_state *s = &result->out;

	result->vector = vector;
	result->error = (u32)g[REG_ERR];
	result->cr2 = (u64)g[REG_CR2];
	for (u32 n = 0; n < 16; n++)
		s->gpr[n] = (u64)g[order[n]];
	s->rip = (u64)g[REG_RIP];
	s->flags = (u64)g[REG_EFL];
	memcpy(s->xs, fp, xl->size);
	memcpy(g, driver.gregs, sizeof(driver.gregs));
	memcpy(fp, driver.fp, xl->size);
	phase = IDLE;
}

bool silicon_signal(int sig, void *siginfo, void *ucontext)
{
	ucontext_t *uc = ucontext;

	/* Alignment checks are the case's, and NT and ID would stay for the next one. */
	__asm__ volatile("pushf; andl $~0x244000, (%%rsp); popf" : : : "cc", "memory");
	switch (phase) {
	case ENTER:
		enter(uc);
		return true;
	case RUNNING:
		leave(uc, (int)uc->uc_mcontext.gregs[REG_TRAPNO]);
		return true;
	default:
		return false;
	}
}

bool silicon_hung(void *ucontext)
{
	__asm__ volatile("pushf; andl $~0x244000, (%%rsp); popf" : : : "cc", "memory");
	if (phase != RUNNING)
		return false;
	leave(ucontext, -1);
	return true;
}
