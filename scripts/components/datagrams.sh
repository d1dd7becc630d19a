#!/bin/sh
# Six hosts for tests of datagrams, each a network namespace: nothing of the system's network changes.
#
#   client ── 10.200.0.0/24, fd00:200::/64 ─┐
#                                           ├ balancer ── 10.205.0.0/24, fd00:205::/64 ── hop
#   backend ─ 10.201.0.0/24, fd00:201::/64 ─┘                                              ├ 10.203, fd00:203 ── far
#                                                                                          └ 10.204, fd00:204 ── deep
#
# The end nearer to the balancer is .1, the other .2; towards client the balancer has .3, too. The cables of far, a
# client, and deep, a backend, take no more than 1,280 bytes.
#
#   datagrams.sh start DIR [iif|socket]   makes them; DIR names them. The balancer takes in what backends answer to
#                                         clients: all that comes from their side (iif), or what a socket of its own
#                                         is for, which iptables tells (socket)
#   datagrams.sh exec DIR HOST COMMAND…   runs a command on a host
#   datagrams.sh stop DIR                 ends what runs there, and deletes them
# Exit status of start: 3 when something is not installed, or may not be done here. Stop may be called twice.
set -eu
PATH=$PATH:/usr/sbin:/sbin
HOSTS='client far hop balancer backend deep'

# The namespace of a host.
of() {
  echo "fairlead-$name-$1"
}

# `at HOST …` is `ip …` there.
at() {
  host=$1
  shift
  ip -n "$(of "$host")" "$@"
}

on() {
  host=$1
  shift
  ip netns exec "$(of "$host")" "$@"
}

start() {
  [ "$(id -u)" = 0 ] || absent 'network namespaces need root'
  command -v ip >/dev/null || absent 'ip is not installed: Debian has it as iproute2'
  for host in $HOSTS; do
    ip netns add "$(of "$host")" 2>/dev/null || absent 'no network namespaces here'
    at "$host" link set lo up
  done
  wire client balancer front 200 1500
  wire backend balancer back 201 1500
  wire hop balancer hop 205 1500
  wire far hop far 203 1280
  wire deep hop deep 204 1280
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
  take_in "$1"
}

# A cable from a host to a nearer one, whose end has the name.
wire() {
  ip -n "$(of "$1")" link add eth0 type veth peer name "$3" netns "$(of "$2")" || absent 'no veth devices here'
  plug "$1" eth0 "$4" 2 "$5"
  plug "$2" "$3" "$4" 1 "$5"
  at "$1" route add default via "10.$4.0.1"
  at "$1" -6 route add default via "fd00:$4::1"
}

plug() {
  # An address made up from the hardware's is there at once without waiting for others that may have it.
  on "$1" sh -c "echo 0 >/proc/sys/net/ipv6/conf/$2/accept_dad"
  at "$1" addr add "10.$3.0.$4/24" dev "$2"
  at "$1" addr add "fd00:$3::$4/64" dev "$2" nodad
  at "$1" link set "$2" mtu "$5" up
}

# What docs/udp.md tells an operator to do.
take_in() {
  for family in -4 -6; do
    case $1 in
      iif)
        for device in back hop; do at balancer $family rule add iif $device lookup 100; done
        ;;
      socket)
        iptables=iptables
        [ $family = -4 ] || iptables=ip6tables
        command -v $iptables >/dev/null || absent "$iptables is not installed"
        on balancer $iptables -t mangle -A PREROUTING -m socket --transparent -j MARK --set-mark 1 ||
          absent "$iptables has no match for sockets here"
        at balancer $family rule add fwmark 1 lookup 100
        ;;
    esac
    at balancer $family route add local default dev lo table 100
  done
}

stop() {
  for host in $HOSTS; do
    if [ ! -e "/run/netns/$(of "$host")" ]; then continue; fi
    for pid in $(ip netns pids "$(of "$host")"); do kill "$pid" 2>/dev/null || true; done
    ip netns del "$(of "$host")"
  done
}

absent() {
  echo "datagrams.sh: $1" >&2
  stop
  exit 3
}

[ $# -lt 2 ] || name=$(basename "$2" | tr -dc 'a-zA-Z0-9' | tail -c 16)
case ${1-}:$# in
  start:2) start iif ;;
  start:3) start "$3" ;;
  stop:2) stop ;;
  exec:[4-9]|exec:??) host=$(of "$3"); shift 3; exec ip netns exec "$host" "$@" ;;
  *) echo "usage: $0 start DIR [iif|socket] | exec DIR HOST COMMAND... | stop DIR" >&2; exit 2 ;;
esac
