// SPDX-License-Identifier: MIT
// A soak of the host pool: threads that allocate, use and free blocks on many streams at once.
//
// Invariant: a block is written by a kernel on the stream that it was allocated on, and checked by a kernel right
// before its free, on the stream of the free, behind all work that used it. So a word that is not as its owner left it
// means that the pool gave memory to somebody before the work that used it was done.
#pragma once

#include "cuda_zstd_memory_pool_enhanced.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace cuda_zstd::pool_soak {

/// What word `i` of a block holds.
CUDA_ZSTD_HD inline std::uint32_t word_at(std::uint32_t tag, std::size_t i) {
    return tag ^ (static_cast<std::uint32_t>(i) * 2654435761u);
}

struct Settings {
    double seconds = 2;
    unsigned threads = 8;
    unsigned streams = 8;
    std::uint64_t seed = 1;
    /// Little, so that streams take what others have just freed: with more, a wait that is left out is not seen.
    std::size_t max_bytes = std::size_t{8} << 20;
    std::size_t largest_bytes = std::size_t{256} << 10;
};

struct Counts {
    std::atomic<std::uint64_t> pairs{0};
    std::atomic<std::uint64_t> across_streams{0};
    std::atomic<std::uint64_t> across_threads{0};
    std::atomic<std::uint64_t> refused{0};
    std::atomic<std::uint64_t> short_streams{0};
    std::atomic<std::uint64_t> threads_ended{0};
};

/// One strategy's run.
template <class Launch>
class Soak {
public:
    Soak(const Settings& settings, Strategy strategy, double seconds)
        : settings_(settings), backend_(Launch::backend()), manager_(options(settings, strategy)),
          mismatches_(static_cast<std::uint32_t*>(backend_.allocate_pinned(sizeof(std::uint32_t)))),
          end_(std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                      std::chrono::duration<double>(seconds))) {
        *mismatches_ = 0;
        for (unsigned i = 0; i < settings.streams; ++i) {
            streams_.push_back(backend_.create_stream());
            // Every second one is known to the pool; the others are bare handles.
            registered_.push_back(i % 2 == 0 ? std::make_unique<RegisteredStream>(manager_, streams_.back()) : nullptr);
        }
    }
    ~Soak() {
        registered_.clear();
        for (const cudaStream_t stream : streams_)
            backend_.destroy_stream(stream);
        backend_.free_pinned(mismatches_);
    }
    Soak(const Soak&) = delete;
    Soak& operator=(const Soak&) = delete;

    /// Whether nothing was found.
    bool run(Counts& counts) {
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < settings_.threads; ++t)
            threads.emplace_back([&, t] {
                // Threads come and go, so that what they keep at hand comes home.
                for (std::uint64_t life = 0; !is_over(); ++life)
                    std::thread([&] { work(counts, settings_.seed * 1000003 + life * settings_.threads + t); }).join();
            });
        for (std::thread& thread : threads)
            thread.join();
        while (std::optional<Held> left = take())
            release(*left, left->stream, counts);
        for (const cudaStream_t stream : streams_)
            backend_.synchronize(stream);
        const PoolStatistics s = manager_.statistics();
        manager_.trim();
        const bool clean = *mismatches_ == 0 && failures_ == 0 && s.live_blocks == 0 && manager_.get_pool_size() == 0;
        std::printf(
            "  %-10s %u mismatches, %u errors, %zu blocks left, %zu bytes after trim; %llu growths, %llu waits on "
            "the device, %llu on the host, %.1f %% hits\n",
            to_string(manager_.options().strategy), static_cast<unsigned>(*mismatches_), failures_.load(),
            s.live_blocks, manager_.get_pool_size(), static_cast<unsigned long long>(s.growths),
            static_cast<unsigned long long>(s.device_waits),
            static_cast<unsigned long long>(s.host_waits + s.idle_waits), 100 * hit_rate(s));
        std::fflush(stdout);
        return clean;
    }

