# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # what tests/containers/run sets
# Sandboxes where SELinux enforces Debian's policy, in a host of their own: a kernel has AppArmor or SELinux.
# tests/containers/run sources this.
#
# The host's root file system has no labels. What wisp consists of is at /scratch, with the labels of installed files.

start_selinux() {
	! mountpoint -q /sys/fs/selinux || return 0
	mount -t selinuxfs selinuxfs /sys/fs/selinux || { fail "the host's kernel runs without SELinux"; return 1; }
	load_policy -i || { fail "load_policy: $?"; return 1; }
	chcon -R system_u:object_r:lib_t:s0 lib && chcon -R system_u:object_r:bin_t:s0 bin lib/wisp/wisp* &&
		chcon -R unconfined_u:object_r:user_home_t:s0 home && chcon unconfined_u:object_r:user_home_dir_t:s0 home &&
		chcon system_u:object_r:kvm_device_t:s0 /dev/kvm && chcon system_u:object_r:tmp_t:s0 /tmp || fail "chcon"
	echo "# labels: $(stat -c '%n %C' bin/wisp lib/wisp/wisp-vmm /dev/kvm /tmp /run / | tr '\n' ' ')"
}
# enforced CONTEXT COMMAND...: nothing of it is denied.
enforced() {
	local code
	# The change to CONTEXT itself is permitted by nothing: the shell has no label.
	# shellcheck disable=SC2016 # for the other shell
	runcon "$1" bash -c "$(declare -f as_user); area=$area;"' dmesg --clear && setenforce 1 || exit
		"$@"
		code=$?
		setenforce 0
		exit $code' - "${@:2}" || { code=$?; fail "exit code $code"; }
	dmesg | sed -n 's/^.*avc: *denied/# denied/p' | sort | uniq -c | head -n 40 >denied
	[ ! -s denied ] || fail "$(cat denied)"
}
unconfined=unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023

c_selinux_root() {
	start_selinux || return
	enforced $unconfined env PATH=$area/bin:/usr/sbin:/usr/bin:/bin WISP_STATE=$area/state inside io_uring true
}
c_selinux_user() {
	start_selinux || return
	enforced $unconfined as_user env WISP_STATE=$area/home/state inside io_uring true
}
