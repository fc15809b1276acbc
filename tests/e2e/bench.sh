# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# wisp bench: every benchmark once and small, what goes wrong, and ^C.

# measure NAME OPTION...: `wisp bench NAME` succeeds and writes all it can; what it prints is in out, JSON in j, CSV in c.
measure() {
	local name=$1
	shift
	wisp bench "$name" --warmup 0 --json j --csv c "$@" >out 2>err </dev/null || fail "bench $name: $(head -c 300 err)"
	grep -q "^{\"schema\":\"wisp-bench-1\",\"benchmark\":\"$name\",\"interrupted\":false," j || fail "bench $name: $(head -c 300 j)"
	check "bench $name says on what it measured" grep -q "wisp .* on " out
	[ "$(wc -l <c)" -gt 1 ] || fail "bench $name wrote no CSV"
}

# has NAME N: the metric has N samples.
has() {
	grep -qE "\"name\":\"$1\",[^{]*\"samples\":\[[^]]*\],\"summary\":\{\"n\":$2," j || fail "no $2 samples of $1 in $(head -c 2000 j)"
	check "$1 is printed" grep -q "^$1 " out
}

t_bench_stages() {
	measure boot -n 2
	check "two runs" grep -q '"completed":2,"failed":0' j
	check "the last stage" grep -q ",2,gone," c
	measure compare -n 2 --a '-m 64' --b '-m 128'
	check "a ratio" grep -q '"comparison":\[{"name":"[a-z_ ]*","ratio_ppm":[0-9]' j
	measure floor -n 2 --svg s.svg --perfetto p.json
	check "a drawing" grep -q "</svg>" s.svg
	check "a trace" grep -q traceEvents p.json
}

t_bench_metrics() {
	measure exec -n 2
	has ping 2
	has stdout 2
	measure density -n 2
	has start 2
	has "monitor memory" 2
}

t_bench_blk() {
	mkdir tmp
	TMPDIR=$PWD/tmp measure blk -n 1
	has read-4k-1 1
	has "write-1m p99" 1
	[ -z "$(ls -A tmp)" ] || fail "left $(ls -A tmp)"
	head -c 16M /dev/urandom >disk
	cp disk before
	measure blk -n 2 --disk disk
	has read-1m 2
	check "a disk that may not be overwritten is not" cmp disk before
	check "nor said to be" sh -c '! grep -q write- j'
	measure blk -n 1 --disk disk --overwrite
	has write-4k-32 1
	check "a disk that may be overwritten is" sh -c '! cmp -s disk before'
	measure blk -n 1 --disk disk,ro --overwrite
	check "a read-only one cannot be" sh -c '! grep -q write- j'
	head -c 1M disk >small
	expect 125 "No space left" wisp bench blk -n 1 --disk small
}

