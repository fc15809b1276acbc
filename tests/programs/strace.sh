# user wisp
cd
strace -f -o trace sh -c 'cat /etc/hostname | wc -c' >out
[ "$(grep -c 'execve(' trace)" -ge 3 ]
grep -q 'exited with 0' trace
# With a filter in the kernel, and counted.
strace -f --seccomp-bpf -e trace=openat -o trace cat /etc/hostname >out
grep -q '"/etc/hostname"' trace
strace -c -o trace true
grep -q total trace
strace --version | sed -n '1s, -- version,,p'
