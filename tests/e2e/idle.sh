# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a sandbox costs while nobody asks it for anything.

# How often a thread went to sleep and was woken so far, and for how long it ran, in ns. One that polls without a pause is
# never woken.
switches() { awk '/^voluntary_ctxt_switches/ { print $2 }' "$1/status"; }
run_time() { cut -d ' ' -f 1 "$1/schedstat"; }

# The threads of the only sandbox, but for workers of io_uring's, which go after five seconds, and those for disks.
idle_tasks() {
	local pid
	for pid in $(pgrep -x 'wisp-(vmm|fs|proxy)'); do
		grep -lE '^(wisp-|vcpu)' /proc/"$pid"/task/*/comm | sed 's|/comm$||'
	done
}

# watch_threads: what the threads of the only sandbox do for some seconds, in lines of "NAME WAKE-UPS MICROSECONDS"
watch_threads() {
	local task
	local -a tasks
	local -A woken ran
	mapfile -t tasks < <(idle_tasks)
	for task in "${tasks[@]}"; do
		woken[$task]=$(switches "$task")
		ran[$task]=$(run_time "$task")
	done
	sleep "$seconds"
	for task in "${tasks[@]}"; do
		echo "$(cat "$task/comm") $(($(switches "$task") - woken[$task])) $((($(run_time "$task") - ran[$task]) / 1000))"
	done
}
# The boot leaves something to do, and the guest gives memory back that a program has left some seconds ago: that is over
# after a while. What polls is never over.
loop_sleeps() {
	watch_threads >threads
	! grep '^wisp-' threads | grep -qv ' 0 0$'
}

# sleeps_with WHAT PROCESS...: the sandbox's loop and helpers, which are these threads, are not woken, and its two vCPUs
# seldom.
sleeps_with() {
	local seconds=${WISP_IDLE_SECONDS:-3}
	wait_until loop_sleeps || fail "with $1, the loop or a helper is never idle"
	sed "s/\(.*\) \(.*\) \(.*\)/# $1: \1: \2 wake-ups and \3 us of CPU in $seconds s/" threads
	equal "threads with $1" "$(cut -d ' ' -f 1 threads | sort | paste -sd ' ')" "vcpu0 vcpu1 ${*:2}"
	# The guest's kernel has work of its own now and then; a clock that ticks would be 100 a second and more. A program that
	# polls without a pause wakes nobody, and takes a processor.
	check "few wake-ups of the vCPUs with $1" awk -v most=$((100 * seconds)) '/^vcpu/ { n += $2 } END { exit n >= most }' threads
	check "little work of the vCPUs with $1" awk -v most=$((500000 * seconds)) '/^vcpu/ { n += $3 } END { exit n >= most }' threads
}

t_idle_sandbox_wakes_nobody() {
	truncate -s 1M disk
	wisp create -q --rm -n idle -c 2 --disk ./disk || { fail "create"; return; }
	sleeps_with "a disk" wisp-vmm
	wisp stop -f idle >out 2>&1 || fail "$(cat out)"
}

# idle_clients PORT: one whose server says nothing, one that has ended its stream, and one whose server has.
idle_clients() {
	python3 -c '
import signal, socket, sys
def client(text):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(text)
    return s
waits, ended, left = client(b"hold\n"), client(b"hold\n"), client(b"give 1\n")
ended.shutdown(socket.SHUT_WR)
while left.recv(10):
    pass
print("connected", flush=True)
signal.pause()' "$1" >clients &
	clients=$!
	wait_until grep -q connected clients || fail "no clients"
}

t_idle_helpers_wake_nobody() {
	local server http clients
	local -a net=()
	mkdir shared
	echo text >shared/file
	start_servers
	if make_tap tap7 10.77.0.1/24; then
		echo 1 >/proc/sys/net/ipv6/conf/tap7/disable_ipv6 # the host announces itself there for a while
		net=(--net "tap=tap7,address=10.77.0.2/24")
	fi
	wisp create -q -n idle -c 2 -v "$PWD/shared:/work" --allow "127.0.0.2:$http" -p 18080:7000 "${net[@]}" || fail "create"
	serve_ports idle 7000
	sleeps_with "helpers" wisp-fs wisp-proxy wisp-vmm
	idle_clients 18080
	# A tunnel that carries nothing, and a file of the host that is open
	# shellcheck disable=SC2016 # the guest's shell
	check "a client of the proxy" wisp exec -d idle -- sh -c 'exec 3</work/file
		{ printf "CONNECT 127.0.0.2:$0 HTTP/1.1\r\n\r\n"; sleep 10000; } | nc 127.0.0.1 3128' "$http" >session
	wait_until sh -c 'wisp logs --source net idle | grep -q " allowed connect "' || fail "no tunnel: $(wisp logs idle)"
	sleeps_with "idle clients" wisp-fs wisp-proxy wisp-proxy wisp-vmm
	kill "$clients" "$server"
	check stop wisp stop idle
	check rm wisp rm idle
	[ ${#net[@]} -eq 0 ] || ip link del tap7
}
