// SPDX-License-Identifier: MIT
// The heap of each strategy in lock-step with an allocator that is nothing but an array with a flag for each granule.
// What is handed out is what the strategy promises, and the sets of free addresses are equal. The seeds are those of
// CUDA_ZSTD_POOL_MODEL_SEEDS (FIRST:COUNT, 1:4 by default): 250,000 calls a seed and strategy, about a second for each.
#include "cuda_zstd/host/block_heap.hpp"
#include "manual_backend.hpp"
#include "strategies.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned calls_per_seed = 250'000;

struct Run {
    std::size_t start = 0;
    std::size_t granules = 0;
    bool operator==(const Run&) const = default;
};

/// Memory as flags; all that is asked of it is found by looking at each.
class Reference {
public:
    explicit Reference(std::size_t granules) : free_(granules, 1) {}

    /// Maximal runs of free granules, by address.
    std::vector<Run> runs() const {
        std::vector<Run> found;
        for (std::size_t at = 0; at < free_.size(); ++at) {
            if (!free_[at]) continue;
            if (at == 0 || !free_[at - 1]) found.push_back({at, 0});
            ++found.back().granules;
        }
        return found;
    }
    bool is_free(const Run& run) const {
        return std::all_of(begin(run), begin(run) + static_cast<std::ptrdiff_t>(run.granules),
                           [](std::uint8_t f) { return f != 0; });
    }
    void set(const Run& run, std::uint8_t free) {
        std::fill(free_.begin() + static_cast<std::ptrdiff_t>(run.start),
                  free_.begin() + static_cast<std::ptrdiff_t>(run.start + run.granules), free);
    }

private:
    std::vector<std::uint8_t>::const_iterator begin(const Run& run) const {
        return free_.begin() + static_cast<std::ptrdiff_t>(run.start);
    }
    std::vector<std::uint8_t> free_;
};

/// The size class of the segregated strategy: the leading five bits of the size.
std::pair<unsigned, std::size_t> size_class(std::size_t granules) {
    const unsigned bits = static_cast<unsigned>(std::bit_width(granules));
    return bits <= 5 ? std::pair(0u, granules) : std::pair(bits - 5, granules >> (bits - 5));
}

class LockStep {
public:
    LockStep(Strategy strategy, unsigned seed)
        : strategy_(strategy), random_(seed), granules_(128 + random_() % 900), reference_(granules_),
          heap_(strategy, order_) {
        Block& all = heap_.make(region_, base(), granules_ * granule_bytes);
        region_.first = &all;
        heap_.give(all, {});
        pending_.push_back({0, granules_});
    }

