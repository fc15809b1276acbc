# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Disks and images.

t_directory_as_image() {
	mkdir -p root/bin root/etc
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/sh
	echo mine >root/etc/marker
	equal "first" "$(wisp run ./root -- sh -c '/bin/busybox cat /etc/marker' </dev/null 2>&1)" mine
	echo changed >root/etc/marker
	equal "a change is seen" "$(wisp run ./root -- sh -c '/bin/busybox cat /etc/marker' </dev/null 2>&1)" changed
}

t_writable_ext4_keeps_what_was_written() {
	truncate -s 64M disk
	mkdir -p root/bin
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/sh
	mkfs.ext4 -q -d root disk
	wisp run --rw ./disk -- sh -c 'echo kept >/file' </dev/null || fail "write: $?"
	equal kept "$(wisp run ./disk -- sh -c '/bin/busybox cat /file' </dev/null 2>&1)" kept
	check "the file system is clean" sh -c 'e2fsck -fn disk >/dev/null 2>&1'
}

t_extra_disks() {
	truncate -s 16M a b
	wisp run --disk ./a --disk ./b,ro -- sh -c 'echo data >/dev/vdb; ! echo x 2>/dev/null >/dev/vdc; blockdev --getro /dev/vdc' \
		</dev/null >out 2>err || fail "$(cat err)"
	equal "vdb arrived" "$(head -c 4 a)" data
	equal "vdc is read-only" "$(tail -n 1 out)" 1
}

# A GiB through virtio-blk: written, synced, dropped from the guest's cache, read back.
t_a_gib_survives() {
	truncate -s 1100M disk
	wisp run --disk ./disk -- sh -c '
		set -e
		cat >/tmp/diskcheck && chmod +x /tmp/diskcheck
		/tmp/diskcheck write /dev/vdb 1024
		echo 3 >/proc/sys/vm/drop_caches
		/tmp/diskcheck read /dev/vdb 1024
		echo same' <"$area/tests/diskcheck" >out 2>err || fail "$(cat err)"
	equal compare "$(tail -n 1 out)" same
	check "the host finds the same" "$area/tests/diskcheck" read disk 1024
}

t_debian_image_runs_python() {
	cp "$source_dir/$build/debian.squashfs" .
	equal python "$(wisp run -m 512 ./debian.squashfs -- python3 -c 'print(sum(range(101)))' </dev/null 2>&1)" 5050
	equal "as another user" "$(wisp run -u nobody ./debian.squashfs -- python3 -c 'import os; print(os.getuid())' </dev/null 2>&1)" 65534
}
