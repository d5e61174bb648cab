# SPDX-License-Identifier: MIT
"""What a VM lives through: reset, shutdown, pause, snapshots, migration, hot-plug, and a debugger."""
import os
import re
import socket
import subprocess
import tempfile
import time

from gdbremote import Gdb
from packages import initramfs, unpacked_kernel
from vm import Case, Fail, Skip, Vm, compute, linux, need_tool, sha256

POWER_BUTTON = "sed -n '/Power Button/,/^$/s/^H:.*\\(event[0-9]*\\).*/\\1/p' /proc/bus/input/devices | head -n 1"


def up(vm, cpus=2):
    _, _, n, _ = vm.ready()
    if n != cpus:
        vm.fail(f"the guest sees {n} CPUs of {cpus}")


# ---- power ----

def reset(opt):
    with Vm(opt, linux(opt), reboot=True) as vm:
        up(vm)
        vm.sh("touch /tmp/mark")
        vm.qmp("system_reset")  # the machine's line
        vm.event("RESET")
        up(vm)
        vm.sh("test ! -e /tmp/mark")
        vm.send("end reboot -f\n")  # the guest's own, through ACPI or the keyboard controller
        vm.event("RESET")
        up(vm)
        vm.content()
        vm.finish()


def triple_fault(opt):
    with Vm(opt, linux(opt, "reboot=t anyvisor.test=agent"), reboot=True) as vm:
        up(vm)
        vm.send("end reboot -f\n")
        vm.event("RESET")
        up(vm)
        vm.content()
        vm.finish()


def powerdown(machine):
    def run(opt):
        with Vm(opt, linux(opt), machine=machine) as vm:
            up(vm)
            vm.sh("modules button evdev")
            event = vm.until(POWER_BUTTON, lambda said: said.startswith("event"))
            vm.sh(f"(head -c 24 /dev/input/{event} > /tmp/key && poweroff -f) &")
            time.sleep(1)
            vm.qmp("system_powerdown")
            vm.event("POWERDOWN")
            vm.event("SHUTDOWN")
            vm.ended()
    return run


def uptime(vm):
    return float(vm.sh("cut -d' ' -f1 /proc/uptime"))


def stop_cont(opt):
    with Vm(opt, linux(opt)) as vm:
        up(vm)
        vm.check("cat /sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock" if opt.accel == "kvm" else "tsc")
        before, start = uptime(vm), time.monotonic()
        for _ in range(3):
            vm.qmp("stop")
            time.sleep(2)
            vm.qmp("cont")
        stopped = uptime(vm) - before
        passed = time.monotonic() - start
        # kvm-clock stands still with the machine, as QEMU saves and restores it
        if opt.accel == "kvm" and not 0 <= stopped <= passed - 5:
            vm.fail(f"of {passed:.1f} s, 6 of them stopped, the guest's clock counted {stopped:.1f}")
        before, start = uptime(vm), time.monotonic()
        time.sleep(3)
        went, passed = uptime(vm) - before, time.monotonic() - start
        if abs(went - passed) > 0.5 + passed / 10:
            vm.fail(f"in {passed:.1f} s the guest's clock went {went:.1f} s")
        vm.sh("sleep 1")
        vm.content()
        vm.finish()


# ---- a guest that would notice a lost page ----

BUSY = ("(n=0; while [ ! -e /tmp/end ]; do compute stream 8 $n > /tmp/new; mv /tmp/new /tmp/stream;"
        " [ \"$(sha256sum < /tmp/stream)\" = \"$(compute stream 8 $n | sha256sum)\" ] || echo $n >> /tmp/bad;"
        " n=$((n + 1)); echo $n > /tmp/rounds; done; touch /tmp/over) &")


def busy(vm):
    vm.sh("compute stream 64 5 > /tmp/kept")
    vm.sh(BUSY)
    vm.until("cat /tmp/rounds 2>/dev/null", lambda said: said.isdigit() and int(said) > 1)


