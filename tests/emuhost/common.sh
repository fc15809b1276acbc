# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of this folder and of tests/intelhost share: where they keep
# things, how they compile their helpers, and the kernel of the host that they
# emulate. Sourced, with $here set to the script's folder.

# shellcheck disable=SC2034
cache=${WISP_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wisp}/emuhost

die() {
	echo "${here##*/}: $*" >&2
	exit 125
}

# compile OUT SOURCE [FLAG...]
compile() {
	local out=$1 source=$2
	shift 2
	"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra "$@" -o "$out" "$source" ||
		die "cannot compile $source (the compiler's message is above)"
}

# Key of the files given: their contents decide, not their dates.
key_of() {
	cat "$@" | sha256sum | cut -c1-16
}

# Prints the folder that holds boot/ and lib/modules/ of a Debian kernel, and its version: of the machine's own release, or
# of SUITE.
find_kernel() { # [SUITE]
	local image version root roots=("$cache"/kernel/* '')
	[ -z "${1-}" ] || roots=("$cache/kernel-$1"/*)
	for root in "${roots[@]}"; do
		for image in "$root"/boot/vmlinuz-*-"${deb_arch:-amd64}"; do
			version=${image##*/vmlinuz-}
			case $version in *cloud*) continue ;; esac
			if [ -r "$image" ] && [ -e "$root/lib/modules/$version/modules.dep" ]; then
				echo "${root:-/} $version"
				return
			fi
		done
	done
}

# copy_modules ROOT VERSION FOLDER NAME...: these modules of that kernel and what they need, into FOLDER; FOLDER/list has
# their files in the order in which insmod takes them.
copy_modules() {
	local root=$1 version=$2 folder=$3 name path
	shift 3
	for name; do
		modprobe -d "$root" -S "$version" --show-depends "$name" ||
			die "kernel $version in $root has no module $name"
	done >"$folder/depends"
	while read -r _ path _; do
		name=${path##*/}
		[ -e "$folder/${name%.xz}" ] && continue
		case $name in
		*.xz) xz -dc "$path" >"$folder/${name%.xz}" ;;
		*) cp "$path" "$folder/$name" ;;
		esac
		echo "${name%.xz}" >>"$folder/list"
	done < <(grep ^insmod "$folder/depends")
	rm "$folder/depends"
}
