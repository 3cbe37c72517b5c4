// SPDX-License-Identifier: MIT
// Three strategies. Best fit: a red-black tree by size and address. First fit: a treap by address whose nodes know the
// largest block below them. Segregated: the two-level bins of TLSF (Masmano, Ripoll, Crespo, Real: "TLSF: a new dynamic
// memory allocator for real-time systems", 2004), with 16 bins to a power of two.
#include "cuda_zstd/host/free_block_index.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>

namespace cuda_zstd::detail {
namespace {

namespace bi = boost::intrusive;

class BestFit final : public FreeBlockIndex {
public:
    ~BestFit() override { tree_.clear(); }
    void insert(Block& block) noexcept override { tree_.insert(block); }
    void erase(Block& block) noexcept override { tree_.erase(tree_.iterator_to(block)); }
    Block* find(std::size_t bytes) const noexcept override {
        const auto found = tree_.lower_bound(bytes, AtLeast{});
        return found == tree_.end() ? nullptr : const_cast<Block*>(&*found);
    }
    std::size_t largest_bytes() const noexcept override { return tree_.empty() ? 0 : tree_.rbegin()->bytes; }
    std::string check() const override {
        const Block* previous = nullptr;
        for (const Block& block : tree_) {
            if (previous != nullptr && !Less{}(*previous, block)) return "best fit: blocks are out of order";
            previous = &block;
        }
        return {};
    }

private:
    struct Less {
        bool operator()(const Block& a, const Block& b) const noexcept {
            return std::pair(a.bytes, a.ptr) < std::pair(b.bytes, b.ptr);
        }
    };
    struct AtLeast {
        bool operator()(const Block& a, std::size_t bytes) const noexcept { return a.bytes < bytes; }
        bool operator()(std::size_t bytes, const Block& a) const noexcept { return bytes < a.bytes; }
    };
    bi::set<Block, bi::member_hook<Block, bi::set_member_hook<>, &Block::size_hook>, bi::compare<Less>> tree_;
};

class FirstFit final : public FreeBlockIndex {
public:
    void insert(Block& block) noexcept override {
        block.left = block.right = nullptr;
        const auto [low, high] = split(root_, block.ptr);
        root_ = join(join(low, updated(&block)), high);
    }
    void erase(Block& block) noexcept override {
        root_ = erase_from(root_, block);
        block.left = block.right = nullptr;
    }
    Block* find(std::size_t bytes) const noexcept override {
        Block* node = root_;
        if (largest(node) < bytes) return nullptr;
        for (;;) {
            if (largest(node->left) >= bytes)
                node = node->left;
            else if (node->bytes >= bytes)
                return node;
            else
                node = node->right;
        }
    }
    std::size_t largest_bytes() const noexcept override { return largest(root_); }
    std::string check() const override { return check(root_, nullptr, nullptr); }

private:
    /// The heap order of the treap: a hash of the address, so the expected depth is logarithmic.
    static std::uint64_t priority(const Block& block) noexcept {
        std::uint64_t x = reinterpret_cast<std::uintptr_t>(block.ptr) >> 8;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    static std::size_t largest(const Block* node) noexcept { return node == nullptr ? 0 : node->subtree_bytes; }
    static Block* updated(Block* node) noexcept {
        node->subtree_bytes = std::max({node->bytes, largest(node->left), largest(node->right)});
        return node;
    }
    static std::pair<Block*, Block*> split(Block* node, const std::byte* at) noexcept {
        if (node == nullptr) return {nullptr, nullptr};
        if (node->ptr < at) {
            const auto [low, high] = split(node->right, at);
            node->right = low;
            return {updated(node), high};
        }
        const auto [low, high] = split(node->left, at);
        node->left = high;
        return {low, updated(node)};
    }
    static Block* join(Block* low, Block* high) noexcept {
        if (low == nullptr) return high;
        if (high == nullptr) return low;
        if (priority(*low) > priority(*high)) {
            low->right = join(low->right, high);
            return updated(low);
        }
        high->left = join(low, high->left);
        return updated(high);
    }
    static Block* erase_from(Block* node, Block& block) noexcept {
        if (node == &block) return join(node->left, node->right);
        if (block.ptr < node->ptr)
            node->left = erase_from(node->left, block);
        else
            node->right = erase_from(node->right, block);
        return updated(node);
    }
    static std::string check(const Block* node, const std::byte* above, const std::byte* below) {
        if (node == nullptr) return {};
        if ((above != nullptr && node->ptr <= above) || (below != nullptr && node->ptr >= below))
            return "first fit: blocks are out of order";
        if (node->subtree_bytes != std::max({node->bytes, largest(node->left), largest(node->right)}))
            return "first fit: a subtree's largest block is wrong";
        for (const Block* child : {node->left, node->right})
            if (child != nullptr && priority(*child) > priority(*node)) return "first fit: priorities are out of order";
        std::string found = check(node->left, above, node->ptr);
        return found.empty() ? check(node->right, node->ptr, below) : found;
    }

    Block* root_ = nullptr;
};

class Segregated final : public FreeBlockIndex {
public:
    ~Segregated() override {
        for (List& bin : bins_)
            bin.clear();
    }
    void insert(Block& block) noexcept override {
        const unsigned bin = bin_of(block.bytes);
        bins_[bin].push_front(block);
        occupied_[bin / 64] |= std::uint64_t{1} << (bin % 64);
    }
    void erase(Block& block) noexcept override {
        const unsigned bin = bin_of(block.bytes);
        bins_[bin].erase(bins_[bin].iterator_to(block));
        if (bins_[bin].empty()) occupied_[bin / 64] &= ~(std::uint64_t{1} << (bin % 64));
    }
    Block* find(std::size_t bytes) const noexcept override {
        const unsigned own = bin_of(bytes);
        // Every block of a higher bin fits. In the own bin each must be looked at.
        const bool first_of_bin = own == 0 || bin_of(bytes - 1) != own;
        if (const unsigned bin = next_occupied(first_of_bin ? own : own + 1); bin < bin_count)
            return const_cast<Block*>(&bins_[bin].front());
        for (const Block& block : bins_[own])
            if (block.bytes >= bytes) return const_cast<Block*>(&block);
        return nullptr;
    }
    std::size_t largest_bytes() const noexcept override {
        std::size_t largest = 0;
        for (unsigned bin = bin_count; bin-- != 0 && largest == 0;)
            for (const Block& block : bins_[bin])
                largest = std::max(largest, block.bytes);
        return largest;
    }
    std::string check() const override {
        for (unsigned bin = 0; bin < bin_count; ++bin) {
            const bool occupied = (occupied_[bin / 64] >> (bin % 64) & 1) != 0;
            if (occupied == bins_[bin].empty())
                return "segregated: the bitmap disagrees with bin " + std::to_string(bin);
            for (const Block& block : bins_[bin])
                if (bin_of(block.bytes) != bin) return "segregated: a block is in the wrong bin";
        }
        return {};
    }

private:
    using List = bi::list<Block, bi::member_hook<Block, bi::list_member_hook<>, &Block::bin_hook>>;
    static constexpr unsigned bins_per_doubling = 16;
    static constexpr unsigned bin_count = 40 * bins_per_doubling;

