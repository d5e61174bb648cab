# SPDX-License-Identifier: MIT
"""What the host is, and whether it is idle enough to be measured on. Knows nothing of what is measured."""
import os
import platform
import re
import subprocess
import time

SPIN_S = 0.3


def cpu_name():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return found.group(1) if found else platform.machine()


def describe(qemu, kernel):
    version = subprocess.run([qemu, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"cpu": cpu_name(), "cpus": len(os.sched_getaffinity(0)), "host_kernel": platform.release(),
            "qemu": re.search(r"version (\S+)", version).group(1), "guest_kernel": os.path.basename(kernel)}


def ticks():
    """CPU time that the machine spent busy, and that its own host took away, in ticks."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = [int(n) for n in f.readline().split()[1:9]]
    return user + nice + system + irq + softirq, steal


def spin(cpu):
    """The share of a CPU that a process gets that asks for all of it."""
    os.sched_setaffinity(0, {cpu})
    wall, used = time.monotonic(), time.process_time()
    while time.monotonic() - wall < SPIN_S:
        pass
    return (time.process_time() - used) / (time.monotonic() - wall)


def spin_everywhere():
    readers = []
    for cpu in sorted(os.sched_getaffinity(0)):
        r, w = os.pipe()
        if not os.fork():
            os.write(w, b"%f" % spin(cpu))
            os._exit(0)
        os.close(w)
        readers.append(r)
    shares = []
    for r in readers:
        shares.append(float(os.read(r, 64)))
        os.close(r)
        os.wait()
    return min(shares)


def check():
    """Is anything else running? Looks for a second, and then asks for all CPUs."""
    hz = os.sysconf("SC_CLK_TCK")
    busy, steal = ticks()
    start = time.monotonic()
    time.sleep(1)
    elapsed = time.monotonic() - start
    busy2, steal2 = ticks()
    state = {"load": os.getloadavg()[0], "others": (busy2 - busy) / hz / elapsed,
             "steal": (steal2 - steal) / hz / elapsed, "share": spin_everywhere()}
    state["idle"] = state["others"] < 0.1 and state["steal"] < 0.05 and state["share"] > 0.97
    return state


def sentence(state):
    return (f"{'idle' if state['idle'] else 'NOT IDLE, figures are doubtful'} (load {state['load']:.2f}, others use "
            f"{state['others']:.2f} CPUs, {state['steal']:.2f} stolen, a spinning process gets {state['share']:.0%})")
