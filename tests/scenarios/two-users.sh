#!/bin/sh
# SPDX-License-Identifier: MIT
# Two sides of a door: keeper and receivers as different users. The whole way works through it; the receivers' user gets nowhere else, on this machine or over
# ssh; "store check" finds nothing, and each fault that is planted.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario two-users
need_root
for tool in setpriv useradd userdel sftp; do
	command -v "$tool" >/dev/null || skip "needs $tool"
done
chmod 711 "$work"
setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$work" || skip "others cannot pass to $work"
lab_up lab --two-users
config=$here/sshd/config
acme=$SOSIE_STORE/acme
must "keeper and receivers are two" [ "$LAB_KEEPER" != "$LAB_RECEIVER" ]
check() { "$sosie" store check "$SOSIE_STORE" --sshd-config "$config" "$@"; }

# --- the way through -------------------------------------------------------------------------------------------------------
exits 0 "an empty store is clean" check
make_image "$work/erp.img" 8
exits 0 "first copy" replicate erp "$work/erp.img"
cp "$work/erp.img" "$work/first.img"
scribble "$work/erp.img" 20
exits 0 "second cycle" replicate erp "$work/erp.img"
point_is erp 1 erp "$work/first.img"
point_is erp 2 erp "$work/erp.img"
exits 0 "nothing changed" replicate erp "$work/erp.img"
equal "still two points" "$(newest erp)" 2
same_known() { "$sosie" status --store "$SOSIE_STORE" acme/erp --json | jq -e '[.. | .rpo_s? | numbers][0] < 3600'; }
within 10 "a status" same_known
must "the keeper took the \"same\"" test -s "$acme/erp/state/same.json"
rm -rf "$work/state-lab"
exits 0 "state lost: digests are compared through the outbox" replicate erp "$work/erp.img"
must "an answer was given" test -n "$(find "$acme/_outbox/erp" -name '*.differs')"
"$lab" keeper "$here" kill
scribble "$work/erp.img" 5
exits 4 "durable without a keeper" replicate erp --accept-wait 1s "$work/erp.img"
"$lab" keeper "$here" start
load_env lab
replicate_until_done erp "$work/erp.img"
point_is erp 3 erp "$work/erp.img"
whole erp

# In a crisis root may run the keeper by hand: what it makes is the keeper's all the same.
"$lab" keeper "$here" stop
scribble "$work/erp.img" 5
exits 4 "durable without a keeper, again" replicate erp --accept-wait 1s "$work/erp.img"
exits 4 "the first upload of a group, too" replicate new --accept-wait 1s "$work/first.img"
exits 0 "the keeper by hand, as root" "$bin/sosie-keeper" --store "$SOSIE_STORE" --once
equal "what it made is not root's" "$(find "$SOSIE_STORE" -user root -o -group root)" ""
"$lab" keeper "$here" start
load_env lab
replicate_until_done erp "$work/erp.img"
equal "it was a point" "$(newest erp)" 4
equal "and so was the first" "$(newest new)" 1

# --- who owns what -----------------------------------------------------------------------------------------------------------
is() { equal "$1" "$(stat -c '%U:%G %a' "$SOSIE_STORE/$1")" "$2"; }
is "" "$LAB_KEEPER:$LAB_KEEPER 711"
is sosie.json "$LAB_KEEPER:$LAB_KEEPER 644"
is keeper.lock "$LAB_KEEPER:$LAB_KEEPER 640"
is acme "$LAB_KEEPER:$LAB_RECEIVER 750"
is acme/tenant.json "$LAB_KEEPER:$LAB_KEEPER 640"
is acme/_inbox "$LAB_RECEIVER:$LAB_KEEPER 2770"
is acme/_inbox/notify "$LAB_KEEPER:$LAB_RECEIVER 660"
is acme/_inbox/erp "$LAB_RECEIVER:$LAB_KEEPER 2770"
is acme/_outbox "$LAB_KEEPER:$LAB_RECEIVER 2750"
is acme/_outbox/limits "$LAB_KEEPER:$LAB_RECEIVER 640"
is acme/_outbox/erp "$LAB_KEEPER:$LAB_RECEIVER 2750"
is acme/_outbox/erp/head "$LAB_KEEPER:$LAB_RECEIVER 640"
is acme/_keys "$LAB_KEEPER:$LAB_RECEIVER 2750"
is acme/erp "$LAB_KEEPER:$LAB_KEEPER 700"
exits 0 "the store in use is clean" check --json
json '.ok and .left == 0 and (.findings | length) == 0 and .looked > 20 and .tenants[0].user != null'
json '.kernel.landlock >= 0 and (.kernel.seccomp | type == "boolean") and (.reflink | type == "boolean")'

