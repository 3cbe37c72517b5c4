// SPDX-License-Identifier: MIT
// The medium pool: blocks inside spans that come from the arenas.
//
// Invariant: a span's blocks cover it. A span whose blocks are all free is the one that is kept for the next request,
// or on the list of those that the next miss (of this pool, or of the arenas before they grow) gives back to the
// arenas, with everything that its blocks waited for.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/quick_mutex.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace cuda_zstd::detail {

struct Span : PoolRegion {
    /// The arena's block that the span is made of.
    Block* memory = nullptr;
    std::size_t live_blocks = 0;
    /// The list of the spans that were empty once and may be so still.
    Span* next_empty = nullptr;
    bool on_empty_list = false;
};

/// Members may be called from any thread.
class SpanPool final : public BlockPool {
public:
    SpanPool(Strategy strategy, StreamOrder& order, BlockPool& parent);

    /// A block of a span, or, where no span can be had, one of the parent's.
    Taken take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) override;
    /// O(1) over all frees, and waits for no lock: who finds it free merges what was freed side by side.
    void give(Block& block, Dependencies dependencies) override;
    void give(std::span<Block* const> blocks, const TicketRef& ticket) noexcept override;
    /// Returns the spans without live blocks to the parent, but for one; whether there were any. Costs one load where
    /// there are none.
    bool give_back_surplus();
    /// Returns every span without live blocks to the parent.
    void flush();
    /// Waits for what is pending now, on the host, with no lock held.
    void wait_on_host();
    /// Forgets all spans; the parent is reset by the caller.
    void clear();

    FreeFigures figures() const;
    void for_each_free(const std::function<void(const Block&)>& visit) const;
    std::string check() const;

private:
    /// The mutex, with what was freed meanwhile in the heap.
    class Hold {
    public:
        explicit Hold(const SpanPool& pool) : lock_(pool.mutex_) { pool.receive(); }

    private:
        std::lock_guard<QuickMutex> lock_;
    };
    void receive() const noexcept;
    void merge(Block& block) noexcept;
    std::size_t next_span_bytes() const;
    Block& add_span(Taken memory);
    void note_empty(Span& span) const noexcept;
    void release(Span& span);
    bool release_empty(std::size_t keep);

    StreamOrder& order_;
    BlockPool& parent_;
    mutable QuickMutex mutex_;
    /// Receiving and filing what was freed changes nothing that can be seen.
    mutable BlockHeap heap_;
    std::unordered_map<Span*, std::unique_ptr<Span>> spans_;
    mutable Span* empty_list_ = nullptr;
    std::size_t span_bytes_ = 0;
    /// Written with the mutex held.
    mutable std::atomic<std::size_t> empty_spans_{0};
};

} // namespace cuda_zstd::detail
