// SPDX-License-Identifier: MIT
// A soak of the device heap: random pairs from several streams at once, and cycles of filling and emptying.
//
// Invariant: every block carries its owner's stamps or marks and is verified before it is freed; null comes to a
// quiescent heap only when nothing is left for the size; when all is freed and the pool is compacted, its report is
// that of a new heap. Each launch's choices follow from the seed and its number (launch_plan.hpp), so a run that goes
// on (`--state`) never repeats one.
//
// Templated on `Launch`, the backend:  using Env;  static Backend& backend();
//   template <class Body> static void run(cudaStream_t, const BasicPoolRef<Env>&, unsigned threads, const Body&,
//                                         unsigned width = 256);
//   which calls body(env, pool, thread) for each thread, `width` of them a block; `threads` is a multiple of 32.
#pragma once

#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "tests/soak/filling.hpp"
#include "tests/soak/lanes.hpp"
#include "tests/soak/launch_plan.hpp"
#include "tests/soak/random_pairs.hpp"
#include "tests/soak/support.hpp"

#include <chrono>
#include <cstdio>
#include <new>
#include <string>

namespace cuda_zstd::soak {

template <class Launch>
class Soak {
public:
    using Env = typename Launch::Env;
    using Clock = std::chrono::steady_clock;

    Soak(MemoryPoolManager& manager, Settings& settings)
        : manager_(manager), backend_(manager.backend()), settings_(settings), lanes_(backend_, settings.streams) {}
    Soak(const Soak&) = delete;
    Soak& operator=(const Soak&) = delete;

    /// Whether all pairs were clean, and the heap as new at the end and whenever the wide mixture was followed by brisk
    /// pairs. Waits for the GPU only there; else launches are under way on the other streams while it waits for one.
    bool random_pairs() {
        const cudaStream_t first = lanes_[0].stream;
        DevicePool pool(manager_, settings_.heap_bytes, first);
        const HeapReport fresh = pool.statistics(first);
        const BasicPoolRef<Env> ref = pool.ref<Env>();
        const Array<Mailbox<Env>> boxes(manager_, first, settings_.boxes);
        const Array<Tally<Env>> tally(manager_, first, 1);
        // Launches of different streams run at the same time, so each stream has its own lists.
        const std::size_t list_places = (std::size_t{1} << settings_.log2_threads) / Env::warp_lanes * list_length;
        const Array<void*> lists(manager_, first, list_places * lanes_.count());
        const auto drain = [&] {
            empty(ref, first, boxes.get(), tally.get(), settings_.boxes);
            pool.compact(first);
            return difference(fresh, pool.statistics(first));
        };
        backend_.synchronize(first);

        const auto begin = Clock::now();
        Spent spent[2];
        Mixture mixture = LaunchPlan::of(settings_).mixture;
        Progress progress;
        std::string changed;
        while (changed.empty()) {
            Lane& lane = lanes_[settings_.launches % lanes_.count()];
            backend_.synchronize(lane.launched);
            progress = lanes_.progress();
            if (progress.faults != 0 || settings_.done_pairs + progress.pairs >= settings_.pairs) break;
            if (settings_.seconds > 0 && seconds_since(begin) > settings_.seconds) break;
            LaunchPlan plan = LaunchPlan::of(settings_);
            if (plan.mixture != mixture) {
                // Brisk launches leave their mail to the wide mixture; what that leaves would fill their heap.
                backend_.synchronize();
                if (mixture == Mixture::wide) changed = drain();
                progress = read(ref, first, tally.get());
                spent[static_cast<unsigned>(mixture)].add(progress.pairs, seconds_since(begin), spent);
                mixture = plan.mixture;
                continue;
            }
            const std::uint64_t left = settings_.pairs - settings_.done_pairs - progress.pairs;
            const std::uint64_t under_way = lanes_.pairs_under_way();
            if (under_way >= left) {
                backend_.synchronize(); // perhaps it is enough
                continue;
            }
            plan.cut(left - under_way);
            launch(plan, lane, ref, boxes.get(), tally.get(),
                   lists.get() + list_places * (settings_.launches % lanes_.count()));
            ++settings_.launches;
        }
        backend_.synchronize();
        if (changed.empty()) changed = drain();
        progress = read(ref, first, tally.get());
        const double seconds = seconds_since(begin);
        spent[static_cast<unsigned>(mixture)].add(progress.pairs, seconds, spent);
        settings_.done_pairs += progress.pairs;
        std::printf("soak: %llu of %llu pairs done, this run %llu in %.1f s, %llu launches; null: %llu full, "
                    "%llu contended; %llu faults; heap %s; %.1f Mpairs/s (wide %.1f in %.1f s, brisk %.1f in %.1f s)\n",
                    u(settings_.done_pairs), u(settings_.pairs), u(progress.pairs), seconds, u(settings_.launches),
                    u(progress.full), u(progress.contended), u(progress.faults),
                    changed.empty() ? "as new" : changed.c_str(), Spent{progress.pairs, seconds}.mpairs_s(),
                    spent[0].mpairs_s(), spent[0].seconds, spent[1].mpairs_s(), spent[1].seconds);
        return is_clean(progress, tally.get(), first) && changed.empty();
    }

