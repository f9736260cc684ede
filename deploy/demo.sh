#!/usr/bin/env bash
# A demonstration from nothing: builds, starts a private Kafka and PostgreSQL, publishes 100,000 events, and shows
# what was counted, billed and enforced, and the proof of it. Asks nothing and cleans up after itself.
#
#   make demo                                     all private, all gone afterwards
#   make demo KEEP=1                              leaves it running and says how to connect and how to stop
#   make demo KAFKA=host:port DSN=postgresql://…  your servers: topics and a database of their own, demo-… and demo_…
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
events=100000
rate=10000 # a second
seed=7     # with it these ceilings are crossed
patience_s=90
watch_s=30

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

heading() {
    step=$*
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}
say() { printf '%s\n' "$*"; }
usagebox() { (cd "$root" && exec ./usagebox "$1" -c "$dir/config.yaml" "${@:2}"); }
query() { psql -X -q -v ON_ERROR_STOP=1 -P pager=off -P footer=off "$dsn" "$@" </dev/null; }
value() { query -A -t -c "$1"; }

# --- going wrong and cleaning up -----------------------------------------------------------------------------

# fail LOG SENTENCE: what went wrong, and the end of the log that may say why
fail() {
    failure_told=yes
    printf '\ndemo: step "%s": %s\n' "$step" "$2" >&2
    if [ -s "$1" ]; then
        printf 'The end of %s:\n' "$1" >&2
        tail -n 20 "$1" | sed 's/^/    /' >&2
    fi
    exit 1
}

# quietly WHAT COMMAND...: its output is shown only if it fails
quietly() {
    local what=$1
    shift
    "$@" >"$dir/step.log" 2>&1 || fail "$dir/step.log" "$what failed"
}

process_runs() { [ -n "${usagebox_pid:-}" ] && kill -0 "$usagebox_pid" 2>/dev/null; }

stop_usagebox() {
    local waited
    process_runs || return 0
    kill -TERM "$usagebox_pid" 2>/dev/null || true
    for waited in $(seq 100); do
        process_runs || break
        [ "$waited" != 100 ] || kill -KILL "$usagebox_pid" 2>/dev/null || true
        sleep 0.1
    done
    wait "$usagebox_pid" 2>/dev/null || true
}

# With Kafka's own tool, where an earlier private demo has left it here; nothing is fetched for that.
remove_topics() {
    local libs
    libs=$(find "${USAGEBOX_CACHE:-$HOME/.cache/usagebox}"/kafka-*/libs -maxdepth 0 2>/dev/null | tail -n 1)
    [ -n "$libs" ] && timeout 60 java -cp "$libs/*" "-Dlog4j.configuration=file:$here/kafka/log4j.properties" \
        org.apache.kafka.tools.TopicCommand --bootstrap-server "$kafka" --delete --topic "$usage_topic|$flag_topic" \
        </dev/null >/dev/null 2>&1
}

remove_from_own_servers() {
    if [ -n "${made_database:-}" ]; then
        psql -X -q "$DSN" -c "DROP DATABASE IF EXISTS $made_database WITH (FORCE)" </dev/null ||
            say "The database $made_database could not be dropped."
    fi
    if [ -n "${made_topics:-}" ] && ! remove_topics; then
        say "On $kafka remain the topics $usage_topic and $flag_topic; kafka-topics.sh --delete removes them."
    fi
}

cleanup() {
    local code=$?
    set +e
    trap '' INT TERM HUP PIPE # one more of them, or a reader gone, must not leave half of it behind
    trap - EXIT
    [ "${kept:-}" != yes ] || exit "$code"
    case $code in
    0 | 130 | 143) ;;
    *) [ "${failure_told:-}" = yes ] || (fail "$dir/usagebox.log" "failed") ;;
    esac
    heading "Cleaning up"
    stop_usagebox
    if [ "$own_servers" = yes ]; then remove_from_own_servers; else "$here/stack.sh" remove "$dir/servers" || true; fi
    rm -rf "$dir"
    exit "$code"
}

# --- getting there -------------------------------------------------------------------------------------------

# The private PostgreSQL may run as another user, who must be able to enter.
make_directory() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/usagebox-demo.XXXXXX")
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    chmod 755 "$dir"
}

install_and_build() {
    heading "1. Installing what is missing, and building"
    if [ "$own_servers" = yes ]; then "$here/install-deps.sh" build client; else "$here/install-deps.sh" build demo; fi ||
        fail /dev/null "what is needed could not be installed"
    quietly "make" make -s -C "$root" -j "$(nproc)" usagebox
    say "$("$root/usagebox" --version)"
}

