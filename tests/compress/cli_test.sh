#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pool-zstd as a user meets it: round trips through zstd -d, and every kind of wrong input.
# Usage: cli_test.sh POOL-ZSTD. Prints each check that fails; ends with 1 when one did.
set -u

program=$(realpath "${1:?usage: cli_test.sh POOL-ZSTD}")
[[ -x $program ]] || { echo "cli_test: $program is no program" >&2; exit 1; }
command -v zstd >/dev/null || { echo "cli_test: the program zstd is missing: apt-get install zstd" >&2; exit 1; }
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0
checks=0

check() { # check NAME COMMAND...: the command succeeds
    checks=$((checks + 1))
    local name=$1
    shift
    if ! "$@"; then
        echo "FAILED: $name" >&2
        failures=$((failures + 1))
    fi
}
# refused NAME TEXT ARGUMENT...: pool-zstd ends with 1, says TEXT on stderr, and leaves no temporary file
refused() {
    local name=$1 text=$2
    shift 2
    "$program" "$@" >stdout.txt 2>stderr.txt </dev/null
    local code=$?
    checks=$((checks + 1))
    if [[ $code != 1 ]] || ! grep -qF -- "$text" stderr.txt || compgen -G '.pool-zstd-*' >/dev/null; then
        echo "FAILED: $name: exit code $code, stderr: $(cat stderr.txt)" >&2
        failures=$((failures + 1))
    fi
}
same() { zstd -q -d -c "$1" 2>/dev/null | cmp -s - "$2"; }
# takers PID SIGNAL: how many threads of the process do not block the signal
takers() {
    local mask count=0
    for mask in $(awk '/^SigBlk:/ { print $2 }' /proc/"$1"/task/*/status); do
        (((16#$mask >> ($(kill -l "$2") - 1) & 1) == 0)) && count=$((count + 1))
    done
    echo "$count"
}
no_temporary() { ! compgen -G '.pool-zstd-*' >/dev/null; }
# within_a_minute COMMAND...: the command succeeds sooner or later
within_a_minute() {
    local try
    for ((try = 0; try < 1200; ++try)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}
has_temporary() { compgen -G '.pool-zstd-*' >/dev/null; }
has_one_taker() { [[ $(takers "$1" "$2") == 1 ]]; }

seq 1 200000 >numbers
head -c 3000000 /dev/urandom >noise
head -c 1000000 /dev/zero >zeros
: >empty
printf x >one
mkdir directory out

# ---- what works ----
check "several files" "$program" -q numbers noise zeros empty one
for file in numbers noise zeros empty one; do check "round trip of $file" same $file.zst $file; done
check "inputs are kept" test -s numbers
check "zstd -t accepts the result" zstd -q -t numbers.zst noise.zst empty.zst
check "quiet prints nothing" test -z "$("$program" -q -f numbers 2>&1)"
check "-o" "$program" -q -o named.zst numbers
check "round trip of -o" same named.zst numbers
check "-c" bash -c "'$program' -c numbers >stdout.zst"
check "round trip of -c" same stdout.zst numbers
check "stdin to stdout" bash -c "'$program' <noise >piped.zst"
check "round trip of stdin" same piped.zst noise
check "a pipe" bash -c "cat numbers noise | '$program' - >pipe.zst"
cat numbers noise >both
check "round trip of a pipe" same pipe.zst both
check "an empty stdin" bash -c "'$program' </dev/null >nothing.zst"
check "round trip of an empty stdin" same nothing.zst empty
check "-o of several files concatenates" "$program" -q -o both.zst numbers noise
check "round trip of the concatenation" same both.zst both
check "--output-dir-flat" "$program" -q --output-dir-flat out numbers directory/../noise
check "round trip of --output-dir-flat" same out/noise.zst noise
for chunk in 1K 1025 10000 64K 128K; do
    check "--chunk $chunk" "$program" -q -f --check --chunk $chunk -o chunked.zst both
    check "round trip of --chunk $chunk" same chunked.zst both
done
check "a file larger than the pool" "$program" -q -f --pool 1M -o small_pool.zst both
check "round trip through a small pool" same small_pool.zst both
check "many waves" "$program" -q -f --wave 128K -o waves.zst both
check "round trip of many waves" same waves.zst both
check "one wave" "$program" -q -f --wave 1G -o wave.zst both
check "round trip of one wave" same wave.zst both
# More in flight than the pool can serve: what found it full is compressed with fewer beside it, and waves get smaller.
seq 1 1500000 >many
check "a roomy pool" "$program" -q -f -o roomy.zst many
check "a wave far above the pool" bash -c "'$program' --json -f --pool 1M --wave 8M -o tight.zst many >tight.json"
check "the tight pool's result is the roomy one's" cmp roomy.zst tight.zst
figure() { python3 -c "import json, sys; print(eval('r' + sys.argv[2], {'r': json.load(open(sys.argv[1]))}))" "$1" "$2"; }
check "no chunk is stored for want of memory" test "$(figure tight.json "['total']['chunks_stored_for_want_of_memory']")" = 0
check "some had to wait for a smaller wave" test "$(figure tight.json "['total']['chunks_done_in_a_later_wave']")" -gt 0
check "waves get smaller" test "$(figure tight.json "['wave_bytes']")" -lt $((8 << 20))
touch -d '2020-02-02 02:02:02' numbers
chmod 640 numbers
check "compress again" "$program" -q -f numbers
check "mode is kept" test "$(stat -c %a numbers.zst)" = 640
check "time is kept" test "$(stat -c %Y numbers.zst)" = "$(stat -c %Y numbers)"
check "to a device" "$program" -q -o /dev/null numbers
mkfifo pipe
zstd -q -d -c <pipe | cmp -s - numbers & reader=$!
check "to a named pipe" "$program" -q -o pipe numbers
check "round trip of a named pipe" wait $reader
printf -v odd_name 'a name\nwith %%s and \xff'
cp numbers "$odd_name"
check "an odd name" "$program" -q -- "$odd_name"
check "round trip of an odd name" same "$odd_name.zst" numbers
printf bracketed >'[numbers,noise]'
check "a name in brackets is no list" "$program" -q '[numbers,noise]'
check "round trip of a name in brackets" same '[numbers,noise].zst' '[numbers,noise]'
# As zstd does: links are ignored without -f, but not the pipes that a shell names by links.
ln -s numbers link
check "a link among files is ignored" bash -c "'$program' -c link one 2>link.txt >linked.zst"
check "the link is named" grep -qF 'link: is a symbolic link, ignored' link.txt
check "the other file is compressed" same linked.zst one
check "-q says nothing of it" test -z "$("$program" -q -c link one 2>&1 >/dev/null)"
check "-f follows links" "$program" -q -f link
check "round trip of a link" same link.zst numbers
check "a pipe of the shell is no link" bash -c "'$program' -c <(cat numbers) >substituted.zst"
check "round trip of a pipe of the shell" same substituted.zst numbers
rm -f asked.zst
cp numbers asked
echo old >asked.zst
printf 'y\n' | timeout 60 script -qec "'$program' asked" /dev/null >/dev/null
check "an overwrite that the user grants" same asked.zst asked
# A standard descriptor that is closed or full must not end the program, nor be taken by a file.
check "stderr on a full device" bash -c "'$program' -f numbers 2>/dev/full"
check "round trip with stderr on a full device" same numbers.zst numbers
check "stderr that was closed" bash -c "'$program' -f -o closed.zst numbers noise 2>&-"
check "round trip with stderr closed" same closed.zst both
for redirection in '2>/dev/full' '2>&-'; do
    check "an error with $redirection" bash -c "'$program' missing $redirection; test \$? = 1"
done
"$program" --stats -f numbers noise >stats.txt
check "--stats prints a table" grep -q '^All 2 files' stats.txt
check "--stats prints the pool's statistics" grep -q '^MemoryPool Stats:' stats.txt
check "--stats finds no leak" grep -q '^Still allocated when all was freed: 0 bytes' stats.txt
check "--json is JSON" bash -c "'$program' --json -f numbers '$odd_name' | python3 -m json.tool >/dev/null"
"$program" --json <numbers >json.zst 2>json.txt
check "--json goes to stderr when stdout carries data" python3 -m json.tool json.txt /dev/null
check "data is whole beside --json" same json.zst numbers
check "--help" bash -c "'$program' --help | grep -q -- --output-dir-flat"
check "--version" bash -c "'$program' --version | grep -q '^pool-zstd [0-9]'"

# ---- what is refused, and how ----
refused "a missing file" "missing: cannot be read: No such file" missing
refused "a folder" "directory: is a folder" directory
ln -s numbers only_link
refused "nothing but a link" "only_link: is a symbolic link, ignored" only_link
refused "nothing but a link, with -q" "only_link: is a symbolic link, ignored" -q only_link
ln -s nowhere dangling
refused "a link to nothing" "dangling: is a symbolic link, ignored" dangling
refused "a link to nothing with -f" "dangling: cannot be read: No such file" -f dangling
check "a link leaves no output" test ! -e only_link.zst
rm -f numbers.zst
refused "a folder among files" "directory: is a folder" -q directory numbers
check "the other file is compressed" same numbers.zst numbers
echo precious >numbers.zst
refused "an existing output" "numbers.zst: already exists" numbers
check "the existing output is untouched" test "$(cat numbers.zst)" = precious
refused "an existing -o" "numbers.zst: already exists" -o numbers.zst noise
refused "-q does not overwrite either" "already exists" -q numbers
check "-f overwrites" "$program" -q -f numbers
check "round trip after -f" same numbers.zst numbers
refused "input and output at once" "input and output at once" -f -o numbers numbers
check "the input survives" test "$(head -n 1 numbers)" = 1
cp noise later_input
refused "the shared output is a later input" "input and output at once" -f -o later_input numbers later_input
check "the later input survives" cmp -s noise later_input
mkdir first second
cp numbers first/twin
cp noise second/twin
refused "the same name twice for one folder" "second/twin: not compressed, since out/twin.zst" \
    -f --output-dir-flat out first/twin second/twin
check "the first of them is kept" same out/twin.zst numbers
refused "a full device" "/dev/full: writing failed: No space left" -q -o /dev/full numbers
check "stdout on a full device" bash -c "! '$program' -c numbers >/dev/full 2>full.txt && grep -q 'No space left' full.txt"
check "stdout that was closed" bash -c "! '$program' -c noise 2>closed.txt | head -c 1 >/dev/null; test \${PIPESTATUS[0]} != 139"
refused "a folder that does not exist" "nowhere: --output-dir-flat: No such file" --output-dir-flat nowhere numbers
refused "a file for a folder" "noise: --output-dir-flat: is no folder" --output-dir-flat noise numbers
refused "an output in a folder that does not exist" "nowhere/x.zst: cannot be created" -o nowhere/x.zst numbers
refused "-o a folder" "directory: the output is a folder" -f -o directory numbers
for chunk in 0 1 1023 129K 1G -5 12Q '' 99999999999999999999 1.5K; do
    refused "--chunk '$chunk'" "--chunk" -f "--chunk=$chunk" numbers
done
for pool in 0 100K 1Z x 99999999999G 100T; do refused "--pool $pool" "--pool" -f "--pool=$pool" numbers; done
refused "--wave smaller than a chunk" "--wave" -f --wave 1K numbers
refused "-d" "zstd -d" -d numbers.zst
refused "an unknown option" "--nonsense" --nonsense numbers
refused "-c with -o" "-c and -o exclude each other" -c -o x numbers
refused "-o with --output-dir-flat" "exclude each other" -o x --output-dir-flat out numbers
refused "stdin among files" "stdin (-)" numbers -
refused "stdin twice" "more than once" -c - -
refused "an empty name" "empty file name" ""
refused "an empty -o" "-o: the file name is empty" -o "" numbers
CUDA_ZSTD_POOL_MAX_SIZE=16777216 refused "a limit below the pool" "--pool 1 GiB" -f numbers
CUDA_ZSTD_POOL_MAX_SIZE=nonsense refused "a limit that is no number" "CUDA_ZSTD_POOL_MAX_SIZE" -f numbers
CUDA_ZSTD_POOL_BACKEND=quantum refused "a backend that does not exist" "CUDA_ZSTD_POOL_BACKEND" -f numbers
if [[ $(id -u) != 0 ]]; then
    chmod 000 noise
    refused "an unreadable file" "noise: cannot be read: Permission denied" -f noise
    chmod 644 noise
fi

# ---- an interrupted run ----
for signal in INT TERM HUP; do
    rm -f late.zst
    # bash ignores SIGINT in background jobs; a program started through env --default-signal does not.
    (while sleep 0.05 && cat noise; do :; done) 2>/dev/null | env --default-signal=$signal "$program" -q --wave 256K -o late.zst - &
    pid=$!
    check "SIG$signal: a temporary file was there" within_a_minute has_temporary
    # Only the thread that opens outputs takes the signal, so none comes between a file's making and its being known:
    # that thread lets it in as soon as the file is known.
    check "SIG$signal: one thread takes it" within_a_minute has_one_taker "$pid" "$signal"
    kill -$signal "$pid"
    wait "$pid" 2>/dev/null
    check "SIG$signal: ends by the signal" test $? = $((128 + $(kill -l $signal)))
    check "SIG$signal: no temporary file is left" no_temporary
    check "SIG$signal: no output is left" test ! -e late.zst
done

echo "$checks checks, $failures failed"
[[ $failures == 0 ]]
