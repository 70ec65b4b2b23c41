#!/bin/sh
# SPDX-License-Identifier: MIT
# The main job: first copy, nothing changed, a change, points, export, verify, status, cutover, and what the sender hears afterwards; with each I/O back end.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario first-copy
lab_up

make_image "$work/erp.img" 48
truncate -s 8M "$work/log.raw"
exits 0 "first copy of two volumes" replicate erp "$work/erp.img" logs="$work/log.raw"
equal "one point" "$(newest erp)" 1
point_is erp 1 erp "$work/erp.img"
point_is erp 1 logs "$work/log.raw"
cp --sparse=always "$work/erp.img" "$work/first.img"

exits 0 "nothing changed" replicate erp "$work/erp.img" logs="$work/log.raw"
equal "still one point" "$(newest erp)" 1

# "Nothing changed" makes the RPO small again, soon.
rpo() { "$sosie" status --store "$SOSIE_STORE" acme/erp --json | jq '[.. | .rpo_s? | numbers][0]'; }
until [ "$(rpo)" -ge 4 ]; do nap 100; done
exits 0 "nothing changed, after a while" replicate erp "$work/erp.img" logs="$work/log.raw"
end=$(($(millis) + 2000))
until [ "$(rpo)" -lt 4 ]; do
	[ "$(millis)" -lt "$end" ] || fail "status still says RPO $(rpo) s after \"nothing changed\""
	nap 50
done
ok "status shows it at once"

scribble "$work/erp.img" 30
printf 'a line' | dd of="$work/log.raw" bs=1 seek=5000 conv=notrunc status=none
exits 0 "after a change" replicate erp "$work/erp.img" logs="$work/log.raw"
equal "a second point" "$(newest erp)" 2
point_is erp 2 erp "$work/erp.img"
point_is erp 2 logs "$work/log.raw"
point_is erp 1 erp "$work/first.img"

# A hole made in data arrives as one.
fallocate -p -o 1M -l 2M "$work/erp.img" 2>/dev/null || dd if=/dev/zero of="$work/erp.img" bs=1M seek=1 count=2 conv=notrunc status=none
exits 0 "after punching a hole" replicate erp "$work/erp.img" logs="$work/log.raw"
point_is erp 3 erp "$work/erp.img"

for back_end in uring threads; do
	scribble "$work/erp.img" 5
	SOSIE_IO=$back_end
	export SOSIE_IO
	status=0
	replicate "io-$back_end" "$work/erp.img" || status=$?
	if [ "$status" -ne 0 ] && [ "$back_end" = uring ] && ! "$sosie" status --store "$SOSIE_STORE" >"$work/probe" 2>&1; then
		echo "  note: this kernel refuses io_uring"
	else
		equal "copy with SOSIE_IO=$back_end" "$status" 0
		point_is "io-$back_end" 1 erp "$work/erp.img"
	fi
	unset SOSIE_IO
done

exits 0 points "$sosie" points --store "$SOSIE_STORE" acme/erp --json
json '.schema and .ok == true and (.points | length) == 3'
json '[.points[] | select(.point and .cut_time and .accepted_time and .age_s >= 0 and .digest and .bytes >= 0 and (.consistency | IN("crash","app","fuzzy")) and (.verified | type == "boolean") and (.alarms | type == "array"))] | length == 3'
exits 0 "points --last 1" "$sosie" points --store "$SOSIE_STORE" acme/erp --last 1 --json
json '(.points | length) == 1 and .points[0].point == 3'
exits 0 status "$sosie" status --store "$SOSIE_STORE" acme/erp
exits 0 verify "$sosie" verify --store "$SOSIE_STORE" acme/erp
whole erp

# Cutover without a yes and without a terminal is refused and changes nothing.
exits 3 "cutover without consent" "$sosie" cutover --store "$SOSIE_STORE" acme/erp
scribble "$work/erp.img" 3
exits 0 "still replicating" replicate erp "$work/erp.img" logs="$work/log.raw"
equal "a fourth point" "$(newest erp)" 4
cp --sparse=always "$work/erp.img" "$work/final.img"

exits 0 cutover "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes --json
json '.ok == true'
found=$(find "$SOSIE_STORE/acme/erp/live" -name erp.raw)
same_bytes "live image" "$found" "$work/final.img"
same_bytes "second live image" "$(dirname "$found")/logs.raw" "$work/log.raw"
exits 0 "the same command again" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes --json
exits 3 "cutover into another folder" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes --into "$work/elsewhere" --json
json '.ok == false and .error.code == "other-cutover" and .error.class == "operator"'
exits 3 "cutover to another point" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes --point 1

scribble "$work/erp.img" 3
exits 3 "the sender is fenced" replicate erp "$work/erp.img" logs="$work/log.raw"
says 'cut over|epoch'
same_bytes "live image untouched" "$found" "$work/final.img"
point_is erp 1 erp "$work/first.img"
exits 0 "verify after cutover" "$sosie" verify --store "$SOSIE_STORE" acme/erp

# Into a folder of the operator, of an older point.
make_image "$work/db.img" 8
exits 0 "another group" replicate db "$work/db.img"
cp "$work/db.img" "$work/db1.img"
scribble "$work/db.img" 8
exits 0 "its second point" replicate db "$work/db.img"
exits 0 "cutover into a folder" "$sosie" cutover --store "$SOSIE_STORE" acme/db --point 1 --into "$work/into" --yes
same_bytes "image in that folder" "$work/into/db.raw" "$work/db1.img"
finish
