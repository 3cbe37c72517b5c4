// SPDX-License-Identifier: MIT
// First fit: a treap by address (Seidel, Aragon: "Randomized search trees", 1996) whose nodes know the largest block
// below them, so that the lowest address that fits is found on one way down.
#include "cuda_zstd/host/free_block_index.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace cuda_zstd::detail {
namespace {

Block*& left_of(Block* node) noexcept { return node->node.treap.left; }
Block*& right_of(Block* node) noexcept { return node->node.treap.right; }
Block* left_of(const Block* node) noexcept { return node->node.treap.left; }
Block* right_of(const Block* node) noexcept { return node->node.treap.right; }

/// The heap order of the treap: a hash of the address, so the expected depth is logarithmic.
std::uint64_t priority(const Block* block) noexcept {
    std::uint64_t x = reinterpret_cast<std::uintptr_t>(block->ptr) / granule_bytes;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
std::size_t largest(const Block* node) noexcept { return node == nullptr ? 0 : node->node.treap.largest_bytes; }
std::size_t largest_of(const Block* node) noexcept {
    return std::max({node->bytes, largest(left_of(node)), largest(right_of(node))});
}
Block* updated(Block* node) noexcept {
    node->node.treap.largest_bytes = largest_of(node);
    return node;
}

/// The nodes below `at`, and the others.
std::pair<Block*, Block*> split(Block* node, const std::byte* at) noexcept {
    if (node == nullptr) return {nullptr, nullptr};
    if (node->ptr < at) {
        const auto [low, high] = split(right_of(node), at);
        right_of(node) = low;
        return {updated(node), high};
    }
    const auto [low, high] = split(left_of(node), at);
    left_of(node) = high;
    return {low, updated(node)};
}

Block* join(Block* low, Block* high) noexcept {
    if (low == nullptr) return high;
    if (high == nullptr) return low;
    if (priority(low) > priority(high)) {
        right_of(low) = join(right_of(low), high);
        return updated(low);
    }
    left_of(high) = join(low, left_of(high));
    return updated(high);
}

Block* erase_from(Block* node, const Block& block) noexcept {
    if (node == &block) return join(left_of(node), right_of(node));
    if (block.ptr < node->ptr)
        left_of(node) = erase_from(left_of(node), block);
    else
        right_of(node) = erase_from(right_of(node), block);
    // Where the block was not the largest here, nothing changes here.
    if (largest(node) == block.bytes) updated(node);
    return node;
}

/// The lowest address above `after` whose block is large enough.
Block* first_from(Block* node, std::size_t bytes, const std::byte* after) noexcept {
    while (largest(node) >= bytes) {
        if (node->ptr <= after) {
            node = right_of(node);
            continue;
        }
        if (Block* lower = first_from(left_of(node), bytes, after)) return lower;
        if (node->bytes >= bytes) return node;
        node = right_of(node);
    }
    return nullptr;
}

void visit_from(Block* node, std::size_t bytes, const std::function<void(Block&)>& visit) {
    if (largest(node) < bytes) return;
    visit_from(left_of(node), bytes, visit);
    Block* const right = right_of(node);
    if (node->bytes >= bytes) visit(*node);
    visit_from(right, bytes, visit);
}

std::string check_below(const Block* node, const std::byte* above, const std::byte* below) {
    if (node == nullptr) return {};
    if ((above != nullptr && node->ptr <= above) || (below != nullptr && node->ptr >= below))
        return "first fit: blocks are out of order";
    if (largest(node) != largest_of(node)) return "first fit: a subtree's largest block is wrong";
    for (const Block* child : {left_of(node), right_of(node)})
        if (child != nullptr && priority(child) > priority(node)) return "first fit: priorities are out of order";
    std::string found = check_below(left_of(node), above, node->ptr);
    return found.empty() ? check_below(right_of(node), node->ptr, below) : found;
}

class FirstFit final : public FreeBlockIndex {
public:
    void insert(Block& block) noexcept override {
        // Down to where the block belongs by its priority, then what was there becomes its two sides.
        Block** link = &root_;
        const std::uint64_t own_priority = priority(&block);
        while (*link != nullptr && priority(*link) >= own_priority) {
            Block* node = *link;
            node->node.treap.largest_bytes = std::max(largest(node), block.bytes);
            link = block.ptr < node->ptr ? &left_of(node) : &right_of(node);
        }
        const auto [low, high] = split(*link, block.ptr);
        block.node.treap = {low, high, 0};
        *link = updated(&block);
    }
    void erase(Block& block) noexcept override { root_ = erase_from(root_, block); }

    Block* find(std::size_t bytes, std::size_t alignment) const noexcept override {
        Block* node = first(bytes);
        if (node == nullptr || fits(*node, bytes, alignment)) return node;
        for (unsigned seen = 1; seen < candidates; ++seen) {
            node = first_from(root_, bytes, node->ptr);
            if (node == nullptr || fits(*node, bytes, alignment)) return node;
        }
        return first(bytes + alignment - granule_bytes);
    }
    Block* search(std::size_t bytes, std::size_t alignment) const noexcept override {
        Block* node = first(bytes);
        while (node != nullptr && !fits(*node, bytes, alignment))
            node = first_from(root_, bytes, node->ptr);
        return node;
    }
    void for_each_from(std::size_t bytes, const std::function<void(Block&)>& visit) const override {
        if (root_ != nullptr) visit_from(root_, bytes, visit);
    }
    std::size_t largest_bytes() const noexcept override { return largest(root_); }
    std::string check() const override { return check_below(root_, nullptr, nullptr); }

private:
    Block* first(std::size_t bytes) const noexcept {
        Block* node = root_;
        if (largest(node) < bytes) return nullptr;
        for (;;) {
            if (largest(left_of(node)) >= bytes)
                node = left_of(node);
            else if (node->bytes >= bytes)
                return node;
            else
                node = right_of(node);
        }
    }

    Block* root_ = nullptr;
};

} // namespace

std::unique_ptr<FreeBlockIndex> make_first_fit_index() { return std::make_unique<FirstFit>(); }

} // namespace cuda_zstd::detail
