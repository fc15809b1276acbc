/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/frames.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define LEVEL 3
#define COUNT_MAX (SNAPSHOT_MEMORY_MIB_MAX + 64u) /* memory, and the other parts of a snapshot */
#define SKIPPABLE_MAGIC 0x184d2a5eu
#define TABLE_MAGIC 0x8f92eab1u

/* The table: a header, an entry for each frame, a footer. All little-endian. */
struct table_header {
	uint32_t magic; /* SKIPPABLE_MAGIC */
	uint32_t size;  /* of what follows */
} __attribute__((packed));

struct table_entry {
	uint32_t size; /* compressed */
	uint32_t content_size;
} __attribute__((packed));

struct table_footer {
	uint32_t count;
	uint8_t flags;  /* the highest bit: entries have a checksum too */
	uint32_t magic; /* TABLE_MAGIC */
} __attribute__((packed));

bool frames_is_start(const void *bytes, size_t size)
{
	uint32_t magic;
	if (size < sizeof(magic))
		return false;
	memcpy(&magic, bytes, sizeof(magic));
	return le32toh(magic) == ZSTD_MAGICNUMBER;
}

static int bad(const char **why, const char *what)
{
	*why = what;
	return -EBADMSG;
}

/* ---- Reading ---- */

static int take_entries(struct frames *f, const struct table_entry *entries, uint64_t table_at, const char **why)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < f->count; i++) {
		uint32_t size = le32toh(entries[i].size), content = le32toh(entries[i].content_size);
		bool last = i + 1 == f->count;
		if (content == 0 || content > FRAMES_CONTENT || (!last && content != FRAMES_CONTENT) || size == 0 ||
		        size > ZSTD_compressBound(FRAMES_CONTENT))
			return bad(why, "its table of frames is not one that wisp writes");
		f->offsets[i] = at;
		at += size;
		f->content_size += content;
	}
	f->offsets[f->count] = at;
	return at == table_at ? 0
	                      : bad(why, "its frames and their table do not fit together: it is truncated or damaged");
}

static int read_table(struct frames *f, uint64_t file_size, const char **why)
{
	struct table_footer footer;
	struct table_header header;
	if (file_size < sizeof(header) + sizeof(footer))
		return bad(why, "it is truncated");
	ssize_t n = lib_pread(f->fd, &footer, sizeof(footer), (off_t)(file_size - sizeof(footer)));
	if (n < 0)
		return (int)n;
	f->count = le32toh(footer.count);
	if (n != sizeof(footer) || le32toh(footer.magic) != TABLE_MAGIC || footer.flags != 0)
		return bad(why, "it is truncated: it has no table of frames at its end");
	uint64_t size = (uint64_t)f->count * sizeof(struct table_entry), all = sizeof(header) + size + sizeof(footer);
	if (f->count == 0 || f->count > COUNT_MAX || all > file_size)
		return bad(why, "its table of frames has an impossible size");
	struct table_entry *entries = malloc(size);
	f->offsets = calloc((size_t)f->count + 1, sizeof(*f->offsets));
	int r = entries && f->offsets ? 0 : -ENOMEM;
	if (r == 0) {
		uint64_t at = file_size - all;
		ssize_t got = lib_pread(f->fd, &header, sizeof(header), (off_t)at);
		n = lib_pread(f->fd, entries, size, (off_t)(at + sizeof(header)));
		if (n < 0 || got < 0)
			r = got < 0 ? (int)got : (int)n;
		else if (n != (ssize_t)size || got != sizeof(header) || le32toh(header.magic) != SKIPPABLE_MAGIC ||
		         le32toh(header.size) != size + sizeof(footer))
			r = bad(why, "its table of frames is damaged");
		else
			r = take_entries(f, entries, at, why);
	}
	free(entries);
	return r;
}

int frames_open(int fd, struct frames *f, const char **why)
{
	off_t size = lseek(fd, 0, SEEK_END);
	*f = (struct frames){.fd = fd, .current = -1};
	if (size < 0)
		return -errno;
	int r = read_table(f, (uint64_t)size, why);
	if (r == 0) {
		f->in = malloc(ZSTD_compressBound(FRAMES_CONTENT));
		f->out = malloc(FRAMES_CONTENT);
		if (!f->in || !f->out)
			r = -ENOMEM;
	}
	if (r < 0)
		frames_close(f);
	return r;
}

