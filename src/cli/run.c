// SPDX-License-Identifier: MIT
/*
 * anyvisor run: puts the library into the environment of a command and becomes that command.
 *
 * As it execs, the command's exit status, signals and terminal are its own.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *cpu, *engine, *log_sink, *stats;
static bool quiet, require_kvm, if_needed;

static const struct cli_option options[] = {
	{"cpu", "host|intel|amd", "whose CPU the guests see (default: the host's vendor)", &cpu},
	{"engine", "interp|translate",
	 "how guests are executed: the interpreter alone (default), or with a translator", &engine},
	{"if-needed", NULL, "use the real /dev/kvm where it works", .on = &if_needed},
	{"require-kvm", NULL, "refuse the software CPU: run only where the real /dev/kvm works",
	 .on = &require_kvm},
	{"log", "FILE[:LEVEL]",
	 "write the library's log (error, warn, info, debug) to FILE, or to 'stderr'", &log_sink},
	{"stats", "FILE", "append the engine's counters to FILE, or write them to 'stderr', at the end",
	 &stats},
	{"quiet", NULL, "do not say on stderr which CPU runs", .on = &quiet},
	{NULL},
};

static bool one_of(const char *value, const char *const *words)
{
	while (*words && strcmp(value, *words))
		words++;
	return *words;
}

static int check_values(void)
{
	static const char *const cpus[] = {"host", "intel", "amd", NULL};
	static const char *const engines[] = {"interp", "translate", NULL};

	if (cpu && !one_of(cpu, cpus)) {
		cli_say("run: --cpu is host, intel or amd, not '%s'", cpu);
		return CLI_FAILED;
	}
	if (engine && !one_of(engine, engines)) {
		cli_say("run: --engine is interp or translate, not '%s'", engine);
		return CLI_FAILED;
	}
	if (require_kvm && if_needed) {
		cli_say("run: --require-kvm and --if-needed exclude each other; --if-needed falls "
			"back to software");
		return CLI_FAILED;
	}
	return 0;
}

static int set_env(const char *name, const char *value)
{
	if (!setenv(name, value, 1))
		return 0;
	cli_say("cannot set %s: %s", name, strerror(errno));
	return CLI_FAILED;
}

static int set_preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD");
	size_t n = strlen(lib);
	char *both;
	int err;

	/* The dynamic linker splits its list there and knows no quoting. */
	if (strpbrk(lib, " :\t")) {
		cli_say("the path %s cannot be preloaded: it contains a space or colon; move the "
			"library elsewhere",
			lib);
		return CLI_FAILED;
	}
	if (!old || !*old)
		return set_env("LD_PRELOAD", lib);
	if (!strncmp(old, lib, n) && (!old[n] || strchr(" :", old[n])))
		return 0;
	if (asprintf(&both, "%s:%s", lib, old) < 0) {
		cli_say("out of memory");
		return CLI_FAILED;
	}
	err = set_env("LD_PRELOAD", both);
	free(both);
	return err;
}

/* The command may change its directory before the library opens the file. */
static int set_sink(const char *name, const char *sink)
{
	char dir[PATH_MAX], full[2 * PATH_MAX];

	if (sink[0] == '/' || !strncmp(sink, "stderr", 6) || !getcwd(dir, sizeof(dir)))
		return set_env(name, sink);
	snprintf(full, sizeof(full), "%s/%s", dir, sink);
	return set_env(name, full);
}

/* What --engine says, else what the environment does. */
static const char *engine_name(void)
{
	const char *env = getenv("ANYVISOR_ENGINE");

	if (engine)
		return engine;
	return env && !strcmp(env, "translate") ? "translate" : "interp";
}

int cli_preload(const char *cpu_name, const char *log)
{
	struct cli_finding f;
	char lib[PATH_MAX];
	int err;

	if (!cli_library(lib, &f)) {
		cli_say("%s %s", f.text, cli_reason_hint(f.reason));
		return CLI_FAILED;
	}
	err = set_preload(lib);
	if (!err && cpu_name)
		err = set_env("ANYVISOR_CPU", cpu_name);
	if (!err)
		err = set_env("ANYVISOR_ENGINE", engine_name());
	if (!err && log)
		err = set_sink("ANYVISOR_LOG", log);
	if (!err && stats)
		err = set_sink("ANYVISOR_STATS", stats);
	return err;
}

static int become(char **args)
{
	int status;

	execvp(args[0], args);
	status = errno == ENOENT ? CLI_NOT_FOUND : CLI_NOT_EXECUTABLE;
	cli_say("cannot run %s: %s", args[0], strerror(errno));
	return status;
}

static int check_client(const char *cmd)
{
	struct cli_finding f;

	cli_check_client(cmd, &f);
	if (f.reason == CLI_OK)
		return 0;
	cli_say("%s: %s %s", cli_reason_name(f.reason), f.text, cli_reason_hint(f.reason));
	if (f.reason == CLI_CLIENT_NOT_FOUND)
		return CLI_NOT_FOUND;
	return f.reason == CLI_CLIENT_NOT_EXECUTABLE ? CLI_NOT_EXECUTABLE : CLI_FAILED;
}

/* The sentence about the real device as a subordinate clause. */
static const char *because(enum cli_reason r)
{
	static const char *const clauses[CLI_NR_REASONS] = {
		[CLI_OK] = "though /dev/kvm works here (--if-needed would use it)",
		[CLI_DEVICE_MISSING] = "because /dev/kvm is missing",
		[CLI_PERMISSION] = "because this user may not open /dev/kvm",
		[CLI_KVM_NOT_WORKING] = "because /dev/kvm does not run guests here",
	};

	return clauses[r] ? clauses[r] : "because /dev/kvm cannot be opened";
}

static int run(char **args)
{
	struct cli_finding kvm = {.reason = CLI_DEVICE_MISSING};
	int err = check_values();

	if (err)
		return err;
	if (!args[0]) {
		cli_say("run: which command? Usage: anyvisor run [options] -- COMMAND [ARGUMENTS]");
		return CLI_FAILED;
	}
	if (require_kvm || if_needed || !quiet)
		cli_probe_kvm(&kvm);
	if (kvm.reason == CLI_OK && (require_kvm || if_needed)) {
		if (!quiet)
			cli_say("real KVM: /dev/kvm works here, so %s runs without the software "
				"CPU",
				args[0]);
		return become(args);
	}
	if (require_kvm) {
		cli_say("%s: %s --require-kvm refuses the software CPU; %s",
			cli_reason_name(kvm.reason), kvm.text, cli_reason_hint(kvm.reason));
		return CLI_FAILED;
	}
	err = check_client(args[0]);
	if (!err)
		err = cli_preload(cpu, log_sink);
	if (err)
		return err;
	if (!quiet)
		cli_say("software CPU (%s), %s; not an isolation boundary",
			strcmp(engine_name(), "translate") ? "interpreter" : "translator",
			because(kvm.reason));
	return become(args);
}

const struct cli_verb cli_run = {"run", "[options] [--] COMMAND [ARGUMENTS]",
				 "Runs a command on a software /dev/kvm.", options, run};
