#!/bin/sh
# SPDX-License-Identifier: MIT
# What may happen to a volume: odd sizes, grown, shrunk, vanished, replaced by another, another format; and what is refused.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario volumes
lab_up

for size in 1 511 512 513 4095 4096 4097 65535 1048576 1048577; do
	head -c "$size" /dev/urandom >"$work/v.raw"
	exits 0 "volume of $size bytes" replicate "size-$size" "$work/v.raw"
	point_is "size-$size" 1 v "$work/v.raw"
done
: >"$work/empty.raw"
exits 3 "volume of 0 bytes is refused" replicate size-0 "$work/empty.raw"
says 'empty|size|0 bytes'
truncate -s 5G "$work/zero.raw"
exits 0 "a volume that is one hole" replicate hole "$work/zero.raw"
[ "$(du -k "$SOSIE_STORE/acme/hole" | tail -n 1 | cut -f1)" -lt 65536 ] || fail "a hole takes room at the standby"
ok "a hole takes no room at the standby"

make_image "$work/erp.img" 8
exits 0 "first copy" replicate erp "$work/erp.img"
truncate -s 9M "$work/erp.img"
scribble "$work/erp.img" 2
exits 0 "grown" replicate erp "$work/erp.img"
point_is erp 2 erp "$work/erp.img"
truncate -s 10000001 "$work/erp.img"
printf 'end' | dd of="$work/erp.img" bs=1 seek=9999998 conv=notrunc status=none
exits 0 "grown to an odd size" replicate erp "$work/erp.img"
point_is erp 3 erp "$work/erp.img"
truncate -s 5000000 "$work/erp.img"
exits 3 "shrunk is refused" replicate erp "$work/erp.img"
says 'allow-shrink'
exits 3 "and stays refused" replicate erp "$work/erp.img"
equal "no point was made" "$(newest erp)" 3
exits 0 "shrunk with consent" replicate erp --allow-shrink "$work/erp.img"
point_is erp 4 erp "$work/erp.img"

mv "$work/erp.img" "$work/away.img"
status=0
replicate erp "$work/erp.img" || status=$?
[ "$status" -eq 1 ] || [ "$status" -eq 3 ] || fail "a vanished volume: exit $status"
ok "vanished (exit $status)"
says 'erp\.img'
cp "$work/away.img" "$work/erp.img"
exits 3 "another file under the same name is refused" replicate erp "$work/erp.img"
says 'accept-volume'
exits 0 "and taken with consent" replicate erp --accept-volume erp "$work/erp.img"
scribble "$work/erp.img" 2
exits 0 "consent is remembered" replicate erp "$work/erp.img"
point_is erp "$(newest erp)" erp "$work/erp.img"

# A group's volumes: one that is left out, or comes under another name, does not leave silently.
make_image "$work/one.img" 2
make_image "$work/two.img" 2
exits 0 "two volumes" replicate pair a="$work/one.img" b="$work/two.img"
exits 3 "one is left out" replicate pair a="$work/one.img"
says 'volume b was replicated so far and is not given now'
says 'drop-volume b'
truncate -s 1M "$work/two.img"
exits 3 "one shrank and has another name" replicate pair a="$work/one.img" c="$work/two.img"
equal "no point was made" "$(newest pair)" 1
exits 2 "dropped and given" replicate pair --drop-volume b a="$work/one.img" b="$work/two.img"
exits 0 "dropped with consent, another is new" replicate pair --drop-volume b a="$work/one.img" c="$work/two.img"
says 'new volume c.*dropped volume b'
point_is pair 2 c "$work/two.img"
exits 0 "consent is remembered" replicate pair a="$work/one.img" c="$work/two.img"

# Formats that are not raw.
head -c 1M /dev/zero >"$work/disk.qcow2"
printf 'QFI\373\0\0\0\003' | dd of="$work/disk.qcow2" conv=notrunc status=none
exits 3 "qcow2 is refused" replicate qcow "$work/disk.qcow2"
says 'qemu-img convert'
exits 0 "qcow2 as bytes" replicate qcow --opaque disk "$work/disk.qcow2"
point_is qcow 1 disk "$work/disk.qcow2"
head -c 1M /dev/zero >"$work/disk.vmdk"
printf 'KDMV\001\0\0\0' | dd of="$work/disk.vmdk" conv=notrunc status=none
exits 3 "VMDK is refused" replicate vmdk "$work/disk.vmdk"
says 'qemu-img convert'
head -c 1M /dev/zero >"$work/disk.vhdx"
printf 'vhdxfile' | dd of="$work/disk.vhdx" conv=notrunc status=none
exits 3 "VHDX is refused" replicate vhdx "$work/disk.vhdx"
says 'qemu-img convert'

status=0
replicate twice "$work/erp.img" "$work/away.img" erp="$work/away.img" || status=$?
[ "$status" -eq 2 ] || [ "$status" -eq 3 ] || fail "two volumes of one name: exit $status"
ok "two volumes of one name are refused (exit $status)"
status=0
replicate folder d="$work" || status=$?
[ "$status" -ne 0 ] && [ "$status" -ne 4 ] && [ "$status" -lt 128 ] || fail "a folder as a volume: exit $status"
ok "a folder is refused (exit $status)"
exits 2 "no volume at all" replicate none
if [ "$(id -u)" -eq 0 ] && loop=$(losetup --show -f "$work/away.img" 2>/dev/null); then
	status=0
	replicate block dev="$loop" || status=$?
	# A device ends with its last whole sector.
	head -c "$(blockdev --getsize64 "$loop")" "$work/away.img" >"$work/sectors.img"
	losetup -d "$loop"
	equal "a block device" "$status" 0
	point_is block 1 dev "$work/sectors.img"
fi
finish
