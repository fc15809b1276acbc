/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/init.h"
#include "vmm/shared/fs_wire.h"

/* --- the word --- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool decode(const char *text, char *to, size_t size)
{
	size_t used = 0;
	for (; *text && used + 1 < size; used++) {
		if (*text != '%') {
			to[used] = *text++;
			continue;
		}
		int high = digit(text[1]), low = high < 0 ? -1 : digit(text[2]);
		if (low < 0 || (high == 0 && low == 0))
			return false;
		to[used] = (char)(high << 4 | low);
		text += 3;
	}
	to[used] = '\0';
	return *text == '\0' && to[0] == '/';
}

bool folder_parse(const char *word, struct folder *folder)
{
	*folder = (struct folder){.read_only = strncmp(word, "ro:", 3) == 0};
	if (!folder->read_only && strncmp(word, "rw:", 3) != 0)
		return false;
	word += 3;
	folder->is_file = strncmp(word, "file:", 5) == 0;
	return decode(word + (folder->is_file ? 5 : 0), folder->path, sizeof(folder->path));
}

/* --- mounting --- */

/* All of the path but its last component. What cannot be made shows when it is used. */
static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
}

static int fail(const char *path, int error)
{
	init_fail("cannot mount the host's folder on %s: %s%s", path, strerror(error),
	        error == ENODEV ? " (this kernel has no virtiofs)" : "");
	return -error;
}

/* Two requests of the largest size are on their way while a program takes what it has read. */
#define READ_AHEAD "512" /* KiB */

static void set_read_ahead(const char *path)
{
	struct stat st;
	char file[64];
	if (stat(path, &st) < 0)
		return;
	snprintf(file, sizeof(file), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t written = write(fd, READ_AHEAD, strlen(READ_AHEAD));
	(void)written; /* it is then as it was */
	close(fd);
}

static int mount_tag(const char *tag, const char *path, bool read_only)
{
	mkdir(path, 0755);
	if (mount(tag, path, "virtiofs", MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0), NULL) < 0)
		return errno;
	set_read_ahead(path);
	return 0;
}

/* The file becomes a mount of its own; the folder that it comes from is then in nobody's way. */
static int mount_file(const char *tag, const struct folder *folder)
{
	static const char place[] = "/run/wisp/folder", source[] = "/run/wisp/folder/" FS_FILE_NAME;
	mkdir("/run/wisp", 0755);
	int error = mount_tag(tag, place, folder->read_only);
	if (error)
		return error;
	int fd = open(folder->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	if (fd >= 0)
		close(fd);
	error = mount(source, folder->path, NULL, MS_BIND, NULL) < 0 ? errno : 0;
	umount2(place, MNT_DETACH);
	rmdir(place);
	return error;
}

/* Without the call (Linux before 5.2), there is none. */
static void keep_mount(struct folders *folders, const char *path)
{
	int mount = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mount >= 0)
		folders->mounts[folders->count++] = mount;
}

int folder_mount(struct folders *folders, unsigned n, const char *word)
{
	struct folder folder;
	char tag[24];
	if (strcmp(word, "/") == 0) /* the root, which is mounted */
		return 0;
	if (!folder_parse(word, &folder))
		return fail(word, EINVAL);
	snprintf(tag, sizeof(tag), FS_TAG, n);
	make_parents(folder.path);
	int error = folder.is_file ? mount_file(tag, &folder) : mount_tag(tag, folder.path, folder.read_only);
	if (error)
		return fail(folder.path, error);
	keep_mount(folders, folder.path);
	return 0;
}

/* --- after a restore --- */

#define STATX_ALL_BASIC 0x7ffu /* STATX_BASIC_STATS */

void folders_refresh(const struct folders *folders)
{
	for (unsigned i = 0; i < folders->count; i++) {
		int mount = folders->mounts[i];
		/* Without a parameter it changes nothing, but Linux drops every name that is not in use. */
		int fs = (int)syscall(SYS_fspick, mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
		if (fs >= 0) {
			syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
			close(fs);
		}
		uint64_t attributes[32]; /* a struct statx, which this libc does not have */
		syscall(SYS_statx, mount, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_ALL_BASIC, attributes);
	}
}
