// SPDX-License-Identifier: MIT
/*
 * The command's entry: the list of verbs, options, messages.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct cli_verb *const cli_verbs[] = {&cli_run,	  &cli_doctor, &cli_demo,
					    &cli_version, &cli_help,   NULL};

const struct cli_verb *cli_find(const char *name)
{
	const struct cli_verb *const *v = cli_verbs;

	while (*v && strcmp((*v)->name, name))
		v++;
	return *v;
}

void cli_say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "anyvisor: %s\n", line);
}

void cli_usage(const struct cli_verb *verb)
{
	const struct cli_option *o;
	char head[64];

	printf("Usage: anyvisor %s%s%s\n\n%s\n", verb->name, *verb->args ? " " : "", verb->args,
	       verb->help);
	printf("\nOptions:\n");
	for (o = verb->options; o->name; o++) {
		snprintf(head, sizeof(head), "--%s%s%s", o->name, o->arg ? " " : "",
			 o->arg ? o->arg : "");
		printf("  %-24s %s\n", head, o->help);
	}
	printf("  %-24s %s\n", "--help", "show this help");
	printf("\nThe manual page anyvisor-%s(1) says more.\n", verb->name);
}

static const struct cli_option *find_option(const struct cli_verb *verb, const char *word,
					    size_t len)
{
	const struct cli_option *o = verb->options;

	while (o->name && (strlen(o->name) != len || strncmp(o->name, word, len)))
		o++;
	return o->name ? o : NULL;
}

/* Takes the option at *args and its value; returns what follows it. */
static char **parse_one(const struct cli_verb *verb, char **args)
{
	const char *word = *args + 2, *eq = strchr(word, '=');
	const struct cli_option *o;

	o = find_option(verb, word, eq ? (size_t)(eq - word) : strlen(word));
	if (!o) {
		cli_say("%s: unknown option '%s'; see 'anyvisor help %s'", verb->name, *args,
			verb->name);
		return NULL;
	}
	if (!o->arg) {
		if (eq) {
			cli_say("%s: option '--%s' takes no value", verb->name, o->name);
			return NULL;
		}
		*o->on = true;
		return args + 1;
	}
	if (!eq && !args[1]) {
		cli_say("%s: option '--%s' needs a value (%s)", verb->name, o->name, o->arg);
		return NULL;
	}
	*o->value = eq ? eq + 1 : args[1];
	return args + (eq ? 1 : 2);
}

char **cli_parse(const struct cli_verb *verb, char **args, bool *help)
{
	*help = false;
	while (args && *args && **args == '-' && (*args)[1]) {
		if (!strcmp(*args, "--"))
			return args + 1;
		if (!strcmp(*args, "--help") || !strcmp(*args, "-h")) {
			*help = true;
			return args;
		}
		if (strncmp(*args, "--", 2)) {
			cli_say("%s: unknown option '%s'; see 'anyvisor help %s'", verb->name,
				*args, verb->name);
			return NULL;
		}
		args = parse_one(verb, args);
	}
	return args;
}

int main(int argc, char **argv)
{
	const struct cli_verb *verb;
	const char *name;
	char **rest;
	bool help;

	if (argc < 2) {
		cli_say("what shall be done? 'anyvisor help' lists the commands");
		return CLI_FAILED;
	}
	name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	if (!strcmp(name, "--version"))
		name = "version";
	verb = cli_find(name);
	if (!verb) {
		cli_say("there is no command '%s'; 'anyvisor help' lists them ('anyvisor run -- "
			"%s' runs a program)",
			name, name);
		return CLI_FAILED;
	}
	rest = cli_parse(verb, argv + 2, &help);
	if (!rest)
		return CLI_FAILED;
	if (help) {
		cli_usage(verb);
		return 0;
	}
	return verb->run(rest);
}
