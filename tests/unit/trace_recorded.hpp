// SPDX-License-Identifier: MIT
// What the recorder of nvtx_recorder.cpp has heard, for the tests of traces.
// Invariant: a test reads its own lines only, however often it is run: what came before is dropped, and pools are known
// by their numbers.
#pragma once

#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd::test {

inline constexpr std::size_t MiB = std::size_t{1} << 20;

struct Line {
    unsigned thread = 0;
    std::string text;
};

/// Lines that are said once in a process, so far: the domain, its categories and its schema.
inline std::set<std::string>& registrations() {
    static std::set<std::string> lines;
    return lines;
}

inline std::vector<Line> recorded_lines() {
    // NVTX has loaded the recorder by now; this finds the same copy.
    static void* library = dlopen(NVTX_RECORDER, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) return {};
    static const auto take = reinterpret_cast<std::size_t (*)(char*, std::size_t)>(dlsym(library, "take_recorded"));
    std::vector<char> text(1 << 20);
    for (std::size_t bytes = take(text.data(), text.size()); bytes > text.size();
         bytes = take(text.data(), text.size()))
        text.resize(bytes);
    std::istringstream from(text.data());
    std::vector<Line> lines;
    for (Line line; from >> line.thread && std::getline(from >> std::ws, line.text);) {
        const std::string first = line.text.substr(0, line.text.find(' '));
        if (first == "domain" || first == "category" || first == "schema")
            registrations().insert(line.text);
        else
            lines.push_back(line);
    }
    return lines;
}

/// The last value of each counter whose name begins with `prefix`, by the rest of the name.
inline std::map<std::string, std::string> last_values(const std::vector<Line>& lines, const std::string& prefix) {
    std::map<std::string, std::string> last;
    for (const Line& line : lines)
        if (line.text.starts_with("counter " + prefix)) {
            const auto equals = line.text.find(" = ");
            last[line.text.substr(8 + prefix.size(), equals - 8 - prefix.size())] = line.text.substr(equals + 3);
        }
    return last;
}

/// The lines of all threads, without the thread and without counters.
inline std::string recorded() {
    std::string text;
    for (const Line& line : recorded_lines())
        if (!line.text.starts_with("counter ")) text += line.text + "\n";
    return text;
}

inline PoolOptions options() {
    PoolOptions made;
    made.backend = BackendKind::host;
    made.diagnostics = nullptr;
    return made;
}

/// Random calls on 8 threads, each with a stream; every block is freed.
inline void random_calls(MemoryPoolManager& pool, unsigned calls) {
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 8; ++number)
        threads.emplace_back([&pool, number, calls] {
            std::mt19937 random(number + 1);
            const cudaStream_t stream = pool.backend().create_stream();
            std::vector<void*> blocks;
            for (unsigned call = 0; call < calls; ++call) {
                const auto choice = random() % 100;
                if (choice < 45) {
                    if (void* block = pool.try_allocate(1 + random() % (std::size_t{1} << random() % 22), stream))
                        blocks.push_back(block);
                } else if (choice < 92 && !blocks.empty()) {
                    std::swap(blocks[random() % blocks.size()], blocks.back());
                    pool.deallocate(blocks.back(), stream);
                    blocks.pop_back();
                } else if (choice < 95) {
                    pool.trim(8 * MiB);
                } else if (choice < 97) {
                    EXPECT_THROW(pool.allocate(0, stream), usage_error);
                } else if (choice < 99) {
                    EXPECT_THROW(pool.deallocate(&pool, stream), usage_error);
                } else {
                    EXPECT_EQ(pool.try_allocate(std::size_t{1} << 50, stream), nullptr);
                }
            }
            for (void* block : blocks)
                pool.deallocate(block, stream);
            pool.backend().destroy_stream(stream);
        });
    for (std::thread& thread : threads)
        thread.join();
}

/// Follows every thread's ranges: each pop has its push, and nothing is left open.
struct Nesting {
    std::map<unsigned, std::vector<std::string>> open;
    std::map<std::string, std::uint64_t> ranges;
    std::map<std::string, std::uint64_t> marks;

    explicit Nesting(const std::vector<Line>& lines) {
        for (const Line& line : lines) {
            auto& stack = open[line.thread];
            if (line.text.starts_with("push 1 ")) {
                const std::string name = line.text.substr(7, line.text.find_last_of(' ') - 9);
                if (name == "grow") {
                    EXPECT_TRUE(!stack.empty() && (stack.back() == "allocate, miss" || stack.back() == "reserve"))
                        << "growth outside of a miss";
                }
                ++ranges[name];
                stack.push_back(name);
            } else if (line.text == "pop 1") {
                EXPECT_FALSE(stack.empty()) << "a range ends that has not begun";
                if (!stack.empty()) stack.pop_back();
            } else if (line.text.starts_with("mark 1 ")) {
                ++marks[line.text.substr(7, line.text.find_last_of(' ') - 9)];
            }
        }
        for (const auto& [thread, stack] : open)
            EXPECT_TRUE(stack.empty()) << "thread " << thread << " leaves " << stack.back() << " open";
    }
};

/// The pool's number in this process, as its snapshot tells it.
inline std::string number_of(const MemoryPoolManager& pool) {
    std::FILE* const file = std::tmpfile();
    pool.write_snapshot(file);
    std::rewind(file);
    unsigned number = 0;
    EXPECT_EQ(std::fscanf(file, "{\"format\":\"cuda_zstd pool snapshot 1\",\"pool\":%u", &number), 1);
    std::fclose(file);
    return std::to_string(number);
}

} // namespace cuda_zstd::test
