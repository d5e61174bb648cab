#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a guest of guest/ under QEMU's TCG: a check of the guest, not of Anyvisor. Exit status as meson has it: 77 is skipped."""
import argparse
import shutil
import subprocess
import sys

QEMU = "qemu-system-x86_64"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--smp", default="1")
    p.add_argument("--timeout", type=float, default=100)
    p.add_argument("image")
    a = p.parse_args()
    if not shutil.which(QEMU):
        print(f"skipped: no {QEMU} (package qemu-system-x86)")
        return 77
    try:
        r = subprocess.run([QEMU, "-accel", "tcg", "-cpu", "max", "-m", "64", "-smp", a.smp, "-nodefaults", "-display", "none",
                            "-debugcon", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-no-reboot",
                            "-kernel", a.image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=a.timeout, check=False)
    except subprocess.TimeoutExpired as e:
        print((e.stdout or b"").decode(errors="replace"))
        print(f"no end after {a.timeout} s")
        return 1
    text = r.stdout.decode(errors="replace")
    print(text)
    passed, failed = text.count(": ok\n"), text.count(": FAIL")
    # isa-debug-exit: (status << 1) | 1
    good = r.returncode == 1 and passed and not failed and "\ndone\n" in text
    print(f"{passed} passed, {failed} failed, QEMU's status {r.returncode}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
