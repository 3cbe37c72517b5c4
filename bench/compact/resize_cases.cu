// SPDX-License-Identifier: MIT
// Growth, trim and relocation of device pools, held against the driver's own calls and against what could come back.
#include "cases.hpp"
#include "measure.hpp"

#include "cuda_zstd/device/handle_table.hpp"
#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <chrono>
#include <cstdint>
#include <memory>

namespace bench {
namespace {

using cuda_zstd::AddressRange;
using cuda_zstd::BasicHandleRef;
using cuda_zstd::cuda_env;
using cuda_zstd::DevicePool;
using cuda_zstd::DevicePoolSize;
using cuda_zstd::HandleTable;
using cuda_zstd::MemoryPoolManager;
using cuda_zstd::pool_handle;
using Clock = std::chrono::steady_clock;

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t chunk_bytes = 32 * MiB;

template <class Work>
double time_us(const Work& work) {
    const auto begin = Clock::now();
    work();
    return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

/// The driver's own calls for chunks of the same size, one after the other.
class DriverChunks {
public:
    explicit DriverChunks(std::size_t bytes)
        : source_(cuda_zstd::make_cuda_virtual_source()), range_(source_->reserve(bytes)) {}
    ~DriverChunks() {
        unmap();
        source_->release(range_);
    }
    void map() {
        for (; mapped_bytes_ < range_.bytes; mapped_bytes_ += chunk_bytes)
            source_->map(range_, mapped_bytes_, chunk_bytes);
    }
    void unmap() {
        for (; mapped_bytes_ != 0; mapped_bytes_ -= chunk_bytes)
            source_->unmap(range_, mapped_bytes_ - chunk_bytes, chunk_bytes);
    }

private:
    std::unique_ptr<cuda_zstd::ArenaSource> source_;
    AddressRange range_;
    std::size_t mapped_bytes_ = 0;
};

/// Growth by 256 MiB in chunks of 32 MiB, until the new pages can be used: again and again, and the first one, which
/// maps metadata too.
bool run_grow(const Rows& rows) {
    constexpr std::size_t step_bytes = 256 * MiB;
    constexpr unsigned rounds = 9;
    MemoryPoolManager manager{cuda_zstd::PoolOptions{}};
    DevicePool pool(manager, DevicePoolSize{step_bytes, 8192 * MiB, chunk_bytes});
    check(cudaDeviceSynchronize(), "a new pool");
    DriverChunks driver(step_bytes);
    std::vector<double> ours, theirs;
    double first_us = 0;
    for (unsigned round = 0; round <= rounds; ++round) {
        const double our_us = time_us([&] {
            pool.grow(step_bytes, nullptr);
            check(cudaDeviceSynchronize(), "growth");
        });
        if (round == 0)
            first_us = our_us;
        else
            ours.push_back(our_us);
        if (pool.trim(nullptr, pool.mapped_bytes() - step_bytes).returned_bytes != step_bytes) return false;
        const double their_us = time_us([&] {
            driver.map();
            check(cudaDeviceSynchronize(), "the driver's calls");
        });
        driver.unmap();
        if (round != 0) theirs.push_back(their_us);
    }
    rows("time", "us", median(ours));
    rows("driver", "us", median(theirs));
    rows("ratio", "ratio", median(ours) / median(theirs));
    rows("ratio of the first", "ratio", first_us / median(theirs));
    return true;
}

/// Trim of a pool of 8 GiB that is all free.
bool run_trim(const Rows& rows) {
    constexpr std::size_t pool_bytes = 8192 * MiB;
    constexpr unsigned rounds = 3;
    std::vector<double> ours, theirs;
    double returned = 0;
    {
        MemoryPoolManager manager{cuda_zstd::PoolOptions{}};
        DevicePool pool(manager, DevicePoolSize{chunk_bytes, pool_bytes + 256 * MiB, chunk_bytes});
        for (unsigned round = 0; round < rounds; ++round) {
            pool.grow(pool_bytes - pool.statistics(nullptr).heap_bytes, nullptr);
            check(cudaDeviceSynchronize(), "growth");
            cuda_zstd::TrimReport report;
            ours.push_back(time_us([&] { report = pool.trim(nullptr); }));
            returned = static_cast<double>(report.returned_bytes) / static_cast<double>(pool_bytes);
        }
    }
    DriverChunks driver(pool_bytes);
    for (unsigned round = 0; round < rounds; ++round) {
        driver.map();
        theirs.push_back(time_us([&] { driver.unmap(); }));
    }
    rows("time", "us", median(ours));
    rows("driver", "us", median(theirs));
    rows("ratio", "ratio", median(ours) / median(theirs));
    rows("returned", "share", returned);
    return true;
}

constexpr std::uint32_t handle_bytes = 1024;

__global__ void take_handles_kernel(BasicHandleRef<cuda_env> table, pool_handle<std::uint64_t>* handles, unsigned count,
                                    unsigned* served) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    cuda_env env;
    handles[thread] = table.allocate<std::uint64_t>(env, handle_bytes);
    std::uint64_t* const words = table.resolve(env, handles[thread]);
    if (words == nullptr) return;
    for (unsigned word = 0; word < handle_bytes / 8; ++word)
        words[word] = std::uint64_t{thread} << 32 | word;
    atomicAdd(served, 1u);
}
/// Frees 99 of 100; of the others, counts the words that are wrong.
__global__ void thin_handles_kernel(BasicHandleRef<cuda_env> table, pool_handle<std::uint64_t>* handles, unsigned count,
                                    unsigned* wrong) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count || !handles[thread]) return;
    cuda_env env;
    const std::uint64_t* const words = table.resolve(env, handles[thread]);
    unsigned errors = words == nullptr;
    for (unsigned word = 0; words != nullptr && word < handle_bytes / 8; ++word)
        errors += words[word] != (std::uint64_t{thread} << 32 | word);
    if (errors != 0) atomicAdd(wrong, errors);
    if ((thread * 2654435761u >> 7) % 100 == 0) return;
    table.deallocate(env, handles[thread]);
    handles[thread] = {};
}

