#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Profiles pool-zstd under Nsight Systems and checks what the profile says about the pool. Needs a GPU and nsys.

usage: nsys_check.py POOL_ZSTD INPUT FOLDER

Every call of the pool is a range with its bytes; their numbers and sums must be those of the pool's own statistics; growth
lies inside of a miss, kernels are launched inside of waves. Counters are checked where this version of nsys exports them.
What was exported is listed in FOLDER/tables.txt. Exit status 77: no nsys, or one that lacks a library. About 30 s.
"""
import ctypes
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys

tools = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(tools))
import profile_summary  # noqa: E402

problems = []


def check(right, message):
    print(("ok      " if right else "PROBLEM ") + message)
    if not right:
        problems.append(message)


def can_load(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def run(pool_zstd, source, folder):
    """Runs it under nsys: (database, pool-zstd's own figures)."""
    figures = folder / "figures.json"
    environment = dict(os.environ, CUDA_ZSTD_POOL_BACKEND="cuda")
    command = f'exec "{pool_zstd}" -f --json --wave 4M --pool 64M -o "{folder}/out.zst" "{source}" >"{figures}"'
    done = subprocess.run([tools / "profile.sh", "-o", folder / "pool", "--fine", "sh", "-c", command], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    print(done.stdout)
    if done.returncode == 127 and "no nsys" in done.stdout:
        print("SKIPPED: nsys is not installed")
        sys.exit(77)
    if done.returncode != 0 and not (folder / "pool.nsys-rep").exists() and not can_load("libdw.so.1"):
        print("SKIPPED: nsys cannot import what it recorded, for want of libdw.so.1 (CUDA_ZSTD_NSYS_LIBRARIES)")
        sys.exit(77)
    if done.returncode != 0:
        sys.exit(f"nsys_check: tools/profile.sh ended with {done.returncode}")
    return sqlite3.connect(folder / "pool.sqlite"), json.loads(figures.read_text())


def list_tables(db, path):
    lines = []
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
        rows = db.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0]
        lines.append(f"{table} ({rows}): {', '.join(c[1] for c in db.execute(f'PRAGMA table_info({table})'))}")
        if "NVTX" in table.upper() or "COUNTER" in table.upper() or "GENERIC" in table.upper():
            lines += [f"    {row}"[:600] for row in db.execute(f'SELECT * FROM "{table}" LIMIT 25')]
    path.write_text("\n".join(lines) + "\n")


def statistics_of(text):
    """The figures of MemoryPoolManager::print_stats that are compared."""
    found = {}
    for name, pattern in {"allocations": r"Allocations:\s+(\d+)", "hits": r"\((\d+) hits", "misses": r"hits, (\d+) misses",
                          "failed": r"misses, (\d+) failed", "growths": r"Growths:\s+(\d+)",
                          "allocated_mb": r"Total Allocated:\s+([\d.]+) MB", "frees": r"Deallocations:\s+(\d+)"}.items():
        found[name] = float(re.search(pattern, text).group(1))
    return found


def inside(events, inner, outers):
    """How many ranges `inner` lie in no range of `outers` of their thread."""
    around = [(e[0], e[1], e[2]) for e in events if e[3] in outers and e[1] is not None]
    return sum(not any(a <= e[0] and e[1] <= b and t == e[2] for a, b, t in around)
               for e in events if e[3] == inner and e[1] is not None)


def launches_outside_waves(db, events, kernel):
    """Launches of a kernel, and how many of them were not made inside of a wave's range."""
    runtime = profile_summary.columns(db, "CUPTI_ACTIVITY_KIND_RUNTIME")
    if not {"correlationId", "start", "end"} <= runtime:
        return None
    waves = [(e[0], e[1]) for e in events if e[3] == "pool-zstd wave"]
    calls = db.execute(
        "SELECT r.start, r.end FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r "
        "ON r.correlationId = k.correlationId JOIN StringIds s ON s.id = k.shortName WHERE s.value = ?", (kernel,)).fetchall()
    return len(calls), sum(not any(a <= start and end <= b for a, b in waves) for start, end in calls)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    pool_zstd, source, folder = (pathlib.Path(a).resolve() for a in sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    db, figures = run(pool_zstd, source, folder)
    list_tables(db, folder / "tables.txt")
    summary = profile_summary.summarize(db)
    events = profile_summary.nvtx_events(db)
    ranges = {e["name"]: e for e in summary["events"] if e["kind"] == "range"}
    marks = {e["name"]: e for e in summary["events"] if e["kind"] == "mark"}
    pool = statistics_of(figures["manager_statistics"])
    count = lambda among, *names: sum(among[n]["count"] for n in names if n in among)
    total = lambda among, *names: sum(among[n]["bytes"] for n in names if n in among)

    calls = ("allocate", "try_allocate", "allocate_device_arena")
    check(count(ranges, *calls) == pool["allocations"] + pool["failed"],
          f"{count(ranges, *calls)} ranges of allocations; the pool counts {pool['allocations']:.0f}")
    check(count(marks, "hit") == pool["hits"], f"{count(marks, 'hit')} marks of hits; the pool counts {pool['hits']:.0f}")
    check(count(marks, "miss", "larger pool") == pool["misses"],
          f"{count(marks, 'miss', 'larger pool')} marks of misses; the pool counts {pool['misses']:.0f}")
    check(count(ranges, "grow") == pool["growths"], f"{count(ranges, 'grow')} growths; the pool counts {pool['growths']:.0f}")
    # Printed while all of it was live, in tenths of a MB.
    megabytes = total(ranges, *calls) / 2**20
    check(pool["frees"] > 0 or abs(megabytes - pool["allocated_mb"]) <= 0.11,
          f"{megabytes:.2f} MB in payloads; the pool says {pool['allocated_mb']}")
    if problems:
        for column, rows, sample in profile_summary.payload_columns(db):
            print(f"note    {rows} payloads in NVTX_EVENTS.{column}, one of them: {sample[:200]}")
        for table in ("NVTX_PAYLOAD_SCHEMAS", "NVTX_PAYLOAD_SCHEMA_ENTRIES"):
            if profile_summary.columns(db, table):
                for row in db.execute(f"SELECT * FROM {table} LIMIT 8"):
                    print(f"note    {table}: {row}")
    wave_bytes, input_bytes = total(ranges, "pool-zstd wave"), figures["total"]["input_bytes"]
    again = figures["total"]["chunks_done_in_a_later_wave"]
    check(wave_bytes == input_bytes or (again > 0 and wave_bytes > input_bytes),
          f"{wave_bytes} bytes in waves; {input_bytes} bytes of input, {again} chunks done in a later wave")
    check(count(ranges, "pool-zstd wave") >= 2, f"{count(ranges, 'pool-zstd wave')} waves")
    check(summary["badly_nested"] == 0 and summary["open_ranges"] == 0,
          f"{summary['badly_nested']} ranges badly nested, {summary['open_ranges']} open")
    for inner, outers in (("grow", ("allocate, miss", "reserve")), ("allocate, miss", calls)):
        check(inside(events, inner, outers) == 0, f"each range '{inner}' lies in one of {', '.join(outers)}")
    names = {k["name"]: k["count"] for k in summary["kernels"]}
    for kernel in ("setup_kernel", "compress_kernel", "survey_kernel", "report_kernel"):
        check(names.get(kernel, 0) > 0, f"{names.get(kernel, 0)} runs of {kernel}")
    launches = launches_outside_waves(db, events, "compress_kernel")
    if launches is not None:
        check(launches[0] > 0 and launches[1] == 0, f"{launches[0]} launches of compress_kernel, {launches[1]} outside of waves")
    counters = summary["counters"]
    if counters:
        for what in ("bytes in use", "bytes mapped", "bytes free", "bytes cached", "largest free run", "fragmentation"):
            check(any(name.endswith(what) for name in counters), f"a counter '{what}'")
        for name, values in profile_summary.generic_counters(db).items():
            if re.search(r"cuda_zstd pool \d+ bytes in use$", name):
                check(pool["frees"] > 0 or abs(max(values) / 2**20 - pool["allocated_mb"]) <= 0.11,
                      f"'{name}' rises to {max(values) / 2**20:.2f} MB; the pool says {pool['allocated_mb']}")
                check(values[0] == 0 and len(values) > 2, f"'{name}' comes from 0 and has {len(values)} samples")
        if problems:
            print(f"note    counters: {', '.join(sorted(counters))}")
    else:
        print(f"note    this nsys exports no NVTX counters (tables: {', '.join(summary['counter_tables']) or 'none'}); "
              "the tests with a recorder check them")
    print(f"nsys_check: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
