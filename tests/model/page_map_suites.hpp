// SPDX-License-Identifier: MIT
// Programs over the map of free pages for the model checker: a page has one owner, claims put back what they cannot
// use, and a claimer sees what the last owner did.
#pragma once

#include "cuda_zstd/heap/page_map.hpp"

#include <cstdint>

#include "model_check.hpp"

namespace cuda_zstd::model {

template <rl::thread_id_t Threads, std::uint32_t page_count, class Mutation>
struct ModelPages {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelAtom<std::uint32_t> bits[(page_count + 31) / 32];
    ModelAtom<std::uint32_t> free_count, least_free;
    ModelAtom<std::uint64_t> rover;
    rl::var<int> bytes[page_count];

    PageMap<Env> map() { return {bits, &free_count, &least_free, page_count}; }
    Rovers<Env> rovers() { return {reinterpret_cast<char*>(&rover), sizeof rover, 0, 1, 5}; }

    /// `taken` pages at the front are nobody's to give.
    void prepare(std::uint32_t taken = 0) {
        Env env(warps[0], 0);
        for (std::uint32_t word = 0; word < (page_count + 31) / 32; ++word) {
            std::uint32_t free = low_bits(page_count - word * 32 < 32 ? page_count - word * 32 : 32);
            if (word == 0) free &= ~low_bits(taken);
            env.store(bits[word], free, Order::relaxed);
        }
        env.store(free_count, page_count - taken, Order::relaxed);
        env.store(least_free, page_count - taken, Order::relaxed);
        env.store(rover, 0, Order::relaxed);
        for (rl::var<int>& page : bytes)
            page(rl::debug_info("prepare", __FILE__, __LINE__)).store(0);
    }
    void touch(std::uint32_t first, std::uint32_t count) {
        for (std::uint32_t page = first; page < first + count; ++page)
            bytes[page](rl::debug_info("touch", __FILE__, __LINE__)).store(1);
    }
    /// Claims a run, writes to it and gives it back. Returns whether it got one.
    bool use(Env& env, std::uint32_t count) {
        const std::uint32_t first = map().claim(env, count, rovers(), ClaimEffort::search);
        if (first == no_page) return false;
        RL_ASSERT(first + count <= page_count);
        touch(first, count);
        map().release(env, first, count, rovers());
        return true;
    }
    void expect_free(std::uint32_t count) {
        Env env(warps[0], 0);
        RL_ASSERT(env.load(free_count, Order::relaxed) == count);
        std::uint32_t set = 0;
        for (ModelAtom<std::uint32_t>& word : bits)
            set += popcount(env.load(word, Order::relaxed));
        RL_ASSERT(set == count);
        // At rest a run that exists is found.
        RL_ASSERT(map().claim(env, count, rovers(), ClaimEffort::search) != no_page);
    }
};

/// Threads that claim runs of 1 and 2 of 3 pages: they overlap, collide and roll back.
template <rl::thread_id_t Threads, class Mutation>
struct ShortRuns : rl::test_suite<ShortRuns<Threads, Mutation>, Threads> {
    ModelPages<Threads, 3, Mutation> pages;

    void before() { pages.prepare(); }
    void thread(unsigned index) {
        relacy_env<Threads, 1, Mutation> env(pages.warps[index], 0);
        pages.use(env, index % 2 == 0 ? 2 : 1);
        if (Threads == 2 && index == 1) pages.use(env, 2);
    }
    void after() { pages.expect_free(3); }
};

/// Two pages at a place against one of them, twice: small enough for a search of everything.
template <class Mutation>
struct PlaceAgainstPage : rl::test_suite<PlaceAgainstPage<Mutation>, 2> {
    ModelPages<2, 2, Mutation> pages;

    void before() { pages.prepare(); }
    void thread(unsigned index) {
        relacy_env<2, 1, Mutation> env(pages.warps[index], 0);
        const std::uint32_t place = index;
        const std::uint32_t count = 2 - index;
        for (unsigned round = 0; round < 2; ++round) {
            if (!pages.map().claim_at(env, place, count)) continue;
            pages.touch(place, count);
            pages.map().release(env, place, count, {});
        }
    }
    void after() { pages.expect_free(2); }
};

/// A run across two words of the map against a claim of its second part.
template <class Mutation>
struct RunAcrossWords : rl::test_suite<RunAcrossWords<Mutation>, 2> {
    ModelPages<2, 34, Mutation> pages;

    void before() { pages.prepare(30); }
    void thread(unsigned index) {
        relacy_env<2, 1, Mutation> env(pages.warps[index], 0);
        if (index == 0)
            pages.use(env, 4);
        else
            pages.use(env, 3);
    }
    void after() { pages.expect_free(4); }
};

} // namespace cuda_zstd::model