/// A heap of 2 GiB of which one block in a hundred survives, at random: relocated, and trimmed.
bool run_relocate(const Rows& rows) {
    constexpr unsigned count = 1900u << 10;
    MemoryPoolManager manager{cuda_zstd::PoolOptions{}};
    DevicePool pool(manager, DevicePoolSize{2048 * MiB, 2304 * MiB, chunk_bytes});
    HandleTable table(pool, count * 2);
    DeviceArray<pool_handle<std::uint64_t>> handles(count);
    const Pinned<unsigned> served, wrong;
    const auto ref = table.ref<cuda_env>();
    take_handles_kernel<<<count / 256, 256>>>(ref, handles.get(), count, served.get());
    check(cudaGetLastError(), "take_handles_kernel");
    thin_handles_kernel<<<count / 256, 256>>>(ref, handles.get(), count, wrong.get());
    check(cudaGetLastError(), "thin_handles_kernel");
    check(cudaDeviceSynchronize(), "a heap with survivors");
    const std::size_t before_bytes = pool.statistics(nullptr).heap_bytes;
    const std::size_t returned_without = pool.trim(nullptr).returned_bytes;
    cuda_zstd::RelocationReport moved;
    const double us = time_us([&] { moved = table.relocate(nullptr); });
    const std::size_t returned = returned_without + pool.trim(nullptr).returned_bytes;
    thin_handles_kernel<<<count / 256, 256>>>(ref, handles.get(), count, wrong.get());
    check(cudaGetLastError(), "thin_handles_kernel");
    check(cudaDeviceSynchronize(), "verification");
    if (*served != count || *wrong != 0 || moved.moved_blocks == 0) {
        std::fprintf(stderr, "compact_bench: %u of %u blocks, %u wrong words, %llu moved\n", *served, count, *wrong,
                     static_cast<unsigned long long>(moved.moved_blocks));
        return false;
    }
    rows("returned", "share", static_cast<double>(returned) / static_cast<double>(before_bytes));
    rows("returned without", "share", static_cast<double>(returned_without) / static_cast<double>(before_bytes));
    rows("time", "us", us);
    rows("moved", "blocks", static_cast<double>(moved.moved_blocks));
    return true;
}

} // namespace

std::vector<CompactCase> resize_cases() {
    return {{"grow/over-driver", run_grow}, {"trim/over-driver", run_trim}, {"relocate/returned", run_relocate}};
}

} // namespace bench
