# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: MIT
# What the end-to-end scenarios share: the real programs against a throw-away standby (tests/lab), every assertion counted, everything taken
# away at the end whatever happened. Sourced first; then: scenario NAME … finish.
#
# A scenario exits 0 after "closing: …", 77 when it cannot run here (the reason is its last line), else 1.
set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${SOSIE_BIN:-$root/build}
lab=$root/tests/lab
sosie=$bin/sosie
checks=0
labs=
work=

fail()
{
	echo "FAILED: $*"
	for f_file in out err; do
		if [ -s "$work/$f_file" ]; then
			echo "--- last $f_file:"
			tail -n 15 "$work/$f_file"
		fi
	done
	for f_lab in $labs; do
		echo "--- $f_lab/log/keeper:"
		tail -n 10 "$f_lab/log/keeper" 2>/dev/null || true
	done
	exit 1
}
skip()
{
	echo "skipped: $*"
	exit 77
}
need_root() { [ "$(id -u)" -eq 0 ] || skip "needs root"; }
need_loop() # FS…
{
	need_root
	for n_fs in "$@"; do
		command -v "mkfs.$n_fs" >/dev/null || skip "needs mkfs.$n_fs"
	done
	losetup -f >/dev/null 2>&1 || skip "needs loop devices"
	truncate -s 512M "$work/probe.img"
	mkdir "$work/probe"
	mkfs.ext4 -q -F "$work/probe.img"
	mount -o loop "$work/probe.img" "$work/probe" 2>"$work/err" || skip "cannot mount loop devices here: $(cat "$work/err")"
	umount "$work/probe"
	rm -r "$work/probe" "$work/probe.img"
}

# What was started beside the scenario must not outlive it. (The number of a job that was waited for may be another's by now.)
end_started()
{
	jobs -p >"$work/jobs"
	while read -r e_pid; do
		kill -KILL "$e_pid" 2>/dev/null || true
		wait "$e_pid" 2>/dev/null || true
	done <"$work/jobs"
}
start_daemon() # CONFIG: sosied into $daemon; what it says is appended to daemon.out and daemon.err
{
	"$bin/sosied" --config "$1" >>"$work/daemon.out" 2>>"$work/daemon.err" </dev/null &
	daemon=$!
}
within() # SECONDS TEXT COMMAND…: becomes true in time
{
	w_end=$(($(millis) + $1 * 1000)) w_text=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$(millis)" -lt "$w_end" ] || {
			tail -n 20 "$work/daemon.err" "$work/alarms" 2>/dev/null || true
			fail "$w_text: not in time: $*"
		}
		nap 100
	done
	ok "$w_text"
}
config_head() # STATE [LINE…]: how the configuration of a sosied begins that mirrors to this lab
{
	echo "state: $1"
	shift
	for h_line in "$@"; do echo "$h_line"; done
	cat <<-END
		standbys:
		  - name: bleu
		    to: $SOSIE_TO
		    identity: $SOSIE_IDENTITY
		    known_hosts: $SOSIE_KNOWN_HOSTS
		groups:
	END
}
status_of_config() # FILE JQ-EXPRESSION: true by what the daemon of this configuration says; its answer is in $work/status
{
	"$sosie" status --config "$1" --json >"$work/status" 2>/dev/null || [ $? -eq 5 ] || return 1
	jq -e "$2" "$work/status" >/dev/null
}
# What a scenario has to undo before that (a function's name, or a command); its own result is what counts all the same.
at_end=
cleanup()
{
	c_status=$?
	trap - EXIT
	set +e
	[ -z "$at_end" ] || eval "$at_end"
	end_started
	for c_lab in $labs; do
		"$lab" down "$c_lab" || c_status=1
	done
	[ -z "$work" ] || chmod -R u+rwX "$work" 2>/dev/null || true
	[ -z "$work" ] || rm -rf "$work"
	exit "$c_status"
}
scenario() # NAME
{
	name=$1
	work=$(mktemp -d "${TMPDIR:-/tmp}/sosie-$name.XXXXXX")
	trap cleanup EXIT
	trap 'exit 130' INT HUP TERM
	seed=${SOSIE_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
	echo "$name: seed $seed (again with SOSIE_SEED=$seed)"
	: >"$work/out"
	: >"$work/err"
}
finish() # [MORE TEXT]
{
	[ "$checks" -gt 0 ] || fail "nothing was checked"
	echo "closing: $checks checks${1:+, $1}"
}

# random N: puts 0 … N-1 into $rnd.
random()
{
	seed=$(((seed * 1103515245 + 12345) & 0x7fffffff))
	rnd=$(((seed >> 8) % $1))
}
# rounds DEFAULT FULL: how many, after SOSIE_ROUNDS.
rounds()
{
	case ${SOSIE_ROUNDS:-} in
	'') echo "$1" ;;
	full) echo "$2" ;;
	few) echo 1 ;;
	*) echo "$SOSIE_ROUNDS" ;;
	esac
}
millis() { echo $(($(date +%s%N) / 1000000)); }
nap() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; } # MILLISECONDS

