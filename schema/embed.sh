#!/bin/sh
# Prints a C file that holds each SQL file named as a migration: its number, its name and its text.
set -eu
echo '#include "migrations.h"'
echo 'const struct migration migrations[] = {'
for file in "$@"; do
    name=$(basename "$file" .sql)
    number=$(echo "$name" | sed 's/_.*//; s/^0*//')
    echo "    {$number, \"$name\","
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/     "/' -e 's/$/\\n"/' "$file"
    echo '    },'
done
echo '    {0, 0, 0}};'
