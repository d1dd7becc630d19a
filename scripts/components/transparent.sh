#!/bin/sh
# Three hosts for tests.
#
#   client ── 10.200.0.0/24, fd00:200::/64 ── balancer ── 10.201.0.0/24, fd00:201::/64 ── backend
#             .2                           .1          .1                           .2
#
# What is asked of this script: see namespaces.sh.
set -eu
. "$(dirname "$0")/namespaces.sh"
HOSTS='client balancer backend'

connect() {
  wire client balancer front 200
  wire backend balancer back 201
  lead backend 201
  take_in "$1" back
  # Only what is marked finds the way there.
  at backend addr add 10.202.0.2/32 dev lo
  at balancer rule add fwmark 7 lookup 200
  at balancer route add 10.202.0.2 via 10.201.0.2 table 200
  # 3: for clients and listeners.
  for host in client balancer; do on "$host" sh -c 'echo 3 >/proc/sys/net/ipv4/tcp_fastopen'; done
}

hosts "$@"
