#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a machine with a GPU has to show, in one call of at most 9 minutes: the GPU tests, a short soak, the benchmarks, the main
# job, pools at the edge of the GPU's memory, and compute-sanitizer. Writes bench/results/<gpu>/<benchmark>.csv and SOURCE, and
# prints a short table last.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/machine.sh
source tools/gpu.sh

usage() {
    cat <<'TEXT'
usage: tools/gpu_check.sh [--build FOLDER] [--results FOLDER] [--only STEP[,STEP]] [--pool-soak SECS] [--survey | --proofs | --soak SEED]

  --build FOLDER    use the programs in FOLDER (a build folder, or what tools/gpu_bundle.sh made); without it, build first
  --results FOLDER  where <gpu>/<benchmark>.csv goes (default: bench/results)
  --only STEPS      of: tests, soak, bench, main, limits, ring, planted, nsys, memcheck
  --survey          the benchmarks at their full size, collected in build/survey; call again to go on with what is not done yet
                    (remove build/survey to begin anew)
  --pool-soak SECS  how long the host pool's soak takes (default: 6 s; 300 for the long one)
  --proofs          10,000 rounds of allocate, compact, grow and trim, each audited, 1,000 of relocation, and every launch and
                    call of a device pool failing once: two to three minutes
  --soak SEED       four minutes of random pairs, which go on where the last call ended (build/soak.state), 1,000 cycles of
                    filling and emptying; then the GPU tests again and again, each time in another order and with other
                    draws, from SEED on until the time is over; prints the seed to go on with
TEXT
}

build= results=bench/results mode=gate seed=1 pool_soak_s=6 only=tests,soak,bench,main,limits,ring,planted,nsys,memcheck
while (($#)); do
    case $1 in
    --build) build=${2:?--build needs a folder}; shift ;;
    --results) results=${2:?--results needs a folder}; shift ;;
    --only) only=${2:?--only needs steps}; shift ;;
    --survey) mode=survey ;;
    --pool-soak) pool_soak_s=${2:?--pool-soak needs seconds}; shift ;;
    --proofs) mode=proofs ;;
    --soak) mode=soak seed=${2:?--soak needs a seed}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

# Everything ends before this many seconds are over: 9 minutes, less what it takes to stop.
limit_s=525
gpu=$(gpu_folder) || die "gpu_check: no GPU answers (nvidia-smi says nothing). This check needs one."
results=$results/$gpu
mkdir -p "$results" build
rows=() failures=0

# Runs a command for at most $2 seconds and for no longer than the whole check may last; notes how it went.
step() {
    local name=$1 most_s=$2 begin=$SECONDS left_s=$((limit_s - SECONDS)) status=0 word
    shift 2
    if ((left_s < 5)); then
        rows+=("$(printf '%-28s not run: the 9 minutes are over' "$name")")
        ((failures += 1))
        return 1
    fi
    printf '\n==== %s\n' "$name"
    timeout --kill-after=5 $((most_s < left_s ? most_s : left_s)) "$@" || status=$?
    case $status in
    0) word=ok ;;
    75) word="not finished: call again" ;;
    124 | 137) word="FAILED: ran past its time" ;;
    *) word="FAILED ($status)" ;;
    esac
    ((status == 0)) || ((failures += 1))
    rows+=("$(printf '%-28s %-26s %4d s' "$name" "$word" $((SECONDS - begin)))")
    return "$status"
}

wanted() { [[ ,$only, == *,$1,* ]]; }

if [[ -z $build ]]; then
    build=build/release
    ensure_packages "${build_packages[@]}"
    build_release || exit 1
    bench/host/setup_rmm.sh "$build" || true
