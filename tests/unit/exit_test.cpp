// SPDX-License-Identifier: MIT
// A program ends: objects of static storage go in any order, some of them after the driver. No call reaches it then,
// nothing throws, nothing waits.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "manual_backend.hpp"

#include <gtest/gtest.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr int called_after_the_end = 9;

/// Whether the driver is gone.
bool driver_is_gone = false;

/// The driver's side of it: every call ends the process with an error once the driver is gone.
class MortalBackend final : public detail::ManualBackend {
public:
    MortalBackend() : ManualBackend(4) {}
    void wait_idle() override { return alive().ManualBackend::wait_idle(); }
    std::uint64_t stream_id(cudaStream_t stream) override { return alive().ManualBackend::stream_id(stream); }
    bool is_capturing(cudaStream_t stream) override { return alive().ManualBackend::is_capturing(stream); }
    BackendEvent create_untimed_event() override { return alive().ManualBackend::create_untimed_event(); }
    void destroy_event(BackendEvent event) noexcept override { alive().ManualBackend::destroy_event(event); }
    void record(BackendEvent event, cudaStream_t stream) override { alive().ManualBackend::record(event, stream); }
    bool is_complete(BackendEvent event) override { return alive().ManualBackend::is_complete(event); }
    void wait(cudaStream_t stream, BackendEvent event) override { alive().ManualBackend::wait(stream, event); }
    void synchronize(BackendEvent event) override { alive().ManualBackend::synchronize(event); }

private:
    MortalBackend& alive() noexcept {
        if (driver_is_gone) _exit(called_after_the_end);
        return *this;
    }
};

/// Memory of the driver: gone with it, too.
class MortalSource final : public ArenaSource {
public:
    const char* name() const noexcept override { return "mortal"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return ordinary_->granularity_bytes(); }
    std::size_t total_bytes() const override { return ordinary_->total_bytes(); }
    AddressRange reserve(std::size_t bytes) override { return alive().reserve(bytes); }
    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        alive().map(range, offset, bytes);
    }
    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        alive().unmap(range, offset, bytes);
    }
    void release(const AddressRange& range) noexcept override { alive().release(range); }

private:
    ArenaSource& alive() noexcept {
        if (driver_is_gone) _exit(called_after_the_end);
        return *ordinary_;
    }
    std::unique_ptr<ArenaSource> ordinary_ = make_ordinary_source();
};

// The program's objects, each made by a call so that the test chooses their order. They end in the reverse order.

/// As the CUDA backend is made: the driver begins to work first, so it goes last of the two.
MortalBackend& backend() {
    static MortalBackend& made = [&]() -> MortalBackend& {
        std::atexit([] { driver_is_gone = true; });
        auto* never_destroyed = new MortalBackend;
        never_destroyed->retire_at_exit();
        return *never_destroyed;
    }();
    return made;
}

/// Null before it is made and after it has ended: a plain pointer outlives all.
MemoryPoolManager* living_pool = nullptr;
struct Pool {
    std::unique_ptr<MemoryPoolManager> manager;
    ~Pool() { living_pool = nullptr; }
};
Pool& pool() {
    static Pool made;
    return made;
}

struct Streams {
    std::unique_ptr<RegisteredStream> registered;
};
Streams& streams() {
    static Streams made;
    return made;
}

/// Frees what it holds when it ends, and then looks what other calls say.
struct Holder {
    std::vector<void*> blocks;
    ~Holder() {
        if (living_pool == nullptr) return;
        MemoryPoolManager& manager = *living_pool;
        for (void* block : blocks)
            manager.deallocate(block, detail::ManualBackend::handle(1));
        if (!backend().is_retired()) return;
        try {
            (void)manager.allocate(1000, detail::ManualBackend::handle(1));
            _exit(3); // there is no memory any more
        } catch (const usage_error&) {
        }
        try {
            manager.trim();
            _exit(4);
        } catch (const usage_error&) {
        }
    }
};
Holder& holder() {
    static Holder made;
    return made;
}

