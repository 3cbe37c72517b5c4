// SPDX-License-Identifier: MIT
// W7: how much of a heap becomes payload, and what a call costs when there is nothing left. W9: how much of a heap
// comes back for another size.
#pragma once

#include "uniform.cuh"

#include <algorithm>
#include <memory>
#include <utility>

namespace bench {

/// Each of `threads` allocates one block and notes it at the next place of `blocks`; those beyond `places` are counted
/// only.
template <class Ref>
__global__ void fill_kernel(Ref ref, unsigned threads, std::size_t bytes, void** blocks, unsigned long long places,
                            unsigned long long* count) {
    if (blockIdx.x * blockDim.x + threadIdx.x >= threads) return;
    void* const block = ref.allocate(bytes);
    if (block == nullptr) return;
    const unsigned long long place = atomicAdd(count, 1ull);
    if (place < places) blocks[place] = block;
}

/// Blocks of one size that fill a heap; `blocks` holds them.
template <class S>
class Filling {
public:
    Filling(const S& subject, std::size_t bytes)
        : subject_(subject), bytes_(bytes), places_(subject.payload_bytes() / bytes + 1), blocks_(places_) {}

    /// Allocates in kernels of a million threads until one of them gets nothing. Waits.
    void until_null() { at_most(~0ull); }
    /// The same, and no more than `most` blocks.
    void at_most(unsigned long long most) {
        const DeviceArray<unsigned long long> count(1);
        check(cudaMemset(count.get(), 0, sizeof(unsigned long long)), "cudaMemset");
        unsigned long long before;
        do {
            before = found_;
            const auto threads = static_cast<unsigned>(std::min<unsigned long long>(most - found_, 1u << 20));
            fill_kernel<<<grid_for(threads), threads_a_block>>>(subject_.ref(), threads, bytes_, blocks_.get(), places_,
                                                                count.get());
            check(cudaGetLastError(), "fill_kernel");
            check(cudaMemcpy(&found_, count.get(), sizeof found_, cudaMemcpyDeviceToHost), "fill_kernel");
        } while (found_ != before && found_ < most && found_ < places_);
    }
    /// Whether each block holds what was written to it, over its whole length.
    bool verify(const Cell& cell) const {
        if (found_ >= places_) return cell.fail("gave more blocks than there is memory: " + std::to_string(found_));
        return cell.holds(write_and_verify(shape(), blocks_.get()));
    }
    void free_all() const {
        if (found_ == 0) return;
        launch_free(subject_, shape(), blocks_.get());
        check(cudaGetLastError(), "free_kernel");
        check(cudaDeviceSynchronize(), "free_kernel");
    }
    double share() const { return bench::share(found_, S::class_bytes(bytes_), subject_.payload_bytes()); }

private:
    Shape shape() const { return {static_cast<unsigned>(found_), bytes_, 0, 1}; }

    const S& subject_;
    std::size_t bytes_;
    unsigned long long places_;
    DeviceArray<void*> blocks_;
    unsigned long long found_ = 0;
};

/// The median time of a kernel of the shape, and how many of its last run's calls gave a block; `after` undoes a run.
template <class S, class After>
std::pair<double, unsigned> time_calls(const Cell& cell, const S& subject, const Shape& shape, const After& after) {
    const DeviceArray<void*> blocks(shape.threads);
    std::vector<void*> seen(shape.threads);
    Timer timer;
    std::vector<double> us;
    for (bool last = false; !last;) {
        us.push_back(timer.time_us([&] { launch_allocate(subject, shape, blocks.get()); }));
        last = cell.is_last(static_cast<unsigned>(us.size() - 1)); // the first one warms up
        if (last)
            check(cudaMemcpy(seen.data(), blocks.get(), seen.size() * sizeof(void*), cudaMemcpyDeviceToHost),
                  "cudaMemcpy");
        after(blocks.get());
    }
    us.erase(us.begin());
    return {median(us), static_cast<unsigned>(seen.size() - std::count(seen.begin(), seen.end(), nullptr))};
}

template <class S>
bool run_fill(const Cell& cell, const Case& c) {
    const Shape calls{c.count, c.bytes, 0, 1};
    auto subject = std::make_unique<S>(c.heap_bytes);
    {
        Filling<S> filling(*subject, c.bytes);
        filling.until_null();
        if (!filling.verify(cell)) return false;
        cell.row("share", "fraction", filling.share());
        const auto [us, given] = time_calls(cell, *subject, calls, [](void**) {});
        if (given != 0) return cell.fail("a full heap gave " + std::to_string(given) + " blocks");
        cell.row("failing", "us", us);
        filling.free_all();
        subject->reset(nullptr);
    }
    if (bench::share(calls.threads, S::class_bytes(c.bytes), subject->payload_bytes()) > 0.9) {
        if (!S::many_heaps) return true;
        subject.reset(); // before there is another
        subject = std::make_unique<S>(std::size_t{8} << 30);
    }
    const auto [us, given] = time_calls(cell, *subject, calls, [&](void** blocks) {
        if (S::frees) launch_free(*subject, calls, blocks);
        subject->reset(nullptr);
    });
    if (given != calls.threads) return cell.fail("an empty heap refused " + std::to_string(calls.threads - given));
    cell.row("succeeding", "us", us);
    return true;
}

template <class S>
bool run_reuse(const Cell& cell, const Case& c) {
    constexpr std::size_t small_bytes = 64;
    auto subject = std::make_unique<S>(c.heap_bytes);
    {
        Filling<S> small(*subject, small_bytes);
        if (c.count == until_null) {
            small.until_null();
        } else {
            small.at_most(subject->payload_bytes() / 100 * c.count / S::class_bytes(small_bytes));
        }
        if (!small.verify(cell)) return false;
        cell.row("filled", "fraction", small.share());
        small.free_all();
    }
    {
        Filling<S> other(*subject, c.bytes);
        other.until_null();
        if (!other.verify(cell)) return false;
        cell.row("share", "fraction", other.share());
    }
    if (!S::many_heaps) return true;
    subject.reset();
    subject = std::make_unique<S>(c.heap_bytes);
    Filling<S> fresh(*subject, c.bytes);
    fresh.until_null();
    if (!fresh.verify(cell)) return false;
    cell.row("share-new", "fraction", fresh.share());
    return true;
}

} // namespace bench
