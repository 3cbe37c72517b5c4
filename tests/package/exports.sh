#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A shared library shows its users what CUDA_ZSTD_API marks, and has a name with its version. Usage: exports.sh LIBRARY VERSION INCLUDE
set -euo pipefail

library=$1 version=$2 include=$3
symbols=$(nm --dynamic --defined-only --demangle "$library" | cut -d ' ' -f 3-)
own='(typeinfo for |typeinfo name for |vtable for )?cuda_zstd::'
if foreign=$(grep -vE "^$own" <<<"$symbols"); then
    printf 'not of this library:\n%s\n' "$foreign" >&2
    exit 1
fi
# The words of the declarations that are marked, against the first name of each symbol.
marked=$(grep -rhoE 'CUDA_ZSTD_API [^;{]*' "$include" | grep -oE '[A-Za-z_0-9]+' | sort -u)
names=$(sed -E "s/^$own(detail::)?//" <<<"$symbols" | grep -oE '^[A-Za-z_0-9]+' | sort -u)
if unmarked=$(comm -13 <(echo "$marked") <(echo "$names") | grep .); then
    printf 'not marked with CUDA_ZSTD_API:\n%s\n' "$unmarked" >&2
    exit 1
fi
if parts=$(grep '::State::' <<<"$symbols"); then
    printf 'parts that nobody else may use:\n%s\n' "$parts" >&2
    exit 1
fi
for name in 'MemoryPoolManager::allocate(unsigned long, CUstream_st\*)' 'DevicePool::compact(' 'typeinfo for cuda_zstd::out_of_memory'; do
    grep -q "$name" <<<"$symbols" || { echo "not exported: $name" >&2; exit 1; }
done
name=$(objdump -p "$library" | sed -n 's/^ *SONAME *//p')
# Before 1.0 a minor version may change the interface.
[[ $name == libcuda_zstd_memory_pool.so.${version%.*} ]] || { echo "its name is $name" >&2; exit 1; }
echo "$(wc -l <<<"$symbols") symbols, $name"
