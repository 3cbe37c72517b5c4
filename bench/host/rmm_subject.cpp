// SPDX-License-Identifier: MIT
// Built by setup_rmm.sh, never by the project's own build.
#include "rmm_subject.h"

#include <rmm/aligned.hpp>
#include <rmm/cuda_stream_view.hpp>
#include <rmm/mr/arena_memory_resource.hpp>
#include <rmm/mr/cuda_async_memory_resource.hpp>
#include <rmm/mr/cuda_memory_resource.hpp>
#include <rmm/mr/pool_memory_resource.hpp>

#include <cuda/memory_resource>

#include <exception>
#include <optional>
#include <string>

namespace {

struct Subject {
    rmm::mr::cuda_memory_resource upstream;
    std::optional<rmm::mr::pool_memory_resource> pool;
    std::optional<rmm::mr::arena_memory_resource> arena;
    std::optional<rmm::mr::cuda_async_memory_resource> async;

    template <class Use>
    decltype(auto) with(Use use) {
        if (pool) return use(*pool);
        if (arena) return use(*arena);
        return use(*async);
    }
};

thread_local std::string last_error;

rmm::cuda_stream_view view(void* stream) { return rmm::cuda_stream_view{static_cast<cudaStream_t>(stream)}; }

} // namespace

extern "C" __attribute__((visibility("default"))) const char* rmm_subject_error(void) { return last_error.c_str(); }

extern "C" __attribute__((visibility("default"))) void* rmm_subject_make(const char* kind, size_t bytes) {
    try {
        const std::string name = kind;
        auto* subject = new Subject;
        const std::size_t held = bytes / 256 * 256;
        if (name == "pool")
            subject->pool.emplace(subject->upstream, held);
        else if (name == "arena")
            subject->arena.emplace(subject->upstream, held);
        else
            subject->async.emplace(held);
        return subject;
    } catch (const std::exception& error) {
        last_error = error.what();
        return nullptr;
    }
}

extern "C" __attribute__((visibility("default"))) void rmm_subject_destroy(void* subject) {
    delete static_cast<Subject*>(subject);
}

extern "C" __attribute__((visibility("default"))) void* rmm_subject_allocate(void* subject, size_t bytes,
                                                                             void* stream) {
    try {
        return static_cast<Subject*>(subject)->with(
            [&](auto& resource) { return resource.allocate(view(stream), bytes, rmm::CUDA_ALLOCATION_ALIGNMENT); });
    } catch (const std::exception& error) {
        last_error = error.what();
        return nullptr;
    }
}

extern "C" __attribute__((visibility("default"))) void rmm_subject_deallocate(void* subject, void* block, size_t bytes,
                                                                              void* stream) {
    static_cast<Subject*>(subject)->with(
        [&](auto& resource) { resource.deallocate(view(stream), block, bytes, rmm::CUDA_ALLOCATION_ALIGNMENT); });
}
