/* SPDX-License-Identifier: Apache-2.0 */
/* New sandboxes: everything that can be refused is refused before the name is claimed and the monitor started. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/lib/image.h"
#include "vmm/lib/launch.h"
#include "vmm/lib/sandbox.h"

/* What a creation works with. */
struct creation {
	struct wisp_create_options options;
	struct description description;
	struct description_fds fds;
	char *helper;
	char *image; /* what the config names: the image as it was given, made absolute, or what a folder was packed to
	              */
};

/* `given` made absolute, or the file of libdir. NULL when memory is out. */
static char *own_file(const struct creation *creation, const char *given, const char *name)
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

static int check_machine(const struct wisp_create_options *options, struct wisp_error *error)
{
	if (options->cpus < 1 || options->cpus > WISP_CPUS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u cpus: give 1 to %u", options->cpus, WISP_CPUS_MAX);
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && options->cpus > (unsigned)CPU_COUNT(&set))
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "%u cpus: this host has %d", options->cpus, CPU_COUNT(&set));
	if (options->memory_mib < WISP_MEMORY_MIB_MIN)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u MiB of memory: give at least %u",
		        options->memory_mib, WISP_MEMORY_MIB_MIN);
	struct sysinfo info;
	if (sysinfo(&info) == 0) {
		uint64_t host_mib = (uint64_t)info.totalram * info.mem_unit >> 20;
		if (options->memory_mib > host_mib)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u MiB of memory: this host has %llu",
			        options->memory_mib, (unsigned long long)host_mib);
	}
	return 0;
}

static int check_hostname(const char *hostname, struct wisp_error *error)
{
	if (!hostname)
		return 0;
	size_t length = strlen(hostname);
	if (length >= 1 && length <= 63 &&
	        strspn(hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == length)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "'%.80s' is not a host name: use up to 63 letters, digits, '.', '_' and '-'", hostname);
}

static int check_options(struct wisp_create_options *options, struct wisp_error *error)
{
	int r;
	if (options->cpus == 0)
		options->cpus = 1;
	if (options->memory_mib == 0)
		options->memory_mib = WISP_MEMORY_MIB_DEFAULT;
	if (options->disk_count > WISP_DISKS_MAX || (options->disk_count > 0 && !options->disks))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu disks: give at most %u", options->disk_count,
		        WISP_DISKS_MAX);
	if (options->writable && options->overlay)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "an image that is written to needs no overlay: omit one of the two");
	if (options->bare && (!options->no_wait || !options->kernel || options->image || options->writable ||
	                             options->overlay || options->disk_count > 0 || options->initramfs))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "bare boots a kernel alone: it requires kernel and no_wait, and takes no image, initramfs or "
		        "disks");
	if ((options->name && (r = lib_check_name(options->name, error)) < 0) ||
	        (r = check_machine(options, error)) < 0 || (r = lib_check_env(options->env, error)) < 0 ||
	        (r = lib_check_absolute(options->workdir, "the working directory", error)) < 0 ||
	        (r = lib_check_line(options->user, "the user", error)) < 0 ||
	        (r = lib_check_absolute(options->shell, "the shell", error)) < 0 ||
	        (r = check_hostname(options->hostname, error)) < 0 ||
	        (r = lib_check_line(options->kernel_args, "the kernel's parameters", error)) < 0 ||
	        (r = lib_check_duration(options->boot_timeout_ms, "the boot timeout", error)) < 0 ||
	        (r = lib_check_duration(options->stop_grace_ms, "the grace to stop", error)) < 0)
		return r;
	if (options->boot_timeout_ms == 0)
		options->boot_timeout_ms = WISP_BOOT_TIMEOUT_MS_DEFAULT;
	if (options->stop_grace_ms == 0)
		options->stop_grace_ms = WISP_STOP_GRACE_MS_DEFAULT;
	return 0;
}

static int fail_own_file(const char *what, const char *path, int errnum, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_SETUP, errnum,
	        "cannot use the %s %s: %s: check the installation, or name another", what, path,
	        strerrordesc_np(errnum));
}

static int prepare_helper(struct creation *creation, struct wisp_error *error)
{
	struct stat st;
	creation->helper = own_file(creation, creation->options.helper, "wisp-vmm");
	if (!creation->helper)
		return lib_no_memory(error);
	if (stat(creation->helper, &st) < 0 || access(creation->helper, X_OK) < 0)
		return fail_own_file("monitor", creation->helper, errno, error);
	return S_ISREG(st.st_mode) ? 0 : fail_own_file("monitor", creation->helper, EACCES, error);
}

