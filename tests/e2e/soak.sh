# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Long runs: `make soak`. SOAK_CYCLES says how often, SOAK_SECONDS how long. A short form of some is part of all cases.

# What must be the same after the cycles as before: descriptors and memory of the monitor, files, processes.
footprint() {
	local pid
	pid=$(wisp inspect "$1" --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
	echo "descriptors $(ls "/proc/$pid/fd" | wc -l)"
	echo "threads $(ls "/proc/$pid/task" | wc -l)"
	echo "files $(find "$WISP_STATE" | wc -l)"
	echo "monitors $(vmms)"
}
mappings() { wc -l <"/proc/$1/maps"; }
heap_kib() { awk '/^\[heap\]|^[0-9a-f].*\[heap\]/ { heap = 1; next } heap && /^Rss:/ { print $2; exit }' "/proc/$1/smaps"; }

t_soak_restores_and_forks() {
	local i pid cycles=${SOAK_CYCLES:-1000} before after heap mapped
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
	heap=$(heap_kib "$pid") mapped=$(mappings "$pid")
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
	# One more is an arena of malloc's, say; one a cycle is a leak.
	[ $(($(mappings "$pid") - mapped)) -le 4 ] || fail "the monitor's mappings grew from $mapped to $(mappings "$pid")"
	wisp rm -f box 2>/dev/null
}

# Snapshots and restores of a guest that works: each generation goes on from the last one's snapshot.
t_soak_generations_under_load() {
	local i box cycles=${SOAK_GENERATIONS:-50}
	truncate -s 32M disk.img
	check create wisp create -n g0 -m 160 -c 4 --disk disk.img >/dev/null
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
		[ $failed -eq 0 ] || break
		wisp rm -f $box 2>/dev/null
		[ $((i % 10)) -ne 0 ] || echo "# $i generations"
	done
	if [ $failed -ne 0 ]; then
		for box in g$((i - 1)) g$i; do
			echo "# $box: $(wisp inspect $box 2>&1)"
			tail -n 20 "$WISP_STATE/$box"/{vmm,console}.log | sed 's/^/# /'
			wisp rm -f $box 2>/dev/null
		done
		return
	fi
	box=g$((i - 1))
	wisp exec $box -- rm -f /root/rounds </dev/null
	wait_until wisp exec $box -- test -e /root/rounds </dev/null || fail "the disk is not checked on"
	check "the session is there" grep -q 'i=0' <(wisp sessions $box)
	wisp rm -f $box 2>/dev/null
}

# What the host has of wisp: nothing may be left of a sandbox that was removed.
host_footprint() {
	echo "processes $( (pgrep -x wisp; find_processes) | wc -l)"
	echo "files $(find "$WISP_STATE" "$TMPDIR" -path "$area/work" -prune -o -path "$area/cache" -prune -o -print | wc -l)"
	echo "cgroups $(find /sys/fs/cgroup -type d | wc -l)"
	echo "sockets $(grep -c wisp /proc/net/unix)"
	echo "shared memory $(find /dev/shm | wc -l)"
}
# What is used of the host's memory, without its caches.
used_mib() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemTotal|^MemAvailable/ { v[$1] = $2 } END { printf "%d", (v["MemTotal:"] - v["MemAvailable:"]) / 1024 }' /proc/meminfo
}

# cycles N: creates, executes in, stops and removes a sandbox N times. It has helpers, which end after its monitor.
cycles() {
	local i
	for ((i = 1; i <= $1; i++)); do
		wisp create -q -n cycle -m 64 -v "$PWD:/shared:ro" --allow example.org -p "$PWD/cycle.sock:80" || fail "create $i"
		[ "$(wisp exec cycle -- echo "$i" </dev/null)" = "$i" ] || fail "exec $i"
		wisp stop cycle || fail "stop $i"
		wisp rm cycle || fail "rm $i"
		[ $((i % 100)) -ne 0 ] || echo "# $i cycles of create, exec, stop, rm"
		[ $failed -eq 0 ] || break
	done
	wait_until no_process || fail "left running: $(find_processes | paste -sd ' ')"
}
cycles_leave_nothing() {
	local before memory grown
	cycles 3 # which fill caches
	before=$(host_footprint)
	memory=$(used_mib)
	cycles "$1"
	equal "what is left" "$(host_footprint)" "$before"
	grown=$(($(used_mib) - memory))
	echo "# after $1 cycles: $(echo "$before" | tr '\n' ' ')as before, memory $grown MiB more"
	[ $grown -le 64 ] || fail "the host's used memory grew by $grown MiB"
}
t_cycles_leave_nothing() { cycles_leave_nothing 10; }
t_soak_cycles() { cycles_leave_nothing "${SOAK_CYCLES:-1000}"; }

