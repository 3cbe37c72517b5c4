// SPDX-License-Identifier: MIT
// CUDA's own device malloc. Its heap's size can be set once in a process, before the first kernel that uses it.
#include "../subjects.cuh"

namespace bench {
namespace {

struct CudaRef {
    __device__ void* allocate(std::size_t bytes) const { return malloc(bytes); }
    __device__ void deallocate(void* block) const { free(block); }
};

class Cuda : public SubjectDefaults {
public:
    static constexpr const char* name = "cuda";
    static constexpr unsigned iterations = 3;
    static constexpr double limit_seconds = 10; // of which the first 5 s may begin an iteration
    static constexpr Processes processes = Processes::one_a_cell;
    static constexpr bool many_heaps = false;
    using Ref = CudaRef;

    explicit Cuda(std::size_t heap_bytes) : bytes_(heap_bytes) {
        check(cudaDeviceSetLimit(cudaLimitMallocHeapSize, heap_bytes), "cudaDeviceSetLimit");
    }
    Ref ref() const { return {}; }
    void reset(cudaStream_t) {}
    std::size_t payload_bytes() const { return bytes_; }

private:
    std::size_t bytes_;
};

const Registered<Cuda> registered;

} // namespace
} // namespace bench
