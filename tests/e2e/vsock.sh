# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The kernel's own test of AF_VSOCK, one half in the guest and one here: tests/vsock_test. Its control connection is TCP,
# and the guest has a loopback only: `wisp exec` and nc in the guest carry it.

control_port=11235

# vsock_test_as GUEST-ROLE HOST-ROLE: both halves, to their end, with what they said.
vsock_test_as() {
	local guest host=0 code=0 line
	local half=(--mode="$1" --control-host=127.0.0.1 --control-port=$control_port --peer-cid=2 "${skips[@]}")
	if [ "$1" = server ]; then
		wisp exec --timeout 120s box -- /tmp/vsock_test "${half[@]}" </dev/null >guest.out 2>&1 &
		guest=$!
		wait_until grep -q 'Control socket listening' guest.out || fail "no control socket: $(cat guest.out)"
		CONTROL_COMMAND="exec wisp exec box -- nc 127.0.0.1 $control_port"
	else
		wisp exec --timeout 120s box -- sh -c 'until cat /proc/net/tcp* | grep -q ":$0 .* 0A "; do usleep 50000; done; exec "$@"' \
			"$(printf %04X $control_port)" /tmp/vsock_test "${half[@]}" </dev/null >guest.out 2>&1 &
		guest=$!
		CONTROL_COMMAND="exec wisp exec box -- nc -l -p $control_port"
	fi
	export CONTROL_COMMAND
	export VSOCK_SOCKET=$WISP_STATE/box/vsock.sock
	timeout 120 "$area/tests/vsock_test_host" --mode="$2" --control-host=127.0.0.1 --control-port=$control_port \
		--peer-cid=3 "${skips[@]}" </dev/null >host.out 2>&1 || host=$?
	# A half whose other half failed ends by itself, because the control connection ends; if there was none, by its limit.
	wait $guest || code=$?
	sed "s/^/# guest, $1: /" guest.out
	sed "s/^/# host, $2: /" host.out
	equal "exit code of the host's $2" $host 0
	equal "exit code of the guest's $1" $code 0
	for line in "${wanted[@]}"; do
		check "the guest's \"$line\"" grep -qF -- " - $line...ok" guest.out
		check "the host's \"$line\"" grep -qF -- " - $line...ok" host.out
	done
}

t_vsock_test_of_the_kernel() {
	[ -x "$area/tests/vsock_test" ] || {
		skipped="it is not built (make vsock_test)"
		return
	}
	local skips=() wanted=() id name
	while IFS=$'\t' read -r id name; do
		case $name in
		'Test name') ;;
		SOCK_SEQPACKET*) skips+=(--skip="$id") ;; # docs/internals/virtio.md says why
		*) wanted+=("$name") ;;
		esac
	done < <("$area/tests/vsock_test" --list)
	[ ${#wanted[@]} -ge 7 ] || fail "only ${#wanted[@]} tests: ${wanted[*]}"
	check create wisp create -q -n box
	check "the program is in the guest" wisp cp -q "$area/tests/vsock_test" box:/tmp/vsock_test
	vsock_test_as client server
	vsock_test_as server client
	check stop wisp stop box
	check rm wisp rm box
}

# What a program of the guest, root or not, reaches by vsock: ports that the host has opened, and nothing else.
t_vsock_ports_of_programs() {
	local cid server
	in_guest() { wisp exec -u "$user" box -- guestvsock "$@" </dev/null 2>&1; }
	check create wisp create -q -n box -m 96
	check "copy the program" wisp cp -q "$area/tests/guestvsock" box:/bin/guestvsock
	for user in root nobody; do
		# The agent's port: by this guest's own address, by the loopback's, and by those of nobody and anybody.
		for cid in 0 1 3 4 4294967295; do
			case $(in_guest connect $cid 1024) in
			done*) fail "$user reached port 1024 of $cid" ;;
			esac
		done
		# Its listener cannot be replaced, nor be passed by with a narrower address.
		equal "$user listens on the agent's port" "$(in_guest listen 4294967295 1024)" "Address in use"
		equal "$user listens on the agent's port of this guest" "$(in_guest listen 3 1024)" "Address in use"
		# The monitor's port accepts the agent alone, and closed ports nobody.
		equal "$user connects to the monitor's port" "$(in_guest connect 2 1024)" "Connection reset by peer"
		equal "$user connects to a closed port" "$(in_guest connect 2 5000)" "Connection reset by peer"
	done
	# The host opens a port: exactly that one can be reached.
	"$area/tests/guestvsock" serve "$WISP_STATE/box/vsock.sock_5000" >server.out 2>&1 &
	server=$!
	wait_until grep -q listens server.out || fail "no server: $(cat server.out)"
	user=nobody
	equal "a port that the host opened" "$(in_guest connect 2 5000)" "done from the host"
	equal "the one next to it" "$(in_guest connect 2 5001)" "Connection reset by peer"
	wait $server
	rm -f "$WISP_STATE/box/vsock.sock_5000"
	equal "an execution afterwards" "$(wisp exec box -- echo alive </dev/null 2>&1)" alive
	check "the monitor still hears the agent" grep -q alive <(wisp logs box)
	check stop wisp stop box
	check rm wisp rm box
}
