# SPDX-License-Identifier: MIT
"""The faults that tools/mutate.py plants in the heap's sources, each of which some tool must find.

A source fault replaces lines by others; `old` may be a tuple, of which the first that is there is taken, so that a fault can
survive a change of the source. An order fault makes the accesses (or the warp's sync) on the named lines relaxed.
`by` names the tool that is expected to kill it. `survives` is the reason why none does, for those of which that is known.
"""
from dataclasses import dataclass

HEAP, GROUPS, SLAB, LIST, PAGES, SUPPLY = "heap.hpp", "slot_groups.hpp", "slab.hpp", "slab_list.hpp", "page_map.hpp", "supply.hpp"
SHELF, STATIONS, RECLAIM, RUNS = "slab_shelf.hpp", "stations.hpp", "reclaim.hpp", "page_runs.hpp"
OWN = "own_slabs.hpp"


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    edits: tuple = ()       # (old, new) pairs
    order_at: tuple = ()    # (file, text of the line) pairs
    by: str = "sim"
    survives: str = ""
    quick: bool = False     # among those of a CI run


def source(name, file, *edits, **more):
    return Fault(name, file, edits=edits, **more)


def order(name, *places, **more):
    return Fault(name, places[0][0], order_at=places, by="model", **more)


FAULTS = [
    # --- slots: bits and credits
    source("a slot is taken although its bit was set", GROUPS,
           ("if ((seen >> (slot % 32u) & 1u) != 0)", "if (false)"), quick=True),
    source("the second word of a grant is not marked", GROUPS, ("rank < got.words()", "rank < got.words() && rank == 0")),
    source("a lane of the second word asks the lane of the first", GROUPS,
           ("leader : lowest_bit(group & (group - 1u))", "leader : leader"), quick=True),
    source("one lane more than was reserved is served", GROUPS, ("if (rank < got.count()) {", "if (rank <= got.count() && got.count() != 0) {")),
    source("who got none of its group's slots does not ask again", GROUPS,
           ("taken.refuse(static_cast<Status>(got.start()));\n        }", "taken.refuse(static_cast<Status>(got.start()));\n        } else if (asks) {\n            taken.refuse(Status::full);\n        }")),
    source("credits are added before the bit is cleared", HEAP,
           ("seen = env.fetch_and(slabs_.slot_bits[word], ~bits, Order::release) & bits;",
            "seen = env.load(slabs_.slot_bits[word], Order::acquire) & bits;"),
           ("if (cleared == popcount(peers)) seen = ~0u;",
            "env.fetch_and(slabs_.slot_bits[word], ~bits, Order::release);\n"
            "            if (cleared == popcount(peers)) seen = ~0u;")),
    source("a double free is not seen", HEAP, ("(seen >> (slot % 32u) & 1u) == 0 || env.lane() != lowest_bit(same)", "env.lane() != lowest_bit(same)"),
           quick=True),
    source("a block freed twice in one call is not seen", HEAP,
           ("(seen >> (slot % 32u) & 1u) == 0 || env.lane() != lowest_bit(same)", "(seen >> (slot % 32u) & 1u) == 0")),
    source("a double free gives a credit", HEAP, ("cleared = popcount(seen);", "cleared = popcount(peers);")),
    source("what was over-subtracted is not given back", SLAB, ("returned = want - grant.count;", "returned = 0;")),
    source("what the common path over-subtracted is not given back", SUPPLY,
           ("if (part.count != want) supply->give_back", "if (false) supply->give_back"), quick=True),
    source("the class of a slab is not checked", SLAB,
           ("(old.raw & SlabWord::class_mask) == size_class + 1u && old.credits() > 0", "old.is_slab() && old.credits() > 0")),
    source("credits below zero are taken for many", SLAB,
           ("size_class + 1u && old.credits() > 0", "size_class + 1u && old.credits() != 0")),
    source("a taken bit is taken again", SLAB, ("if ((seen & bit) == 0) return word", "return word")),
    source("the search for a slot does not wrap", SLAB,
           ("word = word + 1u < count ? word + 1u : 0u;", "word = word + 1u < count ? word + 1u : word;")),
    source("the search looks at slots that are not there", SLAB,
           ("const std::uint32_t valid = low_bits(slots - word * 32u < 32u ? slots - word * 32u : 32u);",
            "const std::uint32_t valid = ~0u;")),
    # --- slabs: empty, listed, generation
    source("a slab is empty one credit early", SLAB,
           ("(static_cast<std::uint32_t>(credits()) + 1u) * slot_bytes", "(static_cast<std::uint32_t>(credits()) + 2u) * slot_bytes")),
    source("nobody is told that a slab became empty", SLAB,
           ("credits() > 0 && (!listed() || had_none(added) || has_all_credits(slot_bytes))", "credits() > 0 && (!listed() || (had_none(added) && !has_all_credits(slot_bytes)))"), quick=True),
    source("nobody is told that a slab in reach has credits again", STATIONS,
           ("env.fetch_add(move_counter(env), std::uint64_t{1} << 32, Order::release);", "(void)env;"),
           survives="needs three processors and two others' calls between two looks of one; the suites draw that too rarely"),
    source("a slab with credits again is not put in reach", SLAB,
           ("credits() > 0 && (!listed() || had_none(added) || has_all_credits(slot_bytes))", "credits() > 0 && listed() && has_all_credits(slot_bytes)")),
    source("a retired slab keeps its generation", SLAB,
           ("(raw & low_mask) + (std::uint64_t{1} << generation_shift)", "(raw & low_mask)"),
           survives="whoever exchanges a slab's word compares all of it, and equal words are equal states"),
    source("a new slab is not listed", SLAB,
           ("               listed_bit | (size_class + 1u);", "               (size_class + 1u);")),
    source("a new slab has no home", SLAB, ("(std::uint64_t{home} << home_shift) | ", ""),
           survives="it is then listed where few look, and found all the same when pages are short; SimHeap.ASlabGoesHomeWhoeverFreesIntoIt finds it"),
    source("a slab is listed without the bit", SHELF, ("now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel", "now.raw, now.raw, Order::acq_rel")),
    source("two freers may both list a slab", SHELF,
           ("if (!env.compare_exchange(slabs.words[slab], now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel))",
            "if (env.fetch_or(slabs.words[slab], std::uint64_t{SlabWord::listed_bit}, Order::acq_rel); false)")),
    source("a slab without credits stays listed", SHELF,
           ("const SlabWord left = now.credits() > 0 ? now.retired() : SlabWord{now.raw & ~SlabWord::listed_bit};",
            "const SlabWord left = now.credits() > 0 ? now.retired() : now;")),
    source("a slab is retired without being counted out", SHELF,
           ("env.fetch_sub(stations.listed_count<Env>(was.size_class()), 1u, Order::release);",
            "if (left.is_slab()) env.fetch_sub(stations.listed_count<Env>(was.size_class()), 1u, Order::release);")),
    source("a new slab is not counted", SHELF,
           ("if (count < slots) env.fetch_add(stations.listed_count<Env>(size_class), 1u, Order::relaxed);", ";")),
    source("a slab is retired without looking again", SHELF,
           ("if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;",
            "env.store(slabs.words[slab], now.retired().raw, Order::release);"), quick=True),
    source("a retired slab's entries stay", SHELF, ("env.store(entries[page], 0u, Order::relaxed);", ";")),
    source("a new slab forgets debts", SHELF,
           ("env.fetch_add(slabs.words[slab], count < slots ? left : left & ~SlabWord::listed_bit, Order::release);",
            "env.store(slabs.words[slab], (env.load(slabs.words[slab], Order::relaxed) & 0xffffffffu) + "
            "(count < slots ? left : left & ~SlabWord::listed_bit), Order::release);"), by="model"),
    source("a slab whose slots are all taken at once stays listed", SHELF,
           ("count < slots ? left : left & ~SlabWord::listed_bit", "left"), quick=True),
    # --- lists
    source("a list's head has no tag", LIST, ("return (((seen >> 32) + 1) << 32) | slab_plus_one;", "return slab_plus_one;")),
    source("a link is written behind the head", LIST,
           ("            env.store(next[last], static_cast<std::uint32_t>(seen), Order::relaxed);\n"
            "        } while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));",
            "        } while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));\n"
            "        env.store(next[last], static_cast<std::uint32_t>(seen), Order::relaxed);"), quick=True),
    source("a pop takes the head without comparing", LIST,
           ("if (env.compare_exchange(*head, seen, retag(seen, below), Order::acq_rel)) return slab;",
            "env.store(*head, retag(seen, below), Order::release); return slab;")),
    source("slabs that are not empty are lost when a list is drained", RECLAIM,
           ("if (first != no_slab) slab_list.push_chain(env, first, last);", "(void)last;")),
    # --- pages
    source("a claim of a run that fails keeps what it took", PAGES,
           ("if (word * 32u > first) set_bits(env, first, word * 32u - first);", ""), by="model"),
    source("a claim at the rover that fails keeps what it took", PAGES,
           ("if (got != 0) env.fetch_or(bits[word], got, Order::release);", "")),
    source("a claim takes pages that are taken", PAGES, ("while ((seen & mask) == mask)\n", "while ((seen & mask) != 0)\n")),
    source("pages are counted out before they are taken", PAGES,
           ("            page = claim_anywhere(", "            env.fetch_sub(*free_count, count, Order::release);\n            page = claim_anywhere("),
           ("            if (page == no_page) return no_page;\n        }\n        env.fetch_sub(*free_count, count, Order::release);",
            "            if (page == no_page) env.fetch_add(*free_count, count, Order::release);\n"
            "        } else {\n            env.fetch_sub(*free_count, count, Order::release);\n        }"),
           survives="a claim is a move, so full is not said while the count is too low"),
    source("pages are counted in after they are given back", PAGES,
           ("const std::uint32_t before = env.fetch_add(*free_count, count, Order::relaxed);",
            "set_bits(env, first, count);\n        const std::uint32_t before = env.fetch_add(*free_count, count, Order::relaxed);"),
           ("Order::relaxed);\n        set_bits(env, first, count);\n        if (rovers", "Order::relaxed);\n        if (rovers"),
           survives="since full is proven by the count of moves, the count of pages is a hint that may be too low for a moment"),
    source("a claim does not look before its rover", PAGES, ("if (page == no_page && word != 0)", "if (false)")),
    source("a run across the rover is not found", PAGES, ("word + overlap < words ? word + overlap : words", "word"), quick=True),
    source("a freed run is not checked", RUNS,
           ("if (!env.compare_exchange(this->entries[page], entry.raw, 0u, Order::acq_rel)) return Status::double_free;", "")),
    source("a claim at a place does not look at what it got", PAGES,
           ("if (take_exactly(env, word, mask)) continue;", "if (take_exactly(env, word, mask) || true) continue;"), quick=True),
    source("pages claimed at a place are not counted out", PAGES,
           ("            return false;\n        }\n        env.fetch_sub(*free_count, count, Order::release);\n        return true;", "            return false;\n        }\n        return true;")),
    # --- slabs of a group's own
    source("what a group leaves of its slab is lost", OWN, ("if (grant.slab != no_slab && grant.start != 0) {", "if (false) {"),
           survives="the runner's warps have at most four lanes, too few to leave anything; OwnSlabs.WhatAGroupLeavesGoesBeforeNewPages finds it"),
    source("a used-up slab is set aside although another is to follow it", OWN,
           ("if (seen.wants_next()) left = Cursor::of(0, seen.current_plus_1());", "left = Cursor::of(0, seen.current_plus_1());")),
    source("a used-up slab that is set aside is forgotten", OWN,
           ("if (seen.wants_next()) left = Cursor::of(0, seen.current_plus_1());", "if (seen.wants_next()) left = Cursor{};"), quick=True),
    source("a shared slab that nothing replaces is not published again", OWN,
           ("if (seen.next_plus_1() != 0) published(env, seen.next_plus_1() - 1u);", ";"), by="model"),
    source("a slab is brought without making the cursor busy", SHELF, ("expected, seen.made_busy().raw, Order::acq_rel", "expected, seen.raw, Order::acq_rel")),
    source("a place at the rover is taken for free", SHELF, ("if (pages.seems_free(env, place, count)) return place;", "return place;")),
    source("a place behind a larger slab is taken for free", SHELF,
           ("return place + count <= all_pages && pages.seems_free(env, place, count) ? place : no_page;", "return place + count <= all_pages ? place : no_page;")),
    # --- cursors, refills and moves
    source("a move that changed nothing is never over", STATIONS,
           ("env.fetch_sub(move_counter(env), std::uint64_t{1}, Order::relaxed);", "(void)env;")),
    source("published() is dropped", SHELF, ("const SlabWord now{env.fetch_add(slabs.words[slab], std::uint64_t{0}, Order::acq_rel)};", "return; SlabWord now{0};")),
    source("published() reads instead of adding nothing", SHELF,
           ("const SlabWord now{env.fetch_add(slabs.words[slab], std::uint64_t{0}, Order::acq_rel)};",
            "const SlabWord now{env.load(slabs.words[slab], Order::relaxed)};"), by="model"),
    source("the exhausted slab of a cursor is forgotten by who brings another", SUPPLY,
           ("        if (seen.current_plus_1() != 0) settle(env, seen.current_plus_1() - 1u);\n        if (seen.next_plus_1() != 0)",
            "        if (seen.next_plus_1() != 0)")),
    source("a slab that was set aside is forgotten by who brings another", SUPPLY,
           ("        if (seen.next_plus_1() != 0) settle(env, seen.next_plus_1() - 1u); // it was set aside\n", "")),
    source("the exhausted slab of a cursor is forgotten by who moves on", SUPPLY,
           ("        grant = reserve(env, seen.next_plus_1() - 1u, size_class, want);\n        if (seen.current_plus_1() != 0) settle(env, seen.current_plus_1() - 1u);",
            "        grant = reserve(env, seen.next_plus_1() - 1u, size_class, want);")),
    source("a cursor is made busy without comparing", SHELF,
           ("if (env.compare_exchange(cursor, expected, seen.made_busy().raw, Order::acq_rel)) return true;",
            "env.store(cursor, seen.made_busy().raw, Order::release);\n        if ((void)expected, true) return true;")),
    source("a cursor that two prepare for", SUPPLY,
           ("if (env.compare_exchange(cursor, expected, ready.raw, Order::acq_rel)) {", "if ((void)expected, env.store(cursor, ready.raw, Order::release), true) {")),
    source("two move a cursor on", SUPPLY,
           ("if (!env.compare_exchange(cursor, expected, moved.raw, Order::acq_rel)) {",
            "if ((void)expected, env.store(cursor, moved.raw, Order::release), false) {"), by="model"),
    source("who prepared too late forgets the slab", SUPPLY, ("settle(env, slab); // others were faster", ";"), by="model"),
    source("a cursor stays busy", SUPPLY, ("env.store(cursor, Cursor::of(slab == no_slab ? 0 : slab + 1u, 0).raw, Order::release);",
                                           "env.store(cursor, Cursor::of(slab == no_slab ? 0 : slab + 1u, 0).made_busy().raw, Order::release);")),
    source("other processors' lists are not looked at", SUPPLY,
           ("for (unsigned other = 0; slab == no_slab && other < stations.count; ++other)", "for (unsigned other = stations.count; other < stations.count; ++other)")),
    source("other processors' cursors are not looked at", SUPPLY,
           ("            if (seen.raw == 0) continue;\n            grant", "            if (seen.raw != 0) continue;\n            grant")),
    source("full is said while somebody is inside", SUPPLY, ("if (somebody_inside || this->reclaim(env, ", "if (this->reclaim(env, "),
           survives="schedules do not reach it: a group must have over-subtracted in the moment of the look at the cursors, and want another size, "
                    "by a slab's number from before; what it hides from its own size it takes itself"),
    source("full is said although something moved", SUPPLY, (" || stations.all_moves(env) != before)\n            return refused(Status::contended);", ")\n            return refused(Status::contended);")),
    source("full is said while something moves", SUPPLY,
           ("if (Stations::any_under_way(before) || may_bring_slab(env, size_class, station))", "if (may_bring_slab(env, size_class, station))")),
    source("a run is refused although something moved", RUNS, (" && stations.all_moves(env) == before) {", ") {")),
    source("a refill is no move", SUPPLY,
           ("if (!this->begin_to_bring(env, cursor, seen)) return grant;", "if (!this->begin_to_bring(env, cursor, seen)) return grant;\n        stations.cancel_move(env);"),
           ("        stations.end_move(env);\n        return grant;\n    }\n\n    /// A held slab", "        return grant;\n    }\n\n    /// A held slab")),
    source("a move is not counted when it ends", STATIONS, ("(std::uint64_t{1} << 32) - 1, Order::release", "~std::uint64_t{0}, Order::release"), quick=True),
    # --- reclaiming
    source("a reclaim forgets notices that come during it", RECLAIM,
           ("env.store(*reclaimed, env.load(*sweep_mark, Order::relaxed), Order::release);", "env.store(*reclaimed, env.load(*this->became_empty, Order::relaxed), Order::release);")),
    source("there may be two reclaimers", RECLAIM,
           ("if (!env.compare_exchange(*epoch, seen, seen + 1u, Order::acq_rel)) {", "if (env.store(*epoch, seen + 1u, Order::release), false) {")),
    source("a reclaim is no move", RECLAIM,
           ("if (env.load(*reclaimed, Order::acquire) == mark) return Reclaim::idle;\n        stations.begin_move(env);", "if (env.load(*reclaimed, Order::acquire) == mark) return Reclaim::idle;"),
           ("            stations.end_move(env);\n            return Reclaim::busy;", "            return Reclaim::busy;"),
           ("env.fetch_add(*epoch, 1u, Order::release);\n        stations.end_move(env);", "env.fetch_add(*epoch, 1u, Order::release);")),
    source("a cursor is drained while it is refilled", RECLAIM, ("if (seen.raw == 0 || seen.busy()) return 0;", "if (seen.raw == 0) return 0;")),
    source("a cursor is drained without comparing", RECLAIM,
           ("if (!env.compare_exchange(cursor, expected, left.raw, Order::acq_rel)) continue;", "env.store(cursor, left.raw, Order::release); (void)expected;")),
    source("a cursor that changes while it is drained is left", RECLAIM,
           ("if (!env.compare_exchange(cursor, expected, left.raw, Order::acq_rel)) continue;", "if (!env.compare_exchange(cursor, expected, left.raw, Order::acq_rel)) return 0;"),
           by="model"),
    source("cursors are not drained", RECLAIM, ("drain_cursor(env, cursor_of(size_class, first + lowest_bit(used)));", ";")),
    # --- orders, and what a warp's lanes owe each other
    order("a freed slot's bytes are not released", (HEAP, "seen = env.fetch_and(slabs_.slot_bits[word], ~bits, Order::release) & bits;"), quick=True),
    order("a taken slot's bytes are not acquired", (GROUPS, "return env.fetch_or(slabs.slot_bits[slabs.bit_word(got.slab(), got.start()) + word], mask, Order::acquire);"), quick=True),
    order("a slot that was searched for is not acquired", (SLAB, "seen = env.fetch_or(bits[word], bit, Order::acquire);")),
    order("credits do not release", (SLAB, "return SlabWord{env.fetch_add(words[slab], credits, Order::release) + credits};")),
    order("a push does not release", (LIST, "} while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));"), quick=True),
    order("a pop does not acquire", (LIST, "if (env.compare_exchange(*head, seen, retag(seen, below), Order::acq_rel)) return slab;")),
    order("pages that are given back do not release", (PAGES, "env.fetch_or(bits[word], part(word, first, count), Order::release);"), quick=True),
    order("claimed pages do not acquire", (PAGES, "const std::uint32_t got = env.fetch_and(bits[word], ~mask, Order::acq_rel) & mask;"),
          (PAGES, "if (env.compare_exchange(bits[word], seen, seen & ~mask, Order::acq_rel)) return true;")),
    order("retiring a slab orders nothing", (SHELF, "if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;")),
    order("nobody releases who refills a cursor", (SHELF, "if (env.compare_exchange(cursor, expected, seen.made_busy().raw, Order::acq_rel)) return true;"),
          (SUPPLY, "env.store(cursor, Cursor::of(slab == no_slab ? 0 : slab + 1u, 0).raw, Order::release);")),
    order("a prepared slab does not release", (SUPPLY, "if (env.compare_exchange(cursor, expected, ready.raw, Order::acq_rel)) {"),
          survives="who finds the slab there goes by its word, whose changes order themselves; wrong is only a look that still finds "
                   "the page a slab of another class, three changes back, and the checker keeps three values of a cell"),
    order("a refilled cursor does not release", (SUPPLY, "env.store(cursor, Cursor::of(slab == no_slab ? 0 : slab + 1u, 0).raw, Order::release);"),
          survives="the exchange that made the cursor busy has released the move, and for the checker, as C++11 had it, a later store "
                   "of the same thread goes on with that; \"nobody releases who refills a cursor\" weakens both"),
    order("the end of a move does not release", (STATIONS, "env.fetch_add(move_counter(env), (std::uint64_t{1} << 32) - 1, Order::release);")),
    order("nobody syncs after the shuffles of an allocation", (GROUPS, "env.sync(lanes); // a shuffle orders no memory"), quick=True),
    order("nobody syncs before bits are cleared for others", (HEAP, "together([&](LaneMask mask) { env.sync(mask); });\n        // What was set of the bits"), quick=True),
]
