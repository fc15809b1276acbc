/* SPDX-License-Identifier: Apache-2.0 */
/* The name and the directory of a sandbox that is being made. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/describe.h"
#include "vmm/lib/egress.h"
#include "vmm/lib/sandbox.h"

struct cgroup_limits creation_limits(const struct wisp_create_options *options)
{
	return (struct cgroup_limits){
	        .memory_mib = options->memory_max_mib, .cpu_milli = options->cpu_max_milli, .pids = options->pids_max};
}

static int make_cgroup(struct creation *creation, struct wisp_error *error)
{
	struct cgroup_limits limits = creation_limits(&creation->options);
	if (!cgroup_is_wanted(&limits))
		return 0;
	int r = cgroup_create(&limits, &creation->cgroup, &creation->fds.cgroup, error);
	if (r == 0)
		creation->description.flags |= DESCRIPTION_CGROUP;
	return r;
}

/* The caller's strings, as they stand in the config; env is the caller's array and only read. */
static void make_config(struct creation *creation, const char **env, const char **disks,
        const struct wisp_folder *const *folders, struct config *config)
{
	const struct wisp_create_options *options = &creation->options;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*config = (struct config){
	        .image = options->image ? creation->image : NULL,
	        .workdir = options->workdir,
	        .user = options->user,
	        .shell = options->shell,
	        .hostname = options->hostname,
	        .env = env,
	        .disks = disks,
	        .disk_info = creation->disk_info,
	        .disk_info_count = creation->description.disk_count,
	        .folders = folders,
	        .cpus = options->cpus,
	        .memory_mib = options->memory_mib,
	        .created_ns = now.tv_sec * NS_PER_S + now.tv_nsec,
	        .stop_grace_ms = options->stop_grace_ms,
	        .max_duration_ms = options->max_duration_ms,
	        .idle_timeout_ms = options->idle_timeout_ms,
	        .limits = creation_limits(options),
	        .cgroup = creation->cgroup,
	        .vsock_rate = options->vsock_rate,
	        .console_rate = options->console_rate,
	        .net = creation->net,
	        .writable = options->writable,
	        .overlay = creation->description.flags & DESCRIPTION_OVERLAY,
	        .bare = creation->description.flags & DESCRIPTION_BARE,
	        .detach = options->detach,
	        .keep = options->keep,
	        .warm = options->from ? NULL : creation->warm_key,
	        .allow = options->allow,
	        .secrets = creation->egress ? (const char *const *)creation->egress->secrets : NULL,
	};
}

static int claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	char name[WISP_NAME_MAX + 1];
	struct config config;
	struct description *d = &creation->description;
	size_t count = 0;
	while (creation->options.env && creation->options.env[count])
		count++;
	const char **env = calloc(count + 1, sizeof(*env));
	if (!env)
		return lib_no_memory(error);
	for (size_t i = 0; i < count; i++)
		env[i] = creation->options.env[i];
	const char *disks[DESCRIPTION_DISKS_MAX + 1] = {NULL};
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++)
		disks[i] = creation->disk_names[i];
	const struct wisp_folder *folders[WISP_FOLDERS_MAX + 1] = {NULL};
	for (size_t i = 0; i < d->folder_count; i++)
		folders[i] = &creation->folders[i];
	make_config(creation, env, disks, folders, &config);
	int lock_fd;
	int r = state_claim(sandbox->root_fd, creation->options.name, &config, name, &sandbox->dir_fd, &lock_fd, error);
	free(env);
	if (r < 0)
		return r;
	creation->fds.lock = lock_fd;
	sandbox->name = strdup(name);
	if (asprintf(&sandbox->dir, "%s/%s", root, name) < 0)
		sandbox->dir = NULL;
	if (!sandbox->name || !sandbox->dir)
		r = lib_no_memory(error);
	else if ((r = config_read(sandbox->dir_fd, &sandbox->config)) < 0)
		lib_fail_errno(error, -r, "cannot read the configuration of the sandbox '%s'", name);
	description_set(d->name, sizeof(d->name), name);
	description_set(
	        d->hostname, sizeof(d->hostname), creation->options.hostname ? creation->options.hostname : name);
	return r;
}

int creation_claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int r = make_cgroup(creation, error);
	return r < 0 ? r : claim(creation, root, sandbox, error);
}

void creation_unclaim(struct creation *creation, struct wisp_sandbox *sandbox)
{
	if (creation->fds.lock >= 0)
		state_discard(sandbox->root_fd, sandbox->dir_fd, creation->description.name, creation->fds.lock);
	creation->fds.lock = -1;
	cgroup_remove(creation->cgroup);
}
