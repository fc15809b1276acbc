/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount points in the initramfs: /lower is a read-only image, /over what changes on top of it, /root-fs what becomes
 * the root. They stay mounted underneath the new root, where no path leads; /over is kept open, since its file system
 * has to be made read-only at the end.
 */
#include "agent/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/init.h"

#define DEVICE_BYTES 64
#define MOUNTS_BYTES (256u * 1024)

/* Where file systems keep their magic number. */
static const struct magic {
	const char *type;
	long offset;
	unsigned int length;
	uint8_t value[4];
} magics[] = {
        {"squashfs", 0, 4, {'h', 's', 'q', 's'}},
        {"erofs", 1024, 4, {0xe2, 0xe1, 0xf5, 0xe0}},
        {"ext4", 1024 + 56, 2, {0x53, 0xef}},
};

static int device_path(const char *name, char path[DEVICE_BYTES])
{
	int length = snprintf(path, DEVICE_BYTES, "/dev/%s", name);
	if (length < DEVICE_BYTES)
		return 0;
	init_fail("the device name %.32s... is too long", name);
	return -ENAMETOOLONG;
}

/* NULL after a line on the console. */
static const char *detect(const char *device, int *error)
{
	uint8_t start[2048];
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	ssize_t count = fd < 0 ? -1 : pread(fd, start, sizeof(start), 0);
	*error = count < 0 ? errno : EINVAL;
	if (fd >= 0)
		close(fd);
	if (count < 0) {
		init_fail("cannot read %s: %s", device, strerror(*error));
		return NULL;
	}
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *magic = &magics[i];
		if (count >= magic->offset + (long)magic->length &&
		        memcmp(start + magic->offset, magic->value, magic->length) == 0)
			return magic->type;
	}
	init_fail("%s has no file system of a kind known here (squashfs, erofs, ext4)", device);
	return NULL;
}

/* What the kernel said since kmsg was opened at its end: the reason for a mount that failed. */
static void read_reason(int kmsg, char *reason, size_t size)
{
	char record[1024];
	size_t length = 0;
	*reason = '\0';
	for (ssize_t count; kmsg >= 0 && (count = read(kmsg, record, sizeof(record) - 1)) > 0;) {
		record[count] = '\0';
		char *text = strchr(record, ';');
		if (!text || length >= size)
			continue;
		text[strcspn(text, "\n")] = '\0';
		length += (size_t)snprintf(reason + length, size - length, "; %s", text + 1);
	}
}

/* 0, or -errno after a line on the console with the kernel's reason. */
static int mount_or_say(const char *device, const char *path, const char *type, unsigned long flags, const char *data)
{
	char reason[320];
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
	mkdir(path, 0755);
	int error = mount(device, path, type, flags, data) < 0 ? errno : 0;
	if (error) {
		char kind[32], why[400];
		read_reason(kmsg, reason, sizeof(reason));
		snprintf(kind, sizeof(kind), "%s%s", type, flags & MS_RDONLY ? ", read-only" : "");
		snprintf(why, sizeof(why), "%s%s", strerror(error), reason);
		init_fail("cannot mount %s on %s as %s: %s", device, path, kind, why);
	}
	if (kmsg >= 0)
		close(kmsg);
	return -error;
}

static int mount_disk(const char *name, const char *path, bool read_only)
{
	char device[DEVICE_BYTES];
	if (strncmp(name, "folder", strlen("folder")) == 0)
		return mount_or_say(name, path, "virtiofs", MS_RDONLY, NULL);
	int error = device_path(name, device);
	if (error)
		return error;
	const char *type = detect(device, &error);
	if (!type)
		return -error;
	if (!read_only && strcmp(type, "ext4") != 0) {
		init_fail("%s holds %s, which cannot be written: ext4 is needed here", device, type);
		return -EROFS;
	}
	/* A journal cannot be replayed on a disk that cannot be written: without this, one that needs it is refused. */
	const char *options = read_only && strcmp(type, "ext4") == 0 ? "noload" : NULL;
	return mount_or_say(device, path, type, read_only ? MS_RDONLY : 0, options);
}

static int mount_overlay(const char *overlay, int *over_fd)
{
	int error = overlay ? mount_disk(overlay, "/over", false)
	                    : mount_or_say("tmpfs", "/over", "tmpfs", 0, "mode=0755,size=50%");
	if (error)
		return error;
	*over_fd = open("/over", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A disk that was used before has them. */
	mkdir("/over/upper", 0755);
	mkdir("/over/work", 0755);
	return mount_or_say(
	        "overlay", "/root-fs", "overlay", 0, "lowerdir=/lower,upperdir=/over/upper,workdir=/over/work");
}

/* What the kernel's documentation calls switch_root; pivot_root cannot be used in an initramfs. */
static int switch_root(void)
{
	mkdir("/root-fs/dev", 0755);
	if (mount("/dev", "/root-fs/dev", NULL, MS_MOVE, NULL) == 0 && chdir("/root-fs") == 0) {
		/* The memory of this program's file is given back when nothing is left that runs it. */
		unlink("/init");
		if (mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0)
			return 0;
	}
	int error = errno;
	init_fail("cannot make the file system the root: %s", strerror(error));
	return -error;
}

int rootfs_enter(const char *root, bool read_only, const char *overlay, int *over_fd)
{
	*over_fd = -1;
	if (!root)
		return 0;
	mkdir("/root-fs", 0755);
	int error = mount_disk(root, read_only ? "/lower" : "/root-fs", read_only);
	if (!error && read_only)
		error = mount_overlay(overlay, over_fd);
	return error ? error : switch_root();
}

/* ---- The end ---- */

/* /proc writes space, tab, newline and backslash of a path as three octal digits. */
static void decode(char *path)
{
	char *to = path;
	for (const char *from = path; *from; to++) {
		if (from[0] == '\\' && from[1] && from[2] && from[3]) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The mount points, as /proc/self/mounts has them. NULL without memory or /proc; the caller's to free. */
static char *read_mounts(void)
{
	char *text = malloc(MOUNTS_BYTES);
	size_t length = 0;
	int fd = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
	ssize_t count = 1;
	while (text && fd >= 0 && count > 0 && length < MOUNTS_BYTES - 1) {
		count = read(fd, text + length, MOUNTS_BYTES - 1 - length);
		if (count > 0)
			length += (size_t)count;
	}
	if (fd >= 0)
		close(fd);
	if (text)
		text[length] = '\0';
	return text;
}

/* The newest first, as they may lie on one another. */
static void unmount_others(void)
{
	char *text = read_mounts();
	if (!text)
		return;
	for (char *line; (line = strrchr(text, '\n'));) {
		*line = '\0';
		char *start = strrchr(text, '\n');
		char *path = strchr(start ? start : text, ' ');
		char *end = path ? strchr(path + 1, ' ') : NULL;
		if (!end)
			continue;
		*end = '\0';
		decode(path + 1);
		if (strcmp(path + 1, "/") != 0 && umount2(path + 1, UMOUNT_NOFOLLOW) < 0)
			mount(NULL, path + 1, NULL, MS_REMOUNT | MS_RDONLY, NULL);
		*path = '\0';
	}
	free(text);
}

void rootfs_leave(int over_fd)
{
	sync();
	unmount_others();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	if (over_fd >= 0 && fchdir(over_fd) == 0)
		mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	sync();
}
