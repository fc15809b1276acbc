# user wisp
# What every program finds: names, a shared memory file system, a locale, time zones, limits, namespaces.
[ "$(hostname)" = guest ] && [ "$(hostname -f)" = guest ]
getent hosts guest >/dev/null && getent hosts localhost >/dev/null
[ "$(id -un)" = wisp ] && cd && touch file
echo x >/dev/shm/x && rm /dev/shm/x
[ "$(TZ=Europe/Berlin date -d @1720000000 +%H:%M:%S%Z)" = 11:46:40CEST ]
[ "$(LC_ALL=C.UTF-8 printf 'größer' | LC_ALL=C.UTF-8 wc -m)" -eq 6 ]
[ "$(ulimit -n)" -ge 1024 ] && [ "$(nproc)" -ge 1 ] && [ -n "$(ps -eo comm= | grep sleep || echo none)" ]
[ "$(unshare -Urpfn --mount-proc sh -c 'id -u; echo $$' | tr '\n' ' ')" = '0 1 ' ]
flock file true
sleep 1000 &
kill $!
. /etc/os-release
echo "$PRETTY_NAME"
