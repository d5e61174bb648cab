#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the demo's guest, from QEMU's start to its end, under each tier of Anyvisor and under QEMU's TCG, in one run.

Prints seconds, the ratio to TCG, and the peak memory of the QEMU process beside guest RAM; what Anyvisor takes itself is the
difference to the same QEMU under TCG less TCG's own. Not a test: a reader judges.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import machine
from runner import newest_kernel

QEMU = "qemu-system-x86_64"
MARKER = "anyvisor-demo: ok"
RAM_MIB = 512


def beside_ram(pid):
    """Resident MiB of a process without the mapping that is guest RAM. 0: it is gone."""
    total, size = 0, 0
    try:
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if m := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                    size = int(m.group(2), 16) - int(m.group(1), 16)
                elif line.startswith("Rss:") and size < RAM_MIB << 20:
                    total += int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return total / 1024


def run(opt, column, kernel):
    anyvisor = column != "tcg"
    command = [QEMU, "-machine", "pc", "-smp", str(opt.smp), "-m", str(RAM_MIB), "-nodefaults", "-display", "none", "-serial",
               "stdio", "-monitor", "none", "-no-reboot", "-kernel", kernel, "-initrd",
               os.path.join(opt.build, "guest/demo-initramfs.cpio.gz"), "-append", "console=ttyS0 panic=-1 quiet"]
    command += ["-accel", "kvm", "-cpu", "host"] if anyvisor else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    if anyvisor:
        command = [os.path.join(opt.build, "anyvisor"), "run", "--quiet", "--engine", column, "--"] + command
    peak = 0
    with tempfile.TemporaryFile() as console:
        start = time.monotonic()
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
        while p.poll() is None:
            peak = max(peak, beside_ram(p.pid))
            time.sleep(0.25)
            if time.monotonic() - start > opt.timeout:
                p.kill()
        seconds = time.monotonic() - start
        console.seek(0)
        if p.returncode or MARKER.encode() not in console.read():
            sys.exit(f"bench: the demo's guest did not succeed under {column} (status {p.returncode})")
    return {"seconds": seconds, "mib": peak}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--build", default="build")
    a.add_argument("--runs", type=int, default=1)
    a.add_argument("--smp", type=int, default=2)
    a.add_argument("--timeout", type=float, default=600)
    a.add_argument("--json", action="store_true")
    opt = a.parse_args()
    kernel = newest_kernel()
    state = machine.check()
    results = {}
    for column in ["tcg", "interp", "translate"]:
        runs = []
        for n in range(opt.runs):
            if sys.stderr.isatty():
                print(f"bench: {column}, run {n + 1} of {opt.runs}", file=sys.stderr)
            runs.append(run(opt, column, kernel))
        results[column] = {k: statistics.median(r[k] for r in runs) for k in ("seconds", "mib")}
    for r in results.values():
        r["tcg_ratio"] = r["seconds"] / results["tcg"]["seconds"]
    if opt.json:
        print(json.dumps({"machine": machine.describe(QEMU, kernel), "before": state, "demo": results}, indent=2))
        return
    print("machine before:", machine.sentence(state))
    print(f"{'demo, -smp ' + str(opt.smp):20}{'seconds':>10}{'to TCG':>10}{'MiB beside guest RAM':>24}")
    for column, r in results.items():
        print(f"{column:20}{r['seconds']:10.1f}{r['tcg_ratio']:10.2f}{r['mib']:24.0f}")


if __name__ == "__main__":
    main()
