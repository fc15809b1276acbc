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
