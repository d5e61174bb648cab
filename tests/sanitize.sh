#!/bin/sh
# SPDX-License-Identifier: MIT
# Tests under a sanitizer, in a build folder of their own: tests/sanitize.sh thread|address [folder [tests]]. `thread` looks for data
# races in what threads share, `address` for bad accesses, leaks and undefined behaviour. Any report fails. No part of
# the default run: the builds take minutes.
set -e
source=$(cd "$(dirname "$0")/.." && pwd)
case "$1" in
thread) kind=thread ;;
address) kind=address,undefined ;;
*)
	echo "usage: $0 thread|address [build folder [tests]]" >&2
	exit 2
	;;
esac
build=${2:-$source/build-$1}
[ -f "$build/build.ninja" ] || meson setup "$build" "$source" -Db_sanitize="$kind"

# The library's own handlers take faults; a forked child of the tests starts threads.
export TSAN_OPTIONS="suppressions=$source/tests/tsan.supp exitcode=66 second_deadlock_stack=1 die_after_fork=0"
export ASAN_OPTIONS="handle_segv=0 handle_sigbus=0 handle_sigfpe=0 handle_sigill=0 detect_stack_use_after_return=0"
export UBSAN_OPTIONS="print_stacktrace=1 halt_on_error=1"

tests="${3:-unit/test_base unit/test_irq unit/test_mem unit/test_uapi api/test_run api/test_vm_io}"
ninja -j2 -C "$build" $(for t in $tests; do echo "tests/$t"; done)
failed=
for t in $tests; do
	echo "== $t under $kind"
	(cd "$build" && "tests/$t") || failed="$failed $t"
done
[ -z "$failed" ] || { echo "sanitize:$failed failed" >&2; exit 1; }
echo "sanitize: no reports"
