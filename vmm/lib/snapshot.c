/* SPDX-License-Identifier: Apache-2.0 */
/* Saves a sandbox in a file, and verifies such files. docs/internals/snapshot.md describes the order and why. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/diskcopy.h"
#include "vmm/lib/folders.h"
#include "vmm/lib/manage.h"
#include "vmm/lib/newfile.h"
#include "vmm/lib/sandbox.h"
#include "vmm/lib/snapfile.h"

/* A snapshot under way. */
struct saving {
	struct wisp_sandbox *sandbox;
	struct wisp_snapshot_options options;
	struct lib_cancel cancel;
	struct lib_progress progress;
	struct snapshot_head head;
	struct newfile file;
	struct newfile copies[SNAPSHOT_DISKS_MAX]; /* of the disks that are written to */
	size_t copy_count, published;
	char *disks[SNAPSHOT_DISKS_MAX + 1]; /* for the config in the head */
	struct manage_hold hold;
};

int64_t wisp_get_pause_us(const struct wisp_sandbox *sandbox)
{
	return sandbox ? sandbox->pause_us : 0;
}

/* ---- What is refused before anything happens ---- */

/* Nothing but a snapshot is replaced, and that only if it is wanted. */
static int check_target(const char *path, bool replace, struct wisp_error *error)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : lib_fail_errno(error, errno, "cannot stat %s", path);
	if (!replace)
		return lib_fail(error, WISP_ERR_INVALID, EEXIST, "%s exists: choose another name, or replace it", path);
	int fd = S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW) : -1;
	if (fd < 0 && S_ISREG(st.st_mode))
		return lib_fail_errno(error, errno, "cannot open %s to replace it", path);
	bool is_one = fd >= 0 && snapfile_is_one(fd);
	if (fd >= 0)
		close(fd);
	if (!is_one)
		return lib_fail(error, WISP_ERR_INVALID, EEXIST,
		        "%s is not a snapshot: it is not replaced: choose another name", path);
	return 0;
}

static bool is_writable(const char *disk)
{
	return strncmp(disk, "rw ", 3) == 0;
}

static int check_disks(const struct saving *s, struct wisp_error *error)
{
	const struct config *config = &s->sandbox->config;
	if (config->disk_count > SNAPSHOT_DISKS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG, "the sandbox '%s' has more than %u disks",
		        s->sandbox->name, SNAPSHOT_DISKS_MAX);
	for (size_t i = 0; i < config->disk_count; i++) {
		const char *disk = config->disks[i];
		if (!is_writable(disk) || s->options.copy_disks)
			continue;
		if (!s->options.stop)
			return lib_fail(error, WISP_ERR_INVALID, EBUSY,
			        "the sandbox '%s' would go on writing to its disk %s: copy its disks too, or stop it",
			        s->sandbox->name, disk + 3);
		if (disk[3] != '/')
			return lib_fail(error, WISP_ERR_INVALID, EBUSY,
			        "the disk %s of the sandbox '%s' is removed with it: copy its disks too", disk + 3,
			        s->sandbox->name);
	}
	return 0;
}

/* ---- While the machine is paused ---- */

/* Opens the file that the sandbox has as a disk: its path may be another's by now. */
static int open_disk(const struct wisp_sandbox *sandbox, size_t i, struct stat *st, struct wisp_error *error)
{
	const struct config *config = &sandbox->config;
	const char *path = config->disks[i] + 3;
	int fd = openat(sandbox->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, st) < 0) {
		int r = lib_fail_errno(
		        error, errno, "cannot open the disk %s of the sandbox '%s'", path, sandbox->name);
		if (fd >= 0)
			close(fd);
		return r;
	}
	const struct config_disk *info = i < config->disk_info_count ? &config->disk_info[i] : NULL;
	if (info && info->ino && (info->dev != st->st_dev || info->ino != st->st_ino)) {
		close(fd);
		return lib_fail(error, WISP_ERR_SNAPSHOT, ESTALE,
		        "the disk %s is another file than the one that the sandbox '%s' uses: put that one back", path,
		        sandbox->name);
	}
	return fd;
}

