#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs compute-sanitizer over programs with one mistake each, and checks that it reports each at the right block.

usage: planted_check.py [--sanitizer PROGRAM] [--log FILE] [--source virtual|malloc] PLANTED

PLANTED is tests/gpu/planted. The clean program must be reported clean by every tool. Exit status 77: no compute-sanitizer.
About 3 s a run.
"""
import argparse
import re
import shutil
import subprocess
import sys

# The tool that finds a fault, and where the access is: bytes behind the block's begin.
FAULTS = {
    "clean": (("memcheck", "initcheck"), None),
    "past_the_end": (("memcheck",), 1000),
    "after_free": (("memcheck",), 0),
    "after_reset": (("memcheck",), 0),
    "never_written": (("initcheck",), 0),
    "leak": (("memcheck",), 0),
}
FOUND = 9


def reported_addresses(text):
    """Addresses that the sanitizer's own lines name, by what is said of them."""
    found = []
    for line in text.splitlines():
        if not line.startswith("========="):
            continue
        for pattern in (r"Address (0x[0-9a-fA-F]+)", r"Leaked [\d,]+ bytes at (0x[0-9a-fA-F]+)",
                        r"Leaked .*? at address (0x[0-9a-fA-F]+)", r"Access (?:at|to) (0x[0-9a-fA-F]+)"):
            found += [int(a, 16) for a in re.findall(pattern, line)]
    return found


def judge(fault, offset, returned, text):
    """None, or what is wrong."""
    errors = re.search(r"ERROR SUMMARY: (\d+) error", text)
    planted = re.search(r"planted at (0x[0-9a-fA-F]+): (\d+) bytes", text)
    if not planted or not errors:
        return "the program did not come to its end, or the sanitizer did not"
    if fault == "clean":
        return None if returned == 0 and errors.group(1) == "0" else f"{errors.group(1)} errors in a clean program"
    if returned != FOUND:
        return f"nothing was reported (status {returned})"
    wanted = int(planted.group(1), 16) + offset
    addresses = reported_addresses(text)
    if wanted not in addresses:
        return f"reported at {', '.join(map(hex, addresses[:4])) or 'no address'}, not at {hex(wanted)}"
    if fault == "leak" and addresses != [wanted] * len(addresses):
        return f"more than the block is reported: {', '.join(map(hex, addresses[:8]))}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("planted")
    parser.add_argument("--sanitizer", default="compute-sanitizer")
    parser.add_argument("--log", help="all output of the sanitizer")
    parser.add_argument("--source", action="append", choices=("virtual", "malloc"))
    arguments = parser.parse_args()
    if shutil.which(arguments.sanitizer) is None:
        print("SKIPPED: compute-sanitizer is not installed")
        return 77
    log = open(arguments.log, "w") if arguments.log else None
    problems = 0
    for source in arguments.source or ("virtual", "malloc"):
        for fault, (tools, offset) in FAULTS.items():
            for tool in tools:
                leaks = ["--leak-check", "full"] if tool == "memcheck" else []
                command = [arguments.sanitizer, "--tool", tool, "--nvtx", "yes", *leaks, "--error-exitcode", str(FOUND),
                           arguments.planted, fault, source]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
                if log:
                    log.write(f"$ {' '.join(command)}\n{done.stdout}\nstatus {done.returncode}\n\n")
                    log.flush()
                wrong = judge(fault, offset, done.returncode, done.stdout)
                named = fault == "clean" or "of cuda_zstd pool" in done.stdout
                print(f"{source:<8} {tool:<10} {fault:<14} {wrong or 'as it should be'}{'' if named or wrong else ' (unnamed)'}")
                problems += wrong is not None
    print(f"planted_check: {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
