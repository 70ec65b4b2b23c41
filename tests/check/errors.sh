#!/bin/sh
# SPDX-License-Identifier: MIT
# Every error code of include/sosie/err.h stands in docs/operating.md with its class and exit code.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
n=0
codes=$(mktemp)
trap 'rm -f "$codes"' EXIT
sed -n 's/^[[:space:]]*X(SOSIE_[A-Z]*, *[0-9]*, *"\([a-z-]*\)", *\([A-Z]*\)).*/\1 \2/p' include/sosie/err.h >"$codes"
while read -r code class; do
	[ "$code" != ok ] || continue
	n=$((n + 1))
	class=$(echo "$class" | tr '[:upper:]' '[:lower:]')
	case $class in usage) exit=2 ;; retry) exit=4 ;; operator) exit=3 ;; *) exit=1 ;; esac
	grep -qE "^\| \`$code\` \| $class \| $exit \|" docs/operating.md || wrong "docs/operating.md has no row: | \`$code\` | $class | $exit |"
done <"$codes"
# shellcheck disable=SC2013,SC2016 # words; backquotes of Markdown
for code in $(sed -n 's/^| `\([a-z-]*\)` | \(usage\|retry\|fatal\|operator\) .*/\1/p' docs/operating.md); do
	grep -q "^$code " "$codes" || wrong "docs/operating.md names the code $code, which does not exist"
done
closing "$n" "error codes"
