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

/* What a creation works with; every string in `paths` is owned. */
struct creation {
	struct wisp_create_options options;
	struct launch launch;
	struct wisp_disk disks[WISP_DISKS_MAX];
	char *paths[16 + WISP_DISKS_MAX];
	size_t path_count;
};

static const char *keep_path(struct creation *creation, char *path)
{
	if (path && creation->path_count < sizeof(creation->paths) / sizeof(creation->paths[0])) {
		creation->paths[creation->path_count++] = path;
		return path;
	}
	free(path);
	return NULL;
}

/* `given` made absolute, or the file of libdir. */
static const char *own_file(struct creation *creation, const char *given, const char *name)
{
	if (given)
		return keep_path(creation, lib_absolute(given));
	const char *libdir = creation->options.libdir ? creation->options.libdir : WISP_PREFIX "/lib/wisp";
	char *joined = NULL;
	if (asprintf(&joined, "%s/%s", libdir, name) < 0)
		return NULL;
	char *absolute = lib_absolute(joined);
	free(joined);
	return keep_path(creation, absolute);
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
	        "'%.80s' is no host name: use up to 63 letters, digits, '.', '_' and '-'", hostname);
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
		        "an image that is written to needs no overlay: leave one of the two");
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

static int check_own_file(const char *path, int mode, const char *what, struct wisp_error *error)
{
	if (!path)
		return lib_no_memory(error);
	struct stat st;
	if (stat(path, &st) < 0 || access(path, mode) < 0)
		return lib_fail(error, WISP_ERR_SETUP, errno,
		        "the %s %s: %s: check the installation, or say where it is", what, path,
		        strerrordesc_np(errno));
	if (!S_ISREG(st.st_mode))
		return lib_fail(error, WISP_ERR_SETUP, EINVAL, "the %s %s is no file", what, path);
	return 0;
}

/* Asked by opening: file systems differ, and so do their files. */
static int check_direct(const char *path, struct wisp_error *error)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	else if (errno == EINVAL)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "cannot use %s past the page cache: its file system has no O_DIRECT: use writeback, or unsafe",
		        path);
	return fd < 0 ? lib_fail_errno(error, errno, "cannot open the disk %s", path) : 0;
}

static int check_disk(const char *path, bool read_only, enum wisp_cache cache, struct wisp_error *error)
{
	struct stat st;
	if (stat(path, &st) < 0 || access(path, read_only ? R_OK : R_OK | W_OK) < 0)
		return lib_fail_errno(error, errno, "cannot use %s as a %sdisk", path, read_only ? "read-only " : "");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "%s is no file or block device: it cannot be a disk", path);
	return cache == WISP_CACHE_DIRECT ? check_direct(path, error) : 0;
}

static int prepare_disks(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	for (size_t i = 0; i < options->disk_count; i++) {
		struct wisp_disk disk = options->disks[i];
		if (!disk.path || !disk.path[0])
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "disk %zu has no path", i + 1);
		if (disk.cache > WISP_CACHE_UNSAFE)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the disk %s: there is no cache mode %d",
			        disk.path, (int)disk.cache);
		disk.path = keep_path(creation, lib_absolute(disk.path));
		if (!disk.path)
			return lib_no_memory(error);
		int r = check_disk(disk.path, disk.read_only, disk.cache, error);
		if (r < 0)
			return r;
		creation->disks[i] = disk;
	}
	if (options->overlay) {
		creation->launch.overlay = keep_path(creation, lib_absolute(options->overlay));
		if (!creation->launch.overlay)
			return lib_no_memory(error);
		return check_disk(creation->launch.overlay, false, WISP_CACHE_WRITEBACK, error);
	}
	return 0;
}

static int prepare_image(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	const char *path = own_file(creation, options->image, "base.squashfs");
	if (!path)
		return lib_no_memory(error);
	struct stat st;
	if (!options->image) {
		int r = check_own_file(path, R_OK, "default image", error);
		if (r < 0)
			return r;
	} else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		char *packed;
		int r = image_pack(path, options->cache_dir, &packed, error);
		if (r < 0)
			return r;
		path = keep_path(creation, packed);
	}
	enum image_format format;
	int r = image_check(path, &format, error);
	if (r < 0)
		return r;
	if (options->writable && format != IMAGE_EXT4)
		return lib_fail(error, WISP_ERR_IMAGE, EROFS,
		        "the image %s cannot be written to: only ext4 can: leave that option, changes then vanish at "
		        "the end",
		        options->image ? options->image : path);
	if (options->writable && access(path, W_OK) < 0)
		return lib_fail_errno(error, errno, "cannot write to the image %s", path);
	creation->launch.image = path;
	return 0;
}

