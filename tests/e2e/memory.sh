# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Memory that a guest has used and freed.

# resident NAME: what the sandbox's monitor has in memory, in MiB.
resident() {
	local pid
	pid=$(wisp inspect "$1" | sed -E 's/.*"pid":([0-9]+).*/\1/')
	awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status"
}
resident_below() { [ "$(resident "$1")" -lt "$2" ]; }

# use_and_free NAME: a program takes 512 MiB and ends; what the monitor keeps of that is less than 64.
use_and_free() {
	local before used
	before=$(resident "$1")
	check "use memory in $1" wisp exec "$1" -- dd if=/dev/zero of=/dev/null bs=512M count=1 </dev/null >dd.out 2>&1
	used=$(resident "$1")
	[ "$used" -gt $((before + 256)) ] || fail "$1: $used MiB with 512 in use, $before before"
	wait_until resident_below "$1" $((before + 64)) || fail "$1: $(resident "$1") MiB are left of $used, $before before"
	echo "# $1: $before MiB before, up to $used, $(resident "$1") afterwards"
	equal "an execution in $1 afterwards" "$(wisp exec "$1" -- echo alive </dev/null 2>&1)" alive
}

t_freed_memory_goes_back() {
	local copy name
	check create wisp create -q --reclaim -n box -m 768
	use_and_free box
	# A clone and a restored machine have the device that was saved.
	copy=$(wisp fork box) || fail "fork: exit $?"
	use_and_free "$copy"
	check snapshot wisp snapshot box box.snap
	check restore wisp create -q --from box.snap -n restored
	use_and_free restored
	check "stop the clone" wisp stop "$copy"
	for name in box restored; do
		check "stop $name" wisp stop "$name"
		check "rm $name" wisp rm "$name"
	done
}
