// SPDX-License-Identifier: MIT
// The chunk compressor: ratio beside LZ4's, kernel time over a corpus held in the backend's memory, and 1 GiB of chunks
// in flight at once in a pool of a quarter of their worst case. Every frame of the first and of the last launch is
// decoded.
//
//     compress_bench [--csv FILE] [--chunk BYTES] [--limit MiB] [--iterations N] [FILE|FOLDER...]
#include "corpus.hpp"

#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/compression/launch.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>

namespace compress_bench {
namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::compression;

struct Settings {
    std::vector<std::string> paths;
    std::string csv;
    std::uint32_t chunk_bytes = largest_chunk_bytes;
    std::size_t limit_bytes = std::size_t{256} << 20;
    unsigned iterations = 7;
    std::size_t in_flight_bytes = std::size_t{1} << 30;
};

class Figures {
public:
    explicit Figures(const std::string& path) {
        if (path.empty()) return;
        csv_.open(path);
        if (!csv_) throw std::runtime_error(path + ": cannot be written");
        csv_ << "subject,case,metric,unit,value\n";
    }
    void add(const std::string& subject, const std::string& which, const std::string& metric, const std::string& unit,
             double value) {
        fmt::print("{:<22} {:<34} {:<22} {:>12.3f} {}\n", subject, which, metric, value, unit);
        if (csv_.is_open()) csv_ << fmt::format("{},{},{},{},{}\n", subject, which, metric, unit, value);
    }

private:
    std::ofstream csv_;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// A corpus in the backend's memory, and what a launch over some of its chunks needs.
class Bench {
public:
    Bench(Backend& backend, MemoryPoolManager& manager, const Corpus& corpus, const std::vector<ChunkSpan>& chunks)
        : backend_(backend), corpus_(corpus), chunks_(chunks), count_(static_cast<std::uint32_t>(chunks.size())),
          stream_(backend.create_stream()), input_(manager, corpus.padded.size(), stream_),
          spans_(manager, count_ * sizeof(ChunkSpan), stream_),
          results_(manager, count_ * sizeof(ChunkResult), stream_),
          offsets_(manager, (count_ + 1) * sizeof(std::uint64_t), stream_),
          scratch_(manager, gather_scratch_bytes(backend, count_), stream_) {
        for (const ChunkSpan& chunk : chunks)
            input_bytes_ += chunk.bytes;
        packed_ = PooledBuffer(manager, packed_bound(input_bytes_, count_), stream_);
        backend.copy_async(input_.data(), corpus.padded.data(), corpus.padded.size(), stream_);
        backend.copy_async(spans_.data(), chunks.data(), count_ * sizeof(ChunkSpan), stream_);
        backend.synchronize(stream_);
        for (BackendEvent& event : events_)
            event = backend.create_event();
    }
    ~Bench() {
        for (const BackendEvent& event : events_)
            backend_.destroy_event(event);
        for (PooledBuffer* buffer : {&input_, &spans_, &results_, &offsets_, &scratch_, &packed_})
            *buffer = PooledBuffer();
        backend_.destroy_stream(stream_);
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    struct Times {
        double compress_ms;
        double gather_ms;
    };
    Times run(const DevicePool& pool, ContentChecksum checksum) {
        backend_.fill_async(results_.data(), 0, count_ * sizeof(ChunkResult), stream_);
        CompressArgs args;
        args.input = input_.as<unsigned char>() + input_padding_bytes;
        args.chunks = spans_.as<ChunkSpan>();
        args.chunk_count = count_;
        args.checksum = checksum;
        args.results = results_.as<ChunkResult>();
        args.frame_offsets = offsets_.as<std::uint64_t>();
        backend_.record(events_[0], stream_);
        launch_compress(backend_, stream_, pool, args);
        backend_.record(events_[1], stream_);
        launch_gather(backend_, stream_, pool, args,
                      {packed_.as<unsigned char>(), scratch_.data(), scratch_.size_bytes()});
        backend_.record(events_[2], stream_);
        backend_.synchronize(stream_);
        return {static_cast<double>(backend_.elapsed_ms(events_[0], events_[1])),
                static_cast<double>(backend_.elapsed_ms(events_[1], events_[2]))};
    }

    std::vector<ChunkResult> results() { return download<ChunkResult>(results_, count_); }
    std::uint64_t input_bytes() const { return input_bytes_; }
    cudaStream_t stream() const { return stream_; }

    /// Bytes of all frames, each of which was decoded and compared. Throws std::runtime_error.
    std::uint64_t verified_bytes() {
        const auto offsets = download<std::uint64_t>(offsets_, count_ + 1);
        const auto packed = download<unsigned char>(packed_, offsets.back());
        std::vector<unsigned char> decoded(largest_chunk_bytes);
        for (std::uint32_t i = 0; i < count_; ++i) {
            const std::size_t got = ZSTD_decompress(decoded.data(), decoded.size(), packed.data() + offsets[i],
                                                    offsets[i + 1] - offsets[i]);
            if (ZSTD_isError(got) != 0 || got != chunks_[i].bytes ||
                std::memcmp(decoded.data(), corpus_.data() + chunks_[i].offset, got) != 0)
                throw std::runtime_error(fmt::format("chunk {} does not decode to what it was", i));
        }
        return offsets.back();
    }

private:
    template <class T>
    std::vector<T> download(const PooledBuffer& buffer, std::size_t count) {
        std::vector<T> values(count);
        backend_.copy_async(values.data(), buffer.data(), count * sizeof(T), stream_);
        backend_.synchronize(stream_);
        return values;
    }

    Backend& backend_;
    const Corpus& corpus_;
    const std::vector<ChunkSpan>& chunks_;
    std::uint32_t count_;
    std::uint64_t input_bytes_ = 0;
    cudaStream_t stream_;
    PooledBuffer input_, spans_, results_, offsets_, scratch_, packed_;
    BackendEvent events_[3];
};

/// Ratio of LZ4_compress_fast(1) on the same chunks, each stored where that is smaller; its speed on one thread.
void compare_with_lz4(const Corpus& corpus, const std::string& which, Figures& figures) {
    std::vector<char> output(static_cast<std::size_t>(LZ4_compressBound(largest_chunk_bytes)));
    std::uint64_t total = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (const ChunkSpan& chunk : corpus.chunks) {
        const int bytes = LZ4_compress_fast(reinterpret_cast<const char*>(corpus.data() + chunk.offset), output.data(),
                                            static_cast<int>(chunk.bytes), static_cast<int>(output.size()), 1);
        total += std::min(static_cast<std::uint32_t>(bytes), chunk.bytes);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto input = static_cast<double>(corpus.input_bytes);
    figures.add("LZ4_compress_fast(1)", which, "ratio", "", input / static_cast<double>(total));
    figures.add("LZ4_compress_fast(1)", which, "throughput", "GB/s", input / seconds / 1e9);
}

void measure_speed(Backend& backend, MemoryPoolManager& manager, const Corpus& corpus, const std::string& which,
                   unsigned iterations, Figures& figures) {
    Bench bench(backend, manager, corpus, corpus.chunks);
    std::uint64_t worst_case_bytes = 0;
    for (const ChunkSpan& chunk : corpus.chunks)
        worst_case_bytes += worst_case_scratch_bytes(chunk.bytes);
    DevicePool pool(manager, std::max<std::size_t>(worst_case_bytes, std::size_t{64} << 20), bench.stream());
    const auto input = static_cast<double>(bench.input_bytes());
    for (const ContentChecksum checksum : {ContentChecksum::absent, ContentChecksum::present}) {
        std::vector<double> compress_ms;
        std::vector<double> both_ms;
        for (unsigned i = 0; i <= iterations; ++i) {
            const Bench::Times times = bench.run(pool, checksum);
            if (i == 0) continue; // loads the kernels, touches the memory
            compress_ms.push_back(times.compress_ms);
            both_ms.push_back(times.compress_ms + times.gather_ms);
        }
        const std::string name = which + (checksum == ContentChecksum::present ? " --check" : "");
        figures.add("pool-zstd", name, "ratio", "", input / static_cast<double>(bench.verified_bytes()));
        figures.add("pool-zstd", name, "compress kernel", "GB/s", input / median(compress_ms) / 1e6);
        figures.add("pool-zstd", name, "compress and gather", "GB/s", input / median(both_ms) / 1e6);
    }
    const HeapReport report = pool.statistics(bench.stream());
    if (report.live_blocks != 0 || report.failed_allocations != 0 || report.invalid_frees + report.double_frees != 0)
        throw std::runtime_error("the pool's statistics show blocks that live on, or failed or wrong calls");
}

/// All chunks in flight: every output list lives until the gather.
void measure_in_flight(Backend& backend, MemoryPoolManager& manager, const Corpus& corpus, std::size_t bytes,
                       Figures& figures) {
    const std::vector<ChunkSpan> chunks = corpus.repeated(bytes);
    std::uint64_t worst_case_bytes = 0;
    for (const ChunkSpan& chunk : chunks)
        worst_case_bytes += worst_case_scratch_bytes(chunk.bytes);
    Bench bench(backend, manager, corpus, chunks);
    DevicePool pool(manager, worst_case_bytes / 4, bench.stream());
    const std::string which = fmt::format("{} MiB in flight", bench.input_bytes() >> 20);
    const Bench::Times times = bench.run(pool, ContentChecksum::absent);
    std::uint64_t failed = 0;
    std::uint64_t retried = 0;
    std::uint64_t chunk_peaks = 0;
    for (const ChunkResult& result : bench.results()) {
        failed += result.state == ChunkState::no_memory ? 1 : 0;
        retried += result.state != ChunkState::no_memory && result.failed_attempts != 0 ? 1 : 0;
        chunk_peaks += result.scratch_bytes;
    }
    const std::uint64_t packed_bytes = bench.verified_bytes();
    const HeapReport report = pool.statistics(bench.stream());
    const auto mib = [](std::uint64_t value) { return static_cast<double>(value) / 1048576.0; };
    figures.add("pool-zstd", which, "ratio", "",
                static_cast<double>(bench.input_bytes()) / static_cast<double>(packed_bytes));
    figures.add("pool-zstd", which, "worst case", "MiB", mib(worst_case_bytes));
    figures.add("pool-zstd", which, "pool", "MiB", mib(worst_case_bytes / 4));
    figures.add("pool-zstd", which, "peak of the pool", "MiB", mib(report.peak_page_bytes));
    figures.add("pool-zstd", which, "sum of chunks' peaks", "MiB", mib(chunk_peaks));
    figures.add("pool-zstd", which, "chunks without memory", "", static_cast<double>(failed));
    figures.add("pool-zstd", which, "second attempts", "", static_cast<double>(retried));
    figures.add("pool-zstd", which, "compress kernel", "GB/s",
                static_cast<double>(bench.input_bytes()) / times.compress_ms / 1e6);
}

int run(int argc, char** argv) {
    Settings settings;
    std::size_t limit_mib = settings.limit_bytes >> 20;
    std::size_t in_flight_mib = settings.in_flight_bytes >> 20;
    CLI::App app("Measures the chunk compressor beside LZ4", "compress_bench");
    app.add_option("--csv", settings.csv, "write the figures there: subject,case,metric,unit,value");
    app.add_option("--chunk", settings.chunk_bytes, "bytes of a chunk")
        ->check(CLI::Range(smallest_chunk_bytes, largest_chunk_bytes))
        ->capture_default_str();
    app.add_option("--limit", limit_mib, "MiB of the corpus that are read")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--iterations", settings.iterations)->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--in-flight", in_flight_mib, "MiB of chunks in flight at once; 0: leave that out")
        ->capture_default_str();
    app.add_option("PATH", settings.paths,
                   "files and folders (default: build/corpus/files, else files of the machine)");
    CLI11_PARSE(app, argc, argv);
    settings.limit_bytes = limit_mib << 20;
    settings.in_flight_bytes = in_flight_mib << 20;

    Backend& backend = Backend::get();
    const Corpus corpus = load_corpus(settings.paths, settings.limit_bytes, settings.chunk_bytes);
    fmt::print("{}\n{}: {:.1f} MiB in {} chunks of {} KiB\n\n", backend.description(), corpus.name,
               static_cast<double>(corpus.input_bytes) / 1048576.0, corpus.chunks.size(), settings.chunk_bytes >> 10);
    Figures figures(settings.csv);
    const std::string which = fmt::format("corpus/{}K", settings.chunk_bytes >> 10);
    MemoryPoolManager& manager = MemoryPoolManager::get_instance();
    compare_with_lz4(corpus, which, figures);
    measure_speed(backend, manager, corpus, which, settings.iterations, figures);
    if (settings.in_flight_bytes != 0) measure_in_flight(backend, manager, corpus, settings.in_flight_bytes, figures);
    if (manager.get_allocated_size() != 0) throw std::runtime_error("memory of the pool was not given back");
    return 0;
}

} // namespace
} // namespace compress_bench

int main(int argc, char** argv) {
    try {
        return compress_bench::run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "compress_bench: {}\n", error.what());
        return 1;
    }
}
