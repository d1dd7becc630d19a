#!/bin/sh
# Installs the Debian packages that tests, benchmarks or prebuilt binaries of the native plane need. Needs root.
# Usage: scripts/debian.sh test|bench|native
set -eu
case "${1-}" in
  test)
    packages='curl jq openssl prometheus'                             # the API, examples, metrics
    packages="$packages docker.io iproute2 busybox-static"            # scripts/components/docker.sh
    packages="$packages lxd lxd-client dnsmasq-base"                  # lxd.sh
    packages="$packages knot unbound"                                 # dns.sh
    packages="$packages redis-server postgresql mariadb-server-core"  # checks.sh
    packages="$packages slapd opensmtpd nginx"
    packages="$packages iptables nftables"                            # datagrams.sh, transparent.sh
    ;;
  bench) packages='haproxy nginx-light libnginx-mod-stream wrk knot dnsperf gcc libc6-dev' ;;
  native) packages='gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools' ;;  # native/prebuild.mjs
  *) echo "usage: $0 test|bench|native" >&2; exit 2 ;;
esac
missing=
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
