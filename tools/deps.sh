#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that are missing for the named sets, as root or through sudo, and says which. With everything there
# it does nothing, quickly. Usage: tools/deps.sh SET...   (build check lint cov fuzz bench vm)
set -eu

packages()
{
	case $1 in
	build) echo gcc make libc6-dev liburing-dev libzstd-dev libssh2-1-dev libssl-dev libjansson-dev librsync-dev libcyaml-dev libyaml-dev libseccomp-dev openssh-server \
		openssh-client e2fsprogs jq ;;
	check) echo libcmocka-dev xfsprogs btrfs-progs util-linux mount mandoc shellcheck ;;
	lint) echo clang-format shellcheck cppcheck clang ;;
	cov) echo lcov ;;
	vm) echo qemu-system-x86 busybox-static cpio kmod xfsprogs btrfs-progs e2fsprogs dpkg ;;
	fuzz) echo clang libclang-rt-14-dev ;;
	bench) echo xfsprogs btrfs-progs rsync zstd time fio sqlite3 ;;
	*)
		echo "deps.sh: unknown set '$1' (build check lint cov fuzz bench vm)" >&2
		exit 2
		;;
	esac
}

missing()
{
	dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
		awk -v want="$*" '
			{ sub(/:.*/, "", $1); if ($2 == "installed") have[$1] = 1 }
			END { n = split(want, w, " "); for (i = 1; i <= n; i++) if (!(w[i] in have)) print w[i] }'
}

[ $# -gt 0 ] || set -- build check
wanted=
for set_name in "$@"; do
	list=$(packages "$set_name")
	wanted="$wanted $list"
done
command -v dpkg-query >/dev/null || {
	echo "deps.sh: not a Debian system: install the equivalents of:$wanted" >&2
	exit 1
}
# shellcheck disable=SC2086 # a list of package names
lacking=$(missing $wanted | sort -u)
[ -n "$lacking" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "deps.sh: missing packages, and neither root nor sudo to install them: $(echo "$lacking" | tr '\n' ' ')" >&2
		exit 1
	}
	as_root=sudo
fi
echo "deps.sh: installing: $(echo "$lacking" | tr '\n' ' ')"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $lacking >/dev/null
echo "deps.sh: done"
