#!/bin/sh
# SPDX-License-Identifier: MIT
# The daemon: two groups of one file, followed; a standby that goes away and comes back; kill -9 and a restart; an alarm that opens and
# closes; the metrics file; a second daemon. (A standby that hangs: reload.sh.)
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario mirror
lab_up
make_image "$work/erp.img" 4
make_image "$work/web.img" 4

cat >"$work/alarm" <<END
#!/bin/sh
cat >>"$work/alarms"
echo >>"$work/alarms"
END
chmod 755 "$work/alarm"
: >"$work/alarms"
config=$work/sosie.yaml
state=$work/state
write_config()
{
	{
		config_head "$state" "on_alarm: $work/alarm" "alarm_repeat: 1h" "metrics: $work/metrics.prom"
		cat <<END
  - name: acme/erp
    standby: bleu
    interval: 200ms
    rpo: 3s
    volumes:
      - {name: erp, path: $work/erp.img}
  - name: acme/web
    standby: bleu
    interval: 200ms
    volumes:
      - {name: web, path: $work/web.img}
END
	} >"$config"
	chmod 600 "$config"
}
write_config
status() { status_of_config "$config" "$1"; } # JQ EXPRESSION
point_above() { [ "$(newest "$1")" -gt "$2" ]; }
alarm() { jq -se "any(.[]; .kind == \"$1\" and .state == \"$2\")" "$work/alarms"; }

exits 0 "the file is fine" "$bin/sosied" --check-config "$config"
says '2 groups, 1 standby: ok'
exits 4 "no daemon runs yet" "$sosie" status --config "$config"
says 'not running'
says 'acme/erp: no point is recorded'

start_daemon "$config"
within 20 "the first points" status '[.groups[].point] == [1,1]'
point_is erp 1 erp "$work/erp.img"
within 10 "the metrics file is there" grep -q '^sosie_metrics_timestamp_seconds [0-9]' "$work/metrics.prom"
awk '/^#/ { next } !/^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+]+$/ { exit 1 } { n++ } END { exit n < 10 }' "$work/metrics.prom" ||
	fail "a line of the metrics file cannot be parsed"
ok "every line of the metrics file can be parsed"

exits 4 "a second daemon is refused" "$bin/sosied" --config "$config"
says "another sosied runs on this state folder \(process $daemon\)"

before=$(newest erp)
scribble "$work/erp.img" 3
within 20 "a change becomes a point" point_above erp "$before"

# The standby goes away: changes wait, an alarm opens; it comes back: both are over.
"$lab" keeper "$here" stop
before=$(newest erp)
scribble "$work/erp.img" 2
within 40 "without a keeper the group is late" status '.groups[] | select(.group == "acme/erp") | .late'
exits 5 "status exits 5" "$sosie" status --config "$config"
within 10 "alarm rpo is told" alarm rpo open
"$lab" keeper "$here" start
within 90 "it catches up" point_above erp "$before"
within 60 "and is not late any more" status '.groups[] | select(.group == "acme/erp") | .late | not'
within 10 "the alarm is closed" alarm rpo closed

# kill -9: the next one goes on, without comparing anything.
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
exits 4 "nobody answers" "$sosie" status --config "$config"
says 'acme/erp: point [0-9]+ was accepted last'
before=$(newest web)
scribble "$work/web.img" 2
: >"$work/daemon.err" # what is said from here on is the new one's
start_daemon "$config"
within 30 "a new daemon goes on" point_above web "$before"
point_is web "$(newest web)" web "$work/web.img"
within 10 "what it says is in the log" grep -q '2 groups of' "$work/daemon.err"
! grep 'digests compared' "$work/daemon.err" || fail "the new daemon compared digests"
ok "and compares nothing"

kill -TERM "$daemon"
code=0
wait "$daemon" || code=$?
equal "SIGTERM ends it well" "$code" 0
[ ! -e "$state/control.sock" ] || fail "the socket is still there"
ok "the socket is gone"
daemon=
whole erp
whole web
finish
