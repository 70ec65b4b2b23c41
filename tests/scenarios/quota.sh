#!/bin/sh
# SPDX-License-Identifier: MIT
# A tenant's quota: reached, the sender is refused with exit 3; what was accepted stays; the neighbour is not touched.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario quota
lab_up

exits 0 "tenant with a quota" "$sosie" tenant add --store "$SOSIE_STORE" small --quota 40M
exits 3 "the same tenant with another quota" "$sosie" tenant add --store "$SOSIE_STORE" small --quota 41M
exits 2 "no quota" "$sosie" tenant add --store "$SOSIE_STORE" other
says 'quota'
exits 2 "a quota that is no size" "$sosie" tenant add --store "$SOSIE_STORE" other --quota many
ssh-keygen -q -t ed25519 -N '' -C small -f "$here/keys/small"
exits 0 "its key" "$sosie" key add --for ssh --store "$SOSIE_STORE" small "$here/keys/small.pub"
grep command= "$work/out" >>"$here/sshd/authorized_keys"

small() # IMAGE
{
	"$sosie" replicate --to "$SOSIE_TO/small/erp" --identity "$here/keys/small" --known-hosts "$SOSIE_KNOWN_HOSTS" \
		--state "$work/state-small" --once "$1" >"$work/out" 2>"$work/err" </dev/null
}
head -c 6M /dev/urandom >"$work/erp.img"
must "within the quota" small "$work/erp.img"
cp "$work/erp.img" "$work/first.img"
head -c 200M /dev/urandom >"$work/erp.img"
status=0
small "$work/erp.img" || status=$?
equal "above the quota" "$status" 3
says quota
exits 0 "points" "$sosie" points --store "$SOSIE_STORE" small/erp --json
json '(.points | length) == 1'
exits 0 "export" "$sosie" export --store "$SOSIE_STORE" small/erp --into "$work/export"
same_bytes "the accepted point" "$work/export/erp.raw" "$work/first.img"
exits 0 "the neighbour replicates" replicate erp "$work/first.img"
# A key of one tenant does not reach another.
status=0
"$sosie" replicate --to "$SOSIE_TO/acme/erp" --identity "$here/keys/small" --known-hosts "$SOSIE_KNOWN_HOSTS" \
	--state "$work/state-x" --once "$work/first.img" >"$work/out" 2>"$work/err" </dev/null || status=$?
[ "$status" -ne 0 ] && [ "$status" -ne 4 ] || fail "a key of tenant small works for acme (exit $status)"
ok "a key of one tenant is refused for another (exit $status)"
equal "acme's group has its one point" "$(newest erp)" 1
finish
