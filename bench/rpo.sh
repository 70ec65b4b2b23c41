#!/bin/sh
# SPDX-License-Identifier: MIT
# RPO from the data: a writer of 20 MB/s of random 4 KiB blocks over 8 GiB, each with its number and time (bench/rpo_writer.c), interval 1 s. After the
# run every point that was accepted meanwhile is exported, and the newest block in it says how old its data was. Root. Settings: bench/lib.sh, and
#
#   BENCH_SECONDS=75 BENCH_RATE=20 BENCH_SIZE=8G
#
# Two numbers: the age of each point when it was accepted, and the RPO over time (at each 10 ms: now less the newest write in the newest accepted
# point), which is what a disaster at a random instant would cost. max_stall is off: a cut each second is what is measured; how
# long the writer waited stands beside it, and on btrfs also what a bare snapshot each second costs it on this machine, without sosied.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need jq mkfs.xfs mkfs.btrfs
need_own rpo_writer rpo_judge
bench_begin rpo
seconds=${BENCH_SECONDS:-75}
rate=${BENCH_RATE:-20}
size=${BENCH_SIZE:-8G}

percentiles() # FILE of one number a line -> "COUNT P50 P99 MAX"
{
	sort -n "$1" | awk '{ v[NR] = $1 } function at(p,    i) { i = int((NR * p + 99) / 100); return v[i < 1 ? 1 : i] }
		END { if (!NR) exit 1; printf "%d %.3f %.3f %.3f\n", NR, at(50) / 1000, at(99) / 1000, v[NR] / 1000 }'
}
judge_points() # BEGIN_MS END_MS: "POINT CUT ACCEPTED NUMBER ISSUED AGE" for each point accepted between, into $dir/points.txt
{
	: >"$dir/points.txt"
	points bench | jq -r '.points[] | "\(.point) \(.cut_time) \(.accepted_time)"' >"$dir/list.txt"
	while read -r j_point j_cut j_accepted; do
		j_accepted=$(date -d "$j_accepted" +%s%3N) j_cut=$(date -d "$j_cut" +%s%3N)
		[ "$j_accepted" -ge "$1" ] && [ "$j_accepted" -le "$2" ] || continue
		"$bin/sosie" export --store "$SOSIE_STORE" acme/bench --point "$j_point" --into "$lab/standby/export" >/dev/null
		j_newest=$("$bin/bench/rpo_judge" "$lab/standby/export/bench.raw" "$lab/writer.log" "$j_accepted") || die "point $j_point holds no block of the writer's"
		rm -rf "$lab/standby/export"
		echo "$j_point $j_cut $j_accepted $j_newest" >>"$dir/points.txt"
	done <"$dir/list.txt"
}
bare_snapshots() # the floor: the same writer for as long, a snapshot a second after the last one, that one dropped
{
	snapshots_begin 1
	b_steal=$(steal)
	b_wrote=$("$bin/bench/rpo_writer" "$image" "$lab/writer.log" "$seconds" "$rate")
	snapshots_end
	# shellcheck disable=SC2086 # numbers
	set -- $b_wrote
	about "$fs: bare snapshots, without sosied: $3 MB/s reached, longest write $4 ms; number, p50, p99 and longest in s: $(percentiles "$snapshot_times"); steal $(steal_percent "$b_steal" "$(steal)") %"
	rm -f "$snapshot_times"
}
measure_all() # FS
{
	fs=$1
	lab_for "$fs" 64G
	image=$vm/bench.raw
	fallocate -l "$size" "$image"
	config_head
	config_group bench 1s auto "$image" "max_stall: 0"
	if [ "$fs" = btrfs ]; then
		bare_snapshots
		# Its blocks have numbers too: none of them may be found in a point.
		rm "$image" "$lab/writer.log"
		fallocate -l "$size" "$image"
	fi
	daemon_start
	wait_point bench 1 600 >/dev/null
	quiet
	r_steal=$(steal) r_begin=$(millis) r_cpu=$(tree_ticks "$daemon")
	wrote=$("$bin/bench/rpo_writer" "$image" "$lab/writer.log" "$seconds" "$rate")
	r_end=$(millis)
	r_steal=$(steal_percent "$r_steal" "$(steal)") r_cpu=$(($(tree_ticks "$daemon") - r_cpu)) r_rss=$(rss_kib "$daemon")
	# The last point that counts is accepted after the last write.
	sleep 5
	"$bin/sosie" status --store "$SOSIE_STORE" acme/bench >&2 || true
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
	# Not the first five seconds: points of before the writer have none of its blocks.
	judge_points "$((r_begin + 5000))" "$r_end"
	[ -s "$dir/points.txt" ] || die "no point was accepted in $seconds s"
	cut -d' ' -f6 "$dir/points.txt" >"$dir/ages.txt"
	awk '{ if (NR > 1) for (t = last; t < $3; t += 10) print t - newest; last = $3; newest = $5 }' "$dir/points.txt" >"$dir/over.txt"
	# shellcheck disable=SC2086 # numbers
	set -- $wrote
	about "$fs: $2 s, $1 writes, $3 MB/s reached, longest write $4 ms; $(wc -l <"$dir/points.txt") points; sosied $(echo "$r_cpu $ticks $2" |
		awk '{ printf "%.0f %%", 100 * $1 / $2 / $3 }') of a core, $((r_rss / 1024)) MiB; steal $r_steal %"
	echo "| fs | what | samples | p50 s | p99 s | max s |"
	echo "|---|---|---:|---:|---:|---:|"
	for what in ages over; do
		p=$(percentiles "$dir/$what.txt") || die "only one point was accepted"
		case $what in ages) text="age when accepted" ;; *) text="RPO over time" ;; esac
		echo "| $fs | $text | $(echo "$p" | sed 's/ / | /g') |"
		echo "$fs $what $p $r_steal" >>"$rows"
	done
	cp "$dir/points.txt" "$dir/rows-rpo-points-$fs.txt"
	rm -f "$dir/points.txt" "$dir/list.txt" "$dir/ages.txt" "$dir/over.txt"
	"$root/tests/lab" down "$lab"
}

for fs_name in ${BENCH_FS:-btrfs xfs}; do measure_all "$fs_name"; done
echo
echo "Rows: $rows"
