#!/bin/sh
# Real servers for the health checks: each in the foreground of its own process group, on 127.0.0.1, never as root.
#   checks.sh start DIR NAME PORT [ARGUMENT…]   NAME is redis, postgres, mysql, smtp, ldap, nginx or knot; further
#                                               arguments go to the server, those of smtp, ldap and nginx into its
#                                               configuration; state in DIR
#   checks.sh stop DIR                          ends it and leaves its files
# Started by root, a server has DIR/hosts as its /etc/hosts when that is there.
# Exit status of start: 3 when the server is not installed. Each may be called twice; a second start with other
# arguments needs a stop before it. nginx serves TLS with DIR/cert.pem and DIR/key.pem on PORT + 1 when they are there.
set -eu
PATH=$PATH:/usr/sbin:/sbin

redis() { # port argument…
  needs redis-server
  at=$1
  shift
  launch redis-server --port "$at" --bind 127.0.0.1 --dir "$dir" --save '' --daemonize no "$@"
}

postgres() { # port argument…
  bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  needs "${bin:-/usr/lib/postgresql}/postgres"
  at=$1
  shift
  [ -d "$dir/data" ] || quietly "$bin/initdb" --no-sync --auth=trust --username=postgres -D "$dir/data"
  [ ! -e "$dir/pg_hba.conf" ] || cp "$dir/pg_hba.conf" "$dir/data/pg_hba.conf"
  [ ! -e "$dir/standby.signal" ] || cp "$dir/standby.signal" "$dir/data/standby.signal"
  own
  launch "$bin/postgres" -D "$dir/data" -p "$at" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c unix_socket_directories= "$@"
}

mysql() { # port argument…
  needs mariadbd
  at=$1
  shift
  [ -d "$dir/data" ] || mysql_tables
  launch mariadbd --no-defaults --datadir="$dir/data" --port="$at" --bind-address=127.0.0.1 \
    --socket="$dir/socket" --pid-file="$dir/mariadbd.pid" --innodb-flush-log-at-trx-commit=0 "$@"
}

# Without mariadb-install-db, which needs the client's package. User probe has no password, locked has one.
mysql_tables() {
  mkdir -p "$dir/data"
  own
  sql=/usr/share/mysql
  {
    printf '%s;\n' 'CREATE DATABASE mysql' 'USE mysql' 'SET @auth_root_socket = NULL'
    cat "$sql/mysql_system_tables.sql" "$sql/mysql_system_tables_data.sql"
    printf '%s;\n' 'FLUSH PRIVILEGES' "CREATE USER probe@'%'" "CREATE USER locked@'%' IDENTIFIED BY 'secret'"
  } >"$dir/tables.sql"
  quietly mariadbd --no-defaults --datadir="$dir/data" --bootstrap --skip-networking <"$dir/tables.sql"
}

# OpenSMTPD knows one spool and one control socket: it gets file systems of its own to have them on.
smtp() { # port line… (the last one is appended to "listen on")
  needs smtpd
  [ "$(id -u)" = 0 ] || missing 'OpenSMTPD starts as root only, to take other users then'
  {
    [ -z "${2-}" ] || echo "$2"
    echo "listen on 127.0.0.1 port $1 ${3-}"
    echo 'action "none" relay'
    echo 'match for any action "none"'
  } >"$dir/smtpd.conf"
  user= launch unshare -m sh -c '
    mount -t tmpfs none /var/spool && mount -t tmpfs none /run && mkdir -m 711 /var/spool/smtpd &&
      exec smtpd -d -f "$0"' "$dir/smtpd.conf"
}

ldap() { # port line…
  needs slapd
  {
    echo 'include /etc/ldap/schema/core.schema'
    echo 'modulepath /usr/lib/ldap'
    echo 'moduleload back_null'
    [ -z "${2-}" ] || echo "$2"
    echo 'database null'
    echo 'suffix "dc=test"'
  } >"$dir/slapd.conf"
  launch slapd -h "ldap://127.0.0.1:$1" -f "$dir/slapd.conf" -d stats
}

