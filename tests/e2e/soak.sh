# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Long runs: `make soak`. SOAK_CYCLES says how often.

# What must be the same after the cycles as before: descriptors and memory of the monitor, files, processes.
footprint() {
	local pid
	pid=$(wisp inspect "$1" --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
	echo "descriptors $(ls "/proc/$pid/fd" | wc -l)"
	echo "threads $(ls "/proc/$pid/task" | wc -l)"
	echo "mappings $(wc -l <"/proc/$pid/maps")"
	echo "files $(find "$WISP_STATE" | wc -l)"
	echo "monitors $(vmms)"
}
heap_kib() { awk '/^\[heap\]|^[0-9a-f].*\[heap\]/ { heap = 1; next } heap && /^Rss:/ { print $2; exit }' "/proc/$1/smaps"; }

t_soak_restores_and_forks() {
	local i pid cycles=${SOAK_CYCLES:-1000} before after heap
	check create wisp create -n box -m 96 >/dev/null
	check snapshot wisp snapshot -q box file.snap
	# The first ones fill caches.
	for i in 1 2 3; do
		check fork wisp fork box -n clone >/dev/null
		check exec wisp exec clone -- true </dev/null
		wisp stop clone
		check run wisp run --from file.snap -- true </dev/null
	done
	wait_until sh -c "[ \"\$(pgrep -x wisp-vmm | wc -l)\" = 1 ]"
	pid=$(pgrep -x wisp-vmm)
	heap=$(heap_kib "$pid")
	before=$(footprint box)
	for ((i = 1; i <= cycles; i++)); do
		wisp fork box -n clone >/dev/null || fail "fork $i"
		[ "$(wisp exec clone -- echo "$i" </dev/null)" = "$i" ] || fail "exec in fork $i"
		wisp stop --force clone || fail "stop of fork $i"
		[ "$(wisp run --from file.snap -- echo "$i" </dev/null)" = "$i" ] || fail "restore $i"
		[ $((i % 100)) -ne 0 ] || echo "# $i cycles of fork, exec, stop and of restore, exec, stop"
		[ $failed -eq 0 ] || break
	done
	wait_until sh -c "[ \"\$(pgrep -x wisp-vmm | wc -l)\" = 1 ]"
	after=$(footprint box)
	equal "what is left" "$after" "$before"
	[ $(($(heap_kib "$pid") - heap)) -le 256 ] || fail "the monitor's heap grew from $heap to $(heap_kib "$pid") KiB"
	wisp rm -f box 2>/dev/null
}

# Snapshots and restores of a guest that works: each generation goes on from the last one's snapshot.
t_soak_generations_under_load() {
	local i box cycles=${SOAK_GENERATIONS:-50}
	truncate -s 32M disk.img
	check create wisp create -n g0 -m 160 -c 2 --disk disk.img >/dev/null
	check "copy programs" wisp cp "$area/tests/diskcheck" g0:/bin/diskcheck
	check "copy programs" wisp cp "$area/tests/guestcheck" g0:/bin/guestcheck
	wisp exec -d g0 -- sh -c 'guestcheck >/root/check 2>&1; echo ended >>/root/check' </dev/null >/dev/null
	wisp exec -d g0 -- sh -c 'while diskcheck write /dev/vdb 4 && echo 3 >/proc/sys/vm/drop_caches && diskcheck read /dev/vdb 4; do
		echo $((rounds += 1)) >/root/rounds; done >/root/disk 2>&1; echo ended >>/root/disk' </dev/null >/dev/null
	wisp exec -d g0 -- sh -c 'i=0; while echo $((i += 1)); do sleep 0.1; done' </dev/null >/dev/null
	for ((i = 1; i <= cycles; i++)); do
		box=g$((i - 1))
		check "stream in generation $i" cmp <(wisp exec $box -- head -c 500000 /dev/zero </dev/null) <(head -c 500000 /dev/zero)
		check "snapshot of generation $i" wisp snapshot -q $box file.snap --stop --replace
		check "generation $i" wisp create --from file.snap -n g$i --boot-timeout 120s >/dev/null
		check "checks of generation $i" wisp exec g$i -- sh -c '! grep -q [a-z] /root/check && [ ! -s /root/disk ]' </dev/null
		wisp rm -f $box 2>/dev/null
		[ $((i % 10)) -ne 0 ] || echo "# $i generations"
		[ $failed -eq 0 ] || break
	done
	box=g$((i - 1))
	wisp exec $box -- rm -f /root/rounds </dev/null
	wait_until wisp exec $box -- test -e /root/rounds </dev/null || fail "the disk is not checked on"
	check "the session is there" grep -q 'i=0' <(wisp sessions $box)
	wisp rm -f $box 2>/dev/null
}