def still_busy(vm):
    rounds = int(vm.sh("cat /tmp/rounds"))
    vm.until("cat /tmp/rounds", lambda said: int(said) > rounds + 2)
    vm.sh("touch /tmp/end")
    vm.until("ls /tmp/over", "/tmp/over")
    vm.sh("test ! -e /tmp/bad")
    vm.check("sha256sum < /tmp/kept | cut -c1-64", sha256(compute(vm.opt, "stream", 64, 5)))


def savevm(opt):
    qemu_img = need_tool("qemu-img", "qemu-utils")

    def disk(vm):
        image = os.path.join(vm.dir, "disk.qcow2")
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", image, "1G"], check=True)
        return ["-drive", f"file={image},if=virtio,format=qcow2"]

    with Vm(opt, linux(opt), memory="256M", prepare=disk) as vm:
        up(vm)
        vm.sh("echo before > /tmp/when")
        vm.sh("compute stream 32 6 > /tmp/kept")
        at = uptime(vm)
        vm.hmp("savevm one", 180)
        vm.sh("echo after > /tmp/when; rm /tmp/kept; touch /tmp/new")
        time.sleep(2)
        vm.hmp("loadvm one", 180)
        vm.check("cat /tmp/when", "before")
        vm.sh("test ! -e /tmp/new")
        vm.check("sha256sum < /tmp/kept | cut -c1-64", sha256(compute(opt, "stream", 32, 6)))
        if not at <= uptime(vm) <= at + 60:
            vm.fail(f"the clock was {at:.1f} when saved and is {uptime(vm):.1f}")
        vm.sh("sleep 1")
        vm.content()
        vm.hmp("savevm two", 180)
        vm.hmp("loadvm one", 180)
        vm.hmp("loadvm two", 180)
        vm.content()
        vm.finish()


def migrate(machine):
    def run(opt):
        with tempfile.TemporaryDirectory() as tmp:
            path = os.path.join(tmp, "migration")
            with Vm(opt, linux(opt), "source", memory="256M", machine=machine) as source:
                up(source)
                busy(source)
                with Vm(opt, [*linux(opt), "-incoming", f"unix:{path}"], "target", memory="256M", machine=machine) as target:
                    source.qmp("migrate-set-parameters", downtime_limit=1000)
                    source.qmp("migrate", uri=f"unix:{path}")
                    finished(source)
                    target.event("RESUME")
                    source.qmp("quit")
                    source.ended()
                    still_busy(target)
                    target.content()
                    target.finish()
    return run


def finished(vm, seconds=180):
    end = time.monotonic() + seconds
    while True:
        status = vm.qmp("query-migrate")
        if status.get("status") == "completed":
            return
        if status.get("status") == "failed" or time.monotonic() > end:
            vm.fail(f"migration: {status}")
        time.sleep(0.5)


# ---- hot-plug and devices ----

