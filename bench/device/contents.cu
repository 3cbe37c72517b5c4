// SPDX-License-Identifier: MIT
#include "contents.hpp"
#include "measure.hpp"

namespace bench {
namespace {

enum class Pass { write, verify };

/// A warp a block of memory.
__global__ void contents_kernel(Shape shape, void* const* blocks, Pass pass, Faults* faults) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned warps = gridDim.x * (blockDim.x / 32);
    for (unsigned index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; index < shape.threads; index += warps) {
        auto* const block = static_cast<unsigned char*>(blocks[index]);
        if (block == nullptr) {
            if (lane == 0 && pass == Pass::verify) atomicAdd(&faults->missing, 1ull);
            continue;
        }
        const std::size_t bytes = shape.bytes(index);
        const std::size_t words = bytes / 4;
        auto* const as_words = reinterpret_cast<std::uint32_t*>(block);
        for (std::size_t at = lane; at < words; at += 32) {
            const std::uint32_t stamp = mix(index) + static_cast<std::uint32_t>(at);
            if (pass == Pass::write) {
                as_words[at] = stamp;
            } else if (as_words[at] != stamp) {
                atomicAdd(&faults->wrong_bytes, 1ull);
            }
        }
        if (lane < bytes % 4) {
            const auto stamp = static_cast<unsigned char>(mix(index) >> (lane * 8));
            unsigned char& byte = block[words * 4 + lane];
            if (pass == Pass::write) {
                byte = stamp;
            } else if (byte != stamp) {
                atomicAdd(&faults->wrong_bytes, 1ull);
            }
        }
    }
}

__global__ void spin_kernel(long long ns) {
    long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - begin < ns);
}

} // namespace

void warm_up() {
    spin_kernel<<<128, 128>>>(50000000);
    check(cudaGetLastError(), "spin_kernel");
    check(cudaDeviceSynchronize(), "spin_kernel");
}

Faults write_and_verify(const Shape& shape, void* const* blocks) {
    if (shape.threads == 0) return {};
    const Pinned<Faults> faults;
    const unsigned warps_a_block = 8;
    const unsigned wanted = (shape.threads + warps_a_block - 1) / warps_a_block;
    const unsigned grid = wanted < 8192 ? wanted : 8192;
    for (const Pass pass : {Pass::write, Pass::verify}) {
        contents_kernel<<<grid, warps_a_block * 32>>>(shape, blocks, pass, faults.get());
        check(cudaGetLastError(), "contents_kernel");
    }
    check(cudaDeviceSynchronize(), "verification");
    return *faults;
}

} // namespace bench