/* Opens a file that the guest's memory is filled from; `field` gets its name for messages. */
static int open_software(struct creation *creation, const char *what, const char *given, const char *name, int *fd,
        char field[DESCRIPTION_FILE_NAME_MAX], struct wisp_error *error)
{
	struct stat st;
	char *path = own_file(creation, given, name);
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

static int prepare_software(struct creation *creation, struct wisp_error *error)
{
	struct wisp_create_options *options = &creation->options;
	struct description *d = &creation->description;
	int r = open_software(creation, "kernel", options->kernel, options->cpus > 1 ? "vmlinux-smp" : "vmlinux-up",
	        &creation->fds.kernel, d->kernel_name, error);
	if (r < 0 || options->bare)
		return r;
	d->flags |= DESCRIPTION_INITRAMFS;
	return open_software(creation, "initramfs", options->initramfs, "initramfs.cpio", &creation->fds.initramfs,
	        d->initramfs_name, error);
}

/* Adds an open disk, which the creation owns from here on. */
static void add_disk(struct creation *creation, int fd, bool read_only, enum wisp_cache cache)
{
	uint32_t i = creation->description.disk_count++;
	creation->fds.disk[i] = fd;
	creation->description.disk[i] = (struct description_disk){.read_only = read_only, .cache = cache};
}

static int open_disk(
        struct creation *creation, const char *path, bool read_only, enum wisp_cache cache, struct wisp_error *error)
{
	struct stat st;
	int fd = open(path,
	        (read_only ? O_RDONLY : O_RDWR) | (cache == WISP_CACHE_DIRECT ? O_DIRECT : 0) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == EINVAL && cache == WISP_CACHE_DIRECT)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "cannot use %s past the page cache: its file system has no O_DIRECT: use writeback or unsafe",
		        path);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot use %s as a %sdisk", path, read_only ? "read-only " : "");
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
		close(fd);
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "%s cannot be a disk: it is not a regular file or a block device", path);
	}
	add_disk(creation, fd, read_only, cache);
	return 0;
}

static int prepare_disks(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	int r = 0;
	if (options->overlay) {
		creation->description.flags |= DESCRIPTION_OVERLAY;
		r = open_disk(creation, options->overlay, false, WISP_CACHE_WRITEBACK, error);
	}
	for (size_t i = 0; i < options->disk_count && r == 0; i++) {
		const struct wisp_disk *disk = &options->disks[i];
		if (!disk->path || !disk->path[0])
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "disk %zu has no path", i + 1);
		if ((unsigned)disk->cache > WISP_CACHE_UNSAFE)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the disk %s: there is no cache mode %d",
			        disk->path, (int)disk->cache);
		r = open_disk(creation, disk->path, disk->read_only, disk->cache, error);
	}
	return r;
}

/* The path of the image's file; a directory is packed into one. */
static int find_image(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct stat st;
	char *path = own_file(creation, options->image, "base.squashfs");
	if (!path)
		return lib_no_memory(error);
	creation->image = path;
	if (!options->image && access(path, R_OK) < 0)
		return fail_own_file("default image", path, errno, error);
	if (!options->image || stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	creation->image = NULL;
	int r = image_pack(path, options->cache_dir, &creation->image, error);
	free(path);
	return r;
}

static int prepare_image(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	enum image_format format;
	int fd, r = find_image(creation, error);
	if (r == 0)
		r = image_open(creation->image, options->writable, &fd, &format, error);
	if (r < 0)
		return r;
	creation->description.flags |= DESCRIPTION_IMAGE;
	add_disk(creation, fd, !options->writable, WISP_CACHE_WRITEBACK);
	if (options->writable && format != IMAGE_EXT4)
		return lib_fail(error, WISP_ERR_IMAGE, EROFS,
		        "the image %s cannot be written to: only ext4 can: omit that option; changes then vanish at "
		        "the end",
		        options->image ? options->image : creation->image);
	return 0;
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

static int describe(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description *d = &creation->description;
	d->flags |= (options->detach ? DESCRIPTION_DETACH : 0) | (options->keep ? 0 : DESCRIPTION_EPHEMERAL) |
	            (options->console ? DESCRIPTION_CONSOLE : 0) | (options->trace ? DESCRIPTION_TRACE : 0) |
	            (options->bare ? DESCRIPTION_BARE : 0) |
	            (options->console && options->console_fd > 0 ? DESCRIPTION_ECHO : 0);
	d->cpus = options->cpus;
	d->memory_mib = options->memory_mib;
	d->boot_timeout_ms = options->boot_timeout_ms > DESCRIPTION_BOOT_TIMEOUT_MS_MAX
	                             ? DESCRIPTION_BOOT_TIMEOUT_MS_MAX
	                             : (uint32_t)options->boot_timeout_ms;
	if (options->bare)
		d->boot_timeout_ms = 0;
	if (description_set(d->kernel_args, sizeof(d->kernel_args), options->kernel_args ? options->kernel_args : "") <
	        0)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG, "the kernel's parameters are longer than %u bytes",
		        DESCRIPTION_KERNEL_ARGS_MAX - 1);
	int r = 0;
	for (size_t i = 0; options->trace && options->breakpoints && options->breakpoints[i] && r == 0; i++)
		r = add_breakpoint(d, options->breakpoints[i], error);
	return r;
}

/* The disks' order is what the guest calls them. */
static int prepare(struct creation *creation, struct wisp_error *error)
{
	int r = describe(creation, error);
	if (r == 0)
		r = prepare_helper(creation, error);
	if (r == 0)
		r = prepare_software(creation, error);
	if (r == 0 && !creation->options.bare)
		r = prepare_image(creation, error);
	return r < 0 ? r : prepare_disks(creation, error);
}

/* The caller's strings, as they stand in the config; env is the caller's array and only read. */
static void make_config(const struct creation *creation, const char **env, struct config *config)
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
	        .cpus = options->cpus,
	        .memory_mib = options->memory_mib,
	        .created_ns = now.tv_sec * NS_PER_S + now.tv_nsec,
	        .stop_grace_ms = options->stop_grace_ms,
	        .writable = options->writable,
	        .detach = options->detach,
	        .keep = options->keep,
	};
}

