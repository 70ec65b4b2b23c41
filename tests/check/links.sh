#!/bin/sh
# SPDX-License-Identifier: MIT
# Who links what (docs/architecture.md): only sosied has the network library; the receiver, which parses a peer's bytes, has neither ring nor codec nor JSON,
# also not as code of its own, and asks libc for nothing that starts programs or threads or makes sockets. It has libseccomp, to confine itself.
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
lacks sosie-receive libssh2 liburing libzstd librsync libjansson libcyaml libyaml libcrypto libssl
lacks_symbols() # PROGRAM WORD PATTERN: none of the names that nm gives for WORD (defined, undefined) is of the pattern
{
	names=$(nm "--$2-only" "$bin/$1" | awk '{ sub(/@.*/, "", $NF); print $NF }')
	n=$(echo "$names" | wc -l)
	[ "$n" -gt 20 ] || wrong "nm told $n $2 names of $1"
	read=$((read + n))
	found=$(echo "$names" | grep -xE "$3" | tr '\n' ' ')
	[ -z "$found" ] || wrong "$1 has $2 names $found"
}
lacks_symbols sosie-receive defined '(sosie_(io_uring|io_threads|io_open|json_.*|zstd_.*|decode.*|hash_.*|store_.*|ssh_.*|session_.*|command_.*)|(ZSTD|json|io_uring|libssh2|EVP)_.*)'
lacks_symbols sosie-receive undefined '(exec.*|fexecve|v?fork|clone|posix_spawn.*|system|popen|socket|socketpair|connect|bind|listen|accept4?|send.*|recv.*|pthread_create|dlopen|ptrace|kill|link|linkat|symlink|symlinkat|mknod.*|mkfifo|mount|(set|sete|setre|setres)[ug]id)'
ldd "$bin/sosied" | grep -q 'libssh2\.so' || wrong "sosied does not link libssh2"
ldd "$bin/sosie-receive" | grep -q 'libseccomp\.so' || wrong "sosie-receive does not link libseccomp"
nm --defined-only "$bin/sosie-receive" | grep -q ' sosie_inbox_confine$' || wrong "sosie-receive does not confine itself"
ldd "$bin/sosied" | grep -q 'librsync\.so' || wrong "sosied does not link librsync"
closing "$read" "libraries and names asked for in 4 programs"
