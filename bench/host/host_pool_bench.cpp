// SPDX-License-Identifier: MIT
// Host allocation: what our pools, the driver's and others' take for the same calls. Each case runs in a process of its
// own with a time limit, so no pool inherits another's memory and none can hold up the rest. Rows:
// subject,case,metric,unit,value.
#include "cases.hpp"

#include <CLI/CLI.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace bench;

/// What the process of a case says when its subject cannot run here.
constexpr int skipped_status = 77;

/// The process of one case: figures to stdout, a reason to stderr.
int run_one(const std::string& subject, const std::string& name) {
    cuda_zstd::Backend& backend = cuda_zstd::Backend::get();
    std::string reason;
    struct Skipped {};
    for (const Case& each : all_cases(backend)) {
        if (each.name != name) continue;
        try {
            const Bench bench{backend, [&](const Setting& setting) {
                                  auto made = make_subject(subject, backend, setting, reason);
                                  if (made == nullptr) throw Skipped{};
                                  return made;
                              }};
            for (const Figure& figure : each.run(bench))
                std::printf("%s %s %.6g\n", figure.metric.c_str(), figure.unit.c_str(), figure.value);
            return 0;
        } catch (const Skipped&) {
            std::printf("skipped %s\n", reason.c_str());
            return skipped_status;
        } catch (const std::exception& error) {
            std::printf("failed %s\n", error.what());
            return 1;
        }
    }
    std::printf("failed there is no case %s\n", name.c_str());
    return 1;
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
                  << '\n';
    }
    void close() {
        if (!file_.is_open()) return;
        file_.close();
        if (!file_) throw std::runtime_error("the results could not be written");
    }

private:
    std::ofstream file_;
};

/// Runs a case in its own process; whether that went well. A subject that cannot run here is said once.
bool run_apart(const std::string& program, const std::string& subject, const std::string& name, unsigned limit_s,
               Results& results, std::map<std::string, std::string>& skipped) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("no pipe");
    const std::string limit = std::to_string(limit_s);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        alarm(limit_s);
        execl(program.c_str(), program.c_str(), "--one", subject.c_str(), name.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    ::close(ends[1]);
    std::FILE* output = fdopen(ends[0], "r");
    char line[512];
    std::string said;
    while (std::fgets(line, sizeof line, output) != nullptr) {
        char metric[32];
        char unit[16];
        Figure figure;
        if (std::sscanf(line, "%31s %15s %lf", metric, unit, &figure.value) == 3 && std::string(metric) != "failed" &&
            std::string(metric) != "skipped") {
            figure.metric = metric;
            figure.unit = unit;
            results.add(subject, name, figure);
        } else {
            said = line;
            said.erase(said.find_last_not_of('\n') + 1);
        }
    }
    std::fclose(output);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == skipped_status) {
        skipped.emplace(subject, said.substr(sizeof "skipped"));
        return true;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        std::printf("%-16s %-26s stopped after %u s\n", subject.c_str(), name.c_str(), limit_s);
        return true;
    }
    std::printf("%-16s %-26s %s\n", subject.c_str(), name.c_str(), said.empty() ? "failed" : said.c_str());
    // A peer that fails is a result; ours is an error.
    return !subject.starts_with("ours");
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Times the calls of host pools.");
    std::string csv;
    std::vector<std::string> subjects;
    std::vector<std::string> cases;
    std::vector<std::string> one;
    unsigned limit_s = 60;
    bool survey = false;
    app.add_option("--csv", csv, "write the rows to this file");
    app.add_option("--subject", subjects, "only these subjects");
    app.add_option("--case", cases, "only these cases, of all that there are");
    app.add_option("--limit", limit_s, "seconds for each case")->check(CLI::Range(1u, 3600u));
    app.add_flag("--survey", survey, "every case, not the usual ones");
    app.add_option("--one", one, "run one case in this process")->expected(2);
    CLI11_PARSE(app, argc, argv);
    try {
        if (!one.empty()) return run_one(one[0], one[1]);
        const std::string program = std::filesystem::read_symlink("/proc/self/exe");
        const bool on_cuda = cuda_zstd::Backend::cuda_available();
        std::printf("%s\n",
                    on_cuda ? "with the GPU" : "without a GPU: the host backend, addresses only where none is used");
        Results results(csv);
        std::map<std::string, std::string> skipped;
        bool good = true;
        if (subjects.empty()) subjects = subject_names();
        for (const Case& each : all_cases(cuda_zstd::Backend::get())) {
            if (cases.empty() ? !each.usual && !survey
                              : std::find(cases.begin(), cases.end(), each.name) == cases.end())
                continue;
            for (const std::string& subject : subjects) {
                if (skipped.contains(subject) || !subject.starts_with(each.only_for)) continue;
                good &= run_apart(program, subject, each.name, limit_s, results, skipped);
            }
        }
        for (const auto& [subject, reason] : skipped)
            std::printf("%-16s skipped: %s\n", subject.c_str(), reason.c_str());
        results.close();
        return good ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "host_pool_bench: %s\n", error.what());
        return 1;
    }
}
