// SPDX-License-Identifier: MIT
/*
 * What the engine counted, as text to where ANYVISOR_STATS says: a file, or "stderr".
 *
 * A vCPU's counters are written when it ends. VMMs usually just exit, so those that are left are
 * written when the process does; vCPUs are listed for that only where ANYVISOR_STATS is set.
 */
#include "kvm/kvm_priv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct x86_cpu **cpus;
static size_t nr_cpus;

static void write_out(const struct x86_cpu *c, const char *where)
{
	int fd;

	if (!strcmp(where, "stderr")) {
		x86_stats_write(c, STDERR_FILENO);
		return;
	}
	fd = open(where, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		return;
	x86_stats_write(c, fd);
	close(fd);
}

void kvm_stats_add(struct x86_cpu *c)
{
	struct x86_cpu **more;

	if (!getenv("ANYVISOR_STATS"))
		return;
	pthread_mutex_lock(&lock);
	more = realloc(cpus, (nr_cpus + 1) * sizeof(struct x86_cpu *));
	if (more) {
		cpus = more;
		cpus[nr_cpus++] = c;
	}
	pthread_mutex_unlock(&lock);
}

void kvm_stats_end(struct x86_cpu *c)
{
	const char *where = getenv("ANYVISOR_STATS");

	pthread_mutex_lock(&lock);
	for (size_t k = 0; k < nr_cpus; k++) {
		if (cpus[k] != c)
			continue;
		cpus[k] = cpus[--nr_cpus];
		if (where)
			write_out(c, where);
		break;
	}
	pthread_mutex_unlock(&lock);
}

static __attribute__((destructor)) void at_exit(void)
{
	const char *where = getenv("ANYVISOR_STATS");

	/* Whoever holds the lock now writes its own. */
	if (!where || pthread_mutex_trylock(&lock))
		return;
	for (size_t k = 0; k < nr_cpus; k++)
		write_out(cpus[k], where);
	pthread_mutex_unlock(&lock);
}
