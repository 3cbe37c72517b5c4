// SPDX-License-Identifier: MIT
// A source that says more than it has: a device whose memory others use, too.
#include "address_source.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// Maps no more than it has, and counts.
class ShortSource final : public Addresses {
public:
    explicit ShortSource(std::size_t has_bytes) : has_bytes_(has_bytes) {}
    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        ++maps;
        if (used_bytes + bytes > has_bytes_) throw out_of_memory("the source has no more");
        Addresses::map(range, offset, bytes);
        used_bytes += bytes;
    }
    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        ++unmaps;
        Addresses::unmap(range, offset, bytes);
        used_bytes -= bytes;
    }

    std::size_t used_bytes = 0;
    unsigned maps = 0, unmaps = 0;

private:
    std::size_t has_bytes_;
};

/// Growth by the factor takes what is left once; then it gives it back and goes on in steps of what is needed.
TEST(ShortSource, GrowthLeavesWhatItDoesNotNeed) {
    const auto source = std::make_shared<ShortSource>(3000 * MiB);
    PoolOptions options;
    options.backend = BackendKind::host;
    options.custom_source = source;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    std::vector<void*> blocks;
    std::size_t held_bytes = 0;
    unsigned most_maps = 0;
    // The capacity doubles up to 2 GiB; the next doubling is more than there is.
    for (; held_bytes < 2900 * MiB; held_bytes += 32 * MiB) {
        const unsigned before = source->maps;
        blocks.push_back(pool.allocate(32 * MiB));
        if (held_bytes > 2300 * MiB) most_maps = std::max(most_maps, source->maps - before);
    }
    EXPECT_LE(most_maps, 2u) << "maps of one allocation, once the source has failed";
    EXPECT_LE(source->used_bytes, held_bytes + 64 * MiB) << "the last of the memory is left to others";
    EXPECT_EQ(PoolInspector::check(pool), "");
    // What comes back makes room to grow by the factor again.
    const unsigned unmaps = source->unmaps;
    for (void* block : blocks)
        pool.deallocate(block);
    pool.trim();
    EXPECT_GT(source->unmaps, unmaps);
    EXPECT_EQ(source->used_bytes, 0u);
    void* const block = pool.allocate(32 * MiB);
    pool.deallocate(pool.allocate(32 * MiB));
    pool.deallocate(block);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
}

} // namespace
} // namespace cuda_zstd