fi
[[ ! -d $build/lib ]] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(realpath "$build/lib")
[[ ! -e $build/zstd ]] || export PATH=$PATH:$(realpath "$build")
export CUDA_ZSTD_POOL_BACKEND=cuda
mapfile -t test_programs < <(gpu_test_programs "$build")
((${#test_programs[@]})) || die "gpu_check: $build has no GPU test programs."

run_gpu_tests() {
    wanted tests || return 0
    local program
    for program in "${test_programs[@]}"; do
        # A test that skips itself for want of a device has not run: here that is a failure.
        step "$(basename "$program")" 60 bash -c 'set -o pipefail; "$1" | tee build/gpu_test.log; code=$?
            ! grep -q "no CUDA device" build/gpu_test.log || { echo "tests were skipped: no CUDA device answers" >&2; exit 3; }
            exit $code' gpu_test "$program"
    done
}

device_soak=$build/tests/soak/device_soak

run_soak() {
    wanted soak || return 0
    step "soak" 60 "$device_soak" --seconds 10 --cycles 86
    step "pool soak" $((pool_soak_s + 30)) "$build/tests/soak/pool_soak" --seconds "$pool_soak_s" --seed "$RANDOM"
}

run_memcheck() {
    wanted memcheck || return 0
    local program sanitizer tool
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [[ -z $sanitizer ]]; then
        rows+=("memcheck                     not run: no compute-sanitizer on this machine")
        ((failures += 1))
        return 1
    fi
    for program in "${test_programs[@]}"; do
        # It makes each launch some hundred times as long: the tests that loop do so less often. Errors of calls are the
        # tests' own to judge, since some make calls that must fail.
        step "memcheck $(basename "$program")" 60 env CUDA_ZSTD_TEST_QUICK=1 \
            "$sanitizer" --tool memcheck --nvtx no --report-api-errors no --leak-check full --error-exitcode 9 "$program"
    done
    for tool in memcheck initcheck synccheck; do
        step "$tool device_soak" 60 "$sanitizer" --tool "$tool" --nvtx no --error-exitcode 9 "$device_soak" --pairs 100000 --wide 2 \
            --cycles 2 --heap $((64 << 20)) --cycle-heap $((2 << 20)) --log2-threads 12
    done
}

# What device events cost the kernels that write them, and those that do not: about a second.
run_ring() {
    wanted ring || return 0
    [[ -x $build/tests/gpu/event_ring_cost ]] || return 0
    step "event ring" 20 "$build/tests/gpu/event_ring_cost"
}

# Mistakes in the use of blocks that a host pool gave: compute-sanitizer has to report each at its block.
run_planted() {
    wanted planted || return 0
    local sanitizer
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [[ -z $sanitizer || ! -x $build/tests/gpu/planted ]]; then
        rows+=("planted                      skipped: no compute-sanitizer, or no tests/gpu/planted")
        return 0
    fi
    step "planted" 90 python3 tools/planted_check.py --sanitizer "$sanitizer" --log build/planted.log "$build/tests/gpu/planted"
}

# The pool in a profile of pool-zstd. nsys may lack libdw.so.1 and libelf.so.1: CUDA_ZSTD_NSYS_LIBRARIES names a folder that
# has them.
run_nsys() {
    wanted nsys || return 0
    [[ -x $build/tools/pool_zstd/pool-zstd ]] || return 0
    local input=build/nsys.input status=0
    mkdir -p build/nsys
    head -c 24M "$(find build/corpus/files -type f -size +24M 2>/dev/null | LC_ALL=C sort | head -n 1)" >"$input" 2>/dev/null ||
        tar -cf - docs include src tests tools 2>/dev/null | cat - "$build/tools/pool_zstd/pool-zstd" | head -c 24M >"$input"
    step "nsys" 100 env LD_LIBRARY_PATH="${CUDA_ZSTD_NSYS_LIBRARIES:+$CUDA_ZSTD_NSYS_LIBRARIES:}${LD_LIBRARY_PATH:-}" \
        python3 tools/nsys_check.py "$build/tools/pool_zstd/pool-zstd" "$input" build/nsys || status=$?
    if ((status == 77)); then
        rows[-1]="nsys                         skipped: no nsys on this machine, or no libdw.so.1 for it"
        ((failures -= 1))
    fi
    return 0
}

# What makes a benchmark take its full size.
survey_arguments() {
    case $1 in
    device) echo --survey --stop-after $((limit_s - SECONDS - 30)) ;;
    host) echo --survey --stop-after $((limit_s - SECONDS - 60)) ;;
    compress) echo --limit 4096 --in-flight 4096 --iterations 50 ;;
    esac
}

