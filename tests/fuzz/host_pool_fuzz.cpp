// SPDX-License-Identifier: MIT
// The calls of the host manager as a fuzzer's bytes: three streams of the host backend, a small limit, each strategy.
//
// Invariant: any bytes are an input. The first chooses the pool; then each call takes up to four bytes. After every
// call the live blocks are apart and hold what was written to them; after the last the pool is sound, and empty once
// all is freed.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {

using namespace cuda_zstd;

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "host_pool_fuzz: %s\n", what.c_str());
    std::abort();
}

class Calls {
public:
    Calls(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size), pool_(options(next())) {
        // The first one is stream 0.
        for (std::size_t i = 1; i < streams_.size(); ++i)
            streams_[i] = pool_.backend().create_stream();
    }
    ~Calls() {
        for (const cudaStream_t stream : streams_)
            if (stream != nullptr) pool_.backend().destroy_stream(stream);
    }

    void run() {
        while (at_ != end_)
            call();
        require_sound();
        while (!live_.empty())
            free(live_.begin(), streams_[0]);
        pool_.trim();
        require_sound();
        if (pool_.get_allocated_size() != 0) fail("bytes are allocated that nobody has");
        if (pool_.get_pool_size() != 0) fail("trim leaves memory mapped that nobody needs");
    }

private:
    struct Live {
        std::size_t bytes = 0;
        std::uint8_t value = 0;
    };
    using LiveBlocks = std::map<std::uint8_t*, Live>;

    std::uint8_t next() { return at_ == end_ ? std::uint8_t{0} : *at_++; }

    static PoolOptions options(std::uint8_t shape) {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.diagnostics = nullptr;
        made.strategy = static_cast<Strategy>(shape % 3);
        made.growth = static_cast<Growth>(shape / 4 % 3);
        made.growth_step_bytes = 4 * MiB;
        made.stream_policy = static_cast<StreamPolicy>(shape / 16 % 2);
        made.max_bytes = (4 + 4 * (shape / 32 % 4)) * MiB;
        return made;
    }

    void call() {
        const std::uint8_t what = next();
        const cudaStream_t stream = streams_[what / 64 % streams_.size()];
        switch (what % 16) {
        default:
            allocate(stream, what % 16);
            break;
        case 9:
        case 10:
        case 11:
        case 12:
            if (!live_.empty()) free(chosen(), stream);
            break;
        case 13:
            refused(stream);
            break;
        case 14:
            pool_.trim(next() * 64 * KiB);
            break;
        case 15:
            rare(next());
            break;
        }
    }

    void allocate(cudaStream_t stream, unsigned kind) {
        const std::size_t unit = kind < 3 ? 64 : kind < 6 ? 4 * KiB : 48 * KiB;
        const std::size_t bytes = 1 + next() * unit;
        const std::size_t alignment = kind % 3 == 2 ? std::size_t{256} << (next() % 14) : 256;
        std::uint8_t* block = nullptr;
        try {
            block = static_cast<std::uint8_t*>(pool_.allocate(bytes, alignment, stream));
        } catch (const out_of_memory&) {
            return;
        }
        if (reinterpret_cast<std::uintptr_t>(block) % alignment != 0) fail("a block is not aligned");
        const auto above = live_.lower_bound(block);
        if (above != live_.end() && block + bytes > above->first) fail("a block reaches into the next one");
        if (above != live_.begin() && std::prev(above)->first + std::prev(above)->second.bytes > block)
            fail("a block begins in the one before it");
        // The caller writes, so no earlier work may be left in the block.
        pool_.backend().synchronize(stream);
        const std::uint8_t value = ++value_;
        block[0] = block[bytes - 1] = value;
        live_[block] = {bytes, value};
    }

    LiveBlocks::iterator chosen() {
        auto block = live_.begin();
        std::advance(block, next() % live_.size());
        return block;
    }

    void free(LiveBlocks::iterator block, cudaStream_t stream) {
        const auto [ptr, live] = *block;
        if (ptr[0] != live.value || ptr[live.bytes - 1] != live.value) fail("a block was written to by another");
        live_.erase(block);
        pool_.deallocate(ptr, stream);
        last_freed_ = ptr;
    }

    /// A second free, and one of an address inside a block: both are refused and change nothing.
    void refused(cudaStream_t stream) {
        std::uint8_t* wrong = last_freed_;
        if (next() % 2 == 0 && !live_.empty()) {
            const auto block = chosen();
            wrong = block->first + block->second.bytes / 2;
        }
        if (wrong == nullptr || live_.contains(wrong)) return;
        const std::size_t allocated_bytes = pool_.get_allocated_size();
        try {
            pool_.deallocate(wrong, stream);
        } catch (const usage_error&) {
            if (pool_.get_allocated_size() != allocated_bytes) fail("a refused free changes the pool");
            return;
        }
        fail("a wrong free is not refused");
    }

    void rare(std::uint8_t which) {
        if (which < 16) {
            pool_.reset();
            live_.clear();
            last_freed_ = nullptr;
        } else if (which < 64) {
            try {
                pool_.reserve(which * 64 * KiB);
            } catch (const out_of_memory&) {
                return;
            }
        } else {
            require_sound();
        }
    }

    void require_sound() {
        if (const std::string found = PoolInspector::check(pool_); !found.empty()) fail(found);
        if (pool_.statistics().live_blocks != live_.size()) fail("the count of live blocks is wrong");
    }

    const std::uint8_t* at_;
    const std::uint8_t* end_;
    MemoryPoolManager pool_;
    std::array<cudaStream_t, 3> streams_{};
    LiveBlocks live_;
    std::uint8_t* last_freed_ = nullptr;
    std::uint8_t value_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Calls(data, size).run();
    return 0;
}
