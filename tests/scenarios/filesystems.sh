#!/bin/sh
# SPDX-License-Identifier: MIT
# The same on filesystems with reflink (XFS, btrfs) and without (ext4): points, export, generations, cutover. And the lab itself: down twice, down after a crash.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario filesystems
need_loop xfs btrfs ext4

for fs in xfs btrfs ext4; do
	lab_up "lab-$fs" --fs "$fs" --size 2G
	make_image "$LAB_SRC/erp.img" 24
	exits 0 "$fs: first copy" replicate erp "$LAB_SRC/erp.img"
	cp "$LAB_SRC/erp.img" "$work/first.img"
	scribble "$LAB_SRC/erp.img" 20
	exits 0 "$fs: a change" replicate erp "$LAB_SRC/erp.img"
	point_is erp 1 erp "$work/first.img"
	point_is erp 2 erp "$LAB_SRC/erp.img"
	exits 0 "$fs: status" "$sosie" status --store "$SOSIE_STORE" acme/erp
	whole erp
	exits 0 "$fs: cutover" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes
	same_bytes "$fs: live image" "$(find "$SOSIE_STORE/acme/erp/live" -name erp.raw)" "$LAB_SRC/erp.img"
	if [ "$fs" = ext4 ]; then
		# As after a crash of whatever used it: keeper and sshd gone, a file still open on the mount.
		kill -KILL "$LAB_KEEPER_PID" "$SOSIE_SSHD_PID"
	fi
	must "$fs: down" "$lab" down "$here"
	must "$fs: down twice" "$lab" down "$here"
	[ ! -e "$here" ] || fail "$here is still there"
	if losetup -a | grep -qF "$here"; then fail "a loop device is left"; fi
	if kill -0 "$LAB_KEEPER_PID" 2>/dev/null && grep -qs sosie-keeper "/proc/$LAB_KEEPER_PID/cmdline"; then fail "the keeper is left"; fi
done
mkdir "$work/precious"
: >"$work/precious/file"
status=0
"$lab" down "$work/precious" 2>"$work/err" || status=$?
[ "$status" -ne 0 ] && [ -e "$work/precious/file" ] || fail "down removed a folder that is no lab"
ok "down leaves alone what is no lab"
finish
