#!/bin/sh
# SPDX-License-Identifier: MIT
# Every script goes through shellcheck.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
for f in $(shell_files); do
	n=$((n + 1))
	said=$(shellcheck "$f" 2>&1) || wrong "$said"
done
closing "$n" "shell scripts"
