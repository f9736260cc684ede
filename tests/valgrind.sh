#!/usr/bin/env bash
# The program under valgrind, with the program's own arguments: exits with 99 if anything was read or written
# where it must not be, or was never freed. Names of what is leaked go to standard error.
#
#   USAGEBOX=tests/valgrind.sh /usr/bin/python3 -m pytest tests/integration/test_memory.py
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
command -v valgrind >/dev/null || { echo "valgrind.sh: run deploy/install-deps.sh measure" >&2 && exit 1; }
exec valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,possible \
    --errors-for-leak-kinds=definite,possible --num-callers=30 --fair-sched=yes \
    "$here/../build/release/usagebox" "$@"
