#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants faults in the device heap's sources, one at a time, and shows which tool finds each of them, and how fast.

The faults are in tests/mutation/faults.py. The tools, of which each fault names the one that is expected to find it:

  sim      the simulator, tests/mutation/sim_runner.cpp, built against the changed sources
  model    the Relacy suites, tests/model/order_survey.cpp; an order fault needs no other build, the suites weaken it
  threads  the heap on real threads under ThreadSanitizer, tests/unit/heap_threads_test.cpp

Prints a table; exits with 1 when a fault survives that is not known to, or is killed that is said to survive, and with 2 when a
fault's lines are not in the sources any more: then repair it in faults.py.

usage: tools/mutate.py [--quick] [--all-tools] [--schedules N] [--jobs N] [--only TEXT] [--list]   from the repository's root
  --quick      the selection of a CI run
  --all-tools  lets the other tools have a try at what the expected one does not find
  --schedules  of the simulator, for each fault (default 300000; 30000 with --quick); executions of a Relacy suite: a tenth
"""
import argparse
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, "tests/mutation")
from faults import FAULTS, Fault  # noqa: E402

HEAP_FOLDER = pathlib.Path("include/cuda_zstd/heap")
LIMIT_S = 1800  # a program that runs longer is taken for one that does not end


class Outdated(Exception):
    """A fault names lines that are not in the sources."""


def apply(fault: Fault, root: pathlib.Path) -> None:
    """Edits the copy of the sources under `root`."""
    if not fault.edits:
        return
    path = root / HEAP_FOLDER / fault.file
    text = path.read_text()
    for old, new in fault.edits:
        choices = (old,) if isinstance(old, str) else old
        found = [choice for choice in choices if text.count(choice) == 1]
        if not found:
            raise Outdated(f"{HEAP_FOLDER / fault.file} has not once: {choices[0]!r}")
        text = text.replace(found[0], new)
    path.write_text(text)


def places(fault: Fault) -> list[str]:
    """FILE:LINE of the accesses that an order fault makes relaxed."""
    found = []
    for file, text in fault.order_at:
        source = (HEAP_FOLDER / file).read_text()
        if source.count(text) != 1:
            raise Outdated(f"{HEAP_FOLDER / file} has not once: {text!r}")
        at = source.index(text) + len(text) - len(text.lstrip())
        found.append(f"{file}:{source.count(chr(10), 0, at) + 1}")
    return found


def compile_tool(tool: str, include: pathlib.Path, program: pathlib.Path) -> None:
    common = ["g++", "-std=c++20", "-w", f"-I{include}", "-o", str(program)]
    command = {
        "sim": common + ["-O1", "tests/mutation/sim_runner.cpp", "tests/sim/heap_audit.cpp"],
        "model": common + ["-O1", "tests/model/order_survey.cpp", "-lgtest", "-lpthread"],
        "threads": common + ["-O1", "-fsanitize=thread", "tests/unit/heap_threads_test.cpp", "-lgtest", "-lgtest_main", "-lpthread"],
    }[tool]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Outdated(f"the {tool} program does not compile with this fault:\n{result.stderr[:1500]}")


def command_of(tool: str, program: pathlib.Path, schedules: int) -> list[str]:
    if tool == "sim":
        return [str(program), str(schedules)]
    if tool == "model":
        return [str(program), str(schedules // 10), "nowhere:0"]
    return ["setarch", "-R", str(program), "--gtest_brief=1"]


def run(command: list[str], limit_s: float) -> tuple[bool, float, str]:
    """Whether the fault was found, after which time, and the first line of what was said."""
    begin = time.monotonic()
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit_s)
    except subprocess.TimeoutExpired:
        return True, time.monotonic() - begin, "does not end"
    took = time.monotonic() - begin
    said = [line for line in (result.stdout + result.stderr).splitlines() if line.strip(" =[]-")]
    if result.returncode == 0:
        return False, took, said[-1] if said else ""
    if result.returncode < 0:
        return True, took, f"ended by signal {-result.returncode}"
    shown = next((line for line in said if re.search(r"WARNING|schedule|execution|Failure|report|FAILED", line)), "failed")
    return True, took, shown.strip()


def try_fault(fault: Fault, options, survey: pathlib.Path | None) -> dict:
    row = {"fault": fault, "by": "", "seconds": 0.0, "said": ""}
    try:
        if fault.order_at:
            killed, took, said = run([str(survey), str(options.schedules // 10), *places(fault)], LIMIT_S)
            row.update(by="model" if killed else "", seconds=took, said=said)
            return row
        others = [tool for tool in ("sim", "model", "threads") if tool != fault.by]
        tools = [fault.by] + (others if options.all_tools else [])
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            shutil.copytree("include", root / "include")
            apply(fault, root)
            for tool in tools:
                program = root / tool
                compile_tool(tool, root / "include", program)
                killed, took, said = run(command_of(tool, program, options.schedules), LIMIT_S)
                row["seconds"] += took
                row["said"] = said
                if killed:
                    row["by"] = tool
                    return row
    except Outdated as error:
        row.update(by="OUTDATED", said=str(error))
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all-tools", action="store_true")
    parser.add_argument("--schedules", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.schedules = options.schedules or (30_000 if options.quick else 300_000)
    as_written = [Fault("no fault: the heap as it is written", "-", survives="it is right")] if not options.quick else []
    chosen = [fault for fault in as_written + FAULTS if options.only in fault.name and (fault.quick or not options.quick)]
    if options.list:
        print("\n".join(f"{fault.by:8} {fault.file:14} {fault.name}" for fault in chosen))
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        survey = pathlib.Path(scratch) / "survey"
        survey_built = pool.submit(compile_tool, "model", pathlib.Path("include"), survey) \
            if any(fault.order_at for fault in chosen) else None

        def one(fault: Fault) -> dict:
            if fault.order_at:
                survey_built.result()
            row = try_fault(fault, options, survey)
            expected = "" if row["by"] or not fault.survives else "as known"
            print(f"{fault.file:14} {fault.name:62} {row['by'] or 'SURVIVES ' + expected:9} {row['seconds']:6.1f} s  {row['said'][:110]}",
                  flush=True)
            return row

        chosen.sort(key=lambda fault: bool(fault.order_at))  # the survey is built meanwhile
        rows = list(pool.map(one, chosen))
    outdated = [row for row in rows if row["by"] == "OUTDATED"]
    killed = [row for row in rows if row["by"] not in ("", "OUTDATED")]
    survivors = [row for row in rows if not row["by"]]
    unexpected = [row for row in survivors if not row["fault"].survives]
    stale = [row for row in killed if row["fault"].survives]
    for row in survivors:
        print(f"survives: {row['fault'].name}: {row['fault'].survives or 'NOT KNOWN WHY'}")
    for row in stale:
        print(f"is said to survive, and was killed: {row['fault'].name}")
    for row in outdated:
        print(f"outdated: {row['fault'].name}: {row['said']}", file=sys.stderr)
    print(f"mutations: {len(rows)} faults, {len(killed)} killed, {len(survivors)} survive, {len(unexpected)} of them unexpectedly, "
          f"{len(outdated)} outdated; {time.monotonic() - begin:.0f} s")
    return 2 if outdated else 1 if unexpected or stale else 0


if __name__ == "__main__":
    sys.exit(main())
