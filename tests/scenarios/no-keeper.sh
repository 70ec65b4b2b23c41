#!/bin/sh
# SPDX-License-Identifier: MIT
# No keeper runs at the standby: what was sent is durable, the sender is told what is missing there (exit 4); when the keeper comes, it becomes a point without being sent again.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario no-keeper
lab_up

make_image "$work/erp.img" 32
exits 0 "first copy" replicate erp "$work/erp.img"
"$lab" keeper "$here" stop
scribble "$work/erp.img" 20
exits 4 "without a keeper" replicate erp --accept-wait 2s "$work/erp.img"
says keeper
equal "not a point yet" "$(newest erp)" 1
find "$SOSIE_STORE/acme/_inbox/erp" -name '*.manifest' | grep -q . || fail "nothing durable in the inbox"
ok "durable in the inbox"
exits 5 "status without a keeper, with an upload that waits" "$sosie" status --store "$SOSIE_STORE" acme/erp
says keeper
"$lab" keeper "$here" start
left=100
until [ "$(newest erp)" -eq 2 ]; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "the keeper does not accept what waited"
	nap 100
done
ok "accepted as soon as the keeper came"
point_is erp 2 erp "$work/erp.img"
exits 0 "nothing is left to send" replicate erp "$work/erp.img"
equal "and no point was made of it" "$(newest erp)" 2

# Cutover needs no keeper, and takes along what waited.
"$lab" keeper "$here" stop
scribble "$work/erp.img" 20
exits 4 "without a keeper" replicate erp --accept-wait 2s "$work/erp.img"
exits 0 "cutover without a keeper" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes
same_bytes "the live image has what waited" "$(find "$SOSIE_STORE/acme/erp/live" -name erp.raw)" "$work/erp.img"
finish
