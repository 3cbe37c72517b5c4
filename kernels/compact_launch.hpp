// SPDX-License-Identifier: MIT
// Launchers of compactions and surveys, for either backend.
//
// Invariant: each returns at once; its work is done in `stream` order. A task's area belongs to one launch at a time:
// calls with the same area must be ordered, but for those in graphs, which do nothing while another's is under way.
// A launcher that throws may have submitted its first steps. The heap is in order after each of them; the area is not
// free before launch_abandonment().
#pragma once

#include "cuda_zstd/heap/compact_state.hpp"
#include "cuda_zstd/heap/compaction.hpp"
#include "cuda_zstd/heap/free_chunks.hpp"
#include "cuda_zstd/heap/report_board.hpp"
#include "kernels/heap_launch.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuda_zstd {

/// One compaction, or one survey.
struct CompactionTask {
    enum class Kind : std::uint32_t { survey, compaction };

    HeapArena heap{};
    CompactionWork work;
    ReportBoard* board = nullptr;                   ///< pinned
    Atom<std::uint32_t>* free_chunk_bits = nullptr; ///< pinned: a bit for each chunk of the grid, 1 = free
    ChunkGrid grid;
    std::uint32_t launch = 0; ///< never 0; no other's
    Kind kind = Kind::survey;
};

/// The size of the work area of a heap: a `base` of null, to be set to zeroed device memory of bytes() aligned to 128.
CompactionWork compaction_work(Backend& backend, const HeapLayout& layout);

/// Retires, orders and surveys; publishes a report. Cost on CUDA: quiet, 6 kernels and those of a radix sort of the
/// heap's pages by 16 bits; online, 4 kernels.
void launch_compaction(Backend& backend, cudaStream_t stream, const CompactionTask& task, const Compaction& how);

/// Publishes a report. Cost on CUDA: 3 kernels.
void launch_survey(Backend& backend, cudaStream_t stream, const CompactionTask& task);

/// Gives back the work area of a launch that was not submitted to its end. Throws nothing: where this fails too,
/// nothing on the device goes on.
void launch_abandonment(Backend& backend, cudaStream_t stream, const CompactionTask& task) noexcept;

/// The last report that is whole; all zero before the first. By any thread of the host, with no synchronization.
HeapReport read_report(const CompactionTask& task);
/// The chunks that the last survey found free, numbered from the arena's start. The same.
std::vector<std::uint32_t> read_free_chunks(const CompactionTask& task);

namespace detail {
// The backends' steps.
std::size_t sort_bytes_on_cuda(std::uint32_t page_count);
void begin_on_cuda(cudaStream_t stream, const CompactionTask& task);
void quiet_on_cuda(cudaStream_t stream, const CompactionTask& task);
void online_on_cuda(cudaStream_t stream, const CompactionTask& task, std::uint32_t budget_slabs);
void survey_on_cuda(cudaStream_t stream, const CompactionTask& task);
void abandon_on_cuda(cudaStream_t stream, const CompactionTask& task) noexcept;
void begin_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task);
void quiet_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task);
void online_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task, std::uint32_t budget_slabs);
void survey_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task);
void abandon_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task);
} // namespace detail

} // namespace cuda_zstd
