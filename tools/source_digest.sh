#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Prints a digest over the contents of include, src, kernels and bench (without bench/results): what figures were measured with.
# It depends on names and contents alone, so that two checkouts of the same sources agree. Usage: tools/source_digest.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find include src kernels bench -path bench/results -prune -o -type f ! -name '*.pyc' ! -name '*~' ! -name '.*' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-64
