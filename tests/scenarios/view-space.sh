#!/bin/sh
# SPDX-License-Identifier: MIT
# The primary's last space is the guest's: with the standby away and a view held, the whole image is overwritten on a nearly full filesystem, and the writer never sees
# ENOSPC because of us. Afterwards replication goes on, digests are compared here, and the point is the image.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario view-space
need_loop xfs btrfs

for fs in xfs btrfs; do
	lab_up "lab-$fs" --fs "$fs" --size 4G
	source_kind=reflink
	[ "$fs" = xfs ] || source_kind=btrfs
	# A filesystem of its own, small: the image takes more than half of it.
	truncate -s 768M "$work/small.img"
	"mkfs.$fs" -q "$work/small.img" >/dev/null
	mkdir -p "$work/small"
	mount -o loop "$work/small.img" "$work/small"
	trap 'end_started; umount "$work/small" 2>/dev/null || umount -l "$work/small" 2>/dev/null || true; cleanup' EXIT
	make_image "$work/small/erp.img" 4
	dd if=/dev/urandom of="$work/small/erp.img" bs=1M count=380 status=none
	sync -f "$work/small"

	cat >"$work/sosie.yaml" <<-END
		state: $work/state-mirror-$fs
		view_space: 15%
		standbys:
		  - name: bleu
		    to: $SOSIE_TO
		    identity: $SOSIE_IDENTITY
		    known_hosts: $SOSIE_KNOWN_HOSTS
		groups:
		  - name: acme/erp
		    standby: bleu
		    source: $source_kind
		    interval: 200ms
		    volumes:
		      - {name: erp, path: $work/small/erp.img}
	END
	chmod 600 "$work/sosie.yaml"
	start_daemon "$work/sosie.yaml"
	end=$(($(millis) + 60000))
	until [ "$(newest erp)" -ge 1 ]; do
		[ "$(millis)" -lt "$end" ] || fail "no first point: $(tail -n 3 "$work/daemon.err")"
		nap 100
	done
	"$sosie" status --config "$work/sosie.yaml" --json >"$work/out" 2>"$work/err" || true
	json ".groups[0].driver == \"$source_kind\""
	"$lab" keeper "$here" stop
	kill -STOP "$SOSIE_SSHD_PID"
	# 380 MiB over 380 MiB, with 768 MiB in all: a view that stayed would not leave room for it.
	must "$fs: the guest overwrites its whole image" dd if=/dev/urandom of="$work/small/erp.img" bs=1M count=380 conv=notrunc oflag=direct status=none
	must "$fs: and once more" dd if=/dev/urandom of="$work/small/erp.img" bs=1M count=380 conv=notrunc,fsync status=none
	"$sosie" status --config "$work/sosie.yaml" --json >"$work/out" 2>"$work/err" || true
	json '.filesystems[0].times_low >= 1'
	kill -CONT "$SOSIE_SSHD_PID"
	"$lab" keeper "$here" start
	before=$(newest erp)
	end=$(($(millis) + 90000))
	until [ "$(newest erp)" -gt "$before" ]; do
		[ "$(millis)" -lt "$end" ] || fail "replication did not go on: $(tail -n 3 "$work/daemon.err")"
		nap 200
	done
	kill -TERM "$daemon"
	wait "$daemon" || fail "sosied exits $? on SIGTERM"
	replicate_until_done_here() { "$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$(find "$work/state-mirror-$fs" -name state.json -printf '%h\n' | head -n 1)" --once erp="$work/small/erp.img" >"$work/out" 2>"$work/err"; }
	must "$fs: a last point" replicate_until_done_here
	point_is erp "$(newest erp)" erp "$work/small/erp.img"
	whole erp
	umount "$work/small"
	trap cleanup EXIT
	rm "$work/small.img"
	"$lab" down "$here"
done
finish
