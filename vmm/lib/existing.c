/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a sandbox by its name: opening it, what is known of it, its trace, removing it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/lib/config.h"
#include "vmm/lib/sandbox.h"
#include "vmm/lib/state.h"
#include "vmm/shared/end.h"
#include "vmm/shared/sandbox_files.h"

/* A trace has a line of at most some hundred bytes for each stage and breakpoint. */
#define TRACE_MAX ((size_t)16 << 20)

static int fail_not_running(const struct wisp_sandbox *sandbox, enum wisp_sandbox_state now, const struct state *state,
        struct wisp_error *error)
{
	const char *name = sandbox->name, *why = cgroup_explain_death(sandbox->config.cgroup);
	if (now == WISP_SANDBOX_BOOTING)
		return lib_fail(error, WISP_ERR_NOT_RUNNING, EAGAIN, "the sandbox '%s' is still booting", name);
	if (now == WISP_SANDBOX_STALE)
		return lib_fail(error, WISP_ERR_NOT_RUNNING, ESRCH,
		        "the sandbox '%s' is not running: %s: remove it or create it again", name,
		        why ? why : "its monitor died without a record");
	bool has_text = state->text && state->text[0];
	return lib_fail(error, WISP_ERR_NOT_RUNNING, ESRCH, "the sandbox '%s' is not running: it ended (%s)%s%s", name,
	        wisp_get_end_name(state->end), has_text ? ": " : "", has_text ? state->text : "");
}

/* Opens the monitor, and fails if there is none or its guest has not booted. */
static int find_running(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	struct state state;
	enum wisp_sandbox_state now;
	sandbox->pidfd = state_open_monitor(sandbox->dir_fd);
	int r = state_now(sandbox->dir_fd, sandbox->pidfd >= 0, &state, &now);
	if (r < 0)
		lib_fail_errno(error, -r, "cannot read the state of the sandbox '%s'", sandbox->name);
	else if (now != WISP_SANDBOX_RUNNING && now != WISP_SANDBOX_PAUSED && now != WISP_SANDBOX_TEMPLATE)
		r = fail_not_running(sandbox, now, &state, error);
	free(state.text);
	return r;
}

/* Takes over the descriptors, even if it fails. `config_fd` is the sandbox's config. */
static int make_handle(int root_fd, int dir_fd, int config_fd, const char *root, const char *name,
        struct wisp_sandbox **out, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox = sandbox_new(root_fd, &(struct lib_cancel){0});
	int r = sandbox ? config_read_open(config_fd, &sandbox->config) : -ENOMEM;
	close(config_fd);
	if (!sandbox) {
		close(dir_fd);
		return lib_no_memory(error);
	}
	sandbox->dir_fd = dir_fd;
	sandbox->name = strdup(name);
	if (asprintf(&sandbox->dir, "%s/%s", root, name) < 0)
		sandbox->dir = NULL;
	if (r < 0)
		lib_fail_errno(error, -r, "cannot read the configuration of the sandbox '%s'", name);
	else if (!sandbox->name || !sandbox->dir)
		r = lib_no_memory(error);
	else
		r = find_running(sandbox, error);
	if (r < 0)
		wisp_close_sandbox(sandbox);
	else
		*out = sandbox;
	return r;
}

/* Opens the state root for an operation on an existing sandbox. A root that is missing has none. */
static int open_existing_root(const char *root, const char *name, int *root_fd, char **path, struct wisp_error *error)
{
	int r = lib_check_name(name, error);
	if (r < 0)
		return r;
	r = state_open_root(root, false, root_fd, path, error);
	if (r == -ENOENT)
		lib_fail(error, WISP_ERR_NO_SANDBOX, ENOENT, "there is no sandbox '%s': %s does not exist", name, root);
	return r;
}

int wisp_open_sandbox(const char *state_root, const char *name, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	int root_fd, dir_fd, config_fd;
	char *root;
	*sandbox = NULL;
	int r = open_existing_root(state_root, name, &root_fd, &root, error);
	if (r < 0)
		return r;
	r = state_open(root_fd, root, name, &dir_fd, &config_fd, error);
	if (r == 0)
		r = make_handle(root_fd, dir_fd, config_fd, root, name, sandbox, error);
	else
		close(root_fd);
	free(root);
	return r;
}

int wisp_inspect_sandbox(
        const char *state_root, const char *name, struct wisp_sandbox_info **info, struct wisp_error *error)
{
	if (lib_is_null(info, "info", error))
		return -EINVAL;
	int root_fd;
	char *root;
	*info = NULL;
	int r = open_existing_root(state_root, name, &root_fd, &root, error);
	if (r < 0)
		return r;
	r = state_inspect(root_fd, root, name, info, error);
	close(root_fd);
	free(root);
	return r;
}

static int read_trace(int dir_fd, const char *name, char **text, size_t *length, struct wisp_error *error)
{
	if (state_probe(dir_fd) == STATE_HELD)
		return lib_fail(error, WISP_ERR_STILL_RUNNING, EBUSY,
		        "the sandbox '%s' is running, and its trace is written at its end: stop it first", name);
	*text = lib_read_file(dir_fd, SANDBOX_FILES_TRACE, TRACE_MAX, length);
	if (*text)
		return 0;
	if (errno == ENOENT)
		return lib_fail(error, WISP_ERR_INVALID, ENOENT,
		        "the sandbox '%s' left no trace: create it with trace and keep", name);
	return lib_fail_errno(error, errno, "cannot read the trace of the sandbox '%s'", name);
}

int wisp_read_trace(const char *state_root, const char *name, char **text, size_t *length, struct wisp_error *error)
{
	if (lib_is_null(text, "text", error))
		return -EINVAL;
	int root_fd, dir_fd;
	char *root;
	*text = NULL;
	int r = open_existing_root(state_root, name, &root_fd, &root, error);
	if (r < 0)
		return r;
	r = state_open(root_fd, root, name, &dir_fd, NULL, error);
	if (r == 0) {
		r = read_trace(dir_fd, name, text, length, error);
		close(dir_fd);
	}
	close(root_fd);
	free(root);
	return r;
}

int wisp_remove_sandbox(const char *state_root, const char *name, struct wisp_error *error)
{
	int root_fd;
	char *root;
	int r = open_existing_root(state_root, name, &root_fd, &root, error);
	if (r < 0)
		return r;
	r = state_remove(root_fd, name);
	if (r == -EBUSY)
		lib_fail(error, WISP_ERR_STILL_RUNNING, EBUSY, "the sandbox '%s' is running: stop it first", name);
	else if (r == -EBADMSG)
		lib_fail(
		        error, WISP_ERR_NO_SANDBOX, EBADMSG, "%s/%s is not a sandbox: it is left as it is", root, name);
	else if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		lib_fail(error, WISP_ERR_NO_SANDBOX, ENOENT, "there is no sandbox '%s' in %s", name, root);
	else if (r < 0)
		lib_fail_errno(error, -r, "cannot delete %s/%s", root, name);
	close(root_fd);
	free(root);
	return r;
}
