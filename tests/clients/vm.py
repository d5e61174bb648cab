# SPDX-License-Identifier: MIT
"""What the cases share: a row of the table, a QEMU that is driven from here, and its guest.

A Vm is one QEMU process under `anyvisor run` with its first serial port and its QMP monitor on sockets of ours, so that nothing that it says
is lost, and what it says is kept in --logs. Knows nothing of the cases.
"""
import collections
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

QEMU = "qemu-system-x86_64"
COMPLAINTS = re.compile(r"BUG:|Oops|soft lockup|rcu.*stall|general protection fault|Call Trace|unchecked MSR access")


class Skip(Exception):
    """The machine lacks something, which is named."""


class Fail(Exception):
    pass


# A row of docs/clients.md. shown: what is special in QEMU's arguments; proof: what must be seen for the case to pass. run(opt)
# raises Skip or Fail. seconds: a limit for meson, on a machine that has other things to do. suite: "fast" or "slow".
Case = collections.namedtuple("Case", "name shown driven proof seconds suite run")


def newest_kernel(pattern="/boot/vmlinuz-*-cloud-amd64", package="linux-image-cloud-amd64"):
    def version(path):
        return [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", path)]
    found = sorted(glob.glob(pattern), key=version)
    if not found:
        raise Skip(f"no {pattern} (package {package})")
    if not os.access(found[-1], os.R_OK):
        raise Skip(f"{found[-1]} is not readable")
    return found[-1]


def need_file(path, package):
    if not os.access(path, os.R_OK):
        raise Skip(f"no {path} (package {package})")
    return path


def need_tool(name, package):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Skip(f"no {name} (package {package})")
    return found


def compute(opt, *args):
    """The guest's compute program, on this machine."""
    return subprocess.run([opt.compute, *map(str, args)], stdout=subprocess.PIPE, check=True).stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def command(opt, args, cpu=None, kvm=""):
    """QEMU's command line up to what a case adds; kvm: properties of the accelerator."""
    if not shutil.which(QEMU):
        raise Skip(f"no {QEMU} (package qemu-system-x86)")
    qemu = [QEMU, "-accel", opt.accel + (kvm if opt.accel == "kvm" else ""), "-nodefaults", "-display", "none",
            "-cpu", cpu or ("host" if opt.accel == "kvm" else "max"), *args]
    if opt.accel == "kvm":
        personality = getattr(opt, "personality", None)
        qemu = [opt.anyvisor, "run", *(["--cpu", personality] if personality else []), "--"] + qemu
    return qemu


def linux(opt, append="anyvisor.test=agent", kernel=None, initrd=None):
    return ["-kernel", kernel or newest_kernel(), "-initrd", initrd or opt.initramfs,
            "-append", f"console=ttyS0 panic=-1 {append}".strip()]


class Listener:
    """A socket that QEMU connects to: no word of it can come before we listen."""

    def __init__(self, directory, name):
        self.path = os.path.join(directory, name)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(1)

    def accept(self, process, seconds=60):
        end = time.monotonic() + seconds
        self.sock.settimeout(0.5)
        while True:
            try:
                conn, _ = self.sock.accept()
                self.sock.close()
                conn.settimeout(None)
                return conn
            except socket.timeout:
                if process.poll() is not None:
                    raise Fail(f"QEMU ended with status {process.returncode} at once") from None
                if time.monotonic() > end:
                    raise Fail("QEMU does not connect to its sockets") from None


class Vm:
    """with Vm(opt, [...]) as vm: starts QEMU; leaving kills what is left of it.

    prepare(vm) may make files in vm.dir before that, and returns more arguments.
    """

    def __init__(self, opt, args, name="", cpu=None, kvm="", reboot=False, memory="512M", smp="2", machine="pc", prepare=None):
        self.opt, self.name = opt, f"{opt.case}{'-' + name if name else ''}"
        self.argv = command(opt, ["-machine", machine, "-m", memory, "-smp", smp, *([] if reboot else ["-no-reboot"]), *args],
                            cpu, kvm)
        self.process, self.prepare = None, prepare
        self.change = threading.Condition()
        self.text, self.at = "", 0  # the console, and how much of it has been looked at
        self.answers, self.events, self.closed = [], [], False
        self.tokens = 0

    def __enter__(self):
        os.makedirs(self.opt.logs, exist_ok=True)
        self.dir = tempfile.mkdtemp(prefix="anyvisor-client-")
        self.log_path = os.path.join(self.opt.logs, f"{self.name}.console")
        self.log = open(self.log_path, "wb")
        try:
            serial, monitor = Listener(self.dir, "serial"), Listener(self.dir, "qmp")
            self.argv += ["-chardev", f"socket,id=serial,path={serial.path}", "-serial", "chardev:serial",
                          "-qmp", f"unix:{monitor.path}", *(self.prepare(self) if self.prepare else [])]
            self.log.write((" ".join(self.argv) + "\n").encode())
            self.log.flush()
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            self.serial = serial.accept(self.process)
            threading.Thread(target=self.read_serial, daemon=True).start()
            self.monitor = monitor.accept(self.process)
            threading.Thread(target=self.read_monitor, daemon=True).start()
            self.qmp("qmp_capabilities")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def fail(self, what):
        raise Fail(f"{what}; console in {self.log_path}")

    # ---- the console ----

    def read_serial(self):
        while True:
            try:
                data = self.serial.recv(65536)
            except OSError:
                data = b""
            with self.change:
                if data and not self.log.closed:
                    self.log.write(data)
                    self.log.flush()
                self.text += data.decode("utf-8", "replace").replace("\r", "")
                self.closed = self.closed or not data
                self.change.notify_all()
            if not data:
                return

    def wait(self, condition, seconds, what):
        """Until condition(), which is called with self.change held, says something."""
        end = time.monotonic() + seconds
        with self.change:
            while True:
                found = condition()
                if found:
                    return found
                left = end - time.monotonic()
                if self.closed:
                    self.fail(f"QEMU ended before {what}")
                if left <= 0:
                    self.fail(f"not within {seconds} s: {what}")
                self.change.wait(min(left, 1))

    def expect(self, pattern, seconds=120):
        """The console's next text that matches; what comes before it counts as seen."""
        regex = re.compile(pattern)
        found = self.wait(lambda: regex.search(self.text, self.at), seconds, f"'{pattern}' on the console")
        before, self.at = self.text[self.at:found.start()], found.end()
        return found, before

    def send(self, text):
        self.serial.sendall(text.encode())

    def ready(self, seconds=180):
        """The agent of guest/demo/init answers: (kernel's release, architecture, number of CPUs, model)."""
        found, _ = self.expect(r"anyvisor-agent: ready: kernel (\S+) (\S+), (\d+) CPU\(s\): (.*)\n", seconds)
        return found.group(1), found.group(2), int(found.group(3)), found.group(4)

    def sh(self, line, seconds=60, status=0):
        """One line for the guest's shell; returns what it printed. status None: any."""
        self.tokens += 1
        token = f"t{self.tokens}"
        self.send(f"{token} {line}\n")
        found, text = self.expect(rf"anyvisor-agent: {token} (\d+)\n", seconds)
        if status is not None and int(found.group(1)) != status:
            self.fail(f"'{line}' ended with status {found.group(1)} and said '{text.strip()[-200:]}'")
        return text.strip()

    def until(self, line, want, seconds=60):
        """Asks the guest again and again, until it says `want`, a value or what judges one."""
        end = time.monotonic() + seconds
        while True:
            said = self.sh(line, status=None)
            if want(said) if callable(want) else said == str(want):
                return said
            if time.monotonic() > end:
                self.fail(f"after {seconds} s, '{line}' still says '{said[-200:]}'")
            time.sleep(0.3)

    def check(self, line, want):
        said = self.sh(line)
        if said != str(want):
            self.fail(f"'{line}' says '{said[-200:]}' and not '{want}'")

    def content(self):
        """A guest that works gets the host's results."""
        self.check("compute stream 4 9 | sha256sum | cut -c1-64", sha256(compute(self.opt, "stream", 4, 9)))

    def no_complaints(self):
        bad = [line for line in self.sh("dmesg").split("\n") if COMPLAINTS.search(line)]
        if bad:
            self.fail(f"the guest's kernel complained: {bad[0]}")

    def finish(self, seconds=60):
        """The guest's kernel is content, powers off, and QEMU ends as it should."""
        self.no_complaints()
        self.send("end poweroff -f\n")
        self.ended(seconds)

    def ended(self, seconds=60):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.fail(f"QEMU runs on after {seconds} s")
        if status:
            self.fail(f"QEMU ended with status {status}")

    # ---- the monitor ----

    def read_monitor(self):
        for line in self.monitor.makefile("r"):
            message = json.loads(line)
            with self.change:
                if "event" in message:
                    self.events.append(message)
                elif "return" in message or "error" in message:
                    self.answers.append(message)
                self.change.notify_all()

    def qmp(self, execute, seconds=60, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.monitor.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        answer = self.wait(lambda: self.answers and self.answers.pop(0), seconds, f"an answer to {execute}")
        if "error" in answer:
            self.fail(f"{execute}: {answer['error']['desc']}")
        return answer["return"]

    def hmp(self, line, seconds=60):
        said = self.qmp("human-monitor-command", seconds, command_line=line).strip()
        if "rror" in said:
            self.fail(f"{line}: {said}")
        return said

    def event(self, name, seconds=60):
        def taken():
            for n, message in enumerate(self.events):
                if message["event"] == name:
                    return self.events.pop(n)
            return None
        return self.wait(taken, seconds, f"QEMU's event {name}")
