#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tools/profile.sh with a program in nsys's place that runs the command and exports a made-up file. Usage: profile_test.sh SOURCE FOLDER
set -euo pipefail
source=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder"
cat >"$folder/nsys" <<'FAKE'
#!/usr/bin/env python3
import base64, os, sqlite3, struct, subprocess, sys
option = lambda name: next(a.split("=", 1)[1] for a in sys.argv if a.startswith(name + "="))
if sys.argv[1] == "profile":
    status = subprocess.run(sys.argv[next(i for i in range(2, len(sys.argv)) if not sys.argv[i].startswith("--")):]).returncode
    if "FAKE_NO_REPORT" not in os.environ:
        open(option("--output") + ".nsys-rep", "w").write("report of " + os.environ["CUDA_ZSTD_POOL_NVTX"])
    sys.exit(status)
assert sys.argv[1] == "export" and open(sys.argv[-1]).read() == "report of " + os.environ.get("EXPECT_MODE", "coarse")
db = sqlite3.connect(option("--output"))
db.execute("CREATE TABLE StringIds (id INTEGER, value TEXT)")
db.execute("CREATE TABLE NVTX_EVENTS (start INT, end INT, eventType INT, domainId INT, globalTid INT, text TEXT, textId INT,"
           " category INT, uint64Value INT, jsonText TEXT, binaryData TEXT)")
db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, end INT, shortName INT)")
db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(1, "allocate, miss"), (2, "grow"), (3, "reclaim_kernel"), (4, "foreign")])
db.executemany("INSERT INTO NVTX_EVENTS VALUES (?,?,?,?,?,?,?,?,?,?,NULL)", [
    (0, None, 75, 7, 1, "cuda_zstd", None, None, None, None),
    (100, 5100, 59, 7, 1, None, 1, 1, None, '{"bytes": 2097152, "stream": 3, "pool": 0}'),
    (200, 4200, 59, 7, 1, None, 2, 3, 1048576, None),
    (300, None, 34, 7, 1, "out of memory", None, 1, 5, None),
    (100, 9000, 59, 8, 1, None, 4, 1, 77, None)] + ([(150, 6000, 59, 7, 1, None, 2, 3, 0, None)] if "FAKE_OVERLAP" in os.environ else []))
# Payloads with the schema, in each form: with nsys's header, without, as digits, in base 64; and one that is cut off.
pool_call = lambda mib: struct.pack("<QQII", mib << 20, 3, 0, 0)
nsys_form = lambda payload: struct.pack("<QQQQ", 7, 1000, len(payload), 32 + len(payload)) + payload
db.executemany("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, 7, 1, 'reserve', NULL, 3, NULL, NULL, ?)", [
    (20000 + 100 * at, 20050 + 100 * at, form) for at, form in enumerate([
        nsys_form(pool_call(1)), nsys_form(pool_call(2)).hex(), pool_call(4), "0x" + pool_call(8).hex(),
        base64.b64encode(nsys_form(pool_call(16))).decode(), pool_call(32)[:20]])])
if "FAKE_COUNTERS" in os.environ:
    db.execute("CREATE TABLE GENERIC_EVENTS (genericEventId INT, timestamp INT, typeId INT)")
    db.execute("CREATE TABLE GENERIC_EVENT_TYPES (typeId INT, nameId INT)")
    db.execute("CREATE TABLE GENERIC_EVENT_DATA (genericEventId INT, fieldIdx INT, intVal INT, uintVal INT, doubleVal REAL)")
    db.execute("INSERT INTO StringIds VALUES (5, 'cuda_zstd pool 0 bytes in use')")
    db.execute("INSERT INTO GENERIC_EVENT_TYPES VALUES (70, 5)")
    db.executemany("INSERT INTO GENERIC_EVENTS VALUES (?, ?, 70)", [(1, 100), (2, 200)])
    db.executemany("INSERT INTO GENERIC_EVENT_DATA VALUES (?, 0, ?, NULL, NULL)", [(1, 0), (2, 4096)])
db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?)", [(0, 1000, 3), (5000, 7000, 3)])
db.commit()
FAKE
chmod +x "$folder/nsys"
failed=0
expect() {
    grep -qE -- "$1" "$folder/out" || { echo "missing: $1"; cat "$folder/out"; failed=1; }
}
export NSYS="$folder/nsys"
status=0
(cd "$folder" && "$source/tools/profile.sh" -o here sh -c 'echo ran with "$CUDA_ZSTD_POOL_NVTX"; exit 3') >"$folder/out" 2>&1 || status=$?
((status == 3)) || { echo "status $status is not the command's"; failed=1; }
expect 'ran with coarse'
expect '^allocate, miss +range +1 +5\.0 +5\.0 +2\.0$'
expect '^grow +range +1 +4\.0 +4\.0 +1\.0$'
expect '^out of memory +mark +1 '
expect '^reserve +range +6 +0\.3 +0\.1 +31\.0$'
expect '^reclaim_kernel +2 +3\.0$'
expect '^0 ranges badly nested, 0 never ended; 0 counters exported$'
! grep -q foreign "$folder/out" || { echo "another domain's event is counted"; failed=1; }
[[ -e $folder/here.sqlite && -e $folder/here.nsys-rep ]] || { echo "files are missing"; failed=1; }
FAKE_COUNTERS=1 FAKE_OVERLAP=1 EXPECT_MODE=fine "$source/tools/profile.sh" -o "$folder/fine" --fine true >"$folder/out" 2>&1 || failed=1
expect '^1 ranges badly nested, 0 never ended; 1 counters exported$'
expect '^counter cuda_zstd pool 0 bytes in use +2$'
if FAKE_NO_REPORT=1 "$source/tools/profile.sh" -o "$folder/none" true >"$folder/out" 2>&1; then failed=1; fi
expect 'wrote no .*none.nsys-rep'
status=0
"$source/tools/profile.sh" >"$folder/out" 2>&1 || status=$?
((status == 2)) || { echo "no command: status $status"; failed=1; }
expect '^Usage: tools/profile.sh'
exit "$failed"
