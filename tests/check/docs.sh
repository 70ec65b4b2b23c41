#!/bin/sh
# SPDX-License-Identifier: MIT
# The documents name no file of the project that is not there, and every link leads somewhere.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
for doc in README.md $(find docs -name '*.md' | sort); do
	# shellcheck disable=SC2013 # names without blanks
	for path in $(grep -oE '(^|[^A-Za-z0-9_./-])(engine|transport|tools|tests|bench|docs|include|\.ci)/[A-Za-z0-9_.*/-]*[A-Za-z0-9_*]' "$doc" |
		sed -E 's/^[^A-Za-z.]//' | grep -v '[A-Z][A-Z]' | sort -u); do
		n=$((n + 1))
		# Globs stand for at least one file.
		# shellcheck disable=SC2086
		ls -d $path >/dev/null 2>&1 || ls -d $path.c >/dev/null 2>&1 || wrong "$doc names $path, which is not there"
	done
	for link in $(grep -oE '\]\([^)#]+' "$doc" | cut -c3- | grep -v '^https\?:' || true); do
		n=$((n + 1))
		[ -e "$(dirname "$doc")/$link" ] || wrong "$doc links to $link, which is not there"
	done
done
for doc in README.md docs/architecture.md docs/protocol.md docs/format.md docs/operating.md docs/security.md docs/benchmarks.md; do
	[ -s "$doc" ] || wrong "$doc is missing"
done
closing "$n" "names of files in documents"
