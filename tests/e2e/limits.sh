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
	wisp stats --json counted >stats
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
