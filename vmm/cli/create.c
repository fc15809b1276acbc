/* SPDX-License-Identifier: Apache-2.0 */
/* wisp create, and the boot that it has in common with wisp run. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/cli.h"

void cli_fill_create_options(const struct cli_args *args, bool detach, struct wisp_create_options *options)
{
	*options = (struct wisp_create_options){
	        .size = sizeof(*options),
	        .state_root = cli_state_root(),
	        .name = args->name,
	        .cpus = args->cpus,
	        .memory_mib = args->memory_mib,
	        .image = args->operand_count > 0 ? args->operands[0] : NULL,
	        .writable = args->writable,
	        .overlay = args->overlay,
	        .disks = args->disks,
	        .disk_count = args->disk_count,
	        .hostname = args->hostname,
	        .shell = args->shell,
	        .libdir = cli_libdir(),
	        .helper = args->helper,
	        .kernel = args->kernel,
	        .initramfs = args->initramfs,
	        .cache_dir = cli_cache_dir(),
	        .boot_timeout_ms = args->boot_timeout_ms,
	        .stop_grace_ms = args->grace_ms,
	        .detach = detach,
	        .keep = detach && !args->remove,
	        .console = args->console,
	        .console_fd = args->console && !detach ? STDERR_FILENO : 0,
	        .no_wait = true,
	        .kernel_args = args->kernel_args,
	};
	/* Of run they are the execution's, with which the sandbox ends. */
	if (detach) {
		options->env = args->env;
		options->workdir = args->workdir;
		options->user = args->user;
	}
}

int cli_wait_ready(struct wisp_sandbox *sandbox, int signal_fd, struct wisp_error *error)
{
	for (;;) {
		struct signalfd_siginfo info;
		struct pollfd pfds[2] = {
		        {.fd = wisp_get_sandbox_fd(sandbox), .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
		int r = wisp_wait_ready(sandbox, 0, error);
		if (r != -EAGAIN)
			return r;
		/* The library's limit of a boot is looked at when it is called. */
		if (poll(pfds, 2, 1000) > 0 && (pfds[1].revents & POLLIN) &&
		        read(signal_fd, &info, sizeof(info)) == sizeof(info))
			return (int)info.ssi_signo;
	}
}

struct wisp_sandbox *cli_create(const struct cli_args *args, bool detach, int *exit_code)
{
	struct wisp_create_options options;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	sigset_t set;
	cli_fill_create_options(args, detach, &options);
	/* From here on a signal is taken when there is somebody to clean up after it. */
	cli_block_signals();
	sigprocmask(SIG_BLOCK, NULL, &set);
	int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (signal_fd < 0) {
		*exit_code = cli_fail("cannot make a signalfd: %s", strerror(errno));
		return NULL;
	}
	int r = wisp_create_sandbox(&options, &sandbox, &error);
	if (r == 0)
		r = cli_wait_ready(sandbox, signal_fd, &error);
	close(signal_fd);
	if (r == 0)
		return sandbox;
	*exit_code = r > 0 ? CLI_EXIT_SIGNAL + r : cli_fail_error(&error);
	wisp_close_sandbox(sandbox);
	return NULL;
}

int cli_create_verb(struct cli_args *args)
{
	int code = 0;
	struct wisp_sandbox *sandbox = cli_create(args, true, &code);
	if (!sandbox)
		return code;
	if (!args->quiet)
		printf("%s\n", wisp_get_sandbox_name(sandbox));
	wisp_close_sandbox(sandbox);
	return 0;
}
