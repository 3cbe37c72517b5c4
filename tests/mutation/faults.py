# SPDX-License-Identifier: MIT
"""The faults that tools/mutate.py plants in the heap's sources, each of which some tool must find.

A source fault replaces lines by others; `old` may be a tuple, of which the first that is there is taken, so that a fault can
survive a change of the source. An order fault makes the accesses (or the warp's sync) on the named lines relaxed.
`by` names the tool that is expected to kill it. `survives` is the reason why none does, for those of which that is known.
"""
from dataclasses import dataclass

HEAP, SLAB, LIST, PAGES, SUPPLY = ("heap.hpp", "slab.hpp", "slab_list.hpp", "page_map.hpp", "supply.hpp")


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
    source("a slot is taken although its bit was set", HEAP,
           ("if ((seen >> (slot % 32u) & 1u) != 0) slot =", "if (false) slot ="), quick=True),
    source("one lane more than was reserved is served", HEAP, ("const bool served = rank < count;", "const bool served = rank <= count;")),
    source("credits are added before the bit is cleared", HEAP,
           ("if (in_slab && !clear_slot(env, peers, place.page, place.slot)) place.status = Status::double_free;",
            "if (in_slab) add_credits(env, place.page, 1);\n"
            "        if (in_slab && !clear_slot(env, peers, place.page, place.slot)) place.status = Status::double_free;"),
           ("if (env.lane() == lowest_bit(group)) add_credits(env, place.page, popcount(group));", ""), quick=True),
    source("a double free is not seen", HEAP, ("return (seen & bit) != 0;", "return true;")),
    source("a block freed twice in one call is not seen", HEAP,
           ("if (popcount(bits) != popcount(peers)) {", "if (false) {")),
    source("what was over-subtracted is not given back", SLAB, ("returned = want - grant.count;", "returned = 0;")),
    source("the class of a slab is not checked", SLAB,
           ("old.is_slab() && old.size_class() == size_class && old.credits() > 0", "old.is_slab() && old.credits() > 0")),
    source("credits below zero are taken for many", SLAB,
           ("old.size_class() == size_class && old.credits() > 0", "old.size_class() == size_class && old.credits() != 0")),
    source("a taken bit is taken again", SLAB, ("if ((seen & bit) == 0) return word", "return word")),
    source("the search for a slot begins one word late and does not wrap", SLAB,
           ("word = word + 1u < count ? word + 1u : 0u;", "word = word + 1u < count ? word + 1u : word;")),
    source("the search looks at slots that are not there", SLAB,
           ("const std::uint32_t valid = low_bits(slots - word * 32u < 32u ? slots - word * 32u : 32u);",
            "const std::uint32_t valid = ~0u;")),
    # --- slabs: empty, listed, generation
    source("a slab is empty one credit early", SLAB,
           ("(static_cast<std::uint64_t>(credits()) + 1) * slot_bytes", "(static_cast<std::uint64_t>(credits()) + 2) * slot_bytes")),
    source("nobody is told that a slab became empty", SLAB,
           ("is_slab() && credits() > 0 && (!listed() || all_free())", "is_slab() && credits() > 0 && !listed()"), quick=True),
    source("a slab with credits again is not put in reach", SLAB,
           ("is_slab() && credits() > 0 && (!listed() || all_free())", "is_slab() && credits() > 0 && listed() && all_free()")),
    source("a retired slab keeps its generation", SLAB,
           ("(raw & low_mask) + (std::uint64_t{1} << generation_shift)", "(raw & low_mask)"),
           survives="whoever exchanges a slab's word compares all of it, and equal words are equal states"),
    source("a new slab is not listed", SLAB,
           ("(std::uint64_t{log2_pages} << pages_shift) | listed_bit | (size_class + 1u)",
            "(std::uint64_t{log2_pages} << pages_shift) | (size_class + 1u)")),
    source("a slab is listed without the bit", SUPPLY,
           ("if (env.compare_exchange(slabs.words[slab], now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel)) {",
            "if (env.compare_exchange(slabs.words[slab], now.raw, now.raw, Order::acq_rel)) {"), quick=True),
    source("two freers may both list a slab", SUPPLY,
           ("if (env.compare_exchange(slabs.words[slab], now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel)) {",
            "if (env.fetch_or(slabs.words[slab], std::uint64_t{SlabWord::listed_bit}, Order::acq_rel); true) {")),
    source("a slab without credits stays listed", SUPPLY,
           ("if (env.compare_exchange(slabs.words[slab], now.raw, now.raw & ~SlabWord::listed_bit, Order::release))",
            "if (true)")),
    source("a slab is retired without looking again", SUPPLY,
           ("if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;",
            "env.store(slabs.words[slab], now.retired().raw, Order::release);"), quick=True),
    source("a retired slab's entries stay", SUPPLY, ("env.store(entries[page], 0u, Order::relaxed);", ";")),
    source("a new slab forgets debts", SUPPLY,
           ("env.fetch_add(slabs.words[slab], SlabWord::birth(size_class, log2_pages), Order::release);",
            "env.store(slabs.words[slab], (env.load(slabs.words[slab], Order::relaxed) & 0xffffffffu) + "
            "SlabWord::birth(size_class, log2_pages), Order::release);"), by="model"),
    source("a new slab is published before its entries", SUPPLY,
           ("for (std::uint32_t page = 0; page < 1u << log2_pages; ++page)\n                    env.store(entries[slab + page]",
            "env.fetch_add(slabs.words[slab], SlabWord::birth(size_class, log2_pages), Order::release);\n"
            "                for (std::uint32_t page = 0; page < 1u << log2_pages; ++page)\n                    env.store(entries[slab + page]"),
           ("                env.fetch_add(slabs.words[slab], SlabWord::birth(size_class, log2_pages), Order::release);\n                return slab;",
            "                return slab;"),
           survives="nobody has a block of the slab before its maker puts it into a cursor, and only an owner reads the entries"),
    # --- lists
    source("a list's head has no tag", LIST, ("return (((seen >> 32) + 1) << 32) | slab_plus_one;", "return slab_plus_one;"), quick=True),
    source("a link is written behind the head", LIST,
           ("            env.store(next[last], static_cast<std::uint32_t>(seen), Order::relaxed);\n"
            "        } while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));",
            "        } while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));\n"
            "        env.store(next[last], static_cast<std::uint32_t>(seen), Order::relaxed);")),
    source("a pop takes the head without comparing", LIST,
           ("if (env.compare_exchange(*head, seen, retag(seen, below), Order::acq_rel)) return slab;",
            "env.store(*head, retag(seen, below), Order::release); return slab;")),
    source("slabs that are not empty are lost when a list is drained", SUPPLY,
           ("if (first != SlabList<Env>::empty) slab_list.push_chain(env, first, last);", "(void)last;")),
    # --- pages
    source("a claim that fails keeps what it took", PAGES,
           ("if (word * 32u > first) set_bits(env, first, word * 32u - first);", ""), by="model"),
    source("a claim takes pages that are taken", PAGES,
           ("while ((seen & mask) == mask)\n", "while ((seen & mask) != 0)\n")),
    source("pages are counted out before they are taken", PAGES,
           ("std::uint32_t page = search(env, count, start, words);",
            "env.fetch_sub(*free_count, count, Order::release);\n        std::uint32_t page = search(env, count, start, words);"),
           ("if (page == no_page) return no_page;\n        // Release",
            "if (page == no_page) {\n            env.fetch_add(*free_count, count, Order::release);\n            return no_page;\n        }\n        // Release"),
           ("env.fetch_sub(*free_count, count, Order::release) - count;", "env.load(*free_count, Order::relaxed);")),
    source("pages are counted in after they are given back", PAGES,
           ("env.fetch_add(*free_count, count, Order::relaxed);\n        set_bits(env, first, count);",
            "set_bits(env, first, count);\n        env.fetch_add(*free_count, count, Order::relaxed);"), by="model"),
    source("the rover does not wrap", PAGES, ("if (page == no_page && start != 0)", "if (false)")),
    source("a run across the rover is not found", PAGES, ("start + overlap < words ? start + overlap : words", "start")),
    source("a freed run is not checked", SUPPLY,
           ("if (!env.compare_exchange(entries[page], entry.raw, 0u, Order::acq_rel)) return Status::double_free;", "")),
    # --- cursors and refills
    source("published() is dropped", SUPPLY,
           (("env.fetch_add(*epoch, 0u, Order::acq_rel);\n", "env.fetch_add(*epoch, 2u, Order::acq_rel);\n"), "(void)slab; return;\n")),
    source("published() does not look whether the slab is empty", SUPPLY,
           ("if (word(env, slab).all_free()) env.fetch_add(*became_empty, 1u, Order::release);", "(void)slab;")),
    source("the exhausted slab of a cursor is forgotten", SUPPLY, ("if (slab != 0) settle(env, slab - 1u);", "(void)slab;")),
    source("a cursor is taken without comparing", SUPPLY,
           ("if (!env.compare_exchange(cursor, seen, seen | refilling, Order::acq_rel)) return refused(Status::contended);",
            "env.store(cursor, seen | refilling, Order::release);")),
    source("a failed refill leaves its mark", SUPPLY, ("            env.store(cursor, seen, Order::release);\n", "")),
    source("other processors' lists are not looked at", SUPPLY,
           ("if (other != SlabList<Env>::empty) return other;", "if (other == SlabList<Env>::empty) return other;")),
    source("full is said while somebody refills", SUPPLY,
           ("in_hands |= (seen & refilling) != 0;", "")),
    source("full is said although something moved", SUPPLY,
           (("return refused(env.load(*epoch, Order::acquire) == before ? Status::full : Status::contended);",
             "return refused(nothing_moved(env, before) ? Status::full : Status::contended);"),
            "(void)before; return refused(Status::full);")),
    source("a run is refused although something moved", SUPPLY,
           (("if (!reclaim(env) && env.load(*epoch, Order::acquire) == before) {", "if (!reclaim(env) && nothing_moved(env, before)) {"),
            "if (!reclaim(env)) {")),
    # --- reclaiming
    source("a reclaim forgets notices that come during it", SUPPLY,
           ("env.store(*reclaimed, mark, Order::relaxed);\n", "env.store(*reclaimed, env.load(*became_empty, Order::relaxed), Order::relaxed);\n")),
    source("there may be two reclaimers", SUPPLY,
           ("if (!env.compare_exchange(*epoch, seen, seen + 1u, Order::acq_rel)) return Reclaim::busy;",
            "env.store(*epoch, seen + 1u, Order::release);")),
    source("a cursor is drained while it is refilled", SUPPLY,
           ("if (seen == 0 || (seen & refilling) != 0) return;", "if (static_cast<std::uint32_t>(seen) == 0) return;")),
    source("a cursor is drained without comparing", SUPPLY,
           ("if (word(env, slab).all_free() && env.compare_exchange(cursor, seen, std::uint64_t{0}, Order::acq_rel))",
            "if (word(env, slab).all_free() && (env.store(cursor, std::uint64_t{0}, Order::release), true))")),
    source("cursors are not drained", SUPPLY, ("drain_cursor(env, cursor_of(index", "(void)(cursor_of(index")),
    # --- orders, and what a warp's lanes owe each other
    order("a freed slot's bytes are not released", (HEAP, "seen = env.fetch_and(slabs_.bits_of(slab)"), quick=True),
    order("a taken slot's bytes are not acquired", (HEAP, "seen = env.fetch_or(slabs_.bits_of(slab)[slot / 32u], low_bits(popcount(peers))"),
          quick=True),
    order("a slot that was searched for is not acquired", (SLAB, "seen = env.fetch_or(bits[word], bit, Order::acquire);")),
    order("credits do not release", (SLAB, "return SlabWord{env.fetch_add(words[slab], credits, Order::release) + credits};")),
    order("a push does not release", (LIST, "} while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));"), quick=True),
    order("a pop does not acquire", (LIST, "if (env.compare_exchange(*head, seen, retag(seen, below), Order::acq_rel)) return slab;")),
    order("given back pages do not release", (PAGES, "env.fetch_or(bits[word], part(word, first, count), Order::release);"), quick=True),
    order("claimed pages do not acquire", (PAGES, "if (env.compare_exchange(bits[word], seen, seen & ~mask, Order::acquire)) return true;")),
    order("the count of pages does not release", (PAGES, "const std::uint32_t left = env.fetch_sub(*free_count, count, Order::release) - count;")),
    order("retiring a slab orders nothing", (SUPPLY, "if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;")),
    order("a notice does not release", (SUPPLY, "env.fetch_add(*became_empty, 1u, Order::release);\n            return;")),
    order("a refilled cursor does not release", (SUPPLY, "env.store(cursor, std::uint64_t{fresh} + 1u, Order::release);")),
    order("nobody syncs after the shuffles of an allocation",
          (HEAP, "env.sync(group); // a shuffle orders no memory"), (HEAP, "        env.sync(peers);\n        if ((seen >>"),
          (HEAP, "        env.sync(lanes);\n        return block;"), quick=True),
    order("nobody syncs before bits are cleared for others",
          (HEAP, "env.sync(peers); // the other lanes' accesses to their blocks"), (HEAP, "env.sync(group); // the other lanes' cleared bits")),
]