run_benchmarks() {
    wanted bench || return 0
    local program name before=$failures
    # The digest stands for every figure in the folder, so it goes first and comes back when all are there.
    rm -f "$results/SOURCE"
    while read -r program; do
        name=$(benchmark_name "$program")
        if [[ $mode == survey ]]; then
            [[ ! -e build/survey/$name.done ]] || continue
            # A survey goes on in its own file, so that it never takes rows of other sources for its own.
            step "bench $name" 500 "$program" --csv "build/survey/$name.csv" $(survey_arguments "$name") &&
                cp "build/survey/$name.csv" "$results/$name.csv" && touch "build/survey/$name.done"
        else
            step "bench $name" 200 "$program" --csv "$results/$name.csv"
        fi
    done < <(benchmark_programs "$build")
    ((failures > before)) || tools/source_digest.sh >"$results/SOURCE"
}

# This machine's own files, since a machine for measuring may have no network.
gather_corpus() {
    CUDA_ZSTD_CORPUS=${CUDA_ZSTD_CORPUS:-local} step "corpus" 90 tools/corpus.sh build/corpus
}

run_main_job() {
    wanted main || return 0
    [[ -x $build/tools/pool_zstd/pool-zstd ]] || return 0
    step "main job" 150 python3 tools/main_job.py --pool-zstd "$build/tools/pool_zstd/pool-zstd" --output build/compressed \
        --csv "$results/main_job.csv" --folder build/corpus/files
    step "1 GiB in flight" 120 tools/in_flight.sh "$build/tools/pool_zstd/pool-zstd" build/corpus/files "$results/in_flight.csv"
}

# A pool of more memory than any GPU here has, and one of 85 per cent of what is free.
run_pool_limits() {
    wanted limits || return 0
    [[ -x $build/tools/pool_zstd/pool-zstd ]] || return 0
    local total_mib free_mib input too_much_gib=200
    IFS=', ' read -r total_mib free_mib < <(nvidia-smi --query-gpu=memory.total,memory.free --format=csv,noheader,nounits)
    ((total_mib / 1024 < too_much_gib)) || too_much_gib=$((total_mib / 512))
    input=$(find build/corpus/files -type f -size +1M | LC_ALL=C sort | head -n 1)
    step "pools at the memory's edge" 90 tools/pool_limits.sh "$build/tools/pool_zstd/pool-zstd" "$input" \
        "${too_much_gib}G" "$((free_mib * 85 / 100))M"
}

# Random pairs and cycles, then the GPU tests with one seed after the other until the time is over.
soak() {
    local program
    step "soak" 400 "$device_soak" --state build/soak.state --seconds 240 --cycles 1000 || die "soak: device_soak failed"
    while ((SECONDS < limit_s - 60)); do
        for program in "${test_programs[@]}"; do
            CUDA_ZSTD_TEST_SEED=$seed timeout --kill-after=5 60 "$program" --gtest_brief=1 --gtest_shuffle \
                --gtest_random_seed=$((seed % 99999)) >build/soak.log 2>&1 || {
                tail -n 50 build/soak.log
                die "soak: $(basename "$program") failed with seed $seed"
            }
        done
        seed=$((seed + 1))
    done
    echo "soak: no failure; go on with --soak $seed"
}

run_proofs() {
    local tests=$build/tests
    step "10,000 rounds" 300 env CUDA_ZSTD_TEST_ROUNDS=10000 "$tests/gpu/device_growth_gpu_test" \
        --gtest_filter='*ManyRoundsOfEverything'
    step "1,000 relocations" 60 env CUDA_ZSTD_TEST_ROUNDS=1000 "$tests/gpu/relocation_gpu_test" \
        --gtest_filter='*ContentsStayThroughManyRounds'
    step "faults" 60 "$tests/device/resize_faults_test" --gtest_filter='OnCuda*'
}

case $mode in
soak) soak; exit ;;
proofs) run_proofs ;;
survey)
    mkdir -p build/survey
    gather_corpus
    run_benchmarks
    ;;
gate)
    run_gpu_tests
    run_soak
    gather_corpus
    run_benchmarks
    run_main_job
    run_pool_limits
    run_ring
    run_planted
    run_nsys
    run_memcheck
    ;;
esac

printf '\n==== %s: %s, %d s\n' "$gpu" "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)" "$SECONDS"
printf '%s\n' "${rows[@]}"
[[ ! -s $results/device.csv ]] || { echo; python3 tools/device_figures.py "$results/device.csv"; }
((failures == 0))
