// SPDX-License-Identifier: MIT
/*
 * KVM_GET_STATS_FD: statistics of a VM or a vCPU as a file (Linux Documentation/virt/kvm/api.rst,
 * "KVM_GET_STATS_FD").
 *
 * Owns the rows, the file's layout and its refreshing. The counters are others': a row says where
 * its number comes from. Names that KVM has too mean what they mean there; those of the engine
 * begin with "cpu-".
 *
 * The file is a memfd that clients read without our help, so its words have to be kept up to date:
 * when a vCPU leaves KVM_RUN, and every REFRESH_NS by a timer of the VM, from the first file on.
 * `lock` is a leaf; without it a late refresh could put back older numbers.
 */
#include "kvm/binstats.h"
#include "base/futex.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REFRESH_NS 100000000ull
#define NAME_SIZE  48 /* KVM's; readers take it from the header */
#define FILE_BYTES (2 * PAGE_SIZE)

/* ---- rows ---- */

enum source {
	FROM_EXIT,  /* vcpu->exits[index] */
	FROM_EXITS, /* their sum */
	FROM_CPU,   /* cpu->stats[index] */
	FROM_VCPU,  /* the u64 at that offset of the vCPU */
	FROM_VM,    /* the u64 at that offset of the VM */
	FROM_HALTED,
	FROM_VCPUS,
};

struct row {
	const char *name;
	u32 flags;
	s16 exponent;
	u8 source;
	u16 index;
};

#define COUNT	KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10
#define NOW	KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10
#define SECONDS KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10
#define YES_NO	KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN | KVM_STATS_BASE_POW10

static const struct row vcpu_rows[] = {
	{"exits", COUNT, 0, FROM_EXITS},
	{"io_exits", COUNT, 0, FROM_EXIT, X86_EXIT_IO},
	{"mmio_exits", COUNT, 0, FROM_EXIT, X86_EXIT_MMIO},
	{"halt_exits", COUNT, 0, FROM_EXIT, X86_EXIT_HLT},
	{"irq_window_exits", COUNT, 0, FROM_EXIT, X86_EXIT_IRQ_WINDOW},
	{"request_irq_exits", COUNT, 0, FROM_EXIT, X86_EXIT_REQUEST},
	{"signal_exits", COUNT, 0, FROM_VCPU, offsetof(struct kvm_vcpu, signal_exits)},
	{"hypercalls", COUNT, 0, FROM_VCPU, offsetof(struct kvm_vcpu, hypercalls)},
	{"irq_injections", COUNT, 0, FROM_CPU, X86_STAT_IRQS},
	{"tlb_flush", COUNT, 0, FROM_CPU, X86_STAT_TLB_FLUSHES},
	{"halt_wait_ns", SECONDS, -9, FROM_VCPU, offsetof(struct kvm_vcpu, halt_ns)},
	{"blocking", YES_NO, 0, FROM_HALTED},
#define X86_STAT(id, name, text) {"cpu-" name, COUNT, 0, FROM_CPU, X86_STAT_##id},
#include "cpu/x86/stats.inc"
#undef X86_STAT
};

static const struct row vm_rows[] = {
	{"remote_tlb_flush", COUNT, 0, FROM_VM, offsetof(struct kvm_vm, remote_tlb_flush)},
	{"remote_tlb_flush_requests", COUNT, 0, FROM_VM,
	 offsetof(struct kvm_vm, remote_tlb_flush_requests)},
	{"vcpus", NOW, 0, FROM_VCPUS},
};

/* ---- the file ---- */

struct descriptor {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset, bucket_size;
	char name[NAME_SIZE];
};

struct file {
	struct kvm_stats_header head;
	char id[NAME_SIZE];
	struct descriptor desc[];
	/* the numbers, a u64 each */
};

_Static_assert(sizeof(struct descriptor) == 16 + NAME_SIZE, "KVM's descriptor");
_Static_assert(sizeof(struct file) + ARRAY_SIZE(vcpu_rows) * (sizeof(struct descriptor) + 8) <=
		       FILE_BYTES,
	       "all rows fit the file");

struct kvm_binstats {
	int fd;
	struct file *file;
	u64 *data;
	const struct row *rows;
	u32 nr_rows;
	pthread_mutex_t lock;
};

static u64 number(const struct row *r, const struct kvm_vm *vm, const struct kvm_vcpu *v)
{
	u64 sum = 0;

	switch (r->source) {
	case FROM_EXIT:
		return READ_ONCE(v->exits[r->index]);
	case FROM_EXITS:
		for (u32 i = 0; i < ARRAY_SIZE(v->exits); i++)
			sum += READ_ONCE(v->exits[i]);
		return sum;
	case FROM_CPU:
		return READ_ONCE(v->cpu->stats[r->index]);
	case FROM_VCPU:
		return READ_ONCE(*(const u64 *)((const u8 *)v + r->index));
	case FROM_VM:
		return READ_ONCE(*(const u64 *)((const u8 *)vm + r->index));
	case FROM_HALTED:
		return READ_ONCE(v->halted);
	default:
		return LOAD_ACQUIRE(vm->nr_vcpus);
	}
}

static void refresh(struct kvm_binstats *s, const struct kvm_vm *vm, const struct kvm_vcpu *v)
{
	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < s->nr_rows; i++)
		WRITE_ONCE(s->data[i], number(&s->rows[i], vm, v));
	pthread_mutex_unlock(&s->lock);
}

