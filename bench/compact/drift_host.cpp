// SPDX-License-Identifier: MIT
// The long run under changing sizes of drift_cases.cu, on the host: where the memory is that is mapped and not live.
//
//     compact_drift_host [--live MIB] [--chunk MIB] [--phases N] [--steps N] [--stations N] [--slack N] [--seed N]
//     [--verbose]
//
// Invariant: the heap is the device heap itself, its metadata real; no memory is behind its pages, since nothing here
// touches a block, so a heap of gigabytes takes 0.8 % of that. One thread stands for all processors: it changes its
// station after every 32 calls, as warps do.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/chunks.hpp"
#include "cuda_zstd/heap/compact_online.hpp"

#include <CLI/CLI.hpp>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

using namespace cuda_zstd;

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

struct Options {
    std::size_t live_mib = 512, chunk_mib = 8;
    unsigned phases = 10, steps = 100, stations = 33, slack = 32, seed = 1;
    int verbosity = 0;
};

struct Random {
    std::uint64_t state;
    std::uint32_t operator()() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        auto x = static_cast<std::uint32_t>(state >> 32);
        x ^= x >> 15;
        return x * 0x846ca68bu ^ x >> 13;
    }
    double share() { return (*this)() * (1.0 / 4294967296.0); }
};

struct Block {
    std::uint32_t units; ///< its address in units of 16 B
    std::uint32_t bytes;
};

class Drift {
public:
    explicit Drift(const Options& options) : options_(options), most_bytes_(options.live_mib * MiB * 2) {
        layout_ = HeapLayout::for_arena(most_bytes_ + most_bytes_ / 100, options.stations);
        chunk_pages_ = static_cast<std::uint32_t>(options.chunk_mib * MiB >> page_shift);
        chunk_count_ = layout_.page_count / chunk_pages_;
        void* const base = mmap(nullptr, layout_.pages_offset + layout_.payload_bytes(), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) std::abort();
        solo_env env;
        HeapChunks<solo_env>::format(env, base, layout_, 0, 1);
        heap_ = Heap<solo_env>::over(base, layout_);
        mapped_.assign(chunk_count_, false);
        segment_ = std::make_unique<ListOrder<solo_env>::Segment>();
        random_.state = options.seed;
        grow(2 * options.chunk_mib * MiB);
    }

