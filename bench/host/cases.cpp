// SPDX-License-Identifier: MIT
#include "cases.hpp"
#include "rounds.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

namespace bench {
namespace {

using cuda_zstd::Backend;
using cuda_zstd::BackendKind;

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;
constexpr std::size_t GiB = 1024 * MiB;

/// Streams of a case, and what the subject knows of them.
class Lanes {
public:
    Lanes(Backend& backend, Subject& subject, unsigned count) : backend_(backend) {
        for (unsigned i = 0; i < count; ++i) {
            streams_.push_back(backend.create_stream());
            lanes_.push_back(subject.lane(streams_.back()));
        }
    }
    ~Lanes() {
        for (const cudaStream_t stream : streams_)
            backend_.synchronize(stream);
        lanes_.clear();
        for (const cudaStream_t stream : streams_)
            backend_.destroy_stream(stream);
    }
    Lanes(const Lanes&) = delete;
    Lanes& operator=(const Lanes&) = delete;
    Lane& operator[](std::size_t index) { return *lanes_[index]; }

private:
    Backend& backend_;
    std::vector<cudaStream_t> streams_;
    std::vector<std::unique_ptr<Lane>> lanes_;
};

/// A block is allocated and freed at once, again and again, by each thread on its own stream: the mean of the threads.
/// A subject whose pairs are slow makes fewer of them.
std::vector<Figure> hit(const Bench& bench, unsigned threads, std::size_t bytes) {
    constexpr unsigned most_pairs = 20000;
    constexpr unsigned fewest_pairs = 100;
    const auto subject = bench.make({std::max(std::size_t{256} * MiB, 4 * threads * bytes), Memory::usable});
    Lanes lanes(bench.backend, *subject, threads);
    // Each thread takes its own time: the one that starts them all may come late to the clock.
    std::vector<std::vector<double>> times(rounds, std::vector<double>(threads));
    std::barrier start(threads);
    std::atomic<unsigned> pairs{most_pairs};
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads; ++t)
        workers.emplace_back([&, t] {
            Lane& lane = lanes[t];
            const auto mean_of = [&](unsigned count) {
                const auto begin = std::chrono::steady_clock::now();
                for (unsigned i = 0; i < count; ++i)
                    subject->deallocate(subject->allocate(bytes, lane), bytes, lane);
                return ns_since(begin) / count;
            };
            (void)mean_of(fewest_pairs);
            start.arrive_and_wait();
            const double most = bench.rounds_s * 1e9 / (rounds + 1) / mean_of(fewest_pairs);
            // As many as the slowest thread can make.
            unsigned own = std::max(fewest_pairs, static_cast<unsigned>(std::min<double>(most, most_pairs)));
            for (unsigned seen = pairs; own < seen && !pairs.compare_exchange_weak(seen, own);) {
            }
            start.arrive_and_wait();
            own = pairs;
            (void)mean_of(own / 10);
            for (unsigned round = 0; round < rounds; ++round) {
                start.arrive_and_wait();
                times[round][t] = mean_of(own);
            }
        });
    for (std::thread& worker : workers)
        worker.join();
    std::vector<double> means;
    for (const std::vector<double>& round : times)
        means.push_back(std::accumulate(round.begin(), round.end(), 0.0) / threads);
    return time_ns(median(means));
}

/// `blocks` live blocks are freed in random order; each thousandth part is timed. A slow subject's frees end with their
/// time, and the rest of its blocks with the process.
std::vector<Figure> free_alone(const Bench& bench, unsigned blocks, std::size_t bytes, Memory memory) {
    const auto subject = bench.make({blocks * bytes + GiB, memory});
    Lanes lanes(bench.backend, *subject, 1);
    std::vector<void*> held(blocks);
    for (void*& block : held)
        block = subject->allocate(bytes, lanes[0]);
    std::mt19937_64 random(1);
    std::shuffle(held.begin(), held.end(), random);
    const unsigned part = blocks / 1000;
    std::vector<double> times;
    const auto first = std::chrono::steady_clock::now();
    unsigned from = 0;
    for (; from + part <= blocks && (subject->frees_all() || ns_since(first) < bench.rounds_s * 1e9); from += part) {
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned i = from; i < from + part; ++i)
            subject->deallocate(held[i], bytes, lanes[0]);
        times.push_back(ns_since(begin) / part);
    }
    for (; subject->frees_all() && from < blocks; ++from)
        subject->deallocate(held[from], bytes, lanes[0]);
    return {{"time", "ns", median(times)}, {"slowest", "ns", *std::max_element(times.begin(), times.end())}};
}

