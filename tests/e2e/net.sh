# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Network cards: real clients and servers on the host and in the guest, over a tap device.

# make_tap NAME ADDRESS/PREFIX
make_tap() {
	modprobe tun 2>/dev/null
	ip tuntap add dev "$1" mode tap 2>/dev/null && ip addr add "$2" dev "$1" && ip link set "$1" up
}
# serve_files ADDRESS:PORT: a web server of the host, for the current folder
serve_files() {
	busybox httpd -f -p "$1" -h "$PWD" &
	server=$!
}
answers() { busybox ping -c 1 -W 5 "$@" >/dev/null; }
# carrier NAME: of the guest's card, 1 or 0
carrier() { wisp exec "$1" -- cat /sys/class/net/eth0/carrier </dev/null; }
has_carrier() { [ "$(carrier "$1")" = "$2" ]; }

# frame_bytes NAME to_guest|from_guest: how many bytes a frame of the card has on average
frame_bytes() {
	wisp stats --json "$1" | python3 -c '
import json, sys
net = json.load(sys.stdin)[0]["devices"]["net"]
print(net["bytes_" + sys.argv[1]] // net["operations_" + sys.argv[1]])' "$2"
}

has_no_address() { [ -z "$(wisp exec box -- ip -4 -o addr show eth0 </dev/null)" ]; }

t_net_static() {
	make_tap tap7 10.77.0.1/24 || { skipped="this host makes no tap device"; return; }
	local server sum way
	head -c 20000000 /dev/urandom >data
	sum=$(md5sum <data | cut -c 1-32)
	serve_files 10.77.0.1:8000
	check create wisp create -q -n box --net tap=tap7,mac=02:00:00:00:77:02,address=10.77.0.2/24,gateway=10.77.0.1,dns=10.77.0.1
	equal "MAC" "$(wisp exec box -- cat /sys/class/net/eth0/address </dev/null)" 02:00:00:00:77:02
	equal "MTU" "$(wisp exec box -- cat /sys/class/net/eth0/mtu </dev/null)" 1500
	equal "name server" "$(wisp exec box -- cat /etc/resolv.conf </dev/null)" "nameserver 10.77.0.1"
	equal "default route" "$(wisp exec box -- ip route </dev/null | sed -n 's/^default via \([^ ]*\) .*/\1/p')" 10.77.0.1
	equal "what inspect says" "$(wisp inspect box | grep -c '"net":"tap=tap7,mac=02:00:00:00:77:02,mtu=1500,address=10.77.0.2/24')" 1
	check "ping from the host" wait_until answers 10.77.0.2
	check "large packets" wait_until answers 10.77.0.2 -s 40000
	wisp exec box -- ping -c 3 -W 5 10.77.0.1 </dev/null >out || fail "ping from the guest: $(cat out)"
	equal "20 MB to the guest" "$(wisp exec box -- sh -c 'wget -qO- http://10.77.0.1:8000/data | md5sum' </dev/null | cut -c 1-32)" "$sum"
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; wget -qO /tmp/www/data http://10.77.0.1:8000/data; httpd -h /tmp/www' </dev/null
	equal "20 MB from the guest" "$(busybox wget -qO- http://10.77.0.2/data | md5sum | cut -c 1-32)" "$sum"
	python3 -c "
import urllib.request
for i in range(50):
    c = urllib.request.urlopen('http://10.77.0.2/data', timeout=60)
    c.read(1000)
    c.close()" || fail "fifty connections"
	wisp stats --json box | grep -q '"net":{"bytes_to_guest":4[0-9]\{7\}' || fail "stats say $(wisp stats --json box)"
	# Offloads are in use: the guest's driver has them, and a frame of many segments crosses whole. One segment has 1514 bytes.
	for way in to_guest from_guest; do
		echo "# bytes of a frame $way: $(frame_bytes box $way)"
		[ "$(frame_bytes box $way)" -gt 4000 ] || fail "frames $way have $(frame_bytes box $way) bytes"
	done
	# The interface goes away: the guest's link is down, and the sandbox runs on.
	ip link del tap7
	check "the link is down" wait_until has_carrier box 0
	grep -q "link is down" "$WISP_STATE/box/vmm.log" || fail "the log says nothing"
	kill "$server"
	check stop wisp stop box
	check rm wisp rm box
}

# with_tap NAME COMMAND...: runs it with descriptor 9 open to the tap device.
with_tap() {
	python3 -c '
import fcntl, os, struct, sys
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454ca, 0x2, 0x1000, 0x4000
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
os.dup2(tap, 9)
os.execvp(sys.argv[2], sys.argv[2:])' "$@"
}

# A tap device that root opens, for a wisp that is not root.
t_net_descriptor() {
	make_tap tap7 10.77.0.1/24 || { skipped="this host makes no tap device"; return; }
	local server sum
	local -a as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nowhere "WISP_STATE=$PWD/user/state")
	head -c 3000000 /dev/urandom >data
	sum=$(md5sum <data | cut -c 1-32)
	serve_files 10.77.0.1:8000
	chmod 755 "$area" .
	install -d -o 65534 -g 65534 user
	check create with_tap tap7 "${as_user[@]}" wisp create -q -n box --net fd=9,address=10.77.0.2/24
	in_box() { "${as_user[@]}" wisp exec box -- sh -c "$1" </dev/null; }
	equal "what inspect says" "$("${as_user[@]}" wisp inspect box | grep -c '"net":"tap=tap7,mac=[0-9a-f:]*,mtu=1500,address=10.77.0.2/24"')" 1
	check "ping from the host" wait_until answers 10.77.0.2
	in_box 'ping -c 3 -W 5 10.77.0.1' >out || fail "ping from the guest: $(cat out)"
	equal "3 MB to the guest" "$(in_box 'wget -qO- http://10.77.0.1:8000/data | md5sum' | cut -c 1-32)" "$sum"
	in_box 'mkdir /tmp/www; wget -qO /tmp/www/data http://10.77.0.1:8000/data; httpd -h /tmp/www' || fail "httpd"
	equal "3 MB from the guest" "$(busybox wget -qO- http://10.77.0.2/data | md5sum | cut -c 1-32)" "$sum"
	kill "$server"
	check stop "${as_user[@]}" wisp stop box
	check rm "${as_user[@]}" wisp rm box
	ip link del tap7
	rm -rf user
}

