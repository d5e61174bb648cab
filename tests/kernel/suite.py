# SPDX-License-Identifier: MIT
"""The kernel's KVM test programs: unpacking and building them from Debian's source package, unmodified.

Owns the cache folder. Must not know how the programs are run or judged.
"""
import hashlib
import os
import shutil
import subprocess
import sys

PACKAGE = "linux-source-6.1"
ARCHIVE = f"/usr/src/{PACKAGE}.tar.xz"
PROGRAMS = "tools/testing/selftests/kvm"

# What `make headers` and the programs' own makefile read; the whole tree would be 1.4 GB.
NEEDED = (
    "Makefile", "Kbuild", "scripts", "include", "arch/Kconfig", "arch/x86", "tools/arch/x86", "tools/build",
    "tools/include", "tools/lib/rbtree.c", "tools/scripts", "tools/testing/selftests/lib.mk", "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h", "tools/testing/selftests/rseq", PROGRAMS,
)


class CannotBuild(Exception):
    """The machine lacks something; str() names it."""


def stamp():
    """What the cache was made from; another package or list of files makes another cache."""
    st = os.stat(ARCHIVE)
    what = f"{st.st_size} {st.st_mtime_ns} {NEEDED}"
    return hashlib.sha256(what.encode()).hexdigest()


def run(cmd, log, cwd):
    with open(log, "ab") as out:
        out.write((" ".join(cmd) + "\n").encode())
        out.flush()
        status = subprocess.run(cmd, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                check=False).returncode
    if status:
        raise SystemExit(f"kernel tests: {cmd[0]} failed with {status}; see {log}")


def build(cache, jobs):
    """Returns the folder with the built programs. Does nothing when they are there already."""
    if not os.path.exists(ARCHIVE):
        raise CannotBuild(f"no {ARCHIVE} (package {PACKAGE})")
    for tool, package in (("make", "build-essential"), ("gcc", "build-essential"), ("xz", "xz-utils")):
        if not shutil.which(tool):
            raise CannotBuild(f"no {tool} (package {package})")
    tree = os.path.join(cache, PACKAGE)
    programs = os.path.join(tree, PROGRAMS)
    mark = os.path.join(cache, "built")
    if os.path.exists(mark):
        with open(mark, encoding="ascii") as f:
            if f.read() == stamp():
                return programs
    shutil.rmtree(cache, ignore_errors=True)
    os.makedirs(cache)
    log = os.path.join(cache, "build.log")
    print(f"kernel tests: building the programs of {PACKAGE} once, in {cache}", file=sys.stderr)
    run(["tar", "-xJf", ARCHIVE, *(f"{PACKAGE}/{name}" for name in NEEDED)], log, cache)
    run(["make", f"-j{jobs}", "headers"], log, tree)
    # 6.1's dirty_log_test uses a macro under its later name; steal_time lacks an include.
    flags = f"-DTEST_ASSERT_EQ=ASSERT_EQ -include {tree}/usr/include/linux/stddef.h"
    run(["make", f"-j{jobs}", "-C", PROGRAMS, f"EXTRA_CFLAGS={flags}"], log, tree)
    with open(mark, "w", encoding="ascii") as f:
        f.write(stamp())
    return programs


def programs_in(folder):
    """{name: path} of the built programs."""
    found = {}
    for sub in ("", "x86_64"):
        base = os.path.join(folder, sub)
        for name in sorted(os.listdir(base)):
            path = os.path.join(base, name)
            if os.path.isfile(path) and os.access(path, os.X_OK) and not name.endswith((".sh", ".py")):
                found[name] = path
    return found
