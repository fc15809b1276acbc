/* SPDX-License-Identifier: Apache-2.0 */
/* Clones of a sandbox: its monitor forks, and each child becomes the monitor of a sandbox of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/lib/describe.h"
#include "vmm/lib/egress.h"
#include "vmm/lib/folders.h"
#include "vmm/lib/manage.h"
#include "vmm/lib/net.h"
#include "vmm/lib/sandbox.h"

struct forking {
	struct wisp_sandbox *source;
	struct wisp_fork_options options;
	struct lib_cancel cancel;
	struct wisp_sandbox **clones;
	size_t count;
	bool copies; /* some disks are copied for each clone */
	struct manage_hold hold;
};

/* ---- What is refused before anything happens ---- */

/* The name of clone `i`, or NULL for a random one. The caller frees it. */
static int make_name(const struct forking *f, size_t i, char **name, struct wisp_error *error)
{
	const struct wisp_fork_options *options = &f->options;
	*name = NULL;
	if (!options->name && !options->names)
		return 0;
	if (options->names)
		*name = strdup(options->names[i]);
	else if (f->count == 1)
		*name = strdup(options->name);
	else if (asprintf(name, "%s-%zu", options->name, i + 1) < 0)
		*name = NULL;
	return *name ? lib_check_name(*name, error) : lib_no_memory(error);
}

static int check_names(const struct forking *f, struct wisp_error *error)
{
	const struct wisp_fork_options *options = &f->options;
	if (options->name && options->names)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "name and names are set: omit one of the two");
	for (size_t i = 0; options->names && i < f->count; i++) {
		int r = lib_check_name(options->names[i], error);
		if (r < 0)
			return r;
	}
	/* With its number, the last one is the longest. */
	char *last;
	int r = make_name(f, f->count - 1, &last, error);
	free(last);
	return r;
}

static int check(struct forking *f, struct wisp_error *error)
{
	const struct config *config = &f->source->config;
	if (f->count < 1 || f->count > WISP_CLONES_MAX)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu clones: make 1 to %u", f->count, WISP_CLONES_MAX);
	for (size_t i = 0; i < config->disk_count; i++) {
		if (strncmp(config->disks[i], "rw ", 3) != 0)
			continue;
		if (!f->options.copy_disks)
			return lib_fail(error, WISP_ERR_INVALID, EBUSY,
			        "the sandbox '%s' writes to its disk %s, which its clones cannot share: have its disks "
			        "copied for each",
			        f->source->name, config->disks[i] + 3);
		f->copies = true;
	}
	if (config->disk_count > DESCRIPTION_DISKS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG, "the sandbox '%s' has more than %u disks",
		        f->source->name, DESCRIPTION_DISKS_MAX);
	int r = check_names(f, error);
	return r < 0 ? r : lib_check_hostname(f->options.hostname, error);
}

/* ---- One clone ---- */

/* What the source was created with, but for what is the clone's own. */
static void set_options(struct creation *creation, const struct forking *f, const char *root, const char *name)
{
	const struct config *config = &f->source->config;
	creation->cancel = f->cancel;
	creation->options = (struct wisp_create_options){.size = sizeof(creation->options),
	        .state_root = root,
	        .libdir = f->options.libdir,
	        .name = name,
	        .cpus = config->cpus,
	        .memory_mib = config->memory_mib,
	        .image = config->image,
	        .writable = config->writable,
	        .env = config->env,
	        .workdir = config->workdir,
	        .user = config->user,
	        .shell = config->shell,
	        .hostname = f->options.hostname,
	        .boot_timeout_ms = WISP_BOOT_TIMEOUT_MS_DEFAULT,
	        .stop_grace_ms = config->stop_grace_ms,
	        .max_duration_ms = config->max_duration_ms,
	        .idle_timeout_ms = config->idle_timeout_ms,
	        .memory_max_mib = config->limits.memory_mib,
	        .cpu_max_milli = config->limits.cpu_milli,
	        .pids_max = config->limits.pids,
	        .vsock_rate = config->vsock_rate,
	        .console_rate = config->console_rate,
	        .allow = config->allow,
	        .detach = f->options.detach,
	        .keep = f->options.keep,
	        .trace = f->options.trace,
	        .prefetch = f->options.prefetch,
	        .bare = config->bare};
}

static int add_disks(struct creation *creation, const struct forking *f, struct wisp_error *error)
{
	const struct config *config = &f->source->config;
	int r = 0;
	for (size_t i = 0; i < config->disk_count && r == 0; i++) {
		bool read_only = strncmp(config->disks[i], "ro ", 3) == 0;
		struct known_disk disk = {.path = config->disks[i] + 3,
		        .dir = f->source->dir_fd,
		        .read_only = read_only,
		        .in_use = true,
		        .copy = !read_only};
		if (i < config->disk_info_count) {
			disk.cache = (enum wisp_cache)config->disk_info[i].cache;
			disk.dev = config->disk_info[i].dev;
			disk.ino = config->disk_info[i].ino;
			disk.check_file = disk.ino != 0;
		}
		r = creation_add_known_disk(creation, &disk, error);
		if (r == 0 && i < config->disk_info_count)
			creation->description.disk[i].rate = creation->disk_info[i].rate = config->disk_info[i].rate;
	}
	return r;
}

static bool is_template(const struct wisp_sandbox *source)
{
	struct state state;
	state_read(source->dir_fd, &state);
	free(state.text);
	return state.kind == STATE_TEMPLATE;
}

