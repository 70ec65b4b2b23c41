#!/bin/sh
# SPDX-License-Identifier: MIT
# The primary's last space is the guest's: with the standby away and a view held, the whole image is overwritten on a nearly full filesystem, and the writer never sees
# ENOSPC because of us. Afterwards replication goes on, and the point is the image. A group that leaves takes its views with it. And where
# auto is scan (ext4), free space does not matter: no alarm, no filesystem watched, no rest.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario view-space
need_loop xfs btrfs

unmount_small()
{
	end_started
	umount "$work/small" 2>/dev/null || umount -l "$work/small" 2>/dev/null || true
}
write_config() # VIEW-SPACE [SOURCE]
{
	{
		config_head "$work/state-mirror-$fs" "view_space: $1"
		cat <<-END
			  - name: acme/erp
			    standby: bleu
			    source: ${2:-auto}
			    interval: 200ms
			    volumes:
			      - {name: erp, path: $work/small/erp.img}
		END
	} >"$work/sosie.yaml"
	chmod 600 "$work/sosie.yaml"
}
views() { find "$work/small" -path '*/.sosie/*' -name 'acme.erp.*' -maxdepth 3 2>/dev/null; }
views_there() { views | grep -qv '\.stalls$'; }
views_gone() { [ -z "$(views)" ]; }
# By its state too: what a cycle that still runs has cut goes with it when it is told to end.
views_held() { views_there && status_of_config "$work/sosie.yaml" '.groups[0].view_held'; }
other_group() # the same file, with a group on another filesystem in the place of erp
{
	truncate -s 1M "$work/other.img"
	sed -e "s|acme/erp|acme/other|" -e "s|source: $source_kind|source: scan|" -e "s|{name: erp, path: .*}|{name: other, path: $work/other.img}|" "$work/sosie.yaml"
}

for fs in xfs btrfs; do
	: >"$work/daemon.err"
	lab_up "lab-$fs" --fs "$fs" --size 4G
	source_kind=reflink
	[ "$fs" = xfs ] || source_kind=btrfs
	# A filesystem of its own, small: the image takes more than half of it.
	truncate -s 768M "$work/small.img"
	"mkfs.$fs" -q "$work/small.img" >/dev/null
	mkdir -p "$work/small"
	mount -o loop "$work/small.img" "$work/small"
	at_end=unmount_small
	make_image "$work/small/erp.img" 4
	dd if=/dev/urandom of="$work/small/erp.img" bs=1M count=380 status=none
	sync -f "$work/small"

	write_config 15% "$source_kind"
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
	# Views are held again by now, or will be; the group leaves, and they with it.
	within 60 "$fs: views are held again" views_held
	other_group >"$work/new.yaml"
	chmod 600 "$work/new.yaml"
	# First while no daemon runs: the next one names the group whose view holds space.
	kill -TERM "$daemon"
	wait "$daemon" || fail "sosied exits $? on SIGTERM"
	start_daemon "$work/new.yaml"
	within 10 "$fs: a group that left meanwhile is named" grep -q 'acme/erp: not in the configuration.* remove acme\.erp\.[0-9a-f]*\.\*' "$work/daemon.err"
	views_there || fail "its view was taken away"
	kill -TERM "$daemon"
	wait "$daemon" || fail "sosied exits $? on SIGTERM"
	start_daemon "$work/sosie.yaml"
	within 20 "$fs: the group is there again" status_of_config "$work/sosie.yaml" '.groups[0].view_held'
	mv "$work/new.yaml" "$work/sosie.yaml"
	kill -HUP "$daemon"
	within 30 "$fs: the views of the group that is gone are gone" views_gone
	within 10 "$fs: and its filesystem is watched no more" status_of_config "$work/sosie.yaml" '.filesystems == []'
	kill -TERM "$daemon"
	wait "$daemon" || fail "sosied exits $? on SIGTERM"
	replicate_until_done_here() { "$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$SOSIE_IDENTITY" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$(find "$work/state-mirror-$fs" -path '*/acme/erp/state.json' -printf '%h\n')" --once erp="$work/small/erp.img" >"$work/out" 2>"$work/err"; }
	must "$fs: a last point" replicate_until_done_here
	point_is erp "$(newest erp)" erp "$work/small/erp.img"
	whole erp
	umount "$work/small"
	at_end=
	rm "$work/small.img"
	"$lab" down "$here"
done

# ext4 has no reflink: auto is scan there. Far below view_space nothing is alarmed, watched or rested for.
fs=ext4
lab_up lab-ext4
truncate -s 64M "$work/small.img"
mkfs.ext4 -q -F "$work/small.img"
mount -o loop "$work/small.img" "$work/small"
at_end=unmount_small
make_image "$work/small/erp.img" 8
write_config 90%
start_daemon "$work/sosie.yaml"
within 60 "ext4: the first point" status_of_config "$work/sosie.yaml" '.groups[0].point == 1'
status_of_config "$work/sosie.yaml" '.alarms == [] and .filesystems == [] and .groups[0].driver == "scan"' || fail "ext4: free space matters: $(cat "$work/status")"
status_of_config "$work/sosie.yaml" '.groups[0].driver_reason | (contains("reflink") and (contains("view_space") | not))' || fail "ext4: the reason: $(cat "$work/status")"
ok "ext4: scan is auto's own choice, and free space does not matter to it"
kill -TERM "$daemon"
wait "$daemon" || fail "sosied exits $? on SIGTERM"
daemon=
umount "$work/small"
at_end=
finish
