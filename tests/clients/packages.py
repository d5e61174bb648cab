# SPDX-License-Identifier: MIT
"""Debian packages that are not installed: unpacked into a cache, through a configuration of apt that is ours alone, so that
neither the system's packages nor its architectures change.
"""
import fcntl
import os
import re
import subprocess
import sys

from vm import Skip, need_file, need_tool, newest_kernel

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "guest", "demo")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CONFIG = """Dir::State "{dir}";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
Acquire::Retries "2";
"""


class Apt:
    def __init__(self, cache, arch):
        self.arch, self.dir = arch, os.path.join(os.path.abspath(cache), arch)
        need_tool("apt-get", "apt")
        need_file(KEYRING, "debian-archive-keyring")
        for d in ("lists/partial", "archives/partial"):
            os.makedirs(os.path.join(self.dir, d), exist_ok=True)
        self.write("status", "")
        self.write("sources.list", f"deb [arch={arch} signed-by={KEYRING}] http://deb.debian.org/debian bookworm main\n")
        self.write("apt.conf", CONFIG.format(dir=self.dir, arch=arch))

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def call(self, *args):
        env = dict(os.environ, APT_CONFIG=os.path.join(self.dir, "apt.conf"), LC_ALL="C")
        r = subprocess.run(args, env=env, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           stdin=subprocess.DEVNULL)
        if r.returncode:
            raise Skip(f"cannot have Debian's packages for {self.arch}: {r.stdout.strip().splitlines()[-1:]}")
        return r.stdout

    def unpack(self, package):
        """The folder that holds the package's files, of what it depends on if it is a kernel's metapackage."""
        out = os.path.join(self.dir, "unpacked", package)
        with open(os.path.join(self.dir, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(out):
                return out
            self.call("apt-get", "-q", "update")
            names = re.findall(r"Depends: (linux-image-\S+)", self.call("apt-cache", "depends", package)) or [package]
            self.call("apt-get", "-q", "download", names[0])
            os.makedirs(os.path.dirname(out), exist_ok=True)
            deb = next(f for f in os.listdir(self.dir) if f.startswith(names[0] + "_") and f.endswith(".deb"))
            subprocess.run(["dpkg-deb", "-x", deb, out + ".new"], check=True, cwd=self.dir)
            os.unlink(os.path.join(self.dir, deb))
            os.rename(out + ".new", out)
        return out


def unpacked_kernel(opt, package, arch):
    """(the kernel, its folder of modules with modules.dep)"""
    root = Apt(opt.cache, arch).unpack(package)
    kernel = newest_kernel(os.path.join(root, "boot", "vmlinuz-*"), package)
    release = kernel.split("vmlinuz-")[-1]
    modules = os.path.join(root, "lib", "modules", release)
    if not os.path.exists(os.path.join(modules, "modules.dep")):
        subprocess.run([need_tool("depmod", "kmod"), "-b", root, release], check=True)
    return kernel, modules


def initramfs(opt, name, modules=None, busybox=None):
    """A test guest's image for that kernel; without `compute` if another architecture's busybox is given."""
    out = os.path.join(opt.cache, f"{name}.cpio.gz")
    command = [sys.executable, os.path.join(DEMO, "mkinitramfs.py"), "--init", os.path.join(DEMO, "init")]
    command += ["--modules", modules] if modules else []
    command += ["--busybox", busybox] if busybox else ["--compute", opt.compute]
    subprocess.run([*command, out], check=True, stdin=subprocess.DEVNULL)
    return out