t_net_dhcp() {
	make_tap tap7 10.78.0.1/24 && make_tap tap8 10.78.1.1/24 || { skipped="this host makes no tap device"; return; }
	local server
	cat >udhcpd.conf <<-END
		start 10.78.0.50
		end 10.78.0.50
		interface tap7
		lease_file $PWD/leases
		pidfile $PWD/pid
		opt subnet 255.255.255.0
		opt router 10.78.0.1
		opt dns 10.78.0.1 9.9.9.9
		opt mtu 1400
		opt lease 20
	END
	: >leases
	busybox udhcpd -f udhcpd.conf 2>/dev/null &
	server=$!
	# The guest waits 5 seconds for an address, and this host may be slow.
	timeout 120 wisp run --net tap=tap7 -- sh -c 'i=0
		until ip -4 -o addr show eth0 | grep -q inet || [ $i = 60 ]; do sleep 1; i=$((i + 1)); done
		ip -4 addr show eth0; ip route; cat /etc/resolv.conf /sys/class/net/eth0/mtu; ping -c 3 -W 5 10.78.0.1' </dev/null >out || fail "the first guest failed: $(cat out)"
	for word in "inet 10.78.0.50/24" "default via 10.78.0.1" "nameserver 10.78.0.1" "nameserver 9.9.9.9" "^1400$" "[1-3] packets received"; do
		grep -q -- "$word" out || fail "the guest did not say $word: $(tail -n 20 out)"
	done
	# A lease is renewed before it ends, and lost at its end. A sandbox starts where no server answers.
	check create wisp create -q -n box --net tap=tap7
	sleep 25 # more than the lease
	check "renewed" wait_until answers 10.78.0.50
	kill "$server"
	wait "$server" 2>/dev/null
	check "the lease ends" wait_until has_no_address
	check "run without a server" timeout 120 wisp run --net tap=tap8 -- true </dev/null
	check stop wisp stop box
	check rm wisp rm box
	ip link del tap7
	ip link del tap8
}