/// Events of a driver that is gone are never destroyed; a tool would take those of the fake one for leaks.
void leave_what_the_driver_had() {
#if defined(__SANITIZE_ADDRESS__)
    __lsan_disable();
#endif
}

using Make = void (*)();
constexpr std::array<Make, 4> makes{[] { (void)backend(); }, [] { (void)pool(); }, [] { (void)streams(); },
                                    [] { (void)holder(); }};

/// In a child: makes the objects in an order, uses them, and ends.
[[noreturn]] void run(const std::array<unsigned, 4>& order) {
    leave_what_the_driver_had();
    for (const unsigned at : order)
        makes[at]();
    PoolOptions options;
    options.custom_backend = &backend();
    options.custom_source = std::make_shared<MortalSource>();
    options.max_bytes = 64 * MiB;
    options.diagnostics = nullptr;
    pool().manager = std::make_unique<MemoryPoolManager>(options);
    MemoryPoolManager& manager = *(living_pool = pool().manager.get());
    // A registered stream ends before its pool, as it must.
    const bool streams_end_first =
        std::find(order.begin(), order.end(), 2u) > std::find(order.begin(), order.end(), 1u);
    if (streams_end_first)
        streams().registered = std::make_unique<RegisteredStream>(manager, detail::ManualBackend::handle(2));
    for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 5 * MiB}) {
        for (std::uint64_t id = 1; id <= 3; ++id)
            for (int i = 0; i < 3; ++i)
                manager.deallocate(manager.allocate(bytes, detail::ManualBackend::handle(id)),
                                   detail::ManualBackend::handle(id));
        if (streams_end_first) {
            const RegisteredStream& registered = *streams().registered;
            for (int i = 0; i < 3; ++i)
                manager.deallocate(manager.allocate(bytes, registered), registered);
        }
        // Freed by an object that may end after the pool: then the pool is not asked.
        const bool holder_ends_first =
            std::find(order.begin(), order.end(), 3u) > std::find(order.begin(), order.end(), 1u);
        if (holder_ends_first) holder().blocks.push_back(manager.allocate(bytes, detail::ManualBackend::handle(1)));
        backend().submit(1);
    }
    std::exit(0);
}

TEST(Exit, ObjectsOfStaticStorageEndInAnyOrder) {
    std::array<unsigned, 4> order{0, 1, 2, 3};
    do {
        const pid_t child = fork();
        ASSERT_NE(child, -1);
        if (child == 0) run(order);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        std::string text = "made in the order";
        for (const unsigned at : order)
            text += std::string(" ") + std::array<const char*, 4>{"backend", "pool", "streams", "holder"}[at];
        EXPECT_TRUE(WIFEXITED(status)) << text << ": signal " << WTERMSIG(status);
        EXPECT_EQ(WEXITSTATUS(status), 0)
            << text
            << (WEXITSTATUS(status) == called_after_the_end ? ": a call reached the driver after its end"
                                                            : ": see Holder");
    } while (std::next_permutation(order.begin(), order.end()));
}

/// The test would notice: a backend that does not know the end is called after it.
TEST(Exit, AnUnknownEndIsNoticed) {
    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
        leave_what_the_driver_had();
        static std::unique_ptr<MemoryPoolManager> manager;
        std::atexit([] { driver_is_gone = true; });
        static MortalBackend& unaware = *new MortalBackend;
        PoolOptions options;
        options.custom_backend = &unaware;
        options.max_bytes = 64 * MiB;
        options.diagnostics = nullptr;
        manager = std::make_unique<MemoryPoolManager>(options);
        manager->deallocate(manager->allocate(5 * MiB, detail::ManualBackend::handle(1)),
                            detail::ManualBackend::handle(1));
        std::exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), called_after_the_end);
}

} // namespace
} // namespace cuda_zstd
