/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/proxy/socks.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

enum { COMMAND_CONNECT = 1 };
enum { TYPE_IPV4 = 1, TYPE_NAME = 3, TYPE_IPV6 = 4 };

#define FIXED_BYTES 4u /* version, command, reserved, address type */

int socks_parse_greeting(const uint8_t *data, size_t length, uint8_t *method)
{
	if (length > 0 && data[0] != SOCKS_VERSION)
		return -1;
	if (length < 2 || length < 2u + data[1])
		return 0;
	*method = memchr(data + 2, SOCKS_NO_AUTHENTICATION, data[1]) ? SOCKS_NO_AUTHENTICATION : SOCKS_NO_METHOD;
	return 2 + data[1];
}

/* The bytes of the address, its length byte included; 0 if that is not known yet. */
static size_t address_size(const uint8_t *data, size_t length)
{
	switch (data[3]) {
	case TYPE_IPV4: return 4;
	case TYPE_IPV6: return 16;
	default: return length > FIXED_BYTES ? 1u + data[FIXED_BYTES] : 0;
	}
}

/* False if it is not a host's name. */
static bool parse_address(const uint8_t *data, struct egress_host *host)
{
	char text[INET6_ADDRSTRLEN];
	const char *name = text;
	size_t length;
	if (data[3] == TYPE_NAME) {
		name = (const char *)data + FIXED_BYTES + 1;
		length = data[FIXED_BYTES];
	} else {
		inet_ntop(data[3] == TYPE_IPV4 ? AF_INET : AF_INET6, data + FIXED_BYTES, text, sizeof(text));
		length = strlen(text);
	}
	return egress_parse_host(name, length, host);
}

int socks_parse_request(
        const uint8_t *data, size_t length, struct egress_host *host, uint16_t *port, enum socks_reply *reply)
{
	if ((length > 0 && data[0] != SOCKS_VERSION) || (length > 2 && data[2] != 0))
		return -1;
	if (length < FIXED_BYTES)
		return 0;
	*reply = data[1] != COMMAND_CONNECT ? SOCKS_NO_COMMAND : SOCKS_OK;
	if (data[3] != TYPE_IPV4 && data[3] != TYPE_NAME && data[3] != TYPE_IPV6) {
		/* Where such an address ends is unknown. */
		*reply = SOCKS_NO_ADDRESS_TYPE;
		return (int)FIXED_BYTES;
	}
	size_t size = address_size(data, length), whole = FIXED_BYTES + size + 2;
	if (size == 0 || length < whole)
		return 0;
	*port = (uint16_t)(data[whole - 2] << 8 | data[whole - 1]);
	if (*reply == SOCKS_OK && (*port == 0 || !parse_address(data, host)))
		return -1;
	return (int)whole;
}

void socks_make_answer(enum socks_reply reply, uint8_t answer[SOCKS_ANSWER_BYTES])
{
	/* The address that the proxy has is not told: 0.0.0.0, port 0. */
	memset(answer, 0, SOCKS_ANSWER_BYTES);
	answer[0] = SOCKS_VERSION;
	answer[1] = (uint8_t)reply;
	answer[3] = TYPE_IPV4;
}
