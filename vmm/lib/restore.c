/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/cache.h"
#include "vmm/lib/expand.h"
#include "vmm/lib/folders.h"
#include "vmm/lib/net.h"

struct restore {
	struct snapfile file;
	const char **env;    /* the snapshot's and the caller's; ended by NULL */
	const char *image;   /* given instead of the snapshot's; or NULL */
	const char *overlay; /* likewise */
};

void restore_free(struct restore *restore)
{
	if (!restore)
		return;
	snapfile_close(&restore->file);
	free(restore->env);
	free(restore);
}

static int fail_set(const char *what, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "a sandbox from a snapshot does not boot: %s cannot be chosen: omit it", what);
}

/* What the machine has already is not to be chosen. */
static int check_conflicts(const struct wisp_create_options *options, struct wisp_error *error)
{
	if (options->kernel)
		return fail_set("the kernel", error);
	if (options->initramfs)
		return fail_set("the initramfs", error);
	if (options->kernel_args)
		return fail_set("the kernel's parameters", error);
	if (options->console)
		return fail_set("whether the kernel logs to the console", error);
	if (options->breakpoints)
		return fail_set("breakpoints", error);
	if (options->reclaim)
		return fail_set("whether the guest reports free memory", error);
	if (options->writable || options->bare)
		return fail_set("the kind of its image", error);
	if (options->is_template && !options->detach)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a template outlives the process that creates it: it requires detach");
	return 0;
}

/* The snapshot's variables, but for those that the caller gives, and the caller's. */
static int merge_env(struct restore *restore, const char *const *given, struct wisp_error *error)
{
	const struct config *config = &restore->file.config;
	size_t count = config->env_count, at = 0;
	for (const char *const *env = given; env && *env; env++)
		count++;
	restore->env = calloc(count + 1, sizeof(*restore->env));
	if (!restore->env)
		return lib_no_memory(error);
	for (size_t i = 0; i < config->env_count; i++) {
		size_t length = strcspn(config->env[i], "=") + 1;
		bool replaced = false;
		for (const char *const *env = given; env && *env && !replaced; env++)
			replaced = strncmp(*env, config->env[i], length) == 0;
		if (!replaced)
			restore->env[at++] = config->env[i];
	}
	for (const char *const *env = given; env && *env; env++)
		restore->env[at++] = *env;
	return 0;
}

static int inherit_machine(struct creation *creation, struct wisp_error *error)
{
	struct wisp_create_options *options = &creation->options;
	const struct snapshot_head *head = &creation->restore->file.head;
	if (options->cpus && options->cpus != head->cpus)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the snapshot %s has %u cpus: %u cannot be chosen",
		        options->from, head->cpus, options->cpus);
	if (options->memory_mib && options->memory_mib != head->memory_mib)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the snapshot %s has %u MiB of memory: %u cannot be chosen", options->from, head->memory_mib,
		        options->memory_mib);
	if (options->image && !(head->flags & SNAPSHOT_IMAGE))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the snapshot %s has no image", options->from);
	if (options->overlay && !(head->flags & SNAPSHOT_OVERLAY))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the snapshot %s has no overlay", options->from);
	options->cpus = head->cpus;
	options->memory_mib = head->memory_mib;
	options->bare = head->flags & SNAPSHOT_BARE;
	return 0;
}

static int inherit_config(struct creation *creation, struct wisp_error *error)
{
	struct wisp_create_options *options = &creation->options;
	struct restore *restore = creation->restore;
	const struct config *config = &restore->file.config;
	int r = merge_env(restore, options->env, error);
	if (r < 0)
		return r;
	options->env = restore->env;
	if (!options->workdir)
		options->workdir = config->workdir;
	if (!options->user)
		options->user = config->user;
	if (!options->shell)
		options->shell = config->shell;
	if (options->stop_grace_ms == 0)
		options->stop_grace_ms = config->stop_grace_ms;
	/* Disks have their places by the snapshot: what is given only says where they are. */
	restore->image = options->image;
	restore->overlay = options->overlay;
	options->image = options->image ? options->image : config->image;
	options->overlay = NULL;
	options->writable = config->writable;
	if (options->image) {
		creation->image = lib_absolute(options->image);
		if (!creation->image)
			return lib_no_memory(error);
	}
	return 0;
}

int restore_open(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	int r = check_conflicts(options, error);
	if (r < 0)
		return r;
	struct restore *restore = calloc(1, sizeof(*restore));
	if (!restore)
		return lib_no_memory(error);
	restore->file.fd = restore->file.frames.fd = -1;
	creation->restore = restore;
	int fd = creation->from_fd;
	creation->from_fd = -1;
	r = fd >= 0 ? snapfile_open_fd(fd, options->from, &restore->file, error)
	            : snapfile_open(options->from, &restore->file, error);
	if (r < 0)
		return r;
	if (strcmp(restore->file.head.wisp_version, LIB_VERSION) != 0)
		return lib_fail(error, WISP_ERR_SNAPSHOT, EPROTO,
		        "cannot use the snapshot %s: wisp %.31s made it, and this is wisp " LIB_VERSION
		        ": make it again",
		        options->from, restore->file.head.wisp_version);
	const char *key = restore->file.config.warm;
	if (creation->warm_key && (!key || strcmp(key, creation->warm_key) != 0))
		return lib_fail(error, WISP_ERR_SNAPSHOT, ESTALE,
		        "cannot use the snapshot %s: it is another configuration's", options->from);
	r = inherit_machine(creation, error);
	return r < 0 ? r : inherit_config(creation, error);
}

