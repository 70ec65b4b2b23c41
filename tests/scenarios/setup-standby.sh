#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/setup-standby from nothing to a point: users, store, sshd's block, keys; twice; what it refuses. sshd's and systemd's files are in a folder of the test's own.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
scenario setup-standby
need_root
for tool in setpriv useradd userdel groupdel sshd; do
	command -v "$tool" >/dev/null || skip "needs $tool"
done
chmod 711 "$work"
setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$work" || skip "others cannot pass to $work"

keeper=sosie-lab-$$
long=Long-Name_of-a_Tenant-that-does-not-fit
remove_users()
{
	[ -z "${keeper_pid:-}" ] || kill -KILL "$keeper_pid" 2>/dev/null
	[ -z "${sshd_pid:-}" ] || kill "$sshd_pid" 2>/dev/null
	for u_user in $(getent passwd | cut -d: -f1 | grep -E "^$keeper(-|\$)"); do userdel -f "$u_user" >/dev/null 2>&1; done
	for u_group in $(getent group | cut -d: -f1 | grep -E "^$keeper(-|\$)"); do groupdel "$u_group" >/dev/null 2>&1; done
}
at_end=remove_users
# The build folder may be closed to others.
mkdir -m 755 "$work/bin"
cp "$bin/sosie" "$bin/sosie-receive" "$bin/sosie-keeper" "$work/bin"
chmod 755 "$work/bin/"*
etc=$work/etc store=$work/standby/store
mkdir -p "$etc/ssh"
setup() { env SETUP_ETC="$etc" SETUP_KEEPER="$keeper" SOSIE_BIN="$work/bin" "$root/tools/setup-standby" "$@"; }

