#!/bin/sh
# SPDX-License-Identifier: MIT
# status --config: the table, the document, --watch; slow clients of the socket; what a group that needs a person looks like.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario status
lab_up
make_image "$work/erp.img" 2
config=$work/sosie.yaml
state=$work/state
cat >"$config" <<END
state: $state
standbys:
  - {name: bleu, to: "$SOSIE_TO", identity: $SOSIE_IDENTITY, known_hosts: $SOSIE_KNOWN_HOSTS}
groups:
  - {name: acme/erp, standby: bleu, interval: 200ms, rpo: 1h, source: scan, volumes: [{name: erp, path: $work/erp.img}]}
  - {name: acme/gone, standby: bleu, interval: 200ms, volumes: [{name: gone, path: $work/gone.img}]}
END
chmod 600 "$config"
start_daemon "$config"
end=$(($(millis) + 20000))
until "$sosie" status --config "$config" --json 2>/dev/null | jq -e '.groups[] | select(.group == "acme/erp") | .point == 1' >/dev/null; do
	[ "$(millis)" -lt "$end" ] || fail "no point after 20 s: $(cat "$work/daemon.err")"
	nap 100
done
end=$(($(millis) + 20000))
until "$sosie" status --config "$config" --json 2>/dev/null | jq -e '.groups[] | select(.group == "acme/gone") | .error' >/dev/null; do
	[ "$(millis)" -lt "$end" ] || fail "a volume that is not there is not told"
	nap 100
done

exits 5 "a group needs a person" "$sosie" status --config "$config"
says 'acme/erp  .* 1 .*scan'
says 'acme/gone  .*needs you'
says 'gone.img'
[ -z "$(awk 'length > 80 && /^acme/' "$work/out")" ] || fail "a line of the table is wider than 80 columns"
ok "the table fits into 80 columns"
says 'scan: .*'
grep -q '^    .*(.*gone.img)' "$work/out" || fail "the place of the error is not shown"
ok "the place of an error is shown"
exits 5 "as JSON" "$sosie" status --config "$config" --json
json '.format == 1 and (.pid | type) == "number" and (.groups | length) == 2'
json '.groups[] | select(.group == "acme/erp") | .driver == "scan" and has("untracked") and .late == false and .objective_ms == 3600000 and .rpo_ms != null'
json '.groups[] | select(.group == "acme/gone") | .state == "needs you" and .error.code == "not-found" and .point == null'
json '.alarms | any(.kind == "needs-you" and .group == "acme/gone")'
"$sosie" status --config "$config" --watch >"$work/watch" 2>&1 &
watch=$!
end=$(($(millis) + 10000))
until [ "$(grep -c 'RPO now' "$work/watch")" -ge 2 ]; do
	[ "$(millis)" -lt "$end" ] || fail "--watch does not repeat"
	nap 100
done
kill -TERM "$watch"
wait "$watch" || true
ok "--watch repeats"
exits 2 "--watch alone" "$sosie" status --watch --store "$SOSIE_STORE"
equal "mode of the socket" "$(stat -c %a "$state/control.sock")" 600

# Clients that say nothing, and what is not understood, hold nobody up. Their standard input is a pipe that stays open.
command -v python3 >/dev/null || skip "needs python3 for slow clients"
python3 - "$state/control.sock" "$sosie" "$config" <<'END' >"$work/out" 2>"$work/err" || fail "hostile clients"
import socket, sys, subprocess
def dial():
    s = socket.socket(socket.AF_UNIX); s.settimeout(8); s.connect(sys.argv[1]); return s
slow = [dial() for _ in range(14)]
bad = dial(); bad.sendall(b"what?\n"); assert b"not understood" in bad.recv(4096)
long = dial(); long.sendall(b"x" * 1000)
try:
    assert long.recv(10) == b""
except ConnectionResetError:
    pass
good = dial(); good.sendall(b"status\n"); assert good.recv(8) == b'{"format'
for s in slow:
    assert s.recv(10) == b"" # the deadline ends them
# More silent ones than are served at once: who asks meanwhile waits for them, and is answered.
slow = [dial() for _ in range(16)]
run = subprocess.run([sys.argv[2], "status", "--config", sys.argv[3]], capture_output=True)
assert run.returncode == 5 and b"acme/erp" in run.stdout, (run.returncode, run.stdout, run.stderr)
END
ok "slow and wrong clients hold nobody up"
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	cp "$sosie" "$work/sosie-copy"
	chmod 755 "$work" "$work/sosie-copy"
	chmod 644 "$config"
	if setpriv --reuid 65534 --clear-groups test -x "$work/sosie-copy"; then
		exits 3 "another user may not ask" setpriv --reuid 65534 --clear-groups "$work/sosie-copy" status --config "$config"
		says 'ask as root or as the user of sosied'
		says_not 'not running'
	fi
	chmod 600 "$config"
fi

# The volume appears: the group heals by itself.
make_image "$work/gone.img" 1
end=$(($(millis) + 90000))
until "$sosie" status --config "$config" --json 2>/dev/null | jq -e '.groups[] | select(.group == "acme/gone") | .point == 1' >/dev/null; do
	[ "$(millis)" -lt "$end" ] || fail "the group does not heal: $(cat "$work/daemon.err")"
	nap 500
done
ok "a volume that appears heals its group"
exits 0 "all is well" "$sosie" status --config "$config"
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ends badly"
daemon=
finish