    void run() {
        constexpr double least[] = {4, 10, 16}, span[] = {4, 4, 5};
        const std::size_t goal = options_.live_mib * MiB;
        for (unsigned phase = 0; phase < options_.phases; ++phase) {
            const unsigned kind = phase % 3;
            double peak = 0, peak_whole = 0;
            for (unsigned turn = 0; turn < options_.steps; ++turn, ++step_) {
                die();
                unsigned failures = 0;
                while (live_bytes_ < goal) {
                    const auto bytes =
                        static_cast<std::uint32_t>(std::exp2(least[kind] + span[kind] * random_.share()));
                    if (live_bytes_ + bytes > goal) break;
                    if (allocate(bytes)) continue;
                    if (++failures > 64) break;
                    compact();
                    if (grow(std::max(2 * options_.chunk_mib * MiB, (goal - live_bytes_) / 4)) == 0) break;
                }
                if (turn % 5 == 4) trim(goal + goal / 32);
                if (options_.verbosity != 0 && turn % 10 == 9) tell(phase, turn);
                if (turn + 1 == options_.steps * 9 / 20) tell_least(phase, turn);
                if (turn < options_.steps * 4 / 5) continue;
                const double chunk = chunk_bytes();
                const double mapped = mapped_count_ * chunk;
                peak = std::max(peak, mapped / (std::ceil(static_cast<double>(live_bytes_) / chunk) * chunk));
                peak_whole =
                    std::max(peak_whole, mapped / (std::ceil(static_cast<double>(whole_bytes_) / chunk) * chunk));
            }
            static const char* const names[] = {"16 B to 256 B", "1 KiB to 16 KiB", "64 KiB to 2 MiB"};
            std::printf("phase %u, %s: peak %.3f of live bytes, %.3f of whole blocks\n", phase, names[kind], peak,
                        peak_whole);
            tell(phase, options_.steps);
        }
    }

private:
    void die() {
        const std::uint32_t limit = 429496729u; // a tenth
        for (std::size_t at = 0; at < blocks_.size();) {
            if (random_() >= limit) {
                ++at;
                continue;
            }
            solo_env env(station());
            char* const block = heap_.pages_base() + std::size_t{blocks_[at].units} * 16;
            whole_bytes_ -= heap_.usable_size(env, block);
            if (heap_.deallocate(env, 1, block) != Status::ok) std::abort();
            live_bytes_ -= blocks_[at].bytes;
            blocks_[at] = blocks_.back();
            blocks_.pop_back();
        }
    }
    unsigned station() { return (++calls_ / 32) * 2654435761u % options_.stations; }
    bool allocate(std::uint32_t bytes) {
        solo_env env(station());
        Status status{};
        auto* const block = static_cast<char*>(heap_.allocate(env, 1, bytes, 1, status));
        if (block == nullptr) return false;
        blocks_.push_back({static_cast<std::uint32_t>((block - heap_.pages_base()) / 16), bytes});
        live_bytes_ += bytes;
        whole_bytes_ += heap_.usable_size(env, block);
        return true;
    }
    std::size_t grow(std::size_t bytes) {
        solo_env env;
        const HeapChunks<solo_env> chunks(heap_, chunk_pages_);
        std::size_t grown = 0;
        std::uint32_t extent = 0;
        for (std::uint32_t chunk = 0; chunk < chunk_count_; ++chunk) {
            if (!mapped_[chunk] && grown < bytes) {
                mapped_[chunk] = true;
                ++mapped_count_;
                chunks.open(env, chunk);
                grown += options_.chunk_mib * MiB;
            }
            if (mapped_[chunk]) extent = (chunk + 1) * chunk_pages_;
        }
        if (grown != 0) chunks.set_extent(env, extent, HeapChunks<solo_env>::near_as_it_drains);
        return grown;
    }
    void compact() {
        solo_env env;
        std::uint32_t retired = 0;
        for (unsigned size_class = 0; size_class < size_class_count; ++size_class)
            for (unsigned station = 0; station < layout_.stations; ++station) {
                const ListOrder<solo_env> order(heap_.supply(), size_class, station);
                order_list(env, order, *segment_, whole_heap, retired);
            }
    }
    void trim(std::size_t keep_bytes) {
        compact();
        solo_env env;
        const HeapChunks<solo_env> chunks(heap_, chunk_pages_);
        std::uint32_t extent = 0;
        for (std::uint32_t chunk = chunk_count_; chunk-- != 0;) {
            if (mapped_[chunk] && mapped_count_ * options_.chunk_mib * MiB > keep_bytes &&
                chunks.looks_free(env, chunk) && chunks.take_away(env, chunk)) {
                mapped_[chunk] = false;
                --mapped_count_;
            }
            if (mapped_[chunk] && extent == 0) extent = (chunk + 1) * chunk_pages_;
        }
        const std::uint32_t used =
            mapped_count_ * chunk_pages_ - env.load(*heap_.supply().pages.free_count, Order::relaxed);
        std::uint32_t room =
            std::max(static_cast<std::uint32_t>(keep_bytes >> page_shift), used + used / std::max(options_.slack, 1u));
        std::uint32_t near_pages = 0;
        for (std::uint32_t chunk = 0; chunk < chunk_count_ && room != 0; ++chunk) {
            if (mapped_[chunk]) room -= std::min(room, chunk_pages_);
            near_pages = (chunk + 1) * chunk_pages_;
        }
        chunks.set_extent(env, extent, options_.slack != 0 && near_pages < extent ? near_pages : 0);
    }
    /// Where the mapped bytes are, in parts of the live ones.
    void tell(unsigned phase, unsigned turn) {
        solo_env env;
        double slabs[2] = {}, slots[2] = {}, runs = 0; // slots up to 256 B, and larger ones
        std::vector<bool> in_use(chunk_count_, false);
        for (std::uint32_t page = 0; page < layout_.page_count;) {
            const PageEntry entry{env.load(heap_.supply().entries[page], Order::relaxed)};
            std::uint32_t pages = 1;
            if (entry.is_slab()) {
                const SlabWord word = heap_.supply().word(env, page);
                const double live = static_cast<double>(word.slots()) - word.credits();
                const unsigned kind = entry.slot_size().bytes() <= 256 ? 0 : 1;
                pages = word.pages();
                slabs[kind] += static_cast<double>(pages) * page_bytes;
                slots[kind] += live * entry.slot_size().bytes();
            } else if (entry.is_run()) {
                pages = entry.run_pages();
                runs += static_cast<double>(pages) * page_bytes;
            }
            if (entry.is_slab() || entry.is_run())
                std::fill(in_use.begin() + page / chunk_pages_, in_use.begin() + (page + pages - 1) / chunk_pages_ + 1,
                          true);
            page += pages;
        }
        const auto live = static_cast<double>(live_bytes_);
        const auto chunks = [&](auto count) { return static_cast<double>(count) * chunk_bytes() / live; };
        std::printf("  step %3u of phase %u, parts of live: mapped %.3f, whole blocks %.3f, slabs to 256 B %.3f (live "
                    "%.3f), larger %.3f (%.3f), runs %.3f, chunks in use %.3f\n",
                    turn, phase, chunks(mapped_count_), static_cast<double>(whole_bytes_) / live, slabs[0] / live,
                    slots[0] / live, slabs[1] / live, slots[1] / live, runs / live,
                    chunks(std::count(in_use.begin(), in_use.end(), true)));
        std::fflush(stdout);
    }
    /// What will be mapped for each live byte when the last fifth begins, if from now on blocks are born in as many
    /// chunks alone as what lives needs, and the others only lose theirs: a bound for whoever moves no block.
    void tell_least(unsigned phase, unsigned turn) {
        std::vector<double> blocks(chunk_count_, 0);
        for (const Block& block : blocks_) {
            const std::uint32_t first = block.units / (page_bytes / 16) / chunk_pages_;
            const std::uint32_t last = (block.units + (block.bytes - 1) / 16) / (page_bytes / 16) / chunk_pages_;
            for (std::uint32_t chunk = first; chunk <= last; ++chunk)
                blocks[chunk] += 1;
        }
        const double survives = std::pow(0.9, options_.steps * 4 / 5 - turn);
        const double needed = std::ceil(static_cast<double>(whole_bytes_) / chunk_bytes());
        const auto least = [&] {
            double chunks = needed;
            for (auto at = static_cast<std::size_t>(needed); at < blocks.size(); ++at)
                chunks += 1 - std::pow(1 - survives, blocks[at]);
            return chunks * chunk_bytes() / static_cast<double>(live_bytes_);
        };
        const double with_first = least();
        std::sort(blocks.begin(), blocks.end(), std::greater<>());
        std::printf(
            "  step %3u of phase %u: with births in the first chunks alone %.3f at step %u, in the fullest %.3f\n",
            turn, phase, with_first, options_.steps * 4 / 5, least());
    }
    double chunk_bytes() const { return static_cast<double>(options_.chunk_mib * MiB); }

