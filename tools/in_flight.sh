#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compresses 1 GiB of the corpus with all of its chunks in flight at once, in a pool of a quarter of their worst case, and
# checks the result. Fails where a chunk got no memory. Usage: tools/in_flight.sh POOL-ZSTD FOLDER [CSV]
set -euo pipefail

program=${1:?usage: tools/in_flight.sh POOL-ZSTD FOLDER [CSV]}
folder=${2:?usage: tools/in_flight.sh POOL-ZSTD FOLDER [CSV]}
gibibyte=$((1 << 30))
chunk_bytes=$((128 << 10))
# Of a chunk: chunk / 4 sequences of 8 bytes, and ZSTD_compressBound(chunk) = chunk + chunk / 256 from 128 KiB on.
worst_case_bytes=$((gibibyte / chunk_bytes * (chunk_bytes / 4 * 8 + chunk_bytes + chunk_bytes / 256)))

mkdir -p build
input=build/in_flight.bin
trap 'rm -rf "$input" build/in_flight' EXIT
while cat "$folder"/* 2>/dev/null; do :; done | head -c "$gibibyte" >"$input" || true
[[ $(stat -c %s "$input") == "$gibibyte" ]] || { echo "in_flight: '$folder' has no files to make 1 GiB of" >&2; exit 1; }
python3 "$(dirname "$0")/main_job.py" --pool-zstd "$program" --output build/in_flight --fits --option=--wave=1G \
    --option=--pool=$((worst_case_bytes / 4)) ${3:+--csv "$3"} "$input"
