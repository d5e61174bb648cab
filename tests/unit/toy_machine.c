// SPDX-License-Identifier: MIT
/*
 * The toy machine's operations. Knows nothing of any CPU.
 */
#include "toy_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool toy_page(void *m, u64 gpa, enum machine_access access, bool smm,
		     struct machine_page *out)
{
	struct toy *t = m;

	t->pages++;
	if (gpa >= t->ram_size)
		return false;
	out->host = t->ram + gpa;
	out->attr = toy_attr(t, gpa);
	out->writable = gpa - t->rom >= t->rom_size;
	if (access == MACHINE_W && out->writable && t->dirty[gpa >> PAGE_SHIFT] < 255)
		t->dirty[gpa >> PAGE_SHIFT]++;
	return true;
}

static void toy_dirty(void *m, u64 gpa, bool smm)
{
	struct toy *t = m;

	if (t->dirty[gpa >> PAGE_SHIFT] < 255)
		t->dirty[gpa >> PAGE_SHIFT]++;
}

static enum machine_io toy_device(struct toy *t, u64 addr, void *data, u32 size, bool write,
				  bool pio)
{
	struct toy_access *a = &t->log[t->nlog % TOY_MAX_ACCESSES];

	t->nlog++;
	*a = (struct toy_access){.addr = addr, .size = size, .write = write, .pio = pio};
	if (write) {
		memcpy(&a->data, data, size);
	} else if (t->answer == MACHINE_DONE) {
		a->data = t->value;
		memcpy(data, &t->value, size);
		t->value += t->step;
	}
	return t->answer;
}

static enum machine_io toy_mmio(void *m, u64 gpa, void *data, u32 size, bool write)
{
	return toy_device(m, gpa, data, size, write, false);
}

static enum machine_io toy_pio(void *m, u16 port, void *data, u32 size, bool write)
{
	return toy_device(m, port, data, size, write, true);
}

static bool toy_gpa_of(void *m, u64 host, bool smm, u64 *gpa)
{
	struct toy *t = m;

	*gpa = host - (u64)t->ram;
	return *gpa < t->ram_size;
}

static int toy_rdmsr(void *m, u32 msr, u64 *value)
{
	struct toy *t = m;

	t->last_msr = msr;
	*value = t->msr_value;
	return t->msr_error;
}

static int toy_wrmsr(void *m, u32 msr, u64 value)
{
	struct toy *t = m;

	t->last_msr = msr;
	if (!t->msr_error)
		t->msr_value = value;
	return t->msr_error;
}

static u8 toy_cr8(void *m)
{
	return ((struct toy *)m)->cr8;
}

static void toy_set_cr8(void *m, u8 value)
{
	((struct toy *)m)->cr8 = value;
}

static bool toy_irq_ready(void *m)
{
	return ((struct toy *)m)->irq >= 0;
}

static int toy_irq_ack(void *m)
{
	struct toy *t = m;
	int vector = t->irq;

	t->irq = -1;
	return vector;
}

static int toy_hypercall(void *m)
{
	return -ENOSYS;
}

static void toy_tsc_changed(void *m)
{
}

static void toy_purge_writes(void *m, u8 *host_page, void (*serve)(void *cpu), void *cpu)
{
	struct toy *t = m;

	t->purges++;
	serve(cpu);
}

static void toy_world_stop(void *m, void (*serve)(void *cpu), void *cpu)
{
	struct toy *t = m;

	t->stops++;
	t->stopped = true;
	serve(cpu);
	if (t->on_stop)
		t->on_stop(t);
}

static void toy_world_resume(void *m)
{
	struct toy *t = m;

	t->resumes++;
	t->stopped = false;
}

const struct machine_ops toy_ops = {
	.page = toy_page,
	.dirty = toy_dirty,
	.gpa_of = toy_gpa_of,
	.mmio = toy_mmio,
	.pio = toy_pio,
	.rdmsr = toy_rdmsr,
	.wrmsr = toy_wrmsr,
	.cr8 = toy_cr8,
	.set_cr8 = toy_set_cr8,
	.irq_ready = toy_irq_ready,
	.irq_ack = toy_irq_ack,
	.hypercall = toy_hypercall,
	.tsc_changed = toy_tsc_changed,
	.purge_writes = toy_purge_writes,
	.world_stop = toy_world_stop,
	.world_resume = toy_world_resume,
};

int toy_create(struct toy *t, u64 ram_size)
{
	memset(t, 0, sizeof(*t));
	t->ram_size = ram_size;
	t->irq = -1;
	t->ram = aligned_alloc(PAGE_SIZE, ram_size);
	t->attr = calloc(ram_size >> PAGE_SHIFT, 1);
	t->dirty = calloc(ram_size >> PAGE_SHIFT, 1);
	if (!t->ram || !t->attr || !t->dirty) {
		toy_destroy(t);
		return -ENOMEM;
	}
	memset(t->ram, 0, ram_size);
	return 0;
}

void toy_destroy(struct toy *t)
{
	free(t->ram);
	free(t->attr);
	free(t->dirty);
	t->ram = t->attr = t->dirty = NULL;
}
