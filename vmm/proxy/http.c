/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/proxy/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define METHOD_MAX 32u
#define CHUNK_DIGITS_MAX 15u
#define CHUNK_SPARE_MAX 4096u /* bytes of extensions, and of trailers */

struct text {
	const char *at;
	size_t length;
};

/* A header field. */
struct field {
	struct text name, value;
};

static bool is_token_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct text text)
{
	for (size_t i = 0; i < text.length; i++) {
		if (!is_token_byte(text.at[i]))
			return false;
	}
	return text.length > 0;
}

static bool is(struct text text, const char *word)
{
	return text.length == strlen(word) && strncasecmp(text.at, word, text.length) == 0;
}

static int refuse(const char **why, int status, const char *reason)
{
	*why = reason;
	return status;
}

/* ---- The request line ---- */

/* HOST[:PORT] of a target. `port`: what it is without one; 0: it must have one. */
static bool parse_authority(struct text authority, uint16_t port, struct http_request *request)
{
	struct text host = authority;
	const char *end = authority.at + authority.length;
	bool bracket = authority.length > 0 && authority.at[0] == '[';
	const char *colon = memchr(authority.at, ':', authority.length);
	if (bracket) {
		const char *close = memchr(authority.at, ']', authority.length);
		if (!close)
			return false;
		host = (struct text){authority.at + 1, (size_t)(close - authority.at - 1)};
		colon = close + 1;
		if (colon == end)
			colon = NULL;
		else if (*colon != ':')
			return false;
	} else if (colon) {
		host.length = (size_t)(colon - authority.at);
	}
	request->port = colon ? egress_parse_port(colon + 1, (size_t)(end - colon - 1)) : port;
	/* Brackets are around IPv6 addresses, and only around them. */
	return request->port != 0 && egress_parse_host(host.at, host.length, &request->host) &&
	       bracket == (memchr(host.at, ':', host.length) != NULL);
}

static bool parse_absolute(struct text target, struct http_request *request)
{
	static const char scheme[] = "http://";
	size_t skip = sizeof(scheme) - 1;
	if (target.length < skip || strncasecmp(target.at, scheme, skip) != 0)
		return false;
	struct text rest = {target.at + skip, target.length - skip};
	size_t authority = 0;
	while (authority < rest.length && rest.at[authority] != '/' && rest.at[authority] != '?')
		authority++;
	request->path = rest.at + authority;
	request->path_length = rest.length - authority;
	request->before_path = request->path_length > 0 && request->path[0] == '/' ? '\0' : '/';
	return !memchr(rest.at, '#', rest.length) && parse_authority((struct text){rest.at, authority}, 80, request);
}

static int parse_target(struct text target, struct http_request *request, const char **why)
{
	for (size_t i = 0; i < target.length; i++) {
		if (target.at[i] <= ' ' || target.at[i] == 0x7f)
			return refuse(why, 400, "the target has characters that no URL has");
	}
	request->connect = request->method_length == 7 && memcmp(request->method, "CONNECT", 7) == 0;
	if (request->connect)
		return parse_authority(target, 0, request) ? 0
		                                           : refuse(why, 400, "CONNECT is not followed by HOST:PORT");
	if (target.length > 0 && target.at[0] == '/')
		return refuse(why, 400, "this is a proxy, and the target is not a whole URL");
	return parse_absolute(target, request)
	               ? 0
	               : refuse(why, 400, "the target is not a URL of the form http://HOST[:PORT]/PATH");
}

/* `line` has no CR and no LF. */
static int parse_request_line(struct text line, struct http_request *request, const char **why)
{
	const char *first = memchr(line.at, ' ', line.length);
	const char *last = first ? memrchr(line.at, ' ', line.length) : NULL;
	if (!first || first == last)
		return refuse(why, 400, "the first line is not METHOD TARGET VERSION");
	struct text method = {line.at, (size_t)(first - line.at)};
	struct text target = {first + 1, (size_t)(last - first - 1)};
	struct text version = {last + 1, (size_t)(line.at + line.length - last - 1)};
	if (!is_token(method) || method.length > METHOD_MAX)
		return refuse(why, 400, "the method is malformed");
	/* Its answer is the request as the server got it, with the secrets that the guest is not to see. */
	if (is(method, "TRACE"))
		return refuse(why, 501, "TRACE is not served, because it would show secrets");
	if (!is(version, "HTTP/1.1") && !is(version, "HTTP/1.0"))
		return refuse(why, 505, "the version is neither HTTP/1.0 nor HTTP/1.1");
	request->method = method.at;
	request->method_length = method.length;
	request->version = version.at;
	return parse_target(target, request, why);
}

