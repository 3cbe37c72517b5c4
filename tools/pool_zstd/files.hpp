// SPDX-License-Identifier: MIT
// The inputs: what is read, and what came of it.
// Invariant: an InputFile that was made is open, is no folder, and its output may be written.
#pragma once

#include "options.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/stat.h>

namespace pool_zstd {

/// A file descriptor that is closed at the end.
class Descriptor {
public:
    explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();
    int get() const noexcept { return fd_; }
    void close() noexcept;
    /// Gives the descriptor up.
    int release() noexcept;

private:
    int fd_;
};

/// What one input came to.
struct FileFigures {
    std::uint64_t input_bytes = 0;
    std::uint64_t output_bytes = 0;
    std::uint64_t chunk_count = 0;
    std::uint64_t sequence_count = 0;
    /// Sum of what each chunk held of the pool at most.
    std::uint64_t scratch_bytes = 0;
    /// Sum of what each chunk would have been given without a pool.
    std::uint64_t worst_case_bytes = 0;
    std::uint64_t stored_chunks = 0;
    /// Chunks stored because the pool had no memory, those that got it at their wave's second attempt, and those that
    /// got it in a smaller wave.
    std::uint64_t no_memory_chunks = 0;
    std::uint64_t retried_chunks = 0;
    std::uint64_t later_chunks = 0;
    /// Its bytes' share of the kernel time of its waves, which overlap: a report scales the sum to the time that
    /// passed.
    double seconds = 0;

    FileFigures& operator+=(const FileFigures& other);
};

/// One input, from its opening to the end of its output.
struct InputFile {
    /// Opens it and finds out where its output goes. Throws Error that names the file.
    InputFile(const std::string& name, const Options& options);

    /// Reads up to `bytes`; fewer only at the end of the file. Throws Error.
    std::size_t read(unsigned char* to, std::size_t bytes);
    bool is_stdin() const { return name == "-"; }
    const char* shown_name() const { return is_stdin() ? "(stdin)" : name.c_str(); }

    std::string name;
    /// "-" for stdout.
    std::string output_name;
    /// Forced by -f or by the user, who was asked.
    Overwrite overwrite = Overwrite::refuse;
    Descriptor descriptor;
    struct stat status {};
    FileFigures figures;
    bool failed = false;
};

/// Takes symbolic links out of the inputs, as zstd does, unless -f is given; pipes behind links stay, since a shell
/// names them so. Throws Error when nothing is left.
void ignore_links(Options& options);

/// Throws Error when the output that all inputs share (-o) is one of them: completing it would destroy that one.
void check_shared_output(const Options& options);

/// Throws Error unless the output may be written: it does not exist, is no regular file, or may be replaced. Returns
/// whether a file that is there when the output is complete gives way.
Overwrite check_output(const std::string& name, const Options& options);

/// `Error` with errno's text: "FILE: what: No such file or directory".
Error file_error(const std::string& name, const std::string& what);

} // namespace pool_zstd
