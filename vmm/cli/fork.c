/* SPDX-License-Identifier: Apache-2.0 */
/* wisp fork. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/cli/verbs.h"

struct options {
	const char *name;
	uint64_t count; /* 0: 1 */
	bool copy_disks, keep, prefetch;
};

/* A clone's handle has several descriptors: the usual soft limit is too low for hundreds of clones. */
static void allow_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int print_names(struct wisp_sandbox *const *clones, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("%s\n", wisp_get_sandbox_name(clones[i]));
	return cli_flush(0);
}

static void remove_clones(
        const struct cli_call *call, struct wisp_sandbox *const *clones, size_t count, const struct options *options)
{
	for (size_t i = 0; i < count; i++) {
		/* The descriptor that could cancel is closed. */
		wisp_set_cancel(clones[i], NULL, NULL);
		if (wisp_kill_sandbox(clones[i], NULL) == 0 && options->keep)
			wisp_remove_sandbox(call->places->state_root, wisp_get_sandbox_name(clones[i]), NULL);
	}
}

/* Stores `count` clones. 0, or the exit code after a message. */
static int make_clones(const struct cli_call *call, struct wisp_sandbox **clones, size_t count)
{
	const struct options *options = call->options;
	struct wisp_error error;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	int signal_fd = cli_open_signals();
	if (signal_fd < 0) {
		code = cli_fail("cannot make a signalfd: %s", strerror(errno));
	} else {
		struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &signal_fd};
		struct wisp_fork_options how = {
		        .size = sizeof(how),
		        .name = options->name,
		        .detach = true,
		        .keep = options->keep,
		        .copy_disks = options->copy_disks,
		        .prefetch = options->prefetch,
		        .cancel = &cancel,
		        .libdir = call->places->libdir,
		};
		if (wisp_fork_sandbox(sandbox, count, &how, clones, &error) < 0)
			code = cli_fail_cancelled(signal_fd, &error);
		close(signal_fd);
	}
	wisp_close_sandbox(sandbox);
	return code;
}

static int fork_sandbox(const struct cli_call *call)
{
	const struct options *options = call->options;
	size_t count = options->count > 0 ? options->count : 1;
	struct wisp_sandbox **clones = calloc(count, sizeof(struct wisp_sandbox *));
	if (!clones)
		return cli_fail("out of memory");
	allow_descriptors();
	int code = make_clones(call, clones, count);
	if (code == 0) {
		code = print_names(clones, count);
		/* Clones whose names nobody has learnt are not left running. */
		if (code != 0)
			remove_clones(call, clones, count, options);
	}
	for (size_t i = 0; i < count; i++)
		wisp_close_sandbox(clones[i]);
	free(clones);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "name",
                .letter = 'n',
                .value = "NAME",
                CLI_TEXT(struct options, name),
                .help = "the clone's name; with --count, clones are called NAME-1, NAME-2 and so on; default: "
                        "generated names"},
        {.name = "count",
                .value = "N",
                CLI_NUMBER(struct options, count, 1, WISP_CLONES_MAX),
                .help = "how many clones, 1 to 1000; default 1"},
        {.name = "copy-disks",
                CLI_FLAG(struct options, copy_disks),
                .help = "give each clone copies of the disks that the guest writes to, which vanish with it"},
        {.name = "prefetch",
                CLI_FLAG(struct options, prefetch),
                .help = "copy the memory for each clone before it runs: slower to start, then faster"},
        {.name = "keep",
                CLI_FLAG(struct options, keep),
                .help = "keep a clone's directory, with its logs, when the clone stops"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_fork = {
        .name = "fork",
        .synopsis = "NAME",
        .summary = "Clone a sandbox or template, and print the clones' names",
        .details =
                "A clone continues from where its source is, with its own host name and random numbers. It shares the "
                "source's memory until one of the two writes to it. The source is paused once, for all clones, and "
                "then continues. If one clone cannot be made, none is.\n\n"
                "A clone runs until wisp stop, and is removed then, unless you give --keep. A sandbox that writes to "
                "disks can be forked only with --copy-disks. Shared folders (-v) are the same for all.\n\n"
                "  wisp fork box -n copy\n"
                "  for c in $(wisp fork box --count 10); do wisp exec $c -- work & done",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = fork_sandbox,
};
