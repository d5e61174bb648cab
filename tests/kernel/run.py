#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the kernel's own KVM test programs, unmodified, under Anyvisor (or on the real /dev/kvm) and judges by their exit status.

The programs come from Debian's package linux-source-6.1 and are built once into --cache. Each runs in both personalities unless
--cpu says otherwise; a program passes if it passes in one of them, for some ask for an Intel or an AMD processor.

What is known not to pass stands in expected.json with a reason. The list can only shrink: a program on it that passes, and one off
it that does not, fail the run; so does an entry that an earlier version of the file did not have. A skip is as good as a
pass only where its reason is the host's (HOST_SKIPS).

The last line is "N passed, N failed, N skipped" and counts programs. Exit status: 0 all as expected, 1 not, 77 cannot be run here.
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time

import suite

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
EXPECTED = os.path.join(HERE, "expected.json")
CPUS = ("intel", "amd")
TIMEOUT = 300

# What a program needs beyond being started: arguments, more time than TIMEOUT, or another try after an alarm of its own. A slow one runs in
# one personality only.
SETTINGS = {
    # 512 rounds of 64 threads that spin and 4 vCPUs that do: minutes where there are few processors, whatever KVM does
    "hardware_disable_test": {"timeout": 1200, "slow": True},
    # ends itself with SIGALRM when its guest gets no processor for two seconds, which a busy machine may bring about
    "memslot_perf_test": {"alarms": 2},
    # what nx_huge_pages_test.sh passes: reclaim period, "the machine is prepared", and "may reboot", which root may
    "nx_huge_pages_test": {"args": ["-p", "100", "-t", "887563923"] + (["-r"] if os.geteuid() == 0 else [])},
}


def host_cpu_lacks(flag):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return not re.search(rf"^flags\b.*\b{flag}\b", f.read(), re.MULTILINE)


# Skips whose reason is the host's: any KVM would skip on this machine. Pattern, reason, and how to make sure of it.
HOST_SKIPS = (
    ("CONFIG_IDLE_PAGE_TRACKING is not enabled", "the host's kernel has no idle page tracking",
     lambda: not os.path.exists("/sys/kernel/mm/page_idle/bitmap")),
    (r"X86_FEATURE_XFD\b", "the host's processor has no AMX, whose registers are the guest's",
     lambda: host_cpu_lacks("amx_tile")),
    ("hugepages", "the host has no huge pages reserved", lambda: True),
)

PASS, SKIP, FAIL, TIME = "pass", "skip", "fail", "timeout"


