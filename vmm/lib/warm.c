/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/cache.h"
#include "vmm/lib/sandbox.h"
#include "vmm/shared/checksum.h"
#include "vmm/shared/snapshot.h"

int warm_check(const struct wisp_create_options *options, struct wisp_error *error)
{
	const struct {
		bool given;
		const char *option;
	} refused[] = {
	        {options->from, "from"},
	        {options->writable, "writable"},
	        {options->overlay, "overlay"},
	        {options->disk_count > 0, "disks"},
	        {options->console, "console"},
	        {options->breakpoints, "breakpoints"},
	        {options->bare, "bare"},
	        {options->folder_count > 0, "folders"},
	        {options->net, "net"},
	};
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (refused[i].given)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "a warm start cannot be combined with %s: omit one of the two", refused[i].option);
	}
	if (!options->cache_dir)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a warm start requires cache_dir: name a directory for its snapshot");
	return 0;
}

/* ---- The key ---- */

/* The time of a packed directory in the cache is that of its last use, and its name stands for its contents. */
static void add_file(struct lib_string *key, const char *what, const struct stat *st, bool packed)
{
	lib_string_format(key, " %s=%llu:%llu:%lld", what, (unsigned long long)st->st_dev,
	        (unsigned long long)st->st_ino, (long long)st->st_size);
	if (!packed)
		lib_string_format(key, ":%lld.%09ld:%lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
		        (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

/* Everything that decides what a boot leaves in the guest's memory. */
static int make_key(const struct creation *cold, char **key, struct wisp_error *error)
{
	const struct wisp_create_options *options = &cold->options;
	struct lib_string text = {0};
	struct stat monitor, kernel, initramfs, image;
	if (stat(cold->helper, &monitor) < 0 || fstat(cold->fds.kernel, &kernel) < 0 ||
	        fstat(cold->fds.initramfs, &initramfs) < 0 || fstat(cold->fds.disk[0], &image) < 0)
		return lib_fail_errno(error, errno, "cannot stat the files of a warm start");
	if (!S_ISREG(image.st_mode))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a warm start cannot use the device %s, which changes without a trace: copy it to a file",
		        cold->image);
	lib_string_format(&text, "%s %u", LIB_VERSION, SNAPSHOT_VERSION);
	add_file(&text, "monitor", &monitor, false);
	add_file(&text, "kernel", &kernel, false);
	add_file(&text, "initramfs", &initramfs, false);
	add_file(&text, "image", &image, cold->image_is_packed);
	if (cold->image_is_packed)
		lib_string_format(&text, ":%s", strrchr(cold->image, '/') + 1);
	lib_string_format(&text, " cpus=%u memory=%u reclaim=%u args=%s", options->cpus, options->memory_mib,
	        options->reclaim, options->kernel_args ? options->kernel_args : "");
	*key = text.text;
	return text.failed ? lib_no_memory(error) : 0;
}

int warm_locate(const struct creation *cold, struct warm *warm, struct wisp_error *error)
{
	const char *cache_dir = cold->options.cache_dir;
	*warm = (struct warm){.cache_fd = -1};
	int r = make_key(cold, &warm->key, error);
	if (r == 0)
		r = lib_make_dirs(cache_dir, error);
	if (r == 0)
		r = cache_open(cache_dir, &warm->cache_fd, error);
	if (r < 0)
		return r;
	if (asprintf(&warm->path, "%s/" CACHE_WARM "%016llx.snap", cache_dir,
	            (unsigned long long)checksum(warm->key, strlen(warm->key), 0)) < 0) {
		warm->path = NULL;
		return lib_no_memory(error);
	}
	warm->name = strrchr(warm->path, '/') + 1;
	return 0;
}

void warm_close(struct warm *warm)
{
	free(warm->key);
	free(warm->path);
	if (warm->cache_fd >= 0)
		close(warm->cache_fd);
}

/* ---- The snapshot ---- */

int warm_open(const struct warm *warm)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd = openat(warm->cache_fd, warm->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	fcntl(fd, F_OFD_SETLK, &lock);
	futimens(fd, NULL);
	return fd;
}

int warm_describe(const struct warm *warm, int fd, const struct creation *cold, struct creation *creation,
        struct wisp_error *error)
{
	struct wisp_create_options *options = &creation->options;
	*options = cold->options;
	options->warm = options->no_wait = false;
	options->kernel = options->initramfs = options->kernel_args = NULL;
	options->reclaim = false;
	options->image = options->image && !cold->image_is_packed ? cold->image : NULL;
	options->from = warm->path;
	creation->warm_key = warm->key;
	creation->from_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (creation->from_fd < 0)
		return lib_fail_errno(error, errno, "cannot duplicate a descriptor");
	return creation_prepare(creation, error);
}

void warm_discard(const struct warm *warm, int fd)
{
	struct stat opened, named;
	if (fstat(fd, &opened) == 0 && fstatat(warm->cache_fd, warm->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	        opened.st_dev == named.st_dev && opened.st_ino == named.st_ino && S_ISREG(named.st_mode) &&
	        named.st_uid == geteuid())
		unlinkat(warm->cache_fd, warm->name, 0);
}

bool wisp_is_warm(const struct wisp_sandbox *sandbox)
{
	return sandbox && sandbox->warm;
}

/* ---- Making one ---- */

/* Whether a usable one is there; one that is not usable is deleted. */
static bool is_there(const struct warm *warm, const struct creation *cold)
{
	struct creation creation;
	struct wisp_error why;
	int fd = warm_open(warm);
	if (fd < 0)
		return false;
	creation_init(&creation);
	int r = warm_describe(warm, fd, cold, &creation, &why);
	if (r < 0 && why.status == WISP_ERR_SNAPSHOT)
		warm_discard(warm, fd);
	creation_free(&creation);
	close(fd);
	return r == 0;
}

/* Boots a sandbox that nobody uses, and saves it: no program of a user is ever in the file. Takes over root_fd. */
static int make(
        struct creation *creation, const struct warm *warm, const char *root, int root_fd, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox;
	const struct wisp_snapshot_options save = {.size = sizeof(save), .stop = true, .replace = true};
	const struct cache_limits limits = CACHE_LIMITS;
	creation->warm_key = warm->key;
	int r = creation_start(creation, root, root_fd, &sandbox, error);
	if (r < 0)
		return r;
	r = wisp_snapshot_sandbox(sandbox, warm->path, &save, error);
	wisp_close_sandbox(sandbox);
	cache_trim(warm->cache_fd, &limits); /* what it cannot delete now is deleted later */
	return r;
}

static int make_once(struct creation *creation, const struct warm *warm, struct wisp_error *error)
{
	char lock_name[64];
	char *root;
	int root_fd;
	snprintf(lock_name, sizeof(lock_name), "%.*s.lock", (int)strcspn(warm->name, "."), warm->name);
	int lock_fd = cache_try_lock(warm->cache_fd, lock_name);
	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (lock_fd < 0)
		return lib_fail_errno(error, -lock_fd, "cannot open %s/%s", creation->options.cache_dir, lock_name);
	int r = 0;
	if (!is_there(warm, creation)) {
		r = state_open_root(creation->options.state_root, true, &root_fd, &root, error);
		if (r == 0) {
			r = make(creation, warm, root, root_fd, error);
			free(root);
		}
	}
	close(lock_fd);
	return r;
}

/* What belongs to one sandbox, and not to the configuration. */
static void forget_sandbox(struct wisp_create_options *options)
{
	options->name = options->hostname = options->workdir = options->user = options->shell = NULL;
	options->env = options->allow = options->secrets = NULL;
	options->max_duration_ms = options->idle_timeout_ms = 0;
	options->image_rate = options->vsock_rate = options->console_rate = (struct wisp_rate){0};
	options->memory_max_mib = options->cpu_max_milli = options->pids_max = 0;
	options->detach = options->keep = options->no_wait = options->trace = options->warm = false;
}

int wisp_make_warm(const struct wisp_create_options *options, struct wisp_error *error)
{
	struct creation creation;
	struct warm warm = {.cache_fd = -1};
	creation_init(&creation);
	int r = lib_copy_options(
	        &creation.options, sizeof(creation.options), options, "struct wisp_create_options", error);
	if (r == 0)
		r = warm_check(&creation.options, error);
	forget_sandbox(&creation.options);
	if (r == 0)
		r = creation_prepare(&creation, error);
	if (r == 0)
		r = warm_locate(&creation, &warm, error);
	if (r == 0)
		r = make_once(&creation, &warm, error);
	warm_close(&warm);
	creation_free(&creation);
	return r;
}
