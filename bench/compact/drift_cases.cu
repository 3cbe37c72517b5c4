// SPDX-License-Identifier: MIT
// A long run under changing sizes: how much stays mapped for how much lives.
//
// Ten phases of sizes (16 to 256 B, 1 to 16 KiB, 64 KiB to 2 MiB, and again) of 100 steps. In each step a tenth of the
// live blocks dies at random, so that lifetimes are exponential with a mean of a tenth of a phase, and as many bytes of
// the phase's sizes are allocated: live bytes stay at half the maximum. The pool grows and shrinks between the steps;
// nothing is relocated.
#include "cases.hpp"
#include "many_slabs.cuh"

#include <algorithm>
#include <cmath>

namespace bench {
namespace {

using cuda_zstd::DevicePool;
using cuda_zstd::DevicePoolRef;
using cuda_zstd::DevicePoolSize;

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t most_bytes = 4096 * MiB;
constexpr std::size_t live_goal_bytes = most_bytes / 2;
constexpr unsigned entries = 40u << 20;
constexpr unsigned phases = 10, steps = 100;

struct Live {
    unsigned long long bytes;
    unsigned long long operations;
    unsigned failures;
};

/// A tenth of the blocks dies.
__global__ void die_kernel(DevicePoolRef pool, void** blocks, std::uint32_t* sizes, unsigned step, Live* live) {
    const unsigned entry = blockIdx.x * blockDim.x + threadIdx.x;
    if (entry >= entries || blocks[entry] == nullptr) return;
    if (scatter(entry ^ scatter(step)) % 10 != 0) return;
    pool.deallocate(blocks[entry]);
    atomicAdd(&live->bytes, 0ull - sizes[entry]);
    atomicAdd(&live->operations, 1ull);
    blocks[entry] = nullptr;
}

/// Free entries from `first` on are filled until enough lives.
__global__ void be_born_kernel(DevicePoolRef pool, void** blocks, std::uint32_t* sizes, unsigned step, unsigned first,
                               unsigned count, float least_log2, float span_log2, Live* live) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    const unsigned entry = (first + thread) % entries;
    if (blocks[entry] != nullptr) return;
    const float draw = static_cast<float>(scatter(entry * 31u + step) >> 8) * (1.0f / 16777216.0f);
    const auto bytes = static_cast<std::uint32_t>(exp2f(least_log2 + span_log2 * draw));
    const unsigned long long before = atomicAdd(&live->bytes, static_cast<unsigned long long>(bytes));
    void* const block = before + bytes <= live_goal_bytes ? pool.allocate(bytes) : nullptr;
    if (block == nullptr) {
        atomicAdd(&live->bytes, 0ull - bytes);
        if (before + bytes <= live_goal_bytes) atomicAdd(&live->failures, 1u);
        return;
    }
    blocks[entry] = block;
    sizes[entry] = bytes;
    atomicAdd(&live->operations, 1ull);
}

bool run_drift(const Rows& rows) {
    struct Sizes {
        float least_log2, span_log2;
    };
    constexpr Sizes kinds[] = {{4, 4}, {10, 4}, {16, 5}};
    cuda_zstd::PoolOptions options;
    options.growth = cuda_zstd::Growth::fixed_step;
    options.growth_step_bytes = 64 * MiB;
    cuda_zstd::MemoryPoolManager manager(options);
    DevicePool pool(manager, DevicePoolSize{64 * MiB, most_bytes, 32 * MiB});
    const auto ref = pool.ref<cuda_zstd::cuda_env>();
    DeviceArray<void*> blocks(entries);
    DeviceArray<std::uint32_t> sizes(entries);
    check(cudaMemset(blocks.get(), 0, entries * sizeof(void*)), "cudaMemset");
    const Pinned<Live> seen;
    DeviceArray<Live> live(1);
    check(cudaMemset(live.get(), 0, sizeof(Live)), "cudaMemset");
    std::vector<double> peaks(phases, 0.0), whole_peaks(phases, 0.0), means(phases, 0.0);
    unsigned step = 0, first = 0, failures = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (unsigned phase = 0; phase < phases; ++phase) {
        const Sizes& of = kinds[phase % 3];
        const double mean_bytes = std::exp2(of.least_log2) * (std::exp2(of.span_log2) - 1) / (of.span_log2 * 0.6931472);
        for (unsigned turn = 0; turn < steps; ++turn, ++step) {
            die_kernel<<<entries / 256, 256>>>(ref, blocks.get(), sizes.get(), step, live.get());
            check(cudaGetLastError(), "die_kernel");
            // More than once, since the pool may have to grow first.
            for (unsigned attempt = 0; attempt < 40; ++attempt) {
                check(cudaMemcpy(seen.get(), live.get(), sizeof(Live), cudaMemcpyDefault), "cudaMemcpy");
                const double short_bytes = static_cast<double>(live_goal_bytes) - static_cast<double>((*seen).bytes);
                const bool failed = (*seen).failures != failures;
                if (failed) {
                    failures = (*seen).failures;
                    pool.compact(nullptr);
                    const auto wanted = static_cast<std::size_t>(std::max(short_bytes / 4, 0.0));
                    if (pool.grow(std::max(64 * MiB, wanted), nullptr).grown_bytes == 0) break;
                }
                if (!failed && attempt != 0 && short_bytes < static_cast<double>(live_goal_bytes) / 256) break;
                // Twice as many as are missing: some entries are taken.
                const unsigned count =
                    static_cast<unsigned>(std::min(2 * short_bytes / mean_bytes + 64, double{entries}));
                be_born_kernel<<<(count + 255) / 256, 256>>>(ref, blocks.get(), sizes.get(), step * 64 + attempt, first,
                                                             count, of.least_log2, of.span_log2, live.get());
                check(cudaGetLastError(), "be_born_kernel");
                first = (first + count) % entries;
            }
            if (turn % 5 == 4) pool.trim(nullptr, live_goal_bytes + live_goal_bytes / 32);
            if (turn < steps * 4 / 5) continue;
            check(cudaMemcpy(seen.get(), live.get(), sizeof(Live), cudaMemcpyDefault), "cudaMemcpy");
            const auto mapped_over = [&](unsigned long long bytes) {
                return static_cast<double>(pool.mapped_bytes()) /
                       (std::ceil(static_cast<double>(bytes) / static_cast<double>(32 * MiB)) * (32 * MiB));
            };
            const double ratio = mapped_over((*seen).bytes);
            whole_peaks[phase] = std::max(whole_peaks[phase], mapped_over(pool.statistics(nullptr).live_bytes));
            peaks[phase] = std::max(peaks[phase], ratio);
            means[phase] += ratio / (steps / 5);
        }
        std::fprintf(
            stderr,
            "drift: phase %u, %.3f mapped for each live byte (%.3f of whole blocks), %llu operations, %u failures\n",
            phase, peaks[phase], whole_peaks[phase], (*seen).operations, (*seen).failures);
        if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(40)) {
            std::fprintf(stderr, "drift: 40 s are over\n");
            return false;
        }
    }
    rows("peak", "ratio", *std::max_element(peaks.begin(), peaks.end()));
    // By kind, since what the blocks of the kind before have left behind bounds it from below: docs/compaction.md.
    const char* const names[] = {"16 B to 256 B", "1 KiB to 16 KiB", "64 KiB to 2 MiB"};
    for (unsigned kind = 0; kind < 3; ++kind) {
        double peak = 0, whole_peak = 0;
        for (unsigned phase = kind; phase < phases; phase += 3) {
            peak = std::max(peak, peaks[phase]);
            whole_peak = std::max(whole_peak, whole_peaks[phase]);
        }
        rows(std::string("peak with ") + names[kind], "ratio", peak);
        rows(std::string("peak over whole blocks with ") + names[kind], "ratio", whole_peak);
    }
    // Phases 0, 3, 6, 9 have the same sizes.
    rows("trend", "ratio", means[9] / means[3]);
    rows("operations", "operations", static_cast<double>((*seen).operations));
    return true;
}

} // namespace

std::vector<CompactCase> drift_cases() { return {{"drift/peak-over-live", run_drift}}; }

} // namespace bench
