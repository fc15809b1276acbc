/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "vmm/cli/egress.h"
#include "vmm/cli/execution.h"
#include "vmm/cli/folders.h"
#include "vmm/cli/from.h"
#include "vmm/cli/ports.h"
#include "vmm/cli/verbs.h"
#include "vmm/cli/warm.h"

struct options {
	struct cli_machine machine;
	struct cli_from from;
	struct cli_warm warm;
	struct cli_ports ports;
	struct cli_egress egress;
	struct cli_folders folders;
	const char *name;
	bool console, remove;
	struct cli_execution execution;
};

static int run(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_create_options create;
	struct wisp_error error;
	if (options->execution.detach)
		return cli_fail("run: --detach would end the command together with the sandbox; use wisp create and "
		                "wisp exec --detach");
	if (options->remove)
		return cli_fail("run: omit --rm; the sandbox of wisp run is always removed");
	int code = cli_check_execution(call, &options->execution);
	if (code == 0)
		code = cli_check_from(call, &options->from, &options->machine, options->console);
	if (code != 0)
		return code;
	cli_fill_machine(&options->machine, call->places, call->operands[0], &create);
	cli_fill_from(&options->from, &create);
	create.name = options->name;
	create.console = options->console;
	static const int console_fd = STDERR_FILENO;
	create.console_fd = options->console ? &console_fd : NULL;
	cli_fill_ports(&options->ports, &create);
	cli_fill_egress(&options->egress, &create);
	cli_fill_folders(&options->folders, &create);
	cli_fill_warm(&options->warm, &create);
	struct wisp_sandbox *sandbox = cli_launch(&create, &code);
	if (!sandbox)
		return code;
	code = cli_say_ports(sandbox, &create);
	if (code != 0) {
		wisp_close_sandbox(sandbox);
		return code;
	}
	code = cli_bridge_exec(sandbox, call->command, &options->execution, &error);
	/* Data that outlives the sandbox must be written before the sandbox ends. */
	if (code < 0)
		code = cli_fail_lost(sandbox, &error, 10000);
	else if ((code = cli_explain_signal(sandbox, call, code)) == CLI_EXIT_EXPIRED)
		; /* it has shut down */
	else if (wisp_writes_disks(sandbox) && wisp_stop_sandbox(sandbox, 0, &error) < 0)
		code = cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "name",
                .letter = 'n',
                .value = "NAME",
                CLI_TEXT(struct options, name),
                .help = "the sandbox's name; default: a generated one"},
        {.name = "no-stdin", CLI_FLAG(struct options, execution.no_stdin), .help = "do not read standard input"},
        {.name = "console",
                CLI_FLAG(struct options, console),
                .help = "print the guest kernel's messages to standard error"},
        /* Known only to be explained: docker's run has them. */
        {.name = "detach", .letter = 'd', CLI_FLAG(struct options, execution.detach)},
        {.name = "rm", CLI_FLAG(struct options, remove)},
        {0},
};

static const struct cli_group groups[] = {
        CLI_MACHINE_GROUP(struct options, machine),
        CLI_FROM_GROUP(struct options, from),
        CLI_WARM_GROUP(struct options, warm),
        CLI_PORTS_GROUP(struct options, ports),
        CLI_EGRESS_GROUP(struct options, egress),
        CLI_FOLDERS_GROUP(struct options, folders),
        {.options = own_options},
        CLI_EXECUTION_GROUPS(struct options, execution),
        {0},
};

const struct cli_verb cli_run = {
        .name = "run",
        .synopsis = "[IMAGE] [-- COMMAND [ARG...]]",
        .summary = "Boot a sandbox, run a command in it, and exit with its exit code",
        .details = CLI_IMAGE_DETAILS
        "\n\n" CLI_FROM_DETAILS "\n\n" CLI_WARM_DETAILS "\n\n" CLI_EGRESS_DETAILS
        "\n\nThe command's standard output and error are passed on byte for byte. wisp forwards standard input if it "
        "is "
        "a pipe, a file or a socket, so that pipes work without an option, as with ssh; --no-stdin prevents that. -i "
        "also "
        "forwards what you type, line by line. To use a terminal, add -t.\n\n"
        "wisp forwards SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR "
        "and the real-time signals to the command, unless wisp was started with the signal ignored. The second of the "
        "first four kills the command, and the third ends wisp. With -t, these signals are not forwarded: "
        "they end wisp.\n\n"
        "The sandbox is removed when the command exits, or when wisp itself exits for any reason.\n\n"
        "  wisp run -- uname -a\n"
        "  wisp run -m 1G -c 2 ./debian.img -- python3 -c 'print(6 * 7)'\n"
        "  tar c . | wisp run -- sh -c 'tar x && make'\n"
        "  wisp run --from box.snap -- ps",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_FILE},
        .most = 1,
        .takes_command = true,
        .run = run,
};
