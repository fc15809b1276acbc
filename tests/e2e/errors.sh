# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What users get wrong: one clear line, exit code 125, nothing left behind.

t_bad_images_and_kernels() {
	expect 125 "/no/such/image" wisp run /no/such/image -- true
	echo garbage >junk
	expect 125 "junk" wisp run ./junk -- true
	: >empty
	expect 125 "empty" wisp run ./empty -- true
	head -c 100000 "$LIB/base.squashfs" >cut
	expect 125 "cut" wisp run ./cut -- true
	expect 125 "/no/such/kernel" wisp run --kernel /no/such/kernel -- true
	head -c 1000000 "$LIB/vmlinux-up" >cut-kernel
	# An Image does not say how long its file is.
	[ "$(uname -m)" = aarch64 ] || expect 125 "truncated" wisp run --kernel ./cut-kernel -- true
	expect 125 "too short to be a kernel" wisp run --kernel ./junk -- true
	expect 125 "initramfs" wisp run --initramfs /no/such/initramfs -- true
}

t_bad_numbers() {
	expect 125 "memory" wisp run -m 1 -- true
	expect 125 "memory" wisp run -m 99999999 -- true
	expect 125 "memory" wisp run -m many -- true
	expect 125 "cpus" wisp run -c 0 -- true
	expect 125 "cpus" wisp run -c 1000 -- true
	expect 125 "timeout" wisp run --timeout -5s -- true
	expect 125 "timeout" wisp run --boot-timeout abc -- true
}

t_bad_names_and_options() {
	expect 125 "name" wisp create -n 'Not A Name'
	expect 125 "name" wisp create -n ../up
	expect 125 "--frobnicate" wisp run --frobnicate -- true
	expect 125 "frob" wisp frob
	expect 125 "command" wisp run --
	expect 125 "nobody" wisp stop nobody
}

t_no_kvm() {
	mv /dev/kvm /dev/kvm.away
	expect 125 "/dev/kvm" wisp run -- true
	check "doctor says so" sh -c '! wisp doctor >out 2>&1 && grep -q /dev/kvm out'
	mv /dev/kvm.away /dev/kvm
	wisp doctor >out 2>&1 || fail "doctor is not content: $(cat out)"
}

t_no_permission_for_kvm() {
	chmod 600 /dev/kvm
	chmod 755 "$area" .
	mkdir -m 777 mine
	expect 125 "no permission to open /dev/kvm" setpriv --reuid 65534 --regid 65534 --clear-groups \
		env HOME=/nonexistent WISP_STATE="$PWD/mine/state" wisp run -- true
	chmod 666 /dev/kvm
}

# A sandbox has no KVM. That is said in the place of the sandbox that was asked for.
t_wisp_in_wisp_says_why_not() {
	check create wisp create -q -n outer -v "$area/bin:/wisp/bin:ro" -v "$LIB:/wisp/lib:ro"
	wisp exec outer -- env WISP_LIBDIR=/wisp/lib WISP_STATE=/tmp/state /wisp/bin/wisp run -m 64 -- true </dev/null >out 2>&1
	equal "exit code" $? 125
	grep -q 'this virtual machine has no nested virtualization' out || fail "run: $(cat out)"
	wisp exec outer -- env WISP_LIBDIR=/wisp/lib WISP_STATE=/tmp/state /wisp/bin/wisp doctor </dev/null >out 2>&1
	equal "doctor's exit code" $? 1
	grep -q '^bad  *kvm  *there is no /dev/kvm: this virtual machine has no nested' out || fail "doctor: $(cat out)"
	check rm wisp rm -f outer
}

t_disk_full() {
	mkdir full
	mount -t tmpfs -o size=16k none full
	head -c 16384 /dev/zero >full/fill 2>/dev/null
	expect 125 "" env WISP_STATE="$PWD/full" wisp run -- true
	umount full
}
