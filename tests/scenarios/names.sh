#!/bin/sh
# SPDX-License-Identifier: MIT
# Names outside the allowed set are refused at both ends: by the commands, and by sosie-receive when a peer says them on the wire. Paths near the system's limit.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario names
lab_up
make_image "$work/erp.img" 1
find "$here/standby" | sort >"$work/tree.before"

newline='a
b'
long=$(printf 'x%063d' 0)
refused=0
for bad in .. . a/b /etc ../acme "$newline" 'é' '-x' '.hidden' '_store' 'a b' "a'b" 'a;b' "$long" '%n' ''; do
	status=0
	"$sosie" tenant add --store "$SOSIE_STORE" --quota 1G -- "$bad" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 2 ] || [ "$status" -eq 3 ] || fail "tenant '$bad': exit $status"
	status=0
	replicate "$bad" "$work/erp.img" || status=$?
	[ "$status" -eq 2 ] || [ "$status" -eq 3 ] || fail "group '$bad': exit $status"
	status=0
	replicate erp -- "$bad=$work/erp.img" || status=$?
	[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "volume '$bad': exit $status"
	refused=$((refused + 3))
done
ok "$refused names refused by the commands"
find "$here/standby" | sort >"$work/tree.after"
must "nothing was made in the store" cmp "$work/tree.before" "$work/tree.after"

# On the wire: little-endian frames (docs/protocol.md) straight into sosie-receive.
le() # VALUE BYTES
{
	e_value=$1 e_left=$2
	while [ "$e_left" -gt 0 ]; do
		# shellcheck disable=SC2059 # an octal escape is the point
		printf "\\$(printf %03o $((e_value & 255)))"
		e_value=$((e_value >> 8)) e_left=$((e_left - 1))
	done
}
frame() # TYPE REQUEST FILE
{
	le "$(stat -c %s "$3")" 4
	le "$1" 2
	le 0 2
	le "$2" 4
	cat "$3"
}
text() # STRING
{
	printf %s "$1" >"$work/text"
	le "$(stat -c %s "$work/text")" 4
	cat "$work/text"
}
key=$(basename "$(find "$SOSIE_STORE/acme/_keys" -name '*.json')" .json)
{ le 1 2; le 1 2; le 7 8; text 'test'; } >"$work/hello"
said=0
for bad in .. . a/b /etc ../../x "$newline" 'é' .hidden _store "$long" ''; do
	text "$bad" >"$work/payload"
	for type in 3 5; do
		cp "$work/payload" "$work/body"
		[ "$type" -eq 3 ] || { le 1 1; head -c 32 /dev/zero; le 1 8; } >>"$work/body"
		{ frame 1 1 "$work/hello"; frame "$type" 2 "$work/body"; } >"$work/bytes"
		status=0
		timeout 20 "$bin/sosie-receive" --store "$SOSIE_STORE" --tenant acme --key "$key" <"$work/bytes" >"$work/answer" 2>"$work/err" || status=$?
		[ "$status" -lt 124 ] || fail "receiver on group '$bad': exit $status"
		# The second answer is an error frame (type 21) with the code name or protocol.
		welcome=$(od -An -tu4 -N4 "$work/answer" | tr -d ' ')
		[ -n "$welcome" ] || fail "no welcome for a good hello"
		got=$(od -An -tu2 -j $((12 + welcome + 4)) -N2 "$work/answer" | tr -d ' ')
		[ "$got" = 21 ] || fail "receiver answers type '$got' to group '$bad' in message $type"
		said=$((said + 1))
	done
done
ok "$said bad names refused by the receiver"
for bad in .. a/b '' "$newline"; do
	status=0
	"$bin/sosie-receive" --store "$SOSIE_STORE" --tenant "$bad" --key "$key" </dev/null >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -ne 0 ] && [ "$status" -lt 124 ] || fail "receiver with tenant '$bad': exit $status"
	status=0
	"$bin/sosie-receive" --store "$SOSIE_STORE" --tenant acme --key "$bad" </dev/null >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -ne 0 ] && [ "$status" -lt 124 ] || fail "receiver with key '$bad': exit $status"
done
ok "bad tenants and keys on the receiver's command line"
find "$here/standby" | sort >"$work/tree.after"
must "still nothing was made in the store" cmp "$work/tree.before" "$work/tree.after"
exits 0 "a good name" replicate Erp-1_x "$work/erp.img"

# Paths: deep ones work or are refused with a message; too long ones are never cut.
part=$(printf 'd%0199d' 0)
deep=$work
while [ ${#deep} -lt 3700 ]; do
	deep=$deep/$part
done
(cd "$work" && while [ "$(pwd | wc -c)" -lt 3700 ]; do mkdir "$part" && cd "$part"; done && cp "$work/erp.img" v.raw)
exits 0 "a volume path of $((${#deep} + 6)) bytes" replicate deep "$deep/v.raw"
point_is deep 1 v "$work/erp.img"
over=$deep/$part/$part/v.raw
for command in "points --store $over acme/erp" "store init $over" "export --store $SOSIE_STORE acme/deep --into $over"; do
	status=0
	# shellcheck disable=SC2086 # words wanted
	"$sosie" $command >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "a path of ${#over} bytes: exit $status"
	[ -s "$work/err" ] || fail "a path of ${#over} bytes: no message"
	ok "refused: ${command%% *} with a path of ${#over} bytes (exit $status)"
done
status=0
replicate deep "$over" || status=$?
[ "$status" -ge 1 ] && [ "$status" -le 3 ] || fail "a volume path of ${#over} bytes: exit $status"
ok "a volume path of ${#over} bytes is refused (exit $status)"
# The tree is too deep for one rm by path on some systems; rm -r copes from inside.
(cd "$work" && rm -rf "$part")
finish
