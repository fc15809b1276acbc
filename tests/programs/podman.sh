# image containers
# kernel full
# disk 1G
# limit 900
# Podman with an image made here: its networks, with the packet filter and the names that it sets up, and its limits. The
# host is podman.host: a web server at 10.77.0.1, and a client of the container's port by the guest's card and its loopback.
export CONTAINERS_CONF=/tmp/containers.conf
cat >$CONTAINERS_CONF <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
log_driver = "k8s-file"
END
# The guest's root is an overlay, which cannot hold another one's changes.
mkdir -p /var/lib/containers
mount /dev/vdb /var/lib/containers

mkdir -p /tmp/root/bin /tmp/root/www /tmp/root/tmp
cp /bin/busybox /tmp/root/bin/
for applet in sh httpd wget cat id ip head mknod; do ln -s busybox "/tmp/root/bin/$applet"; done
echo 'from the container' >/tmp/root/www/index.html
tar -C /tmp/root -c . | podman import -q - localhost/box >/dev/null
[ "$(podman info -f '{{.Store.GraphDriverName}} {{.Host.CgroupsVersion}} {{.Host.NetworkBackend}}')" = 'overlay v2 netavark' ]

# A container's own view, with a limit of its memory; no network; the guest's network.
[ "$(podman run --rm --memory 64m localhost/box sh -c 'id -u; cat /sys/fs/cgroup/memory.max; echo $$')" = '0
67108864
1' ]
[ "$(podman run --rm --network none localhost/box ip -o link | wc -l)" = 1 ]
[ "$(podman run --rm --network host localhost/box wget -q -O - http://10.77.0.1:8000/hello)" = 'from the host' ]

# A server whose port is published: from the guest, and from the host.
podman run -d --name web -p 8080:80 localhost/box httpd -f -p 80 -h /www >/dev/null
[ "$(curl -sS --retry 20 --retry-connrefused http://127.0.0.1:8080/)" = 'from the container' ]
curl -sS --retry 100 --retry-delay 1 --retry-all-errors -f http://10.77.0.1:8000/reached >/dev/null
[ "$(podman exec web cat /www/index.html)" = 'from the container' ]
# A client, by the bridge and the guest's card; a neighbour by its address.
[ "$(podman run --rm localhost/box wget -q -O - http://10.77.0.1:8000/hello)" = 'from the host' ]
address=$(podman inspect -f '{{.NetworkSettings.IPAddress}}' web)
[ "$(podman run --rm localhost/box wget -q -O - "http://$address/")" = 'from the container' ]
iptables -t nat -S | grep -q MASQUERADE
podman rm -f -t 0 web >/dev/null

# A network with IPv6, on which a neighbour is found by its name.
podman network create --ipv6 six >/dev/null
podman run -d --name six --network six localhost/box httpd -f -p '[::]:80' -h /www >/dev/null
[ "$(podman run --rm --network six localhost/box wget -q -O - http://six/)" = 'from the container' ]
address=$(podman inspect -f '{{.NetworkSettings.Networks.six.GlobalIPv6Address}}' six)
[ "$(podman run --rm --network six localhost/box wget -q -O - "http://[$address]/")" = 'from the container' ]
podman rm -f -t 0 six >/dev/null

# Devices are kept from a container by a BPF program: without it, root reads the disk. /dev/null is allowed.
major=$((0x$(stat -c %t /dev/vda)))
podman run --rm --cap-add mknod localhost/box sh -c "mknod /tmp/null c 1 3 && echo >/tmp/null && mknod /tmp/disk b $major 0 &&
	! head -c 1 /tmp/disk"

echo "podman $(podman --version | sed 's/.* //'), crun $(crun --version | sed -n '1s/.* //p'), overlay on ext4, cgroup v2, netavark"
