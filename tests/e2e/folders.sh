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
	# Of 64 MiB with 3 bytes in the middle, and of 4 MiB with two pages at the ends.
	[ "$(du -k shared/check/hole | cut -f 1)" -lt 1024 ] || fail "a hole takes $(du -k shared/check/hole) KiB"
	[ "$(du -k shared/check/punched | cut -f 1)" -lt 1024 ] || fail "a punched hole takes $(du -k shared/check/punched) KiB"
	[ -d shared/d ] || fail "the folder that the guest made is not there"
	check "no server is left" wait_until no_server
}

# A host without room: the guest is told, keeps what it has written, and goes on when there is room again.
t_folder_full() {
	local size sum in_full
	mkdir full
	mount -t tmpfs -o size=2m none full
	check create wisp create -q -n box -v "$PWD/full:/work"
	check "data" wisp exec box -- sh -c 'head -c 4194304 /dev/urandom >/tmp/data'
	expect 1 "No space left on device" wisp exec box -- dd if=/tmp/data of=/work/f bs=100k status=none
	size=$(stat -c %s full/f)
	[ "$size" -gt 1900000 ] || fail "of 2 MiB, $size bytes were written"
	# shellcheck disable=SC2016 # the guest's shell
	in_full='cd /work && wc -c <f && head -c "$(wc -c <f)" /tmp/data | md5sum && md5sum <f'
	equal "what was written" "$(wisp exec box -- sh -c "$in_full")" "$size
$(md5sum <full/f)
$(md5sum <full/f)"
	expect 1 "No space left on device" wisp exec box -- sh -c 'echo more >>/work/f'
	equal "and no more" "$(stat -c %s full/f)" "$size"
	check "what has room is written over" wisp exec box -- dd if=/tmp/data of=/work/f bs=64k count=4 conv=notrunc status=none
	check "room" wisp exec box -- rm /work/f
	check "another file" wisp exec box -- dd if=/tmp/data of=/work/g bs=100k count=10 conv=fsync status=none
	sum=$(wisp exec box -- md5sum /work/g)
	# Another guest knows nothing but what is there.
	check stop wisp stop box
	check rm wisp rm box
	equal "what is there" "$(wisp run -v "$PWD/full:/work" -- sh -c 'ls /work && md5sum /work/g')" "g
$sum"
	equal "on the host" "$(stat -c %s full/g)" 1024000
	check "no server is left" wait_until no_server
	umount full
}

# On a host's tmpfs, which before Linux 6.6 counts the entries that are left: removing a tree misses none.
t_folder_on_tmpfs() {
	mkdir shared
	mount -t tmpfs none shared
	mkdir -p shared/tree/folder{1..300}
	touch shared/tree/folder{1..300}/file shared/tree/file{1..300}
	check "rm -r" wisp run -v "$PWD/shared:/work" -- rm -r /work/tree
	equal "what is left" "$(ls shared)" ""
	check "no server is left" wait_until no_server
	umount shared
}

# Of whom files are on the host: of the guest's user with uid=map, and otherwise of the user who started wisp.
t_folder_owners() {
	local as_user
	mkdir -m 777 mapped squashed mine user
	cp "$foldercheck" mapped/
	check create wisp create -q -n box -v "$PWD/mapped:/mapped,uid=map" -v "$PWD/squashed:/squashed"
	check "what programs do" wisp exec box -- sh -c 'mkdir /mapped/check && /mapped/foldercheck /mapped/check devices' >said
	sed 's/^/# /' said
	# shellcheck disable=SC2016 # the guest's shell
	equal "in the guest" "$(wisp exec -u 1000:1001 box -- sh -c 'for d in mapped squashed; do
		echo x >/$d/file && mkdir /$d/dir && ln -s x /$d/link && stat -c "%u %g" /$d/file; done')" "1000 1001
0 0"
	equal "mapped" "$(cd mapped && stat -c '%u %g' file dir link | uniq)" "1000 1001"
	equal "squashed" "$(cd squashed && stat -c '%u %g' file dir link | uniq)" "$(id -u) $(id -g)"
	# Root of the guest gives a file away, and its users have the rights that their ids give them.
	check chown wisp exec box -- sh -c 'chown 7:8 /mapped/file && chmod 600 /mapped/file'
	equal "given away" "$(stat -c '%u %g %a' mapped/file)" "7 8 600"
	expect 1 "Permission denied" wisp exec -u 1000 box -- cat /mapped/file
	equal "its owner" "$(wisp exec -u 7 box -- cat /mapped/file)" x
	check stop wisp stop box
	check rm wisp rm box
	# An ordinary user's folder is that user's, and the guest's owners are not for that user to choose.
	chmod 755 "$area" .
	as_user="setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nowhere WISP_STATE=$PWD/user/state"
	# shellcheck disable=SC2086 # words
	check run $as_user wisp run -u 1000 -v "$PWD/mine:/mine" -- sh -c 'echo x >/mine/file && mkdir /mine/dir'
	equal "of the user" "$(cd mine && stat -c '%u %g' file dir | uniq)" "65534 65534"
	# shellcheck disable=SC2086
	expect 125 "only root can map" $as_user wisp run -v "$PWD/mine:/mine,uid=map" -- true
	check "no server is left" wait_until no_server
}

