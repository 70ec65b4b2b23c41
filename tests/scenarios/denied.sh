#!/bin/sh
# SPDX-License-Identifier: MIT
# Without the permission: an ordinary user replicates what it may read, and is told by name what it may not; operator's commands on a store of somebody else.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario denied
need_root
command -v setpriv >/dev/null || skip "needs setpriv"
lab_up

chmod 755 "$work"
mkdir -m 777 "$work/user"
cp "$SOSIE_IDENTITY" "$SOSIE_KNOWN_HOSTS" "$work/user"
# The user may not be able to reach the build folder; copies are as good.
mkdir "$work/bin"
cp "$bin/sosie" "$bin/sosied" "$work/bin"
chmod -R go+rX "$work/bin"
chown -R 65534:65534 "$work/user"
chmod 600 "$work/user/source"
as_user() # VOLUME
{
	setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$work/user" "$work/bin/sosie" replicate \
		--to "$SOSIE_TO/acme/erp" --identity "$work/user/source" --known-hosts "$work/user/known_hosts" \
		--state "$work/user/state" --once erp="$1" >"$work/out" 2>"$work/err" </dev/null
}
make_image "$work/open.img" 8
chmod 644 "$work/open.img"
must "an ordinary user replicates" as_user "$work/open.img"
equal "a point" "$(newest erp)" 1
point_is erp 1 erp "$work/open.img"
chmod 600 "$work/open.img"
status=0
as_user "$work/open.img" || status=$?
equal "a volume that it may not read" "$status" 3
says 'open\.img'
says 'permission|denied'
equal "no further point" "$(newest erp)" 1

nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$work/bin/sosie" "$@"; }
exits 3 "points of a store of somebody else" nobody points --store "$SOSIE_STORE" acme/erp --json
json '.error.code == "denied" and (.error.what | length) > 0'
exits 3 "cutover of a store of somebody else" nobody cutover --store "$SOSIE_STORE" acme/erp --yes
exits 3 "a store where it may not write" nobody store init "$work/elsewhere"
chmod 644 "$work/open.img"
must "replicates again" as_user "$work/open.img"

# Root exports from a store of somebody else: what that leaves in the audit log stays the owner's, whose keeper has to go on with it.
cp -a "$SOSIE_STORE" "$work/owned"
chown -R 65534:65534 "$work/owned"
exits 0 "root exports" "$sosie" export --store "$work/owned" acme/erp --into "$work/by-root"
says_not 'warning'
equal "all of the audit log is the owner's" "$(find "$work/owned/acme/_audit" ! -user 65534)" ""
exits 0 "the export is in it" "$sosie" audit --store "$work/owned" acme
says 'command=export'
# Who may read the store but not its logs is told so, and gets the rest.
cp -a "$SOSIE_STORE" "$work/readable"
chmod -R a+rX "$work/readable"
chmod -R go= "$work/readable/_audit" "$work/readable/acme/_audit"
exits 0 "verify as an ordinary user" nobody verify --store "$work/readable" acme/erp
says 'may not be read by this user'
exits 0 "export as an ordinary user" nobody export --store "$work/readable" acme/erp --into "$work/user/out"
says 'warning: this is not in the audit log'
exits 3 "the audit log itself" nobody audit --store "$work/readable" acme

# Modes do not bind root: nothing is refused before the system refuses it.
mkdir -m 555 "$work/closed"
exits 0 "root still may" "$sosie" export --store "$SOSIE_STORE" acme/erp --into "$work/closed/x"
finish
