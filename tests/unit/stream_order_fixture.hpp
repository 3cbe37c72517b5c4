// SPDX-License-Identifier: MIT
// Three streams of the host backend whose work the test holds back and lets go.
// Invariant: at the end of a test every gate is open, so that its streams come to their end.
#pragma once

#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

namespace cuda_zstd {

inline constexpr std::size_t MiB = std::size_t{1} << 20;

/// Work that a stream does not get past until the test opens it.
class Gate {
public:
    ~Gate() { open(); }
    void close(Backend& backend, cudaStream_t stream) {
        backend.host_task(stream, [state = state_] {
            while (!state->load())
                std::this_thread::yield();
        });
    }
    void open() { state_->store(true); }

private:
    std::shared_ptr<std::atomic<bool>> state_ = std::make_shared<std::atomic<bool>>(false);
};

class StreamOrderTest : public testing::Test {
protected:
    StreamOrderTest() {
        for (cudaStream_t& stream : streams)
            stream = backend.create_stream();
    }
    ~StreamOrderTest() override {
        for (Gate& gate : gates)
            gate.open();
        for (const cudaStream_t stream : streams)
            backend.destroy_stream(stream);
    }

    static PoolOptions options(std::size_t max_bytes) {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.max_bytes = max_bytes;
        made.growth = Growth::exact;
        return made;
    }
    /// The stream writes `value` behind its gate.
    void write_later(std::size_t stream, void* block, unsigned char value, std::size_t bytes) {
        gates[stream].close(backend, streams[stream]);
        backend.fill_async(block, value, bytes, streams[stream]);
    }
    /// Time for work to run that should wait.
    static void give_wrong_order_a_chance() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }
    static bool all(const void* block, unsigned char value, std::size_t bytes) {
        const auto* byte = static_cast<const unsigned char*>(block);
        return byte[0] == value && std::memcmp(byte, byte + 1, bytes - 1) == 0;
    }

    Backend& backend = Backend::get(BackendKind::host);
    std::array<cudaStream_t, 3> streams{};
    std::array<Gate, 3> gates;
};

} // namespace cuda_zstd
