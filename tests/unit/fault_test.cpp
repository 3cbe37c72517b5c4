// SPDX-License-Identifier: MIT
// Every call of the backend fails once, at every position of a program: what throws has changed nothing, and in the end
// nothing is lost.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// The host backend, whose calls about streams and events fail when their turn has come.
class FaultyBackend final : public Backend {
public:
    /// The `at`-th call from now on throws; 0: none does.
    void fail_at(unsigned at) { left_.store(at); }
    unsigned calls() const { return calls_.load(); }

    BackendKind kind() const noexcept override { return real_.kind(); }
    std::string description() const override { return "faulty " + real_.description(); }
    unsigned processors() const noexcept override { return real_.processors(); }
    std::size_t free_memory_bytes() const override { return real_.free_memory_bytes(); }
    cudaStream_t create_stream() override { return real_.create_stream(); }
    void destroy_stream(cudaStream_t stream) override { real_.destroy_stream(stream); }
    void synchronize(cudaStream_t stream) override { real_.synchronize(stream); }
    void synchronize() override { real_.synchronize(); }
    void wait_idle() override { call().wait_idle(); }
    std::uint64_t stream_id(cudaStream_t stream) override { return call().stream_id(stream); }
    bool is_capturing(cudaStream_t stream) override { return call().is_capturing(stream); }
    BackendEvent create_event() override { return counted(call().create_event()); }
    BackendEvent create_untimed_event() override { return counted(call().create_untimed_event()); }
    void destroy_event(BackendEvent event) noexcept override {
        if (event.handle != nullptr) events_.fetch_sub(1);
        real_.destroy_event(event);
    }
    void record(BackendEvent event, cudaStream_t stream) override { call().record(event, stream); }
    bool is_complete(BackendEvent event) override { return call().is_complete(event); }
    void wait(cudaStream_t stream, BackendEvent event) override { call().wait(stream, event); }
    void synchronize(BackendEvent event) override { call().synchronize(event); }
    float elapsed_ms(BackendEvent begin, BackendEvent end) override { return real_.elapsed_ms(begin, end); }
    void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) override {
        real_.copy_async(to, from, bytes, stream);
    }
    void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) override {
        real_.fill_async(to, value, bytes, stream);
    }
    void host_task(cudaStream_t stream, std::function<void()> task) override {
        real_.host_task(stream, std::move(task));
    }
    void run_blocks(cudaStream_t stream, unsigned blocks, std::function<void(unsigned, unsigned)> block) override {
        real_.run_blocks(stream, blocks, std::move(block));
    }
    void* allocate_pinned(std::size_t bytes) override { return real_.allocate_pinned(bytes); }
    void free_pinned(void* memory) noexcept override { real_.free_pinned(memory); }

    int events() const { return events_.load(); }

private:
    Backend& call() {
        calls_.fetch_add(1);
        unsigned left = left_.load();
        while (left != 0 && !left_.compare_exchange_weak(left, left - 1)) {
        }
        if (left == 1) throw cuda_error("a call of the driver failed, as the test wants");
        return real_;
    }
    BackendEvent counted(BackendEvent event) {
        events_.fetch_add(1);
        return event;
    }

    Backend& real_ = Backend::get(BackendKind::host);
    std::atomic<unsigned> left_{0};
    std::atomic<unsigned> calls_{0};
    std::atomic<int> events_{0};
};

/// All sizes on two streams, blocks at hand, frees across streams, a thread that ends, a registration that ends, trims.
class Program {
public:
    Program(FaultyBackend& backend, Strategy strategy) : backend_(backend) {
        PoolOptions options;
        options.custom_backend = &backend;
        options.strategy = strategy;
        options.max_bytes = 64 * MiB;
        options.diagnostics = nullptr;
        pool_ = std::make_unique<MemoryPoolManager>(options);
        for (cudaStream_t& stream : streams_)
            stream = backend.create_stream();
    }
    ~Program() {
        for (const cudaStream_t stream : streams_)
            backend_.destroy_stream(stream);
    }

