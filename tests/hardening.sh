#!/usr/bin/env bash
# Reads from a binary what the build promises about it: that memory which is written is never run and code never
# written, that it lies elsewhere at each start, that tables of addresses are read-only before main(), and that each of
# its objects was compiled with checks of the stack, of buffers and of where jumps go.
#
#   tests/hardening.sh build/release/usagebox
set -euo pipefail

binary=${1:?usage: hardening.sh BINARY}
cc=${CC:-gcc}

headers() { readelf -W --file-header --program-headers --dynamic "$1"; }
symbols() { readelf -W --dyn-syms "$1" | awk '{ print $8 }'; }
# one line per object that is in the binary: what compiled it, with which flags
producers() { readelf --debug-dump=info --dwarf-depth=1 "$1" | grep 'DW_AT_producer' || true; }

# lacking BINARY: each promise that it breaks, a line each
lacking() {
    local headers symbols
    headers=$(headers "$1") symbols=$(symbols "$1")
    grep -q 'Type: *DYN (Position-Independent' <<<"$headers" || echo 'no position-independent executable'
    grep -q 'GNU_RELRO' <<<"$headers" || echo 'no RELRO'
    grep -q 'BIND_NOW' <<<"$headers" || echo 'addresses are not bound at the start: RELRO is not full'
    grep -qE 'GNU_STACK.* RW ' <<<"$headers" || echo 'the stack can be executed'
    ! grep -qE ' (RWE|WE) ' <<<"$headers" || echo 'a segment can be written and executed'
    ! grep -q 'TEXTREL' <<<"$headers" || echo 'code is changed at the start (text relocations)'
    ! grep -qE 'RPATH|RUNPATH' <<<"$headers" || echo 'libraries are looked for in a directory of the build'
    grep -q '^__stack_chk_fail' <<<"$symbols" || echo 'no stack protector'
    grep -q '^__memcpy_chk' <<<"$symbols" || echo 'no checked memcpy (_FORTIFY_SOURCE)'
    flags "$1"
}

flags() {
    local objects wanted flag
    objects=$(producers "$1")
    wanted='-fstack-protector-strong -fstack-clash-protection -fPIC'
    [ "$(uname -m)" != x86_64 ] || wanted="$wanted -fcf-protection=full"
    [ -n "$objects" ] || echo 'no debugging information tells with which flags it was compiled'
    for flag in $wanted; do
        ! grep -vqF -e " $flag" <<<"$objects" || echo "an object is compiled without $flag"
    done
}

# A check that can't fail proves nothing.
sees_weakness() {
    echo '#include <string.h>
int main(int count, char **words) { char copy[8]; strcpy(copy, words[count - 1]); return copy[0]; }' |
        "$cc" -x c - -g -O0 -U_FORTIFY_SOURCE -fno-stack-protector -no-pie -Wl,-z,execstack,-z,norelro,-z,lazy \
            -Wl,-rpath,/tmp -w -o "$scratch/weak"
    [ "$(lacking "$scratch/weak" | wc -l)" -ge 10 ]
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
found=$(lacking "$binary")
if [ -n "$found" ]; then
    printf 'hardening: %s: %s\n' "$binary" "${found//$'\n'/; }" >&2
    exit 1
fi
sees_weakness || { echo 'hardening: a weak binary was not seen' >&2 && exit 1; }
echo "hardening: $(producers "$binary" | wc -l) objects, all checked; PIE, full RELRO, nothing both written and executed"
