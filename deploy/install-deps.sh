#!/usr/bin/env bash
# Installs what UsageBox needs on Debian 12: packages through apt, a private Kafka through Maven. Says what and
# why, asks for nothing, and does nothing where all is there.
#
#   deploy/install-deps.sh [build] [demo] [test] [fuzz] [measure] [lint] [client]      default: build demo test fuzz
#
#   USAGEBOX_CACHE   where Kafka's jars and promtool go (default ~/.cache/usagebox); no root needed there
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${USAGEBOX_CACHE:-$HOME/.cache/usagebox}
kafka_version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml")

say() { printf 'install-deps: %s\n' "$*"; }
die() { printf 'install-deps: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        local name proxies=() # which sudo would drop
        for name in http_proxy https_proxy no_proxy; do [ -z "${!name:-}" ] || proxies+=("$name=${!name}"); done
        sudo env "${proxies[@]}" "$@"
    else
        die "must become root to run '$*', and there is no sudo: run it as root, or ask an administrator to"
    fi
}

# --- apt: one line per package, "package  why" ---------------------------------------------------------------

packages_build() {
    cat <<'LIST'
gcc                the C compiler
g++                compiles the JSON decoder's one C++ file
make               runs the build
pkg-config         finds libraries
librdkafka-dev     Kafka client
libpq-dev          PostgreSQL client
libjansson-dev     JSON, off the hot path
libsimdjson-dev    JSON, on the hot path
libyaml-dev        reads config.yaml
libsodium-dev      SipHash
libmicrohttpd-dev  serves /metrics and /healthz
LIST
}

packages_demo() {
    echo "postgresql  a private server for the demo and the tests; no cluster of the system is made or started"
    java_is_17 || echo "openjdk-17-jre-headless  runs Kafka"
    kafka_is_there || command -v mvn >/dev/null || echo "maven  fetches Kafka"
}

packages_client() { echo "postgresql-client  psql, which shows what a demo on other servers has counted"; }

packages_test() {
    packages_demo
    cat <<'LIST'
check                    unit tests
libsubunit-dev           Check links with it
python3                  integration tests and their oracle
python3-pytest           runs the integration tests
python3-pytest-xdist     several at a time
python3-psycopg2         PostgreSQL client of the tests
python3-confluent-kafka  Kafka client of the tests
python3-jsonschema       holds messages against their JSON Schemas
LIST
}

packages_fuzz() {
    cat <<'LIST'
clang-14            compiles the fuzzers
libclang-rt-14-dev  libFuzzer and the sanitizers of clang (43 MB)
LIST
}

packages_measure() {
    cat <<'LIST'
gcovr     branch coverage
valgrind  memory of a whole run
LIST
}

packages_lint() {
    cat <<'LIST'
clang-format  layout
clang-tidy    static analysis
cppcheck      static analysis
shellcheck    static analysis of scripts
LIST
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

java_is_17() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || return 1
    [ "${version:-0}" -ge 17 ]
}

# Debian's postgresql makes and starts a cluster when it is first installed, unless told otherwise.
without_a_cluster() {
    local rule=/etc/postgresql-common/createcluster.d/usagebox-install.conf status=0
    as_root mkdir -p "${rule%/*}"
    echo 'create_main_cluster = false' | as_root tee "$rule" >/dev/null
    "$@" || status=$?
    as_root rm -f "$rule"
    return "$status"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
        install --no-install-recommends "$@" </dev/null
}

# apt's lists are fetched at most once per run.
apt_update() {
    [ -z "${apt_updated:-}" ] || return 0
    say "fetching apt's package lists"
    as_root apt-get -qq update || die "apt-get update failed: is the network there, and are apt's sources right?"
    apt_updated=yes
}

install_packages() {
    local package why missing=()
    while read -r package why; do
        is_installed "$package" || missing+=("$package")
        is_installed "$package" || say "needs $package: $why"
    done < <(sort -u)
    [ "${#missing[@]}" -gt 0 ] || return 0
    apt_update
    without_a_cluster apt_install "${missing[@]}" || die "apt-get could not install: ${missing[*]}"
}

# --- what does not come as an installed package --------------------------------------------------------------

# A directory beside what it becomes, so that a rename is all it takes; gone at exit.
make_scratch() {
    [ -z "${scratch:-}" ] || return 0
    mkdir -p "$cache"
    scratch=$(mktemp -d "$cache/scratch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
}

kafka_is_there() { [ -d "$cache/kafka-$kafka_version/libs" ]; }

install_kafka() {
    ! kafka_is_there || return 0
    say "needs Kafka $kafka_version: fetching it with Maven into $cache/kafka-$kafka_version (56 MB)"
    make_scratch
    if ! mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$scratch/kafka/libs" </dev/null >"$scratch/maven.log" 2>&1; then
        cat "$scratch/maven.log" >&2
        die "Maven could not fetch Kafka: is the network there? Behind a proxy Maven wants ~/.m2/settings.xml"
    fi
    # renamed whole, never half there; whoever is second finds the other's directory, which holds the same
    mv -T "$scratch/kafka" "$cache/kafka-$kafka_version" 2>/dev/null || kafka_is_there || die "cannot write to $cache"
}

# promtool alone: the package prometheus would install and start a service.
install_promtool() {
    ! command -v promtool >/dev/null && [ ! -x "$cache/bin/promtool" ] || return 0
    say "needs promtool: taking it out of Debian's package prometheus into $cache/bin, no service is installed"
    apt-cache show prometheus >/dev/null 2>&1 || apt_update
    mkdir -p "$cache/bin"
    make_scratch
    (cd "$scratch" && apt-get -q -o APT::Sandbox::User=root download prometheus && dpkg-deb -x prometheus_*.deb .) ||
        die "could not fetch Debian's package prometheus"
    mv -T "$scratch/usr/bin/promtool" "$cache/bin/promtool"
}

main() {
    local group groups=("$@")
    [ $# -gt 0 ] || groups=(build demo test fuzz)
    for group in "${groups[@]}"; do
        case $group in
        build | demo | test | fuzz | measure | lint | client) ;;
        *) die "usage: install-deps.sh [build] [demo] [test] [fuzz] [measure] [lint] [client]" ;;
        esac
    done
    command -v dpkg-query >/dev/null || die "this is for Debian 12; elsewhere install by hand what it lists"
    for group in "${groups[@]}"; do "packages_$group"; done | install_packages
    for group in "${groups[@]}"; do
        case $group in
        demo) install_kafka ;;
        test) install_kafka && install_promtool ;;
        esac
    done
    say "all there for: ${groups[*]}"
}

main "$@"
