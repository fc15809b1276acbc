# user postgres
# limit 900
# Its shared memory, its processes, fsync, and a start after it was killed.
bin=$(echo /usr/lib/postgresql/*/bin)
cd /tmp
"$bin/initdb" -D data -A trust >init.out || { cat init.out; exit 1; }
start() { "$bin/pg_ctl" -D data -o "-k /tmp" -l log -t 300 -w start >start.out || { cat start.out log; exit 1; }; }
query() { psql -h /tmp -XAtq -v ON_ERROR_STOP=1 -c "$1" postgres; }
start
query 'create table t as select n, md5(n::text) as text from generate_series(1, 1000) n; create index on t (text)'
query 'begin; update t set n = n + 1; commit'
"$bin/pg_ctl" -D data -m immediate stop >stop.out
start
[ "$(query 'select sum(n), count(distinct text) from t')" = '501500|1000' ]
psql -h localhost -XAtq -c 'select 1' postgres >tcp.out
"$bin/pg_ctl" -D data -m fast -w stop >stop.out
"$bin/postgres" --version
