/* SPDX-License-Identifier: Apache-2.0 */
/* Opens what a sandbox is made of: helper, kernel, initramfs, image and disks. */
#include "vmm/lib/describe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/egress.h"
#include "vmm/lib/folders.h"
#include "vmm/lib/image.h"
#include "vmm/lib/net.h"
#include "vmm/lib/restore.h"

/* ---- wisp's own files ---- */

char *creation_own_file(const struct creation *creation, const char *given, const char *name)
{
	if (given)
		return lib_absolute(given);
	const char *libdir = creation->options.libdir ? creation->options.libdir : WISP_PREFIX "/lib/wisp";
	char *joined = NULL;
	if (asprintf(&joined, "%s/%s", libdir, name) < 0)
		return NULL;
	char *absolute = lib_absolute(joined);
	free(joined);
	return absolute;
}

static int fail_own_file(const char *what, const char *path, int errnum, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_SETUP, errnum,
	        "cannot use the %s %s: %s: check the installation, or name another", what, path,
	        strerrordesc_np(errnum));
}

int creation_prepare_helper(struct creation *creation, struct wisp_error *error)
{
	struct stat st;
	creation->helper = creation_own_file(creation, creation->options.helper, "wisp-vmm");
	if (!creation->helper)
		return lib_no_memory(error);
	if (stat(creation->helper, &st) < 0 || access(creation->helper, X_OK) < 0)
		return fail_own_file("monitor", creation->helper, errno, error);
	return S_ISREG(st.st_mode) ? 0 : fail_own_file("monitor", creation->helper, EACCES, error);
}

int creation_prepare_egress(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	if ((!options->allow || !options->allow[0]) && (!options->secrets || !options->secrets[0]))
		return 0;
	creation->proxy = creation_own_file(creation, NULL, "wisp-proxy");
	return creation->proxy ? egress_prepare(options, creation->proxy, &creation->egress, error)
	                       : lib_no_memory(error);
}

/* Opens a file that the guest's memory is filled from; `field` gets its name for messages. */
static int open_software(struct creation *creation, const char *what, const char *given, const char *name, int *fd,
        char field[DESCRIPTION_FILE_NAME_MAX], struct wisp_error *error)
{
	struct stat st;
	char *path = creation_own_file(creation, given, name);
	int r = 0;
	if (!path)
		return lib_no_memory(error);
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		r = fail_own_file(what, path, errno, error);
	else if (!S_ISREG(st.st_mode))
		r = lib_fail(error, WISP_ERR_SETUP, EINVAL, "the %s %s is not a regular file", what, path);
	description_set(field, DESCRIPTION_FILE_NAME_MAX, path);
	free(path);
	return r;
}

const char *creation_own_kernel(const struct wisp_create_options *options)
{
	static const char *const names[] = {KERNEL_UP, KERNEL_SMP, KERNEL_FULL};
	if (!options->kernel)
		return options->cpus > 1 ? KERNEL_SMP : KERNEL_UP;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(options->kernel, names[i] + strlen(KERNEL_PREFIX)) == 0)
			return names[i];
	}
	return NULL;
}

static int prepare_kernel(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	const char *own = creation_own_kernel(options), *name = creation->description.kernel_name;
	int r = open_software(creation, "kernel", own ? NULL : options->kernel, own, &creation->fds.kernel,
	        creation->description.kernel_name, error);
	if (r != -ENOENT || !own)
		return r;
	if (strcmp(own, KERNEL_FULL) == 0)
		return lib_fail(error, WISP_ERR_SETUP, ENOENT,
		        "the kernel %s is not here: install the package wisp-guest-full, or run "
		        "\"make kernel-full\" in wisp's source",
		        name);
	/* `make run` leaves out the kernel for several processors. */
	if (strcmp(own, KERNEL_SMP) == 0)
		return lib_fail(error, WISP_ERR_SETUP, ENOENT,
		        "the kernel %s, for several processors, is not built: run \"make guest\" in wisp's source, or "
		        "use one processor",
		        name);
	return r;
}

