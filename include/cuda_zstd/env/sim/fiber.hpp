// SPDX-License-Identifier: MIT
// Fibers for the simulator: one stack for each simulated lane, and the switch between two stacks.
// Invariant: exactly one fiber runs; a fiber that is dropped is never unwound, its stack is simply used again.
//
// The switch is written out here because a failed schedule must be abandoned in the middle of code that may be
// noexcept: Boost.Context unwinds a dropped fiber by an exception, and ucontext makes a system call for each switch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_ZSTD_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_ZSTD_SIM_ASAN 1
#endif
#endif
#if defined(CUDA_ZSTD_SIM_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/// Saves the callee-saved registers of the running stack, leaves its stack pointer in `*save`, and goes on at `load`.
/// Written outside of any function, so that no compiler looks into it and takes it for one that touches no memory.
extern "C" void cuda_zstd_sim_switch_stack(void** save, void* load);
__asm__(".pushsection .text.cuda_zstd_sim_switch_stack, \"axG\", @progbits, cuda_zstd_sim_switch_stack, comdat\n"
        ".weak cuda_zstd_sim_switch_stack\n"
        ".type cuda_zstd_sim_switch_stack, @function\n"
        "cuda_zstd_sim_switch_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size cuda_zstd_sim_switch_stack, . - cuda_zstd_sim_switch_stack\n"
        ".popsection\n");

namespace cuda_zstd::sim {

/// Where a stack stopped. The one of the thread that runs the simulator needs no `reset`.
class Fiber {
public:
    /// Makes the fiber start at `entry`, which must not return, on the stack [low, low + bytes).
    void reset(std::byte* low, std::size_t bytes, void (*entry)()) noexcept {
#if defined(CUDA_ZSTD_SIM_ASAN)
        __asan_unpoison_memory_region(low, bytes); // what a dropped fiber left
#endif
        auto* top = reinterpret_cast<std::uint64_t*>(low + bytes);
        *--top = 0; // the return address of `entry`: a backtrace ends here
        *--top = reinterpret_cast<std::uint64_t>(entry);
        for (int saved_register = 0; saved_register < 6; ++saved_register)
            *--top = 0;
        stack_pointer_ = top;
        low_ = low;
        bytes_ = bytes;
        fake_stack_ = nullptr;
    }

    /// Stops `from`, the running fiber, and goes on with `to`.
    static void switch_to(Fiber& from, Fiber& to) noexcept {
#if defined(CUDA_ZSTD_SIM_ASAN)
        __sanitizer_start_switch_fiber(&from.fake_stack_, to.low_, to.bytes_);
        cuda_zstd_sim_switch_stack(&from.stack_pointer_, to.stack_pointer_);
        __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#else
        cuda_zstd_sim_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#endif
    }

    /// Call first in a fiber that was reset; `home` is the fiber of the thread, whose stack is learned here.
    static void entered([[maybe_unused]] Fiber& home) noexcept {
#if defined(CUDA_ZSTD_SIM_ASAN)
        const void* low = nullptr;
        std::size_t bytes = 0;
        __sanitizer_finish_switch_fiber(nullptr, &low, &bytes);
        if (home.low_ == nullptr) {
            home.low_ = static_cast<std::byte*>(const_cast<void*>(low));
            home.bytes_ = bytes;
        }
#endif
    }

private:
    void* stack_pointer_ = nullptr;
    void* fake_stack_ = nullptr;
    std::byte* low_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Stacks of one size, each with a page below it that faults. Throws std::bad_alloc.
class FiberStacks {
public:
    explicit FiberStacks(std::size_t count) : count_(count) {
        void* memory = mmap(nullptr, count_ * stride_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        memory_ = static_cast<std::byte*>(memory);
        for (std::size_t i = 0; i < count_; ++i)
            mprotect(memory_ + i * stride_bytes, guard_bytes, PROT_NONE);
    }
    FiberStacks(const FiberStacks&) = delete;
    FiberStacks& operator=(const FiberStacks&) = delete;
    ~FiberStacks() {
#if defined(CUDA_ZSTD_SIM_ASAN)
        __asan_unpoison_memory_region(memory_, count_ * stride_bytes); // the next mapping here is somebody else's
#endif
        munmap(memory_, count_ * stride_bytes);
    }

    std::byte* low(std::size_t index) const noexcept { return memory_ + index * stride_bytes + guard_bytes; }
    /// Usable bytes of a stack: they differ a little, so that the tops do not all fall into the same cache sets.
    std::size_t bytes(std::size_t index) const noexcept { return stride_bytes - guard_bytes - index % 32 * 448; }

private:
    static constexpr std::size_t stride_bytes = 256 * 1024;
    static constexpr std::size_t guard_bytes = 4096;
    std::size_t count_;
    std::byte* memory_ = nullptr;
};

} // namespace cuda_zstd::sim
