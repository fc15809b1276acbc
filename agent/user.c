/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 16384u             /* longer lines are skipped */
#define FILE_MAX_BYTES (4u * 1024 * 1024) /* what follows is not looked at */

struct lines {
	int fd;
	size_t budget; /* bytes that may still be read */
	size_t start, end;
	bool skipping; /* inside a line that is too long */
	char buffer[LINE_MAX_BYTES];
};

/* NULL with errno. O_NONBLOCK and the check of the type: an image may put a FIFO or a device there. */
static struct lines *lines_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	struct stat status;
	struct lines *lines = NULL;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		lines = malloc(sizeof(*lines));
	else
		errno = EINVAL;
	if (!lines) {
		int error = errno;
		close(fd);
		errno = error;
		return NULL;
	}
	*lines = (struct lines){.fd = fd, .budget = FILE_MAX_BYTES};
	return lines;
}

static void lines_close(struct lines *lines)
{
	if (!lines)
		return;
	close(lines->fd);
	free(lines);
}

/* More bytes into the buffer: false at the end. */
static bool lines_fill(struct lines *lines)
{
	memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
	lines->end -= lines->start;
	lines->start = 0;
	size_t room = sizeof(lines->buffer) - 1 - lines->end;
	if (!room) {
		lines->skipping = true;
		lines->end = 0;
		room = sizeof(lines->buffer) - 1;
	}
	if (room > lines->budget)
		room = lines->budget;
	ssize_t count = room ? read(lines->fd, lines->buffer + lines->end, room) : 0;
	if (count <= 0)
		return false;
	lines->budget -= (size_t)count;
	lines->end += (size_t)count;
	return true;
}

/* The next line without its newline, valid until the next call; NULL at the end. */
static char *lines_next(struct lines *lines)
{
	for (;;) {
		char *line = lines->buffer + lines->start;
		char *newline = memchr(line, '\n', lines->end - lines->start);
		if (newline) {
			*newline = '\0';
			lines->start = (size_t)(newline + 1 - lines->buffer);
			if (!lines->skipping)
				return line;
			lines->skipping = false;
			continue;
		}
		if (lines_fill(lines))
			continue;
		if (lines->start == lines->end || lines->skipping)
			return NULL;
		line = lines->buffer + lines->start;
		lines->buffer[lines->end] = '\0';
		lines->start = lines->end;
		return line;
	}
}

/* Cuts the first field off; "" when there is none left. */
static char *next_field(char **rest, char separator)
{
	char *field = *rest;
	char *end = strchr(field, separator);
	if (end) {
		*end = '\0';
		*rest = end + 1;
	} else {
		*rest = field + strlen(field);
	}
	return field;
}

/* An id is decimal digits only; (uid_t)-1 means "no change" to the kernel and is none. */
static bool parse_id(const char *text, uint32_t *id)
{
	uint64_t value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value >= UINT32_MAX)
			return false;
	}
	*id = (uint32_t)value;
	return true;
}

/* 0, -E2BIG or -ENOMEM. */
static int add_group(struct agent_user *user, gid_t gid)
{
	for (size_t i = 0; i < user->group_count; i++)
		if (user->groups[i] == gid)
			return 0;
	if (user->group_count == USER_GROUPS_MAX)
		return -E2BIG;
	/* At 1, 2, 4... it is full. */
	if ((user->group_count & (user->group_count - 1)) == 0) {
		size_t room = user->group_count ? user->group_count * 2 : 1;
		gid_t *groups = realloc(user->groups, room * sizeof(*groups));
		if (!groups)
			return -ENOMEM;
		user->groups = groups;
	}
	user->groups[user->group_count++] = gid;
	return 0;
}

/*
 * name:password:uid:gid:comment:home:shell. Looks for the id when numeric, else for the name. 1 when it is there, 0, or
 * -ENAMETOOLONG when name or home are longer than can be kept.
 */
