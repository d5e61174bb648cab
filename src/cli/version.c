// SPDX-License-Identifier: MIT
/*
 * anyvisor version.
 */
#include "cli/cli.h"

#include <stdio.h>

static const struct cli_option options[] = {{NULL}};

static int version(char **args)
{
	struct cli_finding f;
	char lib[PATH_MAX];

	printf("anyvisor %s\n", ANYVISOR_VERSION);
	cli_library(lib, &f);
	printf("library: %s\n", f.text);
	return f.reason == CLI_OK ? 0 : CLI_FAILED;
}

const struct cli_verb cli_version = {"version", "", "Shows the version and where the library is.",
				     options, version};
