#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command `anyvisor` from outside: statuses, messages, environment, and what it finds out about commands and devices.

Places without a device, or with a broken one, are made in mount namespaces; where that is not allowed those tests skip.

usage: test_cli.py ANYVISOR [unittest arguments]
"""
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

ANYVISOR = ""
NO_DEVICE = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\""
DEAD_DEVICE = "mount --bind /dev/null /dev/kvm && exec \"$@\""


def call(*args, env=None, namespace=None, user=None):
    command = [ANYVISOR, *args]
    if namespace:
        command = ["unshare", "-m", "sh", "-c", namespace, "sh", *command]
    full = dict(os.environ, **(env or {}))
    return subprocess.run(command, env=full, capture_output=True, text=True, timeout=60, user=user,
                          stdin=subprocess.DEVNULL)


def may_unshare(script):
    return shutil.which("unshare") and not subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", "true"], capture_output=True).returncode


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="anyvisor-cli-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir)

    def file(self, name, data, mode=0o755):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    def true(self):
        with open("/bin/true", "rb") as f:
            return bytearray(f.read())

    def fails(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        for w in words:
            self.assertIn(w, result.stderr)
        self.assertEqual(result.stdout, "")


class Verbs(Case):
    def test_help(self):
        for args in (["help"], ["--help"], ["-h"]):
            r = call(*args)
            self.assertEqual(r.returncode, 0)
            for verb in ("run", "doctor", "demo", "version", "help"):
                self.assertRegex(r.stdout, rf"(?m)^  {verb} ")
        for verb, option in (("run", "--require-kvm"), ("doctor", "--json"), ("demo", "--smp")):
            for args in (["help", verb], [verb, "--help"]):
                r = call(*args)
                self.assertEqual(r.returncode, 0)
                self.assertIn(option, r.stdout)
        self.fails(call("help", "nonsense"), 125, "nonsense")

    def test_version(self):
        r = call("version")
        self.assertEqual(r.returncode, 0)
        self.assertRegex(r.stdout, r"^anyvisor \d+\.\d+\.\d+\nlibrary: /.*libanyvisor\.so\n$")
        self.assertEqual(call("--version").stdout, r.stdout)

    def test_bad_usage(self):
        self.fails(call(), 125, "anyvisor help")
        self.fails(call("qemu-system-x86_64"), 125, "anyvisor run -- qemu-system-x86_64")
        self.fails(call("run"), 125, "Usage")
        self.fails(call("run", "--no-such"), 125, "--no-such", "anyvisor help run")
        self.fails(call("run", "--cpu"), 125, "needs a value")
        self.fails(call("run", "--quiet=1", "true"), 125, "no value")
        self.fails(call("run", "--cpu", "riscv", "true"), 125, "host, intel or amd")
        self.fails(call("run", "--engine", "jit", "true"), 125, "jit", "interp")
        self.fails(call("run", "--if-needed", "--require-kvm", "true"), 125, "exclude")


class Run(Case):
    def test_status_passes(self):
        self.assertEqual(call("run", "--", "sh", "-c", "exit 7").returncode, 7)
        self.assertEqual(call("run", "--", "sh", "-c", "kill -9 $$").returncode, -9)
        self.assertEqual(call("run", "true").returncode, 0)

    def test_arguments_pass(self):
        r = call("run", "--quiet", "echo", "--cpu", "-n", "--", "x y")
        self.assertEqual(r.stdout, "--cpu -n -- x y\n")
        self.assertEqual(r.stderr, "")

    def test_says_which_cpu_once(self):
        r = call("run", "--", "sh", "-c", "sh -c true")
        self.assertEqual(r.stderr.count("\n"), 1)
        self.assertRegex(r.stderr, r"^anyvisor: software CPU \((interpreter|translator)\), (because|though) .*; not an isolation boundary\n$")

    def test_environment(self):
        script = "echo $LD_PRELOAD; echo $ANYVISOR_CPU $ANYVISOR_ENGINE; echo $ANYVISOR_LOG"
        r = call("run", "--quiet", "--cpu=amd", "--engine", "interp", "--log", "x.log:debug", "--", "sh", "-c", script,
                 env={"LD_PRELOAD": ""})
        preload, words, log = r.stdout.splitlines()
        self.assertTrue(preload.endswith("libanyvisor.so") and preload.startswith("/"), preload)
        self.assertEqual(words, "amd interp")
        self.assertEqual(log, os.getcwd() + "/x.log:debug")
        self.addCleanup(lambda: os.path.exists("x.log") and os.unlink("x.log"))
        r = call("run", "--quiet", "--", "sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": "libc.so.6"})
        self.assertEqual(r.stdout, preload + ":libc.so.6\n")
        # under itself the list does not grow
        r = call("run", "--quiet", "--", ANYVISOR, "run", "--quiet", "--", "sh", "-c", "echo $LD_PRELOAD",
                 env={"LD_PRELOAD": ""})
        self.assertEqual(r.stdout, preload + "\n")

    def test_device_is_there(self):
        script = "stat -c %a:%t:%T:%F /dev/kvm && test -r /dev/kvm -a -w /dev/kvm && exec 3<>/dev/kvm && readlink /proc/$$/fd/3"
        for namespace in (None, NO_DEVICE, DEAD_DEVICE):
            if namespace and not may_unshare(namespace):
                continue
            r = call("run", "--quiet", "--", "sh", "-c", script, namespace=namespace)
            self.assertEqual(r.stdout.splitlines(), ["666:a:e8:character special file", "/memfd:kvm (deleted)"], r.stderr)

    def test_not_found(self):
        self.fails(call("run", "--", "no-such-command-here"), 127, "client-not-found")
        self.fails(call("run", "--", "/no/such/command"), 127, "client-not-found")
        self.fails(call("run", "--", ""), 127)

    def test_not_executable(self):
        self.fails(call("run", "--", self.file("plain", b"hello", 0o644)), 126, "client-not-executable", "chmod")
        self.fails(call("run", "--", self.dir), 126, "client-not-executable")

    def test_shell_script_without_first_line(self):
        self.assertEqual(call("run", "--quiet", self.file("script", b"echo $0\nexit 5\n")).returncode, 5)


class Clients(Case):
    def test_static(self):
        data = self.true()
        phoff = int.from_bytes(data[32:40], "little")
        for i in range(int.from_bytes(data[56:58], "little")):
            at = phoff + i * 56
            if int.from_bytes(data[at:at + 4], "little") == 3:  # PT_INTERP becomes PT_NULL
                data[at:at + 4] = bytes(4)
        path = self.file("static", data)
        self.fails(call("run", path), 125, "static-client", "dynamically linked")
        script = self.file("script", f"#! {path} -x\n".encode())
        self.fails(call("run", script), 125, "static-client")

    def test_other_architecture(self):
        data = self.true()
        data[18:20] = (183).to_bytes(2, "little")  # arm64
        self.fails(call("run", self.file("arm", data)), 125, "other-architecture")
        data = self.true()
        data[4] = 1  # 32 bits
        self.fails(call("run", self.file("small", data)), 125, "other-architecture")

    def test_other_libc(self):
        data = bytes(self.true())
        musl = data.replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib/ld-musl-x86_64.so.1\0\0\0\0")
        self.assertNotEqual(musl, data)
        self.fails(call("run", self.file("musl", musl)), 125, "other-libc")

    def test_set_id(self):
        if os.getuid():
            self.skipTest("needs root to give a file away")
        if os.statvfs(self.dir).f_flag & os.ST_NOSUID:
            self.skipTest(f"{self.dir} is mounted nosuid")
        path = self.file("suid", self.true())
        os.chmod(path, 0o4755)  # root's own: no rights to gain
        self.assertEqual(call("run", path).returncode, 0)
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o4755)
        self.fails(call("run", path), 125, "setuid-client")
        os.chmod(path, 0o2755)
        self.fails(call("run", path), 125, "setuid-client")
        os.chown(path, 0, 0)
        os.chmod(path, 0o4755)
        self.fails(call("run", path, user=65534), 125, "setuid-client")

    def test_damaged(self):
        self.fails(call("run", self.file("short", b"\x7fELF")), 125, "other-architecture")
        data = self.true()
        data[32:40] = b"\xff" * 7 + b"\x7f"  # program headers nowhere
        self.fails(call("run", self.file("nowhere", data)), 126, "damaged")
        self.fails(call("run", self.file("empty-interpreter", b"#!\n")), 126)
        loop = os.path.join(self.dir, "loop")
        self.file("loop", f"#!{loop}\n".encode())
        self.fails(call("run", loop), 126, "interpreter")


class Doctor(Case):
    def checks(self, *args, **kw):
        r = call("doctor", "--json", *args, **kw)
        out = json.loads(r.stdout)
        self.assertEqual(r.returncode, 0 if out["run_works"] else 1)
        self.assertEqual(out["run_works"], all(c["ok"] for c in out["checks"] if c["needed"]))
        for c in out["checks"]:
            self.assertEqual(set(c), {"check", "reason", "ok", "needed", "text", "hint"})
            self.assertEqual(c["ok"], c["reason"] == "ok")
            self.assertTrue(c["text"].endswith("."))
            self.assertEqual(bool(c["hint"]), not c["ok"])
        return out, {c["check"]: c["reason"] for c in out["checks"]}

    def test_here(self):
        out, reasons = self.checks()
        self.assertEqual(set(reasons), {"cpu", "kvm", "software"})
        self.assertEqual(reasons["software"], "ok")
        self.assertTrue(out["run_works"])
        text = call("doctor")
        self.assertEqual(text.returncode, 0)
        self.assertIn("'anyvisor run' will work here", text.stdout)

    def test_under_itself(self):
        """The real device is looked at past the library that this process runs under."""
        for namespace, reason in ((NO_DEVICE, "device-missing"), (DEAD_DEVICE, "kvm-not-working")):
            if not may_unshare(namespace):
                self.skipTest("no mount namespaces here")
            r = call("run", "--quiet", "--", ANYVISOR, "doctor", "--json", namespace=namespace)
            self.assertEqual({c["check"]: c["reason"] for c in json.loads(r.stdout)["checks"]}["kvm"], reason)

    def test_no_device(self):
        if not may_unshare(NO_DEVICE):
            self.skipTest("no mount namespaces here")
        out, reasons = self.checks(namespace=NO_DEVICE)
        self.assertEqual(reasons["kvm"], "device-missing")
        self.assertTrue(out["run_works"])
        r = call("run", "--require-kvm", "--", "true", namespace=NO_DEVICE)
        self.fails(r, 125, "device-missing", "--require-kvm")
        r = call("run", "--if-needed", "--", "true", namespace=NO_DEVICE)
        self.assertEqual(r.returncode, 0)
        self.assertIn("because /dev/kvm is missing", r.stderr)

    def test_dead_device(self):
        if not os.path.exists("/dev/kvm") or not may_unshare(DEAD_DEVICE):
            self.skipTest("no /dev/kvm to hide, or no mount namespaces here")
        _, reasons = self.checks(namespace=DEAD_DEVICE)
        self.assertEqual(reasons["kvm"], "kvm-not-working")
        self.fails(call("run", "--require-kvm", "true", namespace=DEAD_DEVICE), 125, "kvm-not-working")

    def test_permission(self):
        if os.getuid() or not os.path.exists("/dev/kvm") or os.stat("/dev/kvm").st_mode & stat.S_IWOTH:
            self.skipTest("needs root, and a /dev/kvm that is closed to others")
        _, reasons = self.checks(user=65534)
        self.assertEqual(reasons["kvm"], "permission")
        self.assertEqual(reasons["software"], "ok")

    def test_real_device(self):
        _, reasons = self.checks()
        show = ("--", "sh", "-c", "echo preload=$LD_PRELOAD")
        for option in ("--require-kvm", "--if-needed"):
            r = call("run", option, *show, env={"LD_PRELOAD": ""})
            if reasons["kvm"] == "ok":
                self.assertEqual((r.returncode, r.stdout), (0, "preload=\n"))
                self.assertIn("real KVM", r.stderr)
            elif option == "--require-kvm":
                self.fails(r, 125, reasons["kvm"])
            else:
                self.assertIn("libanyvisor.so", r.stdout)

    def test_command(self):
        _, reasons = self.checks("--", "ls")
        self.assertEqual(reasons["command"], "ok")
        out, reasons = self.checks("--", "no-such-command-here")
        self.assertEqual(reasons["command"], "client-not-found")
        self.assertFalse(out["run_works"])


class Demo(Case):
    def test_says_what_is_missing(self):
        os.symlink(ANYVISOR, os.path.join(self.dir, "anyvisor"))
        self.fails(call("demo", env={"PATH": self.dir}), 125, "apt install qemu-system-x86")
        self.fails(call("demo", "--kernel", "/no/such/kernel"), 125, "/no/such/kernel")
        self.fails(call("demo", "--smp", "0"), 125, "--smp")
        self.fails(call("demo", "--memory", "12x"), 125, "--memory")
        self.fails(call("demo", "extra"), 125, "no arguments")

    def test_believes_only_the_guest(self):
        """A QEMU that ends well without the guest's word, or says the word and fails, is no success."""
        cases = ((b"echo anyvisor-demo: ok\n", 0), (b"echo 'anyvisor-demo: ok '\n", 1), (b"true\n", 1),
                 (b"echo anyvisor-demo: ok; exit 3\n", 1), (b"printf 'x\\r\\nanyvisor-demo: ok\\r\\n'\n", 0),
                 (b"echo not anyvisor-demo: ok\n", 1))
        kernel = self.file("kernel", b"")
        for body, status in cases:
            self.file("qemu-system-x86_64", b"#!/bin/sh\n" + body)
            r = call("demo", "--kernel", kernel, env={"PATH": self.dir + ":" + os.environ["PATH"]})
            if "demo-initramfs" in r.stderr:
                self.skipTest("the demo guest is not built")
            self.assertEqual(r.returncode, status, (body, r.stderr))


if __name__ == "__main__":
    ANYVISOR = os.path.abspath(sys.argv.pop(1))
    unittest.main()
