#!/bin/sh
# SPDX-License-Identifier: MIT
# A hostile source over real ssh, with a valid key: noise, a frame of 4 GiB, a frame that drips, answers sent as requests, 50 sessions at once, one that is killed in
# the middle of a segment. Every receiver ends with its session; afterwards the points of before are what they were, verify finds nothing, the honest sender goes on.
# (What a session's content can try is tests/unit/hostile.)
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario hostile
lab_up
frames=$bin/tests/hostile/frames
[ -x "$frames" ] || fail "$frames is missing: run make tests"

make_image "$work/a.img" 8
exits 0 "first copy" replicate erp vol="$work/a.img"
cp "$work/a.img" "$work/point-1.img"
scribble "$work/a.img" 20
exits 0 "a second point" replicate erp vol="$work/a.img"
cp "$work/a.img" "$work/point-2.img"
make_image "$work/c.img" 4
exits 0 "another group" replicate crm vol="$work/c.img"
point_digests erp >"$work/before"
point_digests crm >>"$work/before"

host=${SOSIE_TO#*@}
attack() # MODE [INPUT OUTPUT]: its standard output in $work/out, or OUTPUT
{
	timeout 120 "$frames" "$1" erp ssh -F none -T -p "${host#*:}" -i "$SOSIE_IDENTITY" -o IdentitiesOnly=yes -o BatchMode=yes \
		-o UserKnownHostsFile="$SOSIE_KNOWN_HOSTS" -o LogLevel=ERROR "${SOSIE_TO%@*}@${host%:*}" anything <"${2:-/dev/null}" >"${3:-$work/out}" 2>"$work/err"
}
no_receiver() { [ -z "$(receivers)" ]; }
done_with() # MODE WELCOMES…: it ran, the receivers have gone, nothing has changed
{
	says "ended $1: .* ($2) welcomes"
	within 20 "no receiver is left after $1" no_receiver
	point_digests erp >"$work/after"
	point_digests crm >>"$work/after"
	same_bytes "points after $1" "$work/before" "$work/after"
}

must "noise" attack garbage
done_with garbage 0
must "a frame of 4 GiB" attack giant
done_with giant 1
must "answers sent as requests" attack wrong
done_with wrong 9
must "a session killed in the middle of a segment" attack killed
done_with killed 1
must "50 sessions at once" attack sessions
done_with sessions 50

# More than the keeper takes in one turn: it goes on with the rest at once, not at its next look.
inbox=$SOSIE_STORE/acme/_inbox/erp
for i in $(seq 400); do echo '{}' >"$inbox/$(printf '%032x' "$i").manifest"; done
no_manifest() { [ -z "$(find "$inbox" -name '*.manifest')" ]; }
within 20 "400 uploads of nothing are refused" no_manifest

# It waits for the rest of a frame as long as its limit allows, and not a moment longer than its input is open.
mkfifo "$work/fifo"
attack drip "$work/fifo" "$work/drip" &
dripping=$!
exec 7>"$work/fifo"
within 20 "three bytes of a frame are on their way" grep -q dripping "$work/drip"
[ -n "$(receivers)" ] || fail "the receiver does not wait for the rest of the frame"
ok "its receiver waits for the rest"
scribble "$work/c.img" 5
exits 0 "the honest sender beside it" replicate crm vol="$work/c.img"
point_digests erp >"$work/before"
point_digests crm >>"$work/before"
echo >&7
exec 7>&-
must "the dripping session ends" wait "$dripping"
mv "$work/drip" "$work/out"
done_with drip 1

for point in 1 2; do point_is erp "$point" vol "$work/point-$point.img"; done
whole erp
whole crm
scribble "$work/a.img" 20
exits 0 "the honest sender goes on" replicate erp vol="$work/a.img"
point_is erp 3 vol "$work/a.img"
whole erp
finish
