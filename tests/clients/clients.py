#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots Debian's kernel under Debian's unmodified QEMU on Anyvisor, unattended, and judges by what guest and host saw.

One case a run (meson makes a test of each). The console is kept in --logs whatever happens. Exit status: 0 passed, 1 failed,
77 skipped because the machine lacks something, which is named. With --accel tcg the same cases run without Anyvisor: a check of
the cases themselves.
"""
import argparse
import glob
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

QEMU = "qemu-system-x86_64"


class Skip(Exception):
    pass


class Fail(Exception):
    pass


def newest_kernel():
    def version(path):
        return [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", path)]
    found = sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"), key=version)
    if not found:
        raise Skip("no /boot/vmlinuz-*-cloud-amd64 (package linux-image-cloud-amd64)")
    if not os.access(found[-1], os.R_OK):
        raise Skip(f"{found[-1]} is not readable")
    return found[-1]


def compute(opt, *args):
    return subprocess.run([opt.compute, *map(str, args)], stdout=subprocess.PIPE, check=True).stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def boot(opt, want, smp, append="", extra=()):
    """Runs a guest until it powers off; fails unless a console line is exactly `want`. Returns the console's lines."""
    if not shutil.which(QEMU):
        raise Skip(f"no {QEMU} (package qemu-system-x86)")
    cpu = "host" if opt.accel == "kvm" else "max"
    qemu = [QEMU, "-machine", "pc", "-accel", opt.accel, "-cpu", cpu, "-smp", str(smp), "-m", "512", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-kernel", newest_kernel(),
            "-initrd", opt.initramfs, "-append", f"console=ttyS0 panic=-1 {append}".strip(), *extra]
    if opt.accel == "kvm":
        qemu = [opt.anyvisor, "run", "--"] + qemu
    os.makedirs(opt.logs, exist_ok=True)
    log_path = os.path.join(opt.logs, f"{opt.case}.console")
    start = time.monotonic()
    with open(log_path, "wb") as log:
        log.write((" ".join(qemu) + "\n").encode())
        log.flush()
        p = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            status = p.wait(opt.timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise Fail(f"no end after {opt.timeout} s; console in {log_path}") from None
    with open(log_path, errors="replace") as f:
        lines = [line.rstrip("\r\n") for line in f]
    if status:
        raise Fail(f"QEMU ended with status {status}; console in {log_path}")
    # the first line may begin with the firmware's terminal sequences
    if not any(line.endswith(want) for line in lines):
        said = [line for line in lines if "FAIL" in line or "anyvisor-" in line or "panic" in line]
        raise Fail(f"the guest never said '{want}' but {said[-3:]}; console in {log_path}")
    bad = [line for line in lines if re.search(r"BUG:|Oops|soft lockup|rcu.*stall|general protection fault|Call Trace", line)]
    if bad:
        raise Fail(f"the guest's kernel complained: {bad[0]}; console in {log_path}")
    print(f"{opt.case}: guest was up and done in {time.monotonic() - start:.1f} s")
    return lines


def demo(smp):
    def case(opt):
        lines = boot(opt, "anyvisor-demo: ok", smp)
        head = [line for line in lines if "anyvisor-demo: kernel" in line]
        if not head or f" {smp} CPU(s)" not in head[0]:
            raise Fail(f"the guest did not see {smp} CPUs: {head}")
    return case


def blk(opt):
    for tool in ("mkfs.ext4", "debugfs"):
        if not shutil.which(tool, path="/sbin:/usr/sbin:" + os.environ.get("PATH", "")):
            raise Skip(f"no {tool} (package e2fsprogs)")
    env = dict(os.environ, PATH="/sbin:/usr/sbin:" + os.environ.get("PATH", ""))
    with tempfile.TemporaryDirectory() as tmp:
        image, tree, out = (os.path.join(tmp, n) for n in ("disk", "tree", "out"))
        data = compute(opt, "stream", 16, 3)
        os.mkdir(tree)
        with open(os.path.join(tree, "from-host"), "wb") as f:
            f.write(data)
        with open(image, "wb") as f:
            f.truncate(128 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-d", tree, image], env=env, check=True)
        boot(opt, "anyvisor-blk: ok", 2, f"anyvisor.test=blk anyvisor.sum={sha256(data)}",
             ["-drive", f"file={image},if=none,id=d,format=raw", "-device", "virtio-blk-pci,drive=d"])
        subprocess.run(["debugfs", "-R", f"dump /from-guest {out}", image], env=env, check=True,
                       stderr=subprocess.DEVNULL)
        with open(out, "rb") as f:
            if sha256(f.read()) != sha256(compute(opt, "stream", 32, 7)):
                raise Fail("the file that the guest wrote is not what the host reads")


def net(opt):
    data, received = compute(opt, "stream", 16, 5), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(data)

        def do_POST(self):
            received.append(sha256(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(received[-1].encode() + b"\n")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    boot(opt, "anyvisor-net: ok", 2,
         f"anyvisor.test=net anyvisor.port={server.server_port} anyvisor.sum={sha256(data)}",
         ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="])
    if received != [sha256(compute(opt, "text", 8))]:
        raise Fail("what the guest sent is not what the host received")


CASES = {"boot1": demo(1), "boot2": demo(2), "boot4": demo(4), "blk": blk, "net": net}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--anyvisor", required=True)
    p.add_argument("--initramfs", required=True)
    p.add_argument("--compute", required=True, help="the guest's compute program, runs here too")
    p.add_argument("--logs", required=True)
    p.add_argument("--timeout", type=float, default=240)
    p.add_argument("--accel", choices=("kvm", "tcg"), default="kvm")
    p.add_argument("case", choices=sorted(CASES))
    opt = p.parse_args()
    try:
        CASES[opt.case](opt)
    except Skip as e:
        print(f"{opt.case}: skipped: {e}")
        return 77
    except Fail as e:
        print(f"{opt.case}: FAIL: {e}")
        return 1
    print(f"{opt.case}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
