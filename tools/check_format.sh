#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fails where clang-format (14) would change a tracked source. Usage: tools/check_format.sh [--fix]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t sources < <(git ls-files '*.h' '*.hpp' '*.cuh' '*.cpp' '*.cu' '*.inc')
((${#sources[@]})) || { echo "check_format: no tracked sources" >&2; exit 1; }
if [[ ${1:-} == --fix ]]; then
    clang-format -i "${sources[@]}"
else
    clang-format --dry-run -Werror "${sources[@]}"
fi
echo "format: ${#sources[@]} files"
