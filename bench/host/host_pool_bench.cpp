// SPDX-License-Identifier: MIT
// Host allocation: what our pools, the driver's and others' take for the same calls. A subject's cases run in a process
// of their own, one after the other (in a survey each case in its own), each with a time limit: what runs past it is
// stopped, and another process goes on behind it. First come the cases that every subject has, so that a run that is
// short of time still compares. In a survey all subjects of a case come one after the other: a machine that is shared
// changes its speed from minute to minute, and then subjects would differ by when they came. Rows:
// subject,case,metric,unit,value, written as they come.
#include "cases.hpp"

#include <CLI/CLI.hpp>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace bench;

/// How long things may take, in seconds.
struct Limits {
    /// A case, before it is stopped.
    unsigned case_s = 0;
    /// Its rounds: no further one begins after that.
    double rounds_s = 0;
    /// All of it: no further case begins after that.
    unsigned all_s = 0;
};

/// The cases come in turns: those of all subjects, those that are ours or long, and the long ones of the others.
constexpr unsigned turns = 3;
unsigned turn_of(const Case& each, const std::string& subject) {
    if (each.scale == Scale::usual && (each.only_for.empty() || subject == "machine")) return 0;
    return subject.starts_with("ours") ? 1 : 2;
}

/// What a plain run, which is to end within a minute, leaves to a survey.
bool is_usual(const Case& each, const std::string& subject) {
    if (!each.usual || each.scale == Scale::usual) return each.usual;
    // Seconds each, most of them for the set-up: only where the figure is one of the project's goals.
    if (asks_the_driver(subject) || subject == "ours-raw") return false;
    return each.name != "holes/1000000/addresses" || subject != "ours-first";
}

/// The process of a subject: runs its cases and tells each by lines on stdout, `case`, `figure`, `skipped` or `failed`
/// first.
int run_cases(const std::string& subject, const std::vector<std::string>& names, const Limits& limits) {
    cuda_zstd::Backend& backend = cuda_zstd::Backend::get();
    // What starts the driver is no case's time.
    backend.synchronize();
    const std::vector<Case> cases = all_cases(backend);
    std::string reason;
    struct Skipped {};
    const auto begin = std::chrono::steady_clock::now();
    for (const std::string& name : names) {
        if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(limits.all_s)) break;
        const auto found = std::find_if(cases.begin(), cases.end(), [&](const Case& c) { return c.name == name; });
        std::printf("case %s\n", name.c_str());
        std::fflush(stdout);
        alarm(limits.case_s);
        try {
            const Bench bench{backend,
                              [&](const Setting& setting) {
                                  auto made = make_subject(subject, backend, setting, reason);
                                  if (made == nullptr) throw Skipped{};
                                  return made;
                              },
                              limits.rounds_s};
            for (const Figure& figure : found->run(bench))
                std::printf("figure %s %s %.6g\n", figure.metric.c_str(), figure.unit.c_str(), figure.value);
            std::fflush(stdout);
        } catch (const Skipped&) {
            std::printf("skipped %s\n", reason.c_str());
            return 0;
        } catch (const std::exception& error) {
            std::printf("failed %s\n", error.what());
            return 1;
        }
        alarm(0);
    }
    // Without the subjects' leave: a million blocks take theirs.
    std::fflush(stdout);
    _exit(0);
}

class Results {
public:
    explicit Results(const std::string& path) {
        if (path.empty()) return;
        file_.open(path);
        if (!file_) throw std::runtime_error("cannot write " + path);
        file_ << "subject,case,metric,unit,value\n";
    }
    void add(const std::string& subject, const std::string& name, const Figure& figure) {
        std::printf("%-16s %-26s %-8s %12.*f %s\n", subject.c_str(), name.c_str(), figure.metric.c_str(),
                    figure.unit == "ratio" ? 4 : 1, figure.value, figure.unit.c_str());
        std::fflush(stdout);
        if (file_.is_open())
            file_ << subject << ',' << name << ',' << figure.metric << ',' << figure.unit << ',' << figure.value
                  << std::endl;
    }
    void close() {
        if (!file_.is_open()) return;
        file_.close();
        if (!file_) throw std::runtime_error("the results could not be written");
    }

private:
    std::ofstream file_;
};

/// How the process of a subject went.
struct Outcome {
    /// Cases that it is done with, in one way or another.
    std::size_t cases = 0;
    bool good = true;
    /// Why the subject cannot run here; else empty.
    std::string skipped;
};

/// Starts a process of this program; its stdout.
std::FILE* start(const std::vector<std::string>& command, pid_t& child) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("no pipe");
    child = fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child == 0) {
        // Whoever stops this program stops the case as well.
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        std::vector<char*> arguments;
        for (const std::string& word : command)
            arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        execv(arguments[0], arguments.data());
        _exit(127);
    }
    ::close(ends[1]);
    return fdopen(ends[0], "r");
}

