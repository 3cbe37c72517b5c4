// SPDX-License-Identifier: MIT
// The cases of the device benchmark: what each workload does, with which sizes, in how large a heap.
//
// Invariant: a case's name says all that its kernels depend on but the heap's size, which its workload fixes.
// All kernels have 256 threads a block (W10: 128). Every block is written over its whole length and verified on the
// first and on the last iteration, outside of the times.
//
// - W1/N/S: N threads allocate S bytes each (`alloc`), then free them, each its own (`free`). Heap 12 GiB.
// - W2/N/S: the same with sizes uniform in 4..S bytes. Heap 12 GiB.
// - W3/N/S: N warps, of which lane 0 alone allocates S bytes, then frees. Heap 8 GiB.
// - W4/N: N threads, each 50 times in one kernel: allocate 16..1024 bytes, write a word, free (`pairs`). Heap 8 GiB.
// - W5/N/S: W1 for N = 2^0..2^24 in a heap of 8 GiB; `empty` is a kernel of the same grid that does nothing,
//   `alloc-net` and `free-net` are the times less `empty`.
// - W6/N/S: N threads allocate S bytes each; `spread-fresh` is the range of the addresses over N x S. Then ten rounds:
//   all are freed, and allocated again; `spread-ten` is the range after the tenth. Heap 2 GiB.
// - W7/512MiB/S: kernels of a million threads allocate S bytes a thread until one of them gets nothing; `share` is
//   count x class size over (heap - metadata). `failing`: then, a kernel of 100,000 threads, of which all fail;
//   `succeeding`: the same kernel when all of them get a block (where 512 MiB do not hold so many: in a heap of 8
//   GiB).
// - W8/1024/S: 1,024 threads allocate S bytes each, then free; `supported` is the part that got a block, and the times
//   are printed when all did. Heap 20 GiB.
// - W9/P/S: a heap of 512 MiB is filled to P per cent of its payload with 64 B blocks (`full`: until null; `filled` is
//   the share that it gave), they are freed, and then S bytes a thread are allocated until null: `share` as in W7;
//   `share-new` is what a new heap yields. Nothing but the allocating kernels reclaims anything.
// - W10/N: N thread blocks; each takes 3 to 40 blocks of 1..64 KiB (in steps of 16 B), one after the other, writes
//   each one whole, then frees them in another order: `time` of the kernel, `pairs` a second, `heap` in bytes. Subject
//   `reserved` has the worst case, 40 x 64 KiB for each thread block, allocated beforehand. Heap 8 GiB.
// - init/8GiB: making a heap of 8 GiB, until the device is done: `first`, and `time`, the median of those after it.
// - registers/X: registers of a trivial kernel around malloc or free, and bytes of its stack, as the driver reports
//   them.
//
// `alloc-graph` and `free-graph` are the same kernels in a CUDA graph of ten pairs, with events recorded by the graph.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

enum class Workload { uniform, mixed, lane, churn, scaling, spread, fill, large, reuse, scratch, init, registers };

/// Whether a case is one of the nine whose rows every subject must have.
enum class Selection { named, grid };

struct Case {
    std::string name;
    Workload workload;
    unsigned count;         ///< threads, warps or thread blocks
    std::size_t bytes;      ///< of a block; the largest, where sizes are mixed
    std::size_t heap_bytes; ///< what the subject is made with
    Selection selection;
};

/// W9's fill in per cent is in `count`; 100 stands for "until null".
inline constexpr unsigned until_null = 100;

/// All cases, in the order of their workloads.
std::vector<Case> all_cases();

} // namespace bench
