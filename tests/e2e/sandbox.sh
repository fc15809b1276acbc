# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox's life: run, create, exec, ls, stop, rm; and what it is inside.

t_run_gives_output_and_exit_code() {
	local got=0
	wisp run -- sh -c 'echo out; echo err >&2; exit 7' >out 2>err </dev/null || got=$?
	equal "exit code" $got 7
	equal stdout "$(cat out)" out
	equal stderr "$(cat err)" err
}

t_run_is_byte_faithful() {
	head -c 1000000 /dev/urandom >in
	wisp run -- cat <in >out 2>err || fail "exit $?"
	check "stdin to stdout" cmp in out
	equal "ours in stderr" "$(cat err)" ""
}

t_exit_codes_are_dockers() {
	expect 127 not_found wisp run -- /no/such/program
	expect 126 permission_denied wisp run -- /etc/passwd
	local got=0
	wisp run -- sh -c 'kill -9 $$' </dev/null 2>err || got=$?
	equal "killed by a signal" $got 137
	got=0
	wisp run --timeout 1s -- sleep 100 </dev/null 2>err || got=$?
	equal timeout $got 124
}

t_sandbox_lives_across_commands() {
	check create wisp create -n box -m 96 >/dev/null
	equal "one kernel" "$(wisp exec box -- uname -s </dev/null)" Linux
	wisp exec box -- sh -c 'echo kept >/root/file' </dev/null
	equal "files stay" "$(wisp exec box -- cat /root/file </dev/null)" kept
	equal "stdin arrives" "$(echo hello | wisp exec box -- cat)" hello
	check "ls shows it" grep -q box <(wisp ls)
	check "ls --json is JSON" sh -c 'wisp ls --json | grep -q "\"name\":\"box\""'
	expect 125 "box" wisp create -n box
	check stop wisp stop box
	check "ls says stopped" grep -q stopped <(wisp ls)
	expect 125 "not running" wisp exec box -- true
	check rm wisp rm box
	expect 125 "no sandbox" wisp exec box -- true
}

t_guest_is_a_usable_system() {
	cat >script <<'END'
set -e
[ $$ != 1 ]
[ "$(id -u)" = 0 ]
[ "$HOME" = /root ]
grep -q ' / overlay' /proc/mounts
for m in /proc /sys /dev /dev/pts /dev/shm /sys/fs/cgroup /run; do grep -q " $m " /proc/mounts || { echo "no $m"; exit 1; }; done
ip addr show lo | grep -q 127.0.0.1
[ "$(stat -c %a /tmp)" = 1777 ]
touch /tmp/x /root/x /usr/x
echo text >/dev/shm/x
[ -e /dev/null ] && [ -e /dev/fd/0 ]
ln -s /proc/self/fd /tmp/fdlink
dd if=/dev/urandom of=/dev/null bs=64 count=1 2>/dev/null
grep -q cpu /sys/fs/cgroup/cgroup.controllers
[ "$(hostname -f)" = inside ]
cd /tmp
sh -c 'ulimit -c unlimited; kill -SEGV $$' || true
[ -s core ]
date +%s
hostname
END
	wisp run --name inside -- sh -s <script >out 2>err || fail "$(cat out err)"
	equal hostname "$(tail -n 1 out)" inside
	local clock
	clock=$(tail -n 2 out | head -n 1)
	[ $(($(date +%s) - clock)) -le 60 ] || fail "the guest's clock says $clock"
}

# Somebody who gives up waiting for a stop, and then waits again, does not take the guest's time from it.
t_stop_can_be_repeated() {
	check create wisp create -q -n box
	wisp exec -d box -- sh -c 'trap "echo told; sleep 3; echo saved; exit" TERM; echo up; while :; do sleep 0.1; done' >/dev/null
	check "the program runs" wait_until sh -c 'wisp logs box | grep -q up'
	wisp stop box &
	local pid=$!
	check "the program is told" wait_until sh -c 'wisp logs box | grep -q told'
	kill $pid
	wait $pid 2>/dev/null
	check "stop again" wisp stop box
	equal "what the program said" "$(wisp logs box | tr '\n' ' ')" "up told saved "
	check "it was not killed" sh -c 'wisp ls | grep -q "stopped (poweroff)"'
	check rm wisp rm box
}

