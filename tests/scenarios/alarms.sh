#!/bin/sh
# SPDX-License-Identifier: MIT
# Alarms at the standby: a source that is silent, a refused upload, damage; the program that is told, the metrics file, what status and the lists say, closing; limits of a tenant.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario alarms
lab_up
store="--store $SOSIE_STORE"
told=$work/told
: >"$told"
cat >"$work/on-alarm" <<END
#!/bin/sh
{ cat && echo; } >>$told
END
chmod 700 "$work/on-alarm"

for bad in "--on-alarm on-alarm" "--on-alarm $work/none" "--alarm-repeat 1s" "--on-alarm $work/on-alarm --alarm-repeat 1x" "--on-alarm $work/on-alarm --alarm-repeat 1ms" "--on-alarm $work/on-alarm --once"; do
	"$lab" keeper "$here" stop
	# shellcheck disable=SC2086 # words wanted, and the path of a lab has no blanks
	exits 2 "sosie-keeper $bad" "$bin/sosie-keeper" $store $bad
done
export LAB_KEEPER_OPTIONS="--on-alarm $work/on-alarm --alarm-repeat 1s --metrics $work/metrics"
"$lab" keeper "$here" start

standby() # EXPRESSION of the status of all of the store
{
	# shellcheck disable=SC2086
	"$sosie" status $store --json >"$work/status" 2>/dev/null || [ $? -eq 5 ] || return 1
	jq -e "$1" "$work/status" >/dev/null
}
alarms() # EXPRESSION of the list of all alarms
{
	# shellcheck disable=SC2086
	"$sosie" alarm list $store --all --json >"$work/status" 2>/dev/null || return 1
	jq -e "$1" "$work/status" >/dev/null
}
was_told() # EXPRESSION over all that the program was told
{
	jq -s -e "$1" "$told" >/dev/null
}
each_line_fits() # of the metrics file
{
	grep -q . "$work/metrics" && ! grep -vE '^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? [0-9.e+-]+)$' "$work/metrics"
}

# --- late ----------------------------------------------------------------------------------------------------------------------
echo '{"format":1,"values":{"rpo":3000},"changes":[]}' >"$SOSIE_STORE/acme/policy.json"
make_image "$work/erp.img" 2
config=$work/sosie.yaml
{
	config_head "$work/state"
	echo "  - {name: acme/erp, standby: bleu, interval: 200ms, source: scan, volumes: [{name: erp, path: $work/erp.img}]}"
} >"$config"
chmod 600 "$config"
start_daemon "$config"
within 20 "a point" standby '.groups[0].point.point >= 1'
# An idle source says "same": so the group is not late though nothing changes.
within 20 "a point that is older than the objective" standby '.groups[0].point.age_s >= 4'
exits 0 "an idle group is not late" "$sosie" status --store "$SOSIE_STORE"
says 'quota .*NONE'
json_status() { "$sosie" status --store "$SOSIE_STORE" acme/erp --json; }
exits 0 "as a document" json_status
json '.groups[0].alarms == [] and .groups[0].point.alarms == [] and .store.alarms == [] and .tenants[0].quota == null and .store.reserve_bytes > 0'
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ends badly"
daemon=
within 20 "silence is an alarm" standby '.groups[0].alarms | any(.kind == "late" and .state == "open")'
exits 5 "status" "$sosie" status --store "$SOSIE_STORE" acme/erp
says 'ALARM .*A1 late'
exits 0 "points" "$sosie" points --store "$SOSIE_STORE" acme/erp
says 'ALARM .*A1 late'
exits 3 "the plan of a cutover" "$sosie" cutover --store "$SOSIE_STORE" acme/erp
says 'ALARM .*A1 late'
exits 0 "points" "$sosie" points --store "$SOSIE_STORE" acme/erp --json
json '.points[-1].verified and .points[-1].alarms == ["A1"]'
within 20 "the program is told, and again" was_told '[.[] | select(.id == "A1" and .state == "open")] | length >= 2'
was_told 'all(.format == 1 and has("kind") and has("tenant") and has("group") and has("since") and has("closed") and (.text | length > 0))' || fail "what is told: $(cat "$told")"
was_told 'any(.kind == "late" and .tenant == "acme" and .group == "erp" and .closed == null)' || fail "what is told: $(cat "$told")"
ok "each is one JSON object"
exits 3 "late is not closed by hand" "$sosie" alarm close --store "$SOSIE_STORE" A1
within 20 "metrics say so" grep -qxF 'sosie_keeper_late{tenant="acme",group="erp"} 1' "$work/metrics"
must "every line of the metrics fits the format" each_line_fits
"$lab" keeper "$here" stop
rm "$work/metrics"
"$lab" keeper "$here" start
within 20 "the next keeper has looked" test -e "$work/metrics"
alarms '[.alarms[] | select(.kind == "late")] | length == 1' || fail "another alarm after a restart: $(cat "$work/status")"
ok "a keeper that begins goes on with the same alarm"
start_daemon "$config"
within 20 "the source is back" standby '.groups[0].alarms == []'
within 20 "the program is told" was_told 'any(.id == "A1" and .state == "closed" and .closed != null)'
exits 0 "all is well" "$sosie" status --store "$SOSIE_STORE" acme/erp

