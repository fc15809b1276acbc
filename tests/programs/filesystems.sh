# image containers
# kernel full
# File systems in files: loop devices, quotas of ext4 and XFS, an overlay on the guest's own; and a TUN device.
cd /tmp
mkdir e x lower merged
truncate -s 64M ext4.img
truncate -s 320M xfs.img
mkfs.ext4 -q -O quota ext4.img
mkfs.xfs -q xfs.img
mount -o loop,usrquota ext4.img e
mount -o loop,uquota xfs.img x
chmod 777 e x
setquota -u nobody 0 2048 0 0 /tmp/e
xfs_quota -x -c 'limit bhard=2m nobody' /tmp/x
for fs in e x; do
	setpriv --reuid=nobody dd if=/dev/zero of=$fs/small bs=1M count=1 2>/dev/null
	! setpriv --reuid=nobody dd if=/dev/zero of=$fs/large bs=1M count=4 2>error
	grep -q 'Disk quota exceeded' error
done

# The lower layer is on the guest's root, which is an overlay; the upper one is on a disk of its own.
echo below >lower/file
mkdir e/upper e/work
mount -t overlay -o lowerdir=/tmp/lower,upperdir=/tmp/e/upper,workdir=/tmp/e/work overlay merged
[ "$(cat merged/file)" = below ]
echo changed >merged/file
[ "$(cat lower/file merged/file)" = 'below
changed' ]
umount merged e x
[ "$(losetup -a | wc -l)" = 0 ]

ip tuntap add dev tun0 mode tun
ip -6 addr add fd00::1/64 dev tun0
ip -o link show tun0 | grep -q POINTOPOINT
zcat /proc/config.gz | grep -q '^CONFIG_BPF_SYSCALL=y'

echo "xfsprogs $(xfs_quota -V | sed 's/.* //'), quota $(setquota -V 2>&1 | sed -n '1s/.*version \([0-9.]*[0-9]\).*/\1/p')"