static int find_user(const char *wanted, bool numeric, struct agent_user *user)
{
	struct lines *lines = lines_open("/etc/passwd");
	int found = 0;
	for (char *line; lines && !found && (line = lines_next(lines));) {
		char *rest = line;
		const char *name = next_field(&rest, ':');
		next_field(&rest, ':');
		uint32_t uid = 0, gid = 0;
		bool valid = parse_id(next_field(&rest, ':'), &uid);
		valid &= parse_id(next_field(&rest, ':'), &gid);
		if (!valid || !*name || (numeric ? uid != user->uid : strcmp(name, wanted) != 0))
			continue;
		next_field(&rest, ':');
		const char *home = next_field(&rest, ':');
		user->uid = uid;
		user->gid = gid;
		found = strlen(name) < sizeof(user->name) && strlen(home) < sizeof(user->home) ? 1 : -ENAMETOOLONG;
		snprintf(user->name, sizeof(user->name), "%s", name);
		if (*home == '/')
			snprintf(user->home, sizeof(user->home), "%s", home);
	}
	lines_close(lines);
	return found;
}

/*
 * name:password:gid:member,member... Finds a group by its name, or adds those that the user is a member of. 1 when it
 * was found, 0, or -errno.
 */
static int scan_groups(const char *wanted, gid_t *gid, struct agent_user *user)
{
	struct lines *lines = lines_open("/etc/group");
	int found = 0;
	for (char *line; lines && !found && (line = lines_next(lines));) {
		char *rest = line;
		const char *name = next_field(&rest, ':');
		next_field(&rest, ':');
		uint32_t id;
		if (!parse_id(next_field(&rest, ':'), &id))
			continue;
		if (wanted) {
			found = strcmp(name, wanted) == 0;
			if (found)
				*gid = id;
			continue;
		}
		while (*rest && !found)
			if (strcmp(next_field(&rest, ','), user->name) == 0)
				found = add_group(user, id);
	}
	lines_close(lines);
	return found;
}

int agent_user_resolve(const char *spec, struct agent_user *user, char *why, size_t why_size)
{
	/* Without clearing the names' large arrays, for each program. */
	user->change = false;
	user->uid = user->gid = 0;
	user->group_count = 0;
	user->groups = NULL;
	strcpy(user->name, "root");
	strcpy(user->home, "/root");
	if (!*spec)
		return 0;

	char wanted[256];
	const char *colon = strchr(spec, ':');
	size_t length = colon ? (size_t)(colon - spec) : strlen(spec);
	if (!length || length >= sizeof(wanted) || (colon && !colon[1])) {
		snprintf(why, why_size, "\"%.64s\" is not of the form user or user:group", spec);
		return -EINVAL;
	}
	memcpy(wanted, spec, length);
	wanted[length] = '\0';

	user->change = true;
	snprintf(user->home, sizeof(user->home), "/");
	uint32_t id;
	bool numeric = parse_id(wanted, &id);
	if (numeric)
		user->uid = id;
	int known = find_user(wanted, numeric, user);
	if (known < 0) {
		snprintf(why, why_size, "the name or home directory of \"%.64s\" in /etc/passwd is too long", wanted);
		return known;
	}
	if (!known && !numeric) {
		snprintf(why, why_size, "no user \"%.64s\" in /etc/passwd", wanted);
		return -ENOENT;
	}
	if (!known)
		snprintf(user->name, sizeof(user->name), "%s", wanted);
	if (colon && parse_id(colon + 1, &id)) {
		user->gid = id;
	} else if (colon && !scan_groups(colon + 1, &user->gid, user)) {
		snprintf(why, why_size, "no group \"%.64s\" in /etc/group", colon + 1);
		return -ENOENT;
	}
	int error = add_group(user, user->gid);
	if (!error && known)
		error = scan_groups(NULL, NULL, user);
	if (error < 0)
		snprintf(why, why_size, "cannot take all groups of \"%.64s\" in /etc/group", wanted);
	return error;
}

void agent_user_free(struct agent_user *user)
{
	free(user->groups);
	user->groups = NULL;
	user->group_count = 0;
}
