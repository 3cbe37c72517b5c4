// SPDX-License-Identifier: MIT
// Scratch frames of a thread block: bump memory for any of its threads, given back as a whole at the end of its scope.
//
// Invariant: the region is one block of the pool, and the shared cursor counts what was taken of it; it only
// grows between two collective calls, so no two pieces overlap. What does not fit comes from the pool, in blocks that
// the thread which asked keeps in a list of its own and frees itself. So no thread of another block is ever met outside
// of the pool, and within the block the one shared thing is the cursor.
//
// Construction, destruction, mark, rewind and release are calls of every thread of the block, outside of divergent
// code: they contain barriers. allocate is a call of any threads, in any branch, each with its own size.
//
// Progress: allocate waits for nobody while the region lasts, and then as BasicPoolRef does. The collective calls wait
// for the threads of the block.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/block_scope.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// What a frame needs of the block's shared memory: 24 bytes. One for each frame that lives.
template <class Env>
struct BlockScratchStorage {
    char* region;
    typename Env::template atom<std::uint32_t> cursor;     ///< units taken; beyond the capacity when it ran over
    typename Env::template atom<std::uint32_t> heap_count; ///< blocks that came from the pool beside the region
};

template <BlockScope Block, class Pool = BasicPoolRef<typename Block::Env>>
class BlockScratchFrame {
    using Env = typename Block::Env;
    struct alignas(16) Header {
        Header* older;
    };

public:
    using Storage = BlockScratchStorage<Env>;
    /// What is finer than this is rounded up; pieces are aligned to it.
    static constexpr std::uint32_t unit_bytes = 16;
    /// A larger region is made this large.
    static constexpr std::uint32_t most_region_bytes = 16u << 20;

    /// Takes the region from the pool, in one allocation; where there is none, everything comes from the pool piece by
    /// piece. Cost: one lane's allocation and a barrier.
    CUDA_ZSTD_HD BlockScratchFrame(Block& block, const Pool& pool, Storage& storage, std::uint32_t region_bytes)
        : block_(block), pool_(pool), storage_(storage), capacity_units_(units_of(region_bytes)) {
        if (block_.thread() == 0) {
            storage_.region = static_cast<char*>(pool_.allocate(block_.env(), capacity_units_ * unit_bytes));
            block_.store(storage_.cursor, 0u);
            block_.store(storage_.heap_count, 0u);
        }
        block_.sync();
        region_ = storage_.region;
        if (region_ == nullptr) capacity_units_ = 0;
    }
    BlockScratchFrame(const BlockScratchFrame&) = delete;
    BlockScratchFrame& operator=(const BlockScratchFrame&) = delete;
    /// Cost: a barrier, a free for the region, one for each piece that came from the pool.
    CUDA_ZSTD_HD ~BlockScratchFrame() {
        release_own(nullptr);
        if (block_.thread() == 0) pool_.deallocate(block_.env(), region_);
    }

    /// `bytes` for the calling thread, 16 B aligned; null for 0 bytes, and when neither the region nor the pool has
    /// them. Another thread may use the piece after the usual synchronization; its bytes hold anything. Cost: a load
    /// and an atomic on shared memory; an allocation of the pool for what does not fit any more. Threads that race for
    /// the end of the region may leave a rest of it unused until the next rewind.
    CUDA_ZSTD_HD void* allocate(std::size_t bytes) {
        if (bytes == 0) return nullptr;
        if (bytes <= std::size_t{capacity_units_} * unit_bytes) {
            const auto units = static_cast<std::uint32_t>((bytes + unit_bytes - 1) / unit_bytes);
            // Looked at first: what cannot fit leaves the rest to smaller requests, and the sum of all additions that
            // race past the end, one a thread, stays below 2^31 units.
            if (block_.load(storage_.cursor) + units <= capacity_units_) {
                const std::uint32_t at = block_.fetch_add(storage_.cursor, units);
                if (at + units <= capacity_units_) return region_ + std::size_t{at} * unit_bytes;
            }
        }
        return allocate_from_pool(bytes);
    }

    /// Where the frame stands. Only the thread that got it may use it.
    class Mark {
        friend class BlockScratchFrame;
        Header* newest = nullptr;
        std::uint32_t cursor = 0;
    };
    /// Collective: two barriers. What any thread allocated before it outlives a rewind to it.
    CUDA_ZSTD_HD Mark mark() {
        Mark here;
        block_.sync();
        here.newest = newest_;
        here.cursor = block_.load(storage_.cursor);
        block_.sync(); // nobody allocates before all have looked
        return here;
    }
    /// Collective: gives back what was allocated since the mark, which no earlier rewind may have passed. Cost: two
    /// barriers, and a free for each piece that came from the pool.
    CUDA_ZSTD_HD void rewind(const Mark& to) {
        release_own(to.newest);
        if (block_.thread() == 0) block_.store(storage_.cursor, to.cursor);
        block_.sync();
    }
    /// Collective: gives back all but the region, which is empty then.
    CUDA_ZSTD_HD void release() { rewind(Mark{}); }

    /// Bytes of the region, 0 when the pool had none.
    CUDA_ZSTD_HD std::size_t region_bytes() const { return std::size_t{capacity_units_} * unit_bytes; }
    /// Pieces that did not come from the region, since construction; for choosing its size. Cost: a load of shared
    /// memory.
    CUDA_ZSTD_HD std::uint32_t pieces_from_pool() const { return block_.load(storage_.heap_count); }

private:
    static CUDA_ZSTD_HD std::uint32_t units_of(std::uint32_t region_bytes) {
        if (region_bytes > most_region_bytes) return most_region_bytes / unit_bytes;
        return region_bytes < unit_bytes ? 1 : region_bytes / unit_bytes;
    }
    CUDA_ZSTD_HD void* allocate_from_pool(std::size_t bytes) {
        if (bytes + sizeof(Header) < bytes) return nullptr;
        auto* const piece = static_cast<Header*>(pool_.allocate(block_.env(), bytes + sizeof(Header)));
        if (piece == nullptr) return nullptr;
        piece->older = newest_;
        newest_ = piece;
        block_.fetch_add(storage_.heap_count, 1u);
        return piece + 1;
    }
    /// Frees this thread's pieces down to `oldest_kept`, when all threads have come here.
    CUDA_ZSTD_HD void release_own(Header* oldest_kept) {
        block_.sync();
        while (newest_ != oldest_kept) {
            Header* const older = newest_->older;
            pool_.deallocate(block_.env(), newest_);
            newest_ = older;
        }
    }

    Block& block_;
    const Pool& pool_;
    Storage& storage_;
    std::uint32_t capacity_units_;
    char* region_ = nullptr;
    Header* newest_ = nullptr; ///< of this thread
};

} // namespace cuda_zstd
