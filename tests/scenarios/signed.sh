#!/bin/sh
# SPDX-License-Identifier: MIT
# Words that count are signed: the source's manifests and "same", the standby's acceptances and statements. Who lacks a key is refused, on both sides; verify
# tells from public keys alone; an exported head shows that history was rewritten.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario signed
lab_up
make_image "$work/erp.img" 2
export SOSIE_STORE
exits 0 "a key that signs" "$sosie" keygen --out "$work/signing"
says 'ssh-ed25519 '
ssh-keygen -q -t ed25519 -N '' -C other -f "$work/other"
exits 0 "the standby's card" "$sosie" card
says '^standby +[0-9a-f]{4} [0-9a-f]{4} [0-9a-f]{4} [0-9a-f]{4} [0-9a-f]{4}$'
exits 0 "the source's card" "$sosie" card --identity "$here/keys/source.pub" --signing "$work/signing.pub"
says '^signs '
exits 3 "a private key on a card" "$sosie" card --signing "$work/signing"
says 'must never leave its owner'
standby=$SOSIE_STORE/standby.pub
points_of() { "$sosie" verify acme/erp --json | jq -r "[.points, .signed_by_source, .signed_by_standby] | join(\" \")"; }

exits 0 "an unsigned point, as no signing key is registered" replicate erp "$work/erp.img"
equal "accepted under the standby's key" "$(points_of)" "1 0 1"
exits 0 "registered" "$sosie" key add --for signing acme "$work/signing.pub"
scribble "$work/erp.img" 1
exits 3 "unsigned is refused from now on" replicate erp "$work/erp.img"
says 'not signed'
exits 3 "another key is refused" replicate erp "$work/erp.img" --signing "$work/other"
says 'signed by the key SHA256:'
exits 0 "signed, the standby's key pinned" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
equal "signed by both" "$(points_of)" "2 1 2"
[ -s "$state/erp/receipt" ] || [ -n "$(find "$work" -path '*state*' -name receipt -size +0)" ] || fail "no receipt is kept"
ok "the standby's receipt is kept"

# OpenSSH alone checks them.
receipt=$(find "$work" -path '*state*' -name receipt | head -n 1)
sed '/^-----BEGIN SSH SIGNATURE/,$d' "$receipt" | head -c -1 >"$work/receipt.txt"
sed -n '/^-----BEGIN SSH SIGNATURE/,$p' "$receipt" >"$work/receipt.sig"
echo "standby $(cut -d' ' -f1,2 "$standby")" >"$work/allowed"
exits 0 "ssh-keygen checks the receipt" sh -c "ssh-keygen -Y verify -f '$work/allowed' -I standby -n sosie-statement -s '$work/receipt.sig' <'$work/receipt.txt'"

# What a receiver relays is believed only with the keeper's signature.
scribble "$work/erp.img" 2
exits 3 "another standby's key is pinned" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$work/other.pub"
says "not its keeper's"
cp "$SOSIE_STORE/acme/_outbox/erp/head" "$work/head"
sed 's/"epoch":1/"epoch":2/' "$work/head" >"$SOSIE_STORE/acme/_outbox/erp/head"
exits 3 "a faked \"fenced\"" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
says "not its keeper's"
head -n 1 "$work/head" | tr -d '\n' >"$SOSIE_STORE/acme/_outbox/erp/head"
exits 3 "a head without its signature" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
says 'not signed'
cp "$work/head" "$SOSIE_STORE/acme/_outbox/erp/head"
exits 0 "and the true one again" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
equal "three points" "$(newest erp)" 3

# From public keys alone.
{
	echo "# who signs here"
	echo "standby $(cat "$standby")"
	echo "source $(cat "$work/signing.pub")"
} >"$work/keys"
exits 5 "verify with keys: the first point is not signed" "$sosie" verify acme/erp --keys "$work/keys"
says 'damaged: .*the manifest is not signed'
echo "source $(cat "$work/signing.pub")" >"$work/keys2"
exits 3 "keys without the standby's" "$sosie" verify acme/erp --keys "$work/keys2"
says "names no standby's key"

# An exported head; then history is rewritten, consistently but without the key.
exits 0 "head --export" "$sosie" head acme/erp --export "$work/erp.head"
exits 3 "and not over another" "$sosie" head acme/erp --export "$work/erp.head"
scribble "$work/erp.img" 3
exits 0 "one more point" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
exits 0 "the chain still has it" "$sosie" verify acme/erp --head "$work/erp.head"
says 'still has what it ended with'
sed 's/"point":3/"point":2/' "$work/erp.head" >"$work/bad.head"
exits 5 "a head that was changed" "$sosie" verify acme/erp --head "$work/bad.head"
says 'damaged'

# Revoked: what was accepted stays good, nothing more comes.
id=$("$sosie" key list acme --json | jq -r '.keys[] | select(.for == "signing") | .key')
exits 0 "key revoke" "$sosie" key revoke acme "$id" --reason "a test"
scribble "$work/erp.img" 4
exits 3 "the revoked key is refused" replicate erp "$work/erp.img" --signing "$work/signing" --standby-key "$standby"
says 'revoked'
exits 3 "and unsigned too" replicate erp "$work/erp.img"
equal "points before stay good" "$(points_of)" "4 3 4"

# A cutover without the key goes on, and says so.
mv "$SOSIE_STORE/_private/standby" "$work/away"
exits 0 "a cutover without the standby's key" "$sosie" cutover acme/erp --yes
says 'is not signed'
finish
