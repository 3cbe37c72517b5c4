// SPDX-License-Identifier: MIT
#include "corpus.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace compress_bench {
namespace {

namespace fs = std::filesystem;
using cuda_zstd::compression::ChunkSpan;
using cuda_zstd::compression::input_padding_bytes;

std::vector<fs::path> files_under(const fs::path& path) {
    std::vector<fs::path> files;
    std::error_code error;
    if (fs::is_regular_file(path, error)) return {path};
    for (fs::recursive_directory_iterator entry(path, fs::directory_options::skip_permission_denied, error), end;
         !error && entry != end; entry.increment(error)) {
        if (entry->is_regular_file(error) && !entry->is_symlink(error)) files.push_back(entry->path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

void append(Corpus& corpus, const fs::path& path, std::size_t limit_bytes, std::uint32_t chunk_bytes) {
    std::ifstream file(path, std::ios::binary);
    std::vector<unsigned char>& bytes = corpus.padded;
    while (file && corpus.input_bytes < limit_bytes) {
        const std::size_t begin = bytes.size();
        const std::size_t most = std::min<std::size_t>(chunk_bytes, limit_bytes - corpus.input_bytes);
        bytes.resize(begin + most);
        file.read(reinterpret_cast<char*>(bytes.data() + begin), static_cast<std::streamsize>(most));
        const auto got = static_cast<std::uint32_t>(file.gcount());
        bytes.resize(begin + (got + std::size_t{15}) / 16 * 16);
        if (got == 0) break;
        corpus.chunks.push_back({begin - input_padding_bytes, got, 0});
        corpus.input_bytes += got;
    }
}

} // namespace

std::vector<ChunkSpan> Corpus::repeated(std::size_t bytes) const {
    std::vector<ChunkSpan> result;
    for (std::size_t have = 0, i = 0; have < bytes; i = (i + 1) % chunks.size()) {
        result.push_back(chunks[i]);
        have += chunks[i].bytes;
    }
    return result;
}

Corpus load_corpus(std::vector<std::string> paths, std::size_t limit_bytes, std::uint32_t chunk_bytes) {
    Corpus corpus;
    // Of a folder of the machine only a part is read, so that there are files of all kinds.
    std::size_t share_bytes = limit_bytes;
    if (paths.empty() && fs::is_directory("build/corpus/files")) paths = {"build/corpus/files"};
    if (paths.empty()) {
        paths = {"/usr/bin", "/usr/include", "/usr/share/doc", "/usr/lib", "/usr/share"};
        share_bytes = limit_bytes / paths.size();
        corpus.name = "files of this machine";
    }
    corpus.padded.assign(input_padding_bytes, 0);
    for (const std::string& path : paths) {
        const std::size_t end_bytes = std::min(limit_bytes, corpus.input_bytes + share_bytes);
        for (const fs::path& file : files_under(path)) {
            if (corpus.input_bytes >= end_bytes) break;
            append(corpus, file, end_bytes, chunk_bytes);
        }
    }
    if (corpus.input_bytes == 0) throw std::runtime_error("no file to read: " + paths.front());
    if (corpus.name.empty()) corpus.name = paths.size() == 1 ? paths.front() : std::to_string(paths.size()) + " paths";
    corpus.padded.resize(corpus.padded.size() + input_padding_bytes);
    return corpus;
}

} // namespace compress_bench
