# image containers
# kernel full
# disk 1G
# limit 900
# Docker's daemon with an image made here, on its own bridge and on a network with names.
mkdir -p /var/lib/docker
mount /dev/vdb /var/lib/docker
# Not dockerd's own containerd: it is given 15 seconds, which pass on a busy emulated host.
containerd >/tmp/log 2>&1 &
until ctr version >/dev/null 2>&1; do
	kill -0 $! || { cat /tmp/log; exit 1; }
	sleep 1
done
dockerd --containerd /run/containerd/containerd.sock >>/tmp/log 2>&1 &
until docker version >/dev/null 2>&1; do
	kill -0 $! || { cat /tmp/log; exit 1; }
	sleep 1
done

mkdir -p /tmp/root/bin /tmp/root/www
cp /bin/busybox /tmp/root/bin/
for applet in sh httpd wget cat id ip; do ln -s busybox "/tmp/root/bin/$applet"; done
echo 'from the container' >/tmp/root/www/index.html
tar -C /tmp/root -c . | docker import - box >/dev/null
[ "$(docker info -f '{{.Driver}} {{.CgroupDriver}} {{.CgroupVersion}}')" = 'overlay2 cgroupfs 2' ]

[ "$(docker run --rm --memory 64m box sh -c 'id -u; cat /sys/fs/cgroup/memory.max; echo $$' 2>/dev/null)" = '0
67108864
1' ]
[ "$(docker run --rm --network none box ip -o link | wc -l)" = 1 ]

docker run -d --name web -p 8080:80 box httpd -f -p 80 -h /www >/dev/null
[ "$(curl -sS --retry 20 --retry-connrefused http://127.0.0.1:8080/)" = 'from the container' ]
[ "$(docker exec web cat /www/index.html)" = 'from the container' ]
docker network create front >/dev/null
docker network connect front web
[ "$(docker run --rm --network front box wget -q -O - http://web/)" = 'from the container' ]
docker rm -f web >/dev/null

echo "docker $(docker version -f '{{.Server.Version}}'), overlay2 on ext4, cgroup v2"
