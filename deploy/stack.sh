#!/usr/bin/env bash
# A private Kafka and a private PostgreSQL on loopback, for the demo and the tests. They touch nothing of the
# system's, and all they hold is in one directory.
#
#   deploy/stack.sh start DIR [OPTION...]                make what is missing, start both, write DIR/env
#       --partitions-default N   of topics that are made without saying how many
#       --brokers N              one; with three, topics have three replicas, of which two must acknowledge
#       --proxied                brokers also listen where no client looks, for a proxy between the two to connect to
#   deploy/stack.sh stop DIR                             stop both; what they hold stays
#   deploy/stack.sh remove DIR                           stop both and delete DIR
#   deploy/stack.sh status DIR                           what runs; exit 0 if both do
#   deploy/stack.sh kafka-start DIR [N] | kafka-stop DIR [--kill] [N]     all brokers, or the Nth
#   deploy/stack.sh pg-start DIR    | pg-stop DIR [smart|fast|immediate]    in a new DIR PostgreSQL alone is made
#   deploy/stack.sh kafka-tool DIR CLASS [ARGUMENT...]   an admin tool of Kafka, such as TopicCommand --list
#   deploy/stack.sh psql DIR [ARGUMENT...]
#
# SECURE=1 at the first start, with one broker: PostgreSQL speaks TLS only; Kafka listens at KAFKA_TLS (client
# certificates), KAFKA_SASL (TLS, user usagebox by SCRAM-SHA-512 or PLAIN) and KAFKA_EXPIRED (an expired certificate),
# too. DIR/tls holds their certificates, and Kafka's password in kafka-password.
#
# DIR/env holds KAFKA (host:port, by comma), PGDSN (of the superuser, for this server alone) and the process ids, in
# shell syntax; with --proxied also KAFKA_PROXIED, which clients are told to connect to and nobody listens on, and
# KAFKA_BEHIND, where brokers listen instead. How many brokers, and all ports, are chosen at the first start and kept.
# Run as root, PostgreSQL runs as postgres or nobody, who must be able to reach DIR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${USAGEBOX_CACHE:-$HOME/.cache/usagebox}
kafka_version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml")
kafka_libs=$cache/kafka-$kafka_version/libs
kafka_heap=${USAGEBOX_KAFKA_HEAP:-512m}
start_timeout_s=${USAGEBOX_STACK_TIMEOUT:-90}

die() { printf 'stack: %s\n' "$*" >&2; exit 1; }