static int describe(struct creation *creation, const struct forking *f, struct wisp_error *error)
{
	const struct config *config = &f->source->config;
	struct description *d = &creation->description;
	int r = creation_set_options(creation, error);
	d->flags |= DESCRIPTION_FORK | (config_has_image(config) ? DESCRIPTION_IMAGE : 0) |
	            (config->overlay ? DESCRIPTION_OVERLAY : 0);
	d->vsock_rate = config->vsock_rate;
	d->console_rate = config->console_rate;
	if (r == 0 && config->image && !(creation->image = strdup(config->image)))
		r = lib_no_memory(error);
	/* Its source's proxy alone has the secrets' values. */
	if (r == 0)
		r = creation_prepare_egress(creation, error);
	if (r == 0)
		r = add_disks(creation, f, error);
	if (r == 0 && config->folders && config->folders[0])
		r = folders_inherit(creation, config, is_template(f->source), error);
	return r < 0 ? r : net_inherit(creation, config->net, error);
}

/* Asks for the child on a connection that is the clone's status socket from then on. */
static int start(
        struct creation *creation, const struct forking *f, struct wisp_sandbox *clone, struct wisp_error *error)
{
	struct manage_ask ask = {.op = MANAGE_FORK, .file = -1};
	struct description_fds fds = creation->fds;
	int fd;
	int r = manage_connect(f->source, &f->cancel, &fd, error);
	if (r < 0)
		return r;
	creation->description.started_ns = (uint64_t)lib_now_ns();
	r = manage_request(f->source, fd, &f->cancel, &ask, error);
	fds.root = clone->root_fd;
	fds.dir = clone->dir_fd;
	if (r == 0) {
		r = description_send(fd, &creation->description, &fds);
		if (r < 0)
			lib_fail_errno(error, -r, "cannot send the description of the clone '%s'", clone->name);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	if (f->hold.fd < 0)
		f->source->pause_us = ask.reply.paused_us;
	clone->status_fd = fd;
	clone->owner = !f->options.detach;
	clone->phase = SANDBOX_BOOTING;
	clone->boot_deadline_ns = lib_deadline_ns(creation->options.boot_timeout_ms + 2000);
	return 0;
}

static int make_clone(struct forking *f, size_t i, const char *root, const char *name, struct wisp_error *error)
{
	struct creation creation;
	struct wisp_sandbox *clone = sandbox_new(fcntl(f->source->root_fd, F_DUPFD_CLOEXEC, 0), &f->cancel);
	if (!clone)
		return lib_no_memory(error);
	creation_init(&creation);
	set_options(&creation, f, root, name);
	int r = clone->root_fd < 0 ? lib_fail_errno(error, errno, "cannot duplicate a descriptor")
	                           : describe(&creation, f, error);
	if (r == 0)
		r = creation_claim(&creation, root, clone, error);
	if (r == 0)
		r = creation_copy_disks(&creation, clone, error);
	if (r == 0)
		r = egress_listen(clone, &creation.egress, error);
	if (r == 0)
		r = start(&creation, f, clone, error);
	/* The clone's are the same open files, and keep the lock. */
	if (r < 0)
		creation_unclaim(&creation, clone);
	creation_free(&creation);
	if (r < 0)
		wisp_close_sandbox(clone);
	else
		f->clones[i] = clone;
	return r;
}

/* ---- All of them ---- */

static int make_clones(struct forking *f, const char *root, struct wisp_error *error)
{
	int64_t began = lib_now_ns();
	int r = f->count > 1 || f->copies ? manage_hold(f->source, &f->cancel, &f->hold, error) : 0;
	for (size_t i = 0; i < f->count && r == 0; i++) {
		char *name;
		r = make_name(f, i, &name, error);
		if (r == 0)
			r = make_clone(f, i, root, name, error);
		free(name);
	}
	if (f->hold.fd >= 0) {
		manage_release(f->source, &f->hold, r == 0);
		f->source->pause_us = (lib_now_ns() - began) / 1000;
	}
	for (size_t i = 0; i < f->count && r == 0; i++)
		r = wisp_wait_ready(f->clones[i], -1, error);
	return r;
}

/* The state root, as the source's directory names it. */
static char *find_root(const struct wisp_sandbox *source)
{
	const char *slash = strrchr(source->dir, '/');
	return strndup(source->dir, slash > source->dir ? (size_t)(slash - source->dir) : 1);
}

int wisp_fork_sandbox(struct wisp_sandbox *sandbox, size_t count, const struct wisp_fork_options *options,
        struct wisp_sandbox **clones, struct wisp_error *error)
{
	struct forking f = {.source = sandbox, .clones = clones, .count = count, .hold = {.fd = -1}};
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(clones, "clones", error))
		return -EINVAL;
	int r = lib_copy_options(&f.options, sizeof(f.options), options, "struct wisp_fork_options", error);
	if (r == 0)
		r = lib_copy_cancel(&f.cancel, f.options.cancel, &sandbox->cancel, error);
	if (r == 0)
		r = check(&f, error);
	if (r < 0)
		return r;
	memset(clones, 0, count * sizeof(*clones));
	char *root = find_root(sandbox);
	r = root ? make_clones(&f, root, error) : lib_no_memory(error);
	for (size_t i = 0; i < count && r < 0; i++) {
		sandbox_destroy(clones[i]);
		clones[i] = NULL;
	}
	free(root);
	return r;
}
