/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/execlog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/shared/proto.h"

#define NS_PER_S 1000000000ull

/* A line is built in pieces, so that the longest one (a full frame of escapes, 400 KiB) needs no buffer of that size.
 */
struct line {
	struct logfile *file;
	size_t used;
	bool begun;       /* a piece has been written */
	char text[98304]; /* holds a whole read of binary output, so that most lines take one write */
};

static void flush(struct line *line)
{
	if (line->begun)
		logfile_continue(line->file, line->text, line->used);
	else
		logfile_write(line->file, line->text, line->used);
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

/* The length of the valid UTF-8 sequence at p, or 0 (RFC 3629: no overlong forms, no surrogates). */
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

/* Valid UTF-8 without a NUL can be written as a JSON string. */
static bool is_text(const uint8_t *p, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		uint64_t eight;
		n = 8;
		if (len - i >= 8) { /* plain ASCII, eight bytes at a time; a zero byte borrows into its top bit */
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

int execlog_write(
        struct logfile *file, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len)
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
		return ret; /* nothing has been written: only data fills the buffer */
	add(&line, "}\n");
	flush(&line);
	return 0;
}