# --- labs and programs -----------------------------------------------------------------------------------------------------
lab_up() # [NAME [ARGUMENT…]]
{
	l_name=${1:-lab}
	[ $# -eq 0 ] || shift
	labs="$labs $work/$l_name"
	"$lab" up "$work/$l_name" "$@" 2>"$work/err" || fail "tests/lab up"
	load_env "$l_name"
	state=$work/state-$l_name
}
load_env()
{
	# shellcheck disable=SC1090
	. "$work/$1/env"
	here=$work/$1
}
# A state folder belongs to one group.
state_of() # GROUP
{
	mkdir -p "$state"
	echo "$state/$(printf %s "$1" | tr -c 'A-Za-z0-9' _ | cut -c1-60)"
}
replicate() # GROUP [ARGUMENT…]: one cycle; output into out and err; its exit is the function's
{
	r_group=$1
	shift
	"$sosie" replicate --to "$SOSIE_TO/acme/$r_group" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$(state_of "$r_group")" --once "$@" >"$work/out" 2>"$work/err" </dev/null
}
replicate_start() # GROUP [ARGUMENT…]: in the background, pid in $sender
{
	r_group=$1
	shift
	"$sosie" replicate --to "$SOSIE_TO/acme/$r_group" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$(state_of "$r_group")" --once "$@" >"$work/bg.out" 2>"$work/bg.err" </dev/null &
	sender=$!
}
# Runs again while the answer is "temporary", at most half a minute.
replicate_until_done() # GROUP [ARGUMENT…]
{
	d_end=$(($(millis) + 30000))
	while :; do
		d_status=0
		replicate "$@" || d_status=$?
		[ "$d_status" -ne 0 ] || return 0
		[ "$d_status" -eq 4 ] || fail "replicate exits $d_status, wanted 0 (or 4 for a while)"
		[ "$(millis)" -lt "$d_end" ] || fail "replicate still exits 4 after half a minute"
		nap 200
	done
}
receivers() # pids of this lab's receivers
{
	# shellcheck disable=SC2013 # names without blanks
	for v_file in $(grep -las sosie-receive /proc/[0-9]*/cmdline 2>/dev/null); do
		if { tr '\0' ' ' <"$v_file"; } 2>/dev/null | grep -qF -e "$SOSIE_STORE"; then
			v_pid=${v_file#/proc/}
			echo "${v_pid%/cmdline}"
		fi
	done
	return 0
}

# --- assertions --------------------------------------------------------------------------------------------------------------
ok() # TEXT
{
	checks=$((checks + 1))
	echo "  ok: $*"
}
must() # TEXT COMMAND…
{
	m_text=$1
	shift
	m_status=0
	"$@" || m_status=$?
	[ "$m_status" -eq 0 ] || fail "$m_text: exit $m_status from: $*"
	ok "$m_text"
}
exits() # CODE TEXT COMMAND…: output into out and err
{
	x_code=$1 x_text=$2
	shift 2
	x_status=0
	case $1 in
	replicate | replicate_*) "$@" || x_status=$? ;;
	*) "$@" >"$work/out" 2>"$work/err" </dev/null || x_status=$? ;;
	esac
	[ "$x_status" -eq "$x_code" ] || fail "$x_text: exit $x_status, wanted $x_code, from: $*"
	ok "$x_text (exit $x_code)"
}
says() # PATTERN (extended, any case) in what the last command printed
{
	cat "$work/out" "$work/err" | grep -qiE -e "$1" || fail "the last command does not say: $1"
	ok "says '$1'"
}
says_not()
{
	if cat "$work/out" "$work/err" | grep -qiE -e "$1"; then fail "the last command says: $1"; fi
	ok "does not say '$1'"
}
json() # EXPRESSION that must be true of the last command's standard output
{
	jq -e "$1" "$work/out" >/dev/null 2>"$work/jq" || fail "not true of the JSON: $1 $(head -c 300 "$work/jq")"
	ok "json: $1"
}
equal() # TEXT A B
{
	[ "$2" = "$3" ] || fail "$1: '$2' is not '$3'"
	ok "$1: $2"
}
same_bytes() # TEXT FILE FILE
{
	cmp "$2" "$3" >"$work/cmp" 2>&1 || fail "$1: $(cat "$work/cmp")"
	ok "$1: $(stat -c %s "$2") bytes equal"
}
newest() # GROUP: number of the newest point, 0 when there is none
{
	"$sosie" points --store "$SOSIE_STORE" "acme/$1" --json 2>/dev/null | jq -r '[.. | objects | .point? | numbers] | max // 0'
}
point_digests() # GROUP: "POINT DIGEST" lines
{
	"$sosie" points --store "$SOSIE_STORE" "acme/$1" --json | jq -r '.points | sort_by(.point)[] | "\(.point) \(.digest)"'
}
point_is() # GROUP POINT NAME FILE: the exported image is FILE, to the byte
{
	rm -rf "$work/export"
	"$sosie" export --store "$SOSIE_STORE" "acme/$1" --point "$2" --into "$work/export" >"$work/out" 2>"$work/err" ||
		fail "export of point $2"
	same_bytes "point $2 of $1, volume $3" "$work/export/$3.raw" "$4"
	rm -rf "$work/export"
}
whole() # GROUP: verify finds nothing
{
	exits 0 "verify acme/$1" "$sosie" verify --store "$SOSIE_STORE" "acme/$1" --full
}

# --- images ------------------------------------------------------------------------------------------------------------------
make_image() # FILE MEBIBYTES: half holes, a quarter text that packs well, a quarter noise
{
	truncate -s "${2}M" "$1"
	head -c $(($2 * 262144)) /dev/urandom | dd of="$1" bs=64k conv=notrunc status=none
	yes "sosie keeps a running double of this line" | head -c $(($2 * 262144)) |
		dd of="$1" bs=64k seek=$(($2 * 8)) conv=notrunc status=none iflag=fullblock
}
scribble() # FILE COUNT: random 4 KiB writes at random places
{
	b_blocks=$(($(stat -c %s "$1") / 4096))
	b_left=$2
	while [ "$b_left" -gt 0 ]; do
		random "$b_blocks"
		dd if=/dev/urandom of="$1" bs=4096 count=1 seek="$rnd" conv=notrunc status=none
		b_left=$((b_left - 1))
	done
}
