# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: MIT
# What the measurements share: labs, a running sosied, peers over the same private sshd, processor time of whole process trees, medians.
# Sourced; then: bench_begin NAME. Everything that was made is taken away at the end, except $dir itself with the rows.
#
#   BENCH_DIR=/var/tmp/sosie-bench   where images and labs lie
#   BENCH_ROUNDS=5                   rounds; contenders alternate, the median is told
#   BENCH_FS="xfs btrfs"             filesystems of source and standby
#   BENCH_STORE_FS=xfs               the standby's, if it is another one
#   BENCH_FILES=2048                 MiB of this machine's own files in an image
set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${SOSIE_BIN:-$root/build}
rounds=${BENCH_ROUNDS:-5}
files=${BENCH_FILES:-2048}
dir=${BENCH_DIR:-/var/tmp/sosie-bench}
lab=$dir/lab
daemon=
helpers=

say() { echo "bench: $*" >&2; }
die()
{
	say "$*"
	exit 1
}
cleanup()
{
	status=$?
	trap - EXIT
	for c_pid in $helpers; do kill "$c_pid" 2>/dev/null || true; done
	daemon_stop || true
	for c_mount in "$dir"/mnt*; do
		if grep -q " $c_mount " /proc/self/mounts; then umount "$c_mount" || status=1; fi
		if [ -d "$c_mount" ]; then rmdir "$c_mount" || true; fi
	done
	"$root/tests/lab" down "$lab" || status=1
	rm -rf "$dir/stage" "$dir/time" "$dir/time.remote" "$dir/run.log"
	exit "$status"
}
bench_begin() # NAME
{
	bench_name=$1
	command_line="BENCH_FS=\"${BENCH_FS:-}\" BENCH_STORE_FS=${BENCH_STORE_FS:-} BENCH_ROUNDS=$rounds bench/$1.sh"
	mkdir -p "$dir"
	exec 9>"$dir/lock"
	flock -n 9 || die "another measurement runs in $dir, or a process that one left behind"
	rows=$dir/rows-$1.txt
	: >"$rows"
	trap cleanup EXIT
	trap 'exit 130' INT HUP TERM
}
need_root() { [ "$(id -u)" -eq 0 ] || die "needs root: filesystems of its own, caches dropped"; }
need() # PROGRAM…
{
	for n_program in "$@"; do command -v "$n_program" >/dev/null || die "$n_program is missing: run tools/deps.sh bench"; done
}
need_own() # PROGRAM… of bench/, built by the Makefile
{
	for n_program in "$@"; do [ -x "$bin/bench/$n_program" ] || die "$bin/bench/$n_program is missing: make $bin/bench/$n_program"; done
}

# --- images --------------------------------------------------------------------------------------------------------------
# Folders of /usr, whole ones, largest first, as long as they fit.
make_master() # FILE SIZE
{
	[ ! -f "$1" ] || return 0
	rm -rf "$dir/stage"
	mkdir "$dir/stage"
	left=$files
	du -smx /usr/*/* 2>/dev/null | sort -rn | while read -r m_size m_path; do
		[ "$m_size" -gt 0 ] && [ "$m_size" -le "$left" ] || continue
		left=$((left - m_size))
		mkdir -p "$dir/stage$(dirname "$m_path")"
		cp -a "$m_path" "$dir/stage$m_path" 2>/dev/null || true
	done
	mke2fs -q -F -t ext4 -d "$dir/stage" "$1.part" "$2"
	say "image: $(du -sm "$dir/stage" | cut -f1) MiB of files in $2"
	rm -rf "$dir/stage"
	mv "$1.part" "$1"
}

# --- measuring -------------------------------------------------------------------------------------------------------------
ticks=$(getconf CLK_TCK)
millis() { date +%s%3N; }
steal() { awk '/^cpu /{ t = 0; for (i = 2; i <= 9; i++) t += $i; print $9, t }' /proc/stat; }
steal_percent() # BEFORE AFTER, each "STEAL TOTAL"
{
	echo "$1 $2" | awk '{ printf "%.1f", ($4 > $2 ? 100 * ($3 - $1) / ($4 - $2) : 0) }'
}
loopback() { cat /sys/class/net/lo/statistics/tx_bytes; }
# Ticks of a process: its own, and those of children that it has waited for.
own_ticks() { sed 's/^.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
child_ticks() { sed 's/^.*) //' "/proc/$1/stat" | awk '{ print $14 + $15 }'; }
tree() # PID -> it and all that live below it
{
	echo "$1"
	# shellcheck disable=SC2013 # one line of words
	for t_pid in $(cat "/proc/$1/task/"*/children 2>/dev/null); do tree "$t_pid"; done
}
# Ticks of a process and everything below it, living or waited for.
tree_ticks() # PID
{
	for t_pid in $(tree "$1"); do sed 's/^.*) //' "/proc/$t_pid/stat" 2>/dev/null || true; done | awk '{ t += $12 + $13 + $14 + $15 } END { print t + 0 }'
}
# Bytes that they have read from storage.
tree_read() # PID
{
	for t_pid in $(tree "$1"); do cat "/proc/$t_pid/io" 2>/dev/null || true; done | awk '/^read_bytes/ { t += $2 } END { printf "%d\n", t + 0 }'
}
rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
sessions_end() # every session of the private sshd has been waited for
{
	e_left=300
	while [ -n "$(cat "/proc/$SOSIE_SSHD_PID/task/$SOSIE_SSHD_PID/children")" ]; do
		e_left=$((e_left - 1))
		[ "$e_left" -gt 0 ] || die "an SSH session does not end"
		sleep 0.05
	done
}
quiet()
{
	sync
	if [ -w /proc/sys/vm/drop_caches ]; then echo 3 >/proc/sys/vm/drop_caches; fi
}