# --- a mixture, for a time ---

mixed_exec() { [ "$(wisp exec "$1" -- sh -c 'echo $((6 * 7))' </dev/null)" = 42 ]; }
mixed_flood() { [ "$(wisp exec "$1" -- head -c 4000000 /dev/zero </dev/null | wc -c)" = 4000000 ]; }
mixed_stdin() {
	head -c 300000 /dev/urandom >"$1.in"
	wisp exec "$1" -- cat <"$1.in" | cmp -s - "$1.in"
}
mixed_console() { wisp exec "$1" -- sh -c 'head -c 200000 /dev/zero | tr "\0" "a" >/dev/console' </dev/null; }
mixed_timeout() {
	local got=0
	wisp exec --timeout 200ms "$1" -- sh -c 'sleep 1000 & sleep 1000' </dev/null 2>/dev/null || got=$?
	[ $got -eq 124 ]
}
mixed_disk() { wisp exec "$1" -- sh -c 'diskcheck write /dev/vdb 2 && diskcheck read /dev/vdb 2' </dev/null; }
mixed_attach() {
	local id
	id=$(wisp exec -d "$1" -- sh -c 'echo begun; sleep 0.3; echo over' </dev/null) &&
		[ "$(wisp attach "$1" "$id" </dev/null | tail -n 1)" = over ]
}
mixed_pause() { wisp pause "$1" && wisp resume "$1" && mixed_exec "$1"; }
mixed_fork() { wisp fork "$1" -n "$1-clone" --copy-disks >/dev/null && mixed_exec "$1-clone" && wisp rm -f "$1-clone" 2>/dev/null; }
mixed_snapshot() {
	wisp snapshot -q "$1" "$1.snap" --replace --copy-disks && [ "$(wisp run --from "$1.snap" --copy-disks -- echo there </dev/null)" = there ]
}
# The monitor, a client, or a session's program is killed.
mixed_kill_client() {
	wisp exec "$1" -- sleep 1000 </dev/null >/dev/null 2>&1 &
	local pid=$!
	sleep 0.2
	kill -9 $pid
	wait $pid 2>/dev/null
	mixed_exec "$1"
}
mixed_kill_monitor() {
	kill -9 "$(wisp inspect "$1" --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')"
	wisp rm -f "$1"
	mixed_create "$1"
}
mixed_create() {
	[ -e "$1.img" ] || truncate -s 8M "$1.img"
	wisp create -q -n "$1" -m 96 --disk "$1.img" && wisp cp "$area/tests/diskcheck" "$1:/bin/diskcheck"
}

