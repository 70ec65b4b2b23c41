#!/bin/sh
# SPDX-License-Identifier: MIT
# Man pages and --help tell the same options: each option of a page is in the help of the program or one of its verbs, and the reverse.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
helps=$(mktemp)
trap 'rm -f "$helps"' EXIT
# --help and --version are known everywhere and need not be told.
options() { grep -oE -e '(^|[^A-Za-z0-9-])--[a-z][a-z-]+' | grep -oE -e '--[a-z][a-z-]+' | grep -vxE -e '--(help|version)' | sort -u; }
for program in sosie sosied sosie-receive sosie-keeper; do
	"$bin/$program" --help >"$helps" 2>&1 || wrong "$program --help fails"
	if [ "$program" = sosie ]; then
		# The options of replicate are those of sosied, and stand in its page.
		for verb in "store init" "store check" "store key" "tenant add" "tenant set" "tenant show" "alarm list" "alarm close" "key add" "key list" "key revoke" audit keygen card head points verify export cutover status \
			"policy show" "policy set" "policy cancel" pin unpin "pin list" prune "clock accept"; do
			# shellcheck disable=SC2086
			"$bin/sosie" $verb --help >"$helps.verb" 2>&1 || wrong "sosie $verb --help fails"
			grep -q -e '--' "$helps.verb" || wrong "sosie $verb --help names no option"
			cat "$helps.verb" >>"$helps"
			rm -f "$helps.verb"
		done
	fi
	page=$(find docs/man -name "$program.[1-8]")
	[ -n "$page" ] || {
		wrong "$program has no man page"
		continue
	}
	told=$(options <"$helps")
	written=$(mandoc -T ascii "$page" | sed 's/.\x08//g' | options)
	for option in $written; do
		n=$((n + 1))
		echo "$told" | grep -qxF -e "$option" || wrong "$page has $option, which $program --help does not tell"
	done
	for option in $told; do
		echo "$written" | grep -qxF -e "$option" || wrong "$program --help tells $option, which $page does not have"
	done
done
closing "$n" "options in man pages and help"
