#!/bin/sh
# Unpacks packages of another Debian release into the cache folder of the components; nothing of the system changes.
#   fetch.sh RELEASE NAME PACKAGE…   into ~/.cache/fairlead-components/NAME, unless that is there
set -eu
[ $# -ge 3 ] || { echo "usage: $0 RELEASE NAME PACKAGE..." >&2; exit 2; }
release=$1 name=$2
shift 2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead-components

fail() {
  echo "fetch.sh: $1" >&2
  exit 1
}

# apt with its own sources, lists and cache, as if nothing were installed.
apt() {
  apt-get -qq \
    -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$scratch/lists" -o Dir::State::Status=/dev/null \
    -o Dir::Cache="$scratch" -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success= \
    "$@"
}

[ -d "$cache/$name" ] && exit
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "no apt here to fetch $name with"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/archives/partial"
# The mirror this machine is set up with.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Identifier: Packages' | head -n 1)
[ -n "$mirror" ] || fail 'no Debian mirror in the sources of apt'
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror $release main" >"$scratch/sources.list"
cd "$scratch"
apt update || fail "no Debian $release at $mirror"
apt download "$@" || fail "no $* in Debian $release at $mirror"
for package in *.deb; do dpkg-deb -x "$package" unpacked; done
mkdir -p "$cache"
mv unpacked "$cache/$name"
