// SPDX-License-Identifier: MIT
// The device pool.
#include "../subjects.cuh"

#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

namespace bench {
namespace {

class Ours : public SubjectDefaults {
public:
    static constexpr const char* name = "ours";
    static constexpr Role role = Role::ours;
    using Ref = cuda_zstd::DevicePoolRef;

    explicit Ours(std::size_t heap_bytes) : pool_(cuda_zstd::MemoryPoolManager::get_instance(), heap_bytes) {
        check(cudaDeviceSynchronize(), "the set-up of the pool");
    }
    Ref ref() const { return pool_.ref<cuda_zstd::cuda_env>(); }
    void reset(cudaStream_t) {}
    std::size_t payload_bytes() const { return pool_.layout().payload_bytes(); }
    /// The slot of the request's class, or whole pages.
    static std::size_t class_bytes(std::size_t bytes) {
        if (bytes > cuda_zstd::max_slot_bytes) return cuda_zstd::round_up<std::size_t>(bytes, cuda_zstd::page_bytes);
        return cuda_zstd::slot_bytes_of(cuda_zstd::size_class_of(static_cast<std::uint32_t>(bytes)));
    }

private:
    cuda_zstd::DevicePool pool_;
};

const Registered<Ours> registered;

} // namespace
} // namespace bench
