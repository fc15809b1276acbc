/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/hosts.h"

#define ID_BYTES 16
#define ID_TEXT (2 * ID_BYTES + 4 + 2) /* with hyphens, a newline and the NUL */

/* In hexadecimal, with a hyphen before those bytes whose bit is set, and a newline. Its length. */
static size_t format_id(char text[ID_TEXT], const uint8_t id[ID_BYTES], unsigned int hyphens)
{
	char *at = text;
	for (unsigned int i = 0; i < ID_BYTES; i++)
		at += sprintf(at, "%s%02x", hyphens >> i & 1 ? "-" : "", id[i]);
	return (size_t)(at + sprintf(at, "\n") - text);
}

/* Replaces the content of a regular file, which an image may have as something else. 0 or -errno. */
static int rewrite(const char *path, int flags, const char *text, size_t length)
{
	struct stat status;
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | flags, 0644);
	if (fd < 0)
		return -errno;
	int error = 0;
	if (fstat(fd, &status) < 0)
		error = -errno;
	else if (!S_ISREG(status.st_mode))
		error = -EINVAL;
	else if (pwrite(fd, text, length, 0) != (ssize_t)length)
		error = -EIO;
	else if (status.st_size > (off_t)length && ftruncate(fd, (off_t)length) < 0)
		error = -errno;
	close(fd);
	return error;
}

int identity_write_generation(const struct identity_files *files, const uint8_t generation[ID_BYTES])
{
	char text[ID_TEXT];
	size_t length = format_id(text, generation, 1u << 4 | 1u << 6 | 1u << 8 | 1u << 10);
	return rewrite(files->generation, O_CREAT, text, length);
}

int identity_reseed(const struct identity_files *files, const uint8_t seed[64])
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[64];
	} pool = {.info = {.entropy_count = 8 * sizeof(pool.bytes), .buf_size = sizeof(pool.bytes)}};
	memcpy(pool.bytes, seed, sizeof(pool.bytes));
	int fd = open(files->random, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* The second call has what is in the pool used now, not within the minute. */
	int error = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? -errno : 0;
	explicit_bzero(&pool, sizeof(pool));
	close(fd);
	return error;
}

static int set_machine_id(const char *path, const uint8_t id[ID_BYTES])
{
	struct stat status;
	char text[ID_TEXT];
	/* Most systems have no second one, or a link to the first. */
	if (!path || lstat(path, &status) < 0 || !S_ISREG(status.st_mode))
		return 0;
	size_t length = format_id(text, id, 0);
	return rewrite(path, 0, text, length);
}

static int set_hostname(const struct identity_files *files, const char *name)
{
	char former[HOST_NAME_MAX + 1] = "";
	if (!*name)
		return 0;
	if (gethostname(former, sizeof(former)) < 0 || sethostname(name, strlen(name)) < 0)
		return -errno;
	return hosts_rename(files->hosts, former, name);
}

int identity_renew(const struct identity_files *files, const struct proto_thaw *thaw)
{
	const int errors[] = {
	        set_hostname(files, thaw->hostname),
	        set_machine_id(files->machine_ids[0], thaw->generation),
	        set_machine_id(files->machine_ids[1], thaw->generation),
	        /* Last: who waits for this finds all else new. */
	        identity_write_generation(files, thaw->generation),
	};
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i])
			return errors[i];
	return 0;
}