/// Every second of the blocks is freed, so that no two holes meet: from the last one on, since a list in the order of
/// addresses takes them in at its head so, and else minutes. Then each pair frees the block that was allocated 32
/// pairs before, and allocates one of another size that is smaller than a hole: a search, a cut and a merge.
std::vector<Figure> holes(const Bench& bench, unsigned count, std::size_t hole_bytes, Memory memory) {
    const auto subject = bench.make({2 * count * hole_bytes + GiB, memory});
    Lanes lanes(bench.backend, *subject, 1);
    Lane& lane = lanes[0];
    std::mt19937_64 random(2);
    std::vector<std::pair<void*, std::size_t>> held(2 * count);
    for (auto& [block, bytes] : held) {
        bytes = hole_bytes - random() % (hole_bytes / 8);
        block = subject->allocate(bytes, lane);
    }
    for (std::size_t i = held.size(); i != 0; i -= 2)
        subject->deallocate(held[i - 2].first, held[i - 2].second, lane);
    constexpr unsigned pairs = 2000;
    std::array<std::pair<void*, std::size_t>, 32> window{};
    const std::vector<double> times = timed_rounds(bench, [&] {
        std::vector<std::size_t> sizes(pairs);
        for (std::size_t& size : sizes)
            size = hole_bytes / 2 + 1 + random() % (hole_bytes / 4);
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned i = 0; i < pairs; ++i) {
            auto& [block, bytes] = window[i % window.size()];
            if (block != nullptr) subject->deallocate(block, bytes, lane);
            bytes = sizes[i];
            block = subject->allocate(bytes, lane);
        }
        return ns_since(begin) / pairs;
    });
    if (subject->frees_all()) {
        for (const auto& [block, bytes] : window)
            subject->deallocate(block, bytes, lane);
        for (unsigned i = 1; i < held.size(); i += 2)
            subject->deallocate(held[i].first, held[i].second, lane);
    }
    return time_ns(median_after_the_first(times));
}

/// RMM's random_allocations: sizes uniform up to `largest_bytes`, 73 calls of 100 allocate while less than 16,000 MiB
/// are in use, the others free one at random.
constexpr std::size_t random_cap_bytes = 16000 * MiB;

/// The mean of a call in ns: of all, or of those that a slow subject makes in `most_s` seconds.
double random_round(Subject& subject, Lane& lane, unsigned allocations, std::size_t largest_bytes, unsigned seed,
                    double most_s) {
    std::mt19937_64 random(seed);
    std::vector<std::size_t> sizes(allocations);
    for (std::size_t& size : sizes)
        size = 1 + random() % largest_bytes;
    std::vector<std::uint32_t> draws(4 * allocations);
    for (std::uint32_t& draw : draws)
        draw = static_cast<std::uint32_t>(random());
    std::vector<std::pair<void*, std::size_t>> held;
    held.reserve(allocations);
    std::size_t live_bytes = 0;
    std::size_t draw = 0;
    const auto next = [&] { return draws[draw++ % draws.size()]; };
    std::size_t calls = 0;
    const auto begin = std::chrono::steady_clock::now();
    bool in_time = true;
    for (unsigned made = 0; made < allocations && in_time; ++calls) {
        if (calls % 64 == 63) in_time = ns_since(begin) < most_s * 1e9;
        const bool room = live_bytes + sizes[made] <= random_cap_bytes;
        if (held.empty() || (room && next() % 100 < 73)) {
            held.emplace_back(subject.allocate(sizes[made], lane), sizes[made]);
            live_bytes += sizes[made++];
            continue;
        }
        const std::size_t at = next() % held.size();
        subject.deallocate(held[at].first, held[at].second, lane);
        live_bytes -= held[at].second;
        held[at] = held.back();
        held.pop_back();
    }
    const double calls_ns = ns_since(begin);
    for (const auto& [block, bytes] : held)
        subject.deallocate(block, bytes, lane);
    return in_time ? ns_since(begin) / static_cast<double>(calls + held.size()) : calls_ns / static_cast<double>(calls);
}

