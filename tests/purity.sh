#!/usr/bin/env bash
# Proves that the core touches memory only: all of its archive links with libc, libm, jansson, simdjson and
# libsodium alone, and of these it uses nothing that reaches a socket, file, clock, thread or environment.
#
#   tests/purity.sh build/release/libcore.a
#
# A use that is not allowed is fatal with the file it is in. What is allowed stands below, so that a new need is seen
# by whoever reviews the change.
set -euo pipefail

archive=${1:?usage: purity.sh ARCHIVE}
cc=${CC:-gcc}

# Extended regular expressions, each of a whole symbol.
allowed() {
    cat <<'LIST'
mem(chr|cmp|cpy|move|set)|str(cmp|len)|stpcpy
malloc|calloc|realloc|reallocarray|free
qsort|qsort_r
LIST
    # anonymous memory, whole pages of which go back to the system: dedupe's slabs
    echo 'mmap|munmap|madvise'
    # into a buffer of ours
    echo 'snprintf|vsnprintf'
    # assertions stay in
    echo '__assert_fail|abort'
    # what the compiler puts in: checks, 128-bit division, counting bits, the address of everything
    echo '__(mem(cpy|move|set)|v?snprintf)_chk|__stack_chk_fail|__u?(div|mod)ti3|__popcountdi2|_GLOBAL_OFFSET_TABLE_'
    # what the processor can do, read from itself before main()
    echo '__cpu_(model|indicator_init)'
    # hashes, and bytes as text
    echo 'crypto_generichash_(init|update|final)|sodium_bin2(hex|base64)'
    # JSON in memory
    echo 'json_(array_get|delete|dumpb|loadb|integer_value|string|string_length|string_value|object|object_get|object_set_new)'
    # its memory, and the way out of it where there is none
    echo 'json_set_alloc_funcs|_setjmp|(__)?longjmp(_chk)?'
    # simdjson, and the C++ that it is made and freed with
    echo '_ZN8simdjson(13validate_utf8|25get_active_implementation)E.*|_ZSt7nothrow|_Znwm.*|_ZdlPv.*'
}

# links ARCHIVE: everything in it, against nothing but what it may know
links() {
    "$cc" -shared -nodefaultlibs -o "$scratch/core.so" -Wl,--no-undefined -Wl,--whole-archive "$1" \
        -Wl,--no-whole-archive -ljansson -lsimdjson -lsodium -lm -lstdc++ -lc -lgcc
}

# outside ARCHIVE: symbols that it wants and does not define, each with the object that wants it
outside() {
    nm --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u >"$scratch/defined"
    nm --undefined-only --print-file-name "$1" | awk '{ n = split($1, at, ":"); print $NF, at[n - 1] }' | sort -u |
        join -v 1 - "$scratch/defined"
}

# is_pure ARCHIVE: what is not allowed goes to standard output
is_pure() {
    links "$1" && ! outside "$1" | grep -vE "^($(allowed | paste -sd '|')) "
}

# A check that can't fail proves nothing.
sees_impurity() {
    cp "$archive" "$scratch/impure.a"
    echo 'char *getenv(const char *); char *impure(void); char *impure(void) { return getenv("HOME"); }' |
        "$cc" -x c -fPIC -c - -o "$scratch/impure.o"
    ar r "$scratch/impure.a" "$scratch/impure.o"
    [ "$(is_pure "$scratch/impure.a")" = 'getenv impure.o' ]
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! found=$(is_pure "$archive"); then
    printf 'purity: the core reaches out of memory (symbol, object):\n%s\n' "$found" >&2
    exit 1
fi
sees_impurity || { echo 'purity: a call of getenv was not seen' >&2 && exit 1; }
echo "purity: $(ar t "$archive" | wc -l) objects of the core touch memory only"
