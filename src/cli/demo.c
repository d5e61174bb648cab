// SPDX-License-Identifier: MIT
/*
 * anyvisor demo: boots the distribution's cloud kernel under an unmodified QEMU on the software
 * CPU, and watches its console for the guest's own word that it came up.
 */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU   "qemu-system-x86_64"
#define INITRD "demo-initramfs.cpio.gz"
#define MARKER "anyvisor-demo: ok"
#define APPEND "console=ttyS0 panic=-1 quiet"

static const char *smp = "1", *memory = "512", *kernel;
static bool quiet;

static const struct cli_option options[] = {
	{"smp", "N", "number of virtual CPUs (default 1)", &smp},
	{"memory", "MIB", "guest memory in MiB (default 512)", &memory},
	{"kernel", "FILE",
	 "a kernel with a serial console (default: the newest cloud kernel in /boot)", &kernel},
	{"quiet", NULL, "show only the result", .on = &quiet},
	{NULL},
};

static bool number(const char *text, long min, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text && !*end && n >= min && n <= max;
}

static bool is_cloud_kernel(const char *name)
{
	static const char tail[] = "-cloud-amd64";
	size_t n = strlen(name);

	return !strncmp(name, "vmlinuz-", 8) && n > sizeof(tail) &&
	       !strcmp(name + n - strlen(tail), tail);
}

/* The newest by version number. */
static bool newest_kernel(char path[PATH_MAX])
{
	DIR *dir = opendir("/boot");
	char best[NAME_MAX + 1] = "";
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		if (is_cloud_kernel(d->d_name) && strverscmp(d->d_name, best) > 0)
			snprintf(best, sizeof(best), "%s", d->d_name);
	}
	if (dir)
		closedir(dir);
	snprintf(path, PATH_MAX, "/boot/%s", best);
	return best[0];
}

static bool have(char kernel_path[PATH_MAX], char initrd[PATH_MAX])
{
	struct cli_finding f;
	bool all = true;

	cli_check_client(QEMU, &f);
	if (f.reason == CLI_CLIENT_NOT_FOUND) {
		cli_say("demo: " QEMU " is not installed; apt install qemu-system-x86 brings it");
		all = false;
	} else if (f.reason != CLI_OK) {
		cli_say("demo: %s %s", f.text, cli_reason_hint(f.reason));
		all = false;
	}
	if (kernel) {
		snprintf(kernel_path, PATH_MAX, "%s", kernel);
		if (access(kernel, R_OK)) {
			cli_say("demo: the kernel %s cannot be read: %s", kernel, strerror(errno));
			all = false;
		}
	} else if (!newest_kernel(kernel_path)) {
		cli_say("demo: no /boot/vmlinuz-*-cloud-amd64; apt install linux-image-cloud-amd64 "
			"brings one "
			"(or name a kernel with --kernel)");
		all = false;
	} else if (access(kernel_path, R_OK)) {
		cli_say("demo: the kernel %s cannot be read: %s (or name another with --kernel)",
			kernel_path, strerror(errno));
		all = false;
	}
	if (!cli_data_file(INITRD, initrd)) {
		cli_say("demo: the demo guest " INITRD
			" is missing; 'meson compile -C build' makes it");
		all = false;
	}
	return all;
}

static void __noreturn become_qemu(const char *kernel_path, const char *initrd, int out)
{
	const char *const args[] = {QEMU,	  "-machine",	 "pc",	       "-accel",  "kvm",
				    "-cpu",	  "host",	 "-m",	       memory,	  "-smp",
				    smp,	  "-nodefaults", "-nographic", "-serial", "stdio",
				    "-no-reboot", "-kernel",	 kernel_path,  "-initrd", initrd,
				    "-append",	  APPEND,	 NULL};
	int null = open("/dev/null", O_RDONLY);

	if (null >= 0)
		dup2(null, 0);
	dup2(out, 1);
	if (!cli_preload(NULL, NULL))
		execvp(QEMU, (char **)args);
	cli_say("demo: cannot run " QEMU ": %s", strerror(errno));
	_exit(CLI_FAILED);
}

/* Copies the console to our stdout; true when one of its lines is the marker. */
static bool watch_console(int fd)
{
	FILE *console = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	bool seen = false;

	while (console && getline(&line, &size, console) >= 0) {
		if (!quiet) {
			fputs(line, stdout);
			fflush(stdout);
		}
		line[strcspn(line, "\r\n")] = 0;
		seen = seen || !strcmp(line, MARKER);
	}
	free(line);
	if (console)
		fclose(console);
	else
		close(fd);
	return seen;
}

static int verdict(int status, bool seen)
{
	if (WIFSIGNALED(status))
		cli_say("demo: failed, QEMU died of %s", strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		cli_say("demo: failed, QEMU ended with status %d", WEXITSTATUS(status));
	else if (!seen)
		cli_say("demo: failed, QEMU ended but the guest never said '" MARKER "'");
	else {
		cli_say("demo: the guest booted on the software CPU and powered off");
		return 0;
	}
	return 1;
}

static int demo(char **args)
{
	char kernel_path[PATH_MAX], initrd[PATH_MAX];
	int fds[2], status = 0;
	bool seen;
	pid_t pid;

	if (args[0]) {
		cli_say("demo: takes no arguments; see 'anyvisor help demo'");
		return CLI_FAILED;
	}
	if (!number(smp, 1, 255) || !number(memory, 64, 1 << 20)) {
		cli_say("demo: --smp is 1 to 255, --memory is 64 to 1048576 (MiB)");
		return CLI_FAILED;
	}
	if (!have(kernel_path, initrd))
		return CLI_FAILED;
	if (pipe2(fds, O_CLOEXEC)) {
		cli_say("demo: no pipe could be made: %s", strerror(errno));
		return CLI_FAILED;
	}
	if (!quiet)
		cli_say("demo: booting %s under " QEMU
			" -accel kvm on the software CPU; not an isolation boundary",
			kernel_path);
	fflush(NULL);
	pid = fork();
	if (!pid)
		become_qemu(kernel_path, initrd, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		cli_say("demo: no process could be made: %s", strerror(errno));
		close(fds[0]);
		return CLI_FAILED;
	}
	seen = watch_console(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return verdict(status, seen);
}

const struct cli_verb cli_demo = {
	"demo", "[options]", "Boots a Linux guest under QEMU on the software CPU.", options, demo};
