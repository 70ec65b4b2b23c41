#!/bin/sh
# SPDX-License-Identifier: MIT
# Bytes on the wire for a database that is updated here and there: SQLite in an ext4 image, journal_mode DELETE and WAL, against what can be done
# by hand with the same blocks (bench/byhand.c) and, on btrfs, btrfs send -p | zstd -1. Root. Settings: bench/lib.sh, and
#
#   BENCH_DB_ROWS=400000 BENCH_DB_UPDATES=4000   rows of the table, rows updated between two points
#   BENCH_MODES="DELETE WAL"
#
# The filesystem in the image is unmounted before each point, so that all contenders see the same bytes. sosie's bytes are those of the segment that
# the standby keeps (headers of records and manifest's numbers included, SSH not); what went over the loopback for both groups stands beside it.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need sqlite3 zstd jq mkfs.xfs mkfs.btrfs mke2fs
need_own byhand
bench_begin sqlite
db_rows=${BENCH_DB_ROWS:-400000}
updates=${BENCH_DB_UPDATES:-4000}
mount_at=$dir/mnt
p_last=0 # when sosied was last let go on

in_image() # COMMAND…: with the image mounted; all flushed afterwards
{
	mkdir -p "$mount_at"
	mount -o loop "$image" "$mount_at"
	"$@"
	umount "$mount_at"
	rmdir "$mount_at"
	sync -f "$image"
}
make_database()
{
	sqlite3 "$mount_at/erp.db" >/dev/null <<-END
		PRAGMA journal_mode=$mode;
		CREATE TABLE item(id INTEGER PRIMARY KEY, sku TEXT, name TEXT, stock INTEGER, price REAL, changed TEXT, note TEXT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $db_rows)
		INSERT INTO item SELECT i, printf('SKU-%08d', i * 7919 % 99999989), printf('Article number %d of series %d', i, i % 97), abs(random()) % 1000,
			(abs(random()) % 100000) / 100.0, '2026-01-01 00:00:00', printf('%s %s', hex(randomblob(24)), 'delivered by the usual carrier, checked, no remarks') FROM n;
		CREATE INDEX item_sku ON item(sku);
	END
}
# Twenty rows a transaction, at random places.
update_database() # SEED
{
	awk -v seed="$1" -v rows="$db_rows" -v updates="$updates" -v mode="$mode" 'BEGIN {
		srand(seed)
		print "PRAGMA journal_mode=" mode ";"
		for (i = 0; i < updates; i++) {
			if (i % 20 == 0) print "BEGIN;"
			printf "UPDATE item SET stock = stock + %d, changed = \"2026-02-%02d %02d:%02d:%02d\" WHERE id = %d;\n", 1 + int(9 * rand()), 1 + int(28 * rand()),
				int(24 * rand()), int(60 * rand()), int(60 * rand()), 1 + int(rows * rand())
			if (i % 20 == 19) print "COMMIT;"
		}
		if (updates % 20) print "COMMIT;"
	}' | sqlite3 "$mount_at/erp.db" >/dev/null
}
row() { echo "$fs $mode $1 $2" | tee -a "$rows" >&2; } # CONTENDER BYTES
segment_bytes() { points "$1" | jq -r --argjson n "$2" '.points[] | select(.point == $n) | .bytes'; } # GROUP POINT
take_point() # both groups, from the stopped daemon
{
	p_next=$(($(newest_point tracked) + 1)) p_scan=$(($(newest_point scan) + 1))
	cp --reflink=always "$image" "$scan_image"
	sync -f "$image"
	# Their interval of 20 s is over, so that both cycle at once; and long enough that neither is in a cycle when they are held again.
	while [ "$(millis)" -lt $((p_last + 21000)) ]; do sleep 0.2; done
	p_wire=$(loopback) p_last=$(millis)
	kill -CONT "$daemon"
	wait_point tracked "$p_next" 300 >/dev/null
	wait_point scan "$p_scan" 300 >/dev/null
	p_wire=$(($(loopback) - p_wire))
	sleep 1
	kill -STOP "$daemon"
}
one_round() # SEED
{
	cp --reflink=always "$image" "$LAB_SRC/old.raw"
	if [ "$fs" = btrfs ]; then btrfs -q subvolume snapshot -r "$vm" "$LAB_SRC/before"; fi
	in_image update_database "$1"
	take_point
	row sosie "$(segment_bytes tracked "$p_next")"
	row sosie-scan "$(segment_bytes scan "$p_scan")"
	row loopback-of-both "$p_wire"
	by_hand=$("$bin/bench/byhand" "$LAB_SRC/old.raw" "$image")
	# shellcheck disable=SC2086 # three numbers
	set -- $by_hand
	row changed-blocks "$1"
	row zstd-3-plain "$2"
	row zstd-3-prefix "$3"
	rm "$LAB_SRC/old.raw"
	if [ "$fs" = btrfs ]; then
		# Other files lie elsewhere, so that only the image differs.
		btrfs -q subvolume snapshot -r "$vm" "$LAB_SRC/after"
		row btrfs-send-zstd-1 "$(btrfs -q send -p "$LAB_SRC/before" "$LAB_SRC/after" | zstd -q -1 | wc -c)"
		btrfs -q subvolume delete "$LAB_SRC/before" "$LAB_SRC/after"
	fi
}
measure_all() # FS MODE
{
	fs=$1 mode=$2
	lab_for "$fs" 16G
	mkdir "$LAB_SRC/scan"
	image=$vm/erp.raw scan_image=$LAB_SRC/scan/erp.raw
	truncate -s 1G "$image"
	mke2fs -q -F -t ext4 "$image"
	in_image make_database
	cp --reflink=always "$image" "$scan_image"
	sync -f "$image"
	config_head
	case $fs in btrfs) driver=btrfs ;; *) driver=reflink ;; esac
	config_group tracked 20s "$driver" "$image" "level: 3"
	config_group scan 20s scan "$scan_image" "level: 3"
	daemon_start
	wait_point tracked 1 300 >/dev/null
	wait_point scan 1 300 >/dev/null
	sleep 8
	kill -STOP "$daemon"
	p_last=$(millis)
	round=1
	while [ "$round" -le "$rounds" ]; do
		one_round "$round"
		round=$((round + 1))
	done
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
	"$root/tests/lab" down "$lab"
}

for fs_name in ${BENCH_FS:-xfs btrfs}; do
	for mode_name in ${BENCH_MODES:-DELETE WAL}; do measure_all "$fs_name" "$mode_name"; done
done
about "SQLite in an ext4 image of 1 GiB, $db_rows rows, $updates updated between two points, 20 a transaction; medians of $rounds, bytes"
median_table "$rows" 3 4 zstd-3-prefix 0 fs journal_mode contender bytes
