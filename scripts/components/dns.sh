#!/bin/sh
# Real DNS servers for tests, on loopback addresses, udp and tcp; WHERE is ADDRESS@PORT, state in DIR.
#   dns.sh start DIR WHERE ZONE…               Knot as the owner of zones, empty at first
#   dns.sh add DIR ZONE NAME TTL TYPE DATA…    a record; `@` is the zone itself. `add DIR ZONE` reads many from stdin
#   dns.sh remove DIR ZONE NAME [TYPE [DATA…]] one record, all of a type, or all of a name
#   dns.sh expire DIR ZONE                     Knot forgets a zone and answers SERVFAIL from now on
#   dns.sh resolver DIR WHERE [ZONE=WHERE…]    unbound, which asks for each zone there and knows no other
#   dns.sh local DIR RECORD                    unbound answers for this record by itself
#   dns.sh stop DIR                            ends both
# Exit status of start and resolver: 3 when the server is not installed. start, resolver and stop may be repeated.
set -euf

PATH=$PATH:/usr/sbin:/sbin

start() {
  dir=$1 where=$2
  shift 2
  installed knotd knot
  if running "$dir/knot.pid"; then return; fi
  mkdir -p "$dir/knot"
  {
    cat <<CONFIG
server:
  rundir: "$dir/knot"
  listen: $where
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: warning
database:
  storage: "$dir/knot"
control:
  listen: "$dir/knot/control"
template:
  - id: default
    storage: "$dir/knot"
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
zone:
CONFIG
    for zone; do echo "  - domain: $zone"; done
  } >"$dir/knot.conf"
  for zone; do
    printf '%s\n' "\$ORIGIN $zone." '@ 5 SOA ns hostmaster 1 3600 600 86400 1' '@ 5 NS ns' 'ns 5 A 127.0.0.1' \
      >"$dir/knot/$zone.zone"
  done
  setsid knotd -c "$dir/knot.conf" </dev/null >"$dir/knot.log" 2>&1 &
  echo $! >"$dir/knot.pid"
  for zone; do await "$dir/knot.log" control "$dir" zone-read "$zone" @ SOA; done
}

control() {
  knotc -c "$1/knot.conf" "$2" "$3" ${4+"$4"} ${5+"$5"} >/dev/null 2>&1
}

# A change of a zone is one transaction: it is seen whole.
change() {
  dir=$1 zone=$2
  shift 2
  if [ $# -gt 0 ]; then set -- "$(printf '%s ' "$@")"; else set -- "$(cat)"; fi
  said=$({ echo "zone-begin $zone"; printf '%s\n' "$1" | sed "s/^/$verb $zone /"; echo "zone-commit $zone"; } |
    knotc -c "$dir/knot.conf" 2>&1)
  case $said in
    *error:*) echo "dns.sh: $(echo "$said" | grep -m 1 error:)" >&2; exit 1 ;;
  esac
}

resolver() {
  dir=$1 where=$2
  shift 2
  installed unbound unbound
  if running "$dir/unbound.pid"; then return; fi
  mkdir -p "$dir"
  {
    cat <<CONFIG
server:
  interface: $where
  access-control: 127.0.0.0/8 allow
  chroot: ""
  username: ""
  directory: "$dir"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  local-zone: "." refuse
  infra-host-ttl: 1
remote-control:
  control-enable: yes
  control-interface: "$dir/unbound.control"
  control-use-cert: no
CONFIG
    for forward; do
      printf 'server:\n  local-zone: "%s" transparent\nforward-zone:\n  name: "%s"\n  forward-addr: %s\n' \
        "${forward%%=*}" "${forward%%=*}" "${forward#*=}"
    done
  } >"$dir/unbound.conf"
  setsid unbound -d -c "$dir/unbound.conf" </dev/null >"$dir/unbound.log" 2>&1 &
  echo $! >"$dir/unbound.pid"
  await "$dir/unbound.log" unbound-control -q -c "$dir/unbound.conf" status
}

await() {
  log=$1
  shift
  tries=100
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ $tries -eq 0 ]; then
      echo "dns.sh: no server within 10 s: $(tail -n 3 "$log")" >&2
      exit 1
    fi
    sleep 0.1
  done
}

stop() {
  for file in "$1/knot.pid" "$1/unbound.pid"; do
    [ -e "$file" ] || continue
    if running "$file"; then kill -9 "$(cat "$file")"; fi
    rm -f "$file"
  done
}

running() {
  [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

installed() {
  if command -v "$1" >/dev/null; then return; fi
  echo "$1 is not installed: apt-get install $2" >&2
  exit 3
}

case ${1-}:$# in
  start:[0-1] | start:2 | start:3 | resolver:[0-2]) ;;
  start:*) shift; start "$@"; exit ;;
  add:3 | add:[6-9] | add:1?) verb=zone-set; shift; change "$@"; exit ;;
  remove:[4-9] | remove:1?) verb=zone-unset; shift; change "$@"; exit ;;
  expire:3) knotc -f -c "$2/knot.conf" zone-purge "$3" >/dev/null; exit ;;
  resolver:*) shift; resolver "$@"; exit ;;
  local:3) unbound-control -q -c "$2/unbound.conf" local_data "$3"; exit ;;
  stop:2) stop "$2"; exit ;;
esac
echo "usage: $0 start | add | remove | expire | resolver | local | stop DIR ..., see its head" >&2
exit 2
