# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Programs in the guest that misbehave: the sandbox goes on.

# An unprivileged program stops every process that it may, for as long as it lives.
t_program_that_stops_all_others() {
	local i
	check create wisp create -q -n box -m 96
	wisp exec -d -u nobody box -- sh -c 'trap "" TERM; while :; do kill -STOP -1; done' >out 2>err </dev/null || fail "$(cat err)"
	for i in 1 2 3 4 5; do
		equal "execution $i by root" "$(wisp exec --timeout 60s box -- echo through </dev/null 2>&1)" through
		# It may be stopped, but then it ends by its timeout.
		wisp exec --timeout 1s -u nobody box -- true </dev/null >out 2>err
		case $? in 0 | 124) ;; *) fail "execution $i by nobody: $(cat err)" ;; esac
	done
	check stop wisp stop --grace 5s box
	check "it powered off: $(wisp inspect box)" grep -q poweroff <(wisp inspect box)
	check rm wisp rm box
}

t_timeout_reaches_what_left_the_session() {
	local got=0
	check create wisp create -q -n box -m 96
	wisp exec --timeout 2s box -- sh -c 'setsid sleep 1234 & setsid sh -c "setsid sleep 1234; :" & sleep 1234' </dev/null >out 2>err || got=$?
	equal timeout $got 124
	equal "what still runs" "$(wisp exec box -- pidof sleep </dev/null)" ""
	# What a session leaves in the background when it ends by itself goes on.
	wisp exec box -- sh -c 'setsid sleep 1234 >/dev/null 2>&1 &' </dev/null || fail "exit $?"
	check "the background job goes on" wisp exec box -- pidof sleep </dev/null >out
	check stop wisp stop box
	check rm wisp rm box
}

# The file systems in memory are full: ENOSPC, or a program dies, and everything else goes on.
t_memory_full() {
	local got=0
	check create wisp create -q -n box -m 128
	wisp exec --timeout 60s box -- sh -c 'dd if=/dev/zero of=/fill bs=64k; dd if=/dev/zero of=/dev/shm/fill bs=64k; dd if=/dev/zero of=/run/fill bs=64k
		echo over' </dev/null >out 2>err || got=$?
	[ $got -ne 124 ] || fail "it never ended: $(cat out err)"
	check "no space is left: $(cat err)" grep -q 'No space left' err
	equal "an execution afterwards" "$(wisp exec --timeout 60s box -- echo alive </dev/null 2>&1)" alive
	# And a program that takes what is left: the kernel ends it, or its timeout, and not the agent.
	got=0
	wisp exec --timeout 60s box -- sh -c 'x=$(head -c 200000000 /dev/zero | tr "\0" x)' </dev/null >out 2>err || got=$?
	case $got in 137 | 124) ;; *) fail "a program that takes all memory: exit code $got, $(cat err)" ;; esac
	equal "an execution after that" "$(wisp exec --timeout 60s box -- echo alive </dev/null 2>&1)" alive
	check stop wisp stop box
	check rm wisp rm box
}

# What a restricted program is refused. Root succeeds with much of it, which shows that the attempts are good ones.
t_restricted_program() {
	local pid got=0
	check create wisp create -q -n box -m 96
	check "copy the program" wisp cp -q "$area/tests/forbidden" box:/bin/forbidden
	wisp exec -d --security restricted box -- sleep 1234 </dev/null >/dev/null
	pid=$(wisp exec box -- pidof sleep </dev/null)
	wisp exec box -- forbidden "$pid" </dev/null >out 2>err || got=$?
	equal "as root" $got 1
	for word in mounts unmounts traces_another signals_another reads_anothers_memory makes_a_user_namespace \
		makes_a_mount_namespace opens_vsock opens_raw_ip opens_io_uring changes_the_root sets_the_host_name; do
		check "root: $word" grep -qx $word out
	done
	got=0
	wisp exec --security restricted box -- forbidden "$pid" </dev/null >out 2>err || got=$?
	equal "restricted: $(tr '\n' ' ' <out) $(cat err)" $got 0
	# As root by name, it is refused all the same, except what root owns and is.
	wisp exec --security restricted -u root box -- forbidden "$pid" </dev/null >out 2>err || got=$?
	equal "restricted root" "$(tr '\n' ' ' <out)" "becomes_root joins_roots_group writes_kernel_messages "
	# The agent and the host notice nothing.
	equal "an execution afterwards" "$(wisp exec box -- echo alive </dev/null 2>&1)" alive
	equal "a restricted pipe" "$(echo data | wisp exec --security restricted box -- sh -c 'cat; id -u' | tr '\n' ' ' | sed 's/13421[0-9]*/own/')" "data own "
	check stop wisp stop box
	check rm wisp rm box
}
