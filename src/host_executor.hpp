// SPDX-License-Identifier: MIT
// Queues that run in order on a pool of threads: the streams of the host backend.
//
// Invariant: at most one task of a queue runs at a time, and tasks start in the order they were added. A thread of
// the pool takes up work only when it can run: waits between queues are kept in the queues, never in a thread, so no
// set of waits can exhaust the threads. One mutex guards all state; blocks of a running kernel are claimed without it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace cuda_zstd::detail {

struct HostQueue;

/// A point in a queue's work; done once the work before it is.
struct HostPoint {
    bool done = false;
    std::chrono::steady_clock::time_point time;
    std::vector<HostQueue*> waiters;
};

/// One entry of a queue: a kernel of `blocks` blocks, or (with blocks == 0) a point to mark or to wait for.
struct HostTask {
    std::function<void(unsigned block, unsigned processor)> run;
    unsigned blocks = 0;
    std::atomic<unsigned> next_block{0};
    unsigned running_threads = 0;
    bool listed = false;
    std::shared_ptr<HostPoint> mark;
    std::shared_ptr<HostPoint> wait;
};

struct HostQueue {
    std::uint64_t id = 0;
    std::deque<std::shared_ptr<HostTask>> tasks;
    std::exception_ptr error;
};

class HostExecutor {
public:
    explicit HostExecutor(unsigned threads);
    /// Waits for all queues.
    ~HostExecutor();
    HostExecutor(const HostExecutor&) = delete;
    HostExecutor& operator=(const HostExecutor&) = delete;

    unsigned threads() const noexcept { return static_cast<unsigned>(threads_.size()); }

    HostQueue* create_queue();
    void destroy_queue(HostQueue* queue);
    /// Throws `usage_error` for a handle that is no queue of this executor (any more).
    std::uint64_t id(HostQueue* queue);
    bool has(HostQueue* queue);

    /// Adds a kernel; an exception that leaves a block is kept for `synchronize`.
    void run(HostQueue* queue, unsigned blocks, std::function<void(unsigned, unsigned)> run);
    /// A point after all that is in the queue; done at once when the queue is empty.
    std::shared_ptr<HostPoint> mark(HostQueue* queue);
    /// Later tasks of the queue start only when the point is done.
    void wait(HostQueue* queue, std::shared_ptr<HostPoint> point);
    bool is_done(const HostPoint& point);
    void wait_done(const HostPoint& point);
    /// Waits for what is in the queue, then throws what its tasks have thrown.
    void synchronize(HostQueue* queue);
    void synchronize();
    /// Waits for what is in all queues and throws nothing.
    void wait_idle();

private:
    HostQueue& checked(HostQueue* queue);
    std::shared_ptr<HostPoint> mark_locked(HostQueue& queue);
    void add(HostQueue& queue, std::shared_ptr<HostTask> task);
    void advance(HostQueue& queue);
    void work(unsigned processor);

    std::mutex mutex_;
    std::condition_variable work_ready_;
    std::condition_variable point_done_;
    std::unordered_map<HostQueue*, std::unique_ptr<HostQueue>> queues_;
    /// Queues whose first task is a kernel with blocks that nobody has claimed.
    std::deque<HostQueue*> ready_;
    /// No two queues of the process have the same.
    static inline std::atomic<std::uint64_t> next_id_{1};
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

} // namespace cuda_zstd::detail
