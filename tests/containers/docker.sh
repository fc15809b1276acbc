# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # what tests/containers/run sets
# Sandboxes in Docker's own containers, with its default profiles of seccomp and AppArmor. tests/containers/run sources this.

start_docker() {
	! docker info >/dev/null 2>&1 || return 0
	# dockerd gives a containerd of its own 15 s to start.
	printf 'version = 2\nroot = "%s/containerd"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' $area >containerd.toml
	containerd --config containerd.toml >containerd.log 2>&1 &
	until_true 120 ctr version || { fail "containerd does not start: $(tail -n 5 containerd.log)"; return 1; }
	dockerd --containerd /run/containerd/containerd.sock --data-root $area/docker --storage-driver overlay2 --bridge none --iptables=false \
		--exec-opt native.cgroupdriver=cgroupfs >dockerd.log 2>&1 &
	until_true 120 docker info || { fail "dockerd does not start: $(tail -n 5 dockerd.log)"; return 1; }
	tar -C rootfs -c . | docker import - wisp >/dev/null || { fail "docker import"; return 1; }
	echo "# Docker $(docker version --format '{{.Server.Version}}'), $(docker info --format '{{.SecurityOptions}}')"
}
dock() {
	docker run --rm --network none --env WISP_STATE=/tmp/wisp --env PATH=/usr/local/bin:/bin "$@" </dev/null 2>&1
}

# This version of Docker allows io_uring; since 25.0, it does not, which c_docker_root of tests/containers/run has.
c_dockerd_root() {
	start_docker || return
	dock --device /dev/kvm wisp inside io_uring false || fail "exit code $?"
}
c_dockerd_user() {
	start_docker || return
	dock --device /dev/kvm --user 1000:1000 --cap-drop all wisp inside io_uring false || fail "exit code $?"
}
# Limits of the container, and commands that docker exec starts next to its first.
c_dockerd_exec() {
	local box
	start_docker || return
	box=$(dock --detach --device /dev/kvm --memory 700m --pids-limit 100 wisp sleep 1000 | tail -n 1) || { fail "$box"; return; }
	docker exec "$box" wisp create -q -n one >said 2>&1 || fail "create: $(cat said)"
	docker exec "$box" wisp fork one -n two >said 2>&1 || fail "fork: $(cat said)"
	equal "the clone" "$(docker exec "$box" wisp exec two -- echo hi 2>&1)" hi
	docker exec "$box" wisp create -n three --pids-max 64 >said 2>&1
	grep -q 'cannot be limited' said || fail "limits: $(cat said)"
	docker rm -f "$box" >/dev/null || fail "docker rm"
	until_true 20 monitors_are 0
}
