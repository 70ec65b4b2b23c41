#!/bin/sh
# SPDX-License-Identifier: MIT
# A standby that changes session keys every megabyte: nothing stalls, and the copy is whole (a known weakness of the SSH library's pending writes).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario rekey
LAB_SSHD_EXTRA="RekeyLimit 1M"
export LAB_SSHD_EXTRA
lab_up
head -c 96M /dev/urandom >"$work/erp.img"
exits 0 "96 MiB with RekeyLimit 1M" timeout 120 "$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$SOSIE_IDENTITY" \
	--known-hosts "$SOSIE_KNOWN_HOSTS" --state "$(state_of erp)" --once "$work/erp.img"
point_is erp 1 erp "$work/erp.img"
finish
