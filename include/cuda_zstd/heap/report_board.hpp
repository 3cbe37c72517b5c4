// SPDX-License-Identifier: MIT
// Reports in pinned memory: written by a kernel, read by the host with no synchronization.
//
// Invariant: report number n lies in place n mod 4, and `latest` becomes n when all of it is there. One report is
// written at a time, so the place of n is written again only after `latest` has become n + 3: a reader that finds
// `latest` below that after its copy has copied one whole report. A reader is never kept waiting by a writer that has
// stopped half-way, and repeats only when three reports came while it copied one.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/heap/heap_report.hpp"

#include <cstdint>
#include <cstring>

namespace cuda_zstd {

struct ReportBoard {
    static constexpr std::uint32_t places = 4;
    static constexpr std::uint32_t report_words = sizeof(HeapReport) / sizeof(std::uint64_t);

    Atom<std::uint64_t> latest; ///< number of the last report that is whole; 0: none
    Atom<std::uint64_t> words[places][report_words];

    /// The share of one of `workers` in writing a report, which all of them see; then, behind a barrier of all, one of
    /// them calls `announce`. Cost: stores to memory of the host, none of which waits for another.
    template <class Env>
    CUDA_ZSTD_HD void put(Env& env, const HeapReport& report, std::uint32_t worker, std::uint32_t workers) {
        auto* const from = reinterpret_cast<const char*>(&report);
        for (std::uint32_t index = worker; index < report_words; index += workers) {
            std::uint64_t word;
            memcpy(&word, from + index * sizeof word, sizeof word);
            env.put_for_host(words[report.sequence % places][index], word);
        }
    }
    template <class Env>
    CUDA_ZSTD_HD void announce(Env& env, std::uint64_t sequence) {
        env.store_for_host(latest, sequence);
    }

    /// The last report that is whole; all zero before the first. By the host. Cost: a load for each word.
    template <class Env>
    HeapReport read(Env& env) const {
        HeapReport report;
        std::uint64_t copy[report_words];
        for (std::uint64_t number = env.load(latest, Order::acquire); number != 0;) {
            for (std::uint32_t index = 0; index < report_words; ++index)
                copy[index] = env.load(words[number % places][index], Order::acquire);
            const std::uint64_t now = env.load(latest, Order::acquire);
            if (now < number + places - 1) {
                std::memcpy(&report, copy, sizeof report);
                break;
            }
            number = now;
        }
        return report;
    }
};

} // namespace cuda_zstd
