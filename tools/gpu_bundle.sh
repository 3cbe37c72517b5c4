#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Gathers the programs of a build folder into a small folder that runs on a machine with a GPU and no compiler: for
# tools/gpu_check.sh --build FOLDER. Usage: tools/gpu_bundle.sh BUILD FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/gpu.sh

build=$(realpath "${1:?usage: tools/gpu_bundle.sh BUILD FOLDER}")
folder=${2:?usage: tools/gpu_bundle.sh BUILD FOLDER}
rm -rf "$folder"
mkdir -p "$folder/lib"
folder=$(realpath "$folder")

# Copies the shared libraries of program $1 that a bare machine may lack; what every machine has would only shadow its own.
add_libraries() {
    local library
    while read -r library; do
        cp -Lu "$library" "$folder/lib/"
    done < <(ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' |
        grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libz|liblzma)\.so')
}

# Copies program $1 to its place, stripped.
add_program() {
    local place=$folder/${1#"$build"/}
    mkdir -p "$(dirname "$place")"
    strip -o "$place" "$1"
    add_libraries "$1"
}

while read -r program; do
    add_program "$program"
    printf '%s\n' "${program#"$build"/}" >>"$folder/gpu_tests"
done < <(gpu_test_programs "$build")
while read -r program; do add_program "$program"; done < <(benchmark_programs "$build")
for program in tests/soak/device_soak tests/soak/pool_soak tests/gpu/planted tests/gpu/sanitizer_probe tests/gpu/event_ring_cost \
    tools/pool_zstd/pool-zstd; do
    [[ ! -e $build/$program ]] || add_program "$build/$program"
done
# RMM beside the host benchmark, where it can be had: the machine that measures may have no network.
if bench/host/setup_rmm.sh "$build"; then
    mkdir -p "$folder/bench/host/rmm"
    for library in "$build"/bench/host/rmm/*.so; do
        strip -o "$folder/bench/host/rmm/$(basename "$library")" "$library"
    done
fi
# The decoder that checks the results.
cp -L "$(command -v zstd)" "$folder/zstd"
add_libraries "$(command -v zstd)"
du -sh "$folder"