/* ---- Disks ---- */

/* One that the caller names at its place: how it got there is the caller's business, so it may be another file. */
static int given_disk(struct creation *creation, uint32_t i, struct known_disk *disk, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	const struct snapshot_head *head = &creation->restore->file.head;
	uint32_t image = head->flags & SNAPSHOT_IMAGE ? 1 : 0, overlay = head->flags & SNAPSHOT_OVERLAY ? 1 : 0;
	const char *path = NULL;
	if (i < image) {
		path = creation->restore->image;
	} else if (i < image + overlay) {
		path = creation->restore->overlay;
	} else if (options->disk_count > 0) {
		struct wisp_disk given;
		int r = lib_copy_element(&given, sizeof(given), options->disks, options->disk_size, i - image - overlay,
		        "struct wisp_disk", error);
		if (r < 0)
			return r;
		if (!given.path || !given.path[0])
			return lib_fail(
			        error, WISP_ERR_INVALID, EINVAL, "disk %u has no path", i - image - overlay + 1);
		if (given.read_only != disk->read_only)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "the disk %s cannot be used: the guest of the snapshot %s its disk %u", given.path,
			        disk->read_only ? "only reads" : "writes to", i - image - overlay + 1);
		path = given.path;
	}
	if (!path)
		return 0;
	disk->path = path;
	disk->check_file = creation->warm_key != NULL;
	disk->check_time = disk->read_only;
	return 1;
}

static int add_disk(struct creation *creation, uint32_t i, struct wisp_error *error)
{
	const struct snapfile *file = &creation->restore->file;
	const struct snapshot_disk *known = &file->head.disk[i];
	bool read_only = known->flags & SNAPSHOT_DISK_READ_ONLY;
	struct known_disk disk = {.path = file->config.disks[i] + 3,
	        .dir = AT_FDCWD,
	        .read_only = read_only,
	        .cache = (enum wisp_cache)known->cache,
	        .copy = !read_only && creation->options.copy_disks,
	        .check_size = true,
	        .check_time = true,
	        .size = known->size,
	        .mtime_ns = known->mtime_ns,
	        .dev = known->dev,
	        .ino = known->ino};
	/* The time of a packed directory in the cache is that of its use. */
	bool packed = read_only && cache_is_image(disk.path);
	disk.check_file = packed || creation->warm_key;
	disk.check_time = !packed;
	int given = given_disk(creation, i, &disk, error);
	if (given < 0)
		return given;
	if (!read_only && !disk.copy && !given && known->flags & SNAPSHOT_DISK_COPIED)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the disk %s belongs to the snapshot: have it copied for the sandbox, or name another disk in "
		        "its "
		        "place",
		        disk.path);
	int r = creation_add_known_disk(creation, &disk, error);
	if (r == 0 && packed && !given)
		utimensat(AT_FDCWD, disk.path, NULL, 0); /* used just now */
	return r;
}

static int add_disks(struct creation *creation, struct wisp_error *error)
{
	const struct snapshot_head *head = &creation->restore->file.head;
	const struct wisp_create_options *options = &creation->options;
	uint32_t further =
	        head->disk_count - (head->flags & SNAPSHOT_IMAGE ? 1 : 0) - (head->flags & SNAPSHOT_OVERLAY ? 1 : 0);
	if (options->disk_count > 0 && options->disk_count != further)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "%zu disks: the snapshot %s has %u: name as many, in the same order", options->disk_count,
		        options->from, further);
	int r = 0;
	for (uint32_t i = 0; i < head->disk_count && r == 0; i++)
		r = add_disk(creation, i, error);
	return r;
}

/* ---- The machine ---- */

/* Takes over the descriptor of a plain file. */
static int open_memory(struct creation *creation, struct wisp_error *error)
{
	struct snapfile *file = &creation->restore->file;
	struct lib_progress progress;
	int r = lib_copy_progress(&progress, creation->options.progress, error);
	if (r < 0)
		return r;
	if (file->compressed)
		r = expand_snapshot(file, creation->options.cache_dir, &creation->cancel, &progress,
		        &creation->fds.snapshot, error);
	else
		r = snapfile_check_state(file, error);
	if (r < 0 || file->compressed)
		return r;
	creation->fds.snapshot = file->fd;
	file->fd = -1;
	return 0;
}

int restore_describe(struct creation *creation, struct wisp_error *error)
{
	const struct snapshot_head *head = &creation->restore->file.head;
	struct description *d = &creation->description;
	int r = creation_set_options(creation, error);
	d->flags |= DESCRIPTION_RESTORE | (head->flags & SNAPSHOT_IMAGE ? DESCRIPTION_IMAGE : 0) |
	            (head->flags & SNAPSHOT_OVERLAY ? DESCRIPTION_OVERLAY : 0) |
	            (creation->options.is_template ? DESCRIPTION_TEMPLATE : 0);
	d->layout = head->layout;
	description_set(d->kernel_name, sizeof(d->kernel_name), creation->options.from);
	if (r == 0)
		r = creation_prepare_helper(creation, error);
	if (r == 0)
		r = add_disks(creation, error);
	if (r == 0)
		r = folders_restore(creation, &creation->restore->file.config, error);
	if (r == 0)
		r = net_inherit(creation, creation->restore->file.config.net, error);
	return r < 0 ? r : open_memory(creation, error);
}
