# SPDX-License-Identifier: MIT
"""Runs the bench's program once, natively or in a guest, and collects what it says. Knows nothing of tables.

What the guest says about time is held against this machine's clock, and what the process waited for a CPU is
kept with each row, so that a figure that cannot be trusted is seen as such.
"""
import glob
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "guest", "demo"))
from mkinitramfs import Cpio  # noqa: E402

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 512
S_DIR, S_FILE, S_CHR = 0o040755, 0o100755, 0o020600
# a guest's clock may be this far off, beside what lines took to arrive: a share of the time, and a constant
CLOCK_SHARE, CLOCK_NS = 0.1, 50e6
# a row that waited longer than this share of its time for a CPU is marked
WAIT_SHARE = 0.05


class BenchError(Exception):
    pass


def newest_kernel():
    def version(path):
        return [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", path)]
    found = sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"), key=version)
    if not found:
        raise BenchError("no /boot/vmlinuz-*-cloud-amd64 (package linux-image-cloud-amd64)")
    if not os.access(found[-1], os.R_OK):
        raise BenchError(f"{found[-1]} is not readable")
    return found[-1]


def write_initramfs(program, path):
    c = Cpio()
    for d in ("dev", "dev/shm", "proc", "sys"):
        c.add(d, S_DIR)
    c.add("dev/console", S_CHR, rdev=(5, 1))
    with open(program, "rb") as f:
        c.add("init", S_FILE, f.read())
    with open(path, "wb") as f:
        f.write(c.finish())


def waiting(pid):
    """How long a process's threads have been ready to run and did not, in ns; 0 where the kernel does not count it."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as f:
                total += int(f.read().split()[1])
        except (OSError, IndexError):
            pass
    return total


class Column:
    """A way to run the program."""

    def __init__(self, opt, kind):
        self.opt, self.kind = opt, kind

    def command(self, rows, initramfs):
        opt = self.opt
        if self.kind == "native":
            return [opt.program, *rows]
        kvm = self.kind == "anyvisor"
        qemu = [QEMU, "-machine", "pc", "-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max",
                "-smp", str(opt.smp), "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-serial", "stdio",
                "-monitor", "none", "-no-reboot", "-kernel", opt.kernel, "-initrd", initramfs,
                "-append", " ".join(["console=ttyS0 quiet panic=-1 --", *rows])]
        if not kvm:
            return qemu
        engine = ["--engine", opt.engine] if opt.engine else []
        return [opt.anyvisor, "run", "--quiet", *engine, "--", *qemu]

    def run(self, rows):
        """{row: result}; a guest that stops answering is started again with the rows that are left."""
        results, left = {}, list(rows)
        while True:
            failed = Session(self, left).collect(results)
            if failed not in left:
                return results
            left = left[left.index(failed) + 1:]
            if not left:
                return results


class Session:
    """One life of the program."""

    def __init__(self, column, rows):
        self.column, self.rows, self.current = column, rows, None
        self.lines, self.tail = queue.Queue(), []

    def read(self, pipe):
        for line in pipe:
            self.lines.put((time.monotonic_ns(), line.decode(errors="replace").strip()))
        self.lines.put((time.monotonic_ns(), None))

    def collect(self, results):
        """Fills in `results`; returns the row that was running when it ended too early, or None."""
        with tempfile.TemporaryDirectory() as tmp:
            initramfs = os.path.join(tmp, "initramfs.cpio")
            if self.column.kind != "native":
                write_initramfs(self.column.opt.program, initramfs)
            self.start = time.monotonic_ns()
            self.process = subprocess.Popen(self.column.command(self.rows, initramfs), stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()
            try:
                why = self.follow(results)
            finally:
                self.process.kill()
                self.process.wait()
        if why is None:
            return None
        where = self.current or "boot"
        results[where] = {"fail": "; last said: ".join([why, *self.tail[-1:]])}
        return where

    def follow(self, results):
        while True:
            try:
                at, line = self.lines.get(timeout=self.column.opt.timeout)
            except queue.Empty:
                return f"nothing for {self.column.opt.timeout} s"
            if line is None:
                return f"ended with status {self.process.wait()}"
            # the firmware's terminal sequences may stand before the first line
            found = re.search(r'\{"event".*\}$', line)
            if not found:
                self.tail.append(line)
                continue
            e = json.loads(found.group(0))
            if e["event"] == "end":
                if self.column.kind != "native":
                    self.measure_memory(results)
                    self.finish()
                return None
            why = getattr(self, "on_" + e["event"])(e, at, results)
            if why:
                return why

    def finish(self):
        """The guest powers off by itself; one that does not is killed."""
        try:
            self.process.wait(self.column.opt.timeout)
        except subprocess.TimeoutExpired:
            pass

    def on_up(self, e, at, results):
        if self.column.kind != "native":
            results.setdefault("boot", {"ns": at - self.start})

    def on_begin(self, e, at, results):
        self.current, self.began = e["row"], at
        self.waited, self.late = waiting(self.process.pid), waiting(os.getpid())

    def on_skip(self, e, at, results):
        results[e["row"]] = {"skip": e["why"]}

    def on_fail(self, e, at, results):
        return e["why"]

    def on_row(self, e, at, results):
        wall = at - self.began
        waited, late = waiting(self.process.pid) - self.waited, waiting(os.getpid()) - self.late
        # a line is late by what its writer or this process waited for a CPU
        if abs(wall - e["wall"]) > CLOCK_SHARE * wall + CLOCK_NS + waited + late:
            results[e["row"]] = {"fail": f"the guest's clock counted {e['wall'] / 1e9:.2f} s, the host's {wall / 1e9:.2f} s"}
        else:
            results[e["row"]] = {"ns": e["ns"], "reps": e["reps"], "sum": e["sum"], "waited": round(waited / wall, 3)}
        self.current = None

    def measure_memory(self, results):
        """The process's share of memory in all mappings but the guest's RAM, in MiB.

        Shares (Pss), so that code mapped twice by a translator counts once. A guest that was gone before this process could
        look leaves no figure."""
        total, ram, size = 0, [], 0
        with open(f"/proc/{self.process.pid}/smaps") as f:
            for line in f:
                name, _, rest = line.partition(":")
                if name == "Size":
                    size = int(rest.split()[0])
                elif name == "Pss":
                    pss = int(rest.split()[0])
                    total += pss
                    if size == MEMORY_MIB * 1024:
                        ram.append(pss)
        if len(ram) > 1:
            raise BenchError("more than one mapping looks like the guest's RAM")
        if ram:
            results["memory"] = {"mib": round((total - ram[0]) / 1024, 1)}
