#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Gets RMM (the librmm-cu13 wheel and what it needs) and builds the benchmark's subjects with it, so that the host
# benchmark also measures rmm-pool, rmm-arena and rmm-async. Where the wheels cannot be had, says so and leaves.
# Usage: bench/host/setup_rmm.sh BUILD [TOOLKIT]   writes BUILD/bench/host/rmm/
set -euo pipefail
build=${1:?usage: bench/host/setup_rmm.sh BUILD [TOOLKIT]}
toolkit=${2:-${CUDA_HOME:-/usr/local/cuda}}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$build/bench/host/rmm
mkdir -p "$folder"
[[ -e $folder/librmm_subject.so && $folder/librmm_subject.so -nt $here/rmm_subject.cpp ]] && exit 0

python3 -m pip download --quiet --no-deps --only-binary :all: -d "$folder/wheels" \
    'librmm-cu13==26.10.*' 'rapids-logger==0.3.*' || {
    echo "RMM's wheels cannot be had here: the benchmark skips rmm-pool, rmm-arena and rmm-async" >&2
    exit 77
}
for wheel in "$folder"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$folder/unpacked"
done
rmm=$folder/unpacked/librmm
logger=$folder/unpacked/rapids_logger
cp "$rmm"/lib64/librmm.so "$logger"/lib64/librapids_logger.so "$folder/"
"${CXX:-g++}" -std=c++20 -O2 -Wno-deprecated-declarations -fPIC -shared -fvisibility=hidden -Wl,-rpath,'$ORIGIN' \
    -DLIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE \
    -isystem "$rmm/include/rapids" -isystem "$rmm/include" -isystem "$logger/include" -isystem "$toolkit/include" \
    "$here/rmm_subject.cpp" -o "$folder/librmm_subject.so.new" \
    "$folder/librmm.so" "$folder/librapids_logger.so" -L"$toolkit/lib64" -lcudart_static -ldl -lrt -lpthread
mv "$folder/librmm_subject.so.new" "$folder/librmm_subject.so"
rm -rf "$folder/unpacked" "$folder/wheels"
echo "RMM's subjects: $folder/librmm_subject.so"
