// SPDX-License-Identifier: MIT
// The cell of shared state that the environments' atomics work on.
// Invariant: same size and layout as T, trivially copyable, so that heap state stays plain data at fixed
// offsets; it is only ever touched through an environment's load, store and read-modify-write functions.
#pragma once

namespace cuda_zstd {

template <class T>
struct Atom {
    alignas(sizeof(T)) T value;
};

} // namespace cuda_zstd