    Options options_;
    std::size_t most_bytes_;
    HeapLayout layout_;
    std::uint32_t chunk_pages_, chunk_count_, mapped_count_ = 0;
    Heap<solo_env> heap_;
    std::vector<bool> mapped_;
    std::vector<Block> blocks_;
    std::size_t live_bytes_ = 0, whole_bytes_ = 0;
    std::unique_ptr<ListOrder<solo_env>::Segment> segment_;
    Random random_{1};
    unsigned step_ = 0;
    std::uint32_t calls_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"The long run under changing sizes, on the host"};
    Options options;
    app.add_option("--live", options.live_mib, "MiB that live; the maximum is twice as much");
    app.add_option("--chunk", options.chunk_mib, "MiB of a chunk");
    app.add_option("--phases", options.phases, "changes of the sizes, and one");
    app.add_option("--steps", options.steps, "steps of a phase; in each, a tenth of the blocks dies");
    app.add_option("--stations", options.stations, "processors");
    app.add_option("--slack", options.slack,
                   "what is in use, and 1/N more, belongs into the first chunks after a trim; 0: anywhere");
    app.add_option("--seed", options.seed, "of the random numbers");
    app.add_flag("--verbose", options.verbosity, "where the bytes are, at every tenth step");
    CLI11_PARSE(app, argc, argv);
    Drift(options).run();
}
