# SPDX-License-Identifier: MIT
"""Guests that run by themselves: Debian's kernel boots, works and powers off, judged by what guest and host saw."""
import http.server
import os
import subprocess
import tempfile
import threading
import time

from vm import COMPLAINTS, Case, Fail, command, compute, linux, need_tool, sha256


def boot(opt, want, smp, append="", extra=()):
    """Runs a guest until it powers off; fails unless a console line is exactly `want`. Returns the console's lines."""
    qemu = command(opt, ["-machine", "pc", "-smp", str(smp), "-m", "512", "-serial", "stdio", "-monitor", "none", "-no-reboot",
                         *linux(opt, append), *extra])
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
    bad = [line for line in lines if COMPLAINTS.search(line)]
    if bad:
        raise Fail(f"the guest's kernel complained: {bad[0]}; console in {log_path}")
    print(f"{opt.case}: guest was up and done in {time.monotonic() - start:.1f} s")
    return lines


def demo(smp):
    def case(opt):
        lines = boot(opt, "anyvisor-demo: ok", smp, "")
        head = [line for line in lines if "anyvisor-demo: kernel" in line]
        if not head or f" {smp} CPU(s)" not in head[0]:
            raise Fail(f"the guest did not see {smp} CPUs: {head}")
    return case


def blk(opt):
    mkfs, debugfs = need_tool("mkfs.ext4", "e2fsprogs"), need_tool("debugfs", "e2fsprogs")
    with tempfile.TemporaryDirectory() as tmp:
        image, tree, out = (os.path.join(tmp, n) for n in ("disk", "tree", "out"))
        data = compute(opt, "stream", 16, 3)
        os.mkdir(tree)
        with open(os.path.join(tree, "from-host"), "wb") as f:
            f.write(data)
        with open(image, "wb") as f:
            f.truncate(128 << 20)
        subprocess.run([mkfs, "-q", "-d", tree, image], check=True)
        boot(opt, "anyvisor-blk: ok", 2, f"anyvisor.test=blk anyvisor.sum={sha256(data)}",
             ["-drive", f"file={image},if=none,id=d,format=raw", "-device", "virtio-blk-pci,drive=d"])
        subprocess.run([debugfs, "-R", f"dump /from-guest {out}", image], check=True, stderr=subprocess.DEVNULL)
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


def row(name, shown, proof, run):
    return Case(name, shown, "the guest works by itself", proof, 300, "fast", run)


CASES = [
    *(row(f"boot{n}", f"-machine pc -smp {n}", "every result of the demo's workload is the host's", demo(n)) for n in (1, 2, 4)),
    row("blk", "virtio-blk-pci, a raw image with ext4", "files written on either side are the same on the other", blk),
    row("net", "virtio-net-pci, user networking", "HTTP both ways with the host, the same bytes on both sides", net),
]
