/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define OWN_LINE "127.0.1.1\t%s\n"
#define HOSTS_MAX 65536 /* what follows in a longer file is not looked at */

/* Is one of the names on a line of text? Changes text. */
static bool has_name(char *text, const char *name)
{
	char *line_rest, *word_rest;
	for (char *line = strtok_r(text, "\n", &line_rest); line; line = strtok_r(NULL, "\n", &line_rest)) {
		line[strcspn(line, "#")] = '\0';
		strtok_r(line, " \t\r", &word_rest); /* the address */
		for (char *word; (word = strtok_r(NULL, " \t\r", &word_rest));)
			if (strcmp(word, name) == 0)
				return true;
	}
	return false;
}

static int add(int fd, const char *name)
{
	char text[HOSTS_MAX + 1], line[256];
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	ssize_t length = read(fd, text, HOSTS_MAX);
	if (length < 0)
		return -errno;
	text[length] = '\0';
	bool open_line = length > 0 && text[length - 1] != '\n';
	if (has_name(text, name))
		return 0;
	int size = snprintf(line, sizeof(line), "%s%s" OWN_LINE, open_line ? "\n" : "",
	        length ? "" : "127.0.0.1\tlocalhost\n", name);
	if (size >= (int)sizeof(line))
		return -ENAMETOOLONG;
	return write(fd, line, (size_t)size) == size ? 0 : -EIO;
}

/* At the beginning of a line of text, or NULL. */
static char *find_line(char *text, const char *line)
{
	char *at = text;
	while ((at = strstr(at, line)) && at != text && at[-1] != '\n')
		at++;
	return at;
}

/* 0, -ENOENT when there is no such line, or another -errno. */
static int replace(int fd, const char *former, const char *name)
{
	char text[HOSTS_MAX + 1], old[256], new[256];
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	ssize_t length = S_ISREG(status.st_mode) && status.st_size <= HOSTS_MAX ? pread(fd, text, HOSTS_MAX, 0) : 0;
	if (length < 0)
		return -errno;
	text[length] = '\0';
	int old_length = snprintf(old, sizeof(old), OWN_LINE, former);
	int new_length = snprintf(new, sizeof(new), OWN_LINE, name);
	if (old_length >= (int)sizeof(old) || new_length >= (int)sizeof(new))
		return -ENAMETOOLONG;
	char *line = find_line(text, old);
	if (!line)
		return -ENOENT;
	/* The new line and what follows it, to where the old line began. */
	off_t start = line - text;
	size_t rest = (size_t)(length - start - old_length);
	const struct iovec parts[] = {{new, (size_t)new_length}, {line + old_length, rest}};
	ssize_t written = pwritev(fd, parts, 2, start);
	if (written < 0)
		return -errno;
	if ((size_t)written != (size_t)new_length + rest)
		return -EIO;
	return ftruncate(fd, start + written) < 0 ? -errno : 0;
}

int hosts_rename(const char *path, const char *former, const char *name)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int error = fd < 0 ? -errno : replace(fd, former, name);
	if (fd >= 0)
		close(fd);
	return error == -ENOENT ? hosts_add(path, name) : error;
}

int hosts_add(const char *path, const char *name)
{
	/* An image may have a FIFO or a device there. */
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd < 0)
		return -errno;
	int error = add(fd, name);
	close(fd);
	return error;
}