def reason_of(output, what):
    """The line in which the program says why."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if what == SKIP:
        for line in lines:
            m = re.search(r"# SKIP -? ?(.*)", line)
            if m:
                return m.group(1)
    for k, line in enumerate(lines):
        if "==== Test Assertion Failure ====" in line and k + 1 < len(lines):
            where = lines[k + 1]
            said = [after for after in lines[k + 2:] if not re.match(r"pid=|\d+\t|\(stack trace", after)]
            return f"{where}: {said[0]}" if said else where
    return lines[-1] if lines else "said nothing"


def run_program(cmd, folder, limit):
    """What it came to, its exit status, and its output."""
    # a session of its own: the programs fork, and what is left of them ends with them
    with subprocess.Popen(cmd, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True, errors="replace") as p:
        try:
            output, _ = p.communicate(timeout=limit)
            return {0: PASS, 4: SKIP}.get(p.returncode, FAIL), p.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            output, _ = p.communicate()
            return TIME, p.returncode, output


def run_one(opt, name, path, cpu):
    settings = SETTINGS.get(name, {})
    cmd = [path, *settings.get("args", ())]
    if not opt.real:
        head = [opt.anyvisor, "run", "--quiet"]
        head += ["--cpu", cpu] if cpu else []
        head += ["--engine", opt.engine] if opt.engine else []
        cmd = head + ["--"] + cmd
    limit = opt.timeout or settings.get("timeout", TIMEOUT)
    start = time.monotonic()
    for _ in range(1 + settings.get("alarms", 0)):
        what, status, output = run_program(cmd, os.path.dirname(path), limit)
        if status != -signal.SIGALRM:
            break
    result = {"result": what, "seconds": round(time.monotonic() - start, 1)}
    if what == TIME:
        result["reason"] = f"no end after {limit} s; the last it said: {reason_of(output, what)}"
    elif what == FAIL and status < 0:
        result["reason"] = f"killed by signal {-status}: {reason_of(output, what)}"
    elif what != PASS:
        result["reason"] = reason_of(output, what)
    if what == SKIP:
        for pattern, why, sure in HOST_SKIPS:
            if re.search(pattern, result["reason"]) and sure():
                result["host"] = why
    os.makedirs(opt.logs, exist_ok=True)
    with open(os.path.join(opt.logs, f"{name}.{cpu or 'real'}.log"), "w", encoding="utf-8") as f:
        f.write(" ".join(cmd) + "\n" + output)
    return result


def rank(result):
    """Which of two results stands for the program: the better one."""
    return (result["result"] != PASS, not result.get("host"), result["result"] != SKIP)


def total(results):
    return min(results.values(), key=rank)


def of_cpu(table, cpu):
    """Passed, failed, skipped in one personality."""
    n = [results[cpu]["result"] for results in table.values() if cpu in results]
    return n.count(PASS), n.count(FAIL) + n.count(TIME), n.count(SKIP)


def counts(table):
    best = [total(r)["result"] for r in table.values()]
    return best.count(PASS), sum(b in (FAIL, TIME) for b in best), best.count(SKIP)


def judge(table, expected, complete):
    """Complaints about what is not as expected."""
    bad = []
    for name, results in table.items():
        now = total(results)
        fine = now["result"] == PASS or "host" in now
        if fine and name in expected:
            bad.append(f"{name}: passes, so its entry in expected.json has to go")
        if not fine and name not in expected:
            bad.append(f"{name}: {now['result']}: {now['reason']}")
        if name in expected and not fine:
            want = expected[name]["result"]
            if now["result"] != want:
                bad.append(f"{name}: {now['result']} where expected.json says {want}: {now['reason']}")
    if complete:
        bad += [f"{name}: in expected.json, but there is no such program" for name in expected if name not in table]
    return bad


def git(*args):
    p = subprocess.run(["git", "-C", ROOT, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return p.stdout.decode() if p.returncode == 0 else None


def grown(expected):
    """Entries that an earlier version of the list did not have: it can only shrink."""
    path = os.path.relpath(EXPECTED, ROOT)
    versions = [json.loads(git("show", f"{rev}:{path}") or "null")
                for rev in (git("log", "--format=%H", "--", path) or "").split()]
    versions = [expected] + [v for v in versions if v is not None]
    return sorted({name for new, old in zip(versions, versions[1:]) for name in new if name not in old})


def load_expected():
    with open(EXPECTED, encoding="utf-8") as f:
        expected = json.load(f)
    for name, entry in expected.items():
        if set(entry) != {"result", "reason"} or entry["result"] not in (SKIP, FAIL, TIME) or not entry["reason"]:
            raise SystemExit(f"expected.json: {name}: an entry has a result (skip, fail, timeout) and a reason")
    return expected


def cell(result):
    if result["result"] == PASS:
        return "pass"
    if "host" in result:
        return f"skip: {result['host']}"
    return f"{result['result']}: {result['reason']}".replace("|", "\\|")


def document(opt, table, expected):
    passed, failed, skipped = counts(table)
    lines = [
        "<!-- Generated by tests/kernel/run.py --write-docs; do not edit. -->", "",
        "# Conformance: the kernel's own KVM test programs", "",
        f"The programs of Debian's `{suite.PACKAGE}`, unmodified, run with `anyvisor run --cpu intel` and `--cpu amd`",
        f"(engine: {opt.engine or 'the default'}). A program counts as passed if it passes in one personality: some ask for one",
        "vendor. `tests/kernel/run.py` makes this page; `tests/kernel/expected.json` holds the reasons, and can only shrink.", "",
        f"**{passed} passed, {failed} failed, {skipped} skipped** of {len(table)}.", "",
    ]
    for cpu in opt.cpus:
        lines.append("- `--cpu {}`: {} passed, {} failed, {} skipped".format(cpu, *of_cpu(table, cpu)))
    lines += ["", "| program | " + " | ".join(opt.cpus) + " | |", "|---|" + "---|" * (len(opt.cpus) + 1)]
    for name, results in table.items():
        why = expected.get(name, {}).get("reason", "")
        lines.append(f"| {name} | " + " | ".join(cell(results[cpu]) if cpu in results else "not run" for cpu in opt.cpus) + f" | {why} |")
    with open(os.path.join(ROOT, "docs", "conformance.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--anyvisor", default=os.path.join(ROOT, "build", "anyvisor"))
    p.add_argument("--cache", help="where the programs are built (default: kernel-tests beside the anyvisor command)")
    p.add_argument("--programs", help="a folder of programs that are built already")
    p.add_argument("--only", action="append", metavar="NAME", help="this program alone; may be given more than once")
    p.add_argument("--skip-slow", action="store_true", help="leave out the programs that take minutes")
    p.add_argument("--cpu", choices=(*CPUS, "host"), help="one personality (default: intel and amd)")
    p.add_argument("--engine", help="how guests are executed (anyvisor run --engine)")
    p.add_argument("--real", action="store_true", help="on the real /dev/kvm, for comparison: nothing is expected of it")
    p.add_argument("--timeout", type=float, help="seconds for each program")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="for building")
    p.add_argument("--json", metavar="FILE", help="write the results there")
    p.add_argument("--write-docs", action="store_true", help="write docs/conformance.md; needs a run of everything")
    p.add_argument("--check-list", action="store_true", help="only check that expected.json is well-formed and has not grown")
    opt = p.parse_args()
    # the programs run in a folder of their own
    opt.anyvisor = os.path.abspath(opt.anyvisor)
    opt.cache = os.path.abspath(opt.cache or os.path.join(os.path.dirname(opt.anyvisor), "kernel-tests"))
    opt.logs = os.path.join(os.path.dirname(opt.cache), "kernel-tests-logs")
    opt.cpus = ("real",) if opt.real else (opt.cpu,) if opt.cpu else CPUS
    if opt.write_docs and (opt.only or opt.skip_slow or opt.cpu or opt.real):
        p.error("--write-docs is of all programs in both personalities")
    return opt


def run_all(opt, programs):
    table = {}
    width = max(map(len, programs))
    for name, path in programs.items():
        table[name] = {}
        for cpu in opt.cpus[:1] if SETTINGS.get(name, {}).get("slow") else opt.cpus:
            result = table[name][cpu] = run_one(opt, name, path, None if opt.real else cpu)
            why = f"  {result.get('host') or result['reason']}" if "reason" in result else ""
            print(f"{name:{width}}  {cpu:5}  {result['result']:7}  {result['seconds']:6.1f} s{why}", flush=True)
    return table


def main():
    opt = arguments()
    expected = load_expected()
    bad = [f"{name}: new in expected.json, which can only shrink" for name in grown(expected)]
    if opt.check_list:
        for line in bad:
            print(line)
        return 1 if bad else 0
    try:
        folder = opt.programs or suite.build(opt.cache, opt.jobs)
    except suite.CannotBuild as e:
        print(f"kernel tests: skipped: {e}")
        return 77
    programs = suite.programs_in(folder)
    missing = [name for name in opt.only or () if name not in programs]
    if missing:
        raise SystemExit(f"kernel tests: no program {', '.join(missing)}")
    if opt.only:
        programs = {name: programs[name] for name in opt.only}
    if opt.skip_slow:
        programs = {name: path for name, path in programs.items() if not SETTINGS.get(name, {}).get("slow")}
    if not programs:
        raise SystemExit(f"kernel tests: no programs in {folder}")
    table = run_all(opt, programs)
    if not opt.real:
        bad += judge(table, expected, not opt.only and not opt.skip_slow)
    if opt.json:
        with open(opt.json, "w", encoding="utf-8") as f:
            json.dump({"package": suite.PACKAGE, "engine": opt.engine or "default", "programs": table}, f, indent=1)
            f.write("\n")
    if opt.write_docs:
        document(opt, table, expected)
    for line in bad:
        print(f"unexpected: {line}")
    if len(opt.cpus) > 1:
        for cpu in opt.cpus:
            print("{}: {} passed, {} failed, {} skipped".format(cpu, *of_cpu(table, cpu)))
    print("{} passed, {} failed, {} skipped".format(*counts(table)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