t_net_of_clones() {
	make_tap tap7 10.79.0.1/24 && make_tap tap8 10.79.1.1/24 || { skipped="this host makes no tap device"; return; }
	check create wisp create -q -n box -m 96 --net tap=tap7,address=10.79.0.2/24
	check ping wait_until answers 10.79.0.2
	wisp fork box -n twin >/dev/null || fail "no clone"
	check "the clone's link is down" wait_until has_carrier twin 0
	check "the source's is not" wait_until has_carrier box 1
	check "it is still there" wait_until answers 10.79.0.2
	check snapshot wisp snapshot -q box net.snap
	check stop wisp stop box
	check rm wisp rm box
	expect 125 "keeps its MAC" wisp run --from net.snap --net tap=tap7,mtu=1400 -- true
	check "restored without" wisp create -q -n again --from net.snap
	check "its link is down" wait_until has_carrier again 0
	wisp rm -f again 2>/dev/null
	check "restored with a tap device" wisp create -q -n again --from net.snap --net tap=tap7
	check "its link is up" wait_until has_carrier again 1
	check "it answers" wait_until answers 10.79.0.2
	wisp rm -f again twin 2>/dev/null
	check "a snapshot without" wisp create -q -n box -m 96
	check snapshot wisp snapshot -q box no-net.snap
	expect 125 "no network card" wisp run --from no-net.snap --net tap=tap7 -- true
	wisp rm -f box 2>/dev/null
	ip link del tap7
	ip link del tap8
}

# Two processors of the guest with a queue each; and so in a clone, and after a restore.
t_net_queues() {
	modprobe tun 2>/dev/null
	ip tuntap add dev tap7 mode tap multi_queue 2>/dev/null && ip addr add 10.77.0.1/24 dev tap7 && ip link set tap7 up ||
		{ skipped="this host makes no tap device with several queues"; return; }
	local server sum jobs
	head -c 20000000 /dev/urandom >data
	sum=$(md5sum <data | cut -c 1-32)
	serve_files 10.77.0.1:8000
	check create wisp create -q -n box -c 2 -m 128 --net tap=tap7,address=10.77.0.2/24,queues=2
	equal "queues" "$(wisp exec box -- ls /sys/class/net/eth0/queues </dev/null | paste -sd ' ')" "rx-0 rx-1 tx-0 tx-1"
	check "ping from the host" wait_until answers 10.77.0.2
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; wget -qO /tmp/www/data http://10.77.0.1:8000/data; httpd -h /tmp/www' </dev/null
	# Several connections, which the two kernels spread over the queues.
	for i in 1 2 3 4; do busybox wget -qO- http://10.77.0.2/data | md5sum >"sum$i" & jobs[i]=$!; done
	wait "${jobs[@]}"
	equal "four times 20 MB from the guest" "$(sort -u sum? | cut -c 1-32)" "$sum"
	equal "20 MB to the guest, by both processors" "$(wisp exec box -- sh -c 'for cpu in 1 2; do
		taskset $cpu wget -qO- http://10.77.0.1:8000/data | md5sum & done; wait' </dev/null | sort -u | cut -c 1-32)" "$sum"
	wisp fork box -n twin >/dev/null || fail "no clone"
	check "the clone's link is down" wait_until has_carrier twin 0
	check snapshot wisp snapshot -q box queues.snap
	wisp rm -f box twin 2>/dev/null
	check restore wisp create -q -n again --from queues.snap --net tap=tap7
	check "its link is up" wait_until has_carrier again 1
	check "it answers" wait_until answers 10.77.0.2
	equal "20 MB from the restored guest" "$(busybox wget -qO- http://10.77.0.2/data | md5sum | cut -c 1-32)" "$sum"
	expect 125 "or one with several queues" wisp run --net tap=tap7 -- true
	kill "$server"
	wisp rm -f again 2>/dev/null
	ip link del tap7
}

