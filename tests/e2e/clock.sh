# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The guest's clock, asked for by a session that is there all the time: a client that connects would set it.

clock_asked=0
# asked_clock_is_right: the guest's clock is the host's, within 50 ms of the moments before and after the question.
asked_clock_is_right() {
	local before after
	before=$(date +%s%3N)
	echo >&8
	clock_asked=$((clock_asked + 1))
	wait_until answers_has $clock_asked
	after=$(date +%s%3N)
	clock_seen="$(tail -n 1 answers), asked between $before and $after"
	[ "$(tail -n 1 answers)" -ge $((before - 50)) ] && [ "$(tail -n 1 answers)" -le $((after + 50)) ]
}
answers_has() { [ "$(wc -l <answers)" -ge "$1" ]; }

t_clock_is_kept_without_a_client() {
	local pid client clock_seen=
	clock_asked=0
	check create wisp create -q -n box -m 96
	check "copy the program" wisp cp -q "$area/tests/guestclock" box:/bin/guestclock
	mkfifo ask
	wisp exec box -- sh -c 'while read -r _; do guestclock realtime; done' <ask >answers 2>err &
	client=$!
	exec 8>ask
	pid=$(wisp inspect box | sed -E 's/.*"pid":([0-9]+).*/\1/')
	kill -STOP "$pid"
	sleep 3
	kill -CONT "$pid"
	# The first word may come after the question.
	wait_until asked_clock_is_right || fail "after SIGSTOP and SIGCONT: $clock_seen"
	check pause wisp pause box
	sleep 2
	check resume wisp resume box
	asked_clock_is_right || fail "after a pause: $clock_seen"
	# What the kernel tells of a set clock it also tells after the host slept. Only in a host of its own.
	if [ -d /scratch ]; then
		date -s "@$(($(date +%s) + 100))" >/dev/null
		wait_until asked_clock_is_right || fail "after the host's clock was set forward: $clock_seen"
		date -s "@$(($(date +%s) - 100))" >/dev/null
		wait_until asked_clock_is_right || fail "after the host's clock was set back: $clock_seen"
	fi
	exec 8>&-
	wait $client || fail "the session ended with $?: $(cat err)"
	check stop wisp stop box
	check rm wisp rm box
}
