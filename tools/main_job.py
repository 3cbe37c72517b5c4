#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The main job: compresses files with pool-zstd, decodes each result, compares it byte for byte, and prints what it took.

The result is decoded by Debian's zstd program; where there is none, by libzstd's decoder, and the last line says so.
Exits with 1 when a file does not come back as it was or memory of the pool leaks, and with pool-zstd's own code when that fails.
"""
import argparse
import collections
import csv
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time

from reference_codecs import Decoder, difference, lz4_bytes

MIB = 1 << 20
# Up to here each file is also done by itself, for its speed.
ALONE_LIMIT_BYTES = 1 << 30


@dataclasses.dataclass
class Case:
    """A row of the table."""
    name: str
    size: int
    packed: int
    seconds: float
    scratch: int
    worst: int

    def cells(self) -> list[str]:
        return [self.name, f"{self.size:,}", ratio(self.size, self.packed), f"{self.speed():,.0f}", f"{self.scratch / MIB:,.2f}",
                f"{self.worst / MIB:,.2f}", ratio(self.scratch, self.worst)]

    def speed(self) -> float:
        return self.size / self.seconds / MIB if self.seconds > 0 else 0.0


class Progress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, total_bytes: int):
        self.total = max(total_bytes, 1)
        self.shown = sys.stderr.isatty()

    def show(self, what: str, done_bytes: int) -> None:
        if not self.shown:
            return
        share = min(done_bytes / self.total, 1.0)
        width = max(10, min(40, shutil.get_terminal_size().columns - 40))
        bar = "#" * int(share * width)
        sys.stderr.write(f"\r{what:<12} [{bar:<{width}}] {100 * share:3.0f} %\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def batches(files: list[pathlib.Path]) -> list[list[pathlib.Path]]:
    """The files in groups in which no name occurs twice, since the results of a group share one folder."""
    groups: list[list[pathlib.Path]] = []
    seen: collections.Counter[str] = collections.Counter()
    for file in files:
        place = seen[file.name]
        seen[file.name] += 1
        if place == len(groups):
            groups.append([])
        groups[place].append(file)
    return groups


def compress(program: pathlib.Path, files: list[pathlib.Path], folder: pathlib.Path, options: list[str], progress: Progress,
             done_bytes: int) -> dict:
    """Compresses the files into the folder. Returns pool-zstd's report."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report_file = folder / ".report.json"
    errors_file = folder / ".errors"
    command = [str(program), "-q", "-f", "-k", "--check", "--json", "--output-dir-flat", str(folder), *options]
    with open(report_file, "wb") as report, open(errors_file, "wb") as errors:
        process = subprocess.Popen(command + ["--"] + [str(file) for file in files], stdout=report, stderr=errors)
        while process.poll() is None:
            finished = sum(file.stat().st_size for file in files if (folder / (file.name + ".zst")).exists())
            progress.show("compressing", done_bytes + finished)
            time.sleep(0.1 if progress.shown else 0.02)
    sys.stderr.write(errors_file.read_text(errors="replace"))
    if process.returncode != 0:
        progress.clear()
        print(f"main_job: {program.name} failed with exit code {process.returncode}", file=sys.stderr)
        sys.exit(process.returncode if process.returncode > 0 else 1)
    return json.loads(report_file.read_text())


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
        if number == 0 or number == len(rows) - 2:
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def worst_case_bytes(size: int, chunk: int) -> int:
    """What a kernel that cannot allocate reserves: for each chunk, chunk / 4 sequences of 8 bytes and ZSTD_compressBound."""
    def bound(length: int) -> int:
        return length + (length >> 8) + (((128 << 10) - length) >> 11 if length < 128 << 10 else 0)

    whole, rest = divmod(size, chunk)
    return whole * (chunk // 4 * 8 + bound(chunk)) + (rest // 4 * 8 + bound(rest) if rest else 0)


def ratio(over: float, under: float) -> str:
    return f"{over / under:.3f}" if under else "-"


def write_csv(path: pathlib.Path, cases: list[Case], kernel_seconds: float, lz4: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = cases[-1]
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", "case", "metric", "unit", "value"])
        for case in cases:
            rows.writerow(["pool-zstd", case.name, "ratio", "", ratio(case.size, case.packed)])
            rows.writerow(["pool-zstd", case.name, "speed", "MiB/s", f"{case.speed():.1f}"])
            rows.writerow(["pool-zstd", case.name, "scratch", "bytes", case.scratch])
            rows.writerow(["pool-zstd", case.name, "worst_case", "bytes", case.worst])
        if kernel_seconds > 0:
            rows.writerow(["pool-zstd", whole.name, "kernel_speed", "MiB/s", f"{whole.size / kernel_seconds / MIB:.1f}"])
        if lz4:
            rows.writerow(["LZ4_compress_fast(1)", whole.name, "ratio", "", ratio(whole.size, lz4)])


def later_waves(total: dict) -> str:
    """How many chunks did not fit beside the others of their wave, where there were any."""
    chunks = total["chunks_done_in_a_later_wave"]
    return f"; {chunks} compressed in a smaller wave, since the pool was full" if chunks else ""


def print_pool(report: dict) -> None:
    """The statistics of the device pool and of its manager at the end of a run."""
    pool, total = report["pool"], report["total"]
    print(f"\nDevice Pool Stats:\n"
          f"  Heap:             {pool['heap_bytes'] / MIB:.1f} MB\n"
          f"  Peak in use:      {pool['peak_page_bytes'] / MIB:.1f} MB (whole pages, chunks of a wave together)\n"
          f"  Live at the end:  {pool['live_bytes']} bytes in {pool['live_blocks']} blocks\n"
          f"  Failed requests:  {pool['failed_allocations']}\n"
          f"  Wrong frees:      {pool['invalid_frees'] + pool['double_frees']}\n"
          f"  Fragmentation:    {100 * pool['fragmentation']:.1f}%\n"
          f"  Leaked:           {total['leaked_bytes']} bytes\n"
          f"Chunks: {total['chunks']}, of which {total['chunks_stored']} stored because they do not compress, "
          f"{total['chunks_stored_for_want_of_memory']} for want of memory"
          f"{later_waves(total)}")
    if report.get("manager_statistics"):
        print(report["manager_statistics"].strip())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool-zstd", type=pathlib.Path, required=True, metavar="PROGRAM")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--option", action="append", default=[], help="passed on to pool-zstd, as in --option=--pool=2G")
    parser.add_argument("--fits", action="store_true", help="fail where the pool was too small for a chunk")
    parser.add_argument("--folder", type=pathlib.Path, help="do every file in this folder")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.folder:
        arguments.files += sorted(file for file in arguments.folder.iterdir() if file.is_file())
    if not arguments.files:
        parser.error("no files")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    files = arguments.files
    sizes = {file: file.stat().st_size for file in files}
    total_bytes = sum(sizes.values())
    alone = len(files) > 1 and total_bytes <= ALONE_LIMIT_BYTES
    progress = Progress(total_bytes)
    decoder = Decoder()

    reports, cases, wrong = [], [], {}
    compressed = checked = timed = 0
    for number, group in enumerate(batches(files)):
        folder = arguments.output / str(number)
        report = compress(arguments.pool_zstd, group, folder, arguments.option, progress, compressed)
        reports.append(report)
        compressed += sum(sizes[file] for file in group)
        for file, entry in zip(group, report["files"], strict=True):
            packed = folder / (file.name + ".zst")
            progress.show("checking", checked)
            problem = difference(file, packed, decoder)
            if problem:
                wrong[file] = problem
            checked += sizes[file]
            cases.append(Case(file.name, sizes[file], packed.stat().st_size, entry["seconds"], entry["scratch_bytes"],
                              worst_case_bytes(sizes[file], report["chunk_bytes"])))
            if alone:
                # In one run files overlap, which says nothing about each of them.
                own = compress(arguments.pool_zstd, [file], arguments.output / "alone", arguments.option, progress, timed)
                timed += sizes[file]
                cases[-1].seconds = own["total"]["seconds"]
    chunk_bytes = reports[0]["chunk_bytes"]
    lz4 = lz4_bytes(files, chunk_bytes, progress)
    progress.clear()
    shutil.rmtree(arguments.output / "alone", ignore_errors=True)

    seconds = sum(report["total"]["seconds"] for report in reports)
    kernel_seconds = sum(report["total"]["kernel_seconds"] for report in reports)
    cases.append(Case("all", total_bytes, sum(case.packed for case in cases), seconds, sum(case.scratch for case in cases),
                      sum(case.worst for case in cases)))
    print(f"Backend: {reports[0]['backend']} ({reports[0]['device']}); chunks of {chunk_bytes >> 10} KiB\n")
    print_table([["file", "bytes", "ratio", "MB/s", "scratch MB", "worst case MB", "share"], *[case.cells() for case in cases]])
    print(f"\nMB is 2^20 bytes. {'MB/s: each file by itself; all: in one run. ' if alone else ''}Scratch: what the kernels took\n"
          "from the pool, each chunk at its peak. Worst case: what would have been reserved if kernels could not allocate,\n"
          "for each chunk chunk / 4 sequences of 8 bytes and ZSTD_compressBound(chunk).")
    if kernel_seconds > 0 and reports[0]["backend"] != "host":  # there, waves overlap and each counts the other
        print(f"Kernels alone: {total_bytes / kernel_seconds / MIB:,.0f} MB/s of input.")
    for report in reports:
        print_pool(report)
    print(f"\nRatio over all files: {ratio(total_bytes, cases[-1].packed)}; LZ4_compress_fast(1) on the same chunks: "
          f"{ratio(total_bytes, lz4) if lz4 else 'not known, there is no liblz4'}")
    if arguments.csv:
        write_csv(arguments.csv, cases, kernel_seconds, lz4)

    for file, problem in wrong.items():
        print(f"MISMATCH: {file}: {problem}", file=sys.stderr)
    leaked = sum(report["total"]["leaked_bytes"] + report["pool"]["live_bytes"] for report in reports)
    if leaked:
        print(f"LEAK: {leaked} bytes of the pool were never given back", file=sys.stderr)
    totals = [report["total"] for report in reports] if arguments.fits else []
    short = sum(total["chunks_stored_for_want_of_memory"] + total["chunks_done_in_a_later_wave"] for total in totals)
    if short:
        print(f"SHORTAGE: the pool had no memory for {short} chunks", file=sys.stderr)
    print(f"{len(files)} files, decoded with {decoder.name}: {len(wrong)} mismatches")
    return 1 if wrong or leaked or short else 0


if __name__ == "__main__":
    sys.exit(main())