static uint64_t content_of(const struct frames *f, uint32_t i)
{
	uint64_t left = f->content_size - (uint64_t)i * FRAMES_CONTENT;
	return left < FRAMES_CONTENT ? left : FRAMES_CONTENT;
}

/* Expands frame `i` to f->out. */
static int expand(struct frames *f, uint32_t i, const char **why)
{
	size_t size = (size_t)(f->offsets[i + 1] - f->offsets[i]), content = (size_t)content_of(f, i);
	if (f->current == i)
		return 0;
	f->current = -1;
	ssize_t n = lib_pread(f->fd, f->in, size, (off_t)f->offsets[i]);
	if (n < 0)
		return (int)n;
	if ((size_t)n != size || ZSTD_decompress(f->out, FRAMES_CONTENT, f->in, size) != content)
		return bad(why, "a part of it is damaged: zstd cannot expand it");
	f->current = i;
	return 0;
}

ssize_t frames_read(struct frames *f, void *to, size_t size, uint64_t offset, const char **why)
{
	size_t done = 0;
	while (done < size && offset < f->content_size) {
		uint32_t i = (uint32_t)(offset / FRAMES_CONTENT);
		size_t at = (size_t)(offset % FRAMES_CONTENT), left = (size_t)content_of(f, i) - at;
		size_t n = size - done < left ? size - done : left;
		int r = expand(f, i, why);
		if (r < 0)
			return r;
		memcpy((uint8_t *)to + done, f->out + at, n);
		done += n;
		offset += n;
	}
	return (ssize_t)done;
}

void frames_close(struct frames *f)
{
	free(f->offsets);
	free(f->in);
	free(f->out);
	*f = (struct frames){.fd = -1, .current = -1};
}

/* ---- Writing ---- */

static int write_frames(ZSTD_CCtx *context, int from, uint64_t size, int to, struct lib_string *table, uint8_t *buffers,
        const struct lib_cancel *cancel, const struct lib_progress *progress)
{
	size_t room = ZSTD_compressBound(FRAMES_CONTENT);
	int r = 0;
	for (uint64_t at = 0; at < size && r == 0;) {
		size_t length = size - at < FRAMES_CONTENT ? (size_t)(size - at) : FRAMES_CONTENT;
		ssize_t n = lib_pread(from, buffers, length, (off_t)at);
		if (n != (ssize_t)length)
			return n < 0 ? (int)n : -EIO;
		size_t packed = ZSTD_compressCCtx(context, buffers + FRAMES_CONTENT, room, buffers, length, LEVEL);
		if (ZSTD_isError(packed))
			return -ENOMEM;
		const struct table_entry entry = {
		        .size = htole32((uint32_t)packed), .content_size = htole32((uint32_t)length)};
		lib_string_add(table, &entry, sizeof(entry));
		r = lib_write_all(to, buffers + FRAMES_CONTENT, packed);
		at += length;
		lib_report(progress, at, size);
		if (r == 0)
			r = lib_check_cancel(cancel);
	}
	return r;
}

int frames_write(int from, uint64_t size, int to, const struct lib_cancel *cancel, const struct lib_progress *progress)
{
	ZSTD_CCtx *context = ZSTD_createCCtx();
	uint8_t *buffers = malloc(FRAMES_CONTENT + ZSTD_compressBound(FRAMES_CONTENT));
	struct table_header header = {.magic = htole32(SKIPPABLE_MAGIC)};
	struct table_footer footer = {.magic = htole32(TABLE_MAGIC)};
	struct lib_string table = {0};
	lib_string_add(&table, &header, sizeof(header));
	int r = context && buffers ? write_frames(context, from, size, to, &table, buffers, cancel, progress) : -ENOMEM;
	if (r == 0) {
		size_t entries = table.length - sizeof(header);
		footer.count = htole32((uint32_t)(entries / sizeof(struct table_entry)));
		lib_string_add(&table, &footer, sizeof(footer));
		header.size = htole32((uint32_t)(entries + sizeof(footer)));
		if (!table.failed)
			memcpy(table.text, &header, sizeof(header));
		r = table.failed ? -ENOMEM : lib_write_all(to, table.text, table.length);
	}
	ZSTD_freeCCtx(context);
	free(buffers);
	free(table.text);
	return r;
}
