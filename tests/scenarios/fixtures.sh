#!/bin/sh
# SPDX-License-Identifier: MIT
# Every store that an earlier release wrote is read, checked, gone on with and cut over by this one (tests/fixtures).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario fixtures

stores=0
points=0
for archive in "$root"/tests/fixtures/store-*.tar.gz; do
	[ -e "$archive" ] || fail "no fixture store in tests/fixtures"
	n=$(basename "$archive" .tar.gz)
	stores=$((stores + 1))
	mkdir "$work/$n"
	tar -C "$work/$n" -xzf "$archive"
	store=$work/$n/store
	chmod -R u+rwX "$store"
	SOSIE_STORE=$store
	whole erp
	whole over
	while read -r group point volume digest; do
		points=$((points + 1))
		rm -rf "$work/x"
		"$sosie" export --store "$store" "acme/$group" --point "$point" --into "$work/x" >"$work/out" 2>"$work/err" ||
			fail "$n: export of $group, point $point"
		equal "$n: $group, point $point, $volume" "$(sha256sum <"$work/x/$volume.raw" | cut -d' ' -f1)" "$digest"
	done <"$root/tests/fixtures/$n.expected"
	exits 0 "$n: export with attachments" "$sosie" export --store "$store" acme/erp --into "$work/attached"
	equal "$n: the attachment" "$(cat "$work/attached/attachments/erp.xml")" "<domain/>"
	rm -rf "$work/attached"
	exits 0 "$n: a cutover that was done says so" "$sosie" cutover --store "$store" acme/over --yes
	says 'already|done'
	exits 0 "$n: a keeper works on it" "$bin/sosie-keeper" --store "$store" --once
	exits 0 "$n: cutover" "$sosie" cutover --store "$store" acme/erp --yes
	equal "$n: live image" "$(sha256sum <"$store/acme/erp/live/2/erp.raw" | cut -d' ' -f1)" \
		"$(awk '$1 == "erp" && $3 == "erp" { d = $4 } END { print d }' "$root/tests/fixtures/$n.expected")"
	exits 0 "$n: points" "$sosie" points --store "$store" acme/erp --json
	json '.ok and (.points | length == 11)'
done
finish "$stores stores, $points images of old formats"
