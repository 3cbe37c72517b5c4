// SPDX-License-Identifier: MIT
#include "subject.hpp"

#include "cuda_zstd_memory_pool_enhanced.h"
#include "rmm_subject.h"

#include <cub/util_allocator.cuh>

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace bench {
namespace {

using namespace cuda_zstd;

void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

/// Addresses with nothing behind them.
class AddressSource final : public ArenaSource {
public:
    const char* name() const noexcept override { return "addresses"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return std::size_t{64} << 10; }
    std::size_t total_bytes() const override { return std::size_t{1} << 43; }
    AddressRange reserve(std::size_t bytes) override {
        auto* base = reinterpret_cast<std::byte*>(next_);
        next_ += bytes + (std::size_t{2} << 20);
        return {base, bytes};
    }
    void map(const AddressRange&, std::size_t, std::size_t) override {}
    void unmap(const AddressRange&, std::size_t, std::size_t) noexcept override {}
    void release(const AddressRange&) noexcept override {}

private:
    std::uintptr_t next_ = std::uintptr_t{1} << 45;
};

/// Ours, asked with the bare handle of the stream.
class Raw : public Subject {
public:
    Raw(Backend& backend, const Setting& setting, Strategy strategy) : pool_(options(backend, setting, strategy)) {
        if (setting.prepared_bytes != 0) pool_.reserve(setting.prepared_bytes);
    }
    void* allocate(std::size_t bytes, Lane& lane) override { return pool_.allocate(bytes, lane.stream()); }
    void deallocate(void* block, std::size_t, Lane& lane) override { pool_.deallocate(block, lane.stream()); }
    void trim() override { pool_.trim(); }
    bool frees_all() const noexcept override { return true; }
    std::optional<double> peak_ratio() const override {
        const PoolStatistics s = pool_.statistics();
        return static_cast<double>(s.peak_capacity_bytes) / static_cast<double>(s.peak_allocated_bytes);
    }

protected:
    MemoryPoolManager pool_;

private:
    static PoolOptions options(Backend& backend, const Setting& setting, Strategy strategy) {
        PoolOptions made;
        made.strategy = strategy;
        made.backend = backend.kind();
        // Where nothing is held from the start, the peak is to say what the pool needs.
        if (setting.prepared_bytes == 0) made.growth = Growth::exact;
        if (setting.memory == Memory::addresses) made.custom_source = std::make_shared<AddressSource>();
        return made;
    }
};

/// Ours, with streams that the pool knows.
class Registered final : public Raw {
public:
    using Raw::Raw;
    std::unique_ptr<Lane> lane(cudaStream_t stream) override { return std::make_unique<Known>(pool_, stream); }
    void* allocate(std::size_t bytes, Lane& lane) override {
        return pool_.allocate(bytes, static_cast<Known&>(lane).known);
    }
    void deallocate(void* block, std::size_t, Lane& lane) override {
        pool_.deallocate(block, static_cast<Known&>(lane).known);
    }

private:
    struct Known final : Lane {
        Known(MemoryPoolManager& pool, cudaStream_t stream) : Lane(stream), known(pool, stream) {}
        RegisteredStream known;
    };
};

/// The system's allocator: what a host program would use instead.
class Malloc final : public Subject {
public:
    explicit Malloc(Backend& backend) : backend_(backend) {}
    void* allocate(std::size_t bytes, Lane&) override {
        void* block = std::malloc(bytes);
        if (block == nullptr) throw std::bad_alloc();
        return block;
    }
    /// As cudaFree does: not before the work is done.
    void deallocate(void* block, std::size_t, Lane& lane) override {
        backend_.synchronize(lane.stream());
        std::free(block);
    }
    bool frees_all() const noexcept override { return true; }

private:
    Backend& backend_;
};

class Cuda final : public Subject {
public:
    void* allocate(std::size_t bytes, Lane&) override {
        void* block = nullptr;
        check(cudaMalloc(&block, bytes), "cudaMalloc");
        return block;
    }
    void deallocate(void* block, std::size_t, Lane&) override { check(cudaFree(block), "cudaFree"); }
    bool frees_all() const noexcept override { return true; }
};

class Async final : public Subject {
public:
    explicit Async(std::size_t prepared_bytes) {
        check(cudaDeviceGetDefaultMemPool(&pool_, 0), "cudaDeviceGetDefaultMemPool");
        std::uint64_t keep_bytes = UINT64_MAX;
        check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep_bytes), "cudaMemPoolSetAttribute");
        if (prepared_bytes == 0) return;
        void* block = nullptr;
        check(cudaMallocAsync(&block, prepared_bytes, nullptr), "cudaMallocAsync");
        check(cudaFreeAsync(block, nullptr), "cudaFreeAsync");
        check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
    }
    /// The pool is the device's own, so what it holds would be the next case's.
    ~Async() override {
        (void)cudaDeviceSynchronize();
        (void)cudaMemPoolTrimTo(pool_, 0);
    }
    void* allocate(std::size_t bytes, Lane& lane) override {
        void* block = nullptr;
        check(cudaMallocAsync(&block, bytes, lane.stream()), "cudaMallocAsync");
        return block;
    }
    void deallocate(void* block, std::size_t, Lane& lane) override {
        check(cudaFreeAsync(block, lane.stream()), "cudaFreeAsync");
    }
    bool frees_all() const noexcept override { return true; }

private:
    cudaMemPool_t pool_ = nullptr;
};

