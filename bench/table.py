#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures one static program natively, in a Linux guest under QEMU TCG and in the same guest under Anyvisor, in one go.

The columns take turns, run by run; a figure is the median over the runs of the best repetition in a run. All columns
do the same work and must arrive at the same checksums. docs/bench.md says how to read the table. Exit status: 0, or 1 if any
row failed, or 77 if the machine lacks what the bench needs.
"""
import argparse
import json
import math
import os
import re
import shutil
import statistics
import sys

sys.dont_write_bytecode = True
import machine  # noqa: E402
import plot  # noqa: E402
import runner  # noqa: E402

ROWS = ["int_alu", "sieve", "chase", "fp_scalar", "simd_matmul", "indirect", "calls", "sort", "repmovs", "syscalls",
        "pagefaults", "forks", "ctxswitch", "wakeups", "fileio", "smp2", "atomics2"]
SCALING = [("compute", "compute1", "compute2"), ("kernel", "kernel1", "kernel2")]
TITLES = {"native": "native", "tcg": "TCG", "anyvisor": "Anyvisor"}
RATIOS = [("tcg", "native"), ("anyvisor", "native"), ("tcg", "anyvisor")]
MEMORY = "memory beside guest RAM (MiB)"


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(runner.HERE, "..", "build"), help="the build folder (default: build/)")
    p.add_argument("--rows", help=f"some of: {','.join(ROWS)} (default: all)")
    p.add_argument("--runs", type=int, default=3, help="how often everything is run (default 3)")
    p.add_argument("--smp", type=int, default=2, help="the guests' CPUs (default 2)")
    p.add_argument("--engine", help="given to anyvisor run --engine (default: its default)")
    p.add_argument("--no-native", action="store_true", help="leave the native column out")
    p.add_argument("--no-tcg", action="store_true", help="leave the TCG column out")
    p.add_argument("--no-anyvisor", action="store_true", help="leave the Anyvisor column out")
    p.add_argument("--scaling", action="store_true", help="instead: two busy CPUs against one")
    p.add_argument("--timeout", type=int, default=180, help="seconds for a boot or a row (default 180)")
    p.add_argument("--json", action="store_true", help="print JSON instead of the table")
    p.add_argument("--plot", metavar="FILE", help="write a bar chart (SVG) of the ratios to native")
    opt = p.parse_args()
    opt.rows = opt.rows.split(",") if opt.rows else list(ROWS)
    unknown = [r for r in opt.rows if r not in ROWS]
    if unknown:
        p.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if opt.runs < 1 or opt.smp < 1:
        p.error("--runs and --smp are at least 1")
    if opt.scaling:
        if opt.smp < 2:
            p.error("--scaling needs two CPUs")
        opt.rows = [r for _, one, two in SCALING for r in (one, two)]
    opt.columns = [c for c in TITLES if not getattr(opt, "no_" + c)]
    if not opt.columns:
        p.error("no column is left")
    if opt.plot and (opt.no_native or opt.scaling):
        p.error("--plot draws ratios to native")
    opt.anyvisor = os.path.join(opt.build, "anyvisor")
    opt.program = os.path.join(opt.build, "bench", "workloads")
    return opt


def require(opt):
    """Why nothing can be measured here, or None."""
    if not os.access(opt.program, os.X_OK) or not os.access(opt.anyvisor, os.X_OK):
        return f"{opt.build} holds no bench/workloads and anyvisor; build first (ninja -C build)"
    if not shutil.which(runner.QEMU):
        return f"no {runner.QEMU} (package qemu-system-x86)"
    opt.kernel = runner.newest_kernel()
    return None


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(opt):
    """{column: [results of each run]}"""
    runs = {c: [] for c in opt.columns}
    for n in range(opt.runs):
        for c in opt.columns:
            say(f"bench: run {n + 1} of {opt.runs}, {TITLES[c]}")
            runs[c].append(runner.Column(opt, c).run(opt.rows))
    return runs


def merge(name, results):
    """One column's figure for a row out of its runs."""
    failed = [r["fail"] for r in results if "fail" in r]
    if failed:
        return {"fail": failed[0]}
    if "skip" in results[0]:
        return {"skip": results[0]["skip"]}
    values = [r["ns"] for r in results]
    cell = {"ns": statistics.median(values), "runs": values}
    if "sum" in results[0]:
        cell["sums"] = sorted({r["sum"] for r in results})
        cell["disturbed"] = statistics.median(r["waited"] for r in results) > runner.WAIT_SHARE
    return cell


def tabulate(opt, runs):
    """{row: {column: cell}}; the checksums of a row must be one."""
    table = {}
    for name in opt.rows + ["boot"]:
        cells = table[name] = {}
        for c in opt.columns:
            if (c, name) != ("native", "boot"):
                cells[c] = merge(name, [r.get(name, {"fail": "no result"}) for r in runs[c]])
        sums = {s for cell in cells.values() for s in cell.get("sums", [])}
        if len(sums) > 1:
            said = "; ".join(f"{TITLES[c]}: {','.join(cell['sums'])}" for c, cell in cells.items() if "sums" in cell)
            for cell in cells.values():
                if "sums" in cell:
                    cell["fail"] = f"checksums differ: {said}"
    return table


def ratio(cells, a, b):
    have = all("ns" in cells.get(c, {}) and "fail" not in cells[c] for c in (a, b))
    return cells[a]["ns"] / cells[b]["ns"] if have else None


