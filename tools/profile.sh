#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a command under Nsight Systems and prints what the memory pool did: its ranges, marks, counters and kernels.
# Usage: tools/profile.sh [-o PREFIX] [--fine] COMMAND [ARGUMENT...]
# Writes PREFIX.nsys-rep and PREFIX.sqlite (default: profile in the current folder). NSYS names the program where it is not
# on PATH. Exit status: the command's.
set -euo pipefail

prefix=profile
mode=${CUDA_ZSTD_POOL_NVTX:-coarse}
usage() {
    sed -n '3,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}
while (($# > 0)); do
    case $1 in
    -o)
        (($# > 1)) || usage
        prefix=$2
        shift 2
        ;;
    --fine)
        mode=fine
        shift
        ;;
    --)
        shift
        break
        ;;
    -*) usage ;;
    *) break ;;
    esac
done
(($# > 0)) || usage

# Also where it comes with Nsight Compute.
find_nsys() {
    local candidate
    for candidate in "${NSYS:-}" "$(command -v nsys || true)" /usr/local/cuda/bin/nsys /opt/nvidia/nsight-systems/*/bin/nsys \
        /opt/nvidia/nsight-compute/*/host/target-linux-x64/nsys /usr/local/cuda/nsight-compute-*/host/target-linux-x64/nsys; do
        [[ -n $candidate && -x $candidate ]] && printf '%s\n' "$candidate" && return 0
    done
    return 1
}
nsys=$(find_nsys) || {
    echo "tools/profile.sh: no nsys: install Nsight Systems, or set NSYS to the program" >&2
    exit 127
}

rm -f "$prefix.nsys-rep" "$prefix.sqlite"
status=0
CUDA_ZSTD_POOL_NVTX=$mode "$nsys" profile --trace=cuda,nvtx --sample=none --cpuctxsw=none --force-overwrite=true \
    --output="$prefix" "$@" || status=$?
if [[ ! -e $prefix.nsys-rep ]]; then
    echo "tools/profile.sh: nsys wrote no $prefix.nsys-rep. Where it says that it cannot import, libdw.so.1 is missing" \
        "(Debian: libdw1)." >&2
    exit $((status == 0 ? 1 : status))
fi
# Versions that can leave payloads out do, unless they are told not to.
export_options=()
for option in --include-blobs --include-json; do
    if grep -q -- "$option" <<<"$("$nsys" export --help 2>&1 || true)"; then export_options+=("$option=true"); fi
done
"$nsys" export --type=sqlite "${export_options[@]}" --force-overwrite=true --output="$prefix.sqlite" "$prefix.nsys-rep" >/dev/null || {
    echo "tools/profile.sh: nsys could not export $prefix.nsys-rep" >&2
    exit $((status == 0 ? 1 : status))
}
python3 "$(dirname "${BASH_SOURCE[0]}")/profile_summary.py" "$prefix.sqlite" || exit $((status == 0 ? 1 : status))
exit "$status"
