#!/bin/sh
# SPDX-License-Identifier: MIT
# SIGHUP: a bad file is told and changes nothing, and so is one with another state folder; a good one takes a group away (its views go), changes
# one and adds one. And a standby that hangs (SIGSTOP) holds nobody else's groups.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario reload
lab_up second
second_to=$SOSIE_TO second_identity=$SOSIE_IDENTITY second_hosts=$SOSIE_KNOWN_HOSTS second_sshd=$SOSIE_SSHD_PID
lab_up first
for name in one two three other; do make_image "$work/$name.img" 2; done
config=$work/sosie.yaml
state=$work/state

head_of()
{
	cat <<END
state: $state
standbys:
  - name: first
    to: $SOSIE_TO
    identity: $SOSIE_IDENTITY
    known_hosts: $SOSIE_KNOWN_HOSTS
  - name: second
    to: $second_to
    identity: $second_identity
    known_hosts: $second_hosts
groups:
END
}
group_of() # NAME STANDBY INTERVAL
{
	cat <<END
  - name: acme/$1
    standby: $2
    interval: $3
    volumes:
      - {name: $1, path: $work/$1.img}
END
}
write_config() # LINES…
{
	"$@" >"$config.new"
	chmod 600 "$config.new"
	mv "$config.new" "$config"
}
before() { head_of; group_of one first 200ms; group_of two first 200ms; group_of other second 200ms; }
after() { head_of; group_of one first 200ms; group_of three first 200ms; group_of other second 300ms; }
broken() { before; echo "    surprise: yes"; }
stopped=
go_on() { for g_pid in $stopped; do kill -CONT "$g_pid" 2>/dev/null || true; done; }
at_end=go_on
status() { status_of_config "$config" "$1"; } # JQ EXPRESSION
point_above() { [ "$(newest "$1")" -gt "$2" ]; }

write_config before
start_daemon "$config"
within 20 "the first points of three groups" status '[.groups[].point] == [1,1,1]'

# A bad file.
write_config broken
exits 3 "the bad file is refused by --check-config" "$bin/sosied" --check-config "$config"
says "sosie.yaml:[0-9]+: .*surprise"
kill -HUP "$daemon"
within 10 "the refusal is logged" grep -q 'reload refused.*surprise' "$work/daemon.err"
exits 3 "status cannot read the bad file either" "$sosie" status --config "$config"
says "surprise"
says "sosie status --state DIR"
by_state() { "$sosie" status --state "$work/state" --json | jq -e "$1"; } # JQ EXPRESSION
within 10 "by its state folder the daemon answers, with the alarm" by_state '(.groups | length == 3) and (.alarms | any(.kind == "config"))'
exits 2 "a store is another end" "$sosie" status --state "$work/state" --store "$SOSIE_STORE"
says "one of both"
exits 2 "one of both" "$sosie" status --state "$work/state" --config "$config"
says "no --state beside it"
exits 2 "--watch is for the source" "$sosie" status --watch
says "config or --state"
mkdir "$work/empty"
exits 4 "nobody answers in another folder" "$sosie" status --state "$work/empty"
says "not running"
exits 1 "a folder that is not there" "$sosie" status --state "$work/nowhere"
says "no such state folder"
write_config before
within 10 "and is an alarm" status '.alarms | any(.kind == "config")'
scribble "$work/two.img" 2
within 20 "the old configuration goes on" point_above two 1

# Another state folder: lock and socket stay where they are, and so does everything else.
points_before=$(newest one)
within 20 "group one has been looked at often" status '.groups[] | select(.group == "acme/one") | (.counters.cycles + .counters.unchanged) >= 5'
before | sed "s|^state: .*|state: $work/elsewhere|" >"$config.new"
chmod 600 "$config.new"
mv "$config.new" "$config"
kill -HUP "$daemon"
within 10 "another state is refused" grep -q 'reload refused.*state cannot change while sosied runs' "$work/daemon.err"
[ ! -e "$work/elsewhere" ] || fail "the other folder was made"
write_config before
within 10 "the daemon still answers at its folder" status '.groups | length == 3'
status '.groups[] | select(.group == "acme/one") | (.counters.cycles + .counters.unchanged) >= 5' || fail "group one was begun anew"
ok "no group was begun anew"
equal "no point was made of it" "$(newest one)" "$points_before"
exits 4 "and its lock is held" "$bin/sosied" --config "$config"
says 'another sosied runs on this state folder'

# A good one.
write_config after
kill -HUP "$daemon"
within 20 "the new groups are there" status '[.groups[].group] | sort == ["acme/one","acme/other","acme/three"]'
within 20 "the new one has a point" status '.groups[] | select(.group == "acme/three") | .point == 1'
within 10 "no alarm is left" status '.alarms == []'
last=$(newest two)
scribble "$work/two.img" 2
scribble "$work/one.img" 2
within 20 "a group that stayed goes on" point_above one 1
equal "nothing more of the group that is gone" "$(newest two)" "$last"

# The second standby hangs: sessions are open and say nothing.
before=$(newest one)
SOSIE_STORE_FIRST=$SOSIE_STORE
load_env second
stopped="$second_sshd $(receivers)"
for pid in $stopped; do kill -STOP "$pid"; done
load_env first
equal "back at the first" "$SOSIE_STORE" "$SOSIE_STORE_FIRST"
scribble "$work/other.img" 2
scribble "$work/one.img" 2
within 20 "a standby that hangs holds no other group" point_above one "$before"
"$sosie" status --config "$config" >"$work/out" 2>"$work/err" || [ $? -eq 5 ] || fail "status while a standby hangs"
ok "status answers"
go_on
load_env second
within 90 "it goes on where it was" point_above other 1
load_env first

kill -TERM "$daemon"
code=0
wait "$daemon" || code=$?
daemon=
equal "SIGTERM ends it well" "$code" 0
whole one
finish