    void run() {
        for (int round = 0; round < 3; ++round) {
            for (const std::size_t bytes : {std::size_t{700}, std::size_t{30000}, 200 * MiB / 1024, 3 * MiB}) {
                for (const cudaStream_t stream : streams_)
                    for (int i = 0; i < 3; ++i)
                        if (void* block = allocate(bytes, stream)) free(block, stream);
                // Across streams, also of a block that was at hand.
                if (void* block = allocate(bytes, streams_[0])) free(block, streams_[1]);
            }
            attempt([&] {
                RegisteredStream stream(*pool_, streams_[0]);
                for (int i = 0; i < 3; ++i)
                    if (void* block = allocate(5000, stream)) free(block, stream);
            });
            std::thread([&] {
                for (int i = 0; i < 3; ++i)
                    if (void* block = allocate(9000, streams_[1])) free(block, streams_[1]);
            }).join();
            if (round == 1) attempt([&] { pool_->trim(); });
        }
        if (attempt([&] { pool_->reset(); })) held_.clear();
    }
    /// With no fault left: everything can be freed, and all memory goes back.
    void finish() {
        for (const auto& [block, stream] : held_)
            pool_->deallocate(block, stream);
        held_.clear();
        const PoolStatistics s = pool_->statistics();
        EXPECT_EQ(s.live_blocks, 0u);
        EXPECT_EQ(s.allocated_bytes, 0u);
        EXPECT_EQ(PoolInspector::check(*pool_), "");
        pool_->trim();
        EXPECT_EQ(PoolInspector::cached_bytes(*pool_), 0u);
        EXPECT_EQ(pool_->get_pool_size(), 0u);
        EXPECT_EQ(PoolInspector::check(*pool_), "");
    }
    unsigned faults() const { return faults_; }

private:
    /// A fault must leave the pool as it was: as many live blocks and bytes.
    template <class Call>
    bool attempt(const Call& call) {
        const std::size_t live = pool_->statistics().live_blocks;
        const std::size_t bytes = pool_->get_allocated_size();
        try {
            call();
            return true;
        } catch (const cuda_error&) {
            ++faults_;
            EXPECT_EQ(pool_->statistics().live_blocks, live);
            EXPECT_EQ(pool_->get_allocated_size(), bytes);
            return false;
        }
    }
    template <class Stream>
    void* allocate(std::size_t bytes, const Stream& stream) {
        void* block = nullptr;
        attempt([&] { block = pool_->allocate(bytes, stream); });
        return block;
    }
    /// A block whose free failed is still the caller's.
    template <class Stream>
    void free(void* block, const Stream& stream) {
        if (attempt([&] { pool_->deallocate(block, stream); })) return;
        if constexpr (std::is_same_v<Stream, cudaStream_t>)
            held_.emplace_back(block, stream);
        else
            held_.emplace_back(block, stream.handle());
    }

    FaultyBackend& backend_;
    std::unique_ptr<MemoryPoolManager> pool_;
    cudaStream_t streams_[2] = {};
    std::vector<std::pair<void*, cudaStream_t>> held_;
    unsigned faults_ = 0;
};

class FaultTest : public testing::TestWithParam<Strategy> {};

TEST_P(FaultTest, EveryCallFailsOnce) {
    unsigned calls = 0;
    {
        FaultyBackend backend;
        Program program(backend, GetParam());
        program.run();
        program.finish();
        calls = backend.calls();
        EXPECT_EQ(program.faults(), 0u);
    }
    ASSERT_GT(calls, 100u);
    unsigned seen = 0;
    for (unsigned at = 1; at <= calls; ++at) {
        SCOPED_TRACE("call " + std::to_string(at) + " fails");
        FaultyBackend backend;
        {
            Program program(backend, GetParam());
            backend.fail_at(at);
            program.run();
            backend.fail_at(0);
            program.finish();
            seen += program.faults();
        }
        EXPECT_EQ(backend.events(), 0) << "every event is destroyed";
        if (HasFailure()) break;
    }
    EXPECT_GT(seen, calls / 2) << "what fails is told, as a rule";
}

INSTANTIATE_TEST_SUITE_P(Strategies, FaultTest,
                         testing::Values(Strategy::best_fit, Strategy::first_fit, Strategy::segregated));

} // namespace
} // namespace cuda_zstd
