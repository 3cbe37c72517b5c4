// SPDX-License-Identifier: MIT
// Ordinary memory, and the faulty source of the tests.
#include "cuda_zstd/host/arena_source.hpp"

#include "cuda_zstd/host/error.hpp"
#include "machine.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

namespace cuda_zstd {
namespace {

constexpr std::size_t range_alignment_bytes = std::size_t{2} << 20;

class OrdinarySource final : public ArenaSource {
public:
    const char* name() const noexcept override { return "ordinary memory"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return std::size_t{64} << 10; }
    std::size_t total_bytes() const override { return detail::total_memory_bytes(); }

    AddressRange reserve(std::size_t bytes) override {
        const std::size_t padded_bytes = bytes + range_alignment_bytes;
        void* memory = padded_bytes < bytes
                           ? MAP_FAILED
                           : mmap(nullptr, padded_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            throw out_of_memory("no address range of " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
        // What lies before the aligned start and behind the end goes back at once.
        const auto start = reinterpret_cast<std::uintptr_t>(memory);
        const std::uintptr_t base = (start + range_alignment_bytes - 1) / range_alignment_bytes * range_alignment_bytes;
        if (base != start) munmap(memory, base - start);
        if (const std::size_t behind = start + padded_bytes - (base + bytes); behind != 0)
            munmap(reinterpret_cast<void*>(base + bytes), behind);
        return {reinterpret_cast<std::byte*>(base), bytes};
    }

    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        if (mprotect(range.base + offset, bytes, PROT_READ | PROT_WRITE) != 0)
            throw out_of_memory("no memory for " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
    }

    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        (void)try_unmap(range, offset, bytes);
    }
    bool try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        // A new mapping over the old one gives the pages back and takes the access away in one call.
        return mmap(range.base + offset, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                    0) != MAP_FAILED;
    }

    void release(const AddressRange& range) noexcept override { munmap(range.base, range.bytes); }
};

} // namespace

std::unique_ptr<ArenaSource> make_ordinary_source() { return std::make_unique<OrdinarySource>(); }

struct FaultySource::State {
    std::shared_ptr<ArenaSource> source;
    std::function<bool(std::uint64_t)> fails;
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::size_t> mapped_bytes{0};
    std::atomic<std::size_t> ranges{0};

    void count(const char* call) {
        const std::uint64_t number = calls.fetch_add(1, std::memory_order_relaxed) + 1;
        if (fails && fails(number))
            throw out_of_memory("planted failure of source call " + std::to_string(number) + " (" + call + ")");
    }
};

FaultySource::FaultySource(std::shared_ptr<ArenaSource> source, std::function<bool(std::uint64_t)> fails)
    : state_(std::make_unique<State>()) {
    state_->source = std::move(source);
    state_->fails = std::move(fails);
}
FaultySource::~FaultySource() = default;

bool FaultySource::grows() const noexcept { return state_->source->grows(); }
std::size_t FaultySource::granularity_bytes() const noexcept { return state_->source->granularity_bytes(); }
std::size_t FaultySource::total_bytes() const { return state_->source->total_bytes(); }

AddressRange FaultySource::reserve(std::size_t bytes) {
    state_->count("reserve");
    const AddressRange range = state_->source->reserve(bytes);
    state_->ranges.fetch_add(1, std::memory_order_relaxed);
    return range;
}

void FaultySource::map(const AddressRange& range, std::size_t offset, std::size_t bytes) {
    state_->count("map");
    state_->source->map(range, offset, bytes);
    state_->mapped_bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void FaultySource::unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept {
    state_->source->unmap(range, offset, bytes);
    state_->mapped_bytes.fetch_sub(bytes, std::memory_order_relaxed);
}

bool FaultySource::try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept {
    try {
        state_->count("try_unmap");
    } catch (const out_of_memory&) {
        return false;
    }
    if (!state_->source->try_unmap(range, offset, bytes)) return false;
    state_->mapped_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    return true;
}

void FaultySource::release(const AddressRange& range) noexcept {
    state_->source->release(range);
    state_->ranges.fetch_sub(1, std::memory_order_relaxed);
}

std::uint64_t FaultySource::calls() const noexcept { return state_->calls.load(std::memory_order_relaxed); }
std::size_t FaultySource::mapped_bytes() const noexcept { return state_->mapped_bytes.load(std::memory_order_relaxed); }
std::size_t FaultySource::reserved_ranges() const noexcept { return state_->ranges.load(std::memory_order_relaxed); }

} // namespace cuda_zstd
