# SPDX-License-Identifier: MIT
# Makes a machine able to build this project: Debian packages, a CUDA toolkit, the release build. Sourced by ./run and
# .ci/run from the repository's root. Nothing is written outside build/, except by apt.

build_packages=(g++ cmake ninja-build python3 zstd xz-utils libboost1.81-dev libfmt-dev libcli11-dev nlohmann-json3-dev
    libgtest-dev libbenchmark-dev libzstd-dev liblz4-dev relacy-dev)
wheel_packages=(python3-pip ca-certificates)
check_packages=(clang-format git python3-jsonschema)

# The toolkit that is fetched where none is installed. One release throughout: headers, compiler and runtime must agree.
toolkit_wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85)

say() { printf '%s\n' "== $*"; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Prints those of the named Debian packages that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
    done
}

# Installs the named Debian packages where they are missing, or says which to install and stops.
ensure_packages() {
    local missing as_root=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        command -v cmake >/dev/null && command -v ninja >/dev/null && command -v c++ >/dev/null && return 0
        die "This machine has no apt. The build needs what these Debian 12 packages hold: $*"
    fi
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]} == 0)) && return 0
    if ((EUID != 0)); then
        # A password can be asked for only where somebody is there to type it.
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
            as_root=(sudo)
        else
            die "These Debian packages are missing, and installing them needs root or sudo:
  apt-get install ${missing[*]}"
        fi
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq || echo "apt-get update failed; going on with the package lists that are here" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt could not install: ${missing[*]}"
}

# Whether the folder $1 holds a toolkit that can build this: nvcc 13 or later with its runtime and CUB.
usable_toolkit() {
    local release
    [[ -x $1/bin/nvcc && -e $1/include/cuda_runtime.h && -e $1/lib64/libcudart_static.a ]] || return 1
    [[ -e $1/include/cccl/cub/cub.cuh || -e $1/include/cub/cub.cuh ]] || return 1
    release=$("$1/bin/nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    ((${release:-0} >= 13))
}

# Fetches the pinned toolkit as wheels and joins them into one tree, build/toolkit. Nothing is installed.
fetch_toolkit() {
    local tree=$PWD/build/toolkit staging=$PWD/build/toolkit.part
    usable_toolkit "$tree" && return 0
    ensure_packages "${wheel_packages[@]}"
    say "no CUDA toolkit of release 13 or later found: fetching one from PyPI into build/toolkit (105 MB)"
    rm -rf "$staging" "$tree"
    mkdir -p "$staging"
    # Each wheel unpacks into nvidia/cu13, so that installing them into one folder joins them.
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
        --root-user-action=ignore --target "$staging" "${toolkit_wheels[@]}" ||
        die "PyPI did not give the CUDA toolkit. Install CUDA 13 and set CUDA_HOME, or try again with a network."
    ln -s lib "$staging/nvidia/cu13/lib64"
    ln -s libcudart.so.13 "$staging/nvidia/cu13/lib/libcudart.so"
    chmod -R a+rX "$staging/nvidia/cu13"
    chmod a+x "$staging"/nvidia/cu13/bin/* "$staging"/nvidia/cu13/nvvm/bin/*
    mv "$staging/nvidia/cu13" "$tree"
    rm -rf "$staging"
    usable_toolkit "$tree" || die "The toolkit that was fetched into $tree does not work: ${toolkit_wheels[*]}"
}

# Sets `toolkit` to the folder of the CUDA toolkit to build with.
find_toolkit() {
    local candidate nvcc
    toolkit=
    if [[ ${CUDA_ZSTD_TOOLKIT:-} == wheels ]]; then
        fetch_toolkit
        toolkit=$PWD/build/toolkit
        return 0
    fi
    if [[ -n ${CUDA_ZSTD_TOOLKIT:-} ]]; then
        usable_toolkit "$CUDA_ZSTD_TOOLKIT" || die "CUDA_ZSTD_TOOLKIT=$CUDA_ZSTD_TOOLKIT holds no CUDA toolkit of release 13 or later."
        toolkit=$CUDA_ZSTD_TOOLKIT
        return 0
    fi
    nvcc=$(command -v nvcc || true)
    for candidate in "${CUDA_HOME:-}" "${nvcc:+$(dirname "$(dirname "$(readlink -f "$nvcc")")")}" /usr/local/cuda; do
        if [[ -n $candidate ]] && usable_toolkit "$candidate"; then
            toolkit=$candidate
            return 0
        fi
    done
    fetch_toolkit
    toolkit=$PWD/build/toolkit
}

# Configures the preset $1 where that has not been done with this toolkit, and builds the targets named after it.
build_preset() {
    local preset=$1 folder=build/$1
    shift
    find_toolkit
    if [[ ! -e $folder/build.ninja || $(cat "$folder/configured_with" 2>/dev/null) != "$toolkit" ]]; then
        say "configuring $folder with the CUDA toolkit in $toolkit"
        mkdir -p "$folder"
        rm -f "$folder/configured_with"
        cmake --fresh --preset "$preset" -DCMAKE_CUDA_COMPILER="$toolkit/bin/nvcc" -DCUDAToolkit_ROOT="$toolkit" \
            >"build/configure-$preset.log" 2>&1 || {
            cat "build/configure-$preset.log" >&2
            die "Configuring failed; its output is above and in build/configure-$preset.log."
        }
        printf '%s\n' "$toolkit" >"$folder/configured_with"
    fi
    say "building $folder${*:+: $*}"
    if [[ -t 1 ]]; then
        cmake --build "$folder" ${*:+--target "$@"}
    else
        cmake --build "$folder" ${*:+--target "$@"} >"build/build-$preset.log" 2>&1 || {
            grep -v '^\[[0-9/]*\] ' "build/build-$preset.log" | tail -n 200 >&2
            die "Building failed; its output is above and in build/build-$preset.log."
        }
    fi
}

build_release() { build_preset release "$@"; }
