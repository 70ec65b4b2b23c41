#!/bin/sh
# SPDX-License-Identifier: MIT
# What replication costs the writer: fio, random 4 KiB writes, O_DIRECT, with and without sosied (interval 5 s), in turn. Root. Settings: bench/lib.sh, and
#
#   BENCH_SECONDS=60 BENCH_SIZE=4G BENCH_DEPTH=8 BENCH_INTERVAL=5s
#
# Both ends share this machine's processors and disk: what the standby writes counts against the writer too. sosied and the standby get the share
# of the processors that units/sosied.service gives (CPUWeight=20), where this kernel has cgroups for it; the table's heading says whether.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need fio jq mkfs.xfs mkfs.btrfs
bench_begin writer_cost
seconds=${BENCH_SECONDS:-60}
size=${BENCH_SIZE:-4G}
depth=${BENCH_DEPTH:-8}
interval=${BENCH_INTERVAL:-5s}

# Processes and what they start later: a fifth of the weight that others have. cgroup v2, or v1 with its own scale.
weight() # NAME PID…
{
	for w_place in /sys/fs/cgroup/cpu:cpu.shares:204 /sys/fs/cgroup:cpu.weight:20; do
		w_dir=${w_place%%:*}/sosie-bench-$1 w_file=${w_place#*:}
		mkdir -p "$w_dir" 2>/dev/null && [ -w "$w_dir/${w_file%:*}" ] || { rmdir "$w_dir" 2>/dev/null || true; continue; }
		shift
		echo "${w_file#*:}" >"$w_dir/${w_file%:*}"
		for w_pid in "$@"; do echo "$w_pid" >"$w_dir/cgroup.procs"; done
		weighed=$w_file
		return 0
	done
}
weighed=none

# FS CONTENDER IOPS P50_ms P99_ms P99.9_ms MAX_ms POINTS STEAL
run_fio() # CONTENDER
{
	f_before=$(newest_point bench) f_steal=$(steal)
	fio --name=writer --filename="$image" --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth="$depth" --time_based --runtime="$seconds" \
		--randseed="$round" --norandommap --output-format=json --output="$dir/fio.json" >/dev/null
	f_points=$(($(newest_point bench) - f_before))
	f_steal=$(steal_percent "$f_steal" "$(steal)")
	jq -r '.jobs[0].write | "\(.iops) \(.clat_ns.percentile["50.000000"]) \(.clat_ns.percentile["99.000000"]) \(.clat_ns.percentile["99.900000"]) \(.clat_ns.max)"' \
		"$dir/fio.json" | awk -v fs="$fs" -v name="$1" -v points="$f_points" -v steal="$f_steal" '{
		printf "%s %s %.0f %.2f %.2f %.2f %.1f %d %s\n", fs, name, $1, $2 / 1e6, $3 / 1e6, $4 / 1e6, $5 / 1e6, points, steal }' | tee -a "$rows" >&2
	rm -f "$dir/fio.json"
}
with_sosied()
{
	# What was written without it is caught up first; a block more, so that there surely is something.
	dd if=/dev/urandom of="$image" bs=4k count=1 conv=notrunc status=none
	daemon_start
	weight primary "$daemon"
	wait_point bench "$(($(newest_point bench) + 1))" 600 >/dev/null
	sleep 2
	run_fio with
	made=$((made + f_points))
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
}
without_sosied()
{
	sync
	sleep 2
	run_fio without
}
# What the cuts cost by themselves: a snapshot each five seconds, nothing read, nothing sent.
with_snapshots()
{
	sync
	sleep 2
	snapshots_begin 5
	run_fio snapshots
	snapshots_end
}
measure_all() # FS
{
	fs=$1
	lab_for "$fs" 48G
	weight standby "$SOSIE_SSHD_PID" "$LAB_KEEPER_PID"
	image=$vm/bench.raw
	fallocate -l "$size" "$image"
	config_head
	config_group bench "$interval" auto "$image"
	# The image is as a used one is before anybody measures: written all over once.
	round=0
	fio --name=fill --filename="$image" --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=32 --time_based --runtime="$seconds" --output="$dir/fio.fill" >/dev/null
	rm -f "$dir/fio.fill"
	round=1 made=0
	while [ "$round" -le "$rounds" ]; do
		say "$fs: round $round of $rounds"
		if [ $((round % 2)) -eq 1 ]; then
			without_sosied
			with_sosied
		else
			with_sosied
			without_sosied
		fi
		if [ "$fs" = btrfs ]; then with_snapshots; fi
		round=$((round + 1))
	done
	[ "$made" -gt 0 ] || die "sosied made no point while fio ran: $(tail -n 3 "$lab/log/sosied")"
	"$root/tests/lab" down "$lab"
	for m_dir in /sys/fs/cgroup/cpu/sosie-bench-* /sys/fs/cgroup/sosie-bench-*; do rmdir "$m_dir" 2>/dev/null || true; done
}

for fs_name in ${BENCH_FS:-btrfs xfs}; do measure_all "$fs_name"; done
about "fio randwrite 4k, O_DIRECT, depth $depth, $seconds s in an image of $size; sosied with interval $interval, weight: $weighed; medians of $rounds"
median_table "$rows" 2 3 without 9 fs sosied IOPS p50_ms p99_ms p99.9_ms max_ms points steal_%
