// SPDX-License-Identifier: MIT
// What the environment and PoolOptions may say, and how they are refused.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>
#include <utility>

namespace cuda_zstd {
namespace {

/// Sets variables for the time of a test.
class Environment {
public:
    using Values = std::map<std::string, std::string>;
    explicit Environment(const Values& values) {
        for (const char* name : names)
            unsetenv(name);
        for (const auto& [name, value] : values)
            setenv(name.c_str(), value.c_str(), 1);
    }
    ~Environment() {
        for (const char* name : names)
            unsetenv(name);
    }

private:
    static constexpr const char* names[] = {"CUDA_ZSTD_POOL_MAX_SIZE", "CUDA_ZSTD_POOL_INITIAL_SIZE",
                                            "CUDA_ZSTD_POOL_GROWTH_FACTOR", "CUDA_ZSTD_POOL_STRATEGY",
                                            "CUDA_ZSTD_POOL_BACKEND"};
};

TEST(Options, TheGuidesEnvironmentIsRead) {
    const Environment set(Environment::Values{{"CUDA_ZSTD_POOL_MAX_SIZE", "2147483648"},
                                              {"CUDA_ZSTD_POOL_INITIAL_SIZE", "268435456"},
                                              {"CUDA_ZSTD_POOL_GROWTH_FACTOR", "2.0"},
                                              {"CUDA_ZSTD_POOL_STRATEGY", "segregated"},
                                              {"CUDA_ZSTD_POOL_BACKEND", "host"}});
    PoolOptions before;
    before.growth = Growth::exact;
    const PoolOptions options = from_environment(before);
    EXPECT_EQ(options.max_bytes, 2147483648u);
    EXPECT_EQ(options.initial_bytes, 268435456u);
    EXPECT_EQ(options.growth_factor, 2.0);
    EXPECT_EQ(options.growth, Growth::geometric) << "a factor asks for geometric growth";
    EXPECT_EQ(options.strategy, Strategy::segregated);
    EXPECT_EQ(options.backend, BackendKind::host);
}

TEST(Options, WhatIsNotSetStaysAsItWas) {
    const Environment set(Environment::Values{{"CUDA_ZSTD_POOL_BACKEND", "auto"}, {"CUDA_ZSTD_POOL_STRATEGY", ""}});
    PoolOptions before;
    before.strategy = Strategy::first_fit;
    before.max_bytes = 64u << 20;
    const PoolOptions options = from_environment(before);
    EXPECT_EQ(options.strategy, Strategy::first_fit);
    EXPECT_EQ(options.max_bytes, 64u << 20);
    EXPECT_FALSE(options.backend.has_value());
}

struct Refused {
    const char* variable;
    const char* value;
    const char* allowed;
};

class RefusedValue : public testing::TestWithParam<Refused> {};

TEST_P(RefusedValue, NamesVariableValueAndWhatIsAllowed) {
    const Environment set(Environment::Values{{GetParam().variable, GetParam().value}});
    try {
        (void)from_environment(PoolOptions{});
        FAIL() << GetParam().variable << "=" << GetParam().value << " was accepted";
    } catch (const configuration_error& error) {
        const std::string text = error.what();
        EXPECT_NE(text.find(GetParam().variable), std::string::npos) << text;
        EXPECT_NE(text.find(GetParam().value), std::string::npos) << text;
        EXPECT_NE(text.find(GetParam().allowed), std::string::npos) << text;
    }
}

INSTANTIATE_TEST_SUITE_P(Environment, RefusedValue,
                         testing::Values(Refused{"CUDA_ZSTD_POOL_MAX_SIZE", "2GB", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_MAX_SIZE", "-1", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_MAX_SIZE", "1024", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_MAX_SIZE", "0", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_MAX_SIZE", "99999999999999999999999", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_MAX_SIZE", " 4194304", "2097152"},
                                         Refused{"CUDA_ZSTD_POOL_INITIAL_SIZE", "1e6", "whole decimal number"},
                                         Refused{"CUDA_ZSTD_POOL_GROWTH_FACTOR", "0.5", "1.0 to 16.0"},
                                         Refused{"CUDA_ZSTD_POOL_GROWTH_FACTOR", "17", "1.0 to 16.0"},
                                         Refused{"CUDA_ZSTD_POOL_GROWTH_FACTOR", "nan", "1.0 to 16.0"},
                                         Refused{"CUDA_ZSTD_POOL_GROWTH_FACTOR", "2.0x", "1.0 to 16.0"},
                                         Refused{"CUDA_ZSTD_POOL_STRATEGY", "best_fit",
                                                 "best-fit, first-fit or segregated"},
                                         Refused{"CUDA_ZSTD_POOL_BACKEND", "gpu", "auto, cuda or host"}));

TEST(Options, AContradictionNamesBothVariables) {
    const Environment set(
        Environment::Values{{"CUDA_ZSTD_POOL_MAX_SIZE", "4194304"}, {"CUDA_ZSTD_POOL_INITIAL_SIZE", "8388608"}});
    try {
        (void)from_environment(PoolOptions{});
        FAIL() << "an initial size above the largest was accepted";
    } catch (const configuration_error& error) {
        const std::string text = error.what();
        for (const char* part : {"CUDA_ZSTD_POOL_INITIAL_SIZE=8388608", "CUDA_ZSTD_POOL_MAX_SIZE", "4194304"})
            EXPECT_NE(text.find(part), std::string::npos) << text;
    }
}

TEST(Options, AnEnvironmentThatContradictsTheProgramIsRefused) {
    const Environment set(Environment::Values{{"CUDA_ZSTD_POOL_MAX_SIZE", "4194304"}});
    PoolOptions options;
    options.initial_bytes = 16u << 20;
    EXPECT_THROW((void)from_environment(options), configuration_error);
}

template <class Change>
void expect_refused(const char* option, const Change& change) {
    PoolOptions options;
    change(options);
    try {
        (void)validated(options);
        ADD_FAILURE() << option << " was accepted";
    } catch (const configuration_error& error) {
        EXPECT_NE(std::string(error.what()).find(option), std::string::npos) << error.what();
    }
}

TEST(Options, ValidatedNamesTheOption) {
    EXPECT_NO_THROW((void)validated(PoolOptions{}));
    expect_refused("max_bytes", [](PoolOptions& o) { o.max_bytes = 4096; });
    expect_refused("initial_bytes", [](PoolOptions& o) { o.max_bytes = 2u << 20, o.initial_bytes = 4u << 20; });
    expect_refused("growth_factor", [](PoolOptions& o) { o.growth_factor = 0.9; });
    expect_refused("growth_step_bytes", [](PoolOptions& o) { o.growth = Growth::fixed_step, o.growth_step_bytes = 0; });
    expect_refused("small_limit_bytes", [](PoolOptions& o) { o.small_limit_bytes = 1u << 20; });
    expect_refused("medium_limit_bytes", [](PoolOptions& o) { o.medium_limit_bytes = 4096; });
}

TEST(Options, ABackendThatIsNotThereIsRefused) {
    if (Backend::cuda_available()) GTEST_SKIP() << "a CUDA device answers";
    try {
        (void)Backend::get(BackendKind::cuda);
        FAIL() << "there is no device";
    } catch (const configuration_error& error) {
        EXPECT_NE(std::string(error.what()).find("no CUDA device answers"), std::string::npos);
    }
}

TEST(Options, TheHostBackendTakesNoDeviceMemory) {
    const std::pair<SourceKind, const char*> sources[] = {{SourceKind::cuda_virtual, "cuda_virtual"},
                                                          {SourceKind::cuda_malloc, "cuda_malloc"},
                                                          {SourceKind::cuda_managed, "cuda_managed"},
                                                          {SourceKind::cuda_pinned, "cuda_pinned"}};
    for (const auto& [source, name] : sources) {
        PoolOptions options;
        options.backend = BackendKind::host;
        options.source = source;
        try {
            const MemoryPoolManager pool(options);
            FAIL() << "threads cannot reach device memory";
        } catch (const configuration_error& error) {
            const std::string text = error.what();
            EXPECT_NE(text.find(name), std::string::npos) << text;
            EXPECT_NE(text.find("host backend"), std::string::npos) << text;
        }
    }
}

TEST(Version, HeadersAndLibraryAgree) { EXPECT_EQ(library_version(), unsigned{CUDA_ZSTD_POOL_VERSION}); }

} // namespace
} // namespace cuda_zstd
