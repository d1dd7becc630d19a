#!/bin/sh
# Real Consul servers for tests. The package is unpacked into a cache folder; nothing of the system changes.
#   consul.sh install              fetches Consul (Debian bullseye's, the last that had it) unless it is there
#   consul.sh start DIR ADDRESS…   one cluster, a server on each loopback address, HTTP on port 8500; state in DIR
#   consul.sh stop DIR [ADDRESS]   ends all of them, or one; started again, it knows what it knew
# CONSUL_MORE names a file with more of their configuration (ACLs, TLS). Where ACLs are on, CONSUL_HTTP_TOKEN has to
# be a token that may read the catalogue.
# Exit status of start: 3 when Consul is not installed. Each may be called twice.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead-components
consul=$cache/consul/usr/bin/consul

start() {
  dir=$1
  shift
  if [ ! -x "$consul" ]; then
    echo 'Consul is not installed: run scripts/components/consul.sh install' >&2
    exit 3
  fi
  mkdir -p "$dir"
  servers=$#
  join=$(printf ', "%s"' "$@")
  for address; do
    if running "$dir/$address.pid"; then continue; fi
    cat >"$dir/$address.json" <<CONFIG
{
  "server": true, "bootstrap_expect": $servers, "node_name": "server-${address##*.}",
  "bind_addr": "$address", "client_addr": "$address", "data_dir": "$dir/$address",
  "retry_join": [${join#, }], "retry_interval": "200ms",
  "performance": {"raft_multiplier": 1}, "disable_update_check": true, "disable_host_node_id": true,
  "log_level": "warn", "ports": {"dns": -1, "grpc": -1, "serf_wan": -1}
}
CONFIG
    setsid "$consul" agent -config-file "$dir/$address.json" \
      ${CONSUL_MORE:+-config-file "$CONSUL_MORE"} </dev/null >"$dir/$address.log" 2>&1 &
    echo $! >"$dir/$address.pid"
  done
  for address; do await "$address" "$servers"; done
}

# Ready: this server sees a leader and all servers in the catalogue.
await() {
  tries=300
  until [ "$(curl -sf ${CONSUL_HTTP_TOKEN:+-H "X-Consul-Token: $CONSUL_HTTP_TOKEN"} \
    "http://$1:8500/v1/catalog/service/consul" | grep -o '"ServiceName"' | wc -l)" = "$2" ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "no Consul cluster within 30 s, see $dir"
    sleep 0.1
  done
}

stop() {
  for file in "$1"/${2-*}.pid; do
    [ -e "$file" ] || continue
    if running "$file"; then kill -9 "$(cat "$file")"; fi
    # Its ports are free once it is gone.
    tries=50
    while running "$file" && [ $tries -gt 0 ]; do
      tries=$((tries - 1))
      sleep 0.02
    done
    rm -f "$file"
  done
}

# One that has ended may stay as a zombie where nobody collects it.
running() {
  [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$(cat "$1")/status"
}

fail() {
  echo "consul.sh: $1" >&2
  exit 1
}

case ${1-}:$# in
  install:1) "$(dirname "$0")/fetch.sh" bullseye consul consul ;;
  start:[3-9]) shift; start "$@" ;;
  stop:[23]) shift; stop "$@" ;;
  *) echo "usage: $0 install | start DIR ADDRESS... | stop DIR [ADDRESS]" >&2; exit 2 ;;
esac
