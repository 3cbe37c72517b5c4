#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The main job: compresses files with pool-zstd, decodes each result, compares it byte for byte, and prints what it took.

The result is decoded by Debian's zstd program; where there is none, by libzstd's decoder, and the table says so.
Exits with 1 when a file does not come back as it was, and with pool-zstd's own code when that fails.
"""
import argparse
import collections
import csv
import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

MIB = 1 << 20
PIECE_BYTES = 4 * MIB


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


class Decoder:
    """Debian's zstd program, or libzstd where that is missing."""

    def __init__(self) -> None:
        self.program = shutil.which("zstd")
        self.library = None
        if self.program is None:
            try:
                self.library = ctypes.CDLL("libzstd.so.1")
            except OSError:
                sys.exit("main_job: neither the zstd program nor libzstd.so.1 is here: nothing can check the results")

    @property
    def name(self) -> str:
        return "zstd -d" if self.program else "libzstd's decoder (there is no zstd program here)"

    def pieces(self, path: pathlib.Path):
        if self.program:
            with subprocess.Popen([self.program, "-d", "-q", "-c", str(path)], stdout=subprocess.PIPE) as process:
                while piece := process.stdout.read(PIECE_BYTES):
                    yield piece
            if process.returncode != 0:
                raise ValueError(f"zstd -d refuses it (exit code {process.returncode})")
        else:
            yield from self.library_pieces(path.read_bytes())

    def library_pieces(self, packed: bytes):
        class Buffer(ctypes.Structure):
            _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t)]

        lib = self.library
        lib.ZSTD_createDStream.restype = ctypes.c_void_p
        lib.ZSTD_decompressStream.restype = ctypes.c_size_t
        lib.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer)]
        lib.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
        lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
        stream = lib.ZSTD_createDStream()
        source = Buffer(ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p), len(packed), 0)
        space = ctypes.create_string_buffer(PIECE_BYTES)
        wanted = 1
        try:
            while True:
                target = Buffer(ctypes.cast(space, ctypes.c_void_p), PIECE_BYTES, 0)
                wanted = lib.ZSTD_decompressStream(stream, ctypes.byref(target), ctypes.byref(source))
                if lib.ZSTD_isError(wanted):
                    raise ValueError("libzstd refuses it")
                if target.at:
                    yield space.raw[:target.at]
                # After the last frame another call would begin a new one; with nothing left to read or to write, one is cut off.
                if source.at == source.size and (wanted == 0 or not target.at):
                    break
        finally:
            lib.ZSTD_freeDStream(stream)
        if wanted != 0:
            raise ValueError("it ends in the middle of a frame")


def difference(original: pathlib.Path, packed: pathlib.Path, decoder: Decoder) -> str | None:
    """What is wrong with the decoded file, or None where it is the original byte for byte."""
    position = 0
    try:
        with open(original, "rb") as file:
            for piece in decoder.pieces(packed):
                if file.read(len(piece)) != piece:
                    return f"differs within the {len(piece)} bytes from {position} on"
                position += len(piece)
            if file.read(1):
                return f"ends after {position} bytes, the original does not"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def lz4_bytes(files: list[pathlib.Path], chunk_bytes: int, progress: Progress) -> int | None:
    """What LZ4_compress_fast(1) makes of the same chunks, each stored where it would grow; None without liblz4."""
    try:
        library = ctypes.CDLL("liblz4.so.1")
    except OSError:
        return None
    space = ctypes.create_string_buffer(library.LZ4_compressBound(chunk_bytes))
    total = done = 0
    for path in files:
        with open(path, "rb") as file:
            while chunk := file.read(chunk_bytes):
                total += min(library.LZ4_compress_fast(chunk, space, len(chunk), len(space), 1), len(chunk))
                done += len(chunk)
                progress.show("LZ4", done)
    return total


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


def file_row(name: str, size: int, packed: int, seconds: float, peak: int, worst: int) -> list[str]:
    return [name, f"{size:,}", ratio(size, packed), f"{size / seconds / MIB:,.0f}" if seconds > 0 else "-",
            f"{peak / MIB:,.2f}", f"{worst / MIB:,.2f}", ratio(peak, worst)]


