// SPDX-License-Identifier: MIT
#include "output.hpp"

#include "message.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace pool_zstd {
namespace {

// What a signal handler may touch: a buffer that does not move, and whether it names a file.
char live_temporary[4096];
std::atomic<bool> has_live_temporary{false};
static_assert(std::atomic<bool>::is_always_lock_free);
mode_t process_umask = 022;

extern "C" void remove_and_end(int signal) {
    if (has_live_temporary.load()) ::unlink(live_temporary);
    erase_bar();
    std::signal(signal, SIG_DFL);
    ::raise(signal);
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.find_last_of('/');
    return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

} // namespace

SignalsHeld::SignalsHeld() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
}
SignalsHeld::~SignalsHeld() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void install_signal_handlers() {
    process_umask = ::umask(022);
    ::umask(process_umask);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        ::sigaction(signal, nullptr, &action);
        // A signal that the parent had ignored (nohup) stays ignored.
        if (action.sa_handler == SIG_IGN) continue;
        action.sa_handler = remove_and_end;
        ::sigaction(signal, &action, nullptr);
    }
    // A reader that went away shows as an error of write.
    std::signal(SIGPIPE, SIG_IGN);
}

Output::Output(const std::string& name, Overwrite overwrite) : name_(name), overwrite_(overwrite) {
    if (name == "-") {
        name_ = "(stdout)";
        descriptor_ = Descriptor(::dup(STDOUT_FILENO));
        if (descriptor_.get() < 0) throw file_error(name_, "cannot be written");
        return;
    }
    struct stat existing {};
    if (::stat(name.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
        descriptor_ = Descriptor(::open(name.c_str(), O_WRONLY | O_CLOEXEC));
        if (descriptor_.get() < 0) throw file_error(name_, "cannot be written");
        return;
    }
    temporary_name_ = folder_of(name) + ".pool-zstd-XXXXXX";
    if (temporary_name_.size() >= sizeof(live_temporary)) {
        errno = ENAMETOOLONG;
        throw file_error(name_, "cannot be created");
    }
    // No signal may come between the file's making and its being known.
    const SignalsHeld held;
    descriptor_ = Descriptor(::mkostemp(temporary_name_.data(), O_CLOEXEC));
    if (descriptor_.get() < 0) {
        temporary_name_.clear();
        throw file_error(name_, "cannot be created");
    }
    std::memcpy(live_temporary, temporary_name_.c_str(), temporary_name_.size() + 1);
    has_live_temporary.store(true);
}

Output::~Output() {
    if (temporary_name_.empty()) return;
    ::unlink(temporary_name_.c_str());
    has_live_temporary.store(false);
}

void Output::write(const unsigned char* from, std::size_t bytes) {
    while (bytes != 0) {
        const ssize_t done = ::write(descriptor_.get(), from, bytes);
        if (done < 0) {
            if (errno == EINTR) continue;
            throw file_error(name_, "writing failed");
        }
        from += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void Output::complete(const struct stat* like) {
    const int fd = descriptor_.get();
    if (!temporary_name_.empty()) {
        if (like != nullptr && S_ISREG(like->st_mode)) {
            // Owner and times are a courtesy: not every user and file system can set them.
            if (::fchown(fd, like->st_uid, like->st_gid) != 0) errno = 0;
            if (::fchmod(fd, like->st_mode & 0777) != 0) throw file_error(name_, "setting its mode failed");
            const struct timespec times[2] = {like->st_atim, like->st_mtim};
            if (::futimens(fd, times) != 0) errno = 0;
        } else if (::fchmod(fd, 0666 & ~process_umask) != 0) {
            throw file_error(name_, "setting its mode failed");
        }
    }
    if (::close(descriptor_.release()) != 0) throw file_error(name_, "writing failed");
    if (temporary_name_.empty()) return;
    if (overwrite_ == Overwrite::force) {
        if (::rename(temporary_name_.c_str(), name_.c_str()) != 0) throw file_error(name_, "cannot be created");
    } else if (::renameat2(AT_FDCWD, temporary_name_.c_str(), AT_FDCWD, name_.c_str(), RENAME_NOREPLACE) != 0) {
        // Not every file system knows how to rename without replacing; a hard link does not replace either.
        if (errno == EINVAL && ::link(temporary_name_.c_str(), name_.c_str()) == 0) {
            ::unlink(temporary_name_.c_str());
        } else {
            throw file_error(name_, "not overwritten without -f");
        }
    }
    temporary_name_.clear();
    has_live_temporary.store(false);
}

} // namespace pool_zstd
