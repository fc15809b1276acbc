/* SPDX-License-Identifier: Apache-2.0 */
/* wisp create, and the boot that it shares with wisp run. */
#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/egress.h"
#include "vmm/cli/execution.h"
#include "vmm/cli/folders.h"
#include "vmm/cli/from.h"
#include "vmm/cli/ports.h"
#include "vmm/cli/progress.h"
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
	bool console, remove, quiet, template;
	struct cli_process process;
};

/* The library does not know what the user meant by IMAGE, nor where the path of the state directory comes from. */
static int fail_launch(const struct wisp_create_options *options, const struct wisp_error *error)
{
	char existing[PATH_MAX];
	const char *image = options->image;
	if (error->status == WISP_ERR_IMAGE && image && !strchr(image, '/') && access(image, F_OK) < 0)
		return cli_fail("there is no file or directory '%s' to boot from; use -n to name the sandbox", image);
	if (error->status != WISP_ERR_SYSTEM || cli_may_keep_state(options->state_root, existing))
		return cli_fail_error(error);
	return cli_fail("sandboxes cannot be kept in %s: %s is not writable: %s: %s", options->state_root, existing,
	        strerror(errno), CLI_PLACE_ADVICE);
}

struct wisp_sandbox *cli_launch(const struct wisp_create_options *given, int *exit_code)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct signalfd_siginfo info;
	struct progress bar;
	struct wisp_progress progress = {.size = sizeof(progress), .report = progress_report, .context = &bar};
	if (given->jail == WISP_JAIL_OFF)
		fputs("wisp: warning: the monitor runs without its jail: a guest that breaks out has all rights of "
		      "your user\n",
		        stderr);
	/* From here on, signals are handled where the sandbox can be cleaned up. */
	int signal_fd = cli_open_signals();
	if (signal_fd < 0) {
		*exit_code = cli_fail("cannot make a signalfd: %s", strerror(errno));
		return NULL;
	}
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &signal_fd};
	struct wisp_create_options options = *given;
	options.cancel = &cancel; /* packing a directory may take long, and so may expanding a compressed snapshot */
	options.progress = options.from ? &progress : NULL;
	progress_begin(&bar, false, 0);
	int r = wisp_create_sandbox(&options, &sandbox, &error);
	progress_end(&bar);
	if (r == 0 && (r = wisp_set_cancel(sandbox, NULL, &error)) == 0)
		r = cli_wait_ready(sandbox, signal_fd, &error);
	else if (r == -ECANCELED && read(signal_fd, &info, sizeof(info)) == sizeof(info))
		r = (int)info.ssi_signo;
	close(signal_fd);
	if (r == 0 && options.warm && !wisp_is_warm(sandbox))
		cli_leave_warm(given);
	if (r == 0)
		return sandbox;
	*exit_code = r > 0 ? CLI_EXIT_SIGNAL + r : fail_launch(given, &error);
	wisp_close_sandbox(sandbox);
	return NULL;
}

static int create(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_create_options create;
	int code = cli_check_from(call, &options->from, &options->machine, options->console);
	if (code != 0)
		return code;
	if (options->template && !options->from.file)
		return cli_fail("create: --template requires --from; save a sandbox first: wisp snapshot NAME FILE");
	cli_fill_machine(&options->machine, call->places, call->operands[0], &create);
	cli_fill_from(&options->from, &create);
	create.is_template = options->template;
	create.name = options->name;
	create.env = options->process.env;
	create.workdir = options->process.workdir;
	create.user = options->process.user;
	create.console = options->console;
	create.detach = true;
	create.keep = !options->remove;
	cli_fill_ports(&options->ports, &create);
	cli_fill_egress(&options->egress, &create);
	cli_fill_folders(&options->folders, &create);
	cli_fill_warm(&options->warm, &create);
	struct wisp_sandbox *sandbox = cli_launch(&create, &code);
	if (!sandbox)
		return code;
	code = cli_say_ports(sandbox, &create);
	if (!options->quiet && code == 0) {
		printf("%s\n", wisp_get_sandbox_name(sandbox));
		code = cli_flush(0);
	}
	/* A sandbox whose name nobody has learnt is not left running. */
	if (code != 0 && wisp_kill_sandbox(sandbox, NULL) == 0 && create.keep)
		wisp_remove_sandbox(create.state_root, wisp_get_sandbox_name(sandbox), NULL);
	wisp_close_sandbox(sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "name",
                .letter = 'n',
                .value = "NAME",
                CLI_TEXT(struct options, name),
                .help = "the sandbox's name; default: a generated one"},
        {.name = "console",
                CLI_FLAG(struct options, console),
                .help = "write the guest kernel's messages to console.log, from the first one on"},
        {.name = "rm",
                CLI_FLAG(struct options, remove),
                .help = "delete the sandbox's directory, with its logs, when the sandbox stops"},
        {.name = "template",
                CLI_FLAG(struct options, template),
                .help = "with --from, keep the sandbox paused for ever, for wisp fork"},
        {.name = "quiet", .letter = 'q', CLI_FLAG(struct options, quiet), .help = "do not print the name"},
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
        CLI_PROCESS_GROUP(struct options, process),
        {0},
};

const struct cli_verb cli_create = {
        .name = "create",
        .synopsis = "[IMAGE]",
        .summary = "Boot a sandbox that keeps running, and print its name",
        .details = CLI_IMAGE_DETAILS "\n\n" CLI_FROM_DETAILS
                                     " A template is never run; wisp fork makes clones of it.\n\n" CLI_WARM_DETAILS
                                     "\n\n" CLI_EGRESS_DETAILS "\n\n"
                                     "The options -e, -w and -u set the defaults of every command in the sandbox.\n\n"
                                     "  wisp create -n box -m 512\n"
                                     "  wisp exec box -- ps\n"
                                     "  wisp stop box && wisp rm box",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_FILE},
        .most = 1,
        .run = create,
};
