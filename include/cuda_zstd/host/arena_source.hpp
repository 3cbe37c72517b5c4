// SPDX-License-Identifier: MIT
// Where the memory of arenas comes from.
//
// Invariant: addresses of a range are usable exactly between `map` and `unmap`; a range is released with nothing
// mapped. Sources that cannot map piecewise (`grows()` is false) map the whole range at once.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace cuda_zstd {

/// A contiguous range of addresses. `base` is 2 MiB aligned.
struct AddressRange {
    std::byte* base = nullptr;
    std::size_t bytes = 0;
};

/// Gives ranges of addresses and maps memory into them. Calls may come from any thread, one at a time for a range. They
/// come from within the pool's own calls and must not call the pool.
class CUDA_ZSTD_API ArenaSource {
public:
    virtual ~ArenaSource() = default;
    ArenaSource(const ArenaSource&) = delete;
    ArenaSource& operator=(const ArenaSource&) = delete;

    /// For people: "CUDA virtual memory".
    virtual const char* name() const noexcept = 0;
    /// Whether parts of a range can be mapped and unmapped. If not, each growth is a further range.
    virtual bool grows() const noexcept = 0;
    /// Bytes that all offsets and lengths must be multiples of; at most 2 MiB.
    virtual std::size_t granularity_bytes() const noexcept = 0;
    /// Bytes of memory that could be mapped at most, on this machine when nothing else uses it.
    virtual std::size_t total_bytes() const = 0;

    /// Reserves addresses. Throws `out_of_memory` when there are none.
    virtual AddressRange reserve(std::size_t bytes) = 0;
    /// Makes `bytes` from `offset` usable as one piece. Throws `out_of_memory` and leaves the range as it was.
    virtual void map(const AddressRange& range, std::size_t offset, std::size_t bytes) = 0;
    /// Returns a piece: offset and bytes as they were mapped. The caller knows that no work uses it.
    virtual void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept = 0;
    /// The same; false where the system refused, and the piece is still mapped.
    virtual bool try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept {
        unmap(range, offset, bytes);
        return true;
    }
    virtual void release(const AddressRange& range) noexcept = 0;

protected:
    ArenaSource() = default;
};

/// Chunks of physical memory mapped into a reserved range, readable and writable by the current device, as are
/// those of the others below. Throws
/// `cuda_error` where the driver or the device has no virtual memory management.
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_cuda_virtual_source();
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_cuda_malloc_source();
/// Managed memory, which the device and the host reach at the same address; it may exceed the device's.
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_cuda_managed_source();
/// Page-locked host memory that the device reaches at the same address.
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_cuda_pinned_source();
/// Ordinary memory: addresses are reserved without access, mapped by granting it, and given back to the system.
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_ordinary_source();
/// The source that `automatic` means for a backend.
CUDA_ZSTD_API std::unique_ptr<ArenaSource> make_default_source(BackendKind backend);

/// For tests: passes calls on, but asks `fails` with the number (from 1) of each reserve, map and try_unmap; when it
/// answers true, the former two throw `out_of_memory` and the latter refuses. Counts what is mapped and reserved, so a
/// test can see a leak.
class CUDA_ZSTD_API FaultySource final : public ArenaSource {
public:
    FaultySource(std::shared_ptr<ArenaSource> source, std::function<bool(std::uint64_t call)> fails);
    ~FaultySource() override;

    const char* name() const noexcept override { return "faulty source"; }
    bool grows() const noexcept override;
    std::size_t granularity_bytes() const noexcept override;
    std::size_t total_bytes() const override;
    AddressRange reserve(std::size_t bytes) override;
    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override;
    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override;
    bool try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override;
    void release(const AddressRange& range) noexcept override;

    std::uint64_t calls() const noexcept;
    std::size_t mapped_bytes() const noexcept;
    std::size_t reserved_ranges() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd
