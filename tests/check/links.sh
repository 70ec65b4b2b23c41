#!/bin/sh
# SPDX-License-Identifier: MIT
# Who links what (docs/architecture.md): only sosied has the network library; the receiver, which parses a peer's bytes, has neither ring nor codec nor JSON.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
read=0
lacks() # PROGRAM LIBRARY…
{
	program=$1
	shift
	[ -x "$bin/$program" ] || wrong "$bin/$program is missing"
	linked=$(ldd "$bin/$program")
	echo "$linked" | grep -q 'libc\.so' || wrong "ldd told nothing about $program"
	for library in "$@"; do
		read=$((read + 1))
		if echo "$linked" | grep -q "$library\.so"; then wrong "$program links $library"; fi
	done
}
lacks sosie libssh2 librsync
lacks sosie-keeper libssh2 librsync libcyaml libyaml
lacks sosie-receive libssh2 liburing libzstd librsync libjansson libcyaml libyaml
ldd "$bin/sosied" | grep -q 'libssh2\.so' || wrong "sosied does not link libssh2"
ldd "$bin/sosied" | grep -q 'librsync\.so' || wrong "sosied does not link librsync"
closing "$read" "libraries asked for in 4 programs"
