// SPDX-License-Identifier: MIT
// Programs over a tiny heap for the model checker: slabs' credits, cursors, lists, reclaiming, and a warp of two lanes.
// Invariant: each suite asserts at its end that every page came back.
#pragma once

#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

#include "model_heap.hpp"

namespace cuda_zstd::model {

/// Threads that each take and give blocks of one class of two slots a page. One page for two threads, so that slots go
/// from hand to hand; what a thread had before must be visible to the next owner.
template <rl::thread_id_t Threads, std::uint32_t page_count, class Mutation, std::uint32_t stations = 1>
struct OneClass : rl::test_suite<OneClass<Threads, page_count, Mutation, stations>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, page_count, stations> model;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0, index % stations);
        for (int round = 0; round < 2; ++round) {
            Status status = Status::ok;
            void* const block = model.take(env, 1, max_slot_bytes, status);
            RL_ASSERT((block != nullptr) == (status == Status::ok));
            // Two threads hold at most two blocks, and a page has two slots.
            RL_ASSERT(status != Status::full || Threads > 2 * page_count);
            if (block != nullptr) model.give(env, 1, block);
        }
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// One page that two classes and a run want in turn: slabs are retired and born again while others look at them.
template <rl::thread_id_t Threads, class Mutation, std::uint32_t stations = 1>
struct ThreeSizes : rl::test_suite<ThreeSizes<Threads, Mutation, stations>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, 1, stations> model;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0, index % stations);
        static constexpr std::size_t sizes[] = {max_slot_bytes, 16384, page_bytes};
        for (unsigned round = 0; round < 2; ++round) {
            Status status = Status::ok;
            void* const block = model.take(env, 1, sizes[(index + round) % 3], status);
            if (block != nullptr) model.give(env, 1, block);
        }
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
        Status status = Status::ok;
        RL_ASSERT(model.take(env, 1, page_bytes, status) != nullptr);
    }
};

/// A block that another thread frees, while the first takes and frees its own of the same slab.
template <class Mutation>
struct FreedByAnother : rl::test_suite<FreedByAnother<Mutation>, 2> {
    using Env = relacy_env<2, 1, Mutation>;
    ModelWarp<2, 1> warps[2];
    ModelHeap<Env, 1> model;
    void* blocks[2] = {};

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        for (void*& block : blocks) {
            Status status = Status::ok;
            block = model.take(env, 1, max_slot_bytes, status);
        }
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        model.give(env, 1, blocks[index]);
        Status status = Status::ok;
        void* const block = model.take(env, 1, index == 0 ? max_slot_bytes : page_bytes, status);
        if (block != nullptr) model.give(env, 1, block);
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// Three slabs of two slots: two with one free slot each, on the list, and one in the cursor with one. Each thread
/// takes two blocks, so slabs leave the list, change the cursor and come back, and gives them and one old block back.
template <rl::thread_id_t Threads, class Mutation, std::uint32_t stations = 1>
struct ListedSlabs : rl::test_suite<ListedSlabs<Threads, Mutation, stations>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, 3, stations> model;
    void* old[5] = {};

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        for (void*& block : old) {
            Status status = Status::ok;
            block = model.take(env, 1, max_slot_bytes, status);
            RL_ASSERT(block != nullptr);
        }
        model.give(env, 1, old[0]);
        model.give(env, 1, old[2]);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        Status status = Status::ok;
        void* first = model.take(env, 1, max_slot_bytes, status);
        if (index == 0) model.give(env, 1, old[1]);
        void* second = model.take(env, 1, max_slot_bytes, status);
        if (index == 1) model.give(env, 1, old[3]);
        if (first != nullptr) model.give(env, 1, first);
        if (second != nullptr) model.give(env, 1, second);
        if (index == Threads - 1) { // one more size, for which an empty slab must go
            void* const run = model.take(env, 1, page_bytes, status);
            if (run != nullptr) model.give(env, 1, run);
        }
    }
    void after() {
        Env env(warps[0], 0);
        model.give(env, 1, old[4]);
        model.expect_all_free(env);
    }
};

