// SPDX-License-Identifier: MIT
/*
 * Where the library and our data files are: relative to this program, in the build tree or in an
 * installed prefix.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ANYVISOR_LIBDIR: the library directory relative to the directory of programs, from the build. */
static const char *const library_places[] = {"src/shim/libanyvisor.so", "libanyvisor.so",
					     ANYVISOR_LIBDIR "/libanyvisor.so",
					     "../lib/libanyvisor.so"};

static bool own_directory(char dir[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", dir, PATH_MAX - 1);
	char *slash;

	if (n <= 0)
		return false;
	dir[n] = 0;
	slash = strrchr(dir, '/');
	if (!slash)
		return false;
	*slash = 0;
	return true;
}

static bool file_beside(const char *place, char path[PATH_MAX])
{
	char dir[PATH_MAX], *clean;
	int n;

	if (!own_directory(dir))
		return false;
	n = snprintf(path, PATH_MAX, "%s/%s", dir, place);
	if (n < 0 || n >= PATH_MAX || access(path, R_OK))
		return false;
	clean = realpath(path, dir);
	if (clean)
		memcpy(path, clean, strlen(clean) + 1);
	return true;
}

bool cli_library(char path[PATH_MAX], struct cli_finding *f)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(library_places); i++) {
		if (file_beside(library_places[i], path)) {
			cli_find_that(f, CLI_OK, "%s", path);
			return true;
		}
	}
	cli_find_that(f, CLI_LIBRARY_MISSING,
		      "libanyvisor.so was found neither beside this program nor in its prefix.");
	return false;
}

bool cli_data_file(const char *name, char path[PATH_MAX])
{
	static const char *const dirs[] = {"guest", "../share/anyvisor"};
	char place[256];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(place, sizeof(place), "%s/%s", dirs[i], name);
		if (file_beside(place, path))
			return true;
	}
	return false;
}
