#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the PTX that nvcc makes of the device heap: the scope and the order of each access to shared state.

A heap is shared by all blocks of a grid and by several streams, so an access at the scope of a thread block (.cta) is a
bug that no other test finds. In the kernels of tools/check_ptx_probe.cu, kernels/{heap,audit,chunk,survey,compact,relocate}_cuda.cu (CUB's own
kernels left out: they touch the work area only) this demands:

  scope   each atomic, ordered load and ordered store has the scope .gpu or .sys; none is without scope, or volatile
  fence   there is no fence: the heap's orders are those of its accesses
  order   each of them has an order that the source line which asked for it names
  plain   plain stores to global memory are the caller's own, or set up a heap that nobody shares yet; plain loads read
          what never changes: members of a handle, at a fixed distance from a parameter or from a pointer in a handle,
          never at a computed index; and no source of heap/ or device/ names the plain value of a cell

and prints what it counted, and the registers of a trivial malloc kernel and free kernel (for information).

usage: tools/check_ptx.py [--toolkit FOLDER] [--arch sm_90] [--self-test] [--quiet]   from the repository's root
  --self-test   plants faults in a copy of the sources and demands that each is found
"""
import argparse
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter

PROBE = "tools/check_ptx_probe.cu"
SOURCES = (PROBE, "kernels/heap_cuda.cu", "kernels/audit_cuda.cu", "kernels/chunk_cuda.cu", "kernels/survey_cuda.cu", "kernels/compact_cuda.cu",
           "kernels/relocate_cuda.cu")

# Plain accesses to global memory that are as they should be: entry function, source file, reason.
PLAIN_STORES = [
    (r"malloc_kernel", r"check_ptx_probe\.cu$", "the caller's own array"),
    (r"group_kernel", r"device/pool_ref\.hpp$", "the caller's own array"),
    (r"take_run", r"heap/heap\.hpp$", "the caller's own variable, on its stack"),
    (r"append_kernel", r"device/pool_vector_ref\.hpp$", "the caller's own element"),
    (r"setup_kernel", r"heap/\w+\.hpp$", "the heap is nobody's before its set-up has ended"),
    (r"vector_kernel|WarpPoolVector", r"device/warp_pool_vector\.hpp$", "the list's own blocks"),
    (r"scratch_kernel|ScratchFrame", r"device/scratch_frame\.hpp$", "the frame's own blocks"),
    (r"survey_kernel", r"survey_cuda\.cu$", "a work area of the kernel, read by a later one"),
    (r"rank_kernel|keep_kernel", r"heap/compact_quiet\.hpp$", "the arrays to be sorted, read by later kernels"),
    (r"relocation_kernel", r"kernels/relocate\.hpp$", "the blocks' own bytes, while nobody else uses the heap"),
    (r"audit_kernel", r"audit_cuda\.cu$|heap/(audit(_finding)?|live_census)\.hpp$", "the report, which the host reads when the stream has got there"),
]
PLAIN_LOADS = [
    (r"relocation_kernel", r"kernels/relocate\.hpp$", "the blocks' own bytes, while nobody else uses the heap"),
    (r"group_kernel", r"device/pool_ref\.hpp$", "the caller's own array"),
    (r"free_kernel", r"check_ptx_probe\.cu$", "the caller's own array"),
    (r"vector_kernel|WarpPoolVector", r"device/warp_pool_vector\.hpp$", "the list's own blocks"),
    (r"scratch_kernel|ScratchFrame", r"device/scratch_frame\.hpp$", "the frame's own blocks"),
    (r"chunk_take_kernel", r"chunk_cuda\.cu$", "the host's list, written before the launch"),
    (r"report_kernel", r"survey_cuda\.cu$", "a work area, written by an earlier kernel"),
    (r"keep_kernel|apply_kernel", r"heap/compact_quiet\.hpp$", "ranks and sorted arrays, written by earlier kernels"),
]

ACCESS = re.compile(r"^\s*(?:@!?%p\d+\s+)?((?:atom|red|ld|st|fence|membar)(?![a-z])(?:\.[\w:]+)*)\s*([^;]*);")
LOC = re.compile(r"^\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:,\s*function_name\s+\S+,\s*inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?")
FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]+)"')
FUNCTION = re.compile(r"^\s*(?:\.visible\s+|\.weak\s+|\.extern\s+)*\.(entry|func)\s*(?:\([^)]*\)\s*)?([\w$]+)", re.MULTILINE)
ORDERS = {"relaxed", "acquire", "release", "acq_rel"}
SCOPES = {"cta", "cluster", "gpu", "sys"}
OWN_SPACES = {"param", "local", "shared", "const"}


def compile_ptx(root: pathlib.Path, source: str, toolkit: pathlib.Path, arch: str, out: pathlib.Path) -> str:
    command = [str(toolkit / "bin/nvcc"), "-std=c++20", f"-arch={arch}", "--ptx", "-lineinfo", "-I", str(root / "include"),
               "-I", str(root), str(root / source), "-o", str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"check_ptx: {source} does not compile:\n{result.stderr[-3000:]}")
    return out.read_text()


class Sites:
    """From the .loc lines seen so far in one function to the source line that an instruction belongs to."""

    def __init__(self, files: dict[int, str]):
        self.files = files
        self.parents: dict[tuple, tuple | None] = {}
        self.all_parents: dict[tuple, set] = {}
        self.last: tuple | None = None

    def see(self, match: re.Match) -> None:
        here = tuple(map(int, match.group(1, 2, 3)))
        self.parents[here] = tuple(map(int, match.group(4, 5, 6))) if match.group(4) else None
        self.all_parents.setdefault(here, set()).add(self.parents[here])
        self.last = here

    def chain(self) -> list[tuple[str, int]]:
        """The line of the instruction and the calls that it was inlined through, innermost first."""
        found, at, seen = [], self.last, set()
        while at is not None and at not in seen:
            seen.add(at)
            found.append((self.files.get(at[0], "?"), at[1]))
            at = self.parents.get(at)
        return found

    def caller_of_environment(self) -> tuple[str, int] | None:
        """The line that asked the environment for the access."""
        chain = self.chain()
        inside = [i for i, (file, _) in enumerate(chain) if file.endswith("env/cuda_env.cuh")]
        return chain[inside[-1] + 1] if inside and inside[-1] + 1 < len(chain) else None

    def other_callers(self) -> set[tuple[str, int]]:
        """Lines of this function that reach the environment at the same place: the compiler does not always say which."""
        found: set[tuple[str, int]] = set()
        work, seen = [self.last], set()
        while work:
            at = work.pop()
            if at is None or at in seen:
                continue
            seen.add(at)
            for parent in self.all_parents.get(at, ()):
                if parent is None:
                    continue
                inside = self.files.get(at[0], "?").endswith("env/cuda_env.cuh")
                outside = not self.files.get(parent[0], "?").endswith("env/cuda_env.cuh")
                if inside and outside:
                    found.add((self.files.get(parent[0], "?"), parent[1]))
                else:
                    work.append(parent)
        return found

    def own_line(self) -> tuple[str, int]:
        """The innermost line that is not the toolkit's."""
        for file, line in self.chain():
            if "/include/cuda_zstd" in file or "/kernels/" in file or "/tools/" in file:
                return file, line
        return ("?", 0)