/* Claims the directory and fills the handle and the description with it. */
static int claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	char name[WISP_NAME_MAX + 1];
	struct config config;
	struct description *d = &creation->description;
	size_t count = 0;
	int r = state_check_path(root, creation->options.name ? creation->options.name : "wisp-00000000", error);
	if (r < 0)
		return r;
	while (creation->options.env && creation->options.env[count])
		count++;
	const char **env = calloc(count + 1, sizeof(*env));
	if (!env)
		return lib_no_memory(error);
	for (size_t i = 0; i < count; i++)
		env[i] = creation->options.env[i];
	make_config(creation, env, &config);
	int lock_fd;
	r = state_claim(sandbox->root_fd, creation->options.name, &config, name, &sandbox->dir_fd, &lock_fd, error);
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

static int start(struct creation *creation, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description_fds fds = creation->fds;
	pid_t pid;
	int status_fd;
	fds.root = sandbox->root_fd;
	fds.dir = sandbox->dir_fd;
	int r = launch_start(creation->helper, &creation->description, &fds, options->console ? options->console_fd : 0,
	        &pid, &status_fd, error);
	if (r < 0)
		return r;
	sandbox->status_fd = status_fd;
	sandbox->child = pid;
	sandbox->owner = !options->detach;
	sandbox->phase = SANDBOX_BOOTING;
	sandbox->boot_deadline_ns = lib_deadline_ns(options->bare ? -1 : options->boot_timeout_ms + 2000);
	/* A detached one's is another process, known when it is ready. */
	if (sandbox->owner)
		sandbox->pidfd = pidfd_open(pid, 0);
	return 0;
}

/* What was claimed and not started is nobody else's yet. */
static int claim_and_start(
        struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int r = claim(creation, root, sandbox, error);
	if (r == 0)
		r = start(creation, sandbox, error);
	/* The monitor's are the same open files, and keep the lock. */
	if (r == 0)
		description_close_fds(&creation->fds);
	if (r < 0 && creation->fds.lock >= 0) {
		state_remove(sandbox->root_fd, creation->description.name, creation->fds.lock);
		creation->fds.lock = -1;
	}
	return r;
}

static void discard(struct wisp_sandbox *sandbox)
{
	/* Our child as long as nobody reaped it: the number is its. One that is detached by now sees our end close. */
	if (sandbox->child > 0)
		kill(sandbox->child, SIGKILL);
	wisp_close_sandbox(sandbox);
}

static int create(
        struct creation *creation, const char *root, int root_fd, struct wisp_sandbox **out, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox = calloc(1, sizeof(*sandbox));
	if (!sandbox) {
		close(root_fd);
		return lib_no_memory(error);
	}
	pthread_mutex_init(&sandbox->lock, NULL);
	sandbox->root_fd = root_fd;
	sandbox->dir_fd = sandbox->pidfd = sandbox->status_fd = -1;
	sandbox->phase = SANDBOX_READY;
	int r = claim_and_start(creation, root, sandbox, error);
	if (r < 0) {
		wisp_close_sandbox(sandbox);
		return r;
	}
	if (!creation->options.no_wait)
		r = wisp_wait_ready(sandbox, -1, error);
	if (r < 0) {
		discard(sandbox);
		return r;
	}
	*out = sandbox;
	return 0;
}

int wisp_create_sandbox(
        const struct wisp_create_options *options, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct creation creation = {0};
	int root_fd;
	char *root = NULL;
	*sandbox = NULL;
	description_init(&creation.description);
	description_init_fds(&creation.fds);
	int r = lib_copy_options(
	        &creation.options, sizeof(creation.options), options, "struct wisp_create_options", error);
	if (r == 0)
		r = check_options(&creation.options, error);
	if (r == 0)
		r = prepare(&creation, error);
	if (r == 0)
		r = state_open_root(creation.options.state_root, true, &root_fd, &root, error);
	if (r == 0)
		r = create(&creation, root, root_fd, sandbox, error);
	description_close_fds(&creation.fds);
	free(creation.helper);
	free(creation.image);
	free(root);
	return r;
}
