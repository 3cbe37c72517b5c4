// SPDX-License-Identifier: MIT
#include "host_executor.hpp"

#include "cuda_zstd/host/error.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace cuda_zstd::detail {

HostExecutor::HostExecutor(unsigned threads) {
    threads_.reserve(threads);
    for (unsigned i = 0; i < threads; ++i)
        threads_.emplace_back([this, i] { work(i); });
}

HostExecutor::~HostExecutor() {
    {
        std::unique_lock lock(mutex_);
        point_done_.wait(lock, [this] {
            return std::all_of(queues_.begin(), queues_.end(),
                               [](const auto& entry) { return entry.second->tasks.empty(); });
        });
        stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& thread : threads_)
        thread.join();
}

HostQueue* HostExecutor::create_queue() {
    auto queue = std::make_unique<HostQueue>();
    HostQueue* handle = queue.get();
    const std::lock_guard lock(mutex_);
    queue->id = next_id_++;
    queues_.emplace(handle, std::move(queue));
    return handle;
}

void HostExecutor::destroy_queue(HostQueue* queue) {
    std::exception_ptr error;
    try {
        synchronize(queue);
    } catch (const usage_error&) {
        throw;
    } catch (...) {
        error = std::current_exception();
    }
    {
        const std::lock_guard lock(mutex_);
        if (!checked(queue).tasks.empty())
            throw usage_error("a stream is destroyed while another thread gives it work");
        queues_.erase(queue);
    }
    if (error) std::rethrow_exception(error);
}

HostQueue& HostExecutor::checked(HostQueue* queue) {
    if (!queues_.contains(queue))
        throw usage_error("stream handle " + std::to_string(reinterpret_cast<std::uintptr_t>(queue)) +
                          " is no stream of the host backend, or was destroyed");
    return *queue;
}

std::uint64_t HostExecutor::id(HostQueue* queue) {
    const std::lock_guard lock(mutex_);
    return checked(queue).id;
}

bool HostExecutor::has(HostQueue* queue) {
    const std::lock_guard lock(mutex_);
    return queues_.contains(queue);
}

void HostExecutor::run(HostQueue* queue, unsigned blocks, std::function<void(unsigned, unsigned)> run) {
    if (blocks == 0) return;
    auto task = std::make_shared<HostTask>();
    task->run = std::move(run);
    task->blocks = blocks;
    const std::lock_guard lock(mutex_);
    add(checked(queue), std::move(task));
}

std::shared_ptr<HostPoint> HostExecutor::mark(HostQueue* queue) {
    const std::lock_guard lock(mutex_);
    return mark_locked(checked(queue));
}

std::shared_ptr<HostPoint> HostExecutor::mark_locked(HostQueue& queue) {
    auto point = std::make_shared<HostPoint>();
    if (queue.tasks.empty()) {
        point->done = true;
        point->time = std::chrono::steady_clock::now();
        return point;
    }
    auto task = std::make_shared<HostTask>();
    task->mark = point;
    add(queue, std::move(task));
    return point;
}

void HostExecutor::wait(HostQueue* queue, std::shared_ptr<HostPoint> point) {
    const std::lock_guard lock(mutex_);
    HostQueue& waiting = checked(queue);
    if (point == nullptr || point->done) return;
    auto task = std::make_shared<HostTask>();
    task->wait = std::move(point);
    add(waiting, std::move(task));
}

bool HostExecutor::is_done(const HostPoint& point) {
    const std::lock_guard lock(mutex_);
    return point.done;
}

void HostExecutor::wait_done(const HostPoint& point) {
    std::unique_lock lock(mutex_);
    point_done_.wait(lock, [&] { return point.done; });
}

void HostExecutor::synchronize(HostQueue* queue) {
    std::exception_ptr error;
    {
        std::unique_lock lock(mutex_);
        const auto point = mark_locked(checked(queue));
        point_done_.wait(lock, [&] { return point->done; });
        if (queues_.contains(queue)) error = std::exchange(queue->error, nullptr);
    }
    if (error) std::rethrow_exception(error);
}

void HostExecutor::wait_idle() {
    std::unique_lock lock(mutex_);
    std::vector<std::shared_ptr<HostPoint>> points;
    for (const auto& [handle, queue] : queues_)
        points.push_back(mark_locked(*queue));
    for (const auto& point : points)
        point_done_.wait(lock, [&] { return point->done; });
}

void HostExecutor::synchronize() {
    wait_idle();
    std::exception_ptr error;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [handle, queue] : queues_) {
            std::exception_ptr thrown = std::exchange(queue->error, nullptr);
            if (!error) error = std::move(thrown);
        }
    }
    if (error) std::rethrow_exception(error);
}

void HostExecutor::add(HostQueue& queue, std::shared_ptr<HostTask> task) {
    queue.tasks.push_back(std::move(task));
    if (queue.tasks.size() == 1) advance(queue);
}

/// Looks at the first task of the queue: what needs no thread is done here, a kernel is listed for the threads.
void HostExecutor::advance(HostQueue& queue) {
    std::vector<HostQueue*> todo{&queue};
    bool points_done = false;
    while (!todo.empty()) {
        HostQueue& current = *todo.back();
        if (current.tasks.empty()) {
            todo.pop_back();
            points_done = true;
            continue;
        }
        HostTask& task = *current.tasks.front();
        if (task.blocks != 0) {
            todo.pop_back();
            if (std::exchange(task.listed, true)) continue;
            ready_.push_back(&current);
            if (task.blocks == 1)
                work_ready_.notify_one();
            else
                work_ready_.notify_all();
        } else if (task.mark != nullptr) {
            const std::shared_ptr<HostPoint> point = task.mark;
            current.tasks.pop_front();
            point->done = true;
            point->time = std::chrono::steady_clock::now();
            points_done = true;
            todo.insert(todo.end(), point->waiters.begin(), point->waiters.end());
            point->waiters.clear();
        } else if (task.wait->done) {
            current.tasks.pop_front();
        } else {
            todo.pop_back();
            // A queue has one first task, so it is in at most one list of waiters, once.
            if (!std::exchange(task.listed, true)) task.wait->waiters.push_back(&current);
        }
    }
    if (points_done) point_done_.notify_all();
}

void HostExecutor::work(unsigned processor) {
    std::unique_lock lock(mutex_);
    for (;;) {
        work_ready_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
        if (ready_.empty()) return;
        HostQueue& queue = *ready_.front();
        // The next thread looks at the next queue first, so kernels of several queues share the threads.
        ready_.pop_front();
        ready_.push_back(&queue);
        std::shared_ptr<HostTask> task = queue.tasks.front();
        ++task->running_threads;
        lock.unlock();

        std::exception_ptr error;
        for (;;) {
            const unsigned block = task->next_block.fetch_add(1, std::memory_order_relaxed);
            if (block >= task->blocks) break;
            try {
                task->run(block, processor);
            } catch (...) {
                if (!error) error = std::current_exception();
            }
        }

        lock.lock();
        if (error && !queue.error) queue.error = error;
        std::erase(ready_, &queue);
        if (--task->running_threads == 0) {
            queue.tasks.pop_front();
            advance(queue);
        }
        // What the task holds may have a destructor that calls in here.
        lock.unlock();
        task.reset();
        lock.lock();
    }
}

} // namespace cuda_zstd::detail
