# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Snapshots, clones, pauses: with real guests, and what they must not share.

# What a program of the guest prints without a pause, a line each: a UUID and random bytes.
random_lines='while :; do cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; done >>/root/ids'

# grows NAME FILE LINES: the guest's file has that many lines more than when it was called.
grows() {
	local from
	from=$(wisp exec "$1" -- wc -l "$2" </dev/null | awk '{ print $1 }')
	wait_until has_lines "$1" "$2" $((from + $3)) || fail "$2 of $1 does not grow"
}
has_lines() { [ "$(wisp exec "$1" -- wc -l "$2" </dev/null | awk '{ print $1 }')" -ge "$3" ]; }

# shares FILE FILE: beyond what both begin with, the two have no line in common.
shares_only_its_past() {
	awk 'NR == FNR { line[FNR] = $0; at[$0] = FNR; count = FNR; next }
	     same == FNR - 1 && line[FNR] == $0 { same = FNR; next }
	     $0 in at && at[$0] > same { print "both have " $0; bad = 1 }
	     END { print same " of " FNR " lines are of the past"; exit bad || same == 0 || same >= FNR }' "$1" "$2" >shared ||
		fail "$1 and $2: $(head -c 200 shared)"
}

t_clones_share_nothing_random() {
	local box all='box fork-1 fork-2 file-1 file-2'
	check create wisp create -n box -m 96 >/dev/null
	wisp exec -d box -- sh -c "$random_lines" </dev/null >/dev/null
	grows box /root/ids 20
	check fork wisp fork box -n fork --count 2 >/dev/null
	check snapshot wisp snapshot -q box file.snap
	for box in file-1 file-2; do check "create --from" wisp create --from file.snap -n $box >/dev/null; done
	for box in $all; do grows $box /root/ids 20; done
	for box in $all; do
		wisp exec $box -- sh -c 'head -n -1 /root/ids' </dev/null >ids.$box
		equal "host name" "$(wisp exec $box -- hostname </dev/null)" $box
		wisp exec $box -- cat /run/wisp/generation </dev/null
	done >generations
	equal generations "$(sort -u generations | wc -l)" 5
	shares_only_its_past ids.fork-1 ids.fork-2
	shares_only_its_past ids.box ids.fork-1
	shares_only_its_past ids.file-1 ids.file-2
	shares_only_its_past ids.box ids.file-1
	for box in $all; do wisp rm -f $box 2>/dev/null; done
}

t_time_goes_on_in_a_clone() {
	local box before now after
	check create wisp create -n box -m 96 >/dev/null
	check "copy a program" wisp cp "$area/tests/guestclock" box:/bin/guestclock
	# One process: "Pages that ran at many addresses" in tests/emuhost/README.md tells what a loop of processes costs.
	wisp exec -d box -- sh -c 'exec guestclock monotonic repeat >/root/times' </dev/null >/dev/null
	grows box /root/times 5
	check snapshot wisp snapshot -q box file.snap
	check fork wisp fork box -n fork >/dev/null
	sleep 2 # what passes here must not be missing in the clone's wall clock
	check "create --from" wisp create --from file.snap -n file >/dev/null
	check pause wisp pause box
	sleep 1
	check resume wisp resume box
	for box in box fork file; do
		grows $box /root/times 5
		wisp exec $box -- sh -c 'head -n -1 /root/times' </dev/null >times
		check "$box: monotonic time goes back" sort -nc times
		# The command itself takes time: the guest's clock lies between the host's, give or take 50 ms.
		before=$(date +%s%3N)
		now=$(wisp exec $box -- guestclock realtime </dev/null)
		after=$(date +%s%3N)
		[ "$now" -ge $((before - 50)) ] && [ "$now" -le $((after + 50)) ] ||
			fail "$box: its clock says $now, the host's $before to $after"
	done
	for box in box fork file; do wisp rm -f $box 2>/dev/null; done
}

