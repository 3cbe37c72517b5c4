// SPDX-License-Identifier: MIT
#include "kernels/compact_launch.hpp"

#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/heap.hpp"

namespace cuda_zstd {
namespace {

CompactionTask of_kind(const CompactionTask& task, CompactionTask::Kind kind) {
    CompactionTask same = task;
    same.kind = kind;
    return same;
}

} // namespace

CompactionWork compaction_work(Backend& backend, const HeapLayout& layout) {
    CompactionWork work;
    work.page_count = layout.page_count;
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) work.sort_bytes = detail::sort_bytes_on_cuda(layout.page_count);
    return work;
}

void launch_compaction(Backend& backend, cudaStream_t stream, const CompactionTask& given, const Compaction& how) {
    const CompactionTask task = of_kind(given, CompactionTask::Kind::compaction);
    const DeviceScope device(backend);
    const bool is_quiet = how.form == Compaction::Form::quiet;
    if (backend.kind() == BackendKind::cuda) {
        detail::begin_on_cuda(stream, task);
        is_quiet ? detail::quiet_on_cuda(stream, task) : detail::online_on_cuda(stream, task, how.budget_slabs);
        detail::survey_on_cuda(stream, task);
    } else {
        detail::begin_on_host(backend, stream, task);
        is_quiet ? detail::quiet_on_host(backend, stream, task)
                 : detail::online_on_host(backend, stream, task, how.budget_slabs);
        detail::survey_on_host(backend, stream, task);
    }
}

void launch_survey(Backend& backend, cudaStream_t stream, const CompactionTask& given) {
    const CompactionTask task = of_kind(given, CompactionTask::Kind::survey);
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::begin_on_cuda(stream, task);
        detail::survey_on_cuda(stream, task);
    } else {
        detail::begin_on_host(backend, stream, task);
        detail::survey_on_host(backend, stream, task);
    }
}

void launch_abandonment(Backend& backend, cudaStream_t stream, const CompactionTask& task) noexcept {
    try {
        const DeviceScope device(backend);
        if (backend.kind() == BackendKind::cuda)
            detail::abandon_on_cuda(stream, task);
        else
            detail::abandon_on_host(backend, stream, task);
    } catch (...) {
        // Nothing more can be submitted.
    }
}

HeapReport read_report(const CompactionTask& task) {
    solo_env env;
    return task.board->read(env);
}

std::vector<std::uint32_t> read_free_chunks(const CompactionTask& task) {
    solo_env env;
    std::vector<std::uint32_t> chunks;
    if (env.load(task.board->latest, Order::acquire) == 0) return chunks;
    for (std::uint32_t chunk = 0; chunk < task.grid.count(); ++chunk)
        if ((env.load(task.free_chunk_bits[chunk / 32], Order::relaxed) >> (chunk % 32) & 1u) != 0)
            chunks.push_back(task.grid.first + chunk);
    return chunks;
}

} // namespace cuda_zstd
