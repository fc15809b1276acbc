# user wisp
# A sandbox without privileges, in the sandbox.
cd
[ "$(bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --die-with-parent sh -c 'ls /proc | grep -c "^[0-9]"; id -u' | tr '\n' ' ')" = '4 1000 ' ] ||
	bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp sh -c 'ls /proc; id -u; false'
! bwrap --unshare-all --ro-bind / / touch /etc/x 2>err
grep -q 'Read-only' err
bwrap --unshare-net --dev-bind / / cat /proc/net/dev | grep -q lo:
bwrap --version
