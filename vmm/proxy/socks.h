/* SPDX-License-Identifier: Apache-2.0 */
/* SOCKS 5 (RFC 1928): CONNECT, without authentication. */
#ifndef WISP_PROXY_SOCKS_H
#define WISP_PROXY_SOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/egress.h"

#define SOCKS_VERSION 5u
#define SOCKS_ANSWER_BYTES 10u
#define SOCKS_MESSAGE_MAX 262u /* of a client */

enum socks_reply {
	SOCKS_OK = 0,
	SOCKS_FAILED = 1,
	SOCKS_NOT_ALLOWED = 2,
	SOCKS_UNREACHABLE = 4,
	SOCKS_NO_COMMAND = 7,
	SOCKS_NO_ADDRESS_TYPE = 8,
};

enum socks_method { SOCKS_NO_AUTHENTICATION = 0, SOCKS_NO_METHOD = 0xff };

/*
 * Both parse a message of the client. Return its length, 0 if it is not whole, or -1 if it is malformed. The greeting's
 * *method is what to answer; if the request's *reply is not SOCKS_OK, it is the answer.
 */
int socks_parse_greeting(const uint8_t *data, size_t length, uint8_t *method);
int socks_parse_request(
        const uint8_t *data, size_t length, struct egress_host *host, uint16_t *port, enum socks_reply *reply);

void socks_make_answer(enum socks_reply reply, uint8_t answer[SOCKS_ANSWER_BYTES]);

#endif
