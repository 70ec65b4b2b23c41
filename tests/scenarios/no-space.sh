#!/bin/sh
# SPDX-License-Identifier: MIT
# The standby's disk is full: the sender is told so and may try again, nothing accepted is lost; with room again the same command goes on.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario no-space
need_loop ext4
lab_up lab --fs ext4 --size 768M

make_image "$work/erp.img" 32
exits 0 "first copy" replicate erp "$work/erp.img"
cp "$work/erp.img" "$work/first.img"
free=$(df --output=avail -B1 "$here/standby" | tail -n 1)
fallocate -l $((free - 3 * 1048576)) "$here/standby/filler"
head -c 12M /dev/urandom | dd of="$work/erp.img" bs=1M seek=18 conv=notrunc status=none iflag=fullblock
exits 4 "disk full" replicate erp "$work/erp.img"
says 'space|full'
exits 4 "still full" replicate erp "$work/erp.img"
status=0
"$sosie" status --store "$SOSIE_STORE" acme/erp >"$work/out" 2>"$work/err" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 5 ] || fail "status on a full disk: exit $status"
ok "status on a full disk (exit $status)"
equal "still one point" "$(newest erp)" 1
point_is erp 1 erp "$work/first.img"
rm "$here/standby/filler"
replicate_until_done erp "$work/erp.img"
ok "goes on with room again"
point_is erp "$(newest erp)" erp "$work/erp.img"
whole erp

# Full to the last block: the operator's commands still read, and say why they cannot write.
dd if=/dev/zero of="$here/standby/filler" bs=1M status=none 2>"$work/dd" || true
exits 0 "points on a full disk" "$sosie" points --store "$SOSIE_STORE" acme/erp
status=0
"$sosie" export --store "$SOSIE_STORE" acme/erp --into "$here/standby/export" --json >"$work/out" 2>"$work/err" || status=$?
equal "export onto the full disk" "$status" 4
json '.ok == false and .error.code == "no-space"'
rm -rf "$here/standby/filler" "$here/standby/export"
exits 0 "export with room" "$sosie" export --store "$SOSIE_STORE" acme/erp --into "$here/standby/export"
finish
