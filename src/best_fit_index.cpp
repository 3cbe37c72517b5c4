// SPDX-License-Identifier: MIT
// Best fit: a red-black tree by size and address (Boost.Intrusive), whose nodes lie in the blocks.
#include "cuda_zstd/host/free_block_index.hpp"

#include <boost/intrusive/parent_from_member.hpp>
#include <boost/intrusive/set.hpp>

#include <utility>

namespace cuda_zstd::detail {
namespace {

namespace bi = boost::intrusive;

/// How Boost's algorithms read a node.
struct TreeTraits {
    using node = IndexNode;
    using node_ptr = IndexNode*;
    using const_node_ptr = const IndexNode*;
    enum color : std::uintptr_t { red_color, black_color };

    static node_ptr get_parent(const_node_ptr n) noexcept {
        return reinterpret_cast<node_ptr>(n->tree.parent_and_color & ~std::uintptr_t{1});
    }
    static void set_parent(node_ptr n, node_ptr parent) noexcept {
        n->tree.parent_and_color = reinterpret_cast<std::uintptr_t>(parent) | (n->tree.parent_and_color & 1);
    }
    static node_ptr get_left(const_node_ptr n) noexcept { return n->tree.left; }
    static void set_left(node_ptr n, node_ptr left) noexcept { n->tree.left = left; }
    static node_ptr get_right(const_node_ptr n) noexcept { return n->tree.right; }
    static void set_right(node_ptr n, node_ptr right) noexcept { n->tree.right = right; }
    static color get_color(const_node_ptr n) noexcept { return static_cast<color>(n->tree.parent_and_color & 1); }
    static void set_color(node_ptr n, color c) noexcept {
        n->tree.parent_and_color = (n->tree.parent_and_color & ~std::uintptr_t{1}) | c;
    }
    static color black() noexcept { return black_color; }
    static color red() noexcept { return red_color; }
};

struct BlockTraits {
    using node_traits = TreeTraits;
    using value_type = Block;
    using node_ptr = IndexNode*;
    using const_node_ptr = const IndexNode*;
    using pointer = Block*;
    using const_pointer = const Block*;
    static constexpr bi::link_mode_type link_mode = bi::normal_link;

    static node_ptr to_node_ptr(Block& block) noexcept { return &block.node; }
    static const_node_ptr to_node_ptr(const Block& block) noexcept { return &block.node; }
    static pointer to_value_ptr(node_ptr n) noexcept { return bi::get_parent_from_member(n, &Block::node); }
    static const_pointer to_value_ptr(const_node_ptr n) noexcept { return bi::get_parent_from_member(n, &Block::node); }
};

class BestFit final : public FreeBlockIndex {
public:
    void insert(Block& block) noexcept override { tree_.insert(block); }
    void erase(Block& block) noexcept override { tree_.erase(tree_.iterator_to(block)); }
    Block* find(std::size_t bytes, std::size_t alignment) const noexcept override {
        auto found = tree_.lower_bound(bytes, Less{});
        for (unsigned seen = 0; found != tree_.end() && seen < candidates; ++found, ++seen)
            if (fits(*found, bytes, alignment)) return const_cast<Block*>(&*found);
        if (found == tree_.end()) return nullptr;
        found = tree_.lower_bound(bytes + alignment - granule_bytes, Less{});
        return found == tree_.end() ? nullptr : const_cast<Block*>(&*found);
    }
    Block* search(std::size_t bytes, std::size_t alignment) const noexcept override {
        for (auto found = tree_.lower_bound(bytes, Less{}); found != tree_.end(); ++found)
            if (fits(*found, bytes, alignment)) return const_cast<Block*>(&*found);
        return nullptr;
    }
    void for_each_from(std::size_t bytes, const std::function<void(Block&)>& visit) const override {
        for (auto found = tree_.lower_bound(bytes, Less{}); found != tree_.end(); ++found)
            visit(const_cast<Block&>(*found));
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
            return a.bytes != b.bytes ? a.bytes < b.bytes : a.ptr < b.ptr;
        }
        bool operator()(const Block& a, std::size_t bytes) const noexcept { return a.bytes < bytes; }
        bool operator()(std::size_t bytes, const Block& a) const noexcept { return bytes < a.bytes; }
    };
    bi::set<Block, bi::value_traits<BlockTraits>, bi::compare<Less>, bi::constant_time_size<false>> tree_;
};

} // namespace

std::unique_ptr<FreeBlockIndex> make_best_fit_index() { return std::make_unique<BestFit>(); }

} // namespace cuda_zstd::detail