# What a libc might do in another way: names, users, regular expressions, numbers, time zones, UTF-8.
t_default_image() {
	busybox --list-full | sort >applets # Debian's own, here
	{
		cat <<'END'
cd /
missing=
for applet in \
END
		sed 's/$/ \\/' applets
		cat <<'END'
; do [ -x "$applet" ] || missing="$missing $applet"; done
echo "missing:$missing"
ping -c 1 -W 30 localhost >/dev/null && echo resolved
su wisp -c 'id -un; id -Gn; cd; pwd; : >mine; ls'
chown wisp:users /tmp && ls -ld /tmp | awk '{ print $1, $3, $4 }'
echo 'one two' | sed 's/\<t\w*\|none/2/; s/\(o\).*/&\1/'
echo aXb | grep -iE '^(ax|y)+b$'
printf '%.3f %5s|%x\n' 2.5 ab 255
TZ=CET-1CEST,M3.5.0,M10.5.0/3 date -d @1720000000 '+%F %T %Z'
echo 'größer' | LANG=C.UTF-8 wc -m
sleep 1000 & kill $!; wait $! 2>/dev/null; echo $?
ps -o pid,comm | grep -c ' init$'
seq 20000 | sort -rn | tail -n 1
END
	} >script
	wisp run -- sh -s <script >out 2>err || fail "$(cat out err)"
	equal "nothing is said" "$(cat err)" ""
	equal "what the image does" "$(cat out)" "missing:
resolved
wisp
wisp users
/home/wisp
mine
drwxrwxrwt wisp users
one 2o
aXb
2.500    ab|ff
2024-07-03 11:46:40 CEST
7
143
1
1"
}

t_processors() {
	equal "2 CPUs" "$(wisp run -c 2 -m 256 -- nproc </dev/null)" 2
	equal "1 CPU" "$(wisp run -- nproc </dev/null)" 1
}

t_large_below_the_hole() {
	local kib
	kib=$(wisp run -m 3584 -- awk '/MemTotal/ {print $2}' /proc/meminfo </dev/null)
	[ "${kib:-0}" -gt 3400000 ] || fail "of 3584 MiB the guest sees ${kib:-nothing} KiB"
	wisp run -m 3584 -- dmesg >out 2>err </dev/null || fail "$(cat err)"
	check "no memory is kept for bounce buffers: $(grep 'IO TLB' out)" sh -c '! grep "software IO TLB: .*MB" out'
}

t_large_beyond_the_hole() {
	# Linux hands out what lies above 4 GiB first, and so do these files.
	wisp run -m 4500 -- sh -c 'mount -t tmpfs none /mnt && head -c 67108864 /dev/urandom >/mnt/a && cp /mnt/a /mnt/b && cmp /mnt/a /mnt/b &&
		awk "/MemTotal/ {print \$2}" /proc/meminfo' >out 2>err </dev/null || fail "$(cat err)"
	[ "$(cat out)" -gt 4300000 ] || fail "the guest sees $(cat out) KiB"
}

# ends_as REASON COMMAND: a sandbox in which COMMAND runs ends by itself, and for that reason.
ends_as() {
	check create wisp create -n ending >/dev/null
	wisp exec ending -- sh -c "$2" >out 2>&1 </dev/null
	wait_until no_vmm || fail "$2: it still runs"
	check "$2: $(wisp inspect ending)" grep -q "$1" <(wisp inspect ending)
	expect 125 "" wisp exec ending -- true
	check rm wisp rm ending
}

t_ends_are_reported_as_what_they_are() {
	ends_as reboot "reboot; sleep 100"
	ends_as poweroff "poweroff; sleep 100"
	# A kernel without an init panics; a kernel that does nothing is stopped by the boot's time limit.
	echo nothing | cpio --quiet -o -H newc >empty.cpio </dev/null
	expect 125 "panic" wisp run --initramfs "$PWD/empty.cpio" -- true
	expect 125 "not ready after 1 s" wisp run --kernel "$area/tests/payload" --boot-timeout 1s -- true
}

# A guest that prints without end: two logs of a MiB, the monitor as large as before, and everything else goes on.
t_console_flood_is_bounded() {
	local dir=$WISP_STATE/box pid before after file
	check create wisp create -q -n box -m 96
	pid=$(pgrep -x wisp-vmm)
	before=$(awk '/^VmSize/ {print $2}' "/proc/$pid/status")
	check "the flood begins" wisp exec -d box -- sh -c 'while :; do yes flooooooooooooooooooooood >/dev/hvc0; done' >/dev/null
	# The emulated host takes a minute for a MiB of this; test_hostile_devices fills the files.
	wait_until sh -c 'test "$(wc -c <"$1")" -gt 30000' sh "$dir/console.log" || fail "no flood: $(ls -l "$dir")"
	equal "an execution beside it" "$(wisp exec box -- echo through </dev/null)" through
	after=$(awk '/^VmSize/ {print $2}' "/proc/$pid/status")
	[ "$after" -le $((before + 1024)) ] || fail "the monitor grew from $before to $after KiB"
	[ "$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status")" -le $(((96 + 16) * 1024)) ] || fail "it holds more than its guest"
	for file in "$dir"/console.log*; do
		[ "$(stat -c %s "$file")" -le 1048576 ] || fail "$file has $(stat -c %s "$file") bytes"
	done
	check stop wisp stop box
	check rm wisp rm box
}

