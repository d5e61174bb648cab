#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds src/shim/interpose.list against libc's symbol table and the library's own exports.

Every public libc function whose name looks like a way to a device path, an fd or a signal must have a row: interposed,
or a reason why not. Every interposed name must be exported by libanyvisor.so, and nothing else may be.

usage: test_interpose_list.py LIST LIBANYVISOR [LIBC]
"""
import fnmatch
import re
import subprocess
import sys

# Names that lead to a path, an fd, a process or a signal; broad on purpose, the list names the accidents.
CANDIDATE = re.compile(
    "open|creat|ioctl|mmap|close|dup|fcntl|fork|clone|stat|access|readlink|realpath|canonicalize|sig|syscall|spawn|exec"
    "|recvm|pidfd|mremap|munmap|handle_at|scandir|glob|ftw|fts_|mknod|chmod|xattr|mount|daemon|system|inotify|fanotify"
    "|ttyname|utime|link")
# signals, mmap and fork must be among them, or the pattern or nm's output is not what it was
CERTAIN = {"open64", "ioctl", "__open64_2", "openat", "mmap64", "dup3", "fcntl64", "fork", "sigaction", "syscall", "statx"}


def symbols(path):
    """Defined public functions of a shared object, without versions; glibc's private ones are not for clients."""
    out = subprocess.run(["nm", "-D", "--defined-only", path], check=True, capture_output=True, text=True).stdout
    names = set()
    for line in out.splitlines():
        kind, name = line.split()[-2:]
        if kind in "TWi" and "GLIBC_PRIVATE" not in name:
            names.add(name.split("@")[0])
    return names


def read_list(path, problems):
    rows = {}
    for number, line in enumerate(open(path, encoding="ascii"), 1):
        if line.startswith("#") or not line.strip():
            continue
        fields = [f.strip() for f in line.split("|")]
        name, how, reason = fields[0], fields[1] if len(fields) > 1 else "", fields[2] if len(fields) > 2 else ""
        if name in rows:
            problems.append(f"line {number}: {name} has two rows")
        if how == "hook" and (reason or "*" in name or "[" in name):
            problems.append(f"line {number}: a hook is one name without a reason")
        elif how == "libc" and not reason:
            problems.append(f"line {number}: {name} is left to libc without a reason")
        elif how not in ("hook", "libc"):
            problems.append(f"line {number}: neither hook nor libc")
        rows[name] = how
    return rows


def libc_path():
    for line in open("/proc/self/maps", encoding="utf-8"):
        path = line.split()[-1]
        if re.search(r"/libc[.-][^/]*so", path):
            return path
    sys.exit("this Python has no libc mapped: name it as the third argument")


def main():
    problems = []
    rows = read_list(sys.argv[1], problems)
    exports = symbols(sys.argv[2])
    libc = symbols(sys.argv[3] if len(sys.argv) > 3 else libc_path())
    candidates = {n for n in libc if CANDIDATE.search(n)}
    hooks = {n for n, how in rows.items() if how == "hook"}

    if not CERTAIN <= candidates:
        problems.append(f"the symbol table lacks {sorted(CERTAIN - candidates)}: not a glibc?")
    used = set()
    for name in sorted(candidates):
        matches = {r for r in rows if r == name or (rows[r] == "libc" and fnmatch.fnmatchcase(name, r))}
        used |= matches
        if not matches:
            problems.append(f"{name}: no row; interpose it or give the reason why not")
        elif name not in rows and len({rows[r] for r in matches}) > 1:
            problems.append(f"{name}: its rows disagree: {sorted(matches)}")
    for name in sorted(set(rows) - used):
        # "libc" rows of names that another glibc has are harmless; a hook that matches nothing is a typing error
        if rows[name] == "hook" and name not in libc:
            problems.append(f"{name}: this libc has no such function")
    for name in sorted(hooks - exports):
        problems.append(f"{name}: a hook that the library does not export")
    for name in sorted(n for n in exports - hooks if not n.startswith("anyvisor_")):
        problems.append(f"{name}: exported without a row")
    for p in problems:
        print(p)
    print(f"{len(candidates)} candidates, {len(hooks)} hooks, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
