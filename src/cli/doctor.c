// SPDX-License-Identifier: MIT
/*
 * anyvisor doctor: what the machine has, what works, and what would keep a command from running.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static bool json;

static const struct cli_option options[] = {
	{"json", NULL, "print one JSON object", .on = &json},
	{NULL},
};

struct check {
	const char *name;
	bool needed; /* 'anyvisor run' cannot do without */
	struct cli_finding f;
};

static bool print_json(const struct check *checks, int n, bool works)
{
	json_t *list = json_array(), *root;
	char *text;
	int i;

	for (i = 0; i < n; i++) {
		const struct check *c = &checks[i];

		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:b, s:b, s:s, s:s}", "check", c->name,
						"reason", cli_reason_name(c->f.reason), "ok",
						c->f.reason == CLI_OK, "needed", c->needed, "text",
						c->f.text, "hint", cli_reason_hint(c->f.reason)));
	}
	root = json_pack("{s:s, s:b, s:o}", "version", ANYVISOR_VERSION, "run_works", works,
			 "checks", list);
	text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	if (text)
		puts(text);
	free(text);
	json_decref(root);
	return text;
}

static void print_text(const struct check *checks, int n, bool works)
{
	int i;

	for (i = 0; i < n; i++) {
		const struct check *c = &checks[i];
		const char *hint = cli_reason_hint(c->f.reason);

		printf("%-9s %-21s %s\n", c->name, cli_reason_name(c->f.reason), c->f.text);
		if (*hint)
			printf("%-9s %-21s -> %s\n", "", "", hint);
	}
	printf("\n'anyvisor run' will %s here%s.\n", works ? "work" : "not work",
	       n > 3 ? " with this command" : "");
}

static int doctor(char **args)
{
	struct check checks[4] = {{"cpu"}, {"kvm"}, {"software", true}, {"command", true}};
	int n = args[0] ? 4 : 3, i;
	bool works = true;

	cli_probe_cpu(&checks[0].f);
	cli_probe_kvm(&checks[1].f);
	/* What it can do counts for more than what it says of itself: some hypervisors hide the
	 * bits. */
	if (checks[0].f.reason == CLI_NO_CPU_BIT && checks[1].f.reason == CLI_OK)
		cli_find_that(
			&checks[0].f, CLI_OK,
			"The CPU shows neither VMX nor SVM, but /dev/kvm works all the same.");
	cli_probe_software(&checks[2].f);
	if (args[0])
		cli_check_client(args[0], &checks[3].f);
	for (i = 0; i < n; i++)
		works = works && (!checks[i].needed || checks[i].f.reason == CLI_OK);
	if (!json) {
		print_text(checks, n, works);
	} else if (!print_json(checks, n, works)) {
		cli_say("doctor: out of memory");
		return CLI_FAILED;
	}
	return works ? 0 : 1;
}

const struct cli_verb cli_doctor = {
	"doctor", "[options] [-- COMMAND]",
	"Says what this machine has and whether 'anyvisor run' will work.", options, doctor};
