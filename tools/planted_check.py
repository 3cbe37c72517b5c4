#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs compute-sanitizer over programs with one mistake each, and checks that it reports each at the right block.

usage: planted_check.py [--sanitizer PROGRAM] [--log FILE] [--source automatic|malloc|virtual] PLANTED

PLANTED is tests/gpu/planted. The clean program must be reported clean by every tool. compute-sanitizer's manual promises parts
of what cudaMalloc gave, so what it says of mapped memory (virtual) is noted only; there it may refuse to take the arena as a heap
(2025.3 does, and counts that as an error), but must report nothing else of the clean program. Where sanitizer_probe lies beside PLANTED, it tells first which of NVTX's memory calls this version takes. Exit status 77: no compute-sanitizer. About
0.6 s a run, 27 runs.
"""
import argparse
import pathlib
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


def judge(fault, offset, source, returned, text):
    """None, or what is wrong."""
    errors = re.search(r"ERROR SUMMARY: (\d+) error", text)
    refused = text.count("Call to nvtxMemHeapRegister failed") if source == "virtual" else 0
    planted = re.search(r"planted at (0x[0-9a-fA-F]+): (\d+) bytes", text)
    if not planted or not errors:
        return "the program did not come to its end, or the sanitizer did not"
    if fault == "clean":
        is_clean = int(errors.group(1)) == refused and returned == (FOUND if refused else 0)
        return None if is_clean else f"{errors.group(1)} errors in a clean program"
    if returned != FOUND:
        return f"nothing was reported (status {returned})"
    wanted = int(planted.group(1), 16) + offset
    addresses = reported_addresses(text)
    if wanted not in addresses:
        return f"reported at {', '.join(map(hex, addresses[:4])) or 'no address'}, not at {hex(wanted)}"
    # The arena that a leaking program keeps with its block may be reported besides.
    arena = [a for a in addresses if a != wanted and a <= wanted and a % (2 << 20) == 0]
    if fault == "leak" and len(set(addresses) - {wanted}) > len(set(arena)):
        return f"more than the block is reported: {', '.join(map(hex, addresses[:8]))}"
    return None


def excerpt(text):
    """What the sanitizer says, without backtraces."""
    lines = [line for line in text.splitlines() if "Host Frame" not in line and line.strip("= ")]
    return "\n".join("        " + line for line in lines[:12])


def probe(program, sanitizer, log):
    """Which calls the sanitizer takes: each variant differs from the plain one in one thing."""
    if not program.exists():
        return
    for variant in ("plain", "named", "early", "nodomain", "part", "virtual"):
        command = [sanitizer, "--tool", "memcheck", "--nvtx", "yes", "--error-exitcode", str(FOUND), str(program), variant]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        log(command, done)
        errors = re.search(r"ERROR SUMMARY: (\d+) error", done.stdout)
        handles = re.search(r"domain (\S+), heap (\S+), region", done.stdout)
        said = f"{errors.group(1)} errors" if errors else "no summary"
        print(f"probe    {variant:<10} {said}, status {done.returncode}, "
              f"{'domain %s, heap %s' % handles.groups() if handles else 'ended before it had a heap'}")
        if not errors or not handles:
            print(excerpt(done.stdout))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("planted")
    parser.add_argument("--sanitizer", default="compute-sanitizer")
    parser.add_argument("--log", help="all output of the sanitizer")
    parser.add_argument("--source", action="append", choices=("automatic", "malloc", "virtual"))
    arguments = parser.parse_args()
    if shutil.which(arguments.sanitizer) is None:
        print("SKIPPED: compute-sanitizer is not installed")
        return 77
    log_file = open(arguments.log, "w") if arguments.log else None

    def log(command, done):
        if log_file:
            log_file.write(f"$ {' '.join(command)}\n{done.stdout}\nstatus {done.returncode}\n\n")
            log_file.flush()

    version = subprocess.run([arguments.sanitizer, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()
    print(version[-1] if version else "a compute-sanitizer that does not tell its version")
    probe(pathlib.Path(arguments.planted).parent / "sanitizer_probe", arguments.sanitizer, log)
    problems = 0
    for source in arguments.source or ("automatic", "malloc", "virtual"):
        for fault, (tools, offset) in FAULTS.items():
            for tool in tools:
                leaks = ["--leak-check", "full"] if tool == "memcheck" else []
                command = [arguments.sanitizer, "--tool", tool, "--nvtx", "yes", *leaks, "--error-exitcode", str(FOUND),
                           arguments.planted, fault, source]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
                log(command, done)
                wrong = judge(fault, offset, source, done.returncode, done.stdout)
                # Only reports of leaks give names.
                if wrong is None and fault == "leak" and "of cuda_zstd pool" not in done.stdout:
                    wrong = "reported without its name"
                is_promised = source != "virtual" or fault == "clean"
                print(f"{source:<10} {tool:<10} {fault:<14} {wrong or 'as it should be'}"
                      f"{' (noted only)' if wrong and not is_promised else ''}")
                if wrong and is_promised:
                    print(excerpt(done.stdout))
                problems += wrong is not None and is_promised
    print(f"planted_check: {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
