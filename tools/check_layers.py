#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks who includes whom, and that each .hpp compiles on its own with g++.

The rule: core <- env <- heap <- device; core <- host; kernels -> device, heap; src -> host and the headers with which
kernels are launched. heap/ takes no header of the CUDA runtime, not even through another header.

usage: tools/check_layers.py [--toolkit FOLDER]   from the repository's root
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
RUNTIME = re.compile(r"(^|/)(cuda_runtime(_api)?\.h|cuda\.h|cub/.*|thrust/.*|nvtx3/.*)$")

# What a layer may take from the project. The top headers stand for the layer that they gather.
ALLOWED = {
    "core": {"core"},
    "env": {"core", "env"},
    "heap": {"core", "env", "heap"},
    "device": {"core", "env", "heap", "device", "host", "top_host"},
    "host": {"core", "host", "top_host"},
    "top_host": {"core", "host", "top_host"},
    "top_device": {"core", "env", "heap", "device"},
    "kernels": {"core", "env", "heap", "device", "host", "top_host", "top_device", "kernels"},
    "src": {"core", "host", "top_host", "src", "kernels", "device"},
}
# device/ holds the owner of a device pool, a host class: it may use the host API. What runs in a kernel may not.
HOST_SIDE_OF_DEVICE = {"device_pool.hpp"}


def layer_of(path: pathlib.PurePath) -> str | None:
    """The layer of a file given by its path from the root, or None where no rule applies."""
    parts = path.parts
    if parts[0] == "include":
        if len(parts) == 2:
            return "top_device" if "device_pool" in parts[1] else "top_host"
        return parts[2]
    return parts[0] if parts[0] in ("kernels", "src") else None


def resolve(name: str, includer: pathlib.Path) -> pathlib.Path | None:
    """The project's file that an include names, or None for a foreign one."""
    for folder in (includer.parent, pathlib.Path("include"), pathlib.Path("src"), pathlib.Path(".")):
        candidate = pathlib.Path(os.path.normpath(folder / name))
        if candidate.is_file():
            return candidate
    return None


def violations(path: pathlib.Path) -> list[str]:
    layer = layer_of(path)
    if layer is None:
        return []
    found = []
    if layer not in ALLOWED:
        return [f"{path}: include/cuda_zstd/{layer} is no layer of the house"]
    allowed = ALLOWED[layer]
    if layer == "device" and path.name not in HOST_SIDE_OF_DEVICE:
        allowed = allowed - {"host", "top_host"}
    text = path.read_text()
    for name in INCLUDE.findall(text):
        target = resolve(name, path)
        if target is None:
            if name.startswith("cuda_zstd"):
                found.append(f"{path}: includes {name}, which does not exist")
            elif layer in ("core", "heap") and RUNTIME.search(name):
                found.append(f"{path}: {layer}/ includes the CUDA header <{name}>")
            continue
        other = layer_of(target)
        if other is not None and other not in allowed:
            found.append(f"{path}: {layer} must not include {target} ({other})")
    if path.suffix == ".hpp" and "__global__" in re.sub(r"//.*", "", text):
        found.append(f"{path}: a .hpp compiles with plain g++ and holds no __global__ code")
    if not text.startswith("// SPDX-License-Identifier: MIT"):
        found.append(f"{path}: the first line is not '// SPDX-License-Identifier: MIT'")
    return found


def compile_alone(path: pathlib.Path, toolkit: pathlib.Path) -> str | None:
    """Compiles a header by itself, twice included; for heap/ looks for CUDA runtime headers on the way."""
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-fsyntax-only", "-H", "-Iinclude", "-Isrc", "-I.",
               "-isystem", str(toolkit / "include"), "-isystem", str(toolkit / "include/cccl"), "-x", "c++", "-"]
    source = f'#include "{path}"\n#include "{path}"\n'
    result = subprocess.run(command, input=source, capture_output=True, text=True)
    if result.returncode != 0:
        said = [line for line in result.stderr.splitlines() if "error" in line]
        return f"{path}: does not compile on its own with g++:\n  " + "\n  ".join(said[:10])
    if layer_of(path) == "heap":
        for line in result.stderr.splitlines():
            included = line.lstrip(". ") if line.startswith(".") else ""
            if RUNTIME.search(included):
                return f"{path}: heap/ reaches the CUDA header {included}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolkit", type=pathlib.Path, default=pathlib.Path("/usr/local/cuda"))
    toolkit = parser.parse_args().toolkit
    sources = [path for folder in ("include", "src", "kernels") for path in sorted(pathlib.Path(folder).rglob("*"))
               if path.suffix in (".h", ".hpp", ".cuh", ".cu", ".cpp")]
    headers = [path for path in sources if path.suffix in (".h", ".hpp")]
    if not headers:
        print("check_layers: no headers found: run it from the repository's root", file=sys.stderr)
        return 2
    problems = [problem for path in sources for problem in violations(path)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        problems += [p for p in pool.map(lambda path: compile_alone(path, toolkit), headers) if p]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"layers: {len(sources)} files, {len(headers)} headers compiled alone, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
