#!/bin/sh
# SPDX-License-Identifier: MIT
# Real power cuts of the standby's filesystem (ext4 and XFS on loop devices) while a cycle runs: everything that was not synced is gone. After the mount every point
# that had been accepted is there, unchanged and whole, and the sender goes on.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario power-cut
need_loop ext4 xfs
command -v xfs_io >/dev/null || skip "needs xfs_io"
wanted=$(rounds 4 20)

cut_power()
{
	xfs_io -x -c shutdown "$here/standby" || fail "the filesystem does not shut down"
	"$lab" keeper "$here" kill
	wait "$sender" 2>/dev/null || true
	for pid in $(receivers); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	left=50
	until umount "$here/standby" 2>/dev/null; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || fail "the filesystem stays busy"
		nap 100
	done
	mount -o loop "$here/standby.img" "$here/standby" || fail "the filesystem does not mount again"
	"$lab" keeper "$here" start || fail "the keeper does not start after the cut"
}

cuts=0 in_flight=0
for fs in ext4 xfs; do
	lab_up "lab-$fs" --fs "$fs" --size 1G
	make_image "$work/erp.img" 16
	exits 0 "$fs: first copy" replicate erp "$work/erp.img"
	scribble "$work/erp.img" 60
	began=$(millis)
	exits 0 "$fs: second point" replicate erp "$work/erp.img"
	span=$(($(millis) - began))
	done_here=0
	while [ "$done_here" -lt $(((wanted + 1) / 2)) ]; do
		scribble "$work/erp.img" 60
		point_digests erp >"$work/before"
		replicate_start erp "$work/erp.img"
		random $((span + 100))
		nap "$rnd"
		if kill -0 "$sender" 2>/dev/null; then in_flight=$((in_flight + 1)); fi
		cut_power
		done_here=$((done_here + 1))
		point_digests erp >"$work/after"
		head -n "$(wc -l <"$work/before")" "$work/after" | cmp -s - "$work/before" || fail "$fs: cut $done_here changed points"
		replicate_until_done erp "$work/erp.img"
		rm -rf "$work/export"
		"$sosie" export --store "$SOSIE_STORE" acme/erp --into "$work/export" >"$work/out" 2>"$work/err" || fail "$fs: export after cut $done_here"
		cmp "$work/export/erp.raw" "$work/erp.img" >"$work/out" 2>&1 || fail "$fs: cut $done_here: the newest point is not the image"
		checks=$((checks + 2))
	done
	cuts=$((cuts + done_here))
	whole erp
	"$lab" down "$here"
done
[ "$in_flight" -gt 0 ] || fail "no cut hit a running cycle"
echo "rounds: $cuts power-cuts, $in_flight in-flight-cuts"
finish "$cuts power cuts, $in_flight of them while a cycle ran"