std::vector<Figure> random_allocations(const Bench& bench, unsigned allocations, std::size_t largest_bytes,
                                       Memory memory) {
    std::vector<Figure> figures;
    {
        const auto subject = bench.make({random_cap_bytes * 5 / 4, memory});
        Lanes lanes(bench.backend, *subject, 1);
        unsigned seed = 0;
        // One round that warms up, and one that counts.
        const double most_s = 2 * bench.rounds_s;
        figures = time_ns(median_after_the_first(timed_rounds(
            bench, [&] { return random_round(*subject, lanes[0], allocations, largest_bytes, ++seed, most_s); })));
    }
    // The peaks are those of a pool that starts with nothing. They are the same with nothing behind the addresses, and
    // what the driver takes for each growth is not to be measured.
    const auto subject = bench.make({0, Memory::addresses});
    if (!subject->peak_ratio()) return figures;
    Lanes lanes(bench.backend, *subject, 1);
    const double no_limit_s = 1e9;
    for (unsigned round = 0; round < rounds; ++round)
        (void)random_round(*subject, lanes[0], allocations, largest_bytes, 1 + round, no_limit_s);
    figures.push_back({"peak", "ratio", *subject->peak_ratio()});
    return figures;
}

/// Memory that a kernel writes to: a part of it, so that the calls are what is measured.
void use(Backend& backend, void* block, std::size_t bytes, cudaStream_t stream) {
    backend.fill_async(block, 1, std::min(bytes, 64 * KiB), stream);
}

/// RMM's multi_stream_allocations: on each stream in turn four buffers, work that uses them, and their frees. Cold: the
/// first time in a pool that holds memory; warm: after that.
std::vector<Figure> multi_stream(const Bench& bench, unsigned streams) {
    constexpr unsigned turns = 256;
    constexpr std::size_t bytes = MiB;
    const auto subject = bench.make({GiB, Memory::usable});
    Lanes lanes(bench.backend, *subject, streams);
    const std::vector<double> times = timed_rounds(bench, [&] {
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned turn = 0; turn < turns; ++turn) {
            Lane& lane = lanes[turn % streams];
            std::array<void*, 4> blocks;
            for (void*& block : blocks)
                block = subject->allocate(bytes, lane);
            for (void* block : blocks)
                use(bench.backend, block, bytes, lane.stream());
            for (void* block : blocks)
                subject->deallocate(block, bytes, lane);
        }
        for (unsigned i = 0; i < streams; ++i)
            bench.backend.synchronize(lanes[i].stream());
        return ns_since(begin) / turns;
    });
    return {{"time", "ns", median_after_the_first(times)}, {"cold", "ns", times.front()}};
}

/// A compressor's job: each 128 KiB block of input takes 13 buffers, work that uses them, and gives them back. The
/// sizes are those that a GPU zstd in the wild reserves: hash and chain tables, matches, costs, sequences, codes,
/// output, literals, copies.
std::vector<Figure> batch(const Bench& bench) {
    constexpr std::array<std::size_t, 13> buffers{MiB, MiB, 2 * MiB, MiB,       MiB,       MiB,      MiB,
                                                  MiB, MiB, MiB,     512 * KiB, 256 * KiB, 260 * KiB};
    constexpr unsigned streams = 4;
    constexpr unsigned inputs = 64;
    const auto subject = bench.make({GiB, Memory::usable});
    Lanes lanes(bench.backend, *subject, streams);
    const std::vector<double> times = timed_rounds(bench, [&] {
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned input = 0; input < inputs; ++input) {
            Lane& lane = lanes[input % streams];
            std::array<void*, buffers.size()> blocks;
            for (std::size_t i = 0; i < buffers.size(); ++i)
                blocks[i] = subject->allocate(buffers[i], lane);
            for (std::size_t i = 0; i < buffers.size(); ++i)
                use(bench.backend, blocks[i], buffers[i], lane.stream());
            for (std::size_t i = 0; i < buffers.size(); ++i)
                subject->deallocate(blocks[i], buffers[i], lane);
        }
        for (unsigned i = 0; i < streams; ++i)
            bench.backend.synchronize(lanes[i].stream());
        return ns_since(begin);
    });
    return time_ns(median_after_the_first(times));
}

