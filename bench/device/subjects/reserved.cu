// SPDX-License-Identifier: MIT
// What a kernel does that cannot allocate: W10 with the worst case of every thread block reserved beforehand.
#include "../subjects.cuh"

namespace bench {
namespace {

struct ReservedRef {
    char* base;
    __device__ void* reserved(unsigned job, unsigned index) const {
        return base + (std::size_t{job} * most_scratch_blocks + index) * most_scratch_bytes;
    }
    __device__ void deallocate(void*) const {}
};

class Reserved : public SubjectDefaults {
public:
    static constexpr const char* name = "reserved";
    static constexpr bool scratch_only = true;
    using Ref = ReservedRef;

    /// The size of the other subjects' heaps says nothing about what has to be reserved.
    explicit Reserved(std::size_t) { check(cudaMalloc(&base_, bytes), "cudaMalloc"); }
    ~Reserved() { cudaFree(base_); }
    Reserved(const Reserved&) = delete;
    Reserved& operator=(const Reserved&) = delete;

    Ref ref() const { return {base_}; }
    std::size_t payload_bytes() const { return bytes; }

private:
    static constexpr std::size_t jobs = 10000; // of W10
    static constexpr std::size_t bytes = jobs * most_scratch_blocks * most_scratch_bytes;
    char* base_ = nullptr;
};

const Registered<Reserved> registered;

} // namespace
} // namespace bench
