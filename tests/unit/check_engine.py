#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The engine's objects neither touch SIMD registers nor call outside the engine unguarded.

They run while the guest's x87/SSE/AVX state is in the host's registers. Usage: check_engine.py LIBENGINE.a
"""
import re
import subprocess
import sys

# What an engine file may call besides the engine itself. Each is reached only behind x86_door() or touches no SIMD.
ALLOWED = {
    "_GLOBAL_OFFSET_TABLE_": "linker",
    "__tls_get_addr": "general registers only",
    "av_futex_wait": "behind x86_door() in x86_serve_requests()",
    "av_futex_wake": "behind x86_door() in x86_serve_requests()",
    "av_now_ns": "behind x86_door() in op_pause()",
    "av_log_write": "behind x86_door()",
    "av_log_limit": "data",
    "av_epoch_reclaim": "behind x86_door()",
    "mmap64": "creation: no guest state is live",
    "mmap": "creation: no guest state is live",
    "munmap": "destruction: no guest state is live",
    "calloc": "creation: no guest state is live",
    "free": "destruction: no guest state is live",
    "__start_x86_engine": "linker",
    "__stop_x86_engine": "linker",
    "__errno_location": "creation: no guest state is live",
}
SIMD = re.compile(r"%(xmm|ymm|zmm|mm|st\b|k)[0-7(]?")


def run(*cmd):
    return subprocess.run(cmd, check=True, capture_output=True, text=True).stdout


def main(archive):
    bad = []
    name = func = None
    for line in run("objdump", "-dr", "--no-show-raw-insn", archive).splitlines():
        if m := re.match(r"(\S+\.o):", line):
            name = m.group(1)
        elif m := re.match(r"[0-9a-f]+ <(.+)>:", line):
            func = m.group(1)
        elif SIMD.search(line.split("<")[0]):
            bad.append(f"{name}: {func}: {line.strip()}")
    undefined = {l.split()[-1] for l in run("nm", "-u", archive).splitlines() if " U " in l}
    for sym in sorted(undefined):
        if not sym.startswith("x86_") and sym not in ALLOWED:
            bad.append(f"calls {sym}, which is outside the engine")
    for b in bad:
        print(b)
    print(f"engine check: {len(bad)} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
