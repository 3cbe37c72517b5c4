#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs every benchmark of a build folder that this machine can run, and says which committed results belong to other sources.
# Usage: tools/bench.sh BUILD [RESULTS]   writes RESULTS/<benchmark>.csv (default: build/bench)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/gpu.sh

build=${1:?usage: tools/bench.sh BUILD [RESULTS]}
results=${2:-build/bench}
mkdir -p "$results"

mapfile -t programs < <(benchmark_programs "$build")
((${#programs[@]})) || { echo "bench: no benchmark programs under $build/bench" >&2; exit 1; }
status=0
for program in "${programs[@]}"; do
    name=$(benchmark_name "$program")
    printf '\n== bench/%s\n' "$name"
    code=0
    "$program" --csv "$results/$name.csv" || code=$?
    # 77 says that this machine cannot run it.
    ((code == 0 || code == 77)) || status=$code
done

printf '\nResults: %s\n' "$results"
digest=$(tools/source_digest.sh)
for source in bench/results/*/SOURCE; do
    [[ -e $source ]] || continue
    folder=$(dirname "$source")
    if [[ $(<"$source") == "$digest" ]]; then
        echo "$folder: measured with these sources"
    else
        echo "$folder: measured with OTHER sources (digest $(cut -c 1-12 "$source"); these are ${digest:0:12})"
    fi
done
exit "$status"
