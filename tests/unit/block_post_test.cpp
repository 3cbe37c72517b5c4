// SPDX-License-Identifier: MIT
// Blocks that several threads free with no lock, while another one allocates: each comes back once. For
// ThreadSanitizer, and a fraction of a second.
#include "cuda_zstd/host/block_heap.hpp"
#include "cuda_zstd/host/quick_mutex.hpp"
#include "manual_backend.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned threads = 4;
constexpr unsigned blocks_of_a_thread = 5000;
constexpr std::size_t granules = 256;

/// What a pool is to a heap: its mutex, and the receipt of what was posted.
class Pool {
public:
    Pool() {
        Block& all =
            heap_.make(region_, reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40), granules * granule_bytes);
        region_.first = &all;
        heap_.give(all, {});
    }
    Block* take(std::size_t bytes) {
        const std::lock_guard lock(mutex_);
        receive();
        return heap_.take_ready(bytes, granule_bytes, 1).block;
    }
    void give(std::span<Block* const> blocks) {
        if (!heap_.post(blocks) || !mutex_.try_lock()) return;
        const std::lock_guard lock(mutex_, std::adopt_lock);
        receive();
        heap_.merge_pending(*blocks[0]);
    }
    std::size_t received() {
        const std::lock_guard lock(mutex_);
        receive();
        return received_;
    }
    std::string check() {
        const std::lock_guard lock(mutex_);
        heap_.file_pending();
        return heap_.check({&region_});
    }
    std::size_t free_bytes() const { return heap_.free_bytes(); }
    std::size_t free_blocks() const { return heap_.free_blocks(); }

private:
    void receive() {
        heap_.receive([this](const Block&) { ++received_; });
    }

    ManualBackend backend_{1};
    StreamOrder order_{backend_};
    QuickMutex mutex_;
    Region region_;
    BlockHeap heap_{Strategy::best_fit, order_};
    std::size_t received_ = 0;
};

TEST(BlockPost, BlocksOfManyThreadsComeBackOnce) {
    Pool pool;
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads; ++t)
        workers.emplace_back([&pool, t] {
            std::array<Block*, 7> held;
            std::size_t count = 0;
            for (unsigned i = 0; i < blocks_of_a_thread;) {
                if (Block* block = pool.take((1 + (i + t) % 5) * granule_bytes)) {
                    held[count++] = block;
                    ++i;
                } else if (count == 0) {
                    std::this_thread::yield();
                }
                if (count == 1 + (i + t) % held.size() || (count != 0 && i == blocks_of_a_thread)) {
                    pool.give({held.data(), count});
                    count = 0;
                }
                if (count == held.size()) {
                    pool.give(held);
                    count = 0;
                }
            }
            if (count != 0) pool.give({held.data(), count});
        });
    for (std::thread& worker : workers)
        worker.join();
    EXPECT_EQ(pool.received(), threads * blocks_of_a_thread);
    EXPECT_EQ(pool.check(), "");
    EXPECT_EQ(pool.free_bytes(), granules * granule_bytes);
    EXPECT_EQ(pool.free_blocks(), 1u);
}

} // namespace
} // namespace cuda_zstd::detail
