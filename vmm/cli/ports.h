/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of the host that lead to the guest: the option of verbs that create a sandbox, and what they share with wisp
 * port.
 */
#ifndef WISP_CLI_PORTS_H
#define WISP_CLI_PORTS_H

#include "vmm/cli/command.h"

struct cli_json;

struct cli_ports {
	struct wisp_port *ports;
	size_t count;
};

extern const struct cli_option cli_ports_options[];
void cli_release_ports(void *ports);
/* The row of a verb's groups. */
#define CLI_PORTS_GROUP(type, field)                                                               \
	{                                                                                          \
		.options = cli_ports_options, .offset = CLI_OFFSET(type, field, struct cli_ports), \
		.release = cli_release_ports                                                       \
	}

/* Splits "HOST:PORT". The caller frees port->host, also on failure, when it may be NULL. False, with the reason in
 * `why`. */
bool cli_parse_port(const char *text, struct wisp_port *port, char *why);
void cli_free_port(struct wisp_port *port);

void cli_fill_ports(const struct cli_ports *ports, struct wisp_create_options *options);
/*
 * Says on standard error where the sandbox listens, for ports that it chose. `options` made it. 0, or an exit code
 * after a message.
 */
int cli_say_ports(struct wisp_sandbox *sandbox, const struct wisp_create_options *options);
/* The ports of a sandbox as an array of this key. */
void cli_json_ports(struct cli_json *json, const char *key, struct wisp_port_info *const *list);

#endif
