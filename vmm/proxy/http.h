/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to an HTTP proxy. The head is parsed strictly, because whatever this parser and a server read differently
 * could lead past a rule. A connection carries one request: the server is told so, and what follows the request's body
 * is not passed on.
 */
#ifndef WISP_PROXY_HTTP_H
#define WISP_PROXY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/egress.h"

#define HTTP_HEAD_MAX ((size_t)32 << 10) /* bytes of a request without its body */
#define HTTP_SECRETS_MAX 8u              /* placeholders that are replaced in one head */

enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED };

struct http_body {
	enum http_body_kind kind;
	int state; /* of chunks */
	bool ended;
	uint64_t left;   /* of the body, or of this chunk */
	unsigned digits; /* of this chunk's size */
	unsigned spare;  /* bytes so far of lines that nobody reads */
};

struct http_request {
	bool connect;
	struct egress_host host;
	uint16_t port;
	struct http_body body;
	size_t head; /* bytes */
	/* Pieces of the head, which is not copied. */
	const char *method, *path, *version, *fields;
	size_t method_length, path_length;
	char before_path; /* '/' where the target had no path; else 0 */
};

/*
 * Parses what has arrived. 0, or 1 if the head is not whole; else the status of the answer (400 and so on), with the
 * reason in *why, a constant.
 */
int http_parse(const char *data, size_t length, struct http_request *request, const char **why);

/*
 * Makes the head for the server, in `size` bytes at `to`: in origin form, without fields that are the proxy's, with its
 * own Host and Connection, and with the placeholders of secrets for this host and port replaced. `rules` may have none.
 * Returns its length, or 0 if there is no room, or more than HTTP_SECRETS_MAX placeholders are to be replaced.
 */
size_t http_rewrite(const struct http_request *request, const struct egress_rules *rules, char *to, size_t size);

/*
 * How many of the `length` bytes at `data` belong to the body; body->ended is set when it is whole. -1 if the chunks
 * are malformed.
 */
ptrdiff_t http_body_take(struct http_body *body, const char *data, size_t length);

/* How far the head of a server's answer has been read. */
struct http_answer {
	int state;
	char start[12]; /* of the status line */
	unsigned line;  /* bytes of the current line; those of an end of line do not count */
};

/* What the client is to read first in the answer's head: not every server says that it closes. */
#define HTTP_ANSWER_FIELD "Connection: close\r\n"

/*
 * Returns before which of the `length` bytes at `data` HTTP_ANSWER_FIELD belongs, which may be `length`, or -1 if it is
 * none of them. It is at most once another number than -1.
 */
ptrdiff_t http_answer_find(struct http_answer *answer, const char *data, size_t length);

#endif
