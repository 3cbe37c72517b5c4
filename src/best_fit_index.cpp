// SPDX-License-Identifier: MIT
// Best fit: a list for each size, found through a tree of bitmaps over the sizes, 64 to a node (a stratified tree as
// that of van Emde Boas, "Preserving order in a forest in less than logarithmic time", 1975, but of fixed fan-out). Its
// depth is at most that of the largest size, 3 nodes to 64 MiB, 4 to 4 GiB, whatever the number of blocks; a list hangs
// as high as no other size shares its place, so with few blocks it is 2. A red-black tree over size and address took
// five times as long among a million holes of mixed sizes, where each level is a cache miss.
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
    /// Those of the occupied places that hold the newest block of the only size there, as all do on the lowest level;
    /// the others hold nodes.
    std::uint64_t lists = 0;
    std::array<void*, fan_out> below{};

    bool is_list(unsigned index) const noexcept { return (lists >> index & 1) != 0; }
    void set_list(unsigned index, Block* head) noexcept {
        below[index] = head;
        occupied |= std::uint64_t{1} << index;
        lists |= std::uint64_t{1} << index;
    }
    void clear(unsigned index) noexcept {
        below[index] = nullptr;
        occupied &= ~(std::uint64_t{1} << index);
        lists &= ~(std::uint64_t{1} << index);
    }
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
        if (root_ != nullptr) destroy(root_);
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
        for (unsigned level = levels_ - 1;; --level) {
            const unsigned at = digit(granules, level);
            Block* head = nullptr;
            if ((node->occupied & bit(at)) != 0) {
                if (!node->is_list(at)) {
                    node = node_at(node, at);
                    continue;
                }
                head = block_at(node, at);
                if (head->bytes != block.bytes) {
                    // Another size has the place: it goes one level down.
                    Node* lower = take_spare();
                    lower->set_list(digit(head->bytes / granule_bytes, level - 1), head);
                    node->below[at] = lower;
                    node->lists &= ~bit(at);
                    node = lower;
                    continue;
                }
                head->node.bin.previous = &block;
            }
            block.node.bin = {nullptr, head};
            node->set_list(at, &block);
            return;
        }
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
        unsigned level = levels_ - 1;
        for (; !node->is_list(digit(granules, level)); --level) {
            path[level] = node;
            node = node_at(node, digit(granules, level));
        }
        if (next != nullptr) {
            node->below[digit(granules, level)] = next;
            return;
        }
        node->clear(digit(granules, level));
        while (node->occupied == 0) {
            put_spare(node);
            if (++level == levels_) {
                root_ = nullptr;
                levels_ = 0;
                return;
            }
            node = path[level];
            node->clear(digit(granules, level));
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
        while (!node->is_list(highest(node)))
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
            if (node->is_list(at)) {
                Block* const head = block_at(node, at);
                if (head->bytes >= bytes) return head;
                break;
            }
            node = node_at(node, at);
        }
        for (;; ++level) {
            if (level == levels_) return nullptr;
            const std::uint64_t larger = path[level]->occupied & above(digit(granules, level));
            if (larger == 0) continue;
            node = path[level];
            unsigned at = static_cast<unsigned>(std::countr_zero(larger));
            while (!node->is_list(at)) {
                node = node_at(node, at);
                at = static_cast<unsigned>(std::countr_zero(node->occupied));
            }
            return block_at(node, at);
        }
    }

    static std::string check_below(const Node* node, unsigned level, std::size_t prefix) {
        if (node->occupied == 0) return "best fit: a node is empty";
        if ((node->lists & ~node->occupied) != 0) return "best fit: a list is at a place that is not occupied";
        for (unsigned at = 0; at < fan_out; ++at) {
            if (((node->occupied & bit(at)) != 0) != (node->below[at] != nullptr))
                return "best fit: a bitmap disagrees with its node";
            if (node->below[at] == nullptr) continue;
            const std::size_t granules = prefix * fan_out + at;
            if (!node->is_list(at)) {
                if (level == 0) return "best fit: a node is below the lowest level";
                if (std::string found = check_below(node_at(node, at), level - 1, granules); !found.empty())
                    return found;
                continue;
            }
            const Block* previous = nullptr;
            for (const Block* block = block_at(node, at); block != nullptr; block = block->node.bin.next) {
                if (block->bytes / granule_bytes >> (level * digit_bits) != granules ||
                    block->bytes != block_at(node, at)->bytes)
                    return "best fit: a block is in another size's list";
                if (block->node.bin.previous != previous) return "best fit: a list's links disagree";
                previous = block;
            }
        }
        return {};
    }

    static void destroy(Node* node) noexcept {
        for (unsigned at = 0; at < fan_out; ++at)
            if (node->below[at] != nullptr && !node->is_list(at)) destroy(node_at(node, at));
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
