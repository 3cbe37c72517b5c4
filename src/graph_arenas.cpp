// SPDX-License-Identifier: MIT
#include "graph_arenas.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/free_block_index.hpp"

#include <algorithm>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t smallest_chunk_bytes = std::size_t{2} << 20;
constexpr std::size_t largest_chunk_bytes = std::size_t{64} << 20;
/// No stream has it: what is taken in its name waits for nobody.
constexpr std::uint64_t no_stream = ~std::uint64_t{0};

std::string address(const void* ptr) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", ptr);
    return text;
}

} // namespace

/// Who ends last of the pool and a graph finds the other gone here.
struct GraphArenas::Link {
    std::mutex mutex;
    GraphArenas* pool = nullptr;
};

struct GraphArenas::Arena {
    std::uint64_t capture = 0;
    std::shared_ptr<Link> link;
    std::vector<Block*> chunks;
    std::size_t chunk_bytes = 0;
    std::byte* next = nullptr;
    std::byte* end = nullptr;
    std::map<const std::byte*, Piece> pieces;
    /// Freed in the capture, by the stream of the free and the size.
    std::map<std::pair<std::uint64_t, std::size_t>, std::vector<std::byte*>> freed;
    Arena* next_gone = nullptr;
    /// Of the capture, while it is known to go on, and who has to tell of its end.
    std::vector<cudaStream_t> streams;
    bool has_notice = false;
};

GraphArenas::GraphArenas(Backend& backend, ArenaPool& memory)
    : backend_(backend), memory_(memory), link_(std::make_shared<Link>()) {
    link_->pool = this;
}

GraphArenas::~GraphArenas() {
    const std::lock_guard alive(link_->mutex);
    link_->pool = nullptr;
    // Those of graphs that live are deleted by release().
    const std::lock_guard lock(mutex_);
    for (const auto& [capture, arena] : arenas_)
        end(*arena);
    for (Arena* arena = gone_.load(std::memory_order_relaxed); arena != nullptr; arena = arena->next_gone)
        if (const auto found = arenas_.find(arena->capture); found != arenas_.end()) found->second->link = nullptr;
    for (auto& [capture, arena] : arenas_)
        if (arena->link != nullptr) (void)arena.release();
}

/// Called by the driver: no call of CUDA, and none that waits for one.
void GraphArenas::release(void* context) {
    auto* arena = static_cast<Arena*>(context);
    const std::shared_ptr<Link> link = arena->link;
    const std::lock_guard alive(link->mutex);
    if (link->pool == nullptr) {
        delete arena;
        return;
    }
    arena->next_gone = link->pool->gone_.load(std::memory_order_relaxed);
    link->pool->gone_.store(arena, std::memory_order_relaxed);
}

/// The capture's arena; a new one is the graph's at once. With the mutex held.
GraphArenas::Arena& GraphArenas::arena_of(const BackendCapture& capture) {
    const auto found = arenas_.find(capture.id);
    if (found != arenas_.end()) return *found->second;
    auto made = std::make_unique<Arena>();
    made->capture = capture.id;
    made->link = link_;
    Arena& arena = *made;
    arenas_.emplace(capture.id, std::move(made));
    try {
        backend_.retain_by_graph(capture.graph, &GraphArenas::release, &arena);
    } catch (...) {
        arenas_.erase(capture.id);
        throw;
    }
    return arena;
}

/// False where there is no memory.
bool GraphArenas::add_chunk(Arena& arena, std::size_t bytes) {
    arena.chunks.reserve(arena.chunks.size() + 1);
    const std::size_t least_bytes = round_up(bytes, smallest_chunk_bytes);
    const std::size_t aimed_bytes =
        std::max(least_bytes, std::clamp(2 * arena.chunk_bytes, smallest_chunk_bytes, largest_chunk_bytes));
    for (const std::size_t chunk_bytes : {aimed_bytes, least_bytes})
        for (const Effort effort : {Effort::cached, Effort::grow}) {
            const Taken taken = memory_.take(chunk_bytes, smallest_chunk_bytes, no_stream, effort);
            if (!taken) continue;
            arena.chunks.push_back(taken.block);
            arena.chunk_bytes = chunk_bytes;
            arena.next = taken.block->ptr;
            arena.end = taken.block->end();
            return true;
        }
    return false;
}

/// Null where there is no memory.
std::byte* GraphArenas::cut(Arena& arena, std::size_t bytes, std::size_t alignment) {
    const auto room = [&] {
        return arena.next != nullptr &&
               static_cast<std::size_t>(arena.end - arena.next) >=
                   bytes + static_cast<std::size_t>(aligned_up(arena.next, alignment) - arena.next);
    };
    // A chunk is aligned to the largest alignment that there is.
    if (!room() && !add_chunk(arena, bytes)) return nullptr;
    std::byte* const ptr = aligned_up(arena.next, alignment);
    arena.pieces.emplace(ptr, Piece{bytes, true});
    arena.next = ptr + bytes;
    return ptr;
}

