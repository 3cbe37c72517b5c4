// SPDX-License-Identifier: MIT
#include "pool_compactor.hpp"

#include "cuda_zstd/host/error.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

namespace cuda_zstd::detail {
namespace {

std::string next_name() {
    static std::atomic<unsigned> made{0};
    return "cuda_zstd device pool " + std::to_string(made.fetch_add(1, std::memory_order_relaxed));
}

/// What is neither in use nor free pages is in slabs: free slots, and what a slab cannot be cut into.
TraceFigures figures_of(const HeapReport& report) {
    return {report.live_bytes, report.heap_bytes, report.free_page_bytes, report.largest_free_bytes};
}

} // namespace

/// Surveys that a call of statistics submits before it gives up: about a second.
constexpr unsigned most_attempts = 10000;

std::size_t PoolCompactor::work_bytes(Backend& backend, const HeapLayout& layout) {
    return compaction_work(backend, layout).bytes();
}

PoolCompactor::PoolCompactor(Backend& backend, const HeapArena& heap, std::size_t chunk_bytes, void* work,
                             cudaStream_t stream)
    : backend_(backend), chunk_bytes_(chunk_bytes), counters_(next_name()) {
    task_.heap = heap;
    task_.work = compaction_work(backend, heap.layout);
    task_.work.base = static_cast<char*>(work);
    task_.grid = ChunkGrid::of(heap.layout, chunk_bytes);
    const std::size_t bit_words = task_.grid.count() / 32 + 1;
    const std::size_t bits_offset = sizeof(ReportBoard);
    launched_ = backend.create_untimed_event();
    try {
        auto* const pinned =
            static_cast<std::byte*>(backend.allocate_pinned(bits_offset + bit_words * sizeof(Atom<std::uint32_t>)));
        task_.board = new (pinned) ReportBoard{};
        task_.free_chunk_bits = reinterpret_cast<Atom<std::uint32_t>*>(pinned + bits_offset);
        std::uninitialized_fill_n(task_.free_chunk_bits, bit_words, Atom<std::uint32_t>{});
        backend.fill_async(work, 0, sizeof(CompactionState), stream);
        backend.record(launched_, stream);
    } catch (...) {
        if (task_.board != nullptr) backend.free_pinned(task_.board);
        backend.destroy_event(launched_);
        throw;
    }
}

PoolCompactor::~PoolCompactor() {
    backend_.destroy_work(quiet_);
    backend_.free_pinned(task_.board);
    backend_.destroy_event(launched_);
}

void PoolCompactor::order_behind(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    backend_.record(launched_, stream);
}

std::unique_lock<std::mutex> PoolCompactor::hold(cudaStream_t stream) {
    std::unique_lock lock(mutex_);
    refuse_when_closed();
    backend_.wait(stream, launched_);
    return lock;
}

void PoolCompactor::refuse_when_closed() const {
    if (closed_) throw usage_error("a device pool is used while it is being destroyed");
}

/// A compaction, or with a null a survey; with the mutex held.
void PoolCompactor::launch(cudaStream_t stream, const Compaction* how) {
    refuse_when_closed();
    const bool is_captured = backend_.is_capturing(stream);
    if (!is_captured) backend_.wait(stream, launched_);
    if (++task_.launch == 0) ++task_.launch;
    try {
        if (how != nullptr && how->form == Compaction::Form::quiet && !is_captured)
            submit_quiet(stream);
        else if (how != nullptr)
            launch_compaction(backend_, stream, task_, *how);
        else
            launch_survey(backend_, stream, task_);
        if (is_captured) return;
        // Where a tool takes the counters they get their values when the report is there.
        if (counters_.wanted()) backend_.host_task(stream, [this] { counters_.sample(figures_of(report())); });
        backend_.record(launched_, stream);
    } catch (...) {
        // Its first kernels may run: without its last one the work area would be its own for ever, and the next launch,
        // on whichever stream, must come behind them all the same.
        launch_abandonment(backend_, stream, task_);
        if (!is_captured) end_order(stream);
        throw;
    }
}

/// Its kernels read all that changes from device memory, so that one recording serves. A driver that has no memory for
/// one gets the launches one by one: the first call comes when memory is short.
void PoolCompactor::submit_quiet(cudaStream_t stream) {
    const Compaction quiet{Compaction::Form::quiet};
    if (quiet_.handle == nullptr && !records_nothing_) {
        bool has_launched = false; // into the recording: what fails then is not the recording's fault
        try {
            quiet_ = backend_.record_work([&](cudaStream_t to) {
                has_launched = true;
                launch_compaction(backend_, to, task_, quiet);
                has_launched = false;
            });
        } catch (const cuda_error&) {
            if (has_launched) throw;
        }
        records_nothing_ = quiet_.handle == nullptr;
    }
    if (quiet_.handle != nullptr)
        backend_.submit(quiet_, stream);
    else
        launch_compaction(backend_, stream, task_, quiet);
}

/// What is launched next comes behind what `stream` was given.
void PoolCompactor::end_order(cudaStream_t stream) noexcept {
    try {
        backend_.record(launched_, stream);
    } catch (...) {
        try {
            backend_.synchronize(stream);
        } catch (...) {
            // Neither order nor end can be had of a driver that fails every call.
        }
    }
}

void PoolCompactor::compact(cudaStream_t stream, const Compaction& how) {
    if (how.budget_slabs == 0)
        throw usage_error("a compaction with a budget of 0 slabs would do nothing: give it one, or none (whole_heap)");
    if (how.form == Compaction::Form::quiet && how.budget_slabs != whole_heap)
        throw usage_error("a quiet compaction takes no budget: it makes all lists anew");
    const std::lock_guard lock(mutex_);
    launch(stream, &how);
}

HeapReport PoolCompactor::survey(cudaStream_t stream) {
    // Held to the end, so that the report is the one that was asked for.
    const std::lock_guard lock(mutex_);
    for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
        const std::uint64_t before = report().sequence;
        launch(stream, nullptr);
        backend_.synchronize(stream);
        const HeapReport found = report();
        if (found.sequence != before) return found;
        std::this_thread::sleep_for(std::chrono::microseconds(50)); // a graph's compaction had the work area
    }
    throw usage_error("statistics of a device pool that graphs compact all the time: wait for them first");
}

