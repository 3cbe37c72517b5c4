// SPDX-License-Identifier: MIT
// What the process's heap holds more for each live block.
#include "cases.hpp"

#include <malloc.h>

#include <vector>

namespace bench {
namespace {

/// All that was got from malloc and not given back, in pieces of its arenas or mapped by themselves.
double heap_bytes() {
    const struct mallinfo2 info = mallinfo2();
    return static_cast<double>(info.uordblks + info.hblkhd);
}

} // namespace

std::vector<Figure> metadata(const Bench& bench, unsigned blocks, std::size_t bytes) {
    const auto subject = bench.make({blocks * bytes, Memory::addresses});
    const cudaStream_t stream = bench.backend.create_stream();
    double block_bytes = 0;
    {
        const std::unique_ptr<Lane> lane = subject->lane(stream);
        // What a thread and a stream need once is not a block's.
        for (int i = 0; i < 2; ++i)
            subject->deallocate(subject->allocate(bytes, *lane), bytes, *lane);
        std::vector<void*> held(blocks);
        const double before = heap_bytes();
        for (void*& block : held)
            block = subject->allocate(bytes, *lane);
        block_bytes = (heap_bytes() - before) / blocks;
        for (void* block : held)
            subject->deallocate(block, bytes, *lane);
        bench.backend.synchronize(stream);
    }
    bench.backend.destroy_stream(stream);
    return {{"metadata", "B", block_bytes}, {"allowed", "B", 32 + static_cast<double>(bytes) / 100}};
}

} // namespace bench
