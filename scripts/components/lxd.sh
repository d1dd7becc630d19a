#!/bin/sh
# A real LXD or Incus for tests, in a network namespace of its own: nothing of the system's network changes.
#   lxd.sh install-incus             fetches Incus (Debian's backports) into a cache folder unless it is there
#   lxd.sh start DIR lxd|incus       a daemon: unix socket DIR/unix.socket, HTTPS on 127.0.0.1:8443 of its namespace,
#                                    bridge with DHCP, image "lab" that serves its name by HTTP; state in DIR
#   lxd.sh exec DIR COMMAND…         runs a command in its network namespace, with its client's environment
#   lxd.sh restart DIR               ends the daemon and starts it again; containers run on
#   lxd.sh stop DIR                  ends containers and daemon, and deletes the namespace
# Exit status of start: 3 when something is not installed, or may not be run here. Start and stop may be called twice.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead-components

# What differs between the two, and where their state is.
use() {
  dir=$1
  flavour=$(cat "$dir/flavour")
  namespace=fairlead-$(basename "$dir" | tr -dc 'a-zA-Z0-9' | tail -c 16)
  if [ "$flavour" = incus ]; then
    daemon=$cache/incus/usr/libexec/incus/incusd client=$cache/incus/usr/bin/incus
    missing='Incus is not installed: run scripts/components/lxd.sh install-incus'
    export INCUS_DIR="$dir" INCUS_CONF="$dir/client" INCUS_SOCKET="$dir/unix.socket"
    export LD_LIBRARY_PATH="$(echo "$cache"/incus/usr/lib/*-linux-gnu)"
    # incusd starts itself again under the name "incusd".
    export PATH="$cache/incus/usr/libexec/incus:$cache/incus/usr/bin:$PATH"
  else
    daemon=lxd client=lxc missing='LXD is not installed: Debian has it as lxd and lxd-client'
    export LXD_DIR="$dir" LXD_CONF="$dir/client"
  fi
}

start() {
  mkdir -p "$1"
  echo "$2" >"$1/flavour"
  use "$1"
  [ "$(id -u)" = 0 ] || absent 'real containers need root'
  command -v "$daemon" >/dev/null || absent "$missing"
  for command in "$client" dnsmasq busybox curl ip nsenter unshare; do
    command -v "$command" >/dev/null || absent "$command is not installed"
  done
  if up; then return; fi
  ip netns add "$namespace" 2>/dev/null || [ -e "/run/netns/$namespace" ] || absent 'no network namespaces here'
  ip -n "$namespace" link set lo up
  run
  if "$client" storage show default >/dev/null 2>&1; then return; fi
  if [ "$flavour" = incus ]; then preseed | "$client" admin init --preseed; else preseed | "$daemon" init --preseed; fi
  image
}

# The daemon, with the sysfs of its namespace (it looks for its bridge there) and the control groups it had.
run() {
  setsid nsenter --net="/run/netns/$namespace" unshare -m sh -c '
    mount --make-rprivate /
    mkdir -p "$1" && mount --rbind /sys/fs/cgroup "$1"
    mount -t sysfs sysfs /sys && mount --rbind "$1" /sys/fs/cgroup
    shift
    exec "$@"' _ "$dir/cgroup" "$daemon" --logfile "$dir/daemon.log" </dev/null >"$dir/daemon.out" 2>&1 &
  echo $! >"$dir/daemon.pid"
  tries=300
  until up; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] && running || fail "no answer from $daemon within 30 s, see $dir/daemon.out"
    sleep 0.1
  done
}

up() {
  curl -sf -m 5 --unix-socket "$dir/unix.socket" http://l/1.0 >/dev/null
}

preseed() {
  cat <<PRESEED
config: {core.https_address: "127.0.0.1:8443", images.auto_update_interval: "0"}
storage_pools: [{name: default, driver: dir}]
networks: [{name: lab0, type: bridge, config: {ipv4.address: 10.214.0.1/24, ipv4.nat: "false", ipv6.address: none}}]
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, network: lab0, type: nic}
  config: {security.privileged: "true"}
PRESEED
}

# busybox alone: gets its address by DHCP, marks the moment by a file /address, and serves its name by HTTP.
image() {
  root=$dir/image/rootfs
  mkdir -p "$root/bin" "$root/sbin" "$root/etc" "$root/tmp" "$root/proc" "$root/sys" "$root/dev" "$root/www" \
    "$root/root" "$root/run"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"; done
  ln -sf ../bin/busybox "$root/sbin/init"
  echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"
  printf '::sysinit:/bin/sh /etc/rc\n::respawn:/bin/httpd -f -p 80 -h /www\n' >"$root/etc/inittab"
  cat >"$root/etc/rc" <<'RC'
rm -f /address
ip link set lo up
ip link set eth0 up
hostname >/www/index.html
udhcpc -b -i eth0 -s /etc/dhcp.sh
RC
  cat >"$root/etc/dhcp.sh" <<'DHCP'
#!/bin/sh
[ "$1" = bound ] && ip addr add "$ip/${mask:-24}" dev eth0 && echo "$ip" >/address
DHCP
  chmod +x "$root/etc/dhcp.sh"
  printf 'architecture: %s\ncreation_date: 1700000000\nproperties: {description: lab}\n' "$(uname -m)" \
    >"$dir/image/metadata.yaml"
  tar -C "$dir/image" -czf "$dir/image.tar.gz" metadata.yaml rootfs
  "$client" image import "$dir/image.tar.gz" --alias lab >/dev/null
  rm -rf "$dir/image" "$dir/image.tar.gz"
}

stop() {
  [ -e "$1/flavour" ] || return 0
  use "$1"
  if up; then
    for container in $(timeout 20 "$client" list -f csv -c n); do timeout 30 "$client" delete -f "$container"; done
  fi
  end
  for pid in $(ip netns pids "$namespace" 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
  if [ -e "/run/netns/$namespace" ]; then ip netns del "$namespace"; fi
  rm -f "$dir/flavour"
}

# Ends the daemon; containers run on.
end() {
  running || return 0
  kill "$(cat "$dir/daemon.pid")"
  tries=150
  while running; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || kill -9 "$(cat "$dir/daemon.pid")"
    sleep 0.1
  done
  rm -f "$dir/daemon.pid"
}

# A zombie, whose parent has not asked for its end yet, is over.
running() {
  [ -s "$dir/daemon.pid" ] && grep -q '^State:.[^Z]' "/proc/$(cat "$dir/daemon.pid")/status" 2>/dev/null
}

fail() {
  echo "lxd.sh: $1" >&2
  exit 1
}

absent() {
  echo "lxd.sh: $1" >&2
  exit 3
}

case ${1-}:$# in
  install-incus:1) "$(dirname "$0")/fetch.sh" bookworm-backports incus incus-base incus-client libcowsql0 libraft0 ;;
  start:3) start "$2" "$3" ;;
  restart:2) use "$2"; end; run ;;
  stop:2) stop "$2" ;;
  exec:[3-9]|exec:??) use "$2"; shift 2; exec nsenter --net="/run/netns/$namespace" "$@" ;;
  *) echo "usage: $0 install-incus | start DIR lxd|incus | exec DIR COMMAND... | restart DIR | stop DIR" >&2; exit 2 ;;
esac