    /// Fills a heap to the last slot with changing sizes, frees all, compacts: whether nothing was left when null came,
    /// and the heap is as new after each cycle.
    bool fill_cycles() {
        const cudaStream_t stream = lanes_[0].stream;
        DevicePool pool(manager_, settings_.cycle_heap_bytes, stream);
        const HeapReport fresh = pool.statistics(stream);
        const BasicPoolRef<Env> ref = pool.ref<Env>();
        const auto box_count = static_cast<std::uint32_t>(fresh.heap_bytes / min_slot_bytes + 1);
        const Array<Mailbox<Env>> boxes(manager_, stream, box_count);
        const Array<Tally<Env>> tally(manager_, stream, 1);
        Array<typename Env::template atom<std::uint32_t>> used(manager_, stream, 1);

        const auto begin = Clock::now();
        for (unsigned cycle = 0; cycle < settings_.cycles; ++cycle) {
            used.clear();
            // Every class in turn, then the mixtures; what those leave is filled up with the smallest blocks.
            const unsigned kind = cycle % (size_class_count + 3);
            const bool one_class = kind < size_class_count;
            auto fill = [&](unsigned threads, Sizes sizes, unsigned size_class) {
                Launch::run(stream, ref, threads,
                            Fill<Env>{boxes.get(), box_count, used.get(), tally.get(), settings_.seed,
                                      settings_.launches++, sizes, size_class});
            };
            if (!one_class) fill(threads_of_fill(), static_cast<Sizes>(kind - size_class_count), 0);
            fill(threads_of_fill(), Sizes::one_class, one_class ? kind : 0);
            // One warp beside nobody: what it is refused must not be there.
            fill(32, Sizes::one_class, one_class ? kind : 0);
            const HeapReport filled = pool.statistics(stream);
            std::string left;
            if (filled.free_page_bytes != 0) left = std::to_string(filled.free_page_bytes) + " bytes of free pages";
            if (one_class && filled.free_slot_bytes != 0)
                left = std::to_string(filled.free_slot_bytes) + " bytes of free slots";
            empty(ref, stream, boxes.get(), tally.get(), box_count);
            // Nobody else uses this heap, so both forms may have their turn.
            pool.compact(stream, {cycle % 2 == 0 ? Compaction::Form::online : Compaction::Form::quiet, whole_heap});
            const std::string changed = difference(fresh, pool.statistics(stream));
            const Progress progress = read(ref, stream, tally.get());
            if (!changed.empty() || !left.empty() || progress.faults != 0) {
                std::printf("soak: cycle %u: %llu faults; null beside %s; heap afterwards: %s\n", cycle,
                            u(progress.faults), left.empty() ? "nothing free" : left.c_str(),
                            changed.empty() ? "as new" : changed.c_str());
                is_clean(progress, tally.get(), stream);
                return false;
            }
        }
        const Progress progress = read(ref, stream, tally.get());
        std::printf("soak: %u cycles in %.1f s, %llu blocks; nothing left when null came; %llu contended; 0 faults; "
                    "heap as new after each\n",
                    settings_.cycles, seconds_since(begin), u(progress.pairs), u(progress.contended));
        return true;
    }

private:
    /// What one mixture did, and in which time.
    struct Spent {
        std::uint64_t pairs = 0;
        double seconds = 0;

