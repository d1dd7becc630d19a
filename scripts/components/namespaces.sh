# Hosts for tests, each a network namespace: nothing of the system's network changes. Scripts beside this one source it.
# They set HOSTS, define `connect`, which gives the hosts their cables, and end with `hosts "$@"`:
#
#   … start DIR [iif|iptables|nft]   makes them; DIR names them. The balancer takes in what backends answer to clients:
#                                    all that comes from their side (iif), or what a socket of its own is for, as
#                                    iptables or nft tells. `connect` is given the way
#   … exec DIR HOST COMMAND…         runs a command on a host
#   … stop DIR                       ends what runs there, and deletes them
# Exit status of start: 3 when something is not installed, or may not be done here. Stop may be called twice.
PATH=$PATH:/usr/sbin:/sbin

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

# `wire HOST NEARER NAME NETWORK [MTU]`: a cable from a host, where it is eth0 and has .2, to one that is nearer to the
# balancer, where it has the name and .1.
wire() {
  at "$1" link add eth0 type veth peer name "$3" netns "$(of "$2")" || absent 'no veth devices here'
  plug "$1" eth0 "$4" 2 "${5:-1500}"
  plug "$2" "$3" "$4" 1 "${5:-1500}"
}

plug() {
  # An address made up from the hardware's is there at once without waiting for others that may have it.
  on "$1" sh -c "echo 0 >/proc/sys/net/ipv6/conf/$2/accept_dad"
  at "$1" addr add "10.$3.0.$4/24" dev "$2"
  at "$1" addr add "fd00:$3::$4/64" dev "$2" nodad
  at "$1" link set "$2" mtu "$5" up
}

# `lead HOST NETWORK`: all that a host sends leaves by the other end of its cable.
lead() {
  at "$1" route add default via "10.$2.0.1"
  at "$1" -6 route add default via "fd00:$2::1"
}

# `take_in WAY DEVICE…`: what docs/native.md and docs/udp.md tell an operator to do.
take_in() {
  way=$1
  shift
  for family in -4 -6; do
    case $way in
      iif)
        for device; do at balancer $family rule add iif "$device" lookup 100; done
        ;;
      iptables | nft)
        "mark_by_$way" $family
        at balancer $family rule add fwmark 1 lookup 100
        ;;
    esac
    at balancer $family route add local default dev lo table 100
  done
}

mark_by_iptables() {
  iptables=iptables
  [ "$1" = -4 ] || iptables=ip6tables
  command -v $iptables >/dev/null || absent "$iptables is not installed"
  on balancer $iptables -t mangle -A PREROUTING -m socket --transparent -j MARK --set-mark 1 ||
    absent "$iptables has no match for sockets here"
}

# One table is for both families.
mark_by_nft() {
  [ "$1" = -4 ] || return 0
  command -v nft >/dev/null || absent 'nft is not installed: Debian has it as nftables'
  on balancer nft -f - <<'END' || absent 'nft has no match for sockets here'
table inet fairlead {
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        ct state invalid counter
        socket transparent 1 meta mark set 1 accept
    }
}
END
}

start() {
  [ "$(id -u)" = 0 ] || absent 'network namespaces need root'
  command -v ip >/dev/null || absent 'ip is not installed: Debian has it as iproute2'
  for host in $HOSTS; do
    ip netns add "$(of "$host")" 2>/dev/null || absent 'no network namespaces here'
    at "$host" link set lo up
  done
  connect "$1"
}

stop() {
  for host in $HOSTS; do
    if [ ! -e "/run/netns/$(of "$host")" ]; then continue; fi
    for pid in $(ip netns pids "$(of "$host")"); do kill "$pid" 2>/dev/null || true; done
    ip netns del "$(of "$host")"
  done
}

absent() {
  echo "$(basename "$0"): $1" >&2
  stop
  exit 3
}

hosts() {
  [ $# -lt 2 ] || name=$(basename "$2" | tr -dc 'a-zA-Z0-9' | tail -c 16)
  case ${1-}:$# in
    start:2) start iif ;;
    start:3) start "$3" ;;
    stop:2) stop ;;
    exec:[4-9]|exec:??) host=$(of "$3"); shift 3; exec ip netns exec "$host" "$@" ;;
    *) echo "usage: $0 start DIR [iif|iptables|nft] | exec DIR HOST COMMAND... | stop DIR" >&2; exit 2 ;;
  esac
}
