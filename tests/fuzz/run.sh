#!/usr/bin/env bash
# Runs each fuzzer in DIR for so many seconds from SEED on. It begins with the corpus kept in tests/fuzz/corpus
# and with what earlier runs found, which it adds to in DIR/found. An input that fails stays in DIR/failed.
#
#   tests/fuzz/run.sh DIR SECONDS SEED FUZZER...
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: run.sh DIR SECONDS SEED FUZZER...} seconds=$2 seed=$3
shift 3

# options NAME: sizes and dictionaries that suit its inputs
options() {
    case $1 in
    decoder | copy) echo "-max_len=4096 -dict=$here/event.dict" ;;
    config) echo "-max_len=4096 -dict=$here/config.dict" ;;
    decimal) echo "-max_len=600 -dict=$here/decimal.dict" ;;
    dedupe) echo "-max_len=2048" ;;
    pipeline) echo "-max_len=6000" ;;
    esac
}

# run NAME: one line of what it did; all that it said, and how to see it again, if it failed
run() {
    local name=$1 found=$dir/found/$1 failed=$dir/failed/$1 log=$dir/$1.log
    mkdir -p "$found" "$failed"
    # shellcheck disable=SC2046 # options are words
    if "$dir/$name" -seed="$seed" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$failed/" $(options "$name") "$found" "$here/corpus/$name" >"$log" 2>&1; then
        awk -v name="$name" -v seed="$seed" '/cov:/ { for (i = 1; i < NF; i++) at[$i] = $(i + 1) }
            /number_of_executed_units/ { units = $2 }
            END { printf "%-10s %9d inputs from seed %s, %s edges, corpus %s\n", name, units, seed, at["cov:"], at["corp:"] }' "$log"
        return
    fi
    grep -v '^#' "$log" | tail -40 >&2
    printf '%s failed, seed %s\n  replay: %s %s\n' "$name" "$seed" "$dir/$name" \
        "$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)" >&2
    return 1
}

status=0
# as many at once as there are processors
for name in "$@"; do
    while [ "$(jobs -pr | wc -l)" -ge "$(nproc)" ]; do wait -n || status=1; done
    run "$name" &
done
while [ -n "$(jobs -p)" ]; do wait -n || status=1; done
exit "$status"