/// CUB has no way to hold memory before it is asked for: the untimed first round of each case fills its cache.
class Cub final : public Subject {
public:
    void* allocate(std::size_t bytes, Lane& lane) override {
        void* block = nullptr;
        check(allocator_.DeviceAllocate(&block, bytes, lane.stream()), "DeviceAllocate");
        return block;
    }
    void deallocate(void* block, std::size_t, Lane&) override { check(allocator_.DeviceFree(block), "DeviceFree"); }
    bool frees_all() const noexcept override { return true; }

private:
    // Powers of 2 from 256 B to 4 GiB, with no limit on what is kept.
    cub::CachingDeviceAllocator allocator_{2, 8, 32, cub::CachingDeviceAllocator::INVALID_SIZE};
};

/// RMM, from the library that setup_rmm.sh has built beside this program.
class Rmm final : public Subject {
public:
    struct Library {
        decltype(&rmm_subject_make) make;
        decltype(&rmm_subject_destroy) destroy;
        decltype(&rmm_subject_allocate) allocate;
        decltype(&rmm_subject_deallocate) deallocate;
        decltype(&rmm_subject_error) error;
    };
    Rmm(const Library& library, const char* kind, std::size_t bytes)
        : library_(library), subject_(library.make(kind, std::max(bytes, std::size_t{64} << 20))) {
        if (subject_ == nullptr) throw std::runtime_error(std::string("RMM: ") + library_.error());
    }
    ~Rmm() override { library_.destroy(subject_); }
    void* allocate(std::size_t bytes, Lane& lane) override {
        void* block = library_.allocate(subject_, bytes, lane.stream());
        if (block == nullptr) throw std::runtime_error(std::string("RMM: ") + library_.error());
        return block;
    }
    void deallocate(void* block, std::size_t bytes, Lane& lane) override {
        library_.deallocate(subject_, block, bytes, lane.stream());
    }

    static const Library* load(std::string& reason) {
        static Library library;
        const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "rmm" / "librmm_subject.so";
        void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (opened == nullptr) {
            reason = "bench/host/setup_rmm.sh has not got RMM for it";
            return nullptr;
        }
        const auto find = [&](auto& function, const char* name) {
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(opened, name));
            if (function == nullptr) throw std::runtime_error(path.string() + " has no " + name);
        };
        find(library.make, "rmm_subject_make");
        find(library.destroy, "rmm_subject_destroy");
        find(library.allocate, "rmm_subject_allocate");
        find(library.deallocate, "rmm_subject_deallocate");
        find(library.error, "rmm_subject_error");
        return &library;
    }

private:
    const Library& library_;
    void* subject_;
};

} // namespace

std::vector<std::string> subject_names() {
    return {"machine",   "ours", "async",  "cub",      "rmm-pool",   "rmm-arena",
            "rmm-async", "cuda", "malloc", "ours-raw", "ours-first", "ours-segregated"};
}

std::unique_ptr<Subject> make_subject(const std::string& name, Backend& backend, const Setting& setting,
                                      std::string& reason) {
    if (name == "ours") return std::make_unique<Registered>(backend, setting, Strategy::best_fit);
    if (name == "ours-raw") return std::make_unique<Raw>(backend, setting, Strategy::best_fit);
    if (name == "ours-first") return std::make_unique<Registered>(backend, setting, Strategy::first_fit);
    if (name == "ours-segregated") return std::make_unique<Registered>(backend, setting, Strategy::segregated);
    const bool on_cuda = backend.kind() == BackendKind::cuda;
    if (name == "malloc") {
        if (!on_cuda) return std::make_unique<Malloc>(backend);
        reason = "its memory is not the GPU's";
        return nullptr;
    }
    if (!on_cuda) {
        reason = "there is no GPU";
        return nullptr;
    }
    if (name == "cuda") return std::make_unique<Cuda>();
    if (name == "async") return std::make_unique<Async>(setting.prepared_bytes);
    if (name == "cub") return std::make_unique<Cub>();
    if (name.starts_with("rmm-")) {
        const Rmm::Library* library = Rmm::load(reason);
        return library == nullptr ? nullptr
                                  : std::make_unique<Rmm>(*library, name.substr(4).c_str(), setting.prepared_bytes);
    }
    reason = "there is no such subject";
    return nullptr;
}

} // namespace bench
