cd /tmp
sqlite3 base 'pragma journal_mode=wal; create table t (n integer primary key, text);
	with recursive c (n) as (select 1 union all select n + 1 from c where n < 10000) insert into t select n, hex(randomblob(8)) from c;
	create index i on t (text);' >out
for n in 1 2 3 4; do sqlite3 -cmd '.timeout 60000' base "insert into t (text) values ('$n')" & done
wait
[ "$(sqlite3 base 'select count(*) from t; pragma integrity_check' | tr '\n' ' ')" = '10004 ok ' ]
echo "SQLite $(sqlite3 --version | cut -d' ' -f 1)"