    void run(unsigned calls) {
        for (unsigned call = 0; call < calls && !testing::Test::HasFatalFailure(); ++call) {
            // Full and empty by turns.
            const unsigned chance = call / 2000 % 2 == 0 ? 60 : 42;
            if (held_.empty() || random_() % 100 < chance)
                take();
            else
                give(random_() % held_.size());
            if (random_() % 64 == 0) compare();
        }
        while (!held_.empty())
            give(held_.size() - 1);
        compare();
        heap_.dissolve(region_);
        EXPECT_EQ(heap_.free_bytes(), 0u);
        EXPECT_EQ(heap_.free_blocks(), 0u);
    }
    unsigned refused() const { return refused_; }

private:
    static std::byte* base() { return reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40); }
    Run run_of(const Block& block) const {
        return {static_cast<std::size_t>(block.ptr - base()) / granule_bytes, block.bytes / granule_bytes};
    }

    void take() {
        const std::size_t granules = 1 + random_() % (random_() % 4 == 0 ? granules_ / 3 : 24);
        const std::size_t unit = random_() % 6 == 0 ? std::size_t{1} << random_() % 6 : 1;
        const Search search = random_() % 2 == 0 ? Search::quick : Search::thorough;
        // What was freed last, where it fits exactly; not by first fit.
        const bool last_fits = strategy_ != Strategy::first_fit && !pending_.empty() &&
                               pending_.back().granules == granules && pending_.back().start % unit == 0;
        const Run last = last_fits ? pending_.back() : Run{};
        const std::vector<Run> runs = reference_.runs();

        receive();
        const Taken taken = heap_.take_ready(granules * granule_bytes, unit * granule_bytes, 1, search);
        if (last_fits) {
            ASSERT_TRUE(taken);
            ASSERT_EQ(run_of(*taken.block), last);
            pending_.pop_back();
        } else {
            pending_.clear();
            taken ? check_choice(run_of(*taken.block), granules, unit, search, runs)
                  : check_refusal(granules, unit, search, runs);
            if (testing::Test::HasFatalFailure() || !taken) return;
        }
        const Run got = run_of(*taken.block);
        ASSERT_EQ(got.granules, granules);
        ASSERT_EQ(got.start % unit, 0u);
        ASSERT_TRUE(reference_.is_free(got)) << "memory that is live is handed out";
        reference_.set(got, 0);
        held_.push_back(taken.block);
    }

    static bool holds(const Run& run, std::size_t granules, std::size_t unit) {
        return round_up(run.start, unit) + granules <= run.start + run.granules;
    }

    /// `got` is the first aligned place of the run that the strategy has to choose.
    void check_choice(const Run& got, std::size_t granules, std::size_t unit, Search search,
                      const std::vector<Run>& runs) const {
        const auto from = std::find_if(runs.begin(), runs.end(), [&](const Run& run) {
            return run.start <= got.start && got.start < run.start + run.granules;
        });
        ASSERT_NE(from, runs.end());
        ASSERT_EQ(got.start, round_up(from->start, unit));
        // An aligned request may be served from a larger block than the smallest: quickly, 32 are looked at.
        if (unit != 1 && search == Search::quick && strategy_ != Strategy::segregated) return;
        for (const Run& run : runs) {
            if (!holds(run, granules, unit)) continue;
            if (strategy_ == Strategy::first_fit && unit == 1) {
                ASSERT_GE(run.start, from->start);
            }
            if (strategy_ == Strategy::best_fit && unit == 1) {
                ASSERT_GE(run.granules, from->granules);
            }
            // A block of a higher class only where none of a lower class surely fits.
            if (strategy_ == Strategy::segregated && unit == 1 && size_class(run.granules) > size_class(granules)) {
                ASSERT_LE(size_class(from->granules), size_class(run.granules));
            }
        }
    }

    void check_refusal(std::size_t granules, std::size_t unit, Search search, const std::vector<Run>& runs) {
        ++refused_;
        for (const Run& run : runs) {
            const bool sure = size_class(run.granules) > size_class(granules + unit - 1);
            if (search == Search::thorough || (strategy_ != Strategy::segregated && unit == 1) || sure) {
                ASSERT_FALSE(holds(run, granules, unit)) << "a block that fits is not found";
            }
        }
    }

    void give(std::size_t at) {
        Block* block = held_[at];
        held_[at] = held_.back();
        held_.pop_back();
        reference_.set(run_of(*block), 1);
        pending_.push_back(run_of(*block));
        if (random_() % 2 == 0) {
            heap_.post({&block, 1});
            return;
        }
        receive();
        heap_.give(*block, {});
    }
    /// As a pool does when it has the lock.
    void receive() {
        heap_.receive([](const Block&) {});
    }

    void compare() {
        receive();
        ASSERT_EQ(heap_.check({&region_}), "");
        heap_.file_pending();
        pending_.clear();
        ASSERT_EQ(heap_.check({&region_}), "");
        std::vector<Run> found;
        heap_.for_each_free([&](const Block& block) { found.push_back(run_of(block)); });
        std::sort(found.begin(), found.end(), [](const Run& a, const Run& b) { return a.start < b.start; });
        const std::vector<Run> wanted = reference_.runs();
        ASSERT_EQ(found, wanted) << "the sets of free addresses differ";
        std::size_t largest = 0;
        for (const Run& run : wanted)
            largest = std::max(largest, run.granules);
        ASSERT_EQ(heap_.largest_free_bytes(), largest * granule_bytes);
    }

    Strategy strategy_;
    std::mt19937_64 random_;
    std::size_t granules_;
    Reference reference_;
    ManualBackend backend_{1};
    StreamOrder order_{backend_};
    Region region_;
    BlockHeap heap_;
    std::vector<Block*> held_;
    /// Freed since the heap was searched last.
    std::vector<Run> pending_;
    unsigned refused_ = 0;
};

class ReferenceModelTest : public testing::TestWithParam<Strategy> {};

TEST_P(ReferenceModelTest, TheSameAddressesAreFree) {
    unsigned first = 1;
    unsigned count = 4;
    if (const char* seeds = std::getenv("CUDA_ZSTD_POOL_MODEL_SEEDS")) {
        ASSERT_EQ(std::sscanf(seeds, "%u:%u", &first, &count), 2) << "expected FIRST:COUNT";
    }
    unsigned refused = 0;
    for (unsigned seed = first; seed < first + count; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        LockStep both(GetParam(), seed);
        both.run(calls_per_seed);
        if (HasFatalFailure()) return;
        refused += both.refused();
    }
    EXPECT_GT(refused, 100u * count) << "the heap must be full now and then";
}

INSTANTIATE_TEST_SUITE_P(Strategies, ReferenceModelTest, every_strategy(), name_of_strategy);

} // namespace
} // namespace cuda_zstd::detail
