#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures sosie beside what people use instead, over SSH on the loopback (docs/benchmarks.md says how to read it). Root is needed for --fs xfs and for dropping caches.
#
#   BENCH_ROUNDS=5          rounds; contenders take turns in a rotating order, the median is told
#   BENCH_FS="xfs plain"    filesystems of source and standby
#   BENCH_SIZE=4G           size of the image
#   BENCH_FILES=2048        MiB of this machine's own files in it
#   BENCH_DIR=/var/tmp/sosie-bench   where image and labs lie (about four times the image); the image is kept for the next run
#   BENCH_SPARSE=16T        size of the sparse volume of the memory measurement
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
bench_begin run
size=${BENCH_SIZE:-4G}
sparse=${BENCH_SPARSE:-16T}
master=$dir/image-$size-$files.raw
make_master "$master" "$size"

# --- measuring -------------------------------------------------------------------------------------------------------------
# measure_once PASS NAME COMMAND…: appends a row: fs pass name wall cpu_source cpu_standby mem_source mem_standby wire steal%
measure_once()
{
	o_pass=$1 o_name=$2
	shift 2
	sessions_end
	quiet
	: >"$dir/time.remote"
	echo 5 >"/proc/$LAB_KEEPER_PID/clear_refs"
	o_steal=$(steal)
	o_wire=$(loopback)
	o_children=$(child_ticks "$SOSIE_SSHD_PID")
	o_keeper=$(own_ticks "$LAB_KEEPER_PID")
	# shellcheck disable=SC2016 # for the inner shell
	/usr/bin/time -o "$dir/time" -f '%e %U %S %M' "$@" >"$dir/run.log" 2>&1 </dev/null || {
		tail -n 10 "$dir/run.log" >&2
		die "$o_name failed"
	}
	sessions_end
	o_wire=$(($(loopback) - o_wire))
	o_children=$(($(child_ticks "$SOSIE_SSHD_PID") - o_children))
	o_keeper=$(($(own_ticks "$LAB_KEEPER_PID") - o_keeper))
	o_peak=$(sort -n "$dir/time.remote" | tail -n 1)
	if [ "$o_name" = sosie ]; then
		o_hwm=$(awk '/^VmHWM/ { print $2 }' "/proc/$LAB_KEEPER_PID/status")
		[ "$o_hwm" -le "${o_peak:-0}" ] || o_peak=$o_hwm
	else
		o_keeper=0
	fi
	# shellcheck disable=SC2046,SC2086 # numbers
	set -- $(tail -n 1 "$dir/time") $o_steal $(steal)
	row=$(awk -v fs="$fs" -v pass="$o_pass" -v name="$o_name" -v wall="$1" -v user="$2" -v sys="$3" -v mem="$4" -v s0="$5" -v t0="$6" -v s1="$7" \
		-v t1="$8" -v far="$((o_children + o_keeper))" -v hz="$ticks" -v peak="${o_peak:-0}" -v wire="$o_wire" 'BEGIN {
		printf "%s %s %s %.2f %.2f %.2f %d %d %.0f %.1f\n", fs, pass, name, wall, user + sys, far / hz, mem, peak, wire,
			(t1 > t0 ? 100 * (s1 - s0) / (t1 - t0) : 0) }')
}
# A run with more than 10 % of the processors' time stolen is done again once; what it undoes is the caller's "again" command.
measure() # AGAIN PASS NAME COMMAND…
{
	again=$1
	shift
	measure_once "$@"
	if [ "$again" != no ] && echo "$row" | awk '{ exit !($10 > 10) }'; then
		say "steal above 10 %: once more: $row"
		"$again"
		measure_once "$@"
	fi
	echo "$row" | tee -a "$rows" >&2
}

# --- contenders ----------------------------------------------------------------------------------------------------------------
timed_remote="/usr/bin/time -a -o $dir/time.remote -f %M"

forget_sosie()
{
	"$root/tests/lab" keeper "$lab" stop
	rm -rf "$SOSIE_STORE/acme/bench" "$SOSIE_STORE/acme/_inbox/bench" "$SOSIE_STORE/acme/_outbox/bench" "$lab/state"
	"$root/tests/lab" keeper "$lab" start
	# shellcheck disable=SC1091
	. "$lab/env"
}
run_sosie() # AGAIN PASS
{
	measure "$1" "$2" sosie "$bin/sosie" replicate --to "$SOSIE_TO/acme/bench" --identity "$SOSIE_IDENTITY" \
		--known-hosts "$SOSIE_KNOWN_HOSTS" --state "$lab/state" --once "$image"
}
first_sosie()
{
	forget_sosie
	run_sosie forget_sosie first
}
forget_cat() { rm -f "$peers/cat"; }
first_cat()
{
	forget_cat
	measure forget_cat first cat+ssh sh -c "$(remote_ssh) ${SOSIE_TO%:*} '$timed_remote sh -c \"cat >$peers/cat && sync $peers/cat\"' <$image"
	forget_cat
}
forget_zstd() { rm -f "$peers/zstd"; }
first_zstd()
{
	forget_zstd
	measure forget_zstd first zstd-1+ssh sh -c "zstd -q -1 -c $image | $(remote_ssh) ${SOSIE_TO%:*} '$timed_remote sh -c \"zstd -q -d -f -o $peers/zstd && sync $peers/zstd\"'"
	forget_zstd
}
forget_rsync() { rm -f "$peers/rsync"; }
first_rsync()
{
	forget_rsync
	measure forget_rsync first rsync-S-z rsync -S -z --zc=zstd --fsync -e "$(remote_ssh)" --rsync-path="$timed_remote rsync" "$image" "${SOSIE_TO%:*}:$peers/rsync"
}
second_rsync()
{
	measure no second rsync--inplace rsync -I --inplace --no-whole-file -z --zc=zstd --fsync -e "$(remote_ssh)" --rsync-path="$timed_remote rsync" "$image" "${SOSIE_TO%:*}:$peers/rsync"
}
second_sosie() { run_sosie no second; }

