/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/execlog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/shared/proto.h"

#define NS_PER_S 1000000000ull

/* --- the file --- */

static int create(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int capped_prepare(struct capped_file *file, const char *path, uint64_t limit, struct err *err)
{
	*file = (struct capped_file){.limit = limit};
	pthread_mutex_init(&file->lock, NULL);
	if ((size_t)snprintf(file->path, sizeof(file->path), "%s", path) >= sizeof(file->path))
		return err_set(err, ENAMETOOLONG, "the path %s is too long", path);
	file->fd = -1;
	return 0;
}

/* With the lock held. */
static int create_once(struct capped_file *file)
{
	if (file->fd < 0)
		file->fd = create(file->path);
	return file->fd < 0 ? -errno : 0;
}

int capped_create(struct capped_file *file, struct err *err)
{
	pthread_mutex_lock(&file->lock);
	int ret = create_once(file);
	if (ret < 0)
		file->fd = 0;
	pthread_mutex_unlock(&file->lock);
	return ret < 0 ? err_set(err, -ret, "cannot create %s: %s", file->path, strerror(-ret)) : 0;
}

static void rotate(struct capped_file *file)
{
	char old[sizeof(file->path) + 2];
	snprintf(old, sizeof(old), "%s.1", file->path);
	int fd;
	/* Where that fails the old file is emptied instead: the bound holds in any case. */
	if (rename(file->path, old) == 0 && (fd = create(file->path)) >= 0) {
		close(file->fd);
		file->fd = fd;
	} else if (ftruncate(file->fd, 0) < 0) {
		return;
	}
	file->size = 0;
}

static void append(struct capped_file *file, const void *data, size_t len, bool may_rotate)
{
	pthread_mutex_lock(&file->lock);
	if (create_once(file) < 0 || file->fd == 0) {
		pthread_mutex_unlock(&file->lock);
		return;
	}
	if (may_rotate && file->size + len > file->limit && file->size > 0)
		rotate(file);
	ssize_t n = write(file->fd, data, len);
	if (n > 0)
		file->size += (uint64_t)n;
	pthread_mutex_unlock(&file->lock);
}

void capped_write(struct capped_file *file, const void *data, size_t len)
{
	append(file, data, len, true);
}

void capped_continue(struct capped_file *file, const void *data, size_t len)
{
	append(file, data, len, false);
}

void capped_close(struct capped_file *file)
{
	if (file->fd > 0)
		close(file->fd);
	pthread_mutex_destroy(&file->lock);
	*file = (struct capped_file){0};
}

/* --- a JSON line --- */

/* A line is built in pieces, so that the longest (a full frame of escapes, 400 KiB) needs no buffer of its size. */
struct line {
	struct capped_file *file;
	size_t used;
	bool begun;       /* a piece is written: the rest belongs into the same file */
	char text[98304]; /* a read of binary output whole: one write a line */
};

static void flush(struct line *line)
{
	if (line->begun)
		capped_continue(line->file, line->text, line->used);
	else
		capped_write(line->file, line->text, line->used);
	line->begun = true;
	line->used = 0;
}

static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *line, const char *format, ...)
{
	if (sizeof(line->text) - line->used < 256)
		flush(line);
	va_list args;
	va_start(args, format);
	line->used += (size_t)vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, args);
	va_end(args);
}

/* Bytes of the valid UTF-8 sequence at p, 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const uint8_t *p, size_t left)
{
	if (p[0] < 0x80)
		return 1;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	        (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* Valid UTF-8 without a NUL: what a reader wants as a string. */
static bool is_text(const uint8_t *p, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		uint64_t eight;
		n = 8;
		if (len - i >= 8) { /* plain ASCII, eight at a time; a zero byte borrows into its top bit */
			memcpy(&eight, p + i, 8);
			if (((eight | (eight - 0x0101010101010101u)) & 0x8080808080808080u) == 0)
				continue;
		}
		if (p[i] == 0 || (n = utf8_length(p + i, len - i)) == 0)
			return false;
	}
	return true;
}

