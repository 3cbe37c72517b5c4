// SPDX-License-Identifier: MIT
// What tools/hit_cost.sh counts: pairs of a free and an allocation that a magazine serves, of 2,000 blocks in random
// order. Usage: hit_path handle|registered PAIRS
#include "cuda_zstd_memory_pool_enhanced.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

using namespace cuda_zstd;

namespace {

using Blocks = std::vector<void*>;
using Order = std::vector<std::size_t>;

template <class Stream>
[[gnu::always_inline]] inline void pairs(MemoryPoolManager& pool, Blocks& blocks, const Stream& stream,
                                         const Order& order) {
    for (const std::size_t index : order) {
        pool.deallocate(blocks[index], stream);
        blocks[index] = pool.allocate(1000, stream);
    }
}

/// callgrind finds it by its name.
template <class Stream>
[[gnu::noipa]] void counted_pairs(MemoryPoolManager& pool, Blocks& blocks, const Stream& stream, const Order& order) {
    pairs(pool, blocks, stream, order);
}

/// The first free of a block goes to the pools: not counted.
template <class Stream>
void run(MemoryPoolManager& pool, Blocks& blocks, const Stream& stream, const Order& order) {
    pairs(pool, blocks, stream, order);
    counted_pairs(pool, blocks, stream, order);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    PoolOptions options;
    options.backend = BackendKind::host;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    std::mt19937 random(1);
    Blocks blocks;
    while (blocks.size() < 2000)
        blocks.push_back(pool.allocate(1000));
    Order order;
    for (int left = std::atoi(argv[2]); left > 0; --left)
        order.push_back(random() % 2000);
    if (argv[1] == std::string("registered"))
        run(pool, blocks, RegisteredStream(pool, nullptr), order);
    else
        run(pool, blocks, cudaStream_t{}, order);
}
