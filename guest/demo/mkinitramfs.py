#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the demo (or, with --modules, the test) guest's initramfs.

Needs no root: the archive is written here, device nodes included, and always the same for the same inputs. The expected
results are computed now, by the same workload on this machine.
"""
import argparse
import gzip
import os
import stat
import subprocess
import sys
import tempfile


class Cpio:
    """A "newc" archive (Linux' Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.out = bytearray()
        self.ino = 1

    def add(self, name, mode, data=b"", rdev=(0, 0)):
        name_bytes = name.encode() + b"\0"
        fields = [self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name_bytes), 0]
        self.out += b"070701" + b"".join(b"%08x" % f for f in fields) + name_bytes
        self.pad()
        self.out += data
        self.pad()
        self.ino += 1

    def pad(self):
        self.out += b"\0" * (-len(self.out) % 4)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.out)


# What the tests load, where the kernel has it and not built in.
TEST_MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon",
                "vmw_vsock_virtio_transport", "9pnet_virtio", "9p", "button", "evdev"]


def module_order(root, names):
    """Each module with what must be loaded before it, from modules.dep; [] for what is built in."""
    def base(path):
        return os.path.basename(path).split(".ko")[0].replace("-", "_")

    deps, paths = {}, {}
    with open(os.path.join(root, "modules.dep")) as f:
        for line in f:
            path, _, rest = line.partition(":")
            deps[base(path)] = [base(p) for p in rest.split()]
            paths[base(path)] = os.path.join(root, path)

    def closure(name, seen):
        for d in deps[name]:
            closure(d, seen)
        if name not in seen:
            seen.append(name)
        return seen

    order = {n: closure(n, []) for n in names if n in deps}
    return order, {m: paths[m] for n in order for m in order[n]}


def read_module(path):
    for suffix, tool in ((".xz", ["xz", "-dc"]), (".zst", ["zstd", "-dc"]), (".gz", ["gzip", "-dc"])):
        if path.endswith(suffix):
            return subprocess.check_output(tool + [path])
    with open(path, "rb") as f:
        return f.read()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--busybox", default="/bin/busybox")
    p.add_argument("--compute", required=True)
    p.add_argument("--init", required=True)
    p.add_argument("--workload", required=True)
    p.add_argument("--modules", help="a /lib/modules directory: adds virtio drivers")
    p.add_argument("output")
    a = p.parse_args()

    with tempfile.TemporaryDirectory() as tmp:
        env = dict(os.environ, COMPUTE=os.path.abspath(a.compute), BUSYBOX=a.busybox, AVX2="avx2-scalar", TMPDIR=tmp)
        expected = subprocess.check_output([a.busybox, "sh", a.workload], env=env)
    if expected.count(b"\n") < 10:
        sys.exit("the workload did not run on this host:\n" + expected.decode())

    def content(path):
        with open(path, "rb") as f:
            return f.read()

    c = Cpio()
    for d in ("bin", "dev", "proc", "sys", "tmp", "mnt", "modules"):
        c.add(d, stat.S_IFDIR | 0o755)
    c.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    c.add("bin/busybox", stat.S_IFREG | 0o755, content(a.busybox))
    c.add("bin/compute", stat.S_IFREG | 0o755, content(a.compute))
    c.add("bin/workload", stat.S_IFREG | 0o755, content(a.workload))
    c.add("init", stat.S_IFREG | 0o755, content(a.init))
    c.add("expected", stat.S_IFREG | 0o644, expected)
    if a.modules:
        order, paths = module_order(a.modules, TEST_MODULES)
        for name, path in sorted(paths.items()):
            c.add(f"modules/{name}.ko", stat.S_IFREG | 0o644, read_module(path))
        c.add("modules/order", stat.S_IFREG | 0o644,
              "".join(f"{n} {' '.join(x for x in d if x != n)}\n" for n, d in order.items()).encode())
    with open(a.output, "wb") as f:
        f.write(gzip.compress(c.finish(), 6, mtime=0))


if __name__ == "__main__":
    main()
