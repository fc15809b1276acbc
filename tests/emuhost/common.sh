# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of this folder share: where they keep things, and how they
# compile their helpers. Sourced, with $here set to this folder.

# shellcheck disable=SC2034
cache=${WISP_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wisp}/emuhost

die() {
	echo "emuhost: $*" >&2
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