# A host with a default route, and a web server that is not the host itself.
make_internet() {
	ip link add dummy7 type dummy && ip addr add 192.0.2.10/24 dev dummy7 && ip link set dummy7 up &&
		ip route add default via 192.0.2.1 dev dummy7 && ip netns add server &&
		ip link add to-server type veth peer name eth0 netns server && ip addr add 10.50.0.1/24 dev to-server &&
		ip link set to-server up && ip -n server addr add 10.50.0.2/24 dev eth0 && ip -n server link set eth0 up &&
		ip -n server route add default via 10.50.0.1
}
end_internet() {
	ip netns del server
	ip link del dummy7
}
pgrep_passt() { pgrep -x 'passt(\.avx2)?'; }
no_passt() { ! pgrep_passt >/dev/null; }
# Its user, its capabilities, and whether it has a filter of system calls
passt_status() { awk '/^(Uid|CapEff|Seccomp):/ { printf "%s%s ", $1, $2 }' "/proc/$(pgrep_passt)/status"; }
passt_is_confined() { [ "$(passt_status)" = "Uid:65534 CapEff:0000000000000000 Seccomp:2 " ]; }

# As an ordinary user, who may make no tap device.
t_net_passt() {
	command -v passt >/dev/null || { skipped="passt is not installed"; return; }
	make_internet || { skipped="this host makes no networks"; return; }
	local server sum as_user
	head -c 20000000 /dev/urandom >data
	sum=$(md5sum <data | cut -c 1-32)
	ip netns exec server busybox httpd -f -p 10.50.0.2:8000 -h "$PWD" &
	server=$!
	chmod 755 "$area" .
	install -d -o 65534 -g 65534 user
	as_user="setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nowhere WISP_STATE=$PWD/user/state"
	# shellcheck disable=SC2086 # words
	check create $as_user wisp create -q -n box --net passt,dns=9.9.9.9 -p 18080:80 -p 0:7001 -p "$PWD/user/s.sock:7000" -p 18081:81 2>said
	equal "lines about ports that were chosen" "$(grep -c '^wisp: 127.0.0.1:[0-9]* leads to port 7001 of the guest$' said), $(wc -l <said)" "1, 1"
	# shellcheck disable=SC2086
	in_box() { $as_user wisp exec box -- sh -c "$1" </dev/null; }
	equal "the guest's address" "$(in_box 'ip -4 -o addr show eth0' | grep -o 'inet [^ ]*')" "inet 192.0.2.10/24"
	equal "MTU" "$(in_box 'cat /sys/class/net/eth0/mtu')" 65520
	equal "name server" "$(in_box 'cat /etc/resolv.conf')" "nameserver 9.9.9.9"
	equal "20 MB to the guest" "$(in_box 'wget -qO- http://10.50.0.2:8000/data | md5sum' | cut -c 1-32)" "$sum"
	in_box 'mkdir /tmp/www; wget -qO /tmp/www/data http://10.50.0.2:8000/data; httpd -h /tmp/www' || fail "httpd"
	equal "20 MB from the guest" "$(busybox wget -qO- http://127.0.0.1:18080/data | md5sum | cut -c 1-32)" "$sum"
	for _ in 1 2 3; do
		equal "and again" "$(busybox wget -qO- http://127.0.0.1:18080/data | head -c 1000 | md5sum)" "$(head -c 1000 data | md5sum)"
	done
	# shellcheck disable=SC2086
	equal "passt's ports are not the monitor's" "$($as_user wisp port ls box | awk '{ printf "%s ", $2 }')" "GUEST 7001 7000 "
	in_box 'httpd -p 127.0.0.1:7001 -h /tmp/www' || fail "httpd"
	equal "a port that was chosen" "$(busybox wget -qO- "http://127.0.0.1:$(sed 's/^[^:]*: [^:]*:\([0-9]*\) .*/\1/' said)/data" | md5sum | cut -c 1-32)" "$sum"
	wait_until passt_is_confined || fail "passt is $(passt_status)"
	# It ends with the monitor; sigkill_leaves_nothing kills that.
	# shellcheck disable=SC2086
	check stop $as_user wisp stop box
	check "passt ended" wait_until no_passt
	# shellcheck disable=SC2086
	check rm $as_user wisp rm box
	# Root's passt is nobody's process, and a guest whose passt has ended runs on.
	check create wisp create -q -n box --net passt
	wait_until passt_is_confined || fail "root's passt is $(passt_status)"
	kill -9 "$(pgrep_passt)"
	check "the link is down" wait_until has_carrier box 0
	check stop wisp stop box
	check rm wisp rm box
	kill "$server"
	end_internet
	expect 125 "could not start" wisp run --net passt -- true # there is no route to anywhere
	rm -rf user
}

