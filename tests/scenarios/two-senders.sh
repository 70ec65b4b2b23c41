#!/bin/sh
# SPDX-License-Identifier: MIT
# Two senders on one group. Sharing a state directory the second is told who holds it. With states of their own both may try; every point that gets accepted is one sender's image
# whole, never a mixture, and each run ends with an exit code that says what to do.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario two-senders
lab_up

make_image "$work/a.img" 24
cp "$work/a.img" "$work/b.img"
scribble "$work/b.img" 50
exits 0 "first copy" replicate erp vol="$work/a.img"

# A continuous sender holds the state.
"$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" --state "$(state_of erp)" \
	--interval 1s vol="$work/a.img" >"$work/bg.out" 2>"$work/bg.err" </dev/null &
sender=$!
scribble "$work/a.img" 1
left=100
until [ "$(newest erp)" -ge 2 ]; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "the continuous sender makes no point: $(tail -n 3 "$work/bg.err")"
	nap 100
done
exits 4 "second sender, same state" replicate erp vol="$work/a.img"
says "$sender|held|running|busy"
kill -TERM "$sender"
status=0
wait "$sender" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 4 ] || fail "the continuous sender exits $status on SIGTERM"
ok "the continuous sender ends on SIGTERM (exit $status)"

both=0
for round in $(seq "$(rounds 3 12)"); do
	scribble "$work/a.img" 20
	scribble "$work/b.img" 20
	before=$(newest erp)
	replicate_start erp vol="$work/a.img"
	first=$sender
	"$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" --state "$work/state-b" \
		--once vol="$work/b.img" >"$work/out" 2>"$work/err" </dev/null &
	second=$!
	first_status=0 second_status=0
	wait "$first" || first_status=$?
	wait "$second" || second_status=$?
	case $first_status$second_status in
	[034][034]) ;;
	*) fail "round $round: exits $first_status and $second_status" ;;
	esac
	both=$((both + 1))
	now=$(newest erp)
	[ "$now" -ge "$before" ] || fail "points went away"
	p=$((before + 1))
	while [ "$p" -le "$now" ]; do
		rm -rf "$work/export"
		"$sosie" export --store "$SOSIE_STORE" acme/erp --point "$p" --into "$work/export" >"$work/log" 2>&1 || fail "export of $p"
		cmp -s "$work/export/vol.raw" "$work/a.img" || cmp -s "$work/export/vol.raw" "$work/b.img" ||
			fail "round $round: point $p is neither sender's image"
		p=$((p + 1))
	done
	ok "round $round: exits $first_status and $second_status, points $before to $now"
done
whole erp
echo "rounds: $both sender-pairs"
finish "$both pairs of senders"
