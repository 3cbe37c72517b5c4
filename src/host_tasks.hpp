// SPDX-License-Identifier: MIT
// Functions that a CUDA stream calls on the host in its turn.
// Invariant: an exception of one does not reach the driver; the first is kept until somebody asks for it.
#pragma once

#include "backends.hpp"

#include <cuda_runtime_api.h>

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace cuda_zstd::detail {

/// Of one backend, which lives as long as the process.
class HostTasks {
public:
    /// The driver forbids that the task calls it. Throws cuda_error.
    void launch(cudaStream_t stream, std::function<void()> task) {
        auto call = std::make_unique<Call>(Call{this, std::move(task)});
        check_cuda(cudaLaunchHostFunc(stream, &run, call.get()), "cudaLaunchHostFunc");
        (void)call.release();
    }
    /// Throws what the first task threw since the last time, if one did.
    void rethrow() {
        std::exception_ptr error;
        {
            const std::lock_guard lock(mutex_);
            error = std::exchange(error_, nullptr);
        }
        if (error) std::rethrow_exception(error);
    }

private:
    struct Call {
        HostTasks* tasks;
        std::function<void()> task;
    };
    static void run(void* argument) {
        const std::unique_ptr<Call> call(static_cast<Call*>(argument));
        try {
            call->task();
        } catch (...) {
            const std::lock_guard lock(call->tasks->mutex_);
            if (!call->tasks->error_) call->tasks->error_ = std::current_exception();
        }
    }

    std::mutex mutex_;
    std::exception_ptr error_;
};

} // namespace cuda_zstd::detail