exits 2 "no verb" setup
says 'sosie-setup-standby store DIR'
exits 0 "--help" setup --help
exits 1 "no sshd_config" setup store "$store"
says 'there is no .*/etc/ssh/sshd_config'
echo "PermitRootLogin no" >"$etc/ssh/sshd_config"
exits 1 "an sshd_config that includes nothing" setup store "$store"
says 'Include .*/sshd_config\.d/\*\.conf'
ssh-keygen -q -t ed25519 -N '' -f "$work/host"
ssh-keygen -q -t ed25519 -N '' -C source -f "$work/source"
sshd_config() # PORT
{
	cat >"$etc/ssh/sshd_config" <<-END
		Include $etc/ssh/sshd_config.d/*.conf
		ListenAddress 127.0.0.1:$1
		HostKey $work/host
		PidFile none
		# The test's folder may lie below /tmp.
		StrictModes no
		UsePAM no
		PermitRootLogin yes
		LogLevel VERBOSE
	END
}
sshd_config 22
mkdir -p "$etc/ssh/sshd_config.d"
echo 'NoSuchKeyword yes' >"$etc/ssh/sshd_config.d/broken.conf"
exits 1 "a configuration that sshd refuses" setup store "$store"
says 'does not take its configuration'
[ ! -e "$etc/ssh/sshd_config.d/sosie.conf" ] || fail "the block was left"
rm "$etc/ssh/sshd_config.d/broken.conf"

exits 0 "store" setup store "$store"
exits 0 "store, again" setup store "$store"
says_not 'sosie\.conf|store\.conf'
equal "its owner" "$(stat -c '%U %a' "$store")" "$keeper 711"
must "the keeper does not log in" grep -q "^$keeper:.*:/usr/sbin/nologin\$" /etc/passwd
must "its unit names user and store" grep -q "^ExecStart=$work/bin/sosie-keeper --store \"$store\"\$" "$etc/systemd/system/sosie-keeper.service.d/store.conf"
exits 1 "a tenant's bad name" setup tenant "$store" 'acme;x'
exits 1 "a new tenant without a quota" setup tenant "$store" acme
exits 0 "tenant" setup tenant "$store" acme --quota 1G
exits 0 "tenant, again" setup tenant "$store" acme
exits 0 "a tenant with a long name" setup tenant "$store" "$long" --quota none
exits 0 "a tenant called as the group of all is" setup tenant "$store" receivers --quota none
users=$(getent passwd | cut -d: -f1 | grep "^$keeper-")
equal "three users" "$(echo "$users" | wc -l)" 3
must "none longer than 32" [ "$(echo "$users" | awk '{ if (length > n) n = length } END { print n }')" -le 32 ]
user=$keeper-acme
equal "shell, home" "$(getent passwd "$user" | cut -d: -f6,7)" "/nonexistent:/bin/sh"
equal "no password fits" "$(getent shadow "$user" | cut -d: -f2)" '*'
exits 1 "key of a tenant that is not there" setup key "$store" nobody "$work/source.pub"
says 'has no tenant nobody'
exits 0 "key" setup key "$store" acme "$work/source.pub"
exits 0 "key, again" setup key "$store" acme "$work/source.pub"
equal "one line" "$(wc -l <"$etc/ssh/sosie/authorized_keys/$user")" 1
ssh-keygen -q -t ed25519 -N '' -C second -f "$work/second"
exits 0 "a second key" setup key "$store" acme "$work/second.pub"
equal "two lines" "$(grep -c '^restrict,command="' "$etc/ssh/sosie/authorized_keys/$user")" 2
# A comment is its owner's to choose, and can look like the end of a command.
file=$etc/ssh/sosie/authorized_keys/$user
second=$(sed -n '2s/.* --key \([0-9a-f]*\)" .*/\1/p' "$file")
ssh-keygen -q -t ed25519 -N '' -C "x --key $second\" y" -f "$work/third"
exits 0 "a key whose comment names another's" setup key "$store" acme "$work/third.pub"
says "key $(cut -d' ' -f2 "$work/third.pub" | base64 -d | sha256sum | cut -c1-16) of acme is let in"
equal "and takes nobody's line away" "$(grep -c '^restrict,command="' "$file")" 3
exits 0 "the other one again" setup key "$store" acme "$work/second.pub"
equal "nor loses its own" "$(grep -c '^restrict,command="' "$file")" 3
equal "a file of root" "$(stat -c '%U %a' "$etc/ssh/sosie/authorized_keys/$user")" "root 644"

gpasswd -d "$user" "$keeper-receivers" >/dev/null
exits 1 "a user that sshd's block does not hold for" setup key "$store" acme "$work/second.pub"
says "who is not in the group $keeper-receivers"
exits 1 "nor is its tenant set up again" setup tenant "$store" acme
usermod -a -G "$keeper-receivers" "$user"

mkdir -p /run/sshd
try=0
while :; do
	try=$((try + 1))
	[ "$try" -le 20 ] || fail "sshd does not start: $(tail -n 3 "$work/sshd.log")"
	random 12000
	port=$((20000 + rnd))
	sshd_config "$port"
	: >"$work/sshd.log"
	"$(command -v sshd)" -D -f "$etc/ssh/sshd_config" -E "$work/sshd.log" </dev/null >/dev/null 2>&1 &
	sshd_pid=$!
	listening=
	while kill -0 "$sshd_pid" 2>/dev/null; do
		if grep -q "Server listening on 127.0.0.1 port $port" "$work/sshd.log"; then
			listening=yes
			break
		fi
		nap 50
	done
	[ -z "$listening" ] || break
done
setpriv --reuid "$keeper" --regid "$keeper" --clear-groups "$work/bin/sosie-keeper" --store "$store" >"$work/keeper.log" 2>&1 </dev/null &
keeper_pid=$!
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$work/host.pub")" >"$work/known_hosts"
SOSIE_STORE=$store SOSIE_TO=$user@127.0.0.1:$port SOSIE_IDENTITY=$work/source SOSIE_KNOWN_HOSTS=$work/known_hosts
export SOSIE_STORE SOSIE_TO SOSIE_IDENTITY SOSIE_KNOWN_HOSTS
state=$work/state
make_image "$work/erp.img" 4
replicate_until_done erp "$work/erp.img"
point_is erp 1 erp "$work/erp.img"
scribble "$work/erp.img" 5
SOSIE_IDENTITY=$work/second
exits 0 "with the second key" replicate erp "$work/erp.img"
equal "two points" "$(newest erp)" 2
exits 0 "store check has nothing to find" "$sosie" store check "$store" --sshd-config "$etc/ssh/sshd_config"
sed 's/PermitTTY no/PermitTTY yes/' "$etc/ssh/sshd_config.d/sosie.conf" >"$work/conf"
cp "$work/conf" "$etc/ssh/sshd_config.d/sosie.conf"
exits 3 "a block that was changed" "$sosie" store check "$store" --sshd-config "$etc/ssh/sshd_config"
says 'PermitTTY yes, meant is no'
exits 0 "is written again" setup store "$store"
exits 0 "and nothing is left" "$sosie" store check "$store" --sshd-config "$etc/ssh/sshd_config"
kill -TERM "$keeper_pid" "$sshd_pid"
wait "$keeper_pid" "$sshd_pid" 2>/dev/null || true
finish
