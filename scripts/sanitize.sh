#!/bin/sh
# Runs the native plane under sanitizers. Its build and that of the tree stay as they are: this works on a copy.
#
#   sh scripts/sanitize.sh           all of it, 5 to 10 minutes
#   sh scripts/sanitize.sh desk      relay threads without Node: data races, memory, undefined behaviour, leaks
#   sh scripts/sanitize.sh udp       the same of datagrams
#   sh scripts/sanitize.sh tests     the addon within Node: the tests of the plane and of flows
#   sh scripts/sanitize.sh soak      the addon within Node: npm run soak, smaller
cd "$(dirname "$0")/.." || exit 1

CC=${CC:-cc}
MEMORY='-fsanitize=address,undefined -fno-omit-frame-pointer -g -O1'
THREADS='-fsanitize=thread -g -O1'
FLAGS='-std=gnu11 -D_GNU_SOURCE -pthread -Wall -Wextra'
PORT=${PORT:-14100}

out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 1' HUP INT TERM
failed=0
sources=$(ls native/src/*.c | grep -v addon.c)

# verdict NAME STATUS LOG: what a sanitizer or a program complained of.
verdict() {
	if [ "$2" != 0 ] || grep -Eq 'Sanitizer|runtime error:' "$3"; then
		echo "not ok - $1 (status $2)"
		sed 's/^/    /' "$3" | tail -n 100
		failed=1
	else
		echo "ok - $1"
		tail -n "${4:-1}" "$3" | sed 's/^/    /'
	fi
}

# with_desk NAME DESK "ITS OPTIONS" OPTIONS OF STREAMS: four fronts, IPv4 and unix sockets on either side.
with_desk() {
	name=$1 desk=$2 moods=$3
	shift 3
	a=127.0.0.1:$PORT b=127.0.0.1:$((PORT + 1)) c=127.0.0.1:$((PORT + 2)) d=127.0.0.1:$((PORT + 3))
	PORT=$((PORT + 4))
	"$out/$desk" $moods "$a=$b" "$c=unix:$out/b1" "unix:$out/f1=$d" "unix:$out/f2=unix:$out/b2" >"$out/log" 2>&1 &
	pid=$!
	until_said ready "$out/log" $pid
	"$out/streams" --to "$a" --to "$c" --to "unix:$out/f1" --to "unix:$out/f2" --backend "$b" --backend "$d" \
		--backend "unix:$out/b1" --backend "unix:$out/b2" "$@" >"$out/streams.log" 2>/dev/null
	streams=$?
	kill -TERM $pid
	wait $pid
	desk_status=$?
	cat "$out/streams.log" >>"$out/log"
	verdict "$name" $((streams + desk_status)) "$out/log" 2
}

build_desks() {
	[ -x "$out/desk.threads" ] && return
	$CC $FLAGS $MEMORY -o "$out/desk.memory" native/soak/desk.c $sources || exit 1
	$CC $FLAGS $THREADS -o "$out/desk.threads" native/soak/desk.c $sources || exit 1
}

# until_said WORDS FILE PROCESS
until_said() {
	until grep -q "$1" "$2"; do
		kill -0 "$3" 2>/dev/null || break
		sleep 0.1
	done
}

# echoes ADDRESSES: answers to datagrams at all of them, by $echo.
echoes() {
	: >"$out/echo.log"
	"$out/echo" --times 2 "$@" >"$out/echo.log" 2>&1 &
	echo=$!
	until_said listening "$out/echo.log" $echo
}

# asked OPTIONS OF DATAGRAMS: without an answer that is right it fails; some are lost. The port of a session that is ended
# before its answer has come may be another's at once, who gets the answer then: only where that is rare is a wrong one
# a failure.
asked() {
	"$out/datagrams" --seconds "$seconds" --timeout-ms 50 "$@" >"$out/asked.log" 2>&1 ||
		[ "$lenient" = 1 ] || datagrams=1
	grep -q '"answered":[1-9]' "$out/asked.log" || datagrams=1
	cat "$out/asked.log" >>"$out/datagrams.log"
}

# flooded OPTIONS OF DATAGRAMS: answers do not matter.
flooded() {
	"$out/datagrams" --seconds "$seconds" --flood "$@" >>"$out/datagrams.log" 2>&1 || datagrams=1
}

# with_datagrams NAME DESK "ITS OPTIONS": fronts of every kind at once, whose backend goes and comes back once; the last
# one fires and forgets.
with_datagrams() {
	a=$PORT seconds=${SECONDS_EACH:-1} datagrams=0 lenient=0
	PORT=$((PORT + 10))
	at() { echo "127.0.0.1:$((a + $1))"; }
	: >"$out/log" >"$out/datagrams.log"
	echoes "$(at 5)"
	"$out/$2" $3 "udp,glimpses=3:$(at 0)=$(at 5)" "udp,by-ip,guarded,responses=40:$(at 1)=$(at 5)" \
		"udp,sessions=50,requests=7:$(at 2)=$(at 5)" "udp,deaf,idle=20:0.0.0.0:$((a + 3))=$(at 5)" \
		"udp,requests=1:$(at 4)=$(at 6)" >"$out/log" 2>&1 &
	pid=$!
	until_said ready "$out/log" $pid
	case $3 in *--drops*) lenient=1 ;; esac
	all="--to $(at 0) --to $(at 1) --to $(at 3)" evicting="--to $(at 2)"
	asked $all --sessions 4096 --window 256
	kill -KILL $echo
	wait $echo 2>/dev/null
	flooded $all $evicting --sessions 4096 --rate 5000 --port $((a + 9))
	echoes "$(at 5)"
	asked $all --sessions 4096 --window 64 --port $((a + 9))
	flooded $all $evicting --sessions 1000000 --rate 20000
	asked --to "$(at 4)" --sink "$(at 6)" --sessions 500 --window 64
	kill -TERM $pid
	wait $pid
	desk_status=$?
	kill -KILL $echo
	wait $echo 2>/dev/null
	cat "$out/datagrams.log" >>"$out/log"
	verdict "$1" $((datagrams + desk_status)) "$out/log" 6
}

run_udp() {
	build_desks
	$CC $FLAGS -O2 -o "$out/datagrams" bench/datagrams.c || exit 1
	$CC $FLAGS -O2 -o "$out/echo" bench/echo.c || exit 1
	for kind in threads memory; do
		with_datagrams "$kind: datagrams, a moody desk" desk.$kind --moody
		with_datagrams "$kind: datagrams that are dropped, four threads" desk.$kind '--moody --drops --threads 4'
	done
}

run_desk() {
	build_desks
	$CC $FLAGS -O2 -o "$out/streams" native/soak/streams.c || exit 1
	for kind in threads memory; do
		with_desk "$kind: short flows, a moody desk" desk.$kind --moody --flows 50000 --short
		with_desk "$kind: flows that are dropped" desk.$kind '--moody --drops' --flows 20000 --short --lenient
		with_desk "$kind: long streams" desk.$kind --moody --gigabytes 2
		with_desk "$kind: eight threads" desk.$kind '--moody --threads 8' --flows 20000 --short --concurrency 512
	done
}

# The addon for Node, in a copy. Node frees nothing at its end, so leaks are not looked for.
build_addon() {
	[ -d "$out/tree" ] && return
	mkdir "$out/tree"
	cp -r bench bin config dist native schema.json scripts src test package.json tsconfig*.json "$out/tree"
	ln -s "$PWD/node_modules" "$out/tree/node_modules"
	export ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_abort=0:log_path="$out/asan"
	export UBSAN_OPTIONS=print_stacktrace=1:log_path="$out/asan"
	runtime=$($CC -print-file-name=libasan.so):$($CC -print-file-name=libubsan.so)
	(cd "$out/tree" && LD_PRELOAD=$runtime CFLAGS=$MEMORY node native/build.mjs) >"$out/log" 2>&1
	grep -q 'the native plane is built' "$out/log" || { cat "$out/log"; exit 1; }
}

# in_node NAME COMMAND: reports of a process go to a file each, which no test swallows.
in_node() {
	name=$1
	shift
	rm -f "$out"/asan.*
	(cd "$out/tree" && LD_PRELOAD=$runtime "$@") >"$out/log" 2>&1
	status=$?
	cat "$out"/asan.* >>"$out/log" 2>/dev/null
	verdict "$name" $status "$out/log" 4
}

run_tests() {
	build_addon
	for file in ${TESTS:-test/contract/plane.test.ts test/contract/session.test.ts test/flow/*.test.ts}; do
		in_node "addon: $file" npx tap --timeout=400 --reporter=tap "$file"
	done
}

run_soak() {
	build_addon
	in_node 'addon: flows' node bench/soak.mjs flows --plane native --flows 50000
	in_node 'addon: streams' node bench/soak.mjs streams --plane native --gigabytes 2
}

for part in ${*:-desk udp tests soak}; do
	case $part in
	desk | udp | tests | soak) "run_$part" ;;
	*)
		sed -n '4,8s/^#  *//p' "$0"
		exit 2
		;;
	esac
done
exit $failed
