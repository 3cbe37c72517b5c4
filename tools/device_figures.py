#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The figures that the device heap is held against, from the rows of bench/device.

usage: tools/device_figures.py DEVICE.CSV [REGISTERS.CSV] [--peers PEERS.CSV] [--strict] [--cells]

Prints a line for each figure: what it is, what it must be, what it is here (of several cells, the worst, by name), and ok or
MISSED. A figure whose rows are not there is MISSING. REGISTERS.CSV is of tools/device_registers.py. PEERS.CSV holds rows of other allocators, measured beside a `floor-one` of
their own run: then each cell's ratio to floor-one is compared, too. With --strict, exits with 1 where a figure is missed or
missing; with --cells, prints the cells that some peer wins.
"""
import argparse
import csv
import dataclasses
import pathlib
import sys

FLOORS = {"floor-one", "floor-sm", "bump-per-thread"}
GIB = 1 << 30
LARGER_IS_BETTER = {"share", "pairs"}


class Rows:
    """The values of a result, by subject, case and metric."""

    def __init__(self, *paths: pathlib.Path):
        self.values: dict[tuple[str, str, str], float] = {}
        for path in paths:
            with open(path, newline="") as file:
                for row in csv.DictReader(file):
                    try:
                        self.values[row["subject"], row["case"], row["metric"]] = float(row["value"])
                    except ValueError:
                        pass  # the text of a failure

    def get(self, subject: str, case: str, metric: str) -> float | None:
        return self.values.get((subject, case, metric))

    def ratio(self, over: tuple[str, str, str], under: tuple[str, str, str]) -> float | None:
        above, below = self.get(*over), self.get(*under)
        return above / below if above is not None and below else None

    def subjects(self) -> set[str]:
        return {subject for subject, _, _ in self.values}


@dataclasses.dataclass
class Figure:
    """A line of the table: a value for each cell that it speaks of, None where the rows are missing."""
    name: str
    most: float | None = None   # either an upper
    least: float | None = None  # or a lower limit
    unit: str = ""
    cells: dict[str, float | None] = dataclasses.field(default_factory=dict)

    def misses(self, value: float) -> bool:
        return value > self.most if self.most is not None else value < self.least

    def verdict(self) -> str:
        if not self.cells or any(value is None for value in self.cells.values()):
            return "MISSING"
        return "MISSED" if any(self.misses(value) for value in self.cells.values()) else "ok"

    def line(self) -> list[str]:
        must = f"<= {self.most:g}{self.unit}" if self.most is not None else f">= {self.least:g}{self.unit}"
        known = {cell: value for cell, value in self.cells.items() if value is not None}
        if not known:
            return [self.name, must, "-", self.verdict()]
        worst = (max if self.most is not None else min)(known, key=known.get)
        where = f" ({worst}; {sum(map(self.misses, known.values()))} of {len(known)} miss)" if len(self.cells) > 1 else ""
        absent = len(self.cells) - len(known)
        return [self.name, must, f"{known[worst]:.4g}{self.unit}{where}" + (f", {absent} missing" if absent else ""),
                self.verdict()]


def over_floor(rows: Rows, cases: list[str], floor: str, metric: str = "alloc") -> dict[str, float | None]:
    """The metric of ours over the floor's allocation, since a floor frees nothing."""
    return {case: rows.ratio(("ours", case, metric), (floor, case, "alloc")) for case in cases}


def per_call(rows: Rows, metric: str) -> dict[str, float | None]:
    """W5: the time of a call at each step over that of the first one, 2^17."""
    def net(count: int) -> float | None:
        value = rows.get("ours", f"W5/{count}/64", metric)
        return value / count if value is not None else None

    first = net(1 << 17)
    return {f"W5/{1 << step}/64": net(1 << step) / first if first and net(1 << step) is not None else None
            for step in range(17, 25)}