# The guide's rule that keeps guests of a user off the host, for nobody, as whom root's passt runs.
t_net_passt_kept_off_the_host() {
	command -v passt >/dev/null || { skipped="passt is not installed"; return; }
	nft list tables >/dev/null 2>&1 || { skipped="this host has no nftables"; return; }
	make_internet || { skipped="this host makes no networks"; return; }
	local servers=()
	echo host >file
	busybox httpd -f -p 10.50.0.1:8000 -h "$PWD" & servers+=($!)
	ip netns exec server busybox httpd -f -p 10.50.0.2:8000 -h "$PWD" & servers+=($!)
	check create wisp create -q -n box --net passt,dns=9.9.9.9 -p 18080:80
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; echo guest >/tmp/www/file; httpd -h /tmp/www' </dev/null
	from_box() { wisp exec --timeout 30s box -- wget -qO- "http://$1/file" </dev/null 2>&1; }
	equal "the host's other address, without the rule" "$(from_box 10.50.0.1:8000)" host
	sed -n '/^    table inet passt {/,/^    }/ { s/alice/nobody/; p }' "$source_dir/docs/guide/network.md" >rule
	check "the rule" nft -f rule
	# passt may leave a connection that was refused to the guest's patience.
	[ "$(from_box 10.50.0.1:8000)" != host ] || fail "the host's other address is reached"
	equal "another machine" "$(from_box 10.50.0.2:8000)" host
	equal "a port" "$(busybox wget -qO- http://127.0.0.1:18080/file)" guest
	nft delete table inet passt
	kill "${servers[@]}"
	check stop wisp stop box
	check rm wisp rm box
	end_internet
}

# A router's advertisement of 2001:db8:78::/64, with the address fe80::1 of NAME.
announce() {
	python3 - "$1" <<-'END'
		import socket, struct, sys
		s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
		s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
		index = socket.if_nametoindex(sys.argv[1])
		s.bind(("fe80::1", 0, 0, index))
		prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xc0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:78::"))
		s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, index))
	END
}
# The guest's address in this prefix
address6() { wisp exec "$1" -- ip -6 -o addr show dev eth0 scope global </dev/null | grep -o "$2[0-9a-f:]*"; }
hears_router() { announce tap8 && has_address6 2001:db8:78:; }
has_address6() { address6 box "$1" >/dev/null; }

# Only the kernel of `make kernel-full` has IPv6.
t_net_ipv6() {
	[ -e "$LIB/vmlinux-full" ] || { skipped="the kernel full is not built"; return; }
	make_tap tap7 10.77.0.1/24 && make_tap tap8 10.78.0.1/24 || { skipped="this host makes no tap device"; return; }
	local server sum
	head -c 20000000 /dev/urandom >data
	sum=$(md5sum <data | cut -c 1-32)
	ip -6 addr add 2001:db8:77::1/64 dev tap7 nodad
	ip -6 addr add fe80::1/64 dev tap8 nodad
	busybox httpd -f -p '[2001:db8:77::1]:8000' -h "$PWD" &
	server=$!
	# Static addresses of both kinds
	check create wisp create -q -n box -c 2 --kernel full \
		--net tap=tap7,address=10.77.0.2/24,address6=2001:db8:77::2/64,gateway6=2001:db8:77::1,dns=10.77.0.1,dns6=2001:db8:77::53
	equal "name servers" "$(wisp exec box -- cat /etc/resolv.conf </dev/null)" "nameserver 10.77.0.1
nameserver 2001:db8:77:0:0:0:0:53"
	equal "default route" "$(wisp exec box -- ip -6 route show default </dev/null | sed -n 's/^default via \([^ ]*\) .*/\1/p')" 2001:db8:77::1
	check "IPv4" wait_until answers 10.77.0.2
	check "ping from the host" wait_until answers 2001:db8:77::2
	check "large packets" wait_until answers -s 40000 2001:db8:77::2
	equal "20 MB to the guest" "$(wisp exec box -- sh -c 'wget -qO- http://[2001:db8:77::1]:8000/data | md5sum' </dev/null | cut -c 1-32)" "$sum"
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; wget -qO /tmp/www/data http://[2001:db8:77::1]:8000/data; httpd -p [::]:80 -h /tmp/www' </dev/null
	equal "20 MB from the guest" "$(busybox wget -qO- 'http://[2001:db8:77::2]/data' | md5sum | cut -c 1-32)" "$sum"
	wisp rm -f box 2>/dev/null
	kill "$server"
	# IPv6 alone
	check create wisp create -q -n box --kernel full --net tap=tap7,address6=2001:db8:77::3/64
	check "ping from the host" wait_until answers 2001:db8:77::3
	check "no IPv4" has_no_address
	wisp rm -f box 2>/dev/null
	# What a router announces
	check create wisp create -q -n box --kernel full --net tap=tap8,address=10.78.0.2/24
	check "an address" wait_until hears_router
	equal "default route" "$(wisp exec box -- ip -6 route show default </dev/null | sed -n 's/^default via \([^ ]*\) .*/\1/p')" fe80::1
	ip -6 addr add 2001:db8:78::1/64 dev tap8 nodad
	check "ping from the host" wait_until answers "$(address6 box 2001:db8:78:)"
	wisp rm -f box 2>/dev/null
	ip link del tap7
	ip link del tap8
}