def mem_total(vm):
    return int(vm.sh("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) // 1024


def fill(vm, mebibytes):
    """A file of that size in memory, copies of one 8 MiB block; the first, a middle and the last copy are compared."""
    vm.sh(f"mount -o remount,size={mebibytes + 16}m /tmp && compute stream 8 3 > /tmp/block")
    copies = mebibytes // 8
    vm.sh(f"n=0; while [ $n -lt {copies} ]; do cat /tmp/block && n=$((n + 1)); done > /tmp/big", 120)
    for n in (0, copies // 2, copies - 1):
        vm.check(f"dd if=/tmp/big bs=8M skip={n} count=1 2>/dev/null | sha256sum | cut -c1-64",
                 sha256(compute(vm.opt, "stream", 8, 3)))


def balloon(opt):
    with Vm(opt, [*linux(opt), "-device", "virtio-balloon-pci"]) as vm:
        up(vm)
        vm.sh("modules virtio_pci virtio_balloon")
        full = mem_total(vm)
        vm.qmp("balloon", value=320 << 20)
        balloon_at(vm, 320)
        if mem_total(vm) > full - 150:
            vm.fail(f"{mem_total(vm)} MiB are left of {full}")
        vm.content()
        vm.qmp("balloon", value=512 << 20)
        balloon_at(vm, 512)
        if mem_total(vm) != full:
            vm.fail(f"{mem_total(vm)} MiB came back of {full}")
        fill(vm, 320)
        vm.finish()


def balloon_at(vm, mebibytes, seconds=60):
    end = time.monotonic() + seconds
    while vm.qmp("query-balloon")["actual"] >> 20 != mebibytes:
        if time.monotonic() > end:
            vm.fail(f"the balloon is at {vm.qmp('query-balloon')['actual'] >> 20} MiB and not at {mebibytes}")
        time.sleep(0.3)


def memory_plug(opt):
    with Vm(opt, linux(opt), memory="256M,slots=2,maxmem=1G") as vm:
        up(vm)
        vm.sh("echo online > /sys/devices/system/memory/auto_online_blocks")
        had = mem_total(vm)
        for n in range(2):
            vm.qmp("object-add", qom_type="memory-backend-ram", id=f"m{n}", size=256 << 20)
            vm.qmp("device_add", driver="pc-dimm", id=f"d{n}", memdev=f"m{n}")
            had += 256
            vm.until("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo", lambda said: int(said) // 1024 >= had)
        fill(vm, 500)
        vm.finish()


def cpu_plug(opt):
    with Vm(opt, linux(opt), smp="1,maxcpus=3") as vm:
        up(vm, 1)
        free = [c for c in vm.qmp("query-hotpluggable-cpus") if "qom-path" not in c]
        props = sorted((c["props"] for c in free), key=lambda p: p["socket-id"])
        driver = free[0]["type"]
        for n, where in enumerate(props, 1):
            plug(vm, driver, n, where)
        vm.check("nproc", 3)
        vm.sh("dmesg -c > /tmp/dmesg")
        vm.qmp("device_del", id="cpu2")
        vm.event("DEVICE_DELETED")
        vm.until("nproc", 2)
        plug(vm, driver, 2, props[1])  # into the place, and the vCPU fd, of the one before
        vm.content()
        vm.finish()


def plug(vm, driver, n, where):
    vm.qmp("device_add", driver=driver, id=f"cpu{n}", **where)
    vm.until(f"echo 1 > /sys/devices/system/cpu/cpu{n}/online; cat /sys/devices/system/cpu/cpu{n}/online", lambda said: said[-1:] == "1")
    vm.check(f"taskset {1 << n:x} compute stream 4 9 | sha256sum | cut -c1-64", sha256(compute(vm.opt, "stream", 4, 9)))
    vm.sh(f"taskset {1 << n:x} sleep 1")  # its timer


def rng(opt):
    with Vm(opt, [*linux(opt), "-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r"]) as vm:
        up(vm)
        vm.sh("modules virtio_pci virtio_rng")
        vm.check("cat /sys/class/misc/hw_random/rng_current", "virtio_rng.0")
        vm.check("head -c 65536 /dev/hwrng | tee /tmp/a | wc -c", 65536)
        vm.sh("head -c 65536 /dev/hwrng > /tmp/b")
        vm.sh("! cmp -s /tmp/a /tmp/b")
        # random bytes do not shrink
        if int(vm.sh("gzip -c /tmp/a | wc -c")) < 65536:
            vm.fail("what comes from the device is not random")
        vm.finish()


def plan9(opt):
    kernel, modules = unpacked_kernel(opt, "linux-image-amd64", "amd64")  # the cloud kernel has no 9p
    initrd = initramfs(opt, "standard", modules)

    def share(vm):
        with open(os.path.join(vm.dir, "from-host"), "wb") as f:
            f.write(compute(opt, "stream", 8, 5))
        return ["-virtfs", f"local,path={vm.dir},mount_tag=here,security_model=none,multidevs=remap"]

    with Vm(opt, linux(opt, kernel=kernel, initrd=initrd), prepare=share) as vm:
        up(vm)
        vm.sh("modules virtio_pci 9pnet_virtio 9p")
        vm.sh("mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072 here /mnt")
        vm.check("sha256sum < /mnt/from-host | cut -c1-64", sha256(compute(opt, "stream", 8, 5)))
        vm.sh("compute stream 8 6 > /mnt/from-guest && sync && umount /mnt")
        with open(os.path.join(vm.dir, "from-guest"), "rb") as f:
            if f.read() != compute(opt, "stream", 8, 6):
                vm.fail("the file that the guest wrote is not what the host reads")
        vm.finish()


def vsock(opt):
    if not os.path.exists("/dev/vhost-vsock"):
        raise Skip("the host has no /dev/vhost-vsock")
    cid = 1000 + os.getpid() % 100000
    with Vm(opt, [*linux(opt), "-device", f"vhost-vsock-pci,guest-cid={cid}"]) as vm:
        up(vm)
        vm.sh("modules virtio_pci vmw_vsock_virtio_transport")
        vm.until("ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport | grep -c ^virtio", 1)
        # nobody listens there; that the guest says so took a packet each way
        with socket.socket(socket.AF_VSOCK) as s:
            s.settimeout(10)
            try:
                s.connect((cid, 4242))
                raise Fail("somebody listens in the guest")
            except ConnectionResetError:
                pass
            except socket.timeout:
                vm.fail("the guest does not answer")
        vm.finish()


# ---- a debugger ----

def debugged(opt, use):
    def stub(vm):
        vm.gdb_path = os.path.join(vm.dir, "gdb")
        return ["-gdb", f"unix:{vm.gdb_path},server=on,wait=off"]

    with Vm(opt, linux(opt, "nokaslr anyvisor.test=agent"), smp="1", prepare=stub) as vm:
        up(vm, 1)
        with Gdb(vm.gdb_path) as gdb:
            gdb.go()
            use(vm, gdb)
            gdb.detach()
        vm.content()
        vm.finish()


def symbol(vm, name):
    found = vm.sh(f"grep -m1 ' {name}$' /proc/kallsyms").split()
    if not found or not int(found[0], 16):
        vm.fail(f"no symbol {name} in the guest's kernel")
    return int(found[0], 16)


def breakpoints(hardware):
    def use(vm, gdb):
        where = symbol(vm, "__x64_sys_newuname")
        gdb.insert(hardware, where)
        for n in range(3):
            vm.send(f"b{n} uname -v\n")
            gdb.stopped(where)
            before = gdb.registers()
            gdb.remove(hardware, where)  # the step over it, as a debugger does
            gdb.step()
            after = gdb.registers()
            if after["rip"] == before["rip"]:
                vm.fail("a step does not move")
            gdb.insert(hardware, where)
            gdb.go()
            vm.expect(rf"anyvisor-agent: b{n} 0\n")
        gdb.interrupt()
        gdb.remove(hardware, where)
        gdb.go()
        vm.sh("uname -v")
    return lambda opt: debugged(opt, use)


def watchpoint(vm, gdb):
    where = symbol(vm, "jiffies_64") if vm.sh("grep -c ' jiffies_64$' /proc/kallsyms", status=None) != "0" else symbol(vm, "jiffies")
    gdb.interrupt()
    gdb.insert(Gdb.WATCH_WRITE, where, 8)
    values = []
    for _ in range(3):
        gdb.go()
        reason = gdb.stopped()
        if f"watch:{where:x}" not in reason:
            vm.fail(f"stopped for '{reason}' and not for the watchpoint at {where:x}")
        values.append(int.from_bytes(gdb.memory(where, 8), "little"))
    if not values[0] < values[1] < values[2]:
        vm.fail(f"the watched word was {values} when the guest had written it")
    gdb.remove(Gdb.WATCH_WRITE, where, 8)
    gdb.go()


def single_step(vm, gdb):
    where = symbol(vm, "__x64_sys_newuname")
    gdb.insert(Gdb.HARDWARE, where)
    vm.send("s uname -v\n")
    gdb.stopped(where)
    gdb.remove(Gdb.HARDWARE, where)
    seen = [where]
    for _ in range(200):
        gdb.step()
        seen.append(gdb.registers()["rip"])
    if len(set(seen)) < 100 or any(rip >> 40 != 0xffffff for rip in seen):
        vm.fail(f"200 steps through the kernel went {[hex(r) for r in seen[:8]]}...")
    # straight code goes on where the instruction ends, which is at most 15 bytes away
    if sum(0 < b - a <= 15 for a, b in zip(seen, seen[1:])) < 100:
        vm.fail("steps leave out instructions")
    gdb.go()
    vm.expect(r"anyvisor-agent: s 0\n")


def row(name, shown, driven, proof, run, seconds=300, suite="fast"):
    return Case(name, shown, driven, proof, seconds, suite, run)


CASES = [
    row("reset", "", "QMP `system_reset`, then `reboot` in the guest", "the guest comes up twice more, with nothing left over", reset),
    row("reset-triple-fault", "reboot=t on the kernel's command line", "`reboot` in the guest", "a triple fault resets the machine", triple_fault),
    row("powerdown-pc", "-machine pc", "QMP `system_powerdown`", "the guest sees its power button and powers off through ACPI", powerdown("pc")),
    row("powerdown-q35", "-machine q35", "QMP `system_powerdown`", "the guest sees its power button and powers off through ACPI", powerdown("q35")),
    row("stop-cont", "", "QMP `stop`, `cont`, three times 2 s", "the guest's clock stood still, then goes with the host's", stop_cont),
    row("savevm", "a qcow2 disk", "HMP `savevm`, `loadvm`", "files, memory and clock are those of the snapshot, twice", savevm),
    row("migrate-pc", "-machine pc, two QEMUs, a unix socket", "QMP `migrate` while the guest writes and checks 8 MiB over and over",
        "no round before or after was wrong; 64 MiB written before have their checksum", migrate("pc")),
    row("migrate-q35-split", "-machine q35,kernel-irqchip=split, two QEMUs", "as migrate-pc", "as migrate-pc", migrate("q35,kernel-irqchip=split")),
    row("balloon", "virtio-balloon-pci", "QMP `balloon` to 320 of 512 MiB and back", "the guest has less, then all again, and can use it", balloon),
    row("memory-hotplug", "-m 256M,slots=2,maxmem=1G", "QMP `object-add`, `device_add` pc-dimm, twice", "500 MiB in the guest keep what was written", memory_plug),
    row("cpu-hotplug", "-smp 1,maxcpus=3", "QMP `device_add`, `device_del`, `device_add`", "each CPU works and has its timer; one goes and comes again", cpu_plug),
    row("rng", "virtio-rng-pci", "/dev/hwrng in the guest", "bytes come, differ, and do not compress", rng),
    row("9p", "-virtfs, linux-image-amd64", "mount in the guest", "files written on either side are the same on the other", plan9),
    row("vsock", "vhost-vsock-pci", "connect from the host", "the guest's refusal arrives; only where the host has /dev/vhost-vsock", vsock),
    row("gdb-breakpoint", "-gdb unix:…", "gdb's remote protocol", "three calls stop at a hardware breakpoint, a step leaves it", breakpoints(Gdb.HARDWARE)),
    row("gdb-software-breakpoint", "-gdb unix:…", "gdb's remote protocol", "as gdb-breakpoint, with INT3", breakpoints(Gdb.SOFTWARE)),
    row("gdb-step", "-gdb unix:…", "gdb's remote protocol", "200 steps through a system call, each by one instruction; the call returns", lambda opt: debugged(opt, single_step)),
    row("gdb-watchpoint", "-gdb unix:…", "gdb's remote protocol", "three writes of the kernel's tick counter stop it, with the new value", lambda opt: debugged(opt, watchpoint)),
]
