/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "vmm/lib/sandbox.h"

int64_t wisp_get_pause_us(const struct wisp_sandbox *sandbox)
{
	return sandbox ? sandbox->pause_us : 0;
}

int wisp_snapshot_sandbox(struct wisp_sandbox *sandbox, const char *file, const struct wisp_snapshot_options *options,
        struct wisp_error *error)
{
	(void)options;
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(file, "file", error))
		return -EINVAL;
	return lib_fail_errno(error, ENOSYS, "cannot save a sandbox");
}

int wisp_verify_snapshot(const char *file, const struct wisp_verify_options *options, struct wisp_error *error)
{
	(void)options;
	if (lib_is_null(file, "file", error))
		return -EINVAL;
	return lib_fail_errno(error, ENOSYS, "cannot verify a snapshot");
}

int wisp_fork_sandbox(struct wisp_sandbox *sandbox, size_t count, const struct wisp_fork_options *options,
        struct wisp_sandbox **clones, struct wisp_error *error)
{
	(void)options;
	(void)count;
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(clones, "clones", error))
		return -EINVAL;
	return lib_fail_errno(error, ENOSYS, "cannot fork a sandbox");
}