# Where the host has IPv6, passt announces its network.
t_net_passt_ipv6() {
	[ -e "$LIB/vmlinux-full" ] || { skipped="the kernel full is not built"; return; }
	command -v passt >/dev/null || { skipped="passt is not installed"; return; }
	make_internet || { skipped="this host makes no networks"; return; }
	local server
	ip -6 addr add 2001:db8:1::10/64 dev dummy7 nodad
	ip -6 route add default via 2001:db8:1::1 dev dummy7
	ip -6 addr add 2001:db8:50::1/64 dev to-server nodad
	ip -n server -6 addr add 2001:db8:50::2/64 dev eth0 nodad
	ip -n server -6 route add default via 2001:db8:50::1
	echo hello >file
	ip netns exec server busybox httpd -f -p '[2001:db8:50::2]:8000' -h "$PWD" &
	server=$!
	check create wisp create -q -n box --kernel full --net passt -p '[::1]:18080:80'
	check "an address" wait_until has_address6 2001:db8:1:
	equal "from the server" "$(wisp exec box -- wget -qO- 'http://[2001:db8:50::2]:8000/file' </dev/null)" hello
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; echo guest >/tmp/www/file; httpd -p [::]:80 -h /tmp/www' </dev/null
	equal "from the guest" "$(busybox wget -qO- 'http://[::1]:18080/file')" guest
	check stop wisp stop box
	check rm wisp rm box
	kill "$server"
	end_internet
}

t_net_refused() {
	modprobe tun 2>/dev/null
	expect 125 "no network interface" wisp run --net tap=nothing -- true
	expect 125 "not a tap device" wisp run --net tap=lo -- true
	expect 125 "requires its name or its descriptor" wisp run --net mtu=1500 -- true
	expect 125 "six hexadecimal bytes" wisp run --net tap=lo,mac=1:2:3:4:5:6 -- true
	expect 125 "not the address of a single card" wisp run --net tap=lo,mac=01:00:00:00:00:01 -- true
	expect 125 "and its prefix" wisp run --net tap=lo,address=10.0.0.1 -- true
	expect 125 "not in the network" wisp run --net tap=lo,address=10.0.0.1/24,gateway=10.1.0.1 -- true
	expect 125 "static address" wisp run --net tap=lo,dns=10.1.0.1 -- true
	expect 125 "has no tap device" wisp run --net passt,tap=lo -- true
	expect 125 "MTU" wisp run --net tap=lo,mtu=67 -- true
	expect 125 "not that of a tap device" wisp run --net fd=9 -- true 9<>/dev/null
	expect 125 "is not open" wisp run --net fd=77 -- true
	expect 125 "one network card" wisp run --net tap=a --net tap=b -- true
	no_vmm || fail "a monitor is left"
}
