# SPDX-License-Identifier: MIT
# What the scripts that measure have in common: the GPU's name, and where a build folder has its programs. Sourced.

# The GPU's model as a folder name, h100 for "NVIDIA H100 80GB HBM3"; fails where there is no GPU.
gpu_folder() {
    local name
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || return 1
    [[ -n $name ]] || return 1
    sed -E 's/^((NVIDIA|Tesla|GeForce|Quadro) +)*//; s/^RTX +/rtx/; s/ .*//' <<<"$name" | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9-'
}

# The benchmark programs of build folder $1: one for each folder of bench.
benchmark_programs() {
    find "$1/bench" -mindepth 2 -maxdepth 2 -type f -executable ! -name '*.so*' ! -name '*.sh' | LC_ALL=C sort
}

# The benchmark that a program belongs to: its folder's name.
benchmark_name() { basename "$(dirname "$1")"; }

# The test programs of build folder $1 with tests that need a GPU: as CTest knows them, or as a bundle lists them.
gpu_test_programs() {
    if [[ -e $1/gpu_tests ]]; then
        sed "s|^|$1/|" "$1/gpu_tests"
    else
        ctest --test-dir "$1" --show-only=json-v1 -L gpu | python3 -c '
import json, sys
tests = json.load(sys.stdin)["tests"]
print("\n".join(sorted({test["command"][0] for test in tests if test.get("command")})))'
    fi
}