# --- labs ------------------------------------------------------------------------------------------------------------------
lab_for() # FS SIZE: $vm is a folder for images, $peers one at the standby for the contenders
{
	fs=$1
	"$root/tests/lab" down "$lab"
	SOSIE_BIN="$bin" "$root/tests/lab" up "$lab" --fs "$fs" --store-fs "${BENCH_STORE_FS:-$fs}" --size "$2" 9>&-
	# shellcheck disable=SC1091
	. "$lab/env"
	# A second key of the private sshd, with a shell: for the contenders.
	ssh-keygen -q -t ed25519 -N '' -C peer -f "$lab/keys/peer"
	cat "$lab/keys/peer.pub" >>"$lab/sshd/authorized_keys"
	peers=$lab/standby/peers
	mkdir "$peers"
	# Where the machines' images lie: what the btrfs driver takes a snapshot of.
	vm=$LAB_SRC/vm
	if [ "$fs" = btrfs ]; then btrfs -q subvolume create "$vm"; else mkdir "$vm"; fi
}
remote_ssh() { echo "ssh -F none -q -i $lab/keys/peer -o IdentitiesOnly=yes -o UserKnownHostsFile=$SOSIE_KNOWN_HOSTS -o BatchMode=yes -c aes128-gcm@openssh.com -p ${SOSIE_TO##*:}"; }
remote_host() { echo "${SOSIE_TO%:*}"; }

# --- bare snapshots: what cuts cost on btrfs without sosied -----------------------------------------------------------------
snapshot_times=$dir/snapshots.txt
snapshots_begin() # SECONDS between one snapshot of $vm and the next; the one before is dropped. Their times in ms go into $snapshot_times
{
	rm -f "$dir/snapshots.end"
	: >"$snapshot_times"
	(
		s_n=0
		while sleep "$1" && [ ! -e "$dir/snapshots.end" ]; do
			s_n=$((s_n + 1)) s_begin=$(millis)
			btrfs -q subvolume snapshot -r "$vm" "$LAB_SRC/bare.$s_n"
			echo "$(($(millis) - s_begin))" >>"$snapshot_times"
			[ "$s_n" -eq 1 ] || btrfs -q subvolume delete "$LAB_SRC/bare.$((s_n - 1))"
		done
	) >/dev/null &
	snapshots_pid=$!
	helpers="$helpers $snapshots_pid"
}
snapshots_end()
{
	: >"$dir/snapshots.end" # not killed: a snapshot may be under way
	wait "$snapshots_pid" || true
	helpers=${helpers% *}
	rm "$dir/snapshots.end"
	btrfs -q subvolume delete "$LAB_SRC"/bare.* >/dev/null
}

