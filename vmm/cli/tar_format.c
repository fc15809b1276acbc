/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/tar.h"

#define NAME_MAX_BYTES (64 * 1024) /* limit of a long-name or pax entry, which comes from the guest */

struct header { /* POSIX.1-1988, ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
	        version[2];
	char uname[32], gname[32], major[8], minor[8], prefix[155], padding[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "ustar");

/* Octal if the number fits, else GNU's big-endian form. */
static void put_number(char *to, size_t size, uint64_t value)
{
	if (value < 1ull << (3 * (size - 1))) {
		char digits[24];
		snprintf(digits, sizeof(digits), "%0*llo", (int)size - 1, (unsigned long long)value);
		memcpy(to, digits, size);
		return;
	}
	for (size_t i = size; i-- > 0; value >>= 8)
		to[i] = (char)(value & 0xff);
	to[0] = (char)(to[0] | 0x80);
}

static unsigned checksum(const struct header *header)
{
	const unsigned char *bytes = (const unsigned char *)header;
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(*header); i++) {
		bool own = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
		sum += own ? ' ' : bytes[i];
	}
	return sum;
}

static void fill(struct header *header, char type, mode_t mode, uint64_t size, int64_t mtime)
{
	memset(header, 0, sizeof(*header));
	put_number(header->mode, sizeof(header->mode), mode & 07777);
	put_number(header->uid, sizeof(header->uid), 0);
	put_number(header->gid, sizeof(header->gid), 0);
	put_number(header->size, sizeof(header->size), size);
	put_number(header->mtime, sizeof(header->mtime), mtime > 0 ? (uint64_t)mtime : 0);
	header->type = type;
	memcpy(header->magic, "ustar ", 6); /* GNU, for its long names */
	memcpy(header->version, " ", 2);
}

static void seal(struct header *header)
{
	char digits[16];
	snprintf(digits, sizeof(digits), "%06o", checksum(header) & 0777777);
	memcpy(header->checksum, digits, 7);
	header->checksum[7] = ' ';
}

static size_t padded(size_t length)
{
	return (length + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* A name that does not fit into the header precedes it, as an entry of its own. */
static char *put_long(char *to, char type, const char *name)
{
	struct header header;
	size_t length = strlen(name) + 1;
	fill(&header, type, 0644, length, 0);
	memcpy(header.name, "././@LongLink", 13);
	seal(&header);
	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), name, length);
	return to + sizeof(header) + padded(length);
}

char *tar_make_header(const struct tar_entry *entry, size_t *length)
{
	struct header header;
	const char *link = entry->link ? entry->link : "";
	bool long_name = strlen(entry->name) > sizeof(header.name), long_link = strlen(link) > sizeof(header.link);
	*length = sizeof(header) + (long_name ? sizeof(header) + padded(strlen(entry->name) + 1) : 0) +
	          (long_link ? sizeof(header) + padded(strlen(link) + 1) : 0);
	char *blocks = calloc(1, *length), *at = blocks;
	if (!blocks)
		return NULL;
	if (long_name)
		at = put_long(at, 'L', entry->name);
	if (long_link)
		at = put_long(at, 'K', link);
	fill(&header, entry->type, entry->mode, entry->type == '0' ? entry->size : 0, entry->mtime);
	memcpy(header.name, entry->name, strnlen(entry->name, sizeof(header.name)));
	memcpy(header.link, link, strnlen(link, sizeof(header.link)));
	seal(&header);
	memcpy(at, &header, sizeof(header));
	return blocks;
}

/* ---- Reading. The archive comes from the guest and is not trusted. ---- */

static int fail(struct tar_reader *reader, const char *what)
{
	reader->what = what;
	return -1;
}

static int read_all(struct tar_reader *reader, void *data, size_t length)
{
	char *at = data;
	while (length > 0) {
		size_t n = reader->read(reader->context, at, length);
		if (n == 0)
			return fail(reader, "the archive ends early");
		at += n;
		length -= n;
	}
	return 0;
}

static bool get_number(const char *from, size_t size, uint64_t *value)
{
	*value = 0;
	if ((unsigned char)from[0] & 0x80) {
		for (size_t i = 0; i < size; i++) {
			if (*value >> 56)
				return false;
			*value = *value << 8 | (unsigned char)(i == 0 ? from[i] & 0x7f : from[i]);
		}
		return *value <= INT64_MAX;
	}
	size_t i = 0;
	while (i < size && from[i] == ' ')
		i++;
	for (; i < size && from[i] >= '0' && from[i] <= '7'; i++)
		*value = *value << 3 | (uint64_t)(from[i] - '0');
	return i == size || from[i] == ' ' || from[i] == '\0';
}

ptrdiff_t tar_read(struct tar_reader *reader, void *data, size_t length)
{
	if (reader->left == 0)
		return 0;
	size_t n = reader->left < length ? (size_t)reader->left : length;
	n = reader->read(reader->context, data, n);
	if (n == 0)
		return fail(reader, "the archive ends early");
	reader->left -= n;
	return (ptrdiff_t)n;
}

