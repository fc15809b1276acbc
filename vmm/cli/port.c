/* SPDX-License-Identifier: Apache-2.0 */
/* wisp port. */
#include <string.h>

#include "vmm/cli/json.h"
#include "vmm/cli/ports.h"
#include "vmm/cli/verbs.h"

static int add(const struct cli_call *call, struct wisp_sandbox *sandbox)
{
	int code = 0;
	for (size_t i = 2; i < call->operand_count && code == 0; i++) {
		char why[CLI_WHY_SIZE];
		struct wisp_port port;
		struct wisp_error error;
		int r = 0;
		if (!cli_parse_port(call->operands[i], &port, why))
			code = cli_fail("port add: '%s' is not a port: %s", call->operands[i], why);
		else if ((r = wisp_add_port(sandbox, port.host, port.guest_port, &error)) < 0)
			code = cli_fail_error(&error);
		/* Where it is, if the caller left that open. */
		else if (r > 0)
			printf("%d\n", r);
		cli_free_port(&port);
	}
	return cli_flush(code);
}

static int rm(const struct cli_call *call, struct wisp_sandbox *sandbox)
{
	struct wisp_error error;
	for (size_t i = 2; i < call->operand_count; i++) {
		if (wisp_remove_port(sandbox, call->operands[i], &error) < 0)
			return cli_fail_error(&error);
	}
	return 0;
}

static void print_table(struct wisp_port_info *const *list)
{
	int width = (int)strlen("HOST");
	for (size_t i = 0; list[i]; i++) {
		int length = (int)strlen(list[i]->host);
		width = length > width ? length : width;
	}
	printf("%-*s  GUEST\n", width, "HOST");
	for (size_t i = 0; list[i]; i++)
		printf("%-*s  %5u\n", width, list[i]->host, list[i]->guest_port);
}

static int ls(const struct cli_call *call, struct wisp_sandbox *sandbox)
{
	const struct cli_output *options = call->options;
	struct wisp_port_info **list;
	struct wisp_error error;
	struct cli_json json = {.to = stdout};
	if (wisp_list_ports(sandbox, &list, &error) < 0)
		return cli_fail_error(&error);
	if (options->json) {
		cli_json_ports(&json, NULL, list);
		putchar('\n');
	} else {
		print_table(list);
	}
	wisp_free_port_list(list);
	return 0;
}

static int port(const struct cli_call *call)
{
	static const struct {
		const char *name;
		int (*run)(const struct cli_call *call, struct wisp_sandbox *sandbox);
		bool takes_more;
	} actions[] = {{"add", add, true}, {"rm", rm, true}, {"ls", ls, false}};
	int code = 0;
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(call->operands[0], actions[i].name) != 0)
			continue;
		if (actions[i].takes_more != (call->operand_count > 2))
			return cli_fail("port %s: %s; see wisp port --help", actions[i].name,
			        actions[i].takes_more ? "no port is given" : "it takes the sandbox's name alone");
		struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[1], &code);
		if (!sandbox)
			return code;
		code = actions[i].run(call, sandbox);
		wisp_close_sandbox(sandbox);
		return code;
	}
	return cli_fail("port: there is no action '%s'; use add, rm or ls", call->operands[0]);
}

const struct cli_verb cli_port = {
        .name = "port",
        .synopsis = "add|rm|ls NAME [PORT...]",
        .summary = "Let clients of the host reach servers in a sandbox",
        .details =
                "add: PORT is [ADDRESS:]HOSTPORT:GUESTPORT. The host listens on HOSTPORT of ADDRESS, 127.0.0.1 by "
                "default, and every TCP connection leads to GUESTPORT of the guest, on 127.0.0.1 or else ::1. An IPv6 "
                "ADDRESS stands in brackets. HOSTPORT 0 is any free port. wisp prints HOSTPORT. With /PATH:GUESTPORT, "
                "the host listens on a Unix socket of mode 0600.\n\n"
                "rm: PORT is [ADDRESS:]HOSTPORT or /PATH. Open connections continue.\n\n"
                "ls lists the ports of the sandbox, including those of wisp run -p and wisp create -p.\n\n"
                "The guest needs no network for this, and has none. A client whose server does not listen sees a "
                "reset. "
                "Clients of a paused sandbox wait. A clone (wisp fork) has no ports until it gets its own.\n\n"
                "  wisp port add box 8080:80\n"
                "  wisp port add box 0.0.0.0:8443:443 [::1]:0:22 /run/box.sock:80\n"
                "  wisp port rm box 8080",
        .groups = cli_output_groups,
        .options_size = sizeof(struct cli_output),
        .operands = {CLI_WORD, CLI_SANDBOX, CLI_NONE},
        .words = "add rm ls",
        .least = 2,
        .most = SIZE_MAX,
        .run = port,
};
