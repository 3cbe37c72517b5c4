#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The registers of trivial kernels around malloc and free, as the assembler reports them: needs nvcc and no GPU.

usage: tools/device_registers.py [--nvcc PROGRAM] [--arch sm_90] [--csv FILE]   from the repository's root

`registers` is what a kernel takes, the rare paths that it calls out of line among it. `inline` is what the kernel takes by itself: it is
compiled as relocatable code, for which the assembler allots a kernel's registers without those of the functions that it calls.
The rows go to FILE, which tools/device_figures.py takes beside that of the benchmark.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

KERNELS = {"trivial_malloc": "registers/malloc", "trivial_malloc_64": "registers/malloc-64", "trivial_free": "registers/free"}
SOURCE = """
#include "cuda_zstd_device_pool.cuh"
extern "C" __global__ void trivial_malloc(cuda_zstd::DevicePoolRef pool, std::size_t bytes, void** blocks) {
    blocks[blockIdx.x * blockDim.x + threadIdx.x] = pool.allocate(bytes);
}
extern "C" __global__ void trivial_malloc_64(cuda_zstd::DevicePoolRef pool, void** blocks) {
    blocks[blockIdx.x * blockDim.x + threadIdx.x] = pool.allocate(64);
}
extern "C" __global__ void trivial_free(cuda_zstd::DevicePoolRef pool, void* const* blocks) {
    pool.deallocate(blocks[blockIdx.x * blockDim.x + threadIdx.x]);
}
"""


def registers(report: str) -> dict[str, int]:
    """The registers of each kernel in what the assembler said."""
    found: dict[str, int] = {}
    kernel = None
    for line in report.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = entry.group(1)
        elif (used := re.search(r"Used (\d+) registers", line)) and kernel is not None:
            found[kernel] = int(used.group(1))
            kernel = None
    return found


def assemble(nvcc: str, arch: str, options: list[str]) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "trivial.cu")
        source.write_text(SOURCE)
        done = subprocess.run([nvcc, "-std=c++20", "-O3", f"-arch={arch}", "-Iinclude", "-I.", "-cubin", "-Xptxas=-v", *options,
                               str(source), "-o", str(source.with_suffix(".cubin"))], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"device_registers: nvcc failed:\n{done.stderr}")
    return registers(done.stderr + done.stdout)


def main() -> int:
    toolkit = os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin/nvcc"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default=shutil.which("nvcc") or toolkit)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    for metric, options in (("registers", []), ("inline", ["-rdc=true"])):
        found = assemble(arguments.nvcc, arguments.arch, options)
        for kernel, case in KERNELS.items():
            if kernel not in found:
                sys.exit(f"device_registers: the assembler did not report {kernel}")
            rows.append(f"ours,{case},{metric},count,{found[kernel]}")
    print("\n".join(rows))
    if arguments.csv:
        arguments.csv.write_text("\n".join(["subject,case,metric,unit,value", *rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