nginx() { # port line…
  needs nginx
  mkdir -p "$dir/logs"
  {
    echo "pid $dir/nginx.pid; worker_processes 1; events {}"
    echo 'http {'
    for name in client_body proxy fastcgi uwsgi scgi; do echo "${name}_temp_path $dir/$name;"; done
    echo "access_log $dir/logs/access.log; error_log $dir/logs/error.log info;"
    echo "server { listen 127.0.0.1:$1; ${2-}"
    if [ -e "$dir/cert.pem" ]; then
      echo "listen 127.0.0.1:$(($1 + 1)) ssl; ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem;"
    fi
    echo '}}'
  } >"$dir/nginx.conf"
  own
  launch nginx -p "$dir" -e "$dir/logs/error.log" -c "$dir/nginx.conf" -g 'daemon off;'
}

knot() { # port
  needs knotd
  cat >"$dir/knot.conf" <<CONFIG
server:
    rundir: "$dir"
    listen: 127.0.0.1@$1
database:
    storage: "$dir"
log:
  - target: stderr
    any: warning
zone:
  - domain: test.
    storage: "$dir"
    file: "test.zone"
CONFIG
  printf '%s\n' '@ 1 SOA ns.test. hostmaster.test. 1 60 60 60 1' '@ 1 NS ns.test.' 'ns 1 A 127.0.0.1' >"$dir/test.zone"
  own
  launch knotd -c "$dir/knot.conf"
}

start() { # name port argument…
  if running; then return; fi
  mkdir -p "$dir"
  name=$1
  port=$2
  shift
  own
  "$name" "$@"
  await "$(printf ':%04X 00000000:0000 0A' "$port")"
}

# Everything in DIR belongs to whom the server runs as.
own() {
  [ -z "$user" ] || chown -R "$user" "$dir"
}

launch() {
  log=$dir/server.log
  [ -z "$user" ] || set -- setpriv --reuid="$user" --regid=nogroup --clear-groups "$@"
  if [ -n "$user" ] && [ -e "$dir/hosts" ]; then
    set -- unshare -m sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$dir/hosts" "$@"
  fi
  # The shell opens the log, so it is still ours.
  setsid "$@" </dev/null >>"$log" 2>&1 &
  echo $! >"$dir/pid"
}

quietly() {
  ${user:+setpriv --reuid="$user" --regid=nogroup --clear-groups} "$@" >"$dir/install.log" 2>&1 || fail "$1 failed, see $dir/install.log"
}

# Listens: seen from outside, so that no connection of ours stands in the server's log.
await() {
  tries=300
  until grep -q "$1" /proc/net/tcp; do
    running || fail "$name has ended, see $dir/server.log"
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "$name does not listen after 30 s, see $dir/server.log"
    sleep 0.1
  done
}

stop() {
  if running; then
    kill -9 "-$(cat "$dir/pid")" 2>/dev/null || true
    tries=100
    while running && [ $tries -gt 0 ]; do
      tries=$((tries - 1))
      sleep 0.02
    done
  fi
  rm -f "$dir/pid" "$dir/data/postmaster.pid"
}

# A process that has ended and was not waited for yet is over.
running() {
  [ -s "$dir/pid" ] && [ -d "/proc/$(cat "$dir/pid")" ] && ! grep -q '^State:.Z' "/proc/$(cat "$dir/pid")/status"
}

needs() {
  command -v "$1" >/dev/null || missing "$name is not installed: run scripts/debian.sh test"
}

missing() {
  echo "checks.sh: $1" >&2
  exit 3
}

fail() {
  echo "checks.sh: $1" >&2
  tail -n 5 "$dir/server.log" >&2 2>/dev/null || true
  exit 1
}

user=
[ "$(id -u)" != 0 ] || user=nobody
case ${1-}:${3-} in
  start:redis | start:postgres | start:mysql | start:smtp | start:ldap | start:nginx | start:knot)
    dir=$2
    shift 2
    start "$@"
    ;;
  stop:)
    dir=$2
    stop
    ;;
  *)
    echo "usage: $0 start DIR NAME PORT [ARGUMENT...] | stop DIR" >&2
    exit 2
    ;;
esac
