#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs Debian's unmodified QEMU on Anyvisor, unattended, and judges by what guest and host saw.

One case a run (meson makes a test of each). Consoles are kept in --logs whatever happens. Exit status: 0 passed, 1 failed,
77 skipped because the machine lacks something, which is named. With --accel tcg the same cases run without Anyvisor: a check of
the cases themselves.
"""
import argparse
import sys
import time

import basics
import lifecycle
import machines
from vm import Fail, Skip

PARTS = [("Guests that work by themselves", basics), ("Machines, CPU models, firmware, kernels", machines),
         ("Life cycle", lifecycle)]
CASES = {case.name: case for _, part in PARTS for case in part.CASES}

HEAD = """# What runs on Anyvisor

Debian 12's packages, unmodified: QEMU 7.2 with `-accel kvm` under `anyvisor run`. Each row is a test; `meson test -C build client-NAME` runs
one. Those marked *slow* run with `./test.sh --suite slow`. This page is made by `tests/clients/clients.py --write-docs`.
"""


def write_docs(path):
    def cell(text):
        return text.replace("|", "\\|")
    text = HEAD
    for title, part in PARTS:
        text += f"\n## {title}\n\n| case | what is special | driven by | passes if |\n|---|---|---|---|\n"
        for case in part.CASES:
            name = case.name + (" *(slow)*" if case.suite == "slow" else "")
            text += f"| {name} | {cell(case.shown)} | {cell(case.driven)} | {cell(case.proof)} |\n"
    with open(path, "w") as f:
        f.write(text)


def run(opt, case):
    start = time.monotonic()
    try:
        case.run(opt)
    except Skip as e:
        print(f"{case.name}: skipped: {e}")
        return 77
    except Fail as e:
        print(f"{case.name}: FAIL: {e}")
        return 1
    print(f"{case.name}: ok in {time.monotonic() - start:.1f} s")
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--list", action="store_true", help="print each case's name, suite and seconds")
    p.add_argument("--write-docs", metavar="FILE", help="write docs/clients.md")
    p.add_argument("--anyvisor")
    p.add_argument("--initramfs")
    p.add_argument("--compute", help="the guest's compute program, runs here too")
    p.add_argument("--logs")
    p.add_argument("--cache", help="where packages that are not installed are unpacked")
    p.add_argument("--timeout", type=float, help="for a guest that works by itself")
    p.add_argument("--accel", choices=("kvm", "tcg"), default="kvm")
    p.add_argument("case", nargs="?", choices=list(CASES), metavar="CASE")
    opt = p.parse_args()
    if opt.list:
        for case in CASES.values():
            print(case.name, case.suite, case.seconds)
        return 0
    if opt.write_docs:
        write_docs(opt.write_docs)
        return 0
    if not all((opt.anyvisor, opt.initramfs, opt.compute, opt.logs, opt.cache, opt.case)):
        p.error("a case, --anyvisor, --initramfs, --compute, --logs and --cache are needed")
    case = CASES[opt.case]
    opt.timeout = opt.timeout or case.seconds - 20
    return run(opt, case)


if __name__ == "__main__":
    sys.exit(main())