static bool is_plain(uint8_t c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

static void add_bytes(struct line *line, const void *from, size_t len)
{
	const uint8_t *p = from;
	while (len > 0) {
		if (line->used == sizeof(line->text))
			flush(line);
		size_t part = sizeof(line->text) - line->used < len ? sizeof(line->text) - line->used : len;
		memcpy(line->text + line->used, p, part);
		line->used += part;
		p += part;
		len -= part;
	}
}

static void add_string(struct line *line, const uint8_t *p, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	for (size_t i = 0; i < len;) {
		size_t run = i;
		while (run < len && is_plain(p[run]))
			run++;
		add_bytes(line, p + i, run - i);
		if ((i = run) == len)
			break;
		uint8_t c = p[i++];
		if (c == '"' || c == '\\')
			add_bytes(line, (char[]){'\\', (char)c}, 2);
		else if (c == '\n')
			add_bytes(line, "\\n", 2);
		else
			add_bytes(line, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
	}
}

static void add_base64(struct line *line, const uint8_t *p, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < len; i += 3) {
		if (sizeof(line->text) - line->used < 16)
			flush(line);
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
		char *to = line->text + line->used;
		to[0] = digits[v >> 18];
		to[1] = digits[v >> 12 & 63];
		to[2] = n > 1 ? digits[v >> 6 & 63] : '=';
		to[3] = n > 2 ? digits[v & 63] : '=';
		line->used += 4;
	}
}

static void add_data(struct line *line, const uint8_t *p, size_t len)
{
	bool text = is_text(p, len);
	add(line, ",\"%s\":\"", text ? "data" : "data_b64");
	if (text)
		add_string(line, p, len);
	else
		add_base64(line, p, len);
	add(line, "\"");
}

static int add_event(struct line *line, uint8_t type, const uint8_t *payload, size_t len)
{
	struct proto_started started;
	struct proto_exited exited;
	struct proto_failed failed;
	struct proto_dropped dropped;
	switch (type) {
	case PROTO_STDOUT:
	case PROTO_STDERR:
		add(line, "\"stream\":\"%s\"", type == PROTO_STDOUT ? "stdout" : "stderr");
		add_data(line, payload, len);
		return 0;
	case PROTO_STARTED:
		if (len != sizeof(started))
			return -EPROTO;
		memcpy(&started, payload, sizeof(started));
		add(line, "\"stream\":\"started\",\"pid\":%u,\"tty\":%s", started.pid,
		        started.flags & PROTO_SESSION_TTY ? "true" : "false");
		return 0;
	case PROTO_EXITED:
		if (len != sizeof(exited))
			return -EPROTO;
		memcpy(&exited, payload, sizeof(exited));
		add(line, "\"stream\":\"exited\",\"code\":%d,\"signal\":%u,\"timeout\":%s", exited.code, exited.signal,
		        exited.flags & PROTO_SESSION_TIMEOUT ? "true" : "false");
		return 0;
	case PROTO_FAILED:
		if (len < sizeof(failed))
			return -EPROTO;
		memcpy(&failed, payload, sizeof(failed));
		add(line, "\"stream\":\"failed\",\"kind\":%u,\"stage\":%u,\"errno\":%u", failed.kind, failed.stage,
		        failed.error);
		add_data(line, payload + sizeof(failed), len - sizeof(failed));
		return 0;
	case PROTO_DROPPED:
		if (len != sizeof(dropped))
			return -EPROTO;
		memcpy(&dropped, payload, sizeof(dropped));
		add(line, "\"stream\":\"dropped\",\"bytes\":%" PRIu64, dropped.bytes);
		return 0;
	default: return -EPROTO;
	}
}

int execlog_write(struct capped_file *file, uint64_t session, uint64_t realtime_ns, uint8_t type,
        const uint8_t *payload, size_t len)
{
	struct line line;
	line.file = file;
	line.used = 0;
	line.begun = false;
	char date[32];
	struct tm tm;
	time_t seconds = (time_t)(realtime_ns / NS_PER_S);
	if (!gmtime_r(&seconds, &tm) || strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return -EPROTO;
	add(&line, "{\"time\":\"%s.%09uZ\",\"session\":%" PRIu64 ",", date, (unsigned)(realtime_ns % NS_PER_S),
	        session);
	int ret = add_event(&line, type, payload, len);
	if (ret < 0)
		return ret; /* nothing was written yet: only data is long enough to be */
	add(&line, "}\n");
	flush(&line);
	return 0;
}
