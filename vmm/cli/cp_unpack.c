/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest, and so the archive, may be hostile. No entry escapes the destination by "..", an absolute name, or a link,
 * whether another entry created it or it was there before: the kernel resolves every directory beneath the destination
 * and follows no links (openat2). There are no device nodes and no set-user-ID files, and what is neither a file, a
 * link nor a directory is not replaced. Memory is bounded: what is kept is the path of one entry, and one place for
 * each of its directories.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/cp_unpack.h"

#define DEPTH_MAX 512

struct unpack_dir {
	char *name;
	mode_t mode;
	int64_t mtime;
};

static int open_beneath(int root_fd, const char *path, int flags)
{
	struct open_how how = {
	        .flags = (uint64_t)(flags | O_CLOEXEC),
	        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

/* An entry's name with its first component replaced; NULL if the name is refused. */
static char *local_name(const struct unpack *unpack, const char *name)
{
	while (strncmp(name, "./", 2) == 0 && strcmp(unpack->from, ".") != 0)
		name += 2;
	size_t length = strlen(unpack->from);
	if (strncmp(name, unpack->from, length) != 0 || (name[length] != '/' && name[length] != '\0'))
		return NULL;
	const char *rest = name + length;
	unsigned depth = 0;
	for (const char *at = rest; *at; at += strcspn(at, "/")) {
		at += strspn(at, "/");
		size_t part = strcspn(at, "/");
		if ((part == 2 && memcmp(at, "..", 2) == 0) || ++depth > DEPTH_MAX)
			return NULL;
	}
	char *local;
	if (asprintf(&local, "%s%s", unpack->to, rest) < 0)
		return NULL;
	size_t end = strlen(local);
	while (end > 1 && local[end - 1] == '/')
		local[--end] = '\0';
	return local;
}

/* The directory of `local`, opened, and its last component. */
static int open_parent(const struct unpack *unpack, const char *local, const char **last)
{
	char *dir = cp_split(local, last);
	if (!dir)
		return -1;
	int fd = open_beneath(unpack->root_fd, dir, O_RDONLY | O_DIRECTORY);
	free(dir);
	return fd;
}

mode_t unpack_mode(mode_t mode)
{
	return mode & 01777;
}

static int write_data(struct unpack *unpack, struct cp_file *file)
{
	char buffer[65536];
	ptrdiff_t n;
	int code = 0;
	while (code == 0 && (n = tar_read(&unpack->reader, buffer, sizeof(buffer))) > 0) {
		code = cp_file_write(file, buffer, (size_t)n);
		progress_add(unpack->progress, (uint64_t)n);
	}
	return code ? code : n < 0 ? -1 : 0;
}

static int make_file(
        struct unpack *unpack, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	struct cp_file file;
	int code = cp_file_create(&file, parent, last, local);
	if (code == 0)
		code = write_data(unpack, &file);
	if (code == 0)
		code = cp_file_commit(&file, unpack_mode(entry->mode), entry->mtime);
	cp_file_destroy(&file);
	return code;
}

static void leave_dir(struct unpack *unpack)
{
	struct unpack_dir *dir = &unpack->dirs[--unpack->dir_count];
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = dir->mtime}};
	int fd = open_beneath(unpack->root_fd, dir->name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0) {
		fchmod(fd, dir->mode);
		futimens(fd, times);
		close(fd);
	}
	free(dir->name);
}

/* Leaves all directories that `local` is not in; NULL: all. */
static void leave_dirs(struct unpack *unpack, const char *local)
{
	while (unpack->dir_count > 0) {
		const char *name = unpack->dirs[unpack->dir_count - 1].name;
		size_t length = strlen(name);
		if (local && strncmp(local, name, length) == 0 && local[length] == '/')
			return;
		leave_dir(unpack);
	}
}

static int make_dir(
        struct unpack *unpack, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	struct stat st;
	if (strcmp(local, ".") == 0 || strcmp(last, ".") == 0)
		return 0;
	if (mkdirat(parent, last, 0700) < 0) {
		if (errno != EEXIST || fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			return cli_fail("cannot create the directory %s: %s", local, strerror(errno));
	}
	/* No more than an entry's path has directories: those that `local` is not in were left. */
	struct unpack_dir *grown = reallocarray(unpack->dirs, unpack->dir_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	unpack->dirs = grown;
	char *name = strdup(local);
	if (!name)
		return cli_fail("out of memory");
	grown[unpack->dir_count++] = (struct unpack_dir){name, unpack_mode(entry->mode), entry->mtime};
	return 0;
}

static int make_link(
        struct unpack *unpack, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	const char *target_last;
	int code = 0, target_parent = -1;
	if (!cp_may_replace(parent, last))
		return cli_fail("%s exists and is not a file; remove it first", local);
	if (entry->type == '1') { /* it may lead only to another entry of the archive */
		char *target = local_name(unpack, entry->link);
		if (target && strcmp(target, local) != 0)
			target_parent = open_parent(unpack, target, &target_last);
		if (target_parent < 0 || (unlinkat(parent, last, 0) < 0 && errno != ENOENT) ||
		        linkat(target_parent, target_last, parent, last, 0) < 0)
			code = cli_fail("cannot create the hard link %s", local);
		free(target);
		if (target_parent >= 0)
			close(target_parent);
		return code;
	}
	if ((unlinkat(parent, last, 0) < 0 && errno != ENOENT) || symlinkat(entry->link, parent, last) < 0)
		return cli_fail("cannot create the link %s: %s", local, strerror(errno));
	return 0;
}

static int make_entry(struct unpack *unpack, const char *local, const struct tar_entry *entry)
{
	const char *last = "";
	int parent = open_parent(unpack, local, &last), code = 0;
	if (parent < 0)
		code = cli_fail(
		        "the guest's archive is refused: it has no directory for %s, or a link in its place", local);
	else if (entry->type == '0')
		code = make_file(unpack, parent, last, local, entry);
	else if (entry->type == '5')
		code = make_dir(unpack, parent, last, local, entry);
	else if (entry->type == '1' || entry->type == '2')
		code = make_link(unpack, parent, last, local, entry);
	else
		cli_fail("%s is a device, a FIFO or of an unknown type; skipped", local);
	if (parent >= 0)
		close(parent);
	return code;
}

static int take_entry(struct unpack *unpack, const struct tar_entry *entry)
{
	char *local = local_name(unpack, entry->name);
	int code;
	if (!local)
		return cli_fail("the guest's archive is refused: it names a file outside of the requested path");
	leave_dirs(unpack, local);
	if (!unpack->through)
		code = make_entry(unpack, local, entry);
	else if (entry->type == '0' && unpack->entries == 1 && strcmp(local, unpack->to) == 0)
		code = write_data(unpack, unpack->through);
	else
		code = cli_fail(
		        "%s is not a regular file, so only a regular file can be copied to it", unpack->through->show);
	free(local);
	return code;
}

int unpack_archive(struct unpack *unpack)
{
	struct tar_entry entry;
	int r, code = 0;
	while (code == 0 && (r = tar_next(&unpack->reader, &entry)) > 0) {
		unpack->entries++;
		unpack->last = (struct tar_entry){
		        .type = entry.type, .mode = entry.mode, .size = entry.size, .mtime = entry.mtime};
		code = take_entry(unpack, &entry);
	}
	leave_dirs(unpack, NULL);
	free(unpack->dirs);
	unpack->dirs = NULL;
	tar_end(&unpack->reader);
	return code ? code : r;
}
