# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Images as others make them: whatever Linux can mount, and a reason for the rest.

# A tree with a shell and a marker, in ./root.
image_root() {
	mkdir -p root/bin
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/sh
	ln -s busybox root/bin/cat
	echo mine >root/marker
}
# boots TEXT OPTION...: a sandbox with these options finds the marker.
boots() {
	local text=$1
	shift
	equal "$text" "$(wisp run -m 96 "$@" -- cat /marker </dev/null 2>&1)" mine
}

t_squashfs_of_each_compressor() {
	image_root
	for compressor in gzip lzo lz4 xz zstd; do
		mksquashfs root image -quiet -noappend -comp $compressor >mk.out 2>&1 || fail "$compressor: $(head -n 1 mk.out)"
		boots "squashfs with $compressor" ./image
	done
	# Linux cannot decompress this one.
	if mksquashfs root image -quiet -noappend -comp lzma >mk.out 2>&1; then
		expect 125 "compressed with lzma, which Linux does not read" wisp run ./image -- true
	fi
}

t_erofs_of_each_compressor() {
	command -v mkfs.erofs >mk.out || {
		skipped="there is no mkfs.erofs (package erofs-utils)"
		return
	}
	local compressor made=0
	image_root
	for compressor in '' -zlz4 -zlz4hc -zlzma; do
		rm -f image
		# Debian's mkfs.erofs has no lzma.
		mkfs.erofs $compressor image root >mk.out 2>&1 || continue
		boots "erofs with ${compressor:-nothing}" ./image
		made=$((made + 1))
	done
	[ $made -ge 2 ] || fail "mkfs.erofs made $made images: $(head -n 1 mk.out)"
}

t_ext4_of_each_feature() {
	image_root
	local features
	for features in quota quota,project verity casefold bigalloc ^has_journal inline_data; do
		rm -f image
		truncate -s 64M image
		mkfs.ext4 -q -b 4096 -O "$features" -d root image >mk.out 2>&1 || fail "$features: $(head -n 1 mk.out)"
		e2fsck -fy image >mk.out 2>&1 # mkfs.ext4 -d miscounts quotas
		wisp run -m 96 --rw ./image -- sh -c 'echo "$0" >/written' "$features" </dev/null 2>err || fail "$features, --rw: $(cat err)"
		check "e2fsck of $features" sh -c 'e2fsck -fn image >fsck.out 2>&1'
		case $features in
		casefold) expect 125 "casefold, which cannot lie under a writable layer" wisp run ./image -- true ;;
		*) equal "what was written on $features" "$(wisp run -m 96 ./image -- cat /written </dev/null 2>&1)" "$features" ;;
		esac
	done
}

# A disk whose guest died has a journal to be replayed. Read-only it is mounted as it is, and not changed.
t_dirty_ext4_is_mounted_read_only() {
	local sum
	image_root
	truncate -s 64M image
	mkfs.ext4 -q -d root image
	check create wisp create -q -n box -m 96 --rw ./image
	wisp exec box -- sh -c 'echo x >/file; /bin/busybox sync' </dev/null || fail "exec: $?"
	pkill -9 -x wisp-vmm
	wait_until no_vmm
	check rm wisp rm box
	check "the journal is to be replayed" grep -q needs_recovery <(dumpe2fs -h image 2>/dev/null)
	sum=$(sha256sum <image)
	boots "dirty" ./image
	chmod 444 image
	boots "dirty and mode 0444" ./image
	equal "the image" "$(sha256sum <image)" "$sum"
	chmod 644 image
	wisp run -m 96 --rw ./image -- cat /file </dev/null >out 2>err || fail "$(cat err)"
	equal "replayed" "$(cat out)" x
}

t_image_of_odd_length() {
	image_root
	mksquashfs root image -quiet -noappend -nopad -no-progress >mk.out 2>&1 || fail "$(head -n 1 mk.out)"
	if [ $(($(stat -c %s image) % 512)) -eq 0 ]; then
		head -c 100 /dev/urandom >root/more
		mksquashfs root image -quiet -noappend -nopad -no-progress >mk.out 2>&1 || fail "$(head -n 1 mk.out)"
	fi
	[ $(($(stat -c %s image) % 512)) -ne 0 ] || fail "the image has whole sectors"
	boots "not a multiple of 512 bytes" ./image
}

# What only the guest finds out: the agent's reason is the user's, with a console as without one.
t_failed_boots_are_explained() {
	truncate -s 64M overlay
	mkfs.ext4 -q overlay
	dd if=/dev/urandom of=overlay bs=1024 seek=2 count=64 conv=notrunc 2>/dev/null # its group descriptors
	expect 125 'its last words were "wisp-agent: cannot mount /dev/vdb on /over as ext4' wisp run --overlay ./overlay -- true
	expect 125 "EXT4-fs" wisp run --overlay ./overlay -- true
	wisp run --console --overlay ./overlay -- true </dev/null >out 2>&1
	check "the reason, with --console: $(tail -n 2 out)" grep -q 'last words.*cannot mount /dev/vdb on /over as ext4.*EXT4-fs' <(tail -n 1 out)
	# arm64 has no kernel without SMP: its own for one processor uses two.
	[ "$(uname -m)" = aarch64 ] ||
		expect 125 "the machine has 2 processors, but the kernel uses 1" wisp run -c 2 --kernel "$LIB/vmlinux-up" -- true
}
