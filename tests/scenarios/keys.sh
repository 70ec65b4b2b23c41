#!/bin/sh
# SPDX-License-Identifier: MIT
# Host keys unknown or changed, client keys unknown or taken away: refused with exit 3, before anything is sent, with the way out. Keys that are revoked
# while a sender runs, or that are for some groups only; what the audit log has of it all.
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

# A running sender is refused at its next step.
config=$work/sosie.yaml
{
	config_head "$work/daemon"
	cat <<-END
		  - name: acme/web
		    standby: bleu
		    interval: 200ms
		    volumes:
		      - {name: web, path: $work/web.img}
	END
} >"$config"
chmod 600 "$config"
make_image "$work/web.img" 2
start_daemon "$config"
within 20 "the daemon's first point" status_of_config "$config" '.groups[0].point == 1'
exits 0 "the list of keys" "$sosie" key list --store "$SOSIE_STORE" acme --json
json '.keys | length == 1 and .[0].for == "ssh" and .[0].groups == null and .[0].revoked_time == null'
id=$(jq -r '.keys[0].key' "$work/out")
exits 0 "the key is revoked" "$sosie" key revoke --store "$SOSIE_STORE" acme "$id" --reason "the host was sold"
scribble "$work/web.img" 3
within 20 "the running sender is refused" status_of_config "$config" '.groups[0] | .state == "needs you" and .error.code == "auth"'
kill "$daemon"
wait "$daemon" || true
equal "no point came behind the revocation" "$(newest web)" 1
exits 3 "a sender that starts then" replicate erp "$work/erp.img"
exits 0 "revoking it again" "$sosie" key revoke --store "$SOSIE_STORE" acme "$id"
exits 0 "the list then" "$sosie" key list --store "$SOSIE_STORE" acme
says 'REVOKED'
exits 0 "adding it anew" "$sosie" key add --store "$SOSIE_STORE" acme "$here/keys/source.pub"
exits 0 "a sender with it" replicate erp "$work/erp.img"

# A key for one group.
ssh-keygen -q -t ed25519 -N '' -C limited -f "$work/limited"
exits 0 "a key for one group" "$sosie" key add --group erp --store "$SOSIE_STORE" acme "$work/limited.pub"
says ' --group erp" ssh-ed25519 '
grep 'command=' "$work/out" >>"$here/sshd/authorized_keys"
exits 3 "the same key for another group" "$sosie" key add --group web --store "$SOSIE_STORE" acme "$work/limited.pub"
SOSIE_IDENTITY=$work/limited
scribble "$work/erp.img" 2
before=$(newest erp)
exits 0 "its own group" replicate erp "$work/erp.img"
equal "is one point further" "$(newest erp)" $((before + 1))
exits 3 "another group" replicate web "$work/web.img"
says 'is not for the group web'
equal "and no point there" "$(newest web)" 1
SOSIE_IDENTITY=$good

# A signing key has no line.
exits 0 "a signing key" "$sosie" key add --for signing --store "$SOSIE_STORE" acme "$here/keys/source.pub" --json
json '.authorized_keys == null and .for == "signing"'
equal "SSH keys with a copy" "$(find "$SOSIE_STORE/acme/_keys" -name '*.json' | wc -l)" 2

# The audit log has it, with the acceptances, an export and a cutover.
exits 0 "an export" "$sosie" export --store "$SOSIE_STORE" acme/erp --into "$work/out-erp"
exits 3 "a cutover without consent" "$sosie" cutover --store "$SOSIE_STORE" acme/web
exits 0 "a cutover" "$sosie" cutover --store "$SOSIE_STORE" acme/web --yes
exits 0 "the audit log" "$sosie" audit --store "$SOSIE_STORE" acme --json
jq -s . "$work/out" >"$work/audit"
audit() { jq -e "$1" "$work/audit" >/dev/null || fail "not true of the audit log: $1"; ok "audit: $1"; }
audit '.[-1] | .schema == "sosie/audit/1" and .ok'
audit '.[-1].entries == length - 1'
audit '[.[:-1][] | .time] | . == sort'
audit '[.[:-1][] | select(.group == null) | .number] | . == [range(1; length + 1)]'
audit '[.[] | select(.kind == "key-revoke") | .body.reason] == ["the host was sold"]'
audit '[.[] | select(.kind == "key-add") | .body.use] == ["ssh", "ssh", "ssh", "signing"]'
audit "[.[] | select(.kind == \"acceptance\" and .group == \"erp\")] | length == $(newest erp)"
audit '[.[] | select(.kind == "epoch") | .group] == ["web"]'
audit '[.[] | select(.kind == "cutover") | .body.step] == ["refused", "begin", "done"]'
audit 'any(.[]; .kind == "command" and .body.command == "export" and .body.group == "erp")'
audit 'all(.[:-1][] | select(.group == null); .body.by.uid != null)'
exits 0 "the store's own log" "$sosie" audit --store "$SOSIE_STORE"
says 'command=.store init.'
says 'tenant 2: tenant=acme quota=0'
exits 0 "of the last week" "$sosie" audit --store "$SOSIE_STORE" acme --since 7d
says 'key-revoke'
exits 0 "since a day to come" "$sosie" audit --store "$SOSIE_STORE" acme --since 2999-01-01
says_not 'key'
exits 2 "since no time" "$sosie" audit --store "$SOSIE_STORE" acme --since yesterday
exits 1 "of no tenant" "$sosie" audit --store "$SOSIE_STORE" nobody
whole erp
says 'audit entries'
log=$SOSIE_STORE/acme/_audit/000001.audit
equal "mode of the log's folder" "$(stat -c %a "${log%/*}")" 700
printf X | dd of="$log" bs=1 seek=100 conv=notrunc status=none
exits 5 "verify finds a damaged entry" "$sosie" verify --store "$SOSIE_STORE" acme/erp
says '000001.audit at offset 0'
exits 1 "and so does audit" "$sosie" audit --store "$SOSIE_STORE" acme --json
jq -s . "$work/out" >"$work/audit"
audit '.[-1] | (.ok | not) and .error.code == "corrupt"'

# Nobody listens there.
SOSIE_TO="${SOSIE_TO%:*}:1"
exits 4 "nobody listens" replicate erp "$work/erp.img"
says 'refused|connect'
finish