CompactionReason PoolCompactor::between_launches(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    refuse_when_closed();
    const CompactionReason reason = clock_.tick(policy_, report());
    if (reason != CompactionReason::none)
        launch(stream, &policy_.how);
    else if (clock_.wants_survey(policy_))
        launch(stream, nullptr);
    return reason;
}

void PoolCompactor::set_policy(const CompactionPolicy& policy) {
    const auto is_share = [](double value) { return value >= 0 && value <= 1; };
    if (!is_share(policy.fragmentation_above) || !is_share(policy.free_slot_share_above))
        throw configuration_error("the thresholds of a compaction policy are shares from 0 to 1");
    if (policy.how.budget_slabs == 0)
        throw configuration_error("a compaction policy with a budget of 0 slabs would do nothing");
    if (policy.how.form == Compaction::Form::quiet && policy.how.budget_slabs != whole_heap)
        throw configuration_error("a compaction policy of the quiet form takes no budget");
    const std::lock_guard lock(mutex_);
    policy_ = policy;
    clock_ = {};
}

HeapReport PoolCompactor::report() const { return read_report(task_); }

std::vector<std::size_t> PoolCompactor::free_chunk_offsets() const {
    std::vector<std::size_t> offsets;
    for (const std::uint32_t chunk : read_free_chunks(task_))
        offsets.push_back(chunk * chunk_bytes_);
    return offsets;
}

void PoolCompactor::close() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    // Not with the mutex: whoever uses the pool meanwhile is told, and does not wait for what is about to end.
    backend_.synchronize(launched_);
}

} // namespace cuda_zstd::detail
