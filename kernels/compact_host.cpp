// SPDX-License-Identifier: MIT
// Compactions and surveys on the host backend: the same launches as on CUDA, each by one thread.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/compact_online.hpp"
#include "cuda_zstd/heap/compact_quiet.hpp"
#include "cuda_zstd/heap/publish.hpp"
#include "cuda_zstd/host/error.hpp"
#include "kernels/compact_launch.hpp"
#include "kernels/launch_fault.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace cuda_zstd::detail {
namespace {

using View = Heap<solo_env>;

View view_of(const CompactionTask& task) { return View::over(task.heap.base, task.heap.layout); }

void sort_by_rank(const CompactionWork& work) {
    std::copy_n(work.slabs(), work.page_count, work.sorted_slabs());
    std::stable_sort(work.sorted_slabs(), work.sorted_slabs() + work.page_count,
                     [&](std::uint32_t a, std::uint32_t b) { return work.ranks()[a] < work.ranks()[b]; });
    std::transform(work.sorted_slabs(), work.sorted_slabs() + work.page_count, work.sorted_ranks(),
                   [&](std::uint32_t slab) { return work.ranks()[slab]; });
}

void rank_slabs(const CompactionTask& task) {
    solo_env env;
    const View view = view_of(task);
    const QuietCompaction<solo_env> compaction(view, task.work);
    for (std::uint32_t page = 0; page < task.work.page_count; ++page) {
        const std::uint16_t rank = compaction.rank(env, page);
        if (compaction.is_place(rank))
            env.fetch_add(task.work.state().ranked[SlabRank::size_class(rank)], 1u, Order::relaxed);
    }
}

void keep_cursors(const CompactionTask& task) {
    solo_env env;
    const View view = view_of(task);
    const QuietCompaction<solo_env> compaction(view, task.work);
    for (std::uint32_t cell = 0; cell < compaction.station_cells(); ++cell)
        compaction.keep(env, cell);
}

void apply_order(const CompactionTask& task) {
    solo_env env;
    const View view = view_of(task);
    const QuietCompaction<solo_env> compaction(view, task.work);
    std::uint32_t begin_of[size_class_count + 1] = {};
    for (unsigned index = 0; index < size_class_count; ++index)
        begin_of[index + 1] = begin_of[index] + env.load(task.work.state().ranked[index], Order::relaxed);
    const std::uint32_t items = std::max(task.work.page_count, compaction.station_cells());
    std::uint32_t slabs = 0;
    std::uint32_t pages = 0;
    for (std::uint32_t index = 0; index < items; ++index) {
        const std::uint32_t freed = compaction.apply(env, index, begin_of);
        slabs += freed != 0;
        pages += freed;
    }
    compaction.add_free_pages(env, slabs, pages);
}

void compact_online(const CompactionTask& task, std::uint32_t budget_slabs, unsigned processor) {
    solo_env env(processor);
    const View view = view_of(task);
    CompactionState& state = task.work.state();
    const std::uint32_t stations = task.heap.layout.stations;
    const std::uint32_t lists = size_class_count * stations;
    const std::uint32_t first = env.load(state.first_list, Order::relaxed);
    const auto segment = std::make_unique<ListOrder<solo_env>::Segment>();
    std::uint32_t left = budget_slabs;
    std::uint32_t retired = 0;
    for (std::uint32_t given = 0; given < lists && left != 0; ++given) {
        const std::uint32_t index = (first + given) % lists;
        const ListOrder<solo_env> order(view.supply(), index / stations, index % stations);
        const std::uint32_t done = order_list(env, order, *segment, left, retired);
        if (left != whole_heap) left -= done;
        env.store(state.lists, given + 1u, Order::relaxed);
    }
    env.store(state.retired_slabs, retired, Order::relaxed);
}

void survey(const CompactionTask& task) {
    solo_env env;
    const View view = view_of(task);
    CompactionState& state = task.work.state();
    SurveyPart sum;
    for (std::uint32_t page = 0; page < task.work.page_count; ++page)
        sum.sums = sum.sums + survey_page(env, view, page, [&](unsigned size_class, unsigned fill_class) {
                       env.fetch_add(state.by_class[size_class], 1u, Order::relaxed);
                       env.fetch_add(state.by_fill[fill_class], 1u, Order::relaxed);
                   });
    for (std::uint32_t word = 0; word < task.heap.layout.page_words(); ++word)
        sum.runs = sum.runs + survey_page_word(env.load(view.supply().pages.bits[word], Order::relaxed));
    for (std::uint32_t begin = 0; begin < task.grid.count(); begin += 32) {
        std::uint32_t bits = 0;
        for (std::uint32_t chunk = begin; chunk < std::min(begin + 32, task.grid.count()); ++chunk)
            bits |= std::uint32_t{is_chunk_free(env, view, task.grid, task.grid.first + chunk)} << (chunk - begin);
        env.put_for_host(task.free_chunk_bits[begin / 32], bits);
        env.fetch_add(state.free_chunks, popcount(bits), Order::relaxed);
    }
    if (task.kind == CompactionTask::Kind::compaction) env.fetch_add(state.compactions, 1u, Order::relaxed);
    const HeapReport report = make_report(env, view, state, task.grid, sum);
    env.store(state.sequence, report.sequence, Order::relaxed);
    task.board->put(env, report, 0, 1);
    task.board->announce(env, report.sequence);
    end_launch(env, task.work);
}

/// As CUDA's check_launch.
void check_submitted() {
    if (launch_fault.is_due()) throw cuda_error("a launch on the host backend failed, as a test wants");
}

/// A step of a launch in stream order: nothing, where the area is another's by then.
template <class Step>
void submit(Backend& backend, cudaStream_t stream, const CompactionTask& task, Step step) {
    backend.run_blocks(stream, 1, [task, step](unsigned, unsigned processor) {
        solo_env env(processor);
        if (is_owner(env, task.work, task.launch)) step(task, processor);
    });
    check_submitted();
}

} // namespace

void begin_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task) {
    backend.run_blocks(stream, 1, [task](unsigned, unsigned processor) {
        solo_env env(processor);
        if (!begin_launch(env, task.work, task.launch, size_class_count * task.heap.layout.stations)) return;
        if (task.kind == CompactionTask::Kind::compaction)
            env.store(task.work.state().retired_slabs, 0u, Order::relaxed);
    });
    check_submitted();
}

void quiet_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task) {
    submit(backend, stream, task, [](const CompactionTask& own, unsigned) { rank_slabs(own); });
    submit(backend, stream, task, [](const CompactionTask& own, unsigned) { keep_cursors(own); });
    submit(backend, stream, task, [](const CompactionTask& own, unsigned) { sort_by_rank(own.work); });
    submit(backend, stream, task, [](const CompactionTask& own, unsigned) { apply_order(own); });
}

void online_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task, std::uint32_t budget_slabs) {
    submit(backend, stream, task, [budget_slabs](const CompactionTask& own, unsigned processor) {
        compact_online(own, budget_slabs, processor);
    });
}

void survey_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task) {
    submit(backend, stream, task, [](const CompactionTask& own, unsigned) { survey(own); });
}

void abandon_on_host(Backend& backend, cudaStream_t stream, const CompactionTask& task) {
    submit(backend, stream, task, [](const CompactionTask& own, unsigned processor) {
        solo_env env(processor);
        end_launch(env, own.work);
    });
}

} // namespace cuda_zstd::detail
