#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what building and testing need (Debian 12's packages; those already there are left as they are), configures
# build/ and builds. Safe to run again.
set -eu
cd "$(dirname "$0")"

packages="
	build-essential clang meson ninja-build pkg-config python3
	libzydis-dev libcmocka-dev libjansson-dev scdoc
	qemu-system-x86 seabios linux-image-cloud-amd64 busybox-static
	cpio gzip e2fsprogs
"

missing=
for p in $packages; do
	dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done

if [ -n "$missing" ]; then
	echo "bootstrap: installing:$missing"
	sudo=
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || {
			echo "bootstrap: run as root, or install sudo, or install these packages yourself:$missing" >&2
			exit 1
		}
		sudo=sudo
	fi
	$sudo apt-get update -q
	# what is installed stays at its version; apt would upgrade only what a missing package strictly needs
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-upgrade $missing
else
	echo "bootstrap: all packages are installed"
fi

if [ -f build/build.ninja ]; then
	echo "bootstrap: build/ is configured"
else
	echo "bootstrap: configuring build/"
	meson setup build
fi
echo "bootstrap: building"
ninja -C build
echo "bootstrap: done; try build/anyvisor demo, and ./test.sh"
