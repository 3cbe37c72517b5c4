// SPDX-License-Identifier: MIT
// The medium pool: blocks inside spans that come from the arenas.
//
// Invariant: a span's blocks cover it; a span whose blocks are all free is either the one that is kept for the next
// request or back in the arenas, with everything that its blocks waited for.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"

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
};

/// Members may be called from any thread.
class SpanPool final : public BlockPool {
public:
    SpanPool(Strategy strategy, StreamOrder& order, BlockPool& parent);

    /// A block of a span, or, where no span can be had, one of the parent's.
    Taken take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) override;
    void give(Block& block, Dependencies dependencies) override;
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
    std::size_t next_span_bytes() const;
    void release(Span& span);

    StreamOrder& order_;
    BlockPool& parent_;
    mutable std::mutex mutex_;
    BlockHeap heap_;
    std::unordered_map<Span*, std::unique_ptr<Span>> spans_;
    std::size_t span_bytes_ = 0;
    std::size_t empty_spans_ = 0;
};

} // namespace cuda_zstd::detail
