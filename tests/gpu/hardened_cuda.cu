// SPDX-License-Identifier: MIT
// The heap of a hardened build in kernels: each mistake is planted by one, and an audit names block, size, kernel and
// line. Headers alone, as in tests/hardened: what is hardened must not meet the library, which is not.
//
// Invariant: no mistake touches memory that is not mapped.
#include "cuda_zstd/device/audit_report.hpp"
#include "cuda_zstd/device/hardened_audit.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd_device_pool.cuh"

#include <gtest/gtest.h>

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace cuda_zstd::test {
namespace {

constexpr std::size_t arena_bytes = std::size_t{16} << 20;
constexpr unsigned audit_threads = 256;

__device__ std::uint32_t line_of_allocation;

__global__ void formatting_kernel(void* arena, HeapLayout layout) {
    cuda_env env;
    format_heap(env, arena, layout, threadIdx.x, blockDim.x);
}

__global__ void allocating_kernel(DevicePoolRef pool, char** blocks, std::size_t bytes) {
    line_of_allocation = __LINE__ + 1;
    blocks[threadIdx.x] = static_cast<char*>(pool.allocate(bytes));
}
__global__ void writing_kernel(char* at) { *at = 1; }
__global__ void freeing_kernel(DevicePoolRef pool, char* const* blocks, Status* outcomes) {
    outcomes[threadIdx.x] = pool.try_deallocate(blocks[threadIdx.x]);
}
__global__ void freeing_again_kernel(DevicePoolRef pool, char* const* blocks, Status* outcomes) {
    outcomes[threadIdx.x] = pool.try_deallocate(blocks[threadIdx.x]);
}

/// As the library's audit_kernel does it.
__global__ void audit_blocks_kernel(HardenedHeap<cuda_env> heap, FaultReport* report) {
    __shared__ LiveTally<cuda_env> tally;
    cuda_env env;
    if (threadIdx.x == 0) {
        env.store(tally.blocks, std::uint64_t{0}, Order::relaxed);
        env.store(tally.bytes, std::uint64_t{0}, Order::relaxed);
        env.store(tally.records, 0u, Order::relaxed);
    }
    __syncthreads();
    audit_blocks(env, heap, tally, *report, threadIdx.x, blockDim.x);
    __syncthreads();
    if (threadIdx.x == 0) conclude_blocks(env, heap, tally, *report);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class HardenedOnCuda : public ::testing::Test {
protected:
    void SetUp() override {
        int devices = 0;
        if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
        const HeapLayout layout = HeapLayout::for_arena(arena_bytes, 8);
        ASSERT_EQ(cudaMalloc(&arena_, arena_bytes), cudaSuccess);
        ASSERT_EQ(cudaMemset(arena_, 0, arena_bytes), cudaSuccess);
        formatting_kernel<<<1, audit_threads>>>(arena_, layout);
        finish();
        heap_ = HardenedHeap<cuda_env>::over(arena_, layout);
        ASSERT_EQ(cudaMallocHost(&blocks_, 32 * sizeof(char*)), cudaSuccess);
        ASSERT_EQ(cudaMallocHost(&outcomes_, 32 * sizeof(Status)), cudaSuccess);
        ASSERT_EQ(cudaMallocHost(&report_, sizeof(FaultReport)), cudaSuccess);
    }
    void TearDown() override {
        (void)cudaFree(arena_);
        for (void* memory : {static_cast<void*>(blocks_), static_cast<void*>(outcomes_), static_cast<void*>(report_)})
            (void)cudaFreeHost(memory);
    }

    DevicePoolRef pool() const { return DevicePoolRef(BasicPoolRef<cuda_env>(heap_)); }
    static void finish() {
        ASSERT_EQ(cudaGetLastError(), cudaSuccess);
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    char* allocate(std::size_t bytes, unsigned lanes = 1) {
        allocating_kernel<<<1, lanes>>>(pool(), blocks_, bytes);
        finish();
        return blocks_[0];
    }
    void write(char* at) {
        writing_kernel<<<1, 1>>>(at);
        finish();
    }
    Status free_first() {
        freeing_kernel<<<1, 1>>>(pool(), blocks_, outcomes_);
        finish();
        return outcomes_[0];
    }
    /// The audit's lines.
    std::string audit() {
        *report_ = FaultReport{};
        audit_blocks_kernel<<<1, audit_threads>>>(heap_, report_);
        finish();
        AuditReport whole;
        whole.faults = *report_;
        return to_text(whole);
    }
    static std::string at_allocation() {
        std::uint32_t line = 0;
        EXPECT_EQ(cudaMemcpyFromSymbol(&line, line_of_allocation, sizeof line), cudaSuccess);
        return "hardened_cuda.cu:" + std::to_string(line);
    }

    void* arena_ = nullptr;
    HardenedHeap<cuda_env> heap_;
    char** blocks_ = nullptr;
    Status* outcomes_ = nullptr;
    FaultReport* report_ = nullptr;
};

TEST_F(HardenedOnCuda, RightUseIsNoFault) {
    allocate(300, 32);
    freeing_kernel<<<1, 32>>>(pool(), blocks_, outcomes_);
    finish();
    for (unsigned lane = 0; lane < 32; ++lane)
        EXPECT_EQ(outcomes_[lane], Status::ok) << lane;
    EXPECT_EQ(audit(), "");
}

TEST_F(HardenedOnCuda, AnOverrunIsNamed) {
    char* const block = allocate(1000);
    write(block + 1000);
    const std::string text = audit();
    EXPECT_TRUE(contains(text, "of 1000 bytes: bytes outside of the block were overwritten, allocated by "
                               "allocating_kernel at "))
        << text;
    EXPECT_TRUE(contains(text, at_allocation())) << text;
    EXPECT_EQ(free_first(), Status::corrupted);
}

TEST_F(HardenedOnCuda, AWriteAfterTheFreeIsNamed) {
    char* const block = allocate(200);
    ASSERT_EQ(free_first(), Status::ok);
    write(block + 100);
    const std::string text = audit();
    EXPECT_TRUE(contains(text, "of 200 bytes: written to after its free, allocated by allocating_kernel at ")) << text;
    EXPECT_TRUE(contains(text, at_allocation() + ", freed at ")) << text;
}

TEST_F(HardenedOnCuda, ASecondFreeIsNamed) {
    allocate(64);
    ASSERT_EQ(free_first(), Status::ok);
    freeing_again_kernel<<<1, 1>>>(pool(), blocks_, outcomes_);
    finish();
    EXPECT_EQ(outcomes_[0], Status::double_free);
    const std::string text = audit();
    EXPECT_TRUE(contains(text, "of 64 bytes: freed twice, allocated by allocating_kernel at ")) << text;
    EXPECT_TRUE(contains(text, ", freed again by freeing_again_kernel at ")) << text;
}

TEST_F(HardenedOnCuda, AFreeOfWhatWasNeverHandedOutIsNamed) {
    char* const block = allocate(1000);
    const SlotSize slot = SlotSize::of(size_class_of(1000 + HardenedHeap<cuda_env>::header_bytes + 32));
    const auto in_page = static_cast<std::size_t>(block - heap_.pages_base()) % page_bytes;
    blocks_[0] = in_page >= slot.bytes() ? block - slot.bytes() : block + slot.bytes();
    EXPECT_EQ(free_first(), Status::never_allocated);
    const std::string text = audit();
    EXPECT_TRUE(contains(text, ": freed, but never allocated, found when freed by freeing_kernel at ")) << text;
}

TEST_F(HardenedOnCuda, ALeakIsNamed) {
    allocate(500);
    const std::string text = audit();
    EXPECT_TRUE(contains(text, "of 500 bytes: live, allocated by allocating_kernel at ")) << text;
    EXPECT_TRUE(contains(text, at_allocation())) << text;
    EXPECT_EQ(report_->live_blocks, 1u);
}

} // namespace
} // namespace cuda_zstd::test
