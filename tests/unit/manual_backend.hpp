// SPDX-License-Identifier: MIT
// A backend whose streams go on only when the test says so.
// Invariant: an event is complete when its stream was advanced to the count that it had when the event was recorded. A
// wait is work of the waiting stream that is done only when the event is: advancing past it advances the other stream.
#pragma once

#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace cuda_zstd::detail {

class ManualBackend : public Backend {
public:
    explicit ManualBackend(unsigned streams) : submitted_(streams + 1), completed_(streams + 1), waits_(streams + 1) {}

    /// Streams are 1 to `streams`, and their ids are the same numbers.
    static cudaStream_t handle(std::uint64_t id) { return reinterpret_cast<cudaStream_t>(id); }
    /// More work in the stream; its number.
    std::uint64_t submit(std::uint64_t id) { return ++submitted_.at(id); }
    void advance(std::uint64_t id, std::uint64_t to) {
        to = std::min(to, submitted_.at(id));
        if (to <= completed_.at(id)) return;
        completed_.at(id) = to;
        for (const Wait& wait : waits_.at(id))
            if (wait.number <= to) advance(wait.on_stream, wait.on_number);
    }
    /// Raises `done`, which is indexed by stream, to all that is done when the stream has done `number`.
    template <class Done>
    void close_over(Done& done, std::uint64_t id, std::uint64_t number) const {
        if (number <= done.at(id)) return;
        done.at(id) = number;
        for (const Wait& wait : waits_.at(id))
            if (wait.number <= number) close_over(done, wait.on_stream, wait.on_number);
    }
    std::uint64_t submitted(std::uint64_t id) const { return submitted_.at(id); }
    std::uint64_t completed(std::uint64_t id) const { return completed_.at(id); }
    /// The number of the work that a ticket's event covers.
    static std::uint64_t covered(BackendEvent event) { return get(event).number; }

    BackendKind kind() const noexcept override { return BackendKind::host; }
    std::string description() const override { return "manual"; }
    unsigned processors() const noexcept override { return 1; }
    std::size_t free_memory_bytes() const override { return 0; }
    cudaStream_t create_stream() override { unused(); }
    void destroy_stream(cudaStream_t) override { unused(); }
    void synchronize(cudaStream_t) override { unused(); }
    void synchronize() override { completed_ = submitted_; }
    void wait_idle() override { completed_ = submitted_; }
    std::uint64_t stream_id(cudaStream_t stream) override { return reinterpret_cast<std::uint64_t>(stream); }
    bool is_capturing(cudaStream_t) override { return false; }
    BackendEvent create_event() override { return {new Event}; }
    BackendEvent create_untimed_event() override { return {new Event}; }
    void destroy_event(BackendEvent event) noexcept override { delete static_cast<Event*>(event.handle); }
    void record(BackendEvent event, cudaStream_t stream) override {
        const std::uint64_t id = stream_id(stream);
        get(event) = {id, submitted_.at(id)};
    }
    bool is_complete(BackendEvent event) override { return get(event).number <= completed_.at(get(event).stream_id); }
    void wait(cudaStream_t stream, BackendEvent event) override {
        const std::uint64_t id = stream_id(stream);
        waits_.at(id).push_back({submit(id), get(event).stream_id, get(event).number});
        ++waits;
    }
    void synchronize(BackendEvent event) override { advance(get(event).stream_id, get(event).number); }
    float elapsed_ms(BackendEvent, BackendEvent) override { unused(); }
    void copy_async(void*, const void*, std::size_t, cudaStream_t) override { unused(); }
    void fill_async(void*, unsigned char, std::size_t, cudaStream_t) override { unused(); }
    void host_task(cudaStream_t, std::function<void()>) override { unused(); }
    void run_blocks(cudaStream_t, unsigned, std::function<void(unsigned, unsigned)>) override { unused(); }
    void* allocate_pinned(std::size_t) override { unused(); }
    void free_pinned(void*) noexcept override {}

    unsigned waits = 0;

private:
    struct Event {
        std::uint64_t stream_id = 1;
        std::uint64_t number = 0;
    };
    struct Wait {
        std::uint64_t number = 0;
        std::uint64_t on_stream = 0;
        std::uint64_t on_number = 0;
    };
    static Event& get(BackendEvent event) { return *static_cast<Event*>(event.handle); }
    [[noreturn]] static void unused() { throw std::logic_error("the manual backend does not do this"); }

    std::vector<std::uint64_t> submitted_;
    std::vector<std::uint64_t> completed_;
    std::vector<std::vector<Wait>> waits_;
};

} // namespace cuda_zstd::detail
