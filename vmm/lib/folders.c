/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/launch.h"
#include "vmm/shared/fs_wire.h"

#define FDS (FS_STATUS_FD - FS_SOCKET_FD + 1)

/* wisp-fs's own descriptors, in the order of fs_wire.h, and this side of each. */
struct ends {
	int theirs[FDS];
	int socket, requests, replies, status;
};

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_theirs(struct ends *ends)
{
	for (size_t i = 0; i < FDS; i++) {
		close_fd(ends->theirs[i]);
		ends->theirs[i] = -1;
	}
}

/* ---- The folder ---- */

static int check(const struct wisp_folder *folder, struct wisp_error *error)
{
	int r = lib_check_absolute(folder->guest, "the folder's path in the guest", error);
	if (r < 0)
		return r;
	if (!folder->path || !folder->path[0] || !folder->guest)
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "a folder lacks its path on the host, or in the guest");
	if (strlen(folder->guest) >= DESCRIPTION_FOLDER_PATH_MAX)
		return lib_fail(error, WISP_ERR_INVALID, ENAMETOOLONG,
		        "the path %.40s... in the guest is longer than %u bytes", folder->guest,
		        DESCRIPTION_FOLDER_PATH_MAX - 1);
	if ((unsigned)folder->owners > WISP_OWNERS_MAP)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the folder %s: there are no owners %d", folder->path,
		        (int)folder->owners);
	if ((unsigned)folder->cache > WISP_FOLDER_ALWAYS)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the folder %s: there is no cache %d", folder->path,
		        (int)folder->cache);
	if (folder->owners == WISP_OWNERS_MAP && geteuid() != 0)
		return lib_fail(error, WISP_ERR_INVALID, EPERM,
		        "the folder %s: only root can map the guest's user ids: omit uid=map", folder->path);
	return 0;
}

/* Without opening the file itself: it is for wisp-fs to do so, with the rights that it then has. */
static int open_folder(const struct wisp_folder *folder, struct stat *st, struct wisp_error *error)
{
	int fd = open(folder->path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, st) < 0) {
		int errnum = errno;
		close_fd(fd);
		if (lib_is_shortage(errnum))
			return lib_fail_errno(error, errnum, "cannot open the folder %s", folder->path);
		return lib_fail(
		        error, WISP_ERR_INVALID, errnum, "cannot share %s: %s", folder->path, strerrordesc_np(errnum));
	}
	if (S_ISDIR(st->st_mode) || S_ISREG(st->st_mode))
		return fd;
	close(fd);
	return lib_fail(error, WISP_ERR_INVALID, EINVAL, "cannot share %s: it is neither a folder nor a regular file",
	        folder->path);
}

/* ---- wisp-fs ---- */