static int copy_disk(struct saving *s, int from, const char *path, struct newfile *copy, struct wisp_error *error)
{
	char *to;
	if (asprintf(&to, "%s.disk%zu", s->file.path, s->copy_count) < 0)
		return lib_no_memory(error);
	int r = newfile_create(to, copy, error);
	free(to);
	if (r < 0)
		return r;
	s->copy_count++;
	if (faccessat(copy->dir_fd, copy->base, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && !s->options.replace)
		return lib_fail(
		        error, WISP_ERR_INVALID, EEXIST, "%s exists: delete it, or choose another name", copy->path);
	r = diskcopy(from, copy->fd, &s->cancel);
	if (r == -ECANCELED || r == -EINTR)
		return lib_fail_wait(error, r);
	return r < 0 ? lib_fail_errno(error, -r, "cannot copy the disk %s to %s", path, copy->path) : 0;
}

/* Copies the disk if it is written to, and notes what a restore has to find. */
static int note_disk(struct saving *s, size_t i, struct wisp_error *error)
{
	const struct config *config = &s->sandbox->config;
	struct snapshot_disk *disk = &s->head.disk[i];
	const char *path = config->disks[i] + 3;
	bool writable = is_writable(config->disks[i]), copied = writable && s->options.copy_disks;
	struct stat st;
	int r = 0, fd = open_disk(s->sandbox, i, &st, error);
	if (fd < 0)
		return fd;
	off_t size = lseek(fd, 0, SEEK_END);
	if (copied) {
		struct newfile *copy = &s->copies[s->copy_count];
		r = copy_disk(s, fd, path, copy, error);
		if (r == 0 && fstat(copy->fd, &st) < 0)
			r = lib_fail_errno(error, errno, "cannot stat %s", copy->path);
		path = copy->path;
	}
	close(fd);
	if (r < 0)
		return r;
	*disk = (struct snapshot_disk){
	        .flags = (writable ? 0 : SNAPSHOT_DISK_READ_ONLY) | (copied ? SNAPSHOT_DISK_COPIED : 0),
	        .cache = i < config->disk_info_count ? config->disk_info[i].cache : WISP_CACHE_WRITEBACK,
	        .size = size > 0 ? (uint64_t)size : 0,
	        .mtime_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
	        .dev = st.st_dev,
	        .ino = st.st_ino};
	if (asprintf(&s->disks[i], "%s %s", writable ? "rw" : "ro", path) < 0) {
		s->disks[i] = NULL;
		return lib_no_memory(error);
	}
	return 0;
}

static int save_machine(struct saving *s, struct wisp_error *error)
{
	struct manage_ask ask = {.op = MANAGE_SNAPSHOT, .file = s->file.fd};
	int r = s->hold.fd >= 0 ? manage_request(s->sandbox, s->hold.fd, &s->cancel, &ask, error)
	                        : manage_once(s->sandbox, &s->cancel, &ask, error);
	s->head.layout = ask.reply.layout;
	s->sandbox->pause_us = r == 0 ? ask.reply.paused_us : 0;
	return r;
}

/* The machine must not go on between a copy of its disks and that of its memory, nor between its end and either. */
static int save_paused(struct saving *s, struct wisp_error *error)
{
	int r = 0;
	int64_t began = lib_now_ns();
	if (s->options.copy_disks || s->options.stop)
		r = manage_hold(s->sandbox, &s->cancel, &s->hold, error);
	s->head.disk_count = (uint32_t)s->sandbox->config.disk_count;
	for (size_t i = 0; i < s->head.disk_count && r == 0; i++)
		r = note_disk(s, i, error);
	if (r == 0)
		r = save_machine(s, error);
	if (!s->options.stop && s->hold.fd >= 0) {
		manage_release(s->sandbox, &s->hold, r == 0);
		s->sandbox->pause_us = (lib_now_ns() - began) / 1000;
	}
	return r;
}

/* ---- When it went on ---- */

static void fill_head(struct saving *s)
{
	const struct config *config = &s->sandbox->config;
	struct snapshot_head *head = &s->head;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	snapshot_init_head(head);
	snprintf(head->wisp_version, sizeof(head->wisp_version), "%s", LIB_VERSION);
	head->flags = (config->bare ? SNAPSHOT_BARE : 0) | (config_has_image(config) ? SNAPSHOT_IMAGE : 0) |
	              (config->overlay ? SNAPSHOT_OVERLAY : 0) | (s->options.stop ? SNAPSHOT_STOPPED : 0);
	head->cpus = config->cpus;
	head->memory_mib = config->memory_mib;
	head->created_ns = now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int finish(struct saving *s, struct wisp_error *error)
{
	struct config config = s->sandbox->config;
	struct lib_string text = {0};
	const char *disks[SNAPSHOT_DISKS_MAX + 1];
	for (size_t i = 0; i <= SNAPSHOT_DISKS_MAX; i++)
		disks[i] = s->disks[i];
	config.disks = disks;
	config.disk_info_count = 0;           /* the head has it */
	config.allow = config.secrets = NULL; /* of this sandbox: whoever restores the file decides anew */
	config_format(&config, &text);
	int r = snapfile_finish(s->file.fd, s->file.path, &s->head, &text, &s->cancel,
	        s->options.compress ? &(struct lib_progress){0} : &s->progress, error);
	free(text.text);
	return r;
}

/* Puts a compressed file in the place of the other. */
static int compress(struct saving *s, struct wisp_error *error)
{
	struct newfile packed;
	int r = newfile_create(s->file.path, &packed, error);
	if (r < 0)
		return r;
	off_t size = lseek(s->file.fd, 0, SEEK_END);
	r = size < 0 ? -errno : frames_write(s->file.fd, (uint64_t)size, packed.fd, &s->cancel, &s->progress);
	if (r < 0) {
		newfile_close(&packed);
		if (r == -ECANCELED || r == -EINTR)
			return lib_fail_wait(error, r);
		return lib_fail_errno(error, -r, "cannot compress the snapshot %s", s->file.path);
	}
	newfile_close(&s->file);
	s->file = packed;
	return 0;
}

/* The file last: it is complete when it has its name. */
static int publish(struct saving *s, struct wisp_error *error)
{
	int r = 0;
	for (; s->published < s->copy_count && r == 0; s->published++) {
		struct newfile *copy = &s->copies[s->published];
		r = newfile_publish(copy, s->options.replace, error);
		if (r == -EEXIST)
			lib_fail(error, WISP_ERR_INVALID, EEXIST, "%s exists: delete it, or choose another name",
			        copy->path);
		if (r < 0)
			return r;
	}
	r = newfile_publish(&s->file, s->options.replace, error);
	if (r == -EEXIST)
		lib_fail(
		        error, WISP_ERR_INVALID, EEXIST, "%s exists: choose another name, or replace it", s->file.path);
	return r;
}

/* The machine is paused, and has no request to a disk in flight: nothing is lost with its monitor. */
static int stop(struct saving *s, struct wisp_error *error)
{
	sandbox_files_write_state(s->sandbox->dir_fd, "exit poweroff it was saved");
	return sandbox_kill(s->sandbox, NULL, error);
}

static int save(struct saving *s, struct wisp_error *error)
{
	int r = 0;
	fill_head(s);
	if (s->options.stop)
		r = sandbox_signal(s->sandbox, 0, 0, error);
	if (r == 0)
		r = save_paused(s, error);
	if (r == 0)
		r = finish(s, error);
	if (r == 0 && s->options.compress)
		r = compress(s, error);
	if (r == 0)
		r = publish(s, error);
	if (r < 0)
		for (size_t i = 0; i < s->published; i++)
			newfile_withdraw(&s->copies[i]);
	return r == 0 && s->options.stop ? stop(s, error) : r;
}

int wisp_snapshot_sandbox(struct wisp_sandbox *sandbox, const char *file, const struct wisp_snapshot_options *options,
        struct wisp_error *error)
{
	struct saving s = {.sandbox = sandbox, .hold = {.fd = -1}};
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(file, "file", error))
		return -EINVAL;
	int r = lib_copy_options(&s.options, sizeof(s.options), options, "struct wisp_snapshot_options", error);
	if (r == 0)
		r = lib_copy_cancel(&s.cancel, s.options.cancel, &sandbox->cancel, error);
	if (r == 0)
		r = lib_copy_progress(&s.progress, s.options.progress, error);
	if (r == 0)
		r = check_target(file, s.options.replace, error);
	if (r == 0)
		r = check_disks(&s, error);
	if (r == 0)
		r = folders_check_saved(&sandbox->config, error);
	if (r == 0)
		r = newfile_create(file, &s.file, error);
	if (r < 0)
		return r;
	r = save(&s, error);
	manage_release(sandbox, &s.hold, false);
	for (size_t i = 0; i < s.copy_count; i++)
		newfile_close(&s.copies[i]);
	for (size_t i = 0; i < SNAPSHOT_DISKS_MAX; i++)
		free(s.disks[i]);
	newfile_close(&s.file);
	return r;
}

int wisp_verify_snapshot(const char *path, const struct wisp_verify_options *given, struct wisp_error *error)
{
	struct wisp_verify_options options;
	struct lib_cancel cancel;
	struct lib_progress progress;
	struct snapfile file;
	if (lib_is_null(path, "file", error))
		return -EINVAL;
	int r = lib_copy_options(&options, sizeof(options), given, "struct wisp_verify_options", error);
	if (r == 0)
		r = lib_copy_cancel(&cancel, options.cancel, &(struct lib_cancel){0}, error);
	if (r == 0)
		r = lib_copy_progress(&progress, options.progress, error);
	if (r == 0)
		r = snapfile_open(path, &file, error);
	if (r < 0)
		return r;
	r = snapfile_check_state(&file, error);
	if (r == 0)
		r = snapfile_check_memory(&file, &cancel, &progress, error);
	snapfile_close(&file);
	return r;
}
