#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What pool-zstd does at the edge of a machine's memory. A pool that is larger ends with exit code 1 and a message that says how
# much there is, and leaves no output; a pool of nearly all of it works, and its output decodes to the input.
# Usage: tools/pool_limits.sh POOL-ZSTD FILE TOO-MUCH MOST   (sizes as --pool takes them: 200G, 68000M)
set -euo pipefail

usage="usage: tools/pool_limits.sh POOL-ZSTD FILE TOO-MUCH MOST"
program=${1:?$usage} input=${2:?$usage} too_much=${3:?$usage} most=${4:?$usage}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "pool_limits: $*" >&2; exit 1; }

code=0
"$program" -q -k -o "$folder/none.zst" --pool "$too_much" "$input" 2>"$folder/errors" || code=$?
cat "$folder/errors"
((code == 1)) || fail "--pool $too_much ended with exit code $code, not 1"
grep -q "cannot allocate" "$folder/errors" || fail "--pool $too_much: the message does not say that memory is missing"
[[ -z $(find "$folder" -name 'none*') ]] || fail "--pool $too_much left a file behind"

"$program" -q -k -o "$folder/all.zst" --pool "$most" "$input" || fail "--pool $most failed with exit code $?"
zstd -q -d -o "$folder/decoded" "$folder/all.zst"
cmp "$input" "$folder/decoded" || fail "--pool $most: the output does not decode to the input"
echo "pool_limits: --pool $too_much is refused, --pool $most works"