# mixed_load SECONDS WORKERS: each worker has a sandbox, and does one thing after the other to it.
mixed_load() {
	local end=$((SECONDS + $1)) before memory grown workers=$2 w
	# The random numbers of a worker are the same in each run; where the other workers are then is not.
	worker() {
		local box=mixed-$1 done=0 what
		local -a kinds
		mapfile -t kinds < <(declare -F | sed -n 's/.* \(mixed_[a-z_]*\)$/\1/p' | grep -v -e mixed_create -e mixed_load)
		RANDOM=$1
		mixed_create "$box" || echo "create of $box"
		while [ $SECONDS -lt "$end" ] || [ $done -lt ${#kinds[@]} ]; do
			what=${kinds[done < ${#kinds[@]} ? done : RANDOM % ${#kinds[@]}]}
			"$what" "$box" || echo "$what of $box, after $done others"
			done=$((done + 1))
			echo "$what" >>"done.$box"
		done
		wisp rm -f "$box" 2>/dev/null
	}
	cycles 1
	before=$(host_footprint)
	memory=$(used_mib)
	for ((w = 1; w <= workers; w++)); do worker $w >"failures.$w" 2>&1 & done
	wait
	wait_until no_process
	cat done.mixed-* | sort | uniq -c | awk '{ printf "%s%s %s", (NR > 1 ? ", " : "# "), $2, $1 } END { print "" }'
	[ -z "$(cat failures.*)" ] || fail "$(cat failures.* | head -n 20)"
	rm -f ./*.img ./*.snap ./*.in
	equal "what is left" "$(host_footprint)" "$before"
	grown=$(($(used_mib) - memory))
	[ $grown -le 64 ] || fail "the host's used memory grew by $grown MiB"
}
t_mixed_load() { mixed_load 15 2; }
t_soak_mixed_load() { mixed_load "${SOAK_SECONDS:-3600}" $((2 * $(nproc))); }

# --- neighbours ---

# latencies N BOX...: `wisp exec` in N of them, one after the other, in microseconds.
latencies() {
	local n=$1 begun i
	local -a boxes
	shift
	boxes=("$@")
	for ((i = 0; i < n; i++)); do
		begun=$EPOCHREALTIME
		wisp exec "${boxes[i * 7 % ${#boxes[@]}]}" -- true </dev/null || fail "exec in ${boxes[i * 7 % ${#boxes[@]}]}"
		echo $((${EPOCHREALTIME/./} - ${begun/./}))
	done | sort -n
}
at() { awk -v p="$1" '{ v[NR] = $1 } END { print v[int(NR * p / 100) + (NR * p % 100 > 0)] }'; }

# neighbours COUNT: so many sandboxes that work a little, and five more of which each does its worst within its limits.
neighbours() {
	local i box quiet noisy rest=$(($1 / $(nproc)))
	local -a boxes=()
	[ $rest -ge 5 ] || rest=5 # seconds: many that work all the time would leave nothing to measure
	for ((i = 1; i <= $1; i++)); do boxes+=("n$i"); done
	for box in "${boxes[@]}"; do
		wisp create -q -n "$box" -m 48 && wisp exec -d "$box" -- sh -c 'while :; do
			head -c 100000 /dev/zero | md5sum >/root/sum; sleep '$rest'; done' </dev/null >/dev/null || fail "create $box"
	done
	echo "# $1 sandboxes work"
	sleep 5 # the first rounds of work are over
	quiet=$(latencies 100 "${boxes[@]}")
	truncate -s 64M full.img
	for box in crash disk console forks bus; do
		wisp create -q -n $box -m 96 --cpu-max 0.2 $([ $box = disk ] && echo --disk full.img) || fail "create $box"
	done
	check "copy a program" wisp cp "$area/tests/buslock" bus:/bin/buslock
	wisp exec -d disk -- sh -c 'while :; do dd if=/dev/zero of=/dev/vdb bs=64k; dd if=/dev/zero of=/fill bs=64k; rm /fill; done 2>/dev/null' </dev/null >/dev/null
	wisp exec -d console -- sh -c 'yes flood >/dev/console' </dev/null >/dev/null
	wisp exec -d forks -- sh -c 'f() { f | f & }; f' </dev/null >/dev/null
	wisp exec -d bus -- buslock </dev/null >/dev/null
	# This one crashes again and again.
	(while wisp exec crash -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 9' </dev/null
		[ ! -e over ]; do wisp rm -f crash && wisp create -q -n crash -m 96 --cpu-max 0.2; done) >/dev/null 2>&1 &
	sleep 2
	noisy=$(latencies 100 "${boxes[@]}")
	touch over
	wait
	awk -v q50="$(at 50 <<<"$quiet")" -v q95="$(at 95 <<<"$quiet")" -v n50="$(at 50 <<<"$noisy")" -v n95="$(at 95 <<<"$noisy")" -v count="$1" 'BEGIN {
		printf "# %d sandboxes: exec p50 %.1f ms, p95 %.1f; with five hostile neighbours %.1f (%.2f times), %.1f (%.2f)\n",
			count, q50 / 1000, q95 / 1000, n50 / 1000, n50 / q50, n95 / 1000, n95 / q95 }'
	for box in "${boxes[@]}"; do
		[ "$(wisp exec --timeout 60s "$box" -- echo alive </dev/null 2>&1 | tee said)" = alive ] && continue
		fail "an execution in $box afterwards: $(cat said)"
		wisp logs --source console "$box" | tail -n 12 | sed 's/^/#   /'
	done
	wisp rm -f "${boxes[@]}" crash disk console forks bus 2>/dev/null
}
t_soak_neighbours() { neighbours "${SOAK_NEIGHBOURS:-59}"; }