static int open_ends(struct ends *ends)
{
	int sockets[2], requests[2], replies[2], status[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	ends->socket = sockets[0];
	ends->theirs[FS_SOCKET_FD - FS_SOCKET_FD] = sockets[1];
	if (pipe2(requests, O_CLOEXEC) < 0)
		return -errno;
	ends->requests = requests[1];
	ends->theirs[FS_REQUEST_FD - FS_SOCKET_FD] = requests[0];
	if (pipe2(replies, O_CLOEXEC) < 0)
		return -errno;
	ends->replies = replies[0];
	ends->theirs[FS_REPLY_FD - FS_SOCKET_FD] = replies[1];
	if (pipe2(status, O_CLOEXEC) < 0)
		return -errno;
	ends->status = status[0];
	ends->theirs[FS_STATUS_FD - FS_SOCKET_FD] = status[1];
	/* The monitor waits for nothing but its loop. */
	if (fcntl(ends->requests, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	/* Above the places where the child finds them, so that no move overwrites the source of another. */
	for (size_t i = 0; i < FDS; i++) {
		int fd = fcntl(ends->theirs[i], F_DUPFD_CLOEXEC, FS_STATUS_FD + 1);
		if (fd < 0)
			return -errno;
		close(ends->theirs[i]);
		ends->theirs[i] = fd;
	}
	return 0;
}

/* A folder, and how it is shared. */
struct sharing {
	struct wisp_folder folder;
	bool same; /* it must be the one that the guest knows, if it knows one */
};

static int spawn(const char *program, const struct ends *ends, const struct sharing *sharing, pid_t *pid)
{
	const struct wisp_folder *folder = &sharing->folder;
	const char *const argv[] = {"wisp-fs", folder->read_only ? "ro" : "-",
	        folder->owners == WISP_OWNERS_MAP ? "map" : "-", folder->cache == WISP_FOLDER_ALWAYS ? "always" : "-",
	        sharing->same ? "same" : "-", NULL};
	struct launch_fd fds[FDS];
	for (int i = 0; i < FDS; i++)
		fds[i] = (struct launch_fd){ends->theirs[i], FS_SOCKET_FD + i};
	return launch_spawn(program, argv, fds, FDS, NULL, pid);
}

/*
 * The process that is started ends at once. The one that serves is not this process's child, and ends when the
 * monitor's end of the socket closes.
 */
static int start(
        const struct creation *creation, struct ends *ends, const struct sharing *sharing, struct wisp_error *error)
{
	const char *program = creation->fs;
	struct launch_words words;
	pid_t pid;
	int r = spawn(program, ends, sharing, &pid);
	close_theirs(ends);
	if (r != 0)
		return lib_fail(error, WISP_ERR_SETUP, r, "cannot start %s: %s: check the installation or set libdir",
		        program, strerrordesc_np(r));
	/* Nothing, if it serves. */
	r = launch_hear(ends->status, program, pid, &creation->cancel, LAUNCH_LIMIT_MS, &words, error);
	bool serves = launch_serves(pid, ends->socket);
	if (r < 0 || (serves && words.length == 0))
		return r;
	return lib_fail(error, WISP_ERR_SETUP, EIO, "cannot share %s: %s", sharing->folder.path,
	        launch_last_line(&words, "wisp-fs did not start"));
}

static bool is_root(const struct wisp_folder *folder)
{
	return folder->guest && folder->guest[0] == '/' && strspn(folder->guest, "/") == strlen(folder->guest);
}

bool folders_have_root(const struct wisp_create_options *options)
{
	struct wisp_folder first;
	return options->folder_count > 0 && options->folders &&
	       lib_copy_element(&first, sizeof(first), options->folders, options->folder_size, 0, "struct wisp_folder",
	               NULL) == 0 &&
	       is_root(&first);
}

/* Changes go to an overlay in memory, as those to an image do. */
static int check_root(
        const struct creation *creation, const struct wisp_folder *folder, bool first, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	if (options->image || options->writable || options->overlay)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the folder %s is to be the guest's root: omit the image, and what concerns one", folder->path);
	if (!first)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the folder %s is to be the guest's root: name it before the others", folder->path);
	return 0;
}

static int add(struct creation *creation, struct sharing *sharing, struct wisp_error *error)
{
	struct wisp_folder *folder = &sharing->folder;
	struct description *d = &creation->description;
	struct ends ends = {.theirs = {-1, -1, -1, -1, -1}, .socket = -1, .requests = -1, .replies = -1, .status = -1};
	struct stat st;
	int r = check(folder, error);
	if (r == 0 && is_root(folder)) {
		r = check_root(creation, folder, d->folder_count == 0, error);
		folder->read_only = true;
		folder->guest = "/";
	}
	if (r == 0)
		r = ends.theirs[FS_FOLDER_FD - FS_SOCKET_FD] = open_folder(folder, &st, error);
	if (r < 0)
		return r;
	if (is_root(folder) && !S_ISDIR(st.st_mode)) {
		close_theirs(&ends);
		return lib_fail(
		        error, WISP_ERR_INVALID, ENOTDIR, "the file %s cannot be the guest's root", folder->path);
	}
	r = open_ends(&ends);
	if (r < 0)
		lib_fail_errno(error, -r, "cannot make the socket and pipes of a folder");
	else
		r = start(creation, &ends, sharing, error);
	close_theirs(&ends);
	close_fd(ends.status);
	/* The description closes them, also if the creation fails. */
	int *fds = creation->fds.folder[d->folder_count];
	fds[DESCRIPTION_FOLDER_SOCKET] = ends.socket;
	fds[DESCRIPTION_FOLDER_REQUESTS] = ends.requests;
	fds[DESCRIPTION_FOLDER_REPLIES] = ends.replies;
	if (r < 0)
		return r;
	char *path = lib_absolute(folder->path);
	if (!path)
		return lib_no_memory(error);
	creation->folders[d->folder_count] = *folder;
	creation->folders[d->folder_count].path = path;
	struct description_folder *described = &d->folder[d->folder_count++];
	described->read_only = folder->read_only;
	described->is_file = S_ISREG(st.st_mode);
	description_set(described->path, sizeof(described->path), folder->guest);
	return 0;
}

/* Copies the folders of the options. */
static int take_given(
        const struct wisp_create_options *options, struct wisp_folder given[WISP_FOLDERS_MAX], struct wisp_error *error)
{
	int r = 0;
	if (options->folder_count > WISP_FOLDERS_MAX || (options->folder_count > 0 && !options->folders))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu folders: give at most %u", options->folder_count,
		        WISP_FOLDERS_MAX);
	for (size_t i = 0; i < options->folder_count && r == 0; i++)
		r = lib_copy_element(&given[i], sizeof(given[i]), options->folders, options->folder_size, i,
		        "struct wisp_folder", error);
	return r;
}

static int add_all(struct creation *creation, struct sharing *sharing, size_t count, struct wisp_error *error)
{
	creation->fs = creation_own_file(creation, NULL, "wisp-fs");
	int r = creation->fs ? 0 : lib_no_memory(error);
	for (size_t i = 0; i < count && r == 0; i++)
		r = add(creation, &sharing[i], error);
	return r;
}

int folders_open(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct wisp_folder given[WISP_FOLDERS_MAX];
	struct sharing sharing[WISP_FOLDERS_MAX];
	if (options->folder_count == 0)
		return 0;
	int r = take_given(options, given, error);
	if (r == 0 && options->bare)
		r = lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "a bare sandbox has no agent to mount folders: omit them");
	for (size_t i = 0; i < options->folder_count && r == 0; i++)
		sharing[i] = (struct sharing){.folder = given[i]};
	return r < 0 ? r : add_all(creation, sharing, options->folder_count, error);
}

/* ---- Of a machine that knows them ---- */

/* Its guest asks for what it knows of a folder with cache=always no more, whatever has changed it meanwhile. */
int folders_check_saved(const struct config *source, struct wisp_error *error)
{
	for (size_t i = 0; source->folders && source->folders[i]; i++) {
		if (source->folders[i]->cache == WISP_FOLDER_ALWAYS)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "a sandbox whose folder at %s has cache=always cannot be saved: save one without it, "
			        "and give cache=always when you start from the snapshot",
			        source->folders[i]->guest);
	}
	return 0;
}

