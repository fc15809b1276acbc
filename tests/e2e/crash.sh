# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Nothing that was flushed is lost, and a host that cannot read or write says so to the guest.

crash_image() {
	mkdir -p root/bin
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/sh
	cp "$area/tests/crashcheck" root/bin/
}

kill_monitors() {
	pkill -9 -x wisp-vmm
	no_vmm
}

# The monitor is killed under a guest that writes and flushes, WISP_KILLS times. A boot each: 20 take half a minute in the
# emulated host.
t_killed_monitor_loses_nothing() {
	local kills=${WISP_KILLS:-20} i last=0 newest=0 flushed=0 pid
	crash_image
	truncate -s 1M disk
	for ((i = 0; i < kills; i++)); do
		rm -f out # the last run's records must not be taken for this one's
		wisp run -m 64 --disk ./disk ./root -- /bin/crashcheck write /dev/vdb $((newest + 1)) </dev/null >out 2>err &
		pid=$!
		wait_until test -s out || fail "kill $i: no record: $(cat err)"
		sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
		wait_until kill_monitors || fail "kill $i: a monitor lives on"
		wait $pid && fail "kill $i: the command did not notice"
		last=$(tail -n 1 out)
		newest=$("$area/tests/crashcheck" check disk "${last:-0}" 2>err) || {
			fail "kill $i, record $last was flushed: $(cat err)"
			return
		}
		flushed=$((flushed + $(wc -l <out)))
	done
	echo "# $kills kills, $flushed records flushed, none lost"
}

t_full_host_disk_is_an_io_error() {
	mkdir full
	mount -t tmpfs -o size=2m none full
	truncate -s 16M full/disk
	wisp run --disk ./full/disk -- sh -c '
		dd if=/dev/zero of=/dev/vdb bs=64k count=128 conv=fsync 2>/dev/null && echo accepted
		dd if=/dev/vdb of=/dev/null bs=64k count=16 2>/dev/null && echo reads
		echo alive' </dev/null >out 2>err || fail "$(cat err)"
	equal "what the guest saw" "$(tr '\n' ' ' <out)" "reads alive "
	umount full
}

t_truncated_disk_is_an_io_error() {
	head -c 4M /dev/zero >disk
	mkfifo go
	wisp run --disk ./disk -- sh -c '
		dd if=/dev/vdb of=/dev/null bs=64k count=1 2>/dev/null && echo reads
		read line
		echo 3 >/proc/sys/vm/drop_caches
		dd if=/dev/vdb of=/dev/null bs=64k skip=48 count=1 2>/dev/null && echo beyond
		dd if=/dev/vdb of=/dev/null bs=64k count=4 2>/dev/null && echo reads
		echo alive' <go >out 2>err &
	local pid=$!
	exec 8>go
	wait_until test -s out || fail "nothing read: $(cat err)"
	truncate -s 1M disk
	echo go >&8
	exec 8>&-
	wait $pid || fail "$(cat err)"
	equal "what the guest saw" "$(tr '\n' ' ' <out)" "reads reads alive "
}
