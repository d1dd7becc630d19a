#!/bin/sh
# Six hosts for tests of datagrams.
#
#   client ── 10.200.0.0/24, fd00:200::/64 ─┐
#                                           ├ balancer ── 10.205.0.0/24, fd00:205::/64 ── hop
#   backend ─ 10.201.0.0/24, fd00:201::/64 ─┘                                              ├ 10.203, fd00:203 ── far
#                                                                                          └ 10.204, fd00:204 ── deep
#
# The end nearer to the balancer is .1, the other .2; towards client the balancer has .3, too. The cables of far, a
# client, and deep, a backend, take no more than 1,280 bytes. What is asked of this script: see namespaces.sh.
set -eu
. "$(dirname "$0")/namespaces.sh"
HOSTS='client far hop balancer backend deep'

connect() {
  wire client balancer front 200
  wire backend balancer back 201
  wire hop balancer hop 205
  wire far hop far 203 1280
  wire deep hop deep 204 1280
  lead client 200
  lead backend 201
  lead hop 205
  lead far 203
  lead deep 204
  for family in ipv4/ip_forward ipv6/conf/all/forwarding; do
    on hop sh -c "echo 1 >/proc/sys/net/$family"
  done
  at balancer addr add 10.200.0.3/24 dev front
  at balancer addr add fd00:200::3/64 dev front nodad
  for network in 203 204; do
    at balancer route add "10.$network.0.0/24" via 10.205.0.2
    at balancer -6 route add "fd00:$network::/64" via fd00:205::2
  done
  # What comes by another way than answers would go is dropped.
  for device in all front back hop; do on balancer sh -c "echo 1 >/proc/sys/net/ipv4/conf/$device/rp_filter"; done
  take_in "$1" back hop
}

hosts "$@"