def write_csv(path: pathlib.Path, subject: str, cases: list[tuple[str, int, int, float, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", "case", "metric", "unit", "value"])
        for name, size, packed, seconds, peak, worst in cases:
            rows.writerow([subject, name, "ratio", "", ratio(size, packed)])
            rows.writerow([subject, name, "speed", "MiB/s", f"{size / seconds / MIB:.1f}" if seconds > 0 else ""])
            rows.writerow([subject, name, "peak_scratch", "bytes", peak])
            rows.writerow([subject, name, "worst_case", "bytes", worst])


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
          f"{total['chunks_stored_for_want_of_memory']} for want of memory")
    if report.get("manager_statistics"):
        print(report["manager_statistics"].strip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool-zstd", type=pathlib.Path, required=True, metavar="PROGRAM")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--option", action="append", default=[], metavar="OPTION", help="passed on to pool-zstd, as in --option=--pool=2G")
    parser.add_argument("--fits", action="store_true", help="fail where the pool was too small for a chunk")
    parser.add_argument("--folder", type=pathlib.Path, help="do every file in this folder")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    files = list(arguments.files)
    if arguments.folder:
        files += sorted(file for file in arguments.folder.iterdir() if file.is_file())
    if not files:
        parser.error("no files")

    sizes = {file: file.stat().st_size for file in files}
    total_bytes = sum(sizes.values())
    progress = Progress(total_bytes)
    decoder = Decoder()
    reports, cases, wrong = [], [], {}
    compressed_bytes = checked_bytes = 0
    for number, group in enumerate(batches(files)):
        folder = arguments.output / str(number)
        report = compress(arguments.pool_zstd, group, folder, arguments.option, progress, compressed_bytes)
        reports.append(report)
        compressed_bytes += sum(sizes[file] for file in group)
        for file, entry in zip(group, report["files"], strict=True):
            packed = folder / (file.name + ".zst")
            progress.show("checking", checked_bytes)
            problem = difference(file, packed, decoder)
            if problem:
                wrong[file] = problem
            checked_bytes += sizes[file]
            worst = worst_case_bytes(sizes[file], report["chunk_bytes"])
            cases.append((file.name, sizes[file], packed.stat().st_size, entry["seconds"], entry["scratch_bytes"], worst))
    chunk_bytes = reports[0]["chunk_bytes"]
    lz4 = lz4_bytes(files, chunk_bytes, progress)
    progress.clear()

    packed_bytes = sum(case[2] for case in cases)
    seconds = sum(report["total"]["seconds"] for report in reports)
    whole = ("all", total_bytes, packed_bytes, seconds, sum(case[4] for case in cases), sum(case[5] for case in cases))
    print(f"Backend: {reports[0]['backend']} ({reports[0]['device']}); chunks of {chunk_bytes >> 10} KiB\n")
    print_table([["file", "bytes", "ratio", "MB/s", "scratch MB", "worst case MB", "share"],
                 *[file_row(*case) for case in cases], file_row(*whole)])
    print("\nMB is 2^20 bytes. Scratch: what the kernels took from the pool, each chunk at its peak. Worst case: what would have\n"
          "been reserved if kernels could not allocate, which is chunk / 4 sequences of 8 bytes and ZSTD_compressBound(chunk).")
    for report in reports:
        print_pool(report)
    print(f"\nRatio over all files: {ratio(total_bytes, packed_bytes)}; LZ4_compress_fast(1) on the same chunks: "
          f"{ratio(total_bytes, lz4) if lz4 else 'not known, there is no liblz4'}")
    if arguments.csv:
        write_csv(arguments.csv, "pool-zstd", cases + [whole])
        if lz4:
            with open(arguments.csv, "a", newline="") as file:
                csv.writer(file).writerow(["LZ4_compress_fast(1)", "all", "ratio", "", ratio(total_bytes, lz4)])
    for file, problem in wrong.items():
        print(f"MISMATCH: {file}: {problem}", file=sys.stderr)
    leaked = sum(report["total"]["leaked_bytes"] + report["pool"]["live_bytes"] for report in reports)
    if leaked:
        print(f"LEAK: {leaked} bytes of the pool were never given back", file=sys.stderr)
    short = sum(report["total"]["chunks_stored_for_want_of_memory"] for report in reports) if arguments.fits else 0
    if short:
        print(f"SHORTAGE: the pool had no memory for {short} chunks", file=sys.stderr)
    print(f"{len(files)} files, decoded with {decoder.name}: {len(wrong)} mismatches")
    return 1 if wrong or leaked or short else 0


if __name__ == "__main__":
    sys.exit(main())
