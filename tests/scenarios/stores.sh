#!/bin/sh
# SPDX-License-Identifier: MIT
# Folders that are no store, stores of a newer release, tenants and groups that are not there, and a second keeper.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario stores
lab_up

for verb in points verify status; do
	exits 3 "$verb on a folder that is no store" "$sosie" "$verb" --store "$work" acme/erp --json
	json '.ok == false and .error.code == "not-a-store"'
done
status=0
"$sosie" points --store "$work/nothing" acme/erp --json >"$work/out" 2>"$work/err" || status=$?
[ "$status" -eq 1 ] || [ "$status" -eq 3 ] || fail "store that is not there: exit $status"
json '.error.code | IN("not-found", "not-a-store")'
exits 3 "keeper on a folder that is no store" "$bin/sosie-keeper" --store "$work"
exits 3 "init over something" "$sosie" store init "$work" --json
json '.error.code == "exists"'
exits 3 "init over a store" "$sosie" store init "$SOSIE_STORE"
exits 1 "tenant that is not there" "$sosie" points --store "$SOSIE_STORE" nobody/erp --json
json '.error.code == "not-found" and (.error.what + .error.where | test("nobody"))'
exits 1 "group that is not there" "$sosie" points --store "$SOSIE_STORE" acme/nothing --json
json '.error.code == "not-found"'
exits 4 "a second keeper" timeout 20 "$bin/sosie-keeper" --store "$SOSIE_STORE"
says "$LAB_KEEPER_PID"

make_image "$work/erp.img" 1
exits 0 "a point" replicate erp "$work/erp.img"
exits 1 "point that is not there" "$sosie" export --store "$SOSIE_STORE" acme/erp --point 99 --into "$work/x" --json
json '.error.code == "not-found"'
[ ! -e "$work/x/erp.raw" ] || fail "an image of a point that is not there"

"$lab" keeper "$here" stop
cp "$SOSIE_STORE/sosie.json" "$work/sosie.json"
sed 's/"format": *1/"format":2/' "$work/sosie.json" >"$SOSIE_STORE/sosie.json"
cmp -s "$work/sosie.json" "$SOSIE_STORE/sosie.json" && fail "the test changed nothing"
exits 3 "store of a newer release" "$sosie" points --store "$SOSIE_STORE" acme/erp --json
json '.error.code == "newer-version"'
exits 3 "keeper on it" "$bin/sosie-keeper" --store "$SOSIE_STORE"
status=0
replicate erp "$work/erp.img" || status=$?
[ "$status" -ne 0 ] || fail "a sender is served by a store of a newer release"
ok "a sender is not served by it (exit $status)"
for text in '' '{' '[]' '{"format":1}' 'x'; do
	printf %s "$text" >"$SOSIE_STORE/sosie.json"
	status=0
	"$sosie" points --store "$SOSIE_STORE" acme/erp --json >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 1 ] || [ "$status" -eq 3 ] || fail "sosie.json '$text': exit $status"
	json '.ok == false and (.error.code | IN("corrupt", "not-a-store"))'
done
cp "$work/sosie.json" "$SOSIE_STORE/sosie.json"
"$lab" keeper "$here" start
scribble "$work/erp.img" 1
exits 0 "all is well again" replicate erp "$work/erp.img"
whole erp

# Damage is found and told: exit 5.
seg=$(find "$SOSIE_STORE/acme/erp/journal" -name '1.seg')
printf 'X' | dd of="$seg" bs=1 seek=100 conv=notrunc status=none
exits 5 "verify finds a damaged segment" "$sosie" verify --store "$SOSIE_STORE" acme/erp --full --json
json '.ok == true and .error == null'
exits 5 "and says where" "$sosie" verify --store "$SOSIE_STORE" acme/erp --full
says '1\.seg'
finish