def orders_asked_at(file: str, line: int) -> set[str]:
    """The orders that the statement at this line names; all of it, if it goes over several lines."""
    lines = pathlib.Path(file).read_text().splitlines()
    text = ""
    for each in lines[line - 1:line + 7]:
        text += each
        if "Order::" in text and (";" in each or "{" in each):
            break
    asked = set(re.findall(r"Order::(\w+)", text))
    if "store_for_host" in text:
        asked.add("release")
    return asked & ORDERS


def is_member(register: str, definitions: dict[str, list[str]], depth: int = 0) -> bool:
    """Whether the register holds a parameter, or a pointer that was loaded, plus constants and parameters: what
    `handle.member` and `arena + layout.offset` compile to. What holds a computed index is not."""
    found = definitions.get(register, [])
    if not found or depth > 16:
        return False
    for text in found:
        if re.match(r"ld\.param\.|ld\.(global\.|local\.)?(nc\.)?(v[24]\.)?[ub]64|mov\.[bu]64 %\w+, \w", text):
            continue
        step = re.match(r"(?:cvta\.to\.global\.u64|cvta\.global\.u64|cvta\.local\.u64|mov\.[bu]64|add\.s64) %\w+, (.*)$", text)
        if not step:
            return False
        for operand in step.group(1).split(", "):
            if operand.startswith("%") and not operand.startswith("%SP") and not is_member(operand, definitions, depth + 1):
                return False
    return True


