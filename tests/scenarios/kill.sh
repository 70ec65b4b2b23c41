#!/bin/sh
# SPDX-License-Identifier: MIT
# kill -9 of sender, keeper and receiver in turn at random moments of a cycle: earlier points stay whole and unchanged, the next run goes on, what is accepted
# is the image to the byte. Only kills that hit a living process in the middle of a cycle count.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario kill
lab_up
wanted=$(rounds 15 100)

make_image "$work/erp.img" 24
began=$(millis)
exits 0 "first copy" replicate erp "$work/erp.img"
first_ms=$(($(millis) - began))
scribble "$work/erp.img" 40
began=$(millis)
exits 0 "second point" replicate erp "$work/erp.img"
cycle_ms=$(($(millis) - began))
echo "  a first copy takes $first_ms ms, a change $cycle_ms ms"

killed=0 sender_kills=0 keeper_kills=0 receiver_kills=0 tries=0
while [ "$killed" -lt "$wanted" ]; do
	tries=$((tries + 1))
	[ "$tries" -le $((wanted * 4)) ] || fail "only $killed of $wanted kills hit in $tries tries"
	# Every fourth round is a first copy of a group of its own.
	group=erp span=$cycle_ms
	if [ $((tries % 4)) -eq 0 ]; then
		group=g$tries span=$first_ms
	fi
	scribble "$work/erp.img" 40
	[ "$group" != erp ] || point_digests erp >"$work/before"
	replicate_start "$group" erp="$work/erp.img"
	random $((span + 1))
	nap "$rnd"
	hit=0
	case $((tries % 3)) in
	0) if kill -0 "$sender" 2>/dev/null && kill -KILL "$sender" 2>/dev/null; then
		hit=1 sender_kills=$((sender_kills + 1))
	fi ;;
	1) if kill -0 "$sender" 2>/dev/null; then
		"$lab" keeper "$here" kill
		hit=1 keeper_kills=$((keeper_kills + 1))
	fi ;;
	2) for pid in $(receivers); do
		if kill -KILL "$pid" 2>/dev/null; then hit=1; fi
	done
		receiver_kills=$((receiver_kills + hit)) ;;
	esac
	"$lab" keeper "$here" start
	wait "$sender" 2>/dev/null || true
	killed=$((killed + hit))
	replicate_until_done "$group" erp="$work/erp.img"
	if [ "$group" = erp ]; then
		point_digests erp >"$work/after"
		head -n "$(wc -l <"$work/before")" "$work/after" | cmp -s - "$work/before" || fail "points changed after kill $killed"
	fi
	rm -rf "$work/export"
	"$sosie" export --store "$SOSIE_STORE" "acme/$group" --into "$work/export" >"$work/out" 2>"$work/err" || fail "export after kill $killed"
	cmp "$work/export/erp.raw" "$work/erp.img" >"$work/out" 2>&1 || fail "kill $killed: the newest point is not the image"
	checks=$((checks + 2))
done
whole erp
echo "rounds: $killed kills, $sender_kills sender-kills, $keeper_kills keeper-kills, $receiver_kills receiver-kills"
finish "$killed kills (sender $sender_kills, keeper $keeper_kills, receiver $receiver_kills) in $tries rounds"
