cat >/tmp/job.pl <<'EOF'
use strict;
use warnings;
use threads;
use IO::Handle;
use IO::Socket::INET;
use POSIX qw(setlocale LC_ALL);
use Sys::Hostname;
my $sum = 0;
$sum += $_->join for map { my $n = $_; threads->create(sub { $n * $n }) } 0 .. 4;
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => 'localhost') or die "listen: $!";
my $pid = fork // die "fork: $!";
if (!$pid) {
	print { IO::Socket::INET->new(PeerAddr => 'localhost', PeerPort => $server->sockport) } "hello\n";
	exit 3;
}
my $hello = $server->accept->getline;
waitpid $pid, 0;
my $code = $? >> 8;
open my $file, '>', '/tmp/job.out' or die;
$file->sync or die "fsync: $!";
die 'wrong' unless $sum == 30 && $hello eq "hello\n" && $code == 3 && hostname eq 'guest' && setlocale(LC_ALL, 'C.UTF-8');
printf "Perl %vd\n", $^V;
EOF
perl /tmp/job.pl