/// The stream is being captured, and in no other capture than this one. With the mutex held.
void GraphArenas::note_stream(Arena& arena, const BackendCapture& capture, cudaStream_t stream) {
    if (std::find(arena.streams.begin(), arena.streams.end(), stream) != arena.streams.end()) return;
    end_those_of(stream);
    const bool is_first = arena.streams.empty();
    if (is_first) arena.has_notice = backend_.has_notice_of(capture);
    arena.streams.push_back(stream);
    if (!is_first || arena.has_notice) return;
    under_way_.fetch_add(1, std::memory_order_relaxed);
    backend_.note_capture();
}

void* GraphArenas::allocate(std::size_t bytes, std::size_t alignment, const StreamRef& stream) {
    const BackendCapture capture = backend_.capture_of(stream.handle);
    if (capture.id == 0)
        throw usage_error("allocate on a stream whose capture is announced but not under way, or has failed");
    if (bytes > memory_.most_bytes()) return nullptr;
    const std::size_t rounded_bytes = round_up(bytes, granule_bytes);
    const std::lock_guard lock(mutex_);
    Arena& arena = arena_of(capture);
    note_stream(arena, capture, stream.handle);
    const auto freed = arena.freed.find({stream.id, rounded_bytes});
    if (freed != arena.freed.end())
        for (std::byte*& ptr : freed->second) {
            if (aligned_up(ptr, alignment) != ptr) continue;
            std::byte* const found = std::exchange(ptr, freed->second.back());
            freed->second.pop_back();
            arena.pieces.at(found).is_live = true;
            return found;
        }
    return cut(arena, rounded_bytes, alignment);
}

void GraphArenas::deallocate(void* ptr, const StreamRef& stream) {
    const BackendCapture capture = backend_.capture_of(stream.handle);
    const std::lock_guard lock(mutex_);
    const Arena* const its = arena_with(ptr);
    if (its == nullptr)
        throw usage_error("deallocate of " + address(ptr) +
                          " on a stream that is being captured into a graph: it is no block of that graph; the graph "
                          "would free it again each time that it is launched, so free it on a stream that is not being "
                          "captured, after the graph's last launch");
    if (its->capture != capture.id)
        throw usage_error("deallocate of " + address(ptr) +
                          " on a stream that is being captured into a graph: it belongs to another graph");
    Arena& arena = *arenas_.at(capture.id);
    const auto piece = arena.pieces.find(static_cast<const std::byte*>(ptr));
    if (piece == arena.pieces.end())
        throw usage_error("cannot free: " + address(ptr) +
                          " points into the memory of a graph, but is no block's address");
    if (!piece->second.is_live)
        throw usage_error("cannot free: " + address(ptr) + " is already free, freed in the capture of its graph");
    arena.freed[{stream.id, piece->second.bytes}].push_back(static_cast<std::byte*>(ptr));
    piece->second.is_live = false;
}

/// The capture does not go on. With the mutex held.
void GraphArenas::end(Arena& arena) noexcept {
    if (arena.streams.empty()) return;
    arena.streams.clear();
    if (arena.has_notice) return;
    under_way_.fetch_sub(1, std::memory_order_relaxed);
    backend_.end_capture();
}

void GraphArenas::end_capture_of(cudaStream_t stream) noexcept {
    const std::lock_guard lock(mutex_);
    end_those_of(stream);
}

/// With the mutex held.
void GraphArenas::end_those_of(cudaStream_t stream) noexcept {
    for (const auto& [capture, arena] : arenas_)
        if (std::find(arena->streams.begin(), arena->streams.end(), stream) != arena->streams.end()) end(*arena);
}

/// With the mutex held.
const GraphArenas::Arena* GraphArenas::arena_with(const void* ptr) const {
    const auto* const byte = static_cast<const std::byte*>(ptr);
    for (const auto& [capture, arena] : arenas_)
        for (const Block* chunk : arena->chunks)
            if (byte >= chunk->ptr && byte < chunk->end()) return arena.get();
    return nullptr;
}

std::string GraphArenas::explain(const void* ptr) const {
    const std::lock_guard lock(mutex_);
    const Arena* const arena = arena_with(ptr);
    if (arena == nullptr) return {};
    return address(ptr) + " belongs to the graph of capture " + std::to_string(arena->capture) +
           ": it lives as long as the graph and what was instantiated from it, and needs no free; only inside the "
           "capture "
           "may it be freed, for use by the rest of the capture";
}

void GraphArenas::reclaim() {
    Arena* gone = nullptr;
    {
        const std::lock_guard alive(link_->mutex);
        gone = gone_.exchange(nullptr, std::memory_order_relaxed);
    }
    const std::lock_guard lock(mutex_);
    while (gone != nullptr) {
        Arena* const arena = std::exchange(gone, gone->next_gone);
        end(*arena);
        for (Block* chunk : arena->chunks)
            memory_.give(*chunk, {});
        arenas_.erase(arena->capture);
    }
}

GraphFigures GraphArenas::figures() const {
    const std::lock_guard lock(mutex_);
    GraphFigures figures;
    for (const auto& [capture, arena] : arenas_) {
        ++figures.graphs;
        for (const Block* chunk : arena->chunks)
            figures.bytes += chunk->bytes;
    }
    return figures;
}

} // namespace cuda_zstd::detail