    /// Bins in steps of a granule up to 16 granules, then 16 to a doubling.
    static unsigned bin_of(std::size_t bytes) noexcept {
        const std::size_t granules = bytes / granule_bytes;
        if (granules < bins_per_doubling) return static_cast<unsigned>(granules);
        const unsigned exponent = static_cast<unsigned>(std::bit_width(granules)) - 5;
        const unsigned step = static_cast<unsigned>(granules >> exponent) - bins_per_doubling;
        return std::min((exponent + 1) * bins_per_doubling + step, bin_count - 1);
    }
    unsigned next_occupied(unsigned from) const noexcept {
        if (from >= bin_count) return bin_count;
        for (unsigned word = from / 64; word < occupied_.size(); ++word) {
            std::uint64_t bits = occupied_[word];
            if (word == from / 64) bits &= ~std::uint64_t{0} << (from % 64);
            if (bits != 0) return word * 64 + static_cast<unsigned>(std::countr_zero(bits));
        }
        return bin_count;
    }

    std::array<List, bin_count> bins_;
    std::array<std::uint64_t, bin_count / 64> occupied_{};
};

} // namespace

std::unique_ptr<FreeBlockIndex> FreeBlockIndex::make(Strategy strategy) {
    switch (strategy) {
    case Strategy::best_fit:
        return std::make_unique<BestFit>();
    case Strategy::first_fit:
        return std::make_unique<FirstFit>();
    case Strategy::segregated:
        return std::make_unique<Segregated>();
    }
    return nullptr;
}

} // namespace cuda_zstd::detail
