/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's DHCP client: packets of any bytes, and answers that are nearly right, at any time. */
#include "agent/dhcp.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/dhcp_server.h"

#define ACTS_MAX 200u

static void check(const struct dhcp *dhcp)
{
	bool has = dhcp->state == DHCP_BOUND || dhcp->state == DHCP_RENEW;
	uint32_t mask = ntohl(dhcp->lease.mask);
	MUST(dhcp->bound == has);
	MUST(!has || (dhcp->lease.address != 0 && mask != 0 && (~mask & (~mask + 1)) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct input in = {data, size};
	uint8_t sent[DHCP_PACKET_MAX];
	struct dhcp dhcp;
	struct answer answer;
	uint64_t now_ns = 1000000000;
	dhcp_start(&dhcp, mac, 1, now_ns);
	MUST(dhcp_due(&dhcp, sent, now_ns) <= sizeof(sent));
	for (unsigned i = 0; i < ACTS_MAX && in.left > 0; i++) {
		uint8_t act = in8(&in);
		if (act & 1) {
			answer_begin(&answer, sent, act >> 5, act & 2 ? "192.0.2.9" : "10.255.255.255");
			answer_address(&answer, 54, "10.0.0.1");
			size_t length = in8(&in);
			in_bytes(&in, answer.packet + answer.length, length);
			answer.length += length;
			answer_lengths(&answer);
			if (act & 4)
				answer.packet[in16(&in) % answer.length] = in8(&in);
		} else {
			answer.length = in8(&in) * (act & 2 ? 4u : 1u);
			in_bytes(&in, answer.packet, answer.length);
		}
		/* Exactly as long as it is: a read behind its end is seen. */
		uint8_t *exact = malloc(answer.length ? answer.length : 1);
		MUST(exact);
		memcpy(exact, answer.packet, answer.length);
		dhcp_receive(&dhcp, exact, answer.length, now_ns);
		free(exact);
		check(&dhcp);
		now_ns += (uint64_t)in8(&in) * 100000000;
		if (now_ns >= dhcp.due_ns)
			MUST(dhcp_due(&dhcp, sent, now_ns) <= sizeof(sent));
		check(&dhcp);
	}
	return 0;
}
