// SPDX-License-Identifier: MIT
// The map of free pages, by itself and by one thread: a claim finds a run if there is one, wherever its rover stands.
#pragma once

#include "cuda_zstd/env/sim/schedule.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/page_map.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace cuda_zstd::test {

/// Random maps of up to 200 pages; empty, or what is wrong.
inline std::string check_page_map(unsigned maps, std::uint64_t seed) {
    solo_env env;
    sim::Random draw(seed);
    for (unsigned index = 0; index < maps; ++index) {
        const std::uint32_t page_count = 1 + draw.below(200);
        const std::uint32_t words = (page_count + 31) / 32;
        std::vector<Atom<std::uint32_t>> bits(words, Atom<std::uint32_t>{0});
        Atom<std::uint32_t> free_count{0};
        Atom<std::uint32_t> least_free{0};
        Atom<std::uint64_t> positions[4];
        for (Atom<std::uint64_t>& position : positions)
            position.value = draw.below(96 * words);
        const std::uint32_t rover_count = 1 + draw.below(4);
        const Rovers<solo_env> rovers{reinterpret_cast<char*>(positions), sizeof positions[0], draw.below(rover_count),
                                      rover_count, 5 + draw.below(3)};
        std::vector<char> is_free(page_count);
        const std::uint32_t share = 1 + draw.below(20);
        for (std::uint32_t page = 0, now = 0; page < page_count; ++page) {
            if (draw.below(share) == 0) now = draw.below(2);
            is_free[page] = static_cast<char>(now);
            bits[page / 32].value |= now << (page % 32);
            free_count.value += now;
        }
        const PageMap<solo_env> map{bits.data(), &free_count, &least_free, page_count};
        const std::uint32_t count = 1 + draw.below(draw.below(2) == 0 ? 4 : 70);
        bool possible = false;
        for (std::uint32_t page = 0, length = 0; page < page_count; ++page) {
            length = is_free[page] != 0 ? length + 1 : 0;
            possible |= length >= count;
        }
        const std::uint32_t before = free_count.value;
        const std::uint32_t first = map.claim(env, count, rovers, ClaimEffort::search);
        const auto say = [&](const char* what) {
            return "map " + std::to_string(index) + ", " + std::to_string(count) + " of " + std::to_string(page_count) +
                   " pages: " + what;
        };
        if ((first != no_page) != possible)
            return say(possible ? "a run is there and was not found" : "there is no such run");
        if (first != no_page)
            for (std::uint32_t page = first; page < first + count; ++page)
                if (page >= page_count || is_free[page]-- == 0) return say("a page was claimed that is not free");
        if (free_count.value != before - (first != no_page ? count : 0)) return say("the count is wrong");
        for (std::uint32_t page = 0; page < page_count; ++page)
            if ((bits[page / 32].value >> (page % 32) & 1u) != static_cast<std::uint32_t>(is_free[page]))
                return say("a bit is wrong after the claim");
        if (first == no_page) continue;
        map.release(env, first, count, rovers);
        if (free_count.value != before) return say("the count is wrong after the release");
    }
    return {};
}

} // namespace cuda_zstd::test
