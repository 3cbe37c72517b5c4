// SPDX-License-Identifier: MIT
// That brisk pairs see an allocator's mistakes: bytes that are handed out while somebody still has them.
#include "cuda_zstd/env/solo_env.hpp"
#include "tests/soak/brisk_pairs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace cuda_zstd::soak {
namespace {

/// Where a block begins that should not: nowhere, or in the block of the allocation before.
enum class Mistake { none, at_its_begin, in_its_middle, at_its_last_granule };

/// An allocator of slots of 4 KiB for one thread, of whose allocations one in 64 is a mistake.
class Slots {
public:
    explicit Slots(Mistake mistake) : mistake_(mistake), memory_((slot_count + 1) * slot_granules) {
        for (std::size_t slot = 0; slot < slot_count; ++slot)
            free_.push_back(memory_.data() + slot * slot_granules);
    }
    void* try_allocate(solo_env&, std::size_t bytes, std::uint32_t, Status& status) {
        status = Status::ok;
        if (mistake_ != Mistake::none && ++calls_ % 64 == 0 && last_ != nullptr) {
            ++planted_;
            const std::size_t granules = std::max<std::size_t>(last_bytes_ / granule_bytes, 1);
            switch (mistake_) {
            case Mistake::in_its_middle:
                return last_ + granules / 2;
            case Mistake::at_its_last_granule:
                return last_ + granules - 1;
            default:
                return last_;
            }
        }
        last_ = free_.back();
        last_bytes_ = bytes;
        free_.pop_back();
        return last_;
    }
    /// A block that is no slot, or one that is free, is not told from another: as an allocator that trusts its callers.
    Status try_deallocate(solo_env&, void* block) {
        auto* const granule = static_cast<Granule*>(block);
        if (granule == last_) last_ = nullptr;
        const bool is_slot = static_cast<std::size_t>(granule - memory_.data()) % slot_granules == 0;
        if (is_slot && std::find(free_.begin(), free_.end(), granule) == free_.end()) free_.push_back(granule);
        return Status::ok;
    }
    std::uint64_t planted() const { return planted_; }

private:
    static constexpr std::size_t slot_granules = 4096 / granule_bytes, slot_count = 512;

    Mistake mistake_;
    std::vector<Granule> memory_; ///< one slot more, since a block may begin in the last
    std::vector<Granule*> free_;
    Granule* last_ = nullptr; ///< the latest that is no mistake, while it lives
    std::size_t last_bytes_ = 0;
    unsigned calls_ = 0;
    std::uint64_t planted_ = 0;
};

/// A handle, as kernels are given one.
struct SlotsRef {
    Slots* slots;

    void* try_allocate(solo_env& env, std::size_t bytes, std::uint32_t alignment, Status& status) const {
        return slots->try_allocate(env, bytes, alignment, status);
    }
    Status try_deallocate(solo_env& env, void* block) const { return slots->try_deallocate(env, block); }
};

/// Faults that brisk pairs of these sizes find, for each 100 mistakes.
std::uint64_t found_of_100(Mistake mistake, LogSizes sizes) {
    Slots slots(mistake);
    std::vector<Mailbox<solo_env>> boxes(64);
    Tally<solo_env> tally{};
    solo_env env;
    for (std::uint32_t launch = 0; launch < 4; ++launch) {
        const BriskPairs<solo_env> body{boxes.data(), 64, &tally, 1, launch, 400, sizes};
        for (unsigned thread = 0; thread < 64; ++thread)
            body(env, SlotsRef{&slots}, thread);
    }
    if (mistake == Mistake::none) return tally.faults.value;
    EXPECT_GT(slots.planted(), 500u);
    EXPECT_NE(tally.first.ticket, 0u);
    return tally.faults.value * 100 / slots.planted();
}

TEST(Planted, NothingIsFoundWhereNothingIsWrong) { EXPECT_EQ(found_of_100(Mistake::none, {}), 0u); }

TEST(Planted, ABlockThatIsHandedOutTwiceIsFound) {
    EXPECT_GE(found_of_100(Mistake::at_its_begin, {}), 95u);
    EXPECT_GE(found_of_100(Mistake::at_its_begin, {11, 1}), 95u);
}

TEST(Planted, BlocksOfLikeSizesThatOverlapAreFound) {
    for (const std::uint32_t log2 : {5u, 8u, 11u})
        EXPECT_GE(found_of_100(Mistake::in_its_middle, {log2, 1}), 95u) << log2;
    EXPECT_GE(found_of_100(Mistake::at_its_last_granule, {5, 7}), 95u);
}

TEST(Planted, SmallBlocksInLargeOnesAreFoundOftenEnough) { EXPECT_GE(found_of_100(Mistake::in_its_middle, {}), 50u); }

} // namespace
} // namespace cuda_zstd::soak
