# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a sandbox costs while nobody asks it for anything.

# switches TASK: how often a thread went to sleep and was woken, so far.
switches() { awk '/^voluntary_ctxt_switches/ { print $2 }' "$1/status"; }

# What the boot left to do is over when the loop has slept through a second.
loop_sleeps() {
	local before
	before=$(switches "$1")
	sleep 1
	[ "$(switches "$1")" -eq "$before" ]
}

t_idle_sandbox_wakes_nobody() {
	local pid task wakes vcpu_wakes=0 seconds=${WISP_IDLE_SECONDS:-3}
	local -a tasks
	local -A before ran
	truncate -s 1M disk
	wisp create -q --rm -n idle -c 2 --disk ./disk || { fail "create"; return; }
	pid=$(pgrep -x wisp-vmm)
	wait_until loop_sleeps "/proc/$pid/task/$pid" || fail "the loop never sleeps"
	# Beside the loop and the vCPUs there may be workers of io_uring's, which go after five seconds.
	mapfile -t tasks < <(grep -lE '^(wisp-vmm|vcpu)' /proc/"$pid"/task/*/comm | sed 's|/comm$||')
	equal "threads" "${#tasks[@]}" 3
	for task in "${tasks[@]}"; do
		before[$task]=$(switches "$task")
		ran[$task]=$(cut -d ' ' -f 1 "$task/schedstat")
	done
	sleep "$seconds"
	for task in "${tasks[@]}"; do
		wakes=$(($(switches "$task") - before[$task]))
		echo "# $(cat "$task/comm"): $wakes wake-ups and" \
			"$((($(cut -d ' ' -f 1 "$task/schedstat") - ran[$task]) / 1000)) us of CPU in $seconds s"
		if [ "${task##*/}" = "$pid" ]; then
			equal "wake-ups of the loop" "$wakes" 0
		else
			vcpu_wakes=$((vcpu_wakes + wakes))
		fi
	done
	# The guest's kernel has work of its own now and then; a clock that ticks would be 100 a second and more.
	check "$vcpu_wakes wake-ups of two vCPUs" [ "$vcpu_wakes" -lt $((100 * seconds)) ]
	wisp stop -f idle >out 2>&1 || fail "$(cat out)"
}
