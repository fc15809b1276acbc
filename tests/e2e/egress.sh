# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The guest's way to the network, by name: real clients in the guest, and servers of the host (netserver.py) on 127.0.0.2,
# which rules name. In egress_names, the host knows names for them.

# start_servers: sets server (a pid), http and, if openssl is here, https (ports). Files are in www, the certificate is cert.
start_servers() {
	local tls=()
	mkdir -p www
	if command -v openssl >/dev/null && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj /CN=127.0.0.2 -addext subjectAltName=IP:127.0.0.2 -keyout key -out cert 2>/dev/null; then
		tls=("$PWD/cert" "$PWD/key")
	fi
	head -c 3000000 /dev/urandom >www/data
	python3 "$source_dir/tests/e2e/netserver.py" www "${tls[@]}" &
	server=$!
	wait_until [ -e www.ports ] || fail "the servers do not start"
	read -r http https <www.ports
}
# decisions NAME WORDS...: how many lines of net.log have them
decisions() { wisp logs --source net "$1" | grep -cF -- "${*:2}"; }
no_proxy_left() { ! pgrep -x wisp-proxy >/dev/null; }

t_egress() {
	local server http https sum
	start_servers
	sum=$(md5sum <www/data)
	check create wisp create -q -n box --allow "127.0.0.2:$http" --allow "nowhere.example" \
		--secret "TOKEN=sesame@127.0.0.2:$http"
	equal "the file through the proxy" "$(wisp exec box -- wget -q -O - "http://127.0.0.2:$http/data" | md5sum)" "$sum"
	equal "a secret's placeholder" "$(wisp exec box -- sh -c 'echo $TOKEN')" wisp-secret-TOKEN-
	# shellcheck disable=SC2016 # for the guest's shell
	equal "a secret" "$(wisp exec box -- sh -c 'wget -q -O - --header "X-Token: a $TOKEN" "$0"' "http://127.0.0.2:$http/echo" |
		tr -d '\r' | grep X-Token)" "X-Token: a sesame"
	# Not named: another port, another address, the host itself, a name.
	for url in "http://127.0.0.2:22/" "http://127.0.0.3:$http/" "http://2130706434:22/" "http://other.example/"; do
		wisp exec box -- wget -q -O - "$url" 2>said && fail "$url was reached"
		grep -q "403 Forbidden" said || fail "$url: $(cat said)"
	done
	# Without the proxy, there is no network: no DNS, no route.
	wisp exec box -- env -u http_proxy wget -q -O - "http://127.0.0.2:$http/" 2>/dev/null && fail "there is a way around"
	wisp exec box -- nslookup example.com >/dev/null 2>&1 && fail "there is DNS"
	equal "allowed" "$(decisions box " allowed http 127.0.0.2:$http 127.0.0.2")" 2
	equal "refused" "$(decisions box " refused http ")" 4
	equal "the address 2130706434" "$(decisions box " refused http 127.0.0.2:22: ")" 2
	equal "rules" "$(wisp inspect box | grep -c "\"allow\":\[\"127.0.0.2:$http\",\"nowhere.example\"\],\"secrets\":\[\"TOKEN@127.0.0.2:$http\"\]")" 1
	# A clone has its own, also when its source is gone.
	check fork wisp fork box -n twin >/dev/null
	check snapshot wisp snapshot box box.snap
	check "stop box" wisp stop box
	equal "the log of a sandbox that has stopped" "$(decisions box " refused http other.example:80: no rule allows it")" 1
	equal "the clone's" "$(wisp exec twin -- wget -q -O - "http://127.0.0.2:$http/data" | md5sum)" "$sum"
	equal "the clone's log" "$(decisions twin " allowed http ")" 1
	check "stop twin" wisp stop twin
	wait_until no_proxy_left || fail "a proxy is left"
	# A snapshot has no rules, and takes them anew: the agent's listeners, which it has, lead nowhere without.
	equal "from a snapshot" "$(wisp run --from box.snap --allow "127.0.0.2:$http" -- wget -q -O - "http://127.0.0.2:$http/data" | md5sum)" "$sum"
	wisp run --from box.snap -- env http_proxy=http://127.0.0.1:3128 wget -q -O - "http://127.0.0.2:$http/" >/dev/null 2>&1 &&
		fail "a snapshot has a way to the network"
	wait_until no_proxy_left || fail "a proxy is left"
	kill "$server"
	check rm wisp rm box
}

