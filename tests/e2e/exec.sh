# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The execution surface through a real guest.

t_exec_under_load() {
	check create wisp create -n load -m 512 >/dev/null
	"$area/tests/exec_load" "$WISP_STATE" load || fail "see above"
	check stop wisp stop load
	check rm wisp rm load
}
