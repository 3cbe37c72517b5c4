// SPDX-License-Identifier: MIT
#include "replay.hpp"

#include <sys/mman.h>

#include <atomic>
#include <limits>
#include <string>

namespace pool_trace {
namespace {

constexpr std::size_t unit_bytes = std::size_t{2} << 20;

/// Reserves addresses of this process without access to them. A pool keeps its records elsewhere, so nobody misses it.
class PhantomSource final : public cuda_zstd::ArenaSource {
public:
    explicit PhantomSource(std::size_t total_bytes) : total_bytes_(total_bytes) {}

    const char* name() const noexcept override { return "addresses without memory"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return unit_bytes; }
    std::size_t total_bytes() const override { return total_bytes_; }

    cuda_zstd::AddressRange reserve(std::size_t bytes) override {
        void* const raw =
            ::mmap(nullptr, bytes + unit_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw == MAP_FAILED)
            throw cuda_zstd::out_of_memory("no " + std::to_string(bytes) + " bytes of addresses for the replay");
        const auto start = (reinterpret_cast<std::uintptr_t>(raw) + unit_bytes - 1) / unit_bytes * unit_bytes;
        auto* const base = reinterpret_cast<std::byte*>(start);
        auto* const begin = static_cast<std::byte*>(raw);
        if (base != begin) ::munmap(begin, static_cast<std::size_t>(base - begin));
        const std::size_t behind = unit_bytes - static_cast<std::size_t>(base - begin);
        if (behind != 0) ::munmap(base + bytes, behind);
        return {base, bytes};
    }
    void map(const cuda_zstd::AddressRange&, std::size_t, std::size_t bytes) override {
        if (mapped_bytes_ + bytes > total_bytes_) throw cuda_zstd::out_of_memory("the replayed machine is full");
        mapped_bytes_ += bytes;
    }
    void unmap(const cuda_zstd::AddressRange&, std::size_t, std::size_t bytes) noexcept override {
        mapped_bytes_ -= bytes;
    }
    void release(const cuda_zstd::AddressRange& range) noexcept override { ::munmap(range.base, range.bytes); }

private:
    const std::size_t total_bytes_;
    std::atomic<std::size_t> mapped_bytes_{0};
};

} // namespace

std::shared_ptr<cuda_zstd::ArenaSource> make_phantom_source(std::size_t total_bytes) {
    return std::make_shared<PhantomSource>(total_bytes);
}

} // namespace pool_trace
