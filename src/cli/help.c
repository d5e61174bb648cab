// SPDX-License-Identifier: MIT
/*
 * anyvisor help: the list of verbs, or one verb's options.
 */
#include "cli/cli.h"

#include <stdio.h>

static const struct cli_option options[] = {{NULL}};

static int help(char **args)
{
	const struct cli_verb *const *v, *one;

	if (args[0]) {
		one = cli_find(args[0]);
		if (!one) {
			cli_say("help: there is no command '%s'; 'anyvisor help' lists them",
				args[0]);
			return CLI_FAILED;
		}
		cli_usage(one);
		return 0;
	}
	printf("Usage: anyvisor COMMAND [options]\n\n"
	       "Linux's /dev/kvm as a user-space library with a software CPU.\n\nCommands:\n");
	for (v = cli_verbs; *v; v++)
		printf("  %-10s %s\n", (*v)->name, (*v)->help);
	printf("\n'anyvisor help COMMAND' shows a command's options. Example:\n"
	       "  anyvisor run -- qemu-system-x86_64 -accel kvm ...\n");
	return 0;
}

const struct cli_verb cli_help = {"help", "[COMMAND]", "Shows this list, or a command's options.",
				  options, help};