# A database's name in place of the one in a connection string, URI or key=value pairs.
dsn_of_database() {
    if [[ $1 =~ ^(postgres(ql)?://[^/?]*)(/[^?]*)?(\?.*)?$ ]]; then
        printf '%s/%s%s\n' "${BASH_REMATCH[1]}" "$2" "${BASH_REMATCH[4]:-}"
    else
        printf '%s dbname=%s\n' "$1" "$2"
    fi
}

use_own_servers() {
    local id
    id=$(date +%Y%m%d%H%M%S)_$$
    kafka=$KAFKA usage_topic=demo-${id/_/-}-usage flag_topic=demo-${id/_/-}-enforcement
    say "Kafka at $kafka, PostgreSQL as DSN says"
    quietly "making the database demo_$id" psql -X -q "$DSN" -c "CREATE DATABASE demo_$id"
    made_database=demo_$id
    dsn=$(dsn_of_database "$DSN" "$made_database")
}

start_private_servers() {
    quietly "starting Kafka and PostgreSQL" "$here/stack.sh" start "$dir/servers"
    kafka=$(sed -n 's/^KAFKA=//p' "$dir/servers/env") dsn=$(sed -n 's/^PGDSN=//p' "$dir/servers/env")
    usage_topic=usage flag_topic=enforcement
    say "Kafka at $kafka and PostgreSQL, both private to this demo, in $dir/servers"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

choose_port() {
    port=9464
    while ! port_is_free "$port"; do port=$((12000 + RANDOM % 20000)); done
}

# In double quotes YAML wants these two escaped.
yaml_text() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

write_config() {
    choose_port
    (umask 077 && cat >"$dir/config.yaml") <<YAML
kafka:
  bootstrap_servers: $(yaml_text "$kafka")
  usage_topics: [$usage_topic]
  enforcement_topic: $flag_topic
  group: $usage_topic
postgres:
  dsn: $(yaml_text "$dsn")
http:
  listen: 127.0.0.1:$port
ceilings:
  - {name: free-monthly-output, plan: free, meter: llm_tokens_out, period: month, limit: 1000000, policy: hard-stop}
  - {name: pro-monthly-output, plan: pro, meter: llm_tokens_out, period: month, limit: 1500000, policy: hard-stop}
  - {name: daily-tool-calls, customer: "*", meter: tool_calls, period: day, limit: 500, policy: alert}
YAML
}

start_servers() {
    heading "2. Servers, topics, tables, ceilings"
    if [ "$own_servers" = yes ]; then use_own_servers; else start_private_servers; fi
    write_config
    made_topics=yes
    quietly "making the topics" usagebox migrate --topics --partitions 4
    quietly "making the tables" usagebox migrate
    quietly "applying the ceilings" usagebox ceilings apply
    quietly "usagebox check" usagebox check
    say "usagebox check: $(tail -n 1 "$dir/step.log")"
    usagebox ceilings list | cut -d ' ' -f 1 | tail -n +2 | sed 's/^/ceiling in force: /'
}

# --- counting ------------------------------------------------------------------------------------------------

is_ready() {
    local answer=''
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
    IFS= read -r -t 5 answer <&3 || true
    exec 3>&-
    [[ $answer == *" 200 "* ]]
}

# await WHAT COMMAND...: polls while usagebox runs
await() {
    local what=$1 deadline=$((SECONDS + patience_s))
    shift
    until "$@"; do
        process_runs || fail "$dir/usagebox.log" "usagebox run ended by itself"
        [ "$SECONDS" -lt "$deadline" ] || fail "$dir/usagebox.log" "$what took longer than $patience_s s"
        sleep 0.1
    done
}

start_usagebox() {
    heading "3. usagebox run"
    (cd "$root" && exec setsid ./usagebox run -c "$dir/config.yaml") </dev/null >"$dir/usagebox.log" 2>&1 &
    usagebox_pid=$!
    await "getting ready" is_ready
    say "process $usagebox_pid is ready; metrics at http://127.0.0.1:$port/metrics"
}

counted() { [ "$(value "SELECT coalesce(sum(next_offset), 0) FROM consumer_offset WHERE next_offset > 0")" -ge "$1" ]; }

publish() {
    heading "4. Publishing $events events at $rate a second"
    usagebox produce --generate "$events" --rate "$rate" --seed "$seed" --duplicates 0.01 --late 0.01 --bad 0.005 ||
        fail "$dir/usagebox.log" "publishing failed"
    await "counting what was published" counted "$events"
}

# --- showing -------------------------------------------------------------------------------------------------

# explain SQL: prints it, then its answer
explain() {
    say "$1" | sed 's/^/    /'
    say
    query -c "$1"
}

show_outcome() {
    heading "5. What became of them"
    query -c "SELECT outcome, to_char(events, 'FM999,999,999') AS events FROM (
        SELECT 1, 'accepted', sum(accepted) FROM batch_ledger
        UNION ALL SELECT 2, 'duplicate, not counted again', sum(duplicate) FROM batch_ledger
        UNION ALL (SELECT 3, 'dead letter: ' || reason, count(*) FROM dead_letter GROUP BY reason ORDER BY 3 DESC)
        UNION ALL SELECT 4, 'all that was published', sum(next_offset - first_offset) FROM batch_ledger
        ) o (number, outcome, events) ORDER BY number, o.events DESC"
}

show_bill() {
    heading "6. What finance asks: this month's five largest customers"
    explain "SELECT customer_id,
       trim_scale(sum(quantity) FILTER (WHERE meter = 'llm_tokens_in')) AS tokens_in,
       trim_scale(sum(quantity) FILTER (WHERE meter = 'llm_tokens_out')) AS tokens_out,
       trim_scale(sum(quantity) FILTER (WHERE meter = 'gpu_minutes')) AS gpu_minutes,
       trim_scale(sum(quantity) FILTER (WHERE meter = 'ai_agent_run')) AS agent_runs
FROM usage_hourly
WHERE hour >= date_trunc('month', now(), 'UTC')
GROUP BY customer_id ORDER BY tokens_out DESC NULLS LAST LIMIT 5"
    say "complete through $(value "SELECT complete_through FROM usage_watermark")"
}

show_flags() {
    heading "7. The flags, read back from topic $flag_topic"
    usagebox tail --flags-only --from-beginning --for 2s --json >"$dir/flags" 2>"$dir/step.log" ||
        fail "$dir/step.log" "usagebox tail failed"
    [ -s "$dir/flags" ] || fail "$dir/usagebox.log" "no flag was published"
    psql -X -q -v ON_ERROR_STOP=1 -P pager=off -P footer=off "$dsn" <<SQL
CREATE TEMP TABLE line (message jsonb);
\\copy line FROM '$dir/flags' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')
-- Kafka keeps whole milliseconds
SELECT flag->>'customer_id' AS customer, flag->>'ceiling' AS ceiling, flag->>'policy' AS policy, flag->>'used' AS used,
       flag->>'limit' AS "limit",
       round(1000 * extract(epoch FROM published_at - (flag->'event'->>'timestamp')::timestamptz)) || ' ms' AS "event to flag",
       round(1000 * extract(epoch FROM published_at - date_trunc('milliseconds', (flag->>'decided_at')::timestamptz))) || ' ms' AS "decision to flag"
FROM (SELECT message->'flag' AS flag, (message->>'published_at')::timestamptz AS published_at FROM line) m
WHERE flag->>'state' = 'active' ORDER BY published_at;
SQL
}

show_proof() {
    heading "8. usagebox verify: is every figure right?"
    usagebox verify || fail "$dir/usagebox.log" "verify found differences"
}

# --- your turn -----------------------------------------------------------------------------------------------

one_event='{"customer_id":"acme-co","meter":"llm_tokens_out","quantity":2000000,"policy_metadata":{"plan_tier":"pro"}}'

show_turn() {
    heading "9. Your turn"
    say "This line takes acme-co over its ceiling:"
    say
    say "    echo '$one_event' | $root/usagebox produce -c $dir/config.yaml"
    say
    say "and this one shows events and flags as they come:"
    say
    say "    $root/usagebox tail -c $dir/config.yaml"
}

keep_running() {
    kept=yes
    heading "All of it keeps running (KEEP=1)"
    say "    psql '$dsn'"
    say "    Kafka is at $kafka"
    say "    metrics: http://127.0.0.1:$port/metrics     log: $dir/usagebox.log"
    say "To stop it and remove everything:"
    if [ "$own_servers" = yes ]; then
        say "    kill $usagebox_pid; psql '$DSN' -c 'DROP DATABASE $made_database WITH (FORCE)'; rm -r $dir"
        say "and delete the topics $usage_topic and $flag_topic."
    else
        say "    kill $usagebox_pid; $here/stack.sh remove $dir/servers; rm -r $dir"
    fi
}

# Where nobody can type, the line is tried here.
take_turn() {
    if [ -t 0 ] && [ -t 1 ]; then
        say
        say "Watching for $watch_s s (make demo KEEP=1 leaves it running):"
        timeout --foreground "$watch_s" "$root/usagebox" tail -c "$dir/config.yaml" || true
        return
    fi
    heading "Nobody is typing, so the demo takes it"
    echo "$one_event" | usagebox produce || fail "$dir/usagebox.log" "publishing failed"
    await "acme-co's flag" flag_of_acme
    say "acme-co is over its ceiling: hard-stop"
}

flag_of_acme() { [ "$(value "SELECT count(*) FROM policy_decision WHERE customer_id = 'acme-co'")" = 1 ]; }

main() {
    own_servers=no
    if [ -n "${KAFKA:-}${DSN:-}" ]; then
        own_servers=yes
        if [ -z "${KAFKA:-}" ] || [ -z "${DSN:-}" ]; then
            echo "demo: KAFKA and DSN go together" >&2
            exit 2
        fi
    fi
    SECONDS=0
    make_directory
    install_and_build
    start_servers
    start_usagebox
    publish
    show_outcome
    show_bill
    show_flags
    show_proof
    show_turn
    if [ "${KEEP:-}" ]; then keep_running; else take_turn; fi
    say "The demo took $SECONDS s."
}

main "$@"
