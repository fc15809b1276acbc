/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox's guest may reach on the network: the options of verbs that create one. */
#ifndef WISP_CLI_EGRESS_H
#define WISP_CLI_EGRESS_H

#include "vmm/cli/command.h"

struct cli_egress {
	char **allow, **secrets; /* ended by NULL, or NULL */
	size_t allow_count, secret_count;
};

extern const struct cli_option cli_egress_options[];
void cli_release_egress(void *egress);
/* The row of a verb's groups. */
#define CLI_EGRESS_GROUP(type, field)                                                                \
	{                                                                                            \
		.options = cli_egress_options, .offset = CLI_OFFSET(type, field, struct cli_egress), \
		.release = cli_release_egress                                                        \
	}

void cli_fill_egress(const struct cli_egress *egress, struct wisp_create_options *options);

/* A paragraph of a verb's help. */
#define CLI_EGRESS_DETAILS                                                                                      \
	"By default a sandbox has no network. With --allow, its commands reach what you name, through an HTTP " \
	"and a SOCKS proxy that their environment names: RULE is HOST[:PORT], where HOST is a name, *.NAME, "   \
	"an address or a network (ADDRESS/BITS), and the ports are 80 and 443 without PORT. Addresses that "    \
	"are private, loopback, link-local or of a cloud's metadata must be named themselves. A secret "        \
	"replaces its placeholder in plain HTTP only: HTTPS would need interception of TLS, which is not "      \
	"done."

#endif
