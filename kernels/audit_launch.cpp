// SPDX-License-Identifier: MIT
#include "kernels/audit_launch.hpp"

#include "cuda_zstd/device/hardened_audit.hpp"
#include "cuda_zstd/device/pool_heap.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/audit.hpp"

namespace cuda_zstd {

std::size_t audit_work_bytes(const HeapLayout& layout) { return HeapAudit<solo_env>::work_bytes(layout.page_count); }

void launch_audit(Backend& backend, cudaStream_t stream, const HeapArena& heap, void* work, AuditReport* report) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::audit_on_cuda(stream, heap, work, report);
        return;
    }
    backend.run_blocks(stream, 1, [heap, work, report](unsigned, unsigned processor) {
        solo_env env(processor);
        const Heap<solo_env> view = Heap<solo_env>::over(heap.base, heap.layout);
        report->finding = audit_heap(env, view, work);
        CensusTally<solo_env> census{};
        census.count_live(env, view, 0, 1);
        census.conclude(env, report->census);
        if constexpr (Hardening::any) {
            LiveTally<solo_env> tally{};
            const HardenedHeap<solo_env> hardened = HardenedHeap<solo_env>::over(heap.base, heap.layout);
            audit_blocks(env, hardened, tally, report->faults, 0, 1);
            conclude_blocks(env, hardened, tally, report->faults);
        }
    });
}

void launch_quarantine_release(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    if constexpr (!Hardening::quarantine) return;
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::release_quarantine_on_cuda(stream, heap);
        return;
    }
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned processor) {
        solo_env env(processor);
        HardenedHeap<solo_env>::over(heap.base, heap.layout).release_quarantine(env, 1u);
    });
}

} // namespace cuda_zstd
