# SPDX-License-Identifier: MIT
"""gdb's remote serial protocol as far as the tests need it: QEMU's -gdb driven without a gdb."""
import socket

from vm import Fail

NAMES = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"]


class Gdb:
    # Z packet types
    SOFTWARE, HARDWARE, WATCH_WRITE, WATCH_READ, WATCH_ACCESS = range(5)

    def __init__(self, path, seconds=60):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(seconds)
        self.sock.connect(path)
        self.buffer, self.early = b"", []

    def __enter__(self):
        """Connecting stops the guest; the stub may say so before it is asked."""
        self.ask("qSupported")
        self.early.clear()
        self.ask("?")
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def byte(self):
        if not self.buffer:
            try:
                self.buffer = self.sock.recv(65536)
            except socket.timeout:
                raise Fail("the gdb stub does not answer") from None
            if not self.buffer:
                raise Fail("the gdb stub hung up")
        b, self.buffer = self.buffer[:1], self.buffer[1:]
        return b

    def send(self, packet):
        data = packet.encode()
        self.sock.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xff))
        answer = self.byte()
        while answer == b"$":
            self.early.append(self.body())
            answer = self.byte()
        if answer != b"+":
            raise Fail(f"the gdb stub rejects '{packet}'")

    def receive(self):
        if self.early:
            return self.early.pop(0)
        while self.byte() != b"$":
            pass
        return self.body()

    def body(self):
        data = b""
        while not data.endswith(b"#"):
            data += self.byte()
        self.byte(), self.byte()
        self.sock.sendall(b"+")
        return data[:-1].decode()

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def order(self, packet):
        said = self.ask(packet)
        if said != "OK":
            raise Fail(f"the gdb stub answers '{said}' to '{packet}'")

    def stopped(self, rip=None):
        """Waits until the guest stops; returns the stop reply."""
        reason = self.receive()
        if not reason.startswith("T05"):
            raise Fail(f"the guest stopped with '{reason}'")
        if rip is not None and self.registers()["rip"] != rip:
            raise Fail(f"the guest stopped at {self.registers()['rip']:x} and not at {rip:x}")
        return reason

    def interrupt(self):
        self.sock.sendall(b"\x03")
        reason = self.receive()
        if not reason.startswith("T0"):
            raise Fail(f"the guest stopped with '{reason}'")

    def go(self):
        self.send("c")

    def step(self):
        self.send("s")
        return self.stopped()

    def registers(self):
        data = bytes.fromhex(self.ask("g"))
        return {name: int.from_bytes(data[8 * n:8 * n + 8], "little") for n, name in enumerate(NAMES)}

    def memory(self, address, size):
        said = self.ask(f"m{address:x},{size:x}")
        if len(said) != 2 * size:
            raise Fail(f"the gdb stub answers '{said}' to a read at {address:x}")
        return bytes.fromhex(said)

    def insert(self, kind, address, size=1):
        self.order(f"Z{kind},{address:x},{size:x}")

    def remove(self, kind, address, size=1):
        self.order(f"z{kind},{address:x},{size:x}")

    def detach(self):
        self.order("D")
