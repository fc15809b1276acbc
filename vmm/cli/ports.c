/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/ports.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/cli/json.h"

bool cli_parse_port(const char *text, struct wisp_port *port, char *why)
{
	const char *colon = strrchr(text, ':');
	uint64_t number;
	*port = (struct wisp_port){0};
	if (!colon || colon == text)
		return cli_refuse(why, "write [ADDRESS:]HOSTPORT:GUESTPORT or /PATH:GUESTPORT");
	if (!cli_parse_count(colon + 1, UINT16_MAX, &number, why) || number == 0)
		return cli_refuse(why, "the guest's port, behind the last colon, is not a number from 1 to 65535");
	port->host = strndup(text, (size_t)(colon - text));
	port->guest_port = (uint16_t)number;
	return port->host || cli_refuse(why, "out of memory");
}

void cli_free_port(struct wisp_port *port)
{
	/* cli_parse_port allocated it. */
	union {
		const char *from;
		char *to;
	} host = {.from = port->host};
	free(host.to);
}

static bool take_port(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_ports *ports = to;
	struct wisp_port *grown = reallocarray(ports->ports, ports->count + 1, sizeof(*grown));
	(void)option;
	if (!grown)
		return cli_refuse(why, "out of memory");
	ports->ports = grown;
	bool good = cli_parse_port(text, &grown[ports->count], why);
	if (good)
		ports->count++;
	return good;
}

const struct cli_option cli_ports_options[] = {
        {.name = "publish",
                .letter = 'p',
                .value = "[ADDRESS:]HOSTPORT:GUESTPORT",
                .take = take_port,
                .help = "let TCP clients of the host reach a server in the guest; ADDRESS is 127.0.0.1 by default, and "
                        "HOSTPORT 0 any free port; or /PATH:GUESTPORT, for a Unix socket; may be repeated"},
        {0},
};

void cli_release_ports(void *group)
{
	struct cli_ports *ports = group;
	for (size_t i = 0; i < ports->count; i++)
		cli_free_port(&ports->ports[i]);
	free(ports->ports);
}

void cli_fill_ports(const struct cli_ports *ports, struct wisp_create_options *options)
{
	options->ports = ports->ports;
	options->port_count = ports->count;
	options->port_size = sizeof(*ports->ports);
}

static bool is_path(const struct wisp_port *port)
{
	return strchr(port->host, '/');
}

static bool is_chosen(const struct wisp_port *port)
{
	const char *colon = strrchr(port->host, ':');
	const char *number = colon ? colon + 1 : port->host;
	return !is_path(port) && number[0] && strspn(number, "0") == strlen(number);
}

int cli_say_ports(struct wisp_sandbox *sandbox, const struct wisp_create_options *options)
{
	bool any = false, has_passt = options->net && options->net->kind == WISP_NET_PASST;
	struct wisp_port_info **list;
	struct wisp_error error;
	for (size_t i = 0; i < options->port_count; i++)
		any |= is_chosen(&options->ports[i]);
	if (!any)
		return 0;
	int count = wisp_list_ports(sandbox, &list, &error);
	if (count < 0)
		return cli_fail_error(&error);
	/* They were added in this order, without those that are passt's. */
	for (size_t i = 0, at = 0; i < options->port_count && at < (size_t)count; i++) {
		const struct wisp_port *port = &options->ports[i];
		if (is_chosen(port))
			fprintf(stderr, "wisp: %s leads to port %u of the guest\n", list[at]->host,
			        list[at]->guest_port);
		at += !has_passt || is_chosen(port) || is_path(port);
	}
	wisp_free_port_list(list);
	return 0;
}

void cli_json_ports(struct cli_json *json, const char *key, struct wisp_port_info *const *list)
{
	cli_json_open(json, key, '[');
	for (size_t i = 0; list && list[i]; i++) {
		cli_json_open(json, NULL, '{');
		cli_json_string(json, "host", list[i]->host);
		cli_json_number(json, "guest_port", list[i]->guest_port);
		cli_json_close(json, '}');
	}
	cli_json_close(json, ']');
}
