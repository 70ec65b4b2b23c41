#!/bin/sh
# SPDX-License-Identifier: MIT
# --json prints exactly one document for every verb, on success and failure alike, with the members that docs/operating.md promises; --help and --version everywhere.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario json
lab_up
make_image "$work/erp.img" 2
exits 0 "a point" replicate erp "$work/erp.img"
scribble "$work/erp.img" 1
exits 0 "another" replicate erp "$work/erp.img"

one_document() # OK CODE TEXT COMMAND…
{
	o_ok=$1 o_code=$2 o_text=$3
	shift 3
	exits "$o_code" "$o_text" "$@"
	[ "$(jq -s length "$work/out" 2>/dev/null)" = 1 ] || fail "$o_text: not one JSON document: $(head -c 200 "$work/out")"
	json "(.schema != null) and .ok == $o_ok"
	if [ "$o_ok" = false ]; then
		json '.error | (.code | type == "string") and (.class | IN("usage","retry","fatal","operator")) and (.what | length > 0) and has("where") and has("action")'
	fi
}
s="--store $SOSIE_STORE"
# shellcheck disable=SC2086 # words wanted: the path of a lab has no blanks
{
	one_document true 0 points "$sosie" points $s acme/erp --json
	one_document true 0 "points --last" "$sosie" points $s acme/erp --last 1 --json
	one_document true 3 "store check, of a set-up with one user" "$sosie" store check $s --json
	json '[.findings[] | select(.code == "one-user" and .path and .what and .mend and .mended == false)] | length == 1'
	one_document false 3 "store check: no store" "$sosie" store check "$work" --json
	one_document true 0 verify "$sosie" verify $s acme/erp --json
	one_document true 0 "verify --point" "$sosie" verify $s acme/erp --point 1 --full --json
	one_document true 0 export "$sosie" export $s acme/erp --into "$work/x1" --json
	one_document true 0 "export --point" "$sosie" export $s acme/erp --into "$work/x2" --point 1 --json
	one_document true 0 status "$sosie" status $s --json
	one_document true 0 "alarm list" "$sosie" alarm list $s --all --json
	one_document false 1 "alarm close: no such alarm" "$sosie" alarm close $s A1 --json
	one_document true 0 "tenant show" "$sosie" tenant show $s acme --json
	one_document true 0 "tenant set" "$sosie" tenant set $s acme points=5000 --json
	one_document false 2 "tenant set: no such key" "$sosie" tenant set $s acme nonsense=1 --json
	one_document true 0 "status of a group" "$sosie" status $s acme/erp --json
	one_document true 0 keygen "$sosie" keygen --out "$work/signing" --json
	json '(.file | endswith("/signing")) and .public_file == .file + ".pub" and (.public | startswith("ssh-ed25519 ")) and (.fingerprint | startswith("SHA256:")) and (.key | length) == 16'
	one_document false 3 "keygen: the file is there" "$sosie" keygen --out "$work/signing" --json
	one_document false 1 "keygen: no such folder" "$sosie" keygen --out "$work/none/signing" --json
	one_document false 2 "keygen: a comment of two lines" "$sosie" keygen --out "$work/signing2" --comment 'a
b' --json
	one_document true 0 "key list" "$sosie" key list $s acme --json
	one_document false 1 "key list: no such tenant" "$sosie" key list $s none --json
	one_document false 1 "key revoke: no such key" "$sosie" key revoke $s acme 0123456789abcdef --json
	one_document false 1 "audit: no such tenant" "$sosie" audit $s none --json
	one_document false 3 "audit: no store" "$sosie" audit --store "$work" --json
	one_document false 2 "audit: no time" "$sosie" audit $s --since now --json
	exits 0 "audit prints a document a line" "$sosie" audit $s --json
	equal "each line is one" "$(jq -c . "$work/out" | wc -l)" "$(wc -l <"$work/out")"
	for verb in points verify status; do
		one_document false 1 "$verb: no such group" "$sosie" "$verb" $s acme/none --json
		one_document false 3 "$verb: no store" "$sosie" "$verb" --store "$work" acme/erp --json
		one_document false 2 "$verb: unknown option" "$sosie" "$verb" $s acme/erp --nonsense --json
		exits 0 "$verb --help" "$sosie" "$verb" --help
	done
	one_document false 1 "export: no such point" "$sosie" export $s acme/erp --into "$work/x3" --point 7 --json
	one_document false 3 "export: would overwrite" "$sosie" export $s acme/erp --into "$work/x1" --json
	one_document false 2 "export: no folder" "$sosie" export $s acme/erp --json
	one_document false 2 "export: point is no number" "$sosie" export $s acme/erp --into "$work/x3" --point x --json
	one_document false 3 "cutover: no consent" "$sosie" cutover $s acme/erp --json
	one_document false 1 "cutover: no such group" "$sosie" cutover $s acme/none --yes --json
	one_document true 0 cutover "$sosie" cutover $s acme/erp --yes --json
	one_document true 0 "cutover again" "$sosie" cutover $s acme/erp --yes --json
	one_document false 3 "cutover elsewhere" "$sosie" cutover $s acme/erp --yes --into "$work/y" --json
	one_document true 0 "status after a cutover" "$sosie" status $s acme/erp --json
	one_document true 0 "points after a cutover" "$sosie" points $s acme/erp --json
}
for verb in "store init" "store check" "store key" "tenant add" "tenant set" "tenant show" "alarm list" "alarm close" "key add" "key list" "key revoke" audit keygen card head replicate export cutover; do
	# shellcheck disable=SC2086
	exits 0 "$verb --help" "$sosie" $verb --help
	says 'usage'
done
for program in sosie sosied sosie-receive sosie-keeper; do
	exits 0 "$program --version" "$bin/$program" --version
	says '[0-9]+\.[0-9]+'
	exits 0 "$program --help" "$bin/$program" --help
done
exits 2 "no verb" "$sosie"
exits 2 "unknown verb" "$sosie" nonsense
finish
