#!/bin/sh
# Builds the tests of the C modules with every sanitizer the compiler has, runs them, and tells TAP.
#
#   sh native/test/run.sh                                  as `npm test` does
#   CC=clang-14 FUZZ_SECONDS=600 sh native/test/run.sh     with libFuzzer, for ten minutes a target
#   SEED=7 sh native/test/run.sh                           with other chances
#
# An input that breaks a target is left in the folder of temporary files. CORPUS is a folder whose inputs libFuzzer
# begins with, and where it leaves those that reached something new.
cd "$(dirname "$0")" || exit 1

CC=${CC:-cc}
FUZZ_SECONDS=${FUZZ_SECONDS:-2}
LEFT=${TMPDIR:-/tmp}/fairlead-fuzz-$$
FLAGS='-std=gnu11 -D_GNU_SOURCE -pthread -g -Wall -Wextra -fno-omit-frame-pointer'
MEMORY='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
THREADS='-O1 -fsanitize=thread'
PLAIN='-O2'
# What a thread calls while it is fuzzed is fuzz_world.c's.
WORLD='-Wl,--wrap=socket,--wrap=bind,--wrap=connect,--wrap=epoll_wait,--wrap=clock_gettime'
WORLD=$WORLD,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=syscall,--wrap=datagrams_shoot

if ! command -v "${CC%% *}" >/dev/null; then
	echo "1..0 # no C compiler (CC is $CC)"
	exit 0
fi
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 1' HUP INT TERM
echo 'int main(void) { return 0; }' >"$out/nothing.c"
echo '#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t count);
int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t count) { return !bytes && count; }' >"$out/fuzz.c"

# has NAME SOURCE FLAGS: whether such a program is built and runs here; why not is left in NAME.not.
has() {
	if $CC $FLAGS $3 -o "$out/$1.probe" "$out/$2" >"$out/$1.not" 2>&1 &&
		"$out/$1.probe" $4 >"$out/$1.not" 2>&1; then
		rm "$out/$1.not"
	fi
}

# build NAME FLAGS SOURCES
build() {
	name=$1 flags=$2
	shift 2
	$CC $FLAGS $flags -o "$out/$name" "$@" >"$out/$name.said" 2>&1
}

# lacks SANITIZER: the reason, as a directive of TAP; fails when nothing is lacking.
lacks() {
	[ -e "$out/$1.not" ] || return 1
	echo " # SKIP $CC has no $1 sanitizer: $(head -n 1 "$out/$1.not" | tr -d '#')"
}

# tell NAME TITLE COMMAND: one point, and what the command tells is the subtest before it.
tell() {
	name=$1 title=$2
	shift 2
	point=$((point + 1))
	echo "# Subtest: $title"
	if [ ! -x "$out/$name" ]; then
		sed 's/^/    # /' "$out/$name.said"
		echo '    1..0 # SKIP not built'
		verdict='not ok'
	else
		{ "$@" 2>&1; echo "$?" >"$out/$name.status"; } | sed 's/^/    /'
		verdict=ok
		[ "$(cat "$out/$name.status")" = 0 ] || verdict='not ok'
	fi
	[ "$verdict" = ok ] || failed=1
	echo "$verdict $point - $title"
}

# run NAME SANITIZER: runs a program that tells TAP by itself.
run() {
	if why=$(lacks "$2"); then
		point=$((point + 1))
		echo "ok $point - $1, $2$why"
	else
		tell "$1.$2" "$1, $2" "$out/$1.$2"
	fi
}

fuzzed() {
	if why=$(lacks memory); then
		point=$((point + 1))
		echo "ok $point - fuzz_$1$why"
	elif [ -e "$out/fuzzer.not" ]; then
		tell "fuzz_$1" "fuzz_$1, our driver" tap env FUZZ_LEFT="$LEFT-$1" "$out/fuzz_$1"
	else
		mkdir "$out/$1.seeds"
		tell "fuzz_$1" "fuzz_$1, libFuzzer" tap env FUZZ_SEEDS="$out/$1.seeds" "$out/fuzz_$1" -max_total_time="$FUZZ_SECONDS" -max_len=4096 \
			-artifact_prefix="$LEFT-$1-" -print_final_stats=1 -print_funcs=0 -seed="${SEED:-1}" -verbosity="${VERBOSITY:-0}" \
			${CORPUS:+"$CORPUS"} "$out/$1.seeds"
	fi
}

# tap COMMAND: what it says as comments, and its end as a point.
tap() {
	{ "$@" 2>&1; echo "$?" >"$out/tapped"; } | sed 's/^#* */# /'
	if [ "$(cat "$out/tapped")" = 0 ]; then
		echo 'ok 1 - no input breaks it'
	else
		echo 'not ok 1 - no input breaks it'
	fi
	echo '1..1'
	return "$(cat "$out/tapped")"
}

# The targets of the fuzzer: fuzz_NAME.c, further flags, and what it needs besides the ring.
fuzz_build() {
	name=$1 more=$2
	shift 2
	if [ -e "$out/fuzzer.not" ]; then
		$CC $FLAGS $MEMORY -c -o "$out/$name.driver.o" fuzz_driver.c 2>"$out/fuzz_$name.said" &&
			build "fuzz_$name" "$MEMORY -fsanitize-coverage=trace-pc $more" "$out/$name.driver.o" \
				fuzz_ring.c "fuzz_$name.c" ../src/ring.c "$@"
	else
		build "fuzz_$name" "$MEMORY -fsanitize=fuzzer $more" fuzz_ring.c "fuzz_$name.c" ../src/ring.c "$@"
	fi
}

has memory nothing.c "$MEMORY" &
has thread nothing.c "$THREADS" &
has fuzzer fuzz.c '-fsanitize=fuzzer' -runs=1 &
wait

build ring_test.memory "$MEMORY" ring_test.c ../src/ring.c &
build wheel_test.memory "$MEMORY" wheel_test.c ../src/wheel.c &
build pipes_test.memory "$MEMORY -Wl,--wrap=malloc,--wrap=pipe2,--wrap=fcntl" pipes_test.c ../src/pipes.c &
build slab_test.memory "$MEMORY -Wl,--wrap=calloc" slab_test.c ../src/slab.c &
build access_test.memory "$MEMORY" access_test.c ../src/access.c &
build sessions_test.memory "$MEMORY -Wl,--wrap=calloc" sessions_test.c ../src/sessions.c ../src/slab.c &
build steer_test.memory "$MEMORY" steer_test.c ../src/steer.c ../src/open.c ../src/address.c &
build ring_threads.thread "$THREADS" ring_threads.c ../src/ring.c &
build ring_threads.plain "$PLAIN" ring_threads.c ../src/ring.c &
fuzz_build touch '' &
fuzz_build commands "$WORLD" fuzz_world.c $(ls ../src/*.c | grep -Ev '/(addon|crash|open|ring)\.c') &
wait

failed=0 point=0
echo 'TAP version 14'
run ring_test memory
run wheel_test memory
run pipes_test memory
run slab_test memory
run access_test memory
run sessions_test memory
run steer_test memory
run ring_threads thread
run ring_threads plain
fuzzed touch
fuzzed commands
echo "1..$point"
exit $failed
