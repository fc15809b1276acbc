# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # what tests/containers/run sets
# Sandboxes in systemd's units. tests/containers/run sources this.
#
# The user's manager runs on the host itself. A second one, with the system's manager and logind, is in namespaces of its own
# as in a container, because systemd has to be process 1. There, a unit does not end in order: the kernel has a thread for
# each VM, which is in the cgroup of its monitor and has no number in the namespace; systemd cannot read the list, and kills.

manager=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service

# Where systemd has put a shell of the user's, such as a terminal's.
in_manager() {
	(
		echo $BASHPID >$manager/shell.scope/cgroup.procs
		as_user "$@"
	)
}
unit() { in_manager systemd-run --user --quiet --setenv=PATH=$area/bin:/usr/bin:/bin "$@"; }
stop_unit() {
	in_manager systemctl --user stop "$1" || fail "systemctl stop $1"
	in_manager systemctl --user is-failed --quiet "$1" && fail "$1 failed: $(in_manager systemctl --user show -p Result "$1")"
}
# The cgroup that has the limits, or the unit.
group_of_monitor() {
	local group
	group=/sys/fs/cgroup$(cut -c4- "/proc/$(pgrep -x wisp-vmm)/cgroup")
	echo "${group%/monitor}"
}
state_of() { as_user wisp ls | awk -v name="$1" '$1 == name { print $2 }'; }

# systemd --user wants to know that systemd is process 1.
start_manager() {
	[ ! -d $manager/init.scope ] || return 0
	local dir
	echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p /run/systemd/system $manager/shell.scope
	for dir in /sys/fs/cgroup/user.slice{,/user-1000.slice}; do echo '+cpu +memory +pids' >$dir/cgroup.subtree_control; done
	chown -R 1000:1000 $manager
	(
		echo $BASHPID >$manager/cgroup.procs
		as_user /lib/systemd/systemd --user >manager.log 2>&1 &
	)
	until_true 60 in_manager systemctl --user is-active --quiet dbus.socket && return
	fail "systemd --user does not start: $(tail -n 5 manager.log)"
	return 1
}

c_systemd_service() {
	start_manager || return
	unit --pipe --wait inside io_uring true || fail "exit code $?"
}
c_systemd_scope() {
	local group
	start_manager || return
	unit --scope inside io_uring true || fail "exit code $?"
	unit --scope wisp create -q -n held --memory-max 400M --cpu-max 0.5 --pids-max 64 || return
	group=$(group_of_monitor)
	case $group in $manager/app.slice/wisp-*) ;; *) fail "the monitor is in $group" ;; esac
	limits() { cat "$group"/{memory.max,cpu.max,pids.max}; }
	equal "the limits" "$(limits)" $'419430400\n50000 100000\n64'
	# systemd turns off what no unit of its own needs any more.
	unit --unit other --property CPUQuota=50% sleep 1000
	stop_unit other
	equal "the limits after other units" "$(limits)" $'419430400\n50000 100000\n64'
	as_user wisp exec held -- true || fail "exec: $?"
	as_user wisp rm -f held || fail "rm: $?"
	[ -z "$(find $manager -name 'wisp-*')" ] || fail "it left $(find $manager -name 'wisp-*')"
}
# The manager may not signal the thread that KVM has for each VM. systemd 252 then kills what is left at once, so it is
# ExecStop= that stops a sandbox in order.
c_systemd_stops_a_unit() {
	start_manager || return
	local box=(--unit box --remain-after-exit)
	unit "${box[@]}" --property "ExecStop=$area/bin/wisp stop box" wisp create -q -n box
	until_true 60 as_user wisp exec box -- true || fail "no sandbox"
	equal "the cgroup" "$(group_of_monitor)" $manager/app.slice/box.service
	stop_unit box
	equal "the sandbox" "$(state_of box)" stopped
	as_user wisp rm box || fail "rm: $?"
	unit "${box[@]}" wisp create -q -n box
	until_true 60 as_user wisp exec box -- true || fail "no sandbox"
	stop_unit box
	equal "the sandbox without ExecStop" "$(state_of box)" dead
	as_user wisp rm box || fail "rm: $?"
	# A unit ends with its command, and so do the processes that this left.
	unit --wait wisp create -q -n box || fail "create: $?"
	until_true 20 monitors_are 0 || fail "it outlived its unit"
	as_user wisp rm box || fail "rm: $?"
	# The command passes SIGTERM on, and exits with what its own ended with.
	unit --unit run --property SuccessExitStatus=143 wisp run -n box -- sleep 1000
	until_true 60 as_user wisp exec box -- true || fail "no sandbox"
	stop_unit run
	equal "the sandbox of run" "$(state_of box)" ''
	# Limits are a cgroup next to the unit's.
	unit "${box[@]}" wisp create -q -n box --pids-max 64
	until_true 60 as_user wisp exec box -- true || fail "no sandbox"
	stop_unit box
	equal "the sandbox with limits" "$(state_of box)" running
	as_user wisp rm -f box
}

# --- with logind ---

start_system() {
	local unit group=/sys/fs/cgroup/machine
	mkdir -p $group units /etc/systemd/logind.conf.d
	printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/kill.conf
	# These units alone: a whole system would take minutes.
	for unit in {sysinit,basic,shutdown,sockets,paths,timers,slices,nss-user-lookup}.target dbus.{socket,service} \
		systemd-logind.service user.slice user@.service user-runtime-dir@.service; do
		ln -sf /lib/systemd/system/$unit units/
	done
	printf '[Unit]\nWants=dbus.socket systemd-logind.service\n' >units/hosts.target
	cat >start-system <<-'STOP'
		mount --make-rprivate / && umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
			mount -t tmpfs tmpfs /run && mount --bind /proc/sys /proc/sys && mount -o bind,remount,ro /proc/sys || exit
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=wisp SYSTEMD_UNIT_PATH="$PWD/units" \
			/lib/systemd/systemd --unit=hosts.target --log-target=console
	STOP
	unshare --mount --pid --mount-proc --ipc --uts --fork --kill-child \
		sh -c "echo 0 >$group/cgroup.procs && exec unshare --cgroup sh start-system" >system.log 2>&1 &
	system=$!
	until_true 90 in_system systemctl is-system-running || { fail "systemd: $(tail -n 5 system.log)"; return 1; }
	in_system loginctl enable-linger user
	until_true 90 in_system systemctl is-active --quiet user@1000.service || { fail "no manager for the user"; return 1; }
}
in_system() { nsenter --target "$(pgrep -P $system)" --mount --pid --ipc --uts --cgroup "$@"; }
c_systemd_logout() {
	local system=''
	if start_system; then
		in_system systemd-run --quiet --pipe --wait --property User=user --property PAMName=login --setenv=PATH=$area/bin:/usr/bin:/bin \
			sh -c 'cat /proc/self/cgroup; wisp doctor; wisp create -q -n session; systemd-run --user -q --scope wisp create -q -n scope' \
			>said 2>&1 </dev/null
		grep -q '/session-[0-9]*.scope$' said || fail "no session: $(cat said)"
		grep -q 'can run sandboxes' said || fail "doctor: $(cat said)"
		grep -q '^warning  *logout' said && fail "doctor warns: $(grep logout said)"
		until_true 30 monitors_are 1
		equal "the sandbox of the session" "$(state_of session)" dead
		equal "the sandbox of a scope" "$(state_of scope)" running
		as_user wisp rm -f session scope
	fi
	[ -z "$system" ] || kill "$system"
	rm /etc/systemd/logind.conf.d/kill.conf
}
