/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/proto.h"

#include <string.h>

#define TEXT_MAX PROTO_STRING_MAX
#define ANY_PEER (PROTO_CLIENT | PROTO_HOST | PROTO_AGENT)

/* By type: who may send it, and the payload's least and greatest length. */
static const struct rule {
	uint8_t senders;
	uint32_t least, most;
} rules[] = {
        [PROTO_HELLO] = {ANY_PEER | PROTO_AGENT_CONTROL, sizeof(struct proto_hello), sizeof(struct proto_hello)},
        [PROTO_PING] = {ANY_PEER, 0, PROTO_PING_MAX},
        [PROTO_PONG] = {ANY_PEER, 0, PROTO_PING_MAX},
        [PROTO_EXEC] = {PROTO_CLIENT, sizeof(struct proto_exec), PROTO_EXEC_MAX},
        [PROTO_OPEN] = {PROTO_CLIENT, sizeof(struct proto_open), sizeof(struct proto_open)},
        [PROTO_LIST] = {PROTO_CLIENT, 0, 0},
        [PROTO_POWEROFF] = {PROTO_CLIENT | PROTO_HOST, sizeof(struct proto_poweroff), sizeof(struct proto_poweroff)},
        [PROTO_KILL] = {PROTO_CLIENT, sizeof(struct proto_kill), sizeof(struct proto_kill)},
        [PROTO_KEEP] = {PROTO_CLIENT, 0, 0},
        [PROTO_FREEZE] = {PROTO_HOST, 0, 0},
        [PROTO_THAW] = {PROTO_HOST, sizeof(struct proto_thaw), sizeof(struct proto_thaw)},
        [PROTO_CLOCK] = {PROTO_HOST, sizeof(struct proto_clock), sizeof(struct proto_clock)},
        [PROTO_STDIN] = {PROTO_CLIENT, 1, PROTO_DATA_MAX},
        [PROTO_STDIN_EOF] = {PROTO_CLIENT, 0, 0},
        [PROTO_SIGNAL] = {PROTO_CLIENT, sizeof(struct proto_signal), sizeof(struct proto_signal)},
        [PROTO_RESIZE] = {PROTO_CLIENT, sizeof(struct proto_winsize), sizeof(struct proto_winsize)},
        [PROTO_STARTED] = {PROTO_AGENT, sizeof(struct proto_started), sizeof(struct proto_started)},
        [PROTO_STDOUT] = {PROTO_AGENT, 1, PROTO_DATA_MAX},
        [PROTO_STDERR] = {PROTO_AGENT, 1, PROTO_DATA_MAX},
        [PROTO_DROPPED] = {PROTO_AGENT, sizeof(struct proto_dropped), sizeof(struct proto_dropped)},
        [PROTO_STDIN_WINDOW] = {PROTO_AGENT, sizeof(struct proto_window), sizeof(struct proto_window)},
        [PROTO_STDIN_ERROR] = {PROTO_AGENT, sizeof(struct proto_stdin_error), sizeof(struct proto_stdin_error)},
        [PROTO_EXITED] = {PROTO_AGENT, sizeof(struct proto_exited), sizeof(struct proto_exited)},
        [PROTO_FAILED] = {PROTO_AGENT, sizeof(struct proto_failed), sizeof(struct proto_failed) + TEXT_MAX},
        [PROTO_DONE] = {PROTO_AGENT | PROTO_AGENT_CONTROL, 0, 0},
        [PROTO_SESSION] = {PROTO_AGENT, sizeof(struct proto_session), sizeof(struct proto_session) + TEXT_MAX},
        [PROTO_ERROR] = {PROTO_AGENT, sizeof(struct proto_error), sizeof(struct proto_error) + TEXT_MAX},
        [PROTO_EVENT] = {PROTO_AGENT_CONTROL, sizeof(struct proto_event), PROTO_EVENT_MAX},
        [PROTO_FROZEN] = {PROTO_AGENT_CONTROL, sizeof(struct proto_frozen), sizeof(struct proto_frozen)},
        [PROTO_THAWED] = {PROTO_AGENT_CONTROL, 0, 0},
};

struct proto_frame proto_frame(enum proto_type type, size_t length)
{
	return (struct proto_frame){.length = (uint32_t)length, .type = (uint8_t)type};
}

const char *proto_check_frame(const void *from, enum proto_sender sender, struct proto_frame *frame)
{
	memcpy(frame, from, sizeof(*frame));
	if (frame->type >= sizeof(rules) / sizeof(rules[0]) || !(rules[frame->type].senders & (unsigned int)sender))
		return "its type is unknown";
	const struct rule *rule = &rules[frame->type];
	if (frame->zero[0] || frame->zero[1] || frame->zero[2])
		return "its zero bytes are not zero";
	if (frame->length < rule->least || frame->length > rule->most)
		return "its length is wrong";
	return NULL;
}
