// SPDX-License-Identifier: MIT
// Memory of CUDA graphs: what is allocated while a stream is being captured.
//
// Invariant: a capture that allocates has one arena, made of chunks that nothing waits for, so the graph may run on any
// stream at any time. The graph retains the arena (cudaGraphRetainUserObject): its chunks come back when the graph, its
// clones and all that was instantiated from it are gone, and not before; so they do when a capture is abandoned or
// fails. The driver says so on a thread of its own, where nothing may call CUDA: the arena only goes on a list then,
// which the pool looks at when it misses. A block that is freed inside its capture is used again by that capture, on
// the stream of the free: there the order of the graph's nodes is the order of the calls. Any other free of it is
// refused.
#pragma once

#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/stream_order.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

struct GraphFigures {
    /// Graphs that hold memory of the pool, and how much.
    std::size_t graphs = 0;
    std::size_t bytes = 0;
};

/// Members may be called from any thread.
class GraphArenas {
public:
    GraphArenas(Backend& backend, ArenaPool& memory);
    /// Graphs that still live have no memory any more.
    ~GraphArenas();
    GraphArenas(const GraphArenas&) = delete;
    GraphArenas& operator=(const GraphArenas&) = delete;

    /// Memory for the graph of the capture that the stream is in; null where there is none. Throws `usage_error` where
    /// the capture cannot be told. One driver call, with the first block of a capture two more, and what a growth
    /// needs.
    void* allocate(std::size_t bytes, std::size_t alignment, const StreamRef& stream);
    /// Frees a block inside its capture. Throws `usage_error` for a block that is none of this capture's.
    void deallocate(void* ptr, const StreamRef& stream);
    /// What the address is to a graph; empty where it is nothing.
    std::string explain(const void* ptr) const;

    /// Whether captures are known to go on and no notice covers them: one that has allocated is, until its stream is
    /// seen without it or in another one, or its graph is gone. One load. The driver cannot be asked: a stream whose
    /// capture is over may be destroyed, and to name it then ends the process.
    bool has_captures() const noexcept { return under_way_.load(std::memory_order_relaxed) != 0; }
    /// The stream is not being captured any more.
    void end_capture_of(cudaStream_t stream) noexcept;

    /// Whether a graph has gone whose memory reclaim() would give back. One load.
    bool has_gone() const noexcept { return gone_.load(std::memory_order_relaxed) != nullptr; }
    /// Gives the memory of graphs that are gone back to the arenas.
    void reclaim();
    GraphFigures figures() const;

private:
    struct Arena;
    struct Link;
    struct Piece {
        std::size_t bytes = 0;
        bool is_live = true;
    };

    static void release(void* arena);
    Arena& arena_of(const BackendCapture& capture);
    std::byte* cut(Arena& arena, std::size_t bytes, std::size_t alignment);
    bool add_chunk(Arena& arena, std::size_t bytes);
    const Arena* arena_with(const void* ptr) const;
    void note_stream(Arena& arena, const BackendCapture& capture, cudaStream_t stream);
    void end_those_of(cudaStream_t stream) noexcept;
    void end(Arena& arena) noexcept;

    Backend& backend_;
    ArenaPool& memory_;
    std::shared_ptr<Link> link_;
    std::atomic<Arena*> gone_{nullptr};
    std::atomic<unsigned> under_way_{0};
    mutable std::mutex mutex_;
    /// By the capture's number. The graph owns a share of each until it is gone.
    std::unordered_map<std::uint64_t, std::unique_ptr<Arena>> arenas_;
};

} // namespace cuda_zstd::detail