t_folder_coherence() {
	mkdir shared
	echo one >shared/f
	check create wisp create -q -n box -v "$PWD/shared:/work" -v "$PWD/shared:/ro:ro" -v "$PWD/shared/f:/etc/given"
	equal "servers" "$(servers)" 3
	equal "what inspect says" "$(wisp inspect box | grep -cF "\"folders\":[{\"path\":\"$PWD/shared\",\"guest\":\"/work\",\"read_only\":false,\"uid\":\"squash\",\"cache\":\"auto\"},{\"path\":\"$PWD/shared\",\"guest\":\"/ro\",\"read_only\":true")" 1
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

# With cache=always the guest sees what it does itself, and otherwise what it knows: it asks for nothing twice.
t_folder_cache_always() {
	mkdir -p shared/d given
	cp "$foldercheck" shared/
	echo one | tee shared/f >given/f
	check create wisp create -q -n box -v "$PWD/shared:/work,cache=always" -v "$PWD/given:/ro:ro,cache=always" -v "$PWD/given/f:/etc/given:ro,cache=always"
	check "what programs do" wisp exec box -- sh -c 'mkdir /work/check && /work/foldercheck /work/check owners devices' >said
	sed 's/^/# /' said
	# shellcheck disable=SC2016 # the guest's shell
	equal "what the guest does" "$(wisp exec box -- sh -c 'exec 2>&1; cd /work/d && ls later; cat ../f; ls && echo 1 >later && ls && cat later && echo 2 >>later &&
		cat later && ln later other && stat -c "%h %s" other && echo new >x && mv x later && cat later other && stat -c %h other && rm other &&
		ls && truncate -s 1 later && wc -c <later && mkdir e && stat -c %h . && rmdir e && mv later .. && ls && ls ../later && rm ../later')" \
		"ls: later: No such file or directory
one
later
1
1
2
2 4
new
1
2
1
later
1
3
../later"
	knows='exec 2>&1; cat /work/f /ro/f /etc/given; ls /work/d /ro; ls /ro/new /work/new; ls -l /work/d /ro >/dev/null'
	known="one
one
one
/ro:
f

/work/d:
ls: /ro/new: No such file or directory
ls: /work/new: No such file or directory"
	equal "what the guest knows" "$(wisp exec box -- sh -c "$knows")" "$known"
	echo longer | tee shared/f shared/new shared/d/new given/new >given/f
	sleep 2
	equal "whatever the host changes" "$(wisp exec box -- sh -c "$knows")" "$known"
	check "it drops that" wisp exec box -- sh -c 'for i in 1 2 3; do echo 3 >/proc/sys/vm/drop_caches; done'
	known="longer
longer
/ro:
f
new

/work/d:
new
/ro/new
/work/new"
	knows=${knows/ \/etc\/given/}
	equal "and asks again" "$(wisp exec box -- sh -c "$knows; $knows")" "$known
$known"
	# What it does without wisp-fs, it does not ask for: a file that it may write to must still be opened.
	pkill -x wisp-fs
	equal "without a server" "$(wisp exec box -- sh -c "${knows/\/work\/f/}")" "${known#*
}"
	expect 1 "" wisp exec box -- cat /work/f
	check stop wisp stop box
	check rm wisp rm box
	check "no server is left" wait_until no_server
}

