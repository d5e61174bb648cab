/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_STATS_FD through the public API: a file that describes itself, and numbers that move.
 */
#include "api.h"

#include <pthread.h>
#include <sys/resource.h>

static struct guest g;

static int setup(void **state)
{
	guest_make(&g);
	ok(g.vm, KVM_CREATE_IRQCHIP, 0);
	guest_start(&g);
	return 0;
}

static int teardown(void **state)
{
	guest_end(&g);
	return 0;
}

struct desc {
	u32 flags;
	int16_t exponent;
	u16 size;
	u32 offset, bucket_size;
	char name[];
};

struct stats {
	int fd;
	struct kvm_stats_header head;
	u8 *desc;
};

static const struct desc *desc_at(const struct stats *s, u32 i)
{
	return (const void *)(s->desc + i * (sizeof(struct desc) + s->head.name_size));
}

/* Opens the file and checks that it describes itself. */
static struct stats stats_open(int object)
{
	struct stats s = {.fd = ok(object, KVM_GET_STATS_FD, 0)};
	u32 size, end = 0;

	assert_int_equal(fcntl(s.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(read(s.fd, &s.head, sizeof(s.head)), sizeof(s.head));
	assert_int_equal(s.head.flags, 0);
	assert_true(s.head.num_desc > 0);
	assert_true(s.head.name_size >= 16);
	assert_true(s.head.desc_offset >= s.head.id_offset + s.head.name_size);
	assert_int_equal(s.head.desc_offset % 8, 0);
	assert_int_equal(s.head.data_offset % 8, 0);
	size = s.head.num_desc * (sizeof(struct desc) + s.head.name_size);
	assert_true(s.head.data_offset >= s.head.desc_offset + size);
	s.desc = malloc(size);
	assert_int_equal(pread(s.fd, s.desc, size, s.head.desc_offset), size);
	for (u32 i = 0; i < s.head.num_desc; i++) {
		const struct desc *d = desc_at(&s, i);

		assert_in_range(strnlen(d->name, s.head.name_size), 1, s.head.name_size - 1);
		assert_int_equal(d->size, 1);
		assert_int_equal(d->bucket_size, 0);
		assert_int_equal(d->offset, end);
		end += 8 * d->size;
		for (u32 k = 0; k < i; k++)
			assert_string_not_equal(d->name, desc_at(&s, k)->name);
	}
	return s;
}

static void stats_close(struct stats *s)
{
	free(s->desc);
	assert_int_equal(close(s->fd), 0);
}

static u64 stat_now(const struct stats *s, const char *name)
{
	for (u32 i = 0; i < s->head.num_desc; i++) {
		const struct desc *d = desc_at(s, i);
		u64 v;

		if (strcmp(d->name, name))
			continue;
		assert_int_equal(pread(s->fd, &v, 8, s->head.data_offset + d->offset), 8);
		return v;
	}
	print_error("no statistic %s\n", name);
	fail();
	return 0;
}

static void vm_file(void **state)
{
	struct stats s = stats_open(g.vm);
	u8 *page = map_pages(1);
	u64 before = stat_now(&s, "remote_tlb_flush_requests");
	char id[64] = {0};

	assert_int_equal(pread(s.fd, id, s.head.name_size, s.head.id_offset), s.head.name_size);
	assert_memory_equal(id, "kvm-", 4);
	assert_int_equal(stat_now(&s, "vcpus"), 1);
	set_region_at(g.vm, 1, 0, 0x40000, PAGE, page);
	set_region_at(g.vm, 1, 0, 0x40000, 0, page);
	stats_close(&s);
	s = stats_open(g.vm);
	assert_true(stat_now(&s, "remote_tlb_flush_requests") > before);
	stats_close(&s);
	munmap(page, PAGE);
}

/* Numbers are exact when KVM_RUN has returned. */
static void vcpu_file(void **state)
{
	struct stats s = stats_open(g.vcpu);
	u64 io, mmio, exits;
	char id[64] = {0};

	assert_int_equal(pread(s.fd, id, s.head.name_size, s.head.id_offset), s.head.name_size);
	assert_memory_equal(id, "kvm-", 4);
	assert_non_null(strstr(id, "/vcpu-0"));
	io = stat_now(&s, "io_exits");
	mmio = stat_now(&s, "mmio_exits");
	exits = stat_now(&s, "exits");
	g_outb(&g, 0x80, 1);
	g_outb(&g, 0x80, 2);
	g_es(&g, 0x2000);
	g_store8(&g, 0, 1);
	g_done(&g);
	for (int i = 0; i < 3; i++)
		guest_run(&g);
	assert_int_equal(stat_now(&s, "io_exits"), io + 2);
	assert_int_equal(stat_now(&s, "mmio_exits"), mmio + 1);
	guest_done(&g);
	assert_int_equal(stat_now(&s, "io_exits"), io + 3);
	assert_true(stat_now(&s, "exits") >= exits + 4);
	assert_int_equal(stat_now(&s, "blocking"), 0);
	stats_close(&s);
}

/* Until it is kicked. */
static void *run(void *arg)
{
	fails(EINTR, g.vcpu, KVM_RUN, 0);
	return NULL;
}

/* A guest that never leaves, and one that sleeps, are seen from outside all the same. */
static void seen_from_outside(void **state)
{
	struct stats s = stats_open(g.vcpu);
	struct kvm_regs r = {.rip = GUEST_CODE, .rsp = 0x8000, .rflags = 2};
	pthread_t t;
	void *ret;
	u64 first;

	/* mov ax, [PIC's port 0x21] for ever, until [0x600] is set; then sleep */
	code(&g, 0xe4, 0x21, 0x80, 0x3e, LE16(0x600), 0, 0x74, (u8)-9, 0xf4);
	ok(g.vcpu, KVM_SET_REGS, &r);
	assert_int_equal(pthread_create(&t, NULL, run, NULL), 0);
	first = stat_now(&s, "cpu-pio");
	while (stat_now(&s, "cpu-pio") == first)
		sleep_ms(5);
	assert_int_equal(stat_now(&s, "io_exits"), 0);
	__atomic_store_n(&g.ram[0x600], 1, __ATOMIC_SEQ_CST);
	while (!stat_now(&s, "blocking"))
		sleep_ms(5);
	assert_int_equal(anyvisor_kick(g.vcpu), 0);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_true(stat_now(&s, "halt_wait_ns") > 0);
	assert_true(stat_now(&s, "signal_exits") > 0);
	assert_int_equal(stat_now(&s, "blocking"), 0);
	stats_close(&s);
}

static void file_rules(void **state)
{
	struct stats s = stats_open(g.vcpu), other = stats_open(g.vcpu);
	struct rlimit old, none;
	u64 word;
	void *p;
	int fd;

	/* Each fd has a place of its own, both behind the header now. */
	assert_int_equal(lseek(s.fd, 0, SEEK_CUR), sizeof(s.head));
	assert_int_equal(lseek(s.fd, 0, SEEK_SET), 0);
	assert_int_equal(lseek(other.fd, 0, SEEK_CUR), sizeof(s.head));
	/* It is there to be read. */
	assert_int_equal(write(s.fd, "x", 1), -1);
	assert_int_equal(pwrite(s.fd, "x", 1, 0), -1);
	assert_int_not_equal(ftruncate(s.fd, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	assert_ptr_equal(p, MAP_FAILED);
	assert_int_equal(pread(s.fd, &word, 8, 1 << 20), 0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	fd = anyvisor_ioctl(g.vcpu, KVM_GET_STATS_FD, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(fd, -1);
	fails(ENOTTY, g.dev, KVM_GET_STATS_FD, 0);
	assert_int_equal(ok(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD), 1);

	/* The file outlives what it was about. */
	guest_end(&g);
	assert_int_equal(stat_now(&s, "io_exits"), 0);
	guest_make(&g);
	guest_start(&g);
	stats_close(&s);
	stats_close(&other);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vm_file),
		T(vcpu_file),
		T(seen_from_outside),
		T(file_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
