#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds and runs the tests; arguments go to `meson test` (a test's name, --suite unit, ...). The last line says
# how many passed, failed and were skipped.
cd "$(dirname "$0")" || exit 1
[ -f build/build.ninja ] || { echo "test: run ./bootstrap.sh first" >&2; exit 1; }
ninja -C build || exit 1
rm -f build/meson-logs/testlog.json
meson test -C build --no-rebuild --print-errorlogs "$@"
status=$?
python3 tests/summary.py build/meson-logs/testlog.json || status=1
exit $status
