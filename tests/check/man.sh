#!/bin/sh
# SPDX-License-Identifier: MIT
# Man pages: mandoc has nothing to say, and every program has one.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
for f in $(find docs/man -name '*.[1-8]' | sort); do
	n=$((n + 1))
	said=$(mandoc -T lint -W warning "$f" 2>&1 || true)
	[ -z "$said" ] || wrong "$said"
done
for program in sosie sosied sosie-receive sosie-keeper; do
	ls docs/man/$program.[1-8] >/dev/null 2>&1 || wrong "$program has no man page"
done
closing "$n" "man pages"
