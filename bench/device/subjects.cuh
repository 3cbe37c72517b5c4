// SPDX-License-Identifier: MIT
// What a subject is to the kernels, and how its file registers it.
//
// A subject is one file in subjects/: a class as below, and a line `const bench::Registered<Class> registered;`.
//
//     class Example : public bench::SubjectDefaults {
//     public:
//         static constexpr const char* name = "example";
//         using Ref = ...;                       // goes by value into kernels:
//                                                //   __device__ void* allocate(std::size_t bytes) const;  null: full
//                                                //   __device__ void deallocate(void* block) const;
//         explicit Example(std::size_t heap_bytes); // a heap of that size, ready for kernels of any stream
//         Ref ref() const;
//         void reset(cudaStream_t stream);       // where `frees` is false: forgets all blocks, in stream order; else
//         nothing std::size_t payload_bytes() const;     // the heap less its metadata
//     };
//
// Invariant: a workload uses nothing else of a subject, so each is measured in the same way.
#pragma once

#include "measure.hpp"
#include "subject.hpp"
#include "workloads/churn.cuh"
#include "workloads/fill.cuh"
#include "workloads/scratch.cuh"
#include "workloads/set_up.cuh"
#include "workloads/uniform.cuh"

namespace bench {

struct SubjectDefaults {
    static constexpr Role role = Role::other;
    /// Whether deallocate gives memory back; a floor forgets all of it in reset().
    static constexpr bool frees = true;
    static constexpr unsigned iterations = 20;
    static constexpr double limit_seconds = 10;
    static constexpr Processes processes = Processes::shared;
    /// Whether a process can have one heap after the other.
    static constexpr bool many_heaps = true;
    /// Whether it has W10 alone.
    static constexpr bool scratch_only = false;
    /// What a request of `bytes` takes, at least.
    static constexpr std::size_t class_bytes(std::size_t bytes) { return (bytes + 15) / 16 * 16; }
};

template <class S>
bool has_case(const Case& c) {
    if (S::scratch_only) return c.workload == Workload::scratch;
    switch (c.workload) {
    case Workload::churn:
    case Workload::spread:
    case Workload::reuse:
    case Workload::scratch:
        return S::frees;
    case Workload::registers:
        return S::frees || c.count == 0;
    default:
        return true;
    }
}

template <class S>
bool run_case(const Case& c) {
    const Cell cell(S::name, c.name, S::iterations, S::limit_seconds);
    if constexpr (S::scratch_only) {
        return run_scratch<S>(cell, c);
    } else {
        switch (c.workload) {
        case Workload::uniform:
        case Workload::mixed:
        case Workload::lane:
        case Workload::scaling:
        case Workload::large:
            return run_uniform<S>(cell, c);
        case Workload::fill:
            return run_fill<S>(cell, c);
        case Workload::init:
            return run_init<S>(cell, c);
        case Workload::registers:
            return run_registers<S>(cell, c);
        default:
            break;
        }
        if constexpr (S::frees) {
            switch (c.workload) {
            case Workload::churn:
                return run_churn<S>(cell, c);
            case Workload::spread:
                return run_spread<S>(cell, c);
            case Workload::reuse:
                return run_reuse<S>(cell, c);
            default:
                return run_scratch<S>(cell, c);
            }
        }
        return cell.fail("is no case of this subject");
    }
}

/// One object of this type, at namespace scope, makes the class a subject.
template <class S>
struct Registered {
    Registered() { add_subject({S::name, S::role, S::processes, S::limit_seconds, has_case<S>, run_case<S>}); }
};

} // namespace bench
