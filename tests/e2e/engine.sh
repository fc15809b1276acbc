# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The monitor's engines: all other cases have io_uring where the host has it.

# How many threads of the sandbox's monitor make calls that wait for a disk.
disk_threads() { cat /proc/"$(pgrep -x wisp-vmm)"/task/*/comm | grep -c '^disk$'; }
engine_of() { wisp inspect "$1" | sed -n 's/.*"engine": *"\([a-z_]*\)".*/\1/p'; }

t_epoll_does_the_same() {
	head -c 6M /dev/urandom >data
	truncate -s 64M disk direct
	wisp create -q -n box --engine epoll -c 2 --disk ./disk --disk ./direct,cache=direct || {
		fail "create"
		return
	}
	equal "the engine" "$(engine_of box)" epoll
	# Executions: both streams, an exit code, input, a time limit, a stream in each direction.
	wisp exec box -- sh -c 'echo out; echo err >&2; exit 7' </dev/null >out 2>err
	equal "exit code" $? 7
	equal "streams" "$(cat out err)" "out
err"
	equal "input" "$(echo in | wisp exec box -- cat)" in
	wisp exec --timeout 1 box -- sleep 60 </dev/null >out 2>&1
	equal "a time limit" $? 124
	check "a stream there and back" sh -c 'wisp exec box -- cat <data | cmp - data'
	check "many at once" sh -c 'for i in 1 2 3 4 5 6 7 8; do wisp exec box -- cat <data | cmp - data & jobs="$jobs $!"; done
		for job in $jobs; do wait $job || exit 1; done'
	# Disks, by two processors at once; what the guest has flushed, the host has.
	wisp cp "$area/tests/diskcheck" box:/bin/diskcheck || fail "cp"
	wisp exec box -- sh -c 'set -e
		for disk in vdb vdc; do diskcheck write /dev/$disk 24 & jobs="$jobs $!"; done
		for job in $jobs; do wait $job; done
		echo 3 >/proc/sys/vm/drop_caches
		for disk in vdb vdc; do diskcheck read /dev/$disk 24 & read="$read $!"; done
		for job in $read; do wait $job; done' </dev/null >out 2>&1 || fail "disks: $(cat out)"
	for file in disk direct; do
		check "the host finds the same in $file" "$area/tests/diskcheck" read $file 24
	done
	check "threads for disks" [ "$(disk_threads)" -ge 1 ]
	check "no more than four" [ "$(disk_threads)" -le 4 ]
	wisp stats box >out 2>&1 || fail "stats: $(cat out)"
	wisp stop box >out 2>&1 || fail "stop: $(cat out)"
	wisp rm box
}

# A snapshot, and a clone of a sandbox whose jail allows this engine only.
t_epoll_is_inherited() {
	local auto=epoll
	wisp doctor | grep -q '^ok  *io_uring ' && auto=io_uring
	wisp create -q -n box --engine epoll || {
		fail "create"
		return
	}
	wisp exec box -- sh -c 'echo state >/tmp/file' </dev/null
	check fork wisp fork box -n clone >/dev/null
	equal "the clone's engine" "$(engine_of clone)" epoll
	equal "the clone's state" "$(wisp exec clone -- cat /tmp/file </dev/null 2>&1)" state
	check snapshot wisp snapshot -q --stop box saved
	check restore wisp create -q -n again --from saved
	equal "the restored one's engine" "$(engine_of again)" "$auto"
	equal "the restored one's state" "$(wisp exec again -- cat /tmp/file </dev/null 2>&1)" state
	wisp rm -f clone again box >out 2>&1
}
