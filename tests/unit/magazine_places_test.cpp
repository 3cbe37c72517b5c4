// SPDX-License-Identifier: MIT
// Which sizes have a place in a thread's magazine: those that come again keep theirs, whatever comes once.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t KiB = std::size_t{1} << 10;
constexpr unsigned places = detail::Magazine::most_sizes;

class MagazinePlaces : public testing::Test {
protected:
    MagazinePlaces() { fill(); }
    ~MagazinePlaces() override {
        EXPECT_EQ(PoolInspector::check(pool_), "");
        stream_.reset();
        backend_.destroy_stream(handle_);
    }
    static PoolOptions options() {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.max_bytes = std::size_t{2} << 30;
        made.diagnostics = nullptr;
        return made;
    }
    static std::size_t size_of(unsigned place) { return 100 * KiB + place * 4 * KiB; }
    void pair(std::size_t bytes) { pool_.deallocate(pool_.allocate(bytes, *stream_), *stream_); }
    /// Each place has a size and a block of it.
    void fill() {
        for (unsigned place = 0; place < places; ++place)
            for (int i = 0; i < 3; ++i)
                pair(size_of(place));
    }
    /// A size that never came before and never comes again.
    void once() { pair(300 * KiB + once_++ * 256); }
    bool is_at_hand(std::size_t bytes) {
        const std::size_t before = PoolInspector::cached_bytes(pool_);
        void* block = pool_.allocate(bytes, *stream_);
        const bool is_taken = PoolInspector::cached_bytes(pool_) + bytes == before;
        pool_.deallocate(block, *stream_);
        return is_taken;
    }
    unsigned at_hand() {
        unsigned count = 0;
        for (unsigned place = 0; place < places; ++place)
            count += is_at_hand(size_of(place));
        return count;
    }

    Backend& backend_ = Backend::get(BackendKind::host);
    MemoryPoolManager pool_{options()};
    cudaStream_t handle_ = backend_.create_stream();
    std::unique_ptr<RegisteredStream> stream_ = std::make_unique<RegisteredStream>(pool_, handle_);
    std::size_t once_ = 0;
};

TEST_F(MagazinePlaces, SizesThatComeOnceTakeNoPlace) {
    ASSERT_EQ(at_hand(), places);
    for (unsigned i = 0; i < 100 * places; ++i)
        once();
    EXPECT_EQ(at_hand(), places);
}

/// The one block of a size is out: its place is still its own.
TEST_F(MagazinePlaces, ASizeKeepsItsPlaceWhileItsBlocksAreOut) {
    for (unsigned round = 0; round < 20; ++round) {
        std::vector<void*> blocks;
        for (unsigned place = 0; place < places; ++place) {
            blocks.push_back(pool_.allocate(size_of(place), *stream_));
            once();
        }
        for (void* block : blocks)
            pool_.deallocate(block, *stream_);
        ASSERT_EQ(at_hand(), places) << "round " << round;
    }
}

/// What comes again gets a place, and those that were not used for the longest time lose theirs.
TEST_F(MagazinePlaces, ASizeThatComesAgainGetsThePlaceOfOneThatDoesNot) {
    for (int round = 0; round < 3; ++round)
        for (unsigned place = 1; place < places; ++place)
            pair(size_of(place));
    for (int i = 0; i < 3; ++i) {
        pair(700 * KiB);
        for (unsigned place = 1; place < places; ++place)
            pair(size_of(place));
    }
    EXPECT_TRUE(is_at_hand(700 * KiB));
    unsigned kept = 0;
    for (unsigned place = 1; place < places; ++place)
        kept += is_at_hand(size_of(place));
    EXPECT_GE(kept, places - 2);
}

} // namespace
} // namespace cuda_zstd
