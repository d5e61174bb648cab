/* SPDX-License-Identifier: MIT */
/*
 * Inside the command `anyvisor`: verbs, their options, and what can be wrong on a machine.
 *
 * The command is a program of its own. It uses the library only as any client does, by preloading
 * it or through the public API, and looks at /dev/kvm by direct system calls, as it may itself run
 * under the library.
 */
#ifndef AV_CLI_CLI_H
#define AV_CLI_CLI_H

#include "base/base.h"

#include <limits.h>

/* Exit statuses of our own, as env(1) and timeout(1) have them; others are the client's. */
enum { CLI_FAILED = 125, CLI_NOT_EXECUTABLE = 126, CLI_NOT_FOUND = 127 };

struct cli_option {
	const char *name; /* without the dashes */
	const char *arg;  /* what stands for its value in the help; NULL: a switch */
	const char *help;
	const char **value;
	bool *on; /* of a switch */
};

struct cli_verb {
	const char *name;
	const char *args; /* after the options, in the help */
	const char *help; /* one line */
	const struct cli_option
		*options;	 /* ends with a NULL name; --help is understood everywhere */
	int (*run)(char **args); /* what follows the options; returns the exit status */
};

extern const struct cli_verb cli_run, cli_doctor, cli_demo, cli_version, cli_help;
extern const struct cli_verb *const cli_verbs[]; /* ends with NULL */

const struct cli_verb *cli_find(const char *name);
/* Takes options from args up to the first that is none, or behind "--"; says what is wrong on
 * stderr and returns NULL. */
char **cli_parse(const struct cli_verb *verb, char **args, bool *help);
void cli_usage(const struct cli_verb *verb);
/* "anyvisor: ..." on stderr. */
void cli_say(const char *fmt, ...) __printf(1, 2);

/* ---- what can be wrong; the names are stable and appear in doctor's output ---- */
enum cli_reason {
	CLI_OK,
	CLI_DEVICE_MISSING,
	CLI_PERMISSION,
	CLI_DEVICE_ERROR,
	CLI_NO_CPU_BIT,
	CLI_KVM_NOT_WORKING,
	CLI_SOFTWARE_NOT_WORKING,
	CLI_LIBRARY_MISSING,
	CLI_STATIC_CLIENT,
	CLI_SETUID_CLIENT,
	CLI_OTHER_ARCHITECTURE,
	CLI_OTHER_LIBC,
	CLI_CLIENT_NOT_FOUND,
	CLI_CLIENT_NOT_EXECUTABLE,
	CLI_NR_REASONS,
};

struct cli_finding {
	enum cli_reason reason;
	char text[512]; /* one sentence */
};

const char *cli_reason_name(enum cli_reason r);
const char *cli_reason_hint(enum cli_reason r); /* what to do next; "" when nothing */
void cli_find_that(struct cli_finding *f, enum cli_reason r, const char *fmt, ...) __printf(3, 4);

/* client.c: can this command be run with the library preloaded? */
void cli_check_client(const char *cmd, struct cli_finding *f);

/* library.c: the path of libanyvisor.so beside this program or in its prefix. false: *f says so. */
bool cli_library(char path[PATH_MAX], struct cli_finding *f);
/* A data file of ours: "guest/NAME" in the build tree, "share/anyvisor/NAME" when installed. */
bool cli_data_file(const char *name, char path[PATH_MAX]);

/* probe.c: each runs a small guest in a child process, under a time limit. */
void cli_probe_cpu(struct cli_finding *f);
void cli_probe_kvm(struct cli_finding *f);
void cli_probe_software(struct cli_finding *f);

/* run.c: puts the library and its options into the environment. 0, or a status after saying why
 * not. */
int cli_preload(const char *cpu, const char *log);

#endif
