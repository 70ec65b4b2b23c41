#!/bin/sh
# SPDX-License-Identifier: MIT
# What a policy lets go goes, what it keeps can be taken out and is the source, to the byte; what shortens waits; pins; a clock that has jumped.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario retention
lab_up

# Each point is other noise: segments outweigh a copy of the images, so that points go also where there is no reflink.
next_point() # NUMBER
{
	dd if=/dev/urandom of="$work/erp.img" bs=1M count=4 conv=notrunc status=none
	exits 0 "point $1" replicate erp "$work/erp.img"
	cp "$work/erp.img" "$work/point.$1"
}
for n in 1 2 3 4 5 6; do next_point "$n"; done
# From here on nothing is pruned but by the commands.
"$lab" keeper "$here" stop

exits 0 "policy of a store that has none" "$sosie" policy show --store "$SOSIE_STORE" acme/erp
says 'Every point is kept: there is no floor and no wish'
exits 0 "prune keeps everything" "$sosie" prune --store "$SOSIE_STORE"
says 'nothing went: the policy keeps everything'
exits 2 "a policy of no sense" "$sosie" policy set --store "$SOSIE_STORE" acme/erp wish.yearly=1
exits 2 "policy without a second word" "$sosie" policy
exits 0 "help" "$sosie" policy set --help

# What may let points go waits, is listed, and can be taken back.
exits 0 "less is kept" "$sosie" policy set --store "$SOSIE_STORE" acme/erp wish.all=0
says 'holds from .* on: points may go by it'
exits 0 "it waits" "$sosie" policy show --store "$SOSIE_STORE" acme/erp --json
json '.keeps_everything and (.changes | length) == 1 and .changes[0].key == "wish.all"'
id=$(jq -r '.changes[0].id' "$work/out")
exits 0 "nothing goes before" "$sosie" prune --store "$SOSIE_STORE" acme/erp --json
json '.groups == [{"tenant": "acme", "group": "erp", "points": 0, "bytes": 0, "generations": 0, "keeps_everything": true}]'
"$sosie" status --store "$SOSIE_STORE" acme/erp >"$work/out" || true
says '6 points kept \(the policy keeps everything\), 0 pruned; 1 change of the policy waits'
says 'from .* UTC: wish.all = 0 s \(group\)'
exits 0 "taken back" "$sosie" policy cancel --store "$SOSIE_STORE" "$id"
exits 1 "there is no such change any more" "$sosie" policy cancel --store "$SOSIE_STORE" "$id"

# A store whose delay is over.
printf '{"format":1,"values":{"delay":0},"changes":[]}\n' >"$SOSIE_STORE/policy.json"
exits 0 "less is kept, at once" "$sosie" policy set --store "$SOSIE_STORE" acme/erp wish.all=0
says 'holds now'
exits 0 "pin" "$sosie" pin --store "$SOSIE_STORE" acme/erp --point 1 --reason 'before the upgrade'
exits 0 "pins" "$sosie" pin list --store "$SOSIE_STORE"
says 'acme/erp +point 1 +since .*: before the upgrade'
exits 2 "pin without a point" "$sosie" pin --store "$SOSIE_STORE" acme/erp
exits 1 "unpin what is not pinned" "$sosie" unpin --store "$SOSIE_STORE" acme/erp --point 3

exits 0 "what would go" "$sosie" prune --store "$SOSIE_STORE" acme/erp --dry-run
says '2-5 +goes: no rule of the policy keeps it'
says '1 +stays: pinned'
says '6 +stays: newest'
says '4 points would go, about'
for n in 1 2 3 4 5 6; do point_is erp "$n" erp "$work/point.$n"; done

exits 0 "prune" "$sosie" prune --store "$SOSIE_STORE" acme --json
json '.groups[0].points == 4'
for n in 1 6; do point_is erp "$n" erp "$work/point.$n"; done
exits 1 "export of what went" "$sosie" export --store "$SOSIE_STORE" acme/erp --point 3 --into "$work/x"
says 'point 3 was pruned at .* by the policy'
says 'the nearest that are there: 1 and 6'
exits 1 "verify of what went" "$sosie" verify --store "$SOSIE_STORE" acme/erp --point 5
exits 1 "cutover to what went" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --point 3 --yes
says 'was pruned'
exits 0 "points" "$sosie" points --store "$SOSIE_STORE" acme/erp
says '2-5 +pruned .* by policy'
says '6 .* newest'
says 'WHOLE'
says_not 'verified'
exits 0 "points as a document" "$sosie" points --store "$SOSIE_STORE" acme/erp --json
json '([.points[].point] == [1, 6]) and ([.pruned[] | [.first, .last]] == [[2, 5]])'
whole erp
"$sosie" status --store "$SOSIE_STORE" acme/erp >"$work/out" || true
says '2 points kept, 4 pruned'
exits 0 "an objective" "$sosie" policy set --store "$SOSIE_STORE" acme rpo=1000d
"$sosie" status --store "$SOSIE_STORE" acme/erp >"$work/out" || true
says 'objective +1000 d: not late'
exits 0 "another" "$sosie" policy set --store "$SOSIE_STORE" acme/erp rpo=1ms
"$sosie" status --store "$SOSIE_STORE" acme/erp >"$work/out" || true
says 'objective +1 ms: LATE'

# On it goes; while the keeper runs nothing is to go.
exits 0 "more is kept" "$sosie" policy set --store "$SOSIE_STORE" acme/erp wish.all=inherit
exits 0 "unpin" "$sosie" unpin --store "$SOSIE_STORE" acme/erp --point 1
"$lab" keeper "$here" start
next_point 7
next_point 8
point_is erp 8 erp "$work/erp.img"
"$lab" keeper "$here" stop
exits 0 "less is kept" "$sosie" policy set --store "$SOSIE_STORE" acme/erp wish.all=0
exits 0 "prune" "$sosie" prune --store "$SOSIE_STORE" acme/erp
point_is erp 8 erp "$work/erp.img"
whole erp
exits 0 "points" "$sosie" points --store "$SOSIE_STORE" acme/erp --json
json '[.points[].point] == [8]'
equal "no segment of what went is left" "$(find "$SOSIE_STORE/acme/erp/journal" -type f | wc -l)" 1

# A clock that was a day ahead when it was noted last, in another boot.
day=$(date -u -d '+1 day' +%Y-%m-%dT%H:%M:%S.000Z)
printf '{"format":1,"wall":"%s","boottime_ms":5,"boot":"another","drift_ms":0,"jump":null}\n' "$day" >"$SOSIE_STORE/clock.json"
exits 3 "prune by a clock that went back" "$sosie" prune --store "$SOSIE_STORE" acme/erp
says 'nothing is pruned: the wall clock went back by'
exits 5 "status" "$sosie" status --store "$SOSIE_STORE"
says 'has JUMPED'
exits 0 "the clock is right" "$sosie" clock accept --store "$SOSIE_STORE" --reason 'asked the other clock'
exits 0 "prune goes on" "$sosie" prune --store "$SOSIE_STORE" acme/erp

# A part that is missing and was not let go is damage.
find "$SOSIE_STORE/acme/erp/journal" -name '8.seg' -delete
exits 5 "verify" "$sosie" verify --store "$SOSIE_STORE" acme/erp
says 'journal/8.seg: it is missing'
finish