# guestcheck runs on in both clones and finds vector registers, sleeps and time as they must be.
t_registers_and_time_in_clones() {
	local box
	check create wisp create -n box -m 96 -c $(($(nproc) > 1 ? 2 : 1)) >/dev/null
	check "copy a program" wisp cp "$area/tests/guestcheck" box:/bin/guestcheck
	wisp exec -d box -- sh -c 'guestcheck >/root/check 2>&1; echo ended >>/root/check' </dev/null >/dev/null
	wait_until has_dots box 1 || fail "it does not run"
	check snapshot wisp snapshot -q box file.snap
	check fork wisp fork box -n fork >/dev/null
	check "create --from" wisp create --from file.snap -n file >/dev/null
	for box in box fork file; do
		wait_until has_dots $box $(($(dots $box) + 1)) || fail "$box: it does not go on"
		equal "$box: what it found" "$(wisp exec $box -- sh -c 'tr -d . </root/check' </dev/null)" ""
	done
	for box in box fork file; do wisp rm -f $box 2>/dev/null; done
}
dots() { wisp exec "$1" -- wc -c /root/check </dev/null | awk '{ print $1 }'; }
has_dots() { [ "$(dots "$1")" -ge "$2" ]; }

t_vsock_works_after_a_restore() {
	local i box
	head -c 3000000 /dev/urandom >in
	check create wisp create -n box -m 96 >/dev/null
	# Connections that are open, and data that is under way, when the snapshots are made.
	for i in 1 2 3 4 5; do
		wisp exec box -- sh -c 'for i in $(seq 300); do head -c 10000 /dev/zero; done' </dev/null 2>err.$i | md5sum >sum.$i &
	done
	check snapshot wisp snapshot -q box file.snap
	check fork wisp fork box -n fork >/dev/null
	check fork wisp fork box -n again >/dev/null
	wait
	for i in 1 2 3 4 5; do
		equal "stream $i ($(head -c 200 err.$i))" "$(cut -c 1-32 sum.$i)" "$(head -c 3000000 /dev/zero | md5sum | cut -c 1-32)"
	done
	check "create --from" wisp create --from file.snap -n file >/dev/null
	for box in fork again file; do
		check "the first request of $box" wisp exec $box -- cat <in >out 2>err
		check "$box: data" cmp in out
		for i in 1 2 3 4 5 6 7 8; do wisp exec $box -- echo $i </dev/null >out.$i 2>&1 & done
		wait
		for i in 1 2 3 4 5 6 7 8; do equal "$box: request $i" "$(cat out.$i)" $i; done
	done
	# A bare pause, and what waits for it.
	wisp exec box -- sh -c 'touch /begun; sleep 1; cat' <in >out 2>err &
	wait_until wisp exec box -- test -e /begun
	check pause wisp pause box
	expect 123 paused wisp exec box -- true
	check resume wisp resume box
	wait
	check "across a pause" cmp in out
	for box in box fork again file; do wisp rm -f $box 2>/dev/null; done
}

t_ten_generations_of_clones() {
	local i
	check create wisp create -n g0 -m 96 >/dev/null
	wisp exec g0 -- sh -c 'head -c 4000000 /dev/urandom >/root/data; md5sum /root/data >/root/sum' </dev/null
	for i in 1 2 3 4 5 6 7 8 9 10; do
		wisp exec g$((i - 1)) -- sh -c "echo $i >>/root/lines; head -c 100000 /dev/urandom >/root/more.$i; md5sum /root/more.$i >>/root/sum" </dev/null
		if [ $((i % 2)) = 1 ]; then
			check "snapshot of generation $i" wisp snapshot -q g$((i - 1)) file.snap --stop --replace
			check "clone of generation $i" wisp create --from file.snap -n g$i >/dev/null
		else
			check "clone of generation $i" wisp fork g$((i - 1)) -n g$i >/dev/null
			wisp rm -f g$((i - 1)) 2>/dev/null
		fi
		check "data of generation $i" wisp exec g$i -- md5sum -cs /root/sum </dev/null
	done
	equal lines "$(wisp exec g10 -- cat /root/lines </dev/null | tr '\n' ' ')" "1 2 3 4 5 6 7 8 9 10 "
	for i in 0 1 2 3 4 5 6 7 8 9 10; do wisp rm -f g$i 2>/dev/null; done
}

