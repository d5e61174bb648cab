# SPDX-License-Identifier: MIT
"""Machines, CPU models, firmware and kernels: what a user's QEMU command line can name, each once to where a guest works."""
import os
import re
import shutil
import subprocess
import types

from packages import Apt, initramfs, unpacked_kernel
from vm import Case, Vm, linux, need_file, need_tool, newest_kernel, sha256

OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
INSTALLER = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
MEMTEST = "/boot/memtest86+x64.bin"
SHELL = "direct kernel boot, shell on the console"
WORKS = "its CPUs, a checksum of computed data, a clean kernel log, power-off"


def works(vm, cpus=2):
    release, arch, n, model = vm.ready()
    if n != cpus:
        vm.fail(f"the guest sees {n} CPUs of {cpus}")
    vm.content()
    return release, arch, model


def machine(name, cpus=2):
    def run(opt):
        with Vm(opt, linux(opt), machine=name, smp=str(cpus)) as vm:
            works(vm, cpus)
            if name.startswith("microvm"):
                vm.check("ls /sys/bus/pci/devices 2>/dev/null | wc -l", 0)
            vm.finish()
    return run


# The model's name in the guest; the vendor is the host's, which QEMU asks without KVM.
CPU_MODELS = {"host": None, "max": None, "qemu64": "QEMU Virtual CPU version", "Skylake-Server": "Intel Xeon Processor (Skylake)",
              "EPYC": "AMD EPYC Processor"}


def cpu(model, personality):
    def run(opt):
        opt = types.SimpleNamespace(**vars(opt), personality=personality)
        with Vm(opt, linux(opt), cpu=model) as vm:
            _, _, name = works(vm)
            if CPU_MODELS[model] and not name.startswith(CPU_MODELS[model]):
                vm.fail(f"the guest's CPU is '{name}'")
            flags = vm.sh("grep -m1 ^flags /proc/cpuinfo").split()
            # CLZERO is in the software CPU on any host, and AMD's alone
            if opt.accel == "kvm" and model in ("host", "max") and ("clzero" in flags) != (personality == "amd"):
                vm.fail("the CPU's flags are not the personality's")
            vm.finish()
    return run


def pflash(vm):
    variables = os.path.join(vm.dir, "variables")
    shutil.copy(need_file(OVMF_VARS, "ovmf"), variables)
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={need_file(OVMF, 'ovmf')}",
            "-drive", f"if=pflash,format=raw,file={variables}"]


# OVMF of this release maps all physical addresses that the CPU has with 2 MiB pages: 48 bits are 1 GiB of tables, which end in
# the ROM area. It does so under TCG (phys-bits=48) too.
OVMF_CPU = "host,host-phys-bits-limit=40"


def ovmf_vm(opt, args):
    return Vm(opt, args, machine="q35", cpu=OVMF_CPU if opt.accel == "kvm" else None, prepare=pflash)


def ovmf_shell(opt):
    with ovmf_vm(opt, []) as vm:
        vm.expect(r"UEFI Interactive Shell")
        vm.expect(r"Press.*ESC.*seconds")
        vm.send("\x1b")
        vm.expect(r"Shell> ")
        vm.send("smbiosview -t 0\r")
        vm.expect(r"Vendor: .*(EDK|EFI)")
        vm.expect(r"Shell> ")
        vm.send("reset -s\r")
        vm.ended()


def ovmf_linux(opt):
    with ovmf_vm(opt, linux(opt)) as vm:
        works(vm)
        vm.check("test -d /sys/firmware/efi && echo yes", "yes")
        vm.sh("dmesg | grep -q 'efi: EFI v'")
        vm.finish()


GRUB_MENU = """serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=2
menuentry "guest" {
	linux /kernel console=ttyS0 panic=-1 anyvisor.test=agent anyvisor.from=grub
	initrd /initramfs
}
"""