# It is for one guest: clones have it where none of them writes, and a snapshot does not.
t_folder_cache_of_clones() {
	mkdir shared
	echo one >shared/f
	check create wisp create -q -n box -v "$PWD/shared:/work,cache=always"
	expect 125 "cannot be forked" wisp fork box
	expect 125 "cannot be saved" wisp snapshot box box.snap
	check rm wisp rm -f box
	check create wisp create -q -n box -v "$PWD/shared:/work:ro,cache=always"
	equal "a file" "$(wisp exec box -- cat /work/f)" one
	expect 125 "cannot be saved" wisp snapshot box box.snap
	check fork wisp fork -n twin box
	for name in twin box; do
		equal "in $name" "$(wisp exec "$name" -- sh -c 'ls /work; cat /work/f')" "f
one"
	done
	check rm wisp rm -f box twin
	# A snapshot of one without it can have it when it starts, and then sees what has changed.
	check create wisp create -q -n box -v "$PWD/shared:/work:ro"
	equal "a file" "$(wisp exec box -- sh -c 'cat /work/f; ls /work/new' 2>/dev/null)" one
	check snapshot wisp snapshot -q --stop box box.snap
	check rm wisp rm box
	echo two | tee shared/f >shared/new
	check restore wisp create -q --from box.snap -n box -v "$PWD/shared:/work:ro,cache=always"
	equal "at once" "$(wisp exec box -- cat /work/f /work/new)" "two
two"
	echo three >shared/f
	sleep 2
	equal "and kept" "$(wisp exec box -- stat -c %s /work/f)" 4
	check stop wisp stop box
	check rm wisp rm box
	check "no server is left" wait_until no_server
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

# What a program has open goes on in a restored machine, and what the host changed meanwhile is seen at once.
t_folder_snapshots() {
	mkdir -p shared/d
	echo one >shared/f
	echo one >shared/p
	echo removed >shared/r
	check create wisp create -q -n box -v "$PWD/shared:/work" -v "$PWD/shared/p:/etc/given:ro"
	# Each line of its input is answered from the files that it has open, and its directory.
	# shellcheck disable=SC2016 # the guest's shell
	check program wisp exec -d box -- sh -c 'cd /work/d && exec 3>>/work/log 4<../r 5</work/f && while :; do
		[ -e go ] && { rm go; cat <&5; cat <&4; echo "said $(cat here)" >&3; }; sleep 1; done' >said
	equal "a file, before" "$(wisp exec box -- cat /work/p /etc/given)" "one
one"
	equal "no name, before" "$(wisp exec box -- sh -c 'ls /work/later; echo $?' 2>/dev/null)" 1
	check snapshot wisp snapshot -q box box.snap
	check stop wisp stop box
	check rm wisp rm box
	echo later >shared/later
	echo here >shared/d/here
	echo longer | tee shared/f >shared/p
	rm shared/r
	expect 125 "has a folder of the host at /work: give it one" wisp run --from box.snap -- true
	expect 125 "has a folder of the host at /etc/given" wisp run --from box.snap -v "$PWD/shared:/work" -- true
	expect 125 "has no folder at /more" wisp run --from box.snap -v "$PWD/shared:/work" -v "$PWD/shared/p:/etc/given:ro" -v "$PWD:/more" -- true
	expect 125 "writes to the folder at /work" wisp run --from box.snap -v "$PWD/shared:/work:ro" -v "$PWD/shared/p:/etc/given:ro" -- true
	check restore wisp create -q --from box.snap -n again -v "$PWD/shared:/work" -v "$PWD/shared/p:/etc/given:ro"
	equal "files, at once" "$(wisp exec again -- cat /work/later /work/p /etc/given)" "later
longer
longer"
	expect 1 "No such file" wisp exec again -- cat /work/r
	sleep 1
	equal "a file that is open" "$(wisp exec again -- cat /work/f)" longer
	touch shared/d/go
	check "the program goes on" wait_until grep -qx "said here" shared/log
	equal "the guest writes" "$(wisp exec again -- sh -c 'echo guest >/work/new && cat /work/new'; cat shared/new)" "guest
guest"
	# And so does a snapshot of what was restored.
	check "snapshot again" wisp snapshot -q again again.snap
	check stop wisp stop again
	check rm wisp rm again
	mkdir other
	echo other >other/f
	equal "another folder" "$(wisp run --from again.snap -v "$PWD/other:/work" -v "$PWD/shared/p:/etc/given:ro" -- sh -c 'ls /work; cat /work/f; echo x >/work/x')" "f
other"
	equal "what it wrote" "$(cat other/x)" x
	check "no server is left" wait_until no_server
}

t_folder_clones() {
	mkdir -p shared/d
	echo one >shared/f
	check create wisp create -q -n box -v "$PWD/shared:/work"
	# shellcheck disable=SC2016 # the guest's shell
	check program wisp exec -d box -- sh -c 'cd /work/d && exec 3>>/work/log && while :; do
		[ -e "go-$(hostname)" ] && { rm "go-$(hostname)"; echo "said $(hostname)" >&3; }; sleep 1; done' >said
	check fork wisp fork -n c --count 2 box
	equal "servers" "$(servers)" 3
	touch shared/d/go-box shared/d/go-c-1 shared/d/go-c-2
	for name in box c-1 c-2; do
		check "$name goes on" wait_until grep -qx "said $name" shared/log
	done
	check "a clone writes" wisp exec c-1 -- sh -c 'echo two >/work/f'
	sleep 1
	equal "and the others see it" "$(wisp exec c-2 -- cat /work/f; wisp exec box -- cat /work/f)" "two
two"
	check "stop" wisp stop c-1
	equal "servers" "$(servers)" 2
	# Another folder at its place is not taken for it, and there is no clone.
	mv shared moved && mkdir shared
	expect 125 "the folder /work is another one" wisp fork box
	equal "servers" "$(servers)" 2
	equal "the source goes on" "$(wisp exec box -- cat /work/f)" two
	rmdir shared
	expect 125 "cannot share" wisp fork box
	check stop wisp stop c-2
	check stop wisp stop box
	check rm wisp rm box
	check "no server is left" wait_until no_server
}

# A program of the guest serves another file system over the folder, and is frozen when the agent drops what it knows.
t_folder_below_another() {
	mkdir shared
	cp "$area/tests/fusecheck" shared/
	echo one >shared/f
	check create wisp create -q -n box -v "$PWD/shared:/work" -v "$PWD/shared:/more"
	check program wisp exec -d box -- /work/fusecheck /work >/dev/null
	check "it serves" wait_until wisp exec box -- grep -q ^fusecheck /proc/mounts
	equal "the folder is hidden" "$(wisp exec box -- sh -c 'ls /work/f; echo $?' 2>/dev/null)" 1
	equal "no name, before" "$(wisp exec box -- sh -c 'ls /more/later; echo $?' 2>/dev/null)" 1
	check snapshot wisp snapshot -q --stop box box.snap
	check rm wisp rm box
	echo later >shared/later
	check restore timeout 120 wisp create -q --from box.snap -n again -v "$PWD/shared:/work" -v "$PWD/shared:/more"
	equal "it goes on" "$(wisp exec again -- sh -c 'ls /work/f; echo $?; cat /more/later' 2>/dev/null)" "1
later"
	check unmount wisp exec again -- umount /work
	equal "the folder" "$(wisp exec again -- cat /work/f /work/later)" "one
later"
	# It may be unmounted too, and is then not missed.
	check unmount wisp exec again -- umount /work
	check fork timeout 120 wisp fork -n twin again
	equal "a clone" "$(wisp exec twin -- cat /more/f)" one
	check stop wisp stop twin
	check stop wisp stop again
	check rm wisp rm again
	check "no server is left" wait_until no_server
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
	# It goes on in a clone and a restored machine, which must have the same one.
	check create wisp create -q -n box -v "$PWD/tree:/"
	check "a file in memory" wisp exec box -- sh -c 'echo kept >/etc/kept; ls -R /etc /bin >/dev/null'
	check fork wisp fork -n twin box
	equal "a clone" "$(wisp exec twin -- sh -c 'cat /etc/kept; ls /bin/sh')" "kept
/bin/sh"
	check stop wisp stop twin
	check snapshot wisp snapshot -q --stop box box.snap
	check rm wisp rm box
	equal "a restored machine" "$(wisp run --from box.snap -v "$PWD/tree:/" -- sh -c 'cat /etc/kept; ls /bin/sh')" "kept
/bin/sh"
	mkdir other
	expect 125 "the folder / is another one" wisp run --from box.snap -v "$PWD/other:/" -- true
}
