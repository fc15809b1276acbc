# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The emulated host with arm64 processors, for tests/emuhost/run, which sources this.
# shellcheck disable=SC2034,SC2154 # of what it uses, and what uses this

# shellcheck source-path=SCRIPTDIR source=../cross-apt
. "$here/../cross-apt"

packages=(qemu-system-arm mmdebstrap cpio e2fsprogs kmod gcc libc6-dev)
deb_arch=arm64 console=ttyAMA0
target_cc=aarch64-linux-gnu-gcc
modules+=(tun dummy veth) # modprobe finds no others: the kernel is not in the root file system
# With its own algorithm for pointer authentication, QEMU is twice as fast as with the architecture's.
qemu=(qemu-system-aarch64 -accel 'tcg,thread=multi,tb-size=512' -cpu 'max,pauth-impdef=on' -M 'virt,virtualization=on,gic-version=3')

# For fetch_kernel: adds what lets apt see the packages of arm64 to its options.
list_architecture() {
	cross_apt_begin "$1" || die "apt-get update failed; its messages are above"
	options+=("${cross_apt[@]}")
}

# The host's programs, from Debian's packages as they are: no script of theirs has run, because that would take the
# emulation of each of their programs.
root_packages=bash,busybox-static,coreutils,cpio,diffutils,e2fsprogs,erofs-utils,findutils,gawk,grep,hostname,iproute2,libc-bin,mawk,mount
root_packages+=,ncurses-base,ncurses-bin,openssl,passt,procps,python3,sed,squashfs-tools,tmux,util-linux${ARMHOST_PACKAGES+,$ARMHOST_PACKAGES}
root=$cache/arm64-root-$(echo "$root_packages" | sha256sum | cut -c1-8)
make_root() {
	[ ! -d "$root" ] || return 0
	mkdir -p "$cache"
	echo "Unpacking Debian's programs for arm64, for the emulated host" >&2
	rm -rf "$root.new"
	mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$root_packages" bookworm "$root.new" >&2 ||
		die "mmdebstrap cannot unpack Debian's programs for arm64"
	printf '%s\n' root:x:0:0:root:/root:/bin/bash nobody:x:65534:65534:nobody:/:/usr/sbin/nologin >"$root.new/etc/passwd"
	printf '%s\n' root:x:0: tty:x:5: nogroup:x:65534: >"$root.new/etc/group"
	echo 127.0.0.1 localhost >"$root.new/etc/hosts"
	ln -sf mawk "$root.new/usr/bin/awk"
	ln -sf bash "$root.new/bin/sh"
	mkdir -p "$root.new"/{proc,sys,dev,run,tmp,scratch,root}
	mv -T "$root.new" "$root"
}
busybox=$root/bin/busybox