/* Each clone, and the source, would change the folder without the knowledge of the others. */
static int check_cloned(const struct wisp_folder *folder, struct wisp_error *error)
{
	if (folder->cache != WISP_FOLDER_ALWAYS || folder->read_only)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "a sandbox whose folder at %s has cache=always cannot be forked, because its clones would change the "
	        "folder too: create it without cache=always, or with the folder read-only",
	        folder->guest);
}

int folders_inherit(struct creation *creation, const struct config *source, bool is_template, struct wisp_error *error)
{
	struct sharing sharing[WISP_FOLDERS_MAX];
	size_t count = 0;
	int r = 0;
	for (; r == 0 && source->folders[count] && count < WISP_FOLDERS_MAX; count++) {
		const struct wisp_folder *folder = source->folders[count];
		sharing[count] = (struct sharing){.folder = *folder, .same = !is_template || is_root(folder)};
		r = check_cloned(folder, error);
	}
	return r < 0 ? r : add_all(creation, sharing, count, error);
}

static bool is_at(const struct wisp_folder *folder, const struct wisp_folder *saved)
{
	return is_root(saved) ? is_root(folder) : folder->guest && strcmp(folder->guest, saved->guest) == 0;
}

static int check_rights(const char *snapshot, const struct wisp_folder *folder, const struct wisp_folder *saved,
        struct wisp_error *error)
{
	if (folder->read_only != saved->read_only && !is_root(saved))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the guest of the snapshot %s %s the folder at %s: give it %s", snapshot,
		        saved->read_only ? "only reads" : "writes to", saved->guest,
		        saved->read_only ? "read-only" : "to write to");
	if (folder->owners != saved->owners)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the folder at %s has uid=%s in the snapshot %s: give it the same", saved->guest,
		        saved->owners == WISP_OWNERS_MAP ? "map" : "squash", snapshot);
	return 0;
}

/* Takes the first of those given that is for this path, and not taken. */
static int find(const struct wisp_create_options *options, const struct wisp_folder *given,
        const struct wisp_folder *saved, bool *taken, struct sharing *sharing, struct wisp_error *error)
{
	for (size_t i = 0; i < options->folder_count; i++) {
		if (taken[i] || !is_at(&given[i], saved))
			continue;
		taken[i] = true;
		*sharing = (struct sharing){.folder = given[i], .same = is_root(saved)};
		return check_rights(options->from, &given[i], saved, error);
	}
	return lib_fail(error, WISP_ERR_INVALID, ENOENT,
	        "the guest of the snapshot %s has a folder of the host at %s: give it one (-v HOST:%s)", options->from,
	        saved->guest, saved->guest);
}

int folders_restore(struct creation *creation, const struct config *saved, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct wisp_folder given[WISP_FOLDERS_MAX];
	struct sharing sharing[WISP_FOLDERS_MAX];
	bool taken[WISP_FOLDERS_MAX] = {false};
	size_t count = 0;
	int r = take_given(options, given, error);
	for (; r == 0 && saved->folders[count] && count < WISP_FOLDERS_MAX; count++)
		r = find(options, given, saved->folders[count], taken, &sharing[count], error);
	for (size_t i = 0; i < options->folder_count && r == 0; i++) {
		if (!taken[i])
			r = lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "the guest of the snapshot %s has no folder at %s: omit it", options->from,
			        given[i].guest ? given[i].guest : "no path");
	}
	return r < 0 || count == 0 ? r : add_all(creation, sharing, count, error);
}
