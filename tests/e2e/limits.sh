# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# How long a sandbox lives, and what it may take.

ended_as() { wisp ls | grep -q "^$1 .*stopped ($2)"; }

t_a_lifetime_ends_in_order() {
	local began=$SECONDS
	expect 122 "maximum duration" wisp run --max-duration 5s -- sleep 600
	[ $((SECONDS - began)) -lt 60 ] || fail "it lived for $((SECONDS - began)) s"
	check create wisp create -q -n long --max-duration 8s
	# Its programs are told, and the file system is written back.
	wisp exec long -- sh -c 'trap "echo told; exit 3" TERM; echo up; sleep 600 & wait' >told 2>/dev/null
	grep -qx told told || fail "the program was not told: $(cat told)"
	wait_until ended_as long max-duration || fail "it is $(wisp ls)"
	expect 125 "it ended (max-duration): it has lived for 8 s" wisp exec long -- true
	check rm wisp rm long
}

t_an_idle_sandbox_ends() {
	check create wisp create -q -n idle --idle-timeout 4s
	# A command that lasts longer, to which nobody is attached.
	wisp exec -d idle -- sleep 8 >/dev/null
	sleep 6
	equal "state" "$(wisp ls | awk '$1 == "idle" { print $2 }')" running
	check pause wisp pause idle
	sleep 6
	check resume wisp resume idle
	check "exec after a pause" wisp exec idle -- true
	wait_until ended_as idle idle-timeout || fail "it is $(wisp ls)"
	wisp inspect idle | grep -q 'no command has run in it for 4 s' || fail "inspect: $(wisp inspect idle)"
	check rm wisp rm idle
}

t_counts_are_shown() {
	truncate -s 8M disk
	check create wisp create -q -n counted --disk disk
	check exec wisp exec counted -- sh -c 'dd if=/dev/zero of=/dev/vdb bs=1M count=4 conv=fsync 2>/dev/null'
	wisp exec counted -- sh -c 'head -c 2000000 /dev/zero' >/dev/null
	wisp exec -d counted -- sleep 600 >/dev/null
	# The monitor learns of a session from the guest's events, which do not wait for the client.
	wait_until sh -c 'wisp stats --json counted >stats; grep -q "\"running\":1,\"ended\":2" stats'
	python3 - <<-'END' 2>/dev/null || grep -q '"running":1,"ended":2' stats || fail "$(cat stats)"
		import json
		s = json.load(open("stats"))[0]
		disk, vsock = s["devices"]["vdb"], s["devices"]["vsock"]
		assert disk["bytes_from_guest"] >= 4 << 20 and disk["operations_other"] >= 1
		assert vsock["bytes_from_guest"] >= 2000000 and s["devices"]["vda"]["bytes_to_guest"] > 0
		assert s["sessions"]["running"] == 1 and s["sessions"]["ended"] == 2
		assert s["guest_memory"]["pss"] > 8 << 20 and s["cpu_ns"]["total"] > 0
	END
	wisp stats --prometheus | grep -q 'wisp_sandbox_sessions_running{sandbox="counted"} 1' || fail "prometheus"
	check rm wisp rm -f counted
}

# The host's own tree, in the emulated host; elsewhere, where this process may make cgroups.
t_a_cgroup_holds_the_monitor() {
	local group pid
	if ! wisp create -q -n held --memory-max 400 --cpu-max 0.5 --pids-max 64 2>err; then
		grep -q 'cannot be limited' err || fail "$(cat err)"
		skipped="no cgroup v2 for this process"
		return
	fi
	pid=$(pgrep -x wisp-vmm)
	group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
	case $group in */wisp-????????????????/monitor) ;; *) fail "it is in $group" ;; esac
	group=${group%/monitor}
	equal memory.max "$(cat "$group/memory.max")" $((400 << 20))
	equal cpu.max "$(cat "$group/cpu.max")" "50000 100000"
	equal pids.max "$(cat "$group/pids.max")" 64
	check exec wisp exec held -- true
	check fork wisp fork held -n twin
	# KVM has a thread of its own in each.
	equal "cgroups with processes" "$(grep -l . /sys/fs/cgroup/wisp-*/monitor/cgroup.procs | wc -l)" 2
	check rm wisp rm -f held twin
	[ ! -e "$group" ] || fail "it left its cgroup"
	# A guest that takes more than its cgroup has ends with its monitor, and the next creation finds nothing of it.
	wisp create -q -n greedy -m 600 --memory-max 200 || fail create
	wisp exec greedy -- sh -c 'dd if=/dev/zero of=/dev/null bs=400M count=1' >/dev/null 2>&1
	wait_until no_vmm || fail "it lives with $(cat /sys/fs/cgroup/wisp-*/memory.current)"
	wisp exec greedy -- true 2>err
	grep -q 'kernel killed the monitor' err || fail "no reason: $(cat err)"
	wisp inspect greedy | grep -q 'killed the monitor' || fail "inspect gives no reason: $(wisp inspect greedy)"
	wisp rm -f greedy
	[ -z "$(ls -d /sys/fs/cgroup/wisp-* 2>/dev/null)" ] || fail "left $(ls -d /sys/fs/cgroup/wisp-*)"
}

# Each second of waiting is one that the rate forbids to save; there is no upper bound.
t_devices_keep_their_rates() {
	local began
	truncate -s 64M disk
	check create wisp create -q -n slow --disk disk,bps=2M --rate vsock,bps=2M --rate console,bps=100K
	began=$SECONDS
	check "a write" wisp exec slow -- dd if=/dev/zero of=/dev/vdb bs=1M count=8 oflag=direct 2>/dev/null
	[ $((SECONDS - began)) -ge 3 ] || fail "8 MiB were written to the disk in $((SECONDS - began)) s"
	began=$SECONDS
	equal "bytes" "$(wisp exec slow -- head -c 8388608 /dev/zero | wc -c)" 8388608
	[ $((SECONDS - began)) -ge 3 ] || fail "8 MiB came through vsock in $((SECONDS - began)) s"
	# A clone has its source's rates.
	check fork wisp fork slow -n twin --copy-disks >/dev/null
	began=$SECONDS
	check "a write in a clone" wisp exec twin -- dd if=/dev/zero of=/dev/vdb bs=1M count=8 oflag=direct 2>/dev/null
	[ $((SECONDS - began)) -ge 3 ] || fail "8 MiB were written to a clone's disk in $((SECONDS - began)) s"
	check rm wisp rm -f slow twin
}
