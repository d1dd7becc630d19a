#!/bin/sh
# Three hosts for tests, each a network namespace: nothing of the system's network changes.
#
#   client ── 10.200.0.0/24, fd00:200::/64 ── balancer ── 10.201.0.0/24, fd00:201::/64 ── backend
#             .2                           .1          .1                           .2
#
#   transparent.sh start DIR [iif|socket]   makes them; DIR names them. The balancer takes in what backends answer to
#                                           clients: all that comes from their side (iif), or what a socket of its own
#                                           is for, which iptables tells (socket)
#   transparent.sh exec DIR HOST COMMAND…   runs a command on client, balancer or backend
#   transparent.sh stop DIR                 ends what runs there, and deletes them
# Exit status of start: 3 when something is not installed, or may not be done here. Stop may be called twice.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# The namespace of a host.
of() {
  echo "fairlead-$name-$1"
}

on() {
  host=$1
  shift
  ip netns exec "$(of "$host")" "$@"
}

start() {
  [ "$(id -u)" = 0 ] || absent 'network namespaces need root'
  command -v ip >/dev/null || absent 'ip is not installed: Debian has it as iproute2'
  for host in client balancer backend; do
    ip netns add "$(of "$host")" 2>/dev/null || absent 'no network namespaces here'
    ip -n "$(of "$host")" link set lo up
  done
  wire client front 200
  wire backend back 201
  ip -n "$(of backend)" route add default via 10.201.0.1
  ip -n "$(of backend)" -6 route add default via fd00:201::1
  take_in "$1"
  # Only what is marked finds the way there.
  ip -n "$(of backend)" addr add 10.202.0.2/32 dev lo
  ip -n "$(of balancer)" rule add fwmark 7 lookup 200
  ip -n "$(of balancer)" route add 10.202.0.2 via 10.201.0.2 table 200
  # 3: for clients and listeners.
  for host in client balancer; do on "$host" sh -c 'echo 3 >/proc/sys/net/ipv4/tcp_fastopen'; done
}

ip4() {
  [ "$1" = client ] && echo "10.200.0.$2" || echo "10.201.0.$2"
}

ip6() {
  [ "$1" = client ] && echo "fd00:200::$2" || echo "fd00:201::$2"
}

# A cable from a host to the balancer, whose end has the name.
wire() {
  ip -n "$(of "$1")" link add eth0 type veth peer name "$2" netns "$(of balancer)" || absent 'no veth devices here'
  plug "$1" eth0 "$1" 2
  plug balancer "$2" "$1" 1
}

plug() {
  ip -n "$(of "$1")" addr add "$(ip4 "$3" "$4")/24" dev "$2"
  ip -n "$(of "$1")" addr add "$(ip6 "$3" "$4")/64" dev "$2" nodad
  ip -n "$(of "$1")" link set "$2" up
}

# What docs/native.md tells an operator to do.
take_in() {
  for family in -4 -6; do
    case $1 in
      iif) ip -n "$(of balancer)" $family rule add iif back lookup 100 ;;
      socket)
        iptables=iptables
        [ $family = -4 ] || iptables=ip6tables
        command -v $iptables >/dev/null || absent "$iptables is not installed"
        on balancer $iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j MARK --set-mark 1 ||
          absent "$iptables has no match for sockets here"
        ip -n "$(of balancer)" $family rule add fwmark 1 lookup 100
        ;;
    esac
    ip -n "$(of balancer)" $family route add local default dev lo table 100
  done
}

stop() {
  for host in client balancer backend; do
    if [ ! -e "/run/netns/$(of "$host")" ]; then continue; fi
    for pid in $(ip netns pids "$(of "$host")"); do kill "$pid" 2>/dev/null || true; done
    ip netns del "$(of "$host")"
  done
}

absent() {
  echo "transparent.sh: $1" >&2
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