# System calls are counted where tracefs is: then of each monitor.
counts_syscalls() {
	[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing 2>/dev/null
	[ -r /sys/kernel/tracing/events/raw_syscalls/sys_enter/id ]
}

t_bench_vsock() {
	measure vsock -n 2
	has to-host 2
	has to-guest 2
	has connections 2
	has round-trips 2
	has "connections interrupts" 2
	has "tcp to-host" 2
	has "tcp to-guest" 2
	has "tcp connections" 2
	has "tcp round-trips" 2
	if counts_syscalls; then
		measure vsock -n 1
		has "connections syscalls" 1
		has "to-guest syscalls" 1
	fi
	measure vsock -n 1 --cycles 20
	has connections 1
}

# A peer is any command whose output is that of bench-guest.
t_bench_peer() {
	head -c 16M /dev/zero >disk
	cat >peer <<-'END'
		#!/bin/sh
		echo 'a kernel speaks'
		for op in read-4k-1 read-4k-32 read-1m; do
			printf 'wisp-bench: begin %s\r\nwisp-bench: end %s 1000 4096000 500000000 70000 1000\r\n' $op $op
		done
		exec sleep 1000
	END
	chmod 755 peer
	measure blk -n 2 --disk disk --peer ./peer
	has read-1m 2
	if counts_syscalls; then
		# A peer that goes on with system calls after it said both lines at once.
		sed 's/exec sleep 1000/while :; do : <peer; done/' peer >busy
		chmod 755 busy
		measure blk -n 2 --disk disk --peer ./busy
		check "the peer's system calls" grep -q '"name":"read-1m syscalls",[^{]*"samples":[^{]*{"n":2,[^{]*{"samples":\[[0-9]' j
	fi
	check "the ratio" grep -q '"wisp_to_peer":{"ratio_ppm":[0-9]' j
	check "is printed" grep -q "the peer's .* wisp / peer " out
	check "no peer is left" sh -c '! pgrep -x "sleep|busy"'
	expect 125 "the peer ended early" wisp bench blk -n 1 --warmup 0 --disk disk --peer true --json j
	expect 125 "cannot start the peer './none'" wisp bench blk -n 1 --warmup 0 --disk disk --peer ./none --json j
	expect 125 "reported: no disk" wisp bench blk -n 1 --disk disk --peer 'echo wisp-bench: fail no disk' --json j
}

# ... or one that says when its kernel and its init begin.
t_bench_boot_peer() {
	cat >peer <<-'END'
		#!/bin/sh
		echo 'wisp-bench: begin kernel'
		sleep 0.5
		printf 'a kernel speaks\r\nwisp-bench: begin init\r\n'
		exec sleep 1000
	END
	chmod 755 peer
	measure boot -n 2 --peer ./peer
	has first-byte 2
	check "is printed" grep -q "the peer's .* wisp / peer " out
	# arm64's Image has no symbol at which wisp could see that its kernel is entered.
	if [ "$(uname -m)" = x86_64 ]; then
		has kernel 2
		check "the ratio" grep -q '"name":"kernel",.*"wisp_to_peer":{"ratio_ppm":[0-9]' j
		check "the peer's kernel takes 0.5 s, or seems to take less for being read late" grep -qE '"name":"kernel",.*"peer":\{"samples":\[([2-9][0-9]{8}|[0-9]{10,}),' j
	fi
	check "no peer is left" sh -c '! pgrep -x sleep'
	measure boot -n 1 --peer 'echo wisp-bench: begin init'
	has first-byte 1
	check "a kernel that says nothing is not compared" sh -c '! grep -A1 "^kernel " out | grep -q "the peer.s"'
	expect 125 "the peer ended early" wisp bench boot -n 1 --warmup 0 --peer 'echo wisp-bench: begin kernel'
	expect 125 "reported: no" wisp bench boot -n 1 --warmup 0 --peer 'echo wisp-bench: fail no'
}

# A kernel with tests/bench/entry's entry point, and bench-guest as its init, say so in another monitor.
t_bench_boot_qemu() {
	command -v qemu-system-x86_64 >/dev/null || return 0
	expect 1 "cannot be read" "$area/bench/entry" none kernel
	head -c 4096 /dev/zero >zeros
	expect 1 "not an ELF file" "$area/bench/entry" zeros kernel
	"$area/bench/entry" "$LIB/vmlinux-up" kernel || fail "no entry point"
	measure boot -n 1 --peer "qemu-system-x86_64 -M microvm,acpi=off,pit=off,pic=off,rtc=off -accel kvm -cpu host -m 128
		-nodefaults -display none -no-reboot -serial stdio -kernel kernel -initrd $area/bench/guest.cpio
		-append 'quiet reboot=t panic=-1 boot'"
	has kernel 1
	equal "ratios in $(cat out)" "$(grep -c "wisp / peer" out)" 3
}

# The payload says to any monitor that it runs, as such a kernel does.
t_bench_floor_peer() {
	measure floor -n 2 --payload p --peer "sh -c 'echo first words; echo wisp-bench: begin kernel; exec sleep 1000'"
	has to_signal 2
	check "the ratio" grep -q '"wisp_to_peer":{"ratio_ppm":[0-9]' j
	check "is printed" grep -q "the peer's .* wisp / peer " out
	check "no peer is left" sh -c '! pgrep -x sleep'
	if command -v qemu-system-x86_64 >/dev/null; then
		measure floor -n 1 --payload p --peer "qemu-system-x86_64 -M microvm,acpi=off -accel tcg -m 32 -nodefaults
			-display none -serial stdio -kernel p"
		has to_signal 1
		check "the payload speaks in it" grep -q "the peer's .* wisp / peer " out
	fi
	expect 125 "the peer ended early; its last line: 'no room'" wisp bench floor -n 1 --peer 'echo no room'
	expect 125 "reported: no" wisp bench floor -n 1 --peer 'echo wisp-bench: fail no'
	expect 125 "cannot start the peer './none'" wisp bench floor -n 1 --peer ./none
	expect 125 "there are no stages" wisp bench floor -n 1 --peer true --svg s.svg
	expect 125 "only wisp bench vsock and blk have" wisp bench floor -n 1 --peer true --peer-cid 5
	expect 125 "/no/vmm" wisp bench floor -n 1 --vmm /no/vmm --peer true
}

t_bench_mistakes() {
	local name
	echo junk >junk
	for name in 'boot --untraced' exec density blk vsock; do
		# shellcheck disable=SC2086 # words
		set -- $name
		expect 125 "give 1 to 100000" wisp bench "$@" -n 0
		expect 125 "cannot write" wisp bench "$@" -n 1 --json /no/folder/j
		expect 125 "too short to be a kernel" wisp bench "$@" -n 1 --kernel ./junk
	done
	expect 125 "too short to be a kernel" wisp bench compare -n 1 --a '' --b '--kernel ./junk' --untraced
	expect 125 "/no/vmm" wisp bench floor -n 1 --vmm /no/vmm
	measure floor -n 1
	expect 125 "No space left" sh -c 'wisp bench floor -n 1 --csv /dev/full >/dev/null'
}

progressed() { pgrep -x wisp-vmm >/dev/null; }

# ^C ends it soon, with what there is.
t_bench_interrupted() {
	local name pid code
	for name in exec blk; do
		# A script's background job ignores SIGINT, and so would wisp.
		env --default-signal=INT wisp bench $name -n 1000 --warmup 0 --json j >out 2>err </dev/null &
		pid=$!
		wait_until progressed
		sleep 2
		kill -INT $pid
		code=0
		wait $pid || code=$?
		equal "exit code of an interrupted $name ($(head -c 300 err))" $code 130
		check "$name says so" grep -q "interrupted: these are the runs until then" out
		check "the JSON too" grep -q '"interrupted":true' j
	done
}
