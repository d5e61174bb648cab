// SPDX-License-Identifier: MIT
/*
 * Looks at a command before it is started: will the dynamic linker load the library into it?
 *
 * Reads ELF headers and the first line of scripts; runs nothing.
 */
#include "cli/cli.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_INTERPRETERS 4
#define HEAD_BYTES	 4096

/* As execvp(3) looks it up. 0, ENOENT, or EACCES when all it found may not be executed. */
static int find_command(const char *cmd, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;
	int err = ENOENT;
	struct stat st;

	if (strchr(cmd, '/')) {
		snprintf(path, PATH_MAX, "%s", cmd);
		if (stat(path, &st))
			return errno;
		return S_ISREG(st.st_mode) && !access(path, X_OK) ? 0 : EACCES;
	}
	if (!*cmd)
		return ENOENT;
	for (dirs = dirs ? dirs : "/bin:/usr/bin";; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dirs), dirs,
			 end == dirs ? "" : "/", cmd);
		if (!stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!access(path, X_OK))
				return 0;
			err = EACCES;
		}
		if (!*end)
			return err;
	}
}

/* Will the kernel start it with AT_SECURE, so that the dynamic linker ignores the environment? */
static bool gains_rights(int fd, const struct stat *st)
{
	struct statvfs fs;
	char cap[64];

	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (!fstatvfs(fd, &fs) && fs.f_flag & ST_NOSUID)
		return false;
	if (st->st_mode & S_ISUID && st->st_uid != getuid())
		return true;
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getgid())
		return true;
	return getuid() && fgetxattr(fd, "security.capability", cap, sizeof(cap)) > 0;
}

/* The loader that a dynamic program names; "" for a static one, NULL where the headers make no
 * sense. */
static const char *elf_loader(int fd, const Elf64_Ehdr *eh, char path[PATH_MAX])
{
	Elf64_Phdr ph;
	int i;

	path[0] = 0;
	for (i = 0; i < eh->e_phnum; i++) {
		off_t at = (off_t)eh->e_phoff + (off_t)i * eh->e_phentsize;

		if (pread(fd, &ph, sizeof(ph), at) != sizeof(ph))
			return NULL;
		if (ph.p_type != PT_INTERP)
			continue;
		if (ph.p_filesz == 0 || ph.p_filesz >= PATH_MAX ||
		    pread(fd, path, ph.p_filesz, (off_t)ph.p_offset) != (ssize_t)ph.p_filesz)
			return NULL;
		path[ph.p_filesz] = 0;
		return path;
	}
	return path;
}

static void check_elf(const char *path, int fd, const char *head, size_t len, struct cli_finding *f)
{
	const Elf64_Ehdr *eh = (const void *)head;
	char loader[PATH_MAX];

	if (len < sizeof(*eh) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_machine != EM_X86_64) {
		cli_find_that(f, CLI_OTHER_ARCHITECTURE,
			      "%s is a program for another architecture than 64-bit x86.", path);
		return;
	}
	if (!elf_loader(fd, eh, loader)) {
		cli_find_that(f, CLI_CLIENT_NOT_EXECUTABLE, "%s is a damaged ELF file.", path);
		return;
	}
	if (!loader[0])
		cli_find_that(f, CLI_STATIC_CLIENT,
			      "%s is statically linked: nothing can be preloaded into it.", path);
	else if (!strstr(loader, "/ld-linux-x86-64.so"))
		cli_find_that(f, CLI_OTHER_LIBC,
			      "%s is linked to another C library (its loader is %s).", path,
			      loader);
	else
		cli_find_that(f, CLI_OK, "%s is a dynamically linked program for this machine.",
			      path);
}

/* "#!/bin/sh -e": the interpreter's path, in place. NULL: no such line. */
static char *script_interpreter(char *head)
{
	char *p = head + 2 + strspn(head + 2, " \t");
	size_t n = strcspn(p, " \t\r\n");

	p[n] = 0;
	return n ? p : NULL;
}

static void check_file(const char *path, int depth, struct cli_finding *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char head[HEAD_BYTES + 1], *interp;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st)) {
		/* A program may be executable and not readable: then only running it will tell. */
		if (fd < 0 && errno == EACCES && !access(path, X_OK))
			cli_find_that(f, CLI_OK, "%s cannot be read, so it was not looked into.",
				      path);
		else
			cli_find_that(f, CLI_CLIENT_NOT_FOUND, "%s cannot be opened: %s.", path,
				      strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	n = read(fd, head, HEAD_BYTES);
	head[n > 0 ? n : 0] = 0;
	if (n > 2 && head[0] == '#' && head[1] == '!') {
		interp = script_interpreter(head);
		if (interp && depth < MAX_INTERPRETERS)
			check_file(interp, depth + 1, f);
		else
			cli_find_that(f, CLI_CLIENT_NOT_EXECUTABLE,
				      "%s is a script without a usable interpreter.", path);
	} else if (gains_rights(fd, &st)) {
		cli_find_that(f, CLI_SETUID_CLIENT,
			      "%s gains rights when it starts (set-id or file capabilities).",
			      path);
	} else if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		check_elf(path, fd, head, (size_t)n, f);
	} else {
		/* execvp(3) hands it to the shell. */
		cli_find_that(
			f, CLI_OK,
			"%s is neither a program nor names an interpreter: the shell will read it.",
			path);
	}
	close(fd);
}

void cli_check_client(const char *cmd, struct cli_finding *f)
{
	char path[PATH_MAX];
	int err = find_command(cmd, path);

	if (err == EACCES)
		cli_find_that(f, CLI_CLIENT_NOT_EXECUTABLE, "%s may not be executed.", cmd);
	else if (err)
		cli_find_that(f, CLI_CLIENT_NOT_FOUND, "The command %s was not found.", cmd);
	else
		check_file(path, 0, f);
}
