// SPDX-License-Identifier: MIT
// The soak of the host pool with kernels.
#include "kernels/cuda_check.hpp"
#include "tests/soak/pool_soak.hpp"

namespace {

using namespace cuda_zstd;

constexpr unsigned width = 128;
constexpr std::size_t most_blocks = 64;

/// Now and then a stream falls behind the others: who does not wait for it is seen.
__global__ void write_kernel(std::uint32_t* words, std::size_t count, std::uint32_t tag) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    if (tag % 16 == 0) __nanosleep(200000);
    for (unsigned pass = 0; pass < 2; ++pass)
        for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
            reinterpret_cast<volatile std::uint32_t*>(words)[i] = pool_soak::word_at(tag, i);
}

__global__ void check_kernel(const std::uint32_t* words, std::size_t count, std::uint32_t tag,
                             std::uint32_t* mismatches) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    std::uint32_t wrong = 0;
    for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
        wrong += reinterpret_cast<const volatile std::uint32_t*>(words)[i] != pool_soak::word_at(tag, i);
    if (wrong != 0) atomicAdd_system(mismatches, wrong);
}

unsigned blocks_for(std::size_t count) {
    const std::size_t blocks = (count + width - 1) / width;
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks > most_blocks ? most_blocks : blocks);
}

struct Launch {
    static bool available() { return Backend::cuda_available(); }
    static Backend& backend() { return Backend::get(BackendKind::cuda); }
    static void write(cudaStream_t stream, std::uint32_t* words, std::size_t count, std::uint32_t tag) {
        write_kernel<<<blocks_for(count), width, 0, stream>>>(words, count, tag);
        check_launch("write_kernel");
    }
    static void check(cudaStream_t stream, const std::uint32_t* words, std::size_t count, std::uint32_t tag,
                      std::uint32_t* mismatches) {
        check_kernel<<<blocks_for(count), width, 0, stream>>>(words, count, tag, mismatches);
        check_launch("check_kernel");
    }
};

} // namespace

int main(int argc, char** argv) {
    pool_soak::Settings settings;
    settings.seconds = 6;
    settings.max_bytes = std::size_t{256} << 20;
    settings.largest_bytes = std::size_t{16} << 20;
    return pool_soak::soak_main<Launch>(argc, argv, settings);
}
