// SPDX-License-Identifier: MIT
// The heap's own kernels on the host backend.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/publish.hpp"
#include "kernels/heap_launch.hpp"

namespace cuda_zstd::detail {

void setup_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned) {
        solo_env env;
        format_heap(env, heap.base, heap.layout, 0, 1);
    });
}

void reclaim_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned processor) {
        solo_env env(processor);
        Heap<solo_env>::over(heap.base, heap.layout).supply().reclaim(env);
    });
}

void survey_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap, HeapReport* report,
                    std::uint64_t sequence) {
    backend.run_blocks(stream, 1, [heap, report, sequence](unsigned, unsigned processor) {
        solo_env env(processor);
        const Heap<solo_env> view = Heap<solo_env>::over(heap.base, heap.layout);
        HeapSums sums;
        FreeRuns runs;
        for (std::uint32_t page = 0; page < heap.layout.page_count; ++page)
            sums = sums + survey_page(env, view, page);
        for (std::uint32_t word = 0; word < heap.layout.page_words(); ++word)
            runs = runs + survey_page_word(env.load(view.supply().pages.bits[word], Order::relaxed));
        publish_report(env, make_report(env, view, sums, runs), report, sequence);
    });
}

} // namespace cuda_zstd::detail
