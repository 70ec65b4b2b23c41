#!/bin/sh
# SPDX-License-Identifier: MIT
# Every script goes through shellcheck, a few in each call and a call for each processor at a time.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
list=$(shell_files)
n=$(printf '%s' "$list" | grep -c . || true)
said=$(printf '%s' "$list" | xargs -r -d '\n' -n 5 -P "$(nproc)" shellcheck 2>&1) || wrong "$said"
closing "$n" "shell scripts"
