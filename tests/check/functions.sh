#!/bin/sh
# SPDX-License-Identifier: MIT
# Function length, brace to brace: none above 70 lines, 90 % at most 50.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for f in $(find engine transport tools bench -name '*.c' | sort); do
	awk -v f="$f" '
		/^{/ { start = FNR; head = last }
		/^}/ && start { if (head ~ /\)$/ || head ~ /\)[ \t]*(__attribute__.*)?$/) print FNR - start + 1, f ":" start, head; start = 0 }
		/[^ \t]/ { last = $0 }' "$f"
done | sort -n >"$list"
count=$(wc -l <"$list")
[ "$count" -gt 0 ] || closing 0 functions
awk '$1 > 70' "$list" | while read -r n where head; do echo "  $n lines: $where $head"; done
long=$(awk '$1 > 70' "$list" | wc -l)
[ "$long" -eq 0 ] || wrong "$long functions above 70 lines"
short=$(awk '$1 <= 50' "$list" | wc -l)
[ $((short * 100)) -ge $((count * 90)) ] || wrong "only $short of $count functions have at most 50 lines"
median=$(awk -v m=$(((count + 1) / 2)) 'NR == m { print $1 }' "$list")
closing "$count" "functions, median $median lines, $((short * 1000 / count / 10)).$((short * 1000 / count % 10)) % at most 50, longest $(tail -n 1 "$list" | cut -d' ' -f1)"