# Names of the host's own: the proxy is started where /etc has nothing but these. A name server writes down what it is asked,
# and knows nothing.
make_names() {
	mkdir etc
	printf '127.0.0.2 files.test a.example.test c.b.example.test example.test other.test\n127.0.0.4 elsewhere.test\n' >etc/hosts
	echo nameserver 127.0.0.3 >etc/resolv.conf
	chmod 755 etc && chmod 644 etc/*
	cat >dns.py <<-'END'
		import socket
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.bind(("127.0.0.3", 53))
		open("dns.asked", "w").close()
		while True:
		    query, peer = s.recvfrom(512)
		    labels, at = [], 12
		    while query[at]:
		        labels.append(query[at + 1:at + 1 + query[at]].decode())
		        at += query[at] + 1
		    with open("dns.asked", "a") as file:
		        print(".".join(labels), file=file)
		    s.sendto(query[:2] + b"\x81\x83" + query[4:], peer)
	END
	python3 dns.py &
	dns=$!
	wait_until [ -e dns.asked ] || fail "the name server does not start"
}
# with_names COMMAND...
# shellcheck disable=SC2016 # for the other shell
with_names() { unshare -m sh -c 'mount --bind "$0" /etc && exec "$@"' "$PWD/etc" "$@"; }
# fetch URL: what wget says, or why it does not
fetch() { wisp exec box -- wget -q -O - "$@" </dev/null 2>&1; }
# tunnel HOST PORT: a request through CONNECT; socks HOST PORT: through SOCKS 5, by the name
tunnel() {
	printf 'CONNECT %s:%s HTTP/1.1\r\n\r\nGET /echo HTTP/1.0\r\nX: tunnel\r\n\r\n' "$1" "$2" | wisp exec box -- nc 127.0.0.1 3128
}
socks() {
	{
		# shellcheck disable=SC2059 # octal numbers
		printf "\\5\\1\\0\\5\\1\\0\\3\\$(printf %03o ${#1})$1\\$(printf %03o $(($2 >> 8)))\\$(printf %03o $(($2 & 255)))"
		printf 'GET /echo HTTP/1.0\r\nX: socks\r\n\r\n'
	} | wisp exec box -- nc 127.0.0.1 1080
}
# refused NAME PORT WHY: as each kind of request
refused() {
	fetch "http://$1:$2/data" | grep -q "403 Forbidden" || fail "http://$1:$2/ is not refused"
	tunnel "$1" "$2" | grep -q "^HTTP/1.1 403 Forbidden" || fail "a tunnel to $1:$2 is not refused"
	equal "SOCKS to $1:$2" "$(socks "$1" "$2" | od -An -tx1 | cut -c 1-12)" " 05 00 05 02"
	for kind in http connect socks; do
		equal "$kind to $1:$2" "$(decisions box " refused $kind $1:$2: $3")" 1
	done
}

t_egress_names() {
	local server http https dns sum name kind
	unshare -m true 2>/dev/null || { skipped="no mount namespaces"; return; }
	make_names
	start_servers
	sum=$(md5sum <www/data)
	check create with_names wisp create -q -n box --rm --allow "files.test:$http" --allow "*.example.test:$http" \
		--allow "elsewhere.test:$http" --allow "127.0.0.2:$http" --secret "TOKEN=sesame@files.test:$http"
	for name in files.test FILES.test a.example.test c.b.example.test; do
		equal "the file of $name" "$(fetch "http://$name:$http/data" | md5sum)" "$sum"
		tunnel $name "$http" >out
		head -n 1 out | grep -q "^HTTP/1.1 200 " || fail "no tunnel to $name: $(head -c 200 out)"
		grep -q "^X: tunnel" out || fail "nothing came through the tunnel to $name: $(head -c 400 out)"
		socks $name "$http" >out
		equal "SOCKS to $name" "$(od -An -tx1 out | head -n 1 | cut -c 1-12)" " 05 00 05 00"
		grep -qa "^X: socks" out || fail "nothing came from $name by SOCKS"
	done
	for kind in http connect socks; do
		equal "$kind to files.test" "$(decisions box " allowed $kind files.test:$http 127.0.0.2")" 2
		equal "$kind to c.b.example.test" "$(decisions box " allowed $kind c.b.example.test:$http 127.0.0.2")" 1
	done
	# shellcheck disable=SC2016 # for the guest's shell
	equal "a secret of a name" "$(wisp exec box -- sh -c 'wget -q -O - --header "X-Token: $TOKEN" "$0"' "http://files.test:$http/echo" |
		tr -d '\r' | grep X-Token)" "X-Token: sesame"
	# The host knows these, and where they lead: no rule has the name, or the port, or names the address.
	refused other.test "$http" "no rule allows it"
	refused example.test "$http" "no rule allows it"
	refused files.test 22 "no rule allows it"
	refused elsewhere.test "$http" "its address 127.0.0.4 is loopback, and no rule names that"
	# What no rule has is not asked for, either. What one has is.
	refused what-the-guest-knows.test "$http" "no rule allows it"
	fetch "http://unknown.example.test:$http/" | grep -q "502 Bad Gateway" || fail "an unknown name is not told"
	equal "what the name server was asked for" "$(sort -u dns.asked)" unknown.example.test
	kill "$server" "$dns"
	check stop wisp stop box
	wait_until no_proxy_left || fail "a proxy is left"
}

# A monitor that is killed leaves no proxy, and neither does a command that fails to start.
t_egress_ends() {
	check create wisp create -q -n box --allow example.org --rm
	equal proxies "$(pgrep -xc wisp-proxy)" 1
	check kill wisp stop --force box
	wait_until no_proxy_left || fail "a proxy is left"
	check "run" wisp run --allow example.org -- true
	wait_until no_proxy_left || fail "a proxy is left"
	expect 125 "cannot be allowed" wisp run --allow 'a b' -- true
	expect 125 "set allow too" wisp run --secret A=b@example.org -- true
	printf '# comment\n\nexample.org # and more\n 10.0.0.0/8:*\t\n' >rules
	check "rules of a file" wisp create -q -n box --allow-file rules --rm
	equal "its rules" "$(wisp inspect box | grep -c '"allow":\["example.org","10.0.0.0/8:\*"\]')" 1
	TOKEN=sesame check "a secret of the environment" wisp run --allow example.org --secret TOKEN@example.org -- true
	expect 125 "neither given nor in the environment" wisp run --allow example.org --secret NONE@example.org -- true
	check stop wisp stop box
	no_vmm || fail "a monitor is left"
}

# A proxy that is killed in the middle of a request takes the way to the network with it, and nothing else.
t_egress_killed() {
	local server http https client code=0
	start_servers
	check create wisp create -q -n box --allow "127.0.0.2:$http" --rm
	equal "the way to the network" "$(wisp exec box -- wget -q -O - "http://127.0.0.2:$http/data" | wc -c)" 3000000
	kill -STOP "$server" # it takes a connection, and does not answer
	wisp exec box -- wget -q -O - "http://127.0.0.2:$http/data" >/dev/null 2>&1 &
	client=$!
	has_asked() { [ "$(decisions box " allowed http 127.0.0.2:$http ")" -eq 2 ]; }
	wait_until has_asked || fail "the request did not reach the server"
	pkill -KILL -x wisp-proxy
	wait_until no_proxy_left || fail "the proxy is not dead"
	client_ended() { ! kill -0 "$client" 2>/dev/null; }
	wait_until client_ended || { fail "the guest's request hangs"; kill "$client"; }
	wait "$client" || code=$?
	equal "the code of the request" "$code" 1
	code=0
	timeout 60 wisp exec box -- wget -q -O - "http://127.0.0.2:$http/data" >/dev/null 2>&1 </dev/null || code=$?
	equal "the code of another request" "$code" 1
	equal "the guest" "$(wisp exec box -- echo "goes on" </dev/null)" "goes on"
	kill "$server"
	kill -CONT "$server"
	check stop wisp stop box
	no_vmm || fail "a monitor is left"
	no_proxy_left || fail "a proxy is left"
}

# Python in a Debian image: urllib over HTTP and, in a tunnel, HTTPS; SOCKS by hand; many at the same time.
t_egress_python() {
	[ -e "$source_dir/$build/debian.squashfs" ] || { skipped="no Debian image is built for this processor"; return; }
	local server http https
	start_servers
	if [ -z "$https" ]; then
		skipped="no openssl"
		kill "$server"
		return
	fi
	cp "$source_dir/$build/debian.squashfs" .
	check create wisp create -q -n box -m 512 --allow "127.0.0.2:$http" --allow "127.0.0.2:$https" ./debian.squashfs
	check "certificate" wisp cp -q cert box:/tmp/cert
	cat >client.py <<-'END'
		import concurrent.futures, os, socket, ssl, struct, sys, urllib.request
		http, https = sys.argv[1:]
		context = ssl.create_default_context(cafile="/tmp/cert")
		get = lambda url: urllib.request.urlopen(url, context=context if url.startswith("https") else None, timeout=60).read()
		whole = get(f"http://127.0.0.2:{http}/data")
		assert len(whole) == 3000000
		assert get(f"https://127.0.0.2:{https}/data") == whole
		body = os.urandom(500000)
		assert urllib.request.urlopen(f"http://127.0.0.2:{http}/", body, timeout=60).read() == body
		s = socket.create_connection(("127.0.0.1", 1080), timeout=60)
		s.sendall(b"\5\1\0\5\1\0\1\x7f\0\0\2" + struct.pack(">H", int(https)))
		got = b""
		while len(got) < 12:
		    got += s.recv(12 - len(got))
		assert got[:4] == b"\5\0\5\0", got
		s = context.wrap_socket(s, server_hostname="127.0.0.2")
		s.sendall(b"GET /echo HTTP/1.0\r\nX: y\r\n\r\n")
		got = b""
		while (part := s.recv(65536)):
		    got += part
		assert b"\r\n\r\nX: y" in got, got
		with concurrent.futures.ThreadPoolExecutor(16) as pool:
		    assert all(part == whole for part in pool.map(get, [f"https://127.0.0.2:{https}/data"] * 16))
		print("done")
	END
	check "client" wisp cp -q client.py box:/tmp/client.py
	equal "python" "$(wisp exec box -- python3 /tmp/client.py "$http" "$https" 2>&1)" "done"
	equal "tunnels" "$(decisions box " allowed connect 127.0.0.2:$https 127.0.0.2")" 17
	equal "SOCKS" "$(decisions box " allowed socks 127.0.0.2:$https 127.0.0.2")" 1
	kill "$server"
	check stop wisp stop box
	check rm wisp rm box
	wait_until no_proxy_left || fail "a proxy is left"
}
