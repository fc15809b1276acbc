# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The programs of docs/examples, as they are.

t_example_exec() {
	equal "as it is" "$("$area/examples/exec" </dev/null 2>&1)" "hello from the guest"
	local got=0
	"$area/examples/exec" sh -c 'exit 3' </dev/null || got=$?
	equal "exit code" $got 3
}

t_example_stream() {
	equal "stdin comes back" "$(printf 'one\ntwo\n' | "$area/examples/stream" cat 2>/dev/null)" "$(printf 'one\ntwo')"
}

t_example_reattach() {
	"$area/examples/reattach" start >out 2>&1 </dev/null || fail "start: $(cat out)"
	"$area/examples/reattach" again >again 2>&1 </dev/null || fail "again: $(cat again)"
	check "the session is found again: $(cat out again)" grep -q 'session 1' again
	for name in $(wisp ls --json | grep -o '"name":"[^"]*"' | cut -d '"' -f 4); do
		wisp stop "$name" >/dev/null 2>&1
		wisp rm "$name" >/dev/null 2>&1
	done
}

t_example_many() {
	"$area/examples/many" 'echo one' 'echo two >&2; exit 3' >out 2>&1 </dev/null || fail "many: $(cat out)"
	equal "each says what it did" "$(sort out)" "$(printf '1: exit code 0\n1: one\n2: exit code 3\n2: two')"
}

t_example_attach() {
	terminal 80 24 "$area/examples/attach; echo code \$?"
	expect_screen '^/ #'
	keys 'exit 6' Enter
	expect_screen '^code 6'
	no_terminal
}

# Clones of a program with a random generator of its own never print the same number after the fork.
t_example_reseed() {
	wisp create -q -n box
	wisp cp "$area/examples/reseed" box:/tmp/reseed
	wisp exec -d box -- /tmp/reseed >/dev/null
	wait_until sh -c 'wisp logs box | grep -q .'
	equal "the clones" "$(wisp fork box -n clone --count 2)" "$(printf 'clone-1\nclone-2')"
	for name in clone-1 clone-2; do
		wait_until sh -c "wisp logs $name | awk 'seen; /^reseeded/ { seen = 1 }' | grep -q ." || fail "$name printed no number"
		wisp logs $name | awk 'seen; /^reseeded/ { seen = 1 }' >$name
	done
	equal "numbers that both printed" "$(sort clone-1 clone-2 | uniq -d)" ""
	check "the source is not told" sh -c '! wisp logs box | grep -q reseeded'
	wisp stop clone-1 clone-2 box
	wisp rm box
}
