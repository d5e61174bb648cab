// SPDX-License-Identifier: MIT
/*
 * The log's sink: one descriptor, opened once, written with one write(2) a message.
 *
 * Knows nothing of who logs. Uses raw system calls, because open/close/write of this process may be
 * our own shim's.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int av_log_limit = -1;

static int sink = -1;

static const char *const level_names[] = {
	[AV_LOG_ERROR] = "error",
	[AV_LOG_WARN] = "warn",
	[AV_LOG_INFO] = "info",
	[AV_LOG_DEBUG] = "debug",
};

static int level_by_name(const char *name)
{
	for (u32 i = 0; i < ARRAY_SIZE(level_names); i++)
		if (!strcmp(name, level_names[i]))
			return i;
	return -1;
}

static int open_sink(const char *path)
{
	int fd, high;

	if (!strcmp(path, "stderr"))
		return syscall(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	/* Out of the way of clients that count on the lowest free numbers. */
	high = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500);
	if (high < 0)
		return fd;
	syscall(SYS_close, fd);
	return high;
}

void av_log_init(void)
{
	const char *spec = getenv("ANYVISOR_LOG");
	int level = AV_LOG_INFO, err = errno;
	char path[4096];
	char *colon;

	if (!spec || !*spec || strlen(spec) >= sizeof(path) || sink >= 0)
		return;
	strcpy(path, spec);
	colon = strrchr(path, ':');
	if (colon && level_by_name(colon + 1) >= 0) {
		level = level_by_name(colon + 1);
		*colon = 0;
	}
	sink = open_sink(path);
	if (sink >= 0)
		av_log_limit = level;
	errno = err;
}

void av_log_write(enum av_log_level level, const char *fmt, ...)
{
	int err = errno, n, m;
	struct timespec ts;
	char line[1024];
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	n = snprintf(line, sizeof(line), "%lld.%06ld %s %ld: ", (long long)ts.tv_sec,
		     ts.tv_nsec / 1000, level_names[level], (long)syscall(SYS_gettid));
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	if (m > 0)
		n = MIN(n + m, (int)sizeof(line) - 1);
	/* A message that was cut short still ends its line. */
	if (n == sizeof(line) - 1)
		n--;
	line[n++] = '\n';
	if (sink >= 0 && syscall(SYS_write, sink, line, (size_t)n) < 0)
		errno = err;
	errno = err;
}