def functions_of(ptx: str):
    """(kind, name, lines) of each function."""
    heads = list(FUNCTION.finditer(ptx))
    for at, head in enumerate(heads):
        end = heads[at + 1].start() if at + 1 < len(heads) else len(ptx)
        body = ptx[head.start():end]
        if "\n{" in body:  # not a declaration
            yield head.group(1), head.group(2), body.splitlines()


def check(ptx: str, counts: Counter) -> list[str]:
    files = {int(m.group(1)): m.group(2) for m in map(FILE.match, ptx.splitlines()) if m}
    problems = []
    for _, name, lines in functions_of(ptx):
        if "DeviceRadixSort" in name:
            continue
        definitions: dict[str, list[str]] = {}
        for line in lines:
            text = line.split("//")[0].strip().rstrip(";")
            target = re.match(r"(?:@!?%p\d+\s+)?([\w.:]+)\s+(%\w+),", text)
            if target:
                definitions.setdefault(target.group(2), []).append(re.sub(r"\s+", " ", text))
            elif re.match(r"ld\.(param\.|global\.|local\.)?v[24]", text):
                for register in re.findall(r"%\w+", text.split("[")[0]):
                    definitions.setdefault(register, []).append(text)
        sites = Sites(files)
        for line in lines:
            if (loc := LOC.match(line)):
                sites.see(loc)
                continue
            if not (access := ACCESS.match(line)):
                continue
            parts = access.group(1).split(".")
            kind, flags = parts[0], set(parts[1:])
            file, number = sites.own_line()
            where = f"{name}: {access.group(0).strip()}  ({pathlib.Path(file).name}:{number})"
            if kind in ("fence", "membar"):
                problems.append(f"fence: {where}")
                continue
            if flags & OWN_SPACES:
                continue
            order, scope = flags & ORDERS, flags & SCOPES
            if "volatile" in flags or "mmio" in flags:
                problems.append(f"scope: a volatile access is no atomic one: {where}")
            elif kind in ("atom", "red") or order or scope:
                counts[f"{kind} {' '.join(order) or '-'} {' '.join(scope) or '-'}"] += 1
                if not scope & {"gpu", "sys"}:
                    problems.append(f"scope: {' '.join(scope) or 'none'} where the device is meant: {where}")
                if not order:
                    problems.append(f"order: none is named: {where}")
                elif (site := sites.caller_of_environment()) is None:
                    problems.append(f"order: an atomic access that does not come through the environment: {where}")
                elif not order <= orders_asked_at(*site) and \
                        not any(order <= orders_asked_at(*other) for other in sites.other_callers()):
                    problems.append(f"order: the source asks for {' or '.join(sorted(orders_asked_at(*site))) or 'none'} "
                                    f"at {pathlib.Path(site[0]).name}:{site[1]}: {where}")
            else:
                allowed = PLAIN_STORES if kind == "st" else PLAIN_LOADS
                counts[f"{kind} plain -"] += 1
                if any(re.search(entry, name) and re.search(source, file) for entry, source, _ in allowed):
                    continue
                base = re.search(r"\[(%\w+)", access.group(2))
                if kind == "ld" and base and is_member(base.group(1), definitions):
                    continue
                problems.append(f"plain: {where}")
    if not counts:
        problems.append("no access was found at all: has the form of PTX changed?")
    return problems


def plain_values(root: pathlib.Path) -> list[str]:
    """Places in heap/ and device/ that name the value of a cell instead of asking the environment for it."""
    found = []
    for layer in ("heap", "device"):
        for path in sorted((root / "include/cuda_zstd" / layer).glob("*.hpp")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"(\.|->)value\b(?!\()", line.split("//")[0]):
                    found.append(f"plain: {path.relative_to(root)}:{number}: {line.strip()}")
    return found


def readable(names: str) -> str:
    result = subprocess.run(["c++filt"], input=names, capture_output=True, text=True)
    return re.sub(r"\(anonymous namespace\)::|cuda_zstd::", "", result.stdout) if result.returncode == 0 else names


