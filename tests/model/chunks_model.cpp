// SPDX-License-Identifier: MIT
// A chunk is taken away and comes back beside allocations, under the model checker: whoever unmaps it is behind its
// last users, and the next users are behind the mapping.
#include "cuda_zstd/heap/chunks.hpp"

#include <cstdio>

#include "heap_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

constexpr std::uint32_t chunk_pages = 32;

/// One thread unmaps and maps the chunk, the others have blocks in it: a write to all of its bytes stands for both.
template <rl::thread_id_t Threads, class Mutation>
struct ChunkComesAndGoes : rl::test_suite<ChunkComesAndGoes<Threads, Mutation>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, chunk_pages> model;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0, 0);
        if (index == 0) {
            const HeapChunks<Env> chunks(model.heap(), chunk_pages);
            for (int round = 0; round < 4; ++round) { // so that one comes when the others are through
                if (!chunks.take_away(env, 0)) continue;
                for (std::uint32_t page = 0; page < 2; ++page) // the others reach no further
                    model.touch(model.heap().pages_base() + page * std::size_t{page_bytes}, 3);
                chunks.open(env, 0);
            }
            return;
        }
        Status status = Status::ok;
        void* const run = model.take(env, 1, page_bytes, status);
        if (run != nullptr) model.give(env, 1, run);
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// Taking a chunk does not acquire what its last users did.
struct TakesWithoutAcquire : AsWritten {
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        return access == Access::compare_exchange && asked == Order::acq_rel ? Order::release : asked;
    }
};
/// Opening a chunk does not release the mapping.
struct OpensWithoutRelease : AsWritten {
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        return access == Access::fetch_or && asked == Order::release ? Order::relaxed : asked;
    }
};

TEST(ChunksModel, TwoThreadsAtRandom) { expect_right<ChunkComesAndGoes<2, AsWritten>>(random_search(20'000)); }
TEST(ChunksModel, ThreeThreadsAtRandom) { expect_right<ChunkComesAndGoes<3, AsWritten>>(random_search(20'000)); }
TEST(ChunksModel, ReportsATakingThatDoesNotAcquire) {
    expect_reported<ChunkComesAndGoes<2, TakesWithoutAcquire>>(random_search(200'000));
}
TEST(ChunksModel, ReportsAnOpeningThatDoesNotRelease) {
    expect_reported<ChunkComesAndGoes<2, OpensWithoutRelease>>(random_search(200'000));
}

} // namespace
