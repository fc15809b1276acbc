cd /tmp
redis-server --daemonize yes --dir /tmp --appendonly yes --appendfsync always --logfile redis.log >out
tries=0
until redis-cli ping 2>/dev/null | grep -q PONG; do
	[ $((tries += 1)) -lt 100 ]
	sleep 0.2
done
for n in 1 2 3 4 5; do redis-cli rpush list $n; done >out
[ "$(redis-cli lrange list 0 -1 | tr '\n' ' ')" = '1 2 3 4 5 ' ]
redis-cli bgsave >out
until redis-cli info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.2; done
redis-cli info persistence | grep -q rdb_last_bgsave_status:ok
redis-cli eval 'return redis.call("llen", "list") * 2' 0 | grep -q 10
redis-cli shutdown
[ -s dump.rdb ]
redis-server --version | sed 's/Redis server v=\([^ ]*\).*/Redis \1/'