def geometric_means(opt, table):
    """Over the workloads that every column has a figure for, so that the three means belong together."""
    rows = [r for r in opt.rows if all("ns" in table[r][c] and "fail" not in table[r][c] for c in opt.columns)]
    means = {}
    for a, b in RATIOS:
        if rows and a in opt.columns and b in opt.columns:
            means[f"{a}/{b}"] = math.exp(statistics.fmean(math.log(ratio(table[r], a, b)) for r in rows))
    return {"rows": rows, "means": means}


def memory(opt, runs):
    found = {c: [r["memory"]["mib"] for r in runs[c] if "memory" in r] for c in opt.columns}
    return {c: statistics.median(v) for c, v in found.items() if v}


def time_text(ns):
    return f"{ns / 1e9:.2f} s" if ns >= 1e9 else f"{ns / 1e6:.1f} ms" if ns >= 1e5 else f"{ns / 1e3:.1f} us"


def cell_text(cell):
    if cell is None:
        return "-"
    for word in ("fail", "skip"):
        if word in cell:
            return word
    return time_text(cell["ns"]) + ("~" if cell.get("disturbed") else " ")


def ratio_text(value):
    return "-" if value is None else f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def print_lines(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(t.ljust(w) if i == 0 else t.rjust(w) for i, (t, w) in enumerate(zip(line, widths))).rstrip())


def print_table(opt, result):
    ratios = [(a, b) for a, b in RATIOS if a in opt.columns and b in opt.columns]
    lines = [["row", *[TITLES[c] for c in opt.columns], *[f"{TITLES[a]}/{TITLES[b]}" for a, b in ratios]]]
    for name, cells in result["table"].items():
        lines.append([name, *[cell_text(cells.get(c)) for c in opt.columns],
                      *[ratio_text(ratio(cells, a, b)) for a, b in ratios]])
    geo = result["geometric"]
    lines.append([f"geometric mean of {len(geo['rows'])} workloads", *["" for _ in opt.columns],
                  *[ratio_text(geo["means"].get(f"{a}/{b}")) for a, b in ratios]])
    mib = result["memory"]
    lines.append([MEMORY, *[f"{mib[c]:.1f} " if c in mib else "-" for c in opt.columns],
                  *[ratio_text(mib[a] / mib[b] if a in mib and b in mib else None) for a, b in ratios]])
    print_lines(lines)


def print_scaling(opt, result):
    lines = [["work", "", *[TITLES[c] for c in opt.columns]]]
    for name, one, two in SCALING:
        for row, what in ((one, "one CPU"), (two, "two CPUs")):
            lines.append([name, what, *[cell_text(result["table"][row][c]) for c in opt.columns]])
        lines.append(["", "throughput of two", *[ratio_text(result["scaling"][name].get(c)) for c in opt.columns]])
    print_lines(lines)


def scaling(opt, table):
    """How much more two CPUs get done than one, in the same time."""
    out = {}
    for name, one, two in SCALING:
        cells = {c: {1: table[one][c], 2: table[two][c]} for c in opt.columns}
        out[name] = {c: 2 * r for c, x in cells.items() if (r := ratio(x, 1, 2))}
    return out


def complaints(table):
    for name, cells in table.items():
        for word in ("fail", "skip"):
            for c, cell in cells.items():
                if word in cell:
                    yield word == "fail", f"{name}, {TITLES[c]}: {cell[word]}"


def print_report(opt, result):
    m = result["machine"]
    print(f"host: {m['cpu']}, {m['cpus']} CPUs, Linux {m['host_kernel']}; QEMU {m['qemu']}; guest: {m['guest_kernel']}, "
          f"-smp {opt.smp}; engine: {opt.engine or 'default'}; medians of {opt.runs} run(s)")
    for when in ("before", "after"):
        print(f"machine {when}: {machine.sentence(m[when])}")
    print()
    (print_scaling if opt.scaling else print_table)(opt, result)
    notes = [text for _, text in complaints(result["table"])]
    if any(cell.get("disturbed") for cells in result["table"].values() for cell in cells.values()):
        notes.append(f"~ waited more than {runner.WAIT_SHARE:.0%} of its time for a CPU that somebody else used")
    for note in notes:
        print(note)


def main():
    opt = parse()
    why = require(opt)
    if why:
        say(f"bench: {why}")
        return 77
    result = {"machine": machine.describe(runner.QEMU, opt.kernel), "engine": opt.engine, "smp": opt.smp, "runs": opt.runs}
    result["machine"]["before"] = machine.check()
    say(f"bench: the machine is {machine.sentence(result['machine']['before'])}")
    runs = measure(opt)
    result["machine"]["after"] = machine.check()
    table = result["table"] = tabulate(opt, runs)
    if opt.scaling:
        result["scaling"] = scaling(opt, table)
    else:
        result["geometric"] = geometric_means(opt, table)
    result["memory"] = memory(opt, runs)
    if opt.json:
        print(json.dumps(result, indent=1))
    else:
        print_report(opt, result)
    if opt.plot:
        with open(opt.plot, "w") as f:
            f.write(plot.chart(table, opt.columns, result["geometric"], result["machine"]))
    return int(any(bad for bad, _ in complaints(table)))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except runner.BenchError as e:
        say(f"bench: {e}")
        sys.exit(77)
