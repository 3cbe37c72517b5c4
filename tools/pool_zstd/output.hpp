// SPDX-License-Identifier: MIT
// An output file: under a temporary name until it is complete.
// Invariant: the final name refers to a complete file or to what it referred to before; an output that is dropped, or
// a program that is ended by SIGINT, SIGTERM or SIGHUP, leaves no file behind. At most one output is open at a time.
#pragma once

#include "files.hpp"

#include <csignal>
#include <cstddef>
#include <string>
#include <sys/stat.h>

namespace pool_zstd {

class Output {
public:
    /// Opens the output; "-" is stdout. Throws Error that names it.
    Output(const std::string& name, Overwrite overwrite);
    /// Removes what is not complete.
    ~Output();
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    /// Throws Error, as when the disk is full.
    void write(const unsigned char* from, std::size_t bytes);
    /// Gives a file its final name and, when `like` is a regular file, that one's mode, owner and times, as zstd does.
    /// Throws Error; the output is gone then.
    void complete(const struct stat* like);

private:
    std::string name_;
    std::string temporary_name_;
    Descriptor descriptor_;
    Overwrite overwrite_;
};

/// While it lives, the signals that end a program do not come in this thread, nor ever in threads that this one makes
/// meanwhile: they wait for a thread that takes them.
class SignalsHeld {
public:
    SignalsHeld();
    ~SignalsHeld();
    SignalsHeld(const SignalsHeld&) = delete;
    SignalsHeld& operator=(const SignalsHeld&) = delete;

private:
    sigset_t before_;
};

/// Makes the signals that end a program remove the temporary file and the progress bar first. Only the thread that
/// opens outputs may take them: others are to be made under SignalsHeld.
void install_signal_handlers();

} // namespace pool_zstd
