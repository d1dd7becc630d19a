#!/bin/sh
# A real Docker engine for tests, with a bridge of its own: the machine's firewall and forwarding stay as they are.
#   docker.sh start DIR NAME [PORT]  engine on unix:DIR/docker.sock; with PORT also on 127.0.0.1:PORT over TLS, for
#                                    clients with a certificate of DIR/ca.pem: client.pem, not other.pem; their keys
#                                    are beside them. NAME, ten letters or digits at most, is that of its bridge
#   docker.sh image DIR              makes the image "tools" of busybox: a shell, httpd, nc and the like
#   docker.sh halt DIR               ends the engine; started again it has its containers, stopped unless they restart
#   docker.sh stop DIR               ends it with its containers and its bridge
# Exit status of start: 3 when Docker cannot be had here. Each may be called twice.
set -eu

start() {
  dir=$1 name=$2 port=${3-}
  for tool in dockerd ip busybox openssl curl; do
    command -v "$tool" >/dev/null || missing "$tool is not installed (docker.io, iproute2, busybox-static, openssl, curl)"
  done
  [ "$(id -u)" = 0 ] || missing 'a Docker engine is started by root'
  if running "$dir/pid"; then return; fi
  mkdir -p "$dir"
  echo "$name" >"$dir/name"
  bridge "$name" || missing 'no bridge can be made here'
  set -- -H "unix://$dir/docker.sock"
  if [ -n "$port" ]; then
    certificates "$dir"
    set -- "$@" -H "tcp://127.0.0.1:$port" --tlsverify \
      --tlscacert "$dir/ca.pem" --tlscert "$dir/server.pem" --tlskey "$dir/server.key"
  fi
  setsid dockerd "$@" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
    --bridge "br$name" --ip 127.0.0.1 --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    </dev/null >>"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  tries=300
  until curl -sf --unix-socket "$dir/docker.sock" http://docker/_ping >/dev/null; do
    tries=$((tries - 1))
    running "$dir/pid" && [ $tries -gt 0 ] || fail "no Docker engine within 30 s, see $dir/log"
    sleep 0.1
  done
}

# On a subnet of its own, by chance: other engines may be starting at this moment.
bridge() {
  ip link show "br$1" >/dev/null 2>&1 && return
  ip link add "br$1" type bridge || return
  while subnet=10.214.$(od -An -N1 -tu1 /dev/urandom | tr -d ' '); do
    ip -4 addr show | grep -q " $subnet\." || break
  done
  ip addr add "$subnet.1/24" dev "br$1" && ip link set "br$1" up
}

# An authority, a server's certificate and a client's; "other" is signed by itself.
certificates() (
  cd "$1"
  [ ! -e client.pem ] || return 0
  certificate ca
  certificate other
  certificate server -CA ca.pem -CAkey ca.key -addext subjectAltName=IP:127.0.0.1
  certificate client -CA ca.pem -CAkey ca.key -addext extendedKeyUsage=clientAuth
)

certificate() {
  called=$1
  shift
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$called.key" -out "$called.pem" \
    -subj "/CN=$called" "$@" 2>>log
}

image() {
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root/bin" "$root/tmp" "$root/www" "$root/proc" "$root/sys" "$root/dev" "$root/etc"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for tool in $(busybox --list); do
    [ "$tool" = busybox ] || ln -s busybox "$root/bin/$tool"
  done
  tar -C "$root" -c . | docker -H "unix://$1/docker.sock" import - tools >/dev/null
}

halt() {
  [ -e "$1/pid" ] || return 0
  if running "$1/pid"; then kill "$(cat "$1/pid")"; fi
  tries=300
  while running "$1/pid"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || kill -9 "$(cat "$1/pid")"
    sleep 0.1
  done
  rm -f "$1/pid"
}

stop() {
  [ -e "$1/name" ] || return 0
  if running "$1/pid"; then
    DOCKER_HOST=unix://$1/docker.sock timeout 60 sh -c \
      'ids=$(docker ps -aq); [ -z "$ids" ] || docker rm -f $ids; docker network prune -f' >/dev/null 2>&1 || true
  fi
  halt "$1"
  umount "$1"/exec/netns/* 2>/dev/null || true
  # Where the root's mounts are private, dockerd mounts its data on itself, and may leave that to us.
  umount "$1/data" 2>/dev/null || true
  ip link del "br$(cat "$1/name")" 2>/dev/null || true
  rm -f "$1/name"
}

# A process that ended may stay in the table until somebody asks for its status.
running() {
  [ -s "$1" ] && grep -q '^State:.[^ZX]' "/proc/$(cat "$1")/status" 2>/dev/null
}

missing() {
  echo "docker.sh: $1" >&2
  exit 3
}

fail() {
  echo "docker.sh: $1" >&2
  exit 1
}

case ${1-}:$# in
  start:[34]) shift; start "$@" ;;
  image:2) image "$2" ;;
  halt:2) halt "$2" ;;
  stop:2) stop "$2" ;;
  *) echo "usage: $0 start DIR NAME [PORT] | image DIR | halt DIR | stop DIR" >&2; exit 2 ;;
esac