/// What a trim of 10,000 cached blocks takes with a source that does nothing: no call of the driver is in it.
std::vector<Figure> trim(const Bench& bench, unsigned blocks) {
    const std::vector<double> times = timed_rounds(bench, [&] {
        const auto subject = bench.make({blocks * 2 * MiB, Memory::addresses});
        Lanes lanes(bench.backend, *subject, 1);
        std::vector<void*> held(blocks);
        for (void*& block : held)
            block = subject->allocate(MiB + 1, lanes[0]);
        for (void* block : held)
            subject->deallocate(block, MiB + 1, lanes[0]);
        bench.backend.synchronize(lanes[0].stream());
        const auto begin = std::chrono::steady_clock::now();
        subject->trim();
        return ns_since(begin);
    });
    return time_ns(median_after_the_first(times));
}

} // namespace

std::vector<Case> all_cases(const Backend& backend) {
    // Without a GPU the pools' memory is not written to, so addresses are as good.
    const Memory memory = backend.kind() == BackendKind::cuda ? Memory::usable : Memory::addresses;
    using enum Scale;
    constexpr Memory none = Memory::addresses;
    std::vector<Case> cases{
        {"steps", true, usual, "machine", single_steps},
        {"hit/1", true, usual, "", [](const Bench& b) { return hit(b, 1, 4 * KiB); }},
        {"hit/16", true, usual, "", [](const Bench& b) { return hit(b, 16, 4 * KiB); }},
        {"hit/1/4MiB", false, usual, "", [](const Bench& b) { return hit(b, 1, 4 * MiB); }},
        {"hit/16/4MiB", false, usual, "", [](const Bench& b) { return hit(b, 16, 4 * MiB); }},
        {"holes/4096", true, usual, "", [=](const Bench& b) { return holes(b, 4096, 128 * KiB, memory); }},
        {"multi/4", true, usual, "", [](const Bench& b) { return multi_stream(b, 4); }},
        {"batch", true, usual, "", batch},
        {"random/10000/64MiB", true, usual, "",
         [=](const Bench& b) { return random_allocations(b, 10000, 64 * MiB, memory); }},
        {"holes/65536", true, many_blocks, "", [=](const Bench& b) { return holes(b, 65536, 128 * KiB, memory); }},
        {"free/1000000", true, many_blocks, "", [=](const Bench& b) { return free_alone(b, 1000000, 256, memory); }},
        {"holes/1000/addresses", true, usual, "ours", [](const Bench& b) { return holes(b, 1000, 2 * MiB, none); }},
        {"trim/10000", true, usual, "ours", [](const Bench& b) { return trim(b, 10000); }},
        {"metadata/256", true, usual, "ours", [](const Bench& b) { return metadata(b, 100000, 256); }},
        {"metadata/4096", true, usual, "ours", [](const Bench& b) { return metadata(b, 100000, 4 * KiB); }},
        {"metadata/128KiB", true, usual, "ours", [](const Bench& b) { return metadata(b, 20000, 128 * KiB); }},
        {"metadata/2MiB", true, usual, "ours", [](const Bench& b) { return metadata(b, 20000, 2 * MiB); }},
        {"holes/1000000/addresses", true, many_blocks, "ours",
         [](const Bench& b) { return holes(b, 1000000, 2 * MiB, none); }},
        {"free/1000000/128KiB", false, many_blocks, "ours",
         [](const Bench& b) { return free_alone(b, 1000000, 128 * KiB, none); }},
        {"multi/1", false, usual, "", [](const Bench& b) { return multi_stream(b, 1); }},
        {"multi/2", false, usual, "", [](const Bench& b) { return multi_stream(b, 2); }},
    };
    for (const unsigned allocations : {1000u, 10000u, 100000u})
        for (const std::size_t largest : {1u, 4u, 64u, 256u, 1024u, 4096u}) {
            if (allocations == 10000 && largest == 64) continue; // is there already
            cases.push_back(
                {"random/" + std::to_string(allocations) + "/" + std::to_string(largest) + "MiB", false, usual, "",
                 [=](const Bench& b) { return random_allocations(b, allocations, largest * MiB, memory); }});
        }
    return cases;
}

} // namespace bench
