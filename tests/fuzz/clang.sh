#!/usr/bin/env bash
# Says what is missing if CLANG can't link a fuzzer.
#
#   tests/fuzz/clang.sh clang-14
set -euo pipefail

clang=${1:?usage: clang.sh CLANG}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! command -v "$clang" >/dev/null; then
    echo "fuzz: there is no $clang: run deploy/install-deps.sh fuzz" >&2
    exit 1
fi
echo 'int LLVMFuzzerTestOneInput(const char *, unsigned long); int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d == 0 && n; }' |
    "$clang" -fsanitize=fuzzer,address,undefined -x c - -o "$scratch/fuzzer" 2>"$scratch/errors" || {
    cat "$scratch/errors" >&2
    echo "fuzz: $clang has no libFuzzer: run deploy/install-deps.sh fuzz" >&2
    exit 1
}
