#!/bin/sh
# SPDX-License-Identifier: MIT
# One cycle for 15 MB of scattered 4 KiB changes in a 4 GiB image, the connection open, beside rsync, bdsync (if on PATH) and, on btrfs, send and
# receive; then the same for sosie with an image of 16 GiB. Root. Settings: bench/lib.sh, and
#
#   BENCH_SIZES="4G 16G"   images; contenders run with the first only
#   BENCH_BLOCKS=3840      blocks of 4 KiB changed
#
# sosied is stopped (SIGSTOP) while the image is changed and others are measured; SIGCONT makes it cycle at once. Its wall time is from there to
# the instant at which the standby accepted, that of others from start to exit, all ending with the result on the standby's disk.
# max_stall is off: where a clone takes longer (XFS, by the number of extents), the cut would wait.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root
need rsync zstd jq mkfs.xfs mkfs.btrfs
need_own scribble
bench_begin cycle
blocks=${BENCH_BLOCKS:-3840}
s_last=0 # when sosied was last let go on
first_size=

# FS SIZE NAME WALL CUT_TO_ACCEPTED CPU_SOURCE CPU_STANDBY READ WIRE STEAL; times in s, bytes in MiB
row() # NAME WALL_MS CUT_MS SOURCE_S FAR_TICKS READ_BYTES WIRE_BYTES STEAL
{
	echo "$fs $size $1 $2 $3 $4 $5 $6 $7 $8" | awk -v hz="$ticks" '{
		printf "%s %s %s %.3f %.3f %.2f %.2f %.1f %.1f %s\n", $1, $2, $3, $4 / 1000, $5 / 1000, $6, $7 / hz, $8 / 1048576, $9 / 1048576, $10 }' | tee -a "$rows" >&2
}
run_sosie()
{
	next=$(($(newest_point bench) + 1))
	quiet
	# Its interval of 3 s is over, so that it cycles at once.
	while [ "$(millis)" -lt $((s_last + 3500)) ]; do sleep 0.1; done
	s_cpu=$(tree_ticks "$daemon") s_far=$(($(tree_ticks "$SOSIE_SSHD_PID") + $(tree_ticks "$LAB_KEEPER_PID"))) s_read=$(tree_read "$daemon")
	s_steal=$(steal) s_wire=$(loopback) s_begin=$(millis)
	kill -CONT "$daemon"
	got=$(wait_point bench "$next" 300)
	s_wire=$(($(loopback) - s_wire))
	sleep 1 # what it does after acceptance (views let go) is its cost too
	kill -STOP "$daemon"
	s_last=$s_begin
	s_cpu=$(($(tree_ticks "$daemon") - s_cpu))
	s_far=$(($(tree_ticks "$SOSIE_SSHD_PID") + $(tree_ticks "$LAB_KEEPER_PID") - s_far))
	s_read=$(($(tree_read "$daemon") - s_read))
	s_cpu=$(echo "$s_cpu $ticks" | awk '{ print $1 / $2 }')
	# shellcheck disable=SC2086 # three numbers
	set -- $got
	[ "$2" -ge $((s_begin - 50)) ] || say "this cut was made before the change: its times are wrong"
	row sosie "$(($3 - s_begin))" "$(($3 - $2))" "$s_cpu" "$s_far" "$s_read" "$s_wire" "$(steal_percent "$s_steal" "$(steal)")"
}
run_peer() # NAME COMMAND…
{
	p_name=$1
	shift
	quiet
	p_far=$(tree_ticks "$SOSIE_SSHD_PID") p_steal=$(steal) p_wire=$(loopback) p_begin=$(millis)
	/usr/bin/time -o "$dir/time" -f '%U %S %I' "$@" >"$dir/run.log" 2>&1 </dev/null || {
		tail -n 10 "$dir/run.log" >&2
		die "$p_name failed"
	}
	p_end=$(millis)
	p_wire=$(($(loopback) - p_wire))
	sleep 0.3 # sshd waits for its session
	p_far=$(($(tree_ticks "$SOSIE_SSHD_PID") - p_far))
	# shellcheck disable=SC2046 # three numbers
	set -- $(tail -n 1 "$dir/time")
	row "$p_name" "$((p_end - p_begin))" 0 "$(echo "$1 $2" | awk '{ print $1 + $2 }')" "$p_far" "$(($3 * 512))" "$p_wire" "$(steal_percent "$p_steal" "$(steal)")"
}
first_rsync() { cp --sparse=always "$image" "$peers/rsync"; }
run_rsync()
{
	run_peer rsync--inplace rsync -I --inplace --no-whole-file -z --zc=zstd --fsync -e "$(remote_ssh)" "$image" "$(remote_host):$peers/rsync"
}
first_bdsync() { cp --sparse=always "$image" "$peers/bdsync"; }
run_bdsync()
{
	run_peer bdsync sh -c "bdsync '$(remote_ssh) $(remote_host) bdsync --server' '$image' '$peers/bdsync' >$dir/bdsync.diff &&
		$(remote_ssh) $(remote_host) 'bdsync --patch=$peers/bdsync && sync $peers/bdsync' <$dir/bdsync.diff"
	rm -f "$dir/bdsync.diff"
}
first_btrfs()
{
	sent=0
	btrfs -q subvolume snapshot -r "$LAB_SRC/vm" "$LAB_SRC/sent.0"
	btrfs -q send "$LAB_SRC/sent.0" | btrfs -q receive "$peers"
	sync
}
run_btrfs()
{
	run_peer btrfs-send sh -c "btrfs -q subvolume snapshot -r $LAB_SRC/vm $LAB_SRC/sent.$((sent + 1)) &&
		btrfs -q send -p $LAB_SRC/sent.$sent $LAB_SRC/sent.$((sent + 1)) | zstd -q -1 |
		$(remote_ssh) $(remote_host) 'zstd -q -d | btrfs -q receive $peers && btrfs filesystem sync $peers'"
	btrfs -q subvolume delete "$LAB_SRC/sent.$sent" "$peers/sent.$sent"
	sent=$((sent + 1))
}
# What the contenders hold in the end is what the image holds.
compare()
{
	"$bin/sosie" export --store "$SOSIE_STORE" acme/bench --into "$lab/standby/export" >/dev/null
	cmp "$lab/standby/export/bench.raw" "$image" || die "sosie's copy differs"
	rm -rf "$lab/standby/export"
	for contender in $contenders; do
		case $contender in
		rsync | bdsync) cmp "$peers/$contender" "$image" || die "$contender's copy differs" ;;
		btrfs) cmp "$peers/sent.$sent/image.raw" "$image" || die "the copy that btrfs received differs" ;;
		esac
	done
}

