#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the tests of a build folder and closes with one line that counts them. Usage: tools/run_ctest.sh FOLDER [ARG...]
# The arguments go to ctest. Fails where a test fails, and where the arguments choose none.
set -euo pipefail

folder=${1:?usage: tools/run_ctest.sh FOLDER [ctest arguments]}
shift
report=$(mktemp)
trap 'rm -f "$report"' EXIT

status=0
ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$(nproc)" --output-junit "$report" "$@" || status=$?

[[ -s $report ]] || exit "$((status ? status : 1))"
python3 - "$report" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

cases = tree.parse(sys.argv[1]).getroot().findall("testcase")
states = [case.get("status") for case in cases]
skipped = sum(state in ("notrun", "disabled") for state in states)
passed = states.count("run")
print(f"{passed} passed, {len(states) - passed - skipped} failed, {skipped} skipped")
PYTHON
exit "$status"