/* ---- Fields ---- */

/* Takes the next line up to its CRLF. False at the end. */
static bool next_line(struct text *rest, struct text *line)
{
	const char *end = memmem(rest->at, rest->length, "\r\n", 2);
	if (!end || end == rest->at)
		return false;
	*line = (struct text){rest->at, (size_t)(end - rest->at)};
	rest->at += line->length + 2;
	rest->length -= line->length + 2;
	return true;
}

static bool parse_field(struct text line, struct field *field)
{
	const char *colon = memchr(line.at, ':', line.length);
	if (!colon)
		return false;
	field->name = (struct text){line.at, (size_t)(colon - line.at)};
	field->value = (struct text){colon + 1, line.length - field->name.length - 1};
	while (field->value.length > 0 && (field->value.at[0] == ' ' || field->value.at[0] == '\t')) {
		field->value.at++;
		field->value.length--;
	}
	while (field->value.length > 0 && strchr(" \t", field->value.at[field->value.length - 1]))
		field->value.length--;
	for (size_t i = 0; i < field->value.length; i++) {
		unsigned char c = (unsigned char)field->value.at[i];
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return is_token(field->name);
}

static bool parse_length(struct text value, uint64_t *length)
{
	*length = 0;
	for (size_t i = 0; i < value.length; i++) {
		if (value.at[i] < '0' || value.at[i] > '9' || value.length > 18)
			return false;
		*length = *length * 10 + (uint64_t)(value.at[i] - '0');
	}
	return value.length > 0;
}

static int parse_fields(struct text rest, struct http_request *request, const char **why)
{
	bool has_length = false, chunked = false;
	struct http_body *body = &request->body;
	struct text line;
	while (next_line(&rest, &line)) {
		struct field field;
		if (!parse_field(line, &field))
			return refuse(why, 400, "a header field is malformed");
		if (is(field.name, "Content-Length")) {
			if (has_length || !parse_length(field.value, &body->left))
				return refuse(why, 400, "the Content-Length is malformed, or there are two");
			has_length = true;
		} else if (is(field.name, "Transfer-Encoding")) {
			if (chunked || !is(field.value, "chunked"))
				return refuse(why, 501, "the Transfer-Encoding is not chunked");
			chunked = true;
		}
	}
	if (chunked && (has_length || request->version[7] == '0'))
		return refuse(why, 400, "a chunked body has a Content-Length, or is of HTTP/1.0");
	if (request->connect && (chunked || has_length))
		return body->left || chunked ? refuse(why, 400, "CONNECT has a body") : 0;
	body->kind = chunked ? HTTP_BODY_CHUNKED : body->left > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	body->ended = body->kind == HTTP_BODY_NONE;
	return 0;
}

int http_parse(const char *data, size_t length, struct http_request *request, const char **why)
{
	size_t most = length < HTTP_HEAD_MAX ? length : HTTP_HEAD_MAX;
	const char *end = memmem(data, most, "\r\n\r\n", 4);
	struct text line, rest = {data, most};
	*request = (struct http_request){0};
	if (!end)
		return most == HTTP_HEAD_MAX ? refuse(why, 431, "the head is longer than 32 KiB") : 1;
	request->head = (size_t)(end + 4 - data);
	rest.length = request->head;
	if (!next_line(&rest, &line))
		return refuse(why, 400, "the first line is empty");
	int status = parse_request_line(line, request, why);
	request->fields = rest.at;
	return status ? status : parse_fields(rest, request, why);
}

/* ---- The head for the server ---- */

/* What does not fit only adds to its length. */
struct room {
	char *at;
	size_t size, length;
	unsigned secrets;
};

static void put(struct room *room, const char *data, size_t length)
{
	if (room->length + length <= room->size)
		memcpy(room->at + room->length, data, length);
	room->length += length;
}

static void put_text(struct room *room, const char *text)
{
	put(room, text, strlen(text));
}

static bool is_own(const struct egress_secret *secret, const struct http_request *request)
{
	char theirs[EGRESS_HOST_MAX], own[EGRESS_HOST_MAX];
	egress_format_host(&secret->host, theirs);
	egress_format_host(&request->host, own);
	return secret->port == request->port && strcmp(theirs, own) == 0;
}

/* The secret of this host whose placeholder `rest` begins with, or NULL. */
static const struct egress_secret *find_secret(const struct http_request *request, const struct egress_rules *rules,
        struct text rest, size_t *placeholder_length)
{
	for (size_t i = 0; i < rules->secret_count; i++) {
		char placeholder[sizeof(EGRESS_PLACEHOLDER_FORMAT) + EGRESS_SECRET_NAME_MAX];
		const struct egress_secret *secret = &rules->secrets[i];
		size_t length =
		        (size_t)snprintf(placeholder, sizeof(placeholder), EGRESS_PLACEHOLDER_FORMAT, secret->name);
		*placeholder_length = length;
		if (length <= rest.length && memcmp(rest.at, placeholder, length) == 0 && is_own(secret, request))
			return secret;
	}
	return NULL;
}

static void put_value(
        struct room *room, const struct http_request *request, const struct egress_rules *rules, struct text value)
{
	while (value.length > 0) {
		size_t taken = 1;
		const struct egress_secret *secret =
		        value.at[0] == EGRESS_PLACEHOLDER_FORMAT[0] ? find_secret(request, rules, value, &taken) : NULL;
		if (secret) {
			put_text(room, secret->value);
			room->secrets++;
		} else {
			taken = 1;
			put(room, value.at, taken);
		}
		value.at += taken;
		value.length -= taken;
	}
}

/* Whether a Connection field of the request names the field as one of this connection only. */
static bool is_listed(struct text rest, struct text name)
{
	struct text line;
	while (next_line(&rest, &line)) {
		struct field field;
		if (!parse_field(line, &field) || !is(field.name, "Connection"))
			continue;
		for (size_t at = 0; at < field.value.length;) {
			struct text word = {field.value.at + at, 0};
			while (at + word.length < field.value.length && is_token_byte(word.at[word.length]))
				word.length++;
			if (word.length == name.length && strncasecmp(word.at, name.at, name.length) == 0)
				return true;
			at += word.length + 1;
		}
	}
	return false;
}

static bool is_passed_on(struct text fields, struct text name)
{
	static const char *const own[] = {"Host", "Connection", "Proxy-Connection", "Proxy-Authorization",
	        "Proxy-Authenticate", "Keep-Alive", "TE", "Upgrade"};
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (is(name, own[i]))
			return false;
	}
	/* These frame the body, whatever a Connection field says. */
	return is(name, "Content-Length") || is(name, "Transfer-Encoding") || !is_listed(fields, name);
}