exits 0 "as the keeper" setpriv --reuid "$LAB_KEEPER" --regid "$LAB_KEEPER" --init-groups "$here/bin/sosie" store check "$SOSIE_STORE"
says 'not looked at: that needs root'

# --- the receivers' user on this machine -------------------------------------------------------------------------------------
as_receiver() { setpriv --reuid "$LAB_RECEIVER" --regid "$LAB_RECEIVER" --init-groups "$@"; }
as_keeper() { setpriv --reuid "$LAB_KEEPER" --regid "$LAB_KEEPER" --init-groups "$@"; }
refused() # TEXT COMMAND…: by permission, not for another reason
{
	f_text=$1
	shift
	if as_receiver "$@" >"$work/out" 2>"$work/err"; then fail "$f_text: it may: $*"; fi
	grep -q 'Permission denied' "$work/err" || fail "$f_text: not refused by permission: $(head -n 1 "$work/err")"
	ok "$f_text"
}
must "it may read its answers" as_receiver cat "$acme/_outbox/erp/head" >"$work/read"
must "it may write its inbox" as_receiver touch "$acme/_inbox/erp/touched"
must "which the keeper may remove" as_keeper rm "$acme/_inbox/erp/touched"
refused "it lists no tenants" ls "$SOSIE_STORE"
refused "it cannot hold the keeper's lock" flock -n "$SOSIE_STORE/keeper.lock" true
for folder in erp erp/journal erp/chain erp/head erp/generations erp/state; do
	refused "it does not see $folder" ls "$acme/$folder"
	refused "it writes nothing in $folder" touch "$acme/$folder/x"
done
refused "it reads no image" cat "$acme/erp/head/erp.raw"
for place in "$acme/x" "$acme/_outbox/x" "$acme/_outbox/erp/head" "$acme/_outbox/limits" "$acme/_keys/x" "$acme/tenant.json"; do
	refused "it does not write $(basename "$(dirname "$place")")/$(basename "$place")" sh -c "echo >'$place'"
done
refused "it removes no answer" rm -f "$acme/_outbox/erp/head"
refused "it removes no tenant" mv "$acme" "$SOSIE_STORE/other"

# Another tenant, with a user of its own.
other=sosie-lab-$$-o
at_end="userdel $other 2>/dev/null"
useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/sh "$other"
usermod -p '*' "$other"
exits 0 "another tenant" "$sosie" tenant add --store "$SOSIE_STORE" other --quota none --user "$other" --json
json '.ok and .user != null'
exits 0 "the same again" "$sosie" tenant add --store "$SOSIE_STORE" other --user "$other"
exits 3 "with another user" "$sosie" tenant add --store "$SOSIE_STORE" other --user "$LAB_RECEIVER"
says 'run as .* already'
refused "it sees nothing of another tenant" ls "$SOSIE_STORE/other"
for folder in _inbox _outbox _keys; do
	refused "nor its $folder" ls "$SOSIE_STORE/other/$folder"
done
exits 1 "a user that is not there" "$sosie" tenant add --store "$SOSIE_STORE" third --quota none --user "sosie-lab-$$-none"
says 'there is no user'
[ ! -e "$SOSIE_STORE/third" ] || fail "the tenant was made"
status=0
as_keeper "$here/bin/sosie" tenant add --store "$SOSIE_STORE" third --quota none --user "$other" >"$work/out" 2>"$work/err" || status=$?
equal "tenant add --user as the keeper" "$status" 3
says 'root'

