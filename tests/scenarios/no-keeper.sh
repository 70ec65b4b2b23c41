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

left=100
until "$sosie" status --store "$SOSIE_STORE" acme/erp --json | jq -e '.groups[0].same_time' >/dev/null; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "the keeper does not note that nothing had changed"
	nap 100
done
exits 3 "plan of a cutover, without consent" "$sosie" cutover --store "$SOSIE_STORE" acme/erp
says 'nothing is known to be lost: the source said .* ago'
exits 3 "the same as a document" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --json
json '.plan | .same_time != null and .volumes == [{"volume": "erp", "size": 33554432}] and .volumes_gone == []'

# The plan names what the point before had and the point has not.
make_image "$work/a.img" 2
make_image "$work/b.img" 2
exits 0 "two volumes" replicate pair a="$work/a.img" b="$work/b.img"
exits 0 "one is dropped" replicate pair --drop-volume b a="$work/a.img"
exits 3 "plan without the dropped one" "$sosie" cutover --store "$SOSIE_STORE" acme/pair
says 'volumes +a +2 MiB'
says 'NOT in it +b'

# Cutover needs no keeper, and takes along what waited.
"$lab" keeper "$here" stop
scribble "$work/erp.img" 20
exits 4 "without a keeper" replicate erp --accept-wait 2s "$work/erp.img"
exits 0 "cutover without a keeper" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes
same_bytes "the live image has what waited" "$(find "$SOSIE_STORE/acme/erp/live" -name erp.raw)" "$work/erp.img"

# A first upload that no keeper ever took: status tells of it, the others say what to do, and a cutover takes it.
make_image "$work/web.img" 4
exits 4 "first copy without a keeper" replicate web --accept-wait 2s "$work/web.img"
exits 5 "status of a group that is only in the inbox" "$sosie" status --store "$SOSIE_STORE" acme/web
says '1 whole upload,'
exits 5 "status of all" "$sosie" status --store "$SOSIE_STORE" --json
json '.groups[] | select(.group == "web") | .state == "needs-keeper" and .alarm and .point == null and .uploads_committed == 1'
exits 1 "points of it" "$sosie" points --store "$SOSIE_STORE" acme/web
says '1 whole upload waits: run sosie-keeper --store .* --once, then the same command again'
exits 1 "export of it" "$sosie" export --store "$SOSIE_STORE" acme/web --into "$work/x"
exits 0 "cutover of a first upload" "$sosie" cutover --store "$SOSIE_STORE" acme/web --yes
says 'volumes +web'
same_bytes "the live image is the source" "$(find "$SOSIE_STORE/acme/web/live" -name web.raw)" "$work/web.img"
"$sosie" status --store "$SOSIE_STORE" acme/web --json >"$work/out" || true
json '.groups[0] | .state == "cut-over" and .rpo_s == null and .rpo_none == "cut over"'
exits 3 "export into the store" "$sosie" export --store "$SOSIE_STORE" acme/web --into "$SOSIE_STORE/acme/x"
says 'lies in the store'
[ ! -e "$SOSIE_STORE/acme/x" ] || fail "the refused export made its folder"
finish