t_sessions_are_found_in_a_clone() {
	local session box
	check create wisp create -n box -m 96 >/dev/null
	session=$(wisp exec -d box -- sh -c 'echo before; while [ ! -e /root/go ]; do sleep 0.05; done; echo after; exit 7' </dev/null)
	wait_until sh -c "wisp logs box | grep -q before" || fail "the session does not begin"
	check snapshot wisp snapshot -q box file.snap
	check fork wisp fork box -n fork >/dev/null
	check "create --from" wisp create --from file.snap -n file >/dev/null
	for box in fork file box; do
		check "$box lists it" grep -q 'echo before' <(wisp sessions $box)
		wisp exec $box -- touch /root/go </dev/null
		local got=0
		wisp attach $box "$session" >out 2>err </dev/null || got=$?
		equal "$box: its exit code ($(head -c 200 err))" $got 7
		equal "$box: its output" "$(tr '\n' ' ' <out)" "before after "
		check "$box: its log" grep -q after <(wisp logs $box)
	done
	for box in box fork file; do wisp rm -f $box 2>/dev/null; done
}

t_a_guest_that_does_not_freeze_goes_on() {
	check create wisp create -n box -m 96 >/dev/null
	# A program in the root cgroup: what cannot be frozen would run in the clone before that is a machine of its own.
	wisp exec -d box -- sh -c 'echo 0 >/sys/fs/cgroup/cgroup.procs; while :; do sleep 0.1; date +%s >/root/alive; done' </dev/null >/dev/null
	wait_until wisp exec box -- test -e /root/alive </dev/null || fail "the program does not run"
	expect 125 freeze wisp snapshot box file.snap
	[ ! -e file.snap ] || fail "it left a file"
	expect 125 freeze wisp fork box -n fork
	check "it goes on" wisp exec box -- true </dev/null
	wisp exec box -- rm /root/alive </dev/null
	wait_until wisp exec box -- test -e /root/alive </dev/null || fail "its program does not go on"
	wisp rm -f box 2>/dev/null
}

# Snapshots and forks while disks are written and verified, output flows, and several processors work.
t_snapshots_under_load() {
	local i box
	truncate -s 64M disk.img
	check create wisp create -n box -m 192 -c 2 --disk disk.img >/dev/null
	check "copy a program" wisp cp "$area/tests/diskcheck" box:/bin/diskcheck
	wisp exec -d box -- sh -c 'while diskcheck write /dev/vdb 8 && echo 3 >/proc/sys/vm/drop_caches && diskcheck read /dev/vdb 8; do
		echo $((rounds += 1)) >/root/rounds; done >/root/disk 2>&1; echo bad >>/root/disk' </dev/null >/dev/null
	for i in $(seq 20); do
		wisp exec box -- sh -c "for i in \$(seq 60); do head -c 20000 /dev/zero; sleep 0.02; done" </dev/null 2>err.$i | md5sum >sum.$i &
	done
	for i in 1 2; do
		check "fork $i" wisp fork box -n fork --copy-disks >/dev/null
		check_load fork
		check "snapshot $i" wisp snapshot -q box file.snap --copy-disks --replace
		check "create --from $i" wisp create --from file.snap -n file --copy-disks --boot-timeout 120s >/dev/null
		check_load file
	done
	wait
	for i in $(seq 20); do
		equal "stream $i ($(head -c 200 err.$i))" "$(cut -c 1-32 sum.$i)" "$(head -c 1200000 /dev/zero | md5sum | cut -c 1-32)"
	done
	check_load box
}
# The guest answers, its disk was and is being checked without an error; then it is removed.
check_load() {
	wait_until wisp exec "$1" -- true </dev/null 2>/dev/null || fail "$1 does not answer"
	check "$1: its disk" wisp exec "$1" -- sh -c '[ ! -s /root/disk ]' </dev/null
	wisp exec "$1" -- rm -f /root/rounds </dev/null
	wait_until wisp exec "$1" -- test -e /root/rounds </dev/null || fail "$1: its disk is not checked on"
	wisp rm -f "$1" 2>/dev/null
}

