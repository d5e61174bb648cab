// SPDX-License-Identifier: MIT
/*
 * The catalogue of what can be wrong: stable names, and what to do next.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
	const char *name, *hint;
} reasons[CLI_NR_REASONS] = {
	[CLI_OK] = {"ok", ""},
	[CLI_DEVICE_MISSING] =
		{"device-missing",
		 "load kvm_intel or kvm_amd (modprobe), or pass /dev/kvm into the container; "
		 "'anyvisor run' does without it"},
	[CLI_PERMISSION] = {"permission",
			    "join the device's group (usermod -aG kvm USER, then log in again); "
			    "'anyvisor run' does without it"},
	[CLI_DEVICE_ERROR] =
		{"device-error",
		 "look into the kernel's log (dmesg); 'anyvisor run' does without the device"},
	[CLI_NO_CPU_BIT] = {"no-cpu-bit", "switch virtualization on in the firmware, or nested "
					  "virtualization in the hypervisor above; "
					  "'anyvisor run' does without it"},
	[CLI_KVM_NOT_WORKING] = {"kvm-not-working", "the device is there but does not run guests "
						    "(often nested virtualization half switched "
						    "on); 'anyvisor run' does without it"},
	[CLI_SOFTWARE_NOT_WORKING] =
		{"software-not-working",
		 "this is a fault of Anyvisor: please report it with the output of "
		 "'anyvisor doctor --json'"},
	[CLI_LIBRARY_MISSING] = {"library-missing",
				 "build it (meson compile -C build) or install the package anew"},
	[CLI_STATIC_CLIENT] =
		{"static-client",
		 "use a dynamically linked build of the program: a static one cannot be preloaded"},
	[CLI_SETUID_CLIENT] = {"setuid-client", "run a copy without the set-id bits or file "
						"capabilities, or run as the file's owner: "
						"the dynamic linker ignores LD_PRELOAD otherwise"},
	[CLI_OTHER_ARCHITECTURE] = {"other-architecture",
				    "use a build of the program for 64-bit x86"},
	[CLI_OTHER_LIBC] = {"other-libc",
			    "use a build of the program for glibc: the library is linked to it"},
	[CLI_CLIENT_NOT_FOUND] = {"client-not-found", "check the name and $PATH"},
	[CLI_CLIENT_NOT_EXECUTABLE] = {"client-not-executable",
				       "check the file's type and mode (chmod +x)"},
};

const char *cli_reason_name(enum cli_reason r)
{
	return reasons[r].name;
}

const char *cli_reason_hint(enum cli_reason r)
{
	return reasons[r].hint;
}

void cli_find_that(struct cli_finding *f, enum cli_reason r, const char *fmt, ...)
{
	va_list ap;

	f->reason = r;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}
