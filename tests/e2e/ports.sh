# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Ports of the host that lead to servers in the guest: real clients and servers at both ends (portcheck.c).

portcheck=$area/tests/portcheck

# serve_ports NAME PORT: portcheck serves in the guest.
serve_ports() {
	check "the program is in the guest" wisp cp -q "$portcheck" "$1:/tmp/portcheck"
	check "the server is started" wisp exec --detach "$1" -- /tmp/portcheck serve "$2" >session
	wait_until wisp exec "$1" -- sh -c "cat /proc/net/tcp | grep -q ':$(printf %04X "$2") .* 0A '" || fail "nobody listens"
}
# port_of NAME GUEST-PORT: the host's, of 127.0.0.1
port_of() { wisp port ls "$1" | awk -v to="$2" '$2 == to && /^127/ { sub(".*:", "", $1); print $1; exit }'; }

t_ports() {
	local port
	check create wisp create -q -n box -p 0:7000 -p "$PWD/unix.sock:7000" -p 0:7001 2>said
	equal "lines about ports that were chosen" "$(grep -c '^wisp: 127.0.0.1:[0-9]* leads to port 700[01] of the guest$' said)" 2
	equal "the mode of the socket" "$(stat -c %a unix.sock)" 600
	serve_ports box 7000
	port=$(port_of box 7000)
	check "half-close" "$portcheck" half "$port"
	check "half-close of a Unix socket" "$portcheck" half "$PWD/unix.sock"
	check "slow readers" "$portcheck" slow "$port"
	check "a server that resets" "$portcheck" reset "$port"
	check "no server" "$portcheck" reset "$(port_of box 7001)"
	check "a thousand connections" "$portcheck" many "$port" 1000
	check "and again" "$portcheck" many "$PWD/unix.sock" 300
	# Commands have places of their own.
	equal "a command" "$(wisp exec box -- echo hi)" hi
	check stop wisp stop box
	[ ! -e unix.sock ] || fail "the socket is left"
	expect 1 "cannot connect" "$portcheck" half "$port"
	check rm wisp rm box
}

t_ports_http() {
	check create wisp create -q -n box -p 0:80 2>said
	local port
	port=$(port_of box 80)
	check "httpd" wisp exec box -- sh -c 'mkdir /tmp/www; head -c 3000000 /dev/urandom >/tmp/www/data; httpd -p 127.0.0.1:80 -h /tmp/www'
	python3 -c "
import http.client, sys
for i in range(3):
    c = http.client.HTTPConnection('127.0.0.1', $port, timeout=60)
    c.request('GET', '/data')
    sys.stdout.buffer.write(c.getresponse().read())
    c.close()" >got || fail "the client failed"
	equal "bytes" "$(stat -c %s got)" 9000000
	equal "their sum" "$(head -c 3000000 got | md5sum | cut -c 1-32)" "$(wisp exec box -- md5sum /tmp/www/data | cut -c 1-32)"
	# Nobody of them takes two.
	expect 125 "choose another port" wisp port add box "$port:80"
	expect 125 "does not listen on" wisp port rm box 1
	check "another" wisp port add box "[::1]:0:80" >other
	python3 -c "
import urllib.request
assert len(urllib.request.urlopen('http://[::1]:$(cat other)/data', timeout=60).read()) == 3000000" || fail "over IPv6"
	check "rm of a port" wisp port rm box "[::1]:$(cat other)" "$port"
	equal "ports left" "$(wisp port ls --json box)" "[]"
	# Paused, clients wait.
	check "again" wisp port add box 0:80 >other
	check pause wisp pause box
	equal "listed while paused" "$(wisp inspect box | grep -c "\"host\":\"127.0.0.1:$(cat other)\"")" 1
	python3 -c "
import urllib.request
assert len(urllib.request.urlopen('http://127.0.0.1:$(cat other)/data', timeout=60).read()) == 3000000" &
	local client=$!
	check resume wisp resume box
	wait $client || fail "a client of a paused sandbox was not served"
	check "a clone" wisp fork box -n twin >/dev/null
	equal "ports of a clone" "$(wisp port ls --json twin)" "[]"
	check "a port of its own" wisp port add twin 0:80 >other
	python3 -c "
import urllib.request
assert len(urllib.request.urlopen('http://127.0.0.1:$(cat other)/data', timeout=60).read()) == 3000000" || fail "the clone does not serve"
	check "stop twin" wisp stop twin
	check "stop box" wisp stop box
	check "rm box" wisp rm box
}

# wisp run has them too, and what goes wrong is said before anything starts.
t_ports_of_run() {
	check run timeout 60 wisp run -p "$PWD/run.sock:7000" -- sh -c 'echo started' </dev/null >out
	equal output "$(cat out)" started
	[ ! -e run.sock ] || fail "the socket is left"
	expect 125 "numeric" wisp run -p localhost:80:80 -- true
	expect 125 "guest's port" wisp run -p 80:0 -- true
	expect 125 "HOSTPORT:GUESTPORT" wisp run -p 80 -- true
	expect 125 "does not have the address" wisp run -p 192.0.2.1:0:80 -- true
	no_vmm || fail "a monitor is left"
	# A user other than root may not take a privileged port.
	if [ "$(id -u)" = 0 ] && [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -gt 80 ]; then
		expect 125 "ports below 1024" setpriv --reuid=65534 --clear-groups env HOME=/nowhere WISP_STATE=/tmp/ports-state \
			wisp run -p 80:80 -- true
		rm -rf /tmp/ports-state
	fi
}
