#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints "N passed, N failed, N skipped" from meson's testlog.json; fails unless something passed and nothing failed."""
import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def main():
    passed, failed, skipped = 0, [], []
    try:
        with open(sys.argv[1]) as f:
            for line in f:
                test = json.loads(line)
                if test["result"] in PASSED:
                    passed += 1
                elif test["result"] in SKIPPED:
                    skipped.append(test["name"])
                else:
                    failed.append(f"{test['name']} ({test['result'].lower()})")
    except (OSError, ValueError, KeyError) as e:
        print(f"no test results: {e}", file=sys.stderr)
    for what, names in (("failed", failed), ("skipped", skipped)):
        for n in names:
            print(f"{what}: {n}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