static int prepare_software(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description *d = &creation->description;
	int r = prepare_kernel(creation, error);
	if (r < 0 || options->bare)
		return r;
	d->flags |= DESCRIPTION_INITRAMFS;
	return open_software(creation, "initramfs", options->initramfs, "initramfs.cpio", &creation->fds.initramfs,
	        d->initramfs_name, error);
}

/* ---- Disks ---- */

static int prepare_disks(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	int r = 0;
	if (options->overlay) {
		creation->description.flags |= DESCRIPTION_OVERLAY;
		r = creation_open_disk(creation, options->overlay, false, WISP_CACHE_WRITEBACK, error);
		const struct image_use use = {.overlay = true, .other_kernel = !creation_own_kernel(options)};
		enum image_format format;
		if (r == 0)
			r = image_check(creation->fds.disk[creation->description.disk_count - 1], options->overlay,
			        &use, &format, error);
	}
	for (size_t i = 0; i < options->disk_count && r == 0; i++) {
		struct wisp_disk disk;
		r = lib_copy_element(
		        &disk, sizeof(disk), options->disks, options->disk_size, i, "struct wisp_disk", error);
		if (r < 0)
			return r;
		if (!disk.path || !disk.path[0])
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "disk %zu has no path", i + 1);
		if ((unsigned)disk.cache > WISP_CACHE_UNSAFE)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the disk %s: there is no cache mode %d",
			        disk.path, (int)disk.cache);
		r = creation_open_disk(creation, disk.path, disk.read_only, disk.cache, error);
	}
	return r;
}

/* The path of the image's file; a directory is packed into one. */
static int find_image(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct stat st;
	char *path = creation_own_file(creation, options->image, "base.squashfs");
	if (!path)
		return lib_no_memory(error);
	creation->image = path;
	if (!options->image && access(path, R_OK) < 0)
		return fail_own_file("default image", path, errno, error);
	if (!options->image || stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	creation->image = NULL;
	creation->image_is_packed = true;
	int r = image_pack(path, options->cache_dir, &creation->cancel, &creation->image, error);
	free(path);
	return r;
}

static int prepare_image(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	const struct image_use use = {.writable = options->writable, .other_kernel = !creation_own_kernel(options)};
	enum image_format format;
	int fd, r = find_image(creation, error);
	if (r == 0)
		r = image_open(creation->image, &use, &fd, &format, error);
	if (r < 0)
		return r;
	creation->description.flags |= DESCRIPTION_IMAGE;
	r = creation_add_disk(creation, fd, creation->image, !options->writable, WISP_CACHE_WRITEBACK, error);
	if (r == 0 && options->writable && format != IMAGE_EXT4)
		return lib_fail(error, WISP_ERR_IMAGE, EROFS,
		        "the image %s cannot be written to: only ext4 can: omit that option; changes then vanish at "
		        "the end",
		        options->image ? options->image : creation->image);
	return r;
}

/* "NAME=0xADDRESS" */
static int add_breakpoint(struct description *d, const char *text, struct wisp_error *error)
{
	const char *equals = strchr(text, '=');
	char *end = NULL;
	size_t length = equals ? (size_t)(equals - text) : 0;
	if (d->breakpoint_count == DESCRIPTION_BREAKPOINTS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG, "at most %u breakpoints can be set",
		        DESCRIPTION_BREAKPOINTS_MAX);
	struct description_breakpoint *b = &d->breakpoint[d->breakpoint_count];
	if (length > 0 && length < sizeof(b->name)) {
		memcpy(b->name, text, length);
		b->addr = strtoull(equals + 1, &end, 16);
	}
	if (!end || end == equals + 1 || *end != '\0')
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "'%.80s' is not a breakpoint: write NAME=0xADDRESS", text);
	d->breakpoint_count++;
	return 0;
}

