// SPDX-License-Identifier: MIT
// The command line of pool-zstd.
// Invariant: options that parse_command_line returned are in range and do not contradict each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace pool_zstd {

/// Says what is wrong and with which option or file; the program prints it and ends with 1.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

enum class Overwrite : std::uint8_t { refuse, force };
enum class Verbosity : std::uint8_t { quiet, normal };
enum class Figures : std::uint8_t { none, table, json };
enum class Checksum : std::uint8_t { absent, present };

struct Options {
    /// "-" is stdin.
    std::vector<std::string> inputs;
    /// -o; "-" is stdout, as -c asks for.
    std::optional<std::string> output;
    std::optional<std::string> output_folder;
    Overwrite overwrite = Overwrite::refuse;
    Verbosity verbosity = Verbosity::normal;
    Figures figures = Figures::none;
    Checksum checksum = Checksum::absent;
    std::uint32_t chunk_bytes = 128u << 10;
    std::size_t pool_bytes = std::size_t{1} << 30;
    /// Input in flight at once on one stream; 0: chosen to suit the pool and the machine.
    std::size_t wave_bytes = 0;

    /// Whether compressed data goes to stdout, so that figures must go elsewhere.
    bool writes_to_stdout() const { return output == "-"; }
};

/// The options, or none when the program is done (help or version printed). Throws Error.
std::optional<Options> parse_command_line(int argc, char** argv);

/// Bytes from text such as 4096, 128K, 1G, 64MiB (K, M and G are powers of 1024). Throws Error naming `option`.
std::size_t parse_bytes(const std::string& option, const std::string& text);

/// "128 KiB", "1.5 GiB", for people.
std::string human_bytes(std::uint64_t bytes);

} // namespace pool_zstd
