#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Opens a page of pool-trace report in a browser without a window. Usage: report_test.sh POOL_TRACE DEMO FOLDER [BLOCKS [PNG]]
# Exit status 77: no chromium here.
set -euo pipefail
pool_trace=$1 demo=$2 folder=$3 blocks=${4:-100000} picture=${5:-}

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [[ -z $browser ]]; then
    echo "SKIPPED: no chromium (Debian: chromium) is installed"
    exit 77
fi
rm -rf "$folder"
mkdir -p "$folder/profile"
"$demo" "$folder" "$blocks"
"$pool_trace" report "$folder/demo.trace" --snapshot "$folder/demo.json" --title "Demo" -o "$folder/page.html"
options=(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions
    --disable-background-networking --disable-component-update --disable-sync --disable-default-apps --user-data-dir="$folder/profile"
    --window-size=1220,1800)
if [[ -n $picture ]]; then
    "$browser" "${options[@]}" --screenshot="$picture" "file://$folder/page.html" 2>"$folder/log"
    exit 0
fi
timeout 240 "$browser" "${options[@]}" --dump-dom "file://$folder/page.html" >"$folder/dom.html" 2>"$folder/log" || {
    cat "$folder/log"
    exit 1
}
body=$(grep -o '<body[^>]*>' "$folder/dom.html")
echo "$body"
[[ $body != *data-error* ]] || { echo "a script failed"; exit 1; }
pieces=$(sed -n 's/.*data-pieces="\([0-9]*\)".*/\1/p' <<<"$body")
[[ $body == *data-ready-ms=* && $pieces -ge $blocks ]] || { echo "the page did not come up whole"; exit 1; }
grep -q '<li>' "$folder/dom.html" || { echo "no advice"; exit 1; }
[[ $(grep -o '<canvas' "$folder/dom.html" | wc -l) -ge 4 ]] || { echo "pictures are missing"; exit 1; }