static uint64_t bounded(int64_t ms, uint64_t most)
{
	return (uint64_t)ms < most ? (uint64_t)ms : most;
}

int creation_set_options(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description *d = &creation->description;
	d->flags |= (options->detach ? DESCRIPTION_DETACH : 0) | (options->keep ? 0 : DESCRIPTION_EPHEMERAL) |
	            (options->console ? DESCRIPTION_CONSOLE : 0) | (options->trace ? DESCRIPTION_TRACE : 0) |
	            (options->bare ? DESCRIPTION_BARE : 0) | (options->prefetch ? DESCRIPTION_PREFETCH : 0) |
	            (options->private_memory ? DESCRIPTION_PRIVATE : 0) |
	            (options->jail == WISP_JAIL_OFF ? DESCRIPTION_NO_JAIL : 0) |
	            (options->jail == WISP_JAIL_REQUIRE ? DESCRIPTION_REQUIRE_JAIL : 0) |
	            (options->reclaim ? DESCRIPTION_RECLAIM : 0) |
	            (options->console && options->console_fd ? DESCRIPTION_ECHO : 0);
	d->cpus = options->cpus;
	d->memory_mib = options->memory_mib;
	d->engine = options->engine;
	d->boot_timeout_ms = options->boot_timeout_ms > DESCRIPTION_BOOT_TIMEOUT_MS_MAX
	                             ? DESCRIPTION_BOOT_TIMEOUT_MS_MAX
	                             : (uint32_t)options->boot_timeout_ms;
	if (options->bare)
		d->boot_timeout_ms = 0;
	d->max_duration_ms = bounded(options->max_duration_ms, DESCRIPTION_LIFETIME_MS_MAX);
	d->idle_timeout_ms = bounded(options->idle_timeout_ms, DESCRIPTION_LIFETIME_MS_MAX);
	d->stop_grace_ms = (uint32_t)bounded(options->stop_grace_ms, INT32_MAX);
	if (description_set(d->kernel_args, sizeof(d->kernel_args), options->kernel_args ? options->kernel_args : "") <
	        0)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG, "the kernel's parameters are longer than %u bytes",
		        DESCRIPTION_KERNEL_ARGS_MAX - 1);
	int r = 0;
	for (size_t i = 0; options->trace && options->breakpoints && options->breakpoints[i] && r == 0; i++)
		r = add_breakpoint(d, options->breakpoints[i], error);
	return r;
}

void creation_init(struct creation *creation)
{
	*creation = (struct creation){.from_fd = -1};
	description_init(&creation->description);
	description_init_fds(&creation->fds);
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++)
		creation->copy_from[i] = -1;
}

void creation_free(struct creation *creation)
{
	description_close_fds(&creation->fds);
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++) {
		free(creation->disk_names[i]);
		if (creation->copy_from[i] >= 0)
			close(creation->copy_from[i]);
	}
	for (size_t i = 0; i < WISP_FOLDERS_MAX; i++)
		free((char *)(uintptr_t)creation->folders[i].path);
	restore_free(creation->restore);
	if (creation->from_fd >= 0)
		close(creation->from_fd);
	free(creation->cgroup);
	free(creation->helper);
	free(creation->proxy);
	free(creation->fs);
	free(creation->net);
	free(creation->image);
	egress_free(creation->egress);
}

/* The disks' order is what the guest calls them. */
int creation_describe(struct creation *creation, struct wisp_error *error)
{
	int r = creation_set_options(creation, error);
	if (r == 0)
		r = creation_prepare_helper(creation, error);
	if (r == 0)
		r = prepare_software(creation, error);
	if (r == 0 && !creation->options.bare && !folders_have_root(&creation->options))
		r = prepare_image(creation, error);
	if (r == 0)
		r = prepare_disks(creation, error);
	if (r == 0)
		r = net_describe(creation, error);
	return r < 0 ? r : folders_open(creation, error);
}
