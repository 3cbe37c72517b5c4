// SPDX-License-Identifier: MIT
// Launchers for debugging: the heap's audit, and the end of a hardened build's quarantine. For either backend.
// Invariant: each returns at once; its work is done in `stream` order.
#pragma once

#include "cuda_zstd/device/audit_report.hpp"
#include "kernels/heap_launch.hpp"

#include <cstddef>

namespace cuda_zstd {

/// Bytes of device memory that an audit works in.
std::size_t audit_work_bytes(const HeapLayout& layout);

/// Writes what the audit finds to `report` (pinned memory). Nobody may allocate or free meanwhile.
void launch_audit(Backend& backend, cudaStream_t stream, const HeapArena& heap, void* work, AuditReport* report);

/// Gives the blocks in quarantine back to the heap. Nothing is launched in a build without quarantine.
void launch_quarantine_release(Backend& backend, cudaStream_t stream, const HeapArena& heap);

namespace detail {
void audit_on_cuda(cudaStream_t stream, const HeapArena& heap, void* work, AuditReport* report);
void release_quarantine_on_cuda(cudaStream_t stream, const HeapArena& heap);
} // namespace detail

} // namespace cuda_zstd