t_disks_of_clones_are_their_own() {
	truncate -s 16M disk.img
	check create wisp create -n box -m 96 --disk disk.img >/dev/null
	wisp exec box -- sh -c 'echo one >/dev/vdb; sync' </dev/null
	expect 125 'copy its disks' wisp snapshot box file.snap
	expect 125 'cannot share' wisp fork box -n fork
	check fork wisp fork box -n fork --copy-disks >/dev/null
	check snapshot wisp snapshot -q box file.snap --copy-disks
	wisp exec fork -- sh -c 'echo two >/dev/vdb; sync' </dev/null
	wisp exec box -- sh -c 'echo three >/dev/vdb; sync' </dev/null
	check "run --from" wisp run --from file.snap --copy-disks -- sh -c '[ "$(head -c 3 /dev/vdb)" = one ] && echo four >/dev/vdb && sync' </dev/null
	equal "the clone's" "$(wisp exec fork -- head -c 3 /dev/vdb </dev/null)" two
	equal "the source's" "$(wisp exec box -- head -c 5 /dev/vdb </dev/null)" three
	equal "the host's" "$(head -c 5 disk.img)" three
	check "stop and save" wisp snapshot -q box stopped.snap --stop
	check "it goes on, on its own disk" wisp run --from stopped.snap -- sh -c 'echo five >/dev/vdb; sync' </dev/null
	equal "the host's, later" "$(head -c 4 disk.img)" five
	expect 125 disk.img wisp run --from stopped.snap -- true # it has changed since
	wisp rm -f fork 2>/dev/null
	wisp rm -f box 2>/dev/null
}

# The cache has that many snapshots of warm starts, and nobody is making another one.
has_warm() { [ "$(find "$XDG_CACHE_HOME/wisp/images" -name 'warm-*.snap' | wc -l)" -eq "$1" ] && no_vmm; }
# uses_warm COMMAND...: whether it started from one, which sets the file's time.
uses_warm() {
	local before # a cold run's own may be there already when the command has ended
	mapfile -t before < <(find "$XDG_CACHE_HOME/wisp/images" -name 'warm-*.snap')
	touch -d '-1 day' "${before[@]}"
	"$@" >out 2>err </dev/null || fail "$* ($(head -c 200 err))"
	[ -n "$(find "${before[@]}" -newermt '-1 hour')" ]
}

t_warm_start() {
	local first
	cp "$LIB/base.squashfs" image
	check "a cold start" wisp run --warm -m 96 image -e secret=of-the-first -- sh -c 'echo $secret >/root/file; hostname' </dev/null >first
	check "the snapshot" wait_until has_warm 1
	check "a warm start" uses_warm wisp run --warm -m 96 image -n second -- sh -c 'hostname; env; ls /root; cat /run/wisp/generation'
	equal "host name" "$(head -n 1 out)" second
	grep -q of-the-first out && fail "the first sandbox's environment is in the second"
	first=$(tail -n 1 out)
	check "a warm start" uses_warm wisp run --warm -m 96 image -- sh -c 'ls /root; cat /run/wisp/generation'
	grep -q file out && fail "the first sandbox's file is in the third"
	[ "$(tail -n 1 out)" != "$first" ] || fail "two sandboxes are the generation $first"
	check "the environment asks for it" uses_warm env WISP_WARM=1 wisp run -m 96 image -- true
	check create uses_warm wisp create --warm --rm -m 96 image -n box
	equal "the image" "$(wisp exec box -- md5sum /dev/vda </dev/null | cut -c 1-32)" "$(md5sum <image | cut -c 1-32)"
	check stop wisp stop box
	uses_warm wisp run -m 96 image -- true && fail "it was not asked for"
	uses_warm wisp run --warm -m 97 image -- true && fail "another memory size"
	check "its snapshot" wait_until has_warm 2
	touch image
	uses_warm wisp run --warm -m 96 image -- true && fail "the image has changed"
	check "its snapshot" wait_until has_warm 3
	check "a warm start" uses_warm wisp run --warm -m 96 image -- true
	touch -d '-1 day' "$XDG_CACHE_HOME/wisp/images"/warm-*.snap
	check prune wisp prune --cache >/dev/null
	check "the cache is empty" has_warm 0
}
