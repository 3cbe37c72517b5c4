// SPDX-License-Identifier: MIT
// Best fit: a list for each size, found through a tree of bitmaps over the sizes, 64 to a node (a stratified tree as
// that of van Emde Boas, "Preserving order in a forest in less than logarithmic time", 1975, but of fixed fan-out). Its
// depth follows the largest size, not the number of blocks: 3 nodes to 64 MiB, 4 to 4 GiB. A red-black tree over size
// and address took five times as long among a million holes of mixed sizes, where each level is a cache miss.
#include "cuda_zstd/host/free_block_index.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned digit_bits = 6;
constexpr unsigned fan_out = 1u << digit_bits;
/// Sizes of up to 2^50 bytes.
constexpr unsigned most_levels = 7;
/// Empty nodes that an index keeps: at least what two inserts and a rise of the root may need.
constexpr std::size_t kept_nodes = 3 * most_levels;

struct Node {
    std::uint64_t occupied = 0;
    /// Of the lowest level: the newest block of each size; of others: nodes.
    std::array<void*, fan_out> below{};
};

unsigned digit(std::size_t granules, unsigned level) noexcept {
    return static_cast<unsigned>(granules >> (level * digit_bits)) % fan_out;
}
unsigned levels_for(std::size_t granules) noexcept {
    return granules == 0 ? 1 : (static_cast<unsigned>(std::bit_width(granules)) + digit_bits - 1) / digit_bits;
}
constexpr std::uint64_t bit(unsigned index) noexcept { return std::uint64_t{1} << index; }
constexpr std::uint64_t above(unsigned index) noexcept { return ~std::uint64_t{0} << index << 1; }
Node* node_at(const Node* node, unsigned index) noexcept { return static_cast<Node*>(node->below[index]); }
Block* block_at(const Node* leaf, unsigned index) noexcept { return static_cast<Block*>(leaf->below[index]); }

class BestFit final : public FreeBlockIndex {
public:
    ~BestFit() override {
        if (root_ != nullptr) destroy(root_, levels_ - 1);
        while (spare_ != nullptr)
            delete take_spare();
    }

    void prepare(std::size_t largest_bytes, unsigned inserts) override {
        const unsigned levels = std::max(levels_for(largest_bytes / granule_bytes), levels_);
        // A path for each, the nodes that raise the root, and the root.
        const std::size_t needed = inserts * (levels - 1) + (levels - levels_) + 1;
        while (spares_ < needed)
            put_spare(new Node);
    }

    void insert(Block& block) noexcept override {
        const std::size_t granules = block.bytes / granule_bytes;
        if (root_ == nullptr) {
            root_ = take_spare();
            levels_ = levels_for(granules);
        }
        for (; levels_ < levels_for(granules); ++levels_) {
            Node* higher = take_spare();
            higher->below[0] = root_;
            higher->occupied = 1;
            root_ = higher;
        }
        Node* node = root_;
        for (unsigned level = levels_ - 1; level != 0; --level) {
            const unsigned at = digit(granules, level);
            if ((node->occupied & bit(at)) == 0) {
                node->below[at] = take_spare();
                node->occupied |= bit(at);
            }
            node = node_at(node, at);
        }
        const unsigned at = digit(granules, 0);
        Block* const head = block_at(node, at);
        block.node.bin = {nullptr, head};
        if (head != nullptr) head->node.bin.previous = &block;
        node->below[at] = &block;
        node->occupied |= bit(at);
    }

    void erase(Block& block) noexcept override {
        const auto [previous, next] = block.node.bin;
        if (next != nullptr) next->node.bin.previous = previous;
        if (previous != nullptr) {
            previous->node.bin.next = next;
            return;
        }
        const std::size_t granules = block.bytes / granule_bytes;
        std::array<Node*, most_levels> path;
        Node* node = root_;
        for (unsigned level = levels_ - 1; level != 0; --level) {
            path[level] = node;
            node = node_at(node, digit(granules, level));
        }
        node->below[digit(granules, 0)] = next;
        if (next != nullptr) return;
        node->occupied &= ~bit(digit(granules, 0));
        for (unsigned level = 1; node->occupied == 0; ++level) {
            put_spare(node);
            if (level == levels_) {
                root_ = nullptr;
                levels_ = 0;
                return;
            }
            node = path[level];
            node->below[digit(granules, level)] = nullptr;
            node->occupied &= ~bit(digit(granules, level));
        }
    }

