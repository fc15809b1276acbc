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

# What the guest's kernel mounts, it mounts; the rest is refused by name, before the boot.
t_images_of_others() {
	mkdir -p root/bin
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/sh
	truncate -s 64M disk
	mkfs.ext4 -q -d root disk
	debugfs -w -R 'feature needs_recovery' disk >/dev/null 2>&1
	equal "a dirty journal, read-only" "$(wisp run ./disk -- sh -c 'echo up' </dev/null 2>&1)" up
	truncate -s 64M blank
	expect 125 "format it with mkfs.ext4" wisp run --overlay ./blank -- true
	debugfs -w -R 'feature FEATURE_I31' disk >/dev/null 2>&1
	expect 125 "incompat bit 0x80000000" wisp run ./disk -- true
}

t_extra_disks() {
	truncate -s 16M a b
	wisp run --disk ./a --disk ./b,ro -- sh -c 'echo data >/dev/vdb; ! echo x 2>/dev/null >/dev/vdc; blockdev --getro /dev/vdc' \
		</dev/null >out 2>err || fail "$(cat err)"
	equal "vdb arrived" "$(head -c 4 a)" data
	equal "vdc is read-only" "$(tail -n 1 out)" 1
}

# A disk that grows under a running sandbox, as the guest's kernel and its file system see it.
t_disk_grows() {
	truncate -s 16M disk
	mkfs.ext4 -q disk
	wisp create -n box --disk ./disk >/dev/null
	equal before "$(wisp exec box -- cat /sys/block/vdb/size)" 32768
	truncate -s 32M disk
	check refresh wisp refresh box
	has_grown() { [ "$(wisp exec box -- cat /sys/block/vdb/size)" = 65536 ]; }
	check "the guest sees it" wait_until has_grown
	check "the new end can be written" wisp exec box -- dd if=/dev/zero of=/dev/vdb bs=512 seek=65535 count=1
	wisp stop box && wisp rm box
	expect 125 "there is no sandbox" wisp refresh box
}

# Written and flushed with each cache mode, read back with the next after a restart.
t_cache_modes() {
	truncate -s 16M disk
	local mode last=writeback number=0
	for mode in writeback direct unsafe writeback; do
		wisp run -c 2 --disk ./disk,cache=$mode -- sh -c "
			set -e
			if [ $number -gt 0 ]; then dd if=/dev/vdb bs=64k skip=$number count=1 2>/dev/null | grep -q 'by $last'; fi
			(echo 'by $mode'; head -c 65000 /dev/zero) | dd of=/dev/vdb bs=64k seek=$((number + 1)) conv=fsync 2>/dev/null
			echo \$(cat /sys/block/vdb/queue/write_cache), \$(ls /sys/block/vdb/mq | wc -l) queues" \
			</dev/null >out 2>err || fail "$mode after $last: $(cat err)"
		# Who is not promised that a flush works is not told of a cache to flush.
		if [ $mode = unsafe ]; then
			equal "$mode" "$(cat out)" "write through, 2 queues"
		else
			equal "$mode" "$(cat out)" "write back, 2 queues"
		fi
		last=$mode number=$((number + 1))
		equal "$mode on the host" "$(dd if=disk bs=64k skip=$number count=1 2>/dev/null | head -n 1)" "by $mode"
	done
	wisp run --disk ./disk,ro,cache=direct -- sh -c 'dd if=/dev/vdb bs=64k skip=1 count=1 2>/dev/null | head -n 1' \
		</dev/null >out 2>err || fail "$(cat err)"
	equal "read-only and direct" "$(cat out)" "by writeback"
	expect 125 "no O_DIRECT" wisp run --disk /proc/version,ro,cache=direct -- true
	expect 125 "writeback, direct or unsafe" wisp run --disk ./disk,cache=fast -- true
}

# As many queues as processors, up to four here: each is used by the processes of its own, all at once.
t_queue_for_each_processor() {
	local count all
	count=$(nproc)
	[ "$count" -le 4 ] || count=4
	all=$(seq -s ' ' 0 $((count - 1)))
	truncate -s 64M disk
	wisp run -c "$count" --disk ./disk -- sh -c '
		set -e
		cat >/tmp/diskcheck && chmod +x /tmp/diskcheck
		ls /sys/block/vdb/mq | tr "\n" " "
		on_each() { # OPERATION FIRST: on every processor at once, each in a part of the disk of its own
			jobs=
			for cpu in $all; do
				taskset $((1 << cpu)) sh -c "
					set -e
					for part in 0 1 2 3; do /tmp/diskcheck $1 /dev/vdb 4 \$(((($cpu + $2) % $count) * 16 + part * 4)); done" &
				jobs="$jobs $!"
			done
			for job in $jobs; do wait $job; done
		}
		count=$1 all=$2
		on_each write 0
		echo 3 >/proc/sys/vm/drop_caches
		on_each read 1
		for queue in /sys/block/vdb/mq/*; do cat $queue/cpu_list; done | tr "\n" " "
		echo same' sh "$count" "$all" <"$area/tests/diskcheck" >out 2>err || fail "$(cat err)"
	equal "a queue for each" "$(cat out)" "$all $all same"
	check "the host finds the same" "$area/tests/diskcheck" read disk 4 $((count * 16 - 4))
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
	[ -e "$source_dir/$build/debian.squashfs" ] || { skipped="no Debian image is built for this processor"; return; }
	cp "$source_dir/$build/debian.squashfs" .
	equal python "$(wisp run -m 512 ./debian.squashfs -- python3 -c 'print(sum(range(101)))' </dev/null 2>&1)" 5050
	# For update-alternatives: packages that are added to the image may link manual pages.
	equal "folders of manual pages" "$(wisp run -m 512 ./debian.squashfs -- sh -c 'cd /usr/share/man && echo man[1-9]' </dev/null 2>&1)" \
		"man1 man2 man3 man4 man5 man6 man7 man8 man9"
	equal "as another user" "$(wisp run -u nobody ./debian.squashfs -- python3 -c 'import os; print(os.getuid())' </dev/null 2>&1)" 65534
}