/// Runs the cases in one process until one of them fails or is stopped.
Outcome run_apart(const std::string& program, const std::string& subject, const std::vector<std::string>& names,
                  const Limits& limits, Results& results) {
    std::vector<std::string> command{program,
                                     "--limit",
                                     std::to_string(limits.case_s),
                                     "--rounds",
                                     std::to_string(limits.rounds_s),
                                     "--stop-after",
                                     std::to_string(limits.all_s),
                                     "--run",
                                     subject};
    command.insert(command.end(), names.begin(), names.end());
    pid_t child = 0;
    std::FILE* output = start(command, child);
    Outcome outcome;
    std::string name = names.front();
    std::string said;
    char text[512];
    while (std::fgets(text, sizeof text, output) != nullptr) {
        std::string line = text;
        line.erase(line.find_last_not_of('\n') + 1);
        const std::size_t space = line.find(' ');
        const std::string word = line.substr(0, space);
        const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
        char metric[32];
        char unit[16];
        Figure figure;
        if (word == "case") {
            ++outcome.cases;
            name = rest;
        } else if (word == "figure" && std::sscanf(rest.c_str(), "%31s %15s %lf", metric, unit, &figure.value) == 3) {
            figure.metric = metric;
            figure.unit = unit;
            results.add(subject, name, figure);
        } else if (word == "skipped") {
            outcome.skipped = rest;
        } else {
            said = word == "failed" ? rest : line;
        }
    }
    std::fclose(output);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return outcome;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        std::printf("%-16s %-26s stopped after %u s\n", subject.c_str(), name.c_str(), limits.case_s);
    } else {
        std::printf("%-16s %-26s %s\n", subject.c_str(), name.c_str(), said.empty() ? "failed" : said.c_str());
        // A peer that fails is a result; ours is an error.
        outcome.good = !subject.starts_with("ours");
    }
    std::fflush(stdout);
    outcome.cases = std::max<std::size_t>(outcome.cases, 1);
    return outcome;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Times the calls of host pools.");
    std::string csv;
    std::vector<std::string> subjects;
    std::vector<std::string> cases;
    std::vector<std::string> run;
    // What a check of a few minutes can spare.
    Limits limits{0, 0, 0};
    bool survey = false;
    app.add_option("--csv", csv, "write the rows to this file");
    app.add_option("--subject", subjects, "only these subjects");
    app.add_option("--case", cases, "only these cases, of all that there are");
    app.add_option("--limit", limits.case_s, "seconds for each case (4, and 8 for ours; 60 in a survey, and 120)")
        ->check(CLI::Range(1u, 3600u));
    app.add_option("--rounds", limits.rounds_s, "seconds for the rounds of each case (0.2; 20 in a survey)");
    app.add_option("--stop-after", limits.all_s, "no further case after so many seconds (60; never in a survey)");
    app.add_flag("--survey", survey, "every case with every subject, not the usual ones");
    app.add_option("--run", run, "run a subject's cases in this process");
    CLI11_PARSE(app, argc, argv);
    if (limits.case_s == 0) limits.case_s = survey ? 60 : 4;
    if (limits.rounds_s == 0) limits.rounds_s = survey ? 20 : 0.2;
    if (limits.all_s == 0) limits.all_s = survey ? ~0u : 60;
    try {
        if (!run.empty()) return run_cases(run[0], {run.begin() + 1, run.end()}, limits);
        const auto begin = std::chrono::steady_clock::now();
        const std::string program = std::filesystem::read_symlink("/proc/self/exe");
        std::printf("%s\n", cuda_zstd::Backend::cuda_available()
                                ? "with the GPU"
                                : "without a GPU: the host backend, addresses only where none is used");
        Results results(csv);
        bool good = true;
        if (subjects.empty()) subjects = subject_names();
        const std::vector<Case> all = all_cases(cuda_zstd::Backend::get());
        for (const std::string& name : cases)
            if (std::none_of(all.begin(), all.end(), [&](const Case& c) { return c.name == name; }))
                throw std::runtime_error("there is no case " + name);
        std::set<std::string> skipped;
        const auto passed_s = [&] {
            return static_cast<unsigned>(
                std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin).count());
        };
        const auto run_turn = [&](const std::string& subject, unsigned turn, const Case* only) {
            std::vector<std::string> left;
            for (const Case& each : all) {
                if (turn_of(each, subject) != turn || (only != nullptr && &each != only)) continue;
                const bool asked = std::find(cases.begin(), cases.end(), each.name) != cases.end();
                const bool fits =
                    subject.starts_with(each.only_for) && (subject != "machine" || !each.only_for.empty());
                if (fits && (asked || (cases.empty() && (survey || is_usual(each, subject)))))
                    left.push_back(each.name);
            }
            while (!left.empty()) {
                if (passed_s() >= limits.all_s) {
                    for (const std::string& name : left)
                        std::printf("%-16s %-26s not run: %u s are over\n", subject.c_str(), name.c_str(),
                                    limits.all_s);
                    return;
                }
                // What is measured here is ours: it gets the time that it takes.
                const Limits its{subject.starts_with("ours") ? 2 * limits.case_s : limits.case_s, limits.rounds_s,
                                 limits.all_s - passed_s()};
                const std::vector<std::string> now =
                    survey ? std::vector<std::string>{left.front()} : std::vector<std::string>(left);
                const Outcome outcome = run_apart(program, subject, now, its, results);
                good &= outcome.good;
                if (!outcome.skipped.empty()) {
                    std::printf("%-16s skipped: %s\n", subject.c_str(), outcome.skipped.c_str());
                    skipped.insert(subject);
                    return;
                }
                left.erase(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(outcome.cases));
            }
        };
        const auto run_subjects = [&](unsigned turn, const Case* only) {
            for (const std::string& subject : subjects)
                if (!skipped.contains(subject)) run_turn(subject, turn, only);
        };
        for (unsigned turn = 0; turn < turns; ++turn) {
            if (!survey) {
                run_subjects(turn, nullptr);
                continue;
            }
            for (const Case& each : all)
                run_subjects(turn, &each);
        }
        results.close();
        return good ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "host_pool_bench: %s\n", error.what());
        return 1;
    }
}