size_t http_rewrite(const struct http_request *request, const struct egress_rules *rules, char *to, size_t size)
{
	struct room room = {.at = to, .size = size};
	struct text line, fields = {request->fields, 0}, rest;
	char host[EGRESS_HOST_MAX], port[8] = "";
	fields.length = request->head - (size_t)(request->fields - request->method);
	rest = fields;
	egress_format_host(&request->host, host);
	if (request->port != 80)
		snprintf(port, sizeof(port), ":%u", request->port);
	put(&room, request->method, request->method_length);
	put_text(&room, " ");
	put(&room, &request->before_path, request->before_path ? 1 : 0);
	put(&room, request->path, request->path_length);
	put_text(&room, " ");
	put(&room, request->version, 8);
	put_text(&room, "\r\nHost: ");
	put_text(&room, host);
	put_text(&room, port);
	put_text(&room, "\r\n");
	while (next_line(&rest, &line)) {
		struct field field;
		if (!parse_field(line, &field) || !is_passed_on(fields, field.name))
			continue;
		put(&room, field.name.at, field.name.length);
		put_text(&room, ": ");
		put_value(&room, request, rules, field.value);
		put_text(&room, "\r\n");
	}
	put_text(&room, "Connection: close\r\n\r\n");
	return room.length <= room.size && room.secrets <= HTTP_SECRETS_MAX ? room.length : 0;
}