# --- refused, closed by hand ---------------------------------------------------------------------------------------------------
for n in 1 2 3; do
	echo "no manifest" >"$SOSIE_STORE/acme/_inbox/erp/0123456789abcdef0123456789abcde$n.manifest"
done
within 20 "three refusals are one alarm" alarms '[.alarms[] | select(.kind == "refused" and .group == "erp" and .state == "open")] | length == 1'
within 20 "counted" alarms '.alarms[] | select(.kind == "refused") | .count == 3'
scribble "$work/erp.img" 3
point=$(newest erp)
within 20 "a good point comes after it" standby ".groups[0].point.point > $point"
exits 5 "and does not end it" "$sosie" status --store "$SOSIE_STORE" acme/erp
exits 0 "the list" "$sosie" alarm list --store "$SOSIE_STORE" acme
says 'A2 .*refused .*acme/erp'
says_not 'late'
exits 0 "of the group, closed ones too" "$sosie" alarm list --store "$SOSIE_STORE" acme/erp --all --json
json '.open == 1 and (.alarms | length) == 2'
exits 1 "of a tenant that is not there" "$sosie" alarm list --store "$SOSIE_STORE" nobody
exits 1 "no such alarm" "$sosie" alarm close --store "$SOSIE_STORE" A99
exits 2 "no id" "$sosie" alarm close --store "$SOSIE_STORE" 2
exits 0 "closed" "$sosie" alarm close --store "$SOSIE_STORE" A2 --reason 'a test of ours' --json
json '.alarm.state == "closed" and .alarm.reason == "a test of ours"'
exits 3 "twice" "$sosie" alarm close --store "$SOSIE_STORE" A2
exits 0 "status is quiet again" "$sosie" status --store "$SOSIE_STORE" acme/erp
within 20 "the program is told" was_told 'any(.id == "A2" and .state == "closed" and .reason == "a test of ours")'
grep -qa '"alarm":"A2","what":"closed"' "$SOSIE_STORE"/acme/_audit/*.audit || fail "the closing is not in the audit log"
ok "the closing is in the audit log"

# --- damage --------------------------------------------------------------------------------------------------------------------
victim=$(find "$SOSIE_STORE/acme/erp/journal" -name '*.seg' | sort | tail -n 1)
chmod u+w "$victim"
printf rot | dd of="$victim" bs=1 seek=60 conv=notrunc status=none
exits 5 "verify finds it" "$sosie" verify --store "$SOSIE_STORE" acme/erp
exits 5 "and status knows" "$sosie" status --store "$SOSIE_STORE" acme/erp
says 'ALARM .*damage, .*verify found damage'
within 20 "the program is told" was_told 'any(.kind == "damage" and .state == "open")'

# --- limits --------------------------------------------------------------------------------------------------------------------
exits 2 "a limit that is none" "$sosie" tenant set --store "$SOSIE_STORE" acme points=0
exits 0 "limits" "$sosie" tenant set --store "$SOSIE_STORE" acme quota=1G segment=4096 --json
json '.limits.quota == 1073741824 and .limits.segment == 4096 and .limits.points == 6000'
exits 0 "shown" "$sosie" tenant show --store "$SOSIE_STORE" acme
says 'segment +4 KiB'
says 'points +6000 a minute .default.'
scribble "$work/erp.img" 3
within 20 "a limit that is met is the tenant's alarm" standby '.tenants[0].alarms | any(.kind == "quota" and (.text | test("segment")))'
exits 0 "limits as before" "$sosie" tenant set --store "$SOSIE_STORE" acme segment=default
point=$(newest erp)
# Begun anew it does not wait for the minute after which it would try again.
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ends badly"
start_daemon "$config"
within 20 "and it goes on" standby ".groups[0].point.point > $point"
must "every line of the metrics fits the format still" each_line_fits
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ends badly"
daemon=
finish
