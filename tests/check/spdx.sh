#!/bin/sh
# SPDX-License-Identifier: MIT
# One licence line in every source, script and man page, and the licence itself.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
for f in $(c_files) $(shell_files) Makefile $(find docs/man -type f); do
	n=$((n + 1))
	lines=$(head -n 5 "$f" | grep -c 'SPDX-License-Identifier: MIT' || true)
	[ "$lines" -eq 1 ] || wrong "$f has $lines licence lines in its first five"
done
grep -q '^MIT License' LICENSE || wrong "LICENSE is not the MIT licence"
closing "$n" "files with a licence line"