/// The only page is a run of one thread, then a slab whose two slots the others take: the one who did not make the slab
/// must see through the cursor or the slab's word what the run's owner did, since its slot's bit was never anybody's.
template <class Mutation>
struct RunThenSlab : rl::test_suite<RunThenSlab<Mutation>, 3> {
    using Env = relacy_env<3, 1, Mutation>;
    ModelWarp<3, 1> warps[3];
    ModelHeap<Env, 1> model;
    void* run = nullptr;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        Status status = Status::ok;
        run = model.take(env, 1, page_bytes, status);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        if (index == 0) {
            for (std::size_t half = 0; half < page_bytes; half += max_slot_bytes)
                model.touch(static_cast<char*>(run) + half);
            model.give(env, 1, run);
            return;
        }
        Status status = Status::ok;
        void* const block = model.take(env, 1, max_slot_bytes, status);
        if (block != nullptr) model.give(env, 1, block);
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// Whether there is a block for each request.
enum class Fit { maybe, always };

/// What each of three lanes does: the first two are a warp and call together where they meet, the third calls alone.
template <class Env, class Model>
void take_and_give_twice(Env& env, Model& model, unsigned index, std::size_t bytes, Fit fit) {
    const LaneMask alone = LaneMask{1} << (index % 2);
    for (unsigned round = 0; round < 2; ++round) {
        Status status = Status::ok;
        const LaneMask taking = index < 2 ? env.converged() : alone;
        void* const block = model.take(env, taking, bytes, status);
        RL_ASSERT(block != nullptr || fit == Fit::maybe);
        const LaneMask giving = index < 2 ? env.converged() : alone;
        model.give(env, giving, block);
    }
}

/// A warp of two lanes that take, write and give together, beside a warp of which one lane does the same alone.
template <class Mutation>
struct WarpOfTwo : rl::test_suite<WarpOfTwo<Mutation>, 3> {
    using Env = relacy_env<3, 2, Mutation>;
    ModelWarp<3, 2> warps[2];
    ModelHeap<Env, 2> model;

    void before() {
        Env env(warps[1], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index / 2], index % 2);
        take_and_give_twice(env, model, index, max_slot_bytes, Fit::maybe);
    }
    void after() {
        Env env(warps[1], 0);
        model.expect_all_free(env);
    }
};

/// A warp of two lanes whose slots lie in two words of bits, so that each lane sets one, beside a warp of which one
/// lane does the same alone: 36 slots, three of which are taken beforehand, so that a pair begins at slot 31.
template <class Mutation>
struct TwoWords : rl::test_suite<TwoWords<Mutation>, 3> {
    using Env = relacy_env<3, 2, Mutation>;
    static constexpr std::size_t block_bytes = 1792;
    ModelWarp<3, 2> warps[2];
    ModelHeap<Env, 1, 1, 256> model;
    void* held[3];

    void before() {
        Env env(warps[1], 0);
        model.prepare(env);
        Status status;
        for (void*& block : held)
            block = model.take(env, 1, block_bytes, status);
    }
    void thread(unsigned index) {
        Env env(warps[index / 2], index % 2);
        take_and_give_twice(env, model, index, block_bytes, Fit::always);
    }
    void after() {
        Env env(warps[1], 0);
        for (void* block : held)
            model.give(env, 1, block);
        model.expect_all_free(env);
    }
};

/// A slab of three blocks, in the cursor of a processor that asks for a fourth: its thread finds no other slab and
/// takes this one out of the cursor. A thread of another processor has given two of the blocks back meanwhile, and is
/// not refused: if it does not find them in the cursor, it sees that something moves.
template <class Mutation>
struct TakenOutOfSight : rl::test_suite<TakenOutOfSight<Mutation>, 2> {
    using Env = relacy_env<2, 1, Mutation>;
    static constexpr std::size_t block_bytes = 20480;
    ModelWarp<2, 1> warps[2];
    ModelHeap<Env, 1, 2, 4096> model;
    void* held[3] = {};

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        Status status = Status::ok;
        for (void*& block : held)
            block = model.take(env, 1, block_bytes, status);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0, index);
        for (unsigned old = 0; old < 2 * index; ++old)
            model.give(env, 1, held[old]);
        Status status = Status::ok;
        void* const block = model.take(env, 1, block_bytes, status);
        RL_ASSERT(index == 0 || status != Status::full);
        if (block != nullptr) model.give(env, 1, block);
    }
    void after() {
        Env env(warps[0], 0);
        model.give(env, 1, held[2]);
        model.expect_all_free(env);
    }
};

} // namespace cuda_zstd::model
