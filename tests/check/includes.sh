#!/bin/sh
# SPDX-License-Identifier: MIT
# The dependency rule: tools -> include <- engine, transport; engine and transport never include each other; each third-party library is confined.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for f in $(find engine transport tools include -name '*.[ch]' | sort); do
	sed -n 's/^#[[:space:]]*include[[:space:]]*[<"]\([^>"]*\)[>"].*/\1/p' "$f" | sed "s|^|$f |"
done >"$list"
confined() # HEADER-PATTERN ALLOWED-FILES-PATTERN
{
	grep -E " $1$" "$list" | grep -vE "^($2) " | while read -r file header; do echo "$file includes $header"; done
}
bad=$(
	grep -E '^engine/' "$list" | grep -E ' (\.\./)*(transport|tools)/' || true
	grep -E '^transport/' "$list" | grep -E ' (\.\./)*(engine|tools)/' || true
	grep -E '^include/' "$list" | grep -E ' (\.\./)*(engine|transport|tools)/' || true
	grep -E '^tools/' "$list" | grep -E ' (\.\./)*(engine|transport)/' || true
	confined 'liburing\.h' 'engine/io/uring\.c'
	confined 'zstd(_errors)?\.h' 'engine/delta/zstd\.c'
	confined 'jansson\.h' 'engine/base/json\.c'
	confined 'openssl/.*' 'engine/base/digest\.c|engine/sign/evp\.c'
	confined 'libssh2.*\.h' 'transport/ssh[a-z_]*\.c'
	confined 'librsync\.h' 'engine/delta/rdiff_child\.c'
	confined '(cyaml/.*|yaml\.h)' 'engine/config/yaml\.c'
	confined 'seccomp\.h' 'engine/base/calls\.c'
)
[ -z "$bad" ] || wrong "$bad"
# What only tests may ask of Landlock.
held=$(grep -rl landlock_hold_to engine transport tools include | grep -vE '^engine/base/landlock\.[ch]$' || true)
[ -z "$held" ] || wrong "landlock_hold_to is for tests, and used in $held"
grep -rq landlock_hold_to tests/hostile || wrong "no test holds Landlock to an older interface"
# Every confined library is used where it may be, else this check reads the wrong place.
for pair in 'engine/io/uring.c liburing.h' 'engine/delta/zstd.c zstd.h' 'engine/base/json.c jansson.h' 'transport/ssh.* libssh2.h' 'engine/delta/rdiff_child.c librsync.h' \
	'engine/base/calls.c seccomp.h' 'engine/config/yaml.c cyaml/cyaml.h' 'engine/base/digest.c openssl/evp.h' 'engine/sign/evp.c openssl/evp.h'; do
	grep -qE "^$pair$" "$list" || wrong "expected include is not there: $pair"
done
closing "$(wc -l <"$list")" "include lines of $(cut -d' ' -f1 "$list" | sort -u | wc -l) files"
