// SPDX-License-Identifier: MIT
#include "cell_runner.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <stdexcept>
#include <thread>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

/// A started program and the reading end of its standard output.
class Process {
public:
    explicit Process(const std::vector<std::string>& command) {
        int ends[2];
        if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
        const pid_t parent = getpid();
        child_ = fork();
        if (child_ < 0) throw std::runtime_error("fork failed");
        if (child_ == 0) {
            // Nothing is left running when the benchmark itself is ended.
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(127);
            dup2(ends[1], STDOUT_FILENO);
            close(ends[0]);
            close(ends[1]);
            std::vector<char*> arguments;
            for (const std::string& word : command)
                arguments.push_back(const_cast<char*>(word.c_str()));
            arguments.push_back(nullptr);
            execv(arguments[0], arguments.data());
            _exit(127);
        }
        close(ends[1]);
        output_ = ends[0];
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() {
        stop();
        close(output_);
    }

    enum class Read { line, end, late };
    /// The next line, without its end; or that there is none, or none before the deadline.
    Read read_line(std::string& line, Clock::time_point deadline) {
        for (;;) {
            const std::size_t end = pending_.find('\n');
            if (end != std::string::npos) {
                line = pending_.substr(0, end);
                pending_.erase(0, end + 1);
                return Read::line;
            }
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
            if (left <= 0) return Read::late;
            pollfd descriptor{output_, POLLIN, 0};
            if (poll(&descriptor, 1, static_cast<int>(left < 60000 ? left : 60000)) <= 0) continue;
            char buffer[4096];
            const ssize_t got = read(output_, buffer, sizeof buffer);
            if (got <= 0) return Read::end;
            pending_.append(buffer, static_cast<std::size_t>(got));
        }
    }

    /// Waits for the end of a program that has closed its output; says how it ended.
    std::string how_it_ended(Clock::time_point deadline) {
        int status = 0;
        while (waitpid(child_, &status, WNOHANG) == 0) {
            if (Clock::now() > deadline) {
                stop();
                return "closed its output and did not end";
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        child_ = -1;
        if (WIFSIGNALED(status)) return "ended by signal " + std::to_string(WTERMSIG(status));
        return "exit code " + std::to_string(WEXITSTATUS(status));
    }

    void stop() {
        if (child_ <= 0) return;
        kill(child_, SIGKILL);
        waitpid(child_, nullptr, 0);
        child_ = -1;
    }

private:
    pid_t child_ = -1;
    int output_ = -1;
    std::string pending_;
};

std::string seconds_text(std::chrono::milliseconds time) { return std::to_string((time.count() + 999) / 1000) + " s"; }

} // namespace

std::string begin_mark(const std::string& cell) { return "@begin " + cell; }
std::string end_mark(const std::string& cell) { return "@end " + cell; }

std::vector<CellResult> run_cells(const std::vector<std::string>& command, const std::vector<std::string>& cells,
                                  const CellLimits& limits) {
    std::vector<CellResult> results;
    while (results.size() < cells.size()) {
        std::vector<std::string> words = command;
        words.insert(words.end(), cells.begin() + static_cast<std::ptrdiff_t>(results.size()), cells.end());
        Process process(words);
        // Of the cell under way; the time before the first begin belongs to that cell.
        CellResult current{cells[results.size()], "", ""};
        Clock::time_point deadline = Clock::now() + limits.start_up + limits.cell;
        std::string line;
        while (current.error.empty() && results.size() < cells.size()) {
            switch (process.read_line(line, deadline)) {
            case Process::Read::late:
                current.error = "over " + seconds_text(limits.cell);
                break;
            case Process::Read::end:
                current.error = process.how_it_ended(deadline);
                break;
            case Process::Read::line:
                if (line == begin_mark(current.name)) {
                    deadline = Clock::now() + limits.cell;
                } else if (line == end_mark(current.name)) {
                    results.push_back(std::move(current));
                    current = {results.size() < cells.size() ? cells[results.size()] : "", "", ""};
                    deadline = Clock::now() + limits.cell;
                } else {
                    current.rows += line + '\n';
                }
            }
        }
        if (!current.error.empty()) results.push_back(std::move(current));
    }
    return results;
}

} // namespace bench
