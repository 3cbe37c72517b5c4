#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Gathers about 150 MB of real files of all kinds under FOLDER/files, a file for each kind. Usage: tools/corpus.sh FOLDER
# The files come out of Debian packages, which are downloaded and unpacked, not installed; where they cannot be had, or
# CUDA_ZSTD_CORPUS=local, out of this machine's own files. Done once: a complete corpus is left as it is.
set -euo pipefail

folder=${1:?usage: tools/corpus.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
packages=$folder/packages
files=$folder/files
mebibyte=$((1024 * 1024))

# Writes the files named on standard input (one a line), one after the other, to files.part/$1, of which at most $2 MiB.
collect() {
    local name=$1 limit_mib=$2 sources
    mapfile -t sources
    ((${#sources[@]})) || return 0
    # head closes the pipe when it has enough: that is no failure of what comes before it.
    { printf '%s\0' "${sources[@]}" | xargs -0 cat -- 2>/dev/null || true; } | head -c $((limit_mib * mebibyte)) >"$files.part/$name"
}

# The files below $1 that fit the find tests in $2..., in a stable order.
below() {
    local root=$1
    shift
    { find "$root" -type f -readable \( "$@" \) 2>/dev/null || true; } | LC_ALL=C sort
}

apt_download() { (cd "$packages" && apt-get download -qq "$1" >/dev/null 2>&1); }

# A new machine has no package lists, an old one has stale ones. Done at most once; only root can.
refresh_package_lists() {
    ((EUID == 0)) && [[ ! -e $packages/.refreshed ]] || return 1
    apt-get update -qq && touch "$packages/.refreshed"
}

# Downloads package $1, unless that has been done, and prints the path of its .deb.
download() {
    local package=$1
    if ! compgen -G "$packages/${package}_*.deb" >/dev/null; then
        apt_download "$package" || { refresh_package_lists && apt_download "$package"; } || return 1
    fi
    compgen -G "$packages/${package}_*.deb" | head -n 1
}

# Unpacks package $1 into packages/$1 and prints that folder.
unpack() {
    local archive
    archive=$(download "$1") || return 1
    [[ -d $packages/$1 ]] || { mkdir "$packages/$1.part" && dpkg -x "$archive" "$packages/$1.part" && mv "$packages/$1.part" "$packages/$1"; }
    printf '%s\n' "$packages/$1"
}

# Unpacks the C files of three parts of the kernel out of the package's archive, which holds 1.4 GB.
unpack_linux() {
    local root=$1 archive
    archive=$(below "$root" -name 'linux-source-*.tar.xz')
    [[ -d $packages/linux ]] && return 0
    mkdir -p "$packages/linux.part"
    xz -T0 -dc "$archive" | tar -x -C "$packages/linux.part" --wildcards '*/kernel/*.c' '*/mm/*.c' '*/fs/*.c' '*/net/*.c'
    mv "$packages/linux.part" "$packages/linux"
}

from_packages() {
    local root
    command -v apt-get >/dev/null || return 1
    mkdir -p "$packages"
    rm -rf "$packages"/*.part "$packages/.refreshed"
    root=$(unpack wordnet-base) || return 1
    below "$root" -path '*wordnet*' | collect english-wordnet.txt 14
    root=$(unpack dict-gcide) || return 1
    below "$root" -name '*.dict.dz' | collect dictionary-gcide.dict.dz 8
    [[ -e $packages/gcide.txt ]] || below "$root" -name '*.dict.dz' | xargs -r zcat >"$packages/gcide.txt"
    below "$packages" -name gcide.txt | collect dictionary-gcide.txt 14
    root=$(unpack kicad-symbols) || return 1
    below "$root" -name '*.kicad_sym' | collect circuit-symbols.kicad_sym 14
    root=$(unpack gmt-gshhg-full) || return 1
    below "$root" -name '*.nc' | collect coastlines.nc 12
    root=$(unpack proj-data) || return 1
    below "$root" -name 'proj.db' | collect projections.sqlite 12
    below "$root" -name '*.tif' -o -name '*.gsb' -o -name '*.gtx' -o -path '*/proj/*' -size +500k ! -name 'proj.db' |
        collect projection-grids.bin 10
    root=$(unpack geoip-database) || return 1
    below "$root" -name '*.dat' | collect geoip.dat 10
    root=$(unpack ncbi-data) || return 1
    below "$root" -path '*ncbi*' -size +64k | collect ncbi-data.bin 10
    root=$(unpack unicode-data) || return 1
    below "$root" -name '*.txt' | collect unicode-data.txt 14
    download unicode-data | collect unicode-data.deb 6
    root=$(unpack linux-source-6.1) || return 1
    below "$root" -name 'linux-source-*.tar.xz' | collect linux-source.tar.xz 6
    unpack_linux "$root" || return 1
    below "$packages/linux" -name '*.c' | collect linux-source.c 24
    # Every machine that can build this has a C++ compiler: machine code.
    below /usr/lib/gcc -name 'cc1plus' -o -name 'lto1' | collect machine-code.elf 10
}

from_this_machine() {
    below /usr/bin -size +16k | collect programs.elf 16
    below /usr/lib -name '*.so*' | collect libraries.elf 16
    below /usr/lib -name '*.a' | collect archives.a 12
    below /usr/include | collect headers.h 16
    below /usr -name '*.py' | collect python.py 16
    below /usr -name '*.pyc' | collect python.pyc 8
    below /usr/share -name '*.gz' | collect compressed.gz 10
    below /usr/share -name '*.txt' -o -name '*.html' -o -name copyright | collect text.txt 14
    below /usr/share -name '*.json' -o -name '*.xml' -o -name '*.svg' | collect markup.xml 10
    below /usr -name '*.png' -o -name '*.jpg' -o -name '*.whl' -o -name '*.zip' | collect packed.bin 8
    below /var/lib -name '*.list' -o -name '*_Packages' -o -name '*.lz4' | collect package-lists.txt 12
    below /usr/share/i18n -true | collect locales.txt 8
}

if [[ -d $files ]]; then
    exit 0
fi
trap 'rm -rf "$files.part"' EXIT
rm -rf "$files.part"
mkdir "$files.part"
if [[ ${CUDA_ZSTD_CORPUS:-auto} == local ]]; then
    echo "== gathering a corpus from this machine's own files"
    from_this_machine
else
    echo "== fetching a corpus of Debian packages (220 MB, once; nothing is installed)"
    if ! from_packages; then
        echo "The Debian packages of the corpus could not be had: using this machine's own files instead." >&2
        rm -rf "$files.part"
        mkdir "$files.part"
        from_this_machine
    fi
fi
[[ -n $(ls "$files.part") ]] || { echo "No corpus: neither packages nor readable files on this machine." >&2; exit 1; }
mv "$files.part" "$files"
rm -rf "$packages"