    Block* find(std::size_t bytes, std::size_t alignment) const noexcept override {
        unsigned seen = 0;
        for (Block* head = at_least(bytes); head != nullptr; head = at_least(head->bytes + granule_bytes))
            for (Block* block = head; block != nullptr; block = block->node.bin.next) {
                if (fits(*block, bytes, alignment)) return block;
                if (++seen == candidates) return at_least(bytes + alignment - granule_bytes);
            }
        return nullptr;
    }
    Block* search(std::size_t bytes, std::size_t alignment) const noexcept override {
        for (Block* head = at_least(bytes); head != nullptr; head = at_least(head->bytes + granule_bytes))
            for (Block* block = head; block != nullptr; block = block->node.bin.next)
                if (fits(*block, bytes, alignment)) return block;
        return nullptr;
    }
    void for_each_from(std::size_t bytes, const std::function<void(Block&)>& visit) const override {
        for (Block* head = at_least(bytes); head != nullptr; head = at_least(head->bytes + granule_bytes))
            for (Block* block = head; block != nullptr; block = block->node.bin.next)
                visit(*block);
    }
    std::size_t largest_bytes() const noexcept override {
        if (root_ == nullptr) return 0;
        const auto highest = [](const Node* n) {
            return fan_out - 1 - static_cast<unsigned>(std::countl_zero(n->occupied));
        };
        const Node* node = root_;
        for (unsigned level = levels_ - 1; level != 0; --level)
            node = node_at(node, highest(node));
        return block_at(node, highest(node))->bytes;
    }
    std::string check() const override { return root_ == nullptr ? std::string() : check_below(root_, levels_ - 1, 0); }

private:
    /// The newest block of the smallest size that is at least `bytes`.
    Block* at_least(std::size_t bytes) const noexcept {
        const std::size_t granules = bytes / granule_bytes;
        if (root_ == nullptr || levels_for(granules) > levels_) return nullptr;
        std::array<const Node*, most_levels> path;
        const Node* node = root_;
        unsigned level = levels_ - 1;
        // Down the path of the size itself as far as it goes, then up to where a larger one branches off.
        for (;; --level) {
            path[level] = node;
            const unsigned at = digit(granules, level);
            if ((node->occupied & bit(at)) == 0) break;
            if (level == 0) return block_at(node, at);
            node = node_at(node, at);
        }
        for (;; ++level) {
            if (level == levels_) return nullptr;
            const std::uint64_t larger = path[level]->occupied & above(digit(granules, level));
            if (larger == 0) continue;
            node = path[level];
            for (unsigned at = static_cast<unsigned>(std::countr_zero(larger));;
                 at = static_cast<unsigned>(std::countr_zero(node->occupied))) {
                if (level-- == 0) return block_at(node, at);
                node = node_at(node, at);
            }
        }
    }

    static std::string check_below(const Node* node, unsigned level, std::size_t prefix) {
        if (node->occupied == 0) return "best fit: a node is empty";
        for (unsigned at = 0; at < fan_out; ++at) {
            if (((node->occupied & bit(at)) != 0) != (node->below[at] != nullptr))
                return "best fit: a bitmap disagrees with its node";
            if (node->below[at] == nullptr) continue;
            const std::size_t granules = prefix * fan_out + at;
            if (level != 0) {
                if (std::string found = check_below(node_at(node, at), level - 1, granules); !found.empty())
                    return found;
                continue;
            }
            const Block* previous = nullptr;
            for (const Block* block = block_at(node, at); block != nullptr; block = block->node.bin.next) {
                if (block->bytes != granules * granule_bytes) return "best fit: a block is in another size's list";
                if (block->node.bin.previous != previous) return "best fit: a list's links disagree";
                previous = block;
            }
        }
        return {};
    }

    static void destroy(Node* node, unsigned level) noexcept {
        for (unsigned at = 0; at < fan_out && level != 0; ++at)
            if (node->below[at] != nullptr) destroy(node_at(node, at), level - 1);
        delete node;
    }
    Node* take_spare() noexcept {
        Node* node = spare_;
        spare_ = node_at(node, 0);
        node->below[0] = nullptr;
        --spares_;
        return node;
    }
    void put_spare(Node* node) noexcept {
        if (spares_ >= kept_nodes) {
            delete node;
            return;
        }
        node->below[0] = spare_;
        spare_ = node;
        ++spares_;
    }

    Node* root_ = nullptr;
    unsigned levels_ = 0;
    Node* spare_ = nullptr;
    std::size_t spares_ = 0;
};

} // namespace

std::unique_ptr<FreeBlockIndex> make_best_fit_index() { return std::make_unique<BestFit>(); }

} // namespace cuda_zstd::detail