def figures(rows: Rows) -> list[Figure]:
    grid = [(workload, count, size) for workload in ("W1", "W2") for count in (100_000, 1_000_000)
            for size in (16, 64, 256, 1024, 4096, 8192)]
    small = [f"{workload}/{count}/{size}" for workload, count, size in grid if count * size <= GIB]
    large = [f"{workload}/{count}/{size}" for workload, count, size in grid if count * size > GIB]
    fills = [f"W7/512MiB/{size}" for size in (16, 64, 256, 1024, 4096, 8192, 65536)]
    reuses = [f"W9/{fill}/{size}" for fill in ("90", "full") for size in (4096, 65536)]
    spreads = [f"W6/100000/{size}" for size in (64, 1024, 4096)]
    return [
        Figure("W1 1M x 64 alloc / floor-sm", most=2, cells=over_floor(rows, ["W1/1000000/64"], "floor-sm")),
        Figure("W1 1M x 64 free / floor-sm alloc", most=1.7, cells=over_floor(rows, ["W1/1000000/64"], "floor-sm", "free")),
        Figure("W1, W2 to 1 GiB, alloc / floor-sm", most=3, cells=over_floor(rows, small, "floor-sm")),
        Figure("W1, W2 above 1 GiB, alloc / floor-sm", most=8, cells=over_floor(rows, large, "floor-sm")),
        Figure("W3 100k warps x 64 alloc / floor-sm", most=3, cells=over_floor(rows, ["W3/100000/64"], "floor-sm")),
        Figure("W4 churn", least=5000, unit=" Mpairs/s", cells={"W4": rows.get("ours", "W4/100000", "pairs")}),
        Figure("W5 alloc a call / that at 2^17", most=1.5, cells=per_call(rows, "alloc-net")),
        Figure("W5 free a call / that at 2^17", most=1.5, cells=per_call(rows, "free-net")),
        Figure("W6 spread after ten rounds / fresh", most=1.5,
               cells={case: rows.ratio(("ours", case, "spread-ten"), ("ours", case, "spread-fresh")) for case in spreads}),
        Figure("W7 share", least=0.99, cells={case: rows.get("ours", case, "share") for case in fills}),
        Figure("W7 100k failing / succeeding calls", most=10,
               cells={case: rows.ratio(("ours", case, "failing"), ("ours", case, "succeeding")) for case in fills}),
        Figure("W8 to 1 MiB alloc / floor-one", most=2,
               cells=over_floor(rows, [f"W8/1024/{size << 10}" for size in (64, 256, 1024)], "floor-one")),
        Figure("W8 16 MiB: part that got a block", least=1, cells={"W8": rows.get("ours", "W8/1024/16777216", "supported")}),
        Figure("W9 share / that of a new heap", least=0.99,
               cells={case: rows.ratio(("ours", case, "share"), ("ours", case, "share-new")) for case in reuses}),
        Figure("registers of the inline path", most=24,
               cells={"malloc": rows.get("ours", "registers/malloc", "inline")}),
        Figure("registers of a trivial malloc kernel", most=48,
               cells={"malloc": rows.get("ours", "registers/malloc", "registers")}),
        Figure("registers of a trivial free kernel", most=28, cells={"free": rows.get("ours", "registers/free", "registers")}),
        Figure("init of an 8 GiB heap", most=1000, unit=" us", cells={"init": rows.get("ours", "init/8GiB", "time")}),
    ]


def as_compared(rows: Rows, subject: str, case: str, metric: str) -> float | None:
    """A cell as it is compared between runs: a share or a rate as it is, a time over floor-one's allocation of its run."""
    value = rows.get(subject, case, metric)
    if value is None or metric in LARGER_IS_BETTER:
        return value
    if (rows.get(subject, case, "supported") or 0) < 1 and case.startswith("W8/"):
        return None  # a time in which not all calls got a block
    floor = rows.get("floor-one", case, "alloc")
    return value / floor if floor else None


def against_peers(rows: Rows, peers: Rows) -> dict[str, list[tuple[str, float, float, str]]]:
    """For each metric: the cells of both results, with ours, the best peer's figure and the best peer's name."""
    names = peers.subjects() - FLOORS - {"ours"}
    found: dict[str, list[tuple[str, float, float, str]]] = {"alloc": [], "free": [], "pairs": [], "share": []}
    for metric, cells in found.items():
        better = max if metric in LARGER_IS_BETTER else min
        for case in sorted({case for subject, case, other in rows.values if subject == "ours" and other == metric}):
            values = {name: as_compared(peers, name, case, metric) for name in names}
            values = {name: value for name, value in values.items() if value is not None}
            ours = as_compared(rows, "ours", case, metric)
            if values and ours is not None:
                best = better(values, key=values.get)
                cells.append((case, ours, values[best], best))
    return found


def is_lost(metric: str, ours: float, best: float) -> bool:
    return ours < best if metric in LARGER_IS_BETTER else ours >= best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=pathlib.Path, nargs="+")
    parser.add_argument("--peers", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--cells", action="store_true")
    arguments = parser.parse_args()
    rows = Rows(*arguments.csv)
    lines = [figure.line() for figure in figures(rows)]
    lost_cells = []
    if arguments.peers:
        for metric, cells in against_peers(rows, Rows(arguments.peers)).items():
            lost = [(metric, *cell) for cell in cells if is_lost(metric, cell[1], cell[2])]
            lost_cells += lost
            lines.append([f"{metric} of every cell against every peer", "better", f"{len(cells) - len(lost)} of {len(cells)} cells",
                          "MISSING" if not cells else "MISSED" if lost else "ok"])
    header = ["figure", "must", "is", ""]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(4)]
    for line in [header, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    for subject in ("ours", "cuda", "reserved"):
        time, heap = rows.get(subject, "W10/10000", "time"), rows.get(subject, "W10/10000", "heap")
        if time is not None:
            print(f"W10 {subject}: {time:,.0f} us in {(heap or 0) / GIB:.1f} GiB")
    if arguments.cells:
        for metric, case, ours, best, name in lost_cells:
            print(f"{metric} {case}: {ours:.3g}, {name} {best:.3g}")
    return 1 if arguments.strict and any(line[3] != "ok" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