lab_of() # FS
{
	lab_for "$1" 24G
	# sosie's receivers run under time(1) as the others' remote ends do.
	sed -i "s|command=\"|command=\"$timed_remote |" "$lab/sshd/authorized_keys"
	image=$LAB_SRC/image.raw
	cp --sparse=always "$master" "$image"
}

blocks=$(($(stat -c %s "$master") * 3 / 1000 / 4096))
for fs_name in ${BENCH_FS:-xfs plain}; do
	lab_of "$fs_name"
	round=1
	while [ "$round" -le "$rounds" ]; do
		say "$fs_name, round $round of $rounds"
		# The order moves on by one each round.
		order="sosie cat zstd rsync sosie cat zstd rsync"
		n=0
		for contender in $order; do
			n=$((n + 1))
			[ "$n" -gt $(((round - 1) % 4)) ] && [ "$n" -le $(((round - 1) % 4 + 4)) ] || continue
			"first_$contender"
		done
		"$bin/bench/scribble" "$image" "$blocks" "$round"
		if [ $((round % 2)) -eq 1 ]; then
			second_sosie
			second_rsync
		else
			second_rsync
			second_sosie
		fi
		round=$((round + 1))
	done
	# All ends hold the same bytes.
	cmp "$peers/rsync" "$image" || die "rsync's copy differs"
	rm -f "$peers/rsync"
	"$bin/sosie" export --store "$SOSIE_STORE" acme/bench --into "$lab/standby/export" >/dev/null
	cmp "$lab/standby/export/image.raw" "$image" || die "sosie's copy differs"
	rm -rf "$lab/standby/export"

	# Memory for a huge sparse volume: 64 blocks of data far apart.
	huge=$LAB_SRC/huge.raw
	huge_size=$sparse
	if truncate -s "$huge_size" "$huge" 2>/dev/null || { huge_size=15T && truncate -s 15T "$huge" 2>/dev/null; }; then
		step=$(($(stat -c %s "$huge") / 64))
		i=0
		while [ "$i" -lt 64 ]; do
			head -c 4096 /dev/urandom | dd of="$huge" bs=4096 seek=$((i * (step / 4096))) conv=notrunc status=none
			i=$((i + 1))
		done
		image_kept=$image image=$huge
		forget_sosie
		run_sosie no "sparse-$huge_size"
		image=$image_kept
	else
		say "this filesystem holds no file of $huge_size"
	fi
	"$root/tests/lab" down "$lab"
done

# --- the table ---------------------------------------------------------------------------------------------------------------
echo
echo "Image: $size, $(($(stat -c %b "$master") * 512 / 1048576)) MiB of it data; second pass: $blocks blocks of 4 KiB changed (0.3 %); median of $rounds; $(nproc) cores; Linux $(uname -r)"
echo "wire: bytes over the loopback, headers and acknowledgements included. CPU of the standby: sshd's sessions with what they ran, and the keeper. * a run above 10 % steal"
echo
awk '
	function median(list, n,    i, j, t, a) {
		n = split(list, a, " ")
		for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
		return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
	}
	{
		key = $1 " " $2 " " $3
		if (!(key in seen)) { seen[key] = 1; order[++count] = key }
		for (i = 4; i <= 10; i++) v[key, i] = v[key, i] " " $i
		if ($10 > 10) mark[key] = "*"
	}
	END {
		printf "| %-5s | %-10s | %-14s | %8s | %7s | %10s | %11s | %11s | %11s | %9s | %7s |\n", "fs", "pass", "contender", "wall s", "ratio", "CPU src s",
			"CPU stby s", "mem src MiB", "mem stby MiB", "wire MiB", "steal %"
		print "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
		for (k = 1; k <= count; k++) {
			split(order[k], part, " ")
			if (part[3] == "sosie") base[part[1], part[2]] = median(v[order[k], 4])
		}
		for (k = 1; k <= count; k++) {
			key = order[k]
			split(key, part, " ")
			wall = median(v[key, 4])
			b = base[part[1], part[2]]
			printf "| %-5s | %-10s | %-14s | %8.2f | %7.2f | %10.2f | %11.2f | %11.0f | %11.0f | %9.1f | %6.1f%s |\n", part[1], part[2], part[3], wall,
				(b > 0 ? wall / b : 0), median(v[key, 5]), median(v[key, 6]), median(v[key, 7]) / 1024, median(v[key, 8]) / 1024,
				median(v[key, 9]) / 1048576, median(v[key, 10]), mark[key]
		}
		print ""
		print "ratio: wall time of the contender over that of sosie; above 1: sosie is faster"
	}' "$rows"
echo "rows: $rows"
