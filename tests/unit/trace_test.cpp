// SPDX-License-Identifier: MIT
// The ranges that a profiler would see, taken by a recorder that NVTX loads.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

std::string recorded() {
    // NVTX has loaded the recorder by now; this finds the same copy.
    static void* library = dlopen(NVTX_RECORDER, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) return {};
    static const auto take = reinterpret_cast<void (*)(char*, std::size_t)>(dlsym(library, "take_recorded"));
    std::vector<char> text(1 << 20);
    take(text.data(), text.size());
    return text.data();
}

PoolOptions options() {
    PoolOptions made;
    made.backend = BackendKind::host;
    return made;
}

TEST(Trace, HostCallsGrowthAndTrimAreRanges) {
    {
        MemoryPoolManager pool(options());
        void* block = pool.allocate(3 * MiB);
        pool.deallocate(block);
        pool.reserve(40 * MiB);
        pool.trim();
        pool.reset();
    }
    const std::string text = recorded();
    ASSERT_NE(text, "") << "NVTX has not loaded the recorder";
    EXPECT_NE(text.find("domain cuda_zstd\n"), std::string::npos);
    for (const char* category : {"category 1 allocate\n", "category 2 free\n", "category 3 grow\n", "category 4 trim\n",
                                 "category 5 compact\n", "category 6 wave\n"})
        EXPECT_NE(text.find(category), std::string::npos) << category;
    // Growth is inside the allocation that needs it.
    EXPECT_NE(text.find("push 1 allocate 1 3145728\npush 1 grow 3 3145728\npop 1\npop 1\n"), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 deallocate 2 0\npop 1\n"), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 reserve 3 41943040\n"), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 trim 4 0\n"), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 reset 4 0\n"), std::string::npos) << text;
}

TEST(Trace, RangesCloseWhenACallThrows) {
    MemoryPoolManager pool(options());
    pool.deallocate(pool.allocate(1)); // the first range makes NVTX load the recorder
    (void)recorded();
    EXPECT_THROW(pool.allocate(0), usage_error);
    EXPECT_EQ(recorded(), "push 1 allocate 1 0\npop 1\n");
}

TEST(Trace, OthersMayUseTheDomain) {
    static const TraceName name("compaction", TraceCategory::compact);
    { const TraceRange first(name); } // makes NVTX load the recorder
    (void)recorded();
    {
        const TraceRange outer(name, 77);
        static const TraceName inner_name("wave", TraceCategory::wave);
        const TraceRange inner(inner_name);
    }
    EXPECT_EQ(recorded(), "push 1 compaction 5 77\npush 1 wave 6 0\npop 1\npop 1\n");
}

} // namespace
} // namespace cuda_zstd

int main(int argc, char** argv) {
    // Before the first NVTX call of the process.
    setenv("NVTX_INJECTION64_PATH", NVTX_RECORDER, 1);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
