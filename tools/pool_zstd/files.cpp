// SPDX-License-Identifier: MIT
#include "files.hpp"

#include "message.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace pool_zstd {
namespace {

std::string base_name(const std::string& path) {
    const std::size_t slash = path.find_last_of('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

bool is_same_file(const std::string& name, const struct stat& status) {
    struct stat existing {};
    return S_ISREG(status.st_mode) && ::stat(name.c_str(), &existing) == 0 && existing.st_dev == status.st_dev &&
           existing.st_ino == status.st_ino;
}

bool is_link(const std::string& name) {
    struct stat status {};
    if (name == "-" || ::lstat(name.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return false;
    return ::stat(name.c_str(), &status) != 0 || !S_ISFIFO(status.st_mode);
}

/// Whether the output may be replaced: asked of the user where there is one to ask.
bool may_replace(const std::string& output) {
    if (isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) return false;
    say("pool-zstd: {} already exists; overwrite (y/n)? ", output);
    std::string answer;
    for (int c = std::getchar(); c != '\n' && c != EOF; c = std::getchar())
        answer += static_cast<char>(c);
    return answer == "y" || answer == "Y" || answer == "yes";
}

} // namespace

Error file_error(const std::string& name, const std::string& what) {
    const int code = errno;
    return Error(fmt::format("{}: {}: {}", name, what, std::strerror(code)));
}

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    if (this != &other) {
        close();
        fd_ = other.release();
    }
    return *this;
}
Descriptor::~Descriptor() { close(); }
void Descriptor::close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}
int Descriptor::release() noexcept { return std::exchange(fd_, -1); }

FileFigures& FileFigures::operator+=(const FileFigures& other) {
    input_bytes += other.input_bytes;
    output_bytes += other.output_bytes;
    chunk_count += other.chunk_count;
    sequence_count += other.sequence_count;
    scratch_bytes += other.scratch_bytes;
    worst_case_bytes += other.worst_case_bytes;
    stored_chunks += other.stored_chunks;
    no_memory_chunks += other.no_memory_chunks;
    retried_chunks += other.retried_chunks;
    later_chunks += other.later_chunks;
    seconds += other.seconds;
    return *this;
}

InputFile::InputFile(const std::string& file_name, const Options& options) : name(file_name) {
    if (is_stdin()) {
        descriptor = Descriptor(::dup(STDIN_FILENO));
    } else {
        descriptor = Descriptor(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    }
    if (descriptor.get() < 0) throw file_error(shown_name(), "cannot be read");
    if (::fstat(descriptor.get(), &status) != 0) throw file_error(shown_name(), "cannot be read");
    if (S_ISDIR(status.st_mode)) throw Error(fmt::format("{}: is a folder, skipped", shown_name()));
    ::posix_fadvise(descriptor.get(), 0, 0, POSIX_FADV_SEQUENTIAL);

    output_name = options.output          ? *options.output
                  : options.output_folder ? *options.output_folder + "/" + base_name(name) + ".zst"
                                          : name + ".zst";
    if (output_name == "-") return;
    if (is_same_file(output_name, status)) throw Error(fmt::format("{}: is input and output at once", shown_name()));
    overwrite = options.output ? options.overwrite : check_output(output_name, options);
}

void ignore_links(Options& options) {
    if (options.overwrite == Overwrite::force) return;
    std::string last;
    std::erase_if(options.inputs, [&](const std::string& name) {
        if (!is_link(name)) return false;
        last = fmt::format("{}: is a symbolic link, ignored; -f follows links", name);
        if (options.verbosity == Verbosity::normal) say("pool-zstd: {}\n", last);
        return true;
    });
    if (!options.inputs.empty()) return;
    throw Error(options.verbosity == Verbosity::normal ? "no input is left" : last);
}

void check_shared_output(const Options& options) {
    for (const std::string& input : options.inputs) {
        struct stat status {};
        const bool known = input == "-" ? ::fstat(STDIN_FILENO, &status) == 0 : ::stat(input.c_str(), &status) == 0;
        if (known && *options.output != "-" && is_same_file(*options.output, status))
            throw Error(fmt::format("{}: is input and output at once", *options.output));
    }
}

Overwrite check_output(const std::string& name, const Options& options) {
    struct stat existing {};
    if (name == "-" || ::stat(name.c_str(), &existing) != 0) return options.overwrite;
    if (S_ISDIR(existing.st_mode)) throw Error(fmt::format("{}: the output is a folder", name));
    // Devices and pipes are written to, never replaced.
    if (!S_ISREG(existing.st_mode) || options.overwrite == Overwrite::force) return options.overwrite;
    if (!may_replace(name)) throw Error(fmt::format("{}: already exists; not overwritten without -f", name));
    return Overwrite::force;
}

std::size_t InputFile::read(unsigned char* to, std::size_t bytes) {
    std::size_t done = 0;
    while (done < bytes) {
        const ssize_t got = ::read(descriptor.get(), to + done, bytes - done);
        if (got == 0) break;
        if (got < 0) {
            if (errno == EINTR) continue;
            throw file_error(shown_name(), "reading failed");
        }
        done += static_cast<std::size_t>(got);
    }
    return done;
}

} // namespace pool_zstd
