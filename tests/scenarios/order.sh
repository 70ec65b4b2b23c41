#!/bin/sh
# SPDX-License-Identifier: MIT
# I4 end to end: two volumes under a writer that alternates between them, the sender killed at a random instant, and every time the newest accepted point holds a
# write only with all that was durable before it, and all that was durable when that sender began. XFS with its writers paused by their cgroup, btrfs by one snapshot; O_DIRECT|O_DSYNC and fsync'd writers.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario order
need_loop xfs btrfs
# On each filesystem, half of them for each kind of writer.
wanted=$((($(rounds 4 50) + 1) / 2))

cgroup=
writer=
end_writer()
{
	[ -z "$writer" ] || kill -TERM "$writer" 2>/dev/null || true
	[ -z "$writer" ] || wait "$writer" 2>/dev/null || true
	writer=
	if [ -n "$cgroup" ] && [ -d "$cgroup" ]; then
		echo 0 >"$cgroup/cgroup.freeze"
		rmdir "$cgroup" 2>/dev/null || { nap 200 && rmdir "$cgroup"; } || true
	fi
}
at_end=end_writer

start_writer() # MODE
{
	if [ -n "$cgroup" ]; then
		sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$cgroup" "$bin/tests/judge/order_writer" "$1" \
			"$LAB_SRC/a.raw" "$LAB_SRC/b.raw" "$work/log" >"$work/writer.out" 2>&1 &
	else
		"$bin/tests/judge/order_writer" "$1" "$LAB_SRC/a.raw" "$LAB_SRC/b.raw" "$work/log" >"$work/writer.out" 2>&1 &
	fi
	writer=$!
}
mirror() # ARGUMENT…: the loop in the background
{
	"$sosie" replicate --to "$SOSIE_TO/acme/$group" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$(state_of "$group")" --interval 100ms --max-stall 0 "$@" a="$LAB_SRC/a.raw" b="$LAB_SRC/b.raw" \
		>>"$work/mirror.out" 2>>"$work/mirror.err" </dev/null &
	sender=$!
}
durable() # prints the number up to which all is durable in the volumes
{
	d_text=$(cut -d ' ' -f 2 "$work/log" 2>/dev/null | sed 's/^0*//')
	echo "${d_text:-0}"
}
some_durable() { [ "$(durable)" -ge 8 ]; }
wait_point() # ABOVE
{
	p_end=$(($(millis) + 30000))
	while [ "$(newest "$group")" -le "$1" ]; do
		[ "$(millis)" -lt "$p_end" ] || fail "no point above $1 within half a minute: $(tail -n 3 "$work/mirror.err")"
		nap 50
	done
}
judge() # MODE LEAST
{
	rm -rf "$work/export"
	"$sosie" export --store "$SOSIE_STORE" "acme/$group" --into "$work/export" >"$work/out" 2>"$work/err" || fail "export"
	"$bin/tests/judge/order_judge" "$1" "$work/export/a.raw" "$work/export/b.raw" "$2" >"$work/out" 2>&1 ||
		fail "$fs, $1: $(tail -n 1 "$work/out")"
	checks=$((checks + 1))
}

total=0
for fs in xfs btrfs; do
	lab_up "lab-$fs" --fs "$fs" --size 2G
	if [ "$fs" = xfs ]; then
		top=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
		[ -n "$top" ] || skip "needs cgroup v2"
		cgroup=$top/sosie-order-$$
		mkdir "$cgroup" 2>/dev/null || {
			cgroup=
			skip "cannot make a cgroup in $top"
		}
		set -- --source reflink --pause "cgroup:$cgroup"
	else
		cgroup=
		set -- --source btrfs
	fi
	for mode in direct buffered; do
		group=$mode
		rm -f "$LAB_SRC/a.raw" "$LAB_SRC/b.raw"
		truncate -s 16M "$LAB_SRC/a.raw" "$LAB_SRC/b.raw"
		rm -f "$work/log"
		start_writer "$mode"
		: >"$work/mirror.out"
		: >"$work/mirror.err"
		within 30 "$fs, $mode: the writer writes" some_durable
		round=0
		while [ "$round" -lt "$wanted" ]; do
			round=$((round + 1))
			before=$(newest "$group") least=$(durable)
			mirror "$@"
			# The first new point may be the one that the last sender had cut; the second is of this one.
			wait_point "$((before + 1))"
			random 400
			nap "$rnd"
			kill -KILL "$sender" 2>/dev/null || fail "$fs, $mode: the sender ended by itself: $(tail -n 3 "$work/mirror.err")"
			wait "$sender" 2>/dev/null || true
			kill -0 "$writer" 2>/dev/null || fail "$fs, $mode: the writer ended: $(cat "$work/writer.out")"
			judge "$mode" "$least"
			total=$((total + 1))
		done
		! grep -qi fuzzy "$work/mirror.out" || fail "$fs, $mode: a point was fuzzy"
		kill -TERM "$writer"
		wait "$writer" 2>/dev/null || true
		writer=
		ok "$fs, $mode: I4 held after $wanted kills, at point $(newest "$group")"
	done
	whole direct
	end_writer
	"$lab" down "$here"
done
echo "rounds: $total kills"
finish "$total kills"
