#!/bin/sh
# SPDX-License-Identifier: MIT
# A cutover killed at random instants, then given again: it finishes, the images are the point's, and the sender of before is refused for ever.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario cutover-kill
lab_up
wanted=$(rounds 6 40)

make_image "$work/erp.img" 12
exits 0 "a group" replicate probe "$work/erp.img"
began=$(millis)
exits 0 "a cutover, for its time" "$sosie" cutover --store "$SOSIE_STORE" acme/probe --yes --into "$work/probe"
span=$(($(millis) - began))
echo "  a cutover takes $span ms"

killed=0 tries=0
while [ "$killed" -lt "$wanted" ]; do
	tries=$((tries + 1))
	[ "$tries" -le $((wanted * 5)) ] || fail "only $killed of $wanted kills hit in $tries tries"
	group=c$tries
	scribble "$work/erp.img" 3
	replicate_until_done "$group" "$work/erp.img"
	# By rename in place, by copy elsewhere, in turn.
	set -- --yes
	where=$SOSIE_STORE/acme/$group/live
	if [ $((tries % 2)) -eq 0 ]; then
		where=$work/into-$group
		set -- --yes --into "$where"
	fi
	"$sosie" cutover --store "$SOSIE_STORE" "acme/$group" "$@" >"$work/bg.out" 2>"$work/bg.err" </dev/null &
	pid=$!
	random $((span + 1))
	nap "$rnd"
	if kill -KILL "$pid" 2>/dev/null; then
		status=0
		wait "$pid" 2>/dev/null || status=$?
		[ "$status" -ne 137 ] || killed=$((killed + 1))
	else
		wait "$pid" || fail "a cutover that was left alone: exit $?"
	fi
	exits 0 "try $tries: given again" "$sosie" cutover --store "$SOSIE_STORE" "acme/$group" "$@"
	same_bytes "try $tries: the image" "$(find "$where" -name erp.raw)" "$work/erp.img"
	exits 0 "try $tries: and again" "$sosie" cutover --store "$SOSIE_STORE" "acme/$group" "$@"
	status=0
	replicate "$group" "$work/erp.img" || status=$?
	equal "try $tries: the sender is fenced" "$status" 3
	rm -rf "$work/into-$group"
done
echo "rounds: $killed cutover-kills"
finish "$killed kills of a cutover in $tries rounds"