usage() {
    sed -n '2,/^set -e/{/^set -e/d; s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

# die_with_log FILE MESSAGE: the end of the log says more than we can
die_with_log() {
    printf 'stack: %s; the end of %s:\n' "$2" "$1" >&2
    tail -n 25 "$1" >&2 || true
    exit 1
}

# wait_until SECONDS COMMAND...: polls ten times a second; false when time is up
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# --- ports ---------------------------------------------------------------------------------------------------

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range that the kernel gives to outgoing connections, so that none takes the port during a restart.
free_port() {
    local port
    for _ in $(seq 50); do
        port=$((12000 + (RANDOM * 32768 + RANDOM) % 20000))
        if ! port_answers "$port"; then
            echo "$port"
            return
        fi
    done
    die "found no free port"
}

free_ports() {
    local ports=()
    for _ in $(seq "$1"); do ports+=("$(free_port)"); done
    echo "${ports[*]}"
}

choose_ports() {
    [ ! -e "$dir/ports" ] || return 0
    local behind=0
    [ -z "$proxied" ] || behind=$brokers
    {
        printf 'kafka_port=(%s)\ncontroller_port=(%s)\n' "$(free_ports "$brokers")" "$(free_ports "$brokers")"
        printf 'proxied_port=(%s)\nbehind_port=(%s)\n' "$(free_ports "$behind")" "$(free_ports "$behind")"
        printf 'pg_port=%d\ntls_port=%d\nsasl_port=%d\nexpired_port=%d\n' "$(free_port)" "$(free_port)" \
            "$(free_port)" "$(free_port)"
    } >"$dir/ports.new"
    mv "$dir/ports.new" "$dir/ports"
}

# addresses PORT...: by comma
addresses() {
    [ $# -eq 0 ] || printf '127.0.0.1:%d\n' "$@" | paste -sd,
}

# --- certificates --------------------------------------------------------------------------------------------

is_secure() { [ -e "$dir/tls/made" ]; }

# Only a stack that is made now can become a secure one.
tls_make() {
    [ "${SECURE:-0}" != 0 ] && ! [ -e "$dir/kafka/server.properties" ] && ! [ -e "$dir/pg/made" ] && ! is_secure || return 0
    [ "${#kafka_port[@]}" = 1 ] || die "SECURE=1 goes with one broker"
    rm -rf "$dir/tls"
    "$here/certificates.sh" "$dir/tls" || die "the certificates could not be made"
    head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/tls/kafka-password"
    touch "$dir/tls/made"
}

# --- Kafka: KRaft brokers, from its Maven artifacts ----------------------------------------------------------

kafka_java() {
    java "-Dlog4j.configuration=file:$here/kafka/log4j.properties" "$@"
}

# The functions below work on broker number $broker, whose files are in $home.
choose_broker() {
    broker=$1 home=$dir/kafka
    [ "$broker" = 1 ] || home=$dir/kafka-$broker
}

# each_broker FUNCTION [ARGUMENT...]: of all, or of the one in $only
each_broker() {
    local number
    for number in ${only:-$(seq "${#kafka_port[@]}")}; do
        choose_broker "$number"
        "$@"
    done
}

quorum() {
    local number voters=()
    for number in $(seq "${#controller_port[@]}"); do
        voters+=("$number@127.0.0.1:${controller_port[number - 1]}")
    done
    (IFS=, && echo "${voters[*]}")
}

kafka_properties() {
    local replicas=${#kafka_port[@]} proxied='' behind=''
    [ "$replicas" -le 3 ] || replicas=3
    if [ "${#behind_port[@]}" -gt 0 ]; then
        behind=,PROXIED://127.0.0.1:${behind_port[broker - 1]}
        proxied=,PROXIED://127.0.0.1:${proxied_port[broker - 1]}
    fi
    cat <<PROPERTIES
process.roles=broker,controller
node.id=$broker
controller.quorum.voters=$(quorum)
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:${kafka_port[broker - 1]},CONTROLLER://127.0.0.1:${controller_port[broker - 1]}$behind
advertised.listeners=PLAINTEXT://127.0.0.1:${kafka_port[broker - 1]}$proxied
log.dirs=$home/data
num.partitions=$1
auto.create.topics.enable=false
# Record times are the producer's: tests choose them. In production usage topics want
# message.timestamp.type=LogAppendTime, set per topic.
message.max.bytes=4194304
# what one broker loses, others have
default.replication.factor=$replicas
min.insync.replicas=$((replicas / 2 + 1))
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$((replicas / 2 + 1))
# a broker that is back leads again soon
leader.imbalance.check.interval.seconds=10
# small, so that it starts fast and rebalances at once
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# after a kill -9 the broker comes back once its former self's session is over
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
    ! is_secure || kafka_secure_properties
}

# Behind the others: of two lines the later one counts.
kafka_secure_properties() {
    local tls=$dir/tls plain=org.apache.kafka.common.security.plain.PlainLoginModule password
    local scram=org.apache.kafka.common.security.scram.ScramLoginModule
    password=$(cat "$tls/kafka-password")
    cat <<PROPERTIES
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,EXPIRED:SSL
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port,TLS://127.0.0.1:$tls_port,\
  SASL://127.0.0.1:$sasl_port,EXPIRED://127.0.0.1:$expired_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port,TLS://127.0.0.1:$tls_port,SASL://127.0.0.1:$sasl_port,\
  EXPIRED://127.0.0.1:$expired_port
ssl.keystore.type=PEM
ssl.keystore.location=$tls/kafka.pem
ssl.truststore.type=PEM
ssl.truststore.location=$tls/ca.pem
listener.name.tls.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=$tls/expired-kafka.pem
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl.plain.sasl.jaas.config=$plain required user_usagebox="$password";
listener.name.sasl.scram-sha-512.sasl.jaas.config=$scram required;
PROPERTIES
}

# one id for all brokers
cluster_id() {
    [ -e "$dir/cluster-id" ] || head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=' >"$dir/cluster-id"
    cat "$dir/cluster-id"
}

kafka_make() {
    [ ! -e "$home/server.properties" ] || return 0
    [ -d "$kafka_libs" ] || die "no Kafka in $kafka_libs: run deploy/install-deps.sh demo"
    rm -rf "$home"
    mkdir -p "$home/data"
    local users=()
    ! is_secure || users=(--add-scram "SCRAM-SHA-512=[name=usagebox,password=$(cat "$dir/tls/kafka-password")]")
    (umask 077 && kafka_properties "$partitions_default" >"$home/server.properties.new")
    kafka_java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$kafka_libs/*" kafka.tools.StorageTool format \
        -t "$(cluster_id)" -c "$home/server.properties.new" "${users[@]}" >"$home/log" 2>&1 ||
        die_with_log "$home/log" "Kafka's storage could not be formatted"
    mv "$home/server.properties.new" "$home/server.properties"
}

# The process id, if that process is still the broker of this directory.
kafka_pid() {
    local pid
    pid=$(cat "$home/pid" 2>/dev/null) || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF "$home/server.properties" && echo "$pid"
}

kafka_is_gone() { ! kafka_pid >/dev/null; }
kafka_started_or_died() { grep -q 'Kafka Server started' "$home/log" || kafka_is_gone; }

kafka_launch() {
    kafka_is_gone || return 0
    kafka_make
    [ ! -e "$home/log" ] || mv "$home/log" "$home/log.before"
    cd "$home"
    # in a session of its own: Ctrl-C in a demo must reach the demo alone
    setsid java "-Dlog4j.configuration=file:$here/kafka/log4j.properties" "-Xmx$kafka_heap" -XX:+UseSerialGC \
        -XX:+ExitOnOutOfMemoryError -cp "$kafka_libs/*" kafka.Kafka "$home/server.properties" \
        </dev/null >"$home/log" 2>&1 9>&- &
    echo $! >"$home/pid"
    disown
    cd - >/dev/null
    wait_until 5 kafka_pid >/dev/null || die_with_log "$home/log" "Kafka did not start"
}

kafka_await() {
    local port=${kafka_port[broker - 1]}
    wait_until "$start_timeout_s" kafka_started_or_died ||
        die_with_log "$home/log" "Kafka was not ready after $start_timeout_s s"
    ! kafka_is_gone || die_with_log "$home/log" "Kafka ended while it started"
    port_answers "$port" || die_with_log "$home/log" "Kafka does not answer on port $port"
}

kafka_start() {
    only=${1:-}
    each_broker kafka_launch
    each_broker kafka_await
}

kafka_end() {
    local pid
    if pid=$(kafka_pid); then
        kill -s "$1" "$pid" 2>/dev/null || true
        if ! wait_until 30 kafka_is_gone; then
            kill -KILL "$pid" 2>/dev/null || true
            wait_until 10 kafka_is_gone || die "Kafka (process $pid) does not end"
        fi
    fi
    rm -f "$home/pid"
}

# kafka_stop [--kill] [N]
kafka_stop() {
    local signal=TERM
    if [ "${1:-}" = --kill ]; then
        signal=KILL
        shift
    fi
    only=${1:-}
    each_broker kafka_end "$signal"
}

kafka_tool() {
    local class=$1
    shift
    case $class in *.*) ;; *) class=org.apache.kafka.tools.$class ;; esac
    kafka_java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$kafka_libs/*" "$class" \
        --bootstrap-server "$(addresses "${kafka_port[@]}")" "$@"
}

# --- PostgreSQL ----------------------------------------------------------------------------------------------

find_pg_bin() {
    local initdb
    initdb=$(find /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$initdb" ] || initdb=$(command -v initdb) ||
        die "no PostgreSQL server: run deploy/install-deps.sh demo"
    dirname "$initdb"
}

# PostgreSQL refuses to run as root.
pg_user() { if id -u postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

as_pg() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec setsid --wait runuser -u "$(pg_user)" -- "$@")
    else
        setsid --wait "$@"
    fi
}

pg_make() {
    [ ! -e "$dir/pg/made" ] || return 0
    mkdir -p "$dir/pg" # it may be a file system of its own
    find "$dir/pg" -mindepth 1 -delete
    head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/pg/password"
    if [ "$(id -u)" = 0 ]; then
        chown -R "$(pg_user)" "$dir/pg"
        as_pg test -w "$dir/pg" || die "user $(pg_user) cannot reach $dir, and PostgreSQL does not run as root: \
take a directory that all may enter, such as one under /tmp"
    fi
    chmod 700 "$dir/pg"
    # trust nobody: other users of this machine share its loopback
    as_pg "$pg_bin/initdb" --no-sync -D "$dir/pg/data" -U postgres -A scram-sha-256 --pwfile="$dir/pg/password" \
        -E UTF8 --locale=C.UTF-8 </dev/null >"$dir/initdb.log" 2>&1 ||
        die_with_log "$dir/initdb.log" "initdb failed"
    printf '%s\n' "listen_addresses = '127.0.0.1'" "port = $pg_port" "unix_socket_directories = ''" |
        as_pg tee -a "$dir/pg/data/postgresql.conf" >/dev/null
    ! is_secure || pg_secure
    mv "$dir/initdb.log" "$dir/pg/made"
}

# A certificate that names the user lets members of by_certificate in, members of by_both need a password as well, all
# others a password alone.
pg_secure() {
    local file
    for file in postgres.key postgres.pem ca.pem expired.key expired.pem; do
        as_pg tee "$dir/pg/data/$file" <"$dir/tls/$file" >/dev/null
    done
    as_pg chmod 600 "$dir/pg/data/postgres.key" "$dir/pg/data/expired.key"
    printf '%s\n' "ssl = on" "ssl_key_file = 'postgres.key'" "ssl_cert_file = 'postgres.pem'" "ssl_ca_file = 'ca.pem'" |
        as_pg tee -a "$dir/pg/data/postgresql.conf" >/dev/null
    printf '%s\n' 'hostssl all +by_certificate 127.0.0.1/32 cert' \
        'hostssl all +by_both 127.0.0.1/32 scram-sha-256 clientcert=verify-full' \
        'hostssl all all 127.0.0.1/32 scram-sha-256' | as_pg tee "$dir/pg/data/pg_hba.conf" >/dev/null
}

pg_runs() { [ -e "$dir/pg/made" ] && as_pg "$pg_bin/pg_ctl" -D "$dir/pg/data" status >/dev/null 2>&1; }

pg_start() {
    pg_make
    ! pg_runs || return 0
    as_pg "$pg_bin/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/log" -w -t "$start_timeout_s" start \
        </dev/null >/dev/null 2>&1 9>&- || die_with_log "$dir/pg/log" "PostgreSQL did not start on port $pg_port"
}

pg_stop() {
    local mode=${1:-fast}
    pg_runs || return 0
    as_pg "$pg_bin/pg_ctl" -D "$dir/pg/data" -m "$mode" -w -t 60 stop </dev/null >/dev/null 2>&1 || ! pg_runs ||
        die_with_log "$dir/pg/log" "PostgreSQL did not stop ($mode)"
}

pg_pid() { head -n 1 "$dir/pg/data/postmaster.pid" 2>/dev/null || true; }
pg_dsn() { echo "postgresql://postgres:$(cat "$dir/pg/password")@127.0.0.1:$pg_port/postgres"; }

# --- both ----------------------------------------------------------------------------------------------------

kafka_pids() { each_broker kafka_pid | paste -sd,; }

write_env() {
    only=''
    (
        umask 077 # it holds a password
        printf 'KAFKA=%s\nPGDSN=%s\nKAFKA_PID=%s\nPG_PID=%s\nPG_BIN=%s\n' "$(addresses "${kafka_port[@]}")" \
            "$(pg_dsn)" "$(kafka_pids || true)" "$(pg_pid)" "$pg_bin" >"$dir/env.new"
        printf 'KAFKA_PROXIED=%s\nKAFKA_BEHIND=%s\n' "$(addresses "${proxied_port[@]}")" \
            "$(addresses "${behind_port[@]}")" >>"$dir/env.new"
        ! is_secure || printf 'KAFKA_TLS=127.0.0.1:%d\nKAFKA_SASL=127.0.0.1:%d\nKAFKA_EXPIRED=127.0.0.1:%d\n' \
            "$tls_port" "$sasl_port" "$expired_port" >>"$dir/env.new"
    )
    mv "$dir/env.new" "$dir/env"
}

# Both side by side; neither is left behind when the other fails.
start() {
    trap 'stop || true' EXIT
    tls_make
    each_broker kafka_launch
    pg_start
    each_broker kafka_await
    trap - EXIT
}

stop() {
    kafka_stop
    pg_stop
}

kafka_status() {
    local port=${kafka_port[broker - 1]}
    if kafka_pid >/dev/null; then echo "Kafka runs on 127.0.0.1:$port"; else echo "Kafka is stopped" && all=1; fi
}

status() {
    local all=0
    each_broker kafka_status
    if pg_runs; then echo "PostgreSQL runs on 127.0.0.1:$pg_port"; else echo "PostgreSQL is stopped" && all=1; fi
    return "$all"
}

# remove_all: only what start made is deleted
remove_all() {
    stop
    rm -rf "$dir/kafka" "$dir"/kafka-* "$dir/pg" "$dir/tls"
    rm -f "$dir/ports" "$dir/env" "$dir/env.new" "$dir/initdb.log" "$dir/cluster-id" "$dir/lock"
    rmdir "$dir" 2>/dev/null || true
}

# open_dir VERB DIR: sets dir and the ports; one verb at a time works on a directory
open_dir() {
    case $1 in
    start | pg-start) mkdir -p "$2" ;;
    stop | remove) [ -e "$2/ports" ] || exit 0 ;;
    *) [ -e "$2/ports" ] || die "$2 holds no stack: stack.sh start $2 makes one" ;;
    esac
    dir=$(cd "$2" && pwd -P)
    exec 9>"$dir/lock"
    flock 9
    choose_ports
    kafka_port=() controller_port=() proxied_port=() behind_port=()
    pg_port='' tls_port='' sasl_port='' expired_port=''
    # shellcheck source=/dev/null
    . "$dir/ports"
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --partitions-default) partitions_default=${2:?a number} && shift ;;
        --brokers) brokers=${2:?a number} && shift ;;
        --proxied) proxied=yes ;;
        *) usage >&2 && exit 2 ;;
        esac
        shift
    done
}

main() {
    local verb=${1:-help} directory=${2:-}
    case $verb in help | --help | -h) usage && return ;; esac
    [ $# -ge 2 ] || { usage >&2 && exit 2; }
    pg_bin=$(find_pg_bin)
    partitions_default=1 brokers=1 proxied='' only=''
    shift 2
    [ "$verb" != start ] || read_options "$@"
    open_dir "$verb" "$directory"
    case $verb in
    start) start && write_env ;;
    stop) stop && write_env ;;
    kafka-start) kafka_start "$@" && write_env ;;
    kafka-stop) kafka_stop "$@" && write_env ;;
    pg-start) pg_start && write_env ;;
    pg-stop) pg_stop "$@" && write_env ;;
    remove) remove_all ;;
    status) status ;;
    kafka-tool) exec 9>&- && kafka_tool "$@" ;;
    psql) exec 9>&- && exec psql "$(pg_dsn)" "$@" ;;
    *) usage >&2 && exit 2 ;;
    esac
}

main "$@"
