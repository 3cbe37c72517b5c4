// SPDX-License-Identifier: MIT
// The device heap's workloads on a model of a GPU: what they wait for, without a GPU.
//
//     device_model [--case W2/1000000/8192 ...] [--processors 33] [--iterations 4] [--sites 12] [--check]
//
// Cases are those of bench/device: W1 (threads of one size), W2 (mixed sizes from 4 B), W10 (thread blocks that take,
// write and give back scratch). A quarter of an H100 is modelled unless --processors says otherwise, with a quarter of
// the threads, of the heap and of what an address of all processors stands; so a case takes about as long as on all of
// it. With --check it runs a list of cases and exits with 1 where the model takes longer than it is known to: the
// heap's algorithms do not get slower unseen by a machine without a GPU.
#include "card_env.hpp"

#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

using namespace bench;
using namespace cuda_zstd;

namespace {

constexpr unsigned h100_processors = 132;

struct Case {
    std::string workload;
    unsigned threads = 0; ///< of all of an H100; thread blocks in W10
    unsigned bytes = 0;

    static Case parse(const std::string& text) {
        Case c;
        const std::size_t first = text.find('/');
        const std::size_t second = text.find('/', first + 1);
        c.workload = text.substr(0, first);
        try {
            c.threads = static_cast<unsigned>(std::stoul(text.substr(first + 1)));
            if (c.workload != "W10") c.bytes = static_cast<unsigned>(std::stoul(text.substr(second + 1)));
        } catch (const std::exception&) {
            c.threads = 0;
        }
        const bool has_bytes = second != std::string::npos && c.bytes >= 4 && c.bytes <= max_slot_bytes;
        if (c.threads == 0 || !(c.workload == "W10" || ((c.workload == "W1" || c.workload == "W2") && has_bytes)))
            throw CLI::ValidationError("--case",
                                       "'" + text + "' is not W1/THREADS/BYTES, W2/THREADS/BYTES or W10/BLOCKS");
        return c;
    }
};

/// As in bench/device: a number without a pattern from one with.
std::uint32_t mix(std::uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/// A heap whose pages have no memory behind them: nothing touches a block.
class ModelHeap {
public:
    ModelHeap(std::size_t bytes, unsigned processors)
        : bytes_(bytes), layout_(HeapLayout::for_arena(bytes, processors)) {
        // At one address in each run, so that runs are alike.
        memory_ = mmap(reinterpret_cast<void*>(std::uintptr_t{1} << 45), bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory_ == MAP_FAILED) throw std::bad_alloc();
        solo_env env;
        format_heap(env, memory_, layout_, 0, 1);
    }
    ModelHeap(const ModelHeap&) = delete;
    ModelHeap& operator=(const ModelHeap&) = delete;
    ~ModelHeap() { munmap(memory_, bytes_); }

    Heap<card_env> view() const { return Heap<card_env>::over(memory_, layout_); }

private:
    std::size_t bytes_;
    HeapLayout layout_;
    void* memory_ = nullptr;
};

struct Times {
    double alloc_us = 0;
    double free_us = 0; ///< 0: a part of alloc_us
};

class Model {
public:
    Model(const Case& which, unsigned processors, unsigned sites)
        : case_(which), processors_(processors), sites_(sites),
          work_(static_cast<unsigned>(std::uint64_t{which.threads} * processors / h100_processors)),
          card_(processors, which.workload == "W10" ? 16 : 64, scaled(processors)),
          heap_((std::size_t{which.workload == "W10" ? 8u : 12u} << 30) / h100_processors * processors, processors),
          blocks_((work_ + Card::warp_lanes - 1) / Card::warp_lanes * Card::warp_lanes) {}

    Times iterate() {
        Times times;
        if (case_.workload == "W10") {
            times.alloc_us = run("alloc and free", [this](unsigned lane) { scratch_jobs(lane); });
        } else {
            times.alloc_us = run("alloc", [this](unsigned lane) { threads(lane, Step::allocate); });
            times.free_us = run("free", [this](unsigned lane) { threads(lane, Step::deallocate); });
        }
        return times;
    }

private:
    enum class Step { allocate, deallocate };

    static AccessTimes scaled(unsigned processors) {
        AccessTimes times;
        times.same_address *= static_cast<double>(h100_processors) / processors;
        return times;
    }

    double run(const char* what, std::function<void(unsigned)> body) {
        next_ = 0;
        const double us = card_.run(std::move(body));
        if (failures_ != 0) throw std::runtime_error(fmt::format("{}: {} calls failed", what, failures_));
        unsigned left = sites_;
        for (const auto& [site, spent] : card_.take_sites()) {
            if (left-- == 0) break;
            fmt::print("    {:<16}{:12.1f} us {:9} x {}\n", what, spent.us, spent.accesses, site);
        }
        return us;
    }

    /// Warp after warp, as a processor has room for them.
    void threads(unsigned lane, Step step) {
        card_env env(card_);
        const auto warps = static_cast<unsigned>(blocks_.size() / Card::warp_lanes);
        for (;;) {
            const unsigned warp = env.shfl(~0u, lane % Card::warp_lanes == 0 ? next_++ : 0u, 0);
            if (warp >= warps) return;
            const unsigned thread = warp * Card::warp_lanes + lane % Card::warp_lanes;
            const unsigned bytes = case_.workload == "W1" ? case_.bytes : 4 + mix(thread) % (case_.bytes - 3);
            Status status = Status::ok;
            if (step == Step::allocate)
                blocks_[thread] = heap_.view().allocate(env, ~0u, bytes, 16, status);
            else
                status = heap_.view().deallocate(env, ~0u, blocks_[thread]);
            failures_ += status != Status::ok;
            env.sync(~0u);
        }
    }

    /// One lane of a warp stands for a thread block.
    void scratch_jobs(unsigned lane) {
        if (lane % Card::warp_lanes != 0) return;
        card_env env(card_);
        const Heap<card_env> heap = heap_.view();
        void* taken[40];
        for (unsigned job = next_++; job < work_; job = next_++) {
            const unsigned count = 3 + mix(job) % 38;
            for (unsigned index = 0; index < count; ++index) {
                const unsigned bytes = (1024 + mix(job * 64 + index) % (max_bytes - 1023)) & ~15u;
                Status status = Status::ok;
                taken[index] = heap.allocate(env, 1, bytes, 16, status);
                failures_ += status != Status::ok;
                card_.wait_until(card_.now() + write_us_of_64_kib * bytes / max_bytes);
            }
            for (unsigned step = 0; step < count; ++step)
                failures_ += heap.deallocate(env, 1, taken[count - 1 - step * 43 % count]) != Status::ok;
        }
    }
    static constexpr unsigned max_bytes = 64 << 10;
    static constexpr double write_us_of_64_kib = 2;

    Case case_;
    unsigned processors_;
    unsigned sites_;
    unsigned work_;
    Card card_;
    ModelHeap heap_;
    std::vector<void*> blocks_;
    unsigned next_ = 0;
    std::uint64_t failures_ = 0;
};

/// What a case may take in its last iteration: half as long again as when this was written.
struct Bound {
    const char* text;
    double alloc_us;
    double free_us;
};
constexpr unsigned checked_processors = 12;
constexpr unsigned checked_iterations = 3;
constexpr Bound bounds[] = {
    {"W1/1000000/64", 15, 30},    {"W1/1000000/1024", 30, 40},   {"W1/1000000/8192", 210, 60},
    {"W2/1000000/1024", 75, 310}, {"W2/1000000/8192", 180, 350}, {"W10/10000", 2000, 0},
};

int check(unsigned sites) {
    int late = 0;
    for (const Bound& bound : bounds) {
        Model model(Case::parse(bound.text), checked_processors, sites);
        Times times;
        for (unsigned iteration = 0; iteration < checked_iterations; ++iteration)
            times = model.iterate();
        const bool in_time = times.alloc_us <= bound.alloc_us && times.free_us <= bound.free_us;
        late += !in_time;
        fmt::print("{:<18} alloc {:8.1f} us (at most {:6.0f})  free {:8.1f} us (at most {:6.0f})  {}\n", bound.text,
                   times.alloc_us, bound.alloc_us, times.free_us, bound.free_us, in_time ? "ok" : "LATE");
    }
    return late != 0;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"The device heap's workloads on a model of a GPU's latencies"};
    std::vector<std::string> cases;
    unsigned processors = h100_processors / 4, iterations = 4, sites = 0;
    bool checks = false;
    app.add_option("--case", cases, "W1/THREADS/BYTES, W2/THREADS/BYTES or W10/BLOCKS, for all of an H100");
    app.add_option("--processors", processors, "modelled, of its 132")->check(CLI::Range(2u, h100_processors));
    app.add_option("--iterations", iterations)->check(CLI::Range(1u, 1000u));
    app.add_option("--sites", sites, "places in the source that are printed, those that take longest");
    app.add_flag("--check", checks, "run the known cases against their bounds");
    CLI11_PARSE(app, argc, argv);
    try {
        if (checks) return check(sites);
        for (const std::string& text : cases) {
            Model model(Case::parse(text), processors, sites);
            for (unsigned iteration = 0; iteration < iterations; ++iteration) {
                const Times times = model.iterate();
                fmt::print("{} iteration {}: alloc {:.1f} us, free {:.1f} us\n", text, iteration, times.alloc_us,
                           times.free_us);
            }
        }
    } catch (const std::exception& error) {
        fmt::print(stderr, "device_model: {}\n", error.what());
        return 1;
    }
    return 0;
}