/* ---- The body ---- */

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_START, /* behind the last chunk, at the beginning of a line */
	CHUNK_TRAILER,
	CHUNK_TRAILER_LF,
	CHUNK_LAST_LF,
};

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The state after a byte of a line that nobody reads, or -1. */
static int skip(struct http_body *body, char c, int stay, int leave)
{
	if (c == '\r')
		return leave;
	return ((unsigned char)c >= ' ' || c == '\t') && ++body->spare <= CHUNK_SPARE_MAX ? stay : -1;
}

static int after_size(struct http_body *body, char c)
{
	int digit = digit_of(c);
	if (digit >= 0) {
		body->left = body->left << 4 | (unsigned)digit;
		return ++body->digits <= CHUNK_DIGITS_MAX ? CHUNK_SIZE : -1;
	}
	if (body->digits == 0)
		return -1;
	if (c == '\r')
		return CHUNK_SIZE_LF;
	return c == ';' ? CHUNK_EXTENSION : -1;
}

/* The state after a byte that is not of a chunk's data, or -1. */
static int step(struct http_body *body, char c)
{
	switch ((enum chunk_state)body->state) {
	case CHUNK_SIZE: return after_size(body, c);
	case CHUNK_EXTENSION: return skip(body, c, CHUNK_EXTENSION, CHUNK_SIZE_LF);
	case CHUNK_SIZE_LF: body->digits = 0; return c != '\n' ? -1 : body->left ? CHUNK_DATA : CHUNK_TRAILER_START;
	case CHUNK_DATA_CR: return c == '\r' ? CHUNK_DATA_LF : -1;
	case CHUNK_DATA_LF: return c == '\n' ? CHUNK_SIZE : -1;
	case CHUNK_TRAILER_START: return skip(body, c, CHUNK_TRAILER, CHUNK_LAST_LF);
	case CHUNK_TRAILER: return skip(body, c, CHUNK_TRAILER, CHUNK_TRAILER_LF);
	case CHUNK_TRAILER_LF: return c == '\n' ? CHUNK_TRAILER_START : -1;
	case CHUNK_LAST_LF: body->ended = c == '\n'; return body->ended ? CHUNK_LAST_LF : -1;
	default: return -1;
	}
}

ptrdiff_t http_body_take(struct http_body *body, const char *data, size_t length)
{
	size_t at = 0;
	while (at < length && !body->ended) {
		if (body->kind == HTTP_BODY_CHUNKED && body->state != CHUNK_DATA) {
			body->state = step(body, data[at++]);
			if (body->state < 0)
				return -1;
			continue;
		}
		size_t part = length - at < body->left ? length - at : (size_t)body->left;
		at += part;
		body->left -= part;
		if (body->left == 0 && body->kind == HTTP_BODY_CHUNKED)
			body->state = CHUNK_DATA_CR;
		else if (body->left == 0)
			body->ended = true;
	}
	return (ptrdiff_t)at;
}

/* ---- The answer ---- */

enum answer_state { ANSWER_STATUS, ANSWER_INTERIM, ANSWER_REST };

static bool is_interim(const struct http_answer *answer)
{
	return answer->line >= sizeof(answer->start) && answer->start[9] == '1' &&
	       memcmp(answer->start + 9, "101", 3) != 0;
}

/* At the end of a line. Whether it was the status line of the last head. */
static bool end_line(struct http_answer *answer)
{
	bool status = answer->state == ANSWER_STATUS;
	bool http = status && answer->line >= 7 && memcmp(answer->start, "HTTP/1.", 7) == 0;
	if (status)
		answer->state = http && is_interim(answer) ? ANSWER_INTERIM : ANSWER_REST;
	else if (answer->line == 0)
		answer->state = ANSWER_STATUS;
	answer->line = 0;
	return http && answer->state == ANSWER_REST;
}

ptrdiff_t http_answer_find(struct http_answer *answer, const char *data, size_t length)
{
	for (size_t at = 0; at < length && answer->state != ANSWER_REST; at++) {
		if (data[at] == '\n') {
			if (end_line(answer))
				return (ptrdiff_t)at + 1;
		} else if (data[at] != '\r') {
			if (answer->line < sizeof(answer->start))
				answer->start[answer->line] = data[at];
			answer->line++;
		}
	}
	return -1;
}
