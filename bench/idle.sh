#!/bin/sh
# SPDX-License-Identifier: MIT
# What idle groups cost: 1,000 groups whose volumes nobody writes, in one sosied with interval 1 s. Root. Settings: bench/lib.sh, and
#
#   BENCH_GROUPS=1000 BENCH_SECONDS=60
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need jq mkfs.xfs mkfs.btrfs
bench_begin idle
groups=${BENCH_GROUPS:-1000}
seconds=${BENCH_SECONDS:-60}

entries() { find "$1" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; } # FOLDER
accepted() { find "$SOSIE_STORE/acme" -path '*/journal/1.seg' 2>/dev/null | wc -l; } # their volumes are not of zeros alone
measure_all() # FS
{
	fs=$1
	lab_for "$fs" 16G
	config_head
	n=0
	while [ "$n" -lt "$groups" ]; do
		n=$((n + 1))
		head -c 65536 /dev/urandom >"$vm/$n.raw"
		truncate -s 1M "$vm/$n.raw"
		config_group "g$n" 1s auto "$vm/$n.raw" "streams: 1"
	done
	sync
	daemon_start
	left=600
	until [ "$(accepted)" -eq "$groups" ]; do
		daemon_lives || die "sosied has ended: $(tail -n 3 "$lab/log/sosied")"
		[ "$left" -gt 0 ] || die "only $(accepted) of $groups groups have a point after ten minutes"
		left=$((left - 1))
		sleep 1
	done
	# Until all know that they are idle.
	sleep 30
	i_steal=$(steal) i_cpu=$(tree_ticks "$daemon") i_far=$(($(tree_ticks "$SOSIE_SSHD_PID") + $(tree_ticks "$LAB_KEEPER_PID"))) i_wire=$(loopback)
	sleep "$seconds"
	i_cpu=$(($(tree_ticks "$daemon") - i_cpu)) i_far=$(($(tree_ticks "$SOSIE_SSHD_PID") + $(tree_ticks "$LAB_KEEPER_PID") - i_far))
	i_wire=$(($(loopback) - i_wire))
	made=$(find "$SOSIE_STORE/acme" -path '*/journal/2.seg' | wc -l)
	echo "$fs $groups $i_cpu $i_far $(rss_kib "$daemon") $(entries "/proc/$daemon/task") $(entries "/proc/$daemon/fd") $i_wire $made $(steal_percent "$i_steal" "$(steal)")" |
		awk -v hz="$ticks" -v s="$seconds" '{ printf "%s %d %.2f %.2f %.2f %.0f %d %d %.1f %d %s\n", $1, $2, $3 / hz, 100 * $3 / hz / s, 100 * $4 / hz / s, $5 / 1024, $6, $7,
			$8 / 1024 / s, $9, $10 }' | tee -a "$rows" >&2
	[ "$made" -eq 0 ] || say "$made groups made a second point: they were not idle"
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
	"$root/tests/lab" down "$lab"
}

for fs_name in ${BENCH_FS:-btrfs xfs}; do measure_all "$fs_name"; done
about "$groups idle groups, interval 1 s, over $seconds s"
echo "| fs | groups | CPU s | % of a core | standby % of a core | RSS MiB | threads | descriptors | wire KiB/s | groups with a second point | steal % |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
sed 's/ / | /g; s/^/| /; s/$/ |/' "$rows"
echo
echo "Rows: $rows"
