// SPDX-License-Identifier: MIT
// Segregated: lists by size class with a bitmap of two levels (TLSF; Masmano, Ripoll, Crespo, Real: "TLSF: a new
// dynamic memory allocator for real-time systems", 2004), 16 classes to a doubling.
#include "cuda_zstd/host/free_block_index.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned bins_per_doubling = 16;
constexpr unsigned bin_count = 40 * bins_per_doubling;
constexpr unsigned word_bits = 64;
static_assert(bin_count % word_bits == 0 && bin_count / word_bits <= word_bits);

/// Bins in steps of a granule up to 16 granules, then 16 to a doubling. The last one holds all that is larger.
unsigned bin_of(std::size_t bytes) noexcept {
    const std::size_t granules = bytes / granule_bytes;
    if (granules < bins_per_doubling) return static_cast<unsigned>(granules);
    const unsigned exponent = static_cast<unsigned>(std::bit_width(granules)) - 5;
    const unsigned step = static_cast<unsigned>(granules >> exponent) - bins_per_doubling;
    return std::min((exponent + 1) * bins_per_doubling + step, bin_count - 1);
}
/// The lowest bin whose blocks all hold `bytes`; bin_count where there is none.
unsigned sure_bin(std::size_t bytes) noexcept {
    const unsigned own = bin_of(bytes);
    if (own == bin_count - 1) return bin_count;
    return bytes > granule_bytes && bin_of(bytes - granule_bytes) == own ? own + 1 : own;
}

class Segregated final : public FreeBlockIndex {
public:
    void insert(Block& block) noexcept override {
        const unsigned bin = bin_of(block.bytes);
        Block*& head = bins_[bin];
        block.node.bin = {nullptr, head};
        if (head != nullptr) head->node.bin.previous = &block;
        head = &block;
        words_[bin / word_bits] |= bit(bin % word_bits);
        summary_ |= bit(bin / word_bits);
    }
    void erase(Block& block) noexcept override {
        const auto [previous, next] = block.node.bin;
        if (next != nullptr) next->node.bin.previous = previous;
        if (previous != nullptr) {
            previous->node.bin.next = next;
            return;
        }
        const unsigned bin = bin_of(block.bytes);
        bins_[bin] = next;
        if (next != nullptr) return;
        words_[bin / word_bits] &= ~bit(bin % word_bits);
        if (words_[bin / word_bits] == 0) summary_ &= ~bit(bin / word_bits);
    }
    Block* find(std::size_t bytes, std::size_t alignment) const noexcept override {
        const unsigned own = bin_of(bytes);
        unsigned seen = 0;
        for (Block* block = bins_[own]; block != nullptr && seen < own_class_candidates; ++seen) {
            if (fits(*block, bytes, alignment)) return block;
            block = block->node.bin.next;
        }
        // Blocks that lie right by chance, so that a block comes back to the size that it was made for.
        if (alignment > granule_bytes)
            for (unsigned bin = next_occupied(sure_bin(bytes)); bin < bin_count; bin = next_occupied(bin + 1))
                for (Block* block = bins_[bin]; block != nullptr; block = block->node.bin.next) {
                    if (fits(*block, bytes, alignment)) return block;
                    if (++seen >= candidates) return front(sure_bin(bytes + alignment - granule_bytes));
                }
        return front(sure_bin(bytes + alignment - granule_bytes));
    }
    Block* search(std::size_t bytes, std::size_t alignment) const noexcept override {
        if (Block* found = find(bytes, alignment)) return found;
        for (unsigned bin = next_occupied(bin_of(bytes)); bin < bin_count; bin = next_occupied(bin + 1))
            for (Block* block = bins_[bin]; block != nullptr; block = block->node.bin.next)
                if (fits(*block, bytes, alignment)) return block;
        return nullptr;
    }
    void for_each_from(std::size_t bytes, const std::function<void(Block&)>& visit) const override {
        for (unsigned bin = next_occupied(bin_of(bytes)); bin < bin_count; bin = next_occupied(bin + 1))
            for (Block* block = bins_[bin]; block != nullptr;) {
                Block* const next = block->node.bin.next;
                if (block->bytes >= bytes) visit(*block);
                block = next;
            }
    }
    std::size_t largest_bytes() const noexcept override {
        if (summary_ == 0) return 0;
        const unsigned word = word_bits - 1 - static_cast<unsigned>(std::countl_zero(summary_));
        const unsigned bin = word * word_bits + word_bits - 1 - static_cast<unsigned>(std::countl_zero(words_[word]));
        std::size_t largest = 0;
        for (const Block* block = bins_[bin]; block != nullptr; block = block->node.bin.next)
            largest = std::max(largest, block->bytes);
        return largest;
    }
    std::string check() const override {
        for (unsigned bin = 0; bin < bin_count; ++bin) {
            const bool occupied = (words_[bin / word_bits] & bit(bin % word_bits)) != 0;
            if (occupied != (bins_[bin] != nullptr))
                return "segregated: the bitmap disagrees with bin " + std::to_string(bin);
            const Block* previous = nullptr;
            for (const Block* block = bins_[bin]; block != nullptr; block = block->node.bin.next) {
                if (bin_of(block->bytes) != bin) return "segregated: a block is in the wrong bin";
                if (block->node.bin.previous != previous) return "segregated: a bin's links disagree";
                previous = block;
            }
        }
        for (unsigned word = 0; word < words_.size(); ++word)
            if ((words_[word] != 0) != ((summary_ & bit(word)) != 0)) return "segregated: the bitmap's levels disagree";
        return {};
    }

private:
    static constexpr std::uint64_t bit(unsigned index) noexcept { return std::uint64_t{1} << index; }

    Block* front(unsigned from) const noexcept {
        const unsigned bin = next_occupied(from);
        return bin < bin_count ? bins_[bin] : nullptr;
    }
    unsigned next_occupied(unsigned from) const noexcept {
        if (from >= bin_count) return bin_count;
        unsigned word = from / word_bits;
        std::uint64_t bits = words_[word] & (~std::uint64_t{0} << (from % word_bits));
        if (bits == 0) {
            if (++word == words_.size()) return bin_count;
            const std::uint64_t higher = summary_ & (~std::uint64_t{0} << word);
            if (higher == 0) return bin_count;
            word = static_cast<unsigned>(std::countr_zero(higher));
            bits = words_[word];
        }
        return word * word_bits + static_cast<unsigned>(std::countr_zero(bits));
    }

    std::array<Block*, bin_count> bins_{};
    std::array<std::uint64_t, bin_count / word_bits> words_{};
    std::uint64_t summary_ = 0;
};

} // namespace

std::unique_ptr<FreeBlockIndex> make_segregated_index() { return std::make_unique<Segregated>(); }

} // namespace cuda_zstd::detail
