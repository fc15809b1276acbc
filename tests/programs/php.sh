cat >/tmp/job.php <<'EOF'
<?php
$child = proc_open(['sh', '-c', 'cat; exit 3'], [['pipe', 'r'], ['pipe', 'w']], $pipes);
fwrite($pipes[0], 'in');
fclose($pipes[0]);
$text = stream_get_contents($pipes[1]);
$code = proc_close($child);
$server = stream_socket_server('tcp://localhost:0');
$client = stream_socket_client('tcp://' . stream_socket_get_name($server, false));
fwrite(stream_socket_accept($server), "hello\n");
$file = tmpfile();
fwrite($file, 'data');
date_default_timezone_set('Europe/Berlin');
$right = $text === 'in' && $code === 3 && fgets($client) === "hello\n" && fsync($file) && gethostname() === 'guest'
	&& date('H:i', 1720000000) === '11:46' && gethostbyname('guest') !== 'guest';
if (!$right)
	exit(1);
echo 'PHP ', PHP_VERSION, "\n";
EOF
php /tmp/job.php