# --- sosied ----------------------------------------------------------------------------------------------------------------
config_head() # into $lab/sosie.yaml
{
	cat >"$lab/sosie.yaml" <<-END
		state: $lab/state
		standbys:
		  - {name: lab, to: "$SOSIE_TO", identity: $SOSIE_IDENTITY, known_hosts: $SOSIE_KNOWN_HOSTS}
		groups:
	END
}
config_group() # GROUP INTERVAL SOURCE PATH [KEY: VALUE]...
{
	g_name=$1 g_interval=$2 g_source=$3 g_path=$4
	shift 4
	{
		echo "  - name: acme/$g_name"
		echo "    standby: lab"
		echo "    interval: $g_interval"
		echo "    source: $g_source"
		for g_line in "$@"; do echo "    $g_line"; done
		echo "    volumes: [{name: $g_name, path: $g_path, opaque: true}]"
	} >>"$lab/sosie.yaml"
}
daemon_start()
{
	"$bin/sosied" --config "$lab/sosie.yaml" >"$lab/log/sosied" 2>&1 </dev/null 9>&- &
	daemon=$!
}
daemon_stop()
{
	[ -n "$daemon" ] || return 0
	kill -CONT "$daemon" 2>/dev/null || true
	kill -TERM "$daemon" 2>/dev/null || true
	d_status=0
	wait "$daemon" || d_status=$?
	daemon=
	return "$d_status"
}
daemon_lives() { sed 's/^.*) //' "/proc/$daemon/stat" 2>/dev/null | grep -q '^[^Z]'; }
points() { "$bin/sosie" points --store "$SOSIE_STORE" "acme/$1" --json; }
newest_point() # GROUP: 0 when there is none
{
	n_point=$(points "$1" 2>/dev/null | jq -r '.points[-1].point // 0' 2>/dev/null) || n_point=0
	echo "${n_point:-0}"
}
# Waits without burning what is measured: the segment is there a moment before the point is; a point of zeros alone has none, and is asked for now and
# then. Then "POINT CUT_MS ACCEPTED_MS".
wait_point() # GROUP POINT SECONDS
{
	w_left=$(($3 * 20))
	until [ -e "$SOSIE_STORE/acme/$1/journal/$2.seg" ]; do
		daemon_lives || die "sosied has ended: $(tail -n 3 "$lab/log/sosied")"
		[ "$w_left" -gt 0 ] || die "point $2 of $1 does not come: $(tail -n 3 "$lab/log/sosied")"
		w_left=$((w_left - 1))
		if [ $((w_left % 40)) -eq 0 ] && [ "$(newest_point "$1")" -ge "$2" ]; then break; fi
		sleep 0.05
	done
	w_left=200
	until [ "$(newest_point "$1")" -ge "$2" ]; do
		[ "$w_left" -gt 0 ] || die "point $2 of $1 is not accepted"
		w_left=$((w_left - 1))
		sleep 0.1
	done
	point_times "$1" "$2"
}
point_times() # GROUP POINT
{
	points "$1" | jq -r --argjson n "$2" '.points[] | select(.point == $n) | "\(.point) \(.cut_time) \(.accepted_time)"' | while read -r p_point p_cut p_accepted; do
		echo "$p_point $(date -d "$p_cut" +%s%3N) $(date -d "$p_accepted" +%s%3N)"
	done
}

# --- tables ----------------------------------------------------------------------------------------------------------------
about()
{
	echo
	echo "$bench_name: $*"
	echo "$(nproc) cores; Linux $(uname -r); $(date -u +%F); $command_line"
	echo
}
# Medians of rows that are equal in their first KEYS columns. The ratio is that of COLUMN to the row whose last key is BASE and whose other
# keys are the same; STEAL is the column of the steal time (0: none): a key with a run above 10 % gets a *.
median_table() # ROWS KEYS COLUMN BASE STEAL HEADER…
{
	t_rows=$1 t_keys=$2 t_column=$3 t_base=$4 t_steal=$5
	shift 5
	awk -v keys="$t_keys" -v column="$t_column" -v base="$t_base" -v steal="$t_steal" -v header="$*" '
	function median(list, n,    i, j, t, a) {
		n = split(list, a, " ")
		for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
		return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
	}
	{
		key = $1
		for (i = 2; i <= keys; i++) key = key " " $i
		if (!(key in count)) { order[++kinds] = key; group[key] = substr(key, 1, length(key) - length($keys)); last[key] = $keys }
		count[key]++
		for (i = keys + 1; i <= NF; i++) v[key, i] = v[key, i] " " $i
		fields = NF
		if (steal && $steal > 10) mark[key] = "*"
	}
	END {
		if (!kinds) { print "nothing was measured" > "/dev/stderr"; exit 1 }
		n = split(header, h, " ")
		line = "|"; rule = "|"
		for (i = 1; i <= n; i++) { gsub(/_/, " ", h[i]); line = line " " h[i] " |"; rule = rule (i <= keys ? "---|" : "---:|") }
		print line " ratio | runs |"; print rule "---:|---:|"
		for (k = 1; k <= kinds; k++) if (last[order[k]] == base) reference[group[order[k]]] = median(v[order[k], column])
		for (k = 1; k <= kinds; k++) {
			key = order[k]; m = split(key, part, " "); line = "|"
			for (i = 1; i <= m; i++) line = line " " part[i] " |"
			for (i = keys + 1; i <= fields; i++) line = line " " sprintf("%.10g", median(v[key, i])) " |"
			r = reference[group[key]]
			print line " " (r + 0 != 0 ? sprintf("%.2f", median(v[key, column]) / r) : "-") " | " count[key] mark[key] " |"
		}
	}' "$t_rows"
	echo
	echo "ratio: $(echo "$*" | cut -d' ' -f"$t_column" | tr _ ' ') over that of $t_base. *: a run above 10 % steal. Rows: $t_rows"
}