measure_all() # FS SIZE
{
	fs=$1 size=$2
	case $size in 4G) room=24G ;; *) room=72G ;; esac
	lab_for "$fs" "$room"
	image=$vm/image.raw
	make_master "$dir/image-4G-$files.raw" 4G
	# A larger image is the same one several times, so that data lies everywhere in it.
	at=0
	while [ "$at" -lt "${size%G}" ]; do
		dd if="$dir/image-4G-$files.raw" of="$image" bs=1M seek=$((at * 1024)) conv=notrunc,sparse status=none
		at=$((at + 4))
	done
	truncate -s "$size" "$image"
	contenders=
	if [ "$size" = "$first_size" ]; then
		contenders=rsync
		if command -v bdsync >/dev/null; then contenders="$contenders bdsync"; fi
		if [ "$fs" = btrfs ]; then contenders="$contenders btrfs"; fi
	fi
	for contender in $contenders; do "first_$contender"; done
	config_head
	config_group bench 3s auto "$image" "max_stall: 0"
	daemon_start
	wait_point bench 1 900 >/dev/null
	sleep 1
	kill -STOP "$daemon"
	s_last=$(millis)
	# The first cycle from a kept view is not told: it makes what later ones have.
	"$bin/bench/scribble" "$image" "$blocks" 1000
	kept=$rows rows=$dir/rows-warm.txt
	run_sosie
	rows=$kept
	round=1
	while [ "$round" -le "$rounds" ]; do
		say "$fs $size: round $round of $rounds"
		"$bin/bench/scribble" "$image" "$blocks" "$round"
		# Who comes first changes each round.
		if [ $((round % 2)) -eq 1 ]; then run_sosie; fi
		for contender in $contenders; do "run_$contender"; done
		if [ $((round % 2)) -eq 0 ]; then run_sosie; fi
		round=$((round + 1))
	done
	compare
	daemon_stop || die "sosied ends with an error: $(tail -n 3 "$lab/log/sosied")"
	"$root/tests/lab" down "$lab"
}

for size_name in ${BENCH_SIZES:-4G 16G}; do
	first_size=${first_size:-$size_name}
	for fs_name in ${BENCH_FS:-xfs btrfs}; do measure_all "$fs_name" "$size_name"; done
done
about "$blocks blocks of 4 KiB of noise at random places that hold data; medians of $rounds, caches dropped before each"
median_table "$rows" 3 4 sosie 10 fs image contender wall_s cut_to_accepted_s CPU_source_s CPU_standby_s read_MiB wire_MiB steal_%
echo
awk '$3 == "sosie" { n[$1 " " $2]++; cpu[$1, $2] += $6 + $7; read[$1, $2] += $8; fs[$1] = 1; if (!(1 in s) || $2 == s[1]) s[1] = $2; else s[2] = $2 }
	END { if (2 in s) for (f in fs) printf "%s: %s over %s: CPU of both ends %.2f, bytes read %.2f\n", f, s[2], s[1],
		cpu[f, s[1]] ? cpu[f, s[2]] / cpu[f, s[1]] : 0, read[f, s[1]] ? read[f, s[2]] / read[f, s[1]] : 0 }' "$rows"