static int prepare(struct creation *creation, struct wisp_error *error)
{
	struct wisp_create_options *options = &creation->options;
	struct launch *launch = &creation->launch;
	int r;
	*launch = (struct launch){
	        .helper = own_file(creation, options->helper, "wisp-vmm"),
	        .kernel = own_file(creation, options->kernel, options->cpus > 1 ? "vmlinux-smp" : "vmlinux-up"),
	        .initramfs = own_file(creation, options->initramfs, "initramfs.cpio"),
	        .disks = creation->disks,
	        .disk_count = options->disk_count,
	        .cpus = options->cpus,
	        .memory_mib = options->memory_mib,
	        .boot_timeout_ms = options->boot_timeout_ms,
	        .writable = options->writable,
	        .console = options->console,
	        .detach = options->detach,
	        .ephemeral = !options->keep,
	        .console_fd = options->console ? options->console_fd : 0,
	        .kernel_args = options->kernel_args,
	        .trace = options->trace,
	        .breakpoints = options->trace ? options->breakpoints : NULL,
	};
	if ((r = check_own_file(launch->helper, X_OK, "monitor", error)) < 0 ||
	        (r = check_own_file(launch->kernel, R_OK, "kernel", error)) < 0 ||
	        (r = check_own_file(launch->initramfs, R_OK, "initramfs", error)) < 0 ||
	        (r = prepare_image(creation, error)) < 0)
		return r;
	return prepare_disks(creation, error);
}

/* The caller's strings, as they stand in the config; env is the caller's array and only read. */
static void make_config(const struct creation *creation, const char **env, struct config *config)
{
	const struct wisp_create_options *options = &creation->options;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*config = (struct config){
	        .image = options->image ? creation->launch.image : NULL,
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

/* Claims the directory and fills the handle with it. The lock is the caller's to close. */
static int claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, int *lock_fd,
        struct wisp_error *error)
{
	char name[WISP_NAME_MAX + 1];
	struct config config;
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
	r = state_claim(sandbox->root_fd, creation->options.name, &config, name, &sandbox->dir_fd, lock_fd, error);
	free(env);
	if (r < 0)
		return r;
	sandbox->name = strdup(name);
	if (asprintf(&sandbox->dir, "%s/%s", root, name) < 0)
		sandbox->dir = NULL;
	if (!sandbox->name || !sandbox->dir)
		r = lib_no_memory(error);
	else if ((r = config_read(sandbox->dir_fd, &sandbox->config)) < 0)
		lib_fail_errno(error, -r, "cannot read the configuration of the sandbox '%s'", name);
	if (r < 0) {
		state_remove(sandbox->root_fd, name, *lock_fd);
		*lock_fd = -1;
	}
	return r;
}

static int start(struct creation *creation, struct wisp_sandbox *sandbox, int lock_fd, struct wisp_error *error)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return lib_fail_errno(error, errno, "cannot make a socket pair");
	creation->launch.dir = sandbox->dir;
	creation->launch.hostname = creation->options.hostname ? creation->options.hostname : sandbox->name;
	pid_t pid;
	int r = launch_start(&creation->launch, lock_fd, pair[1], &pid, error);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	sandbox->status_fd = pair[0];
	sandbox->child = pid;
	sandbox->owner = !creation->options.detach;
	sandbox->phase = SANDBOX_BOOTING;
	sandbox->boot_deadline_ns = lib_deadline_ns(creation->options.boot_timeout_ms + 2000);
	/* A detached one's is another process, known when it is ready. */
	if (sandbox->owner)
		sandbox->pidfd = pidfd_open(pid, 0);
	return 0;
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
	int lock_fd = -1;
	int r = claim(creation, root, sandbox, &lock_fd, error);
	if (r == 0) {
		r = start(creation, sandbox, lock_fd, error);
		if (r < 0)
			state_remove(sandbox->root_fd, sandbox->name, lock_fd);
		else
			close(lock_fd); /* the monitor's is the same open file, and its lock */
	}
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
	for (size_t i = 0; i < creation.path_count; i++)
		free(creation.paths[i]);
	free(root);
	return r;
}
