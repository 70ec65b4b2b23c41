# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: MIT
# What the structure checks share. Each counts what it read, fails on nothing read, and ends with a closing line.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/../.."
bin=${SOSIE_BIN:-build}
wrong=0
wrong() # TEXT…
{
	printf 'WRONG: %s\n' "$*"
	wrong=$((wrong + 1))
}
closing() # NUMBER TEXT…: what was read
{
	[ "$1" -gt 0 ] || {
		echo "nothing was read: $*"
		exit 1
	}
	[ "$wrong" -eq 0 ] || {
		echo "$wrong wrong in $*"
		exit 1
	}
	echo "closing: $*"
}
c_files() { find engine transport tools tests bench include -name '*.[ch]' | sort; }
shell_files()
{
	find tools tests bench .ci -type f | sort | while read -r f; do
		if head -n 1 "$f" | grep -qE '^#!/bin/(ba)?sh' || [ "${f%.sh}" != "$f" ]; then echo "$f"; fi
	done
}