private:
    struct Held {
        std::uint32_t* words = nullptr;
        std::size_t count = 0;
        std::uint32_t tag = 0;
        /// Of its last use: an index, or `settled`.
        unsigned stream = 0;
    };
    /// The work that used the block is done.
    static constexpr unsigned settled = ~0u;
    static constexpr unsigned steps_of_a_life = 4000;
    static constexpr std::size_t most_held = 48;

    static PoolOptions options(const Settings& settings, Strategy strategy) {
        PoolOptions made;
        made.backend = Launch::backend().kind();
        made.strategy = strategy;
        made.max_bytes = settings.max_bytes;
        return made;
    }
    static double hit_rate(const PoolStatistics& s) {
        std::uint64_t hits = 0;
        for (const auto& pool : s.pools)
            hits += pool.hits;
        return s.allocations == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(s.allocations);
    }
    bool is_over() const { return std::chrono::steady_clock::now() >= end_ || failures_ != 0; }

    void* allocate(std::size_t bytes, unsigned stream) {
        return registered_[stream] != nullptr ? manager_.try_allocate(bytes, *registered_[stream])
                                              : manager_.try_allocate(bytes, streams_[stream]);
    }
    /// Checks the block on a stream, behind its last use, and frees it there.
    void release(const Held& held, unsigned stream, Counts& counts) {
        if (stream == settled) stream = 0;
        if (held.stream != settled && held.stream != stream) {
            const BackendEvent used = backend_.create_untimed_event();
            backend_.record(used, streams_[held.stream]);
            backend_.wait(streams_[stream], used);
            backend_.destroy_event(used);
            ++counts.across_streams;
        }
        Launch::check(streams_[stream], held.words, held.count, held.tag, mismatches_);
        if (registered_[stream] != nullptr)
            manager_.deallocate(held.words, *registered_[stream]);
        else
            manager_.deallocate(held.words, streams_[stream]);
        ++counts.pairs;
    }
    void hand_over(const Held& held) {
        const std::lock_guard lock(mutex_);
        handed_.push_back(held);
    }
    std::optional<Held> take() {
        const std::lock_guard lock(mutex_);
        if (handed_.empty()) return std::nullopt;
        const Held held = handed_.front();
        handed_.pop_front();
        return held;
    }

    void work(Counts& counts, std::uint64_t seed) noexcept {
        std::vector<Held> held;
        try {
            live(counts, seed, held);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "pool soak: %s\n", error.what());
            ++failures_;
        }
        // Its blocks are others' now.
        for (const Held& left : held)
            hand_over(left);
        ++counts.threads_ended;
    }

    void live(Counts& counts, std::uint64_t seed, std::vector<Held>& held) {
        std::mt19937_64 random(seed);
        const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
        const auto drop_one = [&](std::size_t at) {
            const Held block = std::exchange(held[at], held.back());
            held.pop_back();
            // One in four is freed on another stream than it was used on.
            release(block, below(4) == 0 ? static_cast<unsigned>(below(streams_.size())) : block.stream, counts);
        };
        for (unsigned step = 0; step < steps_of_a_life && !is_over(); ++step) {
            const std::size_t draw = below(100);
            if (draw < 50 && held.size() < most_held) {
                // Sizes of all magnitudes.
                const std::size_t bytes = 4 + below(std::size_t{4} << below(1 + magnitudes()));
                const auto stream = static_cast<unsigned>(below(streams_.size()));
                auto* words = static_cast<std::uint32_t*>(allocate(bytes, stream));
                if (words == nullptr) {
                    ++counts.refused;
                    while (held.size() > most_held / 4)
                        drop_one(below(held.size()));
                    continue;
                }
                const Held block{words, bytes / sizeof(std::uint32_t), static_cast<std::uint32_t>(random()), stream};
                Launch::write(streams_[stream], block.words, block.count, block.tag);
                held.push_back(block);
            } else if (draw < 90) {
                if (!held.empty()) drop_one(below(held.size()));
            } else if (draw < 94) {
                if (!held.empty()) {
                    hand_over(held.back());
                    held.pop_back();
                    ++counts.across_threads;
                }
            } else if (draw < 98) {
                if (const std::optional<Held> other = take()) held.push_back(*other);
            } else if (step % 512 == 0) {
                manager_.trim();
            } else if (step % 64 == 0) {
                short_stream(counts, random, held);
            }
            // Bounds what waits in the queues.
            if (step % 64 == 63) backend_.synchronize(streams_[below(streams_.size())]);
        }
    }

    unsigned magnitudes() const {
        unsigned count = 0;
        while ((std::size_t{4} << (count + 1)) <= settings_.largest_bytes)
            ++count;
        return count;
    }

    /// A stream that comes and goes, whose handle the next one may get.
    void short_stream(Counts& counts, std::mt19937_64& random, std::vector<Held>& held) {
        const cudaStream_t stream = backend_.create_stream();
        for (unsigned i = 0; i < 4; ++i) {
            const std::size_t bytes = 4 + random() % 65536;
            auto* words = static_cast<std::uint32_t*>(manager_.try_allocate(bytes, stream));
            if (words == nullptr) continue;
            const Held block{words, bytes / sizeof(std::uint32_t), static_cast<std::uint32_t>(random()), settled};
            Launch::write(stream, block.words, block.count, block.tag);
            if (i == 0) {
                // It outlives its stream, whose end waits for its work.
                held.push_back(block);
                continue;
            }
            Launch::check(stream, block.words, block.count, block.tag, mismatches_);
            manager_.deallocate(block.words, stream);
            ++counts.pairs;
        }
        backend_.destroy_stream(stream);
        ++counts.short_streams;
    }

    const Settings settings_;
    Backend& backend_;
    MemoryPoolManager manager_;
    std::uint32_t* mismatches_;
    const std::chrono::steady_clock::time_point end_;
    std::vector<cudaStream_t> streams_;
    std::vector<std::unique_ptr<RegisteredStream>> registered_;
    std::mutex mutex_;
    std::deque<Held> handed_;
    std::atomic<unsigned> failures_{0};
};

