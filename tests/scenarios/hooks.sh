#!/bin/sh
# SPDX-License-Identifier: MIT
# The user's commands around a cut: frozen and thawed, views made and let go, and what the label says; a hook that fails leaves nothing frozen.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario hooks
lab_up
make_image "$work/erp.img" 4
label() { "$sosie" points --store "$SOSIE_STORE" acme/erp --json | jq -r '.points | max_by(.point).consistency'; }

exits 0 "no hooks" replicate erp "$work/erp.img"
equal "label without hooks" "$(label)" fuzzy
log=$work/hooks.log
scribble "$work/erp.img" 2
exits 0 "frozen and thawed" replicate erp --freeze "echo freeze >>$log" --thaw "echo thaw >>$log" "$work/erp.img"
equal "order" "$(tr '\n' ' ' <"$log")" "freeze thaw "
[ "$(label)" != fuzzy ] || fail "frozen until all was read, but the label is fuzzy"
ok "label: $(label)"
: >"$log"
scribble "$work/erp.img" 2
status=0
replicate erp --freeze "echo freeze >>$log; exit 7" --thaw "echo thaw >>$log" "$work/erp.img" || status=$?
grep -q thaw "$log" || fail "freeze failed and nothing thawed (exit $status)"
ok "thawed although freeze failed (exit $status)"
: >"$log"
cp "$work/erp.img" "$work/snap.img"
scribble "$work/erp.img" 1
cp "$work/erp.img" "$work/snap.img"
exits 0 "a view" replicate erp --view "echo erp=$work/snap.img; echo view >>$log" --view-done "echo done >>$log" "$work/erp.img"
equal "order" "$(tr '\n' ' ' <"$log")" "view done "
point_is erp "$(newest erp)" erp "$work/snap.img"
: >"$log"
status=0
replicate erp --view "echo view >>$log; exit 3" --view-done "echo done >>$log" "$work/erp.img" || status=$?
[ "$status" -ne 0 ] || fail "a view command failed and the run says 0"
grep -q 'done' "$log" || fail "view-done did not run after view failed"
ok "view-done ran although view failed (exit $status)"

# Killed while frozen: somebody still thaws.
: >"$log"
scribble "$work/erp.img" 400
replicate_start erp --read-rate 256K --freeze "echo freeze >>$log" --thaw "echo thaw >>$log" "$work/erp.img"
left=100
until grep -q freeze "$log"; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "it does not freeze"
	nap 50
done
kill -KILL "$sender"
wait "$sender" 2>/dev/null || true
left=100
until grep -q thaw "$log"; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "killed while frozen, and nobody thaws"
	nap 100
done
ok "thawed after kill -9 of the frozen sender"
finish