# --- over ssh ------------------------------------------------------------------------------------------------------------------
port=${SOSIE_TO##*:}
over() # TOOL ARGUMENT…
{
	o_tool=$1
	shift
	timeout 20 "$o_tool" -F none -i "$SOSIE_IDENTITY" -o UserKnownHostsFile="$SOSIE_KNOWN_HOSTS" -o BatchMode=yes -o IdentitiesOnly=yes \
		-o ExitOnForwardFailure=yes "$@" </dev/null >"$work/out" 2>"$work/err"
}
logins() { grep -c 'Accepted publickey' "$here/log/sshd" || true; }
nowhere() # TEXT LET-IN TOOL ARGUMENT…: LET-IN is 1 where the key is taken and it is the command that gets nowhere, else 0
{
	n_text=$1 n_in=$2
	shift 2
	n_before=$(logins) n_status=0
	over "$@" || n_status=$?
	[ "$n_status" -ne 0 ] || fail "$n_text: it may"
	[ "$n_status" -ne 124 ] || fail "$n_text: it was not refused within 20 s"
	[ ! -e "$work/owned" ] || fail "$n_text: a command was run"
	[ $(($(logins) - n_before)) -eq "$n_in" ] || fail "$n_text: $(($(logins) - n_before)) logins, wanted $n_in"
	ok "$n_text"
}
nowhere "ssh … /bin/sh" 1 ssh -p "$port" "$LAB_RECEIVER@127.0.0.1" "/bin/sh -c 'touch $work/owned'"
says 'sosie-receive'
nowhere "ssh -t" 1 ssh -tt -p "$port" "$LAB_RECEIVER@127.0.0.1" "touch $work/owned"
says 'PTY allocation request failed'
nowhere "sftp" 1 sftp -P "$port" "$LAB_RECEIVER@127.0.0.1"
says 'sosie-receive|message too long|connection closed'
nowhere "ssh -R" 1 ssh -R 0:127.0.0.1:"$port" -p "$port" "$LAB_RECEIVER@127.0.0.1"
says 'remote port forwarding failed|forwarding'
nowhere "ssh -W" 1 ssh -W 127.0.0.1:"$port" -p "$port" "$LAB_RECEIVER@127.0.0.1"
says 'prohibited|open failed|forwarding'
nowhere "ssh -N -R, no command" 1 ssh -N -R "$work/socket:127.0.0.1:$port" -p "$port" "$LAB_RECEIVER@127.0.0.1"
[ ! -e "$work/socket" ] || fail "a socket was forwarded"
nowhere "as the keeper" 0 ssh -p "$port" "$LAB_KEEPER@127.0.0.1" true
says 'Permission denied'
nowhere "as root" 0 ssh -p "$port" "root@127.0.0.1" true
says 'Permission denied'
nowhere "with a password" 0 ssh -o PubkeyAuthentication=no -o PreferredAuthentications=password,keyboard-interactive -p "$port" "$LAB_RECEIVER@127.0.0.1" true
exits 0 "the way through is open still" replicate erp "$work/erp.img"

# --- planted faults ------------------------------------------------------------------------------------------------------------
exits 0 "clean before" check
image=$(find "$acme/erp/generations" "$acme/erp/head" -name erp.raw | head -n 1)
planted=0
finds() # CODE PATH WHAT: after it was planted
{
	planted=$((planted + 1))
	exits 3 "$3" check --json
	jq -e --arg code "$1" --arg path "$2" '[.findings[] | select(.code == $code and .path == $path and (.mend | length) > 0)] | length == 1' "$work/out" >/dev/null ||
		fail "not found as $1 of $2: $(jq -c '[.findings[] | [.code, .path, .what]]' "$work/out")"
	ok "named: $1 of ${2#"$SOSIE_STORE"/}"
	mend=$(jq -r --arg code "$1" --arg path "$2" '.findings[] | select(.code == $code and .path == $path) | .mend' "$work/out")
}
mends() # by the very command that was named
{
	sh -c "$mend" >"$work/out" 2>"$work/err" || fail "the command that it names fails: $mend"
	exits 0 "mended by: $mend" check
}
chmod 777 "$acme"
finds world-writable "$acme" "a tenant's folder that everybody may write"
mends
chmod 2770 "$acme/_outbox"
finds group-writable "$acme/_outbox" "an outbox that receivers may write"
mends
chmod g-s "$acme/_outbox/erp"
finds setgid "$acme/_outbox/erp" "setgid is gone"
mends
chmod 755 "$acme/erp"
finds open "$acme/erp" "a group's folder that others enter"
mends
chmod 644 "$SOSIE_STORE/keeper.lock"
finds open "$SOSIE_STORE/keeper.lock" "a lock that others may hold"
mends
chmod 600 "$acme/_outbox/limits"
finds mode "$acme/_outbox/limits" "limits that receivers cannot read"
mends
chgrp "$LAB_KEEPER" "$acme/_keys"
finds group "$acme/_keys" "the wrong group"
mends
chown root "$acme/erp/journal"
finds owner "$acme/erp/journal" "a foreign owner"
mends
chown "$LAB_RECEIVER" "$image"
finds owner "$image" "an image of the receivers' user"
mends
rm "$acme/_inbox/notify"
finds missing "$acme/_inbox/notify" "no bell"
mends
# The keeper had the old one open: it is to open the new one.
"$lab" keeper "$here" stop
"$lab" keeper "$here" start
load_env lab
ln "$image" "$work/lab/standby/second"
finds links "$image" "an image with two names"
rm "$work/lab/standby/second"
exits 0 "one name again" check
mv "$acme/erp/generations" "$acme/erp/generations.real"
ln -s generations.real "$acme/erp/generations"
finds symlink "$acme/erp/generations" "a link in place of a folder"
rm "$acme/erp/generations"
mv "$acme/erp/generations.real" "$acme/erp/generations"
ln -s /etc "$acme/_inbox/etc"
finds symlink "$acme/_inbox/etc" "a link in the inbox"
rm "$acme/_inbox/etc"
chmod 700 "$here/standby"
finds reach "$here/standby" "a folder above that is closed"
mends
usermod -a -G "$LAB_KEEPER" "$LAB_RECEIVER"
finds user-group "$LAB_RECEIVER" "receivers in the keeper's group"
mends
usermod -a -G "$LAB_RECEIVER" "$other"
finds user-group "$LAB_RECEIVER" "another user in the receivers' group"
mends
usermod -g "$LAB_RECEIVER" "$other"
finds user-group "$LAB_RECEIVER" "another user with the receivers' group as its own"
usermod -g "$other" "$other"
exits 0 "a group of its own again" check
usermod -s /usr/sbin/nologin "$LAB_RECEIVER"
finds user-shell "$LAB_RECEIVER" "a shell that runs no forced command"
mends
usermod -p '' "$LAB_RECEIVER"
finds user-password "$LAB_RECEIVER" "no password at all"
mends
cp "$here/sshd/keys/$LAB_RECEIVER" "$work/lines"
cat "$here/keys/source.pub" >>"$here/sshd/keys/$LAB_RECEIVER"
finds sshd-keys "$here/sshd/keys/$LAB_RECEIVER" "a key without a forced command"
cp "$work/lines" "$here/sshd/keys/$LAB_RECEIVER"
chown "$LAB_RECEIVER" "$here/sshd/keys/$LAB_RECEIVER"
finds sshd-keys "$here/sshd/keys/$LAB_RECEIVER" "keys that the receivers' user may change"
mends
sed 's/^DisableForwarding yes/DisableForwarding no/' "$config" >"$work/config"
config=$work/config
planted=$((planted + 1))
exits 3 "an sshd that forwards" check
says 'DisableForwarding no, meant is yes'
config=$here/sshd/config
if command -v setfacl >/dev/null && setfacl -m "u:$LAB_RECEIVER:rwx" "$acme/erp/chain" 2>/dev/null; then
	finds acl "$acme/erp/chain" "an access list"
	mends
else
	echo "  note: no access lists here"
fi
exits 0 "a tenant whose receivers are the keeper" "$sosie" tenant add --store "$SOSIE_STORE" single --quota none
says 'same user: fine for a try, not for production'
finds one-user "$SOSIE_STORE/single" "one user on both sides"
exits 0 "it is set apart" "$sosie" tenant add --store "$SOSIE_STORE" single --user "$LAB_RECEIVER"
finds user-shared "$LAB_RECEIVER" "two tenants with one user"
"$lab" keeper "$here" stop
rm -r "$SOSIE_STORE/single"
[ "$planted" -ge 12 ] || fail "only $planted faults were planted"

# All at once, mended as a whole; not by somebody who is not root.
chmod 777 "$acme/_keys"
chown root:root "$acme/_outbox/limits"
chmod 755 "$acme/erp"
status=0
as_keeper "$here/bin/sosie" store check "$SOSIE_STORE" --mend >"$work/out" 2>"$work/err" || status=$?
equal "--mend as the keeper" "$status" 3
exits 0 "--mend" check --mend --json
json '.mended == 3 and .left == 0 and ([.findings[] | select(.mended)] | length) == 3'
exits 0 "clean after it" check
# Mending never reaches through a name that a receiver has exchanged.
echo precious >"$work/precious"
chmod 600 "$work/precious"
as_receiver ln -s "$work/precious" "$acme/_inbox/erp/$(printf '%032d' 7).0"
exits 3 "a link among the uploads" check --mend
equal "what it leads to is as it was" "$(stat -c '%U %a' "$work/precious")" "root 600"
rm "$acme/_inbox/erp/$(printf '%032d' 7).0"
exits 2 "the store twice" "$sosie" store check "$SOSIE_STORE" --store "$SOSIE_STORE"
exits 3 "no store" "$sosie" store check "$work"

# --- cutover -------------------------------------------------------------------------------------------------------------------
"$lab" keeper "$here" start
load_env lab
scribble "$work/erp.img" 5
exits 0 "a last point" replicate erp "$work/erp.img"
exits 0 "cutover, by root" "$sosie" cutover --store "$SOSIE_STORE" acme/erp --yes
same_bytes "the live image" "$(find "$acme/erp/live" -name erp.raw)" "$work/erp.img"
scribble "$work/erp.img" 5
exits 3 "the sender is fenced, and told through the outbox" replicate erp "$work/erp.img"
says 'cut over|epoch'
exits 0 "clean after the cutover" check
users="$LAB_KEEPER $LAB_RECEIVER"
must "down" "$lab" down "$here"
for user in $users; do
	if getent passwd "$user" >/dev/null || getent group "$user" >/dev/null; then fail "the user $user is left"; fi
done
ok "its users are gone"
finish "$planted faults planted and found"