running() { find_processes | sed 's/^[0-9]* //; s/\.avx2//' | sort | paste -sd ' '; }
# killed_leaves_nothing PROCESSES OPTION...: a `wisp run` with these options that is killed, and a monitor.
killed_leaves_nothing() {
	local pid before expected=$1
	shift
	before=$(host_footprint)
	wisp run "$@" -- sleep 1000 </dev/null >out 2>err &
	pid=$!
	wait_until sh -c 'grep -q ^ready "$WISP_STATE"/*/state 2>/dev/null' || fail "it did not start: $(cat err)"
	equal "what runs with $*" "$(running)" "$expected"
	kill -9 $pid
	wait $pid 2>/dev/null
	wait_until no_process || fail "the end of wisp run with $* leaves $(running)"
	equal "what it leaves with $*" "$(host_footprint)" "$before"
	# And with the VMM killed as well: the folder is recognised as stale, and the ports are free again.
	check create wisp create -n box "$@" >/dev/null
	equal "what runs with $*" "$(running)" "$expected"
	pkill -9 -x wisp-vmm
	wait_until no_process || fail "the monitor's end with $* leaves $(running)"
	check "it is seen as stopped" grep -qE 'stopped|dead' <(wisp ls)
	check rm wisp rm box
	equal "what it leaves with $*" "$(host_footprint)" "$before"
}

t_sigkill_leaves_nothing() {
	mkdir shared
	killed_leaves_nothing wisp-vmm
	killed_leaves_nothing "wisp-fs wisp-proxy wisp-vmm" -v "$PWD/shared:/work" --allow example.org -p 18080:80
	# A Unix socket is a file, which the monitor cannot remove; rm does.
	check create wisp create -q -n box -p "$PWD/unix.sock:80"
	pkill -9 -x wisp-vmm
	wait_until no_process
	check rm wisp rm box
	[ ! -e unix.sock ] || fail "the socket is left"
	# passt starts on a host with a default route only.
	if command -v passt >/dev/null && make_internet; then
		killed_leaves_nothing "passt wisp-fs wisp-proxy wisp-vmm" -v "$PWD/shared:/work" --allow example.org -p 18080:80 --net passt
		end_internet
	fi
}

t_stop_is_orderly() {
	check create wisp create -n box >/dev/null
	wisp exec box -- sh -c 'trap "echo asked; exit" TERM; echo up; while :; do sleep 0.1; done' </dev/null >out 2>&1 &
	wait_until grep -q up out || fail "it did not start: $(cat out)"
	check stop wisp stop box
	wait
	check "the program was asked to end: $(cat out)" grep -q asked out
	check rm wisp rm box
}

# The guest's programs have the time that the host gives them.
t_stop_waits_as_long_as_its_grace() {
	check create wisp create -n box >/dev/null
	wisp exec box -- sh -c 'trap "sleep 4; echo done; exit" TERM; echo up; while :; do sleep 0.1; done' </dev/null >out 2>&1 &
	wait_until grep -q up out || fail "it did not start: $(cat out)"
	check stop wisp stop --grace 60s box
	wait
	check "the program ended by itself: $(cat out)" grep -q done out
	check rm wisp rm box
}

# root, in the state directory of a user of its own: the monitor and its clones are that user's.
t_root_becomes_the_directorys_owner() {
	local WISP_STATE=$PWD/state pid
	chmod 755 "$area" .
	install -d -o 4242 -g 4242 -m 700 state
	truncate -s 8M disk
	check create wisp create -q -n box --disk disk,cache=direct --private-memory
	check exec wisp exec box -- sh -c 'dd if=/dev/zero of=/dev/vdb bs=4k count=3 oflag=direct 2>/dev/null' </dev/null
	wisp inspect box | grep -q 'privileges' || fail "inspect: $(wisp inspect box)"
	check fork wisp fork box -n clone --copy-disks >/dev/null
	check "exec in the clone" wisp exec clone -- dd if=/dev/vdb of=/dev/null bs=4k count=1 </dev/null 2>/dev/null
	for pid in $(pgrep -x wisp-vmm); do
		equal "user of $pid" "$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "/proc/$pid/status")" "4242 4242 4242 4242"
	done
	check snapshot wisp snapshot -q box file.snap --copy-disks
	check stats wisp stats box >/dev/null
	check "run from the snapshot" wisp run --from file.snap --copy-disks -- true </dev/null
	check "run of another" wisp run -- true </dev/null
	check stop wisp stop box clone # which removes the clone
	check rm wisp rm box
	equal "what is left" "$(ls -A state)" ""
}
