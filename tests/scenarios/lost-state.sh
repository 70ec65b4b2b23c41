#!/bin/sh
# SPDX-License-Identifier: MIT
# The source lost its state: digests are compared and only differences sent. The standby lost points: the source stops, shows the loss, and goes on only with consent.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario lost-state
lab_up

head -c 48M /dev/urandom >"$work/erp.img"
exits 0 "first copy" replicate erp "$work/erp.img"
# All parts of a point's segment.
journal_kib() { cat "$SOSIE_STORE/acme/erp/journal/$1".*seg | wc -c | awk '{ print int($1 / 1024) }'; }
[ "$(journal_kib 1)" -gt 40000 ] || fail "the first segment is smaller than its noise"
rm -rf "$state"
scribble "$work/erp.img" 25
exits 0 "after the state was lost" replicate erp "$work/erp.img"
equal "a second point" "$(newest erp)" 2
point_is erp 2 erp "$work/erp.img"
[ "$(journal_kib 2)" -lt 2048 ] || fail "the differences took $(journal_kib 2) KiB"
ok "only differences were sent: $(journal_kib 2) KiB"
rm -rf "$state"
exits 0 "lost again, nothing changed" replicate erp "$work/erp.img"
[ "$(newest erp)" -le 3 ] || fail "points out of nothing"
base=$(newest erp)
point_is erp "$base" erp "$work/erp.img"

# A copy of the store as it is now; later the standby is put back to it.
"$lab" keeper "$here" stop
cp -a "$SOSIE_STORE" "$work/store.copy"
"$lab" keeper "$here" start
scribble "$work/erp.img" 10
exits 0 "one more point" replicate erp "$work/erp.img"
equal "it is there" "$(newest erp)" $((base + 1))
"$lab" keeper "$here" stop
rm -rf "$SOSIE_STORE"
cp -a "$work/store.copy" "$SOSIE_STORE"
"$lab" keeper "$here" start
scribble "$work/erp.img" 10
exits 3 "the standby lacks a point that it had accepted" replicate erp "$work/erp.img"
says 'accept-standby-loss'
exits 3 "and it stays so" replicate erp "$work/erp.img"
equal "nothing was sent" "$(newest erp)" "$base"
exits 0 "with consent" replicate erp --accept-standby-loss "$work/erp.img"
point_is erp "$(newest erp)" erp "$work/erp.img"
scribble "$work/erp.img" 3
exits 0 "consent was for one run, and is not needed again" replicate erp "$work/erp.img"
whole erp

# A state directory that is damaged is not believed.
find "$state" -type f -size +0 | sort >"$work/files"
[ -s "$work/files" ] || fail "no state was kept"
damaged=0
while read -r file; do
	cp -a "$state" "$work/state.copy"
	printf 'garbage' | dd of="$file" conv=notrunc status=none
	scribble "$work/erp.img" 3
	status=0
	replicate erp "$work/erp.img" || status=$?
	if [ "$status" -eq 0 ]; then
		rm -rf "$work/export"
		"$sosie" export --store "$SOSIE_STORE" acme/erp --into "$work/export" >"$work/out" 2>"$work/err" || fail "export"
		cmp "$work/export/erp.raw" "$work/erp.img" >"$work/out" 2>&1 || fail "a damaged $file was believed: wrong point"
	else
		[ "$status" -lt 128 ] || fail "damaged $file: exit $status"
		[ -s "$work/err" ] || fail "damaged $file: no message"
		rm -rf "$state"
		mv "$work/state.copy" "$state"
		rm -rf "$state"
		exits 0 "without the damaged state" replicate erp "$work/erp.img"
	fi
	rm -rf "$work/state.copy"
	damaged=$((damaged + 1))
done <"$work/files"
ok "$damaged damaged state files never led to a wrong point"
point_is erp "$(newest erp)" erp "$work/erp.img"
finish
