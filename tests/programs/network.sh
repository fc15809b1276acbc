# limit 600
# Programs that fetch things, through the host's proxy alone (wisp run --allow), from the servers of network.host. The
# variables HTTP and HTTPS are their URLs.
cd /tmp
ca=/tmp/cert

curl -sSf -o "$ca" "$HTTP/cert"
[ "$(curl -sSf --cacert "$ca" "$HTTPS/data" | wc -c)" = 3000000 ]
[ "$(curl -sSf --cacert "$ca" -x socks5h://127.0.0.1:1080 "$HTTPS/data" | wc -c)" = 3000000 ]
# Not through the proxy, and not to what no rule names.
! curl -sSf --noproxy '*' -o /dev/null "$HTTP/cert" 2>/dev/null
[ "$(curl -s -o /dev/null -w '%{http_code}' http://example.org/)" = 403 ]

python3 -m venv v
v/bin/pip install -q --disable-pip-version-check --cert "$ca" --index-url "$HTTPS/simple/" demo
[ "$(v/bin/python -m demo)" = 'from pip' ]

export GIT_SSL_CAINFO=$ca
git clone -q "$HTTPS/git/demo.git"
[ "$(cat demo/file)" = 'from git' ]
# A push of more than git sends at once, which is chunked, and over plain HTTP, which the proxy parses.
cd demo
head -c 3000000 /dev/urandom >large
git add large
git -c user.name=t -c user.email=t@t commit -q -m second
git push -q "$HTTP/git/demo.git" HEAD:refs/heads/pushed
cd ..
git clone -q -b pushed "$HTTPS/git/demo.git" again
cmp demo/large again/large

mkdir n
cd n
echo '{"name":"n","version":"1.0.0"}' >package.json
npm install --silent --no-audit --no-fund --cafile "$ca" --registry "$HTTPS/npm/" demo-npm
[ "$(node -e 'require("demo-npm")')" = 'from npm' ]
cd ..

mkdir -p apt/lists/partial apt/archives/partial apt/empty
echo "deb [trusted=yes] $HTTP/apt ./" >apt/list
options="-o Dir::Etc::SourceList=/tmp/apt/list -o Dir::Etc::SourceParts=/tmp/apt/empty -o Dir::State::Lists=/tmp/apt/lists"
options="$options -o Dir::Cache::Archives=/tmp/apt/archives -o APT::Sandbox::User=root"
# shellcheck disable=SC2086 # several words
apt-get -qq $options update
# shellcheck disable=SC2086
apt-get -qq $options install -y demo >/dev/null
[ "$(cat /usr/share/demo/file)" = 'from apt' ]

echo "curl $(curl --version | sed -n '1s/curl \([0-9.]*\).*/\1/p'), pip, git, npm, apt"
