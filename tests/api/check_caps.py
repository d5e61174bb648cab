#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every row of src/kvm/caps.c names a test that exists and is run: "file: function", the file in tests/api."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
rows = re.findall(r'\bCAP(?:_FN|_ENABLE)?\(\s*(\w+),[^;]*?"([^"]*)"', (root / "src/kvm/caps.c").read_text())
bad = []
for cap, test in rows:
    file, _, name = test.partition(": ")
    path = root / "tests/api" / f"{file}.c"
    # Once as a function, once in the list that main() runs.
    text = path.read_text() if path.exists() else ""
    if not re.search(rf"^static void {name}\(void \*\*", text, re.M) or not re.search(rf"\w\({name}\)", text):
        bad.append(f"KVM_CAP_{cap}: no test {test!r}")
print("\n".join(bad) if bad else f"{len(rows)} capabilities, each with its test")
sys.exit(bool(bad) or len(rows) < 50)
