# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Folders of the host in the guest (-v): what programs do with files, what each side sees of the other, and the end.

foldercheck=$area/tests/foldercheck
servers() { pgrep -x wisp-fs | wc -l; }
no_server() { [ "$(servers)" -eq 0 ]; }

t_folders() {
	mkdir shared
	cp "$foldercheck" shared/
	echo "of the host" >shared/host
	check run wisp run -v "$PWD/shared:/work" -- sh -c '
		grep -q "of the host" /work/host && echo "of the guest" >/work/guest && mkdir /work/d && mkdir /work/check &&
		/work/foldercheck /work/check owners devices' >said
	equal "what programs do" "$(grep -c 'expectations are met' said)" 1
	sed 's/^/# /' said
	equal "what the guest wrote" "$(cat shared/guest)" "of the guest"
	equal "its owner" "$(stat -c %u shared/guest)" "$(id -u)"
	# What it wrote to a mapping, of which 100 bytes after the last msync.
	equal "a mapping" "$(head -c 100 shared/check/map | tr -d n | wc -c)" 0
	[ -d shared/d ] || fail "the folder that the guest made is not there"
	check "no server is left" wait_until no_server
}

t_folder_coherence() {
	mkdir shared
	echo one >shared/f
	check create wisp create -q -n box -v "$PWD/shared:/work" -v "$PWD/shared:/ro:ro" -v "$PWD/shared/f:/etc/given"
	equal "servers" "$(servers)" 3
	equal "what inspect says" "$(wisp inspect box | grep -cF "\"folders\":[{\"path\":\"$PWD/shared\",\"guest\":\"/work\",\"read_only\":false,\"uid\":\"squash\"},{\"path\":\"$PWD/shared\",\"guest\":\"/ro\",\"read_only\":true")" 1
	equal "a file" "$(wisp exec box -- cat /work/f /ro/f /etc/given)" "one
one
one"
	# shellcheck disable=SC2016 # the guest's shell
	equal "read ahead" "$(wisp exec box -- sh -c 'while read -r _ _ dev _ path _; do
		case $path in /work | /ro) cat "/sys/class/bdi/$dev/read_ahead_kb" ;; esac; done </proc/self/mountinfo')" "512
512"
	# Of the same size, which the time alone tells; in place, and by a new file.
	for i in 1 2 3 4 5; do
		echo "tw$i" >shared/f
		sleep 1
		equal "what the host wrote, a second later" "$(wisp exec box -- cat /work/f)" "tw$i"
	done
	equal "through the single file" "$(wisp exec box -- cat /etc/given)" tw5
	echo new >shared/g && mv shared/g shared/f
	sleep 1
	equal "what the host put in its place" "$(wisp exec box -- cat /work/f)" new
	rm shared/f
	sleep 1
	expect 1 "No such file" wisp exec box -- cat /work/f
	check "the guest writes" wisp exec box -- sh -c 'echo guest >/work/h'
	equal "at once on the host" "$(cat shared/h)" guest
	expect 1 "Read-only" wisp exec box -- sh -c 'echo x >/ro/h'
	# A folder that vanishes.
	rm -r shared
	expect 1 "" wisp exec box -- sh -c 'echo x >/work/new'
	equal "the guest lives" "$(wisp exec box -- echo yes)" yes
	# One that is lost: its process is killed.
	pkill -x wisp-fs
	expect 1 "" wisp exec box -- ls /work
	equal "and still" "$(wisp exec box -- echo yes)" yes
	check "a line in the log" grep -q "the folder folder0 is lost" "$WISP_STATE/box/vmm.log"
	check stop wisp stop box
	check rm wisp rm box
	no_server || fail "a server is left"
}

t_folder_ends_with_its_sandbox() {
	mkdir shared
	check create wisp create -q -n box -v "$PWD/shared:/work"
	wisp exec box -- sh -c 'while :; do echo x >>/work/log; done' >/dev/null 2>&1 &
	sleep 1
	kill -9 "$(pgrep -x wisp-vmm)"
	check "no server is left" wait_until no_server
	wait
	[ -s shared/log ] || fail "the guest wrote nothing"
	check rm wisp rm box
	# Nor of one that does not start.
	expect 125 "cannot mount the host's folder on /proc/version/x" wisp run -v "$PWD/shared:/proc/version/x" -- true
	check "no server is left" wait_until no_server
}

t_folder_snapshots_are_refused() {
	mkdir shared
	check create wisp create -q -n box -v "$PWD/shared:/work"
	expect 125 "folders of the host" wisp snapshot box box.snap
	expect 125 "folders of the host" wisp fork box
	equal "it goes on" "$(wisp exec box -- sh -c 'echo hi >/work/f; cat /work/f')" hi
	check stop wisp stop box
	check rm wisp rm box
}

t_folder_bounds() {
	mkdir shared
	cp "$foldercheck" shared/
	echo x >shared/f
	# More open files than wisp-fs may have: an error, and the guest goes on.
	(ulimit -n 6000 && wisp run -m 512 -v "$PWD/shared:/work" -- sh -c '/work/foldercheck open /work/f; cat /work/f') >said
	grep -qE '^29[0-9][0-9] Too many open files in system$' said || fail "open files: $(head -n 1 said)"
	equal "the file, afterwards" "$(sed -n 2p said)" x
	# Many files in a folder.
	python3 -c "
import os
os.mkdir('shared/many')
for i in range(20000): open('shared/many/%d' % i, 'w').close()"
	equal "many files" "$(wisp run -v "$PWD/shared:/work" -- sh -c 'ls /work/many | wc -l')" 20000
}

# A folder as the root: without an image, and unchanged.
t_folder_as_root() {
	mkdir tree
	# The image's own files, by way of a guest.
	wisp run -- tar c -C / bin etc sbin usr lib root home var opt 2>/dev/null | tar x -C tree --no-same-owner 2>/dev/null
	[ -e tree/bin/sh ] || fail "no tree"
	find tree | sort | md5sum >before
	equal "the root" "$(wisp run -v "$PWD/tree:/" -v "$PWD:/host:ro" -- sh -c 'echo x >/etc/new && cat /etc/new && ls /host/before')" "x
/host/before"
	find tree | sort | md5sum | cmp -s - before || fail "the folder has changed"
	expect 125 "is to be the guest's root" wisp run -v "$PWD/tree:/" "$LIB/base.squashfs" -- true
}