        /// All that was done until now and is not yet in one of both.
        void add(std::uint64_t pairs_now, double seconds_now, const Spent (&both)[2]) {
            pairs += pairs_now - both[0].pairs - both[1].pairs;
            seconds += seconds_now - both[0].seconds - both[1].seconds;
        }
        double mpairs_s() const { return seconds > 0 ? static_cast<double>(pairs) / seconds / 1e6 : 0; }
    };

    static unsigned long long u(std::uint64_t value) { return value; }
    static double seconds_since(Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }
    unsigned threads_of_fill() const { return 1u << (settings_.log2_threads < 14 ? settings_.log2_threads : 14); }
    void launch(const LaunchPlan& plan, Lane& lane, const BasicPoolRef<Env>& ref, Mailbox<Env>* boxes,
                Tally<Env>* tally, void** lists) {
        const std::uint64_t seed = settings_.seed, number = settings_.launches;
        if (plan.mixture == Mixture::wide)
            Launch::run(lane.stream, ref, plan.threads,
                        RandomPairs<Env>{boxes, settings_.boxes, tally, lists, seed, number, plan.steps, plan.sizes,
                                         plan.a_class},
                        plan.width);
        else
            Launch::run(lane.stream, ref, plan.threads,
                        BriskPairs<Env>{boxes, settings_.boxes, tally, seed, number, plan.steps, plan.log_sizes},
                        plan.width);
        Launch::run(lane.stream, ref, 32, Snapshot<Env>{tally, lane.progress});
        backend_.record(lane.launched, lane.stream);
        lane.about_pairs = plan.about_pairs();
    }
    void empty(const BasicPoolRef<Env>& ref, cudaStream_t stream, Mailbox<Env>* boxes, Tally<Env>* tally,
               std::uint32_t box_count) {
        const unsigned threads = 1u << settings_.log2_threads;
        Launch::run(stream, ref, threads, EmptyBoxes<Env>{boxes, box_count, tally, threads});
    }
    Progress read(const BasicPoolRef<Env>& ref, cudaStream_t stream, Tally<Env>* tally) {
        Launch::run(stream, ref, 32, Snapshot<Env>{tally, lanes_[0].progress});
        backend_.synchronize(stream);
        return *lanes_[0].progress;
    }
    /// Says what the first fault was.
    bool is_clean(const Progress& progress, Tally<Env>* tally, cudaStream_t stream) {
        if (progress.faults == 0) return true;
        auto* const fault = new (backend_.allocate_pinned(sizeof(Fault))) Fault{};
        backend_.copy_async(fault, &tally->first, sizeof(Fault), stream);
        backend_.synchronize(stream);
        if (fault->at == no_word) {
            std::printf("soak: the free of %#llx (%u B, ticket %#llx) was refused: status %llu\n", u(fault->address),
                        fault->bytes, u(fault->ticket), u(fault->seen));
        } else {
            std::printf("soak: block %#llx (%u B, ticket %#llx) holds %#llx at offset %llu instead of %#llx\n",
                        u(fault->address), fault->bytes, u(fault->ticket), u(fault->seen), u(fault->at),
                        u(fault->expected));
        }
        backend_.free_pinned(fault);
        return false;
    }

    MemoryPoolManager& manager_;
    Backend& backend_;
    Settings& settings_;
    Lanes lanes_;
};

} // namespace cuda_zstd::soak
