#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Instructions that a free and an allocation take together where a magazine serves both (host backend), under each switch of
# docs/profiling.md. Usage: tools/hit_cost.sh BUILD [BUILD...] (build folders, with other options to compare). Needs valgrind.
set -euo pipefail
(($# > 0)) || {
    sed -n '3,4s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
}
pairs=20000
# Instructions a pair, with the environment $3...
count() {
    local program=$1 stream=$2
    shift 2
    env "$@" valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='*counted_pairs*' \
        "$program" "$stream" "$pairs" 2>&1 | awk -v pairs="$pairs" '/Collected/ { printf "%.1f", $NF / pairs }'
}
printf '%-24s %-34s %12s %12s\n' build switches handle registered
for build in "$@"; do
    for switches in "" CUDA_ZSTD_POOL_NVTX=off CUDA_ZSTD_POOL_TRACK=sample CUDA_ZSTD_POOL_TRACK=all CUDA_ZSTD_POOL_TRACE=/dev/null; do
        printf '%-24s %-34s %12s %12s\n' "$(basename "$build")" "${switches:-none}" \
            "$(count "$build/tests/trace/hit_path" handle ${switches:+"$switches"})" \
            "$(count "$build/tests/trace/hit_path" registered ${switches:+"$switches"})"
    done
done
