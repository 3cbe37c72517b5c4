// SPDX-License-Identifier: MIT
#include "trace_writer.hpp"

#include "cuda_zstd/host/error.hpp"

#include <cpuid.h>
#include <x86intrin.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace cuda_zstd::detail {
namespace {

std::uint64_t steady_ns() noexcept {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
}

bool counter_is_steady() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
}
const bool use_counter = counter_is_steady();

/// An estimate from a millisecond; the pairs of times in the blocks make it exact for the reader.
std::uint64_t measured_ticks_per_second() noexcept {
    const std::uint64_t begin_ns = steady_ns();
    const std::uint64_t begin = __rdtsc();
    std::uint64_t end_ns = begin_ns;
    while (end_ns - begin_ns < 1'000'000)
        end_ns = steady_ns();
    const double rate = static_cast<double>(__rdtsc() - begin) / static_cast<double>(end_ns - begin_ns);
    return static_cast<std::uint64_t>(rate * 1e9);
}

} // namespace

std::uint64_t TraceClock::now() noexcept { return use_counter ? __rdtsc() : steady_ns(); }

std::uint64_t TraceClock::ticks_per_second() noexcept {
    static const std::uint64_t rate = use_counter ? measured_ticks_per_second() : 1'000'000'000;
    return rate;
}

struct TraceWriter::Busy {
    explicit Busy(Log& of) : log(of) {
        while (log.busy.exchange(true, std::memory_order_acquire)) {
        }
    }
    ~Busy() { log.busy.store(false, std::memory_order_release); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    Log& log;
};

/// A thread's logs, one for each writer that it has met; written when the thread ends.
struct TraceWriter::ThreadLogs {
    TraceWriter* last_writer = nullptr;
    Log* last_log = nullptr;
    std::vector<std::pair<TraceWriter*, Log*>> all;

    ~ThreadLogs() {
        for (const auto& [writer, log] : all) {
            const Busy busy(*log);
            writer->write(*log);
            log->bytes.reset();
        }
        thread_ended = true;
    }
    /// Whether the thread's own variables are gone: destructors of static objects may still use a pool.
    static thread_local bool thread_ended;
};
thread_local bool TraceWriter::ThreadLogs::thread_ended = false;

TraceWriter& TraceWriter::to(const std::string& path) {
    static std::mutex& mutex = *new std::mutex;
    static auto& writers = *new std::map<std::string, TraceWriter*>;
    const std::lock_guard lock(mutex);
    TraceWriter*& writer = writers[path];
    if (writer == nullptr) {
        writer = new TraceWriter(path);
        static const int at_exit = std::atexit([] {
            const std::lock_guard again(mutex);
            for (const auto& [name, each] : writers)
                if (each != nullptr) each->flush();
        });
        (void)at_exit;
    }
    return *writer;
}

TraceWriter::TraceWriter(const std::string& path) : path_(path), process_(getpid()) {
    file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file_ < 0)
        throw configuration_error("CUDA_ZSTD_POOL_TRACE=" + path + " cannot be written: " + std::strerror(errno));
    trace::FileHeader header{};
    std::memcpy(header.magic, trace::file_magic, sizeof header.magic);
    header.version = trace::format_version;
    header.ticks_per_second = TraceClock::ticks_per_second();
    header.start_ticks = TraceClock::now();
    header.start_steady_ns = steady_ns();
    header.start_unix_ns =
        static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
    header.process = static_cast<std::uint64_t>(process_);
    header.checksum = trace::header_checksum(header);
    write_all(&header, sizeof header);
}

TraceWriter::Log& TraceWriter::new_log() {
    auto made = std::make_unique<Log>();
    made->bytes = std::make_unique<unsigned char[]>(log_bytes);
    made->at = made->bytes.get();
    made->thread = static_cast<std::uint64_t>(gettid());
    const std::lock_guard lock(mutex_);
    logs_.push_back(std::move(made));
    return *logs_.back();
}

TraceWriter::Log& TraceWriter::log() {
    thread_local ThreadLogs mine;
    if (mine.last_writer == this) return *mine.last_log;
    Log* found = nullptr;
    for (const auto& [writer, each] : mine.all)
        if (writer == this) found = each;
    if (found == nullptr) {
        mine.all.reserve(mine.all.size() + 1);
        found = &new_log();
        mine.all.emplace_back(this, found);
    }
    mine.last_writer = this;
    mine.last_log = found;
    return *found;
}

void TraceWriter::add(const trace::Event& event) noexcept try {
    if (failed_.load(std::memory_order_relaxed)) return;
    const bool late = ThreadLogs::thread_ended;
    Log& mine = late ? new_log() : log();
    const Busy busy(mine);
    if (mine.events == 0) {
        mine.base_ticks = event.begin;
        mine.context = {};
        mine.context.ticks = event.begin;
    }
    mine.at = trace::encode(mine.at, event, mine.context);
    ++mine.events;
    const auto used = static_cast<std::size_t>(mine.at - mine.bytes.get());
    if (late || used + trace::most_record_bytes > log_bytes ||
        event.end - mine.base_ticks > TraceClock::ticks_per_second())
        write(mine);
    if (late) mine.bytes.reset();
} catch (...) {
    // No memory for a log: the trace ends here, the program goes on.
    failed_.store(true, std::memory_order_relaxed);
}

void TraceWriter::flush() noexcept {
    for (std::size_t index = 0;; ++index) {
        Log* log = nullptr;
        {
            const std::lock_guard lock(mutex_);
            if (index < logs_.size()) log = logs_[index].get();
        }
        if (log == nullptr) return;
        const Busy busy(*log);
        write(*log);
    }
}

/// Writes what a busy log holds as one block.
void TraceWriter::write(Log& log) noexcept {
    if (log.events == 0) return;
    const auto bytes = static_cast<std::size_t>(log.at - log.bytes.get());
    trace::BlockHeader header{};
    header.magic = trace::block_magic;
    header.payload_bytes = static_cast<std::uint32_t>(bytes);
    header.events = log.events;
    header.thread = log.thread;
    header.base_ticks = log.base_ticks;
    header.end_ticks = TraceClock::now();
    header.end_steady_ns = steady_ns();
    header.payload_checksum = trace::checksum(log.bytes.get(), bytes);
    header.checksum = trace::header_checksum(header);
    {
        const std::lock_guard lock(mutex_);
        write_all(&header, sizeof header);
        write_all(log.bytes.get(), bytes);
    }
    log.at = log.bytes.get();
    log.events = 0;
}

void TraceWriter::write_all(const void* data, std::size_t bytes) noexcept {
    if (failed_.load(std::memory_order_relaxed) || getpid() != process_) return;
    const auto* from = static_cast<const char*>(data);
    while (bytes != 0) {
        const ssize_t written = ::write(file_, from, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            failed_.store(true, std::memory_order_relaxed);
            std::fprintf(stderr, "cuda_zstd: the trace %s ends early: %s\n", path_.c_str(), std::strerror(errno));
            return;
        }
        from += written;
        bytes -= static_cast<std::size_t>(written);
    }
}

} // namespace cuda_zstd::detail