def grub_disk(vm):
    rescue = need_tool("grub-mkrescue", "grub-common")
    need_file("/usr/lib/grub/i386-pc/boot_hybrid.img", "grub-pc-bin")
    need_tool("xorriso", "xorriso")
    need_tool("mformat", "mtools")
    image, files = os.path.join(vm.dir, "disk"), os.path.join(vm.dir, "files")
    os.makedirs(os.path.join(files, "boot", "grub"))
    with open(os.path.join(files, "boot", "grub", "grub.cfg"), "w") as f:
        f.write(GRUB_MENU)
    shutil.copy(newest_kernel(), os.path.join(files, "kernel"))
    shutil.copy(vm.opt.initramfs, os.path.join(files, "initramfs"))
    subprocess.run([rescue, "-o", image, files], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return ["-drive", f"file={image},if=ide,format=raw", "-boot", "c"]


def grub(opt):
    with Vm(opt, [], prepare=grub_disk) as vm:
        vm.expect("GNU GRUB")
        vm.expect("guest")
        works(vm)
        vm.sh("grep -q anyvisor.from=grub /proc/cmdline")
        vm.finish()


def installer(opt):
    kernel, initrd = (need_file(os.path.join(INSTALLER, n), "debian-installer-12-netboot-amd64") for n in ("linux", "initrd.gz"))
    with Vm(opt, ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0"], memory="1G") as vm:
        vm.expect(r"Select a language", 240)
        vm.expect(r"English")
        vm.qmp("quit")
        vm.ended()


def memtest(opt):
    need_file(MEMTEST, "memtest86+")
    with Vm(opt, ["-kernel", MEMTEST, "-append", "console=ttyS0,115200"], memory="64M", smp="1") as vm:
        found, seen = vm.expect(r"Pass:\s*[1-9][^|]*?Errors: (\d+)", 1700)
        errors = re.findall(r"Errors: (\d+)", seen) + [found.group(1)]
        if any(n != "0" for n in errors):
            vm.fail(f"memtest86+ found errors: {errors[-1]}")
        tests = set(re.findall(r"#(\d+) \[", seen))
        if len(tests) < 10:
            vm.fail(f"only tests {sorted(tests)} ran")
        vm.qmp("quit")
        vm.ended()


def standard_kernel(opt):
    kernel, modules = unpacked_kernel(opt, "linux-image-amd64", "amd64")
    with Vm(opt, linux(opt, kernel=kernel, initrd=initramfs(opt, "standard", modules))) as vm:
        release, _, _ = works(vm)
        if "cloud" in release:
            vm.fail(f"the kernel is {release}")
        vm.finish()


def kernel32(package, pae):
    def run(opt):
        kernel, _ = unpacked_kernel(opt, package, "i386")
        busybox = os.path.join(Apt(opt.cache, "i386").unpack("busybox-static"), "bin", "busybox")
        with Vm(opt, linux(opt, kernel=kernel, initrd=initramfs(opt, package, busybox=busybox))) as vm:
            _, arch, n, _ = vm.ready()
            if arch != "i686" or n != 2:
                vm.fail(f"the guest says {arch} and {n} CPUs")
            if pae != ("-pae" in vm.sh("uname -r")):
                vm.fail("this is the wrong kernel")
            data = b"anyvisor\n" * 200000
            vm.check("yes anyvisor | head -n 200000 | sha256sum | cut -c1-64", sha256(data))
            vm.check("yes anyvisor | head -n 200000 | gzip -c | gunzip -c | sha256sum | cut -c1-64", sha256(data))
            vm.check("awk 'BEGIN { for (i = 1; i <= 20000; i++) s += 1 / i; printf \"%.9f\", s }'",
                     f"{sum(1 / i for i in range(1, 20001)):.9f}")
            vm.finish()
    return run


def row(name, shown, run, driven=SHELL, proof=WORKS, seconds=300, suite="fast"):
    return Case(name, shown, driven, proof, seconds, suite, run)


CASES = [
    row("q35", "-machine q35", machine("q35")),
    row("microvm", "-machine microvm", machine("microvm"), proof="no PCI; " + WORKS),
    row("pc-irqchip-on", "-machine pc,kernel-irqchip=on", machine("pc,kernel-irqchip=on")),
    row("pc-irqchip-split", "-machine pc,kernel-irqchip=split", machine("pc,kernel-irqchip=split")),
    # With more CPUs QEMU 7.2 itself hangs, on hardware too: a SIPI stays pending and the halted CPU's thread spins with QEMU's lock.
    row("pc-irqchip-off", "-machine pc,kernel-irqchip=off -smp 1", machine("pc,kernel-irqchip=off", 1)),
    row("q35-irqchip-split", "-machine q35,kernel-irqchip=split", machine("q35,kernel-irqchip=split")),
    *(row(f"cpu-{p}-{m.lower()}", f"anyvisor run --cpu {p}, -cpu {m}", cpu(m, p), proof="its model and flags; " + WORKS)
      for p in ("intel", "amd") for m in CPU_MODELS),
    row("ovmf-shell", f"-machine q35 -cpu {OVMF_CPU}, OVMF in pflash", ovmf_shell, "the EFI shell, on the console",
        "SMBIOS as the firmware says; the shell's power-off"),
    row("ovmf-linux", f"-machine q35 -cpu {OVMF_CPU}, OVMF in pflash, -kernel", ovmf_linux, "EFI stub, shell on the console",
        "booted by EFI; " + WORKS),
    row("grub", "-drive if=ide: GRUB, kernel and initramfs on one disk", grub, "GRUB's menu, shell on the console",
        "GRUB's menu and command line; " + WORKS),
    row("kernel-standard", "-kernel: linux-image-amd64", standard_kernel),
    row("kernel-686", "-kernel: linux-image-686 (i386, no PAE)", kernel32("linux-image-686", False),
        proof="checksums, compression, floating point; a clean kernel log, power-off"),
    row("kernel-686-pae", "-kernel: linux-image-686-pae (i386)", kernel32("linux-image-686-pae", True),
        proof="checksums, compression, floating point; a clean kernel log, power-off"),
    row("installer", "-kernel, -initrd: debian-installer-12-netboot-amd64", installer, "console", "the question for the language", 400),
    row("memtest", "-kernel: memtest86+, -m 64M", memtest, "console", "a pass of all its tests without an error", 1800, "slow"),
]