static int skip(struct tar_reader *reader)
{
	char buffer[16384];
	ptrdiff_t n;
	while ((n = tar_read(reader, buffer, sizeof(buffer))) > 0)
		;
	if (n < 0)
		return -1;
	unsigned padding = reader->padding;
	reader->padding = 0;
	return read_all(reader, buffer, padding);
}

static void begin_data(struct tar_reader *reader, uint64_t size)
{
	reader->left = size;
	reader->padding = (unsigned)(-size % TAR_BLOCK);
}

/* The data of a long-name or pax entry. */
static char *read_text(struct tar_reader *reader, uint64_t size)
{
	if (size > NAME_MAX_BYTES) {
		fail(reader, "a name in the archive is too long");
		return NULL;
	}
	char *text = calloc(1, size + 1);
	if (!text) {
		fail(reader, "out of memory");
		return NULL;
	}
	begin_data(reader, size);
	if (read_all(reader, text, size) < 0 || (reader->left = 0, skip(reader)) < 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* A sequence of "LENGTH KEY=VALUE\n". */
static void take_pax(struct tar_reader *reader, char *text, uint64_t *size, bool *has_size)
{
	char *at = text, *end = text + strlen(text);
	while (at < end) {
		char *rest;
		unsigned long length = strtoul(at, &rest, 10);
		if (length < 5 || length > (size_t)(end - at) || *rest != ' ' || at[length - 1] != '\n')
			return;
		at[length - 1] = '\0';
		char *key = rest + 1, *equals = strchr(key, '=');
		if (equals) {
			*equals = '\0';
			char **to = strcmp(key, "path") == 0       ? &reader->name
			            : strcmp(key, "linkpath") == 0 ? &reader->link
			                                           : NULL;
			if (to) {
				free(*to);
				*to = strdup(equals + 1);
			} else if (strcmp(key, "size") == 0) {
				*size = strtoull(equals + 1, NULL, 10);
				*has_size = *size <= INT64_MAX;
			}
		}
		at += length;
	}
}

static int take_header(struct tar_reader *reader, const struct header *header, struct tar_entry *entry)
{
	uint64_t mode, mtime, sum;
	if (!get_number(header->checksum, sizeof(header->checksum), &sum) || sum != checksum(header) ||
	        !get_number(header->mode, sizeof(header->mode), &mode) ||
	        !get_number(header->size, sizeof(header->size), &entry->size))
		return fail(reader, "the archive is broken");
	if (!get_number(header->mtime, sizeof(header->mtime), &mtime))
		mtime = 0;
	entry->type = header->type ? header->type : '0';
	entry->mode = (mode_t)(mode & 07777);
	entry->mtime = (int64_t)mtime;
	return 0;
}

static int set_names(struct tar_reader *reader, const struct header *header, struct tar_entry *entry)
{
	if (!reader->name && header->prefix[0] && memcmp(header->magic, "ustar", 6) == 0) {
		if (asprintf(&reader->name, "%.155s/%.100s", header->prefix, header->name) < 0)
			reader->name = NULL;
	} else if (!reader->name) {
		reader->name = strndup(header->name, sizeof(header->name));
	}
	if (!reader->link)
		reader->link = strndup(header->link, sizeof(header->link));
	entry->name = reader->name;
	entry->link = reader->link;
	return entry->name && entry->link ? 1 : fail(reader, "out of memory");
}

void tar_end(struct tar_reader *reader)
{
	free(reader->name);
	free(reader->link);
	reader->name = reader->link = NULL;
}

int tar_next(struct tar_reader *reader, struct tar_entry *entry)
{
	static const struct header zero;
	struct header header;
	uint64_t pax_size = 0;
	bool has_pax_size = false;
	if (skip(reader) < 0)
		return -1;
	tar_end(reader);
	for (;;) {
		*entry = (struct tar_entry){0};
		if (read_all(reader, &header, sizeof(header)) < 0)
			return -1;
		if (memcmp(&header, &zero, sizeof(header)) == 0)
			return 0;
		if (take_header(reader, &header, entry) < 0)
			return -1;
		if (!strchr("LKxg", entry->type))
			break;
		char *text = read_text(reader, entry->size);
		if (!text)
			return -1;
		char **to = entry->type == 'L' ? &reader->name : entry->type == 'K' ? &reader->link : NULL;
		if (to) {
			free(*to);
			*to = text;
			continue;
		}
		if (entry->type == 'x')
			take_pax(reader, text, &pax_size, &has_pax_size);
		free(text);
	}
	if (has_pax_size)
		entry->size = pax_size;
	/* Only files have data: the size in any other header is ignored. */
	if (!strchr("07", entry->type))
		entry->size = 0;
	entry->type = entry->type == '7' ? '0' : entry->type;
	begin_data(reader, entry->size);
	return set_names(reader, &header, entry);
}
