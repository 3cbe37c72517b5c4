#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs the consumer. Usage: consume.sh add_subdirectory|find_package SOURCE BUILD WORK VERSION NVCC
set -euo pipefail

how=$1 source=$2 build=$3 work=$4 version=$5 nvcc=$6
consumer=$(dirname "$(readlink -f "$0")")/consumer
arguments=(-DHOW="$how" -DCUDAToolkit_ROOT="$(dirname "$(dirname "$nvcc")")")

rm -rf "$work"
mkdir -p "$work"
if [[ $how == find_package ]]; then
    # Installed into one place and moved to another: nothing in it may name the place.
    cmake --install "$build" --prefix "$work/installed" >"$work/install.log"
    mv "$work/installed" "$work/prefix"
    arguments+=(-DCMAKE_PREFIX_PATH="$work/prefix" -DEXPECTED_VERSION="$version")
    # The sources must not be needed: no installed file may name them.
    if grep -rlF "$source" "$work/prefix" --include='*.cmake' --include='*.h' --include='*.hpp' --include='*.cuh'; then
        echo "The files above name the source folder." >&2
        exit 1
    fi
else
    arguments+=(-DSOURCE="$source" -DCMAKE_CUDA_COMPILER="$nvcc" -DCMAKE_CUDA_ARCHITECTURES=75-virtual)
fi
cmake -G Ninja -S "$consumer" -B "$work/build" -DCMAKE_BUILD_TYPE=Release "${arguments[@]}"
cmake --build "$work/build" --target consumer
"$work/build/consumer" | tee "$work/output"
grep -q '^MemoryPool Stats:' "$work/output"