def registers(root: pathlib.Path, toolkit: pathlib.Path, arch: str, out: pathlib.Path) -> dict[str, str]:
    command = [str(toolkit / "bin/nvcc"), "-std=c++20", f"-arch={arch}", "-cubin", "-Xptxas=-v", "-I", str(root / "include"),
               "-I", str(root), str(root / PROBE), "-o", str(out)]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    found = {}
    for match in re.finditer(r"Compiling entry function '(\w+)'.*?\n(?:.*\n)*?.*?(\d+) bytes stack frame.*\n.*?Used (\d+) registers",
                             said):
        if short := re.match(r"_Z\d+([a-z]+_kernel)", match.group(1)):
            found[short.group(1)] = f"{match.group(3)} registers, {match.group(2)} B of stack"
    return found


def check_tree(root: pathlib.Path, toolkit: pathlib.Path, arch: str, folder: pathlib.Path,
               sources=SOURCES) -> tuple[list[str], Counter]:
    problems, counts = plain_values(root), Counter()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda source: compile_ptx(root, source, toolkit, arch, folder / (source.replace("/", "_") + ".ptx")),
                         sources)
        for source, text in zip(sources, texts):
            problems += [f"{source}: {problem}" for problem in check(text, counts)]
    return problems, counts


# A fault, what it replaces in which file, and the rule that must report it.
PLANTED = [
    ("block scope", "include/cuda_zstd/env/cuda_env.cuh", "using Ref = cuda::atomic_ref<T, cuda::thread_scope_device>",
     "using Ref = cuda::atomic_ref<T, cuda::thread_scope_block>", "scope: cta"),
    ("an acquire lost on the way", "include/cuda_zstd/env/cuda_env.cuh", "ref.load(cuda::std::memory_order_acquire)",
     "ref.load(cuda::std::memory_order_relaxed)", "order: the source asks for acquire"),
    ("a plain access", "include/cuda_zstd/heap/slab.hpp",
     "return SlabWord{env.fetch_add(words[slab], credits, Order::release) + credits};",
     "words[slab].value += credits; return SlabWord{words[slab].value};", "plain: "),
    ("a fence", "include/cuda_zstd/heap/slab.hpp", "const std::uint64_t credits = SlabWord::credit(count);",
     "const std::uint64_t credits = SlabWord::credit(count);\n#if defined(__CUDA_ARCH__)\n        __threadfence();\n#endif\n",
     "fence: "),
]


def self_test(root: pathlib.Path, toolkit: pathlib.Path, arch: str, folder: pathlib.Path) -> int:
    missed = 0

    def run(fault):
        name, file, old, new, expected = fault
        tree = folder / name.replace(" ", "_")
        for part in ("include", "kernels", "tools"):
            shutil.copytree(root / part, tree / part)
        text = (tree / file).read_text()
        if text.count(old) < 1:
            return name, f"its line is not in {file}: repair the entry in PLANTED"
        (tree / file).write_text(text.replace(old, new))
        problems, _ = check_tree(tree, toolkit, arch, tree, (PROBE,))
        return name, None if any(expected in problem for problem in problems) else f"not found; reported: {problems[:3]}"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, complaint in pool.map(run, PLANTED):
            print(f"planted fault, {name}: {complaint or 'found'}")
            missed += complaint is not None
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolkit", type=pathlib.Path, default=pathlib.Path("/usr/local/cuda"))
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--self-test", action="store_true", help="demand that planted faults are found")
    parser.add_argument("--quiet", action="store_true", help="no counts")
    options = parser.parse_args()
    root = pathlib.Path.cwd()
    if not (root / PROBE).is_file():
        print("check_ptx: run it from the repository's root", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        problems, counts = check_tree(root, options.toolkit, options.arch, folder)
        if not options.quiet:
            print("accesses to global memory: kind, order, scope")
            for key, count in sorted(counts.items()):
                print(f"  {key:28} {count:4}")
            for kernel, used in registers(root, options.toolkit, options.arch, folder / "probe.cubin").items():
                print(f"  {kernel}: {used}")
        if problems:
            print(readable("\n".join(problems)), file=sys.stderr)
            print("A plain access that is right belongs into PLAIN_STORES or PLAIN_LOADS of this script, with its reason.",
                  file=sys.stderr)
        missed = self_test(root, options.toolkit, options.arch, folder) if options.self_test else 0
    print(f"ptx: {sum(counts.values())} accesses for {options.arch}, {len(problems)} problems"
          + (f", {missed} planted faults missed" if options.self_test else ""))
    return 1 if problems or missed else 0


if __name__ == "__main__":
    sys.exit(main())
