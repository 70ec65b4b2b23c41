#!/bin/sh
# SPDX-License-Identifier: MIT
# What replication costs the writer: fio, random 4 KiB writes, O_DIRECT, with and without sosied (interval 5 s), in turn. Root. Settings: bench/lib.sh, and
#
#   BENCH_SECONDS=30 BENCH_SIZE=4G BENCH_DEPTH=8 BENCH_INTERVAL=5s
#
# Both ends share this machine's processors and disk: what the standby writes counts against the writer too.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need fio jq mkfs.xfs mkfs.btrfs
bench_begin writer_cost
seconds=${BENCH_SECONDS:-30}
size=${BENCH_SIZE:-4G}
depth=${BENCH_DEPTH:-8}
interval=${BENCH_INTERVAL:-5s}

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
	wait_point bench "$(($(newest_point bench) + 1))" 600 >/dev/null
	sleep 2
	run_fio with
	[ "$f_points" -gt 0 ] || die "sosied made no point while fio ran: $(tail -n 3 "$lab/log/sosied")"
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
}
without_sosied()
{
	sync
	sleep 2
	run_fio without
}
measure_all() # FS
{
	fs=$1
	lab_for "$fs" 48G
	image=$vm/bench.raw
	fallocate -l "$size" "$image"
	config_head
	config_group bench "$interval" auto "$image"
	# The image is as a used one is before anybody measures: written all over once.
	round=0
	fio --name=fill --filename="$image" --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=32 --time_based --runtime="$seconds" --output="$dir/fio.fill" >/dev/null
	rm -f "$dir/fio.fill"
	round=1
	while [ "$round" -le "$rounds" ]; do
		say "$fs: round $round of $rounds"
		if [ $((round % 2)) -eq 1 ]; then
			without_sosied
			with_sosied
		else
			with_sosied
			without_sosied
		fi
		round=$((round + 1))
	done
	"$root/tests/lab" down "$lab"
}

for fs_name in ${BENCH_FS:-btrfs xfs}; do measure_all "$fs_name"; done
about "fio randwrite 4k, O_DIRECT, depth $depth, $seconds s in an image of $size; sosied with interval $interval; medians of $rounds"
median_table "$rows" 2 3 without 9 fs sosied IOPS p50_ms p99_ms p99.9_ms max_ms points steal_%
