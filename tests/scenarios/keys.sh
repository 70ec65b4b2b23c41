#!/bin/sh
# SPDX-License-Identifier: MIT
# Host keys unknown or changed, client keys unknown or taken away: refused with exit 3, before anything is sent, with the way out.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario keys
lab_up
make_image "$work/erp.img" 2

real=$SOSIE_KNOWN_HOSTS
fingerprint=$(ssh-keygen -lf "$here/keys/host.pub" | cut -d' ' -f2)
SOSIE_KNOWN_HOSTS=$work/known_hosts
: >"$SOSIE_KNOWN_HOSTS"
logins=$(grep -c 'Accepted publickey' "$here/log/sshd" || true)
exits 3 "unknown host key" replicate erp "$work/erp.img"
cat "$work/out" "$work/err" | grep -qF -e "$fingerprint" || fail "the fingerprint $fingerprint is not named"
ok "names the fingerprint"
says 'known_hosts'
says 'by telephone.*ssh-keyscan'
{
	echo '# a comment'
	echo "$(cut -d' ' -f1 "$real") ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAthisisnokey"
} >"$SOSIE_KNOWN_HOSTS"
exits 3 "a damaged line" replicate erp "$work/erp.img"
says 'line 2 of .*known_hosts cannot be read as a key'
ssh-keygen -q -t ed25519 -N '' -f "$work/other"
echo "$(cut -d' ' -f1 "$real") $(cut -d' ' -f1,2 "$work/other.pub")" >"$SOSIE_KNOWN_HOSTS"
exits 3 "changed host key" replicate erp "$work/erp.img"
cat "$work/out" "$work/err" | grep -qF -e "$fingerprint" || fail "the fingerprint $fingerprint is not named"
ok "names the fingerprint"
equal "no login was tried" "$(grep -c 'Accepted publickey' "$here/log/sshd" || true)" "$logins"
SOSIE_KNOWN_HOSTS=$work/missing
status=0
replicate erp "$work/erp.img" || status=$?
[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "known_hosts that is not there: exit $status"
ok "known_hosts that is not there (exit $status)"
says 'there is no file .*/missing'
SOSIE_KNOWN_HOSTS=$real

good=$SOSIE_IDENTITY
SOSIE_IDENTITY=$work/other
exits 3 "a client key that the standby does not know" replicate erp "$work/erp.img"
says 'key'
SOSIE_IDENTITY=$work/none
status=0
replicate erp "$work/erp.img" || status=$?
[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "identity that is not there: exit $status"
ok "identity that is not there (exit $status)"
says '/none does not exist'
[ ! -e "$state" ] || [ -z "$(ls "$state")" ] || fail "a state folder is left although there never was a connection: $(ls "$state")"
ok "no state folder is left"
SOSIE_IDENTITY=$good.pub
exits 3 "the public half as identity" replicate erp "$work/erp.img"
says 'is the public half of a key'
ssh-keygen -q -t ed25519 -N secret -f "$work/locked"
SOSIE_IDENTITY=$work/locked
exits 3 "a key with a passphrase" replicate erp "$work/erp.img"
says 'has a passphrase'
SOSIE_IDENTITY=$good
exits 3 "no identity" env -u SOSIE_IDENTITY -u SSH_AUTH_SOCK "$sosie" replicate --to "$SOSIE_TO/acme/erp" \
	--known-hosts "$SOSIE_KNOWN_HOSTS" --state "$work/state-none" --once "$work/erp.img"
says '\-\-identity is not given'
exits 3 "no user" env USER=nobody-here "$sosie" replicate --to "${SOSIE_TO#*@}/acme/erp" --identity "$good" \
	--known-hosts "$SOSIE_KNOWN_HOSTS" --state "$work/state-none" --once "$work/erp.img"
says 'no user was given in --to; nobody-here, the local user, was tried'

exits 0 "with the right keys" replicate erp "$work/erp.img"
key=$(find "$SOSIE_STORE/acme/_keys" -name '*.json')
mv "$key" "$work/key.json"
scribble "$work/erp.img" 2
exits 3 "the key was taken out of the store" replicate erp "$work/erp.img"
equal "no further point" "$(newest erp)" 1
mv "$work/key.json" "$key"
exits 0 "and put back" replicate erp "$work/erp.img"

exits 0 "the same key again" "$sosie" key add --for ssh --store "$SOSIE_STORE" acme "$here/keys/source.pub"
grep -q '^restrict,command="' "$work/out" || fail "the authorized_keys line does not begin with restrict,command="
ok "prints the authorized_keys line"
equal "one key" "$(find "$SOSIE_STORE/acme/_keys" -name '*.json' | wc -l)" 1
ssh-keygen -q -t rsa -b 2048 -N '' -f "$work/weak"
for file in "$work/weak.pub" "$here/keys/source" "$work/erp.img"; do
	status=0
	"$sosie" key add --for ssh --store "$SOSIE_STORE" acme "$file" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "key add $file: exit $status"
	ok "no key of ours: $(basename "$file") (exit $status)"
done

# The forced command holds whatever the client asks for, and forwards nothing.
status=0
ssh -F none -i "$good" -o UserKnownHostsFile="$real" -o BatchMode=yes -o IdentitiesOnly=yes -p "${SOSIE_TO##*:}" \
	"${SOSIE_TO%:*}" "touch $work/owned" </dev/null >"$work/out" 2>"$work/err" || status=$?
[ ! -e "$work/owned" ] || fail "a source's key runs commands"
ok "a source's key runs no command of its own"
# Nobody listens there.
SOSIE_TO="${SOSIE_TO%:*}:1"
exits 4 "nobody listens" replicate erp "$work/erp.img"
says 'refused|connect'
finish