static void describe(struct kvm_binstats *s, const char *id)
{
	struct file *f = s->file;

	f->head = (struct kvm_stats_header){
		.name_size = NAME_SIZE,
		.num_desc = s->nr_rows,
		.id_offset = offsetof(struct file, id),
		.desc_offset = sizeof(*f),
		.data_offset = sizeof(*f) + s->nr_rows * sizeof(f->desc[0]),
	};
	s->data = (u64 *)((u8 *)f + f->head.data_offset);
	snprintf(f->id, sizeof(f->id), "%s", id);
	for (u32 i = 0; i < s->nr_rows; i++) {
		f->desc[i] = (struct descriptor){
			.flags = s->rows[i].flags,
			.exponent = s->rows[i].exponent,
			.size = 1,
			.offset = i * sizeof(u64),
		};
		snprintf(f->desc[i].name, NAME_SIZE, "%s", s->rows[i].name);
	}
}

static void stats_free(struct kvm_binstats *s)
{
	if (!s)
		return;
	if (s->file)
		munmap(s->file, FILE_BYTES);
	if (s->fd >= 0)
		sys(SYS_close, s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* -ENOMEM, -EMFILE, ... */
static int stats_make(const struct row *rows, u32 n, const char *id, struct kvm_binstats **out)
{
	struct kvm_binstats *s = calloc(1, sizeof(*s));
	long rc;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->rows = rows;
	s->nr_rows = n;
	rc = s->fd = (int)sys(SYS_memfd_create, "kvm-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (rc >= 0)
		rc = sys(SYS_ftruncate, s->fd, FILE_BYTES);
	if (rc >= 0)
		rc = sys(SYS_mmap, 0, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (rc < 0 && rc > -(long)PAGE_SIZE) {
		stats_free(s);
		return (int)rc;
	}
	s->file = (struct file *)rc;
	/* The client's part is to read. Kernels before 5.1 cannot keep it from writing: then it
	 * spoils its own numbers. */
	sys(SYS_fcntl, s->fd, F_ADD_SEALS,
	    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	describe(s, id);
	*out = s;
	return 0;
}

/* A new descriptor with a position of its own. Where /proc is out of reach, all share one, which
 * begins anew with each. */
static int client_fd(const struct kvm_binstats *s)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = (int)sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || fd == -EMFILE || fd == -ENFILE)
		return fd;
	fd = (int)sys(SYS_fcntl, s->fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		sys(SYS_lseek, fd, 0, SEEK_SET);
	return fd;
}

/* ---- keeping it up to date ---- */

static void refresh_all(struct av_timer *t)
{
	struct kvm_vm *vm = container_of(t, struct kvm_vm, binstats_timer);
	struct kvm_binstats *s = LOAD_ACQUIRE(vm->binstats);
	u32 n = LOAD_ACQUIRE(vm->nr_vcpus);

	if (s)
		refresh(s, vm, NULL);
	for (u32 i = 0; i < n; i++) {
		s = LOAD_ACQUIRE(vm->vcpus[i]->binstats);
		if (s)
			refresh(s, vm, vm->vcpus[i]);
	}
	av_timer_arm(t, av_now_ns() + REFRESH_NS);
}

/* vm->lock or vcpu->lock held; without a timer the numbers are those of the last exit. */
static void begin_refreshing(struct kvm_vm *vm)
{
	if (__atomic_exchange_n(&vm->binstats_started, true, __ATOMIC_SEQ_CST))
		return;
	av_timer_init(&vm->binstats_timer, refresh_all);
	av_timer_arm(&vm->binstats_timer, av_now_ns() + REFRESH_NS);
}

void kvm_binstats_update(struct kvm_vcpu *v)
{
	if (unlikely(v->binstats))
		refresh(v->binstats, v->vm, v);
}

void kvm_binstats_destroy(struct kvm_vm *vm)
{
	if (vm->binstats_started)
		av_timer_cancel(&vm->binstats_timer, true);
	for (u32 i = 0; i < vm->nr_vcpus; i++)
		stats_free(vm->vcpus[i]->binstats);
	stats_free(vm->binstats);
}

/* ---- the ioctls ---- */

KVM_VM_IOCTL(kvm_vm_get_stats_fd)
{
	char id[NAME_SIZE];

	if (!vm->binstats) {
		struct kvm_binstats *s;
		int rc;

		snprintf(id, sizeof(id), "kvm-%ld", sys(SYS_getpid, 0));
		rc = stats_make(vm_rows, ARRAY_SIZE(vm_rows), id, &s);
		if (rc)
			return rc;
		STORE_RELEASE(vm->binstats, s);
		begin_refreshing(vm);
	}
	refresh(vm->binstats, vm, NULL);
	return client_fd(vm->binstats);
}

KVM_VCPU_OP(kvm_op_get_stats_fd)
{
	char id[NAME_SIZE];

	if (!v->binstats) {
		struct kvm_binstats *s;
		int rc;

		snprintf(id, sizeof(id), "kvm-%ld/vcpu-%u", sys(SYS_getpid, 0), v->id);
		rc = stats_make(vcpu_rows, ARRAY_SIZE(vcpu_rows), id, &s);
		if (rc)
			return rc;
		STORE_RELEASE(v->binstats, s);
		begin_refreshing(v->vm);
	}
	refresh(v->binstats, v->vm, v);
	return client_fd(v->binstats);
}