/// Exit code 0: nothing was found; 1: something was; 77: the backend is not there.
template <class Launch>
int soak_main(int argc, char** argv, Settings settings) {
    CLI::App app{"Threads use blocks of the host pool on many streams until a block is not as its owner left it"};
    app.add_option("--seconds", settings.seconds, "of all strategies together")->capture_default_str();
    app.add_option("--threads", settings.threads)->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--streams", settings.streams)->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--seed", settings.seed)->capture_default_str();
    app.add_option("--max-bytes", settings.max_bytes, "limit of the pool")->capture_default_str();
    app.add_option("--largest", settings.largest_bytes, "largest block")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (!Launch::available()) {
        std::fprintf(stderr, "pool soak: no device of this backend\n");
        return 77;
    }
    try {
        std::printf("pool soak: %s; %u threads x %u streams, seed %llu\n", Launch::backend().description().c_str(),
                    settings.threads, settings.streams, static_cast<unsigned long long>(settings.seed));
        Counts counts;
        bool clean = true;
        for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated})
            clean &= Soak<Launch>(settings, strategy, settings.seconds / 3).run(counts);
        std::printf(
            "pool soak: %llu pairs, %llu across streams, %llu across threads, %llu refused, %llu short streams, "
            "%llu threads ended; %s\n",
            static_cast<unsigned long long>(counts.pairs), static_cast<unsigned long long>(counts.across_streams),
            static_cast<unsigned long long>(counts.across_threads), static_cast<unsigned long long>(counts.refused),
            static_cast<unsigned long long>(counts.short_streams),
            static_cast<unsigned long long>(counts.threads_ended), clean ? "clean" : "FAULTS");
        return clean ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pool soak: %s\n", error.what());
        return 1;
    }
}

} // namespace cuda_zstd::pool_soak
